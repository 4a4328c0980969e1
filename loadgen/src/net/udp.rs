//! Datagrams in batches, each with its destination, arrival time and segment size.
//!
//! ```text
//! recvmmsg: [BATCH][64 KiB] payload, [BATCH][128] control
//!   control: IP_PKTINFO      destination address -> which client
//!            SO_TIMESTAMPNS  arrival in the kernel -> lateness without our own delay
//!            UDP_GRO         several equal packets in one read, the last may be shorter
//! ```
//! Invariant: a payload handed out lies within its buffer, whatever lengths the kernel gives.
//! Bound: [`BATCH`] reads of 64 KiB; the buffers are made once.

use socket2::{MsgHdr, SockAddr, Socket};
use std::io::{self, IoSlice};
use std::mem;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;

/// Datagrams (or runs of them, with GRO) per system call. More would need more buffers than a
/// second-level cache holds with the sessions beside them.
pub const BATCH: usize = 16;
const PAYLOAD_BYTES: usize = 65_536;
/// Time stamp 32, packet info 32, segment size 24, rounded up.
const CONTROL_BYTES: usize = 128;
const HEADER_BYTES: usize = size_of::<libc::cmsghdr>();
const NS_PER_S: u64 = 1_000_000_000;

/// What one read gave.
#[derive(Debug, Clone, Copy)]
pub struct Datagram<'a> {
    /// One packet, or several of `segment_bytes` each.
    pub payload: &'a [u8],
    /// Bytes of one packet, never 0; only the last may be shorter.
    pub segment_bytes: usize,
    /// Address it was sent to, when the socket asks for packet info.
    pub destination: Option<Ipv4Addr>,
    /// Wall-clock time of arrival in the kernel, in nanoseconds.
    pub arrival_wall_ns: Option<u64>,
}

/// Buffers for batched reads from any socket.
#[derive(Debug)]
pub struct Receiver {
    payloads: Vec<u8>,
    controls: Vec<u8>,
}

impl Default for Receiver {
    fn default() -> Self {
        Self { payloads: vec![0; BATCH * PAYLOAD_BYTES], controls: vec![0; BATCH * CONTROL_BYTES] }
    }
}

impl Receiver {
    /// Reads what waits at `socket`, at most one batch; 0 when nothing waits.
    pub fn receive(
        &mut self,
        socket: &Socket,
        mut on: impl FnMut(Datagram<'_>),
    ) -> io::Result<usize> {
        // SAFETY: `iovec` and `mmsghdr` are plain C structures for which all zeroes is a value.
        let (mut vectors, mut messages): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) =
            unsafe { (mem::zeroed(), mem::zeroed()) };
        let buffers =
            self.payloads.chunks_mut(PAYLOAD_BYTES).zip(self.controls.chunks_mut(CONTROL_BYTES));
        for ((message, vector), (payload, control)) in
            messages.iter_mut().zip(&mut vectors).zip(buffers)
        {
            vector.iov_base = payload.as_mut_ptr().cast();
            vector.iov_len = payload.len();
            message.msg_hdr.msg_iov = vector;
            message.msg_hdr.msg_iovlen = 1;
            message.msg_hdr.msg_control = control.as_mut_ptr().cast();
            message.msg_hdr.msg_controllen = control.len();
        }
        let fd = socket.as_raw_fd();
        let count = libc::c_uint::try_from(messages.len()).unwrap_or(0);
        // SAFETY: `recvmmsg` writes through the pointers in `messages`.
        // - There are BATCH headers; each names one vector and one control buffer, which lie in
        //   `vectors`, `self.payloads` and `self.controls` with the lengths given, disjoint
        //   (chunks), and outlive the call. No name is asked for (`msg_name` is null).
        // - The timeout is null, which is allowed; `fd` is open as long as `socket` is borrowed.
        let got = unsafe {
            libc::recvmmsg(
                fd,
                messages.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let Ok(got) = usize::try_from(got) else {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::WouldBlock { Ok(0) } else { Err(error) };
        };
        let buffers = self.payloads.chunks(PAYLOAD_BYTES).zip(self.controls.chunks(CONTROL_BYTES));
        for (message, (payload, control)) in messages.iter().take(got).zip(buffers) {
            let length = usize::try_from(message.msg_len).unwrap_or(0);
            let payload = payload.get(..length).unwrap_or(payload);
            let control = control.get(..message.msg_hdr.msg_controllen).unwrap_or(control);
            on(datagram_from(payload, control));
        }
        Ok(got)
    }
}

/// Sends `payload` to `to`, from our address `from` where the socket is bound to none.
pub fn send(
    socket: &Socket,
    payload: &[u8],
    from: Option<Ipv4Addr>,
    to: SocketAddr,
) -> io::Result<()> {
    let (address, buffers) = (SockAddr::from(to), [IoSlice::new(payload)]);
    let control = from.map(packet_info);
    let mut message = MsgHdr::new().with_addr(&address).with_buffers(&buffers);
    if let Some(control) = &control {
        message = message.with_control(control);
    }
    socket.sendmsg(&message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL).map(|_| ())
}

/// What a wildcard or a single socket should be told before it is bound.
pub fn prepare(socket: &Socket, receive_bytes: usize, packet_info: bool) -> io::Result<()> {
    let wanted = libc::c_int::try_from(receive_bytes).unwrap_or(libc::c_int::MAX);
    // Past the system's limit needs the right to administer the network; else take what is given.
    if set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, wanted).is_err() {
        socket.set_recv_buffer_size(receive_bytes)?;
    }
    set_option(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)?;
    // Kernels before 5.0 lack it; then every packet is a read of its own.
    let _ = set_option(socket, libc::SOL_UDP, libc::UDP_GRO, 1);
    if packet_info {
        set_option(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
    }
    Ok(())
}

/// Lets connect() choose the port by the whole 4-tuple instead of bind() taking one for itself.
pub fn bind_without_port(socket: &Socket) -> io::Result<()> {
    set_option(socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)
}

/// Datagrams the kernel has dropped because this socket's buffer was full.
#[must_use]
pub fn drops(socket: &Socket) -> u64 {
    const WORDS: usize = 16;
    let mut words = [0u32; WORDS];
    let mut length = libc::socklen_t::try_from(size_of_val(&words)).unwrap_or(0);
    // SAFETY: `getsockopt` writes at most `length` bytes to the buffer and the new length to
    // `length`; both are live locals, and the buffer is as long as `length` says.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            words.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    let place = usize::try_from(libc::SK_MEMINFO_DROPS).unwrap_or(WORDS);
    if result == 0 { words.get(place).map_or(0, |&count| u64::from(count)) } else { 0 }
}

fn set_option(
    socket: &Socket,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(0);
    // SAFETY: `setsockopt` reads `length` bytes at the pointer: `value` is a live local of just
    // that size.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A control message that sets the source address (ip(7), `ipi_spec_dst`).
fn packet_info(from: Ipv4Addr) -> [u8; HEADER_BYTES + 16] {
    let mut control = [0; HEADER_BYTES + 16];
    let length = HEADER_BYTES + size_of::<libc::in_pktinfo>();
    let parts = length
        .to_ne_bytes()
        .into_iter()
        .chain(libc::IPPROTO_IP.to_ne_bytes())
        .chain(libc::IP_PKTINFO.to_ne_bytes())
        .chain(0u32.to_ne_bytes())
        .chain(from.octets());
    control.iter_mut().zip(parts).for_each(|(place, byte)| *place = byte);
    control
}

/// Reads control messages by their layout (cmsg(3)): length, level, type, data, aligned to words.
fn datagram_from<'a>(payload: &'a [u8], mut control: &[u8]) -> Datagram<'a> {
    let whole = payload.len().max(1);
    let mut datagram =
        Datagram { payload, segment_bytes: whole, destination: None, arrival_wall_ns: None };
    while let Some((header, rest)) = control.split_at_checked(HEADER_BYTES) {
        let Some((length, kind)) = header.split_first_chunk::<{ size_of::<usize>() }>() else {
            break;
        };
        let length = usize::from_ne_bytes(*length);
        let Some(data) = length.checked_sub(HEADER_BYTES).and_then(|n| rest.get(..n)) else {
            break;
        };
        match (number(kind), kind.get(4..).and_then(number)) {
            (Some(libc::SOL_SOCKET), Some(libc::SCM_TIMESTAMPNS)) => {
                datagram.arrival_wall_ns = timestamp(data);
            }
            (Some(libc::IPPROTO_IP), Some(libc::IP_PKTINFO)) => {
                // Interface index, local address, then the destination of the IP header.
                datagram.destination = data
                    .get(8..12)
                    .and_then(|bytes| <[u8; 4]>::try_from(bytes).ok())
                    .map(Ipv4Addr::from);
            }
            (Some(libc::SOL_UDP), Some(libc::UDP_GRO)) => {
                let size = number(data).and_then(|n| usize::try_from(n).ok());
                datagram.segment_bytes = size.filter(|&n| n > 0).unwrap_or(whole);
            }
            _ => {}
        }
        let next = length.next_multiple_of(size_of::<usize>());
        control = control.get(next..).unwrap_or_default();
    }
    datagram
}

fn number(bytes: &[u8]) -> Option<i32> {
    bytes.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes))
}

/// `struct timespec` of a 64-bit system.
fn timestamp(data: &[u8]) -> Option<u64> {
    let (seconds, rest) = data.split_first_chunk::<8>()?;
    let nanoseconds = rest.first_chunk::<8>()?;
    let seconds = u64::try_from(i64::from_ne_bytes(*seconds)).ok()?;
    let nanoseconds = u64::try_from(i64::from_ne_bytes(*nanoseconds)).ok()?;
    seconds.checked_mul(NS_PER_S)?.checked_add(nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::sockets;

    #[test]
    fn datagram_to_a_loopback_address_tells_address_time_and_content() {
        let (pair, ports) = sockets::port_pair(None, true, 1 << 20).expect("pair");
        let sender = std::net::UdpSocket::bind("127.0.0.1:0").expect("sender");
        let destination = Ipv4Addr::new(127, 64, 3, 9);
        sender.send_to(b"hello", (destination, ports.0)).expect("sent");
        pair.0.set_nonblocking(false).expect("option");
        let mut seen = Vec::new();
        let mut receiver = Receiver::default();
        // Loopback delivers within send(): the datagram is there.
        let got = receiver
            .receive(&pair.0, |datagram| {
                assert!(datagram.arrival_wall_ns.is_some());
                seen.push((
                    datagram.payload.to_vec(),
                    datagram.segment_bytes,
                    datagram.destination,
                ));
            })
            .expect("received");
        assert_eq!(got, 1);
        assert_eq!(seen, [(b"hello".to_vec(), 5, Some(destination))]);
        assert_eq!(receiver.receive(&pair.0, |_| {}).expect("empty"), 0);
    }

    #[test]
    fn report_is_sent_from_the_address_asked_for() {
        let (pair, _) = sockets::port_pair(None, true, 1 << 16).expect("pair");
        let server = std::net::UdpSocket::bind("127.0.0.1:0").expect("server");
        let from = Ipv4Addr::new(127, 64, 7, 1);
        let to = server.local_addr().expect("address");
        send(&pair.1, b"report", Some(from), to).expect("sent");
        let mut bytes = [0; 16];
        let (length, source) = server.recv_from(&mut bytes).expect("received");
        assert_eq!((&bytes[..length], source.ip()), (b"report".as_slice(), from.into()));
    }

    #[test]
    fn run_of_a_sender_with_segmentation_comes_in_one_read() {
        const SEGMENT: libc::c_int = 100;
        let (pair, ports) = sockets::port_pair(None, true, 1 << 20).expect("pair");
        let sender = std::net::UdpSocket::bind("127.0.0.1:0").expect("sender").into();
        if set_option(&sender, libc::SOL_UDP, libc::UDP_SEGMENT, SEGMENT).is_err() {
            return; // A kernel without segmentation offload has no runs.
        }
        let to = SocketAddr::from((Ipv4Addr::new(127, 64, 0, 1), ports.0));
        send(&sender, &[7; 350], None, to).expect("sent");
        let mut segments = Vec::new();
        Receiver::default()
            .receive(&pair.0, |datagram| {
                let parts = datagram.payload.chunks(datagram.segment_bytes);
                segments.extend(parts.map(<[u8]>::len));
            })
            .expect("received");
        assert_eq!(segments, [100, 100, 100, 50]);
    }

    #[test]
    fn datagrams_beyond_the_buffer_are_known_as_dropped() {
        let (pair, ports) = sockets::port_pair(None, true, 4_096).expect("pair");
        let sender = std::net::UdpSocket::bind("127.0.0.1:0").expect("sender");
        for _ in 0..500 {
            sender.send_to(&[0; 1_400], ("127.0.0.1", ports.0)).expect("sent");
        }
        assert!(drops(&pair.0) > 0);
        assert_eq!(drops(&pair.1), 0);
    }

    proptest::proptest! {
        #[test]
        fn any_control_bytes_are_read_without_panic(
            control in proptest::collection::vec(0u8.., 0..200),
        ) {
            proptest::prop_assert!(datagram_from(b"abc", &control).segment_bytes > 0);
        }
    }
}
