//! Packets of hint tracks against the media samples they were made from.

use super::*;
use crate::media::asset::Asset;
use crate::media::container::tests::{make, open};
use crate::media::window::{PacketWindow, Piece};

const HINTED: &str = "-f lavfi -i testsrc=s=320x240:r=25:d=3 -f lavfi -i sine=d=3:r=44100 \
    -c:v libx264 -g 25 -bf 2 -pix_fmt yuv420p -c:a aac -movflags rtphint";

fn payload(window: &PacketWindow, packet: &crate::media::window::Packet, file: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in window.pieces(packet) {
        match *piece {
            Piece::Inline { offset, bytes } => {
                out.extend_from_slice(window.inline_bytes(offset, bytes));
            }
            Piece::File { offset, bytes } => {
                let start = usize::try_from(offset).unwrap();
                out.extend_from_slice(&file[start..start + usize::from(bytes)]);
            }
        }
    }
    assert_eq!(out.len(), usize::from(packet.payload_bytes));
    out
}

fn window_of(asset: &Asset, track_index: usize, file: &[u8]) -> PacketWindow {
    let track = &asset.tracks[track_index];
    let hint = track.hint.as_ref().unwrap();
    let mut out = WindowBuilder::new();
    for (i, sample) in (0u32..).zip(hint.index.iter(0, u32::MAX)) {
        let start = usize::try_from(sample.offset).unwrap();
        let bytes = &file[start..start + sample.bytes as usize];
        hint.packetize(track, &sample, i, bytes, &mut out).unwrap();
    }
    out.finish()
}

/// NAL units out of RFC 6184 payloads.
fn nal_units(payloads: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut units: Vec<Vec<u8>> = Vec::new();
    for payload in payloads {
        match payload[0] & 31 {
            24 => {
                let mut rest = &payload[1..];
                while let [high, low, tail @ ..] = rest {
                    let bytes = usize::from(u16::from_be_bytes([*high, *low]));
                    units.push(tail[..bytes].to_vec());
                    rest = &tail[bytes..];
                }
            }
            28 => {
                if payload[1] & 0x80 != 0 {
                    units.push(vec![payload[0] & 0xe0 | payload[1] & 31]);
                }
                units.last_mut().unwrap().extend_from_slice(&payload[2..]);
            }
            _ => units.push(payload.clone()),
        }
    }
    units
}

#[test]
fn hinted_video_packets_carry_exactly_the_media_samples() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["hint.mov", "hint.mp4"] {
        let Some(file) = make(dir.path(), name, HINTED) else { return };
        let asset = open(&file).unwrap();
        assert_eq!((asset.tracks.len(), asset.left_out.len()), (2, 0), "{:?}", asset.left_out);
        let track = &asset.tracks[0];
        assert_eq!(track.payload.encoding_name, "H264");
        assert!(track.payload.fmtp.as_ref().unwrap().contains("sprop-parameter-sets"));
        let window = window_of(&asset, 0, &file);
        assert_eq!(window.frames().len(), track.index.count() as usize);
        for (frame, sample) in window.frames().iter().zip(track.index.iter(0, u32::MAX)) {
            let packets = window.packets(frame);
            assert!(packets.iter().rev().skip(1).all(|p| !p.marker));
            assert!(packets.last().unwrap().marker);
            assert_eq!(frame.is_sync, sample.is_sync);
            assert_eq!(frame.rtp_ticks, rescale(sample.pts, track.timescale, 90_000));
            let payloads: Vec<_> = packets.iter().map(|p| payload(&window, p, &file)).collect();
            let mut carried = Vec::new();
            for unit in nal_units(&payloads) {
                carried.extend_from_slice(&u32::try_from(unit.len()).unwrap().to_be_bytes());
                carried.extend_from_slice(&unit);
            }
            let start = usize::try_from(sample.offset).unwrap();
            assert_eq!(carried, &file[start..start + sample.bytes as usize]);
        }
    }
}

#[test]
fn hinted_sound_packets_carry_access_units_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let Some(file) = make(dir.path(), "hint.mov", HINTED) else { return };
    let asset = open(&file).unwrap();
    let track = &asset.tracks[1];
    assert_eq!(track.payload.clock_rate_hz, 44_100);
    let window = window_of(&asset, 1, &file);
    let mut carried = Vec::new();
    let mut due = i64::MIN;
    for frame in window.frames() {
        assert!(frame.due.0 >= due && frame.is_sync);
        due = frame.due.0;
        for packet in window.packets(frame) {
            let payload = payload(&window, packet, &file);
            let header_bytes = usize::from(u16::from_be_bytes([payload[0], payload[1]])) / 8;
            carried.extend_from_slice(&payload[2 + header_bytes..]);
        }
    }
    let mut media = Vec::new();
    for sample in track.index.iter(0, u32::MAX) {
        let start = usize::try_from(sample.offset).unwrap();
        media.extend_from_slice(&file[start..start + sample.bytes as usize]);
    }
    let same = carried.iter().zip(&media).take_while(|(a, b)| a == b).count();
    // FFmpeg's hinter keeps the access units of the last, unfilled packet to itself.
    assert_eq!(same, carried.len());
    assert!(media.len() - same < 1_400, "{same} of {}", media.len());
}

#[test]
fn broken_hint_samples_fall_back_to_the_media() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut file) = make(dir.path(), "hint.mov", HINTED) else { return };
    let asset = open(&file).unwrap();
    let first = asset.tracks[0].hint.as_ref().unwrap().index.sample(0).unwrap();
    // A constructor of a kind that nobody knows, in the first packet.
    let start = usize::try_from(first.offset).unwrap();
    let flags = u16::from_be_bytes([file[start + 12], file[start + 13]]);
    let extra = if flags & 4 == 0 { 0 } else { usize::from(file[start + 19]) };
    file[start + 16 + extra] = 9;
    let asset = open(&file).unwrap();
    assert_eq!(asset.tracks.len(), 2);
    assert!(asset.tracks[0].hint.is_none() && asset.tracks[1].hint.is_some());
    assert_eq!(asset.tracks[0].payload.encoding_name, "any");
    assert_eq!(asset.problems.len(), 1, "{:?}", asset.problems);
}

#[test]
fn damaged_hint_samples_never_reach_the_window() {
    let dir = tempfile::tempdir().unwrap();
    let Some(file) = make(dir.path(), "hint.mov", HINTED) else { return };
    let asset = open(&file).unwrap();
    let track = &asset.tracks[0];
    let hint = track.hint.as_ref().unwrap();
    let sample = hint.index.sample(0).unwrap();
    let start = usize::try_from(sample.offset).unwrap();
    let bytes = &file[start..start + sample.bytes as usize];
    let packets_bytes = (0..bytes.len()).rev().find(|cut| {
        let mut out = WindowBuilder::new();
        let is_broken = hint.packetize(track, &sample, 0, &bytes[..*cut], &mut out).is_err();
        assert!(!is_broken || out.open_packet_count() == 0 && out.open_bytes() == 0);
        is_broken
    });
    assert!(packets_bytes.is_some());
    for at in 0..bytes.len() {
        let mut damaged = bytes.to_vec();
        damaged[at] ^= 0xff;
        let mut out = WindowBuilder::new();
        if hint.packetize(track, &sample, 0, &damaged, &mut out).is_err() {
            assert_eq!((out.open_packet_count(), out.open_bytes()), (0, 0));
        }
        let window = out.finish();
        let packets = window.frames().iter().flat_map(|f| window.packets(f));
        for piece in packets.flat_map(|p| window.pieces(p)) {
            if let Piece::File { offset, bytes } = piece {
                assert!(offset + u64::from(*bytes) <= file.len() as u64);
            }
        }
    }
}

#[test]
fn sdp_of_a_hint_track_names_the_payload_format() {
    use crate::media::codec::MediaKind::{Audio, Video};
    let text = "m=audio 0 RTP/AVP 97\r\nb=AS:69\r\na=rtpmap:97 MPEG4-GENERIC/44100/1\r\n\
        a=fmtp:97 mode=AAC-hbr; config=1208\r\na=control:streamid=4\r\n";
    let format = payload_format_of(text, Audio).unwrap();
    assert_eq!((format.payload_type, format.clock_rate_hz, format.channels), (97, 44_100, Some(1)));
    assert_eq!(format.fmtp.as_deref(), Some("mode=AAC-hbr; config=1208"));
    assert_eq!(payload_format_of(text, Video), None);
    let fixed = payload_format_of("m=video 0 RTP/AVP 34", Video).unwrap();
    assert_eq!((fixed.encoding_name.as_str(), fixed.clock_rate_hz), ("H263", 90_000));
    for bad in [
        "",
        "m=video",
        "m=video 0 RTP/AVP 200",
        "m=video 0 RTP/AVP 96",
        "m=video 0 RTP/AVP 96\na=rtpmap:96 a b/0",
    ] {
        assert_eq!(payload_format_of(bad, Video), None, "{bad}");
    }
}
