//! Fixed-bucket histograms that one thread writes and any thread reads.
//!
//! ```text
//! observe(3 ms) --> bucket "<= 5 ms" + 1, sum + 3 ms      (two plain stores)
//! ```
//! Times and shares are counted in thousand-millionths (ns), packets one by one, so that sums stay
//! whole numbers.
//! Invariant: the count of a histogram is the sum of its buckets; a reader that comes between the
//! two stores sees a sum that lacks one observation, never a count that does.

use super::cells::Counter;
use super::process::as_f64;

/// Times, from 0.1 ms to 10 s: the steps are 1-2-5, with 3 ms and 8 ms added because the budgets
/// for lateness (DESIGN section 10) stand there.
#[derive(Debug)]
pub struct Lateness(Buckets<{ LATENESS_BOUNDS_NS.len() + 1 }>);

impl Lateness {
    /// One more observation.
    pub fn observe_ns(&self, ns: u64) {
        self.0.observe(&LATENESS_BOUNDS_NS, ns);
    }

    /// What was observed so far.
    #[must_use]
    pub fn read(&self) -> HistogramValue {
        self.0.read(&LATENESS_BOUNDS_NS, NANO)
    }
}

impl Default for Lateness {
    fn default() -> Self {
        Self(Buckets::new())
    }
}

/// Shares of packets lost, 0 to 1, as receiver reports state them.
#[derive(Debug)]
pub struct LossRatio(Buckets<{ LOSS_BOUNDS_NANO.len() + 1 }>);

impl LossRatio {
    /// One more report: `fraction_lost` is the 8-bit fixed point number of the report block
    /// (RFC 3550 s6.4.1: lost packets times 256, divided by expected ones).
    pub fn observe_fraction(&self, fraction_lost: u8) {
        self.0.observe(&LOSS_BOUNDS_NANO, u64::from(fraction_lost) * NANO_PER_256TH);
    }

    /// What was observed so far.
    #[must_use]
    pub fn read(&self) -> HistogramValue {
        self.0.read(&LOSS_BOUNDS_NANO, NANO)
    }
}

impl Default for LossRatio {
    fn default() -> Self {
        Self(Buckets::new())
    }
}

/// Sizes of bursts: packets of one stream that were handed over in one turn.
#[derive(Debug)]
pub struct Bursts(Buckets<{ BURST_BOUNDS.len() + 1 }>);

impl Bursts {
    /// One more burst.
    pub fn observe_packets(&self, packets: u64) {
        self.0.observe(&BURST_BOUNDS, packets);
    }

    /// What was observed so far.
    #[must_use]
    pub fn read(&self) -> HistogramValue {
        self.0.read(&BURST_BOUNDS, 1)
    }
}

impl Default for Bursts {
    fn default() -> Self {
        Self(Buckets::new())
    }
}

/// How many times as long as the bound, or as much as once, something took.
#[derive(Debug)]
pub struct Ratios(Buckets<{ RATIO_BOUNDS_NANO.len() + 1 }>);

impl Ratios {
    /// One more ratio; what is negative or no number counts as 0.
    pub fn observe(&self, ratio: f64) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "`as` saturates, which is what we want"
        )]
        let nano = (ratio * 1e9) as u64;
        self.0.observe(&RATIO_BOUNDS_NANO, nano);
    }

    /// What was observed so far.
    #[must_use]
    pub fn read(&self) -> HistogramValue {
        self.0.read(&RATIO_BOUNDS_NANO, NANO)
    }
}

impl Default for Ratios {
    fn default() -> Self {
        Self(Buckets::new())
    }
}

/// A histogram as read at one moment. Values of the same kind add up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistogramValue {
    /// Steps that make one unit of what is observed.
    pub steps_per_unit: u64,
    /// Upper bounds of all buckets but the last, in steps.
    pub bounds: &'static [u64],
    /// Observations in each bucket (not cumulative); one more than there are bounds.
    pub counts: Vec<u64>,
    /// Sum of all observations, in steps.
    pub sum: u64,
}

impl HistogramValue {
    /// Adds the observations of another histogram with the same bounds.
    pub fn merge(&mut self, other: &Self) {
        debug_assert_eq!(self.bounds, other.bounds, "histograms of different kinds");
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count = count.wrapping_add(*more);
        }
        self.sum = self.sum.wrapping_add(other.sum);
    }

    /// What was observed since `earlier`, a reading of the same histogram.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let counts = self.counts.iter().zip(&earlier.counts);
        let counts = counts.map(|(now, before)| now.wrapping_sub(*before)).collect();
        Self { counts, sum: self.sum.wrapping_sub(earlier.sum), ..self.clone() }
    }

    /// The value that `part` (0 to 1) of all observations do not exceed, in units; within a bucket
    /// observations count as evenly spread. Beyond the last bound it is that bound. `None` without
    /// observations.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Option<f64> {
        let (all, unit) = (as_f64(self.count()), as_f64(self.steps_per_unit));
        if all == 0.0 {
            return None;
        }
        let rank = part.clamp(0.0, 1.0) * all;
        let (mut below, mut low) = (0.0, 0.0);
        for (bound, count) in self.bounds.iter().zip(&self.counts) {
            let (high, count) = (as_f64(*bound) / unit, as_f64(*count));
            if count > 0.0 && below + count >= rank {
                return Some(low + (high - low) * ((rank - below) / count).clamp(0.0, 1.0));
            }
            (below, low) = (below + count, high);
        }
        Some(low)
    }

    /// Mean of all observations in units; `None` without one.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        let count = self.count();
        (count > 0).then(|| as_f64(self.sum) / as_f64(self.steps_per_unit) / as_f64(count))
    }

    /// Number of observations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.wrapping_add(*count))
    }
}

#[derive(Debug)]
struct Buckets<const N: usize> {
    counts: [Counter; N],
    sum: Counter,
}

impl<const N: usize> Buckets<N> {
    const fn new() -> Self {
        Self { counts: [const { Counter::new() }; N], sum: Counter::new() }
    }

    fn observe(&self, bounds: &[u64], value: u64) {
        // The sum first: see the invariant.
        self.sum.add(value);
        let bucket = bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get(bucket) {
            count.add(1);
        }
    }

    fn read(&self, bounds: &'static [u64], steps_per_unit: u64) -> HistogramValue {
        let counts = self.counts.iter().map(Counter::value).collect();
        HistogramValue { steps_per_unit, bounds, counts, sum: self.sum.value() }
    }
}

const LATENESS_BOUNDS_NS: [u64; 18] = [
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    3_000_000,
    5_000_000,
    8_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
    2_000_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// 0, 1 %, 2 %, 5 %, ... 100 %: the first bucket holds the reports of a clean path.
const LOSS_BOUNDS_NANO: [u64; 8] =
    [0, 10_000_000, 20_000_000, 50_000_000, 100_000_000, 200_000_000, 500_000_000, 1_000_000_000];

/// Powers of two: a send carries 16 packets at most, a turn 32 of one stream as a rule, and a
/// default receive buffer holds about 92.
const BURST_BOUNDS: [u64; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];

/// 1 is the best there is; the goals of distribution stand at 1.02, 1.1 and 1.15.
const RATIO_BOUNDS_NANO: [u64; 10] = [
    1_000_000_000,
    1_020_000_000,
    1_050_000_000,
    1_100_000_000,
    1_150_000_000,
    1_300_000_000,
    1_700_000_000,
    2_500_000_000,
    4_000_000_000,
    8_000_000_000,
];

const NANO: u64 = 1_000_000_000;
/// 1/256, exactly.
const NANO_PER_256TH: u64 = NANO / 256;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn observation_on_a_bound_counts_below_it() {
        let lateness = Lateness::default();
        lateness.observe_ns(0);
        lateness.observe_ns(100_000);
        lateness.observe_ns(100_001);
        lateness.observe_ns(11_000_000_000);
        let value = lateness.read();
        assert_eq!(value.counts[..2], [2, 1]);
        assert_eq!(value.counts.last(), Some(&1));
        assert_eq!(value.sum, 11_000_200_001);
    }

    #[test]
    fn clean_report_lands_in_the_zero_bucket_and_full_loss_below_one() {
        let loss = LossRatio::default();
        loss.observe_fraction(0);
        loss.observe_fraction(255);
        let value = loss.read();
        assert_eq!(value.counts, [1, 0, 0, 0, 0, 0, 0, 1, 0]);
        assert_eq!(value.sum, 996_093_750);
    }

    #[test]
    fn ratio_that_is_no_number_counts_as_the_lowest() {
        let ratios = Ratios::default();
        for ratio in [1.05, f64::NAN, -1.0, f64::INFINITY] {
            ratios.observe(ratio);
        }
        let value = ratios.read();
        assert_eq!((value.counts[0], value.counts[2]), (2, 1));
        assert_eq!(value.counts.last(), Some(&1));
    }

    #[test]
    fn bounds_ascend() {
        assert!(LATENESS_BOUNDS_NS.is_sorted() && LOSS_BOUNDS_NANO.is_sorted());
        assert!(BURST_BOUNDS.is_sorted() && RATIO_BOUNDS_NANO.is_sorted());
    }

    proptest! {
        #[test]
        fn count_is_the_number_of_observations(values in prop::collection::vec(any::<u64>(), 0..50)) {
            let lateness = Lateness::default();
            values.iter().for_each(|ns| lateness.observe_ns(*ns));
            let mut sum = lateness.read();
            prop_assert_eq!(sum.count(), values.len() as u64);
            sum.merge(&lateness.read());
            prop_assert_eq!(sum.count(), 2 * values.len() as u64);
        }
    }
}
