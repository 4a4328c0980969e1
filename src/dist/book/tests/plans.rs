//! Who is told to fetch from whom, as nodes come, go, complete and stand still.

use super::*;
use crate::dist::keys::VerifyKey;
use crate::dist::wire::agent::Source;

const GIB: u64 = 1 << 30;

fn progress(key: CommandKey, offset: u64, rate: u64) -> Report {
    Report::Progress { key, offset, rate }
}

fn chain_of_four() -> (Rig, CommandKey, ContentId) {
    let mut rig = Rig::with_nodes(&["a", "b", "c", "d"]);
    let job = rig.job(Targets::All);
    let (key, content) = rig.uploaded(job, "x", GIB);
    for node in ["a", "b", "c", "d"] {
        rig.report(node, [Report::Received { key }]).unwrap();
    }
    (rig, key, content)
}

fn epoch(orders: &[NodeOrder]) -> Epoch {
    let epochs = orders.iter().filter_map(|order| match order {
        NodeOrder::Sources { epoch, .. } => Some(*epoch),
        _ => None,
    });
    epochs.max().unwrap()
}

#[test]
fn equal_nodes_are_told_a_chain_with_capabilities() {
    let (mut rig, _, content) = chain_of_four();
    let orders = rig.orders_of("d");
    assert_eq!(last_sources(&orders), ["c", "b", "a", "-"]);
    let Some(NodeOrder::Sources { sources, .. }) = orders.last() else { panic!("{orders:?}") };
    assert_eq!(sources[0].addr, rig.book.node(&name("c")).unwrap().addr);
    assert_eq!(sources[3].addr, "10.0.0.1:8554");
    let key: VerifyKey = base_keys().verify_key();
    let capability = key.open_capability(&sources[0].capability).unwrap();
    assert_eq!((capability.content, capability.node), (content, name("d")));
    assert_eq!(capability.expires_s, rig.at.utc_ns / 1_000_000_000 + 3_600);
}

#[test]
fn children_of_a_node_that_is_down_get_other_sources_and_it_returns_as_a_leaf() {
    let (mut rig, _, _) = chain_of_four();
    let before = epoch(&rig.orders_of("c"));
    rig.orders.clear();
    rig.live(14, &["a", "c", "d"]);
    assert!(rig.orders.is_empty(), "{:?}", rig.orders);
    rig.live(1, &["a", "c", "d"]);
    let orders = rig.orders_of("c");
    assert_eq!(last_sources(&orders), ["a", "-"]);
    assert!(epoch(&orders) > before);
    assert_eq!(last_sources(&rig.orders_of("d")), ["c", "a", "-"]);
    assert!(rig.orders_of("a").is_empty(), "its source is as before");
    let orders = rig.hello("b", 2).unwrap();
    assert_eq!(last_sources(&orders), ["d", "c", "a", "-"]);
}

#[test]
fn node_that_starts_anew_in_the_middle_returns_as_a_leaf() {
    let (mut rig, key, _) = chain_of_four();
    for (node, source) in [("a", None), ("b", Some("a")), ("c", Some("b")), ("d", Some("c"))] {
        rig.report(node, [fetching(key, 100, source)]).unwrap();
    }
    rig.orders.clear();
    // b was killed: c went on to a by itself, before the base knew.
    let cause = SwitchCause::Lost;
    let switch = Report::Fetching { key, offset: 200, source: Some(name("a")), cause, before: 0 };
    rig.report("c", [switch]).unwrap();
    assert!(rig.orders_of("c").is_empty(), "it does already what the plan says");
    assert_eq!(last_sources(&rig.orders_of("d")), ["c", "a", "-"]);
    let orders = rig.hello("b", 2).unwrap();
    assert_eq!(last_sources(&orders), ["d", "c", "a", "-"]);
    let switches = rig.delivery(key, "c").switches;
    assert_eq!(switches, 1);
}

#[test]
fn complete_node_that_starts_anew_is_a_source_again() {
    let (mut rig, key, _) = chain_of_four();
    let done = rig.completed(key, "a");
    rig.report("a", [done]).unwrap();
    rig.hello("a", 2).unwrap();
    rig.live(15, &["a", "b", "c"]);
    let orders = rig.hello("d", 2).unwrap();
    assert_eq!(last_sources(&orders), ["a", "-"]);
}

#[test]
fn node_that_comes_back_without_a_new_start_is_told_all_again() {
    let (mut rig, key, _) = chain_of_four();
    rig.live(15, &["a", "c", "d"]);
    rig.orders.clear();
    rig.report("b", []).unwrap();
    let orders = rig.orders_of("b");
    assert!(matches!(&orders[0], NodeOrder::Command { key: of, .. } if *of == key));
    assert_eq!(last_sources(&orders), ["d", "c", "a", "-"]);
}

#[test]
fn node_that_failed_is_no_source_any_more() {
    let (mut rig, key, _) = chain_of_four();
    rig.orders.clear();
    let reason = crate::dist::wire::job::Reason::NoSpace;
    let failed = Report::Failed { key, reason, detail: String::new(), is_final: true };
    rig.report("b", [failed]).unwrap();
    assert_eq!(last_sources(&rig.orders_of("c")), ["a", "-"]);
}

#[test]
fn idle_node_is_given_who_is_slow_and_far_from_the_end() {
    let (mut rig, key, _) = chain_of_four();
    for node in ["b", "c", "d"] {
        rig.report(node, [fetching(key, 0, None)]).unwrap();
    }
    let done = rig.completed(key, "a");
    rig.report("a", [done]).unwrap();
    rig.orders.clear();
    let all = ["a", "b", "c", "d"];
    // b is as fast as its link, c nearly done, d slow.
    rig.report("b", [progress(key, GIB / 2, 25_000_000)]).unwrap();
    rig.report("c", [progress(key, GIB - 1_000, 1_000)]).unwrap();
    rig.report("d", [progress(key, GIB / 4, 1_000_000)]).unwrap();
    rig.live(2, &all);
    assert!(rig.orders.is_empty(), "sources are kept for three seconds");
    // b fetches from a already: nothing is left for others.
    rig.live(2, &all);
    assert!(rig.orders.is_empty(), "{:?}", rig.orders);
    let done = rig.completed(key, "b");
    rig.report("b", [done]).unwrap();
    rig.live(1, &all);
    assert_eq!(last_sources(&rig.orders_of("d")), ["a", "-"]);
    assert!(rig.orders.is_empty(), "{:?}", rig.orders);
}

#[test]
fn receiver_that_gets_nothing_goes_on_to_the_source_above() {
    let (mut rig, key, _) = chain_of_four();
    for node in ["a", "b", "c", "d"] {
        rig.report(node, [fetching(key, 100, None), progress(key, 100, 1_000)]).unwrap();
    }
    rig.orders.clear();
    let all = ["a", "b", "c", "d"];
    for second in 1..=11 {
        // b goes on, c and d stand still.
        rig.report("a", [progress(key, 100 + 2 * second, 2)]).unwrap();
        rig.report("b", [progress(key, 100 + second, 1)]).unwrap();
        rig.live(1, &all);
    }
    assert_eq!(last_sources(&rig.orders_of("c")), ["a", "-"]);
    // d waits for c, which is no further than d itself; its list has changed.
    assert_eq!(last_sources(&rig.orders_of("d")), ["c", "a", "-"]);
    assert!(rig.orders_of("b").is_empty());
}

/// Four nodes that fetch in a chain; c has left b, which gave it 2 MB a second.
fn left_slow() -> (Rig, CommandKey) {
    let (mut rig, key, _) = chain_of_four();
    for (node, source) in [("a", None), ("b", Some("a")), ("c", Some("b")), ("d", Some("c"))] {
        rig.report(node, [fetching(key, 100, source)]).unwrap();
    }
    rig.orders.clear();
    let (offset, cause, before) = (2_000_000, SwitchCause::Slow, 2_000_000);
    let switch = Report::Fetching { key, offset, source: Some(name("a")), cause, before };
    rig.report("c", [switch]).unwrap();
    assert_eq!(last_sources(&rig.orders_of("d")), ["c", "a", "-"]);
    assert!(rig.orders.is_empty(), "{:?}", rig.orders);
    (rig, key)
}

fn last_resorts(orders: &[NodeOrder]) -> Vec<bool> {
    let Some(NodeOrder::Sources { sources, .. }) = orders.last() else { panic!("{orders:?}") };
    sources.iter().map(|source| source.is_last_resort).collect()
}

#[test]
fn source_that_gave_less_than_the_one_above_is_slow_and_goes_to_the_end() {
    let (mut rig, key) = left_slow();
    rig.pass(1);
    rig.report("c", [progress(key, 12_000_000, 5_000_000)]).unwrap();
    let event = rig.last_event("node.slow");
    assert_eq!(event.node, Some(name("b")));
    assert_eq!(event.detail, serde_json::json!({"link": "up", "rate": 2_000_000}));
    let orders = rig.orders_of("b");
    assert_eq!(last_sources(&orders), ["d", "c", "a", "-"]);
    assert_eq!(last_resorts(&orders), [false, true, true, true]);
    assert!(rig.orders.is_empty(), "{:?}", rig.orders);
    // It is said once, and not behind a change of the source again.
    rig.pass(1);
    rig.report("c", [progress(key, 30_000_000, 20_000_000)]).unwrap();
    let kinds = rig.kinds();
    assert_eq!(kinds.iter().filter(|kind| **kind == "node.slow").count(), 1);
}

#[test]
fn node_that_gets_as_little_from_another_source_is_slow_itself() {
    let (mut rig, key) = left_slow();
    for second in 1..=4 {
        rig.pass(1);
        rig.report("c", [progress(key, 2_000_000 + second * 2_000_000, 2_000_000)]).unwrap();
    }
    let event = rig.last_event("node.slow");
    assert_eq!(event.node, Some(name("c")));
    assert_eq!(event.detail, serde_json::json!({"link": "down", "rate": 2_000_000}));
    assert_eq!(last_sources(&rig.orders_of("d")), ["b", "a", "-"]);
    assert_eq!(last_sources(&rig.orders_of("c")), ["d", "b", "a", "-"]);
    assert!(rig.orders.is_empty(), "{:?}", rig.orders);
}

#[test]
fn capabilities_are_made_anew_before_they_end() {
    let (mut rig, _, _) = chain_of_four();
    // Nobody is asked why it does not get on.
    rig.book.parts.options.timeouts.wait = std::time::Duration::from_secs(7_200);
    rig.orders.clear();
    let all = ["a", "b", "c", "d"];
    rig.live(1_799, &all);
    assert!(rig.orders_of("d").iter().all(|order| sources(order).is_none()));
    rig.live(2, &all);
    let orders = rig.orders_of("d");
    let Some(NodeOrder::Sources { sources, .. }) = orders.last() else { panic!("{orders:?}") };
    let capability = base_keys().verify_key().open_capability(&sources[0].capability).unwrap();
    assert!(capability.expires_s >= rig.at.utc_ns / 1_000_000_000 + 3_590);
}

#[test]
fn rate_of_a_job_bounds_what_is_planned() {
    let mut rig = Rig::with_nodes(&["a"]);
    let policy = Policy { max_rate: Some(10_000), ..Policy::default() };
    let request = JobRequest { policy, ..job_request(Targets::All) };
    let job = rig.book.request_job(CLIENT, request, rig.at).unwrap().job_id;
    rig.uploaded(job, "x", GIB);
    let orders = rig.orders_of("a");
    let Some(NodeOrder::Sources { sources, .. }) = orders.last() else { panic!("{orders:?}") };
    assert_eq!(sources[0].rate, 10_000);
}

/// Further sources of the newest order of a plan; `-` is the base.
fn last_further(orders: &[NodeOrder]) -> Vec<(String, u64)> {
    let Some(NodeOrder::Sources { further, .. }) =
        orders.iter().rfind(|order| matches!(order, NodeOrder::Sources { .. }))
    else {
        panic!("{orders:?}")
    };
    let name =
        |source: &Source| source.node.as_ref().map_or_else(|| "-".to_owned(), NodeName::to_string);
    further.iter().map(|source| (name(source), source.rate)).collect()
}

/// Nodes with 200 Mbit/s, but for the uplinks of `s` and `t`.
fn with_slow_uplinks(declares: bool, max_rate: Option<u64>) -> (Rig, CommandKey) {
    let mut rig = Rig::new();
    for node in ["a", "b", "c", "d", "s", "t"] {
        let slow = matches!(node, "s" | "t");
        let mut hello = rig.greeting(node, 1);
        hello.up_rate_cap = declares.then_some(if slow { 6_250_000 } else { 25_000_000 });
        let node = hello.node.clone();
        rig.book.hello(hello, HelloBy::Join, rig.at).unwrap();
        rig.book.open_orders(&node);
        rig.commit();
    }
    let policy = Policy { max_rate, ..Policy::default() };
    let request = JobRequest { policy, ..job_request(Targets::All) };
    let job = rig.book.request_job(CLIENT, request, rig.at).unwrap().job_id;
    let (key, _) = rig.uploaded(job, "x", GIB);
    for node in ["a", "b", "c", "d", "s", "t"] {
        rig.report(node, [Report::Received { key }]).unwrap();
    }
    (rig, key)
}

#[test]
fn node_behind_a_slow_uplink_is_told_of_further_sources_and_says_who_gives() {
    let (mut rig, key) = with_slow_uplinks(true, None);
    for node in ["a", "b", "c", "d", "s"] {
        assert_eq!(last_further(&rig.orders_of(node)), [], "{node}");
    }
    let orders = rig.orders_of("t");
    assert_eq!(last_sources(&orders)[0], "s");
    let further = last_further(&orders);
    let sum: u64 = further.iter().map(|(_, rate)| rate).sum();
    assert_eq!(further[0].0, "-");
    assert!(further.len() >= 3 && sum > 12_000_000, "{further:?}");
    rig.report("t", [fetching(key, 1_000, Some("s"))]).unwrap();
    let sources = vec![None, Some(name("b"))];
    rig.report("t", [Report::Further { key, offset: 2_000, sources }]).unwrap();
    assert_eq!(rig.last_event("delivery.further").detail["further"], "base b");
    let view = |rig: &Rig| {
        let all = rig.book.deliveries(CLIENT, key.job, &DeliveryFilter::default()).unwrap();
        all.into_iter().find(|view| view.node == name("t")).unwrap()
    };
    assert_eq!(view(&rig).further, ["base", "b"]);
    rig.report("t", [Report::Further { key, offset: 3_000, sources: Vec::new() }]).unwrap();
    assert_eq!(rig.last_event("delivery.further").detail["further"], "none");
    assert_eq!(view(&rig).further, [""; 0]);
    // One of them is away: others are named.
    rig.orders.clear();
    let gone = further[1].0.clone();
    let rest: Vec<_> = ["a", "b", "c", "d", "s", "t"].into_iter().filter(|n| *n != gone).collect();
    rig.live(16, &rest);
    assert!(last_further(&rig.orders_of("t")).iter().all(|(node, _)| *node != gone));
}

#[test]
fn job_with_a_rate_is_levelled_by_what_its_rate_leaves() {
    // Half of what links carry, and twice what the slow ones do.
    let (mut rig, _) = with_slow_uplinks(true, Some(12_500_000));
    let orders = rig.orders_of("t");
    let sources = last_sources(&orders);
    assert_eq!(sources[0], "s");
    let further = last_further(&orders);
    let sum: u64 = further.iter().map(|(_, rate)| rate).sum();
    assert_eq!(further[0].0, "-");
    assert!((4_000_000..=6_250_000).contains(&sum), "{further:?}");
    assert!(further.iter().all(|(_, rate)| *rate < 3_000_000), "{further:?}");
    // A rate that the slow uplinks have leaves nothing lacking.
    let (mut rig, _) = with_slow_uplinks(true, Some(6_000_000));
    assert_eq!(last_further(&rig.orders_of("t")), []);
}

#[test]
fn where_no_rate_is_known_nobody_is_named() {
    let (mut rig, _) = with_slow_uplinks(false, None);
    for node in ["a", "b", "c", "d", "s", "t"] {
        assert_eq!(last_further(&rig.orders_of(node)), [], "{node}");
    }
}
