//! Plans of contents that are on their way, and what a plan knows besides its tree.
//!
//! Invariants: a node is listed with the contents in whose plan it is; one capability of a node
//! counts for a content, at whatever source. [`super::planner`] makes and changes plans.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;

use crate::dist::book::link::{BaseLink, NS_PER_S, SlowLinks};
use crate::dist::book::nodes::NodeId;
use crate::dist::book::records::{Delivery, Job};
use crate::dist::ids::{CommandId, ContentId, Epoch};
use crate::dist::plan::{Cascade, Edge, MemberId};
use crate::dist::wire::job::DeliveryState;

/// Plan of a content, while it is on its way.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) cascade: Cascade,
    pub(super) epoch: Epoch,
    /// Capabilities by node, with the UTC second until which they count.
    tokens: HashMap<NodeId, (i64, String)>,
    /// UTC second at which the first of them is to be made anew.
    renew_s: i64,
    /// When the plan last moved a member by itself.
    moved: HashMap<MemberId, u64>,
    /// Members that have left a slow source, until it is known what was slow.
    trials: HashMap<MemberId, Trial>,
    /// Members that are to leave their source although the next one has nothing for them yet.
    yields: HashSet<MemberId>,
    /// Further sources of members, and what each gives.
    pub(super) further: BTreeMap<MemberId, Vec<Edge>>,
    /// Since when members lack something that others could give.
    pub(super) lacking: BTreeMap<MemberId, u64>,
}

/// A receiver that could be faster.
#[derive(Debug, Clone, Copy)]
pub(super) struct Needy {
    /// Bytes per second that it gets.
    pub(super) rate: u64,
    /// Bytes that it has.
    pub(super) offset: u64,
    pub(super) member: MemberId,
    pub(super) source: Option<MemberId>,
}

/// A node with bytes and uplink to give away.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offer {
    /// Bytes per second.
    pub(super) left: u64,
    /// Bytes that it has; no limit for who has everything.
    pub(super) offset: u64,
    pub(super) member: MemberId,
}

impl Offer {
    /// It has everything.
    pub(super) fn is_whole(&self) -> bool {
        self.offset == u64::MAX
    }

    /// Whether `needy` gets a quarter more by it, for whom `down` bytes per second fit through the
    /// downlink; `left`: what the offer has left by now.
    pub(super) fn is_worth(&self, needy: &Needy, left: u64, down: u64) -> bool {
        let gives = left.min(self.left).min(down);
        // It is ahead by what comes in a second: what is known of both is so old.
        gives >= needy.rate.saturating_add(needy.rate / 4)
            && self.offset > needy.offset.saturating_add(needy.rate)
    }
}

/// A member has left a source that was slow, for the source above.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trial {
    /// The slow one.
    pub(super) left: MemberId,
    /// Bytes per second that came from it.
    pub(super) before: u64,
    pub(super) since_ns: u64,
    /// Bytes that the member had then.
    pub(super) offset: u64,
}

/// Whose link it is that is slow, and bytes per second that it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slow {
    /// More comes from the other source: it is the uplink of the one that was left.
    Up(MemberId, u64),
    /// As little comes from the other source: it is the member's own downlink.
    Down(u64),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Flows {
    flows: BTreeMap<ContentId, Flow>,
    /// Contents in whose plan a node is.
    of_node: HashMap<NodeId, BTreeSet<ContentId>>,
    /// The plan behind which the next round of tending goes on.
    tended: Option<ContentId>,
    /// Plans that were made for other rates of their job.
    outdated: BTreeSet<ContentId>,
    /// Nodes whose links were found to be slow.
    slow: HashMap<NodeId, SlowLinks>,
    /// Until when no edge is planned from a source (second) to a receiver (first) that cannot
    /// connect to it.
    barred: BTreeMap<(NodeId, NodeId), u64>,
    /// What all plans have their start from.
    pub(super) base: BaseLink,
}

impl Flow {
    pub(super) fn new(cascade: Cascade, epoch: Epoch) -> Self {
        Self {
            cascade,
            epoch,
            tokens: HashMap::new(),
            renew_s: i64::MAX,
            moved: HashMap::new(),
            trials: HashMap::new(),
            yields: HashSet::new(),
            further: BTreeMap::new(),
            lacking: BTreeMap::new(),
        }
    }

    /// The capability of a node; made by `seal` when there is none, or it has half of its
    /// `valid_s` seconds behind it.
    pub(super) fn capability(
        &mut self,
        node: NodeId,
        (now_s, valid_s): (i64, i64),
        seal: impl FnOnce(i64) -> String,
    ) -> String {
        if let Some((expires_s, token)) = self.tokens.get(&node)
            && *expires_s - now_s > valid_s / 2
        {
            return token.clone();
        }
        let expires_s = now_s.saturating_add(valid_s);
        let token = seal(expires_s);
        self.renew_s = self.renew_s.min(now_s.saturating_add(valid_s / 2));
        self.tokens.insert(node, (expires_s, token.clone()));
        token
    }

    /// All capabilities are to be made anew.
    pub(super) fn drop_capabilities(&mut self) {
        self.tokens.clear();
        self.renew_s = i64::MAX;
    }

    /// The plan has moved a member by itself: the next time waits.
    pub(super) fn note_move(&mut self, member: MemberId, now_ns: u64) {
        self.moved.insert(member, now_ns);
    }

    /// The member is to leave its source although the next one has nothing for it yet.
    pub(super) fn yields(&self, member: MemberId) -> bool {
        self.yields.contains(&member)
    }

    pub(super) fn set_yields(&mut self, member: MemberId, yields: bool) {
        if yields {
            self.yields.insert(member);
        } else {
            self.yields.remove(&member);
        }
    }

    /// A member has left a slow source.
    pub(super) fn begin_trial(&mut self, member: MemberId, trial: Trial) {
        self.trials.insert(member, trial);
    }

    /// Somebody has left a slow source, and it is not known yet what was slow.
    pub(super) fn has_trials(&self) -> bool {
        !self.trials.is_empty()
    }

    /// A member has so many bytes now: what was slow, once that can be told. It is told once.
    pub(super) fn end_trial(&mut self, member: MemberId, offset: u64, now_ns: u64) -> Option<Slow> {
        let trial = *self.trials.get(&member)?;
        let past_ns = now_ns.saturating_sub(trial.since_ns);
        if past_ns < TRIAL_MIN_NS {
            return None;
        }
        let bytes = u128::from(offset.saturating_sub(trial.offset));
        let rate = bytes * u128::from(NS_PER_S) / u128::from(past_ns);
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        let is_over = past_ns >= TRIAL_MAX_NS;
        let slow = if rate > trial.before.saturating_add(trial.before / 4) {
            Some(Slow::Up(trial.left, trial.before))
        } else {
            // In between it is not told: the two may share what the other source sends.
            let is_same = rate <= trial.before.saturating_add(trial.before / 10);
            Some(Slow::Down(rate.max(trial.before))).filter(|_| is_over && is_same)
        };
        if slow.is_some() || is_over {
            self.trials.remove(&member);
        }
        slow
    }

    /// Nothing of it has changed for so long.
    fn has_dwelt(&self, member: MemberId, delivery: &Delivery, now_ns: u64, ns: u64) -> bool {
        let moved_ns = self.moved.get(&member).copied().unwrap_or(0).max(delivery.moved_ns);
        now_ns.saturating_sub(moved_ns) >= ns
    }

    /// Receivers that are far from the end, the slowest first: those that an offer may help.
    pub(super) fn needy(
        &self,
        (job, command): (&Job, CommandId),
        size: u64,
        now_ns: u64,
    ) -> Vec<Needy> {
        let needy = self.cascade.edges().filter_map(|(member, edge)| {
            let delivery = job.delivery(command, member.into())?;
            let (left, rate) = (size.saturating_sub(delivery.offset), delivery.rate.max(1));
            let is_far = left / rate >= FAR_S;
            let has_dwelt = self.has_dwelt(member, delivery, now_ns, DWELL_NS);
            let fetches = delivery.state == DeliveryState::Fetching;
            let is_needy = fetches && is_far && has_dwelt;
            is_needy.then_some(Needy { rate, offset: delivery.offset, member, source: edge.source })
        });
        let mut needy: Vec<_> = needy.collect();
        needy.sort_unstable_by_key(|needy| (needy.rate, needy.member));
        needy
    }

    /// Nodes with uplink to give away, the most first: what each has, and what comes in. What a
    /// child takes may be far more than is planned for it, unless its downlink is declared: it
    /// counts as much as the fastest member can take.
    pub(super) fn offers(
        &self,
        (job, command): (&Job, CommandId),
        is_declared: impl Fn(MemberId) -> bool,
    ) -> Vec<Offer> {
        let downs = self.cascade.members().map(|member| self.cascade.down(member));
        let most = downs.max().unwrap_or(0);
        let takes = |child| if is_declared(child) { self.cascade.down(child) } else { most };
        // Whoever was left because it is slow offers nothing before it is known what was slow.
        let is_suspect = |member| self.trials.values().any(|trial| trial.left == member);
        let offers = self.cascade.members().filter(|member| !is_suspect(*member));
        let offers = offers.filter_map(|member| {
            let delivery = job.delivery(command, member.into())?;
            let (offset, rate) = match delivery.state {
                DeliveryState::Completed => (u64::MAX, u64::MAX),
                DeliveryState::Fetching => (delivery.offset, delivery.rate),
                _ => return None,
            };
            let left = self.cascade.left_when(Some(member), takes).min(rate);
            (left > 0).then_some(Offer { left, offset, member })
        });
        let mut offers: Vec<_> = offers.collect();
        offers.sort_unstable_by_key(|offer| (Reverse(offer.left), offer.member));
        offers.truncate(OFFERS_MAX);
        offers
    }

    /// Receivers that get nothing although their source has more, with the source of that.
    pub(super) fn stalled(
        &self,
        (job, command): (&Job, CommandId),
        now_ns: u64,
    ) -> Vec<(MemberId, Option<MemberId>)> {
        let stalled = self.cascade.edges().filter_map(|(member, edge)| {
            let source = edge.source?;
            let delivery = job.delivery(command, member.into())?;
            let ahead = job.delivery(command, source.into())?;
            // Behind a source that is stalled itself, it is the source that has to move.
            let is_stalled = delivery.state == DeliveryState::Fetching
                && ahead.offset > delivery.offset
                && self.has_dwelt(member, delivery, now_ns, STALLED_NS)
                && now_ns.saturating_sub(delivery.grew_ns) >= STALLED_NS;
            let above = self.cascade.edge(source).and_then(|edge| edge.source);
            is_stalled.then_some((member, above))
        });
        stalled.collect()
    }
}

impl Flows {
    pub(super) fn new(base: BaseLink) -> Self {
        Self {
            flows: BTreeMap::new(),
            of_node: HashMap::new(),
            tended: None,
            outdated: BTreeSet::new(),
            slow: HashMap::new(),
            barred: BTreeMap::new(),
            base,
        }
    }

    /// What the links of a node carry at most, by what was found in the last minutes.
    pub(super) fn slow(&self, node: NodeId, now_ns: u64) -> SlowLinks {
        self.slow.get(&node).map_or(SlowLinks::NONE, |slow| slow.at(now_ns))
    }

    /// Links of a node were found to be slow.
    pub(super) fn note_slow(&mut self, node: NodeId, slow: SlowLinks) {
        self.slow.insert(node, slow);
    }

    /// A receiver cannot connect to a source: for a while plans have no such edge.
    pub(super) fn bar(&mut self, receiver: NodeId, source: NodeId, now_ns: u64) {
        if self.barred.len() < BARRED_MAX {
            self.barred.insert((receiver, source), now_ns.saturating_add(BARRED_NS));
            self.set_barred(receiver, source, true);
        }
    }

    /// Edges that were barred long enough are not any more.
    pub(super) fn unbar(&mut self, now_ns: u64) {
        let over = self.barred.extract_if(.., |_, until_ns| *until_ns <= now_ns);
        for ((receiver, source), _) in over.collect::<Vec<_>>() {
            self.set_barred(receiver, source, false);
        }
    }

    /// Edges that no plan may have now.
    pub(super) fn barred(&self) -> BTreeSet<(MemberId, MemberId)> {
        self.barred.keys().map(|(receiver, source)| (receiver.member(), source.member())).collect()
    }

    fn set_barred(&mut self, receiver: NodeId, source: NodeId, is_barred: bool) {
        for id in self.of_node(receiver) {
            if let Some(flow) = self.flows.get_mut(&id) {
                flow.cascade.set_barred(receiver.member(), source.member(), is_barred);
            }
        }
    }

    pub(super) fn get(&self, id: ContentId) -> Option<&Flow> {
        self.flows.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: ContentId) -> Option<&mut Flow> {
        self.flows.get_mut(&id)
    }

    /// Contents with a plan.
    pub(super) fn ids(&self) -> Vec<ContentId> {
        self.flows.keys().copied().collect()
    }

    /// Contents in whose plan a node is.
    pub(super) fn of_node(&self, node: NodeId) -> Vec<ContentId> {
        self.of_node.get(&node).map(|of| of.iter().copied().collect()).unwrap_or_default()
    }

    pub(super) fn insert(&mut self, id: ContentId, flow: Flow) {
        for member in flow.cascade.members() {
            self.list(id, member.into());
        }
        self.flows.insert(id, flow);
    }

    /// A node is in the plan of a content.
    pub(super) fn list(&mut self, id: ContentId, node: NodeId) {
        self.of_node.entry(node).or_default().insert(id);
    }

    /// A node is not in the plan of a content any more.
    pub(super) fn unlist(&mut self, id: ContentId, node: NodeId) {
        if let Some(of) = self.of_node.get_mut(&node) {
            of.remove(&id);
        }
    }

    /// Nobody needs the plan any more.
    pub(super) fn end(&mut self, id: ContentId) {
        let flow = self.flows.remove(&id);
        self.outdated.remove(&id);
        for member in flow.iter().flat_map(|flow| flow.cascade.members()) {
            self.unlist(id, member.into());
        }
    }

    /// Plans of these contents were made for other rates.
    pub(super) fn outdate(&mut self, ids: impl Iterator<Item = ContentId>) {
        self.outdated.extend(ids.filter(|id| self.flows.contains_key(id)));
    }

    /// A plan that was made for other rates. It is given once.
    pub(super) fn take_outdated(&mut self) -> Option<ContentId> {
        self.outdated.pop_first()
    }

    /// Contents whose capabilities are to be made anew.
    pub(super) fn due(&self, now_s: i64) -> Vec<ContentId> {
        let due = self.flows.iter().filter(|(_, flow)| flow.renew_s <= now_s);
        due.map(|(id, _)| *id).collect()
    }

    /// Contents whose plans this round of tending has not looked at.
    pub(super) fn untended(&self) -> Vec<ContentId> {
        let behind = self.tended.map_or(Bound::Unbounded, Bound::Excluded);
        self.flows.range((behind, Bound::Unbounded)).map(|(id, _)| *id).collect()
    }

    /// The round goes on behind this plan; `None`: the next one begins.
    pub(super) fn set_tended(&mut self, id: Option<ContentId>) {
        self.tended = id;
    }
}

/// Seconds that are to be left at the rate of now for a change to be worth it.
const FAR_S: u64 = 2;
/// For so long an edge that did not connect is not planned.
const BARRED_NS: u64 = 30 * NS_PER_S;
/// Edges that are barred: some for each of ten thousand nodes.
const BARRED_MAX: usize = 65_536;
/// Nodes that offer at once.
const OFFERS_MAX: usize = 64;
const DWELL_NS: u64 = 3 * NS_PER_S;
/// A member that left a slow source has got bytes from the next one for so long at least,
const TRIAL_MIN_NS: u64 = 700_000_000;
/// and at most, until it is known what was slow.
const TRIAL_MAX_NS: u64 = 4 * NS_PER_S;
/// The node itself has looked for another source several times before.
const STALLED_NS: u64 = 10 * NS_PER_S;
