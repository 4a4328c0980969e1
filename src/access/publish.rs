//! Who may publish to a path: its section of the configuration lists networks.
//!
//! Invariant: who is on no list may not. Bound: the list's, see `config::publish`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::config::publish::{PublishList, Publishers};

/// Whether the list has a client with this address.
#[must_use]
pub fn allows(list: &PublishList, peer: IpAddr) -> bool {
    // Clients with an IPv4 address are known by it, however they came.
    let peer = peer.to_canonical();
    list.entries().any(|publishers| match publishers {
        Publishers::Loopback => peer.is_loopback(),
        Publishers::Private => PRIVATE.iter().any(|network| network.contains(&peer)),
        Publishers::Any => true,
        Publishers::Network(network) => network.contains(&peer),
    })
}

/// RFC 1918, RFC 3927, RFC 4193, RFC 4291 s2.5.6, and this host.
const PRIVATE: [IpNet; 8] = [
    v4([10, 0, 0, 0], 8),
    v4([172, 16, 0, 0], 12),
    v4([192, 168, 0, 0], 16),
    v4([169, 254, 0, 0], 16),
    v4([127, 0, 0, 0], 8),
    v6(0xfc00, 0, 7),
    v6(0xfe80, 0, 10),
    v6(0, 1, 128),
];

const fn v4([a, b, c, d]: [u8; 4], prefix: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix))
}

const fn v6(first: u16, last: u16, prefix: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, last), prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(texts: &[&str]) -> PublishList {
        PublishList::parse(texts).unwrap()
    }

    fn allows(list: &PublishList, peer: &str) -> bool {
        super::allows(list, peer.parse().unwrap())
    }

    #[test]
    fn only_this_host_may_publish_unless_something_else_is_said() {
        let list = PublishList::default();
        for (peer, is_allowed) in [
            ("127.0.0.1", true),
            ("127.1.2.3", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("10.0.0.1", false),
            ("::ffff:10.0.0.1", false),
            ("::", false),
        ] {
            assert_eq!(allows(&list, peer), is_allowed, "{peer}");
        }
    }

    #[test]
    fn networks_words_and_nobody_mean_what_they_say() {
        let nets = list(&["10.0.0.0/8", "2001:db8::/32", "192.0.2.7"]);
        for peer in ["10.255.0.1", "::ffff:10.1.2.3", "2001:db8::5", "192.0.2.7"] {
            assert!(allows(&nets, peer), "{peer}");
        }
        for peer in ["11.0.0.1", "2001:db9::5", "192.0.2.8", "127.0.0.1"] {
            assert!(!allows(&nets, peer), "{peer}");
        }
        let private = list(&["private"]);
        for peer in ["10.0.0.1", "172.31.0.1", "192.168.9.9", "fd00::1", "fe80::1", "::1"] {
            assert!(allows(&private, peer), "{peer}");
        }
        assert!(!allows(&private, "8.8.8.8") && !allows(&private, "172.32.0.1"));
        assert!(allows(&list(&["any"]), "8.8.8.8") && !allows(&list(&[]), "127.0.0.1"));
    }
}
