//! How RTSP connections end: by silence, by a client that takes nothing, by a fault on the way.
//!
//! Every connection that we end while its client may still want it is logged with its peer and the
//! reason. Bound: a connection is looked at `LOOKS_A_TIMEOUT` times a session timeout.

use std::io;

use super::sockets::peer_state::peer_state;
use super::turn::Shard;
use crate::poll::poll_table::EntryKey;
use crate::session::action::TimerKey;

impl Shard {
    /// Looks at a connection again.
    pub(super) fn watch_connection(&mut self, key: EntryKey) {
        let due = self.sessions.cx.now + self.sessions.cx.timeout() / LOOKS_A_TIMEOUT;
        if let Some(connection) = self.entries.connection_mut(key) {
            let timer = TimerKey::Connection(key);
            self.sessions.cx.wheel.replace(connection.idle_timer_mut(), due, timer);
        }
    }

    /// A connection without a session that says nothing is closed: a stranger must not fill the
    /// table with silence. So is one whose client takes nothing and says nothing.
    pub(super) fn handle_idle_connection(&mut self, key: EntryKey) {
        let (now, timeout) = (self.sessions.cx.now, self.sessions.cx.timeout());
        let has_sessions = !self.sessions.cx.directory.of_connection(key).is_empty();
        let Some(link) = self.entries.link(key) else { return };
        let Some(connection) = self.entries.connection_mut(key) else { return };
        let silent = now.since(connection.heard());
        // A request that waits for longer than any session may be silent has lost its answer.
        let is_useless = !has_sessions || connection.is_waiting();
        if is_useless && silent >= timeout {
            tracing::debug!(peer = %connection.peer(), "a silent connection is closed");
            return self.close(key);
        }
        // Nobody who was heard of lately is in question.
        let stall = if silent >= timeout / 2 || link.is_sending {
            let peer = peer_state(self.ring.fd(link.slot));
            peer.ok().and_then(|peer| connection.judge_taking(&peer, now, timeout))
        } else {
            None
        };
        let Some(stall) = stall else { return self.watch_connection(key) };
        tracing::info!(
            peer = %connection.peer(), silent_s = silent.as_secs(), reason = %stall,
            "a connection is ended"
        );
        self.cells.sessions_timed_out.add(u64::from(has_sessions));
        self.close(key);
    }

    /// A connection has failed by itself. What its client has done, by a reset or by closing it,
    /// is not worth a line; what the network has done to it is.
    pub(super) fn handle_connection_failed(&mut self, key: EntryKey, error: &io::Error) {
        if let Some(connection) = self.entries.connection_mut(key) {
            let peer = connection.peer();
            if is_of_the_network(error) {
                tracing::info!(%peer, reason = %error, "a connection is ended");
            } else {
                tracing::debug!(%peer, reason = %error, "a connection was closed by its client");
            }
        }
        self.close(key);
    }
}

fn is_of_the_network(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::InvalidData
    )
}

/// A stalled connection ends this part of a timeout late at most.
const LOOKS_A_TIMEOUT: u32 = 4;
