//! What nodes report: how far each delivery is, receipts, units that fail their hash.
//!
//! ```text
//! Reports { incarnation, first, reports } --numbers above reports_taken--> deliveries
//! Completed { receipt } --signature, node, command, path, size, hash--> completed, or failed
//! ```
//! Invariants: a report counts once, by its number; a report of a delivery that has ended has no
//! effect on it; offsets grow, but for a new start of the agent and a new attempt. A receipt that
//! is refused fails its delivery: a node that says another hash does not have the content.

use serde_json::json;

use crate::dist::book::advance::BASE_NAME;
use crate::dist::book::effects::About;
use crate::dist::book::records::{BAD_UNITS_MAX, Delivery, NodeId};
use crate::dist::book::{Book, Refusal};
use crate::dist::command::attributes_digest;
use crate::dist::delivery::DeliveryInput;
use crate::dist::ids::{CommandKey, ContentId, NodeName, Stamp};
use crate::dist::keys::verify_receipt;
use crate::dist::node::NodeInput;
use crate::dist::rows::Change;
use crate::dist::wire::agent::{
    NodeOrder, Receipt, Report, Reports, ReportsTaken, SignedReceipt, SwitchCause,
};
use crate::dist::wire::job::{DeliveryState, Op, Reason};

impl Book {
    /// Takes reports of a node: those with numbers that were not taken before. An empty batch is a
    /// heartbeat.
    ///
    /// # Errors
    /// The node is unknown or retired, or this start of it did not say hello.
    pub fn reports(&mut self, batch: Reports, at: Stamp) -> Result<ReportsTaken, Refusal> {
        self.fx.now = at;
        let name = batch.node;
        let id = self.node_ids.get(&name).copied();
        let Some(id) = id else { return Err(Refusal::UnknownNode(name)) };
        let Some(node) = self.node_at_mut(id) else { return Err(Refusal::UnknownNode(name)) };
        if !node.is_there() {
            return Err(Refusal::NodeRetired(name));
        }
        if batch.incarnation != node.row.incarnation {
            return Err(Refusal::HelloAgain(name));
        }
        node.free_bytes = batch.free_bytes;
        node.row.up_rate_seen = node.row.up_rate_seen.max(batch.up_rate_seen);
        node.row.down_rate_seen = node.row.down_rate_seen.max(batch.down_rate_seen);
        let before = node.row.reports_taken;
        self.heard(id);
        let (mut taken, mut is_lasting) = (before, false);
        for (number, report) in (batch.first.max(1)..u64::MAX).zip(batch.reports) {
            if number > taken {
                taken = number;
                is_lasting |= !matches!(report, Report::Progress { .. });
                self.take_report(id, report);
            }
        }
        if let Some(node) = self.node_at_mut(id)
            && taken > before
        {
            node.row.reports_taken = taken;
            // How far a delivery is need not last, and neither does that it was said.
            let row = is_lasting.then(|| node.row.clone());
            row.into_iter().for_each(|row| self.fx.keep(Change::Node(row)));
        }
        Ok(ReportsTaken { taken })
    }

    fn take_report(&mut self, node: NodeId, report: Report) {
        match report {
            Report::Received { key } => {
                let now_ns = self.fx.now.mono_ns;
                if let Some(node) = self.node_at_mut(node) {
                    node.took_ns = now_ns;
                }
                if self.is_known(key, node) {
                    self.advance(key, node, DeliveryInput::Journaled, |_| {});
                }
            }
            Report::Fetching { key, offset, source, cause } => {
                self.take_fetching(key, node, offset, source.as_ref(), cause);
            }
            Report::Progress { key, offset, rate } => self.take_progress(key, node, offset, rate),
            Report::Applying { key } => {
                let size = self.size_of(key);
                self.advance(key, node, DeliveryInput::Whole, |delivery| {
                    delivery.take_offset(size.unwrap_or(delivery.offset));
                });
            }
            Report::Completed { receipt } => {
                if let Some(job) = self.take_receipt(node, receipt) {
                    self.settle(job.job);
                }
            }
            Report::Failed { key, reason, detail, is_final } => {
                let input = if is_final { DeliveryInput::Fatal } else { DeliveryInput::Error };
                self.advance(key, node, input, |delivery| {
                    delivery.attempts = delivery.attempts.saturating_add(1);
                    delivery.reason = Some(reason);
                    delivery.detail = Some(shortened(&detail).into());
                    delivery.is_fresh = true;
                });
                self.settle(key.job);
            }
            Report::Cancelled { key } => {
                // Of an order that came before a retry: the node has let go of what is wanted
                // again.
                let taken = self.advance(key, node, DeliveryInput::Error, |delivery| {
                    delivery.attempts = delivery.attempts.saturating_add(1);
                    delivery.is_fresh = true;
                });
                if taken.is_some() {
                    self.say_command(key, node);
                }
            }
            Report::BadUnit { content, source, unit } => {
                self.take_bad_unit(node, content, source.as_ref(), unit);
            }
        }
    }

    fn take_fetching(
        &mut self,
        key: CommandKey,
        node: NodeId,
        offset: u64,
        source: Option<&NodeName>,
        cause: SwitchCause,
    ) {
        let source = source.and_then(|name| self.node_ids.get(name)).copied();
        let is_switch = cause != SwitchCause::First;
        let now = self.fx.now;
        let edit = |delivery: &mut Delivery| {
            delivery.take_offset(offset);
            delivery.source = source;
            delivery.switches = delivery.switches.saturating_add(u32::from(is_switch));
            delivery.moved_ns = now.mono_ns;
            delivery.grew_ns = now.mono_ns;
            delivery.reason = None;
            delivery.detail = None;
        };
        let is_own_switch = match cause {
            SwitchCause::First | SwitchCause::Plan => false,
            SwitchCause::Lost
            | SwitchCause::Stall
            | SwitchCause::BadUnit
            | SwitchCause::Busy
            | SwitchCause::Faster => true,
        };
        let command = self.jobs.get(&key.job).and_then(|job| job.command(key.command));
        let content = command.and_then(|command| command.row.content);
        if let Some(content) = content.filter(|_| is_own_switch) {
            self.follow_switch(content, node, source);
        }
        if self.advance(key, node, DeliveryInput::Bytes, edit).is_some() {
            return;
        }
        let job = self.jobs.get_mut(&key.job);
        let delivery = job.and_then(|job| job.delivery_mut(key.command, node));
        let Some(delivery) = delivery.filter(|d| d.state == DeliveryState::Fetching) else {
            return;
        };
        edit(delivery);
        delivery.updated_at_ns = now.utc_ns;
        self.keep_delivery(key, node);
        self.delivery_event("delivery.source", key, node, Some(("cause", json!(cause))));
    }

    fn take_progress(&mut self, key: CommandKey, node: NodeId, offset: u64, rate: u64) {
        let now_ns = self.fx.now.mono_ns;
        let job = self.jobs.get_mut(&key.job);
        let delivery = job.and_then(|job| job.delivery_mut(key.command, node));
        if let Some(delivery) = delivery.filter(|d| d.state == DeliveryState::Fetching) {
            let before = delivery.offset;
            delivery.take_offset(offset);
            delivery.rate = rate;
            if delivery.offset > before {
                delivery.grew_ns = now_ns;
            }
        }
    }

    /// Checks a receipt, and completes its delivery. Gives the command, where there is one.
    pub(super) fn take_receipt(
        &mut self,
        node: NodeId,
        signed: SignedReceipt,
    ) -> Option<CommandKey> {
        // What is not signed counts only as far as to know which delivery it is that fails.
        let said: Receipt = serde_json::from_str(&signed.receipt).ok()?;
        let key = said.key;
        let job = self.jobs.get(&key.job);
        let delivery = job.and_then(|job| job.delivery(key.command, node));
        let Some(state) = delivery.map(|delivery| delivery.state) else {
            self.is_known(key, node);
            return None;
        };
        if state == DeliveryState::Completed {
            return None;
        }
        match self.check_receipt(node, &signed) {
            Err(cause) => {
                self.delivery_event("receipt.refused", key, node, Some(("cause", json!(cause))));
                self.advance(key, node, DeliveryInput::Fatal, |delivery| {
                    delivery.reason = Some(Reason::BadHash);
                    delivery.detail = Some(format!("receipt refused: {cause}").into());
                    delivery.receipt = None;
                });
            }
            Ok(_) if !state.is_open() => {
                let detail = json!({"receipt": signed.receipt, "signature": signed.signature});
                self.delivery_event("receipt.late", key, node, Some(("late", detail)));
            }
            Ok(Counts::Later) => {
                self.advance(key, node, DeliveryInput::Whole, |_| {});
                let job = self.jobs.get_mut(&key.job)?;
                let delivery = job.delivery_mut(key.command, node)?;
                delivery.receipt = Some(Box::new(signed));
                self.keep_delivery(key, node);
            }
            Ok(Counts::Now) => {
                self.advance(key, node, DeliveryInput::Receipt, |delivery| {
                    delivery.offset = said.size;
                    delivery.is_fresh = false;
                    delivery.reason = None;
                    delivery.detail = None;
                    delivery.receipt = Some(Box::new(signed));
                });
                let now_ns = self.fx.now.mono_ns;
                let job = self.jobs.get_mut(&key.job);
                if let Some(measure) = job.and_then(|job| job.measure.as_mut()) {
                    measure.last_receipt_ns = now_ns;
                }
            }
        }
        Some(key)
    }

    /// Whether a receipt is the node's, and says what the base knows.
    fn check_receipt(&self, node: NodeId, signed: &SignedReceipt) -> Result<Counts, &'static str> {
        let node = self.node_at(node).ok_or("no such node")?;
        let key = node.key.as_ref().ok_or("the key of the node cannot be read")?;
        let receipt = verify_receipt(key, signed).map_err(|_| "the signature does not match")?;
        let Receipt { node: name, key, path, size, blake3, attrs, .. } = &receipt;
        if *name != node.row.name {
            return Err("it names another node");
        }
        let command = self.jobs.get(&key.job).and_then(|job| job.command(key.command));
        let row = &command.ok_or("no such command")?.row;
        let is_path = row.op.path().is_none_or(|expected| expected == path);
        if !is_path {
            return Err("it names another path");
        }
        if let (Some(said), Some(expected)) = (attrs, row.op.attributes())
            && *said != attributes_digest(expected)
        {
            return Err("it names other attributes");
        }
        let Some(content) = row.content else { return Ok(Counts::Now) };
        let content = &self.contents.get(&content).ok_or("its content is not known any more")?.row;
        match content.blake3 {
            None => Ok(Counts::Later),
            Some(_) if *blake3 != content.blake3 => Err("it has another hash than the base"),
            Some(_) if Some(*size) != content.size => Err("it has another size than the base"),
            Some(_) => Ok(Counts::Now),
        }
    }

    fn take_bad_unit(
        &mut self,
        node: NodeId,
        content: ContentId,
        source: Option<&NodeName>,
        unit: u64,
    ) {
        let Some(name) = self.node_at(node).map(|node| node.row.name.clone()) else { return };
        let key = self.contents.get(&content).map(|content| content.row.key);
        let detail = json!({
            "content": content,
            "unit": unit,
            "source": source.map_or(BASE_NAME, NodeName::as_str),
        });
        let about = key.map_or_else(|| About::node(&name), |key| About::delivery(key, &name));
        self.fx.event("unit.bad", about, detail);
        let Some(source) = source.and_then(|name| self.node_ids.get(name)).copied() else { return };
        let Some(record) = self.node_at_mut(source).filter(|_| source != node) else { return };
        record.bad_units = record.bad_units.saturating_add(1);
        if record.bad_units >= BAD_UNITS_MAX && !self.change_node(source, NodeInput::Poisoned) {
            self.bar_from_flows(source);
        }
    }

    /// Whether the delivery is in the book. A node that speaks of another is told to forget the
    /// job.
    fn is_known(&mut self, key: CommandKey, node: NodeId) -> bool {
        let job = self.jobs.get(&key.job);
        let is_known = job.is_some_and(|job| job.delivery(key.command, node).is_some());
        if !is_known {
            self.say(node, NodeOrder::Forget { job: key.job });
        }
        is_known
    }

    fn size_of(&self, key: CommandKey) -> Option<u64> {
        let row = &self.jobs.get(&key.job)?.command(key.command)?.row;
        match &row.op {
            Op::Put { .. } => self.contents.get(&row.content?)?.row.size,
            Op::Mkdir { .. }
            | Op::Delete { .. }
            | Op::Move { .. }
            | Op::SetAttributes { .. }
            | Op::Query => None,
        }
    }
}

/// When a receipt counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counts {
    /// It says what the base knows.
    Now,
    /// When the base has the end of the upload.
    Later,
}

/// Details are for people, and go into the ledger.
fn shortened(text: &str) -> String {
    text.chars().take(DETAIL_CHARS_MAX).collect()
}

const DETAIL_CHARS_MAX: usize = 512;
