//! Runs that follow from seeds: many at once, each checked, each the same again.

use crate::faults::Fault;
use crate::runs::{every_seed, same_seed_gives_the_same_run};
use crate::setup::Setup;
use crate::world::{Outcome, World};

fn run(seed: u64, is_shown: bool) -> Outcome {
    World::new(Setup::drawn(seed), is_shown).run()
}

#[test]
fn every_seed_comes_to_its_end_and_breaks_no_rule() {
    every_seed("scripts/simulate.sh", &KINDS, run);
}

/// A check that nothing can fail is none.
#[test]
#[should_panic(expected = "with other bytes than were pushed")]
fn file_with_other_bytes_than_were_pushed_is_found() {
    let mut world = World::new(Setup::one_file(2, 900_000), false);
    world.until(20, "the upload", |world| !world.promises.uploads.is_empty());
    let content = *world.pushed.keys().next().unwrap();
    world.pushed.insert(content, vec![0; 900_000].into());
    world.run();
}

#[test]
#[should_panic(expected = "was accepted and is lost")]
fn acknowledged_command_that_is_not_in_the_ledger_is_found() {
    let mut world = World::new(Setup::one_file(2, 100_000), false);
    world.until(20, "a command", |world| !world.promises.commands.is_empty());
    world.base.ledger.commands.clear();
    world.run();
}

#[test]
#[should_panic(expected = "no end in time")]
fn job_that_does_not_end_is_found() {
    let mut setup = Setup::one_file(2, 100_000);
    // Nobody mends it.
    setup.faults = vec![(0, Fault::Partition([1].into()))];
    World::new(setup, false).run();
}

#[test]
fn same_seed_gives_the_same_run_and_another_seed_another() {
    same_seed_gives_the_same_run(8, |seed| run(seed, false));
}

/// Events that some seed of a thousand comes to: faults that do nothing would prove nothing.
const KINDS: [&str; 33] = [
    "delivery.cancelled",
    "delivery.completed",
    "delivery.failed",
    "delivery.further",
    "delivery.retried",
    "delivery.retry_wait",
    "delivery.source",
    "job.cancelled",
    "job.completed",
    "job.completed_with_failures",
    "job.node_down",
    "job.retried",
    "late.begun",
    "late.dropped",
    "node.active",
    "node.down",
    "node.draining",
    "node.hello",
    "node.quarantined",
    "node.retired",
    "node.suspect",
    "repair.begun",
    "repair.ended",
    "repair.failed",
    "repair.returned",
    "repair.tried",
    "unit.bad",
    "upload.abandoned",
    "upload.refused",
    "wait.asked",
    "wait.extended",
    "wait.over",
    "webhook.delivered",
];
