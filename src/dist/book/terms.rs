//! What a job may take, and when: its policy as terms, for nodes and for the uplink of the base.
//!
//! ```text
//! accepted, changed, opened or closed by its window, read from rows --> Terms
//!       `--> nodes that live: order      uplink of the base: share      deliveries: not stalled
//! changed rates --> plans of contents on their way are made for them
//! ```
//! Invariants: nodes are told terms before the commands of the job, and again with all that is
//! open, those of each job that has not ended; a job that is closed has no delivery that counts as
//! slow or stalled. Bound: a job is looked at when its window changes, not each second.

use std::collections::BTreeSet;

use serde_json::json;

use crate::dist::book::effects::About;
use crate::dist::book::nodes::NodeId;
use crate::dist::book::parts::Parts;
use crate::dist::ids::{Epoch, JobId};
use crate::dist::rows::Change;
use crate::dist::terms::Terms;
use crate::dist::uplink::Share;
use crate::dist::wire::agent::NodeOrder;
use crate::dist::wire::job::{Limit, Policy};

/// Terms of a job, as they were last said.
#[derive(Debug)]
pub(super) struct JobTerms {
    terms: Terms,
    epoch: Epoch,
    is_open: bool,
    /// UTC nanoseconds since when it is open behind a pause.
    opened_at_ns: i64,
    /// The uplink of the base knows of the job.
    is_shared: bool,
    /// UTC nanoseconds at which that changes by the window.
    pub(super) change_ns: Option<i64>,
}

/// A job whose terms are to be told.
#[derive(Debug)]
pub(super) struct Tell<'a> {
    pub(super) parts: &'a mut Parts,
    pub(super) job: JobId,
}

impl JobTerms {
    /// Of a job of which nothing was said.
    pub(super) fn new() -> Self {
        Self {
            terms: Terms::default(),
            epoch: Epoch(0),
            is_open: true,
            opened_at_ns: 0,
            is_shared: false,
            change_ns: None,
        }
    }

    /// Transfers of the job may go on.
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// UTC nanoseconds since when they may; long ago for a job that was never closed.
    pub(super) fn opened_at_ns(&self) -> i64 {
        self.opened_at_ns
    }

    /// What holds the job back.
    pub(super) fn limit(&self) -> Option<Limit> {
        let has_rate = self.terms.max_rate.is_some() || self.terms.per_node_rate.is_some();
        match (self.terms.is_paused, self.is_open) {
            (true, _) => Some(Limit::Paused),
            (false, false) => Some(Limit::Window { opens_at_ns: self.change_ns }),
            (false, true) => has_rate.then_some(Limit::Rate),
        }
    }

    /// Takes terms that count from `utc_ns` on. False when they say what was said.
    fn take(&mut self, terms: Terms, epoch: Epoch, utc_ns: i64) -> bool {
        let (is_open, before) =
            (terms.is_open_at(utc_ns), std::mem::replace(&mut self.terms, terms));
        self.change_ns = self.terms.hours.as_ref().and_then(|hours| hours.next_change_ns(utc_ns));
        let was_open = std::mem::replace(&mut self.is_open, is_open);
        if is_open && !was_open {
            self.opened_at_ns = utc_ns;
        }
        let is_new = before != self.terms || was_open != is_open;
        // Nodes may have kept something of a start of before: each start has epochs of its own.
        if is_new || self.epoch == Epoch(0) {
            self.epoch = epoch;
        }
        is_new
    }
}

impl Tell<'_> {
    /// Looks at the policy of the job, and tells what it says now, where that is new.
    pub(super) fn renew(&mut self) {
        let now = self.parts.fx.now;
        let epoch = self.parts.fx.new_epoch();
        let Some(job) = self.parts.jobs.get_mut(self.job) else { return };
        if !job.row.state.is_live() {
            return;
        }
        let was_open = job.terms.is_open;
        let terms = Terms::of(&job.row.policy, now.utc_ns);
        if !job.terms.take(terms, epoch, now.utc_ns) {
            return;
        }
        job.terms.is_shared = true;
        let (change_ns, is_open) = (job.terms.change_ns, job.terms.is_open);
        if is_open && !was_open {
            job.begin_again(now.mono_ns);
        }
        let targets = job.targets.clone();
        self.parts.jobs.look_at(self.job, change_ns);
        self.parts.fx.share(self.job, self.share());
        for node in targets {
            if let Some(order) = self.order() {
                self.parts.nodes.say(node, order, &mut self.parts.fx);
            }
        }
    }

    /// The policy of the job has become this.
    pub(super) fn change(&mut self, policy: Policy) {
        let Some(job) = self.parts.jobs.get_mut(self.job) else { return };
        if job.row.policy == policy {
            return;
        }
        let rates = |policy: &Policy| (policy.max_rate, policy.per_node_rate);
        let has_other_rates = rates(&job.row.policy) != rates(&policy);
        job.row.policy = policy;
        let row = job.row.clone();
        let detail = json!({"policy": row.policy});
        self.parts.fx.keep(Change::Job(row));
        self.parts.fx.event("job.changed", About::job(self.job), detail);
        self.renew();
        if has_other_rates {
            self.parts.planner().plan_again(self.job);
        }
    }

    /// The terms, as nodes are told them.
    pub(super) fn order(&self) -> Option<NodeOrder> {
        let terms = &self.parts.jobs.get(self.job)?.terms;
        Some(NodeOrder::Terms { job: self.job, epoch: terms.epoch, terms: terms.terms.clone() })
    }

    /// The job has ended: its share of the uplink is free.
    pub(super) fn end(&mut self) {
        let Some(job) = self.parts.jobs.get_mut(self.job) else { return };
        let before = std::mem::replace(&mut job.terms, JobTerms::new());
        if before.is_shared {
            self.parts.jobs.look_at(self.job, None);
            self.parts.fx.share(self.job, None);
        }
    }

    fn share(&self) -> Option<Share> {
        let terms = &self.parts.jobs.get(self.job)?.terms;
        Some(Share { is_open: terms.is_open, ..terms.terms.share() })
    }
}

/// Terms and server lists of all jobs that a node may fetch or serve, as it is told them with all
/// that is open. Those of a job that has no command yet are among them: its commands are told
/// without.
pub(super) fn orders_for(parts: &mut Parts, node: NodeId) -> Vec<NodeOrder> {
    let mut jobs: BTreeSet<JobId> = parts.jobs.live_at(node).collect();
    let served = parts.flows.of_node(node).into_iter();
    jobs.extend(served.filter_map(|content| parts.contents.row(content)).map(|row| row.key.job));
    let orders = jobs.into_iter().flat_map(|job| {
        let terms = Tell { parts: &mut *parts, job }.order();
        [terms, parts.servers_order(job, node)].into_iter().flatten()
    });
    orders.collect()
}

/// Windows that have opened or closed.
pub(super) fn follow_windows(parts: &mut Parts) {
    let now_ns = parts.fx.now.utc_ns;
    for job in parts.jobs.take_due_windows(now_ns) {
        Tell { parts: &mut *parts, job }.renew();
    }
}
