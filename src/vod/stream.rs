//! One RTP stream of a session: its wire identity and its feed.
//!
//! ```text
//!  Feed: place in a track, anchors of the epoch --frames--> Stream --packets--> Outgoing: numbers
//! ```
//! Invariant: sequence numbers are assigned in sending order, and only to packets that are sent. A
//! run that the socket refuses takes number, place and counts back together.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::Guard;

use crate::base::ids::{RtpTs, SeqNo};
use crate::base::time::{Mono, Npt, rescale};
use crate::base::wheel::Timer;
use crate::library::title::Title;
use crate::media::image::{ImageNumbers, PacketImage};
use crate::media::window::{Frame, PacketWindow, WindowKey, WindowKind};
use crate::rtp::RtxRefusal;
use crate::session::directory::SessionKey;
use crate::session::directory::StreamRef;
use crate::session::outgoing::{Outgoing, PackedOutgoing};
use crate::session::transport::Transport;
use crate::takeover::v1::{FeedRecord, PhaseRecord, StreamRecord};
use crate::vod::cursor::{Cursor, Next, Place};
use crate::vod::epoch::Epoch;
use crate::vod::retransmit::{Again, Mark, Resender};
use crate::vod::thinning::{Quality, ThinningLevel};

/// One RTP stream of a session. The fields that each send reads come first and together, because
/// thousands of streams do not fit into the cache.
#[derive(Debug)]
#[repr(C)]
pub struct Stream {
    /// What the stream waits for.
    pub phase: Phase,
    /// Index of the track in the title that the SDP described.
    pub track_index: u8,
    /// Thinning level: the kinds of frames that are sent.
    level: ThinningLevel,
    /// Its numbers are still those that all players of its title begin with, and so its packets may
    /// stand in images (`vod::images`).
    shares: bool,
    /// Number of timers set so far; a timer with an older number is ignored.
    pub timer_count: u32,
    /// Timer of the next frame or of BYE.
    pub timer: Timer,
    /// Source of the stream's frames.
    pub feed: Feed,
    /// SSRC, sequence numbers, RTP time and transport.
    pub outgoing: Outgoing,
    /// Chooses the level; `None` for a stream that is always sent in full.
    pub quality: Option<Box<Quality>>,
    /// Record of sent packets for retransmission; `None` when the player negotiated none.
    pub resender: Option<Box<Resender>>,
}

/// Source of a stream's frames: a place in a track, and the mapping of media time to RTP time.
#[derive(Debug)]
#[repr(C)]
pub struct Feed {
    /// RTP time at the epoch's start.
    ts_epoch: RtpTs,
    /// Frames before this sample are not sent, except sync samples: their references were not
    /// sent. Usually 0; `NO_SAMPLE` until the next sync sample.
    from_sample: u32,
    /// Start of the epoch, in ticks since the start of the presentation.
    anchor_ticks: i64,
    /// Largest distance from `ts_epoch` that a sent packet has, in ticks. At the start of an epoch
    /// it is that of the last packet before, at the rate of this epoch. It is negative when frames
    /// before the start are still to be sent.
    ticks_max: i64,
    /// Frames shown before this time are not sent. After a seek into an open group of pictures the
    /// leading frames refer to a frame that the player did not receive.
    skip_before: Option<Npt>,
    /// Set by an exchange: the epoch of the old feed, and the first sequence number of this one.
    follows: Option<(u32, SeqNo)>,
    /// Index of the track in the title that is played.
    pub track_index: u8,
    /// Place in the track. `None` before the first PLAY, and while the Scale mutes the stream.
    pub cursor: Option<Cursor>,
}

/// A stream on its way to another shard or process.
#[derive(Debug)]
pub struct PackedStream {
    phase: Phase,
    track_index: u8,
    level: ThinningLevel,
    shares: bool,
    timer_count: u32,
    feed: Feed,
    outgoing: PackedOutgoing,
    quality: Option<Box<Quality>>,
    resender: Option<Box<Resender>>,
}

impl PackedStream {
    /// Where packets go; a pair is named by its place at home.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.outgoing.transport
    }

    /// As another process has told of a stream that plays `title`. What it has sent may be asked
    /// for again, when the windows are here. `None`: the title has no such track, or there is no
    /// such pair.
    #[must_use]
    pub fn of(
        record: StreamRecord,
        title: &Title,
        pair_of: &dyn Fn(u32) -> Option<u16>,
    ) -> Option<Self> {
        let track = title.asset.tracks.get(usize::from(record.feed.track))?;
        let feed = Feed {
            ts_epoch: RtpTs(record.feed.ts_epoch),
            from_sample: record.feed.from_sample.unwrap_or(NO_SAMPLE),
            anchor_ticks: record.feed.anchor_ticks,
            ticks_max: record.feed.ticks_max,
            skip_before: record.feed.skip_before_ns.map(Npt),
            follows: None,
            track_index: record.feed.track,
            cursor: record.feed.place.map(|place| Cursor::of(place, track)),
        };
        let level = ThinningLevel::from(record.level);
        let outgoing = PackedOutgoing::of(record.rtp, pair_of)?;
        let resends = outgoing.has_rtx();
        let resender = record.history.as_ref().map_or_else(Resender::new, Resender::resumed);
        Some(Self {
            phase: match record.phase {
                PhaseRecord::Idle => Phase::Idle,
                PhaseRecord::Sending => Phase::Scheduled,
                PhaseRecord::Finishing => Phase::Finishing,
                PhaseRecord::Ended => Phase::Ended,
            },
            track_index: record.track,
            level,
            shares: record.shares,
            timer_count: 0,
            feed,
            outgoing,
            quality: record.quality.map(|quality| Box::new(Quality::of(quality, level))),
            resender: resends.then(|| Box::new(resender)),
        })
    }

    /// The stream, as it was packed. It has no timer.
    #[must_use]
    pub fn unpack(self) -> Stream {
        Stream {
            phase: self.phase,
            track_index: self.track_index,
            level: self.level,
            shares: self.shares,
            timer_count: self.timer_count,
            timer: Timer::NONE,
            feed: self.feed,
            outgoing: self.outgoing.unpack(),
            quality: self.quality,
            resender: self.resender,
        }
    }
}

/// What a stream waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nothing to send: before PLAY, paused, or muted.
    Idle,
    /// The next frame has a timer.
    Scheduled,
    /// The window of the next frame has not come.
    WaitsForWindow,
    /// The interleaved connection has a send in flight.
    WaitsForConnection,
    /// All packets are sent. BYE follows after the last frame was shown.
    Finishing,
    /// BYE was sent.
    Ended,
}

/// State of a stream before a run, for the case that the socket refuses the run. A run that is sent
/// needs no look at its stream.
#[derive(Debug, Clone, Copy)]
pub struct RunMark {
    /// Session of the stream.
    pub session: SessionKey,
    /// Place of the stream in the session.
    pub stream_index: u8,
    /// Epoch in which the run was built.
    pub epoch_count: u32,
    /// Number of packets in the run.
    pub packets: u16,
    /// Bytes of the packets without RTP headers.
    pub payload_bytes: u32,
    /// The packets stand in an image.
    pub is_image: bool,
    /// Place of the first packet.
    place: Place,
    /// Sequence number of the first packet.
    seq: SeqNo,
}

/// The next step of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Sends a frame now.
    Now {
        /// The frame with its packets.
        frame: Frame,
        /// Time at which the frame became due.
        at: Mono,
    },
    /// Sends the next frame at this time.
    At(Mono),
    /// Waits for the window of the next frame.
    Waiting,
    /// Has sent the last frame of the range.
    End,
}

impl Stream {
    /// Makes a stream without a place in its track.
    #[must_use]
    pub fn new(track_index: u8, outgoing: Outgoing) -> Self {
        let ts_epoch = outgoing.own().map_or(RtpTs(0), |own| own.ts_zero);
        Self {
            phase: Phase::Idle,
            track_index,
            level: ThinningLevel::Full,
            shares: false,
            timer_count: 0,
            timer: Timer::NONE,
            feed: Feed {
                ts_epoch,
                from_sample: 0,
                anchor_ticks: 0,
                ticks_max: 0,
                skip_before: None,
                follows: None,
                track_index,
                cursor: None,
            },
            outgoing,
            quality: None,
            resender: None,
        }
    }

    /// Its SSRC and its first numbers are those of its title (`rtp::WireBase`).
    #[must_use]
    pub fn sharing(self) -> Self {
        Self { shares: true, ..self }
    }

    /// Whether its packets may stand in images.
    #[must_use]
    pub fn shares(&self) -> bool {
        self.shares
    }

    /// What the headers of an image of its present window would have to say.
    #[must_use]
    pub fn image_numbers(&self) -> Option<ImageNumbers> {
        let (own, cursor) = (self.outgoing.own()?, self.feed.cursor.as_ref()?);
        let (ahead, _) = cursor.packet_in_window()?;
        Some(ImageNumbers {
            ssrc: own.ssrc,
            payload_type: self.outgoing.payload_type,
            first_seq: SeqNo(own.seq.0.wrapping_sub((ahead & 0xffff) as u16)),
            ts_zero: self.feed.ts_epoch.offset_ticks(self.feed.anchor_ticks.saturating_neg()),
        })
    }

    /// The image that the rest of the due frame, whose RTP time is `ts`, stands in.
    #[must_use]
    pub fn image(&self, frame: &Frame, ts: RtpTs) -> Option<Guard<Option<Arc<PacketImage>>>> {
        if !self.shares {
            return None;
        }
        let (own, cursor) = (self.outgoing.own()?, self.feed.cursor.as_ref()?);
        let image = cursor.window()?.image().load();
        let packet_index = frame.packet_index + cursor.packet_index();
        let stream = (own.ssrc, self.outgoing.payload_type);
        let stands =
            |image: &Arc<PacketImage>| image.shows(frame, packet_index, stream, (own.seq, ts));
        image.as_ref().is_some_and(stands).then_some(image)
    }

    /// For another process, with the time of its BYE; `None` for what is not handed over.
    #[must_use]
    pub fn record(
        &self,
        bye_due: Option<Mono>,
        pair_of: &dyn Fn(u16) -> Option<u32>,
    ) -> Option<StreamRecord> {
        let feed = FeedRecord {
            track: self.feed.track_index,
            ts_epoch: self.feed.ts_epoch.0,
            from_sample: Some(self.feed.from_sample).filter(|sample| *sample != NO_SAMPLE),
            anchor_ticks: self.feed.anchor_ticks,
            ticks_max: self.feed.ticks_max,
            skip_before_ns: self.feed.skip_before.map(|npt| npt.0),
            place: self.feed.cursor.as_ref().map(Cursor::record),
        };
        Some(StreamRecord {
            phase: match self.phase {
                Phase::Idle => PhaseRecord::Idle,
                Phase::Scheduled | Phase::WaitsForWindow | Phase::WaitsForConnection => {
                    PhaseRecord::Sending
                }
                Phase::Finishing => PhaseRecord::Finishing,
                Phase::Ended => PhaseRecord::Ended,
            },
            track: self.track_index,
            level: self.level.record(),
            shares: self.shares,
            feed,
            rtp: self.outgoing.record(pair_of)?,
            quality: self.quality.as_deref().map(Quality::record),
            bye_ns: bye_due.map(|due| due.0),
            history: self.resender.as_deref().and_then(Resender::record),
        })
    }

    /// Packs the stream, whose timer is cancelled. What it has asked for is asked for again.
    #[must_use]
    pub fn pack(mut self, transport: Transport) -> PackedStream {
        if let Some(cursor) = &mut self.feed.cursor {
            cursor.forget_asked();
        }
        PackedStream {
            phase: self.phase,
            track_index: self.track_index,
            level: self.level,
            shares: self.shares,
            timer_count: self.timer_count,
            feed: self.feed,
            outgoing: self.outgoing.pack(transport),
            quality: self.quality,
            resender: self.resender,
        }
    }

    /// Whether the stream has entered a window and has not said yet whether it would have an image.
    /// True once a window.
    pub fn enters_window(&mut self) -> bool {
        self.shares && self.feed.cursor.as_mut().is_some_and(Cursor::enters_window)
    }

    /// Moves the stream to another place in its track.
    pub fn seek(&mut self, cursor: Cursor, skip_before: Option<Npt>) {
        self.feed.cursor = Some(cursor);
        self.feed.skip_before = skip_before;
        self.feed.follows = None;
        // It begins with a sync sample.
        self.feed.from_sample = if self.level == ThinningLevel::Sync { NO_SAMPLE } else { 0 };
    }

    /// Takes another feed, and leaves the old one in its place. The new feed begins with a sync
    /// sample, whatever its first sample is. The stream has not said BYE: it would go on under an
    /// SSRC that its player was told is gone (RFC 3550 s6.6).
    pub fn exchange(
        &mut self,
        track_index: &mut u8,
        cursor: &mut Option<Cursor>,
        is_video: bool,
        ended_epoch: u32,
    ) {
        std::mem::swap(&mut self.feed.track_index, track_index);
        std::mem::swap(&mut self.feed.cursor, cursor);
        self.shares = false;
        self.feed.skip_before = None;
        self.feed.from_sample = if is_video { NO_SAMPLE } else { 0 };
        self.feed.follows = Some((ended_epoch, self.next_seq()));
        debug_assert!(self.phase == Phase::Idle, "its old epoch has ended, and it goes on");
    }

    /// Thinning level in force.
    #[must_use]
    pub fn level(&self) -> ThinningLevel {
        self.level
    }

    /// Changes the thinning level. A decoder never gets a frame whose reference was left out: after
    /// sync samples only, other frames follow from the next sync sample on.
    pub fn set_level(&mut self, level: ThinningLevel) {
        if level != self.level {
            self.outgoing.follow_with_others();
        }
        self.level = level;
        self.shares &= level == ThinningLevel::Full;
        if level == ThinningLevel::Sync {
            self.feed.from_sample = NO_SAMPLE;
        }
    }

    /// Whether the level leaves a frame out.
    fn thins(&mut self, frame: &Frame, is_begun: bool) -> bool {
        if frame.is_sync {
            if self.feed.from_sample == NO_SAMPLE && self.level != ThinningLevel::Sync {
                self.feed.from_sample = frame.sample_index;
                // Those decoded behind it and shown before it refer to what is before it.
                self.feed.skip_before = self.feed.skip_before.max(Some(frame.npt));
            }
            return false;
        }
        let is_unwanted = self.level != ThinningLevel::Full && frame.is_disposable;
        !is_begun && (is_unwanted || frame.sample_index < self.feed.from_sample)
    }

    /// Time by which the stream is late because its connection takes no more bytes.
    pub fn lag(&mut self, epoch: &Epoch, now: Mono) -> Duration {
        let Some(cursor) = self.feed.cursor.as_mut() else { return Duration::ZERO };
        let kind = cursor.kind();
        match cursor.peek() {
            Next::Frame(frame) if self.phase == Phase::WaitsForConnection => {
                now.since(epoch.wall_of(&frame, kind))
            }
            _ => Duration::ZERO,
        }
    }

    /// Lag of the next frame behind the clock at `at`, in nanoseconds of media. `None`: the stream
    /// has no next frame.
    pub fn media_lag_ns(&mut self, epoch: &Epoch, at: Mono) -> Option<i64> {
        let sent_ns = self.playout_sent_ns(epoch);
        let cursor = self.feed.cursor.as_mut()?;
        match cursor.peek() {
            Next::Frame(frame) => Some(epoch.lag_ns(&frame, cursor.kind(), at)),
            // The next frame is not known: it comes right behind the last one.
            Next::Waiting => Some(epoch.playout_lag_ns(sent_ns, at)),
            Next::End => None,
        }
    }

    /// Sets the RTP time of a new epoch. `anchor_ticks` is its start in ticks since the start of
    /// the presentation. `from` is the epoch that it continues at another rate or after a pause:
    /// packets sent in `from` may lie before or after the start of the new epoch.
    pub fn begin_epoch(&mut self, epoch: &Epoch, anchor_ticks: i64, from: Option<&Epoch>) {
        self.feed.anchor_ticks = anchor_ticks;
        // Numbers go on from one epoch to the next (RFC 2326 appendix B), so only the first one has
        // those that the others have.
        #[expect(clippy::float_cmp, reason = "1 is the value that means: as recorded")]
        let is_first = from.is_none() && epoch.playout_ns == 0 && epoch.scale == 1.0;
        self.shares &= is_first;
        self.feed.ticks_max = match (from, self.feed.cursor.as_mut().map(Cursor::peek)) {
            (Some(old), _) => {
                let sent = old.npt_of(self.playout_sent_ns(old));
                ns_to_ticks(epoch.playout_of(sent) - epoch.playout_ns, self.outgoing.clock_rate_hz)
            }
            // Sound begins with the packet that the start of the range lies in.
            (None, Some(Next::Frame(frame))) => epoch.rtp_delta(&frame, anchor_ticks).min(0),
            (None, _) => 0,
        };
        let playout = ns_to_ticks(epoch.playout_ns, self.outgoing.clock_rate_hz);
        self.outgoing.follow_with_others();
        let Some(own) = self.outgoing.own_mut() else { return };
        self.feed.ts_epoch = own.ts_zero.offset_ticks(playout);
        if self.feed.ts_epoch == RtpTs(0) {
            // Client rule C6: FFmpeg takes rtptime=0 for absent.
            own.ts_zero = own.ts_zero.offset_ticks(1);
            self.feed.ts_epoch = RtpTs(1);
        }
    }

    /// Playout time of the largest RTP time sent, since the start of the session. `epoch` is the
    /// present epoch.
    #[must_use]
    pub fn playout_sent_ns(&self, epoch: &Epoch) -> i64 {
        let since = rescale(self.feed.ticks_max, self.outgoing.clock_rate_hz, NS_PER_S);
        epoch.playout_ns.saturating_add(since)
    }

    /// Playout time of a frame of the present epoch, since the start of the session.
    #[must_use]
    pub fn playout_of(&self, epoch: &Epoch, frame: &Frame) -> i64 {
        let ticks = epoch.rtp_delta(frame, self.feed.anchor_ticks);
        let since = rescale(ticks, self.outgoing.clock_rate_hz, NS_PER_S);
        epoch.playout_ns.saturating_add(since)
    }

    /// Sequence number of the next packet.
    #[must_use]
    pub fn next_seq(&self) -> SeqNo {
        self.outgoing.own().map_or(SeqNo(0), |own| own.seq)
    }

    /// RTP time at the epoch's start: `rtptime` of RTP-Info.
    #[must_use]
    pub fn epoch_ts(&self) -> RtpTs {
        self.feed.ts_epoch
    }

    /// Computes the RTP time of a frame that is sent now.
    pub fn stamp(&mut self, epoch: &Epoch, frame: &Frame) -> RtpTs {
        let delta = epoch.rtp_delta(frame, self.feed.anchor_ticks);
        self.feed.ticks_max = self.feed.ticks_max.max(delta);
        self.feed.ts_epoch.offset_ticks(delta)
    }

    /// RTP time at wall time `now`, for sender reports.
    #[must_use]
    pub fn ts_at(&self, epoch: &Epoch, now: Mono) -> RtpTs {
        let since = epoch.playout_at(now).saturating_sub(epoch.playout_ns);
        // A frame goes out `npt - due` before it is shown; the clock of what is shown lags by it.
        let lead = epoch.due_zero - epoch.npt;
        self.feed
            .ts_epoch
            .offset_ticks(ns_to_ticks(since.saturating_add(lead), self.outgoing.clock_rate_hz))
    }

    /// Finds the next step. `end` is the end of the range in presentation time.
    pub fn due(&mut self, epoch: &Epoch, end: Option<Npt>, now: Mono) -> Due {
        let is_backward = epoch.scale < 0.0;
        // Bounded by the frames of a window: a frame behind the end is stepped over, because with
        // reordering a later one may still lie before it.
        loop {
            let Some(cursor) = &mut self.feed.cursor else { return Due::End };
            let frame = match cursor.peek() {
                Next::Frame(frame) if cursor.check_pages(now) => frame,
                // Its bytes may have left memory: a worker sees to them first.
                Next::Frame(_) | Next::Waiting => return Due::Waiting,
                Next::End => return Due::End,
            };
            if self.feed.skip_before.is_some_and(|npt| frame.npt < npt) {
                cursor.advance_frame();
                continue;
            }
            match end {
                Some(end) if is_backward && frame.npt < end => return Due::End,
                Some(end) if !is_backward && frame.due >= end => return Due::End,
                Some(end) if !is_backward && frame.npt >= end => {
                    cursor.advance_frame();
                    continue;
                }
                _ => {}
            }
            let at = epoch.wall_of(&frame, cursor.kind());
            if at > now {
                return Due::At(at);
            }
            // Not before its time: the level may be another by then, and a stream that ran ahead to
            // the next sync sample might read the whole title.
            let is_thinned = self.level != ThinningLevel::Full || self.feed.from_sample != 0;
            // What a trick mode sends is thin already.
            if is_thinned && cursor.kind() == WindowKind::All {
                let is_begun = cursor.packet_index() != 0;
                if self.thins(&frame, is_begun) {
                    self.finish_frame();
                    continue;
                }
            }
            return Due::Now { frame, at };
        }
    }

    /// Window of the due frame, and the place of its first unsent packet in the frame.
    #[must_use]
    pub fn window(&self) -> Option<(&PacketWindow, usize)> {
        let cursor = self.feed.cursor.as_ref()?;
        Some((cursor.window()?, cursor.packet_index() as usize))
    }

    /// Whether no packet of the next frame is sent.
    #[must_use]
    pub fn is_at_frame_start(&self) -> bool {
        self.feed.cursor.as_ref().is_none_or(|cursor| cursor.packet_index() == 0)
    }

    /// Goes on to the next frame: all packets of the due frame are handed over.
    pub fn finish_frame(&mut self) {
        if let Some(cursor) = &mut self.feed.cursor {
            cursor.advance_frame();
        }
    }

    /// Time from the due frame to the next one. `None`: the next frame is in another window.
    #[must_use]
    pub fn frame_interval_ns(&self, epoch: &Epoch, frame: &Frame) -> Option<u64> {
        let cursor = self.feed.cursor.as_ref()?;
        let (kind, next) = (cursor.kind(), cursor.frame_after()?);
        let interval = epoch.wall_of(next, kind).since(epoch.wall_of(frame, kind));
        u64::try_from(interval.as_nanos()).ok()
    }

    /// Kind of windows that the cursor walks through.
    #[must_use]
    pub fn window_kind(&self) -> Option<WindowKind> {
        self.feed.cursor.as_ref().map(Cursor::kind)
    }

    /// Uses up sequence numbers for the packets that are built next, steps over the packets, and
    /// counts them as sent.
    pub fn take_packets(&mut self, packets: u16, payload_bytes: u32) {
        if let Some(own) = self.outgoing.own_mut() {
            own.take(packets, payload_bytes);
        }
        if let Some(cursor) = &mut self.feed.cursor {
            cursor.advance_packets(u32::from(packets));
        }
    }

    /// Does `take_packets` for a run, and returns the mark that undoes it.
    pub fn take_run(&mut self, at: StreamRef, packets: u16, payload_bytes: u32) -> Option<RunMark> {
        let StreamRef { session, stream_index, epoch_count } = at;
        let (place, seq) = (self.feed.cursor.as_ref()?.place(), self.outgoing.own()?.seq);
        self.take_packets(packets, payload_bytes);
        let is_image = false;
        Some(RunMark {
            session,
            stream_index,
            epoch_count,
            packets,
            payload_bytes,
            is_image,
            place,
            seq,
        })
    }

    /// Records a run of a frame for retransmission.
    pub fn remember(&mut self, mark: &RunMark, frame: &Frame, ts: RtpTs) {
        let Some(resender) = &mut self.resender else { return };
        let Some(window) = self.feed.cursor.as_ref().and_then(Cursor::window_handle) else {
            return;
        };
        let (window_index, first) = mark.place.window_and_packet();
        let packet_index = frame.packet_index + first;
        let sent = Mark { seq: mark.seq, packets: mark.packets, window_index, packet_index, ts };
        resender.handle_sent(sent, window, mark.payload_bytes);
    }

    /// Finds the packet that had sequence number `seq` for a retransmission.
    ///
    /// # Errors
    /// The packet is not known any more, or the retransmission budget is used up.
    pub fn handle_nack(&mut self, seq: SeqNo, now: Mono) -> Result<Again<'_>, RtxRefusal> {
        let (resender, rtx) = (self.resender.as_mut(), self.outgoing.rtx.as_mut());
        let (resender, rtx) = resender.zip(rtx).ok_or(RtxRefusal::Unknown)?;
        resender.handle_nack(seq, now, rtx)
    }

    /// A window that the stream has asked for is here.
    pub fn handle_window(&mut self, name: WindowKey, window: Arc<PacketWindow>) {
        let Some(cursor) = &mut self.feed.cursor else { return };
        let is_its_own = name.track_index == self.feed.track_index && name.kind == cursor.kind();
        if let Some(resender) = self.resender.as_mut().filter(|_| is_its_own) {
            resender.handle_window(name.index, &window);
        }
        cursor.handle_window(name.index, window);
    }

    /// Takes the packets of a refused run out of the counts.
    pub fn uncount(&mut self, mark: &RunMark) {
        if let Some(own) = self.outgoing.own_mut() {
            own.uncount(mark.packets, mark.payload_bytes);
        }
    }

    /// Handles that the socket refused a run of the feed before this one. If this feed has sent
    /// nothing, the sequence numbers of the run are used again; with SRTP they are not, because
    /// other packets would have them. False: the packets are lost.
    pub fn take_back(&mut self, mark: &RunMark) -> bool {
        let is_unused = self.feed.follows == Some((mark.epoch_count, self.next_seq()));
        let may_use = is_unused && self.outgoing.srtp.is_none();
        let is_back = may_use && self.outgoing.own_mut().is_some_and(|own| own.rewind(mark.seq));
        if is_unused {
            self.uncount(mark);
            self.feed.follows = Some((mark.epoch_count, self.next_seq()));
        }
        is_back
    }

    /// Goes back to the first packet of a run that the socket refused. False: an earlier run of the
    /// stream was refused before, and the stream is back there already; or with SRTP other packets
    /// follow since, and those of the run are lost.
    pub fn rewind(&mut self, mark: &RunMark) -> bool {
        self.uncount(mark);
        if !self.outgoing.rewind(mark.seq) {
            return false;
        }
        if let Some(resender) = &mut self.resender {
            resender.rewind(mark.seq);
        }
        if let Some(cursor) = &mut self.feed.cursor {
            cursor.rewind(mark.place);
        }
        true
    }
}

fn ns_to_ticks(ns: i64, clock_rate_hz: u32) -> i64 {
    rescale(ns, NS_PER_S, clock_rate_hz)
}

const NS_PER_S: u32 = 1_000_000_000;
/// Not the number of any sample, because titles have fewer samples.
const NO_SAMPLE: u32 = u32::MAX;
