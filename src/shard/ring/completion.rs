//! What the ring reports to the shard's turn.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use super::bytes::Received;

/// Something happened. `token` is what the caller gave when it armed or sent.
#[derive(Debug)]
pub enum Completion {
    /// A connection was accepted; the ring goes on accepting. After `EMFILE` and its like it does
    /// so after a pause, and each failed attempt is reported once.
    Accepted {
        /// Of `arm_accept`.
        token: u32,
        /// The connection, not yet installed.
        result: io::Result<OwnedFd>,
    },
    /// Bytes of a connection; no bytes: the peer has closed its side. Polling is off now, until
    /// `arm_receive` (Srikantan et al.).
    Received {
        /// Of `arm_receive`.
        token: u32,
        /// What was received.
        result: io::Result<Received>,
    },
    /// A datagram; the ring goes on receiving.
    Datagram {
        /// Of `arm_datagrams`.
        token: u32,
        /// Sender; a v4 address for v4 clients of a dual-stack socket too.
        from: SocketAddr,
        /// Payload.
        bytes: Received,
    },
    /// A connect has ended.
    Connected {
        /// Of `start_connect`.
        token: u32,
        /// The connection is there, or why it is not.
        result: io::Result<()>,
    },
    /// Another thread wrote to the eventfd; the ring goes on reading.
    Woken {
        /// Of `arm_wake`.
        token: u32,
    },
    /// A run was taken by the kernel, or not a single packet of it was. Each run is reported once,
    /// also when its file was removed meanwhile: the caller has an owner of the run to free.
    RunSent {
        /// Of `start_run` or `send_datagram`.
        token: u32,
        /// Packets in the run; 0 stands for a datagram of `send_datagram`, which is reported only
        /// on failure, and never after its file was removed.
        packets: u16,
        /// What became of it.
        result: Result<(), SendFailure>,
    },
    /// A stream send has ended. After an error a frame may be cut, so the connection is of no use.
    StreamSent {
        /// Of `start_stream_send`.
        token: u32,
        /// Bytes, all of them; `InvalidData`: the file was truncated under the send;
        /// `WriteZero`: the send ended early for another reason.
        result: io::Result<u32>,
    },
}

/// Why no packet of a run was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendFailure {
    /// No room in the socket, or the route refused segmentation: build the run again, keep order.
    #[error("the socket has no room")]
    Again,
    /// A run linked before this one failed: build it again, behind that one.
    #[error("the run before this one failed")]
    Cancelled,
    /// The socket was removed before the run was sent.
    #[error("the socket was closed")]
    Closed,
    /// The file was truncated under the send.
    #[error("the file was truncated while it was sent")]
    Fault,
    /// A single packet is larger than the route takes.
    #[error("the packet is larger than the route takes")]
    TooLarge,
    /// No route, or the host says that nobody listens.
    #[error("the client cannot be reached (errno {0})")]
    Unreachable(i32),
    /// Anything else.
    #[error("send failed (errno {0})")]
    Other(i32),
}

impl SendFailure {
    /// From a positive errno.
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

/// A stream send of `expected` bytes ended with the kernel's `result`.
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
