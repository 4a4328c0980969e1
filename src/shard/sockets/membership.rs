//! Joins sockets to groups: for packets of any sender (RFC 1112, RFC 2710), or of some senders
//! (source-specific: RFC 4607, RFC 3678).
//!
//! ```text
//!  any sender    IP_ADD_MEMBERSHIP, IPV6_JOIN_GROUP      of socket2
//!  one sender    MCAST_JOIN_SOURCE_GROUP                 v4 and v6 alike, interface by index
//! ```
//! No crate has `MCAST_JOIN_SOURCE_GROUP` with an index. The option of IPv4 names an interface by
//! an address, which several interfaces may share and some do not have.
//!
//! Invariant: a socket receives packets of the groups that it has joined and of no others, whatever
//! other programs of the host have joined (`IP_MULTICAST_ALL` off).
#![allow(unsafe_code, reason = "socket options that no crate has; a room with unsafe code")]

use std::io;
use std::mem::{offset_of, size_of};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketType};
use socket2::{InterfaceIndexOrAddress, SockAddr, SockRef};

/// Index of an interface by its name.
///
/// # Errors
/// The host has no interface of that name.
pub(in crate::shard) fn interface_index(name: &str) -> io::Result<u32> {
    // Any socket will do (netdevice(7)).
    let any = rustix::net::socket(AddressFamily::UNIX, SocketType::DGRAM, None)?;
    Ok(name_to_index(any, name)?)
}

/// Joins `group` on an interface (0: the routing table decides), for `senders` or, without any, for
/// all senders.
///
/// # Errors
/// `setsockopt` fails: there is no route, or the socket has joined too many groups.
pub(in crate::shard) fn join_group(
    fd: impl AsFd,
    group: IpAddr,
    senders: &[IpAddr],
    interface: u32,
) -> io::Result<()> {
    let fd = fd.as_fd();
    set_own_groups_only(fd, group)?;
    if senders.is_empty() {
        let socket = SockRef::from(&fd);
        return match group {
            IpAddr::V4(group) => {
                let by = InterfaceIndexOrAddress::Index(interface);
                socket.join_multicast_v4_n(&group, &by)
            }
            IpAddr::V6(group) => socket.join_multicast_v6(&group, interface),
        };
    }
    senders.iter().try_for_each(|sender| join_source_group(fd, group, *sender, interface))
}

fn join_source_group(
    fd: impl AsFd,
    group: IpAddr,
    sender: IpAddr,
    interface: u32,
) -> io::Result<()> {
    let request = SourceRequest { interface, group: storage(group), sender: storage(sender) };
    set_option(fd, level_of(group), libc::MCAST_JOIN_SOURCE_GROUP, &request)
}

fn set_own_groups_only(fd: impl AsFd, group: IpAddr) -> io::Result<()> {
    let name = if group.is_ipv4() { libc::IP_MULTICAST_ALL } else { libc::IPV6_MULTICAST_ALL };
    set_option(fd, level_of(group), name, &0_i32)
}

fn level_of(group: IpAddr) -> libc::c_int {
    if group.is_ipv4() { libc::IPPROTO_IP } else { libc::IPPROTO_IPV6 }
}

fn storage(ip: IpAddr) -> libc::sockaddr_storage {
    let address = SockAddr::from(SocketAddr::new(ip, 0));
    // SAFETY: `zeroed` requires a type for which all bytes zero are a value: sockaddr_storage is
    // integers. Test: `group_of_one_sender_gets_nothing_of_another`.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let bytes = usize::try_from(address.len()).unwrap_or(0).min(size_of::<SockaddrStorage>());
    // SAFETY: `copy_nonoverlapping` requires `bytes` to be readable at the first pointer and
    // writable at the second, without overlap: `as_ptr` points to `len` bytes of an address, and
    // `storage` is a value of our own of at least that size.
    unsafe {
        std::ptr::copy_nonoverlapping(
            address.as_ptr().cast::<u8>(),
            (&raw mut storage).cast::<u8>(),
            bytes,
        );
    }
    storage
}

fn set_option<T>(
    fd: impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
) -> io::Result<()> {
    let bytes = libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0);
    let (raw, value) = (fd.as_fd().as_raw_fd(), (&raw const *value).cast());
    // SAFETY: `setsockopt` requires an open descriptor, which `fd` is while it is borrowed, and
    // `bytes` readable bytes at `value`: a `T` that outlives the call. Kernel structures among them
    // are `repr(C)`. Test: `group_of_one_sender_gets_nothing_of_another`.
    let result = unsafe { libc::setsockopt(raw, level, name, value, bytes) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

type SockaddrStorage = libc::sockaddr_storage;

/// `struct group_source_req` (RFC 3678 s5.1.4).
#[repr(C)]
struct SourceRequest {
    interface: u32,
    group: libc::sockaddr_storage,
    sender: libc::sockaddr_storage,
}

const _: () = assert!(size_of::<SourceRequest>() == size_of::<libc::group_source_req>());
const _: () =
    assert!(offset_of!(SourceRequest, group) == offset_of!(libc::group_source_req, gsr_group));
const _: () =
    assert!(offset_of!(SourceRequest, sender) == offset_of!(libc::group_source_req, gsr_source));
