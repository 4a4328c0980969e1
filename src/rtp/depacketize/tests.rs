//! Frames out of packets: whole ones, aggregates, pieces, and what is missing.

use proptest::prelude::*;

use super::*;

fn packet<'a>(seq: u16, ts: u32, marker: bool, payload: &'a [u8]) -> Packet<'a> {
    Packet { seq: SeqNo(seq), ts: RtpTs(ts), marker, is_sync: false, payload }
}

fn frames(depacketizer: &mut Depacketizer, packets: &[Packet<'_>]) -> Vec<(u32, Vec<u8>)> {
    let mut out = Vec::new();
    for packet in packets {
        depacketizer.push(packet, &mut out);
    }
    out.into_iter().map(|frame| (frame.ts.0, frame.bytes)).collect()
}

#[test]
fn access_unit_of_h264_has_its_slices_and_neither_sets_nor_delimiters() {
    let mut depacketizer = Depacketizer::h264();
    let stap =
        [&[0x78, 0, 2][..], &[0x67, 1], &[0, 2], &[0x68, 2], &[0, 3], &[0x06, 5, 6]].concat();
    let found = frames(
        &mut depacketizer,
        &[
            packet(9, 1, false, &[0x09, 0xf0]),
            packet(10, 1, false, &stap),
            packet(11, 1, false, &[0x7c, 0x85, 1, 2]),
            packet(12, 1, false, &[0x7c, 0x05, 3]),
            packet(13, 1, true, &[0x7c, 0x45, 4]),
            packet(14, 2, true, &[0x41, 9]),
        ],
    );
    let first = vec![0, 0, 0, 3, 0x06, 5, 6, 0, 0, 0, 5, 0x65, 1, 2, 3, 4];
    assert_eq!(found, [(1, first), (2, vec![0, 0, 0, 2, 0x41, 9])]);
    assert_eq!(depacketizer.take_lost(), 0);
}

#[test]
fn access_unit_with_a_missing_packet_is_dropped_and_counted() {
    let mut depacketizer = Depacketizer::h264();
    let found = frames(
        &mut depacketizer,
        &[
            packet(1, 1, false, &[0x7c, 0x85, 1]),
            packet(3, 1, true, &[0x7c, 0x45, 4]),
            packet(4, 2, true, &[0x41, 9]),
            packet(6, 3, true, &[0x7c, 0x45, 4]),
            packet(5, 3, true, &[0x7c, 0x85, 4]),
            packet(7, 4, true, &[0x41, 8]),
        ],
    );
    assert_eq!(found.iter().map(|(ts, _)| *ts).collect::<Vec<_>>(), [2, 4]);
    assert_eq!(depacketizer.take_lost(), 3);
}

#[test]
fn access_unit_of_h265_is_put_together() {
    let mut depacketizer = Depacketizer::h265();
    let ap = [&[0x60, 1, 0, 3][..], &[0x42, 1, 7], &[0, 3], &[0x4e, 1, 8]].concat();
    let found = frames(
        &mut depacketizer,
        &[
            packet(1, 1, false, &ap),
            packet(2, 1, false, &[0x62, 1, 0x93, 1]),
            packet(3, 1, true, &[0x62, 1, 0x53, 2]),
        ],
    );
    assert_eq!(found, [(1, vec![0, 0, 0, 3, 0x4e, 1, 8, 0, 0, 0, 4, 0x26, 1, 1, 2])]);
}

#[test]
fn temporal_unit_of_av1_gets_sizes_and_loses_its_delimiter() {
    let mut depacketizer = Depacketizer::av1();
    // Delimiter, sequence header and the beginning of a frame; then its end.
    let found = frames(
        &mut depacketizer,
        &[
            packet(1, 1, false, &[0x70, 1, 0x10, 3, 0x08, 1, 2, 0x30, 5]),
            packet(2, 1, true, &[0x90, 6, 7]),
        ],
    );
    assert_eq!(found, [(1, vec![0x0a, 2, 1, 2, 0x32, 3, 5, 6, 7])]);
}

#[test]
fn aac_frames_of_a_packet_follow_each_other_in_time_and_pieces_are_joined() {
    let format =
        AacFormat { size_bits: 13, index_bits: 3, index_delta_bits: 3, frame_ticks: 1_024 };
    let mut depacketizer = Depacketizer::aac(format);
    let found = frames(
        &mut depacketizer,
        &[
            packet(1, 10, true, &[0, 32, 0, 2 << 3, 0, 1 << 3, 1, 2, 3]),
            packet(2, 3_000, false, &[0, 16, 0, 4 << 3, 1, 2]),
            packet(3, 3_000, true, &[0, 16, 0, 4 << 3, 3, 4]),
        ],
    );
    assert_eq!(found, [(10, vec![1, 2]), (1_034, vec![3]), (3_000, vec![1, 2, 3, 4])]);
}

#[test]
fn opus_packets_say_how_long_they_last() {
    for (packet, expected) in [
        (&[0xfc_u8, 1][..], Some(960)),
        (&[0xfd, 1], Some(1_920)),
        (&[0xff, 3], Some(2_880)),
        (&[0x08, 0], Some(960)),
        (&[0x60, 0], Some(480)),
        (&[], None),
        (&[0x03], None),
    ] {
        assert_eq!(opus_ticks(packet), expected, "{packet:?}");
    }
}

proptest! {
    #[test]
    fn arbitrary_packets_never_panic(
        kind in 0..4,
        packets in proptest::collection::vec(
            (any::<u16>(), 0_u32..4, any::<bool>(), proptest::collection::vec(any::<u8>(), 0..40)),
            0..30,
        ),
    ) {
        let format = AacFormat { size_bits: 13, index_bits: 3, index_delta_bits: 3, frame_ticks: 1_024 };
        let mut depacketizer = match kind {
            0 => Depacketizer::h264(),
            1 => Depacketizer::h265(),
            2 => Depacketizer::av1(),
            _ => Depacketizer::aac(format),
        };
        let mut out = Vec::new();
        for (number, (skip, ts, marker, payload)) in (0_u16..).zip(&packets) {
            let seq = number.wrapping_add(u16::from(skip.is_multiple_of(5)));
            depacketizer.push(&packet(seq, *ts, *marker, payload), &mut out);
        }
        let _lost = depacketizer.take_lost();
    }
}
