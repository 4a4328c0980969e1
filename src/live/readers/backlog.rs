//! Work for each of many readers, some of them in a turn.
//!
//! ```text
//! path ends --> leaving  --LEAVING_STREAMS_A_TURN--> BYE, freed
//! tick      --> looking  --LOOKED_AT_A_TURN--------> reports, timeouts
//! batch     --> starting --STARTS_A_TURN-----------> PLAYs that wait for it are answered
//! ```
//! Thousands of readers at once would delay a turn, and more datagrams than the io_uring ring has
//! room for would be dropped. The lists hold readers that are to be told, not messages.
//!
//! Invariant: a reader is no session any more from the end of its path on, and gets no more
//! packets: the path may live on with another source. A reader's path is found by its key only:
//! another path may have taken the name.
//! Bounds: the readers of a shard, once in each list. The limits of a turn are for all paths
//! together.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use crate::live::hub::Hub;
use crate::live::readers::Readers;
use crate::session::cx::Cx;

/// Lists of the readers to work on: see the module.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    leaving: VecDeque<Leaving>,
    /// Streams that may still be ended in this turn.
    room: Option<usize>,
    /// PLAY requests that may still be examined in this turn.
    starts_room: Option<usize>,
    /// The place of the next reader to look at.
    looking: Option<usize>,
    /// Readers that wait for an answer to PLAY, by path.
    starting: HashMap<Arc<str>, Starting>,
    /// Paths where more PLAY requests may be answered without a further batch, in order.
    again: VecDeque<Arc<str>>,
}

#[derive(Debug)]
struct Leaving {
    index: u32,
    /// Serial of the reader: another reader may have taken the place.
    serial: u32,
    why: &'static str,
}

/// Readers whose PLAY waits, each once; turns continue from `next` on.
#[derive(Debug, Default)]
struct Starting {
    readers: BTreeSet<u32>,
    next: u32,
}

impl Backlog {
    /// Whether there is work without any further event.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.leaving.is_empty() || self.looking.is_some() || !self.again.is_empty()
    }

    /// Begins to look at all readers, unless that is under way.
    pub(crate) fn look_after_all(&mut self) {
        self.looking.get_or_insert(0);
    }

    /// A reader's PLAY waits for packets of its path.
    pub(crate) fn wait_for_start(&mut self, path: &Arc<str>, index: u32) {
        self.starting.entry(Arc::clone(path)).or_default().readers.insert(index);
    }

    /// A reader's PLAY has been answered, or the reader has ended.
    pub(crate) fn forget_start(&mut self, path: &str, index: u32) {
        if let Some(starting) = self.starting.get_mut(path)
            && starting.readers.remove(&index)
            && starting.readers.is_empty()
        {
            self.starting.remove(path);
        }
    }

    /// Up to `most` readers whose turn it is, and whether there are more.
    fn next_to_start(&mut self, path: &str, most: usize) -> (Vec<u32>, bool) {
        let Some(Starting { readers, next }) = self.starting.get_mut(path) else {
            return (Vec::new(), false);
        };
        let round = readers.range(*next..).chain(readers.range(..*next));
        let turn: Vec<u32> = round.take(most).copied().collect();
        if let Some(last) = turn.last() {
            *next = last.wrapping_add(1);
        }
        let is_part = turn.len() < readers.len();
        (turn, is_part)
    }
}

impl Readers {
    /// Works on some readers of each list.
    pub(crate) fn go_on_with_backlog(&mut self, cx: &mut Cx, hub: &mut Hub) {
        (self.backlog.room, self.backlog.starts_room) = (None, None);
        self.go_on_dismissing(cx, hub);
        self.go_on_looking(cx, hub);
        self.go_on_starting(cx, hub);
    }

    /// Ends these readers from the server's side.
    pub(crate) fn dismiss_readers(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        places: impl Iterator<Item = u32>,
        why: &'static str,
    ) {
        for index in places {
            let Some(reader) = self.table.get(index as usize) else { continue };
            let (id, serial, key) = (reader.client.id, reader.serial, reader.key);
            self.backlog.forget_start(&reader.path, index);
            if let Some(path) = hub.paths.path_of(key) {
                path.pause(key);
            }
            // The session takes no more commands, but its client may send PAUSE or TEARDOWN.
            if reader.is_session() && cx.directory.forget_id(id) {
                self.recently_closed.add(id);
            }
            self.backlog.leaving.push_back(Leaving { index, serial, why });
        }
        self.go_on_dismissing(cx, hub);
    }

    fn go_on_dismissing(&mut self, cx: &mut Cx, hub: &mut Hub) {
        let mut room = self.backlog.room.unwrap_or(LEAVING_STREAMS_A_TURN);
        while room > 0
            && let Some(Leaving { index, serial, why }) = self.backlog.leaving.pop_front()
        {
            let reader = self.table.get(index as usize);
            let Some(reader) = reader.filter(|reader| reader.serial == serial) else { continue };
            room = room.saturating_sub(reader.streams.len().max(1));
            self.dismiss_reader(cx, hub, index, why);
        }
        self.backlog.room = Some(room);
    }

    pub(crate) fn go_on_looking(&mut self, cx: &mut Cx, hub: &mut Hub) {
        let Some(from) = self.backlog.looking else { return };
        let places = self.table.capacity();
        let end = from.saturating_add(PLACES_A_TURN).min(places);
        let (mut place, mut looked_at) = (from, 0);
        while place < end && looked_at < LOOKED_AT_A_TURN {
            if self.table.contains(place) {
                looked_at += 1;
                let index = u32::try_from(place).unwrap_or(u32::MAX);
                self.note_skips(cx, hub, index);
                self.look_after(cx, hub, index);
            }
            place += 1;
        }
        self.backlog.looking = (place < places).then_some(place);
    }

    /// Works on paths one after the other; a path with more readers goes to the end.
    fn go_on_starting(&mut self, cx: &mut Cx, hub: &mut Hub) {
        let mut waiting = std::mem::take(&mut self.backlog.again);
        while self.backlog.starts_room != Some(0)
            && let Some(path) = waiting.pop_front()
        {
            self.retry_plays(cx, hub, &path);
        }
        waiting.append(&mut self.backlog.again);
        self.backlog.again = waiting;
    }

    /// A batch has arrived: PLAY requests of its path may be answered.
    pub(crate) fn retry_plays(&mut self, cx: &mut Cx, hub: &mut Hub, path: &Arc<str>) {
        let room = self.backlog.starts_room.unwrap_or(STARTS_A_TURN);
        let (turn, is_part) = self.backlog.next_to_start(path, room);
        self.backlog.starts_room = Some(room - turn.len());
        let mut answered = 0;
        for index in turn {
            answered += usize::from(self.try_answer_play(cx, hub, index));
        }
        // If no PLAY could be answered, the other ones wait for the next batch, too.
        if is_part && (answered > 0 || room == 0) && !self.backlog.again.contains(path) {
            self.backlog.again.push_back(Arc::clone(path));
        }
    }
}

/// Each stream takes a send of the ring: a quarter of its room (`RingConfig::run_slots`).
const LEAVING_STREAMS_A_TURN: usize = 256;
/// A few hundred reports at most, and half a millisecond without any.
const LOOKED_AT_A_TURN: usize = 256;
/// Places are mostly free after many readers have left.
const PLACES_A_TURN: usize = 4_096;
/// Answers of some 10 us each.
const STARTS_A_TURN: usize = 64;
