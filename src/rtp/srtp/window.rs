//! Indexes of packets of one SSRC: the rollover counter, and which of them were used (RFC 3711
//! s3.3.1, s3.3.2).
//!
//! ```text
//!  highest - 127 ................ highest          the bit of an index says that it was used
//! ```
//! Invariant: an index is marked once, unless its mark was taken back; after [`IndexWindow::close`]
//! no index is marked that ever was before.
//! Bound: 128 indexes.

/// Indexes of one SSRC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IndexWindow {
    /// `None`: no packet was seen; the next one is in the cycle of `roc`.
    highest: Option<u64>,
    /// Rollover counter of the first packet.
    roc: u32,
    /// Bit n: `highest - n` was used.
    used: u128,
    /// Highest index that was ever used, also if its mark was taken back by [`Self::rewind`].
    beyond: Option<u64>,
}

impl IndexWindow {
    /// A window before the first packet, which has this rollover counter.
    pub(super) fn new(roc: u32) -> Self {
        Self { highest: None, roc, used: 0, beyond: None }
    }

    /// The index that a sequence number means: the nearest one to the highest so far.
    pub(super) fn index_of(&self, seq: u16) -> u64 {
        let Some(highest) = self.highest else { return u64::from(self.roc) << 16 | u64::from(seq) };
        let ahead = seq.wrapping_sub(low(highest));
        if ahead < 1 << 15 {
            highest.wrapping_add(ahead.into())
        } else {
            let behind = low(highest).wrapping_sub(seq);
            // Before the first cycle there is none: then it can only be ahead.
            let before = highest.checked_sub(behind.into());
            before.unwrap_or_else(|| highest.wrapping_add(ahead.into()))
        }
    }

    /// The index of RTCP, which is sent whole.
    pub(super) fn is_fresh(&self, index: u64) -> bool {
        let Some(highest) = self.highest else { return true };
        match highest.checked_sub(index) {
            None => true,
            Some(behind) if behind < WINDOW => self.used & (1 << behind) == 0,
            Some(_) => false,
        }
    }

    /// Marks an index as used.
    pub(super) fn mark(&mut self, index: u64) {
        self.beyond = self.beyond.max(Some(index));
        let highest = self.highest.unwrap_or(index);
        if let Some(ahead) = index.checked_sub(highest) {
            self.used = if ahead < WINDOW { self.used << ahead } else { 0 };
            self.used |= 1;
            self.highest = Some(index);
        } else {
            let behind = highest - index;
            if behind < WINDOW {
                self.used |= 1 << behind;
            }
        }
    }

    /// Takes the marks from an index on back, as if they had never been: nothing has seen a packet
    /// with one of these indexes.
    pub(super) fn unmark(&mut self, index: u64) {
        let is_behind = self.beyond.is_some_and(|beyond| beyond > self.highest.unwrap_or(0));
        self.rewind(index);
        if !is_behind {
            self.beyond = self.highest;
        }
    }

    /// Begins anew, but for what [`Self::close`] says.
    pub(super) fn restart(&mut self) {
        *self = Self { beyond: self.beyond, ..Self::new(self.roc) };
    }

    /// Other packets follow: all indexes so far are used, also those whose marks were taken back.
    /// Gives the next one; `None` before the first.
    pub(super) fn close(&mut self) -> Option<u64> {
        let beyond = self.beyond?;
        if self.highest.is_none_or(|highest| highest < beyond) {
            (self.highest, self.used) = (Some(beyond), u128::MAX);
        }
        Some(beyond + 1)
    }

    /// Takes the marks from an index on back, for the same packets.
    pub(super) fn rewind(&mut self, index: u64) {
        let Some(highest) = self.highest.filter(|highest| *highest >= index) else { return };
        let back = highest - index + 1;
        self.used = if back < WINDOW { self.used >> back } else { 0 };
        match index.checked_sub(1) {
            // Nothing is known to be used before it: the cycle stays the same.
            None => (self.highest, self.used) = (None, 0),
            Some(before) => {
                if back >= WINDOW {
                    // What was used before it is not known any more: all of it counts as used.
                    self.used = u128::MAX;
                }
                self.highest = Some(before);
            }
        }
    }

    /// Highest index so far.
    pub(super) fn highest(&self) -> Option<u64> {
        self.highest
    }
}

/// Sequence number of an index.
#[expect(clippy::cast_possible_truncation, reason = "the low 16 bits are what is meant")]
pub(super) fn low(index: u64) -> u16 {
    index as u16
}

/// RFC 3711 s3.3.2 wants 64 at least.
const WINDOW: u64 = 128;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn indexes_that_were_taken_back_are_for_the_same_packets_only() {
        let mut window = IndexWindow::new(0);
        assert_eq!(window.close(), None);
        (10..=20).for_each(|index| window.mark(index));
        window.rewind(15);
        window.mark(15);
        assert!(window.is_fresh(16), "the same packet");
        assert_eq!(window.close(), Some(21));
        assert!((0..=20).all(|index| !window.is_fresh(index)));
        assert!(window.is_fresh(21));
        // Nobody has seen these.
        (21..=25).for_each(|index| window.mark(index));
        window.unmark(23);
        assert_eq!(window.close(), Some(23));
        // Somebody may have seen 24.
        (23..=24).for_each(|index| window.mark(index));
        window.rewind(23);
        window.mark(23);
        window.unmark(23);
        assert_eq!(window.close(), Some(25));
        window.restart();
        assert_eq!(window.close(), Some(25));
    }

    #[test]
    fn rollover_counter_goes_with_the_wrap_in_both_directions() {
        let mut window = IndexWindow::new(0);
        for (seq, index) in [(65_534, 65_534), (0, 65_536), (65_535, 65_535), (3, 65_539)] {
            assert_eq!(window.index_of(seq), index);
            window.mark(index);
        }
        assert!(!window.is_fresh(65_535) && window.is_fresh(65_537));
        // A number before the first cycle is one of the first cycle.
        let mut window = IndexWindow::new(0);
        window.mark(5);
        assert_eq!(window.index_of(65_530), 65_530);
        let window = IndexWindow::new(7);
        assert_eq!(window.index_of(9), (7 << 16) + 9);
    }

    #[test]
    fn rewound_indexes_are_used_again_and_no_others() {
        let mut window = IndexWindow::new(0);
        (10..20).for_each(|index| window.mark(index));
        window.rewind(15);
        assert_eq!(window.highest(), Some(14));
        assert!((10..15).all(|index| !window.is_fresh(index)));
        assert!((15..40).all(|index| window.is_fresh(index)));
        window.rewind(30);
        assert_eq!(window.highest(), Some(14), "nothing is there");
        // Before the first one lies nothing that was used: an unused number may still be sent.
        window.rewind(10);
        assert!(window.is_fresh(10) && window.is_fresh(9));
    }

    proptest! {
        // RFC 3711 s3.3.1: as long as less than 2^15 packets are lost in a row.
        #[test]
        fn index_is_found_from_its_low_bits(
            start in 0u64..1 << 40, steps in prop::collection::vec(0u64..1 << 15, 1..50)
        ) {
            let mut window = IndexWindow::new(u32::try_from(start >> 16).unwrap());
            let mut index = start;
            for step in steps {
                prop_assert_eq!(window.index_of(low(index)), index);
                window.mark(index);
                index += step;
            }
        }

        #[test]
        fn no_index_is_fresh_twice(indexes in prop::collection::vec(0u64..300, 1..400)) {
            let (mut window, mut seen) = (IndexWindow::new(0), std::collections::BTreeSet::new());
            for index in indexes {
                if window.is_fresh(index) {
                    prop_assert!(seen.insert(index));
                    window.mark(index);
                }
            }
        }
    }
}
