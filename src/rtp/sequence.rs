//! Sequence numbers without wraps, and what is lost (RFC 3550 appendix A.1 and A.3).
//!
//! ```text
//! highest - MISORDER_MAX ... highest ... highest + DROPOUT_MAX      everything else
//!   Late: reordered or twice    | Next: in order, or behind a gap     Jump; the next in line with
//!                                                                     it proves a Restart
//! ```
//! Unlike A.1 there is no probation at the start: the source has been set up, and its first packet
//! is part of its first picture.
//! Invariant: numbers of `Next` and `Restart` only grow, and their low 16 bits are those of the
//! packet. Bound: three counters; the caller keeps what it needs of each packet.

use crate::base::ids::SeqNo;

/// Sequence number that does not wrap. The low 16 bits are those on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtSeq(pub u64);

impl ExtSeq {
    /// As on the wire.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the low 16 bits are what is meant")]
    pub fn seq(self) -> SeqNo {
        SeqNo(self.0 as u16)
    }
}

/// What a packet is by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// The highest so far.
    Next {
        /// Its number.
        seq: ExtSeq,
        /// Packets between it and the one that was the highest: lost, or late.
        missing_count: u16,
    },
    /// Not the highest: reordered, or there already.
    Late {
        /// Its number.
        seq: ExtSeq,
    },
    /// Far from where the stream is: not to be used. A stray packet, or the first of a restart.
    Jump,
    /// The second packet in line after a jump: the source has begun anew.
    Restart {
        /// Its number, in the next cycle.
        seq: ExtSeq,
    },
}

/// What a report block says of a stream's packets (RFC 3550 s6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reception {
    /// Share lost since the last call, in 256ths.
    pub fraction_lost: u8,
    /// Lost since the stream began; negative when packets came twice.
    pub cumulative_lost: i32,
    /// Highest sequence number with the count of its wraps above it.
    pub ext_highest_seq: u32,
}

/// Extended sequence numbers and losses of one stream.
#[derive(Debug, Clone)]
pub struct SequenceTracker {
    /// Of the first packet since the (re)start.
    base: ExtSeq,
    highest: ExtSeq,
    /// Packets since the (re)start.
    received_count: u64,
    /// What would prove a restart.
    expected_after_jump: Option<SeqNo>,
    expected_prior: u64,
    received_prior: u64,
}

impl SequenceTracker {
    /// Begins with the first packet, whose number is `start`.
    #[must_use]
    pub fn new(first: SeqNo) -> Self {
        // A cycle below, so that what was overtaken by the first packet has a number too.
        let base = ExtSeq(CYCLE | u64::from(first.0));
        Self {
            base,
            highest: base,
            received_count: 1,
            expected_after_jump: None,
            expected_prior: 0,
            received_prior: 0,
        }
    }

    /// The number of the first packet.
    #[must_use]
    pub fn start(&self) -> ExtSeq {
        self.base
    }

    /// The highest number so far.
    #[must_use]
    pub fn highest(&self) -> ExtSeq {
        self.highest
    }

    /// Takes the number of every packet behind the first.
    pub fn handle_seq(&mut self, seq: SeqNo) -> Arrival {
        let ahead = seq.0.wrapping_sub(self.highest.seq().0);
        let behind = self.highest.seq().0.wrapping_sub(seq.0);
        let is_ahead = (1..DROPOUT_MAX).contains(&ahead);
        if !is_ahead && behind > MISORDER_MAX {
            return self.handle_jump(seq);
        }
        self.expected_after_jump = None;
        self.received_count += 1;
        if is_ahead {
            self.highest = ExtSeq(self.highest.0 + u64::from(ahead));
            return Arrival::Next { seq: self.highest, missing_count: ahead - 1 };
        }
        Arrival::Late { seq: ExtSeq(self.highest.0 - u64::from(behind)) }
    }

    fn handle_jump(&mut self, seq: SeqNo) -> Arrival {
        if self.expected_after_jump != Some(seq) {
            self.expected_after_jump = Some(seq.plus(1));
            return Arrival::Jump;
        }
        let restarted = ExtSeq((self.highest.0 / CYCLE + 1) * CYCLE + u64::from(seq.0));
        *self = Self { base: restarted, highest: restarted, ..Self::new(seq) };
        Arrival::Restart { seq: restarted }
    }

    /// For a report block: the loss since the last call, and in all.
    pub fn report(&mut self) -> Reception {
        //= RFC 3550 A.3
        let expected = self.highest.0 - self.base.0 + 1;
        let expected_now = expected - self.expected_prior;
        let received_now = self.received_count - self.received_prior;
        self.expected_prior = expected;
        self.received_prior = self.received_count;
        // Duplicates may hide a loss; there is no negative share.
        let lost_now = expected_now.saturating_sub(received_now);
        let fraction = (lost_now * 256).checked_div(expected_now).unwrap_or(0);
        let lost = i128::from(expected) - i128::from(self.received_count);
        Reception {
            fraction_lost: u8::try_from(fraction).unwrap_or(u8::MAX),
            cumulative_lost: i32::try_from(lost.clamp(LOST_MIN, LOST_MAX)).unwrap_or(0),
            ext_highest_seq: low_32_bits(self.highest.0 - CYCLE),
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the field has 32 bits and wraps")]
fn low_32_bits(seq: u64) -> u32 {
    seq as u32
}

const CYCLE: u64 = 1 << 16;
/// A.1: a gap of as many packets is a restart, unless the stream goes on behind it.
const DROPOUT_MAX: u16 = 3_000;
/// A.1: how far packets overtake each other.
const MISORDER_MAX: u16 = 100;
const LOST_MAX: i128 = 0x7f_ffff;
const LOST_MIN: i128 = -0x80_0000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(tracker: &mut SequenceTracker, seq: u16) -> Arrival {
        tracker.handle_seq(SeqNo(seq))
    }

    #[test]
    fn numbers_go_on_across_the_wrap() {
        let mut tracker = SequenceTracker::new(SeqNo(65_534));
        let start = tracker.start().0;
        let next =
            |ahead, missing_count| Arrival::Next { seq: ExtSeq(start + ahead), missing_count };
        assert_eq!(at(&mut tracker, 65_535), next(1, 0));
        assert_eq!(at(&mut tracker, 1), next(3, 1));
        assert_eq!(at(&mut tracker, 0), Arrival::Late { seq: ExtSeq(start + 2) });
        assert_eq!(at(&mut tracker, 1), Arrival::Late { seq: ExtSeq(start + 3) });
        assert_eq!(tracker.report().ext_highest_seq, 0x1_0001);
    }

    #[test]
    fn packet_before_the_first_is_late_and_has_a_number() {
        let mut tracker = SequenceTracker::new(SeqNo(0));
        let before = ExtSeq(tracker.start().0 - 5);
        assert_eq!(at(&mut tracker, 65_531), Arrival::Late { seq: before });
        assert_eq!(before.seq(), SeqNo(65_531));
    }

    //= test RFC 3550 A.1
    #[test]
    fn restart_needs_two_packets_in_line() {
        let mut tracker = SequenceTracker::new(SeqNo(100));
        assert_eq!(at(&mut tracker, 40_000), Arrival::Jump);
        assert!(matches!(at(&mut tracker, 101), Arrival::Next { .. }), "a stray packet");
        assert_eq!(at(&mut tracker, 40_001), Arrival::Jump, "the stray one is forgotten");
        assert_eq!(at(&mut tracker, 40_003), Arrival::Jump);
        let restart = at(&mut tracker, 40_004);
        let Arrival::Restart { seq } = restart else { panic!("{restart:?}") };
        assert!(seq.seq() == SeqNo(40_004) && seq > ExtSeq(CYCLE | 101));
        assert!(matches!(at(&mut tracker, 40_005), Arrival::Next { missing_count: 0, .. }));
        assert_eq!(tracker.report().cumulative_lost, 0, "counted anew");
    }

    #[test]
    fn borders_of_dropout_and_misorder() {
        let mut tracker = SequenceTracker::new(SeqNo(1_000));
        assert_eq!(at(&mut tracker.clone(), 4_000), Arrival::Jump);
        assert!(matches!(at(&mut tracker.clone(), 3_999), Arrival::Next { .. }));
        assert!(matches!(at(&mut tracker.clone(), 900), Arrival::Late { .. }));
        assert_eq!(at(&mut tracker, 899), Arrival::Jump);
    }

    //= test RFC 3550 A.3
    #[test]
    fn loss_is_told_for_the_interval_and_in_all() {
        let mut tracker = SequenceTracker::new(SeqNo(1));
        for seq in (2..=100).filter(|seq| seq % 4 != 0) {
            at(&mut tracker, seq);
        }
        at(&mut tracker, 100);
        let Reception { fraction_lost, cumulative_lost, .. } = tracker.report();
        assert_eq!((fraction_lost, cumulative_lost), (61, 24));
        for seq in 101..=200 {
            at(&mut tracker, seq);
        }
        let Reception { fraction_lost, cumulative_lost, .. } = tracker.report();
        assert_eq!((fraction_lost, cumulative_lost), (0, 24));
        let quiet = tracker.report();
        assert_eq!((quiet.fraction_lost, quiet.cumulative_lost), (0, 24));
        for _ in 0..30 {
            at(&mut tracker, 200);
        }
        assert_eq!(tracker.report().cumulative_lost, -6, "duplicates");
    }

    proptest! {
        #[test]
        fn any_numbers_keep_the_low_bits_and_the_highest_grows(
            first: u16, seqs in prop::collection::vec(any::<u16>(), 0..200),
        ) {
            let mut tracker = SequenceTracker::new(SeqNo(first));
            for seq in seqs {
                let before = tracker.highest();
                match at(&mut tracker, seq) {
                    Arrival::Next { seq: ext, .. } | Arrival::Restart { seq: ext } => {
                        prop_assert!(ext > before && ext.seq() == SeqNo(seq));
                        prop_assert_eq!(tracker.highest(), ext);
                    }
                    Arrival::Late { seq: ext } => {
                        prop_assert!(ext <= before && ext.seq() == SeqNo(seq));
                    }
                    Arrival::Jump => prop_assert_eq!(tracker.highest(), before),
                }
                tracker.report();
            }
        }

        /// Oracle: the stream's own numbers, shuffled within the limit and thinned.
        #[test]
        fn every_packet_of_a_stream_gets_its_own_number(
            first: u16, lost in prop::collection::vec(0u8..10, 1..300), swap in 1usize..50,
        ) {
            let kept = lost.iter().enumerate().filter(|(i, lost)| *i == 0 || **lost > 0);
            let mut places: Vec<u64> = kept.map(|(i, _)| i as u64).collect();
            let (_, tail) = places.split_first_mut().unwrap();
            for chunk in tail.chunks_mut(swap) {
                chunk.reverse();
            }
            let mut tracker = SequenceTracker::new(SeqNo(first));
            let start = tracker.start().0;
            for place in &places[1..] {
                let expected = ExtSeq(start + place);
                match tracker.handle_seq(expected.seq()) {
                    Arrival::Next { seq, .. } | Arrival::Late { seq } => {
                        prop_assert_eq!(seq, expected);
                    }
                    other => panic!("{other:?}"),
                }
            }
            let highest = places.iter().max().unwrap() + 1;
            let lost = highest - places.len() as u64;
            prop_assert_eq!(u64::try_from(tracker.report().cumulative_lost).unwrap(), lost);
        }
    }
}
