//! Live paths of jobs, as the base plans and counts them.

use std::collections::HashSet;

use super::*;
use crate::base::secret::Secret;
use crate::dist::wire::agent::LiveTotals;
use crate::dist::wire::job::{JobState, Reason};

fn live() -> CommandRequest {
    let (path, from) = ("live/x".to_owned(), "rtsp://192.0.2.1:8554/live/x".to_owned());
    CommandRequest { op: Op::Live { path, from }, size: None, blake3: None }
}

/// The names of the last `Reflect` order; `-` is the origin.
fn list(orders: &[NodeOrder]) -> Vec<String> {
    let names = |order: &NodeOrder| {
        let NodeOrder::Reflect { sources, .. } = order else { return None };
        let name = |node: &Option<NodeName>| {
            node.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string)
        };
        Some(sources.iter().map(|source| name(&source.node)).collect())
    };
    orders.iter().rev().find_map(names).unwrap_or_default()
}

fn lists(rig: &mut Rig, nodes: &[&str]) -> Vec<String> {
    let of = |node: &&str| format!("{node}: {}", list(&rig.orders_of(node)).join(" "));
    nodes.iter().map(of).collect()
}

fn lost(key: CommandKey, offset: u64, source: Option<&str>) -> Report {
    let cause = SwitchCause::Lost;
    Report::Fetching { key, offset, source: source.map(name), cause, before: 0 }
}

fn dry(key: CommandKey) -> Report {
    let detail = "rtsp://192.0.2.1:8554/live/x: 404 Not Found".to_owned();
    Report::Failed { key, reason: Reason::NoSource, detail, is_final: false }
}

fn reflected(rig: &Rig, key: CommandKey, node: &str) -> Report {
    let totals = LiveTotals { packets: 10, flow_ms: 1_000, switches: 1 };
    let via = BTreeMap::from([("origin".to_owned(), 9_000)]);
    let receipt = Receipt { size: 9_000, via, live: Some(totals), ..rig.receipt(key, node) };
    Report::Completed { receipt: signed(&receipt) }
}

/// Nodes that reflect a live path, each from the one before it.
fn chain(nodes: &[&str]) -> (Rig, JobId, CommandKey) {
    let mut rig = Rig::with_nodes(nodes);
    let job = rig.job(Targets::All);
    let key = rig.command(job, live());
    for (place, node) in nodes.iter().enumerate() {
        let source = place.checked_sub(1).map(|above| nodes[above]);
        rig.report(node, [Report::Received { key }, fetching(key, 0, source)]).unwrap();
    }
    (rig, job, key)
}

#[test]
fn each_node_is_told_its_sources_when_the_first_of_them_reflects() {
    let mut rig = Rig::with_nodes(&["a", "b", "c"]);
    let job = rig.job(Targets::All);
    let key = rig.command(job, live());
    let orders = rig.orders_of("a");
    assert!(matches!(&orders[0], NodeOrder::Command { op: Op::Live { .. }, content: None, .. }));
    assert_eq!(list(&orders), ["-"]);
    assert_eq!(lists(&mut rig, &["b", "c"]), ["b: ", "c: "], "the origin is asked once");
    rig.report("a", [Report::Received { key }, fetching(key, 0, None)]).unwrap();
    assert_eq!(lists(&mut rig, &["b", "c"]), ["b: a -", "c: "]);
    rig.report("b", [Report::Received { key }, fetching(key, 0, Some("a"))]).unwrap();
    let orders = rig.orders_of("c");
    assert_eq!(list(&orders), ["b", "a", "-"]);
    let NodeOrder::Reflect { sources, .. } = orders.last().unwrap() else { panic!("{orders:?}") };
    let urls: Vec<&str> = sources.iter().map(|source| source.url.as_str()).collect();
    assert_eq!(
        urls,
        [
            "rtsp://10.1.0.2:8554/live/x",
            "rtsp://10.1.0.1:8554/live/x",
            "rtsp://192.0.2.1:8554/live/x"
        ]
    );
    let views = rig.book.deliveries(CLIENT, job, &DeliveryFilter::default()).unwrap();
    let sources: Vec<_> = views.iter().filter_map(|view| view.source.as_deref()).collect();
    assert_eq!(sources, ["a"], "nothing has come from the origin yet, as far as is known");
    let progress = Report::Progress { key, offset: 5_000, rate: 500 };
    rig.report("a", [progress]).unwrap();
    let views = rig.book.deliveries(CLIENT, job, &DeliveryFilter::default()).unwrap();
    assert_eq!(views[0].source.as_deref(), Some("origin"));
    assert_eq!((views[0].offset, views[0].rate, views[0].size), (5_000, 500, None));
}

/// The capability of the last `Reflect` order.
fn shown(orders: &[NodeOrder]) -> Option<Secret> {
    orders.iter().rev().find_map(|order| match order {
        NodeOrder::Reflect { capability, .. } => capability.clone(),
        _ => None,
    })
}

#[test]
fn sources_come_with_a_capability_that_is_renewed_before_it_ends_and_shown_nowhere() {
    let (mut rig, job, key) = chain(&["a", "b", "c"]);
    let now_s = |rig: &Rig| rig.at.utc_ns.div_euclid(1_000_000_000);
    let admit = |token: &Secret, utc_s: i64| {
        base_keys().verify_key().admit_live(token.expose(), (key, "live/x"), utc_s)
    };
    let mut first = Vec::new();
    for node in ["a", "b", "c"] {
        let orders = rig.orders_of(node);
        let capability = shown(&orders).unwrap();
        let said = admit(&capability, now_s(&rig)).unwrap();
        assert_eq!((said.key, said.path.as_str(), said.node), (key, "live/x", name(node)));
        assert_eq!(said.expires_s, now_s(&rig) + 3_600);
        assert!(!format!("{orders:?}").contains(capability.expose()));
        first.push(capability);
    }
    // Whoever is told anew meanwhile has the same one.
    rig.hello("b", 2).unwrap();
    let again = rig.book.open_orders(&name("b"));
    assert_eq!(shown(&again).as_ref(), Some(&first[1]));
    rig.report("b", [fetching(key, 1, Some("a"))]).unwrap();
    rig.orders.clear();
    rig.live(890, &["a", "b", "c"]);
    assert_eq!(lists(&mut rig, &["a", "b", "c"]), ["a: ", "b: ", "c: "]);
    rig.live(920, &["a", "b", "c"]);
    for (node, before) in ["a", "b", "c"].into_iter().zip(&first) {
        let orders = rig.orders_of(node);
        let renewed = shown(&orders).unwrap();
        assert_ne!(renewed, *before);
        assert!(admit(&renewed, now_s(&rig) + 2_600).is_ok() && !list(&orders).is_empty());
        assert!(admit(before, now_s(&rig)).is_ok(), "the one before still counts");
    }
    let report = serde_json::to_string(&rig.book.report(CLIENT, job).unwrap()).unwrap();
    let events = serde_json::to_string(&rig.events).unwrap();
    let rows = format!("{:?}", rig.rows);
    for (what, text) in [("report", report), ("events", events), ("ledger", rows)] {
        assert!(!text.contains("hdl_"), "{what}");
    }
}

/// Capabilities that are told in each of the next seconds and were not told before.
fn new_ones(
    rig: &mut Rig,
    known: &mut HashSet<String>,
    seconds: u32,
    names: &[&str],
) -> Vec<usize> {
    let mut second = || {
        rig.live(1, names);
        let said = rig.orders.drain(..).filter_map(|(_, order)| shown(&[order]));
        said.filter(|shown| known.insert(shown.expose().to_owned())).count()
    };
    (0..seconds).map(|_| second()).collect()
}

/// All of them were made anew in one second, at each half of their time.
#[test]
fn capabilities_that_were_made_together_are_renewed_apart_and_some_at_a_time() {
    let names: Vec<String> = (0..150).map(|n| format!("n{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut rig = Rig::new();
    rig.options.timeouts.capability = std::time::Duration::from_secs(60);
    rig.restart();
    for node in &names {
        rig.hello(node, 1).unwrap();
    }
    rig.live(8, &names);
    for path in ["live/x", "live/y"] {
        let job = rig.job(Targets::All);
        let op = Op::Live { path: path.to_owned(), from: "rtsp://192.0.2.1:8554/live".to_owned() };
        let key = rig.command(job, CommandRequest { op, ..live() });
        for node in &names {
            rig.report(node, [Report::Received { key }]).unwrap();
        }
    }
    let mut known = HashSet::new();
    let first = new_ones(&mut rig, &mut known, 7, &names);
    assert!(first.iter().sum::<usize>() > 290, "{first:?}");
    let second = new_ones(&mut rig, &mut known, 31, &names);
    let (all, most) = (second.iter().sum::<usize>(), second.iter().max().unwrap());
    assert!((300..360).contains(&all) && *most < 75, "{second:?}");
    // A clock that is put back has all of them made anew, but not at once.
    rig.at.utc_ns -= 86_400 * 1_000_000_000;
    let second = new_ones(&mut rig, &mut known, 4, &names);
    assert_eq!((second[0], second.iter().sum::<usize>()), (256, 300), "{second:?}");
}

#[test]
fn clock_that_is_put_back_has_all_capabilities_made_anew() {
    let (mut rig, _, key) = chain(&["a", "b"]);
    rig.live(1, &["a", "b"]);
    let first = ["a", "b"].map(|node| shown(&rig.orders_of(node)).unwrap());
    let ahead_s = rig.at.utc_ns.div_euclid(1_000_000_000);
    rig.at.utc_ns -= 86_400 * 1_000_000_000;
    rig.live(2, &["a", "b"]);
    for (node, before) in ["a", "b"].into_iter().zip(&first) {
        let renewed = shown(&rig.orders_of(node)).unwrap();
        assert_ne!(renewed, *before);
        let key_of_base = base_keys().verify_key();
        let at = |utc_s| key_of_base.admit_live(renewed.expose(), (key, "live/x"), utc_s);
        assert!(at(ahead_s - 86_400).is_ok() && at(ahead_s).is_err());
    }
}

/// A node of an older version would have its own rules judge what it is shown.
#[test]
fn node_that_knows_no_capabilities_is_a_source_that_is_shown_none() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    let hello = Hello { takes_capability: false, ..rig.greeting("a", 1) };
    rig.book.hello(hello, HelloBy::Node(name("a")), rig.at).unwrap();
    rig.commit();
    let job = rig.job(Targets::All);
    let key = rig.command(job, live());
    rig.report("a", [Report::Received { key }, fetching(key, 0, None)]).unwrap();
    let orders = rig.orders_of("b");
    assert!(shown(&orders).is_some());
    assert_eq!((list(&orders), takes(&orders)), (vec!["a".into(), "-".into()], vec![false; 2]));
    let (mut rig, ..) = chain(&["a", "b"]);
    assert_eq!(takes(&rig.orders_of("b")), [true, false], "the origin knows of no jobs");
}

/// Which sources of the last `Reflect` order are shown a capability.
fn takes(orders: &[NodeOrder]) -> Vec<bool> {
    let list = orders.iter().rev().find_map(|order| match order {
        NodeOrder::Reflect { sources, .. } => Some(sources),
        _ => None,
    });
    list.unwrap().iter().map(|source| source.takes_capability).collect()
}

#[test]
fn order_of_a_base_of_before_has_no_capability_and_is_read() {
    let key = CommandKey { job: JobId(Uuid::nil()), command: CommandId(1) };
    let json = serde_json::json!({
        "order": "reflect", "key": key, "epoch": 3,
        "sources": [{"node": "a", "url": "rtsp://10.1.0.1:8554/live/x"}],
    });
    let order: NodeOrder = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(
        (list(std::slice::from_ref(&order)), shown(std::slice::from_ref(&order))),
        (vec!["a".into()], None)
    );
    assert_eq!(serde_json::to_value(&order).unwrap(), json);
}

#[test]
fn node_whose_source_does_not_begin_is_told_its_sources_all_the_same() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    let job = rig.job(Targets::All);
    rig.command(job, live());
    lists(&mut rig, &["a", "b"]);
    rig.live(4, &["a", "b"]);
    assert_eq!(lists(&mut rig, &["b"]), ["b: "]);
    rig.live(2, &["a", "b"]);
    assert_eq!(lists(&mut rig, &["b"]), ["b: a -"]);
}

#[test]
fn lost_node_is_left_out_and_comes_back_at_the_end_without_a_circle() {
    let (mut rig, _, key) = chain(&["a", "b", "c", "d"]);
    lists(&mut rig, &["a", "b", "c", "d"]);
    // c was faster than the base: it has gone on to the next of its list.
    rig.report("c", [lost(key, 100, Some("a"))]).unwrap();
    assert_eq!(lists(&mut rig, &["c", "d"]), ["c: a -", "d: c a -"]);
    rig.live(16, &["a", "c", "d"]);
    assert_eq!(lists(&mut rig, &["c", "d"]), ["c: ", "d: "], "nobody moves once more");
    rig.hello("b", 2).unwrap();
    rig.report("b", []).unwrap();
    let orders = rig.book.open_orders(&name("b"));
    assert_eq!(list(&orders), ["d", "c", "a", "-"]);
    // One that says nothing of itself is moved by the base.
    rig.report("b", [fetching(key, 0, Some("d"))]).unwrap();
    rig.live(16, &["b", "c", "d"]);
    assert_eq!(lists(&mut rig, &["c", "d", "b"]), ["c: -", "d: c -", "b: d c -"]);
}

#[test]
fn drained_node_keeps_its_path_and_gives_it_to_nobody() {
    let (mut rig, job, key) = chain(&["a", "b", "c"]);
    lists(&mut rig, &["a", "b", "c"]);
    rig.book.drain_node(&name("b"), rig.at).unwrap();
    rig.commit();
    let lists_of = lists(&mut rig, &["c", "b"]);
    assert_eq!(lists_of[0], "c: a -");
    assert!(["b: c a -", "b: a -", "b: "].contains(&lists_of[1].as_str()), "{lists_of:?}");
    assert_eq!(rig.state(key, "b"), DeliveryState::Fetching);
    rig.book.undrain_node(&name("b"), rig.at).unwrap();
    rig.commit();
    rig.hello("d", 1).unwrap();
    assert_eq!(rig.view(job).totals.in_progress, 3, "a node that comes later is no target");
}

#[test]
fn end_of_the_job_is_the_end_of_the_path_and_receipts_complete_it() {
    let (mut rig, job, key) = chain(&["a", "b"]);
    lists(&mut rig, &["a", "b"]);
    let view = rig.book.end_job(CLIENT, job, rig.at).unwrap();
    rig.commit();
    assert_eq!((view.state, view.totals.in_progress), (JobState::Closing, 2));
    for node in ["a", "b"] {
        assert_eq!(rig.orders_of(node), [NodeOrder::Finish { key }], "{node}");
        let again = rig.book.open_orders(&name(node));
        assert!(again.contains(&NodeOrder::Finish { key }), "{again:?}");
    }
    let receipts = ["a", "b"].map(|node| reflected(&rig, key, node));
    for (node, receipt) in ["a", "b"].into_iter().zip(receipts) {
        rig.report(node, [Report::Applying { key }, receipt]).unwrap();
    }
    assert_eq!(rig.view(job).state, JobState::Completed);
    let report = rig.book.report(CLIENT, job).unwrap();
    let delivery = &report.nodes[0].deliveries[0];
    assert!(delivery.is_signature_valid);
    assert_eq!(delivery.live.map(|totals| totals.packets), Some(10));
    assert_eq!((delivery.size, delivery.via["origin"]), (Some(9_000), 9_000));
    assert_eq!(report.job.bound_ratio, None, "how long it took says nothing");
}

#[test]
fn path_that_is_not_at_the_origin_is_tried_on_and_its_reason_is_shown() {
    let (mut rig, job, key) = chain(&["a"]);
    for _ in 0..100 {
        rig.report("a", [dry(key)]).unwrap();
        rig.live(60, &["a"]);
    }
    let row = rig.delivery(key, "a");
    assert_eq!((row.state, row.reason), (DeliveryState::RetryWait, Some(Reason::NoSource)));
    assert!(row.detail.unwrap().contains("404 Not Found"));
    assert!(row.attempts >= 100);
    for kind in ["wait.over", "wait.asked", "repair.begun", "delivery.failed"] {
        assert!(!rig.kinds().contains(&kind), "{kind}");
    }
    rig.report("a", [fetching(key, 7, None)]).unwrap();
    assert_eq!(rig.state(key, "a"), DeliveryState::Fetching);
    rig.book.end_job(CLIENT, job, rig.at).unwrap();
    rig.commit();
    let detail = "no packet has come before the job was ended".to_owned();
    let failed = Report::Failed { key, reason: Reason::NoSource, detail, is_final: true };
    rig.report("a", [failed]).unwrap();
    assert_eq!(rig.view(job).state, JobState::CompletedWithFailures);
}

#[test]
fn node_that_is_lost_for_good_is_given_up_and_late_it_says_what_it_had() {
    let (mut rig, job, key) = chain(&["a", "b"]);
    rig.live(400, &["a"]);
    let row = rig.delivery(key, "b");
    assert_eq!((row.state, row.reason), (DeliveryState::Failed, Some(Reason::NodeFailed)));
    assert_eq!(rig.state(key, "a"), DeliveryState::Fetching, "it is not asked for anything");
    rig.book.end_job(CLIENT, job, rig.at).unwrap();
    rig.commit();
    let receipt = reflected(&rig, key, "a");
    rig.report("a", [receipt]).unwrap();
    assert_eq!(rig.view(job).state, JobState::CompletedWithFailures);
    rig.orders.clear();
    rig.hello("b", 2).unwrap();
    let query = rig.book.open_orders(&name("b")).into_iter().find_map(|order| match order {
        NodeOrder::Query { query } => Some(query),
        _ => None,
    });
    let answer = Report::Answer { query: query.unwrap(), open: 0, commands: Vec::new() };
    rig.report("b", [answer]).unwrap();
    let probe = rig.orders_of("b").into_iter().find_map(|order| match order {
        NodeOrder::Probe { number, .. } => Some(number),
        _ => None,
    });
    rig.report("b", [Report::Probed { number: probe.unwrap(), fault: None }]).unwrap();
    let orders = rig.orders_of("b");
    assert!(orders.contains(&NodeOrder::Finish { key }), "{orders:?}");
    let receipt = reflected(&rig, key, "b");
    rig.report("b", [receipt]).unwrap();
    assert_eq!(rig.view(job).state, JobState::Completed);
}

#[test]
fn node_that_gives_no_receipt_is_asked_and_given_up_while_it_lives() {
    let (mut rig, job, key) = chain(&["a"]);
    rig.book.end_job(CLIENT, job, rig.at).unwrap();
    rig.commit();
    // Its agent hangs, and something else of the node says that it is there.
    rig.live(1_200, &["a"]);
    assert!(rig.kinds().contains(&"repair.begun"));
    assert_eq!(rig.state(key, "a"), DeliveryState::Failed);
    assert_eq!(rig.view(job).state, JobState::CompletedWithFailures);
}

#[test]
fn base_that_is_started_again_moves_nobody() {
    let (mut rig, _, key) = chain(&["c", "a", "b"]);
    let before = ["a", "b"].map(|node| rig.delivery(key, node).source);
    rig.restart();
    for node in ["a", "b", "c"] {
        let orders = rig.hello(node, 1).unwrap();
        assert_eq!(list(&orders), [""; 0], "{node} is not told before the others are here");
    }
    rig.live(8, &["a", "b", "c"]);
    assert_eq!(lists(&mut rig, &["a", "b", "c"]), ["a: c -", "b: a c -", "c: -"]);
    assert_eq!(["a", "b"].map(|node| rig.delivery(key, node).source), before);
}

#[test]
fn node_with_a_slow_uplink_feeds_nobody_and_one_with_a_slow_downlink_neither() {
    let (mut rig, _, key) = chain(&["a", "b", "c", "d"]);
    lists(&mut rig, &["a", "b", "c", "d"]);
    let mut bytes = 0;
    let mut stream = |rig: &mut Rig, seconds: u64, rates: [u64; 4]| {
        for _ in 0..seconds {
            bytes += 1_000;
            for (node, rate) in ["a", "b", "c", "d"].into_iter().zip(rates) {
                rig.report(node, [Report::Progress { key, offset: bytes, rate }]).unwrap();
            }
            rig.live(1, &[]);
        }
    };
    stream(&mut rig, 10, [100_000, 100_000, 100_000, 100_000]);
    assert_eq!(lists(&mut rig, &["c", "d"]), ["c: ", "d: "]);
    // b sends too little on: c, and d behind it, get half.
    stream(&mut rig, 8, [100_000, 100_000, 50_000, 50_000]);
    assert_eq!(lists(&mut rig, &["c", "d"]), ["c: a -", "d: c a -"]);
    rig.report("c", [lost(key, 1, Some("a"))]).unwrap();
    stream(&mut rig, 15, [100_000, 100_000, 100_000, 100_000]);
    let slow = rig.last_event("node.slow");
    assert_eq!((slow.node.clone(), &slow.detail["link"]), (Some(name("b")), &"up".into()));
    // Now d gets little, from whomever.
    stream(&mut rig, 30, [100_000, 100_000, 100_000, 20_000]);
    let slow = rig.last_event("node.slow");
    assert_eq!((slow.node.clone(), &slow.detail["link"]), (Some(name("d")), &"down".into()));
    let events = rig.kinds().iter().filter(|kind| **kind == "node.slow").count();
    stream(&mut rig, 60, [100_000, 100_000, 100_000, 20_000]);
    assert_eq!(rig.kinds().iter().filter(|kind| **kind == "node.slow").count(), events);
}

#[test]
fn deadline_ends_a_path_that_flows_and_fails_one_that_does_not() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    let request = JobRequest { deadline_s: Some(20), ..job_request(Targets::All) };
    let job = rig.book.request_job(CLIENT, request, rig.at).unwrap().job_id;
    rig.commit();
    let key = rig.command(job, live());
    rig.report("a", [Report::Received { key }, fetching(key, 0, None)]).unwrap();
    rig.report("b", [Report::Received { key }, dry(key)]).unwrap();
    rig.orders.clear();
    rig.live(21, &["a", "b"]);
    assert!(rig.orders_of("a").contains(&NodeOrder::Finish { key }));
    assert_eq!(rig.state(key, "a"), DeliveryState::Fetching);
    let row = rig.delivery(key, "b");
    assert_eq!((row.state, row.reason), (DeliveryState::Failed, Some(Reason::Deadline)));
}

#[test]
fn job_without_requests_for_a_day_goes_on_while_packets_come() {
    let (mut rig, job, key) = chain(&["a"]);
    let idle_s = rig.options.timeouts.idle_job.as_secs();
    let mut offset = 0;
    let mut day = |rig: &mut Rig, does_flow: bool| {
        for _ in 0..idle_s / 600 + 2 {
            offset += u64::from(does_flow);
            rig.report("a", [Report::Progress { key, offset, rate: 1 }]).unwrap();
            rig.pass(600);
            rig.report("a", []).unwrap();
            rig.book.tick(rig.at);
            rig.commit();
        }
    };
    day(&mut rig, true);
    assert_eq!(rig.view(job).state, JobState::Open);
    day(&mut rig, false);
    assert_eq!(rig.view(job).state, JobState::Closing);
}

#[test]
fn live_commands_that_cannot_be_are_refused_and_leave_nothing() {
    let mut rig = Rig::with_nodes(&["a"]);
    let job = rig.job(Targets::All);
    let bad = [
        ("../x", "rtsp://h/x"),
        ("vod/x", "rtsp://h/x"),
        ("live/x", "http://h/x"),
        ("live/x", "rtsp://u:secret@h/x"),
    ];
    for (path, from) in bad {
        let op = Op::Live { path: path.to_owned(), from: from.to_owned() };
        let request = CommandRequest { op, size: None, blake3: None };
        let refusal = rig.book.command(CLIENT, job, request, rig.at).unwrap_err();
        assert_eq!((refusal.reason(), refusal.to_string().contains("secret")), ("bad_live", false));
    }
    let sized = CommandRequest { size: Some(1), ..live() };
    assert_eq!(rig.book.command(CLIENT, job, sized, rig.at).unwrap_err().reason(), "no_content");
    assert_eq!(rig.view(job).commands, 0);
}
