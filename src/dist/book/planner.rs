//! Who fetches a content from whom: the plans of contents that are on their way change with nodes,
//! deliveries and time.
//!
//! ```text
//! first byte, late node --> begin, join --> Cascade --> Sources to each node that is open
//! node down, failed, barred --> its children go on to others --> Sources to those, epoch + 1
//! idle uplink, bytes to give --> tend: it is offered to who is slow and far from the end
//! node left a slow source --> judge: more from the next one? the source is slow : the node is
//! a source has too little --> further: others give parts of it at the same time
//! rates of the policy changed --> plan_again: who gets more from another goes there
//! ```
//! Invariant: a plan has only nodes that live, with the command open or completed. Bounds: a plan
//! is improved once a second at most, and a round of tending looks at `LOOKS_A_TICK` members of
//! plans; a node is moved by that at most each three seconds.

use std::collections::HashSet;

use serde_json::json;

use crate::dist::book::contents::{Content, Contents};
use crate::dist::book::effects::{About, Effects};
use crate::dist::book::flows::{Flow, Flows, Offer, Slow, Trial};
use crate::dist::book::further::When;
use crate::dist::book::jobs::Jobs;
use crate::dist::book::link::{NS_PER_S, SlowLinks, planned_rate};
use crate::dist::book::nodes::{NodeId, Nodes};
use crate::dist::book::options::{BookOptions, ns};
use crate::dist::book::records::Job;
use crate::dist::ids::{ContentId, JobId};
use crate::dist::keys::BaseKeys;
use crate::dist::plan::{Cascade, MemberId, Receiver};
use crate::dist::wire::agent::{NodeOrder, Source};
use crate::dist::wire::job::DeliveryState;
use crate::dist::wire::peer::Capability;

/// Changes plans, and sees what they are made from.
#[derive(Debug)]
pub(super) struct Planner<'a> {
    pub(super) flows: &'a mut Flows,
    pub(super) fx: &'a mut Effects,
    pub(super) jobs: &'a Jobs,
    pub(super) contents: &'a Contents,
    pub(super) nodes: &'a Nodes,
    pub(super) keys: &'a BaseKeys,
    pub(super) options: &'a BookOptions,
}

impl<'a> Planner<'a> {
    /// Plans a content that has begun, and tells its nodes, but the one that is told by the caller.
    /// No effect when it is planned, or nobody who lives needs it.
    pub(super) fn begin(&mut self, id: ContentId, told: Option<NodeId>) {
        let Some((content, job)) = self.content_and_job(id) else { return };
        if self.flows.get(id).is_some() || !content.is_begun || content.row.is_abandoned {
            return;
        }
        let receivers = job.targets.iter().filter_map(|node| self.receiver(content, job, *node));
        let receivers: Vec<Receiver> = receivers.collect();
        if receivers.iter().all(|receiver| receiver.is_complete) {
            return;
        }
        let base_up = self.flows.base.planned(job.row.policy.max_rate);
        let barred = self.flows.barred();
        let cascade = Cascade::without(base_up, content.row.size, &receivers, barred);
        self.flows.insert(id, Flow::new(cascade, self.fx.new_epoch()));
        self.level(id, When::Now);
        for receiver in receivers {
            let node = NodeId::from(receiver.id);
            if told != Some(node) {
                self.say_sources(id, node);
            }
        }
    }

    /// The rates of a job have changed: its contents are planned for them. Nodes whose source
    /// changed, and those behind them, are told.
    pub(super) fn plan_again(&mut self, job: JobId) {
        let commands = self.jobs.get(job).into_iter().flat_map(|job| &job.commands);
        self.flows.outdate(commands.filter_map(|command| command.row.content));
        self.fit_outdated();
    }

    /// Plans for the rates of now. What is more than a round has time for waits for the next one.
    fn fit_outdated(&mut self) {
        let mut looks = 0;
        while looks < LOOKS_A_TICK
            && let Some(id) = self.flows.take_outdated()
        {
            looks += self.flows.get(id).map_or(0, |flow| flow.cascade.count());
            self.fit(id);
        }
    }

    fn fit(&mut self, id: ContentId) {
        let Some((content, job)) = self.content_and_job(id) else { return };
        let Some(flow) = self.flows.get(id) else { return };
        let receivers = flow.cascade.members().filter_map(|member| {
            // Whoever is about to leave the plan is planned as before.
            let known = self.receiver(content, job, member.into());
            known.or_else(|| flow.cascade.receiver(member))
        });
        let receivers: Vec<Receiver> = receivers.collect();
        let base_up = self.flows.base.planned(job.row.policy.max_rate);
        let (cascade, moved) = flow.cascade.anew(base_up, content.row.size, &receivers);
        self.replan(id, |plan| {
            *plan = cascade;
            moved
        });
    }

    /// A node that lives (again) takes part in the plan of a content.
    pub(super) fn join(&mut self, id: ContentId, node: NodeId) {
        let Some((content, job)) = self.content_and_job(id) else { return };
        let Some(flow) = self.flows.get(id) else { return self.begin(id, Some(node)) };
        if flow.cascade.contains(node.member()) {
            return;
        }
        let Some(receiver) = self.receiver(content, job, node) else { return };
        let epoch = self.fx.new_epoch();
        if let Some(flow) = self.flows.get_mut(id) {
            flow.cascade.attach(receiver);
            flow.epoch = epoch;
        }
        self.flows.list(id, node);
    }

    /// A node has left its source by itself: the plan follows it. Those behind it, whose lists name
    /// others now, are told.
    pub(super) fn follow_switch(&mut self, id: ContentId, node: NodeId, source: Option<NodeId>) {
        let (member, source) = (node.member(), source.map(NodeId::member));
        let planned = self.flows.get(id).and_then(|flow| flow.cascade.edge(member));
        if planned.is_none_or(|edge| edge.source == source) {
            return;
        }
        self.replan(id, |cascade| {
            let has_moved = cascade.move_to(member, source);
            if has_moved { cascade.children(member).to_vec() } else { Vec::new() }
        });
    }

    /// A node has left a source that got much more than it gave: whether it gets more from the next
    /// one says which of the two is slow. Of a source that gave what it is known to carry nothing
    /// is to be found out.
    pub(super) fn try_other(
        &mut self,
        id: ContentId,
        node: NodeId,
        (left, before): (NodeId, u64),
        offset: u64,
    ) {
        let since_ns = self.fx.now.mono_ns;
        let known = self.flows.slow(left, since_ns).up;
        if before >= known - known / 4 {
            return;
        }
        if let Some(flow) = self.flows.get_mut(id) {
            let trial = Trial { left: left.member(), before, since_ns, offset };
            flow.begin_trial(node.member(), trial);
        }
    }

    /// A node has so many bytes. Where that says which link is slow: nobody waits behind it any
    /// more, and whoever has it makes room for others at its source.
    pub(super) fn judge(&mut self, id: ContentId, node: NodeId, offset: u64) {
        let now_ns = self.fx.now.mono_ns;
        let Some(flow) = self.flows.get_mut(id) else { return };
        let (slow, up, down) = match flow.end_trial(node.member(), offset, now_ns) {
            None => return,
            Some(Slow::Up(left, rate)) => (NodeId::from(left), rate, u64::MAX),
            Some(Slow::Down(rate)) => (node, u64::MAX, rate),
        };
        let (rate, link) = if up < down { (up, "up") } else { (down, "down") };
        if let (Some((content, _)), Some(name)) =
            (self.content_and_job(id), self.nodes.name_of(slow))
        {
            let about = About::delivery(content.row.key, name);
            self.fx.event("node.slow", about, json!({"link": link, "rate": rate}));
        }
        self.flows.note_slow(slow, SlowLinks { up, down, since_ns: now_ns });
        if let Some(flow) = self.flows.get_mut(id) {
            flow.set_yields(slow.member(), true);
        }
        self.replan(id, |cascade| cascade.lower(slow.member(), up, down));
    }

    /// A node fetches from where the plan says.
    pub(super) fn settled(&mut self, id: ContentId, node: NodeId) {
        if let Some(flow) = self.flows.get_mut(id) {
            flow.set_yields(node.member(), false);
        }
    }

    /// A delivery has ended.
    pub(super) fn ended(&mut self, id: ContentId, node: NodeId, state: DeliveryState) {
        let Some((content, job)) = self.content_and_job(id) else { return };
        let command = job.command(content.row.key.command);
        if command.is_none_or(|command| command.totals.open() == 0) {
            self.flows.end(id);
        } else if state == DeliveryState::Completed {
            if let Some(flow) = self.flows.get_mut(id) {
                flow.cascade.complete(node.member());
            }
        } else {
            self.leave(id, node);
        }
    }

    /// A node takes no part any more. Those that fetched from it get other sources.
    fn leave(&mut self, id: ContentId, node: NodeId) {
        self.flows.unlist(id, node);
        self.replan(id, |cascade| cascade.remove(node.member()));
    }

    /// A node takes part in all plans again: also in those of contents that it has completed, and
    /// others still fetch.
    pub(super) fn join_all(&mut self, node: NodeId) {
        for id in self.flows.ids() {
            self.join(id, node);
        }
    }

    /// A node takes part in nothing any more.
    pub(super) fn leave_all(&mut self, node: NodeId) {
        for id in self.flows.of_node(node) {
            self.leave(id, node);
        }
    }

    /// A node is no source any more.
    pub(super) fn bar(&mut self, node: NodeId) {
        for id in self.flows.of_node(node) {
            self.replan(id, |cascade| cascade.bar(node.member()));
        }
    }

    /// A node gets no further children, or does again.
    pub(super) fn serve(&mut self, node: NodeId) {
        let may_serve = self.nodes.get(node).is_some_and(|node| node.may_serve());
        for id in self.flows.of_node(node) {
            if let Some(flow) = self.flows.get_mut(id) {
                flow.cascade.set_may_serve(node.member(), may_serve);
            }
        }
    }

    /// Where a node is to fetch; `None` when it is not to.
    pub(super) fn sources_order(&mut self, id: ContentId, node: NodeId) -> Option<NodeOrder> {
        let (content, job) = self.content_and_job(id)?;
        let delivery = job.delivery(content.row.key.command, node)?;
        let name = self.nodes.name_of(node)?;
        let valid_s = i64::try_from(ns(self.options.timeouts.capability) / NS_PER_S).ok()?;
        let now_s = self.now_s();
        let flow = self.flows.get_mut(id)?;
        if !delivery.state.is_open() || !flow.cascade.contains(node.member()) {
            return None;
        }
        let capability = flow.capability(node, (now_s, valid_s), |expires_s| {
            let job = Some(content.row.key.job);
            let capability = Capability { content: id, node: name.clone(), expires_s, job };
            self.keys.seal_capability(&capability)
        });
        let yields = flow.yields(node.member());
        let sources = (0_usize..).zip(flow.cascade.sources(node.member()));
        let sources = sources.filter_map(|(place, edge)| {
            let (name, addr) = match edge.source {
                None => (None, self.options.base_addr.clone()),
                Some(source) => {
                    let row = &self.nodes.get(source.into())?.row;
                    (Some(row.name.clone()), row.addr.clone())
                }
            };
            let (capability, is_last_resort) = (capability.clone(), yields && place > 0);
            Some(Source { node: name, addr, capability, rate: edge.rate, is_last_resort })
        });
        let sources = sources.collect();
        let further = self.further_of(id, node);
        let epoch = self.flows.get(id)?.epoch;
        Some(NodeOrder::Sources { content: id, epoch, sources, further })
    }

    /// Each second: capabilities that end soon are made anew, idle uplinks are given away, edges
    /// that were barred may be planned again.
    pub(super) fn tend(&mut self) {
        self.flows.unbar(self.fx.now.mono_ns);
        for id in self.flows.due(self.now_s()) {
            self.renew(id);
        }
        self.fit_outdated();
        let mut looks = 0;
        for id in self.flows.untended() {
            self.flows.set_tended(Some(id));
            looks += self.flows.get(id).map_or(0, |flow| flow.cascade.count());
            // What is held back by its policy is no fault of a source.
            if self.content_and_job(id).is_some_and(|(_, job)| job.terms.is_open()) {
                self.free_stalled(id);
                self.remeasure(id);
                self.offer(id);
                self.level_and_say(id);
            }
            if looks >= LOOKS_A_TICK {
                return;
            }
        }
        self.flows.set_tended(None);
    }

    /// Makes the capabilities of a plan anew.
    fn renew(&mut self, id: ContentId) {
        let epoch = self.fx.new_epoch();
        let Some(flow) = self.flows.get_mut(id) else { return };
        flow.epoch = epoch;
        flow.drop_capabilities();
        let members: Vec<_> = flow.cascade.edges().map(|(member, _)| member).collect();
        for member in members {
            self.say_sources(id, member.into());
        }
    }

    /// Links have carried more than was known when they were planned.
    fn remeasure(&mut self, id: ContentId) {
        let Some((content, job)) = self.content_and_job(id) else { return };
        let members = self.flows.get(id).into_iter().flat_map(|flow| flow.cascade.members());
        for member in members.collect::<Vec<_>>() {
            let receiver = self.receiver(content, job, member.into());
            if let (Some(flow), Some(known)) = (self.flows.get_mut(id), receiver) {
                flow.cascade.raise(member, known.up, known.down);
            }
        }
    }

    /// Nodes that have bytes and idle uplink are offered to receivers that are slow and far from
    /// the end. The base offers for them, because it knows what all have and get: one order, where
    /// each node would have to ask many. The receiver compares the rates, and changes when it pays.
    fn offer(&mut self, id: ContentId) {
        let now_ns = self.fx.now.mono_ns;
        let Some((content, job)) = self.content_and_job(id) else { return };
        let (Some(flow), Some(size)) = (self.flows.get(id), content.row.size) else { return };
        let of = (job, content.row.key.command);
        let needy = flow.needy(of, size, now_ns);
        if needy.is_empty() {
            return;
        }
        let is_declared = |member: MemberId| {
            self.nodes.get(member.into()).is_some_and(|node| node.row.down_rate_cap.is_some())
        };
        let mut offers = flow.offers(of, is_declared);
        offers.retain(|offer| self.nodes.get(offer.member.into()).is_some_and(|n| n.may_serve()));
        for needy in needy {
            let Some(flow) = self.flows.get(id) else { return };
            let is_source = |offer: &&Offer| Some(offer.member) == needy.source;
            // Its source has everything, too: then it is its own link that bounds it.
            if offers.iter().find(is_source).is_some_and(Offer::is_whole) {
                continue;
            }
            let down = flow.cascade.down(needy.member);
            let taken = offers.iter().find(|offer| {
                offer.is_worth(&needy, flow.cascade.left(offer.member), down)
                    && flow.cascade.can_move(needy.member, Some(offer.member))
            });
            if let Some(source) = taken.map(|offer| offer.member) {
                self.move_member(id, needy.member, Some(source));
            }
        }
    }

    /// A receiver that gets nothing although the base has more goes on to the source of its source.
    fn free_stalled(&mut self, id: ContentId) {
        let Some((content, job)) = self.content_and_job(id) else { return };
        let Some(flow) = self.flows.get(id) else { return };
        let command = content.row.key.command;
        for (member, above) in flow.stalled((job, command), self.fx.now.mono_ns) {
            self.move_member(id, member, above);
        }
    }

    /// A node that gets nothing is given another source: that of its source, or one that has all.
    /// Where there is none, those that it has are said to it anew.
    pub(super) fn reassign(&mut self, id: ContentId, node: NodeId) {
        self.join(id, node);
        let (member, Some(flow)) = (node.member(), self.flows.get(id)) else { return };
        let Some(edge) = flow.cascade.edge(member) else { return self.say_sources(id, node) };
        let other = match edge.source {
            Some(source) => flow.cascade.edge(source).and_then(|edge| edge.source),
            None => self.idlest(id, member),
        };
        if other != edge.source {
            self.move_member(id, member, other);
        }
        // Under a new epoch the node tries those that have failed it once more.
        let epoch = self.fx.new_epoch();
        if let Some(flow) = self.flows.get_mut(id) {
            flow.epoch = epoch;
        }
        self.say_sources(id, node);
    }

    /// Of the members that have all and may serve, the one with the most of its uplink left.
    fn idlest(&self, id: ContentId, but: MemberId) -> Option<MemberId> {
        let (content, job) = self.content_and_job(id)?;
        let command = content.row.key.command;
        let flow = self.flows.get(id)?;
        let whole = flow.cascade.members().filter(|member| {
            let delivery = job.delivery(command, NodeId::from(*member));
            let is_whole = delivery.is_some_and(|d| d.state == DeliveryState::Completed);
            let record = self.nodes.get(NodeId::from(*member));
            *member != but && is_whole && record.is_some_and(|record| record.may_serve())
        });
        whole.max_by_key(|member| flow.cascade.left(*member))
    }

    /// Gives a member another source. Whether it can or not: the next time waits.
    fn move_member(&mut self, id: ContentId, member: MemberId, source: Option<MemberId>) {
        self.replan(
            id,
            |cascade| {
                if cascade.move_to(member, source) { vec![member] } else { Vec::new() }
            },
        );
        let now_ns = self.fx.now.mono_ns;
        if let Some(flow) = self.flows.get_mut(id) {
            flow.note_move(member, now_ns);
        }
    }

    /// Changes a plan. Nodes whose source changed, and those behind them whose lists name others
    /// now, are told.
    fn replan(&mut self, id: ContentId, change: impl FnOnce(&mut Cascade) -> Vec<MemberId>) {
        let epoch = self.fx.new_epoch();
        let Some(flow) = self.flows.get_mut(id) else { return };
        let moved = change(&mut flow.cascade);
        flow.epoch = epoch;
        let levelled = self.level_changed(id);
        let (mut told, mut row) = (HashSet::new(), moved);
        for _ in 0..LISTED_BEHIND {
            row.retain(|member| told.insert(*member));
            let Some(flow) = self.flows.get(id) else { return };
            let next = row.iter().flat_map(|member| flow.cascade.children(*member).to_vec());
            let next = next.collect();
            for member in std::mem::replace(&mut row, next) {
                self.say_sources(id, member.into());
            }
        }
        for member in levelled.into_iter().filter(|member| told.insert(*member)) {
            self.say_sources(id, member.into());
        }
    }

    pub(super) fn say_sources(&mut self, id: ContentId, node: NodeId) {
        if !self.nodes.is_live(node, self.fx.now) {
            return;
        }
        if let Some(order) = self.sources_order(id, node) {
            self.nodes.say(node, order, self.fx);
        }
    }

    /// What a plan says of a node; `None` when it takes no part.
    fn receiver(&self, content: &Content, job: &Job, node: NodeId) -> Option<Receiver> {
        let state = job.delivery(content.row.key.command, node)?.state;
        let is_complete = state == DeliveryState::Completed;
        if !self.nodes.is_live(node, self.fx.now) || !(state.is_open() || is_complete) {
            return None;
        }
        let record = self.nodes.get(node)?;
        let policy = &job.row.policy;
        let limit = policy.max_rate.unwrap_or(u64::MAX);
        let down_limit = policy.per_node_rate.unwrap_or(u64::MAX).min(limit);
        let (row, slow) = (&record.row, self.flows.slow(node, self.fx.now.mono_ns));
        let down = planned_rate(row.down_rate_cap, row.down_rate_seen);
        Some(Receiver {
            id: node.member(),
            up: planned_rate(row.up_rate_cap, row.up_rate_seen).min(limit).min(slow.up),
            down: down.min(down_limit).min(slow.down),
            site: record.site,
            is_complete,
            may_serve: record.may_serve(),
        })
    }

    pub(super) fn content_and_job(&self, id: ContentId) -> Option<(&'a Content, &'a Job)> {
        let content = self.contents.get(id)?;
        Some((content, self.jobs.get(content.row.key.job)?))
    }

    fn now_s(&self) -> i64 {
        self.fx.now.utc_ns.div_euclid(1_000_000_000)
    }
}

/// A list names the sources of three nodes above: two rows behind a node that moved.
const LISTED_BEHIND: usize = 3;
/// Members of plans that one tick looks at: the next one goes on behind them.
const LOOKS_A_TICK: usize = 50_000;
