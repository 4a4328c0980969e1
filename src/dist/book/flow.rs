//! Who fetches a content from whom: plans of contents that are on their way.
//!
//! ```text
//! first byte, late node --> begin_flow --> Cascade --> Sources to each node that is open
//! node down, failed, barred --> its children go on to others --> Sources to those, epoch + 1
//! node complete --> its uplink is idle --> tick: who is slow and far from the end moves to it
//! ```
//! Invariant: a plan has only nodes that live, with the command open or completed. Bounds: a plan
//! is improved once a second at most, and a tick looks at `LOOKS_A_TICK` members of plans; a node
//! is moved by that at most each `DWELL_NS`.

use std::collections::{HashMap, HashSet};
use std::ops::Bound;

use crate::dist::book::options::ns;
use crate::dist::book::records::{Content, Flow, Job, NS_PER_S, NodeId};
use crate::dist::book::{Book, RATE_UNKNOWN};
use crate::dist::ids::ContentId;
use crate::dist::plan::{Cascade, MemberId, Receiver};
use crate::dist::wire::agent::{NodeOrder, Source};
use crate::dist::wire::job::DeliveryState;
use crate::dist::wire::peer::Capability;

impl Book {
    /// Plans a content that has begun, and tells its nodes, but the one that is told by the caller.
    /// No effect when it is planned, or nobody who lives needs it.
    pub(super) fn begin_flow(&mut self, id: ContentId, told: Option<NodeId>) {
        let Some((content, job)) = self.content_and_job(id) else { return };
        if content.flow.is_some() || !content.is_begun || content.row.is_abandoned {
            return;
        }
        let size = content.row.size;
        let receivers: Vec<Receiver> =
            job.targets.iter().filter_map(|node| self.receiver(id, job, *node)).collect();
        if receivers.iter().all(|receiver| receiver.is_complete) {
            return;
        }
        let base_up = self.base_up(job.row.policy.max_rate);
        let cascade = Cascade::new(base_up, size, &receivers);
        let epoch = self.fx.new_epoch();
        let flow =
            Flow { cascade, epoch, tokens: HashMap::new(), renew_s: i64::MAX, has_idle: false };
        if let Some(content) = self.contents.get_mut(&id) {
            content.flow = Some(flow);
        }
        self.flowing.insert(id);
        for receiver in receivers {
            let node = NodeId::from(receiver.id);
            if let Some(record) = self.node_at_mut(node) {
                record.flows.insert(id);
            }
            if told != Some(node) {
                self.say_sources(id, node);
            }
        }
    }

    /// A node that lives (again) takes part in the plan of a content.
    pub(super) fn join_flow(&mut self, id: ContentId, node: NodeId) {
        let Some((content, job)) = self.content_and_job(id) else { return };
        let Some(flow) = &content.flow else { return self.begin_flow(id, Some(node)) };
        if flow.cascade.contains(node.member()) {
            return;
        }
        let Some(receiver) = self.receiver(id, job, node) else { return };
        let epoch = self.fx.new_epoch();
        if let Some(flow) = self.flow_mut(id) {
            flow.cascade.attach(receiver);
            flow.epoch = epoch;
            flow.has_idle |= receiver.is_complete;
        }
        if let Some(node) = self.node_at_mut(node) {
            node.flows.insert(id);
        }
    }

    /// A node has left its source by itself: the plan follows it. Those behind it, whose lists name
    /// others now, are told.
    pub(super) fn follow_switch(&mut self, id: ContentId, node: NodeId, source: Option<NodeId>) {
        let (member, source) = (node.member(), source.map(NodeId::member));
        let flow = self.contents.get(&id).and_then(|content| content.flow.as_ref());
        let planned = flow.and_then(|flow| flow.cascade.edge(member));
        if planned.is_none_or(|edge| edge.source == source) {
            return;
        }
        self.replan(id, |cascade| {
            let has_moved = cascade.move_to(member, source);
            if has_moved { cascade.children(member).to_vec() } else { Vec::new() }
        });
    }

    /// A delivery has ended.
    pub(super) fn flow_ended(&mut self, id: ContentId, node: NodeId, state: DeliveryState) {
        let Some((_, job)) = self.content_and_job(id) else { return };
        let key = self.contents.get(&id).map(|content| content.row.key);
        let open = key.and_then(|key| job.command(key.command)).map_or(0, |c| c.totals.open());
        if open == 0 {
            self.end_flow(id);
        } else if state == DeliveryState::Completed {
            if let Some(flow) = self.flow_mut(id) {
                flow.cascade.complete(node.member());
                flow.has_idle = true;
            }
        } else {
            self.leave_flow(id, node);
        }
    }

    /// A node takes no part any more. Those that fetched from it get other sources.
    pub(super) fn leave_flow(&mut self, id: ContentId, node: NodeId) {
        if let Some(record) = self.node_at_mut(node) {
            record.flows.remove(&id);
        }
        self.replan(id, |cascade| cascade.remove(node.member()));
    }

    /// A node takes part in all plans again: also in those of contents that it has completed, and
    /// others still fetch.
    pub(super) fn join_flows(&mut self, node: NodeId) {
        for id in self.flowing.clone() {
            self.join_flow(id, node);
        }
    }

    /// A node takes part in nothing any more.
    pub(super) fn leave_flows(&mut self, node: NodeId) {
        for id in self.flows_of(node) {
            self.leave_flow(id, node);
        }
    }

    /// A node is no source any more.
    pub(super) fn bar_from_flows(&mut self, node: NodeId) {
        for id in self.flows_of(node) {
            self.replan(id, |cascade| cascade.bar(node.member()));
        }
    }

    /// A node gets no further children, or does again.
    pub(super) fn serve_in_flows(&mut self, node: NodeId) {
        let may_serve = self.node_at(node).is_some_and(|node| node.may_serve());
        for id in self.flows_of(node) {
            if let Some(flow) = self.flow_mut(id) {
                flow.cascade.set_may_serve(node.member(), may_serve);
            }
        }
    }

    pub(super) fn flows_of(&self, node: NodeId) -> Vec<ContentId> {
        self.node_at(node).map(|node| node.flows.iter().copied().collect()).unwrap_or_default()
    }

    /// Nobody needs the plan any more.
    pub(super) fn end_flow(&mut self, id: ContentId) {
        let flow = self.contents.get_mut(&id).and_then(|content| content.flow.take());
        self.flowing.remove(&id);
        for member in flow.iter().flat_map(|flow| flow.cascade.members()) {
            if let Some(node) = self.node_at_mut(member.into()) {
                node.flows.remove(&id);
            }
        }
    }

    /// Where a node is to fetch; `None` when it is not to.
    pub(super) fn sources_order(&mut self, id: ContentId, node: NodeId) -> Option<NodeOrder> {
        let (content, job) = self.content_and_job(id)?;
        let delivery = job.delivery(content.row.key.command, node)?;
        let flow = content.flow.as_ref()?;
        if !delivery.state.is_open() || !flow.cascade.contains(node.member()) {
            return None;
        }
        let (edges, epoch) = (flow.cascade.sources(node.member()), flow.epoch);
        let capability = self.capability(id, node)?;
        let sources = edges.into_iter().filter_map(|edge| {
            let (name, addr) = match edge.source {
                None => (None, self.options.base_addr.clone()),
                Some(source) => {
                    let row = &self.node_at(source.into())?.row;
                    (Some(row.name.clone()), row.addr.clone())
                }
            };
            Some(Source { node: name, addr, capability: capability.clone(), rate: edge.rate })
        });
        Some(NodeOrder::Sources { content: id, epoch, sources: sources.collect() })
    }

    /// Each second: capabilities that end soon are made anew, idle uplinks are given away.
    pub(super) fn tend_flows(&mut self) {
        let now_s = self.fx.now.utc_ns.div_euclid(1_000_000_000);
        for id in self.flowing.clone() {
            if self.flow_mut(id).is_some_and(|flow| flow.renew_s <= now_s) {
                self.renew(id);
            }
        }
        let mut looks = 0;
        let behind = self.tended.map_or(Bound::Unbounded, Bound::Excluded);
        for id in self.flowing.range((behind, Bound::Unbounded)).copied().collect::<Vec<_>>() {
            self.tended = Some(id);
            looks += self.flow_mut(id).map_or(0, |flow| flow.cascade.members().count());
            self.free_stalled(id);
            if self.flow_mut(id).is_some_and(|flow| flow.has_idle) {
                self.use_idle(id);
            }
            if looks >= LOOKS_A_TICK {
                return;
            }
        }
        self.tended = None;
    }

    /// Makes the capabilities of a plan anew.
    fn renew(&mut self, id: ContentId) {
        let epoch = self.fx.new_epoch();
        let Some(flow) = self.flow_mut(id) else { return };
        flow.epoch = epoch;
        flow.tokens.clear();
        flow.renew_s = i64::MAX;
        let members: Vec<_> = flow.cascade.edges().map(|(member, _)| member).collect();
        for member in members {
            self.say_sources(id, member.into());
        }
    }

    /// Receivers that are slow and far from the end go to nodes that have all and are idle.
    fn use_idle(&mut self, id: ContentId) {
        let now_ns = self.fx.now.mono_ns;
        let Some((content, job)) = self.content_and_job(id) else { return };
        let (Some(flow), Some(size)) = (&content.flow, content.row.size) else { return };
        let command = content.row.key.command;
        let is_complete = |member: &MemberId| {
            let delivery = job.delivery(command, NodeId::from(*member));
            delivery.is_some_and(|delivery| delivery.state == DeliveryState::Completed)
        };
        let mut idle: Vec<_> = flow.cascade.members().filter(is_complete).collect();
        idle.retain(|member| self.node_at((*member).into()).is_some_and(|node| node.may_serve()));
        let mut slow: Vec<_> = flow
            .cascade
            .edges()
            .filter_map(|(member, edge)| {
                let delivery = job.delivery(command, member.into())?;
                let (left, rate) = (size.saturating_sub(delivery.offset), delivery.rate.max(1));
                let is_far = left / rate >= FAR_S;
                let has_dwelt = now_ns.saturating_sub(delivery.moved_ns) >= DWELL_NS;
                let fetches = delivery.state == DeliveryState::Fetching;
                let is_fed_by_idle = edge.source.is_some_and(|source| idle.contains(&source));
                let is_slow = fetches && is_far && has_dwelt && !is_fed_by_idle;
                is_slow.then_some((rate, member))
            })
            .collect();
        slow.sort_unstable();
        for (rate, member) in slow {
            let Some(flow) = self.flow_mut(id) else { return };
            let most = idle.iter().max_by_key(|member| flow.cascade.left(**member));
            let Some(source) = most.copied() else { return };
            // An offer is worth a change when it is a quarter more.
            if flow.cascade.left(source) < rate.saturating_add(rate / 4) {
                continue;
            }
            self.replan(id, |cascade| {
                if cascade.move_to(member, Some(source)) { vec![member] } else { Vec::new() }
            });
            self.note_move(id, member.into());
        }
    }

    /// A receiver that gets nothing although the base has more goes on to the source of its source.
    fn free_stalled(&mut self, id: ContentId) {
        let now_ns = self.fx.now.mono_ns;
        let Some((content, job)) = self.content_and_job(id) else { return };
        let Some(flow) = &content.flow else { return };
        let command = content.row.key.command;
        let stalled: Vec<_> = flow
            .cascade
            .edges()
            .filter_map(|(member, edge)| {
                let source = edge.source?;
                let delivery = job.delivery(command, member.into())?;
                let ahead = job.delivery(command, source.into())?;
                // Behind a source that is stalled itself, it is the source that has to move.
                let is_stalled = delivery.state == DeliveryState::Fetching
                    && ahead.offset > delivery.offset
                    && now_ns.saturating_sub(delivery.moved_ns) >= STALLED_NS
                    && now_ns.saturating_sub(delivery.grew_ns) >= STALLED_NS;
                let above = flow.cascade.edge(source).and_then(|edge| edge.source);
                is_stalled.then_some((member, above))
            })
            .collect();
        for (member, above) in stalled {
            self.replan(
                id,
                |cascade| {
                    if cascade.move_to(member, above) { vec![member] } else { Vec::new() }
                },
            );
            self.note_move(id, member.into());
        }
    }

    /// The plan of a node has changed: the next change waits.
    fn note_move(&mut self, id: ContentId, node: NodeId) {
        let now_ns = self.fx.now.mono_ns;
        let Some(key) = self.contents.get(&id).map(|content| content.row.key) else { return };
        let job = self.jobs.get_mut(&key.job);
        if let Some(delivery) = job.and_then(|job| job.delivery_mut(key.command, node)) {
            delivery.moved_ns = now_ns;
        }
    }

    /// Changes a plan. Nodes whose source changed, and those behind them whose lists name others
    /// now, are told.
    fn replan(&mut self, id: ContentId, change: impl FnOnce(&mut Cascade) -> Vec<MemberId>) {
        let epoch = self.fx.new_epoch();
        let Some(flow) = self.flow_mut(id) else { return };
        let moved = change(&mut flow.cascade);
        flow.epoch = epoch;
        let (mut told, mut row) = (HashSet::new(), moved);
        for _ in 0..LISTED_BEHIND {
            row.retain(|member| told.insert(*member));
            let Some(flow) = self.flow_mut(id) else { return };
            let next = row.iter().flat_map(|member| flow.cascade.children(*member).to_vec());
            let next = next.collect();
            for member in std::mem::replace(&mut row, next) {
                self.say_sources(id, member.into());
            }
        }
    }

    fn say_sources(&mut self, id: ContentId, node: NodeId) {
        if !self.is_live(node) {
            return;
        }
        if let Some(order) = self.sources_order(id, node) {
            self.say(node, order);
        }
    }

    /// What a plan says of a node; `None` when it takes no part.
    fn receiver(&self, id: ContentId, job: &Job, node: NodeId) -> Option<Receiver> {
        let command = self.contents.get(&id)?.row.key.command;
        let state = job.delivery(command, node)?.state;
        let is_complete = state == DeliveryState::Completed;
        if !self.is_live(node) || !(state.is_open() || is_complete) {
            return None;
        }
        let record = self.node_at(node)?;
        let limit = job.row.policy.max_rate.unwrap_or(u64::MAX);
        let row = &record.row;
        Some(Receiver {
            id: node.member(),
            up: planned_rate(row.up_rate_cap, row.up_rate_seen).min(limit),
            down: planned_rate(row.down_rate_cap, row.down_rate_seen).min(limit),
            site: record.site,
            is_complete,
            may_serve: record.may_serve(),
        })
    }

    /// Bytes per second that the base is planned with.
    pub(super) fn base_up(&self, limit: Option<u64>) -> u64 {
        let up = planned_rate(self.options.up_rate, self.base_rate.best);
        up.min(limit.unwrap_or(u64::MAX))
    }

    /// The token by which a node fetches a content, at whatever source.
    fn capability(&mut self, id: ContentId, node: NodeId) -> Option<String> {
        let now_s = self.fx.now.utc_ns.div_euclid(1_000_000_000);
        let valid_s = i64::try_from(ns(self.options.timeouts.capability) / NS_PER_S).ok()?;
        let name = self.node_at(node)?.row.name.clone();
        let flow = self.contents.get(&id)?.flow.as_ref()?;
        if let Some((expires_s, token)) = flow.tokens.get(&node)
            && *expires_s - now_s > valid_s / 2
        {
            return Some(token.clone());
        }
        let expires_s = now_s.saturating_add(valid_s);
        let token = self.keys.seal_capability(&Capability { content: id, node: name, expires_s });
        let flow = self.flow_mut(id)?;
        flow.renew_s = flow.renew_s.min(now_s.saturating_add(valid_s / 2));
        flow.tokens.insert(node, (expires_s, token.clone()));
        Some(token)
    }

    fn flow_mut(&mut self, id: ContentId) -> Option<&mut Flow> {
        self.contents.get_mut(&id)?.flow.as_mut()
    }

    fn content_and_job(&self, id: ContentId) -> Option<(&Content, &Job)> {
        let content = self.contents.get(&id)?;
        Some((content, self.jobs.get(&content.row.key.job)?))
    }
}

/// A cap that was declared counts; without one, nine tenths of the best second, but never less than
/// what is assumed of everybody: a second in which little was to be sent says nothing of the link.
pub(super) fn planned_rate(cap: Option<u64>, seen: u64) -> u64 {
    cap.unwrap_or_else(|| RATE_UNKNOWN.max(seen - seen / 10))
}

/// A list names the sources of three nodes above: two rows behind a node that moved.
const LISTED_BEHIND: usize = 3;
/// Seconds that are to be left at the rate of now for a change to be worth it.
const FAR_S: u64 = 2;
const DWELL_NS: u64 = 3 * NS_PER_S;
/// Members of plans that one tick looks at: the next one goes on behind them.
const LOOKS_A_TICK: usize = 50_000;
/// The node itself has looked for another source several times before.
const STALLED_NS: u64 = 10 * NS_PER_S;
