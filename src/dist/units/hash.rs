//! Hashes of units and the root over them (BLAKE3 section 2.1: the tree).
//!
//! ```text
//! unit 0   unit 1   unit 2      a unit is 64 chunks: a whole subtree, but for the last unit
//!   \-- P --/        |
//!        \--- root --'          a left subtree: the largest power of two of units that leaves one
//! ```
//! Invariant of [`Tree`]: the stack has one value for each bit set in the number of units before
//! the newest, the largest subtree first, and the newest; so it is as deep as that number has bits.

use blake3::Hasher;
use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

use super::{UNIT_BYTES, UNIT_LEN};
use crate::dist::ids::Digest;
use crate::dist::wire::peer::ContentEnd;

/// Hash of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnitHash {
    /// Chaining value of the unit's subtree.
    pub value: [u8; 32],
    /// BLAKE3 of the content if there is no other unit; known of unit 0 only.
    alone: Option<[u8; 32]>,
}

impl UnitHash {
    /// Hashes unit `number`. `bytes` must not be empty: BLAKE3 has no subtree without bytes.
    #[must_use]
    pub fn of(number: u64, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new();
        hasher.set_input_offset(number.saturating_mul(UNIT_BYTES)).update(bytes);
        Self::finish(number, &hasher)
    }

    /// A hash that was computed before. As unit 0 it cannot be the only unit of a content.
    #[must_use]
    pub const fn known(value: [u8; 32]) -> Self {
        Self { value, alone: None }
    }

    fn finish(number: u64, hasher: &Hasher) -> Self {
        let alone = (number == 0).then(|| *hasher.finalize().as_bytes());
        Self { value: hasher.finalize_non_root(), alone }
    }
}

/// Gives the root from the hashes of all units, in order.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    stack: Vec<[u8; 32]>,
    units: u64,
    alone: Option<[u8; 32]>,
}

impl Tree {
    /// Units so far.
    #[must_use]
    pub const fn units(&self) -> u64 {
        self.units
    }

    /// Takes the hash of the next unit.
    pub fn push(&mut self, hash: UnitHash) {
        // Subtrees are merged only when a unit follows: the last merge of all is another one.
        let depth = self.units.count_ones() as usize;
        while self.stack.len() > depth {
            merge_top(&mut self.stack);
        }
        self.stack.push(hash.value);
        self.alone = if self.units == 0 { hash.alone } else { None };
        self.units += 1;
    }

    /// BLAKE3 of the content if these are all units; `None` when that cannot be said, because the
    /// only unit is one whose bytes were not seen.
    #[must_use]
    pub fn root(&self) -> Option<Digest> {
        let mut stack = self.stack.clone();
        while stack.len() > 2 {
            merge_top(&mut stack);
        }
        match *stack.as_slice() {
            [] => Some(Digest(*blake3::hash(&[]).as_bytes())),
            [left, right] => {
                Some(Digest(*merge_subtrees_root(&left, &right, Mode::Hash).as_bytes()))
            }
            _ => self.alone.map(Digest),
        }
    }
}

/// Hashes a content whose bytes come in any pieces.
#[derive(Debug, Clone, Default)]
pub struct UnitHasher {
    tree: Tree,
    hasher: Hasher,
    /// Bytes of the unit that has begun.
    begun: usize,
    size: u64,
}

impl UnitHasher {
    /// Of a content without bytes so far.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes and puts the hashes of the units that they complete into `out`.
    pub fn update(&mut self, mut bytes: &[u8], out: &mut Vec<UnitHash>) {
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at(bytes.len().min(UNIT_LEN - self.begun));
            if self.begun == 0 {
                self.hasher = Hasher::new();
                self.hasher.set_input_offset(self.tree.units().saturating_mul(UNIT_BYTES));
            }
            self.hasher.update(piece);
            self.begun += piece.len();
            self.size = self.size.saturating_add(piece.len() as u64);
            if self.begun == UNIT_LEN {
                self.end_unit(out);
            }
            bytes = rest;
        }
    }

    /// Ends the content; the hash of a last, shorter unit goes into `out`.
    #[must_use]
    pub fn finish(mut self, out: &mut Vec<UnitHash>) -> ContentEnd {
        if self.begun > 0 {
            self.end_unit(out);
        }
        let empty = Digest(*blake3::hash(&[]).as_bytes());
        ContentEnd { size: self.size, blake3: self.tree.root().unwrap_or(empty) }
    }

    fn end_unit(&mut self, out: &mut Vec<UnitHash>) {
        let hash = UnitHash::finish(self.tree.units(), &self.hasher);
        self.tree.push(hash);
        self.begun = 0;
        out.push(hash);
    }
}

fn merge_top(stack: &mut Vec<[u8; 32]>) {
    if let (Some(right), Some(left)) = (stack.pop(), stack.pop()) {
        stack.push(merge_subtrees_non_root(&left, &right, Mode::Hash));
    }
}
