//! Policies of jobs: what nodes and the uplink of the base are told of them, and how they change.

use super::*;
use crate::dist::uplink::Share;
use crate::dist::wire::job::{Limit, PolicyChange};

/// A job with this policy, and a put of it that is on its way.
fn begun(rig: &mut Rig, policy: Policy) -> (JobId, CommandKey) {
    let request = JobRequest { policy, ..job_request(Targets::All) };
    let job = rig.book.request_job(CLIENT, request, rig.at).unwrap().job_id;
    rig.commit();
    let (key, _) = rig.uploaded(job, "x", 1 << 20);
    (job, key)
}

fn paused(paused: bool) -> PolicyChange {
    PolicyChange { paused: Some(paused), ..PolicyChange::default() }
}

impl Rig {
    fn change(&mut self, job: JobId, change: PolicyChange) -> Result<JobView, Refusal> {
        let changed = self.book.change_job(CLIENT, job, change, None, self.at);
        self.commit();
        changed
    }

    /// The terms that a node was told since the last call.
    fn terms_of(&mut self, node: &str) -> Vec<(Epoch, Terms)> {
        terms_in(&self.orders_of(node))
    }
}

fn terms_in(orders: &[NodeOrder]) -> Vec<(Epoch, Terms)> {
    let terms = orders.iter().filter_map(|order| match order {
        NodeOrder::Terms { epoch, terms, .. } => Some((*epoch, terms.clone())),
        _ => None,
    });
    terms.collect()
}

#[test]
fn nodes_are_told_terms_before_commands_and_again_with_all_that_is_open() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    let policy = Policy { priority: 3, per_node_rate: Some(50_000), ..Policy::default() };
    let (job, _) = begun(&mut rig, policy);
    let expected = Terms { priority: 3, per_node_rate: Some(50_000), ..Terms::default() };
    let orders = rig.orders_of("a");
    assert!(matches!(&orders[0], NodeOrder::Terms { terms, .. } if *terms == expected));
    let again = rig.hello("b", 2).unwrap();
    assert!(matches!(&again[0], NodeOrder::Terms { terms, .. } if *terms == expected));
    let share = Share { weight: 4, max_rate: None, is_open: true };
    assert_eq!(rig.book.take_shares(), [(job, Some(share))]);
    rig.book.cancel_job(CLIENT, job, rig.at).unwrap();
    assert_eq!(rig.book.take_shares(), [(job, None)]);
}

#[test]
fn job_without_terms_costs_no_order_but_says_so_where_others_may_be_kept() {
    let mut rig = Rig::with_nodes(&["a"]);
    let (job, _) = begun(&mut rig, Policy::default());
    assert_eq!(rig.terms_of("a"), []);
    assert_eq!(rig.book.take_shares(), []);
    rig.change(job, paused(true)).unwrap();
    let before = rig.terms_of("a");
    // The node does not hear of the end of the pause, nor does the base that starts anew remember.
    rig.pass(60);
    rig.book.tick(rig.at);
    rig.change(job, paused(false)).unwrap();
    assert_eq!(rig.terms_of("a"), []);
    rig.restart();
    let hello = rig.greeting("a", 2);
    rig.book.hello(hello, HelloBy::Node(name("a")), rig.at).unwrap();
    let told = terms_in(&rig.book.open_orders(&name("a")));
    assert_eq!(told[0].1, Terms::default());
    assert!(told[0].0 > before[0].0, "{told:?} behind {before:?}");
}

/// Nodes that had not heard the terms of a job with its acceptance went above its rates: its
/// commands are told without.
#[test]
fn terms_of_a_job_without_commands_are_told_when_a_stream_of_orders_begins() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    let policy = Policy { max_rate: Some(50_000), ..Policy::default() };
    let of_a = Targets::Nodes(vec![name("a")]);
    let request = JobRequest { policy, ..job_request(of_a) };
    let job = rig.book.request_job(CLIENT, request, rig.at).unwrap().job_id;
    rig.commit();
    // Its stream was lost with the order.
    rig.orders.clear();
    let told = |rig: &mut Rig, node: &str| terms_in(&rig.book.open_orders(&name(node)));
    let is_told = |terms: Vec<(Epoch, Terms)>| terms.iter().any(|(_, t)| t.max_rate.is_some());
    assert!(is_told(told(&mut rig, "a")) && !is_told(told(&mut rig, "b")));
    rig.restart();
    assert!(is_told(told(&mut rig, "a")));
    // So was one that did not live then: it hears of it with its next sign of life.
    rig.pass(30);
    rig.book.tick(rig.at);
    rig.report("a", []).unwrap();
    assert!(is_told(rig.terms_of("a")));
    rig.book.cancel_job(CLIENT, job, rig.at).unwrap();
    assert_eq!(told(&mut rig, "a"), []);
}

#[test]
fn policy_changes_while_a_job_runs_unless_it_was_changed_meanwhile() {
    let mut rig = Rig::with_nodes(&["a"]);
    let (job, key) = begun(&mut rig, Policy::default());
    let seen = rig.view(job).policy.tag();
    let change = PolicyChange { max_rate: Some(Some(90_000)), ..PolicyChange::default() };
    let view = rig.change(job, change).unwrap();
    assert_eq!((view.policy.max_rate, view.limited_by), (Some(90_000), Some(Limit::Rate)));
    assert_eq!(rig.rows.jobs[0].policy.max_rate, Some(90_000));
    assert_eq!(rig.last_event("job.changed").detail["policy"]["max_rate"], 90_000);
    let refused = rig.book.change_job(CLIENT, job, paused(true), Some(&seen), rig.at).unwrap_err();
    assert_eq!(refused, Refusal::PolicyChanged(job));
    let low = PolicyChange { per_node_rate: Some(Some(1)), ..PolicyChange::default() };
    assert_eq!(rig.change(job, low).unwrap_err().reason(), "bad_rate");
    let events = rig.events.len();
    rig.change(job, PolicyChange::default()).unwrap();
    assert_eq!(rig.events.len(), events, "nothing was changed");
    let lifted = PolicyChange { max_rate: Some(None), ..PolicyChange::default() };
    assert_eq!(rig.change(job, lifted).unwrap().limited_by, None);
    rig.book.end_job(CLIENT, job, rig.at).unwrap();
    let completed = rig.completed(key, "a");
    rig.report("a", [completed]).unwrap();
    assert!(matches!(rig.change(job, paused(true)), Err(Refusal::JobState { .. })));
    let other = rig.book.change_job("other", job, paused(true), None, rig.at);
    assert_eq!(other.unwrap_err(), Refusal::UnknownJob(job));
}

#[test]
fn plan_of_what_is_on_its_way_follows_a_rate_that_changes() {
    let mut rig = Rig::new();
    // Uplinks of a fifth of the downlinks: the base feeds all of them.
    for node in ["a", "b", "c"] {
        let hello = Hello {
            up_rate_cap: Some(1_000_000),
            down_rate_cap: Some(5_000_000),
            ..rig.greeting(node, 1)
        };
        rig.book.hello(hello, HelloBy::Join, rig.at).unwrap();
        rig.book.open_orders(&name(node));
        rig.commit();
    }
    let (job, key) = begun(&mut rig, Policy::default());
    for node in ["a", "b", "c"] {
        rig.report(node, [Report::Received { key }, fetching(key, 0, None)]).unwrap();
        assert_eq!(last_sources(&rig.orders_of(node)), ["-"]);
    }
    let rate = |rate| PolicyChange { max_rate: Some(rate), ..PolicyChange::default() };
    rig.change(job, rate(Some(800_000))).unwrap();
    assert_eq!(rig.orders_of("a").len(), 1, "its terms only");
    assert_eq!(last_sources(&rig.orders_of("b")), ["a", "-"]);
    assert_eq!(last_sources(&rig.orders_of("c")), ["b", "a", "-"]);
    rig.change(job, rate(None)).unwrap();
    assert_eq!(last_sources(&rig.orders_of("b")), ["-"]);
    assert_eq!(last_sources(&rig.orders_of("c")), ["-"]);
    let change = PolicyChange { priority: Some(7), ..PolicyChange::default() };
    rig.change(job, change).unwrap();
    for node in ["a", "b", "c"] {
        let orders = rig.orders_of(node);
        let is_terms = |order: &NodeOrder| matches!(order, NodeOrder::Terms { .. });
        assert!(orders.last().is_some_and(is_terms), "{orders:?}");
    }
}

#[test]
fn window_opens_and_closes_by_the_clock_of_the_base_and_nothing_counts_as_stalled() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    // It is midnight.
    let window = "00:01-00:02".parse().ok();
    let (job, key) = begun(&mut rig, Policy { window, ..Policy::default() });
    rig.report("a", [Report::Received { key }, fetching(key, 65_536, None)]).unwrap();
    rig.report("b", [Report::Received { key }, fetching(key, 0, Some("a"))]).unwrap();
    let opens_at_ns = Some(EPOCH_NS + 60_000_000_000);
    assert_eq!(rig.view(job).limited_by, Some(Limit::Window { opens_at_ns }));
    rig.orders.clear();
    rig.book.take_shares();
    rig.live(59, &["a", "b"]);
    assert!(rig.orders_of("b").is_empty(), "its source has more, and is not to blame");
    rig.live(2, &["a", "b"]);
    assert_eq!(rig.view(job).limited_by, None);
    let (told, shares) = (rig.terms_of("a"), rig.book.take_shares());
    assert!(told.len() == 1 && told[0].1.hours.as_ref().is_some_and(|hours| hours.is_open));
    assert!(shares.len() == 1 && shares[0].1.is_some_and(|share| share.is_open));
    rig.live(60, &["a", "b"]);
    assert!(matches!(rig.view(job).limited_by, Some(Limit::Window { .. })));
    assert!(rig.book.take_shares()[0].1.is_some_and(|share| !share.is_open));
}

#[test]
fn base_that_starts_anew_knows_what_is_paused() {
    let mut rig = Rig::with_nodes(&["a"]);
    let (job, _) = begun(&mut rig, Policy { paused: true, ..Policy::default() });
    rig.restart();
    assert_eq!(rig.view(job).limited_by, Some(Limit::Paused));
    assert!(rig.book.take_shares()[0].1.is_some_and(|share| !share.is_open));
    let orders = rig.hello("a", 2).unwrap();
    assert!(terms_in(&orders)[0].1.is_paused);
}
