//! The parts of a book, and what one of them has to do with the others.
//!
//! ```text
//! a delivery changes --> totals of its command and job --> the command's state, if it changed
//!        |                                            `--> the job, when nothing is open any more
//!        `--> row, event, plan of the content
//! ```
//! Invariants: every change of a delivery's state goes through [`Parts::advance`], every change of
//! a job's through [`Parts::change_job`]; so no row, event or plan is forgotten.

use serde_json::{Value, json};

use crate::dist::book::contents::Contents;
use crate::dist::book::effects::{About, Effects};
use crate::dist::book::flows::Flows;
use crate::dist::book::hooks::Hooks;
use crate::dist::book::jobs::Jobs;
use crate::dist::book::link::BaseLink;
use crate::dist::book::live::{LivePlanner, Lives};
use crate::dist::book::measure::{bound_permille, egress_permille, from_permille};
use crate::dist::book::nodes::{NodeId, Nodes};
use crate::dist::book::options::{BookOptions, ns};
use crate::dist::book::planner::Planner;
use crate::dist::book::records::Delivery;
use crate::dist::book::relays::Relays;
use crate::dist::book::tenants::Tenants;
use crate::dist::book::terms::Tell;
use crate::dist::book::views::Views;
use crate::dist::book::wait;
use crate::dist::delivery::DeliveryInput;
use crate::dist::ids::{CommandKey, JobId, NodeName, Stamp};
use crate::dist::job::JobInput;
use crate::dist::keys::BaseKeys;
use crate::dist::reflect::ORIGIN_NAME;
use crate::dist::rows::Change;
use crate::dist::wire::agent::NodeOrder;
use crate::dist::wire::job::{DeliveryState, EventView, JobState, NodeState, Reason};

/// See the module.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) options: BookOptions,
    pub(super) keys: BaseKeys,
    pub(super) fx: Effects,
    pub(super) nodes: Nodes,
    pub(super) jobs: Jobs,
    pub(super) contents: Contents,
    pub(super) flows: Flows,
    pub(super) lives: Lives,
    pub(super) hooks: Hooks,
    pub(super) tenants: Tenants,
    pub(super) relays: Relays,
}

impl Parts {
    /// Without jobs and nodes, behind the last event of a ledger.
    pub(super) fn new(
        keys: BaseKeys,
        options: BookOptions,
        last_event: Option<&EventView>,
        at: Stamp,
    ) -> Self {
        Self {
            fx: Effects::new(options.seed, last_event, at),
            nodes: Nodes::new(options.limits.nodes, ns(options.timeouts.down)),
            jobs: Jobs::default(),
            contents: Contents::default(),
            flows: Flows::new(BaseLink::new(options.up_rate)),
            lives: Lives::default(),
            hooks: Hooks::default(),
            tenants: Tenants::default(),
            relays: Relays::default(),
            keys,
            options,
        }
    }

    pub(super) fn planner(&mut self) -> Planner<'_> {
        Planner {
            flows: &mut self.flows,
            fx: &mut self.fx,
            jobs: &self.jobs,
            contents: &self.contents,
            nodes: &self.nodes,
            keys: &self.keys,
            options: &self.options,
        }
    }

    pub(super) fn live(&mut self) -> LivePlanner<'_> {
        LivePlanner {
            lives: &mut self.lives,
            flows: &mut self.flows,
            fx: &mut self.fx,
            jobs: &self.jobs,
            nodes: &self.nodes,
            keys: &self.keys,
            options: &self.options,
        }
    }

    /// A node takes part in all plans again.
    pub(super) fn join_all(&mut self, node: NodeId) {
        self.planner().join_all(node);
        self.live().join_all(node);
    }

    /// A node takes part in no plan any more.
    pub(super) fn leave_all(&mut self, node: NodeId) {
        self.planner().leave_all(node);
        self.live().leave_all(node);
    }

    /// What this client may see.
    pub(super) fn views<'a>(&'a self, client: &'a str) -> Views<'a> {
        Views { jobs: &self.jobs, nodes: &self.nodes, contents: &self.contents, client }
    }

    pub(super) fn is_live(&self, node: NodeId) -> bool {
        self.nodes.is_live(node, self.fx.now)
    }

    /// Takes an input of a delivery. `edit` changes what else belongs to it. Gives the new state;
    /// `None` when the input has no effect: then nothing is changed.
    pub(super) fn advance(
        &mut self,
        key: CommandKey,
        node: NodeId,
        input: DeliveryInput,
        edit: impl FnOnce(&mut Delivery),
    ) -> Option<DeliveryState> {
        let step = self.jobs.step((key, node), input, self.fx.now, edit)?;
        self.keep_delivery(key, node);
        if matches!(input, DeliveryInput::Journaled | DeliveryInput::Receipt) {
            self.note_step(node);
        }
        let kind = match input {
            DeliveryInput::Again => "delivery.retried".to_owned(),
            _ => format!("delivery.{}", step.to.as_str()),
        };
        self.delivery_event(&kind, key, node, None);
        if let Some(state) = step.command {
            let kind = format!("command.{}", state.as_str());
            self.fx.event(&kind, About::command(key), json!({}));
        }
        if let Some(content) = step.content.filter(|_| !step.to.is_open()) {
            self.planner().ended(content, node, step.to);
        }
        if !step.to.is_open() && self.is_of_live(key) {
            self.live().ended(key, node);
        }
        Some(step.to)
    }

    /// The row of a delivery is to be written.
    pub(super) fn keep_delivery(&mut self, key: CommandKey, node: NodeId) {
        let Some(delivery) = self.jobs.delivery(key, node) else { return };
        let Some(name) = self.nodes.name_of(node) else { return };
        let source = delivery.source.and_then(|id| self.nodes.name_of(id));
        let row = delivery.row(key, name.clone(), source.cloned());
        self.fx.keep(Change::Delivery(row));
    }

    /// An event of a delivery, with what matters of it in its state.
    pub(super) fn delivery_event(
        &mut self,
        kind: &str,
        key: CommandKey,
        node: NodeId,
        more: Option<(&str, Value)>,
    ) {
        let Some(name) = self.nodes.name_of(node) else { return };
        let Some(delivery) = self.jobs.delivery(key, node) else { return };
        let mut detail = serde_json::Map::new();
        let is_moving = delivery.offset > 0 || delivery.state == DeliveryState::Fetching;
        if is_moving {
            detail.insert("offset".to_owned(), json!(delivery.offset));
        }
        if delivery.state == DeliveryState::Fetching {
            let source = delivery.source.and_then(|id| self.nodes.name_of(id));
            let top = if self.is_of_live(key) { ORIGIN_NAME } else { BASE_NAME };
            let source = source.map_or(top, NodeName::as_str);
            detail.insert("source".to_owned(), json!(source));
        }
        if let Some(reason) = delivery.reason {
            detail.insert("reason".to_owned(), json!(reason));
            detail.insert("attempts".to_owned(), json!(delivery.attempts));
        }
        if let Some(text) = &delivery.detail {
            detail.insert("text".to_owned(), json!(text));
        }
        // With the receipt itself the chain proves what the node signed.
        if let Some(receipt) = delivery.receipt.as_deref().filter(|_| !delivery.state.is_open()) {
            detail.insert("receipt".to_owned(), json!(receipt.receipt));
            detail.insert("signature".to_owned(), json!(receipt.signature));
        }
        detail.extend(more.map(|(name, value)| (name.to_owned(), value)));
        self.fx.event(kind, About::delivery(key, name), Value::Object(detail));
    }

    /// Ends all open deliveries of a command with this reason, or as withdrawn without one. Nodes
    /// are told.
    pub(super) fn end_deliveries(&mut self, key: CommandKey, reason: Option<Reason>, text: &str) {
        // Nobody needs its plan: it is not made anew for each node that leaves it.
        if let Some(content) = self.jobs.content_of(key) {
            self.flows.end(content);
        }
        self.lives.end(key);
        for node in self.jobs.open_targets(key) {
            let input = match reason {
                Some(_) => DeliveryInput::Fatal,
                None => DeliveryInput::Cancel,
            };
            self.advance(key, node, input, |delivery| {
                delivery.reason = reason;
                delivery.detail = reason.map(|_| text.into());
            });
            self.nodes.say_end(node, NodeOrder::Cancel { key }, &mut self.fx);
        }
    }

    /// A command is open at a node that is none any more.
    pub(super) fn fail_at_retired(&mut self, key: CommandKey, node: NodeId) {
        self.advance(key, node, DeliveryInput::Fatal, |delivery| {
            delivery.reason = Some(Reason::NodeRetired);
        });
    }

    /// Ends a closing job when nothing of it is open.
    pub(super) fn settle(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(id) else { return };
        if job.row.state != JobState::Closing || job.totals.open() > 0 {
            return;
        }
        let has_failed = job.totals.failed > 0;
        let input = if has_failed { JobInput::SomeFailed } else { JobInput::AllCompleted };
        self.change_job(id, input);
    }

    /// Takes an input of a job. No effect when it has none in the job's state.
    pub(super) fn change_job(&mut self, id: JobId, input: JobInput) {
        let Some(state) = self.jobs.step_job(id, input, self.fx.now.utc_ns) else { return };
        let mut detail = json!({});
        let mut terms = Tell { parts: &mut *self, job: id };
        if state.is_live() {
            terms.renew();
        } else {
            terms.end();
            detail = self.measure(id);
            self.end_of_contents(id, state);
        }
        if state == JobState::Closing {
            self.live().finish(id);
        }
        let Some(job) = self.jobs.get(id) else { return };
        let has_open = job.totals.open() > 0;
        self.fx.keep(Change::Job(job.row.clone()));
        self.fx.event(&format!("job.{}", state.as_str()), About::job(id), detail);
        if state == JobState::Closing && has_open {
            wait::begin(self, id);
        }
    }

    /// A delivery that had failed is open again, and its node is told.
    pub(super) fn begin_again(&mut self, key: CommandKey, node: NodeId) {
        self.advance(key, node, DeliveryInput::Again, |delivery| {
            delivery.attempts = 0;
            delivery.reason = None;
            delivery.detail = None;
            delivery.receipt = None;
            delivery.is_fresh = true;
        });
        if let Some(record) = self.nodes.get_mut(node) {
            record.drop_end(&NodeOrder::Cancel { key });
        }
        self.say_command(key, node);
    }

    /// An upload of the job goes on.
    pub(super) fn is_uploading(&self, id: JobId) -> bool {
        let commands = self.jobs.get(id).into_iter().flat_map(|job| &job.commands);
        let mut contents = commands.filter_map(|command| self.contents.get(command.row.content?));
        contents.any(|content| !content.has_ended())
    }

    /// A delivery of the node has taken a step forward.
    pub(super) fn note_step(&mut self, node: NodeId) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.care.note_step();
        }
    }

    /// Totals and ratios of a job that has ended.
    fn measure(&mut self, id: JobId) -> Value {
        let base_up = self.flows.base.known();
        let Some(job) = self.jobs.get_mut(id) else { return Value::Null };
        let bound_ratio = bound_permille(job, &self.nodes, base_up);
        job.row.bound_ratio = bound_ratio.map(from_permille);
        job.row.base_egress_ratio = egress_permille(job).map(from_permille);
        // Whoever reads the end of the job knows when to ask again.
        let failed = job.targets.iter().filter_map(|node| self.nodes.get(*node));
        let failed = failed.filter(|node| node.row.state == NodeState::FailedHw);
        let away = failed.take(AWAY_MAX).map(
            |node| json!({"node": node.row.name, "expected_back_ns": node.care.expected_back_ns}),
        );
        let away: Vec<Value> = away.collect();
        json!({
            "completed": job.totals.completed,
            "failed": job.totals.failed,
            "cancelled": job.totals.cancelled,
            "bytes": job.content_bytes,
            "bound_ratio_permille": bound_ratio,
            "away": away,
        })
    }

    /// What nodes and the store need not keep of a job that has ended.
    fn end_of_contents(&mut self, id: JobId, state: JobState) {
        match state {
            JobState::Completed => self.forget_at_nodes(id),
            JobState::Cancelled => {
                self.forget_at_nodes(id);
                self.expire_contents(id);
            }
            // Kept for a retry.
            JobState::CompletedWithFailures
            | JobState::Requested
            | JobState::Denied
            | JobState::Open
            | JobState::Closing => {}
        }
    }

    /// Nodes need not keep anything of a job any more.
    pub(super) fn forget_at_nodes(&mut self, id: JobId) {
        for node in self.jobs.get(id).into_iter().flat_map(|job| &job.targets) {
            self.nodes.say_end(*node, NodeOrder::Forget { job: id }, &mut self.fx);
        }
    }

    /// The bytes of a job's contents may go.
    pub(super) fn expire_contents(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        if std::mem::replace(&mut job.is_expired, true) {
            return;
        }
        for content in job.commands.iter().filter_map(|command| command.row.content) {
            // Those that were abandoned went before.
            if self.contents.row(content).is_some_and(|row| !row.is_abandoned) {
                self.flows.end(content);
                self.fx.expire(content);
            }
        }
    }

    /// Tells the nodes of a job which others it has.
    pub(super) fn say_servers(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(id) else { return };
        for first in job.groups() {
            self.say_neighbours(id, first);
        }
    }

    /// Tells the server of a job at this place, and those that know of it, of each other.
    pub(super) fn say_neighbours(&mut self, id: JobId, place: usize) {
        let Some(job) = self.jobs.get(id) else { return };
        let (list_version, servers) = (job.row.list_version, job.neighbours_of(place));
        for server in servers.as_slice() {
            let node = usize::try_from(server.index).ok().and_then(|at| job.targets.get(at));
            let Some(node) = node.filter(|node| self.nodes.is_live(**node, self.fx.now)) else {
                continue;
            };
            let order = NodeOrder::Servers { job: id, list_version, servers: servers.clone() };
            self.nodes.say(*node, order, &mut self.fx);
        }
    }

    /// Which other nodes a job has, for one of them.
    pub(super) fn servers_order(&self, id: JobId, node: NodeId) -> Option<NodeOrder> {
        let job = self.jobs.get(id)?;
        let servers = job.neighbours_of(*job.places.get(&node)?);
        Some(NodeOrder::Servers { job: id, list_version: job.row.list_version, servers })
    }

    /// Tells a node a command, and where its content comes from.
    pub(super) fn say_command(&mut self, key: CommandKey, node: NodeId) {
        if !self.is_live(node) {
            return;
        }
        for order in self.command_orders(key, node) {
            self.nodes.say(node, order, &mut self.fx);
        }
    }

    /// A command, and where its content comes from.
    pub(super) fn command_orders(&mut self, key: CommandKey, node: NodeId) -> Vec<NodeOrder> {
        let mut orders: Vec<_> = self.command_order(key).into_iter().collect();
        if let Some(content) = self.jobs.content_of(key) {
            let mut planner = self.planner();
            planner.join(content, node);
            orders.extend(planner.sources_order(content, node));
        }
        orders.extend(self.live().order(key, node));
        orders
    }

    /// A node is to be done with the command: a live path goes on until its job is ended.
    pub(super) fn is_waited_for(&self, key: CommandKey) -> bool {
        let is_open = self.jobs.get(key.job).is_some_and(|job| job.row.state == JobState::Open);
        !is_open || !self.is_of_live(key)
    }

    /// The command brings a live path.
    pub(super) fn is_of_live(&self, key: CommandKey) -> bool {
        self.jobs.command(key).is_some_and(|command| command.row.op.is_live())
    }

    /// A command, as nodes are told it.
    pub(super) fn command_order(&self, key: CommandKey) -> Option<NodeOrder> {
        let job = self.jobs.get(key.job)?;
        let row = &job.command(key.command)?.row;
        let content = row.content.and_then(|id| self.contents.row(id));
        Some(NodeOrder::Command {
            key,
            sequence: job.row.policy.order,
            priority: job.row.policy.priority,
            op: row.op.clone(),
            content: row.content,
            size: content.and_then(|content| content.size),
        })
    }
}

/// Nodes that the end of a job names.
const AWAY_MAX: usize = 100;
/// How the base is called where nodes are named.
pub(super) const BASE_NAME: &str = "base";
