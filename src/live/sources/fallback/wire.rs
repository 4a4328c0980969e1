//! The RTP streams of a path that is fed by one source after another: one identity for its life.
//!
//! ```text
//!  source a   .. 17 18 19 |                         SSRC, sequence numbers and RTP time of each
//!  source b               | [sets] 900 901 903 ..
//!  path       .. 17 18 19 |  20 21  22  23  25 ..   its SSRC; time goes on by arrival
//! ```
//! A switch moves all tracks by the same time, so that sound and picture stay together: the least
//! time with which no track goes back. After the first switch each key frame that comes without
//! parameter sets is preceded by those of its source: a reader that skips needs them, too.
//!
//! `live::core::rewrite` is another thing: it changes the headers of one reader's stream as they
//! are sent, each stream by itself. Here packets are written once for all readers, all tracks
//! together.
//!
//! Invariants: a track's SSRC never changes; the number after a switch is the highest one plus one;
//! RTP time after a switch is later than all before; packets lost before the server stay a gap.
//! Bound: `LIVE_TRACKS_MAX` tracks.

use crate::base::ids::{RtpTs, SeqNo, Ssrc};
use crate::base::time::{Mono, rescale};
use crate::live::core::clock::{ClockPoint, PLAUSIBLE_NS, ticks_between};
use crate::live::core::source::ArrivalTime;
use crate::rtp::HEADER_BYTES;

/// The streams of a path: see the module.
#[derive(Debug)]
pub(crate) struct Wire {
    tracks: Vec<WireTrack>,
    /// Time by which the present source's tracks are moved.
    shift_ns: i64,
    /// Key frames have parameter sets before them from the first source on.
    always_sets: bool,
}

/// One stream of the path.
#[derive(Debug)]
struct WireTrack {
    ssrc: Ssrc,
    clock_rate_hz: u32,
    sent: Option<Sent>,
    map: Option<Map>,
    /// A packet of another stream than the first has been sent.
    has_crossed: bool,
}

/// The newest packet of a stream.
#[derive(Debug, Clone, Copy)]
struct Sent {
    seq: SeqNo,
    ts: RtpTs,
    source: Packet,
    shift_ns: i64,
}

/// Difference between the headers of the path and of the source's stream.
#[derive(Debug, Clone, Copy)]
struct Map {
    ssrc: Ssrc,
    seq_delta: u16,
    ts_delta: u32,
    /// The packet from which on the difference applies, and the packets since then.
    from: SeqNo,
    count: u32,
}

/// A packet as its source numbered it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packet {
    pub(crate) ssrc: Ssrc,
    pub(crate) seq: SeqNo,
    pub(crate) ts: RtpTs,
    /// Arrival from the source.
    pub(crate) received: Mono,
    /// The source's line from RTP time to wall clock.
    pub(crate) clock: Option<ClockPoint>,
    /// RTP ticks that the packet lasts, where its bytes tell; otherwise 0.
    pub(crate) lasts: i64,
}

impl Packet {
    /// When the packet was captured, on the server's clock: by the source's reports, unless they
    /// contradict its arrival.
    fn captured_ns(&self, clock_rate_hz: u32, at: ArrivalTime) -> i64 {
        let received_ns = i64::try_from(self.received.0).unwrap_or(i64::MAX);
        let ahead_ns = at.utc_ns.saturating_sub(i64::try_from(at.now.0).unwrap_or(i64::MAX));
        let by_clock = self
            .clock
            .map(|point| point.utc_ns_of(self.ts, clock_rate_hz).saturating_sub(ahead_ns));
        let is_plausible = |ns: &i64| ns.abs_diff(received_ns) <= PLAUSIBLE_NS;
        by_clock.filter(is_plausible).unwrap_or(received_ns)
    }
}

impl Wire {
    /// Streams with these SSRCs and clock rates, without any packet yet.
    pub(crate) fn new(tracks: impl Iterator<Item = (Ssrc, u32)>) -> Self {
        let track = |(ssrc, clock_rate_hz)| WireTrack {
            ssrc,
            clock_rate_hz,
            sent: None,
            map: None,
            has_crossed: false,
        };
        Self { tracks: tracks.map(track).collect(), shift_ns: 0, always_sets: false }
    }

    /// Readers come from other paths, and have been told of other parameter sets: `needs_sets` of
    /// each key frame.
    pub(crate) fn with_sets(self, always_sets: bool) -> Self {
        Self { always_sets, ..self }
    }

    /// SSRC of a track.
    pub(crate) fn ssrc(&self, track: u8) -> Option<Ssrc> {
        self.tracks.get(usize::from(track)).map(|track| track.ssrc)
    }

    /// Whether a key frame of this stream needs parameter sets before it: always, or when it comes
    /// after packets of another stream.
    pub(crate) fn needs_sets(&self, track: u8, ssrc: Ssrc) -> bool {
        let Some(track) = self.tracks.get(usize::from(track)) else { return false };
        let is_same = track.map.is_some_and(|map| map.ssrc == ssrc);
        self.always_sets || track.has_crossed || track.sent.is_some() && !is_same
    }

    /// Another source follows; these are the first packets of its tracks, as far as they are here.
    pub(crate) fn cross(&mut self, firsts: &[(u8, Packet)], at: ArrivalTime) {
        let needed = firsts.iter().filter_map(|(track, first)| {
            let track = self.tracks.get(usize::from(*track))?;
            let sent = track.sent?;
            let hz = track.clock_rate_hz;
            let last_ns = sent.source.captured_ns(hz, at).saturating_add(sent.shift_ns);
            let step_ns = rescale(sent.source.lasts, hz, NS_PER_S).max(STEP_NS);
            Some(last_ns.saturating_add(step_ns).saturating_sub(first.captured_ns(hz, at)))
        });
        self.shift_ns = needed.max().unwrap_or(self.shift_ns).max(0);
        for track in &mut self.tracks {
            track.map = None;
        }
    }

    /// Puts a parameter set into a packet before the packet `next`.
    pub(crate) fn write_set(
        &mut self,
        (track, payload_type): (u8, u8),
        next: &Packet,
        set: &[u8],
        at: ArrivalTime,
        out: &mut Vec<u8>,
    ) {
        let shift_ns = self.shift_ns;
        let Some(track) = self.tracks.get_mut(usize::from(track)) else { return };
        let mut map = track.map_for(next, shift_ns, at);
        let seq = next.seq.plus(map.seq_delta);
        let ts = RtpTs(next.ts.0.wrapping_add(map.ts_delta));
        out.clear();
        out.extend_from_slice(&[0x80, payload_type & 0x7f]);
        out.extend_from_slice(&seq.0.to_be_bytes());
        out.extend_from_slice(&ts.0.to_be_bytes());
        out.extend_from_slice(&track.ssrc.0.to_be_bytes());
        out.extend_from_slice(set);
        (map.seq_delta, map.from, map.count) = (map.seq_delta.wrapping_add(1), next.seq, 0);
        track.map = Some(map);
        track.note_sent(seq, ts, next, shift_ns);
    }

    /// Writes a packet of the source as one of the path. False for a packet that is to be dropped:
    /// it arrived late, after a number that it would have now.
    pub(crate) fn write(
        &mut self,
        (track, payload_type): (u8, u8),
        packet: &Packet,
        bytes: &[u8],
        at: ArrivalTime,
        out: &mut Vec<u8>,
    ) -> bool {
        let shift_ns = self.shift_ns;
        let Some(track) = self.tracks.get_mut(usize::from(track)) else { return false };
        let mut map = track.map_for(packet, shift_ns, at);
        let is_late = map.from.0.wrapping_sub(packet.seq.0);
        if map.count < LATE_MAX && is_late != 0 && is_late < 1 << 15 {
            return false;
        }
        map.count = map.count.saturating_add(1);
        track.map = Some(map);
        let seq = packet.seq.plus(map.seq_delta);
        let ts = RtpTs(packet.ts.0.wrapping_add(map.ts_delta));
        out.clear();
        out.extend_from_slice(bytes);
        let Some(header) = out.first_chunk_mut::<HEADER_BYTES>() else { return false };
        header[1] = header[1] & 0x80 | payload_type & 0x7f;
        header[2..4].copy_from_slice(&seq.0.to_be_bytes());
        header[4..8].copy_from_slice(&ts.0.to_be_bytes());
        header[8..12].copy_from_slice(&track.ssrc.0.to_be_bytes());
        track.note_sent(seq, ts, packet, shift_ns);
        true
    }

    /// The path's RTP time at this moment, by the source's clock. It is the time of what was
    /// captured before, as far as the source's tracks are moved: so the line from RTP time to wall
    /// clock goes on over all sources.
    pub(crate) fn ts_at(&self, track: u8, clock: ClockPoint, utc_ns: i64) -> Option<RtpTs> {
        let track = self.tracks.get(usize::from(track))?;
        let ts = clock.ts_at(utc_ns.saturating_sub(self.shift_ns), track.clock_rate_hz);
        Some(RtpTs(ts.0.wrapping_add(track.map?.ts_delta)))
    }
}

impl WireTrack {
    /// The difference for a packet; a new one when the packet begins a stream.
    fn map_for(&mut self, packet: &Packet, shift_ns: i64, at: ArrivalTime) -> Map {
        if let Some(map) = self.map.filter(|map| map.ssrc == packet.ssrc) {
            return map;
        }
        let (ssrc, from) = (packet.ssrc, packet.seq);
        let Some(sent) = self.sent else {
            return Map { ssrc, seq_delta: 0, ts_delta: 0, from, count: 0 };
        };
        self.has_crossed = true;
        let hz = self.clock_rate_hz;
        let last_ns = sent.source.captured_ns(hz, at).saturating_add(sent.shift_ns);
        let next_ns = packet.captured_ns(hz, at).saturating_add(shift_ns);
        let ticks = rescale(next_ns.saturating_sub(last_ns), NS_PER_S, hz);
        let step = i64::from(hz / 1_000).max(1).max(sent.source.lasts);
        let ts = sent.ts.offset_ticks(ticks.max(step));
        let seq_delta = sent.seq.plus(1).0.wrapping_sub(packet.seq.0);
        Map { ssrc, seq_delta, ts_delta: ts.0.wrapping_sub(packet.ts.0), from, count: 0 }
    }

    fn note_sent(&mut self, seq: SeqNo, ts: RtpTs, source: &Packet, shift_ns: i64) {
        let Some(sent) = &mut self.sent else {
            self.sent = Some(Sent { seq, ts, source: *source, shift_ns });
            return;
        };
        if seq.0.wrapping_sub(sent.seq.0) < 1 << 15 {
            sent.seq = seq;
        }
        if ticks_between(sent.ts, ts) >= 0 {
            (sent.ts, sent.source, sent.shift_ns) = (ts, *source, shift_ns);
        }
    }
}

const NS_PER_S: u32 = 1_000_000_000;
/// Between the last packet of a source and the first one of the next.
const STEP_NS: i64 = 1_000_000;
/// Packets after a change of numbers among which one from before it may still arrive.
const LATE_MAX: u32 = 1_000;

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
