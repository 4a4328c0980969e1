//! The TaskQueue: work on its way from shards to workers.
//!
//! ```text
//! shard --submit--> [Control  ] --take--> worker
//! shard --submit--> [Prefetch ]
//! shard --submit--> [Bulk     ] <-- every 16th take starts at this end
//! ```
//! reference 001: one FIFO queue of Task objects, shared by the threads of the pool. Here it is
//! one FIFO per class; a class waits while a higher one has tasks, but is aged: every
//! `AGEING_TAKES`-th task is taken from the lowest class that has one.
//!
//! Invariants:
//! - tasks of a class are taken in the order in which they were submitted;
//! - no wake-up is lost. A worker announces that it sleeps, then looks at the queue once more,
//!   then parks; a submitter pushes, then looks for sleepers. Both sides have a sequentially
//!   consistent fence between their two steps, so at least one of them sees the other.
//!
//! Bound: `queue_max` tasks of each class; the next one is handed back. `submit` takes no lock and
//! enters the kernel only to wake a worker that announced that it sleeps.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

use crossbeam_queue::ArrayQueue;
use crossbeam_utils::CachePadded;

use super::bell::Bell;
use crate::poll::task::{Task, TaskClass};

/// Queues of tasks by class, with the bells of the workers.
#[derive(Debug)]
pub struct TaskQueue {
    lanes: [ArrayQueue<Task>; CLASS_COUNT],
    /// Bit n of `sleeping[class]`: worker n sleeps and wants to be woken for this class.
    sleeping: [CachePadded<AtomicU64>; CLASS_COUNT],
    bells: Box<[Bell]>,
    takes: CachePadded<AtomicU64>,
    is_closed: AtomicBool,
}

impl TaskQueue {
    /// A queue of `queue_max` tasks of each class (at least one), for `worker_count` workers.
    ///
    /// # Errors
    /// `InvalidInput` for more than [`WORKERS_MAX`] workers, or when the process is out of
    /// descriptors.
    pub fn new(queue_max: usize, worker_count: usize) -> io::Result<Self> {
        if worker_count > WORKERS_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let bells = (0..worker_count).map(|_| Bell::new()).collect::<io::Result<_>>()?;
        Ok(Self {
            lanes: std::array::from_fn(|_| ArrayQueue::new(queue_max.max(1))),
            sleeping: Default::default(),
            bells,
            takes: CachePadded::default(),
            is_closed: AtomicBool::new(false),
        })
    }

    /// Queues a task.
    ///
    /// # Errors
    /// Hands the task back when its class is full or the pool has stopped.
    pub fn submit(&self, task: Task) -> Result<(), Task> {
        if self.is_closed() {
            return Err(task);
        }
        let class = task.class;
        self.lanes[lane(class)].push(task)?;
        fence(Ordering::SeqCst);
        self.wake_one(class);
        Ok(())
    }

    /// Tasks waiting in a class.
    #[must_use]
    pub fn len_of(&self, class: TaskClass) -> usize {
        self.lanes[lane(class)].len()
    }

    /// Tasks waiting in all classes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lanes.iter().map(ArrayQueue::len).sum()
    }

    /// True when no task waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(ArrayQueue::is_empty)
    }

    /// The next task among the classes that the caller `may` take.
    pub(super) fn take(&self, may: Classes) -> Option<Task> {
        let takes = self.takes.load(Ordering::Relaxed);
        let is_aged = takes % AGEING_TAKES == AGEING_TAKES - 1;
        let upwards = [TaskClass::Bulk, TaskClass::Prefetch, TaskClass::Control];
        let downwards = [TaskClass::Control, TaskClass::Prefetch, TaskClass::Bulk];
        let order = if is_aged { upwards } else { downwards };
        let mut allowed = order.into_iter().filter(|class| may.has(*class));
        let task = allowed.find_map(|class| self.lanes[lane(class)].pop())?;
        self.takes.fetch_add(1, Ordering::Relaxed);
        Some(task)
    }

    /// Worker `worker` is about to sleep and may take `may`. It must look at the queue (and at
    /// `is_closed`) once more before it waits for its bell.
    pub(super) fn announce(&self, worker: usize, may: Classes) {
        for class in ALL_CLASSES.into_iter().filter(|class| may.has(*class)) {
            self.sleeping[lane(class)].fetch_or(bit(worker), Ordering::SeqCst);
        }
        fence(Ordering::SeqCst);
    }

    /// Worker `worker` is awake.
    pub(super) fn retract(&self, worker: usize) {
        for sleeping in &self.sleeping {
            if sleeping.load(Ordering::Relaxed) & bit(worker) != 0 {
                sleeping.fetch_and(!bit(worker), Ordering::SeqCst);
            }
        }
    }

    /// The bell of worker `worker`.
    pub(super) fn bell(&self, worker: usize) -> Option<&Bell> {
        self.bells.get(worker)
    }

    /// Takes no more tasks and wakes everybody.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.bells.iter().for_each(Bell::ring);
    }

    /// True once the pool has stopped.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    /// Rings for one worker that sleeps and may take `class`. Whoever clears the worker's bit
    /// rings, so several submitters do not wake the same one.
    fn wake_one(&self, class: TaskClass) {
        let sleeping = &self.sleeping[lane(class)];
        // Each failed round means that somebody else woke that worker.
        for _ in 0..=WORKERS_MAX {
            let seen = sleeping.load(Ordering::SeqCst);
            if seen == 0 {
                return;
            }
            let lowest = seen & seen.wrapping_neg();
            if sleeping.fetch_and(!lowest, Ordering::SeqCst) & lowest != 0 {
                if let Some(bell) = self.bells.get(lowest.trailing_zeros() as usize) {
                    bell.ring();
                }
                return;
            }
        }
    }
}

/// A set of task classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Classes(u8);

impl Classes {
    pub(super) const NONE: Self = Self(0);
    pub(super) const ALL: Self = Self(0b111);

    #[must_use]
    pub(super) fn with(self, class: TaskClass) -> Self {
        Self(self.0 | 1 << lane(class))
    }

    pub(super) fn has(self, class: TaskClass) -> bool {
        self.0 & 1 << lane(class) != 0
    }
}

fn lane(class: TaskClass) -> usize {
    match class {
        TaskClass::Control => 0,
        TaskClass::Prefetch => 1,
        TaskClass::Bulk => 2,
    }
}

fn bit(worker: usize) -> u64 {
    u32::try_from(worker).ok().and_then(|worker| 1_u64.checked_shl(worker)).unwrap_or(0)
}

/// Workers at most: one bit each in a word.
pub const WORKERS_MAX: usize = 64;

pub(super) const ALL_CLASSES: [TaskClass; CLASS_COUNT] =
    [TaskClass::Control, TaskClass::Prefetch, TaskClass::Bulk];

const CLASS_COUNT: usize = 3;

/// Every so many takes the lowest class goes first: a flood of commands leaves 6 % to prefetch.
const AGEING_TAKES: u64 = 16;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;
    use crate::base::ids::ShardId;
    use crate::poll::task::{TaskOwner, Work};

    fn task(class: TaskClass, number: u64) -> Task {
        Task {
            shard: ShardId(0),
            owner: TaskOwner::numbered(number),
            class,
            work: Work::Open { name: None },
        }
    }

    #[test]
    fn full_class_hands_the_task_back_and_leaves_the_others_alone() {
        let queue = TaskQueue::new(2, 0).unwrap();
        assert!(queue.submit(task(TaskClass::Bulk, 1)).is_ok());
        assert!(queue.submit(task(TaskClass::Bulk, 2)).is_ok());
        assert_eq!(queue.submit(task(TaskClass::Bulk, 3)).unwrap_err().owner.number(), 3);
        assert!(queue.submit(task(TaskClass::Control, 4)).is_ok());
        assert_eq!(queue.len(), 3);
        assert_eq!(queue.take(Classes::ALL).unwrap().owner.number(), 4);
        assert_eq!(queue.take(Classes::ALL).unwrap().owner.number(), 1);
    }

    #[test]
    fn closed_queue_hands_tasks_back() {
        let queue = TaskQueue::new(2, 1).unwrap();
        queue.close();
        assert_eq!(queue.submit(task(TaskClass::Control, 9)).unwrap_err().owner.number(), 9);
        assert!(queue.is_empty());
    }

    #[test]
    fn only_a_worker_that_announced_the_class_is_woken_and_only_once() {
        let queue = TaskQueue::new(8, 2).unwrap();
        queue.announce(0, Classes::NONE.with(TaskClass::Control));
        queue.announce(1, Classes::ALL);
        let rung = || [0, 1].map(|worker| queue.bell(worker).unwrap().take_rings());
        queue.submit(task(TaskClass::Bulk, 1)).unwrap();
        assert_eq!(rung(), [0, 1]);
        queue.submit(task(TaskClass::Bulk, 2)).unwrap();
        assert_eq!(rung(), [0, 0]);
        queue.submit(task(TaskClass::Control, 3)).unwrap();
        assert_eq!(rung(), [1, 0]);
        queue.retract(1);
        queue.submit(task(TaskClass::Prefetch, 4)).unwrap();
        assert_eq!(rung(), [0, 0]);
        queue.close();
        assert_eq!(rung(), [1, 1]);
    }

    #[test]
    fn flood_of_commands_does_not_starve_the_lower_classes() {
        let queue = TaskQueue::new(64, 0).unwrap();
        queue.submit(task(TaskClass::Bulk, 1_000)).unwrap();
        queue.submit(task(TaskClass::Prefetch, 1_001)).unwrap();
        let mut seen = Vec::new();
        for ticket in 0..2 * AGEING_TAKES {
            queue.submit(task(TaskClass::Control, ticket)).unwrap();
            seen.push(queue.take(Classes::ALL).unwrap().owner.number());
        }
        let place = |ticket: u64| seen.iter().position(|taken| *taken == ticket);
        assert_eq!(place(1_000), Some(15));
        assert_eq!(place(1_001), Some(31));
    }

    #[test]
    fn workers_past_the_bitmap_are_refused() {
        assert!(TaskQueue::new(1, WORKERS_MAX).is_ok());
        assert!(TaskQueue::new(1, WORKERS_MAX + 1).is_err());
    }

    proptest! {
        #[test]
        fn queue_agrees_with_three_bounded_deques(
            steps in prop::collection::vec((0_u8..6, 0_u8..8), 0..200),
            queue_max in 1_usize..6,
        ) {
            let queue = TaskQueue::new(queue_max, 0).unwrap();
            let mut oracle: [VecDeque<u64>; 3] = Default::default();
            let mut takes = 0;
            for (ticket, (step, mask)) in (0..).zip(steps) {
                let class = usize::from(step % 3);
                if step < 3 {
                    let taken = queue.submit(task(ALL_CLASSES[class], ticket)).is_ok();
                    prop_assert_eq!(taken, oracle[class].len() < queue_max);
                    if taken {
                        oracle[class].push_back(ticket);
                    }
                } else {
                    let may = Classes(mask);
                    let mut order = [0, 1, 2];
                    if takes % AGEING_TAKES == AGEING_TAKES - 1 {
                        order.reverse();
                    }
                    let lane = order
                        .into_iter()
                        .find(|lane| may.has(ALL_CLASSES[*lane]) && !oracle[*lane].is_empty());
                    let expected = lane.and_then(|lane| oracle[lane].pop_front());
                    takes += u64::from(expected.is_some());
                    prop_assert_eq!(queue.take(may).map(|task| task.owner.number()), expected);
                }
                prop_assert_eq!(queue.len(), oracle.iter().map(VecDeque::len).sum::<usize>());
            }
        }
    }
}
