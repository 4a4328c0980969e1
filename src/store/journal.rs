//! The file of a content's hashes: what proves its bytes, and how far they are synced.
//!
//! ```text
//! "HEUNITS1"  content id (16)  size (8, all ones: not known)      then records, only ever added:
//! frames of hashes and the end, as they travel (wire::peer)
//! 16 synced   length 24: verified bytes (8), bytes of the client (8), check (8)
//! 17 ahead    a frame of hashes, as it travels: some of its units may be there, behind a gap
//! ```
//! Frames prove themselves by their signatures; a synced record has a check, the start of a BLAKE3,
//! because a file system may lose a page in the middle. What is behind a damaged record is not
//! read. A version that does not know records of what is ahead reads up to the first of them: then
//! some units behind the last sync are fetched again.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bytes::Bytes;

use crate::dist::ids::ContentId;
use crate::dist::units::{EndFrame, FRAME_HEADER_LEN, Frame, FrameReader, HashFrame};

/// Frames of hashes, in the order of their units.
#[derive(Debug, Clone, Default)]
pub(super) struct HashLog {
    frames: Vec<HashFrame>,
}

/// What a journal says.
#[derive(Debug, Default)]
pub(super) struct Journal {
    pub(super) size: Option<u64>,
    pub(super) log: HashLog,
    /// Frames of units that may be ahead of a gap.
    pub(super) ahead: Vec<HashFrame>,
    pub(super) synced: Synced,
    pub(super) end: Option<EndFrame>,
}

/// How far bytes are durable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Synced {
    /// Bytes with a signed hash.
    pub(super) verified: u64,
    /// The same and those of a unit that is not complete.
    pub(super) accepted: u64,
}

impl HashLog {
    /// Adds a frame that reaches further than all before it.
    pub(super) fn push(&mut self, frame: HashFrame) {
        self.frames.push(frame);
    }

    /// The first frame with the hash of `unit`.
    pub(super) fn frame_of(&self, unit: u64) -> Option<&HashFrame> {
        let place = self.frames.partition_point(|frame| frame.end() <= unit);
        self.frames.get(place).filter(|frame| frame.first() <= unit)
    }

    pub(super) fn hash_of(&self, unit: u64) -> Option<[u8; 32]> {
        self.frame_of(unit).and_then(|frame| frame.hash_of(unit))
    }

    pub(super) fn frames(&self) -> &[HashFrame] {
        &self.frames
    }

    /// Units that have a hash.
    pub(super) fn units(&self) -> u64 {
        self.frames.last().map_or(0, HashFrame::end)
    }
}

impl Journal {
    /// Frames of what was ahead go on behind the log, where they reach it: the gap was closed, and
    /// its hashes were not written once more. Those behind a gap stay.
    pub(super) fn join_ahead(&mut self) {
        self.ahead.sort_by_key(HashFrame::first);
        for frame in &self.ahead {
            let known = self.log.units();
            if frame.first() <= known && frame.end() > known {
                self.log.push(frame.clone());
            }
        }
    }
}

pub(super) fn header(id: ContentId, size: Option<u64>) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(id.0.as_bytes());
    bytes.extend_from_slice(&size.unwrap_or(u64::MAX).to_be_bytes());
    bytes
}

pub(super) fn synced_record(id: ContentId, synced: Synced) -> Vec<u8> {
    let mut bytes = vec![KIND_SYNCED, 0, 0, 0, 24];
    bytes.extend_from_slice(&synced.verified.to_be_bytes());
    bytes.extend_from_slice(&synced.accepted.to_be_bytes());
    bytes.extend_from_slice(&check(id, synced));
    bytes
}

/// The record of a frame whose units may be ahead of a gap.
pub(super) fn ahead_record(frame: &HashFrame) -> Vec<u8> {
    let encoded = frame.encoded();
    let mut bytes = vec![KIND_AHEAD];
    bytes.extend_from_slice(&u32::try_from(encoded.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(encoded);
    bytes
}

/// Reads a journal as far as it is whole. Signatures are checked by `is_signed`.
///
/// # Errors
/// When the file cannot be read, or is no journal of this content.
pub(super) fn read(
    file: &File,
    id: ContentId,
    is_signed: impl Fn(&Frame) -> bool,
) -> io::Result<Journal> {
    let mut bytes = vec![0; usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, 0)?;
    let mut bytes = Bytes::from(bytes);
    let no_journal = || io::Error::new(io::ErrorKind::InvalidData, "not a journal of a content");
    if bytes.len() < HEADER_LEN {
        return Err(no_journal());
    }
    let start = bytes.split_to(HEADER_LEN);
    let size = u64::from_be_bytes(start.last_chunk().copied().unwrap_or_default());
    if !start.starts_with(MAGIC) || start.get(8..24) != Some(id.0.as_bytes().as_slice()) {
        return Err(no_journal());
    }
    let mut journal = Journal { size: (size != u64::MAX).then_some(size), ..Journal::default() };
    while let Some(record) = next_record(&mut bytes) {
        if record.first() == Some(&KIND_SYNCED) {
            match synced_of(id, &record) {
                Some(synced) => journal.synced = synced,
                None => break,
            }
            continue;
        }
        let is_ahead = record.first() == Some(&KIND_AHEAD);
        let mut reader = FrameReader::new();
        reader.push(if is_ahead { record.slice(FRAME_HEADER_LEN..) } else { record });
        let Ok(Some(frame)) = reader.next_frame() else { break };
        if !is_signed(&frame) {
            break;
        }
        match frame {
            Frame::Hashes(frame) if is_ahead => journal.ahead.push(frame),
            Frame::Hashes(frame) => {
                let known = journal.log.units();
                if frame.first() > known {
                    break;
                }
                if frame.end() > known {
                    journal.log.push(frame);
                }
            }
            Frame::End(frame) => journal.end = Some(frame),
            Frame::Unit(_) => break,
        }
    }
    Ok(journal)
}

/// The end frame, if it is the last record: then the content is whole.
pub(super) fn read_end(file: &File) -> io::Result<Option<EndFrame>> {
    let len = file.metadata()?.len();
    let Some(at) = len.checked_sub(EndFrame::LEN as u64).filter(|at| *at >= HEADER_LEN as u64)
    else {
        return Ok(None);
    };
    let mut bytes = vec![0; EndFrame::LEN];
    file.read_exact_at(&mut bytes, at)?;
    let mut reader = FrameReader::new();
    reader.push(bytes.into());
    Ok(match reader.next_frame() {
        Ok(Some(Frame::End(frame))) => Some(frame),
        _ => None,
    })
}

fn next_record(bytes: &mut Bytes) -> Option<Bytes> {
    let &[_, a, b, c, d] = bytes.first_chunk::<FRAME_HEADER_LEN>()?;
    let len = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
    let total = FRAME_HEADER_LEN.checked_add(len).filter(|total| *total <= bytes.len())?;
    Some(bytes.split_to(total))
}

fn synced_of(id: ContentId, record: &[u8]) -> Option<Synced> {
    let (numbers, found) = record.get(FRAME_HEADER_LEN..)?.split_at_checked(16)?;
    let (verified, accepted) = numbers.split_at_checked(8)?;
    let number = |bytes: &[u8]| bytes.try_into().ok().map(u64::from_be_bytes);
    let synced = Synced { verified: number(verified)?, accepted: number(accepted)? };
    (found == check(id, synced)).then_some(synced)
}

fn check(id: ContentId, synced: Synced) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(id.0.as_bytes()).update(&synced.verified.to_be_bytes());
    hasher.update(&synced.accepted.to_be_bytes());
    hasher.finalize().as_bytes().first_chunk().copied().unwrap_or_default()
}

const MAGIC: &[u8; 8] = b"HEUNITS1";
const HEADER_LEN: usize = 8 + 16 + 8;
const KIND_SYNCED: u8 = 16;
const KIND_AHEAD: u8 = 17;
