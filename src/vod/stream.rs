//! One RTP stream of a session: its identity on the wire, and the feed that it is sent from.
//!
//! ```text
//!  Feed: place in a track, anchors of the epoch --frames--> Stream --packets--> Outgoing: numbers
//! ```
//! Invariant: sequence numbers are given out in sending order and only to packets that are sent;
//! a run that the socket did not take is rewound, number, place and counts together.

use std::time::Duration;

use crate::base::ids::{RtpTs, SeqNo};
use crate::base::time::{Mono, Npt, rescale};
use crate::base::wheel::Timer;
use crate::media::window::{Frame, PacketWindow, WindowKind};
use crate::session::directory::SessionKey;
use crate::session::directory::StreamRef;
use crate::session::feedback::Refusal;
use crate::session::outgoing::Outgoing;
use crate::vod::cursor::{Cursor, Next, Place};
use crate::vod::epoch::Epoch;
use crate::vod::retransmit::{Again, Mark, Resender};
use crate::vod::thinning::{Level, Quality};

/// See the module. What each send reads stands together and first: thousands of streams are more
/// than the cache holds.
#[derive(Debug)]
#[repr(C)]
pub struct Stream {
    /// Where the stream stands in its life on the wire.
    pub phase: Phase,
    /// The track that the client set up, in the title that it was told of.
    pub track_index: u8,
    /// Which frames are sent.
    level: Level,
    /// Counts the stream's keys on the wheel: only the newest means something.
    pub timer_count: u32,
    /// Its key on the wheel: the next frame, or BYE.
    pub timer: Timer,
    /// What it is fed from, and how that lies in its RTP time.
    pub feed: Feed,
    /// What its player knows it by.
    pub outgoing: Outgoing,
    /// What decides on its level; `None` for a stream that is always sent in full.
    pub quality: Option<Box<Quality>>,
    /// What was sent, for players that ask for lost packets; `None` for all others.
    pub resender: Option<Box<Resender>>,
}

/// What a stream is fed from: a place in a track, and where that lies in the epoch.
#[derive(Debug)]
#[repr(C)]
pub struct Feed {
    /// RTP time at the epoch's start.
    ts_epoch: RtpTs,
    /// Frames before this sample are not sent, sync samples apart: they refer to others that were
    /// not. Zero as a rule; `NO_SAMPLE` until the next sync sample.
    from_sample: u32,
    /// Ticks of the epoch's start from the start of the presentation.
    anchor_ticks: i64,
    /// Largest distance from `ts_epoch` given out in this epoch. At its start, that of what was
    /// sent before it, by the rate of this epoch; negative where more is to come before the start.
    ticks_max: i64,
    /// Frames shown before this are not sent: after a seek into an open group of pictures the
    /// leading ones refer to a picture that the player never got.
    skip_before: Option<Npt>,
    /// The feed has been exchanged: the epoch that ended with the old one, and the number that this
    /// one began with.
    follows: Option<(u32, SeqNo)>,
    /// Index into `Asset::tracks` of the title that is played.
    pub track_index: u8,
    /// Present from the first PLAY on; `None` as well for a stream that the present Scale mutes.
    pub cursor: Option<Cursor>,
}

/// Where a stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nothing to send: before PLAY, paused, or muted.
    Idle,
    /// A key is on the wheel for the next frame.
    Scheduled,
    /// The window is not here yet.
    WaitsForWindow,
    /// The interleaved connection has a send in flight.
    WaitsForConnection,
    /// All packets are sent; BYE follows when the last frame's time is over.
    Finishing,
    /// BYE is sent.
    Ended,
}

/// A run handed to a socket: what to return to when the socket does not take it. Nothing of the
/// stream is looked at when it does.
#[derive(Debug, Clone, Copy)]
pub struct RunMark {
    /// Session.
    pub session: SessionKey,
    /// Stream of the session.
    pub stream_index: u8,
    /// Epoch it was built in.
    pub epoch_count: u32,
    /// Packets.
    pub packets: u16,
    /// Payload bytes.
    pub payload_bytes: u32,
    /// First packet.
    place: Place,
    /// Sequence number of the first packet.
    seq: SeqNo,
}

/// What a stream has to send at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// This frame, now.
    Now {
        /// The frame.
        frame: Frame,
        /// When it was due.
        at: Mono,
    },
    /// Nothing before this time.
    At(Mono),
    /// Nothing until its window comes.
    Waiting,
    /// Nothing any more.
    End,
}

impl Stream {
    /// A stream that has sent nothing, and has no place yet.
    #[must_use]
    pub fn new(track_index: u8, outgoing: Outgoing) -> Self {
        let ts_epoch = outgoing.own().map_or(RtpTs(0), |own| own.ts_zero);
        Self {
            phase: Phase::Idle,
            track_index,
            level: Level::Full,
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

    /// Moves the stream to another place in its track.
    pub fn seek(&mut self, cursor: Cursor, skip_before: Option<Npt>) {
        self.feed.cursor = Some(cursor);
        self.feed.skip_before = skip_before;
        self.feed.follows = None;
        // It begins with a sync sample.
        self.feed.from_sample = if self.level == Level::Sync { NO_SAMPLE } else { 0 };
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
        self.feed.skip_before = None;
        self.feed.from_sample = if is_video { NO_SAMPLE } else { 0 };
        self.feed.follows = Some((ended_epoch, self.next_seq()));
        debug_assert!(self.phase == Phase::Idle, "its old epoch has ended, and it goes on");
    }

    /// Which frames are sent.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// From now on these frames are sent. A decoder is never given a frame whose reference was left
    /// out: after sync samples alone, more follows from the next of them on.
    pub fn set_level(&mut self, level: Level) {
        self.level = level;
        if level == Level::Sync {
            self.feed.from_sample = NO_SAMPLE;
        }
    }

    /// Whether a frame is left out by the stream's level.
    fn thins(&mut self, frame: &Frame, is_begun: bool) -> bool {
        if frame.is_sync {
            if self.feed.from_sample == NO_SAMPLE && self.level != Level::Sync {
                self.feed.from_sample = frame.sample_index;
                // Those decoded behind it and shown before it refer to what is before it.
                self.feed.skip_before = self.feed.skip_before.max(Some(frame.npt));
            }
            return false;
        }
        let is_unwanted = self.level != Level::Full && frame.is_disposable;
        !is_begun && (is_unwanted || frame.sample_index < self.feed.from_sample)
    }

    /// How far the stream is behind its clock, because its connection takes no more.
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

    /// How far the stream's next frame is behind the clock at `at`, in nanoseconds of media;
    /// `None` for a stream that has none.
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

    /// Fixes RTP time for a new epoch. `anchor_ticks` is the epoch's start in ticks from the start
    /// of the presentation. `from` is the epoch that it goes on from, at another rate or after a
    /// pause: what was sent there may lie behind the start of the new one, or before it.
    pub fn begin_epoch(&mut self, epoch: &Epoch, anchor_ticks: i64, from: Option<&Epoch>) {
        self.feed.anchor_ticks = anchor_ticks;
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
        let Some(own) = self.outgoing.own_mut() else { return };
        self.feed.ts_epoch = own.ts_zero.offset_ticks(playout);
        if self.feed.ts_epoch == RtpTs(0) {
            // Client rule C6: FFmpeg takes rtptime=0 for absent.
            own.ts_zero = own.ts_zero.offset_ticks(1);
            self.feed.ts_epoch = RtpTs(1);
        }
    }

    /// Playout time of the largest RTP time given out, from the start of the session. `epoch` is
    /// the present one.
    #[must_use]
    pub fn playout_sent_ns(&self, epoch: &Epoch) -> i64 {
        let since = rescale(self.feed.ticks_max, self.outgoing.clock_rate_hz, NS_PER_S);
        epoch.playout_ns.saturating_add(since)
    }

    /// Playout time of a frame of the present epoch, from the start of the session.
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

    /// RTP time of a frame.
    pub fn stamp(&mut self, epoch: &Epoch, frame: &Frame) -> RtpTs {
        let delta = epoch.rtp_delta(frame, self.feed.anchor_ticks);
        self.feed.ticks_max = self.feed.ticks_max.max(delta);
        self.feed.ts_epoch.offset_ticks(delta)
    }

    /// RTP time that belongs to wall time `now`, for sender reports.
    #[must_use]
    pub fn ts_at(&self, epoch: &Epoch, now: Mono) -> RtpTs {
        let since = epoch.playout_at(now).saturating_sub(epoch.playout_ns);
        // A frame goes out `npt - due` before it is shown; the clock of what is shown lags by it.
        let lead = epoch.due_zero - epoch.npt;
        self.feed
            .ts_epoch
            .offset_ticks(ns_to_ticks(since.saturating_add(lead), self.outgoing.clock_rate_hz))
    }

    /// What is due. `end` is where the range ends in presentation time.
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
            let is_thinned = self.level != Level::Full || self.feed.from_sample != 0;
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

    /// The window of the frame that is due, and the first of its packets that is not sent yet.
    #[must_use]
    pub fn window(&self) -> Option<(&PacketWindow, usize)> {
        let cursor = self.feed.cursor.as_ref()?;
        Some((cursor.window()?, cursor.packet_index() as usize))
    }

    /// Nothing of the next frame is sent yet.
    #[must_use]
    pub fn is_at_frame_start(&self) -> bool {
        self.feed.cursor.as_ref().is_none_or(|cursor| cursor.packet_index() == 0)
    }

    /// All packets of the frame that is due are on their way.
    pub fn finish_frame(&mut self) {
        if let Some(cursor) = &mut self.feed.cursor {
            cursor.advance_frame();
        }
    }

    /// How long it is from the frame that is due to the next one, when both are in one window.
    #[must_use]
    pub fn frame_interval_ns(&self, epoch: &Epoch, frame: &Frame) -> Option<u64> {
        let cursor = self.feed.cursor.as_ref()?;
        let (kind, next) = (cursor.kind(), cursor.frame_after()?);
        let interval = epoch.wall_of(next, kind).since(epoch.wall_of(frame, kind));
        u64::try_from(interval.as_nanos()).ok()
    }

    /// Which windows it walks through.
    #[must_use]
    pub fn window_kind(&self) -> Option<WindowKind> {
        self.feed.cursor.as_ref().map(Cursor::kind)
    }

    /// Takes sequence numbers for the packets that are built next, steps over them, and counts them
    /// as sent.
    pub fn take_packets(&mut self, packets: u16, payload_bytes: u32) {
        if let Some(own) = self.outgoing.own_mut() {
            own.take(packets, payload_bytes);
        }
        if let Some(cursor) = &mut self.feed.cursor {
            cursor.advance_packets(u32::from(packets));
        }
    }

    /// As `take_packets`; what it returns undoes it.
    pub fn take_run(&mut self, at: StreamRef, packets: u16, payload_bytes: u32) -> Option<RunMark> {
        let StreamRef { session, stream_index, epoch_count } = at;
        let (place, seq) = (self.feed.cursor.as_ref()?.place(), self.outgoing.own()?.seq);
        self.take_packets(packets, payload_bytes);
        Some(RunMark { session, stream_index, epoch_count, packets, payload_bytes, place, seq })
    }

    /// Remembers a run of a frame, with its time, when its packets may be asked for again.
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

    /// The packet that bore a number, if it may be sent again now.
    ///
    /// # Errors
    /// Why it is not sent.
    pub fn handle_nack(&mut self, seq: SeqNo, now: Mono) -> Result<Again<'_>, Refusal> {
        let (resender, rtx) = (self.resender.as_mut(), self.outgoing.rtx.as_mut());
        let (resender, rtx) = resender.zip(rtx).ok_or(Refusal::Unknown)?;
        resender.handle_nack(seq, now, rtx)
    }

    /// Packets counted as sent are not.
    pub fn uncount(&mut self, mark: &RunMark) {
        if let Some(own) = self.outgoing.own_mut() {
            own.uncount(mark.packets, mark.payload_bytes);
        }
    }

    /// The socket did not take a run of the feed before this one. As long as this one has sent
    /// nothing its numbers are next again. False when they are lost, as on their way.
    pub fn take_back(&mut self, mark: &RunMark) -> bool {
        let is_unused = self.feed.follows == Some((mark.epoch_count, self.next_seq()));
        let is_back = is_unused && self.outgoing.own_mut().is_some_and(|own| own.rewind(mark.seq));
        if is_unused {
            self.uncount(mark);
            self.feed.follows = Some((mark.epoch_count, self.next_seq()));
        }
        is_back
    }

    /// The socket did not take the run: its packets are next again. False when an earlier run of
    /// the stream was rewound already, and this one with it.
    pub fn rewind(&mut self, mark: &RunMark) -> bool {
        self.uncount(mark);
        if !self.outgoing.own_mut().is_some_and(|own| own.rewind(mark.seq)) {
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
/// No sample has this number: a title has fewer.
const NO_SAMPLE: u32 = u32::MAX;
