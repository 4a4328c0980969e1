//! A path with a fallback: FFmpeg and GStreamer read on while its publisher is killed and
//! comes back.
//!
//! ```text
//!  ffmpeg, red   --> live/a --x        --> live/a
//!  ffmpeg, blue  --> live/b ------------------->
//!  reader of live/a     red     blue           red
//! ```
//! The two differ in size and profile, and send their parameter sets in the SDP only: a reader
//! decodes the second one by what the server puts before its key frames.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use std::fs::File;
use std::path::Path;

use crate::support;
use crate::support::live::{path, wait_until_described};
use crate::support::players::{PICTURES_IN_TICKS, ffmpeg, launch, player};
use crate::support::process::{Kept, PLAYER_PATIENCE};
use crate::support::server::{Options, Server};
use crate::support::wait::until_within;

const CONFIG: &str = "[path.\"live/a\"]\nfallback = [\"live/b\"]\nreturn_after = \"2s\"\n";

/// Publishes one colour until it is killed.
fn publish_colour(url: &str, colour: &str, size: &str, settings: &str) -> Kept {
    let mut command = ffmpeg();
    let input = format!("color=c={colour}:size={size}:rate=25");
    command.args(["-re", "-f", "lavfi", "-i", &input, "-c:v", "libx264", "-pix_fmt", "yuv420p"]);
    command.args(settings.split_whitespace());
    command.args(["-f", "rtsp", "-rtsp_transport", "tcp", url]);
    Kept::start(&mut command)
}

fn publish_red(server: &Server) -> Kept {
    let settings = "-preset ultrafast -profile:v baseline -g 25 -bf 0";
    publish_colour(&server.url("live/a"), "red", "320x240", settings)
}

/// Colours of the pictures that a reader has written, each picture one RGB pixel.
fn colours(file: &Path) -> Vec<&'static str> {
    let bytes = std::fs::read(file).unwrap_or_default();
    bytes.chunks_exact(3).map(colour).collect()
}

/// Colour of an RGB pixel.
fn colour(pixel: &[u8]) -> &'static str {
    match *pixel {
        [150..=255, 0..100, 0..100] => "red",
        [0..100, 0..100, 150..=255] => "blue",
        _ => "neither",
    }
}

fn wait_for_pictures(file: &Path, colour: &str, count: usize) {
    let is_here = || colours(file).iter().rev().take_while(|its| **its == colour).count() >= count;
    until_within(PLAYER_PATIENCE, colour, is_here);
}

/// The same with GStreamer: its decoder goes on, too, with pictures of another size.
#[test]
fn gstreamer_decodes_on_while_the_publisher_is_killed_and_comes_back() {
    let options = Options { shards: "2", config: Some(CONFIG), ..Options::default() };
    let server = Server::start(&options);
    let mut red = publish_red(&server);
    wait_until_described(&server, "live/a");
    let settings = "-preset veryfast -profile:v high -g 15 -bf 0 -refs 3";
    let _blue = publish_colour(&server.url("live/b"), "blue", "160x128", settings);
    wait_until_described(&server, "live/b");
    let outputs = tempfile::tempdir_in(support::scratch()).unwrap();
    let (pixels, log) = (outputs.path().join("pixels"), outputs.path().join("log"));
    // Its latency (2 s) is longer than the pause of a loss: a packet that is later than that counts
    // as lost there, because the server offers retransmission. A pixel has four bytes here: rows of
    // GStreamer's pictures are whole words.
    let pipeline = format!(
        "rtspsrc location={} protocols=tcp ! rtph264depay ! h264parse ! avdec_h264 ! \
         videoconvert ! videoscale ! video/x-raw,format=RGBx,width=16,height=16 ! \
         filesink buffer-mode=unbuffered location={}",
        server.url("live/a"),
        pixels.display()
    );
    let mut reader = launch(&pipeline, &log);
    let seen = || large_pixels(&pixels);
    let wait = |colour: &str, count: usize| {
        let is_here = || seen().iter().rev().take_while(|its| **its == colour).count() >= count;
        until_within(PLAYER_PATIENCE, colour, is_here);
    };
    wait("red", 30);
    red.kill();
    wait("blue", 60);
    let _red = publish_red(&server);
    wait("red", 60);
    reader.kill();
    let pictures = seen();
    let mut order = pictures.clone();
    order.dedup();
    assert_eq!(order, ["red", "blue", "red"], "{pictures:?}");
    let log = std::fs::read_to_string(&log).unwrap();
    assert!(!log.contains("ERROR") && !log.contains("WARNING"), "{log}");
}

/// Colours of pictures of 16 times 16 pixels of four bytes: that of the one in the middle.
fn large_pixels(file: &Path) -> Vec<&'static str> {
    let bytes = std::fs::read(file).unwrap_or_default();
    let pictures = bytes.chunks_exact(16 * 16 * 4);
    pictures.map(|picture| colour(&picture[4 * (8 * 16 + 8)..][..3])).collect()
}

#[test]
fn reader_decodes_on_while_the_publisher_is_killed_and_comes_back() {
    let options = Options { shards: "2", config: Some(CONFIG), ..Options::default() };
    let server = Server::start(&options);
    let mut red = publish_red(&server);
    wait_until_described(&server, "live/a");
    let settings = "-preset veryfast -profile:v high -g 15 -bf 0 -refs 3";
    let _blue = publish_colour(&server.url("live/b"), "blue", "160x128", settings);
    wait_until_described(&server, "live/b");
    let outputs = tempfile::tempdir_in(support::scratch()).unwrap();
    let to = |name: &str| outputs.path().join(name);
    let (pixels, times, errors) = (to("pixels"), to("times"), to("errors"));
    let mut command = player(&server.url("live/a"), "tcp");
    command.args(["-vf", "scale=1:1,format=rgb24"]).args(PICTURES_IN_TICKS);
    command.args(["-flush_packets", "1", "-f", "rawvideo"]).arg(&pixels);
    command.args(["-c", "copy", "-flush_packets", "1", "-f", "framemd5"]).arg(&times);
    let mut reader = Kept::start(command.stderr(File::create(&errors).unwrap()));
    wait_for_pictures(&pixels, "red", 30);
    red.kill();
    wait_for_pictures(&pixels, "blue", 60);
    assert_eq!(path(&server, "live/a")["source"]["url"], "live/b");
    let _red = publish_red(&server);
    wait_for_pictures(&pixels, "red", 60);
    reader.kill();

    let mut order = colours(&pixels);
    order.dedup();
    assert_eq!(order, ["red", "blue", "red"]);
    assert_eq!(std::fs::read_to_string(&errors).unwrap(), "", "the decoder has no complaint");
    let text = std::fs::read_to_string(&times).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let fields = lines.filter_map(|line| line.split(',').nth(2)?.trim().parse::<i64>().ok());
    let times: Vec<i64> = fields.collect();
    assert!(times.len() > 150, "{} pictures", times.len());
    // FFmpeg gives the first two packets the same time now and then.
    assert!(times[1..].windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
    server.assert_logs("path live/a is fed from live/b instead of live/a~0 (lost)");
    server.assert_logs("path live/a is fed from live/a~0 instead of live/b (better)");
}
