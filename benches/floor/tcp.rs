//! Whole frames to a connection each, interleaved (RFC 2326 s10.12): one gather-send a frame.
//!
//! ```text
//! slot: [gather][msghdr]   one, or one for each send of a turn
//! ```
//! Invariants: at most one send is in the kernel for a connection, and it is finished before the
//! next begins, or the packets would mix; slots never move. See `udp` for the rest.
//! Bound: [`SLOTS`] frames in the kernel at once; a receiver that reads nothing for [`ROOM_WAIT`]
//! ends the run.
#![allow(unsafe_code, reason = "messages for the kernel")]

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use headend::shard::sockets::{listen_tcp, set_stream_options};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::gather::{Gather, Head};
use crate::ring::{Batch, SLOTS};
use crate::send::Way;
use crate::shape::TrackShape;

/// See the module.
pub(crate) struct TcpSender {
    /// Before `slots`: closed first.
    ring: Option<Batch>,
    slots: Box<[Slot]>,
    connections: Vec<Connection>,
    /// Connections with a send in the ring.
    busy: Vec<u32>,
    /// Sends that found no room and had to wait for the receiver.
    pub(crate) waits: u64,
    /// Sends that failed.
    pub(crate) refused: u64,
}

struct Connection {
    socket: OwnedFd,
    is_busy: bool,
}

struct Slot {
    gather: Gather,
    message: libc::msghdr,
}

impl TcpSender {
    /// Takes so many connections at `listener`, with the options that the server's have.
    pub(crate) fn accept(way: Way, listener: &TcpListener, count: usize) -> io::Result<Self> {
        let mut connections = Vec::with_capacity(count);
        for _ in 0..count {
            wait_for(listener, PollFlags::IN)?;
            let socket = OwnedFd::from(listener.accept()?.0);
            set_stream_options(&socket)?;
            connections.push(Connection { socket, is_busy: false });
        }
        let fds: Vec<_> = connections.iter().map(|one| one.socket.as_raw_fd()).collect();
        let ring = match way {
            Way::Sendmsg => None,
            Way::Uring | Way::Image | Way::ImageZc => Some(Batch::new(&fds)?),
        };
        let slots = if ring.is_some() { SLOTS } else { 1 };
        let slots = (0..slots).map(|_| Slot::new()).collect();
        Ok(Self { ring, slots, connections, busy: Vec::new(), waits: 0, refused: 0 })
    }

    /// Sends packets of a frame, or queues them for the end of the turn. How many it took: what one
    /// send can gather.
    pub(crate) fn send(
        &mut self,
        track: &TrackShape,
        packets: Range<usize>,
        (connection, channel): (u32, u8),
        head: Head,
    ) -> io::Result<usize> {
        let index = connection as usize;
        let is_full = self.ring.as_ref().is_some_and(|ring| ring.taken() == SLOTS);
        if is_full || self.connections[index].is_busy {
            self.enter(None)?;
        }
        let slot = &mut self.slots[self.ring.as_ref().map_or(0, Batch::taken)];
        let taken = slot.fill(track, packets, channel, head);
        self.send_slot(connection)?;
        Ok(taken)
    }

    /// The same with bytes that are framed already. They are to stay as they are until the turn has
    /// ended.
    pub(crate) fn send_range(&mut self, bytes: &[u8], connection: u32) -> io::Result<()> {
        let is_full = self.ring.as_ref().is_some_and(|ring| ring.taken() == SLOTS);
        if is_full || self.connections[connection as usize].is_busy {
            self.enter(None)?;
        }
        let slot = &mut self.slots[self.ring.as_ref().map_or(0, Batch::taken)];
        slot.gather.start(0, 1);
        slot.gather.range(bytes);
        slot.point();
        self.send_slot(connection)
    }

    /// Sends the slot that was filled, or queues it.
    fn send_slot(&mut self, connection: u32) -> io::Result<()> {
        let index = connection as usize;
        let slot = &mut self.slots[self.ring.as_ref().map_or(0, Batch::taken)];
        let Some(ring) = &mut self.ring else { return self.send_now(index) };
        // SAFETY: `push` requires message and pointers to stay as they are until `enter` returns.
        // - Slots are one boxed slice, which never moves and is dropped after the ring; a gather's
        //   memory changes in `fill` alone.
        // - The ring hands out a slot's number again only after `enter`.
        // - Addresses in the film's map are valid as long as `Shape`, and those in its pictures as
        //   long as `LiveShape`; both outlive the sender, and pictures change between turns only.
        unsafe {
            ring.push(connection, &raw const slot.message, FLAGS | libc::MSG_WAITALL, false)
        }?;
        self.connections[index].is_busy = true;
        self.busy.push(connection);
        Ok(())
    }

    /// Submits what is queued; `wait`: and waits so long.
    pub(crate) fn enter(&mut self, wait: Option<Duration>) -> io::Result<()> {
        let Some(ring) = &mut self.ring else { return Ok(()) };
        let (slots, refused) = (&self.slots, &mut self.refused);
        ring.enter(wait, |number, result| {
            let expected = slots.get(number).map(|slot| slot.gather.bytes());
            *refused += u64::from(usize::try_from(result).ok() != expected);
        })?;
        for connection in self.busy.drain(..) {
            self.connections[connection as usize].is_busy = false;
        }
        Ok(())
    }

    /// Whether sends wait for the end of the turn.
    pub(crate) const fn has_ring(&self) -> bool {
        self.ring.is_some()
    }

    /// Sends the only slot to its end.
    fn send_now(&mut self, connection: usize) -> io::Result<()> {
        let socket = &self.connections[connection].socket;
        let slot = &mut self.slots[0];
        // Bounded: each round sends something, or waits for room until that takes too long.
        while slot.gather.bytes() > 0 {
            slot.point();
            let flags = FLAGS | libc::MSG_DONTWAIT;
            // SAFETY: `sendmsg` reads what the message points to, while it runs. Its pointers were
            // set by `point` and lie in the gather, which is borrowed, in bytes that outlive the
            // turn, or in the film's map, which `Shape` holds; the kernel checks the latter. The
            // socket is open as long as `self`.
            let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const slot.message, flags) };
            match usize::try_from(sent) {
                Ok(sent) => slot.gather.advance(sent),
                Err(_) => match io::Error::last_os_error() {
                    error if error.kind() == io::ErrorKind::WouldBlock => {
                        self.waits += 1;
                        wait_for(socket, PollFlags::OUT)?;
                    }
                    error => return Err(error),
                },
            }
        }
        Ok(())
    }
}

impl Slot {
    fn new() -> Self {
        // SAFETY: `zeroed` requires a type for which all bytes zero are a value: this is a C
        // structure of integers and pointers.
        let message = unsafe { std::mem::zeroed() };
        Self { gather: Gather::default(), message }
    }

    /// Gathers as many of the packets as one send takes; how many that are.
    fn fill(
        &mut self,
        track: &TrackShape,
        packets: Range<usize>,
        channel: u8,
        mut head: Head,
    ) -> usize {
        let (mut copied, mut parts, mut count) = (0, 0, 0);
        for at in packets.clone() {
            let needs = track.needs(at);
            if count > 0 && parts + needs.parts > PARTS_MAX {
                break;
            }
            copied += CHANNEL_HEADER_BYTES + needs.copied_bytes;
            parts += needs.parts;
            count += 1;
        }
        self.gather.start(copied, parts);
        for packet in &track.packets[packets.start..packets.start + count] {
            self.gather.packet(track, packet, head, Some(channel));
            head.seq = head.seq.plus(1);
        }
        self.point();
        count
    }

    fn point(&mut self) {
        let iovecs = self.gather.iovecs();
        self.message.msg_iov = iovecs.as_mut_ptr();
        self.message.msg_iovlen = iovecs.len();
    }
}

/// Where the receiver connects to: a socket like the server's.
pub(crate) fn listen() -> io::Result<TcpListener> {
    let listener = TcpListener::from(listen_tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?);
    listener.set_nonblocking(false)?;
    Ok(listener)
}

fn wait_for(socket: impl std::os::fd::AsFd, what: PollFlags) -> io::Result<()> {
    let mut fds = [PollFd::new(&socket, what)];
    if poll(&mut fds, Some(&ROOM_WAIT))? == 0 {
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(())
}

/// As in the server: the kernel takes 1,024.
const PARTS_MAX: usize = 900;
/// `$`, channel, length.
const CHANNEL_HEADER_BYTES: usize = 4;
const FLAGS: libc::c_int = libc::MSG_NOSIGNAL;
const ROOM_WAIT: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };
