//! What is counted for each live path: sums that outlive readers, sources and the path itself.
//!
//! ```text
//!  reader ends, source ends --add--> PathTallies of the shard (its tally)
//!  scrape: a copy of the tally, and what readers and sources of now have on top --> exposition
//! ```
//! Nothing is looked up for a packet: readers and sources count for themselves, and the path is
//! found when they end or when somebody asks.
//!
//! Invariant: a sum never goes back. A path is named from its first reader or source on, or never:
//! what has been counted as another path's stays there.
//! Bound: `PATHS_NAMED_MAX` names; all further paths are counted together.

use std::collections::HashMap;
use std::sync::Arc;

use crate::base::carrier::Carrier;

/// Paths that are named at most; the label of all others is [`OTHER`].
pub const PATHS_NAMED_MAX: usize = 200;

/// Label of the paths that are not named.
pub const OTHER: &str = "other";

/// Why packets of a source are not taken, in the order of `live::core::source::SourceError::index`.
pub const DROPS: [&str; 9] = [
    "no_track",
    "not_granted",
    "foreign_address",
    "payload_type",
    "foreign_ssrc",
    "length",
    "behind",
    "malformed",
    "too_long_for_udp",
];

/// Why readers skip, in the order of `live::core::reader::SkipReason`.
pub const SKIPS: [&str; 3] = ["tcp_window", "lag_budget", "evicted"];

/// States of a path at its owner.
pub const PATH_STATES: [&str; 5] = ["live", "held", "starting", "failed", "idle"];

/// Sums of a path. All of them only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PathTotals {
    /// Sources that began to send.
    pub source_starts: u64,
    /// RTP packets that were taken from sources.
    pub packets_received: u64,
    /// Their bytes.
    pub bytes_received: u64,
    /// RTP packets that were taken from other paths of this server, which count them as received.
    pub packets_relayed: u64,
    /// Packets that were lost on the way from sources, as far as known.
    pub packets_lost: u64,
    /// Packets that were not taken, by [`DROPS`].
    pub packets_dropped: [u64; DROPS.len()],
    /// RTP packets that went to readers, by [`Carrier`].
    pub packets_sent: [u64; Carrier::LABELS.len()],
    /// Their payload.
    pub payload_bytes_sent: [u64; Carrier::LABELS.len()],
    /// Skips of readers, by [`SKIPS`].
    pub skips: [u64; SKIPS.len()],
    /// Packets that readers were not sent.
    pub packets_skipped: u64,
}

impl PathTotals {
    /// Adds the sums of another.
    pub fn add(&mut self, other: &Self) {
        self.combine(other, u64::wrapping_add);
    }

    /// Takes the sums of another out again, which were added before.
    pub fn subtract(&mut self, other: &Self) {
        self.combine(other, u64::wrapping_sub);
    }

    fn combine(&mut self, other: &Self, of: impl Fn(u64, u64) -> u64) {
        let one = |sum: &mut u64, more: u64| *sum = of(*sum, more);
        one(&mut self.source_starts, other.source_starts);
        one(&mut self.packets_received, other.packets_received);
        one(&mut self.bytes_received, other.bytes_received);
        one(&mut self.packets_relayed, other.packets_relayed);
        one(&mut self.packets_lost, other.packets_lost);
        one(&mut self.packets_skipped, other.packets_skipped);
        for (sums, more) in [
            (&mut self.packets_dropped[..], &other.packets_dropped[..]),
            (&mut self.packets_sent[..], &other.packets_sent[..]),
            (&mut self.payload_bytes_sent[..], &other.payload_bytes_sent[..]),
            (&mut self.skips[..], &other.skips[..]),
        ] {
            sums.iter_mut().zip(more).for_each(|(sum, more)| one(sum, *more));
        }
    }
}

/// A path, or all that are not named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PathNumbers {
    /// Sums.
    pub totals: PathTotals,
    /// Readers now, by [`Carrier`].
    pub readers: [u64; Carrier::LABELS.len()],
    /// Sources now.
    pub sources: u64,
}

impl PathNumbers {
    /// Adds those of another shard, or of another path that is not named.
    pub fn add(&mut self, other: &Self) {
        self.totals.add(&other.totals);
        self.readers.iter_mut().zip(other.readers).for_each(|(sum, more)| *sum += more);
        self.sources += other.sources;
    }
}

/// Sums of counters, by live path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PathTallies {
    named: HashMap<Arc<str>, PathNumbers>,
    other: PathNumbers,
    /// Paths that have their owner on the shard, by [`PATH_STATES`].
    pub owners: [u64; PATH_STATES.len()],
}

impl PathTallies {
    /// A path has a reader or a source: it is named from now on, while there is room.
    pub fn enter(&mut self, path: &Arc<str>) {
        if !self.named.contains_key(path) && self.named.len() < PATHS_NAMED_MAX {
            self.named.insert(Arc::clone(path), PathNumbers::default());
        }
    }

    /// Where a path is counted.
    pub fn numbers_mut(&mut self, path: &str) -> &mut PathNumbers {
        self.named.get_mut(path).unwrap_or(&mut self.other)
    }

    /// Sums of a path, if it is named.
    #[must_use]
    pub fn totals(&self, path: &str) -> Option<&PathTotals> {
        self.named.get(path).map(|numbers| &numbers.totals)
    }

    /// What is counted of a path, if it is named.
    #[must_use]
    pub fn numbers(&self, path: &str) -> Option<&PathNumbers> {
        self.named.get(path)
    }

    /// The paths that are named, in no order.
    pub fn named(&self) -> impl Iterator<Item = (&Arc<str>, &PathNumbers)> {
        self.named.iter()
    }

    /// All others together.
    #[must_use]
    pub fn other(&self) -> &PathNumbers {
        &self.other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_beyond_the_bound_is_counted_with_the_others_for_ever() {
        let mut table = PathTallies::default();
        let name = |n: usize| -> Arc<str> { format!("live/{n}").into() };
        for n in 0..PATHS_NAMED_MAX + 5 {
            table.enter(&name(n));
            table.numbers_mut(&name(n)).totals.packets_skipped += 1;
        }
        table.enter(&name(0));
        table.enter(&name(PATHS_NAMED_MAX));
        assert_eq!(table.named().count(), PATHS_NAMED_MAX);
        assert_eq!(table.other().totals.packets_skipped, 5);
        assert!(table.totals(&name(PATHS_NAMED_MAX)).is_none());
        assert_eq!(table.totals("live/0").map(|totals| totals.packets_skipped), Some(1));
    }

    #[test]
    fn every_sum_and_gauge_adds_up() {
        let totals = PathTotals {
            source_starts: 1,
            packets_received: 2,
            bytes_received: 3,
            packets_relayed: 10,
            packets_lost: 4,
            packets_dropped: [5; DROPS.len()],
            packets_sent: [6; Carrier::LABELS.len()],
            payload_bytes_sent: [7; Carrier::LABELS.len()],
            skips: [8; SKIPS.len()],
            packets_skipped: 9,
        };
        let one = PathNumbers { totals, readers: [1, 2, 3], sources: 1 };
        let mut sum = one;
        sum.add(&one);
        assert_eq!((sum.readers, sum.sources), ([2, 4, 6], 2));
        assert_eq!(sum.totals.source_starts, 2);
        assert_eq!((sum.totals.packets_received, sum.totals.bytes_received), (4, 6));
        assert_eq!((sum.totals.packets_lost, sum.totals.packets_skipped), (8, 18));
        assert_eq!(sum.totals.packets_relayed, 20);
        assert_eq!(sum.totals.packets_dropped, [10; DROPS.len()]);
        assert_eq!(sum.totals.packets_sent, [12; Carrier::LABELS.len()]);
        assert_eq!(sum.totals.payload_bytes_sent, [14; Carrier::LABELS.len()]);
        assert_eq!(sum.totals.skips, [16; SKIPS.len()]);
        sum.totals.subtract(&totals);
        assert_eq!(sum.totals, totals);
    }
}
