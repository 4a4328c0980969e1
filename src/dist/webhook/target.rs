//! Where webhooks may go.
//!
//! A base is reached by clients of others, and stands in a network of its own. A webhook must not
//! be their way into it: so a base connects to addresses of the public Internet, and to those that
//! its operator allows. A name is resolved first, and the connection goes to an address that was
//! looked at, not to the name.
//! Bound: `URL_BYTES_MAX`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;
use url::{Host, Url};

use crate::base::secrets::shown_url;

/// A URL that a webhook may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    url: Url,
}

/// Why a URL is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not a URL.
    #[error("it is not a URL: {0}")]
    NotAUrl(url::ParseError),
    /// Another scheme.
    #[error("its scheme is {0}: http or https is expected")]
    Scheme(String),
    /// Without a host.
    #[error("it has no host")]
    NoHost,
    /// With a user or a password.
    #[error("it has a user or a password: a secret signs the notification instead")]
    User,
    /// Too long.
    #[error("it has more than {URL_BYTES_MAX} bytes")]
    TooLong,
    /// An address that the base does not connect to.
    #[error(transparent)]
    Address(AddressError),
}

/// The base does not connect to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not an address of the public Internet, and --webhook-allow does not have it")]
pub struct AddressError(pub IpAddr);

/// Networks that webhooks may go to, beside the public Internet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedNetworks(pub Vec<AllowedNetwork>);

/// `10.0.0.0/8`, `fd00::/8`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllowedNetwork(IpNet);

/// Text is no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a network like 10.0.0.0/8 or fd00::/8, or an address, is expected")]
pub struct NetworkError;

impl Target {
    /// Reads a URL. An address in it must be one that the base connects to.
    ///
    /// # Errors
    /// `TargetError`, for the client.
    pub fn parse(text: &str, allowed: &AllowedNetworks) -> Result<Self, TargetError> {
        if text.len() > URL_BYTES_MAX {
            return Err(TargetError::TooLong);
        }
        let url = Url::parse(text).map_err(TargetError::NotAUrl)?;
        // Its normal form is what is kept and read again; that may be three times as long.
        if url.as_str().len() > URL_BYTES_MAX {
            return Err(TargetError::TooLong);
        }
        if !matches!(url.scheme(), "http" | "https") {
            return Err(TargetError::Scheme(url.scheme().to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(TargetError::User);
        }
        let target = Self { url };
        target.url.host().ok_or(TargetError::NoHost)?;
        target.check_address(allowed).map_err(TargetError::Address)?;
        Ok(target)
    }

    /// Checks an address that stands in the URL itself: nobody resolves it.
    ///
    /// # Errors
    /// The base does not connect to it.
    pub fn check_address(&self, allowed: &AllowedNetworks) -> Result<(), AddressError> {
        let ip = match self.url.host() {
            Some(Host::Ipv4(ip)) => IpAddr::V4(ip),
            Some(Host::Ipv6(ip)) => IpAddr::V6(ip),
            // Whatever a resolver says (RFC 6761 s6.3).
            Some(Host::Domain(name)) if is_localhost(name) => Ipv4Addr::LOCALHOST.into(),
            Some(Host::Domain(_)) | None => return Ok(()),
        };
        allowed.check(ip)
    }

    /// The URL, in its normal form.
    #[must_use]
    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    /// Host and port: connections to one of them are counted together.
    #[must_use]
    pub fn authority(&self) -> String {
        let port = self.url.port_or_known_default().unwrap_or_default();
        format!("{}:{port}", self.url.host_str().unwrap_or_default())
    }
}

impl fmt::Display for Target {
    /// Without what may be a secret in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown_url(self.url.as_str()))
    }
}

impl AllowedNetworks {
    /// Whether the base connects to this address.
    ///
    /// # Errors
    /// It does not.
    pub fn check(&self, ip: IpAddr) -> Result<(), AddressError> {
        let ip = ip.to_canonical();
        let is_allowed = self.0.iter().any(|AllowedNetwork(network)| network.contains(&ip));
        if is_allowed || is_public(ip) { Ok(()) } else { Err(AddressError(ip)) }
    }
}

impl FromStr for AllowedNetwork {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let one = text.parse::<IpAddr>().map(IpNet::from);
        text.parse().or(one).map(Self).map_err(|_| NetworkError)
    }
}

fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name == "localhost" || name.ends_with(".localhost")
}

/// An address of the Internet at large: none that a network keeps for itself, or for this machine.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => {
            // Ways to IPv4 are as public as the address behind them: NAT64 (RFC 6052), 6to4 (3056).
            let [a, b, c, d, e, f, g, h] = ip.segments();
            let behind = match (a, b) {
                (0x64, 0xff9b) if [c, d, e, f] == [0; 4] => Some((g, h)),
                (0x2002, high) => Some((high, c)),
                _ => None,
            };
            match behind {
                Some((high, low)) => {
                    let bits = u32::from(high) << 16 | u32::from(low);
                    is_public_v4(Ipv4Addr::from_bits(bits))
                }
                None => is_public_v6(ip),
            }
        }
    }
}

/// RFC 6890 and its registry: what is not for everyone.
fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let is_shared = a == 100 && (64..128).contains(&b);
    let is_protocol = a == 192 && b == 0 && c == 0;
    let is_benchmark = a == 198 && (18..20).contains(&b);
    let is_own = ip.is_private() || ip.is_loopback() || ip.is_link_local() || is_shared;
    let is_none = a == 0 || a >= 224 || is_protocol || is_benchmark;
    !is_own && !is_none
}

/// 2000::/3 is what has been given out to everyone; all else is unique local, link-local,
/// multicast, this machine, or nobody's.
fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, ..] = ip.segments();
    // 2001::/23 is for protocols, Teredo among them.
    a & 0xe000 == 0x2000 && !(a == 0x2001 && b < 0x200)
}

/// Longer than URLs with a token in them.
const URL_BYTES_MAX: usize = 2_048;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Target, TargetError> {
        Target::parse(url, &AllowedNetworks::default())
    }

    #[test]
    fn urls_of_http_are_taken_and_secrets_in_them_are_not_shown() {
        let target = parse("https://Hooks.example/in?token=abc").unwrap();
        assert_eq!(target.url(), "https://hooks.example/in?token=abc");
        assert_eq!(target.to_string(), "https://hooks.example/in?token=...");
        assert_eq!(target.authority(), "hooks.example:443");
        assert_eq!(parse("http://192.0.2.1:81").unwrap().authority(), "192.0.2.1:81");
    }

    /// It was taken, and refused when it was read again for each call.
    #[test]
    fn url_that_is_too_long_in_its_normal_form_is_refused() {
        let url = format!("http://a.example/{}", "\u{e9}".repeat(URL_BYTES_MAX / 4));
        assert_eq!(parse(&url), Err(TargetError::TooLong));
    }

    #[test]
    fn other_urls_are_refused_with_a_reason() {
        let long = format!("http://a.example/{}", "x".repeat(URL_BYTES_MAX));
        for (url, part) in [
            ("", "not a URL"),
            ("hooks.example", "not a URL"),
            ("ftp://a.example/", "scheme is ftp"),
            ("file:///etc/passwd", "scheme is file"),
            ("http://me:pw@a.example/", "user or a password"),
            ("http://:81", "not a URL"),
            (&long, "more than"),
        ] {
            let error = parse(url).unwrap_err().to_string();
            assert!(error.contains(part), "{url}: {error}");
        }
    }

    #[test]
    fn addresses_of_own_networks_are_refused_however_they_are_written() {
        for host in [
            "127.0.0.1",
            "127.1",
            "0x7f000001",
            "2130706433",
            "0",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "192.0.0.8",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "localhost",
            "LOCALHOST.",
            "a.localhost",
            "[::]",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:a00:1]",
            "[64:ff9b::10.0.0.1]",
            "[2002:7f00:1::]",
            "[2001:0:1::]",
            "[fe80::1]",
            "[fd00::1]",
            "[ff02::1]",
        ] {
            let refused = parse(&format!("http://{host}/"));
            assert!(matches!(refused, Err(TargetError::Address(_))), "{host}: {refused:?}");
        }
        for host in ["93.184.216.34", "[2606:2800:220::1]", "[64:ff9b::5db8:d822]", "a.example"] {
            assert!(parse(&format!("http://{host}/")).is_ok(), "{host}");
        }
    }

    #[test]
    fn networks_that_are_allowed_are_taken_and_no_others() {
        let allowed = ["127.0.0.0/8", "fd00::/8", "10.0.0.7"].map(|net| net.parse().unwrap());
        let allowed = AllowedNetworks(allowed.to_vec());
        let check = |ip: &str| allowed.check(ip.parse().unwrap()).is_ok();
        for ip in ["127.0.0.1", "::ffff:127.0.0.1", "fd00::1", "10.0.0.7", "8.8.8.8"] {
            assert!(check(ip), "{ip}");
        }
        for ip in ["10.0.0.8", "::1", "fe80::1"] {
            assert!(!check(ip), "{ip}");
        }
        for bad in ["", "10.0.0.0/33", "example", "10.0.0"] {
            assert_eq!(bad.parse::<AllowedNetwork>(), Err(NetworkError), "{bad}");
        }
    }
}
