//! How a shard is built on its thread.
//!
//! ```text
//!  ShardConfig --new--> ring, inbox and listeners armed, first pair open, paths configured --> run
//! ```

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::arrivals::Arrivals;
use super::dispatch::shard_count;
use super::entries::Entries;
use super::inbox::Inbox;
use super::moves::Moves;
use super::network::Network;
use super::phase::Phase;
use super::questions::Questions;
use super::ring::kernel::Kernel;
use super::ring::{Ring, RingConfig, RingError, Uring};
use super::send::tcp::Flushing;
use super::send::tls::Sealing;
use super::sockets::UdpPair;
use super::state::Shard;
use super::takeover::Takeover;
use super::tls::TlsSettings;
use crate::base::addresses::Addresses;
use crate::base::host::Host;
use crate::base::ids::ShardId;
use crate::base::oldest::Oldest;
use crate::base::seldom::Seldom;
use crate::config::paths::PathTable;
use crate::consumers::Consumer;
use crate::consumers::rtsp_listener::{RtspListener, Speaks};
use crate::consumers::sessions::Sessions;
use crate::consumers::tunnel::table::Tunnels;
use crate::live::core::groups::MulticastSettings;
use crate::metrics::cells::ShardCells;
use crate::poll::poller::Poller;
use crate::session::cx::SessionConfig;
use crate::worker::TaskQueue;

/// Configuration and handles that a shard is built from.
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
    /// RTSP listeners, and what clients speak there.
    pub listeners: Vec<(Speaks, OwnedFd)>,
    /// TLS of connections that begin.
    pub tls: TlsSettings,
    /// Tunnels over HTTP that the shard knows at most.
    pub tunnels_max: usize,
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
    /// The sockets are another process's, until it has handed over: see `takeover`.
    pub waits: bool,
}

impl Shard {
    /// Builds the shard. The calling thread must be the one that runs it.
    ///
    /// # Errors
    /// The ring cannot be made, or has no room for the shard's own descriptors.
    pub fn new(config: ShardConfig) -> Result<Self, RingError> {
        Self::on(Uring::new(&config.ring)?, config)
    }
}

impl<K: Kernel> Shard<K> {
    /// Builds the shard on a kernel.
    ///
    /// # Errors
    /// As `new`.
    pub fn on(kernel: K, config: ShardConfig) -> Result<Self, RingError> {
        let mut ring = Ring::on(kernel, &config.ring)?;
        let now = ring.kernel().now();
        let mut entries = Entries::new(config.poll_entries_max);
        let Some(inbox) = config.poller.inbox(config.id).cloned() else {
            return Err(RingError::unavailable("the shard has no inbox"));
        };
        let wake = inbox.wake_fd().map_err(|source| RingError::Register { source })?;
        entries.install_own(&mut ring, Consumer::Inbox, wake)?;
        for (speaks, listener) in config.listeners {
            let consumer = Consumer::Listener(RtspListener { speaks });
            match config.waits {
                true => entries.install_waiting(&mut ring, consumer, listener)?,
                false => entries.install_own(&mut ring, consumer, listener)?,
            }
        }
        let half_open_tunnels_max = config.sessions.limits.half_open_tunnels_max;
        let shares = Arc::clone(&config.sessions.shares);
        let mut sessions =
            Sessions::new(config.id, config.sessions, Arc::clone(&config.cells), now);
        sessions.live.hub.shard_count = shard_count(&config.poller);
        sessions.cx.shard_count = shard_count(&config.poller);
        if let Some(settings) = config.multicast
            && let Err(error) = sessions.live.offer_groups(settings, config.id)
        {
            tracing::warn!(code = "HE-W602", shard = config.id.0, %error, "no path is sent to a group");
        }
        let mut net =
            Network::new(config.id, Arc::clone(&config.cells), (ring, entries), config.pair_host);
        match config.waits {
            true => net.add_waiting_pair(&mut sessions, config.pair, None)?,
            false => net.add_pair(&mut sessions, config.pair)?,
        };
        let mut shard = Self {
            id: config.id,
            poller: config.poller,
            inbox,
            queue: config.queue,
            cells: config.cells,
            net,
            sessions,
            flushing: Flushing::default(),
            unsent: Vec::new(),
            spare_actions: Vec::new(),
            refused: Vec::new(),
            due: Vec::with_capacity(1_024),
            waiting_timers: VecDeque::with_capacity(1_024),
            arrivals: Arrivals::default(),
            questions: Questions::default(),
            phase: Phase::Serving,
            moves: Moves::default(),
            takeover: Takeover::default(),
            addresses: config.addresses,
            tunnels: Tunnels::new(config.tunnels_max, half_open_tunnels_max, &shares),
            leaves: VecDeque::new(),
            tls: config.tls,
            sealing: Sealing::default(),
            refusals_said: Seldom::default(),
            no_room_said: Default::default(),
            half_open: Oldest::default(),
            handshaking: Oldest::default(),
            drops_said: Default::default(),
        };
        // What is played first may depend on the time of day.
        shard.read_clock();
        match config.waits {
            // Sources would come twice.
            true => shard.wait_for_takeover(config.paths),
            false => shard.sessions.live.configure_paths(&mut shard.sessions.cx, config.paths),
        }
        Ok(shard)
    }

    /// Kernel features that the ring uses, for the banner.
    #[must_use]
    pub fn features(&self) -> Vec<&'static str> {
        self.net.ring.features()
    }
}
