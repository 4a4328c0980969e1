//! Spreads the starts of sessions: sessions that start together get different phases.
//!
//! ```text
//! 20 PLAYs in one turn   --> slot 0: 8   slot 1: 8   slot 2: 4       1 ms a slot
//! ```
//! Frames of a title come at fixed intervals, so sessions that begin in the same turn stay together
//! for as long as they play. Each turn in which their frames are due is long, and the last of the
//! frames are late, every time. A start in a slot with room is not delayed: only a crowd waits.
//!
//! Invariant: a start is never before `now`. Bound: `SLOTS_MAX` slots later, after which a crowd
//! uses the slots a second time. DESIGN section 6.3.

use crate::base::time::Mono;
use crate::base::wheel::SLOT_NS;

/// The slots of one shard: see the module.
#[derive(Debug, Default)]
pub(crate) struct StartStagger {
    /// The slot that starts are put into.
    slot: u64,
    /// Number of starts in that slot.
    count: u32,
}

impl StartStagger {
    /// Time for a session that could start now.
    pub(crate) fn next(&mut self, now: Mono) -> Mono {
        let now_slot = now.0 / SLOT_NS;
        if self.count >= STARTS_PER_SLOT {
            *self = Self { slot: self.slot + 1, count: 0 };
        }
        if !(now_slot..=now_slot + SLOTS_MAX).contains(&self.slot) {
            *self = Self { slot: now_slot, count: 0 };
        }
        self.count += 1;
        now.max(Mono(self.slot.saturating_mul(SLOT_NS)))
    }
}

/// Sessions of two streams each: a slot's packets then take a tenth of its time.
const STARTS_PER_SLOT: u32 = 8;
/// A quarter of a second: longer than any frame, shorter than a viewer notices in such a crowd.
const SLOTS_MAX: u64 = 250;

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(starts: &mut StartStagger, count: usize, now: Mono) -> Vec<u64> {
        (0..count).map(|_| (starts.next(now).0 - now.0) / SLOT_NS).collect()
    }

    #[test]
    fn crowd_is_spread_over_slots_and_the_next_comer_starts_at_once() {
        let mut bucket = StartStagger::default();
        let now = Mono(40 * SLOT_NS);
        let delays = starts(&mut bucket, 20, now);
        for slot in 0..3 {
            let here = delays.iter().filter(|delay| **delay == slot).count();
            assert_eq!(here, [8, 8, 4][usize::try_from(slot).unwrap()], "slot {slot}");
        }
        assert_eq!(starts(&mut bucket, 1, Mono(43 * SLOT_NS)), [0]);
    }

    #[test]
    fn starts_that_come_one_by_one_are_not_put_off() {
        let mut bucket = StartStagger::default();
        for millisecond in 1..1_000 {
            let now = Mono(millisecond * 1_000_000);
            assert_eq!(bucket.next(now), now);
        }
    }

    #[test]
    fn no_start_is_put_off_for_longer_than_the_bound() {
        let mut bucket = StartStagger::default();
        let delays = starts(&mut bucket, 10_000, Mono(77 * SLOT_NS));
        assert_eq!(delays.iter().max(), Some(&SLOTS_MAX));
        let here = |slot| delays.iter().filter(|delay| **delay == slot).count();
        assert!((0..SLOTS_MAX).all(|slot| here(slot) <= 8 * 5), "all rounds are even");
    }
}
