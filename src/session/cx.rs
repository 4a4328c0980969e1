//! Context that sessions of all roles share on their shard: time, wheel, sockets, outbox.
//!
//! ```text
//!  Vod::play(&mut self, cx: &mut Cx, ..)     Live::announce(&mut self, cx: &mut Cx, ..)
//! ```
//! Each method of a role gets the context beside the role's own tables.
//! Invariant: the context holds no session; the directory has their references only.
//! Bounds: `sessions_max` sessions; `SPARE_BYTES_MAX` buffers.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::access::throttle::Throttle;
use crate::base::addresses::Addresses;
use crate::base::ids::{SessionId, ShardId};
use crate::base::time::Mono;
use crate::base::wheel::Wheel;
use crate::config::limits::LimitsConfig;
use crate::config::paths::PathTable;
use crate::config::secure::SrtpMode;
use crate::live::core::demux::Demux;
use crate::metrics::cells::ShardCells;
use crate::poll::poll_table::EntryKey;
use crate::rtp::RtxRefusal;
use crate::rtsp::response::{Response, Status};
use crate::session::action::Action;
use crate::session::action::TimerKey;
use crate::session::admission::RefusalsSaid;
use crate::session::command::Command;
use crate::session::directory::Directory;
use crate::session::draining::Drain;
use crate::session::shares::Shares;
use crate::session::sockets::SharedSockets;

/// Limits and settings of sessions.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// Sessions at most: players, readers and publishers together.
    pub sessions_max: usize,
    /// Sessions of each address, counted over all shards.
    pub addresses: Arc<Addresses>,
    /// A client without a sign of life for this long is gone.
    pub timeout: Duration,
    /// Host part of CNAMEs.
    pub host: String,
    /// An interleaved session with a larger lag skips ahead; zero: never.
    pub lag_budget: Duration,
    /// Video is thinned for players on a route that loses packets.
    pub adapts_quality: bool,
    /// Players of a title share SSRC and first numbers, and images of its packets.
    pub uses_images: bool,
    /// Packets that a player has lost are sent again on request.
    pub retransmits: bool,
    /// Failed logins of each address, counted over all shards.
    pub throttle: Arc<Throttle>,
    /// A user may go on with a session from another address.
    pub session_roaming: bool,
    /// UDP ports of clients may be below 1024.
    pub low_client_ports: bool,
    /// Clients whose connection has TLS may have media by UDP, which nobody encrypts.
    pub plain_media: bool,
    /// What strangers may take.
    pub limits: LimitsConfig,
    /// What of that each address may take of this shard.
    pub shares: Arc<Shares>,
    /// Whether media is encrypted (SRTP).
    pub srtp: SrtpMode,
}

/// The shared context of one shard: see the module.
#[derive(Debug)]
pub struct Cx {
    /// The next timer or command panics, to test what a bug would cause.
    #[cfg(test)]
    pub panics_next: bool,
    pub(crate) shard: ShardId,
    /// Number of shards, by which sessions have homes.
    pub(crate) shard_count: u8,
    pub(crate) config: SessionConfig,
    /// All sessions, of titles and live paths, by id and by connection.
    pub directory: Directory,
    /// Client addresses at the shard's UDP sockets.
    pub sockets: SharedSockets,
    /// Sources by the addresses of their datagrams.
    pub demux: Demux,
    /// Configuration of paths and titles.
    pub configs: Arc<PathTable>,
    /// Counts the configurations: what was allowed under one is asked again under the next.
    pub configs_count: u64,
    /// Sessions whose home this shard is, and that are elsewhere or on their way.
    pub away: BTreeSet<SessionId>,
    /// The shard takes no new sessions.
    pub drain: Option<Drain>,
    /// Everything that falls due on this shard.
    pub wheel: Wheel<TimerKey>,
    /// Actions for the shard, in this order.
    pub out: Vec<Action>,
    /// Buffers of sent reports, for reuse.
    spare_bytes: Vec<Vec<u8>>,
    pub(crate) cells: Arc<ShardCells>,
    pub(crate) refusals_said: RefusalsSaid,
    /// The present time, fixed for the length of a turn.
    pub now: Mono,
    /// Nanoseconds since 1970 at `now`.
    pub utc_ns: i64,
}

impl Cx {
    #[cfg(test)]
    pub(crate) fn panic_once(&mut self) {
        assert!(!std::mem::take(&mut self.panics_next), "as the test wants it");
    }

    pub(crate) fn new(
        shard: ShardId,
        config: SessionConfig,
        cells: Arc<ShardCells>,
        now: Mono,
    ) -> Self {
        Self {
            #[cfg(test)]
            panics_next: false,
            shard,
            shard_count: u8::MAX,
            config,
            directory: Directory::default(),
            sockets: SharedSockets::default(),
            demux: Demux::default(),
            configs: Arc::default(),
            configs_count: 0,
            away: BTreeSet::new(),
            drain: None,
            wheel: Wheel::new(now),
            out: Vec::new(),
            spare_bytes: (0..SPARE_BYTES_MIN).map(|_| Vec::with_capacity(REPORT_BYTES)).collect(),
            cells,
            refusals_said: RefusalsSaid::default(),
            now,
            utc_ns: 0,
        }
    }

    /// Time for which a client may be silent.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.config.timeout
    }

    /// Time for a request of a client without a session.
    #[must_use]
    pub fn request_patience(&self) -> Duration {
        self.config.limits.request_timeout.min(self.config.timeout)
    }

    /// Whether lost packets are sent again.
    #[must_use]
    pub fn retransmits(&self) -> bool {
        self.config.retransmits
    }

    /// An empty buffer for a report.
    pub(crate) fn take_bytes(&mut self) -> Vec<u8> {
        self.spare_bytes.pop().unwrap_or_default()
    }

    /// Takes back the buffer of a report that was sent.
    pub fn give_bytes_back(&mut self, mut bytes: Vec<u8>) {
        if self.spare_bytes.len() < SPARE_BYTES_MAX {
            bytes.clear();
            self.spare_bytes.push(bytes);
        }
    }

    /// Counts a request that was answered.
    pub fn count_request(&self, method_index: usize, status_code: u16, taken: Duration) {
        self.cells.count_request(method_index, status_code);
        let taken_ns = u64::try_from(taken.as_nanos()).unwrap_or(u64::MAX);
        self.cells.request_duration.observe_ns(taken_ns);
    }

    /// Frees a client's address on a pair; a further pair without any use is closed.
    pub(crate) fn release_tuple(&mut self, pair: u16, rtp: SocketAddr, rtcp: SocketAddr) {
        if let Some((shard, place)) = self.sockets.home_of(pair, self.shard)
            && shard != self.shard
        {
            self.out.push(Action::Freed { home: shard, pair: place, rtp, rtcp });
        }
        if self.sockets.release(pair, rtp, rtcp) {
            self.close_unused_pair(pair);
        }
    }

    /// Closes a further pair if neither players nor publishers use it.
    pub(crate) fn close_unused_pair(&mut self, pair: u16) {
        if !self.demux.uses_pair(pair) {
            self.out.push(Action::ClosePair(pair));
        }
    }

    /// Closes the connection of a session that the server has ended, unless other sessions use it.
    pub(crate) fn hang_up(&mut self, connection: Option<EntryKey>) {
        let Some(entry) = connection else { return };
        if self.directory.of_connection(entry).is_empty() {
            self.out.push(Action::HangUp(entry));
        }
    }

    /// The shard that takes a command for a session: the one that it is on, as far as is known
    /// here, or else its home, which knows.
    pub(crate) fn shard_of(&self, id: SessionId) -> ShardId {
        if self.directory.find(id).is_some() { self.shard } else { self.home_of(id) }
    }

    /// The home of a session.
    pub(crate) fn home_of(&self, id: SessionId) -> ShardId {
        id.home(self.shard_count)
    }

    /// The shard in the id of the session that a command is for. A new session is in company with
    /// those that were made on its connection before: their home is the same for any number of
    /// shards, so another process can take the connection over.
    pub(crate) fn ids_of(&self, command: &Command) -> ShardId {
        if let Some(id) = command.session {
            return id.shard();
        }
        let is_local = command.reply_to.shard == self.shard;
        let before = is_local.then(|| self.directory.ids_on(command.reply_to.entry)).flatten();
        let is_home = |ids: &ShardId| SessionId::new(*ids, 0).home(self.shard_count) == self.shard;
        before.filter(is_home).unwrap_or(self.shard)
    }

    /// Counts a packet that is not sent again.
    pub(crate) fn count_refusal(&self, refusal: RtxRefusal) {
        self.cells.rtx_refused[refusal as usize].add(1);
    }

    /// The `Session` header: `id;timeout=N`. The announced timeout is five seconds less than the
    /// real one, because some clients send their keep-alive exactly at the announced time (rule
    /// C16).
    pub(crate) fn session_header(&self, id: SessionId) -> String {
        let timeout_s = self.config.timeout.as_secs();
        let announced_s = timeout_s.saturating_sub(5).max(timeout_s.min(1));
        format!("{id};timeout={announced_s}")
    }

    /// Counts bytes between frames that were skipped.
    pub fn count_resync(&self) {
        self.cells.framing_resyncs.add(1);
    }

    /// Answers 200 with the session's header.
    pub(crate) fn answer(&self, command: &Command) -> Response {
        let response = command.response(Status::Ok);
        match command.session {
            Some(id) => response.header("Session", self.session_header(id)),
            None => response,
        }
    }
}

/// Usual number of reports in one turn, and with many sessions.
const SPARE_BYTES_MIN: usize = 32;
const SPARE_BYTES_MAX: usize = 256;
/// A sender report with a CNAME is shorter.
const REPORT_BYTES: usize = 128;
