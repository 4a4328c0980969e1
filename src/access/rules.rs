//! What a client may do with a path by its address alone, and how it may show who it is otherwise.
//!
//! ```text
//! entries of the path's list, address --> Open    somebody from there need not say who he is
//!                                     --> Closed  nobody from there may, whoever he is: 403
//!                                     --> Login   users, tokens, webhook: what may be tried
//! ```
//! Invariant: an entry counts only for clients that come from its network. Clients with an IPv4
//! address are known by it, however they came.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::config::access_list::{Entry, Place, Who};

/// What the address of a client says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Open,
    /// It may not, whoever it is.
    Closed,
    /// It may if it is one of these.
    Login(Ways),
}

/// How a client may show that it may. One at least is possible.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ways {
    /// As a user.
    pub users: UserSet,
    /// By a token.
    pub jwt: bool,
    /// By what the webhook says.
    pub webhook: bool,
}

/// Users of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum UserSet {
    /// None of them.
    #[default]
    Nobody,
    /// Some.
    Some(Vec<Arc<str>>),
    /// All.
    All,
}

impl UserSet {
    /// Whether it has this user.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::Nobody => false,
            Self::Some(names) => names.iter().any(|known| &**known == name),
            Self::All => true,
        }
    }

    fn add(&mut self, name: &Arc<str>) {
        match self {
            Self::All => {}
            Self::Some(names) => names.push(Arc::clone(name)),
            Self::Nobody => *self = Self::Some(vec![Arc::clone(name)]),
        }
    }
}

/// Judges by the address alone.
#[must_use]
pub fn admission(entries: &[Entry], peer: IpAddr) -> Admission {
    let peer = peer.to_canonical();
    let mut ways = Ways::default();
    for entry in entries.iter().filter(|entry| is_from(entry.from, peer)) {
        match &entry.who {
            Who::Anyone => return Admission::Open,
            Who::Users => ways.users = UserSet::All,
            Who::User(name) => ways.users.add(name),
            Who::Jwt => ways.jwt = true,
            Who::Webhook => ways.webhook = true,
        }
    }
    if ways == Ways::default() { Admission::Closed } else { Admission::Login(ways) }
}

/// Whether a client with this canonical address comes from there.
fn is_from(place: Place, peer: IpAddr) -> bool {
    match place {
        Place::Anywhere => true,
        Place::Loopback => peer.is_loopback(),
        Place::Private => PRIVATE.iter().any(|network| network.contains(&peer)),
        Place::Network(network) => network.contains(&peer),
    }
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
    use crate::config::access_list::{AccessList, Known};

    const NOTHING: Known = Known { users: false, jwt: false, webhook: false };

    fn entries(texts: &[&str]) -> Vec<Entry> {
        AccessList::parse(texts).unwrap().resolve(NOTHING, Place::Loopback)
    }

    fn is_open(texts: &[&str], peer: &str) -> bool {
        admission(&entries(texts), peer.parse().unwrap()) == Admission::Open
    }

    #[test]
    fn only_this_host_may_publish_unless_something_else_is_said() {
        for (peer, expected) in [
            ("127.0.0.1", true),
            ("127.1.2.3", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("10.0.0.1", false),
            ("::ffff:10.0.0.1", false),
            ("::", false),
        ] {
            assert_eq!(is_open(&["auto"], peer), expected, "{peer}");
        }
    }

    #[test]
    fn networks_words_and_nobody_mean_what_they_say() {
        let nets = &["10.0.0.0/8", "2001:db8::/32", "192.0.2.7"];
        for peer in ["10.255.0.1", "::ffff:10.1.2.3", "2001:db8::5", "192.0.2.7"] {
            assert!(is_open(nets, peer), "{peer}");
        }
        for peer in ["11.0.0.1", "2001:db9::5", "192.0.2.8", "127.0.0.1"] {
            assert!(!is_open(nets, peer), "{peer}");
        }
        for peer in ["10.0.0.1", "172.31.0.1", "192.168.9.9", "fd00::1", "fe80::1", "::1"] {
            assert!(is_open(&["private"], peer), "{peer}");
        }
        assert!(!is_open(&["private"], "8.8.8.8") && !is_open(&["private"], "172.32.0.1"));
        assert!(is_open(&["any"], "8.8.8.8") && !is_open(&[], "127.0.0.1"));
    }

    #[test]
    fn entries_count_where_their_clients_come_from_and_are_put_together() {
        let list = entries(&["loopback", "user:ann@10.0.0.0/8", "user:bob", "jwt@private"]);
        let at = |peer: &str| admission(&list, peer.parse().unwrap());
        assert_eq!(at("127.0.0.1"), Admission::Open);
        let Admission::Login(ways) = at("10.1.2.3") else { panic!("{:?}", at("10.1.2.3")) };
        assert!(ways.users.has("ann") && ways.users.has("bob") && !ways.users.has("eve"));
        assert!(ways.jwt && !ways.webhook);
        let Admission::Login(ways) = at("8.8.8.8") else { panic!("{:?}", at("8.8.8.8")) };
        assert!(!ways.users.has("ann") && ways.users.has("bob") && !ways.jwt);
        let list = entries(&["user:ann@10.0.0.0/8"]);
        assert_eq!(admission(&list, "8.8.8.8".parse().unwrap()), Admission::Closed);
        let all = entries(&["user:ann", "users", "user:bob"]);
        let Admission::Login(ways) = admission(&all, "8.8.8.8".parse().unwrap()) else {
            panic!("nobody is asked")
        };
        assert_eq!(ways.users, UserSet::All);
    }
}
