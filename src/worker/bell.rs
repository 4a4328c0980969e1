//! Wakes one worker from any thread: an eventfd that the worker reads through its own ring.
//!
//! The kernel keeps the count, so a ring before the read is not lost, and no reference to a
//! glommio task ever leaves its thread (a `Waker` sent abroad would outlive its executor). A
//! worker that waits here sleeps in `io_uring_enter`: an idle pool takes no CPU time.

use std::fs::File;
use std::io;

use rustix::event::{EventfdFlags, eventfd};

/// An eventfd that wakes one worker.
#[derive(Debug)]
pub(super) struct Bell {
    file: File,
}

impl Bell {
    pub(super) fn new() -> io::Result<Self> {
        // Not NONBLOCK: the ring would answer a read of an empty counter with EAGAIN at once.
        Ok(Self { file: File::from(eventfd(0, EventfdFlags::CLOEXEC)?) })
    }

    /// Wakes the worker, now or at its next wait.
    pub(super) fn ring(&self) {
        // Fails only when the counter is about to pass 2^64 - 2, and then the worker is awake.
        let _ = rustix::io::write(&self.file, &1_u64.to_ne_bytes());
    }

    /// The eventfd, for the worker to read.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    #[cfg(test)]
    pub(super) fn take_rings(&self) -> u64 {
        let mut ready = [rustix::event::PollFd::new(&self.file, rustix::event::PollFlags::IN)];
        if rustix::event::poll(&mut ready, Some(&rustix::event::Timespec::default())).unwrap() == 0
        {
            return 0;
        }
        let mut count = [0; 8];
        rustix::io::read(&self.file, &mut count).unwrap();
        u64::from_ne_bytes(count)
    }
}
