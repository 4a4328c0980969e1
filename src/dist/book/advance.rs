//! Moves deliveries, and commands and jobs with them.
//!
//! ```text
//! a delivery changes --> totals of its command and job --> the command's state, if it changed
//!        |                                            `--> the job, when nothing is open any more
//!        `--> row, event, plan of the content
//! ```
//! Every change of a delivery's state goes through [`Book::advance`].

use serde_json::{Value, json};

use crate::dist::book::Book;
use crate::dist::book::effects::About;
use crate::dist::book::records::{Delivery, Job, Measure, NodeId, drop_put, index_of};
use crate::dist::command::state_of;
use crate::dist::delivery::DeliveryInput;
use crate::dist::ids::{CommandId, CommandKey, ContentId, JobId};
use crate::dist::job::JobInput;
use crate::dist::plan::fluid_bound_ns;
use crate::dist::rows::Change;
use crate::dist::wire::agent::NodeOrder;
use crate::dist::wire::job::{DeliveryState, JobState, Reason};

impl Book {
    /// Takes an input of a delivery. `edit` changes what else belongs to it. Gives the new state;
    /// `None` when the input has no effect: then nothing is changed.
    pub(super) fn advance(
        &mut self,
        key: CommandKey,
        node: NodeId,
        input: DeliveryInput,
        edit: impl FnOnce(&mut Delivery),
    ) -> Option<DeliveryState> {
        let now = self.fx.now;
        let job = self.jobs.get_mut(&key.job)?;
        let place = *job.places.get(&node)?;
        let command = job.commands.get_mut(index_of(key.command)?)?;
        let delivery = command.deliveries.get_mut(place)?;
        let (from, to) = (delivery.state, delivery.state.next(input)?);
        edit(delivery);
        delivery.state = to;
        delivery.updated_at_ns = now.utc_ns;
        delivery.moved_ns = now.mono_ns;
        if to != DeliveryState::Fetching {
            delivery.rate = 0;
        }
        let before = state_of(&command.totals);
        command.totals.shift(from, to);
        job.totals.shift(from, to);
        let (after, content) = (state_of(&command.totals), command.row.content);
        self.count_deliveries(from, -1);
        self.count_deliveries(to, 1);
        self.keep_delivery(key, node);
        let kind = match input {
            DeliveryInput::Again => "delivery.retried".to_owned(),
            _ => format!("delivery.{}", to.as_str()),
        };
        self.delivery_event(&kind, key, node, None);
        if before != after {
            self.fx.event(&format!("command.{}", after.as_str()), About::command(key), json!({}));
        }
        if let Some(node) = self.node_at_mut(node) {
            if to.is_open() {
                node.open.insert(key);
            } else {
                node.open.remove(&key);
            }
        }
        if let Some(content) = content.filter(|_| !to.is_open()) {
            self.flow_ended(content, node, to);
        }
        Some(to)
    }

    /// The row of a delivery is to be written.
    pub(super) fn keep_delivery(&mut self, key: CommandKey, node: NodeId) {
        let Some(name) = self.node_at(node).map(|node| node.row.name.clone()) else { return };
        let delivery = self.jobs.get(&key.job).and_then(|job| job.delivery(key.command, node));
        let Some(delivery) = delivery else { return };
        let source = delivery.source.and_then(|id| self.node_at(id));
        let source = source.map(|node| node.row.name.clone());
        self.fx.keep(Change::Delivery(delivery.row(key, name, source)));
    }

    /// An event of a delivery, with what matters of it in its state.
    pub(super) fn delivery_event(
        &mut self,
        kind: &str,
        key: CommandKey,
        node: NodeId,
        more: Option<(&str, Value)>,
    ) {
        let Some(name) = self.node_at(node).map(|node| node.row.name.clone()) else { return };
        let delivery = self.jobs.get(&key.job).and_then(|job| job.delivery(key.command, node));
        let Some(delivery) = delivery else { return };
        let mut detail = serde_json::Map::new();
        let is_moving = delivery.offset > 0 || delivery.state == DeliveryState::Fetching;
        if is_moving {
            detail.insert("offset".to_owned(), json!(delivery.offset));
        }
        if delivery.state == DeliveryState::Fetching {
            let source = delivery.source.and_then(|id| self.node_at(id));
            let source = source.map_or(BASE_NAME, |node| node.row.name.as_str());
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
        self.fx.event(kind, About::delivery(key, &name), Value::Object(detail));
    }

    /// Ends all open deliveries of a command with this reason, or as withdrawn without one. Nodes
    /// are told.
    pub(super) fn end_deliveries(&mut self, key: CommandKey, reason: Option<Reason>, text: &str) {
        // Nobody needs its plan: it is not made anew for each node that leaves it.
        let command = self.jobs.get(&key.job).and_then(|job| job.command(key.command));
        if let Some(content) = command.and_then(|command| command.row.content) {
            self.end_flow(content);
        }
        for node in self.open_targets(key) {
            let input = match reason {
                Some(_) => DeliveryInput::Fatal,
                None => DeliveryInput::Cancel,
            };
            self.advance(key, node, input, |delivery| {
                delivery.reason = reason;
                delivery.detail = reason.map(|_| text.into());
            });
            self.say_end(node, NodeOrder::Cancel { key });
        }
    }

    /// A command is open at a node that is none any more.
    pub(super) fn fail_at_retired(&mut self, key: CommandKey, node: NodeId) {
        self.advance(key, node, DeliveryInput::Fatal, |delivery| {
            delivery.reason = Some(Reason::NodeRetired);
        });
    }

    /// Nodes at which a command is open.
    pub(super) fn open_targets(&self, key: CommandKey) -> Vec<NodeId> {
        let Some(job) = self.jobs.get(&key.job) else { return Vec::new() };
        let Some(command) = job.command(key.command) else { return Vec::new() };
        let open = job.targets.iter().zip(&command.deliveries);
        open.filter(|(_, delivery)| delivery.state.is_open()).map(|(node, _)| *node).collect()
    }

    /// Ends a closing job when nothing of it is open.
    pub(super) fn settle(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        if job.row.state != JobState::Closing || job.totals.open() > 0 {
            return;
        }
        let input =
            if job.totals.failed > 0 { JobInput::SomeFailed } else { JobInput::AllCompleted };
        self.change_job(id, input);
    }

    /// Takes an input of a job. False when it has no effect in the job's state.
    pub(super) fn change_job(&mut self, id: JobId, input: JobInput) -> bool {
        let now = self.fx.now;
        let Some(job) = self.jobs.get_mut(&id) else { return false };
        let Some(next) = job.row.state.next(input).filter(|next| *next != job.row.state) else {
            return false;
        };
        let was_live = job.row.state.is_live();
        job.row.state = next;
        job.row.ended_at_ns = (!next.is_live()).then_some(now.utc_ns);
        let (ended_at, deadline) = (now.utc_ns, job.row.deadline_ns);
        let mut detail = json!({});
        if !next.is_live() {
            self.deadlines.remove(&(deadline.unwrap_or_default(), id));
            self.ended.insert((ended_at, id));
            detail = self.measure(id);
            self.end_of_contents(id, next);
        } else if !was_live {
            self.ended.retain(|(_, other)| *other != id);
        }
        let Some(job) = self.jobs.get(&id) else { return false };
        self.fx.keep(Change::Job(job.row.clone()));
        let kind = format!("job.{}", next.as_str());
        self.fx.event(&kind, About::job(id), detail);
        true
    }

    /// Totals and ratios of a job that has ended.
    fn measure(&mut self, id: JobId) -> Value {
        let Some(job) = self.jobs.get(&id) else { return Value::Null };
        let (bound_ratio, egress_ratio) = (self.bound_permille(job), egress_permille(job));
        let totals = job.totals;
        let Some(job) = self.jobs.get_mut(&id) else { return Value::Null };
        job.row.bound_ratio = bound_ratio.map(from_permille);
        job.row.base_egress_ratio = egress_ratio.map(from_permille);
        json!({
            "completed": totals.completed,
            "failed": totals.failed,
            "cancelled": totals.cancelled,
            "bytes": job.content_bytes,
            "bound_ratio_permille": bound_ratio,
        })
    }

    /// Time over the fluid bound, in thousandths.
    fn bound_permille(&self, job: &Job) -> Option<u64> {
        let measure = measured(job)?;
        let seen = |cap: Option<u64>, seen: u64| cap.or_else(|| Some(seen).filter(|s| *s > 0));
        let base_up = seen(self.options.up_rate, self.base_rate.best)?;
        let rates = job.targets.iter().filter_map(|node| self.node_at(*node)).map(|node| {
            let down = seen(node.row.down_rate_cap, node.row.down_rate_seen);
            let up = seen(node.row.up_rate_cap, node.row.up_rate_seen).unwrap_or(0);
            Some((up, down?))
        });
        let rates: Vec<(u64, u64)> = rates.collect::<Option<_>>()?;
        let bound_ns = fluid_bound_ns(job.content_bytes, base_up, rates.into_iter());
        let took_ns = measure.last_receipt_ns.saturating_sub(measure.first_byte_ns?);
        Some(permille(took_ns, bound_ns))
    }

    /// What nodes and the store need not keep of a job that has ended.
    fn end_of_contents(&mut self, id: JobId, state: JobState) {
        let is_final = match state {
            JobState::Completed | JobState::Cancelled => true,
            // Kept for a retry.
            JobState::CompletedWithFailures
            | JobState::Requested
            | JobState::Denied
            | JobState::Open
            | JobState::Closing => false,
        };
        if !is_final {
            return;
        }
        let Some(job) = self.jobs.get(&id) else { return };
        for node in job.targets.clone() {
            self.say_end(node, NodeOrder::Forget { job: id });
        }
        if state == JobState::Cancelled {
            self.expire_contents(id);
        }
    }

    /// The bytes of a job's contents may go.
    pub(super) fn expire_contents(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if !std::mem::replace(&mut job.is_expired, true) {
            let contents = job.commands.iter().filter_map(|command| command.row.content);
            let contents: Vec<_> = contents.collect();
            // Those that were abandoned went before.
            let is_kept = |id: &ContentId| self.content(*id).is_some_and(|row| !row.is_abandoned);
            let contents: Vec<_> = contents.into_iter().filter(is_kept).collect();
            for content in contents {
                self.end_flow(content);
                self.fx.expire(content);
            }
        }
    }

    /// A command was withdrawn, or its upload failed.
    pub(super) fn count_undone(&mut self, job: JobId, command: CommandId) {
        if let Some(job) = self.jobs.get_mut(&job) {
            job.undone += 1;
            let row = index_of(command).and_then(|at| job.commands.get(at)).map(|c| &c.row);
            row.into_iter().for_each(|row| drop_put(&mut job.puts, row));
        }
    }
}

/// What a job was measured by, if all of it arrived everywhere and was seen.
fn measured(job: &Job) -> Option<&Measure> {
    let is_whole = job.content_bytes > 0 && job.totals.failed + job.totals.cancelled == 0;
    job.measure.as_ref().filter(|_| is_whole)
}

/// Bytes that left the base over those of the contents, in thousandths.
pub(super) fn egress_permille(job: &Job) -> Option<u64> {
    measured(job).map(|measure| permille(measure.base_sent, job.content_bytes))
}

fn permille(part: u64, whole: u64) -> u64 {
    let ratio = u128::from(part) * 1_000 / u128::from(whole.max(1));
    u64::try_from(ratio).unwrap_or(u64::MAX)
}

/// A float for people: the chain has the whole number.
pub(super) fn from_permille(permille: u64) -> f64 {
    f64::from(u32::try_from(permille).unwrap_or(u32::MAX)) / 1_000.0
}

/// How the base is called where nodes are named.
pub(super) const BASE_NAME: &str = "base";
