//! Times of day: when a title of a playlist begins, day after day.
//!
//! ```text
//!  at = "20:15:00"  --DailyTime--  clock "utc" or "local"  -->  moments in UTC, one a day
//! ```
//! Invariant: a time comes once on each day of its clock. One that a change of the clock leaves out
//! (02:30 in a night whose 02:00 is followed by 03:00) comes as much later as the clock was moved;
//! one that comes twice counts the first time.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;

/// A time of day, to the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DailyTime(Time);

/// Why a text is no time of day.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a time of day like 20:15:00 or 20:15")]
pub struct DailyTimeError {
    /// What was found.
    pub text: String,
}

impl DailyTime {
    /// Reads `20:15:00` or `20:15`.
    ///
    /// # Errors
    /// Any other text.
    pub fn parse(text: &str) -> Result<Self, DailyTimeError> {
        let text = text.trim();
        read(text).map(Self).ok_or_else(|| DailyTimeError { text: text.to_owned() })
    }

    /// The first moment behind `utc_ns` (ns since 1970) at which a clock of `zone` shows it. `None`
    /// at the end of the calendar.
    #[must_use]
    pub fn next_after(self, zone: &TimeZone, utc_ns: i64) -> Option<i64> {
        self.moments(zone, utc_ns).find(|moment| *moment > utc_ns)
    }

    /// The last moment until `utc_ns` at which a clock of `zone` showed it.
    #[must_use]
    pub fn last_until(self, zone: &TimeZone, utc_ns: i64) -> Option<i64> {
        self.moments(zone, utc_ns).take_while(|moment| *moment <= utc_ns).last()
    }

    /// Its moments on the days around `utc_ns`, in order. Bound: `DAYS_AROUND`.
    fn moments(self, zone: &TimeZone, utc_ns: i64) -> impl Iterator<Item = i64> {
        let timestamp = Timestamp::from_nanosecond(utc_ns.into()).unwrap_or(Timestamp::UNIX_EPOCH);
        let first = zone.to_datetime(timestamp).date().saturating_sub(jiff::Span::new().days(2));
        let days = std::iter::successors(Some(first), |day| day.tomorrow().ok());
        days.take(DAYS_AROUND).filter_map(move |day| self.moment_on(zone, day))
    }

    fn moment_on(self, zone: &TimeZone, day: Date) -> Option<i64> {
        let moment = zone.to_ambiguous_timestamp(day.to_datetime(self.0)).compatible().ok()?;
        i64::try_from(moment.as_nanosecond()).ok()
    }
}

impl fmt::Display for DailyTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = self.0;
        write!(f, "{:02}:{:02}:{:02}", time.hour(), time.minute(), time.second())
    }
}

fn read(text: &str) -> Option<Time> {
    let mut parts = text.split(':').map(|part| {
        let is_number = part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_digit());
        part.parse::<i8>().ok().filter(|_| is_number)
    });
    let (hour, minute) = (parts.next()??, parts.next()??);
    let second = parts.next().unwrap_or(Some(0))?;
    Time::new(hour, minute, second, 0).ok().filter(|_| parts.next().is_none())
}

/// Two days before and two behind: zones differ from UTC by 26 hours at most, and one that crossed
/// the date line has left out a day.
const DAYS_AROUND: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn utc_ns(text: &str) -> i64 {
        i64::try_from(text.parse::<Timestamp>().unwrap().as_nanosecond()).unwrap()
    }

    fn shown(utc_ns: i64) -> String {
        Timestamp::from_nanosecond(utc_ns.into()).unwrap().to_string()
    }

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).unwrap()
    }

    fn next(zone: &TimeZone, time: &str, behind: &str) -> String {
        shown(DailyTime::parse(time).unwrap().next_after(zone, utc_ns(behind)).unwrap())
    }

    #[test]
    fn times_read_and_shown_are_the_same_and_others_are_refused() {
        for text in ["00:00:00", "20:15:00", "23:59:59"] {
            assert_eq!(DailyTime::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(DailyTime::parse(" 07:05 ").unwrap().to_string(), "07:05:00");
        for text in ["", "24:00:00", "20:60", "20:15:60", "8:15", "20", "20:15:00:00", "+8:15"] {
            assert!(DailyTime::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn time_comes_once_a_day_on_the_clock_of_its_zone() {
        let (utc, berlin) = (TimeZone::UTC, zone("Europe/Berlin"));
        for (zone, behind, expected) in [
            (&utc, "2026-11-29T20:14:59Z", "2026-11-29T20:15:00Z"),
            (&utc, "2026-11-29T20:15:00Z", "2026-11-30T20:15:00Z"),
            (&utc, "2026-12-31T23:59:59Z", "2027-01-01T20:15:00Z"),
            (&berlin, "2026-11-29T12:00:00Z", "2026-11-29T19:15:00Z"),
            (&berlin, "2026-07-01T12:00:00Z", "2026-07-01T18:15:00Z"),
        ] {
            assert_eq!(next(zone, "20:15:00", behind), expected);
        }
    }

    #[test]
    fn time_that_the_clock_leaves_out_comes_later_and_one_that_comes_twice_counts_once() {
        let berlin = zone("Europe/Berlin");
        // 29 March 2026: 02:00 is followed by 03:00. 25 October: 03:00 is followed by 02:00.
        for (behind, expected) in [
            ("2026-03-28T12:00:00Z", "2026-03-29T01:30:00Z"),
            ("2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"),
            ("2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z"),
            ("2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"),
        ] {
            assert_eq!(next(&berlin, "02:30", behind), expected, "{behind}");
        }
        // Samoa has left out 30 December 2011.
        let apia = zone("Pacific/Apia");
        assert_eq!(next(&apia, "20:15", "2011-12-30T07:00:00Z"), "2011-12-31T06:15:00Z");
        assert_eq!(next(&apia, "20:15", "2011-12-31T06:15:00Z"), "2012-01-01T06:15:00Z");
    }

    proptest! {
        #[test]
        fn next_and_last_enclose_any_moment_within_two_days(
            at_s in 0_i64..4_102_444_800, // until 2100
            time_s in 0_i64..86_400,
            zone_name in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York",
                "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kathmandu"]),
        ) {
            let zone = zone(zone_name);
            let text =
                format!("{:02}:{:02}:{:02}", time_s / 3_600, time_s / 60 % 60, time_s % 60);
            let time = DailyTime::parse(&text).unwrap();
            let at_ns = at_s * 1_000_000_000;
            let (last, next) =
                (time.last_until(&zone, at_ns).unwrap(), time.next_after(&zone, at_ns).unwrap());
            prop_assert!(last <= at_ns && at_ns < next);
            prop_assert!(next - last <= 49 * 3_600_000_000_000, "{last} {next}");
            prop_assert_eq!(time.next_after(&zone, last), Some(next), "none lies between");
        }

        #[test]
        fn any_text_is_read_or_refused_without_panic(text in "[0-9:]{0,9}|\\PC{0,9}") {
            if let Ok(time) = DailyTime::parse(&text) {
                prop_assert_eq!(DailyTime::parse(&time.to_string()), Ok(time));
            }
        }
    }
}
