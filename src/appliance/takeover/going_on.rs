//! The new process, from the last moment before it goes on until everybody knows that it serves.
//!
//! ```text
//!  take_over: edits kept since, who has started it is there -> the right -> shards begin
//!  tell:      service manager: READY=1, MAINPID --> the old process, and who has started it
//! ```
//! The old process is the one that a service manager watches. It is there until a message with the
//! number of this one was sent to the manager, however often that fails, and sends one itself: when
//! it ended before, the service would be taken for ended, and this process with it.

use std::io;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::super::opening::Opening;
use super::super::view::View;
use super::super::{RunError, manager};
use super::Giving;
use super::parting::Parting;
use super::starter::Starter;
use super::taker::{Begun, Claim};
use crate::poll::poller::Poller;
use crate::shard::inbox::Inbox;

/// Takes over from another process: from then on nothing can fail but all of this one. `ports` are
/// those of the first pairs of the shards.
pub(in crate::appliance) fn take_over(
    claim: Claim,
    (poller, ports): (&Poller<Inbox>, &[u16]),
    (view, opening): (&View, &Opening),
    starter: Option<&Starter>,
) -> Result<Begun, RunError> {
    let last = || {
        // The other process may have kept some since this one read them.
        view.restore_playlists()?;
        if starter.is_some_and(Starter::is_gone) {
            return Err("the command that has started this program has ended".to_owned());
        }
        opening.decide();
        Ok(())
    };
    let over = claim.take(poller, ports, last).map_err(RunError::Takeover)?;
    over.begin(poller).map_err(|shard| RunError::Shard {
        shard: u8::try_from(shard).unwrap_or(u8::MAX),
        reason: "it does not read its inbox".to_owned(),
    })
}

/// A thread that tells who waits that this process serves. It is there before this process has the
/// right to go on, and waits; a service manager that does not read its socket keeps nobody else.
#[derive(Debug)]
pub(in crate::appliance) struct Teller(mpsc::Sender<Waiting>);

/// Who waits for this process to serve.
struct Waiting {
    before: Option<Begun>,
    starter: Option<Starter>,
    next: Option<Parting>,
}

impl Teller {
    /// Starts the thread.
    pub(in crate::appliance) fn start() -> io::Result<Self> {
        let (serves, has_begun) = mpsc::channel::<Waiting>();
        let tell = move || {
            // None comes where the start fails.
            if let Ok(waiting) = has_begun.recv() {
                waiting.tell();
            }
        };
        thread::Builder::new().name("manager".to_owned()).spawn(tell)?;
        Ok(Self(serves))
    }

    /// This process serves. Those that wait are told one after the other: the service manager, the
    /// process before, who has started this one, and programs that are to take over from it.
    pub(in crate::appliance) fn tell(
        self,
        before: Option<Begun>,
        starter: Option<Starter>,
        giving: Option<&Giving>,
    ) {
        if let Some(begun) = &before {
            begun.over().log();
        }
        let next = giving.map(|giving| giving.parting().clone());
        // The thread waits for it.
        let _is_there = self.0.send(Waiting { before, starter, next });
    }
}

impl Waiting {
    fn tell(self) {
        let pid = std::process::id();
        let mut is_logged = false;
        while let Err(error) = manager::serves(pid) {
            if !std::mem::replace(&mut is_logged, true) {
                let fix = "look at NOTIFY_SOCKET of the unit; it is tried again each second";
                tracing::warn!(code = "HE-W126", %error, fix, "the service manager is not told");
            }
            thread::sleep(AGAIN);
        }
        let before = self.before.map(Begun::serves);
        if let Some(starter) = self.starter {
            starter.tell();
        }
        if let Some(before) = before {
            before.wait();
        }
        if let Some(next) = self.next {
            next.know();
        }
    }
}

/// Between two attempts to tell the service manager.
const AGAIN: Duration = Duration::from_secs(1);
