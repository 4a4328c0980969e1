//! Tests of the plan: shapes for known links, and its invariants under any sequence of changes.

use proptest::prelude::*;

use super::*;

fn receiver(id: u32, up: u64, down: u64) -> Receiver {
    Receiver { id: MemberId(id), up, down, site: None, is_complete: false, may_serve: true }
}

/// `a<-b`: a fetches from b; `-` is the base.
fn shape(plan: &Cascade) -> String {
    let name =
        |source: Option<MemberId>| source.map_or_else(|| "-".to_owned(), |id| id.0.to_string());
    let edges =
        plan.edges().map(|(id, edge)| format!("{}<-{}:{}", id.0, name(edge.source), edge.rate));
    edges.collect::<Vec<_>>().join(" ")
}

const MIB: u64 = 1 << 20;

#[test]
fn equal_links_make_a_chain() {
    let receivers: Vec<_> = (0..4).map(|id| receiver(id, 25, 25)).collect();
    let plan = Cascade::new(25, Some(256 * MIB), &receivers);
    assert_eq!(shape(&plan), "0<--:25 1<-0:25 2<-1:25 3<-2:25");
}

#[test]
fn fast_base_feeds_a_chain_all_the_same_so_that_little_leaves_it() {
    let receivers: Vec<_> = (0..3).map(|id| receiver(id, 10, 10)).collect();
    let plan = Cascade::new(100, Some(MIB), &receivers);
    assert_eq!(shape(&plan), "0<--:10 1<-0:10 2<-1:10");
}

#[test]
fn edge_that_does_not_connect_is_not_planned_until_it_does() {
    let receivers: Vec<_> = (0..3).map(|id| receiver(id, 25, 25)).collect();
    let barred = BTreeSet::from([(MemberId(1), MemberId(0)), (MemberId(2), MemberId(1))]);
    let mut plan = Cascade::without(25, Some(256 * MIB), &receivers, barred);
    let has = |plan: &Cascade, id, source| {
        plan.edge(MemberId(id)).unwrap().source == Some(MemberId(source))
    };
    assert!(!has(&plan, 1, 0) && !has(&plan, 2, 1), "{}", shape(&plan));
    assert!(!plan.can_move(MemberId(1), Some(MemberId(0))));
    plan.set_barred(MemberId(1), MemberId(0), false);
    assert!(plan.move_to(MemberId(1), Some(MemberId(0))));
    // One that is there stays when it is barred: the receiver leaves it by itself.
    plan.set_barred(MemberId(1), MemberId(0), true);
    assert!(has(&plan, 1, 0));
    assert!(plan.remove(MemberId(0)).contains(&MemberId(1)));
}

#[test]
fn scarce_uplinks_are_fed_by_who_has_more() {
    // The uplinks are a quarter of the downlinks: the base has room for four.
    let receivers: Vec<_> = (0..4).map(|id| receiver(id, 5, 20)).collect();
    let plan = Cascade::new(80, Some(MIB), &receivers);
    assert_eq!(shape(&plan), "0<--:20 1<--:20 2<--:20 3<--:20");
}

#[test]
fn uplink_of_twice_the_downlink_feeds_two() {
    let receivers = [receiver(0, 40, 20), receiver(1, 0, 20), receiver(2, 0, 20)];
    let plan = Cascade::new(20, Some(MIB), &receivers);
    assert_eq!(shape(&plan), "0<--:20 1<-0:20 2<-0:20");
}

#[test]
fn slow_uplinks_end_in_the_tail() {
    let receivers = [receiver(0, 5, 20), receiver(1, 20, 20), receiver(2, 20, 20)];
    let plan = Cascade::new(20, Some(MIB), &receivers);
    assert_eq!(shape(&plan), "0<-2:20 1<--:20 2<-1:20");
}

#[test]
fn small_content_begins_another_chain_at_the_bound_of_depth() {
    let receivers: Vec<_> = (0..10).map(|id| receiver(id, 25, 25)).collect();
    let plan = Cascade::new(25, Some(1), &receivers);
    let chain = "0<--:25 1<-0:25 2<-1:25 3<-2:25 4<-3:25 5<-4:25 6<-5:25 7<-6:25";
    assert_eq!(shape(&plan), format!("{chain} 8<--:0 9<-8:12"));
}

#[test]
fn no_uplink_at_all_leaves_everything_to_the_base() {
    let receivers: Vec<_> = (0..3).map(|id| receiver(id, 0, 20)).collect();
    let plan = Cascade::new(20, None, &receivers);
    assert_eq!(shape(&plan), "0<--:20 1<--:0 2<--:0");
}

#[test]
fn same_site_is_preferred_among_equals() {
    let at = |site, receiver: Receiver| Receiver { site: Some(site), ..receiver };
    let receivers = [
        at(1, receiver(0, 20, 20)),
        at(2, receiver(1, 20, 20)),
        at(2, receiver(2, 10, 20)),
        at(1, receiver(3, 10, 20)),
    ];
    let mut complete = receivers;
    complete[0].is_complete = true;
    complete[1].is_complete = true;
    let plan = Cascade::new(20, Some(MIB), &complete);
    assert_eq!(shape(&plan), "2<-1:20 3<-0:20");
}

#[test]
fn lists_go_up_by_three_and_end_at_the_base() {
    let receivers: Vec<_> = (0..6).map(|id| receiver(id, 25, 25)).collect();
    let plan = Cascade::new(25, Some(256 * MIB), &receivers);
    let list = |id| plan.sources(MemberId(id)).into_iter().map(|e| (e.source.map(|m| m.0), e.rate));
    let list = |id| list(id).collect::<Vec<_>>();
    assert_eq!(list(0), [(None, 25)]);
    assert_eq!(list(1), [(Some(0), 25), (None, 0)]);
    assert_eq!(list(5), [(Some(4), 25), (Some(3), 0), (Some(2), 0), (None, 0)]);
}

#[test]
fn child_of_a_lost_node_takes_its_place() {
    let receivers: Vec<_> = (0..4).map(|id| receiver(id, 25, 25)).collect();
    let mut plan = Cascade::new(25, Some(256 * MIB), &receivers);
    assert_eq!(plan.remove(MemberId(1)), [MemberId(2)]);
    assert_eq!(shape(&plan), "0<--:25 2<-0:25 3<-2:25");
    // Back again, it is a leaf.
    plan.attach(receiver(1, 25, 25));
    assert_eq!(shape(&plan), "0<--:25 1<-3:25 2<-0:25 3<-2:25");
}

#[test]
fn barred_node_becomes_a_leaf_behind_its_children() {
    let receivers: Vec<_> = (0..4).map(|id| receiver(id, 25, 25)).collect();
    let mut plan = Cascade::new(25, Some(256 * MIB), &receivers);
    assert_eq!(plan.bar(MemberId(1)), [MemberId(2), MemberId(1)]);
    assert_eq!(shape(&plan), "0<--:25 1<-3:25 2<-0:25 3<-2:25");
}

#[test]
fn node_with_a_slow_uplink_goes_behind_all_who_have_left_it() {
    let receivers: Vec<_> = (0..4).map(|id| receiver(id, 25, 25)).collect();
    let mut plan = Cascade::new(25, Some(256 * MIB), &receivers);
    assert!(plan.move_to(MemberId(2), Some(MemberId(0))));
    assert_eq!(plan.lower(MemberId(1), 2, u64::MAX), [MemberId(1)]);
    assert_eq!(shape(&plan), "0<--:25 1<-3:25 2<-0:25 3<-2:25");
    assert_eq!(plan.left(MemberId(1)), 2);
    // The next one shares the uplink of the source of the last: nobody else gets less by it.
    assert_eq!(plan.lower(MemberId(2), 5, u64::MAX), [MemberId(3), MemberId(2)]);
    assert_eq!(shape(&plan), "0<--:25 1<-3:25 2<-3:0 3<-0:25");
}

#[test]
fn slow_node_goes_behind_one_that_has_not_sent_yet_rather_than_share_an_uplink() {
    let mut receivers: Vec<_> = (0..4).map(|id| receiver(id, 25, 25)).collect();
    receivers[3].up = 7;
    let mut plan = Cascade::new(25, Some(256 * MIB), &receivers);
    assert!(plan.move_to(MemberId(2), Some(MemberId(0))));
    assert_eq!(plan.lower(MemberId(1), 2, u64::MAX), [MemberId(1)]);
    assert_eq!(shape(&plan), "0<--:25 1<-3:7 2<-0:25 3<-2:25");
}

/// The source was seen to carry 25, and nobody has seen what the one that went to it can take.
#[test]
fn slow_node_does_not_stay_where_little_is_planned_for_the_one_that_left_it() {
    let mut receivers: Vec<_> = (0..4).map(|id| receiver(id, 6, 6)).collect();
    (receivers[0].up, receivers[0].down) = (25, 25);
    let mut plan = Cascade::new(25, Some(256 * MIB), &receivers);
    assert_eq!(shape(&plan), "0<--:25 1<-0:6 2<-1:6 3<-2:6");
    assert!(plan.move_to(MemberId(2), Some(MemberId(0))));
    assert_eq!(plan.lower(MemberId(1), 2, u64::MAX), [MemberId(1)]);
    assert_eq!(shape(&plan), "0<--:25 1<-3:6 2<-0:6 3<-2:6");
}

/// It was planned while the slow one still took nearly all.
#[test]
fn node_that_left_a_slow_one_has_the_uplink_to_itself_when_that_one_goes() {
    let mut receivers: Vec<_> = (0..4).map(|id| receiver(id, 21, 20)).collect();
    receivers[3].up = 6;
    let mut plan = Cascade::new(20, Some(256 * MIB), &receivers);
    assert_eq!(shape(&plan), "0<--:20 1<-0:20 2<-1:20 3<-2:20");
    assert!(plan.move_to(MemberId(2), Some(MemberId(0))));
    assert_eq!(plan.edge(MemberId(2)).unwrap().rate, 1);
    assert_eq!(plan.lower(MemberId(1), 2, u64::MAX), [MemberId(1)]);
    assert_eq!(shape(&plan), "0<--:20 1<-3:6 2<-0:20 3<-2:20");
    assert_eq!(plan.left(MemberId(0)), 1, "it offers itself to nobody");
}

/// Another node was seen to carry 25, too, and what its child takes was not seen either.
#[test]
fn slow_node_goes_where_nobody_is_rather_than_where_little_is_planned_for_others() {
    let mut receivers: Vec<_> = (0..5).map(|id| receiver(id, 6, 6)).collect();
    for receiver in &mut receivers[..2] {
        (receiver.up, receiver.down) = (25, 25);
    }
    let mut plan = Cascade::new(25, Some(256 * MIB), &receivers);
    assert_eq!(shape(&plan), "0<--:25 1<-0:25 2<-1:6 3<-2:6 4<-3:6");
    assert_eq!(plan.lower(MemberId(3), 2, u64::MAX), [MemberId(4), MemberId(3)]);
    assert_eq!(shape(&plan), "0<--:25 1<-0:25 2<-1:6 3<-4:6 4<-2:6");
}

/// There is nobody else.
#[test]
fn slow_node_stays_where_all_others_are_behind_it_or_may_not_serve() {
    let receivers = [receiver(0, 25, 25), Receiver { may_serve: false, ..receiver(1, 25, 25) }];
    let mut plan = Cascade::new(25, Some(256 * MIB), &receivers);
    assert!(plan.move_to(MemberId(1), None));
    assert_eq!(plan.lower(MemberId(0), 2, u64::MAX), []);
    assert_eq!(plan.edge(MemberId(0)).unwrap().source, None);
}

#[test]
fn node_with_a_slow_uplink_leaves_a_source_that_feeds_others_even_where_it_has_room() {
    let receivers = [receiver(0, 50, 25), receiver(1, 25, 25), receiver(2, 25, 25)];
    let mut plan = Cascade::new(25, Some(256 * MIB), &receivers);
    assert_eq!(shape(&plan), "0<--:25 1<-0:25 2<-1:25");
    assert_eq!(plan.lower(MemberId(1), 2, u64::MAX), [MemberId(2), MemberId(1)]);
    assert_eq!(shape(&plan), "0<--:25 1<-2:25 2<-0:25");
}

/// Twice the uplink that is planned: nobody has seen yet what the receivers can take.
#[test]
fn node_with_a_slow_uplink_makes_room_for_one_whose_downlink_may_be_wider() {
    let receivers = [receiver(0, 25, 25), receiver(1, 6, 6), receiver(2, 6, 6)];
    let mut plan = Cascade::new(25, Some(256 * MIB), &receivers);
    assert_eq!(shape(&plan), "0<--:25 1<-0:6 2<-1:6");
    assert_eq!(plan.lower(MemberId(1), 2, u64::MAX), [MemberId(2), MemberId(1)]);
    assert_eq!(shape(&plan), "0<--:25 1<-2:6 2<-0:6");
}

#[test]
fn links_that_carry_more_than_was_known_have_more_planned() {
    let receivers: Vec<_> = (0..3).map(|id| receiver(id, 6, 6)).collect();
    let mut plan = Cascade::new(25, Some(256 * MIB), &receivers);
    assert_eq!(shape(&plan), "0<--:6 1<-0:6 2<-1:6");
    plan.raise(MemberId(0), 25, 20);
    assert_eq!(shape(&plan), "0<--:20 1<-0:6 2<-1:6");
    assert_eq!(plan.left(MemberId(0)), 19);
    plan.raise(MemberId(1), 25, 20);
    assert_eq!(shape(&plan), "0<--:20 1<-0:20 2<-1:6");
    plan.raise(MemberId(1), 3, 3);
    assert_eq!(shape(&plan), "0<--:20 1<-0:20 2<-1:6", "less is another thing");
    assert_eq!((plan.left(MemberId(0)), plan.left(MemberId(1))), (5, 19));
}

#[test]
fn node_with_a_slow_downlink_goes_to_the_end_and_its_children_to_the_source_it_left() {
    let receivers: Vec<_> = (0..4).map(|id| receiver(id, 25, 25)).collect();
    let mut plan = Cascade::new(25, Some(256 * MIB), &receivers);
    assert!(plan.move_to(MemberId(2), Some(MemberId(0))));
    assert_eq!(plan.lower(MemberId(2), u64::MAX, 5), [MemberId(3), MemberId(2)]);
    assert_eq!(shape(&plan), "0<--:25 1<-0:25 2<-3:5 3<-1:25");
}

#[test]
fn child_that_shared_an_uplink_has_it_when_the_other_leaves() {
    let receivers: Vec<_> = (0..3).map(|id| receiver(id, 25, 25)).collect();
    let mut plan = Cascade::new(25, Some(256 * MIB), &receivers);
    assert!(plan.move_to(MemberId(2), Some(MemberId(0))));
    assert_eq!(shape(&plan), "0<--:25 1<-0:25 2<-0:0");
    plan.remove(MemberId(1));
    assert_eq!(shape(&plan), "0<--:25 2<-0:25");
    assert_eq!((plan.left(MemberId(0)), plan.left(MemberId(2))), (0, 25));
}

#[test]
fn complete_node_is_a_source_of_its_own() {
    let receivers: Vec<_> = (0..3).map(|id| receiver(id, 25, 25)).collect();
    let mut plan = Cascade::new(25, Some(256 * MIB), &receivers);
    plan.complete(MemberId(0));
    assert_eq!(shape(&plan), "1<-0:25 2<-1:25");
    assert_eq!(plan.sources(MemberId(2)).len(), 3);
    plan.complete(MemberId(1));
    assert_eq!(plan.left(MemberId(0)), 25);
    assert!(plan.move_to(MemberId(2), Some(MemberId(0))));
    assert_eq!(shape(&plan), "2<-0:25");
}

#[test]
fn node_is_never_moved_beneath_itself() {
    let receivers: Vec<_> = (0..3).map(|id| receiver(id, 25, 25)).collect();
    let mut plan = Cascade::new(25, Some(256 * MIB), &receivers);
    assert!(!plan.move_to(MemberId(0), Some(MemberId(2))));
    assert!(!plan.move_to(MemberId(0), Some(MemberId(0))));
    assert!(!plan.move_to(MemberId(0), Some(MemberId(9))));
    assert!(plan.move_to(MemberId(2), Some(MemberId(0))));
    assert_eq!(shape(&plan), "0<--:25 1<-0:25 2<-0:0");
}

#[test]
fn bound_is_the_slowest_of_base_downlinks_and_all_uplinks_together() {
    let bound = |u0, rates: &[(u64, u64)]| fluid_bound_ns(1_000, u0, rates.iter().copied());
    let second = 1_000_000_000;
    assert_eq!(bound(1_000, &[(1_000, 1_000); 8]), second);
    assert_eq!(bound(500, &[(1_000, 1_000); 8]), 2 * second);
    assert_eq!(bound(1_000, &[(1_000, 250); 8]), 4 * second);
    assert_eq!(bound(1_000, &[(0, 1_000); 8]), 8 * second);
    assert_eq!(bound(0, &[]), 1_000 * second);
}

#[derive(Debug, Clone)]
enum Change {
    Attach(Receiver),
    Remove(u32),
    Complete(u32),
    Move(u32, Option<u32>),
    Serve(u32, bool),
    Bar(u32),
}

fn any_receiver() -> impl Strategy<Value = Receiver> {
    let site = prop::option::of(0_u32..3);
    (0_u32..24, 0_u64..100, 0_u64..100, site, prop::bool::weighted(0.1), prop::bool::weighted(0.9))
        .prop_map(|(id, up, down, site, is_complete, may_serve)| Receiver {
            id: MemberId(id),
            up,
            down,
            site,
            is_complete,
            may_serve,
        })
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        any_receiver().prop_map(Change::Attach),
        (0_u32..24).prop_map(Change::Remove),
        (0_u32..24).prop_map(Change::Complete),
        (0_u32..24, prop::option::of(0_u32..24)).prop_map(|(id, to)| Change::Move(id, to)),
        (0_u32..24, any::<bool>()).prop_map(|(id, may)| Change::Serve(id, may)),
        (0_u32..24).prop_map(Change::Bar),
    ]
}

/// Tree, rates and lists of a plan are what the header says.
fn check(plan: &Cascade) -> Result<(), TestCaseError> {
    for (id, _) in plan.edges() {
        let (mut at, mut steps) = (id, 0);
        while let Some(Edge { source: Some(source), .. }) = plan.edge(at) {
            at = source;
            steps += 1;
            prop_assert!(steps <= plan.members.len(), "a circle at {:?}", id);
        }
    }
    for (id, sender) in std::iter::once((None, &plan.base))
        .chain(plan.members.iter().map(|(id, member)| (Some(*id), &member.sender)))
    {
        let children: Vec<_> = plan.edges().filter(|(_, edge)| edge.source == id).collect();
        let planned: u64 = children.iter().map(|(_, edge)| edge.rate).sum();
        prop_assert_eq!(sender.up - planned, sender.left, "{:?}", id);
        let mut listed = sender.children.clone();
        listed.sort();
        prop_assert_eq!(listed, children.iter().map(|(id, _)| *id).collect::<Vec<_>>());
        let is_free = plan.free.iter().flatten().filter(|(_, free)| *free == id).count();
        let is_shared = plan.shares.iter().filter(|(_, _, shared)| *shared == id).count();
        prop_assert!(is_free <= 1 && is_shared <= 1, "{:?} is listed twice", id);
        if let Some((gives, _)) = plan.free.iter().flatten().find(|(_, free)| *free == id) {
            prop_assert_eq!(*gives, sender.gives());
        }
    }
    for (id, member) in &plan.members {
        prop_assert_eq!(member.edge.is_none(), member.receiver.is_complete);
        let sources = plan.sources(*id);
        prop_assert!(sources.len() <= SOURCES_MAX);
        prop_assert_eq!(sources.last().and_then(|edge| edge.source), None);
        prop_assert!(sources.iter().all(|edge| edge.source != Some(*id)));
    }
    Ok(())
}

/// What a cap changes, and what its end brings back.
#[test]
fn plan_for_other_rates_moves_those_only_who_get_more_elsewhere() {
    let of = |up, down| (0..4).map(|id| receiver(id, up, down)).collect::<Vec<_>>();
    // The uplinks are a quarter of the downlinks: the base has room for all.
    let plan = Cascade::new(80, Some(MIB), &of(5, 20));
    let star = "0<--:20 1<--:20 2<--:20 3<--:20";
    assert_eq!(shape(&plan), star);
    // No source may spend more than 5: one behind the other.
    let (capped, moved) = plan.anew(5, Some(MIB), &of(5, 5));
    assert_eq!(shape(&capped), "0<--:5 1<-0:5 2<-1:5 3<-2:5");
    assert_eq!(moved, [1, 2, 3].map(MemberId));
    let (again, moved) = capped.anew(80, Some(MIB), &of(5, 20));
    assert_eq!((shape(&again).as_str(), moved.len()), (star, 3));
    // Where all get less alike, nobody moves, whoever would be first in a new plan.
    let mut reverse = Cascade::new(20, Some(MIB), &[receiver(9, 20, 20), receiver(1, 10, 20)]);
    reverse.attach(receiver(0, 10, 20));
    let before = reverse.sources(MemberId(0));
    let (lower, moved) = reverse.anew(3, Some(MIB), &[9, 1, 0].map(|id| receiver(id, 3, 3)));
    assert_eq!(moved, []);
    assert_eq!(lower.edge(MemberId(9)), Some(Edge { source: None, rate: 3 }));
    assert_eq!(lower.sources(MemberId(0)).len(), before.len());
}

proptest! {
    #[test]
    fn plan_for_other_rates_is_a_tree_of_the_same_members(
        base_up in 0_u64..200,
        receivers in prop::collection::btree_map(0_u32..24, any_receiver(), 0..16),
        changes in prop::collection::vec((0_u32..24, prop::option::of(0_u32..24)), 0..20),
        (up, rate) in (0_u64..200, 0_u64..100),
    ) {
        let receivers: Vec<_> =
            receivers.into_iter().map(|(id, r)| Receiver { id: MemberId(id), ..r }).collect();
        let mut plan = Cascade::new(base_up, Some(1 << 20), &receivers);
        for (id, to) in changes {
            plan.move_to(MemberId(id), to.map(MemberId));
        }
        let capped = receivers.iter().map(|r| Receiver { up: r.up.min(rate), ..*r });
        let (anew, moved) = plan.anew(up, Some(1 << 20), &capped.collect::<Vec<_>>());
        check(&anew)?;
        prop_assert!(anew.members().eq(plan.members()));
        for (id, edge) in anew.edges() {
            let before = plan.edge(id).map(|edge| edge.source);
            prop_assert_eq!(moved.contains(&id), before != Some(edge.source), "{:?}", id);
        }
        let (same, moved) = anew.anew(up, Some(1 << 20), &receivers);
        check(&same)?;
        prop_assert!(moved.len() <= receivers.len());
    }

    #[test]
    fn plan_is_a_tree_within_all_uplinks_after_any_changes(
        base_up in 0_u64..200,
        size in prop::option::of(0_u64..1 << 30),
        receivers in prop::collection::btree_map(0_u32..24, any_receiver(), 0..16),
        changes in prop::collection::vec(any_change(), 0..40),
    ) {
        let receivers: Vec<_> =
            receivers.into_iter().map(|(id, r)| Receiver { id: MemberId(id), ..r }).collect();
        let mut plan = Cascade::new(base_up, size, &receivers);
        check(&plan)?;
        for change in changes {
            match change {
                Change::Attach(receiver) => plan.attach(receiver),
                Change::Remove(id) => drop(plan.remove(MemberId(id))),
                Change::Complete(id) => plan.complete(MemberId(id)),
                Change::Move(id, to) => drop(plan.move_to(MemberId(id), to.map(MemberId))),
                Change::Serve(id, may) => plan.set_may_serve(MemberId(id), may),
                Change::Bar(id) => {
                    plan.bar(MemberId(id));
                    prop_assert_eq!(plan.children(MemberId(id)), []);
                }
            }
            check(&plan)?;
        }
    }

    #[test]
    fn nobody_is_planned_below_what_the_base_has_left(
        base_up in 1_u64..200,
        rates in prop::collection::vec((0_u64..100, 1_u64..100), 1..16),
    ) {
        let receivers: Vec<_> =
            (0..).zip(rates).map(|(id, (up, down))| receiver(id, up, down)).collect();
        let plan = Cascade::new(base_up, Some(1 << 30), &receivers);
        for (id, edge) in plan.edges() {
            let down = plan.members[&id].receiver.down;
            prop_assert!(edge.rate == down || edge.rate >= plan.base.left, "{:?}", id);
        }
    }
}
