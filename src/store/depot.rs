//! What all contents of a store share: the folder, the key, the queue of commits and memory.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::commit::CommitQueue;
use super::{Content, StoreKey, disk, limits};
use crate::dist::ids::ContentId;

/// Shared by all contents of a store.
#[derive(Debug)]
pub(super) struct Depot {
    path: PathBuf,
    folder: Arc<File>,
    key: StoreKey,
    commits: CommitQueue,
    /// Contents that have no end yet.
    growing: AtomicUsize,
    cached: Mutex<Cached>,
}

/// Whole contents whose rings are kept, the oldest first.
#[derive(Debug, Default)]
struct Cached {
    contents: VecDeque<(Weak<Content>, usize)>,
    bytes: usize,
}

/// The three files of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    /// Its bytes.
    Data,
    /// Its hashes.
    Units,
    /// Where in the media folder it is.
    Place,
}

impl Depot {
    pub(super) fn open(path: &Path, key: StoreKey) -> io::Result<Self> {
        let folder = Arc::new(File::open(path)?);
        let commits = CommitQueue::start()?;
        let (growing, cached) = (AtomicUsize::new(0), Mutex::default());
        Ok(Self { path: path.to_owned(), folder, key, commits, growing, cached })
    }

    pub(super) const fn key(&self) -> &StoreKey {
        &self.key
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) const fn folder(&self) -> &Arc<File> {
        &self.folder
    }

    pub(super) const fn commits(&self) -> &CommitQueue {
        &self.commits
    }

    /// Makes a file anew.
    pub(super) fn make(&self, id: ContentId, kind: FileKind) -> io::Result<File> {
        self.open_with(&kind.name(id), OFlags::CREATE | OFlags::TRUNC | kind.flags())
    }

    /// Opens a file for reading and writing.
    pub(super) fn reopen(&self, id: ContentId, kind: FileKind) -> io::Result<File> {
        self.open_with(&kind.name(id), kind.flags())
    }

    /// Replaces a file by `bytes`, as a whole or not at all.
    pub(super) fn replace(&self, id: ContentId, kind: FileKind, bytes: &[u8]) -> io::Result<File> {
        let (name, new) = (kind.name(id), format!("{}.new", kind.name(id)));
        let file = self.open_with(&new, OFlags::CREATE | OFlags::TRUNC | kind.flags())?;
        disk::append(&file, bytes)?;
        rustix::fs::renameat(&self.folder, &new, &self.folder, &name)?;
        Ok(file)
    }

    /// Deletes a file; one that is not there is no error.
    pub(super) fn delete(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn add_growing(&self) {
        self.growing.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end_growing(&self) {
        self.growing.fetch_sub(1, Ordering::Relaxed);
    }

    /// Bytes of a ring, now.
    pub(super) fn ring_bytes_max(&self) -> usize {
        let share = limits::RINGS_BYTES_MAX / self.growing.load(Ordering::Relaxed).max(1);
        share.clamp(limits::RING_BYTES_MIN, limits::RING_BYTES_MAX)
    }

    /// Keeps the ring of a whole content until others need the memory.
    pub(super) fn cache(&self, content: &Arc<Content>, bytes: usize) {
        let mut dropped = Vec::new();
        {
            let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
            cached.contents.push_back((Arc::downgrade(content), bytes));
            cached.bytes += bytes;
            while cached.bytes > limits::CACHE_BYTES_MAX
                && let Some((oldest, bytes)) = cached.contents.pop_front()
            {
                cached.bytes -= bytes;
                dropped.push(oldest);
            }
        }
        dropped.iter().filter_map(Weak::upgrade).for_each(|content| content.drop_ring());
    }

    fn open_with(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(rustix::fs::openat(&self.folder, name, flags, Mode::from_raw_mode(0o644))?.into())
    }
}

impl FileKind {
    /// All kinds.
    pub(super) const ALL: [Self; 3] = [Self::Data, Self::Units, Self::Place];

    pub(super) const fn extension(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Units => "units",
            Self::Place => "place",
        }
    }

    /// Journals are only added to.
    const fn flags(self) -> OFlags {
        match self {
            Self::Units => OFlags::RDWR.union(OFlags::APPEND),
            Self::Data | Self::Place => OFlags::RDWR,
        }
    }

    pub(super) fn name(self, id: ContentId) -> String {
        format!("{id}.{}", self.extension())
    }
}
