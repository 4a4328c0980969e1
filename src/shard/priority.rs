//! Real-time priority for a shard's thread, and for no other.
//!
//! ```text
//! set_fifo(10)   this thread: SCHED_FIFO | SCHED_RESET_ON_FORK      what it starts: SCHED_OTHER
//! ```
//! Invariant: no thread inherits the priority. io_uring's kernel workers are forked off the thread
//! that submits, so without the reset a slow disk's worker would run before everything else too.

#![allow(unsafe_code, reason = "one system call that no safe wrapper at hand knows")]

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Why a thread does not get the priority.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PriorityError {
    /// Neither the limit nor a capability allows it.
    #[error(
        "this user may not run threads at SCHED_FIFO priority {priority}: under systemd set \
         LimitRTPRIO={priority} and RestrictRealtime=no, or run: sudo setcap \
         cap_sys_nice,cap_net_bind_service=+ep \"$(command -v headend)\", or in docker: --ulimit \
         rtprio={priority}"
    )]
    Forbidden {
        /// As configured.
        priority: u8,
    },
    /// The kernel refuses for another reason.
    #[error("SCHED_FIFO priority {priority} is refused: {source}")]
    Refused {
        /// As configured.
        priority: u8,
        /// Error of the system call.
        source: io::Error,
    },
}

/// Makes the calling thread `SCHED_FIFO`; threads that it starts, and io_uring's workers for it,
/// stay normal. A soft limit below the priority is raised first, up to the hard limit.
///
/// # Errors
/// See [`PriorityError`]; the priority of the thread is unchanged then.
pub fn set_fifo(priority: u8) -> Result<(), PriorityError> {
    raise_limit(u64::from(priority));
    let parameter = libc::sched_param { sched_priority: libc::c_int::from(priority) };
    // SAFETY: `sched_setscheduler` requires a readable `sched_param` behind the pointer, which it
    // does not keep. `parameter` is one, and outlives the call. Thread 0 is the calling one.
    // Test: `fifo_thread_starts_normal_threads`.
    let result = unsafe {
        libc::sched_setscheduler(
            0,
            libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK,
            std::ptr::from_ref(&parameter),
        )
    };
    if result == 0 {
        return Ok(());
    }
    let source = io::Error::last_os_error();
    Err(match source.kind() {
        io::ErrorKind::PermissionDenied => PriorityError::Forbidden { priority },
        _ => PriorityError::Refused { priority, source },
    })
}

/// Whether a thread of this process may have `priority`. A trial thread sets it and ends.
///
/// # Errors
/// As [`set_fifo`].
pub fn try_fifo(priority: u8) -> Result<(), PriorityError> {
    let trial = std::thread::Builder::new().name("trial".into()).spawn(move || set_fifo(priority));
    let trial = trial.map_err(|source| PriorityError::Refused { priority, source })?;
    trial.join().unwrap_or(Err(PriorityError::Forbidden { priority }))
}

/// Raises the soft limit, which the kernel checks. Any process may raise it up to the hard limit.
fn raise_limit(wanted: u64) {
    let Rlimit { current, maximum } = getrlimit(Resource::Rtprio);
    let Some(have) = current else { return };
    let target = maximum.map_or(wanted, |maximum| maximum.min(wanted));
    if target > have {
        // After a refusal, setting the priority fails.
        let _refused = setrlimit(Resource::Rtprio, Rlimit { current: Some(target), maximum });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Field 41 of `stat`: 0 is `SCHED_OTHER`, 1 `SCHED_FIFO`; field 40 the priority.
    fn own_policy() -> (u32, u32) {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        (fields[38].parse().unwrap(), fields[37].parse().unwrap())
    }

    #[test]
    fn fifo_thread_starts_normal_threads() {
        let policies = std::thread::spawn(|| {
            if let Err(error) = set_fifo(7) {
                println!("skipped: {error}");
                return None;
            }
            Some((own_policy(), std::thread::spawn(own_policy).join().unwrap()))
        });
        if let Some((own, started)) = policies.join().unwrap() {
            assert_eq!(own, (1, 7));
            assert_eq!(started, (0, 0));
        }
    }

    #[test]
    fn trial_leaves_the_asking_thread_as_it_was() {
        let before = own_policy();
        let _either = try_fifo(3);
        assert_eq!(own_policy(), before);
    }

    #[test]
    fn refusal_names_what_would_allow_it() {
        let text = PriorityError::Forbidden { priority: 10 }.to_string();
        for fix in ["LimitRTPRIO=10", "RestrictRealtime=no", "setcap", "rtprio=10"] {
            assert!(text.contains(fix), "{text}");
        }
    }
}
