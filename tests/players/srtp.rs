//! FFmpeg and GStreamer over SRTP: titles, live paths and publishers with keys by `a=crypto` and by
//! MIKEY; what they decode is compared with what was sent.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use crate::support;
use crate::support::compare::{assert_same_frames, decoded_frames};
use crate::support::demo_clip;
use crate::support::http::metric;
use crate::support::live::state;
use crate::support::players::{
    assert_launched_well, assert_read_from_a_key_frame, assert_read_to_the_end, clip_frames,
    frames_in, launch, publish, published_frames, read, read_frames, received, receiver,
};
use crate::support::process::{PLAYER_PATIENCE, run_any};
use crate::support::secure::{start, url};
use crate::support::server::{Options, Server};
use crate::support::wait::until;

/// Its certificate is signed by itself.
const ANY_CERTIFICATE: &str = "tls-validation-flags=0";

/// A counter, summed over its labels.
fn count(server: &Server, name: &str) -> f64 {
    metric(server.admin, name).unwrap()
}

/// Packets that were encrypted so far.
fn encrypted(server: &Server) -> f64 {
    count(server, "headend_srtp_packets_encrypted_total")
}

#[test]
fn ffmpeg_plays_a_title_with_a_key_of_the_description() {
    // Client rule C10: it asks for RTP/AVP and decrypts all the same.
    let (server, _files) = start("", &Options::default());
    let url = url(&server, "demo?srtp");
    let played = decoded_frames(&["-rtsp_transport", "tcp", "-i", &url], 0);
    assert_same_frames("FFmpeg", &played, &clip_frames());
    assert!(encrypted(&server) > 200.0, "its packets were encrypted");
}

#[test]
fn gstreamer_plays_a_title_by_mikey_over_udp_and_tcp() {
    let (server, _files) = start("", &Options::default());
    let all = clip_frames();
    let ways = [
        ("", "protocols=udp"),
        ("", "protocols=tcp"),
        ("=AES_CM_128_HMAC_SHA1_32", "protocols=udp"),
        ("=AEAD_AES_128_GCM", "protocols=udp"),
    ];
    std::thread::scope(|scope| {
        let players = ways.map(|(suite, transport)| {
            let url = url(&server, &format!("demo?srtp{suite}"));
            (
                suite,
                transport,
                scope.spawn(move || received(&url, &format!("{ANY_CERTIFICATE} {transport}"))),
            )
        });
        for (suite, transport, player) in players {
            assert_same_frames(&format!("{suite} {transport}"), &player.join().unwrap(), &all);
        }
    });
    assert!(encrypted(&server) > 800.0, "all of it was encrypted");
    assert_eq!(count(&server, "headend_srtp_packets_dropped_total"), 0.0);
    // Its reports are encrypted by the key that it has sent.
    until("its reports are understood", || {
        count(&server, "headend_rtcp_reports_received_total") > 0.0
    });
    assert_eq!(count(&server, "headend_srtp_refused_total"), 0.0);
}

#[test]
fn live_path_is_read_encrypted_by_ffmpeg_and_gstreamer_and_in_the_clear() {
    let (server, _files) = start("[path.\"live/a\"]\n", &Options::default());
    let outputs = tempfile::tempdir_in(support::scratch()).unwrap();
    let to = |name: &str| outputs.path().join(name);
    let mut publisher = publish(&url(&server, "live/a"), "tcp", &["-t", "6"]);
    until("it is published", || state(&server, "live/a") == "live");
    let secret = url(&server, "live/a?srtp");
    let mut readers = [
        ("srtp", read(&secret, "tcp", &to("srtp"))),
        ("plain", read(&server.url("live/a"), "tcp", &to("plain"))),
    ];
    let mut pipelines = ["udp", "tcp"].map(|way| {
        let more = format!("{ANY_CERTIFICATE} protocols={way}");
        let (file, log) = (to(way), to(way).with_extension("log"));
        (way, launch(&receiver(&secret, &more, &file), &log), file, log)
    });
    publisher.assert_ends_well("publisher");
    let frames = published_frames("6");
    for (way, reader) in &mut readers {
        reader.assert_ends_well(way);
        assert_read_to_the_end(way, &frames_in(&to(way).with_extension("video")), &frames);
    }
    for (way, pipeline, file, log) in &mut pipelines {
        assert_launched_well(pipeline, log, way);
        let got = decoded_frames(&["-f", "h264", "-i", file.to_str().unwrap()], 0);
        assert!(got.len() > 50, "{way}: {} frames", got.len());
        assert_read_from_a_key_frame(way, &got, &frames);
    }
    assert_eq!(count(&server, "headend_srtp_packets_dropped_total"), 0.0);
}

#[test]
fn gstreamer_publishes_encrypted_over_udp_and_tcp() {
    // In the clear it would be refused.
    let config = "[rtsp]\nsrtp = \"required\"\n[path.\"live/a\"]\n[path.\"live/b\"]\n";
    let (server, _files) = start(config, &Options::default());
    let outputs = tempfile::tempdir_in(support::scratch()).unwrap();
    let all = clip_frames();
    for (path, protocols) in [("live/a", "udp"), ("live/b", "tcp")] {
        let publisher = format!(
            "filesrc location={} ! qtdemux name=d d.video_0 ! queue ! h264parse ! \
             rtspclientsink name=s location={} tls-validation-flags=0 profiles=savp \
             protocols={protocols} d.audio_0 ! queue ! aacparse ! s.",
            demo_clip().display(),
            url(&server, path),
        );
        let _publisher = launch(&publisher, &outputs.path().join("log"));
        until("it is published", || state(&server, path) == "live");
        let to = outputs.path().join("got");
        let mut reader = read_frames::<&str>(&url(&server, path), "tcp", 50, &to, &[]);
        reader.assert_ends_well("reader");
        assert_read_from_a_key_frame(protocols, &frames_in(&to), &all);
    }
    assert_eq!(count(&server, "headend_srtp_refused_total"), 0.0);
}

#[test]
fn nothing_is_served_in_the_clear_where_srtp_is_required() {
    let (server, _files) = start("[rtsp]\nsrtp = \"required\"\n", &Options::default());
    let over_tls = url(&server, "demo");
    let played = decoded_frames(&["-rtsp_transport", "tcp", "-i", &over_tls], 0);
    assert_same_frames("FFmpeg", &played, &clip_frames());
    assert_same_frames(
        "GStreamer",
        &received(&over_tls, &format!("{ANY_CERTIFICATE} protocols=udp")),
        &clip_frames(),
    );
    let plain = run_any("ffprobe", &["-v", "error", &server.demo_url()], PLAYER_PATIENCE);
    assert!(plain.stderr.contains("403 Forbidden"), "{plain:?}");
}
