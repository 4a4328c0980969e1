//! Commands that wait for paths whose source does not answer.

use super::*;
use crate::session::live::held::HELD_MAX;

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
fn crowd_at_a_dead_path_keeps_nobody_from_other_paths() {
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
    assert!(bench.sessions.live.held.len() <= HELD_MAX);
    assert!(bench.sessions.cells.commands_not_held.value() > 0);
    bench.pass(Duration::from_secs(12));
    assert_eq!(bench.sessions.live.held.len(), 0, "all are answered");
    assert!(bench.answers.iter().all(|(_, answer)| answer.status() == Status::NotFound));
}

#[test]
fn command_of_a_closed_connection_waits_no_more() {
    let mut bench = dead();
    for connection in 100..20_000 {
        assert!(describe(&mut bench, connection, "rtsp://h/dead/a").is_none(), "{connection}");
        bench.sessions.handle_connection_closed(entry(connection));
        assert_eq!(bench.sessions.live.held.len(), 0);
    }
    bench.pass(Duration::from_secs(12));
    assert!(bench.answers.is_empty(), "nobody is there to be answered");
}
