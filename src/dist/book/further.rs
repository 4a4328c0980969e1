//! Who is told of further sources, and of which.
//!
//! ```text
//! rates of uplinks are known --> level: some give up a little, so that the last lacks nothing
//! nodes that have all, without children --> whoever gets less than it could, far from the end
//! ```
//! Both are looked at when a plan begins, when one of few members changes, and each second. What is
//! lacking counts at the start of a content, and later behind a source that was found to be slow,
//! or when it lasts: a plan that changes is out of balance for a while, and while it is being found
//! out what is slow ([`Flow::has_trials`]) nothing is levelled anew. A node is told when its
//! further sources are others than before, or are to give much more or less.
//! Invariant: nobody is named to a node behind it. Bounds: those of [`level`], and `IDLE_MAX` idle
//! nodes for each of `NEEDY_MAX` receivers of a plan.

use std::collections::{BTreeMap, BTreeSet};

use crate::dist::book::flows::Flow;
use crate::dist::book::link::{NS_PER_S, is_planned_by_what_is_known};
use crate::dist::book::nodes::NodeId;
use crate::dist::book::planner::Planner;
use crate::dist::book::records::Job;
use crate::dist::ids::{CommandId, ContentId};
use crate::dist::level;
use crate::dist::plan::{Edge, MemberId};
use crate::dist::wire::agent::Source;
use crate::dist::wire::job::DeliveryState;

/// Further sources by receiver.
type Found = BTreeMap<MemberId, Vec<Edge>>;

/// What counts of what is lacking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// All: a content begins.
    Now,
    /// What has lasted for a while, or is behind a source that was found to be slow.
    Lasting,
}

impl Planner<'_> {
    /// Looks who is to have further sources, and tells those for whom that has changed.
    pub(super) fn level_and_say(&mut self, id: ContentId) {
        for member in self.level(id, When::Lasting) {
            self.say_sources(id, member.into());
        }
    }

    /// The same for a plan that has changed; gives those who are to be told. One of many members is
    /// looked at within the second: in a turn of the base many of its nodes may change it.
    pub(super) fn level_changed(&mut self, id: ContentId) -> Vec<MemberId> {
        let count = self.flows.get(id).map_or(0, |flow| flow.cascade.count());
        if count > AT_ONCE_MAX { Vec::new() } else { self.level(id, When::Lasting) }
    }

    /// Looks who is to have further sources; gives those who are to be told.
    pub(super) fn level(&mut self, id: ContentId, when: When) -> Vec<MemberId> {
        let Some((content, job)) = self.content_and_job(id) else { return Vec::new() };
        let Some(flow) = self.flows.get(id) else { return Vec::new() };
        // All rates of the plan are those of the policy where that has less.
        let base_up = self.flows.base.planned(job.row.policy.max_rate);
        let knows = |member| self.knows_uplink(member);
        let mut found = level::further(&flow.cascade, base_up, knows);
        if flow.has_trials() {
            found.retain(|member, _| flow.further.contains_key(member));
        }
        self.add_idle(flow, (job, content.row.key.command), content.row.size, &mut found);
        let now_ns = self.fx.now.mono_ns;
        let sure = found.keys().filter(|member| self.has_slow_source(flow, **member));
        let sure: BTreeSet<MemberId> = sure.copied().collect();
        let Some(flow) = self.flows.get_mut(id) else { return Vec::new() };
        flow.lacking.retain(|member, _| found.contains_key(member));
        found.retain(|member, edges| {
            let since_ns = *flow.lacking.entry(*member).or_insert(now_ns);
            let is_idle = edges.iter().all(|edge| edge.rate == 0);
            let lasts = now_ns.saturating_sub(since_ns) >= LASTING_NS;
            let counts = when == When::Now || lasts || sure.contains(member);
            counts || is_idle || flow.further.contains_key(member)
        });
        let changed = |member: &MemberId| {
            let [now, before] = [&found, &flow.further].map(|of| of.get(member));
            match (now, before) {
                (Some(now), Some(before)) => differ(now, before),
                (now, before) => now.is_some() != before.is_some(),
            }
        };
        let both = found.keys().chain(flow.further.keys()).copied().collect::<BTreeSet<_>>();
        let changed: Vec<MemberId> = both.into_iter().filter(changed).collect();
        for member in &changed {
            match found.get(member) {
                Some(edges) => flow.further.insert(*member, edges.clone()),
                None => flow.further.remove(member),
            };
        }
        changed
    }

    /// Further sources of a node, as it is told.
    pub(super) fn further_of(&self, id: ContentId, node: NodeId) -> Vec<Source> {
        let Some(flow) = self.flows.get(id) else { return Vec::new() };
        let edges = flow.further.get(&node.member()).into_iter().flatten();
        // The plan may have changed since.
        let edges = edges.filter(|edge| flow.cascade.may_give(edge.source, node.member()));
        let sources = edges.filter_map(|edge| {
            let (node, addr) = match edge.source {
                None => (None, self.options.base_addr.clone()),
                Some(source) => {
                    let row = &self.nodes.get(source.into())?.row;
                    (Some(row.name.clone()), row.addr.clone())
                }
            };
            // That of its other sources counts.
            let capability = String::new();
            Some(Source { node, addr, capability, rate: edge.rate, is_last_resort: false })
        });
        sources.collect()
    }

    /// Whether the source of a member was found to be slow.
    fn has_slow_source(&self, flow: &Flow, member: MemberId) -> bool {
        let source = flow.cascade.edge(member).and_then(|edge| edge.source);
        let up = |source| self.flows.slow(NodeId::from(source), self.fx.now.mono_ns).up;
        source.is_some_and(|source| up(source) < u64::MAX)
    }

    /// Whether an uplink was declared, measured, or found to be slow.
    fn knows_uplink(&self, member: Option<MemberId>) -> bool {
        let Some(member) = member else { return self.flows.base.known().is_some() };
        let node = NodeId::from(member);
        let is_slow = self.flows.slow(node, self.fx.now.mono_ns).up < u64::MAX;
        is_slow
            || self.nodes.get(node).is_some_and(|node| {
                is_planned_by_what_is_known(node.row.up_rate_cap, node.row.up_rate_seen)
            })
    }

    /// Nodes that have everything and feed nobody give parts to receivers that get much less than
    /// others were seen to. Nobody loses anything by that, so no rate has to be
    /// known. Whoever was told of some keeps them as long as they are there.
    fn add_idle(
        &self,
        flow: &Flow,
        (job, command): (&Job, CommandId),
        size: Option<u64>,
        found: &mut Found,
    ) {
        let Some(size) = size else { return };
        let state = |member: MemberId| Some(job.delivery(command, member.into())?.state);
        let is_idle = |member: &MemberId| {
            state(*member) == Some(DeliveryState::Completed)
                && flow.cascade.children(*member).is_empty()
                && self.nodes.get(NodeId::from(*member)).is_some_and(|node| node.may_serve())
        };
        let mut idle: Vec<(usize, MemberId)> =
            flow.cascade.members().filter(is_idle).take(IDLE_LOOKS).map(|id| (0, id)).collect();
        if idle.is_empty() {
            return;
        }
        // What one node was seen to receive fits through the downlinks of others, too, as far as is
        // known; where it does not, nobody loses anything.
        let seen = flow.cascade.members().filter_map(|member| self.nodes.get(member.into()));
        let seen = seen.map(|node| node.row.down_rate_seen).max().unwrap_or(0);
        let policy = &job.row.policy;
        let limits = [policy.max_rate, policy.per_node_rate];
        let seen = limits.into_iter().flatten().fold(seen, u64::min);
        if seen < level::RATE_MIN {
            return;
        }
        let is_needy = |member: &MemberId| {
            let Some(delivery) = job.delivery(command, (*member).into()) else { return false };
            let is_far = size.saturating_sub(delivery.offset) / delivery.rate.max(1) >= FAR_S;
            let is_slow = delivery.rate < seen - seen / 4;
            let is_told = flow.further.contains_key(member);
            delivery.state == DeliveryState::Fetching && (is_told || is_far && is_slow)
        };
        let needy = flow.cascade.edges().map(|(member, _)| member).filter(is_needy);
        for member in needy.take(NEEDY_MAX) {
            if found.contains_key(&member) {
                continue;
            }
            let source = flow.cascade.edge(member).map(|edge| edge.source);
            idle.sort_unstable();
            let mut edges: Vec<Edge> = Vec::new();
            for (uses, id) in &mut idle {
                let is_other = source != Some(Some(*id));
                if is_other && flow.cascade.may_give(Some(*id), member) {
                    *uses += 1;
                    edges.push(Edge { source: Some(*id), rate: 0 });
                }
                if edges.len() == IDLE_MAX {
                    break;
                }
            }
            // Those of before stay, where they are as good.
            let before = flow.further.get(&member).filter(|before| {
                let is_there = |edge: &Edge| idle.iter().any(|(_, id)| Some(*id) == edge.source);
                before.len() >= edges.len() && before.iter().all(is_there)
            });
            if let Some(before) = before {
                edges.clone_from(before);
            }
            if !edges.is_empty() {
                found.insert(member, edges);
            }
        }
    }
}

/// Whether further sources are others than before, or give much more or less.
fn differ(now: &[Edge], before: &[Edge]) -> bool {
    let is_same = |now: &Edge, before: &Edge| {
        now.source == before.source && now.rate.abs_diff(before.rate) <= before.rate / 4
    };
    now.len() != before.len() || !now.iter().zip(before).all(|(now, before)| is_same(now, before))
}

/// Members of a plan that is looked at with each change.
const AT_ONCE_MAX: usize = 64;
/// Idle nodes that give parts to one receiver.
const IDLE_MAX: usize = 3;
/// Idle nodes that are looked at, and receivers that have some.
const IDLE_LOOKS: usize = 64;
const NEEDY_MAX: usize = 64;
/// What is lacking counts when it lasts so long.
const LASTING_NS: u64 = 2 * NS_PER_S;
/// Seconds that are to be left at the rate of now for a further source to be worth it.
const FAR_S: u64 = 2;
