//! A thousand paths that are fed from one: work of relays is bounded in each turn.

use std::fmt::Write;

use super::fallback::{Encoder, SETS_A, Scene, ms, sdp};
use super::*;

const RELAYS: usize = 1_000;
/// Packets of one batch at most, by which a share may be exceeded.
const BATCH: u64 = 512;

/// Paths `live/n0`, `live/n1`, .. that have one fallback in common.
fn crowd() -> (Bench, Encoder) {
    let mut text = String::new();
    for number in 0..RELAYS {
        write!(text, "[path.\"live/n{number}\"]\nfallback = [\"live/b\"]\n").unwrap();
    }
    let mut bench = Bench::configured(&text);
    let mut source = Encoder::new("live/b", 12, 5_100);
    source.begin(&mut bench, &sdp(SETS_A));
    for _ in 0..50 {
        source.send(&mut bench);
        bench.turn(bench.sessions.cx.now + ms(40));
    }
    (bench, source)
}

/// Packets of each relay so far.
fn relayed(bench: &Bench) -> Vec<u64> {
    let publishers = bench.sessions.live.sources.publishers.values();
    let relays = publishers.filter(|publisher| publisher.relayed_from().is_some());
    relays.map(|publisher| publisher.source.counts().packets).collect()
}

fn turn(bench: &mut Bench) {
    bench.turn(bench.sessions.cx.now + Duration::from_micros(10));
}

#[test]
fn packets_of_a_turn_are_bounded_over_all_relays_and_the_rest_follows_in_order_of_readiness() {
    let (mut bench, mut source) = crowd();
    let before = relayed(&bench);
    assert_eq!(before.len(), RELAYS);
    for _ in 0..12 {
        source.send(&mut bench);
    }
    let expected: u64 = before.iter().sum::<u64>() + 12 * RELAYS as u64;
    let (mut sum, mut turns) = (before.iter().sum::<u64>(), 0);
    while sum < expected && turns < 10 {
        turn(&mut bench);
        let now: u64 = relayed(&bench).iter().sum();
        assert!(now - sum <= 4_096 + BATCH, "{} in a turn", now - sum);
        assert!(now == expected || bench.sessions.live.is_unsettled(), "the shard sleeps on them");
        (sum, turns) = (now, turns + 1);
    }
    assert_eq!((sum, turns), (expected, 3));
    let after = relayed(&bench);
    assert!(before.iter().zip(&after).all(|(before, after)| after - before == 12), "each its own");
    turn(&mut bench);
    assert!(!bench.sessions.live.sources.relays.is_waiting());
}

#[test]
fn relays_keep_their_paths_some_in_each_turn_before_unused_paths_are_released() {
    let (mut bench, mut source) = crowd();
    let listeners = |bench: &Bench| shown_path(bench, "live/b").unwrap().owner.listening_shards;
    let mut walked = 0;
    for _ in 0..15_000 / 40 {
        source.send(&mut bench);
        bench.turn(bench.sessions.cx.now + ms(40));
        while bench.sessions.live.sources.walks.is_waiting() {
            turn(&mut bench);
            walked += 1;
        }
        assert_eq!(listeners(&bench), 1, "it is never given up");
    }
    assert!(walked >= 15 * (RELAYS / 64 - 2), "{walked} turns with a part of the relays each");
    assert!(bench.sessions.live.hub.paths.path("live/b").is_some());
}

#[test]
fn group_of_pictures_at_a_switch_takes_several_turns_of_one_relay() {
    let mut scene = Scene::new("[path.\"live/a\"]\nfallback = [\"live/b\"]\nstandby = true\n");
    scene.a.begin(&mut scene.bench, &sdp(SETS_A));
    scene.b.begin(&mut scene.bench, &sdp(SETS_A));
    scene.b.group = 100_000;
    scene.run(ms(3_000));
    for _ in 0..60 {
        (0..50).for_each(|_| scene.b.send(&mut scene.bench));
        turn(&mut scene.bench);
    }
    let mut seen = relayed(&scene.bench)[0];
    scene.a.end(&mut scene.bench);
    let mut steps = Vec::new();
    for _ in 0..10 {
        turn(&mut scene.bench);
        let now = relayed(&scene.bench)[0];
        assert!(now - seen <= 1_024 + BATCH, "{} in a turn", now - seen);
        steps.push(now - seen);
        seen = now;
    }
    assert!(steps.iter().sum::<u64>() > 3_000, "{steps:?}");
    assert!(steps.iter().filter(|step| **step > 0).count() >= 3, "{steps:?}");
}

fn shown_path(bench: &Bench, path: &str) -> Option<PathInfo> {
    merge(bench.sessions.live.path_parts(&bench.sessions.cx, Some(path))).pop()
}
