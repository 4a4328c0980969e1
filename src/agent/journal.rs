//! The file of the journal, and the thread that makes it durable.
//!
//! ```text
//! records --> thread: write what has come, one fdatasync --> Event::Journaled
//! ```
//! Invariant: a record is told as journaled when the disk has it. A disk that is full holds up the
//! reports of the agent, not more: the journal has place of its own, and writes are tried again.
//! Bound: the file is written anew when it has grown by `GROWTH_MAX` (see [`Journal::is_long`]).

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc as threads;
use std::thread::Builder;
use std::time::Duration;

use rustix::fs::FallocateFlags;
use tokio::sync::mpsc;

use super::Event;
use crate::dist::journal::{Record, replay};

/// Where records go.
#[derive(Debug)]
pub(super) struct Journal {
    sender: threads::Sender<Job>,
    /// Bytes since the file was last written anew.
    grown: usize,
}

enum Job {
    Append(Vec<u8>),
    /// All of the file.
    Rewrite(Vec<u8>),
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
        let (sender, receiver) = threads::channel();
        Builder::new()
            .name("agent-journal".into())
            .spawn(move || writer.run(&receiver, &events))?;
        Ok((Self { sender, grown: replayed.bytes }, replayed.records))
    }

    /// Appends a record; it is told when it is durable.
    pub(super) fn append(&mut self, record: &Record) {
        let mut line = Vec::new();
        record.write(&mut line);
        self.grown += line.len();
        let _thread_ended = self.sender.send(Job::Append(line));
    }

    /// Much of it may be out of date.
    pub(super) fn is_long(&self) -> bool {
        self.grown >= GROWTH_MAX
    }

    /// Writes the journal anew: `records` are all that count, those of `append` before among them.
    pub(super) fn rewrite(&mut self, records: &[Record]) {
        let mut bytes = Vec::new();
        records.iter().for_each(|record| record.write(&mut bytes));
        // What is in use does not count, or a long journal would be written anew without end.
        self.grown = 0;
        let _thread_ended = self.sender.send(Job::Rewrite(bytes));
    }
}

struct Writer {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Writer {
    /// Ends with the agent.
    fn run(&mut self, jobs: &threads::Receiver<Job>, events: &mpsc::Sender<Event>) {
        let mut records = 0;
        while let Ok(first) = jobs.recv() {
            let mut lines = Vec::new();
            let mut next = Some(first);
            while let Some(job) = next {
                match job {
                    Job::Append(line) => {
                        records += 1;
                        lines.extend_from_slice(&line);
                    }
                    Job::Rewrite(all) => {
                        // The lines before it are part of it.
                        lines.clear();
                        self.insist(|writer| writer.rewrite(&all));
                    }
                }
                next = if lines.len() < BATCH_BYTES { jobs.try_recv().ok() } else { None };
            }
            self.insist(|writer| writer.append(&lines));
            if events.blocking_send(Event::Journaled(records)).is_err() {
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

/// What is written behind one fdatasync.
const BATCH_BYTES: usize = 1 << 20;
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
}
