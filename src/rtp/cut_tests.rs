//! What a depacketizer makes of the pieces, beside what it makes of the packet.

use proptest::prelude::*;

use super::*;

/// Units with Annex B's question left out: (bytes, is whole). Parts are joined.
fn depacketized(format: DetectorFormat, payloads: &[&[u8]]) -> Vec<(Vec<u8>, bool, bool)> {
    let (header_bytes, aggregate, fragment) = match format {
        DetectorFormat::H264 => (1, 24, 28),
        _ => (2, 48, 49),
    };
    let kind = |first: u8| if header_bytes == 1 { first & 0x1f } else { first >> 1 & 0x3f };
    let mut units: Vec<(Vec<u8>, bool, bool)> = Vec::new();
    for payload in payloads {
        let payload = behind_start_code(payload);
        if kind(payload[0]) == aggregate {
            units.extend(units_of(&payload[header_bytes..]).map(|u| (u.to_vec(), true, true)));
        } else if kind(payload[0]) == fragment {
            let fu = payload[header_bytes];
            let body = &payload[header_bytes + 1..];
            let mut header = payload[..header_bytes].to_vec();
            header[0] = match format {
                DetectorFormat::H264 => header[0] & 0xe0 | fu & 0x1f,
                _ => header[0] & 0x81 | (fu & 0x3f) << 1,
            };
            let (starts, ends) = (fu & FU_START != 0, fu & FU_END != 0);
            match units.last_mut().filter(|last| !starts && !last.2) {
                Some((bytes, _, is_over)) => {
                    bytes.extend_from_slice(body);
                    *is_over = ends;
                }
                None => units.push(([&header, body].concat(), starts, ends)),
            }
        } else {
            units.push((payload.to_vec(), true, true));
        }
    }
    units
}

fn aggregated(header: &[u8], units: &[Vec<u8>]) -> Vec<u8> {
    let mut payload = header.to_vec();
    for unit in units {
        payload.extend_from_slice(&u16::try_from(unit.len()).unwrap().to_be_bytes());
        payload.extend_from_slice(unit);
    }
    payload
}

#[test]
fn unit_becomes_fragments_of_even_size_with_its_importance() {
    let unit = [&[0x65][..], &[7; 3_000]].concat();
    let mut pieces = Pieces::default();
    assert!(pieces.cut(DetectorFormat::H264, &unit, 1_400));
    let shapes: Vec<_> = pieces.iter().map(|p| (p.len(), p[0], p[1])).collect();
    assert_eq!(shapes, [(1_002, 0x7c, 0x85), (1_002, 0x7c, 0x05), (1_002, 0x7c, 0x45)]);
}

#[test]
fn small_units_stay_together_and_a_large_one_among_them_is_cut() {
    let units = [vec![0x67; 20], vec![0x68; 4], vec![0x65; 2_000], vec![0x06; 9]];
    let mut pieces = Pieces::default();
    assert!(pieces.cut(DetectorFormat::H264, &aggregated(&[0x18], &units), 1_400));
    let shapes: Vec<_> = pieces.iter().map(|p| (p.len(), p[0])).collect();
    assert_eq!(shapes, [(29, 0x78), (1_002, 0x7c), (1_001, 0x7c), (9, 0x06)]);
}

#[test]
fn transport_stream_is_cut_between_packets_and_visual_anywhere() {
    let mut pieces = Pieces::default();
    assert!(pieces.cut(DetectorFormat::MpegTs, &[0x47; 188 * 15], 1_400));
    assert_eq!(pieces.iter().map(<[u8]>::len).collect::<Vec<_>>(), [1_316, 1_316, 188]);
    assert!(!pieces.cut(DetectorFormat::MpegTs, &[0x47; 2_000], 1_400));
    assert!(pieces.cut(DetectorFormat::Mpeg4Visual, &[1; 2_000], 1_400));
    assert_eq!((pieces.count(), pieces.bytes()), (2, 2_000));
}

#[test]
fn what_is_not_known_well_enough_is_not_cut() {
    let mut pieces = Pieces::default();
    for (format, first) in [
        (DetectorFormat::H264, 25),
        (DetectorFormat::H264, 29),
        (DetectorFormat::H264, 0),
        (DetectorFormat::H265, 50 << 1),
        (DetectorFormat::Vp8, 0),
        (DetectorFormat::Any, 0),
    ] {
        let payload = [&[first][..], &[0xff; 3_000]].concat();
        assert!(!pieces.cut(format, &payload, 1_400), "{format:?} {first}");
        assert_eq!((pieces.count(), pieces.iter().count()), (0, 0));
    }
    // Lengths that do not add up.
    let broken = [&[0x18, 0, 1, 0x67][..], &[0xff; 3_000]].concat();
    assert!(!pieces.cut(DetectorFormat::H264, &broken, 1_400));
}

/// A STAP-A or an AP among the units would be taken apart when it stood alone.
#[test]
fn aggregation_packet_within_another_is_not_cut() {
    let mut pieces = Pieces::default();
    let large = vec![0x65; 2_000];
    let inner = aggregated(&[0x78], &[vec![0x67; 20], vec![0x68; 4]]);
    assert!(!pieces.cut(DetectorFormat::H264, &aggregated(&[0x78], &[large, inner]), 1_400));
    let large = [&[19 << 1, 1][..], &[7; 2_000]].concat();
    let inner = aggregated(&[48 << 1, 1], &[vec![64, 1, 2], vec![66, 1, 2]]);
    for odd in [inner, vec![19 << 1]] {
        let payload = aggregated(&[48 << 1, 1], &[large.clone(), odd]);
        assert!(!pieces.cut(DetectorFormat::H265, &payload, 1_400));
    }
}

fn arb_unit(is_h265: bool) -> impl Strategy<Value = Vec<u8>> {
    let bytes = prop_oneof![2_usize..60, 2_usize..6_000];
    (1_u8..24, any::<u8>(), bytes).prop_map(move |(kind, fill, len)| {
        let first = if is_h265 { kind << 1 } else { 0x60 | kind };
        let header = if is_h265 { vec![first, 1] } else { vec![first] };
        [header, vec![fill; len]].concat()
    })
}

proptest! {
    #[test]
    fn pieces_say_what_the_payload_said(
        is_h265: bool,
        shape in 0..3,
        seeds in (prop::collection::vec(arb_unit(false), 1..8), prop::collection::vec(arb_unit(true), 1..8)),
        fu: u8,
        bytes_max in 100_usize..1_500,
    ) {
        let units = if is_h265 { seeds.1 } else { seeds.0 };
        let format = if is_h265 { DetectorFormat::H265 } else { DetectorFormat::H264 };
        let payload = match (shape, is_h265) {
            (0, _) => units[0].clone(),
            (1, false) => aggregated(&[0x78], &units),
            (1, true) => aggregated(&[48 << 1, 1], &units),
            (_, false) => [&[0x7c, fu & 0xdf | 1][..], &units[0]].concat(),
            (_, true) => [&[49 << 1, 1, fu & 0xc0 | 1][..], &units[0]].concat(),
        };
        let mut pieces = Pieces::default();
        prop_assert!(pieces.cut(format, &payload, bytes_max));
        let cut: Vec<&[u8]> = pieces.iter().collect();
        prop_assert!(cut.iter().all(|piece| piece.len() <= bytes_max && !piece.is_empty()));
        prop_assert_eq!(depacketized(format, &cut), depacketized(format, &[&payload]));
    }

    #[test]
    fn any_payload_is_cut_or_not_without_panic(
        payload in prop::collection::vec(any::<u8>(), 0..3_000),
        format in prop_oneof![Just(DetectorFormat::H264), Just(DetectorFormat::H265), Just(DetectorFormat::MpegTs)],
        bytes_max in 0_usize..1_500,
    ) {
        let mut pieces = Pieces::default();
        if pieces.cut(format, &payload, bytes_max) {
            prop_assert!(pieces.iter().all(|piece| piece.len() <= bytes_max));
            prop_assert!(pieces.count() <= PIECES_MAX);
        }
    }
}
