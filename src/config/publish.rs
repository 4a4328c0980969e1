//! Who may publish to a path, by address.
//!
//! ```text
//!  publish = ["loopback"]               this host alone, unless something else is said
//!  publish = ["10.0.0.0/8", "::1"]      networks and addresses
//!  publish = ["private"]                10/8, 172.16/12, 192.168/16, fc00::/7, link-local
//!  publish = ["any"]                    everyone: warned about        publish = []   nobody
//! ```
//! Invariant: who is on no list may not. Bound: `NETWORKS_MAX`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::value::ValueError;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishList(Vec<Publishers>);

/// Some who may publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Publishers {
    Loopback,
    Private,
    Any,
    Network(IpNet),
}

impl Default for PublishList {
    fn default() -> Self {
        Self(vec![Publishers::Loopback])
    }
}

impl PublishList {
    /// Reads the list.
    ///
    /// # Errors
    /// One that is neither a word nor a network, or too many.
    pub fn parse(texts: &[&str]) -> Result<Self, ValueError> {
        if texts.len() > NETWORKS_MAX {
            return Err(ValueError::TooMany { found: texts.len(), max: NETWORKS_MAX });
        }
        texts.iter().map(|text| Publishers::parse(text)).collect::<Result<_, _>>().map(Self)
    }

    /// Whether one with this address may publish.
    #[must_use]
    pub fn allows(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.0.iter().any(|publishers| publishers.has(peer))
    }

    /// Whether there is nobody who may not.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.iter().any(|publishers| match publishers {
            Publishers::Any => true,
            Publishers::Network(network) => network.prefix_len() == 0,
            Publishers::Loopback | Publishers::Private => false,
        })
    }

    /// Words and networks, as configuration spells them.
    pub fn texts(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|publishers| match publishers {
            Publishers::Loopback => "loopback".to_owned(),
            Publishers::Private => "private".to_owned(),
            Publishers::Any => "any".to_owned(),
            Publishers::Network(network) if network.prefix_len() == network.max_prefix_len() => {
                network.addr().to_string()
            }
            Publishers::Network(network) => network.to_string(),
        })
    }
}

impl Publishers {
    fn parse(text: &str) -> Result<Self, ValueError> {
        match text {
            "loopback" => return Ok(Self::Loopback),
            "private" => return Ok(Self::Private),
            "any" => return Ok(Self::Any),
            _ => {}
        }
        let address = text.parse::<IpAddr>().map(IpNet::from).ok();
        // Clients with an IPv4 address are known by it, however they came.
        let is_mapped = |network: &IpNet| match network.addr() {
            IpAddr::V4(_) => false,
            IpAddr::V6(address) => address.to_ipv4_mapped().is_some(),
        };
        let network = address.or_else(|| text.parse().ok()).filter(|network| !is_mapped(network));
        let network = network.ok_or_else(|| ValueError::Network { text: text.to_owned() })?;
        if network.addr() != network.network() {
            let (text, network) = (text.to_owned(), network.trunc());
            return Err(ValueError::NetworkBits { text, network });
        }
        Ok(Self::Network(network))
    }

    fn has(self, peer: IpAddr) -> bool {
        match self {
            Self::Loopback => peer.is_loopback(),
            Self::Private => PRIVATE.iter().any(|network| network.contains(&peer)),
            Self::Any => true,
            Self::Network(network) => network.contains(&peer),
        }
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

/// A network for each site of a company.
const NETWORKS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(texts: &[&str]) -> PublishList {
        PublishList::parse(texts).unwrap()
    }

    fn allows(list: &PublishList, peer: &str) -> bool {
        list.allows(peer.parse().unwrap())
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

    #[test]
    fn list_without_end_is_open_and_others_are_not() {
        for open in [&["any"][..], &["loopback", "0.0.0.0/0"], &["::/0"]] {
            assert!(list(open).is_open(), "{open:?}");
        }
        for closed in [&["private"][..], &[], &["10.0.0.0/8"]] {
            assert!(!list(closed).is_open(), "{closed:?}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused_with_the_reason() {
        let refuse = |text: &str| PublishList::parse(&[text]).unwrap_err().to_string();
        let errors = ["localhost", "10.0.0.1/8", "10.0.0.0/33", "", "::ffff:10.0.0.0/104"];
        insta::assert_snapshot!(errors.map(refuse).join("\n"), @r"
        `localhost` is none of loopback, private, any, 10.0.0.0/8, ::1 and the like
        `10.0.0.1/8` has bits beyond its prefix; write 10.0.0.0/8
        `10.0.0.0/33` is none of loopback, private, any, 10.0.0.0/8, ::1 and the like
        `` is none of loopback, private, any, 10.0.0.0/8, ::1 and the like
        `::ffff:10.0.0.0/104` is none of loopback, private, any, 10.0.0.0/8, ::1 and the like
        ");
        assert!(PublishList::parse(&["any"; 65]).is_err());
    }

    proptest! {
        #[test]
        fn shown_lists_read_back(bits in any::<u32>(), prefix in 0u8..=32) {
            let network = Ipv4Net::new(Ipv4Addr::from(bits), prefix).unwrap().trunc().to_string();
            let list = list(&[&network, "loopback"]);
            let texts: Vec<String> = list.texts().collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            prop_assert_eq!(PublishList::parse(&texts), Ok(list));
        }

        #[test]
        fn any_text_is_read_or_refused_without_panic(text in "\\PC{0,20}|[0-9./:a-f]{0,20}") {
            let _ = PublishList::parse(&[&text]);
        }
    }
}
