//! How a shard stops: its sessions end first, then its connections.
//!
//! ```text
//!  Serving --Stop--> Ending --no session is left--> Draining --no connection is left--> stopped
//!                      `------------- DRAIN_MAX after Stop -------------'
//! ```
//! Sessions are ended with BYE, as many a turn as the ring has sends for. Connections are closed
//! when their answers are sent. Bounds: `STREAMS_ENDED_A_TURN`; `DRAIN_MAX` for all of it.

use std::time::Duration;

use super::build::Shard;
use crate::base::time::Mono;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Serving,
    /// Sessions are being ended.
    Ending {
        since: Mono,
    },
    /// Every session has ended, connections have not.
    Draining {
        since: Mono,
    },
}

impl Phase {
    pub(super) fn is_stopping(self) -> bool {
        match self {
            Self::Serving => false,
            Self::Ending { .. } | Self::Draining { .. } => true,
        }
    }

    /// The phase after a request to stop; a second request changes nothing.
    pub(super) fn stopped(self, now: Mono) -> Self {
        match self {
            Self::Serving => Self::Ending { since: now },
            Self::Ending { .. } | Self::Draining { .. } => self,
        }
    }
}

impl Shard {
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
        for key in self.entries.table.keys().collect::<Vec<_>>() {
            self.entries.close_when_sent(key);
            self.entries.mark_dirty(key);
        }
    }

    /// The shard is stopped: everything is sent, or the time for it is over.
    pub(super) fn is_drained(&self) -> bool {
        let is_late = |since| self.sessions.cx.now.since(since) >= DRAIN_MAX;
        match self.phase {
            Phase::Serving => false,
            Phase::Ending { since } => is_late(since),
            Phase::Draining { since } => is_late(since) || !self.entries.has_connections(),
        }
    }
}

/// Time for clients to take what is theirs.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// Each takes a send of the ring, whose number is bounded: see `RingConfig::run_slots`.
const STREAMS_ENDED_A_TURN: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_request_to_stop_counts_and_later_ones_change_nothing() {
        let (first, later) = (Mono(1), Mono(2));
        let ending = Phase::Serving.stopped(first);
        assert_eq!(ending, Phase::Ending { since: first });
        assert_eq!(ending.stopped(later), ending);
        let draining = Phase::Draining { since: first };
        assert_eq!(draining.stopped(later), draining);
        let phases = [Phase::Serving, ending, draining];
        assert_eq!(phases.map(Phase::is_stopping), [false, true, true]);
    }
}
