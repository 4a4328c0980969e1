//! WHEP from outside: who may, what is answered to right and wrong offers, and that sessions end.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on has failed, and says where"
)]

use crate::support::hls::{ask, ask_with, get};
use crate::support::http;
use crate::support::login::{basic, users};
use crate::support::publish::{PICTURES_AND_SOUND, Publisher};
use crate::support::server::{Options, Server};
use crate::support::session::Lower;
use crate::support::wait::until;
use crate::support::whep::{OFFER, post, publish_low_latency};

const ON: Options<'static> = Options { hls: "127.0.0.1:0", ..Options::USUAL };

const HEVC: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\n\
    m=video 0 RTP/AVP 96\r\na=rtpmap:96 H265/90000\r\na=control:streamid=0\r\n";

fn used(server: &Server, what: &str) -> u64 {
    let rows = http::list(http::get_json(server.admin, "/v1/limits"));
    let row = rows.into_iter().find(|row| row["what"] == what).unwrap();
    row["used"].as_u64().unwrap()
}

#[test]
fn offer_opens_a_session_which_its_location_ends() {
    let server = Server::start(&ON);
    let hls = server.hls();
    let _publisher = publish_low_latency(&server, "aac");
    let opened = post(hls, "live/a", "", OFFER);
    assert_eq!(opened.status, 201, "{}", opened.text());
    assert_eq!(opened.header("content-type"), "application/sdp");
    assert_eq!(opened.header("headend-left-out"), "AAC");
    let answer = opened.text();
    for part in [
        "a=setup:passive",
        "a=rtpmap:103 H264/90000",
        "packetization-mode=1",
        "a=candidate:",
        " 127.0.0.1 ",
        "a=sendonly",
    ] {
        assert!(answer.contains(part), "{part}: {answer}");
    }
    assert!(!answer.contains("VP8") && !answer.contains("a=ice-lite"), "{answer}");
    let session = opened.header("location");
    assert!(session.starts_with("/live/a/whep/"), "{session}");
    assert_eq!(used(&server, "webrtc_viewers"), 1);
    let patch = ask_with(hls, "PATCH", session, "", "a=candidate:1");
    assert_eq!((patch.status, patch.header("allow")), (405, "DELETE, OPTIONS"));
    let elsewhere = session.replace("live/a", "live/b");
    assert_eq!(ask(hls, "DELETE", &elsewhere, "").status, 404);
    assert_eq!(ask(hls, "DELETE", session, "").status, 200);
    assert_eq!(ask(hls, "DELETE", session, "").status, 404);
    assert_eq!(used(&server, "webrtc_viewers"), 0);
}

#[test]
fn wrong_offers_get_a_sentence() {
    let server = Server::start(&ON);
    let hls = server.hls();
    let _pictures = Publisher::start(&server, "live/a", PICTURES_AND_SOUND, Lower::Tcp);
    let _hevc = Publisher::start(&server, "live/hevc", HEVC, Lower::Tcp);
    let sound_only = &OFFER.replace("H264", "H999");
    let long = &"a=x\r\n".repeat(20_000);
    for (path, offer, status, part) in [
        ("live/none", OFFER, 404, "the path has no source"),
        ("vod/x.mp4", OFFER, 404, "WHEP plays live paths"),
        ("demo", OFFER, 404, "WHEP plays live paths"),
        ("live/hevc", OFFER, 415, "the video of this path is H265"),
        ("live/a", sound_only, 406, "does not take H.264 video"),
        ("live/a", "v=0\r\n", 400, "the offer cannot be"),
        ("live/a", "\u{e9}", 400, "the offer cannot be"),
        ("live/a", long, 413, "32768 bytes at most"),
    ] {
        let answer = post(hls, path, "", offer);
        let text = answer.text();
        assert_eq!(answer.status, status, "{path}: {text}");
        assert!(text.contains(part), "{path}: {text}");
    }
    let typed = ask_with(hls, "POST", "/live/a/whep", "Content-Type: text/plain\r\n", OFFER);
    assert_eq!(typed.status, 415);
    assert!(typed.text().contains("application/sdp"));
    let asked = get(hls, "/live/a/whep");
    assert_eq!((asked.status, asked.header("allow")), (405, "POST, OPTIONS"));
    assert_eq!(used(&server, "webrtc_viewers"), 0);
}

#[test]
fn pages_of_others_open_no_session_unless_they_are_named() {
    let server = Server::start(&ON);
    let foreign = "Origin: https://tv.example\r\n";
    let refused = post(server.hls(), "live/a", foreign, OFFER);
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (403, ""));
    assert_eq!(post(server.hls(), "live/a", "Host: evil.example\r\n", OFFER).status, 403);
    let config = "[hls]\nallow_origin = [\"https://tv.example\"]\n";
    let server = Server::start(&Options { config: Some(config), ..ON });
    let preflight = ask(server.hls(), "OPTIONS", "/live/a/whep", foreign);
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("access-control-allow-origin"), "https://tv.example");
    assert_eq!(preflight.header("access-control-allow-methods"), "POST, OPTIONS");
    assert!(preflight.header("access-control-allow-headers").contains("Content-Type"));
    assert_eq!(preflight.header("accept-post"), "application/sdp");
    let _publisher = Publisher::start(&server, "live/a", PICTURES_AND_SOUND, Lower::Tcp);
    let opened = post(server.hls(), "live/a", foreign, OFFER);
    assert_eq!(opened.status, 201, "{}", opened.text());
    assert!(opened.header("access-control-expose-headers").contains("Location"));
}

#[test]
fn rules_of_a_path_hold_for_whep_as_for_rtsp() {
    let config = format!(
        "{}[path.\"live/a\"]\nread = [\"user:ann\"]\npublish = [\"any\"]\n\
         [path.\"live/b\"]\nread = [\"10.0.0.0/8\"]\n",
        users(&["ann", "bob"], false)
    );
    let server = Server::start(&Options { config: Some(&config), ..ON });
    let hls = server.hls();
    let _publisher = Publisher::start(&server, "live/a", PICTURES_AND_SOUND, Lower::Tcp);
    let bare = post(hls, "live/a", "", OFFER);
    assert_eq!(bare.status, 401);
    assert!(bare.header("www-authenticate").contains("realm=\"headend\""), "{:?}", bare.headers);
    let with = |name: &str, password: &str| {
        let header = format!("Authorization: {}\r\n", basic(name, password));
        post(hls, "live/a", &header, OFFER).status
    };
    assert_eq!([with("ann", "ann-secret"), with("bob", "bob-secret")], [201, 403]);
    assert_eq!(with("ann", "wrong"), 401);
    assert_eq!(post(hls, "live/b", "", OFFER).status, 403);
}

#[test]
fn more_viewers_than_there_may_be_get_503_until_one_leaves() {
    let config = "[webrtc]\nviewers_max = 1\n";
    let server = Server::start(&Options { config: Some(config), ..ON });
    let hls = server.hls();
    let _publisher = Publisher::start(&server, "live/a", PICTURES_AND_SOUND, Lower::Tcp);
    let first = post(hls, "live/a", "", OFFER);
    assert_eq!(first.status, 201, "{}", first.text());
    let second = post(hls, "live/a", "", OFFER);
    assert_eq!(second.status, 503);
    assert!(second.text().contains("webrtc.viewers_max"), "{}", second.text());
    assert_eq!(ask(hls, "DELETE", first.header("location"), "").status, 200);
    assert_eq!(post(hls, "live/a", "", OFFER).status, 201);
}

#[test]
fn drained_server_sends_new_viewers_away_and_ends_sessions_at_the_deadline() {
    use serde_json::json;

    let server = Server::start(&ON);
    let hls = server.hls();
    let _publisher = Publisher::start(&server, "live/a", PICTURES_AND_SOUND, Lower::Tcp);
    assert_eq!(post(hls, "live/a", "", OFFER).status, 201);
    let drain = |order| {
        let (status, state) = http::post_json(server.admin, "/v1/drain", "", &order);
        assert_eq!(status, 200, "{state}");
    };
    drain(json!({}));
    assert_eq!(post(hls, "live/a", "", OFFER).status, 503);
    drain(json!({ "redirect": ["rtsp://b.example", "http://b.example:8888"] }));
    let moved = post(hls, "live/a", "", OFFER);
    let location = moved.header("location");
    assert_eq!((moved.status, location), (307, "http://b.example:8888/live/a/whep"));
    assert_eq!(used(&server, "webrtc_viewers"), 1);
    drain(json!({ "deadline_s": 0 }));
    until("sessions end", || used(&server, "webrtc_viewers") == 0);
}

#[test]
fn webrtc_can_be_off_and_hosts_can_be_told() {
    let server = Server::start(&Options { webrtc: "off", ..ON });
    let refused = post(server.hls(), "live/a", "", OFFER);
    assert_eq!(refused.status, 404);
    assert!(refused.text().contains("webrtc.listen"), "{}", refused.text());
    let config = "[webrtc]\nhosts = [\"203.0.113.7\"]\n";
    let server = Server::start(&Options { config: Some(config), ..ON });
    let _publisher = Publisher::start(&server, "live/a", PICTURES_AND_SOUND, Lower::Tcp);
    let opened = post(server.hls(), "live/a", "", OFFER);
    assert!(opened.text().contains(" 203.0.113.7 "), "{}", opened.text());
    assert!(!opened.text().contains(" 127.0.0.1 8"), "{}", opened.text());
}
