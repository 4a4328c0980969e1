//! How RTSP connections begin and end.
//!
//! ```text
//!  accepted --> places (`places`) --> entry --> watched --> slow, silent, stalled: closed
//!                                       `-- table full: 503
//! ```
//! A connection that the server ends while its client may still want it is logged with the peer and
//! the reason. Bound: a connection is checked `LOOKS_A_TIMEOUT` times a session timeout.

use std::io;
use std::time::Duration;

use super::arrivals::Arrived;
use super::dispatch::shard_count;
use super::ktls;
use super::places::NoRoom;
use super::ring::kernel::Kernel;
use super::state::Shard;
use crate::consumers::Consumer;
use crate::consumers::rtsp_connection::{Places, RtspConnection};
use crate::consumers::rtsp_listener::{Accepted, Speaks};
use crate::pki::stream::FAILED_BY_TIMEOUT;
use crate::poll::consumer::Event;
use crate::poll::poll_table::EntryKey;
use crate::session::action::TimerKey;

impl<K: Kernel> Shard<K> {
    /// Notes that the kernel could not accept a connection, for lack of descriptors as a rule. The
    /// ring accepts again after a pause; clients wait in the backlog meanwhile.
    pub(super) fn note_not_accepted(&mut self, error: &io::Error) {
        self.cells.connections_refused.add(1);
        self.net.warnings.once("HE-W606", "a connection could not be accepted", error);
    }

    /// Hands a connection that has a place among those of its address to its listener.
    pub(super) fn handle_accepted(&mut self, token: u32, arrived: Arrived) {
        let Some(key) = self.net.entries.table.key_at(token) else { return };
        let Arrived { fd, peer, place } = arrived;
        let kernel = self.net.ring.kernel();
        let Ok(local) = kernel.local_addr(&fd) else { return };
        let _dead_already = kernel.set_stream_options(&fd);
        self.dispatch(key, Event::Accepted { fd, peer, local, place });
    }

    /// Enters a connection that the listener has taken.
    pub(super) fn open_connection(&mut self, accepted: Accepted) {
        let Accepted { fd, peer, local, place, speaks } = accepted;
        let (ip, is_secure) = (peer.ip(), speaks == Speaks::Tls);
        // Neither is missing: whoever has its share on this shard has an oldest here.
        let Some(half_open) = self.place_half_open(ip) else {
            return self.refuse(Some(speaks), &fd);
        };
        let places = Places { connection: place, half_open };
        let mut connection = RtspConnection::new((peer, local), places, &self.sessions.cx);
        if is_secure {
            let Some(place) = self.place_handshake(ip) else {
                return self.refuse(Some(speaks), &fd);
            };
            let Some(tls) = self.begin_tls(place) else { return };
            connection = connection.with_tls(tls);
        }
        let consumer = Consumer::Connection(Box::new(connection));
        let key = match self.net.entries.install(&mut self.net.ring, consumer, fd) {
            Ok((key, _)) => key,
            Err((fd, error)) => {
                let table = &self.net.entries.table;
                let is_full = table.count() >= table.entries_max();
                let reason = if is_full { NoRoom::Rows } else { NoRoom::Ring };
                return self.refuse_for(reason, &error, Some(speaks), &fd);
            }
        };
        if let Some(connection) = self.net.entries.connection_mut(key) {
            connection.set_key(key);
        }
        self.cells.connections.add(1);
        self.net.entries.enable(&mut self.net.ring, key);
        self.watch_connection(key);
        self.queue_beginning(key, ip, is_secure);
    }

    /// Removes a connection with its timer, and ends the sessions or the pull that it carried.
    pub(super) fn close(&mut self, key: EntryKey) {
        let Some(link) = self.net.entries.link(key).filter(|link| link.is_stream) else { return };
        if self.net.ring.has_kernel_tls(link.slot) && !link.is_sending {
            ktls::send_close_notify(self.net.ring.fd(link.slot));
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
        let now = self.sessions.cx.now;
        let (interval, patience) =
            (self.sessions.cx.timeout() / LOOKS_A_TIMEOUT, self.sessions.cx.request_patience());
        let has_sessions = !self.sessions.cx.directory.of_connection(key).is_empty();
        if let Some(connection) = self.net.entries.connection_mut(key) {
            let request_due = connection.due(patience).filter(|_| !has_sessions);
            let interval = if has_sessions { interval } else { interval.min(patience) };
            let due = request_due.map_or(now + interval, |due| due.max(now).min(now + interval));
            // A move does not put it off.
            let due = connection.take_look_due().map_or(due, |left| due.min(left.max(now)));
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
        if has_sessions {
            connection.note_served(now);
        }
        let patience = self.sessions.cx.request_patience();
        if let Some(tls) = connection.tls_mut()
            && tls.is_handshaking()
            && silent >= patience
        {
            tls.fail(FAILED_BY_TIMEOUT, &self.cells);
            return self.close(key);
        }
        if !has_sessions
            && !connection.is_waiting()
            && connection.due(patience).is_some_and(|due| due <= now)
        {
            tracing::debug!(peer = %connection.peer(), "a request did not come in time");
            connection.end_slow(&self.sessions.cx);
            self.watch_connection(key);
            return self.net.entries.mark_dirty(key);
        }
        if connection.is_up() {
            return self.watch_up(key, silent);
        }
        // A session that has timed out was as silent as its connection: the client may come to hear
        // of it (454). A request that waits for longer than any session may be silent has lost its
        // answer.
        let is_unused = !has_sessions && now.since(connection.served()) >= timeout;
        if (is_unused || connection.is_waiting()) && silent >= timeout {
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
            // Where the kernel has the keys, that is how it tells of a client's last record.
            let is_end = connection.is_secure() && error.raw_os_error() == Some(libc::EIO);
            if is_of_the_network(error) && !is_end {
                tracing::info!(code = "HE-I602", %peer, reason = %error, "a connection is ended");
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

/// A stalled connection ends late by at most a timeout divided by this.
const LOOKS_A_TIMEOUT: u32 = 4;
