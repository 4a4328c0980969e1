//! Commands that wait for paths whose source does not answer.

use super::*;
use crate::base::addresses::{AddressLimit, Addresses};
use crate::live::readers::held::HELD_MAX;
use crate::session::shares::Shares;

/// Three paths whose camera is off.
fn dead() -> Bench {
    let section = |name| {
        format!("[path.\"dead/{name}\"]\nsource = \"rtsp://192.0.2.1/x\"\non_demand = true\n")
    };
    Bench::configured(&["a", "b", "c"].map(section).concat())
}

fn describe(bench: &mut Bench, connection: u32, uri: &str) -> Option<Response> {
    bench.request((connection, host(3, 40_001)), Method::Describe, uri, None, (&[], ""))
}

#[test]
fn many_requests_for_a_dead_path_do_not_block_other_paths() {
    let mut bench = dead();
    bench.publish();
    let mut connections = 100..;
    for (path, count) in [("dead/a", 5_000), ("dead/b", 2_000), ("dead/c", 2_000)] {
        let uri = format!("rtsp://h/{path}");
        let mut held = 0;
        for connection in connections.by_ref().take(count) {
            match describe(&mut bench, connection, &uri) {
                None => held += 1,
                Some(refused) => {
                    assert_eq!(refused.status(), Status::ServiceUnavailable);
                    assert!(refused.header_value("Retry-After").is_some());
                }
            }
        }
        assert!(held > 100, "{path}: {held} wait");
        let live = describe(&mut bench, 1, URL);
        assert_eq!(live.map(|answer| answer.status()), Some(Status::Ok), "beside {path}");
    }
    assert!(bench.sessions.live.readers.held.len() <= HELD_MAX);
    assert!(bench.sessions.cx.cells.commands_not_held.value() > 0);
    bench.pass(Duration::from_secs(12));
    assert_eq!(bench.sessions.live.readers.held.len(), 0, "all are answered");
    assert!(bench.answers.iter().all(|(_, answer)| answer.status() == Status::NotFound));
}

#[test]
fn held_command_of_a_closed_connection_is_dropped() {
    let mut bench = dead();
    for connection in 100..20_000 {
        assert!(describe(&mut bench, connection, "rtsp://h/dead/a").is_none(), "{connection}");
        bench.sessions.handle_connection_closed(entry(connection));
        assert_eq!(bench.sessions.live.readers.held.len(), 0);
    }
    bench.pass(Duration::from_secs(12));
    assert!(bench.answers.is_empty(), "nobody is there to be answered");
}

#[test]
fn interleaved_reader_that_is_paused_needs_a_sign_of_life() {
    let mut bench = Bench::new();
    bench.publish();
    let transport = [("Transport", "RTP/AVP/TCP;unicast;interleaved=0-1")];
    let from = (READER, host(3, 40_001));
    let uri = "rtsp://h/live/a/trackID=0";
    let setup = bench.request(from, Method::Setup, uri, None, (&transport, "")).unwrap();
    let id = session_id(&setup);
    let mut seq = 0;
    let mut pass = |bench: &mut Bench, seconds: u64| {
        for _ in 0..seconds {
            seq += 1;
            bench.packet(host(1, 5_000), seq);
            bench.pass(Duration::from_secs(1));
        }
    };
    bench.request(from, Method::Play, URL, Some(id), (&[], ""));
    pass(&mut bench, 130);
    assert!(bench.sessions.cx.directory.find(id).is_some(), "it plays");
    bench.request(from, Method::Pause, URL, Some(id), (&[], ""));
    for _ in 0..3 {
        pass(&mut bench, 50);
        bench.sessions.touch_connection(entry(READER));
    }
    assert!(bench.sessions.cx.directory.find(id).is_some());
    pass(&mut bench, 62);
    assert!(
        bench.sessions.cx.directory.find(id).is_none(),
        "its connection lives, and says nothing"
    );
}

#[test]
fn readers_and_publishers_are_counted_together_and_by_their_address() {
    let mut bench = Bench::new();
    bench.publish();
    let address = host(3, 40_001);
    let addresses = Arc::new(Addresses::new(AddressLimit::of_all(5), 100));
    bench.sessions.cx.config.addresses = Arc::clone(&addresses);
    let transport = [("Transport", "RTP/AVP/TCP;unicast")];
    let uri = "rtsp://h/live/a/trackID=0";
    let statuses: Vec<u16> = (0..6)
        .map(|n| bench.request((READER + n, address), Method::Setup, uri, None, (&transport, "")))
        .map(|answer| answer.unwrap().status().code())
        .collect();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 453]);
    let from = |connection| (connection, address);
    let announced = |bench: &mut Bench, connection| {
        let answer =
            bench.request(from(connection), Method::Announce, "rtsp://h/b", None, (&[], SDP));
        answer.unwrap().status().code()
    };
    assert_eq!(announced(&mut bench, 90), 453, "its address has five readers");
    bench.sessions.handle_connection_closed(entry(READER));
    assert_eq!(announced(&mut bench, 90), 200, "one has gone");
    for n in 0..100 {
        bench.sessions.handle_connection_closed(entry(n));
    }
    assert_eq!((addresses.counted(), bench.sessions.cx.session_count()), (0, 0));
}

#[test]
fn publishers_of_one_address_leave_room_for_those_of_others() {
    let mut bench = Bench::new();
    let publishers = Arc::new(Addresses::new(AddressLimit::of_all(2), 100));
    bench.sessions.cx.config.shares =
        Arc::new(Shares { publishers: Arc::clone(&publishers), ..Shares::default() });
    let announce = |bench: &mut Bench, connection, from, path: &str| {
        let uri = format!("rtsp://h/live/{path}");
        let answer = bench.request((connection, from), Method::Announce, &uri, None, (&[], SDP));
        answer.unwrap().status().code()
    };
    let [own, other] = [host(3, 40_001), host(4, 40_001)];
    assert_eq!(announce(&mut bench, 90, own, "a"), 200);
    assert_eq!(announce(&mut bench, 91, own, "b"), 200);
    assert_eq!(announce(&mut bench, 92, own, "c"), 453);
    assert_eq!(announce(&mut bench, 93, other, "c"), 200);
    assert_eq!(bench.sessions.cx.cells.publishers_refused.value(), 1);
    bench.sessions.handle_connection_closed(entry(91));
    assert_eq!(announce(&mut bench, 92, own, "b"), 200, "one has gone");
    assert_eq!(publishers.counted(), 3);
}
