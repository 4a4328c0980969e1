//! What clients ask: jobs, their commands, their end, withdrawal and retry.
//!
//! Invariant: a request is checked whole before anything of it is done. A job belongs to the client
//! (the name of its token) that asked for it: to others it is unknown.

use std::collections::HashMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use crate::dist::book::effects::About;
use crate::dist::book::records::{
    Command, Content, Delivery, Job, Measure, Node, NodeId, command_at,
};
use crate::dist::book::{Book, Refusal};
use crate::dist::command::{check_attributes, check_path};
use crate::dist::delivery::DeliveryInput;
use crate::dist::ids::{CommandKey, ContentId, JobId, NodeName, Stamp};
use crate::dist::job::JobInput;
use crate::dist::rows::{Change, CommandRow, ContentRow, JobRow};
use crate::dist::wire::agent::NodeOrder;
use crate::dist::wire::job::{
    CommandAccepted, CommandRequest, CommandView, DeliveryState, JobRequest, JobState, JobView,
    NodeState, Op, ServerView, Targets, Totals,
};

impl Book {
    /// Takes a job, or gives the one that the client asked for under the same `client_ref`.
    ///
    /// # Errors
    /// Targets, policy or `client_ref` are not valid; the base is full. An event names the reason.
    pub fn request_job(
        &mut self,
        client: &str,
        request: JobRequest,
        at: Stamp,
    ) -> Result<JobView, Refusal> {
        self.fx.now = at;
        if let Some(name) = &request.client_ref
            && let Some(id) = self.job_refs.get(&(client.to_owned(), name.clone()))
        {
            return self.job_view(client, *id);
        }
        let targets = self.check_job(&request).inspect_err(|refusal| {
            let detail = json!({"client": client, "reason": refusal.reason()});
            self.fx.event("job.denied", About::default(), detail);
        })?;
        let id = JobId(self.fx.new_id());
        let servers = (0..).zip(&targets).filter_map(|(index, node)| {
            let row = &self.node_at(*node)?.row;
            let up_rate = super::flow::planned_rate(row.up_rate_cap, row.up_rate_seen);
            Some(ServerView { index, node: row.name.clone(), addr: row.addr.clone(), up_rate })
        });
        let deadline_ns = request.deadline_s.map(|s| {
            let wait_ns = i64::try_from(s).unwrap_or(i64::MAX).saturating_mul(NS_PER_S_SIGNED);
            at.utc_ns.saturating_add(wait_ns)
        });
        let row = JobRow {
            id,
            client: client.to_owned(),
            client_ref: request.client_ref,
            state: JobState::Requested,
            servers: servers.collect(),
            list_version: 1,
            policy: request.policy,
            created_at_ns: at.utc_ns,
            deadline_ns,
            ended_at_ns: None,
            bound_ratio: None,
            base_egress_ratio: None,
        };
        let nodes: Vec<_> = row.servers.iter().map(|server| server.node.clone()).collect();
        self.add_job(row, targets, Some(Measure::default()));
        let Some(job) = self.jobs.get_mut(&id) else { return Err(Refusal::UnknownJob(id)) };
        job.row.state = JobState::Requested.next(JobInput::Accept).unwrap_or(JobState::Open);
        self.fx.keep(Change::Job(job.row.clone()));
        let detail = json!({"client": client, "nodes": nodes});
        self.fx.event("job.accepted", About::job(id), detail);
        self.job_view(client, id)
    }

    /// Adds a command to an open job: deliveries for all its nodes, which are told at once.
    ///
    /// # Errors
    /// The job is unknown or takes no commands; the command is not valid; the base is full.
    pub fn command(
        &mut self,
        client: &str,
        job: JobId,
        request: CommandRequest,
        at: Stamp,
    ) -> Result<CommandAccepted, Refusal> {
        self.fx.now = at;
        self.check_command(client, job, &request)?;
        let CommandRequest { op, size, blake3 } = request;
        let is_put = matches!(op, Op::Put { .. });
        let content = is_put.then(|| ContentId(self.fx.new_id()));
        let Some(record) = self.jobs.get_mut(&job) else { return Err(Refusal::UnknownJob(job)) };
        let command_id = command_at(record.commands.len());
        let key = CommandKey { job, command: command_id };
        let row = CommandRow { key, op: op.clone(), content, created_at_ns: at.utc_ns };
        self.fx.keep(Change::Command(row.clone()));
        let deliveries = record.targets.iter().map(|_| Delivery::pending(at.utc_ns)).collect();
        let count = u64::try_from(record.targets.len()).unwrap_or(u64::MAX);
        let totals = Totals { new: count, ..Totals::default() };
        record.totals.new += count;
        record.commands.push(Command { row, totals, deliveries });
        record.touched_ns = at.mono_ns;
        self.deliveries += record.targets.len();
        let targets = record.targets.clone();
        if let Some(path) = op.path().filter(|_| is_put) {
            record.puts.insert(path.to_owned(), command_id);
        }
        self.count_deliveries(DeliveryState::Pending, i64::try_from(count).unwrap_or(0));
        if let Some(id) = content {
            let row = ContentRow {
                id,
                key,
                size,
                expected: blake3,
                blake3: None,
                ended_at_ns: None,
                is_abandoned: false,
            };
            self.fx.keep(Change::Content(row.clone()));
            let content =
                Content { row, have: 0, is_begun: false, grew_ns: at.mono_ns, flow: None };
            self.contents.insert(id, content);
        }
        self.fx.event("command.accepted", About::command(key), json!({"op": op, "size": size}));
        for node in targets {
            self.keep_delivery(key, node);
            let Some(record) = self.node_at_mut(node) else { continue };
            if record.is_there() {
                if record.open.is_empty() {
                    record.took_ns = at.mono_ns;
                }
                record.open.insert(key);
                if self.is_live(node)
                    && let Some(order) = self.command_order(key)
                {
                    self.say(node, order);
                }
            } else {
                self.fail_at_retired(key, node);
            }
        }
        let put_url = op.path().filter(|_| is_put).map(|path| put_url(job, path));
        Ok(CommandAccepted { command_id, put_url, content })
    }

    /// The client adds no more commands. A second time has no effect.
    ///
    /// # Errors
    /// The job is unknown, denied or cancelled.
    pub fn end_job(&mut self, client: &str, job: JobId, at: Stamp) -> Result<JobView, Refusal> {
        self.fx.now = at;
        let state = self.job_of(client, job)?.row.state;
        if state.next(JobInput::End).is_none() {
            return Err(Refusal::JobState { job, state });
        }
        self.change_job(job, JobInput::End);
        self.settle(job);
        self.job_view(client, job)
    }

    /// Withdraws a job: what is open at nodes ends, uploads too. A second time has no effect.
    ///
    /// # Errors
    /// The job is unknown, or has ended otherwise.
    pub fn cancel_job(&mut self, client: &str, job: JobId, at: Stamp) -> Result<JobView, Refusal> {
        self.fx.now = at;
        let record = self.job_of(client, job)?;
        let state = record.row.state;
        if state != JobState::Cancelled {
            if state.next(JobInput::Cancel).is_none() {
                return Err(Refusal::JobState { job, state });
            }
            for index in 0..record.commands.len() {
                self.withdraw(CommandKey { job, command: command_at(index) });
            }
            self.change_job(job, JobInput::Cancel);
        }
        self.job_view(client, job)
    }

    /// Begins failed deliveries again, at all nodes or at these.
    ///
    /// # Errors
    /// The job is unknown or takes no retry in its state; no delivery of it failed there that could
    /// be tried again.
    pub fn retry_job(
        &mut self,
        client: &str,
        job: JobId,
        nodes: Option<&[NodeName]>,
        at: Stamp,
    ) -> Result<JobView, Refusal> {
        self.fx.now = at;
        let state = self.job_of(client, job)?.row.state;
        if state.next(JobInput::Retry).is_none() {
            return Err(Refusal::JobState { job, state });
        }
        let failed = self.failed_deliveries(client, job, nodes)?;
        if failed.is_empty() {
            return Err(Refusal::NothingToRetry);
        }
        self.change_job(job, JobInput::Retry);
        let count = failed.len();
        self.fx.event("job.retried", About::job(job), json!({"deliveries": count}));
        for (key, node) in failed {
            self.advance(key, node, DeliveryInput::Again, |delivery| {
                delivery.attempts = 0;
                delivery.reason = None;
                delivery.detail = None;
                delivery.receipt = None;
                delivery.is_fresh = true;
            });
            self.say_command(key, node);
        }
        if let Some(record) = self.jobs.get_mut(&job) {
            record.touched_ns = at.mono_ns;
        }
        self.job_view(client, job)
    }

    /// Withdraws a command.
    ///
    /// # Errors
    /// Job or command is unknown, or the command has ended at all nodes.
    pub fn cancel_command(
        &mut self,
        client: &str,
        key: CommandKey,
        at: Stamp,
    ) -> Result<CommandView, Refusal> {
        self.fx.now = at;
        let command = self.job_of(client, key.job)?.command(key.command);
        let command = command.ok_or(Refusal::UnknownCommand(key))?;
        if command.totals.open() == 0 {
            return Err(Refusal::CommandEnded(key));
        }
        self.withdraw(key);
        self.settle(key.job);
        self.command_view(client, key)
    }

    /// Ends what is open of a command, and its upload.
    fn withdraw(&mut self, key: CommandKey) {
        let command = self.jobs.get(&key.job).and_then(|job| job.command(key.command));
        let Some(command) = command.filter(|command| command.totals.open() > 0) else { return };
        let content = command.row.content;
        self.end_deliveries(key, None, "");
        if let Some(content) = content {
            self.close_upload(content);
        }
        self.count_undone(key.job, key.command);
    }

    /// Whether the job is there, and the client's.
    #[must_use]
    pub fn is_job_of(&self, client: &str, job: JobId) -> bool {
        self.job_of(client, job).is_ok()
    }

    /// The job, if it is the client's.
    pub(super) fn job_of(&self, client: &str, id: JobId) -> Result<&Job, Refusal> {
        let job = self.jobs.get(&id).filter(|job| job.row.client == client);
        job.ok_or(Refusal::UnknownJob(id))
    }

    /// Tells a node a command, and where its content comes from.
    pub(super) fn say_command(&mut self, key: CommandKey, node: NodeId) {
        if !self.is_live(node) {
            return;
        }
        for order in self.command_orders(key, node) {
            self.say(node, order);
        }
    }

    /// A command, and where its content comes from.
    pub(super) fn command_orders(&mut self, key: CommandKey, node: NodeId) -> Vec<NodeOrder> {
        let mut orders: Vec<_> = self.command_order(key).into_iter().collect();
        let command = self.jobs.get(&key.job).and_then(|job| job.command(key.command));
        if let Some(content) = command.and_then(|command| command.row.content) {
            self.join_flow(content, node);
            orders.extend(self.sources_order(content, node));
        }
        orders
    }

    fn command_order(&self, key: CommandKey) -> Option<NodeOrder> {
        let job = self.jobs.get(&key.job)?;
        let row = &job.command(key.command)?.row;
        let content = row.content.and_then(|id| self.contents.get(&id));
        Some(NodeOrder::Command {
            key,
            sequence: job.row.policy.order,
            priority: job.row.policy.priority,
            op: row.op.clone(),
            content: row.content,
            size: content.and_then(|content| content.row.size),
        })
    }

    /// Deliveries of the job that failed, at these nodes, and can be tried again.
    fn failed_deliveries(
        &self,
        client: &str,
        id: JobId,
        nodes: Option<&[NodeName]>,
    ) -> Result<Vec<(CommandKey, NodeId)>, Refusal> {
        let job = self.job_of(client, id)?;
        let mut wanted = job.targets.clone();
        if let Some(nodes) = nodes {
            wanted.clear();
            for name in nodes {
                let node = self.node_ids.get(name).filter(|node| job.places.contains_key(*node));
                wanted.push(*node.ok_or_else(|| Refusal::UnknownNode(name.clone()))?);
            }
        }
        wanted.retain(|node| self.node_at(*node).is_some_and(|node| node.is_there()));
        let has_bytes = |command: &Command| match command.row.content {
            None => true,
            Some(id) => {
                !job.is_expired && self.contents.get(&id).is_some_and(|c| !c.row.is_abandoned)
            }
        };
        let mut failed = Vec::new();
        for command in job.commands.iter().filter(|command| has_bytes(command)) {
            for node in &wanted {
                let delivery = job.delivery(command.row.key.command, *node);
                let input = DeliveryInput::Again;
                if delivery.is_some_and(|delivery| delivery.state.next(input).is_some()) {
                    failed.push((command.row.key, *node));
                }
            }
        }
        failed.dedup();
        Ok(failed)
    }

    /// Checks a job request. Gives its nodes.
    fn check_job(&mut self, request: &JobRequest) -> Result<Vec<NodeId>, Refusal> {
        let JobRequest { client_ref, targets, policy, deadline_s: _ } = request;
        if let Some(name) = client_ref
            && !(1..=CLIENT_REF_BYTES_MAX).contains(&name.len())
        {
            return Err(Refusal::BadClientRef { bytes: name.len(), max: CLIENT_REF_BYTES_MAX });
        }
        if policy.priority > PRIORITY_MAX {
            return Err(Refusal::BadPriority(policy.priority));
        }
        if policy.max_rate == Some(0) {
            return Err(Refusal::BadRate);
        }
        let targets = self.resolve(targets)?;
        let max = TARGETS_MAX;
        if targets.is_empty() {
            return Err(Refusal::NoTargets);
        }
        if targets.len() > max {
            return Err(Refusal::TooManyTargets { count: targets.len(), max });
        }
        let max = self.options.limits.jobs;
        if !self.make_room(|book| book.jobs.len() < max) {
            return Err(Refusal::Full { what: "jobs", max });
        }
        Ok(targets)
    }

    /// Nodes that targets mean, each once, in the order of their names or of the list.
    fn resolve(&self, targets: &Targets) -> Result<Vec<NodeId>, Refusal> {
        let mut found: Vec<NodeId> = Vec::new();
        let mut all: Vec<_> = self.node_ids.iter().collect();
        match targets {
            Targets::All => {}
            Targets::Nodes(names) => {
                for name in names {
                    let id = *self
                        .node_ids
                        .get(name)
                        .ok_or_else(|| Refusal::UnknownNode(name.clone()))?;
                    let state = self.node_at(id).map_or(NodeState::Retired, |node| node.row.state);
                    if !state.takes_jobs() {
                        return Err(Refusal::NodeUnavailable { node: name.clone(), state });
                    }
                    found.push(id);
                }
                let mut seen = std::collections::HashSet::new();
                found.retain(|id| seen.insert(*id));
                return Ok(found);
            }
            Targets::Selector(text) => {
                let labels = parse_selector(text)?;
                all.retain(|(_, id)| {
                    let has = |node: &Node| {
                        labels.iter().all(|(name, value)| {
                            node.row.labels.get(*name).map(String::as_str) == Some(*value)
                        })
                    };
                    self.node_at(**id).is_some_and(has)
                });
            }
        }
        all.retain(|(_, id)| self.node_at(**id).is_some_and(|node| node.row.state.takes_jobs()));
        all.sort_unstable();
        Ok(all.into_iter().map(|(_, id)| *id).collect())
    }

    /// Checks a command of a client's job.
    fn check_command(
        &mut self,
        client: &str,
        id: JobId,
        request: &CommandRequest,
    ) -> Result<(), Refusal> {
        let job = self.job_of(client, id)?;
        if job.row.state != JobState::Open {
            return Err(Refusal::JobState { job: id, state: job.row.state });
        }
        let CommandRequest { op, size, blake3 } = request;
        let limits = self.options.limits;
        let bad_path = |path: &str| {
            check_path(path).map_err(|error| Refusal::BadPath { path: path.to_owned(), error })
        };
        op.path().map_or(Ok(()), bad_path)?;
        op.attributes().map_or(Ok(()), check_attributes).map_err(Refusal::BadAttributes)?;
        if let Op::Move { path, to } = op {
            bad_path(to)?;
            let beneath = to.strip_prefix(path.as_str());
            if beneath.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
                return Err(Refusal::MoveIntoItself(path.clone()));
            }
        }
        if !matches!(op, Op::Put { .. }) && (size.is_some() || blake3.is_some()) {
            return Err(Refusal::NoContent);
        }
        if let Some(size) = size.filter(|size| *size > limits.content_bytes) {
            return Err(Refusal::TooLarge { size, max: limits.content_bytes });
        }
        if job.commands.len() >= limits.commands {
            return Err(Refusal::Full { what: "commands in a job", max: limits.commands });
        }
        let (more, max) = (job.targets.len(), limits.deliveries);
        if !self.make_room(|book| book.deliveries + more <= max) {
            return Err(Refusal::Full { what: "deliveries", max });
        }
        Ok(())
    }

    /// Lets go of jobs that have ended, the oldest first, until there is room. The ledger keeps
    /// them.
    fn make_room(&mut self, has_room: impl Fn(&Self) -> bool) -> bool {
        while !has_room(self) {
            let Some((_, id)) = self.ended.pop_first() else { return false };
            self.drop_job(id);
        }
        true
    }

    fn drop_job(&mut self, id: JobId) {
        if self.jobs.get(&id).is_some_and(|job| job.row.state == JobState::CompletedWithFailures) {
            self.forget_at_nodes(id);
        }
        self.expire_contents(id);
        let Some(job) = self.jobs.remove(&id) else { return };
        if let Some(name) = job.row.client_ref {
            self.job_refs.remove(&(job.row.client, name));
        }
        for delivery in job.commands.iter().flat_map(|command| &command.deliveries) {
            self.deliveries -= 1;
            self.count_deliveries(delivery.state, -1);
        }
        for content in job.commands.iter().filter_map(|command| command.row.content) {
            self.contents.remove(&content);
        }
    }

    pub(super) fn forget_at_nodes(&mut self, id: JobId) {
        let targets = self.jobs.get(&id).map(|job| job.targets.clone()).unwrap_or_default();
        for node in targets {
            self.say_end(node, NodeOrder::Forget { job: id });
        }
    }

    /// A job without commands so far.
    pub(super) fn add_job(&mut self, row: JobRow, targets: Vec<NodeId>, measure: Option<Measure>) {
        let id = row.id;
        if let Some(name) = &row.client_ref {
            self.job_refs.insert((row.client.clone(), name.clone()), id);
        }
        if row.state.is_live() {
            if let Some(deadline) = row.deadline_ns {
                self.deadlines.insert((deadline, id));
            }
        } else {
            self.ended.insert((row.ended_at_ns.unwrap_or_default(), id));
        }
        let places: HashMap<_, _> = targets.iter().copied().zip(0..).collect();
        let job = Job {
            row,
            targets,
            places,
            commands: Vec::new(),
            totals: Totals::default(),
            content_bytes: 0,
            puts: HashMap::new(),
            undone: 0,
            touched_ns: self.fx.now.mono_ns,
            measure,
            is_expired: false,
        };
        self.jobs.insert(id, job);
    }

    /// The content of the newest put of a path.
    #[must_use]
    pub fn find_content(&self, job: JobId, path: &str) -> Option<ContentId> {
        let job = self.jobs.get(&job)?;
        job.command(*job.puts.get(path)?)?.row.content
    }

    /// Commands of the job that were withdrawn, or whose upload failed.
    #[must_use]
    pub fn cancelled_commands(&self, job: JobId) -> u64 {
        self.jobs.get(&job).map_or(0, |job| job.undone)
    }
}

/// `site=north,tier=edge`.
fn parse_selector(text: &str) -> Result<Vec<(&str, &str)>, Refusal> {
    let pairs = text.split(',').map(|pair| {
        let pair = pair.trim().split_once('=').map(|(name, value)| (name.trim(), value.trim()));
        pair.filter(|(name, _)| !name.is_empty())
    });
    let pairs: Option<Vec<_>> = pairs.collect();
    pairs.ok_or_else(|| Refusal::BadSelector(text.chars().take(SELECTOR_SHOWN).collect()))
}

/// WebDAV folder of a job: path on the base.
pub(super) fn ctp_url(job: JobId) -> String {
    format!("/ctp/{job}/")
}

/// Where the bytes of a put go: path on the base.
fn put_url(job: JobId, path: &str) -> String {
    let parts = path.split('/').map(|part| utf8_percent_encode(part, IN_PATH).to_string());
    format!("{}{}", ctp_url(job), parts.collect::<Vec<_>>().join("/"))
}

/// RFC 3986 s2.3: unreserved characters stay.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const PRIORITY_MAX: u8 = 9;
/// A name for people and scripts.
const CLIENT_REF_BYTES_MAX: usize = 256;
/// Nodes of a job: the scale that the base is made for.
const TARGETS_MAX: usize = 20_000;
const SELECTOR_SHOWN: usize = 64;
const NS_PER_S_SIGNED: i64 = 1_000_000_000;
