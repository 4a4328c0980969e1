//! Uploads: when a content begins, ends, is refused or given up; receipts before its end.

use super::*;
use crate::dist::wire::job::{JobState, Reason};

#[test]
fn sources_are_ordered_when_the_upload_begins() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    let job = rig.job(Targets::All);
    let key = rig.command(job, put("x"));
    let content = rig.content_of(key);
    assert_eq!(rig.book.open_uploads(), [content]);
    assert!(last_sources(&rig.orders_of("a")).is_empty());
    rig.book.upload_grew(content, 0, rig.at);
    rig.commit();
    assert_eq!(last_sources(&rig.orders_of("a")), ["-"]);
    assert_eq!(last_sources(&rig.orders_of("b")), ["a", "-"]);
    rig.book.upload_grew(content, 70_000, rig.at);
    rig.commit();
    assert!(rig.orders.is_empty());
    let view = rig.book.command_view(CLIENT, key).unwrap();
    assert_eq!((view.uploaded_bytes, view.size), (70_000, None));
    rig.book.upload_ended(content, end(80_000), rig.at).unwrap();
    rig.commit();
    let view = rig.book.command_view(CLIENT, key).unwrap();
    assert_eq!((view.uploaded_bytes, view.size), (80_000, Some(80_000)));
    assert_eq!(view.blake3, Some(digest(9)));
    assert!(rig.book.open_uploads().is_empty());
}

#[test]
fn same_end_twice_has_no_effect_and_another_is_refused() {
    let mut rig = Rig::with_nodes(&["a"]);
    let job = rig.job(Targets::All);
    let (_, content) = rig.uploaded(job, "x", 10);
    assert_eq!(rig.book.upload_ended(content, end(10), rig.at), Ok(()));
    assert!(rig.book.take_changes().is_empty());
    let refusal = rig.book.upload_ended(content, end(11), rig.at);
    assert_eq!(refusal, Err(Refusal::UploadEnded(content)));
    let unknown = ContentId(Uuid::from_u128(1));
    let refusal = rig.book.upload_ended(unknown, end(1), rig.at);
    assert_eq!(refusal, Err(Refusal::UnknownContent(unknown)));
}

#[test]
fn content_that_is_not_what_the_client_said_fails_its_command() {
    let hash = CommandRequest { blake3: Some(digest(1)), ..put("x") };
    let size = CommandRequest { size: Some(11), ..put("x") };
    for (request, reason) in [(hash, "bad_hash"), (size, "wrong_size")] {
        let mut rig = Rig::with_nodes(&["a"]);
        let job = rig.job(Targets::All);
        let key = rig.command(job, request);
        let content = rig.content_of(key);
        rig.book.upload_grew(content, 5, rig.at);
        let refusal = rig.book.upload_ended(content, end(10), rig.at).unwrap_err();
        rig.commit();
        assert_eq!(refusal.reason(), reason);
        assert_eq!(rig.delivery(key, "a").reason, Some(Reason::BadHash));
        assert_eq!(rig.last_event("upload.refused").detail["reason"], reason);
        assert_eq!(rig.orders_of("a").pop(), Some(NodeOrder::Cancel { key }));
        assert_eq!(rig.book.take_expired(), [content]);
        let ended = rig.book.end_job(CLIENT, job, rig.at).unwrap();
        assert_eq!(ended.state, JobState::CompletedWithFailures);
        // Nothing is there that could be fetched again.
        assert_eq!(rig.book.retry_job(CLIENT, job, None, rig.at), Err(Refusal::NothingToRetry));
    }
}

#[test]
fn upload_on_which_nothing_moves_for_a_day_is_given_up() {
    let mut rig = Rig::with_nodes(&["a"]);
    let job = rig.job(Targets::All);
    let key = rig.command(job, put("x"));
    let content = rig.content_of(key);
    rig.book.upload_grew(content, 5, rig.at);
    rig.pass(86_399);
    rig.book.tick(rig.at);
    rig.commit();
    assert!(rig.state(key, "a").is_open());
    rig.pass(61);
    rig.book.tick(rig.at);
    rig.commit();
    let row = rig.delivery(key, "a");
    assert_eq!((row.state, row.reason), (DeliveryState::Failed, Some(Reason::UploadAbandoned)));
    assert_eq!(rig.last_event("upload.abandoned").detail["have"], 5);
    assert!(rig.book.content(content).unwrap().is_abandoned);
    let late = rig.book.upload_ended(content, end(9), rig.at);
    assert_eq!(late, Err(Refusal::UploadEnded(content)));
}

#[test]
fn upload_that_its_client_gives_up_fails_where_it_is_open() {
    let mut rig = Rig::with_nodes(&["a"]);
    let job = rig.job(Targets::All);
    let key = rig.command(job, put("x"));
    let content = rig.content_of(key);
    rig.book.upload_abandoned(content, rig.at);
    rig.commit();
    assert_eq!(rig.state(key, "a"), DeliveryState::Failed);
    // The path can be put again, as another command.
    let (again, other) = rig.uploaded(job, "x", 10);
    assert_eq!(again.command, CommandId(2));
    assert_eq!(rig.book.find_content(job, "x"), Some(other));
    rig.book.upload_abandoned(other, rig.at);
    assert!(rig.book.take_changes().is_empty());
}

#[test]
fn receipt_before_the_end_of_the_upload_counts_with_the_end() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    let job = rig.job(Targets::All);
    let key = rig.command(job, put("x"));
    let content = rig.content_of(key);
    rig.book.upload_grew(content, 10, rig.at);
    for (node, blake3) in [("a", digest(9)), ("b", digest(8))] {
        let receipt = Receipt { size: 10, blake3: Some(blake3), ..rig.receipt(key, node) };
        rig.report(node, [Report::Completed { receipt: signed(&receipt) }]).unwrap();
        assert_eq!(rig.state(key, node), DeliveryState::Applying);
    }
    // Not even a restart loses it.
    rig.restart();
    rig.book.upload_ended(content, end(10), rig.at).unwrap();
    rig.commit();
    assert_eq!(rig.state(key, "a"), DeliveryState::Completed);
    let b = rig.delivery(key, "b");
    assert_eq!((b.state, b.reason), (DeliveryState::Failed, Some(Reason::BadHash)));
    assert_eq!(rig.last_event("receipt.refused").node, Some(name("b")));
}

#[test]
fn receipt_that_says_anything_else_than_the_base_knows_is_refused() {
    type Change = fn(&mut Receipt);
    let changes: [(Change, &str); 5] = [
        (|r| r.blake3 = Some(digest(1)), "it has another hash than the base"),
        (|r| r.blake3 = None, "it has another hash than the base"),
        (|r| r.size = 11, "it has another size than the base"),
        (|r| r.path = "y".to_owned(), "it names another path"),
        (|r| r.attrs = Some(digest(1)), "it names other attributes"),
    ];
    for (change, cause) in changes {
        let mut rig = Rig::with_nodes(&["a", "b"]);
        let job = rig.job(Targets::All);
        let (key, _) = rig.uploaded(job, "x", 10);
        let mut receipt = rig.receipt(key, "a");
        change(&mut receipt);
        rig.report("a", [Report::Completed { receipt: signed(&receipt) }]).unwrap();
        assert_eq!(rig.last_event("receipt.refused").detail["cause"], cause);
        assert_eq!(rig.state(key, "a"), DeliveryState::Failed);
    }
    let mut rig = Rig::with_nodes(&["a", "b"]);
    let job = rig.job(Targets::All);
    let (key, _) = rig.uploaded(job, "x", 10);
    // Signed by another node, or nobody.
    let of_b = sign_receipt(&node_keys(&name("b")), &rig.receipt(key, "a"));
    let unsigned = SignedReceipt { signature: String::new(), ..of_b.clone() };
    let garbage = SignedReceipt { receipt: "{}".to_owned(), ..of_b.clone() };
    rig.report("a", [Report::Completed { receipt: garbage }]).unwrap();
    assert!(rig.state(key, "a").is_open());
    rig.report("a", [Report::Completed { receipt: unsigned }]).unwrap();
    assert_eq!(rig.state(key, "a"), DeliveryState::Failed);
    rig.report("b", [Report::Completed { receipt: of_b }]).unwrap();
    let cause = &rig.last_event("receipt.refused").detail["cause"];
    assert_eq!(cause, "it names another node");
}

#[test]
fn contents_go_a_day_after_the_end_of_their_job() {
    let mut rig = Rig::with_nodes(&["a"]);
    let job = rig.job(Targets::All);
    let (key, content) = rig.uploaded(job, "x", 10);
    let done = rig.completed(key, "a");
    rig.report("a", [done]).unwrap();
    rig.book.end_job(CLIENT, job, rig.at).unwrap();
    rig.live(61, &["a"]);
    assert!(rig.book.take_expired().is_empty());
    rig.pass(86_400);
    rig.book.tick(rig.at);
    assert_eq!(rig.book.take_expired(), [content]);
    rig.pass(61);
    rig.book.tick(rig.at);
    assert!(rig.book.take_expired().is_empty());
}

#[test]
fn ratios_say_how_near_the_optimum_a_job_ran() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    let job = rig.job(Targets::All);
    let size = 250_000_000;
    let (key, content) = rig.uploaded(job, "x", size);
    rig.book.base_sent(content, size + size / 50);
    rig.pass(11);
    for node in ["a", "b"] {
        let done = rig.completed(key, node);
        rig.report(node, [done]).unwrap();
    }
    rig.pass(100);
    let view = rig.book.end_job(CLIENT, job, rig.at).unwrap();
    rig.commit();
    // 10 s at 25 MB/s is the bound; the end of the job came later than that of its deliveries.
    assert_eq!(view.bound_ratio, Some(1.1));
    assert_eq!(view.base_egress_ratio, Some(1.02));
    // Counts of the last second come after the end.
    rig.book.base_sent(content, size / 100);
    rig.commit();
    assert_eq!(rig.view(job).base_egress_ratio, Some(1.03));
    assert_eq!(rig.rows.jobs[0].base_egress_ratio, Some(1.03));
    assert_eq!(rig.last_event("job.completed").detail["bound_ratio_permille"], 1_100);
}
