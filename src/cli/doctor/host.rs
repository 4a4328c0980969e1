//! Facts about this machine, read from the kernel as they are.

use std::fs;

use rustix::process::{Resource, getrlimit};

use super::gso;
use super::ring::RingReport;
use super::sockets::{Port, ports};
use crate::config::{Config, CpuList};

/// Everything that is judged.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    pub(super) kernel: String,
    pub(super) ring: RingFact,
    /// Error text when it cannot be used.
    pub(super) gso: Option<String>,
    pub(super) gro: Option<String>,
    /// `None` is without limit.
    pub(super) nofile: (Option<u64>, Option<u64>),
    pub(super) memlock_bytes: Option<u64>,
    pub(super) poll_entries_max: u64,
    pub(super) shards: u64,
    pub(super) workers: u64,
    pub(super) sysctls: Sysctls,
    pub(super) page_bytes: u64,
    /// `None` where frequency scaling is not visible, as in virtual machines.
    pub(super) governor: Option<String>,
    pub(super) ports: Vec<Port>,
}

/// What asking for a ring came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RingFact {
    Works(RingReport),
    Refused { errno: i32, text: String },
}

impl Default for RingFact {
    fn default() -> Self {
        Self::Works(RingReport::default())
    }
}

/// Texts of `/proc/sys`; `None` where there is no such file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Sysctls {
    pub(super) io_uring_disabled: Option<String>,
    pub(super) rmem_max: Option<String>,
    pub(super) wmem_max: Option<String>,
    pub(super) udp_mem: Option<String>,
    pub(super) somaxconn: Option<String>,
    pub(super) local_port_range: Option<String>,
    pub(super) local_reserved_ports: Option<String>,
}

impl Sysctls {
    pub(super) fn read() -> Self {
        let read = |name: &str| {
            let text = fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok()?;
            // Several numbers are apart by tabs.
            Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
        };
        Self {
            io_uring_disabled: read("kernel.io_uring_disabled"),
            rmem_max: read("net.core.rmem_max"),
            wmem_max: read("net.core.wmem_max"),
            udp_mem: read("net.ipv4.udp_mem"),
            somaxconn: read("net.core.somaxconn"),
            local_port_range: read("net.ipv4.ip_local_port_range"),
            local_reserved_ports: read("net.ipv4.ip_local_reserved_ports"),
        }
    }
}

impl Facts {
    /// Reads everything; what cannot be read is left out.
    pub(super) fn gather(config: &Config) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
        let threads = |list: &CpuList| match list {
            CpuList::Auto => cpus,
            CpuList::Count(count) => *count as u64,
            CpuList::Cpus(cpus) => cpus.len() as u64,
        };
        let nofile = getrlimit(Resource::Nofile);
        let governor = fs::read_to_string(GOVERNOR).ok().map(|text| text.trim().to_owned());
        Self {
            kernel: kernel_release(),
            ring: match RingReport::ask() {
                Ok(report) => RingFact::Works(report),
                Err(error) => RingFact::Refused {
                    errno: error.raw_os_error().unwrap_or_default(),
                    text: error.to_string(),
                },
            },
            gso: gso::segmentation().err().map(|error| error.to_string()),
            gro: gso::receive_offload().err().map(|error| error.to_string()),
            nofile: (nofile.current, nofile.maximum),
            memlock_bytes: getrlimit(Resource::Memlock).current,
            poll_entries_max: config.poll_entries_max as u64,
            shards: threads(&config.shards),
            workers: threads(&config.workers),
            sysctls: Sysctls::read(),
            page_bytes: rustix::param::page_size() as u64,
            governor,
            ports: ports(config),
        }
    }
}

/// Release of the running kernel: `6.8.0-45-generic`.
#[must_use]
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

const GOVERNOR: &str = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor";
