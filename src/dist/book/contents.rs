//! Contents: what of each put is at the base.
//!
//! ```text
//! declared --grow, begin--> begun --finish--> whole        declared, begun --close--> abandoned
//! ```
//! Invariant: a content that has ended stays as it is; the bytes at the base do not get fewer.

use std::collections::BTreeMap;

use crate::dist::book::Refusal;
use crate::dist::ids::ContentId;
use crate::dist::rows::ContentRow;
use crate::dist::wire::peer::ContentEnd;

/// A content.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) row: ContentRow,
    /// Bytes at the base.
    pub(super) have: u64,
    /// Bytes were seen, or its end.
    pub(super) is_begun: bool,
    /// Last bytes that came.
    pub(super) grew_ns: u64,
}

/// All contents of jobs in memory.
#[derive(Debug, Default)]
pub(super) struct Contents {
    contents: BTreeMap<ContentId, Content>,
}

impl Content {
    /// A content as its row says. What was there of one that is not whole is told anew.
    pub(super) fn new(row: ContentRow, now_ns: u64) -> Self {
        let is_whole = row.blake3.is_some();
        let have = row.size.filter(|_| is_whole).unwrap_or(0);
        Self { row, have, is_begun: is_whole, grew_ns: now_ns }
    }

    /// The upload is complete or abandoned.
    pub(super) fn has_ended(&self) -> bool {
        self.row.ended_at_ns.is_some()
    }

    /// `have` bytes are at the base. False, and no effect, when it has ended.
    pub(super) fn grow(&mut self, have: u64, now_ns: u64) -> bool {
        if self.has_ended() {
            return false;
        }
        self.have = self.have.max(have);
        self.grew_ns = now_ns;
        true
    }

    /// Whether it has ended like this.
    pub(super) fn is_end(&self, end: &ContentEnd) -> bool {
        self.row.blake3 == Some(end.blake3) && self.row.size == Some(end.size)
    }

    /// Whether it may end like this.
    ///
    /// # Errors
    /// The client said another size or hash.
    pub(super) fn check_end(&self, end: &ContentEnd) -> Result<(), Refusal> {
        match (self.row.size, self.row.expected) {
            (Some(expected), _) if expected != end.size => {
                Err(Refusal::WrongSize { expected, found: end.size })
            }
            (_, Some(expected)) if expected != end.blake3 => {
                Err(Refusal::BadHash { expected, found: end.blake3 })
            }
            (None | Some(_), None | Some(_)) => Ok(()),
        }
    }

    /// All of it is at the base.
    pub(super) fn finish(&mut self, end: &ContentEnd, now_ns: i64) {
        self.row.size = Some(end.size);
        self.row.blake3 = Some(end.blake3);
        self.row.ended_at_ns = Some(now_ns);
        self.have = end.size;
    }

    /// Nothing more comes. False, and no effect, when it has ended.
    pub(super) fn close(&mut self, now_ns: i64) -> bool {
        if self.has_ended() {
            return false;
        }
        self.row.ended_at_ns = Some(now_ns);
        self.row.is_abandoned = true;
        true
    }
}

impl Contents {
    pub(super) fn get(&self, id: ContentId) -> Option<&Content> {
        self.contents.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: ContentId) -> Option<&mut Content> {
        self.contents.get_mut(&id)
    }

    pub(super) fn row(&self, id: ContentId) -> Option<&ContentRow> {
        self.get(id).map(|content| &content.row)
    }

    pub(super) fn insert(&mut self, content: Content) {
        self.contents.insert(content.row.id, content);
    }

    pub(super) fn remove(&mut self, id: ContentId) {
        self.contents.remove(&id);
    }

    /// Those whose upload has not ended.
    pub(super) fn open(&self) -> impl Iterator<Item = &Content> {
        self.contents.values().filter(|content| !content.has_ended())
    }
}
