//! Random numbers of a run, and the trace by which two runs are compared.
//!
//! Invariant: nothing in a run asks for another random number, clock or map order than these.

use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};

/// Random numbers that follow from the seed.
#[derive(Debug)]
pub(crate) struct Dice(StdRng);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// From `low` to `high`, both among them.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0.random_range(low..=high.max(low))
    }

    /// An index of something that has `count` parts.
    pub(crate) fn index(&mut self, count: usize) -> usize {
        self.0.random_range(0..count.max(1))
    }

    /// True in so many of a thousand cases.
    pub(crate) fn chance(&mut self, permille: u32) -> bool {
        permille > 0 && self.0.random_ratio(permille.min(1_000), 1_000)
    }

    /// Milliseconds from `low` to `high`, in nanoseconds.
    pub(crate) fn ms(&mut self, low: u64, high: u64) -> u64 {
        self.between(low * MS, high * MS)
    }

    /// One of these.
    pub(crate) fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.index(of.len())].clone()
    }

    /// A seed for what has random numbers of its own.
    pub(crate) fn seed(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        self.0.fill_bytes(&mut seed);
        seed
    }
}

/// What happened, as one hash: equal for two runs of one seed.
#[derive(Debug)]
pub(crate) struct Trace {
    hasher: blake3::Hasher,
    /// Printed too, for whoever looks into a run.
    is_shown: bool,
    pub(crate) steps: u64,
}

impl Trace {
    pub(crate) fn new(is_shown: bool) -> Self {
        Self { hasher: blake3::Hasher::new(), is_shown, steps: 0 }
    }

    /// Notes a step; `who` and `what` are numbers that belong to the kind.
    pub(crate) fn note(&mut self, now: u64, kind: &str, who: u64, what: u64) {
        self.steps += 1;
        self.hasher.update(&now.to_be_bytes());
        self.hasher.update(kind.as_bytes());
        self.hasher.update(&who.to_be_bytes());
        self.hasher.update(&what.to_be_bytes());
    }

    /// A line for people, made only when somebody reads it.
    pub(crate) fn say(&self, now: u64, text: impl FnOnce() -> String) {
        if self.is_shown {
            println!("{:>10.3} {}", Seconds(now), text());
        }
    }

    pub(crate) fn hash(&self) -> String {
        self.hasher.finalize().to_hex()[..16].to_owned()
    }
}

/// Nanoseconds, shown as seconds.
pub(crate) struct Seconds(pub(crate) u64);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = format!("{}.{:03}", self.0 / S, self.0 % S / MS);
        f.pad_integral(true, "", &text)
    }
}

pub(crate) const MS: u64 = 1_000_000;
pub(crate) const S: u64 = 1_000_000_000;
