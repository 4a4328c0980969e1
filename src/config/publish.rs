//! Who may publish to a path, as the configuration says it: words, networks and addresses.
//!
//! ```text
//!  publish = ["loopback"]               this host alone, unless something else is said
//!  publish = ["10.0.0.0/8", "::1"]      networks and addresses
//!  publish = ["private"]                10/8, 172.16/12, 192.168/16, fc00::/7, link-local
//!  publish = ["any"]                    everyone: warned about        publish = []   nobody
//! ```
//! `access::publish` judges clients by it. Bound: `NETWORKS_MAX`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::value_error::ValueError;

/// Clients that may publish to a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishList(Vec<Publishers>);

/// Some who may publish: one entry of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publishers {
    /// This host.
    Loopback,
    /// Networks of private addresses.
    Private,
    /// Everyone.
    Any,
    /// A network, or one address. Never of IPv4 addresses mapped into IPv6.
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

    /// A list that nobody is on.
    pub(super) fn nobody() -> Self {
        Self(Vec::new())
    }

    /// The entries, in the order of the file.
    pub fn entries(&self) -> impl Iterator<Item = Publishers> {
        self.0.iter().copied()
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
}

/// A network for each site of a company.
const NETWORKS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use ipnet::Ipv4Net;
    use proptest::prelude::*;

    use super::*;

    fn list(texts: &[&str]) -> PublishList {
        PublishList::parse(texts).unwrap()
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
