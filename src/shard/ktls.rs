//! TLS in the kernel: whether it has it, and how a connection is handed to it.
//!
//! ```text
//! player's session, TLS 1.3 --TCP_ULP--> keys --TLS_TX, TLS_RX--> socket: plain bytes in and out
//!                                                                 `--closed--> close_notify
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

/// Tells the client that nothing more comes (RFC 8446 s6.1): without it a client cannot tell the
/// end from a cut. The kernel encrypts the alert. No send may be under way on the connection. A
/// socket that does not take it at once is closed without.
pub(super) fn send_close_notify(socket: BorrowedFd<'_>) {
    let mut alert = CLOSE_NOTIFY;
    let mut part = libc::iovec { iov_base: alert.as_mut_ptr().cast(), iov_len: alert.len() };
    // A control message: its length, level and type, and the type of the record.
    let mut control = [HEADER_BYTES + 1, level_and_type(), u64::from_le(ALERT.into())];
    // SAFETY: `zeroed` requires a type for which all bytes zero are a value: msghdr has pointers
    // and integers.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    // SAFETY: `sendmsg` requires an open descriptor and a message whose pointers are valid for
    // their lengths during the call. The descriptor is borrowed for it; `alert`, `part` and
    // `control` live until it has returned, and `control` is aligned as a header is.
    // Test: `kernel_says_that_a_connection_is_closed`.
    let _untold = unsafe {
        libc::sendmsg(
            socket.as_raw_fd(),
            &raw const message,
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    };
}

/// Level and type of the control message that says of which type a record is.
fn level_and_type() -> u64 {
    let mut bytes = [0; 8];
    let (level, kind) = bytes.split_at_mut(4);
    level.copy_from_slice(&libc::SOL_TLS.to_ne_bytes());
    kind.copy_from_slice(&libc::TLS_SET_RECORD_TYPE.to_ne_bytes());
    u64::from_ne_bytes(bytes)
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

/// Warning, `close_notify` (RFC 8446 s6).
const CLOSE_NOTIFY: [u8; 2] = [1, 0];
/// Record type (RFC 8446 s5.1).
const ALERT: u8 = 21;
/// Of a control message.
const HEADER_BYTES: u64 = size_of::<libc::cmsghdr>() as u64;

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::time::Duration;

    use super::*;

    #[test]
    fn kernel_says_that_a_connection_is_closed() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        for keys in KernelKeys::for_probes() {
            let server = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (mut client, _) = listener.accept().unwrap();
            client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let set = set_protocol(server.as_fd());
            if let Err(error) = set.and_then(|()| set_keys(server.as_fd(), &keys)) {
                println!("skipped: this kernel has no TLS ({error})");
                return;
            }
            send_close_notify(server.as_fd());
            drop(server);
            let mut record = Vec::new();
            client.read_to_end(&mut record).unwrap();
            // Two bytes, their type, and a tag of sixteen, as data of TLS 1.3.
            assert_eq!((&record[..5], record.len()), (&[23, 3, 3, 0, 19][..], 24));
        }
    }

    #[test]
    fn kernel_takes_a_connection_or_says_that_it_has_no_tls() {
        let Err(error) = probe() else { return };
        println!("skipped: this kernel has no TLS ({error})");
        let known = [libc::ENOENT, libc::ENOPROTOOPT, libc::EPERM];
        assert!(error.raw_os_error().is_some_and(|errno| known.contains(&errno)), "{error}");
    }
}
