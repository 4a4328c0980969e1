//! State of a player for operators: three words, the same for titles and for live paths, in the API
//! and as labels of the sessions gauge.
//!
//! ```text
//!  vod: State         Ready  Priming Playing  Paused Ended
//!  live: ReaderState  Ready  Priming Playing  Paused
//!                     ready  playing          paused
//! ```
//! Invariant: a player is counted in one cell of the gauge from its entry until its end, in the
//! cell of its shown state. Publishers are not counted in the gauge; the API has other words for
//! them.

use crate::metrics::cells::SESSION_STATES;
use crate::session::cx::Cx;

/// State of a player in API and metrics. The numbers are indices into `SESSION_STATES` and
/// `ShardCells::sessions`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShownState {
    /// Set up, nothing played yet.
    Ready = 0,
    /// Packets are sent, or the first ones are awaited.
    Playing = 1,
    /// Paused, or played to the end.
    Paused = 2,
}

impl ShownState {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        SESSION_STATES[self as usize]
    }
}

impl Cx {
    /// A player has come.
    pub(crate) fn count_player(&self, state: ShownState) {
        self.cells.sessions[state as usize].add(1);
    }

    /// A player has gone.
    pub(crate) fn uncount_player(&self, state: ShownState) {
        self.cells.sessions[state as usize].sub(1);
    }

    /// A player has changed its state.
    pub(crate) fn recount_player(&self, before: ShownState, after: ShownState) {
        self.uncount_player(before);
        self.count_player(after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_states_are_the_labels_of_the_gauge() {
        let states = [ShownState::Ready, ShownState::Playing, ShownState::Paused];
        assert_eq!(states.map(ShownState::as_str), ["ready", "playing", "paused"]);
    }
}
