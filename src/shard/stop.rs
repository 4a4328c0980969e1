//! How a shard stops: its sessions end first, then its connections.
//!
//! ```text
//!  Serving --Stop--> Ending --no session is left--> Draining --no connection is left--> stopped
//!                      `------------- DRAIN_MAX after Stop -------------'
//! ```
//! Sessions are ended with BYE, as many a turn as the ring has sends for. Connections are closed
//! when their answers are sent. A session that is on its way from a shard that has not stopped yet
//! ends when it has come. Bounds: `STREAMS_ENDED_A_TURN`; `DRAIN_MAX` for all of it.

use std::time::Duration;

use super::phase::Phase;
use super::ring::kernel::Kernel;
use super::state::Shard;

impl<K: Kernel> Shard<K> {
    /// Ends sessions while there are some to end, then closes connections.
    pub(super) fn end_sessions(&mut self) {
        let Phase::Ending { since } = self.phase else { return };
        let mut streams = 0;
        for key in self.sessions.vod.players.some_keys(STREAMS_ENDED_A_TURN) {
            if streams >= STREAMS_ENDED_A_TURN {
                break;
            }
            streams += self.sessions.vod.players.session(key).map_or(1, |s| s.streams.len().max(1));
            self.sessions.vod.players.fail(&mut self.sessions.cx, key, Some("server stops"));
        }
        let room = STREAMS_ENDED_A_TURN.saturating_sub(streams);
        streams +=
            self.sessions.live.end_live_sessions(&mut self.sessions.cx, room, "server stops");
        if streams == 0 {
            self.phase = Phase::Draining { since };
        }
        self.settle();
        if streams > 0 {
            return;
        }
        for key in self.net.entries.table.keys().collect::<Vec<_>>() {
            self.net.entries.close_when_sent(key);
            self.net.entries.mark_dirty(key);
        }
    }

    /// The shard is stopped: everything is sent, or the time for it is over.
    pub(super) fn is_drained(&self) -> bool {
        let now = self.sessions.cx.now;
        let is_late = |since| now.since(since) >= DRAIN_MAX;
        let waits = || self.net.entries.has_connections() || self.moves.holds_up_the_end(now);
        match self.phase {
            Phase::Serving => false,
            Phase::Ending { since } => is_late(since),
            Phase::Draining { since } => is_late(since) || !waits(),
        }
    }
}

/// Time for clients to take what is theirs.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// Each takes a send of the ring, whose number is bounded: see `RingConfig::run_slots`.
const STREAMS_ENDED_A_TURN: usize = 256;
