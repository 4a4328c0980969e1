//! Two kinds of time, never mixed.
//!
//! - [`Mono`]: the machine's monotonic clock, always handed in as `now`.
//! - [`Npt`]: a position in a presentation (RFC 2326 s3.6), zero at its start.
//!
//! Bound: both are 64-bit nanoseconds, 292 years; conversions saturate.

use std::ops::{Add, Sub};
use std::time::Duration;

/// Nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mono(pub u64);

impl Mono {
    /// The time from `earlier` to `self`, zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Moved by a signed number of nanoseconds, saturating at both ends.
    #[must_use]
    pub fn offset_ns(self, delta_ns: i64) -> Self {
        Self(self.0.saturating_add_signed(delta_ns))
    }
}

impl Add<Duration> for Mono {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Normal play time in nanoseconds: the position inside a presentation. Negative only for samples
/// that must be decoded, but not shown, before the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Npt(pub i64);

impl Npt {
    /// The start of the presentation.
    pub const ZERO: Self = Self(0);

    /// `ticks` of a clock with `timescale` ticks a second, rounded towards negative infinity.
    #[must_use]
    pub fn from_ticks(ticks: i64, timescale: u32) -> Self {
        let ns = (i128::from(ticks) * NS_PER_S).div_euclid(i128::from(timescale.max(1)));
        Self(saturate(ns))
    }

    /// Ticks of a clock with `timescale` ticks a second, rounded to nearest: `from_ticks` and back
    /// gives the same tick for every clock up to 500 MHz.
    #[must_use]
    pub fn to_ticks(self, timescale: u32) -> i64 {
        rescale(self.0, NS_HZ, timescale)
    }

    /// From seconds, as a person writes them.
    #[must_use]
    pub fn from_secs_f64(secs: f64) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "`as` saturates, which is what we want"
        )]
        Self((secs * 1e9) as i64)
    }

    /// As seconds.
    #[must_use]
    pub fn as_secs_f64(self) -> f64 {
        #[expect(
            clippy::cast_precision_loss,
            reason = "for display and rates: 2^53 ns is 104 days"
        )]
        let ns = self.0 as f64;
        ns / 1e9
    }
}

impl Sub for Npt {
    type Output = i64;
    /// Nanoseconds from `rhs` to `self`.
    fn sub(self, rhs: Self) -> i64 {
        self.0.saturating_sub(rhs.0)
    }
}

/// Converts ticks between two clocks, rounded to nearest, exact in 128 bits.
#[must_use]
pub fn rescale(ticks: i64, from_hz: u32, to_hz: u32) -> i64 {
    if from_hz == to_hz {
        return ticks;
    }
    let from = i128::from(from_hz.max(1));
    let scaled = i128::from(ticks) * i128::from(to_hz) * 2 + from;
    saturate(scaled.div_euclid(from * 2))
}

fn saturate(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

const NS_PER_S: i128 = 1_000_000_000;
/// The clock whose ticks are nanoseconds.
const NS_HZ: u32 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rescale_rounds_to_nearest_in_both_directions() {
        assert_eq!(rescale(1, 3, 2), 1);
        assert_eq!(rescale(-1, 3, 2), -1);
        assert_eq!(rescale(512, 12_800, 90_000), 3_600);
        assert_eq!(rescale(i64::MAX, 1, 2), i64::MAX);
    }

    #[test]
    fn npt_survives_the_way_to_ticks_and_back() {
        assert_eq!(Npt::from_ticks(90_000, 90_000), Npt(1_000_000_000));
        assert_eq!(Npt(1_500_000_000).to_ticks(1_000), 1_500);
        assert_eq!(Npt(-1_000_000).to_ticks(1_000), -1);
        for timescale in [1, 600, 24_000, 30_000, 44_100, 90_000, 10_000_000, 500_000_000] {
            for ticks in (-2_000..2_000).chain([1 << 31, (1 << 31) + 1]) {
                assert_eq!(Npt::from_ticks(ticks, timescale).to_ticks(timescale), ticks);
            }
        }
    }
}
