//! Journals of contents as a disk gives them, read: the parser of this room for fuzz targets, which
//! are a crate of their own.

use std::fs::File;
use std::io;

use super::journal;
use crate::dist::ids::ContentId;

/// What a journal says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalFacts {
    /// Bytes of the content, where they are known.
    pub size: Option<u64>,
    /// Units whose hashes it has.
    pub units: u64,
    /// Verified bytes that were synced.
    pub verified: u64,
    /// Whether it has the end.
    pub is_whole: bool,
}

/// Reads a journal; `is_signed` counts for all its frames.
///
/// # Errors
/// It is none of this content, or cannot be read.
pub fn read_journal(file: &File, id: ContentId, is_signed: bool) -> io::Result<JournalFacts> {
    let journal = journal::read(file, id, |_| is_signed)?;
    let (units, verified) = (journal.log.units(), journal.synced.verified);
    let is_whole = journal.end.is_some() && journal::read_end(file)?.is_some();
    Ok(JournalFacts { size: journal.size, units, verified, is_whole })
}
