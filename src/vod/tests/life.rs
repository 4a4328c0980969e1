//! Lifetime of sessions, and the state after their end.

use std::net::SocketAddr;
use std::time::Duration;

use crate::rtsp::request::Method;
use crate::vod::tests::{BASE, Bench, PEER, entry, session_id, status};

const SECOND: Duration = Duration::from_secs(1);

/// A reduced-size receiver report without blocks.
const REPORT: [u8; 8] = [0x80, 201, 0, 1, 0, 0, 0, 9];

fn report(bench: &mut Bench) {
    bench.sessions.handle_report_datagram(0, SocketAddr::from((PEER, 5_001)), &REPORT);
}

#[test]
fn silent_udp_client_is_reaped_with_bye_and_leaves_nothing() {
    let mut bench = Bench::new();
    let id = bench.opened();
    bench.play(id, &[("Scale", "0.0625")]).unwrap();
    bench.run_for(SECOND * 59);
    assert!(bench.sessions.cx.directory.find(id).is_some());
    bench.run_for(SECOND * 2);
    assert_eq!(bench.sessions.cx.directory.find(id), None);
    let mut byes = bench.bye_ports();
    byes.sort_unstable();
    assert_eq!(byes, [5_001, 5_003]);
    assert_eq!(
        (bench.sessions.vod.players.count(), bench.sessions.cx.sockets.tuple_count()),
        (0, 0)
    );
    assert!(bench.sessions.cx.directory.of_connection(entry(1)).is_empty());
    assert!(bench.cells.sessions.iter().all(|gauge| gauge.value() == 0));
    // Dead keys go with time.
    bench.run_for(SECOND * 120);
    assert_eq!(bench.sessions.cx.wheel.count(), 0);
}

#[test]
fn receiver_reports_keep_a_session_alive_and_one_key_watches_it() {
    let mut bench = Bench::new();
    let id = bench.opened();
    for _ in 0..30 {
        bench.run_for(SECOND * 10);
        report(&mut bench);
    }
    assert!(bench.sessions.cx.directory.find(id).is_some());
    assert_eq!(bench.sessions.cx.wheel.count(), 1);
}

#[test]
fn udp_session_outlives_its_connection_while_its_client_gives_signs_of_life() {
    let mut bench = Bench::new();
    let id = bench.opened();
    bench.sessions.handle_connection_closed(entry(1));
    for _ in 0..20 {
        bench.run_for(SECOND * 10);
        report(&mut bench);
    }
    assert!(bench.sessions.cx.directory.find(id).is_some());
    assert_eq!(bench.sessions.cx.wheel.count(), 1, "the first watch has ended");
    bench.run_for(SECOND * 16);
    assert_eq!(bench.sessions.cx.directory.find(id), None, "an orphan is looked for sooner");
}

#[test]
fn interleaved_session_ends_with_its_connection() {
    let mut bench = Bench::new();
    let id = session_id(&bench.setup_tcp(0, None));
    bench.play(id, &[("Scale", "0.0625")]).unwrap();
    bench.run_for(SECOND * 300);
    assert!(
        bench.sessions.cx.directory.find(id).is_some(),
        "rule C16: the connection is its sign of life"
    );
    bench.sessions.handle_connection_closed(entry(1));
    assert_eq!(bench.sessions.cx.directory.find(id), None);
}

#[test]
fn interleaved_session_that_is_paused_needs_a_sign_of_life() {
    let mut bench = Bench::new();
    let id = session_id(&bench.setup_tcp(0, None));
    bench.play(id, &[]).unwrap();
    bench.pause(id);
    for sign in 0..6 {
        bench.run_for(SECOND * 50);
        assert!(bench.sessions.cx.directory.find(id).is_some());
        if sign % 2 == 0 {
            // OPTIONS without a session, on its connection.
            bench.sessions.touch_connection(entry(1));
        } else {
            bench.sessions.handle_report_interleaved(entry(1), 1, &REPORT);
        }
    }
    bench.run_for(SECOND * 61);
    assert_eq!(
        bench.sessions.cx.directory.find(id),
        None,
        "its connection lives, and says nothing"
    );
}

#[test]
fn interleaved_session_that_never_plays_is_reaped() {
    let mut bench = Bench::new();
    let id = session_id(&bench.setup_tcp(0, None));
    bench.run_for(SECOND * 61);
    assert_eq!(bench.sessions.cx.directory.find(id), None);
}

#[test]
fn held_commands_of_an_ended_session_are_answered() {
    let mut bench = Bench::new();
    let id = session_id(&bench.setup_tcp(0, None));
    bench.keeps_tasks = true;
    // An interleaved session takes commands of its connection alone.
    assert!(bench.request(1, Method::Play, BASE, Some(id), &[]).is_none());
    assert!(bench.request(1, Method::Pause, BASE, Some(id), &[]).is_none());
    bench.sessions.handle_connection_closed(entry(1));
    bench.settle();
    let answers: Vec<(u32, u16)> = bench.answers.iter().map(|(to, r)| (*to, status(r))).collect();
    assert_eq!(answers, [(1, 454), (1, 454)]);
    // The window that comes late finds nobody.
    bench.finish_tasks();
    assert_eq!(bench.sessions.vod.players.count(), 0);
}

#[test]
fn streams_report_while_they_play_and_not_while_paused() {
    let mut bench = Bench::new();
    let id = bench.opened();
    bench.play(id, &[]).unwrap();
    bench.run_for(Duration::from_millis(10));
    assert_eq!(bench.datagrams.len(), 2, "with the first packet, one a stream");
    bench.run_for(SECOND * 10);
    let playing = bench.datagrams.len();
    assert!(playing >= 4, "{playing} reports");
    bench.pause(id);
    bench.run_for(SECOND * 20);
    assert_eq!(bench.datagrams.len(), playing);
}

#[test]
fn interleaved_session_that_has_played_to_its_end_needs_a_sign_of_life() {
    let mut bench = Bench::new();
    let id = session_id(&bench.setup_tcp(0, None));
    bench.play(id, &[]).unwrap();
    bench.run_for(SECOND * 300);
    assert_eq!(bench.sessions.cx.directory.find(id), None, "nothing is sent that it could take");
}
