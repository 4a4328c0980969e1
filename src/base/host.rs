//! The address of a host, with the interface that it is reached by where the address needs one.
//!
//! ```text
//! 192.0.2.7                       the same on every interface
//! 2001:db8::7                     the same on every interface
//! fe80::7 of interface 3          another host than fe80::7 of interface 4 (RFC 4007 s6)
//! ```
//! Addresses without their interface are compared and sent to wrongly, so whoever keeps the host of
//! a socket address, to put another port to it or to know it again, keeps a [`Host`].
//!
//! Invariant: two hosts are equal if and only if packets to them go the same way.

use std::fmt;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

/// An IP address, with its interface if it is link-local.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Host {
    ip: IpAddr,
    /// Index of the interface; 0 for none, and for every address that needs none.
    scope_id: u32,
}

impl Host {
    /// An address by an interface, whose index is not kept where the address needs none. A v4
    /// address that is mapped into v6 is taken as v4.
    #[must_use]
    pub fn new(ip: IpAddr, scope_id: u32) -> Self {
        let ip = ip.to_canonical();
        Self { ip, scope_id: if needs_interface(ip) { scope_id } else { 0 } }
    }

    /// Whose socket address it is.
    #[must_use]
    pub fn of(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(v4) => Self::new((*v4.ip()).into(), 0),
            SocketAddr::V6(v6) => Self::new((*v6.ip()).into(), v6.scope_id()),
        }
    }

    /// Another address that the same host has or has told us: a link-local one is one of the same
    /// link (RFC 4007 s9).
    #[must_use]
    pub fn with_ip(self, ip: IpAddr) -> Self {
        Self::new(ip, self.scope_id)
    }

    /// Its socket address with a port.
    #[must_use]
    pub fn at(self, port: u16) -> SocketAddr {
        match self.ip {
            IpAddr::V4(ip) => SocketAddr::new(ip.into(), port),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, self.scope_id).into(),
        }
    }

    /// Its address alone.
    #[must_use]
    pub fn ip(self) -> IpAddr {
        self.ip
    }

    /// Index of the interface, where there is one.
    #[must_use]
    pub fn scope_id(self) -> Option<u32> {
        Some(self.scope_id).filter(|index| *index != 0)
    }

    /// It cannot be reached, because its interface is not known.
    #[must_use]
    pub fn lacks_interface(self) -> bool {
        self.scope_id == 0 && needs_interface(self.ip)
    }
}

impl From<IpAddr> for Host {
    /// Without an interface.
    fn from(ip: IpAddr) -> Self {
        Self::new(ip, 0)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scope_id() {
            Some(index) => write!(f, "{}%{index}", self.ip),
            None => write!(f, "{}", self.ip),
        }
    }
}

/// Whether an address means another host on each interface: unicast fe80::/10, and groups of an
/// interface or a link (RFC 4291 s2.5.6, s2.7).
#[must_use]
pub fn needs_interface(ip: IpAddr) -> bool {
    let IpAddr::V6(v6) = ip else { return false };
    let scope = v6.octets()[1] & 0x0f;
    v6.is_unicast_link_local() || (v6.is_multicast() && matches!(scope, 1 | 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_is_kept_where_the_address_needs_it() {
        for (address, host, at_9) in [
            ("192.0.2.7:1", "192.0.2.7", "192.0.2.7:9"),
            ("[::ffff:192.0.2.7]:1", "192.0.2.7", "192.0.2.7:9"),
            ("[2001:db8::7%3]:1", "2001:db8::7", "[2001:db8::7]:9"),
            ("[fe80::7%3]:1", "fe80::7%3", "[fe80::7%3]:9"),
            ("[fe80::7]:1", "fe80::7", "[fe80::7]:9"),
            ("[ff02::7%3]:1", "ff02::7%3", "[ff02::7%3]:9"),
            ("[ff15::7%3]:1", "ff15::7", "[ff15::7]:9"),
        ] {
            let found = Host::of(address.parse().unwrap());
            assert_eq!((found.to_string(), found.at(9).to_string()), (host.into(), at_9.into()));
            assert_eq!(Host::of(found.at(1)), found);
        }
    }

    #[test]
    fn same_link_local_address_on_two_links_is_two_hosts() {
        let host = |text: &str| Host::of(text.parse().unwrap());
        assert_ne!(host("[fe80::7%3]:1"), host("[fe80::7%4]:1"));
        assert_eq!(host("[fe80::7%3]:1"), host("[fe80::7%3]:2"));
        assert!(host("[fe80::7]:1").lacks_interface() && !host("[fe80::7%3]:1").lacks_interface());
        assert!(!host("[2001:db8::7]:1").lacks_interface());
        let other = host("[fe80::7%3]:1").with_ip("fe80::8".parse().unwrap());
        assert_eq!(other, host("[fe80::8%3]:1"));
        assert_eq!(other.with_ip("192.0.2.7".parse().unwrap()), host("192.0.2.7:1"));
    }
}
