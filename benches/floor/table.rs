//! The figures for people, the server's beside the floor's.
//!
//! The ratio is to the cheaper way of sending: that is what the floor is. Nothing is judged here.

use std::fmt;
use std::path::Path;

use serde_json::Value;

use crate::Failure;
use crate::pace::{Found, Load};

/// See the module.
pub(crate) struct Table {
    pub(crate) load: Load,
    pub(crate) found: Vec<Found>,
    pub(crate) server: Option<Server>,
}

/// What `headend-loadgen --json` says of a server.
pub(crate) struct Server(Value);

impl Server {
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let server = Self(serde_json::from_str(&text)?);
        server.number("/server/us_per_packet").ok_or("the report is without --server-pid")?;
        Ok(server)
    }

    fn number(&self, pointer: &str) -> Option<f64> {
        self.0.pointer(pointer)?.as_f64()
    }
}

impl Found {
    fn cpu_seconds(&self) -> f64 {
        self.cpu.iter().map(std::time::Duration::as_secs_f64).sum()
    }

    fn us_per_packet(&self) -> f64 {
        self.cpu_seconds() * 1e6 / as_f64(self.packets)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "load    {} clients, {} s measured", self.load.clients, self.load.seconds)?;
        for found in &self.found {
            write_floor(f, found)?;
        }
        let Some(server) = &self.server else { return Ok(()) };
        write_server(f, server)?;
        let floors = self.found.iter().map(Found::us_per_packet);
        let floor = floors.fold(f64::INFINITY, f64::min);
        let cost = server.number("/server/us_per_packet").unwrap_or(0.0);
        if floor.is_normal() {
            let times = cost / floor;
            writeln!(f, "ratio   {times:.3} = server {cost:.3} / floor {floor:.3} us/packet")?;
        }
        Ok(())
    }
}

fn write_floor(f: &mut fmt::Formatter<'_>, found: &Found) -> fmt::Result {
    let seconds = found.wall.as_secs_f64();
    writeln!(
        f,
        "floor   {:<8} {:.3} us/packet: {} packets, {} sends, {:.2} s CPU ({:.2} user, {:.2} \
         system), {:.1} % of a core",
        found.way.name(),
        found.us_per_packet(),
        found.packets,
        found.sends,
        found.cpu_seconds(),
        found.cpu[0].as_secs_f64(),
        found.cpu[1].as_secs_f64(),
        found.cpu_seconds() / seconds * 100.0,
    )?;
    writeln!(
        f,
        "                 {:.0} packets/s, {:.2} packets a send, {:.2} us a send, {:.0} Mbit/s; \
         {} lost ({} refused, {} dropped by the receiver); late p99 {:.2} ms, p99.9 {:.2} ms",
        as_f64(found.packets) / seconds,
        as_f64(found.packets) / as_f64(found.sends),
        found.cpu_seconds() * 1e6 / as_f64(found.sends),
        as_f64(found.bytes) * 8e-6 / seconds,
        found.lost,
        found.refused,
        found.drops,
        found.late.p99_ms,
        found.late.p999_ms,
    )
}

fn write_server(f: &mut fmt::Formatter<'_>, server: &Server) -> fmt::Result {
    let n = |pointer| server.number(pointer).unwrap_or(f64::NAN);
    writeln!(
        f,
        "server           {:.3} us/packet: {:.0} packets, {:.2} s CPU, {:.1} % of a core, {:.0} \
         context switches/s",
        n("/server/us_per_packet"),
        n("/window/packets"),
        n("/server/cpu_seconds"),
        n("/server/core_percent"),
        n("/server/context_switches_per_s"),
    )?;
    writeln!(
        f,
        "                 {:.0} packets/s, {:.0} Mbit/s; {:.0} lost, {:.0} dropped by the \
         receiver, {:.0} of {:.0} sessions failed",
        n("/window/packets_per_s"),
        n("/window/mbit_per_s"),
        n("/total/lost"),
        n("/own_drops"),
        n("/sessions/failed"),
        n("/sessions/asked"),
    )?;
    for kind in ["video", "audio"] {
        let of = |name: &str| server.number(&format!("/media/{kind}/lateness/{name}"));
        if let (Some(p99), Some(p999), Some(max)) = (of("p99_ms"), of("p999_ms"), of("max_ms")) {
            writeln!(
                f,
                "                 {kind} late p99 {p99:.2} ms, p99.9 {p999:.2} ms, at most \
                 {max:.2} ms"
            )?;
        }
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
fn as_f64(count: u64) -> f64 {
    count as f64
}
