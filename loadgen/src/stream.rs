//! One RTP stream as its receiver sees it: order, lateness, reports.
//!
//! ```text
//! RTP  --> SSRC, payload type --> epoch --> SequenceTracker --newest--> LatenessMeter, jitter
//! RTCP --> sender reports, BYE                    +--> figures of the receiver report
//! ```
//! RFC 3550 s5.1, s6.4, appendix A.3. The source is the SSRC of the first packet; a server that
//! announced another one is noted and measured all the same.
//!
//! A PLAY while the session goes on (seek, resume) begins an epoch: see `epoch`. Lateness starts
//! anew with it, and so do sequence numbers where the server takes new ones.
//!
//! A lost tail leaves no gap; only the sender's own count shows it, and only at an end of its own:
//! ```text
//! Open --BYE--> Bye --all RTP before it was read--> Read: the count is compared
//!   +------------+--our TEARDOWN--> Left: what the server still sent is nobody's loss
//! ```
//! Invariant: a packet of another source changes no figure but its own counter.
//! Bound: what `epoch` holds back, and a few hundred bytes.

use crate::breaks::{Breaks, Fit};
use crate::bursts::Burst;
use crate::description::{MediaKind, TrackInfo};
use crate::epoch::{Announced, Epoch, Held, Place};
use crate::jitter::Jitter;
use crate::lateness::{LatenessMeter, REORDER_FRAMES_MAX};
use crate::rtcp::{self, Figures, Incoming};
use crate::sequence::{Arrival, SequenceTracker};
use crate::stats::Counts;
use crate::time::Mono;
use crate::timeline::Lateness;
use rtp_types::RtpPacket;
use std::time::Duration;

/// A last sender report further ahead than this is about something else than a lost tail.
const LOST_AT_END_MAX: u64 = 512;
/// The first packet after PLAY lies no further than this from the announced RTP time: a second or
/// two to the next sync sample, and some more.
const RTP_TIME_TOLERANCE_S: u32 = 10;
const NS_PER_S: u64 = 1_000_000_000;

/// Receiver side of one stream.
#[derive(Debug)]
pub struct Stream {
    kind: MediaKind,
    payload_types: Vec<u8>,
    clock_rate_hz: u32,
    announced_ssrc: Option<u32>,
    ssrc: Option<u32>,
    breaks: Breaks,
    sequence: SequenceTracker,
    epoch: Epoch,
    /// RTP time announced for the epoch, until its first packet has been held against it.
    announced_time: Option<u32>,
    /// RTP time of the first packet of the epoch.
    first_time: Option<u32>,
    lateness: LatenessMeter,
    jitter: Jitter,
    /// The burst that is coming in.
    pub burst: Burst,
    /// Its packets are encrypted: their headers are judged, and its reports cannot be read.
    is_secure: bool,
    counts: Counts,
    end: End,
    last_report: Option<SenderReportSeen>,
    reported: (u64, u64),
}

/// How the stream ends, and so whether the sender's count can be held against what came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// No BYE yet.
    Open,
    /// The server said BYE by itself at this time; packets from before may wait unread.
    Bye { at: Mono, packet_count: u32 },
    /// As before, and everything that was sent ahead of the BYE has been read or is lost.
    Read { packet_count: u32 },
    /// We left first. The count of a BYE that answers our TEARDOWN goes on past what we looked at.
    Left,
}

#[derive(Debug, Clone, Copy)]
struct SenderReportSeen {
    ntp_middle: u32,
    packet_count: u32,
    at: Mono,
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is not of this stream.
    No,
    /// It is, and of the epoch that plays.
    Yes,
    /// It is from before the last PLAY, or nobody can tell before that is answered.
    Old,
}

/// What we claim about the packets we got, for the receiver reports alone.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Claims {
    /// Loss to report instead of the true one, 0 to 1.
    pub loss: Option<f64>,
}

impl Stream {
    /// A stream of `track` that has received nothing yet.
    #[must_use]
    pub fn new(track: &TrackInfo) -> Self {
        let clock_rate_hz = track.formats.first().map_or(1, |format| format.clock_rate_hz);
        Self {
            kind: track.kind,
            payload_types: track.formats.iter().map(|format| format.payload_type).collect(),
            clock_rate_hz,
            announced_ssrc: None,
            ssrc: None,
            breaks: Breaks::default(),
            sequence: SequenceTracker::default(),
            epoch: Epoch::default(),
            announced_time: None,
            first_time: None,
            lateness: meter(track.kind, clock_rate_hz),
            jitter: Jitter::default(),
            burst: Burst::default(),
            is_secure: track.is_secure,
            counts: Counts { streams: 1, ..Counts::default() },
            end: End::Open,
            last_report: None,
            reported: (0, 0),
        }
    }

    /// It is live: it has no beginning and may break off and begin anew.
    pub const fn handle_live(&mut self) {
        self.breaks.handle_live();
    }

    /// What it carries.
    #[must_use]
    pub const fn kind(&self) -> MediaKind {
        self.kind
    }

    /// Bytes of RTP so far.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.counts.bytes
    }

    /// True after a BYE that came before we left.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        matches!(self.end, End::Bye { .. } | End::Read { .. })
    }

    /// True when BYE came by `deadline` and packets from before it may still wait to be read.
    #[must_use]
    pub fn has_unread_tail(&self, deadline: Mono) -> bool {
        matches!(self.end, End::Bye { at, .. } if at <= deadline)
    }

    /// All packets that arrived before a BYE of up to `deadline` have been handed over.
    pub fn handle_tail_read(&mut self, deadline: Mono) {
        if let End::Bye { at, packet_count } = self.end
            && at <= deadline
        {
            self.end = End::Read { packet_count };
        }
    }

    /// We leave: what the server says about its end from here on is about packets we ignore. While
    /// the stream should be playing, `late` gets the frames it owes.
    pub fn handle_left(&mut self, now: Mono, late: Option<&mut impl Lateness>) {
        let is_open = self.end == End::Open;
        if let Some(late) = late.filter(|_| is_open) {
            self.counts.overdue_frames += u64::from(self.lateness.handle_left(now, late));
        }
        if !matches!(self.end, End::Read { .. }) {
            self.end = End::Left;
        }
    }

    /// Packets missing so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.sequence.lost()
    }

    /// From `Transport` and the `RTP-Info` of the first PLAY; may come after the first packets.
    pub fn handle_announced(&mut self, ssrc: Option<u32>, seq: Option<u16>, time: Option<u32>) {
        self.announced_ssrc = ssrc.or(self.announced_ssrc);
        if let Some(seq) = seq {
            self.sequence.handle_announced(seq);
        }
        self.announced_time = time.or(self.announced_time);
        self.check_time();
    }

    /// PLAY of a seek or resume was sent: until its answer nobody knows what a packet belongs to.
    pub fn handle_switch(&mut self) {
        self.epoch.handle_switch();
    }

    /// PAUSE was answered, or the server ended the stream for now: what comes next has a schedule
    /// of its own.
    pub fn handle_paused(&mut self, late: &mut impl Lateness) {
        self.lateness.finish(late);
        self.lateness = meter(self.kind, self.clock_rate_hz);
        self.jitter.handle_break();
    }

    /// That PLAY was answered, with the RTP-Info of this stream. When its first packet came, if it
    /// has.
    pub fn handle_epoch(&mut self, announced: Announced, late: &mut impl Lateness) -> Option<Mono> {
        let highest = self.sequence.highest();
        let held = self.epoch.handle_answer(announced, highest);
        self.announced_time = announced.time;
        self.first_time = None;
        // A stream that goes on (a title that was played to its end and sought back in) is open.
        self.end = if self.end == End::Left { End::Left } else { End::Open };
        let mut first = None;
        let (old, new): (Vec<Held>, Vec<Held>) =
            held.into_iter().partition(|packet| self.epoch.place_of(packet.seq) == Place::Old);
        for packet in old {
            self.count(&packet, late);
        }
        self.handle_paused(late);
        if !self.epoch.is_continued() {
            self.sequence.restart(announced.seq);
        }
        for packet in new {
            first = first.or(Some(packet.arrival));
            self.count_new(&packet, late);
        }
        first
    }

    /// One RTP packet.
    pub fn handle_rtp(&mut self, data: &[u8], arrival: Mono, late: &mut impl Lateness) -> Taken {
        let Ok(packet) = RtpPacket::parse(data) else {
            self.counts.malformed += 1;
            return Taken::No;
        };
        let (ssrc, seq) = (packet.ssrc(), packet.sequence_number());
        if !self.fits(ssrc, seq, late) {
            return Taken::No;
        }
        if !self.payload_types.contains(&packet.payload_type()) {
            self.counts.wrong_payload_type += 1;
        }
        self.counts.packets += 1;
        self.counts.bytes += u64::try_from(data.len()).unwrap_or(0);
        let held = Held { seq, timestamp: packet.timestamp(), arrival };
        let was_continued = self.epoch.is_continued();
        match self.epoch.handle_packet(held) {
            Place::New => {
                if was_continued && !self.epoch.is_continued() {
                    self.sequence.restart(None);
                }
                self.count_new(&held, late);
                Taken::Yes
            }
            Place::Old => {
                self.counts.stale += 1;
                // It may fill a gap of the old epoch, which ends where the new one begins.
                if self.epoch.is_continued() {
                    self.sequence.handle_packet(seq);
                }
                Taken::Old
            }
            Place::Unknown => Taken::Old,
        }
    }

    /// A packet was dropped on purpose, as if the way had lost it.
    pub const fn handle_dropped(&mut self) {
        self.counts.dropped += 1;
    }

    /// One compound RTCP packet.
    pub fn handle_rtcp(&mut self, data: &[u8], now: Mono) {
        if self.is_secure {
            return;
        }
        let own = self.ssrc;
        let is_own = |ssrc| own.is_none_or(|own| own == ssrc);
        let (counts, last_report) = (&mut self.counts, &mut self.last_report);
        let end = &mut self.end;
        let result = rtcp::read(data, |part| match part {
            Incoming::SenderReport { ssrc, ntp_middle, packet_count } if is_own(ssrc) => {
                counts.sender_reports += 1;
                *last_report = Some(SenderReportSeen { ntp_middle, packet_count, at: now });
            }
            Incoming::Bye { ssrc } if is_own(ssrc) && counts.byes == 0 => {
                counts.byes = 1;
                if *end == End::Open {
                    let packet_count = last_report.map_or(0, |report| report.packet_count);
                    *end = End::Bye { at: now, packet_count };
                }
            }
            Incoming::SenderReport { .. } | Incoming::Bye { .. } => {}
        });
        if result.is_err() {
            self.counts.malformed_rtcp += 1;
        }
    }

    /// Figures for the next receiver report; `None` before the first packet.
    pub fn report(&mut self, now: Mono, claims: Claims) -> Option<Figures> {
        let ssrc = self.ssrc?;
        let expected = self.sequence.expected();
        let received = self.sequence.received().saturating_sub(self.counts.dropped);
        let (expected_before, received_before) = self.reported;
        self.reported = (expected, received);
        let expected_now = expected.saturating_sub(expected_before);
        let lost_now = expected_now.saturating_sub(received.saturating_sub(received_before));
        let fraction = (lost_now * 256).checked_div(expected_now).unwrap_or(0);
        let mut figures = Figures {
            ssrc,
            fraction_lost: u8::try_from(fraction).unwrap_or(u8::MAX),
            lost: expected.saturating_sub(received),
            extended_highest: self.sequence.extended_highest(),
            jitter_rtp: self.jitter.rounded(),
            last_sender_report: 0,
            delay_since_last: 0,
        };
        if let Some(loss) = claims.loss {
            figures.fraction_lost = part_of(256, loss).try_into().unwrap_or(u8::MAX);
            figures.lost = part_of(expected, loss);
        }
        if let Some(last) = self.last_report {
            let delay = now.since(last.at).as_nanos();
            figures.last_sender_report = last.ntp_middle;
            figures.delay_since_last =
                u32::try_from((delay << 16) / u128::from(NS_PER_S)).unwrap_or(u32::MAX);
        }
        Some(figures)
    }

    /// The session is over: closes the lateness account and gives the counts.
    pub fn finish(&mut self, has_played: bool, late: &mut impl Lateness) -> Counts {
        for packet in self.epoch.give_up() {
            self.count(&packet, late);
        }
        self.lateness.finish(late);
        let mut counts = self.counts.clone();
        counts.lost_at_start = self.sequence.lost_at_start();
        counts.lost_at_end = self.lost_at_end();
        counts.lost = self.sequence.lost() + counts.lost_at_end;
        counts.reordered = self.sequence.reordered();
        counts.duplicates = self.sequence.duplicates();
        counts.strays = self.sequence.strays();
        counts.silent = u64::from(has_played && self.ssrc.is_none());
        // After a change of source on a seek the announced one is a thing of the past.
        let announced = self.announced_ssrc.zip(self.ssrc).filter(|_| counts.changed_ssrc == 0);
        counts.unannounced_ssrc = u64::from(announced.is_some_and(|(said, came)| said != came));
        counts
    }

    /// Whether a packet is of this stream; what it changes about the stream is changed then.
    fn fits(&mut self, ssrc: u32, seq: u16, late: &mut impl Lateness) -> bool {
        let is_other = *self.ssrc.get_or_insert(ssrc) != ssrc;
        if is_other && self.epoch.may_change_source(seq) {
            self.ssrc = Some(ssrc);
            self.counts.changed_ssrc += 1;
            return true;
        }
        match self.breaks.handle_packet(is_other, self.sequence.highest(), (ssrc, seq)) {
            Fit::Usual | Fit::Strange if is_other => {
                self.counts.wrong_ssrc += 1;
                false
            }
            Fit::Usual => true,
            Fit::Strange => false,
            Fit::Begins => {
                self.counts.breaks += 1;
                self.ssrc = Some(ssrc);
                self.sequence.restart(None);
                self.handle_paused(late);
                true
            }
        }
    }

    fn count_new(&mut self, packet: &Held, late: &mut impl Lateness) {
        if self.first_time.is_none() {
            self.first_time = Some(packet.timestamp);
            self.check_time();
        }
        self.count(packet, late);
    }

    fn count(&mut self, packet: &Held, late: &mut impl Lateness) {
        if self.sequence.handle_packet(packet.seq) == Arrival::Newest {
            self.lateness.handle_newest(packet.timestamp, packet.arrival, late);
            self.jitter.handle_packet(packet.timestamp, packet.arrival, self.clock_rate_hz);
        }
    }

    /// Holds the first packet against RTP-Info, once both are there. Zero stands for absent with
    /// some servers, as players take it (client rule C6).
    fn check_time(&mut self) {
        let (Some(announced), Some(first)) = (self.announced_time, self.first_time) else { return };
        self.announced_time = None;
        let distance = first.wrapping_sub(announced).cast_signed().unsigned_abs();
        let tolerance = self.clock_rate_hz.saturating_mul(RTP_TIME_TOLERANCE_S);
        if announced != 0 && distance > tolerance {
            self.counts.wrong_rtp_time += 1;
        }
    }

    fn lost_at_end(&self) -> u64 {
        let End::Read { packet_count } = self.end else { return 0 };
        let missing = u64::from(packet_count).saturating_sub(self.sequence.expected());
        if missing > LOST_AT_END_MAX { 0 } else { missing }
    }
}

fn meter(kind: MediaKind, clock_rate_hz: u32) -> LatenessMeter {
    let reorder_max = if kind == MediaKind::Video { REORDER_FRAMES_MAX } else { 0 };
    LatenessMeter::new(clock_rate_hz, reorder_max)
}

/// `part`, 0 to 1, of `whole`, rounded down.
fn part_of(whole: u64, part: f64) -> u64 {
    // A count as milliseconds: the standard library multiplies and cuts those without casts.
    let whole = Duration::from_millis(whole.min(u64::from(u32::MAX)));
    u64::try_from(whole.mul_f64(part.clamp(0.0, 1.0)).as_millis()).unwrap_or(0)
}

/// Rate of a stream of `bytes` in `time`, for the interval of its reports.
#[must_use]
pub fn bytes_per_s(bytes: u64, time: Duration) -> f64 {
    let kibibytes = f64::from(u32::try_from(bytes >> 10).unwrap_or(u32::MAX));
    let seconds = time.as_secs_f64();
    if seconds > 0.0 { kibibytes * 1024.0 / seconds } else { 0.0 }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
