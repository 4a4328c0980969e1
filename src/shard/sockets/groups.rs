//! Sockets of multicast: the pair that sends to groups, and the RTCP sockets of groups.
//!
//! ```text
//!  pair for groups       any even port and the next, sends to all groups of the shard
//!  RTCP socket, a track  joined to the group at its RTCP port: its members' reports (RFC 3550 s6)
//! ```
//! An RTCP socket is bound to the group's address, so it receives nothing of another group on the
//! same port. It shares the port with players of this host and with other shards.
//!
//! Bounds: one pair a shard; one RTCP socket for each track of the paths that sessions of the shard
//! have joined. A member whose reports have no socket is kept alive by its requests alone.
//! DESIGN section 5.9.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::open::{UdpPair, udp_pair};
use crate::consumers::Consumer;
use crate::consumers::receivers::GroupReceiver;
use crate::live::core::groups::{Group, MulticastSettings};
use crate::poll::poll_table::EntryKey;
use crate::shard::entries::Entries;
use crate::shard::ring::kernel::Kernel;
use crate::shard::ring::{Ring, RingError};

/// RTCP sockets of groups.
#[derive(Debug, Default)]
pub(in crate::shard) struct GroupSockets {
    /// Entries of the sockets, one for each track.
    by_path: HashMap<Arc<str>, Vec<EntryKey>>,
}

/// The source address of packets to the groups. `None`: there is no route to them yet.
#[must_use]
pub fn source_of(settings: &MulticastSettings) -> Option<Ipv4Addr> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).ok()?;
    choose_interface(&socket, settings).ok()?;
    let group = SocketAddr::new(settings.range.0.into(), settings.rtp);
    socket.connect(&group.into()).ok()?;
    let address = socket.local_addr().ok()?.as_socket_ipv4()?;
    Some(*address.ip()).filter(|ip| !ip.is_unspecified())
}

/// Opens a pair of sockets that send to groups.
///
/// # Errors
/// No ports are free, or the interface is not one of this host.
pub fn group_pair(settings: &MulticastSettings) -> io::Result<UdpPair> {
    let pair = udp_pair(IpAddr::V4(Ipv4Addr::UNSPECIFIED), None)?;
    for fd in [&pair.rtp, &pair.rtcp] {
        let socket = SockRef::from(fd);
        socket.set_multicast_ttl_v4(u32::from(settings.ttl))?;
        // Players of this host receive the packets too.
        socket.set_multicast_loop_v4(true)?;
        choose_interface(&socket, settings)?;
    }
    Ok(pair)
}

/// Joins a group and binds one of its ports.
fn rtcp_socket(address: Ipv4Addr, port: u16, settings: &MulticastSettings) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::new(address.into(), port).into())?;
    let interface = settings.interface.unwrap_or(Ipv4Addr::UNSPECIFIED);
    socket.join_multicast_v4(&address, &interface)?;
    Ok(socket.into())
}

fn choose_interface(socket: &Socket, settings: &MulticastSettings) -> io::Result<()> {
    settings.interface.map_or(Ok(()), |interface| socket.set_multicast_if_v4(&interface))
}

impl GroupSockets {
    /// Opens the RTCP socket of each track of a path's group, in place of those that are open.
    ///
    /// # Errors
    /// A socket cannot be opened; the sockets of earlier tracks are open.
    pub(in crate::shard) fn open(
        &mut self,
        ring: &mut Ring<impl Kernel>,
        entries: &mut Entries,
        (path, group, tracks): (&Arc<str>, Group, u8),
        settings: &MulticastSettings,
    ) -> Result<(), RingError> {
        let mut opened = Vec::with_capacity(usize::from(tracks));
        let mut open = |track| {
            let (_, port) = group.ports(track);
            let fd = rtcp_socket(group.address, port, settings)
                .map_err(|source| RingError::Register { source })?;
            let consumer = Consumer::Group(GroupReceiver { path: Arc::clone(path) });
            let (entry, _) = entries.install_datagrams(ring, consumer, fd)?;
            opened.push(entry);
            Ok(())
        };
        let result = (0..tracks).try_for_each(&mut open);
        let before = self.by_path.insert(Arc::clone(path), opened);
        for entry in before.into_iter().flatten() {
            entries.remove(ring, entry);
        }
        result
    }

    /// Closes the RTCP sockets of a path's group.
    pub(in crate::shard) fn close(
        &mut self,
        ring: &mut Ring<impl Kernel>,
        entries: &mut Entries,
        path: &str,
    ) {
        for entry in self.by_path.remove(path).into_iter().flatten() {
            entries.remove(ring, entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pair_for_groups_has_the_time_to_live_and_loopback_that_are_configured() {
        let settings = MulticastSettings { ttl: 3, ..MulticastSettings::default() };
        let pair = group_pair(&settings).unwrap();
        let rtp = SockRef::from(&pair.rtp);
        assert_eq!(rtp.multicast_ttl_v4().unwrap(), 3);
        assert!(rtp.multicast_loop_v4().unwrap());
        let foreign = Some(Ipv4Addr::new(192, 0, 2, 77));
        let settings = MulticastSettings { interface: foreign, ..settings };
        assert!(group_pair(&settings).is_err(), "no interface of this host");
        assert_eq!(source_of(&settings), None);
    }

    #[test]
    fn rtcp_sockets_of_groups_share_a_port_and_receive_their_own_group() {
        let interface = Some(Ipv4Addr::LOCALHOST);
        let settings = MulticastSettings { interface, ..MulticastSettings::default() };
        assert_eq!(source_of(&settings), Some(Ipv4Addr::LOCALHOST));
        let port = udp_pair(IpAddr::V4(Ipv4Addr::LOCALHOST), None).unwrap().rtp_port;
        let groups = [Ipv4Addr::new(239, 255, 7, 1), Ipv4Addr::new(239, 255, 7, 2)];
        let sockets: Vec<_> = [groups[0], groups[0], groups[1]]
            .into_iter()
            .map(|group| std::net::UdpSocket::from(rtcp_socket(group, port, &settings).unwrap()))
            .collect();
        let sender = std::net::UdpSocket::from(group_pair(&settings).unwrap().rtcp);
        sender.send_to(b"report", (groups[0], port)).unwrap();
        sender.send_to(b"second", (groups[1], port)).unwrap();
        let received = |socket: &std::net::UdpSocket| {
            socket.set_nonblocking(false).unwrap();
            let mut bytes = [0; 16];
            let count = socket.recv(&mut bytes).unwrap();
            bytes[..count].to_vec()
        };
        assert_eq!(
            sockets.iter().map(received).collect::<Vec<_>>(),
            [b"report", b"report", b"second"]
        );
        sockets[0].set_nonblocking(true).unwrap();
        assert!(sockets[0].recv(&mut [0; 16]).is_err(), "nothing of the other group");
    }
}
