//! Runs of a whole node that follow from seeds; and that each check can fail.

use super::client::{Act, Kind, Plan};
use super::edges::Edges;
use super::network::Mutation;
use super::node::{Node, Outcome, Setup};
use crate::runs::{every_seed, first_seeds, same_seed_gives_the_same_run};

fn run(seed: u64, is_shown: bool) -> Outcome {
    Node::new(Setup::drawn(seed), None, is_shown).run()
}

#[test]
fn every_run_of_a_node_comes_to_its_end_and_breaks_no_rule() {
    every_seed("scripts/simulate.sh node", &KINDS, run);
}

/// Random numbers of shards on both sides, random clients, and now and then a new process that
/// fails: nothing is lost, doubled, out of order or left.
#[test]
fn processes_take_over_from_each_other_and_break_no_rule() {
    let run = |seed, is_shown| Node::new(Setup::with_takeovers(seed), None, is_shown).run();
    first_seeds(200, "scripts/simulate.sh takeovers", &TAKEOVERS, run);
}

#[test]
fn same_seed_gives_the_same_run_of_a_node_and_another_seed_another() {
    same_seed_gives_the_same_run(12, |seed| run(seed, false));
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

/// A publisher over TCP and its reader, in a node with a fault that is switched on.
#[test]
#[should_panic(expected = "is missing")]
fn packet_of_a_publisher_that_is_lost_unseen_is_found() {
    let mut setup = Setup::one_player(true, vec![Act::Wait(2_000)]);
    let reader = Plan { path: "live/a", begins: 200_000_000, ..setup.clients[0].clone() };
    let acts = vec![Act::Wait(0); 3];
    let publisher = Plan { kind: Kind::Publisher, acts, begins: 1_000_000, ..reader };
    setup.clients = vec![publisher, reader];
    Node::new(setup, Some(Mutation::LostUnseen), false).run();
}

/// A player in a process from which another one takes over, with a fault that is switched on.
fn taken_over(mutation: Mutation) {
    let mut setup = Setup::one_player(false, vec![Act::Wait(2_000)]);
    setup.takeovers = vec![(800_000_000, 2)];
    Node::new(setup, Some(mutation), false).run();
}

#[test]
#[should_panic(expected = "comes after")]
fn two_processes_that_both_go_on_are_found() {
    taken_over(Mutation::BothGoOn);
}

#[test]
#[should_panic(expected = "descriptors are open that shards had")]
fn descriptor_of_a_record_that_stays_open_is_found() {
    taken_over(Mutation::RecordKept);
}

/// Players of a kernel that has edges, and forgets what they ask of it.
fn on_the_edge(mutation: Mutation, change: impl FnOnce(&mut Edges)) {
    let mut setup = Setup::one_player(true, vec![Act::Wait(1_500), Act::Pause]);
    let late = Plan { begins: 500_000_000, ..setup.clients[0].clone() };
    setup.clients.push(late);
    change(&mut setup.weather.edges);
    Node::new(setup, Some(mutation), false).run();
}

#[test]
#[should_panic(expected = "waits for the answer to")]
fn completion_that_finds_no_room_and_is_dropped_is_found() {
    on_the_edge(Mutation::OverflowLost, |edges| edges.completions = 1);
}

#[test]
#[should_panic(expected = "waits for the answer to")]
fn end_of_an_operation_that_is_not_said_is_found() {
    on_the_edge(Mutation::EndUnsaid, |edges| edges.ended = 1_000);
}

/// Likewise of takeovers.
const TAKEOVERS: [&str; 14] = [
    "packet.again",
    "packet.live",
    "send.cut",
    "takeover",
    "takeover.as many shards",
    "takeover.fails",
    "takeover.fewer shards",
    "takeover.more shards",
    "takeover.no room",
    "takeover.not whole",
    "takeover.of publishers",
    "takeover.of readers",
    "takeover.of sessions",
    "torn down",
];

/// What some seed of a thousand comes to: faults that do nothing would prove nothing.
const KINDS: [&str; 46] = [
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
    "edge.cancelled",
    "edge.ended",
    "edge.no buffer",
    "edge.no memory",
    "edge.overflow",
    "edge.refused",
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
