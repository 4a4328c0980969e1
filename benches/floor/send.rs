//! The sends themselves: one `sendmsg` a run, or a turn's runs by one `io_uring_enter`.
//!
//! ```text
//! slot: [copied headers][iovecs][sockaddr][cmsg UDP_SEGMENT][msghdr]   one, or one a run of a turn
//! ```
//! All unsafe code of this bench is here.
//! Invariants: slots never move, and one is not written to between its submission and its
//! completion; mapped addresses are handed to the kernel and never read.
//! Bound: [`SLOTS`] runs in the kernel at once.
#![allow(unsafe_code, reason = "messages for the kernel")]

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd;
use std::time::Duration;

use headend::base::ids::{RtpTs, SeqNo, Ssrc};
use headend::base::time::Mono;
use headend::rtp::{self, HEADER_BYTES};
use io_uring::types::{Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::pace::clock;
use crate::shape::{COPIED_BYTES_MAX, PARTS_MAX, Part, RunShape, TrackShape};

/// How sends reach the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Way {
    /// A system call for each run.
    Sendmsg,
    /// A system call for each turn.
    Uring,
}

impl Way {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Sendmsg => "sendmsg",
            Self::Uring => "io_uring",
        }
    }
}

/// What is different for each client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    pub(crate) to: SocketAddrV4,
    pub(crate) ssrc: Ssrc,
    pub(crate) seq: SeqNo,
    pub(crate) ts: RtpTs,
}

/// See the module.
pub(crate) struct Sender {
    /// Before `slots`: closed first.
    ring: Option<IoUring>,
    slots: Box<[Slot]>,
    socket: Socket,
    /// Slots whose sends are queued or in the kernel: the first ones.
    taken: usize,
    /// Sends that the kernel refused.
    pub(crate) refused: u64,
}

struct Slot {
    copied: [u8; COPIED_BYTES_MAX],
    iovecs: [libc::iovec; PARTS_MAX],
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

impl Sender {
    /// A socket like the server's RTP socket.
    pub(crate) fn new(way: Way) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        rustix::net::sockopt::set_socket_send_buffer_size_force(&socket, SEND_BYTES)
            .or_else(|_| rustix::net::sockopt::set_socket_send_buffer_size(&socket, SEND_BYTES))?;
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)))?;
        let ring = match way {
            Way::Sendmsg => None,
            Way::Uring => {
                let ring = IoUring::builder()
                    .setup_single_issuer()
                    .setup_defer_taskrun()
                    .setup_submit_all()
                    .build(u32::try_from(SLOTS).unwrap_or(u32::MAX))?;
                ring.submitter().register_files(&[socket.as_raw_fd()])?;
                Some(ring)
            }
        };
        let count = if ring.is_some() { SLOTS } else { 1 };
        let slots = (0..count).map(|_| Slot::new()).collect();
        Ok(Self { ring, slots, socket, taken: 0, refused: 0 })
    }

    /// Sends a run, or queues it for the end of the turn.
    pub(crate) fn send(
        &mut self,
        track: &TrackShape,
        run: &RunShape,
        head: Head,
    ) -> io::Result<()> {
        if self.taken == self.slots.len() {
            self.enter(0, None)?;
        }
        let slot = &mut self.slots[self.taken];
        slot.fill(track, run, head);
        let message = &raw const slot.message;
        let Some(ring) = &mut self.ring else {
            // SAFETY: `sendmsg` reads what `message` points to, while it runs.
            // - All pointers of the message were set by `fill` and lie in the slot, which is
            //   borrowed, or in the film's map, which `Shape` holds; the kernel checks the latter.
            // - The socket is open as long as `self`.
            let sent = unsafe { libc::sendmsg(self.socket.as_raw_fd(), message, FLAGS) };
            self.refused += u64::from(sent < 0);
            return Ok(());
        };
        let entry = opcode::SendMsg::new(Fixed(0), message).flags(FLAGS.cast_unsigned()).build();
        // SAFETY: `push` requires the entry's pointers to be valid until its completion is taken.
        // - Slots are one boxed slice, which never moves and is dropped after the ring.
        // - This slot is written to again only after `enter`, which waits for the completions of
        //   all that is taken, has set `taken` back.
        // - Addresses in the film's map are valid as long as `Shape`, which outlives the sender.
        let pushed = unsafe { ring.submission().push(&entry) };
        pushed.map_err(io::Error::other)?;
        self.taken += 1;
        Ok(())
    }

    /// Ends a turn: submits what is queued and waits until `until`.
    pub(crate) fn finish_turn(&mut self, until: Mono) -> io::Result<()> {
        let wait = until.since(clock());
        if self.ring.is_some() {
            return self.enter(1, Some(wait));
        }
        if !wait.is_zero() {
            std::thread::sleep(wait);
        }
        Ok(())
    }

    /// One system call that submits, and waits for `more` completions that never come: for time.
    fn enter(&mut self, more: usize, wait: Option<Duration>) -> io::Result<()> {
        let Some(ring) = &mut self.ring else { return Ok(()) };
        let mut reaped = 0;
        let time = wait.map(Timespec::from);
        let mut is_first = true;
        // Bounded: sends do not wait (MSG_DONTWAIT), so each completes as it is submitted.
        while is_first || reaped < self.taken {
            let args = SubmitArgs::new();
            let args = time.as_ref().map_or(args, |time| args.timespec(time));
            match ring.submitter().submit_with_args(self.taken - reaped + more, &args) {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::ETIME) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            for completion in ring.completion() {
                self.refused += u64::from(completion.result() < 0);
                reaped += 1;
            }
            is_first = false;
        }
        self.taken = 0;
        Ok(())
    }
}

impl Slot {
    fn new() -> Self {
        // SAFETY: `zeroed` requires types for which all bytes zero are a value: these are C
        // structures of integers and pointers.
        let (iovecs, address, message) = unsafe { std::mem::zeroed() };
        let control = SegmentControl {
            bytes: size_of::<libc::cmsghdr>() + size_of::<u16>(),
            level: libc::SOL_UDP,
            kind: libc::UDP_SEGMENT,
            segment_bytes: 0,
            padding: [0; 6],
        };
        Self { copied: [0; COPIED_BYTES_MAX], iovecs, address, control, message }
    }

    /// Gathers a run and fills in the message; what fits was seen to when the run was cut.
    fn fill(&mut self, track: &TrackShape, run: &RunShape, head: Head) {
        let (mut copied, mut count) = (0, 0);
        let mut seq = head.seq;
        let mut header = [0; HEADER_BYTES];
        for packet in &track.packets[run.packets.clone()] {
            let (marker, ts) = (packet.marker, head.ts);
            rtp::write_header(&mut header, marker, track.payload_type, seq, ts, head.ssrc);
            seq = seq.plus(1);
            let mut is_open = false;
            copied = self.copy(&header, copied, &mut count, &mut is_open);
            for part in &track.parts[packet.parts.clone()] {
                match part {
                    Part::Copied(range) => {
                        let bytes = &track.inline[range.clone()];
                        copied = self.copy(bytes, copied, &mut count, &mut is_open);
                    }
                    Part::Mapped { address, bytes } => {
                        self.iovecs[count].iov_base = address.cast_mut().cast();
                        self.iovecs[count].iov_len = usize::from(*bytes);
                        count += 1;
                        is_open = false;
                    }
                }
            }
        }
        self.address.sin_family = AF_INET;
        self.address.sin_port = head.to.port().to_be();
        self.address.sin_addr.s_addr = u32::from_ne_bytes(head.to.ip().octets());
        self.message.msg_name = (&raw mut self.address).cast();
        self.message.msg_namelen = ADDRESS_BYTES;
        self.message.msg_iov = self.iovecs.as_mut_ptr();
        self.message.msg_iovlen = count;
        let is_single = run.packets.len() == 1;
        self.control.segment_bytes = run.segment_bytes;
        self.message.msg_control =
            if is_single { std::ptr::null_mut() } else { (&raw mut self.control).cast() };
        self.message.msg_controllen = if is_single { 0 } else { size_of::<SegmentControl>() };
    }

    /// Appends bytes behind `at`; neighbours share an iovec. Returns where they end.
    fn copy(&mut self, bytes: &[u8], at: usize, count: &mut usize, is_open: &mut bool) -> usize {
        let end = at + bytes.len();
        self.copied[at..end].copy_from_slice(bytes);
        if *is_open {
            self.iovecs[*count - 1].iov_len += bytes.len();
        } else {
            self.iovecs[*count].iov_base = self.copied.as_mut_ptr().wrapping_add(at).cast();
            self.iovecs[*count].iov_len = bytes.len();
            *count += 1;
            *is_open = true;
        }
        end
    }
}

/// User and system time of this process, without its children.
pub(crate) fn cpu_used() -> [Duration; 2] {
    // SAFETY: `zeroed` as in `Slot::new`: rusage is integers only.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `getrusage` writes one rusage to the pointer, which is to a live local.
    let result = unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    debug_assert_eq!(result, 0, "the arguments are constants");
    let time = |time: libc::timeval| {
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        Duration::from_secs(seconds)
            + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or(0))
    };
    [time(usage.ru_utime), time(usage.ru_stime)]
}

/// Two thousand sessions in a turn of 2 ms.
const SLOTS: usize = 512;
/// As the server's RTP socket has.
const SEND_BYTES: usize = 8 << 20;
const FLAGS: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
#[expect(clippy::cast_possible_truncation, reason = "2 and 16")]
const AF_INET: libc::sa_family_t = libc::AF_INET as libc::sa_family_t;
#[expect(clippy::cast_possible_truncation, reason = "2 and 16")]
const ADDRESS_BYTES: libc::socklen_t = size_of::<libc::sockaddr_in>() as libc::socklen_t;
