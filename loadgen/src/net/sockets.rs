//! Makes the sockets of a run.
//!
//! ```text
//! shared ports (server on 127.0.0.0/8)        one pair per stream (any other server)
//!   client i connects from 127.64.0.1 + i       client connects from any address
//!   one wildcard pair per track for all         an own pair per track and client
//! ```
//! RFC 3550 s11: RTP on an even port, RTCP on the next.
//! Bound: [`PAIR_TRIES_MAX`] ports are tried for a pair.

use crate::net::udp;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Ports tried until an even one and its neighbour are both free.
pub const PAIR_TRIES_MAX: usize = 256;
/// Client addresses start here and count up; 127.0.0.0/16 stays free for servers.
const CLIENT_ADDRESS_START: u32 = 0x7f40_0001;

/// RTP and RTCP socket.
pub type Pair = (Socket, Socket);

/// Loopback address of client `index`; `None` past the end of 127.0.0.0/8.
#[must_use]
pub fn client_address(index: usize) -> Option<Ipv4Addr> {
    let address = CLIENT_ADDRESS_START.checked_add(u32::try_from(index).ok()?)?;
    let address = Ipv4Addr::from(address);
    (address.is_loopback() && address != Ipv4Addr::new(127, 255, 255, 255)).then_some(address)
}

/// Client of the loopback address `address`.
#[must_use]
pub fn client_index(address: Ipv4Addr) -> Option<usize> {
    let index = u32::from(address).checked_sub(CLIENT_ADDRESS_START)?;
    usize::try_from(index).ok().filter(|_| address.is_loopback())
}

/// Begins to connect to `server`, from `source` where one is given. Non-blocking. The system sizes
/// the receive buffer as it likes unless `receive_bytes` says otherwise.
pub fn connect(
    server: SocketAddr,
    source: Option<Ipv4Addr>,
    receive_bytes: Option<usize>,
) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(bytes) = receive_bytes {
        // Before connecting: the window is scaled then.
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(source) = source {
        udp::bind_without_port(&socket)?;
        socket.bind(&SockAddr::from(SocketAddr::from((source, 0))))?;
    }
    match socket.connect(&SockAddr::from(server)) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

/// An even RTP port and the RTCP port above it, bound to `local` or to any IPv4 address.
pub fn port_pair(
    local: Option<IpAddr>,
    packet_info: bool,
    receive_bytes: usize,
) -> io::Result<(Pair, (u16, u16))> {
    let address = local.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    for _ in 0..PAIR_TRIES_MAX {
        let first = bound(address, 0, packet_info, receive_bytes)?;
        let port = local_port(&first)?;
        let other = if port.is_multiple_of(2) { port.checked_add(1) } else { port.checked_sub(1) };
        let Some(other) = other else { continue };
        let (rtp, rtcp) = (port.min(other), port.max(other));
        // The kernel gave one of the pair; the neighbour may be taken by somebody else.
        let neighbour = match bound(address, other, packet_info, receive_bytes) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => continue,
            result => result?,
        };
        let pair = if port == rtp { (first, neighbour) } else { (neighbour, first) };
        return Ok((pair, (rtp, rtcp)));
    }
    Err(io::ErrorKind::AddrInUse.into())
}

/// The address that means "any" in the family of `server`.
#[must_use]
pub const fn any_address(server: SocketAddr) -> IpAddr {
    match server {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

fn bound(
    address: IpAddr,
    port: u16,
    packet_info: bool,
    receive_bytes: usize,
) -> io::Result<Socket> {
    let address = SocketAddr::from((address, port));
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    udp::prepare(&socket, receive_bytes, packet_info)?;
    socket.bind(&SockAddr::from(address))?;
    Ok(socket)
}

fn local_port(socket: &Socket) -> io::Result<u16> {
    let address = socket.local_addr()?.as_socket();
    address.map(|address| address.port()).ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_addresses_count_up_through_loopback_and_back() {
        for index in [0, 1, 254, 255, 256, 70_000, 1_000_000] {
            let address = client_address(index).expect("room");
            assert_eq!(client_index(address), Some(index));
        }
        assert_eq!(client_address(0), Some(Ipv4Addr::new(127, 64, 0, 1)));
        assert_eq!(client_address(1 << 24), None);
        assert_eq!(client_index(Ipv4Addr::LOCALHOST), None);
        assert_eq!(client_index(Ipv4Addr::new(192, 0, 2, 1)), None);
    }

    #[test]
    fn port_pair_is_even_and_odd_and_its_own() {
        let (_first, (rtp, rtcp)) = port_pair(None, false, 1 << 16).expect("pair");
        let (_second, (other, _)) = port_pair(None, false, 1 << 16).expect("pair");
        assert_eq!((rtp % 2, rtcp), (0, rtp + 1));
        assert_ne!(rtp, other);
    }
}
