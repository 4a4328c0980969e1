//! The loop of a shard: the steps of a turn and their order.
//!
//! ```text
//!  reap -> settle -> arrivals -> inbox -> question -> end sessions -> timers -> pumps -> flush
//!    ^                                                                                    |
//!    +--------------------------- enter: submit and wait <--------------------------------+
//! ```
//! Invariants: completions are handled before new operations are submitted; one `enter` submits
//! all operations of a turn; code of a shard never touches media bytes.
//! Bounds: every step that strangers can feed without end has a share of the turn, so the pumps run
//! in every turn; `REAP_ROUNDS_MAX`.

use std::ops::ControlFlow;
use std::time::Duration;

use super::phase::Phase;
use super::ring::RingError;
use super::ring::kernel::Kernel;
use super::state::Shard;
use crate::base::budget::Budget;
use crate::base::carrier::Lower;
use crate::base::limits::{TIMERS_A_TURN, TURN_SHARE};
use crate::base::time::Mono;
use crate::metrics::cells::Counter;
use crate::poll::consumer::Event;
use crate::session::action::TimerKey;

impl<K: Kernel> Shard<K> {
    /// Runs turns until the shard is stopped and drained.
    ///
    /// # Errors
    /// The ring cannot be used any more.
    pub fn run(mut self) -> Result<(), RingError> {
        while self.turn()?.is_continue() {}
        Ok(())
    }

    /// Takes a turn with its system call, which submits all operations and waits. `Break`: the
    /// shard is stopped and drained.
    ///
    /// # Errors
    /// The ring cannot be used any more.
    pub fn turn(&mut self) -> Result<ControlFlow<()>, RingError> {
        self.inbox.announce_awake();
        self.work()?;
        if self.is_drained() {
            // The last BYEs are queued and not yet submitted.
            self.net.ring.enter(Some(0))?;
            return Ok(ControlFlow::Break(()));
        }
        self.publish();
        match self.idle_until().filter(|_| self.inbox.announce_sleep()) {
            Some(deadline) => self.net.ring.enter_until(self.sessions.cx.now, deadline)?,
            None => self.net.ring.enter(Some(0))?,
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Takes a turn without its system call.
    pub(super) fn work(&mut self) -> Result<(), RingError> {
        self.read_clock();
        if self.takeover.is_still() {
            return self.work_still();
        }
        self.take_waiting_datagrams();
        self.reap()?;
        self.sessions.cx.out.append(&mut self.unsent);
        self.settle();
        self.serve_arrivals();
        self.settle();
        self.post_leaves();
        self.read_inbox();
        if self.takeover.is_still() {
            return Ok(());
        }
        if let Some(question) = self.questions.pop() {
            self.guarded(None, |shard| question.answer(&shard.sessions));
        }
        self.guarded(None, Self::end_sessions);
        self.guarded(None, Self::end_drained_sessions);
        self.guarded(None, Self::go_on_with_moves);
        self.guarded(None, Self::look_at_quiet);
        self.guarded(None, Self::look_at_live);
        self.net.inputs.close_unclaimed(self.sessions.cx.now);
        self.guarded(None, |shard| shard.sessions.live.feed_live(&mut shard.sessions.cx));
        self.guarded(None, |shard| shard.sessions.go_on_with_tunings());
        self.handle_timers();
        self.guarded(None, |shard| shard.net.pump_live(&mut shard.sessions));
        self.settle();
        self.flush();
        Ok(())
    }

    /// Handles completions until the runs of the turn before are all answered. The kernel sends
    /// linked runs one after the other, and returns before the last of them when enough other
    /// operations have completed: runs submitted then would overtake those.
    pub(super) fn reap(&mut self) -> Result<(), RingError> {
        // Bounded: datagram sends never wait, so a round or two are enough.
        let has_ended = within_rounds(REAP_ROUNDS_MAX, || {
            while let Some(completion) = self.net.ring.next_completion() {
                self.handle_completion(completion);
            }
            if !self.net.ring.has_unsent_runs() {
                return Ok(true);
            }
            self.net.ring.enter(Some(0))?;
            Ok(false)
        })?;
        if !has_ended {
            self.note_unsent_runs();
        }
        Ok(())
    }

    /// Counts a turn that goes on although its packets may overtake those of the turn before.
    pub(super) fn note_unsent_runs(&mut self) {
        self.cells.turns_with_unsent_runs.add(1);
        let rounds = format_args!("after {REAP_ROUNDS_MAX} rounds");
        self.net.warnings.once("HE-W611", UNSENT_RUNS, &rounds);
    }

    pub(super) fn read_clock(&mut self) {
        let kernel = self.net.ring.kernel();
        (self.sessions.cx.now, self.sessions.cx.utc_ns) = (kernel.now(), kernel.utc_ns());
    }

    fn handle_timers(&mut self) {
        let now = self.sessions.cx.now;
        let mut due = std::mem::take(&mut self.due);
        self.sessions.cx.wheel.expire(now, &mut due);
        // Sender reports come before packets: the first one gives timestamps their meaning.
        for key in &due {
            match *key {
                TimerKey::Stream { .. } => {}
                // Handled at once, like streams: the reader is pumped in this turn.
                key @ TimerKey::LiveReader { .. } => {
                    self.guarded(None, |shard| shard.sessions.handle_timer(key));
                }
                key => self.waiting_timers.push_back(key),
            }
        }
        let mut budget = Budget::new(TIMERS_A_TURN, TURN_SHARE).with_stride(16);
        // No more reports and BYEs than the ring has sends for in this turn.
        while self.sessions.cx.out.len() < self.net.ring.free_run_count()
            && budget.has_room(|| self.net.ring.kernel().now())
            && let Some(key) = self.waiting_timers.pop_front()
        {
            budget.spend();
            match key {
                TimerKey::Connection(entry) => {
                    self.guarded(None, |shard| shard.handle_idle_connection(entry));
                }
                TimerKey::Login(entry) => {
                    self.guarded(None, |shard| shard.dispatch(entry, Event::Due));
                }
                key => self.guarded(key.session(), |shard| shard.sessions.handle_timer(key)),
            }
        }
        // Reports are sent before any packet of this turn.
        self.settle();
        self.sessions.vod.players.keep_due_streams(&mut due);
        let mut pumped = 0;
        // In order of the keys: a stream that finds no free run is first in the next turn, which
        // comes at once.
        while let Some(key) = due.get(pumped).filter(|_| self.net.ring.has_free_run()) {
            pumped += 1;
            if let TimerKey::Stream { session, .. } = *key {
                self.guarded(Some(session), |shard| shard.net.pump(&mut shard.sessions, *key));
            }
        }
        due.drain(..pumped);
        self.due = due;
    }

    /// The time until which the shard may sleep; `None`: work waits.
    pub(super) fn idle_until(&self) -> Option<Mono> {
        if let Some(due) = self.takeover.idle_until(self.sessions.cx.now) {
            return Some(due);
        }
        if matches!(self.phase, Phase::Ending { .. })
            || !self.unsent.is_empty()
            || !self.sessions.cx.out.is_empty()
            || !self.net.entries.dirty.is_empty()
            || !self.due.is_empty()
            || !self.waiting_timers.is_empty()
            || !self.arrivals.is_empty()
            || !self.questions.is_empty()
            || self.moves.is_pressing()
            || self.takeover.is_pressing()
            || self.sessions.live.is_unsettled()
        {
            return None;
        }
        let now = self.sessions.cx.now;
        let is_short = self.phase.is_stopping() || !self.leaves.is_empty() || self.moves.is_stuck();
        let limit = if is_short { DRAIN_STEP } else { IDLE_WAIT };
        let due =
            self.sessions.cx.wheel.next_due().into_iter().chain(self.sessions.live.next_due());
        let due = due.chain(self.drain_due()).chain(self.moves.next_due());
        let due = due.chain(self.takeover.next_due(now));
        Some(due.fold(now + limit, Mono::min))
    }

    fn publish(&mut self) {
        self.cells.turns.add(1);
        let (stats, cells) = (self.net.ring.stats(), &self.cells);
        if stats.refusals > cells.uring_refusals.value() {
            self.net.warnings.once("HE-W615", REFUSED, &"what is queued waits, in order");
        }
        if stats.cancelled > cells.uring_cancelled.value() {
            self.net.warnings.once("HE-W616", CANCELLED, &"it is begun again");
        }
        let raise = |cell: &Counter, total: u64| cell.add(total.saturating_sub(cell.value()));
        raise(&cells.uring_enters, stats.enters);
        raise(&cells.uring_overflows, stats.overflows);
        raise(&cells.uring_refusals, stats.refusals);
        raise(&cells.uring_cancelled, stats.cancelled);
        raise(&cells.uring_buffer_shortages, stats.buffer_shortages);
        raise(&cells.uring_pauses, stats.pauses);
        raise(&cells.gso_refusals, stats.gso_refusals);
        raise(&cells.datagrams_oversized, stats.datagrams_dropped);
        for kind in [Lower::Udp as usize, Lower::Tcp as usize] {
            raise(&cells.send_zerocopy[kind], stats.zerocopy.sent[kind]);
            raise(&cells.send_zerocopy_copied[kind], stats.zerocopy.copied[kind]);
            raise(&cells.send_zerocopy_refused[kind], stats.zerocopy.refused[kind]);
        }
        let now = self.sessions.cx.now;
        if now.since(self.moves.busy_read) >= BUSY_STEP {
            self.moves.busy_read = now;
            self.cells.busy_ns.set(self.net.ring.kernel().cpu_ns());
        }
        self.cells.sessions_away.set(self.sessions.cx.away.len() as u64);
        self.cells.sessions_counted.set(self.sessions.cx.session_count() as u64);
        self.cells.poll_entries.set(self.net.entries.table.count() as u64);
        self.cells.poll_entries_suspended.set(self.net.entries.table.suspended_count() as u64);
    }
}

/// Repeats `round` until it returns true. False: `rounds_max` rounds were not enough.
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

/// More than any chain of linked runs takes.
const REAP_ROUNDS_MAX: usize = 64;
const UNSENT_RUNS: &str =
    "packets of the turn before are still being sent: later ones may overtake them";
const REFUSED: &str = "the kernel takes no operations, for lack of memory or of room for their \
    results: packets are late";
const CANCELLED: &str = "the kernel has cancelled an operation by itself";
/// Between two readings of the CPU time of the thread.
const BUSY_STEP: Duration = Duration::from_millis(250);
/// The longest sleep of an idle shard.
const IDLE_WAIT: Duration = Duration::from_secs(1);
/// The longest sleep of a stopping shard, which checks whether it is drained, and of one with
/// messages that an inbox did not take.
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
