//! What one kind of work may take of a turn: a number of units, and a time.
//!
//! ```text
//! while budget.has_room(clock) { take one; budget.spend(); }      what is left waits
//! ```
//! Invariant: the first unit is always granted, so whatever waits comes to its turn.
//! Bound: units; the time is looked at before each `stride`-th of them, so cheap work pays for few
//! looks at the clock.

use std::time::Duration;

use super::time::Mono;

/// The budget of one kind of work in a turn.
#[derive(Debug)]
pub struct Budget {
    units: u32,
    spent: u32,
    stride: u32,
    time: Duration,
    until: Option<Mono>,
    is_over: bool,
}

impl Budget {
    /// So many units and so much time; the time begins with the first look at the clock.
    #[must_use]
    pub const fn new(units: u32, time: Duration) -> Self {
        Self { units, spent: 0, stride: 1, time, until: None, is_over: false }
    }

    /// The same, looking at the clock before each `stride`-th unit.
    #[must_use]
    pub const fn with_stride(self, stride: u32) -> Self {
        Self { stride, ..self }
    }

    /// Whether another unit may be done.
    pub fn has_room(&mut self, clock: impl FnOnce() -> Mono) -> bool {
        if self.spent >= self.units {
            return false;
        }
        if !self.is_over && self.spent.is_multiple_of(self.stride.max(1)) {
            let now = clock();
            let until = *self.until.get_or_insert(now + self.time);
            self.is_over = self.spent > 0 && now >= until;
        }
        !self.is_over
    }

    /// A unit is done.
    pub fn spend(&mut self) {
        self.spent += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Units that are granted when each takes `unit_ns`, and looks at the clock.
    fn run(mut budget: Budget, unit_ns: u64) -> (u32, u32) {
        let (mut done, mut looks) = (0, 0);
        while budget.has_room(|| {
            looks += 1;
            Mono(u64::from(done) * unit_ns)
        }) {
            budget.spend();
            done += 1;
        }
        (done, looks)
    }

    #[test]
    fn budget_ends_by_units_or_by_time_whichever_comes_first() {
        let budget = || Budget::new(100, Duration::from_nanos(1_000));
        assert_eq!(run(budget(), 1).0, 100);
        assert_eq!(run(budget(), 100).0, 10);
    }

    #[test]
    fn first_unit_is_granted_however_long_it_takes() {
        assert_eq!(run(Budget::new(100, Duration::ZERO), 5_000).0, 1);
    }

    #[test]
    fn stride_spares_looks_at_the_clock() {
        let budget = Budget::new(64, Duration::from_nanos(1_000)).with_stride(16);
        assert_eq!(run(budget, 1), (64, 4));
        let budget = Budget::new(64, Duration::from_nanos(1_000)).with_stride(16);
        assert_eq!(run(budget, 100), (16, 2), "late by a stride at most");
    }
}
