//! Indexes of packets of one SSRC: the rollover counter, and which of them were used (RFC 3711
//! s3.3.1, s3.3.2).
//!
//! ```text
//!  highest - 127 ................ highest ....... rewound
//!  the bit of an index says that it was used      marks were taken back, for the same packets
//!
//!  close: other packets follow     floor behind both, and nothing below it is ever fresh again
//! ```
//! Invariants: an index is marked once, unless its mark was taken back; no mark below the floor is
//! taken back, and the floor is behind every index that was marked before.
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
    /// Highest index whose mark was taken back by [`Self::rewind`]: its packet may have been sent.
    rewound: Option<u64>,
    /// Indexes below this are those of packets before the others that [`Self::close`] announced.
    floor: u64,
}

impl IndexWindow {
    /// A window before the first packet, which has this rollover counter.
    pub(super) fn new(roc: u32) -> Self {
        Self { highest: None, roc, used: 0, rewound: None, floor: 0 }
    }

    /// The index that a sequence number means: the nearest one to the highest so far. `None`: it
    /// would lie before the first cycle.
    pub(super) fn index_of(&self, seq: u16) -> Option<u64> {
        let Some(highest) = self.highest else {
            return Some(u64::from(self.roc) << 16 | u64::from(seq));
        };
        let ahead = seq.wrapping_sub(low(highest));
        if ahead < 1 << 15 {
            return Some(highest.wrapping_add(ahead.into()));
        }
        highest.checked_sub(low(highest).wrapping_sub(seq).into())
    }

    /// The same for a receiver, which may have missed any number of packets: a number that cannot
    /// lie before the highest one lies ahead of it. A sender must not guess so: it would go on in
    /// a cycle that no receiver knows of.
    pub(super) fn index_received(&self, seq: u16) -> u64 {
        let ahead = || {
            let highest = self.highest.unwrap_or_default();
            highest.wrapping_add(seq.wrapping_sub(low(highest)).into())
        };
        self.index_of(seq).unwrap_or_else(ahead)
    }

    /// Whether an index may be used: it is not marked, and not so low that this is unknown.
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

    /// Takes the marks from an index on back, for the same packets: some of them may have been
    /// sent. False: others follow since, and the marks stay.
    pub(super) fn rewind(&mut self, index: u64) -> bool {
        if index < self.floor {
            return false;
        }
        self.rewound = self.rewound.max(self.highest);
        self.take_back(index);
        true
    }

    /// Takes all marks back, for the same packets, as [`Self::rewind`] does.
    pub(super) fn restart(&mut self) -> bool {
        if self.floor > 0 {
            return false;
        }
        let rewound = self.rewound.max(self.highest);
        *self = Self { rewound, ..Self::new(self.roc) };
        true
    }

    /// Other packets follow: all indexes so far are used, also those whose marks were taken back.
    /// Gives the next one; `None` before the first.
    pub(super) fn close(&mut self) -> Option<u64> {
        let last = self.rewound.max(self.highest)?;
        (self.highest, self.used) = (Some(last), u128::MAX);
        self.floor = last + 1;
        Some(self.floor)
    }

    fn take_back(&mut self, index: u64) {
        let Some(highest) = self.highest.filter(|highest| *highest >= index) else { return };
        match index.checked_sub(1) {
            // There is nothing before it: the cycle stays the same.
            None => (self.highest, self.used) = (None, 0),
            Some(before) => {
                let back = highest - before;
                // What lay before the window is not known any more: all of it counts as used.
                self.used = match back < WINDOW {
                    true => self.used >> back | !(u128::MAX >> back),
                    false => u128::MAX,
                };
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
        assert!(window.rewind(15));
        window.mark(15);
        assert!(window.is_fresh(16), "the same packet");
        assert_eq!(window.close(), Some(21));
        assert!((0..=20).all(|index| !window.is_fresh(index)));
        assert!(window.is_fresh(21));
        // Somebody may have seen 24.
        (21..=24).for_each(|index| window.mark(index));
        assert!(window.rewind(23));
        window.mark(23);
        assert_eq!(window.close(), Some(25));
        // Packets from before others are lost.
        assert!(!window.rewind(24) && !window.restart());
        assert_eq!(window.close(), Some(25));
        // A late one of the others lies between those before.
        let mut window = IndexWindow::new(0);
        [10, 12].into_iter().for_each(|index| window.mark(index));
        assert_eq!(window.close(), Some(13));
        assert!(!window.is_fresh(11));
        let mut window = IndexWindow::new(0);
        (21..=24).for_each(|index| window.mark(index));
        assert!(window.restart());
        assert!(window.is_fresh(21), "the same packet");
        assert_eq!(window.close(), Some(25));
    }

    #[test]
    fn rollover_counter_goes_with_the_wrap_in_both_directions() {
        let mut window = IndexWindow::new(0);
        for (seq, index) in [(65_534, 65_534), (0, 65_536), (65_535, 65_535), (3, 65_539)] {
            assert_eq!(window.index_of(seq), Some(index));
            window.mark(index);
        }
        assert!(!window.is_fresh(65_535) && window.is_fresh(65_537));
        // For a receiver a number before the first cycle is one of the first cycle.
        let mut window = IndexWindow::new(0);
        window.mark(5);
        assert_eq!((window.index_of(65_530), window.index_received(65_530)), (None, 65_530));
        let window = IndexWindow::new(7);
        assert_eq!(window.index_of(9), Some((7 << 16) + 9));
    }

    #[test]
    fn indexes_that_have_left_the_window_stay_used_when_it_goes_back() {
        let mut window = IndexWindow::new(0);
        (0..300).for_each(|index| window.mark(index));
        assert!(window.rewind(250));
        assert!((0..250).all(|index| !window.is_fresh(index)));
        assert!(window.is_fresh(250));
    }

    #[test]
    fn rewound_indexes_are_used_again_and_no_others() {
        let mut window = IndexWindow::new(0);
        (10..20).for_each(|index| window.mark(index));
        assert!(window.rewind(15));
        assert_eq!(window.highest(), Some(14));
        assert!((10..15).all(|index| !window.is_fresh(index)));
        assert!((15..40).all(|index| window.is_fresh(index)));
        assert!(window.rewind(30));
        assert_eq!(window.highest(), Some(14), "nothing is there");
        // Before the first one lies nothing that was used: an unused number may still be sent.
        assert!(window.rewind(10));
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
                prop_assert_eq!(window.index_of(low(index)), Some(index));
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
