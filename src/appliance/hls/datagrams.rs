//! The UDP sockets of WebRTC: one for each address of `webrtc.listen`, for all viewers.
//!
//! ```text
//!  datagram --recv--> (from, the address that it came to) --> `Whep`
//!  `Whep` --send--> from the address that the viewer knows
//! ```
//! A browser takes an answer only from the address that it asked, which on a socket for all
//! addresses the kernel does not do by itself. IPv4 addresses are IPv4 addresses everywhere here,
//! though the socket is one of IPv6. Where `webrtc.hosts` tells viewers other addresses, datagrams
//! leave as the routes say.
//!
//! Bounds: `ROUNDS_MAX` reads of `quinn_udp::BATCH_SIZE` a socket before others have their turn;
//! what a socket does not take is lost and counted: browsers ask again.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use rustix::net::sockopt::{Ipv4PathMtuDiscovery, set_ip_mtu_discover};
use tokio::io::Interest;

use crate::cli::urls::Routes;
use crate::http::hls::Reached;
use crate::metrics::whep::WHEP;
use crate::whep::Datagram;

/// All sockets.
pub(super) struct Datagrams {
    sockets: Vec<Socket>,
    /// Addresses that viewers are told; none: those that their requests came to.
    hosts: Vec<IpAddr>,
}

struct Socket {
    io: tokio::net::UdpSocket,
    state: UdpSocketState,
    bound: SocketAddr,
}

impl Datagrams {
    /// Takes bound sockets over. It wants a runtime.
    ///
    /// # Errors
    /// The kernel refuses what datagrams need.
    pub(super) fn new(sockets: Vec<UdpSocket>, hosts: Vec<IpAddr>) -> io::Result<Self> {
        let open = |socket: UdpSocket| {
            let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
            // Packets fit an Ethernet frame; a tunnel on the way may cut them in two.
            set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DONT)?;
            let bound = socket.local_addr()?;
            let io = tokio::net::UdpSocket::from_std(socket)?;
            Ok(Socket { io, state, bound })
        };
        let sockets = sockets.into_iter().map(open).collect::<io::Result<Vec<_>>>()?;
        Ok(Self { sockets, hosts })
    }

    /// Room for what `read` reads: the kernel puts datagrams of one sender together.
    pub(super) fn buffer(&self) -> Vec<u8> {
        let segments = self.sockets.iter().map(|socket| socket.state.gro_segments()).max();
        vec![0; BATCH_SIZE * segments.unwrap_or(0) * DATAGRAM_BYTES_MAX]
    }

    /// Whether there are none: WebRTC is off.
    pub(super) fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// Addresses that a viewer may send to. One whose request a proxy of this machine has sent on
    /// reaches the machine by the addresses of its default routes, and is on it, if it is.
    pub(super) fn candidates(&self, reached: Reached, routes: Routes) -> Vec<SocketAddr> {
        let mut found = Vec::new();
        match reached {
            Reached::At(local) => self.add_candidates(local, &mut found),
            Reached::ByProxy => {
                let v4 = routes.v4.map(IpAddr::V4);
                let v6 = routes.v6.map(IpAddr::V6);
                for own in v4.into_iter().chain(v6).chain([Ipv4Addr::LOCALHOST.into()]) {
                    self.add_candidates(own, &mut found);
                }
            }
        }
        found
    }

    /// Adds those of a viewer whose request came to `local`.
    fn add_candidates(&self, local: IpAddr, found: &mut Vec<SocketAddr>) {
        let local = local.to_canonical();
        for socket in &self.sockets {
            let (ip, port) = (socket.bound.ip(), socket.bound.port());
            let mut tell = |ip| {
                let addr = SocketAddr::new(ip, port);
                if !found.contains(&addr) && found.len() < CANDIDATES_MAX {
                    found.push(addr);
                }
            };
            match ip.is_unspecified() {
                _ if !self.hosts.is_empty() => self.hosts.iter().copied().for_each(tell),
                true if ip.is_ipv6() || local.is_ipv4() => tell(local),
                true => {}
                false => tell(ip),
            }
        }
    }

    /// Waits until a socket has something; for ever when there are none.
    pub(super) async fn readable(&self) {
        let waits = self.sockets.iter().map(|socket| Box::pin(socket.io.readable()));
        let waits: Vec<_> = waits.collect();
        if waits.is_empty() {
            std::future::pending::<()>().await;
        }
        let _first = futures_util::future::select_all(waits).await;
    }

    /// Hands over what has come: the way of each datagram, from and to, and its bytes. True: there
    /// may be more.
    pub(super) fn read(
        &self,
        buffer: &mut [u8],
        mut take: impl FnMut((SocketAddr, SocketAddr), &[u8]),
    ) -> bool {
        let mut is_rest = false;
        let each = buffer.len() / BATCH_SIZE;
        for socket in &self.sockets {
            for round in 0..ROUNDS_MAX {
                let mut metas = [RecvMeta::default(); BATCH_SIZE];
                let mut slices: Vec<_> = buffer.chunks_mut(each).map(IoSliceMut::new).collect();
                let read = socket.io.try_io(Interest::READABLE, || {
                    socket.state.recv(UdpSockRef::from(&socket.io), &mut slices, &mut metas)
                });
                drop(slices);
                // Nothing more; or an error that ICMP brought for one viewer.
                let Ok(count) = read else { break };
                for (meta, bytes) in metas.iter().zip(buffer.chunks(each)).take(count) {
                    let source = canonical(meta.addr);
                    let ip = meta.dst_ip.unwrap_or_else(|| socket.bound.ip()).to_canonical();
                    let destination = self.told(source, SocketAddr::new(ip, socket.bound.port()));
                    let all = bytes.get(..meta.len).unwrap_or_default();
                    for datagram in all.chunks(meta.stride.max(1)) {
                        take((source, destination), datagram);
                    }
                }
                is_rest |= round + 1 == ROUNDS_MAX;
            }
        }
        is_rest
    }

    /// The address by which a viewer knows the one that its datagram came to.
    fn told(&self, source: SocketAddr, came_to: SocketAddr) -> SocketAddr {
        let is_known = self.hosts.is_empty() || self.hosts.contains(&came_to.ip());
        let mut hosts = self.hosts.iter();
        match hosts.find(|host| host.is_ipv4() == source.is_ipv4()) {
            Some(host) if !is_known => SocketAddr::new(*host, came_to.port()),
            _ => came_to,
        }
    }

    /// Sends a datagram, or counts it as lost.
    pub(super) fn send(&self, datagram: Datagram<'_>) {
        let is_from = |socket: &&Socket| {
            let bound = socket.bound;
            bound.port() == datagram.from.port()
                && (bound.ip().is_unspecified() || bound.ip() == datagram.from.ip())
                && (bound.is_ipv6() || datagram.to.is_ipv4())
        };
        let of_port = |socket: &&Socket| socket.bound.port() == datagram.from.port();
        let socket =
            self.sockets.iter().find(is_from).or_else(|| self.sockets.iter().find(of_port));
        let Some(socket) = socket else {
            WHEP.datagrams_unsent.add(1);
            return;
        };
        let is_v6 = socket.bound.is_ipv6();
        let is_own = !self.hosts.contains(&datagram.from.ip());
        let transmit = Transmit {
            destination: SocketAddr::new(of_family(datagram.to.ip(), is_v6), datagram.to.port()),
            ecn: None,
            contents: datagram.bytes,
            segment_size: None,
            src_ip: is_own.then(|| of_family(datagram.from.ip(), is_v6)),
        };
        // The kernel knows best whether there is room.
        let sent = socket.state.try_send(UdpSockRef::from(&socket.io), &transmit);
        if sent.is_err() {
            WHEP.datagrams_unsent.add(1);
        }
    }
}

fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// An address as a socket of IPv6, or of IPv4, wants it.
fn of_family(ip: IpAddr, is_v6: bool) -> IpAddr {
    match ip {
        IpAddr::V4(v4) if is_v6 => v4.to_ipv6_mapped().into(),
        ip => ip,
    }
}

/// What browsers send: STUN, DTLS and RTCP, within an Ethernet frame.
const DATAGRAM_BYTES_MAX: usize = 2_048;
/// Reads of a socket before others have their turn.
const ROUNDS_MAX: usize = 4;
/// Addresses that a browser is told.
const CANDIDATES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn datagrams(bound: &[&str], hosts: &[&str]) -> Datagrams {
        let sockets = bound.iter().map(|addr| UdpSocket::bind(addr).unwrap()).collect();
        let hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
        Datagrams::new(sockets, hosts).unwrap()
    }

    fn ips(found: &[SocketAddr]) -> Vec<String> {
        found.iter().map(|addr| addr.ip().to_string()).collect()
    }

    #[tokio::test]
    async fn viewer_is_told_where_it_came_or_what_the_configuration_says() {
        let routes = Routes { v4: Some([10, 0, 0, 7].into()), v6: None };
        let at = |of: &Datagrams, ip: &str| {
            ips(&of.candidates(Reached::At(ip.parse().unwrap()), routes))
        };
        let by_proxy = |of: &Datagrams| ips(&of.candidates(Reached::ByProxy, routes));
        let v4 = datagrams(&["0.0.0.0:0"], &[]);
        assert_eq!(at(&v4, "192.0.2.1"), ["192.0.2.1"]);
        assert_eq!(at(&v4, "::ffff:192.0.2.1"), ["192.0.2.1"]);
        assert!(at(&v4, "2001:db8::1").is_empty(), "no socket of that family");
        assert_eq!(by_proxy(&v4), ["10.0.0.7", "127.0.0.1"]);
        let one = datagrams(&["127.0.0.1:0", "127.0.0.2:0"], &[]);
        assert_eq!(at(&one, "192.0.2.1"), ["127.0.0.1", "127.0.0.2"]);
        let told = datagrams(&["0.0.0.0:0"], &["203.0.113.7", "2001:db8::7"]);
        assert_eq!(at(&told, "192.0.2.1"), ["203.0.113.7", "2001:db8::7"]);
        assert_eq!(by_proxy(&told), ["203.0.113.7", "2001:db8::7"]);
        let source = "198.51.100.4:5".parse().unwrap();
        let known = told.told(source, "10.0.0.1:8189".parse().unwrap());
        assert_eq!(known.to_string(), "203.0.113.7:8189");
    }

    #[tokio::test]
    async fn answer_leaves_from_the_address_that_was_asked() {
        let server = datagrams(&["0.0.0.0:0"], &[]);
        let port = server.sockets[0].bound.port();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(b"hello", ("127.0.0.3", port)).unwrap();
        server.readable().await;
        let mut way = None;
        server.read(&mut server.buffer(), |found, bytes| {
            assert_eq!(bytes, b"hello");
            way = Some(found);
        });
        let (from, to) = way.unwrap();
        assert_eq!((from, to.ip().to_string()), (client.local_addr().unwrap(), "127.0.0.3".into()));
        server.send(Datagram { from: to, to: from, bytes: b"there" });
        let mut answer = [0; 16];
        let (bytes, source) = client.recv_from(&mut answer).unwrap();
        assert_eq!((&answer[..bytes], source), (&b"there"[..], to));
    }
}
