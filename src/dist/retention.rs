//! Which events of the past a base need not keep in its ledger any more.
//!
//! ```text
//! chain: 1 .. n | n + 1 ..          events up to n go to files, and the ledger remembers the head
//!               '-- the first that is young, or of a job that is not long over
//! ```
//! Events are one chain, so what goes is its beginning: whoever has the files, or believes the head
//! that is remembered, checks the chain from end to end. A job that runs for long keeps what came
//! behind its first event.
//! Invariant: the last event stays: the next one follows from it.

use std::collections::BTreeSet;

use crate::dist::ids::JobId;
use crate::dist::wire::job::EventView;

/// How many of `events`, the first ones of the ledger, may go: those from before `until_ns` (UTC)
/// that are of no job of `kept`. `newest`: number of the last event of all.
#[must_use]
pub fn expired(events: &[EventView], until_ns: i64, kept: &BTreeSet<JobId>, newest: u64) -> usize {
    let is_expired = |event: &&EventView| {
        event.at_ns < until_ns
            && event.seq < newest
            && event.job.is_none_or(|job| !kept.contains(&job))
    };
    events.iter().take_while(is_expired).count()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::dist::ids::Digest;

    fn event(seq: u64, job: Option<u128>) -> EventView {
        EventView {
            seq,
            at_ns: i64::try_from(seq).unwrap() * 10,
            job: job.map(|job| JobId(Uuid::from_u128(job))),
            command: None,
            node: None,
            kind: "job.accepted".to_owned(),
            detail: json!({}),
            hash: Digest([0; 32]),
        }
    }

    #[test]
    fn beginning_of_the_chain_goes_up_to_what_is_young_or_of_a_job_that_is_kept() {
        let jobs = [None, Some(1), Some(2), None, Some(1)];
        let events: Vec<_> = (1..).zip(jobs).map(|(seq, job)| event(seq, job)).collect();
        let kept = |jobs: &[u128]| jobs.iter().map(|job| JobId(Uuid::from_u128(*job))).collect();
        let cases: [(i64, &[u128], u64, usize); 7] = [
            (1_000, &[], 9, 5),
            (1_000, &[], 5, 4),
            (31, &[], 9, 3),
            (30, &[], 9, 2),
            (1_000, &[2], 9, 2),
            (1_000, &[1], 9, 1),
            (0, &[], 9, 0),
        ];
        for (until_ns, of, newest, count) in cases {
            let found = expired(&events, until_ns, &kept(of), newest);
            assert_eq!(found, count, "{until_ns} {of:?} {newest}");
        }
        assert_eq!(expired(&[], 1, &BTreeSet::new(), 0), 0);
    }
}
