//! One content: what is known of it, and who waits for it.
//!
//! ```text
//! intake (one at a time) --units--> State --progress--> streams
//!                                    | ring: units in memory
//!                                    | log:  frames with their hashes
//!                                    v
//!                         write behind: data, journal --> synced
//! ```
//! Units of parts that are ahead of a gap wait in the intake, and are written in their places
//! (`ahead`).
//! Invariants: `synced <= written <= have <= accepted`; a unit leaves the ring only when it is
//! written, so that each verified unit is in the ring or in the file.

mod ahead;
mod intake;
mod publish;
mod read;
mod ring;
mod stream;
mod write;

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::depot::{Depot, FileKind};
use super::journal::{self, HashLog, Synced};
use super::{Recovered, StoreError, StoreKey, disk, limits};
use crate::dist::ids::{ContentId, NodeName};
use crate::dist::units::{EndFrame, HashFrame, UnitFrame, UnitVerifier};
use crate::dist::wire::peer::{ContentEnd, ContentState};
use ahead::AheadWrites;
use intake::Intake;
pub(super) use intake::Signing;
use ring::Ring;

/// A content of the store.
#[derive(Debug)]
pub struct Content {
    id: ContentId,
    depot: Arc<Depot>,
    intake: tokio::sync::Mutex<Intake>,
    state: Mutex<State>,
    progress: watch::Sender<Progress>,
    /// Changes with each write, sync and failure.
    disk: watch::Sender<u64>,
}

/// How far a content is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Verified bytes.
    pub have: u64,
    /// Size and hash, once the end is known.
    pub end: Option<ContentEnd>,
    /// True when it was removed: nothing comes any more.
    pub is_removed: bool,
}

/// What a frame did to a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// Hashes of units that follow.
    Hashes,
    /// A unit.
    Unit {
        /// Verified bytes now.
        have: u64,
    },
    /// A unit that is ahead of others.
    Ahead,
    /// Nothing: it was there.
    Known,
    /// The content is whole.
    End(ContentEnd),
}

/// What changes. Locked for moments only.
#[derive(Debug)]
struct State {
    /// Announced size.
    size: Option<u64>,
    accepted: u64,
    have: u64,
    end: Option<EndFrame>,
    /// `None` once it is left on the disk.
    log: Option<HashLog>,
    /// The log as it was read back for a stream.
    loaded: Weak<HashLog>,
    ring: Ring,
    ahead: AheadWrites,
    written: u64,
    synced: Synced,
    /// Frames of the log that are in the journal.
    journaled: usize,
    /// Pages before this are dropped from the page cache.
    dropped: u64,
    files: Option<Files>,
    place: Place,
    is_writing: bool,
    is_syncing: bool,
    /// Everything is to be written, not only whole batches.
    flushes: bool,
    wrote_at: Instant,
    synced_at: Instant,
    failure: Option<StoreError>,
    is_removed: bool,
    /// Others need the memory of the ring.
    sheds_ring: bool,
    /// A restart found it.
    is_recovered: bool,
    is_growing: bool,
    /// Streams that are behind the ring.
    disk_readers: usize,
    via: Vec<NodeName>,
    rate: u64,
}

/// Open files of a content that grows or is not published.
#[derive(Debug, Clone)]
struct Files {
    data: Arc<File>,
    /// `None` for a small content of a node: after a restart it is fetched again.
    journal: Option<Arc<File>>,
}

/// Where the bytes of a content are.
#[derive(Debug, Clone)]
enum Place {
    /// In the folder of the store.
    Store,
    /// In the media folder.
    Media(Published),
}

/// A file in the media folder, and how to see that it is still the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Published {
    /// The media folder.
    pub(super) root: PathBuf,
    /// Path in it.
    pub(super) path: String,
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) size: u64,
}

/// What a restart found of a content.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) size: Option<u64>,
    pub(super) have: u64,
    pub(super) accepted: u64,
    pub(super) log: Option<HashLog>,
    pub(super) end: Option<EndFrame>,
    pub(super) published: Option<Published>,
    /// Data and journal of a content that is not whole.
    pub(super) files: Option<(File, File)>,
    pub(super) intake: FoundIntake,
}

/// Where the intake goes on.
#[derive(Debug)]
pub(super) enum FoundIntake {
    Signs(Signing),
    Verifies(UnitVerifier),
}

impl Content {
    /// Makes a content without bytes; where `size` is known, the disk reserves it.
    pub(super) fn create(
        depot: &Arc<Depot>,
        id: ContentId,
        size: Option<u64>,
    ) -> Result<Arc<Self>, StoreError> {
        let intake = match depot.key() {
            StoreKey::Signs(_) => Intake::Signs(Signing::default()),
            StoreKey::Verifies(_) => Intake::Verifies(UnitVerifier::new(id)),
        };
        let mut state = State::new(size);
        if let Some(size) = size.filter(|size| *size >= limits::WRITE_BYTES) {
            let files = Files::make(depot, id, Some(size), true)?;
            if let Err(error) = disk::reserve(&files.data, size) {
                for kind in FileKind::ALL {
                    // What is left is deleted at the next start.
                    let _ = depot.delete(&kind.name(id));
                }
                return Err(error.into());
            }
            state.files = Some(files);
        }
        depot.add_growing();
        state.is_growing = true;
        Ok(Self::new(depot, id, intake, state))
    }

    /// Takes up a content that a restart found.
    pub(super) fn take_up(depot: &Arc<Depot>, id: ContentId, found: Found) -> Arc<Self> {
        let mut state = State::new(found.size);
        state.is_recovered = true;
        state.accepted = found.accepted;
        state.have = found.have;
        state.written = found.have;
        state.synced = Synced { verified: found.have, accepted: found.accepted };
        state.ring = Ring::behind(found.have);
        state.journaled = found.log.as_ref().map_or(0, |log| log.frames().len());
        state.log = found.log;
        state.is_growing = found.end.is_none();
        state.end = found.end;
        state.files = found.files.map(|(data, journal)| Files {
            data: Arc::new(data),
            journal: Some(Arc::new(journal)),
        });
        if let Some(published) = found.published {
            state.place = Place::Media(published);
        }
        if state.is_growing {
            depot.add_growing();
        }
        let intake = match found.intake {
            FoundIntake::Signs(signing) => Intake::Signs(signing),
            FoundIntake::Verifies(verifier) => Intake::Verifies(verifier),
        };
        Self::new(depot, id, intake, state)
    }

    fn new(depot: &Arc<Depot>, id: ContentId, intake: Intake, state: State) -> Arc<Self> {
        let progress = watch::Sender::new(state.progress());
        let (intake, state) = (tokio::sync::Mutex::new(intake), Mutex::new(state));
        let disk = watch::Sender::new(0);
        Arc::new(Self { id, depot: Arc::clone(depot), intake, state, progress, disk })
    }

    /// Which.
    #[must_use]
    pub const fn id(&self) -> ContentId {
        self.id
    }

    /// Verified bytes.
    #[must_use]
    pub fn have(&self) -> u64 {
        self.lock().have
    }

    /// Bytes taken of the client, at the base: where an upload goes on. At a node [`Self::have`].
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.lock().accepted
    }

    /// Bytes that survive a loss of power, or a kill at the latest.
    #[must_use]
    pub fn synced(&self) -> u64 {
        self.lock().synced.accepted
    }

    /// Size and hash, once the end is known; then all bytes are there.
    #[must_use]
    pub fn end(&self) -> Option<ContentEnd> {
        self.lock().end.as_ref().map(EndFrame::end)
    }

    /// Size, once the end is known, or as it was announced.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        let state = self.lock();
        state.end.as_ref().map(|frame| frame.end().size).or(state.size)
    }

    /// True when its file is in the media folder.
    #[must_use]
    pub fn is_published(&self) -> bool {
        matches!(self.lock().place, Place::Media(_))
    }

    /// Sees each growth, or the newest of several.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// What a receiver is told that asks whether this source is starved or dead.
    #[must_use]
    pub fn peer_state(&self) -> ContentState {
        let state = self.lock();
        let end = state.end.as_ref().map(EndFrame::end);
        let (have, via, rate) = (state.have, state.via.clone(), state.rate);
        ContentState { have, end, via, rate, is_held: false }
    }

    /// Says from whom it comes, the nearest first.
    pub fn set_via(&self, via: Vec<NodeName>) {
        self.lock().via = via;
    }

    /// Says how fast it comes, bytes per second.
    pub fn set_rate(&self, rate: u64) {
        self.lock().rate = rate;
    }

    pub(super) fn as_recovered(&self) -> Recovered {
        let state = self.lock();
        Recovered {
            id: self.id,
            have: state.have,
            accepted: state.accepted,
            end: state.end.as_ref().map(EndFrame::end),
            is_published: matches!(state.place, Place::Media(_)),
        }
    }

    /// Ends streams and deletes files.
    pub(super) fn remove(&self) -> io::Result<()> {
        {
            let mut state = self.lock();
            state.is_removed = true;
            state.files = None;
            state.ring.clear();
            state.stop_growing(&self.depot);
        }
        self.tell();
        self.disk.send_modify(|count| *count += 1);
        let deletions = FileKind::ALL.map(|kind| self.depot.delete(&kind.name(self.id)));
        deletions.into_iter().collect()
    }

    /// Gives back the memory of a whole content, as soon as its file has all.
    pub(super) fn drop_ring(&self) {
        let mut state = self.lock();
        state.sheds_ring = true;
        state.shed_ring();
    }

    /// Takes a content up again whose disk was full or failed.
    pub(super) fn retry(self: &Arc<Self>) -> Result<(), StoreError> {
        let (size, data) = {
            let mut state = self.lock();
            match state.failure {
                Some(StoreError::NoSpace | StoreError::Io { .. }) => {}
                _ => return Ok(()),
            }
            state.failure = None;
            (state.size, state.files.as_ref().map(|files| Arc::clone(&files.data)))
        };
        if let (Some(size), Some(data)) = (size, data)
            && let Err(error) = disk::reserve(&data, size)
        {
            let error = StoreError::from(error);
            self.lock().failure = Some(error.clone());
            return Err(error);
        }
        self.kick(false);
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn lock_ring_bytes(&self) -> usize {
        self.lock().ring.bytes()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets watchers see the state.
    fn tell(&self) {
        let now = self.lock().progress();
        self.progress.send_if_modified(|told| {
            let is_new = *told != now;
            // Two that grow it at once may come here in the other order.
            let is_older = now.have < told.have && !now.is_removed;
            if is_new && !is_older {
                *told = now;
            }
            is_new && !is_older
        });
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        let depot = Arc::clone(&self.depot);
        self.lock().stop_growing(&depot);
    }
}

impl State {
    fn new(size: Option<u64>) -> Self {
        let now = Instant::now();
        Self {
            size,
            accepted: 0,
            have: 0,
            end: None,
            log: Some(HashLog::default()),
            loaded: Weak::new(),
            ring: Ring::behind(0),
            ahead: AheadWrites::default(),
            written: 0,
            synced: Synced::default(),
            journaled: 0,
            dropped: 0,
            files: None,
            place: Place::Store,
            is_writing: false,
            is_syncing: false,
            flushes: false,
            wrote_at: now,
            synced_at: now,
            failure: None,
            is_removed: false,
            sheds_ring: false,
            is_recovered: false,
            is_growing: false,
            disk_readers: 0,
            via: Vec::new(),
            rate: 0,
        }
    }

    fn progress(&self) -> Progress {
        let end = self.end.as_ref().map(EndFrame::end);
        Progress { have: self.have, end, is_removed: self.is_removed }
    }

    /// Fails when nothing can be taken any more.
    fn check(&self) -> Result<(), StoreError> {
        if self.is_removed {
            return Err(StoreError::Removed);
        }
        self.failure.clone().map_or(Ok(()), Err)
    }

    fn push_hashes(&mut self, frame: HashFrame) {
        if let Some(log) = &mut self.log {
            log.push(frame);
        }
    }

    fn push_unit(&mut self, unit: UnitFrame, depot: &Depot) {
        self.have += unit.bytes().len() as u64;
        self.accepted = self.accepted.max(self.have);
        self.ring.push(unit);
        self.ring.trim(self.written, depot.ring_bytes_max());
    }

    fn shed_ring(&mut self) {
        if self.sheds_ring && self.end.is_some() && self.written == self.have {
            self.ring.clear();
        }
    }

    fn stop_growing(&mut self, depot: &Depot) {
        if std::mem::take(&mut self.is_growing) {
            depot.end_growing();
        }
    }
}

impl Files {
    fn make(
        depot: &Depot,
        id: ContentId,
        size: Option<u64>,
        has_journal: bool,
    ) -> io::Result<Self> {
        let data = Arc::new(depot.make(id, FileKind::Data)?);
        let journal = if has_journal {
            let file = depot.make(id, FileKind::Units)?;
            disk::append(&file, &journal::header(id, size))?;
            Some(Arc::new(file))
        } else {
            None
        };
        Ok(Self { data, journal })
    }
}
