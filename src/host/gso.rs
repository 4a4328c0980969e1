//! Whether the kernel cuts long UDP sends into packets (GSO) and joins received ones (GRO).
#![allow(unsafe_code, reason = "two socket options that no safe wrapper at hand knows")]

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;

/// Tries `UDP_SEGMENT` (Linux 4.18) on a socket of its own.
///
/// # Errors
/// What `setsockopt` reports; `ENOPROTOOPT` on kernels without.
pub fn segmentation() -> io::Result<()> {
    try_option(libc::UDP_SEGMENT, 1_200)
}

/// Tries `UDP_GRO` (Linux 5.0) on a socket of its own.
///
/// # Errors
/// What `setsockopt` reports.
pub fn receive_offload() -> io::Result<()> {
    try_option(libc::UDP_GRO, 1)
}

fn try_option(option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let bytes = libc::socklen_t::try_from(size_of_val(&value)).map_err(io::Error::other)?;
    // SAFETY: `setsockopt` requires an open descriptor and `bytes` readable bytes behind the
    // pointer. `socket` is open until the end of this function; the pointer is to `value`, whose
    // size `bytes` is. The kernel keeps neither.
    // Test: `options_are_known_to_this_kernel`.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            option,
            std::ptr::from_ref(&value).cast(),
            bytes,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_known_to_this_kernel() {
        // A sandbox may refuse; a wrong call would be EFAULT, EINVAL or EBADF.
        for error in [segmentation(), receive_offload()].into_iter().filter_map(Result::err) {
            let wrong = [libc::EFAULT, libc::EINVAL, libc::EBADF];
            assert!(!error.raw_os_error().is_some_and(|errno| wrong.contains(&errno)), "{error}");
        }
    }
}
