//! Sockets of inputs, which are sources that listen (`udp://`, SDP files).
//!
//! ```text
//!  OpenInput --> socket --bind--> group: joined --> PollTable row, multishot receive
//!                  `-- any failure --> all sockets of the input are closed, and it is told why
//! ```
//! A socket for a group is bound to the group's address, so it receives no packet to another group
//! or to this host. A socket for RTCP may fail: the port above may be another source's.
//!
//! Invariant: an input has all its RTP sockets or none.
//! Bound: a row of the PollTable for each socket.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::membership::{interface_index, join_group};
use super::open::input_udp;
use crate::base::host::Host;
use crate::base::time::Mono;
use crate::consumers::Consumer;
use crate::consumers::input_receiver::InputReceiver;
use crate::poll::poll_table::EntryKey;
use crate::session::action::InputSocket;
use crate::shard::entries::Entries;
use crate::shard::ring::kernel::Kernel;
use crate::shard::ring::{Ring, RingError};

/// Open sockets of all inputs of a shard.
#[derive(Debug, Default)]
pub(in crate::shard) struct Inputs {
    /// Entries of open sockets, each with the number of its input.
    open: Vec<(u32, EntryKey, InputSocket)>,
    /// Sockets of another process, until their inputs are opened.
    inherited: Vec<Inherited>,
    /// When those are closed that no input has asked for.
    inherited_until: Option<Mono>,
    /// Datagrams at sockets that were opened so: row of the socket, sender, bytes.
    came: Vec<(EntryKey, SocketAddr, Vec<u8>)>,
}

/// A socket that another process has bound, with the datagrams that came to it there.
#[derive(Debug)]
struct Inherited {
    socket: InputSocket,
    fd: OwnedFd,
    datagrams: Vec<(SocketAddr, Vec<u8>)>,
}

/// Why a socket of an input cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(in crate::shard) enum InputError {
    /// The host has no such interface.
    #[error("there is no interface {name} ({source})")]
    NoInterface {
        /// Name in the configuration.
        name: String,
        /// Error of the kernel.
        source: io::Error,
    },
    /// The address is taken by another program, or not of this host.
    #[error("cannot listen at {to} ({source})")]
    Bind {
        /// Address of the socket.
        to: SocketAddr,
        /// Error of the kernel.
        source: io::Error,
    },
    /// There is no route to the group, or the socket has joined too many groups.
    #[error("cannot join the group {group} ({source})")]
    Join {
        /// Address of the group.
        group: IpAddr,
        /// Error of the kernel.
        source: io::Error,
    },
    /// The PollTable or the ring is full.
    #[error("cannot receive at {to} ({source})")]
    Enter {
        /// Address of the socket.
        to: SocketAddr,
        /// The full table.
        source: RingError,
    },
}

impl Inputs {
    /// Opens one socket of an input.
    ///
    /// # Errors
    /// The socket cannot be opened, or its entry made; other sockets of the input stay open.
    pub(in crate::shard) fn open(
        &mut self,
        ring: &mut Ring<impl Kernel>,
        entries: &mut Entries,
        number: u32,
        socket: &InputSocket,
    ) -> Result<(), InputError> {
        let (fd, came) = match self.take_inherited(socket) {
            Some(Inherited { fd, datagrams, .. }) => (fd, datagrams),
            None => (open(socket)?, Vec::new()),
        };
        let &InputSocket { track, is_rtcp, to, .. } = socket;
        let consumer = Consumer::Input(InputReceiver { number, track, is_rtcp });
        let entered = entries.install_datagrams(ring, consumer, fd);
        let (entry, _) = entered.map_err(|source| InputError::Enter { to, source })?;
        self.open.push((number, entry, socket.clone()));
        self.came.extend(came.into_iter().map(|(from, bytes)| (entry, from, bytes)));
        Ok(())
    }

    /// Open sockets, with the numbers of their inputs.
    pub(in crate::shard) fn each(&self) -> impl Iterator<Item = (u32, EntryKey, &InputSocket)> {
        self.open.iter().map(|(number, entry, socket)| (*number, *entry, socket))
    }

    /// Keeps a socket of another process, which has bound it and joined its group.
    pub(in crate::shard) fn inherit(
        &mut self,
        socket: InputSocket,
        fd: OwnedFd,
        datagrams: Vec<(SocketAddr, Vec<u8>)>,
    ) {
        self.inherited.push(Inherited { socket, fd, datagrams });
    }

    /// Inputs begin now: those sockets that none asks for are closed soon, or their addresses would
    /// be in use and their groups joined for nobody.
    pub(in crate::shard) fn begin(&mut self, now: Mono) {
        self.inherited_until = Some(now + INHERITED_TIME);
    }

    /// Closes sockets of another process that no input has asked for in time.
    pub(in crate::shard) fn close_unclaimed(&mut self, now: Mono) {
        if self.inherited_until.is_some_and(|until| until <= now) {
            self.inherited_until = None;
            self.inherited = Vec::new();
        }
    }

    /// Takes out the datagrams that came to the other process.
    pub(in crate::shard) fn take_came(&mut self) -> Vec<(EntryKey, SocketAddr, Vec<u8>)> {
        std::mem::take(&mut self.came)
    }

    fn take_inherited(&mut self, socket: &InputSocket) -> Option<Inherited> {
        let place = self.inherited.iter().position(|one| one.socket.is_like(socket))?;
        Some(self.inherited.swap_remove(place))
    }

    /// Closes all sockets of an input.
    pub(in crate::shard) fn close(
        &mut self,
        ring: &mut Ring<impl Kernel>,
        entries: &mut Entries,
        number: u32,
    ) {
        for (_, entry, _) in self.open.extract_if(.., |(of, ..)| *of == number) {
            entries.remove(ring, entry);
        }
    }
}

fn open(socket: &InputSocket) -> Result<OwnedFd, InputError> {
    let (to, interface) = by_interface(socket)?;
    let is_ours = |error: &io::Error| {
        error.kind() != io::ErrorKind::AddrNotAvailable && !Host::of(to).lacks_interface()
    };
    let bound = match input_udp(to) {
        Err(error) if socket.may_widen && !is_ours(&error) => {
            let any: IpAddr = match to.ip() {
                IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            input_udp(SocketAddr::new(any, to.port()))
        }
        bound => bound,
    };
    let fd = bound.map_err(|source| InputError::Bind { to, source })?;
    let group = to.ip();
    if group.is_multicast() {
        join_group(&fd, group, &socket.senders, interface)
            .map_err(|source| InputError::Join { group, source })?;
    }
    Ok(fd)
}

/// The address to bind, and the index of the interface on which a group is joined (0: the routing
/// table decides). The address of one link has the interface as its scope.
fn by_interface(socket: &InputSocket) -> Result<(SocketAddr, u32), InputError> {
    let host = Host::of(socket.to);
    let is_needed = host.lacks_interface() || host.ip().is_multicast();
    let interface = match &socket.interface {
        Some(name) if is_needed => interface_index(name)
            .map_err(|source| InputError::NoInterface { name: name.clone(), source })?,
        Some(_) | None => host.scope_id().unwrap_or(0),
    };
    let bound = if host.lacks_interface() { Host::new(host.ip(), interface) } else { host };
    Ok((bound.at(socket.to.port()), interface))
}

/// For a worker to read a description, and more.
const INHERITED_TIME: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    fn socket(to: SocketAddr, senders: &[&str]) -> InputSocket {
        InputSocket {
            track: 0,
            is_rtcp: false,
            to,
            senders: senders.iter().map(|sender| sender.parse().unwrap()).collect(),
            interface: Some("lo".to_owned()),
            may_widen: false,
        }
    }

    /// Sends to a group by loopback, as `from`, and gives what `listener` has got of it.
    fn reaches(listener: &OwnedFd, from: &str, to: SocketAddr) -> bool {
        let sender =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
        let address: SocketAddr = format!("{from}:0").parse().unwrap();
        sender.bind(&address.into()).unwrap();
        sender.set_multicast_if_v4(&Ipv4Addr::LOCALHOST).unwrap();
        sender.send_to(b"x", &to.into()).unwrap();
        let listener = UdpSocket::from(listener.try_clone().unwrap());
        // What is sent over loopback is there when the call returns.
        listener.set_nonblocking(true).unwrap();
        let mut buffer = [0; 9];
        listener
            .recv_from(&mut buffer)
            .is_ok_and(|(bytes, by)| bytes == 1 && by.ip() == address.ip())
    }

    /// A group and port that nobody else uses.
    fn group(last: u8) -> SocketAddr {
        let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        SocketAddr::from(([232, 77, 5, last], free))
    }

    #[test]
    fn group_is_heard_and_another_group_of_the_same_port_is_not() {
        let to = group(1);
        let other = SocketAddr::new("232.77.5.2".parse().unwrap(), to.port());
        let first = open(&socket(to, &[])).unwrap();
        let second = open(&socket(other, &[])).unwrap();
        assert!(reaches(&first, "127.0.0.1", to));
        assert!(!reaches(&second, "127.0.0.1", to) && reaches(&second, "127.0.0.1", other));
        let again = open(&socket(to, &[])).unwrap();
        assert!(reaches(&again, "127.0.0.1", to), "two of a host may hear one group");
    }

    #[test]
    fn group_of_one_sender_gets_nothing_of_another() {
        let to = group(3);
        let listener = open(&socket(to, &["127.0.0.7", "127.0.0.9"])).unwrap();
        assert!(reaches(&listener, "127.0.0.7", to) && reaches(&listener, "127.0.0.9", to));
        assert!(!reaches(&listener, "127.0.0.8", to));
    }

    #[test]
    fn group_of_ipv6_is_joined_for_all_or_for_one_sender() {
        let to: SocketAddr = "[ff15::7705]:45004".parse().unwrap();
        if socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::DGRAM, None).is_err() {
            return;
        }
        for senders in [&[][..], &["::1"]] {
            let opened = open(&socket(to, senders));
            assert!(opened.is_ok(), "{opened:?}");
        }
        // A group of one link is bound by the interface.
        let to: SocketAddr = "[ff02::7705]:45006".parse().unwrap();
        let opened = open(&socket(to, &[])).unwrap();
        let lo = interface_index("lo").unwrap();
        let bound = crate::shard::sockets::local_addr(&opened).unwrap();
        assert_eq!(bound, Host::new(to.ip(), lo).at(to.port()));
        let unsaid = InputSocket { interface: None, ..socket(to, &[]) };
        assert!(matches!(open(&unsaid), Err(InputError::Bind { .. })));
        let numbered = InputSocket { to: bound, interface: None, ..socket(to, &[]) };
        assert!(open(&numbered).is_ok());
    }

    /// Its port stayed bound, and days later a source that matched was fed old datagrams.
    #[test]
    fn socket_of_another_process_is_closed_when_nobody_asks_for_it_in_time() {
        let to = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let asked = socket(to, &[]);
        let mut inputs = Inputs::default();
        let inherit = |inputs: &mut Inputs| {
            let fd = open(&asked).unwrap();
            inputs.inherit(asked.clone(), fd, vec![(to, b"old".to_vec())]);
        };
        inherit(&mut inputs);
        inputs.close_unclaimed(Mono(u64::MAX));
        let other = InputSocket { interface: None, ..asked.clone() };
        assert!(inputs.take_inherited(&other).is_none());
        let got = inputs.take_inherited(&asked).unwrap();
        assert_eq!(got.datagrams, [(to, b"old".to_vec())]);
        drop(got);
        inherit(&mut inputs);
        let begun = Mono(7);
        inputs.begin(begun);
        inputs.close_unclaimed(begun + Duration::from_millis(4_999));
        assert!(matches!(open(&asked), Err(InputError::Bind { .. })), "it is kept");
        inputs.close_unclaimed(begun + INHERITED_TIME);
        assert!(inputs.take_inherited(&asked).is_none() && open(&asked).is_ok());
    }

    #[test]
    fn what_cannot_be_opened_says_why() {
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let holder = UdpSocket::bind(taken).unwrap();
        let error = open(&socket(taken, &[])).unwrap_err().to_string();
        assert!(error.contains(&format!("cannot listen at {taken}")), "{error}");
        drop(holder);
        let foreign = SocketAddr::new("192.0.2.1".parse().unwrap(), taken.port());
        assert!(matches!(open(&socket(foreign, &[])), Err(InputError::Bind { .. })));
        let widened = InputSocket { may_widen: true, ..socket(foreign, &[]) };
        assert!(open(&widened).is_ok());
        let nowhere = InputSocket { interface: Some("none0".to_owned()), ..socket(group(4), &[]) };
        let error = open(&nowhere).unwrap_err().to_string();
        assert!(error.contains("there is no interface none0"), "{error}");
    }
}
