//! How RTSP connections begin and end.
//!
//! ```text
//!  accepted --> place for its address --> entry --> watched --> silent, stalled or failed: closed
//!                  `-- none: 503           `-- table full: 503
//! ```
//! A connection that the server ends while its client may still want it is logged with the peer and
//! the reason. Bound: a connection is checked `LOOKS_A_TIMEOUT` times a session timeout.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use super::dispatch::shard_count;
use super::network::Network;
use super::ring::kernel::Kernel;
use super::state::Shard;
use crate::base::addresses::AddressPlace;
use crate::base::limits::HALF_OPEN_MAX;
use crate::consumers::Consumer;
use crate::consumers::rtsp_connection::RtspConnection;
use crate::consumers::rtsp_listener::Accepted;
use crate::pki::stream::FAILED_BY_TIMEOUT;
use crate::poll::consumer::Event;
use crate::poll::poll_table::EntryKey;
use crate::session::action::TimerKey;

impl<K: Kernel> Shard<K> {
    pub(super) fn handle_accepted(&mut self, token: u32, result: io::Result<OwnedFd>) {
        let Some(key) = self.net.entries.table.key_at(token) else { return };
        let fd = match result {
            Ok(fd) => fd,
            Err(error) => {
                self.cells.connections_refused.add(1);
                self.net.warnings.once("HE-W606", "a connection could not be accepted", &error);
                return;
            }
        };
        // A client that has closed its connection already has no address.
        let kernel = self.net.ring.kernel();
        let (Ok(peer), Ok(local)) = (kernel.peer_addr(&fd), kernel.local_addr(&fd)) else { return };
        let _dead_already = kernel.set_stream_options(&fd);
        self.dispatch(key, Event::Accepted { fd, peer, local });
    }

    /// Takes a place for one more connection of an address. `None`: the address has too many, and
    /// the client is sent 503.
    fn admit_connection(&mut self, fd: &OwnedFd, peer: SocketAddr) -> Option<AddressPlace> {
        let ip = peer.ip().to_canonical();
        let place = self.addresses.enter(ip);
        if place.is_none() {
            self.net.ring.kernel().write_last(fd, REFUSAL);
            self.cells.connections_refused.add(1);
            self.cells.connections_refused_address.add(1);
            if let Some(count) = self.refusals_said.happened(self.sessions.cx.now) {
                tracing::warn!(
                    code = "HE-W603", %ip, count, fix = "raise rtsp.connections_per_address_max",
                    "connection refused: its address has as many as one may have"
                );
            }
        }
        place
    }

    /// Enters a connection that the listener has taken.
    pub(super) fn open_connection(&mut self, accepted: Accepted) {
        let Accepted { fd, peer, local, is_secure } = accepted;
        let Some(place) = self.admit_connection(&fd, peer) else { return };
        let mut connection = RtspConnection::new(peer, local, place, self.sessions.cx.now);
        if is_secure {
            let Some(tls) = self.begin_tls(peer) else { return };
            connection = connection.with_tls(tls);
        }
        let consumer = Consumer::Connection(Box::new(connection));
        let key = match self.net.entries.install(&mut self.net.ring, consumer, fd) {
            Ok((key, _)) => key,
            Err((fd, error)) => {
                if is_secure {
                    self.cells.tls_handshakes_open.sub(1);
                }
                return self.net.refuse(&fd, &error);
            }
        };
        if let Some(connection) = self.net.entries.connection_mut(key) {
            connection.set_key(key);
        }
        self.cells.connections.add(1);
        self.net.entries.enable(&mut self.net.ring, key);
        self.watch_connection(key);
    }

    /// Removes a connection with its timer, and ends the sessions or the pull that it carried.
    pub(super) fn close(&mut self, key: EntryKey) {
        if !self.net.entries.link(key).is_some_and(|link| link.is_stream) {
            return;
        }
        let consumer = self.net.entries.remove(&mut self.net.ring, key);
        self.cells.connections.sub(1);
        match consumer {
            Some(Consumer::Camera(camera)) => self.sessions.live.sources.handle_camera_closed(
                &mut self.sessions.cx,
                &mut self.sessions.live.hub,
                camera.name(),
            ),
            Some(Consumer::Connection(mut connection)) => {
                self.sessions.cx.wheel.cancel(*connection.idle_timer_mut());
                if let Some(tls) = connection.tls_mut() {
                    tls.end(&self.cells);
                }
                let count = shard_count(&self.poller);
                for (shard, message) in connection.leave_tunnel(self.id, count) {
                    self.post_tunnel(shard, message);
                }
                self.sessions.handle_connection_closed(key);
            }
            _ => self.sessions.handle_connection_closed(key),
        }
    }

    /// Sets the time of the next check of a connection.
    pub(super) fn watch_connection(&mut self, key: EntryKey) {
        let interval = self.sessions.cx.timeout() / LOOKS_A_TIMEOUT;
        if let Some(connection) = self.net.entries.connection_mut(key) {
            let is_half_open = connection.tls_mut().is_some_and(|tls| tls.is_handshaking())
                || connection.is_half_open();
            let interval = if is_half_open { interval.min(HALF_OPEN_MAX) } else { interval };
            let due = self.sessions.cx.now + interval;
            let timer = TimerKey::Connection(key);
            self.sessions.cx.wheel.replace(connection.idle_timer_mut(), due, timer);
        }
    }

    /// Checks a connection. A silent connection without a session is closed, because strangers must
    /// not fill the table. A silent connection whose client takes no bytes is closed, too.
    pub(super) fn handle_idle_connection(&mut self, key: EntryKey) {
        let (now, timeout) = (self.sessions.cx.now, self.sessions.cx.timeout());
        let has_sessions = !self.sessions.cx.directory.of_connection(key).is_empty();
        let Some(link) = self.net.entries.link(key) else { return };
        let Some(connection) = self.net.entries.connection_mut(key) else { return };
        let silent = now.since(connection.heard());
        if let Some(tls) = connection.tls_mut()
            && tls.is_handshaking()
            && silent >= HALF_OPEN_MAX.min(timeout)
        {
            tls.fail(FAILED_BY_TIMEOUT, &self.cells);
            return self.close(key);
        }
        if connection.is_half_open() && silent >= HALF_OPEN_MAX.min(timeout) {
            tracing::debug!(peer = %connection.peer(), "a half of a tunnel is closed");
            return self.close(key);
        }
        if connection.is_up() {
            return self.watch_up(key, silent);
        }
        // A request that waits for longer than any session may be silent has lost its answer.
        let is_useless = !has_sessions || connection.is_waiting();
        if is_useless && silent >= timeout {
            tracing::debug!(peer = %connection.peer(), "a silent connection is closed");
            return self.close(key);
        }
        // A client that has sent something lately is alive.
        let stall = if silent >= timeout / 2 || link.is_sending {
            let ring = &self.net.ring;
            let peer = ring.kernel().peer_state(ring.fd(link.slot));
            peer.ok().and_then(|peer| connection.judge_taking(&peer, now, timeout))
        } else {
            None
        };
        let Some(stall) = stall else { return self.watch_connection(key) };
        tracing::info!(
            code = "HE-I601", peer = %connection.peer(), silent_s = silent.as_secs(), reason = %stall,
            "a connection is ended"
        );
        self.cells.sessions_timed_out.add(u64::from(has_sessions));
        self.close(key);
    }

    /// Checks the connection of a tunnel's POST, which lives as long as that of its GET.
    fn watch_up(&mut self, key: EntryKey, silent: Duration) {
        if silent >= self.sessions.cx.timeout() {
            let id = self.id;
            let connection = self.net.entries.connection_mut(key);
            let Some((shard, message)) = connection.and_then(|up| up.knock(id)) else {
                return self.close(key);
            };
            self.post_tunnel(shard, message);
        }
        self.watch_connection(key);
    }

    /// Closes a connection that has failed. A failure of the network is logged at info, a reset or
    /// close by the client at debug.
    pub(super) fn handle_connection_failed(&mut self, key: EntryKey, error: &io::Error) {
        if let Some(connection) = self.net.entries.connection_mut(key) {
            let peer = connection.peer();
            if is_of_the_network(error) {
                tracing::info!(code = "HE-I602", %peer, reason = %error, "a connection is ended");
            } else {
                tracing::debug!(%peer, reason = %error, "a connection was closed by its client");
            }
        }
        self.close(key);
    }
}

impl<K: Kernel> Network<K> {
    /// Sends 503 on a connection for which there is no row. The caller closes the connection.
    pub(super) fn refuse(&mut self, fd: impl AsFd, why: &dyn Display) {
        self.ring.kernel().write_last(fd, REFUSAL);
        self.cells.connections_refused.add(1);
        self.warnings.once("HE-W605", "a connection is refused with 503", why);
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

/// A stalled connection ends late by at most a timeout divided by this.
const LOOKS_A_TIMEOUT: u32 = 4;
/// Answer to a client for which there is no row, or no place of its address.
const REFUSAL: &[u8] = b"RTSP/1.0 503 Service Unavailable\r\nCSeq: 0\r\nRetry-After: 5\r\n\r\n";
