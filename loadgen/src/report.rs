//! The report: figures of a run for people (a table) and for programs (JSON).
//!
//! ```text
//! Stats (whole run) + Samples (begin and end of the window) --> Report --> Display | JSON
//! ```
//! Rates and CPU are those of the window, in which every session plays; counts and percentiles
//! are of the whole run. Invariant: the same report prints the same text.

use crate::cli::Options;
use crate::description::MediaKind;
use crate::net::process::Usage;
use crate::request::Request;
use crate::stats::{Counts, Stats, Summary};
use crate::time::Mono;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Running figures at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    /// When.
    pub at: Mono,
    /// RTP packets so far.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// CPU time of this process.
    pub own_cpu: Duration,
    /// Figures of the server's process, when it was named and lives.
    pub server: Option<Usage>,
}

/// What a run found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Version of this program.
    pub version: &'static str,
    /// What was played.
    pub urls: Vec<String>,
    /// `udp` or `tcp`.
    pub transport: &'static str,
    /// How sessions fared.
    pub sessions: Sessions,
    /// Rates while all sessions played.
    pub window: Window,
    /// All streams together.
    pub total: Counts,
    /// Per kind of media.
    pub media: BTreeMap<MediaKind, Media>,
    /// PLAY request to first packet.
    pub first_packet: Summary,
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
}

/// Rates over the window.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Window {
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
    /// Resident memory at the end of the window.
    pub resident_bytes: u64,
    /// Threads at the end of the window.
    pub threads: u64,
}

impl Report {
    /// From the figures of all sessions and the samples at begin and end of the window and at the
    /// end of the run.
    #[must_use]
    pub fn new(options: &Options, stats: &Stats, samples: &[Sample; 3]) -> Self {
        let [begin, end, last] = samples;
        let window = Window::new(begin, end, last);
        let own = end.own_cpu.saturating_sub(begin.own_cpu);
        Self {
            version: env!("CARGO_PKG_VERSION"),
            urls: options.urls.iter().map(ToString::to_string).collect(),
            transport: options.transport.name(),
            sessions: Sessions {
                asked: options.sessions,
                started: stats.started,
                connected: stats.connected,
                played: stats.played,
                completed: stats.completed,
                ended_by_server: stats.ended_by_server,
                failed: stats.failed,
                failures: stats.failures.clone(),
            },
            total: stats.total(),
            media: MediaKind::ALL
                .into_iter()
                .map(|kind| (kind, stats.kind(kind)))
                .filter(|(_, found)| found.counts.streams > 0)
                .map(|(kind, found)| {
                    let lateness = found.lateness.summary();
                    (kind, Media { counts: found.counts.clone(), lateness })
                })
                .collect(),
            first_packet: stats.first_packet.summary(),
            answers: Request::ALL
                .into_iter()
                .map(|request| (request.name(), stats.answers(request).summary()))
                .filter(|(_, summary)| summary.count > 0)
                .collect(),
            receiver_reports: stats.reports_sent,
            unknown_datagrams: stats.unknown_datagrams,
            own_drops: stats.own_drops,
            loadgen: Cpu::new(own, &window),
            server: begin.server.zip(end.server).map(|(a, b)| Server::new(&a, &b, &window)),
            window,
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

impl Window {
    fn new(begin: &Sample, end: &Sample, last: &Sample) -> Self {
        let length = end.at.since(begin.at);
        let packets = end.packets.saturating_sub(begin.packets);
        let bytes = end.bytes.saturating_sub(begin.bytes);
        Self {
            seconds: length.as_secs_f64(),
            packets,
            bytes,
            packets_per_s: per(packets, length.as_secs_f64()).unwrap_or(0.0),
            mbit_per_s: per(bytes, length.as_secs_f64()).unwrap_or(0.0) * 8e-6,
            run_seconds: last.at.since(begin.at).as_secs_f64(),
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
    fn new(begin: &Usage, end: &Usage, window: &Window) -> Self {
        let cpu = Cpu::new(end.cpu.saturating_sub(begin.cpu), window);
        // Threads that have ended take their count with them.
        let switches = end.context_switches.saturating_sub(begin.context_switches);
        Self {
            cpu,
            cpu_seconds_per_gbit: divided(cpu.cpu_seconds * 1e9 / 8.0, window.bytes),
            context_switches_per_s: per(switches, window.seconds).unwrap_or(0.0),
            resident_bytes: end.resident_bytes,
            threads: end.threads,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (s, w) = (&self.sessions, &self.window);
        writeln!(
            f,
            "sessions    {} asked, {} started, {} played, {} completed ({} ended by the server), \
             {} failed",
            s.asked, s.started, s.played, s.completed, s.ended_by_server, s.failed
        )?;
        for (reason, count) in &s.failures {
            writeln!(f, "  failed    {count} x {reason}")?;
        }
        writeln!(
            f,
            "window      {:.1} s over {}: {} packets, {:.0} packets/s, {:.2} Mbit/s",
            w.seconds, self.transport, w.packets, w.packets_per_s, w.mbit_per_s
        )?;
        self.fmt_media(f)?;
        self.fmt_times(f)?;
        writeln!(
            f,
            "rtcp        {} sender reports, {} BYE, {} receiver reports sent",
            self.total.sender_reports, self.total.byes, self.receiver_reports
        )?;
        self.fmt_oddities(f)?;
        self.fmt_cpu(f)
    }
}

impl Report {
    fn fmt_media(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<11} {:>8} {:>11} {:>14} {:>8} {:>9} {:>10}",
            "media", "streams", "packets", "bytes", "lost", "reordered", "duplicates"
        )?;
        let kinds = self.media.iter().map(|(kind, media)| (kind.name(), &media.counts));
        for (name, c) in kinds.chain([("total", &self.total)]) {
            writeln!(
                f,
                "  {name:<9} {:>8} {:>11} {:>14} {:>8} {:>9} {:>10}",
                c.streams, c.packets, c.bytes, c.lost, c.reordered, c.duplicates
            )?;
        }
        Ok(())
    }

    fn fmt_times(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<20} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "time in ms", "count", "p50", "p90", "p99", "p99.9", "max"
        )?;
        for (kind, media) in &self.media {
            fmt_summary(f, &format!("late {}", kind.name()), &media.lateness)?;
        }
        fmt_summary(f, "PLAY to packet", &self.first_packet)?;
        for request in Request::ALL {
            if let Some(summary) = self.answers.get(request.name()) {
                fmt_summary(f, &format!("{request} answer"), summary)?;
            }
        }
        Ok(())
    }

    /// Lines that are only there when something is odd.
    fn fmt_oddities(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = &self.total;
        let odd = [
            (self.own_drops, "datagrams dropped by our own full receive buffers (see --rcvbuf)"),
            (
                t.lost_at_start,
                "of the lost packets lie before the first that came (or the server announces its \
                 start too early)",
            ),
            (t.lost_at_end, "of the lost packets were missing before BYE, by sender reports"),
            (t.strays, "packets from before the start, or more than 512 packets late"),
            (t.wrong_ssrc, "packets of another SSRC than the stream's"),
            (t.unannounced_ssrc, "streams with another SSRC than announced"),
            (t.wrong_payload_type, "packets with a payload type the description does not list"),
            (t.malformed, "datagrams that are not RTP"),
            (t.malformed_rtcp, "RTCP packets that could not be read"),
            (t.silent, "streams without a packet although their session played"),
            (self.unknown_datagrams, "datagrams for no open session"),
        ];
        for (count, what) in odd.into_iter().filter(|(count, _)| *count > 0) {
            writeln!(f, "  note      {count} {what}")?;
        }
        Ok(())
    }

    fn fmt_cpu(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "loadgen     {}", self.loadgen)?;
        if let Some(server) = &self.server {
            let mebibytes = server.resident_bytes >> 20;
            write!(f, "\nserver      {}", server.cpu)?;
            if let Some(per_gbit) = server.cpu_seconds_per_gbit {
                write!(f, ", {per_gbit:.3} s/Gbit")?;
            }
            write!(
                f,
                ", {:.0} context switches/s, {mebibytes} MiB, {} threads",
                server.context_switches_per_s, server.threads
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} s CPU, {:.1} % of a core", self.cpu_seconds, self.core_percent)?;
        match self.us_per_packet {
            Some(us) => write!(f, ", {us:.2} us/packet"),
            None => Ok(()),
        }
    }
}

fn fmt_summary(f: &mut fmt::Formatter<'_>, name: &str, s: &Summary) -> fmt::Result {
    writeln!(
        f,
        "  {name:<18} {:>9} {:>9.3} {:>9.3} {:>9.3} {:>9.3} {:>9.3}",
        s.count, s.p50_ms, s.p90_ms, s.p99_ms, s.p999_ms, s.max_ms
    )
}

#[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
fn per(count: u64, seconds: f64) -> Option<f64> {
    (seconds > 0.0).then(|| count as f64 / seconds)
}

#[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
fn divided(value: f64, count: u64) -> Option<f64> {
    (count > 0).then(|| value / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failure;
    use clap::Parser;

    #[test]
    fn table_shows_failures_losses_and_the_server() {
        let options = Options::try_parse_from(["x", "rtsp://h/a", "-n", "3"]).expect("options");
        let mut stats = Stats::default();
        (stats.started, stats.connected, stats.played, stats.completed) = (3, 3, 2, 2);
        stats.record_failure(&Failure::Stalled);
        stats.first_packet.record(Duration::from_millis(2));
        let audio = stats.kind_mut(MediaKind::Audio);
        audio.counts = Counts { streams: 2, packets: 9, bytes: 900, lost: 1, ..Counts::default() };
        let usage = |cpu_ms| Usage {
            cpu: Duration::from_millis(cpu_ms),
            resident_bytes: 5 << 20,
            threads: 2,
            context_switches: cpu_ms,
        };
        let begin = Sample { server: Some(usage(100)), ..Sample::default() };
        let end = Sample {
            at: Mono::from_ns(2_000_000_000),
            packets: 1_000,
            bytes: 125_000_000,
            own_cpu: Duration::from_millis(20),
            server: Some(usage(300)),
        };
        let text = Report::new(&options, &stats, &[begin, end, end]).to_string();
        let expected = "\
sessions    3 asked, 3 started, 2 played, 2 completed (0 ended by the server), 1 failed
  failed    1 x packets stopped before the end
window      2.0 s over udp: 1000 packets, 500 packets/s, 500.00 Mbit/s
media        streams     packets          bytes     lost reordered duplicates
  audio            2           9            900        1         0          0
  total            2           9            900        1         0          0
time in ms               count       p50       p90       p99     p99.9       max
  late audio                 0     0.000     0.000     0.000     0.000     0.000
  PLAY to packet             1     2.000     2.000     2.000     2.000     2.000
rtcp        0 sender reports, 0 BYE, 0 receiver reports sent
loadgen     0.02 s CPU, 1.0 % of a core, 20.00 us/packet
server      0.20 s CPU, 10.0 % of a core, 200.00 us/packet, 0.200 s/Gbit, \
100 context switches/s, 5 MiB, 2 threads";
        assert_eq!(text, expected);
    }
}
