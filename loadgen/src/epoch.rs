//! Which packets belong to what was asked for before a PLAY, and which to what comes of it.
//!
//! ```text
//! Playing --PLAY sent--> Switching: packets are held back
//!    ^                       | answer, with seq of RTP-Info = S
//!    |                       v
//!    +--4,096 packets-- Settling: seq < S is old, seq >= S is new
//! ```
//! Media and answers take different ways: packets of the new place may be read before the answer,
//! and packets of the old one after it. RTP-Info draws the line (RFC 2326 s12.33): nothing from
//! before it is counted as a packet, a gap or a frame of the new epoch.
//! - Numbers that go on (S within [`NEAR_PACKETS`] of the newest) stay one row: what is missing up
//!   to S is a loss of the old epoch.
//! - Other numbers begin a new row. A packet is of the row it lies nearer to.
//! - Without RTP-Info all that comes before the answer is old, all that comes after it is new.
//!
//! Invariant: a packet that was held back is handed out exactly once.
//! Bound: [`HELD_MAX`] packets are held back; those beyond count as old.

use crate::time::Mono;

/// Packets that may wait for the answer to PLAY.
pub const HELD_MAX: usize = 4_096;
/// Numbers so near to the newest go on.
pub const NEAR_PACKETS: u16 = 512;
/// Packets after which nothing old can be on its way any more. Well below half the numbers there
/// are, so that old and new are never confused.
const SETTLING_PACKETS: u32 = 4_096;

/// What matters of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Sequence number.
    pub seq: u16,
    /// RTP time.
    pub timestamp: u32,
    /// When it came.
    pub arrival: Mono,
}

/// What RTP-Info says about one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Announced {
    /// Number of the first packet.
    pub seq: Option<u16>,
    /// RTP time of the start.
    pub time: Option<u32>,
}

/// Where a packet belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// To what plays now.
    New,
    /// To what played before the last answer to PLAY.
    Old,
    /// It is held back until the answer is there.
    Unknown,
}

/// The line between two epochs of one stream.
#[derive(Debug, Default)]
pub struct Epoch {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Playing,
    Switching {
        held: Vec<Held>,
    },
    Settling(Line),
}

#[derive(Debug, Clone, Copy)]
struct Line {
    /// First number of the new epoch.
    seq: Option<u16>,
    /// Newest number of the old epoch.
    highest: Option<u16>,
    is_continued: bool,
    has_new: bool,
    packets_left: u32,
}

impl Epoch {
    /// PLAY was sent.
    pub fn handle_switch(&mut self) {
        if !matches!(self.state, State::Switching { .. }) {
            self.state = State::Switching { held: Vec::new() };
        }
    }

    /// PLAY was answered; `highest` is the newest number counted so far. The packets held back.
    pub fn handle_answer(&mut self, announced: Announced, highest: Option<u16>) -> Vec<Held> {
        let held = self.give_up();
        // Those held back may have gone on from the newest one counted.
        let is_continued = match (announced.seq, highest) {
            (Some(seq), Some(highest)) => {
                let next = highest.wrapping_add(1);
                let reach = NEAR_PACKETS.saturating_add(u16::try_from(held.len()).unwrap_or(0));
                distance(next, seq) <= reach
            }
            // The first packet will tell.
            (None, _) | (_, None) => true,
        };
        let packets_left = SETTLING_PACKETS;
        let line = Line { seq: announced.seq, highest, is_continued, has_new: false, packets_left };
        self.state = State::Settling(line);
        held
    }

    /// The answer will never come: the packets held back.
    pub fn give_up(&mut self) -> Vec<Held> {
        match std::mem::take(&mut self.state) {
            State::Switching { held } => held,
            State::Playing | State::Settling(_) => Vec::new(),
        }
    }

    /// Whether the numbers of the old epoch go on.
    #[must_use]
    pub const fn is_continued(&self) -> bool {
        match &self.state {
            State::Settling(line) => line.is_continued,
            State::Playing | State::Switching { .. } => true,
        }
    }

    /// Whether a packet of another source may be the begin of the new epoch.
    #[must_use]
    pub fn may_change_source(&self, seq: u16) -> bool {
        match &self.state {
            State::Settling(line) => !line.has_new && line.place_of(seq) == Place::New,
            // With the answer on its way, the packet may be of the new epoch already.
            State::Switching { .. } => true,
            State::Playing => false,
        }
    }

    /// Where a packet that was held back belongs, once the answer is there.
    #[must_use]
    pub fn place_of(&self, seq: u16) -> Place {
        match &self.state {
            // Without a number all that came before the answer is old.
            State::Settling(line) if line.seq.is_none() => Place::Old,
            State::Settling(line) => line.place_of(seq),
            State::Playing | State::Switching { .. } => Place::New,
        }
    }

    /// One more packet.
    #[inline]
    pub fn handle_packet(&mut self, packet: Held) -> Place {
        match &mut self.state {
            State::Playing => Place::New,
            State::Switching { held } if held.len() < HELD_MAX => {
                held.push(packet);
                Place::Unknown
            }
            State::Switching { .. } => Place::Old,
            State::Settling(line) => {
                line.learn_from(packet.seq);
                let place = line.place_of(packet.seq);
                if place == Place::New {
                    line.has_new = true;
                    line.packets_left -= 1;
                    if line.packets_left == 0 {
                        self.state = State::Playing;
                    }
                }
                place
            }
        }
    }
}

impl Line {
    /// Without RTP-Info the first packet tells whether numbers go on.
    fn learn_from(&mut self, seq: u16) {
        if self.seq.is_none() && !self.has_new {
            let is_far = |highest| distance(highest, seq) > NEAR_PACKETS;
            self.is_continued = !self.highest.is_some_and(is_far);
        }
    }

    fn place_of(&self, seq: u16) -> Place {
        let Some(start) = self.seq else { return Place::New };
        let ahead = seq.wrapping_sub(start);
        if ahead >= 0x8000 {
            return Place::Old;
        }
        // In a new row the old one may lie ahead, too: by chance, and then nearer to its own end.
        let to_old = self.highest.map_or(u16::MAX, |highest| distance(highest, seq));
        if !self.is_continued && to_old < ahead { Place::Old } else { Place::New }
    }
}

/// Numbers between two, the short way round.
const fn distance(a: u16, b: u16) -> u16 {
    let (up, down) = (b.wrapping_sub(a), a.wrapping_sub(b));
    if up < down { up } else { down }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(seq: u16) -> Held {
        Held { seq, timestamp: 0, arrival: Mono::from_ns(u64::from(seq)) }
    }

    fn switched(held: &[u16], highest: u16, seq: Option<u16>) -> (Epoch, Vec<Place>) {
        let mut epoch = Epoch::default();
        epoch.handle_switch();
        for &seq in held {
            assert_eq!(epoch.handle_packet(packet(seq)), Place::Unknown);
        }
        let held = epoch.handle_answer(Announced { seq, time: None }, Some(highest));
        let places = held.iter().map(|packet| epoch.place_of(packet.seq)).collect();
        (epoch, places)
    }

    #[test]
    fn numbers_that_go_on_are_cut_at_the_announced_one() {
        use Place::{New, Old};
        let (mut epoch, places) = switched(&[65_534, 65_535, 0, 2], 65_533, Some(0));
        assert_eq!(places, [Old, Old, New, New]);
        assert!(epoch.is_continued());
        assert_eq!(epoch.handle_packet(packet(65_530)), Old);
        assert_eq!(epoch.handle_packet(packet(1)), New);
    }

    #[test]
    fn new_numbers_are_told_from_old_ones_by_their_neighbours() {
        use Place::{New, Old};
        // The new row begins 7,000 below the old one: what is old lies ahead of it.
        let (mut epoch, places) = switched(&[8_001, 1_000], 8_000, Some(1_000));
        assert_eq!(places, [Old, New]);
        assert!(!epoch.is_continued());
        assert_eq!(epoch.handle_packet(packet(8_002)), Old);
        assert_eq!(epoch.handle_packet(packet(1_001)), New);
    }

    #[test]
    fn answer_without_rtp_info_is_the_line_itself() {
        let (mut epoch, places) = switched(&[11], 10, None);
        assert_eq!(places, [Place::Old]);
        assert_eq!(epoch.handle_packet(packet(12)), Place::New);
        assert!(epoch.is_continued());
        let (mut epoch, _) = switched(&[], 10, None);
        assert_eq!(epoch.handle_packet(packet(40_000)), Place::New);
        assert!(!epoch.is_continued());
    }

    #[test]
    fn other_source_is_taken_at_the_begin_of_an_epoch_only() {
        let (mut epoch, _) = switched(&[], 10, Some(500));
        assert!(epoch.may_change_source(500));
        assert!(!epoch.may_change_source(400));
        epoch.handle_packet(packet(500));
        assert!(!epoch.may_change_source(501));
        assert!(!Epoch::default().may_change_source(1));
    }

    #[test]
    fn line_is_forgotten_long_before_numbers_come_round() {
        let (mut epoch, _) = switched(&[], 9, Some(10));
        for seq in 10..60_000 {
            assert_eq!(epoch.handle_packet(packet(seq)), Place::New);
        }
    }

    proptest! {
        #[test]
        fn held_packets_come_out_once_and_no_more_than_the_bound(
            seqs in prop::collection::vec(any::<u16>(), 0..5_000),
            start: Option<u16>,
            highest: Option<u16>,
        ) {
            let mut epoch = Epoch::default();
            epoch.handle_switch();
            let places: Vec<Place> = seqs.iter().map(|&s| epoch.handle_packet(packet(s))).collect();
            let unknown = places.iter().filter(|place| **place == Place::Unknown).count();
            prop_assert_eq!(unknown, seqs.len().min(HELD_MAX));
            let held = epoch.handle_answer(Announced { seq: start, time: None }, highest);
            prop_assert_eq!(held.len(), unknown);
            prop_assert!(held.iter().all(|held| epoch.place_of(held.seq) != Place::Unknown));
            prop_assert!(epoch.give_up().is_empty());
        }
    }
}
