//! Liveness of a source: a source without a sign of life for too long is gone.
//!
//! ```text
//!  publisher over UDP    packets, requests
//!  publisher over TCP    packets, requests; its open connection
//!  camera over UDP       packets
//!  camera over TCP       packets; answers, while packets arrive at times
//!  input                 packets
//! ```
//! RFC 2326 s12.37: any request keeps a session alive. FFmpeg as a publisher sends no requests
//! (client rule C11). Over UDP only FFmpeg's packets are a sign of life; over TCP its open
//! connection is one, for TCP finds a dead peer by itself. A camera is cheap to ask again, so only
//! what a camera sends counts. If the path states how long a source may be silent, a connection is
//! no sign of life, and of a camera only packets are. DESIGN section 5.6.

use std::time::Duration;

use crate::base::time::Mono;
use crate::live::core::limits::{ANSWERS_ONLY_MAX, CAMERA_SILENCE, SOURCE_SILENCE};

/// Times of a source's signs of life: see the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Liveness {
    /// Time of the newest RTP or RTCP packet.
    pub(super) packet: Mono,
    /// Time of the newest sign of life: a packet, a message, or a look at an open connection.
    pub(super) sign: Mono,
}

/// How long a source may be silent; `None` is for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Limit without RTP and RTCP.
    pub packets: Option<Duration>,
    /// Limit without any sign of life.
    pub signs: Option<Duration>,
}

/// Origin of a source's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feeder {
    /// A client that sent ANNOUNCE.
    Publisher {
        /// The packets come on the publisher's RTSP connection.
        is_tcp: bool,
    },
    /// A camera that the server fetches by RTSP.
    Camera {
        /// The packets come on the camera's RTSP connection.
        is_tcp: bool,
        /// Packets of the camera have arrived.
        has_sent: bool,
    },
    /// Sockets of the server that receive RTP without RTSP.
    Input,
}

impl Patience {
    /// Limits of a source; `timeout` is the path's own, if any.
    #[must_use]
    pub fn new(feeder: Feeder, timeout: Option<Duration>) -> Self {
        let silence = Some(timeout.unwrap_or(SOURCE_SILENCE));
        let is_said = timeout.is_some();
        match feeder {
            Feeder::Publisher { is_tcp: true } if !is_said => Self { packets: None, signs: None },
            Feeder::Publisher { .. } => Self { packets: None, signs: silence },
            Feeder::Camera { is_tcp: true, has_sent: true } if !is_said => {
                Self { packets: Some(ANSWERS_ONLY_MAX), signs: Some(CAMERA_SILENCE) }
            }
            Feeder::Camera { .. } | Feeder::Input => Self { packets: silence, signs: None },
        }
    }
}

/// State of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceStatus {
    /// The source is alive.
    Alive,
    /// The source is gone.
    Gone {
        /// Time without a packet or sign of life.
        silent: Duration,
    },
}

impl Liveness {
    /// A source that is alive at `now`.
    #[must_use]
    pub fn new(now: Mono) -> Self {
        Self { packet: now, sign: now }
    }

    /// RTP or RTCP arrived.
    pub fn handle_packet(&mut self, now: Mono) {
        self.packet = self.packet.max(now);
        self.handle_sign(now);
    }

    /// A request or an answer arrived.
    pub fn handle_sign(&mut self, now: Mono) {
        self.sign = self.sign.max(now);
    }

    /// State of the source at `now`.
    #[must_use]
    pub fn check(&self, patience: Patience, now: Mono) -> SourceStatus {
        let silent_for = |since: Mono, max: Option<Duration>| {
            Some(now.since(since)).filter(|silent| max.is_some_and(|max| *silent >= max))
        };
        let silent = silent_for(self.packet, patience.packets);
        match silent.or_else(|| silent_for(self.sign, patience.signs)) {
            Some(silent) => SourceStatus::Gone { silent },
            None => SourceStatus::Alive,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Mono {
        Mono(s * 1_000_000_000)
    }

    #[test]
    fn source_is_gone_after_its_silence_and_not_before() {
        let patience = Patience::new(Feeder::Input, None);
        let mut liveness = Liveness::new(at(5));
        assert_eq!(liveness.check(patience, at(6)), SourceStatus::Alive);
        liveness.handle_packet(at(14));
        liveness.handle_packet(at(13));
        assert_eq!(liveness.check(patience, at(23)), SourceStatus::Alive);
        assert_eq!(
            liveness.check(patience, at(24)),
            SourceStatus::Gone { silent: Duration::from_secs(10) }
        );
    }

    /// Seconds until each kind of source is gone: when nothing comes any more, and when only
    /// requests or answers do. 0: never.
    #[test]
    fn each_kind_of_source_has_its_own_signs_of_life() {
        let publisher = |is_tcp| Feeder::Publisher { is_tcp };
        let camera = |is_tcp, has_sent| Feeder::Camera { is_tcp, has_sent };
        for (feeder, timeout_s, silent_s, signs_s) in [
            (publisher(false), None, 10, 0),
            (publisher(false), Some(25), 25, 0),
            (publisher(true), None, 0, 0),
            (publisher(true), Some(25), 25, 0),
            (camera(false, true), None, 10, 10),
            (camera(false, true), Some(25), 25, 25),
            (camera(true, false), None, 10, 10),
            (camera(true, true), None, 30, 120),
            (camera(true, true), Some(25), 25, 25),
            (Feeder::Input, None, 10, 10),
            (Feeder::Input, Some(25), 25, 25),
        ] {
            let patience = Patience::new(feeder, timeout_s.map(Duration::from_secs));
            for (has_signs, expected_s) in [(false, silent_s), (true, signs_s)] {
                let mut liveness = Liveness::new(at(0));
                let is_gone = |s: &u64| {
                    if has_signs {
                        liveness.handle_sign(at(s - 1));
                    }
                    liveness.check(patience, at(*s)) != SourceStatus::Alive
                };
                let gone_s = (1..3_600).find(is_gone).unwrap_or(0);
                assert_eq!(gone_s, expected_s, "{feeder:?} {timeout_s:?} {has_signs}");
            }
        }
    }
}
