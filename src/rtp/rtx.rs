//! Retransmission packets (RFC 4588 s4): the lost packet again, in a stream of its own.
//!
//! ```text
//! original  |fixed PT 96 seq 7 ssrc A|csrcs, extension|            payload | padding |
//! rtx       |fixed PT 97 seq n ssrc B|csrcs, extension| OSN = 7 |  payload |
//! ```
//! Timestamp and marker are the original's, the padding goes (s4). A gather-send takes the pieces
//! from where they lie. RTX streams have their own sequence numbers and SSRC (session-multiplexed
//! streams of one RTSP session have the SSRC in `a=ssrc-group:FID` or are told apart by their PT).

use std::ops::Range;

use super::header::{HEADER_BYTES, set_payload_type, set_seq, set_ssrc, write_header};
use super::view::RtpView;
use crate::base::ids::{RtpTs, SeqNo, Ssrc};

/// Fixed header and original sequence number.
pub const RTX_HEADER_BYTES: usize = HEADER_BYTES + 2;

/// Writes what stands in front of the payload, for an original without CSRCs and extension: all
/// those that we packetize ourselves. `original` is the number that was lost.
pub fn write_rtx_header(
    out: &mut [u8; RTX_HEADER_BYTES],
    marker: bool,
    ts: RtpTs,
    original: SeqNo,
    rtx: RtxStream,
) {
    let mut fixed = [0; HEADER_BYTES];
    write_header(&mut fixed, marker, rtx.payload_type, rtx.seq, ts, rtx.ssrc);
    let [header @ .., high, low] = out;
    *header = fixed;
    [*high, *low] = original.0.to_be_bytes();
}

/// Where a retransmission packet belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtxStream {
    /// That of `a=rtpmap:.. rtx/..`, with `apt` naming the original's.
    pub payload_type: u8,
    /// The next number of the RTX stream.
    pub seq: SeqNo,
    /// The RTX stream.
    pub ssrc: Ssrc,
}

/// Why a packet is not sent again, for titles and live paths. The number is the index into
/// `metrics::cells::RTX_REFUSALS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RtxRefusal {
    /// The packet was never sent to this player, was sent before a break, or is not here any more.
    #[error("the number is not remembered")]
    Unknown = 0,
    /// The packet has been sent again often enough.
    #[error("sent again too often")]
    Repeated = 1,
    /// The budget of retransmissions is used up: a quarter of the bytes of a title's stream, a
    /// tenth of the packets of a live reader's.
    #[error("more than the stream's rate allows")]
    Rate = 2,
    /// The packet's bytes may have left memory: reading them would delay other sessions.
    #[error("not in memory any more")]
    Cold = 3,
    /// There is no room to send, or nothing is being played.
    #[error("nothing can be sent now")]
    Busy = 4,
}

/// Payload type of retransmissions beside the payload types in use: the last dynamic one (RFC 3551
/// s3), since descriptions number theirs from the first on. `None` when all are in use.
#[must_use]
pub fn rtx_payload_type(in_use: &[u8]) -> Option<u8> {
    DYNAMIC_TYPES.rev().find(|number| !in_use.contains(number))
}

const DYNAMIC_TYPES: std::ops::RangeInclusive<u8> = 96..=127;

/// A retransmission packet in the pieces of a gather-send, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RtxPieces {
    /// Fixed header.
    pub fixed: [u8; HEADER_BYTES],
    /// CSRCs and extension, in the original's bytes; empty as a rule.
    pub optional: Range<usize>,
    /// Original sequence number.
    pub original: [u8; 2],
    /// Payload, in the original's bytes.
    pub payload: Range<usize>,
}

/// The retransmission of a packet that is at hand whole.
#[must_use]
pub fn rtx_pieces(original: &RtpView<'_>, rtx: RtxStream) -> RtxPieces {
    let mut fixed = *original.fixed();
    set_payload_type(&mut fixed, rtx.payload_type);
    set_seq(&mut fixed, rtx.seq);
    set_ssrc(&mut fixed, rtx.ssrc);
    let [first, ..] = &mut fixed;
    *first &= !PADDING_BIT;
    let payload = original.payload_range();
    RtxPieces {
        fixed,
        optional: HEADER_BYTES..payload.start,
        original: original.seq().0.to_be_bytes(),
        payload,
    }
}

const PADDING_BIT: u8 = 0x20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rtp_types::RtpPacketBuilder;

    use super::*;

    const RTX: RtxStream = RtxStream { payload_type: 97, seq: SeqNo(0x0a0b), ssrc: Ssrc(9) };

    fn gather(pieces: &RtxPieces, original: &[u8]) -> Vec<u8> {
        let parts = [
            pieces.fixed.as_slice(),
            &original[pieces.optional.clone()],
            &pieces.original,
            &original[pieces.payload.clone()],
        ];
        parts.concat()
    }

    #[test]
    fn header_for_our_own_packets_is_14_bytes() {
        let mut out = [0; RTX_HEADER_BYTES];
        write_rtx_header(&mut out, true, RtpTs(0x0102_0304), SeqNo(7), RTX);
        assert_eq!(out, [0x80, 0xe1, 0x0a, 0x0b, 1, 2, 3, 4, 0, 0, 0, 9, 0, 7]);
    }

    #[test]
    fn plain_packet_gives_the_same_header_both_ways() {
        let original = [0x80, 0xe0, 0, 7, 1, 2, 3, 4, 0, 0, 0, 5, 0xaa, 0xbb];
        let pieces = rtx_pieces(&RtpView::parse(&original).unwrap(), RTX);
        let mut out = [0; RTX_HEADER_BYTES];
        write_rtx_header(&mut out, true, RtpTs(0x0102_0304), SeqNo(7), RTX);
        assert_eq!(gather(&pieces, &original), [out.as_slice(), &[0xaa, 0xbb]].concat());
    }

    proptest! {
        //= test RFC 4588 s4
        #[test]
        fn optional_fields_stay_and_padding_goes(
            marker: bool, seq: u16, ts: u32, csrcs in prop::collection::vec(any::<u32>(), 0..4),
            words in prop::option::of(0usize..4), padding in 1u8..20,
            payload in prop::collection::vec(any::<u8>(), 1..60),
        ) {
            let extension = words.map(|words| vec![7u8; words * 4]);
            let mut builder = RtpPacketBuilder::new().marker_bit(marker).payload_type(96)
                .sequence_number(seq).timestamp(ts).ssrc(1).padding(padding)
                .payload(payload.as_slice());
            for csrc in &csrcs {
                builder = builder.add_csrc(*csrc);
            }
            if let Some(extension) = &extension {
                builder = builder.extension(0xbede, extension.as_slice());
            }
            let original = builder.write_vec().unwrap();
            let original_view = RtpView::parse(&original).unwrap();
            let bytes = gather(&rtx_pieces(&original_view, RTX), &original);
            let view = RtpView::parse(&bytes).unwrap();
            prop_assert_eq!((view.payload_type(), view.seq(), view.ssrc()), (97, RTX.seq, RTX.ssrc));
            prop_assert_eq!((view.marker(), view.ts()), (marker, RtpTs(ts)));
            prop_assert_eq!(view.csrcs().map(|csrc| csrc.0).collect::<Vec<_>>(), csrcs);
            prop_assert_eq!(view.extension(), original_view.extension());
            let (osn, rest) = view.payload().split_first_chunk().unwrap();
            prop_assert_eq!(u16::from_be_bytes(*osn), seq);
            prop_assert_eq!(rest, payload.as_slice());
        }
    }
}
