//! How far a shard may trust that the bytes of a window are in memory: a lease, given by workers.
//!
//! ```text
//!  a worker has read and mapped all pages
//!  |-- fresh ----|-- warm --------------|-- aging ------------|-- cold ------------>
//!  0             2 s                    6 s                   8 s
//!   asked again,  sent from, nobody      sent from, while its   not sent from: its
//!   a worker does asks                   streams ask a worker   streams wait for a
//!   nothing                              again                  worker, they alone
//! ```
//! Only a worker may find out what is in memory, because finding out may mean waiting for a disk.
//! It leaves the time on the window; a shard compares that with its clock and asks nobody. A window
//! has one such time, whoever holds it: what one stream asks for keeps it warm for all, on every
//! shard. So a pause, a slow connection, a slow Scale or a gap between frames makes nothing but
//! its own stream wait, and only as long as a worker takes.
//!
//! Invariant: a shard begins no send from a window whose pages were seen longer than
//! [`COLD_AFTER_NS`] ago. DESIGN section 6.5.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::time::Mono;

/// What to do about a window's pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pages {
    /// Seen just now: nothing.
    Fresh,
    /// Send.
    Warm,
    /// Send, and ask a worker to see to them.
    Aging,
    /// Ask a worker, and send nothing before it has answered.
    Cold,
}

/// When a window's pages were last seen in memory.
#[derive(Debug, Default)]
pub struct PagesSeen(AtomicU64);

impl PagesSeen {
    /// A worker has all pages in memory and mapped at `now`.
    pub(super) fn set(&self, now: Mono) {
        // A worker that was slower than another one takes nothing back.
        self.0.fetch_max(now.0, Ordering::Relaxed);
    }

    /// How they are to be taken at `now`.
    pub(super) fn at(&self, now: Mono) -> Pages {
        let seen = self.0.load(Ordering::Relaxed);
        if seen == NEVER {
            return Pages::Cold;
        }
        // A shard's clock stands still for the length of a turn, so a worker may be ahead of it.
        match now.0.saturating_sub(seen) {
            ..FRESH_NS => Pages::Fresh,
            FRESH_NS..AGING_AFTER_NS => Pages::Warm,
            AGING_AFTER_NS..COLD_AFTER_NS => Pages::Aging,
            COLD_AFTER_NS.. => Pages::Cold,
        }
    }
}

/// No worker has seen to the pages yet; no clock shows the moment of the machine's start.
const NEVER: u64 = 0;

/// A window with many viewers is looked after once in this time, whoever asks.
const FRESH_NS: u64 = 2_000_000_000;

/// A window of two seconds is asked for when the one before it begins, and played out four seconds
/// later; with what is still fresh when it is asked for, a stream at normal speed never gets here.
const AGING_AFTER_NS: u64 = FRESH_NS + 4_000_000_000;

/// How long pages that were read, mapped and touched stay in memory whatever else is read: they are
/// the last that the kernel takes back. The two seconds since they began to age are for the worker.
pub const COLD_AFTER_NS: u64 = AGING_AFTER_NS + 2_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_age_from_the_last_time_that_a_worker_saw_them() {
        const S: u64 = 1_000_000_000;
        let seen = PagesSeen::default();
        assert_eq!(seen.at(Mono(5)), Pages::Cold);
        seen.set(Mono(100 * S));
        let at = |ns: u64| seen.at(Mono(100 * S + ns));
        assert_eq!([at(0), at(FRESH_NS - 1)], [Pages::Fresh; 2]);
        assert_eq!([at(FRESH_NS), at(AGING_AFTER_NS - 1)], [Pages::Warm; 2]);
        assert_eq!([at(AGING_AFTER_NS), at(COLD_AFTER_NS - 1)], [Pages::Aging; 2]);
        assert_eq!([at(COLD_AFTER_NS), at(u64::MAX - 100 * S)], [Pages::Cold; 2]);
        // The worker's clock was read after the shard's.
        assert_eq!(seen.at(Mono(99 * S)), Pages::Fresh);
        seen.set(Mono(90 * S));
        assert_eq!(at(0), Pages::Fresh);
    }
}
