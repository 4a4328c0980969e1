//! What a player made of a stream, held against what the same decoder makes of the file.
//!
//! Every comparison is of all frames, in order, bit by bit. Two things are left out on both sides,
//! because RTP has no way to carry them:
//! - *times*: a player's clock starts where it likes; times are checked by the raw client;
//! - *what a container says about not showing samples* (edit lists, encoder priming): RTP carries
//!   every sample, so the file is decoded with every sample too (`-ignore_editlist`,
//!   `skip_manual`). Nothing else is relaxed.

use std::path::Path;

use super::media::Kind;
use super::process::run;

/// ffmpeg in front of an input that is a file of the matrix: every sample, whatever its edits say.
pub(crate) const EVERY_SAMPLE: [&str; 4] = ["-ignore_editlist", "1", "-flags2", "+skip_manual"];

/// How copies of a track are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// Hash of each decoded frame: where a payload format may cut or wrap the same coded picture
    /// in other ways (start codes, parameter sets, JPEG headers).
    DecodedFrames,
    /// The coded bytes themselves: where the payload format carries them untouched.
    Bytes,
}

impl Kind {
    /// How a player that keeps coded data is judged.
    pub(crate) fn compared_by(self) -> By {
        match self {
            Self::H264 | Self::H265 | Self::Mpeg4 | Self::Mjpeg | Self::Av1 => By::DecodedFrames,
            Self::Vp8
            | Self::Vp9
            | Self::Aac
            | Self::Mp3
            | Self::Opus
            | Self::Pcmu
            | Self::Pcma
            | Self::L16
            | Self::L24
            | Self::Ac3
            | Self::Eac3 => By::Bytes,
        }
    }
}

/// Hashes of all frames that ffmpeg decodes from `stream` of an input given by `input_args`.
pub(crate) fn decoded_frames(input_args: &[&str], stream: u32) -> Vec<String> {
    let map = format!("0:{stream}");
    let mut args = vec!["-hide_banner", "-loglevel", "error", "-nostdin"];
    args.extend_from_slice(input_args);
    args.extend(["-map", &map, "-fps_mode", "passthrough", "-f", "framemd5", "-"]);
    hashes(&run("ffmpeg", &args).stdout)
}

/// Coded bytes of `stream` of the file, one sample after the other; linear PCM in the byte order
/// of RTP.
pub(crate) fn coded_bytes(file: &Path, stream: u32) -> Vec<u8> {
    let out = tempfile::NamedTempFile::new_in(super::scratch()).unwrap();
    let (file, map, to) = (text(file), format!("0:{stream}"), text(out.path()));
    let mut args = vec!["-hide_banner", "-loglevel", "error", "-nostdin", "-y"];
    // Matroska has no edit lists, and FFmpeg refuses an option that nobody takes.
    let is_matroska = file.ends_with(".mkv");
    args.extend(if is_matroska { &EVERY_SAMPLE[2..] } else { &EVERY_SAMPLE[..] });
    args.extend(["-i", &file, "-map", &map]);
    args.extend(match codec_name(&file, stream).as_str() {
        "pcm_s16le" => ["-c", "pcm_s16be", "-f", "s16be"],
        "pcm_s24le" => ["-c", "pcm_s24be", "-f", "s24be"],
        _ => ["-c", "copy", "-f", "data"],
    });
    args.push(&to);
    run("ffmpeg", &args);
    std::fs::read(out.path()).unwrap()
}

/// FFmpeg's name of what a stream is coded with.
fn codec_name(file: &str, stream: u32) -> String {
    let stream = stream.to_string();
    let args = ["-v", "error", "-select_streams", &stream, "-show_entries", "stream=codec_name"];
    let out = run("ffprobe", &[&args[..], &["-of", "csv=p=0", file]].concat()).stdout;
    out.trim().to_owned()
}

/// Hashes in what `-f framemd5` wrote of one stream.
pub(crate) fn hashes(framemd5: &str) -> Vec<String> {
    // #stream, dts, pts, duration, size, hash
    framemd5
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split(',').nth(5).unwrap().trim().to_owned())
        .collect()
}

/// Asserts that `got` is `wanted`, and says where it first is not.
pub(crate) fn assert_same_frames(what: &str, got: &[String], wanted: &[String]) {
    assert!(!wanted.is_empty(), "{what}: nothing to compare with");
    let differs = got.iter().zip(wanted).position(|(a, b)| a != b);
    assert!(
        differs.is_none() && got.len() == wanted.len(),
        "{what}: {} frames instead of {}; first difference at {differs:?}; of the wanted ones {} \
         are missing",
        got.len(),
        wanted.len(),
        wanted.iter().filter(|hash| !got.contains(hash)).count()
    );
}

/// Asserts that `got` is `wanted`, and says where it first is not.
pub(crate) fn assert_same_bytes(what: &str, got: &[u8], wanted: &[u8]) {
    assert!(!wanted.is_empty(), "{what}: nothing to compare with");
    let differs = got.iter().zip(wanted).position(|(a, b)| a != b);
    assert!(
        differs.is_none() && got.len() == wanted.len(),
        "{what}: {} bytes instead of {}; first difference at {differs:?}",
        got.len(),
        wanted.len()
    );
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
