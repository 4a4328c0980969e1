//! Times of a live path: RTP times of all tracks on one line, and decode times of pictures that are
//! shown in another order.
//!
//! ```text
//! RTP time of a track --unwrapped, placed by the path's clock--> ticks from the line's beginning
//! presentation  0 3 1 2 6 4 5     decode: the (depth + 1)-th largest so far
//! decode       -1 0 1 2 3 4 5     depth 1
//! ```
//! Invariant: decode times grow by one tick at least.

use crate::base::ids::RtpTs;
use crate::base::time::rescale;
use crate::live::core::clock::{ClockPoint, ticks_between};

/// The line of one track.
#[derive(Debug, Clone)]
pub(super) struct TrackTime {
    clock_rate_hz: u32,
    last: RtpTs,
    at: i64,
}

impl TrackTime {
    /// `ts` lies at `at` ticks.
    pub(super) fn new(clock_rate_hz: u32, ts: RtpTs, at: i64) -> Self {
        Self { clock_rate_hz, last: ts, at }
    }

    pub(super) fn clock_rate_hz(&self) -> u32 {
        self.clock_rate_hz
    }

    /// Ticks of a time, the nearer way round from the one before.
    pub(super) fn ticks(&mut self, ts: RtpTs) -> i64 {
        (self.at, self.last) = (self.ticks_at(ts), ts);
        self.at
    }

    /// Ticks that a time would have as the next one.
    pub(super) fn ticks_at(&self, ts: RtpTs) -> i64 {
        self.at.saturating_add(i64::from(ticks_between(self.last, ts)))
    }

    /// Ticks at which a time of the wall clock lies.
    pub(super) fn at_utc(clock_rate_hz: u32, utc_ns: i64, origin_ns: i64) -> i64 {
        rescale(utc_ns.saturating_sub(origin_ns), NS, clock_rate_hz)
    }

    /// How far a clock that is known better now is from this line, in nanoseconds.
    pub(super) fn drift_ns(&self, point: ClockPoint, origin_ns: i64) -> i64 {
        let utc = point.utc_ns_of(self.last, self.clock_rate_hz);
        utc.saturating_sub(origin_ns).saturating_sub(rescale(self.at, self.clock_rate_hz, NS))
    }
}

/// Decode times of one track.
#[derive(Debug)]
pub(super) struct DecodeOrder {
    depth: usize,
    /// The largest presentation times so far, `depth + 1` of them, ascending.
    newest: Vec<i64>,
    last: Option<i64>,
    step: i64,
}

impl DecodeOrder {
    /// `depth`: pictures that may be decoded before one that is shown earlier. `step`: ticks of a
    /// picture, to begin with.
    pub(super) fn new(depth: u8, step: i64) -> Self {
        let depth = usize::from(depth).min(DEPTH_MAX);
        Self { depth, newest: Vec::new(), last: None, step: step.max(1) }
    }

    /// The decode time of the picture that is decoded next.
    pub(super) fn next(&mut self, pts: i64) -> i64 {
        let place = self.newest.partition_point(|known| *known <= pts);
        self.newest.insert(place, pts);
        if self.newest.len() > self.depth + 1 {
            self.newest.remove(0);
        }
        let missing = i64::try_from(self.depth + 1 - self.newest.len()).unwrap_or(0);
        let oldest = self.newest.first().copied().unwrap_or(pts);
        let mut dts = oldest - missing * self.step;
        if let Some(last) = self.last {
            // Pictures were reordered more than the stream says.
            if pts < last && self.depth < DEPTH_MAX {
                self.depth += 1;
            }
            dts = dts.max(last + 1);
        }
        self.last = Some(dts);
        dts
    }
}

/// H.264 and H.265 allow 16.
const DEPTH_MAX: usize = 16;
const NS: u32 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reordered_pictures_are_decoded_before_they_are_shown() {
        let mut order = DecodeOrder::new(1, 1);
        let dts: Vec<i64> = [0, 3, 1, 2, 6, 4, 5, 9].map(|pts| order.next(pts)).to_vec();
        assert_eq!(dts, [-1, 0, 1, 2, 3, 4, 5, 6]);
        let mut plain = DecodeOrder::new(0, 1);
        assert_eq!([0, 1, 2].map(|pts| plain.next(pts)), [0, 1, 2]);
    }

    #[test]
    fn rtp_time_goes_on_behind_its_end() {
        let mut time = TrackTime::new(90_000, RtpTs(u32::MAX - 10), 500);
        assert_eq!(time.ticks(RtpTs(u32::MAX)), 510);
        assert_eq!(time.ticks(RtpTs(9)), 520);
        assert_eq!(time.ticks(RtpTs(4)), 515, "a picture that is shown earlier");
    }

    proptest! {
        #[test]
        fn decode_times_grow_whatever_comes(
            depth in 0_u8..4, times in proptest::collection::vec(-1_000_i64..1_000, 1..100),
        ) {
            let mut order = DecodeOrder::new(depth, 40);
            let dts: Vec<i64> = times.iter().map(|pts| order.next(*pts)).collect();
            prop_assert!(dts.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }
}
