//! When this process begins to serve: at once, or when another one has handed over to it.
//!
//! ```text
//!  Closed ------decide-----> Deciding ------open------> Open
//!    '-stop: the process ends    '-stop waits              '-stop: shards say BYE, and end
//! ```
//! Everything that can fail is started before, and waits here: threads of HTTP accept nothing, and
//! no other process takes over. They accept nothing either while this process hands over to another
//! one: who connects then waits for the one that goes on.
//! Invariant: a process that is told to stop while another one serves ends before it has decided,
//! or goes on and stops then. It ends in between only when it is told so twice.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// Whether this process serves yet. Clones are the same one.
#[derive(Debug, Clone)]
pub(super) struct Opening(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    has_opened: Condvar,
    tell: watch::Sender<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Another process serves.
    Closed,
    /// It is being told that this one goes on.
    Deciding {
        /// A stop waits.
        stops: bool,
    },
    /// This one serves.
    Open,
}

/// What is to be done about a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The shards are to be stopped.
    Now,
    /// `Opening::open` says it again.
    Later,
    /// `on_closed` has returned, which it does in tests only.
    Never,
}

impl Opening {
    /// `is_open`: there is no other process.
    pub(super) fn new(is_open: bool) -> Self {
        let state = Mutex::new(if is_open { State::Open } else { State::Closed });
        let (tell, _) = watch::channel(is_open);
        Self(Arc::new(Shared { state, has_opened: Condvar::new(), tell }))
    }

    /// From now on a stop waits.
    pub(super) fn decide(&self) {
        let mut state = self.lock();
        if *state == State::Closed {
            *state = State::Deciding { stops: false };
        }
    }

    /// This process serves from now on. True: it is to stop.
    pub(super) fn open(&self) -> bool {
        let before = std::mem::replace(&mut *self.lock(), State::Open);
        self.0.has_opened.notify_all();
        self.0.tell.send_replace(true);
        before == State::Deciding { stops: true }
    }

    /// The process is told to stop. While another one serves `on_closed` ends this one: nothing is
    /// decided meanwhile.
    pub(super) fn stop(&self, on_closed: impl FnOnce()) -> Stop {
        let mut state = self.lock();
        match &mut *state {
            State::Closed => {
                on_closed();
                Stop::Never
            }
            State::Deciding { stops } => {
                *stops = true;
                Stop::Later
            }
            State::Open => Stop::Now,
        }
    }

    /// This process is handing over: nothing is accepted from now on.
    pub(super) fn pause(&self) {
        self.0.tell.send_replace(false);
    }

    /// It goes on after all.
    pub(super) fn go_on(&self) {
        self.0.tell.send_replace(true);
    }

    /// True while this process serves.
    pub(super) fn watch(&self) -> watch::Receiver<bool> {
        self.0.tell.subscribe()
    }

    /// Waits until this process serves.
    pub(super) fn wait(&self) {
        let is_closed = |state: &mut State| *state != State::Open;
        let opened = self.0.has_opened.wait_while(self.lock(), is_closed);
        drop(opened.unwrap_or_else(PoisonError::into_inner));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns when another process serves in the place of this one, which is told to end.
pub(super) async fn handed_over(watch: watch::Receiver<bool>, mut ends: watch::Receiver<bool>) {
    // Its sender is there until the end.
    drop(ends.wait_for(|ends| *ends).await);
    if *watch.borrow() {
        std::future::pending().await
    }
}

/// Waits until a process serves; false: it never will.
pub(super) async fn opened(mut watch: watch::Receiver<bool>) -> bool {
    watch.wait_for(|is_open| *is_open).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_comes_before_the_decision_or_after_the_opening_and_never_between() {
        let closed = Opening::new(false);
        let mut has_ended = false;
        assert_eq!(closed.stop(|| has_ended = true), Stop::Never);
        assert!(has_ended);

        let deciding = Opening::new(false);
        deciding.decide();
        assert_eq!(deciding.stop(|| panic!("it is decided")), Stop::Later);
        assert!(!*deciding.watch().borrow());
        assert!(deciding.open(), "the stop that waited");
        assert_eq!(deciding.stop(|| panic!("it serves")), Stop::Now);

        let open = Opening::new(true);
        open.wait();
        open.decide();
        assert_eq!(open.stop(|| panic!("it serves")), Stop::Now);
        assert!(!open.open());
    }

    #[tokio::test]
    async fn server_that_hands_over_accepts_nothing_and_another_one_serves_when_it_is_told_to_end()
    {
        let opening = Opening::new(true);
        let (stop, ends) = watch::channel(false);
        opening.pause();
        assert!(!*opening.watch().borrow());
        assert_eq!(opening.stop(|| panic!("it serves")), Stop::Now, "shards hold it");
        opening.go_on();
        assert!(*opening.watch().borrow());
        stop.send_replace(true);
        let own_end = handed_over(opening.watch(), ends.clone());
        tokio::select! {
            biased;
            () = own_end => panic!("nobody else serves"),
            () = std::future::ready(()) => {}
        }
        opening.pause();
        handed_over(opening.watch(), ends).await;
    }

    #[test]
    fn who_waits_goes_on_when_it_opens() {
        let opening = Opening::new(false);
        let waits = opening.clone();
        let waiting = std::thread::spawn(move || waits.wait());
        opening.decide();
        assert!(!opening.open() && *opening.watch().borrow());
        waiting.join().unwrap();
    }
}
