//! What a publisher's packets are judged by, as records.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::base::host::Host;
use crate::base::ids::{RtpTs, SeqNo, Ssrc};
use crate::base::time::Mono;
use crate::live::core::batch::Generation;
use crate::live::core::datagrams::{CUTS_MAX, Datagrams};
use crate::live::core::description::Description;
use crate::live::core::latch::AddressLatch;
use crate::live::core::liveness::Liveness;
use crate::live::core::reception::Reception;
use crate::live::core::source::{DROP_REASONS, Source, SourceCounts, SourceTrack};
use crate::live::core::ssrc_latch::{Held, Sign, SsrcLatch};
use crate::live::core::takeover::{clock_of, clock_record};
use crate::takeover::live::{
    CutsRecord, PublisherTrackRecord, ReceptionRecord, SourceRecord, StreamHeldRecord,
};

impl Source {
    /// For another process; all its packets have been fed.
    #[must_use]
    pub fn record(&self) -> SourceRecord {
        let SourceCounts { packets, bytes, batches, sync_samples, dropped } = self.counts;
        SourceRecord {
            began_ns: self.began.map(|at| at.0),
            packet_ns: self.liveness.packet.0,
            sign_ns: self.liveness.sign.0,
            reported_ns: self.reported.0,
            sync_asked_ns: self.sync_asked.map(|at| at.0),
            clock_offset_ns: self.clock.offset_ns,
            packets,
            bytes,
            batches,
            sync_samples,
            dropped: dropped.to_vec(),
        }
    }

    /// Adds to the record of a track what is known of its packets.
    pub fn record_track(&self, index: u8, to: &mut PublisherTrackRecord) {
        let clock = self.clock.tracks.get(usize::from(index));
        to.clock = clock.and_then(|clock| clock.point).map(clock_record);
        to.is_clock_reported = clock.is_some_and(|clock| clock.is_reported);
        let Some(track) = self.track(index) else { return };
        to.heard_from = [fixed(track.rtp), fixed(track.rtcp)];
        to.stream = track.ssrc.held.as_ref().map(held_record);
        let replaced = track.ssrc.replaced.iter();
        to.replaced = replaced.map(|one| one.map(|(ssrc, heard)| (ssrc.0, heard.0))).collect();
        to.reception = track.reception.as_ref().map(Reception::record);
        to.sync_ts = track.sync_ts.map(|ts| ts.0);
        to.cuts = track.datagrams.record();
        to.counts = (track.meter.packets, track.meter.bytes);
        to.lost_before = track.meter.lost_before;
    }

    /// As another process has told; `generation` is the one under which packets are taken.
    #[must_use]
    pub fn of_record(
        (path, description): (Arc<str>, Arc<Description>),
        own_ssrc: Ssrc,
        generation: Option<Generation>,
        record: &SourceRecord,
    ) -> Self {
        let now = Mono(record.packet_ns);
        let mut made = Self::new(path, description, own_ssrc, false, now);
        made.generation = generation;
        made.began = record.began_ns.map(Mono);
        made.liveness = Liveness { packet: now, sign: Mono(record.sign_ns) };
        made.reported = Mono(record.reported_ns);
        made.sync_asked = record.sync_asked_ns.map(Mono);
        made.clock.offset_ns = record.clock_offset_ns;
        let mut dropped = [0; DROP_REASONS];
        dropped.iter_mut().zip(&record.dropped).for_each(|(count, told)| *count = *told);
        let SourceRecord { packets, bytes, batches, sync_samples, .. } = *record;
        made.counts = SourceCounts { packets, bytes, batches, sync_samples, dropped };
        made
    }

    /// Takes in what was known of a track that was set up. `host` is where its datagrams are
    /// expected from; `None`: they come on a connection.
    pub fn take_track(&mut self, index: u8, host: Option<Host>, record: &PublisherTrackRecord) {
        let latch = |from: Option<SocketAddr>| match (host, from) {
            (None, _) => AddressLatch::Any,
            (Some(_), Some(from)) => AddressLatch::Fixed(from),
            (Some(host), None) => AddressLatch::Expected(host),
        };
        let [rtp, rtcp] = record.heard_from;
        if !self.set_up(index, latch(rtp), latch(rtcp)) {
            return;
        }
        if let Some(clock) = self.clock.tracks.get_mut(usize::from(index)) {
            clock.point = record.clock.map(clock_of);
            clock.is_reported = record.is_clock_reported;
        }
        let rate = self.description.tracks.get(usize::from(index)).map(|spec| spec.clock_rate_hz);
        let track = self.tracks.get_mut(usize::from(index)).and_then(Option::as_mut);
        if let (Some(track), Some(clock_rate_hz)) = (track, rate) {
            track.take_in(record, clock_rate_hz);
        }
    }
}

impl SourceTrack {
    fn take_in(&mut self, record: &PublisherTrackRecord, clock_rate_hz: u32) {
        let mut ssrc = SsrcLatch { held: record.stream.map(held_of), ..SsrcLatch::default() };
        for (place, told) in ssrc.replaced.iter_mut().zip(&record.replaced) {
            *place = told.map(|(ssrc, heard_ns)| (Ssrc(ssrc), Mono(heard_ns)));
        }
        self.ssrc = ssrc;
        self.reception = record.reception.map(|told| Reception::of_record(told, clock_rate_hz));
        self.sync_ts = record.sync_ts.map(RtpTs);
        self.datagrams = record.cuts.as_ref().map(Datagrams::of_record).unwrap_or_default();
        (self.meter.packets, self.meter.bytes) = record.counts;
        self.meter.lost_before = record.lost_before;
    }
}

impl Reception {
    fn record(&self) -> ReceptionRecord {
        ReceptionRecord {
            ssrc: self.ssrc.0,
            base: self.base,
            highest: self.highest,
            received: self.received,
            expected_before: self.expected_before,
            received_before: self.received_before,
            earlier_lost: self.earlier_lost,
            transit: self.transit,
            jitter: self.jitter,
            sender_report: self.sender_report.map(|(middle, came)| (middle, came.0)),
        }
    }

    fn of_record(record: ReceptionRecord, clock_rate_hz: u32) -> Self {
        let sender_report = record.sender_report.map(|(middle, came_ns)| (middle, Mono(came_ns)));
        Self {
            clock_rate_hz,
            sender_report,
            base: record.base,
            highest: record.highest,
            received: record.received,
            expected_before: record.expected_before,
            received_before: record.received_before,
            earlier_lost: record.earlier_lost,
            transit: record.transit,
            jitter: record.jitter,
            ..Self::new(Ssrc(record.ssrc), clock_rate_hz, SeqNo(0))
        }
    }
}

impl Datagrams {
    fn record(&self) -> Option<CutsRecord> {
        let Self { newest, extra, cuts, cut_count, .. } = self;
        // The oldest first: the next one is written over it.
        let from = if *cut_count > CUTS_MAX { cut_count % CUTS_MAX } else { 0 };
        let kept = cuts.iter().cycle().skip(from).take(CUTS_MAX.min(*cut_count));
        let moved = kept.copied().collect();
        let record = CutsRecord { newest: newest.map(|seq| seq.0), extra: *extra, moved };
        self.is_active.then_some(record)
    }

    fn of_record(record: &CutsRecord) -> Self {
        let mut made = Self::default();
        made.is_active = true;
        (made.newest, made.extra) = (record.newest.map(SeqNo), record.extra);
        for (place, moved) in made.cuts.iter_mut().zip(&record.moved) {
            *place = *moved;
        }
        made.cut_count = record.moved.len().min(CUTS_MAX);
        made
    }
}

fn fixed(latch: AddressLatch) -> Option<SocketAddr> {
    match latch {
        AddressLatch::Fixed(from) => Some(from),
        AddressLatch::Expected(_) | AddressLatch::Any => None,
    }
}

fn held_record(held: &Held) -> StreamHeldRecord {
    let Held { sign, from, heard, name } = *held;
    StreamHeldRecord {
        ssrc: sign.ssrc.0,
        name: name.0,
        payload_type: sign.payload_type,
        seq: sign.seq.0,
        ts: sign.ts.0,
        from,
        heard_ns: heard.0,
    }
}

fn held_of(record: StreamHeldRecord) -> Held {
    let StreamHeldRecord { ssrc, name, payload_type, seq, ts, from, heard_ns } = record;
    let sign = Sign { ssrc: Ssrc(ssrc), payload_type, seq: SeqNo(seq), ts: RtpTs(ts) };
    Held { sign, from, heard: Mono(heard_ns), name: Ssrc(name) }
}
