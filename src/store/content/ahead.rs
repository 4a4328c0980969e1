//! Units that are ahead of a gap, on their way to the disk.
//!
//! ```text
//! push --> pending --one task: data in place, then hashes in the journal--> a restart finds them
//! ```
//! A restart believes their bytes by their hashes alone, so nothing has to be synced for that. They
//! are written once more when what is in front of them has come, with everything else.
//! Bound: no unit waits here that is not within `AHEAD_BYTES_MAX` of what is verified.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Content, Files};
use crate::dist::units::{HashFrame, UNIT_BYTES, UnitFrame, units_of};
use crate::store::journal::ahead_record;
use crate::store::{StoreError, disk};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct AheadWrites {
    pending: BTreeMap<u64, (HashFrame, UnitFrame)>,
    /// Frames of hashes that are in the journal, by their first unit.
    journaled: BTreeSet<u64>,
    is_writing: bool,
}

/// What is written in one go.
type Batch = Vec<(HashFrame, UnitFrame)>;

impl AheadWrites {
    pub(super) fn push(&mut self, hashes: HashFrame, unit: UnitFrame) {
        self.pending.insert(unit.number(), (hashes, unit));
    }

    /// What lies within the first `have` bytes is written with them.
    pub(super) fn pass(&mut self, have: u64) {
        let next = units_of(have);
        while self.pending.first_key_value().is_some_and(|(unit, _)| *unit < next) {
            self.pending.pop_first();
        }
        while self.journaled.first().is_some_and(|first| *first + HASHES_BEHIND < next) {
            self.journaled.pop_first();
        }
    }

    /// The next batch; `None`, and nobody writes any more, when nothing waits.
    fn next_batch(&mut self) -> Option<(Batch, Vec<u8>)> {
        let batch: Batch = std::mem::take(&mut self.pending).into_values().collect();
        self.is_writing = !batch.is_empty();
        if batch.is_empty() {
            return None;
        }
        let mut records = Vec::new();
        for (hashes, _) in &batch {
            if self.journaled.insert(hashes.first()) {
                records.extend_from_slice(&ahead_record(hashes));
            }
        }
        Some((batch, records))
    }
}

impl Content {
    /// Writes what is ahead, if its files are there: a small content is fetched again.
    pub(super) fn write_ahead(self: &Arc<Self>) {
        {
            let mut state = self.lock();
            let has_files = state.files.as_ref().is_some_and(|files| files.journal.is_some());
            if state.ahead.is_writing || state.ahead.pending.is_empty() || !has_files {
                return;
            }
            state.ahead.is_writing = true;
        }
        let content = Arc::clone(self);
        tokio::task::spawn_blocking(move || content.write_all_ahead());
    }

    fn write_all_ahead(&self) {
        loop {
            let (files, batch, records) = {
                let mut state = self.lock();
                let Some(files) = state.files.clone().filter(|_| state.check().is_ok()) else {
                    state.ahead.is_writing = false;
                    return;
                };
                let Some((batch, records)) = state.ahead.next_batch() else { return };
                (files, batch, records)
            };
            if let Err(error) = write_batch(&files, &batch, &records) {
                let mut state = self.lock();
                state.ahead.is_writing = false;
                state.failure = state.failure.take().or(Some(error));
                return;
            }
        }
    }
}

fn write_batch(
    files: &Files,
    batch: &[(HashFrame, UnitFrame)],
    records: &[u8],
) -> Result<(), StoreError> {
    for (_, unit) in batch {
        disk::write_pieces(&files.data, &[unit.bytes()], unit.number() * UNIT_BYTES)?;
    }
    if let Some(journal) = files.journal.as_ref().filter(|_| !records.is_empty()) {
        disk::append(journal, records)?;
    }
    Ok(())
}

/// A frame of hashes may begin so many units in front of the first that is needed of it.
const HASHES_BEHIND: u64 = crate::dist::units::HASHES_PER_FRAME_MAX as u64;
