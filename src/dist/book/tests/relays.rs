//! Orders for many nodes: who is told by the base, who by others, and who is told again; other
//! nodes of a job; edges that do not connect; a node that only its neighbours reach.

use std::collections::BTreeSet;

use super::*;
use crate::dist::keys::sign_answer;
use crate::dist::wire::agent::{SERVERS_MAX, whole_list};
use crate::dist::wire::job::CarePhase;
use crate::dist::wire::relay::{Alive, Envelope, RelayBody, SignedAnswer};

const NAMES: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];

/// To whom what was said.
type Said<T> = Vec<(NodeName, T)>;

impl Rig {
    /// Nodes to which orders go from node to node.
    fn relaying() -> Self {
        let mut rig = Self::with_nodes(&NAMES);
        rig.options.relay_from = 2;
        rig.restart();
        NAMES.iter().for_each(|node| drop(rig.hello(node, 2).unwrap()));
        rig.orders.clear();
        rig
    }

    /// Bodies that were handed to first nodes since the last call, and what else was said.
    fn bodies(&mut self) -> (Said<RelayBody>, Said<NodeOrder>) {
        let (mut bodies, mut others) = (Vec::new(), Vec::new());
        for (node, order) in self.orders.drain(..) {
            match order {
                NodeOrder::Relay { body } => bodies.push((node, body)),
                order => others.push((node, order)),
            }
        }
        (bodies, others)
    }
}

/// Envelopes of bodies, by node, with the orders for all.
fn opened(bodies: &[(NodeName, RelayBody)]) -> BTreeMap<NodeName, (Vec<NodeOrder>, Envelope)> {
    let key = base_keys().verify_key();
    let mut opened = BTreeMap::new();
    for (first, body) in bodies {
        let common: Vec<NodeOrder> = serde_json::from_str(&body.common).unwrap();
        for (place, entry) in body.entries.iter().enumerate() {
            let envelope = key.open_envelope(&entry.envelope).unwrap();
            assert_eq!(envelope.number, body.number);
            assert_eq!(envelope.common.0, *blake3::hash(body.common.as_bytes()).as_bytes());
            assert_eq!(place == 0, envelope.node == *first);
            let known = opened.insert(envelope.node.clone(), (common.clone(), envelope));
            assert!(known.is_none(), "each node once");
        }
    }
    opened
}

fn all() -> BTreeSet<NodeName> {
    NAMES.iter().map(|node| name(node)).collect()
}

#[test]
fn command_for_many_is_in_one_body_and_goes_to_as_few_first_nodes_as_can_be() {
    let mut rig = Rig::relaying();
    let job = rig.job(Targets::All);
    rig.bodies();
    let key = rig.command(job, mkdir("y"));
    let (bodies, others) = rig.bodies();
    assert_eq!((bodies.len(), others.len()), (3, 0), "7 = 4 + 2 + 1");
    let opened = opened(&bodies);
    assert_eq!(opened.keys().cloned().collect::<BTreeSet<_>>(), all());
    for (common, envelope) in opened.values() {
        assert!(matches!(common[..], [NodeOrder::Command { key: said, .. }] if said == key));
        assert_eq!(envelope.orders, []);
    }
    assert!(bodies.iter().all(|(_, body)| body.job == job && body.list_version == 1));
}

#[test]
fn commands_of_one_commit_are_one_body_and_plans_are_in_the_envelopes() {
    let mut rig = Rig::relaying();
    let job = rig.job(Targets::All);
    rig.bodies();
    for path in ["x", "y", "z"] {
        let accepted = rig.book.command(CLIENT, job, put(path), rig.at).unwrap();
        rig.book.upload_grew(accepted.content.unwrap(), 0, rig.at);
    }
    rig.commit();
    let (bodies, others) = rig.bodies();
    assert_eq!((bodies.len(), others.len()), (3, 0));
    for (node, (common, envelope)) in opened(&bodies) {
        let is_command = |order: &NodeOrder| matches!(order, NodeOrder::Command { .. });
        assert!(common.len() == 3 && common.iter().all(is_command));
        assert_eq!(envelope.orders.len(), 3);
        for order in envelope.orders {
            let NodeOrder::Sources { content, sources, .. } = order else { panic!("{order:?}") };
            for source in whole_list(sources) {
                let admitted = base_keys().verify_key().admit(&source.capability, content, 0);
                assert_eq!(admitted.unwrap().node, node);
            }
        }
    }
}

#[test]
fn nodes_that_say_that_they_have_it_are_not_told_again_and_others_are() {
    let mut rig = Rig::relaying();
    let job = rig.job(Targets::All);
    let numbers: BTreeSet<u64> = rig.bodies().0.iter().map(|(_, body)| body.number).collect();
    for (node, number) in NAMES.iter().flat_map(|node| numbers.iter().map(move |n| (node, n))) {
        rig.report(node, [Report::Relayed { number: *number }]).unwrap();
    }
    let key = rig.command(job, mkdir("y"));
    let (bodies, _) = rig.bodies();
    let number = bodies[0].1.number;
    // One first node, and one behind another, say nothing.
    let silent = bodies[0].0.clone();
    let late = base_keys().verify_key().open_envelope(&bodies[1].1.entries[1].envelope).unwrap();
    for node in all().iter().filter(|node| ![&silent, &late.node].contains(node)) {
        let reports = [Report::Received { key }, Report::Relayed { number }];
        rig.report(node.as_str(), reports).unwrap();
    }
    assert_eq!(rig.book.relay_numbers().open, 2);
    rig.live(2, &NAMES);
    let (bodies, others) = rig.bodies();
    let told: BTreeSet<&NodeName> = others.iter().map(|(node, _)| node).collect();
    assert_eq!((bodies.len(), told), (0, BTreeSet::from([&silent])), "its part is taken back");
    assert!(matches!(others[0].1, NodeOrder::Command { key: said, .. } if said == key));
    rig.live(2, &NAMES);
    let (_, others) = rig.bodies();
    assert!(others.iter().all(|(node, _)| *node == late.node) && !others.is_empty());
    let numbers = rig.book.relay_numbers();
    assert_eq!((numbers.stepped_in, numbers.open), (2, 0));
    rig.live(2, &NAMES);
    assert_eq!(rig.bodies().1, []);
}

#[test]
fn command_waits_for_those_before_it_and_goes_with_what_has_gathered() {
    let mut rig = Rig::relaying();
    let job = rig.job(Targets::All);
    rig.bodies();
    let first = rig.command(job, mkdir("1"));
    let number = rig.bodies().0[0].1.number;
    let second = rig.command(job, mkdir("2"));
    let third = rig.command(job, mkdir("3"));
    assert_eq!(rig.bodies(), (vec![], vec![]), "the first may be anywhere");
    let taken = |rig: &mut Rig, node: &str, key, number| {
        rig.report(node, [Report::Received { key }, Report::Relayed { number }]).unwrap();
    };
    for node in &NAMES[..6] {
        taken(&mut rig, node, first, number);
    }
    assert_eq!(rig.bodies(), (vec![], vec![]), "the last one is waited for");
    // What is withdrawn meanwhile is not begun.
    rig.book.cancel_command(CLIENT, third, rig.at).unwrap();
    rig.commit();
    assert_eq!(rig.bodies().1.len(), NAMES.len());
    rig.live(1, &NAMES);
    let (bodies, others) = rig.bodies();
    let told = opened(&bodies);
    assert_eq!((told.len(), others.len()), (6, 0), "not for long");
    assert!(told.values().all(|(common, _)| {
        matches!(common[..], [NodeOrder::Command { key, .. }] if key == second)
    }));
    // The one that has said nothing gets all of it from the base, in order.
    rig.live(3, &NAMES);
    let others = rig.bodies().1.into_iter().filter(|(node, _)| *node == name("g"));
    let keys = others.filter_map(|(_, order)| match order {
        NodeOrder::Command { key, .. } => Some(key),
        _ => None,
    });
    assert_eq!(keys.collect::<Vec<_>>(), [first, second]);
    // A command behind one that was said directly goes the same way.
    let fourth = rig.command(job, mkdir("4"));
    let (_, others) = rig.bodies();
    let is_fourth =
        |order: &NodeOrder| matches!(order, NodeOrder::Command { key, .. } if *key == fourth);
    assert!(others.iter().any(|(node, order)| *node == name("g") && is_fourth(order)));
}

#[test]
fn ends_go_to_each_node_and_few_nodes_are_told_by_the_base() {
    let mut rig = Rig::relaying();
    let job = rig.job(Targets::All);
    let key = rig.command(job, mkdir("y"));
    rig.bodies();
    rig.book.cancel_command(CLIENT, key, rig.at).unwrap();
    rig.commit();
    let (bodies, others) = rig.bodies();
    assert_eq!((bodies.len(), others.len()), (0, NAMES.len()));
    let one = rig.job(Targets::Nodes(vec![name("a")]));
    rig.command(one, mkdir("z"));
    let (bodies, others) = rig.bodies();
    assert_eq!((bodies.len(), others.len()), (0, 1));
}

#[test]
fn nodes_of_a_job_know_each_other_in_groups() {
    let names: Vec<String> = (0..150).map(|n| format!("n{n:03}")).collect();
    let mut rig = Rig::with_nodes(&names.iter().map(String::as_str).collect::<Vec<_>>());
    rig.options.relay_from = 0;
    rig.restart();
    let view = rig.book.request_job(CLIENT, job_request(Targets::All), rig.at).unwrap();
    let mut known: BTreeMap<NodeName, Vec<NodeName>> = BTreeMap::new();
    for (node, order) in rig.book.take_orders() {
        let NodeOrder::Servers { job, list_version, servers } = order else { continue };
        assert_eq!((job, list_version), (view.job_id, view.list_version));
        for server in servers.as_slice() {
            let listed = &view.servers[usize::try_from(server.index).unwrap()];
            assert_eq!((&listed.node, &listed.addr), (&server.node, &server.addr));
        }
        let others = servers.as_slice().iter().map(|server| server.node.clone());
        known.insert(node, others.collect());
    }
    assert_eq!(known.len(), 150);
    for (node, others) in &known {
        assert!(others.contains(node) && others.len() <= SERVERS_MAX && others.len() >= 40);
        assert!(others.iter().all(|other| known[other] == *others));
    }
}

#[test]
fn edge_that_does_not_connect_is_in_no_plan_for_half_a_minute() {
    let names = ["a", "b"];
    let mut rig = Rig::with_nodes(&names);
    let job = rig.job(Targets::All);
    rig.report("b", [Report::Unreachable { source: name("a") }]).unwrap();
    rig.report("a", [Report::Unreachable { source: name("b") }]).unwrap();
    assert_eq!(rig.last_event("edge.barred").detail["source"], "b");
    let first_sources = |rig: &mut Rig| -> Vec<Option<NodeName>> {
        let orders: Vec<NodeOrder> = names.iter().flat_map(|node| rig.orders_of(node)).collect();
        let first = orders.into_iter().filter_map(|order| match order {
            NodeOrder::Sources { sources, .. } => Some(sources[0].node.clone()),
            _ => None,
        });
        first.collect()
    };
    rig.uploaded(job, "x", 1_000);
    assert_eq!(first_sources(&mut rig), [None, None], "both are fed by the base");
    rig.live(31, &names);
    rig.orders.clear();
    rig.uploaded(job, "y", 1_000);
    assert_eq!(first_sources(&mut rig).iter().flatten().count(), 1, "a chain");
}

#[test]
fn node_that_a_neighbour_sees_is_asked_again_later_and_not_mended() {
    let names = ["a", "b"];
    let mut rig = Rig::with_nodes(&names);
    let job = rig.job(Targets::All);
    let (key, _) = rig.uploaded(job, "x", 1_000);
    let done = rig.completed(key, "b");
    rig.report("b", [Report::Received { key }, done]).unwrap();
    rig.book.end_job(CLIENT, job, rig.at).unwrap();
    rig.orders.clear();
    let ask = |rig: &mut Rig| {
        for _ in 0..90 {
            rig.live(1, &["b"]);
            let orders = rig.orders_of("b");
            let asked = orders.into_iter().find_map(|order| match order {
                NodeOrder::Ask { node, query, envelope, .. } => Some((node, query, envelope)),
                _ => None,
            });
            if let Some(asked) = asked {
                return asked;
            }
        }
        panic!("no neighbour is asked");
    };
    let (node, query, envelope) = ask(&mut rig);
    assert_eq!(node, name("a"));
    let envelope = base_keys().verify_key().open_envelope(&envelope).unwrap();
    assert_eq!(
        (envelope.node, &envelope.orders[..]),
        (name("a"), &[NodeOrder::Query { query }][..])
    );
    let alive = Alive { node: name("a"), query, open: 1, is_online: false };
    // What another one has signed says nothing of it.
    let forged = sign_answer(&node_keys(&name("b")), &alive);
    let said = |answer: Option<SignedAnswer>| Report::Neighbour { node: name("a"), query, answer };
    rig.report("b", [said(None), said(Some(forged))]).unwrap();
    assert!(!rig.kinds().contains(&"node.seen"));
    rig.report("b", [said(Some(sign_answer(&node_keys(&name("a")), &alive)))]).unwrap();
    assert_eq!(rig.last_event("node.seen").detail["by"], "b");
    rig.live(8, &["b"]);
    assert!(rig.kinds().contains(&"wait.parted"));
    // The next period: nobody sees it any more.
    rig.orders.clear();
    ask(&mut rig);
    rig.live(8, &["b"]);
    assert!(rig.kinds().contains(&"repair.begun"));
    let repair = rig.book.node(&name("a")).unwrap().repair.unwrap();
    assert_eq!(repair.phase, CarePhase::Repairing);
}
