//! Behaviours of `CompoundWriter`; `rtcp-types` says what the bytes have to be.

use proptest::prelude::*;
use rtcp_types::{
    Bye, Compound, Packet, ReceiverReport, RtcpPacketWriter, Sdes, SdesChunk, SdesItem,
    SenderReport,
};

use super::*;

const INFO: SenderInfo =
    SenderInfo { ntp: 0x0102_0304_0506_0708, rtp_ts: RtpTs(9), packet_count: 10, octet_count: 11 };

fn block(ssrc: u32, cumulative_lost: i32) -> ReportBlock {
    ReportBlock {
        sender_ssrc: 0,
        ssrc,
        fraction_lost: 3,
        cumulative_lost,
        ext_highest_seq: 5,
        jitter: 6,
        lsr: 7,
        dlsr: 8,
    }
}

/// As the oracle writes it.
fn oracle(packets: &[&dyn RtcpPacketWriter]) -> Vec<u8> {
    let mut out = Vec::new();
    for packet in packets {
        let start = out.len();
        out.resize(start + packet.calculate_size().unwrap(), 0);
        packet.write_into_unchecked(out.get_mut(start..).unwrap());
    }
    out
}

fn oracle_block(block: &ReportBlock) -> rtcp_types::ReportBlockBuilder {
    rtcp_types::ReportBlock::builder(block.ssrc)
        .fraction_lost(block.fraction_lost)
        .cumulative_lost(block.cumulative_lost.cast_unsigned() & 0xff_ffff)
        .extended_sequence_number(block.ext_highest_seq)
        .interarrival_jitter(block.jitter)
        .last_sender_report_timestamp(block.lsr)
        .delay_since_last_sender_report_timestamp(block.dlsr)
}

fn oracle_report(ssrc: u32, info: &SenderInfo) -> rtcp_types::SenderReportBuilder {
    SenderReport::builder(ssrc)
        .ntp_timestamp(info.ntp)
        .rtp_timestamp(info.rtp_ts.0)
        .packet_count(info.packet_count)
        .octet_count(info.octet_count)
}

#[test]
fn report_is_byte_for_byte_as_in_the_rfc() {
    let mut buffer = [0xee; 64];
    let mut out = CompoundWriter::new(&mut buffer);
    out.sender_report(Ssrc(0xaabb_ccdd), &INFO, &[]).unwrap();
    out.cname(Ssrc(0xaabb_ccdd), "ab").unwrap();
    let expected: [u8; 44] = [
        0x80, 200, 0, 6, 0xaa, 0xbb, 0xcc, 0xdd, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 9, 0, 0, 0, 10,
        0, 0, 0, 11, // SR
        0x81, 202, 0, 3, 0xaa, 0xbb, 0xcc, 0xdd, 1, 2, b'a', b'b', 0, 0, 0, 0, // SDES
    ];
    assert_eq!(out.as_bytes(), expected);
}

#[test]
fn longest_report_fits_into_its_constant() {
    let long = "x".repeat(300);
    let mut buffer = [0; REPORT_BYTES_MAX];
    let mut out = CompoundWriter::new(&mut buffer);
    out.sender_report(Ssrc(1), &INFO, &[]).unwrap();
    out.cname(Ssrc(1), &long).unwrap();
    out.bye(Ssrc(1), &long).unwrap();
    assert_eq!(out.as_bytes().len(), REPORT_BYTES_MAX);
}

#[test]
fn packet_without_room_is_left_out_whole() {
    let mut buffer = [0xee; 40];
    let mut out = CompoundWriter::new(&mut buffer);
    out.sender_report(Ssrc(1), &INFO, &[]).unwrap();
    let error = out.cname(Ssrc(1), "abc").unwrap_err();
    assert_eq!(error, NoRoom { packet_bytes: 16, room_bytes: 12 });
    let error = out.receiver_report(Ssrc(1), &[block(1, 0)]).unwrap_err();
    assert_eq!(error, NoRoom { packet_bytes: 32, room_bytes: 12 });
    out.bye(Ssrc(1), "abc").unwrap();
    assert_eq!(out.as_bytes().len(), 40);
    let mut buffer = [0; 28 + 31 * 24];
    let blocks = [block(1, 0); 32];
    let mut out = CompoundWriter::new(&mut buffer);
    assert!(out.sender_report(Ssrc(1), &INFO, &blocks).is_err());
    assert_eq!(out.as_bytes(), b"");
}

#[test]
fn more_than_31_blocks_go_into_further_reports() {
    let mut buffer = [0; 2_048];
    let mut out = CompoundWriter::new(&mut buffer);
    let blocks: Vec<ReportBlock> = (0..70).map(|ssrc| block(ssrc, 0)).collect();
    out.sender_report(Ssrc(1), &INFO, &blocks).unwrap();
    let packets: Vec<_> = Compound::parse(out.as_bytes()).unwrap().map(Result::unwrap).collect();
    let [Packet::Sr(sr), Packet::Rr(second), Packet::Rr(third)] = packets.as_slice() else {
        panic!("{packets:?}")
    };
    let counts = [sr.n_reports(), second.n_reports(), third.n_reports()];
    assert_eq!((counts, third.ssrc()), ([31, 31, 8], 1));
}

#[test]
fn loss_is_clamped_to_24_bits() {
    let mut buffer = [0; 128];
    let mut out = CompoundWriter::new(&mut buffer);
    out.receiver_report(Ssrc(1), &[block(2, i32::MAX), block(3, i32::MIN), block(4, -1)]).unwrap();
    let lost: Vec<_> = crate::rtcp::parse(out.as_bytes())
        .unwrap()
        .reports
        .iter()
        .map(|report| report.cumulative_lost)
        .collect();
    assert_eq!(lost, [0x7f_ffff, -0x80_0000, -1]);
}

#[test]
fn long_text_is_cut_between_characters() {
    assert_eq!(cut(&"\u{e9}".repeat(200)).len(), 254);
    assert_eq!(cut(&"x".repeat(256)).len(), 255);
    assert_eq!(cut("x"), "x");
}

proptest! {
    #[test]
    fn reports_are_what_rtcp_types_writes(
        ssrc: u32, ntp: u64, ts: u32, packet_count: u32, octet_count: u32,
        blocks in prop::collection::vec((any::<u32>(), -0x80_0000i32..0x80_0000), 0..31),
        cname in "\\PC{0,60}", reason in "\\PC{0,60}",
    ) {
        let info = SenderInfo { ntp, rtp_ts: RtpTs(ts), packet_count, octet_count };
        let blocks: Vec<ReportBlock> = blocks.iter().map(|(ssrc, lost)| block(*ssrc, *lost)).collect();
        let mut buffer = [0xee; 4_096];
        let mut out = CompoundWriter::new(&mut buffer);
        out.sender_report(Ssrc(ssrc), &info, &blocks).unwrap();
        out.receiver_report(Ssrc(ssrc), &blocks).unwrap();
        out.cname(Ssrc(ssrc), &cname).unwrap();
        out.bye(Ssrc(ssrc), &reason).unwrap();
        let mut sr = oracle_report(ssrc, &info);
        let mut rr = ReceiverReport::builder(ssrc);
        for block in &blocks {
            sr = sr.add_report_block(oracle_block(block));
            rr = rr.add_report_block(oracle_block(block));
        }
        let item = SdesItem::builder(SdesItem::CNAME, cut(&cname));
        let sdes = Sdes::builder().add_chunk(SdesChunk::builder(ssrc).add_item(item));
        let mut bye = Bye::builder().add_source(ssrc);
        if !reason.is_empty() {
            bye = bye.reason(cut(&reason));
        }
        prop_assert_eq!(out.as_bytes(), oracle(&[&sr, &rr, &sdes, &bye]));
    }

    /// Room of any size: whole packets, and nothing behind them touched.
    #[test]
    fn any_buffer_holds_whole_packets_only(
        size in 0usize..700, cname in "[a-z]{0,300}", reason in "[a-z]{0,300}", count in 0usize..70,
    ) {
        let mut buffer = vec![0xee; size];
        let mut out = CompoundWriter::new(&mut buffer);
        let blocks = vec![block(1, 2); count];
        let _ = out.sender_report(Ssrc(1), &INFO, &blocks);
        let _ = out.receiver_report(Ssrc(1), &blocks);
        let _ = out.cname(Ssrc(1), &cname);
        let _ = out.bye(Ssrc(1), &reason);
        let bytes = out.as_bytes().len();
        if bytes > 0 {
            prop_assert!(Compound::parse(out.as_bytes()).unwrap().all(|packet| packet.is_ok()));
        }
        prop_assert!(buffer.iter().skip(bytes).all(|b| *b == 0xee));
    }
}
