//! Repetition of requests to owners that were not answered.

use std::time::Duration;

use crate::base::time::Mono;
use crate::live::core::limits::{ASK_AGAIN, ASK_AGAIN_MAX};

/// The time of the next repetition: the wait doubles each time, up to `ASK_AGAIN_MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestRepeat {
    due: Mono,
    wait: Duration,
}

impl RequestRepeat {
    /// The request was sent at `now` for the first time.
    #[must_use]
    pub fn new(now: Mono) -> Self {
        Self { due: now + ASK_AGAIN, wait: ASK_AGAIN }
    }

    /// Whether to repeat the request now; if so, the next repetition is further away.
    pub fn is_due(&mut self, now: Mono) -> bool {
        let is_due = self.due <= now;
        if is_due {
            self.wait = self.wait.saturating_mul(2).min(ASK_AGAIN_MAX);
            self.due = now + self.wait;
        }
        is_due
    }
}
