//! Holders of something in the order in which they came, of which the oldest makes room.
//!
//! ```text
//!  push --> all      [k1 k2 k3 k4 ..] --take-----> the first that is still what it was
//!       `-> crowded  [k1 k4]          --take_of--> the same, of one address or site
//! ```
//! A player makes its first request within a round trip, a stranger who holds connections does
//! not: whoever has waited longest is the stranger. An address that has its share already
//! (`base::addresses`) loses its own oldest, so it harms nobody else. It has a queue of its own
//! from then on, until as many have come as there may be: who comes while no address is crowded
//! costs no look for its address. Those that have gone on stay here as long, or until they are met.
//! Bound: twice as many keys as there may be holders, each in up to three queues.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use super::prefix::Prefix;

/// Keys of holders, oldest first.
#[derive(Debug)]
pub struct Oldest<K> {
    all: VecDeque<Holder<K>>,
    crowded: HashMap<Prefix, VecDeque<K>>,
    /// Pushed since those that have gone on were left out.
    pushed: usize,
}

#[derive(Debug)]
struct Holder<K> {
    key: K,
    prefix: Prefix,
    site: Option<Prefix>,
}

impl<K> Default for Oldest<K> {
    fn default() -> Self {
        Self { all: VecDeque::new(), crowded: HashMap::new(), pushed: 0 }
    }
}

impl<K: Clone> Oldest<K> {
    /// Adds the newest of `count_max` holders at most; `is_one` says which still are.
    pub fn push(
        &mut self,
        key: K,
        ip: IpAddr,
        count_max: usize,
        mut is_one: impl FnMut(&K) -> bool,
    ) {
        if self.pushed >= count_max {
            self.pushed = 0;
            self.all.retain(|holder| is_one(&holder.key));
            self.crowded.clear();
        }
        self.pushed += 1;
        let holder = Holder { key, prefix: Prefix::of(ip), site: Prefix::site_of(ip) };
        if !self.crowded.is_empty() {
            for prefix in [Some(holder.prefix), holder.site].into_iter().flatten() {
                if let Some(keys) = self.crowded.get_mut(&prefix) {
                    keys.push_back(holder.key.clone());
                }
            }
        }
        self.all.push_back(holder);
    }

    /// The oldest that still is one, which stays.
    pub fn find(&mut self, mut is_one: impl FnMut(&K) -> bool) -> Option<K> {
        while let Some(holder) = self.all.front() {
            if is_one(&holder.key) {
                return Some(holder.key.clone());
            }
            self.all.pop_front();
        }
        None
    }

    /// The oldest of a prefix that still is one, which stays.
    pub fn find_of(&mut self, prefix: Prefix, mut is_one: impl FnMut(&K) -> bool) -> Option<K> {
        let found = self.take_of(prefix, &mut is_one)?;
        self.crowded.entry(prefix).or_default().push_front(found.clone());
        Some(found)
    }

    /// Takes the oldest that still is one.
    pub fn take(&mut self, mut is_one: impl FnMut(&K) -> bool) -> Option<K> {
        first(|| Some(self.all.pop_front()?.key), &mut is_one)
    }

    /// Takes the oldest of a prefix that still is one.
    pub fn take_of(&mut self, prefix: Prefix, mut is_one: impl FnMut(&K) -> bool) -> Option<K> {
        let Self { all, crowded, .. } = self;
        let keys = crowded.entry(prefix).or_insert_with(|| {
            let own = all.iter().filter(|of| of.prefix == prefix || of.site == Some(prefix));
            own.map(|holder| holder.key.clone()).collect()
        });
        let taken = first(|| keys.pop_front(), &mut is_one);
        if keys.is_empty() {
            crowded.remove(&prefix);
        }
        taken
    }

    /// Keys that are kept, in all queues.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.all.len() + self.crowded.values().map(VecDeque::len).sum::<usize>()
    }
}

fn first<K>(mut next: impl FnMut() -> Option<K>, is_one: &mut impl FnMut(&K) -> bool) -> Option<K> {
    loop {
        let key = next()?;
        if is_one(&key) {
            return Some(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn oldest_that_still_waits_is_taken_and_those_that_went_on_are_forgotten() {
        let mut oldest = Oldest::default();
        let from = ip("192.0.2.1");
        for key in 0..4 {
            oldest.push(key, from, 4, |_| true);
        }
        assert_eq!(oldest.take(|key| *key != 0), Some(1));
        // As many as there may be have come: those that went on go with the next one.
        oldest.push(4, from, 4, |key| *key >= 3);
        assert_eq!(oldest.all.iter().map(|holder| holder.key).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(oldest.take(|_| false), None);
        assert_eq!(oldest.take(|_| true), None);
    }

    #[test]
    fn address_or_site_loses_its_own_oldest() {
        let mut oldest = Oldest::default();
        let from = ["192.0.2.1", "2001:db8::1", "2001:db8:0:1::1", "192.0.2.1"];
        for (key, from) in from.iter().enumerate() {
            oldest.push(key, ip(from), 8, |_| true);
        }
        let site = Prefix::site_of(ip("2001:db8::")).unwrap();
        assert_eq!(oldest.take_of(Prefix::of(ip("2001:db8:0:1::")), |_| true), Some(2));
        assert_eq!(oldest.take_of(site, |_| true), Some(1));
        assert_eq!(oldest.take_of(site, |key| *key != 2), None);
        assert_eq!(oldest.take_of(Prefix::of(ip("192.0.2.1")), |_| true), Some(0));
        assert_eq!(oldest.take_of(Prefix::of(ip("192.0.2.2")), |_| true), None);
        oldest.push(4, ip("192.0.2.1"), 8, |_| true);
        assert_eq!(oldest.take_of(Prefix::of(ip("192.0.2.1")), |_| true), Some(3));
        assert_eq!(oldest.take_of(Prefix::of(ip("192.0.2.1")), |_| true), Some(4));
    }

    #[test]
    fn who_is_found_stays_until_it_is_gone() {
        let mut oldest = Oldest::default();
        for key in 0..4 {
            oldest.push(key, ip(["192.0.2.1", "192.0.2.2"][key % 2]), 8, |_| true);
        }
        let second = Prefix::of(ip("192.0.2.2"));
        for _ in 0..2 {
            assert_eq!(oldest.find(|_| true), Some(0));
            assert_eq!(oldest.find_of(second, |_| true), Some(1));
        }
        assert_eq!(oldest.find(|key| *key > 1), Some(2));
        assert_eq!(oldest.find_of(second, |key| *key > 1), Some(3));
        assert_eq!(oldest.find_of(second, |_| false), None);
        assert_eq!(oldest.find(|_| false), None);
        assert_eq!(oldest.kept(), 0);
    }

    #[test]
    fn queues_do_not_grow_with_those_that_came_and_went() {
        let mut oldest = Oldest::default();
        for key in 0..1_000_u16 {
            let from = IpAddr::from([0x2001, 0xdb8, 0, key, 0, 0, 0, 1]);
            // Eight at once, and each one more ends the oldest.
            let held = move |other: &u16| *other + 8 > key;
            oldest.push(key, from, 8, held);
            match key % 3 {
                0 => oldest.take(held),
                1 => oldest.take_of(Prefix::site_of(from).unwrap(), held),
                _ => None,
            };
            assert!(oldest.kept() <= 3 * 16, "{}", oldest.kept());
        }
    }
}
