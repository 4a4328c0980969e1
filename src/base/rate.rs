//! Rates of transfers as people write them: `200M` is 200 Mbit/s.
//!
//! Invariant: what `Display` writes is read back as the same rate. Bound: 1 kbit/s to 10 Tbit/s.

use std::fmt;

/// A rate of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate {
    bits_per_s: u64,
}

/// Text is no rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text} is no rate: bits per second are expected, with k, M or G, from 1k to 10000G; 200M is 200 Mbit/s"
)]
pub struct RateError {
    text: String,
}

impl Rate {
    /// Reads bits per second, with a decimal unit: `8000000`, `8000k`, `8M`, `2.5G`.
    ///
    /// # Errors
    /// `RateError` for any other form, and for rates beyond the bounds.
    pub fn parse(text: &str) -> Result<Self, RateError> {
        let wrong = || RateError { text: text.to_owned() };
        let units = [("k", 1_000), ("K", 1_000), ("M", 1_000_000), ("G", 1_000_000_000)];
        let unit =
            units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)));
        let (number, factor): (&str, u64) = unit.unwrap_or((text, 1));
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let are_digits = |part: &str| {
            (1..=FRACTION_DIGITS_MAX).contains(&part.len())
                && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !are_digits(whole) || !are_digits(fraction) {
            return Err(wrong());
        }
        let whole: u64 = whole.parse().map_err(|_| wrong())?;
        let scale = 10_u64.pow(u32::try_from(fraction.len()).map_err(|_| wrong())?);
        let fraction: u64 = fraction.parse().map_err(|_| wrong())?;
        let bits = u128::from(whole) * u128::from(factor)
            + u128::from(fraction) * u128::from(factor) / u128::from(scale);
        let bits_per_s = u64::try_from(bits).map_err(|_| wrong())?;
        let is_within = (BITS_PER_S_MIN..=BITS_PER_S_MAX).contains(&bits_per_s);
        if is_within { Ok(Self { bits_per_s }) } else { Err(wrong()) }
    }

    /// Whole bytes per second.
    #[must_use]
    pub fn bytes_per_s(self) -> u64 {
        self.bits_per_s / 8
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")];
        let unit = units.iter().find(|(factor, _)| self.bits_per_s.is_multiple_of(*factor));
        let (factor, unit) = unit.unwrap_or(&(1, ""));
        write!(f, "{}{unit}", self.bits_per_s / factor)
    }
}

const BITS_PER_S_MIN: u64 = 1_000;
const BITS_PER_S_MAX: u64 = 10_000_000_000_000;
/// More digits than any rate has; fewer than overflow.
const FRACTION_DIGITS_MAX: usize = 15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_bits_per_second_with_decimal_units() {
        let cases = [
            ("200M", 25_000_000),
            ("2.5G", 312_500_000),
            ("8000", 1_000),
            ("64k", 8_000),
            ("10000G", 1_250_000_000_000),
        ];
        for (text, bytes) in cases {
            assert_eq!(Rate::parse(text).unwrap().bytes_per_s(), bytes, "{text}");
        }
        for bad in
            ["", "M", "0", "999", "10001G", "-1M", "1,5M", "1M/s", "1.M", ".5M", "1e9", "1 M"]
        {
            assert!(Rate::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn rate_reads_what_it_writes() {
        for text in ["200M", "1500k", "3G", "1234"] {
            let rate = Rate::parse(text).unwrap();
            assert_eq!(rate.to_string(), text);
            assert_eq!(Rate::parse(&rate.to_string()), Ok(rate));
        }
    }
}
