//! What is known of a node that does not get on, and what comes next for it, as states.
//!
//! ```text
//! Well --ask--> Asked --it got on, or may still--> Well
//!                 | no answer (3 times), an error, 3 periods without progress; but Well when
//!                 | another node sees it alive: the way to the base is broken, not the node
//!                 v
//!  Well ..--> Repairing --a sign of life, a new start--> Activating --answer, probe--> Well
//!                 | 3 tries                                   | none of these: Repairing
//!                 v
//!               Failed --a sign of life--> Activating
//! ```
//! Invariant: what is done about a node follows from this and the time; [`super::repair`] does it.

use std::time::Duration;

use crate::dist::book::options::{Timeouts, ns};
use crate::dist::ids::{JobId, NodeName, Stamp};
use crate::dist::rows::CareRow;
use crate::dist::wire::job::{CarePhase, Reason, RepairCause, RepairView};

/// See the module. One of each node.
#[derive(Debug, Clone)]
pub(super) struct Care {
    pub(super) phase: CarePhase,
    pub(super) cause: Option<RepairCause>,
    /// Repair tries so far.
    pub(super) tries: u32,
    /// Times that the question of now was asked.
    pub(super) asks: u32,
    /// Wait periods in a row that were extended although it had not got on.
    pub(super) extensions: u32,
    /// Number of the question of now.
    pub(super) query: u64,
    /// Number of the first question since it was well.
    pub(super) first_query: u64,
    /// Another node has seen it alive since it was asked first.
    pub(super) is_seen: bool,
    /// Number of the probe that it is at, and how many commands it has open.
    pub(super) probe: Option<(u64, u64)>,
    /// When the next step is due.
    pub(super) due_ns: Option<u64>,
    /// Steps forward of its deliveries since the book began.
    pub(super) steps: u64,
    /// Those of them that were known when it was last judged.
    seen: u64,
    judged_ns: Option<u64>,
    pub(super) expected_back_ns: Option<i64>,
    /// Jobs in whose events the repair of now is: its end is told to them, also where the node has
    /// delivered meanwhile.
    pub(super) told: Vec<JobId>,
}

/// What an answer comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It got on.
    GotOn,
    /// It has not, but may: its sources are looked at.
    Waits,
    /// It has to be mended.
    Repair(RepairCause),
}

impl Default for Care {
    fn default() -> Self {
        Self {
            phase: CarePhase::Well,
            cause: None,
            tries: 0,
            asks: 0,
            extensions: 0,
            query: 0,
            first_query: 0,
            is_seen: false,
            probe: None,
            due_ns: None,
            steps: 0,
            seen: 0,
            judged_ns: None,
            expected_back_ns: None,
            told: Vec::new(),
        }
    }
}

impl Care {
    /// What a row says, with what is due at its time, or at once.
    pub(super) fn from_row(row: &CareRow, now: Stamp) -> Self {
        let due_ns = row.due_at_ns.map(|due_at_ns| {
            let wait_ns = u64::try_from(due_at_ns.saturating_sub(now.utc_ns)).unwrap_or(0);
            now.mono_ns.saturating_add(wait_ns.min(ns(WAIT_MAX)))
        });
        Self {
            phase: row.phase,
            cause: row.cause,
            tries: row.tries,
            extensions: row.extensions,
            due_ns,
            expected_back_ns: row.expected_back_ns,
            ..Self::default()
        }
    }

    /// The row of a node.
    pub(super) fn row(&self, node: NodeName, now: Stamp) -> CareRow {
        let due_at_ns = self.due_ns.map(|due_ns| {
            let wait_ns = i64::try_from(due_ns.saturating_sub(now.mono_ns)).unwrap_or(i64::MAX);
            now.utc_ns.saturating_add(wait_ns)
        });
        CareRow {
            node,
            phase: self.phase,
            cause: self.cause,
            tries: self.tries,
            extensions: self.extensions,
            due_at_ns,
            expected_back_ns: self.expected_back_ns,
        }
    }

    /// `None` for a node of which there is nothing to say.
    pub(super) fn view(&self) -> Option<RepairView> {
        let is_quiet = matches!(self.phase, CarePhase::Well | CarePhase::Asked);
        if is_quiet && self.expected_back_ns.is_none() {
            return None;
        }
        let Self { phase, cause, tries, expected_back_ns, .. } = self;
        Some(RepairView {
            phase: *phase,
            cause: *cause,
            tries: *tries,
            expected_back_ns: *expected_back_ns,
        })
    }

    /// A delivery of the node has taken a step forward.
    pub(super) fn note_step(&mut self) {
        self.steps += 1;
    }

    /// Whether it has taken steps since it was last looked at.
    pub(super) fn got_on(&self) -> bool {
        self.steps != self.seen
    }

    /// Progress counts from now on. No effect while it is being looked at.
    pub(super) fn begin_period(&mut self) {
        if self.phase == CarePhase::Well && self.extensions == 0 {
            self.seen = self.steps;
        }
    }

    /// Whether it may be asked now: not twice within `pause`.
    pub(super) fn may_be_asked(&self, now_ns: u64, pause: Duration) -> bool {
        let judged_ns = self.judged_ns.unwrap_or(0);
        let is_early = self.judged_ns.is_some() && now_ns.saturating_sub(judged_ns) < ns(pause);
        self.phase == CarePhase::Well && !is_early
    }

    /// It is asked, with a question of this number: the first time, or again.
    pub(super) fn ask(&mut self, phase: CarePhase, query: u64, now_ns: u64, timeouts: &Timeouts) {
        let is_again = self.phase == phase;
        self.asks = if is_again { self.asks + 1 } else { 1 };
        self.is_seen &= is_again;
        if !is_again {
            self.first_query = query;
        }
        self.phase = phase;
        self.query = query;
        self.probe = None;
        self.due_ns = Some(now_ns.saturating_add(ns(timeouts.query)));
    }

    /// It has said what it has, with so many commands open, and is to show that it works.
    pub(super) fn begin_probe(&mut self, number: u64, open: u64, now_ns: u64, times: &Timeouts) {
        self.probe = Some((number, open));
        self.due_ns = Some(now_ns.saturating_add(ns(times.probe)));
    }

    /// Whether the question may be asked once more.
    pub(super) fn may_ask_again(&self) -> bool {
        let most = if self.phase == CarePhase::Activating { ACTIVATION_ASKS } else { ASKS };
        self.asks < most
    }

    /// It has answered in `Asked`; `reasons` are those of attempts that failed.
    pub(super) fn judge(&mut self, reasons: &[Reason], now_ns: u64) -> Verdict {
        (self.judged_ns, self.due_ns, self.phase) = (Some(now_ns), None, CarePhase::Well);
        if self.got_on() {
            (self.seen, self.extensions) = (self.steps, 0);
            return Verdict::GotOn;
        }
        if let Some(cause) = reasons.iter().copied().find_map(cause_of) {
            return Verdict::Repair(cause);
        }
        self.extensions += 1;
        if self.extensions >= EXTENSIONS {
            return Verdict::Repair(RepairCause::AppWedged);
        }
        Verdict::Waits
    }

    /// Whether a question of this number is one of those that are asked now.
    pub(super) fn asked_since(&self, query: u64) -> bool {
        self.phase == CarePhase::Asked && query >= self.first_query && query <= self.query
    }

    /// It gives the base no answer, and another node has seen it alive: only the way between the
    /// two is broken, and there is nothing to be mended at it.
    pub(super) fn is_parted(&self) -> bool {
        self.phase == CarePhase::Asked && self.is_seen
    }

    /// It is parted from the base: it is asked again at the end of the next wait period.
    pub(super) fn wait_parted(&mut self, now_ns: u64) {
        (self.phase, self.due_ns, self.judged_ns) = (CarePhase::Well, None, Some(now_ns));
        (self.asks, self.is_seen) = (0, false);
    }

    /// It is being mended from now on.
    pub(super) fn begin_repair(&mut self, cause: RepairCause) {
        let is_again = matches!(self.phase, CarePhase::Repairing | CarePhase::Activating);
        (self.phase, self.cause, self.due_ns) = (CarePhase::Repairing, Some(cause), None);
        self.probe = None;
        if !is_again {
            self.tries = 0;
        }
        self.seen = self.steps;
    }

    /// The next try; `None` when there were enough.
    pub(super) fn next_try(&mut self, now_ns: u64, timeouts: &Timeouts) -> Option<u32> {
        let wait = timeouts.repair.get(usize::try_from(self.tries).ok()?)?;
        self.tries += 1;
        self.due_ns = Some(now_ns.saturating_add(ns(*wait)));
        Some(self.tries)
    }

    /// Whether a sign of life means that it is back.
    pub(super) fn waits_for_life(&self) -> bool {
        match self.phase {
            CarePhase::Failed => true,
            CarePhase::Repairing => self.cause == Some(RepairCause::Unanswered),
            CarePhase::Well | CarePhase::Asked | CarePhase::Activating => false,
        }
    }

    /// It is well.
    pub(super) fn end(&mut self, now_ns: u64) {
        (self.phase, self.cause, self.due_ns) = (CarePhase::Well, None, None);
        self.probe = None;
        (self.tries, self.asks, self.extensions) = (0, 0, 0);
        (self.seen, self.judged_ns) = (self.steps, Some(now_ns));
        self.expected_back_ns = None;
        self.told.clear();
    }

    /// It is given up until it is back.
    pub(super) fn give_up(&mut self) {
        (self.phase, self.due_ns) = (CarePhase::Failed, None);
    }
}

/// What is to be mended when an attempt failed for this reason; `None`: nothing that could be.
fn cause_of(reason: Reason) -> Option<RepairCause> {
    match reason {
        Reason::NoSource | Reason::BadHash => Some(RepairCause::SourceBad),
        Reason::Io => Some(RepairCause::JournalBad),
        // Room was made for it already.
        Reason::NoSpace
        | Reason::Permission
        | Reason::PathConflict
        | Reason::UploadAbandoned
        | Reason::Attempts
        | Reason::Deadline
        | Reason::NodeRetired
        | Reason::NodeFailed
        | Reason::Quota => None,
    }
}

/// A question without an answer is asked so often.
const ASKS: u32 = 3;
/// The same of a node that has come back: its stream of orders may have to begin.
const ACTIVATION_ASKS: u32 = 15;
/// Wait periods in a row that are extended for a node that answers and has not got on.
const EXTENSIONS: u32 = 3;
/// A row with a later time is one of another clock.
const WAIT_MAX: Duration = Duration::from_secs(3_600);

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn asked(care: &mut Care) {
        care.ask(CarePhase::Asked, 1, S, &Timeouts::default());
    }

    #[test]
    fn node_that_answers_is_extended_twice_without_progress_then_mended() {
        let mut care = Care::default();
        for verdict in [Verdict::Waits, Verdict::Waits, Verdict::Repair(RepairCause::AppWedged)] {
            asked(&mut care);
            assert_eq!(care.judge(&[], S), verdict);
        }
        let mut care = Care::default();
        for _ in 0..9 {
            care.note_step();
            asked(&mut care);
            assert_eq!(care.judge(&[Reason::Io], S), Verdict::GotOn);
        }
        asked(&mut care);
        let verdict = care.judge(&[Reason::NoSpace, Reason::NoSource], S);
        assert_eq!(verdict, Verdict::Repair(RepairCause::SourceBad));
    }

    #[test]
    fn question_is_asked_three_times_and_repair_is_tried_at_5_30_and_120_s() {
        let mut care = Care::default();
        for asks in 1..=3 {
            asked(&mut care);
            assert_eq!((care.asks, care.due_ns), (asks, Some(3 * S)));
            assert_eq!(care.may_ask_again(), asks < 3);
        }
        care.begin_repair(RepairCause::Unanswered);
        assert!(care.waits_for_life());
        for (number, seconds) in [(1, 5), (2, 30), (3, 120)] {
            assert_eq!(care.next_try(S, &Timeouts::default()), Some(number));
            assert_eq!(care.due_ns, Some(S + seconds * S));
        }
        assert_eq!(care.next_try(S, &Timeouts::default()), None);
        care.give_up();
        assert!(care.waits_for_life() && care.due_ns.is_none());
        care.end(S);
        assert!(!care.may_be_asked(2 * S, Duration::from_secs(30)));
        assert!(care.may_be_asked(31 * S, Duration::from_secs(30)));
    }

    #[test]
    fn row_gives_the_same_state_at_another_clock() {
        let mut care = Care { expected_back_ns: Some(7), ..Care::default() };
        care.begin_repair(RepairCause::Unanswered);
        let _first = care.next_try(9 * S, &Timeouts::default());
        let then = Stamp { mono_ns: 9 * S, utc_ns: 1_000 };
        let row = care.row(NodeName::new("a").unwrap(), then);
        let now = Stamp { mono_ns: 2 * S, utc_ns: 1_000 + 1_000_000_000 };
        let read = Care::from_row(&row, now);
        assert_eq!((read.phase, read.tries), (CarePhase::Repairing, 1));
        assert_eq!((read.due_ns, read.expected_back_ns), (Some(6 * S), Some(7)));
    }
}
