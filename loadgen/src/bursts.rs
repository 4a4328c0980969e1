//! How many packets of one stream come back to back.
//!
//! ```text
//! arrivals of one stream   | | ||||||   |   ||||      gaps up to 100 us belong together
//! bursts                   1 1   6      1     4
//! ```
//! What a switch port or a receive buffer on the way must hold at once for this client. A packet on
//! a wire of 1 Gbit/s takes 12 us, so a gap of eight of them is silence. Interleaved packets that
//! were read together count as together.
//! Invariant: every packet is in exactly one burst. Bound: sizes beyond [`SIZE_MAX`] share a place.

use crate::time::Mono;
use serde::Serialize;
use std::time::Duration;

/// Largest size that is told from larger ones.
pub const SIZE_MAX: usize = 256;
/// Packets with no more than this between them are back to back.
pub const GAP: Duration = Duration::from_micros(100);

/// The burst that is coming in on one stream.
#[derive(Debug, Clone, Copy, Default)]
pub struct Burst {
    last: Mono,
    packets: u32,
}

/// Bursts of all streams, by size.
#[derive(Debug, Clone)]
pub struct Bursts {
    counts: Vec<u64>,
}

/// Bursts of sizes that belong together in a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BurstClass {
    /// Smallest size, in packets.
    pub least: usize,
    /// Largest size; [`SIZE_MAX`] stands for everything above as well.
    pub most: usize,
    /// Bursts.
    pub bursts: u64,
    /// Packets in them.
    pub packets: u64,
}

impl Burst {
    /// One packet more.
    pub fn handle_packet(&mut self, arrival: Mono, out: &mut Bursts) {
        if arrival.since(self.last) > GAP {
            self.finish(out);
        }
        self.packets = self.packets.saturating_add(1);
        self.last = self.last.max(arrival);
    }

    /// No more packets.
    pub fn finish(&mut self, out: &mut Bursts) {
        if self.packets > 0 {
            out.record(usize::try_from(self.packets).unwrap_or(SIZE_MAX));
        }
        self.packets = 0;
    }
}

impl Default for Bursts {
    fn default() -> Self {
        Self { counts: vec![0; SIZE_MAX] }
    }
}

impl Bursts {
    fn record(&mut self, size: usize) {
        let place = size.clamp(1, SIZE_MAX) - 1;
        if let Some(count) = self.counts.get_mut(place) {
            *count += 1;
        }
    }

    /// Classes 1, 2, 3-4, 5-8 and so on, up to the largest that has bursts.
    #[must_use]
    pub fn classes(&self) -> Vec<BurstClass> {
        let mut classes = Vec::new();
        let (mut least, mut most) = (1, 1);
        while least <= SIZE_MAX {
            let mut class = BurstClass { least, most, bursts: 0, packets: 0 };
            for size in least..=most {
                let count = self.counts.get(size - 1).copied().unwrap_or(0);
                class.bursts += count;
                class.packets += count * u64::try_from(size).unwrap_or(0);
            }
            classes.push(class);
            (least, most) = (most + 1, (most * 2).min(SIZE_MAX));
        }
        let used = classes.iter().rposition(|class| class.bursts > 0).map_or(0, |at| at + 1);
        classes.truncate(used);
        classes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_within_the_gap_are_one_burst() {
        let (mut burst, mut bursts) = (Burst::default(), Bursts::default());
        for us in [0, 90, 180, 1_000, 5_000, 5_000, 5_010, 5_020, 5_050] {
            burst.handle_packet(Mono::from_ns(1_000_000_000 + us * 1_000), &mut bursts);
        }
        burst.finish(&mut bursts);
        burst.finish(&mut bursts);
        let classes: Vec<_> =
            bursts.classes().iter().map(|c| (c.least, c.most, c.bursts, c.packets)).collect();
        assert_eq!(classes, [(1, 1, 1, 1), (2, 2, 0, 0), (3, 4, 1, 3), (5, 8, 1, 5)]);
    }

    #[test]
    fn huge_burst_is_in_the_last_class() {
        let (mut burst, mut bursts) = (Burst::default(), Bursts::default());
        for _ in 0..1_000 {
            burst.handle_packet(Mono::from_ns(7), &mut bursts);
        }
        burst.finish(&mut bursts);
        let classes = bursts.classes();
        assert_eq!(classes.last().map(|c| (c.most, c.bursts)), Some((SIZE_MAX, 1)));
    }

    #[test]
    fn nothing_has_no_classes() {
        assert!(Bursts::default().classes().is_empty());
    }
}
