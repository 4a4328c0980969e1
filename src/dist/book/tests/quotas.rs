//! Quotas of clients: jobs, targets, bytes.

use super::*;
use crate::dist::quota::Quota;
use crate::dist::wire::job::Reason;

fn rig(quota: &str) -> Rig {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    rig.options.quotas.all = quota.parse::<Quota>().unwrap();
    rig.restart();
    rig
}

fn refused<T: std::fmt::Debug>(result: Result<T, Refusal>) -> (&'static str, u16) {
    let refusal = result.unwrap_err();
    (refusal.reason(), refusal.status())
}

fn put_of(path: &str, size: u64) -> CommandRequest {
    CommandRequest { size: Some(size), ..put(path) }
}

#[test]
fn client_has_as_many_open_jobs_as_its_quota_and_others_have_theirs() {
    let mut rig = rig("jobs=2,targets=2");
    let first = rig.job(Targets::All);
    rig.job(Targets::All);
    let again = rig.book.request_job(CLIENT, job_request(Targets::All), rig.at);
    assert_eq!(refused(again), ("quota_jobs", 429));
    assert!(rig.book.request_job("other", job_request(Targets::All), rig.at).is_ok());
    rig.book.cancel_job(CLIENT, first, rig.at).unwrap();
    rig.job(Targets::All);
    rig.options.quotas.by_client.insert(CLIENT.to_owned(), "targets=1".parse().unwrap());
    rig.restart();
    let many = rig.book.request_job(CLIENT, job_request(Targets::All), rig.at);
    assert_eq!(refused(many), ("quota_targets", 403));
}

#[test]
fn bytes_count_when_they_are_announced_and_until_the_base_lets_them_go() {
    let mut rig = rig("bytes=1000");
    let job = rig.job(Targets::All);
    let (key, _) = {
        let key = rig.command(job, put_of("a", 700));
        let content = rig.content_of(key);
        rig.book.upload_grew(content, 700, rig.at);
        rig.book.upload_ended(content, end(700), rig.at).unwrap();
        rig.commit();
        (key, content)
    };
    let over = rig.book.command(CLIENT, job, put_of("b", 301), rig.at);
    assert_eq!(refused(over), ("quota_bytes", 403));
    rig.command(job, put_of("b", 300));
    // Also of a command whose size nobody knows.
    assert_eq!(refused(rig.book.command(CLIENT, job, put("c"), rig.at)), ("quota_bytes", 403));
    assert!(rig.book.command(CLIENT, job, mkdir("d"), rig.at).is_ok());
    // A restart counts what its rows say.
    rig.restart();
    assert_eq!(refused(rig.book.command(CLIENT, job, put("c"), rig.at)), ("quota_bytes", 403));
    rig.book.cancel_command(CLIENT, CommandKey { command: CommandId(2), ..key }, rig.at).unwrap();
    rig.book.take_expired();
    rig.command(job, put_of("b", 300));
    rig.book.cancel_job(CLIENT, job, rig.at).unwrap();
    rig.book.take_expired();
    rig.commit();
    let job = rig.job(Targets::All);
    rig.command(job, put_of("a", 1_000));
}

#[test]
fn upload_of_unknown_size_fails_at_the_byte_that_is_too_many() {
    let mut rig = rig("bytes=1000");
    let job = rig.job(Targets::All);
    let key = rig.command(job, put("a"));
    let content = rig.content_of(key);
    rig.book.upload_grew(content, 1_000, rig.at);
    rig.commit();
    assert_eq!(rig.state(key, "a"), DeliveryState::Pending);
    rig.book.upload_grew(content, 1_001, rig.at);
    rig.commit();
    let delivery = rig.delivery(key, "a");
    assert_eq!((delivery.state, delivery.reason), (DeliveryState::Failed, Some(Reason::Quota)));
    assert!(delivery.detail.unwrap().contains("1000 bytes"));
    assert_eq!(rig.last_event("upload.refused").detail["reason"], "quota_bytes");
    assert_eq!(refused(rig.book.upload_ended(content, end(1_002), rig.at)), ("upload_ended", 409));
    // Its bytes are free again.
    assert_eq!(rig.book.take_expired(), [content]);
    let key = rig.command(job, put("b"));
    let content = rig.content_of(key);
    let ended = rig.book.upload_ended(content, end(1_001), rig.at);
    assert_eq!(refused(ended), ("quota_bytes", 403));
}
