//! What sessions of all roles share on their shard: the time, the wheel, the sockets, the outbox.
//!
//! ```text
//!  Vod::play(&mut self, cx: &mut Cx, ..)     Live::announce(&mut self, cx: &mut Cx, ..)
//! ```
//! Each method of a role gets the context beside the role's own tables.
//! Invariant: no session is kept here; the directory has their places only.
//! Bounds: `sessions_max` sessions; `SPARE_BYTES_MAX` buffers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::base::addresses::Addresses;
use crate::base::ids::{SessionId, ShardId};
use crate::base::time::Mono;
use crate::base::wheel::Wheel;
use crate::config::paths::PathTable;
use crate::live::core::demux::Demux;
use crate::metrics::cells::ShardCells;
use crate::poll::poll_table::EntryKey;
use crate::rtsp::response::{Response, Status};
use crate::session::action::Action;
use crate::session::action::TimerKey;
use crate::session::admission::RefusalsSaid;
use crate::session::command::Command;
use crate::session::directory::Directory;
use crate::session::feedback::Refusal;
use crate::session::sockets::SharedSockets;

/// What sessions are allowed and told.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// Sessions at most: of titles and live paths, of those who play and publish, together.
    pub sessions_max: usize,
    /// What each address has of the sessions of all shards.
    pub addresses: Arc<Addresses>,
    /// A client not heard of for this long is gone.
    pub timeout: Duration,
    /// Host part of CNAMEs.
    pub host: String,
    /// An interleaved session later than this skips ahead; zero: never.
    pub lag_budget: Duration,
    /// Pictures are thinned for players whose way loses packets.
    pub adapts_quality: bool,
    /// Packets that a player lost are sent again when it asks.
    pub retransmits: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Cx {
    /// The next timer or command panics, as a bug would have it.
    #[cfg(test)]
    pub panics_next: bool,
    pub(crate) shard: ShardId,
    pub(crate) config: SessionConfig,
    /// All sessions, of titles and live paths, by id and by connection.
    pub directory: Directory,
    /// Sockets' tuples.
    pub sockets: SharedSockets,
    /// Whose datagrams at the same sockets are which source's.
    pub demux: Demux,
    /// What is configured of paths and titles.
    pub configs: Arc<PathTable>,
    /// Everything that falls due on this shard.
    pub wheel: Wheel<TimerKey>,
    /// What the shard must do next, in this order.
    pub out: Vec<Action>,
    /// Storage of reports that are sent, for the next ones.
    spare_bytes: Vec<Vec<u8>>,
    pub(crate) cells: Arc<ShardCells>,
    pub(crate) refusals_said: RefusalsSaid,
    /// Now, fixed for the length of a turn.
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
            config,
            directory: Directory::default(),
            sockets: SharedSockets::default(),
            demux: Demux::default(),
            configs: Arc::default(),
            wheel: Wheel::new(now),
            out: Vec::new(),
            spare_bytes: (0..SPARE_BYTES_MIN).map(|_| Vec::with_capacity(REPORT_BYTES)).collect(),
            cells,
            refusals_said: RefusalsSaid::default(),
            now,
            utc_ns: 0,
        }
    }

    /// How long a client may be silent.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.config.timeout
    }

    /// Whether packets that a player lost are sent again.
    #[must_use]
    pub fn retransmits(&self) -> bool {
        self.config.retransmits
    }

    /// An empty buffer for a report.
    pub(crate) fn take_bytes(&mut self) -> Vec<u8> {
        self.spare_bytes.pop().unwrap_or_default()
    }

    /// A report is sent: its buffer can be used again.
    pub fn give_bytes_back(&mut self, mut bytes: Vec<u8>) {
        if self.spare_bytes.len() < SPARE_BYTES_MAX {
            bytes.clear();
            self.spare_bytes.push(bytes);
        }
    }

    /// Counts a request that is answered.
    pub fn count_request(&self, method_index: usize, status_code: u16, taken: Duration) {
        self.cells.count_request(method_index, status_code);
        let taken_ns = u64::try_from(taken.as_nanos()).unwrap_or(u64::MAX);
        self.cells.request_duration.observe_ns(taken_ns);
    }

    /// Frees a client's address on a pair; a further pair that nobody uses now is closed.
    pub(crate) fn release_tuple(&mut self, pair: u16, rtp: SocketAddr, rtcp: SocketAddr) {
        if self.sockets.release(pair, rtp, rtcp) {
            self.close_unused_pair(pair);
        }
    }

    /// A further pair may be closed when neither players nor publishers use it.
    pub(crate) fn close_unused_pair(&mut self, pair: u16) {
        if !self.demux.uses_pair(pair) {
            self.out.push(Action::ClosePair(pair));
        }
    }

    /// Closes the connection of a session that we have ended, unless others are on it.
    pub(crate) fn hang_up(&mut self, connection: Option<EntryKey>) {
        let Some(entry) = connection else { return };
        if self.directory.of_connection(entry).is_empty() {
            self.out.push(Action::HangUp(entry));
        }
    }

    /// Counts a packet that is not sent again.
    pub(crate) fn count_refusal(&self, refusal: Refusal) {
        self.cells.rtx_refused[refusal as usize].add(1);
    }

    /// `Session: id;timeout=N`. Announced five seconds short of the truth, because some clients
    /// ping exactly at the announced time (rule C16).
    pub(crate) fn session_header(&self, id: SessionId) -> String {
        let timeout_s = self.config.timeout.as_secs();
        let announced_s = timeout_s.saturating_sub(5).max(timeout_s.min(1));
        format!("{id};timeout={announced_s}")
    }

    /// Bytes between frames were passed over.
    pub fn count_resync(&self) {
        self.cells.framing_resyncs.add(1);
    }

    /// 200 that names the session.
    pub(crate) fn answer(&self, command: &Command) -> Response {
        let response = command.response(Status::Ok);
        match command.session {
            Some(id) => response.header("Session", self.session_header(id)),
            None => response,
        }
    }
}

/// Reports of one turn, as a rule, and in a crowd.
const SPARE_BYTES_MIN: usize = 32;
const SPARE_BYTES_MAX: usize = 256;
/// A sender report with a CNAME is below this.
const REPORT_BYTES: usize = 128;
