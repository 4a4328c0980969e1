//! The file of the journal, and the thread that makes it durable.
//!
//! ```text
//! records --> thread: write what has come, one fdatasync --> Event::Journaled
//! ```
//! Invariant: a record is told as journaled when the disk has it. A disk that is full holds up the
//! reports of the agent, not more: the journal has place of its own, and writes are tried again.
//! Bounds: the file is written anew when it has grown by `GROWTH_MAX` (see [`Journal::is_long`]).
//! Of what a disk does not take `WAITING_MAX` waits: then no orders are taken
//! ([`Journal::is_full`]), and all that waits gives way to a file that is written anew.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::thread::Builder;
use std::time::Duration;

use rustix::fs::FallocateFlags;
use tokio::sync::mpsc;

use super::Event;
use super::feed::{Feeder, Taker, feed};
use crate::dist::journal::{Record, replay};

/// Where records go.
#[derive(Debug)]
pub(super) struct Journal {
    feeder: Feeder<Waiting>,
    /// Bytes since the file was last written anew.
    grown: usize,
}

/// What is to be written.
#[derive(Debug, Default)]
struct Waiting {
    /// All of the file.
    anew: Option<Vec<u8>>,
    /// Behind it.
    lines: Vec<u8>,
    /// Records in both that were not told of.
    records: u64,
}

impl Journal {
    /// Opens the journal in `folder` and reads it.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub(super) fn open(
        folder: &Path,
        events: mpsc::Sender<Event>,
    ) -> io::Result<(Self, Vec<Record>)> {
        let path = folder.join("journal");
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let replayed = replay(&bytes);
        if replayed.bytes < bytes.len() {
            let (kept, cut) = (replayed.bytes, bytes.len() - replayed.bytes);
            tracing::warn!(code = "HE-W923", kept, cut, "the end of the journal is cut off");
        }
        file.set_len(replayed.bytes as u64)?;
        let mut writer = Writer { path, file, bytes: replayed.bytes as u64 };
        writer.reserve();
        let (feeder, taker) = feed();
        Builder::new().name("agent-journal".into()).spawn(move || writer.run(taker, &events))?;
        Ok((Self { feeder, grown: replayed.bytes }, replayed.records))
    }

    /// Appends a record; it is told when it is durable.
    pub(super) fn append(&mut self, record: &Record) {
        let grown = &mut self.grown;
        self.feeder.change(|waiting| {
            let before = waiting.lines.len();
            record.write(&mut waiting.lines);
            waiting.records += 1;
            *grown += waiting.lines.len() - before;
        });
    }

    /// Much of it may be out of date, or more waits than the disk takes.
    pub(super) fn is_long(&self) -> bool {
        self.grown >= GROWTH_MAX || self.feeder.look(|waiting| waiting.lines.len()) >= WAITING_MAX
    }

    /// The disk does not keep up: nothing more is to be begun.
    pub(super) fn is_full(&self) -> bool {
        let bytes = |waiting: &Waiting| waiting.anew.as_ref().map_or(0, Vec::len);
        self.feeder.look(|waiting| bytes(waiting) + waiting.lines.len()) >= WAITING_MAX
    }

    /// Writes the journal anew: `records` are all that count, those of `append` before among them.
    pub(super) fn rewrite(&mut self, records: &[Record]) {
        let mut bytes = Vec::new();
        records.iter().for_each(|record| record.write(&mut bytes));
        // What is in use does not count, or a long journal would be written anew without end.
        self.grown = 0;
        self.feeder.change(|waiting| {
            // The lines before it are part of it.
            waiting.lines.clear();
            waiting.anew = Some(bytes);
        });
    }
}

struct Writer {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Writer {
    /// Ends with the agent.
    fn run(&mut self, mut taker: Taker<Waiting>, events: &mpsc::Sender<Event>) {
        let mut told = 0;
        while let Some(Waiting { anew, lines, records }) = taker.take() {
            if let Some(all) = anew {
                self.insist(|writer| writer.rewrite(&all));
            }
            self.insist(|writer| writer.append(&lines));
            told += records;
            if records > 0 && events.blocking_send(Event::Journaled(told)).is_err() {
                return;
            }
        }
    }

    /// Tries until it is done: nothing that was not journaled may be told to the base.
    fn insist(&mut self, mut act: impl FnMut(&mut Self) -> io::Result<()>) {
        let mut is_first = true;
        while let Err(error) = act(self) {
            if std::mem::take(&mut is_first) {
                let fix = "make room on the disk; commands wait until then";
                tracing::warn!(code = "HE-W924", %error, fix, "the journal cannot be written");
            }
            std::thread::sleep(RETRY);
        }
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        use std::os::unix::fs::FileExt as _;
        if lines.is_empty() {
            return Ok(());
        }
        self.file.write_all_at(lines, self.bytes)?;
        self.file.sync_data()?;
        self.bytes += lines.len() as u64;
        Ok(())
    }

    fn rewrite(&mut self, all: &[u8]) -> io::Result<()> {
        let new = self.path.with_extension("new");
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&new)?;
        file.write_all(all)?;
        file.sync_all()?;
        std::fs::rename(&new, &self.path)?;
        if let Some(folder) = self.path.parent() {
            File::open(folder)?.sync_all()?;
        }
        (self.file, self.bytes) = (file, all.len() as u64);
        self.reserve();
        Ok(())
    }

    /// Place for what is to come, so that a full disk does not stop the journal.
    fn reserve(&self) {
        let flags = FallocateFlags::KEEP_SIZE;
        // Where it cannot be had, writes are tried again.
        let _ = rustix::fs::fallocate(&self.file, flags, self.bytes, RESERVE_BYTES);
    }
}

/// What waits for a disk that stands still: some ten thousand records.
const WAITING_MAX: usize = 4 << 20;
/// Growth after which the file is written anew.
const GROWTH_MAX: usize = 8 << 20;
/// As much as grows before the file is written anew.
const RESERVE_BYTES: u64 = 8 << 20;
/// Between two attempts.
const RETRY: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dist::ids::JobId;
    use uuid::Uuid;

    fn record(number: u128) -> Record {
        Record::Forget { job: JobId(Uuid::from_u128(number)) }
    }

    /// Waits until the journal has told of so many records.
    fn wait(receiver: &mut mpsc::Receiver<Event>, records: u64) {
        loop {
            match receiver.blocking_recv() {
                Some(Event::Journaled(told)) if told >= records => return,
                Some(_) => {}
                None => panic!("the journal has ended"),
            }
        }
    }

    #[test]
    fn records_are_there_after_a_restart_and_half_a_record_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (events, mut receiver) = mpsc::channel(16);
        let (mut journal, found) = Journal::open(folder.path(), events.clone()).unwrap();
        assert_eq!(found, []);
        journal.append(&record(1));
        journal.append(&record(2));
        wait(&mut receiver, 2);
        drop(journal);
        let path = folder.path().join("journal");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend_from_slice(b"0123456789abcdef {\"record\":");
        std::fs::write(&path, &bytes).unwrap();
        let (mut journal, found) = Journal::open(folder.path(), events.clone()).unwrap();
        assert_eq!(found, [record(1), record(2)]);
        journal.append(&record(3));
        journal.rewrite(&[record(2), record(3)]);
        journal.append(&record(4));
        wait(&mut receiver, 2);
        drop(journal);
        let (_journal, found) = Journal::open(folder.path(), events).unwrap();
        assert_eq!(found, [record(2), record(3), record(4)]);
    }

    #[test]
    fn disk_that_stands_still_holds_up_orders_and_what_waits_stays_bounded() {
        let folder = tempfile::tempdir().unwrap();
        // Nobody hears the thread: it stands still with the second batch.
        let (events, mut receiver) = mpsc::channel(1);
        let (mut journal, _) = Journal::open(folder.path(), events.clone()).unwrap();
        events.blocking_send(Event::Offline).unwrap();
        let mut appended = 0;
        while !journal.is_full() {
            appended += 1;
            journal.append(&record(appended));
            assert!(appended < 1_000_000);
        }
        assert!(journal.is_long());
        journal.rewrite(&[record(1), record(2)]);
        assert!(!journal.is_full(), "two records take the place of all");
        journal.append(&record(3));
        wait(&mut receiver, u64::try_from(appended).unwrap() + 1);
        drop(journal);
        let (_journal, found) = Journal::open(folder.path(), events).unwrap();
        assert_eq!(found, [record(1), record(2), record(3)]);
    }
}
