//! Wait periods, questions, repairs, and nodes that are back.

use super::*;
use crate::dist::wire::agent::OpenCommand;
use crate::dist::wire::job::{CarePhase, JobState, Late, NodeState, Reason, RepairCause};

/// The number of the newest question to a node, and of orders to begin anew.
fn questions(orders: &[NodeOrder]) -> Vec<u64> {
    let number = |order: &NodeOrder| match order {
        NodeOrder::Query { query } => Some(*query),
        _ => None,
    };
    orders.iter().filter_map(number).collect()
}

/// The number of the newest probe.
fn probe(orders: &[NodeOrder]) -> Option<u64> {
    let number = |order: &NodeOrder| match order {
        NodeOrder::Probe { number, .. } => Some(*number),
        _ => None,
    };
    orders.iter().rev().find_map(number)
}

fn has_restart(orders: &[NodeOrder]) -> bool {
    orders.iter().any(|order| matches!(order, NodeOrder::Restart { .. }))
}

impl Rig {
    /// The node answers the newest question with these open commands.
    fn answer(&mut self, node: &str, commands: Vec<OpenCommand>) -> Vec<NodeOrder> {
        let orders = self.orders_of(node);
        let query = *questions(&orders).last().expect("it was asked");
        let open = u64::try_from(commands.len()).unwrap();
        self.report(node, [Report::Answer { query, open, commands }]).unwrap();
        orders
    }

    /// The node is back, answers, and has fetched the probe, or has not.
    fn shown(&mut self, node: &str, commands: Vec<OpenCommand>, fault: Option<&str>) {
        self.answer(node, commands);
        assert!(self.phase(node).is_some(), "it is not active before that");
        let number = probe(&self.orders_of(node)).expect("it is probed");
        self.report(node, [Report::Probed { number, fault: fault.map(str::to_owned) }]).unwrap();
    }

    fn node_state(&self, node: &str) -> NodeState {
        self.book.node(&name(node)).unwrap().state
    }

    fn phase(&self, node: &str) -> Option<CarePhase> {
        self.book.node(&name(node)).unwrap().repair.map(|repair| repair.phase)
    }

    fn count(&self, kind: &str) -> usize {
        self.events.iter().filter(|event| event.kind == kind).count()
    }

    /// A put at two nodes; `b` has it, `a` has begun. The job has ended for its client.
    fn half_done(&mut self) -> CommandKey {
        self.half_done_with(Late::Deliver)
    }

    fn half_done_with(&mut self, late: Late) -> CommandKey {
        let mut request = job_request(Targets::All);
        request.policy.late = late;
        let job = self.book.request_job(CLIENT, request, self.at).unwrap().job_id;
        let (key, _) = self.uploaded(job, "x", 1_000);
        self.report("a", [Report::Received { key }, fetching(key, 10, None)]).unwrap();
        self.report("b", [Report::Received { key }, self.completed(key, "b")]).unwrap();
        self.book.end_job(CLIENT, job, self.at).unwrap();
        self.commit();
        self.orders_of("a");
        key
    }

    /// Until `a`, which says nothing, is given up.
    fn give_up_a(&mut self) {
        for _ in 0..240 {
            if self.node_state("a") == NodeState::FailedHw {
                return;
            }
            self.live(1, &["b"]);
        }
        panic!("a is {:?}", self.node_state("a"));
    }

    /// `a` is back, and says that it has nothing open.
    fn back(&mut self) {
        self.orders_of("a");
        self.hello("a", 2).unwrap();
        assert_eq!(self.node_state("a"), NodeState::Activating);
        self.shown("a", vec![], None);
    }
}

fn open(key: CommandKey, offset: u64, reason: Option<Reason>) -> OpenCommand {
    let state = if reason.is_some() { DeliveryState::RetryWait } else { DeliveryState::Fetching };
    OpenCommand { key, state, offset, reason }
}

#[test]
fn node_that_got_on_is_asked_behind_each_period_and_extended() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    let key = rig.half_done();
    for (period, offset) in [(1, 50), (2, 60), (3, 70), (4, 80)] {
        rig.live(29, &["a", "b"]);
        assert_eq!((rig.count("wait.over"), rig.count("wait.asked")), (period - 1, period - 1));
        rig.live(1, &["a", "b"]);
        assert_eq!((rig.count("wait.over"), rig.count("wait.asked")), (period, period));
        rig.answer("a", vec![open(key, offset, None)]);
        assert_eq!(rig.last_event("wait.extended").detail["got_on"], true);
        assert_eq!(rig.last_event("wait.extended").job, Some(key.job));
    }
    assert_eq!(rig.node_state("a"), NodeState::Active);
    rig.report("a", [rig.completed(key, "a")]).unwrap();
    assert_eq!(rig.view(key.job).state, JobState::Completed);
    rig.live(100, &["a", "b"]);
    assert_eq!(rig.count("wait.over"), 4);
}

#[test]
fn period_has_the_time_that_nodes_need_at_their_rates() {
    let mut rig = Rig::with_nodes(&["a"]);
    let job = rig.job(Targets::All);
    let (key, _) = rig.uploaded(job, "x", 1_000);
    rig.report("a", [Report::Received { key }, fetching(key, 0, None)]).unwrap();
    // 100 s at the rate of now, which counts once it has settled.
    rig.report("a", [Report::Progress { key, offset: 0, rate: 10 }]).unwrap();
    rig.live(31, &["a"]);
    assert_eq!(rig.last_event("wait.over").detail["seconds"], 30);
    rig.answer("a", vec![open(key, 0, None)]);
    rig.live(199, &["a"]);
    assert_eq!(rig.count("wait.over"), 1);
    rig.live(3, &["a"]);
    assert_eq!(rig.last_event("wait.over").detail["seconds"], 200);
}

#[test]
fn nobody_is_asked_while_an_upload_of_the_job_goes_on() {
    let mut rig = Rig::with_nodes(&["a"]);
    let job = rig.job(Targets::All);
    let (key, _) = rig.uploaded(job, "x", 1_000);
    let other = rig.command(job, put("y"));
    rig.report("a", [Report::Received { key }, Report::Received { key: other }]).unwrap();
    rig.live(300, &["a"]);
    assert_eq!((rig.count("wait.over"), rig.count("wait.asked")), (0, 0));
    let content = rig.content_of(other);
    rig.book.upload_ended(content, end(10), rig.at).unwrap();
    rig.live(29, &["a"]);
    assert_eq!(rig.count("wait.asked"), 0);
    rig.live(32, &["a"]);
    assert!(rig.count("wait.asked") > 0);
}

#[test]
fn node_that_never_answers_is_asked_three_times_tried_three_times_and_given_up() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    let key = rig.half_done();
    let at_ns = 1_770_000_000_000_000_000;
    rig.book.expect_node(&name("a"), Some(at_ns), rig.at).unwrap();
    rig.live(31, &["b"]);
    assert_eq!((rig.node_state("a"), rig.count("wait.asked")), (NodeState::Down, 1));
    rig.live(4, &["b"]);
    assert_eq!(rig.count("wait.asked"), 3);
    rig.live(2, &["b"]);
    assert_eq!((rig.node_state("a"), rig.count("repair.tried")), (NodeState::Repairing, 1));
    rig.live(5, &["b"]);
    assert_eq!(rig.count("repair.tried"), 2);
    rig.live(30, &["b"]);
    assert_eq!(rig.count("repair.tried"), 3);
    assert_eq!(rig.view(key.job).state, JobState::Closing);
    rig.live(121, &["b"]);
    assert_eq!(rig.node_state("a"), NodeState::FailedHw);
    assert_eq!(rig.delivery(key, "a").reason, Some(Reason::NodeFailed));
    assert_eq!(rig.view(key.job).state, JobState::CompletedWithFailures);
    let end = &rig.last_event("job.completed_with_failures").detail["away"][0];
    assert_eq!((&end["node"], &end["expected_back_ns"]), (&"a".into(), &at_ns.into()));
    assert_eq!(rig.last_event("repair.failed").job, Some(key.job));
    let report = rig.book.report(CLIENT, key.job).unwrap();
    let node = report.nodes.iter().find(|node| node.node == name("a")).unwrap();
    assert_eq!((node.state, node.expected_back_ns), (NodeState::FailedHw, Some(at_ns)));
}

#[test]
fn node_that_is_back_behind_the_end_of_a_job_gets_what_it_missed() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    let key = rig.half_done();
    rig.give_up_a();
    rig.pass(100);
    rig.restart();
    assert_eq!(rig.node_state("a"), NodeState::FailedHw, "that survives a start of the base");
    rig.back();
    assert_eq!(rig.node_state("a"), NodeState::Active);
    assert_eq!(rig.last_event("late.begun").detail["deliveries"], 1);
    assert_eq!(rig.view(key.job).state, JobState::Closing);
    let orders = rig.orders_of("a");
    assert!(orders.iter().any(|order| matches!(order, NodeOrder::Command { .. })), "{orders:?}");
    rig.report("a", [Report::Received { key }, rig.completed(key, "a")]).unwrap();
    assert_eq!(rig.view(key.job).state, JobState::Completed);
    let report = rig.book.report(CLIENT, key.job).unwrap();
    let is_late: Vec<(&str, bool)> =
        report.nodes.iter().map(|node| (node.node.as_str(), node.deliveries[0].is_late)).collect();
    assert_eq!(is_late, [("a", true), ("b", false)]);
}

#[test]
fn node_that_is_back_gets_nothing_when_its_job_says_so_or_its_contents_are_gone() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    let key = rig.half_done_with(Late::Drop);
    rig.give_up_a();
    rig.back();
    assert_eq!(rig.count("late.dropped"), 1);
    assert_eq!(rig.view(key.job).state, JobState::CompletedWithFailures);
    let mut rig = Rig::with_nodes(&["a", "b"]);
    rig.options.timeouts.content_kept = std::time::Duration::from_secs(60);
    rig.restart();
    let key = rig.half_done();
    rig.give_up_a();
    rig.live(130, &["b"]);
    rig.back();
    assert_eq!((rig.count("late.begun"), rig.count("late.dropped")), (0, 0));
    assert_eq!(rig.view(key.job).state, JobState::CompletedWithFailures);
}

#[test]
fn node_that_is_back_while_it_is_being_mended_goes_on_where_it_was() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    let key = rig.half_done();
    rig.live(45, &["b"]);
    assert_eq!(rig.node_state("a"), NodeState::Repairing);
    rig.restart();
    assert_eq!(rig.phase("a"), Some(CarePhase::Repairing));
    let orders = rig.hello("a", 2).unwrap();
    assert_eq!(rig.node_state("a"), NodeState::Activating);
    let query = *questions(&orders).last().unwrap();
    // It has lost the command: it is said again.
    rig.orders_of("a");
    rig.report("a", [Report::Answer { query, open: 0, commands: vec![] }]).unwrap();
    let orders = rig.orders_of("a");
    assert_eq!(rig.node_state("a"), NodeState::Activating);
    let number = probe(&orders).unwrap();
    rig.report("a", [Report::Probed { number, fault: None }]).unwrap();
    assert_eq!((rig.node_state("a"), rig.phase("a")), (NodeState::Active, None));
    assert!(orders.iter().any(|order| matches!(order, NodeOrder::Command { .. })), "{orders:?}");
    assert_eq!(rig.count("repair.ended"), 1);
    rig.report("a", [rig.completed(key, "a")]).unwrap();
    assert_eq!(rig.view(key.job).state, JobState::Completed);
}

#[test]
fn node_that_answers_and_does_not_get_on_has_other_sources_then_begins_anew() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    let key = rig.half_done();
    for period in 1..=3 {
        rig.live(31, &["a", "b"]);
        let orders = rig.answer("a", vec![open(key, 10, None)]);
        assert!(!has_restart(&orders), "{orders:?}");
        assert_eq!(rig.count("wait.reassigned"), period.min(2));
    }
    assert_eq!(rig.node_state("a"), NodeState::Repairing);
    assert_eq!(rig.last_event("repair.begun").detail["cause"], "app_wedged");
    assert!(has_restart(&rig.orders_of("a")));
    rig.live(1, &["a", "b"]);
    assert_eq!(rig.node_state("a"), NodeState::Repairing, "heartbeats are no cure");
    rig.hello("a", 2).unwrap();
    rig.shown("a", vec![open(key, 10, None)], None);
    assert_eq!(rig.node_state("a"), NodeState::Active);
}

#[test]
fn node_that_is_back_and_gets_no_bytes_of_the_base_is_mended_on_and_then_fails_what_is_open() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    let key = rig.half_done();
    rig.live(45, &["b"]);
    assert_eq!((rig.node_state("a"), rig.count("repair.tried")), (NodeState::Repairing, 2));
    rig.hello("a", 2).unwrap();
    rig.shown("a", vec![open(key, 10, None)], Some("nothing came"));
    assert_eq!(rig.last_event("repair.probe_failed").detail["fault"], "nothing came");
    assert_eq!(rig.node_state("a"), NodeState::Repairing);
    assert_eq!(rig.last_event("repair.tried").detail["cause"], "probe_failed");
    assert!(has_restart(&rig.orders_of("a")));
    // The next one is not told of at all; another stream of orders is told of it again.
    rig.hello("a", 3).unwrap();
    rig.answer("a", vec![open(key, 10, None)]);
    let number = probe(&rig.orders_of("a")).unwrap();
    assert_eq!(probe(&rig.book.open_orders(&name("a"))), Some(number));
    rig.live(29, &["a", "b"]);
    assert_eq!(rig.node_state("a"), NodeState::Activating);
    rig.live(2, &["a", "b"]);
    // All tries are over. It answers, so it is no broken node.
    assert_eq!(rig.count("repair.failed"), 1);
    assert_eq!(rig.last_event("repair.failed").detail["cause"], "probe_failed");
    assert_eq!((rig.node_state("a"), rig.phase("a")), (NodeState::Active, None));
    assert_eq!(rig.delivery(key, "a").reason, Some(Reason::Attempts));
    // What comes now is for nothing.
    rig.report("a", [Report::Probed { number, fault: None }]).unwrap();
    assert_eq!(rig.count("repair.ended"), 0);
}

#[test]
fn living_node_on_which_no_repair_has_an_effect_fails_its_deliveries_and_stays() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    rig.options.has_repair_hook = true;
    rig.restart();
    let key = rig.half_done();
    let mut hooks = Vec::new();
    for _ in 0..400 {
        rig.live(1, &["a", "b"]);
        if let Some(query) = questions(&rig.orders_of("a")).last().copied() {
            let commands = vec![open(key, 10, None)];
            rig.report("a", [Report::Answer { query, open: 1, commands }]).unwrap();
        }
        hooks.extend(rig.book.take_repair_hooks());
    }
    let numbers: Vec<u32> = hooks.iter().map(|hook| hook.number).collect();
    assert_eq!(numbers, [2, 3]);
    assert_eq!(hooks[0].cause, RepairCause::AppWedged);
    rig.book.repair_hook_ended(&hooks[0], "exit 1", rig.at);
    rig.commit();
    assert_eq!(rig.last_event("repair.hook").detail["outcome"], "exit 1");
    assert_eq!(rig.delivery(key, "a").reason, Some(Reason::Attempts));
    assert_eq!(rig.node_state("a"), NodeState::Active);
    assert_eq!(rig.view(key.job).state, JobState::CompletedWithFailures);
}

#[test]
fn reason_of_a_failed_attempt_says_what_is_mended() {
    for (reason, cause, done) in [
        (Reason::NoSource, "source_bad", "sources"),
        (Reason::BadHash, "source_bad", "sources"),
        (Reason::Io, "journal_bad", "renew"),
    ] {
        let mut rig = Rig::with_nodes(&["a", "b"]);
        let key = rig.half_done();
        let detail = "x".to_owned();
        rig.live(28, &["a", "b"]);
        rig.report("a", [Report::Failed { key, reason, detail, is_final: false }]).unwrap();
        rig.live(3, &["a", "b"]);
        rig.answer("a", vec![open(key, 10, Some(reason))]);
        rig.orders_of("b");
        let begun = rig.last_event("repair.begun");
        assert_eq!(begun.detail["cause"], cause, "{:?}", rig.kinds());
        assert_eq!(rig.last_event("repair.tried").detail["done"][0], done);
        let orders = rig.orders_of("a");
        let is_done = |order: &NodeOrder| match order {
            NodeOrder::Renew { key: renewed, .. } => reason == Reason::Io && *renewed == key,
            NodeOrder::Sources { .. } => reason != Reason::Io,
            _ => false,
        };
        assert!(orders.iter().any(is_done), "{reason:?}: {orders:?}");
        // What it does helps: that is seen before the next try.
        rig.report("a", [fetching(key, 500, None)]).unwrap();
        rig.live(6, &["a", "b"]);
        rig.shown("a", vec![open(key, 600, None)], None);
        assert_eq!(rig.node_state("a"), NodeState::Active, "{:?}", rig.kinds());
    }
}

#[test]
fn operator_asks_mends_and_activates_a_node() {
    let mut rig = Rig::with_nodes(&["a"]);
    rig.book.query_node(&name("a"), rig.at).unwrap();
    rig.commit();
    rig.answer("a", vec![]);
    assert_eq!(rig.node_state("a"), NodeState::Active);
    let view = rig.book.repair_node(&name("a"), rig.at).unwrap();
    assert_eq!(view.repair.unwrap().cause, Some(RepairCause::Operator));
    rig.commit();
    assert_eq!(rig.node_state("a"), NodeState::Repairing);
    assert!(has_restart(&rig.orders_of("a")));
    rig.book.repair_node(&name("a"), rig.at).unwrap();
    rig.commit();
    assert_eq!(rig.count("repair.begun"), 1, "it is under way");
    rig.book.activate_node(&name("a"), rig.at).unwrap();
    rig.commit();
    rig.shown("a", vec![], None);
    assert_eq!((rig.node_state("a"), rig.phase("a")), (NodeState::Active, None));
    rig.book.drain_node(&name("a"), rig.at).unwrap();
    rig.book.repair_node(&name("a"), rig.at).unwrap();
    rig.commit();
    assert_eq!(rig.node_state("a"), NodeState::Draining, "a repair does not undo that");
    rig.hello("a", 9).unwrap();
    rig.shown("a", vec![], None);
    assert_eq!((rig.node_state("a"), rig.phase("a")), (NodeState::Draining, None));
    rig.book.retire_node(&name("a"), rig.at).unwrap();
    let refused = rig.book.repair_node(&name("a"), rig.at).unwrap_err();
    assert_eq!(refused.reason(), "node_retired");
}

#[test]
fn answer_that_comes_twice_or_late_changes_nothing() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    let key = rig.half_done();
    rig.live(31, &["a", "b"]);
    let query = *questions(&rig.orders_of("a")).last().unwrap();
    let answer = Report::Answer { query, open: 1, commands: vec![open(key, 10, None)] };
    for _ in 0..5 {
        rig.report("a", [answer.clone()]).unwrap();
    }
    assert_eq!(rig.count("wait.extended"), 1);
    assert_eq!(rig.node_state("a"), NodeState::Active);
}
