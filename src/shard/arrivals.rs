//! Connections, requests and datagrams that wait for their share of a turn.
//!
//! ```text
//!            +--> accepted  --CONNECTIONS_A_TURN--> new connections; too many of one address: 503
//! reap ------+--> visits    --VISITS_A_TURN, TURN_SHARE--> a few messages of one connection each
//!            |      ^  `--requests left: behind all others--'
//!            `--> datagrams --DATAGRAMS_A_TURN, at once as long as there is room--> consumers
//! ```
//! Completions are taken from the ring as they come, because results of sends are among them.
//! Arrivals that cost work wait here. So a crowd, or clients that pipeline without end, cannot keep
//! the pumps of a turn from running.
//!
//! A connection that its address has no place for is refused as it comes, so what waits here is
//! never one address' alone: a flood of one keeps nobody waiting for longer than its share takes.
//! A turn tells a few of a flood so (`REFUSALS_A_TURN`); the others are closed, which costs less
//! than the kernel has spent on accepting them.
//!
//! Invariants: a connection is in `visits` at most once (the ring receives from it again only when
//! its requests are handled), so it is visited after every other connection; the order of datagrams
//! is kept.
//! Bounds: rows of the PollTable; `DATAGRAMS_WAITING_MAX`, and a datagram beyond that is
//! dropped and counted, as a full socket buffer would drop it. What another process had in the same
//! places comes on top.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use super::places::NoRoom;
use super::ring::kernel::Kernel;
use super::ring::{Completion, Received};
use super::state::Shard;
use crate::base::addresses::AddressPlace;
use crate::base::budget::Budget;
use crate::base::limits::{
    CONNECTIONS_A_TURN, DATAGRAMS_A_TURN, DATAGRAMS_WAITING_MAX, REFUSALS_A_TURN, TURN_SHARE,
    VISITS_A_TURN,
};
use crate::consumers::canonical;
use crate::metrics::descriptors::is_kept;
use crate::poll::consumer::Event;
use crate::poll::poll_table::{EntryKey, Polling};

/// Arrivals that wait for their share of a turn.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    accepted: VecDeque<(u32, Arrived)>,
    visits: VecDeque<Visit>,
    datagrams: VecDeque<Datagram>,
    /// Datagrams that may still be handled in this turn.
    datagrams_left: usize,
    /// Clients that may still be told in this turn that there is no place for them.
    pub(super) refusals_left: u32,
}

/// A connection that waits to be opened.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) fd: OwnedFd,
    pub(super) peer: SocketAddr,
    /// Among the connections of its address.
    pub(super) place: AddressPlace,
}

/// Why a connection is visited.
#[derive(Debug)]
enum Visit {
    /// Bytes were received, or the connection has ended.
    Received(EntryKey, io::Result<Received>),
    /// Messages that are read already wait to be handled.
    Messages(EntryKey),
}

#[derive(Debug)]
struct Datagram {
    token: u32,
    from: SocketAddr,
    bytes: Received,
}

impl Arrivals {
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn len(&self) -> usize {
        self.accepted.len() + self.visits.len() + self.datagrams.len()
    }

    /// Whether a connection, or bytes of one that `is_it`, wait to be handled.
    pub(super) fn has_connections(&self, is_it: impl Fn(EntryKey) -> bool) -> bool {
        let is_received = |visit: &Visit| matches!(visit, Visit::Received(key, _) if is_it(*key));
        !self.accepted.is_empty() || self.visits.iter().any(is_received)
    }

    /// Whether datagrams wait to be handled.
    pub(super) fn has_datagrams(&self) -> bool {
        !self.datagrams.is_empty()
    }

    /// Takes out the datagrams that wait: row, sender, bytes.
    pub(super) fn take_datagrams(&mut self) -> Vec<(u32, SocketAddr, Vec<u8>)> {
        let datagrams = self.datagrams.drain(..);
        datagrams.map(|one| (one.token, one.from, one.bytes.to_vec())).collect()
    }

    /// Datagrams wait from now on.
    pub(super) fn hold_datagrams(&mut self) {
        self.datagrams_left = 0;
    }

    /// Whether bytes of a connection wait to be handled.
    pub(super) fn has_received(&self, key: EntryKey) -> bool {
        self.visits.iter().any(|visit| matches!(visit, Visit::Received(of, _) if *of == key))
    }
}

impl<K: Kernel> Shard<K> {
    /// Has bytes of a connection visited that came to another process.
    pub(super) fn queue_received(&mut self, key: EntryKey, bytes: &[u8]) {
        let bytes = self.net.ring.copy_of(bytes);
        self.arrivals.visits.push_back(Visit::Received(key, Ok(bytes)));
    }

    /// Has datagrams handled that came before all others: row of the socket, sender, bytes.
    pub(super) fn queue_datagrams(&mut self, datagrams: Vec<(EntryKey, SocketAddr, Vec<u8>)>) {
        for (key, from, bytes) in datagrams {
            let bytes = self.net.ring.copy_of(&bytes);
            self.arrivals.datagrams.push_back(Datagram { token: key.index, from, bytes });
        }
    }

    /// Handles the datagrams that found no room in the turn before; they come first.
    pub(super) fn take_waiting_datagrams(&mut self) {
        self.arrivals.datagrams_left = DATAGRAMS_A_TURN;
        self.arrivals.refusals_left = REFUSALS_A_TURN;
        while self.arrivals.datagrams_left > 0
            && let Some(datagram) = self.arrivals.datagrams.pop_front()
        {
            self.take_datagram(datagram);
        }
    }

    fn take_datagram(&mut self, Datagram { token, from, bytes }: Datagram) {
        self.arrivals.datagrams_left -= 1;
        let Some(key) = self.net.entries.table.key_at(token) else { return };
        self.dispatch(key, Event::Datagram { from: canonical(from), bytes: &bytes });
    }

    /// Handles the result of a send at once; an arrival waits for its share of the turn.
    pub(super) fn handle_completion(&mut self, completion: Completion) {
        match completion {
            Completion::Accepted { token, result } => self.hold_accepted(token, result),
            Completion::Received { token, result } => {
                let Some(key) = self.net.entries.table.key_at(token) else { return };
                self.arrivals.visits.push_back(Visit::Received(key, result));
            }
            Completion::Datagram { token, from, bytes } => {
                let datagram = Datagram { token, from, bytes };
                if self.arrivals.datagrams_left > 0 {
                    self.take_datagram(datagram);
                } else if self.arrivals.datagrams.len() < DATAGRAMS_WAITING_MAX {
                    self.arrivals.datagrams.push_back(datagram);
                } else {
                    self.cells.datagrams_dropped.add(1);
                }
            }
            Completion::Connected { token, result } => self.handle_connected(token, result),
            // The inbox is read in every turn.
            Completion::Woken { .. } => {}
            Completion::RunSent { token, packets, result } => {
                self.net.handle_run_sent(&mut self.sessions, token, packets, result);
            }
            Completion::StreamSent { token, result } => self.handle_stream_sent(token, result),
            Completion::StreamCut { token, rest } => self.handle_stream_cut(token, rest),
        }
    }

    fn hold_accepted(&mut self, token: u32, result: io::Result<OwnedFd>) {
        let fd = match result {
            Ok(fd) => fd,
            Err(error) => return self.note_not_accepted(&error),
        };
        // A client that has closed its connection already has no address.
        let Ok(peer) = self.net.ring.kernel().peer_addr(&fd) else { return };
        let Some(place) = self.admit_connection(token, &fd, peer) else { return };
        if is_kept(&fd) {
            let speaks = self.speaks_at(token);
            return self.refuse_for(NoRoom::Descriptors, &NO_DESCRIPTORS, speaks, &fd);
        }
        let rows = self.net.entries.table.count() + self.arrivals.accepted.len();
        if rows >= self.net.entries.table.entries_max() {
            // Connections that wait before this one take the last rows: see `open_connection`.
            let speaks = self.speaks_at(token);
            return self.refuse_for(NoRoom::Rows, &NO_ROWS, speaks, &fd);
        }
        self.arrivals.accepted.push_back((token, Arrived { fd, peer, place }));
    }

    /// Has a connection visited after all that wait: messages that are read already are left.
    pub(super) fn visit_later(&mut self, key: EntryKey) {
        if self.net.entries.is_silenced(key) {
            return;
        }
        if let Some(link) = self.net.entries.link_mut(key)
            && !std::mem::replace(&mut link.is_awaiting_visit, true)
        {
            self.arrivals.visits.push_back(Visit::Messages(key));
        }
    }

    /// Opens connections and handles requests within their shares of the turn.
    pub(super) fn serve_arrivals(&mut self) {
        let mut budget = Budget::new(CONNECTIONS_A_TURN, TURN_SHARE);
        while budget.has_room(|| self.net.ring.kernel().now())
            && let Some((token, arrived)) = self.arrivals.accepted.pop_front()
        {
            budget.spend();
            self.handle_accepted(token, arrived);
        }
        let mut budget = Budget::new(VISITS_A_TURN, TURN_SHARE);
        while budget.has_room(|| self.net.ring.kernel().now())
            && let Some(visit) = self.arrivals.visits.pop_front()
        {
            budget.spend();
            self.visit(visit);
        }
    }

    fn visit(&mut self, visit: Visit) {
        match visit {
            Visit::Received(key, Ok(bytes)) => self.dispatch(key, Event::Received(&bytes)),
            Visit::Received(key, Err(error)) => self.handle_connection_failed(key, &error),
            Visit::Messages(key) => {
                if let Some(link) = self.net.entries.link_mut(key) {
                    link.is_awaiting_visit = false;
                    if link.is_frozen {
                        // They are handled where the connection is going.
                        return;
                    }
                }
                if self.net.entries.is_silenced(key) {
                    return;
                }
                // A connection that has become busy meanwhile goes on when it is free again.
                if self.net.entries.table.polling(key) == Some(Polling::Suspended)
                    && let Some(connection) = self.net.entries.connection_mut(key)
                    && !connection.is_waiting()
                    && !connection.is_congested()
                {
                    self.dispatch(key, Event::Writable);
                }
            }
        }
    }
}

const NO_DESCRIPTORS: &str = "descriptors are running out";
const NO_ROWS: &str = "the PollTable is full";
