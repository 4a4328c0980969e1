//! Facts in, verdicts out: first what everything hangs on, then `tuning/host.toml` entry by entry.
//!
//! Invariant: every entry of the file comes to at least one check, if only to say why it is not
//! known here (test: `every_entry_is_judged_or_says_why_not`).

mod cpus;
mod files;
mod limits;
mod nics;
mod sysctls;

use super::facts::{Browsers, Facts, RingFact};
use super::ports::{Port, PortState};
use super::ring::ring_refusal;
use super::tuning::{Entry, TUNING, When};
use super::{Check, Level};
use crate::sandbox::Landlock;

pub(super) use sysctls::sysctl;

/// All checks.
pub(super) fn judge(facts: &Facts) -> Vec<Check> {
    let disabled = facts.sysctls.get("kernel.io_uring_disabled").map(String::as_str);
    let mut checks = vec![
        Check::ok("machine", facts.machine.kind()),
        kernel(&facts.kernel),
        ring(&facts.ring, disabled),
        gso(facts.gso.as_deref()),
        gro(facts.gro.as_deref()),
    ];
    checks.extend(facts.landlock.as_ref().map(landlock));
    checks.push(seccomp(facts.seccomp.as_deref()));
    checks.extend(facts.user.as_ref().map(user));
    checks.extend(table(&TUNING.limit, facts, limits::judge));
    checks.extend(table(&TUNING.sysctl, facts, sysctls::judge));
    checks.extend(table(&TUNING.file, facts, files::judge));
    checks.extend(table(&TUNING.nic, facts, nics::judge));
    checks.extend(table(&TUNING.boot, facts, cpus::boot));
    checks.extend(table(&TUNING.other, facts, cpus::other));
    checks.extend(facts.ports.iter().map(port));
    checks.extend(facts.browsers.as_ref().map(webrtc));
    checks
}

/// The entries of one table, but for those that do not matter on this host.
fn table(
    entries: &'static [Entry],
    facts: &Facts,
    judge: fn(&'static Entry, &Facts) -> Vec<Check>,
) -> impl Iterator<Item = Check> {
    entries.iter().flat_map(move |entry| {
        let checks = match (not_needed(entry, facts), &entry.unseen) {
            (Some(why), _) => vec![Check::skip(&entry.key, why)],
            (None, Some(why)) => vec![Check::skip(&entry.key, why)],
            (None, None) => judge(entry, facts),
        };
        checks.into_iter().map(|check| check.of(entry)).collect::<Vec<_>>()
    })
}

fn not_needed(entry: &Entry, facts: &Facts) -> Option<&'static str> {
    match entry.when? {
        When::Fifo if facts.fifo.is_none() => {
            Some("matters to shards with real-time priority only (server.shard_priority = fifo)")
        }
        When::Numa if facts.machine.numa_nodes < 2 => {
            Some("matters to machines with several memory nodes only")
        }
        When::Fifo | When::Numa => None,
    }
}

/// Whether browsers are told an address for their datagrams that they can reach.
fn webrtc(found: &Browsers) -> Check {
    const NAME: &str = "webrtc";
    let fix = "webrtc.hosts = [\"ADDRESS\"], where browsers reach this machine by UDP";
    match found {
        Browsers { is_webrtc_local: true, is_hls_local, has_hosts } => {
            let cause = "its sockets are reached from this machine alone; other viewers have HLS";
            let fix = "webrtc.listen = \"[::]:8189\"";
            // Both on loopback may be meant so; who tells others an address does not mean it.
            let level = if *is_hls_local && !has_hosts { Level::Tip } else { Level::Warn };
            Check::bad(level, NAME, "webrtc.listen is on loopback", cause, fix)
        }
        Browsers { has_hosts: true, .. } => Check::ok(NAME, "browsers are told webrtc.hosts"),
        Browsers { is_hls_local: true, .. } => {
            let cause = "behind a proxy that sends neither Forwarded nor X-Forwarded-For, or a \
                         router, browsers are told an address that they do not reach";
            Check::bad(Level::Tip, NAME, "HLS is on loopback, for a proxy", cause, fix)
        }
        Browsers { .. } => Check::ok(NAME, "browsers are told the address by which they came"),
    }
}

fn kernel(release: &str) -> Check {
    const NAME: &str = "kernel";
    let Some(version) = kernel_version(release) else {
        let cause = "its version cannot be read, so nothing is known of it";
        return Check::bad(Level::Warn, NAME, release, cause, "uname -r");
    };
    if version < KERNEL_MIN {
        let cause = "rings with deferred task work need Linux 6.1";
        let fix = "install a newer kernel, on Debian: sudo apt install linux-image-amd64";
        return Check::bad(Level::Fail, NAME, release, cause, fix);
    }
    // 7.0-rc1 to 7.1-rc5 damage UDP runs whose last packet is as long as the others.
    if version == (7, 0) || (version == (7, 1) && release.contains("-rc")) {
        let cause = "this kernel damages some segmented UDP sends";
        let fix = "install Linux 7.1 or newer, or stay on 6.x";
        return Check::bad(Level::Warn, NAME, release, cause, fix);
    }
    Check::ok(NAME, release)
}

fn ring(ring: &RingFact, disabled: Option<&str>) -> Check {
    const NAME: &str = "io_uring";
    match ring {
        RingFact::Works(report) if !report.defer_taskrun || !report.multishot_recv => {
            let found = format!("without {}", report.missing().join(", "));
            let cause = "shards need what Linux 6.1 has";
            Check::bad(Level::Fail, NAME, found, cause, "install a newer kernel")
        }
        RingFact::Works(report) => Check::ok(NAME, report.names().join(", ")),
        RingFact::Refused { errno, text } => {
            let (cause, fix) = ring_refusal(*errno, disabled);
            Check::bad(Level::Fail, NAME, text, cause, fix)
        }
    }
}

fn landlock(found: &Landlock) -> Check {
    const NAME: &str = "landlock";
    match found {
        Landlock::Enforced { abi } => Check::ok(NAME, format!("ABI {abi}")),
        missing => {
            let cause = "a server that is broken into can open any file of its user";
            let fix = "a kernel with CONFIG_SECURITY_LANDLOCK=y, booted with lsm=landlock,...";
            Check::bad(Level::Tip, NAME, missing.to_string(), cause, fix)
        }
    }
}

fn seccomp(actions: Option<&str>) -> Check {
    const NAME: &str = "seccomp";
    let Some(actions) = actions else {
        return Check::skip(NAME, "the kernel does not say here which filters it has");
    };
    if actions.split_whitespace().any(|word| word == "errno") {
        return Check::ok(NAME, "filters can be set");
    }
    let cause = "a server that is broken into can make any system call";
    Check::bad(Level::Tip, NAME, "no filters", cause, "a kernel with CONFIG_SECCOMP_FILTER=y")
}

fn user(found: &Result<String, String>) -> Check {
    const NAME: &str = "server.user";
    match found {
        Ok(user) => Check::ok(NAME, user.clone()),
        Err(why) => {
            let fix = "sudo useradd --system headend, and server.user = \"headend\"";
            Check::bad(Level::Fail, NAME, why.clone(), "the server does not start", fix)
        }
    }
}

fn gso(error: Option<&str>) -> Check {
    let Some(error) = error else { return Check::ok("UDP GSO", "works") };
    let cause = "every packet costs a send of its own: about eight times the CPU time";
    Check::bad(Level::Warn, "UDP GSO", error, cause, "install Linux 4.18 or newer")
}

fn gro(error: Option<&str>) -> Check {
    let Some(error) = error else { return Check::ok("UDP GRO", "works") };
    let cause = "received datagrams come one by one";
    Check::bad(Level::Warn, "UDP GRO", error, cause, "install Linux 5.0 or newer")
}

fn port(port: &Port) -> Check {
    let name = match port.protocol {
        super::holder::Protocol::Tcp => "tcp port",
        super::holder::Protocol::Udp => "udp port",
    };
    let addr = port.addr;
    match &port.state {
        PortState::Free => Check::ok(name, format!("{addr} free")),
        PortState::Taken(Some(holder)) => {
            let found = format!("{addr} taken");
            let fix = format!("stop it: kill {}; or choose another port", holder.pid);
            Check::bad(Level::Fail, name, found, format!("{holder} has it"), fix)
        }
        PortState::Taken(None) => {
            let flag = if name == "tcp port" { "-ltnp" } else { "-lunp" };
            let fix = format!("sudo ss {flag} 'sport = :{}'", addr.port());
            let cause = "a process of another user has it";
            Check::bad(Level::Fail, name, format!("{addr} taken"), cause, fix)
        }
        PortState::Refused(reason) => {
            let fix = if addr.port() < 1_024 {
                "sudo setcap cap_net_bind_service=+ep \"$(command -v headend)\""
            } else {
                "ip -brief address   (shows the addresses this machine has)"
            };
            Check::bad(Level::Fail, name, addr.to_string(), reason, fix)
        }
    }
}

/// `6.8.0-45-generic` -> (6, 8).
fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// IORING_SETUP_DEFER_TASKRUN.
const KERNEL_MIN: (u32, u32) = (6, 1);

#[cfg(test)]
mod tests;
