//! What a client asks: jobs, their commands, their end, withdrawal and retry.
//!
//! Invariant: a request is checked whole before anything of it is done. A job belongs to the client
//! (the name of its token) that asked for it: to others it is unknown.

use serde_json::json;

use crate::base::url_path::encode_path;
use crate::dist::book::Refusal;
use crate::dist::book::checks::{
    check_content, check_notify, check_op, check_policy, check_ref, resolve,
};
use crate::dist::book::contents::Content;
use crate::dist::book::effects::About;
use crate::dist::book::jobs::Jobs;
use crate::dist::book::link::planned_rate;
use crate::dist::book::measure::Measure;
use crate::dist::book::nodes::NodeId;
use crate::dist::book::parts::Parts;
use crate::dist::book::records::{Command, command_at};
use crate::dist::book::terms::Tell;
use crate::dist::book::uploads::Upload;
use crate::dist::delivery::DeliveryInput;
use crate::dist::ids::{CommandKey, ContentId, HookId, JobId, NodeName};
use crate::dist::job::JobInput;
use crate::dist::rows::{Change, CommandRow, ContentRow, HookRow, JobRow};
use crate::dist::wire::hook::NotifyRequest;
use crate::dist::wire::job::{
    CommandAccepted, CommandRequest, CommandView, JobRequest, JobState, JobView, Op, PolicyChange,
    ServerView,
};

/// A client that asks, and all that its requests have to do with.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) parts: &'a mut Parts,
    pub(super) client: &'a str,
}

impl Request<'_> {
    /// Takes a job, or gives the one that the client asked for under the same `client_ref`.
    pub(super) fn job(&mut self, request: JobRequest) -> Result<JobView, Refusal> {
        if let Some(name) = &request.client_ref
            && let Some(id) = self.parts.jobs.by_ref(self.client, name)
        {
            return self.view(id);
        }
        let (targets, urls) = self.check_job(&request).inspect_err(|refusal| {
            let detail = json!({"client": self.client, "reason": refusal.reason()});
            self.parts.fx.event("job.denied", About::default(), detail);
        })?;
        let now = self.parts.fx.now;
        let id = JobId(self.parts.fx.new_id());
        let servers = (0..).zip(&targets).filter_map(|(index, node)| {
            let row = &self.parts.nodes.get(*node)?.row;
            let up_rate = planned_rate(row.up_rate_cap, row.up_rate_seen);
            Some(ServerView { index, node: row.name.clone(), addr: row.addr.clone(), up_rate })
        });
        let deadline_ns = request.deadline_s.map(|s| {
            let wait_ns = i64::try_from(s).unwrap_or(i64::MAX).saturating_mul(NS_PER_S_SIGNED);
            now.utc_ns.saturating_add(wait_ns)
        });
        let row = JobRow {
            id,
            client: self.client.to_owned(),
            client_ref: request.client_ref,
            state: JobState::Requested.next(JobInput::Accept).unwrap_or(JobState::Open),
            servers: servers.collect(),
            list_version: 1,
            policy: request.policy,
            created_at_ns: now.utc_ns,
            deadline_ns,
            ended_at_ns: None,
            first_ended_at_ns: None,
            bound_ratio: None,
            base_egress_ratio: None,
        };
        let nodes: Vec<_> = row.servers.iter().map(|server| &server.node).collect();
        let detail = json!({"client": self.client, "nodes": nodes});
        self.parts.jobs.add(row.clone(), targets, Some(Measure::default()), now.mono_ns);
        let client_ref = row.client_ref.clone();
        self.parts.fx.keep(Change::Job(row));
        self.parts.fx.event("job.accepted", About::job(id), detail);
        for ((request, url), hook) in request.notify.into_iter().zip(urls).zip(1..) {
            let NotifyRequest { secret, events, .. } = request;
            let row = HookRow::new(HookId { job: id, hook }, url, events);
            let row = HookRow { secret, client_ref: client_ref.clone(), ..row };
            self.parts.hooks.add(row, true, now);
        }
        Tell { parts: &mut *self.parts, job: id }.renew();
        self.parts.say_servers(id);
        self.view(id)
    }

    /// Changes the policy of a job that has not ended.
    pub(super) fn change_policy(
        &mut self,
        job: JobId,
        change: PolicyChange,
        tag: Option<&str>,
    ) -> Result<JobView, Refusal> {
        let row = &self.parts.jobs.of(self.client, job)?.row;
        // What failed may be tried again.
        if !row.state.is_live() && row.state != JobState::CompletedWithFailures {
            return Err(Refusal::JobState { job, state: row.state });
        }
        if tag.is_some_and(|tag| tag != row.policy.tag()) {
            return Err(Refusal::PolicyChanged(job));
        }
        let policy = change.applied(&row.policy);
        check_policy(&policy)?;
        Tell { parts: &mut *self.parts, job }.change(policy);
        self.view(job)
    }

    /// Adds a command to an open job.
    pub(super) fn command(
        &mut self,
        job: JobId,
        request: CommandRequest,
    ) -> Result<CommandAccepted, Refusal> {
        self.check_command(job, &request)?;
        let now = self.parts.fx.now;
        let CommandRequest { op, size, blake3 } = request;
        let is_put = matches!(op, Op::Put { .. });
        let content = is_put.then(|| ContentId(self.parts.fx.new_id()));
        let Some(record) = self.parts.jobs.get_mut(job) else {
            return Err(Refusal::UnknownJob(job));
        };
        record.touched_ns = now.mono_ns;
        let key = CommandKey { job, command: command_at(record.commands.len()) };
        let targets = record.targets.clone();
        let row = CommandRow { key, op: op.clone(), content, created_at_ns: now.utc_ns };
        self.parts.fx.keep(Change::Command(row.clone()));
        self.parts.jobs.add_command(row);
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
            self.parts.fx.keep(Change::Content(row.clone()));
            self.parts.tenants.charge(self.client, id, size.unwrap_or(0));
            self.parts.contents.insert(Content::new(row, now.mono_ns));
        }
        let detail = json!({"op": op, "size": size});
        self.parts.fx.event("command.accepted", About::command(key), detail);
        for node in targets {
            self.order(key, node);
        }
        if op.is_live() {
            self.parts.live().begin(key);
        }
        let put_url = op.path().filter(|_| is_put).map(|path| put_url(job, path));
        Ok(CommandAccepted { command_id: key.command, put_url, content })
    }

    /// A new command is open at a node, or has failed there.
    fn order(&mut self, key: CommandKey, node: NodeId) {
        let now_ns = self.parts.fx.now.mono_ns;
        self.parts.keep_delivery(key, node);
        let is_only = self.parts.jobs.open_count(node) == 1;
        let Some(record) = self.parts.nodes.there_mut(node) else {
            return self.parts.fail_at_retired(key, node);
        };
        if is_only {
            record.took_ns = now_ns;
        }
        if self.parts.is_live(node)
            && let Some(order) = self.parts.command_order(key)
        {
            self.parts.nodes.say(node, order, &mut self.parts.fx);
        }
    }

    /// The client adds no more commands.
    pub(super) fn end_job(&mut self, job: JobId) -> Result<JobView, Refusal> {
        let state = self.parts.jobs.of(self.client, job)?.row.state;
        if state.next(JobInput::End).is_none() {
            return Err(Refusal::JobState { job, state });
        }
        self.parts.change_job(job, JobInput::End);
        self.parts.settle(job);
        self.view(job)
    }

    /// Withdraws a job.
    pub(super) fn cancel_job(&mut self, job: JobId) -> Result<JobView, Refusal> {
        let record = self.parts.jobs.of(self.client, job)?;
        let state = record.row.state;
        if state != JobState::Cancelled {
            if state.next(JobInput::Cancel).is_none() {
                return Err(Refusal::JobState { job, state });
            }
            // The last first: none begins because one before it is withdrawn.
            for index in (0..record.commands.len()).rev() {
                self.withdraw(CommandKey { job, command: command_at(index) });
            }
            self.parts.change_job(job, JobInput::Cancel);
        }
        self.view(job)
    }

    /// Begins failed deliveries again, at all nodes or at these.
    pub(super) fn retry_job(
        &mut self,
        job: JobId,
        nodes: Option<&[NodeName]>,
    ) -> Result<JobView, Refusal> {
        let state = self.parts.jobs.of(self.client, job)?.row.state;
        if state.next(JobInput::Retry).is_none() {
            return Err(Refusal::JobState { job, state });
        }
        let failed = self.failed_deliveries(job, nodes)?;
        if failed.is_empty() {
            return Err(Refusal::NothingToRetry);
        }
        self.parts.change_job(job, JobInput::Retry);
        let detail = json!({"deliveries": failed.len()});
        self.parts.fx.event("job.retried", About::job(job), detail);
        for (key, node) in failed {
            self.parts.begin_again(key, node);
        }
        let now_ns = self.parts.fx.now.mono_ns;
        if let Some(record) = self.parts.jobs.get_mut(job) {
            record.touched_ns = now_ns;
        }
        self.view(job)
    }

    /// Withdraws a command.
    pub(super) fn cancel_command(&mut self, key: CommandKey) -> Result<CommandView, Refusal> {
        let command = self.parts.jobs.of(self.client, key.job)?.command(key.command);
        let command = command.ok_or(Refusal::UnknownCommand(key))?;
        if command.totals.open() == 0 {
            return Err(Refusal::CommandEnded(key));
        }
        self.withdraw(key);
        self.parts.settle(key.job);
        self.parts.views(self.client).command(key)
    }

    /// Ends what is open of a command, and its upload.
    fn withdraw(&mut self, key: CommandKey) {
        let command = self.parts.jobs.command(key);
        let Some(command) = command.filter(|command| command.totals.open() > 0) else { return };
        let content = command.row.content;
        self.parts.end_deliveries(key, None, "");
        if let Some(mut upload) = content.and_then(|id| Upload::of(self.parts, id)) {
            upload.close();
        }
        self.parts.jobs.undo(key);
    }

    fn view(&self, job: JobId) -> Result<JobView, Refusal> {
        self.parts.views(self.client).job(job)
    }

    /// Deliveries of the job that failed, at these nodes, and can be tried again.
    fn failed_deliveries(
        &self,
        id: JobId,
        nodes: Option<&[NodeName]>,
    ) -> Result<Vec<(CommandKey, NodeId)>, Refusal> {
        let Parts { jobs, nodes: all, contents, .. } = &*self.parts;
        let job = jobs.of(self.client, id)?;
        let mut wanted = job.targets.clone();
        if let Some(nodes) = nodes {
            wanted.clear();
            for name in nodes {
                let node = all.id_of(name).filter(|node| job.places.contains_key(node));
                wanted.push(node.ok_or_else(|| Refusal::UnknownNode(name.clone()))?);
            }
        }
        wanted.retain(|node| all.get(*node).is_some_and(|node| node.is_there()));
        let has_bytes = |command: &Command| match command.row.content {
            None => true,
            Some(id) => !job.is_expired && contents.row(id).is_some_and(|row| !row.is_abandoned),
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

    /// Checks a job request. Gives its nodes, and URLs of those who are called back.
    fn check_job(&mut self, request: &JobRequest) -> Result<(Vec<NodeId>, Vec<String>), Refusal> {
        let JobRequest { client_ref, targets, policy, deadline_s: _, notify } = request;
        client_ref.as_deref().map_or(Ok(()), check_ref)?;
        check_policy(policy)?;
        let urls = check_notify(notify, &self.parts.options.hook_networks)?;
        let targets = resolve(&self.parts.nodes, targets)?;
        self.check_quota(targets.len())?;
        let max = self.parts.options.limits.hooks;
        if self.parts.hooks.count() + urls.len() > max {
            return Err(Refusal::Full { what: "notifications", max });
        }
        let max = self.parts.options.limits.jobs;
        if !self.make_room(|jobs| jobs.count() < max) {
            return Err(Refusal::Full { what: "jobs", max });
        }
        Ok((targets, urls))
    }

    /// Whether the client may have one more job, with so many targets.
    fn check_quota(&self, count: usize) -> Result<(), Refusal> {
        let quota = self.parts.options.quotas.of(self.client);
        let client = || self.client.to_owned();
        let targets = u64::try_from(count).unwrap_or(u64::MAX);
        if let Some(max) = quota.targets.filter(|max| targets > *max) {
            return Err(Refusal::QuotaTargets { client: client(), count, max });
        }
        let Some(max) = quota.jobs else { return Ok(()) };
        let jobs = self.parts.jobs.behind(None);
        let open = jobs.filter(|job| job.row.client == self.client && job.row.state.is_live());
        let open = u64::try_from(open.count()).unwrap_or(u64::MAX);
        if open >= max { Err(Refusal::QuotaJobs { client: client(), open }) } else { Ok(()) }
    }

    /// Whether the base keeps so many bytes more for the client.
    fn check_bytes(&self, more: u64) -> Result<(), Refusal> {
        let Some(max) = self.parts.options.quotas.of(self.client).bytes else { return Ok(()) };
        let used = self.parts.tenants.bytes(self.client);
        if used.saturating_add(more) <= max {
            return Ok(());
        }
        Err(Refusal::QuotaBytes { client: self.client.to_owned(), used, max })
    }

    /// Checks a command of a job of the client.
    fn check_command(&mut self, id: JobId, request: &CommandRequest) -> Result<(), Refusal> {
        let limits = self.parts.options.limits;
        let job = self.parts.jobs.of(self.client, id)?;
        if job.row.state != JobState::Open {
            return Err(Refusal::JobState { job: id, state: job.row.state });
        }
        check_op(&request.op)?;
        check_content(request, limits.content_bytes)?;
        if matches!(request.op, Op::Put { .. }) {
            // Of an unknown size one byte at least.
            self.check_bytes(request.size.unwrap_or(1))?;
        }
        if job.commands.len() >= limits.commands {
            return Err(Refusal::Full { what: "commands in a job", max: limits.commands });
        }
        let (more, max) = (job.targets.len(), limits.deliveries);
        if !self.make_room(|jobs| jobs.deliveries() + more <= max) {
            return Err(Refusal::Full { what: "deliveries", max });
        }
        Ok(())
    }

    /// Lets go of jobs that have ended, the oldest first, until there is room. The ledger keeps
    /// them.
    fn make_room(&mut self, has_room: impl Fn(&Jobs) -> bool) -> bool {
        while !has_room(&self.parts.jobs) {
            let Some(id) = self.parts.jobs.take_oldest_ended() else { return false };
            self.drop_job(id);
        }
        true
    }

    fn drop_job(&mut self, id: JobId) {
        let state = self.parts.jobs.get(id).map(|job| job.row.state);
        if state == Some(JobState::CompletedWithFailures) {
            self.parts.forget_at_nodes(id);
        }
        self.parts.expire_contents(id);
        let Some(job) = self.parts.jobs.remove(id) else { return };
        for content in job.commands.iter().filter_map(|command| command.row.content) {
            self.parts.contents.remove(content);
        }
    }
}

/// WebDAV folder of a job: path on the base.
pub(super) fn ctp_url(job: JobId) -> String {
    format!("/ctp/{job}/")
}

/// Where the bytes of a put go: path on the base.
fn put_url(job: JobId, path: &str) -> String {
    format!("{}{}", ctp_url(job), encode_path(path))
}

const NS_PER_S_SIGNED: i64 = 1_000_000_000;
