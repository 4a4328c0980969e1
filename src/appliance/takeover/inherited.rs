//! Listening sockets and pairs that another process offers, until they are taken or closed.
//!
//! Invariant: a socket is taken only if it is bound to the address that is wanted. One that has the
//! port at another address is in the way ([`Inherited::check_free`]): the other process goes on
//! with it until the end of the takeover, so the port cannot be had.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use super::super::RunError;
use crate::base::host::Host;
use crate::consumers::rtsp_listener::Speaks;
use crate::host::holder::Protocol;
use crate::shard::sockets::{UdpPair, local_addr};

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
        let is_it = |(of, addr, _): &(String, SocketAddr, OwnedFd)| {
            of == speaks && fits(*addr, wanted, lacks_ipv6)
        };
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

    /// The pair of a shard, if its address and port are wanted; any port is, where `port` is 0.
    pub(in crate::appliance) fn take_pair(
        &mut self,
        shard: usize,
        host: Host,
        port: u16,
    ) -> Option<UdpPair> {
        let is_wanted = |(of, pair): &(u8, UdpPair)| {
            usize::from(*of) == shard
                && (port == 0 || pair.rtp_port == port)
                && local_addr(&pair.rtp).is_ok_and(|addr| Host::of(addr) == host)
        };
        let place = self.pairs.iter().position(is_wanted)?;
        Some(self.pairs.remove(place).1)
    }

    /// Checks that the other process has no socket that was not taken, and keeps `wanted` from
    /// being opened.
    ///
    /// # Errors
    /// A sentence: it has one. Nothing was changed.
    pub(in crate::appliance) fn check_free(
        &self,
        what: &str,
        protocol: Protocol,
        wanted: SocketAddr,
    ) -> Result<(), RunError> {
        let listeners = self
            .listeners
            .iter()
            .filter(|(speaks, ..)| (speaks == WEBRTC) == (protocol == Protocol::Udp));
        let listeners = listeners.map(|(_, addr, _)| *addr);
        let pairs = self.pairs.iter().filter(|_| protocol == Protocol::Udp);
        let pairs = pairs.flat_map(|(_, pair)| [&pair.rtp, &pair.rtcp]);
        let mut all = listeners.chain(pairs.filter_map(|socket| local_addr(socket).ok()));
        match all.find(|addr| are_in_the_way(*addr, wanted)) {
            None => Ok(()),
            Some(addr) => Err(RunError::Takeover(format!(
                "the running server has {addr} for something else, or for other addresses, than \
                 the {what} port {wanted} that is wanted now, and a takeover cannot change that: \
                 choose another port, leave the address as it was, or restart the server"
            ))),
        }
    }
}

/// Whether a socket that is bound to `addr` is what is wanted. A host without IPv6 has opened every
/// IPv4 address in place of `[::]`.
fn fits(addr: SocketAddr, wanted: SocketAddr, lacks_ipv6: impl FnOnce() -> bool) -> bool {
    if wanted.port() != 0 && wanted.port() != addr.port() {
        return false;
    }
    let is_everywhere = addr.ip().is_unspecified() && wanted.ip().is_unspecified();
    Host::of(addr) == Host::of(wanted) || (is_everywhere && wanted.is_ipv6() && lacks_ipv6())
}

/// Whether two sockets cannot be bound to these addresses at once. `[::]` has the IPv4 addresses,
/// too.
fn are_in_the_way(one: SocketAddr, other: SocketAddr) -> bool {
    let has = |one: IpAddr, other: IpAddr| match one {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => true,
        one => one == other || (one.is_unspecified() && other.is_ipv4()),
    };
    let (one, other) = ((one.ip(), one.port()), (other.ip(), other.port()));
    one.1 == other.1 && one.1 != 0 && (has(one.0, other.0) || has(other.0, one.0))
}

/// Whether this host has no IPv6: no socket can be bound to it.
fn lacks_ipv6() -> bool {
    UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_err()
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
    use crate::shard::sockets::udp_pair;

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
    }

    #[test]
    fn every_address_of_ipv4_is_every_address_on_a_host_without_ipv6_alone() {
        let addr = |text: &str| text.parse::<SocketAddr>().unwrap();
        for lacks in [true, false] {
            assert_eq!(fits(addr("0.0.0.0:8554"), addr("[::]:8554"), || lacks), lacks);
            assert!(!fits(addr("[::]:8554"), addr("0.0.0.0:8554"), || lacks));
            assert!(fits(addr("[::]:8554"), addr("[::]:0"), || lacks));
            assert!(!fits(addr("[::]:8554"), addr("[::1]:8554"), || lacks));
        }
    }

    #[test]
    fn pair_is_taken_only_for_its_shard_its_port_and_the_address_that_it_is_bound_to() {
        let host = |text: &str| Host::from(text.parse::<IpAddr>().unwrap());
        let pair = || (1, udp_pair(host("127.0.0.1"), None).unwrap());
        let mut old = Inherited { listeners: Vec::new(), pairs: vec![pair(), pair()] };
        let port = old.pairs[0].1.rtp_port;
        // Viewers of IPv6, or of another address, would not get a packet.
        for elsewhere in ["0.0.0.0", "127.0.0.2", "::", "::1"] {
            assert!(old.take_pair(1, host(elsewhere), 0).is_none(), "{elsewhere}");
            assert!(old.take_pair(1, host(elsewhere), port).is_none(), "{elsewhere}");
        }
        assert!(old.take_pair(0, host("127.0.0.1"), port).is_none(), "another shard");
        let taken = old.take_pair(1, host("127.0.0.1"), port).unwrap();
        assert_eq!(taken.rtp_port, port);
        assert!(old.take_pair(1, host("127.0.0.1"), port).is_none(), "once");
        assert!(old.take_pair(1, host("127.0.0.1"), 0).is_some(), "any port");
    }

    #[test]
    fn port_that_the_other_process_has_for_another_address_is_told() {
        let mut old = inherited(&[("rtsp", "0.0.0.0:8554"), ("webrtc", "127.0.0.1:8000")]);
        let pair = udp_pair(Host::from(IpAddr::from([127, 0, 0, 1])), None).unwrap();
        let (rtp, rtcp) = (pair.rtp_port, pair.rtp_port + 1);
        old.pairs.push((0, pair));
        let tcp = |wanted: &str| old.check_free("RTSP", Protocol::Tcp, wanted.parse().unwrap());
        let udp = |wanted: &str| old.check_free("RTP", Protocol::Udp, wanted.parse().unwrap());
        let told = tcp("[::]:8554").unwrap_err().to_string();
        assert!(told.contains("0.0.0.0:8554") && told.contains("[::]:8554"), "{told}");
        for wanted in ["127.0.0.1:8554", "0.0.0.0:8554", "192.0.2.7:8554"] {
            assert!(tcp(wanted).is_err(), "{wanted}");
        }
        for wanted in ["[::1]:8554", "[::]:8555", "[::]:0", "127.0.0.1:8000"] {
            assert!(tcp(wanted).is_ok(), "{wanted}");
        }
        for port in [8_000, rtp, rtcp] {
            assert!(udp(&format!("0.0.0.0:{port}")).is_err(), "{port}");
            assert!(udp(&format!("127.0.0.2:{port}")).is_ok(), "{port}");
        }
        assert!(udp("0.0.0.0:8554").is_ok());
    }
}
