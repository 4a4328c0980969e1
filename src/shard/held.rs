//! What a shard holds: numbers that are back where they began when every client has left.
//!
//! For tests and the simulation of a node, which look for what is kept for ever.

use super::ring::kernel::Kernel;
use super::state::Shard;
use crate::base::ids::SessionId;
use crate::base::time::Mono;
use crate::poll::poll_table::Polling;

/// What a shard holds at a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// Rows of the PollTable.
    pub entries: usize,
    /// Of these, rows whose polling is off.
    pub suspended: usize,
    /// Connections that are to be flushed.
    pub dirty: usize,
    /// Sessions of all roles.
    pub sessions: usize,
    /// Of these, players of titles.
    pub players: usize,
    /// Readers of live paths, with multicast senders.
    pub readers: usize,
    /// Commands that wait for a live path.
    pub held_commands: usize,
    /// Publishers.
    pub publishers: usize,
    /// Client addresses on the shared sockets.
    pub tuples: usize,
    /// Pairs of shared sockets.
    pub pairs: usize,
    /// Windows that workers were asked for.
    pub windows_asked: usize,
    /// Live paths that the shard listens to.
    pub paths_here: usize,
    /// Live paths that the shard owns.
    pub paths_owned: usize,
    /// Owners of runs in flight.
    pub runs: usize,
    /// Runs that the ring has free.
    pub free_runs: usize,
    /// Stream sends of the ring that have not ended.
    pub stream_sends: usize,
    /// Connections, visits and datagrams that wait for their share of a turn.
    pub arrivals: usize,
    /// Timers that are due and wait for their share of a turn.
    pub waiting_timers: usize,
    /// RTCP packets that found no free send.
    pub unsent: usize,
    /// Moves under way, and sessions that are away.
    pub moves: usize,
    /// Keys in the wheel.
    pub timers: usize,
    /// Another process takes over, or is taken over from: nothing is sent.
    pub is_still: bool,
}

impl<K: Kernel> Shard<K> {
    /// What the shard holds now.
    #[must_use]
    pub fn held(&self) -> Held {
        let sessions = &self.sessions;
        let table = &self.net.entries.table;
        Held {
            entries: table.count(),
            suspended: table.suspended_count(),
            dirty: self.net.entries.dirty.len(),
            sessions: sessions.cx.directory.len(),
            players: sessions.vod.players.count(),
            readers: sessions.live.readers.table.len(),
            held_commands: sessions.live.readers.held.len(),
            publishers: sessions.live.sources.publishers.len(),
            tuples: sessions.cx.sockets.tuple_count(),
            pairs: sessions.cx.sockets.places().len(),
            windows_asked: sessions.vod.windows.asked_count(),
            paths_here: sessions.live.hub.paths.here_count(),
            paths_owned: sessions.live.hub.registry.count(),
            runs: self.net.runs.len(),
            free_runs: self.net.ring.free_run_count(),
            stream_sends: self.net.ring.stream_send_count(),
            arrivals: self.arrivals.len(),
            waiting_timers: self.waiting_timers.len() + self.due.len(),
            unsent: self.unsent.len(),
            moves: self.moves.len(),
            timers: sessions.cx.wheel.count(),
            is_still: self.takeover.is_still(),
        }
    }

    /// The earliest time in the wheel.
    #[must_use]
    pub fn next_timer(&self) -> Option<Mono> {
        self.sessions.cx.wheel.next_due()
    }

    /// The session that comes first in listings.
    #[must_use]
    pub fn some_session(&self) -> Option<SessionId> {
        self.sessions.cx.directory.behind(None).next().map(|(id, _)| id)
    }

    /// Calls `look` for each entry that is suspended: its row, and whether it waits for an answer.
    pub fn look_at_suspended(&mut self, mut look: impl FnMut(u32, bool)) {
        let keys: Vec<_> = self.net.entries.table.keys().collect();
        for key in keys {
            if self.net.entries.table.polling(key) == Some(Polling::Suspended) {
                let connection = self.net.entries.connection_mut(key);
                look(key.index, connection.is_some_and(|connection| connection.is_waiting()));
            }
        }
    }
}
