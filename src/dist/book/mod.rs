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
mod answers;
mod clients;
mod effects;
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

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::dist::book::answers::Answers;
use crate::dist::book::effects::Effects;
use crate::dist::book::options::ns;
use crate::dist::book::records::{Content, Job, Node, NodeId};
use crate::dist::chain::ChainHead;
use crate::dist::ids::{ContentId, Digest, JobId, NodeName};
use crate::dist::keys::BaseKeys;
use crate::dist::rows::{AnswerRow, Change};
use crate::dist::token::is_token;
use crate::dist::wire::agent::NodeOrder;
use crate::dist::wire::job::{DeliveryState, NodeState};

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
    fx: Effects,
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
    answers: Answers,
    base_rate: records::RateMeter,
    ticked_ns: u64,
    swept_ns: u64,
}

impl Book {
    /// What is to be made durable before answers and orders leave, in this order.
    pub fn take_changes(&mut self) -> Vec<Change> {
        self.fx.take_changes()
    }

    /// Orders to nodes that live, in this order. Who has no stream of orders to a node drops the
    /// node's: the node gets them by [`Book::open_orders`] when its stream begins.
    pub fn take_orders(&mut self) -> Vec<(NodeName, NodeOrder)> {
        self.fx.take_orders()
    }

    /// Contents that the base may remove: nobody fetches or retries them any more.
    pub fn take_expired(&mut self) -> Vec<ContentId> {
        self.fx.take_expired()
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
        self.fx.chain_head()
    }

    /// The answer that a client got under this idempotency key.
    #[must_use]
    pub fn answer(&self, client: &str, idempotency_key: &str) -> Option<&AnswerRow> {
        self.answers.get(client, idempotency_key)
    }

    /// Keeps an answer for a request with an idempotency key. The oldest make room.
    pub fn keep_answer(&mut self, row: AnswerRow) {
        self.fx.keep(Change::Answer(row.clone()));
        self.answers.remember(row);
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
            let silent_ns = self.fx.now.mono_ns.saturating_sub(node.heard_ns);
            node.is_there() && node.row.state != NodeState::Down && silent_ns < down_ns
        })
    }

    /// Tells a node that lives.
    fn say(&mut self, id: NodeId, order: NodeOrder) {
        if !self.is_live(id) {
            return;
        }
        if let Some(node) = self.nodes.get(id.index()) {
            self.fx.order(node.row.name.clone(), order);
        }
    }

    /// Tells a node that something has ended; again at its next hello, unless it lived on.
    fn say_end(&mut self, id: NodeId, order: NodeOrder) {
        let said_ns = self.is_live(id).then_some(self.fx.now.mono_ns);
        if let Some(node) = self.node_at_mut(id).filter(|node| node.is_there()) {
            if node.ends.len() >= ENDS_MAX {
                node.ends.pop_front();
            }
            node.ends.push_back((said_ns, order.clone()));
            self.say(id, order);
        }
    }
}

/// Ends (withdrawn commands, jobs to be forgotten) that are kept for a node that does not live.
const ENDS_MAX: usize = 4_096;
/// Bytes per second that a link is planned with when nobody has said or seen more: 50 Mbit/s.
const RATE_UNKNOWN: u64 = 6_250_000;
