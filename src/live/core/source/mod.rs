//! A source of a path: takes a publisher's packets and makes batches.
//!
//! ```text
//!  packet --address, payload type, SSRC--> track --> batch --frame ends, full, 2 ms--> Feed
//!    `--> counted by the reason why not      `--> clock, reception --every 5 s--> report
//! ```
//! A source lives on the shard that receives its packets, from SETUP of its first track on. The
//! caller says with each packet whether it begins a key frame (`is_sync`); of several such packets
//! of one frame the first counts.
//!
//! Invariants: a batch is of one generation; a packet is in one batch, or counted as dropped.
//! Bounds: one batch under way and `FULL_BATCHES_MAX` full ones. DESIGN sections 5.2, 5.7, 5.8.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::base::ids::{RtpTs, SeqNo, Ssrc};
use crate::base::time::{Mono, rescale};
use crate::live::core::batch::{Arrival, BatchBuilder, BatchError, Entry, Generation, PacketBatch};
use crate::live::core::clock::{SourceClock, ticks_between, utc_ns_from_ntp};
use crate::live::core::datagrams::{DatagramForm, Datagrams};
use crate::live::core::description::{Description, LiveTrack};
use crate::live::core::latch::AddressLatch;
use crate::live::core::limits::{BATCH_HOLD, REPORT_INTERVAL, SYNC_REQUEST_INTERVAL};
use crate::live::core::liveness::{Liveness, Patience, SourceStatus};
use crate::live::core::meter::{Gaps, Rate, TrackMeter};
use crate::live::core::reception::Reception;
use crate::live::core::ssrc_latch::{Sign, SsrcLatch, SsrcVerdict};
use crate::rtcp::ReportBlock;
use crate::rtp::detect::DetectorFormat;

/// The fields of an RTP header that a source reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpFields {
    /// Payload type.
    pub payload_type: u8,
    /// Sequence number.
    pub seq: SeqNo,
    /// RTP time.
    pub ts: RtpTs,
    /// Synchronisation source (RFC 3550 s5.1).
    pub ssrc: Ssrc,
    /// Marker bit.
    pub marker: bool,
    /// Length of the fixed header, CSRCs and extension.
    pub header_bytes: u16,
}

/// Time of arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArrivalTime {
    /// Time of the turn.
    pub now: Mono,
    /// Nanoseconds since 1970 at `now`.
    pub utc_ns: i64,
}

/// Why a packet of a source is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// SETUP has not named the track.
    #[error("no such track")]
    NoTrack,
    /// RECORD is not answered yet, or another source holds the path by now.
    #[error("the source does not hold its path")]
    NotGranted,
    /// The packet is from another address than the publisher's.
    #[error("from a foreign address")]
    ForeignAddress,
    /// The SDP has no such payload type for the track.
    #[error("unknown payload type")]
    PayloadType,
    /// The packet is of another RTP stream than the one that is taken.
    #[error("of a foreign SSRC")]
    ForeignSsrc,
    /// The packet is longer than `PACKET_BYTES_MAX`, or its header lies about its length.
    #[error("of an impossible length")]
    Length,
    /// More packets arrived in a turn than `FULL_BATCHES_MAX` batches hold.
    #[error("too much at once")]
    Behind,
    /// The bytes are no RTP, or their lengths do not add up.
    #[error("not RTP")]
    Malformed,
    /// The packet is longer than a datagram, and its payload format is not cut: only readers over
    /// TCP get it.
    #[error("too long for a datagram")]
    TooLongForUdp,
}

/// Counters of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SourceCounts {
    /// Packets taken.
    pub packets: u64,
    /// Bytes of the packets taken.
    pub bytes: u64,
    /// Batches built.
    pub batches: u64,
    /// Key frames received.
    pub sync_samples: u64,
    /// Packets dropped, by cause: see `SourceError::index`.
    pub dropped: [u64; DROP_REASONS],
}

/// One track of a source.
#[derive(Debug)]
pub struct SourceTrack {
    /// Address that RTP comes from.
    pub rtp: AddressLatch,
    /// Address that RTCP comes from.
    pub rtcp: AddressLatch,
    pub(super) ssrc: SsrcLatch,
    pub(super) reception: Option<Reception>,
    pub(super) meter: TrackMeter,
    /// RTP time of the newest key frame.
    pub(super) sync_ts: Option<RtpTs>,
    pub(super) datagrams: Datagrams,
    /// The newest sender report of a stream without any packet yet.
    early: Option<EarlyReport>,
}

/// A sender report that arrived before the first packet of its stream. FFmpeg sends the two in this
/// order, and two sockets may reverse the order. Without this report tracks would be synchronised
/// by guess until the next one, five seconds later.
#[derive(Debug, Clone, Copy)]
struct EarlyReport {
    ssrc: Ssrc,
    ntp: u64,
    ts: RtpTs,
    came: ArrivalTime,
}

/// The source of one path: see the module.
#[derive(Debug)]
pub struct Source {
    pub(super) path: Arc<str>,
    pub(super) description: Arc<Description>,
    pub(super) generation: Option<Generation>,
    /// By track of the description; `None` before SETUP of the track.
    pub(super) tracks: Vec<Option<SourceTrack>>,
    /// Payload formats by track: the rule by which long packets are cut.
    pub(super) formats: Vec<DetectorFormat>,
    pub(super) is_left_out_told: bool,
    pub(super) builder: BatchBuilder,
    pub(super) full: Vec<PacketBatch>,
    /// The newest packet ended a frame.
    pub(super) is_frame_over: bool,
    pub(super) clock: SourceClock,
    pub(super) liveness: Liveness,
    pub(super) counts: SourceCounts,
    pub(super) rate: Rate,
    pub(super) gaps: Gaps,
    /// When the owner granted the path.
    pub(super) began: Option<Mono>,
    /// SSRC of the server in the receiver reports to the source.
    pub(super) own_ssrc: Ssrc,
    pub(super) reported: Mono,
    pub(super) sync_asked: Option<Mono>,
}

impl Source {
    /// An announced source of `path`.
    #[must_use]
    pub fn new(
        path: Arc<str>,
        description: Arc<Description>,
        own_ssrc: Ssrc,
        keeps_source_time: bool,
        now: Mono,
    ) -> Self {
        let rates = description.tracks.iter().map(|track| track.clock_rate_hz);
        let clock = SourceClock::new(rates, keeps_source_time);
        let tracks = description.tracks.iter().map(|_| None).collect();
        Self {
            path,
            description,
            generation: None,
            tracks,
            formats: Vec::new(),
            is_left_out_told: false,
            builder: BatchBuilder::default(),
            full: Vec::new(),
            is_frame_over: false,
            clock,
            liveness: Liveness::new(now),
            counts: SourceCounts::default(),
            rate: Rate::default(),
            gaps: Gaps::default(),
            began: None,
            own_ssrc,
            reported: now,
            sync_asked: None,
        }
    }

    /// Sets the payload format of each track's first payload type. Without formats long packets are
    /// not cut.
    pub fn set_formats(&mut self, formats: Vec<DetectorFormat>) {
        self.formats = formats;
    }

    /// Whether packets are left out for readers over UDP: true once.
    pub fn has_news_of_left_out(&mut self) -> bool {
        self.counts.dropped[SourceError::TooLongForUdp.index()] > 0
            && !std::mem::replace(&mut self.is_left_out_told, true)
    }

    /// Handles SETUP of a track. False when the description has no such track.
    pub fn set_up(&mut self, track: u8, rtp: AddressLatch, rtcp: AddressLatch) -> bool {
        let Some(place) = self.tracks.get_mut(usize::from(track)) else { return false };
        *place = Some(SourceTrack {
            rtp,
            rtcp,
            ssrc: SsrcLatch::default(),
            reception: None,
            meter: TrackMeter::default(),
            sync_ts: None,
            datagrams: Datagrams::default(),
            early: None,
        });
        true
    }

    /// The owner has granted the path to the source.
    pub fn grant(&mut self, generation: Generation, now: Mono) {
        (self.generation, self.began) = (Some(generation), Some(now));
        self.liveness = Liveness::new(now);
    }

    /// The source keeps the path and stops feeding it until the next grant.
    pub fn suspend(&mut self) {
        self.generation = None;
    }

    /// Name of the path.
    #[must_use]
    pub fn path(&self) -> &Arc<str> {
        &self.path
    }

    /// The description that the source announced.
    #[must_use]
    pub fn description(&self) -> &Arc<Description> {
        &self.description
    }

    /// Claim under which the source holds the path.
    #[must_use]
    pub fn generation(&self) -> Option<Generation> {
        self.generation
    }

    /// Counters.
    #[must_use]
    pub fn counts(&self) -> SourceCounts {
        self.counts
    }

    /// When the owner granted the path.
    #[must_use]
    pub fn began(&self) -> Option<Mono> {
        self.began
    }

    /// Takes a sample of the bit rate: to be called every second or so.
    pub fn measure(&mut self, now: Mono) {
        self.rate.measure(self.counts.bytes, now);
    }

    /// Bit rate of the last seconds.
    #[must_use]
    pub fn bits_per_s(&self) -> u64 {
        self.rate.bits_per_s()
    }

    /// Times without a packet of any track.
    #[must_use]
    pub fn gaps(&self) -> &Gaps {
        &self.gaps
    }

    /// Packets of all tracks that were lost; negative when packets arrived twice.
    #[must_use]
    pub fn packets_lost(&self) -> i64 {
        self.tracks.iter().flatten().map(SourceTrack::packets_lost).sum()
    }

    /// A track that SETUP has named.
    #[must_use]
    pub fn track(&self, track: u8) -> Option<&SourceTrack> {
        self.tracks.get(usize::from(track))?.as_ref()
    }

    /// Takes an RTP packet. `from` is `None` on a connection. Dropped packets are counted here.
    ///
    /// # Errors
    /// The packet is dropped, for the cause in the error.
    pub fn handle_rtp(
        &mut self,
        track: u8,
        from: Option<SocketAddr>,
        fields: &RtpFields,
        is_sync: bool,
        bytes: &[u8],
        at: ArrivalTime,
    ) -> Result<(), SourceError> {
        let taken = self.try_rtp(track, from, fields, is_sync, bytes, at);
        match taken {
            Ok(()) => {
                self.counts.packets += 1;
                self.counts.bytes += bytes.len() as u64;
                self.liveness.handle_packet(at.now);
                self.gaps.handle_packet(at.now);
            }
            Err(error) => self.counts.dropped[error.index()] += 1,
        }
        taken
    }

    /// Counts bytes that are no RTP packet.
    pub fn refuse_malformed(&mut self) {
        self.counts.dropped[SourceError::Malformed.index()] += 1;
    }

    fn try_rtp(
        &mut self,
        index: u8,
        from: Option<SocketAddr>,
        fields: &RtpFields,
        is_sync: bool,
        bytes: &[u8],
        at: ArrivalTime,
    ) -> Result<(), SourceError> {
        let spec = self.description.tracks.get(usize::from(index)).ok_or(SourceError::NoTrack)?;
        let track = self.tracks.get_mut(usize::from(index)).and_then(Option::as_mut);
        let track = track.ok_or(SourceError::NoTrack)?;
        let Some(generation) = self.generation else { return Err(SourceError::NotGranted) };
        if !spec.payload_types.contains(&fields.payload_type) {
            return Err(SourceError::PayloadType);
        }
        // The address comes last of all checks: `admit` fixes the address that it accepts.
        if from.is_some_and(|from| !track.rtp.admit(from)) {
            return Err(SourceError::ForeignAddress);
        }
        let &RtpFields { payload_type, seq, ts, ssrc, marker, header_bytes } = fields;
        let sign = Sign { ssrc, payload_type, seq, ts };
        match track.ssrc.admit(sign, from, spec.clock_rate_hz, at.now) {
            SsrcVerdict::Same => {}
            SsrcVerdict::GoesOn => track.reception.iter_mut().for_each(|r| r.rename(ssrc)),
            SsrcVerdict::Foreign => return Err(SourceError::ForeignSsrc),
            SsrcVerdict::Begins { keeps_time } => {
                if !keeps_time {
                    self.clock.forget_track(index);
                }
                track.begin(&mut self.clock, (index, spec), sign, at);
            }
        }
        let is_sync = is_sync && track.begins_sync_sample(spec, fields.ts);
        let ssrc = track.ssrc.name().unwrap_or(ssrc);
        let arrival = Arrival { track: index, ssrc, seq, ts, marker, header_bytes, is_sync, bytes };
        self.clock.handle_packet(index, ts, at.utc_ns);
        let is_first_type = spec.payload_types.first() == Some(&payload_type);
        let format = self.formats.get(usize::from(index)).copied().filter(|_| is_first_type);
        let format = format.unwrap_or(DetectorFormat::Any);
        let form = track.datagrams.form(format, seq, header_bytes, bytes);
        let is_left_out = matches!(form, Some(DatagramForm::LeftOut));
        let mut pushed = self.builder.push_with(&arrival, form, at.now);
        if pushed == Err(BatchError::Full) {
            if self.full.len() >= FULL_BATCHES_MAX {
                return Err(SourceError::Behind);
            }
            let clock = &self.clock;
            self.full.extend(self.builder.build(generation, |track| clock.point(track)));
            pushed = self.builder.push_with(&arrival, form, at.now);
        }
        pushed.map_err(|_| SourceError::Length)?;
        self.counts.dropped[SourceError::TooLongForUdp.index()] += u64::from(is_left_out);
        self.counts.sync_samples += u64::from(is_sync);
        self.is_frame_over |= marker && spec.needs_sync;
        track.meter.handle_packet(payload_type, bytes.len(), at.now);
        if let Some(reception) = &mut track.reception {
            reception.handle_packet(seq, ts, at.now);
        }
        Ok(())
    }

    /// Records whether readers can start at the packet that was taken last, for formats in which
    /// tables and key frame come apart. `Entry::Tables` is passed as `is_sync`, too.
    pub fn note_entry(&mut self, track: u8, entry: Entry) {
        if self.description.tracks.get(usize::from(track)).is_some_and(|spec| spec.needs_sync) {
            self.builder.note_entry(track, entry);
        }
    }

    /// Counts a packet of the source that was dropped before `handle_rtp`.
    pub fn count_dropped(&mut self, error: SourceError) {
        self.counts.dropped[error.index()] += 1;
    }

    /// Whether a sender report with this SSRC and RTP time can be the track's. Cameras that change
    /// their SSRC, or use another SSRC in RTCP, are known by the RTP time.
    #[must_use]
    pub fn is_report_of(&self, track: u8, ssrc: Ssrc, ts: RtpTs, now: Mono) -> bool {
        let spec = self.description.tracks.get(usize::from(track));
        spec.zip(self.track(track)).is_some_and(|(spec, track)| {
            track.ssrc.ssrc() == Some(ssrc) || track.ssrc.is_time(ts, spec.clock_rate_hz, now)
        })
    }

    /// Takes a sender report: RTP time `ts` at the source's time `ntp`.
    ///
    /// # Errors
    /// The report is not the publisher's.
    pub fn handle_sender_report(
        &mut self,
        track: u8,
        from: Option<SocketAddr>,
        ssrc: Ssrc,
        (ntp, ts): (u64, RtpTs),
        at: ArrivalTime,
    ) -> Result<(), SourceError> {
        let is_same_stream = self.is_report_of(track, ssrc, ts, at.now);
        let entry = self.tracks.get_mut(usize::from(track)).and_then(Option::as_mut);
        let entry = entry.ok_or(SourceError::NoTrack)?;
        let held = entry.ssrc.ssrc();
        let is_foreign = from.is_some_and(|from| !entry.rtcp.admit(from));
        if !is_foreign && held != Some(ssrc) {
            entry.early = (ntp != 0).then_some(EarlyReport { ssrc, ntp, ts, came: at });
        }
        let checked = match held {
            _ if is_foreign => Err(SourceError::ForeignAddress),
            None => return Ok(()),
            Some(_) if is_same_stream => Ok(()),
            Some(_) => Err(SourceError::ForeignSsrc),
        };
        if let Err(error) = checked {
            self.counts.dropped[error.index()] += 1;
            return checked;
        }
        if let Some(reception) = &mut entry.reception {
            reception.handle_sender_report(ntp, at.now);
        }
        self.liveness.handle_packet(at.now);
        // FFmpeg and others begin with a report whose NTP time is not set yet.
        if ntp != 0 {
            self.clock.handle_report(track, utc_ns_from_ntp(ntp), ts, at.utc_ns);
        }
        Ok(())
    }

    /// The next batch to feed. To be called at the end of each turn, until the answer is `None`,
    /// and when `flush_due` says so.
    pub fn poll_batch(&mut self, now: Mono) -> Option<Arc<PacketBatch>> {
        let generation = self.generation?;
        if !self.full.is_empty() {
            self.counts.batches += 1;
            return Some(Arc::new(self.full.remove(0)));
        }
        if self.flush_due().is_none_or(|due| due > now) {
            return None;
        }
        self.is_frame_over = false;
        let clock = &self.clock;
        let batch = self.builder.build(generation, |track| clock.point(track))?;
        self.counts.batches += 1;
        Some(Arc::new(batch))
    }

    /// The rest of the source's packets, to be fed before the path is released. To be called until
    /// the answer is `None`.
    pub fn finish(&mut self) -> Option<Arc<PacketBatch>> {
        self.poll_batch(Mono(u64::MAX))
    }

    /// When `poll_batch` has a batch, if no further packet arrives.
    #[must_use]
    pub fn flush_due(&self) -> Option<Mono> {
        let received = self.builder.received()?;
        let waits_for_frame = self.description.sync_track().is_some() && !self.is_frame_over;
        Some(if waits_for_frame { received + BATCH_HOLD } else { received })
    }

    /// Whether the source is alive.
    #[must_use]
    pub fn check(&self, patience: Patience, now: Mono) -> SourceStatus {
        self.liveness.check(patience, now)
    }

    /// A request or an answer arrived on the source's connection.
    pub fn handle_sign_of_life(&mut self, now: Mono) {
        self.liveness.handle_sign(now);
    }

    /// The receiver reports that are due, one for each track with packets.
    pub fn poll_reports(&mut self, now: Mono) -> Vec<(u8, ReportBlock)> {
        if now < self.report_due() {
            return Vec::new();
        }
        self.reported = now;
        let own_ssrc = self.own_ssrc;
        let tracks = (0_u8..).zip(self.tracks.iter_mut());
        let report = |(index, track): (u8, &mut Option<SourceTrack>)| {
            Some((index, track.as_mut()?.reception.as_mut()?.report(own_ssrc, now)))
        };
        tracks.filter_map(report).collect()
    }

    /// When the next receiver reports are due.
    #[must_use]
    pub fn report_due(&self) -> Mono {
        self.reported + REPORT_INTERVAL
    }

    /// The track and SSRC to ask for a key frame; `None` when one was asked for just now.
    pub fn ask_sync(&mut self, now: Mono) -> Option<(u8, Ssrc)> {
        let is_fresh = |asked: Mono| now.since(asked) < SYNC_REQUEST_INTERVAL;
        if self.sync_asked.is_some_and(is_fresh) {
            return None;
        }
        let track = self.description.sync_track()?;
        let ssrc = self.track(track)?.ssrc.ssrc()?;
        self.sync_asked = Some(now);
        Some((track, ssrc))
    }
}

impl SourceTrack {
    /// The source's present SSRC. Readers may be told another one.
    #[must_use]
    pub fn ssrc(&self) -> Option<Ssrc> {
        self.ssrc.ssrc()
    }

    /// Reception figures of the present RTP stream.
    #[must_use]
    pub fn reception(&self) -> Option<&Reception> {
        self.reception.as_ref()
    }

    /// Counters of the track.
    #[must_use]
    pub fn meter(&self) -> &TrackMeter {
        &self.meter
    }

    /// Packets that were lost; negative when packets arrived twice.
    #[must_use]
    pub fn packets_lost(&self) -> i64 {
        self.meter.lost(self.reception.as_ref())
    }

    /// Another RTP stream begins with the packet of `sign`.
    fn begin(
        &mut self,
        clock: &mut SourceClock,
        (index, spec): (u8, &LiveTrack),
        sign: Sign,
        at: ArrivalTime,
    ) {
        let hz = spec.clock_rate_hz;
        self.meter.handle_end_of_stream(self.reception.as_ref());
        let reception = self.reception.insert(Reception::new(sign.ssrc, hz, sign.seq));
        self.sync_ts = None;
        self.datagrams.begin();
        let Some(EarlyReport { ssrc, ntp, ts, came }) = self.early.take() else { return };
        let is_same_stream = ssrc == sign.ssrc || {
            let waited_ns = i64::try_from(at.now.since(came.now).as_nanos()).unwrap_or(i64::MAX);
            let now_ts = ts.offset_ticks(rescale(waited_ns, NS_PER_S, hz));
            ticks_between(now_ts, sign.ts).unsigned_abs() < hz.saturating_mul(EARLY_OFF_S)
        };
        if is_same_stream {
            clock.handle_report(index, utc_ns_from_ntp(ntp), ts, came.utc_ns);
            reception.handle_sender_report(ntp, came.now);
        }
    }

    /// Whether the packet is the first of its frame (parameter sets, slices) to begin a key frame.
    fn begins_sync_sample(&mut self, spec: &LiveTrack, ts: RtpTs) -> bool {
        let begins = spec.needs_sync && self.sync_ts != Some(ts);
        if begins {
            self.meter.handle_sync(self.sync_ts.replace(ts), ts);
        }
        begins
    }
}

impl SourceError {
    /// Index in `SourceCounts::dropped`.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::NoTrack => 0,
            Self::NotGranted => 1,
            Self::ForeignAddress => 2,
            Self::PayloadType => 3,
            Self::ForeignSsrc => 4,
            Self::Length => 5,
            Self::Behind => 6,
            Self::Malformed => 7,
            Self::TooLongForUdp => 8,
        }
    }
}

/// Number of causes in `SourceError`.
pub const DROP_REASONS: usize = 9;
const NS_PER_S: u32 = 1_000_000_000;
/// A report with another SSRC belongs to the stream that begins within so many seconds of RTP time.
const EARLY_OFF_S: u32 = 5;
/// A turn brings a batch or two; more arrive when the shard was not scheduled for a while.
const FULL_BATCHES_MAX: usize = 16;

#[cfg(test)]
mod tests;
