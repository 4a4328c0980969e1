//! Files of contents on a disk, whole or growing: what bases and nodes serve to the next node.
//!
//! ```text
//! base: bytes of a client --append--> hash, sign ---.
//! node: frames of a source --append_frame--> verify -+-> ring --write behind--> ID.data, ID.units
//!                                                    |     \                         |
//!                          frames(from) of children <+------+------------------------'
//! node: whole --publish--> attributes, fsync, rename into the media folder; served from there
//! ```
//! - [`Content`]: one content: what comes in, what goes out, where its bytes are.
//! - `journal`: the file of its hashes, and what a restart makes of it (`recover`).
//! - `commit`: fsyncs of many contents in one go. [`RateLimit`]: a cap shared by many streams.
//!   [`Upload`]: an uplink that jobs share by weight.
//! - [`beneath`]: files and folders of the media folder, and nothing outside it.
//!
//! Invariants: what a stream gives is verified: by its hash as it came in, and again when it comes
//! from the disk. The end of a content of the base is given only when all its bytes are durable.
//! The journal claims only what was synced before; what it does not claim counts when its hashes
//! agree.
//! Bounds: memory of a content is its ring, [`limits::RING_BYTES_MAX`], less when many grow; bytes
//! that are not written are [`limits::UNWRITTEN_BYTES_MAX`] at most: then who appends waits.

pub mod beneath;
mod commit;
mod content;
mod depot;
mod disk;
mod error;
#[doc(hidden)]
pub mod foreign;
mod journal;
pub mod limits;
mod rate;
mod recover;
#[cfg(test)]
mod tests;
mod upload;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::dist::ids::ContentId;
use crate::dist::keys::{BaseKeys, VerifyKey};
use crate::dist::wire::peer::ContentEnd;

pub use content::{Appended, Content, Progress};
use depot::Depot;
pub use error::{PublishError, StoreError};
pub use rate::RateLimit;
pub use upload::Upload;

/// What the store does with hashes: the base signs them, nodes check them.
#[derive(Debug, Clone)]
pub enum StoreKey {
    /// At the base.
    Signs(BaseKeys),
    /// At a node.
    Verifies(VerifyKey),
}

/// A folder of contents; one for a process. Clones are the same store. Used from a tokio runtime.
#[derive(Debug, Clone)]
pub struct Store {
    depot: Arc<Depot>,
    table: Arc<Mutex<Table>>,
    /// Changes with each content that is made.
    made: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Table {
    contents: HashMap<ContentId, Arc<Content>>,
    /// Those that were removed last, so that who asks for them does not ask again.
    removed: VecDeque<ContentId>,
}

/// A content that was there when the store was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// Which.
    pub id: ContentId,
    /// Verified bytes.
    pub have: u64,
    /// Bytes taken of the client, at the base.
    pub accepted: u64,
    /// Size and hash, if it is whole.
    pub end: Option<ContentEnd>,
    /// True when its file is in the media folder.
    pub is_published: bool,
}

impl StoreKey {
    /// The key of the base that signs what is in this store.
    #[must_use]
    pub fn verify_key(&self) -> VerifyKey {
        match self {
            Self::Signs(keys) => keys.verify_key(),
            Self::Verifies(key) => *key,
        }
    }
}

impl Store {
    /// Opens the folder `dir`, which is made when it is not there, and takes up what is in it. Of a
    /// content that is not whole the last [`limits::REHASH_BYTES_MAX`] are hashed again; what does
    /// not agree with its hashes is cut off. Files that belong to no content are deleted.
    ///
    /// # Errors
    /// When the folder cannot be made, read or written.
    pub fn open(dir: &Path, key: StoreKey) -> io::Result<(Self, Vec<Recovered>)> {
        std::fs::create_dir_all(dir)?;
        let depot = Arc::new(Depot::open(dir, key)?);
        let contents = recover::contents(&depot)?;
        let recovered = contents.iter().map(|content| content.as_recovered()).collect();
        let contents = contents.into_iter().map(|content| (content.id(), content)).collect();
        let table = Table { contents, removed: VecDeque::new() };
        Ok((
            Self { depot, table: Arc::new(Mutex::new(table)), made: watch::Sender::new(0) },
            recovered,
        ))
    }

    /// The content, which is made when it is not there; one whose disk was full or failed is taken
    /// up again. Where `size` is known, the disk reserves it;
    /// this may take a while on file systems that cannot reserve without writing.
    ///
    /// # Errors
    /// `NoSpace` when the disk does not hold `size`, `Io` when its files cannot be made.
    pub fn create(&self, id: ContentId, size: Option<u64>) -> Result<Arc<Content>, StoreError> {
        if let Some(content) = self.get(id) {
            content.retry()?;
            return Ok(content);
        }
        let content = Content::create(&self.depot, id, size)?;
        let content = {
            let mut table = self.table();
            table.removed.retain(|removed| *removed != id);
            Arc::clone(table.contents.entry(id).or_insert(content))
        };
        self.made.send_modify(|count| *count += 1);
        Ok(content)
    }

    /// The content, if it is there.
    #[must_use]
    pub fn get(&self, id: ContentId) -> Option<Arc<Content>> {
        self.table().contents.get(&id).cloned()
    }

    /// The content, waited for until `patience` is over: a child may ask its source for a content
    /// before the source has heard of it.
    pub async fn wait_for(&self, id: ContentId, patience: Duration) -> Option<Arc<Content>> {
        let mut made = self.made.subscribe();
        let wait = async {
            loop {
                if let Some(content) = self.get(id) {
                    return Some(content);
                }
                made.changed().await.ok()?;
            }
        };
        tokio::time::timeout(patience, wait).await.ok().flatten()
    }

    /// Forgets a content and deletes its files. Its streams end with an error. A file in the media
    /// folder stays.
    ///
    /// # Errors
    /// When a file cannot be deleted; the content is forgotten all the same.
    pub fn remove(&self, id: ContentId) -> io::Result<()> {
        let content = {
            let mut table = self.table();
            let content = table.contents.remove(&id);
            if content.is_some() {
                if table.removed.len() == limits::REMOVED_KEPT {
                    table.removed.pop_front();
                }
                table.removed.push_back(id);
            }
            content
        };
        content.map_or(Ok(()), |content| content.remove())
    }

    /// True when the content was here since the start and was removed.
    #[must_use]
    pub fn was_removed(&self, id: ContentId) -> bool {
        self.table().removed.contains(&id)
    }

    /// Contents that are there.
    #[must_use]
    pub fn ids(&self) -> Vec<ContentId> {
        self.table().contents.keys().copied().collect()
    }

    /// Key of the base that signs what is in this store.
    #[must_use]
    pub fn verify_key(&self) -> VerifyKey {
        self.depot.key().verify_key()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
