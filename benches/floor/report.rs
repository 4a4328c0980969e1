//! Figures of one run: what `headend-loadgen --json` says of a server, and what a floor run says.

use std::path::Path;

use serde_json::{Value, json};

use crate::Failure;
use crate::pace::Found;
use crate::send::Transport;

/// A file of JSON.
#[derive(Debug)]
pub(crate) struct Report(Value);

impl Report {
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(serde_json::from_str(&text)?))
    }

    /// Of a server, which must have been named by `--server-pid`.
    pub(crate) fn read_server(path: &Path) -> Result<Self, Failure> {
        let report = Self::read(path)?;
        let name = path.display();
        report
            .number("/server/cpu_seconds")
            .ok_or_else(|| format!("{name} is without --server-pid"))?;
        Ok(report)
    }

    pub(crate) fn number(&self, pointer: &str) -> Option<f64> {
        self.0.pointer(pointer)?.as_f64()
    }

    /// What the server's CPU did for each unit of `transport`.
    pub(crate) fn server_cost(&self, transport: Transport) -> f64 {
        let n = |pointer| self.number(pointer).unwrap_or(f64::NAN);
        let units = match transport {
            Transport::Udp => n("/window/packets"),
            Transport::Tcp => n("/window/bytes") / 1e6,
        };
        n("/server/cpu_seconds") * 1e6 / units
    }

    /// The worst of all kinds of media; `percentile` is `p99_ms` or the like.
    pub(crate) fn late_ms(&self, percentile: &str) -> f64 {
        let of = |kind| self.number(&format!("/media/{kind}/lateness/{percentile}")).unwrap_or(0.0);
        ["video", "audio"].into_iter().map(of).fold(0.0, f64::max)
    }

    /// The best way of a floor run: how late it was.
    pub(crate) fn floor_late_ms(&self, percentile: &str) -> Option<f64> {
        let ways = self.0.as_array()?.iter();
        let late = ways.filter_map(|way| way.pointer(&format!("/late/{percentile}"))?.as_f64());
        late.min_by(f64::total_cmp)
    }

    /// The cheapest way of a floor run: its cost for each unit.
    pub(crate) fn floor_cost(&self) -> Option<f64> {
        let ways = self.0.as_array()?.iter();
        let costs = ways.filter_map(|way| way.pointer("/us_per_unit")?.as_f64());
        costs.min_by(f64::total_cmp)
    }
}

impl Transport {
    /// What costs are counted by.
    pub(crate) const fn unit(self) -> &'static str {
        match self {
            Self::Udp => "us/packet",
            Self::Tcp => "us/MB",
        }
    }
}

impl Found {
    pub(crate) fn cpu_seconds(&self) -> f64 {
        self.cpu.iter().map(std::time::Duration::as_secs_f64).sum()
    }

    /// Microseconds of CPU for each unit of its transport.
    pub(crate) fn cost(&self) -> f64 {
        let units = match self.transport {
            Transport::Udp => as_f64(self.packets),
            Transport::Tcp => as_f64(self.bytes) / 1e6,
        };
        self.cpu_seconds() * 1e6 / units
    }
}

/// All ways of a floor run.
pub(crate) fn floor_json(found: &[Found]) -> String {
    let ways: Vec<_> = found
        .iter()
        .map(|way| {
            json!({
                "transport": way.transport.name(),
                "way": way.way.name(),
                "us_per_unit": way.cost(),
                "packets": way.packets,
                "sends": way.sends,
                "bytes": way.bytes,
                "cpu_seconds": way.cpu_seconds(),
                "seconds": way.wall.as_secs_f64(),
                "lost": i64::try_from(way.lost).unwrap_or(i64::MAX),
                "late": way.late,
                "zerocopy": way.notices[0],
                "zerocopy_copied": way.notices[1],
            })
        })
        .collect();
    Value::Array(ways).to_string()
}

#[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
pub(crate) const fn as_f64(count: u64) -> f64 {
    count as f64
}
