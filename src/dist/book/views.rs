//! Answers to clients: jobs, commands, deliveries and the report, as they are now.

use crate::dist::book::contents::Contents;
use crate::dist::book::filter::page;
use crate::dist::book::jobs::Jobs;
use crate::dist::book::nodes::{NodeId, Nodes};
use crate::dist::book::parts::BASE_NAME;
use crate::dist::book::records::{Command, Delivery, Job, command_at, index_of};
use crate::dist::book::requests::ctp_url;
use crate::dist::book::{DeliveryFilter, Refusal};
use crate::dist::chain::ChainHead;
use crate::dist::command::state_of;
use crate::dist::ids::{CommandId, CommandKey, JobId, NodeName};
use crate::dist::reflect::ORIGIN_NAME;
use crate::dist::rows::{CommandRow, JobRow};
use crate::dist::wire::agent::Receipt;
use crate::dist::wire::job::{
    CommandState, CommandView, DeliveryState, DeliveryView, JobState, JobView, Totals,
};
use crate::dist::wire::report::{CommandReport, DeliveryReport, JobReport, NodeReport};

/// What a client may see.
#[derive(Debug)]
pub(super) struct Views<'a> {
    pub(super) jobs: &'a Jobs,
    pub(super) nodes: &'a Nodes,
    pub(super) contents: &'a Contents,
    pub(super) client: &'a str,
}

impl<'a> Views<'a> {
    pub(super) fn job(&self, id: JobId) -> Result<JobView, Refusal> {
        self.find(id).map(view_of_job)
    }

    /// Jobs behind `after`, the oldest first.
    pub(super) fn jobs(
        &self,
        state: Option<JobState>,
        after: Option<JobId>,
        limit: usize,
    ) -> Vec<JobView> {
        let jobs = self.jobs.behind(after).filter(|job| job.row.client == self.client);
        let jobs = jobs.filter(|job| state.is_none_or(|state| job.row.state == state));
        jobs.take(page(limit)).map(view_of_job).collect()
    }

    /// Jobs behind `after` of which `is_found` says so, the oldest first: at most `limit`, among as
    /// many as a search looks at. Where more may be found, behind which job.
    pub(super) fn find_jobs(
        &self,
        is_found: impl Fn(&JobRow) -> bool,
        after: Option<JobId>,
        limit: usize,
    ) -> (Vec<JobView>, Option<JobId>) {
        let jobs = self.jobs.behind(after).filter(|job| job.row.client == self.client);
        let (mut found, mut last) = (Vec::new(), None);
        for (looked, job) in jobs.enumerate() {
            if looked == JOB_LOOKS_MAX || found.len() == limit {
                return (found, last);
            }
            last = Some(job.row.id);
            if is_found(&job.row) {
                found.push(view_of_job(job));
            }
        }
        (found, None)
    }

    pub(super) fn command(&self, key: CommandKey) -> Result<CommandView, Refusal> {
        let command = self.find(key.job)?.command(key.command);
        command.map(|command| self.view_of_command(command)).ok_or(Refusal::UnknownCommand(key))
    }

    /// Commands behind `after`, in order.
    pub(super) fn commands(
        &self,
        job: JobId,
        after: Option<CommandId>,
        limit: usize,
    ) -> Result<Vec<CommandView>, Refusal> {
        let commands = behind(self.find(job)?, after).iter();
        Ok(commands.take(page(limit)).map(|command| self.view_of_command(command)).collect())
    }

    /// Rows and states of commands behind `after`, in order.
    pub(super) fn command_rows(
        &self,
        job: JobId,
        after: Option<CommandId>,
        limit: usize,
    ) -> Result<Vec<(CommandRow, CommandState)>, Refusal> {
        let commands = behind(self.find(job)?, after).iter().take(limit);
        Ok(commands.map(|command| (command.row.clone(), state_of(&command.totals))).collect())
    }

    /// Deliveries of a job that fit the filter.
    pub(super) fn deliveries(
        &self,
        id: JobId,
        filter: &DeliveryFilter,
    ) -> Result<Vec<DeliveryView>, Refusal> {
        let job = self.find(id)?;
        let DeliveryFilter { command, node, state, after, limit } = filter;
        let place_of = |name: &NodeName| {
            let place = self.nodes.id_of(name).and_then(|node| job.places.get(&node));
            place.copied().ok_or_else(|| Refusal::UnknownNode(name.clone()))
        };
        let only = node.as_ref().map(place_of).transpose()?;
        let mut start = (0, 0);
        if let Some((command, node)) = after {
            start = (index_of(*command).unwrap_or(0), place_of(node)? + 1);
        }
        let mut commands = start.0..job.commands.len();
        if let Some(command) = command {
            let key = CommandKey { job: id, command: *command };
            let at = index_of(*command).filter(|at| *at < job.commands.len());
            let at = at.ok_or(Refusal::UnknownCommand(key))?;
            commands = if at < start.0 { 0..0 } else { at..at + 1 };
        }
        let mut views = Vec::new();
        for at in commands {
            let Some(command) = job.commands.get(at) else { break };
            let first = if at == start.0 { start.1 } else { 0 };
            let places = only.map_or(first..job.targets.len(), |only| only.max(first)..only + 1);
            for place in places {
                let found = job.targets.get(place).zip(command.deliveries.get(place));
                let found = found.filter(|(_, d)| state.is_none_or(|state| d.state == state));
                let view = found
                    .and_then(|(node, delivery)| self.view_of_delivery(command, *node, delivery));
                views.extend(view);
                if views.len() >= page(*limit) {
                    return Ok(views);
                }
            }
        }
        Ok(views)
    }

    /// What the job did, node by node, at this time and this end of the chain. Signatures are not
    /// checked yet.
    ///
    /// # Errors
    /// The job is unknown, or has more deliveries than `rows_max`.
    pub(super) fn report(
        &self,
        id: JobId,
        (made_at_ns, head): (i64, ChainHead),
        rows_max: u64,
    ) -> Result<JobReport, Refusal> {
        let job = self.find(id)?;
        let (rows, max) = (job.totals.all(), rows_max);
        if rows > max {
            return Err(Refusal::ReportTooLarge { rows, max });
        }
        let commands = job.commands.iter().map(|command| {
            let content = command.row.content.and_then(|id| self.contents.row(id));
            CommandReport {
                command_id: command.row.key.command,
                op: command.row.op.clone(),
                state: state_of(&command.totals),
                size: content.and_then(|content| content.size),
                blake3: content.and_then(|content| content.blake3),
                created_at_ns: command.row.created_at_ns,
            }
        });
        let targets = job.targets.iter().zip(0..);
        let nodes = targets.filter_map(|(node, place)| self.report_of_node(job, *node, place));
        Ok(JobReport {
            job: view_of_job(job),
            made_at_ns,
            event_seq: head.seq,
            event_hash: head.hash,
            commands: commands.collect(),
            nodes: nodes.collect(),
        })
    }

    fn find(&self, id: JobId) -> Result<&'a Job, Refusal> {
        self.jobs.of(self.client, id)
    }

    fn report_of_node(&self, job: &Job, node: NodeId, place: usize) -> Option<NodeReport> {
        let record = self.nodes.get(node)?;
        let (row, expected_back_ns) = (&record.row, record.care.expected_back_ns);
        let mut totals = Totals::default();
        let mut deliveries = Vec::with_capacity(job.commands.len());
        for (at, command) in job.commands.iter().enumerate() {
            let Some(delivery) = command.deliveries.get(place) else { continue };
            totals.add(delivery.state);
            let signed = delivery.receipt.as_deref();
            let receipt = signed.and_then(|signed| {
                let receipt: Result<Receipt, _> = serde_json::from_str(&signed.receipt);
                receipt.ok()
            });
            let is_late = delivery.state == DeliveryState::Completed
                && job.row.first_ended_at_ns.is_some_and(|end| delivery.updated_at_ns > end);
            deliveries.push(DeliveryReport {
                is_late,
                command_id: command_at(at),
                state: delivery.state,
                reason: delivery.reason,
                detail: delivery.detail.as_deref().map(str::to_owned),
                updated_at_ns: delivery.updated_at_ns,
                switches: delivery.switches,
                is_signature_valid: false,
                finished_at_ns: receipt.as_ref().map(|receipt| receipt.finished_at_ns),
                size: receipt.as_ref().map(|receipt| receipt.size),
                blake3: receipt.as_ref().and_then(|receipt| receipt.blake3),
                live: receipt.as_ref().and_then(|receipt| receipt.live),
                via: receipt.map(|receipt| receipt.via).unwrap_or_default(),
                receipt: signed.cloned(),
            });
        }
        let (node, public_key) = (row.name.clone(), row.public_key.clone());
        let state = row.state;
        Some(NodeReport { node, public_key, state, expected_back_ns, totals, deliveries })
    }

    fn view_of_command(&self, command: &Command) -> CommandView {
        let content = command.row.content.and_then(|id| self.contents.get(id));
        CommandView {
            command_id: command.row.key.command,
            op: command.row.op.clone(),
            state: state_of(&command.totals),
            uploaded_bytes: content.map_or(0, |content| content.have),
            size: content.and_then(|content| content.row.size),
            blake3: content.and_then(|content| content.row.blake3),
            totals: command.totals,
        }
    }

    fn view_of_delivery(
        &self,
        command: &Command,
        node: NodeId,
        delivery: &Delivery,
    ) -> Option<DeliveryView> {
        let content = command.row.content.and_then(|id| self.contents.row(id));
        let has_source = content.is_some() && delivery.offset > 0 || delivery.source.is_some();
        let source = delivery.source.and_then(|id| self.nodes.name_of(id));
        let is_live = command.row.op.is_live();
        let has_source = has_source || is_live && delivery.offset > 0;
        let source = source.map_or(if is_live { ORIGIN_NAME } else { BASE_NAME }, NodeName::as_str);
        let further = delivery.further.iter().map(|source| {
            let name = source.and_then(|id| self.nodes.name_of(id));
            name.map_or(BASE_NAME, NodeName::as_str).to_owned()
        });
        let further = further.collect();
        Some(DeliveryView {
            command_id: command.row.key.command,
            node: self.nodes.name_of(node)?.clone(),
            state: delivery.state,
            shown: delivery.state.shown(),
            offset: delivery.offset,
            size: content.and_then(|content| content.size),
            rate: delivery.rate,
            source: has_source.then(|| source.to_owned()),
            further,
            switches: delivery.switches,
            attempts: delivery.attempts,
            reason: delivery.reason,
            receipt: delivery.receipt.as_deref().cloned(),
        })
    }
}

fn view_of_job(job: &Job) -> JobView {
    let row = &job.row;
    JobView {
        job_id: row.id,
        client_ref: row.client_ref.clone(),
        state: row.state,
        servers: row.servers.clone(),
        list_version: row.list_version,
        policy: row.policy.clone(),
        limited_by: job.terms.limit().filter(|_| job.totals.open() > 0),
        ctp_url: ctp_url(row.id),
        commands: u32::try_from(job.commands.len()).unwrap_or(u32::MAX),
        content_bytes: job.content_bytes,
        totals: job.totals,
        created_at_ns: row.created_at_ns,
        ended_at_ns: row.ended_at_ns,
        bound_ratio: row.bound_ratio,
        base_egress_ratio: row.base_egress_ratio,
    }
}

fn behind(job: &Job, after: Option<CommandId>) -> &[Command] {
    // Command n is at n - 1: behind it comes what is at n.
    let start = after.map_or(0, |id| usize::try_from(id.0).unwrap_or(usize::MAX));
    job.commands.get(start..).unwrap_or_default()
}

/// Jobs that a search looks at for one page: the clerk has other things to do.
const JOB_LOOKS_MAX: usize = 4_096;
