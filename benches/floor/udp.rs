//! Runs of equal packets to one socket: `sendmsg` with `UDP_SEGMENT`, or a turn's by one `enter`.
//!
//! ```text
//! slot: [gather][sockaddr][cmsg UDP_SEGMENT][msghdr]   one, or one for each send of a turn
//! ```
//! Invariants: slots never move, and one is not written to between its submission and its
//! completion; mapped addresses are handed to the kernel and never read.
//! Bound: [`SLOTS`] runs in the kernel at once.
#![allow(unsafe_code, reason = "messages for the kernel")]

use std::io;
use std::net::SocketAddrV4;
use std::os::fd::AsRawFd;
use std::time::Duration;

use rustix::net::sockopt;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::gather::{Gather, Head};
use crate::ring::{Batch, SLOTS};
use crate::send::Way;
use crate::shape::{COPIED_BYTES_MAX, PARTS_MAX, RunShape, TrackShape};

/// See the module.
pub(crate) struct UdpSender {
    /// Before `slots`: closed first.
    ring: Option<Batch>,
    slots: Box<[Slot]>,
    socket: Socket,
    way: Way,
    /// Sends that the kernel refused.
    pub(crate) refused: u64,
}

struct Slot {
    gather: Gather,
    address: libc::sockaddr_in,
    control: SegmentControl,
    message: libc::msghdr,
}

/// Size of the segments that UDP cuts a send into (udp(7)), as a control message (cmsg(3)).
#[repr(C, align(8))]
struct SegmentControl {
    bytes: usize,
    level: libc::c_int,
    kind: libc::c_int,
    segment_bytes: u16,
    padding: [u8; 6],
}

impl UdpSender {
    /// A socket like the server's RTP socket, at this address.
    pub(crate) fn new(way: Way, at: SocketAddrV4) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        sockopt::set_socket_send_buffer_size_force(&socket, SEND_BYTES)
            .or_else(|_| sockopt::set_socket_send_buffer_size(&socket, SEND_BYTES))?;
        socket.set_nonblocking(true)?;
        // Whole datagrams only, as the server's: the kernel then looks for no identification.
        sockopt::set_ip_mtu_discover(&socket, sockopt::Ipv4PathMtuDiscovery::DO)?;
        socket.bind(&SockAddr::from(at))?;
        let ring = match way {
            Way::Sendmsg => None,
            Way::Uring | Way::Image | Way::ImageZc => Some(Batch::new(&[socket.as_raw_fd()])?),
        };
        let count = if ring.is_some() { SLOTS } else { 1 };
        let slots = (0..count).map(|_| Slot::new()).collect();
        Ok(Self { ring, slots, socket, way, refused: 0 })
    }

    /// Sends a run, or queues it for the end of the turn.
    pub(crate) fn send(
        &mut self,
        track: &TrackShape,
        run: &RunShape,
        to: SocketAddrV4,
        head: Head,
    ) -> io::Result<()> {
        if self.ring.as_ref().is_some_and(|ring| ring.taken() == SLOTS) {
            self.enter(None)?;
        }
        let slot = &mut self.slots[self.ring.as_ref().map_or(0, Batch::taken)];
        slot.fill(track, run, to, head);
        self.send_slot()
    }

    /// The same with packets that stand in memory one behind the other. The bytes are to stay as
    /// they are until the turn has ended.
    pub(crate) fn send_range(
        &mut self,
        bytes: &[u8],
        segment_bytes: u16,
        packets: usize,
        to: SocketAddrV4,
    ) -> io::Result<()> {
        if self.ring.as_ref().is_some_and(|ring| ring.taken() == SLOTS) {
            self.enter(None)?;
        }
        let slot = &mut self.slots[self.ring.as_ref().map_or(0, Batch::taken)];
        slot.gather.start(0, 1);
        slot.gather.range(bytes);
        slot.point(packets, segment_bytes, to);
        self.send_slot()
    }

    /// Sends the slot that was filled, or queues it.
    fn send_slot(&mut self) -> io::Result<()> {
        let slot = &mut self.slots[self.ring.as_ref().map_or(0, Batch::taken)];
        let message = &raw const slot.message;
        let Some(ring) = &mut self.ring else {
            // SAFETY: `sendmsg` reads what `message` points to, while it runs.
            // - All pointers of the message were set by `point` and lie in the slot, which is
            //   borrowed, in bytes that the caller has just lent, or in the film's map, which
            //   `Shape` holds; the kernel checks the latter.
            // - The socket is open as long as `self`.
            let sent = unsafe { libc::sendmsg(self.socket.as_raw_fd(), message, FLAGS) };
            self.refused += u64::from(sent < 0);
            return Ok(());
        };
        // SAFETY: `push` requires message and pointers to stay as they are until `enter` returns.
        // - Slots are one boxed slice, which never moves and is dropped after the ring.
        // - The ring hands out a slot's number again only after `enter`.
        // - Addresses in the film's map are valid as long as `Shape`, and those in its pictures as
        //   long as `LiveShape`; both outlive the sender, and pictures change between turns only.
        // - Bytes that are sent without a copy lie in an image, which is never written to again;
        //   the kernel holds its pages, so it may be unmapped.
        unsafe { ring.push(0, message, FLAGS, self.way == Way::ImageZc) }
    }

    /// Submits what is queued; `wait`: and waits so long.
    pub(crate) fn enter(&mut self, wait: Option<Duration>) -> io::Result<()> {
        let Some(ring) = &mut self.ring else { return Ok(()) };
        let refused = &mut self.refused;
        ring.enter(wait, |_, result| *refused += u64::from(result < 0))
    }

    /// Notices of sends without a copy: not copied, copied.
    pub(crate) fn notices(&self) -> [u64; 2] {
        self.ring.as_ref().map_or([0, 0], |ring| ring.notices)
    }

    /// Whether sends wait for the end of the turn.
    pub(crate) const fn has_ring(&self) -> bool {
        self.ring.is_some()
    }
}

impl Slot {
    fn new() -> Self {
        // SAFETY: `zeroed` requires types for which all bytes zero are a value: these are C
        // structures of integers and pointers.
        let (address, message) = unsafe { std::mem::zeroed() };
        let control = SegmentControl {
            bytes: size_of::<libc::cmsghdr>() + size_of::<u16>(),
            level: libc::SOL_UDP,
            kind: libc::UDP_SEGMENT,
            segment_bytes: 0,
            padding: [0; 6],
        };
        Self { gather: Gather::default(), address, control, message }
    }

    /// Gathers a run and fills in the message; what fits was seen to when the run was cut.
    fn fill(&mut self, track: &TrackShape, run: &RunShape, to: SocketAddrV4, mut head: Head) {
        self.gather.start(COPIED_BYTES_MAX, PARTS_MAX);
        for packet in &track.packets[run.packets.clone()] {
            self.gather.packet(track, packet, head, None);
            head.seq = head.seq.plus(1);
        }
        self.point(run.packets.len(), run.segment_bytes, to);
    }

    /// Fills in the message around what was gathered.
    fn point(&mut self, packets: usize, segment_bytes: u16, to: SocketAddrV4) {
        self.address.sin_family = AF_INET;
        self.address.sin_port = to.port().to_be();
        self.address.sin_addr.s_addr = u32::from_ne_bytes(to.ip().octets());
        self.message.msg_name = (&raw mut self.address).cast();
        self.message.msg_namelen = ADDRESS_BYTES;
        let iovecs = self.gather.iovecs();
        self.message.msg_iov = iovecs.as_mut_ptr();
        self.message.msg_iovlen = iovecs.len();
        let is_single = packets == 1;
        self.control.segment_bytes = segment_bytes;
        self.message.msg_control =
            if is_single { std::ptr::null_mut() } else { (&raw mut self.control).cast() };
        self.message.msg_controllen = if is_single { 0 } else { size_of::<SegmentControl>() };
    }
}

/// As the server's RTP socket has.
const SEND_BYTES: usize = 8 << 20;
const FLAGS: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
#[expect(clippy::cast_possible_truncation, reason = "2 and 16")]
const AF_INET: libc::sa_family_t = libc::AF_INET as libc::sa_family_t;
#[expect(clippy::cast_possible_truncation, reason = "2 and 16")]
const ADDRESS_BYTES: libc::socklen_t = size_of::<libc::sockaddr_in>() as libc::socklen_t;
