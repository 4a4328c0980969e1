//! Queues of a path's readers: readers that are live, and readers that catch up.
//!
//! ```text
//!  waiting [a b c]  --a batch arrives--> ready [a b c]   one move, however many readers there are
//!  waiting [c b]     <--pop, from the end-- ready [a]    so the last reader is first next time
//!  behind  [x y]     woken by the clock, popped in the time that live readers leave
//! ```
//! A popped reader waits for the next batch. A reader that is queued anew, or deferred, gets a new
//! ticket; older entries of the reader are stale. The order turns around with each batch, so over
//! time no reader is served later than another.
//!
//! Invariant: a waiting reader comes up with the next batch. Bound: one entry for each reader, and
//! one more for each time that a reader was woken since the last batch. DESIGN section 5.4.

use std::collections::VecDeque;

use slab::Slab;

use crate::live::core::path::{LivePath, PathKey, ReaderKey};
use crate::live::core::reader::{FeedState, Reader, To};

/// An entry of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Queued {
    pub(crate) index: u32,
    pub(crate) serial: u32,
    /// Ticket of the reader at this entry; a reader with another ticket makes the entry stale.
    pub(crate) ticket: u32,
}

impl Queued {
    pub(crate) fn key(self, path: PathKey) -> ReaderKey {
        ReaderKey { path, index: self.index, serial: self.serial }
    }
}

/// The three queues of a path: see the module.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    ready: VecDeque<Queued>,
    behind: VecDeque<Queued>,
    waiting: VecDeque<Queued>,
}

impl Queues {
    /// Adds a reader to be served.
    pub(crate) fn add(&mut self, queued: Queued, is_behind: bool) {
        // A new entry is popped last, as entries are popped from the end.
        if is_behind { self.behind.push_front(queued) } else { self.ready.push_front(queued) }
    }

    /// A batch arrived: all waiting readers become ready, after the readers that are ready already.
    pub(crate) fn release(&mut self) {
        self.waiting.append(&mut self.ready);
        std::mem::swap(&mut self.ready, &mut self.waiting);
    }

    /// The next live reader whose entry is not stale.
    pub(crate) fn pop_ready(&mut self, is_newest: impl FnMut(Queued) -> bool) -> Option<Queued> {
        Self::pop(&mut self.ready, &mut self.waiting, is_newest)
    }

    /// The next reader that catches up, whose entry is not stale.
    pub(crate) fn pop_behind(&mut self, is_newest: impl FnMut(Queued) -> bool) -> Option<Queued> {
        Self::pop(&mut self.behind, &mut self.waiting, is_newest)
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
        mut is_newest: impl FnMut(Queued) -> bool,
    ) -> Option<Queued> {
        // Bounded: each round takes one entry out.
        loop {
            let queued = from.pop_back()?;
            if is_newest(queued) {
                waiting.push_back(queued);
                return Some(queued);
            }
        }
    }
}

impl LivePath {
    /// Prefetches the cache lines of the next eight readers. Thousands of readers are more than the
    /// cache holds, and independent loads overlap (DESIGN section 6).
    pub fn touch_next(&self, is_behind: bool) {
        let queue = if is_behind { &self.queues.behind } else { &self.queues.ready };
        let next = || queue.iter().rev().take(TOUCHED_MAX);
        let reader = |queued: &Queued| self.readers.get(queued.index as usize).map(|(_, it)| it);
        let owners = next().fold(0, |sum, queued| sum ^ reader(queued).map_or(0, |r| r.owner));
        let streams = next().filter_map(|queued| reader(queued)?.streams.first());
        let sum = streams.fold(owners, |sum, stream| {
            let cursor = &stream.cursor;
            let parts = stream.packets_sent ^ cursor.place.no ^ u64::from(cursor.rewrite_from.1);
            sum ^ parts
                ^ u64::from(cursor.last_sent.is_some())
                ^ u64::from(cursor.rewrite.is_some())
                ^ u64::from(matches!(stream.to, To::Datagrams { .. }))
        });
        std::hint::black_box(sum);
    }

    /// The next live reader to serve. The reader comes up again with the next batch.
    pub fn pop_ready(&mut self) -> Option<ReaderKey> {
        let Self { queues, readers, key, .. } = self;
        queues.pop_ready(|queued| is_newest(readers, queued)).map(|queued| queued.key(*key))
    }

    /// The next reader to serve that catches up.
    pub fn pop_behind(&mut self) -> Option<ReaderKey> {
        let Self { queues, readers, key, .. } = self;
        queues.pop_behind(|queued| is_newest(readers, queued)).map(|queued| queued.key(*key))
    }

    /// Queues a reader that has more to send, or may send again, after the other readers.
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

    /// Keeps a popped reader from coming up with the next batch: the clock wakes the reader.
    pub fn defer(&mut self, key: ReaderKey) {
        if let Some(reader) = self.reader_mut(key) {
            reader.ticket = reader.ticket.wrapping_add(1);
        }
    }

    /// Whether there are readers to serve; they may have left by now.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        !self.queues.is_empty()
    }

    /// Upper bound of the live readers to serve: entries of readers that have left count, too.
    #[must_use]
    pub fn ready_count(&self) -> usize {
        self.queues.ready_count()
    }

    /// Upper bound of the catching-up readers to serve: entries of readers that have left count,
    /// too.
    #[must_use]
    pub fn behind_count(&self) -> usize {
        self.queues.behind_count()
    }
}

/// Readers whose cache lines are loaded together.
pub const TOUCHED_MAX: usize = 8;

/// Whether an entry has the present ticket of a playing reader. Such a reader counts as dequeued.
fn is_newest(readers: &mut Slab<(u32, Reader)>, queued: Queued) -> bool {
    let Some((serial, reader)) = readers.get_mut(queued.index as usize) else { return false };
    let is_newest = (*serial, reader.ticket) == (queued.serial, queued.ticket);
    if is_newest {
        reader.is_queued = false;
    }
    is_newest && reader.state == FeedState::Playing
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
    fn readers_are_served_in_reverse_order_with_each_batch_and_unserved_readers_first() {
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
    fn reader_that_catches_up_is_in_a_queue_of_its_own_until_it_was_served() {
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
    fn stale_queue_entry_is_dropped() {
        let mut queues = Queues::default();
        (0..3).for_each(|index| queues.add(queued(index), false));
        assert_eq!(queues.pop_ready(|queued| queued.index == 1), Some(queued(1)));
        assert_eq!(pop_all(&mut queues), [2]);
    }
}
