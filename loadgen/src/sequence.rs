//! Counts what became of every sequence number of one stream.
//!
//! ```text
//! base ........ [ window of 512 bits ] highest
//!   lost = (highest - base + 1) - received, duplicates seen by the window
//! ```
//! RFC 3550 appendix A.1 and A.3, without probation: a load generator wants the first packet
//! counted, and a wild jump shows as the loss it is.
//! A server that begins new numbers (after a seek) begins a new run: the finished ones are summed.
//! Invariant: received <= expected; every packet is exactly one [`Arrival`].
//! Bound: 64 bytes of window; a packet more than [`WINDOW_PACKETS`] late stays counted as lost.

/// Packets behind the newest one for which duplicates are told from late arrivals.
pub const WINDOW_PACKETS: u64 = 512;
/// An announced first number further than this from the first seen is a server's slip (several
/// announce 0 or 1) and not a loss of thousands.
pub const ANNOUNCED_DISTANCE_MAX: u64 = 3_000;
/// Start of the extended numbers: high enough that no late packet falls below zero.
const EXTENDED_START: u64 = 1 << 32;
const WORD_BITS: u64 = 64;
const WORDS: usize = 8;

/// What a packet is in the order of its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// The newest so far.
    Newest,
    /// Missing until now, behind a newer one.
    Late,
    /// Seen before.
    Duplicate,
    /// From before the announced start, or too far behind to tell.
    Stray,
}

/// Sequence numbers of one stream.
#[derive(Debug, Clone, Default)]
pub struct SequenceTracker {
    run: Option<Run>,
    announced: Option<u16>,
    duplicates: u64,
    reordered: u64,
    strays: u64,
    /// Sums of the runs before this one.
    ended: Ended,
}

#[derive(Debug, Clone, Copy, Default)]
struct Ended {
    expected: u64,
    received: u64,
    lost_at_start: u64,
}

#[derive(Debug, Clone)]
struct Run {
    base: u64,
    /// Least number that came and counts.
    first: u64,
    highest: u64,
    received: u64,
    /// Bit `n % 512` stands for extended number `n` in `highest - 511 ..= highest`.
    seen: [u64; WORDS],
}

impl SequenceTracker {
    /// The server has announced the first number (RTP-Info), before or after packets came.
    pub fn handle_announced(&mut self, seq: u16) {
        self.announced = Some(seq);
        if let Some(run) = &mut self.run {
            run.rebase(seq);
        }
    }

    /// The server begins new numbers, with `announced` where it says so. What was missing stays so.
    pub fn restart(&mut self, announced: Option<u16>) {
        self.ended = Ended {
            expected: self.expected(),
            received: self.received(),
            lost_at_start: self.lost_at_start(),
        };
        self.run = None;
        self.announced = announced;
    }

    /// The newest number, as on the wire.
    #[must_use]
    pub fn highest(&self) -> Option<u16> {
        self.run.as_ref().map(|run| u16::try_from(run.highest & 0xffff).unwrap_or(0))
    }

    /// A packet has come.
    pub fn handle_packet(&mut self, seq: u16) -> Arrival {
        let arrival = match &mut self.run {
            Some(run) => run.accept(seq),
            None => {
                let mut run = Run::starting_at(seq);
                if let Some(announced) = self.announced {
                    run.rebase(announced);
                }
                self.run = Some(run);
                Arrival::Newest
            }
        };
        match arrival {
            Arrival::Newest => {}
            Arrival::Late => self.reordered += 1,
            Arrival::Duplicate => self.duplicates += 1,
            Arrival::Stray => self.strays += 1,
        }
        arrival
    }

    /// Packets from the first number to the highest seen.
    #[must_use]
    pub fn expected(&self) -> u64 {
        self.ended.expected + self.run.as_ref().map_or(0, |run| run.highest - run.base + 1)
    }

    /// Different packets among the expected.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.ended.received + self.run.as_ref().map_or(0, |run| run.received)
    }

    /// Packets that did not come.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.expected().saturating_sub(self.received())
    }

    /// Of the lost, those between the announced start and the first that came. Some servers
    /// announce a start one too early, which looks the same.
    #[must_use]
    pub fn lost_at_start(&self) -> u64 {
        let here = self.run.as_ref().map_or(0, |run| run.first.saturating_sub(run.base));
        self.ended.lost_at_start + here
    }

    /// Packets that came behind a newer one.
    #[must_use]
    pub const fn reordered(&self) -> u64 {
        self.reordered
    }

    /// Packets that came again.
    #[must_use]
    pub const fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Packets from before the start, or too late to tell.
    #[must_use]
    pub const fn strays(&self) -> u64 {
        self.strays
    }

    /// Highest number with its cycles, as a receiver report wants it (RFC 3550 s6.4.1).
    #[must_use]
    pub fn extended_highest(&self) -> u32 {
        let highest = self.run.as_ref().map_or(0, |run| run.highest);
        u32::try_from(highest & u64::from(u32::MAX)).unwrap_or(0)
    }
}

impl Run {
    fn starting_at(seq: u16) -> Self {
        let first = EXTENDED_START + u64::from(seq);
        let mut run = Self { base: first, first, highest: first, received: 1, seen: [0; WORDS] };
        run.mark(first);
        run
    }

    fn accept(&mut self, seq: u16) -> Arrival {
        let number = nearest(self.highest, seq);
        if number > self.highest {
            let gap = number - self.highest;
            if gap >= WINDOW_PACKETS {
                self.seen = [0; WORDS];
            } else {
                (self.highest + 1..number).for_each(|skipped| self.clear(skipped));
            }
            self.highest = number;
            self.received += 1;
            self.mark(number);
            return Arrival::Newest;
        }
        if number < self.base || self.highest - number >= WINDOW_PACKETS {
            return Arrival::Stray;
        }
        if self.is_seen(number) {
            return Arrival::Duplicate;
        }
        self.received += 1;
        self.first = self.first.min(number);
        self.mark(number);
        Arrival::Late
    }

    /// Moves the start to the announced number, where that is plausible.
    fn rebase(&mut self, announced: u16) {
        let base = nearest(self.base, announced);
        if base.abs_diff(self.base) > ANNOUNCED_DISTANCE_MAX {
            return;
        }
        if base > self.highest || self.highest - self.base >= WINDOW_PACKETS && base > self.base {
            // Packets before the start cannot be taken out of the count any more.
            return;
        }
        let before = (self.base..base).filter(|&number| self.is_seen(number)).count();
        self.received -= u64::try_from(before).unwrap_or(0);
        self.base = base;
        let counted = (base.max(self.first)..=self.highest).find(|&number| self.is_seen(number));
        self.first = counted.unwrap_or(self.highest);
    }

    fn is_seen(&self, number: u64) -> bool {
        let (word, bit) = place(number);
        self.seen.get(word).is_some_and(|bits| bits & bit != 0)
    }

    fn mark(&mut self, number: u64) {
        let (word, bit) = place(number);
        if let Some(bits) = self.seen.get_mut(word) {
            *bits |= bit;
        }
    }

    fn clear(&mut self, number: u64) {
        let (word, bit) = place(number);
        if let Some(bits) = self.seen.get_mut(word) {
            *bits &= !bit;
        }
    }
}

/// The extended number with the low bits `seq` that lies nearest to `reference`.
fn nearest(reference: u64, seq: u16) -> u64 {
    let low = u16::try_from(reference & 0xffff).unwrap_or(0);
    let ahead = seq.wrapping_sub(low);
    let behind = low.wrapping_sub(seq);
    if ahead < 0x8000 {
        reference.saturating_add(u64::from(ahead))
    } else {
        reference.saturating_sub(u64::from(behind))
    }
}

fn place(number: u64) -> (usize, u64) {
    let slot = number % WINDOW_PACKETS;
    (usize::try_from(slot / WORD_BITS).unwrap_or(0), 1 << (slot % WORD_BITS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn tracked(seqs: impl IntoIterator<Item = u16>) -> SequenceTracker {
        let mut tracker = SequenceTracker::default();
        for seq in seqs {
            tracker.handle_packet(seq);
        }
        tracker
    }

    #[test]
    fn gap_is_lost_until_the_late_packet_comes() {
        let mut tracker = tracked([10, 11, 13]);
        assert_eq!((tracker.expected(), tracker.lost()), (4, 1));
        assert_eq!(tracker.handle_packet(12), Arrival::Late);
        assert_eq!((tracker.lost(), tracker.reordered()), (0, 1));
        assert_eq!(tracker.handle_packet(12), Arrival::Duplicate);
        assert_eq!((tracker.lost(), tracker.duplicates()), (0, 1));
    }

    #[test]
    fn wrap_of_the_sequence_number_loses_nothing() {
        let tracker = tracked((0u32..200_000).map(|n| (n.wrapping_add(65_000) & 0xffff) as u16));
        assert_eq!((tracker.expected(), tracker.lost()), (200_000, 0));
    }

    #[test]
    fn loss_right_at_the_wrap_is_counted() {
        let tracker = tracked([65_534, 1]);
        assert_eq!(tracker.lost(), 2);
    }

    #[test]
    fn announced_start_makes_missing_first_packets_lost() {
        let mut before = SequenceTracker::default();
        before.handle_announced(100);
        before.handle_packet(103);
        assert_eq!(before.lost(), 3);
        let mut after = tracked([103]);
        after.handle_announced(100);
        assert_eq!((after.lost(), after.lost_at_start()), (3, 3));
        after.handle_packet(102);
        after.handle_packet(105);
        assert_eq!((after.lost(), after.lost_at_start()), (3, 2));
    }

    #[test]
    fn packets_from_before_the_announced_start_do_not_count() {
        let mut tracker = tracked([98, 99, 100, 102]);
        tracker.handle_announced(100);
        assert_eq!((tracker.expected(), tracker.received(), tracker.lost()), (3, 2, 1));
        assert_eq!(tracker.lost_at_start(), 0);
        assert_eq!(tracker.handle_packet(97), Arrival::Stray);
        assert_eq!(tracker.lost(), 1);
    }

    #[test]
    fn implausible_announced_start_is_ignored() {
        let mut tracker = tracked([30_000, 30_001]);
        tracker.handle_announced(0);
        assert_eq!((tracker.expected(), tracker.lost()), (2, 0));
    }

    #[test]
    fn new_numbers_after_a_restart_are_no_loss_and_old_losses_stay() {
        let mut tracker = tracked([10, 12]);
        tracker.restart(Some(40_000));
        assert_eq!((tracker.expected(), tracker.lost(), tracker.highest()), (3, 1, None));
        tracker.handle_packet(40_001);
        assert_eq!((tracker.expected(), tracker.received()), (5, 3));
        assert_eq!((tracker.lost(), tracker.lost_at_start()), (2, 1));
        assert_eq!(tracker.highest(), Some(40_001));
    }

    #[test]
    fn jump_wider_than_the_window_forgets_old_bits() {
        let mut tracker = tracked([0, 1, 2]);
        tracker.handle_packet(2 + 512);
        assert_eq!(tracker.lost(), 511);
        assert_eq!(tracker.handle_packet(3), Arrival::Late);
        assert_eq!(tracker.handle_packet(2), Arrival::Stray);
    }

    proptest! {
        /// Against a set of every number: dropped, repeated and locally shuffled packets.
        #[test]
        fn counts_agree_with_a_set_of_all_numbers(
            start: u16,
            steps in prop::collection::vec((0u8..10, 0usize..8), 1..400),
        ) {
            let mut sent = Vec::new();
            for (number, (fate, _)) in (u64::from(start)..).zip(&steps) {
                match fate {
                    0 => {}
                    1 => sent.extend([number, number]),
                    _ => sent.push(number),
                }
            }
            for (index, (_, swap)) in steps.iter().enumerate() {
                let other = index + swap;
                if other < sent.len() {
                    sent.swap(index, other);
                }
            }
            let Some(&first) = sent.first() else { return Ok(()) };
            let mut tracker = SequenceTracker::default();
            for &number in &sent {
                tracker.handle_packet((number & 0xffff) as u16);
            }
            let counted: BTreeSet<u64> = sent.iter().copied().filter(|&n| n >= first).collect();
            let highest = *counted.last().expect("not empty");
            prop_assert_eq!(tracker.expected(), highest - first + 1);
            prop_assert_eq!(tracker.received(), counted.len() as u64);
            let copies = sent.iter().filter(|&&n| n >= first).count() - counted.len();
            prop_assert_eq!(tracker.duplicates(), copies as u64);
        }

        #[test]
        fn received_never_exceeds_expected(
            seqs in prop::collection::vec(any::<u16>(), 1..300),
            announced: u16,
            when in 0usize..300,
        ) {
            let mut tracker = SequenceTracker::default();
            for (index, seq) in seqs.into_iter().enumerate() {
                if index == when {
                    tracker.handle_announced(announced);
                }
                tracker.handle_packet(seq);
                prop_assert!(tracker.received() <= tracker.expected());
                prop_assert!(tracker.lost_at_start() <= tracker.lost());
            }
        }
    }
}
