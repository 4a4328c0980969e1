//! How a ring is made, and what can go wrong with it.
//!
//! Bound: every number here sizes memory that is taken once, when the ring starts.

use std::io;

use crate::base::mode::Mode;

/// Sizes of a shard's ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RingConfig {
    /// Entries of the submission queue; the completion queue is four times as long.
    pub sq_entries: u32,
    /// Registered files at most: listeners, connections, sockets, the wake-up.
    pub files_max: u32,
    /// Receive buffers of TCP connections, 4 KiB each, rounded up to a power of two.
    pub stream_buffers: u16,
    /// Receive buffers of datagrams, 2 KiB and the sender's address each, rounded up likewise.
    pub datagram_buffers: u16,
    /// Datagram sends in flight at most; 5.5 KiB each.
    pub run_slots: u16,
    /// Whether a run of packets is one send that the kernel cuts (`UDP_SEGMENT`). `Auto`: until a
    /// route refuses it (DESIGN section 6.9).
    pub gso: Mode,
    /// Whether bytes are sent without a copy. `Auto`: where it pays by their shape, and the kernel
    /// reports that it did not copy (DESIGN section 6.8).
    pub zerocopy: Mode,
}

impl Default for RingConfig {
    fn default() -> Self {
        Self {
            sq_entries: 1_024,
            files_max: 16_384,
            stream_buffers: 256,
            datagram_buffers: 512,
            run_slots: 1_024,
            gso: Mode::Auto,
            zerocopy: Mode::Auto,
        }
    }
}

/// Why a ring cannot be made or used. Each text says what to look at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// `io_uring_setup` is refused.
    #[error(
        "io_uring is not available ({source}): check that sysctl kernel.io_uring_disabled is 0 and \
         that the container's seccomp profile allows io_uring_setup"
    )]
    Unavailable {
        /// What the kernel said.
        source: io::Error,
    },
    /// The limit on locked memory has no room for the ring.
    #[error(
        "io_uring gets no memory ({source}): raise the limit on locked memory with \
         `ulimit -l 65536` (systemd: LimitMEMLOCK=64M), or give fewer shards (--shards)"
    )]
    NoMemory {
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel does not know a flag or an operation.
    #[error("the kernel is too old: {missing} is missing (Linux 6.1 is the oldest that works)")]
    KernelTooOld {
        /// What it lacks.
        missing: &'static str,
    },
    /// The table of registered files cannot be made.
    #[error(
        "cannot register {files_max} files with io_uring ({source}): raise the limit on open files"
    )]
    Files {
        /// As configured.
        files_max: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// A ring of receive buffers cannot be made.
    #[error("cannot register {count} receive buffers with io_uring ({source})")]
    Buffers {
        /// As configured, rounded up.
        count: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// `install` found no free slot.
    #[error("all {files_max} registered files are in use")]
    Full {
        /// As configured.
        files_max: u32,
    },
    /// `install` failed on this descriptor.
    #[error("cannot register a descriptor with io_uring ({source})")]
    Register {
        /// What the kernel said.
        source: io::Error,
    },
    /// `io_uring_enter` failed for good: the shard cannot go on.
    #[error("io_uring_enter failed ({source})")]
    Enter {
        /// What the kernel said.
        source: io::Error,
    },
}

impl RingError {
    /// Something of the shard's own is full or missing.
    pub(in crate::shard) fn unavailable(why: &'static str) -> Self {
        Self::Register { source: io::Error::other(why) }
    }
}

/// Why a packet can never be sent, by this send or another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RangeOutside {
    /// A piece leaves the file.
    #[error("packet takes {bytes} bytes at {offset} of a file of {file_bytes} bytes")]
    File {
        /// Start of the piece in the file.
        offset: u64,
        /// Its length.
        bytes: u16,
        /// Length of the file when it was mapped.
        file_bytes: u64,
    },
    /// More pieces or inline bytes than one send can gather.
    #[error("packet of {piece_count} pieces and {payload_bytes} bytes is more than one send takes")]
    TooLarge {
        /// Pieces of the packet.
        piece_count: u16,
        /// Bytes of its payload.
        payload_bytes: u16,
    },
}
