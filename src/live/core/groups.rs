//! Multicast groups of paths: one group for each path, out of a range that the shards divide.
//!
//! ```text
//!  239.255.0.0/16, 4 shards:  shard 0 takes 239.255.0.0, .4, .8 ..   shard 1 takes .1, .5, .9 ..
//! ```
//! A path's tracks share the path's group on separate ports, so that a player which joins one of
//! two groups never receives the other. The host's address determines where in the range its groups
//! begin: two servers of one network with the same range seldom take the same group. The last 256
//! addresses of the local scope are left to the protocols that use them (RFC 2365 s9).
//! Invariant: a group belongs to one path. Bound: `GROUPS_MAX` for each shard.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::base::ids::ShardId;
use crate::base::limits::{GROUP_RANGE, GROUP_RTP_PORT, GROUP_TTL};

/// Settings of multicast.
///
/// Multicast is on by default: nothing is sent to a group before a client asks for one. Players
/// ask only when their user wants multicast, or when every other transport is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MulticastSettings {
    /// First address and prefix length of the range that groups are taken from.
    pub range: (Ipv4Addr, u8),
    /// RTP port of a path's first track, even. RTCP is one above, the next track two above.
    pub rtp: u16,
    /// Number of routers that packets may cross (TTL).
    pub ttl: u8,
    /// Address of the interface that packets leave by; `None` leaves the choice to the routes.
    pub interface: Option<Ipv4Addr>,
    /// Source address of the packets, once known.
    pub source: Option<Ipv4Addr>,
}

impl Default for MulticastSettings {
    fn default() -> Self {
        Self {
            range: GROUP_RANGE,
            rtp: GROUP_RTP_PORT,
            ttl: GROUP_TTL,
            interface: None,
            source: None,
        }
    }
}

impl MulticastSettings {
    /// The same settings with ports after those of the shards' own pairs, which begin at `first`,
    /// when the two overlap. A socket on a port of all addresses keeps players of this host, and
    /// the server itself, from listening to a group on that port.
    #[must_use]
    pub fn clear_of(self, first: u16, shard_count: u8) -> Self {
        let end = first.saturating_add(u16::from(shard_count) * 2);
        let last = self.rtp.saturating_add(PORTS - 1);
        let overlaps = self.rtp < end && first <= last;
        Self { rtp: if overlaps { end } else { self.rtp }, ..self }
    }
}

/// Why a range of groups or its ports are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MulticastError {
    /// The range is not multicast as a whole.
    #[error("{first}/{prefix} is not a range of multicast addresses")]
    NotMulticast {
        /// First address as configured.
        first: Ipv4Addr,
        /// Prefix length as configured.
        prefix: u8,
    },
    /// The port is odd, or ports for `LIVE_TRACKS_MAX` pairs do not fit above it.
    #[error("{port} is not an even port with room for a pair a track")]
    BadPort {
        /// Port as configured.
        port: u16,
    },
}

/// A path's group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Group {
    /// Multicast address.
    pub address: Ipv4Addr,
    /// RTP port of the first track; RTCP is one above, the next track two above.
    pub first_port: u16,
    /// Number of routers that packets may cross (TTL).
    pub ttl: u8,
}

impl Group {
    /// RTP and RTCP port of a track.
    #[must_use]
    pub fn ports(&self, track: u8) -> (u16, u16) {
        let rtp = self.first_port.saturating_add(u16::from(track) * 2);
        (rtp, rtp.saturating_add(1))
    }
}

/// A shard's part of the range of groups.
#[derive(Debug)]
pub struct GroupPool {
    first: u32,
    count: u32,
    shard: u32,
    shards: u32,
    next: u32,
    taken: BTreeSet<u32>,
    port: u16,
    ttl: u8,
}

impl GroupPool {
    /// This shard's part of `first/prefix`.
    ///
    /// # Errors
    /// `NotMulticast` or `BadPort`.
    pub fn new(
        (first, prefix): (Ipv4Addr, u8),
        (port, ttl): (u16, u8),
        shard: ShardId,
        shard_count: u8,
    ) -> Result<Self, MulticastError> {
        let bits = u32::from(first);
        // 224.0.0.0/4 is the whole multicast range.
        if !(4..=32).contains(&prefix) || !first.is_multicast() {
            return Err(MulticastError::NotMulticast { first, prefix });
        }
        if !port.is_multiple_of(2) || port == 0 || port.checked_add(PORTS).is_none() {
            return Err(MulticastError::BadPort { port });
        }
        let count = 1_u32 << (32 - u32::from(prefix)).min(31);
        let shards = u32::from(shard_count.max(1));
        let first = bits & !(count - 1);
        let count = match u32::from(RELATIVE).checked_sub(first) {
            Some(below) if below > 0 => count.min(below),
            _ => count,
        };
        Ok(Self {
            first,
            count,
            shard: u32::from(shard.0),
            shards,
            next: 0,
            taken: BTreeSet::new(),
            port,
            ttl,
        })
    }

    /// This shard's part of the configured range, beginning where the host's address says.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn of(
        settings: &MulticastSettings,
        shard: ShardId,
        shard_count: u8,
    ) -> Result<Self, MulticastError> {
        let ports = (settings.rtp, settings.ttl);
        let mut pool = Self::new(settings.range, ports, shard, shard_count)?;
        let host = settings.source.map_or(0, u32::from);
        // Spreads neighbours over the range (Fibonacci hashing).
        pool.next = host.wrapping_mul(0x9E37_79B9).checked_rem(pool.places()).unwrap_or(0);
        Ok(pool)
    }

    fn places(&self) -> u32 {
        self.count.saturating_sub(self.shard).div_ceil(self.shards)
    }

    /// A group without a path; a group that was given back comes after all others. `None` when
    /// every group is taken.
    pub fn take(&mut self) -> Option<Group> {
        let (places, taken) = (self.places(), u32::try_from(self.taken.len()).unwrap_or(u32::MAX));
        if taken >= GROUPS_MAX {
            return None;
        }
        // Bounded: among one group more than are taken, one is free.
        let free = (0..places.min(taken + 1))
            .map(|step| (self.next + step) % places)
            .find(|place| !self.taken.contains(place))?;
        self.taken.insert(free);
        self.next = (free + 1) % places;
        let address = Ipv4Addr::from(self.first + self.shard + free * self.shards);
        Some(Group { address, first_port: self.port, ttl: self.ttl })
    }

    /// Takes back the group of a path that is not sent any more.
    pub fn give_back(&mut self, group: Group) {
        let Some(at) = u32::from(group.address).checked_sub(self.first + self.shard) else {
            return;
        };
        self.taken.remove(&(at / self.shards));
    }
}

/// Groups of one shard: as many as the paths that a shard may own.
const GROUPS_MAX: u32 = 4_096;
/// A pair for each track that a path may have.
#[expect(clippy::cast_possible_truncation, reason = "32")]
const PORTS: u16 = crate::live::core::limits::LIVE_TRACKS_MAX as u16 * 2;
/// First of the addresses that are assigned relative to the local scope.
const RELATIVE: Ipv4Addr = Ipv4Addr::new(239, 255, 255, 0);

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: (Ipv4Addr, u8) = (Ipv4Addr::new(239, 255, 0, 0), 29);

    fn pool(shard: u8, shards: u8) -> GroupPool {
        GroupPool::new(RANGE, (8_002, 8), ShardId(shard), shards).unwrap()
    }

    #[test]
    fn shards_never_take_the_same_group_and_each_path_has_its_own() {
        let mut taken = BTreeSet::new();
        for shard in 0..3 {
            let mut pool = pool(shard, 3);
            while let Some(group) = pool.take() {
                assert!(taken.insert(group.address), "{} twice", group.address);
            }
        }
        let all: Vec<_> = (0..8).map(|n| Ipv4Addr::new(239, 255, 0, n)).collect();
        assert_eq!(taken.into_iter().collect::<Vec<_>>(), all);
    }

    #[test]
    fn group_that_was_given_back_is_taken_again_last() {
        let mut pool = pool(1, 2);
        let groups: Vec<_> = (0..4).filter_map(|_| pool.take()).collect();
        assert_eq!((groups.len(), pool.take()), (4, None));
        pool.give_back(groups[2]);
        pool.give_back(groups[0]);
        assert_eq!(pool.take(), Some(groups[0]));
        assert_eq!(pool.take(), Some(groups[2]));
        assert_eq!(groups[0].ports(0), (8_002, 8_003));
        assert_eq!(groups[0].ports(2), (8_006, 8_007));
        assert_eq!(groups[0].ttl, 8);
    }

    #[test]
    fn hosts_begin_at_different_places_and_none_takes_a_relative_address() {
        let first = |last| {
            let source = Some(Ipv4Addr::new(10, 0, 0, last));
            let settings = MulticastSettings { source, ..MulticastSettings::default() };
            GroupPool::of(&settings, ShardId(0), 1).unwrap().take().unwrap().address
        };
        let firsts: BTreeSet<_> = (0..=255).map(first).collect();
        assert!(firsts.len() > 250, "{} different ones of 256", firsts.len());
        let range = (Ipv4Addr::new(239, 255, 254, 254), 30);
        let ends_before = |pool: &mut GroupPool| std::iter::from_fn(|| pool.take()).count();
        let mut whole = GroupPool::new(range, (8_002, 8), ShardId(0), 1).unwrap();
        assert_eq!(ends_before(&mut whole), 4);
        let range = (Ipv4Addr::new(239, 255, 254, 0), 23);
        let mut cut = GroupPool::new(range, (8_002, 8), ShardId(0), 1).unwrap();
        assert_eq!(ends_before(&mut cut), 256);
    }

    #[test]
    fn ports_lie_behind_those_of_the_shards_when_they_would_be_the_same() {
        let settings = MulticastSettings::default();
        let rtp = |first, shards| settings.clear_of(first, shards).rtp;
        assert_eq!(rtp(8_000, 1), 8_002);
        assert_eq!(rtp(8_000, 4), 8_008);
        assert_eq!(rtp(8_030, 2), 8_034);
        assert_eq!(rtp(40_000, 2), 8_002);
        assert_eq!(rtp(8_034, 2), 8_002);
    }

    #[test]
    fn range_that_is_not_multicast_and_port_without_room_are_refused() {
        let new = |range, port| GroupPool::new(range, (port, 1), ShardId(0), 1).map(|_| ());
        let unicast = (Ipv4Addr::new(192, 0, 2, 0), 24);
        assert!(matches!(new(unicast, 8_002), Err(MulticastError::NotMulticast { .. })));
        assert!(matches!(new((RANGE.0, 3), 8_002), Err(MulticastError::NotMulticast { .. })));
        for port in [0, 8_003, 65_534] {
            assert_eq!(new(RANGE, port), Err(MulticastError::BadPort { port }));
        }
    }
}
