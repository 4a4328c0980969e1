//! The newest units of a content, in memory.

use std::collections::VecDeque;

use crate::dist::units::{UnitFrame, units_of};

/// Units without a gap, up to the newest.
#[derive(Debug)]
pub(super) struct Ring {
    /// Number of the first unit.
    first: u64,
    units: VecDeque<UnitFrame>,
    bytes: usize,
}

impl Ring {
    /// Empty, behind so many bytes.
    pub(super) const fn behind(bytes: u64) -> Self {
        Self { first: units_of(bytes), units: VecDeque::new(), bytes: 0 }
    }

    /// Adds the next unit.
    pub(super) fn push(&mut self, unit: UnitFrame) {
        debug_assert_eq!(unit.number(), self.first + self.units.len() as u64, "no gap");
        self.bytes += unit.bytes().len();
        self.units.push_back(unit);
    }

    pub(super) fn get(&self, number: u64) -> Option<&UnitFrame> {
        let place = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.units.get(place)
    }

    /// Units from `number` on, as far as they are here.
    pub(super) fn from(&self, number: u64) -> impl Iterator<Item = &UnitFrame> {
        let place = number.checked_sub(self.first).and_then(|place| usize::try_from(place).ok());
        let place = place.unwrap_or(usize::MAX).min(self.units.len());
        self.units.range(place..)
    }

    /// Drops the oldest units that lie within the first `written` bytes, until `bytes_max` are
    /// left.
    pub(super) fn trim(&mut self, written: u64, bytes_max: usize) {
        while self.bytes > bytes_max
            && self.first < units_of(written)
            && let Some(unit) = self.units.pop_front()
        {
            self.first += 1;
            self.bytes -= unit.bytes().len();
        }
    }

    pub(super) fn clear(&mut self) {
        self.first += self.units.len() as u64;
        self.units.clear();
        self.bytes = 0;
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }
}
