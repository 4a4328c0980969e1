//! A worker without a thread: takes and does tasks when it is told to.
//!
//! ```text
//!  TaskQueue --take--> Task --run--> TaskDone, delivered before `run` returns
//! ```
//! For a simulation, which decides when a task is taken and when its outcome arrives: the work is
//! the product's. Invariant: as for all workers, a task is answered once.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use super::engine::Engine;
use super::executor::Threads;
use super::media::Media;
use super::pool::PoolConfig;
use super::reply::{Deliver, Desk};
use super::serve::Local;
use super::task;
use super::task_queue::{Classes, TaskQueue};
use crate::access::question::Judge;
use crate::base::time::Mono;
use crate::library::Library;
use crate::poll::task::Task;

/// A worker that its caller drives.
#[derive(Debug)]
pub struct LoneWorker {
    queue: Arc<TaskQueue>,
    engine: Arc<Engine>,
    local: Rc<Local>,
    threads: Threads,
}

impl LoneWorker {
    /// A worker with a queue of its own. `clock` is the clock of the shards.
    ///
    /// # Errors
    /// The process is out of descriptors or threads.
    pub fn new(
        config: &PoolConfig,
        library: Arc<Library>,
        deliver: Arc<Deliver>,
        judge: Arc<Judge>,
        clock: fn() -> Mono,
    ) -> io::Result<Self> {
        let desk = Arc::new(Desk { deliver, counts: Arc::default() });
        let (titles, bytes) = (config.titles_max, config.window_cache_bytes);
        let images = config.image_bytes;
        let mut engine = Engine::new(library, Box::new(Media), desk, titles, bytes, images);
        engine.titles_open_max = config.titles_open_max;
        engine.judge = judge;
        engine.clock = clock;
        let local = Rc::new(Local::new(&engine));
        Ok(Self {
            queue: Arc::new(TaskQueue::new(config.queue_max, 0)?),
            engine: Arc::new(engine),
            local,
            threads: Threads::new()?,
        })
    }

    /// Where shards submit their tasks.
    #[must_use]
    pub fn queue(&self) -> Arc<TaskQueue> {
        Arc::clone(&self.queue)
    }

    /// Takes the next task of any class.
    #[must_use]
    pub fn take(&self) -> Option<Task> {
        self.queue.take(Classes::ALL)
    }

    /// Does a task to its end.
    pub fn run(&self, task: Task) {
        self.threads.block_on(task::run(&self.engine, &self.local.lanes, task));
        // Pools have a task for it, which goes by their own time.
        self.engine.sweep_images();
    }

    /// Answers a task as one that was given up.
    pub fn refuse(&self, task: &Task) {
        self.engine.refuse(task);
    }
}
