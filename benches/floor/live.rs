//! A live path without a server: each picture to all clients at once, from memory that is hot.
//!
//! ```text
//! film (headend-loadgen --publish) --> packets --> the server's own batches --> runs
//! picture n at n / frame rate: stamp its packets; for each client: its runs, 32 packets at most;
//!                              2 ms later: the next ones of a large picture
//! ```
//! UDP: a run is one range of bytes, one iovec and one send; TCP: a picture is, framed beforehand.
//! Headers are the same for all, so nothing is copied or written for a client: less than this no
//! server can do. The receiver reads the stamps: how long a packet took here is what it takes at
//! least. Invariant: a picture's bytes change only while no send of it is in the kernel.
//! Bound: a group of pictures in memory.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::Range;
use std::time::Duration;

use clap::Parser;
use headend::base::ids::{RtpTs, SeqNo, Ssrc};
use headend::base::time::Mono;
use headend::live::core::batch::{Arrival, BatchBuilder, Generation};
use headend_loadgen::cli::Options;
use headend_loadgen::net::sockets::client_address;
use headend_loadgen::publish::FilmOptions;
use headend_loadgen::publish::film::{Film, Picture};
use headend_loadgen::publish::packets::Track;
use headend_loadgen::publish::stamp;
use headend_loadgen::wire::push_interleaved;
use rtp_types::RtpPacket;

use crate::Failure;
use crate::drain::{Drain, Received};
use crate::pace::{Found, Load, clock};
use crate::send::{Sender, Transport, Way, cpu_used};
use crate::shape::BURST_PACKETS_MAX;
use crate::tcp::{self, TcpSender};
use crate::udp::UdpSender;

/// What is sent, over and over.
pub(crate) struct LiveShape {
    frame_interval: Duration,
    frames: Vec<Frame>,
}

/// A picture.
#[derive(Debug, Default)]
struct Frame {
    bytes: Vec<u8>,
    runs: Vec<Run>,
    /// Each packet in `bytes`, and what is to be behind its stamp.
    stamps: Vec<(Range<usize>, usize)>,
}

#[derive(Debug, Clone)]
struct Run {
    bytes: Range<usize>,
    segment_bytes: u16,
    packets: usize,
}

impl LiveShape {
    /// The film that `headend-loadgen --publish` makes of the same options.
    pub(crate) fn new(words: &[String], transport: Transport) -> Result<Self, Failure> {
        let line = ["x", "--publish", "rtsp://h/x"].into_iter().map(str::to_owned);
        let options = Options::try_parse_from(line.chain(words.iter().cloned()))?.film;
        let FilmOptions { bit_rate, frame_rate, gop, key_ratio, .. } = options;
        let film = Film::new(bit_rate, frame_rate, gop, key_ratio);
        let mut track = Track::new(96, 90_000, 1, 0, 0);
        let (mut picture, mut packet) = (Picture::default(), Vec::new());
        let mut frames = Vec::with_capacity(gop as usize);
        for number in 0..u64::from(gop) {
            film.make(number, &mut picture);
            let mut packets = Vec::new();
            let ts = track.ts(number * 90_000 / u64::from(frame_rate));
            track.split(&picture, ts, &mut packet, |packet, behind| {
                packets.push((packet.clone(), behind));
            });
            frames.push(match transport {
                Transport::Udp => Frame::of_batch(&packets)?,
                Transport::Tcp => Frame::framed(&packets),
            });
        }
        Ok(Self { frame_interval: Duration::from_secs(1) / frame_rate, frames })
    }
}

impl Frame {
    /// Cut into runs as the server does it.
    fn of_batch(packets: &[(Vec<u8>, usize)]) -> Result<Self, Failure> {
        let mut builder = BatchBuilder::default();
        for (bytes, _) in packets {
            let packet = RtpPacket::parse(bytes).map_err(|_| "the film is no RTP")?;
            let arrival = Arrival {
                track: 0,
                ssrc: Ssrc(packet.ssrc()),
                seq: SeqNo(packet.sequence_number()),
                ts: RtpTs(packet.timestamp()),
                marker: packet.marker_bit(),
                header_bytes: 12,
                is_sync: false,
                bytes,
            };
            builder.push(&arrival, Mono(0))?;
        }
        let batch = builder.build(Generation(0), |_| None).ok_or("an empty picture")?;
        let mut frame = Self::default();
        for run in batch.runs_of(0) {
            let from = frame.bytes.len();
            for packet in batch.packets_of(run) {
                let behind = packets.get(frame.stamps.len()).map_or(0, |(_, behind)| *behind);
                frame.push(batch.packet_bytes(packet), behind);
            }
            frame.runs.push(Run {
                bytes: from..frame.bytes.len(),
                segment_bytes: run.segment_bytes,
                packets: usize::from(run.packet_count),
            });
        }
        Ok(frame)
    }

    /// Interleaved, all in one.
    fn framed(packets: &[(Vec<u8>, usize)]) -> Self {
        let mut frame = Self::default();
        for (bytes, behind) in packets {
            let mut framed = Vec::new();
            push_interleaved(&mut framed, 0, bytes);
            frame.push(&framed, *behind);
        }
        let (bytes, packets) = (0..frame.bytes.len(), frame.stamps.len());
        frame.runs.push(Run { bytes, segment_bytes: 0, packets });
        frame
    }

    fn push(&mut self, bytes: &[u8], behind: usize) {
        let from = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.stamps.push((from..self.bytes.len(), behind));
    }

    fn stamp(&mut self, now: Mono) {
        let now = headend_loadgen::time::Mono::from_ns(now.0);
        for (range, behind) in &self.stamps {
            stamp::write(&mut self.bytes[range.clone()], *behind, now);
        }
    }

    /// The runs that go out together, from `first` on.
    fn burst(&self, first: usize) -> Range<usize> {
        let mut packets = 0;
        let fits = |run: &&Run| {
            packets += run.packets;
            packets <= BURST_PACKETS_MAX
        };
        let count = self.runs[first..].iter().take_while(fits).count();
        first..first + count.max(1)
    }
}

/// Counts so far.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    packets: u64,
    sends: u64,
    bytes: u64,
}

/// Sends for the time asked for.
pub(crate) fn run(
    shape: &mut LiveShape,
    load: Load,
    (transport, way): (Transport, Way),
    drain_cpu: Option<usize>,
) -> Result<Found, Failure> {
    let (drain, mut sender) = match transport {
        Transport::Udp => {
            let at = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
            (Drain::udp(1, drain_cpu)?, Sender::Udp(UdpSender::new(way, at)?))
        }
        Transport::Tcp => {
            let listener = tcp::listen()?;
            let port = listener.local_addr()?.port();
            let mut drain = Drain::tcp(port, load.clients, drain_cpu)?;
            let sender = TcpSender::accept(way, &listener, load.clients as usize)?;
            drain.wait_until_connected()?;
            (drain, Sender::Tcp(sender))
        }
    };
    let port = drain.ports().first().copied().unwrap_or(0);
    let addresses = (0..load.clients).map(|client| client_address(client as usize));
    let clients: Option<Vec<SocketAddrV4>> =
        addresses.map(|address| Some(SocketAddrV4::new(address?, port))).collect();
    let clients = clients.ok_or("too many clients")?;
    let mut counts = Counts::default();
    // A second to get warm.
    let begin = clock() + Duration::from_millis(100);
    let full = begin + Duration::from_secs(1);
    let mut number = 0;
    send_until(shape, &clients, &mut sender, (begin, &mut number, full), &mut counts)?;
    let (before, cpu_before, wall_before) = (counts, cpu_used(), clock());
    let end = full + Duration::from_secs(load.seconds.into());
    send_until(shape, &clients, &mut sender, (begin, &mut number, end), &mut counts)?;
    let (cpu_after, wall_after) = (cpu_used(), clock());
    let (refused, waits) = (sender.refused(), sender.waits());
    let Received { packets, drops, added } = drain.finish()?;
    Ok(Found {
        transport,
        way,
        packets: counts.packets - before.packets,
        sends: counts.sends - before.sends,
        bytes: counts.bytes - before.bytes,
        cpu: [cpu_after[0] - cpu_before[0], cpu_after[1] - cpu_before[1]],
        wall: wall_after.since(wall_before),
        late: added,
        lost: i128::from(counts.packets) - i128::from(packets),
        refused,
        waits,
        drops,
        notices: [0, 0],
    })
}

fn send_until(
    shape: &mut LiveShape,
    clients: &[SocketAddrV4],
    sender: &mut Sender,
    (begin, number, end): (Mono, &mut u32, Mono),
    counts: &mut Counts,
) -> Result<(), Failure> {
    loop {
        let due = begin + shape.frame_interval * *number;
        if due >= end {
            return Ok(());
        }
        sender.finish_turn(due)?;
        let place = *number as usize % shape.frames.len();
        *number += 1;
        let frame = &mut shape.frames[place];
        frame.stamp(clock());
        let mut first = 0;
        while first < frame.runs.len() {
            let burst = frame.burst(first);
            let next = clock() + BURST_INTERVAL;
            for (client, to) in (0..).zip(clients) {
                for run in &frame.runs[burst.clone()] {
                    let bytes = &frame.bytes[run.bytes.clone()];
                    match sender {
                        Sender::Udp(sender) => {
                            sender.send_range(bytes, run.segment_bytes, run.packets, *to)?;
                        }
                        Sender::Tcp(sender) => sender.send_range(bytes, client)?,
                    }
                    counts.packets += run.packets as u64;
                    counts.sends += 1;
                    counts.bytes += bytes.len() as u64;
                }
            }
            first = burst.end;
            // All that is queued goes out now: the next picture may change these bytes.
            let until = if first < frame.runs.len() { next } else { clock() };
            sender.finish_turn(until)?;
        }
    }
}

/// As the server's.
const BURST_INTERVAL: Duration = Duration::from_millis(2);
