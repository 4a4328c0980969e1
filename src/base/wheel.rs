//! A timing wheel: keys that fall due at a time, in slots of one millisecond.
//!
//! ```text
//!           now
//!            v
//! slots  .. [ ] [a b] [ ] [c] [ ] ..   horizon 2 s, then round again
//! ```
//! Invariant: a key is never handed out before its time, and at most one slot plus the caller's
//! own delay after it; keys of one slot come out in the order in which they went in. There is no
//! cancel: whoever takes a key out checks that it still means something. Inserting and expiring
//! cost O(1). Keys lie in one table, slots are lists through it: memory is that of the most keys
//! there ever were at once, and nothing is allocated below that. DESIGN section 6.2.

use super::time::Mono;

/// See the module. `T` is a small key, not the thing itself.
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
    pub fn insert(&mut self, due: Mono, key: T) {
        let node = self.take_node(Node { due, key, next: NONE });
        self.append(node, due);
        self.count += 1;
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
            while let Some(Node { due, key, next }) = self.keys.get(at as usize) {
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
        let last = std::mem::replace(&mut self.slots[slot].last, node);
        match self.keys.get_mut(last as usize) {
            Some(last) => last.next = node,
            None => self.slots[slot].first = node,
        }
        if let Some(node) = self.keys.get_mut(node as usize) {
            node.next = NONE;
        }
        self.occupied[slot / 64] |= 1 << (slot % 64);
    }

    fn take_node(&mut self, node: Node<T>) -> u32 {
        let index = self.vacant;
        if let Some(vacant) = self.keys.get_mut(index as usize) {
            self.vacant = vacant.next;
            *vacant = node;
            return index;
        }
        self.keys.push(node);
        // A few keys for each of some thousand sessions: far below 32 bits.
        u32::try_from(self.keys.len() - 1).unwrap_or(NONE)
    }

    fn give_back(&mut self, index: u32) {
        if let Some(node) = self.keys.get_mut(index as usize) {
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
