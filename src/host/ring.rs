//! What io_uring can do here, found by asking the kernel rather than by its version.

use std::io;

use io_uring::{IoUring, Probe, opcode};

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RingReport {
    /// Rings for one thread that run completions when asked (Linux 6.1): the shards need it.
    pub defer_taskrun: bool,
    /// One request that receives many datagrams into a provided buffer ring (Linux 6.0).
    pub multishot_recv: bool,
    /// Rings of provided buffers (Linux 5.19).
    pub buffer_rings: bool,
    /// Sends without a copy (Linux 6.0, gathered ones 6.1).
    pub send_zc: bool,
    /// One receive that fills several buffers (Linux 6.10).
    pub bundles: bool,
}

impl RingReport {
    /// Asks the kernel, by making a small ring and closing it again.
    ///
    /// # Errors
    /// When no ring can be made: `EPERM` is a sysctl or a seccomp filter, `ENOSYS` a kernel
    /// without io_uring, `ENOMEM` a limit of locked memory.
    pub fn ask() -> io::Result<Self> {
        let shaped = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .build(PROBE_ENTRIES);
        let (ring, defer_taskrun) = match shaped {
            Ok(ring) => (ring, true),
            // An older kernel does not know the flags.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                (IoUring::new(PROBE_ENTRIES)?, false)
            }
            Err(error) => return Err(error),
        };
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        // Filters may allow one of the three system calls and forbid another.
        ring.submitter().submit_and_wait(0)?;
        Ok(Self {
            defer_taskrun,
            // Flags and registrations cannot be probed; these operations came with the same kernel.
            multishot_recv: probe.is_supported(opcode::SendZc::CODE),
            buffer_rings: probe.is_supported(opcode::Socket::CODE),
            send_zc: probe.is_supported(opcode::SendMsgZc::CODE),
            bundles: ring.params().is_feature_recvsend_bundle(),
        })
    }

    /// Names of what is there, for people.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.features().filter(|(_, has)| *has).map(|(name, _)| name.to_owned()).collect()
    }

    /// Names of what is not there.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        self.features().filter(|(_, has)| !*has).map(|(name, _)| name.to_owned()).collect()
    }

    fn features(&self) -> impl Iterator<Item = (&'static str, bool)> {
        [
            ("defer taskrun", self.defer_taskrun),
            ("send-zc", self.send_zc),
            ("multishot recv", self.multishot_recv),
            ("buffer rings", self.buffer_rings),
            ("bundles", self.bundles),
        ]
        .into_iter()
    }
}

/// Whether rings can be had at all.
///
/// # Errors
/// One sentence that says what forbids them, and what to do.
pub fn check() -> Result<(), String> {
    let Err(error) = RingReport::ask() else { return Ok(()) };
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
    let errno = error.raw_os_error().unwrap_or(0);
    let (cause, fix) = ring_refusal(errno, disabled.as_deref().map(str::trim));
    Err(format!("io_uring is not available ({error}): {cause}; {fix}"))
}

/// Cause and fix of a ring that cannot be made. `disabled` is the sysctl
/// `kernel.io_uring_disabled`, where the kernel has it.
pub(super) fn ring_refusal(errno: i32, disabled: Option<&str>) -> (&'static str, &'static str) {
    match (errno, disabled) {
        (libc::EPERM, Some("1" | "2")) => {
            ("kernel.io_uring_disabled forbids it", "sudo sysctl -w kernel.io_uring_disabled=0")
        }
        (libc::EPERM | libc::EACCES, _) => (
            "a seccomp filter or security module forbids it, as containers do by default",
            "docker run --security-opt seccomp=seccomp.json ..., with the profile that headend \
             generate DIR writes; another one has to allow io_uring_setup, io_uring_enter and \
             io_uring_register",
        ),
        (libc::ENOSYS, _) => (
            "the kernel is built without it, or a seccomp filter or sandbox hides it",
            "install a kernel with CONFIG_IO_URING=y, or allow io_uring_setup, io_uring_enter and \
             io_uring_register in the seccomp profile",
        ),
        (libc::ENOMEM, _) => ("the limit of locked memory is too low", "ulimit -l unlimited"),
        _ => ("a ring cannot be made", "strace -e io_uring_setup headend doctor"),
    }
}

/// The smallest ring there is would do.
const PROBE_ENTRIES: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_either_there_or_missing() {
        let report = RingReport { send_zc: true, buffer_rings: true, ..RingReport::default() };
        assert_eq!(report.names(), ["send-zc", "buffer rings"]);
        assert_eq!(report.missing(), ["defer taskrun", "multishot recv", "bundles"]);
    }

    #[test]
    fn asking_leaves_no_descriptor_behind() {
        // Where rings are forbidden (containers) there is nothing to leave behind either.
        let _ = RingReport::ask();
        let rings = || {
            let links = std::fs::read_dir("/proc/self/fd")
                .unwrap()
                .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
            links.filter(|link| link.to_string_lossy().contains("io_uring")).count()
        };
        let before = rings();
        for _ in 0..50 {
            let _ = RingReport::ask();
        }
        assert!(rings() < before + 50);
    }
}
