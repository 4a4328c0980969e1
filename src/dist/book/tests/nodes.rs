//! Nodes: joining, hello, silence, reports by number, and what operators do.

use super::*;
use crate::dist::keys::VerifyKey;
use crate::dist::token::{Token, TokenKind};
use crate::dist::wire::job::{JobState, NodeState};

fn state(rig: &Rig, node: &str) -> NodeState {
    rig.book.node(&name(node)).unwrap().state
}

#[test]
fn node_joins_and_is_known_by_its_own_token() {
    let mut rig = Rig::new();
    let hello = rig.greeting("a", 1);
    let welcome = rig.book.hello(hello, HelloBy::Join, rig.at).unwrap();
    rig.commit();
    let token = welcome.node_token.unwrap();
    assert!(token.starts_with(TokenKind::Node.prefix()));
    assert_eq!(rig.book.node_of_token(&token), Some(&name("a")));
    assert_eq!(rig.book.node_of_token("hdn_other"), None);
    assert_eq!(welcome.base_key.parse::<VerifyKey>(), Ok(base_keys().verify_key()));
    assert!(rig.book.is_join_token("hdj_join"));
    assert!(!rig.book.is_join_token(&token));
    // Only the hash is kept.
    assert!(!format!("{:?}", rig.rows).contains(&token[4..]));
    assert_eq!(rig.rows.nodes[0].token_hash, Token::parse(&token).unwrap().hash());
}

#[test]
fn node_that_lost_its_token_joins_again_under_its_key_and_the_old_token_ends() {
    let mut rig = Rig::new();
    let hello = rig.greeting("a", 1);
    let join = |rig: &mut Rig, hello| rig.book.hello(hello, HelloBy::Join, rig.at);
    let first = join(&mut rig, hello.clone()).unwrap().node_token.unwrap();
    let second = join(&mut rig, hello.clone()).unwrap().node_token.unwrap();
    assert_eq!(rig.book.node_of_token(&first), None);
    assert_eq!(rig.book.node_of_token(&second), Some(&name("a")));
    let other = Hello { public_key: node_keys(&name("b")).verify_key().to_string(), ..hello };
    assert_eq!(join(&mut rig, other), Err(Refusal::NodeExists(name("a"))));
}

#[test]
fn hello_of_another_name_key_or_older_start_is_refused() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    let ask = |rig: &mut Rig, hello: Hello, of: &str| {
        rig.book.hello(hello, HelloBy::Node(name(of)), rig.at).unwrap_err().reason()
    };
    let hello = rig.greeting("a", 5);
    assert_eq!(ask(&mut rig, hello.clone(), "b"), "wrong_node");
    assert_eq!(ask(&mut rig, Hello { node: name("z"), ..hello.clone() }, "a"), "wrong_node");
    let key = node_keys(&name("z")).verify_key().to_string();
    assert_eq!(ask(&mut rig, Hello { public_key: key, ..hello.clone() }, "a"), "key_changed");
    rig.hello("a", 5).unwrap();
    let older = Hello { incarnation: Incarnation(4), ..hello.clone() };
    assert_eq!(ask(&mut rig, older, "a"), "stale_incarnation");
    let bad = |addr: &str| Hello { addr: addr.to_owned(), ..hello.clone() };
    for addr in ["", "host:1", "0.0.0.0:9000", "10.0.0.1:0", "[::]:9"] {
        assert_eq!(ask(&mut rig, bad(addr), "a"), "bad_addr", "{addr}");
    }
    let no_key = Hello { public_key: "x".to_owned(), ..hello.clone() };
    assert_eq!(ask(&mut rig, no_key, "a"), "bad_key");
    let labels = [("a=b".to_owned(), String::new())].into();
    assert_eq!(ask(&mut rig, Hello { labels, ..hello }, "a"), "bad_labels");
    assert!(rig.book.take_changes().is_empty());
}

#[test]
fn silent_node_is_suspect_then_down_and_active_when_heard() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    rig.live(5, &["b"]);
    assert_eq!(state(&rig, "a"), NodeState::Active);
    rig.live(1, &["b"]);
    assert_eq!(state(&rig, "a"), NodeState::Suspect);
    rig.live(9, &["b"]);
    assert_eq!((state(&rig, "a"), state(&rig, "b")), (NodeState::Down, NodeState::Active));
    assert_eq!(rig.last_event("node.down").detail["silent_ms"], 15_000);
    rig.report("a", []).unwrap();
    assert_eq!(state(&rig, "a"), NodeState::Active);
}

#[test]
fn nodes_are_not_blamed_for_a_base_that_stood_still() {
    let mut rig = Rig::with_nodes(&["a"]);
    rig.live(1, &["a"]);
    rig.pass(60);
    rig.book.tick(rig.at);
    assert_eq!(state(&rig, "a"), NodeState::Active);
}

#[test]
fn reports_count_once_by_their_numbers() {
    let mut rig = Rig::with_nodes(&["a"]);
    let job = rig.job(Targets::All);
    let (key, _) = rig.uploaded(job, "x", 10);
    let all = vec![Report::Received { key }, fetching(key, 0, None), rig.completed(key, "a")];
    let batch = rig.batch(&name("a"), 1, all[..2].to_vec());
    assert_eq!(rig.book.reports(batch.clone(), rig.at).unwrap().taken, 2);
    rig.commit();
    let before = rig.events.len();
    assert_eq!(rig.book.reports(batch, rig.at).unwrap().taken, 2);
    let longer = rig.batch(&name("a"), 1, all);
    assert_eq!(rig.book.reports(longer.clone(), rig.at).unwrap().taken, 3);
    assert_eq!(rig.book.reports(longer, rig.at).unwrap().taken, 3);
    rig.commit();
    assert_eq!(rig.state(key, "a"), DeliveryState::Completed);
    let new: Vec<_> = rig.kinds().split_off(before);
    assert_eq!(new, ["delivery.completed", "command.completed"]);
    assert_eq!(rig.rows.nodes[0].reports_taken, 3);
}

#[test]
fn reports_of_a_start_without_hello_are_answered_with_hello_again() {
    let mut rig = Rig::with_nodes(&["a"]);
    let mut batch = rig.batch(&name("a"), 1, vec![]);
    batch.incarnation = Incarnation(2);
    let refusal = rig.book.reports(batch, rig.at).unwrap_err();
    assert_eq!((refusal.reason(), refusal.status()), ("hello_again", 409));
    // A new start numbers from 1 again.
    rig.report(
        "a",
        [Report::Progress {
            key: CommandKey { job: JobId(Uuid::from_u128(1)), command: CommandId(1) },
            offset: 1,
            rate: 1,
        }],
    )
    .unwrap();
    rig.hello("a", 2).unwrap();
    assert_eq!(rig.rows.nodes[0].reports_taken, 0);
}

#[test]
fn progress_is_shown_and_not_kept() {
    let mut rig = Rig::with_nodes(&["a"]);
    let job = rig.job(Targets::All);
    let (key, _) = rig.uploaded(job, "x", 1_000);
    rig.report("a", [Report::Received { key }, fetching(key, 0, None)]).unwrap();
    let progress = |offset| Report::Progress { key, offset, rate: 50 };
    let batch = rig.batch(&name("a"), 3, vec![progress(500), progress(400)]);
    rig.book.reports(batch, rig.at).unwrap();
    assert!(rig.book.take_changes().is_empty());
    let view = |rig: &Rig| {
        let view = &rig.book.deliveries(CLIENT, job, &DeliveryFilter::default()).unwrap()[0];
        (view.offset, view.rate)
    };
    assert_eq!(view(&rig), (500, 50), "offsets grow");
    // A new start goes on from what its journal had.
    rig.hello("a", 2).unwrap();
    rig.report("a", [fetching(key, 300, None)]).unwrap();
    assert_eq!(view(&rig), (300, 0));
}

#[test]
fn command_that_a_living_node_does_not_take_is_said_again() {
    let mut rig = Rig::with_nodes(&["a"]);
    let job = rig.job(Targets::All);
    let key = rig.command(job, mkdir("x"));
    rig.orders.clear();
    rig.live(9, &["a"]);
    assert!(rig.orders_of("a").is_empty());
    rig.live(1, &["a"]);
    let orders = rig.orders_of("a");
    assert!(matches!(&orders[..], [NodeOrder::Command { key: of, .. }] if *of == key));
    rig.report("a", [Report::Received { key }]).unwrap();
    rig.live(20, &["a"]);
    assert!(rig.orders_of("a").is_empty());
}

#[test]
fn node_that_was_away_hears_of_what_is_open_and_of_what_has_ended() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    let job = rig.job(Targets::All);
    let (key, _) = rig.uploaded(job, "x", 10);
    let withdrawn = rig.command(job, mkdir("y"));
    rig.live(15, &["b"]);
    rig.orders.clear();
    rig.book.cancel_command(CLIENT, withdrawn, rig.at).unwrap();
    rig.commit();
    assert!(rig.orders_of("a").is_empty(), "nothing is made for who does not live");
    for _ in 0..2 {
        let orders = rig.hello("a", 2).unwrap();
        assert_eq!(orders[0], NodeOrder::Cancel { key: withdrawn });
        assert!(matches!(&orders[1], NodeOrder::Command { key: of, .. } if *of == key));
        assert!(matches!(&orders[2], NodeOrder::Sources { .. }));
        assert_eq!(orders.len(), 3);
    }
    // Once it has lived on with them, they are not said again.
    rig.live(61, &["a", "b"]);
    let mut orders = rig.hello("a", 3).unwrap();
    // Meanwhile it was asked how far it is.
    orders.retain(|order| !matches!(order, NodeOrder::Query { .. }));
    assert_eq!(orders.len(), 2);
}

#[test]
fn node_that_speaks_of_an_unknown_job_is_told_to_forget_it() {
    let mut rig = Rig::with_nodes(&["a"]);
    let job = JobId(Uuid::from_u128(1));
    let key = CommandKey { job, command: CommandId(1) };
    rig.report("a", [Report::Received { key }]).unwrap();
    assert_eq!(rig.orders_of("a"), [NodeOrder::Forget { job }]);
}

#[test]
fn drained_node_gets_no_new_jobs_and_retired_one_is_none_any_more() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    let job = rig.job(Targets::All);
    let (key, _) = rig.uploaded(job, "x", 10);
    rig.book.end_job(CLIENT, job, rig.at).unwrap();
    assert_eq!(rig.book.drain_node(&name("a"), rig.at).unwrap().state, NodeState::Draining);
    let other = rig.job(Targets::All);
    assert_eq!(rig.view(other).servers.len(), 1);
    assert_eq!(rig.book.undrain_node(&name("a"), rig.at).unwrap().state, NodeState::Active);
    let done = rig.completed(key, "b");
    rig.report("b", [done]).unwrap();
    assert_eq!(rig.book.retire_node(&name("a"), rig.at).unwrap().state, NodeState::Retired);
    rig.commit();
    assert_eq!(rig.view(job).state, JobState::CompletedWithFailures);
    assert_eq!(rig.hello("a", 2), Err(Refusal::NodeRetired(name("a"))));
    let hello = rig.greeting("a", 2);
    let joins = rig.book.hello(hello, HelloBy::Join, rig.at).unwrap_err();
    assert_eq!(joins, Refusal::NodeRetired(name("a")));
    assert_eq!(rig.report("a", []), Err(Refusal::NodeRetired(name("a"))));
    let again = rig.book.drain_node(&name("a"), rig.at).unwrap_err();
    assert_eq!(again, Refusal::NodeRetired(name("a")));
    assert_eq!(rig.book.drain_node(&name("z"), rig.at).unwrap_err().reason(), "unknown_node");
    assert_eq!(rig.book.retry_job(CLIENT, job, None, rig.at), Err(Refusal::NothingToRetry));
}

#[test]
fn node_that_serves_bad_units_twice_is_no_source_any_more() {
    let mut rig = Rig::with_nodes(&["a", "b", "c"]);
    let job = rig.job(Targets::All);
    let (_, content) = rig.uploaded(job, "x", 1 << 30);
    assert_eq!(last_sources(&rig.orders_of("c")), ["b", "a", "-"]);
    let bad = |unit| Report::BadUnit { content, source: Some(name("b")), unit };
    rig.report("c", [bad(4)]).unwrap();
    assert_eq!(state(&rig, "b"), NodeState::Active);
    let event = rig.last_event("unit.bad");
    assert_eq!((&event.detail["source"], &event.detail["unit"]), (&"b".into(), &4.into()));
    rig.report("c", [bad(4)]).unwrap();
    assert_eq!(state(&rig, "b"), NodeState::Quarantined);
    assert_eq!(last_sources(&rig.orders_of("c")), ["a", "-"]);
    assert_eq!(last_sources(&rig.orders_of("b")), ["c", "a", "-"]);
    // It lives, and receives; an operator gives it back its place.
    rig.live(20, &["a", "b", "c"]);
    assert_eq!(state(&rig, "b"), NodeState::Quarantined);
    assert_eq!(rig.book.undrain_node(&name("b"), rig.at).unwrap().state, NodeState::Active);
    // Nobody is blamed by itself, nor is the base.
    let own = [Report::BadUnit { content, source: Some(name("c")), unit: 1 }; 1];
    rig.report("c", own.clone()).unwrap();
    rig.report("c", own).unwrap();
    rig.report("c", [Report::BadUnit { content, source: None, unit: 1 }]).unwrap();
    assert_eq!(state(&rig, "c"), NodeState::Active);
}

#[test]
fn new_address_of_a_node_is_in_the_lists_of_live_jobs() {
    let mut rig = Rig::with_nodes(&["a"]);
    let job = rig.job(Targets::All);
    let hello = Hello { addr: "10.9.9.9:1".to_owned(), ..rig.greeting("a", 2) };
    rig.book.hello(hello, HelloBy::Node(name("a")), rig.at).unwrap();
    let view = rig.view(job);
    assert_eq!((view.servers[0].addr.as_str(), view.list_version), ("10.9.9.9:1", 2));
}
