//! FFmpeg and GStreamer over TLS and over HTTP: titles, live paths, publishers, and sources that
//! are pulled over TLS; what they decode is compared with what was sent.

use std::path::Path;

use crate::support;
use crate::support::compare::{assert_same_frames, decoded_frames};
use crate::support::demo_clip;
use crate::support::live::{path, state};
use crate::support::login::{password, users};
use crate::support::players::{
    assert_read_to_the_end, clip_frames, ffmpeg, frames_in, frames_of, launch, publish,
    published_frames, read, received,
};
use crate::support::process::{PLAYER_PATIENCE, run_any, run_command, wait_for};
use crate::support::secure::{certify, fingerprint, start, url};
use crate::support::server::{Options, Server};
use crate::support::wait::until;

fn played(transport: &str, url: &str) -> Vec<String> {
    decoded_frames(&["-rtsp_transport", transport, "-i", url], 0)
}

const ANY_CERTIFICATE: &str = "tls-validation-flags=0";

#[test]
fn ffmpeg_and_gstreamer_play_a_title_over_tls() {
    let (server, _files) = start("", &Options::default());
    let (all, url) = (clip_frames(), url(&server, "demo"));
    assert_same_frames("FFmpeg", &played("tcp", &url), &all);
    assert_same_frames("GStreamer", &received(&url, ANY_CERTIFICATE), &all);
}

#[test]
fn gstreamer_refuses_a_certificate_that_it_does_not_know() {
    // Client rule C25: it validates unless it is told not to.
    let (server, _files) = start("", &Options::default());
    let location = format!("location={}", url(&server, "demo"));
    let args = ["-q", "rtspsrc", &location, "!", "fakesink"];
    let finished = run_any("gst-launch-1.0", &args, PLAYER_PATIENCE);
    assert!(!finished.status.success(), "{finished:?}");
    // It looks at the certificate behind the handshake, and says no more than that.
    assert!(finished.stderr.contains("Could not open resource"), "{finished:?}");
}

#[test]
fn live_path_is_published_and_read_over_tls_by_ffmpeg() {
    let (server, _files) = start("[path.\"live/a\"]\n", &Options::default());
    let outputs = tempfile::tempdir_in(support::scratch()).unwrap();
    let to = |name: &str| outputs.path().join(name);
    let mut publisher = publish(&url(&server, "live/a"), "tcp", &["-t", "5"]);
    until("it is published", || state(&server, "live/a") == "live");
    let mut readers = [
        ("tls", read(&url(&server, "live/a"), "tcp", &to("tls"))),
        ("plain", read(&server.url("live/a"), "tcp", &to("plain"))),
        ("http", read(&server.url("live/a"), "http", &to("http"))),
    ];
    publisher.assert_ends_well("publisher");
    let frames = published_frames("5");
    for (way, reader) in &mut readers {
        reader.assert_ends_well(way);
        assert_read_to_the_end(way, &frames_in(&to(way).with_extension("video")), &frames);
    }
}

#[test]
fn gstreamer_publishes_over_tls() {
    // It asks for UDP first, and gives up when that is refused.
    let (server, _files) = start("[path.\"live/a\"]\n", &Options::default());
    let outputs = tempfile::tempdir_in(support::scratch()).unwrap();
    let pipeline = format!(
        "filesrc location={} ! qtdemux name=d d.video_0 ! queue ! h264parse ! \
         rtspclientsink name=s location={} {ANY_CERTIFICATE} protocols=tcp d.audio_0 ! queue ! aacparse ! s.",
        demo_clip().display(),
        url(&server, "live/a"),
    );
    let _publisher = launch(&pipeline, &outputs.path().join("log"));
    until("it is published", || state(&server, "live/a") == "live");
    let mut command = ffmpeg();
    command.args(["-rtsp_transport", "tcp", "-i", &server.url("live/a")]);
    command.args(["-t", "2", "-map", "0:v", "-f", "framemd5", "-"]);
    let finished = run_command(&mut command, PLAYER_PATIENCE);
    assert!(finished.status.success(), "{finished:?}");
    let frames = finished.stdout.lines().filter(|line| !line.starts_with('#')).count();
    assert!(frames > 25, "{frames} frames");
}

#[test]
fn ffmpeg_and_gstreamer_play_a_title_over_http() {
    let server = Server::start(&Options { shards: "2", ..Options::default() });
    let (all, url) = (clip_frames(), server.demo_url());
    assert_same_frames("FFmpeg", &played("http", &url), &all);
    let by_scheme = url.replacen("rtsp://", "rtsph://", 1);
    assert_same_frames("GStreamer", &received(&by_scheme, ""), &all);
    assert_same_frames("by its property", &received(&url, "protocols=tcp+http"), &all);
}

#[test]
fn ffmpeg_logs_in_through_a_tunnel_by_digest_and_by_basic() {
    for has_digest in [true, false] {
        let config = users(&["ann"], has_digest);
        let options = Options { shards: "2", config: Some(&config), ..Options::default() };
        let server = Server::start(&options);
        let url = format!("rtsp://ann:{}@{}/demo", password("ann"), server.rtsp);
        assert_same_frames("FFmpeg", &played("http", &url), &clip_frames());
    }
}

#[test]
fn ffmpeg_plays_through_a_tunnel_inside_tls() {
    let (server, _files) = start("", &Options { shards: "2", ..Options::default() });
    // It tunnels to the port of the URL.
    let url = format!("rtsp://{}/demo", server.rtsps());
    assert_same_frames("FFmpeg", &played("https", &url), &clip_frames());
}

/// A server that pulls from a URL.
fn puller(source: &str, trust: &str) -> Server {
    let config = format!("[path.\"live/copy\"]\nsource = \"{source}\"\n{trust}");
    Server::start(&Options { config: Some(&config), ..Options::default() })
}

fn reason(server: &Server) -> String {
    path(server, "live/copy")["reason"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn source_is_pulled_over_tls_when_its_certificate_is_believed() {
    let folder = tempfile::tempdir_in(support::scratch()).unwrap();
    let config = certify(folder.path(), &[]);
    let origin = Server::start(&Options { config: Some(&config), ..Options::default() });
    let source = url(&origin, "live/clip");
    let pin = fingerprint(&config);
    let pinned = puller(&source, &format!("source_tls = \"{pin}\"\n"));
    let trusting = puller(&source, "source_tls = \"off\"\n");
    let mut publisher = publish(&origin.url("live/clip"), "tcp", &["-t", "6"]);
    let outputs = tempfile::tempdir_in(support::scratch()).unwrap();
    let mut readers = [("pinned", &pinned), ("off", &trusting)].map(|(name, server)| {
        until("it is pulled", || state(server, "live/copy") == "live");
        let to = outputs.path().join(name);
        (name, read(&server.url("live/copy"), "tcp", &to), to)
    });
    publisher.assert_ends_well("publisher");
    let frames = published_frames("6");
    for (name, reader, to) in &mut readers {
        reader.assert_ends_well(name);
        assert_read_to_the_end(name, &frames_in(&to.with_extension("video")), &frames);
    }
}

#[test]
fn source_that_is_not_believed_is_named_with_its_fingerprint() {
    let folder = tempfile::tempdir_in(support::scratch()).unwrap();
    let config = certify(folder.path(), &[]);
    let origin = Server::start(&Options { config: Some(&config), ..Options::default() });
    let source = url(&origin, "demo");
    let verifying = puller(&source, "");
    until("it says why", || {
        reason(&verifying).contains("set source_tls") || {
            let pin = format!("source_tls = \"{}\"", fingerprint(&config));
            reason(&verifying).contains(&pin)
        }
    });
    let other = format!("source_tls = \"sha256:{}\"\n", "ab".repeat(32));
    let pinned = puller(&source, &other);
    until("it says which it has", || reason(&pinned).contains(fingerprint(&config)));
    let plain = puller(
        &source.replace(&origin.rtsps().to_string(), &origin.rtsp.to_string()),
        "source_tls = \"off\"\n",
    );
    until("it says that there is no TLS", || reason(&plain).contains("no TLS"));
}

#[test]
fn reader_that_stops_reading_over_tls_does_not_hold_up_another() {
    let (server, _files) = start("[path.\"live/a\"]\n", &Options::default());
    let outputs = tempfile::tempdir_in(support::scratch()).unwrap();
    let to = outputs.path().join("good");
    let mut publisher = publish(&server.url("live/a"), "tcp", &["-t", "5"]);
    until("it is published", || state(&server, "live/a") == "live");
    let mut good = read(&url(&server, "live/a"), "tcp", &to);
    let stopped = read(&url(&server, "live/a"), "tcp", &outputs.path().join("stopped"));
    let stop = rustix::process::Signal::STOP;
    rustix::process::kill_process(rustix::process::Pid::from_child(&stopped.0), stop).unwrap();
    publisher.assert_ends_well("publisher");
    let ended = wait_for(&mut good.0, PLAYER_PATIENCE);
    assert!(ended.is_some_and(|status| status.success()));
    assert_read_to_the_end("good", &frames_in(&to.with_extension("video")), &published_frames("5"));
}

#[test]
fn every_picture_of_a_film_arrives_over_tls() {
    // Larger frames than a record holds.
    let title = support::media::title("h264_aac_ten_seconds_mp4");
    let file = title.file();
    let folder = support::folder_with(&[&file]);
    let options = Options { folder: Some(folder.path()), ..Options::default() };
    let (server, _files) = start("", &options);
    let name = Path::new(file.file_name().unwrap()).to_str().unwrap();
    let url = url(&server, &format!("vod/{name}"));
    assert_same_frames("FFmpeg", &played("tcp", &url), &frames_of(&file));
}
