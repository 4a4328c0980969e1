//! Connections in the order in which they came, of which the oldest makes room for a new one.
//!
//! ```text
//!  accepted --push--> [k1 k2 k3 ..] --end_oldest--> the first that is still what it was
//! ```
//! A player makes its first request within a round trip, a stranger who holds connections does
//! not: whoever has waited longest is the stranger. Those that have gone on stay in the queue until
//! they are met, or until it is twice as long as it may be useful.
//! Bound: twice as many keys as there may be connections.

use std::collections::VecDeque;

use crate::poll::poll_table::EntryKey;

/// Keys of connections, oldest first.
#[derive(Debug, Default)]
pub(super) struct Oldest {
    keys: VecDeque<EntryKey>,
}

impl Oldest {
    /// Adds the newest of `count_max` connections at most; `is_one` says which still are.
    pub(super) fn push(
        &mut self,
        key: EntryKey,
        count_max: usize,
        mut is_one: impl FnMut(EntryKey) -> bool,
    ) {
        if self.keys.len() >= count_max.saturating_mul(2) {
            self.keys.retain(|key| is_one(*key));
        }
        self.keys.push_back(key);
    }

    /// Takes the oldest that still is one.
    pub(super) fn take(&mut self, mut is_one: impl FnMut(EntryKey) -> bool) -> Option<EntryKey> {
        loop {
            let key = self.keys.pop_front()?;
            if is_one(key) {
                return Some(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(index: u32) -> EntryKey {
        EntryKey { index, generation: 1 }
    }

    #[test]
    fn oldest_that_still_waits_is_taken_and_those_that_went_on_are_forgotten() {
        let mut oldest = Oldest::default();
        for index in 0..4 {
            oldest.push(key(index), 2, |_| true);
        }
        assert_eq!(oldest.take(|key| key.index != 0), Some(key(1)));
        oldest.push(key(4), 2, |_| true);
        oldest.push(key(5), 2, |_| true);
        // Four are there: those that went on go when the next one comes.
        oldest.push(key(6), 2, |key| key.index >= 4);
        assert_eq!(oldest.keys, [key(4), key(5), key(6)]);
        assert_eq!(oldest.take(|_| false), None);
        assert_eq!(oldest.take(|_| true), None);
    }
}
