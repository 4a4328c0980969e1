//! A map that forgets what was used longest ago.
//!
//! Bounds: `count_max` entries and `cost_max` in sum, and what is held elsewhere beyond that; an
//! entry that costs more than `cost_max` by itself is not kept. Every use takes the next number;
//! the order is a tree of those numbers, so a use is logarithmic and there is no list of pointers
//! to get wrong. To make room may mean to look at all entries that are held.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// A map of bounded cost that drops the value used longest ago.
#[derive(Debug)]
pub(super) struct Lru<K, V> {
    slots: HashMap<K, Slot<V>>,
    order: BTreeMap<u64, K>,
    next_use: u64,
    cost: usize,
    cost_max: usize,
    count_max: usize,
    /// To forget such a value would free nothing.
    is_held: fn(&V) -> bool,
}

#[derive(Debug)]
struct Slot<V> {
    value: V,
    cost: usize,
    last_use: u64,
}

impl<K: Clone + Eq + Hash, V> Lru<K, V> {
    pub(super) fn new(count_max: usize, cost_max: usize) -> Self {
        Self {
            slots: HashMap::new(),
            order: BTreeMap::new(),
            next_use: 0,
            cost: 0,
            cost_max,
            count_max,
            is_held: |_| false,
        }
    }

    /// Does not forget a value as long as this says so of it.
    pub(super) fn keeping(self, is_held: fn(&V) -> bool) -> Self {
        Self { is_held, ..self }
    }

    pub(super) fn get(&mut self, key: &K) -> Option<&V> {
        let slot = self.slots.get_mut(key)?;
        if let Some(key) = self.order.remove(&slot.last_use) {
            slot.last_use = self.next_use;
            self.order.insert(self.next_use, key);
            self.next_use += 1;
        }
        Some(&slot.value)
    }

    /// Returns what had to go, for the caller to drop where it holds no lock.
    pub(super) fn insert(&mut self, key: K, value: V, cost: usize) -> Vec<V> {
        let mut gone: Vec<V> = self.remove(&key).into_iter().collect();
        if cost > self.cost_max || self.count_max == 0 {
            gone.push(value);
            return gone;
        }
        while self.slots.len() >= self.count_max || self.cost.saturating_add(cost) > self.cost_max {
            let is_free =
                |key: &&K| self.slots.get(key).is_none_or(|slot| !(self.is_held)(&slot.value));
            let Some(oldest) = self.order.values().find(is_free).cloned() else { break };
            gone.extend(self.remove(&oldest));
        }
        self.order.insert(self.next_use, key.clone());
        self.slots.insert(key, Slot { value, cost, last_use: self.next_use });
        self.next_use += 1;
        self.cost += cost;
        gone
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let slot = self.slots.remove(key)?;
        self.order.remove(&slot.last_use);
        self.cost -= slot.cost;
        Some(slot.value)
    }

    /// Removes and returns values that nobody holds, oldest first, until `count_max` are left or
    /// all others are held.
    pub(super) fn shrink(&mut self, count_max: usize) -> Vec<V> {
        let excess = self.slots.len().saturating_sub(count_max);
        let is_free =
            |key: &&K| self.slots.get(key).is_some_and(|slot| !(self.is_held)(&slot.value));
        let keys: Vec<K> = self.order.values().filter(is_free).take(excess).cloned().collect();
        keys.iter().filter_map(|key| self.remove(key)).collect()
    }

    /// Removes and returns every value whose key is not wanted any more.
    pub(super) fn remove_if(&mut self, is_unwanted: impl Fn(&K) -> bool) -> Vec<V> {
        let keys: Vec<K> = self.slots.keys().filter(|key| is_unwanted(key)).cloned().collect();
        keys.iter().filter_map(|key| self.remove(key)).collect()
    }

    pub(super) fn count(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn cost(&self) -> usize {
        self.cost
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn oldest_entry_goes_first_and_use_keeps_an_entry() {
        let mut lru = Lru::new(10, 10);
        assert!(lru.insert("a", 1, 4).is_empty());
        assert!(lru.insert("b", 2, 4).is_empty());
        assert_eq!(lru.get(&"a"), Some(&1));
        assert_eq!(lru.insert("c", 3, 4), [2]);
        assert_eq!(lru.insert("big", 4, 11), [4]);
        assert_eq!(lru.insert("a", 5, 1), [1]);
        assert_eq!((lru.count(), lru.cost()), (2, 5));
        assert_eq!(lru.remove_if(|key| *key == "c"), [3]);
        assert_eq!((lru.count(), lru.cost()), (1, 1));
    }

    #[test]
    fn what_is_held_elsewhere_stays_until_it_is_not() {
        let mut lru =
            Lru::new(2, 10).keeping(|value: &std::rc::Rc<u8>| std::rc::Rc::strong_count(value) > 1);
        let held: Vec<_> = (0..3).map(std::rc::Rc::new).collect();
        for value in &held {
            assert!(lru.insert(**value, std::rc::Rc::clone(value), 5).is_empty());
        }
        assert_eq!((lru.count(), lru.cost()), (3, 15));
        assert!(lru.shrink(0).is_empty());
        drop(held);
        assert_eq!(lru.shrink(2), [std::rc::Rc::new(0)]);
        assert_eq!(lru.insert(3, std::rc::Rc::new(3), 5).len(), 1);
        assert_eq!((lru.count(), lru.cost()), (2, 10));
    }

    proptest! {
        #[test]
        fn lru_agrees_with_a_list_ordered_by_use(
            steps in prop::collection::vec((0_u8..3, 0_u8..8, 0_usize..12), 0..200),
            count_max in 0_usize..6,
        ) {
            let mut lru = Lru::new(count_max, 20);
            let mut oracle: Vec<(u8, usize)> = Vec::new();
            for (step, key, cost) in steps {
                let place = oracle.iter().position(|(known, _)| *known == key);
                let found = place.map(|place| oracle.remove(place));
                match step {
                    0 => {
                        prop_assert_eq!(lru.get(&key).copied(), found.map(|(_, cost)| cost));
                        oracle.extend(found);
                    }
                    1 => {
                        lru.insert(key, cost, cost);
                        oracle.push((key, cost));
                        while oracle.len() > count_max
                            || oracle.iter().map(|(_, cost)| cost).sum::<usize>() > 20
                        {
                            oracle.remove(0);
                        }
                    }
                    _ => prop_assert_eq!(lru.remove(&key), found.map(|(_, cost)| cost)),
                }
                prop_assert_eq!(lru.count(), oracle.len());
                prop_assert_eq!(lru.cost(), oracle.iter().map(|(_, cost)| cost).sum::<usize>());
            }
        }
    }
}
