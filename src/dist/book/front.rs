//! What the book can be asked.
//!
//! Invariant: the time of a call is the time of all that it does. A call says who acts on the
//! parts; what comes of it is said there.

use std::collections::BTreeSet;

use crate::dist::book::answers::Answers;
use crate::dist::book::hooks::{HookNumbers, HookReport};
use crate::dist::book::notify;
use crate::dist::book::parts::Parts;
use crate::dist::book::presence::Presence;
use crate::dist::book::repair::{Repair, Treatment};
use crate::dist::book::requests::Request;
use crate::dist::book::time::Watch;
use crate::dist::book::uploads::Upload;
use crate::dist::book::{
    BookOptions, DeliveryFilter, HelloBy, Refusal, RelayNumbers, RepairHook, presence, relays,
    reports, restore,
};
use crate::dist::chain::ChainHead;
use crate::dist::ids::{CommandId, CommandKey, ContentId, JobId, NodeName, Stamp};
use crate::dist::keys::BaseKeys;
use crate::dist::node::NodeInput;
use crate::dist::rows::{AnswerRow, Change, CommandRow, ContentRow, JobRow, Rows};
use crate::dist::token::is_token;
use crate::dist::uplink::Share;
use crate::dist::webhook::message::Call;
use crate::dist::wire::agent::{Hello, NodeOrder, Reports, ReportsTaken, Welcome};
use crate::dist::wire::hook::NotificationView;
use crate::dist::wire::job::{
    CommandAccepted, CommandRequest, CommandState, CommandView, DeliveryState, DeliveryView,
    JobRequest, JobState, JobView, Limit, NodeView, PolicyChange,
};
use crate::dist::wire::peer::ContentEnd;
use crate::dist::wire::report::JobReport;

/// The base: see [`crate::dist::book`].
#[derive(Debug)]
pub struct Book {
    pub(super) parts: Parts,
    pub(super) answers: Answers,
    /// The last event that the ledger does not have any more.
    trimmed: ChainHead,
    watch: Watch,
}

impl Book {
    /// A book that goes on from these rows.
    #[must_use]
    pub fn new(rows: Rows, keys: BaseKeys, options: BookOptions, at: Stamp) -> Self {
        let mut answers = Answers::new(options.limits.answers);
        let mut parts = Parts::new(keys, options, rows.last_event.as_ref(), at);
        let trimmed = rows.trimmed.unwrap_or(ChainHead::START);
        restore::read(&mut parts, &mut answers, rows);
        relays::restored(&mut parts);
        Self { parts, answers, trimmed, watch: Watch::new(at) }
    }

    /// A second has passed.
    pub fn tick(&mut self, at: Stamp) {
        self.parts.fx.now = at;
        self.watch.tick(&mut self.parts, &mut self.answers);
    }

    /// What is to be made durable before answers and orders leave, in this order.
    pub fn take_changes(&mut self) -> Vec<Change> {
        let mut changes = self.parts.fx.take_changes();
        notify::note(&mut self.parts, &mut changes);
        changes
    }

    /// Orders to nodes that live, in this order. Who has no stream of orders to a node drops the
    /// node's: the node gets them by [`Book::open_orders`] when its stream begins.
    pub fn take_orders(&mut self) -> Vec<(NodeName, NodeOrder)> {
        let orders = relays::hand_on(&mut self.parts);
        let mut all = self.parts.fx.take_direct();
        all.extend(orders);
        all
    }

    /// What was handed on from node to node since the start of the book.
    #[must_use]
    pub fn relay_numbers(&self) -> RelayNumbers {
        self.parts.relays.numbers()
    }

    /// Contents that the base may remove: nobody fetches or retries them any more.
    pub fn take_expired(&mut self) -> Vec<ContentId> {
        let expired = self.parts.fx.take_expired();
        expired.iter().for_each(|content| self.parts.tenants.release(*content));
        expired
    }

    /// Nodes that the operator's command is to mend. Behind each, [`Book::repair_hook_ended`].
    pub fn take_repair_hooks(&mut self) -> Vec<RepairHook> {
        self.parts.fx.take_hooks()
    }

    /// Parts of the uplink of the base, as they change; `None`: the job has ended.
    pub fn take_shares(&mut self) -> Vec<(JobId, Option<Share>)> {
        self.parts.fx.take_shares()
    }

    /// The end of the chain of events.
    #[must_use]
    pub fn chain_head(&self) -> ChainHead {
        self.parts.fx.chain_head()
    }

    /// Where the chain of events begins that the ledger has: behind this one.
    #[must_use]
    pub fn chain_start(&self) -> ChainHead {
        self.trimmed
    }

    /// Events up to this one are kept elsewhere: the ledger lets go of them. No effect when it has,
    /// or when no event would be left.
    pub fn trim_chain(&mut self, head: ChainHead) {
        if head.seq > self.trimmed.seq && head.seq < self.chain_head().seq {
            self.trimmed = head;
            self.parts.fx.keep(Change::Trim(head));
        }
    }

    /// Jobs with events that somebody is still to be told.
    #[must_use]
    pub fn jobs_with_calls(&self) -> BTreeSet<JobId> {
        self.parts.hooks.waiting_jobs().collect()
    }

    /// The answer that a client got under this idempotency key.
    #[must_use]
    pub fn answer(&self, client: &str, idempotency_key: &str) -> Option<&AnswerRow> {
        self.answers.get(client, idempotency_key)
    }

    /// Keeps an answer for a request with an idempotency key. The oldest make room.
    pub fn keep_answer(&mut self, row: AnswerRow) {
        self.parts.fx.keep(Change::Answer(row.clone()));
        self.answers.remember(row);
    }
}

/// What clients ask.
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
        self.request(client, at).job(request)
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
        self.request(client, at).command(job, request)
    }

    /// The client adds no more commands. A second time has no effect.
    ///
    /// # Errors
    /// The job is unknown, denied or cancelled.
    pub fn end_job(&mut self, client: &str, job: JobId, at: Stamp) -> Result<JobView, Refusal> {
        self.request(client, at).end_job(job)
    }

    /// Withdraws a job: what is open at nodes ends, uploads too. A second time has no effect.
    ///
    /// # Errors
    /// The job is unknown, or has ended otherwise.
    pub fn cancel_job(&mut self, client: &str, job: JobId, at: Stamp) -> Result<JobView, Refusal> {
        self.request(client, at).cancel_job(job)
    }

    /// Changes the policy of a job while it runs. `tag`: that of the policy that is to be changed
    /// ([`Policy::tag`](crate::dist::wire::job::Policy::tag)); `None`: any.
    ///
    /// # Errors
    /// The job is unknown or has ended; the policy is another one meanwhile, or would not be valid.
    pub fn change_job(
        &mut self,
        client: &str,
        job: JobId,
        change: PolicyChange,
        tag: Option<&str>,
        at: Stamp,
    ) -> Result<JobView, Refusal> {
        self.request(client, at).change_policy(job, change, tag)
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
        self.request(client, at).retry_job(job, nodes)
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
        self.request(client, at).cancel_command(key)
    }

    fn request<'a>(&'a mut self, client: &'a str, at: Stamp) -> Request<'a> {
        self.parts.fx.now = at;
        Request { parts: &mut self.parts, client }
    }
}

/// What clients are shown.
impl Book {
    /// Whether the job is there, and the client's.
    #[must_use]
    pub fn is_job_of(&self, client: &str, job: JobId) -> bool {
        self.parts.jobs.of(client, job).is_ok()
    }

    /// A job of the client.
    ///
    /// # Errors
    /// The job is unknown.
    pub fn job_view(&self, client: &str, id: JobId) -> Result<JobView, Refusal> {
        self.parts.views(client).job(id)
    }

    /// Jobs of the client behind `after`, the oldest first: at most `limit`, 0 being 1,000.
    #[must_use]
    pub fn jobs(
        &self,
        client: &str,
        state: Option<JobState>,
        after: Option<JobId>,
        limit: usize,
    ) -> Vec<JobView> {
        self.parts.views(client).jobs(state, after, limit)
    }

    /// Jobs of the client behind `after` of which `is_found` says so, the oldest first: at most
    /// `limit`. Where more may be found, behind which job: a search looks at so many jobs only.
    #[must_use]
    pub fn find_jobs(
        &self,
        client: &str,
        is_found: impl Fn(&JobRow) -> bool,
        after: Option<JobId>,
        limit: usize,
    ) -> (Vec<JobView>, Option<JobId>) {
        self.parts.views(client).find_jobs(is_found, after, limit)
    }

    /// A command of a job of the client.
    ///
    /// # Errors
    /// Job or command is unknown.
    pub fn command_view(&self, client: &str, key: CommandKey) -> Result<CommandView, Refusal> {
        self.parts.views(client).command(key)
    }

    /// Commands of a job behind `after`, in order: at most `limit`, 0 being 1,000.
    ///
    /// # Errors
    /// The job is unknown.
    pub fn command_views(
        &self,
        client: &str,
        job: JobId,
        after: Option<CommandId>,
        limit: usize,
    ) -> Result<Vec<CommandView>, Refusal> {
        self.parts.views(client).commands(job, after, limit)
    }

    /// Rows and states of a job's commands behind `after`, in order: at most `limit`.
    ///
    /// # Errors
    /// The job is unknown.
    pub fn commands(
        &self,
        client: &str,
        job: JobId,
        after: Option<CommandId>,
        limit: usize,
    ) -> Result<Vec<(CommandRow, CommandState)>, Refusal> {
        self.parts.views(client).command_rows(job, after, limit)
    }

    /// Deliveries of a job that fit the filter.
    ///
    /// # Errors
    /// The job is unknown, or what the filter names.
    pub fn deliveries(
        &self,
        client: &str,
        id: JobId,
        filter: &DeliveryFilter,
    ) -> Result<Vec<DeliveryView>, Refusal> {
        self.parts.views(client).deliveries(id, filter)
    }

    /// What the job did, node by node. Signatures are not checked yet, because that takes a while
    /// ([`JobReport::check_signatures`]).
    ///
    /// # Errors
    /// The job is unknown, or has more deliveries than one answer has room for.
    pub fn report_unchecked(&self, client: &str, id: JobId) -> Result<JobReport, Refusal> {
        let made = (self.parts.fx.now.utc_ns, self.chain_head());
        self.parts.views(client).report(id, made, self.parts.options.limits.report_rows)
    }

    /// What the job did, node by node, with signatures checked.
    ///
    /// # Errors
    /// The job is unknown, or has more deliveries than one answer has room for.
    pub fn report(&self, client: &str, id: JobId) -> Result<JobReport, Refusal> {
        let mut report = self.report_unchecked(client, id)?;
        report.check_signatures();
        Ok(report)
    }

    /// The content of the newest put of a path.
    #[must_use]
    pub fn find_content(&self, job: JobId, path: &str) -> Option<ContentId> {
        self.parts.jobs.find_content(job, path)
    }

    /// Commands of the job that were withdrawn, or whose upload failed.
    #[must_use]
    pub fn cancelled_commands(&self, job: JobId) -> u64 {
        self.parts.jobs.get(job).map_or(0, |job| job.undone)
    }

    /// Jobs with open deliveries by what holds them back.
    #[must_use]
    pub fn limited_jobs(&self) -> [(&'static str, u64); 3] {
        let (mut paused, mut window, mut rate) = (0, 0, 0);
        let open = self.parts.jobs.behind(None).filter(|job| job.totals.open() > 0);
        for limit in open.filter_map(|job| job.terms.limit()) {
            match limit {
                Limit::Paused => paused += 1,
                Limit::Window { .. } => window += 1,
                Limit::Rate => rate += 1,
            }
        }
        [("paused", paused), ("window", window), ("rate", rate)]
    }

    /// Deliveries of all jobs in memory by state, in the order of `DeliveryState::ALL`.
    #[must_use]
    pub fn delivery_counts(&self) -> [u64; DeliveryState::ALL.len()] {
        self.parts.jobs.counts()
    }
}

/// Contents at the base.
impl Book {
    /// The content of this id.
    #[must_use]
    pub fn content(&self, id: ContentId) -> Option<&ContentRow> {
        self.parts.contents.row(id)
    }

    /// Contents whose upload has not ended.
    #[must_use]
    pub fn open_uploads(&self) -> Vec<ContentId> {
        self.parts.contents.open().map(|content| content.row.id).collect()
    }

    /// The base has `have` bytes of the content. The first call, with 0 as well, begins it.
    pub fn upload_grew(&mut self, id: ContentId, have: u64, at: Stamp) {
        if let Some(mut upload) = self.upload(id, at) {
            upload.grew(have);
        }
    }

    /// The upload has ended: this is the whole content. The same end again has no effect.
    ///
    /// # Errors
    /// The client said another size or hash: then the command fails at all nodes. Or the content is
    /// unknown, has ended otherwise, or its command has.
    pub fn upload_ended(
        &mut self,
        id: ContentId,
        end: ContentEnd,
        at: Stamp,
    ) -> Result<(), Refusal> {
        self.upload(id, at).ok_or(Refusal::UnknownContent(id))?.end(&end)
    }

    /// The client does not go on with an upload: its command fails where it is open. No effect on
    /// an upload that has ended.
    pub fn upload_abandoned(&mut self, id: ContentId, at: Stamp) {
        if let Some(mut upload) = self.upload(id, at) {
            upload.abandon();
        }
    }

    /// `bytes` of the content left the base for nodes. What is said of a job that has just ended
    /// still counts.
    pub fn base_sent(&mut self, id: ContentId, bytes: u64) {
        let now = self.parts.fx.now;
        self.parts.flows.base.sent(bytes, now.mono_ns);
        if let Some(mut upload) = self.upload(id, now) {
            upload.sent(bytes);
        }
    }

    /// Bytes per second that the base may send from now on; plans that are made count on it.
    pub fn set_up_rate(&mut self, rate: Option<u64>) {
        self.parts.flows.base.set_cap(rate);
    }

    fn upload(&mut self, id: ContentId, at: Stamp) -> Option<Upload<'_>> {
        self.parts.fx.now = at;
        Upload::of(&mut self.parts, id)
    }
}

/// Clients that are called back.
impl Book {
    /// Events that are to be sent to receivers now. Each is told by [`Book::called_back`].
    pub fn take_calls(&mut self, at: Stamp) -> Vec<Call> {
        self.parts.fx.now = at;
        let BookOptions { limits, timeouts, .. } = &self.parts.options;
        self.parts.hooks.take_due(limits, timeouts, at)
    }

    /// What became of a call. A second time has no effect.
    pub fn called_back(&mut self, report: HookReport, at: Stamp) {
        self.parts.fx.now = at;
        notify::settle(&mut self.parts, report);
    }

    /// Who is called back for a job of the client, and how far that is.
    ///
    /// # Errors
    /// The job is unknown.
    pub fn notifications(
        &self,
        client: &str,
        job: JobId,
    ) -> Result<Vec<NotificationView>, Refusal> {
        self.parts.jobs.of(client, job)?;
        Ok(self.parts.hooks.views(job))
    }

    /// Numbers of all notifications.
    #[must_use]
    pub fn hook_numbers(&self) -> HookNumbers {
        self.parts.hooks.numbers(self.parts.fx.now)
    }
}

/// What nodes say, and operators of nodes.
impl Book {
    /// A node says that it is there. `by` is the token that it showed.
    ///
    /// # Errors
    /// Key, address or labels are not valid; the name is that of another node; a later start of the
    /// node was heard; the node was retired; the base is full.
    pub fn hello(&mut self, hello: Hello, by: HelloBy, at: Stamp) -> Result<Welcome, Refusal> {
        self.parts.fx.now = at;
        presence::hello(&mut self.parts, hello, &by)
    }

    /// Takes reports of a node: those with numbers that were not taken before. An empty batch is a
    /// heartbeat.
    ///
    /// # Errors
    /// The node is unknown or retired, or this start of it did not say hello.
    pub fn reports(&mut self, batch: Reports, at: Stamp) -> Result<ReportsTaken, Refusal> {
        self.parts.fx.now = at;
        reports::take_reports(&mut self.parts, batch)
    }

    /// Whether nodes join by this token.
    #[must_use]
    pub fn is_join_token(&self, token: &str) -> bool {
        is_token(token, &self.parts.options.join_token_hash)
    }

    /// The node of a token; `None` also for a node that was retired.
    #[must_use]
    pub fn node_of_token(&self, token: &str) -> Option<&NodeName> {
        self.parts.nodes.of_token(token)
    }

    /// All that is open at a node: commands and sources, and what has ended meanwhile. It is said
    /// when the node's stream of orders begins.
    pub fn open_orders(&mut self, node: &NodeName) -> Vec<NodeOrder> {
        let presence = Presence::of(&mut self.parts, node);
        presence.map(|mut presence| presence.open_orders()).unwrap_or_default()
    }

    /// All nodes, by name.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeView> {
        let Parts { nodes, jobs, .. } = &self.parts;
        let views = nodes.iter().map(|(id, node)| node.view(jobs.open_count(id)));
        let mut views: Vec<_> = views.collect();
        views.sort_unstable_by(|a, b| a.node.cmp(&b.node));
        views
    }

    /// One node.
    #[must_use]
    pub fn node(&self, name: &NodeName) -> Option<NodeView> {
        let id = self.parts.nodes.id_of(name)?;
        Some(self.parts.nodes.get(id)?.view(self.parts.jobs.open_count(id)))
    }

    /// The node gets no new jobs.
    ///
    /// # Errors
    /// The node is unknown or retired.
    pub fn drain_node(&mut self, name: &NodeName, at: Stamp) -> Result<NodeView, Refusal> {
        self.operate(name, NodeInput::Drain, at)
    }

    /// The node is as any other again. A quarantine ends too.
    ///
    /// # Errors
    /// The node is unknown or retired.
    pub fn undrain_node(&mut self, name: &NodeName, at: Stamp) -> Result<NodeView, Refusal> {
        self.operate(name, NodeInput::Undrain, at)
    }

    /// The node is none any more: what is open there fails, its token counts no longer.
    ///
    /// # Errors
    /// The node is unknown or retired.
    pub fn retire_node(&mut self, name: &NodeName, at: Stamp) -> Result<NodeView, Refusal> {
        self.operate(name, NodeInput::Retire, at)
    }

    /// The node is asked how far it is, as at the end of a wait period.
    ///
    /// # Errors
    /// The node is unknown or retired.
    pub fn query_node(&mut self, name: &NodeName, at: Stamp) -> Result<NodeView, Refusal> {
        self.treat(name, Treatment::Query, at)
    }

    /// The node is mended, as when it does not get on. No effect while that is under way.
    ///
    /// # Errors
    /// The node is unknown or retired.
    pub fn repair_node(&mut self, name: &NodeName, at: Stamp) -> Result<NodeView, Refusal> {
        self.treat(name, Treatment::Repair, at)
    }

    /// The node that was being mended, or was given up, is back: it is asked for what it has.
    ///
    /// # Errors
    /// The node is unknown or retired.
    pub fn activate_node(&mut self, name: &NodeName, at: Stamp) -> Result<NodeView, Refusal> {
        self.treat(name, Treatment::Activate, at)
    }

    /// The node is expected back then, in UTC nanoseconds; `None`: nobody knows.
    ///
    /// # Errors
    /// The node is unknown or retired.
    pub fn expect_node(
        &mut self,
        name: &NodeName,
        expected_back_ns: Option<i64>,
        at: Stamp,
    ) -> Result<NodeView, Refusal> {
        self.parts.fx.now = at;
        Repair::of(&mut self.parts, name)?.expect(expected_back_ns);
        self.node(name).ok_or_else(|| Refusal::UnknownNode(name.clone()))
    }

    /// The operator's command for a try of mending a node has ended like this.
    pub fn repair_hook_ended(&mut self, hook: &RepairHook, outcome: &str, at: Stamp) {
        self.parts.fx.now = at;
        if let Ok(mut repair) = Repair::of(&mut self.parts, &hook.node) {
            repair.hook_ended(hook.number, outcome);
        }
    }

    fn treat(
        &mut self,
        name: &NodeName,
        treatment: Treatment,
        at: Stamp,
    ) -> Result<NodeView, Refusal> {
        self.parts.fx.now = at;
        Repair::of(&mut self.parts, name)?.operate(treatment);
        self.node(name).ok_or_else(|| Refusal::UnknownNode(name.clone()))
    }

    fn operate(
        &mut self,
        name: &NodeName,
        input: NodeInput,
        at: Stamp,
    ) -> Result<NodeView, Refusal> {
        self.parts.fx.now = at;
        Presence::of(&mut self.parts, name)?.operate(input)?;
        self.node(name).ok_or_else(|| Refusal::UnknownNode(name.clone()))
    }
}
