//! The kernel's record of a TCP peer: the socket option `TCP_INFO`, which no crate has.
#![allow(unsafe_code, reason = "a socket option that no crate has; a room with unsafe code")]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use crate::consumers::taking::PeerState;

/// Reads the record.
///
/// # Errors
/// `fd` is not a TCP socket.
pub(in crate::shard) fn peer_state(fd: impl AsFd) -> io::Result<PeerState> {
    // SAFETY: `zeroed` requires a type for which all bytes zero are a value: tcp_info is integers.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut bytes = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).unwrap_or(0);
    // SAFETY: `getsockopt` requires an open descriptor, which `fd` is while it is borrowed, and
    // writes at most `bytes` bytes to the value, which is as long; both live beyond the call.
    // Test: `closed_window_is_told_from_an_open_one`.
    let result = unsafe {
        libc::getsockopt(
            fd.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut bytes,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(PeerState {
        acked_bytes: info.tcpi_bytes_acked,
        data_segments: info.tcpi_data_segs_in,
        is_outstanding: info.tcpi_unacked > 0 || info.tcpi_notsent_bytes > 0,
        is_unanswered: info.tcpi_unacked > 0 || info.tcpi_probes > 0,
        last_ack: Duration::from_millis(info.tcpi_last_ack_recv.into()),
    })
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    use super::*;

    #[test]
    fn closed_window_is_told_from_an_open_one() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let idle = peer_state(&server).unwrap();
        assert!(!idle.is_outstanding, "{idle:?}");
        server.set_nonblocking(true).unwrap();
        let mut sent = 0;
        loop {
            match server.write(&[0; 65_536]) {
                Ok(bytes) => sent += bytes,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    break;
                }
            }
        }
        let full = peer_state(&server).unwrap();
        assert!(full.is_outstanding && full.acked_bytes < sent as u64, "{full:?}");
        client.read_exact(&mut vec![0; sent]).unwrap();
        for _ in 0..1_000_000 {
            if !peer_state(&server).unwrap().is_outstanding {
                break;
            }
            std::thread::yield_now();
        }
        let taken = peer_state(&server).unwrap();
        assert!(!taken.is_outstanding && taken.acked_bytes > full.acked_bytes, "{taken:?}");
    }

    #[test]
    fn socket_of_another_kind_is_an_error() {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(peer_state(&socket).is_err());
    }
}
