//! Reads what players send (RFC 3550 s6.1): report blocks and BYEs.
//!
//! Lenient: any packet type may come first (reduced size, RFC 5506), SDES, APP, XR and feedback
//! (205, 206) are skipped, and what was read before a damaged packet is kept.
#![deny(clippy::indexing_slicing)]

use rtcp_types::{Bye, ReceiverReport, RtcpPacket, RtcpPacketParser, SenderReport};

/// What a compound packet reported.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Feedback {
    /// Blocks of all sender and receiver reports, at most `REPORTS_MAX`.
    pub reports: Vec<ReportBlock>,
    /// Sources that leave, at most `BYES_MAX`.
    pub byes: Vec<u32>,
}

/// What a player says of one of our streams (RFC 3550 s6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportBlock {
    /// Who reports.
    pub sender_ssrc: u32,
    /// The stream that is reported on.
    pub ssrc: u32,
    /// Share lost since the last report, in 256ths.
    pub fraction_lost: u8,
    /// Packets lost in all: 24 bits with a sign, negative when there were duplicates.
    pub cumulative_lost: i32,
    /// Highest sequence number with the count of its wraps above it.
    pub ext_highest_seq: u32,
    /// Interarrival jitter in ticks of the stream's clock.
    pub jitter: u32,
    /// Middle 32 bits of the NTP time of our last sender report; zero when none was seen.
    pub lsr: u32,
    /// Time since it came, in 65536ths of a second.
    pub dlsr: u32,
}

/// Why bytes are not RTCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RtcpError {
    /// Version or packet type say that it is something else (a player's NAT dummy, as a rule).
    #[error("not an RTCP packet")]
    NotRtcp,
    /// The length of the first packet goes past the end.
    #[error("RTCP packet of {packet_bytes} bytes in {have_bytes}")]
    Truncated {
        /// By its length field.
        packet_bytes: usize,
        /// What is there.
        have_bytes: usize,
    },
}

/// Reads one datagram or interleaved frame.
///
/// # Errors
/// See [`RtcpError`]; they only ever concern the first packet.
pub fn parse(bytes: &[u8]) -> Result<Feedback, RtcpError> {
    let mut feedback = Feedback::default();
    let mut rest = bytes;
    loop {
        let (packet, behind) = match split_packet(rest) {
            Ok(split) => split,
            Err(error) if rest.len() == bytes.len() => return Err(error),
            Err(_) => return Ok(feedback),
        };
        feedback.handle_packet(packet);
        if behind.is_empty() {
            return Ok(feedback);
        }
        rest = behind;
    }
}

impl Feedback {
    fn handle_packet(&mut self, packet: &[u8]) {
        match packet.get(1) {
            Some(&SenderReport::PACKET_TYPE) => {
                if let Ok(report) = SenderReport::parse(packet) {
                    self.push_blocks(report.ssrc(), report.report_blocks());
                }
            }
            Some(&ReceiverReport::PACKET_TYPE) => {
                if let Ok(report) = ReceiverReport::parse(packet) {
                    self.push_blocks(report.ssrc(), report.report_blocks());
                }
            }
            Some(&Bye::PACKET_TYPE) => {
                if let Ok(bye) = Bye::parse(packet) {
                    let room = BYES_MAX.saturating_sub(self.byes.len());
                    self.byes.extend(bye.ssrcs().take(room));
                }
            }
            _ => {}
        }
    }

    fn push_blocks<'a>(
        &mut self,
        sender_ssrc: u32,
        blocks: impl Iterator<Item = rtcp_types::ReportBlock<'a>>,
    ) {
        let room = REPORTS_MAX.saturating_sub(self.reports.len());
        self.reports.extend(blocks.take(room).map(|block| ReportBlock {
            sender_ssrc,
            ssrc: block.ssrc(),
            fraction_lost: block.fraction_lost(),
            cumulative_lost: sign_24_bits(block.cumulative_lost()),
            ext_highest_seq: block.extended_sequence_number(),
            jitter: block.interarrival_jitter(),
            lsr: block.last_sender_report_timestamp(),
            dlsr: block.delay_since_last_sender_report_timestamp(),
        }));
    }
}

/// Cuts the first packet off, by its length field.
fn split_packet(bytes: &[u8]) -> Result<(&[u8], &[u8]), RtcpError> {
    let [first, packet_type, high, low, ..] = *bytes else { return Err(RtcpError::NotRtcp) };
    if first >> 6 != 2 || !PACKET_TYPES.contains(&packet_type) {
        return Err(RtcpError::NotRtcp);
    }
    let packet_bytes = (usize::from(u16::from_be_bytes([high, low])) + 1) * 4;
    let truncated = RtcpError::Truncated { packet_bytes, have_bytes: bytes.len() };
    bytes.split_at_checked(packet_bytes).ok_or(truncated)
}

fn sign_24_bits(value: u32) -> i32 {
    (value << 8).cast_signed() >> 8
}

/// Report blocks of one datagram at most: players report on the few streams of a presentation.
pub const REPORTS_MAX: usize = 64;

/// BYEs of one datagram at most.
pub const BYES_MAX: usize = 64;

/// RFC 5761 s4: what tells RTCP from RTP with a marker.
const PACKET_TYPES: std::ops::RangeInclusive<u8> = 192..=223;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rtcp_types::{RtcpPacketWriterExt, Sdes, SdesChunk, SdesItem};

    fn bytes_of(writer: impl RtcpPacketWriterExt) -> Vec<u8> {
        let mut out = vec![0; writer.calculate_size().unwrap()];
        writer.write_into(&mut out).unwrap();
        out
    }

    fn receiver_report(reporter: u32, source: u32, lost: u32) -> Vec<u8> {
        let block = rtcp_types::ReportBlock::builder(source)
            .fraction_lost(3)
            .cumulative_lost(lost)
            .extended_sequence_number(5)
            .interarrival_jitter(6)
            .last_sender_report_timestamp(7)
            .delay_since_last_sender_report_timestamp(8);
        bytes_of(ReceiverReport::builder(reporter).add_report_block(block))
    }

    fn sdes() -> Vec<u8> {
        let chunk =
            SdesChunk::builder(1).add_item(SdesItem::builder(SdesItem::CNAME, "player@host"));
        bytes_of(Sdes::builder().add_chunk(chunk))
    }

    fn block(sender_ssrc: u32, ssrc: u32, cumulative_lost: i32) -> ReportBlock {
        ReportBlock {
            sender_ssrc,
            ssrc,
            fraction_lost: 3,
            cumulative_lost,
            ext_highest_seq: 5,
            jitter: 6,
            lsr: 7,
            dlsr: 8,
        }
    }

    #[test]
    fn compound_of_a_player_gives_blocks_and_byes() {
        let feedback_packet = [0x81, 205, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
        let app = [0x80, 204, 0, 2, 0, 0, 0, 1, b'q', b't', b's', b'i'];
        let bye = bytes_of(Bye::builder().add_source(1).add_source(2).reason("quit"));
        let bytes = [
            receiver_report(1, 9, 4),
            sdes(),
            feedback_packet.to_vec(),
            app.to_vec(),
            receiver_report(2, 10, 0xff_ffff),
            bye,
        ]
        .concat();
        let feedback = parse(&bytes).unwrap();
        assert_eq!(feedback.reports, [block(1, 9, 4), block(2, 10, -1)]);
        assert_eq!(feedback.byes, [1, 2]);
    }

    #[test]
    fn reduced_size_packet_without_report_is_read() {
        assert_eq!(parse(&sdes()), Ok(Feedback::default()));
        let bye = bytes_of(Bye::builder().add_source(5));
        assert_eq!(parse(&bye).unwrap().byes, [5]);
    }

    #[test]
    fn report_of_a_player_that_sends_is_read() {
        let block_builder = rtcp_types::ReportBlock::builder(9).cumulative_lost(0x80_0000);
        let bytes = bytes_of(SenderReport::builder(4).add_report_block(block_builder));
        let feedback = parse(&bytes).unwrap();
        let lost: Vec<_> =
            feedback.reports.iter().map(|r| (r.sender_ssrc, r.ssrc, r.cumulative_lost)).collect();
        assert_eq!(lost, [(4, 9, -0x80_0000)]);
    }

    #[test]
    fn what_stands_before_a_damaged_packet_is_kept() {
        let whole = receiver_report(1, 9, 4);
        for damage in [&[0u8][..], &[0x80, 201, 0, 9], &[0, 201, 0, 0], &[0x81, 201, 0, 0]] {
            let bytes = [&whole, damage].concat();
            assert_eq!(parse(&bytes).unwrap().reports, [block(1, 9, 4)], "{damage:?}");
        }
    }

    #[test]
    fn other_datagrams_are_refused_by_name() {
        for bytes in [&b""[..], b"\x80", b"hello world", &[0x80, 96, 0, 1, 0, 0, 0, 0], &[0; 20]] {
            assert_eq!(parse(bytes), Err(RtcpError::NotRtcp), "{bytes:?}");
        }
        let truncated = RtcpError::Truncated { packet_bytes: 32, have_bytes: 8 };
        assert_eq!(parse(&[0x81, 201, 0, 7, 0, 0, 0, 1]), Err(truncated));
    }

    #[test]
    fn lists_are_bounded() {
        let bytes = receiver_report(1, 9, 4).repeat(100);
        assert_eq!(parse(&bytes).unwrap().reports.len(), REPORTS_MAX);
        let bytes = bytes_of(Bye::builder().add_source(5)).repeat(100);
        assert_eq!(parse(&bytes).unwrap().byes.len(), BYES_MAX);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn damaged_compounds_never_panic(
            first in 0x80u8..=0xbf, packet_type in 192u8..=223, words in 0u16..12,
            body in prop::collection::vec(any::<u8>(), 0..80),
            flip: prop::sample::Index, bit in 0u8..8,
        ) {
            let [high, low] = words.to_be_bytes();
            let mut bytes = vec![first, packet_type, high, low];
            bytes.extend_from_slice(&body);
            bytes.extend(receiver_report(1, 9, 4));
            let at = flip.index(bytes.len());
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << bit;
            }
            let _ = parse(&bytes);
        }
    }
}
