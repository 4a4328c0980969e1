//! Runs of a whole node that follow from seeds; and that each check can fail.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::client::Act;
use super::network::Mutation;
use super::node::{Node, Outcome, Setup};

/// Seeds in the time of the tests; any number by `scripts/simulate.sh node`.
const SEEDS: u64 = 1_000;

fn run(seed: u64, is_shown: bool) -> Outcome {
    Node::new(Setup::drawn(seed), None, is_shown).run()
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}: a number is expected")))
}

#[test]
fn every_run_of_a_node_comes_to_its_end_and_breaks_no_rule() {
    let count = number("SIMULATION_SEEDS").unwrap_or(SEEDS);
    let first = number("SIMULATION_FIRST").unwrap_or(1);
    let next = AtomicU64::new(first);
    let failed = Mutex::new(Vec::new());
    let seen: Mutex<BTreeMap<&'static str, u64>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let is_enough = failed.lock().unwrap().len() >= FAILED_MAX;
                    if seed >= first + count || is_enough {
                        return;
                    }
                    match catch_unwind(AssertUnwindSafe(|| run(seed, count == 1))) {
                        Ok(outcome) => {
                            if count == 1 {
                                println!("{outcome:#?}");
                            }
                            let mut seen = seen.lock().unwrap();
                            for (kind, count) in outcome.counts {
                                *seen.entry(kind).or_default() += count;
                            }
                            *seen.entry("turn").or_default() += outcome.turns;
                        }
                        Err(_) => failed.lock().unwrap().push(seed),
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap();
    failed.sort_unstable();
    let again = failed.iter().map(|seed| format!("scripts/simulate.sh node 1 {seed}"));
    let again: Vec<_> = again.collect();
    assert!(failed.is_empty(), "seeds that broke a rule; again by:\n{}", again.join("\n"));
    let seen = seen.into_inner().unwrap();
    println!("{seen:#?}");
    let unseen: Vec<_> = KINDS.iter().filter(|kind| !seen.contains_key(**kind)).collect();
    assert!(count < SEEDS || unseen.is_empty(), "no seed came to {unseen:?}, but to {seen:?}");
}

#[test]
fn same_seed_gives_the_same_run_of_a_node_and_another_seed_another() {
    let outcomes: Vec<Outcome> = (1..=12).map(|seed| run(seed, false)).collect();
    for (seed, outcome) in (1..).zip(&outcomes) {
        assert_eq!(run(seed, false), *outcome, "seed {seed}");
    }
    let traces: std::collections::BTreeSet<_> = outcomes.iter().map(|o| &o.trace).collect();
    assert_eq!(traces.len(), outcomes.len());
}

/// A player that plays, pauses and goes on, in a node with a fault that is switched on.
fn with(mutation: Mutation, is_tcp: bool) {
    let acts = vec![Act::Wait(1_500), Act::Pause, Act::Wait(500), Act::Resume, Act::Wait(3_000)];
    Node::new(Setup::one_player(is_tcp, acts), Some(mutation), false).run();
}

#[test]
fn player_without_faults_breaks_no_rule() {
    for is_tcp in [false, true] {
        let acts = vec![Act::Wait(1_500), Act::Pause, Act::Wait(500), Act::Resume, Act::Wait(900)];
        let outcome = Node::new(Setup::one_player(is_tcp, acts), None, false).run();
        assert!(outcome.counts["packet"] > 80, "{outcome:?}");
        assert_eq!(outcome.counts["paused"], 1);
    }
}

#[test]
#[should_panic(expected = "waits for the answer to")]
fn outcome_that_a_worker_forgets_is_found() {
    with(Mutation::OutcomeLost, false);
}

#[test]
#[should_panic(expected = "and is due after")]
fn packets_before_their_time_are_found() {
    with(Mutation::Early, false);
}

#[test]
#[should_panic(expected = "sleeps on its inbox")]
fn wake_up_that_is_lost_is_found() {
    with(Mutation::WakeLost, false);
}

#[test]
#[should_panic(expected = "comes after")]
fn packets_out_of_order_are_found() {
    with(Mutation::Swapped, false);
}

#[test]
#[should_panic(expected = "gets an answer to nothing")]
fn answer_that_comes_twice_is_found() {
    with(Mutation::AnsweredTwice, false);
}

#[test]
#[should_panic(expected = "descriptors are open that shards had")]
fn descriptor_that_is_never_closed_is_found() {
    with(Mutation::DescriptorKept, true);
}

#[test]
#[should_panic(expected = "although the session does not play")]
fn packet_after_the_answer_to_pause_is_found() {
    with(Mutation::SentWhilePaused, false);
}

#[test]
#[should_panic(expected = "has not slept since")]
fn shard_that_runs_on_without_work_is_found() {
    with(Mutation::Spins, false);
}

#[test]
#[should_panic(expected = "holds something of clients that have gone")]
fn send_that_never_ends_is_found() {
    with(Mutation::CompletionLost, true);
}

#[test]
#[should_panic(expected = "is suspended for")]
fn entry_that_is_suspended_for_too_long_is_found() {
    let mut setup = Setup::one_player(false, vec![Act::Wait(500)]);
    setup.weather.slow = 1_000;
    let mut node = Node::new(setup, None, false);
    // The disk takes longer than that.
    node.suspended_max = 1;
    node.run();
}

/// What some seed of a thousand comes to: faults that do nothing would prove nothing.
const KINDS: [&str; 40] = [
    "act.deaf",
    "act.keep-alive",
    "act.nack",
    "act.pause",
    "act.pause elsewhere",
    "act.pipeline",
    "act.report",
    "act.resume",
    "act.scale",
    "act.seek",
    "act.tune",
    "answer.garbled",
    "answer.ok",
    "answer.refused",
    "buffers.short",
    "bye",
    "client.back",
    "client.refused",
    "end.close",
    "end.silence",
    "end.teardown",
    "end.vanish",
    "operator",
    "operator.tuned",
    "packet",
    "packet.again",
    "packet.live",
    "paused",
    "played",
    "recorded",
    "send.refused",
    "shard.frozen",
    "task.done",
    "task.failed",
    "task.panicked",
    "task.short",
    "tasks.refused",
    "torn down",
    "tuned",
    "turn",
];
/// So many failures are enough to look at.
const FAILED_MAX: usize = 12;
