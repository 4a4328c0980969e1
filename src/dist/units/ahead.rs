//! Units that came before those in front of them, from several sources at once.
//!
//! ```text
//! have |  gap  | unit unit |  gap  | unit |  .. have + AHEAD_BYTES_MAX
//!          '-- filled --> the units behind it follow at once, in order
//! ```
//! Invariants: a unit is here when its bytes have a hash that the base has signed for its place;
//! none lies within the verified start of the content. Bounds: units lie within
//! [`AHEAD_BYTES_MAX`] of that start; frames of hashes that reach into this, one for each unit.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{AHEAD_BYTES_MAX, HASHES_PER_FRAME_MAX, HashFrame, UNIT_BYTES, UnitFrame, UnitHash};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// By their first unit; their signatures were checked.
    hashes: BTreeMap<u64, HashFrame>,
    units: BTreeMap<u64, (UnitHash, UnitFrame)>,
}

/// A unit that was ahead and is the next one now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caught {
    /// The frame of its hash, where that was not known in front of the gap.
    pub hashes: Option<HashFrame>,
    /// The unit.
    pub unit: UnitFrame,
}

impl Ahead {
    /// Units from `next` on have room here up to this one.
    pub(super) const fn limit(next: u64) -> u64 {
        next.saturating_add(AHEAD_BYTES_MAX / UNIT_BYTES)
    }

    pub(super) fn has(&self, unit: u64) -> bool {
        self.units.contains_key(&unit)
    }

    /// Whether a frame says nothing new.
    pub(super) fn knows(&self, frame: &HashFrame) -> bool {
        self.hashes.get(&frame.first()).is_some_and(|known| known.end() >= frame.end())
    }

    /// Takes a frame whose signature was checked.
    pub(super) fn add_hashes(&mut self, frame: HashFrame) {
        self.hashes.insert(frame.first(), frame);
    }

    pub(super) fn frame_of(&self, unit: u64) -> Option<&HashFrame> {
        let first = unit.saturating_sub(HASHES_PER_FRAME_MAX as u64 - 1);
        let mut frames = self.hashes.range(first..=unit).rev().map(|(_, frame)| frame);
        frames.find(|frame| frame.hash_of(unit).is_some())
    }

    /// Takes a unit that agrees with its hash.
    pub(super) fn add_unit(&mut self, hash: UnitHash, unit: UnitFrame) {
        self.units.insert(unit.number(), (hash, unit));
    }

    pub(super) fn take_unit(&mut self, unit: u64) -> Option<(UnitHash, UnitFrame)> {
        self.units.remove(&unit)
    }

    /// The content is verified up to unit `next`: nothing before it is needed any more.
    pub(super) fn pass(&mut self, next: u64) {
        while self.hashes.first_key_value().is_some_and(|(_, frame)| frame.end() <= next) {
            self.hashes.pop_first();
        }
        while self.units.first_key_value().is_some_and(|(unit, _)| *unit < next) {
            self.units.pop_first();
        }
    }

    /// Bytes that are here, in pieces without gaps.
    pub(super) fn ranges(&self) -> Vec<Range<u64>> {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for (number, (_, unit)) in &self.units {
            let start = number * UNIT_BYTES;
            let end = start + unit.bytes().len() as u64;
            match ranges.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => ranges.push(start..end),
            }
        }
        ranges
    }

    /// Units that are here, in order.
    pub(super) fn units(&self) -> impl Iterator<Item = &UnitFrame> {
        self.units.values().map(|(_, unit)| unit)
    }

    /// Bytes that are here.
    pub(super) fn bytes(&self) -> u64 {
        self.units().map(|unit| unit.bytes().len() as u64).sum()
    }
}
