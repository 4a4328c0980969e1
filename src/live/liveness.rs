//! Whether a source still lives: something comes from it, or it is gone.
//!
//! Over UDP only packets say so: FFmpeg as a publisher sends no RTSP keepalives (client rule C11).
//! Over TCP the connection does, and packets all the same: one that is open and silent feeds
//! nobody. DESIGN section 5.6.

use std::time::Duration;

use super::limits::SOURCE_SILENCE;
use crate::base::time::Mono;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Liveness {
    heard: Mono,
    silence_max: Duration,
}

/// What to do about a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pulse {
    /// It lives; look again then.
    Alive {
        /// When.
        until: Mono,
    },
    /// It is gone.
    Gone {
        /// For how long nothing came.
        silent: Duration,
    },
}

impl Liveness {
    /// A source that has just come.
    #[must_use]
    pub fn new(now: Mono) -> Self {
        Self { heard: now, silence_max: SOURCE_SILENCE }
    }

    /// RTP or RTCP came.
    pub fn handle_packet(&mut self, now: Mono) {
        self.heard = self.heard.max(now);
    }

    /// How it is at `now`.
    #[must_use]
    pub fn check(&self, now: Mono) -> Pulse {
        let silent = now.since(self.heard);
        if silent >= self.silence_max {
            Pulse::Gone { silent }
        } else {
            Pulse::Alive { until: self.heard + self.silence_max }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_is_gone_after_its_silence_and_looked_at_no_later() {
        let at = |s: u64| Mono(s * 1_000_000_000);
        let mut liveness = Liveness::new(at(5));
        assert_eq!(liveness.check(at(6)), Pulse::Alive { until: at(15) });
        liveness.handle_packet(at(14));
        liveness.handle_packet(at(13));
        assert_eq!(liveness.check(at(15)), Pulse::Alive { until: at(24) });
        assert_eq!(liveness.check(at(24)), Pulse::Gone { silent: Duration::from_secs(10) });
    }
}
