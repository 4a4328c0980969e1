//! Lateness over time: one histogram per second of the run.
//!
//! ```text
//! due time --> second of the run --> histogram     full? seconds are joined in pairs
//! ```
//! A frame belongs to the second in which it was due, not to the one in which it came: a stall
//! shows where it begins, as a slope, and not as one spike at its end.
//! Invariant: what was recorded is in exactly one bucket, however often buckets were joined.
//! Bound: [`BUCKETS_MAX`] histograms of two digits, some 15 KB each and made when needed.

use crate::stats::Timing;
use crate::time::Mono;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::time::Duration;

/// Buckets of a timeline; a run of twice as many seconds has buckets of two.
pub const BUCKETS_MAX: usize = 512;
const US_MAX: u64 = 3_600_000_000;
const DIGITS: u8 = 2;
const SECOND_NS: u64 = 1_000_000_000;

/// Takes lateness, frame by frame.
pub trait Lateness {
    /// A frame that was due at `due` came `late` after that.
    fn record_late(&mut self, due: Mono, late: Duration);
}

/// Lateness of all frames and its course: where streams of one kind put theirs.
#[derive(Debug)]
pub struct LateSink<'a> {
    /// Of the whole run.
    pub timing: &'a mut Timing,
    /// By second.
    pub timeline: &'a mut Timeline,
}

impl Lateness for LateSink<'_> {
    fn record_late(&mut self, due: Mono, late: Duration) {
        self.timing.record(late);
        self.timeline.record(due, late);
    }
}

/// Histograms in a row.
#[derive(Debug)]
pub struct Timeline {
    start: Mono,
    width_ns: u64,
    buckets: Vec<Option<Histogram<u32>>>,
}

/// Lateness within one bucket, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Late {
    /// Begin of the bucket, seconds after the start of the run.
    pub at_s: f64,
    /// Frames due in it.
    pub count: u64,
    /// Median.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// Largest.
    pub max_ms: f64,
}

impl Default for Timeline {
    fn default() -> Self {
        Self { start: Mono::default(), width_ns: SECOND_NS, buckets: Vec::new() }
    }
}

impl Timeline {
    /// One that counts seconds from `start`.
    #[must_use]
    pub fn starting_at(start: Mono) -> Self {
        Self { start, ..Self::default() }
    }

    /// Adds one frame.
    pub fn record(&mut self, due: Mono, late: Duration) {
        let index = self.place_of(due);
        if index >= self.buckets.len() {
            self.buckets.resize_with(index + 1, || None);
        }
        if let Some(bucket) = self.buckets.get_mut(index) {
            let histogram = bucket.get_or_insert_with(histogram);
            histogram.saturating_record(u64::try_from(late.as_micros()).unwrap_or(US_MAX));
        }
    }

    /// The course, empty buckets left out.
    #[must_use]
    pub fn course(&self) -> Vec<Late> {
        let width = Duration::from_nanos(self.width_ns).as_secs_f64();
        let places = (0u32..).zip(&self.buckets);
        let filled = places.filter_map(|(index, bucket)| Some((index, bucket.as_ref()?)));
        filled
            .map(|(index, histogram)| Late {
                at_s: f64::from(index) * width,
                count: histogram.len(),
                p50_ms: milliseconds(histogram.value_at_quantile(0.5)),
                p99_ms: milliseconds(histogram.value_at_quantile(0.99)),
                max_ms: milliseconds(histogram.max()),
            })
            .collect()
    }

    fn place_of(&mut self, due: Mono) -> usize {
        let after_ns = u64::try_from(due.since(self.start).as_nanos()).unwrap_or(u64::MAX);
        loop {
            match usize::try_from(after_ns / self.width_ns) {
                Ok(index) if index < BUCKETS_MAX => return index,
                // Ends after 64 rounds at the latest: then a bucket holds all the time there is.
                _ => self.join_pairs(),
            }
        }
    }

    fn join_pairs(&mut self) {
        self.width_ns = self.width_ns.saturating_mul(2);
        let mut joined = Vec::with_capacity(BUCKETS_MAX);
        let mut buckets = std::mem::take(&mut self.buckets).into_iter();
        while let Some(first) = buckets.next() {
            let mut first = first;
            if let Some(second) = buckets.next().flatten() {
                // Both have the same bounds, so nothing can be out of range.
                let _ = first.get_or_insert_with(histogram).add(&second);
            }
            joined.push(first);
        }
        self.buckets = joined;
    }
}

#[expect(clippy::expect_used, reason = "the bounds are constants, valid for the crate")]
fn histogram() -> Histogram<u32> {
    Histogram::new_with_bounds(1, US_MAX, DIGITS).expect("constant bounds")
}

fn milliseconds(us: u64) -> f64 {
    Duration::from_micros(us).as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn frame_belongs_to_the_second_in_which_it_was_due() {
        let mut timeline = Timeline::starting_at(Mono::from_ns(10 * SECOND_NS));
        timeline.record(Mono::from_ns(12 * SECOND_NS - 1), Duration::from_millis(4));
        timeline.record(Mono::from_ns(12 * SECOND_NS), Duration::from_millis(8));
        timeline.record(Mono::from_ns(3), Duration::ZERO);
        let course = timeline.course();
        let counts: Vec<_> = course.iter().map(|late| (late.at_s, late.count)).collect();
        assert_eq!(counts, [(0.0, 1), (1.0, 1), (2.0, 1)]);
        assert!((course[1].max_ms - 4.0).abs() < 0.1);
    }

    #[test]
    fn long_run_joins_seconds_and_keeps_every_frame() {
        let mut timeline = Timeline::default();
        for second in 0..2_000 {
            timeline.record(Mono::from_ns(second * SECOND_NS), Duration::from_micros(second));
        }
        let course = timeline.course();
        assert!(course.len() <= BUCKETS_MAX, "{}", course.len());
        assert_eq!(course.iter().map(|late| late.count).sum::<u64>(), 2_000);
        assert!((course[1].at_s - 4.0).abs() < f64::EPSILON);
    }

    proptest! {
        #[test]
        fn any_times_are_counted_once(times in prop::collection::vec(any::<u64>(), 0..50)) {
            let mut timeline = Timeline::default();
            for &at in &times {
                timeline.record(Mono::from_ns(at), Duration::from_nanos(at));
            }
            let count: u64 = timeline.course().iter().map(|late| late.count).sum();
            prop_assert_eq!(count, times.len() as u64);
        }
    }
}
