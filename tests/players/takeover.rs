//! FFmpeg and GStreamer while one server after the other takes over: what they decode is compared.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::support::compare::{assert_same_frames, decoded_frames};
use crate::support::http::{metric, sessions};
use crate::support::players::{clip_frames, received};
use crate::support::server::Server;
use crate::support::takeover::Site;
use crate::support::wait::{PATIENCE, until};

/// Runs what plays while one server after the other takes over, with one shard, two, and one again.
/// Returns the last one, and how many there were.
fn while_taken_over<T>(
    site: &Site,
    first: Server,
    players: usize,
    play: impl FnOnce() -> T,
) -> (T, Server, usize) {
    thread::scope(|scope| {
        let (stop, is_over) = mpsc::channel::<()>();
        let servers = scope.spawn(move || {
            let (mut server, mut count) = (first, 0);
            until("all of them play", || {
                let playing = sessions(server.admin);
                playing.iter().filter(|session| session["state"] == "playing").count() == players
            });
            while is_over.recv_timeout(Duration::from_millis(300)) == Err(RecvTimeoutError::Timeout)
            {
                let shards = if count % 2 == 0 { "2" } else { "1" };
                let new = site.take_over(shards, "--takeover");
                let status = server.wait(PATIENCE).unwrap();
                assert_eq!(status.code(), Some(0), "{}", server.log());
                (server, count) = (new, count + 1);
            }
            (server, count)
        });
        let played = play();
        stop.send(()).unwrap();
        let (server, count) = servers.join().unwrap();
        (played, server, count)
    })
}

#[test]
fn ffmpeg_and_gstreamer_decode_a_title_bit_for_bit_while_servers_take_over() {
    let site = Site::new("");
    let server = site.start("1");
    let (all, url) = (clip_frames(), server.demo_url());
    let played = &|transport: &str| {
        decoded_frames(&["-rtsp_transport", transport, "-buffer_size", "8000000", "-i", &url], 0)
    };
    let ([udp, tcp, gst_udp, gst_tcp], server, takeovers) =
        while_taken_over(&site, server, 4, || {
            thread::scope(|scope| {
                let ffmpeg = ["udp", "tcp"].map(|transport| scope.spawn(move || played(transport)));
                let gstreamer = ["protocols=udp", "protocols=tcp"].map(|more| {
                    let url = &url;
                    scope.spawn(move || received(url, more))
                });
                let [a, b] = ffmpeg.map(|thread| thread.join().unwrap());
                let [c, d] = gstreamer.map(|thread| thread.join().unwrap());
                [a, b, c, d]
            })
        });
    assert_same_frames("FFmpeg, UDP", &udp, &all);
    assert_same_frames("FFmpeg, TCP", &tcp, &all);
    assert_same_frames("GStreamer, UDP", &gst_udp, &all);
    assert_same_frames("GStreamer, TCP", &gst_tcp, &all);
    assert!(takeovers >= 2, "{takeovers} takeovers");
    assert_eq!(metric(server.admin, "headend_panics_total"), Some(0.0));
}
