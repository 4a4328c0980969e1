//! Jobs, commands, deliveries, nodes and contents as the book holds them.
//!
//! A record has the row of the ledger, or what a row is made from, and what only counts while the
//! book lives: rates, plans, times of the monotonic clock.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::dist::ids::{CommandId, CommandKey, ContentId, Epoch, NodeName};
use crate::dist::keys::VerifyKey;
use crate::dist::plan::{Cascade, MemberId};
use crate::dist::rows::{CommandRow, ContentRow, DeliveryRow, JobRow, NodeRow};
use crate::dist::wire::agent::{NodeOrder, SignedReceipt};
use crate::dist::wire::job::{DeliveryState, NodeState, Reason, Totals};

/// Place of a node in the book. It stays for as long as the book lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NodeId(pub(super) u32);

#[derive(Debug)]
pub(super) struct Node {
    pub(super) row: NodeRow,
    /// `None` for a row whose key cannot be read: no receipt of the node is taken.
    pub(super) key: Option<VerifyKey>,
    /// Last sign of life; the start of the book for a node that was not heard since.
    pub(super) heard_ns: u64,
    pub(super) free_bytes: u64,
    /// Its open deliveries.
    pub(super) open: BTreeSet<CommandKey>,
    /// Contents in whose plan it is.
    pub(super) flows: BTreeSet<ContentId>,
    /// Ends that it may not know of, with the time at which they were said to it.
    pub(super) ends: VecDeque<(Option<u64>, NodeOrder)>,
    /// It last took a command, or was last told all of them.
    pub(super) took_ns: u64,
    /// Units of it that failed their hash.
    pub(super) bad_units: u32,
    pub(super) site: Option<u32>,
}

#[derive(Debug)]
pub(super) struct Job {
    pub(super) row: JobRow,
    /// In the order of the server list.
    pub(super) targets: Vec<NodeId>,
    pub(super) places: HashMap<NodeId, usize>,
    /// Command `n` is at `n - 1`.
    pub(super) commands: Vec<Command>,
    pub(super) totals: Totals,
    /// Bytes of contents whose upload is complete.
    pub(super) content_bytes: u64,
    /// Newest put of each path.
    pub(super) puts: HashMap<String, CommandId>,
    /// Commands that were withdrawn, or whose upload failed.
    pub(super) undone: u64,
    /// Last request or upload.
    pub(super) touched_ns: u64,
    /// `None` for a job from before the start of the book: then nobody has seen all of it.
    pub(super) measure: Option<Measure>,
    /// The bytes of its contents are not kept any more.
    pub(super) is_expired: bool,
}

/// What the ratios of a job are made from.
#[derive(Debug, Default)]
pub(super) struct Measure {
    /// First byte of the first content at the base.
    pub(super) first_byte_ns: Option<u64>,
    /// Last receipt that counted.
    pub(super) last_receipt_ns: u64,
    /// Bytes of contents that left the base.
    pub(super) base_sent: u64,
}

#[derive(Debug)]
pub(super) struct Command {
    pub(super) row: CommandRow,
    pub(super) totals: Totals,
    /// In the order of the server list.
    pub(super) deliveries: Vec<Delivery>,
}

#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) state: DeliveryState,
    pub(super) offset: u64,
    /// The next offset counts even if it is lower: the agent or the attempt is a new one.
    pub(super) is_fresh: bool,
    pub(super) rate: u64,
    pub(super) source: Option<NodeId>,
    pub(super) switches: u32,
    pub(super) attempts: u32,
    pub(super) reason: Option<Reason>,
    pub(super) detail: Option<Box<str>>,
    pub(super) receipt: Option<Box<SignedReceipt>>,
    pub(super) updated_at_ns: i64,
    /// Last change of its state, its source or the plan for it.
    pub(super) moved_ns: u64,
    /// Last bytes that were reported.
    pub(super) grew_ns: u64,
}

#[derive(Debug)]
pub(super) struct Content {
    pub(super) row: ContentRow,
    /// Bytes at the base.
    pub(super) have: u64,
    /// Bytes were seen, or its end.
    pub(super) is_begun: bool,
    pub(super) grew_ns: u64,
    pub(super) flow: Option<Flow>,
}

/// Plan of a content, while it is on its way.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) cascade: Cascade,
    pub(super) epoch: Epoch,
    /// Capabilities by node, with the UTC second until which they count.
    pub(super) tokens: HashMap<NodeId, (i64, String)>,
    /// UTC second at which the first of them is to be made anew.
    pub(super) renew_s: i64,
    /// A node has completed, and may give its uplink to others.
    pub(super) has_idle: bool,
}

/// Best second of sending.
#[derive(Debug, Default)]
pub(super) struct RateMeter {
    since_ns: u64,
    bytes: u64,
    pub(super) best: u64,
}

impl NodeId {
    pub(super) fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    pub(super) fn member(self) -> MemberId {
        MemberId(self.0)
    }
}

impl From<MemberId> for NodeId {
    fn from(member: MemberId) -> Self {
        Self(member.0)
    }
}

impl Node {
    /// Not retired.
    pub(super) fn is_there(&self) -> bool {
        self.row.state != NodeState::Retired
    }

    /// It may be a source in new plans.
    pub(super) fn may_serve(&self) -> bool {
        self.row.state.may_serve() && self.bad_units < BAD_UNITS_MAX
    }
}

impl Job {
    pub(super) fn command(&self, id: CommandId) -> Option<&Command> {
        self.commands.get(index_of(id)?)
    }

    pub(super) fn delivery(&self, id: CommandId, node: NodeId) -> Option<&Delivery> {
        self.command(id)?.deliveries.get(*self.places.get(&node)?)
    }

    pub(super) fn delivery_mut(&mut self, id: CommandId, node: NodeId) -> Option<&mut Delivery> {
        let place = *self.places.get(&node)?;
        self.commands.get_mut(index_of(id)?)?.deliveries.get_mut(place)
    }
}

impl Delivery {
    pub(super) fn pending(at_ns: i64) -> Self {
        Self {
            state: DeliveryState::Pending,
            offset: 0,
            is_fresh: true,
            rate: 0,
            source: None,
            switches: 0,
            attempts: 0,
            reason: None,
            detail: None,
            receipt: None,
            updated_at_ns: at_ns,
            moved_ns: 0,
            grew_ns: 0,
        }
    }

    pub(super) fn row(
        &self,
        key: CommandKey,
        node: NodeName,
        source: Option<NodeName>,
    ) -> DeliveryRow {
        DeliveryRow {
            key,
            node,
            state: self.state,
            offset: self.offset,
            source,
            switches: self.switches,
            attempts: self.attempts,
            reason: self.reason,
            detail: self.detail.as_deref().map(str::to_owned),
            receipt: self.receipt.as_deref().cloned(),
            updated_at_ns: self.updated_at_ns,
        }
    }

    /// Takes an offset that the node reports.
    pub(super) fn take_offset(&mut self, offset: u64) {
        self.offset = if self.is_fresh { offset } else { self.offset.max(offset) };
        self.is_fresh = false;
    }
}

impl RateMeter {
    /// `bytes` were sent.
    pub(super) fn add(&mut self, bytes: u64, now_ns: u64) {
        let past_ns = now_ns.saturating_sub(self.since_ns);
        if past_ns >= NS_PER_S {
            let rate = u128::from(self.bytes) * u128::from(NS_PER_S) / u128::from(past_ns);
            self.best = self.best.max(u64::try_from(rate).unwrap_or(u64::MAX));
            (self.since_ns, self.bytes) = (now_ns, 0);
        }
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// A put is not the newest of its path any more.
pub(super) fn drop_put(puts: &mut HashMap<String, CommandId>, row: &CommandRow) {
    if let Some(path) = row.op.path().filter(|path| puts.get(*path) == Some(&row.key.command)) {
        puts.remove(path);
    }
}

/// Command 1 is at 0.
pub(super) fn index_of(id: CommandId) -> Option<usize> {
    usize::try_from(id.0.checked_sub(1)?).ok()
}

/// The command at 0 is 1.
pub(super) fn command_at(index: usize) -> CommandId {
    CommandId(u32::try_from(index).unwrap_or(u32::MAX - 1) + 1)
}

/// Units that fail their hash until their sender is no source any more.
pub(super) const BAD_UNITS_MAX: u32 = 2;
pub(super) const NS_PER_S: u64 = 1_000_000_000;
