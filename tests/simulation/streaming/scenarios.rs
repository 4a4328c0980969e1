//! Runs that are not drawn: one situation each, and what must have come of it.

use super::client::{Act, End, Kind, Plan, SOUND_AND_PICTURES};
use super::edges::Edges;
use super::network::Weather;
use super::node::{Node, Outcome, Setup};
use super::setup::player;
use crate::dice::MS;

fn run(clients: Vec<Plan>, change: impl FnOnce(&mut Setup)) -> Outcome {
    let mut setup = Setup { clients, ..Setup::one_player(false, Vec::new()) };
    change(&mut setup);
    Node::new(setup, None, false).run()
}

#[test]
fn players_that_vanish_in_play_or_pause_are_given_up_and_leave_nothing() {
    for is_tcp in [false, true] {
        for acts in [vec![Act::Wait(700)], vec![Act::Wait(300), Act::Pause, Act::Wait(300)]] {
            let plan = Plan { is_tcp, acts, end: End::Vanish, ..player() };
            // `run` fails when anything is left.
            let outcome = run(vec![plan], |_| {});
            assert_eq!(outcome.counts["end.vanish"], 1);
        }
    }
}

#[test]
fn client_that_reads_nothing_for_a_while_gets_whole_frames_in_order_afterwards() {
    let acts = vec![Act::Wait(300), Act::Deaf(2_500), Act::KeepAlive, Act::Wait(500)];
    let outcome = run(vec![Plan { is_tcp: true, acts, ..player() }], |_| {});
    assert_eq!(outcome.counts["torn down"], 1);
    assert!(outcome.counts["packet"] > 50, "{outcome:?}");
}

#[test]
fn publisher_that_flaps_feeds_its_readers_in_order_each_time() {
    let publisher = Plan {
        kind: Kind::Publisher,
        path: "live/a",
        is_tcp: true,
        acts: vec![Act::Wait(0)],
        end: End::Close,
        returns: 2,
        ..player()
    };
    let reader = |begins, is_tcp| Plan {
        path: "live/a",
        begins: begins * MS,
        is_tcp,
        acts: vec![Act::Wait(600)],
        returns: 2,
        ..player()
    };
    let outcome =
        run(vec![publisher, reader(200, false), reader(300, true)], |setup| setup.shards = 3);
    assert_eq!(outcome.counts["recorded"], 3, "{outcome:?}");
    assert!(outcome.counts["packet.live"] > 60, "{outcome:?}");
}

#[test]
fn server_that_is_stopped_says_bye_on_every_stream_and_closes_all() {
    let clients = vec![
        Plan { acts: vec![Act::Wait(5_000)], ..player() },
        Plan { is_tcp: true, acts: vec![Act::Wait(5_000)], host: 2, ..player() },
    ];
    let outcome = run(clients, |setup| setup.stops_early = Some(900 * MS));
    assert_eq!(outcome.counts["bye"], 4, "two streams each: {outcome:?}");
}

/// Such packets were lost without a count.
#[test]
fn reports_that_find_no_room_in_the_socket_are_counted_as_dropped() {
    let outcome = run(vec![Plan { acts: vec![Act::Wait(5_000)], ..player() }], |setup| {
        setup.weather = Weather { again: 400, ..Weather::fair() };
    });
    assert!(outcome.counts["report.refused"] > 0, "{outcome:?}");
    assert_eq!(outcome.counts["report.dropped"], outcome.counts["report.refused"]);
}

#[test]
fn crowd_beyond_the_tables_is_refused_and_the_rest_is_served() {
    let clients = (0..40).map(|host| Plan { host, acts: vec![Act::Wait(2_000)], ..player() });
    let outcome = run(clients.collect(), |_| {});
    assert!(outcome.counts["played"] >= 8, "{outcome:?}");
    assert!(outcome.counts["client.refused"] >= 10, "{outcome:?}");
}

#[test]
fn two_players_behind_one_port_are_placed_on_two_pairs() {
    let twin = Plan { ports: Some(19_000), acts: vec![Act::Wait(800)], ..player() };
    let outcome = run(vec![twin.clone(), twin], |_| {});
    assert_eq!(outcome.counts["torn down"], 2, "{outcome:?}");
}

#[test]
fn disk_that_is_slow_for_every_task_delays_and_breaks_nothing() {
    let acts = vec![Act::Wait(500), Act::Seek(7.0), Act::Wait(500), Act::Pipeline];
    let clients = vec![Plan { acts: acts.clone(), ..player() }, Plan { host: 2, acts, ..player() }];
    let outcome = run(clients, |setup| {
        setup.weather = Weather { slow: 1_000, ..Weather::fair() };
        setup.leaves = 20_000 * MS;
    });
    assert_eq!(outcome.counts["torn down"], 2, "{outcome:?}");
}

#[test]
fn player_goes_back_and_forth_between_processes_with_two_shards_and_one() {
    for has_fixed_ports in [false, true] {
        for is_tcp in [false, true] {
            let pause = if is_tcp { Act::Pause } else { Act::PauseElsewhere };
            let acts = vec![Act::Wait(4_500), Act::KeepAlive, pause, Act::Resume];
            let plans = (0..6).map(|host| Plan { is_tcp, host, acts: acts.clone(), ..player() });
            let outcome = run(plans.collect(), |setup| {
                setup.shards = 2;
                setup.has_fixed_ports = has_fixed_ports;
                let at = |number: u64| (1_000 + 700 * number) * MS;
                setup.takeovers = vec![(at(0), 1), (at(1), 2), (at(2), 4), (at(3), 2)];
            });
            let done = ["takeover.fewer shards", "takeover.more shards"];
            let of = |what| outcome.counts.get(what).copied();
            assert_eq!(done.map(of), [Some(2), Some(2)], "{outcome:?}");
            assert_eq!(["paused", "torn down"].map(of), [Some(6), Some(6)], "{outcome:?}");
        }
    }
}

/// The simulation had no live path in any takeover that succeeded.
#[test]
fn publisher_and_readers_go_back_and_forth_between_processes_and_nothing_is_missing() {
    for is_tcp in [false, true] {
        let publisher = Plan {
            kind: Kind::Publisher,
            path: "live/a",
            sdp: SOUND_AND_PICTURES,
            is_tcp,
            acts: vec![Act::Wait(0); 5],
            ..player()
        };
        let reader = |host: u8| Plan {
            path: "live/a",
            is_tcp: host.is_multiple_of(2),
            begins: (200 + 400 * u64::from(host)) * MS,
            acts: vec![Act::Wait(2_500), Act::KeepAlive],
            host,
            ..player()
        };
        let mut clients: Vec<Plan> = (0..4).map(reader).collect();
        clients.push(publisher);
        let outcome = run(clients, |setup| {
            setup.shards = 2;
            let at = |number: u64| (1_000 + 700 * number) * MS;
            setup.takeovers = vec![(at(0), 1), (at(1), 3), (at(2), 4), (at(3), 2)];
        });
        let of = |what| outcome.counts.get(what).copied();
        let taken = ["takeover", "takeover.of publishers", "takeover.of readers"];
        assert_eq!(taken.map(of), [Some(4); 3], "{outcome:?}");
        let done = ["recorded", "played", "torn down", "client.refused"];
        assert_eq!(done.map(of), [Some(1), Some(4), Some(5), None], "{outcome:?}");
    }
}

/// Titles for which the workers' queue had no room did not open, and nothing was taken over.
#[test]
fn more_titles_than_the_workers_have_room_for_are_opened_one_after_the_other() {
    let player = |host: u8| Plan {
        path: if host.is_multiple_of(2) { "demo" } else { "vod/film.mp4" },
        begins: 200 * u64::from(host) * MS,
        acts: vec![Act::Wait(2_500)],
        host,
        ..player()
    };
    let outcome = run((0..6).map(player).collect(), |setup| {
        setup.shards = 3;
        setup.room.tasks = 2;
        setup.takeovers = vec![(1_500 * MS, 2)];
    });
    assert_eq!(outcome.counts.get("takeover.of sessions"), Some(&1), "{outcome:?}");
    assert!(outcome.counts["played"] > 3, "{outcome:?}");
}

/// What was sent before was not known afterwards.
#[test]
fn packet_that_was_lost_before_a_takeover_is_sent_again_behind_it() {
    // About a second of sound, and more of pictures, before the takeover.
    let acts = vec![Act::Wait(1_300), Act::Nack(40), Act::Wait(300)];
    let plan = Plan { has_feedback: true, acts, ..player() };
    let whole = run(vec![plan.clone()], |_| {});
    let taken_over = run(vec![plan], |setup| setup.takeovers = vec![(1_250 * MS, 2)]);
    assert!(taken_over.counts.contains_key("takeover.of sessions"), "{taken_over:?}");
    let again = |outcome: &Outcome| outcome.counts["packet.again"];
    assert_eq!(again(&whole), again(&taken_over));
}

/// All edges at once, and far more of them than a machine has.
#[test]
fn node_whose_kernel_refuses_cancels_and_runs_short_serves_on() {
    let acts = vec![Act::Wait(1_500), Act::Pause, Act::Wait(500), Act::Resume, Act::Wait(900)];
    for is_tcp in [false, true] {
        let plan = Plan { is_tcp, acts: acts.clone(), ..player() };
        let outcome = run(vec![plan], |setup| {
            setup.weather.edges = Edges {
                completions: 1,
                cancelled: 50,
                no_buffer: 300,
                ended: 500,
                refused: 100,
                no_memory: 100,
            };
        });
        assert!(outcome.counts["packet"] > 80, "{outcome:?}");
        assert_eq!((outcome.counts["paused"], outcome.counts["torn down"]), (1, 1));
    }
}
