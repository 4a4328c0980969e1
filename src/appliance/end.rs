//! The end has a limit: whatever hangs by then is left behind.
//!
//! A worker in a read of a dead disk, a shard that does not read its inbox: neither may keep the
//! process from ending when it was asked to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::cli;

/// Whether the appliance has ended.
#[derive(Debug, Clone, Default)]
pub(super) struct End(Arc<AtomicBool>);

impl End {
    /// Everything has ended by itself.
    pub(super) fn reach(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Ends the process with a failure after [`END_MAX`], unless the end is reached by then.
    pub(super) fn limit(&self) {
        let end = self.clone();
        let spawned = thread::Builder::new().name("end".to_owned()).spawn(move || {
            end.expire(END_MAX, || {
                tracing::error!(code = "HE-E405", "the end takes too long: what hangs is left");
                cli::log::flush();
                std::process::exit(1);
            });
        });
        if let Err(error) = spawned {
            tracing::warn!(code = "HE-W405", %error, "nothing limits the time that the end takes");
        }
    }

    fn expire(&self, limit: Duration, on_late: impl FnOnce()) {
        thread::sleep(limit);
        if !self.0.load(Ordering::Acquire) {
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
        let mut was_late = [false; 2];
        let end = End::default();
        end.expire(Duration::ZERO, || was_late[0] = true);
        end.reach();
        end.expire(Duration::ZERO, || was_late[1] = true);
        assert_eq!(was_late, [true, false]);
    }
}
