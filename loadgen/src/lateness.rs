//! How late the frames of one stream come, against the stream's own schedule.
//!
//! ```text
//! frame k: arrival(k), RTP time          schedule(k) = anchor + decode time(k)
//!   arrivals  a0 a1 a2 a3 ...  (order of sending)
//!   RTP times sorted t0 t1 t2 ...  (k-th smallest = decode time of the k-th frame)
//!   offset(k) = a(k) - t(k)      anchor = least offset of the first second
//!   lateness(k) = max(0, offset(k) - anchor)
//! ```
//! A frame is due when the schedule says so, whatever happened to the frames before it: a server
//! that stalls for a second is a second late with every frame of that second, not with one.
//! - The anchor is the least offset of the first second and later only moves down, so a steady
//!   delay of the path is not lateness. A server that starts with a burst ahead of time sets the
//!   anchor by the burst's end, and the burst's first frames count as late.
//! - With B-frames RTP times are not in sending order. Encoders give the k-th frame sent the k-th
//!   time in order, less a constant: so times are sorted within [`REORDER_FRAMES_MAX`] (the deepest
//!   reordering H.264 and H.265 allow) and paired with arrivals by rank. Lost frames and a varying
//!   frame rate shift pairs by a frame or so within that depth; without loss it is exact.
//! - A frame counts by its first packet; late or repeated packets do not count.
//! - Frames that were due and never came are not left out (coordinated omission): when we leave a
//!   stream that has gone silent, each frame it owed by then counts as late as it was at that
//!   moment. Silent means twice the largest step its RTP times ever took, so that a slow show of
//!   slides is not taken for a stall.
//! - A first frame that comes late is late against the frames behind it, if those are in time. If
//!   the whole stream is late alike, no receiver can tell that from the way: it shows in the time
//!   from PLAY to the first packet.
//!
//! Bound: at most [`LEARNING_FRAMES_MAX`] offsets are kept, for a second; then 17 frames;
//! [`OVERDUE_FRAMES_MAX`] frames are counted as overdue.

use crate::time::Mono;
use crate::timeline::Lateness;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

/// Frames between sending order and RTP time order.
pub const REORDER_FRAMES_MAX: usize = 16;
/// Frames after which the anchor is fixed even within the first second.
pub const LEARNING_FRAMES_MAX: usize = 2_048;
/// How long the anchor is looked for.
const LEARNING_NS: i64 = NS_PER_S;
/// Frames that can be owed at the end: an hour of the fastest audio there is.
pub const OVERDUE_FRAMES_MAX: u32 = 1_440_000;
const NS_PER_S: i64 = 1_000_000_000;

/// Lateness of one stream.
#[derive(Debug)]
pub struct LatenessMeter {
    clock_rate_hz: u32,
    reorder_max: usize,
    /// Timestamp of the current frame as sent, and the same without wraps.
    current: Option<(u32, i64)>,
    arrivals: VecDeque<Mono>,
    times: BinaryHeap<Reverse<i64>>,
    anchor: Anchor,
    schedule: Schedule,
}

/// What the RTP times seen so far say about those to come.
#[derive(Debug, Default)]
struct Schedule {
    first: i64,
    last: i64,
    steps: u32,
    step_max: i64,
}

#[derive(Debug)]
enum Anchor {
    Learning { until_ns: Option<i64>, offsets_ns: Vec<(i64, i64)> },
    Fixed { least_ns: i64 },
}

impl LatenessMeter {
    /// For a stream of `clock_rate_hz` whose frames come at most `reorder_max` places from their
    /// order in time (0 for audio).
    #[must_use]
    pub fn new(clock_rate_hz: u32, reorder_max: usize) -> Self {
        Self {
            clock_rate_hz,
            reorder_max,
            current: None,
            arrivals: VecDeque::new(),
            times: BinaryHeap::new(),
            anchor: Anchor::Learning { until_ns: None, offsets_ns: Vec::new() },
            schedule: Schedule::default(),
        }
    }

    /// The newest packet of the stream has come; call it in sequence order only.
    pub fn handle_newest(&mut self, timestamp: u32, arrival: Mono, out: &mut impl Lateness) {
        let time = match self.current {
            Some((last, _)) if last == timestamp => return,
            Some((last, extended)) => {
                extended.saturating_add(i64::from(timestamp.wrapping_sub(last).cast_signed()))
            }
            None => 0,
        };
        self.current = Some((timestamp, time));
        self.arrivals.push_back(arrival);
        self.times.push(Reverse(time));
        if self.times.len() > self.reorder_max {
            self.settle(out);
        }
    }

    /// The stream is over: what is still held is counted. Frames that would have come between those
    /// make their ranks too low, so they set no anchor if there are others that can.
    pub fn finish(&mut self, out: &mut impl Lateness) {
        if matches!(&self.anchor, Anchor::Learning { offsets_ns, .. } if offsets_ns.is_empty()) {
            self.settle(out);
        }
        self.fix(out);
        let Anchor::Fixed { least_ns } = self.anchor else { return };
        while let Some((arrival_ns, offset_ns)) = self.next_offset() {
            record(out, arrival_ns, offset_ns.saturating_sub(least_ns));
        }
    }

    /// We leave a stream that should still be going: frames due by `now` that have not come count
    /// as late as they are now. How many those are.
    pub fn handle_left(&mut self, now: Mono, out: &mut impl Lateness) -> u32 {
        self.finish(out);
        let (Anchor::Fixed { least_ns }, schedule) = (&self.anchor, &self.schedule) else {
            return 0;
        };
        let now_ns = i64::try_from(now.as_ns()).unwrap_or(i64::MAX);
        let in_ns = |ticks| ticks_to_ns(ticks, self.clock_rate_hz);
        let silent_ns = now_ns.saturating_sub(least_ns.saturating_add(in_ns(schedule.last)));
        let covered_ns = in_ns(schedule.last.saturating_sub(schedule.first));
        let Some(step_ns) = covered_ns.checked_div(i64::from(schedule.steps)) else { return 0 };
        if step_ns <= 0 || silent_ns <= in_ns(schedule.step_max).saturating_mul(2) {
            return 0;
        }
        let mut owed = 0;
        let mut late_ns = silent_ns - step_ns;
        while late_ns >= 0 && owed < OVERDUE_FRAMES_MAX {
            record(out, now_ns, late_ns);
            late_ns -= step_ns;
            owed += 1;
        }
        owed
    }

    /// Pairs the oldest arrival with the least time: arrival and offset.
    fn next_offset(&mut self) -> Option<(i64, i64)> {
        let (arrival, Reverse(time)) = self.arrivals.pop_front().zip(self.times.pop())?;
        self.schedule.handle_time(time);
        let arrival_ns = i64::try_from(arrival.as_ns()).unwrap_or(i64::MAX);
        let time_ns = ticks_to_ns(time, self.clock_rate_hz);
        Some((arrival_ns, arrival_ns.saturating_sub(time_ns)))
    }

    fn settle(&mut self, out: &mut impl Lateness) {
        let Some((arrival_ns, offset_ns)) = self.next_offset() else { return };
        match &mut self.anchor {
            Anchor::Fixed { least_ns } => {
                *least_ns = offset_ns.min(*least_ns);
                record(out, arrival_ns, offset_ns.saturating_sub(*least_ns));
            }
            Anchor::Learning { until_ns, offsets_ns } => {
                let until_ns = *until_ns.get_or_insert(arrival_ns.saturating_add(LEARNING_NS));
                offsets_ns.push((arrival_ns, offset_ns));
                if arrival_ns >= until_ns || offsets_ns.len() >= LEARNING_FRAMES_MAX {
                    self.fix(out);
                }
            }
        }
    }

    fn fix(&mut self, out: &mut impl Lateness) {
        let Anchor::Learning { offsets_ns, .. } = &mut self.anchor else { return };
        let Some(least_ns) = offsets_ns.iter().map(|&(_, offset_ns)| offset_ns).min() else {
            return;
        };
        for &(arrival_ns, offset_ns) in offsets_ns.iter() {
            record(out, arrival_ns, offset_ns.saturating_sub(least_ns));
        }
        self.anchor = Anchor::Fixed { least_ns };
    }
}

impl Schedule {
    fn handle_time(&mut self, time: i64) {
        if self.steps == 0 && self.step_max == 0 {
            // Times count from the first frame on; a frame shown before it comes behind it.
            self.first = self.first.min(time);
        }
        let step = time.saturating_sub(self.last);
        if step > 0 {
            self.step_max = self.step_max.max(step);
            self.last = time;
            self.steps = self.steps.saturating_add(1);
        }
    }
}

/// What arrived at `arrival_ns` was due `late_ns` before.
fn record(out: &mut impl Lateness, arrival_ns: i64, late_ns: i64) {
    let late_ns = u64::try_from(late_ns).unwrap_or(0);
    let arrival_ns = u64::try_from(arrival_ns).unwrap_or(0);
    let due = Mono::from_ns(arrival_ns.saturating_sub(late_ns));
    out.record_late(due, Duration::from_nanos(late_ns));
}

/// Split by whole seconds: days of 90 kHz ticks times a billion do not fit 64 bits.
fn ticks_to_ns(ticks: i64, clock_rate_hz: u32) -> i64 {
    let rate = i64::from(clock_rate_hz.max(1));
    let seconds = ticks.div_euclid(rate).saturating_mul(NS_PER_S);
    seconds.saturating_add(ticks.rem_euclid(rate) * NS_PER_S / rate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Timing;
    use proptest::prelude::*;

    impl Lateness for Timing {
        fn record_late(&mut self, _: Mono, late: Duration) {
            self.record(late);
        }
    }

    const TICKS: u32 = 3_600;
    const FRAME_NS: u64 = 40_000_000;

    /// Largest and median lateness in ms of frames given as (time in frames, arrival in ns).
    fn measured(reorder_max: usize, first: u32, frames: &[(u32, u64)]) -> (f64, f64, u64) {
        let mut out = Timing::default();
        let mut meter = LatenessMeter::new(90_000, reorder_max);
        for &(frame, arrival_ns) in frames {
            let timestamp = first.wrapping_add(frame.wrapping_mul(TICKS));
            meter.handle_newest(timestamp, Mono::from_ns(arrival_ns), &mut out);
            // Further packets of the same frame do not count.
            meter.handle_newest(timestamp, Mono::from_ns(arrival_ns + 1_000_000), &mut out);
        }
        meter.finish(&mut out);
        let summary = out.summary();
        (summary.max_ms, summary.p50_ms, summary.count)
    }

    #[test]
    fn steady_stream_across_the_timestamp_wrap_is_never_late() {
        let frames: Vec<_> = (0..200).map(|n| (n, u64::from(n) * FRAME_NS)).collect();
        let (max, _, count) = measured(0, u32::MAX - 5 * TICKS, &frames);
        assert_eq!((max, count), (0.0, 200));
    }

    #[test]
    fn stall_of_a_second_makes_every_frame_of_it_late() {
        let stall = |n: u32| if (50..75).contains(&n) { 75 } else { u64::from(n) };
        let frames: Vec<_> = (0..100).map(|n| (n, stall(n) * FRAME_NS)).collect();
        let mut out = Timing::default();
        let mut meter = LatenessMeter::new(90_000, 0);
        for (n, arrival) in frames {
            meter.handle_newest(n * TICKS, Mono::from_ns(arrival), &mut out);
        }
        meter.finish(&mut out);
        let late = out.count_above(Duration::from_millis(39));
        assert_eq!(late, 25, "25 frames were due while the server slept");
    }

    #[test]
    fn b_frames_sent_at_decode_time_are_not_late() {
        // I0 P3 B1 B2 P6 B4 B5 ... then a closed group again: I P B B.
        let mut order = Vec::new();
        for group in 0..10u32 {
            let start = group * 10;
            order.push(start);
            for anchor in [3, 6, 9] {
                order.extend([start + anchor, start + anchor - 2, start + anchor - 1]);
            }
        }
        let frames: Vec<_> = order.into_iter().zip((0..).map(|k| k * FRAME_NS)).collect();
        let (max, _, count) = measured(REORDER_FRAMES_MAX, 77, &frames);
        assert_eq!((max, count), (0.0, 100));
    }

    // A pause between a P frame and the B frames shown before it made the whole short stretch late:
    // the P frame's rank was two too low, and the anchor with it.
    #[test]
    fn stretch_that_ends_within_a_group_is_not_late() {
        let groups = (0..20u32).flat_map(|n| [3 * n + 3, 3 * n + 1, 3 * n + 2]);
        let order: Vec<u32> = [0].into_iter().chain(groups).collect();
        for count in [2, 8, 14, 20, 23] {
            let arrivals = (0..).map(|k| k * FRAME_NS);
            let frames: Vec<_> = order.iter().copied().zip(arrivals).take(count).collect();
            let (max, _, counted) = measured(REORDER_FRAMES_MAX, 77, &frames);
            assert_eq!((max, counted), (0.0, count as u64));
        }
    }

    #[test]
    fn late_first_frame_counts_although_nothing_came_before() {
        let mut frames: Vec<_> = (0..60).map(|n| (n, (5 + u64::from(n)) * FRAME_NS)).collect();
        frames[0].1 += FRAME_NS / 2;
        let (max, median, _) = measured(0, 0, &frames);
        assert!((max - 20.0).abs() < 0.1, "{max}");
        assert!(median < 0.001, "{median}");
    }

    #[test]
    fn earlier_frame_moves_the_anchor_down_for_those_after_it() {
        let mut frames: Vec<_> = (0..100).map(|n| (n, (1 + u64::from(n)) * FRAME_NS)).collect();
        frames[50].1 -= FRAME_NS / 4;
        let mut out = Timing::default();
        let mut meter = LatenessMeter::new(90_000, 0);
        for (n, arrival) in frames {
            meter.handle_newest(n * TICKS, Mono::from_ns(arrival), &mut out);
        }
        assert_eq!(out.count_above(Duration::from_millis(9)), 49);
    }

    /// 100 frames in time, then silence: frames owed and the latest of them when we leave.
    fn owed_after(silence_ns: u64) -> (u32, f64) {
        let mut out = Timing::default();
        let mut meter = LatenessMeter::new(90_000, REORDER_FRAMES_MAX);
        for n in 0..100 {
            let arrival = Mono::from_ns(1 + u64::from(n) * FRAME_NS);
            meter.handle_newest(n * TICKS, arrival, &mut out);
        }
        let owed = meter.handle_left(Mono::from_ns(1 + 99 * FRAME_NS + silence_ns), &mut out);
        assert_eq!(out.summary().count, 100 + u64::from(owed));
        (owed, out.summary().max_ms)
    }

    // A server that hangs till the end of the run sends nothing that could be late: without this
    // a run of ten seconds with nine of silence reported one second of perfect play.
    #[test]
    fn frames_owed_when_we_leave_a_silent_stream_are_late() {
        let (owed, max_ms) = owed_after(9_000_000_000);
        assert_eq!(owed, 225);
        assert!((max_ms - 8_960.0).abs() < 10.0, "{max_ms}");
    }

    #[test]
    fn stream_that_is_merely_between_frames_owes_nothing() {
        assert_eq!(owed_after(FRAME_NS), (0, 0.0));
        assert_eq!(
            LatenessMeter::new(90_000, 0).handle_left(Mono::from_ns(9), &mut Timing::default()),
            0
        );
    }

    #[test]
    fn days_of_ticks_become_nanoseconds_without_overflow() {
        assert_eq!(ticks_to_ns(90_000 * 86_400 * 365, 90_000), NS_PER_S * 86_400 * 365);
        assert_eq!(ticks_to_ns(-45_000, 90_000), -NS_PER_S / 2);
    }

    proptest! {
        #[test]
        fn any_stream_counts_each_frame_once(
            frames in prop::collection::vec((any::<u32>(), 0u64..u64::MAX), 1..200),
            reorder_max in 0usize..20,
            rate in 1u32..,
        ) {
            let mut out = Timing::default();
            let mut meter = LatenessMeter::new(rate, reorder_max);
            let mut expected = 0;
            let mut last = None;
            for (timestamp, arrival) in frames {
                expected += u64::from(last != Some(timestamp));
                last = Some(timestamp);
                meter.handle_newest(timestamp, Mono::from_ns(arrival), &mut out);
            }
            meter.finish(&mut out);
            prop_assert_eq!(out.summary().count, expected);
        }
    }
}
