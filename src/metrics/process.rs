//! The standard `process_*` metrics, and what the kernel counts for a thread, read at scrape.
//!
//! Own reading rather than the `prometheus` crate's collector: that one counts CPU time in whole
//! seconds, and CPU time per packet is what we are measured by.

use std::collections::HashMap;
use std::fs;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::descriptors::open_descriptors;

/// One number of the process: name, help, whether it is a counter, value.
pub(super) struct ProcessMetric {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) is_counter: bool,
    pub(super) read: fn() -> Option<f64>,
}

/// Names as the Prometheus client guidelines give them.
pub(super) static PROCESS: &[ProcessMetric] = &[
    ProcessMetric {
        name: "process_cpu_seconds_total",
        help: "User and system CPU time spent.",
        is_counter: true,
        read: cpu_seconds,
    },
    ProcessMetric {
        name: "process_resident_memory_bytes",
        help: "Resident memory, mapped media files included.",
        is_counter: false,
        read: || memory_pages(1),
    },
    ProcessMetric {
        name: "process_virtual_memory_bytes",
        help: "Virtual memory, mapped media files included.",
        is_counter: false,
        read: || memory_pages(0),
    },
    ProcessMetric {
        name: "process_open_fds",
        help: "Open file descriptors.",
        is_counter: false,
        read: || open_descriptors().map(as_f64),
    },
    ProcessMetric {
        name: "process_max_fds",
        help: "Limit of open file descriptors.",
        is_counter: false,
        read: || getrlimit(Resource::Nofile).current.map(as_f64),
    },
    ProcessMetric {
        name: "process_start_time_seconds",
        help: "Start of the process in seconds since 1970.",
        is_counter: false,
        read: start_time,
    },
    ProcessMetric {
        name: "process_threads",
        help: "Threads of the process.",
        is_counter: false,
        read: || stat_field(&fs::read_to_string("/proc/self/stat").ok()?, THREADS).map(as_f64),
    },
];

/// Major page faults of each thread of this process, by the thread's name.
pub(super) fn major_faults() -> HashMap<String, u64> {
    of_threads(|stat| stat_field(stat, MAJOR_FAULTS))
}

/// What `read` finds in the `stat` of each thread, by the thread's name.
fn of_threads<T>(read: impl Fn(&str) -> Option<T>) -> HashMap<String, T> {
    let Ok(threads) = fs::read_dir("/proc/self/task") else { return HashMap::new() };
    let of_thread = |thread: fs::DirEntry| {
        let stat = fs::read_to_string(thread.path().join("stat")).ok()?;
        let (_, name) = stat.rsplit_once(')')?.0.split_once('(')?;
        Some((name.to_owned(), read(&stat)?))
    };
    // A thread may end while they are read.
    threads.filter_map(|thread| of_thread(thread.ok()?)).collect()
}

/// What the process and its threads use.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Usage {
    /// CPU time of the process in seconds.
    pub cpu_s: f64,
    /// Resident memory in bytes, mapped media files included.
    pub resident_bytes: f64,
    /// CPU time of each thread in seconds, by the thread's name.
    pub threads_s: HashMap<String, f64>,
}

/// Reads what the kernel knows of this process; what cannot be read is 0 or missing.
#[must_use]
pub fn usage() -> Usage {
    let ticks_per_s = as_f64(rustix::param::clock_ticks_per_second());
    let seconds = |stat: &str| {
        let ticks = stat_field(stat, USER_TICKS)? + stat_field(stat, SYSTEM_TICKS)?;
        Some(as_f64(ticks) / ticks_per_s)
    };
    Usage {
        cpu_s: cpu_seconds().unwrap_or_default(),
        resident_bytes: memory_pages(1).unwrap_or_default(),
        threads_s: of_threads(seconds),
    }
}

fn cpu_seconds() -> Option<f64> {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).ok()?;
    let ns = u64::try_from(time.tv_nsec).ok()?;
    Some(as_f64(seconds) + as_f64(ns) / 1e9)
}

fn memory_pages(field: usize) -> Option<f64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(field)?.parse().ok()?;
    Some(as_f64(pages.saturating_mul(u64::try_from(rustix::param::page_size()).ok()?)))
}

fn start_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let boot = boot_time(&fs::read_to_string("/proc/stat").ok()?)?;
    let ticks = stat_field(&stat, START_TICKS)?;
    Some(as_f64(boot) + as_f64(ticks) / as_f64(rustix::param::clock_ticks_per_second()))
}

/// A field of `/proc/self/stat`, numbered as in proc(5). The name in parentheses may hold anything,
/// so counting starts behind its last parenthesis.
fn stat_field(stat: &str, number: usize) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

fn boot_time(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// The nearest double: the text format, and JSON, have doubles only.
#[expect(clippy::cast_precision_loss, reason = "the text format has doubles only")]
#[must_use]
pub fn as_f64(value: u64) -> f64 {
    value as f64
}

const MAJOR_FAULTS: usize = 12;
const USER_TICKS: usize = 14;
const SYSTEM_TICKS: usize = 15;
const THREADS: usize = 20;
const START_TICKS: usize = 22;

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "42 (a) b) S 1 42 42 0 -1 4194560 9 0 0 0 3 1 0 0 20 0 17 0 5150 9 8 7\n";

    #[test]
    fn process_name_with_parentheses_does_not_shift_fields() {
        assert_eq!(stat_field(STAT, THREADS), Some(17));
        assert_eq!(stat_field(STAT, START_TICKS), Some(5_150));
        assert_eq!(stat_field("cut off", THREADS), None);
    }

    #[test]
    fn faults_of_a_thread_are_found_by_its_name() {
        assert_eq!(stat_field("7 (x) S 1 42 42 0 -1 4194560 9 0 5 0 3", MAJOR_FAULTS), Some(5));
        let named = std::thread::Builder::new().name("shard-77".to_owned());
        let faults = named.spawn(major_faults).unwrap().join().unwrap();
        assert!(faults.contains_key("shard-77"), "{faults:?}");
    }

    #[test]
    fn cpu_time_of_process_and_threads_is_known() {
        let usage = usage();
        assert!(usage.cpu_s > 0.0 && usage.resident_bytes > 0.0, "{usage:?}");
        assert!(usage.threads_s.values().all(|seconds| *seconds >= 0.0), "{usage:?}");
        assert!(!usage.threads_s.is_empty());
    }

    #[test]
    fn boot_time_is_found_among_other_lines() {
        assert_eq!(boot_time("cpu 1 2\nintr 4\nbtime 1700000000\n"), Some(1_700_000_000));
    }

    #[test]
    fn every_number_of_this_process_can_be_read() {
        for metric in PROCESS {
            assert!((metric.read)().is_some_and(|value| value >= 0.0), "{}", metric.name);
        }
    }
}
