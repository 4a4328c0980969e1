//! Tests of [`super`].

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
    assert!(further(&budget(), 0, |id| id.is_some()).is_empty());
    // Six nodes and the base feed somebody, and another is last.
    let knows_some = |count| move |id: Option<MemberId>| id.is_none_or(|id| id.0 < count);
    assert!(further(&budget(), 0, knows_some(2)).is_empty());
    assert!(further(&plan(200, &[(200, 200); 8]), 0, |_| true).is_empty());
    assert!(further(&plan(200, &[(200, 200)]), 0, |_| true).is_empty());
    // Nobody has anything to give.
    assert!(further(&plan(20, &[(1, 200); 3]), 0, |_| true).is_empty());
    // A downlink is no fault of a source.
    let slow_down = plan(200, &[(200, 200), (200, 200), (200, 20)]);
    assert!(further(&slow_down, 0, |_| true).is_empty());
}

#[test]
fn uplinks_that_are_not_known_count_as_others_and_give_nothing_away() {
    let all = further(&budget(), 0, |_| true);
    let some = further(&budget(), 0, |id| id != Some(MemberId(2)));
    assert_eq!(some.keys().collect::<Vec<_>>(), all.keys().collect::<Vec<_>>());
    let gives = |id| some.values().flatten().any(|edge| edge.source == Some(MemberId(id)));
    assert!(!gives(2) && gives(3), "{some:?}");
    // As long as nobody has seen that it is slow, nobody lacks anything for it.
    assert!(further(&budget(), 0, |id| id != Some(MemberId(1))).is_empty());
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
        let level = Level::new(&plan, 0, |_| true).unwrap();
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

/// A plan of so many nodes, each `every`th of which has a tenth of the uplink.
fn large(count: u32, every: u32) -> Cascade {
    let receivers = (0..count).map(|id| Receiver {
        id: MemberId(id),
        up: if id % every == 1 { 20 } else { 200 } * MBIT,
        down: 200 * MBIT,
        site: None,
        is_complete: false,
        may_serve: true,
    });
    Cascade::new(200 * MBIT, Some(4 << 30), &receivers.collect::<Vec<_>>())
}

#[test]
fn plan_of_a_thousand_nodes_is_levelled_like_a_small_one() {
    for every in [500, 50, 12] {
        let plan = large(1_000, every);
        let found = further(&plan, 0, |_| true);
        let is_behind = |id: &MemberId| plan.up_of(plan.edge(*id).unwrap().source) == 20 * MBIT;
        let behind: Vec<_> = plan.members().filter(is_behind).collect();
        assert!(!behind.is_empty());
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), behind);
        for (id, edges) in &found {
            let given: u64 = edges.iter().map(|edge| edge.rate).sum();
            assert!(given >= 100 * MBIT, "{id:?}: {edges:?}");
        }
    }
}
