//! The base: its jobs, commands, deliveries, nodes and contents, and what is to be done next.
//!
//! ```text
//! clients: request_job, command, end_job ..  --+          +--> views: answers
//! uploads: upload_grew, upload_ended ..      --+--> Book --+--> take_changes: rows and events
//! nodes:   hello, reports                    --+          +--> take_orders: to nodes that live
//! time:    tick                              --'          '--> take_expired: contents to remove
//! ```
//! Whoever drives a book makes the changes durable before answers and orders leave. A book that is
//! made from the rows of a ledger goes on where the one before stopped: what was open is open, and
//! [`Book::open_orders`] says it again to each node.
//!
//! Parts: `clients` and `uploads` take what clients ask, `nodes` and `reports` what nodes say,
//! `advance` moves deliveries, `flow` plans contents, `time` is the second hand, `views` answers,
//! `restore` reads rows.
//!
//! Invariants: a refused request has no effect; a report or order that comes twice has no second
//! effect; totals are those of the deliveries; a put is completed by a verified receipt with the
//! hash that the base has itself. Bounds: [`Limits`]; orders are only made for nodes that live, and
//! what is kept for others is at most `ENDS_MAX` a node.

mod advance;
mod clients;
mod filter;
mod flow;
mod nodes;
mod options;
mod records;
mod refusal;
mod reports;
mod restore;
#[cfg(test)]
mod tests;
mod time;
mod uploads;
mod views;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use rand::Rng as _;
use rand::rngs::StdRng;
use serde_json::Value;
use uuid::Uuid;

use crate::dist::book::options::ns;
use crate::dist::book::records::{Content, Job, Node, NodeId};
use crate::dist::chain::ChainHead;
use crate::dist::ids::{CommandKey, ContentId, Digest, Epoch, JobId, NodeName, Stamp};
use crate::dist::keys::BaseKeys;
use crate::dist::rows::{AnswerRow, Change};
use crate::dist::token::is_token;
use crate::dist::wire::agent::NodeOrder;
use crate::dist::wire::job::{DeliveryState, EventView, NodeState};

pub use crate::dist::book::filter::{DeliveryFilter, PAGE_DEFAULT, PAGE_MAX};
pub use crate::dist::book::options::{BookOptions, Limits, Timeouts};
pub use crate::dist::book::refusal::Refusal;

/// By which token a node says hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HelloBy {
    /// The join token.
    Join,
    /// The token of this node.
    Node(NodeName),
}

/// The base: see the module.
#[derive(Debug)]
pub struct Book {
    options: BookOptions,
    keys: BaseKeys,
    /// Time of the last call that had one.
    now: Stamp,
    rng: StdRng,
    last_id: u128,
    epoch: u64,
    chain: ChainHead,
    nodes: Vec<Node>,
    node_ids: HashMap<NodeName, NodeId>,
    tokens: HashMap<Digest, NodeId>,
    sites: HashMap<String, u32>,
    jobs: BTreeMap<JobId, Job>,
    job_refs: HashMap<(String, String), JobId>,
    /// Jobs that have ended, the oldest first.
    ended: BTreeSet<(i64, JobId)>,
    deadlines: BTreeSet<(i64, JobId)>,
    contents: HashMap<ContentId, Content>,
    /// Contents with a plan.
    flowing: BTreeSet<ContentId>,
    /// The plan behind which the next tick goes on.
    tended: Option<ContentId>,
    /// Deliveries of all jobs.
    deliveries: usize,
    /// The same by state, in the order of `DeliveryState::ALL`.
    counts: [u64; DeliveryState::ALL.len()],
    answers: HashMap<String, HashMap<String, AnswerRow>>,
    answer_order: VecDeque<(i64, String, String)>,
    base_rate: records::RateMeter,
    ticked_ns: u64,
    swept_ns: u64,
    changes: Vec<Change>,
    orders: Vec<(NodeName, NodeOrder)>,
    expired: Vec<ContentId>,
}

impl Book {
    /// What is to be made durable before answers and orders leave, in this order.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Orders to nodes that live, in this order. Who has no stream of orders to a node drops the
    /// node's: the node gets them by [`Book::open_orders`] when its stream begins.
    pub fn take_orders(&mut self) -> Vec<(NodeName, NodeOrder)> {
        std::mem::take(&mut self.orders)
    }

    /// Contents that the base may remove: nobody fetches or retries them any more.
    pub fn take_expired(&mut self) -> Vec<ContentId> {
        std::mem::take(&mut self.expired)
    }

    /// Whether nodes join by this token.
    #[must_use]
    pub fn is_join_token(&self, token: &str) -> bool {
        is_token(token, &self.options.join_token_hash)
    }

    /// Deliveries of all jobs in memory by state, in the order of `DeliveryState::ALL`.
    #[must_use]
    pub fn delivery_counts(&self) -> [u64; DeliveryState::ALL.len()] {
        self.counts
    }

    /// `count` deliveries more, or fewer, are in this state.
    fn count_deliveries(&mut self, state: DeliveryState, count: i64) {
        let place = DeliveryState::ALL.iter().position(|other| *other == state);
        if let Some(place) = place.and_then(|place| self.counts.get_mut(place)) {
            *place = place.saturating_add_signed(count);
        }
    }

    /// The end of the chain of events.
    #[must_use]
    pub fn chain_head(&self) -> ChainHead {
        self.chain
    }

    /// The answer that a client got under this idempotency key.
    #[must_use]
    pub fn answer(&self, client: &str, idempotency_key: &str) -> Option<&AnswerRow> {
        self.answers.get(client)?.get(idempotency_key)
    }

    /// Keeps an answer for a request with an idempotency key. The oldest make room.
    pub fn keep_answer(&mut self, row: AnswerRow) {
        self.changes.push(Change::Answer(row.clone()));
        self.remember_answer(row);
    }

    fn remember_answer(&mut self, row: AnswerRow) {
        while self.answer_order.len() >= self.options.limits.answers.max(1) {
            self.forget_oldest_answer();
        }
        let (client, key) = (row.client.clone(), row.idempotency_key.clone());
        self.answer_order.push_back((row.at_ns, client.clone(), key.clone()));
        self.answers.entry(client).or_default().insert(key, row);
    }

    fn forget_oldest_answer(&mut self) {
        let Some((at_ns, client, key)) = self.answer_order.pop_front() else { return };
        let Some(answers) = self.answers.get_mut(&client) else { return };
        // A later answer under the same key has its own entry.
        if answers.get(&key).is_some_and(|answer| answer.at_ns == at_ns) {
            answers.remove(&key);
        }
        if answers.is_empty() {
            self.answers.remove(&client);
        }
    }

    /// Adds an entry to the chain.
    fn event(&mut self, kind: &str, about: About<'_>, detail: Value) {
        let mut event = EventView {
            seq: 0,
            at_ns: self.now.utc_ns,
            job: about.job,
            command: about.command.map(|key| key.command),
            node: about.node.cloned(),
            kind: kind.to_owned(),
            detail,
            hash: Digest([0; 32]),
        };
        self.chain.append(&mut event);
        self.changes.push(Change::Event(event));
    }

    /// An id greater than all before.
    fn new_id(&mut self) -> Uuid {
        let mut random = [0; 10];
        self.rng.fill_bytes(&mut random);
        let mut millis = u64::try_from(self.now.utc_ns / 1_000_000).unwrap_or(0);
        loop {
            let id = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
            if id.as_u128() > self.last_id {
                self.last_id = id.as_u128();
                return id;
            }
            // Within one millisecond, or the clock went back: the next one behind the last id.
            millis = u64::try_from(self.last_id >> 80).unwrap_or(0) + 1;
        }
    }

    /// An epoch greater than all before.
    fn new_epoch(&mut self) -> Epoch {
        self.epoch += 1;
        Epoch(self.epoch)
    }

    fn node_at(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.index())
    }

    fn node_at_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.nodes.get_mut(id.index())
    }

    /// Heard within the time after which a node is down.
    fn is_live(&self, id: NodeId) -> bool {
        let down_ns = ns(self.options.timeouts.down);
        self.node_at(id).is_some_and(|node| {
            let silent_ns = self.now.mono_ns.saturating_sub(node.heard_ns);
            node.is_there() && node.row.state != NodeState::Down && silent_ns < down_ns
        })
    }

    /// Tells a node that lives.
    fn say(&mut self, id: NodeId, order: NodeOrder) {
        if !self.is_live(id) {
            return;
        }
        if let Some(node) = self.nodes.get(id.index()) {
            self.orders.push((node.row.name.clone(), order));
        }
    }

    /// Tells a node that something has ended; again at its next hello, unless it lived on.
    fn say_end(&mut self, id: NodeId, order: NodeOrder) {
        let said_ns = self.is_live(id).then_some(self.now.mono_ns);
        if let Some(node) = self.node_at_mut(id).filter(|node| node.is_there()) {
            if node.ends.len() >= ENDS_MAX {
                node.ends.pop_front();
            }
            node.ends.push_back((said_ns, order.clone()));
            self.say(id, order);
        }
    }
}

/// What an event is about.
#[derive(Debug, Clone, Copy, Default)]
struct About<'a> {
    job: Option<JobId>,
    command: Option<CommandKey>,
    node: Option<&'a NodeName>,
}

impl About<'_> {
    fn job(job: JobId) -> Self {
        Self { job: Some(job), ..Self::default() }
    }

    fn command(key: CommandKey) -> Self {
        Self { job: Some(key.job), command: Some(key), ..Self::default() }
    }
}

impl<'a> About<'a> {
    fn node(node: &'a NodeName) -> Self {
        Self { node: Some(node), ..Self::default() }
    }

    fn delivery(key: CommandKey, node: &'a NodeName) -> Self {
        Self { job: Some(key.job), command: Some(key), node: Some(node) }
    }
}

/// Ends (withdrawn commands, jobs to be forgotten) that are kept for a node that does not live.
const ENDS_MAX: usize = 4_096;
/// Bytes per second that a link is planned with when nobody has said or seen more: 50 Mbit/s.
const RATE_UNKNOWN: u64 = 6_250_000;
