//! The three ways in which a `Range` writes a time: npt (RFC 2326 s3.6), SMPTE time code (s3.5)
//! and UTC (s3.7).
//!
//! SMPTE 30 drop counts 30 numbers a second over 30000/1001 frames a second: the numbers :00 and
//! :01 do not exist in the first second of a minute, except every tenth minute.
//! Invariant: time codes go to nanoseconds and back without loss, to the hundredth of a frame.
#![deny(clippy::indexing_slicing)]

use std::fmt;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::range::RangeError;
use crate::base::time::Npt;

/// Counting of an smpte range, with the unit's spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmpteKind {
    /// `smpte`: 30 drop by default.
    Default,
    /// `smpte-30-drop`: 29.97 frames a second.
    Drop30,
    /// `smpte-25`.
    Fps25,
}

impl SmpteKind {
    /// As the range spells it.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::Default => "smpte",
            Self::Drop30 => "smpte-30-drop",
            Self::Fps25 => "smpte-25",
        }
    }

    pub(super) fn from_unit(unit: &str) -> Option<Self> {
        let kinds = [Self::Default, Self::Drop30, Self::Fps25];
        kinds.into_iter().find(|kind| kind.unit().eq_ignore_ascii_case(unit))
    }

    /// `hh:mm:ss`, `hh:mm:ss:ff` or `hh:mm:ss:ff.ss` (subframes are hundredths of a frame).
    pub(super) fn parse(self, text: &str) -> Result<Npt, RangeError> {
        let mut fields = text.split(':');
        let mut next = || fields.next().ok_or(RangeError::Malformed);
        let hours = parse_number(next()?)?;
        let minutes = below(60, parse_number(next()?)?)?;
        let seconds = below(60, parse_number(next()?)?)?;
        let (frames, subframes) = match next() {
            Ok(field) => field.split_once('.').unwrap_or((field, "0")),
            Err(_) => ("0", "0"),
        };
        if fields.next().is_some() {
            return Err(RangeError::Malformed);
        }
        let mut frames = below(self.numbers_per_s(), parse_number(frames)?)?;
        let mut subframes = below(100, parse_number(subframes)?)?;
        // Hours may be any number: only 128 bits hold what they are in frames.
        let all_minutes = i128::from(hours) * 60 + i128::from(minutes);
        let mut dropped = 0;
        if self.is_drop() {
            dropped = 2 * (all_minutes - all_minutes / 10);
            // RFC 2326's own example, 10:07:00, is a number that does not exist: the next is meant.
            if seconds == 0 && all_minutes % 10 != 0 && frames < 2 {
                (frames, subframes) = (2, 0);
            }
        }
        let all_seconds = all_minutes * 60 + i128::from(seconds);
        let number = all_seconds * i128::from(self.numbers_per_s()) + i128::from(frames) - dropped;
        let hundredths = number * 100 + i128::from(subframes);
        let (scale, rate) = self.ns_per_hundredth();
        i64::try_from(hundredths * scale / rate).map(Npt).map_err(|_| RangeError::OutOfBounds)
    }

    /// Always with frames, with subframes when there are any. A time between two codes is told by
    /// the later one, so that what begins at `npt` is not before the code that names it.
    pub(super) fn write(self, f: &mut fmt::Formatter<'_>, npt: Npt) -> fmt::Result {
        let (scale, rate) = self.ns_per_hundredth();
        let hundredths = (i128::from(npt.0.max(0)) * rate + scale - 1) / scale;
        let subframes = hundredths % 100;
        let number = self.number_of_frame(hundredths / 100);
        let per_s = i128::from(self.numbers_per_s());
        let (all_seconds, frames) = (number / per_s, number % per_s);
        let (all_minutes, seconds) = (all_seconds / 60, all_seconds % 60);
        let (hours, minutes) = (all_minutes / 60, all_minutes % 60);
        write!(f, "{hours:02}:{minutes:02}:{seconds:02}:{frames:02}")?;
        if subframes == 0 { Ok(()) } else { write!(f, ".{subframes:02}") }
    }

    /// Puts the dropped numbers back in: 17,982 frames in ten minutes, 1,800 in the first of
    /// them and 1,798 in each other one.
    fn number_of_frame(self, frame: i128) -> i128 {
        if !self.is_drop() {
            return frame;
        }
        let (tens, rest) = (frame / 17_982, frame % 17_982);
        let minute_of_ten = if rest < 1_800 { 0 } else { (rest - 1_800) / 1_798 + 1 };
        frame + 18 * tens + 2 * minute_of_ten
    }

    fn is_drop(self) -> bool {
        match self {
            Self::Default | Self::Drop30 => true,
            Self::Fps25 => false,
        }
    }

    fn numbers_per_s(self) -> i64 {
        if self.is_drop() { 30 } else { 25 }
    }

    /// Nanoseconds of a hundredth of a frame, as a fraction.
    fn ns_per_hundredth(self) -> (i128, i128) {
        if self.is_drop() { (1_001_000, 3) } else { (400_000, 1) }
    }
}

/// `seconds[.fraction]` or `hours:mm:ss[.fraction]`.
pub(super) fn parse_npt(text: &str) -> Result<Npt, RangeError> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction_ns = parse_fraction_ns(fraction)?;
    let seconds = match whole.split_once(':') {
        None if whole.is_empty() && !fraction.is_empty() => 0,
        None => parse_number(whole)?,
        Some((hours, rest)) => {
            let (minutes, seconds) = rest.split_once(':').ok_or(RangeError::Malformed)?;
            let minutes = below(60, parse_number(minutes)?)?;
            let seconds = below(60, parse_number(seconds)?)?;
            let hours_s = checked(parse_number(hours)?.checked_mul(3_600))?;
            checked(hours_s.checked_add(minutes * 60 + seconds))?
        }
    };
    checked(seconds.checked_mul(NS_PER_S).and_then(|ns| ns.checked_add(fraction_ns))).map(Npt)
}

/// Seconds with three decimals, and with more where the time is not a whole millisecond: what is
/// written reads back as the same time.
pub(super) fn write_npt(f: &mut fmt::Formatter<'_>, npt: Npt) -> fmt::Result {
    let ns = npt.0.max(0);
    let (seconds, fraction) = (ns / NS_PER_S, ns % NS_PER_S);
    if fraction % 1_000_000 == 0 {
        return write!(f, "{seconds}.{:03}", fraction / 1_000_000);
    }
    let digits = format!("{fraction:09}");
    write!(f, "{seconds}.{}", digits.trim_end_matches('0'))
}

/// `19961108T142300.35Z` as nanoseconds since 1970.
pub(super) fn parse_clock(text: &str) -> Result<i64, RangeError> {
    let text = text.strip_suffix(['Z', 'z']).ok_or(RangeError::Malformed)?;
    let (date, time) = text.split_once(['T', 't']).ok_or(RangeError::Malformed)?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
    if date.len() != 8 || time.len() != 6 {
        return Err(RangeError::Malformed);
    }
    let field = |text: &str, from: usize, to: usize| -> Result<i64, RangeError> {
        parse_number(text.get(from..to).ok_or(RangeError::Malformed)?)
    };
    let small = |value: i64| i8::try_from(value).map_err(|_| RangeError::Malformed);
    let year = i16::try_from(field(date, 0, 4)?).map_err(|_| RangeError::Malformed)?;
    let (month, day) = (small(field(date, 4, 6)?)?, small(field(date, 6, 8)?)?);
    let (hour, minute) = (small(field(time, 0, 2)?)?, small(field(time, 2, 4)?)?);
    let second = small(field(time, 4, 6)?)?;
    let fraction_ns =
        i32::try_from(parse_fraction_ns(fraction)?).map_err(|_| RangeError::Malformed)?;
    let civil = DateTime::new(year, month, day, hour, minute, second, fraction_ns)
        .map_err(|_| RangeError::Malformed)?;
    let time = TimeZone::UTC.to_timestamp(civil).map_err(|_| RangeError::OutOfBounds)?;
    i64::try_from(time.as_nanosecond()).map_err(|_| RangeError::OutOfBounds)
}

/// With as many decimals as it needs.
pub(super) fn write_clock(f: &mut fmt::Formatter<'_>, utc_ns: i64) -> fmt::Result {
    let time = Timestamp::from_nanosecond(i128::from(utc_ns)).map_err(|_| fmt::Error)?;
    let civil = TimeZone::UTC.to_datetime(time);
    let (year, month, day) = (civil.year(), civil.month(), civil.day());
    let (hour, minute, second) = (civil.hour(), civil.minute(), civil.second());
    write!(f, "{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}")?;
    let fraction_ns = civil.subsec_nanosecond();
    if fraction_ns != 0 {
        let digits = format!("{fraction_ns:09}");
        write!(f, ".{}", digits.trim_end_matches('0'))?;
    }
    f.write_str("Z")
}

/// Digits only, at least one.
fn parse_number(text: &str) -> Result<i64, RangeError> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(RangeError::Malformed);
    }
    text.parse().map_err(|_| RangeError::OutOfBounds)
}

/// Digits behind the point as nanoseconds; more than nine are cut.
fn parse_fraction_ns(digits: &str) -> Result<i64, RangeError> {
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(RangeError::Malformed);
    }
    let nine = digits.bytes().chain(std::iter::repeat(b'0')).take(9);
    Ok(nine.fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')))
}

fn below(limit: i64, value: i64) -> Result<i64, RangeError> {
    if value < limit { Ok(value) } else { Err(RangeError::Malformed) }
}

fn checked(value: Option<i64>) -> Result<i64, RangeError> {
    value.ok_or(RangeError::OutOfBounds)
}

const NS_PER_S: i64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Code(SmpteKind, Npt);

    impl fmt::Display for Code {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.write(f, self.1)
        }
    }

    #[test]
    fn drop_frame_code_counts_real_frames() {
        for (text, frames) in [
            ("00:00:00:00", 0),
            ("00:00:59:29", 1_799),
            ("00:01:00:02", 1_800),
            ("00:02:00:02", 3_598),
            ("00:10:00:00", 17_982),
            ("01:00:00:00", 107_892),
            ("10:00:00:00", 1_078_920),
        ] {
            let npt = SmpteKind::Drop30.parse(text).unwrap();
            let exact = i128::from(frames) * 1_001_000_000_000 / 30_000;
            assert_eq!(i128::from(npt.0), exact, "{text}");
            assert_eq!(Code(SmpteKind::Drop30, npt).to_string(), text);
        }
    }

    #[test]
    fn dropped_number_means_the_next_frame() {
        let kind = SmpteKind::Default;
        let existing = kind.parse("10:07:00:02");
        for text in ["10:07:00", "10:07:00:00", "10:07:00:01", "10:07:00:01.99"] {
            assert_eq!(kind.parse(text), existing, "{text}");
        }
        assert_ne!(kind.parse("10:10:00:00"), kind.parse("10:10:00:02"));
    }

    #[test]
    fn code_of_25_frames_is_plain_arithmetic() {
        let npt = SmpteKind::Fps25.parse("10:07:33:05.01").unwrap();
        assert_eq!(npt, Npt(36_453_200_400_000));
    }

    proptest! {
        #[test]
        fn every_code_reads_back(
            kind in prop::sample::select(vec![
                SmpteKind::Default, SmpteKind::Drop30, SmpteKind::Fps25,
            ]),
            hundredths in 0i128..30 * 100 * 86_400,
        ) {
            let (scale, rate) = kind.ns_per_hundredth();
            let npt = Npt(i64::try_from(hundredths * scale / rate).unwrap());
            let text = Code(kind, npt).to_string();
            prop_assert_eq!(kind.parse(&text), Ok(npt), "{}", text);
        }
    }
}
