//! The source that feeds a path at present: its batches are relayed from the ring of its path.
//!
//! ```text
//!  ring of the source's path --cursor--> batch --fit, wire--> publisher of the fed path
//! ```
//! Invariants: a batch is relayed once, in order; a video track begins with a key frame.
//! Bound: the packets of one batch.

use crate::base::ids::{RtpTs, Ssrc};
use crate::live::core::batch::{Generation, PacketBatch};
use crate::live::core::clock::ClockPoint;
use crate::live::core::demux::Target;
use crate::live::core::path::{LivePath, PathKey};
use crate::live::core::source::ArrivalTime;
use crate::live::sources::fallback::fit::{Fit, FitTrack};
use crate::live::sources::fallback::relay::Room;
use crate::live::sources::fallback::wire::{Packet, Wire};
use crate::live::sources::publisher::Publisher;
use crate::rtcp::ntp_from_utc_ns;
use crate::rtp::aac_ticks;
use crate::rtp::detect::KeyFrameDetector;

/// The source that feeds the path.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) source: usize,
    pub(super) key: PathKey,
    pub(super) generation: Generation,
    /// Number of the next batch.
    pub(super) cursor: u64,
    fit: Fit,
    /// By track of the source: a key frame is not needed, or has been sent.
    has_begun: Vec<bool>,
    /// By track of the source: the clock that the path was told.
    told: Vec<Option<ClockPoint>>,
}

impl Feed {
    /// Begins with the batch `cursor` of a path that can feed the other one.
    pub(super) fn new(source: usize, path: &LivePath, fit: Fit, cursor: u64) -> Self {
        let tracks = &path.description().tracks;
        Self {
            source,
            key: path.key,
            generation: path.generation,
            cursor,
            has_begun: tracks.iter().map(|track| !track.needs_sync).collect(),
            told: vec![None; tracks.len()],
            fit,
        }
    }

    /// Whether the next batch is still to come from this path, or is in its ring.
    pub(super) fn continues_in(&self, path: &LivePath) -> bool {
        (path.key, path.generation) == (self.key, self.generation)
            && path.ring().first_no() <= self.cursor
    }

    /// The first packets of the tracks, from the cursor on, by track of the fed path.
    pub(super) fn firsts(&self, path: &LivePath) -> Vec<(u8, Packet)> {
        let ring = path.ring();
        let tracks = (0_u8..).zip(&self.fit.tracks).zip(&self.has_begun);
        let first = |((track, fit), has_begun): ((u8, &Option<FitTrack>), &bool)| {
            let to = fit.as_ref()?.to;
            (self.cursor..ring.end_no()).find_map(|no| {
                let batch = ring.batch(no)?;
                let mut packets = batch
                    .runs_of(track)
                    .iter()
                    .flat_map(|run| batch.packets_of(run).iter().map(|packet| (run.ssrc, *packet)));
                let (ssrc, packet) = packets.find(|(_, packet)| *has_begun || packet.is_sync)?;
                let (received, clock) = (batch.received(), batch.clock_of(track));
                let (seq, ts, lasts) = (packet.seq, packet.ts, 0);
                Some((to, Packet { ssrc, seq, ts, received, clock, lasts }))
            })
        };
        tracks.filter_map(first).collect()
    }

    /// Relays one batch to the publisher with this number.
    pub(super) fn relay(
        &mut self,
        wire: &mut Wire,
        number: u32,
        batch: &PacketBatch,
        Room { cx, hub, publishers, out }: &mut Room<'_>,
    ) {
        let at = ArrivalTime { now: cx.now, utc_ns: cx.utc_ns };
        let received = batch.received();
        let places = self.has_begun.iter_mut().zip(&mut self.told);
        for ((track, fit), (has_begun, told)) in (0_u8..).zip(&self.fit.tracks).zip(places) {
            let Some(fit) = fit else { continue };
            let (target, clock) = (Target { source: number, track: fit.to }, batch.clock_of(track));
            for run in batch.runs_of(track) {
                for packet in batch.packets_of(run) {
                    let bytes = batch.packet_bytes(packet);
                    let its_type = bytes.get(1).map_or(0, |byte| byte & 0x7f);
                    *has_begun |= packet.is_sync;
                    let payload_type = fit.payload_type(its_type).filter(|_| *has_begun);
                    let Some(payload_type) = payload_type else { continue };
                    let (ssrc, seq, ts) = (run.ssrc, packet.seq, packet.ts);
                    let payload = bytes.get(usize::from(packet.header_bytes)..).unwrap_or_default();
                    let lasts = if fit.is_aac { aac_ticks(payload).unwrap_or(0) } else { 0 };
                    let numbered = Packet { ssrc, seq, ts, received, clock, lasts };
                    if packet.is_sync && wire.needs_sets(fit.to, ssrc) && lacks_sets(fit, payload) {
                        for set in &fit.sets {
                            wire.write_set((fit.to, payload_type), &numbered, set, at, out);
                            publishers.handle_packet(cx, target, None, out);
                        }
                    }
                    if wire.write((fit.to, payload_type), &numbered, bytes, at, out) {
                        publishers.handle_packet(cx, target, None, out);
                    }
                }
            }
            if let Some(point) = clock.filter(|_| *told != clock)
                && let Some(ts) = wire.ts_at(fit.to, point, cx.utc_ns)
                && let Some((ssrc, publisher)) = wire.ssrc(fit.to).zip(publishers.get_mut(&number))
            {
                *told = clock;
                pass_clock(publisher, fit.to, ssrc, (ntp_from_utc_ns(cx.utc_ns), ts), at);
            }
        }
        publishers.feed_one(hub, number, cx.now);
    }
}

/// Tells the path's source of the clock of the source behind it, as a sender report does.
fn pass_clock(
    publisher: &mut Publisher,
    track: u8,
    ssrc: Ssrc,
    line: (u64, RtpTs),
    at: ArrivalTime,
) {
    // The source counts a report that is not its own.
    let _foreign = publisher.source.handle_sender_report(track, None, ssrc, line, at);
}

/// Whether a key frame comes without the parameter sets of its source's description.
fn lacks_sets(fit: &FitTrack, payload: &[u8]) -> bool {
    !fit.sets.is_empty() && !KeyFrameDetector::new(fit.format).detect(payload).sets
}
