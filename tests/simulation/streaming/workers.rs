//! Workers of the simulation: the product's own work, when the dice let it be done.
//!
//! ```text
//!  TaskQueue --take--> a free worker --time passes--> done by the product's code, or a fault
//! ```
//! Bound: `WORKERS` tasks at once; others wait in the queue, which is short in some runs.

use std::sync::Arc;

use headend::access::question::nobody;
use headend::library::Library;
use headend::poll::poller::Poller;
use headend::poll::task::{OpenFailure, Outcome, Task, TaskDone, WindowFailure, Work};
use headend::shard::inbox::Inbox;
use headend::worker::{LoneWorker, PoolConfig};

use super::network::{Event, Mutation, Net, clock};
use crate::dice::MS;

/// What becomes of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Done,
    /// The worker panics: the product's reply is dropped.
    Panics,
    /// The disk fails.
    Fails,
    /// The file is shorter than it was.
    Short,
    /// The outcome is forgotten: a fault that is switched on.
    Lost,
}

/// The workers.
pub(crate) struct Workers {
    lone: LoneWorker,
    poller: Arc<Poller<Inbox>>,
    /// Whose workers they are, of several processes.
    house: usize,
    is_busy: [bool; WORKERS],
}

impl Workers {
    pub(crate) fn new(
        house: usize,
        library: Arc<Library>,
        poller: Arc<Poller<Inbox>>,
        queue_max: usize,
    ) -> Self {
        let config = PoolConfig {
            cpus: Vec::new(),
            queue_max,
            window_cache_bytes: 4 << 20,
            image_bytes: 8 << 20,
            titles_max: 4,
            titles_open_max: 16,
            concurrency_per_worker: 1,
        };
        let inboxes = Arc::clone(&poller);
        let deliver = Arc::new(move |shard, done| {
            inboxes.inbox(shard).expect("an inbox").deliver(done);
        });
        let lone = LoneWorker::new(&config, library, deliver, nobody(), clock);
        Self { lone: lone.expect("a worker"), poller, house, is_busy: [false; WORKERS] }
    }

    pub(crate) fn queue(&self) -> Arc<headend::worker::TaskQueue> {
        self.lone.queue()
    }

    /// Has free workers take tasks.
    pub(crate) fn take(&mut self, net: &mut Net) {
        while let Some(worker) = self.is_busy.iter().position(|busy| !busy) {
            let Some(task) = self.lone.take() else { return };
            self.is_busy[worker] = true;
            let weather = net.weather.clone();
            let mut fate = Fate::Done;
            for (chance, other) in [
                (weather.panicking, Fate::Panics),
                (weather.failing, Fate::Fails),
                (weather.short, Fate::Short),
            ] {
                if net.dice.chance(chance) {
                    fate = other;
                }
            }
            if net.mutation == Some(Mutation::OutcomeLost)
                && matches!(task.work, Work::Window { .. })
            {
                fate = Fate::Lost;
            }
            let is_slow = net.dice.chance(weather.slow);
            let delay =
                if is_slow { net.dice.ms(50, SLOW_MS) } else { net.dice.between(50_000, 3 * MS) };
            let (house, task) = (self.house, Box::new(task));
            net.after(delay, Event::Done { house, worker, task, fate });
        }
    }

    /// Ends a task.
    pub(crate) fn done(&mut self, net: &mut Net, worker: usize, task: Task, fate: Fate) {
        self.is_busy[worker] = false;
        net.watch.count(match fate {
            Fate::Done => "task.done",
            Fate::Panics => "task.panicked",
            Fate::Fails => "task.failed",
            Fate::Short => "task.short",
            Fate::Lost => "task.lost",
        });
        net.note("task", worker as u64, fate as u64);
        match fate {
            Fate::Done => self.lone.run(task),
            Fate::Panics => self.lone.refuse(&task),
            Fate::Fails | Fate::Short => match failure(&task, fate) {
                Some(outcome) => {
                    let inbox = self.poller.inbox(task.shard).expect("an inbox");
                    inbox.deliver(TaskDone { owner: task.owner, outcome });
                }
                None => self.lone.run(task),
            },
            Fate::Lost => {}
        }
    }
}

/// How a task fails; `None`: it has nothing to do with a disk.
fn failure(task: &Task, fate: Fate) -> Option<Outcome> {
    let window = || match fate {
        Fate::Short => WindowFailure::FileChanged,
        _ => WindowFailure::Unreadable("Input/output error".to_owned()),
    };
    match &task.work {
        Work::Open { .. } | Work::Adopt(_) => Some(Outcome::Opened(Err(match fate {
            Fate::Short => OpenFailure::Unplayable("it ends early".to_owned()),
            _ => OpenFailure::Unavailable("Input/output error".to_owned()),
        }))),
        Work::Window { .. } => Some(Outcome::Window(Err(window()))),
        Work::WindowBytes { .. } => Some(Outcome::WindowBytes(Err(window()))),
        Work::Image { .. }
        | Work::Resolve { .. }
        | Work::Judge(_)
        | Work::ReadDescription { .. } => None,
    }
}

const WORKERS: usize = 2;
/// The slowest disk.
pub(crate) const SLOW_MS: u64 = 1_500;
