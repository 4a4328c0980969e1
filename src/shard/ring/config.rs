//! Sizes of a ring, and the errors of making and using one.
//!
//! Bound: each number sizes memory that is allocated once, when the ring starts.

use std::io;

use crate::base::mode::Mode;

/// Sizes of a shard's ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RingConfig {
    /// Entries of the submission queue; the completion queue is four times as long.
    pub sq_entries: u32,
    /// Most registered files: listeners, connections, sockets and the eventfd.
    pub files_max: u32,
    /// Receive buffers of TCP connections, 4 KiB each, rounded up to a power of two.
    pub stream_buffers: u16,
    /// Receive buffers of datagrams, 2 KiB and the sender's address each, rounded up likewise.
    pub datagram_buffers: u16,
    /// Most datagram sends in flight; 5.5 KiB each.
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

/// Why a ring cannot be made or used. Each text names the setting to look at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// The kernel refuses `io_uring_setup`.
    #[error(
        "io_uring is not available ({source}): check that sysctl kernel.io_uring_disabled is 0 and \
         that the container's seccomp profile allows io_uring_setup"
    )]
    Unavailable {
        /// Error of the kernel.
        source: io::Error,
    },
    /// The limit on locked memory has no room for a part of the ring, or the machine has no memory.
    #[error(
        "io_uring gets no memory for its {what} ({source}): raise the limit on locked memory with \
         `ulimit -l 65536` (systemd: LimitMEMLOCK=64M), or give fewer shards (--shards)"
    )]
    NoMemory {
        /// Part of the ring.
        what: &'static str,
        /// Error of the kernel.
        source: io::Error,
    },
    /// The kernel does not know a flag or an operation.
    #[error(
        "the kernel is too old: its io_uring lacks {missing}, which Linux {since} has; headend \
         needs Linux 6.1 or newer"
    )]
    KernelTooOld {
        /// Name of the flag or operation.
        missing: &'static str,
        /// The first version that has it.
        since: &'static str,
    },
    /// The table of registered files cannot be made.
    #[error(
        "cannot register {files_max} files with io_uring ({source}): raise the limit on open files"
    )]
    Files {
        /// Configured number.
        files_max: u32,
        /// Error of the kernel.
        source: io::Error,
    },
    /// A ring of receive buffers cannot be made.
    #[error("cannot register {count} receive buffers with io_uring ({source})")]
    Buffers {
        /// Configured number, rounded up to a power of two.
        count: u32,
        /// Error of the kernel.
        source: io::Error,
    },
    /// `install` finds no free slot.
    #[error("all {files_max} registered files are in use")]
    Full {
        /// Configured number.
        files_max: u32,
    },
    /// The kernel refuses to register a descriptor.
    #[error("cannot register a descriptor with io_uring ({source})")]
    Register {
        /// Error of the kernel.
        source: io::Error,
    },
    /// The kernel had no memory to keep completions for which the queue had no room.
    #[error(
        "the kernel has lost {count} completions of io_uring for lack of memory: nobody can say \
         which operations have ended; give the machine or the container more memory"
    )]
    CompletionsLost {
        /// Number of completions.
        count: u32,
    },
    /// `io_uring_enter` has failed, and the shard cannot go on.
    #[error("io_uring_enter failed ({source})")]
    Enter {
        /// Error of the kernel.
        source: io::Error,
    },
}

impl RingError {
    /// A table of the shard is full, or a part of it is missing.
    pub(in crate::shard) fn unavailable(why: &'static str) -> Self {
        Self::Register { source: io::Error::other(why) }
    }
}

/// Why a packet can never be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RangeOutside {
    /// A piece of the packet lies beyond the end of the file.
    #[error("packet takes {bytes} bytes at {offset} of a file of {file_bytes} bytes")]
    File {
        /// Offset of the piece in the file.
        offset: u64,
        /// Length of the piece.
        bytes: u16,
        /// Length of the file when it was mapped.
        file_bytes: u64,
    },
    /// The packet has more pieces or inline bytes than one send can gather.
    #[error("packet of {piece_count} pieces and {payload_bytes} bytes is more than one send takes")]
    TooLarge {
        /// Number of pieces of the packet.
        piece_count: u16,
        /// Bytes of the payload.
        payload_bytes: u16,
    },
    /// The file has become shorter since it was opened.
    #[error("the file was truncated")]
    Truncated,
    /// A piece of the packet cannot be read; the system says why.
    #[error("the file cannot be read: {0}")]
    Unreadable(io::ErrorKind),
    /// SRTP does not encrypt the packet.
    #[error("packet cannot be encrypted")]
    NotEncrypted,
}
