//! Files made by FFmpeg against FFmpeg's own reading of them; cut and damaged files.

use super::*;
use crate::media::codec::{Codec, PayloadFormat};
use crate::media::index::Sample;
use std::path::Path;
use std::process::Command;

/// Announces every codec, so that these tests do not depend on the packetizers.
pub(crate) fn any_format(codec: &Codec, track_index: usize) -> Option<PayloadFormat> {
    let clock_rate_hz = match codec {
        Codec::Aac { sample_rate_hz, .. }
        | Codec::Pcm { sample_rate_hz, .. }
        | Codec::Pcmu { sample_rate_hz, .. }
        | Codec::Pcma { sample_rate_hz, .. } => *sample_rate_hz,
        Codec::Opus { .. } => 48_000,
        _ => 90_000,
    };
    let payload_type = 96 + u8::try_from(track_index).ok()?;
    let encoding_name = "any".to_owned();
    Some(PayloadFormat { payload_type, encoding_name, clock_rate_hz, channels: None, fmtp: None })
}

/// Opens bytes in memory.
pub(crate) fn open(file: &[u8]) -> Result<Asset, OpenError> {
    drive(Opener::with_formats(file.len() as u64, any_format), |offset, out| {
        let start = usize::try_from(offset).unwrap();
        let rest = file.get(start..).unwrap_or(&[]);
        let count = rest.len().min(out.len());
        out[..count].copy_from_slice(&rest[..count]);
        Ok::<usize, OpenError>(count)
    })
}

/// Runs FFmpeg into `dir/name`; `None` when the machine has no FFmpeg or it lacks a codec.
pub(crate) fn make(dir: &Path, name: &str, arguments: &str) -> Option<Vec<u8>> {
    let path = dir.join(name);
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-y"])
        .args(arguments.split_ascii_whitespace())
        .arg(&path)
        .output();
    match made {
        Ok(made) if made.status.success() => std::fs::read(path).ok(),
        Ok(made) => {
            println!("{name} skipped: {}", String::from_utf8_lossy(&made.stderr));
            None
        }
        Err(_) => None,
    }
}

const VIDEO: &str = "-f lavfi -i testsrc=s=160x120:r=25:d=3";
const SOUND: &str = "-f lavfi -i sine=d=3:r=44100";
const X264: &str = "-c:v libx264 -g 25 -bf 2 -pix_fmt yuv420p";

/// What FFmpeg says about each packet: pts, dts, size, position, key.
fn probe(path: &Path, stream: usize) -> Vec<(i64, i64, u32, u64, bool)> {
    let out = Command::new("ffprobe")
        .args(["-v", "error", "-of", "csv=p=0", "-show_entries", "packet=pts,dts,size,pos,flags"])
        .args(["-select_streams", &stream.to_string()])
        .arg(path)
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let line = |line: &str| {
        let f: Vec<&str> = line.trim_end_matches(',').split(',').collect();
        (
            f[0].parse().unwrap(),
            f[1].parse().unwrap(),
            f[2].parse().unwrap(),
            f[3].parse().unwrap(),
            f[4].starts_with('K'),
        )
    };
    text.lines().filter(|l| !l.trim().is_empty()).map(line).collect()
}

fn same_as_probe(path: &Path, file: &[u8]) -> Asset {
    let asset = open(file).unwrap();
    for (i, track) in asset.tracks.iter().enumerate() {
        let want = probe(path, i);
        let have: Vec<_> = track
            .index
            .iter(0, u32::MAX)
            .map(|s: Sample| (s.pts, s.dts, s.bytes, s.offset, s.is_sync))
            .collect();
        assert_eq!(have.len(), want.len(), "{} track {i}", path.display());
        for (n, (have, want)) in have.iter().zip(&want).enumerate() {
            assert_eq!(have, want, "{} track {i} sample {n}", path.display());
        }
        assert!(!want.is_empty());
    }
    asset
}

#[test]
fn every_sample_is_where_and_when_ffmpeg_finds_it() {
    let dir = tempfile::tempdir().unwrap();
    let both = format!("{VIDEO} {SOUND} {X264} -c:a aac");
    let matrix = [
        ("plain.mp4", both.clone(), "mp4"),
        ("first.mp4", format!("{both} -movflags faststart"), "mp4"),
        ("quicktime.mov", both.clone(), "mov"),
        ("phone.3gp", format!("{VIDEO} {SOUND} -c:v mpeg4 -c:a aac -ac 1"), "3gp"),
        ("sound.m4a", format!("{SOUND} -c:a aac"), "m4a"),
        ("hevc.mp4", format!("{VIDEO} -c:v libx265 -x265-params log-level=none:keyint=25"), "mp4"),
        ("negative.mp4", format!("{both} -movflags negative_cts_offsets"), "mp4"),
        ("mp3.mp4", format!("{SOUND} -c:a libmp3lame"), "mp4"),
        ("mp3.mov", format!("{SOUND} -c:a libmp3lame"), "mov"),
        ("opus.mp4", format!("{SOUND} -c:a libopus"), "mp4"),
        ("mjpeg.mov", format!("{VIDEO} -c:v mjpeg"), "mov"),
        ("mjpeg.mp4", format!("{VIDEO} -c:v mjpeg"), "mp4"),
        ("vp9.mp4", format!("{VIDEO} -c:v libvpx-vp9 -deadline realtime -cpu-used 8"), "mp4"),
        ("late.mp4", format!("{VIDEO} -itsoffset 0.5 {SOUND} {X264} -c:a aac"), "mp4"),
    ];
    for (name, arguments, container) in matrix {
        let Some(file) = make(dir.path(), name, &arguments) else { continue };
        let asset = same_as_probe(&dir.path().join(name), &file);
        assert_eq!(asset.container, container, "{name}");
        assert!(asset.left_out.is_empty(), "{name}: {:?}", asset.left_out);
        assert!(asset.problems.is_empty(), "{name}: {:?}", asset.problems);
        let seconds = asset.duration.as_secs_f64();
        assert!((2.9..3.7).contains(&seconds), "{name} lasts {seconds}");
        for track in &asset.tracks {
            assert!((1..=1_024).contains(&track.window_samples));
        }
    }
}

#[test]
fn fragments_give_the_samples_of_the_whole() {
    let dir = tempfile::tempdir().unwrap();
    let both = format!("{VIDEO} {SOUND} {X264} -c:a aac");
    for (name, flags) in [
        ("empty.mp4", "frag_keyframe+empty_moov"),
        ("base.mp4", "frag_keyframe+empty_moov+default_base_moof"),
        ("frames.mp4", "frag_every_frame+empty_moov+separate_moof"),
        ("filled.mp4", "frag_keyframe"),
        ("offset.mp4", "frag_keyframe+empty_moov+delay_moov"),
    ] {
        let Some(file) = make(dir.path(), name, &format!("{both} -movflags {flags}")) else {
            continue;
        };
        let asset = same_as_probe(&dir.path().join(name), &file);
        assert_eq!((asset.tracks.len(), asset.container), (2, "mp4 (fragmented)"), "{name}");
    }
}

#[test]
fn negative_composition_offsets_of_fragments_are_due_before_they_are_shown() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = format!("{VIDEO} {X264} -movflags cmaf+frag_keyframe");
    let Some(file) = make(dir.path(), "cmaf.mp4", &arguments) else { return };
    let asset = open(&file).unwrap();
    let samples: Vec<Sample> = asset.tracks[0].index.iter(0, u32::MAX).collect();
    assert_eq!((samples.len(), samples[0].pts), (75, 0));
    assert!(samples.iter().all(|s| s.dts <= s.pts));
}

#[test]
fn logarithmic_pcm_of_real_files_becomes_runs_of_20_ms() {
    let dir = tempfile::tempdir().unwrap();
    for (name, codec) in [("a.mov", "pcm_mulaw"), ("b.mov", "pcm_alaw")] {
        let arguments = format!("{SOUND} -ar 8000 -ac 2 -c:a {codec}");
        let Some(file) = make(dir.path(), name, &arguments) else { continue };
        let asset = open(&file).unwrap();
        let track = &asset.tracks[0];
        assert_eq!(asset.duration.as_secs_f64(), 3.0, "{name}");
        let all: Vec<Sample> = track.index.iter(0, u32::MAX).collect();
        assert_eq!(all.iter().map(|s| s.bytes).sum::<u32>(), 48_000, "{name}");
        assert!(all.iter().all(|s| s.bytes == s.duration * 2 && s.duration <= 160), "{name}");
    }
}

#[test]
fn linear_pcm_and_dolby_of_real_files_are_described_exactly() {
    let dir = tempfile::tempdir().unwrap();
    for (codec, rate, extension, encoding, sent) in [
        ("pcm_s16le", 48_000, "mov", "L16", 3 * 48_000 * 4),
        ("pcm_s16be", 44_100, "mov", "L16", 3 * 44_100 * 4),
        ("pcm_s8", 48_000, "mov", "L16", 3 * 48_000 * 4),
        ("pcm_u8", 48_000, "mov", "L16", 3 * 48_000 * 4),
        ("pcm_s24be", 48_000, "mov", "L24", 3 * 48_000 * 6),
        ("pcm_s24le", 48_000, "mov", "L24", 3 * 48_000 * 6),
        ("pcm_s32le", 48_000, "mov", "L24", 3 * 48_000 * 6),
        ("pcm_f32le", 48_000, "mov", "L24", 3 * 48_000 * 6),
        ("pcm_f64be", 48_000, "mov", "L24", 3 * 48_000 * 6),
        // Rates beyond 65,535 Hz are told by descriptions of version 2.
        ("pcm_s16le", 96_000, "mov", "L16", 3 * 96_000 * 4),
        ("pcm_u8", 96_000, "mov", "L16", 3 * 96_000 * 4),
        ("pcm_s24be", 96_000, "mov", "L24", 3 * 96_000 * 6),
        ("pcm_f32le", 96_000, "mov", "L24", 3 * 96_000 * 6),
        ("ac3", 48_000, "mov", "ac3", 0),
        ("ac3", 44_100, "mp4", "ac3", 0),
        ("eac3", 48_000, "mov", "eac3", 0),
        ("eac3", 32_000, "mp4", "eac3", 0),
    ] {
        let name = format!("{codec}-{rate}.{extension}");
        let arguments = format!("{SOUND} -ar {rate} -ac 2 -c:a {codec}");
        let Some(file) = make(dir.path(), &name, &arguments) else { continue };
        let mut opener = Opener::new(file.len() as u64);
        opener.check = |_, _| Ok(());
        let asset = drive(opener, |offset, out: &mut [u8]| {
            let start = usize::try_from(offset).unwrap();
            out.copy_from_slice(&file[start..start + out.len()]);
            Ok::<usize, OpenError>(out.len())
        })
        .unwrap();
        let track = &asset.tracks[0];
        let format = &track.payload;
        assert_eq!((&*format.encoding_name, format.clock_rate_hz), (encoding, rate), "{name}");
        assert_eq!(format.channels, Some(2), "{name}");
        if let Some(Codec::Pcm { layout, .. }) = track.codec {
            assert_eq!(asset.duration.as_secs_f64(), 3.0, "{name}");
            let stored: usize = track.index.iter(0, u32::MAX).map(|s| s.bytes as usize).sum();
            assert_eq!(stored / layout.stored_bytes() * layout.sent_bytes(), sent, "{name}");
        }
    }
}

mod damage;
mod descriptions;
mod in_band;
pub(crate) mod synthetic;
