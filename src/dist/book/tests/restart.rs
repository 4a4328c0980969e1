//! A book that is made from rows goes on where the one before stopped.

use super::*;
use crate::dist::wire::job::JobState;

/// What the base has of a job, and what it would tell each node.
fn shown(rig: &mut Rig, job: JobId, nodes: &[&str]) -> String {
    let view = rig.view(job);
    let commands = rig.book.command_views(CLIENT, job, None, 0).unwrap();
    let deliveries = rig.book.deliveries(CLIENT, job, &DeliveryFilter::default()).unwrap();
    let mut text = format!("{view:#?}\n{commands:#?}\n{deliveries:#?}\n");
    for node in nodes {
        for order in rig.book.open_orders(&name(node)) {
            match &order {
                NodeOrder::Sources { content, .. } => {
                    text.push_str(&format!("{node} {content} {:?}\n", sources(&order)));
                }
                NodeOrder::Terms { job, terms, .. } => {
                    text.push_str(&format!("{node} {job} {terms:?}\n"));
                }
                other => text.push_str(&format!("{node} {other:?}\n")),
            }
        }
    }
    text
}

#[test]
fn rows_make_the_same_views_and_the_same_open_orders() {
    let nodes = ["a", "b", "c"];
    let mut rig = Rig::with_nodes(&nodes);
    let job = rig.job(Targets::All);
    let (x, _) = rig.uploaded(job, "x", 1_000);
    let y = rig.command(job, mkdir("y"));
    let z = rig.command(job, put("z"));
    rig.book.cancel_command(CLIENT, y, rig.at).unwrap();
    let done = rig.completed(x, "a");
    rig.report("a", [Report::Received { key: x }, fetching(x, 0, None), done]).unwrap();
    rig.report("b", [Report::Received { key: x }, fetching(x, 10, Some("a"))]).unwrap();
    rig.report("c", [Report::Received { key: z }]).unwrap();
    let before = shown(&mut rig, job, &nodes);
    rig.restart();
    assert_eq!(shown(&mut rig, job, &nodes), before);
}

#[test]
fn epochs_and_ids_are_greater_after_a_restart() {
    let mut rig = Rig::with_nodes(&["a"]);
    let job = rig.job(Targets::All);
    let (_, content) = rig.uploaded(job, "x", 1_000);
    let epoch_of = |orders: Vec<NodeOrder>| {
        let mut epochs = orders.into_iter().filter_map(|order| match order {
            NodeOrder::Sources { epoch, .. } => Some(epoch),
            _ => None,
        });
        epochs.next_back().unwrap()
    };
    let before = epoch_of(rig.orders_of("a"));
    // The clock has gone back by an hour.
    rig.at.utc_ns -= 3_600_000_000_000;
    rig.restart();
    let after = epoch_of(rig.book.open_orders(&name("a")));
    assert!(after > before, "{after:?} {before:?}");
    assert!(rig.job(Targets::All) > job);
    let (_, other) = rig.uploaded(job, "y", 10);
    assert!(other > content);
}

#[test]
fn reports_go_on_with_their_numbers_after_a_restart() {
    let mut rig = Rig::with_nodes(&["a"]);
    let job = rig.job(Targets::All);
    let (key, _) = rig.uploaded(job, "x", 10);
    let batch = rig.batch(&name("a"), 1, vec![Report::Received { key }, fetching(key, 0, None)]);
    rig.book.reports(batch.clone(), rig.at).unwrap();
    rig.commit();
    // The answer was lost: the node says it again, with what came since.
    rig.restart();
    let before = rig.events.len();
    let done = rig.completed(key, "a");
    let longer = Reports { reports: [batch.reports, vec![done]].concat(), ..batch };
    assert_eq!(rig.book.reports(longer, rig.at).unwrap().taken, 3);
    rig.commit();
    assert_eq!(rig.kinds()[before..], ["delivery.completed", "command.completed"]);
}

#[test]
fn unfinished_upload_goes_on_after_a_restart() {
    let mut rig = Rig::with_nodes(&["a"]);
    let job = rig.job(Targets::All);
    let key = rig.command(job, put("x"));
    let content = rig.content_of(key);
    rig.book.upload_grew(content, 70_000, rig.at);
    rig.restart();
    assert_eq!(rig.book.find_content(job, "x"), Some(content));
    assert_eq!(rig.book.open_uploads(), [content]);
    assert!(last_sources(&rig.book.open_orders(&name("a"))).is_empty());
    rig.book.upload_grew(content, 80_000, rig.at);
    rig.commit();
    assert_eq!(last_sources(&rig.orders_of("a")), ["-"]);
}

/// A node that was away when the base refused an upload kept the command, and with it what follows
/// in strict order, when the base was started anew in between.
#[test]
fn node_hears_after_a_restart_what_the_base_had_failed_before() {
    let mut rig = Rig::with_nodes(&["a"]);
    let job = rig.job(Targets::All);
    let key = rig.command(job, put("x"));
    let content = rig.content_of(key);
    rig.report("a", [Report::Received { key }]).unwrap();
    rig.live(20, &[]);
    rig.book.upload_abandoned(content, rig.at);
    rig.commit();
    rig.restart();
    assert_eq!(rig.hello("a", 2).unwrap(), [NodeOrder::Cancel { key }]);
}

#[test]
fn end_of_a_command_that_is_wanted_again_is_not_said_any_more() {
    let mut rig = Rig::with_nodes(&["a"]);
    let request = JobRequest { deadline_s: Some(20), ..job_request(Targets::All) };
    let job = rig.book.request_job(CLIENT, request, rig.at).unwrap().job_id;
    let key = rig.command(job, mkdir("x"));
    rig.live(25, &[]);
    assert_eq!(rig.state(key, "a"), DeliveryState::Failed);
    rig.book.retry_job(CLIENT, job, None, rig.at).unwrap();
    rig.commit();
    let orders = rig.hello("a", 2).unwrap();
    assert!(matches!(orders[..], [NodeOrder::Command { .. }]), "{orders:?}");
}

#[test]
fn node_hears_after_a_restart_what_had_ended_before() {
    let mut rig = Rig::with_nodes(&["a"]);
    let job = rig.job(Targets::All);
    let key = rig.command(job, mkdir("x"));
    rig.book.cancel_job(CLIENT, job, rig.at).unwrap();
    rig.commit();
    rig.restart();
    let orders = rig.hello("a", 2).unwrap();
    assert_eq!(orders, [NodeOrder::Cancel { key }, NodeOrder::Forget { job }]);
    // What ended long before its last sign of life, it has heard.
    rig.pass(3_600);
    rig.hello("a", 3).unwrap();
    rig.restart();
    assert_eq!(rig.hello("a", 4).unwrap(), []);
}

#[test]
fn nodes_are_not_taken_for_dead_by_a_base_that_has_just_started() {
    let mut rig = Rig::with_nodes(&["a"]);
    rig.pass(3_600);
    rig.restart();
    rig.book.tick(rig.at);
    rig.commit();
    assert_eq!(rig.kinds().last(), Some(&"base.started"));
    rig.live(6, &[]);
    assert_eq!(rig.kinds().last(), Some(&"node.suspect"));
}

#[test]
fn rows_that_lack_something_make_a_book_all_the_same() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    let job = rig.job(Targets::All);
    let (x, _) = rig.uploaded(job, "x", 10);
    let y = rig.command(job, mkdir("y"));
    rig.book.end_job(CLIENT, job, rig.at).unwrap();
    rig.commit();
    rig.rows.nodes.retain(|row| row.name != name("b"));
    rig.rows.deliveries.retain(|row| row.key != y);
    rig.rows.commands.retain(|row| row.key != x);
    rig.restart();
    // Without its first command nothing of the job can be named any more.
    assert_eq!(rig.view(job).commands, 0);
    assert_eq!(rig.view(job).state, JobState::Completed);
    assert_eq!(rig.hello("b", 2), Err(Refusal::NodeRetired(name("b"))));
}

#[test]
fn answers_under_idempotency_keys_are_kept_for_a_day_and_over_restarts() {
    let mut rig = Rig::new();
    let row = AnswerRow {
        client: CLIENT.to_owned(),
        idempotency_key: "k".to_owned(),
        request: digest(1),
        status: 201,
        body: "{}".to_owned(),
        at_ns: rig.at.utc_ns,
    };
    rig.book.keep_answer(row.clone());
    rig.commit();
    rig.restart();
    assert_eq!(rig.book.answer(CLIENT, "k"), Some(&row));
    assert_eq!(rig.book.answer("other", "k"), None);
    rig.pass(86_400);
    rig.book.tick(rig.at);
    assert_eq!(rig.book.answer(CLIENT, "k"), None);
    // The oldest make room.
    rig.book.answers.max = 2;
    for key in ["1", "2", "3"] {
        rig.book.keep_answer(AnswerRow { idempotency_key: key.to_owned(), ..row.clone() });
    }
    let kept = ["1", "2", "3"].map(|key| rig.book.answer(CLIENT, key).is_some());
    assert_eq!(kept, [false, true, true]);
}
