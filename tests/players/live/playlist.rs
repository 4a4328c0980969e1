//! A path that plays titles in order: FFmpeg and GStreamer read on across the seams, and operators
//! edit the list by the command line.
//!
//! ```text
//!  playlist = ["red.mp4", "broken.mp4", "blue.mp4"]
//!  reader     red, 440 Hz | blue, 1 kHz | red, 440 Hz | blue ..
//! ```
//! No packet is missing and no frame of sound is lost or sent twice; sound and picture change
//! together.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::support;
use crate::support::http::get_json;
use crate::support::live::wait_until_described;
use crate::support::players::{PICTURES_IN_TICKS, launch, player};
use crate::support::process::{Finished, Kept, PLAYER_PATIENCE, run, run_any};
use crate::support::rtp::{assert_contiguous, ticks_between};
use crate::support::server::{Options, Server, binary};
use crate::support::session::{Lower, Session};
use crate::support::wait::until_within;

const LIST: &str = "[path.linear]\nplaylist = [\"red.mp4\", \"broken.mp4\", \"blue.mp4\"]\n";
/// Samples a second of the decoded sound.
const HZ: usize = 8_000;
/// Samples in which a tone is looked for: 10 ms.
const BLOCK: usize = HZ / 100;

/// A title of one colour and one tone: three seconds, or as long as said.
fn make_title(folder: &Path, name: &str, colour: &str, tone_hz: u32, seconds: &str) {
    let picture = format!("color=c={colour}:size=160x128:rate=25");
    let tone = format!("sine=frequency={tone_hz}:sample_rate=48000");
    let file = folder.join(name).to_string_lossy().into_owned();
    let inputs = ["-f", "lavfi", "-i", &picture, "-f", "lavfi", "-i", &tone, "-t", seconds];
    let codecs = "-c:v libx264 -preset veryfast -pix_fmt yuv420p -g 25 -bf 0 -c:a aac -ar 48000 \
                  -ac 2";
    let quiet = ["-hide_banner", "-loglevel", "error", "-nostdin", "-y"];
    let codecs: Vec<&str> = codecs.split_whitespace().collect();
    run("ffmpeg", &[&quiet[..], &inputs, &codecs, &[&file]].concat());
}

fn titles() -> tempfile::TempDir {
    let folder = tempfile::tempdir_in(support::scratch()).unwrap();
    make_title(folder.path(), "red.mp4", "red", 440, "3");
    make_title(folder.path(), "blue.mp4", "blue", 1_000, "3");
    std::fs::write(folder.path().join("broken.mp4"), b"not a film").unwrap();
    folder
}

fn colour(pixel: &[u8]) -> &'static str {
    match *pixel {
        [150..=255, 0..100, 0..100] => "red",
        [0..100, 0..100, 150..=255] => "blue",
        [0..100, 80..=255, 0..100] => "green",
        _ => "neither",
    }
}

/// Colours of the pictures that a reader has written, each picture one RGB pixel.
fn colours(file: &Path) -> Vec<&'static str> {
    std::fs::read(file).unwrap_or_default().chunks_exact(3).map(colour).collect()
}

fn runs(colours: &[&'static str]) -> Vec<(&'static str, usize)> {
    colours.chunk_by(|a, b| a == b).map(|run| (run[0], run.len())).collect()
}

fn wait_for_runs(file: &Path, count: usize) {
    until_within(PLAYER_PATIENCE, "seams", || runs(&colours(file)).len() >= count);
}

/// Times of the packets or pictures of a `framemd5` file, in seconds.
fn times(file: &Path) -> Vec<f64> {
    let text = std::fs::read_to_string(file).unwrap();
    let base = text.lines().find_map(|line| line.strip_prefix("#tb 0: ")).unwrap();
    let (over, under) = base.split_once('/').unwrap();
    let tick: f64 = over.parse::<f64>().unwrap() / under.parse::<f64>().unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let ticks = lines.filter_map(|line| line.split(',').nth(2)?.trim().parse::<f64>().ok());
    ticks.map(|ticks| ticks * tick).collect()
}

/// Times at which the tone changes, the sound beginning at `start_s`.
fn tone_changes(file: &Path, start_s: f64) -> Vec<f64> {
    let bytes = std::fs::read(file).unwrap();
    let samples = bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]]));
    let samples: Vec<i16> = samples.collect();
    let blocks: Vec<bool> = samples
        .chunks_exact(BLOCK)
        .map(|block| block.windows(2).filter(|pair| pair[0] < 0 && pair[1] >= 0).count() >= 7)
        .collect();
    let time = |place: usize| start_s + (place * BLOCK) as f64 / HZ as f64;
    let settled = |place: usize, tone: bool| blocks[place..].iter().take(20).all(|b| *b == tone);
    let changes = 1..blocks.len().saturating_sub(20);
    let is_change = |place: &usize| {
        let tone = blocks[*place];
        blocks[place - 1] != tone && settled(*place, tone)
    };
    changes.filter(is_change).map(time).collect()
}

#[test]
fn ffmpeg_decodes_on_across_seams_with_sound_and_picture_together() {
    let folder = titles();
    let options = Options {
        shards: "2",
        folder: Some(folder.path()),
        config: Some(LIST),
        ..Options::default()
    };
    let server = Server::start(&options);
    assert!(!server.banner.contains("HE-W310"), "the file is there, whatever is in it");
    wait_until_described(&server, "linear");
    let outputs = tempfile::tempdir_in(support::scratch()).unwrap();
    let to = |name: &str| outputs.path().join(name);
    let (pixels, pictures, sound) = (to("pixels"), to("pictures"), to("sound"));
    let (sounds, errors) = (to("sounds"), to("errors"));
    let mut command = player(&server.url("linear"), "tcp");
    for (format, file) in [("rawvideo", &pixels), ("framemd5", &pictures)] {
        command.args(["-map", "0:v", "-vf", "scale=1:1,format=rgb24"]).args(PICTURES_IN_TICKS);
        command.args(["-enc_time_base", "-1", "-flush_packets", "1", "-f", format]).arg(file);
    }
    command.args(["-map", "0:a", "-ar", &HZ.to_string(), "-ac", "1", "-flush_packets", "1"]);
    command.args(["-f", "s16le"]).arg(&sound);
    command.args(["-map", "0:a", "-c", "copy", "-flush_packets", "1", "-f", "framemd5"]);
    command.arg(&sounds);
    let mut reader = Kept::start(command.stderr(File::create(&errors).unwrap()));
    // A seam of each kind and back, twice, and one more.
    wait_for_runs(&pixels, 7);
    reader.kill();

    assert_eq!(std::fs::read_to_string(&errors).unwrap(), "", "the decoder has no complaint");
    let colours = colours(&pixels);
    let runs = runs(&colours);
    let whole = &runs[1..runs.len() - 1];
    assert!(whole.windows(2).all(|pair| pair[0].0 != pair[1].0), "{runs:?}");
    assert!(whole.iter().all(|(_, count)| *count == 75), "whole titles: {runs:?}");
    assert!(runs.iter().all(|(colour, _)| ["red", "blue"].contains(colour)), "{runs:?}");
    let (picture_times, sound_times) = (times(&pictures), times(&sounds));
    let steps = |times: &[f64]| -> Vec<f64> {
        // FFmpeg gives the first two packets the same time now and then.
        times[1..].windows(2).map(|pair| pair[1] - pair[0]).collect()
    };
    let picture_steps = steps(&picture_times);
    assert!(picture_steps.iter().all(|step| (0.0..=0.08).contains(step)), "{picture_steps:?}");
    let frame_s = 1_024.0 / 48_000.0;
    let sound_steps = steps(&sound_times);
    assert!(
        sound_steps.iter().all(|step| *step > 0.0 && *step < 2.0 * frame_s + 0.001),
        "{sound_steps:?}"
    );
    // The last pictures may not have their times written.
    let seams: Vec<f64> = (1..colours.len().min(picture_times.len()))
        .filter(|place| colours[*place] != colours[place - 1])
        .map(|place| picture_times[place])
        .collect();
    let heard = tone_changes(&sound, sound_times[0]);
    // The last seam may be too near to the end of what was written.
    let count = seams.len() - 1;
    assert!(count >= 4 && heard.len() >= count, "{seams:?} {heard:?}");
    for (seen, heard) in seams.iter().zip(&heard).take(count) {
        assert!((seen - heard).abs() <= 0.04, "seen {seams:?}, heard {heard:?}");
    }
    server.assert_logs("HE-W308");
    server.assert_logs("path linear does not play vod/broken.mp4");
    let told = server.log().matches("does not play vod/broken.mp4").count();
    assert_eq!(told, 1, "said once");
}

#[test]
fn packets_go_on_without_a_gap_and_gstreamer_plays_across_seams() {
    let folder = titles();
    let options = Options { folder: Some(folder.path()), config: Some(LIST), ..Options::default() };
    let server = Server::start(&options);
    wait_until_described(&server, "linear");
    let outputs = tempfile::tempdir_in(support::scratch()).unwrap();
    let (pixels, log) = (outputs.path().join("pixels"), outputs.path().join("log"));
    let pipeline = format!(
        "rtspsrc location={} protocols=tcp name=r \
         r. ! rtph264depay ! h264parse ! avdec_h264 ! videoconvert ! videoscale \
         ! video/x-raw,format=RGB,width=16,height=16 ! filesink location={} \
         r. ! rtpmp4gdepay ! aacparse ! avdec_aac ! fakesink sync=false",
        server.url("linear"),
        pixels.display()
    );
    let mut player = launch(&pipeline, &log);
    let mut session = Session::open(server.rtsp, &server.url("linear"), Lower::Tcp);
    session.play(&[]);
    // Three seams: 25 pictures and 47 frames of sound a second.
    session.receive_packets(450, PLAYER_PATIENCE);
    for stream in &session.streams {
        assert_contiguous(&stream.packets);
        let rates = [("video", 90_000), ("audio", 48_000)];
        let rate = rates.iter().find(|(kind, _)| *kind == stream.media.kind).unwrap().1;
        let steps = stream.packets.windows(2);
        let steps = steps.map(|pair| ticks_between(pair[0].timestamp, pair[1].timestamp));
        let steps: Vec<i64> = steps.collect();
        // A packet of sound has four frames.
        let most = if rate == 90_000 { 2 * 3_600 } else { 5 * 1_024 };
        assert!(steps.iter().all(|step| (0..=most).contains(step)), "{} {steps:?}", rate);
    }
    let seen = || {
        let bytes = std::fs::read(&pixels).unwrap_or_default();
        let pictures = bytes.chunks_exact(16 * 16 * 3).map(|picture| colour(&picture[..3]));
        runs(&pictures.collect::<Vec<_>>())
    };
    until_within(PLAYER_PATIENCE, "seams", || seen().len() >= 4);
    player.kill();
    let runs = seen();
    let whole = &runs[1..runs.len() - 1];
    assert!(whole.iter().all(|(_, count)| *count == 75), "{runs:?}");
    assert!(runs.iter().all(|(colour, _)| ["red", "blue"].contains(colour)), "{runs:?}");
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(!said.contains("ERROR") && !said.contains("WARNING"), "{said}");
}

/// `headend path playlist ..` about the server.
fn ask(server: &Server, words: &[&str]) -> Finished {
    let admin = server.admin.to_string();
    let mut all = vec!["path", "playlist"];
    all.extend(words);
    all.extend(["--admin", &admin]);
    run_any(&binary().to_string_lossy(), &all, Duration::from_secs(20))
}

fn playlist(server: &Server) -> Value {
    get_json(server.admin, "/v1/paths/linear/playlist")
}

fn item_titles(server: &Server) -> Vec<String> {
    let list = playlist(server);
    let items = list["items"].as_array().unwrap().iter();
    items.map(|item| item["title"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn edits_act_while_it_plays_and_survive_a_restart() {
    let folder = tempfile::tempdir_in(support::scratch()).unwrap();
    // Long enough that only edits end them.
    make_title(folder.path(), "red.mp4", "red", 440, "60");
    make_title(folder.path(), "blue.mp4", "blue", 1_000, "60");
    make_title(folder.path(), "green.mp4", "lime", 600, "60");
    let state = tempfile::tempdir_in(support::scratch()).unwrap();
    let config = |list: &str| {
        let state = state.path().display();
        format!("[server]\nstate_dir = \"{state}\"\n[path.linear]\nplaylist = [{list}]\n")
    };
    let first = config("\"red.mp4\", \"blue.mp4\"");
    let options = Options { folder: Some(folder.path()), ..Options::default() };
    let start = |config: &str| Server::start(&Options { config: Some(config), ..options });
    let mut server = start(&first);
    wait_until_described(&server, "linear");
    let outputs = tempfile::tempdir_in(support::scratch()).unwrap();
    let (pixels, errors) = (outputs.path().join("pixels"), outputs.path().join("errors"));
    let mut command = player(&server.url("linear"), "tcp");
    command.args(["-map", "0:v", "-vf", "scale=1:1,format=rgb24"]).args(PICTURES_IN_TICKS);
    command.args(["-flush_packets", "1", "-f", "rawvideo"]).arg(&pixels);
    let mut reader = Kept::start(command.stderr(File::create(&errors).unwrap()));
    wait_for_runs(&pixels, 1);

    let inserted = ask(&server, &["insert", "linear", "vod/green.mp4", "--after", "1"]);
    assert_eq!(inserted.stdout, "linear: item 3 inserted\n");
    assert_eq!(item_titles(&server), ["red.mp4", "green.mp4", "blue.mp4"]);
    assert_eq!(ask(&server, &["skip", "linear"]).stdout, "linear: item 1 skipped\n");
    wait_for_runs(&pixels, 2);
    // The one that plays is taken out of the list.
    assert_eq!(ask(&server, &["remove", "linear", "3"]).stdout, "linear: item 3 removed\n");
    wait_for_runs(&pixels, 3);
    let timed = ask(&server, &["insert", "linear", "green.mp4", "--at", "03:00", "--json"]);
    let answer: Value = serde_json::from_str(&timed.stdout).unwrap();
    assert_eq!((&answer["item"], &answer["kept"]), (&4.into(), &true.into()));
    let shown = ask(&server, &["ls", "linear"]).stdout;
    assert!(shown.contains("2     blue.mp4   -         playing"), "{shown}");
    assert!(shown.contains("4     green.mp4  03:00:00  waiting"), "{shown}");
    reader.kill();
    let seen: Vec<&str> = runs(&colours(&pixels)).iter().map(|(colour, _)| *colour).collect();
    assert_eq!(seen, ["red", "green", "blue"]);
    assert_eq!(std::fs::read_to_string(&errors).unwrap(), "", "the decoder has no complaint");

    for (words, code, said) in [
        (&["remove", "linear", "9"][..], 1, "the playlist has no item 9"),
        (&["insert", "linear", "none.mp4"], 1, "title none.mp4: no such file"),
        (&["insert", "linear", "red.mp4", "--at", "03:00"], 1, "begins at 03:00:00 already"),
        (&["insert", "linear", "red.mp4", "--before", "1", "--after", "2"], 2, "cannot be used"),
        (&["ls", "none"], 1, "no path `none`; there is linear"),
    ] {
        let refused = ask(&server, words);
        assert_eq!(refused.status.code(), Some(code), "{words:?}");
        assert!(refused.stderr.contains(said), "{words:?}: {}", refused.stderr);
    }

    server.kill();
    let mut server = start(&first);
    assert_eq!(item_titles(&server), ["red.mp4", "blue.mp4", "green.mp4"]);
    let list = playlist(&server);
    assert_eq!((&list["items"][2]["item"], &list["edited"]), (&4.into(), &true.into()));
    server.kill();
    // Another list of the configuration takes their place.
    let server = start(&config("\"blue.mp4\""));
    assert_eq!(item_titles(&server), ["blue.mp4"]);
    server.assert_logs("HE-I317");
}

#[test]
fn item_with_a_time_cuts_what_plays_at_that_time() {
    let folder = tempfile::tempdir_in(support::scratch()).unwrap();
    make_title(folder.path(), "red.mp4", "red", 440, "60");
    make_title(folder.path(), "blue.mp4", "blue", 1_000, "2");
    let config = "[path.linear]\nplaylist = [\"red.mp4\"]\nplaylist_clock = \"utc\"\n";
    let options =
        Options { folder: Some(folder.path()), config: Some(config), ..Options::default() };
    let server = Server::start(&options);
    wait_until_described(&server, "linear");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let at_s = now.as_secs() + 8;
    let clock = format!("{:02}:{:02}:{:02}", at_s / 3_600 % 24, at_s / 60 % 60, at_s % 60);
    let inserted = ask(&server, &["insert", "linear", "blue.mp4", "--at", &clock]);
    assert_eq!(inserted.stdout, "linear: item 2 inserted\n");
    let mut session = Session::open(server.rtsp, &server.url("linear"), Lower::Tcp);
    session.play(&[]);
    let is_on = || playlist(&server)["playing"]["item"] == 2;
    until_within(PLAYER_PATIENCE, "the time", || {
        session.receive_packets(10, PLAYER_PATIENCE);
        is_on()
    });
    let since = playlist(&server)["playing"]["since"].as_str().unwrap().to_owned();
    let since = since.parse::<jiff::Timestamp>().unwrap().as_millisecond();
    let late_ms = since - i64::try_from(at_s).unwrap() * 1_000;
    // The next key frame of what plays is not waited for; the shard may be busy.
    assert!((-600..=1_000).contains(&late_ms), "{late_ms} ms late");
    until_within(PLAYER_PATIENCE, "what follows", || {
        session.receive_packets(10, PLAYER_PATIENCE);
        playlist(&server)["playing"]["item"] == 1
    });
    session.streams.iter().for_each(|stream| assert_contiguous(&stream.packets));
}

#[test]
fn reload_takes_another_list_over_and_all_broken_lists_end_readers_with_a_reason() {
    let folder = titles();
    let options = Options { folder: Some(folder.path()), config: Some(LIST), ..Options::default() };
    let server = Server::start(&options);
    wait_until_described(&server, "linear");
    let reload = || {
        let admin = server.admin.to_string();
        run_any(
            &binary().to_string_lossy(),
            &["config", "reload", "--admin", &admin],
            Duration::from_secs(20),
        )
    };
    let mut session = Session::open(server.rtsp, &server.url("linear"), Lower::Tcp);
    session.play(&[]);
    server.write_config("[path.linear]\nplaylist = [\"blue.mp4\", \"red.mp4\"]\nhold = \"0s\"\n");
    assert!(reload().stdout.contains("changed       linear"));
    assert_eq!(item_titles(&server), ["blue.mp4", "red.mp4"]);
    session.receive_packets(30, PLAYER_PATIENCE);
    session.streams.iter().for_each(|stream| assert_contiguous(&stream.packets));
    server
        .write_config("[path.linear]\nplaylist = [\"broken.mp4\", \"none.mp4\"]\nhold = \"0s\"\n");
    let said = reload().stdout;
    assert!(said.contains("title none.mp4 of the playlist of linear cannot be played"), "{said}");
    session.receive_until_bye(PLAYER_PATIENCE);
    until_within(PLAYER_PATIENCE, "the reason", || {
        let path = get_json(server.admin, "/v1/paths/linear");
        path["reason"].as_str().is_some_and(|reason| reason.starts_with("no title can be played: "))
    });
    let told = Command::new(binary())
        .args(["path", "show", "linear", "--admin", &server.admin.to_string()])
        .output()
        .unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("no title can be played: "), "{told}");
}
