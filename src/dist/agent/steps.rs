//! Steps of a command between its order and its end.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use super::paths::check_paths;
use super::stage::{Input, Stage};
use super::{Action, Agent, Apply, Failure, Held};
use crate::base::time::Mono;
use crate::dist::fetch::{Fetch, FetchAction, GaveUp};
use crate::dist::ids::{CommandKey, ContentId};
use crate::dist::journal::Record;
use crate::dist::wire::agent::Report;
use crate::dist::wire::job::{Op, Reason};

impl Agent {
    /// Does with a command what can be done: has it wait for room, or changes the media folder.
    pub(super) fn consider(&mut self, key: CommandKey, now: Mono, out: &mut Vec<Action>) {
        let Some(delivery) = self.deliveries.get(&key) else { return };
        if delivery.live.is_some() {
            return self.consider_live(key, now, out);
        }
        if delivery.stage == Stage::Waiting
            && let Err(detail) = check_paths(&delivery.op)
        {
            let failure = Failure { reason: Reason::PathConflict, detail };
            return self.fail(key, failure, now, out);
        }
        match (delivery.stage, delivery.content) {
            (Stage::Waiting, Some(content))
                if self.plans.contains_key(&content) && self.limits.is_open(key.job) =>
            {
                self.ready.insert((Reverse(delivery.priority), key));
            }
            (Stage::Waiting, None) | (Stage::Verified, _) => self.apply(key, out),
            _ => {}
        }
    }

    pub(super) fn apply(&mut self, key: CommandKey, out: &mut Vec<Action>) {
        let Some(delivery) = self.deliveries.get(&key) else { return };
        if !self.turns.is_free(key, delivery.sequence, &delivery.op) {
            return;
        }
        let apply = Apply {
            key,
            op: delivery.op.clone(),
            content: delivery.content,
            is_again: delivery.is_again,
            via: delivery.live.as_ref().map_or(&delivery.via, |live| live.reflect.via()).clone(),
            live: delivery.live.as_ref().map(|live| live.reflect.totals()),
        };
        self.move_on(key, Input::Turn);
        // All others may be done twice.
        if !matches!(apply.op, Op::Move { .. }) || apply.is_again {
            return out.push(Action::Apply(apply));
        }
        if let Some(delivery) = self.deliveries.get_mut(&key) {
            delivery.is_again = true;
        }
        self.journal(Record::Applying { key }, out);
        self.hold(Held::Apply(apply));
    }

    /// Gives room to puts that wait for it.
    pub(super) fn begin(&mut self, now: Mono, out: &mut Vec<Action>) {
        if self.ready.is_empty() || self.fetching.len() >= OPEN_MAX {
            return;
        }
        let is_busy = |key: &&CommandKey| {
            let fetch = self.deliveries.get(key).and_then(|delivery| delivery.fetch.as_ref());
            let is_live = self.deliveries.get(key).is_some_and(|known| known.live.is_some());
            !is_live && fetch.is_none_or(|fetch| !fetch.is_idle(now))
        };
        let active = self.fetching.iter().filter(is_busy).count();
        let room = ACTIVE_MAX.saturating_sub(active).min(OPEN_MAX - self.fetching.len());
        let candidates: Vec<_> = self.ready.iter().take(room + LOOKS).copied().collect();
        let mut begun = 0;
        for (priority, key) in candidates {
            let Some(delivery) = self.deliveries.get(&key) else { continue };
            // What would only lie there waiting for others may wait before its bytes come.
            let is_ahead = self.verified.len() >= VERIFIED_MAX
                && !self.turns.is_free(key, delivery.sequence, &delivery.op);
            if begun == room || is_ahead {
                continue;
            }
            let (Some(content), size) = (delivery.content, delivery.size) else { continue };
            self.ready.remove(&(priority, key));
            if self.move_on(key, Input::Begin) {
                out.push(Action::Reserve { content, size });
                begun += 1;
            }
        }
    }

    pub(super) fn whole(&mut self, key: CommandKey, now: Mono, out: &mut Vec<Action>) {
        self.keep_via(key);
        if self.move_on(key, Input::Whole) {
            self.outbox.push(None, Report::Applying { key });
            self.consider(key, now, out);
        }
    }

    /// Runs `step` on the fetch of a content and does what it asks for.
    pub(super) fn with_fetch(
        &mut self,
        content: ContentId,
        now: Mono,
        out: &mut Vec<Action>,
        step: impl FnOnce(&mut Fetch, &mut Vec<FetchAction>),
    ) {
        let Some(key) = self.contents.get(&content).copied() else { return };
        let fetch = self.deliveries.get_mut(&key).and_then(|delivery| delivery.fetch.as_mut());
        let Some(fetch) = fetch else { return };
        let mut actions = Vec::new();
        step(fetch, &mut actions);
        self.follow(key, content, actions, now, out);
    }

    pub(super) fn follow(
        &mut self,
        key: CommandKey,
        content: ContentId,
        actions: Vec<FetchAction>,
        now: Mono,
        out: &mut Vec<Action>,
    ) {
        for action in actions {
            match action {
                FetchAction::Connect { link, source, from, part, is_slow } => {
                    self.edges.open(content, link, &source);
                    out.push(Action::Connect { content, link, source, from, part, is_slow });
                }
                FetchAction::Use { link } => out.push(Action::Use { content, link }),
                FetchAction::Close { link } => {
                    self.edges.close(content, link);
                    out.push(Action::Close { content, link });
                }
                FetchAction::Ask { ask, source } => {
                    out.push(Action::Ask { content, ask, source });
                }
                FetchAction::Switched { source, cause, before } => {
                    let fetch = self.deliveries.get(&key).and_then(|known| known.fetch.as_ref());
                    let offset = fetch.map_or(0, Fetch::have);
                    let report = Report::Fetching { key, offset, source, cause, before };
                    self.outbox.push(None, report);
                }
                FetchAction::Further { sources } => {
                    let fetch = self.deliveries.get(&key).and_then(|known| known.fetch.as_ref());
                    let offset = fetch.map_or(0, Fetch::have);
                    self.outbox.push(None, Report::Further { key, offset, sources });
                }
                FetchAction::BadUnit { source, unit } => {
                    self.outbox.push(None, Report::BadUnit { content, source, unit });
                }
                FetchAction::GaveUp(gave_up) => self.gave_up(key, gave_up, now, out),
                FetchAction::Whole => {
                    self.whole(key, now, out);
                    self.begin(now, out);
                }
            }
        }
    }

    pub(super) fn gave_up(
        &mut self,
        key: CommandKey,
        why: GaveUp,
        now: Mono,
        out: &mut Vec<Action>,
    ) {
        if why.is_refused {
            out.push(Action::HelloAgain { is_new_start: false });
        }
        if let Some(pause) = why.busy {
            self.keep_via(key);
            return self.retry_at(key, now + pause.clamp(BUSY_MIN, BUSY_MAX));
        }
        let detail = match why.reason {
            Reason::BadHash => "every source sent bytes that fail their hash",
            _ => "no source answers or has the content",
        };
        let failure = Failure { reason: why.reason, detail: detail.to_owned() };
        self.fail(key, failure, now, out);
        if why.reason == Reason::NoSource {
            self.look_for_sources(key, now, out);
        }
    }

    /// Another attempt after a while, or the end.
    pub(super) fn fail(
        &mut self,
        key: CommandKey,
        failure: Failure,
        now: Mono,
        out: &mut Vec<Action>,
    ) {
        self.stop_fetch(key, out);
        let is_online = self.is_online;
        let Some(delivery) = self.deliveries.get_mut(&key) else { return };
        if delivery.stage.is_ended() {
            return;
        }
        let Failure { mut reason, detail } = failure;
        delivery.failure = Some(reason);
        let mut is_final = !matches!(reason, Reason::Io | Reason::NoSource | Reason::BadHash);
        // What nobody needs goes first; then it is tried once more.
        let may_collect = reason == Reason::NoSpace && !delivery.has_collected;
        if may_collect {
            delivery.has_collected = true;
            return self.make_room(key, detail, now, out);
        }
        if !is_final {
            let have = delivery.told;
            if have > delivery.attempt_from {
                (delivery.attempt_from, delivery.attempts) = (have, 0);
            }
            // Without the base nobody can say where else the content is.
            delivery.attempts += u32::from(is_online || reason != Reason::NoSource);
            if delivery.attempts > ATTEMPTS_MAX {
                (reason, is_final) = (Reason::Attempts, true);
            }
        }
        let report = Report::Failed { key, reason, detail: detail.clone(), is_final };
        if is_final {
            self.move_on(key, Input::GiveUp);
            return self.end(key, Record::Failed { key, reason, detail }, report, now, out);
        }
        let pause = pause_after(key, delivery.attempts);
        self.outbox.push(None, report);
        self.retry_at(key, now + pause);
    }

    pub(super) fn retry_at(&mut self, key: CommandKey, at: Mono) {
        if self.move_on(key, Input::Retry) {
            self.retries.insert((at, key));
            if let Some(delivery) = self.deliveries.get_mut(&key) {
                delivery.retry_at = Some(at);
            }
        }
    }

    /// Stops what is under way for a command, and keeps what is known of its sources.
    pub(super) fn stop_fetch(&mut self, key: CommandKey, out: &mut Vec<Action>) {
        if let Some(delivery) = self.deliveries.get_mut(&key)
            && let (Some(content), Some(fetch)) = (delivery.content, delivery.fetch.as_mut())
        {
            let mut actions = Vec::new();
            fetch.stop(&mut actions);
            for action in actions {
                if let FetchAction::Close { link } = action {
                    self.edges.close(content, link);
                    out.push(Action::Close { content, link });
                }
            }
        }
        self.close_live(key, out);
        self.keep_via(key);
    }

    /// Notes in the journal from whom bytes have come, for the receipt of a node that is killed.
    pub(super) fn note_via(&mut self, now: Mono, out: &mut Vec<Action>) {
        if now.since(self.noted_at) < NOTE_EVERY {
            return;
        }
        self.noted_at = now;
        for key in self.fetching.iter().copied().collect::<Vec<_>>() {
            let Some(delivery) = self.deliveries.get_mut(&key) else { continue };
            let Some(fetch) = delivery.fetch.as_ref().filter(|f| f.have() > delivery.noted) else {
                continue;
            };
            delivery.noted = fetch.have();
            let via = added(&delivery.via, fetch.via());
            self.journal(Record::Via { key, via }, out);
        }
    }

    pub(super) fn keep_via(&mut self, key: CommandKey) {
        let Some(delivery) = self.deliveries.get_mut(&key) else { return };
        let Some(fetch) = delivery.fetch.take() else { return };
        delivery.told = fetch.have();
        delivery.via = added(&delivery.via, fetch.via());
    }

    /// A command has ended: journal, then the report; others may follow.
    pub(super) fn end(
        &mut self,
        key: CommandKey,
        record: Record,
        report: Report,
        now: Mono,
        out: &mut Vec<Action>,
    ) {
        let is_done = matches!(record, Record::Completed { .. });
        if let Some(delivery) = self.deliveries.get_mut(&key) {
            (delivery.end, delivery.is_taken) = (Some(record.clone()), false);
            if let Some(content) = delivery.content {
                self.plans.remove(&content);
                self.further.remove(&content);
                self.surveys.end(content);
                if !is_done {
                    out.push(Action::Discard { content });
                }
            }
        }
        self.journal(record, out);
        self.hold(Held::Report(Some(key), report));
        self.close(key, now, out);
    }

    /// Strikes a command off the open ones.
    pub(super) fn close(&mut self, key: CommandKey, now: Mono, out: &mut Vec<Action>) {
        let Some(delivery) = self.deliveries.get(&key) else { return };
        self.ready.remove(&(Reverse(delivery.priority), key));
        if let Some(at) = delivery.retry_at {
            self.retries.remove(&(at, key));
        }
        let op = delivery.op.clone();
        self.open_count = self.open_count.saturating_sub(1);
        for waiter in self.turns.remove(key, &op) {
            self.consider(waiter, now, out);
        }
        self.ended.push_back(key);
        while self.ended.len() > ENDED_MAX
            && let Some(oldest) = self.ended.pop_front()
        {
            if self.deliveries.get(&oldest).is_some_and(|known| known.stage.is_ended()) {
                self.forget(oldest, out);
            }
        }
    }
}

/// Bytes by source, of both.
fn added(one: &BTreeMap<String, u64>, other: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let mut sum = one.clone();
    for (source, bytes) in other {
        *sum.entry(source.clone()).or_default() += bytes;
    }
    sum
}

/// 1 s, doubled for each attempt, 60 s at most, and up to a quarter more or less, so that many
/// commands that failed together do not come back together.
fn pause_after(key: CommandKey, attempts: u32) -> Duration {
    let whole = PAUSE_MIN * 2_u32.saturating_pow(attempts.saturating_sub(1).min(6));
    let spread = key.command.0.wrapping_mul(2_654_435_761).wrapping_add(attempts * 97) >> 16 & 511;
    whole.min(PAUSE_MAX) * (768 + spread) / 1_024
}

/// Contents that come at once: enough for small ones to hide the round trips between them.
const ACTIVE_MAX: usize = 16;
/// The same with those whose sources have no more than this node: a connection each.
const OPEN_MAX: usize = 128;
/// Commands further back that are looked at when those in front may not begin.
const LOOKS: usize = 16;
/// Whole contents that wait for earlier commands: an open file each.
const VERIFIED_MAX: usize = 256;
/// Ended commands that are remembered beside the open ones: a receipt each.
const ENDED_MAX: usize = 200_000;
/// Attempts without a new byte.
const ATTEMPTS_MAX: u32 = 20;
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// A source that is busy is asked again after what it says, within these.
const BUSY_MIN: Duration = Duration::from_millis(200);
const BUSY_MAX: Duration = Duration::from_secs(5);
/// Between two notes of where bytes come from.
const NOTE_EVERY: Duration = Duration::from_secs(2);
