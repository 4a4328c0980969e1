//! The figures of one run for people, the server's beside the floor's.
//!
//! The ratio is to the cheaper way of sending: that is what the floor is. Nothing is judged here.

use std::fmt;

use crate::pace::{Found, Load};
use crate::report::{Report, as_f64};

/// See the module.
pub(crate) struct Table<'a> {
    pub(crate) load: Load,
    pub(crate) found: &'a [Found],
    pub(crate) server: Option<Report>,
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "load    {} clients, {} s measured", self.load.clients, self.load.seconds)?;
        for found in self.found {
            write_floor(f, found)?;
        }
        let (Some(server), Some(first)) = (&self.server, self.found.first()) else { return Ok(()) };
        write_server(f, server, first)?;
        let floor = self.found.iter().map(Found::cost).fold(f64::INFINITY, f64::min);
        let (cost, unit) = (server.server_cost(first.transport), first.transport.unit());
        if floor.is_normal() {
            let times = cost / floor;
            writeln!(f, "ratio   {times:.3} = server {cost:.3} / floor {floor:.3} {unit}")?;
        }
        Ok(())
    }
}

fn write_floor(f: &mut fmt::Formatter<'_>, found: &Found) -> fmt::Result {
    let seconds = found.wall.as_secs_f64();
    writeln!(
        f,
        "floor   {} {:<8} {:.3} {}: {} packets, {} sends, {:.2} s CPU ({:.2} user, {:.2} system), \
         {:.1} % of a core",
        found.transport.name(),
        found.way.name(),
        found.cost(),
        found.transport.unit(),
        found.packets,
        found.sends,
        found.cpu_seconds(),
        found.cpu[0].as_secs_f64(),
        found.cpu[1].as_secs_f64(),
        found.cpu_seconds() / seconds * 100.0,
    )?;
    writeln!(
        f,
        "                     {:.0} packets/s, {:.2} packets a send, {:.2} us a send, {:.0} \
         Mbit/s; {} lost ({} refused, {} dropped by the receiver), {} waits for room; late p99 \
         {:.2} ms, p99.9 {:.2} ms",
        as_f64(found.packets) / seconds,
        as_f64(found.packets) / as_f64(found.sends),
        found.cpu_seconds() * 1e6 / as_f64(found.sends),
        as_f64(found.bytes) * 8e-6 / seconds,
        found.lost,
        found.refused,
        found.drops,
        found.waits,
        found.late.p99_ms,
        found.late.p999_ms,
    )?;
    let [without, copied] = found.notices;
    if without + copied > 0 {
        writeln!(f, "                     notices: {without} without a copy, {copied} copied")?;
    }
    Ok(())
}

fn write_server(f: &mut fmt::Formatter<'_>, server: &Report, floor: &Found) -> fmt::Result {
    let n = |pointer| server.number(pointer).unwrap_or(f64::NAN);
    writeln!(
        f,
        "server  {}          {:.3} {}: {:.0} packets, {:.2} s CPU, {:.1} % of a core, {:.0} \
         context switches/s",
        floor.transport.name(),
        server.server_cost(floor.transport),
        floor.transport.unit(),
        n("/window/packets"),
        n("/server/cpu_seconds"),
        n("/server/core_percent"),
        n("/server/context_switches_per_s"),
    )?;
    writeln!(
        f,
        "                     {:.0} packets/s, {:.0} Mbit/s; {:.0} lost, {:.0} dropped by the \
         receiver, {:.0} of {:.0} sessions failed; PLAY to packet p99 {:.2} ms",
        n("/window/packets_per_s"),
        n("/window/mbit_per_s"),
        n("/total/lost"),
        n("/own_drops"),
        n("/sessions/failed"),
        n("/sessions/asked"),
        n("/first_packet/p99_ms"),
    )?;
    for kind in ["video", "audio"] {
        let added = |name: &str| server.number(&format!("/media/{kind}/added/{name}"));
        if let (Some(p50), Some(p99), Some(max)) =
            (added("p50_ms"), added("p99_ms"), added("max_ms"))
        {
            writeln!(
                f,
                "                     {kind} from publisher to reader: p50 {p50:.2} ms, p99 \
                 {p99:.2} ms, at most {max:.2} ms"
            )?;
        }
        let of = |name: &str| server.number(&format!("/media/{kind}/lateness/{name}"));
        if let (Some(p99), Some(p999), Some(max)) = (of("p99_ms"), of("p999_ms"), of("max_ms")) {
            writeln!(
                f,
                "                     {kind} late p99 {p99:.2} ms, p99.9 {p999:.2} ms, at most \
                 {max:.2} ms"
            )?;
        }
    }
    Ok(())
}
