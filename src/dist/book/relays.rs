//! Orders that nodes hand on to each other, and who has said that it has them.
//!
//! ```text
//! orders of a call, by job: for few nodes --> to each of them
//!                           for many ------> an envelope for each, in parts to the first ones
//! Relayed --> struck off        2 s, or 2 s + 2 x rounds x RTT, and no word --> to it directly
//! ```
//! What is the same for all nodes of a job is in a body once; what differs (its sources) is in the
//! envelope of each. Orders of one commit of the ledger are one body: a thousand small files are
//! some bodies, and not a thousand.
//! A node has to know commands of a job in their order, and bodies come by ways of different
//! lengths. So a command waits here while the node has not said that it has those of a body before,
//! and goes directly while one that was said directly may be on its way. What waits is the next
//! body.
//! Invariants: commands of a job reach a node in their order; an order that has been handed on is
//! said again from what is open, and not as it was; ends and questions are said to each node
//! directly. Bounds: `OPEN_MAX` bodies are waited for; `ENTRIES_MAX` nodes and `BODY_BYTES_MAX`
//! bytes a body; `HELD_MAX` commands wait, others are said again later.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::dist::book::link::planned_rate;
use crate::dist::book::nodes::NodeId;
use crate::dist::book::options::ns;
use crate::dist::book::parts::Parts;
use crate::dist::book::terms::Tell;
use crate::dist::ids::{CommandKey, ContentId, Digest, JobId, NodeName};
use crate::dist::relay::{TAKEN_WITHIN, parts as parts_of, rounds};
use crate::dist::terms::Terms;
use crate::dist::wire::agent::{NodeOrder, short_list};
use crate::dist::wire::job::{DeliveryState, Op};
use crate::dist::wire::relay::{BODY_BYTES_MAX, ENTRIES_MAX, Envelope, RelayBody, RelayEntry};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Relays {
    open: BTreeMap<u64, Open>,
    /// Bodies of a job that a node has not said that it has.
    under_way: BTreeMap<(JobId, NodeId), u32>,
    /// Commands that wait for those.
    held: BTreeMap<(JobId, NodeId), Vec<NodeOrder>>,
    held_count: usize,
    /// Last commands that were said directly, while they may be on their way.
    direct: BTreeMap<(JobId, NodeId), CommandKey>,
    numbers: RelayNumbers,
}

/// What was handed on, since the start of the book.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RelayNumbers {
    /// Messages to first nodes.
    pub sent: u64,
    /// Nodes that have said that they have their orders.
    pub taken: u64,
    /// Nodes that were told directly, because they said nothing in time.
    pub stepped_in: u64,
    /// Nodes that are waited for.
    pub open: u64,
}

/// A body that nodes are to have.
#[derive(Debug)]
struct Open {
    job: JobId,
    commands: BTreeSet<CommandKey>,
    contents: BTreeSet<ContentId>,
    since_ns: u64,
    /// When the last of them should have said so.
    until_ns: u64,
    /// Commands behind it have to wait: it has commands, or says what the job may take.
    is_awaited: bool,
    /// Nodes that have not, with the first one of their part.
    waiting: BTreeMap<NodeId, NodeId>,
}

/// Entries that go together, and their bytes.
type Body = (usize, Vec<(NodeId, RelayEntry)>);

/// Orders of one job.
#[derive(Debug, Default)]
struct Group {
    by_node: BTreeMap<NodeId, Vec<NodeOrder>>,
}

impl Relays {
    pub(super) fn numbers(&self) -> RelayNumbers {
        let open: usize = self.open.values().map(|open| open.waiting.len()).sum();
        RelayNumbers { open: u64::try_from(open).unwrap_or(u64::MAX), ..self.numbers }
    }

    /// A node has the orders of this number.
    pub(super) fn taken(&mut self, number: u64, node: NodeId) {
        let Some(open) = self.open.get_mut(&number) else { return };
        if open.waiting.remove(&node).is_some() {
            self.numbers.taken += 1;
            open.arrived(node, &mut self.under_way);
        }
        if open.waiting.is_empty() {
            self.open.remove(&number);
        }
    }

    /// A body is under way.
    fn insert(&mut self, number: u64, open: Open) {
        for node in open.waiting.keys().filter(|_| open.is_awaited) {
            *self.under_way.entry((open.job, *node)).or_default() += 1;
        }
        if !open.waiting.is_empty() {
            self.open.insert(number, open);
        }
    }

    /// Commands that wait no longer, before others for the same nodes. Those of nodes that have all
    /// before them wait a moment for the other nodes of the body, to be in one body with theirs.
    fn take_released(&mut self, now_ns: u64) -> Vec<(NodeId, NodeOrder)> {
        if self.held.is_empty() {
            return Vec::new();
        }
        let mut since: BTreeMap<JobId, u64> = BTreeMap::new();
        for open in self.open.values().filter(|open| open.is_awaited) {
            since.entry(open.job).or_insert(open.since_ns);
        }
        let is_late = |job: &JobId| {
            let since_ns = since.get(job);
            since_ns.is_none_or(|since_ns| now_ns.saturating_sub(*since_ns) >= GATHER_NS)
        };
        let under_way = &self.under_way;
        let released = self.held.extract_if(.., |(job, node), _| {
            is_late(job) && !under_way.contains_key(&(*job, *node))
        });
        let released = released
            .flat_map(|((_, node), orders)| orders.into_iter().map(move |order| (node, order)));
        let released: Vec<_> = released.collect();
        self.held_count -= released.len();
        released
    }

    /// Has a command wait, where others before it do.
    fn hold(&mut self, at: (JobId, NodeId), order: NodeOrder) {
        // What has no room is said again when the node has taken nothing for a while.
        if self.held_count < HELD_MAX {
            self.held_count += 1;
            self.held.entry(at).or_default().push(order);
        }
    }

    /// Whether a command for the node has to wait.
    fn must_wait(&self, at: (JobId, NodeId)) -> bool {
        self.under_way.contains_key(&at) || self.held.contains_key(&at)
    }

    /// Nodes that have said nothing in time, with what they were to have.
    fn take_late(&mut self, now_ns: u64) -> Vec<(NodeId, JobId, Vec<CommandKey>, Vec<ContentId>)> {
        let mut late = Vec::new();
        for open in self.open.values_mut() {
            let age_ns = now_ns.saturating_sub(open.since_ns);
            if age_ns < ns(TAKEN_WITHIN) {
                continue;
            }
            let is_over = now_ns >= open.until_ns;
            // A first node without a word: its part is taken back.
            let silent: BTreeSet<NodeId> = open.waiting.keys().copied().collect();
            let waiting =
                open.waiting.extract_if(.., |_, first| is_over || silent.contains(&*first));
            for node in waiting.map(|(node, _)| node).collect::<Vec<_>>() {
                open.arrived(node, &mut self.under_way);
                let commands = open.commands.iter().copied().collect();
                late.push((node, open.job, commands, open.contents.iter().copied().collect()));
            }
        }
        self.open.retain(|_, open| !open.waiting.is_empty());
        self.numbers.stepped_in += u64::try_from(late.len()).unwrap_or(u64::MAX);
        late
    }
}

/// The orders of a call as they leave: those that are for many nodes go on from node to node.
pub(super) fn hand_on(parts: &mut Parts) -> Vec<(NodeName, NodeOrder)> {
    let new = parts.fx.take_orders();
    if parts.options.relay_from == 0 {
        return new;
    }
    let from = parts.options.relay_from.max(2);
    let orders = in_turn(parts, new);
    let mut nodes: BTreeMap<JobId, BTreeSet<&NodeName>> = BTreeMap::new();
    for (job, node, _) in
        orders.iter().filter_map(|(job, node, order)| Some(((*job)?, node, order)))
    {
        nodes.entry(job).or_default().insert(node);
    }
    let room = OPEN_MAX.saturating_sub(parts.relays.open.len());
    let many = nodes.iter().filter(|(_, nodes)| nodes.len() >= from).take(room);
    let many: BTreeSet<JobId> = many.map(|(job, _)| *job).collect();
    let (mut groups, mut left) = (BTreeMap::<JobId, Group>::new(), Vec::new());
    for (job, name, order) in orders {
        let job = job.filter(|job| many.contains(job));
        match job.zip(parts.nodes.id_of(&name)) {
            Some((job, node)) => {
                groups.entry(job).or_default().by_node.entry(node).or_default().push(order);
            }
            None => left.push((name, order)),
        }
    }
    for (job, group) in groups {
        hand_group(parts, job, group, &mut left);
    }
    for (name, order) in &left {
        if let (NodeOrder::Command { key, .. }, Some(node)) = (order, parts.nodes.id_of(name)) {
            note_direct(parts, *key, node);
        }
    }
    left
}

/// Orders that may leave now, each with its job where it may go by other nodes; those that waited
/// first.
fn in_turn(
    parts: &mut Parts,
    new: Vec<(NodeName, NodeOrder)>,
) -> Vec<(Option<JobId>, NodeName, NodeOrder)> {
    let released = parts.relays.take_released(parts.fx.now.mono_ns);
    let mut orders = Vec::with_capacity(released.len() + new.len());
    for (node, order) in released {
        let NodeOrder::Command { key, .. } = order else { continue };
        // What has ended meanwhile is not begun.
        let state = parts.jobs.delivery(key, node).map(|delivery| delivery.state);
        let name = parts.nodes.name_of(node).cloned();
        let Some(name) = name.filter(|_| state == Some(DeliveryState::Pending)) else { continue };
        if parts.is_live(node) {
            let may_go_on = !is_on_its_way(parts, (key.job, node));
            orders.push((may_go_on.then_some(key.job), name, order));
        }
    }
    for (name, order) in new {
        let (job, node) = (job_of(parts, &order), parts.nodes.id_of(&name));
        let Some(at) = job.zip(node) else {
            orders.push((None, name, order));
            continue;
        };
        let is_command = matches!(order, NodeOrder::Command { .. });
        if is_command && parts.relays.must_wait(at) {
            parts.relays.hold(at, order);
            continue;
        }
        // What has no order of its own does not wait for it.
        let may_go_on = !parts.relays.must_wait(at) && !is_on_its_way(parts, at);
        orders.push((job.filter(|_| may_go_on), name, order));
    }
    orders
}

/// Whether a command that was said directly may still be under way.
fn is_on_its_way(parts: &Parts, at: (JobId, NodeId)) -> bool {
    let key = parts.relays.direct.get(&at);
    let delivery = key.and_then(|key| parts.jobs.delivery(*key, at.1));
    delivery.is_some_and(|delivery| delivery.state == DeliveryState::Pending)
}

/// A command has been said to a node directly, or may be: further ones follow it on the same way.
pub(super) fn note_direct(parts: &mut Parts, key: CommandKey, node: NodeId) {
    let from = parts.options.relay_from;
    let targets = parts.jobs.get(key.job).map_or(0, |job| job.targets.len());
    if from > 0 && targets >= from {
        parts.relays.direct.insert((key.job, node), key);
    }
}

/// Each second: nodes that have said nothing are told directly.
pub(super) fn tick(parts: &mut Parts) {
    let jobs = &parts.jobs;
    parts.relays.direct.retain(|(_, node), key| {
        let delivery = jobs.delivery(*key, *node);
        delivery.is_some_and(|delivery| delivery.state == DeliveryState::Pending)
    });
    for (node, job, commands, contents) in parts.relays.take_late(parts.fx.now.mono_ns) {
        if !parts.is_live(node) {
            continue;
        }
        let mut orders: Vec<NodeOrder> =
            Tell { parts: &mut *parts, job }.order().into_iter().collect();
        orders.extend(parts.servers_order(job, node));
        let mut told = BTreeSet::new();
        for key in commands {
            let state = parts.jobs.delivery(key, node).map(|delivery| delivery.state);
            if state == Some(DeliveryState::Pending) {
                orders.extend(parts.command_orders(key, node));
                told.extend(parts.jobs.content_of(key));
            }
        }
        for content in contents.into_iter().filter(|content| !told.contains(content)) {
            orders.extend(parts.planner().sources_order(content, node));
        }
        for order in orders {
            if let NodeOrder::Command { key, .. } = &order {
                note_direct(parts, *key, node);
            }
            parts.nodes.say_directly(node, order, &mut parts.fx);
        }
    }
}

/// A book was made from rows: what is pending may be on its way from the base before.
pub(super) fn restored(parts: &mut Parts) {
    let jobs = parts.jobs.behind(None).filter(|job| job.totals.open() > 0);
    let mut pending = Vec::new();
    for (job, node) in jobs.flat_map(|job| job.targets.iter().map(move |node| (job, *node))) {
        let keys = parts.jobs.open_of(node, job.row.id);
        let is_pending = |key: &CommandKey| {
            let delivery = job.delivery(key.command, node);
            delivery.is_some_and(|delivery| delivery.state == DeliveryState::Pending)
        };
        pending.extend(keys.filter(is_pending).last().map(|key| (key, node)));
    }
    for (key, node) in pending {
        note_direct(parts, key, node);
    }
}

/// The job of an order that may be handed on: ends and questions are not, and neither is what is
/// said of live paths, whose sources a node takes behind their command only.
fn job_of(parts: &Parts, order: &NodeOrder) -> Option<JobId> {
    match order {
        NodeOrder::Command { op: Op::Live { .. }, .. }
        | NodeOrder::Reflect { .. }
        | NodeOrder::Finish { .. } => None,
        NodeOrder::Command { key, .. } => Some(key.job),
        NodeOrder::Terms { job, .. } | NodeOrder::Servers { job, .. } => Some(*job),
        NodeOrder::Sources { content, .. } => Some(parts.contents.row(*content)?.key.job),
        NodeOrder::Cancel { .. }
        | NodeOrder::Forget { .. }
        | NodeOrder::Query { .. }
        | NodeOrder::Renew { .. }
        | NodeOrder::Restart { .. }
        | NodeOrder::Probe { .. }
        | NodeOrder::Relay { .. }
        | NodeOrder::Ask { .. }
        | NodeOrder::HelloAgain
        | NodeOrder::Idle => None,
    }
}

impl Open {
    /// A node has it, or is told directly.
    fn arrived(&self, node: NodeId, under_way: &mut BTreeMap<(JobId, NodeId), u32>) {
        let at = (self.job, node);
        let Some(count) = under_way.get_mut(&at).filter(|_| self.is_awaited) else { return };
        *count -= 1;
        if *count == 0 {
            under_way.remove(&at);
        }
    }
}

impl Group {
    /// Commands and contents that are spoken of.
    fn named(&self) -> (BTreeSet<CommandKey>, BTreeSet<ContentId>) {
        let (mut commands, mut contents) = (BTreeSet::new(), BTreeSet::new());
        for order in self.by_node.values().flatten() {
            match order {
                NodeOrder::Command { key, .. } => drop(commands.insert(*key)),
                NodeOrder::Sources { content, .. } => drop(contents.insert(*content)),
                _ => {}
            }
        }
        (commands, contents)
    }

    /// Takes out what is the same for all nodes.
    fn take_common(&mut self) -> Vec<NodeOrder> {
        let nodes = self.by_node.len();
        let mut counts: BTreeMap<CommandKey, usize> = BTreeMap::new();
        let all = self.by_node.values().flatten();
        for order in all {
            if let NodeOrder::Command { key, .. } = order {
                *counts.entry(*key).or_default() += 1;
            }
        }
        let is_terms = |order: &&NodeOrder| matches!(order, NodeOrder::Terms { .. });
        let terms =
            self.by_node.values().next().and_then(|own| own.iter().rfind(is_terms)).cloned();
        let has_terms =
            |own: &Vec<NodeOrder>| terms.is_some() && own.iter().rfind(is_terms) == terms.as_ref();
        let terms = terms.clone().filter(|_| self.by_node.values().all(has_terms));
        let is_common = |order: &NodeOrder| match order {
            NodeOrder::Command { key, .. } => counts.get(key) == Some(&nodes),
            NodeOrder::Terms { .. } => terms.is_some(),
            _ => false,
        };
        let mut common: Vec<NodeOrder> = terms.clone().into_iter().collect();
        for (place, own) in self.by_node.values_mut().enumerate() {
            let taken = own.extract_if(.., |order| is_common(order));
            let commands = taken.filter(|order| matches!(order, NodeOrder::Command { .. }));
            if place == 0 {
                common.extend(commands);
            } else {
                commands.for_each(drop);
            }
        }
        common
    }
}

/// Hands the orders of a job on, in as many bodies as they need. What does not fit goes directly.
fn hand_group(
    parts: &mut Parts,
    id: JobId,
    mut group: Group,
    left: &mut Vec<(NodeName, NodeOrder)>,
) {
    let number = parts.fx.new_epoch().0;
    let since_ns = parts.fx.now.mono_ns;
    let (commands, contents) = group.named();
    let for_all = group.take_common();
    // Orders have text keys only: writing them cannot fail.
    let common = serde_json::to_string(&for_all).unwrap_or_default();
    let digest = Digest(*blake3::hash(common.as_bytes()).as_bytes());
    let Parts { nodes, jobs, keys, fx, options, relays, .. } = &mut *parts;
    let Some(job) = jobs.get(id) else { return };
    let mut sorted: Vec<_> = group.by_node.into_iter().collect();
    let rate = |node: &NodeId| {
        let row = nodes.get(*node).map(|node| &node.row);
        row.map_or(0, |row| planned_rate(row.up_rate_cap, row.up_rate_seen))
    };
    sorted.sort_by_key(|(node, _)| (Reverse(rate(node)), *node));
    let mut bodies = Vec::new();
    for (node, own) in sorted {
        let (Some(row), Some(place)) = (nodes.get(node).map(|n| &n.row), job.places.get(&node))
        else {
            continue;
        };
        let envelope = keys.seal_envelope(&Envelope {
            node: row.name.clone(),
            addr: row.addr.clone(),
            base: options.epoch,
            number,
            at_ns: fx.now.utc_ns,
            common: digest,
            orders: own.iter().cloned().map(short).collect(),
        });
        let bytes = envelope.len() + ENTRY_BYTES;
        if common.len() + bytes > BODY_BYTES_MAX {
            let orders = for_all.iter().cloned().chain(own);
            left.extend(orders.map(|order| (row.name.clone(), order)));
            continue;
        }
        let entry = RelayEntry { index: u32::try_from(*place).unwrap_or(u32::MAX), envelope };
        put_entry(&mut bodies, common.len(), (node, entry));
    }
    let mut waiting = BTreeMap::new();
    let most = bodies.iter().map(|(_, body)| body.len()).max().unwrap_or(0);
    for part in bodies.into_iter().flat_map(|(_, body)| parts_of(body)) {
        let Some((first, _)) = part.first() else { continue };
        let (first, Some(name)) = (*first, nodes.name_of(*first)) else { continue };
        waiting.extend(part.iter().map(|(node, _)| (*node, first)));
        let entries = part.into_iter().map(|(_, entry)| entry).collect();
        let list_version = job.row.list_version;
        let body = RelayBody { number, job: id, list_version, common: common.clone(), entries };
        relays.numbers.sent += 1;
        left.push((name.clone(), NodeOrder::Relay { body }));
    }
    let until_ns = since_ns
        .saturating_add(ns(TAKEN_WITHIN))
        .saturating_add(2 * u64::from(rounds(most)) * ROUND_TRIP_NS);
    let has_terms = for_all
        .iter()
        .any(|order| matches!(order, NodeOrder::Terms { terms, .. } if *terms != Terms::default()));
    let is_awaited = has_terms || !commands.is_empty();
    let open = Open { job: id, commands, contents, since_ns, until_ns, is_awaited, waiting };
    relays.insert(number, open);
}

/// Puts an entry into the last body, or where it has no room, into a new one.
fn put_entry(bodies: &mut Vec<Body>, common: usize, entry: (NodeId, RelayEntry)) {
    let bytes = entry.1.envelope.len() + ENTRY_BYTES;
    let fits = |(used, body): &&mut Body| {
        used.saturating_add(bytes) <= BODY_BYTES_MAX && body.len() < ENTRIES_MAX
    };
    match bodies.last_mut().filter(fits) {
        Some((used, body)) => {
            *used += bytes;
            body.push(entry);
        }
        None => bodies.push((common + bytes, vec![entry])),
    }
}

/// An order whose list of sources is short.
fn short(order: NodeOrder) -> NodeOrder {
    match order {
        NodeOrder::Sources { content, epoch, sources, further } => {
            NodeOrder::Sources { content, epoch, sources: short_list(sources), further }
        }
        other => other,
    }
}

/// Bodies whose nodes are waited for; beyond that orders go directly.
const OPEN_MAX: usize = 4_096;
/// Commands that wait: some hundred bytes each.
const HELD_MAX: usize = 65_536;
/// For so long commands of nodes that could have them wait for other nodes of their body.
const GATHER_NS: u64 = 300_000_000;
/// Of an entry beside its envelope, as JSON.
const ENTRY_BYTES: usize = 48;
/// Between two nodes far apart.
const ROUND_TRIP_NS: u64 = 200_000_000;
