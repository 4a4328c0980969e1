//! Windows: times of day and days of the week in which the transfers of a job go on.
//!
//! ```text
//! "mon-fri 22:00-06:00 Europe/Berlin; sat,sun 00:00-24:00 UTC"
//!    --Window, at a moment--> Hours: open or not now, and the moments at which that changes
//! ```
//! A span begins on its days; one whose end is not behind its start ends on the day after. Without
//! days it is every day's, without a zone UTC's. Zones are names of the IANA database, which is
//! built in, or offsets like `+02:00`. A time that a change of the clock leaves out comes as much
//! later as the clock was moved; of one that comes twice the first counts.
//! Invariant: what `Display` writes is read as the same window. Hours need neither a zone nor the
//! clock of their reader's machine: nodes get them with the time of the base.
//! Bounds: `SPANS_MAX` spans; hours reach `AHEAD_S` ahead and have `CHANGES_MAX` changes.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::{Date, Time, Weekday};
use jiff::tz::{Offset, TimeZone, TimeZoneDatabase};
use serde::{Deserialize, Serialize};

/// When transfers of a job may go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Window {
    spans: Vec<Span>,
}

/// Text is no window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no window: [DAYS] HH:MM-HH:MM [ZONE] is expected, like `22:00-06:00`, \
     `mon-fri 22:00-06:00 Europe/Berlin` or `sat,sun 00:00-24:00 +02:00`; several with ; between"
)]
pub struct WindowError {
    text: String,
}

/// Whether transfers may go on from a moment on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hours {
    /// Before the first change.
    pub is_open: bool,
    /// UTC seconds at which it changes, in order.
    pub changes_s: Vec<i64>,
}

/// A rate by time of day: that of the first window that is open, else the usual one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RateSchedule {
    usual: Option<u64>,
    windows: Vec<(Window, u64)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Span {
    /// Monday is bit 0.
    days: u8,
    /// Minutes of the day.
    from: i16,
    /// 1,440 is the end of the day.
    to: i16,
    zone: Zone,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Zone {
    name: String,
    rules: TimeZone,
}

impl Window {
    /// What the window says from `utc_ns` on.
    #[must_use]
    pub fn hours(&self, utc_ns: i64) -> Hours {
        let at_s = utc_ns.div_euclid(NS_PER_S);
        let mut open: Vec<(i64, i64)> =
            self.spans.iter().flat_map(|span| span.around(at_s)).collect();
        open.sort_unstable();
        let mut hours = Hours { is_open: false, changes_s: Vec::new() };
        let mut until_s = i64::MIN;
        for (from_s, to_s) in open {
            if from_s > until_s {
                hours.close(until_s, at_s);
                hours.open(from_s, at_s);
            }
            until_s = until_s.max(to_s);
        }
        hours.close(until_s, at_s);
        hours.changes_s.retain(|change_s| *change_s <= at_s + AHEAD_S);
        hours.changes_s.truncate(CHANGES_MAX);
        hours
    }
}

impl RateSchedule {
    /// Bytes per second outside of all windows, `None` being any number; and within each.
    #[must_use]
    pub fn new(usual: Option<u64>, windows: Vec<(Window, u64)>) -> Self {
        Self { usual, windows }
    }

    /// Bytes per second at a moment; `None`: any number.
    #[must_use]
    pub fn at(&self, utc_ns: i64) -> Option<u64> {
        let mut open = self.windows.iter().filter(|(window, _)| window.hours(utc_ns).is_open);
        open.next().map(|(_, rate)| *rate).or(self.usual)
    }
}

impl Hours {
    /// Whether transfers may go on at a moment.
    #[must_use]
    pub fn is_open_at(&self, utc_ns: i64) -> bool {
        let at_s = utc_ns.div_euclid(NS_PER_S);
        let changes = self.changes_s.iter().take_while(|change_s| **change_s <= at_s).count();
        self.is_open == changes.is_multiple_of(2)
    }

    /// The next moment behind `utc_ns` at which that changes, UTC nanoseconds.
    #[must_use]
    pub fn next_change_ns(&self, utc_ns: i64) -> Option<i64> {
        let at_s = utc_ns.div_euclid(NS_PER_S);
        let next = self.changes_s.iter().find(|change_s| **change_s > at_s);
        next.map(|change_s| change_s.saturating_mul(NS_PER_S))
    }

    fn open(&mut self, from_s: i64, at_s: i64) {
        if from_s <= at_s {
            self.is_open = true;
        } else {
            self.changes_s.push(from_s);
        }
    }

    fn close(&mut self, until_s: i64, at_s: i64) {
        if until_s > at_s {
            self.changes_s.push(until_s);
        } else {
            self.is_open = false;
        }
    }
}

impl Span {
    /// Start and end, UTC seconds, of each time that it comes around `at_s`.
    fn around(&self, at_s: i64) -> impl Iterator<Item = (i64, i64)> {
        let at = Timestamp::from_second(at_s).unwrap_or(Timestamp::UNIX_EPOCH);
        let first =
            self.zone.rules.to_datetime(at).date().saturating_sub(jiff::Span::new().days(3));
        let days = std::iter::successors(Some(first), |day| day.tomorrow().ok());
        let days = days.take(DAYS_AROUND).filter(|day| self.has(day.weekday()));
        days.filter_map(|day| {
            let last = if self.to <= self.from { day.tomorrow().ok()? } else { day };
            let (from_s, to_s) = (self.moment(day, self.from)?, self.moment(last, self.to)?);
            // A change of the clock may leave nothing of it.
            (from_s < to_s).then_some((from_s, to_s))
        })
    }

    fn has(&self, day: Weekday) -> bool {
        self.days >> day.to_monday_zero_offset() & 1 == 1
    }

    /// UTC second of a minute of a day.
    fn moment(&self, day: Date, minute: i16) -> Option<i64> {
        let day = if minute == DAY { day.tomorrow().ok()? } else { day };
        let minute = minute % DAY;
        let (hour, minute) = (i8::try_from(minute / 60).ok()?, i8::try_from(minute % 60).ok()?);
        let time = Time::new(hour, minute, 0, 0).ok()?;
        let moment = self.zone.rules.to_ambiguous_timestamp(day.to_datetime(time));
        Some(moment.compatible().ok()?.as_second())
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace().peekable();
        let days = words.peek().and_then(|word| parse_days(word));
        if days.is_some() {
            words.next();
        }
        let (from, to) = words.next()?.split_once('-')?;
        let (from, to) = (parse_minute(from)?, parse_minute(to)?);
        let zone = words.next().map_or_else(|| Some(Zone::utc()), Zone::parse)?;
        let is_span = words.next().is_none() && from != DAY && from != to;
        is_span.then_some(Self { days: days.unwrap_or(ALL_DAYS), from, to, zone })
    }
}

impl Zone {
    fn utc() -> Self {
        Self { name: UTC.to_owned(), rules: TimeZone::UTC }
    }

    fn parse(text: &str) -> Option<Self> {
        if text == UTC {
            return Some(Self::utc());
        }
        let name = text.to_owned();
        if let Some((sign, time)) = text.split_at_checked(1).filter(|(sign, _)| "+-".contains(sign))
        {
            let minutes = i32::from(parse_minute(time)?);
            let seconds = minutes * if sign == "-" { -60 } else { 60 };
            let offset = Offset::from_seconds(seconds).ok().filter(|_| minutes <= OFFSET_MAX)?;
            return Some(Self { name, rules: TimeZone::fixed(offset) });
        }
        let rules = TimeZoneDatabase::bundled().get(text).ok()?;
        Some(Self { name, rules })
    }
}

impl FromStr for Window {
    type Err = WindowError;

    fn from_str(text: &str) -> Result<Self, WindowError> {
        let wrong = || WindowError { text: text.chars().take(TEXT_SHOWN).collect() };
        let spans = text.split(';').take(SPANS_MAX + 1).map(Span::parse);
        let spans: Vec<Span> = spans.collect::<Option<_>>().ok_or_else(wrong)?;
        if spans.len() > SPANS_MAX { Err(wrong()) } else { Ok(Self { spans }) }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, Span { days, from, to, zone }) in self.spans.iter().enumerate() {
            f.write_str(if place == 0 { "" } else { "; " })?;
            if *days != ALL_DAYS {
                let names = DAY_NAMES.iter().enumerate();
                let names = names.filter(|(day, _)| *days >> day & 1 == 1).map(|(_, name)| *name);
                write!(f, "{} ", names.collect::<Vec<_>>().join(","))?;
            }
            let (from_m, to_m) = (from % 60, to % 60);
            write!(f, "{:02}:{from_m:02}-{:02}:{to_m:02} {}", from / 60, to / 60, zone.name)?;
        }
        Ok(())
    }
}

impl TryFrom<String> for Window {
    type Error = WindowError;

    fn try_from(text: String) -> Result<Self, WindowError> {
        text.parse()
    }
}

impl From<Window> for String {
    fn from(window: Window) -> Self {
        window.to_string()
    }
}

/// `mon-fri`, `sat,sun`, `fri-mon`.
fn parse_days(text: &str) -> Option<u8> {
    let day = |name: &str| DAY_NAMES.iter().position(|day| *day == name);
    let mut days = 0;
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        let count = (last + DAY_NAMES.len() - first) % DAY_NAMES.len();
        for step in 0..=count {
            days |= 1 << ((first + step) % DAY_NAMES.len());
        }
    }
    Some(days)
}

/// Minute of the day of `HH:MM`, up to 24:00.
fn parse_minute(text: &str) -> Option<i16> {
    let number = |part: &str| {
        let is_number = part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_digit());
        part.parse::<i16>().ok().filter(|_| is_number)
    };
    let (hours, minutes) = text.split_once(':')?;
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let minute = hours * 60 + minutes;
    (minutes < 60 && minute <= DAY).then_some(minute)
}

const UTC: &str = "UTC";
const DAY_NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const ALL_DAYS: u8 = 0b111_1111;
/// Minutes of a day.
const DAY: i16 = 1_440;
/// Minutes of the largest offset.
const OFFSET_MAX: i32 = 14 * 60;
const SPANS_MAX: usize = 14;
const TEXT_SHOWN: usize = 80;
/// A node that hears nothing of its base goes by its hours for so long: a week and a day.
const AHEAD_S: i64 = 8 * 86_400;
/// Days before and behind a moment whose spans are looked at: more than [`AHEAD_S`] and what zones
/// differ from each other.
const DAYS_AROUND: usize = 14;
const CHANGES_MAX: usize = 64;
const NS_PER_S: i64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn utc_ns(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_second() * NS_PER_S
    }

    fn window(text: &str) -> Window {
        text.parse().unwrap()
    }

    fn changes(text: &str, at: &str) -> (bool, Vec<String>) {
        let hours = window(text).hours(utc_ns(at));
        let shown = hours.changes_s.iter().take(2);
        let shown = shown.map(|at_s| Timestamp::from_second(*at_s).unwrap().to_string());
        (hours.is_open, shown.collect())
    }

    #[test]
    fn windows_are_read_and_shown_and_others_are_refused() {
        let cases = [
            ("22:00-06:00", "22:00-06:00 UTC"),
            ("mon-fri 22:00-06:00 Europe/Berlin", "mon,tue,wed,thu,fri 22:00-06:00 Europe/Berlin"),
            ("sat,sun 00:00-24:00 +02:00", "sat,sun 00:00-24:00 +02:00"),
            ("sun-tue 01:30-02:00 -03:30", "mon,tue,sun 01:30-02:00 -03:30"),
            ("01:00-02:00;03:00-04:00", "01:00-02:00 UTC; 03:00-04:00 UTC"),
        ];
        for (text, shown) in cases {
            assert_eq!(window(text).to_string(), shown);
            assert_eq!(window(shown), window(text));
        }
        let long = "01:00-02:00;".repeat(20);
        let wrong = [
            "",
            "22:00",
            "22:00-22:00",
            "24:00-06:00",
            "25:00-06:00",
            "22:60-06:00",
            "2:00-06:00",
            "foo 22:00-06:00",
            "22:00-06:00 Nowhere/City",
            "22:00-06:00 +15:00",
            "22:00-06:00 UTC x",
            "22:00-06:00;",
            "mon- 22:00-06:00",
            &long,
        ];
        for text in wrong {
            assert!(text.parse::<Window>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn window_over_midnight_begins_on_its_days_and_ends_on_the_next() {
        // 2026-01-01 is a Thursday.
        let text = "thu 22:00-06:00";
        let thursday = ["2026-01-01T22:00:00Z".to_owned(), "2026-01-02T06:00:00Z".to_owned()];
        assert_eq!(changes(text, "2026-01-01T21:59:59Z"), (false, thursday.to_vec()));
        let (is_open, next) = changes(text, "2026-01-02T05:59:59Z");
        assert!(is_open && next[0] == "2026-01-02T06:00:00Z" && next[1] == "2026-01-08T22:00:00Z");
        assert!(!changes(text, "2026-01-02T06:00:00Z").0);
    }

    #[test]
    fn zone_moves_a_window_with_its_summer_time() {
        let text = "08:00-09:00 Europe/Berlin";
        assert_eq!(changes(text, "2026-01-10T00:00:00Z").1[0], "2026-01-10T07:00:00Z");
        assert_eq!(changes(text, "2026-07-10T00:00:00Z").1[0], "2026-07-10T06:00:00Z");
        // 02:30 is left out in this night, and comes an hour later by the clock.
        let night = changes("02:30-04:00 Europe/Berlin", "2026-03-28T12:00:00Z").1;
        assert_eq!(night, ["2026-03-29T01:30:00Z", "2026-03-29T02:00:00Z"]);
        assert_eq!(
            changes("08:00-09:00 +02:00", "2026-01-10T00:00:00Z").1[0],
            "2026-01-10T06:00:00Z"
        );
    }

    #[test]
    fn spans_that_touch_are_one_and_a_window_of_all_time_never_changes() {
        let (is_open, next) = changes("00:00-12:00; 12:00-13:00", "2026-01-10T11:00:00Z");
        assert!(is_open && next[0] == "2026-01-10T13:00:00Z");
        assert_eq!(changes("00:00-24:00", "2026-01-10T11:00:00Z"), (true, Vec::new()));
    }

    #[test]
    fn schedule_has_the_rate_of_the_first_window_that_is_open() {
        let windows = vec![(window("08:00-18:00"), 1), (window("06:00-22:00"), 2)];
        let schedule = RateSchedule::new(Some(3), windows);
        let rates = ["05:00", "07:00", "12:00", "21:00", "23:00"]
            .map(|time| schedule.at(utc_ns(&format!("2026-01-10T{time}:00Z"))));
        assert_eq!(rates, [Some(3), Some(2), Some(1), Some(2), Some(3)]);
        assert_eq!(RateSchedule::default().at(0), None);
    }

    proptest! {
        /// Hours that were made at one moment say for a later one what hours of that moment say.
        #[test]
        fn hours_are_those_of_any_later_moment(
            from in 0_i64..2_000_000_000,
            later in 0_i64..7 * 86_400,
            spans in proptest::collection::vec((1_u8..128, 0_i16..1_440, 1_i16..1_440, 0_usize..4), 1..4),
        ) {
            let zones = ["UTC", "Europe/Berlin", "-09:30", "Pacific/Apia"];
            let spans = spans.into_iter().map(|(days, from, len, zone)| Span {
                days,
                from,
                to: (from + len) % DAY,
                zone: Zone::parse(zones[zone]).unwrap(),
            });
            let window = Window { spans: spans.collect() };
            let (now, then) = (from * NS_PER_S, (from + later) * NS_PER_S);
            let (hours, later) = (window.hours(now), window.hours(then));
            prop_assert_eq!(hours.is_open_at(now), hours.is_open);
            prop_assert!(hours.changes_s.is_sorted_by(|a, b| a < b));
            if hours.changes_s.len() < CHANGES_MAX {
                prop_assert_eq!(hours.is_open_at(then), later.is_open);
            }
            prop_assert_eq!(window.to_string().parse::<Window>().unwrap(), window);
        }
    }
}
