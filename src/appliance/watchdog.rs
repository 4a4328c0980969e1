//! Whether the agent of a node still makes steps: the service manager is told while it does, and
//! the log when it does not.
//!
//! ```text
//! agent --turns--> counter --looked at by a thread of its own--> moved: WATCHDOG=1, sd_notify(3)
//!                                                          '--> not for WEDGED: a log line
//! ```
//! With `WatchdogSec=` in its unit systemd ends a process that does not say `WATCHDOG=1`, and
//! starts it again: a thread that is stuck can be ended in no other way. Without a service manager
//! the line in the log is all: players are served on.
//! Invariant: nothing here waits for what it watches.

use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::Builder;
use std::time::Duration;

/// The thread; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Watchdog {
    _ends: Sender<()>,
}

/// Where a service manager hears, and how often it wants to.
#[derive(Debug)]
struct Manager {
    socket: UnixDatagram,
    addr: SocketAddr,
    every: Duration,
}

/// What is known of the agent.
#[derive(Debug, Default)]
struct Seen {
    turns: u64,
    still: Duration,
    is_told: bool,
}

/// What follows from a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// It has made steps.
    Moved,
    /// Not for a while.
    Still,
    /// For so long that it is stuck: said once.
    Wedged,
}

impl Watchdog {
    /// Watches a counter of turns.
    ///
    /// # Errors
    /// The system has no thread.
    pub(super) fn start(turns: Arc<AtomicU64>) -> std::io::Result<Self> {
        let manager = Manager::of(|name| std::env::var_os(name), std::process::id());
        let (ends, ended) = channel();
        Builder::new().name("watchdog".to_owned()).spawn(move || watch(&turns, manager, &ended))?;
        Ok(Self { _ends: ends })
    }
}

impl Manager {
    /// The one that the environment names, if it watches this process.
    fn of(variable: impl Fn(&str) -> Option<OsString>, pid: u32) -> Option<Self> {
        let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
        let usec = number("WATCHDOG_USEC").filter(|usec| *usec > 0)?;
        if number("WATCHDOG_PID").is_some_and(|wanted| wanted != u64::from(pid)) {
            return None;
        }
        let name = variable("NOTIFY_SOCKET")?;
        let addr = match name.as_bytes() {
            [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest),
            _ => SocketAddr::from_pathname(&name),
        };
        // Twice within its time, as sd_watchdog_enabled(3) says.
        let every = Duration::from_micros(usec) / 2;
        Some(Self { socket: UnixDatagram::unbound().ok()?, addr: addr.ok()?, every })
    }

    fn tell(&self) {
        // Who does not hear it ends this process, which is what is wanted then.
        let _lost = self.socket.send_to_addr(b"WATCHDOG=1", &self.addr);
    }
}

impl Seen {
    fn look(&mut self, turns: u64, past: Duration) -> Look {
        if turns != self.turns {
            *self = Self { turns, ..Self::default() };
            return Look::Moved;
        }
        self.still += past;
        if self.still < WEDGED || std::mem::replace(&mut self.is_told, true) {
            return Look::Still;
        }
        Look::Wedged
    }
}

fn watch(turns: &AtomicU64, manager: Option<Manager>, ended: &Receiver<()>) {
    let every = manager.as_ref().map_or(LOOK, |manager| manager.every.min(LOOK));
    let mut seen = Seen::default();
    while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(every) {
        match seen.look(turns.load(Ordering::Relaxed), every) {
            Look::Moved => manager.iter().for_each(Manager::tell),
            Look::Still => {}
            Look::Wedged => {
                let seconds = WEDGED.as_secs();
                let fix = "start the node again; with WatchdogSec= in its unit systemd does";
                tracing::error!(code = "HE-E923", seconds, fix, "the agent makes no step");
            }
        }
    }
}

/// Between two looks.
const LOOK: Duration = Duration::from_secs(5);
/// The agent makes some steps each second.
const WEDGED: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agent_that_makes_no_step_is_told_of_once_until_it_moves_again() {
        let mut seen = Seen::default();
        let look = |seen: &mut Seen, turns| seen.look(turns, Duration::from_secs(10));
        let looks = [1, 1, 1, 1, 1, 2, 2, 2, 2].map(|turns| look(&mut seen, turns));
        let expected = [
            Look::Moved,
            Look::Still,
            Look::Still,
            Look::Wedged,
            Look::Still,
            Look::Moved,
            Look::Still,
            Look::Still,
            Look::Wedged,
        ];
        assert_eq!(looks, expected);
    }

    #[test]
    fn service_manager_hears_of_an_agent_that_moves_and_of_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let heard = UnixDatagram::bind(&path).unwrap();
        heard.set_nonblocking(true).unwrap();
        let of = |usec: &str, pid: u32| {
            let (usec, path) = (usec.to_owned(), path.clone());
            let variable = move |name: &str| match name {
                "WATCHDOG_USEC" => Some(OsString::from(usec.clone())),
                "WATCHDOG_PID" => Some(OsString::from("7")),
                "NOTIFY_SOCKET" => Some(path.clone().into_os_string()),
                _ => None,
            };
            Manager::of(variable, pid)
        };
        assert!(of("0", 7).is_none() && of("2000000", 8).is_none());
        assert!(Manager::of(|_| None, 7).is_none());
        let manager = of("2000000", 7).unwrap();
        assert_eq!(manager.every, Duration::from_secs(1));
        manager.tell();
        let mut bytes = [0; 32];
        let len = heard.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..len], b"WATCHDOG=1");
        // An agent of which nothing is seen: the thread tells nothing, and ends.
        let (ends, ended) = channel::<()>();
        drop(ends);
        watch(&AtomicU64::new(0), Some(manager), &ended);
        assert!(heard.recv(&mut bytes).is_err());
    }
}
