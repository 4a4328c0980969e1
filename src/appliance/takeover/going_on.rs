//! The new process, from the last moment before it goes on until everybody knows that it serves.

use super::super::opening::Opening;
use super::super::view::View;
use super::super::{RunError, manager};
use super::starter::Starter;
use super::taker::{Begun, Claim, TakenOver};
use crate::poll::poller::Poller;
use crate::shard::inbox::Inbox;

/// Takes over from another process, which is told so: from then on nothing can fail but all of this
/// one.
pub(in crate::appliance) fn take_over(
    claim: Claim,
    poller: &Poller<Inbox>,
    ports: &[u16],
    view: &View,
    opening: &Opening,
) -> Result<Begun, RunError> {
    let last = || {
        // The other process may have kept some since this one read them.
        view.restore_playlists()?;
        opening.decide();
        Ok(())
    };
    let over = claim.take(poller, ports, last).map_err(RunError::Takeover)?;
    over.begin(poller).map_err(|shard| RunError::Shard {
        shard: u8::try_from(shard).unwrap_or(u8::MAX),
        reason: "it does not read its inbox".to_owned(),
    })
}

/// Tells who waits that this process serves: who has started it, the service manager, and the
/// process before, which leaves then.
pub(in crate::appliance) fn confirm(begun: Option<Begun>, starter: Option<Starter>) {
    match starter {
        Some(starter) => starter.tell(),
        None => manager::serves(std::process::id()),
    }
    begun.map(Begun::confirm).iter().for_each(TakenOver::log);
}
