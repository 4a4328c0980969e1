//! Write behind: from the ring to the file, then synced, then claimed in the journal.
//!
//! ```text
//! kick -> write: 512 KiB or more, or all when flushed -> sync, each 8 MiB or second -> journal
//! ```
//! At most one write and one sync of a content are under way; a sync does not hold up writes.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::intake::blocking;
use super::{Content, Files, State, Synced};
use crate::dist::units::{HashFrame, UNIT_BYTES, UnitFrame, units_of};
use crate::store::journal::synced_record;
use crate::store::{StoreError, disk, limits};

/// What is written in one go.
struct Batch {
    offset: u64,
    units: Vec<UnitFrame>,
    hashes: Vec<HashFrame>,
}

impl Content {
    /// Starts to write when there is enough to write; with `flushes` whatever there is.
    pub(super) fn kick(self: &Arc<Self>, flushes: bool) {
        {
            let mut state = self.lock();
            state.flushes |= flushes;
            let pending = state.have - state.written;
            let is_due = state.flushes
                || pending >= limits::WRITE_BYTES
                || state.files.is_some() && state.wrote_at.elapsed() >= SYNC_TIME;
            if state.is_writing || pending == 0 || !is_due || state.check().is_err() {
                return;
            }
            state.is_writing = true;
        }
        let content = Arc::clone(self);
        tokio::task::spawn_blocking(move || content.write_behind());
    }

    /// Waits until all that is verified is written.
    pub(super) async fn flush(self: &Arc<Self>) -> Result<(), StoreError> {
        let mut disk = self.disk.subscribe();
        loop {
            {
                let state = self.lock();
                state.check()?;
                if state.written == state.have {
                    return Ok(());
                }
            }
            self.kick(true);
            disk.changed().await.map_err(|_| StoreError::Removed)?;
        }
    }

    /// Waits while too much is not written.
    pub(super) async fn wait_for_disk(self: &Arc<Self>) -> Result<(), StoreError> {
        let mut disk = None;
        loop {
            {
                let state = self.lock();
                state.check()?;
                if state.have - state.written <= limits::UNWRITTEN_BYTES_MAX {
                    return Ok(());
                }
            }
            // The subscription comes before the second look, so that no change is missed.
            match &mut disk {
                None => disk = Some(self.disk.subscribe()),
                Some(disk) => disk.changed().await.map_err(|_| StoreError::Removed)?,
            }
        }
    }

    /// The files, which are made if nothing was written so far.
    pub(super) async fn files(self: &Arc<Self>) -> Result<Files, StoreError> {
        if let Some(files) = self.lock().files.clone() {
            return Ok(files);
        }
        let content = Arc::clone(self);
        blocking(move || content.make_files()).await
    }

    /// The loop of the thread that writes.
    fn write_behind(self: &Arc<Self>) {
        loop {
            let batch = {
                let mut state = self.lock();
                let batch = state.next_batch();
                if batch.is_none() {
                    state.is_writing = false;
                    state.flushes &= state.written < state.have;
                }
                batch
            };
            let Some(batch) = batch else { break };
            let written = self.write(&batch);
            let mut state = self.lock();
            match written {
                Ok(()) => state.note_written(&batch, self.depot.ring_bytes_max()),
                Err(error) => state.failure = Some(error),
            }
            let syncs = state.begins_sync();
            drop(state);
            if syncs {
                let content = Arc::clone(self);
                tokio::task::spawn_blocking(move || content.sync_behind());
            }
            self.disk.send_modify(|count| *count += 1);
        }
        self.disk.send_modify(|count| *count += 1);
    }

    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        let files = self.make_files()?;
        let pieces: Vec<&[u8]> = batch.units.iter().map(UnitFrame::bytes).collect();
        disk::write_pieces(&files.data, &pieces, batch.offset)?;
        if let Some(journal) = &files.journal {
            let hashes: Vec<u8> =
                batch.hashes.iter().flat_map(|frame| frame.encoded().iter().copied()).collect();
            if !hashes.is_empty() {
                disk::append(journal, &hashes)?;
            }
        }
        let len: usize = pieces.iter().map(|piece| piece.len()).sum();
        if len as u64 >= limits::WRITE_BYTES {
            disk::start_write_back(&files.data, batch.offset, len as u64);
        }
        Ok(())
    }

    fn make_files(&self) -> Result<Files, StoreError> {
        let (size, has_journal) = {
            let state = self.lock();
            state.check()?;
            if let Some(files) = &state.files {
                return Ok(files.clone());
            }
            (state.size, !self.is_small(&state))
        };
        // Under the lock of the intake or as the only writer: nobody else makes them now.
        let files = Files::make(&self.depot, self.id, size, has_journal)?;
        let mut state = self.lock();
        if state.is_removed {
            return Err(StoreError::Removed);
        }
        Ok(state.files.get_or_insert(files).clone())
    }

    /// True for a content of a node that is whole before anything of it was written.
    fn is_small(&self, state: &State) -> bool {
        let is_node = matches!(self.depot.key(), crate::store::StoreKey::Verifies(_));
        is_node && state.end.is_some() && state.written == 0
    }

    /// Syncs what was written when it began, and says so in the journal.
    fn sync_behind(&self) {
        let (files, synced) = {
            let state = self.lock();
            (state.files.clone(), Synced { verified: state.written, accepted: state.written })
        };
        let outcome = files.as_ref().map_or(Ok(()), |files| self.sync_files(files, synced));
        let mut state = self.lock();
        state.is_syncing = false;
        state.synced_at = Instant::now();
        match outcome {
            Ok(()) if files.is_some() => {
                state.synced.verified = state.synced.verified.max(synced.verified);
                state.synced.accepted = state.synced.accepted.max(synced.accepted);
            }
            Ok(()) => {}
            Err(error) => state.failure = state.failure.take().or_else(|| Some(error.into())),
        }
        let (from, to) = (state.dropped, synced.verified.saturating_sub(limits::PAGES_BYTES_KEPT));
        if let Some(files) = files.filter(|_| state.disk_readers == 0 && from < to) {
            state.dropped = to;
            drop(state);
            disk::drop_pages(&files.data, from, to - from);
        }
        self.disk.send_modify(|count| *count += 1);
    }

    fn sync_files(&self, files: &Files, synced: Synced) -> io::Result<()> {
        files.data.sync_data()?;
        match &files.journal {
            Some(journal) => disk::append(journal, &synced_record(self.id, synced)),
            None => Ok(()),
        }
    }
}

impl State {
    /// What to write next; `None` when it is too little, or nothing can be written.
    fn next_batch(&self) -> Option<Batch> {
        if self.check().is_err() {
            return None;
        }
        let first = units_of(self.written);
        let units: Vec<UnitFrame> =
            self.ring.from(first).take(limits::WRITE_UNITS_MAX).cloned().collect();
        let len: usize = units.iter().map(|unit| unit.bytes().len()).sum();
        let is_stale = self.files.is_some() && self.wrote_at.elapsed() >= SYNC_TIME;
        if units.is_empty() || (len as u64) < limits::WRITE_BYTES && !self.flushes && !is_stale {
            return None;
        }
        let end = first + units.len() as u64;
        let frames = self.log.as_ref().map_or(&[][..], |log| log.frames());
        let hashes = frames.iter().skip(self.journaled).take_while(|frame| frame.first() < end);
        Some(Batch { offset: first * UNIT_BYTES, hashes: hashes.cloned().collect(), units })
    }

    fn note_written(&mut self, batch: &Batch, ring_bytes_max: usize) {
        self.written += batch.units.iter().map(|unit| unit.bytes().len() as u64).sum::<u64>();
        self.journaled += batch.hashes.len();
        self.wrote_at = Instant::now();
        self.ring.trim(self.written, ring_bytes_max);
        self.shed_ring();
    }

    /// True once for each step of the journal.
    fn begins_sync(&mut self) -> bool {
        let behind = self.written.saturating_sub(self.synced.verified);
        let is_due =
            behind >= limits::SYNC_BYTES || behind > 0 && self.synced_at.elapsed() >= SYNC_TIME;
        // A whole content is synced by whoever ends or publishes it.
        let begins = is_due && !self.is_syncing && self.end.is_none() && self.failure.is_none();
        self.is_syncing |= begins;
        begins
    }
}

const SYNC_TIME: Duration = Duration::from_millis(limits::SYNC_MS);
