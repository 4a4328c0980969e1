//! A request to the workers that is tried again: refused by their queue, or failed by a disk.
//!
//! ```text
//!  free --begin--> asked --done--> free
//!    ^               |--refused, failed--> waits `RETRY` --> free
//!    |               `--failed `TRIES_MAX` times in a row: given up
//! ```
//! Invariant: one request at a time. Refusals are no failures: a full queue has nothing to do with
//! the file.

use std::time::Duration;

use crate::base::time::Mono;

/// A request: see the module.
#[derive(Debug, Default)]
pub(crate) struct Asking {
    request: Option<u32>,
    again_at: Option<Mono>,
    failures: u32,
}

impl Asking {
    /// Whether it may be asked now.
    pub(crate) fn is_free(&self, now: Mono) -> bool {
        self.request.is_none() && self.again_at.is_none_or(|at| at <= now)
    }

    /// Whether this is the request.
    pub(crate) fn has(&self, request: u32) -> bool {
        self.request == Some(request)
    }

    /// When it is to be tried again.
    pub(crate) fn again_at(&self) -> Option<Mono> {
        self.again_at
    }

    /// Takes the next number of `requests`, the newest that was used.
    pub(crate) fn begin(&mut self, requests: &mut u32) -> u32 {
        *requests = requests.wrapping_add(1);
        (self.request, self.again_at) = (Some(*requests), None);
        *requests
    }

    /// It was answered.
    pub(crate) fn handle_done(&mut self) {
        *self = Self::default();
    }

    /// The queue is full: again soon.
    pub(crate) fn handle_refused(&mut self, now: Mono) {
        (self.request, self.again_at) = (None, Some(now + RETRY));
    }

    /// It failed: again soon. False when it has failed often enough.
    pub(crate) fn handle_failed(&mut self, now: Mono) -> bool {
        self.failures += 1;
        self.handle_refused(now);
        self.failures < TRIES_MAX
    }
}

/// From a refusal or a failure to the next try.
const RETRY: Duration = Duration::from_millis(200);
/// Failures in a row.
const TRIES_MAX: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_is_tried_again_after_a_while_and_given_up_after_failures_in_a_row() {
        let (mut asking, mut requests) = (Asking::default(), 6);
        let mut now = Mono(0);
        for _ in 0..10 {
            let request = asking.begin(&mut requests);
            assert!(asking.has(request) && !asking.is_free(now));
            asking.handle_refused(now);
            assert!(!asking.has(request) && !asking.is_free(now));
            now = asking.again_at().unwrap();
            assert!(asking.is_free(now));
        }
        assert_eq!((requests, now), (16, Mono(0) + 10 * RETRY));
        let tries =
            |asking: &mut Asking| (0..4).map(|_| asking.handle_failed(now)).collect::<Vec<_>>();
        assert_eq!(tries(&mut asking), [true, true, true, false]);
        asking.handle_done();
        assert!(asking.is_free(Mono(0)) && asking.again_at().is_none());
        assert_eq!(tries(&mut asking), [true, true, true, false]);
    }
}
