//! The clerk: a thread that owns the book and the ledger, and answers when a change is durable.
//!
//! ```text
//! ask(f) --queue--> f(&mut Book) .. f(&mut Book) --changes--> one commit --> answers
//!                        (a batch: all that waits)                |--> orders to nodes
//!                                                                 '--> number of the newest event
//! ```
//! While a commit waits for the disk the next batch gathers in the queue: that is the group commit,
//! and nobody waits for a timer.
//! Parts of the uplink go out with orders.
//! Who only looks does not wait behind requests: looks have a queue of their own, a batch that has
//! begun ends early for them, and they see what is committed.
//! Invariants: answers and orders leave in the order of the requests, after the commit that has
//! their changes, and only while no other base can have the ledger. A commit that fails for good
//! ends the clerk, because the book is ahead then; one that fails because the disk is full or the
//! database does not answer is tried again, and meanwhile requests wait, then are refused.
//! Bounds: `QUEUE_MAX` requests and as many looks wait, others are handed back as `Busy`;
//! `BATCH_ROWS_MAX` rows make a transaction, and what one request more adds; a batch goes on for
//! `LOOK_AFTER` when somebody looks; `ANSWER_MAX` for an answer.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{oneshot, watch};

use super::orders::{Lines, OrderStream};
use super::{Ledger, LedgerError, Reader};
use crate::dist::book::Book;
use crate::dist::ids::{JobId, NodeName, Stamp};
use crate::dist::rows::Change;
use crate::dist::uplink::Share;
use crate::dist::wire::job::EventView;
use crate::metrics::distribution::LedgerCells;

/// Asks the clerk. Clones ask the same one.
#[derive(Clone)]
pub struct Clerk {
    queue: SyncSender<Request>,
    looks: SyncSender<Look>,
    shared: Arc<Shared>,
    events: watch::Receiver<u64>,
}

/// The clerk's thread, for who started it.
#[derive(Debug)]
pub struct ClerkThread {
    queue: SyncSender<Request>,
    is_ending: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// Why the clerk does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClerkError {
    /// Too many requests wait.
    #[error("the base has too much to do; ask again")]
    Busy,
    /// The disk of the base is full or too slow. What was asked may be done yet.
    #[error("the ledger of the base cannot be written at present; ask again")]
    Late,
    /// The base ends.
    #[error("the base ends")]
    Ended,
    /// Events of the past cannot be read.
    #[error("the ledger cannot be read")]
    Unreadable,
}

/// What all clones share with the thread.
#[derive(Debug)]
struct Shared {
    lines: Arc<Lines>,
    readers: Vec<Mutex<Reader>>,
    next_reader: AtomicU64,
    cells: Arc<LedgerCells>,
    on_share: Arc<ShareListener>,
}

/// Who is told of parts of the uplink.
#[derive(Default)]
struct ShareListener(OnceLock<OnShare>);

/// Is told of each job's part of the uplink of the base.
pub type OnShare = Box<dyn Fn(JobId, Option<Share>) + Send + Sync>;

enum Request {
    Ask(Ask),
    /// A node listens now, or somebody looks.
    Wake,
    /// Everything before this is done, nothing behind it.
    End,
}

/// Runs on the book; gives what to do when its changes are durable.
type Ask = Box<dyn FnOnce(&mut Book, Stamp) -> Answer + Send>;
type Answer = Box<dyn FnOnce() + Send>;
/// Looks at the book; gives what to do then.
type Look = Box<dyn FnOnce(&Book) -> Answer + Send>;

impl Clerk {
    /// Starts the thread.
    ///
    /// # Errors
    /// The thread does not start, or the ledger cannot be opened a second time, for reading.
    pub fn start(ledger: Ledger, book: Book) -> io::Result<(Self, ClerkThread)> {
        let readers = (0..READERS).map(|_| ledger.reader().map(Mutex::new));
        let readers = readers.collect::<Result<_, _>>().map_err(io::Error::other)?;
        let cells = Arc::new(LedgerCells::default());
        let lines = Arc::new(Lines::default());
        let on_share = Arc::<ShareListener>::default();
        let shared = Shared {
            lines: Arc::clone(&lines),
            readers,
            next_reader: AtomicU64::new(0),
            cells: Arc::clone(&cells),
            on_share: Arc::clone(&on_share),
        };
        let (queue, requests) = sync_channel(QUEUE_MAX);
        let (looks, looking) = sync_channel(QUEUE_MAX);
        let (newest, events) = watch::channel(0);
        let is_ending = Arc::<AtomicBool>::default();
        let desk = Desk {
            ledger,
            book,
            requests,
            looks: looking,
            next_look: None,
            lines,
            newest,
            cells,
            on_share,
            batch: Batch::default(),
            is_ending: Arc::clone(&is_ending),
        };
        let thread = Builder::new().name("clerk".to_owned()).spawn(move || desk.run())?;
        let clerk = Self { queue: queue.clone(), looks, shared: Arc::new(shared), events };
        Ok((clerk, ClerkThread { queue, is_ending, thread }))
    }

    /// Runs `f` on the book, and answers when what it changed is durable.
    ///
    /// # Errors
    /// `ClerkError::Busy`: it did not run. `Late`: it may have run, or will. `Ended`: what it
    /// changed is lost, or it did not run.
    pub async fn ask<T: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Book, Stamp) -> T + Send + 'static,
    ) -> Result<T, ClerkError> {
        let (reply, answer) = oneshot::channel();
        let ask: Ask = Box::new(move |book, at| {
            let value = f(book, at);
            Box::new(move || {
                // Who asked may have gone.
                let _gone = reply.send(value);
            })
        });
        self.queue.try_send(Request::Ask(ask)).map_err(|error| self.refused(&error))?;
        answered(answer).await
    }

    /// Runs `f` on the book, as it is in the ledger.
    ///
    /// # Errors
    /// As of [`Clerk::ask`].
    pub async fn look<T: Send + 'static>(
        &self,
        f: impl FnOnce(&Book) -> T + Send + 'static,
    ) -> Result<T, ClerkError> {
        let (reply, answer) = oneshot::channel();
        let look: Look = Box::new(move |book| {
            let value = f(book);
            Box::new(move || {
                let _gone = reply.send(value);
            })
        });
        self.looks.try_send(look).map_err(|error| self.refused(&error))?;
        // When the queue is full, the thread looks for looks behind the batch that it is at.
        let _full = self.queue.try_send(Request::Wake);
        answered(answer).await
    }

    fn refused<T>(&self, error: &TrySendError<T>) -> ClerkError {
        match error {
            TrySendError::Full(_) => {
                self.shared.cells.refused.add(1);
                ClerkError::Busy
            }
            TrySendError::Disconnected(_) => ClerkError::Ended,
        }
    }

    /// Orders of a node: those that are open first, then as they come. A newer stream of the same
    /// node ends this one.
    #[must_use]
    pub fn orders(&self, node: NodeName) -> OrderStream {
        let stream = self.shared.lines.open(node);
        // When the queue is full, the thread looks for new lines after the batch that it is at.
        let _full = self.queue.try_send(Request::Wake);
        stream
    }

    /// Number of the newest durable event; 0 before the first of this start. Closed when the clerk
    /// ends.
    #[must_use]
    pub fn events(&self) -> watch::Receiver<u64> {
        self.events.clone()
    }

    /// Events behind number `after`, of one job or of all, in order, `limit` at most.
    ///
    /// # Errors
    /// `ClerkError::Unreadable`; the log says why.
    pub async fn read_events(
        &self,
        job: Option<JobId>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<EventView>, ClerkError> {
        let limit = limit.min(EVENTS_MAX);
        self.read(move |reader| reader.events(job, after, limit)).await
    }

    /// Jobs that have not ended, or not before `until_ns` (UTC).
    ///
    /// # Errors
    /// `ClerkError::Unreadable`; the log says why.
    pub async fn read_kept_jobs(&self, until_ns: i64) -> Result<BTreeSet<JobId>, ClerkError> {
        self.read(move |reader| reader.kept_jobs(until_ns)).await
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut Reader) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, ClerkError> {
        let shared = Arc::clone(&self.shared);
        match tokio::task::spawn_blocking(move || shared.read(read)).await {
            Ok(Ok(Some(found))) => Ok(found),
            Ok(Ok(None)) => Err(ClerkError::Unreadable),
            Ok(Err(error)) => {
                tracing::error!(code = "HE-E931", %error, "events cannot be read");
                Err(ClerkError::Unreadable)
            }
            Err(_runtime_ends) => Err(ClerkError::Ended),
        }
    }

    /// Has `f` told of parts of the uplink, those of before included. Only the first one is.
    pub fn on_share(&self, f: OnShare) {
        let _first_stays = self.shared.on_share.0.set(f);
    }

    /// Nodes that listen for orders.
    #[must_use]
    pub fn listening_nodes(&self) -> usize {
        self.shared.lines.count()
    }

    /// Streams of orders that ended because their node did not read them.
    #[must_use]
    pub fn order_overflows(&self) -> u64 {
        self.shared.lines.overflows()
    }

    /// What the thread counts.
    #[must_use]
    pub fn cells(&self) -> Arc<LedgerCells> {
        Arc::clone(&self.shared.cells)
    }
}

impl fmt::Debug for Clerk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clerk").finish_non_exhaustive()
    }
}

impl fmt::Debug for ShareListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ShareListener").field(&self.0.get().is_some()).finish()
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ask(_) => "Ask",
            Self::Wake => "Wake",
            Self::End => "End",
        })
    }
}

impl Shared {
    /// By the next of the readers. `None`: there is none.
    fn read<T>(
        &self,
        read: impl FnOnce(&mut Reader) -> Result<T, LedgerError>,
    ) -> Result<Option<T>, LedgerError> {
        let next = self.next_reader.fetch_add(1, Ordering::Relaxed);
        let place = usize::try_from(next).unwrap_or_default() % self.readers.len().max(1);
        let Some(reader) = self.readers.get(place) else { return Ok(None) };
        read(&mut reader.lock().unwrap_or_else(PoisonError::into_inner)).map(Some)
    }
}

impl ClerkThread {
    /// Has everything that was asked so far done, then ends the thread. Blocks until then.
    pub fn end(self) {
        self.is_ending.store(true, Ordering::Release);
        // It blocks while the queue is full: the thread takes from it, or has ended.
        let _ended = self.queue.send(Request::End);
        let _panicked = self.thread.join();
    }
}

/// The answer, for so long as somebody may wait.
async fn answered<T>(answer: oneshot::Receiver<T>) -> Result<T, ClerkError> {
    match tokio::time::timeout(ANSWER_MAX, answer).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(_ended)) => Err(ClerkError::Ended),
        Err(_elapsed) => Err(ClerkError::Late),
    }
}

/// The thread's side.
struct Desk {
    ledger: Ledger,
    book: Book,
    requests: Receiver<Request>,
    looks: Receiver<Look>,
    /// A look for which a batch has ended early.
    next_look: Option<Look>,
    lines: Arc<Lines>,
    newest: watch::Sender<u64>,
    cells: Arc<LedgerCells>,
    on_share: Arc<ShareListener>,
    batch: Batch,
    /// Nobody waits for room on a disk any more.
    is_ending: Arc<AtomicBool>,
}

#[derive(Default)]
struct Batch {
    changes: Vec<Change>,
    answers: Vec<Answer>,
    is_last: bool,
}

impl Desk {
    fn run(mut self) {
        let mut next_tick = Instant::now();
        while !self.batch.is_last {
            let wait = next_tick.saturating_duration_since(Instant::now());
            match self.requests.recv_timeout(wait) {
                Ok(request) => self.gather(request),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => self.batch.is_last = true,
            }
            if Instant::now() >= next_tick {
                self.book.tick(now());
                next_tick = Instant::now() + TICK;
            }
            self.batch.changes.extend(self.book.take_changes());
            match self.settle().and_then(|()| self.look()) {
                Ok(()) => {}
                // The log has it already.
                Err(LedgerError::Lost(_)) => break,
                Err(error) => {
                    let fix = "the base has to be started again";
                    tracing::error!(code = "HE-E932", %error, fix, "the ledger cannot be written");
                    break;
                }
            }
        }
        self.lines.end();
        if let Err(error) = self.ledger.fold() {
            tracing::warn!(code = "HE-W931", %error, "the write-ahead log stays for the next start");
        }
    }

    /// Answers who looks. Nothing waits for a commit: the book is as the ledger is.
    fn look(&mut self) -> Result<(), LedgerError> {
        for _ in 0..QUEUE_MAX {
            let Some(look) = self.next_look.take().or_else(|| self.looks.try_recv().ok()) else {
                break;
            };
            let answer = look(&self.book);
            self.batch.answers.push(answer);
        }
        if self.batch.answers.is_empty() { Ok(()) } else { self.settle() }
    }

    /// Somebody looks.
    fn is_looked_at(&mut self) -> bool {
        self.next_look = self.next_look.take().or_else(|| self.looks.try_recv().ok());
        self.next_look.is_some()
    }

    /// Runs `first` and what else waits, up to the bound.
    fn gather(&mut self, first: Request) {
        let begun = Instant::now();
        let mut next = Some(first);
        while let Some(request) = next {
            match request {
                Request::Ask(ask) => {
                    let answer = ask(&mut self.book, now());
                    self.batch.answers.push(answer);
                    self.batch.changes.extend(self.book.take_changes());
                }
                Request::Wake => {}
                Request::End => self.batch.is_last = true,
            }
            let is_full = self.batch.changes.len() >= BATCH_ROWS_MAX
                || self.batch.answers.len() >= BATCH_ROWS_MAX
                || self.batch.is_last
                || begun.elapsed() >= LOOK_AFTER && self.is_looked_at();
            next = if is_full { None } else { self.requests.try_recv().ok() };
        }
    }

    /// Commits the batch, then lets out what depends on it.
    fn settle(&mut self) -> Result<(), LedgerError> {
        // What is only read is no answer either once another base may have changed it.
        if !self.batch.changes.is_empty() || !self.ledger.is_held() {
            self.commit()?;
        }
        let mut newest = None;
        for change in self.batch.changes.drain(..) {
            match change {
                Change::Event(event) => newest = Some(event.seq),
                Change::Job(job) if job.ended_at_ns.is_some() => {
                    job.bound_ratio.iter().for_each(|r| self.cells.bound_ratios.observe(*r));
                    job.base_egress_ratio.iter().for_each(|r| self.cells.egress_ratios.observe(*r));
                }
                _ => {}
            }
        }
        if let Some(newest) = newest {
            self.newest.send_replace(newest);
        }
        for answer in self.batch.answers.drain(..) {
            answer();
        }
        if let Some(on_share) = self.on_share.0.get() {
            self.book.take_shares().into_iter().for_each(|(job, share)| on_share(job, share));
        }
        for (node, order) in self.book.take_orders() {
            self.lines.push(&node, order);
        }
        let book = &mut self.book;
        self.lines.begin(|node| book.open_orders(node));
        Ok(())
    }

    /// Until it succeeds, fails for good, or, at the end, for `LAST_TRIES` times.
    fn commit(&mut self) -> Result<(), LedgerError> {
        let mut tries = 0;
        loop {
            let begun = Instant::now();
            let error = match self.ledger.commit(&self.batch.changes) {
                Ok(()) => {
                    self.cells.committed(self.batch.changes.len(), begun.elapsed());
                    return Ok(());
                }
                Err(error) => error,
            };
            tries += 1;
            let is_ending = self.batch.is_last || self.is_ending.load(Ordering::Acquire);
            if !error.is_passing() || (is_ending && tries >= LAST_TRIES) {
                return Err(error);
            }
            if tries == 1 {
                let fix = "make room on its disk, or have the database answer; it is tried again";
                tracing::error!(code = "HE-E933", %error, fix, "the ledger cannot be written now");
            }
            std::thread::sleep(RETRY_AFTER);
        }
    }
}

/// The time of both clocks.
#[must_use]
pub fn now() -> Stamp {
    let mono = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(mono.tv_sec).unwrap_or_default();
    let ns = u64::try_from(mono.tv_nsec).unwrap_or_default();
    let utc = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Stamp {
        mono_ns: seconds.saturating_mul(1_000_000_000).saturating_add(ns),
        utc_ns: i64::try_from(utc.as_nanos()).unwrap_or(i64::MAX),
    }
}

/// Requests that wait; each is a closure of some hundred bytes.
pub const QUEUE_MAX: usize = 4_096;
/// For so long a batch gathers although somebody looks: a crowd that looks costs others little.
const LOOK_AFTER: Duration = Duration::from_millis(5);
/// Rows of a transaction: about 10 ms.
pub const BATCH_ROWS_MAX: usize = 1_000;
/// Events in one answer.
pub const EVENTS_MAX: usize = 10_000;
/// For an answer: shorter than clients wait.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// Of the book: half of the shortest of its time limits.
const TICK: Duration = Duration::from_secs(1);
/// Between tries when the disk is full or the database does not answer.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// At the end of the base nobody waits for room on a disk.
const LAST_TRIES: u32 = 4;
/// Reads at once.
const READERS: usize = 4;

#[cfg(test)]
#[path = "clerk_tests.rs"]
mod tests;
