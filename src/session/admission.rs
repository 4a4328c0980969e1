//! Admission of a further session: player of a title, or reader or publisher of a live path.
//!
//! Limits count the sessions of a shard, those of an address on all shards, and those of an RTSP
//! connection. Sessions that a player has left behind make room first (client rule C7).

use std::net::SocketAddr;

use crate::base::addresses::AddressPlace;
use crate::base::seldom::Seldom;
use crate::rtsp::response::Status;
use crate::session::command::Command;
use crate::session::cx::Cx;
use crate::session::directory::{SESSIONS_PER_CONNECTION_MAX, SessionRef};

/// When the log last told of refused sessions, logins and requests.
#[derive(Debug, Default)]
pub(crate) struct RefusalsSaid {
    full: Seldom,
    address: Seldom,
    pub(crate) login: Seldom,
    /// Of nodes of the base.
    pub(crate) capability: Seldom,
    /// Of whomever: not signed by the base, or where no job has brought the path.
    pub(crate) strange_capability: Seldom,
    pub(crate) forbidden: Seldom,
    pub(crate) publish: Seldom,
    pub(crate) fed_otherwise: Seldom,
}

impl Cx {
    /// Number of sessions of all kinds.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.directory.len()
    }

    /// Whether one more session may be made on a command's connection.
    pub(crate) fn has_room_on_connection(&self, command: &Command) -> bool {
        let made = self.directory.of_connection(command.reply_to.entry).len();
        made < SESSIONS_PER_CONNECTION_MAX
    }

    /// Sessions that a SETUP without a session replaces, of those that `left` returns. Rule C7:
    /// FFmpeg, when no UDP arrives, sends PAUSE and sets up again over TCP on the same connection
    /// without TEARDOWN. The paused session is freed at once.
    pub(crate) fn left_behind<K>(
        &self,
        command: &Command,
        left: impl Fn(SessionRef) -> Option<K>,
    ) -> Vec<K> {
        if command.reply_to.shard != self.shard {
            return Vec::new();
        }
        let made = self.directory.of_connection(command.reply_to.entry);
        made.iter().copied().filter_map(left).collect()
    }

    /// Admits one more player, as `admit_session`, if its connection has room, too.
    pub(crate) fn admit_player(&mut self, command: &Command) -> Result<AddressPlace, Status> {
        if !self.has_room_on_connection(command) {
            return Err(Status::NotEnoughBandwidth);
        }
        self.admit_session(command.peer)
    }

    /// Admits one more session of a client; dropping the result frees the session's place.
    pub(crate) fn admit_session(&mut self, peer: SocketAddr) -> Result<AddressPlace, Status> {
        let (now, ip) = (self.now, peer.ip().to_canonical());
        if self.session_count() >= self.config.sessions_max {
            self.cells.sessions_refused.add(1);
            if let Some(count) = self.refusals_said.full.happened(now) {
                let max = self.config.sessions_max;
                tracing::warn!(
                    code = "HE-W501",
                    max,
                    count,
                    "session refused: the shard has as many sessions as rtsp.sessions_max allows"
                );
            }
            return Err(Status::NotEnoughBandwidth);
        }
        self.config.addresses.enter(ip).map_err(|_prefix| {
            self.cells.sessions_refused_address.add(1);
            if let Some(count) = self.refusals_said.address.happened(now) {
                tracing::warn!(
                    code = "HE-W502", %ip, count, fix = "raise rtsp.sessions_per_address_max",
                    "session refused: the address has as many sessions as it may have"
                );
            }
            Status::NotEnoughBandwidth
        })
    }
}
