//! Facts in, verdicts out. Each threshold has its reason.

use super::host::{Facts, RingFact, Sysctls};
use super::sockets::{Port, PortState};
use super::{Check, Level};

/// All checks, the ones that everything hangs on first.
pub(super) fn judge(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![
        kernel(&facts.kernel),
        ring(&facts.ring, facts.sysctls.io_uring_disabled.as_deref()),
        gso(facts.gso.as_deref()),
        gro(facts.gro.as_deref()),
        descriptors(facts),
        locked_memory(facts),
    ];
    checks.extend(buffers(&facts.sysctls));
    checks.extend(udp_memory(&facts.sysctls, facts.page_bytes));
    checks.extend(backlog(&facts.sysctls));
    checks.extend(port_range(&facts.sysctls, &facts.ports));
    checks.push(governor(facts.governor.as_deref()));
    checks.extend(facts.ports.iter().map(port));
    checks
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

fn ring_refusal(errno: i32, disabled: Option<&str>) -> (&'static str, &'static str) {
    match (errno, disabled) {
        (libc::EPERM, Some("1" | "2")) => {
            ("kernel.io_uring_disabled forbids it", "sudo sysctl -w kernel.io_uring_disabled=0")
        }
        (libc::EPERM | libc::EACCES, _) => (
            "a seccomp filter or security module forbids it, as containers do by default",
            "docker run --security-opt seccomp=unconfined ..., or allow io_uring_setup, \
             io_uring_enter and io_uring_register in the profile",
        ),
        (libc::ENOSYS, _) => (
            "the kernel is built without it, or a sandbox hides it",
            "install a kernel with CONFIG_IO_URING=y, or run outside of the sandbox",
        ),
        (libc::ENOMEM, _) => ("the limit of locked memory is too low", "ulimit -l unlimited"),
        _ => ("a ring cannot be made", "strace -e io_uring_setup headend doctor"),
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

fn descriptors(facts: &Facts) -> Check {
    const NAME: &str = "open files (RLIMIT_NOFILE)";
    // A row of a PollTable is a descriptor at most; the rest is rings, titles and logs.
    let rows = facts.shards.saturating_mul(facts.poll_entries_max);
    let wanted = rows.saturating_add(1_024).min(NOFILE_ENOUGH);
    let (soft, hard) = facts.nofile;
    let Some(soft) = soft else { return Check::ok(NAME, "unlimited") };
    if soft >= wanted {
        return Check::ok(NAME, soft.to_string());
    }
    let level = if soft < NOFILE_MIN { Level::Fail } else { Level::Warn };
    let cause = format!("past {soft} connections new players are refused; {wanted} would do");
    let fix = if hard.is_none_or(|hard| hard >= wanted) {
        format!("ulimit -n {wanted}   (systemd: LimitNOFILE={wanted})")
    } else {
        format!("sudo prlimit --pid $$ --nofile={wanted}   (systemd: LimitNOFILE={wanted})")
    };
    Check::bad(level, NAME, soft.to_string(), cause, fix)
}

fn locked_memory(facts: &Facts) -> Check {
    const NAME: &str = "locked memory (RLIMIT_MEMLOCK)";
    let Some(bytes) = facts.memlock_bytes else { return Check::ok(NAME, "unlimited") };
    let wanted = facts.workers.saturating_mul(MEMLOCK_PER_WORKER_BYTES);
    let found = format!("{} KiB", bytes / 1_024);
    if bytes >= wanted {
        return Check::ok(NAME, found);
    }
    // One worker's share is checked by the pool itself when it starts.
    let level = if bytes < MEMLOCK_PER_WORKER_BYTES { Level::Fail } else { Level::Warn };
    let cause = format!("{} workers want 512 KiB each", facts.workers);
    let fix = "ulimit -l unlimited   (systemd: LimitMEMLOCK=infinity; docker: --ulimit memlock=-1)";
    Check::bad(level, NAME, found, cause, fix)
}

/// Socket buffers: the only checks that matter enough for every start-up.
pub(super) fn buffers(sysctls: &Sysctls) -> Vec<Check> {
    let check = |name, key, code, text: Option<&String>| {
        let text = text?;
        let is_small = text.parse::<u64>().is_ok_and(|bytes| bytes < SOCKET_BUFFER_BYTES);
        let cause = format!("is small for UDP ({code})");
        let fix = format!("sudo sysctl -w {key}={SOCKET_BUFFER_BYTES}");
        Some(if is_small {
            Check::bad(Level::Warn, name, text, cause, fix)
        } else {
            Check::ok(name, text)
        })
    };
    let read =
        check("net.core.rmem_max", "net.core.rmem_max", "HE-W101", sysctls.rmem_max.as_ref());
    let write =
        check("net.core.wmem_max", "net.core.wmem_max", "HE-W102", sysctls.wmem_max.as_ref());
    read.into_iter().chain(write).collect()
}

fn udp_memory(sysctls: &Sysctls, page_bytes: u64) -> Option<Check> {
    const NAME: &str = "net.ipv4.udp_mem";
    let text = sysctls.udp_mem.as_deref()?;
    let pages: u64 = text.split_ascii_whitespace().nth(2)?.parse().ok()?;
    let bytes = pages.saturating_mul(page_bytes);
    if bytes >= UDP_MEM_BYTES {
        return Some(Check::ok(NAME, text));
    }
    let cause = format!("all UDP sockets share {} MiB; past that packets are lost", bytes >> 20);
    let pages = UDP_MEM_BYTES / page_bytes.max(1);
    let fix =
        format!("sudo sysctl -w net.ipv4.udp_mem=\"{} {} {pages}\"", pages / 2, pages / 4 * 3);
    Some(Check::bad(Level::Warn, NAME, text, cause, fix))
}

fn backlog(sysctls: &Sysctls) -> Option<Check> {
    const NAME: &str = "net.core.somaxconn";
    let text = sysctls.somaxconn.as_deref()?;
    let is_small = text.parse::<u64>().is_ok_and(|count| count < BACKLOG);
    if !is_small {
        return Some(Check::ok(NAME, text));
    }
    let cause = "many players that connect at once are turned away";
    let fix = format!("sudo sysctl -w net.core.somaxconn={BACKLOG}");
    Some(Check::bad(Level::Warn, NAME, text, cause, fix))
}

/// A client program on this machine may be given one of our ports before we bind it.
fn port_range(sysctls: &Sysctls, ports: &[Port]) -> Option<Check> {
    const NAME: &str = "ephemeral ports";
    let text = sysctls.local_port_range.as_deref()?;
    let mut ends = text.split_ascii_whitespace().map(str::parse::<u16>);
    let (Some(Ok(first)), Some(Ok(last))) = (ends.next(), ends.next()) else { return None };
    let reserved = sysctls.local_reserved_ports.as_deref().unwrap_or_default();
    let mut exposed: Vec<u16> = ports.iter().map(|port| port.addr.port()).collect();
    exposed.retain(|port| (first..=last).contains(port) && !is_in_ranges(reserved, *port));
    exposed.sort_unstable();
    exposed.dedup();
    let found = format!("{first}-{last}");
    if exposed.is_empty() {
        return Some(Check::ok(NAME, found));
    }
    let list = exposed.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let cause = format!("the range holds our ports {list}: another program may get one first");
    let all = if reserved.is_empty() { list } else { format!("{reserved},{list}") };
    let fix = format!("sudo sysctl -w net.ipv4.ip_local_reserved_ports={all}");
    Some(Check::bad(Level::Warn, NAME, found, cause, fix))
}

fn governor(governor: Option<&str>) -> Check {
    const NAME: &str = "CPU governor";
    match governor {
        None => Check::ok(NAME, "not visible (virtual machine)"),
        Some("performance") => Check::ok(NAME, "performance"),
        Some(other) => Check::bad(
            Level::Warn,
            NAME,
            other,
            "cores that slow down between packets wake up late",
            "sudo cpupower frequency-set -g performance",
        ),
    }
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

/// Whether `3000,8000-8015` holds `port`.
fn is_in_ranges(ranges: &str, port: u16) -> bool {
    ranges.split(',').any(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let ends = first.trim().parse().ok().zip(last.trim().parse().ok());
        ends.is_some_and(|(first, last): (u16, u16)| (first..=last).contains(&port))
    })
}

/// IORING_SETUP_DEFER_TASKRUN.
const KERNEL_MIN: (u32, u32) = (6, 1);

/// Below this, not even the sockets of a few shards and a handful of players fit.
const NOFILE_MIN: u64 = 256;

/// What distributions grant at most without being asked for more.
const NOFILE_ENOUGH: u64 = 1_048_576;

/// The worker pool refuses to start with less, and wants it for each of its threads.
const MEMLOCK_PER_WORKER_BYTES: u64 = 512 << 10;

/// Half a second of 100 Mb/s; the kernel counts its bookkeeping against it as well.
const SOCKET_BUFFER_BYTES: u64 = 8 << 20;

/// Eight shards with full send and receive buffers.
const UDP_MEM_BYTES: u64 = 128 << 20;

/// Players that connect within one turn of a busy shard.
const BACKLOG: u64 = 1_024;

#[cfg(test)]
mod tests;
