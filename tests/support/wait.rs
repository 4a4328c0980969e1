//! Waiting for a condition, never for a time: every wait has a deadline that only a failure meets.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long anything may take before the test calls it hung. Generous: the machine may be small
/// and busy, and nothing waits this long unless it is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A moment after which a wait has failed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    pub(crate) fn after(patience: Duration) -> Self {
        Self(Instant::now() + patience)
    }

    pub(crate) fn has_passed(self) -> bool {
        Instant::now() >= self.0
    }

    pub(crate) fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// Asks `condition` again and again until it holds.
///
/// # Panics
/// When it still does not hold after [`PATIENCE`].
pub(crate) fn until(what: &str, condition: impl FnMut() -> bool) {
    until_within(PATIENCE, what, condition);
}

/// As [`until`], with another patience.
pub(crate) fn until_within(patience: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Deadline::after(patience);
    while !condition() {
        assert!(!deadline.has_passed(), "waited {patience:?} in vain: {what}");
        // Between two questions: lets the server have the processor.
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Waits until one of `fds` can be read; the answer has one flag per descriptor. All `false` at the
/// deadline.
pub(crate) fn readable(fds: &[BorrowedFd<'_>], deadline: Deadline) -> Vec<bool> {
    let flags = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
    let mut set: Vec<_> = fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, flags)).collect();
    loop {
        let left = Timespec::try_from(deadline.left()).unwrap();
        match poll(&mut set, Some(&left)) {
            Err(rustix::io::Errno::INTR) => {}
            result => {
                result.unwrap();
                return set.iter().map(|fd| !fd.revents().is_empty()).collect();
            }
        }
    }
}
