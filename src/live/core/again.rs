//! When something is asked again that was not answered.

use std::time::Duration;

use crate::base::time::Mono;
use crate::live::core::limits::{ASK_AGAIN, ASK_AGAIN_MAX};

/// Waits twice as long after each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Again {
    due: Mono,
    wait: Duration,
}

impl Again {
    /// Asked now for the first time.
    #[must_use]
    pub fn new(now: Mono) -> Self {
        Self { due: now + ASK_AGAIN, wait: ASK_AGAIN }
    }

    /// Whether it is to be asked again now; then the next time is further away.
    pub fn is_due(&mut self, now: Mono) -> bool {
        let is_due = self.due <= now;
        if is_due {
            self.wait = self.wait.saturating_mul(2).min(ASK_AGAIN_MAX);
            self.due = now + self.wait;
        }
        is_due
    }
}
