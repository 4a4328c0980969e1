//! What the ring tries again after a pause: the kernel had no descriptor or no memory.
//!
//! ```text
//! operation fails --pause--> Retries --due, with the next enter--> the ring queues it again
//! ```
//! No timer of the kernel is used: it could fail for the same reason.
//!
//! Invariant: retries are due in the order in which they were added, because all pauses are as
//! long. Bound: one for each armed way of a file, one for its send and two for its ends; those of a
//! file that was closed meanwhile go when they are due.

use std::collections::VecDeque;
use std::time::Duration;

use super::files::FileSlot;
use super::key::Arm;
use crate::base::time::Mono;

/// What is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// Arming an open file.
    Arm(Arm),
    /// Cancelling the operations of a file that is closing.
    Cancel,
    /// Cancelling what is to end on an open file.
    End,
    /// A send on a connection, by its slot.
    Send(u32),
    /// Taking a file that is closing out of the kernel's table.
    Unregister,
}

/// What waits for the end of its pause.
#[derive(Debug, Default)]
pub(super) struct Retries {
    waiting: VecDeque<(Mono, FileSlot, Again)>,
}

impl Retries {
    pub(super) fn add(&mut self, now: Mono, file: FileSlot, again: Again) {
        self.waiting.push_back((now + PAUSE, file, again));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// When the first pause ends.
    pub(super) fn next_due(&self) -> Option<Mono> {
        self.waiting.front().map(|(due, ..)| *due)
    }

    /// Takes the first whose pause is over.
    pub(super) fn take_due(&mut self, now: Mono) -> Option<(FileSlot, Again)> {
        let (_, file, again) = self.waiting.pop_front_if(|(due, ..)| *due <= now)?;
        Some((file, again))
    }
}

/// Long enough to cost nothing, and shorter than the patience of a client that connects.
const PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_due_after_its_pause_in_order() {
        let mut retries = Retries::default();
        assert!(retries.is_empty() && retries.next_due().is_none());
        let file = FileSlot::default();
        retries.add(Mono(5), file, Again::Cancel);
        retries.add(Mono(7), file, Again::Arm(Arm::Wake));
        assert_eq!(retries.next_due(), Some(Mono(5) + PAUSE));
        assert_eq!(retries.take_due(Mono(4) + PAUSE), None, "not early");
        assert_eq!(retries.take_due(Mono(5) + PAUSE), Some((file, Again::Cancel)));
        assert_eq!(retries.take_due(Mono(5) + PAUSE), None);
        assert_eq!(retries.take_due(Mono(900) + PAUSE), Some((file, Again::Arm(Arm::Wake))));
        assert!(retries.is_empty());
    }
}
