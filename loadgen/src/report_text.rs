//! The report for people: a table that fits a terminal.
//!
//! Lines about odd things are there only when there is something odd.
//! Invariant: the same report prints the same text.

use crate::net::flood::Flooded;
use crate::publish::Published;
use crate::report::{Cpu, Report, Server};
use crate::request::Request;
use crate::stats::{Acts, Summary};
use std::fmt;

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
        let asides = [
            (s.redirected, "followed a redirection"),
            (s.cancelled, "were not playing yet when the run was interrupted"),
            (s.stalled, "stopped reading, as asked"),
            (s.stalled_closed, "of these were hung up on by the server"),
        ];
        for (count, what) in asides.into_iter().filter(|(count, _)| *count > 0) {
            writeln!(f, "  of them   {count} {what}")?;
        }
        writeln!(
            f,
            "window      {:.1} s over {}: {} packets, {:.0} packets/s, {:.2} Mbit/s",
            w.seconds, self.transport, w.packets, w.packets_per_s, w.mbit_per_s
        )?;
        if let Some(published) = &self.published {
            writeln!(f, "published   {published}")?;
        }
        if let Some(flooded) = &self.flooded {
            let Flooded { connections, answers, closed } = flooded;
            writeln!(
                f,
                "flood       {connections} connections, {answers} requests answered, {closed} \
                 connections closed by the server"
            )?;
        }
        self.fmt_media(f)?;
        self.fmt_parts(f)?;
        self.fmt_times(f)?;
        writeln!(
            f,
            "rtcp        {} sender reports, {} BYE, {} receiver reports sent",
            self.total.sender_reports, self.total.byes, self.receiver_reports
        )?;
        let acts = &self.acts;
        if *acts != Acts::default() {
            writeln!(
                f,
                "script      {} pauses, {} resumes, {} seeks, {} steps left out",
                acts.pauses, acts.resumes, acts.seeks, acts.skipped
            )?;
        }
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

    /// With one title over one transport the table above has said it all.
    fn fmt_parts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.parts.len() < 2 {
            return Ok(());
        }
        writeln!(f, "{:<11} {:>8} {:>11} {:>8}", "title", "sessions", "packets", "lost")?;
        for p in &self.parts {
            let (sessions, packets, lost) = (p.sessions, p.packets, p.lost);
            let (transport, url) = (p.transport, &p.url);
            writeln!(f, "  {transport:<9} {sessions:>8} {packets:>11} {lost:>8}  {url}")?;
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
        for (kind, media) in &self.media {
            if let Some(added) = &media.added {
                fmt_summary(f, &format!("added {}", kind.name()), added)?;
            }
        }
        fmt_summary(f, "PLAY to packet", &self.first_packet)?;
        if self.again_packet.count > 0 {
            fmt_summary(f, "seek to packet", &self.again_packet)?;
        }
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
            (t.stale, "packets from before a seek that came after its answer"),
            (t.changed_ssrc, "seeks after which the stream had another SSRC"),
            (t.breaks, "times a live stream began anew, with other numbers or another SSRC"),
            (t.wrong_rtp_time, "starts more than 10 s off the RTP time announced for them"),
            (t.overdue_frames, "frames were due when we left and had not come: they count as late"),
            (t.dropped, "packets dropped on purpose, lost in receiver reports only"),
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
        match &self.server {
            Some(server) => write!(f, "\nserver      {server}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (width, height) = self.size;
        write!(
            f,
            "{:.1} s over {}: {} pictures of {width}x{height}, {} packets, {} bytes, at most \
             {:.1} ms late",
            self.seconds, self.transport, self.pictures, self.packets, self.bytes, self.late_ms_max
        )?;
        match self.own_drops {
            0 => Ok(()),
            drops => write!(f, ", {drops} dropped by our own full send buffer"),
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cpu)?;
        if let Some(per_gbit) = self.cpu_seconds_per_gbit {
            write!(f, ", {per_gbit:.3} s/Gbit")?;
        }
        write!(
            f,
            "\n            {:.0} + {:.0} context switches/s (gave up, lost the CPU), {} threads, \
             {} MiB",
            self.voluntary_switches_per_s,
            self.involuntary_switches_per_s,
            self.threads,
            self.resident_bytes >> 20,
        )?;
        match self.resident_bytes_per_session {
            Some(bytes) => write!(f, ", {:.1} KiB/session", bytes / 1024.0),
            None => Ok(()),
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Options;
    use crate::description::MediaKind;
    use crate::failure::Failure;
    use crate::history::{History, Sample};
    use crate::net::process::Usage;
    use crate::report::Measured;
    use crate::stats::{Counts, Stats};
    use crate::time::Mono;
    use clap::Parser;
    use std::time::Duration;

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
            voluntary_switches: cpu_ms * 2,
            involuntary_switches: cpu_ms / 10,
        };
        let begin = Sample { server: Some(usage(100)), playing: 2, ..Sample::default() };
        let end = Sample {
            at: Mono::from_ns(2_000_000_000),
            packets: 1_000,
            bytes: 125_000_000,
            own_cpu: Duration::from_millis(20),
            server: Some(usage(300)),
            playing: 2,
        };
        let measured = Measured {
            options: &options,
            stats: &stats,
            before: Sample { server: Some(Usage::default()), ..begin },
            window: (begin, end),
            last: end,
            history: &History::starting_with(begin),
            started: String::new(),
        };
        let text = Report::new(&measured).to_string();
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
server      0.20 s CPU, 10.0 % of a core, 200.00 us/packet, 0.200 s/Gbit
            200 + 10 context switches/s (gave up, lost the CPU), 2 threads, 5 MiB, \
2560.0 KiB/session";
        assert_eq!(text, expected);
    }
}
