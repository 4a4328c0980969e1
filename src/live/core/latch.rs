//! Fixes the address that feeds a track: the first admitted address, and no other.
//!
//! ```text
//!  address   Expected(host) --first packet from host--> Fixed(host, its port)
//! ```
//! Publishers behind a NAT send from another port than SETUP states. They rarely send from another
//! address than that of their RTSP connection, and such an address is refused. `ssrc_latch` selects
//! the RTP stream of the address. DESIGN section 5.7.

use std::net::SocketAddr;

use crate::base::host::Host;

/// The address that a track's datagrams are from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressLatch {
    /// Address of the RTSP connection; the port may differ from the announced one.
    Expected(Host),
    /// Address and port of the first packet.
    Fixed(SocketAddr),
    /// Packets arrive over a connection, or from a group: every sender there may feed the track.
    Any,
}

impl AddressLatch {
    /// Whether a datagram is the publisher's; the first admitted datagram fixes the port.
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

    /// Whether `admit` would admit the address.
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
