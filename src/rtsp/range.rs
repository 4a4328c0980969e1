//! `Range` header (RFC 2326 s12.29) in its three units: npt (s3.6), smpte (s3.5), clock (s3.7).
//!
//! Ours and not the `rtsp-types` crate's, for the exact drop-frame arithmetic, `;time=` and
//! replies in the form that players read (npt with at least three decimals, client rule C18).
//! One range only: a list of them makes an editing list, which RFC 2326 s10.5 leaves optional.
//! Invariant: what is written reads back as the same range, npt and clock to the nanosecond.
#![deny(clippy::indexing_slicing)]

use std::fmt;

pub use super::range_time::SmpteKind;
use super::range_time::{parse_clock, parse_npt, write_clock, write_npt};
use crate::base::time::Npt;

/// What part of a presentation to play. An end before the start is for the caller to judge: with
/// a negative Scale it is right (RFC 2326 s12.34).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// Time from the start of the presentation. At least one of the two is given.
    Npt {
        /// `None`: from where it stands (a range like `npt=-20`).
        start: Option<NptStart>,
        /// `None`: to the end.
        end: Option<Npt>,
    },
    /// Time code from the start of the clip.
    Smpte {
        /// Frame rate and counting.
        kind: SmpteKind,
        /// First frame.
        start: Npt,
        /// `None`: to the end.
        end: Option<Npt>,
    },
    /// Time of day, nanoseconds since 1970.
    Clock {
        /// From.
        start_utc_ns: i64,
        /// `None`: to the end.
        end_utc_ns: Option<i64>,
    },
}

impl Range {
    /// `npt=now-`: a live presentation from the present moment on.
    pub const FROM_NOW: Self = Self::Npt { start: Some(NptStart::Now), end: None };
}

/// Where an npt range starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NptStart {
    /// A position.
    At(Npt),
    /// `now`: the present moment of a live presentation.
    Now,
}

/// A whole header value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RangeHeader {
    /// The part to play.
    pub range: Range,
    /// `;time=`: when the command is to take effect, nanoseconds since 1970.
    pub time_utc_ns: Option<i64>,
}

/// Why a `Range` is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RangeError {
    /// Neither npt, clock nor one of the smpte kinds of RFC 2326 s3.5.
    #[error("unit of the range is not known")]
    UnknownUnit,
    /// Not in the form of its unit.
    #[error("range is malformed")]
    Malformed,
    /// A value past what 64 bits of nanoseconds hold.
    #[error("time is out of bounds")]
    OutOfBounds,
    /// More than one range.
    #[error("only one range can be played")]
    Several,
}

/// Reads a `Range` value.
///
/// # Errors
/// See [`RangeError`].
pub fn parse_range(text: &str) -> Result<RangeHeader, RangeError> {
    let (spec, parameters) = text.split_once(';').unwrap_or((text, ""));
    if spec.contains(',') {
        return Err(RangeError::Several);
    }
    let mut time_utc_ns = None;
    for parameter in parameters.split(';').filter(|p| !p.trim().is_empty()) {
        // Parameters of other names are extensions and ignored.
        if let Some((name, value)) = parameter.split_once('=')
            && name.trim().eq_ignore_ascii_case("time")
        {
            time_utc_ns = Some(parse_clock(value.trim())?);
        }
    }
    Ok(RangeHeader { range: parse_spec(spec)?, time_utc_ns })
}

fn parse_spec(spec: &str) -> Result<Range, RangeError> {
    let (unit, limits) = spec.split_once('=').ok_or(RangeError::Malformed)?;
    let unit = unit.trim();
    let kind = SmpteKind::from_unit(unit);
    if kind.is_none() && !["npt", "clock"].iter().any(|known| unit.eq_ignore_ascii_case(known)) {
        return Err(RangeError::UnknownUnit);
    }
    let (start, end) = limits.split_once('-').ok_or(RangeError::Malformed)?;
    let (start, end) = (start.trim(), Some(end.trim()).filter(|end| !end.is_empty()));
    if let Some(kind) = kind {
        let end = end.map(|end| kind.parse(end)).transpose()?;
        return Ok(Range::Smpte { kind, start: kind.parse(start)?, end });
    }
    if unit.eq_ignore_ascii_case("clock") {
        let end_utc_ns = end.map(parse_clock).transpose()?;
        return Ok(Range::Clock { start_utc_ns: parse_clock(start)?, end_utc_ns });
    }
    let end = end.map(parse_npt).transpose()?;
    let start = match start {
        "" if end.is_none() => return Err(RangeError::Malformed),
        "" => None,
        now if now.eq_ignore_ascii_case("now") => Some(NptStart::Now),
        at => Some(NptStart::At(parse_npt(at)?)),
    };
    Ok(Range::Npt { start, end })
}

/// Writes a position as npt, as a Range does.
#[derive(Debug, Clone, Copy)]
pub struct NptText(pub Npt);

impl fmt::Display for NptText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_npt(f, self.0)
    }
}

impl fmt::Display for RangeHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.range.fmt(f)?;
        if let Some(time_utc_ns) = self.time_utc_ns {
            f.write_str(";time=")?;
            write_clock(f, time_utc_ns)?;
        }
        Ok(())
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Npt { start, end } => {
                f.write_str("npt=")?;
                match start {
                    Some(NptStart::At(npt)) => write_npt(f, npt)?,
                    Some(NptStart::Now) => f.write_str("now")?,
                    None => {}
                }
                f.write_str("-")?;
                end.map_or(Ok(()), |end| write_npt(f, end))
            }
            Self::Smpte { kind, start, end } => {
                write!(f, "{}=", kind.unit())?;
                kind.write(f, start)?;
                f.write_str("-")?;
                end.map_or(Ok(()), |end| kind.write(f, end))
            }
            Self::Clock { start_utc_ns, end_utc_ns } => {
                f.write_str("clock=")?;
                write_clock(f, start_utc_ns)?;
                f.write_str("-")?;
                end_utc_ns.map_or(Ok(()), |end| write_clock(f, end))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn npt(start_ms: i64, end_ms: Option<i64>) -> Range {
        let at = |ms: i64| Npt(ms * 1_000_000);
        Range::Npt { start: Some(NptStart::At(at(start_ms))), end: end_ms.map(at) }
    }

    fn read(text: &str) -> Range {
        parse_range(text).unwrap_or_else(|error| panic!("{text}: {error}")).range
    }

    #[test]
    fn npt_is_read_as_players_write_it() {
        assert_eq!(read("npt=0.000-"), npt(0, None));
        assert_eq!(read("NPT = 12.5 - 20"), npt(12_500, Some(20_000)));
        assert_eq!(read("npt=01:02:03.25-2:00:00"), npt(3_723_250, Some(7_200_000)));
        assert_eq!(read("npt=5.-"), npt(5_000, None));
        assert_eq!(read("npt=.5-"), npt(500, None));
        let end = Some(Npt(20_000_000_000));
        assert_eq!(read("npt=-20"), Range::Npt { start: None, end });
        assert_eq!(read("npt=now-"), Range::Npt { start: Some(NptStart::Now), end: None });
    }

    #[test]
    fn npt_is_written_with_three_decimals_or_as_many_as_it_needs() {
        assert_eq!(npt(0, Some(10_000)).to_string(), "npt=0.000-10.000");
        assert_eq!(npt(5_000, None).to_string(), "npt=5.000-");
        assert_eq!(read("npt=-20").to_string(), "npt=-20.000");
        assert_eq!(read("npt=now-").to_string(), "npt=now-");
        let exact = Range::Npt { start: Some(NptStart::At(Npt(1_999_999_999))), end: None };
        assert_eq!(exact.to_string(), "npt=1.999999999-");
        let at = Some(NptStart::At(Npt(1_668_330_000)));
        assert_eq!(Range::Npt { start: at, end: None }.to_string(), "npt=1.66833-");
        let before = Range::Npt { start: Some(NptStart::At(Npt(-1))), end: None };
        assert_eq!(before.to_string(), "npt=0.000-");
    }

    #[test]
    fn clock_is_read_with_its_fraction_and_written_back() {
        let text = "clock=19961108T142300.35Z-19961108T143520Z";
        let start_utc_ns = 847_462_980_350_000_000;
        let end_utc_ns = Some(847_463_720_000_000_000);
        assert_eq!(read(text), Range::Clock { start_utc_ns, end_utc_ns });
        assert_eq!(read(text).to_string(), text);
        assert_eq!(read("clock=19961108T142300Z-").to_string(), "clock=19961108T142300Z-");
    }

    #[test]
    fn time_parameter_is_read_and_written() {
        let text = "npt=10.000-;time=19970123T143720Z";
        let header = parse_range(text).unwrap();
        assert_eq!(header.time_utc_ns, Some(854_030_240_000_000_000));
        assert_eq!(header.to_string(), text);
    }

    #[test]
    fn smpte_is_written_in_its_own_unit() {
        for text in [
            "smpte=10:12:33:20-",
            "smpte-30-drop=00:10:00:00-01:00:00:00",
            "smpte-25=10:07:00:00-10:07:33:05.01",
        ] {
            assert_eq!(read(text).to_string(), text);
        }
    }

    #[test]
    fn bad_ranges_are_refused_by_name() {
        for (text, error) in [
            ("", RangeError::Malformed),
            ("npt", RangeError::Malformed),
            ("npt=5", RangeError::Malformed),
            ("npt=-", RangeError::Malformed),
            ("npt=a-b", RangeError::Malformed),
            ("npt=--5", RangeError::Malformed),
            ("npt=.-", RangeError::Malformed),
            ("npt=1:60:00-", RangeError::Malformed),
            ("npt=1:00-", RangeError::Malformed),
            ("npt=1e3-", RangeError::Malformed),
            ("npt=99999999999-", RangeError::OutOfBounds),
            ("npt=99999999999999999999999-", RangeError::OutOfBounds),
            ("npt=99999999999:00:00-", RangeError::OutOfBounds),
            ("npt=1-2,npt=4-5", RangeError::Several),
            ("bytes=0-100", RangeError::UnknownUnit),
            ("smpte-24=00:00:01-", RangeError::UnknownUnit),
            ("smpte=-00:00:01", RangeError::Malformed),
            ("smpte=111111111111111034:0:33:05.1-", RangeError::OutOfBounds),
            ("smpte-25=9223372036854775807:59:59:24.99-", RangeError::OutOfBounds),
            ("smpte-25=00:00:01:25-", RangeError::Malformed),
            ("clock=-", RangeError::Malformed),
            ("clock=19961108T142300-", RangeError::Malformed),
            ("clock=19961308T142300Z-", RangeError::Malformed),
            ("clock=99991108T142300Z-", RangeError::OutOfBounds),
            ("npt=1-;time=x", RangeError::Malformed),
        ] {
            assert_eq!(parse_range(text).unwrap_err(), error, "{text}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,60}") {
            let _ = parse_range(&text);
        }

        #[test]
        fn near_misses_never_panic(
            unit in prop::sample::select(vec![
                "npt", "clock", "smpte", "smpte-25", "smpte-30-drop",
            ]),
            text in "[0-9:.TZ-]{0,40}",
        ) {
            if let Ok(header) = parse_range(&format!("{unit}={text}")) {
                prop_assert_eq!(parse_range(&header.to_string()).map(|h| h.to_string()),
                    Ok(header.to_string()));
            }
        }

        #[test]
        fn npt_reads_back_exactly(start in 0..=i64::MAX, end in 0..=i64::MAX) {
            let range = Range::Npt { start: Some(NptStart::At(Npt(start))), end: Some(Npt(end)) };
            prop_assert_eq!(read(&range.to_string()), range);
        }

        #[test]
        fn smpte_reads_back_at_or_behind_the_time_by_less_than_a_hundredth_of_a_frame(
            kind in prop::sample::select(vec![
                SmpteKind::Default, SmpteKind::Drop30, SmpteKind::Fps25,
            ]),
            ns in 0i64..86_400_000_000_000,
        ) {
            let range = Range::Smpte { kind, start: Npt(ns), end: None };
            let Range::Smpte { start, .. } = read(&range.to_string()) else { panic!() };
            prop_assert!((0..400_000).contains(&(start.0 - ns)), "{start:?}");
        }

        #[test]
        fn clock_reads_back_exactly(start_utc_ns: i64, end_utc_ns: Option<i64>) {
            // Years of four digits only: RFC 2326 s3.7.
            let range = Range::Clock { start_utc_ns, end_utc_ns };
            prop_assert_eq!(read(&range.to_string()), range);
        }
    }
}
