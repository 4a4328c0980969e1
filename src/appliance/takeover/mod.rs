//! One process takes over from another one: sockets, sessions, and who may go on.
//!
//! ```text
//!  old: giver, a thread          Unix socket            new: taker, while it starts
//!    Offer <----------- Hello ------------------------- before it opens ports
//!    Quiet, Freeze <--- Freeze ------------------------ everything is made, shards wait
//!    Shard .. Frozen ---------------------------------> titles open, sessions are in
//!    Leave <----------- Taken, begun ------------------ Begin, ports open
//! ```
//! The write of `Taken` decides. The old process reads it, or closes its end for reading first: the
//! kernel does one or the other, so exactly one of them goes on. Whatever fails before that, the
//! old one goes on as if nothing had happened, and the new one ends with a sentence.
//!
//! Everything of the new one that can fail is started before, and waits ([`Opening`]). When its
//! shards have begun it says so by an event of the kernel, and the old one leaves; one that is gone
//! without that has not gone on, and the old one does.
//!
//! Invariant: between `Freeze` and the decision neither process sends. Bounds: a deadline for each
//! step before the decision (`giver`, `taker`); one takeover at a time.

mod door;
mod giver;
pub(super) mod inherited;
mod starter;
mod taker;
mod wire;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::end::End;
use super::opening::Opening;
use super::{RunError, system};
use crate::config::Config;
use crate::config::takeover::TakeoverConfig;
use crate::poll::poller::Poller;
use crate::shard::inbox::Inbox;
pub(super) use door::{Closing, Door};
use giver::Giver;
pub(super) use giver::Kept;
pub(super) use inherited::Inherited;
pub use starter::{Starter, start_in_background};
pub(super) use taker::{Begun, Claim, TakenOver};

/// How a program takes over.
#[derive(Debug, Default)]
pub struct TakeoverAsk {
    /// Sessions that cannot be handed over are ended. Otherwise nothing is taken over where there
    /// are some.
    pub may_end: bool,
    /// The socket of the running server; none: that of the configuration.
    pub at: Option<PathBuf>,
    /// The program that has started this one in the background, and waits for it.
    pub starter: Option<Starter>,
}

/// Asks the server that runs. `shards`: the number of those of this process.
pub(super) fn ask(config: &Config, shards: usize, ask: &TakeoverAsk) -> Result<Claim, RunError> {
    taker::make_room_for_descriptors(config.poll_entries_max.saturating_mul(shards));
    let configured = config.takeover.path(config.state_dir.as_deref());
    let path = ask.at.clone().or(configured).ok_or_else(|| {
        let why = match config.takeover {
            TakeoverConfig::Off => "server.takeover is off",
            _ => "there is neither server.takeover nor server.state_dir",
        };
        RunError::Takeover(format!(
            "--takeover needs the socket of the running server, and {why}: name it by \
             --takeover-at PATH, as `headend config show` of that server has it"
        ))
    })?;
    Claim::ask(&path, ask.may_end).map_err(RunError::Takeover)
}

/// The socket by which another program takes over from this one, where there is to be one: that of
/// the running server, if the configuration still has it.
pub(super) fn door(
    config: &Config,
    claim: Option<&mut Claim>,
    warnings: &mut Vec<String>,
) -> Result<Option<Door>, RunError> {
    let Some(path) = config.takeover.path(config.state_dir.as_deref()) else { return Ok(None) };
    if let Some(door) = claim.and_then(|claim| claim.take_door(&path)) {
        return Ok(Some(door));
    }
    match (Door::open(&path), &config.takeover) {
        (Ok(door), _) => Ok(Some(door)),
        (Err(why), TakeoverConfig::At(_)) => {
            Err(RunError::Config(format!("server.takeover: {why}")))
        }
        (Err(why), TakeoverConfig::Auto | TakeoverConfig::Off) => {
            warnings.push(format!("no program can take over from this one: {why} (HE-W124)"));
            Ok(None)
        }
    }
}

/// Starts the thread that hands over, when this process serves. The socket's path goes with what is
/// returned.
pub(super) fn give(
    door: Option<(Door, Kept)>,
    (poller, stop, end): (&Arc<Poller<Inbox>>, &watch::Sender<bool>, &End),
    opening: &Opening,
) -> Result<Option<Closing>, RunError> {
    let Some((door, kept)) = door else { return Ok(None) };
    let closing = door.closing();
    let (poller, stop, end) = (Arc::clone(poller), stop.clone(), end.clone());
    let giver = Giver { door, kept, poller, stop, end, opening: opening.clone() };
    giver.start().map_err(system("the thread of takeovers does not start"))?;
    Ok(Some(closing))
}

fn within(time: Duration) -> Instant {
    Instant::now() + time
}

/// For a message that is due at once.
const MESSAGE_MAX: Duration = Duration::from_secs(5);
/// For a new process to make everything that it needs, from `Offer` to `Freeze`.
const PREPARE_MAX: Duration = Duration::from_secs(60);
/// For requests that are at hand: longer than shards wait for them.
const QUIET_MAX: Duration = Duration::from_secs(4);
/// For all shards to record what they have: longer than they wait for sends.
const RECORD_MAX: Duration = Duration::from_secs(2);
/// From `Taken` to the begin, before somebody is told that it takes long.
const BEGIN_MAX: Duration = Duration::from_secs(3);
/// For a shard to read its inbox.
const TELL_MAX: Duration = Duration::from_secs(5);
/// For a process that is ending to be gone.
const GONE_MAX: Duration = Duration::from_secs(5);
/// From the last record to `Taken`.
const TAKE_MAX: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
