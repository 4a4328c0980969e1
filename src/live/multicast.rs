//! Groups that paths are sent to: one for each path, out of a range that the shards divide.
//!
//! ```text
//!  239.255.0.0/16, 4 shards:  shard 0 takes 239.255.0.0, .4, .8 ..   shard 1 takes .1, .5, .9 ..
//! ```
//! A path's tracks share its group on ports of their own, so that a player which joins one of two
//! groups never hears the other. Invariant: a group is one path's. Bound: `GROUPS_MAX` a shard.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::base::ids::ShardId;

/// A range of addresses that is no range of groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MulticastError {
    /// Not all of it is multicast.
    #[error("{first}/{prefix} is not a range of multicast addresses")]
    NotMulticast {
        /// As asked.
        first: Ipv4Addr,
        /// As asked.
        prefix: u8,
    },
    /// Ports for `LIVE_TRACKS_MAX` pairs do not fit above it, or it is odd.
    #[error("{port} is not an even port with room for a pair a track")]
    BadPort {
        /// As asked.
        port: u16,
    },
}

/// A path's group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Group {
    /// Its address.
    pub address: Ipv4Addr,
    /// RTP port of its first track; RTCP is one above, the next track two above.
    pub first_port: u16,
    /// How far its packets go.
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

/// A shard's part of the range.
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
    /// The part of `first/prefix` that is this shard's.
    ///
    /// # Errors
    /// Not multicast, or ports that cannot be.
    pub fn new(
        (first, prefix): (Ipv4Addr, u8),
        (port, ttl): (u16, u8),
        shard: ShardId,
        shard_count: u8,
    ) -> Result<Self, MulticastError> {
        let bits = u32::from(first);
        // 224.0.0.0/4 is all there is.
        if !(4..=32).contains(&prefix) || !first.is_multicast() {
            return Err(MulticastError::NotMulticast { first, prefix });
        }
        let ports = u16::try_from(super::limits::LIVE_TRACKS_MAX * 2).unwrap_or(u16::MAX);
        if !port.is_multiple_of(2) || port == 0 || port.checked_add(ports).is_none() {
            return Err(MulticastError::BadPort { port });
        }
        let count = 1_u32 << (32 - u32::from(prefix)).min(31);
        let shards = u32::from(shard_count.max(1));
        Ok(Self {
            first: bits & !(count - 1),
            count,
            shard: u32::from(shard.0),
            shards,
            next: 0,
            taken: BTreeSet::new(),
            port,
            ttl,
        })
    }

    /// A group that no other path has, the one that was given back longest ago first. `None`: all
    /// are taken.
    pub fn take(&mut self) -> Option<Group> {
        let places = (self.count.saturating_sub(self.shard)).div_ceil(self.shards).min(GROUPS_MAX);
        // Bounded by `GROUPS_MAX`.
        let free = (0..places)
            .map(|step| (self.next + step) % places)
            .find(|place| !self.taken.contains(place))?;
        self.taken.insert(free);
        self.next = (free + 1) % places;
        let address = Ipv4Addr::from(self.first + self.shard + free * self.shards);
        Some(Group { address, first_port: self.port, ttl: self.ttl })
    }

    /// Nobody is sent to it any more.
    pub fn give_back(&mut self, group: Group) {
        let Some(at) = u32::from(group.address).checked_sub(self.first + self.shard) else {
            return;
        };
        self.taken.remove(&(at / self.shards));
    }
}

/// Groups of one shard: as many paths as it may be home to.
const GROUPS_MAX: u32 = 4_096;

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
