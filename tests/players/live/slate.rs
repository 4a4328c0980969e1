//! A path with a slate: FFmpeg reads on while a title plays in place of the publisher, in a loop.
//!
//! ```text
//!  ffmpeg, red, 440 Hz     --> live/a --x               --> live/a
//!  vod/slate.mp4, 3 s, blue, 1 kHz     --again--again-->
//!  reader of live/a          red, 440     blue, 1000         red, 440
//! ```
//! The slate has B-pictures, an edit list and priming of its sound, and no sound is lost or sent
//! twice from one round to the next.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use std::fs::File;
use std::path::Path;

use crate::support;
use crate::support::live::{path, wait_until_described};
use crate::support::players::{PICTURES_IN_TICKS, ffmpeg, player};
use crate::support::process::{Kept, PLAYER_PATIENCE, run};
use crate::support::server::{Options, Server};
use crate::support::wait::until_within;

const CONFIG: &str = "[path.\"live/a\"]\nfallback = [\"vod/slate.mp4\"]\nreturn_after = \"2s\"\n";
const SOUND: [&str; 6] = ["-c:a", "aac", "-ar", "48000", "-ac", "2"];
/// Samples a second of the decoded sound.
const HZ: usize = 8_000;

/// Inputs and picture settings of a test pattern.
fn pattern(colour: &str, size: &str, tone_hz: u32) -> Vec<String> {
    let picture = format!("color=c={colour}:size={size}:rate=25");
    let tone = format!("sine=frequency={tone_hz}:sample_rate=48000");
    ["-re", "-f", "lavfi", "-i", &picture, "-re", "-f", "lavfi", "-i", &tone, "-c:v", "libx264"]
        .map(str::to_owned)
        .to_vec()
}

fn publish_red(server: &Server) -> Kept {
    let mut command = ffmpeg();
    command.args(pattern("red", "320x240", 440)).args(SOUND);
    command.args("-preset ultrafast -pix_fmt yuv420p -g 25 -bf 0".split_whitespace());
    command.args(["-f", "rtsp", "-rtsp_transport", "tcp", &server.url("live/a")]);
    Kept::start(&mut command)
}

fn make_slate(file: &Path) {
    let pattern = pattern("blue", "160x128", 1_000);
    let inputs = pattern.iter().map(String::as_str).filter(|word| *word != "-re");
    let mut words = vec!["-hide_banner", "-loglevel", "error", "-nostdin", "-y"];
    words.extend(inputs.chain(SOUND));
    words.extend("-preset veryfast -pix_fmt yuv420p -g 25 -bf 2 -refs 3 -t 3".split_whitespace());
    let file = file.to_string_lossy();
    words.push(&file);
    run("ffmpeg", &words);
}

/// Colours of the pictures that a reader has written, each picture one RGB pixel.
fn colours(file: &Path) -> Vec<&'static str> {
    let bytes = std::fs::read(file).unwrap_or_default();
    let colour = |pixel: &[u8]| match *pixel {
        [150..=255, 0..100, 0..100] => "red",
        [0..100, 0..100, 150..=255] => "blue",
        _ => "neither",
    };
    bytes.chunks_exact(3).map(colour).collect()
}

/// The tones in the sound that a reader has written, each tenth of a second.
fn tones(file: &Path) -> Vec<usize> {
    let bytes = std::fs::read(file).unwrap_or_default();
    let samples = bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]]));
    let samples: Vec<i16> = samples.collect();
    let blocks = samples.chunks_exact(HZ / 10).map(|block| {
        let rises = block.windows(2).filter(|pair| pair[0] < 0 && pair[1] >= 0).count();
        [440, 1_000].into_iter().find(|tone| (rises * 10).abs_diff(*tone) <= 20).unwrap_or(0)
    });
    blocks.collect()
}

/// Times of packets as `framemd5` has them.
fn times(file: &Path) -> Vec<i64> {
    let text = std::fs::read_to_string(file).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split(',').nth(2)?.trim().parse().ok()).collect()
}

fn wait_for_pictures(file: &Path, colour: &str, count: usize) {
    let is_here = || colours(file).iter().rev().take_while(|its| **its == colour).count() >= count;
    until_within(PLAYER_PATIENCE, colour, is_here);
}

fn without_repeats<T: PartialEq>(mut values: Vec<T>) -> Vec<T> {
    values.dedup();
    values
}

#[test]
fn reader_decodes_on_while_a_slate_plays_in_a_loop_and_the_publisher_comes_back() {
    let folder = tempfile::tempdir_in(support::scratch()).unwrap();
    make_slate(&folder.path().join("slate.mp4"));
    let options = Options {
        shards: "2",
        folder: Some(folder.path()),
        config: Some(CONFIG),
        ..Options::default()
    };
    let server = Server::start(&options);
    let mut red = publish_red(&server);
    // Until the publisher has been good for a while, the slate plays.
    wait_until_described(&server, "live/a");
    let is_red = || path(&server, "live/a")["source"]["url"] == "live/a~0";
    until_within(PLAYER_PATIENCE, "fed by the publisher", is_red);
    let outputs = tempfile::tempdir_in(support::scratch()).unwrap();
    let to = |name: &str| outputs.path().join(name);
    let (pixels, sound, errors) = (to("pixels"), to("sound"), to("errors"));
    let (picture_times, sound_times) = (to("pictures"), to("sounds"));
    let mut command = player(&server.url("live/a"), "tcp");
    command.args(["-map", "0:v", "-vf", "scale=1:1,format=rgb24"]).args(PICTURES_IN_TICKS);
    command.args(["-flush_packets", "1", "-f", "rawvideo"]).arg(&pixels);
    // At a change of the source, frames of sound may overlap by a part of one.
    command.args(["-map", "0:a", "-af", "asetpts=N/SR/TB", "-ar", &HZ.to_string(), "-ac", "1"]);
    command.args(["-flush_packets", "1"]);
    command.args(["-f", "s16le"]).arg(&sound);
    for (track, file) in [("0:v", &picture_times), ("0:a", &sound_times)] {
        command.args(["-map", track, "-c", "copy", "-flush_packets", "1", "-f", "framemd5"]);
        command.arg(file);
    }
    let mut reader = Kept::start(command.stderr(File::create(&errors).unwrap()));
    wait_for_pictures(&pixels, "red", 30);
    red.kill();
    // Three rounds and a bit.
    wait_for_pictures(&pixels, "blue", 240);
    let source = &path(&server, "live/a~1")["source"];
    assert_eq!((&source["kind"], &source["title"]), (&"title".into(), &"vod/slate.mp4".into()));
    assert!(source["position_s"].as_f64().is_some_and(|at| (0.0..3.2).contains(&at)), "{source}");
    let _red = publish_red(&server);
    wait_for_pictures(&pixels, "red", 60);
    reader.kill();

    assert_eq!(without_repeats(colours(&pixels)), ["red", "blue", "red"]);
    let heard = tones(&sound).into_iter().filter(|tone| *tone > 0).collect();
    assert_eq!(without_repeats(heard), [440, 1_000, 440]);
    assert_eq!(std::fs::read_to_string(&errors).unwrap(), "", "the decoder has no complaint");
    // In order of decoding, so those of the slate change places.
    let mut pictures = times(&picture_times);
    pictures.sort_unstable();
    // FFmpeg gives the first two packets the same time now and then.
    let steps: Vec<i64> = pictures[1..].windows(2).map(|pair| pair[1] - pair[0]).collect();
    // It does not know at once that the slate has B-pictures, and moves the first ones.
    let odd = steps.iter().filter(|step| !(3_500..2 * 3_600).contains(*step)).count();
    assert!(steps.len() > 300 && odd <= 8, "only where the source changes: {steps:?}");
    let sounds = times(&sound_times);
    let steps: Vec<i64> = sounds[1..].windows(2).map(|pair| pair[1] - pair[0]).collect();
    let breaks = steps.iter().filter(|step| (**step - 1_024).abs() > 1).count();
    assert!(steps.len() > 500 && steps.iter().all(|step| *step >= 0), "{steps:?}");
    // A packet of the slate has several frames, which the publisher's first ones may overlap.
    assert!(breaks <= 6, "only where the source changes: {steps:?}");
    server.assert_logs("path live/a~1 source up h264+aac from vod/slate.mp4");
    server.assert_logs("path live/a is fed from live/a~1 instead of live/a~0 (lost)");
    server.assert_logs("path live/a is fed from live/a~0 instead of live/a~1 (better)");
}
