//! The right to go on: there is one for two processes, and who takes it first has it.
//!
//! ```text
//!  new   everything is here ------take--> it has it: begin        it has not: this process ends
//!  old   late, refused, gone -----take--> it has it: resume       it has not: leave
//! ```
//! It is an eventfd that counts one, and both processes have it. To read it is to take it, and the
//! kernel lets one of two readers have it. So at whatever moment either of them dies, is stopped or
//! is slow: who finds the right gone knows that the other one has it, without a word.
//! Invariant: it is never given back, so at most one of two processes sends what is handed over,
//! once one was frozen.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};

/// The right to go on, on either side.
#[derive(Debug)]
pub(super) struct Right(OwnedFd);

impl Right {
    /// Makes it, for a process that may hand over.
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self(eventfd(1, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// As it came from the other process.
    pub(super) fn of(file: OwnedFd) -> Self {
        Self(file)
    }

    /// Takes it. False: the other process has it.
    pub(super) fn take(&self) -> bool {
        // It does not wait, so a signal cannot interrupt it; what cannot be read is nobody's.
        rustix::io::read(&self.0, &mut [0; 8]).is_ok()
    }
}

impl AsFd for Right {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
