//! Limits of the process: how much is enough follows from the configuration.

use super::super::facts::Facts;
use super::super::tuning::Entry;
use super::super::{Check, Level};

pub(super) fn judge(entry: &'static Entry, facts: &Facts) -> Vec<Check> {
    let check = match entry.key.as_str() {
        "RLIMIT_NOFILE" => descriptors(entry, facts),
        "RLIMIT_MEMLOCK" => locked_memory(facts),
        "RLIMIT_RTPRIO" => real_time(entry, facts),
        other => Check::skip(other, "no limit that doctor knows"),
    };
    vec![check]
}

fn descriptors(entry: &Entry, facts: &Facts) -> Check {
    const NAME: &str = "open files (RLIMIT_NOFILE)";
    // A row of a PollTable is a descriptor at most; the rest is rings, titles and logs.
    let rows = facts.shards().saturating_mul(facts.poll_entries_max);
    let wanted = rows.saturating_add(1_024).min(entry.number());
    let (soft, hard) = facts.nofile;
    let Some(soft) = soft else { return Check::ok(NAME, "unlimited") };
    // The server raises its soft limit by itself.
    let usable = hard.unwrap_or(u64::MAX).max(soft);
    if usable >= wanted {
        let raised = if soft < wanted { ", raised by the server itself" } else { "" };
        return Check::ok(NAME, format!("{soft}{raised}"));
    }
    let level = if usable < NOFILE_MIN { Level::Fail } else { Level::Warn };
    let cause = format!("past {usable} connections new players are refused; {wanted} would do");
    let fix = format!("sudo prlimit --pid $$ --nofile={wanted}   (systemd: LimitNOFILE={wanted})");
    Check::bad(level, NAME, usable.to_string(), cause, fix)
}

fn locked_memory(facts: &Facts) -> Check {
    const NAME: &str = "locked memory (RLIMIT_MEMLOCK)";
    // As with descriptors, the hard limit counts.
    let Some(bytes) = facts.memlock_bytes_hard else { return Check::ok(NAME, "unlimited") };
    let found = format!("{} KiB", bytes >> 10);
    let workers = facts.workers();
    if bytes >= workers.saturating_mul(MEMLOCK_PER_WORKER_BYTES) {
        return Check::ok(NAME, found);
    }
    let each = MEMLOCK_PER_WORKER_BYTES >> 10;
    let cause = format!("{workers} workers want {each} KiB each, and read on threads with less");
    let fix = "ulimit -l unlimited   (systemd: LimitMEMLOCK=infinity; docker: --ulimit memlock=-1)";
    Check::bad(Level::Warn, NAME, found, cause, fix)
}

/// Asked by trying: a capability allows it as well as the limit does.
fn real_time(entry: &Entry, facts: &Facts) -> Check {
    const NAME: &str = "real-time priority (RLIMIT_RTPRIO)";
    match &facts.fifo {
        Some((priority, None)) => Check::ok(NAME, format!("SCHED_FIFO {priority} is allowed")),
        Some((priority, Some(error))) => {
            let fix = format!(
                "sudo setcap cap_sys_nice,cap_net_bind_service=+ep \"$(command -v headend)\"   \
                 (systemd: LimitRTPRIO={priority} and RestrictRealtime=no, as in \
                 tuning/headend-fifo.conf)"
            );
            Check::bad(entry.level(), NAME, format!("SCHED_FIFO {priority} is refused"), error, fix)
        }
        None => Check::skip(NAME, "shards have normal priority"),
    }
}

/// Below this, not even the sockets of a few shards and a handful of players fit.
const NOFILE_MIN: u64 = 256;

/// glommio wants it for each worker's ring and buffers, and does not start with less.
const MEMLOCK_PER_WORKER_BYTES: u64 = 512 << 10;
