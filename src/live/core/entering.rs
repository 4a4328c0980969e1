//! A session that had another feed takes over a reader of a path, under its own wire identity.
//!
//! ```text
//!  add_reader, add_stream, prepare --> Primed: looks for the first packets, is sent nothing
//!  starts: all known --> enter --> Playing: the next sequence number, RTP time by the crossing
//! ```
//! The session is sent its old feed while the reader looks for its first packets. It is sent the
//! new one from the first of these packets on, as they arrived: so it stays behind the source by
//! their age (`live::core::crossing`). A stream whose first packet is not known at `enter` follows
//! by its line, as after a break.
//!
//! Invariant: the first packet of a stream has the sequence number `Entering::seq`.

use crate::base::ids::{RtpTs, SeqNo, Ssrc};
use crate::base::time::Mono;
use crate::live::core::batch::Generation;
use crate::live::core::clock::{ClockPoint, PLAUSIBLE_NS};
use crate::live::core::crossing::{WireTime, wait_ns};
use crate::live::core::path::{LivePath, PathError, ReaderKey};
use crate::live::core::reader::{NextRun, ReaderStream, To};
use crate::live::core::rewrite::{HeaderRewrite, LastSent, NextPacket, Origin, Stamp};
use crate::live::core::ring::BatchRing;
use crate::live::core::source::ArrivalTime;
use crate::live::core::start::Pace;

/// The wire identity that a stream brings along.
#[derive(Debug, Clone, Copy)]
pub struct Entering {
    /// SSRC of the stream.
    pub ssrc: Ssrc,
    /// Sequence number of the next packet.
    pub seq: SeqNo,
    /// RTP time.
    pub time: WireTime,
    /// A payload type of the path, and what the client was told instead; `None`: the same.
    pub payload_type: Option<(u8, u8)>,
    /// RTP packets and payload bytes sent before.
    pub sent: (u64, u64),
}

impl LivePath {
    /// Adds a stream without packets to a reader: the path has no track for it.
    ///
    /// # Errors
    /// `NoReader`.
    pub fn add_silent_stream(
        &mut self,
        key: ReaderKey,
        clock_rate_hz: u32,
        to: To,
    ) -> Result<u8, PathError> {
        let reader = self.reader_mut(key).ok_or(PathError::NoReader)?;
        let mut stream = ReaderStream::new(NO_TRACK, clock_rate_hz, false);
        stream.to = to;
        reader.streams.push(stream);
        Ok(u8::try_from(reader.streams.len() - 1).unwrap_or(u8::MAX))
    }

    /// The reader of `play` stays as far behind its source as its first packets are, instead of
    /// catching up: its player has no more buffered than at a later change of its feed.
    pub fn stay_behind(&mut self, key: ReaderKey, at: ArrivalTime) {
        let ring = &self.ring;
        let reader = self.readers.get_mut(key.index as usize);
        let Some((_, reader)) = reader.filter(|(serial, _)| *serial == key.serial) else { return };
        let firsts = reader.streams.iter_mut().filter_map(|stream| {
            let first = stream.first_packet(ring)?;
            Some((first.received, captured_utc_ns(&first, stream.clock_rate_hz, at)))
        });
        let firsts: Vec<_> = firsts.collect();
        let received = firsts.iter().map(|(received, _)| *received).min();
        let captured_ns = firsts.iter().map(|(_, captured_ns)| *captured_ns).min();
        let Some((received, captured_ns)) = received.zip(captured_ns) else { return };
        reader.pace = Pace::behind(at.now, received);
        reader.delay_ns = at.utc_ns.saturating_sub(captured_ns);
    }

    /// Makes a primed reader one of `owner` whose streams go on as `streams` say, and plays.
    /// `None` is a stream without a packet before.
    pub fn enter(
        &mut self,
        key: ReaderKey,
        owner: u64,
        streams: &[Option<Entering>],
        at: ArrivalTime,
    ) {
        let ring = &self.ring;
        let reader = self.readers.get_mut(key.index as usize);
        let Some((_, reader)) = reader.filter(|(serial, _)| *serial == key.serial) else { return };
        reader.owner = owner;
        let firsts: Vec<_> =
            reader.streams.iter_mut().map(|stream| stream.first_packet(ring)).collect();
        let captured = |(stream, first): (&ReaderStream, &Option<NextPacket>)| {
            Some(captured_utc_ns(first.as_ref()?, stream.clock_rate_hz, at))
        };
        let captured: Vec<_> = reader.streams.iter().zip(&firsts).map(captured).collect();
        let earliest_ns = captured.iter().flatten().min().copied().unwrap_or(at.utc_ns);
        let known = reader.streams.iter().zip(&captured).zip(streams);
        let wait_ns = wait_ns(known.filter_map(|((stream, captured_ns), entering)| {
            let since_ns = (*captured_ns)?.saturating_sub(earliest_ns);
            let (time, hz) = ((*entering)?.time, stream.clock_rate_hz);
            Some((time, at.utc_ns.saturating_add(since_ns), hz))
        }));
        reader.delay_ns = at.utc_ns.saturating_add(wait_ns).saturating_sub(earliest_ns);
        let delay_ns = reader.delay_ns;
        let arrivals = firsts.iter().flatten().map(|first| received_utc_ns(first, at));
        let lags =
            arrivals.zip(captured.iter().flatten()).map(|(at, from)| at.saturating_sub(*from));
        let lag_ns = lags.min().unwrap_or(0);
        for ((stream, first), entering) in reader.streams.iter_mut().zip(&firsts).zip(streams) {
            if let Some(entering) = entering {
                stream.enter(entering, first.as_ref(), (delay_ns, lag_ns), at);
            }
        }
        self.play(key, at.now);
        let received = firsts.iter().flatten().map(|first| first.received).min();
        if let Some((reader, received)) = self.reader_mut(key).zip(received) {
            reader.pace = Pace::behind(at.now.offset_ns(wait_ns), received);
        }
    }
}

impl ReaderStream {
    /// The packet that the stream would be sent next.
    fn first_packet(&mut self, ring: &BatchRing) -> Option<NextPacket> {
        let NextRun::Run { no, run, packet, rewrite } = self.peek(ring, &mut 0) else {
            return None;
        };
        let batch = ring.batch(no)?;
        let first = batch.packets_of(&run).get(usize::from(packet))?;
        Some(NextPacket {
            origin: rewrite.origin,
            seq: first.seq,
            ts: first.ts,
            received: batch.received(),
            clock: batch.clock_of(self.track),
        })
    }

    /// `delay_ns` is the time from the capture of a frame to its place on the stream's line,
    /// `lag_ns` that to its arrival.
    fn enter(
        &mut self,
        entering: &Entering,
        first: Option<&NextPacket>,
        (delay_ns, lag_ns): (i64, i64),
        at: ArrivalTime,
    ) {
        let Entering { ssrc, seq, time, payload_type, sent } = *entering;
        self.sent_before = sent;
        let hz = self.clock_rate_hz;
        let last_seq = seq.plus(u16::MAX);
        let last_ts = time.next.offset_ticks(-1);
        let (rewrite, received, clock) = match first {
            Some(first) => {
                let shown_ns = captured_utc_ns(first, hz, at).saturating_add(delay_ns);
                let to = Stamp { ssrc, seq, ts: time.line.ts_at(shown_ns, hz) };
                let rewrite = HeaderRewrite::entering(first, to, payload_type);
                self.cursor.rewrite = Some(rewrite);
                (rewrite, first.received, first.clock)
            }
            None => {
                // As if the feed before had been one of this path, as far behind.
                let line = ClockPoint {
                    utc_ns: time.line.utc_ns.saturating_sub(delay_ns),
                    ts: time.line.ts,
                };
                let (no, ts) = (SeqNo(0), RtpTs(0));
                let origin = Origin { generation: ELSEWHERE, ssrc };
                let received = mono_of(line.utc_ns_of(last_ts, hz).saturating_add(lag_ns), at);
                let nothing = NextPacket { origin, seq: no, ts, received, clock: None };
                let to = Stamp { ssrc, seq: no, ts };
                (HeaderRewrite::entering(&nothing, to, payload_type), received, Some(line))
            }
        };
        self.cursor.last_sent =
            Some(LastSent { rewrite, seq: last_seq, ts: last_ts, received, clock });
    }
}

/// Wall-clock time of what a packet shows: by the source's clock, unless the clock contradicts the
/// packet's arrival.
fn captured_utc_ns(first: &NextPacket, clock_rate_hz: u32, at: ArrivalTime) -> i64 {
    let received_ns = received_utc_ns(first, at);
    let by_clock = first.clock.map(|clock| clock.utc_ns_of(first.ts, clock_rate_hz));
    let is_plausible = |utc_ns: &i64| utc_ns.abs_diff(received_ns) <= PLAUSIBLE_NS;
    by_clock.filter(is_plausible).unwrap_or(received_ns)
}

fn received_utc_ns(first: &NextPacket, at: ArrivalTime) -> i64 {
    let ago_ns = i64::try_from(at.now.since(first.received).as_nanos()).unwrap_or(i64::MAX);
    at.utc_ns.saturating_sub(ago_ns)
}

fn mono_of(utc_ns: i64, at: ArrivalTime) -> Mono {
    let since = utc_ns.saturating_sub(at.utc_ns);
    Mono(at.now.0.saturating_add_signed(since))
}

/// No path has a track with this number: streams without packets have it.
pub const NO_TRACK: u8 = u8::MAX;
/// Generation of the feed before, which was no source of this path.
const ELSEWHERE: Generation = Generation(u32::MAX);
