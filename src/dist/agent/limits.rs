//! Terms of jobs at a node: which job may fetch and send now.
//!
//! ```text
//! order: epoch, terms --> kept by job        answer to reports: time of the base --> own clock
//! time passes --> changed: jobs that open or close, or may take another rate
//! ```
//! Invariants: terms of an older epoch have no effect; hours count by the time of the base as it
//! was last heard, however wrong the node's own clock is. Until it is heard a job with hours is
//! closed.
//! Bound: `JOBS_MAX` jobs; terms of more are not taken.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::time::Mono;
use crate::dist::ids::{Epoch, JobId};
use crate::dist::terms::Terms;
use crate::dist::uplink::Share;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Limits {
    jobs: BTreeMap<JobId, Known>,
    /// Time of the base, and when it was heard.
    clock: Option<(i64, Mono)>,
    /// Jobs of which something was said.
    new: BTreeSet<JobId>,
    /// Time of the base at which the first of them changes by its hours.
    next_ns: Option<i64>,
}

#[derive(Debug)]
struct Known {
    epoch: Epoch,
    terms: Terms,
    is_open: bool,
}

/// What has become of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Changed {
    pub(super) job: JobId,
    /// `None`: nothing is said of it any more.
    pub(super) limit: Option<(Share, Option<u64>)>,
    /// Which of the puts that wait is fetched first.
    pub(super) priority: Option<u8>,
    pub(super) is_open: bool,
}

impl Limits {
    /// Takes terms. False when they are of an older epoch, or say nothing new.
    pub(super) fn take(&mut self, job: JobId, epoch: Epoch, terms: &Terms) -> bool {
        let known = self.jobs.get(&job);
        let is_old = known.is_some_and(|known| epoch < known.epoch);
        if is_old || known.is_none() && self.jobs.len() >= JOBS_MAX {
            return false;
        }
        if known.is_none() && *terms == Terms::default() {
            return false;
        }
        let is_new = known.is_none_or(|known| known.terms != *terms);
        let is_open = known.is_none_or(|known| known.is_open);
        self.jobs.insert(job, Known { epoch, terms: terms.clone(), is_open });
        self.new.insert(job);
        is_new
    }

    /// It is this time at the base.
    pub(super) fn set_clock(&mut self, utc_ns: i64, now: Mono) {
        self.clock = Some((utc_ns, now));
        // All hours count by the new time.
        self.next_ns = Some(i64::MIN);
    }

    /// Takes terms of a journal.
    pub(super) fn replay(&mut self, job: JobId, terms: Terms) {
        self.jobs.insert(job, Known { epoch: Epoch(0), terms, is_open: true });
        self.new.insert(job);
    }

    /// Another base has taken over: its terms count, whatever their number.
    pub(super) fn handle_new_base(&mut self) {
        self.jobs.values_mut().for_each(|known| known.epoch = Epoch(0));
    }

    /// Nothing is said of a job any more. False when nothing was.
    pub(super) fn forget(&mut self, job: JobId) -> bool {
        let was_known = self.jobs.remove(&job).is_some();
        if was_known {
            self.new.insert(job);
        }
        was_known
    }

    /// Whether a job may fetch, as [`Self::changed`] last said.
    pub(super) fn is_open(&self, job: JobId) -> bool {
        self.jobs.get(&job).is_none_or(|known| known.is_open)
    }

    /// Whether a job keeps to a rate.
    pub(super) fn has_rate(&self, job: JobId) -> bool {
        let terms = self.jobs.get(&job).map(|known| &known.terms);
        terms.is_some_and(|terms| terms.max_rate.is_some() || terms.per_node_rate.is_some())
    }

    /// What has changed since the last call.
    pub(super) fn changed(&mut self, now: Mono) -> Vec<Changed> {
        let at_ns = self.clock.map(|(at_ns, heard)| {
            let passed_ns = i64::try_from(now.since(heard).as_nanos()).unwrap_or(i64::MAX);
            at_ns.saturating_add(passed_ns)
        });
        let is_due = self.next_ns.zip(at_ns).is_some_and(|(next_ns, at_ns)| at_ns >= next_ns);
        let mut new = std::mem::take(&mut self.new);
        if new.is_empty() && !is_due {
            return Vec::new();
        }
        self.next_ns = None;
        for (job, known) in &mut self.jobs {
            let hours = known.terms.hours.as_ref().zip(at_ns);
            let next_ns = hours.and_then(|(hours, at_ns)| hours.next_change_ns(at_ns));
            self.next_ns = [self.next_ns, next_ns].into_iter().flatten().min();
            let is_known = at_ns.is_some() || known.terms.hours.is_none();
            let is_open = is_known && known.terms.is_open_at(at_ns.unwrap_or_default());
            if std::mem::replace(&mut known.is_open, is_open) != is_open {
                new.insert(*job);
            }
        }
        let changed = new.into_iter().map(|job| {
            let known = self.jobs.get(&job);
            let limit = known.map(|Known { terms, is_open, .. }| {
                let share = Share { is_open: *is_open, ..terms.share() };
                (share, terms.per_node_rate)
            });
            let priority = known.map(|known| known.terms.priority);
            Changed { job, limit, priority, is_open: known.is_none_or(|known| known.is_open) }
        });
        changed.collect()
    }

    /// All terms, for the journal.
    pub(super) fn all(&self) -> impl Iterator<Item = (JobId, &Terms)> {
        self.jobs.iter().map(|(job, known)| (*job, &known.terms))
    }
}

/// Jobs of a base.
const JOBS_MAX: usize = 20_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;
    use crate::dist::window::Hours;

    const JOB: JobId = JobId(Uuid::nil());

    fn at(seconds: u64) -> Mono {
        Mono(1) + Duration::from_secs(seconds)
    }

    fn terms(changes_s: &[i64]) -> Terms {
        let hours = Hours { is_open: true, changes_s: changes_s.to_vec() };
        Terms { hours: Some(hours), ..Terms::default() }
    }

    #[test]
    fn hours_count_by_the_time_of_the_base() {
        let mut limits = Limits::default();
        let second = 1_000_000_000;
        assert!(limits.take(JOB, Epoch(2), &terms(&[1_010, 1_020])));
        assert!(!limits.changed(at(50))[0].is_open, "nobody knows what time it is");
        limits.set_clock(1_000 * second, at(50));
        assert!(limits.changed(at(50))[0].is_open);
        assert_eq!(limits.changed(at(59)), []);
        assert!(!limits.changed(at(60))[0].is_open && !limits.is_open(JOB));
        assert_eq!(limits.changed(at(69)), []);
        assert!(limits.changed(at(70))[0].is_open);
        // The clock of the base was moved.
        limits.set_clock(1_015 * second, at(71));
        assert!(!limits.changed(at(71))[0].is_open);
        assert!(!limits.take(JOB, Epoch(2), &terms(&[1_010, 1_020])), "nothing new");
    }

    #[test]
    fn older_terms_have_no_effect_unless_the_base_is_another() {
        let mut limits = Limits::default();
        let paused = Terms { is_paused: true, ..Terms::default() };
        assert!(limits.take(JOB, Epoch(5), &paused));
        assert!(!limits.take(JOB, Epoch(4), &Terms::default()));
        assert!(!limits.changed(at(1))[0].is_open);
        limits.handle_new_base();
        assert!(limits.take(JOB, Epoch(1), &Terms::default()));
        assert!(limits.changed(at(2))[0].is_open);
        assert!(limits.forget(JOB) && !limits.forget(JOB));
        let forgotten = Changed { job: JOB, limit: None, priority: None, is_open: true };
        assert_eq!(limits.changed(at(3)), [forgotten]);
    }

    #[test]
    fn terms_of_a_journal_count_until_others_come() {
        let mut limits = Limits::default();
        limits.replay(JOB, Terms { is_paused: true, ..Terms::default() });
        assert!(!limits.changed(at(1))[0].is_open);
        // The base does not say that it knows nothing of terms: it says those without any.
        assert!(limits.take(JOB, Epoch(1), &Terms::default()));
        assert!(limits.changed(at(1))[0].is_open);
    }
}
