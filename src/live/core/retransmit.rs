//! Retransmission of packets that a reader has lost (RFC 4585 NACK, RFC 4588), out of the ring.
//!
//! ```text
//!  NACK 17 --rewrite--> source's 912 --ring--> packet as received --pieces--> RTX packet
//! ```
//! Invariant: only packets that this reader was sent since the last break of its stream are sent
//! again. Bound: a tenth of the packets sent, with a burst of `RETRANSMIT_BURST`, so that losses do
//! not double the load of a lossy line. A search without a result costs as much: a reader cannot
//! keep a shard busy with searches. The budget is another one than a title's (`vod::retransmit`, a
//! quarter of the bytes): nothing makes a live stream smaller on a lossy line. DESIGN section 5.8.

use std::sync::Arc;

use crate::base::ids::{RtpTs, SeqNo};
use crate::live::core::batch::{LivePacket, PacketBatch};
use crate::live::core::description::LiveTrack;
use crate::live::core::limits::{RETRANSMIT_BURST, RETRANSMIT_SHARE};
use crate::live::core::reader::ReaderStream;
use crate::live::core::ring::BatchRing;
use crate::rtp::{self, RtpView, RtxPieces, RtxRefusal, RtxStream, rtx_pieces, set_ts};

/// Budget of a reader's retransmissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetransmitBudget {
    /// Credit in shares of a packet: `RETRANSMIT_SHARE` make one retransmission.
    credit: u32,
}

impl Default for RetransmitBudget {
    fn default() -> Self {
        Self { credit: CREDIT_MAX }
    }
}

impl RetransmitBudget {
    /// Adds the credit of packets that were sent.
    pub fn handle_sent(&mut self, packets: u16) {
        self.credit = self.credit.saturating_add(packets.into()).min(CREDIT_MAX);
    }

    /// Takes the credit of one retransmission. False without enough credit.
    pub fn take(&mut self) -> bool {
        let left = self.credit.checked_sub(RETRANSMIT_SHARE);
        self.credit = left.unwrap_or(self.credit);
        left.is_some()
    }
}

/// A packet that was sent to a reader and is still in the ring.
#[derive(Debug, Clone)]
pub struct SentPacket {
    /// The batch that holds the packet.
    pub batch: Arc<PacketBatch>,
    /// The packet as received.
    pub packet: LivePacket,
    /// Sequence number that the reader knows.
    pub seq: SeqNo,
    /// RTP time that the reader knows.
    pub ts: RtpTs,
}

impl SentPacket {
    /// The retransmission packet, as ranges of the original's bytes. `None` when the original is
    /// not of the payload type that retransmission was offered for.
    #[must_use]
    pub fn pieces(&self, payload_type: u8, rtx: RtxStream) -> Option<RtxPieces> {
        let view = RtpView::parse(self.batch.packet_bytes(&self.packet)).ok()?;
        if view.payload_type() != payload_type {
            return None;
        }
        let mut pieces = rtx_pieces(&view, rtx);
        set_ts(&mut pieces.fixed, self.ts);
        pieces.original = self.seq.0.to_be_bytes();
        Some(pieces)
    }
}

/// Payload type of a track's retransmissions, and the payload type of the originals: the track's
/// first. `None` when every dynamic payload type is in use.
#[must_use]
pub fn rtx_payload_type(track: &LiveTrack) -> Option<(u8, u8)> {
    let original = *track.payload_types.first()?;
    Some((rtp::rtx_payload_type(&track.payload_types)?, original))
}

impl ReaderStream {
    /// Finds the packet that the reader knows as `seq`.
    pub(crate) fn find_sent(
        &mut self,
        ring: &BatchRing,
        seq: SeqNo,
    ) -> Result<SentPacket, RtxRefusal> {
        let (Some(last_sent), Some(rewrite)) = (&self.cursor.last_sent, self.cursor.rewrite) else {
            return Err(RtxRefusal::Unknown);
        };
        let is_sent = last_sent.seq.0.wrapping_sub(seq.0) < 1 << 15 && last_sent.rewrite == rewrite;
        if !is_sent {
            return Err(RtxRefusal::Unknown);
        }
        if !self.retransmit.take() {
            return Err(RtxRefusal::Rate);
        }
        let from = self.cursor.rewrite_from;
        let found = ring.find(self.track, self.is_datagram, rewrite.source_seq(seq), from.0);
        let found = found.ok_or(RtxRefusal::Unknown)?;
        let is_of_source = found.batch.generation() == rewrite.origin.generation;
        if !is_of_source || (found.no, found.packet.offset) < from {
            return Err(RtxRefusal::Unknown);
        }
        let ts = rewrite.map_ts(found.packet.ts);
        Ok(SentPacket { batch: found.batch, packet: found.packet, seq, ts })
    }
}

const CREDIT_MAX: u32 = RETRANSMIT_BURST * RETRANSMIT_SHARE;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Ssrc;
    use crate::base::time::Mono;
    use crate::live::core::batch::tests::{arrival, packet};
    use crate::live::core::batch::{BatchBuilder, Generation};

    #[test]
    fn retransmissions_are_limited_to_a_tenth_of_the_rate_and_a_burst() {
        let mut budget = RetransmitBudget::default();
        assert_eq!((0..1_000).filter(|_| budget.take()).count(), 64);
        budget.handle_sent(9);
        assert!(!budget.take());
        budget.handle_sent(1);
        assert!(budget.take() && !budget.take());
        for _ in 0..1_000 {
            budget.handle_sent(u16::MAX);
        }
        assert_eq!((0..1_000).filter(|_| budget.take()).count(), 64);
    }

    fn track(payload_types: Vec<u8>) -> LiveTrack {
        let (clock_rate_hz, needs_sync, identity) = (90_000, true, "".into());
        LiveTrack { clock_rate_hz, payload_types, needs_sync, identity }
    }

    #[test]
    fn retransmissions_take_the_last_free_payload_type_and_are_for_the_first_of_the_track() {
        assert_eq!(rtx_payload_type(&track(vec![96, 98])), Some((127, 96)));
        assert_eq!(rtx_payload_type(&track(vec![127, 126, 0])), Some((125, 127)));
        assert_eq!(rtx_payload_type(&track(vec![0])), Some((127, 0)));
        assert_eq!(rtx_payload_type(&track(vec![])), None);
        assert_eq!(rtx_payload_type(&track((96..128).collect())), None);
    }

    #[test]
    fn retransmitted_packet_differs_from_the_original_in_number_and_time_only() {
        let mut bytes = packet(912, 5_000, 7, 40);
        bytes[1] |= 0x80;
        let mut builder = BatchBuilder::default();
        builder.push(&arrival(&packet(911, 4_000, 7, 30), 0, true), Mono(0)).unwrap();
        builder.push(&arrival(&bytes, 0, false), Mono(0)).unwrap();
        let batch = Arc::new(builder.build(Generation(1), |_| None).unwrap());
        let packet = batch.runs_of(0).iter().flat_map(|run| batch.packets_of(run)).last();
        let packet = *packet.unwrap();
        let sent = SentPacket { batch: Arc::clone(&batch), packet, seq: SeqNo(17), ts: RtpTs(6) };
        let rtx = RtxStream { payload_type: 127, seq: SeqNo(3), ssrc: Ssrc(9) };
        assert_eq!(sent.pieces(97, rtx), None, "of another payload type");
        let pieces = sent.pieces(96, rtx).unwrap();
        let whole = batch.packet_bytes(&packet);
        let repeated =
            [&pieces.fixed[..], &pieces.original, &whole[pieces.payload.clone()]].concat();
        let view = RtpView::parse(&repeated).unwrap();
        assert_eq!((view.payload_type(), view.ssrc(), view.seq()), (127, Ssrc(9), SeqNo(3)));
        assert_eq!((view.ts(), view.marker()), (RtpTs(6), true));
        assert_eq!((&view.payload()[..2], &view.payload()[2..]), (&[0, 17][..], &bytes[12..]));
    }
}
