//! A server that is drained: what comes new is turned away, what is there goes on, until the
//! deadline.

use std::time::Duration;

use serde_json::json;

use crate::support::http::{get, get_json, metric, post_json};
use crate::support::process::run_any;
use crate::support::publish::{Publisher, SOUND, announce};
use crate::support::rtsp::Client;
use crate::support::secure::{SecureClient, start, url};
use crate::support::server::{Options, Server, binary};
use crate::support::session::{Lower, Session};
use crate::support::tunnel::Tunnel;
use crate::support::wait::{PATIENCE, until};

const LIVE: &str = "[path.\"live/a\"]\n";

fn two_shards(config: &str) -> Server {
    Server::start(&Options { shards: "0,1", config: Some(config), ..Options::default() })
}

fn drain(server: &Server, order: &serde_json::Value) -> serde_json::Value {
    let (status, state) = post_json(server.admin, "/v1/drain", "", order);
    assert_eq!(status, 200, "{state}");
    state
}

#[test]
fn new_sessions_are_turned_away_on_every_shard_and_playing_ones_go_on() {
    let server = two_shards(LIVE);
    let mut playing = Session::open(server.rtsp, &server.demo_url(), Lower::Udp);
    playing.play(&[]);
    playing.receive_packets(5, PATIENCE);
    let mut publisher = Publisher::start(&server, "live/a", SOUND, Lower::Tcp);
    let state = drain(&server, &json!({}));
    assert_eq!((&state["state"], &state["sessions"]), (&json!("draining"), &json!(2)));
    assert_eq!(get(server.admin, "/readyz").0, 503);
    assert_eq!(metric(server.admin, "headend_draining"), Some(2.0), "both shards");
    for _ in 0..16 {
        let mut client = Client::connect(server.rtsp);
        client.request("OPTIONS", &server.demo_url(), &[]).expect(200);
        for (method, url) in [("DESCRIBE", server.demo_url()), ("SETUP", server.url("live/a"))] {
            let refused = client.request(method, &url, &[]).expect(503);
            assert_eq!(refused.header("Retry-After"), Some("60"), "{method}");
        }
        let refused = announce(&mut client, &server.url("live/b"), SOUND).expect(503);
        assert_eq!(refused.header("Retry-After"), Some("60"));
    }
    // What is there goes on, by connections of every shard.
    let header = [("Session", playing.id.clone())];
    let header = [(header[0].0, header[0].1.as_str())];
    for _ in 0..8 {
        let mut other = Client::connect(server.rtsp);
        other.request("PAUSE", &server.demo_url(), &header).expect(200);
        other.request("PLAY", &server.demo_url(), &header).expect(200);
    }
    playing.receive_packets(20, PATIENCE);
    publisher.request("GET_PARAMETER").expect(200);
    let (status, _) = post_json(server.admin, "/v1/undrain", "", &json!({}));
    assert_eq!(status, 200);
    assert_eq!(get(server.admin, "/readyz").0, 200);
    let mut new = Session::open(server.rtsp, &server.demo_url(), Lower::Tcp);
    new.play(&[]);
    new.receive_packets(5, PATIENCE);
    playing.request("TEARDOWN", &[]).expect(200);
}

#[test]
fn clients_are_sent_to_the_other_server_with_path_and_query() {
    let server = two_shards("[server]\nredirect = [\"rtsp://b.example:8554\"]\n");
    drain(&server, &json!({}));
    let mut client = Client::connect(server.rtsp);
    for (method, path, expected) in [
        ("DESCRIBE", "vod/a%20b.mp4?token=x", "vod/a%20b.mp4?token=x"),
        ("SETUP", "demo/trackID=1", "demo"),
    ] {
        let moved = client.request(method, &server.url(path), &[]).expect(302);
        let location = format!("rtsp://b.example:8554/{expected}");
        assert_eq!(moved.header("Location"), Some(location.as_str()));
    }
    let moved = announce(&mut client, &server.url("live/a"), SOUND).expect(302);
    assert_eq!(moved.header("Location"), Some("rtsp://b.example:8554/live/a"));
    let (_, text) = get(server.admin, "/metrics");
    let counted = text.lines().filter(|line| {
        line.starts_with("headend_drain_answers_total{") && line.contains("answer=\"redirect\"")
    });
    let counted: f64 =
        counted.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
    assert!((counted - 3.0).abs() < 0.1, "{counted}");
    // An order of its own beats the configuration.
    drain(&server, &json!({ "redirect": [] }));
    client.request("DESCRIBE", &server.demo_url(), &[]).expect(503);
}

#[test]
fn clients_in_tunnels_and_with_tls_are_turned_away_too() {
    let (server, _files) = start("", &Options { shards: "2", ..Options::default() });
    drain(&server, &json!({ "redirect": ["rtsp://b.example"] }));
    let mut tunnel = Tunnel::open(server.rtsp, "cookie-of-the-test");
    let moved = tunnel.request("DESCRIBE", &server.demo_url(), "");
    assert!(moved.starts_with("RTSP/1.0 302"), "{moved}");
    assert!(moved.contains("Location: rtsp://b.example/demo\r\n"), "{moved}");
    let mut secure = SecureClient::connect(server.rtsps());
    let (status, text) = secure.request("DESCRIBE", &url(&server, "demo"), &[]);
    assert_eq!(status, 503, "never to a server without TLS: {text}");
    drain(&server, &json!({ "redirect": ["rtsp://b.example", "rtsps://b.example"] }));
    let (status, text) = secure.request("DESCRIBE", &url(&server, "demo"), &[]);
    assert_eq!(status, 302);
    assert!(text.contains("Location: rtsps://b.example/demo\r\n"), "{text}");
}

#[test]
fn sessions_that_are_left_end_at_the_deadline_and_then_the_server() {
    let mut server = two_shards(LIVE);
    let mut sessions = [Lower::Udp, Lower::Tcp, Lower::Udp, Lower::Tcp]
        .map(|lower| Session::open(server.rtsp, &server.demo_url(), lower));
    for session in &mut sessions {
        session.play(&[]);
        session.receive_packets(5, PATIENCE);
    }
    let _publisher = Publisher::start(&server, "live/a", SOUND, Lower::Tcp);
    let state = drain(&server, &json!({ "deadline_s": 2, "exit": true }));
    assert_eq!((&state["sessions"], &state["exit"]), (&json!(5), &json!(true)));
    for session in &mut sessions {
        session.receive_until_bye(PATIENCE);
    }
    let status = server.wait(Duration::from_secs(20)).expect("it ends by itself");
    assert_eq!(status.code(), Some(0));
    server.assert_logs("HE-I406");
}

#[test]
fn drained_server_stays_when_it_is_not_told_to_end() {
    let mut server = two_shards("");
    let mut session = Session::open(server.rtsp, &server.demo_url(), Lower::Tcp);
    session.play(&[]);
    drain(&server, &json!({ "deadline_s": 0 }));
    session.receive_until_bye(PATIENCE);
    until("it is drained", || get_json(server.admin, "/v1/drain")["state"] == "drained");
    server.assert_alive();
}

#[test]
fn operator_drains_and_undrains_by_the_command_line() {
    let mut server = two_shards("");
    let admin = server.admin.to_string();
    let run = |words: &[&str]| {
        let words = [words, &["--admin", &admin]].concat();
        run_any(binary().to_str().unwrap(), &words, PATIENCE)
    };
    let drained = run(&["drain", "--deadline", "10m", "--redirect", "rtsp://b.example:8554"]);
    assert!(drained.status.success(), "{drained:?}");
    assert!(drained.stdout.contains("clients are sent to rtsp://b.example:8554"), "{drained:?}");
    Client::connect(server.rtsp).request("DESCRIBE", &server.demo_url(), &[]).expect(302);
    assert!(run(&["undrain"]).stdout.contains("takes new sessions"));
    Client::connect(server.rtsp).request("DESCRIBE", &server.demo_url(), &[]).expect(200);
    for wrong in [["--deadline", "soon"], ["--redirect", "ftp://b"]] {
        let refused = run(&["drain", wrong[0], wrong[1]]);
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    }
    // An idle server that is told to end when it is empty ends at once.
    assert!(run(&["drain", "--exit"]).status.success());
    assert_eq!(server.wait(Duration::from_secs(20)).and_then(|status| status.code()), Some(0));
}
