//! The feeding end of a path: a publisher's packets in, batches out.
//!
//! ```text
//!  packet --address, payload type, SSRC--> track --> batch --frame ends, full, 2 ms--> Feed
//!    `--> counted by the reason why not      `--> clock, reception --every 5 s--> report
//! ```
//! Lives on the shard to which the packets come, from SETUP of its first track on. What key frames
//! look like is told with each packet (`is_sync`); of a frame's packets that say so the first
//! counts.
//!
//! Invariants: a batch is of one generation; a packet is in one batch or counted as dropped.
//! Bounds: one batch under way and `FULL_BATCHES_MAX` that are full. DESIGN sections 5.2, 5.7, 5.8.

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
use crate::live::core::liveness::{Liveness, Patience, Pulse};
use crate::live::core::meter::{Gaps, Rate, TrackMeter};
use crate::live::core::reception::Reception;
use crate::live::core::ssrc_latch::{Sign, SsrcLatch, SsrcVerdict};
use crate::rtcp::ReportBlock;
use crate::rtp::peek::PeekFormat;

/// What the header of an RTP packet says, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpFields {
    /// Payload type.
    pub payload_type: u8,
    /// Sequence number.
    pub seq: SeqNo,
    /// RTP time.
    pub ts: RtpTs,
    /// Synchronisation source.
    pub ssrc: Ssrc,
    /// Marker bit.
    pub marker: bool,
    /// Fixed header, CSRCs and extension.
    pub header_bytes: u16,
}

/// The moment at which something came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The turn's time.
    pub now: Mono,
    /// Nanoseconds since 1970 at `now`.
    pub utc_ns: i64,
}

/// Why a packet of a source is not forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// No track was set up for it.
    #[error("no such track")]
    NoTrack,
    /// RECORD was not answered yet, or the path has another source by now.
    #[error("the source does not hold its path")]
    NotGranted,
    /// From another address than the publisher's.
    #[error("from a foreign address")]
    ForeignAddress,
    /// The SDP has no such payload type for the track.
    #[error("unknown payload type")]
    PayloadType,
    /// Of another RTP stream than the one that is taken.
    #[error("of a foreign SSRC")]
    ForeignSsrc,
    /// Longer than can be sent on, or its header lies about its length.
    #[error("of an impossible length")]
    Length,
    /// More came in a turn than can be kept.
    #[error("too much at once")]
    Behind,
    /// It is no RTP, or its lengths do not add up.
    #[error("not RTP")]
    Malformed,
    /// Longer than a datagram, and of a format that is not cut: readers over TCP alone get it.
    #[error("too long for a datagram")]
    TooLongForUdp,
}

/// Counters of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SourceCounts {
    /// Packets that were taken.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Batches that were made.
    pub batches: u64,
    /// Sync samples that were seen.
    pub sync_samples: u64,
    /// Packets that were not taken, by reason: see `SourceError::index`.
    pub dropped: [u64; DROP_REASONS],
}

/// One track of a source.
#[derive(Debug)]
pub struct SourceTrack {
    /// Where RTP comes from.
    pub rtp: AddressLatch,
    /// Where RTCP comes from.
    pub rtcp: AddressLatch,
    ssrc: SsrcLatch,
    reception: Option<Reception>,
    meter: TrackMeter,
    /// RTP time of the newest sync sample.
    sync_ts: Option<RtpTs>,
    datagrams: Datagrams,
    /// The newest report of a stream that no packet has come of.
    early: Option<EarlyReport>,
}

/// A sender report that came before the first packet of its stream: FFmpeg sends the two in this
/// order, and two sockets may turn them round. Tracks would be put together by guess without it
/// until the next one, five seconds later.
#[derive(Debug, Clone, Copy)]
struct EarlyReport {
    ssrc: Ssrc,
    ntp: u64,
    ts: RtpTs,
    came: Moment,
}

/// See the module.
#[derive(Debug)]
pub struct Source {
    path: Arc<str>,
    description: Arc<Description>,
    generation: Option<Generation>,
    /// By track of the description; `None` where SETUP has not come.
    tracks: Vec<Option<SourceTrack>>,
    /// Payload formats by track: how long packets are cut.
    formats: Vec<PeekFormat>,
    is_left_out_told: bool,
    builder: BatchBuilder,
    full: Vec<PacketBatch>,
    /// A frame has ended with the newest packet.
    is_frame_over: bool,
    clock: SourceClock,
    liveness: Liveness,
    counts: SourceCounts,
    rate: Rate,
    gaps: Gaps,
    /// When it was given its path.
    began: Option<Mono>,
    /// Who we are in the reports that it gets.
    own_ssrc: Ssrc,
    reported: Mono,
    sync_asked: Option<Mono>,
}

impl Source {
    /// A source of `path` that was announced.
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

    /// Payload formats of the first payload type of each track; without them long packets are not
    /// cut.
    pub fn set_formats(&mut self, formats: Vec<PeekFormat>) {
        self.formats = formats;
    }

    /// Packets are left out for readers over UDP: true once.
    pub fn has_news_of_left_out(&mut self) -> bool {
        self.counts.dropped[SourceError::TooLongForUdp.index()] > 0
            && !std::mem::replace(&mut self.is_left_out_told, true)
    }

    /// SETUP of a track. False: there is no such track.
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

    /// The home has given it the path.
    pub fn grant(&mut self, generation: Generation, now: Mono) {
        (self.generation, self.began) = (Some(generation), Some(now));
        self.liveness = Liveness::new(now);
    }

    /// It keeps the path and feeds it no more, until it is granted again.
    pub fn suspend(&mut self) {
        self.generation = None;
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Arc<str> {
        &self.path
    }

    /// What it announced.
    #[must_use]
    pub fn description(&self) -> &Arc<Description> {
        &self.description
    }

    /// What it holds its path by.
    #[must_use]
    pub fn generation(&self) -> Option<Generation> {
        self.generation
    }

    /// Counters.
    #[must_use]
    pub fn counts(&self) -> SourceCounts {
        self.counts
    }

    /// When it was given its path to send.
    #[must_use]
    pub fn began(&self) -> Option<Mono> {
        self.began
    }

    /// Takes a sample of how fast it sends: every second or so.
    pub fn measure(&mut self, now: Mono) {
        self.rate.measure(self.counts.bytes, now);
    }

    /// How fast it sends.
    #[must_use]
    pub fn bits_per_s(&self) -> u64 {
        self.rate.bits_per_s()
    }

    /// How long it sends nothing between packets of any track.
    #[must_use]
    pub fn gaps(&self) -> &Gaps {
        &self.gaps
    }

    /// Packets of all tracks that did not come; negative when some came twice.
    #[must_use]
    pub fn packets_lost(&self) -> i64 {
        self.tracks.iter().flatten().map(SourceTrack::packets_lost).sum()
    }

    /// A track that was set up.
    #[must_use]
    pub fn track(&self, track: u8) -> Option<&SourceTrack> {
        self.tracks.get(usize::from(track))?.as_ref()
    }

    /// An RTP packet came. `from` is `None` on a connection. What is refused is counted here.
    ///
    /// # Errors
    /// It is not forwarded.
    pub fn handle_rtp(
        &mut self,
        track: u8,
        from: Option<SocketAddr>,
        fields: &RtpFields,
        is_sync: bool,
        bytes: &[u8],
        at: Moment,
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

    /// Something came that is no packet of RTP.
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
        at: Moment,
    ) -> Result<(), SourceError> {
        let spec = self.description.tracks.get(usize::from(index)).ok_or(SourceError::NoTrack)?;
        let track = self.tracks.get_mut(usize::from(index)).and_then(Option::as_mut);
        let track = track.ok_or(SourceError::NoTrack)?;
        let Some(generation) = self.generation else { return Err(SourceError::NotGranted) };
        if !spec.payload_types.contains(&fields.payload_type) {
            return Err(SourceError::PayloadType);
        }
        // Last of all that can refuse it: it remembers whom it admits.
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
        let format = format.unwrap_or(PeekFormat::Any);
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

    /// What the packet that was taken last means for those who begin, where tables and picture
    /// come apart: `Entry::Tables` is told as `is_sync`, too.
    pub fn note_entry(&mut self, track: u8, entry: Entry) {
        if self.description.tracks.get(usize::from(track)).is_some_and(|spec| spec.needs_sync) {
            self.builder.note_entry(track, entry);
        }
    }

    /// A packet for it was turned away before it came here.
    pub fn count_dropped(&mut self, error: SourceError) {
        self.counts.dropped[error.index()] += 1;
    }

    /// Whether a sender report with this SSRC and RTP time can be a track's. Cameras that change
    /// their SSRC, or give another in RTCP, are known by the time.
    #[must_use]
    pub fn is_report_of(&self, track: u8, ssrc: Ssrc, ts: RtpTs, now: Mono) -> bool {
        let spec = self.description.tracks.get(usize::from(track));
        spec.zip(self.track(track)).is_some_and(|(spec, track)| {
            track.ssrc.ssrc() == Some(ssrc) || track.ssrc.is_time(ts, spec.clock_rate_hz, now)
        })
    }

    /// A sender report came: `ts` at the source's time `ntp`.
    ///
    /// # Errors
    /// It is not the publisher's.
    pub fn handle_sender_report(
        &mut self,
        track: u8,
        from: Option<SocketAddr>,
        ssrc: Ssrc,
        (ntp, ts): (u64, RtpTs),
        at: Moment,
    ) -> Result<(), SourceError> {
        let is_its = self.is_report_of(track, ssrc, ts, at.now);
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
            Some(_) if is_its => Ok(()),
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
        // FFmpeg and others begin with a report whose time is not set yet.
        if ntp != 0 {
            self.clock.handle_report(track, utc_ns_from_ntp(ntp), ts, at.utc_ns);
        }
        Ok(())
    }

    /// The next batch that is to be fed. To be called at the end of each turn, until it is `None`,
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

    /// The source ends: what is under way goes out before its path is released. To be called until
    /// it is `None`.
    pub fn finish(&mut self) -> Option<Arc<PacketBatch>> {
        self.poll_batch(Mono(u64::MAX))
    }

    /// When `poll_batch` has something, if nothing more comes.
    #[must_use]
    pub fn flush_due(&self) -> Option<Mono> {
        let received = self.builder.received()?;
        let waits_for_frame = self.description.sync_track().is_some() && !self.is_frame_over;
        Some(if waits_for_frame { received + BATCH_HOLD } else { received })
    }

    /// Whether the source still lives.
    #[must_use]
    pub fn check(&self, patience: Patience, now: Mono) -> Pulse {
        self.liveness.check(patience, now)
    }

    /// A request or an answer came over the source's connection.
    pub fn handle_sign_of_life(&mut self, now: Mono) {
        self.liveness.handle_sign(now);
    }

    /// The reports that it is to get, one for each track that is heard, when they are due.
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

    /// When `poll_reports` has something.
    #[must_use]
    pub fn report_due(&self) -> Mono {
        self.reported + REPORT_INTERVAL
    }

    /// A reader waits for a sync sample: the SSRC to ask for one, unless that was just done.
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
    /// The SSRC that it is sent under now. Readers may be told another.
    #[must_use]
    pub fn ssrc(&self) -> Option<Ssrc> {
        self.ssrc.ssrc()
    }

    /// What was received of it.
    #[must_use]
    pub fn reception(&self) -> Option<&Reception> {
        self.reception.as_ref()
    }

    /// What was counted of it.
    #[must_use]
    pub fn meter(&self) -> &TrackMeter {
        &self.meter
    }

    /// Packets that did not come; negative when some came twice.
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
        at: Moment,
    ) {
        let hz = spec.clock_rate_hz;
        self.meter.handle_end_of_stream(self.reception.as_ref());
        let reception = self.reception.insert(Reception::new(sign.ssrc, hz, sign.seq));
        self.sync_ts = None;
        self.datagrams.begin();
        let Some(EarlyReport { ssrc, ntp, ts, came }) = self.early.take() else { return };
        let is_its = ssrc == sign.ssrc || {
            let waited_ns = i64::try_from(at.now.since(came.now).as_nanos()).unwrap_or(i64::MAX);
            let now_ts = ts.offset_ticks(rescale(waited_ns, NS_PER_S, hz));
            ticks_between(now_ts, sign.ts).unsigned_abs() < hz.saturating_mul(EARLY_OFF_S)
        };
        if is_its {
            clock.handle_report(index, utc_ns_from_ntp(ntp), ts, came.utc_ns);
            reception.handle_sender_report(ntp, came.now);
        }
    }

    /// Parameter sets, slices: several packets of a frame say that one can begin with them.
    fn begins_sync_sample(&mut self, spec: &LiveTrack, ts: RtpTs) -> bool {
        let begins = spec.needs_sync && self.sync_ts != Some(ts);
        if begins {
            self.meter.handle_sync(self.sync_ts.replace(ts), ts);
        }
        begins
    }
}

impl SourceError {
    /// Place in `SourceCounts::dropped`.
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

/// Reasons in `SourceError`.
pub const DROP_REASONS: usize = 9;
const NS_PER_S: u32 = 1_000_000_000;
/// A report with another SSRC is of the stream that begins when its RTP time is as near.
const EARLY_OFF_S: u32 = 5;
/// A turn brings a batch or two; more have come when a shard was away.
const FULL_BATCHES_MAX: usize = 16;

#[cfg(test)]
mod tests;
