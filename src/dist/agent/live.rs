//! Live paths of a node: from the order to reflect one to the receipt for it.
//!
//! ```text
//! Command, Reflect --open--> reserving --Opened--> fetching: packets come, or none do (said)
//! pause, window closed --close--> waiting          Finish --close--> last look --> receipt
//! ```
//! A live path takes no room of contents that come and waits for no other command. It has no end
//! of its own: [`NodeOrder::Finish`](crate::dist::wire::agent::NodeOrder::Finish) says that it has
//! had its time. One of which no packet ever came has failed.
//! Invariants: what the receipt says is what came, over restarts too, but for the last
//! `NOTE_EVERY` before a crash; a node that starts without its base goes on with the list that its
//! journal has.

use std::time::Duration;

use super::stage::{Input, Stage};
use super::{Action, Agent, Delivery, Failure};
use crate::base::time::Mono;
use crate::dist::ids::{CommandKey, Epoch};
use crate::dist::journal::Record;
use crate::dist::reflect::{Reflect, ReflectAction, Sight, check_live};
use crate::dist::wire::agent::{LiveSource, Report, SwitchCause};
use crate::dist::wire::job::{Op, Reason};

/// What a live path is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LiveAction {
    /// It has these URLs as its sources, in the order of preference.
    Open {
        /// Name.
        path: String,
        /// `rtsp://` URLs.
        urls: Vec<String>,
    },
    /// It is looked at once more, and ends.
    Close {
        /// Name.
        path: String,
    },
}

/// What happened to a live path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LiveEvent {
    /// It has the sources of the last `Open`, or not.
    Opened(Result<(), Failure>),
    /// It was looked at.
    Seen(Sight),
    /// It has ended, and was like this.
    Closed(Option<Sight>),
}

/// A live command at its node.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) reflect: Reflect,
    /// The base has said that it has had its time.
    is_finishing: bool,
    noted_at: Mono,
    noted_bytes: u64,
}

impl Agent {
    /// Takes what happened to the live path of a command.
    pub fn handle_live(
        &mut self,
        key: CommandKey,
        event: LiveEvent,
        now: Mono,
        out: &mut Vec<Action>,
    ) {
        match event {
            LiveEvent::Opened(Ok(())) => {
                if !self.move_on(key, Input::Reserved) {
                    return;
                }
                if self.is_finishing(key) {
                    self.close_live(key, out);
                } else if !self.limits.is_open(key.job) {
                    self.hold_back(key, out);
                }
            }
            LiveEvent::Opened(Err(failure)) => self.fail(key, failure, now, out),
            LiveEvent::Seen(sight) => {
                let stage = self.deliveries.get(&key).map(|delivery| delivery.stage);
                if stage == Some(Stage::Fetching) {
                    self.with_live(key, out, |live, actions| {
                        live.reflect.handle_sight(&sight, now, actions);
                    });
                }
            }
            LiveEvent::Closed(sight) => {
                let Some(live) = self.live_mut(key) else { return };
                // Its reports would say what is not so any more.
                let mut unsaid = Vec::new();
                if let Some(sight) = sight {
                    live.reflect.handle_sight(&sight, now, &mut unsaid);
                }
                live.reflect.close();
                if self.is_finishing(key) {
                    self.finish_live(key, now, out);
                } else {
                    self.consider_live(key, now, out);
                }
            }
        }
    }

    /// The base says from whom a live path is reflected.
    pub(super) fn handle_reflect(
        &mut self,
        key: CommandKey,
        (epoch, sources): (Epoch, Vec<LiveSource>),
        now: Mono,
        out: &mut Vec<Action>,
    ) {
        let mut is_other = false;
        self.with_live(key, out, |live, actions| {
            is_other = live.reflect.handle_sources(epoch, &sources, actions);
        });
        if is_other {
            self.journal(Record::Reflect { key, sources }, out);
            self.consider_live(key, now, out);
        }
    }

    /// The base says that a live path has had its time.
    pub(super) fn handle_finish(&mut self, key: CommandKey, now: Mono, out: &mut Vec<Action>) {
        let Some(live) = self.live_mut(key) else { return };
        live.is_finishing = true;
        let is_open = live.reflect.is_open();
        match self.deliveries.get(&key).map(|delivery| delivery.stage) {
            Some(Stage::Fetching | Stage::Reserving) if is_open => self.close_live(key, out),
            Some(Stage::Waiting | Stage::RetryWait | Stage::Fetching) => {
                self.finish_live(key, now, out);
            }
            _ => {}
        }
    }

    /// Opens a live path that may be open, or ends one that has had its time.
    pub(super) fn consider_live(&mut self, key: CommandKey, now: Mono, out: &mut Vec<Action>) {
        let Some(delivery) = self.deliveries.get(&key) else { return };
        let Some(live) = delivery.live.as_deref() else { return };
        if delivery.stage != Stage::Waiting {
            return;
        }
        if live.is_finishing {
            return self.finish_live(key, now, out);
        }
        if let Op::Live { path, from } = &delivery.op
            && let Err(error) = check_live(path, from)
        {
            let failure = Failure { reason: Reason::PathConflict, detail: error.to_string() };
            return self.fail(key, failure, now, out);
        }
        if live.reflect.can_open() && self.limits.is_open(key.job) {
            self.move_on(key, Input::Begin);
            self.with_live(key, out, |live, actions| live.reflect.open(now, actions));
        }
    }

    /// Closes the live path of a command, if it is open. Its last look follows.
    pub(super) fn close_live(&self, key: CommandKey, out: &mut Vec<Action>) {
        let Some(delivery) = self.deliveries.get(&key) else { return };
        let is_open = delivery.live.as_ref().is_some_and(|live| live.reflect.is_open());
        if let Op::Live { path, .. } = &delivery.op
            && is_open
        {
            out.push(Action::Live { key, action: LiveAction::Close { path: path.clone() } });
        }
    }

    /// Notes in the journal what has come of live paths, for the receipt of a node that is killed.
    pub(super) fn note_live(&mut self, now: Mono, out: &mut Vec<Action>) {
        for key in self.fetching.iter().copied().collect::<Vec<_>>() {
            let Some(live) = self.live_mut(key) else { continue };
            let bytes = live.reflect.bytes();
            if bytes == live.noted_bytes || now.since(live.noted_at) < NOTE_EVERY {
                continue;
            }
            (live.noted_at, live.noted_bytes) = (now, bytes);
            let (via, totals) = (live.reflect.via().clone(), live.reflect.totals());
            self.journal(Record::Reflected { key, via, totals }, out);
        }
    }

    /// The live path has been closed for good: the receipt, or a failure where nothing came.
    fn finish_live(&mut self, key: CommandKey, now: Mono, out: &mut Vec<Action>) {
        let stage = self.deliveries.get(&key).map(|delivery| delivery.stage);
        let is_under_way = matches!(
            stage,
            Some(Stage::Waiting | Stage::RetryWait | Stage::Reserving | Stage::Fetching)
        );
        let Some(live) = self.live_mut(key).filter(|_| is_under_way) else { return };
        if live.reflect.totals().packets == 0 {
            let detail = "no packet has come before the job was ended".to_owned();
            let reason = Reason::NoSource;
            if self.move_on(key, Input::GiveUp) {
                let record = Record::Failed { key, reason, detail: detail.clone() };
                let report = Report::Failed { key, reason, detail, is_final: true };
                self.end(key, record, report, now, out);
            }
            return;
        }
        self.move_on(key, Input::Due);
        self.move_on(key, Input::Whole);
        self.outbox.push(None, Report::Applying { key });
        self.apply(key, out);
    }

    fn is_finishing(&self, key: CommandKey) -> bool {
        let live = self.deliveries.get(&key).and_then(|delivery| delivery.live.as_deref());
        live.is_some_and(|live| live.is_finishing)
    }

    fn live_mut(&mut self, key: CommandKey) -> Option<&mut Live> {
        self.deliveries.get_mut(&key)?.live.as_deref_mut()
    }

    /// Runs `step` on a live path and does what it asks for.
    fn with_live(
        &mut self,
        key: CommandKey,
        out: &mut Vec<Action>,
        step: impl FnOnce(&mut Live, &mut Vec<ReflectAction>),
    ) {
        let Some(live) = self.live_mut(key) else { return };
        let mut actions = Vec::new();
        step(live, &mut actions);
        let offset = live.reflect.bytes();
        for action in actions {
            match action {
                ReflectAction::Open(sources) => {
                    let urls = sources.into_iter().map(|source| source.url).collect();
                    let op = self.deliveries.get(&key).map(|delivery| &delivery.op);
                    let Some(Op::Live { path, .. }) = op else { continue };
                    let action = LiveAction::Open { path: path.clone(), urls };
                    out.push(Action::Live { key, action });
                }
                ReflectAction::Flows { source, cause } => {
                    self.note_failure(key, None);
                    let source = source.node;
                    let report = Report::Fetching { key, offset, source, cause, before: 0 };
                    self.outbox.push(None, report);
                }
                ReflectAction::Dry { detail } => {
                    let reason = Reason::NoSource;
                    self.note_failure(key, Some(reason));
                    let report = Report::Failed { key, reason, detail, is_final: false };
                    self.outbox.push(None, report);
                }
            }
        }
    }

    fn note_failure(&mut self, key: CommandKey, reason: Option<Reason>) {
        if let Some(delivery) = self.deliveries.get_mut(&key) {
            delivery.failure = reason;
        }
    }
}

impl Delivery {
    /// Bytes and rate of a live path that is open.
    pub(super) fn live_progress(&self) -> Option<(u64, u64)> {
        let live = self.live.as_ref().filter(|live| live.reflect.flows_from().is_some())?;
        Some((live.reflect.bytes(), live.reflect.rate()))
    }

    /// That packets come, and from whom.
    pub(super) fn live_flow(&self, key: CommandKey) -> Option<Report> {
        let live = self.live.as_ref()?;
        let source = live.reflect.flows_from()?.node.clone();
        let (offset, cause) = (live.reflect.bytes(), SwitchCause::First);
        Some(Report::Fetching { key, offset, source, cause, before: 0 })
    }

    /// As many records as make the same live path again.
    pub(super) fn live_records(&self, key: CommandKey) -> impl Iterator<Item = Record> {
        let live = self.live.as_ref().filter(|_| self.end.is_none());
        let reflect = live.map(|live| &live.reflect);
        let sources = reflect.map(|reflect| reflect.sources()).filter(|list| !list.is_empty());
        let sources = sources.map(|list| Record::Reflect { key, sources: list.to_vec() });
        let came = reflect.filter(|reflect| reflect.bytes() > 0);
        let came = came.map(|reflect| {
            let (via, totals) = (reflect.via().clone(), reflect.totals());
            Record::Reflected { key, via, totals }
        });
        sources.into_iter().chain(came)
    }
}

/// Between two notes of what has come.
const NOTE_EVERY: Duration = Duration::from_secs(10);
