//! The end has a limit: whatever hangs by then is left behind.
//!
//! A worker in a read of a dead disk, a shard that does not read its inbox: neither may keep the
//! process from ending when it was asked to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::cli;

/// Whether the appliance has ended.
#[derive(Debug, Clone, Default)]
pub(super) struct End(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    is_reached: AtomicBool,
    /// How often limits were lifted.
    lifted: AtomicU64,
}

impl End {
    /// Everything has ended by itself.
    pub(super) fn reach(&self) {
        self.0.is_reached.store(true, Ordering::Release);
    }

    /// Ends the process with a failure after [`END_MAX`], unless the end is reached by then.
    pub(super) fn limit(&self) {
        let (end, lifted) = (self.clone(), self.lifted());
        let spawned = thread::Builder::new().name("end".to_owned()).spawn(move || {
            end.expire(END_MAX, lifted, || {
                tracing::error!(code = "HE-E405", "the end takes too long: what hangs is left");
                cli::log::flush();
                std::process::exit(1);
            });
        });
        if let Err(error) = spawned {
            tracing::warn!(code = "HE-W405", %error, "nothing limits the time that the end takes");
        }
    }

    /// Limits that there are count no more: the process waits for another one now.
    pub(super) fn lift(&self) {
        self.0.lifted.fetch_add(1, Ordering::AcqRel);
    }

    fn lifted(&self) -> u64 {
        self.0.lifted.load(Ordering::Acquire)
    }

    fn expire(&self, limit: Duration, lifted: u64, on_late: impl FnOnce()) {
        thread::sleep(limit);
        if !self.0.is_reached.load(Ordering::Acquire) && self.lifted() == lifted {
            on_late();
        }
    }
}

/// Longer than shards take to say BYE, which is 5 s, and shorter than service managers wait.
const END_MAX: Duration = Duration::from_secs(8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_not_ended_in_time_is_ended_and_nothing_else_is() {
        let mut was_late = [false; 4];
        let end = End::default();
        end.expire(Duration::ZERO, 0, || was_late[0] = true);
        end.lift();
        end.expire(Duration::ZERO, 0, || was_late[1] = true);
        end.expire(Duration::ZERO, end.lifted(), || was_late[2] = true);
        end.reach();
        end.expire(Duration::ZERO, end.lifted(), || was_late[3] = true);
        assert_eq!(was_late, [true, false, true, false]);
    }
}
