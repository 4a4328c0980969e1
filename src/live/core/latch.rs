//! Who may feed a track: the address that came first, and nobody else.
//!
//! ```text
//!  address   Expected(host) --first packet from host--> Fixed(host, its port)
//! ```
//! Publishers behind a NAT send from another port than SETUP says, and rarely from another address
//! than that of their RTSP connection: the latter is not taken. See `ssrc_latch` for which RTP
//! stream of that address is taken. DESIGN section 5.7.

use std::net::SocketAddr;

use crate::base::host::Host;

/// The address that a track's datagrams come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressLatch {
    /// The address of the RTSP connection; the port may be another than announced.
    Expected(Host),
    /// Where the first packet came from.
    Fixed(SocketAddr),
    /// Packets come over a connection, or from a group: whoever can send there may.
    Any,
}

impl AddressLatch {
    /// Whether a datagram is the publisher's; the first one that is fixes the port.
    pub fn admit(&mut self, from: SocketAddr) -> bool {
        match *self {
            Self::Expected(host) if host == Host::of(from) => {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn address(host: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, host], port))
    }

    #[test]
    fn first_packet_from_the_publishers_address_fixes_the_port_and_strangers_do_not() {
        let mut latch = AddressLatch::Expected(Host::of(address(1, 0)));
        assert!(!latch.admit(address(2, 5_000)));
        assert!(latch.admits(address(1, 7)) && latch.admit(address(1, 6_000)));
        assert!(latch.admit(address(1, 6_000)));
        assert!(!latch.admits(address(1, 5_000)) && !latch.admit(address(1, 5_000)));
        assert_eq!(latch, AddressLatch::Fixed(address(1, 6_000)));
        assert!(AddressLatch::Any.admit(address(9, 9)));
    }
    #[test]
    fn same_link_local_address_on_another_link_is_a_stranger() {
        let on = |link: u32| Host::new("fe80::7".parse().unwrap(), link);
        let mut latch = AddressLatch::Expected(on(3));
        assert!(!latch.admit(on(4).at(5_000)) && latch.admit(on(3).at(6_000)));
        assert!(!latch.admit(on(4).at(6_000)) && latch.admit(on(3).at(6_000)));
    }
}
