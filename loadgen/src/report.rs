//! The report: what a run found, for people (`report_text`, `html`) and for programs (JSON).
//!
//! ```text
//! Stats (whole run) + Samples (begin and end of the window, each second) --> Report
//!                                                        Report --> table | JSON | page
//! ```
//! Rates and CPU are those of the window, in which every session plays; counts and percentiles
//! are of the whole run. Bound: a thousand moments and as many seconds of lateness.

use crate::auth::redacted;
use crate::bursts::BurstClass;
use crate::cli::Options;
use crate::description::MediaKind;
use crate::history::{History, Moment, Sample};
use crate::net::flood::Flooded;
use crate::net::host::Host;
use crate::publish::Published;
use crate::request::Request;
use crate::stats::{Acts, Counts, Stats, Summary};
use crate::timeline::Late;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// All that a report is made from.
#[derive(Debug)]
pub struct Measured<'a> {
    /// The command line.
    pub options: &'a Options,
    /// Figures of all sessions.
    pub stats: &'a Stats,
    /// Before the first session.
    pub before: Sample,
    /// Begin and end of the window.
    pub window: (Sample, Sample),
    /// At the end of the run.
    pub last: Sample,
    /// The course between.
    pub history: &'a History,
    /// Date and time of the start.
    pub started: String,
}

/// What a run found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Version of this program.
    pub version: &'static str,
    /// The command line, without passwords.
    pub command: String,
    /// Date and time of the start.
    pub started: String,
    /// Where it ran.
    pub host: Host,
    /// What was played.
    pub urls: Vec<String>,
    /// `udp`, `tcp` or a mix.
    pub transport: String,
    /// The run was ended by a signal.
    pub is_interrupted: bool,
    /// How sessions fared.
    pub sessions: Sessions,
    /// Rates while all sessions played.
    pub window: Window,
    /// All streams together.
    pub total: Counts,
    /// Per title and transport.
    pub parts: Vec<PartReport>,
    /// What was published in this run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published: Option<Published>,
    /// What became of the connections that flooded the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flooded: Option<Flooded>,
    /// Per kind of media.
    pub media: BTreeMap<MediaKind, Media>,
    /// PLAY request to first packet.
    pub first_packet: Summary,
    /// PLAY of a seek or resume to the first packet of it.
    pub again_packet: Summary,
    /// What viewers did by the script.
    pub acts: Acts,
    /// Request to answer, per request.
    pub answers: BTreeMap<&'static str, Summary>,
    /// Receiver reports sent.
    pub receiver_reports: u64,
    /// Datagrams that belong to no session.
    pub unknown_datagrams: u64,
    /// Datagrams dropped because our own buffers were full: then losses are ours.
    pub own_drops: u64,
    /// CPU of this program in the window.
    pub loadgen: Cpu,
    /// The server's process in the window.
    pub server: Option<Server>,
    /// Back-to-back packets of one stream, by size.
    pub bursts: Vec<BurstClass>,
    /// Second by second.
    pub history: Vec<Moment>,
    /// Lateness by the second in which frames were due.
    pub late: Vec<Late>,
    /// Percentile curves.
    pub curves: Vec<Curve>,
}

/// One title over one transport.
#[derive(Debug, Clone, Serialize)]
pub struct PartReport {
    /// The title.
    pub url: String,
    /// `udp` or `tcp`.
    pub transport: &'static str,
    /// Sessions begun.
    pub sessions: u64,
    /// Packets that came.
    pub packets: u64,
    /// Packets missing.
    pub lost: u64,
    /// Packets that came behind a newer one.
    pub reordered: u64,
}

/// Percentiles of something, close enough together to be drawn.
#[derive(Debug, Clone, Serialize)]
pub struct Curve {
    /// Of what.
    pub name: String,
    /// (part of the values that is no larger, milliseconds).
    pub points: Vec<(f64, f64)>,
}

/// How sessions fared.
#[derive(Debug, Clone, Serialize)]
pub struct Sessions {
    /// As on the command line.
    pub asked: u32,
    /// Connections begun.
    pub started: u64,
    /// Connections made.
    pub connected: u64,
    /// PLAY succeeded.
    pub played: u64,
    /// Ended as asked.
    pub completed: u64,
    /// Of these, ended by the server (BYE).
    pub ended_by_server: u64,
    /// Failed.
    pub failed: u64,
    /// By reason.
    pub failures: BTreeMap<String, u64>,
    /// Were sent elsewhere by the server, and went there.
    pub redirected: u64,
    /// Were being set up when the run was interrupted.
    pub cancelled: u64,
    /// Stopped reading, as asked.
    pub stalled: u64,
    /// Of these, hung up on by the server.
    pub stalled_closed: u64,
}

/// Rates over the window.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Window {
    /// Its begin, seconds after the start of the run.
    pub begin_s: f64,
    /// Its length.
    pub seconds: f64,
    /// RTP packets in it.
    pub packets: u64,
    /// RTP bytes in it.
    pub bytes: u64,
    /// Packets per second.
    pub packets_per_s: f64,
    /// Megabits of RTP per second.
    pub mbit_per_s: f64,
    /// From the first connection to the last answer.
    pub run_seconds: f64,
}

/// One kind of media.
#[derive(Debug, Clone, Serialize)]
pub struct Media {
    /// What came.
    #[serde(flatten)]
    pub counts: Counts,
    /// Lateness of frames.
    pub lateness: Summary,
    /// From the publisher's send to our receipt, where packets tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub added: Option<Summary>,
}

/// CPU of a process over the window.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Cpu {
    /// CPU seconds used.
    pub cpu_seconds: f64,
    /// Part of one core, in percent.
    pub core_percent: f64,
    /// Microseconds per RTP packet received.
    pub us_per_packet: Option<f64>,
}

/// The server's process over the window.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Server {
    /// Its CPU.
    #[serde(flatten)]
    pub cpu: Cpu,
    /// CPU seconds per gigabit of RTP.
    pub cpu_seconds_per_gbit: Option<f64>,
    /// Context switches per second.
    pub context_switches_per_s: f64,
    /// Of these, threads that gave up the CPU to wait.
    pub voluntary_switches_per_s: f64,
    /// And threads that lost it to another.
    pub involuntary_switches_per_s: f64,
    /// Resident memory at the end of the window.
    pub resident_bytes: u64,
    /// Resident memory before the first session.
    pub resident_bytes_before: u64,
    /// What a session that plays has added to it at the begin of the window.
    pub resident_bytes_per_session: Option<f64>,
    /// Threads at the end of the window.
    pub threads: u64,
}

impl Report {
    /// From everything that was measured.
    #[must_use]
    pub fn new(measured: &Measured<'_>) -> Self {
        let (options, stats) = (measured.options, measured.stats);
        let (begin, end) = &measured.window;
        let window = Window::new(measured);
        let own = end.own_cpu.saturating_sub(begin.own_cpu);
        Self {
            version: env!("CARGO_PKG_VERSION"),
            command: String::new(),
            started: measured.started.clone(),
            host: Host::read(),
            urls: options.titles.iter().map(|title| redacted(title.url.as_str())).collect(),
            transport: options.transport.to_string(),
            is_interrupted: stats.is_interrupted,
            sessions: Sessions::new(options, stats),
            total: stats.total(),
            parts: parts(options, stats),
            published: stats.published.clone(),
            flooded: stats.flooded,
            media: MediaKind::ALL
                .into_iter()
                .map(|kind| (kind, stats.kind(kind)))
                .filter(|(_, found)| found.counts.streams > 0)
                .map(|(kind, found)| {
                    let lateness = found.lateness.summary();
                    let added = Some(found.added.summary()).filter(|added| added.count > 0);
                    (kind, Media { counts: found.counts.clone(), lateness, added })
                })
                .collect(),
            first_packet: stats.first_packet.summary(),
            again_packet: stats.again_packet.summary(),
            acts: stats.acts,
            answers: Request::ALL
                .into_iter()
                .map(|request| (request.name(), stats.answers(request).summary()))
                .filter(|(_, summary)| summary.count > 0)
                .collect(),
            receiver_reports: stats.reports_sent,
            unknown_datagrams: stats.unknown_datagrams,
            own_drops: stats.own_drops,
            loadgen: Cpu::new(own, &window),
            server: Server::new(measured, &window),
            window,
            bursts: stats.bursts.classes(),
            history: measured.history.moments(),
            late: stats.timeline.course(),
            curves: curves(stats),
        }
    }

    /// Whether the run counts as failed.
    #[must_use]
    pub const fn is_failure(&self, fail_on_loss: bool) -> bool {
        let is_lossy = self.total.lost + self.total.silent > 0;
        self.sessions.failed > 0 || (fail_on_loss && is_lossy)
    }

    /// The report for programs.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Only maps with keys that are not text could fail; there are none.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

impl Sessions {
    fn new(options: &Options, stats: &Stats) -> Self {
        Self {
            asked: if options.titles.is_empty() { 0 } else { options.sessions },
            started: stats.started,
            connected: stats.connected,
            played: stats.played,
            completed: stats.completed,
            ended_by_server: stats.ended_by_server,
            failed: stats.failed,
            failures: stats.failures.clone(),
            redirected: stats.redirected,
            cancelled: stats.cancelled,
            stalled: stats.stalled,
            stalled_closed: stats.stalled_closed,
        }
    }
}

impl Window {
    fn new(measured: &Measured<'_>) -> Self {
        let (begin, end) = &measured.window;
        let length = end.at.since(begin.at);
        let packets = end.packets.saturating_sub(begin.packets);
        let bytes = end.bytes.saturating_sub(begin.bytes);
        Self {
            begin_s: begin.at.since(measured.before.at).as_secs_f64(),
            seconds: length.as_secs_f64(),
            packets,
            bytes,
            packets_per_s: per(packets, length.as_secs_f64()).unwrap_or(0.0),
            mbit_per_s: per(bytes, length.as_secs_f64()).unwrap_or(0.0) * 8e-6,
            run_seconds: measured.last.at.since(measured.before.at).as_secs_f64(),
        }
    }
}

impl Cpu {
    fn new(cpu: Duration, window: &Window) -> Self {
        let seconds = cpu.as_secs_f64();
        Self {
            cpu_seconds: seconds,
            core_percent: if window.seconds > 0.0 { seconds / window.seconds * 100.0 } else { 0.0 },
            us_per_packet: divided(seconds * 1e6, window.packets),
        }
    }
}

impl Server {
    fn new(measured: &Measured<'_>, window: &Window) -> Option<Self> {
        let (begin, end) = &measured.window;
        let (a, b) = begin.server.zip(end.server)?;
        let cpu = Cpu::new(b.cpu.saturating_sub(a.cpu), window);
        // Threads that have ended take their count with them.
        let rate = |a: u64, b: u64| per(b.saturating_sub(a), window.seconds).unwrap_or(0.0);
        let voluntary = rate(a.voluntary_switches, b.voluntary_switches);
        let involuntary = rate(a.involuntary_switches, b.involuntary_switches);
        let before = measured.before.server.map_or(0, |server| server.resident_bytes);
        let grown = per(a.resident_bytes.saturating_sub(before), 1.0).unwrap_or(0.0);
        Some(Self {
            cpu,
            cpu_seconds_per_gbit: divided(cpu.cpu_seconds * 1e9 / 8.0, window.bytes),
            context_switches_per_s: voluntary + involuntary,
            voluntary_switches_per_s: voluntary,
            involuntary_switches_per_s: involuntary,
            resident_bytes: b.resident_bytes,
            resident_bytes_before: before,
            resident_bytes_per_session: divided(grown, begin.playing),
            threads: b.threads,
        })
    }
}

fn parts(options: &Options, stats: &Stats) -> Vec<PartReport> {
    let names = options.titles.iter().flat_map(|title| ["udp", "tcp"].map(|name| (title, name)));
    let used = names.zip(&stats.parts).filter(|(_, part)| part.sessions > 0);
    used.map(|((title, transport), part)| PartReport {
        url: redacted(title.url.as_str()),
        transport,
        sessions: part.sessions,
        packets: part.counts.packets,
        lost: part.counts.lost,
        reordered: part.counts.reordered,
    })
    .collect()
}

fn curves(stats: &Stats) -> Vec<Curve> {
    let kinds = MediaKind::ALL.into_iter();
    let late = kinds.map(|kind| (format!("late {}", kind.name()), &stats.kind(kind).lateness));
    let kinds = MediaKind::ALL.into_iter();
    let added = kinds.map(|kind| (format!("added {}", kind.name()), &stats.kind(kind).added));
    let waits = [("PLAY to packet", &stats.first_packet), ("seek to packet", &stats.again_packet)];
    let all = late.chain(added).chain(waits.map(|(name, timing)| (name.to_owned(), timing)));
    all.map(|(name, timing)| Curve { name, points: timing.curve() })
        .filter(|curve| !curve.points.is_empty())
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
fn per(count: u64, seconds: f64) -> Option<f64> {
    (seconds > 0.0).then(|| count as f64 / seconds)
}

#[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
fn divided(value: f64, count: u64) -> Option<f64> {
    (count > 0).then(|| value / count as f64)
}
