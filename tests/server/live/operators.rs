//! What an operator sees and does of live paths: API, metrics, command line, log.
//!
//! FFmpeg publishes and reads; the program itself is the client of its API.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use std::process::Stdio;

use serde_json::Value;

use crate::support::http::{get, get_json, metric, sessions};
use crate::support::players::{player, publish};
use crate::support::process::{Finished, Kept, PLAYER_PATIENCE, run_any, wait_for};
use crate::support::server::{Options, Server, binary};
use crate::support::wait::until;

#[test]
fn path_is_shown_counted_and_ended_by_name() {
    let server = Server::start(&Options { shards: "2", ..Options::default() });
    let mut publisher = publish_again_and_again(&server, "live/clip", "tcp");
    let is_live = || get(server.admin, "/v1/paths/live/clip").1.contains("\"recording\"");
    until("the path is published", is_live);
    let mut readers = ["udp", "tcp"].map(|way| read(&server, "live/clip", way));
    let path = || get_json(server.admin, "/v1/paths/live/clip");
    until("rate, group of pictures and both readers are known", || {
        let path = path();
        path["source"]["bits_per_s"].as_u64() > Some(0)
            && path["source"]["gop_s"].is_f64()
            && path["packets_sent"]["udp"].as_u64() > Some(0)
            && path["packets_sent"]["tcp"].as_u64() > Some(0)
    });
    assert_path(&path());
    assert_sessions(&server);
    assert_metrics(&server);
    assert_command_line(&server);

    let counted = |name| metric(server.admin, name).unwrap();
    let names = ["headend_rtp_packets_received_total", "headend_path_sent_packets_total"];
    let before = names.map(counted);
    let kicked = headend(&server, &["path", "kick", "live/clip"]);
    assert!(kicked.status.success(), "{kicked:?}");
    assert!(kicked.stdout.starts_with("live/clip: ended (publish 127.0.0.1:"), "{kicked:?}");
    assert!(kicked.stdout.contains("; 2 readers)"), "{kicked:?}");
    let status = wait_for(&mut publisher.0, PLAYER_PATIENCE);
    assert!(status.is_some_and(|status| !status.success()), "publisher: {status:?}");
    for reader in &mut readers {
        let status = wait_for(&mut reader.0, PLAYER_PATIENCE);
        assert!(status.is_some_and(|status| status.success()), "reader: {status:?}");
    }
    until("nothing of the path is left", || get(server.admin, "/v1/paths/live/clip").0 == 404);
    assert!(sessions(server.admin).is_empty());
    assert_eq!(metric(server.admin, "headend_source_up"), Some(0.0));
    let after = names.map(counted);
    assert!(
        before.iter().zip(after).all(|(before, after)| *before <= after),
        "{before:?} {after:?}"
    );
    for line in [
        "path live/clip source up h264+aac from 127.0.0.1 over tcp",
        "path live/clip source down: the path has ended",
        "\"code\":\"HE-I301\",\"event\":\"source.up\",\"path\":\"live/clip\"",
    ] {
        server.assert_logs(line);
    }
}

#[test]
fn publisher_over_udp_is_a_session_that_can_be_ended() {
    let server = Server::with_demo();
    let mut publisher = publish_again_and_again(&server, "live/clip", "udp");
    let publishers = || get_json(server.admin, "/v1/sessions?role=publisher&state=recording");
    until("it publishes", || publishers()["sessions"][0]["source"]["packets"].as_u64() > Some(0));
    let listed = headend(&server, &["session", "ls", "--path", "live/clip", "--json"]);
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    let id = listed["sessions"][0]["id"].as_str().unwrap();
    let shown = headend(&server, &["session", "show", id]);
    assert!(shown.stdout.contains("publisher of live/clip, recording"), "{shown:?}");
    let kicked = headend(&server, &["session", "kick", id]);
    assert_eq!(kicked.stdout, format!("{id}: ended\n"));
    let status = wait_for(&mut publisher.0, PLAYER_PATIENCE);
    assert!(status.is_some_and(|status| !status.success()), "publisher: {status:?}");
    let again = headend(&server, &["session", "kick", id]);
    assert_eq!(again.status.code(), Some(1));
    assert!(again.stderr.contains(&format!("no session `{id}`")), "{again:?}");
}

#[test]
fn unreachable_server_gives_exit_code_3() {
    let server = Server::with_demo();
    let admin = server.admin.to_string();
    drop(server);
    for verb in [&["path", "ls"][..], &["session", "ls"], &["path", "kick", "live/a"]] {
        let words = [verb, &["--admin", &admin]].concat();
        let ended = run_any(binary().to_str().unwrap(), &words, PLAYER_PATIENCE);
        assert_eq!(ended.status.code(), Some(3), "{ended:?}");
        assert!(ended.stderr.starts_with(&format!("headend: no answer from the API at {admin}")));
    }
}

fn assert_path(path: &Value) {
    let source = &path["source"];
    assert_eq!((&path["state"], &path["has_cached_picture"]), (&"live".into(), &true.into()));
    assert!(path["kept_bytes"].as_u64() > Some(0), "{path}");
    assert_eq!((&source["kind"], &source["transport"]), (&"publish".into(), &"tcp".into()));
    assert!(source["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{source}");
    assert!(source["user_agent"].as_str().unwrap().starts_with("Lavf"), "{source}");
    // The clip has a key frame each second.
    assert_eq!((&source["gop_s"], &source["packets_lost"]), (&1.0.into(), &0.into()));
    let track = |index: usize| -> [&Value; 3] {
        ["media", "encoding", "clock_rate_hz"].map(|key| &source["tracks"][index][key])
    };
    assert_eq!(track(0), [&Value::from("video"), &"H264".into(), &90_000.into()]);
    assert_eq!(track(1)[..2], [&Value::from("audio"), &"MPEG4-GENERIC".into()]);
    let readers = &path["readers"];
    assert_eq!((&readers["udp"], &readers["tcp"]), (&1.into(), &1.into()));
    let skips = path["skips"].as_object().unwrap();
    assert!(skips.len() == 3 && skips.values().all(|count| *count == 0), "{path}");
}

fn assert_sessions(server: &Server) {
    let list = |query: &str| get_json(server.admin, &format!("/v1/sessions{query}"));
    let of_path = list("?path=live/clip");
    assert_eq!(of_path["sessions"].as_array().unwrap().len(), 3);
    assert!(list("?path=live/other")["sessions"].as_array().unwrap().is_empty());
    let readers = list("?role=reader");
    for session in readers["sessions"].as_array().unwrap() {
        let reader = &session["reader"];
        assert_eq!(reader["carrier"], session["transport"], "{session}");
        assert!(reader["lag_s"].is_f64() && reader["packets_skipped"].is_u64(), "{session}");
    }
}

fn assert_metrics(server: &Server) {
    let (_, text) = get(server.admin, "/metrics");
    for line in [
        "headend_paths{state=\"live\"} 1",
        "headend_source_up{path=\"live/clip\"} 1",
        "headend_source_starts_total{path=\"live/clip\"} 1",
        "headend_path_readers{path=\"live/clip\",transport=\"udp\"} 1",
        "headend_path_readers{path=\"live/clip\",transport=\"tcp\"} 1",
        "headend_rtp_packets_lost_total{path=\"live/clip\",dir=\"in\"} 0",
        "headend_rtp_packets_dropped_total{path=\"live/clip\",reason=\"foreign_ssrc\"} 0",
        "headend_path_reader_skips_total{path=\"live/clip\",reason=\"tcp_window\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    for name in [
        "headend_path_received_bytes_total",
        "headend_rtp_packets_received_total",
        "headend_path_sent_bytes_total",
        // Of the shards: live packets count there as well.
        "headend_source_packets_received_total",
        "headend_rtp_packets_sent_total",
        "headend_rtp_payload_bytes_sent_total",
    ] {
        assert!(metric(server.admin, name) > Some(0.0), "{name}");
    }
}

fn assert_command_line(server: &Server) {
    let listed = headend(server, &["path", "ls", "--json"]);
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!(listed["paths"][0]["path"], "live/clip");
    let listed = headend(server, &["path", "ls"]);
    let words: Vec<_> = listed.stdout.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(words[..3], ["live/clip", "live", "publish"], "{listed:?}");
    let shown = headend(server, &["path", "show", "live/clip"]);
    assert!(shown.stdout.contains("H264/90000"), "{shown:?}");
    let missing = headend(server, &["path", "show", "live/none"]);
    assert_eq!(missing.status.code(), Some(1));
    assert_eq!(missing.stderr, "headend: no path `live/none`; there is live/clip\n");
    let listed = headend(server, &["session", "ls"]);
    assert_eq!(listed.stdout.lines().count(), 4, "{listed:?}");
}

/// The program, asking this server.
fn headend(server: &Server, words: &[&str]) -> Finished {
    let admin = server.admin.to_string();
    let words = [words, &["--admin", &admin]].concat();
    run_any(binary().to_str().unwrap(), &words, PLAYER_PATIENCE)
}

/// Publishes the clip at its own speed, again and again.
fn publish_again_and_again(server: &Server, path: &str, transport: &str) -> Kept {
    publish(&server.url(path), transport, &["-stream_loop", "-1"])
}

/// Reads a path until it ends.
fn read(server: &Server, path: &str, transport: &str) -> Kept {
    let mut command = player(&server.url(path), transport);
    Kept::start(command.args(["-c", "copy", "-f", "null", "-"]).stderr(Stdio::null()))
}
