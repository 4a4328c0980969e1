//! Opens listeners, RTP and RTCP pairs and other sockets; options of connections; addresses.
//!
//! ```text
//! listen_tcp   one per shard on the same address (SO_REUSEPORT): the kernel spreads connections
//! udp_pair     even port RTP, the next one RTCP (RFC 3550 s11)
//! [::]         dual-stack: a v4 client is ::ffff:a.b.c.d to the kernel, a.b.c.d to this program
//! ```
//! Bound: `PAIR_TRIES_MAX` attempts to find a free pair.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::base::host::Host;

/// An RTP socket and its RTCP socket.
#[derive(Debug)]
pub struct UdpPair {
    /// Even port.
    pub rtp: OwnedFd,
    /// The port above.
    pub rtcp: OwnedFd,
    /// Port of `rtp`.
    pub rtp_port: u16,
}

/// Opens a listener on an address that other shards listen on, too. `[::]` accepts v4 clients.
///
/// # Errors
/// The address is taken by another program (`is_port_taken`), not of this host, or not permitted.
pub fn listen_tcp(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = new_socket(address, Type::STREAM, Protocol::TCP)?;
    // A restarted server takes its port back while old connections linger in TIME_WAIT.
    socket.set_reuse_address(true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Opens a pair of UDP sockets on an address of this host, at `port` (even) and `port + 1`. `None`
/// or 0: any free pair.
///
/// # Errors
/// A given port is odd or taken (`is_port_taken`), or no free pair was found.
pub fn udp_pair(host: impl Into<Host>, port: Option<u16>) -> io::Result<UdpPair> {
    let host = host.into();
    match port.filter(|port| *port != 0) {
        Some(port) if port % 2 == 1 => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "RTP takes an even port, RTCP the one above (RFC 3550 s11)",
        )),
        Some(port) => bind_pair(host, port),
        None => find_pair(host),
    }
}

/// Opens a TCP socket of the family of `address`, not connected yet.
///
/// # Errors
/// The process is out of descriptors, or the host does not speak that family.
pub fn stream_to(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    set_stream_options(&socket)?;
    // Cameras are sent requests alone, and a camera that takes none is of no use.
    sockopt::set_tcp_user_timeout(&socket, USER_TIMEOUT_MS)?;
    Ok(socket.into())
}

/// Options of an RTSP connection. `TCP_USER_TIMEOUT` is not among them: it counts a window that the
/// client keeps closed, which is how some players pause (`consumers::taking`).
///
/// # Errors
/// Errors of `setsockopt`; as a rule the connection is dead then.
pub fn set_stream_options(fd: impl AsFd) -> io::Result<()> {
    let fd = fd.as_fd();
    // Answers and whole frames are sent at once; the kernel has nothing to wait for.
    sockopt::set_tcp_nodelay(fd, true)?;
    sockopt::set_socket_keepalive(fd, true)?;
    sockopt::set_tcp_keepidle(fd, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(fd, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(fd, KEEPALIVE_COUNT)?;
    SockRef::from(&fd).set_tcp_notsent_lowat(UNSENT_BYTES_MAX)
}

/// Sets whether the kernel may fragment a datagram that is larger than its route takes. Without
/// fragments, IPv4 headers need no identification, which saves a few per cent of a send, and a
/// datagram that is too large fails with `EMSGSIZE`.
///
/// # Errors
/// Errors of `setsockopt`.
pub fn set_fragmentation(fd: impl AsFd, family: Family, is_allowed: bool) -> io::Result<()> {
    let fd = fd.as_fd();
    if family == Family::V6 {
        let mode = if is_allowed { Ipv6PathMtuDiscovery::WANT } else { Ipv6PathMtuDiscovery::DO };
        sockopt::set_ipv6_mtu_discover(fd, mode)?;
    }
    // A dual-stack socket needs both options, because it sends to v4 clients as well.
    let mode = if is_allowed { Ipv4PathMtuDiscovery::WANT } else { Ipv4PathMtuDiscovery::DO };
    Ok(sockopt::set_ip_mtu_discover(fd, mode)?)
}

/// Address of the peer of a connection.
///
/// # Errors
/// The connection is gone already.
pub fn peer_addr(fd: impl AsFd) -> io::Result<SocketAddr> {
    as_ip(&SockRef::from(&fd).peer_addr()?)
}

/// Address to which a socket is bound. For a connection: the address that the client has used.
///
/// # Errors
/// Errors of `getsockname`.
pub fn local_addr(fd: impl AsFd) -> io::Result<SocketAddr> {
    as_ip(&SockRef::from(&fd).local_addr()?)
}

/// Address family of a socket; `None`: it is not of IP.
#[must_use]
pub fn family_of(fd: impl AsFd) -> Option<Family> {
    let address = SockRef::from(&fd.as_fd()).local_addr().ok()?;
    match address.as_socket()? {
        SocketAddr::V4(_) => Some(Family::V4),
        SocketAddr::V6(_) => Some(Family::V6),
    }
}

/// `address` in the form for a socket of `family`: a v4 address is mapped for a v6 socket.
#[must_use]
pub fn to_socket_address(address: SocketAddr, family: Family) -> SocketAddr {
    match (address, family) {
        (SocketAddr::V4(v4), Family::V6) => {
            SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into()
        }
        (SocketAddr::V6(_), Family::V4) => unmapped(address),
        _ => address,
    }
}

/// Address family of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `AF_INET`.
    V4,
    /// `AF_INET6`: v6, and v4 when it is dual-stack.
    V6,
}

impl Family {
    /// Family of a socket that is opened on `ip`.
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// The v4 address that `address` maps into v6; `address` itself if it maps none.
#[must_use]
pub fn unmapped(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

/// Whether another program has the port.
#[must_use]
pub fn is_port_taken(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}

/// Opens the socket of a source that listens at an address of this host or of a group. Other
/// programs of this host may bind the same group. `[::]` receives v4 packets, too.
///
/// # Errors
/// The address is not of this host, taken, or not permitted.
pub(in crate::shard) fn input_udp(to: SocketAddr) -> io::Result<OwnedFd> {
    let socket = new_socket(to, Type::DGRAM, Protocol::UDP)?;
    if to.ip().is_multicast() {
        socket.set_reuse_address(true)?;
    }
    sockopt::set_socket_recv_buffer_size_force(&socket, INPUT_RECEIVE_BYTES)
        .or_else(|_| sockopt::set_socket_recv_buffer_size(&socket, INPUT_RECEIVE_BYTES))?;
    socket.set_nonblocking(true)?;
    socket.bind(&to.into())?;
    Ok(socket.into())
}

fn find_pair(host: Host) -> io::Result<UdpPair> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..PAIR_TRIES_MAX {
        // The kernel's choice is random enough: every other time the port above is free as well.
        let probe = new_socket(host.at(0), Type::DGRAM, Protocol::UDP)?;
        probe.bind(&host.at(0).into())?;
        let port = as_ip(&probe.local_addr()?)?.port() & !1;
        drop(probe);
        match bind_pair(host, port) {
            Ok(pair) => return Ok(pair),
            Err(error) if is_port_taken(&error) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

fn bind_pair(host: Host, port: u16) -> io::Result<UdpPair> {
    let rtp = bind_udp(host.at(port), RTP_SEND_BYTES, RTP_RECEIVE_BYTES)?;
    let rtcp = bind_udp(host.at(port | 1), RTCP_SEND_BYTES, RTCP_RECEIVE_BYTES)?;
    // `Pairs::allow_fragments` allows them when a client's route is too narrow.
    set_fragmentation(&rtp, Family::of(host.ip()), false)?;
    Ok(UdpPair { rtp, rtcp, rtp_port: port })
}

fn bind_udp(address: SocketAddr, send_bytes: usize, receive_bytes: usize) -> io::Result<OwnedFd> {
    let socket = new_socket(address, Type::DGRAM, Protocol::UDP)?;
    // Beyond net.core.wmem_max with CAP_NET_ADMIN, up to it without.
    sockopt::set_socket_send_buffer_size_force(&socket, send_bytes)
        .or_else(|_| sockopt::set_socket_send_buffer_size(&socket, send_bytes))?;
    sockopt::set_socket_recv_buffer_size_force(&socket, receive_bytes)
        .or_else(|_| sockopt::set_socket_recv_buffer_size(&socket, receive_bytes))?;
    socket.set_nonblocking(true)?;
    // The socket receives nothing of groups that other programs of this host have joined.
    socket.set_multicast_all_v4(false)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn new_socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        // `[::]` is dual-stack, whatever net.ipv6.bindv6only says.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    Ok(socket)
}

fn as_ip(address: &socket2::SockAddr) -> io::Result<SocketAddr> {
    let address = address.as_socket().ok_or(io::ErrorKind::Unsupported)?;
    Ok(unmapped(address))
}

/// Connections that wait to be accepted; the kernel takes net.core.somaxconn when that is less.
const BACKLOG: i32 = 4_096;

/// Every other probe fails where few ports are left; this many failures mean there are none.
const PAIR_TRIES_MAX: u32 = 64;

/// All packets of one turn at 10 Gbit/s and 2 ms, with the kernel's overhead for each.
const RTP_SEND_BYTES: usize = 8 << 20;

/// Hole punching, publishers' packets.
const RTP_RECEIVE_BYTES: usize = 1 << 20;

/// A second of 50 Mbit/s, with the kernel's overhead for each packet: lost packets of a source that
/// listens are not sent again.
const INPUT_RECEIVE_BYTES: usize = 16 << 20;

const RTCP_SEND_BYTES: usize = 1 << 20;

/// Reports of ten thousand players that arrive within one turn: about 400 bytes of kernel each.
const RTCP_RECEIVE_BYTES: usize = 4 << 20;

/// A player that has vanished is noticed within about a minute even when nothing is sent to it.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_COUNT: u32 = 3;

/// Bytes of a connection that wait in the kernel unsent. More bytes would be memory of slow
/// clients, and media that is late before it is sent.
const UNSENT_BYTES_MAX: u32 = 256 << 10;

/// A connection ends when a camera acknowledges no request for this long.
const USER_TIMEOUT_MS: u32 = 30_000;

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};

    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn pair_takes_an_even_port_and_the_next() {
        let pair = udp_pair(LOOPBACK, None).unwrap();
        assert_eq!(pair.rtp_port % 2, 0);
        let discovery = || sockopt::ip_mtu_discover(&pair.rtp).unwrap();
        assert_eq!(discovery(), Ipv4PathMtuDiscovery::DO);
        set_fragmentation(&pair.rtp, Family::V4, true).unwrap();
        assert_eq!(discovery(), Ipv4PathMtuDiscovery::WANT);
        assert_eq!(local_addr(&pair.rtp).unwrap(), SocketAddr::new(LOOPBACK, pair.rtp_port));
        assert_eq!(local_addr(&pair.rtcp).unwrap().port(), pair.rtp_port + 1);
        let taken = udp_pair(LOOPBACK, Some(pair.rtp_port)).unwrap_err();
        assert!(is_port_taken(&taken));
        let odd = udp_pair(LOOPBACK, Some(5_005)).unwrap_err();
        assert_eq!(odd.kind(), io::ErrorKind::InvalidInput);
        assert!(!is_port_taken(&odd));
    }

    #[test]
    fn two_shards_listen_on_one_port() {
        let first = listen_tcp(SocketAddr::new(LOOPBACK, 0)).unwrap();
        let address = local_addr(&first).unwrap();
        let second = listen_tcp(address).unwrap();
        assert_eq!(local_addr(&second).unwrap(), address);
    }

    #[test]
    fn port_of_another_program_is_taken() {
        let other = std::net::TcpListener::bind((LOOPBACK, 0)).unwrap();
        let error = listen_tcp(other.local_addr().unwrap()).unwrap_err();
        assert!(is_port_taken(&error));
    }

    #[test]
    fn v4_client_of_a_dual_stack_listener_is_seen_as_v4() {
        let Ok(listener) = listen_tcp((Ipv6Addr::UNSPECIFIED, 0).into()) else {
            println!("skipped: no IPv6 here");
            return;
        };
        let port = local_addr(&listener).unwrap().port();
        let client = TcpStream::connect((LOOPBACK, port)).unwrap();
        let listener = std::net::TcpListener::from(listener);
        listener.set_nonblocking(false).unwrap();
        let (served, _) = listener.accept().unwrap();
        set_stream_options(&served).unwrap();
        assert_eq!(peer_addr(&served).unwrap(), client.local_addr().unwrap());
        assert_eq!(local_addr(&served).unwrap(), SocketAddr::new(LOOPBACK, port));
        assert!(served.nodelay().unwrap());
    }

    #[test]
    fn window_that_a_client_keeps_closed_is_not_held_against_it_by_the_kernel() {
        let listener = std::net::TcpListener::bind((LOOPBACK, 0)).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        set_stream_options(&client).unwrap();
        assert_eq!(sockopt::tcp_user_timeout(&client), Ok(0));
        assert!(sockopt::socket_keepalive(&client).unwrap(), "a dead host is found all the same");
        let camera = stream_to(listener.local_addr().unwrap()).unwrap();
        assert_eq!(sockopt::tcp_user_timeout(&camera), Ok(USER_TIMEOUT_MS));
    }

    #[test]
    fn address_is_mapped_for_the_socket_and_back() {
        let v4: SocketAddr = "192.0.2.1:5004".parse().unwrap();
        let v6: SocketAddr = "[2001:db8::1]:5004".parse().unwrap();
        let mapped = to_socket_address(v4, Family::V6);
        assert_eq!(mapped.to_string(), "[::ffff:192.0.2.1]:5004");
        assert_eq!(unmapped(mapped), v4);
        assert_eq!(to_socket_address(mapped, Family::V4), v4);
        assert_eq!(to_socket_address(v4, Family::V4), v4);
        assert_eq!(to_socket_address(v6, Family::V6), v6);
        assert_eq!(Family::of(v6.ip()), Family::V6);
        let pair = udp_pair(IpAddr::from([127, 0, 0, 1]), None).unwrap();
        assert_eq!(family_of(&pair.rtp), Some(Family::V4));
        let no_socket = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(family_of(&no_socket), None);
    }
}
