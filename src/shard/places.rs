//! Places of connections that begin, who makes room for them, and what those are told who get none.
//!
//! ```text
//!  accepted --> its address (all shards) --> half open --> handshake of TLS --> entry
//!                  `-- none left: 503           |             |     the oldest of the address ends
//!                                               `-------------'     where that has its share, or
//!                                                                   the oldest of all
//! ```
//! A connection that has made no request yet is half open. One more of these than
//! `limits.half_open_max` ends the oldest, so that strangers who hold connections keep nobody out;
//! the same holds of handshakes of TLS. An address that has its share of either ends its own
//! oldest, so that one who connects without end does not end everybody else's.
//! Bounds: the limits; `REFUSALS_A_TURN` of those for whom there is no place are told so in a turn,
//! the others are closed unsaid.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::entries::Entries;
use super::ring::kernel::Kernel;
use super::state::Shard;
use crate::base::addresses::AddressPlace;
use crate::base::prefix::Prefix;
use crate::consumers::Consumer;
use crate::consumers::rtsp_connection::RtspConnection;
use crate::consumers::rtsp_listener::Speaks;
use crate::pki::stream::FAILED_BY_LIMIT;
use crate::poll::poll_table::EntryKey;

/// Why a shard has no room for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoRoom {
    Rows,
    Descriptors,
    Ring,
}

impl NoRoom {
    pub(super) const COUNT: usize = 3;
}

/// What makes room for the next of its kind.
#[derive(Debug, Clone, Copy)]
pub(super) enum Dropped {
    /// A connection without a request.
    HalfOpen,
    /// A connection in a handshake of TLS.
    Handshake,
    /// A tunnel over HTTP without its second connection.
    Tunnel,
}

impl Dropped {
    /// Number of kinds.
    pub(super) const COUNT: usize = 3;

    fn name(self) -> &'static str {
        match self {
            Self::HalfOpen => "half-open connections",
            Self::Handshake => "handshakes of TLS",
            Self::Tunnel => "half-open tunnels over HTTP",
        }
    }
}

impl<K: Kernel> Shard<K> {
    /// Takes a place for one more connection of an address. `None`: the address has too many, and
    /// the client is sent 503.
    pub(super) fn admit_connection(
        &mut self,
        token: u32,
        fd: &OwnedFd,
        peer: SocketAddr,
    ) -> Option<AddressPlace> {
        let ip = peer.ip().to_canonical();
        let place = self.addresses.enter(ip).ok();
        if place.is_none() {
            let speaks = self.speaks_at(token);
            self.refuse(speaks, fd);
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

    /// Takes a place among the half-open connections.
    pub(super) fn place_half_open(&mut self, ip: IpAddr) -> Option<AddressPlace> {
        let shares = Arc::clone(&self.sessions.cx.config.shares);
        let place = shares.half_open.enter(ip).or_else(|prefix| {
            self.end_half_open(Some(prefix));
            shares.half_open.enter(ip)
        });
        if self.cells.half_open.value() >= self.sessions.cx.config.limits.half_open_max as u64 {
            self.end_half_open(None);
        }
        place.ok()
    }

    /// Takes a place among the handshakes of TLS.
    pub(super) fn place_handshake(&mut self, ip: IpAddr) -> Option<AddressPlace> {
        let shares = Arc::clone(&self.sessions.cx.config.shares);
        let place = shares.handshakes.enter(ip).or_else(|prefix| {
            self.end_handshake(Some(prefix));
            shares.handshakes.enter(ip)
        });
        let max = self.sessions.cx.config.limits.handshakes_max as u64;
        if self.cells.tls_handshakes_open.value() >= max {
            self.end_handshake(None);
        }
        place.ok()
    }

    /// Ends the connection that has waited longest for its first request, of a prefix or of all.
    fn end_half_open(&mut self, of: Option<Prefix>) {
        let entries = &mut self.net.entries;
        let is_one = |key: &EntryKey| is_beginning(entries, *key);
        let key = match of {
            Some(prefix) => self.half_open.take_of(prefix, is_one),
            None => self.half_open.take(is_one),
        };
        let Some(key) = key else { return };
        let Some(connection) = self.net.entries.connection_mut(key) else { return };
        let can_be_told = connection.tls_mut().is_none_or(|tls| tls.can_send());
        connection.end_oldest(&self.sessions.cx);
        let max = self.sessions.cx.config.limits.half_open_max;
        self.note_dropped(Dropped::HalfOpen, max);
        if can_be_told { self.net.entries.mark_dirty(key) } else { self.close(key) }
    }

    /// Ends the connection that has been longest in its handshake, of a prefix or of all.
    fn end_handshake(&mut self, of: Option<Prefix>) {
        let entries = &mut self.net.entries;
        let is_one = |key: &EntryKey| is_handshaking(entries, *key);
        let key = match of {
            Some(prefix) => self.handshaking.take_of(prefix, is_one),
            None => self.handshaking.take(is_one),
        };
        let Some(key) = key else { return };
        let connection = self.net.entries.connection_mut(key);
        if let Some(tls) = connection.and_then(RtspConnection::tls_mut) {
            tls.fail(FAILED_BY_LIMIT, &self.cells);
        }
        self.note_dropped(Dropped::Handshake, self.sessions.cx.config.limits.handshakes_max);
        self.close(key);
    }

    /// Tells that one made room: there are `max`, or its address has its share of them.
    pub(super) fn note_dropped(&mut self, dropped: Dropped, max: usize) {
        let what = dropped.name();
        let said = &mut self.drops_said[dropped as usize];
        if let Some(count) = said.happened(self.sessions.cx.now) {
            tracing::warn!(
                code = "HE-W617",
                what,
                max,
                count,
                "the oldest connection, of all or of its address, made room for a new one"
            );
        }
    }

    /// Enters a connection in the orders by which the oldest end.
    pub(super) fn queue_beginning(&mut self, key: EntryKey, ip: IpAddr, is_secure: bool) {
        let limits = self.sessions.cx.config.limits;
        let entries = &mut self.net.entries;
        self.half_open.push(key, ip, limits.half_open_max, |key| is_beginning(entries, *key));
        if is_secure {
            let is_one = |key: &EntryKey| is_handshaking(entries, *key);
            self.handshaking.push(key, ip, limits.handshakes_max, is_one);
        }
    }

    /// Refuses a connection for which the shard has no room. The caller closes it.
    pub(super) fn refuse_for(
        &mut self,
        reason: NoRoom,
        why: &dyn Display,
        speaks: Option<Speaks>,
        fd: &OwnedFd,
    ) {
        self.refuse(speaks, fd);
        let said = &mut self.no_room_said[reason as usize];
        if let Some(count) = said.happened(self.sessions.cx.now) {
            let shard = self.id.0;
            tracing::warn!(code = "HE-W605", shard, reason = %why, count, "a connection is refused");
        }
    }

    /// Tells a client that there is no place for it, where that can be said and the turn has not
    /// said it too often. The caller closes the connection.
    pub(super) fn refuse(&mut self, speaks: Option<Speaks>, fd: &OwnedFd) {
        self.cells.connections_refused.add(1);
        if let Some(left) = self.arrivals.refusals_left.checked_sub(1)
            && let Some(text) = speaks.and_then(Speaks::refusal)
        {
            self.arrivals.refusals_left = left;
            self.net.ring.kernel().write_last(fd, text);
        }
    }

    /// What clients of a listener speak first.
    pub(super) fn speaks_at(&mut self, token: u32) -> Option<Speaks> {
        let table = &mut self.net.entries.table;
        match table.key_at(token).and_then(|key| table.consumer_mut(key)) {
            Some(Consumer::Listener(listener)) => Some(listener.speaks),
            _ => None,
        }
    }
}

fn is_beginning(entries: &mut Entries, key: EntryKey) -> bool {
    entries.connection_mut(key).is_some_and(|connection| connection.is_beginning())
}

fn is_handshaking(entries: &mut Entries, key: EntryKey) -> bool {
    let tls = entries.connection_mut(key).and_then(RtspConnection::tls_mut);
    tls.is_some_and(|tls| tls.is_handshaking())
}
