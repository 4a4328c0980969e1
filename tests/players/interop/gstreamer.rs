//! GStreamer's rtspsrc plays every title of the matrix over UDP and over TCP, and ends by itself.
//!
//! ```text
//! rtspsrc -> jitter buffer -> depayloader -> file     one branch for each stream
//! ```
//! What the depayloader hands on is kept as coded data and compared with the file: byte by byte
//! where the payload format carries samples untouched, and by FFmpeg's decoder otherwise.
//! GStreamer's own decoders are run on the clip as well, in real time with clocks and sinks.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use std::path::Path;

use crate::support;
use crate::support::compare::{
    By, EVERY_SAMPLE, assert_same_bytes, assert_same_frames, coded_bytes, decoded_frames,
};
use crate::support::media::{Kind, title};
use crate::support::players::launch_to_the_end;
use crate::support::server::Server;
use crate::support::{Served, demo_clip};

macro_rules! one_test_per_title {
    ($($name:ident)*) => {
        mod over_udp {
            $(#[test] fn $name() { super::plays_as_the_file_does(stringify!($name), "udp"); })*
        }
        mod over_tcp {
            $(#[test] fn $name() { super::plays_as_the_file_does(stringify!($name), "tcp"); })*
        }
    };
}
crate::for_each_title!(one_test_per_title);

#[test]
fn clip_is_decoded_in_time_with_the_clock_and_ends() {
    // A player as people have it: decoders and sinks that wait for each frame's time. Ends only
    // when each stream has said BYE.
    let server = Server::with_demo();
    let url = server.demo_url();
    let pipeline = format!(
        "rtspsrc location={url} name=s \
         s. ! rtph264depay ! decodebin ! videoconvert ! video/x-raw,format=I420 \
         ! checksumsink hash=md5 sync=true \
         s. ! rtpmp4gdepay ! decodebin ! fakesink sync=true"
    );
    let played = launch_to_the_end(&pipeline);
    // 0:00:00.040000000 <hash>
    let hashes = played.lines().filter_map(|line| line.strip_prefix("0:")?.split(' ').nth(1));
    let got: Vec<_> = hashes.map(ToOwned::to_owned).collect();
    assert_same_frames("clip", &got, &reference(&demo_clip(), 0));
}

#[test]
fn player_without_a_choice_of_transport_gets_udp() {
    // Client rule C20: rtspsrc asks for UDP, multicast and TCP in this order.
    let Served { url, file, .. } = &Served::new(title("aac_m4a"));
    let out = tempfile::NamedTempFile::new_in(support::scratch()).unwrap();
    let to = out.path().display();
    launch_to_the_end(&format!(
        "rtspsrc location={url} ! rtpmp4gdepay ! {UNCLIPPED} ! filesink location={to}"
    ));
    assert_same_bytes("aac", &std::fs::read(out.path()).unwrap(), &coded_bytes(file, 0));
}

fn plays_as_the_file_does(name: &str, protocol: &str) {
    let title = title(name);
    let Served { url, file, .. } = &Served::new(title);
    let outputs = tempfile::tempdir_in(support::scratch()).unwrap();
    let output = |place: usize| outputs.path().join(place.to_string());
    // A receive buffer as large as the one of the FFmpeg test, for the same reason. From BYE until
    // its latency has passed, a jitter buffer (1.22) asks for packets behind the last one in a busy
    // loop: a second of that instead of two.
    let mut pipeline = format!(
        "rtspsrc location={url} protocols={protocol} udp-buffer-size=8000000 latency=1000 name=s"
    );
    // gst-launch links a pad of the source to the first depayloader that takes its caps. (With a
    // caps filter in between it tries out a link, and two pads that come at once can spoil each
    // other's.)
    for (place, (_, kind)) in title.served.iter().enumerate() {
        let (branch, to) = (depayloader(*kind), output(place).display().to_string());
        pipeline += &format!(" s. ! {branch} ! {UNCLIPPED} ! filesink location={to}");
    }
    launch_to_the_end(&pipeline);
    let mut left: Vec<(usize, Kind)> =
        title.served.iter().enumerate().map(|(place, (_, kind))| (place, *kind)).collect();
    for (stream, kind) in title.served {
        // Among tracks of one codec the one that came first has the first branch.
        let of_kind = |(_, other): &&(usize, Kind)| other == kind;
        let copies: Vec<_> = left.iter().filter(of_kind).map(|(place, _)| *place).collect();
        let is_same = |place: &usize| is_copy_of(*kind, &output(*place), file, *stream);
        let place = copies.iter().copied().find(|place| copies.len() > 1 && is_same(place));
        let place = place.unwrap_or(copies[0]);
        left.retain(|(other, _)| *other != place);
        let what = format!("{name} over {protocol}, stream {stream} ({kind:?})");
        assert_same(&what, *kind, &output(place), file, *stream);
    }
}

fn is_copy_of(kind: Kind, got: &Path, file: &Path, stream: u32) -> bool {
    kind.compared_by() == By::Bytes && std::fs::read(got).unwrap() == coded_bytes(file, stream)
}

/// Depayloaders end their segment at the first packet's time plus the length of the Range, and
/// sinks drop what lies behind: up to a few frames that did arrive, when an encoder put priming
/// in front
/// or pictures are sent before the time they are shown. One segment without an end lets them pass.
const UNCLIPPED: &str = "identity single-segment=true";

/// Elements from RTP to coded data that can be compared.
fn depayloader(kind: Kind) -> &'static str {
    match kind {
        Kind::H264 => "rtph264depay ! video/x-h264,stream-format=byte-stream,alignment=au",
        Kind::H265 => "rtph265depay ! video/x-h265,stream-format=byte-stream,alignment=au",
        // The decoder configuration is in SDP alone, the parser puts it in front of key frames.
        Kind::Mpeg4 => "rtpmp4vdepay ! mpeg4videoparse drop=false config-interval=-1",
        Kind::Mjpeg => "rtpjpegdepay",
        Kind::Vp8 => "rtpvp8depay",
        Kind::Vp9 => "rtpvp9depay",
        Kind::Aac => "rtpmp4gdepay",
        Kind::Mp3 => "rtpmpadepay",
        Kind::Opus => "rtpopusdepay",
        Kind::Pcmu => "rtppcmudepay",
        Kind::Pcma => "rtppcmadepay",
        Kind::L16 => "rtpL16depay",
        Kind::L24 => "rtpL24depay",
        Kind::Ac3 => "rtpac3depay",
        Kind::Eac3 => panic!("GStreamer has no depayloader for E-AC-3"),
        Kind::Av1 => panic!("GStreamer's C plug-ins have no AV1 depayloader"),
    }
}

/// FFmpeg's name for a file of bare coded pictures of `kind`.
fn bare_format(kind: Kind) -> &'static str {
    match kind {
        Kind::H264 => "h264",
        Kind::H265 => "hevc",
        Kind::Mpeg4 => "m4v",
        Kind::Mjpeg => "mjpeg",
        _ => panic!("{kind:?} is compared by bytes"),
    }
}

fn assert_same(what: &str, kind: Kind, got: &Path, file: &Path, stream: u32) {
    match kind.compared_by() {
        By::Bytes => {
            assert_same_bytes(what, &std::fs::read(got).unwrap(), &coded_bytes(file, stream));
        }
        By::DecodedFrames => {
            let got = got.to_string_lossy().into_owned();
            let decoded = decoded_frames(&["-f", bare_format(kind), "-i", &got], 0);
            assert_same_frames(what, &decoded, &reference(file, stream));
        }
    }
}

fn reference(file: &Path, stream: u32) -> Vec<String> {
    let file = file.to_string_lossy().into_owned();
    let input = [&EVERY_SAMPLE[..], &["-i", &file]].concat();
    decoded_frames(&input, stream)
}
