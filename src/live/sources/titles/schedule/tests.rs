//! Schedules before a made-up feed, that plays titles of known lengths on a clock of its own.

mod arbitrary;
mod cases;
mod edited;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::*;
use crate::config;

/// A schedule, and what a feed would make of it.
struct World {
    schedule: Schedule,
    table: Arc<PathTable>,
    now_ns: i64,
    playing: Option<(ItemId, i64)>,
    /// Seconds that titles play; others play a minute.
    lengths_s: BTreeMap<String, i64>,
    /// Titles that cannot be played.
    broken: BTreeSet<String>,
    /// What began, and when.
    log: Vec<(i64, String)>,
    /// Titles that were tried in vain, and when.
    failures: Vec<(i64, String)>,
    /// Lengths are told.
    tells_lengths: bool,
    used: BTreeSet<ItemId>,
}

/// What the schedule says when there is nothing to prepare.
#[derive(Debug, PartialEq, Eq)]
enum Idle {
    Until(i64),
    Nothing(String),
}

impl World {
    /// The section of the path, and the time at which it begins.
    fn new(section: &str, now: &str) -> Self {
        let table = table(section);
        let schedule = Schedule::of_path(&table, "p");
        Self {
            schedule,
            table,
            now_ns: utc_ns(now),
            playing: None,
            lengths_s: BTreeMap::new(),
            broken: BTreeSet::new(),
            log: Vec::new(),
            failures: Vec::new(),
            tells_lengths: true,
            used: BTreeSet::new(),
        }
    }

    fn with_lengths<const N: usize>(mut self, lengths_s: [(&str, i64); N]) -> Self {
        self.lengths_s = lengths_s.map(|(title, length_s)| (title.to_owned(), length_s)).into();
        self
    }

    fn length_ns(&self, title: &str) -> i64 {
        self.lengths_s.get(title).copied().unwrap_or(60) * NS_PER_S
    }

    /// Asks until a title opens.
    fn prepare(&mut self) -> Result<Upcoming, Idle> {
        for _ in 0..3_000 {
            let next = self.schedule.next(self.now_ns);
            assert_eq!(self.schedule.next(self.now_ns), next, "asked again");
            match next {
                Next::WaitUntil(time_ns) => return Err(Idle::Until(time_ns)),
                Next::Nothing(reason) => return Err(Idle::Nothing(reason)),
                Next::Play(upcoming) if self.broken.contains(&*upcoming.title) => {
                    self.failures.push((self.now_ns, upcoming.title.to_string()));
                    self.schedule.handle_failed(upcoming.item, "no such title", self.now_ns);
                }
                Next::Play(upcoming) => {
                    if self.tells_lengths {
                        let length_ns = self.length_ns(&upcoming.title);
                        self.schedule.handle_length(upcoming.item, length_ns);
                    }
                    return Ok(upcoming);
                }
            }
        }
        panic!("no end of titles that fail: {:?}", self.failures.last());
    }

    /// Plays until then. Returns what it waits for, if nothing plays at the end.
    fn run_until(&mut self, end_ns: i64) -> Option<Idle> {
        for _ in 0..100_000 {
            let prepared = self.prepare();
            let is_over = self.playing.is_none_or(|(_, end_ns)| end_ns <= self.now_ns);
            let is_cut = self.schedule.cut_at().is_some_and(|cut_ns| cut_ns <= self.now_ns);
            let is_free = is_over || is_cut || self.schedule.take_skip();
            match &prepared {
                Ok(next) if is_free && next.begins_utc_ns.is_none_or(|at| at <= self.now_ns) => {
                    self.begin(next);
                    continue;
                }
                _ => {}
            }
            if is_over && let Some((item, _)) = self.playing.take() {
                self.schedule.handle_ended(item, self.now_ns);
                continue;
            }
            let begins = prepared.as_ref().ok().and_then(|next| next.begins_utc_ns);
            let waits = match &prepared {
                Err(Idle::Until(time_ns)) => Some(*time_ns),
                _ => None,
            };
            let over = self.playing.map(|(_, end_ns)| end_ns);
            let cut = self.schedule.cut_at().filter(|_| self.playing.is_some());
            let events = [begins, waits, over, cut, self.schedule.revise_at()];
            let later = events.into_iter().flatten().filter(|time_ns| *time_ns > self.now_ns);
            let next_ns = later.min().unwrap_or(i64::MAX);
            if next_ns > end_ns {
                self.now_ns = end_ns;
                return prepared.err().filter(|_| self.playing.is_none());
            }
            self.now_ns = next_ns;
        }
        panic!("no end at {}", shown(self.now_ns));
    }

    fn begin(&mut self, next: &Upcoming) {
        assert!(self.used.insert(next.item), "{next:?} is new");
        self.schedule.handle_begun(next.item, self.now_ns);
        self.playing = Some((next.item, self.now_ns + self.length_ns(&next.title)));
        self.log.push((self.now_ns, next.title.to_string()));
    }

    fn run(&mut self, until: &str) -> Option<Idle> {
        self.run_until(utc_ns(until))
    }

    /// What began since the last call: time of day in UTC, title.
    fn begun(&mut self) -> Vec<String> {
        let log = std::mem::take(&mut self.log);
        log.into_iter().map(|(time_ns, title)| format!("{} {title}", time_of(time_ns))).collect()
    }

    fn states(&self) -> Vec<String> {
        let info = self.schedule.info(self.table.find("p"));
        let word = |item: &info::ItemInfo| format!("{} {} {:?}", item.item, item.title, item.state);
        info.items.iter().map(word).collect()
    }
}

fn table(section: &str) -> Arc<PathTable> {
    let text = format!("[path.p]\nplaylist_clock = \"utc\"\n{section}\n");
    config::load(Some(("f", &text)), [], &[]).unwrap().config.paths
}

fn utc_ns(text: &str) -> i64 {
    let text = if text.contains('T') { text.to_owned() } else { format!("2026-11-29T{text}Z") };
    i64::try_from(text.parse::<Timestamp>().unwrap().as_nanosecond()).unwrap()
}

fn shown(utc_ns: i64) -> String {
    Timestamp::from_nanosecond(utc_ns.into()).unwrap().to_string()
}

fn time_of(utc_ns: i64) -> String {
    shown(utc_ns).split_once('T').unwrap().1.trim_end_matches('Z').to_owned()
}
