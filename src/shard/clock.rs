//! The clock of a shard: `CLOCK_MONOTONIC`, read once a turn and where a budget of time is spent.
//!
//! All other code takes the time as a parameter.

use crate::base::time::Mono;

/// The time now.
pub(super) fn clock() -> Mono {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    Mono(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}
