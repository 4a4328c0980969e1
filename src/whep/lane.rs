//! One track of a path, from packets as received to packets as viewers get them: numbered, with the
//! parameter sets before each key frame, none longer than a datagram.
//!
//! ```text
//!  received  16 [SPS]  17 [IDR 9 kB]           19 [..]    18 is lost
//!  sent       1 [SPS]   2 [FU-A] .. 8 [FU-A]   10 [..]     9 is the gap
//!  received  40 [IDR]                                      sets came in the SDP only
//!  sent      31 [STAP-A SPS PPS]  32 [IDR]
//! ```
//! Payloads that fit are sent as they came. All viewers of a path have these numbers and times, but
//! for a constant each (`viewer`).
//!
//! Invariants: a number names one packet; a packet that the source lost, or that came too late for
//! its number, is a gap; RTP time does not jump where another source follows.
//! Bounds: `RECENT_MAX` numbers are kept for packets that come late; `PIECES_MAX` of `rtp::cut`.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::base::ids::{RtpTs, SeqNo, Ssrc};
use crate::base::time::{Mono, rescale};
use crate::live::core::batch::{Generation, PacketBatch};
use crate::live::core::clock::{ClockPoint, ticks_between};
use crate::rtp::RtpView;
use crate::rtp::cut::Pieces;
use crate::rtp::detect::DetectorFormat;
use crate::rtp::detect::nal::{SetKind, for_each_set_h264};
use crate::rtp::detect::sets::ParameterSets;
use crate::whep::format::Format;

/// A packet as viewers get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packet {
    /// It is sound.
    pub(super) is_audio: bool,
    /// Counts without wrapping.
    pub(super) number: u64,
    pub(super) ts: RtpTs,
    pub(super) marker: bool,
    /// A decoder can begin here.
    pub(super) is_start: bool,
    /// When it was captured, by the path's clock; `None`: unknown.
    pub(super) utc_ns: Option<i64>,
    pub(super) payload: Arc<[u8]>,
}

/// A track: see the module.
#[derive(Debug)]
pub(super) struct Lane {
    format: Format,
    /// Of video.
    sets: Option<ParameterSets>,
    /// RTP time of the newest set in band.
    sets_at: Option<RtpTs>,
    origin: Option<Origin>,
    /// The number behind the newest.
    next: u64,
    /// RTP time as sent of the newest packet, and its arrival.
    newest: Option<(RtpTs, Mono)>,
    pieces: Pieces,
    /// Packets that were neither sent nor lost on their way here.
    pub(super) left_out: u64,
}

/// What the numbers and times of one RTP stream are relative to.
#[derive(Debug)]
struct Origin {
    generation: Generation,
    ssrc: Ssrc,
    /// Highest sequence number received.
    newest: SeqNo,
    /// Numbers of the last packets, oldest first.
    recent: VecDeque<(SeqNo, u64)>,
    /// Added to RTP times; `None`: its first packet is to come.
    ts_delta: Option<u32>,
}

impl Lane {
    /// A track from which nothing has come; `sets` makes it video.
    pub(super) fn new(format: Format, sets: Option<ParameterSets>) -> Self {
        let pieces = Pieces::default();
        let (sets_at, origin, newest) = (None, None, None);
        Self { format, sets, sets_at, origin, next: 0, newest, pieces, left_out: 0 }
    }

    /// Another source, with a description of its own, goes on.
    pub(super) fn go_on(&mut self, format: Format, sets: Option<ParameterSets>) {
        (self.format, self.sets, self.sets_at) = (format, sets, None);
    }

    /// Takes the packets that a batch has of the track.
    pub(super) fn push(&mut self, batch: &PacketBatch, out: &mut Vec<Packet>) {
        let clock = batch.clock_of(self.format.place);
        for run in batch.runs_of(self.format.place) {
            self.meet(batch.generation(), run.ssrc);
            for packet in batch.packets_of(run) {
                let Ok(view) = RtpView::parse(batch.packet_bytes(packet)) else { continue };
                if view.payload_type() == self.format.payload_type && !view.payload().is_empty() {
                    self.take(&view, packet.is_sync, (clock, batch.received()), out);
                }
            }
        }
    }

    /// Another RTP stream begins, unless it is the one that goes on.
    fn meet(&mut self, generation: Generation, ssrc: Ssrc) {
        let is_known = |origin: &Origin| (origin.generation, origin.ssrc) == (generation, ssrc);
        if self.origin.as_ref().is_some_and(is_known) {
            return;
        }
        // Its first packet says the rest.
        let (newest, recent) = (SeqNo(0), VecDeque::new());
        self.origin = Some(Origin { generation, ssrc, newest, recent, ts_delta: None });
        self.sets_at = None;
    }

    fn take(
        &mut self,
        view: &RtpView<'_>,
        is_sync: bool,
        (clock, received): (Option<ClockPoint>, Mono),
        out: &mut Vec<Packet>,
    ) {
        let (payload, ts) = (view.payload(), view.ts());
        let inserted = self.note_sets(payload, ts, is_sync);
        let is_cut = payload.len() > PAYLOAD_BYTES_MAX;
        if is_cut && !(self.sets.is_some() && self.cut(payload)) {
            self.left_out += 1;
            return;
        }
        let count = if is_cut { self.pieces.count() } else { 1 };
        let extra = u64::from(inserted.is_some());
        let Some(first) = self.number(view.seq(), count as u64 + extra) else {
            self.left_out += 1;
            return;
        };
        let sent_ts = self.time(ts, received);
        let utc_ns = clock.map(|clock| clock.utc_ns_of(ts, self.format.clock_rate_hz));
        let is_audio = self.sets.is_none();
        let has_sets = inserted.is_some();
        let packet = |number: u64, is_start: bool, marker: bool, payload: Arc<[u8]>| Packet {
            is_audio,
            number,
            ts: sent_ts,
            marker,
            is_start,
            utc_ns,
            payload,
        };
        if let Some(sets) = inserted {
            out.push(packet(first, true, false, sets));
        }
        let (at, starts) = (first + extra, is_sync && !has_sets);
        if !is_cut {
            out.push(packet(at, starts, view.marker(), payload.into()));
            return;
        }
        for (place, piece) in (0_u64..).zip(self.pieces.iter()) {
            let is_last = place + 1 == count as u64;
            let marker = view.marker() && is_last;
            out.push(packet(at + place, starts && place == 0, marker, piece.into()));
        }
    }

    /// Takes parameter sets of a packet. Gives those in force when a key frame begins without any.
    fn note_sets(&mut self, payload: &[u8], ts: RtpTs, is_sync: bool) -> Option<Arc<[u8]>> {
        let sets = self.sets.as_mut()?;
        if payload.first().is_some_and(|first| matches!(first & 0x1f, NAL_SPS | NAL_PPS | STAP_A)) {
            sets.handle_payload(payload);
            for_each_set_h264(payload, |kind, _| {
                if kind == SetKind::Sps {
                    self.sets_at = Some(ts);
                }
            });
        }
        let wants_them = is_sync && self.sets_at != Some(ts) && sets.is_complete();
        wants_them.then(|| aggregate(sets)).flatten()
    }

    fn cut(&mut self, payload: &[u8]) -> bool {
        self.pieces.cut(DetectorFormat::H264, payload, PAYLOAD_BYTES_MAX)
    }

    /// The first of `count` numbers for a packet; `None`: it came twice, or too late.
    fn number(&mut self, seq: SeqNo, count: u64) -> Option<u64> {
        let origin = self.origin.as_mut()?;
        let ahead = seq.0.wrapping_sub(origin.newest.0);
        let behind = origin.newest.0.wrapping_sub(seq.0);
        if !origin.recent.is_empty() && behind <= MISORDER_MAX {
            // The packet behind it tells which number was left for it.
            let distance = |known: &SeqNo| known.0.wrapping_sub(seq.0);
            let later = origin.recent.iter().filter(|(known, _)| distance(known) <= MISORDER_MAX);
            let (known, number) = later.min_by_key(|(known, _)| distance(known)).copied()?;
            let is_twice = known == seq;
            let place = number.checked_sub(distance(&known).into())?;
            if is_twice || count != 1 {
                return None;
            }
            Self::keep(origin, seq, place);
            return Some(place);
        }
        // After a jump of the source one number is missing: how many were lost is not known.
        let lost = match ahead {
            _ if origin.recent.is_empty() => 0,
            1..=DROPOUT_MAX => u64::from(ahead) - 1,
            _ => 1,
        };
        if ahead > DROPOUT_MAX {
            origin.recent.clear();
        }
        let first = self.next + lost;
        self.next = first + count;
        origin.newest = seq;
        // Later packets are counted from its last piece, earlier ones from its first.
        Self::keep(origin, seq, first);
        Some(first)
    }

    fn keep(origin: &mut Origin, seq: SeqNo, number: u64) {
        if origin.recent.len() == RECENT_MAX {
            origin.recent.pop_front();
        }
        origin.recent.push_back((seq, number));
    }

    /// RTP time as sent. Where another stream follows it goes on by the time that has passed.
    fn time(&mut self, ts: RtpTs, received: Mono) -> RtpTs {
        let Some(origin) = self.origin.as_mut() else { return ts };
        let rate = self.format.clock_rate_hz;
        let newest = self.newest;
        let delta = *origin.ts_delta.get_or_insert_with(|| {
            let Some((newest, then)) = newest else { return 0 };
            let waited_ns = i64::try_from(received.since(then).as_nanos());
            let ticks = rescale(waited_ns.unwrap_or(i64::MAX), NS_PER_S, rate);
            newest.offset_ticks(ticks.max(i64::from(rate / 100))).0.wrapping_sub(ts.0)
        });
        let sent = RtpTs(ts.0.wrapping_add(delta));
        if self.newest.is_none_or(|(newest, _)| ticks_between(newest, sent) > 0) {
            self.newest = Some((sent, received));
        }
        sent
    }
}

/// The sets in one STAP-A (RFC 6184 s5.7.1); `None` when they are too long for a packet.
fn aggregate(sets: &ParameterSets) -> Option<Arc<[u8]>> {
    let mut packet = vec![STAP_A | 0x60];
    for set in sets.of_kind(SetKind::Sps).chain(sets.of_kind(SetKind::Pps)) {
        packet.extend_from_slice(&u16::try_from(set.len()).ok()?.to_be_bytes());
        packet.extend_from_slice(set);
    }
    (packet.len() <= PAYLOAD_BYTES_MAX).then(|| packet.into())
}

/// Bytes of a payload that are sent in one packet, as browsers send them. With all headers they are
/// less than 1,300, which pass tunnels, also over IPv6, where no router cuts.
pub(super) const PAYLOAD_BYTES_MAX: usize = 1_200;
/// RFC 3550 appendix A.1.
const MISORDER_MAX: u16 = 100;
const DROPOUT_MAX: u16 = 3_000;
/// Numbers that are kept: as many as packets may come late.
const RECENT_MAX: usize = MISORDER_MAX as usize;
const NAL_SPS: u8 = 7;
const NAL_PPS: u8 = 8;
const STAP_A: u8 = 24;
const NS_PER_S: u32 = 1_000_000_000;
