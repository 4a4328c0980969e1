//! Runs that follow from seeds: many at once, each checked, each the same again.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::faults::Fault;
use crate::setup::Setup;
use crate::world::{Outcome, World};

/// Seeds in the time of the tests; any number by `scripts/simulate.sh`.
const SEEDS: u64 = 1_000;

fn run(seed: u64, is_shown: bool) -> Outcome {
    World::new(Setup::drawn(seed), is_shown).run()
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}: a number is expected")))
}

#[test]
fn every_seed_comes_to_its_end_and_breaks_no_rule() {
    let count = number("SIMULATION_SEEDS").unwrap_or(SEEDS);
    let first = number("SIMULATION_FIRST").unwrap_or(1);
    let next = AtomicU64::new(first);
    let failed = Mutex::new(Vec::new());
    let seen: Mutex<BTreeMap<String, u64>> = Mutex::default();
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
                    let run = catch_unwind(AssertUnwindSafe(|| run(seed, count == 1)));
                    match run {
                        Ok(outcome) => {
                            if count == 1 {
                                println!("{outcome:#?}");
                            }
                            let mut seen = seen.lock().unwrap();
                            for (kind, count) in outcome.counts {
                                *seen.entry(kind).or_default() += count;
                            }
                        }
                        Err(_) => failed.lock().unwrap().push(seed),
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap();
    failed.sort_unstable();
    let again = failed.iter().map(|seed| format!("scripts/simulate.sh 1 {seed}"));
    let again: Vec<_> = again.collect();
    assert!(failed.is_empty(), "seeds that broke a rule; again by:\n{}", again.join("\n"));
    let seen = seen.into_inner().unwrap();
    let unseen: Vec<_> = KINDS.iter().filter(|kind| !seen.contains_key(**kind)).collect();
    assert!(count < SEEDS || unseen.is_empty(), "no seed came to {unseen:?}, but to {seen:?}");
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
    let outcomes: Vec<Outcome> = (1..=8).map(|seed| run(seed, false)).collect();
    for (seed, outcome) in (1..).zip(&outcomes) {
        assert_eq!(run(seed, false), *outcome, "seed {seed}");
    }
    let traces: std::collections::BTreeSet<_> = outcomes.iter().map(|o| &o.trace).collect();
    assert_eq!(traces.len(), outcomes.len());
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
/// So many failures are enough to look at.
const FAILED_MAX: usize = 12;
