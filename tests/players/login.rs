//! FFmpeg and GStreamer read and publish with a password, by Digest where it is offered and by
//! Basic where it is not.
//!
//! ```text
//!  ffmpeg rtsp://ann:..@        --+            +--- ffmpeg over UDP, over TCP
//!  rtspclientsink user-id=ann   --+-- live/a --+--- rtspsrc user-id=ann
//! ```

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use std::path::Path;

use crate::support;
use crate::support::http::metric;
use crate::support::live::state;
use crate::support::login::{password, users};
use crate::support::players::{
    assert_read_to_the_end, ffmpeg, frames_in, launch, publish, published_frames, read,
};
use crate::support::process::{Kept, PLAYER_PATIENCE, run_command, wait_for};
use crate::support::server::{Options, Server};
use crate::support::wait::until;

fn start(has_digest: bool) -> Server {
    let config =
        users(&["ann", "bob"], has_digest) + "[path.\"live/a\"]\npublish = [\"user:ann\"]\n";
    Server::start(&Options { config: Some(&config), ..Options::default() })
}

/// The URL of a path with name and password.
fn url(server: &Server, path: &str, name: &str) -> String {
    format!("rtsp://{name}:{}@{}/{path}", password(name), server.rtsp)
}

fn wait_until_live(server: &Server) {
    until("live/a is published", || state(server, "live/a") == "live");
}

fn read_with_gstreamer(server: &Server, path: &str, to: &Path) -> Kept {
    let pipeline = format!(
        "rtspsrc location={} user-id=bob user-pw={} udp-buffer-size=8000000 ! rtph264depay ! \
         video/x-h264,stream-format=byte-stream,alignment=au ! filesink location={}",
        server.url(path),
        password("bob"),
        to.display()
    );
    launch(&pipeline, &to.with_extension("log"))
}

fn ffmpeg_and_gstreamer_get_in(has_digest: bool) {
    let server = start(has_digest);
    let outputs = tempfile::tempdir_in(support::scratch()).unwrap();
    let to = |name: &str| outputs.path().join(name);
    let mut publisher = publish(&url(&server, "live/a", "ann"), "tcp", &["-t", "5"]);
    wait_until_live(&server);
    let mut readers: Vec<_> = ["udp", "tcp"]
        .map(|way| (way, read(&url(&server, "live/a", "bob"), way, &to(way))))
        .into_iter()
        .collect();
    let mut by_gstreamer = read_with_gstreamer(&server, "live/a", &to("gst.h264"));
    publisher.assert_ends_well("publisher");
    let frames = published_frames("5");
    for (way, reader) in &mut readers {
        reader.assert_ends_well(way);
        assert_read_to_the_end(way, &frames_in(&to(way).with_extension("video")), &frames);
    }
    let _ended = wait_for(&mut by_gstreamer.0, PLAYER_PATIENCE);
    let bytes = std::fs::metadata(to("gst.h264")).unwrap().len();
    // It joins late: a second of pictures is enough to know that it was let in.
    assert!(bytes > 10_000, "{bytes} bytes by GStreamer");
    assert_eq!(metric(server.admin, "headend_logins_failed_total"), Some(0.0));
}

#[test]
fn ffmpeg_and_gstreamer_get_in_by_digest() {
    ffmpeg_and_gstreamer_get_in(true);
}

#[test]
fn ffmpeg_and_gstreamer_get_in_by_basic() {
    ffmpeg_and_gstreamer_get_in(false);
}

#[test]
fn ffmpeg_plays_a_title_with_a_password_and_seeks_in_it() {
    for has_digest in [true, false] {
        let server = start(has_digest);
        for way in ["udp", "tcp"] {
            let mut command = ffmpeg();
            command.args(["-rtsp_transport", way, "-ss", "2", "-i", &url(&server, "demo", "bob")]);
            command.args(["-t", "1", "-map", "0:v", "-c", "copy", "-f", "null", "-"]);
            let finished = run_command(&mut command, PLAYER_PATIENCE);
            assert!(finished.status.success(), "{way}, digest {has_digest}: {finished:?}");
        }
    }
}

#[test]
fn gstreamer_publishes_with_a_password() {
    for has_digest in [true, false] {
        let server = start(has_digest);
        let outputs = tempfile::tempdir_in(support::scratch()).unwrap();
        let clip = support::demo_clip();
        let pipeline = format!(
            "filesrc location={} ! qtdemux name=d d.video_0 ! queue ! h264parse ! \
             rtspclientsink name=s location={} user-id=ann user-pw={} protocols=tcp \
             d.audio_0 ! queue ! aacparse ! s.",
            clip.display(),
            server.url("live/a"),
            password("ann")
        );
        let _publisher = launch(&pipeline, &outputs.path().join("log"));
        wait_until_live(&server);
        // It ends by itself: the sink keeps its connection at the end of the clip.
        let mut command = ffmpeg();
        command.args(["-rtsp_transport", "tcp", "-i", &url(&server, "live/a", "bob")]);
        command.args(["-t", "2", "-map", "0:v", "-f", "framemd5", "-"]);
        let finished = run_command(&mut command, PLAYER_PATIENCE);
        assert!(finished.status.success(), "digest {has_digest}: {finished:?}");
        let frames = finished.stdout.lines().filter(|line| !line.starts_with('#')).count();
        assert!(frames > 25, "digest {has_digest}: {frames} frames");
    }
}

#[test]
fn ffmpeg_with_a_wrong_password_or_without_one_ends_with_an_error() {
    for has_digest in [true, false] {
        let server = start(has_digest);
        for who in ["ann:guess@", ""] {
            let mut command = ffmpeg();
            let url = format!("rtsp://{who}{}/demo", server.rtsp);
            command.args(["-rtsp_transport", "tcp", "-i", &url, "-f", "null", "-"]);
            let finished = run_command(&mut command, PLAYER_PATIENCE);
            assert!(!finished.status.success(), "{who}: {finished:?}");
        }
    }
}
