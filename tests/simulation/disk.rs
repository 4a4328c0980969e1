//! Virtual disks: a journal and contents, of which a crash keeps what was synced.
//!
//! ```text
//! append --> pending --sync--> journal        a crash keeps a part of what is pending, torn
//! frame --> UnitVerifier --> units --sync--> synced      the same of units that are not synced
//! ```
//! The verifier, the frames, the records and their lines are those of the product.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use headend::dist::ids::{ContentId, NodeName};
use headend::dist::journal::{self, Record};
use headend::dist::keys::VerifyKey;
use headend::dist::units::{
    AHEAD_BYTES_MAX, Accepted, Caught, EndFrame, Frame, HashFrame, UNIT_BYTES, UnitError,
    UnitFrame, UnitHash, UnitVerifier,
};
use headend::dist::wire::peer::ContentState;

use crate::dice::Dice;
use crate::folder::Folder;

/// Frames of a content, as a source gives them.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    pub(crate) hashes: Vec<HashFrame>,
    pub(crate) units: Vec<UnitFrame>,
    pub(crate) end: Option<EndFrame>,
}

/// Where a stream is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor {
    unit: u64,
    /// It ends in front of this unit.
    last: u64,
    covered: u64,
    has_ended: bool,
}

/// A content at a node.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) frames: Frames,
    verifier: UnitVerifier,
    /// Units that survive a loss of power.
    synced: usize,
    /// Units whose order was checked.
    counted: usize,
    /// Bytes that are reserved.
    pub(crate) reserved: u64,
    /// Where it is in the media folder.
    pub(crate) place: Option<String>,
    pub(crate) via: Vec<NodeName>,
}

/// The disk of a node.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) capacity: u64,
    journal: Vec<u8>,
    pending: Vec<u8>,
    pub(crate) contents: BTreeMap<ContentId, Held>,
    pub(crate) removed: VecDeque<ContentId>,
    pub(crate) folder: Folder,
    /// Sizes of files in the media folder.
    pub(crate) files: BTreeMap<ContentId, u64>,
}

impl Cursor {
    /// All from a byte on, or a part.
    pub(crate) fn between(offset: u64, to: u64) -> Self {
        let last = to.div_ceil(UNIT_BYTES);
        Self { unit: offset / UNIT_BYTES, last, covered: 0, has_ended: false }
    }

    pub(crate) fn offset(&self) -> u64 {
        self.unit * UNIT_BYTES
    }
}

impl Frames {
    /// The next frame of a stream, if it is there yet.
    pub(crate) fn next(&self, cursor: &mut Cursor) -> Option<Frame> {
        if cursor.has_ended || cursor.unit >= cursor.last {
            return None;
        }
        let units = self.units.len() as u64;
        if cursor.unit >= units {
            let end = self.end.clone()?;
            cursor.has_ended = true;
            return (cursor.unit == units).then_some(Frame::End(end));
        }
        if cursor.unit >= cursor.covered {
            let frame = self.hashes.iter().rfind(|frame| frame.hash_of(cursor.unit).is_some())?;
            cursor.covered = frame.end();
            return Some(Frame::Hashes(frame.clone()));
        }
        let unit = self.units.get(usize::try_from(cursor.unit).ok()?)?.clone();
        cursor.unit += 1;
        Some(Frame::Unit(unit))
    }

    /// Whether the units are exactly these bytes.
    pub(crate) fn are(&self, mut bytes: &[u8]) -> bool {
        for unit in &self.units {
            let Some(rest) = bytes.strip_prefix(unit.bytes()) else { return false };
            bytes = rest;
        }
        bytes.is_empty()
    }
}

impl Held {
    pub(crate) fn new(id: ContentId, size: Option<u64>) -> Self {
        Self {
            frames: Frames::default(),
            verifier: UnitVerifier::new(id),
            synced: 0,
            counted: 0,
            reserved: size.unwrap_or(0),
            place: None,
            via: Vec::new(),
        }
    }

    pub(crate) fn have(&self) -> u64 {
        self.verifier.have()
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.frames.end.as_ref().is_some_and(|end| end.end().size == self.have())
    }

    pub(crate) fn append(
        &mut self,
        frame: Frame,
        key: &VerifyKey,
        is_of_part: bool,
    ) -> Result<Accepted, UnitError> {
        if self.frames.end.is_some() {
            return Ok(Accepted::Known);
        }
        let is_signed = |message: &[u8], signature: &_| key.verify(message, signature);
        let accepted = if is_of_part {
            self.verifier.handle_part(frame.clone(), is_signed)?
        } else {
            self.verifier.handle(&frame, is_signed)?
        };
        match (accepted, frame) {
            (Accepted::Hashes, Frame::Hashes(frame)) if !is_of_part => {
                self.frames.hashes.push(frame);
            }
            (Accepted::Unit, Frame::Unit(unit)) => self.frames.units.push(unit),
            (Accepted::End(_), Frame::End(frame)) => self.frames.end = Some(frame),
            _ => {}
        }
        while let Some(Caught { hashes, unit }) = self.verifier.catch_up() {
            self.frames.hashes.extend(hashes);
            self.frames.units.push(unit);
        }
        let ahead = self.verifier.bytes_ahead();
        assert!(ahead <= AHEAD_BYTES_MAX, "{ahead} bytes are ahead of a gap");
        let kept = self.frames.units.iter().enumerate().skip(self.counted);
        for (at, unit) in kept {
            assert_eq!(unit.number(), at as u64, "units are there once, in order");
        }
        self.counted = self.frames.units.len();
        Ok(accepted)
    }

    /// Bytes ahead of a gap, in pieces.
    pub(crate) fn ranges_ahead(&self) -> Vec<Range<u64>> {
        self.verifier.ranges_ahead()
    }

    pub(crate) fn sync(&mut self) {
        self.synced = self.frames.units.len();
    }

    pub(crate) fn state(&self) -> ContentState {
        ContentState {
            have: self.have(),
            end: self.frames.end.as_ref().map(EndFrame::end),
            via: self.via.clone(),
            rate: 0,
            is_held: false,
        }
    }

    /// What a crash leaves: of units that were not synced some, of the end nothing.
    fn survive(&mut self, id: ContentId, dice: &mut Dice) {
        if self.place.is_some() {
            return;
        }
        let unsynced = self.frames.units.len() - self.synced;
        let kept = self.synced + dice.index(unsynced + 1);
        self.frames.units.truncate(kept);
        self.frames.end = None;
        self.frames.hashes.retain(|frame| frame.first() < kept as u64);
        // Of units ahead of a gap some are on the disk, with their hashes.
        let ahead =
            self.verifier.units_ahead().map(|(hashes, unit)| (hashes.clone(), unit.clone()));
        let ahead: Vec<_> = ahead.filter(|_| dice.chance(700)).collect();
        self.counted = kept;
        self.verifier = UnitVerifier::new(id);
        for unit in &self.frames.units {
            // As the store does: units behind the last sync count when they have their hash.
            let hash = UnitHash::of(unit.number(), unit.bytes());
            self.verifier.trust(hash, unit.bytes().len() as u64);
        }
        for (hashes, unit) in ahead.into_iter().filter(|(_, unit)| unit.number() > kept as u64) {
            // What is too far ahead now is dropped, as a restart drops it.
            let _ = self.verifier.handle_part(Frame::Hashes(hashes), |_, _| true);
            let _ = self.verifier.handle_part(Frame::Unit(unit), |_, _| true);
        }
        self.synced = kept;
    }
}

impl Disk {
    pub(crate) fn new(capacity: u64) -> Self {
        Self {
            capacity,
            journal: Vec::new(),
            pending: Vec::new(),
            contents: BTreeMap::new(),
            removed: VecDeque::new(),
            folder: Folder::default(),
            files: BTreeMap::new(),
        }
    }

    /// Bytes that are taken.
    pub(crate) fn used(&self) -> u64 {
        let of = |held: &Held| held.reserved.max(held.have());
        let store = self.contents.values().filter(|held| held.place.is_none()).map(of);
        store.sum::<u64>() + self.files.values().sum::<u64>()
    }

    pub(crate) fn free(&self) -> u64 {
        self.capacity.saturating_sub(self.used())
    }

    /// Appends a record, which is not durable yet.
    pub(crate) fn append(&mut self, record: &Record) {
        record.write(&mut self.pending);
    }

    /// What is appended so far is durable.
    pub(crate) fn sync_journal(&mut self) {
        self.journal.append(&mut self.pending);
    }

    /// The journal is written anew: these records are all that count.
    pub(crate) fn rewrite_journal(&mut self, records: &[Record]) {
        self.journal.clear();
        self.pending.clear();
        records.iter().for_each(|record| record.write(&mut self.journal));
    }

    /// Records that a start finds.
    pub(crate) fn records(&mut self) -> Vec<Record> {
        let replay = journal::replay(&self.journal);
        self.journal.truncate(replay.bytes);
        replay.records
    }

    /// The process or the machine is gone.
    pub(crate) fn crash(&mut self, dice: &mut Dice) {
        let torn = dice.index(self.pending.len() + 1);
        let mut pending = std::mem::take(&mut self.pending);
        pending.truncate(torn);
        self.journal.append(&mut pending);
        for (id, held) in &mut self.contents {
            held.survive(*id, dice);
        }
        self.removed.clear();
    }

    /// A start: contents whose file is gone are none any more.
    pub(crate) fn recover(&mut self, known: &BTreeSet<ContentId>) -> usize {
        let folder = &self.folder;
        let before = self.contents.len();
        self.contents.retain(|id, held| {
            let is_there = |path: &String| folder.file(path) == Some(*id);
            known.contains(id) && held.place.as_ref().is_none_or(is_there)
        });
        before - self.contents.len()
    }

    /// Whether the bytes of a content can be read.
    pub(crate) fn is_readable(&self, id: ContentId) -> bool {
        let held = self.contents.get(&id);
        held.is_some_and(|held| {
            held.place.as_ref().is_none_or(|path| self.folder.file(path) == Some(id))
        })
    }

    /// Forgets a content; a file in the media folder stays.
    pub(crate) fn remove(&mut self, id: ContentId) {
        if self.contents.remove(&id).is_some() {
            self.removed.push_back(id);
            if self.removed.len() > REMOVED_KEPT {
                self.removed.pop_front();
            }
        }
    }

    /// Sizes of files that are still in the folder.
    pub(crate) fn count_files(&mut self) {
        let named: BTreeSet<ContentId> = self.folder.files().map(|(_, content)| content).collect();
        self.files.retain(|content, _| named.contains(content));
    }
}

/// As many as the store keeps.
const REMOVED_KEPT: usize = 1_024;
