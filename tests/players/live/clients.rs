//! Live paths with the clients that people have: FFmpeg and GStreamer publish and read, every way.
//!
//! ```text
//!  ffmpeg -re -c copy        ----+          +--- ffmpeg over UDP, over TCP
//!  filesrc ! rtspclientsink  ----+-- path --+--- rtspsrc as it comes, over TCP
//! ```
//! What a reader gets must be what was published, from a key frame on to the end: decoded pictures
//! by their hashes, sound byte by byte.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on has failed, and says where"
)]

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::support;
use crate::support::compare::{EVERY_SAMPLE, assert_same_frames, coded_bytes, decoded_frames};
use crate::support::http::{get_json, list};
use crate::support::live::wait_until_described;
use crate::support::players::{
    assert_launched_well, assert_read_to_the_end, assert_sound_without_a_gap, frames_in, launch,
    player, publish_file, read,
};
use crate::support::process::{Kept, run, wait_for};
use crate::support::server::{Options, Server};
use crate::support::session::{Lower, Session};
use crate::support::wait::{PATIENCE, until};

/// What is published. All have a key frame each second and last five seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Clip {
    H264Aac,
    H265Aac,
    Vp8Opus,
}

impl Clip {
    /// Made on first use.
    fn file(self) -> PathBuf {
        match self {
            Self::H264Aac => {
                let clip = support::demo_clip().to_string_lossy().into_owned();
                made("h264_aac.mp4", &["-t", "5", "-i", &clip, "-c", "copy"])
            }
            Self::H265Aac => {
                let codecs = "-c:v libx265 -preset ultrafast -tag:v hvc1 -c:a aac -x265-params \
                     log-level=none:keyint=25:min-keyint=25:scenecut=0";
                encoded("h265_aac.mp4", codecs)
            }
            Self::Vp8Opus => {
                let codecs = "-c:v libvpx -deadline realtime -g 25 -b:v 500k -c:a libopus";
                encoded("vp8_opus.mkv", codecs)
            }
        }
    }

    /// GStreamer from the file to the sink `s`, which stands in the place of SINK.
    fn pipeline(self) -> &'static str {
        match self {
            Self::H264Aac => {
                "qtdemux name=d d.video_0 ! queue ! h264parse ! SINK \
                 d.audio_0 ! queue ! aacparse ! s."
            }
            Self::H265Aac => {
                "qtdemux name=d d.video_0 ! queue ! h265parse ! SINK \
                 d.audio_0 ! queue ! aacparse ! s."
            }
            Self::Vp8Opus => {
                "matroskademux name=d d.video_0 ! queue ! SINK d.audio_0 ! queue ! opusparse ! s."
            }
        }
    }

    /// GStreamer from RTP to what is compared: pictures, sound. It sends AAC as LATM (RFC 6416).
    fn depayloaders(self, by: By) -> [&'static str; 2] {
        let aac = if by == By::Ffmpeg { "rtpmp4gdepay" } else { "rtpmp4adepay" };
        match self {
            Self::H264Aac => {
                ["rtph264depay ! video/x-h264,stream-format=byte-stream,alignment=au", aac]
            }
            Self::H265Aac => {
                ["rtph265depay ! video/x-h265,stream-format=byte-stream,alignment=au", aac]
            }
            Self::Vp8Opus => ["rtpvp8depay ! matroskamux", "rtpopusdepay"],
        }
    }

    /// Options with which FFmpeg reads all that is in the file.
    fn every_sample(self) -> &'static [&'static str] {
        match self {
            Self::H264Aac | Self::H265Aac => &EVERY_SAMPLE,
            Self::Vp8Opus => &[],
        }
    }

    /// What FFmpeg calls the pictures that a GStreamer reader keeps.
    fn kept_format(self) -> &'static str {
        match self {
            Self::H264Aac => "h264",
            Self::H265Aac => "hevc",
            Self::Vp8Opus => "matroska",
        }
    }
}

/// Who publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Ffmpeg,
    GStreamer,
}

#[test]
fn gstreamer_publishes_over_tcp() {
    is_read_as_published(By::GStreamer, "tcp", Clip::H264Aac);
}

#[test]
fn gstreamer_publishes_over_udp() {
    is_read_as_published(By::GStreamer, "udp", Clip::H264Aac);
}

#[test]
fn gstreamer_publishes_vp8_and_opus() {
    is_read_as_published(By::GStreamer, "tcp", Clip::Vp8Opus);
}

#[test]
fn gstreamer_publishes_h265() {
    is_read_as_published(By::GStreamer, "udp", Clip::H265Aac);
}

#[test]
fn ffmpeg_publishes_h264() {
    is_read_as_published(By::Ffmpeg, "udp", Clip::H264Aac);
}

#[test]
fn ffmpeg_publishes_h265() {
    is_read_as_published(By::Ffmpeg, "tcp", Clip::H265Aac);
}

#[test]
fn ffmpeg_publishes_vp8_and_opus() {
    is_read_as_published(By::Ffmpeg, "udp", Clip::Vp8Opus);
}

/// Publishes a clip; two players of each kind read it to its end.
fn is_read_as_published(by: By, transport: &str, clip: Clip) {
    let server = Server::start(&Options { shards: "2", ..Options::default() });
    let (file, url) = (clip.file(), server.url("live/clip"));
    let outputs = tempfile::tempdir_in(support::scratch()).unwrap();
    let to = |name: &str| outputs.path().join(name);
    let mut publisher = match by {
        By::Ffmpeg => publish_file(&file, &url, transport, &[]),
        By::GStreamer => {
            let sink = format!("rtspclientsink name=s location={url} protocols={transport}");
            let pipeline = clip.pipeline().replace("SINK", &sink);
            let pipeline = format!("filesrc location={} ! {pipeline}", file.display());
            launch(&pipeline, &to("publisher.log"))
        }
    };
    wait_until_described(&server, "live/clip");
    let mut players: Vec<_> = ["udp", "tcp"]
        .map(|way| (way, read(&url, way, &to(way))))
        .into_iter()
        .chain([("gst-any", ""), ("gst-tcp", "protocols=tcp")].map(|(name, options)| {
            (name, read_with_gstreamer(&url, options, clip.depayloaders(by), &to(name)))
        }))
        .collect();
    match by {
        By::Ffmpeg => publisher.assert_ends_well("publisher"),
        // Now and then it has sent everything and misses the end of its own stream, whatever the
        // server (one of thirty on a busy machine); then it is ended.
        By::GStreamer => drop(wait_for(&mut publisher.0, Duration::from_secs(20))),
    }
    drop(publisher);
    let reference = |stream| {
        let file = file.to_string_lossy().into_owned();
        decoded_frames(&[clip.every_sample(), &["-i", &file]].concat(), stream)
    };
    let (frames, sound) = (reference(0), coded_bytes(&file, 1));
    for (name, player) in &mut players {
        let what = format!("{name} of {clip:?} by {by:?} over {transport}");
        if name.starts_with("gst") {
            assert_launched_well(player, &to(name).with_extension("log"), &what);
        } else {
            player.assert_ends_well(&what);
        }
        let video = to(name).with_extension("video");
        let got = if name.starts_with("gst") {
            let kept = video.to_string_lossy().into_owned();
            decoded_frames(&["-f", clip.kept_format(), "-i", &kept], 0)
        } else {
            frames_in(&video)
        };
        assert_read_to_the_end(&what, &got, &frames);
        let got = std::fs::read(to(name).with_extension("audio")).unwrap();
        let is_latm = by == By::GStreamer && clip != Clip::Vp8Opus;
        let got = if is_latm && name.starts_with("gst") { behind_length(&got) } else { &got };
        assert_sound_without_a_gap(&what, got, &sound, 10);
    }
}

#[test]
fn all_tracks_of_a_publisher_with_five_codecs_are_read() {
    let server = Server::with_demo();
    let clip = support::demo_clip().to_string_lossy().into_owned();
    let all = "-map 0:v -map 1:v -map 0:a -map 0:a -map 0:a -c:v:0 copy -c:v:1 libvpx -g:v:1 25 \
        -deadline realtime -c:a:0 copy -c:a:1 libopus -c:a:2 pcm_mulaw -ar:a:2 8000 -ac:a:2 1";
    let source =
        ["-t", "4", "-i", &clip, "-f", "lavfi", "-t", "4", "-i", "testsrc2=size=160x120:rate=25"];
    let args: Vec<&str> = source.into_iter().chain(all.split_whitespace()).collect();
    let file = made("five_codecs.mkv", &args);
    let url = server.url("live/many");
    let mut publisher = publish_file(&file, &url, "tcp", &[]);
    wait_until_described(&server, "live/many");
    let outputs = tempfile::tempdir_in(support::scratch()).unwrap();
    let mut command = player(&url, "tcp");
    for stream in 0..5_u32 {
        let to = outputs.path().join(stream.to_string());
        command.args(["-map", &format!("0:{stream}"), "-fps_mode", "passthrough"]);
        command.args(if stream < 2 {
            ["-f", "framemd5"].as_slice()
        } else {
            &["-c", "copy", "-f", "data"]
        });
        command.arg(to);
    }
    let mut reader = Kept::start(&mut command);
    publisher.assert_ends_well("publisher");
    reader.assert_ends_well("reader");
    let file_text = file.to_string_lossy().into_owned();
    for stream in 0..5 {
        let got = outputs.path().join(stream.to_string());
        if stream < 2 {
            let got = frames_in(&got);
            let wanted = decoded_frames(&["-i", &file_text], stream);
            let from = wanted.iter().position(|hash| Some(hash) == got.first()).unwrap();
            assert_same_frames(&format!("stream {stream}"), &got, &wanted[from..]);
        } else {
            let (got, wanted) = (std::fs::read(got).unwrap(), coded_bytes(&file, stream));
            let is_part = wanted.windows(got.len()).any(|part| part == got);
            assert!(is_part && got.len() > wanted.len() / 10, "stream {stream}: {}", got.len());
        }
    }
}

#[test]
fn offset_of_late_sound_is_kept_at_the_reader() {
    let server = Server::with_demo();
    let clip = support::demo_clip().to_string_lossy().into_owned();
    let args = ["-t", "6", "-i", &clip, "-itsoffset", "0.7", "-t", "5", "-i", &clip];
    let args = [&args[..], &["-map", "0:v", "-map", "1:a", "-c", "copy"]].concat();
    let file = made("late_sound.mkv", &args);
    let url = server.url("live/late");
    let mut publisher = publish_file(&file, &url, "udp", &[]);
    wait_until_described(&server, "live/late");
    let reader = times(&["-rtsp_transport", "tcp", "-i", &url]);
    publisher.assert_ends_well("publisher");
    let published = times(&["-i", &file.to_string_lossy()]);
    // How much later a frame is shown here than in the file: pictures, and sound.
    let shifts = [0, 1].map(|stream| {
        let of = |all: &[(usize, String, f64)], wanted: &str| {
            all.iter().find(|(at, hash, _)| *at == stream && hash == wanted).map(|(.., s)| *s)
        };
        let last = reader
            .iter()
            .rev()
            .find(|(at, hash, _)| *at == stream && of(&published, hash).is_some());
        let (_, hash, at_s) = last.expect("a frame of the file");
        at_s - of(&published, hash).unwrap()
    });
    assert!((shifts[0] - shifts[1]).abs() < 0.04, "{shifts:?}");
}

#[test]
fn reader_that_joins_in_a_long_group_begins_with_its_key_frame_at_once() {
    let server = Server::start(&Options { shards: "2", ..Options::default() });
    let file = encoded_with(
        "long_group.mp4",
        "-c:v libx264 -preset ultrafast -bf 0 -g 250 -sc_threshold 0 -c:a aac",
        10,
    );
    let url = server.url("live/long");
    let _publisher = publish_file(&file, &url, "tcp", &[]);
    wait_until_described(&server, "live/long");
    until("the group is two seconds old", || {
        let paths = list(get_json(server.admin, "/v1/paths"));
        paths.first().is_some_and(|path| path["batches"].as_u64() > Some(80))
    });
    for lower in [Lower::Udp, Lower::Tcp] {
        let mut reader = Session::open(server.rtsp, &url, lower);
        let info = reader.play(&[]).rtp_info();
        reader.receive_packets(60, PATIENCE);
        for (stream, info) in reader.streams.iter().zip(&info) {
            assert_eq!(stream.packets[0].seq, info.seq, "{lower:?} {}", stream.media.kind);
            assert_eq!(info.url, stream.url);
        }
        let pictures = &reader.stream("video").packets;
        // SPS, PPS, SEI, an aggregate of them, or the IDR itself.
        let kind = pictures[0].payload[0] & 0x1f;
        assert!(
            [5, 6, 7, 8, 24].contains(&kind) || kind == 28 && pictures[0].payload[1] & 0x1f == 5,
            "NAL type {kind}"
        );
        let first = pictures[0].timestamp;
        let is_idr = |packet: &&support::rtp::Rtp| {
            matches!((packet.payload[0] & 0x1f, packet.payload[1] & 0x1f), (5, _) | (28, 5))
        };
        assert!(pictures.iter().filter(|p| p.timestamp == first).any(|p| is_idr(&p)), "{lower:?}");
        support::rtp::assert_contiguous(pictures);
    }
}

/// Stream, hash and time of all frames of an input: pictures decoded, sound as it came.
fn times(input: &[&str]) -> Vec<(usize, String, f64)> {
    let quiet =
        ["-hide_banner", "-loglevel", "error", "-nostdin", "-copyts", "-flags2", "+skip_manual"];
    let to = [
        "-map",
        "0:v",
        "-map",
        "0:a",
        "-fps_mode",
        "passthrough",
        "-c:a",
        "copy",
        "-f",
        "framemd5",
        "-",
    ];
    let text = run("ffmpeg", &[&quiet[..], input, &to].concat()).stdout;
    // #tb 0: 1/90000
    let mut ticks = [1.0_f64; 2];
    let mut frames = Vec::new();
    for line in text.lines() {
        if let Some(base) = line.strip_prefix("#tb ") {
            let (stream, ratio) = base.split_once(": ").unwrap();
            let (over, under) = ratio.split_once('/').unwrap();
            let [over, under]: [f64; 2] = [over, under].map(|text| text.parse().unwrap());
            ticks[stream.parse::<usize>().unwrap()] = over / under;
        } else if !line.starts_with('#') {
            let fields: Vec<_> = line.split(',').map(str::trim).collect();
            let stream: usize = fields[0].parse().unwrap();
            let pts: f64 = fields[2].parse().unwrap();
            frames.push((stream, fields[5].to_owned(), pts * ticks[stream]));
        }
    }
    frames
}

/// As `read` does it: pictures and sound as they came.
fn read_with_gstreamer(url: &str, options: &str, depayloaders: [&str; 2], to: &Path) -> Kept {
    let mut pipeline = format!("rtspsrc location={url} {options} udp-buffer-size=8000000 name=r");
    for (depayloader, kind) in depayloaders.iter().zip(["video", "audio"]) {
        let to = to.with_extension(kind);
        pipeline += &format!(" r. ! {depayloader} ! filesink location={}", to.display());
    }
    launch(&pipeline, &to.with_extension("log"))
}

/// LATM has a length in front of each frame, and GStreamer's depayloader leaves that of the first
/// one where it is (also behind its own payloader, without a network).
fn behind_length(bytes: &[u8]) -> &[u8] {
    let full = bytes.iter().take_while(|byte| **byte == 255).count();
    &bytes[full + 1..]
}

/// Five seconds of a test picture and a tone.
fn encoded(name: &str, codecs: &str) -> PathBuf {
    encoded_with(name, codecs, 5)
}

fn encoded_with(name: &str, codecs: &str, seconds: u32) -> PathBuf {
    let source = format!(
        "-f lavfi -t {seconds} -i testsrc2=size=320x240:rate=25 -f lavfi -t {seconds} -i \
         sine=frequency=440:sample_rate=48000 -pix_fmt yuv420p {codecs}"
    );
    made(name, &source.split_whitespace().collect::<Vec<_>>())
}

/// A file that FFmpeg makes on first use. One at a time: tests that share it start together.
fn made(name: &str, args: &[&str]) -> PathBuf {
    static MAKING: Mutex<()> = Mutex::new(());
    let _one = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = support::scratch().join("live");
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join(name);
    if !file.exists() {
        let part = folder.join(format!("part.{name}"));
        let quiet = ["-hide_banner", "-loglevel", "error", "-nostdin", "-y"];
        run("ffmpeg", &[&quiet[..], args, &[&part.to_string_lossy()]].concat());
        std::fs::rename(&part, &file).unwrap();
    }
    file
}
