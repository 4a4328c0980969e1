//! Orders of the base: what is new, what is known, what is withdrawn.

use std::cmp::Reverse;
use std::time::Duration;

use super::limits::Changed;
use super::stage::{Input, Stage};
use super::{Action, Agent, Held};
use crate::base::time::Mono;
use crate::dist::ids::{CommandId, CommandKey, ContentId, Epoch, JobId};
use crate::dist::journal::Record;
use crate::dist::wire::agent::{Report, Source, SwitchCause};

impl Agent {
    pub(super) fn handle_command(
        &mut self,
        key: CommandKey,
        record: Record,
        now: Mono,
        out: &mut Vec<Action>,
    ) {
        let received = Report::Received { key };
        if let Some(known) = self.deliveries.get_mut(&key) {
            let may_say = std::mem::take(&mut known.is_taken);
            match (known.stage, &known.end) {
                (Stage::Completed, Some(Record::Completed { receipt, .. })) if may_say => {
                    let report = Report::Completed { receipt: receipt.clone() };
                    self.outbox.push(Some(key), report);
                }
                // The base knows how it ended: it wants it once more.
                (Stage::Failed | Stage::Cancelled, _) if may_say => {
                    self.move_on(key, Input::Again);
                    self.reopen(key);
                    self.journal(record, out);
                    self.hold(Held::Report(Some(key), received));
                    self.consider(key, now, out);
                }
                (_, None) if may_say => {
                    self.outbox.push(Some(key), received);
                    self.say_where(key);
                }
                _ => {}
            }
            return;
        }
        self.replay(record.clone());
        self.journal(record, out);
        if let Some(known) = self.deliveries.get_mut(&key) {
            known.is_taken = false;
            // The plan came first.
            let content = known.content.filter(|content| self.plans.contains_key(content));
            self.unnoted.extend(content);
        }
        self.hold(Held::Report(Some(key), received));
        self.consider(key, now, out);
    }

    /// Says again from whom bytes come: the base has asked anew.
    fn say_where(&mut self, key: CommandKey) {
        let live = self.deliveries.get(&key).and_then(|delivery| delivery.live_flow(key));
        if let Some(report) = live {
            return self.outbox.push(None, report);
        }
        let fetch = self.deliveries.get(&key).and_then(|delivery| delivery.fetch.as_ref());
        let Some((fetch, source)) = fetch.and_then(|fetch| Some((fetch, fetch.source()?))) else {
            return;
        };
        let report = Report::Fetching {
            key,
            offset: fetch.have(),
            source: source.node.clone(),
            cause: SwitchCause::First,
            before: 0,
        };
        self.outbox.push(None, report);
    }

    pub(super) fn handle_sources(
        &mut self,
        content: ContentId,
        epoch: Epoch,
        sources: Vec<Source>,
        now: Mono,
        out: &mut Vec<Action>,
    ) {
        let is_old = self.plans.get(&content).is_some_and(|(known, _)| epoch < *known);
        let is_strange = !self.contents.contains_key(&content);
        if is_old || (is_strange && self.plans.len() >= self.contents.len() + PLANS_MAX) {
            return;
        }
        self.note_plan(content, epoch, &sources);
        let sources = self.edges.in_order(&sources, now);
        let Some((key, delivery)) = self.of_content(content) else { return };
        match (delivery.stage, delivery.retry_at) {
            (Stage::Fetching, _) => self.with_fetch(content, now, out, |fetch, actions| {
                fetch.handle_sources(epoch, sources, now, actions);
            }),
            // Somebody has come back, or there are new capabilities. Not at once: plans may follow
            // failures.
            (Stage::RetryWait, Some(at)) if at > now + PLAN_PAUSE => {
                self.retries.remove(&(at, key));
                self.retries.insert((now + PLAN_PAUSE, key));
                if let Some(delivery) = self.deliveries.get_mut(&key) {
                    delivery.retry_at = Some(now + PLAN_PAUSE);
                }
            }
            _ => self.consider(key, now, out),
        }
    }

    pub(super) fn handle_cancel(&mut self, key: CommandKey, now: Mono, out: &mut Vec<Action>) {
        let report = Report::Cancelled { key };
        let Some(known) = self.deliveries.get_mut(&key) else {
            return self.outbox.push(None, report);
        };
        match (known.stage.next(Input::Cancel), &known.end) {
            (Some(_), _) => {
                self.stop_fetch(key, out);
                self.move_on(key, Input::Cancel);
                self.end(key, Record::Cancelled { key }, report, now, out);
                self.begin(now, out);
            }
            // Too late: what has been done is said.
            (None, Some(Record::Completed { receipt, .. })) => {
                if std::mem::take(&mut known.is_taken) {
                    let report = Report::Completed { receipt: receipt.clone() };
                    self.outbox.push(Some(key), report);
                }
            }
            (None, Some(_)) => {
                if std::mem::take(&mut known.is_taken) {
                    self.outbox.push(Some(key), report);
                }
            }
            // It is being applied: its end will be said.
            (None, None) => {}
        }
    }

    pub(super) fn handle_forget(&mut self, job: JobId, now: Mono, out: &mut Vec<Action>) {
        let from = CommandKey { job, command: CommandId(0) };
        let to = CommandKey { job, command: CommandId(u32::MAX) };
        let keys: Vec<_> = self.deliveries.range(from..=to).map(|(key, _)| *key).collect();
        self.note_forgotten(job);
        let had_servers = self.servers.remove(&job).is_some();
        if !self.limits.forget(job) && !had_servers && keys.is_empty() {
            return;
        }
        for key in keys {
            let is_open = self.deliveries.get(&key).is_some_and(|known| !known.stage.is_ended());
            if is_open {
                self.stop_fetch(key, out);
                self.move_on(key, Input::Cancel);
                self.close(key, now, out);
            }
            self.forget(key, out);
        }
        self.ended.retain(|key| key.job != job);
        self.journal(Record::Forget { job }, out);
        self.follow_limits(now, out);
    }

    /// Does what terms of jobs say now: fetches of a job that closes wait at their offsets, those
    /// of one that opens go on.
    pub(super) fn follow_limits(&mut self, now: Mono, out: &mut Vec<Action>) {
        for Changed { job, limit, priority, is_open } in self.limits.changed(now) {
            out.push(Action::Limit { job, limit });
            let of_job = CommandKey { job, command: CommandId(0) }..=CommandKey {
                job,
                command: CommandId(u32::MAX),
            };
            let keys: Vec<_> = self.deliveries.range(of_job).map(|(key, _)| *key).collect();
            let is_capped = self.limits.has_rate(job);
            for key in keys {
                let fetch = self.deliveries.get_mut(&key).and_then(|known| known.fetch.as_mut());
                fetch.into_iter().for_each(|fetch| fetch.set_capped(is_capped));
                self.set_priority(key, priority);
                if is_open {
                    self.consider(key, now, out);
                } else {
                    self.hold_back(key, out);
                }
            }
        }
    }

    /// A put that waits is fetched before those of less priority from now on.
    fn set_priority(&mut self, key: CommandKey, priority: Option<u8>) {
        let Some(delivery) = self.deliveries.get_mut(&key) else { return };
        let priority = priority.unwrap_or(delivery.priority);
        let before = std::mem::replace(&mut delivery.priority, priority);
        if self.ready.remove(&(Reverse(before), key)) {
            self.ready.insert((Reverse(priority), key));
        }
    }

    /// A put is not fetched for now. What it has stays.
    pub(super) fn hold_back(&mut self, key: CommandKey, out: &mut Vec<Action>) {
        let Some(delivery) = self.deliveries.get(&key) else { return };
        self.ready.remove(&(Reverse(delivery.priority), key));
        if delivery.stage != Stage::Fetching {
            return;
        }
        self.stop_fetch(key, out);
        self.move_on(key, Input::Hold);
        if let Some(delivery) = self.deliveries.get(&key) {
            let report = Report::Progress { key, offset: delivery.told, rate: 0 };
            self.outbox.push(None, report);
        }
    }

    /// Removes a command from memory; its content may go.
    pub(super) fn forget(&mut self, key: CommandKey, out: &mut Vec<Action>) {
        let Some(delivery) = self.deliveries.remove(&key) else { return };
        if let Some(content) = delivery.content {
            self.contents.remove(&content);
            self.plans.remove(&content);
            self.surveys.end(content);
            out.push(Action::Discard { content });
        }
    }
}

/// Plans of contents whose commands are not known.
const PLANS_MAX: usize = 1_024;
/// Between a plan and the attempt that it brings forward.
const PLAN_PAUSE: Duration = Duration::from_secs(1);
