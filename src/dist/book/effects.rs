//! What goes out of the book, and what it gives that was not there before.
//!
//! ```text
//! keep, event --> changes (rows, and entries of the chain)    expire --> contents to remove
//! order       --> orders to nodes                             new_id, new_token, new_epoch
//! ```
//! Invariants: changes stay in the order in which they came, and each event follows from the one
//! before; an id or an epoch is greater than all before, also those of starts of the base before.
//! Who drives the book takes what is here behind each call.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::dist::chain::ChainHead;
use crate::dist::ids::{CommandKey, ContentId, Digest, Epoch, JobId, NodeName, Stamp};
use crate::dist::rows::Change;
use crate::dist::token::{Token, TokenKind};
use crate::dist::uplink::Share;
use crate::dist::wire::agent::NodeOrder;
use crate::dist::wire::job::{EventView, RepairCause};

/// See the module.
#[derive(Debug)]
pub(super) struct Effects {
    /// Time of the last call that had one.
    pub(super) now: Stamp,
    rng: StdRng,
    last_id: u128,
    epoch: u64,
    chain: ChainHead,
    changes: Vec<Change>,
    orders: Vec<(NodeName, NodeOrder)>,
    /// Those that no other node hands on.
    direct: Vec<(NodeName, NodeOrder)>,
    expired: Vec<ContentId>,
    shares: Vec<(JobId, Option<Share>)>,
    hooks: Vec<RepairHook>,
}

/// The command of the base's operator that mends a node is to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairHook {
    /// The node.
    pub node: NodeName,
    /// Its address for peers, `ip:port`.
    pub addr: String,
    /// Why it is to be mended.
    pub cause: RepairCause,
    /// Number of the try.
    pub number: u32,
}

/// What an event is about.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct About<'a> {
    job: Option<JobId>,
    command: Option<CommandKey>,
    node: Option<&'a NodeName>,
}

impl Effects {
    /// Those of a start behind this event. `seed` is that of ids and tokens.
    pub(super) fn new(seed: [u8; 32], last_event: Option<&EventView>, at: Stamp) -> Self {
        let mut effects = Self {
            now: at,
            rng: StdRng::from_seed(seed),
            last_id: 0,
            epoch: 0,
            chain: last_event.map_or(ChainHead::START, ChainHead::behind),
            changes: Vec::new(),
            orders: Vec::new(),
            direct: Vec::new(),
            expired: Vec::new(),
            shares: Vec::new(),
            hooks: Vec::new(),
        };
        // The event makes the number of each start a greater one: epochs of before are lower.
        effects.event("base.started", About::default(), json!({}));
        effects.epoch = effects.chain.seq << EPOCHS_BITS;
        effects
    }

    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    pub(super) fn take_orders(&mut self) -> Vec<(NodeName, NodeOrder)> {
        std::mem::take(&mut self.orders)
    }

    pub(super) fn take_direct(&mut self) -> Vec<(NodeName, NodeOrder)> {
        std::mem::take(&mut self.direct)
    }

    pub(super) fn take_expired(&mut self) -> Vec<ContentId> {
        std::mem::take(&mut self.expired)
    }

    pub(super) fn take_shares(&mut self) -> Vec<(JobId, Option<Share>)> {
        std::mem::take(&mut self.shares)
    }

    /// The end of the chain of events.
    pub(super) fn chain_head(&self) -> ChainHead {
        self.chain
    }

    pub(super) fn take_hooks(&mut self) -> Vec<RepairHook> {
        std::mem::take(&mut self.hooks)
    }

    /// A row is to be written.
    pub(super) fn keep(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// Adds an entry to the chain.
    pub(super) fn event(&mut self, kind: &str, about: About<'_>, detail: Value) {
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

    /// An order to a node. Whether it lives is known by [`super::nodes::Nodes::say`].
    pub(super) fn order(&mut self, node: NodeName, order: NodeOrder) {
        self.orders.push((node, order));
    }

    /// An order to a node that the base itself says.
    pub(super) fn order_directly(&mut self, node: NodeName, order: NodeOrder) {
        self.direct.push((node, order));
    }

    /// The bytes of a content may go.
    pub(super) fn expire(&mut self, content: ContentId) {
        self.expired.push(content);
    }

    /// A job's part of the uplink of the base; `None`: it has ended.
    pub(super) fn share(&mut self, job: JobId, share: Option<Share>) {
        self.shares.push((job, share));
    }

    /// A node is to be mended by the operator's command.
    pub(super) fn hook(&mut self, hook: RepairHook) {
        if self.hooks.len() < HOOKS_MAX {
            self.hooks.push(hook);
        }
    }

    /// An id greater than all before.
    pub(super) fn new_id(&mut self) -> Uuid {
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

    /// An id of a start before.
    pub(super) fn saw_id(&mut self, id: Uuid) {
        self.last_id = self.last_id.max(id.as_u128());
    }

    /// An epoch greater than all before.
    pub(super) fn new_epoch(&mut self) -> Epoch {
        self.epoch += 1;
        Epoch(self.epoch)
    }

    /// A token for a node.
    pub(super) fn new_token(&mut self) -> Token {
        Token::from_rng(TokenKind::Node, &mut self.rng)
    }
}

impl About<'_> {
    pub(super) fn job(job: JobId) -> Self {
        Self { job: Some(job), ..Self::default() }
    }

    pub(super) fn command(key: CommandKey) -> Self {
        Self { job: Some(key.job), command: Some(key), ..Self::default() }
    }
}

impl<'a> About<'a> {
    pub(super) fn node(node: &'a NodeName) -> Self {
        Self { node: Some(node), ..Self::default() }
    }

    /// A node, for a job of which something is open there.
    pub(super) fn node_of_job(job: JobId, node: &'a NodeName) -> Self {
        Self { job: Some(job), command: None, node: Some(node) }
    }

    pub(super) fn delivery(key: CommandKey, node: &'a NodeName) -> Self {
        Self { job: Some(key.job), command: Some(key), node: Some(node) }
    }
}

/// Hooks that nobody has taken: a try of each of so many nodes.
const HOOKS_MAX: usize = 1_024;
/// Epochs of one start at least; more of them meet those of later events, which are starts too.
const EPOCHS_BITS: u32 = 20;
