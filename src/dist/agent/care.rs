//! What the base does about a node that does not get on: it asks, and has things begun anew.
//!
//! Invariants: an answer follows all that was said before it; an order that comes again has no
//! second effect; what begins anew keeps its verified bytes, unless just these are to go. Bound:
//! `ANSWERED_MAX` commands in an answer.

use super::stage::{Input, Stage};
use super::{Action, Agent, Failure};
use crate::base::time::Mono;
use crate::dist::fetch::Fetch;
use crate::dist::ids::CommandKey;
use crate::dist::wire::agent::{OpenCommand, Report};
use crate::dist::wire::job::{DeliveryState, Reason};

impl Agent {
    /// Says how far open commands are.
    pub(super) fn handle_query(&mut self, query: u64) {
        let open = self.deliveries.iter().filter(|(_, known)| !known.stage.is_ended());
        let commands = open.take(ANSWERED_MAX).map(|(key, known)| OpenCommand {
            key: *key,
            state: match known.stage {
                Stage::Fetching if known.failure.is_some() && known.live.is_some() => {
                    DeliveryState::RetryWait
                }
                Stage::Fetching => DeliveryState::Fetching,
                Stage::Verified | Stage::Applying => DeliveryState::Applying,
                Stage::RetryWait => DeliveryState::RetryWait,
                Stage::Waiting
                | Stage::Reserving
                | Stage::Completed
                | Stage::Failed
                | Stage::Cancelled => DeliveryState::Received,
            },
            offset: known.fetch.as_ref().map_or(known.told, Fetch::have),
            reason: known
                .failure
                .filter(|_| known.stage == Stage::RetryWait || known.live.is_some()),
        });
        let commands = commands.collect();
        let open = u64::try_from(self.open_count).unwrap_or(u64::MAX);
        self.outbox.push(None, Report::Answer { query, open, commands });
    }

    /// Drops what has come of a put, and fetches it anew.
    pub(super) fn handle_renew(
        &mut self,
        key: CommandKey,
        number: u64,
        now: Mono,
        out: &mut Vec<Action>,
    ) {
        let Some(delivery) = self.deliveries.get(&key).filter(|_| number > self.renewed) else {
            return;
        };
        let Some(content) = delivery.content else { return };
        let has_partial = matches!(delivery.stage, Stage::Fetching | Stage::RetryWait);
        if !has_partial {
            return;
        }
        self.renewed = number;
        if delivery.stage == Stage::Fetching {
            let detail = "dropped by an order of the base, to be fetched anew".to_owned();
            self.fail(key, Failure { reason: Reason::Io, detail }, now, out);
        }
        if let Some(delivery) = self.deliveries.get_mut(&key) {
            (delivery.told, delivery.noted, delivery.attempt_from) = (0, 0, 0);
            delivery.via.clear();
        }
        out.push(Action::Discard { content });
        self.hasten(key, now);
    }

    /// Begins anew what is under way, from what the journal and the disk have.
    pub(super) fn handle_restart(&mut self, number: u64, now: Mono, out: &mut Vec<Action>) {
        if number <= self.renewed {
            return;
        }
        self.renewed = number;
        for key in self.fetching.iter().copied().collect::<Vec<_>>() {
            self.stop_fetch(key, out);
            self.retry_at(key, now);
        }
        for (_, key) in self.retries.iter().copied().collect::<Vec<_>>() {
            self.hasten(key, now);
        }
        self.outbox.renumber();
        out.push(Action::HelloAgain { is_new_start: true });
    }

    /// The disk is full: all that no command needs goes, and the command is tried again at once.
    pub(super) fn make_room(
        &mut self,
        key: CommandKey,
        detail: String,
        now: Mono,
        out: &mut Vec<Action>,
    ) {
        let reason = Reason::NoSpace;
        self.outbox.push(None, Report::Failed { key, reason, detail, is_final: false });
        out.push(Action::Collect { known: self.contents().collect() });
        self.retry_at(key, now);
    }

    /// The next attempt does not wait.
    pub(super) fn hasten(&mut self, key: CommandKey, now: Mono) {
        let Some(delivery) = self.deliveries.get_mut(&key) else { return };
        if delivery.stage.next(Input::Due).is_none() {
            return;
        }
        if let Some(at) = delivery.retry_at.replace(now) {
            self.retries.remove(&(at, key));
        }
        self.retries.insert((now, key));
    }
}

/// Some fifty bytes each.
const ANSWERED_MAX: usize = 512;
