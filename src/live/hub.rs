//! State that a shard's readers and sources share: its paths, and messages to other shards.
//!
//! ```text
//!  readers, sources --asks--> owner here: registry    |    owner elsewhere: outbox
//! ```
//! Invariant: a request goes to the owner of its path once, in the order of the requests.
//! Bounds: those of `crate::live::core`; `WAITING_MAX`.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::base::ids::ShardId;
use crate::base::time::Mono;
use crate::live::core::groups::MulticastSettings;
use crate::live::core::info::reader_totals;
use crate::live::core::message::owner_of;
use crate::live::core::message::{LiveMessage, OwnerRequest, ToOwner};
use crate::live::core::paths::LivePaths;
use crate::live::core::reader::Reader;
use crate::live::core::registry::Registry;
use crate::metrics::paths::{PathTallies, PathTotals};
use crate::session::cx::Cx;

/// Shared state of readers and sources: see the module.
#[derive(Debug)]
pub struct Hub {
    /// Number of shards.
    pub shard_count: u8,
    /// Paths that the shard listens to.
    pub paths: LivePaths,
    /// Owners of the paths that this shard owns.
    pub registry: Registry,
    /// Messages to other shards, in order.
    pub outbox: Vec<(ShardId, LiveMessage)>,
    /// A path has readers to serve and may be missing on the list of such paths.
    pub is_ready: bool,
    /// Settings of multicast; `None` disables multicast.
    pub multicast: Option<MulticastSettings>,
    pub(crate) requests: Vec<ToOwner>,
    /// Timers of the owners on this shard.
    pub(crate) timers: BTreeSet<(Mono, Arc<str>)>,
    /// Counters of readers and sources that have ended.
    pub(crate) tally: PathTallies,
    /// When the shard last renewed what it holds at owners.
    pub(crate) renewed: Mono,
    /// The server is stopping: no source is fetched any more.
    pub(crate) is_stopping: bool,
    pub(crate) is_ticking: bool,
    serial: u32,
    /// Requests that wait while no batch may be on its way; `None`: they go at once.
    waiting: Option<Vec<ToOwner>>,
    /// More requests came than may wait.
    has_overrun: bool,
}

impl Default for Hub {
    fn default() -> Self {
        Self {
            shard_count: 1,
            paths: LivePaths::default(),
            registry: Registry::new(None),
            outbox: Vec::new(),
            is_ready: false,
            multicast: None,
            requests: Vec::new(),
            timers: BTreeSet::new(),
            tally: PathTallies::default(),
            renewed: Mono(0),
            is_stopping: false,
            is_ticking: false,
            serial: 0,
            waiting: None,
            has_overrun: false,
        }
    }
}

impl Hub {
    /// A number that has not been used before.
    pub(crate) fn next_serial(&mut self) -> u32 {
        self.serial = self.serial.wrapping_add(1);
        self.serial
    }

    /// A number is in use that came with another process.
    pub(crate) fn use_up_serial(&mut self, number: u32) {
        self.serial = self.serial.max(number);
    }

    /// Sends a request to the owner of a path, at the end of the turn's step.
    pub(crate) fn request(&mut self, path: &Arc<str>, request: OwnerRequest) {
        let message = ToOwner { path: Arc::clone(path), request };
        match &mut self.waiting {
            None => self.requests.push(message),
            Some(waiting) => {
                waiting.push(message);
                if waiting.len() >= WAITING_MAX {
                    self.go_on();
                    self.has_overrun = true;
                }
            }
        }
    }

    /// Requests wait from now on, packets among them: another process takes over.
    pub(crate) fn halt(&mut self) {
        self.waiting.get_or_insert_default();
        self.has_overrun = false;
    }

    /// Requests go again, those that waited first.
    pub(crate) fn go_on(&mut self) {
        self.requests.append(&mut self.waiting.take().unwrap_or_default());
        self.has_overrun = false;
    }

    /// Whether requests wait.
    pub(crate) fn is_halted(&self) -> bool {
        self.waiting.is_some()
    }

    /// Whether so many requests waited that they were let go.
    pub(crate) fn has_overrun(&self) -> bool {
        self.has_overrun
    }

    /// Whether a path has its owner on this shard.
    pub(crate) fn is_owner_of(&self, cx: &Cx, path: &str) -> bool {
        owner_of(path, self.shard_count) == cx.shard
    }

    /// Counts the start of a source.
    pub(crate) fn count_source_start(&mut self, path: &Arc<str>) {
        self.tally.numbers_mut(path).totals.source_starts += 1;
    }

    /// Keeps the counters of a source that has ended.
    pub(crate) fn count_source_end(&mut self, path: &Arc<str>, totals: &PathTotals) {
        self.tally.numbers_mut(path).totals.add(totals);
    }

    /// Keeps the counters of a reader that has ended, or ends with its path.
    pub(crate) fn count_reader_end(&mut self, path: &str, reader: &Reader) {
        self.tally.numbers_mut(path).totals.add(&reader_totals(reader));
    }

    /// Keeps the counters of all readers of a path that this shard releases.
    pub(crate) fn count_path_end(&mut self, path: &str) {
        let Some(found) = self.paths.path(path) else { return };
        self.tally.numbers_mut(path).totals.add(found.totals());
    }
}

/// Requests that wait while a shard is halted, which is less than a second.
const WAITING_MAX: usize = 4_096;
