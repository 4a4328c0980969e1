//! Reports on their way to the base, in order and each counted once.
//!
//! ```text
//! push -> pending --next_batch--> sent (numbers first..) --taken--> gone
//! ```
//! Invariants: a batch that is not taken is sent again with the same numbers and the same reports;
//! one batch is under way. Bounds: `BATCH_MAX` reports a batch. What waits is bounded by the open
//! commands: each gives a few reports that stay, and of those that a later one outdates (a source,
//! an attempt that failed, a bad unit, an answer, edges that do not connect) the newest
//! `PASSING_MAX` are kept.

use std::collections::{HashMap, VecDeque};

use crate::dist::ids::{CommandKey, ContentId};
use crate::dist::wire::agent::Report;

/// Reports that the base has not taken.
#[derive(Debug)]
pub(super) struct Outbox {
    /// Number of the first report of `sent`, or of the next one.
    first: u64,
    sent: Vec<Entry>,
    pending: VecDeque<Entry>,
    /// How many reports of `pending` are outdated by a later one.
    passing: HashMap<Subject, usize>,
}

/// What a report that passes is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Subject {
    Command(CommandKey),
    Parts(CommandKey),
    Content(ContentId),
    Question,
    Edges,
}

/// A report, and the command that is to know when it was taken.
#[derive(Debug)]
struct Entry {
    key: Option<CommandKey>,
    report: Report,
}

impl Default for Outbox {
    fn default() -> Self {
        Self { first: 1, sent: Vec::new(), pending: VecDeque::new(), passing: HashMap::new() }
    }
}

impl Outbox {
    pub(super) fn push(&mut self, key: Option<CommandKey>, report: Report) {
        if let Some(subject) = passing(&report) {
            let count = self.passing.entry(subject).or_default();
            if *count < PASSING_MAX {
                *count += 1;
            } else {
                let is_oldest = |entry: &Entry| passing(&entry.report) == Some(subject);
                let oldest = self.pending.iter().position(is_oldest);
                oldest.and_then(|place| self.pending.remove(place));
            }
        }
        self.pending.push_back(Entry { key, report });
    }

    /// Reports that the base has not taken.
    pub(super) fn count(&self) -> usize {
        self.sent.len() + self.pending.len()
    }

    /// The batch under way again, or the next one: the number of its first report, and reports.
    pub(super) fn next_batch(&mut self) -> (u64, Vec<Report>) {
        if self.sent.is_empty() {
            let count = self.pending.len().min(BATCH_MAX);
            self.sent.extend(self.pending.drain(..count));
            for subject in self.sent.iter().filter_map(|entry| passing(&entry.report)) {
                if let Some(count) = self.passing.get_mut(&subject) {
                    *count -= 1;
                    if *count == 0 {
                        self.passing.remove(&subject);
                    }
                }
            }
        }
        (self.first, self.sent.iter().map(|entry| entry.report.clone()).collect())
    }

    /// The base has all reports up to the number `taken`. False when it has fewer than it said
    /// before: numbers have to begin anew.
    pub(super) fn handle_taken(
        &mut self,
        taken: u64,
        mut on_taken: impl FnMut(CommandKey, &Report),
    ) -> bool {
        let Some(count) = (taken + 1).checked_sub(self.first) else { return false };
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(self.sent.len());
        for Entry { key, report } in self.sent.drain(..count) {
            self.first += 1;
            if let Some(key) = key {
                on_taken(key, &report);
            }
        }
        true
    }

    /// Numbers begin at 1 again.
    pub(super) fn renumber(&mut self) {
        self.first = 1;
        for entry in self.sent.drain(..).rev() {
            if let Some(subject) = passing(&entry.report) {
                *self.passing.entry(subject).or_default() += 1;
            }
            self.pending.push_front(entry);
        }
    }
}

/// What the report is about, if a later one about it outdates it.
const fn passing(report: &Report) -> Option<Subject> {
    match report {
        Report::Fetching { key, .. } | Report::Failed { key, is_final: false, .. } => {
            Some(Subject::Command(*key))
        }
        Report::Further { key, .. } => Some(Subject::Parts(*key)),
        Report::BadUnit { content, .. } => Some(Subject::Content(*content)),
        Report::Received { .. }
        | Report::Progress { .. }
        | Report::Applying { .. }
        | Report::Completed { .. }
        | Report::Failed { is_final: true, .. }
        | Report::Relayed { .. }
        | Report::Cancelled { .. } => None,
        Report::Answer { .. } | Report::Neighbour { .. } | Report::Probed { .. } => {
            Some(Subject::Question)
        }
        Report::Unreachable { .. } => Some(Subject::Edges),
    }
}

const BATCH_MAX: usize = 512;
/// An attempt that fails and its next source are two.
const PASSING_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dist::ids::{CommandId, JobId};
    use uuid::Uuid;

    fn key(command: u32) -> CommandKey {
        CommandKey { job: JobId(Uuid::nil()), command: CommandId(command) }
    }

    fn report(command: u32) -> Report {
        Report::Received { key: key(command) }
    }

    fn push(outbox: &mut Outbox, command: u32) {
        outbox.push(Some(key(command)), report(command));
    }

    #[test]
    fn batch_is_said_again_unchanged_until_it_is_taken() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.count(), 0);
        push(&mut outbox, 1);
        push(&mut outbox, 2);
        assert_eq!(outbox.next_batch(), (1, vec![report(1), report(2)]));
        push(&mut outbox, 3);
        assert_eq!(outbox.next_batch(), (1, vec![report(1), report(2)]));
        let mut taken = 0;
        assert!(outbox.handle_taken(1, |_, _| taken += 1));
        assert_eq!((taken, outbox.next_batch()), (1, (2, vec![report(2)])));
        assert!(outbox.handle_taken(2, |_, _| taken += 1));
        assert_eq!((taken, outbox.next_batch()), (2, (3, vec![report(3)])));
        assert!(outbox.handle_taken(9, |_, _| taken += 1), "more than was said counts as all");
        assert_eq!((taken, outbox.next_batch()), (3, (4, vec![])));
    }

    #[test]
    fn base_that_has_lost_reports_is_told_all_that_it_has_not_taken_under_new_numbers() {
        let mut outbox = Outbox::default();
        push(&mut outbox, 1);
        let _ = outbox.next_batch();
        assert!(outbox.handle_taken(1, |_, _| ()));
        push(&mut outbox, 2);
        let _ = outbox.next_batch();
        assert!(!outbox.handle_taken(0, |_, _| ()));
        outbox.renumber();
        assert_eq!(outbox.next_batch(), (1, vec![report(2)]));
    }

    #[test]
    fn base_that_stays_away_is_told_the_newest_of_what_passes_and_all_that_stays() {
        let mut outbox = Outbox::default();
        push(&mut outbox, 1);
        let fetching = |offset| Report::Fetching {
            key: key(1),
            offset,
            source: None,
            cause: crate::dist::wire::agent::SwitchCause::Lost,
            before: 0,
        };
        let bad = |unit| Report::BadUnit { content: ContentId(Uuid::nil()), source: None, unit };
        for round in 0..1_000 {
            outbox.push(None, fetching(round));
            outbox.push(None, bad(round));
        }
        push(&mut outbox, 2);
        assert_eq!(outbox.count(), 2 + 2 * PASSING_MAX);
        let newest = (1_000 - PASSING_MAX as u64)..1_000;
        let passing = newest.flat_map(|round| [fetching(round), bad(round)]);
        let all: Vec<Report> = [report(1)].into_iter().chain(passing).chain([report(2)]).collect();
        assert_eq!(outbox.next_batch(), (1, all.clone()));
        // What is under way stays as it is; under new numbers it is among what waits again.
        outbox.push(None, fetching(1_000));
        assert_eq!(outbox.next_batch(), (1, all));
        outbox.renumber();
        for round in 0..1_000 {
            outbox.push(None, fetching(round));
        }
        assert_eq!(outbox.count(), 3 + 2 * PASSING_MAX);
        assert!(outbox.passing.values().all(|count| *count <= PASSING_MAX + 1));
    }
}
