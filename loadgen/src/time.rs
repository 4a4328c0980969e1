//! Monotonic time as a plain number, and the one clock that reads it.
//!
//! ```text
//! Clock (edge) --now()--> Mono --argument--> client, streams, sessions
//! ```
//! Invariant: only [`Clock`] asks the system for the time; everything else is told.
//! Bound: 64 bits of nanoseconds last 584 years.

use rustix::time::{ClockId, Timespec, clock_gettime};
use std::time::Duration;

/// A moment of the monotonic clock, in nanoseconds since an arbitrary start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Mono(u64);

impl Mono {
    /// The moment `ns` nanoseconds after the start of the clock.
    #[must_use]
    pub const fn from_ns(ns: u64) -> Self {
        Self(ns)
    }

    /// Nanoseconds since the start of the clock.
    #[must_use]
    pub const fn as_ns(self) -> u64 {
        self.0
    }

    /// Time passed since `earlier`; zero when `earlier` lies ahead.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The moment `wait` earlier; the start of the clock when that does not fit.
    #[must_use]
    pub fn before(self, wait: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// The moment `wait` later; the end of time when that does not fit.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Reads the system's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock;

impl Clock {
    /// Now, on the monotonic clock.
    #[must_use]
    pub fn now(self) -> Mono {
        Mono(nanoseconds(clock_gettime(ClockId::Monotonic)))
    }

    /// What must be subtracted from a wall-clock stamp of the kernel to make it monotonic.
    ///
    /// Sampled anew for every batch of datagrams, so a stepped wall clock spoils one batch only.
    #[must_use]
    pub fn wall_minus_mono_ns(self) -> u64 {
        let wall = nanoseconds(clock_gettime(ClockId::Realtime));
        wall.saturating_sub(self.now().0)
    }

    /// CPU time this process has used, all threads, user and system.
    #[must_use]
    pub fn process_cpu(self) -> Duration {
        Duration::from_nanos(nanoseconds(clock_gettime(ClockId::ProcessCPUTime)))
    }
}

fn nanoseconds(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let rest = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_a_later_moment_is_zero() {
        assert_eq!(Mono::from_ns(5).since(Mono::from_ns(9)), Duration::ZERO);
    }

    #[test]
    fn after_the_end_of_time_is_the_end_of_time() {
        assert_eq!(Mono::from_ns(1).after(Duration::MAX), Mono::from_ns(u64::MAX));
    }
}
