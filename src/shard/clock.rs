//! The clocks of a shard: read once a turn, and the monotonic one where a budget of time is spent.
//!
//! All other code takes the time as a parameter. A shard reads them through its kernel.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::base::time::Mono;

/// `CLOCK_MONOTONIC`.
pub(super) fn monotonic() -> Mono {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    Mono(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// Nanoseconds of CPU that the calling thread has used.
pub(super) fn thread_cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// Nanoseconds since 1970.
pub(super) fn utc_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.map_or(0, |since| since.as_nanos())).unwrap_or(i64::MAX)
}
