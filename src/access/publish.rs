//! Who may publish to a path: its section of the configuration lists networks.
//!
//! Invariants: who is on no list may not; nobody may where the source is fetched.
//! Bound: the list's, see `config::publish`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::config::paths::PathTable;
use crate::config::publish::{PublishList, Publishers};
use crate::config::source::SourceAddress;

/// Why a client may not publish to a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Denied<'c> {
    /// The path has another source.
    #[error("the path's source is fetched")]
    Fetched {
        /// Which.
        address: &'c SourceAddress,
    },
    /// The path plays titles in order.
    #[error("the path plays titles")]
    Playlist,
    /// The path has channels, or was made for one.
    #[error("the path is a line-up")]
    Lineup,
    /// No entry of the list has the client's address.
    #[error("the configuration does not allow it")]
    Address {
        /// The section whose list it is: what an operator is to change.
        section: String,
    },
}

/// Asks whether a client with this address may publish to the live path of this name.
///
/// # Errors
/// See [`Denied`].
pub fn may_publish<'c>(paths: &'c PathTable, path: &str, peer: IpAddr) -> Result<(), Denied<'c>> {
    let config = paths.find(path);
    if config.source.is_fetched() {
        return Err(Denied::Fetched { address: &config.source });
    }
    if config.is_playlist() {
        return Err(Denied::Playlist);
    }
    if paths.lineup(path).is_some() || paths.lineup_over(path).is_some() {
        return Err(Denied::Lineup);
    }
    if !allows(&config.publish, peer) {
        return Err(Denied::Address { section: paths.section_of(path) });
    }
    Ok(())
}

/// Whether the list has a client with this address.
fn allows(list: &PublishList, peer: IpAddr) -> bool {
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
    use crate::config;

    /// Who may publish to live/a by the paths of a file: the section that refuses, or `None`.
    fn refused_by(text: &str, peer: [u8; 4]) -> Option<String> {
        let paths = config::load(Some(("f", text)), [], &[]).unwrap().config.paths;
        match may_publish(&paths, "live/a", IpAddr::from(peer)) {
            Ok(()) => None,
            Err(Denied::Address { section }) => Some(section),
            Err(Denied::Fetched { address }) => Some(address.to_string()),
            Err(Denied::Playlist) => Some("playlist".to_owned()),
            Err(Denied::Lineup) => Some("lineup".to_owned()),
        }
    }

    #[test]
    fn who_is_on_the_list_of_the_path_may_publish_and_nobody_else() {
        let (here, guest, stranger) = ([127, 0, 0, 1], [10, 9, 9, 9], [192, 0, 2, 9]);
        let text = "[path.\"live/a\"]\npublish = [\"10.0.0.0/8\"]\n";
        assert_eq!(refused_by(text, stranger).as_deref(), Some("live/a"));
        assert_eq!(refused_by(text, here).as_deref(), Some("live/a"), "not on the list");
        assert_eq!(refused_by(text, guest), None);
        let nobody = "[path.\"*\"]\npublish = []\n";
        assert_eq!(refused_by(nobody, here).as_deref(), Some("*"));
        let pattern = "[path.\"~^live/\"]\npublish = [\"any\"]\n";
        assert_eq!(refused_by(pattern, guest), None);
        assert_eq!((refused_by("", here), refused_by("", stranger).as_deref()), (None, Some("*")));
    }

    #[test]
    fn path_with_a_fetched_source_is_not_published_to() {
        let text = "[path.\"live/a\"]\nsource = \"rtsp://192.0.2.1/x\"\non_demand = true\n";
        assert_eq!(refused_by(text, [127, 0, 0, 1]).as_deref(), Some("rtsp://192.0.2.1/x"));
    }

    #[test]
    fn path_that_plays_titles_is_not_published_to() {
        let text = "[path.\"*\"]\npublish = [\"any\"]\n[path.\"live/a\"]\nplaylist = [\"a.mp4\"]\n";
        assert_eq!(refused_by(text, [127, 0, 0, 1]).as_deref(), Some("playlist"));
    }

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
