//! The pool: one pinned glommio executor per CPU given, all fed by one TaskQueue.
//!
//! ```text
//! start: queue + bells --> spawn executors --> all report ready, or the first error is returned
//! stop:  close queue, ring bells --> begun tasks end, queued ones are refused --> join
//! ```
//! glommio because a worker should wait for disks as a shard waits for sockets, without a thread
//! per read; where it may not run, threads read (`executor`). It is named in this folder only, so
//! it can be replaced.
//!
//! An idle worker sleeps in `io_uring_enter`. Measured on an idle pool of two over ten seconds:
//! not one clock tick of CPU time (`/proc/self/stat`), and no context switch.

use std::io;
use std::sync::Arc;
use std::sync::mpsc;

use glommio::GlommioError;
use rustix::process::{Resource, getrlimit};

use super::engine::Engine;
use super::executor::{Kind, Worker, WorkerError, system_error};
use super::formats::Formats;
use super::media::Media;
use super::read::BellReader;
use super::reply::{Deliver, Desk};
use super::serve::serve;
use super::task_queue::{TaskQueue, WORKERS_MAX};
use crate::access::question::Judge;
use crate::library::Library;
use crate::metrics::cells::WorkerCells;

/// What a pool is made of.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// One worker each: pinned to the CPU, or left to the scheduler.
    pub cpus: Vec<Option<usize>>,
    /// Tasks of one class that may wait.
    pub queue_max: usize,
    /// Memory for cached windows.
    pub window_cache_bytes: usize,
    /// Memory for images of windows; 0: none are made.
    pub image_bytes: usize,
    /// Titles kept open when nobody plays them.
    pub titles_max: usize,
    /// Titles open at once, those that are played among them: each has a descriptor.
    pub titles_open_max: usize,
    /// Tasks that one worker has under way at once; 32 keeps a disk's queue full.
    pub concurrency_per_worker: usize,
}

/// Why the pool does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// No CPU was given.
    #[error("a pool needs at least one worker")]
    NoWorkers,
    /// More than the queue can wake.
    #[error("{given} workers are more than {WORKERS_MAX}; give fewer (--workers)")]
    TooManyWorkers {
        /// As configured.
        given: usize,
    },
    /// The kernel or a sandbox does not let us have a ring.
    #[error(
        "worker {worker} gets no io_uring: set `sysctl kernel.io_uring_disabled=0`, or allow \
         io_uring_setup in the container's seccomp profile ({source})"
    )]
    NoRing {
        /// Which one, from 0.
        worker: usize,
        /// As the kernel said it.
        source: io::Error,
    },
    /// The CPU does not exist or may not be used.
    #[error("worker {worker} cannot run on CPU {cpu}: {reason}; give others (--workers)")]
    Cpu {
        /// Which one, from 0.
        worker: usize,
        /// As configured.
        cpu: usize,
        /// As glommio says it.
        reason: String,
    },
    /// Out of descriptors, threads, ...
    #[error("worker {worker} does not start: {reason}")]
    Other {
        /// Which one, from 0.
        worker: usize,
        /// As the system says it.
        reason: String,
    },
}

/// Running workers and the queue that feeds them. Dropping a pool stops it without waiting.
#[derive(Debug)]
pub struct Pool {
    queue: Arc<TaskQueue>,
    counts: Arc<WorkerCells>,
    kind: Kind,
    workers: Vec<Worker>,
}

impl Pool {
    /// Starts the workers and returns when all of them are ready. `deliver` and `judge` are called
    /// on their threads; they must neither block nor panic.
    ///
    /// # Errors
    /// See [`PoolError`]; workers that did start are stopped again.
    pub fn start(
        config: PoolConfig,
        library: Arc<Library>,
        deliver: Arc<Deliver>,
        judge: Arc<Judge>,
    ) -> Result<Self, PoolError> {
        Self::start_with(&config, library, deliver, (Box::new(Media), judge))
    }

    pub(super) fn start_with(
        config: &PoolConfig,
        library: Arc<Library>,
        deliver: Arc<Deliver>,
        (formats, judge): (Box<dyn Formats>, Arc<Judge>),
    ) -> Result<Self, PoolError> {
        let count = config.cpus.len();
        match count {
            0 => return Err(PoolError::NoWorkers),
            1..=WORKERS_MAX => {}
            _ => return Err(PoolError::TooManyWorkers { given: count }),
        }
        let queue = TaskQueue::new(config.queue_max, count)
            .map_err(|err| PoolError::Other { worker: 0, reason: err.to_string() })?;
        let counts = Arc::new(WorkerCells::default());
        let desk = Arc::new(Desk { deliver, counts: Arc::clone(&counts) });
        let mut engine = Engine::new(
            library,
            formats,
            desk,
            config.titles_max,
            config.window_cache_bytes,
            config.image_bytes,
        );
        engine.titles_open_max = config.titles_open_max;
        engine.judge = judge;
        let engine = Arc::new(engine);
        let kind = match has_topology() {
            true => Kind::for_limit(getrlimit(Resource::Memlock).current),
            false => Kind::Threads,
        };
        let mut pool = Self { queue: Arc::new(queue), counts, kind, workers: Vec::new() };
        let (ready, is_ready) = mpsc::channel();
        for (worker, cpu) in config.cpus.iter().enumerate() {
            let handle = pool
                .spawn(&engine, worker, *cpu, config.concurrency_per_worker, ready.clone())
                .map_err(|err| pool_error(worker, *cpu, err))?;
            pool.workers.push(handle);
        }
        drop(ready);
        // Ends early when a worker ended, and with it its sender, before it was ready.
        if is_ready.iter().take(count).count() == count {
            Ok(pool)
        } else {
            Err(pool.fault(config))
        }
    }

    /// Where shards submit their tasks.
    #[must_use]
    pub fn queue(&self) -> Arc<TaskQueue> {
        Arc::clone(&self.queue)
    }

    /// For the metrics.
    #[must_use]
    pub fn counts(&self) -> Arc<WorkerCells> {
        Arc::clone(&self.counts)
    }

    /// Takes no more tasks, answers those that wait with a failure, lets those under way end, and
    /// returns when the threads are gone. A worker that waits for a disk is waited for.
    pub fn stop(mut self) {
        self.queue.close();
        for (worker, handle) in self.workers.drain(..).enumerate() {
            if let Err(err) = handle.join() {
                let err = system_error(err);
                tracing::error!(code = "HE-E701", "worker {worker} ended with an error: {err}");
            }
        }
    }

    fn spawn(
        &self,
        engine: &Arc<Engine>,
        worker: usize,
        cpu: Option<usize>,
        concurrency: usize,
        ready: mpsc::Sender<()>,
    ) -> Result<Worker, WorkerError> {
        let (engine, queue) = (Arc::clone(engine), Arc::clone(&self.queue));
        Worker::spawn(self.kind, cpu, move || async move {
            let bell = queue.bell(worker).map(BellReader::new);
            match bell {
                Some(Ok(bell)) => {
                    let _ = ready.send(());
                    drop(ready);
                    serve(engine, queue, bell, worker, concurrency).await;
                }
                Some(Err(err)) => {
                    tracing::error!(code = "HE-E702", "worker {worker} has no bell: {err}");
                }
                None => {}
            }
        })
    }

    /// Stops what runs and says what went wrong.
    fn fault(mut self, config: &PoolConfig) -> PoolError {
        self.queue.close();
        let mut fault = None;
        let cpus = config.cpus.iter().copied();
        for (worker, (handle, cpu)) in self.workers.drain(..).zip(cpus).enumerate() {
            if let Err(err) = handle.join() {
                fault.get_or_insert_with(|| pool_error(worker, cpu, err));
            }
        }
        let reason = "it ended before it was ready; the log says why".to_owned();
        fault.unwrap_or(PoolError::Other { worker: 0, reason })
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Whether workers that may lock `locked_bytes_max` (`None`: without limit) read files on threads
/// instead of by io_uring.
#[must_use]
pub fn reads_on_threads(locked_bytes_max: Option<u64>) -> bool {
    Kind::for_limit(locked_bytes_max) == Kind::Threads
}

/// Whether this machine says which CPUs it has. glommio places its threads by that, and a container
/// or chroot without /sys does not.
#[must_use]
pub fn has_topology() -> bool {
    std::path::Path::new("/sys/devices/system/cpu/online").exists()
}

fn pool_error(worker: usize, cpu: Option<usize>, err: WorkerError) -> PoolError {
    if let (WorkerError::Ring(GlommioError::BuilderError(reason)), Some(cpu)) = (&err, cpu) {
        return PoolError::Cpu { worker, cpu, reason: reason.to_string() };
    }
    let source = system_error(err);
    match source.raw_os_error() {
        Some(libc::EPERM | libc::ENOSYS) => PoolError::NoRing { worker, source },
        _ => PoolError::Other { worker, reason: source.to_string() },
    }
}
