//! Peeks into packets that our own packetizers make of what real encoders made: access points
//! begin exactly at the frames that the file calls sync samples, and parameter sets in band give
//! the SDP that the file gave.
//!
//! VP8 has no place in a file that FFmpeg writes and we read: literal packets test its peek.
//! Encoders that FFmpeg lacks on a machine are named and passed over. Bound: three seconds a file.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]
#![expect(clippy::print_stdout, reason = "says what the machine cannot prove")]

use std::path::Path;
use std::process::Command;

use headend::base::ids::RtpTs;
use headend::media::asset::{Asset, FileRange, Track};
use headend::media::container::{OpenError, open_with};
use headend::media::packetize::{WindowJob, window_count};
use headend::media::window::{Packet, PacketWindow, Piece, WindowKey, WindowKind};
use headend::rtp::ExtSeq;
use headend::rtp::detect::access::AccessPoints;
use headend::rtp::detect::sets::ParameterSets;
use headend::rtp::detect::{DetectorFormat, KeyFrameDetector};

/// One packet of a title.
struct Sent {
    ts: RtpTs,
    payload: Vec<u8>,
    /// It is the first of a frame; whether that is a sync sample.
    begins: Option<bool>,
}

#[test]
fn access_points_are_the_sync_samples_of_real_encoders() {
    let folder = tempfile::tempdir().unwrap();
    let mut seen = 0;
    for (name, arguments) in [
        ("h264.mp4", "-c:v libx264 -g 25 -bf 2 -pix_fmt yuv420p"),
        ("h264_slices.mp4", "-c:v libx264 -g 10 -slices 4 -pix_fmt yuv420p -b:v 3M"),
        ("h265.mp4", "-c:v libx265 -g 25 -x265-params log-level=none -pix_fmt yuv420p"),
        ("av1.mp4", "-c:v libaom-av1 -cpu-used 8 -g 25 -pix_fmt yuv420p"),
        ("vp9.mp4", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 25"),
        ("mpeg4.mp4", "-c:v mpeg4 -g 25 -b:v 2M"),
        ("mjpeg.mov", "-c:v mjpeg -huffman default -pix_fmt yuvj420p"),
    ] {
        let Some(file) = make(folder.path(), name, arguments) else { continue };
        let asset = open(&file);
        let Some(track) = asset.tracks.first() else {
            println!("{name} passed over: {:?}", asset.left_out);
            continue;
        };
        let format = DetectorFormat::from_encoding_name(&track.payload.encoding_name);
        assert_ne!(format, DetectorFormat::Any, "{name}");
        check_access_points(name, format, &packets(&asset, &file));
        seen += 1;
    }
    assert!(seen > 0, "FFmpeg is there, or nothing is proved");
}

#[test]
fn parameter_sets_in_band_give_the_sdp_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    for (name, arguments) in [
        ("h264.mp4", "-c:v libx264 -g 25 -pix_fmt yuv420p"),
        ("h265.mp4", "-c:v libx265 -g 25 -x265-params log-level=none -pix_fmt yuv420p"),
    ] {
        let Some(file) = make(folder.path(), name, arguments) else { continue };
        let asset = open(&file);
        let track = asset.tracks.first().unwrap();
        let format = DetectorFormat::from_encoding_name(&track.payload.encoding_name);
        let mut sets = ParameterSets::new(format);
        let changes = packets(&asset, &file)
            .iter()
            .filter(|packet| sets.handle_payload(&packet.payload))
            .count();
        assert_eq!(changes, 1, "{name}: all sets are in the first packet, and never change");
        let fmtp = track.payload.fmtp.clone().unwrap();
        for (parameter, value) in sets.fmtp() {
            let expected = format!("{parameter}={value}");
            assert!(fmtp.split(';').any(|known| known == expected), "{name}: {expected} in {fmtp}");
        }
        assert!(!sets.fmtp().is_empty(), "{name}");
    }
}

fn check_access_points(name: &str, format: DetectorFormat, packets: &[Sent]) {
    let mut detector = KeyFrameDetector::new(format);
    let mut access = AccessPoints::default();
    let found: Vec<u64> = (0..)
        .zip(packets)
        .filter_map(|(seq, packet)| {
            access.handle_packet(ExtSeq(seq), packet.ts, detector.detect(&packet.payload))
        })
        .map(|seq| seq.0)
        .collect();
    let expected: Vec<u64> = (0..)
        .zip(packets)
        .filter(|(_, packet)| packet.begins == Some(true))
        .map(|(seq, _)| seq)
        .collect();
    assert!(expected.len() > 1, "{name}: {} sync samples", expected.len());
    assert_eq!(found, expected, "{name}, of {} packets", packets.len());
}

/// Every packet of the first track, in the order of sending.
fn packets(asset: &Asset, file: &[u8]) -> Vec<Sent> {
    let track: &Track = asset.tracks.first().unwrap();
    let mut sent = Vec::new();
    for index in 0..window_count(track, WindowKind::All) {
        let key = WindowKey { track_index: 0, kind: WindowKind::All, index };
        let mut job = WindowJob::new(asset, key).unwrap();
        while let Some(FileRange { offset, bytes }) = job.wanted() {
            let start = usize::try_from(offset).unwrap();
            job.handle_bytes(&file[start..start + bytes as usize]).unwrap();
        }
        let window = job.finish();
        for frame in window.frames() {
            let ts = RtpTs(0).offset_ticks(frame.rtp_ticks);
            for (place, packet) in window.packets(frame).iter().enumerate() {
                let payload = payload(&window, packet, file);
                sent.push(Sent { ts, payload, begins: (place == 0).then_some(frame.is_sync) });
            }
        }
    }
    sent
}

fn payload(window: &PacketWindow, packet: &Packet, file: &[u8]) -> Vec<u8> {
    let pieces = window.pieces(packet).iter().map(|piece| match *piece {
        Piece::Inline { offset, bytes } => window.inline_bytes(offset, bytes),
        Piece::File { offset, bytes } => {
            let start = usize::try_from(offset).unwrap();
            &file[start..start + usize::from(bytes)]
        }
    });
    pieces.collect::<Vec<_>>().concat()
}

fn open(file: &[u8]) -> Asset {
    open_with(file.len() as u64, |offset, out| {
        let start = usize::try_from(offset).unwrap();
        let rest = file.get(start..).unwrap_or(&[]);
        let count = rest.len().min(out.len());
        out[..count].copy_from_slice(&rest[..count]);
        Ok::<usize, OpenError>(count)
    })
    .unwrap()
}

/// Runs FFmpeg into `folder/name`; `None` when the machine has no FFmpeg or it lacks the encoder.
fn make(folder: &Path, name: &str, arguments: &str) -> Option<Vec<u8>> {
    let path = folder.join(name);
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-y", "-f", "lavfi", "-i"])
        .arg("testsrc=s=320x240:r=25:d=3")
        .args(arguments.split_ascii_whitespace())
        .arg(&path)
        .output();
    match made {
        Ok(made) if made.status.success() => std::fs::read(path).ok(),
        Ok(made) => {
            println!("{name} passed over: {}", String::from_utf8_lossy(&made.stderr));
            None
        }
        Err(error) => {
            println!("{name} passed over: {error}");
            None
        }
    }
}
