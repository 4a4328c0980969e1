//! Who may feed a track: the address and the SSRC that came first, and nobody else.
//!
//! ```text
//!  address   Expected(ip, port) --first packet from ip--> Fixed(ip, its port)
//!  SSRC      Open --first packet--> Fixed(a) --a silent for 2 s, b comes--> Fixed(b), a break
//! ```
//! Publishers behind a NAT send from another port than SETUP says, and rarely from another address
//! than that of their RTSP connection: the latter is not taken. An encoder that is started anew
//! within one session has another SSRC; so has a stranger, who must not take over a running stream.
//!
//! Invariant: while the holder sends, nothing of anyone else is taken. DESIGN section 5.7.

use std::net::{IpAddr, SocketAddr};

use super::limits::SSRC_SILENCE;
use crate::base::ids::Ssrc;
use crate::base::time::Mono;

/// The address that a track's datagrams come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressLatch {
    /// The address of the RTSP connection; the port may be another than announced.
    Expected(IpAddr),
    /// Where the first packet came from.
    Fixed(SocketAddr),
    /// Packets come over a connection, or from a group: whoever can send there may.
    Any,
}

impl AddressLatch {
    /// Whether a datagram is the publisher's; the first one that is fixes the port.
    pub fn admit(&mut self, from: SocketAddr) -> bool {
        match *self {
            Self::Expected(ip) if ip == from.ip() => {
                *self = Self::Fixed(from);
                true
            }
            Self::Expected(_) => false,
            Self::Fixed(fixed) => fixed == from,
            Self::Any => true,
        }
    }

    /// Whether `admit` would say so.
    #[must_use]
    pub fn admits(&self, from: SocketAddr) -> bool {
        let mut copy = *self;
        copy.admit(from)
    }
}

/// What a packet's SSRC means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SsrcVerdict {
    /// The stream goes on.
    Same,
    /// A stream begins: the first one, or one that takes over.
    Begins,
    /// Not the stream that is taken.
    Foreign,
}

/// The SSRC of a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SsrcLatch {
    held: Option<(Ssrc, Mono)>,
}

impl SsrcLatch {
    /// Judges a packet that came at `now`.
    pub fn admit(&mut self, ssrc: Ssrc, now: Mono) -> SsrcVerdict {
        let verdict = match self.held {
            Some((held, _)) if held == ssrc => SsrcVerdict::Same,
            Some((_, heard)) if now.since(heard) < SSRC_SILENCE => return SsrcVerdict::Foreign,
            Some(_) | None => SsrcVerdict::Begins,
        };
        self.held = Some((ssrc, now));
        verdict
    }

    /// The SSRC that is taken.
    #[must_use]
    pub fn ssrc(&self) -> Option<Ssrc> {
        self.held.map(|(ssrc, _)| ssrc)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(host: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, host], port))
    }

    #[test]
    fn first_packet_from_the_publishers_address_fixes_the_port_and_strangers_do_not() {
        let mut latch = AddressLatch::Expected(address(1, 0).ip());
        assert!(!latch.admit(address(2, 5_000)));
        assert!(latch.admits(address(1, 7)) && latch.admit(address(1, 6_000)));
        assert!(latch.admit(address(1, 6_000)));
        assert!(!latch.admits(address(1, 5_000)) && !latch.admit(address(1, 5_000)));
        assert_eq!(latch, AddressLatch::Fixed(address(1, 6_000)));
        assert!(AddressLatch::Any.admit(address(9, 9)));
    }

    #[test]
    fn another_ssrc_takes_over_only_from_one_that_is_silent() {
        let mut latch = SsrcLatch::default();
        let at = |ms: u64| Mono(ms * 1_000_000);
        assert_eq!(latch.admit(Ssrc(1), at(0)), SsrcVerdict::Begins);
        assert_eq!(latch.admit(Ssrc(1), at(1_500)), SsrcVerdict::Same);
        assert_eq!(latch.admit(Ssrc(2), at(3_000)), SsrcVerdict::Foreign);
        assert_eq!(latch.admit(Ssrc(2), at(3_500)), SsrcVerdict::Begins);
        assert_eq!(latch.admit(Ssrc(1), at(3_600)), SsrcVerdict::Foreign);
        assert_eq!(latch.ssrc(), Some(Ssrc(2)));
    }
}
