//! Cuts packets that are longer than a datagram, for readers over UDP.
//!
//! ```text
//!  received  .. 16  17 (9 kB)              18   19
//!  datagrams .. 16  17 18 19 20 21 22 23   24   25     pieces; later numbers are moved up
//! ```
//! A packet on a connection may have 64 KiB. IP cuts a datagram that is longer than the route takes
//! into fragments, and one lost fragment loses the whole datagram. So such a packet is cut once, by
//! its payload format, when its batch is built: for all readers over UDP and all groups. Readers
//! over TCP get the packet as received. Before the first long packet of a stream only lengths are
//! compared. A packet that cannot be cut is left out for these readers; the gap in their sequence
//! numbers shows the loss.
//!
//! Invariant: after a packet in `n` pieces numbers are `n - 1` higher, late packets excepted.
//! Bound: `CUTS_MAX` places at which numbers moved are kept. DESIGN section 5.2.

use crate::base::ids::SeqNo;
use crate::live::core::limits::{CUT_BYTES_MAX, DATAGRAM_BYTES_MAX};
use crate::rtp::RtpView;
use crate::rtp::cut::Pieces;
use crate::rtp::detect::DetectorFormat;

/// The form of a packet for readers over UDP.
#[derive(Debug, Clone, Copy)]
pub enum DatagramForm<'a> {
    /// The packet as received, with this sequence number.
    Renumbered(SeqNo),
    /// The pieces of the packet, the first with this sequence number.
    Cut(SeqNo, &'a Pieces),
    /// No packet.
    LeftOut,
}

/// The cuts of one track: see the module.
#[derive(Debug, Default)]
pub struct Datagrams {
    pieces: Pieces,
    pub(super) is_active: bool,
    pub(super) newest: Option<SeqNo>,
    /// Number to add to later sequence numbers.
    pub(super) extra: u16,
    /// Packets that were cut, each with the move of later numbers; the oldest entry is overwritten.
    pub(super) cuts: [(u16, u16); CUTS_MAX],
    pub(super) cut_count: usize,
}

impl Datagrams {
    /// Another RTP stream begins.
    pub fn begin(&mut self) {
        if self.is_active {
            (self.is_active, self.newest, self.extra, self.cut_count) = (false, None, 0, 0);
        }
    }

    /// The form of a packet over UDP; `None` for a packet as received.
    pub fn form(
        &mut self,
        format: DetectorFormat,
        seq: SeqNo,
        header_bytes: u16,
        bytes: &[u8],
    ) -> Option<DatagramForm<'_>> {
        let is_long = bytes.len() > DATAGRAM_BYTES_MAX;
        if !self.is_active && !is_long {
            return None;
        }
        self.is_active = true;
        let behind = self.newest.map_or(0, |newest| newest.0.wrapping_sub(seq.0));
        let is_late = self.newest.is_some() && behind <= MISORDER_MAX;
        if !is_late {
            self.newest = Some(seq);
        }
        let number =
            seq.plus(self.extra.wrapping_sub(if is_late { self.moved_since(seq) } else { 0 }));
        if !is_long {
            return Some(DatagramForm::Renumbered(number));
        }
        let room = CUT_BYTES_MAX.saturating_sub(header_bytes.into());
        let is_cut =
            RtpView::parse(bytes).is_ok_and(|view| self.pieces.cut(format, view.payload(), room));
        // A late packet has one number only: the numbers after it are in use.
        if !is_cut || is_late && self.pieces.count() > 1 {
            return Some(DatagramForm::LeftOut);
        }
        let moved = u16::try_from(self.pieces.count() - 1).unwrap_or(u16::MAX);
        self.extra = self.extra.wrapping_add(moved);
        self.cuts[self.cut_count % CUTS_MAX] = (seq.0, moved);
        self.cut_count += 1;
        Some(DatagramForm::Cut(number, &self.pieces))
    }

    /// Sum of the moves at and after a packet.
    fn moved_since(&self, seq: SeqNo) -> u16 {
        let cuts = self.cuts.iter().take(self.cut_count);
        let is_since = |(at, _): &&(u16, u16)| at.wrapping_sub(seq.0) <= MISORDER_MAX;
        cuts.filter(is_since).fold(0, |sum: u16, (_, moved)| sum.wrapping_add(*moved))
    }
}

/// RFC 3550 appendix A.1.
const MISORDER_MAX: u16 = 100;
/// Long packets of a large frame.
pub(super) const CUTS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(seq: u16, payload_bytes: usize) -> Vec<u8> {
        let [high, low] = seq.to_be_bytes();
        let header = [0x80, 96, high, low, 0, 0, 0, 1, 0, 0, 0, 2];
        [&header[..], &[0x65], &vec![7; payload_bytes - 1]].concat()
    }

    /// First number and count of pieces; 1 for a packet that is whole.
    fn form(datagrams: &mut Datagrams, seq: u16, payload_bytes: usize) -> Option<(u16, usize)> {
        let bytes = packet(seq, payload_bytes);
        match datagrams.form(DetectorFormat::H264, SeqNo(seq), 12, &bytes)? {
            DatagramForm::Renumbered(number) => Some((number.0, 1)),
            DatagramForm::Cut(number, pieces) => Some((number.0, pieces.count())),
            DatagramForm::LeftOut => Some((0, 0)),
        }
    }

    #[test]
    fn sequence_numbers_continue_after_fragments_and_late_packets_keep_their_order() {
        let mut datagrams = Datagrams::default();
        let mut form = |seq, bytes| form(&mut datagrams, seq, bytes);
        assert_eq!(form(65_533, 1_460), None, "nothing was cut yet");
        assert_eq!(form(65_534, 4_000), Some((65_534, 3)));
        assert_eq!(form(65_533, 100), Some((65_533, 1)), "it came late");
        assert_eq!(form(65_535, 100), Some((1, 1)));
        assert_eq!(form(1, 1_461), Some((3, 2)), "one was lost");
        assert_eq!(form(0, 100), Some((2, 1)), "it was late");
        assert_eq!(form(2, 100), Some((5, 1)));
        assert_eq!(form(1, 4_000), Some((0, 0)), "its numbers are taken");
        assert_eq!(form(40_000, 100), Some((40_003, 1)), "the source jumps");
        datagrams.begin();
        assert_eq!(self::form(&mut datagrams, 7, 100), None);
    }

    #[test]
    fn packet_that_cannot_be_fragmented_is_dropped_and_its_number_is_a_gap() {
        let mut datagrams = Datagrams::default();
        let long = packet(5, 3_000);
        let form = datagrams.form(DetectorFormat::Any, SeqNo(5), 12, &long);
        assert!(matches!(form, Some(DatagramForm::LeftOut)));
        let form = datagrams.form(DetectorFormat::Any, SeqNo(6), 12, &packet(6, 30));
        assert!(matches!(form, Some(DatagramForm::Renumbered(SeqNo(6)))));
    }
}
