//! Runs of many seeds on all CPUs, in either simulation: which seeds break a rule, and what all of
//! them came to.
//!
//! The environment says which: `SIMULATION_SEEDS` and `SIMULATION_FIRST`, set by
//! `scripts/simulate.sh`. A seed alone is shown step by step.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// What one seed came to.
pub(crate) trait Counted: Debug + PartialEq + Send {
    /// Events by their kind.
    fn counts(&self) -> Vec<(String, u64)>;

    /// All steps, as one hash.
    fn trace(&self) -> &str;
}

/// Runs seeds, as many as in the time of the tests or as the environment says. Some of them must
/// come to each of `kinds`: faults that do nothing would prove nothing.
///
/// # Panics
/// Seeds broke a rule, which are named with the command `again` that runs one again; or a kind of
/// event did not occur.
pub(crate) fn every_seed<O: Counted>(
    again: &str,
    kinds: &[&str],
    run: impl Fn(u64, bool) -> O + Sync,
) {
    first_seeds(SEEDS, again, kinds, run);
}

/// As `every_seed`, with `seeds` in the time of the tests.
///
/// # Panics
/// As `every_seed`.
pub(crate) fn first_seeds<O: Counted>(
    seeds: u64,
    again: &str,
    kinds: &[&str],
    run: impl Fn(u64, bool) -> O + Sync,
) {
    let count = number("SIMULATION_SEEDS").unwrap_or(seeds);
    let first = number("SIMULATION_FIRST").unwrap_or(1);
    let next = AtomicU64::new(first);
    let failed: Mutex<BTreeSet<u64>> = Mutex::default();
    let seen: Mutex<BTreeMap<String, u64>> = Mutex::default();
    let work = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= first + count || failed.lock().unwrap().len() >= FAILED_MAX {
            return;
        }
        let Ok(outcome) = catch_unwind(AssertUnwindSafe(|| run(seed, count == 1))) else {
            failed.lock().unwrap().insert(seed);
            continue;
        };
        if count == 1 {
            println!("{outcome:#?}");
        }
        let mut seen = seen.lock().unwrap();
        for (kind, count) in outcome.counts() {
            *seen.entry(kind).or_default() += count;
        }
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let failed = failed.into_inner().unwrap();
    let again: Vec<_> = failed.iter().map(|seed| format!("{again} 1 {seed}")).collect();
    assert!(failed.is_empty(), "seeds that broke a rule; again by:\n{}", again.join("\n"));
    let seen = seen.into_inner().unwrap();
    println!("{seen:#?}");
    let unseen: Vec<_> = kinds.iter().filter(|kind| !seen.contains_key(**kind)).collect();
    assert!(count < seeds || unseen.is_empty(), "no seed came to {unseen:?}, but to {seen:?}");
}

/// Runs the first seeds twice.
///
/// # Panics
/// The runs of a seed differ, or those of two seeds do not.
pub(crate) fn same_seed_gives_the_same_run<O: Counted>(seeds: u64, run: impl Fn(u64) -> O) {
    let outcomes: Vec<O> = (1..=seeds).map(&run).collect();
    for (seed, outcome) in (1..).zip(&outcomes) {
        assert_eq!(run(seed), *outcome, "seed {seed}");
    }
    let traces: BTreeSet<_> = outcomes.iter().map(Counted::trace).collect();
    assert_eq!(traces.len(), outcomes.len(), "two seeds gave one run");
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}: a number is expected")))
}

/// Seeds in the time of the tests.
const SEEDS: u64 = 1_000;
/// So many failures are enough to look at.
const FAILED_MAX: usize = 12;
