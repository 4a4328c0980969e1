//! Behaviours of `packets`: what is read, what is passed over, and no panics.

use proptest::prelude::*;
use rtcp_types::{Bye as OracleBye, RtcpPacketWriterExt, Sdes as OracleSdes, SdesChunk, SdesItem};

use super::*;
use crate::rtcp::compound::CompoundWriter;

fn bytes_of(writer: &impl RtcpPacketWriterExt) -> Vec<u8> {
    let mut out = vec![0; writer.calculate_size().unwrap()];
    writer.write_into(&mut out).unwrap();
    out
}

fn all(bytes: &[u8]) -> Vec<Packet<'_>> {
    packets(bytes).map(|packet| packet.unwrap()).collect()
}

#[test]
fn sender_report_of_a_camera_is_read_with_its_clocks() {
    let info = SenderInfo { ntp: 1 << 40, rtp_ts: RtpTs(5), packet_count: 6, octet_count: 7 };
    let mut buffer = [0; 256];
    let mut out = CompoundWriter::new(&mut buffer);
    out.sender_report(Ssrc(1), &info, &[]).unwrap();
    out.cname(Ssrc(1), "cam").unwrap();
    out.bye(Ssrc(1), "off").unwrap();
    let packets = all(out.as_bytes());
    let [Packet::SenderReport { ssrc, info: read, blocks }, Packet::Sdes(sdes), Packet::Bye(bye)] =
        packets.as_slice()
    else {
        panic!("{packets:?}")
    };
    assert_eq!((*ssrc, *read, blocks.iter().count()), (Ssrc(1), info, 0));
    assert_eq!(sdes.cnames().collect::<Vec<_>>(), [(Ssrc(1), b"cam".as_slice())]);
    assert_eq!(bye.sources().collect::<Vec<_>>(), [Ssrc(1)]);
    assert_eq!(bye.reason(), Some(b"off".as_slice()));
}

#[test]
fn cname_is_found_behind_other_items_and_chunks() {
    let name = SdesItem::builder(SdesItem::NAME, "n");
    let first = SdesChunk::builder(1).add_item(name);
    let second = SdesChunk::builder(2)
        .add_item(SdesItem::builder(SdesItem::TOOL, "tool"))
        .add_item(SdesItem::builder(SdesItem::CNAME, "second"));
    let third = SdesChunk::builder(3).add_item(SdesItem::builder(SdesItem::CNAME, "abcdef"));
    let bytes =
        bytes_of(&OracleSdes::builder().add_chunk(first).add_chunk(second).add_chunk(third));
    let packets = all(&bytes);
    let [Packet::Sdes(sdes)] = packets.as_slice() else { panic!("{packets:?}") };
    let expected = [(Ssrc(2), b"second".as_slice()), (Ssrc(3), b"abcdef")];
    assert_eq!(sdes.cnames().collect::<Vec<_>>(), expected);
}

#[test]
fn padding_is_not_content() {
    let bytes = bytes_of(&OracleBye::builder().add_source(9).padding(4));
    let packets = all(&bytes);
    let [Packet::Bye(bye)] = packets.as_slice() else { panic!("{packets:?}") };
    assert_eq!((bye.sources().count(), bye.reason()), (1, None));
    // More padding than packet: nothing in it can be trusted.
    let nack = [0xa1, 205, 0, 2, 0, 0, 0, 1, 0, 0, 0, 200];
    assert_eq!(all(&nack), [Packet::Other { packet_type: 205 }]);
}

#[test]
fn packets_that_promise_more_than_they_hold_are_passed_over() {
    let bye = [0x81, 203, 0, 1, 0, 0, 0, 9];
    for damaged in [
        &[0x82u8, 200, 0, 6][..], // two blocks, none there
        &[0x81, 201, 0, 6],       // one block
        &[0x9f, 203, 0, 6],       // 31 sources
    ] {
        let bytes = [damaged, &[0; 24], &bye].concat();
        let packets = all(&bytes);
        assert!(
            matches!(packets.as_slice(), [Packet::Other { .. }, Packet::Bye(_)]),
            "{packets:?}"
        );
    }
    for short in [&[0x81u8, 205, 0, 1, 0, 0, 0, 1][..], &[0x81, 206, 0, 0], &[0x84, 206, 0, 0]] {
        assert!(matches!(all(short).as_slice(), [Packet::Other { .. }]), "{short:?}");
    }
}

#[test]
fn nack_of_a_stranger_names_a_bounded_number_of_packets() {
    let words = 2 + 10_000u16;
    let mut bytes = vec![0x81, 205];
    bytes.extend_from_slice(&words.to_be_bytes());
    bytes.resize((usize::from(words) + 1) * 4, 0xff);
    let packets = all(&bytes);
    let [Packet::Nack(nack)] = packets.as_slice() else { panic!() };
    assert_eq!(nack.lost().count(), NACK_PAIRS_MAX * 17);
}

proptest! {
    #[test]
    fn arbitrary_packets_are_walked_without_panic_to_their_end(
        parts in prop::collection::vec(
            (0x80u8..=0xbf, 192u8..=223, prop::collection::vec(any::<u8>(), 0..60)), 0..6,
        ),
        tail in prop::collection::vec(any::<u8>(), 0..6),
    ) {
        let mut bytes = Vec::new();
        for (first, packet_type, body) in &parts {
            let words = body.len() / 4;
            bytes.extend_from_slice(&[*first, *packet_type, 0, u8::try_from(words).unwrap()]);
            bytes.extend_from_slice(body.get(..words * 4).unwrap());
        }
        bytes.extend_from_slice(&tail);
        let mut count = 0;
        for packet in packets(&bytes) {
            count += 1;
            match packet {
                Ok(Packet::SenderReport { blocks, .. } | Packet::ReceiverReport { blocks, .. }) => {
                    prop_assert!(blocks.iter().count() <= 31);
                }
                Ok(Packet::Sdes(sdes)) => prop_assert!(sdes.cnames().count() <= 31),
                Ok(Packet::Bye(bye)) => {
                    prop_assert!(bye.sources().count() <= 31);
                    let _ = bye.reason();
                }
                Ok(Packet::Nack(nack)) => {
                    prop_assert!(nack.lost().count() <= NACK_PAIRS_MAX * 17);
                }
                Ok(Packet::Fir(fir)) => prop_assert!(fir.entries().count() <= FIRS_MAX),
                Ok(_) | Err(_) => {}
            }
        }
        prop_assert!(count >= parts.len() && count <= parts.len() + 2);
    }
}
