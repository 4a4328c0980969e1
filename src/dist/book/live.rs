//! Live paths at the base: which node reflects a path from whom, and how that changes.
//!
//! ```text
//! command, hello --> Cascade --> Reflect to each node, once its source reflects, or after 5 s
//! node down, draining, ended --> its children go on to others --> Reflect to those, epoch + 1
//! node gets less than the stream --> tried one further up: better? its source is slow : it is
//! job ended --> Finish to each node --> receipts
//! ```
//! A plan is a cascade like that of a content ([`crate::dist::plan`]), whose root is the origin. A
//! stream has one rate for all, so each edge is planned with that. A delivery is new until packets
//! come, in progress while they do, waits for a retry while none come, and is completed by the
//! receipt that follows the end of its job.
//!
//! With its sources a node is told a capability, by which the other nodes of the job let it read
//! the path whatever their own rules say. It is made anew when a quarter to a half of its time is
//! over: at each node at another time, and of all of them a few in a tick. Those that were made
//! before the clock was put back are made anew, too: they would count for longer than is said.
//!
//! Invariants: a plan has only nodes that live, have said where they serve RTSP since the book
//! began, and have the command open; edges make a tree, so nobody reflects from itself. Bounds:
//! a plan for each open live command; a tick looks at each of its members once, and makes
//! `RENEWALS_MAX` capabilities anew.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::json;

use crate::base::secret::Secret;
use crate::base::url_path::encode_path;
use crate::dist::book::effects::{About, Effects};
use crate::dist::book::flows::Flows;
use crate::dist::book::jobs::Jobs;
use crate::dist::book::link::{NS_PER_S, SlowLinks, planned_rate};
use crate::dist::book::nodes::{NodeId, Nodes};
use crate::dist::book::options::BookOptions;
use crate::dist::book::records::Delivery;
use crate::dist::ids::{CommandKey, Epoch, JobId};
use crate::dist::keys::BaseKeys;
use crate::dist::plan::{Cascade, MemberId, Receiver};
use crate::dist::wire::agent::{LiveSource, NodeOrder};
use crate::dist::wire::job::{DeliveryState, JobState, NodeState, Op};
use crate::dist::wire::peer::LiveCapability;

/// Plans of all live paths.
#[derive(Debug, Default)]
pub(super) struct Lives {
    flows: BTreeMap<CommandKey, LiveFlow>,
    /// Before that nothing is planned for commands of the book before: nodes say hello first.
    settles_ns: u64,
    has_settled: bool,
    /// When capabilities are to be made anew, UTC seconds: each of them once.
    renewals: BTreeSet<(i64, CommandKey, MemberId)>,
    /// UTC second of the last tick.
    ticked_s: i64,
}

/// The plan of one live path.
#[derive(Debug)]
struct LiveFlow {
    cascade: Cascade,
    epoch: Epoch,
    /// Members that were not told their sources yet, with the time since when they are planned.
    untold: HashMap<MemberId, u64>,
    /// Members that get less than the stream.
    lags: HashMap<MemberId, Lag>,
    capabilities: HashMap<MemberId, Made>,
}

/// A capability of a member.
#[derive(Debug)]
struct Made {
    capability: Secret,
    /// UTC second from which on it is made anew.
    renew_s: i64,
}

/// What is known of a member that gets less than the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lag {
    /// Since then.
    Late { since_ns: u64 },
    /// Since then it is further up than before.
    Tried { since_ns: u64, left: MemberId, rate: u64 },
    /// Its own downlink is too slow: it is a leaf.
    Slow,
}

/// Changes plans of live paths, and sees what they are made from.
#[derive(Debug)]
pub(super) struct LivePlanner<'a> {
    pub(super) lives: &'a mut Lives,
    pub(super) flows: &'a mut Flows,
    pub(super) fx: &'a mut Effects,
    pub(super) jobs: &'a Jobs,
    pub(super) nodes: &'a Nodes,
    pub(super) keys: &'a BaseKeys,
    pub(super) options: &'a BookOptions,
}

impl Lives {
    /// The book goes on from a ledger: nodes are waited for.
    pub(super) fn hold(&mut self, now_ns: u64) {
        self.settles_ns = now_ns.saturating_add(SETTLE_NS);
    }

    /// Nobody needs the plan any more.
    pub(super) fn end(&mut self, key: CommandKey) {
        let ended = self.flows.remove(&key);
        for (member, made) in ended.into_iter().flat_map(|flow| flow.capabilities) {
            self.renewals.remove(&(made.renew_s, key, member));
        }
    }

    /// A member is to get another capability, or none.
    fn forget_capability(&mut self, key: CommandKey, member: MemberId) {
        let flow = self.flows.get_mut(&key);
        if let Some(made) = flow.and_then(|flow| flow.capabilities.remove(&member)) {
            self.renewals.remove(&(made.renew_s, key, member));
        }
    }

    /// All capabilities are to be made anew.
    fn renew_all(&mut self, now_s: i64) {
        self.renewals.clear();
        for (key, flow) in &mut self.flows {
            for (member, made) in &mut flow.capabilities {
                made.renew_s = now_s;
                self.renewals.insert((now_s, *key, *member));
            }
        }
    }

    /// Plans that a node is in.
    fn of_node(&self, node: NodeId) -> Vec<CommandKey> {
        let has = |flow: &LiveFlow| flow.cascade.contains(node.member());
        self.flows.iter().filter(|(_, flow)| has(flow)).map(|(key, _)| *key).collect()
    }
}

impl<'a> LivePlanner<'a> {
    /// Plans a live path, and tells the nodes that pull from its origin. Nodes that have it already
    /// stay where they are.
    pub(super) fn begin(&mut self, key: CommandKey) {
        if self.lives.flows.contains_key(&key) {
            return;
        }
        let targets = self.jobs.get(key.job).map(|job| job.targets.clone()).unwrap_or_default();
        let receivers = targets.iter().filter_map(|node| self.receiver(key, *node));
        let receivers: Vec<Receiver> = receivers.collect();
        if receivers.is_empty() {
            return;
        }
        let now_ns = self.fx.now.mono_ns;
        let untold = receivers.iter().map(|receiver| (receiver.id, now_ns)).collect();
        let (cascade, epoch) = (self.cascade(key, receivers), self.fx.new_epoch());
        let flow =
            LiveFlow { cascade, epoch, untold, lags: HashMap::new(), capabilities: HashMap::new() };
        self.lives.flows.insert(key, flow);
        for node in targets {
            self.say(key, node);
        }
    }

    /// A node that lives (again) takes part in the plan of a live path.
    pub(super) fn join(&mut self, key: CommandKey, node: NodeId) {
        let now_ns = self.fx.now.mono_ns;
        let Some(receiver) = self.receiver(key, node) else { return };
        let Some(flow) = self.lives.flows.get_mut(&key) else {
            if self.lives.has_settled || now_ns >= self.lives.settles_ns {
                self.begin(key);
            }
            return;
        };
        if !flow.cascade.contains(node.member()) {
            flow.epoch = self.fx.new_epoch();
            flow.cascade.attach(receiver);
            flow.untold.insert(node.member(), now_ns);
        }
    }

    /// A node takes part in all plans again.
    pub(super) fn join_all(&mut self, node: NodeId) {
        for key in self.jobs.open_at(node) {
            if self.origin(key).is_some() {
                self.join(key, node);
                self.say(key, node);
            }
        }
    }

    /// A node takes part in nothing any more. Those behind it get other sources.
    pub(super) fn leave_all(&mut self, node: NodeId) {
        for key in self.lives.of_node(node) {
            self.leave(key, node);
        }
    }

    /// A node gets no further children, or does again. From one that is drained or poisoned those
    /// that it has go on to others, too: a live path never ends by itself.
    pub(super) fn serve(&mut self, node: NodeId) {
        let Some(record) = self.nodes.get(node) else { return };
        let may_serve = record.may_serve();
        let is_left = matches!(record.row.state, NodeState::Draining | NodeState::Quarantined);
        for key in self.lives.of_node(node) {
            if is_left {
                self.replan(key, |cascade| cascade.bar(node.member()));
            } else if let Some(flow) = self.lives.flows.get_mut(&key) {
                let is_slow = flow.lags.get(&node.member()) == Some(&Lag::Slow);
                flow.cascade.set_may_serve(node.member(), may_serve && !is_slow);
            }
        }
    }

    /// Packets come at a node, from there: those behind it may begin. Where it has changed its
    /// source by itself, the plan follows.
    pub(super) fn flows_from(
        &mut self,
        key: CommandKey,
        node: NodeId,
        (source, is_own_switch): (Option<NodeId>, bool),
    ) {
        let (member, source) = (node.member(), source.map(NodeId::member));
        let Some(flow) = self.lives.flows.get(&key) else { return };
        let edge = flow.cascade.edge(member);
        if is_own_switch && edge.is_some_and(|edge| edge.source != source) {
            self.replan(key, |cascade| {
                let has_moved = cascade.move_to(member, source);
                if has_moved {
                    [&[member][..], cascade.children(member)].concat()
                } else {
                    Vec::new()
                }
            });
        }
        let Some(flow) = self.lives.flows.get(&key) else { return };
        let children = flow.cascade.children(member).iter();
        let waiting = children.filter(|child| flow.untold.contains_key(child)).copied();
        for child in waiting.collect::<Vec<_>>() {
            self.say(key, child.into());
        }
    }

    /// A delivery has ended.
    pub(super) fn ended(&mut self, key: CommandKey, node: NodeId) {
        let command = self.jobs.command(key);
        if command.is_none_or(|command| command.totals.open() == 0) {
            self.lives.end(key);
        } else {
            self.leave(key, node);
        }
    }

    /// No more is wanted of live paths of a job: nodes that have them open end them.
    pub(super) fn finish(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(id) else { return };
        for command in job.commands.iter().filter(|command| command.row.op.is_live()) {
            let key = command.row.key;
            self.lives.end(key);
            for node in self.jobs.open_targets(key) {
                self.nodes.say(node, NodeOrder::Finish { key }, self.fx);
            }
        }
    }

    /// What a node is told of a live path besides the command itself.
    pub(super) fn order(&mut self, key: CommandKey, node: NodeId) -> Option<NodeOrder> {
        self.origin(key)?;
        if self.jobs.get(key.job)?.row.state == JobState::Closing {
            return Some(NodeOrder::Finish { key });
        }
        self.join(key, node);
        self.sources_order(key, node)
    }

    /// Each second: some capabilities are made anew, nodes that waited for their sources
    /// are told, those that get too little are looked after.
    pub(super) fn tend(&mut self) {
        let now_ns = self.fx.now.mono_ns;
        if !self.lives.has_settled && now_ns >= self.lives.settles_ns {
            self.lives.has_settled = true;
            for key in self.open_commands() {
                self.begin(key);
            }
        }
        self.renew();
        for key in self.lives.flows.keys().copied().collect::<Vec<_>>() {
            let untold = self.lives.flows.get(&key).into_iter().flat_map(|flow| &flow.untold);
            let late = untold.filter(|(_, since)| now_ns.saturating_sub(**since) >= TOLD_NS);
            let mut late: Vec<MemberId> = late.map(|(member, _)| *member).collect();
            late.sort_unstable();
            for member in late {
                self.say(key, member.into());
            }
            // What is held back by its policy is no fault of a source.
            if self.jobs.get(key.job).is_some_and(|job| job.terms.is_open()) {
                self.look_after_slow(key);
            }
        }
    }

    /// Members get other capabilities when it is time. They keep their sources, and the connections
    /// to them.
    fn renew(&mut self) {
        let now_s = self.now_s();
        let ticked_s = std::mem::replace(&mut self.lives.ticked_s, now_s);
        if now_s.saturating_add(PUT_BACK_S) < ticked_s {
            // They were made by a clock that was ahead.
            self.lives.renew_all(now_s);
        }
        let due = self.lives.renewals.iter().take_while(|(renew_s, ..)| *renew_s <= now_s);
        for (_, key, member) in due.take(RENEWALS_MAX).copied().collect::<Vec<_>>() {
            self.lives.forget_capability(key, member);
            let epoch = self.fx.new_epoch();
            if let Some(flow) = self.lives.flows.get_mut(&key) {
                flow.epoch = epoch;
            }
            self.say(key, member.into());
        }
    }

    /// What a node shows to those that it reflects a path from.
    fn capability(&mut self, key: CommandKey, path: &str, node: NodeId) -> Option<Secret> {
        let (now_s, member) = (self.now_s(), node.member());
        let valid_s = i64::try_from(self.options.timeouts.capability.as_secs()).ok()?;
        let name = self.nodes.name_of(node)?;
        let flow = self.lives.flows.get(&key)?;
        if let Some(made) = flow.capabilities.get(&member).filter(|made| now_s < made.renew_s) {
            return Some(made.capability.clone());
        }
        self.lives.forget_capability(key, member);
        let expires_s = now_s.saturating_add(valid_s);
        let live = LiveCapability { key, path: path.to_owned(), node: name.clone(), expires_s };
        let capability = self.keys.seal_live(&live);
        // Whoever began together does not renew together.
        let spread_s = spread_of(&live, valid_s / 4);
        let renew_s = now_s.saturating_add(valid_s / 2).saturating_sub(spread_s);
        let made = Made { capability: capability.clone(), renew_s };
        self.lives.flows.get_mut(&key)?.capabilities.insert(member, made);
        self.lives.renewals.insert((renew_s, key, member));
        Some(capability)
    }

    fn now_s(&self) -> i64 {
        self.fx.now.utc_ns.div_euclid(1_000_000_000)
    }

    fn leave(&mut self, key: CommandKey, node: NodeId) {
        self.lives.forget_capability(key, node.member());
        if let Some(flow) = self.lives.flows.get_mut(&key) {
            flow.untold.remove(&node.member());
            flow.lags.remove(&node.member());
        }
        self.replan(key, |cascade| cascade.remove(node.member()));
    }

    /// A plan for these nodes. One that has the path already keeps its source, so that a base that
    /// was started anew moves nobody.
    fn cascade(&self, key: CommandKey, receivers: Vec<Receiver>) -> Cascade {
        let source_of = |receiver: &Receiver| {
            let delivery = self.jobs.delivery(key, receiver.id.into())?;
            let is_flowing = delivery.state == DeliveryState::Fetching;
            is_flowing.then(|| delivery.source.map(NodeId::member))
        };
        let origin_up = planned_rate(None, 0);
        let (kept, new): (Vec<_>, Vec<_>) =
            receivers.into_iter().partition(|receiver| source_of(receiver).is_some());
        if kept.is_empty() {
            return Cascade::new(origin_up, SHALLOW, &new);
        }
        let mut cascade = Cascade::new(origin_up, SHALLOW, &[]);
        let mut waiting = kept;
        // Bounded: each round attaches one at least, or is the last.
        while !waiting.is_empty() {
            let (ready, rest): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|receiver| {
                source_of(receiver).flatten().is_none_or(|source| cascade.contains(source))
            });
            let is_last = ready.is_empty();
            for receiver in if is_last { &rest } else { &ready } {
                cascade.attach(*receiver);
                if let Some(source) = source_of(receiver) {
                    cascade.move_to(receiver.id, source);
                }
            }
            waiting = if is_last { Vec::new() } else { rest };
        }
        for receiver in new {
            cascade.attach(receiver);
        }
        cascade
    }

    /// Members that get much less than others are tried one further up. Where that helps, it was
    /// the uplink of the one that they had; where not, it is their own link.
    fn look_after_slow(&mut self, key: CommandKey) {
        let rates = self.rates(key);
        let Some(best) = rates.values().map(|(rate, _)| *rate).max().filter(|best| *best > 0)
        else {
            return;
        };
        let is_low = |rate: u64| rate.saturating_mul(4) < best.saturating_mul(3);
        let low: HashSet<MemberId> =
            rates.iter().filter(|(_, (rate, _))| is_low(*rate)).map(|(id, _)| *id).collect();
        for (member, (rate, is_settled)) in &rates {
            let source = self.edge_source(key, *member);
            // Behind one that gets too little, it is that one which has to move.
            let is_late = low.contains(member) && source.is_none_or(|above| !low.contains(&above));
            if *is_settled {
                self.judge(key, (*member, *rate), is_late);
            }
        }
    }

    /// Rates of members that packets come at, and whether they have had their source for a while.
    fn rates(&self, key: CommandKey) -> BTreeMap<MemberId, (u64, bool)> {
        let now_ns = self.fx.now.mono_ns;
        let members =
            self.lives.flows.get(&key).into_iter().flat_map(|flow| flow.cascade.members());
        let rate = |member: MemberId| {
            let delivery: &Delivery = self.jobs.delivery(key, member.into())?;
            let is_settled = now_ns.saturating_sub(delivery.moved_ns) >= LATE_NS;
            let flows = delivery.state == DeliveryState::Fetching;
            flows.then_some((member, (delivery.rate, is_settled)))
        };
        members.filter_map(rate).collect()
    }

    fn edge_source(&self, key: CommandKey, member: MemberId) -> Option<MemberId> {
        self.lives.flows.get(&key)?.cascade.edge(member)?.source
    }

    fn judge(&mut self, key: CommandKey, (member, rate): (MemberId, u64), is_late: bool) {
        let now_ns = self.fx.now.mono_ns;
        let source = self.edge_source(key, member);
        let Some(flow) = self.lives.flows.get_mut(&key) else { return };
        let is_over = |since_ns: u64| now_ns.saturating_sub(since_ns) >= LATE_NS;
        match (flow.lags.get(&member).copied(), is_late) {
            (None, false) | (Some(Lag::Slow), true) => {}
            (None, true) => {
                flow.lags.insert(member, Lag::Late { since_ns: now_ns });
            }
            (Some(Lag::Late { .. }), false) => {
                flow.lags.remove(&member);
            }
            (Some(Lag::Late { since_ns }), true) if is_over(since_ns) => match source {
                Some(left) => {
                    let above = flow.cascade.edge(left).and_then(|edge| edge.source);
                    flow.lags.insert(member, Lag::Tried { since_ns: now_ns, left, rate });
                    self.replan(key, |cascade| {
                        if cascade.move_to(member, above) { vec![member] } else { Vec::new() }
                    });
                }
                None => self.note_slow(key, member, (u64::MAX, rate)),
            },
            (Some(Lag::Tried { since_ns, .. }), true) if is_over(since_ns) => {
                self.note_slow(key, member, (u64::MAX, rate));
            }
            (Some(Lag::Tried { since_ns, left, rate }), false) if is_over(since_ns) => {
                flow.lags.remove(&member);
                self.note_slow(key, left, (rate, u64::MAX));
            }
            (Some(Lag::Late { .. } | Lag::Tried { .. }), _) => {}
            (Some(Lag::Slow), false) => {
                flow.lags.remove(&member);
                self.serve(member.into());
            }
        }
    }

    /// Links of a member carry no more than this: nobody waits behind it any more.
    fn note_slow(&mut self, key: CommandKey, member: MemberId, (up, down): (u64, u64)) {
        let node = NodeId::from(member);
        let since_ns = self.fx.now.mono_ns;
        let (rate, link) = if up < down { (up, "up") } else { (down, "down") };
        if let Some(name) = self.nodes.name_of(node) {
            let about = About::delivery(key, name);
            self.fx.event("node.slow", about, json!({"link": link, "rate": rate}));
        }
        self.flows.note_slow(node, SlowLinks { up, down, since_ns });
        if link == "down" {
            if let Some(flow) = self.lives.flows.get_mut(&key) {
                flow.lags.insert(member, Lag::Slow);
            }
            self.replan(key, |cascade| cascade.bar(member));
        } else {
            self.replan(key, |cascade| cascade.lower(member, up, down));
        }
    }

    /// Changes a plan. Nodes whose source changed, and those behind them whose lists name others
    /// now, are told.
    fn replan(&mut self, key: CommandKey, change: impl FnOnce(&mut Cascade) -> Vec<MemberId>) {
        let epoch = self.fx.new_epoch();
        let Some(flow) = self.lives.flows.get_mut(&key) else { return };
        let moved = change(&mut flow.cascade);
        flow.epoch = epoch;
        let (mut told, mut row) = (HashSet::new(), moved);
        for _ in 0..LISTED_BEHIND {
            row.retain(|member| told.insert(*member));
            let Some(flow) = self.lives.flows.get(&key) else { return };
            let next = row.iter().flat_map(|member| flow.cascade.children(*member).to_vec());
            let next = next.collect();
            for member in std::mem::replace(&mut row, next) {
                self.say(key, member.into());
            }
        }
    }

    fn say(&mut self, key: CommandKey, node: NodeId) {
        if !self.nodes.is_live(node, self.fx.now) {
            return;
        }
        if let Some(order) = self.sources_order(key, node) {
            self.nodes.say(node, order, self.fx);
        }
    }

    /// From whom a node reflects; `None` when it does not, or not yet: its source has nothing.
    fn sources_order(&mut self, key: CommandKey, node: NodeId) -> Option<NodeOrder> {
        let (path, from) = self.origin(key)?;
        let delivery = self.jobs.delivery(key, node)?;
        let (member, now_ns) = (node.member(), self.fx.now.mono_ns);
        let flow = self.lives.flows.get_mut(&key)?;
        if !delivery.state.is_open() || !flow.cascade.contains(member) {
            return None;
        }
        let source = flow.cascade.edge(member).and_then(|edge| edge.source);
        let above = source.and_then(|source| self.jobs.delivery(key, source.into()));
        let may_begin = source.is_none()
            || above.is_some_and(|above| above.state == DeliveryState::Fetching)
            || delivery.state == DeliveryState::Fetching;
        let since_ns = flow.untold.get(&member).copied();
        let is_due = since_ns.is_none_or(|since| now_ns.saturating_sub(since) >= TOLD_NS);
        if !may_begin && !is_due {
            return None;
        }
        flow.untold.remove(&member);
        let sources = flow.cascade.sources(member).into_iter().filter_map(|edge| {
            let Some(source) = edge.source else {
                let url = from.to_owned();
                return Some(LiveSource { node: None, url, takes_capability: false });
            };
            let record = self.nodes.get(source.into())?;
            let url = url_at(record.rtsp.as_ref()?, path);
            let (node, takes_capability) = (record.row.name.clone(), record.takes_capability);
            Some(LiveSource { node: Some(node), url, takes_capability })
        });
        let (sources, epoch) = (sources.collect(), flow.epoch);
        let capability = self.capability(key, path, node);
        Some(NodeOrder::Reflect { key, epoch, sources, capability })
    }

    /// Path and origin of a live command.
    fn origin(&self, key: CommandKey) -> Option<(&'a str, &'a str)> {
        match &self.jobs.command(key)?.row.op {
            Op::Live { path, from } => Some((path, from)),
            _ => None,
        }
    }

    /// Live commands that nodes are to reflect.
    fn open_commands(&self) -> Vec<CommandKey> {
        let open = self.jobs.behind(None).filter(|job| job.row.state == JobState::Open);
        let commands = open.flat_map(|job| &job.commands);
        let live = commands.filter(|command| command.row.op.is_live() && command.totals.open() > 0);
        live.map(|command| command.row.key).collect()
    }

    /// What a plan says of a node; `None` when it takes no part.
    fn receiver(&self, key: CommandKey, node: NodeId) -> Option<Receiver> {
        let job = self.jobs.get(key.job)?;
        let delivery = job.delivery(key.command, node)?;
        let is_wanted = job.row.state == JobState::Open && delivery.state.is_open();
        if !is_wanted || !self.nodes.is_live(node, self.fx.now) {
            return None;
        }
        let record = self.nodes.get(node).filter(|record| record.rtsp.is_some())?;
        let (row, slow) = (&record.row, self.flows.slow(node, self.fx.now.mono_ns));
        let down = planned_rate(row.down_rate_cap, row.down_rate_seen).min(slow.down);
        Some(Receiver {
            id: node.member(),
            up: planned_rate(row.up_rate_cap, row.up_rate_seen).min(slow.up),
            down: down.min(STREAM_RATE),
            site: record.site,
            is_complete: false,
            may_serve: record.may_serve() && row.state != NodeState::Draining,
        })
    }
}

/// URL of a path at a node.
fn url_at(rtsp: &str, path: &str) -> String {
    format!("rtsp://{rtsp}/{}", encode_path(path))
}

/// Fewer seconds than `below_s`, for a node and a command always the same.
fn spread_of(live: &LiveCapability, below_s: i64) -> i64 {
    let LiveCapability { key, node, .. } = live;
    let hash = blake3::hash(format!("{}/{}/{node}", key.job.0, key.command.0).as_bytes());
    let (first, _) = hash.as_bytes().split_first_chunk().unwrap_or((&[0; 8], &[]));
    let below_s = u64::try_from(below_s).unwrap_or(0).max(1);
    i64::try_from(u64::from_le_bytes(*first) % below_s).unwrap_or(0)
}

/// A clock that is slowed down a little to be right again is not put back.
const PUT_BACK_S: i64 = 60;
/// Capabilities that a tick makes anew: a signature and an order each, some milliseconds in all.
/// With an hour to live that is enough for ten paths at 20,000 nodes.
const RENEWALS_MAX: usize = 256;
/// A stream is planned with this, bytes per second: 8 Mbit/s.
const STREAM_RATE: u64 = 1_000_000;
/// As if of a small content: chains are short, because each node adds to the delay.
const SHALLOW: Option<u64> = Some(0);
/// A list names the sources of three nodes above: two rows behind a node that moved.
const LISTED_BEHIND: usize = 3;
/// A node whose source does not reflect yet is told its sources after so long all the same.
const TOLD_NS: u64 = 5 * NS_PER_S;
/// Rates are means over some seconds.
const LATE_NS: u64 = 6 * NS_PER_S;
/// Nodes say hello within so long to a base that was started anew.
const SETTLE_NS: u64 = 6 * NS_PER_S;
