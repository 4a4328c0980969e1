//! Sysctls: most are held against their value; memory and ports of UDP need a closer look.

use super::super::facts::Facts;
use super::super::ports::Port;
use super::super::tuning::Entry;
use super::super::{Check, Level};

pub(super) fn judge(entry: &'static Entry, facts: &Facts) -> Vec<Check> {
    let Some(found) = facts.sysctls.get(&entry.key) else {
        let hidden = facts.machine.why_hidden();
        return vec![Check::skip(&entry.key, entry.absent.as_deref().unwrap_or(hidden))];
    };
    let check = match entry.key.as_str() {
        // What the ports are, and the command for both, is one question.
        RANGE => {
            let reserved = facts.sysctls.get(RESERVED).map_or("", String::as_str);
            port_range(found, reserved, &facts.ports)
        }
        RESERVED if found.is_empty() => Check::ok(RESERVED, "none"),
        RESERVED => Check::ok(RESERVED, found),
        "net.ipv4.udp_mem" => udp_memory(entry, found, facts.page_bytes),
        _ => sysctl(entry, found),
    };
    vec![check]
}

/// A sysctl held against its value.
pub(in super::super) fn sysctl(entry: &'static Entry, found: &str) -> Check {
    match entry.is_met_by(found) {
        Some(true) => Check::ok(&entry.key, found),
        Some(false) => {
            let bad = Check::bad(entry.level(), &entry.key, found, &entry.reason, "");
            bad.by_sysctl(&entry.key, &entry.value())
        }
        None => Check::skip(&entry.key, format!("`{found}` is not understood")),
    }
}

/// The entry counts in pages of 4 KiB; only the third number loses packets.
fn udp_memory(entry: &'static Entry, found: &str, page_bytes: u64) -> Check {
    let third = |text: &str| text.split(' ').nth(2)?.parse::<u64>().ok();
    let (Some(have), Some(wanted)) = (third(found), third(&entry.value())) else {
        return Check::skip(&entry.key, format!("`{found}` is not understood"));
    };
    let wanted_bytes = wanted.saturating_mul(4 << 10);
    let have_bytes = have.saturating_mul(page_bytes);
    if have_bytes >= wanted_bytes {
        return Check::ok(&entry.key, found);
    }
    let cause =
        format!("all UDP sockets share {} MiB; past that packets are lost", have_bytes >> 20);
    let pages = wanted_bytes / page_bytes.max(1);
    let value = format!("{} {} {pages}", pages / 2, pages / 4 * 3);
    Check::bad(Level::Warn, &entry.key, found, cause, "").by_sysctl(&entry.key, &value)
}

/// A client program on this machine may be given one of our ports before we bind it.
fn port_range(found: &str, reserved: &str, ports: &[Port]) -> Check {
    let mut ends = found.split(' ').map(str::parse::<u16>);
    let (Some(Ok(first)), Some(Ok(last))) = (ends.next(), ends.next()) else {
        return Check::skip(RANGE, format!("`{found}` is not understood"));
    };
    let mut exposed: Vec<u16> = ports.iter().map(|port| port.addr.port()).collect();
    exposed.retain(|port| (first..=last).contains(port) && !is_in_ranges(reserved, *port));
    exposed.sort_unstable();
    exposed.dedup();
    if exposed.is_empty() {
        return Check::ok(RANGE, found);
    }
    let list = exposed.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let cause = format!("the range holds our ports {list}: another program may get one first");
    let all = if reserved.is_empty() { list } else { format!("{reserved},{list}") };
    Check::bad(Level::Warn, RANGE, found, cause, "").by_sysctl(RESERVED, &all)
}

/// Whether `3000,8000-8015` holds `port`.
fn is_in_ranges(ranges: &str, port: u16) -> bool {
    ranges.split(',').any(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let ends = first.trim().parse().ok().zip(last.trim().parse().ok());
        ends.is_some_and(|(first, last): (u16, u16)| (first..=last).contains(&port))
    })
}

const RANGE: &str = "net.ipv4.ip_local_port_range";
const RESERVED: &str = "net.ipv4.ip_local_reserved_ports";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_port_ranges_are_read() {
        assert!(is_in_ranges("3000,8000-8015", 8_001));
        assert!(is_in_ranges("8554", 8_554));
        assert!(!is_in_ranges("", 0));
        assert!(!is_in_ranges("9-1,x-y", 5));
    }

    #[test]
    fn larger_pages_are_fewer() {
        let entry = crate::host::tuning::sysctl("net.ipv4.udp_mem").unwrap();
        assert_eq!(udp_memory(entry, "1 2 2048", 64 << 10).level, Level::Ok);
        let small = udp_memory(entry, "1 2 2047", 64 << 10);
        assert_eq!(small.fix.unwrap(), "sudo sysctl -w net.ipv4.udp_mem=\"1024 1536 2048\"");
    }
}
