//! What all workers share: the library, the formats and the caches.

use std::fmt;
use std::fs::File;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::cache::Cache;
use super::formats::Formats;
use super::images::Images;
use super::lanes::Lanes;
use super::lru::Lru;
use super::read::Reader;
use super::reply::{Desk, Reply};
use crate::access::question::{Judge, nobody};
use crate::base::time::Mono;
use crate::library::Library;
use crate::library::title::{FileIdentity, Title};
use crate::media::window::{PacketWindow, WindowKey};
use crate::metrics::cells::WorkerCells;
use crate::poll::task::{OpenFailure, Task};

/// Library, formats and caches that all workers share.
pub(super) struct Engine {
    pub(super) library: Arc<Library>,
    pub(super) formats: Box<dyn Formats>,
    pub(super) titles: Arc<Cache<TitleKey, Arc<Title>>>,
    /// Titles open at once, each with its descriptor, those that are played among them.
    pub(super) titles_open_max: usize,
    /// Files that did not open lately. Keyed by what the file is, so a file that is completed or
    /// replaced is tried again at once.
    pub(super) failed: Mutex<Lru<TitleKey, (OpenFailure, Instant)>>,
    pub(super) windows: Arc<Cache<(FileIdentity, WindowKey), Arc<PacketWindow>>>,
    pub(super) images: Images,
    /// Time from one look for unused images to the next.
    pub(super) sweep_interval: Duration,
    pub(super) desk: Arc<Desk>,
    /// Bytes that containers being opened hold in memory.
    pub(super) open_bytes: AtomicUsize,
    /// Names that are being resolved.
    pub(super) resolving: Arc<AtomicUsize>,
    /// Answers what a worker must not compute.
    pub(super) judge: Arc<Judge>,
    /// The shards' clock: what they compare a window's time with.
    pub(super) clock: fn() -> Mono,
    /// False in tests of what happens when nothing is in memory.
    pub(super) asks_cache: bool,
}

/// Names a title in the cache: a name, and the file it led to. No name is the built-in clip.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct TitleKey {
    pub(super) name: Option<String>,
    pub(super) identity: FileIdentity,
}

impl Engine {
    pub(super) fn new(
        library: Arc<Library>,
        formats: Box<dyn Formats>,
        desk: Arc<Desk>,
        titles_max: usize,
        window_cache_bytes: usize,
        image_bytes: usize,
    ) -> Self {
        Self {
            library,
            formats,
            // Who drops a title last unmaps its file, which takes milliseconds for a film that was
            // played. That is not to be a shard: what sessions play stays here.
            titles: Arc::new(Cache::keeping(titles_max, TITLES_BYTES_MAX, |title| {
                Arc::strong_count(title) > 1
            })),
            titles_open_max: usize::MAX,
            failed: Mutex::new(Lru::new(FAILED_MAX, FAILED_MAX)),
            windows: Arc::new(Cache::new(usize::MAX, window_cache_bytes)),
            images: Images::new(image_bytes),
            sweep_interval: SWEEP_INTERVAL,
            desk,
            open_bytes: AtomicUsize::new(0),
            resolving: Arc::default(),
            judge: nobody(),
            clock: monotonic,
            asks_cache: true,
        }
    }

    pub(super) fn counts(&self) -> &WorkerCells {
        &self.desk.counts
    }

    /// Reads a file on behalf of a task.
    pub(super) fn reader<'a>(
        &'a self,
        lanes: &'a Lanes,
        file: &'a File,
        identity: FileIdentity,
    ) -> Reader<'a> {
        Reader::new(file, identity, lanes, self.counts()).asking_cache(self.asks_cache)
    }

    /// The answer to a task that nobody will begin any more.
    pub(super) fn refuse(&self, task: &Task) {
        drop(Reply::new(&self.desk, task));
    }

    pub(super) fn recent_failure(&self, key: &TitleKey) -> Option<OpenFailure> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let (failure, since) = failed.get(key)?;
        (since.elapsed().as_secs() < FAILED_S).then(|| failure.clone())
    }

    pub(super) fn note_failure(&self, key: TitleKey, failure: OpenFailure) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.insert(key, (failure, Instant::now()), 1);
    }

    /// Whether one more title may be opened; titles that nobody plays make room for it.
    pub(super) fn has_room_for_title(&self) -> bool {
        let max = self.titles_open_max;
        if self.titles.count() < max {
            return true;
        }
        self.titles.shrink(max.saturating_sub(1));
        let has_room = self.titles.count() < max;
        if !has_room {
            self.counts().titles_refused.add(1);
        }
        has_room
    }

    /// Forgets a file that is not what it was.
    pub(super) fn forget(&self, identity: FileIdentity) {
        self.titles.remove_if(|key| key.identity == identity);
        self.windows.remove_if(|(known, _)| *known == identity);
        self.update_gauges();
    }

    /// Gives images back that nobody uses. False: there are none any more.
    pub(super) fn sweep_images(&self) -> bool {
        let goes_on = self.images.sweep((self.clock)());
        self.update_gauges();
        goes_on
    }

    pub(super) fn update_gauges(&self) {
        let counts = self.counts();
        counts.titles_open.set(self.titles.count() as u64);
        counts.windows_cached.set(self.windows.count() as u64);
        counts.windows_cached_bytes.set(self.windows.cost() as u64);
        let (images, bytes) = self.images.gauges();
        counts.images.set(images as u64);
        counts.images_bytes.set(bytes as u64);
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("desk", &self.desk).finish_non_exhaustive()
    }
}

fn monotonic() -> Mono {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    Mono(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// Bytes of sample indexes that the title cache keeps at most: 25 films of three hours at 20 MiB.
const TITLES_BYTES_MAX: usize = 512 << 20;

/// An image that nobody uses goes by this much later than it could.
const SWEEP_INTERVAL: Duration = Duration::from_secs(2);

/// Files remembered as not playable, and for how long. A client that asks again in a loop costs
/// two system calls a time; five seconds is as long as anybody waits for a second look.
const FAILED_MAX: usize = 256;
const FAILED_S: u64 = 5;
