//! Commands leave nothing behind that grows with their number.
//!
//! A connection that sent PAUSE with a Range in the future again and again left a key on the wheel
//! for each, for as long as the title lasts: 250 MB in 16 seconds, which stayed after TEARDOWN.

use std::time::Duration;

use proptest::prelude::*;

use crate::base::ids::SessionId;
use crate::library::testing;
use crate::rtsp::request::Method;
use crate::session::action::TimerKey;
use crate::vod::tests::{BASE, Bench, entry, session_id, status};

#[derive(Debug, Clone)]
enum Step {
    Setup { track: u8, is_tcp: bool },
    Play { range: Option<u32>, scale: usize },
    Pause { at: Option<u32> },
    Parameter,
    TeardownTrack(u8),
    Teardown,
    Pass(u64),
    FinishTasks,
    CloseConnection,
}

const SCALES: [&str; 5] = ["1", "0.0625", "2", "8", "-4"];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (0..2_u8, any::<bool>()).prop_map(|(track, is_tcp)| Step::Setup { track, is_tcp }),
        4 => (prop::option::of(0..600_u32), 0..SCALES.len())
            .prop_map(|(range, scale)| Step::Play { range, scale }),
        6 => prop::option::weighted(0.8, 0..600_u32).prop_map(|at| Step::Pause { at }),
        1 => Just(Step::Parameter),
        1 => (0..2_u8).prop_map(Step::TeardownTrack),
        1 => Just(Step::Teardown),
        3 => prop_oneof![Just(0), 1..50_u64, 50..3_000_u64].prop_map(Step::Pass),
        1 => Just(Step::FinishTasks),
        1 => Just(Step::CloseConnection),
    ];
    prop::collection::vec(step, 1..80)
}

/// Takes a step; returns the session that the client holds afterwards.
fn take(bench: &mut Bench, id: Option<SessionId>, step: &Step) -> Option<SessionId> {
    let id = id.filter(|id| bench.sessions.cx.directory.find(*id).is_some());
    match step {
        Step::Setup { track, is_tcp } => {
            let uri = format!("{BASE}/trackID={track}");
            let port = 5_000 + 2 * u16::from(*track);
            let udp = format!("RTP/AVP;unicast;client_port={port}-{}", port + 1);
            let transport = if *is_tcp { "RTP/AVP/TCP;unicast" } else { &udp };
            let headers = [("Transport", transport)];
            let answer = bench.request(1, Method::Setup, &uri, id, &headers);
            let made = answer.filter(|answer| status(answer) == 200);
            return made.map(|answer| session_id(&answer)).or(id);
        }
        Step::Play { range, scale } => {
            let range = range.map(|s| format!("npt={}.{}-", s / 10, s % 10));
            let mut headers = vec![("Scale", SCALES[*scale])];
            headers.extend(range.as_deref().map(|range| ("Range", range)));
            bench.request(1, Method::Play, BASE, id, &headers);
        }
        Step::Pause { at } => {
            let range = at.map(|s| format!("npt={}.{}-", s / 10, s % 10));
            let headers: Vec<_> =
                range.as_deref().map(|range| ("Range", range)).into_iter().collect();
            bench.request(1, Method::Pause, BASE, id, &headers);
        }
        Step::Parameter => {
            bench.request(1, Method::GetParameter, BASE, id, &[]);
        }
        Step::TeardownTrack(track) => {
            let uri = format!("{BASE}/trackID={track}");
            bench.request(1, Method::Teardown, &uri, id, &[]);
        }
        Step::Teardown => {
            bench.request(1, Method::Teardown, BASE, id, &[]);
        }
        Step::Pass(ms) => bench.run_for(Duration::from_millis(*ms)),
        Step::FinishTasks => bench.finish_tasks(),
        Step::CloseConnection => {
            bench.sessions.handle_connection_closed(entry(1));
            bench.settle();
        }
    }
    id
}

/// Tables and wheel hold entries of present sessions only.
fn check_bounds(bench: &Bench) -> Result<(), TestCaseError> {
    let sessions = &bench.sessions;
    let keys: usize = sessions
        .vod
        .players
        .some_keys(usize::MAX)
        .iter()
        .filter_map(|key| sessions.vod.players.session(*key))
        .map(|session| {
            // Reports, a pause point, and whether the client lives; and one for each stream.
            3 + session.streams.len()
        })
        .sum();
    prop_assert!(
        sessions.cx.wheel.count() <= keys,
        "{} keys, {keys} allowed",
        sessions.cx.wheel.count()
    );
    prop_assert_eq!(sessions.cx.directory.len(), sessions.vod.players.count());
    let streams: usize = sessions
        .vod
        .players
        .some_keys(usize::MAX)
        .iter()
        .filter_map(|key| sessions.vod.players.session(*key))
        .map(|s| s.streams.len())
        .sum();
    prop_assert!(sessions.cx.sockets.tuple_count() <= streams * 2);
    for key in sessions.vod.players.some_keys(usize::MAX) {
        prop_assert!(sessions.vod.players.session(key).unwrap().held.len() <= 16);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn commands_in_any_order_leave_only_the_data_of_their_sessions(
        steps in steps(), keeps_tasks in any::<bool>(),
    ) {
        let mut bench = Bench::with(testing::title(60));
        let mut id = None;
        for step in &steps {
            bench.keeps_tasks = keeps_tasks;
            id = take(&mut bench, id, step);
            check_bounds(&bench)?;
        }
        bench.keeps_tasks = false;
        bench.finish_tasks();
        for key in bench.sessions.vod.players.some_keys(usize::MAX) {
            let id = bench.sessions.vod.players.session(key).unwrap().client.id;
            bench.request(1, Method::Teardown, BASE, Some(id), &[]);
        }
        prop_assert_eq!((bench.sessions.vod.players.count(), bench.sessions.cx.wheel.count()), (0, 0));
        prop_assert_eq!(bench.sessions.cx.sockets.tuple_count(), 0);
        prop_assert!(bench.sessions.cx.directory.of_connection(entry(1)).is_empty());
        prop_assert_eq!(bench.sessions.vod.windows.asked_count(), 0);
    }
}

#[test]
fn pause_points_replace_each_other() {
    let mut bench = Bench::with(testing::title(60));
    let id = bench.opened();
    bench.play(id, &[]).unwrap();
    let before = bench.sessions.cx.wheel.count();
    for nth in 0..10_000 {
        let range = format!("npt={}.5-", 59 - nth % 55);
        let headers = [("Range", range.as_str())];
        bench.request(1, Method::Pause, BASE, Some(id), &headers).unwrap();
        assert!(bench.sessions.cx.wheel.count() <= before + 1);
    }
    bench.request(1, Method::Pause, BASE, Some(id), &[("Range", "npt=2.5-")]).unwrap();
    bench.run_for(Duration::from_secs(5));
    let npt = bench.session(id).npt_at(bench.sessions.cx.now);
    assert_eq!((bench.session(id).state.shown().as_str(), npt.0 / 1_000), ("paused", 2_500_000));
    bench.request(1, Method::Teardown, BASE, Some(id), &[]).unwrap();
    assert_eq!(bench.sessions.cx.wheel.count(), 0);
}

#[test]
fn timer_of_a_pause_point_that_was_replaced_stops_nothing() {
    let mut bench = Bench::with(testing::title(60));
    let id = bench.opened();
    bench.play(id, &[]).unwrap();
    let (key, epoch_count) = (bench.key(id), bench.session(id).epoch_count);
    bench.request(1, Method::Pause, BASE, Some(id), &[("Range", "npt=4-")]).unwrap();
    // The timer of an earlier point was due already, and waited for its share of a turn.
    bench.run_for(Duration::from_secs(1));
    bench.sessions.handle_timer(TimerKey::Pause { session: key, epoch_count });
    assert_eq!(bench.session(id).state.shown().as_str(), "playing");
    bench.run_for(Duration::from_secs(5));
    let npt = bench.session(id).npt_at(bench.sessions.cx.now);
    assert_eq!((bench.session(id).state.shown().as_str(), npt.0 / 1_000), ("paused", 4_000_000));
}
