//! The phase of a shard's life: it serves, or it stops.
//!
//! ```text
//!  Serving --Stop--> Ending --no session is left--> Draining --no connection is left--> stopped
//! ```
//! `stop` has the work of each phase. Invariant: a phase never goes back.

use crate::base::time::Mono;

/// Where a shard stands between its start and its end.
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
