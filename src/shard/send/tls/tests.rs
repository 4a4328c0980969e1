//! What frames become on a connection with TLS: records of whole frames, with the file's bytes.

use std::time::Duration;

use super::*;
use crate::base::ids::{RtpTs, SeqNo, Ssrc};
use crate::base::random;
use crate::config::source::SourceTls;
use crate::library::testing::{title_with_bytes, title_without_samples};
use crate::live::core::batch::{Arrival, BatchBuilder, Generation};
use crate::media::window::{Frame, WindowBuilder};
use crate::pki::camera::{CameraRoots, CameraTls};
use crate::pki::serving::{SelfSigned, ServerIdentity};
use crate::rtp::srtp::{MasterKey, Suite};

/// Both ends of a connection whose handshake is over.
fn shaken() -> (TlsStream, TlsStream) {
    let made = SelfSigned::make(["h.lan"], 1_800_000_000, Duration::from_secs(60)).unwrap();
    let identity = ServerIdentity::read(&made.certificate, &made.key).unwrap();
    let camera = CameraTls::new(SourceTls::Off, &CameraRoots::default()).unwrap();
    let mut client = TlsStream::client(&camera, "h.lan").unwrap();
    let mut server = TlsStream::server(&identity.tls).unwrap();
    for _ in 0..4 {
        hand_over(&mut client, &mut server);
        hand_over(&mut server, &mut client);
    }
    assert!(!server.is_handshaking() && !client.is_handshaking());
    (server, client)
}

fn hand_over(from: &mut TlsStream, to: &mut TlsStream) -> Vec<u8> {
    let (bytes, mut plain) = (from.output().to_vec(), Vec::new());
    from.consume_output(bytes.len());
    to.handle_bytes(&bytes, &mut plain).unwrap();
    plain
}

/// Lengths of the records in the output.
fn records(stream: &TlsStream) -> Vec<usize> {
    let (mut rest, mut lengths) = (stream.output(), Vec::new());
    while let Some((head, _)) = rest.split_at_checked(5) {
        let length = 5 + usize::from(u16::from_be_bytes([head[3], head[4]]));
        lengths.push(length);
        rest = &rest[length..];
    }
    lengths
}

/// A window with a packet for each of `sizes`: two inline bytes, the rest from the file in order.
fn window(sizes: &[usize]) -> Arc<PacketWindow> {
    let mut builder = WindowBuilder::new();
    let mut offset = 0;
    for size in sizes {
        builder.push_inline(&[0xfe, 0xff]);
        builder.push_file(offset, size - 2);
        offset += *size as u64 - 2;
        builder.end_packet(true);
    }
    builder.end_frame(Frame::SYNC);
    Arc::new(builder.finish())
}

const HEADER: &[u8; 12] = b"headerheader";

fn framed(payload: &[u8]) -> Vec<u8> {
    let bytes = u16::try_from(12 + payload.len()).unwrap().to_be_bytes();
    [&[b'$', 2, bytes[0], bytes[1]], &HEADER[..], payload].concat()
}

#[test]
fn record_has_whole_frames_with_the_bytes_of_the_file() {
    let file: Vec<u8> = (0..60_000_u32).map(|at| (at ^ (at >> 7)).to_le_bytes()[0]).collect();
    let title = title_with_bytes(&file);
    let sizes = [1_400; 40];
    let window = window(&sizes);
    let (mut server, mut client) = shaken();
    let mut sealing = Sealing::default();
    sealing.begin_turn();
    let cells = ShardCells::default();
    let mut frames = TlsFrames::new(&mut server, &mut sealing, &cells);
    assert_eq!(frames.push_bytes(b"RTSP/1.0 200 OK\r\n\r\n"), 19);
    for packet in window.all_packets() {
        assert_eq!(
            TitleFrames::push_packet(&mut frames, (2, None), HEADER, &window, packet, &title),
            Ok(true)
        );
    }
    let (sealed, cold, failure) = frames.finish();
    assert!(failure.is_none());
    assert_eq!(cold, 0, "the file is in memory");
    let of_frames = 4 + 12 + 1_400;
    assert_eq!(sealed, 19 + 40 * of_frames);
    assert_eq!(sealing.left, TLS_BYTES_A_TURN - sealed);
    let lengths = records(&server);
    assert!(lengths[..lengths.len() - 1].iter().all(|bytes| *bytes > 15_000), "{lengths:?}");
    assert!(lengths.iter().all(|bytes| *bytes <= RECORD_BYTES_MAX + 40), "{lengths:?}");
    let mut offset = 0;
    let payloads = sizes.map(|size| {
        let bytes = &file[offset..offset + size - 2];
        offset += size - 2;
        framed(&[&[0xfe, 0xff], bytes].concat())
    });
    let expected = [b"RTSP/1.0 200 OK\r\n\r\n".to_vec(), payloads.concat()].concat();
    assert!(hand_over(&mut server, &mut client) == expected);
}

#[test]
fn file_that_was_truncated_is_an_error_and_no_signal() {
    let title = title_with_bytes(&vec![7; 40_000]);
    let window = window(&[1_400; 20]);
    let (mut server, _client) = shaken();
    let mut sealing = Sealing::default();
    title.file.set_len(10_000).unwrap();
    let cells = ShardCells::default();
    let mut frames = TlsFrames::new(&mut server, &mut sealing, &cells);
    for packet in window.all_packets() {
        let pushed =
            TitleFrames::push_packet(&mut frames, (2, None), HEADER, &window, packet, &title);
        if pushed == Ok(false) {
            break;
        }
    }
    let (_, cold, failure) = frames.finish();
    assert_eq!(failure.unwrap().kind(), io::ErrorKind::InvalidData);
    assert!(cold > 0);
}

#[test]
fn packet_outside_of_the_file_is_refused_and_leaves_the_record_as_it_was() {
    let title = title_without_samples();
    let window = window(&[1_400]);
    let (mut server, mut client) = shaken();
    let mut sealing = Sealing::default();
    let cells = ShardCells::default();
    let mut frames = TlsFrames::new(&mut server, &mut sealing, &cells);
    assert_eq!(frames.push_bytes(b"before"), 6);
    let packet = &window.all_packets()[0];
    let refused = TitleFrames::push_packet(&mut frames, (2, None), HEADER, &window, packet, &title);
    assert!(matches!(refused, Err(RangeOutside::File { .. })), "{refused:?}");
    assert!(frames.finish().2.is_none());
    assert_eq!(hand_over(&mut server, &mut client), b"before");
}

#[test]
fn packet_that_its_tag_makes_longer_than_any_frame_does_not_block_its_stream() {
    let master = MasterKey::random(Suite::Aes128Gcm, &mut random::rng());
    let srtp = SrtpStream::new(&master, &master, &[]);
    let of_live = |bytes: usize, seq: u16| {
        let mut builder = BatchBuilder::default();
        let bytes = &[&[0x80, 96][..], &seq.to_be_bytes(), &vec![9; bytes - 4]].concat();
        let (ssrc, seq, ts, header_bytes) = (Ssrc(0x0909_0909), SeqNo(seq), RtpTs(1), 12);
        let (marker, is_sync) = (false, false);
        let arrival = Arrival { track: 0, ssrc, seq, ts, marker, header_bytes, is_sync, bytes };
        builder.push(&arrival, Mono(0)).unwrap();
        Arc::new(builder.build(Generation(1), |_| None).unwrap())
    };
    let (mut server, mut client) = shaken();
    let (mut sealing, cells) = (Sealing::default(), ShardCells::default());
    let mut frames = TlsFrames::new(&mut server, &mut sealing, &cells);
    // 65,535 less the tag of 16 bytes is the most.
    for (bytes, seq) in [(65_520, 1), (500, 2), (65_535, 3), (65_519, 4)] {
        let batch = of_live(bytes, seq);
        let packet = &batch.packets_of(&batch.runs_of(0)[0])[0];
        let header = batch.packet_bytes(packet).first_chunk().unwrap();
        let channel = (2, Some(&srtp));
        assert!(BatchFrames::push_packet(&mut frames, channel, header, &batch, packet), "{seq}");
    }
    let title = title_with_bytes(&vec![7; 70_000]);
    let window = window(&[65_508]);
    let packet = &window.all_packets()[0];
    let refused =
        TitleFrames::push_packet(&mut frames, (2, Some(&srtp)), HEADER, &window, packet, &title);
    let (piece_count, payload_bytes) = (2, 65_508);
    assert_eq!(refused, Err(RangeOutside::TooLarge { piece_count, payload_bytes }));
    assert!(frames.finish().2.is_none());
    assert_eq!(cells.srtp_packets_dropped.value(), 2);
    let plain = hand_over(&mut server, &mut client);
    assert_eq!(plain.len(), 4 + 516 + 4 + 65_535, "what fits");
}

#[test]
fn send_takes_its_share_and_no_more() {
    let mut builder = BatchBuilder::default();
    let bytes = &[9; 1_300];
    let (ssrc, seq, ts, header_bytes) = (Ssrc(1), SeqNo(1), RtpTs(1), 12);
    let (marker, is_sync) = (false, false);
    let arrival = Arrival { track: 0, ssrc, seq, ts, marker, header_bytes, is_sync, bytes };
    builder.push(&arrival, Mono(0)).unwrap();
    let batch = Arc::new(builder.build(Generation(1), |_| None).unwrap());
    let packet = &batch.packets_of(&batch.runs_of(0)[0])[0];
    let (mut server, mut client) = shaken();
    let mut sealing = Sealing::default();
    sealing.begin_turn();
    let cells = ShardCells::default();
    let mut frames = TlsFrames::new(&mut server, &mut sealing, &cells);
    let mut count = 0;
    while BatchFrames::push_packet(&mut frames, (2, None), HEADER, &batch, packet) {
        count += 1;
    }
    assert_eq!(frames.push_bytes(&[0; 2_000]), 0);
    let (sealed, ..) = frames.finish();
    assert_eq!((count, sealed), (TLS_BYTES_A_SEND / 1_304, count * 1_304));
    // The last record is sealed, too.
    let plain = hand_over(&mut server, &mut client);
    assert!(plain == framed(&[9; 1_288]).repeat(count));
}
