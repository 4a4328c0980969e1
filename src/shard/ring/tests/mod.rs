//! The ring against the real kernel, over loopback sockets. Every test passes by skipping, with a
//! printed line, where io_uring is not available. What a real kernel does not do when it is asked
//! to is in `edges`, against a kernel that answers as the test says.

mod arrivals;
mod batches;
mod connects;
mod edges;
mod ends;
mod refusals;
mod runs;
mod scripted;
mod sealed;
mod streams;
mod zerocopy;

use std::fs::File;
use std::io::Write;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::base::time::Npt;
use crate::library::title::{FileIdentity, Title};
use crate::mapped::MappedFile;
use crate::media::asset::Asset;
use crate::media::window::{Frame, PacketWindow, WindowBuilder};
use crate::rtp::WireBase;

/// A small ring, or `None` where there is no io_uring.
fn ring() -> Option<Ring> {
    ring_with(|_| {})
}

fn ring_with(change: impl FnOnce(&mut RingConfig)) -> Option<Ring> {
    let mut config = RingConfig {
        sq_entries: 64,
        files_max: 512,
        stream_buffers: 8,
        datagram_buffers: 8,
        run_slots: 128,
        gso: Mode::Auto,
        zerocopy: Mode::Off,
    };
    change(&mut config);
    match Ring::new(&config) {
        Ok(ring) => Some(ring),
        Err(error @ (RingError::Unavailable { .. } | RingError::KernelTooOld { .. })) => {
            println!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Enters until `count` completions have come.
fn reap(ring: &mut Ring, count: usize) -> Vec<Completion> {
    let mut reaped = Vec::new();
    for _ in 0..ENTERS_MAX {
        reaped.extend(std::iter::from_fn(|| ring.next_completion()));
        if reaped.len() >= count {
            return reaped;
        }
        ring.enter(Some(20_000_000)).unwrap();
    }
    panic!("{} of {count} completions: {reaped:?}", reaped.len());
}

/// Enters until nothing is in the kernel any more.
fn settle(ring: &mut Ring) -> Vec<Completion> {
    let mut reaped = Vec::new();
    for _ in 0..ENTERS_MAX {
        ring.enter(Some(1_000_000)).unwrap();
        reaped.extend(std::iter::from_fn(|| ring.next_completion()));
        if ring.uring.in_kernel() == 0 {
            return reaped;
        }
    }
    panic!("{} operations do not end", ring.uring.in_kernel());
}

/// A title of `bytes`, which are also what its packets carry.
fn title(bytes: &[u8]) -> Arc<Title> {
    let mut file: File = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    let asset = Asset {
        tracks: Vec::new(),
        left_out: Vec::new(),
        duration: Npt::ZERO,
        container: "mp4",
        file_bytes: bytes.len() as u64,
        created_utc_ns: None,
        problems: Vec::new(),
    };
    let bytes = bytes.len() as u64;
    Arc::new(Title {
        wire: WireBase::new(1),
        name: "test.mp4".to_owned(),
        url_path: "vod/title.mp4".into(),
        asset,
        map: MappedFile::new(&file).unwrap(),
        identity: FileIdentity { device: 0, inode: 0, bytes, modified_ns: 0 },
        file,
    })
}

/// Bytes in which every position is recognised.
fn pattern(bytes: usize) -> Vec<u8> {
    (0..u32::try_from(bytes).unwrap())
        .map(|at| (at ^ (at >> 8) ^ (at >> 15)).to_le_bytes()[0])
        .collect()
}

/// One frame with a packet for each of `sizes`: two inline bytes, the rest from the file, which is
/// used up from its start.
fn window(sizes: &[usize]) -> Arc<PacketWindow> {
    let mut builder = WindowBuilder::new();
    let mut offset = 0_usize;
    for (number, size) in sizes.iter().enumerate() {
        builder.push_inline(&[0xfe, u8::try_from(number % 256).unwrap()]);
        builder.push_file(offset as u64, size - 2);
        offset += size - 2;
        builder.end_packet(number + 1 == sizes.len());
    }
    finish(builder)
}

fn finish(mut builder: WindowBuilder) -> Arc<PacketWindow> {
    builder.end_frame(Frame::SYNC);
    Arc::new(builder.finish())
}

/// What `window` of the same sizes looks like on the wire, with the headers of `header`.
fn expected(sizes: &[usize], file: &[u8]) -> Vec<Vec<u8>> {
    let mut offset = 0_usize;
    let packet = |(number, size): (usize, &usize)| {
        let mut packet = header(number).to_vec();
        packet.extend([0xfe, u8::try_from(number % 256).unwrap()]);
        packet.extend(&file[offset..offset + size - 2]);
        offset += size - 2;
        packet
    };
    sizes.iter().enumerate().map(packet).collect()
}

fn header(number: usize) -> [u8; 12] {
    let [high, low] = u16::try_from(number).unwrap().to_be_bytes();
    [0x80, 96, high, low, 0, 0, 0, 1, 0xca, 0xfe, 0xf0, 0x0d]
}

/// A loopback receiver that gives up after a while instead of hanging a failing test.
fn receiver(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 65_536];
    let len = socket.recv(&mut buffer).unwrap();
    buffer.truncate(len);
    buffer
}

fn has_nothing_more(socket: &UdpSocket) -> bool {
    socket.set_nonblocking(true).unwrap();
    let nothing = socket.recv(&mut [0; 64]).is_err();
    socket.set_nonblocking(false).unwrap();
    nothing
}

const ENTERS_MAX: usize = 2_000;
