//! The 12 bytes in front of each payload (RFC 3550 s5.1): written whole, or changed in place.
//!
//! What we write has no CSRC list, no extension and no padding; what is changed keeps its own.

use crate::base::ids::{RtpTs, SeqNo, Ssrc};

/// Bytes of the fixed header.
pub const HEADER_BYTES: usize = 12;

/// Writes the fixed header. `payload_type` has seven bits; a higher one is cut to them.
pub fn write_header(
    out: &mut [u8; HEADER_BYTES],
    marker: bool,
    payload_type: u8,
    seq: SeqNo,
    ts: RtpTs,
    ssrc: Ssrc,
) {
    let [seq_high, seq_low] = seq.0.to_be_bytes();
    let [ts_a, ts_b, ts_c, ts_d] = ts.0.to_be_bytes();
    let [ssrc_a, ssrc_b, ssrc_c, ssrc_d] = ssrc.0.to_be_bytes();
    let second = u8::from(marker) << 7 | payload_type & 0x7f;
    *out = [
        VERSION_2, second, seq_high, seq_low, ts_a, ts_b, ts_c, ts_d, ssrc_a, ssrc_b, ssrc_c,
        ssrc_d,
    ];
}

/// The fixed header of a packet that is there, to change it in place; `None` when it is shorter.
#[must_use]
pub fn header_mut(packet: &mut [u8]) -> Option<&mut [u8; HEADER_BYTES]> {
    packet.first_chunk_mut()
}

/// Replaces the sequence number.
pub fn set_seq(header: &mut [u8; HEADER_BYTES], seq: SeqNo) {
    let [_, _, high, low, ..] = header;
    [*high, *low] = seq.0.to_be_bytes();
}

/// Replaces the timestamp.
pub fn set_ts(header: &mut [u8; HEADER_BYTES], ts: RtpTs) {
    let [_, _, _, _, a, b, c, d, ..] = header;
    [*a, *b, *c, *d] = ts.0.to_be_bytes();
}

/// Replaces the source.
pub fn set_ssrc(header: &mut [u8; HEADER_BYTES], ssrc: Ssrc) {
    let [.., a, b, c, d] = header;
    [*a, *b, *c, *d] = ssrc.0.to_be_bytes();
}

/// Replaces the payload type, the marker is kept. A higher one than 127 is cut to seven bits.
pub fn set_payload_type(header: &mut [u8; HEADER_BYTES], payload_type: u8) {
    let [_, second, ..] = header;
    *second = *second & 0x80 | payload_type & 0x7f;
}

/// Version 2, no padding, no extension, no CSRC.
const VERSION_2: u8 = 2 << 6;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rtp_types::RtpPacket;

    #[test]
    fn header_has_its_fields_in_network_order() {
        let mut out = [0; HEADER_BYTES];
        write_header(&mut out, true, 96, SeqNo(0x0102), RtpTs(0x0304_0506), Ssrc(0x0708_090a));
        assert_eq!(out, [0x80, 0xe0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    }

    proptest! {
        #[test]
        fn rtp_types_reads_every_header_back(
            marker: bool, payload_type in 0u8..128, seq: u16, ts: u32, ssrc: u32,
        ) {
            let mut out = [0xff; HEADER_BYTES];
            write_header(&mut out, marker, payload_type, SeqNo(seq), RtpTs(ts), Ssrc(ssrc));
            let packet = RtpPacket::parse(&out).unwrap();
            prop_assert_eq!((packet.marker_bit(), packet.payload_type()), (marker, payload_type));
            prop_assert_eq!((packet.sequence_number(), packet.timestamp()), (seq, ts));
            prop_assert_eq!((packet.ssrc(), packet.payload().len()), (ssrc, 0));
            prop_assert!(!packet.padding_bit() && !packet.extension_bit() && packet.n_csrcs() == 0);
        }

        #[test]
        fn changed_fields_are_changed_and_no_others(
            packet: [u8; 20], payload_type in 0u8..128, seq: u16, ts: u32, ssrc: u32,
        ) {
            let mut packet = packet;
            packet[0] = 0x80;
            let before = packet;
            let marker = RtpPacket::parse(&before).unwrap().marker_bit();
            let header = header_mut(&mut packet).unwrap();
            set_seq(header, SeqNo(seq));
            set_ts(header, RtpTs(ts));
            set_ssrc(header, Ssrc(ssrc));
            set_payload_type(header, payload_type);
            let mut expected = [0; HEADER_BYTES];
            write_header(
                &mut expected, marker, payload_type, SeqNo(seq), RtpTs(ts), Ssrc(ssrc),
            );
            prop_assert_eq!(&packet[..HEADER_BYTES], expected);
            prop_assert_eq!(&packet[HEADER_BYTES..], &before[HEADER_BYTES..]);
        }
    }
}
