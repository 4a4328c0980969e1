//! Compound packets that we send (RFC 3550 s6.1): a report first, then SDES with the CNAME, and
//! BYE last when the stream ends.

use rtcp_types::{Bye, ReceiverReport, RtcpPacketWriter, RtcpPacketWriterExt, SenderReport};

use crate::base::ids::{RtpTs, Ssrc};

/// What a sender report says of a stream (RFC 3550 s6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderInfo {
    /// Time of day, from `ntp_from_utc_ns`.
    pub ntp: u64,
    /// The same moment on the stream's own clock.
    pub rtp_ts: RtpTs,
    /// RTP packets sent so far.
    pub packet_count: u32,
    /// Payload bytes sent so far, without headers.
    pub octet_count: u32,
}

/// Appends SR + SDES(CNAME), and BYE when `bye` gives a reason (which may be empty). Texts are
/// cut at 255 bytes.
pub fn write_sender_report(
    out: &mut Vec<u8>,
    ssrc: Ssrc,
    info: &SenderInfo,
    cname: &str,
    bye: Option<&str>,
) {
    let report = SenderReport::builder(ssrc.0)
        .ntp_timestamp(info.ntp)
        .rtp_timestamp(info.rtp_ts.0)
        .packet_count(info.packet_count)
        .octet_count(info.octet_count);
    append(out, &report);
    append_cname(out, ssrc, cname);
    if let Some(reason) = bye {
        append_bye(out, ssrc, reason);
    }
}

/// Appends RR (without blocks) + SDES(CNAME) + BYE: the farewell of a stream that has sent
/// nothing, for a sender report needs data to speak of (RFC 3550 s6.4).
pub fn write_empty_rr_bye(out: &mut Vec<u8>, ssrc: Ssrc, cname: &str, reason: &str) {
    append(out, &ReceiverReport::builder(ssrc.0));
    append_cname(out, ssrc, cname);
    append_bye(out, ssrc, reason);
}

fn append(out: &mut Vec<u8>, packet: &impl RtcpPacketWriter) {
    let start = out.len();
    let size = packet.calculate_size();
    debug_assert!(size.is_ok(), "our own packets are within the limits: {size:?}");
    let Ok(size) = size else { return };
    out.resize(start + size, 0);
    let written = packet.write_into(out.get_mut(start..).unwrap_or_default());
    debug_assert_eq!(written.ok(), Some(size));
}

fn append_bye(out: &mut Vec<u8>, ssrc: Ssrc, reason: &str) {
    let bye = Bye::builder().add_source(ssrc.0);
    match cut(reason) {
        "" => append(out, &bye),
        reason => append(out, &bye.reason(reason)),
    }
}

/// SDES with one chunk and one item (RFC 3550 s6.5), without allocating: one goes out with every
/// report of every stream.
fn append_cname(out: &mut Vec<u8>, ssrc: Ssrc, cname: &str) {
    let cname = cut(cname);
    let item_bytes = SDES_ITEM_HEADER_BYTES + cname.len();
    // The list of items ends with at least one zero, and the chunk at a multiple of four.
    let chunk_bytes = SSRC_BYTES + (item_bytes / 4 + 1) * 4;
    let length_words = u16::try_from(chunk_bytes / 4).unwrap_or(u16::MAX);
    let end = out.len() + RTCP_HEADER_BYTES + chunk_bytes;
    out.extend_from_slice(&[SDES_ONE_CHUNK, SDES_PACKET_TYPE]);
    out.extend_from_slice(&length_words.to_be_bytes());
    out.extend_from_slice(&ssrc.0.to_be_bytes());
    out.extend_from_slice(&[SDES_CNAME, u8::try_from(cname.len()).unwrap_or(u8::MAX)]);
    out.extend_from_slice(cname.as_bytes());
    out.resize(end, 0);
}

/// At most 255 bytes, whole characters.
fn cut(text: &str) -> &str {
    let fits = (0..=TEXT_BYTES_MAX).rev().find_map(|bytes| text.get(..bytes));
    if text.len() <= TEXT_BYTES_MAX { text } else { fits.unwrap_or_default() }
}

/// The length fields of SDES items and BYE reasons have eight bits.
const TEXT_BYTES_MAX: usize = 255;
/// Version 2, source count 1.
const SDES_ONE_CHUNK: u8 = 2 << 6 | 1;
const SDES_PACKET_TYPE: u8 = 202;
const SDES_CNAME: u8 = 1;
const SDES_ITEM_HEADER_BYTES: usize = 2;
const RTCP_HEADER_BYTES: usize = 4;
const SSRC_BYTES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rtcp_types::{Compound, Packet};

    const INFO: SenderInfo = SenderInfo {
        ntp: 0x0102_0304_0506_0708,
        rtp_ts: RtpTs(9),
        packet_count: 10,
        octet_count: 11,
    };

    #[test]
    fn report_is_byte_for_byte_as_in_the_rfc() {
        let mut out = Vec::new();
        write_sender_report(&mut out, Ssrc(0xaabb_ccdd), &INFO, "ab", None);
        let expected: [u8; 44] = [
            0x80, 200, 0, 6, 0xaa, 0xbb, 0xcc, 0xdd, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 9, 0, 0, 0,
            10, 0, 0, 0, 11, // SR
            0x81, 202, 0, 3, 0xaa, 0xbb, 0xcc, 0xdd, 1, 2, b'a', b'b', 0, 0, 0, 0, // SDES
        ];
        assert_eq!(out, expected);
    }

    #[test]
    fn farewell_of_a_silent_stream_is_a_compound_with_bye_last() {
        let mut out = vec![0xee];
        write_empty_rr_bye(&mut out, Ssrc(7), "abc", "no data");
        assert_eq!(out.first(), Some(&0xee));
        let packets: Vec<Packet<'_>> =
            Compound::parse(out.get(1..).unwrap()).unwrap().map(Result::unwrap).collect();
        let [Packet::Rr(rr), Packet::Sdes(_), Packet::Bye(bye)] = packets.as_slice() else {
            panic!("{packets:?}")
        };
        assert_eq!((rr.ssrc(), rr.n_reports()), (7, 0));
        assert_eq!(bye.ssrcs().collect::<Vec<_>>(), [7]);
        assert_eq!(bye.reason(), Some(b"no data".as_slice()));
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(cut(&"\u{e9}".repeat(200)).len(), 254);
        assert_eq!(cut(&"x".repeat(256)).len(), 255);
        assert_eq!(cut("x"), "x");
    }

    proptest! {
        #[test]
        fn rtcp_types_reads_every_report_back(
            ssrc: u32, ntp: u64, ts: u32, packet_count: u32, octet_count: u32,
            cname in "\\PC{0,300}", reason in prop::option::of("\\PC{0,300}"),
        ) {
            let info = SenderInfo { ntp, rtp_ts: RtpTs(ts), packet_count, octet_count };
            let mut out = Vec::new();
            write_sender_report(&mut out, Ssrc(ssrc), &info, &cname, reason.as_deref());
            let packets: Vec<Packet<'_>> =
                Compound::parse(&out).unwrap().map(Result::unwrap).collect();
            let [Packet::Sr(sr), Packet::Sdes(sdes), rest @ ..] = packets.as_slice() else {
                panic!("{packets:?}")
            };
            prop_assert_eq!((sr.ssrc(), sr.ntp_timestamp()), (ssrc, ntp));
            prop_assert_eq!((sr.rtp_timestamp(), sr.packet_count()), (ts, packet_count));
            prop_assert_eq!((sr.octet_count(), sr.n_reports()), (octet_count, 0));
            let chunk = sdes.chunks().next().unwrap();
            let item = chunk.items().next().unwrap();
            prop_assert_eq!((chunk.ssrc(), item.type_()), (ssrc, SDES_CNAME));
            prop_assert_eq!(item.value(), cut(&cname).as_bytes());
            match (rest, reason) {
                ([], None) => {}
                ([Packet::Bye(bye)], Some(reason)) => {
                    prop_assert_eq!(bye.ssrcs().collect::<Vec<_>>(), [ssrc]);
                    prop_assert_eq!(bye.reason().unwrap_or_default(), cut(&reason).as_bytes());
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
