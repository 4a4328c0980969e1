//! Edits of a schedule: by an operator while it plays, and by a new configuration.
//!
//! ```text
//!  insert, remove --> list, place moved along          skip --> what plays is passed over
//!  another list of the configuration --> what plays goes on where the new list has it
//! ```
//! Invariants: an edit that is refused changes nothing; an item keeps its number, and no number is
//! used twice; no two items begin at the same time.
//! Bound: `PLAYLIST_ITEMS_MAX` items.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Broken, Entry, Playing, Schedule, Slate, What, zone};
use crate::base::limits::PLAYLIST_ITEMS_MAX;
use crate::config::daily::DailyTime;
use crate::config::paths::{PathConfig, PathTable};
use crate::config::playlist::PlaylistItem;

/// What an operator may do to a playlist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlaylistEdit {
    /// Puts an item into the list.
    Insert {
        /// The item.
        item: PlaylistItem,
        /// Where.
        place: InsertPlace,
    },
    /// Takes an item out of the list; if it plays, what follows begins at once.
    Remove {
        /// Its number.
        number: u64,
    },
    /// Has what follows begin at once; the item that plays stays in the list.
    Skip,
}

/// Where an item is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InsertPlace {
    /// Behind all others.
    Last,
    /// In front of the item with this number.
    Before(u64),
    /// Behind the item with this number.
    After(u64),
    /// With so many items in front of it.
    At(usize),
}

/// Why an edit is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// The list is full.
    #[error("the playlist has {max} items, which is the most it may have")]
    Full {
        /// Items at most.
        max: usize,
    },
    /// No item has this number.
    #[error("the playlist has no item {number}")]
    NoItem {
        /// What was asked for.
        number: u64,
    },
    /// The list is shorter.
    #[error("place {place} is behind the end of the playlist, which has {count} items")]
    NoPlace {
        /// What was asked for.
        place: usize,
        /// Items of the list.
        count: usize,
    },
    /// Another item begins then.
    #[error("item {number}, {title}, begins at {at} already")]
    SameTime {
        /// The other item.
        number: u64,
        /// Its title.
        title: Arc<str>,
        /// The time.
        at: DailyTime,
    },
    /// There is nothing to be skipped.
    #[error("no title of the playlist plays")]
    NothingPlays,
}

impl Schedule {
    /// Carries out an edit: the number of the item that it was about.
    ///
    /// # Errors
    /// See [`EditError`].
    pub(crate) fn edit(&mut self, edit: &PlaylistEdit, utc_ns: i64) -> Result<u64, EditError> {
        let number = match edit {
            PlaylistEdit::Insert { item, place } => self.insert(item, *place)?,
            PlaylistEdit::Remove { number } => self.remove(*number)?,
            PlaylistEdit::Skip => self.skip()?,
        };
        self.settle(utc_ns);
        Ok(number)
    }

    fn insert(&mut self, item: &PlaylistItem, place: InsertPlace) -> Result<u64, EditError> {
        let count = self.entries.len();
        let find = |number| self.index_of(number).ok_or(EditError::NoItem { number });
        let index = match place {
            InsertPlace::Last => count,
            InsertPlace::Before(number) => find(number)?,
            InsertPlace::After(number) => find(number)? + 1,
            InsertPlace::At(place) if place <= count => place,
            InsertPlace::At(place) => return Err(EditError::NoPlace { place, count }),
        };
        if count >= PLAYLIST_ITEMS_MAX {
            return Err(EditError::Full { max: PLAYLIST_ITEMS_MAX });
        }
        if let Some(at) = item.at
            && let Some(other) = self.entries.iter().find(|entry| entry.time() == Some(at))
        {
            let (number, title) = (other.number, Arc::clone(&other.title));
            return Err(EditError::SameTime { number, title, at });
        }
        self.last_entry += 1;
        let mut entry = Entry::new(self.last_entry, item);
        if let Some(done_ns) = self.done_until_ns {
            entry.find_next(&self.zone, done_ns);
        }
        self.entries.insert(index, entry);
        // One that is put where the list is plays next.
        self.place += usize::from(index < self.place);
        self.revision += 1;
        Ok(self.last_entry)
    }

    fn remove(&mut self, number: u64) -> Result<u64, EditError> {
        let index = self.index_of(number).ok_or(EditError::NoItem { number })?;
        self.entries.remove(index);
        self.place -= usize::from(index < self.place);
        self.offered.retain(|offered| offered.what != What::Entry(number));
        self.stop_playing(|playing| playing.what == What::Entry(number));
        self.revision += 1;
        Ok(number)
    }

    fn skip(&mut self) -> Result<u64, EditError> {
        match self.playing.as_ref().map(|playing| playing.what) {
            Some(What::Entry(number)) => {
                self.stop_playing(|_| true);
                Ok(number)
            }
            Some(What::Slate) | None => Err(EditError::NothingPlays),
        }
    }

    fn stop_playing(&mut self, is_meant: impl Fn(&Playing) -> bool) {
        if let Some(playing) = self.playing.as_mut().filter(|playing| is_meant(playing)) {
            playing.is_skipped = true;
            self.is_skip_wanted = true;
        }
    }

    /// Takes over what the configuration now says of the path. A list that is another one than
    /// `before` takes the place of all edits.
    pub(crate) fn configure(
        &mut self,
        table: &PathTable,
        (before, after): (&PathConfig, &PathConfig),
        utc_ns: i64,
    ) {
        if before.playlist != after.playlist {
            self.replace(&after.playlist);
        }
        if before.slate != after.slate {
            self.slate = after.slate.clone().map(|title| Slate { title, broken: None });
            self.offered.retain(|offered| offered.what != What::Slate);
            self.stop_playing(|playing| playing.what == What::Slate);
        }
        self.loops = after.playlist_loops;
        let zone = zone(table, after);
        if self.zone != zone {
            self.zone = zone;
            if let Some(done_ns) = self.done_until_ns {
                self.set_done_until(done_ns);
            }
        }
        self.settle(utc_ns);
    }

    /// Another list: items that are in both keep their numbers, in order.
    fn replace(&mut self, items: &[PlaylistItem]) {
        let mut known: HashMap<PlaylistItem, Vec<(u64, Option<Broken>)>> = HashMap::new();
        for entry in self.entries.drain(..).rev() {
            let item = PlaylistItem { title: Arc::clone(&entry.title), at: entry.time() };
            known.entry(item).or_default().push((entry.number, entry.broken));
        }
        for item in items {
            let kept = known.get_mut(item).and_then(Vec::pop);
            let (number, broken) = kept.unwrap_or_else(|| {
                self.last_entry += 1;
                (self.last_entry, None)
            });
            let mut entry = Entry { broken, ..Entry::new(number, item) };
            if let Some(done_ns) = self.done_until_ns {
                entry.find_next(&self.zone, done_ns);
            }
            self.entries.push(entry);
        }
        let playing = self.playing.as_ref().map(|playing| playing.what);
        let index = match playing {
            Some(What::Entry(number)) => self.index_of(number).or_else(|| self.adopt()),
            Some(What::Slate) | None => None,
        };
        self.place = index.map_or(0, |index| index + 1);
        if index.is_none() {
            self.stop_playing(|playing| matches!(playing.what, What::Entry(_)));
        }
        self.offered.retain(|offered| match offered.what {
            What::Entry(number) => self.entries.iter().any(|entry| entry.number == number),
            What::Slate => true,
        });
        self.revision = 0;
    }

    /// The item that plays has another time now: it is the first one with its title.
    fn adopt(&mut self) -> Option<usize> {
        let playing = self.playing.as_mut()?;
        let index = self.entries.iter().position(|entry| entry.title == playing.title)?;
        playing.what = What::Entry(self.entries[index].number);
        Some(index)
    }
}

impl Entry {
    pub(super) fn time(&self) -> Option<DailyTime> {
        self.timed.map(|timed| timed.time)
    }
}
