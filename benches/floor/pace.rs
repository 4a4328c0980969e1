//! When what is sent: every client walks through the film from its own start.
//!
//! ```text
//! start    client 0, 1, 2 ..   1 s / ramp apart, like the sessions of headend-loadgen
//! turn     expire -> frames that are due -> sends -> wait for the next slot
//!          UDP: runs of a frame; one of more than 32 packets goes on in the next turn
//!          TCP: one send a frame
//! ------- ramp -------|=========== measured ===========|
//! ```
//! The wheel is the server's: its slots of 2 ms decide what is sent in one turn.
//! Invariant: nothing is sent before its time. Bound: a film's length.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use headend::base::ids::{RtpTs, SeqNo, Ssrc};
use headend::base::time::Mono;
use headend::base::wheel::{SLOT_NS, Wheel};
use headend_loadgen::net::sockets::client_address;
use headend_loadgen::stats::{Summary, Timing};

use crate::Failure;
use crate::drain::{Drain, Received};
use crate::gather::Head;
use crate::send::{Sender, Transport, Way, cpu_used};
use crate::shape::{FrameShape, Shape, TrackShape};
use crate::tcp::{self, TcpSender};
use crate::udp::UdpSender;

/// How much is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) clients: u32,
    pub(crate) seconds: u32,
    /// Clients started per second.
    pub(crate) ramp: u32,
}

/// What one way of sending cost.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) transport: Transport,
    pub(crate) way: Way,
    /// Of the seconds measured.
    pub(crate) packets: u64,
    pub(crate) sends: u64,
    pub(crate) bytes: u64,
    pub(crate) cpu: [Duration; 2],
    pub(crate) wall: Duration,
    /// Of frames against their time; of a live path, from a packet's stamp to its receipt.
    pub(crate) late: Summary,
    /// Of the whole run.
    pub(crate) lost: i128,
    pub(crate) refused: u64,
    pub(crate) waits: u64,
    pub(crate) drops: u64,
    /// Notices of sends without a copy: not copied, copied.
    pub(crate) notices: [u64; 2],
}

/// One track to one client.
struct Stream {
    /// UDP: the receiver's socket for the track.
    to: SocketAddrV4,
    /// TCP: its connection and its interleaved channel there.
    place: (u32, u8),
    track: usize,
    start: Mono,
    frame: usize,
    /// Runs of the frame that are sent.
    runs_sent: usize,
    seq: SeqNo,
    ssrc: Ssrc,
}

/// Counts so far.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    packets: u64,
    sends: u64,
    bytes: u64,
}

struct Pacer<'a> {
    shape: &'a Shape,
    sender: Sender,
    streams: Vec<Stream>,
    wheel: Wheel<u32>,
    counts: Counts,
    late: Timing,
}

impl Load {
    /// The film must last longer than the run, or the load would fade.
    pub(crate) fn check(self, shape: &Shape) -> Result<(), Failure> {
        let needed = self.ramp_time() + Duration::from_secs(self.seconds.into());
        if needed.as_secs() >= shape.seconds() {
            let have = shape.seconds();
            return Err(format!("the film lasts {have} s; {} are needed", needed.as_secs()).into());
        }
        Ok(())
    }

    fn ramp_time(self) -> Duration {
        Duration::from_secs(1) * self.clients / self.ramp
    }
}

/// Sends for the ramp and the time asked for.
pub(crate) fn run(
    shape: &Shape,
    load: Load,
    (transport, way): (Transport, Way),
    away: Option<Ipv4Addr>,
    drain_cpu: Option<usize>,
) -> Result<Found, Failure> {
    let tracks = shape.tracks.len();
    let (drain, sender) = match transport {
        Transport::Udp if away.is_some() => {
            let at = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, AWAY_FROM_PORT);
            (None, Sender::Udp(UdpSender::new(way, at)?))
        }
        Transport::Udp => {
            let at = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
            (Some(Drain::udp(tracks, drain_cpu)?), Sender::Udp(UdpSender::new(way, at)?))
        }
        Transport::Tcp => {
            let listener = tcp::listen()?;
            let port = listener.local_addr()?.port();
            let mut drain = Drain::tcp(port, load.clients, drain_cpu)?;
            let sender = TcpSender::accept(way, &listener, load.clients as usize)?;
            drain.wait_until_connected()?;
            (Some(drain), Sender::Tcp(sender))
        }
    };
    let begin = clock() + Duration::from_millis(100);
    let ports = drain.as_ref().map_or(&[][..], Drain::ports);
    let mut pacer = Pacer::new(shape, load, sender, begin, (away, ports))?;
    let full = begin + load.ramp_time();
    pacer.turn_until(full)?;
    pacer.late = Timing::default();
    let (before, cpu_before, wall_before) = (pacer.counts, cpu_used(), clock());
    let noticed = pacer.sender.notices();
    pacer.turn_until(full + Duration::from_secs(load.seconds.into()))?;
    let (after, cpu_after, wall_after) = (pacer.counts, cpu_used(), clock());
    let notices = pacer.sender.notices();
    let received = drain.map(Drain::finish).transpose()?;
    let came = received.map_or(after.packets, |received: Received| received.packets);
    let cpu = [cpu_after[0] - cpu_before[0], cpu_after[1] - cpu_before[1]];
    Ok(Found {
        transport,
        way,
        packets: after.packets - before.packets,
        sends: after.sends - before.sends,
        bytes: after.bytes - before.bytes,
        cpu,
        wall: wall_after.since(wall_before),
        late: pacer.late.summary(),
        lost: i128::from(after.packets) - i128::from(came),
        refused: pacer.sender.refused(),
        waits: pacer.sender.waits(),
        drops: received.map_or(0, |received| received.drops),
        notices: [notices[0] - noticed[0], notices[1] - noticed[1]],
    })
}

impl<'a> Pacer<'a> {
    /// `ports`: the receiver's for each track, on UDP. `away`: there is no receiver, and all
    /// clients have this address.
    fn new(
        shape: &'a Shape,
        load: Load,
        sender: Sender,
        begin: Mono,
        (away, ports): (Option<Ipv4Addr>, &[u16]),
    ) -> Result<Self, Failure> {
        let mut wheel = Wheel::new(clock());
        let mut streams = Vec::new();
        for client in 0..load.clients {
            let own = client_address(client as usize).ok_or("too many clients")?;
            let start = begin + Duration::from_secs(1) * client / load.ramp;
            for (track, of_track) in shape.tracks.iter().enumerate() {
                let key = u32::try_from(streams.len())?;
                let to = match away {
                    // Pairs of ports, as clients of one host have them.
                    Some(address) => {
                        let pair = key % u32::from(AWAY_PAIRS);
                        let port = AWAY_PORT + 2 * u16::try_from(pair).unwrap_or(0);
                        SocketAddrV4::new(address, port)
                    }
                    None => SocketAddrV4::new(own, ports.get(track).copied().unwrap_or(0)),
                };
                streams.push(Stream {
                    to,
                    place: (client, u8::try_from(2 * track)?),
                    track,
                    start,
                    frame: 0,
                    runs_sent: 0,
                    seq: SeqNo(0),
                    ssrc: Ssrc(key),
                });
                let first = of_track.frames.first().map_or(0, |frame| frame.due_ns);
                wheel.insert(start + Duration::from_nanos(first), key);
            }
        }
        let counts = Counts::default();
        Ok(Self { shape, sender, streams, wheel, counts, late: Timing::default() })
    }

    fn turn_until(&mut self, end: Mono) -> Result<(), Failure> {
        let mut due = Vec::new();
        loop {
            let now = clock();
            if now >= end {
                return Ok(());
            }
            self.wheel.expire(now, &mut due);
            for key in due.drain(..) {
                if let Some(next) = self.pump(key, now)? {
                    self.wheel.insert(next, key);
                }
            }
            let next = self.wheel.next_due().unwrap_or(end);
            self.sender.finish_turn(next.min(end))?;
        }
    }

    /// Sends what is due of a stream. When it has more; `None`: no more.
    fn pump(&mut self, key: u32, now: Mono) -> Result<Option<Mono>, Failure> {
        let stream = &mut self.streams[key as usize];
        let track = &self.shape.tracks[stream.track];
        loop {
            let Some(frame) = track.frames.get(stream.frame) else { return Ok(None) };
            let due = stream.start + Duration::from_nanos(frame.due_ns);
            if due > now {
                return Ok(Some(due));
            }
            if stream.runs_sent == 0 {
                self.late.record(now.since(due));
            }
            let ts = RtpTs(stream.ssrc.0).offset_ticks(frame.rtp_ticks);
            let counts = &mut self.counts;
            let is_whole = match &mut self.sender {
                Sender::Udp(sender) => stream.send_runs(sender, track, frame, ts, counts)?,
                Sender::Tcp(sender) => stream.send_frame(sender, track, frame, ts, counts)?,
            };
            if !is_whole {
                return Ok(Some(now + Duration::from_nanos(SLOT_NS)));
            }
            stream.frame += 1;
            stream.runs_sent = 0;
        }
    }
}

impl Stream {
    /// Sends the runs of a frame; false when the rest belongs to the next turn.
    fn send_runs(
        &mut self,
        sender: &mut UdpSender,
        track: &TrackShape,
        frame: &FrameShape,
        ts: RtpTs,
        counts: &mut Counts,
    ) -> Result<bool, Failure> {
        let first = frame.runs.start + self.runs_sent;
        for (i, run) in track.runs[first..frame.runs.end].iter().enumerate() {
            if run.begins_burst && i > 0 {
                return Ok(false);
            }
            match &track.image {
                Some(image) => {
                    let bytes = image.get(run.image_offset..run.image_offset + run.bytes);
                    let bytes = bytes.ok_or("a run leaves the image")?;
                    sender.send_range(bytes, run.segment_bytes, run.packets.len(), self.to)?;
                }
                None => {
                    let head = Head { ssrc: self.ssrc, seq: self.seq, ts };
                    sender.send(track, run, self.to, head)?;
                }
            }
            self.count(run.packets.len(), run.bytes, counts)?;
            self.runs_sent += 1;
        }
        Ok(true)
    }

    /// Sends a frame, by one send unless it is huge.
    fn send_frame(
        &mut self,
        sender: &mut TcpSender,
        track: &TrackShape,
        frame: &FrameShape,
        ts: RtpTs,
        counts: &mut Counts,
    ) -> Result<bool, Failure> {
        let mut packets = track.packets_of(frame);
        while !packets.is_empty() {
            let head = Head { ssrc: self.ssrc, seq: self.seq, ts };
            let taken = sender.send(track, packets.clone(), self.place, head)?;
            let sent = packets.start..packets.start + taken;
            let bytes = track.packets[sent].iter().map(|packet| usize::from(packet.bytes)).sum();
            self.count(taken, bytes, counts)?;
            packets.start += taken;
        }
        Ok(true)
    }

    fn count(&mut self, packets: usize, bytes: usize, counts: &mut Counts) -> Result<(), Failure> {
        self.seq = self.seq.plus(u16::try_from(packets)?);
        counts.packets += packets as u64;
        counts.sends += 1;
        counts.bytes += bytes as u64;
        Ok(())
    }
}

/// The server's first RTP port.
const AWAY_FROM_PORT: u16 = 8_000;
const AWAY_PORT: u16 = 20_000;
const AWAY_PAIRS: u16 = 20_000;

/// The clock that everything here goes by.
pub(crate) fn clock() -> Mono {
    Mono(headend_loadgen::time::Clock.now().as_ns())
}
