//! What players report (RFC 3550 s6.1), collected: report blocks and BYEs.
//!
//! SDES, APP, XR and feedback (205, 206) are skipped, and what was read before a damaged packet is
//! kept. `packets` walks over the same bytes without making lists.
#![deny(clippy::indexing_slicing)]

use super::packet::{Blocks, Packet, packets};

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
    for (place, packet) in packets(bytes).enumerate() {
        match packet {
            Ok(packet) => feedback.handle_packet(packet),
            Err(error) if place == 0 => return Err(error),
            Err(_) => {}
        }
    }
    if bytes.is_empty() { Err(RtcpError::NotRtcp) } else { Ok(feedback) }
}

impl Feedback {
    fn handle_packet(&mut self, packet: Packet<'_>) {
        match packet {
            Packet::SenderReport { blocks, .. } | Packet::ReceiverReport { blocks, .. } => {
                self.push_blocks(blocks);
            }
            Packet::Bye(bye) => {
                let room = BYES_MAX.saturating_sub(self.byes.len());
                self.byes.extend(bye.sources().take(room).map(|ssrc| ssrc.0));
            }
            _ => {}
        }
    }

    fn push_blocks(&mut self, blocks: Blocks<'_>) {
        let room = REPORTS_MAX.saturating_sub(self.reports.len());
        self.reports.extend(blocks.iter().take(room));
    }
}

/// Report blocks of one datagram at most: players report on the few streams of a presentation.
pub const REPORTS_MAX: usize = 64;

/// BYEs of one datagram at most.
pub const BYES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rtcp_types::{
        Bye, ReceiverReport, RtcpPacketWriterExt, Sdes, SdesChunk, SdesItem, SenderReport,
    };

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
