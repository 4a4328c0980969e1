//! Sessions move by themselves from a shard that is much busier than another.
//!
//! ```text
//!  every LOOK: CPU time of each shard's thread --Balancer--> (busiest, idlest, a few sessions)
//!     gap >= GAP_MIN for STREAK looks: begins     gap < GAP_ENOUGH: has done enough
//! ```
//! The time that a shard's thread runs is the honest measure of its turns: sends happen inside of
//! its system call, and so does its sleep. Invariants: nothing moves while no shard is busy, and
//! never more than a share of a shard's sessions in a minute. Bound: `MOVES_A_LOOK`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::ids::ShardId;
use crate::metrics::cells::ShardCells;
use crate::poll::poller::Poller;
use crate::shard::inbox::{Inbox, Message};

/// Decides how many sessions move, and from where to where.
#[derive(Debug, Default)]
struct Balancer {
    /// Looks in a row that found one shard much busier than another.
    streak: u32,
    /// Sessions move until the shards are about as busy as each other.
    is_active: bool,
    /// When so many sessions moved from a shard.
    moved: VecDeque<(Instant, usize, usize)>,
}

/// What is seen of a shard.
#[derive(Debug, Clone, Copy)]
struct Load {
    /// Share of the time since the last look that its thread ran, 0 to 1.
    busy: f64,
    sessions: u64,
}

/// Sessions that are to move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shift {
    from: usize,
    to: usize,
    count: usize,
}

impl Balancer {
    fn look(&mut self, loads: &[Load], now: Instant) -> Option<Shift> {
        let by_busy = |a: &(usize, &Load), b: &(usize, &Load)| a.1.busy.total_cmp(&b.1.busy);
        let (from, busiest) = loads.iter().enumerate().max_by(by_busy)?;
        let (to, idlest) = loads.iter().enumerate().min_by(by_busy)?;
        let gap = busiest.busy - idlest.busy;
        self.is_active &= gap >= GAP_ENOUGH && busiest.busy >= BUSY_MIN;
        if !self.is_active {
            let is_far = gap >= GAP_MIN && busiest.busy >= BUSY_MIN;
            self.streak = if is_far { self.streak + 1 } else { 0 };
            if self.streak < STREAK {
                return None;
            }
            (self.is_active, self.streak) = (true, 0);
        }
        while self.moved.front().is_some_and(|(at, ..)| now.duration_since(*at) >= MINUTE) {
            self.moved.pop_front();
        }
        let moved: usize = self.moved.iter().filter(|(_, of, _)| *of == from).map(|m| m.2).sum();
        let sessions = usize::try_from(busiest.sessions).unwrap_or(usize::MAX);
        let share = (sessions / SHARE_A_MINUTE).max(MOVES_A_LOOK);
        // One alone is as busy anywhere.
        let count = MOVES_A_LOOK.min(share.saturating_sub(moved)).min(sessions / 2);
        if count == 0 {
            return None;
        }
        self.moved.push_back((now, from, count));
        Some(Shift { from, to, count })
    }
}

/// Has sessions move until its runtime ends.
pub(super) async fn run(cells: Vec<Arc<ShardCells>>, poller: Arc<Poller<Inbox>>) {
    let mut balancer = Balancer::default();
    let busy_ns = |cells: &Arc<ShardCells>| cells.busy_ns.value();
    let (mut before, mut at) = (cells.iter().map(busy_ns).collect::<Vec<u64>>(), Instant::now());
    loop {
        tokio::time::sleep(LOOK).await;
        let (now_ns, now) = (cells.iter().map(busy_ns).collect::<Vec<u64>>(), Instant::now());
        let passed = now.duration_since(at).as_secs_f64();
        let loads = cells.iter().zip(now_ns.iter().zip(&before)).map(|(cells, (now, before))| {
            let ran = Duration::from_nanos(now.saturating_sub(*before)).as_secs_f64();
            Load { busy: ran / passed, sessions: cells.sessions_counted.value() }
        });
        let loads: Vec<Load> = loads.collect();
        (before, at) = (now_ns, now);
        let Some(Shift { from, to, count }) = balancer.look(&loads, now) else { continue };
        let shards = [from, to].map(|shard| u8::try_from(shard).ok().map(ShardId));
        let [Some(from), Some(to)] = shards else { continue };
        tracing::info!(
            code = "HE-I407",
            from = from.0,
            to = to.0,
            count,
            "sessions move to a shard that is less busy"
        );
        if let Some(inbox) = poller.inbox(from) {
            // One that is full has other things to do.
            let _full = inbox.push(Message::Shed { to, count });
        }
    }
}

const MINUTE: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK: Duration = Duration::from_secs(2);
/// A shard that runs less than this of the time needs no relief.
const BUSY_MIN: f64 = 0.5;
/// Sessions begin to move when one shard runs so much more of the time than another.
const GAP_MIN: f64 = 0.3;
/// Less than this between them is left.
const GAP_ENOUGH: f64 = 0.15;
/// A gap is there for so many looks before sessions begin to move: starts and seeks are over then.
const STREAK: u32 = 3;
/// Sessions that move after one look.
const MOVES_A_LOOK: usize = 4;
/// A twentieth of a shard's sessions move in a minute at most.
const SHARE_A_MINUTE: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn loads(busy: [f64; 3], sessions: u64) -> [Load; 3] {
        busy.map(|busy| Load { busy, sessions })
    }

    /// Looks two seconds apart; the sessions that moved at each.
    fn moved(
        balancer: &mut Balancer,
        start: Instant,
        looks: &[[f64; 3]],
        sessions: u64,
    ) -> Vec<usize> {
        let at = |look: usize| start + LOOK * u32::try_from(look).unwrap();
        let counts = looks.iter().enumerate().map(|(look, busy)| {
            balancer.look(&loads(*busy, sessions), at(look)).map_or(0, |shift| shift.count)
        });
        counts.collect()
    }

    #[test]
    fn sessions_move_from_the_busiest_to_the_idlest_shard_until_the_gap_is_small() {
        let mut balancer = Balancer::default();
        let far = [0.4, 0.9, 0.2];
        let start = Instant::now();
        assert_eq!(moved(&mut balancer, start, &[far, far], 1_000), [0, 0], "it may pass");
        let shift = balancer.look(&loads(far, 1_000), start + LOOK * 2);
        assert_eq!(shift, Some(Shift { from: 1, to: 2, count: MOVES_A_LOOK }));
        let near = [0.5, 0.7, 0.5];
        assert_eq!(moved(&mut balancer, start + LOOK * 3, &[near], 1_000), [MOVES_A_LOOK]);
        let enough = [0.6, 0.65, 0.55];
        let after = [enough, near, near, near, near];
        assert_eq!(moved(&mut balancer, start + LOOK * 4, &after, 1_000), [0; 5], "hysteresis");
    }

    #[test]
    fn nothing_moves_while_no_shard_is_busy_or_the_gap_comes_and_goes() {
        let start = Instant::now();
        let idle = [[0.45, 0.0, 0.1]; 10];
        assert_eq!(moved(&mut Balancer::default(), start, &idle, 1_000), [0; 10]);
        let (far, even) = ([0.9, 0.1, 0.1], [0.9, 0.9, 0.9]);
        let flapping = [far, far, even, far, far, even, far, far, even];
        assert_eq!(moved(&mut Balancer::default(), start, &flapping, 1_000), [0; 9]);
    }

    #[test]
    fn no_more_than_a_share_of_the_sessions_moves_in_a_minute() {
        let start = Instant::now();
        let far = [[0.9, 0.1, 0.1]; 63];
        let counts = moved(&mut Balancer::default(), start, &far, 200);
        assert_eq!(counts[..30].iter().sum::<usize>(), 200 / SHARE_A_MINUTE, "{counts:?}");
        assert!(counts[32..].iter().sum::<usize>() > 0, "the next minute: {counts:?}");
        let few = moved(&mut Balancer::default(), start, &far, 1);
        assert_eq!(few.iter().sum::<usize>(), 0, "one alone is as busy anywhere");
    }
}
