//! URLs that work for the person who reads them.
//!
//! A listener on `[::]` has no address that could be typed into a player on another machine; the
//! address of the default route is the best guess there is. It is found by connecting a datagram
//! socket to a documentation address (RFC 5737, RFC 3849): the kernel picks a route and a source
//! address, and no packet is sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::base::url_path;

/// Source addresses of the default routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Routes {
    /// For IPv4.
    pub v4: Option<Ipv4Addr>,
    /// For IPv6.
    pub v6: Option<Ipv6Addr>,
}

impl Routes {
    /// Asks the kernel.
    #[must_use]
    pub fn discover() -> Self {
        let source = |bind: IpAddr, to: IpAddr| {
            let socket = UdpSocket::bind((bind, 0)).ok()?;
            socket.connect((to, 9)).ok()?;
            let ip = socket.local_addr().ok()?.ip();
            (!ip.is_unspecified() && !ip.is_loopback()).then_some(ip)
        };
        let v4 = source(Ipv4Addr::UNSPECIFIED.into(), DOCUMENTATION_V4.into());
        let v6 = source(Ipv6Addr::UNSPECIFIED.into(), DOCUMENTATION_V6.into());
        Self {
            v4: v4.and_then(|ip| if let IpAddr::V4(ip) = ip { Some(ip) } else { None }),
            v6: v6.and_then(|ip| if let IpAddr::V6(ip) = ip { Some(ip) } else { None }),
        }
    }

    /// The address to tell people on other machines. A link-local one is told without our
    /// interface: theirs has another number (RFC 4007 s11.2). A wildcard IPv6 listener takes IPv4
    /// as well, and IPv4 is what most people expect to read.
    #[must_use]
    pub fn outward(self, listener: SocketAddr) -> SocketAddr {
        let v4 = self.v4.map(IpAddr::V4);
        let ip = match listener.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => v4,
            IpAddr::V6(ip) if ip.is_unspecified() => v4.or_else(|| self.v6.map(IpAddr::V6)),
            ip => Some(ip),
        };
        SocketAddr::new(ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), listener.port())
    }
}

/// The address to tell someone on this machine.
#[must_use]
pub fn inward(listener: SocketAddr) -> SocketAddr {
    match listener.ip().is_unspecified() {
        true => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), listener.port()),
        false => listener,
    }
}

/// `rtsp://HOST:PORT/PATH`; `path` is percent-encoded here, a leading slash does not matter.
#[must_use]
pub fn rtsp_url(addr: SocketAddr, path: &str) -> String {
    format!("rtsp://{addr}/{}", encode_path(path))
}

/// A path inside a URL; a leading slash does not matter.
#[must_use]
pub fn encode_path(path: &str) -> String {
    url_path::encode_path(path.trim_start_matches('/'))
}

const DOCUMENTATION_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const DOCUMENTATION_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcard_listener_is_told_by_the_default_route() {
        let both = Routes {
            v4: Some(Ipv4Addr::new(192, 0, 2, 10)),
            v6: Some(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 5)),
        };
        let only_v6 = Routes { v4: None, ..both };
        let cases = [
            (both, "[::]:8554", "192.0.2.10:8554"),
            (both, "0.0.0.0:8554", "192.0.2.10:8554"),
            (both, "[::1]:8554", "[::1]:8554"),
            (both, "[fe80::1%3]:8554", "[fe80::1]:8554"),
            (both, "10.0.0.1:1", "10.0.0.1:1"),
            (only_v6, "[::]:8554", "[2001:db8::5]:8554"),
            (only_v6, "0.0.0.0:8554", "127.0.0.1:8554"),
            (Routes::default(), "[::]:8554", "127.0.0.1:8554"),
        ];
        for (routes, listener, told) in cases {
            assert_eq!(routes.outward(listener.parse().unwrap()), told.parse().unwrap());
        }
    }

    #[test]
    fn on_this_machine_a_listener_is_told_with_its_interface() {
        let told = |listener: &str| inward(listener.parse().unwrap()).to_string();
        assert_eq!(told("[::]:8554"), "127.0.0.1:8554");
        assert_eq!(told("[::1]:8554"), "[::1]:8554");
        assert_eq!(told("[fe80::1%3]:8554"), "[fe80::1%3]:8554");
    }

    #[test]
    fn names_of_any_script_survive_a_shell() {
        let addr = "127.0.0.1:8554".parse().unwrap();
        let name = "vod/a b/\u{e9}'$(x)?#%.mp4";
        let url = rtsp_url(addr, name);
        assert_eq!(url, "rtsp://127.0.0.1:8554/vod/a%20b/%C3%A9%27%24%28x%29%3F%23%25.mp4");
        let path = url.strip_prefix("rtsp://127.0.0.1:8554/").unwrap();
        assert_eq!(percent_encoding::percent_decode_str(path).decode_utf8().unwrap(), name);
    }
}
