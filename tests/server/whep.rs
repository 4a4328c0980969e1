//! WHEP from outside: who may, what is answered to right and wrong offers, and that sessions end.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on has failed, and says where"
)]

use std::process::Command;

use headend::cli::urls::Routes;

use crate::support::hls::{ask, ask_with, get};
use crate::support::http;
use crate::support::login::{basic, users};
use crate::support::process::{PLAYER_PATIENCE, run_command};
use crate::support::publish::{PICTURES_AND_SOUND, Publisher};
use crate::support::scratch;
use crate::support::server::{Options, Server, binary};
use crate::support::session::Lower;
use crate::support::wait::{PATIENCE, until};
use crate::support::whep::{OFFER, made, post, publish_again_and_again, publish_low_latency};

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
fn viewer_who_has_not_connected_makes_room_for_the_next_one() {
    let config = "[webrtc]\nviewers_max = 1\n";
    let server = Server::start(&Options { config: Some(config), ..ON });
    let hls = server.hls();
    let _publisher = Publisher::start(&server, "live/a", PICTURES_AND_SOUND, Lower::Tcp);
    let first = post(hls, "live/a", "", OFFER);
    assert_eq!(first.status, 201, "{}", first.text());
    let early = post(hls, "live/a", "", OFFER);
    assert_eq!((early.status, early.header("retry-after")), (503, "2"), "{}", early.text());
    // Garbage takes nobody's place, however long it has been there.
    let mut second = early;
    until("the first one has had its time", || {
        assert!(matches!(post(hls, "live/a", "", "v=0\r\n").status, 400 | 503));
        second = post(hls, "live/a", "", OFFER);
        second.status == 201
    });
    assert_eq!(used(&server, "webrtc_viewers"), 1);
    assert_eq!(ask(hls, "DELETE", first.header("location"), "").status, 404);
    assert_eq!(ask(hls, "DELETE", second.header("location"), "").status, 200);
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

fn rows(server: &Server) -> Vec<serde_json::Value> {
    http::sessions(server.admin)
}

#[test]
fn viewer_is_a_session_of_the_api_which_an_operator_ends() {
    let server = Server::start(&ON);
    let hls = server.hls();
    let _publisher = Publisher::start(&server, "live/a", PICTURES_AND_SOUND, Lower::Tcp);
    let opened = post(hls, "live/a", "User-Agent: tv/1\r\n", OFFER);
    assert_eq!(opened.status, 201, "{}", opened.text());
    let all = rows(&server);
    let row = all.iter().find(|row| row["transport"] == "webrtc").unwrap();
    for (key, value) in [
        ("role", "reader"),
        ("state", "ready"),
        ("path", "live/a"),
        ("peer", "127.0.0.1"),
        ("user_agent", "tv/1"),
    ] {
        assert_eq!(row[key], value, "{row}");
    }
    assert!(row["shard"].is_null() && row["streams"][0]["encoding"] == "H264", "{row}");
    let id = row["id"].as_str().unwrap();
    assert!(!opened.header("location").to_uppercase().contains(id), "the URL is a secret");
    let one = http::get_json(server.admin, &format!("/v1/sessions/{id}"));
    assert_eq!(one["path"], "live/a");
    let found = http::get_json(server.admin, "/v1/sessions?q=tv/1&path=live/a&role=reader");
    assert_eq!(found["sessions"].as_array().unwrap().len(), 1, "{found}");
    let paged = http::get_json(server.admin, "/v1/sessions?limit=1");
    let cursor = paged["next_cursor"].as_str().unwrap();
    let rest = http::get_json(server.admin, &format!("/v1/sessions?limit=1&cursor={cursor}"));
    assert_eq!((&rest["sessions"][0]["id"], rest["next_cursor"].is_null()), (&row["id"], true));
    let order = serde_json::json!({ "shard": 0 });
    let moved = http::post_json(server.admin, &format!("/v1/sessions/{id}/move"), "", &order);
    assert_eq!(moved.0, 409, "{}", moved.1);
    let keys = serde_json::json!({ "channel": 1 });
    let tuned = http::post_json(server.admin, &format!("/v1/sessions/{id}/events"), "", &keys);
    assert!(tuned.1["detail"].as_str().unwrap().contains("line-up"), "{}", tuned.1);
    let path = http::get_json(server.admin, "/v1/paths/live/a");
    assert_eq!((&path["readers"]["webrtc"], &path["readers"]["hls"]), (&1.into(), &0.into()));
    let ended = ask(server.admin, "DELETE", &format!("/v1/sessions/{id}"), "");
    assert_eq!(ended.status, 200, "{}", ended.text());
    assert_eq!(used(&server, "webrtc_viewers"), 0);
    assert_eq!(ask(server.admin, "DELETE", &format!("/v1/sessions/{id}"), "").status, 404);
    assert_eq!(ask(hls, "DELETE", opened.header("location"), "").status, 404);
}

#[test]
fn viewer_who_may_not_watch_any_more_is_ended_when_the_file_is_read_again() {
    let file = |names: &[&str], read: &str| {
        let users = users(names, false);
        format!("{users}[path.\"live/a\"]\nread = {read}\npublish = [\"any\"]\n")
    };
    let config = file(&["ann", "bob"], "[\"users\"]");
    let server = Server::start(&Options { config: Some(&config), ..ON });
    let _publisher = Publisher::start(&server, "live/a", PICTURES_AND_SOUND, Lower::Tcp);
    let watch = |name: &str| {
        let header = format!("Authorization: {}\r\n", basic(name, &format!("{name}-secret")));
        post(server.hls(), "live/a", &header, OFFER).status
    };
    let reload = |text: &str| {
        server.write_config(text);
        assert_eq!(http::post(server.admin, "/v1/config:reload").0, 200);
    };
    let users_of = || {
        let rows = rows(&server);
        let viewers = rows.iter().filter(|row| row["transport"] == "webrtc");
        let mut names: Vec<_> =
            viewers.map(|row| row["user"].as_str().unwrap_or("-").to_owned()).collect();
        names.sort();
        names
    };
    // Each step begins with viewers who have just come, and none of them has given up meanwhile.
    let nobody_gave_up = || {
        let (_, text) = http::get(server.admin, "/metrics");
        assert!(text.contains("headend_whep_not_connected_total 0\n"), "{text}");
    };
    assert_eq!([watch("ann"), watch("bob")], [201, 201]);
    assert_eq!(users_of(), ["ann", "bob"]);
    reload(&file(&["ann", "bob", "eve"], "[\"users\"]"));
    reload(&file(&["ann", "eve"], "[\"users\"]"));
    until("bob is removed", || users_of() == ["ann"]);
    nobody_gave_up();
    assert_eq!([watch("bob"), watch("ann")], [401, 201]);
    reload(&file(&["ann", "eve"], "[\"user:eve\"]"));
    until("ann has lost the right", || users_of().is_empty());
    nobody_gave_up();
    assert_eq!([watch("ann"), watch("eve")], [403, 201]);
    reload(&file(&["eve"], "[\"10.0.0.0/8\"]"));
    until("nobody of this host may", || users_of().is_empty());
    nobody_gave_up();
}

#[test]
fn path_that_has_begun_again_is_watched_at_once() {
    let server = Server::start(&ON);
    let hls = server.hls();
    let publisher = Publisher::start(&server, "live/a", PICTURES_AND_SOUND, Lower::Tcp);
    assert_eq!(post(hls, "live/a", "", OFFER).status, 201);
    drop(publisher);
    until("the path has ended", || used(&server, "webrtc_viewers") == 0);
    assert_eq!(post(hls, "live/a", "", OFFER).status, 404);
    let _publisher = Publisher::start(&server, "live/a", PICTURES_AND_SOUND, Lower::Tcp);
    let opened = post(hls, "live/a", "", OFFER);
    assert_eq!(opened.status, 201, "{}", opened.text());
}

#[test]
fn clients_of_hls_are_counted_by_path() {
    let server = Server::start(&ON);
    let _publisher = publish_low_latency(&server, "aac");
    until("the path plays", || get(server.hls(), "/live/a/index.m3u8").status == 200);
    let readers = || http::get_json(server.admin, "/v1/paths/live/a")["readers"].clone();
    assert_eq!(readers()["hls"], 0, "nobody has begun");
    for agent in ["one", "two", "one"] {
        let header = format!("User-Agent: {agent}\r\n");
        assert_eq!(ask(server.hls(), "GET", "/live/a/main.m3u8", &header).status, 200);
    }
    assert_eq!(readers()["hls"], 2);
}

/// A proxy on this machine is all that asks: its address is of no use to a browser elsewhere.
#[test]
fn viewer_behind_a_proxy_of_this_machine_is_told_the_addresses_of_the_machine() {
    let server = Server::start(&Options { webrtc: "0.0.0.0:0", ..ON });
    let _publisher = Publisher::start(&server, "live/a", PICTURES_AND_SOUND, Lower::Tcp);
    let candidates = |headers: &str| {
        let opened = post(server.hls(), "live/a", headers, OFFER);
        assert_eq!(opened.status, 201, "{}", opened.text());
        let lines = opened.text().lines().filter(|line| line.starts_with("a=candidate:"));
        let mut found: Vec<String> =
            lines.map(|line| line.split(' ').nth(4).unwrap().to_owned()).collect();
        found.sort();
        found.dedup();
        found
    };
    assert_eq!(candidates(""), ["127.0.0.1"], "a browser of this machine");
    let own = Routes::discover().v4.map(|ip| ip.to_string());
    let mut expected: Vec<_> = own.into_iter().chain(["127.0.0.1".to_owned()]).collect();
    expected.sort();
    assert_eq!(candidates("X-Forwarded-For: 203.0.113.9\r\n"), expected);
}

/// A player of WHEP that is neither a browser nor the library that serves it.
#[test]
fn gstreamer_plays_pictures_and_sound() {
    // Its sockets are those of the machine's network: it tries no loopback.
    let Some(own) = Routes::discover().v4 else {
        println!("skipped: this machine has no route");
        return;
    };
    let config = format!("[webrtc]\nhosts = [\"{own}\"]\n");
    let options = Options { webrtc: "0.0.0.0:0", config: Some(&config), ..ON };
    let server = Server::start(&options);
    let video = ["-f", "lavfi", "-i", "testsrc=size=320x180:rate=25:duration=10"];
    let sound = ["-f", "lavfi", "-i", "sine=duration=10:sample_rate=48000", "-c:a", "libopus"];
    let codecs = ["-c:v", "libx264", "-preset", "ultrafast", "-bf", "0", "-g", "25", "-ac", "2"];
    let arguments = [&video[..], &sound, &codecs, &["-pix_fmt", "yuv420p"]].concat();
    let file = made("for_gstreamer.mp4", &arguments);
    let _publisher = publish_again_and_again(&server, &file);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/whep_viewer.py");
    let url = format!("http://{}/live/a/whep", server.hls());
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    let certificate = folder.path().join("both.pem");
    let made = folder.path().join("tls");
    let mut command = Command::new(binary());
    command.args(["cert", "self-signed", "--host", "viewer", "--out"]).arg(&made);
    assert!(run_command(&mut command, PATIENCE).status.success());
    let read = |name: &str| std::fs::read_to_string(made.join(name)).unwrap();
    std::fs::write(&certificate, read("cert.pem") + &read("key.pem")).unwrap();
    let mut command = Command::new("/usr/bin/python3");
    command.args([script, &url, "50"]).arg(&certificate);
    let played = run_command(&mut command, PLAYER_PATIENCE);
    assert!(played.status.success(), "{}\n{}", played.stdout, played.stderr);
    assert_eq!(played.stdout.trim(), "320 180 2");
    until("it has ended its session", || used(&server, "webrtc_viewers") == 0);
}
