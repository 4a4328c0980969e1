//! Players whose sessions move between shards all the time: what they decode is compared.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::support;
use crate::support::compare::{assert_same_frames, decoded_frames};
use crate::support::http::{metric, post_text, sessions};
use crate::support::live::state;
use crate::support::players::{
    assert_launched_well, assert_read_to_the_end, clip_frames, frames_in, launch, publish,
    published_frames, read, received, receiver,
};
use crate::support::server::{Options, Server};
use crate::support::wait::until;

fn serve() -> Server {
    let config = Some("[path.\"live/a\"]\n");
    Server::start(&Options { shards: "3", config, ..Options::default() })
}

/// Runs what plays while every reader is moved to the next shard again and again.
fn while_moving<T>(server: &Server, play: impl FnOnce() -> T) -> T {
    thread::scope(|scope| {
        let (stop, is_over) = mpsc::channel::<()>();
        scope.spawn(move || {
            let mut shard = 0;
            // Some thirty moves a second of each.
            while is_over.recv_timeout(Duration::from_millis(30)) == Err(RecvTimeoutError::Timeout)
            {
                shard = (shard + 1) % 3;
                for session in sessions(server.admin) {
                    let id = session["id"].as_str().unwrap();
                    if session["role"] == "reader" && session["state"] == "playing" {
                        let order = format!("{{\"shard\":{shard}}}");
                        let path = format!("/v1/sessions/{id}/move");
                        let (status, text) = post_text(server.admin, &path, &order);
                        // It may have ended, or not be at rest.
                        assert!([200, 404, 503].contains(&status), "{status}: {text}");
                    }
                }
            }
        });
        let played = play();
        stop.send(()).unwrap();
        played
    })
}

fn assert_moved(server: &Server, least: f64) {
    let moves = metric(server.admin, "headend_session_moves_total").unwrap();
    assert!(moves >= least, "{moves} moves");
}

#[test]
fn ffmpeg_and_gstreamer_decode_a_title_that_moves_while_it_plays() {
    let server = serve();
    let (all, url) = (clip_frames(), server.demo_url());
    let played = |transport: &str| {
        decoded_frames(&["-rtsp_transport", transport, "-buffer_size", "8000000", "-i", &url], 0)
    };
    let [udp, tcp, gst_udp, gst_tcp] = while_moving(&server, || {
        thread::scope(|scope| {
            let ffmpeg = ["udp", "tcp"].map(|transport| scope.spawn(move || played(transport)));
            let gstreamer = ["protocols=udp", "protocols=tcp"]
                .map(|more| (more, server.demo_url()))
                .map(|(more, url)| scope.spawn(move || received(&url, more)));
            let [a, b] = ffmpeg.map(|thread| thread.join().expect("FFmpeg"));
            let [c, d] = gstreamer.map(|thread| thread.join().expect("GStreamer"));
            [a, b, c, d]
        })
    });
    assert_same_frames("FFmpeg, UDP", &udp, &all);
    assert_same_frames("FFmpeg, TCP", &tcp, &all);
    assert_same_frames("GStreamer, UDP", &gst_udp, &all);
    assert_same_frames("GStreamer, TCP", &gst_tcp, &all);
    assert_moved(&server, 400.0);
}

#[test]
fn ffmpeg_and_gstreamer_read_a_live_path_to_its_end_while_it_moves() {
    let server = serve();
    let outputs = tempfile::tempdir_in(support::scratch()).expect("a folder");
    let to = |name: &str| outputs.path().join(name);
    let mut publisher = publish(&server.url("live/a"), "tcp", &["-t", "8"]);
    until("it is published", || state(&server, "live/a") == "live");
    let transports = ["udp", "tcp"];
    let frames = published_frames("8");
    let launched = [("gst-udp", "protocols=udp"), ("gst-tcp", "protocols=tcp")];
    let options = "udp-buffer-size=8000000";
    while_moving(&server, || {
        let mut readers = transports
            .map(|transport| (transport, read(&server.url("live/a"), transport, &to(transport))));
        let mut pipelines = launched.map(|(name, protocols)| {
            let more = format!("{protocols} {options}");
            let pipeline = receiver(&server.url("live/a"), &more, &to(name));
            (name, launch(&pipeline, &to(name).with_extension("log")))
        });
        publisher.assert_ends_well("publisher");
        for (transport, reader) in &mut readers {
            reader.assert_ends_well(transport);
        }
        for (name, pipeline) in &mut pipelines {
            assert_launched_well(pipeline, &to(name).with_extension("log"), name);
        }
    });
    for transport in transports {
        let got = frames_in(&to(transport).with_extension("video"));
        assert_read_to_the_end(transport, &got, &frames);
    }
    for (name, _) in launched {
        let file = to(name);
        let got = decoded_frames(&["-f", "h264", "-i", file.to_str().unwrap()], 0);
        assert_read_to_the_end(name, &got, &frames);
    }
    assert_moved(&server, 50.0);
}
