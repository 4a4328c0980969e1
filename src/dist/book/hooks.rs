//! Notifications: which is due when, and what became of the attempts.
//!
//! ```text
//! event of the job --note--> waits --due--> take_due: Call --> edge: reads the event, POSTs it
//!                              ^                                         |
//!                              '-- 5 s, 10 s .. 1 h --- failed ---- settle ---- taken: next event
//! ```
//! The chain of events is what is to be sent; a notification has its place in it. So an event and
//! its notification are one commit, nothing is kept twice, and no queue can overflow.
//!
//! Invariants: a receiver has one event at a time, in the order of their numbers; its place moves
//! when it has taken the event, or did not take it in time. An attempt whose end is not heard (its
//! base is gone, its answer was lost) is made again: at least once, under the same id.
//! Bounds: `Limits::hooks` of them, `Limits::hooks_open` attempts at once, of which
//! `Limits::hooks_per_host` go to one host.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use crate::dist::book::options::ns;
use crate::dist::book::{Limits, Timeouts};
use crate::dist::ids::{HookId, JobId, Stamp};
use crate::dist::rows::HookRow;
use crate::dist::webhook::message::Call;
use crate::dist::webhook::target::{AllowedNetworks, Target};
use crate::dist::wire::hook::{HookState, NotificationView, Topic};
use crate::dist::wire::job::EventView;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Hooks {
    all: BTreeMap<HookId, Hook>,
    /// Those that wait for an attempt, and those in one: when it counts as lost.
    due: BTreeSet<(u64, HookId)>,
    /// Attempts at each host.
    hosts: HashMap<String, usize>,
    /// Rows that are to be written.
    changed: BTreeSet<HookId>,
    open: usize,
    /// Those of which nothing follows are ended behind the events that are not noted yet.
    is_sweep_due: bool,
    numbers: HookNumbers,
}

#[derive(Debug)]
struct Hook {
    row: HookRow,
    host: String,
    due_ns: Option<u64>,
    is_open: bool,
}

/// Numbers of notifications, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HookNumbers {
    /// Events that wait for a receiver.
    pub pending: u64,
    /// Attempts that are open.
    pub open: u64,
    /// Nanoseconds for which the oldest event waits.
    pub lag_ns: u64,
    /// Events that were taken, since the start of the base.
    pub delivered: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Events that were not taken in time.
    pub dropped: u64,
    /// Receivers that said that they are gone.
    pub disabled: u64,
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// The receiver has taken it.
    Taken,
    /// The receiver is gone for good.
    Gone,
    /// Anything else, for people; it is made again.
    Failed(String),
    /// There is no event for the receiver up to the newest that the call names.
    Nothing,
}

/// An attempt, and what it was about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookReport {
    /// Whose it was.
    pub hook: HookId,
    /// Number of the event; of the newest that the call names, where there was none.
    pub seq: u64,
    /// UTC nanoseconds of the event.
    pub at_ns: i64,
    /// Kind of the event.
    pub kind: String,
    /// What became of it.
    pub attempt: Attempt,
    /// Events of the receiver that have waited for too long, this one first: number of the last,
    /// and how many.
    pub stale: Option<(u64, u64)>,
}

/// What an attempt has changed, for the chain of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Settled {
    Nothing,
    /// The receiver knows the end of the job.
    Told {
        url: String,
        attempts: u32,
    },
    Dropped {
        url: String,
        count: u64,
    },
    Disabled {
        url: String,
        count: u64,
    },
}

impl Hooks {
    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    /// Adds one, as it was asked for or as a row says. It is to be written when `is_new`.
    pub(super) fn add(&mut self, row: HookRow, is_new: bool, now: Stamp) {
        let target = Target::parse(&row.url, &AllowedNetworks::default());
        // What is not allowed any more still has a host; the edge says that it is not.
        let host = target.map_or_else(|_| row.url.clone(), |target| target.authority());
        let id = row.id;
        let wait_ns = u64::try_from(row.due_at_ns.saturating_sub(now.utc_ns)).unwrap_or(0);
        let has_more = row.has_more();
        self.all.insert(id, Hook { row, host, due_ns: None, is_open: false });
        if is_new {
            self.changed.insert(id);
        }
        if has_more {
            self.schedule(id, now.mono_ns.saturating_add(wait_ns.min(WAIT_NS_MAX)));
        }
    }

    /// Jobs with events that a receiver has not taken.
    pub(super) fn waiting_jobs(&self) -> impl Iterator<Item = JobId> {
        self.all.iter().filter(|(_, hook)| hook.row.has_more()).map(|(id, _)| id.job)
    }

    /// Jobs of these for which somebody is told of failures.
    pub(super) fn wants_failures(&self, jobs: &BTreeSet<JobId>) -> Vec<JobId> {
        let wants = |job: &&JobId| {
            self.of(**job).any(|hook| {
                hook.row.state == HookState::Active && hook.row.topics.contains(&Topic::Failure)
            })
        };
        jobs.iter().filter(wants).copied().collect()
    }

    /// An event is in the chain.
    pub(super) fn note(&mut self, event: &EventView, now: Stamp) {
        let Some(job) = event.job else { return };
        let mut waiting = Vec::new();
        for (id, hook) in self.all.range_mut(range_of(job)) {
            let row = &mut hook.row;
            let is_wanted = row.state == HookState::Active
                && row.topics.iter().any(|topic| topic.includes(&event.kind));
            if !is_wanted {
                continue;
            }
            if !row.has_more() {
                row.pending = 0;
                row.waits_since_ns = event.at_ns;
            }
            row.pending += 1;
            row.newest = event.seq;
            self.changed.insert(*id);
            if hook.due_ns.is_none() {
                waiting.push(*id);
            }
        }
        waiting.into_iter().for_each(|id| self.schedule(id, now.mono_ns));
    }

    /// What is to be sent now, those that wait longest first.
    pub(super) fn take_due(&mut self, limits: &Limits, times: &Timeouts, now: Stamp) -> Vec<Call> {
        let mut calls = Vec::new();
        let due: Vec<HookId> = self.due.range(..=(now.mono_ns, LAST)).map(|(_, id)| *id).collect();
        for id in due {
            let Some(hook) = self.all.get_mut(&id) else { continue };
            // Its end was not heard: it has its place already.
            if !hook.is_open {
                let at_host = self.hosts.get(&hook.host).copied().unwrap_or_default();
                if self.open >= limits.hooks_open || at_host >= limits.hooks_per_host {
                    continue;
                }
                self.open += 1;
                *self.hosts.entry(hook.host.clone()).or_default() += 1;
                hook.is_open = true;
            }
            let HookRow { id, url, secret, topics, place, newest, client_ref, .. } =
                hook.row.clone();
            let kept_ns = i64::try_from(ns(times.hook_kept)).unwrap_or(i64::MAX);
            calls.push(Call {
                hook: id,
                url,
                secret,
                topics,
                after: place,
                newest,
                client_ref,
                stale_before_ns: now.utc_ns.saturating_sub(kept_ns),
            });
            self.schedule(id, now.mono_ns.saturating_add(OPEN_NS_MAX));
        }
        calls
    }

    /// Takes the end of an attempt. One that is told twice has no second effect.
    pub(super) fn settle(&mut self, report: HookReport, times: &Timeouts, now: Stamp) -> Settled {
        let HookReport { hook: id, seq, at_ns, kind, attempt, stale } = report;
        let Some(hook) = self.all.get_mut(&id) else { return Settled::Nothing };
        if std::mem::take(&mut hook.is_open) {
            self.open = self.open.saturating_sub(1);
            if let Some(count) = self.hosts.get_mut(&hook.host) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.hosts.remove(&hook.host);
                }
            }
        }
        let row = &mut hook.row;
        if row.state != HookState::Active || seq <= row.place {
            let next = row.has_more().then_some(now.mono_ns);
            self.reschedule(id, next);
            return Settled::Nothing;
        }
        self.changed.insert(id);
        // What is next came later.
        row.waits_since_ns = row.waits_since_ns.max(at_ns);
        let url = shown(&row.url);
        let mut wait = Duration::ZERO;
        let settled = match attempt {
            Attempt::Taken => {
                let attempts = row.take(seq, now.utc_ns);
                self.numbers.delivered += 1;
                match Topic::End.includes(&kind) {
                    true => Settled::Told { url, attempts },
                    false => Settled::Nothing,
                }
            }
            Attempt::Nothing => {
                row.place = seq;
                row.pending = 0;
                Settled::Nothing
            }
            Attempt::Gone => {
                let count = row.pending;
                row.last_error = Some("the receiver is gone (HTTP 410)".to_owned());
                row.end(HookState::Disabled);
                self.numbers.dropped += count;
                self.numbers.disabled += 1;
                Settled::Disabled { url, count }
            }
            Attempt::Failed(why) => {
                row.fail(&why, stale);
                self.numbers.failed += 1;
                wait = backoff(row.attempts, times);
                let count = stale.map_or(0, |(_, count)| count);
                self.numbers.dropped += count;
                if count > 0 { Settled::Dropped { url, count } } else { Settled::Nothing }
            }
        };
        // The count is for people; what decides are the numbers.
        row.pending = if row.has_more() { row.pending.max(1) } else { 0 };
        let next = row.has_more().then(|| now.mono_ns.saturating_add(ns(wait)));
        self.reschedule(id, next);
        if let (Some(hook), Some(_)) = (self.all.get_mut(&id), next) {
            let wait_ns = i64::try_from(ns(wait)).unwrap_or(i64::MAX);
            hook.row.due_at_ns = now.utc_ns.saturating_add(wait_ns);
        }
        settled
    }

    /// A minute has passed: [`Hooks::sweep`] is due when all events so far are noted.
    pub(super) fn minute(&mut self) {
        self.is_sweep_due = true;
    }

    /// Whether it is due. It is said once.
    pub(super) fn take_sweep(&mut self) -> bool {
        std::mem::take(&mut self.is_sweep_due)
    }

    /// Ends those of jobs that have ended for good, once all is sent, and lets go of those whose
    /// jobs are gone.
    pub(super) fn sweep(&mut self, fate: impl Fn(JobId) -> JobFate) {
        let mut gone = Vec::new();
        for (id, hook) in &mut self.all {
            let fate = fate(id.job);
            if hook.row.has_more() || fate == JobFate::Open {
                continue;
            }
            if hook.row.state == HookState::Active {
                hook.row.end(HookState::Done);
                self.changed.insert(*id);
            }
            if fate == JobFate::Gone && !self.changed.contains(id) {
                gone.push(*id);
            }
        }
        for id in gone {
            self.reschedule(id, None);
            self.all.remove(&id);
        }
    }

    /// Rows that have changed, each once.
    pub(super) fn take_changed(&mut self) -> impl Iterator<Item = HookRow> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().filter_map(|id| Some(self.all.get(&id)?.row.clone()))
    }

    /// Those of a job, in order.
    pub(super) fn views(&self, job: JobId) -> Vec<NotificationView> {
        self.of(job).map(|hook| hook.row.view()).collect()
    }

    pub(super) fn numbers(&self, now: Stamp) -> HookNumbers {
        let rows = self.all.values().map(|hook| &hook.row).filter(|row| row.has_more());
        let (mut pending, mut since_ns) = (0, now.utc_ns);
        for row in rows {
            pending += row.pending;
            since_ns = since_ns.min(row.waits_since_ns);
        }
        let lag_ns = u64::try_from(now.utc_ns.saturating_sub(since_ns)).unwrap_or(0);
        let open = u64::try_from(self.open).unwrap_or(u64::MAX);
        HookNumbers { pending, open, lag_ns, ..self.numbers }
    }

    fn of(&self, job: JobId) -> impl Iterator<Item = &Hook> {
        self.all.range(range_of(job)).map(|(_, hook)| hook)
    }

    fn schedule(&mut self, id: HookId, at_ns: u64) {
        self.reschedule(id, Some(at_ns));
    }

    fn reschedule(&mut self, id: HookId, at_ns: Option<u64>) {
        let Some(hook) = self.all.get_mut(&id) else { return };
        if let Some(before) = std::mem::replace(&mut hook.due_ns, at_ns) {
            self.due.remove(&(before, id));
        }
        self.due.extend(at_ns.map(|at_ns| (at_ns, id)));
    }
}

/// What has become of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JobFate {
    /// Something of it may happen yet.
    Open,
    /// It has ended for good.
    Ended,
    /// The book does not have it any more.
    Gone,
}

impl HookRow {
    /// The first row of one that is asked for.
    #[must_use]
    pub fn new(id: HookId, url: String, topics: Vec<Topic>) -> Self {
        Self {
            id,
            url,
            secret: None,
            topics,
            client_ref: None,
            state: HookState::Active,
            place: 0,
            newest: 0,
            pending: 0,
            waits_since_ns: 0,
            delivered: 0,
            dropped: 0,
            attempts: 0,
            due_at_ns: 0,
            delivered_at_ns: None,
            last_error: None,
        }
    }

    /// Events wait.
    fn has_more(&self) -> bool {
        self.state == HookState::Active && self.newest > self.place
    }

    /// The receiver has taken this event. Gives the attempts that it took.
    fn take(&mut self, seq: u64, now_ns: i64) -> u32 {
        self.place = seq;
        self.pending = self.pending.saturating_sub(1);
        self.delivered += 1;
        self.delivered_at_ns = Some(now_ns);
        self.last_error = None;
        std::mem::take(&mut self.attempts).saturating_add(1)
    }

    /// An attempt has failed; these events have waited for too long.
    fn fail(&mut self, why: &str, stale: Option<(u64, u64)>) {
        self.attempts = self.attempts.saturating_add(1);
        self.last_error = Some(why.chars().take(ERROR_CHARS_MAX).collect());
        if let Some((last, count)) = stale {
            self.place = self.place.max(last);
            self.pending = self.pending.saturating_sub(count);
            self.dropped += count;
        }
    }

    /// Nothing follows: the secret is not needed any more.
    fn end(&mut self, state: HookState) {
        self.state = state;
        self.secret = None;
        self.dropped += std::mem::take(&mut self.pending);
    }

    fn view(&self) -> NotificationView {
        NotificationView {
            hook: self.id.hook,
            url: shown(&self.url),
            is_signed: self.secret.is_some(),
            events: self.topics.clone(),
            state: self.state,
            pending: self.pending,
            delivered: self.delivered,
            dropped: self.dropped,
            attempts: self.attempts,
            next_attempt_at_ns: self.has_more().then_some(self.due_at_ns),
            delivered_at_ns: self.delivered_at_ns,
            last_error: self.last_error.clone(),
        }
    }
}

/// Events of a receiver in a page of its job's: the first, and those of them, from the first on
/// without a gap, that have waited for too long: number of the last, and how many.
#[must_use]
pub fn first_and_stale<'e>(
    call: &Call,
    events: &'e [EventView],
) -> Option<(&'e EventView, Option<(u64, u64)>)> {
    let mut wanted = events.iter().filter(|event| call.is_for(event)).peekable();
    let first = *wanted.peek()?;
    let stale = wanted.take_while(|event| event.at_ns < call.stale_before_ns);
    let stale = stale.fold(None, |found: Option<(u64, u64)>, event| {
        Some((event.seq, found.map_or(0, |(_, count)| count) + 1))
    });
    Some((first, stale))
}

/// 5 s, 10 s, 20 s .. 1 h.
fn backoff(attempts: u32, times: &Timeouts) -> Duration {
    let doubled = 1_u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
    times.hook_retry.saturating_mul(doubled).min(times.hook_retry_max)
}

fn shown(url: &str) -> String {
    crate::base::secrets::shown_url(url)
}

fn range_of(job: JobId) -> std::ops::RangeInclusive<HookId> {
    HookId { job, hook: 0 }..=HookId { job, hook: u32::MAX }
}

/// Behind every other.
const LAST: HookId = HookId { job: JobId(uuid::Uuid::max()), hook: u32::MAX };
/// An attempt has ended by then, and its end was told, or never will be.
const OPEN_NS_MAX: u64 = 60_000_000_000;
/// A clock that was set back does not keep what waits for longer.
const WAIT_NS_MAX: u64 = 3_600_000_000_000;
const ERROR_CHARS_MAX: usize = 300;
