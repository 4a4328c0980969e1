//! What a path that is fed by titles plays, and when: decisions alone, no packets.
//!
//! ```text
//!  [ a   b   news 20:15   c   d   film 22:00   e ]        a list is a circle
//!    '-----'            '-----'             '-'-> a, b     a block: titles between two times
//! ```
//! Titles play in order. When the time of an item comes, that item begins, wherever the list is:
//! what plays is cut, and what lies between is passed over. Behind the last title of a block the
//! block begins again, until the time of the next item; a block without titles is filled by the
//! slate, or by the timed title before it. A list that plays once goes on in order, and where
//! nothing is left before a time there is the slate, or silence.
//!
//! ```text
//!  next(now) --> Play(item)          begun(item), failed(item), ended(item), an edit --> next(now)
//!            --> WaitUntil(time)     revise_at(): the answer may change by itself
//!            --> Nothing(reason)     cut_at(): what plays is cut then
//! ```
//! Invariants: a time is played once; nothing that failed is tried again before `RETRY_AFTER`;
//! without one of the events above and before `revise_at` the answer of `next` is the same.
//! Bound: `PLAYLIST_ITEMS_MAX` items, each looked at a few times by every call.

mod choose;
pub mod edits;
pub mod info;

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::tz::TimeZone;

use crate::base::names::{CLIP_NAME, LIBRARY_PATH};
use crate::config::daily::DailyTime;
use crate::config::paths::{PathConfig, PathTable};
use crate::config::playlist::{PlaylistClock, PlaylistItem};

/// What a path plays: see the module. Wall-clock times are ns since 1970 (UTC).
#[derive(Debug)]
pub(crate) struct Schedule {
    entries: Vec<Entry>,
    slate: Option<Slate>,
    loops: bool,
    zone: TimeZone,
    /// Index of the entry that follows in order; `entries.len()` behind the last one.
    place: usize,
    playing: Option<Playing>,
    /// Answers of `next` that may begin, the newest last.
    offered: VecDeque<Offered>,
    /// Times until then have begun or have passed. `None` before the first question.
    done_until_ns: Option<i64>,
    /// What followed when the schedule was last brought up to date.
    chosen: Option<What>,
    cut_ns: Option<i64>,
    revise_ns: Option<i64>,
    is_skip_wanted: bool,
    last_item: u64,
    last_entry: u64,
    revision: u64,
}

/// A playing of an item; never used twice in the life of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ItemId(pub(crate) u64);

/// An item that is to be prepared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Upcoming {
    /// The playing that begins.
    pub(crate) item: ItemId,
    /// Name in the library, or `demo`.
    pub(crate) title: Arc<str>,
    /// Wall-clock time at which it is to begin; `None`: when the one before it ends.
    pub(crate) begins_utc_ns: Option<i64>,
}

impl Upcoming {
    /// Path of the title in URLs.
    pub(crate) fn url(&self) -> String {
        match &*self.title {
            CLIP_NAME => CLIP_NAME.to_owned(),
            name => format!("{LIBRARY_PATH}{name}"),
        }
    }
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// This item.
    Play(Upcoming),
    /// Nothing before then: ask again.
    WaitUntil(i64),
    /// Nothing can be played: the reason.
    Nothing(String),
}

/// An item of the list, as operators know it: its number stays the same in edits.
#[derive(Debug)]
struct Entry {
    number: u64,
    title: Arc<str>,
    timed: Option<Timed>,
    broken: Option<Broken>,
    /// The last time that passed without it.
    missed_ns: Option<i64>,
}

#[derive(Debug, Clone, Copy)]
struct Timed {
    time: DailyTime,
    /// The first time behind `done_until_ns`; `i64::MAX` for none.
    next_ns: i64,
}

#[derive(Debug)]
struct Slate {
    title: Arc<str>,
    broken: Option<Broken>,
}

/// Why a title did not play, and when it is tried again.
#[derive(Debug, Clone)]
struct Broken {
    reason: Arc<str>,
    since_ns: i64,
    retry_ns: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// The entry of this number.
    Entry(u64),
    Slate,
}

#[derive(Debug, Clone)]
struct Playing {
    item: ItemId,
    what: What,
    title: Arc<str>,
    begun_ns: i64,
    length_ns: Option<i64>,
    /// An edit has ended it.
    is_skipped: bool,
}

#[derive(Debug, Clone)]
struct Offered {
    upcoming: Upcoming,
    what: What,
    /// The time that it is played for.
    time_ns: Option<i64>,
    length_ns: Option<i64>,
}

/// What `choose` has found.
enum Choice {
    Play { what: What, title: Arc<str>, begins_ns: Option<i64>, time_ns: Option<i64> },
    WaitUntil(i64),
    Nothing(String),
}

impl Schedule {
    /// One title again and again: a slate.
    pub(crate) fn repeat(title: &str) -> Self {
        Self::new(Some(title.into()), true, TimeZone::UTC)
    }

    /// The list of a path: as it was edited before the last start, or as configured.
    pub(crate) fn of_path(table: &PathTable, path: &str) -> Self {
        let config = table.find(path);
        let mut schedule =
            Self::new(config.slate.clone(), config.playlist_loops, zone(table, config));
        match table.edited_playlists.get(path) {
            Some(edited) => {
                schedule.entries =
                    edited.items.iter().map(|(number, item)| Entry::new(*number, item)).collect();
                schedule.last_entry = edited.last_number;
                schedule.revision = 1;
            }
            None => {
                let numbered = (1_u64..).zip(config.playlist.iter());
                schedule.entries =
                    numbered.map(|(number, item)| Entry::new(number, item)).collect();
                schedule.last_entry = schedule.entries.len() as u64;
            }
        }
        schedule
    }

    fn new(slate: Option<Arc<str>>, loops: bool, zone: TimeZone) -> Self {
        Self {
            entries: Vec::new(),
            slate: slate.map(|title| Slate { title, broken: None }),
            loops,
            zone,
            place: 0,
            playing: None,
            offered: VecDeque::new(),
            done_until_ns: None,
            chosen: None,
            cut_ns: None,
            revise_ns: None,
            is_skip_wanted: false,
            last_item: 0,
            last_entry: 0,
            revision: 0,
        }
    }

    /// The item to prepare behind the one that plays, or the first one.
    pub(crate) fn next(&mut self, utc_ns: i64) -> Next {
        match self.settle(utc_ns) {
            Choice::WaitUntil(time_ns) => Next::WaitUntil(time_ns),
            Choice::Nothing(reason) => Next::Nothing(reason),
            Choice::Play { what, title, begins_ns, time_ns } => {
                Next::Play(self.offer(what, title, begins_ns, time_ns))
            }
        }
    }

    /// Packets of the item have begun to go out.
    pub(crate) fn handle_begun(&mut self, item: ItemId, utc_ns: i64) {
        let offered = self.offered.iter().find(|offered| offered.upcoming.item == item);
        let Some(Offered { upcoming, what, time_ns, length_ns }) = offered.cloned() else { return };
        self.offered.clear();
        let (title, begun_ns) = (upcoming.title, utc_ns);
        self.playing = Some(Playing { item, what, title, begun_ns, length_ns, is_skipped: false });
        match what {
            What::Slate => {
                if let Some(slate) = &mut self.slate {
                    slate.broken = None;
                }
            }
            What::Entry(number) => {
                if let Some(index) = self.index_of(number) {
                    let entry = &mut self.entries[index];
                    (entry.broken, entry.missed_ns) = (None, None);
                    self.place = index + 1;
                }
            }
        }
        if let Some(time_ns) = time_ns {
            self.pass_times(time_ns);
        }
        self.settle(utc_ns);
    }

    /// How long the item plays, known when its title was opened.
    pub(crate) fn handle_length(&mut self, item: ItemId, length_ns: i64) {
        let length = Some(length_ns.max(0));
        if let Some(playing) = self.playing.as_mut().filter(|playing| playing.item == item) {
            playing.length_ns = length;
        }
        let offered = self.offered.iter_mut().find(|offered| offered.upcoming.item == item);
        let Some(offered) = offered else { return };
        offered.length_ns = length;
        // The slate makes way for a title as soon as it is open.
        let is_waited_for = offered.what != What::Slate && offered.upcoming.begins_utc_ns.is_none();
        let slate = self.playing.as_ref().filter(|playing| playing.what == What::Slate);
        if let Some(slate) = slate.filter(|_| is_waited_for) {
            self.cut_ns = Some(slate.begun_ns);
        }
    }

    /// The item has played to its end, or was stopped, and nothing has begun behind it.
    pub(crate) fn handle_ended(&mut self, item: ItemId, utc_ns: i64) {
        if self.playing.as_ref().is_some_and(|playing| playing.item == item) {
            self.playing = None;
            self.settle(utc_ns);
        }
    }

    /// The item cannot be played (missing, other codecs, damaged): it is passed over, and tried
    /// again in a later round. True where this is news: the title has not failed so before.
    pub(crate) fn handle_failed(&mut self, item: ItemId, reason: &str, utc_ns: i64) -> bool {
        let playing = self.playing.as_ref().filter(|playing| playing.item == item);
        let offered = self.offered.iter().find(|offered| offered.upcoming.item == item);
        let what =
            playing.map(|playing| playing.what).or_else(|| offered.map(|offered| offered.what));
        let Some(what) = what else { return false };
        let was_playing = playing.is_some();
        if was_playing {
            self.playing = None;
        }
        self.offered.retain(|offered| offered.upcoming.item != item);
        let broken = match what {
            // Its file may have been replaced: it is opened again.
            What::Slate if was_playing => None,
            What::Slate => self.slate.as_mut().map(|slate| &mut slate.broken),
            What::Entry(number) => {
                let entry = self.entries.iter_mut().find(|entry| entry.number == number);
                entry.map(|entry| &mut entry.broken)
            }
        };
        let is_news = broken.map_or(was_playing, |broken| {
            let known = broken.as_ref().is_some_and(|before| *before.reason == *reason);
            let retry_ns = utc_ns.saturating_add(RETRY_AFTER_NS);
            *broken = Some(Broken { reason: reason.into(), since_ns: utc_ns, retry_ns });
            !known
        });
        self.settle(utc_ns);
        is_news
    }

    /// The path is not fed any more: nothing plays.
    pub(crate) fn rest(&mut self) {
        self.playing = None;
        self.offered.clear();
        (self.chosen, self.cut_ns, self.revise_ns) = (None, None, None);
        self.is_skip_wanted = false;
    }

    /// Time at which the item that plays is cut; `None`: it plays to its end.
    pub(crate) fn cut_at(&self) -> Option<i64> {
        self.cut_ns
    }

    /// Time at which the answers of `next` and `cut_at` may change by themselves.
    pub(crate) fn revise_at(&self) -> Option<i64> {
        self.revise_ns
    }

    /// True once after an edit that ends what plays: the feed goes to `next` at once.
    pub(crate) fn take_skip(&mut self) -> bool {
        std::mem::take(&mut self.is_skip_wanted)
    }

    /// Keeps the identity of an answer that is given again.
    fn offer(
        &mut self,
        what: What,
        title: Arc<str>,
        begins_utc_ns: Option<i64>,
        time_ns: Option<i64>,
    ) -> Upcoming {
        if let Some(last) = self.offered.back_mut()
            && (last.what, last.time_ns) == (what, time_ns)
            && last.upcoming.title == title
        {
            last.upcoming.begins_utc_ns = begins_utc_ns;
            return last.upcoming.clone();
        }
        self.last_item += 1;
        let upcoming = Upcoming { item: ItemId(self.last_item), title, begins_utc_ns };
        if self.offered.len() >= OFFERED_MAX {
            self.offered.pop_front();
        }
        let offered = Offered { upcoming: upcoming.clone(), what, time_ns, length_ns: None };
        self.offered.push_back(offered);
        upcoming
    }
}

impl Entry {
    fn new(number: u64, item: &PlaylistItem) -> Self {
        let timed = item.at.map(|time| Timed { time, next_ns: i64::MAX });
        Self { number, title: Arc::clone(&item.title), timed, broken: None, missed_ns: None }
    }

    fn next_ns(&self) -> i64 {
        self.timed.map_or(i64::MAX, |timed| timed.next_ns)
    }

    /// When a timed item is prepared, or tried again.
    fn preparation_ns(&self) -> i64 {
        let lead_ns = self.next_ns().saturating_sub(LEAD_NS);
        let retry_ns = self.broken.as_ref().map(|broken| broken.retry_ns);
        if self.next_ns() == i64::MAX { i64::MAX } else { retry_ns.unwrap_or(lead_ns).max(lead_ns) }
    }

    fn find_next(&mut self, zone: &TimeZone, behind_ns: i64) {
        if let Some(timed) = &mut self.timed {
            timed.next_ns = timed.time.next_after(zone, behind_ns).unwrap_or(i64::MAX);
        }
    }
}

/// Whether a title may be tried: a clock that was set back does not keep it waiting.
fn is_ready(broken: Option<&Broken>, now_ns: i64) -> bool {
    broken.is_none_or(|broken| now_ns >= broken.retry_ns || now_ns < broken.since_ns)
}

fn zone(table: &PathTable, config: &PathConfig) -> TimeZone {
    match config.playlist_clock {
        PlaylistClock::Local => table.zone.0.clone(),
        PlaylistClock::Utc => TimeZone::UTC,
    }
}

const NS_PER_S: i64 = 1_000_000_000;
/// A title that failed is tried again so much later at the earliest.
const RETRY_AFTER_NS: i64 = 10 * NS_PER_S;
/// An item with a time is prepared so long before it: a disk that has to spin up is in time.
const LEAD_NS: i64 = 30 * NS_PER_S;
/// An item begins so long behind its time at most; later, its time has passed.
const LATE_MAX_NS: i64 = 60 * NS_PER_S;
/// Nothing is begun for less than this: the item that has a time follows at once.
const GAP_MIN_NS: i64 = NS_PER_S;
/// A clock that is set back by more than this lets times come again.
const CLOCK_STEP_NS: i64 = 600 * NS_PER_S;
/// Between two questions while there is nothing to play.
const WAIT_MIN_NS: i64 = NS_PER_S;
/// Answers that are kept: what is prepared may begin although another answer was given since.
const OFFERED_MAX: usize = 4;

#[cfg(test)]
mod tests;
