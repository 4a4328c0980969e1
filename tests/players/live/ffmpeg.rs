//! Live paths: FFmpeg publishes the built-in clip and FFmpeg reads it, every way with every way;
//! who may publish, and what becomes of readers when the publisher goes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use crate::support;
use crate::support::compare::{assert_same_frames, coded_bytes};
use crate::support::demo_clip;
use crate::support::http::{get_json, list, sessions};
use crate::support::live::{describe, wait_until_described};
use crate::support::players::{
    assert_read_to_the_end, assert_sound_without_a_gap, ffmpeg, frames_in, publish,
    published_frames, read,
};
use crate::support::process::{PLAYER_PATIENCE, run_command};
use crate::support::rtsp::Client;
use crate::support::server::{Options, Server};
use crate::support::wait::until;

#[test]
fn path_published_over_tcp_is_read_as_it_was_published() {
    is_read_as_published("tcp");
}

#[test]
fn path_published_over_udp_is_read_as_it_was_published() {
    is_read_as_published("udp");
}

/// Six seconds of the clip, read over UDP and TCP on any of two shards. The readers end by
/// themselves when nobody has come back after the publisher.
fn is_read_as_published(transport: &str) {
    let server = Server::start(&Options { shards: "2", ..Options::default() });
    let url = server.url("live/clip");
    let mut publisher = publish(&url, transport, &["-t", "6"]);
    wait_until_described(&server, "live/clip");
    let paths = list(get_json(server.admin, "/v1/paths"));
    assert_eq!((&paths[0]["path"], &paths[0]["state"]), (&"live/clip".into(), &"live".into()));
    let outputs = tempfile::tempdir_in(support::scratch()).unwrap();
    let mut readers: Vec<_> = ["udp", "tcp", "udp", "tcp"]
        .into_iter()
        .enumerate()
        .map(|(place, way)| {
            let to = outputs.path().join(format!("{place}-{way}"));
            (read(&url, way, &to), to)
        })
        .collect();
    publisher.assert_ends_well("publisher");
    let (frames, sound) = (published_frames("6"), coded_bytes(&demo_clip(), 1));
    for (reader, to) in &mut readers {
        let what = format!("{} of {transport}", to.file_name().unwrap().to_string_lossy());
        reader.assert_ends_well(&what);
        assert_read_to_the_end(&what, &frames_in(&to.with_extension("video")), &frames);
        let got = std::fs::read(to.with_extension("audio")).unwrap();
        assert_sound_without_a_gap(&what, &got, &sound, 10);
    }
}

#[test]
fn second_publisher_is_refused_while_the_first_one_lives() {
    let server = Server::with_demo();
    let url = server.url("live/clip");
    let _first = publish(&url, "tcp", &[]);
    wait_until_described(&server, "live/clip");
    let mut second = ffmpeg();
    second.arg("-i").arg(demo_clip()).args(["-c", "copy", "-f", "rtsp", &url]);
    assert!(!run_command(&mut second, PLAYER_PATIENCE).status.success());
    server.assert_logs("the path has a source already");
    // Another path is free.
    let other = server.url("live/other");
    let _other = publish(&other, "tcp", &[]);
    wait_until_described(&server, "live/other");
}

#[test]
fn readers_end_when_their_publisher_is_killed_and_does_not_return() {
    let server = Server::with_demo();
    let url = server.url("live/clip");
    let mut publisher = publish(&url, "udp", &[]);
    wait_until_described(&server, "live/clip");
    let outputs = tempfile::tempdir_in(support::scratch()).unwrap();
    let mut readers = ["udp", "tcp"].map(|way| read(&url, way, &outputs.path().join(way)));
    until("both readers play", || {
        sessions(server.admin).iter().filter(|session| session["state"] == "playing").count() == 2
    });
    publisher.0.kill().unwrap();
    for reader in &mut readers {
        reader.assert_ends_well("reader");
    }
    until("nothing of the path is left", || describe(&server, "live/clip") == 404);
    assert!(sessions(server.admin).is_empty());
}

#[test]
fn readers_continue_when_their_publisher_returns() {
    let server = Server::start(&Options { shards: "2", ..Options::default() });
    let url = server.url("live/clip");
    let mut first = publish(&url, "tcp", &[]);
    wait_until_described(&server, "live/clip");
    let outputs = tempfile::tempdir_in(support::scratch()).unwrap();
    let to = outputs.path().join("reader");
    let mut reader = read(&url, "tcp", &to);
    let playing = || sessions(server.admin).iter().any(|session| session["state"] == "playing");
    until("the reader plays", playing);
    first.kill();
    let mut second = publish(&url, "udp", &["-t", "3"]);
    second.assert_ends_well("second");
    assert!(playing(), "the reader is still there");
    reader.assert_ends_well("reader");
    // All of the second publication is there: it begins with the clip's first frame.
    let got = frames_in(&to.with_extension("video"));
    let wanted = published_frames("3");
    assert!(got.len() > wanted.len(), "{} frames", got.len());
    assert_same_frames("second publication", &got[got.len() - wanted.len()..], &wanted);
}

#[test]
fn path_without_a_source_is_not_found_and_announce_of_a_title_is_refused() {
    let server = Server::start(&Options { shards: "2", ..Options::default() });
    for path in ["live/nobody", "live/other", "x"] {
        assert_eq!(describe(&server, path), 404, "{path}");
    }
    let mut client = Client::connect(server.rtsp);
    let sdp = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=audio 0 RTP/AVP 0\r\n";
    let headers = [("Content-Type", "application/sdp")];
    let mut announce = |path: &str, body: &str| {
        client.request_with_body("ANNOUNCE", &server.url(path), &headers, body).status
    };
    assert_eq!(announce("vod/a.mp4", sdp), 405);
    assert_eq!(announce("demo", sdp), 405);
    assert_eq!(announce("live/a", "nonsense"), 400);
    assert_eq!(announce("live/a", &sdp.replace("RTP/AVP", "RTP/SAVP")), 415);
    assert_eq!(announce("live/a", sdp), 200);
    assert_eq!(describe(&server, "live/a"), 200);
}
