//! What the tasks of a worker run on: glommio's executor, or a thread that reads with `pread`.
//!
//! ```text
//! RLIMIT_MEMLOCK >= 512 KiB   glommio: reads and the bell through the worker's ring
//! less                        one thread: reads and the bell on further threads, up to 64
//! ```
//! glommio refuses to start below 512 KiB of lockable memory, and containers give 64 KiB. Threads
//! cost two switches and a copy for each read that the page cache cannot serve; what is in the
//! cache is read the same way on both (see `read`).
//!
//! Invariant: a worker's thread has one kind of executor, from its start to its end.

use std::cell::Cell;
use std::fs::File;
use std::future::Future;
use std::io;
use std::ops::Deref;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use glommio::io::ReadResult;
use glommio::{ExecutorJoinHandle, GlommioError, LocalExecutorBuilder, Placement};

use super::read::{RingFile, io_error};

/// The kind of executor that runs the tasks of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// glommio, with io_uring.
    Ring,
    /// Threads that block.
    Threads,
}

thread_local! {
    static KIND: Cell<Kind> = const { Cell::new(Kind::Ring) };
}

impl Kind {
    /// The one that a limit on locked memory allows; `None` is no limit.
    pub(super) fn for_limit(locked_bytes_max: Option<u64>) -> Self {
        match locked_bytes_max {
            Some(bytes) if bytes < LOCKED_BYTES_MIN => Self::Threads,
            _ => Self::Ring,
        }
    }
}

/// A running worker.
#[derive(Debug)]
pub(super) enum Worker {
    Ring(ExecutorJoinHandle<()>),
    Threads(JoinHandle<io::Result<()>>),
}

/// Why a worker did not start, or ended.
#[derive(Debug)]
pub(super) enum WorkerError {
    /// As glommio says it.
    Ring(GlommioError<()>),
    /// As the system says it.
    Threads(io::Error),
}

impl Worker {
    /// Starts a worker whose main task is what `main` makes on the worker's thread.
    pub(super) fn spawn<F: Future<Output = ()> + 'static>(
        kind: Kind,
        cpu: Option<usize>,
        main: impl FnOnce() -> F + Send + 'static,
    ) -> Result<Self, WorkerError> {
        match kind {
            Kind::Ring => {
                LocalExecutorBuilder::new(cpu.map_or(Placement::Unbound, Placement::Fixed))
                    .name("worker")
                    // Only DMA reads use the executor's own buffers, and we make none (see `read`).
                    .io_memory(IO_MEMORY_BYTES)
                    .spawn(move || async move { main().await })
                    .map(Self::Ring)
                    .map_err(WorkerError::Ring)
            }
            Kind::Threads => std::thread::Builder::new()
                .name("worker".to_owned())
                .spawn(move || run_on_threads(cpu, main))
                .map(Self::Threads)
                .map_err(WorkerError::Threads),
        }
    }

    /// Waits for its end.
    pub(super) fn join(self) -> Result<(), WorkerError> {
        match self {
            Self::Ring(handle) => handle.join().map_err(WorkerError::Ring),
            Self::Threads(handle) => {
                let panicked = |_| io::Error::other("it panicked");
                let ended = handle.join().map_err(panicked).and_then(|result| result);
                ended.map_err(WorkerError::Threads)
            }
        }
    }
}

fn run_on_threads<F: Future<Output = ()> + 'static>(
    cpu: Option<usize>,
    main: impl FnOnce() -> F,
) -> io::Result<()> {
    KIND.set(Kind::Threads);
    if let Some(id) = cpu
        && !core_affinity::set_for_current(core_affinity::CoreId { id })
    {
        return Err(io::Error::other(format!("it cannot be pinned to CPU {id}")));
    }
    // The threads that read inherit the CPU.
    let runtime = reading_runtime()?;
    tokio::task::LocalSet::new().block_on(&runtime, main());
    // A read that a disk does not answer must not keep the program from its end.
    runtime.shutdown_background();
    Ok(())
}

fn reading_runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .max_blocking_threads(READ_THREADS_MAX)
        .thread_name("worker-read")
        .build()
}

/// Runs futures on the calling thread, with reads on further threads.
#[derive(Debug)]
pub(super) struct Threads(tokio::runtime::Runtime);

impl Threads {
    pub(super) fn new() -> io::Result<Self> {
        reading_runtime().map(Self)
    }

    pub(super) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        KIND.set(Kind::Threads);
        tokio::task::LocalSet::new().block_on(&self.0, future)
    }
}

/// Lets the other tasks of this executor go first.
pub(super) async fn yield_once() {
    let mut has_yielded = false;
    std::future::poll_fn(|context| {
        if has_yielded {
            return Poll::Ready(());
        }
        has_yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Starts a task on the executor of this thread.
pub(super) fn spawn_local<F: Future<Output = ()> + 'static>(
    task: F,
) -> impl Future<Output = ()> + use<F> {
    enum Handle {
        Ring(glommio::task::JoinHandle<()>),
        Threads(tokio::task::JoinHandle<()>),
    }
    let handle = match KIND.get() {
        Kind::Ring => Handle::Ring(glommio::spawn_local(task).detach()),
        Kind::Threads => Handle::Threads(tokio::task::spawn_local(task)),
    };
    async move {
        match handle {
            Handle::Ring(handle) => drop(handle.await),
            Handle::Threads(handle) => drop(handle.await),
        }
    }
}

/// Waits for `duration` without keeping other tasks from running.
pub(super) async fn sleep(duration: Duration) {
    match KIND.get() {
        Kind::Ring => glommio::timer::sleep(duration).await,
        Kind::Threads => tokio::time::sleep(duration).await,
    }
}

/// A file whose reads may wait for a disk.
#[derive(Debug)]
pub(super) enum ColdFile {
    Ring(RingFile),
    Threads(Arc<File>),
}

/// What was read.
#[derive(Debug)]
pub(super) enum Part {
    Ring(ReadResult),
    Threads(Vec<u8>),
}

impl Deref for Part {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Ring(result) => result,
            Self::Threads(bytes) => bytes,
        }
    }
}

impl Part {
    /// Reads on this thread, which waits for the disk.
    pub(super) fn read_at_once(file: &File, offset: u64, bytes: usize) -> io::Result<Self> {
        read_whole(file, offset, bytes).map(Self::Threads)
    }
}

fn read_whole(file: &File, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
    let mut buffer = Vec::new();
    let no_memory = |_| io::Error::from(io::ErrorKind::OutOfMemory);
    buffer.try_reserve_exact(bytes).map_err(no_memory)?;
    buffer.resize(bytes, 0);
    let read = file.read_at(&mut buffer, offset)?;
    buffer.truncate(read);
    Ok(buffer)
}

impl ColdFile {
    /// A duplicate of `file` for the executor of this thread.
    pub(super) fn new(file: &File) -> io::Result<Self> {
        match KIND.get() {
            Kind::Ring => RingFile::new(file).map(Self::Ring),
            Kind::Threads => file.try_clone().map(|file| Self::Threads(Arc::new(file))),
        }
    }

    /// At most `bytes` from `offset` on; none at the end of the file.
    pub(super) async fn read_at(&self, offset: u64, bytes: usize) -> io::Result<Part> {
        match self {
            Self::Ring(file) => file.read_at(offset, bytes).await.map(Part::Ring),
            Self::Threads(file) => {
                let file = Arc::clone(file);
                on_a_thread(move || read_whole(&file, offset, bytes)).await.map(Part::Threads)
            }
        }
    }

    /// Reads the count of an eventfd, which has no offsets, and waits until there is one.
    pub(super) async fn read_eventfd(&self) -> io::Result<()> {
        match self {
            Self::Ring(file) => file.read_at(0, size_of::<u64>()).await.map(drop),
            Self::Threads(file) => {
                let file = Arc::clone(file);
                on_a_thread(move || Ok(rustix::io::read(&*file, &mut [0_u8; 8]).map(drop)?)).await
            }
        }
    }

    /// Gives the descriptor back without waiting for the executor's next round.
    pub(super) async fn close(self) {
        match self {
            Self::Ring(file) => file.close().await,
            Self::Threads(file) => drop(file),
        }
    }
}

async fn on_a_thread<T: Send + 'static>(
    read: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(read).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// Takes the error that a worker ended with apart.
pub(super) fn system_error(error: WorkerError) -> io::Error {
    match error {
        WorkerError::Ring(error) => io_error(error),
        WorkerError::Threads(error) => error,
    }
}

/// What glommio must be allowed to lock for one executor.
pub(super) const LOCKED_BYTES_MIN: u64 = 512 << 10;
/// The least that glommio takes.
const IO_MEMORY_BYTES: usize = 64 << 10;
/// Reads of one worker at once: those of two devices (`lanes`); further ones wait.
const READ_THREADS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_limit_on_locked_memory_makes_workers_read_by_threads() {
        assert_eq!(Kind::for_limit(None), Kind::Ring);
        assert_eq!(Kind::for_limit(Some(LOCKED_BYTES_MIN)), Kind::Ring);
        assert_eq!(Kind::for_limit(Some(64 << 10)), Kind::Threads);
    }
}
