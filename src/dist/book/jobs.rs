//! All jobs, and what is found by something else than a job's id.
//!
//! ```text
//! step (delivery), step_job --> state --> totals, counts, open deliveries of a node,
//!                                         jobs that have ended, deadlines
//! ```
//! Invariants: totals, counts and lists follow from the states of deliveries and jobs. So a state
//! is changed here only; who changes it says what follows from that elsewhere
//! ([`super::parts::Parts`]). Bounds: those of [`super::Limits`], which requests are checked by.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use uuid::Uuid;

use crate::dist::book::Refusal;
use crate::dist::book::measure::Measure;
use crate::dist::book::nodes::NodeId;
use crate::dist::book::records::{Command, Delivery, Job, index_of};
use crate::dist::command::state_of;
use crate::dist::delivery::DeliveryInput;
use crate::dist::ids::{CommandId, CommandKey, ContentId, JobId, Stamp};
use crate::dist::job::JobInput;
use crate::dist::rows::{CommandRow, JobRow};
use crate::dist::wire::job::{CommandState, DeliveryState, JobState, Totals};

/// Deliveries by state, in the order of `DeliveryState::ALL`.
pub(super) type Counts = [u64; DeliveryState::ALL.len()];

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    jobs: BTreeMap<JobId, Job>,
    /// By client, and the client's own name of the job.
    refs: HashMap<(String, String), JobId>,
    /// Jobs that have not ended.
    live: BTreeSet<JobId>,
    /// Jobs that have ended, the oldest first.
    ended: BTreeSet<(i64, JobId)>,
    /// Of jobs that have not.
    deadlines: BTreeSet<(i64, JobId)>,
    /// When windows of jobs open or close.
    windows: BTreeSet<(i64, JobId)>,
    /// Open deliveries.
    open: HashMap<NodeId, BTreeSet<CommandKey>>,
    /// Deliveries of all jobs.
    deliveries: usize,
    counts: Counts,
}

/// What a delivery has become.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) to: DeliveryState,
    /// The content of its command.
    pub(super) content: Option<ContentId>,
    /// The state of its command, if that changed.
    pub(super) command: Option<CommandState>,
}

impl Jobs {
    pub(super) fn get(&self, id: JobId) -> Option<&Job> {
        self.jobs.get(&id)
    }

    /// For everything of a job but states of it and of its deliveries.
    pub(super) fn get_mut(&mut self, id: JobId) -> Option<&mut Job> {
        self.jobs.get_mut(&id)
    }

    /// The job, if it is the client's.
    ///
    /// # Errors
    /// It is unknown, or another client's.
    pub(super) fn of(&self, client: &str, id: JobId) -> Result<&Job, Refusal> {
        let job = self.jobs.get(&id).filter(|job| job.row.client == client);
        job.ok_or(Refusal::UnknownJob(id))
    }

    /// The job to which a client gave this name.
    pub(super) fn by_ref(&self, client: &str, name: &str) -> Option<JobId> {
        self.refs.get(&(client.to_owned(), name.to_owned())).copied()
    }

    /// All behind `after`, the oldest first.
    pub(super) fn behind(&self, after: Option<JobId>) -> impl Iterator<Item = &Job> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.jobs.range((start, Bound::Unbounded)).map(|(_, job)| job)
    }

    /// All of them, as [`Jobs::get_mut`] gives them.
    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Job> {
        self.jobs.values_mut()
    }

    pub(super) fn command(&self, key: CommandKey) -> Option<&Command> {
        self.get(key.job)?.command(key.command)
    }

    pub(super) fn content_of(&self, key: CommandKey) -> Option<ContentId> {
        self.command(key)?.row.content
    }

    pub(super) fn delivery(&self, key: CommandKey, node: NodeId) -> Option<&Delivery> {
        self.get(key.job)?.delivery(key.command, node)
    }

    /// For everything of a delivery but its state.
    pub(super) fn delivery_mut(&mut self, key: CommandKey, node: NodeId) -> Option<&mut Delivery> {
        self.get_mut(key.job)?.delivery_mut(key.command, node)
    }

    /// Jobs in memory.
    pub(super) fn count(&self) -> usize {
        self.jobs.len()
    }

    /// Deliveries in memory.
    pub(super) fn deliveries(&self) -> usize {
        self.deliveries
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Commands that are open at a node, in order.
    pub(super) fn open_at(&self, node: NodeId) -> Vec<CommandKey> {
        self.open.get(&node).map(|open| open.iter().copied().collect()).unwrap_or_default()
    }

    /// Those of them that are of a job, in order.
    pub(super) fn open_of(&self, node: NodeId, job: JobId) -> impl Iterator<Item = CommandKey> {
        let from = CommandKey { job, command: CommandId(0) };
        let to = CommandKey { job, command: CommandId(u32::MAX) };
        self.open.get(&node).into_iter().flat_map(move |open| open.range(from..=to)).copied()
    }

    /// Jobs that have not ended, and that have this node among their targets.
    pub(super) fn live_at(&self, node: NodeId) -> impl Iterator<Item = JobId> {
        let jobs = self.live.iter().filter_map(|id| self.jobs.get(id));
        jobs.filter(move |job| job.places.contains_key(&node)).map(|job| job.row.id)
    }

    /// Jobs of which something has failed, and that have this node among their targets.
    pub(super) fn with_failed_at(&self, node: NodeId) -> Vec<JobId> {
        let jobs = self.jobs.values().filter(|job| job.totals.failed > 0);
        jobs.filter(|job| job.places.contains_key(&node)).map(|job| job.row.id).collect()
    }

    /// How many of them.
    pub(super) fn open_count(&self, node: NodeId) -> usize {
        self.open.get(&node).map_or(0, BTreeSet::len)
    }

    /// Nodes at which a command is open.
    pub(super) fn open_targets(&self, key: CommandKey) -> Vec<NodeId> {
        let Some(job) = self.get(key.job) else { return Vec::new() };
        let Some(command) = job.command(key.command) else { return Vec::new() };
        let open = job.targets.iter().zip(&command.deliveries);
        open.filter(|(_, delivery)| delivery.state.is_open()).map(|(node, _)| *node).collect()
    }

    /// Adds a job without commands.
    pub(super) fn add(
        &mut self,
        row: JobRow,
        targets: Vec<NodeId>,
        measure: Option<Measure>,
        now_ns: u64,
    ) {
        let id = row.id;
        if let Some(name) = &row.client_ref {
            self.refs.insert((row.client.clone(), name.clone()), id);
        }
        if row.state.is_live() {
            self.live.insert(id);
            self.deadlines.extend(row.deadline_ns.map(|deadline| (deadline, id)));
        } else {
            self.ended.insert((row.ended_at_ns.unwrap_or_default(), id));
        }
        self.jobs.insert(id, Job::new(row, targets, measure, now_ns));
    }

    /// Adds a command to its job, which has as many as the command's number says, less one.
    pub(super) fn add_command(&mut self, row: CommandRow) {
        let key = row.key;
        let Some(job) = self.jobs.get_mut(&key.job) else { return };
        if let (Some(path), Some(_)) = (row.op.path(), row.content) {
            job.puts.insert(path.to_owned(), key.command);
        }
        let pending = |_: &NodeId| Delivery::pending(row.created_at_ns);
        let deliveries: Vec<_> = job.targets.iter().map(pending).collect();
        let count = u64::try_from(deliveries.len()).unwrap_or(u64::MAX);
        let totals = Totals { new: count, ..Totals::default() };
        job.totals.new += count;
        job.commands.push(Command { row, totals, deliveries });
        self.deliveries += job.targets.len();
        for node in &job.targets {
            self.open.entry(*node).or_default().insert(key);
        }
        self.count_state(DeliveryState::Pending, i64::try_from(count).unwrap_or(0));
    }

    /// Takes an input of a delivery. `edit` changes what else belongs to it. `None`, and nothing is
    /// changed, when the input has no effect.
    pub(super) fn step(
        &mut self,
        (key, node): (CommandKey, NodeId),
        input: DeliveryInput,
        now: Stamp,
        edit: impl FnOnce(&mut Delivery),
    ) -> Option<Step> {
        self.change(key, node, |delivery| {
            let to = delivery.state.next(input)?;
            edit(delivery);
            delivery.enter(to, now);
            Some(())
        })
    }

    /// A delivery is as a row says.
    pub(super) fn put_delivery(&mut self, key: CommandKey, node: NodeId, read: Delivery) {
        self.change(key, node, |delivery| {
            *delivery = read;
            Some(())
        });
    }

    fn change(
        &mut self,
        key: CommandKey,
        node: NodeId,
        edit: impl FnOnce(&mut Delivery) -> Option<()>,
    ) -> Option<Step> {
        let job = self.jobs.get_mut(&key.job)?;
        let place = *job.places.get(&node)?;
        let command = job.commands.get_mut(index_of(key.command)?)?;
        let delivery = command.deliveries.get_mut(place)?;
        let from = delivery.state;
        edit(delivery)?;
        let to = delivery.state;
        let before = state_of(&command.totals);
        command.totals.shift(from, to);
        job.totals.shift(from, to);
        let (after, content) = (state_of(&command.totals), command.row.content);
        self.count_state(from, -1);
        self.count_state(to, 1);
        let open = self.open.entry(node).or_default();
        if to.is_open() {
            open.insert(key);
        } else {
            open.remove(&key);
        }
        Some(Step { to, content, command: Some(after).filter(|after| *after != before) })
    }

    /// Takes an input of a job. Gives its new state; `None` when it has no effect.
    pub(super) fn step_job(&mut self, id: JobId, input: JobInput, now_ns: i64) -> Option<JobState> {
        let row = &mut self.jobs.get_mut(&id)?.row;
        let next = row.state.next(input).filter(|next| *next != row.state)?;
        let was_live = row.state.is_live();
        let ended_at_ns = (!next.is_live()).then_some(now_ns);
        row.state = next;
        let ended_before = std::mem::replace(&mut row.ended_at_ns, ended_at_ns);
        if !was_live {
            self.ended.remove(&(ended_before.unwrap_or_default(), id));
        }
        if next.is_live() {
            self.live.insert(id);
        } else {
            self.live.remove(&id);
            row.first_ended_at_ns.get_or_insert(now_ns);
            self.deadlines.remove(&(row.deadline_ns.unwrap_or_default(), id));
            self.ended.insert((now_ns, id));
        }
        Some(next)
    }

    /// The next live job whose deadline has passed. It is given once.
    pub(super) fn take_overdue(&mut self, now_ns: i64) -> Option<JobId> {
        while let Some((_, id)) = self.deadlines.first().filter(|(at_ns, _)| *at_ns <= now_ns) {
            let id = *id;
            self.deadlines.pop_first();
            if self.get(id).is_some_and(|job| job.row.state.is_live()) {
                return Some(id);
            }
        }
        None
    }

    /// The window of a job is to be looked at then, and no more when it was to be before.
    pub(super) fn look_at(&mut self, id: JobId, at_ns: Option<i64>) {
        self.windows.retain(|(_, job)| *job != id);
        self.windows.extend(at_ns.map(|at_ns| (at_ns, id)));
    }

    /// Jobs whose windows open or close until now.
    pub(super) fn take_due_windows(&mut self, now_ns: i64) -> Vec<JobId> {
        let later = self.windows.split_off(&(now_ns.saturating_add(1), JobId(Uuid::nil())));
        std::mem::replace(&mut self.windows, later).into_iter().map(|(_, id)| id).collect()
    }

    /// Jobs that ended at such a time, the oldest first.
    pub(super) fn ended(&self, is_old: impl Fn(i64) -> bool) -> Vec<JobId> {
        let ended = self.ended.iter().take_while(|(at_ns, _)| is_old(*at_ns));
        ended.map(|(_, id)| *id).collect()
    }

    /// The job that ended first, which is in no list of those any more.
    pub(super) fn take_oldest_ended(&mut self) -> Option<JobId> {
        self.ended.pop_first().map(|(_, id)| id)
    }

    /// Lets go of a job that has ended.
    pub(super) fn remove(&mut self, id: JobId) -> Option<Job> {
        let job = self.jobs.remove(&id)?;
        self.live.remove(&id);
        if let Some(name) = &job.row.client_ref {
            self.refs.remove(&(job.row.client.clone(), name.clone()));
        }
        for command in &job.commands {
            for (node, delivery) in job.targets.iter().zip(&command.deliveries) {
                self.deliveries -= 1;
                self.count_state(delivery.state, -1);
                if let Some(open) = self.open.get_mut(node).filter(|_| delivery.state.is_open()) {
                    open.remove(&command.row.key);
                }
            }
        }
        Some(job)
    }

    /// The content of the newest put of a path.
    pub(super) fn find_content(&self, id: JobId, path: &str) -> Option<ContentId> {
        let job = self.get(id)?;
        job.command(*job.puts.get(path)?)?.row.content
    }

    /// A command was withdrawn, or its upload failed.
    pub(super) fn undo(&mut self, key: CommandKey) {
        if let Some(job) = self.get_mut(key.job) {
            job.undo(key.command);
        }
    }

    /// `count` deliveries more, or fewer, are in this state.
    fn count_state(&mut self, state: DeliveryState, count: i64) {
        let place = DeliveryState::ALL.iter().position(|other| *other == state);
        if let Some(place) = place.and_then(|place| self.counts.get_mut(place)) {
            *place = place.saturating_add_signed(count);
        }
    }
}
