//! One process takes over from another one: sockets, sessions, and who may go on.
//!
//! ```text
//!  old: giver, a thread          Unix socket            new: taker, while it starts
//!    Offer <----------- Hello ------------------------- before it opens ports
//!    Quiet, Freeze <--- Freeze ------------------------ everything is made, shards wait
//!    Shard .. Frozen ---------------------------------> titles open, sessions are in
//!    Leave <----------- Taken ------------------------- takes the right: Begin, ports open
//!    ends <------------ Serves ------------------------ the service manager is told
//! ```
//! There is one right to go on ([`right`]), and who takes it first has it: the new process when it
//! has everything, or the old one when that is late, refuses or is gone. So the old one goes on as
//! if nothing had happened, or never again. No message decides: one that is lost or late changes
//! nothing but how soon the old one leaves.
//!
//! Everything of the new one that can fail is started before it takes the right, and waits
//! ([`Opening`], [`Teller`]). The old one is there until the new one says that it serves
//! ([`parting`]), and tells the service manager, too: so that never watches a process that is gone.
//!
//! Invariant: from `Freeze` on a process sends with the right only what goes along: media, RTCP and
//! answers of sessions and connections that are handed over. What stays behind is the old one's
//! until its end: it says BYE there, and answers WebRTC. Bounds: a deadline for each
//! step before the decision (`giver`, `taker`); one takeover at a time.

mod door;
mod giver;
mod going_on;
pub(super) mod inherited;
mod parting;
mod right;
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
use door::Closing;
pub(super) use door::Door;
use giver::Giver;
pub(super) use giver::Kept;
pub(super) use going_on::{Teller, take_over};
pub(super) use inherited::Inherited;
use parting::Parting;
pub use starter::{Starter, start_in_background};
pub(super) use taker::Claim;

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
        warnings.extend(door.check().err().map(|why| {
            format!("no program can take over from this one after its next start: {why} (HE-W124)")
        }));
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

/// The thread that hands over, as the appliance sees it.
#[must_use]
pub(super) struct Giving {
    closing: Closing,
    parting: Parting,
}

impl Giving {
    /// What other processes wait for, until they may take over from this one.
    fn parting(&self) -> &Parting {
        &self.parting
    }

    /// The path of the socket goes with this process from now on.
    pub(super) fn own(&self) {
        self.closing.own();
    }

    /// All shards have ended, as `result` says. Where another process has taken over this one is
    /// there until that serves.
    pub(super) fn end(&self, result: Result<(), RunError>) -> Result<(), RunError> {
        let parted = self.parting.wait();
        result.and(parted)
    }
}

/// Starts the thread that hands over, when this process serves. The socket's path goes with what is
/// returned.
pub(super) fn give(
    door: Option<(Door, Kept)>,
    (poller, stop, end): (&Arc<Poller<Inbox>>, &watch::Sender<bool>, &End),
    opening: &Opening,
) -> Result<Option<Giving>, RunError> {
    let Some((door, kept)) = door else { return Ok(None) };
    let (closing, parting) = (door.closing(), Parting::default());
    let giving = Giving { closing, parting: parting.clone() };
    let (poller, stop, end) = (Arc::clone(poller), stop.clone(), end.clone());
    let giver = Giver { door, kept, poller, stop, end, opening: opening.clone(), parting };
    giver.start().map_err(system("the thread of takeovers does not start"))?;
    Ok(Some(giving))
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
/// From `Taken` to `Serves`, before somebody is told that it takes long.
const SERVES_MAX: Duration = Duration::from_secs(3);
/// For a shard to read its inbox.
const TELL_MAX: Duration = Duration::from_secs(5);
/// From the last record to the right. Nobody sends meanwhile.
const TAKE_MAX: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
