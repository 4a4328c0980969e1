//! Which receivers of a plan take parts from further sources, and from whom how much.
//!
//! ```text
//! plan: edges, uplinks --> the rate that all could have at once --> who lacks how much
//!                                                               `-> whose uplink has that over
//! ```
//! A tree gives a receiver what one uplink has for it. Where that is little, others may have some
//! left over, or would have if all received a little less: at the rate `r` a source needs `r` for
//! each child, and what is left of its uplink goes to those that lack something. The greatest `r`
//! at which nothing is lacking is looked for by halving. The source that is nearest to the base is
//! asked first: what it gives away slows the rest to `r`, and so all behind it have that much over.
//!
//! Invariants: what is planned of a source for children and others is at most its uplink; nobody is
//! to have parts of itself, its own source or a node behind it; where an uplink that counts is not
//! known nothing is planned, because a guess would slow those that are well.
//! Bounds: plans of `MEMBERS_MAX` members; `FURTHER_MAX` further sources a receiver.
//! After Kumar and Ross (2006): all can have the least of what the base, a downlink and the sum of
//! all uplinks allow, where a receiver has several sources.

use std::collections::BTreeMap;

use super::plan::{Cascade, Edge, MemberId};

/// Further sources by receiver, those nearest to the base first. `base_up`: bytes per second that
/// the base can send, which may be more than was known when the plan was made. `knows`: whether an
/// uplink was declared or measured; `None` is the base.
#[must_use]
pub fn further(
    plan: &Cascade,
    base_up: u64,
    knows: impl Fn(Option<MemberId>) -> bool,
) -> BTreeMap<MemberId, Vec<Edge>> {
    let none = BTreeMap::new();
    let mut members: Vec<MemberId> = plan.members().take(MEMBERS_MAX + 1).collect();
    if members.len() > MEMBERS_MAX || members.len() < 2 {
        return none;
    }
    members.sort_by_key(|id| (plan.depth(*id), *id));
    let senders: Vec<Option<MemberId>> =
        std::iter::once(None).chain(members.iter().copied().map(Some)).collect();
    let feeds = |id: &Option<MemberId>| !plan.children_of(*id).is_empty();
    if !senders.iter().filter(|id| feeds(id)).all(|id| knows(*id)) {
        return none;
    }
    let level = Level { plan, base_up, senders: &senders, knows: &knows };
    let fetching = members.iter().filter(|id| plan.edge(**id).is_some());
    let Some(most) = fetching.clone().map(|id| plan.down(*id)).max() else { return none };
    // What most have without this, and what the last one has.
    let rates = level.rates();
    let (least, usual) = (rates.values().min(), rates.values().max());
    let (least, usual) = (least.copied().unwrap_or(0), usual.copied().unwrap_or(0));
    let (mut fits, mut lacks) = (0, most.saturating_add(1));
    while lacks - fits > most / 256 + 1 {
        let rate = fits + (lacks - fits) / 2;
        if level.assign(rate, 0).is_some() { fits = rate } else { lacks = rate }
    }
    // Without further sources the last one gets the rest when all others have theirs.
    let (usual, least) = (u128::from(usual), u128::from(least));
    let is_worth = |rate: u64| {
        let gain = u128::from(rate) * (2 * usual).saturating_sub(least) * 100;
        gain >= usual * usual * WORTH_PERCENT && u128::from(rate) > least
    };
    let rate = fits - fits / MARGIN;
    if least >= usual || !is_worth(rate) {
        return none;
    }
    level.assign(rate, MORE_PERCENT).unwrap_or_default()
}

/// What a plan is levelled by.
struct Level<'a, F> {
    plan: &'a Cascade,
    base_up: u64,
    /// Those nearest to the base first.
    senders: &'a [Option<MemberId>],
    knows: &'a F,
}

impl<F: Fn(Option<MemberId>) -> bool> Level<'_, F> {
    fn up_of(&self, sender: Option<MemberId>) -> u64 {
        let up = self.plan.up_of(sender);
        if sender.is_none() { up.max(self.base_up) } else { up }
    }

    /// Bytes per second that members get by the tree alone.
    fn rates(&self) -> BTreeMap<MemberId, u64> {
        let mut rates: BTreeMap<MemberId, u64> = BTreeMap::new();
        for sender in self.senders {
            let inflow = sender.and_then(|id| rates.get(&id).copied()).unwrap_or(u64::MAX);
            let mut rest = self.up_of(*sender);
            for child in self.plan.children_of(*sender) {
                let gives = rest.min(inflow).min(self.plan.down(*child));
                rest -= gives;
                rates.insert(*child, gives);
            }
        }
        rates
    }

    /// What each gets of whom when all are to have `rate`; `None` when something is lacking. When
    /// all have what they lack, they are given `more_percent` of it again, where there is so much.
    fn assign(&self, rate: u64, more_percent: u64) -> Option<BTreeMap<MemberId, Vec<Edge>>> {
        let mut left: BTreeMap<Option<MemberId>, u64> = BTreeMap::new();
        let mut lacking = Vec::new();
        for sender in self.senders {
            let mut rest = self.up_of(*sender);
            for child in self.plan.children_of(*sender) {
                let wanted = rate.min(self.plan.down(*child));
                let gives = wanted.min(rest);
                rest -= gives;
                if gives < wanted {
                    lacking.push((wanted - gives, *child));
                }
            }
            let may_serve = (self.knows)(*sender) && self.plan.may_serve(*sender);
            left.insert(*sender, if may_serve { rest } else { 0 });
        }
        lacking.sort_unstable_by_key(|(lack, id)| (std::cmp::Reverse(*lack), *id));
        let mut found = BTreeMap::new();
        for (lack, id) in &lacking {
            let mut edges = Vec::new();
            let given = self.give(*id, *lack, &mut left, &mut edges);
            // A rest that is not worth a connection is lacking to nobody.
            if given.saturating_add(RATE_MIN) <= *lack {
                return None;
            }
            found.insert(*id, edges);
        }
        for (lack, id) in &lacking {
            let edges = found.entry(*id).or_default();
            self.give(*id, lack.saturating_mul(more_percent) / 100, &mut left, edges);
        }
        found.retain(|_, edges| !edges.is_empty());
        Some(found)
    }

    /// Gives a member up to `wanted` of what is `left` of others than its source; returns how much.
    fn give(
        &self,
        id: MemberId,
        wanted: u64,
        left: &mut BTreeMap<Option<MemberId>, u64>,
        edges: &mut Vec<Edge>,
    ) -> u64 {
        let source = self.plan.edge(id).map(|edge| edge.source);
        let mut given = 0;
        for sender in self.senders {
            let known = edges.iter().position(|edge| edge.source == *sender);
            // What is not worth a connection is worth more of one that there is.
            let least = if known.is_some() { 1 } else { RATE_MIN };
            let is_full = known.is_none() && edges.len() == FURTHER_MAX;
            if is_full || source == Some(*sender) || !self.plan.may_give(*sender, id) {
                continue;
            }
            let Some(rest) = left.get_mut(sender) else { continue };
            let gives = (*rest).min(wanted - given);
            if gives < least {
                continue;
            }
            *rest -= gives;
            given += gives;
            match known.and_then(|at| edges.get_mut(at)) {
                Some(edge) => edge.rate += gives,
                None => edges.push(Edge { source: *sender, rate: gives }),
            }
        }
        given
    }
}

/// As many as `dist::fetch` takes.
pub const FURTHER_MAX: usize = 7;
/// Plans of more members are not levelled: each step of it looks at all of them.
const MEMBERS_MAX: usize = 64;
/// 2.5 Mbit/s: less is not worth a connection.
const RATE_MIN: u64 = 312_500;
/// All get a fourteenth less than could be: nothing is exact.
const MARGIN: u64 = 14;
/// Sources may have less than planned: others have it then.
const MORE_PERCENT: u64 = 30;
/// It has to be better by so much than to wait for those that are done.
const WORTH_PERCENT: u128 = 105;

#[cfg(test)]
mod tests {
    use super::super::plan::Receiver;
    use super::*;

    const MBIT: u64 = 125_000;

    fn plan(base_mbit: u64, nodes: &[(u64, u64)]) -> Cascade {
        let receivers = (0..).zip(nodes).map(|(id, (up, down))| Receiver {
            id: MemberId(id),
            up: up * MBIT,
            down: down * MBIT,
            site: None,
            is_complete: false,
            may_serve: true,
        });
        Cascade::new(base_mbit * MBIT, Some(256 << 20), &receivers.collect::<Vec<_>>())
    }

    fn budget() -> Cascade {
        let mut nodes = [(200, 200); 8];
        (nodes[1].0, nodes[4].0) = (50, 50);
        plan(200, &nodes)
    }

    #[test]
    fn node_behind_a_slow_uplink_gets_the_rest_from_the_base_and_others() {
        let found = further(&budget(), 0, |_| true);
        assert_eq!(found.len(), 1, "{found:?}");
        let (node, edges) = found.first_key_value().unwrap();
        let own = budget().edge(*node).unwrap();
        assert_eq!((own.rate, own.source), (50 * MBIT, Some(MemberId(1))));
        assert_eq!(edges[0].source, None, "the base slows all others to the same rate");
        let sum: u64 = own.rate + edges.iter().map(|edge| edge.rate).sum::<u64>();
        // 1.3 of the time on one link is 154 Mbit/s.
        assert!(sum >= 160 * MBIT, "{}", sum / MBIT);
        let slowed = 200 * MBIT - edges[0].rate;
        assert!(slowed >= 160 * MBIT, "{}", slowed / MBIT);
        assert!(edges.iter().all(|edge| edge.rate <= edges[0].rate), "{edges:?}");
    }

    #[test]
    fn where_rates_are_not_known_or_all_are_well_nothing_is_planned() {
        assert!(further(&budget(), 0, |id| id != Some(MemberId(2))).is_empty());
        assert!(further(&budget(), 0, |id| id.is_some()).is_empty());
        assert!(further(&plan(200, &[(200, 200); 8]), 0, |_| true).is_empty());
        assert!(further(&plan(200, &[(200, 200)]), 0, |_| true).is_empty());
        // Nobody has anything to give.
        assert!(further(&plan(20, &[(1, 200); 3]), 0, |_| true).is_empty());
        // A downlink is no fault of a source.
        let slow_down = plan(200, &[(200, 200), (200, 200), (200, 20)]);
        assert!(further(&slow_down, 0, |_| true).is_empty());
    }

    #[test]
    fn several_nodes_behind_slow_uplinks_are_all_helped() {
        // Those behind a slow uplink, which is the last one's in no order.
        for (fast, slow, mbit) in [(6, 6, 10), (4, 5, 20), (8, 7, 10)] {
            let plan = plan(200, &[vec![(200, 200); fast], vec![(mbit, 200); slow]].concat());
            let found = further(&plan, 0, |_| true);
            let behind = |id: &MemberId| plan.up_of(plan.edge(*id).unwrap().source) < 200 * MBIT;
            let helped: Vec<_> = plan.members().filter(behind).collect();
            assert!(helped.len() > 1, "{helped:?}");
            assert_eq!(found.keys().copied().collect::<Vec<_>>(), helped);
        }
    }

    proptest::proptest! {
        #[test]
        fn node_behind_a_slow_uplink_is_helped_at_any_rate(rate in 4 * RATE_MIN * 8..100_000_000) {
            let receivers = (0..8).map(|id| Receiver {
                id: MemberId(id),
                up: if id == 3 || id == 4 { rate / 4 } else { rate },
                down: rate,
                site: None,
                is_complete: false,
                may_serve: true,
            });
            let plan = Cascade::new(rate, Some(256 << 20), &receivers.collect::<Vec<_>>());
            let found = further(&plan, rate, |_| true);
            proptest::prop_assert_eq!(found.len(), 1, "{:?}", found);
            let given = |edges: &Vec<Edge>| edges.iter().map(|edge| edge.rate).sum::<u64>();
            proptest::prop_assert!(found.values().all(|edges| given(edges) >= rate / 2));
        }

        #[test]
        fn more_than_what_is_lacking_makes_no_plan_impossible(
            fast in 3_usize..9,
            slow in 2_usize..8,
            mbit in 5_u64..60,
        ) {
            let nodes = [vec![(200, 200); fast], vec![(mbit, 200); slow]].concat();
            let plan = plan(200, &nodes);
            let senders: Vec<_> =
                std::iter::once(None).chain(plan.members().map(Some)).collect();
            let level = Level { plan: &plan, base_up: 0, senders: &senders, knows: &|_| true };
            for rate in (1..=20).map(|tens| tens * 10 * MBIT) {
                let exact = level.assign(rate, 0);
                let more = level.assign(rate, MORE_PERCENT);
                proptest::prop_assert_eq!(exact.is_some(), more.is_some());
                for (id, edges) in exact.unwrap_or_default() {
                    let sum = |edges: &[Edge]| edges.iter().map(|edge| edge.rate).sum::<u64>();
                    proptest::prop_assert!(sum(&more.as_ref().unwrap()[&id]) >= sum(&edges));
                }
            }
        }

        #[test]
        fn no_uplink_is_planned_for_more_than_it_has_and_nobody_waits_for_itself(
            base in 10_u64..400,
            nodes in proptest::collection::vec((1_u64..400, 20_u64..400), 2..20),
        ) {
            let plan = plan(base, &nodes);
            let found = further(&plan, 0, |_| true);
            let mut given: BTreeMap<Option<MemberId>, u64> = BTreeMap::new();
            for (id, edges) in &found {
                proptest::prop_assert!(edges.len() <= FURTHER_MAX);
                for edge in edges {
                    proptest::prop_assert!(plan.may_give(edge.source, *id));
                    proptest::prop_assert!(plan.edge(*id).unwrap().source != edge.source);
                    *given.entry(edge.source).or_default() += edge.rate;
                }
            }
            for (source, given) in given {
                proptest::prop_assert!(given <= plan.up_of(source));
            }
        }
    }
}
