//! Contents at the base: bytes of clients become signed units; a crash keeps what was synced.
//!
//! ```text
//! append --> tail --65,536 bytes--> unit, its hash, a signed frame --> streams
//! finish --> root --as the client said?--> end, durable --> the book
//! ```
//! Hashing, signing and the look at what a start finds are the product's.

use headend::dist::book::Book;
use headend::dist::ids::{ContentId, Digest, Stamp};
use headend::dist::keys::BaseKeys;
use headend::dist::recovery::{Found, reconcile};
use headend::dist::units::{EndFrame, HashFrame, Tree, UNIT_LEN, UnitFrame, UnitHash};
use headend::dist::wire::peer::ContentEnd;

use crate::dice::Dice;
use crate::disk::Frames;
use crate::network::BASE;
use crate::world::World;

/// A content at the base.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    pub(crate) frames: Frames,
    tree: Tree,
    tail: Vec<u8>,
    /// Units that survive a loss of power.
    synced: usize,
}

impl Stored {
    /// Bytes that were taken of the client.
    pub(crate) fn accepted(&self) -> u64 {
        let units = self.frames.units.iter().map(|unit| unit.bytes().len()).sum::<usize>();
        (units + self.tail.len()) as u64
    }

    /// Takes the client's next bytes.
    pub(crate) fn append(&mut self, id: ContentId, bytes: &[u8], keys: &BaseKeys) {
        self.tail.extend_from_slice(bytes);
        while self.tail.len() >= UNIT_LEN {
            let rest = self.tail.split_off(UNIT_LEN);
            let unit = std::mem::replace(&mut self.tail, rest);
            self.push(id, &unit, keys);
        }
    }

    /// All bytes have come: the end, durable, or the hash that they have instead.
    pub(crate) fn finish(
        &mut self,
        id: ContentId,
        expected: Option<Digest>,
        keys: &BaseKeys,
    ) -> Result<ContentEnd, ContentEnd> {
        let tail = std::mem::take(&mut self.tail);
        if !tail.is_empty() {
            self.push(id, &tail, keys);
        }
        let blake3 = self.tree.root().expect("the base hashes all bytes itself");
        let end = ContentEnd { size: self.accepted(), blake3 };
        if expected.is_some_and(|expected| expected != blake3) {
            return Err(end);
        }
        self.synced = self.frames.units.len();
        self.frames.end = Some(EndFrame::sign(id, &end, |message| keys.sign(message)));
        Ok(end)
    }

    /// What was accepted so far is durable, but for a unit that is not whole.
    pub(crate) fn sync(&mut self) {
        self.synced = self.frames.units.len();
    }

    /// Units that were not synced may be lost, and with them what was signed of them.
    pub(crate) fn crash(&mut self, dice: &mut Dice) {
        if self.frames.end.is_some() {
            return;
        }
        let unsynced = self.frames.units.len() - self.synced;
        let kept = self.synced + dice.index(unsynced + 1);
        self.tail.clear();
        self.frames.units.truncate(kept);
        self.frames.hashes.truncate(kept);
        self.synced = kept;
        self.tree = Tree::default();
        for unit in &self.frames.units {
            self.tree.push(UnitHash::of(unit.number(), unit.bytes()));
        }
    }

    fn push(&mut self, id: ContentId, unit: &[u8], keys: &BaseKeys) {
        let number = self.tree.units();
        let hash = UnitHash::of(number, unit);
        self.tree.push(hash);
        let frame = HashFrame::sign(id, number, &[hash.value], |message| keys.sign(message));
        self.frames.hashes.push(frame);
        self.frames.units.push(UnitFrame::new(number, unit));
    }

    fn found(&self, id: ContentId) -> Found {
        let end = self.frames.end.as_ref().map(EndFrame::end);
        Found { id, have: self.accepted(), end }
    }
}

impl World {
    /// Brings the book and the contents in line after a start.
    pub(crate) fn reconcile(&mut self, book: &mut Book, at: Stamp) {
        let found: Vec<Found> =
            self.base.contents.iter().map(|(id, stored)| stored.found(*id)).collect();
        for content in reconcile(book, found, at) {
            self.remove_stored(content);
        }
    }

    pub(crate) fn remove_stored(&mut self, content: ContentId) {
        if self.base.contents.remove(&content).is_some() {
            self.base.removed.push_back(content);
            self.end_streams(BASE, content);
        }
    }
}
