//! Notifications: who is due when, in which order, how often, and what a restart leaves.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::dist::ids::HookId;
use crate::dist::webhook::message::Call;
use crate::dist::webhook::target::AllowedNetworks;
use crate::dist::wire::hook::{HookState, NotificationView, NotifyRequest, Topic};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn notify(url: &str, events: &[Topic]) -> NotifyRequest {
    NotifyRequest { url: url.to_owned(), secret: SECRET.parse().ok(), events: events.to_vec() }
}

impl Rig {
    fn notified_job(&mut self, notify: Vec<NotifyRequest>) -> JobId {
        let request = JobRequest { notify, ..job_request(Targets::All) };
        let view = self.book.request_job(CLIENT, request, self.at).unwrap();
        self.commit();
        view.job_id
    }

    fn calls(&mut self) -> Vec<Call> {
        self.book.take_calls(self.at)
    }

    /// The event that a call is about.
    fn event_of(&self, call: &Call) -> (&EventView, Option<(u64, u64)>) {
        let of_job = self.events.iter().filter(|event| event.job == Some(call.hook.job));
        let events: Vec<EventView> = of_job.cloned().collect();
        let (event, stale) = first_and_stale(call, &events).unwrap();
        let seq = event.seq;
        (self.events.iter().find(|event| event.seq == seq).unwrap(), stale)
    }

    fn called(&mut self, call: &Call, attempt: Attempt) -> String {
        let (event, stale) = self.event_of(call);
        let (seq, at_ns, kind) = (event.seq, event.at_ns, event.kind.clone());
        let hook = call.hook;
        let report = HookReport { hook, seq, at_ns, kind: kind.clone(), attempt, stale };
        self.book.called_back(report, self.at);
        self.commit();
        kind
    }

    fn notification(&self, job: JobId) -> NotificationView {
        self.book.notifications(CLIENT, job).unwrap().remove(0)
    }
}

fn failed() -> Attempt {
    Attempt::Failed("HTTP 500".to_owned())
}

/// A job that has ended at one node.
fn ended(notify: Vec<NotifyRequest>) -> (Rig, JobId) {
    let mut rig = Rig::with_nodes(&["a"]);
    let job = rig.notified_job(notify);
    let key = rig.command(job, mkdir("x"));
    let done = rig.completed(key, "a");
    rig.report("a", [Report::Received { key }, done]).unwrap();
    rig.book.end_job(CLIENT, job, rig.at).unwrap();
    rig.commit();
    (rig, job)
}

#[test]
fn receiver_is_told_what_it_asked_for_one_by_one_and_in_order() {
    let topics = [Topic::Receipt, Topic::Completion, Topic::End];
    let (mut rig, job) = ended(vec![notify("https://a.example/", &topics)]);
    let mut told = Vec::new();
    while let Some(call) = rig.calls().pop() {
        assert_eq!(rig.calls(), [], "one at a time");
        told.push(rig.called(&call, Attempt::Taken));
    }
    let expected =
        ["delivery.received", "delivery.completed", "command.completed", "job.completed"];
    assert_eq!(told, expected);
    assert_eq!(rig.last_event("webhook.delivered").detail["attempts"], 1);
    let shown = rig.notification(job);
    assert_eq!((shown.delivered, shown.pending, shown.state), (4, 0, HookState::Active));
    // Its secret goes when nothing follows.
    rig.live(61, &["a"]);
    assert_eq!(rig.notification(job).state, HookState::Done);
    assert!(rig.rows.hooks.iter().all(|row| row.secret.is_none()));
}

#[test]
fn end_that_comes_with_the_sweep_of_a_minute_is_told() {
    let mut rig = Rig::with_nodes(&["a"]);
    rig.options.timeouts.idle_job = Duration::from_secs(30);
    rig.restart();
    let job = rig.notified_job(vec![notify("https://a.example/", &[Topic::End])]);
    rig.live(120, &[]);
    assert_eq!(rig.last_event("job.completed").job, Some(job));
    let call = rig.calls().pop().unwrap();
    assert_eq!(rig.called(&call, Attempt::Taken), "job.completed");
    rig.live(60, &[]);
    assert_eq!(rig.notification(job).state, HookState::Done);
}

#[test]
fn attempts_wait_five_seconds_and_twice_as_long_each_time_up_to_an_hour() {
    let (mut rig, job) = ended(vec![notify("https://a.example/", &[Topic::End])]);
    let mut waits = Vec::new();
    for attempts in 1..=13_u32 {
        let call = rig.calls().pop().unwrap();
        rig.called(&call, failed());
        let shown = rig.notification(job);
        assert_eq!((shown.attempts, shown.last_error.as_deref()), (attempts, Some("HTTP 500")));
        let next = shown.next_attempt_at_ns.unwrap() - rig.at.utc_ns;
        let wait = u64::try_from(next).unwrap() / SECOND;
        waits.push(wait);
        rig.pass(wait - 1);
        assert_eq!(rig.calls(), []);
        rig.pass(1);
    }
    let doubled = [5, 10, 20, 40, 80, 160, 320, 640, 1_280, 2_560];
    assert_eq!((&waits[..10], &waits[10..]), (&doubled[..], &[3_600; 3][..]));
    let call = rig.calls().pop().unwrap();
    rig.called(&call, Attempt::Taken);
    assert_eq!(rig.last_event("webhook.delivered").detail["attempts"], 14);
    assert_eq!(rig.notification(job).attempts, 0);
}

#[test]
fn event_that_is_not_taken_for_three_days_is_dropped_with_those_of_its_time() {
    let (mut rig, job) =
        ended(vec![notify("https://a.example/", &[Topic::Completion, Topic::End])]);
    let call = rig.calls().pop().unwrap();
    rig.called(&call, failed());
    rig.pass(3 * 86_400 - 1);
    let call = rig.calls().pop().unwrap();
    rig.called(&call, failed());
    assert_eq!((rig.notification(job).dropped, rig.notification(job).pending), (0, 3));
    rig.pass(3_600);
    let call = rig.calls().pop().unwrap();
    rig.called(&call, failed());
    let shown = rig.notification(job);
    assert_eq!((shown.dropped, shown.pending, shown.next_attempt_at_ns), (3, 0, None));
    assert_eq!(rig.last_event("webhook.dropped").detail["events"], 3);
    rig.pass(86_400);
    assert_eq!(rig.calls(), []);
    assert_eq!(rig.book.hook_numbers().dropped, 3);
}

#[test]
fn hosts_have_their_share_of_attempts_and_all_together_a_bound() {
    let mut rig = Rig::with_nodes(&["a"]);
    rig.options.limits.hooks_open = 6;
    rig.restart();
    let hosts = (0..30).map(|n| if n < 20 { "slow.example" } else { "quick.example" });
    let jobs: Vec<JobId> = hosts
        .map(|host| rig.notified_job(vec![notify(&format!("https://{host}/"), &[Topic::End])]))
        .collect();
    for job in &jobs {
        rig.book.cancel_job(CLIENT, *job, rig.at).unwrap();
    }
    rig.commit();
    let slow = rig.calls();
    let count =
        |calls: &[Call], host: &str| calls.iter().filter(|call| call.url.contains(host)).count();
    assert_eq!((count(&slow, "slow"), count(&slow, "quick")), (4, 2));
    assert_eq!(rig.calls(), []);
    // Those that answer make room for their like; all come to their turn.
    let mut quick = 0;
    let mut open: Vec<Call> =
        slow.iter().filter(|call| call.url.contains("quick")).cloned().collect();
    while let Some(call) = open.pop() {
        rig.called(&call, Attempt::Taken);
        quick += 1;
        open.extend(rig.calls());
    }
    assert_eq!((quick, rig.book.hook_numbers().open), (10, 4));
}

#[test]
fn restart_forgets_nothing_and_repeats_what_it_does_not_know_to_be_taken() {
    let (mut rig, job) =
        ended(vec![notify("https://a.example/", &[Topic::Completion, Topic::End])]);
    let first = rig.calls().pop().unwrap();
    rig.called(&first, failed());
    let shown = rig.notification(job);
    rig.restart();
    assert_eq!(rig.notification(job), shown);
    assert_eq!(rig.calls(), [], "its wait goes on");
    rig.pass(5);
    let call = rig.calls().pop().unwrap();
    assert_eq!(call.secret, SECRET.parse().ok());
    let id = |rig: &Rig, call: &Call| call.message(rig.event_of(call).0, 1).id;
    let sent = id(&rig, &call);
    assert_eq!(sent, id(&rig, &first));
    // It was taken, and the base is killed before it hears that.
    rig.restart();
    let again = rig.calls().pop().unwrap();
    assert_eq!(id(&rig, &again), sent);
    rig.called(&again, Attempt::Taken);
    rig.restart();
    let next = rig.calls().pop().unwrap();
    assert_ne!(id(&rig, &next), sent);
}

#[test]
fn attempt_whose_end_is_not_heard_is_made_again_and_told_twice_counts_once() {
    let (mut rig, job) = ended(vec![notify("https://a.example/", &[Topic::End])]);
    let call = rig.calls().pop().unwrap();
    rig.pass(59);
    assert_eq!(rig.calls(), []);
    rig.pass(1);
    let again = rig.calls().pop().unwrap();
    assert_eq!((again.hook, again.after), (call.hook, call.after));
    let EventView { seq, at_ns, kind, .. } = rig.event_of(&call).0.clone();
    let (hook, attempt) = (call.hook, Attempt::Taken);
    let report = HookReport { hook, seq, at_ns, kind, attempt, stale: None };
    for _ in 0..2 {
        rig.book.called_back(report.clone(), rig.at);
    }
    rig.commit();
    assert_eq!(rig.notification(job).delivered, 1);
    assert_eq!(rig.book.hook_numbers().open, 0);
    rig.pass(3_600);
    assert_eq!(rig.calls(), []);
}

#[test]
fn receiver_that_is_gone_is_told_nothing_more() {
    let mut rig = Rig::with_nodes(&["a"]);
    let job = rig.notified_job(vec![notify("https://a.example/", &Topic::ALL)]);
    let key = rig.command(job, mkdir("x"));
    rig.report("a", [Report::Received { key }]).unwrap();
    let call = rig.calls().pop().unwrap();
    rig.called(&call, Attempt::Gone);
    let done = rig.completed(key, "a");
    rig.report("a", [done]).unwrap();
    assert_eq!(rig.calls(), []);
    let shown = rig.notification(job);
    assert_eq!((shown.state, shown.pending, shown.is_signed), (HookState::Disabled, 0, false));
    assert_eq!(rig.last_event("webhook.disabled").detail["hook"], 1);
}

#[test]
fn job_learns_of_a_node_that_is_down_while_something_is_open_there() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    let told = rig.notified_job(vec![notify("https://a.example/", &[Topic::Failure])]);
    let silent = rig.notified_job(vec![notify("https://a.example/", &[Topic::End])]);
    for job in [told, silent] {
        rig.command(job, mkdir("x"));
    }
    rig.live(20, &["a"]);
    let event = rig.last_event("job.node_down").clone();
    assert_eq!((event.job, event.node), (Some(told), Some(name("b"))));
    assert_eq!(rig.kinds().iter().filter(|kind| **kind == "job.node_down").count(), 1);
    let call = rig.calls().pop().unwrap();
    assert_eq!(rig.called(&call, Attempt::Taken), "job.node_down");
}

#[test]
fn wrong_notifications_are_refused_and_nothing_is_kept_of_them() {
    let mut rig = Rig::with_nodes(&["a"]);
    let mut ask = |notify: Vec<NotifyRequest>| {
        let request = JobRequest { notify, ..job_request(Targets::All) };
        let refusal = rig.book.request_job(CLIENT, request, rig.at).unwrap_err();
        assert_eq!((refusal.reason(), refusal.status()), ("bad_notify", 422));
        refusal.to_string()
    };
    let private = ask(vec![notify("http://10.0.0.1/?token=abc", &[Topic::End])]);
    assert!(private.contains("token=...") && private.contains("--webhook-allow"), "{private}");
    ask(vec![notify("https://a.example/", &[])]);
    ask(vec![notify("https://a.example/", &[Topic::End]); 9]);
    rig.commit();
    assert_eq!((rig.rows.hooks.len(), rig.rows.jobs.len()), (0, 0));
    assert_eq!(
        rig.last_event("job.denied").detail,
        json!({"client": CLIENT, "reason": "bad_notify"})
    );
    rig.options.hook_networks = AllowedNetworks(vec!["10.0.0.0/8".parse().unwrap()]);
    rig.restart();
    let job = rig.notified_job(vec![notify("http://10.0.0.1/", &[Topic::End])]);
    assert_eq!(rig.rows.hooks[0].id, HookId { job, hook: 1 });
    assert!(!format!("{:?}", rig.rows.hooks).contains(SECRET));
}
