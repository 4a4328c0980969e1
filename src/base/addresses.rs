//! How much each address has of something that all share.
//!
//! ```text
//!  192.0.2.7        -> 192.0.2.7/32                      slot: mark (40 bits) | count (24 bits)
//!  2001:db8::5:6    -> 2001:db8::/64, 2001:db8::/48      found in one of a few neighbouring slots
//! ```
//! Whoever holds an [`AddressPlace`] is counted, under the prefix of its address and under that of
//! its site (`base::prefix`). One that has its share already is told whose share it is: then the
//! oldest of that prefix makes room (`base::oldest`), or the newcomer is refused.
//!
//! What all shards have together is counted by them together: the kernel spreads the connections of
//! one address over all shards, so a count of each shard's own would let one address have as many
//! times its share as there are shards. What each shard has of its own is counted by each: or an
//! address could have all of one shard's. Slots are atomic numbers: no shard waits for another.
//!
//! Invariant: an [`AddressPlace`] is counted from `enter` until it is dropped.
//! Bound: a fixed number of slots. An address whose neighbouring slots are all taken is not
//! counted: the limits on all addresses together hold for it. Two threads that enter the first of
//! one address at the same moment may both get a slot; what is in both is added up.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::prefix::Prefix;

/// What one address may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressLimit {
    /// One of another host.
    pub remote: u32,
    /// One of this host (loopback).
    pub local: u32,
    /// All addresses of one IPv6 /48 of the Internet.
    pub site: u32,
}

impl AddressLimit {
    /// What an address gets of `total` unless told otherwise. A quarter: an office or a hotel
    /// behind one address is served, and it takes four strangers to lock out everybody else.
    /// Three quarters for programs of this host: proxies, which speak for many, and load tests.
    /// Three quarters for a site, too: it may be a campus with all the players there are, and a
    /// stranger with all networks of a site leaves room for others.
    /// `SHARE_MIN` at least: where there is little for all, shares of it help nobody.
    #[must_use]
    pub fn share_of(total: usize) -> Self {
        let share = |parts: usize| {
            u32::try_from(total.saturating_mul(parts) / 4).unwrap_or(u32::MAX).max(SHARE_MIN)
        };
        Self { remote: share(1), local: share(3), site: share(3) }
    }

    /// The same, with so many for an address of another host. This host and a site have no less.
    #[must_use]
    pub fn with_remote(self, count: u32) -> Self {
        Self { remote: count, local: self.local.max(count), site: self.site.max(count) }
    }

    /// The same for all addresses.
    #[must_use]
    pub fn of_all(count: u32) -> Self {
        Self { remote: count, local: count, site: count }
    }
}

/// Whose counts are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Addresses of other hosts.
    Remote,
    /// Addresses of this host.
    Local,
    /// IPv6 /48s.
    Site,
}

/// Counts by client address.
#[derive(Debug)]
pub struct Addresses {
    limit: AddressLimit,
    slots: Box<[AtomicU64]>,
    hasher: RandomState,
}

/// What an address has, as a rule one.
#[derive(Debug)]
pub struct AddressPlace {
    addresses: Arc<Addresses>,
    /// Of its prefix and of its site. `None`: it is not counted.
    slots: [Option<usize>; 2],
    amount: u64,
}

impl Addresses {
    /// Of `total` that all addresses may have together.
    #[must_use]
    pub fn new(limit: AddressLimit, total: usize) -> Self {
        // Half of the slots stay free.
        let count = total.saturating_mul(2).next_power_of_two().clamp(SLOTS_MIN, SLOTS_MAX);
        Self {
            limit,
            slots: (0..count).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
        }
    }

    /// The usual shares of `total`.
    #[must_use]
    pub fn sharing(total: usize) -> Arc<Self> {
        Arc::new(Self::new(AddressLimit::share_of(total), total))
    }

    /// Counts one more of an address.
    ///
    /// # Errors
    /// The prefix that has as many as it may have.
    pub fn enter(self: &Arc<Self>, ip: IpAddr) -> Result<AddressPlace, Prefix> {
        self.enter_many(ip, 1)
    }

    /// Counts `amount` more of an address.
    ///
    /// # Errors
    /// As `enter`.
    pub fn enter_many(self: &Arc<Self>, ip: IpAddr, amount: u32) -> Result<AddressPlace, Prefix> {
        let amount = u64::from(amount);
        let (whose, limit) = match ip.to_canonical().is_loopback() {
            true => (Whose::Local, self.limit.local),
            false => (Whose::Remote, self.limit.remote),
        };
        let own = Key::new(self, Prefix::of(ip), whose);
        let site = Prefix::site_of(ip).map(|site| Key::new(self, site, Whose::Site));
        for (key, limit) in [(Some(own), limit), (site, self.limit.site)] {
            if let Some(key) = key
                && self.count_of(key) + amount > u64::from(limit)
            {
                return Err(key.prefix);
            }
        }
        let slots = [Some(own), site].map(|key| self.add(key?, amount));
        Ok(AddressPlace { addresses: Arc::clone(self), slots, amount })
    }

    /// Counts `amount` more of an address, whatever it may have: they were let in before.
    #[must_use]
    pub fn admit(self: &Arc<Self>, ip: IpAddr, amount: u32) -> AddressPlace {
        let is_local = ip.to_canonical().is_loopback();
        let whose = if is_local { Whose::Local } else { Whose::Remote };
        let own = Key::new(self, Prefix::of(ip), whose);
        let site = Prefix::site_of(ip).map(|site| Key::new(self, site, Whose::Site));
        let amount = u64::from(amount);
        let slots = [Some(own), site].map(|key| self.add(key?, amount));
        AddressPlace { addresses: Arc::clone(self), slots, amount }
    }

    /// What one address may have.
    #[must_use]
    pub fn limit(&self) -> AddressLimit {
        self.limit
    }

    /// What the one has that has most.
    #[must_use]
    pub fn most(&self, whose: Whose) -> u64 {
        let counts = self.slots.iter().map(|slot| slot.load(Relaxed));
        let counts = counts.filter(|value| (value >> COUNT_BITS) & WHOSE_MARKS == mark_of(whose));
        counts.map(|value| value & COUNT_MAX).max().unwrap_or(0)
    }

    /// All that is counted.
    #[must_use]
    pub fn counted(&self) -> u64 {
        let counts = self.slots.iter().map(|slot| slot.load(Relaxed));
        let site = mark_of(Whose::Site);
        let counts = counts.filter(|value| (value >> COUNT_BITS) & WHOSE_MARKS != site);
        counts.map(|value| value & COUNT_MAX).sum()
    }

    /// Slots that a key may be in.
    fn near(&self, key: Key) -> impl Iterator<Item = usize> {
        // Their number is a power of two.
        let last = self.slots.len() - 1;
        (0..NEAR).map(move |step| key.first.wrapping_add(step) & last)
    }

    fn count_of(&self, key: Key) -> u64 {
        let values = self.near(key).filter_map(|at| Some(self.slots.get(at)?.load(Relaxed)));
        let own = values.filter(|value| value >> COUNT_BITS == key.mark);
        own.map(|value| value & COUNT_MAX).sum()
    }

    /// Adds to the slot that a key has, or to a free one; returns its place.
    fn add(&self, key: Key, amount: u64) -> Option<usize> {
        let mut own = self.near(key);
        own.find(|at| self.add_at(*at, key.mark, amount, false))
            .or_else(|| self.near(key).find(|at| self.add_at(*at, key.mark, amount, true)))
    }

    /// Adds to a slot that has this mark, or takes a free one. False: it is neither.
    fn add_at(&self, at: usize, mark: u64, amount: u64, takes_free: bool) -> bool {
        let Some(slot) = self.slots.get(at) else { return false };
        let next = |value: u64| match value {
            0 if takes_free => Some(mark << COUNT_BITS | amount),
            _ if value >> COUNT_BITS == mark && (value & COUNT_MAX) + amount <= COUNT_MAX => {
                Some(value + amount)
            }
            _ => None,
        };
        slot.fetch_update(Relaxed, Relaxed, next).is_ok()
    }
}

impl AddressPlace {
    /// How many are counted.
    #[must_use]
    pub fn amount(&self) -> u64 {
        self.amount
    }
}

impl Default for Addresses {
    /// Any number.
    fn default() -> Self {
        Self::new(AddressLimit::of_all(u32::MAX), 0)
    }
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        let amount = self.amount;
        // With the last one the slot is free again.
        let next = |value: u64| match value & COUNT_MAX <= amount {
            true => Some(0),
            false => Some(value - amount),
        };
        for slot in self.slots.into_iter().flatten() {
            let slot = self.addresses.slots.get(slot);
            let _always = slot.map(|slot| slot.fetch_update(Relaxed, Relaxed, next));
        }
    }
}

/// Where a prefix is counted.
#[derive(Debug, Clone, Copy)]
struct Key {
    prefix: Prefix,
    mark: u64,
    first: usize,
}

impl Key {
    fn new(addresses: &Addresses, prefix: Prefix, whose: Whose) -> Self {
        let hash = addresses.hasher.hash_one(prefix);
        // Never 0: that is a free slot.
        let mark = (hash >> 24) & !WHOSE_MARKS | mark_of(whose) | 1;
        let first = usize::try_from(hash & COUNT_MAX).unwrap_or(0) % addresses.slots.len();
        Self { prefix, mark, first }
    }
}

/// The part of a mark that says whose it is.
fn mark_of(whose: Whose) -> u64 {
    match whose {
        Whose::Remote => 0,
        Whose::Local => 2,
        Whose::Site => 4,
    }
}

const WHOSE_MARKS: u64 = 6;
/// An office, and its players that open several connections.
const SHARE_MIN: u32 = 64;
const COUNT_BITS: u32 = 24;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
/// Slots that an address may be in.
const NEAR: usize = 32;
const SLOTS_MIN: usize = 1_024;
/// 8 MiB: half a million addresses at once.
const SLOTS_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn address_has_its_share_and_no_more_whatever_others_have() {
        let addresses = Addresses::sharing(400);
        let mut places: Vec<_> =
            std::iter::from_fn(|| addresses.enter(ip("192.0.2.1")).ok()).take(500).collect();
        assert_eq!(places.len(), 100);
        let refused = addresses.enter(ip("::ffff:192.0.2.1"));
        assert_eq!(refused.unwrap_err(), Prefix::of(ip("192.0.2.1")), "the same by IPv6");
        let own: Vec<_> =
            std::iter::from_fn(|| addresses.enter(ip("127.0.0.1")).ok()).take(500).collect();
        assert_eq!(own.len(), 300, "this host");
        places.pop();
        assert!(addresses.enter(ip("192.0.2.1")).is_ok());
        let most = || [Whose::Remote, Whose::Local, Whose::Site].map(|of| addresses.most(of));
        assert_eq!(most(), [99, 300, 0]);
        drop((places, own));
        assert_eq!((addresses.counted(), most()), (0, [0; 3]));
    }

    #[test]
    fn network_of_64_bits_is_one_address() {
        let addresses = Arc::new(Addresses::new(AddressLimit::of_all(2), 16));
        let _one = addresses.enter(ip("fd00::1")).unwrap();
        let _two = addresses.enter(ip("fd00::ffff:2")).unwrap();
        assert_eq!(addresses.enter(ip("fd00::3")).unwrap_err(), Prefix::of(ip("fd00::")));
        assert!(addresses.enter(ip("fd00:0:0:1::3")).is_ok());
    }

    #[test]
    fn site_of_many_networks_leaves_room_for_others() {
        let addresses = Addresses::sharing(400);
        let enter = |site: u16, network: u16| {
            addresses.enter(IpAddr::from([0x2001, 0xdb8, site, network, 0, 0, 0, 1]))
        };
        let places: Vec<_> = (0..400).map(|network| enter(1, network)).collect();
        assert_eq!(places.iter().filter(|place| place.is_ok()).count(), 300);
        let site = Prefix::site_of(ip("2001:db8:1::")).unwrap();
        assert_eq!(enter(1, 1_000).unwrap_err(), site);
        assert!(enter(2, 0).is_ok() && addresses.enter(ip("192.0.2.1")).is_ok());
        assert_eq!((addresses.most(Whose::Site), addresses.most(Whose::Remote)), (300, 1));
        assert_eq!(addresses.counted(), 300);
        drop(places);
        assert_eq!((addresses.most(Whose::Site), addresses.counted()), (0, 0));
    }

    #[test]
    fn place_of_many_is_counted_as_many() {
        let addresses = Addresses::sharing(400);
        let many = addresses.enter_many(ip("192.0.2.1"), 90).unwrap();
        assert!(addresses.enter_many(ip("192.0.2.1"), 11).is_err());
        let few = addresses.enter_many(ip("192.0.2.1"), 10).unwrap();
        drop(many);
        assert_eq!(addresses.most(Whose::Remote), 10);
        drop(few);
        assert_eq!(addresses.counted(), 0);
    }

    #[test]
    fn number_for_other_hosts_takes_nothing_from_this_one() {
        let limit = AddressLimit::share_of(400).with_remote(16);
        assert_eq!((limit.remote, limit.local, limit.site), (16, 300, 300));
        let limit = AddressLimit::share_of(400).with_remote(1_000);
        assert_eq!((limit.remote, limit.local, limit.site), (1_000, 1_000, 1_000));
    }

    proptest! {
        #[test]
        fn count_of_each_address_is_that_of_its_places(
            moves in prop::collection::vec((any::<bool>(), 0_u8..40), 0..400),
        ) {
            let addresses = Arc::new(Addresses::new(AddressLimit::of_all(5), 200));
            let mut places: HashMap<u8, Vec<AddressPlace>> = HashMap::new();
            for (enters, host) in moves {
                let held = places.entry(host).or_default();
                if !enters {
                    held.pop();
                } else if let Ok(place) = addresses.enter([192, 0, 2, host].into()) {
                    held.push(place);
                    prop_assert!(held.len() <= 5);
                } else {
                    prop_assert_eq!(held.len(), 5);
                }
            }
            let all: usize = places.values().map(Vec::len).sum();
            prop_assert_eq!(addresses.counted(), all as u64);
        }
    }
}
