//! What machine the figures are from: a report without it cannot be compared with another.
//!
//! uname(2), `/proc/cpuinfo`, `/proc/meminfo`. Invariant: what cannot be read is left empty.

use serde::Serialize;
use std::fs;
use std::thread::available_parallelism;

/// Facts about this machine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Host {
    /// System and release.
    pub kernel: String,
    /// Architecture.
    pub machine: String,
    /// Model of the first CPU.
    pub cpu: String,
    /// CPUs this process may run on.
    pub cpus: usize,
    /// Memory.
    pub memory_bytes: u64,
}

impl Host {
    /// This one.
    #[must_use]
    pub fn read() -> Self {
        let name = rustix::system::uname();
        let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Self {
            kernel: format!("{} {}", text(name.sysname()), text(name.release())),
            machine: text(name.machine()),
            cpu: value(&cpuinfo, "model name").unwrap_or_default().to_owned(),
            cpus: available_parallelism().map_or(0, usize::from),
            memory_bytes: value(&meminfo, "MemTotal").and_then(kibibytes).unwrap_or(0) << 10,
        }
    }
}

/// Of the first line `name : value`.
fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim())
}

fn kibibytes(value: &str) -> Option<u64> {
    value.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_value_of_a_name_is_taken() {
        let text = "processor\t: 0\nmodel name\t: A: 1\nmodel name\t: B\n";
        assert_eq!(value(text, "model name"), Some("A: 1"));
        assert_eq!(value(text, "cores"), None);
        assert_eq!(kibibytes("16 kB"), Some(16));
    }

    #[test]
    fn this_machine_has_a_kernel_and_a_cpu() {
        let host = Host::read();
        assert!(host.kernel.contains(' ') && host.cpus > 0, "{host:?}");
    }
}
