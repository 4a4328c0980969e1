//! Behaviours of `TsInput` and `TsShape`: datagrams cut anywhere, lost, foreign, and any bytes.

use proptest::prelude::*;

use super::*;
use crate::rtp::RtpView;

/// Packet `n` of a stream: its bytes name the packet, and contain misleading sync bytes.
fn packet(pid: u16, n: u8) -> Vec<u8> {
    let [high, low] = pid.to_be_bytes();
    let mut packet = vec![n; TS_BYTES];
    packet[..4].copy_from_slice(&[0x47, high, low, 0x10]);
    packet[20 + usize::from(n % 50)] = 0x47;
    packet
}

fn stream(count: u8) -> Vec<u8> {
    (0..count).flat_map(|n| packet(0x100, n)).collect()
}

fn input(stride: usize) -> TsInput {
    TsInput::new(stride, Ssrc(7), SeqNo(65_535), 0)
}

/// RTP packets made from datagrams, one datagram a millisecond.
fn packed(input: &mut TsInput, datagrams: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for (ms, datagram) in (1_u64..).zip(datagrams) {
        input.handle_datagram(datagram, Mono(ms * 1_000_000), |rtp| out.push(rtp.to_vec()));
    }
    input.flush(|rtp| out.push(rtp.to_vec()));
    out
}

fn payloads(packets: &[Vec<u8>]) -> Vec<u8> {
    packets.iter().flat_map(|rtp| RtpView::parse(rtp).unwrap().payload().to_vec()).collect()
}

#[test]
fn aligned_datagram_becomes_one_packet_of_rtp_with_the_time_of_its_arrival() {
    let bytes = stream(14);
    let (first, second) = bytes.split_at(7 * TS_BYTES);
    let out = packed(&mut input(TS_BYTES), &[first, second]);
    assert_eq!(out.len(), 2);
    let heads: Vec<_> = out
        .iter()
        .map(|rtp| {
            let view = RtpView::parse(rtp).unwrap();
            assert_eq!((view.payload_type(), view.ssrc(), view.marker()), (33, Ssrc(7), false));
            (view.seq().0, view.ts().0, view.payload().len())
        })
        .collect();
    assert_eq!(heads, [(65_535, 90, 1_316), (0, 180, 1_316)]);
    assert_eq!(payloads(&out), bytes);
}

#[test]
fn pat_begins_a_packet_of_its_own() {
    let bytes = [stream(2), packet(0, 9), stream(3)].concat();
    let out = packed(&mut input(TS_BYTES), &[&bytes]);
    let sizes: Vec<usize> = out.iter().map(|rtp| (rtp.len() - 12) / TS_BYTES).collect();
    assert_eq!(sizes, [2, 4]);
    assert_eq!(payloads(&out), bytes);
}

#[test]
fn check_bytes_behind_each_packet_are_dropped() {
    let with_checks: Vec<u8> =
        (0..5).flat_map(|n| [packet(0x100, n), vec![0xaa; 16]].concat()).collect();
    let shape = TsShape::find(&with_checks).unwrap();
    assert_eq!(shape, TsShape { stride: 204, offset: 0, count: 5 });
    let out = packed(&mut input(shape.stride), &[&with_checks[..300], &with_checks[300..]]);
    assert_eq!(payloads(&out), stream(5));
}

#[test]
fn stream_is_found_again_behind_a_datagram_that_was_lost() {
    let bytes = stream(40);
    let datagrams: Vec<&[u8]> = bytes.chunks(1_472).collect();
    let mut with_gap = input(TS_BYTES);
    let out = payloads(&packed(&mut with_gap, &[datagrams[0], datagrams[2], datagrams[3]]));
    // The packets that were cut by the loss are missing, too; no other is, none is damaged.
    let numbers: Vec<u8> = out.as_chunks::<TS_BYTES>().0.iter().map(|p| p[187]).collect();
    let wanted: Vec<u8> = (0..7).chain(16..31).collect();
    assert_eq!(numbers, wanted);
    assert!(with_gap.lost_bytes > 0);
    // Whole packets behind the beginning of one: the rest of it was lost.
    let out = payloads(&packed(&mut input(TS_BYTES), &[&bytes[..200], &bytes[376..752]]));
    assert_eq!(out, [&bytes[..188], &bytes[376..752]].concat());
}

#[test]
fn shape_is_found_where_packets_begin_and_not_in_other_bytes() {
    let bytes = stream(10);
    let found = |from: usize, to: usize| TsShape::find(&bytes[from..to]);
    assert_eq!(found(0, 1_316), Some(TsShape { stride: 188, offset: 0, count: 7 }));
    assert_eq!(found(0, 188), Some(TsShape { stride: 188, offset: 0, count: 1 }));
    assert_eq!(found(10, 1_482), Some(TsShape { stride: 188, offset: 178, count: 7 }));
    assert_eq!(found(10, 400), None, "two may be chance");
    assert_eq!(TsShape::find(&[0x47; 100]), None);
    assert_eq!(TsShape::find(&[]), None);
    assert_eq!(TsShape::find(&[0x80; 1_400]), None);
}

proptest! {
    #[test]
    fn stream_cut_anywhere_comes_out_whole(cuts in prop::collection::vec(1_usize..1_500, 1..30)) {
        let bytes = stream(100);
        let (mut rest, mut datagrams) = (bytes.as_slice(), Vec::new());
        for cut in cuts {
            let (datagram, behind) = rest.split_at(cut.min(rest.len()));
            datagrams.push(datagram);
            rest = behind;
        }
        let mut input = input(TS_BYTES);
        let out = packed(&mut input, &datagrams);
        let taken = bytes.len() - rest.len();
        prop_assert_eq!(payloads(&out), &bytes[..taken / TS_BYTES * TS_BYTES]);
        prop_assert_eq!(input.lost_bytes, 0);
        for (n, rtp) in (65_535_u16..=65_535).chain(0..).zip(&out) {
            prop_assert_eq!(RtpView::parse(rtp).unwrap().seq(), SeqNo(n));
        }
    }

    #[test]
    fn any_bytes_become_whole_packets_or_nothing(
        stride in prop_oneof![Just(TS_BYTES), Just(TS_FEC_BYTES), 0_usize..3],
        datagrams in prop::collection::vec(
            prop::collection::vec(prop_oneof![3 => Just(0x47_u8), 1 => any::<u8>()], 0..700),
            0..12,
        ),
    ) {
        let mut input = input(stride);
        let slices: Vec<&[u8]> = datagrams.iter().map(Vec::as_slice).collect();
        for rtp in packed(&mut input, &slices) {
            let view = RtpView::parse(&rtp).unwrap();
            prop_assert!(view.payload().len() <= 7 * TS_BYTES);
            let (packets, rest) = view.payload().as_chunks::<TS_BYTES>();
            prop_assert!(rest.is_empty() && packets.iter().all(|packet| packet[0] == 0x47));
        }
        for datagram in &datagrams {
            if let Some(TsShape { stride, offset, count }) = TsShape::find(datagram) {
                prop_assert!(offset < stride && count >= 1);
            }
        }
    }
}
