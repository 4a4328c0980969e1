//! Receivers of notifications, and whoever sends them, as `appliance::base::callbacks` does.
//!
//! ```text
//! batch --take_calls--> commit --> event of the ledger --POST--> sink: takes it, refuses, is down
//!                                                                  '--> called_back, a batch later
//! ```
//! Checked: an event comes under one id with one body, however often; first times come in the order
//! of their numbers; nothing comes before it is durable; at the end everything has come that was
//! for the receiver.

use std::collections::BTreeMap;

use headend::dist::book::{Attempt, Book, HookReport, first_and_stale};
use headend::dist::ids::{HookId, Stamp};
use headend::dist::webhook::message::Call;
use headend::dist::wire::hook::{HookState, NotifyRequest, Topic};

use crate::base::Ask;
use crate::dice::{Dice, S};
use crate::network::BASE;
use crate::world::{EPOCH_NS, Event, World};

/// All receivers.
#[derive(Debug, Default)]
pub(crate) struct Sinks {
    /// Nobody answers.
    pub(crate) is_down: bool,
    /// They say that they are gone.
    pub(crate) are_gone: bool,
    /// Thousandths of notifications that are refused, and of answers that are lost.
    pub(crate) refused: u32,
    pub(crate) lost: u32,
    /// What came: by receiver and number, with its id and body, and how often.
    pub(crate) taken: BTreeMap<HookId, BTreeMap<u64, (String, String, u64)>>,
    pub(crate) attempts: u64,
    /// Most attempts that were open at once.
    pub(crate) open_most: u64,
}

impl World {
    /// What the book wants to be sent now.
    pub(crate) fn calls(book: &mut Book, at: Stamp) -> Vec<Call> {
        book.take_calls(at)
    }

    /// The commit is done: attempts are made.
    pub(crate) fn call_back(&mut self, calls: Vec<Call>) {
        let run = self.base.runs;
        for call in calls {
            let wait = self.latency();
            self.after(wait, Event::Called { run, call: Box::new(call) });
        }
    }

    /// A notification is at its receiver's door.
    pub(crate) fn called(&mut self, run: u64, call: &Call) {
        self.sinks.attempts += 1;
        let (hook, newest) = (call.hook, call.newest);
        let events = self.base.ledger.events_of(hook.job, call.after);
        let Some((event, stale)) = first_and_stale(call, &events) else {
            let (kind, attempt) = (String::new(), Attempt::Nothing);
            let report = HookReport { hook, seq: newest, at_ns: 0, kind, attempt, stale: None };
            return self.told_later(run, report, 0);
        };
        let (seq, at_ns, kind) = (event.seq, event.at_ns, event.kind.clone());
        let utc_s = (EPOCH_NS + i64::try_from(self.now).unwrap_or(0)) / 1_000_000_000;
        let message = call.message(event, utc_s);
        let signed = message.signature.is_some();
        assert_eq!(signed, call.secret.is_some(), "what has a secret is signed");
        let refused = self.dice.chance(self.sinks.refused);
        let (attempt, wait) = if self.sinks.is_down {
            (Attempt::Failed("no answer within 10 s".to_owned()), 10 * S)
        } else if self.sinks.are_gone {
            (Attempt::Gone, 0)
        } else if refused {
            (Attempt::Failed("HTTP 500".to_owned()), 0)
        } else {
            let taken = self.sinks.taken.entry(hook).or_default();
            let last = taken.last_key_value().map_or(0, |(seq, _)| *seq);
            let known = taken.entry(seq);
            let is_new = matches!(&known, std::collections::btree_map::Entry::Vacant(_));
            let first = known.or_insert_with(|| (message.id.clone(), message.body.clone(), 0));
            assert!(!is_new || seq > last, "{hook:?}: event {seq} came behind {last}");
            let same = (&first.0, &first.1) == (&message.id, &message.body);
            assert!(same, "{hook:?}: event {seq} came in two forms");
            first.2 += 1;
            (Attempt::Taken, 0)
        };
        self.trace.note(self.now, "called", u64::from(hook.hook), seq);
        self.told_later(run, HookReport { hook, seq, at_ns, kind, attempt, stale }, wait);
    }

    /// The end of an attempt is on its way to the book; some are lost.
    fn told_later(&mut self, run: u64, report: HookReport, wait: u64) {
        if self.dice.chance(self.sinks.lost) {
            return;
        }
        let wait = wait + self.latency();
        self.after(wait, Event::CalledBack { run, report: Box::new(report) });
    }

    /// The base hears what became of an attempt, unless it has started anew.
    pub(crate) fn called_back(&mut self, run: u64, report: HookReport) {
        if self.base.runs == run && self.is_up(BASE) {
            self.asked(Ask::CalledBack { run, report: Box::new(report) });
        }
    }

    /// Nothing waits for a receiver.
    pub(crate) fn are_sinks_served(&self) -> bool {
        let mut rows = self.base.ledger.hooks.values();
        rows.all(|row| row.state != HookState::Active || row.newest <= row.place)
    }

    /// Each receiver has what was for it, unless it has gone or was too late.
    pub(crate) fn check_sinks(&self) {
        for row in self.base.ledger.hooks.values() {
            let hook = row.id;
            assert_eq!(row.pending, 0, "{hook:?} has events that wait");
            if row.state == HookState::Disabled || row.dropped > 0 {
                continue;
            }
            let events = self.base.ledger.events_of(hook.job, 0);
            let wanted = events
                .iter()
                .filter(|event| row.topics.iter().any(|topic| topic.includes(&event.kind)));
            let wanted: Vec<u64> = wanted.map(|event| event.seq).collect();
            let taken: Vec<u64> =
                self.sinks.taken.get(&hook).into_iter().flatten().map(|(seq, _)| *seq).collect();
            assert_eq!(taken, wanted, "{hook:?} of {:?}", row.topics);
            assert_eq!(row.delivered, wanted.len() as u64, "{hook:?}");
        }
    }
}

/// Somebody who is told of these.
pub(crate) fn notify(topics: &[Topic]) -> NotifyRequest {
    NotifyRequest {
        url: "https://hooks.example/in".to_owned(),
        secret: Some("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().expect("a secret")),
        events: topics.to_vec(),
    }
}

/// Those of a job of a seed: some jobs have none.
pub(crate) fn drawn(dice: &mut Dice) -> Vec<NotifyRequest> {
    let mut all = Vec::new();
    for _ in 0..dice.pick(&[0, 0, 1, 2]) {
        let topics: Vec<Topic> = Topic::ALL.into_iter().filter(|_| dice.chance(500)).collect();
        if !topics.is_empty() {
            all.push(notify(&topics));
        }
    }
    all
}
