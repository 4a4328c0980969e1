//! Which readers of a path are to be looked at: those that are live, and those that catch up.
//!
//! ```text
//!  waiting [a b c]  --a batch comes--> ready [a b c]     one move, however many they are
//!  waiting [c b]     <--pop, from the end-- ready [a]    so the last one comes first next time
//!  behind  [x y]     woken by the clock, popped with what time the others leave
//! ```
//! Whoever is popped waits for the next batch then; whoever is put in anew, or put off, gets a new
//! ticket, and older entries of his mean nothing. The order turns around with each batch: over time
//! nobody is served later than another.
//!
//! Invariant: a reader that waits comes up with the next batch. Bound: an entry a reader, and one
//! more for each time that one was woken since the last batch. DESIGN section 5.4.

use std::collections::VecDeque;

use slab::Slab;

use crate::live::core::path::{LivePath, PathKey, ReaderKey};
use crate::live::core::reader::{FeedState, Reader};

/// An entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Queued {
    pub(crate) index: u32,
    pub(crate) serial: u32,
    /// That of the reader, unless it was put in again since.
    pub(crate) ticket: u32,
}

impl Queued {
    pub(crate) fn key(self, path: PathKey) -> ReaderKey {
        ReaderKey { path, index: self.index, serial: self.serial }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    ready: VecDeque<Queued>,
    behind: VecDeque<Queued>,
    waiting: VecDeque<Queued>,
}

impl Queues {
    /// A reader is to be looked at.
    pub(crate) fn add(&mut self, queued: Queued, is_behind: bool) {
        // Popped last, as entries of `ready` are popped from its end.
        if is_behind { self.behind.push_front(queued) } else { self.ready.push_front(queued) }
    }

    /// A batch has come: all who wait are to be looked at, behind those who are to be already.
    pub(crate) fn release(&mut self) {
        self.waiting.append(&mut self.ready);
        std::mem::swap(&mut self.ready, &mut self.waiting);
    }

    /// The next one that is live and for which the entry is meant.
    pub(crate) fn pop_ready(&mut self, is_meant: impl FnMut(Queued) -> bool) -> Option<Queued> {
        Self::pop(&mut self.ready, &mut self.waiting, is_meant)
    }

    /// The next one that catches up.
    pub(crate) fn pop_behind(&mut self, is_meant: impl FnMut(Queued) -> bool) -> Option<Queued> {
        Self::pop(&mut self.behind, &mut self.waiting, is_meant)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.behind.is_empty()
    }

    pub(crate) fn ready_count(&self) -> usize {
        self.ready.len()
    }

    pub(crate) fn behind_count(&self) -> usize {
        self.behind.len()
    }

    fn pop(
        from: &mut VecDeque<Queued>,
        waiting: &mut VecDeque<Queued>,
        mut is_meant: impl FnMut(Queued) -> bool,
    ) -> Option<Queued> {
        // Bounded: each round takes one out.
        loop {
            let queued = from.pop_back()?;
            if is_meant(queued) {
                waiting.push_back(queued);
                return Some(queued);
            }
        }
    }
}

impl LivePath {
    /// Reads of those who are popped next what is read of them then, and who they are: thousands of
    /// readers are more than the cache holds, and loads that depend on nothing overlap (DESIGN
    /// section 6). How many there are.
    pub fn touch_next(&self, is_behind: bool, owners: &mut [u64; TOUCHED_MAX]) -> usize {
        let queue = if is_behind { &self.queues.behind } else { &self.queues.ready };
        let next = || queue.iter().rev().take(TOUCHED_MAX);
        let reader = |queued: &Queued| self.readers.get(queued.index as usize).map(|(_, it)| it);
        let mut count = 0;
        for (owner, queued) in owners.iter_mut().zip(next()) {
            *owner = reader(queued).map_or(u64::MAX, |reader| reader.owner);
            count += 1;
        }
        let streams = next().filter_map(|queued| reader(queued)?.streams.first());
        let sum = streams.fold(0_u64, |sum, stream| {
            let cursor = &stream.cursor;
            let parts = stream.packets_sent ^ cursor.place.no ^ u64::from(cursor.mapped_from.1);
            sum ^ parts ^ u64::from(cursor.trail.is_some()) ^ u64::from(cursor.mapping.is_some())
        });
        std::hint::black_box(sum);
        count
    }

    /// The next reader to look at, of those that are live. It comes up again with the next batch.
    pub fn pop_ready(&mut self) -> Option<ReaderKey> {
        let Self { queues, readers, key, .. } = self;
        queues.pop_ready(|queued| is_meant(readers, queued)).map(|queued| queued.key(*key))
    }

    /// The next one, of those that catch up.
    pub fn pop_behind(&mut self) -> Option<ReaderKey> {
        let Self { queues, readers, key, .. } = self;
        queues.pop_behind(|queued| is_meant(readers, queued)).map(|queued| queued.key(*key))
    }

    /// A reader has more to send, or may send again: it is looked at behind the others.
    pub fn queue(&mut self, key: ReaderKey) {
        let newest = self.ring.newest().map(|batch| batch.received());
        let Some((_, reader)) =
            self.readers.get_mut(key.index as usize).filter(|(serial, _)| *serial == key.serial)
        else {
            return;
        };
        if !reader.is_queued {
            (reader.is_queued, reader.ticket) = (true, reader.ticket.wrapping_add(1));
            let queued = Queued { index: key.index, serial: key.serial, ticket: reader.ticket };
            let is_behind = newest.is_some_and(|newest| reader.pace.due(newest) > newest);
            self.queues.add(queued, is_behind);
        }
    }

    /// A reader that was popped is not to come up with the next batch: it is queued at its time.
    pub fn defer(&mut self, key: ReaderKey) {
        if let Some(reader) = self.reader_mut(key) {
            reader.ticket = reader.ticket.wrapping_add(1);
        }
    }

    /// Whether there are readers to look at; they may be gone by now.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        !self.queues.is_empty()
    }

    /// Readers that are to be looked at, as many as there may be gone ones among them.
    #[must_use]
    pub fn ready_count(&self) -> usize {
        self.queues.ready_count()
    }

    /// The same, of those that catch up.
    #[must_use]
    pub fn behind_count(&self) -> usize {
        self.queues.behind_count()
    }
}

/// Readers whose loads overlap.
pub const TOUCHED_MAX: usize = 8;

/// Whether an entry of the queues is for a reader as it is now. It is looked at then.
fn is_meant(readers: &mut Slab<(u32, Reader)>, queued: Queued) -> bool {
    let Some((serial, reader)) = readers.get_mut(queued.index as usize) else { return false };
    let is_meant = (*serial, reader.ticket) == (queued.serial, queued.ticket);
    if is_meant {
        reader.is_queued = false;
    }
    is_meant && reader.state == FeedState::Playing
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queued(index: u32) -> Queued {
        Queued { index, serial: 0, ticket: 0 }
    }

    fn pop_all(queues: &mut Queues) -> Vec<u32> {
        std::iter::from_fn(|| queues.pop_ready(|_| true)).map(|queued| queued.index).collect()
    }

    #[test]
    fn order_turns_around_with_each_batch_and_who_was_not_served_comes_first() {
        let mut queues = Queues::default();
        (0..4).for_each(|index| queues.add(queued(index), false));
        assert_eq!(pop_all(&mut queues), [0, 1, 2, 3]);
        assert!(queues.is_empty(), "they wait");
        queues.release();
        assert_eq!(pop_all(&mut queues), [3, 2, 1, 0]);
        queues.release();
        assert_eq!(queues.pop_ready(|_| true), Some(queued(0)));
        queues.release();
        assert_eq!(pop_all(&mut queues), [1, 2, 3, 0]);
    }

    #[test]
    fn those_that_catch_up_are_apart_and_wait_with_the_others_then() {
        let mut queues = Queues::default();
        queues.add(queued(1), false);
        queues.add(queued(2), true);
        assert_eq!(pop_all(&mut queues), [1]);
        assert_eq!((queues.ready_count(), queues.behind_count()), (0, 1));
        assert_eq!(queues.pop_behind(|_| true), Some(queued(2)));
        queues.release();
        assert_eq!(pop_all(&mut queues), [2, 1]);
    }

    #[test]
    fn entry_that_means_nothing_any_more_is_dropped() {
        let mut queues = Queues::default();
        (0..3).for_each(|index| queues.add(queued(index), false));
        assert_eq!(queues.pop_ready(|queued| queued.index == 1), Some(queued(1)));
        assert_eq!(pop_all(&mut queues), [2]);
    }
}
