//! What is to happen when, in either simulation.
//!
//! Invariant: events come in the order of their time and, at one time, of their making.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Events with their times, in virtual nanoseconds.
#[derive(Debug)]
pub(crate) struct DueQueue<E> {
    made: u64,
    heap: BinaryHeap<Due<E>>,
}

#[derive(Debug)]
struct Due<E> {
    at: u64,
    number: u64,
    event: E,
}

impl<E> DueQueue<E> {
    pub(crate) fn new() -> Self {
        Self { made: 0, heap: BinaryHeap::new() }
    }

    pub(crate) fn push(&mut self, at: u64, event: E) {
        self.made += 1;
        self.heap.push(Due { at, number: self.made, event });
    }

    /// Takes the next event, with its time.
    pub(crate) fn pop(&mut self) -> Option<(u64, E)> {
        self.heap.pop().map(|due| (due.at, due.event))
    }

    /// Time of the next event.
    pub(crate) fn next_at(&self) -> Option<u64> {
        self.heap.peek().map(|due| due.at)
    }
}

impl<E> PartialEq for Due<E> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<E> Eq for Due<E> {}

impl<E> PartialOrd for Due<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Due<E> {
    /// The heap hands out the greatest: the earliest event, and of two the one made first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

#[test]
fn events_come_by_their_time_and_then_by_their_making() {
    let mut queue = DueQueue::new();
    for (at, event) in [(5, "b"), (3, "a"), (5, "c"), (9, "d")] {
        queue.push(at, event);
    }
    assert_eq!(queue.next_at(), Some(3));
    let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
    assert_eq!(order, [(3, "a"), (5, "b"), (5, "c"), (9, "d")]);
}
