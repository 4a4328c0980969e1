//! Listening sockets and pairs that another process offers, until they are taken or closed.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use crate::consumers::rtsp_listener::Speaks;
use crate::shard::sockets::UdpPair;

/// Sockets of another process. By default there are none.
#[derive(Debug, Default)]
pub(in crate::appliance) struct Inherited {
    /// What clients speak there, the address, the socket.
    pub(super) listeners: Vec<(String, SocketAddr, OwnedFd)>,
    /// Pairs of a shard, by the shard in the ids of their sessions; its first one comes first.
    pub(super) pairs: Vec<(u8, UdpPair)>,
}

impl Inherited {
    /// The listeners at an address that is wanted, and that address; none: it is to be opened.
    pub(in crate::appliance) fn take_listeners(
        &mut self,
        speaks: &str,
        wanted: SocketAddr,
    ) -> Option<(SocketAddr, Vec<OwnedFd>)> {
        let is_it =
            |(of, addr, _): &(String, SocketAddr, OwnedFd)| of == speaks && fits(*addr, wanted);
        let addr = self.listeners.iter().find(|one| is_it(one)).map(|(_, addr, _)| *addr)?;
        let (taken, left) = std::mem::take(&mut self.listeners)
            .into_iter()
            .partition(|(of, at, _)| of == speaks && *at == addr);
        self.listeners = left;
        Some((addr, taken.into_iter().map(|(_, _, socket)| socket).collect()))
    }

    /// The one listener of HTTP at an address.
    pub(in crate::appliance) fn take_listener(
        &mut self,
        speaks: &str,
        wanted: SocketAddr,
    ) -> Option<TcpListener> {
        let (_, sockets) = self.take_listeners(speaks, wanted)?;
        sockets.into_iter().next().map(TcpListener::from)
    }

    /// The pair of a shard, if its port is wanted; any is, where `port` is 0.
    pub(in crate::appliance) fn take_pair(&mut self, shard: usize, port: u16) -> Option<UdpPair> {
        let is_it = |(of, pair): &(u8, UdpPair)| {
            usize::from(*of) == shard && (port == 0 || pair.rtp_port == port)
        };
        let place = self.pairs.iter().position(is_it)?;
        Some(self.pairs.remove(place).1)
    }
}

/// Whether a socket that is bound to `addr` is what is wanted. A host without IPv6 has opened every
/// IPv4 address in place of `[::]`.
fn fits(addr: SocketAddr, wanted: SocketAddr) -> bool {
    let is_everywhere = addr.ip().is_unspecified() && wanted.ip().is_unspecified();
    let is_ip = addr.ip() == wanted.ip() || (is_everywhere && wanted.is_ipv6());
    is_ip && (wanted.port() == 0 || wanted.port() == addr.port())
}

/// As `speaks` is spelled in an offer.
pub(in crate::appliance) fn spelled(speaks: Speaks) -> &'static str {
    match speaks {
        Speaks::Rtsp => "rtsp",
        Speaks::Http => "http",
        Speaks::Tls => "rtsps",
    }
}

pub(in crate::appliance) const ADMIN: &str = "admin";
pub(in crate::appliance) const HLS: &str = "hls";
pub(in crate::appliance) const WEBRTC: &str = "webrtc";
pub(super) const TAKEOVER: &str = "takeover";

#[cfg(test)]
mod tests {
    use super::*;

    fn inherited(addrs: &[(&str, &str)]) -> Inherited {
        let file = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let listeners = addrs
            .iter()
            .map(|(speaks, addr)| ((*speaks).to_owned(), addr.parse().unwrap(), file()))
            .collect();
        Inherited { listeners, pairs: Vec::new() }
    }

    #[test]
    fn listeners_are_taken_once_by_what_they_speak_and_their_address() {
        let mut old = inherited(&[
            ("rtsp", "127.0.0.1:8554"),
            ("rtsp", "127.0.0.1:8554"),
            ("rtsp", "127.0.0.2:8554"),
            ("admin", "127.0.0.1:9997"),
        ]);
        let taken = |old: &mut Inherited, speaks: &str, wanted: &str| {
            old.take_listeners(speaks, wanted.parse().unwrap())
                .map(|(addr, sockets)| (addr.to_string(), sockets.len()))
        };
        assert_eq!(taken(&mut old, "rtsps", "127.0.0.1:8554"), None);
        assert_eq!(taken(&mut old, "rtsp", "127.0.0.1:8555"), None, "a new port");
        let both = Some(("127.0.0.1:8554".to_owned(), 2));
        assert_eq!(taken(&mut old, "rtsp", "127.0.0.1:8554"), both);
        assert_eq!(taken(&mut old, "rtsp", "127.0.0.1:8554"), None, "once");
        let any_port = Some(("127.0.0.2:8554".to_owned(), 1));
        assert_eq!(taken(&mut old, "rtsp", "127.0.0.2:0"), any_port);
        assert!(old.take_listener("admin", "127.0.0.1:9997".parse().unwrap()).is_some());
        assert!(old.listeners.is_empty());
        let mut old = inherited(&[("rtsp", "0.0.0.0:8554")]);
        assert_eq!(taken(&mut old, "rtsp", "127.0.0.1:8554"), None);
        assert!(taken(&mut old, "rtsp", "[::]:8554").is_some(), "a host without IPv6");
    }
}
