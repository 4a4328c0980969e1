//! Jobs and commands: from the request to the end, withdrawal and retry.

use super::*;
use crate::dist::rows::JobRow;
use crate::dist::wire::agent::NodeOrder;
use crate::dist::wire::job::{CommandState, JobState, NodeState, Reason};

#[test]
fn job_is_accepted_with_its_servers_and_ends_when_all_have_all() {
    let mut rig = Rig::with_nodes(&["b", "a"]);
    let job = rig.job(Targets::All);
    let view = rig.view(job);
    assert_eq!(view.state, JobState::Open);
    assert_eq!(view.servers.iter().map(|s| s.node.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(view.ctp_url, format!("/ctp/{job}/"));
    let (key, _) = rig.uploaded(job, "clip.mp4", 100);
    rig.book.end_job(CLIENT, job, rig.at).unwrap();
    assert_eq!(rig.view(job).state, JobState::Closing);
    for node in ["a", "b"] {
        let done = rig.completed(key, node);
        rig.report(
            node,
            [Report::Received { key }, fetching(key, 0, None), Report::Applying { key }, done],
        )
        .unwrap();
    }
    let view = rig.view(job);
    assert_eq!(view.state, JobState::Completed);
    assert_eq!((view.totals.completed, view.content_bytes), (2, 100));
    let last = rig.orders_of("a").pop();
    assert_eq!(last, Some(NodeOrder::Forget { job }));
    insta::assert_snapshot!(rig.kinds().join("\n"), @r"
    base.started
    node.joined
    node.joined
    job.accepted
    command.accepted
    upload.begun
    upload.complete
    job.closing
    delivery.received
    delivery.fetching
    command.in_progress
    delivery.applying
    delivery.completed
    delivery.received
    delivery.fetching
    delivery.applying
    delivery.completed
    command.completed
    job.completed
    ");
}

#[test]
fn same_client_ref_is_the_same_job_and_another_clients_is_not() {
    let mut rig = Rig::with_nodes(&["a"]);
    let request = JobRequest { client_ref: Some("x".to_owned()), ..job_request(Targets::All) };
    let first = rig.book.request_job(CLIENT, request.clone(), rig.at).unwrap();
    let again = rig.book.request_job(CLIENT, request.clone(), rig.at).unwrap();
    let other = rig.book.request_job("other", request, rig.at).unwrap();
    assert_eq!(first, again);
    assert_ne!(first.job_id, other.job_id);
    let unknown = rig.book.job_view("other", first.job_id).unwrap_err();
    assert_eq!(unknown, Refusal::UnknownJob(first.job_id));
    assert_eq!(rig.book.jobs(CLIENT, None, None, 0), [first]);
    assert!(rig.book.is_job_of("other", other.job_id));
}

#[test]
fn job_is_found_among_thousands_page_by_page() {
    let mut rig = Rig::with_nodes(&["a"]);
    for number in 0..5_000 {
        let client_ref = Some(format!("film{number:04}"));
        let request = JobRequest { client_ref, ..job_request(Targets::All) };
        rig.book.request_job(CLIENT, request, rig.at).unwrap();
    }
    let find = |word: &'static str, after, limit| {
        let is_found =
            move |job: &JobRow| job.client_ref.as_deref().is_some_and(|name| name.contains(word));
        let (jobs, next) = rig.book.find_jobs(CLIENT, is_found, after, limit);
        (jobs.into_iter().map(|job| job.client_ref.unwrap()).collect::<Vec<_>>(), next)
    };
    // A search looks at so many for a page, and goes on with the next one.
    let (none, next) = find("film4999", None, 10);
    assert!(none.is_empty() && next.is_some());
    assert_eq!(find("film4999", next, 10), (vec!["film4999".to_owned()], None));
    let (first, next) = find("film001", None, 6);
    assert_eq!((first.len(), first[5].as_str()), (6, "film0015"));
    assert_eq!(find("film001", next, 6).0, ["film0016", "film0017", "film0018", "film0019"]);
    assert_eq!(rig.book.find_jobs("other", |_| true, None, 10).0, []);
}

#[test]
fn targets_that_include_no_node_are_refused_and_the_refusal_is_kept() {
    let mut rig = Rig::new();
    let ask = |rig: &mut Rig, targets| {
        let refusal = rig.book.request_job(CLIENT, job_request(targets), rig.at).unwrap_err();
        rig.commit();
        refusal.reason()
    };
    assert_eq!(ask(&mut rig, Targets::All), "no_targets");
    rig.hello("a", 1).unwrap();
    assert_eq!(ask(&mut rig, Targets::Nodes(vec![])), "no_targets");
    assert_eq!(ask(&mut rig, Targets::Nodes(vec![name("z")])), "unknown_node");
    assert_eq!(ask(&mut rig, Targets::Selector("site".to_owned())), "bad_selector");
    assert_eq!(ask(&mut rig, Targets::Selector("site=north".to_owned())), "no_targets");
    assert_eq!(rig.last_event("job.denied").detail["reason"], "no_targets");
    rig.book.drain_node(&name("a"), rig.at).unwrap();
    assert_eq!(ask(&mut rig, Targets::All), "no_targets");
    assert_eq!(ask(&mut rig, Targets::Nodes(vec![name("a")])), "node_unavailable");
}

#[test]
fn selector_takes_nodes_with_all_of_its_labels() {
    let mut rig = Rig::new();
    for (node, site, tier) in
        [("a", "north", "edge"), ("b", "north", "core"), ("c", "south", "edge")]
    {
        let mut hello = rig.greeting(node, 1);
        hello.labels = [("site", site), ("tier", tier)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        rig.book.hello(hello, HelloBy::Join, rig.at).unwrap();
    }
    for (selector, expected) in [
        ("site=north", vec!["a", "b"]),
        ("tier=edge, site=north", vec!["a"]),
        ("tier=core", vec!["b"]),
    ] {
        let job = rig.job(Targets::Selector(selector.to_owned()));
        let servers = rig.view(job).servers;
        assert_eq!(servers.iter().map(|s| s.node.as_str()).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn commands_that_lead_out_of_the_folder_or_make_no_sense_are_refused() {
    let mut rig = Rig::with_nodes(&["a"]);
    let job = rig.job(Targets::All);
    let path = |text: &str| text.to_owned();
    let plain = |op| CommandRequest { op, size: None, blake3: None };
    for (request, reason) in [
        (put("../x"), "bad_path"),
        (put("/x"), "bad_path"),
        (mkdir(".headend/x"), "bad_path"),
        (plain(Op::Move { path: path("a"), to: path("b/..") }), "bad_path"),
        (plain(Op::Move { path: path("a"), to: path("a/b") }), "move_into_itself"),
        (plain(Op::Move { path: path("a"), to: path("a") }), "move_into_itself"),
        (CommandRequest { size: Some(1), ..mkdir("x") }, "no_content"),
        (CommandRequest { size: Some(u64::MAX), ..put("x") }, "too_large"),
        (
            plain(Op::SetAttributes {
                path: path("a"),
                attrs: Attributes { mode: Some(0o17_777), ..Attributes::default() },
            }),
            "bad_attributes",
        ),
    ] {
        let refusal = rig.book.command(CLIENT, job, request.clone(), rig.at).unwrap_err();
        assert_eq!(refusal.reason(), reason, "{request:?}");
    }
    assert_eq!(rig.view(job).commands, 0);
    assert!(rig.book.take_changes().is_empty());
    let beside = plain(Op::Move { path: path("a"), to: path("ab") });
    assert!(rig.book.command(CLIENT, job, beside, rig.at).is_ok());
}

#[test]
fn command_without_data_is_ordered_at_once_and_completes_by_receipts() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    let job = rig.job(Targets::All);
    let key = rig.command(job, mkdir("new"));
    let orders = rig.orders_of("a");
    assert!(matches!(&orders[..], [NodeOrder::Command { key: of, .. }] if *of == key));
    let view = |rig: &Rig| rig.book.command_view(CLIENT, key).unwrap().state;
    assert_eq!(view(&rig), CommandState::New);
    for (node, state) in [("a", CommandState::InProgress), ("b", CommandState::Completed)] {
        let done = rig.completed(key, node);
        rig.report(node, [Report::Received { key }, done]).unwrap();
        assert_eq!(view(&rig), state);
    }
}

#[test]
fn job_takes_no_commands_after_its_end() {
    let mut rig = Rig::with_nodes(&["a"]);
    let job = rig.job(Targets::All);
    rig.command(job, mkdir("x"));
    rig.book.end_job(CLIENT, job, rig.at).unwrap();
    let refusal = rig.book.command(CLIENT, job, mkdir("y"), rig.at).unwrap_err();
    assert_eq!(refusal, Refusal::JobState { job, state: JobState::Closing });
    // A second end is no fault, nor is one of a job without commands.
    assert!(rig.book.end_job(CLIENT, job, rig.at).is_ok());
    let empty = rig.job(Targets::All);
    assert_eq!(rig.book.end_job(CLIENT, empty, rig.at).unwrap().state, JobState::Completed);
}

#[test]
fn cancelled_job_withdraws_what_is_open_and_its_contents() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    let job = rig.job(Targets::All);
    let (key, content) = rig.uploaded(job, "x", 10);
    let open = rig.command(job, put("y"));
    let done = rig.completed(key, "a");
    rig.report("a", [done]).unwrap();
    rig.orders.clear();
    let view = rig.book.cancel_job(CLIENT, job, rig.at).unwrap();
    rig.commit();
    assert_eq!(view.state, JobState::Cancelled);
    assert_eq!((view.totals.completed, view.totals.cancelled), (1, 3));
    let orders = rig.orders_of("a");
    assert_eq!(orders, [NodeOrder::Cancel { key: open }, NodeOrder::Forget { job }]);
    let mut expired = rig.book.take_expired();
    expired.sort();
    let mut expected = vec![content, rig.content_of(open)];
    expected.sort();
    assert_eq!(expired, expected);
    // Again: no effect. Its receipt comes too late, and is kept as that.
    rig.book.cancel_job(CLIENT, job, rig.at).unwrap();
    assert!(rig.book.take_changes().is_empty());
    let late = rig.completed(key, "b");
    rig.report("b", [late]).unwrap();
    assert_eq!(rig.state(key, "b"), DeliveryState::Cancelled);
    assert_eq!(rig.last_event("receipt.late").node, Some(name("b")));
}

#[test]
fn failed_deliveries_are_tried_again_and_completed_ones_are_not() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    let job = rig.job(Targets::All);
    let (key, _) = rig.uploaded(job, "x", 10);
    rig.book.end_job(CLIENT, job, rig.at).unwrap();
    let done = rig.completed(key, "a");
    rig.report("a", [done]).unwrap();
    let failed = |is_final| Report::Failed {
        key,
        reason: Reason::NoSpace,
        detail: "disk full".to_owned(),
        is_final,
    };
    rig.report("b", [failed(false)]).unwrap();
    assert_eq!(rig.state(key, "b"), DeliveryState::RetryWait);
    rig.report("b", [failed(true)]).unwrap();
    assert_eq!(rig.view(job).state, JobState::CompletedWithFailures);
    let row = rig.delivery(key, "b");
    assert_eq!((row.reason, row.attempts), (Some(Reason::NoSpace), 2));
    rig.orders.clear();
    let unknown = rig.book.retry_job(CLIENT, job, Some(&[name("z")]), rig.at).unwrap_err();
    assert_eq!(unknown.reason(), "unknown_node");
    let nothing = rig.book.retry_job(CLIENT, job, Some(&[name("a")]), rig.at).unwrap_err();
    assert_eq!(nothing, Refusal::NothingToRetry);
    let view = rig.book.retry_job(CLIENT, job, None, rig.at).unwrap();
    rig.commit();
    assert_eq!((view.state, view.ended_at_ns), (JobState::Closing, None));
    assert!(rig.orders_of("a").is_empty());
    let orders = rig.orders_of("b");
    assert!(matches!(orders[0], NodeOrder::Command { .. }));
    // Who has it already is a source of it.
    assert_eq!(last_sources(&orders), ["a", "-"]);
    let done = rig.completed(key, "b");
    rig.report("b", [done]).unwrap();
    assert_eq!(rig.view(job).state, JobState::Completed);
    let ended = rig.book.retry_job(CLIENT, job, None, rig.at).unwrap_err();
    assert_eq!(ended, Refusal::JobState { job, state: JobState::Completed });
}

#[test]
fn node_that_begins_a_failed_command_by_a_late_order_is_told_to_stop() {
    let mut rig = Rig::with_nodes(&["a"]);
    let job = rig.job(Targets::All);
    let (key, _) = rig.uploaded(job, "x", 10);
    let (reason, detail) = (Reason::NoSpace, String::new());
    let failed = Report::Failed { key, reason, detail, is_final: true };
    rig.report("a", [Report::Received { key }, failed]).unwrap();
    rig.orders.clear();
    rig.report("a", [Report::Received { key }]).unwrap();
    assert_eq!(rig.orders_of("a"), [NodeOrder::Cancel { key }]);
    rig.report("a", [Report::Cancelled { key }]).unwrap();
    assert_eq!(rig.state(key, "a"), DeliveryState::Failed);
    assert_eq!(rig.orders_of("a"), []);
}

#[test]
fn command_that_a_node_let_go_of_is_said_until_it_is_taken() {
    let mut rig = Rig::with_nodes(&["a"]);
    let job = rig.job(Targets::All);
    let key = rig.command(job, mkdir("x"));
    rig.report("a", [Report::Cancelled { key }]).unwrap();
    assert_eq!(rig.state(key, "a"), DeliveryState::RetryWait);
    rig.orders.clear();
    // It came before the node knew that its report was taken, and had no effect.
    rig.live(12, &["a"]);
    assert!(matches!(rig.orders_of("a")[..], [NodeOrder::Command { .. }]));
    let done = rig.completed(key, "a");
    rig.report("a", [Report::Received { key }, done]).unwrap();
    assert_eq!(rig.state(key, "a"), DeliveryState::Completed);
}

#[test]
fn command_is_withdrawn_alone() {
    let mut rig = Rig::with_nodes(&["a"]);
    let job = rig.job(Targets::All);
    let (key, content) = rig.uploaded(job, "x", 10);
    assert_eq!(rig.book.find_content(job, "x"), Some(content));
    assert_eq!(rig.book.cancelled_commands(job), 0);
    let view = rig.book.cancel_command(CLIENT, key, rig.at).unwrap();
    rig.commit();
    assert_eq!(view.state, CommandState::Cancelled);
    assert_eq!(rig.book.find_content(job, "x"), None);
    assert_eq!(rig.book.cancelled_commands(job), 1);
    assert_eq!(rig.orders_of("a").pop(), Some(NodeOrder::Cancel { key }));
    let ended = rig.book.cancel_command(CLIENT, key, rig.at).unwrap_err();
    assert_eq!(ended, Refusal::CommandEnded(key));
    let unknown = CommandKey { job, command: CommandId(7) };
    let refusal = rig.book.cancel_command(CLIENT, unknown, rig.at).unwrap_err();
    assert_eq!(refusal, Refusal::UnknownCommand(unknown));
    assert_eq!(rig.view(job).state, JobState::Open);
}

#[test]
fn what_is_open_at_the_deadline_fails() {
    let mut rig = Rig::with_nodes(&["a"]);
    let request = JobRequest { deadline_s: Some(5), ..job_request(Targets::All) };
    let job = rig.book.request_job(CLIENT, request, rig.at).unwrap().job_id;
    let (key, _) = rig.uploaded(job, "x", 10);
    rig.live(4, &["a"]);
    assert_eq!(rig.view(job).state, JobState::Open);
    rig.live(1, &["a"]);
    assert_eq!(rig.view(job).state, JobState::CompletedWithFailures);
    assert_eq!(rig.delivery(key, "a").reason, Some(Reason::Deadline));
}

#[test]
fn open_job_in_which_nothing_happens_ends_by_itself() {
    let mut rig = Rig::with_nodes(&["a"]);
    let job = rig.job(Targets::All);
    rig.pass(86_400);
    rig.book.tick(rig.at);
    assert_eq!(rig.view(job).state, JobState::Completed);
}

#[test]
fn deliveries_are_listed_by_filters_and_in_pages() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    let job = rig.job(Targets::All);
    let keys = ["x", "y", "z"].map(|path| rig.command(job, mkdir(path)));
    let done = rig.completed(keys[1], "b");
    rig.report("b", [done]).unwrap();
    let list = |filter: DeliveryFilter| {
        let views = rig.book.deliveries(CLIENT, job, &filter).unwrap();
        let view = |v: crate::dist::wire::job::DeliveryView| format!("{}{}", v.command_id, v.node);
        views.into_iter().map(view).collect::<Vec<_>>().join(" ")
    };
    let all = DeliveryFilter::default;
    assert_eq!(list(all()), "1a 1b 2a 2b 3a 3b");
    assert_eq!(list(DeliveryFilter { node: Some(name("b")), ..all() }), "1b 2b 3b");
    assert_eq!(list(DeliveryFilter { command: Some(CommandId(2)), ..all() }), "2a 2b");
    let state = Some(DeliveryState::Completed);
    assert_eq!(list(DeliveryFilter { state, ..all() }), "2b");
    let after = Some((CommandId(1), name("a")));
    assert_eq!(list(DeliveryFilter { after: after.clone(), limit: 3, ..all() }), "1b 2a 2b");
    assert_eq!(
        list(DeliveryFilter { after: after.clone(), node: Some(name("a")), ..all() }),
        "2a 3a"
    );
    let command = Some(CommandId(1));
    assert_eq!(list(DeliveryFilter { after, command, ..all() }), "1b");
    let last = Some((CommandId(3), name("b")));
    assert_eq!(list(DeliveryFilter { after: last, ..all() }), "");
    let node = Some(name("z"));
    assert!(rig.book.deliveries(CLIENT, job, &DeliveryFilter { node, ..all() }).is_err());
}

#[test]
fn report_says_what_arrived_where_with_which_hash() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    let job = rig.job(Targets::All);
    let (key, _) = rig.uploaded(job, "x", 10);
    let mut receipt = rig.receipt(key, "a");
    receipt.via = BTreeMap::from([("base".to_owned(), 10)]);
    rig.report("a", [Report::Completed { receipt: signed(&receipt) }]).unwrap();
    let report = rig.book.report(CLIENT, job).unwrap();
    assert_eq!(report.event_seq, rig.events.last().unwrap().seq);
    let [a, b] = &report.nodes[..] else { panic!("two nodes") };
    assert_eq!(a.public_key, node_keys(&name("a")).verify_key().to_string());
    let one = &a.deliveries[0];
    assert!(one.is_signature_valid);
    assert_eq!((one.size, one.blake3), (Some(10), Some(digest(9))));
    assert_eq!(one.via, receipt.via);
    assert_eq!(b.totals.new, 1);
    assert!(!b.deliveries[0].is_signature_valid);
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(
        serde_json::from_str::<crate::dist::wire::report::JobReport>(&json).unwrap(),
        report
    );
}

#[test]
fn limit_of_jobs_lets_ended_ones_go_and_refuses_when_all_live() {
    let mut rig = Rig::with_nodes(&["a"]);
    rig.book.parts.options.limits.jobs = 2;
    let first = rig.job(Targets::All);
    rig.book.end_job(CLIENT, first, rig.at).unwrap();
    rig.job(Targets::All);
    rig.job(Targets::All);
    assert_eq!(rig.book.job_view(CLIENT, first).unwrap_err().reason(), "unknown_job");
    let full = rig.book.request_job(CLIENT, job_request(Targets::All), rig.at).unwrap_err();
    assert_eq!((full.reason(), full.status()), ("base_full", 503));
}

#[test]
fn counts_by_state_are_those_of_all_jobs() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    let job = rig.job(Targets::All);
    let key = rig.command(job, mkdir("x"));
    rig.report("a", [Report::Received { key }]).unwrap();
    assert_eq!(rig.book.delivery_counts(), [1, 1, 0, 0, 0, 0, 0, 0]);
    rig.book.retire_node(&name("b"), rig.at).unwrap();
    rig.commit();
    assert_eq!(rig.book.delivery_counts(), [0, 1, 0, 0, 0, 0, 1, 0]);
    assert_eq!(rig.delivery(key, "b").reason, Some(Reason::NodeRetired));
    rig.restart();
    assert_eq!(rig.book.delivery_counts(), [0, 1, 0, 0, 0, 0, 1, 0]);
    assert_eq!(rig.book.node(&name("b")).unwrap().state, NodeState::Retired);
}
