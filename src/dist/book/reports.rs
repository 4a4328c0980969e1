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

use crate::dist::book::Refusal;
use crate::dist::book::effects::About;
use crate::dist::book::nodes::{BAD_UNITS_MAX, NodeId};
use crate::dist::book::parts::{BASE_NAME, Parts};
use crate::dist::book::presence::Presence;
use crate::dist::book::records::Delivery;
use crate::dist::book::repair::Repair;
use crate::dist::command::attributes_digest;
use crate::dist::delivery::DeliveryInput;
use crate::dist::ids::{CommandKey, ContentId, NodeName};
use crate::dist::keys::{verify_answer, verify_receipt};
use crate::dist::node::NodeInput;
use crate::dist::rows::Change;
use crate::dist::wire::agent::{
    NodeOrder, Receipt, Report, Reports, ReportsTaken, SignedReceipt, SwitchCause,
};
use crate::dist::wire::job::{DeliveryState, Op, Reason};
use crate::dist::wire::relay::{Alive, SignedAnswer};

/// A node that reports, and all that its reports have to do with.
#[derive(Debug)]
pub(super) struct Reporter<'a> {
    pub(super) parts: &'a mut Parts,
    pub(super) node: NodeId,
}

/// Takes reports of a node: those with numbers that were not taken before.
///
/// # Errors
/// As [`super::Book::reports`].
pub(super) fn take_reports(parts: &mut Parts, batch: Reports) -> Result<ReportsTaken, Refusal> {
    let name = batch.node;
    let Some(id) = parts.nodes.id_of(&name) else { return Err(Refusal::UnknownNode(name)) };
    let Some(node) = parts.nodes.get_mut(id) else { return Err(Refusal::UnknownNode(name)) };
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
    Presence { parts: &mut *parts, node: id }.heard();
    let (mut taken, mut is_lasting) = (before, false);
    let mut reporter = Reporter { parts: &mut *parts, node: id };
    for (number, report) in (batch.first.max(1)..u64::MAX).zip(batch.reports) {
        if number > taken {
            taken = number;
            is_lasting |= !matches!(report, Report::Progress { .. });
            reporter.take(report);
        }
    }
    if let Some(node) = parts.nodes.get_mut(id).filter(|_| taken > before) {
        node.row.reports_taken = taken;
        // How far a delivery is need not last, and neither does that it was said.
        if is_lasting {
            parts.fx.keep(Change::Node(node.row.clone()));
        }
    }
    Ok(ReportsTaken { taken, at_ns: parts.fx.now.utc_ns })
}

impl Reporter<'_> {
    fn take(&mut self, report: Report) {
        match report {
            Report::Received { key } => {
                let now_ns = self.parts.fx.now.mono_ns;
                if let Some(node) = self.parts.nodes.get_mut(self.node) {
                    node.took_ns = now_ns;
                }
                if self.is_known(key) {
                    self.parts.advance(key, self.node, DeliveryInput::Journaled, |_| {});
                    self.end_what_has_ended(key);
                }
            }
            Report::Fetching { key, offset, source, cause, before } => {
                self.take_fetching(key, offset, source.as_ref(), (cause, before));
            }
            Report::Further { key, offset, sources } => self.take_further(key, offset, &sources),
            Report::Progress { key, offset, rate } => self.take_progress(key, offset, rate),
            Report::Applying { key } => {
                let size = self.size_of(key);
                let before = self.parts.jobs.delivery(key, self.node).map(|d| d.offset);
                if size > before {
                    self.parts.note_step(self.node);
                }
                self.parts.advance(key, self.node, DeliveryInput::Whole, |delivery| {
                    delivery.take_offset(size.unwrap_or(delivery.offset));
                });
            }
            Report::Completed { receipt } => {
                if let Some(key) = self.take_receipt(receipt) {
                    self.parts.settle(key.job);
                }
            }
            Report::Failed { key, reason, detail, is_final } => {
                let input = if is_final { DeliveryInput::Fatal } else { DeliveryInput::Error };
                self.parts.advance(key, self.node, input, |delivery| {
                    delivery.attempts = delivery.attempts.saturating_add(1);
                    delivery.reason = Some(reason);
                    delivery.detail = Some(shortened(&detail).into());
                    delivery.is_fresh = true;
                });
                self.parts.settle(key.job);
            }
            Report::Cancelled { key } => {
                // Of an order that came before a retry: the node has let go of what is wanted
                // again.
                let taken = self.parts.advance(key, self.node, DeliveryInput::Error, |delivery| {
                    delivery.attempts = delivery.attempts.saturating_add(1);
                    delivery.is_fresh = true;
                });
                if taken.is_some() {
                    self.parts.say_command(key, self.node);
                }
            }
            Report::Answer { query, open, commands } => {
                let mut repair = Repair { parts: &mut *self.parts, node: self.node };
                repair.answered(query, open, &commands);
            }
            Report::Relayed { number } => self.parts.relays.taken(number, self.node),
            Report::Neighbour { node, query, answer } => {
                self.take_neighbour(&node, query, answer.as_ref());
            }
            Report::Unreachable { source } => self.take_unreachable(&source),
            Report::Probed { number, fault } => {
                let mut repair = Repair { parts: &mut *self.parts, node: self.node };
                repair.probed(number, fault.as_deref());
            }
            Report::BadUnit { content, source, unit } => {
                self.take_bad_unit(content, source.as_ref(), unit);
            }
        }
    }

    fn take_fetching(
        &mut self,
        key: CommandKey,
        offset: u64,
        source: Option<&NodeName>,
        (cause, before): (SwitchCause, u64),
    ) {
        let source = source.and_then(|name| self.parts.nodes.id_of(name));
        let left = self.parts.jobs.delivery(key, self.node).and_then(|delivery| delivery.source);
        let is_switch = cause != SwitchCause::First;
        let now = self.parts.fx.now;
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
            | SwitchCause::Faster
            | SwitchCause::Slow => true,
        };
        let had = self.parts.jobs.delivery(key, self.node).map(|delivery| delivery.offset);
        if had.is_some_and(|had| offset > had) && !self.parts.is_of_live(key) {
            self.parts.note_step(self.node);
        }
        if let Some(content) = self.parts.jobs.content_of(key) {
            let mut planner = self.parts.planner();
            planner.settled(content, self.node);
            if is_own_switch {
                planner.follow_switch(content, self.node, source);
            }
            if let Some(left) = left.filter(|_| cause == SwitchCause::Slow) {
                planner.try_other(content, self.node, (left, before), offset);
            }
        }
        if self.parts.advance(key, self.node, DeliveryInput::Bytes, edit).is_none() {
            let Some(delivery) = self.fetching_mut(key) else { return };
            edit(delivery);
            delivery.updated_at_ns = now.utc_ns;
            self.parts.keep_delivery(key, self.node);
            let cause = ("cause", json!(cause));
            self.parts.delivery_event("delivery.source", key, self.node, Some(cause));
        }
        if self.parts.is_of_live(key) {
            self.parts.live().flows_from(key, self.node, (source, is_own_switch));
        }
    }

    /// Bytes come from several sources at once. This is not kept: the receipt says how many came
    /// from whom.
    fn take_further(&mut self, key: CommandKey, offset: u64, sources: &[Option<NodeName>]) {
        let nodes = &self.parts.nodes;
        let id_of = |name: &Option<NodeName>| match name {
            None => Some(None),
            Some(name) => nodes.id_of(name).map(Some),
        };
        let further: Box<[_]> = sources.iter().filter_map(id_of).take(SOURCES_MAX).collect();
        let names = sources.iter().map(|name| name.as_ref().map_or(BASE_NAME, NodeName::as_str));
        let names: Vec<&str> = names.take(SOURCES_MAX).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(" ") };
        let Some(delivery) = self.fetching_mut(key) else { return };
        delivery.take_offset(offset);
        delivery.further = further;
        let more = ("further", json!(names));
        self.parts.delivery_event("delivery.further", key, self.node, Some(more));
    }

    fn take_progress(&mut self, key: CommandKey, offset: u64, rate: u64) {
        let now_ns = self.parts.fx.now.mono_ns;
        let Some(delivery) = self.fetching_mut(key) else { return };
        let before = delivery.offset;
        delivery.take_offset(offset);
        delivery.rate = rate;
        let has_grown = delivery.offset > before;
        if has_grown {
            delivery.grew_ns = now_ns;
        }
        let offset = delivery.offset;
        // A live path says nothing of how a node gets on with files.
        if has_grown && !self.parts.is_of_live(key) {
            self.parts.note_step(self.node);
        }
        if let Some(content) = self.parts.jobs.content_of(key) {
            self.parts.planner().judge(content, self.node, offset);
        }
    }

    /// Checks a receipt, and completes its delivery. Gives the command, where there is one.
    pub(super) fn take_receipt(&mut self, signed: SignedReceipt) -> Option<CommandKey> {
        // What is not signed counts only as far as to know which delivery it is that fails.
        let said: Receipt = serde_json::from_str(&signed.receipt).ok()?;
        let key = said.key;
        let delivery = self.parts.jobs.delivery(key, self.node);
        let Some(state) = delivery.map(|delivery| delivery.state) else {
            self.is_known(key);
            return None;
        };
        if state == DeliveryState::Completed {
            return None;
        }
        match self.check_receipt(&signed) {
            Err(cause) => {
                let more = ("cause", json!(cause));
                self.parts.delivery_event("receipt.refused", key, self.node, Some(more));
                self.parts.advance(key, self.node, DeliveryInput::Fatal, |delivery| {
                    delivery.reason = Some(Reason::BadHash);
                    delivery.detail = Some(format!("receipt refused: {cause}").into());
                    delivery.receipt = None;
                });
            }
            Ok(_) if !state.is_open() => {
                let detail = json!({"receipt": signed.receipt, "signature": signed.signature});
                let more = ("late", detail);
                self.parts.delivery_event("receipt.late", key, self.node, Some(more));
            }
            Ok(Counts::Later) => {
                self.parts.advance(key, self.node, DeliveryInput::Whole, |_| {});
                let delivery = self.parts.jobs.delivery_mut(key, self.node)?;
                delivery.receipt = Some(Box::new(signed));
                self.parts.keep_delivery(key, self.node);
            }
            Ok(Counts::Now) => {
                self.parts.advance(key, self.node, DeliveryInput::Receipt, |delivery| {
                    delivery.offset = said.size;
                    delivery.is_fresh = false;
                    delivery.reason = None;
                    delivery.detail = None;
                    delivery.receipt = Some(Box::new(signed));
                });
                let now_ns = self.parts.fx.now.mono_ns;
                let job = self.parts.jobs.get_mut(key.job);
                if let Some(measure) = job.and_then(|job| job.measure.as_mut()) {
                    measure.last_receipt_ns = now_ns;
                }
            }
        }
        Some(key)
    }

    /// Whether a receipt is the node's, and says what the base knows.
    fn check_receipt(&self, signed: &SignedReceipt) -> Result<Counts, &'static str> {
        let Parts { nodes, jobs, contents, .. } = &*self.parts;
        let node = nodes.get(self.node).ok_or("no such node")?;
        let key = node.key.as_ref().ok_or("the key of the node cannot be read")?;
        let receipt = verify_receipt(key, signed).map_err(|_| "the signature does not match")?;
        let Receipt { node: name, key, path, size, blake3, attrs, .. } = &receipt;
        if *name != node.row.name {
            return Err("it names another node");
        }
        let row = &jobs.command(*key).ok_or("no such command")?.row;
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
        let content = contents.row(content).ok_or("its content is not known any more")?;
        match content.blake3 {
            None => Ok(Counts::Later),
            Some(_) if *blake3 != content.blake3 => Err("it has another hash than the base"),
            Some(_) if Some(*size) != content.size => Err("it has another size than the base"),
            Some(_) => Ok(Counts::Now),
        }
    }

    /// The node has asked another one for the base. What that says it has signed itself.
    fn take_neighbour(&mut self, node: &NodeName, query: u64, answer: Option<&SignedAnswer>) {
        let nodes = &self.parts.nodes;
        let (Some(id), Some(by)) = (nodes.id_of(node), nodes.name_of(self.node).cloned()) else {
            return;
        };
        let key = nodes.get(id).and_then(|node| node.key);
        let alive = key.zip(answer).and_then(|(key, answer)| verify_answer(&key, answer));
        let is_its = |alive: &Alive| alive.node == *node && alive.query == query;
        if let Some(alive) = alive.filter(is_its) {
            Repair { parts: &mut *self.parts, node: id }.seen(query, &by, alive.open);
        }
    }

    /// The node cannot connect to a source. It takes another one by itself; the plans follow it.
    fn take_unreachable(&mut self, source: &NodeName) {
        let Parts { nodes, fx, flows, .. } = &mut *self.parts;
        let (Some(name), Some(id)) = (nodes.name_of(self.node), nodes.id_of(source)) else {
            return;
        };
        fx.event("edge.barred", About::node(name), json!({"source": source}));
        flows.bar(self.node, id, fx.now.mono_ns);
    }

    fn take_bad_unit(&mut self, content: ContentId, source: Option<&NodeName>, unit: u64) {
        let Parts { nodes, contents, fx, .. } = &mut *self.parts;
        let Some(name) = nodes.name_of(self.node) else { return };
        let detail = json!({
            "content": content,
            "unit": unit,
            "source": source.map_or(BASE_NAME, NodeName::as_str),
        });
        let key = contents.row(content).map(|row| row.key);
        let about = key.map_or_else(|| About::node(name), |key| About::delivery(key, name));
        fx.event("unit.bad", about, detail);
        let source = source.and_then(|name| nodes.id_of(name)).filter(|id| *id != self.node);
        let Some(source) = source else { return };
        let Some(record) = nodes.get_mut(source) else { return };
        record.bad_units = record.bad_units.saturating_add(1);
        if record.bad_units < BAD_UNITS_MAX {
            return;
        }
        let mut sender = Presence { parts: &mut *self.parts, node: source };
        if !sender.change(NodeInput::Poisoned) {
            self.parts.planner().bar(source);
        }
    }

    /// A node begins what has failed or was withdrawn: an order of before came late, or twice. It
    /// is told to stop, or what follows in its folder would wait for it.
    fn end_what_has_ended(&mut self, key: CommandKey) {
        let delivery = self.parts.jobs.delivery(key, self.node);
        let state = delivery.map(|delivery| delivery.state);
        if matches!(state, Some(DeliveryState::Failed | DeliveryState::Cancelled)) {
            let cancel = NodeOrder::Cancel { key };
            self.parts.nodes.say(self.node, cancel, &mut self.parts.fx);
        }
    }

    /// Whether the delivery is in the book. A node that speaks of another is told to forget the
    /// job.
    fn is_known(&mut self, key: CommandKey) -> bool {
        let is_known = self.parts.jobs.delivery(key, self.node).is_some();
        if !is_known {
            let forget = NodeOrder::Forget { job: key.job };
            self.parts.nodes.say(self.node, forget, &mut self.parts.fx);
        }
        is_known
    }

    fn fetching_mut(&mut self, key: CommandKey) -> Option<&mut Delivery> {
        let delivery = self.parts.jobs.delivery_mut(key, self.node);
        delivery.filter(|delivery| delivery.state == DeliveryState::Fetching)
    }

    fn size_of(&self, key: CommandKey) -> Option<u64> {
        let row = &self.parts.jobs.command(key)?.row;
        match &row.op {
            Op::Put { .. } => self.parts.contents.row(row.content?)?.size,
            Op::Mkdir { .. }
            | Op::Delete { .. }
            | Op::Move { .. }
            | Op::SetAttributes { .. }
            | Op::Query
            | Op::Live { .. } => None,
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

/// More than a node takes parts from.
const SOURCES_MAX: usize = 16;
const DETAIL_CHARS_MAX: usize = 512;
