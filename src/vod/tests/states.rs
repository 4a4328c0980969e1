//! The table of methods and states of `methods/mod.rs`, cell by cell.

use std::time::Duration;

use crate::base::ids::SessionId;
use crate::rtsp::request::Method;
use crate::vod::tests::{BASE, Bench, session_id, status};

#[derive(Debug, Clone, Copy, PartialEq)]
enum At {
    Ready,
    Priming,
    Playing,
    Paused,
    Ended,
}

/// A session with track 0, brought to a state.
fn bring_to(at: At) -> (Bench, SessionId) {
    let mut bench = Bench::new();
    let id = session_id(&bench.setup_udp(0, None, 5_000));
    match at {
        At::Ready => {}
        At::Priming => {
            bench.keeps_tasks = true;
            assert!(bench.play(id, &[]).is_none());
        }
        At::Playing | At::Paused => {
            bench.play(id, &[]).unwrap();
            bench.run_for(Duration::from_secs(1));
            if at == At::Paused {
                bench.pause(id);
            }
        }
        At::Ended => {
            bench.play(id, &[("Range", "npt=19-")]).unwrap();
            bench.run_for(Duration::from_secs(2));
        }
    }
    (bench, id)
}

/// The answer to `method` in a state, `None` when the command is held; and the name of the state
/// after it.
fn cell(method: Method, at: At) -> (Option<u16>, Option<&'static str>) {
    let (mut bench, id) = bring_to(at);
    let answer = match method {
        Method::Setup => {
            let uri = format!("{BASE}/trackID=1");
            let headers = [("Transport", "RTP/AVP;unicast;client_port=5002-5003")];
            bench.request(2, method, &uri, Some(id), &headers)
        }
        _ => bench.request(2, method, BASE, Some(id), &[]),
    };
    let state =
        bench.sessions.cx.directory.find(id).map(|_| bench.session(id).state.shown().as_str());
    (answer.as_ref().map(status), state)
}

/// Every state with the answer to `method`, except Priming, where every command is held.
fn assert_row(method: &Method, row: [(At, u16, Option<&'static str>); 4]) {
    for (at, expected, state) in row {
        assert_eq!(cell(method.clone(), at), (Some(expected), state), "{method} in {at:?}");
    }
    assert_eq!(cell(method.clone(), At::Priming), (None, Some("playing")), "{method} in Priming");
}

#[test]
fn setup_adds_a_stream_to_a_ready_or_paused_session_only() {
    assert_row(
        &Method::Setup,
        [
            (At::Ready, 200, Some("ready")),
            (At::Playing, 455, Some("playing")),
            (At::Paused, 200, Some("paused")),
            (At::Ended, 455, Some("paused")),
        ],
    );
}

#[test]
fn play_starts_seeks_resumes_and_starts_again() {
    let playing = Some("playing");
    assert_row(
        &Method::Play,
        [At::Ready, At::Playing, At::Paused, At::Ended].map(|at| (at, 200, playing)),
    );
}

#[test]
fn pause_is_refused_with_455_before_the_first_play_only() {
    let paused = Some("paused");
    assert_row(
        &Method::Pause,
        [
            (At::Ready, 455, Some("ready")),
            (At::Playing, 200, paused),
            (At::Paused, 200, paused),
            (At::Ended, 200, paused),
        ],
    );
}

#[test]
fn teardown_ends_the_session_in_every_state() {
    assert_row(
        &Method::Teardown,
        [At::Ready, At::Playing, At::Paused, At::Ended].map(|at| (at, 200, None)),
    );
}

#[test]
fn parameters_are_signs_of_life_that_change_no_state() {
    for method in [Method::GetParameter, Method::SetParameter] {
        assert_row(
            &method,
            [
                (At::Ready, 200, Some("ready")),
                (At::Playing, 200, Some("playing")),
                (At::Paused, 200, Some("paused")),
                (At::Ended, 200, Some("paused")),
            ],
        );
    }
}

#[test]
fn command_for_no_session_or_one_that_is_gone_is_refused_with_454() {
    let (mut bench, id) = bring_to(At::Ready);
    for method in [Method::Play, Method::Pause, Method::Teardown] {
        let answer = bench.request(1, method, BASE, None, &[]).unwrap();
        assert_eq!(status(&answer), 454);
    }
    bench.request(1, Method::Teardown, BASE, Some(id), &[]).unwrap();
    assert_eq!(status(&bench.play(id, &[]).unwrap()), 454);
}

#[test]
fn play_and_pause_of_one_stream_of_two_are_refused_with_460() {
    let mut bench = Bench::new();
    let id = bench.opened();
    let track = format!("{BASE}/trackID=1");
    for method in [Method::Play, Method::Pause] {
        let answer = bench.request(1, method, &track, Some(id), &[]).unwrap();
        assert_eq!(status(&answer), 460);
    }
    let elsewhere = bench.request(1, Method::Play, "rtsp://host/demo", Some(id), &[]).unwrap();
    assert_eq!(status(&elsewhere), 404);
}

#[test]
fn held_commands_are_answered_behind_the_play_in_their_order() {
    let (mut bench, id) = bring_to(At::Priming);
    for (connection, method) in [(2, Method::GetParameter), (3, Method::Pause), (4, Method::Play)] {
        assert!(bench.request(connection, method, BASE, Some(id), &[]).is_none());
    }
    bench.finish_tasks();
    let order: Vec<(u32, u16)> = bench.answers.iter().map(|(to, r)| (*to, status(r))).collect();
    assert_eq!(order, [(1, 200), (2, 200), (3, 200), (4, 200)]);
    assert_eq!(bench.session(id).state.shown().as_str(), "playing");
}

#[test]
fn more_held_commands_than_a_client_may_pipeline_are_refused_with_503() {
    let (mut bench, id) = bring_to(At::Priming);
    let ask = |bench: &mut Bench| bench.request(2, Method::Pause, BASE, Some(id), &[]);
    for _ in 0..16 {
        assert!(ask(&mut bench).is_none());
    }
    assert_eq!(status(&ask(&mut bench).unwrap()), 503);
}
