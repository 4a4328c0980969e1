//! Addresses that count as one, because one party has them all.
//!
//! ```text
//!  192.0.2.7, ::ffff:192.0.2.7, 64:ff9b::192.0.2.7 -> V4 192.0.2.7            no site
//!  2001:db8:a:b::5                                 -> Network 2001:db8:a:b::  site 2001:db8:a::
//! ```
//! A host chooses among 2^64 addresses of its IPv6 network. So a /64 counts as one address. A home
//! or an office gets up to 65,536 such networks (RFC 6177). So a /48 counts as one site. A
//! translator from IPv4 puts the address of each of its clients into one /96 (RFC 6052 s2.1). So
//! the IPv4 address counts. Link-local addresses and those of RFC 4193 belong to no site: they are
//! in the operator's own networks, and one /48 may have all of these.

use std::net::{IpAddr, Ipv4Addr};

/// A party, by its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Prefix {
    /// An IPv4 address.
    V4(u32),
    /// An IPv6 /64: the first eight bytes.
    Network(u64),
    /// An IPv6 /48: the first six bytes.
    Site(u64),
}

impl Prefix {
    /// What counts as one address.
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        match of_client(ip) {
            IpAddr::V4(ip) => Self::V4(ip.to_bits()),
            IpAddr::V6(ip) => Self::Network(high_bits(ip.to_bits(), 64)),
        }
    }

    /// The site of an IPv6 address of the Internet.
    #[must_use]
    pub fn site_of(ip: IpAddr) -> Option<Self> {
        match of_client(ip) {
            IpAddr::V6(ip)
                if !ip.is_loopback() && !ip.is_unique_local() && !ip.is_unicast_link_local() =>
            {
                Some(Self::Site(high_bits(ip.to_bits(), 48)))
            }
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        }
    }
}

/// The IPv4 address that an IPv6 address stands for, or the address itself.
fn of_client(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) if v6.to_bits() >> 32 == TRANSLATED => {
            let [.., a, b, c, d] = v6.octets();
            Ipv4Addr::new(a, b, c, d).into()
        }
        other => other,
    }
}

fn high_bits(bits: u128, count: u32) -> u64 {
    u64::try_from(bits >> (128 - count)).unwrap_or(u64::MAX)
}

/// `64:ff9b::/96`, the prefix of translators between IPv4 and IPv6 (RFC 6052 s2.1).
const TRANSLATED: u128 = 0x0064_ff9b << 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_network_and_of_one_site_count_as_one() {
        let of = |text: &str| Prefix::of(text.parse().unwrap());
        let site = |text: &str| Prefix::site_of(text.parse().unwrap());
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("2001:db8:0:1::1"), of("2001:db8:0:1:ffff::2"));
        assert_ne!(of("2001:db8:0:1::1"), of("2001:db8:0:2::1"));
        assert_eq!(site("2001:db8:0:1::1"), site("2001:db8:0:ffff::1"));
        assert_ne!(site("2001:db8:0:1::1"), site("2001:db8:1:1::1"));
        assert_eq!(of("64:ff9b::192.0.2.1"), of("192.0.2.1"), "behind a translator");
        assert_ne!(of("64:ff9b::192.0.2.1"), of("64:ff9b::192.0.2.2"));
        assert_ne!(of("64:ff9b:1::192.0.2.1"), of("192.0.2.1"), "another prefix");
        for none in
            ["64:ff9b::192.0.2.1", "192.0.2.1", "::ffff:192.0.2.1", "::1", "fe80::1", "fd00:1:2::1"]
        {
            assert_eq!(site(none), None, "{none}");
        }
    }
}
