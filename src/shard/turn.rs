//! The shard's thread: what a turn does, in which order, and how the shard stops.
//!
//! Invariants: completions are looked at before anything new is submitted; everything of a turn is
//! submitted by one `enter`; user code of a shard never touches media bytes.

use std::time::Duration;

use super::build::Shard;
use super::ring::RingError;
use super::stop::Phase;
use crate::base::budget::Budget;
use crate::base::limits::{TIMERS_A_TURN, TURN_SHARE};
use crate::base::time::Mono;
use crate::metrics::cells::{Counter, TransportKind};
use crate::session::action::TimerKey;

impl Shard {
    /// Runs until it is stopped and drained.
    ///
    /// # Errors
    /// The ring is of no use any more.
    pub fn run(mut self) -> Result<(), RingError> {
        loop {
            self.work()?;
            if self.is_drained() {
                // What was asked of the ring in this turn, the last BYEs, is still to be sent.
                return self.ring.enter(Some(0));
            }
            self.publish();
            match self.idle_until().filter(|_| self.inbox.announce_sleep()) {
                Some(deadline) => self.ring.enter_until(self.sessions.cx.now, deadline)?,
                None => self.ring.enter(Some(0))?,
            }
            self.inbox.announce_awake();
        }
    }

    /// All of a turn but its system call. What strangers can cause without end has a share of it:
    /// the pumps run in every turn.
    pub(super) fn work(&mut self) -> Result<(), RingError> {
        self.read_clock();
        self.take_waiting_datagrams();
        self.reap()?;
        self.sessions.cx.out.append(&mut self.unsent);
        self.settle();
        self.serve_arrivals();
        self.settle();
        self.read_inbox();
        self.answer_question();
        self.guarded(None, Self::end_sessions);
        self.guarded(None, |shard| shard.sessions.live.feed_live(&mut shard.sessions.cx));
        self.handle_timers();
        self.guarded(None, Self::pump_live);
        self.settle();
        self.flush();
        Ok(())
    }

    /// Looks at all that has happened, until the sends of the turn before have. Linked runs go out
    /// one after the other, and the kernel returns before the last of them when enough else has
    /// happened: what is submitted then would overtake them.
    fn reap(&mut self) -> Result<(), RingError> {
        // Bounded: datagram sends never wait, so a round or two are enough.
        let has_ended = within_rounds(REAP_ROUNDS_MAX, || {
            while let Some(completion) = self.ring.next_completion() {
                self.handle_completion(completion);
            }
            if !self.ring.has_unsent_runs() {
                return Ok(true);
            }
            self.ring.enter(Some(0))?;
            Ok(false)
        })?;
        if !has_ended {
            self.note_unsent_runs();
        }
        Ok(())
    }

    /// The turn goes on: what it submits may overtake what is still on its way.
    pub(super) fn note_unsent_runs(&mut self) {
        self.cells.turns_with_unsent_runs.add(1);
        self.warnings.once(UNSENT_RUNS, &format_args!("after {REAP_ROUNDS_MAX} rounds"));
    }

    fn read_clock(&mut self) {
        self.sessions.cx.now = clock();
        let utc = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let utc_ns = utc.map_or(0, |since| since.as_nanos());
        self.sessions.cx.utc_ns = i64::try_from(utc_ns).unwrap_or(i64::MAX);
    }

    fn handle_timers(&mut self) {
        let now = self.sessions.cx.now;
        let mut due = std::mem::take(&mut self.due);
        self.sessions.cx.wheel.expire(now, &mut due);
        // Reports first: the first one tells how to read the timestamps that follow.
        for key in &due {
            match *key {
                TimerKey::Stream { .. } => {}
                // As good as a stream's: it has the reader pumped in this turn.
                key @ TimerKey::LiveReader { .. } => {
                    self.guarded(None, |shard| shard.sessions.handle_timer(key));
                }
                key => self.waiting_timers.push_back(key),
            }
        }
        let mut budget = Budget::new(TIMERS_A_TURN, TURN_SHARE).with_stride(16);
        // Reports and BYEs only as far as they can be sent in this turn.
        while self.sessions.cx.out.len() < self.ring.free_run_count()
            && budget.has_room(clock)
            && let Some(key) = self.waiting_timers.pop_front()
        {
            budget.spend();
            match key {
                TimerKey::Connection(entry) => {
                    self.guarded(None, |shard| shard.handle_idle_connection(entry));
                }
                key => self.guarded(key.session(), |shard| shard.sessions.handle_timer(key)),
            }
        }
        // What they answer goes out before any packet of this turn.
        self.settle();
        self.sessions.vod.keep_due_streams(&mut due);
        let mut pumped = 0;
        // In their order: what finds no slot goes first in the next turn, which comes at once.
        while let Some(key) = due.get(pumped).filter(|_| self.ring.has_free_run()) {
            pumped += 1;
            if let TimerKey::Stream { session, .. } = *key {
                self.guarded(Some(session), |shard| shard.pump(*key));
            }
        }
        due.drain(..pumped);
        self.due = due;
    }

    /// Until when there is nothing to do; `None`: there is.
    pub(super) fn idle_until(&self) -> Option<Mono> {
        if matches!(self.phase, Phase::Ending { .. })
            || !self.unsent.is_empty()
            || !self.sessions.cx.out.is_empty()
            || !self.entries.dirty.is_empty()
            || !self.due.is_empty()
            || !self.waiting_timers.is_empty()
            || !self.arrivals.is_empty()
            || !self.questions.is_empty()
            || self.sessions.live.is_unsettled()
        {
            return None;
        }
        let now = self.sessions.cx.now;
        let limit = if self.phase.is_stopping() { DRAIN_STEP } else { IDLE_WAIT };
        let due =
            self.sessions.cx.wheel.next_due().into_iter().chain(self.sessions.live.next_due());
        Some(due.fold(now + limit, Mono::min))
    }

    fn publish(&self) {
        self.cells.turns.add(1);
        let (stats, cells) = (self.ring.stats(), &self.cells);
        let raise = |cell: &Counter, total: u64| cell.add(total.saturating_sub(cell.value()));
        raise(&cells.uring_enters, stats.enters);
        raise(&cells.gso_refusals, stats.gso_refusals);
        raise(&cells.datagrams_oversized, stats.datagrams_dropped);
        for kind in [TransportKind::Udp as usize, TransportKind::Tcp as usize] {
            raise(&cells.send_zerocopy[kind], stats.zerocopy.sent[kind]);
            raise(&cells.send_zerocopy_copied[kind], stats.zerocopy.copied[kind]);
        }
        self.cells.poll_entries.set(self.entries.table.count() as u64);
        self.cells.poll_entries_suspended.set(self.entries.table.suspended_count() as u64);
    }
}

/// Whether something ends within so many rounds. Each says whether it has.
fn within_rounds<E>(
    rounds_max: usize,
    mut round: impl FnMut() -> Result<bool, E>,
) -> Result<bool, E> {
    for _ in 0..rounds_max {
        if round()? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The shard's only clocks.
pub(super) fn clock() -> Mono {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    Mono(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// More than any row of linked runs takes.
const REAP_ROUNDS_MAX: usize = 64;
/// Said once of a shard.
const UNSENT_RUNS: &str =
    "packets of the turn before are still being sent: later ones may overtake them";
/// An idle shard looks around once a second.
const IDLE_WAIT: Duration = Duration::from_secs(1);
/// How often a stopping shard sees whether it is done.
const DRAIN_STEP: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_end_with_what_they_wait_for_or_at_their_bound() {
        for (needed, expected) in [(1, true), (3, true), (4, false), (100, false)] {
            let mut rounds = 0;
            let ended: Result<bool, ()> = within_rounds(3, || {
                rounds += 1;
                Ok(rounds >= needed)
            });
            assert_eq!((ended, rounds), (Ok(expected), needed.min(3)), "{needed}");
        }
        assert_eq!(within_rounds(3, || Err("no ring")), Err("no ring"));
    }
}
