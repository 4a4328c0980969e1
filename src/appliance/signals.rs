//! SIGTERM and SIGINT, told to a closure; SIGHUP, told to another.
//!
//! ```text
//! http::spawn(listener, view, shutdown, signals::on_stop(|signal| ...))
//! ```
//! `on_stop`'s closure is called for every signal: the first one asks for a graceful stop, a second
//! one from an impatient operator may end the process at once. That choice is the caller's.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

/// Which signal came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StopSignal {
    /// A supervisor asks.
    Terminate,
    /// Ctrl-C.
    Interrupt,
}

impl StopSignal {
    /// As `kill -l` spells it.
    #[must_use]
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        }
    }
}

/// Runs until its runtime ends. Once this future was polled, the signals no longer end the process
/// by themselves.
pub(super) async fn on_stop(mut stop: impl FnMut(StopSignal) + Send) {
    let handlers = signal(SignalKind::terminate()).and_then(|terminate| {
        signal(SignalKind::interrupt()).map(|interrupt| (terminate, interrupt))
    });
    let (mut terminate, mut interrupt) = match handlers {
        Ok(handlers) => handlers,
        Err(error) => {
            let fix = "signals end the process without BYE to players";
            tracing::warn!(code = "HE-W402", %error, fix, "no signal handler");
            return;
        }
    };
    loop {
        let came = tokio::select! {
            came = terminate.recv() => came.map(|()| StopSignal::Terminate),
            came = interrupt.recv() => came.map(|()| StopSignal::Interrupt),
        };
        match came {
            Some(signal) => stop(signal),
            None => return,
        }
    }
}

/// A SIGHUP that comes while the process starts: it does not end the process, and is not lost.
#[derive(Debug, Clone, Default)]
pub struct EarlyHangup(Arc<AtomicBool>);

impl EarlyHangup {
    /// From now on a SIGHUP is noted, until `on_hangup` runs.
    ///
    /// # Errors
    /// The system takes no handler.
    pub fn watch() -> io::Result<Self> {
        let early = Self::default();
        signal_hook::flag::register(signal_hook::consts::SIGHUP, Arc::clone(&early.0))?;
        Ok(early)
    }

    /// As if a SIGHUP had come.
    pub(super) fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Calls `reload` for every SIGHUP, and once for those that were noted before, on a thread that may
/// wait for a disk, until the runtime ends.
pub(super) async fn on_hangup(early: EarlyHangup, reload: impl Fn() + Send + Sync + 'static) {
    let mut hangups = match signal(SignalKind::hangup()) {
        Ok(hangups) => hangups,
        Err(error) => {
            let fix = "ask for a reload by POST /v1/config:reload";
            tracing::warn!(code = "HE-W402", %error, fix, "no handler for SIGHUP");
            return;
        }
    };
    let reload = Arc::new(reload);
    // Noted before the handler above was there.
    let mut has_come = early.0.swap(false, Ordering::Relaxed);
    while has_come || hangups.recv().await.is_some() {
        has_come = false;
        let reload = Arc::clone(&reload);
        // Awaited: several signals meanwhile are one more reading.
        let _panicked = tokio::task::spawn_blocking(move || reload()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Signal, getpid, kill_process};
    use tokio::sync::mpsc;

    #[test]
    fn each_signal_is_told_and_the_process_lives_on() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (told, mut tells) = mpsc::unbounded_channel();
            let mut watching = Box::pin(on_stop(move |signal| told.send(signal).unwrap()));
            // Polled once, it has its handlers; only then is it safe to send anything.
            let first =
                std::future::poll_fn(|cx| std::task::Poll::Ready(watching.as_mut().poll(cx)));
            assert!(first.await.is_pending());
            tokio::spawn(watching);
            for (sent, expected) in [
                (Signal::TERM, StopSignal::Terminate),
                (Signal::TERM, StopSignal::Terminate),
                (Signal::INT, StopSignal::Interrupt),
            ] {
                kill_process(getpid(), sent).unwrap();
                assert_eq!(tells.recv().await, Some(expected));
            }
        });
    }

    #[test]
    fn hangup_is_told_and_the_process_lives_on() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (told, mut tells) = mpsc::unbounded_channel();
            let early = EarlyHangup::watch().unwrap();
            kill_process(getpid(), Signal::HUP).unwrap();
            let mut watching = Box::pin(on_hangup(early, move || told.send(()).unwrap()));
            let first =
                std::future::poll_fn(|cx| std::task::Poll::Ready(watching.as_mut().poll(cx)));
            assert!(first.await.is_pending());
            tokio::spawn(watching);
            assert_eq!(tells.recv().await, Some(()), "the one that was noted");
            for _ in 0..2 {
                kill_process(getpid(), Signal::HUP).unwrap();
                assert_eq!(tells.recv().await, Some(()));
            }
        });
    }
}
