//! One process takes over from another one: sockets, sessions, and who may go on.
//!
//! ```text
//!  old: giver, a thread          Unix socket            new: taker, while it starts
//!    Offer <----------- Hello ------------------------- before it opens ports
//!    Quiet, Freeze <--- Freeze ------------------------ everything is made, shards wait
//!    Shard .. Frozen ---------------------------------> titles open, sessions are in
//!    Leave <----------- Taken ------------------------- Begin
//! ```
//! The write of `Taken` decides. The old process reads it, or closes its end for reading first: the
//! kernel does one or the other, so exactly one of them goes on. Whatever fails before that, the
//! old one goes on as if nothing had happened, and the new one ends with a sentence.
//!
//! Invariant: between `Freeze` and the decision neither process sends. Bounds: a deadline for each
//! step (`giver`, `taker`); one takeover at a time.

mod door;
mod giver;
pub(super) mod inherited;
mod live;
mod taker;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::end::End;
use super::{RunError, system};
use crate::config::Config;
use crate::config::takeover::TakeoverConfig;
use crate::poll::poller::Poller;
use crate::shard::inbox::Inbox;
pub(super) use door::{Closing, Door};
use giver::Giver;
pub(super) use giver::Kept;
pub(super) use inherited::Inherited;
pub(super) use taker::{Claim, TakenOver};

/// How a program takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakeoverAsk {
    /// With all sessions, or not at all.
    Whole,
    /// Sessions that cannot be handed over are ended.
    Drop,
}

/// Asks the server that runs.
pub(super) fn ask(config: &Config, how: TakeoverAsk) -> Result<Claim, RunError> {
    let path = config.takeover.path(config.state_dir.as_deref()).ok_or_else(|| {
        RunError::Takeover(
            "--takeover needs the socket of the running server: set server.takeover or \
             server.state_dir, as that server has it"
                .to_owned(),
        )
    })?;
    Claim::ask(&path, how).map_err(RunError::Takeover)
}

/// The socket by which another program takes over from this one, where there is to be one.
pub(super) fn door(
    config: &Config,
    claim: Option<&mut Claim>,
    warnings: &mut Vec<String>,
) -> Result<Option<Door>, RunError> {
    let Some(path) = config.takeover.path(config.state_dir.as_deref()) else { return Ok(None) };
    if let Some(door) = claim.and_then(Claim::take_door) {
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

/// Starts the thread that hands over. The socket's path goes with what is returned.
pub(super) fn give(
    door: Option<(Door, Kept)>,
    (poller, stop, end): (&Arc<Poller<Inbox>>, &watch::Sender<bool>, &End),
) -> Result<Option<Closing>, RunError> {
    let Some((door, kept)) = door else { return Ok(None) };
    door.own();
    let closing = door.closing();
    let (poller, stop, end) = (Arc::clone(poller), stop.clone(), end.clone());
    let giver = Giver { door, kept, poller, stop, end };
    giver.start().map_err(system("the thread of takeovers does not start"))?;
    Ok(Some(closing))
}

/// For a message that is due at once.
const MESSAGE_MAX: Duration = Duration::from_secs(5);
/// For a new process to make everything that it needs, from `Offer` to `Freeze`.
const PREPARE_MAX: Duration = Duration::from_secs(60);
/// For requests that are at hand: longer than shards wait for them.
const QUIET_MAX: Duration = Duration::from_secs(4);
/// For all shards to record what they have: longer than they wait for sends.
const RECORD_MAX: Duration = Duration::from_secs(2);
/// From `Taken` to the end of the connection.
const BEGIN_MAX: Duration = Duration::from_secs(3);
/// From the last record to `Taken`.
const TAKE_MAX: Duration = Duration::from_secs(2);
