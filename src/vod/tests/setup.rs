//! SETUP: shared sockets, channels, limits, and sessions that replace others.

use crate::base::ids::ShardId;
use crate::rtsp::request::Method;
use crate::vod::tests::{BASE, Bench, session_id, status};

#[test]
fn client_address_that_is_used_twice_gets_another_pair() {
    let mut bench = Bench::new();
    let ports = |response: &crate::rtsp::response::Response| {
        let transport = response.header_value("Transport").unwrap();
        let mut parts = transport.split(';');
        parts.find_map(|part| part.strip_prefix("server_port=")).unwrap().to_owned()
    };
    let responses: Vec<_> = (0..3).map(|_| bench.setup_udp(0, None, 5_000)).collect();
    let pairs: Vec<String> = responses.iter().map(ports).collect();
    assert_eq!(pairs, ["8000-8001", "8002-8003", "8004-8005"]);
    assert_eq!(bench.sessions.cx.sockets.tuple_count(), 3);
    // A further pair is closed with its last session, and opened again when it is needed.
    let id = session_id(&responses[1]);
    bench.request(1, Method::Teardown, BASE, Some(id), &[]).unwrap();
    assert_eq!(bench.sessions.cx.sockets.tuple_count(), 2);
    assert_eq!(ports(&bench.setup_udp(0, None, 5_000)), "8006-8007");
    assert_eq!(bench.pairs_opened, 4);
}

#[test]
fn client_address_that_is_used_on_every_pair_is_refused_and_leaves_nothing() {
    let mut bench = Bench::new();
    for port in 0..64 {
        assert_eq!(status(&bench.setup_from(port, 5_000)), 200);
    }
    assert_eq!(status(&bench.setup_from(99, 5_000)), 453);
    assert_eq!((bench.sessions.vod.players.count(), bench.pairs_opened), (64, 64));
}

#[test]
fn connection_with_too_many_sessions_is_refused() {
    let mut bench = Bench::new();
    for _ in 0..64 {
        assert_eq!(status(&bench.setup_tcp(0, None)), 200);
    }
    assert_eq!(status(&bench.setup_tcp(0, None)), 453);
    assert_eq!(bench.sessions.vod.players.count(), 64);
}

#[test]
fn channels_are_never_shared() {
    let mut bench = Bench::new();
    let mut seen = Vec::new();
    for _ in 0..64 {
        let first = bench.setup_tcp(0, None);
        let second = bench.setup_tcp(1, Some(session_id(&first)));
        for response in [first, second] {
            seen.push(response.header_value("Transport").unwrap().to_owned());
        }
    }
    let channels: std::collections::HashSet<&str> = seen
        .iter()
        .map(|text| text.split(';').find(|part| part.starts_with("interleaved=")).unwrap())
        .collect();
    assert_eq!(channels.len(), 128);
}

#[test]
fn interleaved_session_is_unknown_to_a_connection_of_another_shard_with_the_same_index() {
    let mut bench = Bench::new();
    let id = session_id(&bench.setup_tcp(0, None));
    let answer = bench.setup_on_shard(ShardId(1), id);
    assert_eq!(status(&answer), 454);
    assert_eq!(bench.session(id).streams.len(), 1);
}

#[test]
fn paused_session_is_replaced_by_a_setup_without_teardown() {
    // Rule C7: FFmpeg falls back to TCP like that.
    let mut bench = Bench::new();
    let old = bench.opened();
    bench.play(old, &[]).unwrap();
    bench.pause(old);
    let new = session_id(&bench.setup_tcp(0, None));
    assert_eq!(bench.sessions.cx.directory.find(old), None);
    assert_ne!(old, new);
    assert_eq!(
        (bench.sessions.vod.players.count(), bench.sessions.cx.sockets.tuple_count()),
        (1, 0)
    );
}

#[test]
fn transports_that_cannot_be_served_are_refused_with_461() {
    let mut bench = Bench::new();
    let uri = format!("{BASE}/trackID=0");
    for transport in [
        "RTP/AVP;multicast",
        "RTP/SAVP;unicast;client_port=5000-5001",
        "RTP/AVP;unicast",
        "RTP/AVP;unicast;client_port=5000-5000",
        "RTP/AVP;unicast;destination=192.0.2.9;client_port=5000-5001",
        "RTP/AVP;unicast;client_port=5000-5001;mode=record",
    ] {
        let headers = [("Transport", transport)];
        let answer = bench.request(1, Method::Setup, &uri, None, &headers).unwrap();
        assert_eq!(status(&answer), 461, "{transport}");
    }
    assert_eq!(
        (bench.sessions.vod.players.count(), bench.sessions.cx.sockets.tuple_count()),
        (0, 0)
    );
}
