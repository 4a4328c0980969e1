//! How much each address has of something that all share, counted by all shards together.
//!
//! ```text
//!  192.0.2.7        -> 192.0.2.7/32        slot: mark of the network (40 bits) | count (24 bits)
//!  2001:db8::5:6    -> 2001:db8::/64       found in one of a few neighbouring slots
//! ```
//! The kernel spreads the connections of one address over all shards, so a count of each shard's
//! own would let one address have as many times its share as there are shards. Slots are atomic
//! numbers: no shard waits for another. A host chooses among 2^64 addresses of its IPv6 network,
//! so a /64 is one address.
//!
//! Invariant: an [`AddressPlace`] is counted from `enter` until it is dropped.
//! Bound: a fixed number of slots. An address whose neighbouring slots are all taken is not
//! counted: the limits on all addresses together hold for it. Two threads that enter the first of
//! one address at the same moment may both get a slot; what is in both is added up.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What one address may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressLimit {
    /// One of another host.
    pub remote: u32,
    /// One of this host (loopback).
    pub local: u32,
}

impl AddressLimit {
    /// What an address gets of `total` unless told otherwise. A quarter: an office or a hotel
    /// behind one address is served, and it takes four strangers to lock out everybody else.
    /// Three quarters for programs of this host: proxies, which speak for many, and load tests.
    /// `SHARE_MIN` at least: where there is little for all, shares of it help nobody.
    #[must_use]
    pub fn share_of(total: usize) -> Self {
        let share = |parts: usize| {
            u32::try_from(total.saturating_mul(parts) / 4).unwrap_or(u32::MAX).max(SHARE_MIN)
        };
        Self { remote: share(1), local: share(3) }
    }

    /// The same for all addresses.
    #[must_use]
    pub fn of_all(count: u32) -> Self {
        Self { remote: count, local: count }
    }
}

/// Counts by client address, shared by all shards.
#[derive(Debug)]
pub struct Addresses {
    limit: AddressLimit,
    slots: Box<[AtomicU64]>,
    hasher: RandomState,
}

/// One that an address has.
#[derive(Debug)]
pub struct AddressPlace {
    addresses: Arc<Addresses>,
    /// `None`: it is not counted.
    slot: Option<usize>,
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

    /// Counts one more of an address; `None` when it has as many as it may have.
    #[must_use]
    pub fn enter(self: &Arc<Self>, ip: IpAddr) -> Option<AddressPlace> {
        let ip = ip.to_canonical();
        let limit = if ip.is_loopback() { self.limit.local } else { self.limit.remote };
        let (mark, first) = self.place_of(ip);
        let near = move || (0..NEAR).map(move |step| first.wrapping_add(step) % self.slots.len());
        let counted: u64 = near().filter_map(|at| self.count_of(at, mark)).sum();
        if counted >= u64::from(limit) {
            return None;
        }
        let slot = near()
            .find(|at| self.add(*at, mark, false))
            .or_else(|| near().find(|at| self.add(*at, mark, true)));
        Some(AddressPlace { addresses: Arc::clone(self), slot })
    }

    /// What one address may have.
    #[must_use]
    pub fn limit(&self) -> AddressLimit {
        self.limit
    }

    /// What the address of another host, or of this one, has that has most.
    #[must_use]
    pub fn most(&self, is_local: bool) -> u64 {
        let mark = if is_local { LOCAL_MARK } else { 0 };
        let counts = self.slots.iter().map(|slot| slot.load(Relaxed));
        let counts = counts.filter(|value| (value >> COUNT_BITS) & LOCAL_MARK == mark);
        counts.map(|value| value & COUNT_MAX).max().unwrap_or(0)
    }

    /// All that is counted.
    #[must_use]
    pub fn counted(&self) -> u64 {
        self.slots.iter().map(|slot| slot.load(Relaxed) & COUNT_MAX).sum()
    }

    fn place_of(&self, ip: IpAddr) -> (u64, usize) {
        let network = match ip {
            IpAddr::V4(ip) => (0_u8, u64::from(ip.to_bits())),
            IpAddr::V6(ip) => {
                (1, ip.octets().iter().take(8).fold(0, |n, b| n << 8 | u64::from(*b)))
            }
        };
        let hash = self.hasher.hash_one(network);
        // Never 0: that is a free slot.
        let local_mark = if ip.is_loopback() { LOCAL_MARK } else { 0 };
        let mark = (hash >> 24) & !LOCAL_MARK | local_mark | 1;
        (mark, usize::try_from(hash & COUNT_MAX).unwrap_or(0) % self.slots.len())
    }

    fn count_of(&self, at: usize, mark: u64) -> Option<u64> {
        let value = self.slots.get(at)?.load(Relaxed);
        (value >> COUNT_BITS == mark).then_some(value & COUNT_MAX)
    }

    /// Adds one to a slot that has this mark, or takes a free one. False: it is neither.
    fn add(&self, at: usize, mark: u64, takes_free: bool) -> bool {
        let Some(slot) = self.slots.get(at) else { return false };
        let next = |value: u64| match value {
            0 if takes_free => Some(mark << COUNT_BITS | 1),
            _ if value >> COUNT_BITS == mark && value & COUNT_MAX < COUNT_MAX => Some(value + 1),
            _ => None,
        };
        slot.fetch_update(Relaxed, Relaxed, next).is_ok()
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
        let slot = self.slot.and_then(|at| self.addresses.slots.get(at));
        // With the last one the slot is free again.
        let next = |value: u64| if value & COUNT_MAX <= 1 { Some(0) } else { Some(value - 1) };
        let _always = slot.map(|slot| slot.fetch_update(Relaxed, Relaxed, next));
    }
}

/// Of a mark: the address is one of this host.
const LOCAL_MARK: u64 = 2;
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
        let addresses = Arc::new(Addresses::new(AddressLimit::share_of(400), 400));
        let mut places: Vec<_> =
            std::iter::from_fn(|| addresses.enter(ip("192.0.2.1"))).take(500).collect();
        assert_eq!(places.len(), 100);
        assert!(addresses.enter(ip("::ffff:192.0.2.1")).is_none(), "the same by IPv6");
        let own: Vec<_> =
            std::iter::from_fn(|| addresses.enter(ip("127.0.0.1"))).take(500).collect();
        assert_eq!(own.len(), 300, "this host");
        places.pop();
        assert!(addresses.enter(ip("192.0.2.1")).is_some());
        assert_eq!((addresses.most(false), addresses.most(true)), (99, 300));
        drop((places, own));
        assert_eq!(addresses.counted(), 0);
        assert_eq!((addresses.most(false), addresses.most(true)), (0, 0));
    }

    #[test]
    fn network_of_64_bits_is_one_address() {
        let addresses = Arc::new(Addresses::new(AddressLimit::of_all(2), 16));
        let _one = addresses.enter(ip("2001:db8::1")).unwrap();
        let _two = addresses.enter(ip("2001:db8::ffff:2")).unwrap();
        assert!(addresses.enter(ip("2001:db8::3")).is_none());
        assert!(addresses.enter(ip("2001:db8:0:1::3")).is_some());
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
                } else if let Some(place) = addresses.enter([192, 0, 2, host].into()) {
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
