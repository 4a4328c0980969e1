//! What a node has to go on by when its base is away.
//!
//! ```text
//! Sources --> plan --each second, at once without the base--> journal --> a start fetches on
//! Servers --> other nodes of the job --sources used up--> survey --> a plan of its own
//! no connection to a source --> barred: others are tried first, and the base is told
//! ```
//! Invariant: any plan of the base takes the place of one that the node has made, or has journaled.
//! Bounds: `NOTED_AT_ONCE` plans are journaled in one go; `LISTED_MAX` sources are in a plan;
//! `JOBS_MAX` server lists.

use std::time::Duration;

use super::stage::Stage;
use super::survey::{Found, Question};
use super::{Action, Agent};
use crate::base::time::Mono;
use crate::dist::fetch::{AskId, LinkId};
use crate::dist::ids::{CommandKey, ContentId, Epoch, JobId};
use crate::dist::journal::Record;
use crate::dist::wire::agent::{Report, ServerList, Source, short_list};
use crate::dist::wire::peer::ContentState;

impl Agent {
    /// Takes other nodes of a job.
    pub(super) fn handle_servers(
        &mut self,
        job: JobId,
        list_version: u32,
        servers: ServerList,
        out: &mut Vec<Action>,
    ) {
        let known = self.servers.get(&job);
        let is_old = known.is_some_and(|(version, list)| {
            list_version < *version || list_version == *version && servers == *list
        });
        if is_old || known.is_none() && self.servers.len() >= JOBS_MAX {
            return;
        }
        self.servers.insert(job, (list_version, servers.clone()));
        self.journal(Record::Servers { job, list_version, servers }, out);
    }

    /// Keeps a plan. It is journaled a moment later: most contents are there by then.
    pub(super) fn note_plan(&mut self, content: ContentId, epoch: Epoch, sources: &[Source]) {
        let before = self.plans.insert(content, (epoch, sources.to_vec()));
        let is_new = before.is_none_or(|(_, known)| known != sources);
        if is_new && self.contents.contains_key(&content) {
            self.unnoted.insert(content);
        }
    }

    /// Lets time pass.
    pub(super) fn go_on_alone(&mut self, now: Mono, out: &mut Vec<Action>) {
        self.journal_plans(now, out);
        self.follow_surveys(now, out);
        if self.edges.expire(now) {
            self.sort_sources(now, out);
        }
    }

    /// No connection to the source of a link can be made.
    pub(super) fn bar(
        &mut self,
        content: ContentId,
        link: LinkId,
        now: Mono,
        out: &mut Vec<Action>,
    ) {
        if let Some(source) = self.edges.failed(content, link, now) {
            self.outbox.push(None, Report::Unreachable { source });
            self.sort_sources(now, out);
        }
    }

    /// Asks other nodes of the job for a content whose sources are used up. The base is the last of
    /// them: so it does not give the content now, whether it is there or not.
    pub(super) fn look_for_sources(&mut self, key: CommandKey, now: Mono, out: &mut Vec<Action>) {
        let Some(delivery) = self.deliveries.get(&key) else { return };
        if delivery.stage != Stage::RetryWait {
            return;
        }
        let Some(content) = delivery.content else { return };
        let plan = self.plans.get(&content).map(|(_, sources)| sources);
        let (Some(plan), Some((_, servers))) = (plan, self.servers.get(&key.job)) else { return };
        let Some(capability) = plan.first().map(|source| &source.capability) else { return };
        let servers = servers.as_slice();
        let place = servers.iter().position(|server| server.node == self.me).unwrap_or(0);
        let (before, behind) = servers.split_at(place);
        // Each node begins behind itself: they do not all ask the same one.
        let others = behind.iter().chain(before).filter(|server| server.node != self.me);
        let others = others
            .filter(|server| plan.iter().all(|source| source.node.as_ref() != Some(&server.node)));
        let others = others.map(|server| Source {
            node: Some(server.node.clone()),
            addr: server.addr.clone(),
            capability: capability.clone(),
            rate: 0,
            is_last_resort: false,
        });
        let others = others.filter(|source| !self.edges.is_barred(source, now)).collect();
        let questions = self.surveys.begin(content, delivery.told, others, now);
        put(content, questions, out);
    }

    /// Takes the answer of a node of the job.
    pub(super) fn handle_survey(
        &mut self,
        content: ContentId,
        ask: AskId,
        state: Option<&ContentState>,
        now: Mono,
        out: &mut Vec<Action>,
    ) {
        let questions = self.surveys.answer(content, ask, state, (&self.me, now));
        put(content, questions, out);
        self.follow_surveys(now, out);
    }

    /// Fetches from where surveys have found more.
    fn follow_surveys(&mut self, now: Mono, out: &mut Vec<Action>) {
        for Found { content, sources } in self.surveys.take_over(now) {
            let known = self.of_content(content);
            let waits = known.filter(|(_, known)| known.stage == Stage::RetryWait);
            let Some(key) = waits.map(|(key, _)| key).filter(|_| !sources.is_empty()) else {
                continue;
            };
            let Some((epoch, plan)) = self.plans.get(&content).cloned() else { continue };
            // The base is the last of a plan.
            let room = LISTED_MAX.saturating_sub(sources.len());
            let kept = plan.into_iter().rev().take(room).rev();
            let list: Vec<Source> = sources.into_iter().chain(kept).collect();
            self.note_plan(content, epoch, &list);
            self.hasten(key, now);
        }
        self.begin(now, out);
    }

    /// Journals plans of contents that are still on their way.
    fn journal_plans(&mut self, now: Mono, out: &mut Vec<Action>) {
        let is_due = !self.is_online || now.since(self.plans_noted_at) >= NOTED_EVERY;
        if !is_due || self.unnoted.is_empty() {
            return;
        }
        self.plans_noted_at = now;
        for _ in 0..NOTED_AT_ONCE {
            let Some(content) = self.unnoted.pop_first() else { return };
            let is_open = self.of_content(content).is_some_and(|(_, it)| !it.stage.is_ended());
            let plan = self.plans.get(&content).filter(|_| is_open);
            if let Some((_, sources)) = plan {
                let sources = short_list(sources.clone());
                self.journal(Record::Plan { content, sources }, out);
            }
        }
    }

    /// What is barred has changed: contents that are being fetched have other lists.
    fn sort_sources(&mut self, now: Mono, out: &mut Vec<Action>) {
        for key in self.fetching.iter().copied().collect::<Vec<_>>() {
            let content = self.deliveries.get(&key).and_then(|delivery| delivery.content);
            let Some(content) = content else { continue };
            let Some((epoch, sources)) = self.plans.get(&content) else { continue };
            let (epoch, sources) = (*epoch, self.edges.in_order(sources, now));
            // Under the same epoch this changes no link.
            self.with_fetch(content, now, out, |fetch, actions| {
                fetch.handle_sources(epoch, sources, now, actions);
            });
        }
    }
}

/// Questions of a survey.
fn put(content: ContentId, questions: Vec<Question>, out: &mut Vec<Action>) {
    let asks = questions.into_iter();
    out.extend(asks.map(|Question { ask, source }| Action::Ask { content, ask, source }));
}

/// Between two rounds of journaling plans, while the base is there.
const NOTED_EVERY: Duration = Duration::from_secs(1);
const NOTED_AT_ONCE: usize = 1_024;
/// Sources of a plan: what a survey found, and those that the base named.
const LISTED_MAX: usize = 8;
/// As many jobs as a base has.
const JOBS_MAX: usize = 20_000;
