//! A line-up: FFmpeg and GStreamer play on while keys change the channel between two live paths and
//! a title.
//!
//! ```text
//!  ffmpeg, red  --> live/red  --.
//!  ffmpeg, blue --> live/blue --+--> tv: 101 | 102 | 201
//!  lime.mp4     ----------------'
//!  viewers of tv    red   blue   lime   blue   red        one session, one decoder
//! ```
//! The three differ in size and profile, and the live ones send their parameter sets in the SDP
//! only.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use std::fs::File;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support;
use crate::support::http::{get_json, list, post_json};
use crate::support::live::wait_until_described;
use crate::support::players::{PICTURES_IN_TICKS, ffmpeg, launch, player};
use crate::support::process::{Kept, PLAYER_PATIENCE};
use crate::support::server::{Options, Server};
use crate::support::wait::until_within;

const CONFIG: &str = "[path.tv]\n\
    lineup = { 101 = \"live/red\", 102 = \"live/blue\", 201 = \"vod/lime.mp4\" }\n";
/// Bytes of one picture that a viewer has written: four RGB pixels.
const PICTURE_BYTES: usize = 12;

/// A colour with a tone.
fn source(colour: &str, size: &str, tone_hz: u32) -> Vec<String> {
    let (picture, tone) = (
        format!("color=c={colour}:size={size}:rate=25"),
        format!("sine=frequency={tone_hz}:sample_rate=48000"),
    );
    let words = ["-f", "lavfi", "-i", &picture, "-f", "lavfi", "-i", &tone, "-c:v", "libx264"];
    let more = ["-pix_fmt", "yuv420p", "-bf", "0", "-c:a", "aac", "-ac", "1", "-b:a", "64k"];
    words.iter().chain(&more).map(|word| (*word).to_owned()).collect()
}

fn publish(server: &Server, path: &str, source: &[String], settings: &str) -> Kept {
    let mut command = ffmpeg();
    command.arg("-re").args(source).args(settings.split_whitespace());
    let kept =
        Kept::start(command.args(["-f", "rtsp", "-rtsp_transport", "tcp"]).arg(server.url(path)));
    wait_until_described(server, path);
    kept
}

fn make_title(folder: &Path) {
    let mut command = ffmpeg();
    command.args(source("lime", "200x160", 880));
    command.args(["-profile:v", "main", "-g", "20", "-t", "60"]).arg(folder.join("lime.mp4"));
    Kept::start(&mut command).assert_ends_well("the title");
}

fn colours(file: &Path) -> Vec<&'static str> {
    let bytes = std::fs::read(file).unwrap_or_default();
    let colour = |pixel: &[u8]| match *pixel {
        [150..=255, 0..100, 0..100, ..] => "red",
        [0..100, 0..100, 150..=255, ..] => "blue",
        [0..100, 150..=255, 0..100, ..] => "lime",
        _ => "neither",
    };
    bytes.chunks_exact(PICTURE_BYTES).map(colour).collect()
}

/// A viewer, and the files that it writes.
struct Viewer {
    name: &'static str,
    player: Kept,
    pixels: PathBuf,
    errors: PathBuf,
    times: Option<PathBuf>,
}

fn ffmpeg_viewer(server: &Server, name: &'static str, folder: &Path) -> Viewer {
    let to = |kind: &str| folder.join(format!("{name}.{kind}"));
    let (pixels, times, errors) = (to("pixels"), to("times"), to("errors"));
    let mut command = player(&server.url("tv"), name);
    command.args(["-map", "0:v", "-vf", "scale=4:1,format=rgb24"]).args(PICTURES_IN_TICKS);
    command.args(["-flush_packets", "1", "-f", "rawvideo"]).arg(&pixels);
    command.args(["-map", "0", "-c", "copy", "-flush_packets", "1", "-f", "framemd5"]).arg(&times);
    let player = Kept::start(command.stderr(File::create(&errors).unwrap()));
    Viewer { name, player, pixels, errors, times: Some(times) }
}

fn gstreamer_viewer(server: &Server, folder: &Path) -> Viewer {
    let to = |kind: &str| folder.join(format!("gst.{kind}"));
    let (pixels, errors) = (to("pixels"), to("log"));
    let url = server.url("tv");
    let pipeline = format!(
        "rtspsrc location={url} protocols=tcp latency=500 name=r r. ! rtph264depay ! avdec_h264 \
         ! videoconvert ! videoscale ! video/x-raw,format=RGB,width=4,height=1 \
         ! filesink sync=false buffer-mode=unbuffered location={} r. ! rtpmp4gdepay ! fakesink",
        pixels.display()
    );
    let player = launch(&pipeline, &errors);
    Viewer { name: "gst", player, pixels, errors, times: None }
}

impl Viewer {
    fn wait_for(&self, colour: &str) {
        let newest = || colours(&self.pixels);
        let is_here = || newest().iter().rev().take_while(|its| **its == colour).count() >= 30;
        until_within(PLAYER_PATIENCE, &format!("{colour} at {}", self.name), is_here);
    }

    fn assert_played(&self) {
        let mut order = colours(&self.pixels);
        order.dedup();
        assert_eq!(order, ["red", "blue", "lime", "blue", "red"], "{}", self.name);
        let said = std::fs::read_to_string(&self.errors).unwrap();
        let is_bad = |line: &&str| line.contains("ERROR") || line.contains("WARN");
        match &self.times {
            Some(_) => assert_eq!(said, "", "{}: the decoder has no complaint", self.name),
            None => assert_eq!(said.lines().find(is_bad), None, "{said}"),
        }
        let Some(times) = &self.times else { return };
        let text = std::fs::read_to_string(times).unwrap();
        let field = |line: &str, at: usize| line.split(',').nth(at)?.trim().parse::<i64>().ok();
        for stream in [0, 1] {
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            let of_stream = lines.filter(|line| field(line, 0) == Some(stream));
            let times: Vec<i64> = of_stream.filter_map(|line| field(line, 2)).collect();
            assert!(times.len() > 150, "{}: {} packets", self.name, times.len());
            // FFmpeg gives the first two packets the same time now and then.
            let is_monotonic = times[1..].windows(2).all(|pair| pair[0] < pair[1]);
            assert!(is_monotonic, "{} {stream}: {times:?}", self.name);
        }
    }
}

#[test]
fn viewers_change_between_live_channels_and_a_title_in_one_session() {
    let files = tempfile::tempdir_in(support::scratch()).unwrap();
    let (titles, outputs) = (files.path().join("titles"), files.path().join("outputs"));
    std::fs::create_dir(&titles).unwrap();
    std::fs::create_dir(&outputs).unwrap();
    make_title(&titles);
    let options =
        Options { shards: "2", config: Some(CONFIG), folder: Some(&titles), ..Options::default() };
    let server = Server::start(&options);
    // It looks ahead, so its packets come more than a second behind what its reports say.
    let red = "-preset medium -profile:v baseline -g 25";
    let _red = publish(&server, "live/red", &source("red", "320x240", 440), red);
    let blue = "-preset veryfast -profile:v high -g 15 -refs 3";
    let _blue = publish(&server, "live/blue", &source("blue", "160x128", 660), blue);
    let mut viewers = vec![
        ffmpeg_viewer(&server, "tcp", &outputs),
        ffmpeg_viewer(&server, "udp", &outputs),
        gstreamer_viewer(&server, &outputs),
    ];
    viewers.iter().for_each(|viewer| viewer.wait_for("red"));
    let sessions = list(get_json(server.admin, "/v1/sessions?path=tv"));
    assert_eq!(sessions.len(), viewers.len(), "{sessions:?}");
    let steps: [(&str, Value, u64); 4] = [
        ("blue", json!({ "events": [{ "key": 1 }, { "key": 0 }, { "key": 2 }] }), 102),
        ("lime", json!({ "channel": 201 }), 201),
        ("blue", json!({ "key": "last" }), 102),
        ("red", json!({ "key": "down" }), 101),
    ];
    for (colour, events, channel) in steps {
        for session in &sessions {
            let path = format!("/v1/sessions/{}/events", session["id"].as_str().unwrap());
            let (status, done) = post_json(server.admin, &path, "", &events);
            assert_eq!((status, &done["channel"]), (200, &json!(channel)), "{done}");
        }
        viewers.iter().for_each(|viewer| viewer.wait_for(colour));
    }
    for viewer in &mut viewers {
        viewer.player.kill();
        viewer.assert_played();
    }
}
