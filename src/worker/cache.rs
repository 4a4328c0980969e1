//! A cache in which things are made once, however many ask.
//!
//! ```text
//! begin(key) -> Hit     it is there
//!            -> Joined  somebody makes it: the reply waits with him
//!            -> Make    you make it; land() gives you everybody's reply
//! ```
//! Who joins does not block a worker: only his reply waits, and it is answered by the maker.
//! A flight that does not land (a panic) answers its waiters by dropping their replies.
//!
//! Bounds: those of [`Lru`], and `WAITERS_MAX` replies on one flight; the next is refused.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::lru::Lru;
use super::reply::Reply;

/// A cache that makes each value once, for all tasks that want it.
#[derive(Debug)]
pub(super) struct Cache<K, V> {
    shelves: Mutex<Shelves<K, V>>,
}

#[derive(Debug)]
struct Shelves<K, V> {
    lru: Lru<K, V>,
    flights: HashMap<K, Vec<Reply>>,
}

/// What to do about a key.
#[derive(Debug)]
pub(super) enum Begin<K: Clone + Eq + Hash, V> {
    /// Answer with this.
    Hit(V, Reply),
    /// Nothing to do.
    Joined,
    /// Make it, then land.
    Make(Flight<K, V>),
}

impl<K: Clone + Eq + Hash, V> Cache<K, V> {
    pub(super) fn new(count_max: usize, cost_max: usize) -> Self {
        Self::keeping(count_max, cost_max, |_| false)
    }

    /// A cache that forgets no value of which `is_held` says that somebody else has it too.
    pub(super) fn keeping(count_max: usize, cost_max: usize, is_held: fn(&V) -> bool) -> Self {
        let lru = Lru::new(count_max, cost_max).keeping(is_held);
        Self { shelves: Mutex::new(Shelves { lru, flights: HashMap::new() }) }
    }

    pub(super) fn begin(self: &Arc<Self>, key: K, reply: Reply) -> Begin<K, V>
    where
        V: Clone,
    {
        let mut shelves = self.lock();
        if let Some(value) = shelves.lru.get(&key) {
            return Begin::Hit(value.clone(), reply);
        }
        if let Some(waiters) = shelves.flights.get_mut(&key) {
            if waiters.len() < WAITERS_MAX {
                waiters.push(reply);
            } else {
                // Dropping the reply delivers a failure: not while the lock is held.
                drop(shelves);
                drop(reply);
            }
            return Begin::Joined;
        }
        shelves.flights.insert(key.clone(), vec![reply]);
        Begin::Make(Flight { cache: Arc::clone(self), key: Some(key) })
    }

    pub(super) fn remove_if(&self, is_unwanted: impl Fn(&K) -> bool) {
        let gone = self.lock().lru.remove_if(is_unwanted);
        drop(gone);
    }

    /// Forgets values that nobody holds, oldest first, until `count_max` are left.
    pub(super) fn shrink(&self, count_max: usize) {
        let gone = self.lock().lru.shrink(count_max);
        // Unmapping takes its time.
        drop(gone);
    }

    pub(super) fn count(&self) -> usize {
        self.lock().lru.count()
    }

    pub(super) fn cost(&self) -> usize {
        self.lock().lru.cost()
    }

    /// A panic while the lock is held leaves at worst an entry that costs nothing.
    fn lock(&self) -> MutexGuard<'_, Shelves<K, V>> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The duty to make what belongs to a key.
#[derive(Debug)]
pub(super) struct Flight<K: Clone + Eq + Hash, V> {
    cache: Arc<Cache<K, V>>,
    /// Gone once landed: from then on somebody else may fly for the same key.
    key: Option<K>,
}

impl<K: Clone + Eq + Hash, V> Flight<K, V> {
    /// Puts `made` (a value and its cost; `None` when it could not be made) into the cache and
    /// returns the replies of all who wait.
    #[must_use]
    pub(super) fn land(mut self, made: Option<(V, usize)>) -> Vec<Reply> {
        let Some(key) = self.key.take() else { return Vec::new() };
        let mut shelves = self.cache.lock();
        let waiters = shelves.flights.remove(&key).unwrap_or_default();
        let gone = made.map(|(value, cost)| shelves.lru.insert(key, value, cost));
        drop(shelves);
        // Unmapping and freeing take their time.
        drop(gone);
        waiters
    }
}

impl<K: Clone + Eq + Hash, V> Drop for Flight<K, V> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            let waiters = self.cache.lock().flights.remove(&key);
            drop(waiters);
        }
    }
}

/// Replies that wait for one flight; sessions that start the same window at the same moment.
const WAITERS_MAX: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::super::reply::tests::{desk, open_reply};
    use super::*;
    use crate::poll::task::{OpenFailure, Outcome};

    fn tell(replies: Vec<Reply>) {
        for reply in replies {
            reply.send(Outcome::Opened(Err(OpenFailure::NotFound)));
        }
    }

    #[test]
    fn who_asks_while_it_is_made_is_answered_by_the_maker() {
        let (desk, kept) = desk();
        let cache: Arc<Cache<u8, u32>> = Arc::new(Cache::new(4, 100));
        let Begin::Make(flight) = cache.begin(1, open_reply(&desk, 10)) else { panic!("made?") };
        assert!(matches!(cache.begin(1, open_reply(&desk, 11)), Begin::Joined));
        assert!(matches!(cache.begin(2, open_reply(&desk, 12)), Begin::Make(_)));
        tell(flight.land(Some((77, 5))));
        let tickets: Vec<u64> =
            kept.lock().unwrap().iter().map(|done| done.owner.number()).collect();
        // 12's flight was dropped at once, and with it his reply.
        assert_eq!(tickets, [12, 10, 11]);
        let Begin::Hit(77, reply) = cache.begin(1, open_reply(&desk, 13)) else { panic!("hit?") };
        tell(vec![reply]);
        assert_eq!((cache.count(), cache.cost()), (1, 5));
    }

    #[test]
    fn flight_that_fails_leaves_nothing_behind_and_can_be_tried_again() {
        let (desk, kept) = desk();
        let cache: Arc<Cache<u8, u32>> = Arc::new(Cache::new(4, 100));
        let Begin::Make(flight) = cache.begin(1, open_reply(&desk, 1)) else { panic!("made?") };
        assert!(matches!(cache.begin(1, open_reply(&desk, 2)), Begin::Joined));
        drop(flight);
        assert_eq!(kept.lock().unwrap().len(), 2);
        let Begin::Make(flight) = cache.begin(1, open_reply(&desk, 3)) else { panic!("made?") };
        tell(flight.land(None));
        assert!(matches!(cache.begin(1, open_reply(&desk, 4)), Begin::Make(_)));
        assert_eq!(cache.count(), 0);
    }
}
