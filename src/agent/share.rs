//! Viewers first: while sessions play, transfers have a share of what the node can send and
//! receive.
//!
//! ```text
//! each second: bytes -> best second so far; sessions that play -> caps of both directions
//! ```
//! Invariant: without viewers the caps are those of the command line, by time of day. A direction
//! whose rate is neither set nor measured has no cap.

/// One direction of a node's traffic.
#[derive(Debug)]
pub(super) struct Direction {
    cap: Option<u64>,
    /// Bytes of the best second so far.
    best: u64,
    /// Bytes so far.
    bytes: u64,
}

impl Direction {
    pub(super) fn new(cap: Option<u64>) -> Self {
        Self { cap, best: 0, bytes: 0 }
    }

    /// Another cap counts from now on. False when it is the same.
    pub(super) fn set_cap(&mut self, cap: Option<u64>) -> bool {
        std::mem::replace(&mut self.cap, cap) != cap
    }

    /// Bytes per second of the best second.
    pub(super) fn best(&self) -> u64 {
        self.best
    }

    /// A second has passed, in which the count of all bytes became `bytes`.
    pub(super) fn count(&mut self, bytes: u64) {
        self.best = self.best.max(bytes.saturating_sub(self.bytes));
        self.bytes = bytes;
    }

    /// Bytes per second that transfers have; `None`: any number.
    pub(super) fn share(&self, viewers: u64) -> Option<u64> {
        if viewers == 0 {
            return self.cap;
        }
        let known = self.cap.or_else(|| Some(self.best).filter(|best| *best > 0));
        known.map(|rate| rate * TRANSFERS_PERCENT / 100)
    }
}

/// What transfers have while sessions play.
const TRANSFERS_PERCENT: u64 = 50;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn viewers_leave_transfers_half_of_what_is_set_or_was_measured() {
        let mut direction = Direction::new(None);
        assert_eq!((direction.share(0), direction.share(1)), (None, None));
        direction.count(1_000);
        direction.count(1_600);
        assert_eq!(direction.best(), 1_000);
        assert_eq!((direction.share(0), direction.share(7)), (None, Some(500)));
        let mut direction = Direction::new(Some(800));
        direction.count(5_000);
        assert_eq!((direction.share(0), direction.share(1)), (Some(800), Some(400)));
    }
}
