//! The thread that writes log lines, so that nobody else waits for who reads standard error.
//!
//! ```text
//! shards, workers, control --push--> Queue --thread "log"--> standard error
//!                                      full: the line is dropped and counted
//! ```
//! Invariant: `push` never waits. After a line could be written, the next line says how many were
//! lost before it. Bounds: `LINES_MAX` lines and `BYTES_MAX` bytes wait; `flush` waits for a given
//! time at most. Formats are those of `tracing-subscriber`; only the way out is here.

use std::cell::Cell;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tracing_subscriber::fmt::MakeWriter;

use super::limit::Limit;
use crate::metrics::cells::LOG;

/// Lines on their way to `out`.
#[derive(Debug)]
pub(super) struct Queue {
    lines: ArrayQueue<Box<[u8]>>,
    bytes: AtomicUsize,
    flushes: ArrayQueue<mpsc::Sender<()>>,
    writer: OnceLock<Thread>,
    out: OwnedFd,
}

impl Queue {
    /// Lines go to `out` once [`Self::start`] was called.
    pub(super) fn new(out: OwnedFd) -> Self {
        Self {
            lines: ArrayQueue::new(LINES_MAX),
            bytes: AtomicUsize::new(0),
            flushes: ArrayQueue::new(FLUSHES_MAX),
            writer: OnceLock::new(),
            out,
        }
    }

    /// Starts the thread, which lives as long as the process; once.
    pub(super) fn start(self: &Arc<Self>, limit: Arc<Limit>) -> io::Result<()> {
        if self.writer.get().is_some() {
            return Ok(());
        }
        let queue = Arc::clone(self);
        let named = thread::Builder::new().name("log".to_owned());
        let thread = named.spawn(move || queue.run(&limit))?;
        let _started_before = self.writer.set(thread.thread().clone());
        self.wake();
        Ok(())
    }

    /// Takes a whole line, or drops and counts it. Never waits.
    pub(super) fn push(&self, line: &[u8]) {
        let waiting = self.bytes.fetch_add(line.len(), Ordering::Relaxed) + line.len();
        if waiting > BYTES_MAX || self.lines.push(line.into()).is_err() {
            self.bytes.fetch_sub(line.len(), Ordering::Relaxed);
            LOG.lines_lost.add(1);
        }
        self.wake();
    }

    /// Has the thread look for work.
    pub(super) fn wake(&self) {
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }

    /// Waits until what was pushed before is written, for `within` at most. Says whether it is.
    pub(super) fn flush(&self, within: Duration) -> bool {
        let (written, is_written) = mpsc::channel();
        if self.flushes.push(written).is_err() {
            return false;
        }
        self.wake();
        is_written.recv_timeout(within).is_ok()
    }

    fn run(&self, limit: &Limit) {
        IS_WRITER.set(true);
        let mut lost = LOG.lines_lost.value();
        loop {
            // Before the lines: what was pushed before a flush is written before it is answered.
            let flush = self.flushes.pop();
            let mut is_idle = flush.is_none();
            while let Some(line) = self.lines.pop() {
                is_idle = false;
                self.bytes.fetch_sub(line.len(), Ordering::Relaxed);
                self.write(&line, &mut lost);
                limit.tell_when_due(Instant::now());
            }
            if let Some(flush) = flush {
                let _nobody_waits = flush.send(());
            }
            limit.tell_when_due(Instant::now());
            if !is_idle {
                continue;
            }
            if limit.has_more() { thread::park_timeout(MORE_EVERY) } else { thread::park() }
        }
    }

    /// Writes a line, then a line about those that were lost since `lost`.
    fn write(&self, line: &[u8], lost: &mut u64) {
        if write_fully(&self.out, line).is_err() {
            LOG.lines_lost.add(1);
            return;
        }
        let now = LOG.lines_lost.value();
        let lines = now.wrapping_sub(std::mem::replace(lost, now));
        if lines > 0 {
            let what = "log lines lost: standard error was not read in time";
            tracing::warn!(code = "HE-W804", lines, "{what}");
        }
    }
}

/// Writes all of `bytes`, and waits where `out` is full and does not wait by itself. A signal ends
/// neither.
pub(super) fn write_fully(out: impl AsFd, bytes: &[u8]) -> io::Result<()> {
    let write = |bytes: &[u8]| rustix::io::write(&out, bytes);
    let wait = || poll(&mut [PollFd::new(&out, PollFlags::OUT)], None).map(drop);
    write_by(write, wait, bytes)
}

fn write_by(
    mut write: impl FnMut(&[u8]) -> Result<usize, Errno>,
    mut wait: impl FnMut() -> Result<(), Errno>,
    mut bytes: &[u8],
) -> io::Result<()> {
    while !bytes.is_empty() {
        match write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => match wait() {
                // It is seen by the next write whether there is room.
                Ok(()) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            },
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Where `tracing-subscriber` puts its lines, each with one `write`. It never fails: who logs has
/// no use for the error, and to report it would need the same way out.
#[derive(Debug, Clone)]
pub(super) struct Line(pub(super) Arc<Queue>);

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !is_writer() {
            self.0.push(line);
        } else if write_fully(&self.0.out, line).is_err() {
            LOG.lines_lost.add(1);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Line {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Whether this is the thread that writes: what it has to say need not be queued.
pub(super) fn is_writer() -> bool {
    IS_WRITER.get()
}

thread_local! {
    static IS_WRITER: Cell<bool> = const { Cell::new(false) };
}

/// Lines that wait at most: several seconds of a busy server's, at 200 bytes to 1 kB each.
const LINES_MAX: usize = 2_048;
/// Bytes that wait at most: a line that quotes a request can have 8 KiB.
const BYTES_MAX: usize = 2 << 20;
/// Threads that wait for the end of writing at once: the main thread, and one that panics.
const FLUSHES_MAX: usize = 4;
/// How often lines about lines left out are written.
pub(super) const MORE_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn line_that_finds_the_queue_full_is_dropped_and_counted() {
        let (_reader, out) = io::pipe().unwrap();
        let queue = Queue::new(out.into());
        let before = LOG.lines_lost.value();
        for _ in 0..LINES_MAX + 7 {
            queue.push(b"x\n");
        }
        assert_eq!(queue.lines.len(), LINES_MAX);
        assert!(LOG.lines_lost.value() >= before + 7);
        let queue = Queue::new(queue.out.try_clone().unwrap());
        for _ in 0..LINES_MAX {
            queue.push(&[b'x'; 8 << 10]);
        }
        assert_eq!(queue.lines.len(), BYTES_MAX / (8 << 10));
    }

    #[test]
    fn flush_waits_for_lines_pushed_before_it_and_not_for_a_reader_that_stopped() {
        let (mut reader, out) = io::pipe().unwrap();
        let queue = Arc::new(Queue::new(out.into()));
        queue.start(Arc::new(Limit::new(50))).unwrap();
        queue.push(b"a line\n");
        assert!(queue.flush(Duration::from_secs(60)));
        let mut text = [0; 7];
        reader.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"a line\n");
        // More than a pipe holds.
        for _ in 0..256 {
            queue.push(&[b'x'; 4 << 10]);
        }
        assert!(!queue.flush(Duration::from_millis(1)));
    }

    #[test]
    fn line_that_cannot_be_written_is_counted_and_nobody_is_told() {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let (_, closed) = io::pipe().unwrap();
        for out in [OwnedFd::from(full), closed.into()] {
            let mut line = Line(Arc::new(Queue::new(out)));
            for is_writer in [true, false] {
                IS_WRITER.set(is_writer);
                let before = LOG.lines_lost.value();
                let result = line.write(b"a line\n");
                IS_WRITER.set(false);
                assert_eq!(result.unwrap(), 7);
                assert!(!is_writer || LOG.lines_lost.value() > before);
            }
        }
    }

    #[test]
    fn line_after_lost_ones_says_how_many_they_were() {
        let (mut reader, out) = io::pipe().unwrap();
        let queue = Arc::new(Queue::new(out.into()));
        let log = tracing_subscriber::fmt().with_writer(Line(Arc::clone(&queue))).finish();
        let mut lost = LOG.lines_lost.value();
        LOG.lines_lost.add(7);
        IS_WRITER.set(true);
        tracing::subscriber::with_default(log, || queue.write(b"first\n", &mut lost));
        IS_WRITER.set(false);
        assert_eq!(queue.lines.len(), 0, "the thread that writes does not queue");
        drop(queue);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("first\n") && text.contains("log lines lost"), "{text}");
    }

    proptest! {
        #[test]
        fn line_is_written_whole_however_often_signals_come(
            writes in prop::collection::vec(prop_oneof![
                (1..9_usize).prop_map(Ok), Just(Err(Errno::AGAIN)), Just(Err(Errno::INTR)),
            ], 0..40),
            waits in prop::collection::vec(prop_oneof![Just(Ok(())), Just(Err(Errno::INTR))], 40),
        ) {
            let line: Vec<u8> = (0..100).collect();
            let (mut out, mut writes, mut waits) = (Vec::new(), writes.into_iter(), waits.into_iter());
            let write = |bytes: &[u8]| {
                let written = writes.next().unwrap_or(Ok(bytes.len()))?.min(bytes.len());
                out.extend_from_slice(&bytes[..written]);
                Ok(written)
            };
            let written = write_by(write, || waits.next().unwrap_or(Ok(())), &line);
            prop_assert!(written.is_ok(), "{:?}", written);
            prop_assert_eq!(out, line);
        }
    }
}
