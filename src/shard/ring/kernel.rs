//! What a shard asks of the kernel: operations of io_uring, a few calls on sockets, the clocks.
//!
//! ```text
//!  Shard<K> --> Network<K> --> Ring<K> --> K: Kernel --+-- Uring          io_uring, system calls
//!                                                      `-- a simulation   virtual time, one thread
//! ```
//! Everything of a shard that is not plain code goes through this. So a simulation runs the turns
//! of the product, with the product's ring, on a kernel of its own (`tests/simulation/shards`). The
//! kernel is a type parameter: a call of the product is a call of `Uring`, which the compiler sees.
//!
//! Operations and completions have the form of io_uring's ABI, with its pointers.
#![allow(unsafe_code, reason = "operations with pointers; a room with unsafe code")]

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use io_uring::{cqueue, squeue};

pub use super::features::Features;

use super::config::RingError;
use crate::base::host::Host;
use crate::base::time::Mono;
use crate::consumers::taking::PeerState;
use crate::shard::clock;
use crate::shard::sockets::{self, Family, UdpPair};

/// How long `enter` waits at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Nanoseconds from when all is submitted; `None` for as long as it takes.
    For(Option<u64>),
    /// Until the kernel's monotonic clock shows this.
    Until(Mono),
}

/// What came of handing operations over, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EnterCounts {
    /// System calls to submit and wait.
    pub enters: u64,
    /// System calls after which the kernel kept completions back: the completion queue was full.
    pub overflows: u64,
    /// Times that the kernel took no operation, for lack of memory or because it kept completions
    /// back.
    pub refusals: u64,
}

/// A kernel for one shard.
pub trait Kernel {
    /// Queues an operation; the next `enter` starts it.
    ///
    /// # Safety
    /// Every pointer in `entry` must be valid, and what the kernel may write to must not be used
    /// otherwise, until the operation's last completion was taken by `next_cqe`. When the ring is
    /// dropped before that, until `in_kernel` was 0, or else for ever.
    unsafe fn queue(&mut self, entry: squeue::Entry);

    /// Makes the operation queued last the condition for the one queued next.
    fn link_last(&mut self);

    /// Drops operations that were not handed to the kernel. Only for the end of the ring.
    fn drop_queued(&mut self);

    /// Number of operations that are queued or in the kernel, and not completed.
    fn in_kernel(&self) -> u32;

    /// Number of operations queued since the start.
    fn queued_count(&self) -> u64;

    /// Whether the last `enter` has left operations queued, because the kernel took none.
    fn is_refusing(&self) -> bool;

    /// What came of handing operations over, since the start.
    fn counts(&self) -> EnterCounts;

    /// Entries of the submission queue.
    fn sq_entries(&self) -> u32;

    /// What the kernel has of what the ring can do without.
    fn features(&self) -> Features;

    /// Hands over the queue and waits for `want` completions. On return, the completion queue has
    /// all completions that are ready, or is full; the rest comes with the next `enter`. What the
    /// kernel does not take stays queued, in order, and the wait is short.
    ///
    /// # Errors
    /// The ring cannot be used any more.
    fn enter(&mut self, want: u32, wait: Wait) -> Result<(), RingError>;

    /// Whether a completion is ready.
    fn has_cqe(&mut self) -> bool;

    /// Takes the oldest completion that is ready.
    fn next_cqe(&mut self) -> Option<cqueue::Entry>;

    /// Registers a descriptor at `index`.
    ///
    /// # Errors
    /// The kernel refuses.
    fn register(&self, index: u32, fd: BorrowedFd<'_>) -> io::Result<()>;

    /// Removes the descriptor at `index`.
    ///
    /// # Errors
    /// The kernel refuses.
    fn unregister(&self, index: u32) -> io::Result<()>;

    /// Removes all descriptors at once.
    ///
    /// # Errors
    /// None is registered.
    fn unregister_files(&self) -> io::Result<()>;

    /// Registers a ring of `count` provided buffers as `group`.
    ///
    /// # Safety
    /// The ring at `address` must have room for `count` entries, and be valid until the group was
    /// unregistered or the kernel's side of the ring destroyed.
    ///
    /// # Errors
    /// The kernel refuses.
    unsafe fn register_buffers(&self, address: u64, count: u16, group: u16) -> io::Result<()>;

    /// Ends a group of provided buffers.
    ///
    /// # Errors
    /// There is no such group.
    fn unregister_buffers(&self, group: u16) -> io::Result<()>;

    /// The monotonic clock.
    fn now(&self) -> Mono {
        clock::monotonic()
    }

    /// Nanoseconds since 1970.
    fn utc_ns(&self) -> i64 {
        clock::utc_ns()
    }

    /// Nanoseconds of CPU that the thread of the shard has used.
    fn cpu_ns(&self) -> u64 {
        clock::thread_cpu_ns()
    }

    /// Opens a pair of UDP sockets on any free ports.
    ///
    /// # Errors
    /// No free pair was found.
    fn udp_pair(&self, host: Host) -> io::Result<UdpPair> {
        sockets::udp_pair(host, None)
    }

    /// Opens a TCP socket of the family of `to`, not connected yet.
    ///
    /// # Errors
    /// The process is out of descriptors, or the host does not speak that family.
    fn stream_to(&self, to: SocketAddr) -> io::Result<OwnedFd> {
        sockets::stream_to(to)
    }

    /// Address of the peer of a connection.
    ///
    /// # Errors
    /// The connection is gone already.
    fn peer_addr(&self, fd: impl AsFd) -> io::Result<SocketAddr> {
        sockets::peer_addr(fd)
    }

    /// Address to which a socket is bound.
    ///
    /// # Errors
    /// Errors of `getsockname`.
    fn local_addr(&self, fd: impl AsFd) -> io::Result<SocketAddr> {
        sockets::local_addr(fd)
    }

    /// Sets the options of an RTSP connection.
    ///
    /// # Errors
    /// Errors of `setsockopt`; as a rule the connection is dead then.
    fn set_stream_options(&self, fd: impl AsFd) -> io::Result<()> {
        sockets::set_stream_options(fd)
    }

    /// Sets whether datagrams may be fragmented.
    ///
    /// # Errors
    /// Errors of `setsockopt`.
    fn set_fragmentation(&self, fd: impl AsFd, family: Family, is_allowed: bool) -> io::Result<()> {
        sockets::set_fragmentation(fd, family, is_allowed)
    }

    /// Address family of a UDP socket; `None`: it has none.
    fn family_of(&self, fd: impl AsFd) -> Option<Family> {
        sockets::family_of(fd)
    }

    /// The kernel's record of a TCP peer.
    ///
    /// # Errors
    /// `fd` is not a TCP socket.
    fn peer_state(&self, fd: impl AsFd) -> io::Result<PeerState> {
        sockets::peer_state::peer_state(fd)
    }

    /// Writes what the socket takes at once, for a connection that is closed next.
    fn write_last(&self, fd: impl AsFd, bytes: &[u8]) {
        // Best effort: a client that has gone needs no answer.
        let _unsaid = rustix::io::write(fd, bytes);
    }
}
