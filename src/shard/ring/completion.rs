//! Completions: the results of operations that the ring reports to the turn of the shard.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use super::bytes::Received;

/// Result of an operation. `token` is the one that the caller gave to the operation.
#[derive(Debug)]
pub enum Completion {
    /// A connection was accepted. The ring goes on accepting, after `EMFILE` and similar errors
    /// with a pause; it reports each failed attempt once.
    Accepted {
        /// Token of `arm_accept`.
        token: u32,
        /// The connection, which is not installed.
        result: io::Result<OwnedFd>,
    },
    /// Bytes of a connection; no bytes mean that the peer has closed its side. Nothing more is
    /// received until `arm_receive` (Srikantan et al.).
    Received {
        /// Token of `arm_receive`.
        token: u32,
        /// Bytes, or why the connection has failed.
        result: io::Result<Received>,
    },
    /// A datagram; the ring goes on receiving.
    Datagram {
        /// Token of `arm_datagrams`.
        token: u32,
        /// Address of the sender; of v4 clients of a dual-stack socket the v4 address.
        from: SocketAddr,
        /// Payload of the datagram.
        bytes: Received,
    },
    /// A connect has ended.
    Connected {
        /// Token of `start_connect`.
        token: u32,
        /// Whether the connection is established.
        result: io::Result<()>,
    },
    /// Another thread wrote to the eventfd; the ring goes on reading.
    Woken {
        /// Token of `arm_wake`.
        token: u32,
    },
    /// The kernel took a run, or no packet of it. Each run is reported once, also when its file was
    /// removed meanwhile, because the caller frees the owner of the run then.
    RunSent {
        /// Token of `start_run` or `send_datagram`.
        token: u32,
        /// Number of packets in the run. 0 means a datagram of `send_datagram`: only its failure is
        /// reported, and nothing after its file was removed.
        packets: u16,
        /// Whether the kernel took the run.
        result: Result<(), SendFailure>,
    },
    /// A stream send has ended. After an error a frame may be cut, so the connection is unusable.
    StreamSent {
        /// Token of `start_stream_send`.
        token: u32,
        /// Number of bytes, which is that of the whole send. `InvalidData`: the file was truncated
        /// during the send. `WriteZero`: the send ended early for another reason.
        result: io::Result<u32>,
    },
    /// A stream send was ended by `end_send` before the kernel had taken all of it.
    StreamCut {
        /// Token of `start_stream_send`.
        token: u32,
        /// What it has not taken: the next bytes of the connection. An error as of `StreamSent`.
        rest: io::Result<Vec<u8>>,
    },
}

/// Why no packet of a run was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendFailure {
    /// The socket had no room, or the route refused segmentation. The caller builds the run again.
    #[error("the socket has no room")]
    Again,
    /// A run linked before this one failed. The caller builds this run again behind that one.
    #[error("the run before this one failed")]
    Cancelled,
    /// The socket was removed before the run was sent.
    #[error("the socket was closed")]
    Closed,
    /// The file was truncated during the send.
    #[error("the file was truncated while it was sent")]
    Fault,
    /// A single packet is larger than the route takes.
    #[error("the packet is larger than the route takes")]
    TooLarge,
    /// There is no route, or the client's port is closed.
    #[error("the client cannot be reached (errno {0})")]
    Unreachable(i32),
    /// Another error of the kernel.
    #[error("send failed (errno {0})")]
    Other(i32),
}

impl SendFailure {
    /// Translates a positive errno.
    #[must_use]
    pub fn from_errno(errno: i32) -> Self {
        match errno {
            libc::EAGAIN | libc::EINTR | libc::ENOBUFS | libc::ENOMEM => Self::Again,
            libc::ECANCELED => Self::Cancelled,
            libc::EFAULT => Self::Fault,
            libc::EMSGSIZE => Self::TooLarge,
            libc::ENETUNREACH
            | libc::EHOSTUNREACH
            | libc::ENETDOWN
            | libc::EHOSTDOWN
            | libc::ECONNREFUSED => Self::Unreachable(errno),
            _ => Self::Other(errno),
        }
    }
}

/// Result of a stream send of `expected` bytes that the kernel ended with `result`.
pub(super) fn stream_result(result: i32, expected: usize) -> io::Result<u32> {
    match u32::try_from(result) {
        Ok(sent) if sent as usize == expected => Ok(sent),
        Ok(_) => Err(io::ErrorKind::WriteZero.into()),
        Err(_) if result == -libc::EFAULT => Err(io::ErrorKind::InvalidData.into()),
        Err(_) => Err(io::Error::from_raw_os_error(-result)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errno_decides_what_the_caller_does_with_a_run() {
        let of = SendFailure::from_errno;
        assert_eq!(of(libc::EAGAIN), SendFailure::Again);
        assert_eq!(of(libc::ENOBUFS), SendFailure::Again);
        assert_eq!(of(libc::ECANCELED), SendFailure::Cancelled);
        assert_eq!(of(libc::EFAULT), SendFailure::Fault);
        assert_eq!(of(libc::EMSGSIZE), SendFailure::TooLarge);
        assert_eq!(of(libc::ENETUNREACH), SendFailure::Unreachable(libc::ENETUNREACH));
        assert_eq!(of(libc::EPERM), SendFailure::Other(libc::EPERM));
    }

    #[test]
    fn short_stream_send_is_an_error() {
        assert_eq!(stream_result(10, 10).unwrap(), 10);
        assert_eq!(stream_result(9, 10).unwrap_err().kind(), io::ErrorKind::WriteZero);
        assert_eq!(
            stream_result(-libc::EFAULT, 10).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        assert_eq!(stream_result(-libc::EPIPE, 10).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
