//! io_uring's binary interface, from the kernel's side: operations as the ring queued them, and
//! the memory that they name.
//!
//! ```text
//!  squeue::Entry --read--> Op       Op::Send --gather--> bytes, address, size of segments
//!  Cqe --> cqueue::Entry            Buffers --take--> a published buffer --fill--> its number
//! ```
//! Invariant: memory of an operation is touched only from its submission to its last completion.
#![allow(unsafe_code, reason = "a kernel reads and writes memory of its callers")]

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use io_uring::{cqueue, squeue};

/// An operation that was queued.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sqe {
    pub(crate) op: Op,
    /// Index of its registered file; -1 for none.
    pub(crate) file: i32,
    pub(crate) user_data: u64,
    /// Turn of the shard that queued it.
    pub(crate) turn: u64,
}

/// What an operation does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Op {
    Accept,
    Receive { group: u16 },
    ReceiveDatagrams { group: u16 },
    ReadCount { into: u64 },
    Send { message: u64 },
    Connect,
    CancelFile,
    CancelOne { user_data: u64 },
    CancelAll,
}

/// The layout of an entry of the submission queue (`io_uring.h`).
#[derive(Clone, Copy)]
#[repr(C)]
struct RawSqe {
    opcode: u8,
    flags: u8,
    ioprio: u16,
    fd: i32,
    off: u64,
    addr: u64,
    len: u32,
    op_flags: u32,
    user_data: u64,
    buf_group: u16,
    personality: u16,
    file_index: u32,
    rest: [u64; 2],
}

/// The layout of an entry of the completion queue.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct Cqe {
    pub(crate) user_data: u64,
    pub(crate) result: i32,
    pub(crate) flags: u32,
}

const _: () = assert!(size_of::<RawSqe>() == 64 && size_of::<squeue::Entry>() == 64);
const _: () = assert!(size_of::<Cqe>() == 16 && size_of::<cqueue::Entry>() == 16);

impl Sqe {
    pub(crate) fn read(entry: &squeue::Entry, turn: u64) -> Self {
        // SAFETY: `read` requires initialised memory of the type: an entry is 64 bytes in the
        // layout of the kernel's header, all of them integers, which `RawSqe` has, too.
        let raw = unsafe { std::ptr::from_ref(entry).cast::<RawSqe>().read() };
        let op = match raw.opcode {
            9 => Op::Send { message: raw.addr },
            10 => Op::ReceiveDatagrams { group: raw.buf_group },
            13 => Op::Accept,
            14 if raw.op_flags & CANCEL_ANY != 0 => Op::CancelAll,
            14 if raw.op_flags & CANCEL_FD != 0 => Op::CancelFile,
            14 => Op::CancelOne { user_data: raw.addr },
            16 => Op::Connect,
            22 => Op::ReadCount { into: raw.addr },
            27 => Op::Receive { group: raw.buf_group },
            other => panic!("the ring queues no operation {other}"),
        };
        Self { op, file: raw.fd, user_data: raw.user_data, turn }
    }
}

impl Cqe {
    pub(crate) fn entry(self) -> cqueue::Entry {
        // SAFETY: `transmute` requires a value that is valid as the other type, of its size: an
        // entry is three integers in the layout of the kernel's header, which `Cqe` is, too.
        unsafe { std::mem::transmute::<Self, cqueue::Entry>(self) }
    }
}

/// What a send sends.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) bytes: Vec<u8>,
    /// Of datagrams.
    pub(crate) to: Option<SocketAddr>,
    /// Size of the datagrams that the bytes are cut into; the last may be shorter.
    pub(crate) segment: Option<usize>,
}

/// Copies what a send names. Only between its submission and its completion.
pub(crate) fn gather(message: u64) -> Message {
    // SAFETY: reading through a pointer requires initialised memory that nobody writes: whoever
    // queued a send promised that the message, its vectors, its address and its control message
    // are valid until the completion, which the caller has not given yet.
    unsafe {
        let message = &*(message as *const libc::msghdr);
        let iovecs = std::slice::from_raw_parts(message.msg_iov, message.msg_iovlen);
        let mut bytes = Vec::with_capacity(iovecs.iter().map(|iovec| iovec.iov_len).sum());
        for iovec in iovecs {
            let part = std::slice::from_raw_parts(iovec.iov_base.cast::<u8>(), iovec.iov_len);
            bytes.extend_from_slice(part);
        }
        let to = (!message.msg_name.is_null() && message.msg_namelen == 16).then(|| {
            let name = &*message.msg_name.cast::<libc::sockaddr_in>();
            let ip = Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr));
            SocketAddrV4::new(ip, u16::from_be(name.sin_port)).into()
        });
        let segment = (message.msg_controllen > 0).then(|| {
            let data = message.msg_control.cast::<u8>().add(size_of::<libc::cmsghdr>());
            usize::from(data.cast::<u16>().read_unaligned())
        });
        Message { bytes, to, segment }
    }
}

/// Writes the count of an eventfd where its read wants it.
pub(crate) fn write_count(into: u64, count: u64) {
    // SAFETY: writing requires memory that nobody else uses: whoever queued the read gave eight
    // bytes that it does not touch until the completion, which the caller has not given yet.
    unsafe { (into as *mut u64).write_unaligned(count) }
}

/// A group of provided buffers, as the kernel knows it.
#[derive(Debug)]
pub(crate) struct Buffers {
    address: u64,
    count: u16,
    head: u16,
}

impl Buffers {
    pub(crate) fn new(address: u64, count: u16) -> Self {
        Self { address, count, head: 0 }
    }

    /// Number of buffers that are published and not taken.
    pub(crate) fn free(&self) -> u16 {
        let entries = self.address as *mut BufRingEntry;
        // SAFETY: whoever registered the group promised that its memory is valid until the group
        // ends; `tail` and `from_ptr` require the first entry and an aligned number that is
        // accessed atomically: its other user stores it so.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(entries).cast_mut()) };
        tail.load(Ordering::Acquire).wrapping_sub(self.head)
    }

    /// Takes the next buffer and fills it. `None`: none is published.
    pub(crate) fn fill(&mut self, bytes: &[u8]) -> Option<u16> {
        if self.free() == 0 {
            return None;
        }
        let place = usize::from(self.head & (self.count - 1));
        let entries = self.address as *const BufRingEntry;
        // SAFETY: the place lies in the ring (see `free`), and an entry before the tail is not
        // changed. It names memory of its length that is the kernel's until the completion.
        let number = unsafe {
            let entry = &*entries.add(place);
            assert!(bytes.len() <= entry.len() as usize, "a buffer is shorter than what came");
            (entry.addr() as *mut u8).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            entry.bid()
        };
        self.head = self.head.wrapping_add(1);
        Some(number)
    }
}

/// A datagram as `recvmsg` with provided buffers lays it out: what is said of it, its sender, its
/// bytes.
pub(crate) fn datagram(from: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let SocketAddr::V4(from) = from else { panic!("the network of the simulation is IPv4") };
    let len = |len: usize| u32::try_from(len).unwrap_or(u32::MAX).to_ne_bytes();
    let mut bytes = Vec::with_capacity(16 + NAME_BYTES + payload.len());
    bytes.extend(len(16));
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend(len(payload.len()));
    bytes.extend(0_u32.to_ne_bytes());
    let mut name = [0; NAME_BYTES];
    name[..2].copy_from_slice(&u16::try_from(libc::AF_INET).unwrap_or(0).to_ne_bytes());
    name[2..4].copy_from_slice(&from.port().to_be_bytes());
    name[4..8].copy_from_slice(&from.ip().octets());
    bytes.extend(name);
    bytes.extend(payload);
    bytes
}

/// `IORING_ASYNC_CANCEL_FD`.
const CANCEL_FD: u32 = 2;
/// `IORING_ASYNC_CANCEL_ANY`.
const CANCEL_ANY: u32 = 4;
/// Room that the ring gives to a sender's address.
const NAME_BYTES: usize = 28;

/// More completions of the operation follow.
pub(crate) const MORE: u32 = 2;
/// The completion names a buffer, in its upper half.
pub(crate) const BUFFER: u32 = 1;
