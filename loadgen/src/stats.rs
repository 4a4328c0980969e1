//! Figures of the whole run, as sessions add to them.
//!
//! Time values go to high dynamic range histograms: microseconds, three digits, up to an hour.
//! Invariant: counts only grow, `playing` apart. Bound: a fixed number of histograms and one
//! counter per kind of failure, however many sessions there are.

use crate::bursts::Bursts;
use crate::description::MediaKind;
use crate::failure::Failure;
use crate::net::flood::Flooded;
use crate::publish::Published;
use crate::request::Request;
use crate::time::Mono;
use crate::timeline::{LateSink, Timeline};
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

const US_MAX: u64 = 3_600_000_000;
const DIGITS: u8 = 3;

/// A histogram of durations.
#[derive(Debug, Clone)]
pub struct Timing(Histogram<u64>);

impl Default for Timing {
    #[expect(clippy::expect_used, reason = "the bounds are constants, valid for the crate")]
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, US_MAX, DIGITS).expect("constant bounds"))
    }
}

/// Percentiles of a [`Timing`] in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    /// Values recorded.
    pub count: u64,
    /// Median.
    pub p50_ms: f64,
    /// 90th percentile.
    pub p90_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// 99.9th percentile.
    pub p999_ms: f64,
    /// Largest.
    pub max_ms: f64,
}

impl Timing {
    /// Adds one value; longer than an hour counts as an hour.
    pub fn record(&mut self, value: Duration) {
        self.0.saturating_record(u64::try_from(value.as_micros()).unwrap_or(US_MAX));
    }

    /// How many values lie above `value`.
    #[must_use]
    pub fn count_above(&self, value: Duration) -> u64 {
        let us = u64::try_from(value.as_micros()).unwrap_or(US_MAX);
        self.0.len() - self.0.count_between(0, us)
    }

    /// (part, milliseconds) up to the largest value: eight steps to each further nine, as far as
    /// there are values to tell them apart. Empty without values.
    #[must_use]
    pub fn curve(&self) -> Vec<(f64, f64)> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let steps = (0u32..).map(|step| 10f64.powf(-f64::from(step) / 8.0));
        // One in a hundred million is the end of it in any case.
        let distinct = steps.take(65).take_while(|&rest| !self.is_beyond(rest));
        distinct
            .map(|rest| (1.0 - rest, self.at(1.0 - rest)))
            .chain([(1.0, self.at(1.0))])
            .collect()
    }

    /// Whether less than one value lies above all but `rest` of them.
    #[expect(clippy::cast_precision_loss, reason = "counts of frames, far below 52 bits")]
    fn is_beyond(&self, rest: f64) -> bool {
        rest * (self.0.len() as f64) < 1.0
    }

    fn at(&self, quantile: f64) -> f64 {
        milliseconds(self.0.value_at_quantile(quantile))
    }

    /// The percentiles.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary {
            count: self.0.len(),
            p50_ms: self.at(0.5),
            p90_ms: self.at(0.9),
            p99_ms: self.at(0.99),
            p999_ms: self.at(0.999),
            max_ms: milliseconds(self.0.max()),
        }
    }
}

fn milliseconds(us: u64) -> f64 {
    Duration::from_micros(us).as_secs_f64() * 1e3
}

/// What came of the streams of one kind.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Counts {
    /// Streams set up.
    pub streams: u64,
    /// RTP packets that came, repeated ones included.
    pub packets: u64,
    /// Their bytes, RTP header included.
    pub bytes: u64,
    /// Packets missing, those of the next two fields included.
    pub lost: u64,
    /// Packets between the announced start and the first that came.
    pub lost_at_start: u64,
    /// Packets the last sender report before BYE counts beyond the newest that came.
    pub lost_at_end: u64,
    /// Packets that came behind a newer one.
    pub reordered: u64,
    /// Packets that came twice.
    pub duplicates: u64,
    /// Packets from before the start, or too late to be told from repeated ones.
    pub strays: u64,
    /// Packets of another source than the stream's.
    pub wrong_ssrc: u64,
    /// Streams whose source is not the announced one.
    pub unannounced_ssrc: u64,
    /// Packets with a payload type that the description does not list.
    pub wrong_payload_type: u64,
    /// Datagrams or frames that are not RTP.
    pub malformed: u64,
    /// Streams that never got a packet although their session played.
    pub silent: u64,
    /// Sender reports.
    pub sender_reports: u64,
    /// Streams that ended with BYE.
    pub byes: u64,
    /// RTCP packets that could not be read.
    pub malformed_rtcp: u64,
    /// Packets from before a seek or resume that came after its answer.
    pub stale: u64,
    /// Seeks after which the stream had another source.
    pub changed_ssrc: u64,
    /// Times a live stream began anew by itself: other numbers, or another source.
    pub breaks: u64,
    /// Starts whose first packet is far from the RTP time announced for it.
    pub wrong_rtp_time: u64,
    /// Frames that were due when we left and had not come.
    pub overdue_frames: u64,
    /// Packets that were dropped on purpose: received here, lost in our reports.
    pub dropped: u64,
}

impl Counts {
    /// Adds `other` field by field.
    pub const fn add(&mut self, other: &Self) {
        self.streams += other.streams;
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.lost += other.lost;
        self.lost_at_start += other.lost_at_start;
        self.lost_at_end += other.lost_at_end;
        self.reordered += other.reordered;
        self.duplicates += other.duplicates;
        self.strays += other.strays;
        self.wrong_ssrc += other.wrong_ssrc;
        self.unannounced_ssrc += other.unannounced_ssrc;
        self.wrong_payload_type += other.wrong_payload_type;
        self.malformed += other.malformed;
        self.silent += other.silent;
        self.sender_reports += other.sender_reports;
        self.byes += other.byes;
        self.malformed_rtcp += other.malformed_rtcp;
        self.stale += other.stale;
        self.changed_ssrc += other.changed_ssrc;
        self.breaks += other.breaks;
        self.wrong_rtp_time += other.wrong_rtp_time;
        self.overdue_frames += other.overdue_frames;
        self.dropped += other.dropped;
    }
}

/// Figures of all sessions.
#[derive(Debug, Default)]
pub struct Stats {
    /// Sessions whose connection was begun.
    pub started: u64,
    /// Sessions whose connection stood.
    pub connected: u64,
    /// Sessions whose PLAY succeeded.
    pub played: u64,
    /// Sessions playing now.
    pub playing: u64,
    /// Sessions that ended as asked.
    pub completed: u64,
    /// Of these, those that the server ended (BYE, or silence at the known end).
    pub ended_by_server: u64,
    /// Sessions that failed.
    pub failed: u64,
    /// Why they failed.
    pub failures: BTreeMap<String, u64>,
    /// Packets so far, of all kinds.
    pub packets: u64,
    /// Bytes so far, of all kinds.
    pub bytes: u64,
    /// Receiver reports sent.
    pub reports_sent: u64,
    /// Datagrams that belong to no session.
    pub unknown_datagrams: u64,
    /// Datagrams our own receive buffers had no room for.
    pub own_drops: u64,
    /// PLAY request to first RTP packet, per session.
    pub first_packet: Timing,
    /// PLAY of a seek or resume to the first RTP packet that comes of it.
    pub again_packet: Timing,
    /// What viewers did by the script.
    pub acts: Acts,
    /// Sessions that went where a 3xx answer had sent them.
    pub redirected: u64,
    /// Sessions that were still being set up when the run was interrupted.
    pub cancelled: u64,
    /// Sessions that have stopped reading.
    pub stalled: u64,
    /// Of these, those the server hung up on.
    pub stalled_closed: u64,
    /// The run was ended by a signal.
    pub is_interrupted: bool,
    /// What became of connections that flooded the server, at the end of it.
    pub flooded: Option<Flooded>,
    /// What was published, at the end of it.
    pub published: Option<Published>,
    /// Lateness by second.
    pub timeline: Timeline,
    /// Packets back to back.
    pub bursts: Bursts,
    /// Per title and transport.
    pub parts: Vec<Part>,
    kinds: [KindStats; MediaKind::ALL.len()],
    answers: [Timing; Request::ALL.len()],
}

/// What viewers did by the script.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Acts {
    /// PAUSE answered.
    pub pauses: u64,
    /// PLAY from another place answered.
    pub seeks: u64,
    /// PLAY from where it was answered.
    pub resumes: u64,
    /// Steps left out because the title has no known length.
    pub skipped: u64,
}

/// Sessions of one title and transport.
#[derive(Debug, Clone, Default)]
pub struct Part {
    /// Begun.
    pub sessions: u64,
    /// What came, folded in as they end.
    pub counts: Counts,
}

/// Figures of one kind of media.
#[derive(Debug, Default)]
pub struct KindStats {
    /// Folded in as sessions end.
    pub counts: Counts,
    /// Lateness of frames.
    pub lateness: Timing,
    /// From the publisher's send to our receipt, of packets that carry the time.
    pub added: Timing,
}

impl Stats {
    /// Nothing yet, in a run that began at `start`.
    #[must_use]
    pub fn starting_at(start: Mono) -> Self {
        Self { timeline: Timeline::starting_at(start), ..Self::default() }
    }

    /// Figures of `kind`.
    #[must_use]
    #[expect(clippy::indexing_slicing, reason = "the index is below the length by its type")]
    pub const fn kind(&self, kind: MediaKind) -> &KindStats {
        &self.kinds[kind.index()]
    }

    /// Figures of `kind`, to be added to.
    #[expect(clippy::indexing_slicing, reason = "the index is below the length by its type")]
    pub const fn kind_mut(&mut self, kind: MediaKind) -> &mut KindStats {
        &mut self.kinds[kind.index()]
    }

    /// Where lateness of streams of `kind` goes.
    #[expect(clippy::indexing_slicing, reason = "the index is below the length by its type")]
    pub const fn late(&mut self, kind: MediaKind) -> LateSink<'_> {
        let timing = &mut self.kinds[kind.index()].lateness;
        LateSink { timing, timeline: &mut self.timeline }
    }

    /// Figures of title and transport `part`, to be added to.
    pub fn part_mut(&mut self, part: usize) -> &mut Part {
        if self.parts.len() <= part {
            self.parts.resize_with(part + 1, Part::default);
        }
        // Only an allocation as large as the address space could leave it shorter.
        #[expect(clippy::indexing_slicing, reason = "just made long enough")]
        &mut self.parts[part]
    }

    /// Times from `request` to its answer.
    #[must_use]
    #[expect(clippy::indexing_slicing, reason = "the index is below the length by its type")]
    pub const fn answers(&self, request: Request) -> &Timing {
        &self.answers[request.index()]
    }

    /// `request` was answered after `wait`.
    #[expect(clippy::indexing_slicing, reason = "the index is below the length by its type")]
    pub fn record_answer(&mut self, request: Request, wait: Duration) {
        self.answers[request.index()].record(wait);
    }

    /// A session failed.
    pub fn record_failure(&mut self, failure: &Failure) {
        self.failed += 1;
        *self.failures.entry(failure.to_string()).or_default() += 1;
    }

    /// All kinds together.
    #[must_use]
    pub fn total(&self) -> Counts {
        let mut total = Counts::default();
        self.kinds.iter().for_each(|kind| total.add(&kind.counts));
        total
    }
}
