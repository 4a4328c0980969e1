//! How the cost of a session moves with their number: the points that `scripts/curve.sh` took.
//!
//! ```text
//! DIR/1000.json    report of headend-loadgen        DIR/1000.before  DIR/1000.after  /metrics
//! DIR/1000.peak    KiB of anonymous memory, one line a look while it played
//! ```
//! Memory is the process's own (anonymous) beyond what it had before the sessions came: pages of
//! the film are in the page cache, whoever maps them.
//! Bound: as many points as there are reports in the folder.

use std::fmt;
use std::path::Path;

use crate::Failure;
use crate::report::Report;

/// See the module.
pub(crate) struct Curve {
    points: Vec<Point>,
}

struct Point {
    sessions: u32,
    report: Report,
    before: Metrics,
    after: Metrics,
    /// While it played.
    peak_kib: f64,
}

/// What must be as before when all sessions are gone, and the memory at that time.
#[derive(Debug, Clone, Copy)]
struct Metrics {
    sessions: f64,
    connections: f64,
    rows: f64,
    descriptors: f64,
    own_kib: f64,
}

impl Curve {
    pub(crate) fn read(folder: &Path) -> Result<Self, Failure> {
        let mut points = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
            let is_report = path.extension().is_some_and(|extension| extension == "json");
            if let Some(sessions) = number.filter(|_| is_report) {
                points.push(Point::read(sessions, &path)?);
            }
        }
        points.sort_by_key(|point| point.sessions);
        Ok(Self { points })
    }
}

impl Point {
    fn read(sessions: u32, path: &Path) -> Result<Self, Failure> {
        let text = |extension: &str| {
            let path = path.with_extension(extension);
            std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
        };
        let peaks = text("peak")?;
        let peaks = peaks.lines().filter_map(|line| line.trim().parse::<f64>().ok());
        Ok(Self {
            sessions,
            report: Report::read_server(path)?,
            before: Metrics::from_text(&text("before")?),
            after: Metrics::from_text(&text("after")?),
            peak_kib: peaks.fold(0.0, f64::max),
        })
    }

    fn n(&self, pointer: &str) -> f64 {
        self.report.number(pointer).unwrap_or(f64::NAN)
    }

    /// CPU of the server for each session, in percent of a core.
    fn percent_per_session(&self) -> f64 {
        self.n("/server/core_percent") / f64::from(self.sessions)
    }

    fn left(&self) -> [(&'static str, f64); 4] {
        let (before, after) = (&self.before, &self.after);
        [
            ("sessions", after.sessions - before.sessions),
            ("connections", after.connections - before.connections),
            ("rows", after.rows - before.rows),
            ("descriptors", after.descriptors - before.descriptors),
        ]
    }
}

impl Metrics {
    /// From the text of `/metrics`, with a line `own_kib N` that the script adds.
    fn from_text(text: &str) -> Self {
        let sum = |name: &str| -> f64 {
            let values = text.lines().filter_map(|line| {
                let rest = line.strip_prefix(name)?;
                let is_whole_name = rest.starts_with([' ', '{']);
                is_whole_name.then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
            });
            values.sum()
        };
        Self {
            sessions: sum("headend_sessions"),
            connections: sum("headend_rtsp_connections"),
            rows: sum("headend_poll_table_entries"),
            descriptors: sum("process_open_fds"),
            own_kib: sum("own_kib"),
        }
    }
}

impl fmt::Display for Curve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "sessions  played  failed  packets/s  us/packet  %core/1000 sessions  % of a core  \
             p99 ms  p99.9 ms  lost  ours  KiB/session  loadgen %"
        )?;
        for point in &self.points {
            let kib = (point.peak_kib - point.before.own_kib) / f64::from(point.sessions);
            writeln!(
                f,
                "{:>8} {:>7.0} {:>7.0} {:>10.0} {:>10.3} {:>20.3} {:>12.1} {:>7.2} {:>9.2} {:>5.0} \
                 {:>5.0} {:>12.2} {:>10.1}",
                point.sessions,
                point.n("/sessions/played"),
                point.n("/sessions/failed"),
                point.n("/window/packets_per_s"),
                point.n("/server/us_per_packet"),
                point.percent_per_session() * 1_000.0,
                point.n("/server/core_percent"),
                point.report.late_ms("p99_ms"),
                point.report.late_ms("p999_ms"),
                point.n("/total/lost"),
                point.n("/own_drops"),
                kib,
                point.n("/loadgen/core_percent"),
            )?;
        }
        writeln!(f)?;
        for point in &self.points {
            let left = point.left().map(|(what, count)| format!("{what} {count:+.0}"));
            let kib = point.after.own_kib - point.before.own_kib;
            let (left, sessions) = (left.join(", "), point.sessions);
            writeln!(f, "left behind by {sessions:>6}: {left}, own memory {kib:+.0} KiB")?;
        }
        let at = |sessions| self.points.iter().find(|point| point.sessions == sessions);
        if let (Some(many), Some(few)) = (at(10_000), at(1_000)) {
            let ratio = many.percent_per_session() / few.percent_per_session();
            writeln!(f, "\ncost of a session at 10,000 / at 1,000: {ratio:.3} (budget 1.1)")?;
        }
        Ok(())
    }
}
