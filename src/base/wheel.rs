//! A timing wheel: keys that fall due at a time, in slots of one millisecond.
//!
//! ```text
//!           now
//!            v
//! slots  .. [ ] [a b] [ ] [c] [ ] ..   horizon 2 s, then round again
//! ```
//! Invariant: a key is never handed out before its time, and at most one slot plus the caller's
//! own delay after it; keys of one slot come out in the order in which they went in. Inserting,
//! cancelling and expiring cost O(1). Keys lie in one table, slots are doubly linked lists through
//! it: memory is that of the most keys there ever were at once, and nothing is allocated below
//! that. DESIGN section 6.2.
//! Bound: one key for each [`Timer`] that somebody keeps; an owner cancels the key that it
//! replaces, and those that it leaves behind when it ends.

use super::time::Mono;

/// A timing wheel. `T` is a small key, not the thing itself.
#[derive(Debug)]
pub struct Wheel<T> {
    slots: Box<[List]>,
    occupied: [u64; SLOTS / 64],
    keys: Vec<Node<T>>,
    /// First of the nodes without a key.
    vacant: u32,
    /// Every slot before this tick has been emptied.
    next_tick: u64,
    count: usize,
}

#[derive(Debug, Clone, Copy)]
struct List {
    first: u32,
    last: u32,
}

#[derive(Debug)]
struct Node<T> {
    due: Mono,
    key: T,
    next: u32,
    prev: u32,
    /// Counts the keys that lay here, so that an old [`Timer`] cancels nothing.
    serial: u32,
    slot: u16,
    is_waiting: bool,
}

/// Names a key on the wheel, to cancel it. One whose key has come out means nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timer {
    node: u32,
    serial: u32,
}

impl Timer {
    /// Names no key.
    pub const NONE: Self = Self { node: NONE, serial: 0 };
}

impl Default for Timer {
    fn default() -> Self {
        Self::NONE
    }
}

impl<T: Copy> Wheel<T> {
    /// An empty wheel that starts turning at `now`.
    #[must_use]
    pub fn new(now: Mono) -> Self {
        Self {
            slots: vec![List { first: NONE, last: NONE }; SLOTS].into_boxed_slice(),
            occupied: [0; SLOTS / 64],
            keys: Vec::new(),
            vacant: NONE,
            next_tick: now.0 / SLOT_NS,
            count: 0,
        }
    }

    /// Hands `key` out by `expire` at `due` or up to one slot later. A time in the past is due at
    /// the next `expire`; one past the horizon is looked at again there.
    pub fn insert(&mut self, due: Mono, key: T) -> Timer {
        let node = self.take_node(due, key);
        self.append(node, due);
        self.count += 1;
        Timer { node, serial: self.keys.get(node as usize).map_or(0, |node| node.serial) }
    }

    /// Takes a key off the wheel before its time. False: it has come out, or was cancelled.
    pub fn cancel(&mut self, timer: Timer) -> bool {
        let Some(node) = self.keys.get(timer.node as usize) else { return false };
        if !node.is_waiting || node.serial != timer.serial {
            return false;
        }
        let (prev, next, slot) = (node.prev, node.next, usize::from(node.slot));
        match self.keys.get_mut(prev as usize) {
            Some(prev) => prev.next = next,
            None => self.slots[slot].first = next,
        }
        match self.keys.get_mut(next as usize) {
            Some(next) => next.prev = prev,
            None => self.slots[slot].last = prev,
        }
        if self.slots[slot].first == NONE {
            self.occupied[slot / 64] &= !(1 << (slot % 64));
        }
        self.give_back(timer.node);
        self.count -= 1;
        true
    }

    /// When a key comes out; `None`: it has, or was cancelled.
    #[must_use]
    pub fn due(&self, timer: Timer) -> Option<Mono> {
        let node = self.keys.get(timer.node as usize)?;
        (node.is_waiting && node.serial == timer.serial).then_some(node.due)
    }

    /// Takes the key of `timer` off, if it waits still, and puts another in its place.
    pub fn replace(&mut self, timer: &mut Timer, due: Mono, key: T) {
        self.cancel(*timer);
        *timer = self.insert(due, key);
    }

    /// Moves every key that is due at `now` into `out`, in the order of their slots.
    pub fn expire(&mut self, now: Mono, out: &mut Vec<T>) {
        let last_tick = now.0 / SLOT_NS;
        while self.next_tick <= last_tick {
            if self.count == 0 {
                self.next_tick = last_tick + 1;
                return;
            }
            let slot = slot_of(self.next_tick);
            self.next_tick += 1;
            if self.occupied[slot / 64] & 1 << (slot % 64) == 0 {
                continue;
            }
            self.occupied[slot / 64] &= !(1 << (slot % 64));
            let list = std::mem::replace(&mut self.slots[slot], List { first: NONE, last: NONE });
            let mut at = list.first;
            // Bounded by the list, which nothing is put into any more.
            while let Some(Node { due, key, next, .. }) = self.keys.get(at as usize) {
                let (node, due, key) = (at, *due, *key);
                at = *next;
                if due <= now {
                    out.push(key);
                    self.give_back(node);
                    self.count -= 1;
                } else {
                    self.append(node, due);
                }
            }
        }
    }

    /// Puts a node at the end of the slot that `due` falls into.
    fn append(&mut self, node: u32, due: Mono) {
        let tick = due.0.div_ceil(SLOT_NS).clamp(self.next_tick, self.next_tick + HORIZON_TICKS);
        let slot = slot_of(tick);
        let slot_index = u16::try_from(slot).unwrap_or(u16::MAX);
        let before = std::mem::replace(&mut self.slots[slot].last, node);
        match self.keys.get_mut(before as usize) {
            Some(last) => last.next = node,
            None => self.slots[slot].first = node,
        }
        if let Some(node) = self.keys.get_mut(node as usize) {
            (node.prev, node.next) = (before, NONE);
            node.slot = slot_index;
            node.is_waiting = true;
        }
        self.occupied[slot / 64] |= 1 << (slot % 64);
    }

    fn take_node(&mut self, due: Mono, key: T) -> u32 {
        let index = self.vacant;
        let (prev, next, slot, is_waiting) = (NONE, NONE, 0, false);
        if let Some(vacant) = self.keys.get_mut(index as usize) {
            self.vacant = vacant.next;
            let serial = vacant.serial.wrapping_add(1);
            *vacant = Node { due, key, next, prev, serial, slot, is_waiting };
            return index;
        }
        self.keys.push(Node { due, key, next, prev, serial: 0, slot, is_waiting });
        // A few keys for each of some thousand sessions: far below 32 bits.
        u32::try_from(self.keys.len() - 1).unwrap_or(NONE)
    }

    fn give_back(&mut self, index: u32) {
        if let Some(node) = self.keys.get_mut(index as usize) {
            node.is_waiting = false;
            node.next = std::mem::replace(&mut self.vacant, index);
        }
    }

    /// When `expire` will next have something to do; `None` when the wheel is empty.
    #[must_use]
    pub fn next_due(&self) -> Option<Mono> {
        if self.count == 0 {
            return None;
        }
        let first = slot_of(self.next_tick);
        let ahead = (0..=SLOTS / 64).find_map(|step| {
            let word = (first / 64 + step) % (SLOTS / 64);
            let mut bits = self.occupied[word];
            if step == 0 {
                bits &= u64::MAX << (first % 64);
            }
            (bits != 0).then(|| {
                let slot = word * 64 + bits.trailing_zeros() as usize;
                (slot + SLOTS - first) % SLOTS
            })
        })?;
        Some(Mono((self.next_tick + ahead as u64).saturating_mul(SLOT_NS)))
    }

    /// Keys waiting.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }
}

fn slot_of(tick: u64) -> usize {
    #[expect(clippy::cast_possible_truncation, reason = "below SLOTS")]
    let slot = (tick % SLOTS as u64) as usize;
    slot
}

/// The index of no node.
const NONE: u32 = u32::MAX;
/// Width of a slot: DESIGN section 6.2.
pub const SLOT_NS: u64 = 1_000_000;
/// Two seconds: frames are farther apart only in slide shows.
const SLOTS: usize = 2_048;
const HORIZON_TICKS: u64 = SLOTS as u64 - 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(ms: u64) -> Mono {
        Mono(ms * 1_000_000)
    }

    #[test]
    fn key_past_the_horizon_comes_out_at_its_own_time() {
        let mut wheel = Wheel::new(ms(1_000));
        let mut out = Vec::new();
        wheel.insert(ms(61_000), 'a');
        for now in (1_000..61_000).step_by(50) {
            wheel.expire(ms(now), &mut out);
            assert!(out.is_empty(), "early at {now} ms");
        }
        wheel.expire(ms(61_002), &mut out);
        assert_eq!(out, ['a']);
        assert_eq!(wheel.next_due(), None);
    }

    #[test]
    fn time_of_a_key_is_known_until_it_comes_out_or_is_cancelled() {
        let mut wheel = Wheel::new(ms(1_000));
        let (kept, cancelled) = (wheel.insert(ms(1_005), 'a'), wheel.insert(ms(9_000), 'b'));
        assert_eq!((wheel.due(kept), wheel.due(cancelled)), (Some(ms(1_005)), Some(ms(9_000))));
        wheel.cancel(cancelled);
        wheel.expire(ms(1_006), &mut Vec::new());
        assert_eq!((wheel.due(kept), wheel.due(cancelled)), (None, None));
        assert_eq!(wheel.due(Timer::NONE), None);
    }

    #[test]
    fn keys_of_a_slot_come_out_as_they_went_in_and_their_room_is_used_again() {
        let mut wheel = Wheel::new(ms(1_000));
        let mut out = Vec::new();
        for round in 0..100 {
            for key in 0..10 {
                wheel.insert(ms(1_003 + round * 2), key);
            }
            wheel.expire(ms(1_004 + round * 2), &mut out);
            assert!(out.drain(..).eq(0..10), "round {round}");
        }
        assert_eq!(wheel.keys.len(), 10);
    }

    #[test]
    fn key_in_the_past_is_due_at_once() {
        let mut wheel = Wheel::new(ms(1_000));
        let mut out = Vec::new();
        wheel.insert(ms(3), 'a');
        assert!(wheel.next_due() <= Some(ms(1_000)));
        wheel.expire(ms(1_000), &mut out);
        assert_eq!(out, ['a']);
    }

    proptest! {
        #[test]
        fn cancelled_keys_never_come_out_and_the_others_do(
            steps in prop::collection::vec((0_u64..6_000, any::<u8>(), 0_u64..40), 1..200),
        ) {
            let mut wheel = Wheel::new(Mono(0));
            let (mut now, mut out, mut waiting) = (0, Vec::new(), Vec::new());
            for (key, (ahead, pick, step)) in steps.into_iter().enumerate() {
                waiting.push((key, wheel.insert(ms(now + ahead), key)));
                if pick % 2 == 0 {
                    let (_, timer) = waiting.swap_remove(usize::from(pick) % waiting.len());
                    prop_assert!(wheel.cancel(timer));
                    prop_assert!(!wheel.cancel(timer), "twice");
                }
                now += step;
                wheel.expire(ms(now), &mut out);
                for key in out.drain(..) {
                    let place = waiting.iter().position(|(other, _)| *other == key);
                    prop_assert!(place.is_some(), "cancelled, and came out");
                    let (_, timer) = waiting.remove(place.unwrap());
                    prop_assert!(!wheel.cancel(timer), "it has come out");
                }
                prop_assert_eq!(wheel.count(), waiting.len());
            }
            wheel.expire(ms(now + 3_000), &mut out);
            wheel.expire(ms(now + 6_001), &mut out);
            prop_assert_eq!((out.len(), wheel.next_due()), (waiting.len(), None));
        }

        #[test]
        fn every_key_comes_out_once_never_early_and_by_next_due(
            dues in prop::collection::vec(0_u64..20_000_000_000, 1..100),
        ) {
            let mut wheel = Wheel::new(Mono(0));
            for (key, due) in dues.iter().enumerate() {
                wheel.insert(Mono(*due), key);
            }
            let (mut out, mut seen) = (Vec::new(), vec![false; dues.len()]);
            // Bounded: each step hands out a key or moves on by a horizon.
            for _ in 0..dues.len() * 16 {
                let Some(now) = wheel.next_due() else { break };
                wheel.expire(now, &mut out);
                for key in out.drain(..) {
                    prop_assert!(dues[key] <= now.0, "early");
                    prop_assert!(now.0 - dues[key] <= SLOT_NS, "late");
                    prop_assert!(!std::mem::replace(&mut seen[key], true), "twice");
                }
            }
            prop_assert!(seen.into_iter().all(|s| s));
        }
    }
}
