//! A base that starts: its book comes from the ledger, its contents from the disk, and a kill may
//! have fallen between the two.
//!
//! ```text
//! content on the disk:  not in the book, or abandoned --> removed
//!                       open in the book, whole --> its end is told
//!                       open in the book, growing --> how far it is is told
//! ```
//! Invariant: a content that the book has ended stays as it is.

use crate::dist::book::Book;
use crate::dist::ids::{ContentId, Stamp};
use crate::dist::wire::peer::ContentEnd;

/// A content on the disk of the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Which.
    pub id: ContentId,
    /// Verified bytes.
    pub have: u64,
    /// Size and hash, if it is whole.
    pub end: Option<ContentEnd>,
}

/// Brings the book in line with what a start found on the disk. Gives the contents that are to be
/// removed.
#[must_use]
pub fn reconcile(
    book: &mut Book,
    found: impl IntoIterator<Item = Found>,
    at: Stamp,
) -> Vec<ContentId> {
    let mut useless = Vec::new();
    for Found { id, have, end } in found {
        let Some(row) = book.content(id) else {
            useless.push(id);
            continue;
        };
        let (is_abandoned, is_ended) = (row.is_abandoned, row.ended_at_ns.is_some());
        if is_abandoned {
            useless.push(id);
        } else if !is_ended {
            match end {
                // A refusal fails the command: it is in the events.
                Some(end) => drop(book.upload_ended(id, end, at)),
                None => book.upload_grew(id, have, at),
            }
        }
    }
    useless
}
