//! Targets to which a camera may redirect: an answer must not lead into the server's own network.
//!
//! ```text
//! configured source      may redirect to
//! this host (loopback)   any host
//! a private network      private and public addresses
//! one link               the same kind, and public addresses
//! the Internet           public addresses
//! ```
//! The host at which the source was reached is always allowed. Unspecified, multicast and broadcast
//! addresses never are. A link-local address belongs to the link by which the source was reached:
//! a camera's names of its interfaces have no meaning here (RFC 6874 s3). The configured
//! credentials go to the same host and port only.

use std::net::{IpAddr, Ipv4Addr};

use crate::base::host::Host;
use crate::rtsp::source_url::SourceUrl;

/// Reach of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Loopback,
    Link,
    Private,
    Public,
    /// The address belongs to no host.
    None,
}

/// Whether a source that was reached at `origin` may redirect to `to`.
pub(crate) fn may_lead(origin: IpAddr, to: IpAddr) -> bool {
    let (from, scope) = (scope_of(origin), scope_of(to));
    match (from, scope) {
        (_, Scope::None) => false,
        _ if origin.to_canonical() == to.to_canonical() => true,
        (_, Scope::Public) | (Scope::Loopback, _) => true,
        (Scope::Link, Scope::Link) | (Scope::Private, Scope::Private) => true,
        (Scope::Link | Scope::Private | Scope::Public | Scope::None, _) => false,
    }
}

/// Whether two URLs name the same server: credentials of one server are not sent to another.
pub(crate) fn is_same_server(one: &SourceUrl, other: &SourceUrl) -> bool {
    one.is_secure == other.is_secure
        && one.port == other.port
        && one.host.eq_ignore_ascii_case(&other.host)
        && one.zone == other.zone
}

/// The interface that reaches the target of a redirect: the interface of the configured source,
/// which was reached at `origin`.
pub(crate) fn zone_of(
    target: &SourceUrl,
    configured: &SourceUrl,
    origin: Option<Host>,
) -> Option<String> {
    let is_link_local = target.zone.is_some() || target.lacks_zone();
    let by_number = || origin.and_then(Host::scope_id).map(|index| index.to_string());
    configured.zone.clone().or_else(by_number).filter(|_| is_link_local)
}

fn scope_of(ip: IpAddr) -> Scope {
    match ip.to_canonical() {
        ip if ip.is_unspecified() || ip.is_multicast() => Scope::None,
        IpAddr::V4(Ipv4Addr::BROADCAST) => Scope::None,
        ip if ip.is_loopback() => Scope::Loopback,
        IpAddr::V4(v4) if v4.is_link_local() => Scope::Link,
        IpAddr::V4(v4) if v4.is_private() || is_shared(v4) => Scope::Private,
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Scope::Link,
        IpAddr::V6(v6) if v6.is_unique_local() => Scope::Private,
        IpAddr::V4(_) | IpAddr::V6(_) => Scope::Public,
    }
}

/// Shared address space 100.64.0.0/10 (RFC 6598): behind a carrier's NAT.
fn is_shared(v4: Ipv4Addr) -> bool {
    let [first, second, ..] = v4.octets();
    first == 100 && second & 0b1100_0000 == 64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtsp::source_url::parse_source_url;

    #[test]
    fn redirects_stay_in_the_network_of_the_source_or_go_out() {
        let addresses = [
            "127.0.0.1",
            "169.254.169.254",
            "10.0.0.7",
            "192.168.1.9",
            "100.64.0.1",
            "fd00::1",
            "fe80::1",
            "8.8.8.8",
            "2001:db8::1",
            "::ffff:127.0.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
        ];
        let allowed = |origin: &str| {
            let may = |to: &&&str| may_lead(origin.parse().unwrap(), to.parse().unwrap());
            addresses.iter().filter(may).copied().collect::<Vec<_>>().join(" ")
        };
        let public = "8.8.8.8 2001:db8::1";
        assert_eq!(allowed("1.2.3.4"), public);
        assert_eq!(
            allowed("10.1.1.1"),
            format!("10.0.0.7 192.168.1.9 100.64.0.1 fd00::1 {public}")
        );
        assert_eq!(allowed("fe80::9"), format!("169.254.169.254 fe80::1 {public}"));
        let all_hosts = "127.0.0.1 169.254.169.254 10.0.0.7 192.168.1.9 100.64.0.1 fd00::1 fe80::1";
        assert_eq!(allowed("127.0.0.1"), format!("{all_hosts} {public} ::ffff:127.0.0.1"));
        // Its own address, as another spelling too.
        assert!(may_lead("::ffff:1.2.3.4".parse().unwrap(), "1.2.3.4".parse().unwrap()));
    }

    #[test]
    fn credentials_belong_to_one_host_and_port() {
        let server = |url| parse_source_url(url).unwrap();
        let own = server("rtsp://user:secret@Cam.lan/live");
        assert!(is_same_server(&own, &server("rtsp://cam.lan:554/other")));
        let own_link = server("rtsp://user:secret@[fe80::7%eth0]/live");
        assert!(is_same_server(&own_link, &server("rtsp://[FE80::7%25eth0]/other")));
        assert!(!is_same_server(&own_link, &server("rtsp://[fe80::7%25eth1]/live")));
        for other in ["rtsp://cam.lan:8554/live", "rtsps://cam.lan:554/live", "rtsp://cam/live"] {
            assert!(!is_same_server(&own, &server(other)), "{other}");
        }
    }
    #[test]
    fn redirect_on_a_link_goes_by_the_interface_of_the_source() {
        let url = |text: &str| parse_source_url(text).unwrap();
        let zone = |target: &str, configured: &str, origin: &str| {
            zone_of(&url(target), &url(configured), Some(Host::of(origin.parse().unwrap())))
        };
        let (zoned, named) = ("rtsp://[fe80::7%eth0]/x", "rtsp://cam.local/x");
        for target in ["rtsp://[fe80::8]/y", "rtsp://[fe80::8%25wlan0]/y"] {
            assert_eq!(zone(target, zoned, "[fe80::7%3]:554").as_deref(), Some("eth0"));
            assert_eq!(zone(target, named, "[fe80::7%3]:554").as_deref(), Some("3"));
            assert_eq!(zone(target, named, "169.254.1.1:554"), None);
        }
        assert_eq!(zone("rtsp://[2001:db8::8]/y", zoned, "[fe80::7%3]:554"), None);
        assert_eq!(zone("rtsp://cam2.local/y", zoned, "[fe80::7%3]:554"), None);
    }
}
