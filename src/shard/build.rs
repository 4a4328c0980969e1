//! What a shard consists of, and how it is built on its thread.
//!
//! ```text
//!  ShardConfig --new--> ring, inbox and listeners armed, first pair open, paths configured --> run
//! ```

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use slab::Slab;

use super::arrivals::Arrivals;
use super::dispatch::shard_count;
use super::entries::Entries;
use super::inbox::Inbox;
use super::questions::Question;
use super::ring::{Ring, RingConfig, RingError};
use super::send::sink::RunOwner;
use super::sockets::UdpPair;
use super::sockets::groups::GroupSockets;
use super::sockets::inputs::Inputs;
use super::sockets::pairs::Pairs;
use super::stop::Phase;
use super::turn::clock;
use super::warnings::Warnings;
use crate::base::addresses::Addresses;
use crate::base::host::Host;
use crate::base::ids::ShardId;
use crate::base::seldom::Seldom;
use crate::base::time::Mono;
use crate::config::paths::PathTable;
use crate::consumers::Consumer;
use crate::consumers::rtsp_listener::RtspListener;
use crate::consumers::sessions::Sessions;
use crate::live::core::groups::MulticastSettings;
use crate::live::core::pump::Left;
use crate::metrics::cells::ShardCells;
use crate::poll::poll_table::EntryKey;
use crate::poll::poller::Poller;
use crate::poll::task::Task;
use crate::session::action::{Action, TimerKey};
use crate::session::cx::SessionConfig;
use crate::session::directory::StreamRef;
use crate::worker::TaskQueue;

/// What a shard is made of.
#[derive(Debug)]
pub struct ShardConfig {
    /// Place in the list of shards.
    pub id: ShardId,
    /// Inboxes of all shards.
    pub poller: Arc<Poller<Inbox>>,
    /// Queue of the worker pool, to which tasks are submitted.
    pub queue: Arc<TaskQueue>,
    /// Counters of the shard; the shard is their only writer.
    pub cells: Arc<ShardCells>,
    /// RTSP listeners.
    pub listeners: Vec<OwnedFd>,
    /// First pair of RTP and RTCP sockets.
    pub pair: UdpPair,
    /// Address to which further pairs are bound.
    pub pair_host: Host,
    /// Settings of multicast; `None`: no path is sent to a group.
    pub multicast: Option<MulticastSettings>,
    /// Limit of PollTable rows.
    pub poll_entries_max: usize,
    /// RTSP connections of each client address, counted over all shards.
    pub addresses: Arc<Addresses>,
    /// Limits and settings of sessions.
    pub sessions: SessionConfig,
    /// Configuration of live paths.
    pub paths: Arc<PathTable>,
    /// Sizes of the ring.
    pub ring: RingConfig,
}

/// See the module.
#[derive(Debug)]
pub struct Shard {
    pub(super) id: ShardId,
    pub(super) poller: Arc<Poller<Inbox>>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) queue: Arc<TaskQueue>,
    pub(super) cells: Arc<ShardCells>,
    pub(super) ring: Ring,
    pub(super) entries: Entries,
    pub(super) sessions: Sessions,
    pub(super) pairs: Pairs,
    pub(super) pair_host: Host,
    pub(super) inputs: Inputs,
    pub(super) groups: GroupSockets,
    /// Owners of the runs in flight, by token.
    pub(super) runs: Slab<RunOwner>,
    /// Readers to wake and connections to flush after a live pump; kept for its storage.
    pub(super) live_left: Left<EntryKey>,
    /// Ready streams of the connection that is flushed; kept for its storage.
    pub(super) ready: Vec<(Mono, StreamRef)>,
    /// RTCP datagrams that found no free send in the ring: the next turn sends them first.
    pub(super) unsent: Vec<Action>,
    /// Storage that `settle` exchanges with that of `Cx::out`.
    pub(super) spare_actions: Vec<Action>,
    /// Tasks that the queue handed back. `settle` tells their connections before the turn ends.
    pub(super) refused: Vec<(EntryKey, Task)>,
    /// Timer keys that are due; between turns, keys of streams that found no free run.
    pub(super) due: Vec<TimerKey>,
    /// Due keys of other kinds, which wait for their share of a turn.
    pub(super) waiting_timers: VecDeque<TimerKey>,
    pub(super) arrivals: Arrivals,
    pub(super) questions: VecDeque<Question>,
    pub(super) phase: Phase,
    pub(super) addresses: Arc<Addresses>,
    /// Limits the log lines about addresses with too many connections.
    pub(super) refusals_said: Seldom,
    pub(super) warnings: Warnings,
}

impl Shard {
    /// Builds the shard. The calling thread must be the one that runs it.
    ///
    /// # Errors
    /// The ring cannot be made, or has no room for the shard's own descriptors.
    pub fn new(config: ShardConfig) -> Result<Self, RingError> {
        let mut ring = Ring::new(&config.ring)?;
        let now = clock();
        let mut entries = Entries::new(config.poll_entries_max);
        let Some(inbox) = config.poller.inbox(config.id).cloned() else {
            return Err(RingError::unavailable("the shard has no inbox"));
        };
        let wake = inbox.wake_fd().map_err(|source| RingError::Register { source })?;
        entries.install_own(&mut ring, Consumer::Inbox, wake)?;
        for listener in config.listeners {
            entries.install_own(&mut ring, Consumer::Listener(RtspListener), listener)?;
        }
        let mut sessions =
            Sessions::new(config.id, config.sessions, Arc::clone(&config.cells), now);
        sessions.live.hub.shard_count = shard_count(&config.poller);
        if let Some(settings) = config.multicast
            && let Err(error) = sessions.live.offer_groups(settings, config.id)
        {
            tracing::warn!(shard = config.id.0, %error, "no path is sent to a group");
        }
        let mut shard = Self {
            id: config.id,
            poller: config.poller,
            inbox,
            queue: config.queue,
            cells: config.cells,
            ring,
            entries,
            sessions,
            pairs: Pairs::default(),
            pair_host: config.pair_host,
            inputs: Inputs::default(),
            groups: GroupSockets::default(),
            runs: Slab::with_capacity(1_024),
            live_left: Left::default(),
            ready: Vec::new(),
            unsent: Vec::new(),
            spare_actions: Vec::new(),
            refused: Vec::new(),
            due: Vec::with_capacity(1_024),
            waiting_timers: VecDeque::with_capacity(1_024),
            arrivals: Arrivals::default(),
            questions: VecDeque::new(),
            phase: Phase::Serving,
            addresses: config.addresses,
            refusals_said: Seldom::default(),
            warnings: Warnings::new(config.id),
        };
        shard.add_pair(config.pair)?;
        shard.sessions.live.configure_paths(&mut shard.sessions.cx, config.paths);
        Ok(shard)
    }

    /// Kernel features that the ring uses, for the banner.
    #[must_use]
    pub fn features(&self) -> Vec<&'static str> {
        self.ring.features()
    }
}
