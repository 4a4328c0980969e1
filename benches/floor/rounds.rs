//! Several rounds of server and floor, and what they say together, beside the budgets.
//!
//! ```text
//! DIR/udp-1-server.json  DIR/udp-1-floor.json  DIR/udp-2-server.json ..  DIR/tcp-1-server.json ..
//! ```
//! One run varies by 15 % on a small machine, hence the median and the spread. A round's ratio is
//! to the cheaper way of its own floor run. Nothing is judged here.
//! Bound: [`ROUNDS_MAX`] rounds of each transport.

use std::fmt;
use std::path::Path;

use crate::Failure;
use crate::report::Report;
use crate::send::Transport;

/// See the module.
pub(crate) struct Rounds {
    parts: Vec<Part>,
}

/// All rounds of a transport.
struct Part {
    transport: Transport,
    rounds: Vec<Round>,
    is_live: bool,
}

#[derive(Debug, Clone, Copy)]
struct Round {
    server: f64,
    floor: f64,
    late_p99_ms: f64,
    late_p999_ms: f64,
    first_packet_p99_ms: f64,
    lost: f64,
    own_drops: f64,
    /// From publisher to reader, and what that takes the floor.
    added: Added,
    failed: f64,
    core_percent: f64,
}

/// How long packets of a live path took, at the server and at the floor.
#[derive(Debug, Clone, Copy)]
struct Added {
    p50_ms: [f64; 2],
    p99_ms: [f64; 2],
}

impl Rounds {
    /// `is_live`: of a live path, by `scripts/live.sh`.
    pub(crate) fn read(folder: &Path, is_live: bool) -> Result<Self, Failure> {
        let mut parts = Vec::new();
        for transport in [Transport::Udp, Transport::Tcp] {
            let mut rounds = Vec::new();
            for number in 1..=ROUNDS_MAX {
                let file = |of| folder.join(format!("{}-{number}-{of}.json", transport.name()));
                if !file("server").exists() {
                    break;
                }
                let server = Report::read_server(&file("server"))?;
                let floor = Report::read(&file("floor"))?;
                rounds.push(Round::new(transport, &server, &floor)?);
            }
            if !rounds.is_empty() {
                parts.push(Part { transport, rounds, is_live });
            }
        }
        if parts.is_empty() {
            return Err(format!("no rounds in {}", folder.display()).into());
        }
        Ok(Self { parts })
    }
}

impl Round {
    fn new(transport: Transport, server: &Report, floor: &Report) -> Result<Self, Failure> {
        let n = |pointer: &str| server.number(pointer).unwrap_or(f64::NAN);
        let added = |name: &str| {
            let server = n(&format!("/media/video/added/{name}"));
            [server, floor.floor_late_ms(name).unwrap_or(f64::NAN)]
        };
        let added = Added { p50_ms: added("p50_ms"), p99_ms: added("p99_ms") };
        let floor = floor.floor_cost().ok_or("a floor run")?;
        Ok(Self {
            added,
            server: server.server_cost(transport),
            floor,
            late_p99_ms: server.late_ms("p99_ms"),
            late_p999_ms: server.late_ms("p999_ms"),
            first_packet_p99_ms: n("/first_packet/p99_ms"),
            lost: n("/total/lost"),
            own_drops: n("/own_drops"),
            failed: n("/sessions/failed"),
            core_percent: n("/server/core_percent"),
        })
    }

    fn ratio(&self) -> f64 {
        self.server / self.floor
    }
}

impl Part {
    fn over(&self, figure: impl Fn(&Round) -> f64) -> Spread {
        let mut values: Vec<f64> = self.rounds.iter().map(figure).collect();
        values.sort_by(f64::total_cmp);
        Spread(values)
    }
}

/// Values of all rounds, in order; never empty.
struct Spread(Vec<f64>);

impl Spread {
    fn median(&self) -> f64 {
        let middle = self.0.len() / 2;
        if self.0.len().is_multiple_of(2) {
            f64::midpoint(self.0[middle - 1], self.0[middle])
        } else {
            self.0[middle]
        }
    }
}

impl fmt::Display for Spread {
    /// Median (least .. largest), or the only value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = f.precision().unwrap_or(2);
        write!(f, "{:.places$}", self.median())?;
        match self.0[..] {
            [first, .., last] => write!(f, " ({first:.places$} .. {last:.places$})"),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Rounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            part.write_rounds(f)?;
        }
        writeln!(f, "{BUDGET:<58} {:<24} budget", "reached")?;
        for part in &self.parts {
            part.write_budgets(f)?;
        }
        Ok(())
    }
}

impl Part {
    fn write_rounds(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, unit) = (self.transport.name(), self.transport.unit());
        writeln!(
            f,
            "{name} round  server  floor {unit:<9}  ratio  late p99  p99.9 ms  PLAY p99 ms   lost  \
             ours  failed  % of a core"
        )?;
        for (number, round) in (1..).zip(&self.rounds) {
            writeln!(
                f,
                "{number:>9} {:>7.3} {:>6.3} {:>16.3} {:>9.2} {:>9.2} {:>12.2} {:>6.0} {:>5.0} \
                 {:>7.0} {:>12.1}",
                round.server,
                round.floor,
                round.ratio(),
                round.late_p99_ms,
                round.late_p999_ms,
                round.first_packet_p99_ms,
                round.lost,
                round.own_drops,
                round.failed,
                round.core_percent,
            )?;
        }
        writeln!(f)
    }

    fn write_budgets(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.transport {
            Transport::Udp => "packet",
            Transport::Tcp => "MB",
        };
        let ratio = (format!("server CPU per {unit} / floor"), self.over(Round::ratio), "<= 1.3");
        if self.is_live {
            let of = |what: &str| format!("publisher to reader, {what}");
            let rows = [
                ratio,
                (of("p99 ms"), self.over(|r| r.added.p99_ms[0]), "<= 5"),
                (of("p99 ms, of the floor"), self.over(|r| r.added.p99_ms[1]), "-"),
                (of("p50 ms"), self.over(|r| r.added.p50_ms[0]), "-"),
                (of("p50 ms, of the floor"), self.over(|r| r.added.p50_ms[1]), "-"),
            ];
            return self.write_rows(f, rows);
        }
        let rows = [
            ratio,
            ("late, p99 ms".to_owned(), self.over(|r| r.late_p99_ms), "<= 3"),
            ("late, p99.9 ms".to_owned(), self.over(|r| r.late_p999_ms), "<= 8"),
            (
                "PLAY to first packet, p99 ms".to_owned(),
                self.over(|r| r.first_packet_p99_ms),
                "<= 3",
            ),
        ];
        self.write_rows(f, rows)
    }

    fn write_rows<const N: usize>(
        &self,
        f: &mut fmt::Formatter<'_>,
        rows: [(String, Spread, &str); N],
    ) -> fmt::Result {
        let name = self.transport.name();
        for (what, spread, budget) in rows {
            writeln!(f, "{name} {what:<54} {:<24} {budget}", spread.to_string())?;
        }
        let lost = self.over(|round| round.lost);
        writeln!(f, "{name} {:<54} {:<24} 0", "packets lost", format!("{lost:.0}"))
    }
}

const BUDGET: &str = "median of the rounds (least .. largest)";
const ROUNDS_MAX: u32 = 100;
