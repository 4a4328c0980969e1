//! How fast bytes come, and whether the source gives what it gets.
//!
//! ```text
//! bytes, time --> Meter --> rate of now
//! have of this node, have of its source, time --> Watch --> the source is slow, so much it gave
//! ```
//! A source is slow when this node gets less than half of what its source gets, for so long that it
//! fell behind by a second of that: then the way between them is narrow, and not what lies above
//! it. Half is told in two seconds, a quarter in one and a third: the more there is to lose, the
//! sooner. Nothing has to be known of any link for that. A source that gets nothing, or has
//! everything, is never slow by this.
//! Bound: `SEEN_MAX` answers are kept.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::time::Mono;

/// Bytes per second: a moving average of whole seconds over about three.
#[derive(Debug, Default)]
pub(super) struct Meter {
    since: Option<Mono>,
    bytes: u64,
    pub(super) rate: u64,
}

impl Meter {
    pub(super) fn add(&mut self, bytes: u64, now: Mono) {
        self.roll(now);
        self.since.get_or_insert(now);
        self.bytes += bytes;
    }

    pub(super) fn roll(&mut self, now: Mono) {
        let Some(since) = self.since else { return };
        if now.since(since) < SECOND {
            return;
        }
        let second = rate_of(self.bytes, now.since(since));
        self.rate = if self.rate == 0 { second } else { self.rate - self.rate / 3 + second / 3 };
        (self.since, self.bytes) = (Some(now), 0);
    }
}

/// What this node and its source had, at some moments.
#[derive(Debug, Default)]
pub(super) struct Watch {
    seen: VecDeque<Seen>,
    next_at: Option<Mono>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    at: Mono,
    mine: u64,
    theirs: u64,
}

impl Watch {
    /// Another source is looked at from now on.
    pub(super) fn restart(&mut self, now: Mono) {
        self.seen.clear();
        self.next_at = Some(now + FIRST);
    }

    /// The source is to be asked soon.
    pub(super) fn look(&mut self, now: Mono) {
        self.next_at = self.next_at.map(|at| at.min(now + FIRST));
    }

    /// The source is to be asked how much it has.
    pub(super) fn is_due(&self, now: Mono) -> bool {
        self.next_at.is_some_and(|at| now >= at)
    }

    /// It was asked, and did not say.
    pub(super) fn pass(&mut self, now: Mono) {
        self.next_at = Some(now + EVERY);
    }

    /// It has `theirs` bytes, this node `mine`. Gives the bytes per second that came from it when
    /// it is slow.
    pub(super) fn add(&mut self, now: Mono, mine: u64, theirs: u64) -> Option<u64> {
        if self.seen.len() == SEEN_MAX {
            self.seen.pop_front();
        }
        self.seen.push_back(Seen { at: now, mine, theirs });
        // What is older than the window is not needed, but for the newest of it.
        while self.seen.get(1).is_some_and(|seen| now.since(seen.at) >= WINDOW) {
            self.seen.pop_front();
        }
        let is_ahead = theirs.saturating_sub(mine) > AHEAD_MIN;
        let is_narrow = is_ahead && self.seen.iter().any(|seen| seen.is_narrow(now, mine, theirs));
        let first = *self.seen.front()?;
        // Looked at closely when it may be.
        let may_be = is_ahead && first.is_less_than_half(mine, theirs);
        let is_close = may_be || now.since(first.at) < WINDOW;
        self.next_at = Some(now + if is_close { CLOSELY } else { EVERY });
        is_narrow.then(|| self.rate_of_late(now, mine))
    }

    /// Bytes per second of the last moments: the source may have become slow within the window.
    fn rate_of_late(&self, now: Mono, mine: u64) -> u64 {
        let late = self.seen.iter().rev().find(|seen| now.since(seen.at) >= LATE);
        late.map_or(0, |late| rate_of(mine.saturating_sub(late.mine), now.since(late.at)))
    }
}

impl Seen {
    /// Since then this node got less than half of what its source got.
    fn is_less_than_half(&self, mine: u64, theirs: u64) -> bool {
        theirs.saturating_sub(self.theirs) > 2 * mine.saturating_sub(self.mine)
    }

    /// And it fell behind by what the source gets in a second.
    fn is_narrow(&self, now: Mono, mine: u64, theirs: u64) -> bool {
        let (got, gets) = (mine.saturating_sub(self.mine), theirs.saturating_sub(self.theirs));
        let behind = u128::from(gets.saturating_sub(got)) * now.since(self.at).as_nanos();
        self.is_less_than_half(mine, theirs) && behind >= u128::from(gets) * SECOND.as_nanos()
    }
}

/// Bytes per second.
pub(super) fn rate_of(bytes: u64, time: Duration) -> u64 {
    let rate = u128::from(bytes) * SECOND.as_nanos() / time.as_nanos().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

const SECOND: Duration = Duration::from_secs(1);
/// Longest time over which the two are compared.
const WINDOW: Duration = Duration::from_secs(2);
/// The last moments.
const LATE: Duration = Duration::from_millis(700);
/// A connection has begun by then.
const FIRST: Duration = Duration::from_millis(250);
/// Between two questions.
const EVERY: Duration = Duration::from_millis(800);
/// The same while the source may be slow.
const CLOSELY: Duration = Duration::from_millis(400);
/// A source is ahead by some units anyway: they are in the buffers between the two.
const AHEAD_MIN: u64 = 4 * 65_536;
const SEEN_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Asks whenever that is due, of two whose rates are these, until it is slow.
    fn slow_after(mine: impl Fn(u64) -> u64, theirs: impl Fn(u64) -> u64) -> Option<(u64, u64)> {
        let mut watch = Watch::default();
        watch.restart(Mono(0));
        for ms in (0..30_000).step_by(50) {
            let now = Mono(0) + MS * u32::try_from(ms).unwrap();
            if watch.is_due(now)
                && let Some(rate) = watch.add(now, mine(ms), theirs(ms))
            {
                return Some((ms, rate));
            }
            assert!(watch.seen.len() <= SEEN_MAX);
        }
        None
    }

    #[test]
    fn source_that_gives_a_tenth_of_what_it_gets_is_slow_within_two_seconds() {
        let both = |ms| ms * 1_000;
        assert_eq!(slow_after(both, both), None);
        let narrow = |ms: u64| if ms < 5_000 { ms * 1_000 } else { 5_000_000 + (ms - 5_000) * 100 };
        let (at, rate) = slow_after(narrow, both).unwrap();
        assert!((6_000..7_000).contains(&at), "{at}");
        assert_eq!(rate, 100_000);
        // From its start on: the rate is known exactly.
        let (at, rate) = slow_after(|ms| ms * 250, both).unwrap();
        assert!((1_500..2_200).contains(&at), "{at}");
        assert_eq!(rate, 250_000);
    }

    #[test]
    fn source_that_gets_little_or_nothing_is_not_slow() {
        assert_eq!(slow_after(|ms| ms * 100, |ms| 5_000_000 + ms * 100), None);
        assert_eq!(slow_after(|ms| ms, |_| 1 << 40), None, "it has everything");
        assert_eq!(slow_after(|ms| ms * 600, |ms| ms * 1_000), None, "more than half");
        // For a moment nothing comes.
        let pauses = |ms: u64| ms.min(3_000).max(ms.saturating_sub(900)) * 1_000;
        assert_eq!(slow_after(pauses, |ms| ms * 1_000), None);
        assert_eq!(slow_after(|_| 0, |ms| (ms * 10).min(AHEAD_MIN)), None, "a few units");
    }
}
