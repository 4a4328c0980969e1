//! The new process, from the last moment before it goes on until everybody knows that it serves.
//!
//! ```text
//!  take_over: edits kept since, who has started it is there -> the right -> shards begin
//!  confirm:   service manager: READY=1, MAINPID --> the old process ends, and who has started it
//! ```
//! The old process is the one that a service manager watches. It is there until the manager is told
//! of this one, however often that fails: when it ended before, the service would be taken for
//! ended, and this process with it.

use std::thread;
use std::time::Duration;

use super::super::opening::Opening;
use super::super::view::View;
use super::super::{RunError, manager};
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

/// Tells who waits that this process serves: the service manager, then the process before, which
/// ends, and who has started this one.
pub(in crate::appliance) fn confirm(begun: Option<Begun>, starter: Option<Starter>) {
    if let Some(begun) = &begun {
        begun.over().log();
    }
    let tell = move || {
        if let Some(begun) = begun {
            begun.serves();
        }
        if let Some(starter) = starter {
            starter.tell();
        }
    };
    let pid = std::process::id();
    let Err(error) = manager::serves(pid) else { return tell() };
    let fix = "look at NOTIFY_SOCKET, and at NotifyAccess= of the unit; it is tried each second";
    tracing::warn!(code = "HE-W126", %error, fix, "the service manager is not told");
    let again = move || {
        while manager::serves(pid).is_err() {
            thread::sleep(AGAIN);
        }
        tell();
    };
    let spawned = thread::Builder::new().name("manager".to_owned()).spawn(again);
    if let Err(error) = spawned {
        tracing::warn!(code = "HE-W126", %error, "nobody tells the service manager");
    }
}

/// Between two attempts to tell the service manager.
const AGAIN: Duration = Duration::from_secs(1);
