//! TLS in the kernel: whether it has it, and how a connection is handed to it.
//!
//! ```text
//! player's session, TLS 1.3 --TCP_ULP--> keys --TLS_TX, TLS_RX--> socket: plain bytes in and out
//! ```
//! The keys are handed over between two receives, when no part of a record is read and none waits
//! to be sent; a connection for which that is not so keeps its TLS here. Invariant: nothing of a
//! connection is lost before the kernel has agreed to the protocol; a failure behind that ends it.
#![allow(unsafe_code, reason = "a socket option that no safe wrapper at hand knows")]

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use crate::pki::kernel::{CryptoInfo, KernelKeys};

/// Whether the kernel has TLS and each cipher for this process: all may be modules, which only root
/// has loaded. Tried on connections to this process itself.
#[must_use]
pub fn is_available() -> bool {
    probe().is_ok()
}

fn probe() -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    for keys in KernelKeys::for_probes() {
        let client = TcpStream::connect(listener.local_addr()?)?;
        set_protocol(client.as_fd())?;
        set_keys(client.as_fd(), &keys)?;
    }
    Ok(())
}

/// Has the kernel speak TLS on a connection, which `set_keys` begins.
///
/// # Errors
/// It does not; the connection is as before.
pub(super) fn set_protocol(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_ULP, b"tls\0")
}

/// Gives the kernel the keys of both directions.
///
/// # Errors
/// It does not take them: the connection is of no use any more.
pub(super) fn set_keys(socket: BorrowedFd<'_>, keys: &KernelKeys) -> io::Result<()> {
    let set =
        |option, info: &CryptoInfo| set_option(socket, libc::SOL_TLS, option, info.as_bytes());
    set(libc::TLS_TX, &keys.send)?;
    set(libc::TLS_RX, &keys.receive)
}

fn set_option(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: &[u8],
) -> io::Result<()> {
    let bytes = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    // SAFETY: `setsockopt` requires an open descriptor and `bytes` readable bytes behind the
    // pointer. The descriptor is borrowed for the call; the pointer is to `value`, whose length
    // `bytes` is. The kernel copies them.
    // Test: `kernel_takes_a_connection_or_says_that_it_has_no_tls`.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, value.as_ptr().cast(), bytes)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_takes_a_connection_or_says_that_it_has_no_tls() {
        let Err(error) = probe() else { return };
        println!("skipped: this kernel has no TLS ({error})");
        let known = [libc::ENOENT, libc::ENOPROTOOPT, libc::EPERM];
        assert!(error.raw_os_error().is_some_and(|errno| known.contains(&errno)), "{error}");
    }
}
