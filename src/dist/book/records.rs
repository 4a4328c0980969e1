//! A job, its commands and their deliveries, as the book holds them.
//!
//! A record has the row of the ledger, or what a row is made from, and what only counts while the
//! book lives: rates, times of the monotonic clock.

use std::collections::HashMap;

use crate::dist::book::measure::Measure;
use crate::dist::book::nodes::NodeId;
use crate::dist::book::terms::JobTerms;
use crate::dist::book::wait::Wait;
use crate::dist::ids::{CommandId, CommandKey, NodeName, Stamp};
use crate::dist::rows::{CommandRow, DeliveryRow, JobRow};
use crate::dist::wire::agent::{SERVERS_MAX, Server, ServerList, SignedReceipt};
use crate::dist::wire::job::{DeliveryState, Reason, Totals};

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
    /// Its wait period, while something of it is open.
    pub(super) wait: Option<Wait>,
    /// The bytes of its contents are not kept any more.
    pub(super) is_expired: bool,
    /// What it may take, and when.
    pub(super) terms: JobTerms,
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
    /// From whom bytes come, too; `None` is the base. Not in the ledger.
    pub(super) further: Box<[Option<NodeId>]>,
    pub(super) switches: u32,
    pub(super) attempts: u32,
    pub(super) reason: Option<Reason>,
    pub(super) detail: Option<Box<str>>,
    pub(super) receipt: Option<Box<SignedReceipt>>,
    pub(super) updated_at_ns: i64,
    /// Last change of its state or its source.
    pub(super) moved_ns: u64,
    /// Last bytes that were reported.
    pub(super) grew_ns: u64,
}

impl Job {
    /// Without commands so far.
    pub(super) fn new(
        row: JobRow,
        targets: Vec<NodeId>,
        measure: Option<Measure>,
        now_ns: u64,
    ) -> Self {
        let places = targets.iter().copied().zip(0..).collect();
        Self {
            row,
            targets,
            places,
            commands: Vec::new(),
            totals: Totals::default(),
            content_bytes: 0,
            puts: HashMap::new(),
            undone: 0,
            touched_ns: now_ns,
            measure,
            wait: None,
            is_expired: false,
            terms: JobTerms::new(),
        }
    }

    /// Its transfers go on behind a pause: the time before says nothing of sources.
    pub(super) fn begin_again(&mut self, now_ns: u64) {
        let open = self.commands.iter_mut().filter(|command| command.totals.open() > 0);
        for delivery in open.flat_map(|command| &mut command.deliveries) {
            if delivery.state.is_open() {
                (delivery.grew_ns, delivery.moved_ns) = (now_ns, now_ns);
            }
        }
    }

    /// Places of the first servers of the groups that know of each other.
    pub(super) fn groups(&self) -> impl Iterator<Item = usize> + use<> {
        (0..self.targets.len()).step_by(self.neighbours_max())
    }

    /// The servers that the one at `place` knows: those next to it in the server list.
    pub(super) fn neighbours_of(&self, place: usize) -> ServerList {
        let size = self.neighbours_max();
        let first = place - place % size;
        let servers = self.row.servers.iter().skip(first).take(size);
        let servers = servers.map(|server| Server {
            index: server.index,
            node: server.node.clone(),
            addr: server.addr.clone(),
        });
        servers.collect::<Vec<_>>().into()
    }

    /// Servers that know of each other, so that no group is much smaller than the others.
    fn neighbours_max(&self) -> usize {
        let servers = self.row.servers.len().max(1);
        servers.div_ceil(servers.div_ceil(SERVERS_MAX))
    }

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

    /// A command was withdrawn, or its upload failed: it is not the newest put of its path.
    pub(super) fn undo(&mut self, id: CommandId) {
        self.undone += 1;
        let Some(command) = index_of(id).and_then(|at| self.commands.get(at)) else { return };
        if let Some(path) = command.row.op.path().filter(|path| self.puts.get(*path) == Some(&id)) {
            self.puts.remove(path);
        }
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
            further: Box::default(),
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

    /// Is in this state from now on.
    pub(super) fn enter(&mut self, state: DeliveryState, now: Stamp) {
        self.state = state;
        self.updated_at_ns = now.utc_ns;
        self.moved_ns = now.mono_ns;
        if state != DeliveryState::Fetching {
            self.rate = 0;
            self.further = Box::default();
        }
    }

    /// Takes an offset that the node reports.
    pub(super) fn take_offset(&mut self, offset: u64) {
        self.offset = if self.is_fresh { offset } else { self.offset.max(offset) };
        self.is_fresh = false;
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
