//! The old process when the right is gone: it sends nothing any more of what goes along, and is
//! there until the new one serves.
//!
//! ```text
//!  Starting --known to all--> Serving --begin: shards leave--> Parting --finish--> Over: the end
//! ```
//! None takes over from a process of which its service manager, or the process before, does not
//! know yet: three of them would tell the manager which one it is to watch, in any order.
//! A service manager that watches this process would take the service for ended, and end the new
//! process with it, before it was told which one to watch.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Signal;

use super::super::{RunError, manager};

/// How far the end is that a takeover brings. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub(super) struct Parting(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    has_changed: Condvar,
    /// Signals that stop the process end it at once.
    ends_at_once: Arc<AtomicBool>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// No other process has the right, and not everybody knows that this one serves.
    #[default]
    Starting,
    /// No other process has the right.
    Serving,
    /// One has it, and does not serve yet.
    Parting,
    /// The process may end.
    Over { is_served: bool },
}

impl Parting {
    /// Has signals end the process at once when it parts: there is nobody left to say BYE to, and
    /// the control thread, which heeds them otherwise, has ended.
    pub(super) fn heed_signals(&self) {
        for signal in [Signal::TERM, Signal::INT] {
            let at_once = Arc::clone(&self.0.ends_at_once);
            let number = signal.as_raw();
            let code = manager::code_of_the_parted();
            let heeded = signal_hook::flag::register_conditional_shutdown(number, code, at_once);
            if let Err(error) = heeded {
                let fix = "SIGKILL ends a process that waits for the one after it";
                tracing::warn!(code = "HE-W416", %error, fix, "no signal handler");
            }
        }
    }

    /// Everybody knows that this process serves.
    pub(super) fn know(&self) {
        let mut state = self.lock();
        if *state == State::Starting {
            *state = State::Serving;
        }
        self.0.has_changed.notify_all();
    }

    /// Whether everybody knows that this process serves. It is waited for this long.
    pub(super) fn is_known(&self, time: Duration) -> bool {
        let is_starting = |state: &mut State| *state == State::Starting;
        let waited = self.0.has_changed.wait_timeout_while(self.lock(), time, is_starting);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *state != State::Starting
    }

    /// The process waits for [`Parting::finish`] before it ends.
    pub(super) fn begin(&self) {
        *self.lock() = State::Parting;
        self.0.ends_at_once.store(true, Ordering::Release);
    }

    /// Whether another process has the right.
    pub(super) fn has_begun(&self) -> bool {
        !matches!(*self.lock(), State::Starting | State::Serving)
    }

    /// The process may end. `is_served`: by the other one.
    pub(super) fn finish(&self, is_served: bool) {
        *self.lock() = State::Over { is_served };
        self.0.has_changed.notify_all();
    }

    /// Waits until the process may end, where another one has the right.
    ///
    /// # Errors
    /// The other one has ended before it served.
    pub(super) fn wait(&self) -> Result<(), RunError> {
        let is_parting = |state: &mut State| *state == State::Parting;
        let over = self.0.has_changed.wait_while(self.lock(), is_parting);
        match *over.unwrap_or_else(PoisonError::into_inner) {
            State::Over { is_served: false } => Err(RunError::Abandoned),
            State::Starting | State::Serving | State::Parting | State::Over { is_served: true } => {
                Ok(())
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_of_which_not_everybody_knows_is_waited_for() {
        let parting = Parting::default();
        assert!(!parting.is_known(Duration::ZERO));
        let tells = parting.clone();
        let told = std::thread::spawn(move || tells.know());
        assert!(parting.is_known(Duration::from_secs(10)));
        told.join().unwrap();
        parting.begin();
        parting.know();
        assert!(parting.has_begun(), "too late");
    }

    #[test]
    fn process_ends_when_the_other_one_serves_and_with_a_failure_when_that_is_gone() {
        let parting = Parting::default();
        assert!(!parting.has_begun());
        parting.wait().unwrap();
        for is_served in [true, false] {
            parting.begin();
            assert!(parting.has_begun());
            let waits = parting.clone();
            let ends = std::thread::spawn(move || waits.wait().is_ok());
            parting.finish(is_served);
            assert_eq!(ends.join().unwrap(), is_served);
        }
    }
}
