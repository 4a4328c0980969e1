//! Slows down whoever guesses passwords: how long the next login of an address waits.
//!
//! ```text
//! failures of late   0 .. 5   6    7    8    9    10   11 and more
//! the next one waits      -   1s   2s   4s   8s   16s  30s         one after the other
//! ```
//! A failure is forgotten after `FORGET_S`. Logins of one address are let through one after the
//! other while it is slowed, however many connections it has: each takes the next place in time.
//! What counts as one address is said in `base::prefix`.
//!
//! All shards share the table: it is made of atomic numbers, and no shard waits for another.
//! ```text
//! slot: mark of the network (24 bits) | failures (6 bits) | place in time, 1/8 s (34 bits)
//! ```
//! Bound: a fixed number of slots. When all neighbouring slots are taken, the one with the fewest
//! failures is given up. Invariant: an address without failures never waits.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::base::prefix::Prefix;
use crate::base::time::Mono;

/// When an address may try again: see the module.
#[derive(Debug)]
pub struct Throttle {
    slots: Box<[AtomicU64]>,
    hasher: RandomState,
}

/// Whether a login is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// At once.
    Now,
    /// When this time has come.
    At(Mono),
    /// Not at all: so many of its address wait already.
    Never {
        /// The next one may come so much later.
        retry: Duration,
    },
}

/// What a slot says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    mark: u64,
    failures: u64,
    place: u64,
}

impl Default for Throttle {
    fn default() -> Self {
        Self::new(SLOTS)
    }
}

impl Throttle {
    fn new(slots: usize) -> Self {
        Self { slots: (0..slots).map(|_| AtomicU64::new(0)).collect(), hasher: RandomState::new() }
    }

    /// The turn of a login that an address makes now.
    #[must_use]
    pub fn turn(&self, ip: IpAddr, now: Mono) -> Turn {
        let (mark, first) = self.place_of(ip);
        let at = ticks(now);
        let found = self.near(first).find_map(|slot| {
            let value = slot.load(Relaxed);
            let known = Slot::of(value);
            (known.mark == mark && known.late(at) > 0).then_some((slot, value, known))
        });
        let Some((slot, value, known)) = found else { return Turn::Now };
        let wait = wait_ticks(known.late(at));
        if wait == 0 {
            return Turn::Now;
        }
        let place = known.place.max(at);
        let ahead = place - at;
        if ahead > AHEAD_MAX_TICKS {
            return Turn::Never { retry: Duration::from_secs(ahead.div_ceil(TICKS_A_SECOND)) };
        }
        let next = Slot { mark, failures: known.late(at), place: place + wait }.value();
        // Somebody else may have taken the place: then both have it, once.
        let _taken = slot.compare_exchange(value, next, Relaxed, Relaxed);
        if ahead == 0 { Turn::Now } else { Turn::At(time(place)) }
    }

    /// A login of the address has failed now.
    pub fn fail(&self, ip: IpAddr, now: Mono) {
        let (mark, first) = self.place_of(ip);
        let at = ticks(now);
        let own = self.near(first).find(|slot| {
            let known = Slot::of(slot.load(Relaxed));
            known.mark == mark
        });
        let slot = own
            .or_else(|| self.near(first).min_by_key(|slot| Slot::of(slot.load(Relaxed)).late(at)));
        let Some(slot) = slot else { return };
        let next = |value: u64| {
            let known = Slot::of(value);
            let late = if known.mark == mark { known.late(at) } else { 0 };
            let failures = (late + 1).min(FAILURES_MAX);
            let soonest = at + wait_ticks(failures);
            let place = if late > 0 { known.place.max(soonest) } else { soonest };
            Some(Slot { mark, failures, place }.value())
        };
        let _always = slot.fetch_update(Relaxed, Relaxed, next);
    }

    fn near(&self, first: usize) -> impl Iterator<Item = &AtomicU64> {
        let count = self.slots.len();
        (0..NEAR).filter_map(move |step| self.slots.get(first.wrapping_add(step) % count))
    }

    fn place_of(&self, ip: IpAddr) -> (u64, usize) {
        let hash = self.hasher.hash_one(Prefix::of(ip));
        // Never 0: that is a free slot.
        let mark = (hash >> 40) | 1;
        (mark, usize::try_from(hash & MARK_MAX).unwrap_or(0) % self.slots.len())
    }
}

impl Slot {
    fn of(value: u64) -> Self {
        let mark = value >> (FAILURE_BITS + PLACE_BITS);
        let failures = value >> PLACE_BITS & FAILURES_MAX;
        Self { mark, failures, place: value & PLACE_MAX }
    }

    fn value(self) -> u64 {
        self.mark << (FAILURE_BITS + PLACE_BITS)
            | self.failures << PLACE_BITS
            | self.place.min(PLACE_MAX)
    }

    /// Failures that are not forgotten yet.
    fn late(self, at: u64) -> u64 {
        let since = at.saturating_sub(self.place);
        self.failures.saturating_sub(since / (FORGET_S * TICKS_A_SECOND))
    }
}

fn wait_ticks(failures: u64) -> u64 {
    match failures.checked_sub(FREE + 1) {
        None => 0,
        Some(doublings) => (TICKS_A_SECOND << doublings.min(5)).min(WAIT_MAX_S * TICKS_A_SECOND),
    }
}

fn ticks(time: Mono) -> u64 {
    time.0 / TICK_NS
}

fn time(ticks: u64) -> Mono {
    Mono(ticks * TICK_NS)
}

/// Typing errors, and players that try a password several times.
const FREE: u64 = 5;
/// A player's patience with one answer.
const WAIT_MAX_S: u64 = 30;
/// Logins that wait for their turn are held so long at most.
const AHEAD_MAX_TICKS: u64 = 30 * TICKS_A_SECOND;
/// An hour of guessing at the slowest rate is 120 tries.
const FORGET_S: u64 = 60;
const TICK_NS: u64 = 125_000_000;
const TICKS_A_SECOND: u64 = 8;
const FAILURE_BITS: u32 = 6;
const FAILURES_MAX: u64 = (1 << FAILURE_BITS) - 1;
/// Sixty-eight years.
const PLACE_BITS: u32 = 34;
const PLACE_MAX: u64 = (1 << PLACE_BITS) - 1;
const MARK_MAX: u64 = (1 << 24) - 1;
/// Slots that an address may be in.
const NEAR: usize = 16;
/// 128 KiB: as many addresses that fail at once.
const SLOTS: usize = 1 << 14;

#[cfg(test)]
mod tests {
    use super::*;

    const START: Mono = Mono(1_000_000_000_000);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn failed(times: u32) -> Throttle {
        let throttle = Throttle::default();
        for _ in 0..times {
            throttle.fail(ip("192.0.2.1"), START);
        }
        throttle
    }

    #[test]
    fn first_failures_cost_nothing_and_the_next_ones_twice_as_much_each() {
        for (failures, wait_s) in [(0, 0), (5, 0), (6, 1), (7, 2), (8, 4), (10, 16), (60, 30)] {
            let throttle = failed(failures);
            let expected = match wait_s {
                0 => Turn::Now,
                _ => Turn::At(START + Duration::from_secs(wait_s)),
            };
            assert_eq!(throttle.turn(ip("192.0.2.1"), START), expected, "{failures}");
            assert_eq!(throttle.turn(ip("192.0.2.2"), START), Turn::Now, "another address");
        }
    }

    #[test]
    fn logins_of_one_address_come_one_after_the_other_and_not_without_end() {
        let throttle = failed(8);
        let turns: Vec<Turn> =
            (0..20).map(|_| throttle.turn(ip("::ffff:192.0.2.1"), START)).collect();
        let at = |s| Turn::At(START + Duration::from_secs(s));
        assert_eq!(turns[..7], [4, 8, 12, 16, 20, 24, 28].map(at));
        assert!(
            turns[7..].iter().all(|turn| *turn == Turn::Never { retry: Duration::from_secs(32) })
        );
    }

    #[test]
    fn failures_are_forgotten_with_time() {
        let throttle = failed(8);
        let after = |s| throttle.turn(ip("192.0.2.1"), START + Duration::from_secs(s));
        assert_eq!(after(5), Turn::Now, "its time has come");
        assert_eq!(after(5), Turn::At(START + Duration::from_secs(9)));
        assert_eq!(after(9 + 4 + 3 * 60), Turn::Now);
        assert_eq!(after(9 + 4 + 3 * 60), Turn::Now, "five are left");
    }

    #[test]
    fn network_of_64_bits_is_one_address_and_a_full_table_keeps_those_that_fail_most() {
        let throttle = Throttle::new(NEAR);
        for _ in 0..20 {
            throttle.fail(ip("2001:db8::1"), START);
        }
        for host in 0..1_000_u16 {
            throttle
                .fail(IpAddr::from([10, 0, host.to_be_bytes()[0], host.to_be_bytes()[1]]), START);
        }
        assert_ne!(throttle.turn(ip("2001:db8::ffff:2"), START), Turn::Now);
        assert_eq!(throttle.turn(ip("2001:db8:0:1::2"), START), Turn::Now);
    }
}
