//! RTP time of a session's streams when another feed takes over.
//!
//! ```text
//!  wall clock   ---- line of a stream ---->   RTP time
//!  feed a   .. 10.000 s | next                it is never moved
//!  feed b               | 10.020 s ..         begins when no stream would go back
//! ```
//! RTP time of a stream follows the wall clock by one line for the life of the session, whatever
//! feeds it: sender reports stay true, and a player has no more buffered after a change than before
//! it. A feed that begins in the past, such as a group of pictures in a ring, is played from the
//! present on, so it stays behind its source. What was sent last may be ahead of the clock by a
//! frame: the next feed waits for as long, and all its streams with it.
//!
//! Invariants: RTP time of a stream does not go back; two streams keep their distance.

use crate::base::ids::RtpTs;
use crate::base::time::rescale;
use crate::live::core::clock::{ClockPoint, ticks_between};

/// RTP time of a stream at a change of its feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WireTime {
    /// Least RTP time of the next packet.
    pub next: RtpTs,
    /// A point of the line from the server's wall clock to RTP time.
    pub line: ClockPoint,
}

/// Nanoseconds that a feed waits before it begins. `firsts` are its first packets, those that are
/// known: RTP time of the stream, wall-clock time at which the packet would be shown without a
/// wait, and clock rate.
#[must_use]
pub fn wait_ns(firsts: impl Iterator<Item = (WireTime, i64, u32)>) -> i64 {
    let lacking = firsts.map(|(time, utc_ns, clock_rate_hz)| {
        let ticks = ticks_between(time.line.ts_at(utc_ns, clock_rate_hz), time.next);
        // Up to the next nanosecond, so that the wait is not a tick too short.
        rescale(ticks.into(), clock_rate_hz, NS_PER_S).saturating_add(1)
    });
    lacking.max().unwrap_or(0).max(0)
}

const NS_PER_S: u32 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn feed_waits_for_the_stream_that_is_furthest_ahead() {
        let line = ClockPoint { utc_ns: 0, ts: RtpTs(0) };
        let video = WireTime { next: RtpTs(903_600), line };
        let sound = WireTime { next: RtpTs(480_000), line };
        let firsts = [(video, 10 * SECOND, 90_000), (sound, 10 * SECOND + 5, 48_000)];
        assert_eq!(wait_ns(firsts.into_iter()), 40_000_001);
        assert_eq!(wait_ns(std::iter::empty()), 0);
        let late = [(video, 20 * SECOND, 90_000)];
        assert_eq!(wait_ns(late.into_iter()), 0, "nothing is ahead of the clock");
    }

    proptest! {
        #[test]
        fn no_stream_goes_back_and_no_feed_waits_longer_than_needed(
            streams in prop::collection::vec(
                (-2 * SECOND..2 * SECOND, 0..SECOND, 0_usize..4), 1..4),
        ) {
            let now = 1_000 * SECOND;
            let rates = [90_000, 48_000, 44_100, 8_000];
            let firsts: Vec<_> = streams.iter().map(|(next_ns, first_ns, rate)| {
                let hz = rates[*rate];
                let line = ClockPoint { utc_ns: now, ts: RtpTs(u32::MAX - 5) };
                (WireTime { next: line.ts_at(now + next_ns, hz), line }, now + first_ns, hz)
            }).collect();
            let wait = wait_ns(firsts.iter().copied());
            let over = firsts.iter().map(|(time, utc_ns, hz)| {
                ticks_between(time.next, time.line.ts_at(utc_ns + wait, *hz))
            });
            let least = over.min().unwrap();
            prop_assert!(least >= 0, "{least}");
            prop_assert!(wait == 0 || least <= 1, "{least}");
        }
    }
}
