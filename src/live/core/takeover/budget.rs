//! How many of a shard's packets go along, where more are wanted than there is room for.
//!
//! ```text
//!  paths --bytes wanted--> shares: small wishes whole, the rest in equal parts; what readers need
//!        goes first, what is of use to others has what is left
//!  ring, share --tail, useful--> the batches that go along
//! ```
//! Readers who are further behind than their path's share skip, as readers do that are too late.
//! Invariants: shares are no more than the budget; a tail ends with the newest batch.
//! Bound: a look at the batches of a ring that are wanted.

use crate::base::time::Mono;
use crate::live::core::limits::RETRANSMIT_TIME;
use crate::live::core::ring::BatchRing;

/// Batches of a ring from a number to the newest one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail {
    /// Number of the oldest one; that of the next one to come, without any.
    pub from: u64,
    /// Their memory.
    pub bytes: usize,
}

impl BatchRing {
    /// The batches from a number on, without the oldest ones where `bytes_max` is not enough.
    #[must_use]
    pub fn tail(&self, from: u64, bytes_max: usize) -> Tail {
        let mut tail = Tail { from: self.end_no(), bytes: 0 };
        for no in (from.max(self.first_no())..self.end_no()).rev() {
            let Some(batch) = self.batch(no) else { break };
            let bytes = tail.bytes + batch.memory_bytes();
            if bytes > bytes_max {
                break;
            }
            tail = Tail { from: no, bytes };
        }
        tail
    }

    /// What is of use to who comes and to who asks for lost packets: the newest group of pictures,
    /// whole or not at all, and what came lately.
    #[must_use]
    pub fn useful(&self, bytes_max: usize, now: Mono) -> Tail {
        let is_fresh = |no: &u64| {
            self.batch(*no).is_some_and(|batch| now.since(batch.received()) <= RETRANSMIT_TIME)
        };
        let numbers = (self.first_no()..self.end_no()).rev();
        let fresh = numbers.take_while(is_fresh).last().unwrap_or_else(|| self.end_no());
        let fresh = self.tail(fresh, bytes_max);
        let Some(start) = self.newest_start().filter(|start| *start < fresh.from) else {
            return fresh;
        };
        let group = self.tail(start, bytes_max);
        // Without its key frame it would be of use to nobody.
        if group.from == start { group } else { fresh }
    }
}

/// Shares of paths that want so many bytes each: what their readers need, and what is of use to
/// others. Both end with the newest packet.
#[must_use]
pub fn path_shares(wanted: &[[usize; 2]], budget: usize) -> Vec<usize> {
    let needed: Vec<usize> = wanted.iter().map(|[needed, _]| *needed).collect();
    let mut sums = shares(&needed, budget);
    let more = wanted.iter().zip(&sums).map(|([_, useful], share)| useful.saturating_sub(*share));
    let more = shares(&more.collect::<Vec<_>>(), budget - sums.iter().sum::<usize>());
    sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
    sums
}

/// Shares a budget between those who want so much each: what the small ones leave goes on to the
/// others.
fn shares(wanted: &[usize], budget: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by_key(|place| wanted.get(*place));
    let (mut left, mut shares) = (budget, vec![0; wanted.len()]);
    for (n, place) in order.into_iter().enumerate() {
        let equal = left / (wanted.len() - n);
        if let (Some(share), Some(wanted)) = (shares.get_mut(place), wanted.get(place)) {
            *share = equal.min(*wanted);
            left -= *share;
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::live::core::batch::tests::{arrival, packet};
    use crate::live::core::batch::{BatchBuilder, Generation};
    use crate::live::core::ring::RingLimits;

    const MS: u64 = 1_000_000;

    /// A ring with a batch each 100 ms, with key frames at these numbers.
    fn ring(count: u16, syncs: &[u16]) -> BatchRing {
        let mut ring = BatchRing::new(Some(0), RingLimits::default());
        for seq in 0..count {
            let (bytes, at) = (packet(seq, 0, 1, 1_000), Mono(u64::from(seq) * 100 * MS));
            let mut builder = BatchBuilder::default();
            builder.push(&arrival(&bytes, 0, syncs.contains(&seq)), at).unwrap();
            ring.push(Arc::new(builder.build(Generation(0), |_| None).unwrap()), at);
        }
        ring
    }

    /// A tail without its key frame was recorded: it cost as much, and nobody could begin with it.
    #[test]
    fn group_goes_whole_or_only_what_may_be_asked_for_again() {
        let ring = ring(40, &[5]);
        let one = ring.batch(0).unwrap().memory_bytes();
        let now = Mono(3_900 * MS);
        let useful = |batches: usize| ring.useful(batches * one, now);
        assert_eq!(useful(100), Tail { from: 5, bytes: 35 * one });
        assert_eq!(useful(35).from, 5);
        // The last two seconds.
        assert_eq!(useful(34), Tail { from: 19, bytes: 21 * one });
        assert_eq!(useful(3), Tail { from: 37, bytes: 3 * one });
        assert_eq!(useful(0), Tail { from: 40, bytes: 0 });
        // Long after the last packet there is the group alone.
        let later = Mono(60_000 * MS);
        assert_eq!(ring.useful(35 * one, later).from, 5);
        assert_eq!(ring.useful(34 * one, later), Tail { from: 40, bytes: 0 });
    }

    #[test]
    fn tail_ends_with_the_newest_batch_and_begins_where_it_is_wanted_or_may() {
        let ring = ring(10, &[0]);
        let one = ring.batch(0).unwrap().memory_bytes();
        assert_eq!(ring.tail(4, 100 * one), Tail { from: 4, bytes: 6 * one });
        assert_eq!(ring.tail(0, 3 * one + 1), Tail { from: 7, bytes: 3 * one });
        assert_eq!(ring.tail(10, one), Tail { from: 10, bytes: 0 });
    }

    /// 4,000 paths, one of them with packets, had 8 KiB each.
    #[test]
    fn paths_that_want_nothing_leave_their_share_to_others() {
        let mut wanted = vec![0; 4_000];
        wanted[1_234] = 20 << 20;
        assert_eq!(shares(&wanted, 32 << 20)[1_234], 20 << 20);
        assert_eq!(shares(&[10, 500, 30, 700], 440), [10, 200, 30, 200]);
        assert_eq!(shares(&[], 9), [0; 0]);
    }

    /// What was only of use left a reader in the middle of a key frame less than it needed.
    #[test]
    fn what_readers_need_goes_before_what_is_of_use_to_others() {
        let mut wanted = vec![[0, 1_000]; 100];
        (wanted[7], wanted[8]) = ([80, 1_000], [0, 10]);
        let shares = path_shares(&wanted, 2_000);
        assert!(shares[7] >= 80, "{}", shares[7]);
        assert_eq!(shares[8], 10);
        assert!(shares.iter().sum::<usize>() <= 2_000);
        // One is part of the other.
        assert_eq!(path_shares(&[[100, 300], [500, 200]], 800), [300, 500]);
        assert_eq!(path_shares(&[[100, 300], [500, 200]], 700), [200, 500]);
    }

    proptest! {
        #[test]
        fn shares_are_within_the_budget_and_nobody_has_less_than_who_wants_less(
            wanted in prop::collection::vec(0_usize..1_000, 0..20),
            budget in 0_usize..5_000,
        ) {
            let shares = shares(&wanted, budget);
            prop_assert!(shares.iter().sum::<usize>() <= budget);
            let sum: usize = wanted.iter().sum();
            if sum <= budget {
                prop_assert_eq!(&shares, &wanted);
            }
            for (share, want) in shares.iter().zip(&wanted) {
                prop_assert!(share <= want);
                for (other, its) in shares.iter().zip(&wanted) {
                    prop_assert!(its < want || share == want || other <= &(share + 1));
                }
            }
        }
    }
}
