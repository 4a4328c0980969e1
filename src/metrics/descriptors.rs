//! Descriptors of this process: how many are open, and which are kept for work under way.
//!
//! ```text
//!  0 .. in use .. | .. free for strangers .. | kept: files of what plays | limit
//!                                            ^ a connection that is given this one is refused
//! ```
//! The kernel gives the lowest number that is free. So a number near the limit says that nearly all
//! are taken, and nobody has to count. Without what is kept, a crowd of connections would take the
//! descriptor by which a worker reads a title that plays.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};

/// The first number that is kept; all are free until [`keep_some_of`].
static KEPT_FROM: AtomicI32 = AtomicI32::new(i32::MAX);

/// Keeps some of `limit` descriptors for work under way; `None` is without limit.
pub fn keep_some_of(limit: Option<u64>) {
    let limit = limit.and_then(|limit| i32::try_from(limit).ok()).unwrap_or(i32::MAX);
    KEPT_FROM.store(kept_from(limit), Relaxed);
}

/// Whether a new descriptor is one of those that are kept: what it is for has to be refused.
#[must_use]
pub fn is_kept(fd: impl AsFd) -> bool {
    fd.as_fd().as_raw_fd() >= KEPT_FROM.load(Relaxed)
}

/// Whether an error says that the process, or the system, has no descriptor left.
#[must_use]
pub fn lacks_descriptor(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Descriptors that this process has open; `None` when the kernel does not tell.
#[must_use]
pub fn open_descriptors() -> Option<u64> {
    // The descriptor that lists the directory is one of those listed.
    let count = fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
    u64::try_from(count).ok()
}

fn kept_from(limit: i32) -> i32 {
    limit - KEPT_MAX.min(limit / 8)
}

/// As many files as two workers read at once.
const KEPT_MAX: i32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_descriptors_of_any_limit_are_kept_and_most_are_not() {
        for (limit, expected) in [(128, 112), (1_024, 960), (1 << 20, (1 << 20) - 64), (4, 4)] {
            assert_eq!(kept_from(limit), expected, "{limit}");
        }
        assert!(!is_kept(fs::File::open("/dev/null").unwrap()), "none before it is told");
    }
}
