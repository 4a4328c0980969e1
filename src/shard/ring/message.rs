//! The C structures of `sendmsg` and `recvmsg`, and addresses as the kernel writes them.
#![allow(unsafe_code, reason = "a structure with private padding; a room with unsafe code")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// A message with all fields zero.
pub(super) fn empty_message() -> libc::msghdr {
    // SAFETY: `zeroed` requires a type for which all bytes zero are a value: msghdr has pointers
    // and integers only. Test: `run_arrives_as_equal_datagrams_in_order`.
    unsafe { std::mem::zeroed() }
}

/// Control message that tells UDP the size of the segments to cut a send into (udp(7)).
#[derive(Debug)]
#[repr(C, align(8))]
pub(super) struct SegmentControl {
    len: usize,
    level: libc::c_int,
    kind: libc::c_int,
    segment_bytes: u16,
    padding: [u8; 6],
}

impl SegmentControl {
    pub(super) fn new() -> Self {
        Self {
            len: HEADER_BYTES + size_of::<u16>(),
            level: libc::SOL_UDP,
            kind: libc::UDP_SEGMENT,
            segment_bytes: 0,
            padding: [0; 6],
        }
    }

    pub(super) fn set_segment_bytes(&mut self, segment_bytes: u16) {
        self.segment_bytes = segment_bytes;
    }
}

/// Reads a `sockaddr_in` or `sockaddr_in6`. A v4 address mapped into v6 is given as v4.
pub(super) fn parse_address(name: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(*name.first_chunk::<2>()?);
    let port = u16::from_be_bytes(*name.get(2..)?.first_chunk::<2>()?);
    match libc::c_int::from(family) {
        libc::AF_INET => {
            let ip: [u8; 4] = *name.get(4..)?.first_chunk()?;
            Some(SocketAddr::new(Ipv4Addr::from(ip).into(), port))
        }
        libc::AF_INET6 => {
            let ip = Ipv6Addr::from(*name.get(8..)?.first_chunk::<16>()?);
            let scope_id = u32::from_ne_bytes(*name.get(24..)?.first_chunk::<4>()?);
            match IpAddr::V6(ip).to_canonical() {
                IpAddr::V4(ip) => Some(SocketAddr::new(ip.into(), port)),
                // The flow label is not part of who the client is.
                IpAddr::V6(ip) => Some(SocketAddrV6::new(ip, port, 0, scope_id).into()),
            }
        }
        _ => None,
    }
}

/// Memory of an address in the form of the kernel.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Name {
    bytes: [u8; ADDRESS_BYTES as usize],
    len: u32,
}

impl Name {
    pub(super) fn new() -> Self {
        Self { bytes: [0; ADDRESS_BYTES as usize], len: 0 }
    }

    /// Writes a `sockaddr_in` or `sockaddr_in6`.
    pub(super) fn set(&mut self, address: SocketAddr) {
        let port = address.port().to_be_bytes();
        match address {
            SocketAddr::V4(v4) => {
                let mut bytes = [0; size_of::<libc::sockaddr_in>()];
                bytes[..2].copy_from_slice(&family(libc::AF_INET));
                bytes[2..4].copy_from_slice(&port);
                bytes[4..8].copy_from_slice(&v4.ip().octets());
                self.fill(&bytes);
            }
            SocketAddr::V6(v6) => {
                let mut bytes = [0; ADDRESS_BYTES as usize];
                bytes[..2].copy_from_slice(&family(libc::AF_INET6));
                bytes[2..4].copy_from_slice(&port);
                bytes[4..8].copy_from_slice(&v6.flowinfo().to_be_bytes());
                bytes[8..24].copy_from_slice(&v6.ip().octets());
                bytes[24..].copy_from_slice(&v6.scope_id().to_ne_bytes());
                self.fill(&bytes);
            }
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }

    fn fill<const N: usize>(&mut self, bytes: &[u8; N]) {
        self.bytes[..N].copy_from_slice(bytes);
        // At most `ADDRESS_BYTES`.
        self.len = u32::try_from(N).unwrap_or(ADDRESS_BYTES);
    }
}

fn family(number: libc::c_int) -> [u8; 2] {
    u16::try_from(number).unwrap_or(0).to_ne_bytes()
}

/// Bytes of the longer kind of address.
pub(super) const ADDRESS_BYTES: u32 = 28;

const HEADER_BYTES: usize = size_of::<libc::cmsghdr>();

const _: () = assert!(size_of::<SegmentControl>() == HEADER_BYTES + 8);
const _: () = assert!(size_of::<libc::sockaddr_in6>() == ADDRESS_BYTES as usize);

#[cfg(test)]
mod tests {
    use super::*;

    fn as_bytes(address: &str) -> Vec<u8> {
        let mut name = Name::new();
        name.set(address.parse().unwrap());
        name.as_bytes().to_vec()
    }

    #[test]
    fn names_are_what_the_standard_library_would_give_the_kernel() {
        for address in ["192.0.2.7:5004", "[2001:db8::1]:5004", "[fe80::1%3]:5004"] {
            let other = socket2::SockAddr::from(address.parse::<SocketAddr>().unwrap());
            // SAFETY: `len` bytes of the storage are initialised; it outlives the slice.
            let bytes = unsafe {
                std::slice::from_raw_parts(other.as_ptr().cast::<u8>(), other.len() as usize)
            };
            assert_eq!(as_bytes(address), bytes, "{address}");
        }
    }

    #[test]
    fn addresses_read_back_and_mapped_ones_become_v4() {
        for (wire, read) in [
            ("192.0.2.7:5004", "192.0.2.7:5004"),
            ("[2001:db8::1]:5004", "[2001:db8::1]:5004"),
            ("[fe80::1%3]:5004", "[fe80::1%3]:5004"),
            ("[::ffff:192.0.2.7]:5004", "192.0.2.7:5004"),
        ] {
            assert_eq!(parse_address(&as_bytes(wire)), Some(read.parse().unwrap()));
        }
    }

    #[test]
    fn every_cut_of_an_address_is_refused_or_read() {
        let whole = as_bytes("[2001:db8::1]:5004");
        for end in 0..whole.len() {
            assert_eq!(parse_address(&whole[..end]), None, "{end}");
        }
        assert_eq!(parse_address(&[0xff; 28]), None);
    }
}
