//! What the readers and the sources of a shard share: its paths, and its post with other shards.
//!
//! ```text
//!  readers, sources --asks--> home here: registry    |    home elsewhere: outbox
//! ```
//! Invariant: an ask goes to the home of its path once, in the order of the asks.
//! Bounds: those of `crate::live::core`.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::base::ids::ShardId;
use crate::base::time::Mono;
use crate::live::core::groups::MulticastSettings;
use crate::live::core::info::reader_totals;
use crate::live::core::message::home_of;
use crate::live::core::message::{Ask, LiveMessage, ToHome};
use crate::live::core::paths::LivePaths;
use crate::live::core::reader::Reader;
use crate::live::core::registry::Registry;
use crate::live::sources::publisher::Publisher;
use crate::live::view::totals_of;
use crate::metrics::paths::PathTallies;
use crate::rtsp::transport_answer::TransportPath;
use crate::session::cx::Cx;
use crate::session::transport::Transport;
use std::net::IpAddr;

/// See the module.
#[derive(Debug)]
pub struct Hub {
    /// How many shards there are.
    pub shard_count: u8,
    /// Paths that the shard listens to.
    pub paths: LivePaths,
    /// Paths that have their home here.
    pub registry: Registry,
    /// What goes to other shards, in order.
    pub outbox: Vec<(ShardId, LiveMessage)>,
    /// A path has readers to look at that may not be on the list of such paths.
    pub is_ready: bool,
    /// `None`: paths are not offered by multicast.
    pub multicast: Option<MulticastSettings>,
    pub(crate) asks: Vec<ToHome>,
    /// When the homes that have their home here are to be asked what is due.
    pub(crate) timers: BTreeSet<(Mono, Arc<str>)>,
    /// What was counted of paths by readers and sources that have gone.
    pub(crate) tally: PathTallies,
    /// When homes were last told what is held here.
    pub(crate) renewed: Mono,
    /// The server stops: nothing is fetched any more.
    pub(crate) is_stopping: bool,
    pub(crate) is_ticking: bool,
    serial: u32,
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
            asks: Vec::new(),
            timers: BTreeSet::new(),
            tally: PathTallies::default(),
            renewed: Mono(0),
            is_stopping: false,
            is_ticking: false,
            serial: 0,
        }
    }
}

impl Hub {
    /// A number that was not given before.
    pub(crate) fn next_serial(&mut self) -> u32 {
        self.serial = self.serial.wrapping_add(1);
        self.serial
    }

    /// Asks the home of a path, at the end of the turn's step.
    pub(crate) fn ask(&mut self, path: &Arc<str>, ask: Ask) {
        self.asks.push(ToHome { path: Arc::clone(path), ask });
    }

    /// Whether a path has its home on this shard.
    pub(crate) fn is_home_of(&self, cx: &Cx, path: &str) -> bool {
        home_of(path, self.shard_count) == cx.shard
    }

    /// A source begins to send.
    pub(crate) fn count_source_start(&mut self, path: &Arc<str>) {
        self.tally.numbers_mut(path).totals.source_starts += 1;
    }

    /// A source has gone: what it sent stays counted.
    pub(crate) fn count_source_end(&mut self, publisher: &Publisher) {
        let totals = totals_of(publisher);
        self.tally.numbers_mut(publisher.source.path()).totals.add(&totals);
    }

    /// A reader has gone, or goes with its path: what it was sent stays counted.
    pub(crate) fn count_reader_end(&mut self, path: &str, reader: &Reader) {
        self.tally.numbers_mut(path).totals.add(&reader_totals(reader));
    }

    /// A path goes from this shard with all its readers.
    pub(crate) fn count_path_end(&mut self, path: &str) {
        let Some(found) = self.paths.path(path) else { return };
        self.tally.numbers_mut(path).totals.add(found.totals());
    }

    /// For the answer to SETUP.
    pub(crate) fn transport_path(&self, cx: &Cx, path: Transport) -> TransportPath {
        match path {
            Transport::Udp { pair, rtp, rtcp } => TransportPath::Unicast {
                client: (rtp.port(), rtcp.port()),
                server: cx.sockets.ports(pair),
                source: None,
            },
            Transport::Tcp { channel, rtcp_channel } => {
                TransportPath::Interleaved { channels: (channel, rtcp_channel) }
            }
            Transport::Group { rtp, rtcp } => TransportPath::Multicast {
                group: Some(rtp.ip()),
                port: Some((rtp.port(), rtcp.port())),
                ttl: self.multicast.map(|settings| settings.ttl),
                source: self.multicast.and_then(|settings| settings.source).map(IpAddr::V4),
            },
        }
    }
}
