//! Pulled sources: a server fetches paths and titles of another one, and from scripted cameras.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::support;
use crate::support::camera::{Camera, Sends, Udp, Wants};
use crate::support::compare::coded_bytes;
use crate::support::demo_clip;
use crate::support::http::sessions;
use crate::support::live::{describe, description, path, state, wait_until_described};
use crate::support::players::{
    assert_read_from_a_key_frame, assert_read_to_the_end, assert_sound_without_a_gap, frames_in,
    frames_of, publish, published_frames, read, read_frames,
};
use crate::support::process::PLAYER_PATIENCE;
use crate::support::server::{Options, Server};
use crate::support::wait::until;
use socket2::{Domain, Socket, Type};

#[test]
fn path_pulled_over_tcp_is_read_as_it_was_published() {
    is_read_as_published("tcp", "tcp");
}

#[test]
fn path_pulled_over_udp_is_read_as_it_was_published() {
    is_read_as_published("udp", "udp");
}

#[test]
fn path_pulled_with_automatic_transport_comes_over_udp() {
    is_read_as_published("auto", "udp");
}

/// Six seconds of the clip: FFmpeg publishes to one server, another pulls, FFmpeg reads from that
/// over UDP and TCP.
fn is_read_as_published(transport: &str, carrier: &str) {
    let origin = Server::start(&Options { config: Some(SHORT_HOLD), ..Options::default() });
    let mut publisher = publish(&origin.url("live/clip"), "tcp", &["-t", "6"]);
    wait_until_described(&origin, "live/clip");
    let edge = puller(&[("live/copy", &origin.url("live/clip"), transport, "")]);
    until("the path is pulled", || state(&edge, "live/copy") == "live");
    let outputs = tempfile::tempdir_in(support::scratch()).unwrap();
    let mut readers = ["udp", "tcp"].map(|way| {
        let to = outputs.path().join(way);
        (read(&edge.url("live/copy"), way, &to), to)
    });
    publisher.assert_ends_well("publisher");
    let (frames, sound) = (published_frames("6"), coded_bytes(&demo_clip(), 1));
    for (reader, to) in &mut readers {
        let what = format!("{} of {transport}", to.file_name().unwrap().to_string_lossy());
        reader.assert_ends_well(&what);
        assert_read_to_the_end(&what, &frames_in(&to.with_extension("video")), &frames);
        let got = std::fs::read(to.with_extension("audio")).unwrap();
        assert_sound_without_a_gap(&what, &got, &sound, 10);
    }
    edge.assert_logs(&format!("\"transport\":\"{carrier}\""));
}

#[test]
fn on_demand_source_is_pulled_for_the_first_reader_and_closed_after_the_last() {
    let origin = Server::with_demo();
    let on_demand = "on_demand = true\nidle_close = \"1s\"\n";
    let edge = puller(&[("live/film", &origin.demo_url(), "udp", on_demand)]);
    assert!(sessions(origin.admin).is_empty(), "nobody wants it yet");
    let outputs = tempfile::tempdir_in(support::scratch()).unwrap();
    let to = outputs.path().join("reader");
    let mut reader = read_frames(&edge.url("live/film"), "tcp", 60, &to, &[""; 0]);
    reader.assert_ends_well("reader");
    let got = frames_in(&to);
    assert_read_from_a_key_frame("reader", &got, &frames_of(&demo_clip()));
    assert_eq!(got.len(), 60);
    until("the origin is left", || sessions(origin.admin).is_empty());
    until("nothing of the path is left", || state(&edge, "live/film") == "idle");
}

#[test]
fn readers_continue_when_their_camera_returns() {
    let mut origin = Server::with_demo();
    let edge = puller(&[("live/cam", &origin.demo_url(), "tcp", "hold = \"60s\"\n")]);
    until("it is pulled", || state(&edge, "live/cam") == "live");
    let outputs = tempfile::tempdir_in(support::scratch()).unwrap();
    let _reader = read(&edge.url("live/cam"), "tcp", &outputs.path().join("reader"));
    let sent = || {
        let reader = sessions(edge.admin).into_iter().find(|s| s["state"] == "playing");
        reader.map_or(0, |reader| {
            let streams = reader["streams"].as_array().unwrap().iter();
            streams.map(|stream| stream["packets_sent"].as_u64().unwrap()).sum()
        })
    };
    until("the reader plays", || sent() > 50);
    let (listen, before) = (origin.rtsp.to_string(), sources_seen(&edge, "live/cam"));
    origin.signal_term();
    assert!(origin.wait(PLAYER_PATIENCE).is_some());
    until("the source is gone", || state(&edge, "live/cam") == "held");
    until("it says why", || path(&edge, "live/cam")["reason"].is_string());
    let at_end = sent();
    let _again = Server::start(&Options { listen: &listen, ..Options::default() });
    until("it is pulled again", || sources_seen(&edge, "live/cam") > before);
    until("the same reader plays on", || sent() > at_end + 50);
}

#[test]
fn cameras_with_basic_and_digest_passwords_are_pulled() {
    for wants in [Wants::Nothing, Wants::Basic, Wants::Digest] {
        let camera = Camera::start(wants, Udp::Overruled);
        let url = format!("rtsp://admin:p%40ss:word@{}/stream", camera.address);
        let edge = puller(&[("live/cam", &url, "auto", "")]);
        until("it is pulled", || state(&edge, "live/cam") == "live");
        until("packets come", || path(&edge, "live/cam")["batches"].as_u64() > Some(5));
        assert!(description(&edge, &edge.url("live/cam")).1.contains("m=audio 0 RTP/AVP 0"));
        let asked = camera.requests();
        let tries = asked.iter().filter(|line| line.starts_with("DESCRIBE")).count();
        assert_eq!(tries, if wants == Wants::Nothing { 1 } else { 2 }, "{asked:?}");
        // A session of six seconds lives on by a keep-alive each two.
        let options = || camera.requests().iter().filter(|l| l.starts_with("OPTIONS")).count();
        until("it is kept alive", || options() > 2);
        assert!(!edge.log().contains("p@ss") && !edge.log().contains("p%40ss"), "{}", edge.log());
        drop(edge);
        assert!(camera.requests().last().unwrap().starts_with("TEARDOWN"));
    }
}

#[test]
fn first_reader_of_an_on_demand_path_is_described_the_in_band_parameter_sets() {
    let camera = Camera::start_sending(Sends::Picture, Wants::Nothing, Udp::Refused);
    let url = format!("rtsp://{}/stream", camera.address);
    let edge = puller(&[("live/cam", &url, "tcp", "on_demand = true\n")]);
    let (status, sdp) = description(&edge, &edge.url("live/cam"));
    assert_eq!(status, 200);
    assert!(sdp.contains("sprop-parameter-sets=Z0LAHtk=,aMuD"), "{sdp}");
    assert!(sdp.contains("profile-level-id=42C01E"), "{sdp}");
}

#[test]
fn camera_without_packets_over_udp_is_set_up_over_tcp() {
    for (udp, plays, set_ups) in [(Udp::Refused, 1, 2), (Udp::Lost, 2, 2)] {
        let camera = Camera::start(Wants::Nothing, udp);
        let url = format!("rtsp://{}/stream", camera.address);
        let edge = puller(&[("live/cam", &url, "auto", "")]);
        until("packets come", || path(&edge, "live/cam")["batches"].as_u64() > Some(5));
        let count =
            |method: &str| camera.requests().iter().filter(|line| line.starts_with(method)).count();
        assert_eq!((count("PLAY"), count("SETUP")), (plays, set_ups), "{udp:?}");
        assert_eq!(reason(&edge, "live/cam"), None, "nothing has failed");
    }
}

#[test]
fn wrong_password_is_shown_with_the_time_of_the_next_try() {
    let camera = Camera::start(Wants::Digest, Udp::Overruled);
    let url = format!("rtsp://admin:wrong@{}/stream", camera.address);
    let edge = puller(&[("live/cam", &url, "tcp", "")]);
    until("it has failed", || state(&edge, "live/cam") == "failed");
    let shown = path(&edge, "live/cam");
    assert_eq!(shown["reason"], "401: user name or password is wrong");
    assert!(shown["retry_after_s"].as_u64() > Some(0), "{shown}");
    until("it is tried again, later each time", || {
        path(&edge, "live/cam")["retry_after_s"].as_u64() > Some(1)
    });
    edge.assert_logs("user name or password is wrong");
}

#[test]
fn dead_cameras_do_not_delay_other_paths_and_are_shown_with_reasons() {
    let origin = Server::with_demo();
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let silent = (format!("rtsp://{}/x", silent.local_addr().unwrap()), silent);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let closed = format!("rtsp://{}/x", listener.local_addr().unwrap());
    drop(listener);
    let nameless = "rtsp://no-such-host.invalid/x";
    let (hole, _filled) = black_hole();
    let mut paths: Vec<(String, String)> =
        (0..20).map(|n| (format!("live/dead{n}"), silent.0.clone())).collect();
    paths.push(("live/closed".to_owned(), closed));
    paths.push(("live/nameless".to_owned(), nameless.to_owned()));
    paths.push(("live/hole".to_owned(), format!("rtsp://{hole}/x")));
    paths.push(("live/good".to_owned(), origin.demo_url()));
    let paths: Vec<_> =
        paths.iter().map(|(path, url)| (path.as_str(), url.as_str(), "tcp", "")).collect();
    let edge = puller(&paths);
    until("the good one is there", || state(&edge, "live/good") == "live");
    assert_eq!(state(&edge, "live/dead0"), "starting", "it is still waited for");
    until("all that are dead have failed", || {
        paths.iter().all(|(path, ..)| *path == "live/good" || reason(&edge, path).is_some())
    });
    let why = reason(&edge, "live/dead7").unwrap();
    assert_eq!(why, "DESCRIBE takes longer than 10 s");
    let why = reason(&edge, "live/closed").unwrap();
    assert!(why.contains("no connection to 127.0.0.1"), "{why}");
    let why = reason(&edge, "live/hole").unwrap();
    assert!(why.ends_with("no answer in 5 s"), "{why}");
    let why = reason(&edge, "live/nameless").unwrap();
    assert!(why.contains("name of its host"), "{why}");
    assert_eq!(describe(&edge, "live/good"), 200);
}

/// An address that does not answer a SYN: a listener that takes nobody, with its queue full.
fn black_hole() -> (SocketAddr, Vec<Socket>) {
    let new = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let listener = new();
    listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut sockets = vec![listener];
    for _ in 0..4 {
        let client = new();
        client.set_nonblocking(true).unwrap();
        // Begun at least.
        let _waits = client.connect(&address);
        sockets.push(client);
    }
    (address.as_socket().unwrap(), sockets)
}

/// A server that pulls: path, URL, transport, more lines.
fn puller(paths: &[(&str, &str, &str, &str)]) -> Server {
    let mut config = "[path.\"*\"]\nhold = \"1s\"\n".to_owned();
    for (path, url, transport, more) in paths {
        config += &format!(
            "[path.\"{path}\"]\nsource = \"{url}\"\nsource_transport = \"{transport}\"\n{more}"
        );
    }
    Server::start(&Options { shards: "2", config: Some(&config), ..Options::default() })
}

fn reason(server: &Server, name: &str) -> Option<String> {
    path(server, name)["reason"].as_str().map(str::to_owned)
}

fn sources_seen(server: &Server, name: &str) -> u64 {
    path(server, name)["sources_seen"].as_u64().unwrap_or(0)
}

/// Readers end soon after their publisher.
const SHORT_HOLD: &str = "[path.\"*\"]\nhold = \"1s\"\n";
