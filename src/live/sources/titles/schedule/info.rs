//! What operators are shown of a playlist, and what is kept of it.
//!
//! Made on the shard of the path by copying numbers and shared names; it becomes text where it is
//! serialized. Bound: `PLAYLIST_ITEMS_MAX` items.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::{Schedule, What};
use crate::config::daily::DailyTime;
use crate::config::paths::PathConfig;

/// A playlist as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlaylistInfo {
    /// The list begins again behind its last title.
    #[serde(rename = "loop")]
    pub loops: bool,
    /// Whose time `at` is: `local`, `utc`.
    pub clock: &'static str,
    /// Title that is shown while no title of the list can play.
    #[serde(serialize_with = "text_or_null")]
    pub slate: Option<Arc<str>>,
    /// Whether operators have changed the list that is configured.
    pub edited: bool,
    /// Edits since the configuration's list was taken.
    pub revision: u64,
    /// What plays.
    pub playing: Option<PlayingInfo>,
    /// The list, in order.
    pub items: Vec<ItemInfo>,
    /// The highest number that an item has had.
    #[serde(skip)]
    pub last_number: u64,
}

/// What plays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlayingInfo {
    /// Its number in the list; `None`: the slate, or an item that is not in the list any more.
    pub item: Option<u64>,
    /// Its title.
    #[serde(serialize_with = "text")]
    pub title: Arc<str>,
    /// When it began, ns since 1970.
    #[serde(serialize_with = "utc", rename = "since")]
    pub since_utc_ns: i64,
    /// When it ends by its length, or is cut, ns since 1970.
    #[serde(serialize_with = "utc_or_null", rename = "until")]
    pub until_utc_ns: Option<i64>,
}

/// An item of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ItemInfo {
    /// Its number: it stays the same in edits.
    pub item: u64,
    /// Its title.
    #[serde(serialize_with = "text")]
    pub title: Arc<str>,
    /// Time of day at which it begins.
    #[serde(serialize_with = "time_or_null")]
    pub at: Option<DailyTime>,
    /// What becomes of it.
    pub state: ItemState,
    /// Why it is passed over.
    #[serde(serialize_with = "text_or_null")]
    pub reason: Option<Arc<str>>,
    /// When it begins by the clock, ns since 1970.
    #[serde(serialize_with = "utc_or_null", rename = "begins")]
    pub begins_utc_ns: Option<i64>,
}

/// What becomes of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ItemState {
    /// It plays.
    Playing,
    /// It is prepared to follow.
    Next,
    /// It could not be played, or its time passed; it is tried again.
    Skipped,
    /// Its turn comes.
    Waiting,
}

impl Schedule {
    /// The list as it is now.
    pub(crate) fn info(&self, config: &PathConfig) -> PlaylistInfo {
        let playing = self.playing.as_ref();
        let items = self.entries.iter().map(|entry| {
            let what = Some(What::Entry(entry.number));
            let missed = entry.missed_ns.map(|_| Arc::from("its time passed"));
            let reason = entry.broken.as_ref().map(|broken| Arc::clone(&broken.reason)).or(missed);
            let state = match () {
                () if playing.map(|playing| playing.what) == what => ItemState::Playing,
                () if self.chosen == what => ItemState::Next,
                () if reason.is_some() => ItemState::Skipped,
                () => ItemState::Waiting,
            };
            ItemInfo {
                item: entry.number,
                title: Arc::clone(&entry.title),
                at: entry.time(),
                state,
                reason,
                begins_utc_ns: Some(entry.next_ns()).filter(|time_ns| *time_ns < i64::MAX),
            }
        });
        let items: Vec<ItemInfo> = items.collect();
        let playing = playing.map(|playing| {
            let end_ns = playing.length_ns.map(|length| playing.begun_ns.saturating_add(length));
            PlayingInfo {
                item: match playing.what {
                    What::Entry(number) => self.index_of(number).map(|_| number),
                    What::Slate => None,
                },
                title: Arc::clone(&playing.title),
                since_utc_ns: playing.begun_ns,
                until_utc_ns: end_ns.into_iter().chain(self.cut_ns).min(),
            }
        });
        PlaylistInfo {
            loops: self.loops,
            clock: config.playlist_clock.as_str(),
            slate: self.slate.as_ref().map(|slate| Arc::clone(&slate.title)),
            edited: self.revision > 0,
            revision: self.revision,
            playing,
            items,
            last_number: self.last_entry,
        }
    }
}

fn text<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

fn text_or_null<S: Serializer>(text: &Option<Arc<str>>, serializer: S) -> Result<S::Ok, S::Error> {
    match text {
        Some(text) => serializer.serialize_str(text),
        None => serializer.serialize_none(),
    }
}

fn utc<S: Serializer>(utc_ns: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    let timestamp =
        Timestamp::from_nanosecond(i128::from(*utc_ns)).unwrap_or(Timestamp::UNIX_EPOCH);
    let round = Timestamp::from_millisecond(timestamp.as_millisecond());
    serializer.collect_str(&round.unwrap_or(timestamp))
}

fn utc_or_null<S: Serializer>(utc_ns: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
    match utc_ns {
        Some(utc_ns) => utc(utc_ns, serializer),
        None => serializer.serialize_none(),
    }
}

fn time_or_null<S: Serializer>(at: &Option<DailyTime>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => serializer.collect_str(at),
        None => serializer.serialize_none(),
    }
}
