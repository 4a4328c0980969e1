//! Sockets of multicast: the pair that a shard sends to groups by, and the ears that hear reports.
//!
//! ```text
//!  pair for groups   any even port and the next, sends to all groups of the shard
//!  ears of a group   group:rtcp of each track, joined: what its members report (RFC 3550 s6)
//! ```
//! Ears are bound to the group's address, so that none hears another group on the same port, and
//! share the port with players of this host and with other shards. Bound: a pair a shard, and an
//! ear each track of the paths that sessions of the shard have joined; where no more can be had,
//! members are known to live by their requests only. DESIGN section 5.9.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::open::{Family, UdpPair, udp_pair};
use crate::consumers::Consumer;
use crate::consumers::receivers::GroupReceiver;
use crate::live::core::groups::{Group, MulticastSettings};
use crate::poll::poll_table::EntryKey;
use crate::session::action::GroupAction;
use crate::shard::ring::RingError;
use crate::shard::turn::Shard;

/// The address that packets to the groups would come from. `None`: there is no route to them, yet.
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
/// There are no free ports, or the interface is not ours.
pub fn group_pair(settings: &MulticastSettings) -> io::Result<UdpPair> {
    let pair = udp_pair(IpAddr::V4(Ipv4Addr::UNSPECIFIED), None)?;
    for fd in [&pair.rtp, &pair.rtcp] {
        let socket = SockRef::from(fd);
        socket.set_multicast_ttl_v4(u32::from(settings.ttl))?;
        // Players of this host hear it too.
        socket.set_multicast_loop_v4(true)?;
        choose_interface(&socket, settings)?;
    }
    Ok(pair)
}

/// Opens an ear: joins the group and listens on one of its ports.
fn listen_to(address: Ipv4Addr, port: u16, settings: &MulticastSettings) -> io::Result<OwnedFd> {
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

impl Shard {
    /// What the sessions want of groups.
    pub(in crate::shard) fn act_for_group(&mut self, action: GroupAction) {
        match action {
            GroupAction::OpenPair(settings) => self.open_group_pair(&settings),
            GroupAction::Hear { path, group, tracks } => self.hear_group(&path, group, tracks),
            GroupAction::Leave(path) => {
                let ears = self.ears.remove(&path);
                self.close_ears(ears.unwrap_or_default());
            }
        }
    }

    fn open_group_pair(&mut self, settings: &MulticastSettings) {
        if self.sessions.cx.sockets.group_pair().is_some() {
            return;
        }
        let opened = group_pair(settings).map_err(|source| RingError::Register { source });
        let opened = opened.and_then(|pair| self.add_pair_for(pair, Family::V4, true));
        match opened {
            Ok(_) => self
                .sessions
                .live
                .readers
                .start_groups(&mut self.sessions.cx, &mut self.sessions.live.hub),
            Err(error) => self.warn_once("nothing can be sent to groups", &error),
        }
    }

    /// Listens to the reports of a group.
    fn hear_group(&mut self, path: &Arc<str>, group: Group, tracks: u8) {
        let Some(settings) = self.sessions.live.hub.multicast else { return };
        let mut ears = Vec::with_capacity(usize::from(tracks));
        for track in 0..tracks {
            let (_, port) = group.ports(track);
            let opened = listen_to(group.address, port, &settings);
            let opened = opened.map_err(|source| RingError::Register { source });
            let consumer = Consumer::Group(GroupReceiver { path: Arc::clone(path) });
            let ring = &mut self.ring;
            let entered = opened.and_then(|fd| self.entries.install_datagrams(ring, consumer, fd));
            match entered {
                Ok((entry, _)) => ears.push(entry),
                Err(error) => {
                    self.warn_once("what a group's players report is not heard", &error);
                    break;
                }
            }
        }
        let old = self.ears.insert(Arc::clone(path), ears);
        self.close_ears(old.unwrap_or_default());
    }

    fn close_ears(&mut self, ears: Vec<EntryKey>) {
        for entry in ears {
            self.entries.remove(&mut self.ring, entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pair_for_groups_sends_as_far_as_it_may_and_is_heard_here() {
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
    fn loopback_is_an_interface_for_groups_and_ears_share_a_port() {
        let interface = Some(Ipv4Addr::LOCALHOST);
        let settings = MulticastSettings { interface, ..MulticastSettings::default() };
        assert_eq!(source_of(&settings), Some(Ipv4Addr::LOCALHOST));
        let port = udp_pair(IpAddr::V4(Ipv4Addr::LOCALHOST), None).unwrap().rtp_port;
        let groups = [Ipv4Addr::new(239, 255, 7, 1), Ipv4Addr::new(239, 255, 7, 2)];
        let ears: Vec<_> = [groups[0], groups[0], groups[1]]
            .into_iter()
            .map(|group| std::net::UdpSocket::from(listen_to(group, port, &settings).unwrap()))
            .collect();
        let sender = std::net::UdpSocket::from(group_pair(&settings).unwrap().rtcp);
        sender.send_to(b"report", (groups[0], port)).unwrap();
        sender.send_to(b"second", (groups[1], port)).unwrap();
        let heard = |ear: &std::net::UdpSocket| {
            ear.set_nonblocking(false).unwrap();
            let mut bytes = [0; 16];
            let count = ear.recv(&mut bytes).unwrap();
            bytes[..count].to_vec()
        };
        assert_eq!(ears.iter().map(heard).collect::<Vec<_>>(), [b"report", b"report", b"second"]);
        ears[0].set_nonblocking(true).unwrap();
        assert!(ears[0].recv(&mut [0; 16]).is_err(), "nothing of the other group");
    }
}
