//! What another process has used so far: CPU, context switches, memory.
//!
//! From `/proc/PID/stat` (utime, stime), `/proc/PID/status` (VmRSS) and the context switches of
//! every thread in `/proc/PID/task` (proc(5)).
//! Invariant: figures that cannot be read are absent; a process that is gone is not an error.

use std::fs;
use std::time::Duration;

/// Figures of a process at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// User and system time; its grain is the clock tick, 10 ms as a rule.
    pub cpu: Duration,
    /// Times a thread gave up its CPU to wait; of the threads alive.
    pub voluntary_switches: u64,
    /// Times a thread lost its CPU to another; of the threads alive.
    pub involuntary_switches: u64,
    /// Resident memory.
    pub resident_bytes: u64,
    /// Threads.
    pub threads: u64,
}

/// Reads the figures of process `pid`.
#[must_use]
pub fn usage(pid: u32) -> Option<Usage> {
    let mut usage = cpu_and_memory(pid)?;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        // A thread may end between listing and reading.
        let Ok(status) = fs::read_to_string(task.path().join("status")) else { continue };
        let count = |name| field(&status, name).unwrap_or(0);
        usage.voluntary_switches += count("voluntary_ctxt_switches:");
        usage.involuntary_switches += count("nonvoluntary_ctxt_switches:");
    }
    Some(usage)
}

/// The same without the context switches: two files however many threads there are.
#[must_use]
pub fn cpu_and_memory(pid: u32) -> Option<Usage> {
    let cpu = cpu_from(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(Usage {
        cpu,
        resident_bytes: field(&status, "VmRSS:").unwrap_or(0).saturating_mul(1024),
        threads: field(&status, "Threads:").unwrap_or(0),
        ..Usage::default()
    })
}

/// utime and stime are the 14th and 15th field; the name before them may hold spaces and brackets.
fn cpu_from(stat: &str) -> Option<Duration> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let ticks_hz = rustix::param::clock_ticks_per_second().max(1);
    let ns = u128::from(user.saturating_add(system)) * 1_000_000_000 / u128::from(ticks_hz);
    Some(Duration::from_nanos(u64::try_from(ns).ok()?))
}

fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find(|line| line.starts_with(name))?;
    line.get(name.len()..)?.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_has_memory_and_a_thread() {
        let usage = usage(std::process::id()).expect("own process");
        assert!(usage.resident_bytes > 0 && usage.threads > 0, "{usage:?}");
    }

    #[test]
    fn process_that_does_not_exist_has_no_figures() {
        assert_eq!(usage(u32::MAX), None);
    }

    #[test]
    fn name_with_brackets_does_not_shift_the_fields() {
        let stat = "12 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 1 0 5";
        let hz = rustix::param::clock_ticks_per_second();
        let expected = Duration::from_nanos(200 * 1_000_000_000 / hz);
        assert_eq!(cpu_from(stat), Some(expected));
    }
}
