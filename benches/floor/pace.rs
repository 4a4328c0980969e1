//! When what is sent: every client walks through the film from its own start.
//!
//! ```text
//! start    client 0, 1, 2 ..   1 s / ramp apart, like the sessions of headend-loadgen
//! turn     expire -> frames that are due -> their runs -> wait for the next slot
//!          a frame of more than 32 packets goes on in the next turn
//! ------- ramp -------|=========== measured ===========|
//! ```
//! The wheel is the server's: its slots of 2 ms decide what is sent in one turn.
//! Invariant: nothing is sent before its time. Bound: a film's length.

use std::net::SocketAddrV4;
use std::time::Duration;

use headend::base::ids::{RtpTs, SeqNo, Ssrc};
use headend::base::time::Mono;
use headend::base::wheel::{SLOT_NS, Wheel};
use headend_loadgen::net::sockets::client_address;
use headend_loadgen::stats::{Summary, Timing};

use crate::Failure;
use crate::drain::{Drain, Received};
use crate::send::{Head, Sender, Way, cpu_used};
use crate::shape::Shape;

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
    pub(crate) way: Way,
    /// Of the seconds measured.
    pub(crate) packets: u64,
    pub(crate) sends: u64,
    pub(crate) bytes: u64,
    pub(crate) cpu: [Duration; 2],
    pub(crate) wall: Duration,
    pub(crate) late: Summary,
    /// Of the whole run.
    pub(crate) lost: i128,
    pub(crate) refused: u64,
    pub(crate) drops: u64,
}

/// One track to one client.
struct Stream {
    to: SocketAddrV4,
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
    way: Way,
    drain_cpu: Option<usize>,
) -> Result<Found, Failure> {
    let drain = Drain::start(shape.tracks.len(), drain_cpu)?;
    let begin = clock() + Duration::from_millis(100);
    let mut pacer = Pacer::new(shape, load, way, begin, drain.ports())?;
    let full = begin + load.ramp_time();
    pacer.turn_until(full)?;
    pacer.late = Timing::default();
    let (before, cpu_before, wall_before) = (pacer.counts, cpu_used(), clock());
    pacer.turn_until(full + Duration::from_secs(load.seconds.into()))?;
    let (after, cpu_after, wall_after) = (pacer.counts, cpu_used(), clock());
    let Received { packets, drops } = drain.finish()?;
    let cpu = [cpu_after[0] - cpu_before[0], cpu_after[1] - cpu_before[1]];
    Ok(Found {
        way,
        packets: after.packets - before.packets,
        sends: after.sends - before.sends,
        bytes: after.bytes - before.bytes,
        cpu,
        wall: wall_after.since(wall_before),
        late: pacer.late.summary(),
        lost: i128::from(after.packets) - i128::from(packets),
        refused: pacer.sender.refused,
        drops,
    })
}

impl<'a> Pacer<'a> {
    fn new(
        shape: &'a Shape,
        load: Load,
        way: Way,
        begin: Mono,
        ports: &[u16],
    ) -> Result<Self, Failure> {
        let mut wheel = Wheel::new(clock());
        let mut streams = Vec::new();
        for client in 0..load.clients {
            let address = client_address(client as usize).ok_or("too many clients")?;
            let start = begin + Duration::from_secs(1) * client / load.ramp;
            for (track, port) in ports.iter().enumerate() {
                let key = u32::try_from(streams.len())?;
                streams.push(Stream {
                    to: SocketAddrV4::new(address, *port),
                    track,
                    start,
                    frame: 0,
                    runs_sent: 0,
                    seq: SeqNo(0),
                    ssrc: Ssrc(key),
                });
                let first = shape.tracks[track].frames.first().map_or(0, |frame| frame.due_ns);
                wheel.insert(start + Duration::from_nanos(first), key);
            }
        }
        let (sender, counts) = (Sender::new(way)?, Counts::default());
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
            let first = frame.runs.start + stream.runs_sent;
            let ts = RtpTs(stream.ssrc.0).offset_ticks(frame.rtp_ticks);
            for (i, run) in track.runs[first..frame.runs.end].iter().enumerate() {
                if run.begins_burst && i > 0 {
                    return Ok(Some(now + Duration::from_nanos(SLOT_NS)));
                }
                let head = Head { to: stream.to, ssrc: stream.ssrc, seq: stream.seq, ts };
                self.sender.send(track, run, head)?;
                let packets = run.packets.len();
                stream.seq = stream.seq.plus(u16::try_from(packets)?);
                stream.runs_sent += 1;
                self.counts.packets += packets as u64;
                self.counts.sends += 1;
                self.counts.bytes += run.bytes as u64;
            }
            stream.frame += 1;
            stream.runs_sent = 0;
        }
    }
}

/// The clock that everything here goes by.
pub(crate) fn clock() -> Mono {
    Mono(headend_loadgen::time::Clock.now().as_ns())
}
