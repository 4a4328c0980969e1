//! The shard's thread: what a turn does, in which order, and how the shard stops.
//!
//! Invariants: completions are looked at before anything new is submitted; everything of a turn is
//! submitted by one `enter`; user code of a shard never touches media bytes.

use std::collections::{HashSet, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;

use super::arrivals::Arrivals;
use super::entries::Entries;
use super::inbox::Inbox;
use super::questions::Question;
use super::ring::{Ring, RingConfig, RingError};
use super::send::sink::RunOwner;
use super::sockets::groups::GroupSockets;
use super::sockets::inputs::Inputs;
use super::sockets::pairs::Pairs;
use super::sockets::{Family, UdpPair};
use crate::base::addresses::Addresses;
use crate::base::budget::Budget;
use crate::base::host::Host;
use crate::base::ids::ShardId;
use crate::base::limits::{TIMERS_A_TURN, TURN_SHARE};
use crate::base::seldom::Seldom;
use crate::base::time::Mono;
use crate::config::paths::PathTable;
use crate::consumers::Consumer;
use crate::consumers::rtsp_listener::RtspListener;
use crate::consumers::sessions::Sessions;
use crate::live::core::groups::MulticastSettings;
use crate::live::core::pump::Left;
use crate::metrics::cells::{Counter, ShardCells, TransportKind};
use crate::poll::poll_table::EntryKey;
use crate::poll::poller::Poller;
use crate::poll::task::Task;
use crate::session::action::{Action, TimerKey};
use crate::session::cx::SessionConfig;
use crate::session::directory::StreamRef;
use crate::worker::TaskQueue;

/// What a shard is made of.
#[derive(Debug)]
pub struct ShardConfig {
    /// Its place in the list of shards.
    pub id: ShardId,
    /// All shards' inboxes.
    pub poller: Arc<Poller<Inbox>>,
    /// Where its tasks go.
    pub queue: Arc<TaskQueue>,
    /// Where it counts.
    pub cells: Arc<ShardCells>,
    /// Its RTSP listeners.
    pub listeners: Vec<OwnedFd>,
    /// Its first pair of RTP and RTCP sockets.
    pub pair: UdpPair,
    /// Address that further pairs are bound to.
    pub pair_host: Host,
    /// How paths are sent to groups; `None`: they are not.
    pub multicast: Option<MulticastSettings>,
    /// PollTable rows at most.
    pub poll_entries_max: usize,
    /// What each address has of the RTSP connections of all shards.
    pub addresses: Arc<Addresses>,
    /// Limits of its sessions.
    pub sessions: SessionConfig,
    /// What is configured of paths.
    pub paths: Arc<PathTable>,
    /// Sizes of its ring.
    pub ring: RingConfig,
}

/// See the module.
#[derive(Debug)]
pub struct Shard {
    pub(super) id: ShardId,
    pub(super) poller: Arc<Poller<Inbox>>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) queue: Arc<TaskQueue>,
    pub(super) cells: Arc<ShardCells>,
    pub(super) ring: Ring,
    pub(super) entries: Entries,
    pub(super) sessions: Sessions,
    pub(super) pairs: Pairs,
    pub(super) pair_host: Host,
    pub(super) inputs: Inputs,
    pub(super) groups: GroupSockets,
    /// Runs that the ring has, by their tokens.
    pub(super) runs: Slab<RunOwner>,
    /// What pumping live paths leaves to be done; kept for its storage.
    pub(super) live_left: Left<EntryKey>,
    /// Streams of the connection that is flushed; kept for its storage.
    pub(super) ready: Vec<(Mono, StreamRef)>,
    /// BYEs that found no room in the ring: they go first in the next turn.
    pub(super) unsent: Vec<Action>,
    /// Storage that `settle` swaps with that of the sessions' actions.
    pub(super) spare_actions: Vec<Action>,
    /// Tasks that the queue handed back; their makers are told before the turn ends.
    pub(super) refused: Vec<(EntryKey, Task)>,
    /// Keys that have come up; between turns, those of streams that found no slot in the ring.
    pub(super) due: Vec<TimerKey>,
    /// Keys of another kind that have come up and wait for their share of a turn.
    pub(super) waiting_timers: VecDeque<TimerKey>,
    /// What has come in and waits likewise.
    pub(super) arrivals: Arrivals,
    /// What the control thread wants to know.
    pub(super) questions: VecDeque<Question>,
    pub(super) stopping_since: Option<Mono>,
    /// Stopping, and every session has said BYE.
    pub(super) all_ended: bool,
    pub(super) addresses: Arc<Addresses>,
    /// Connections of addresses that have too many, as far as it was said.
    pub(super) refusals_said: Seldom,
    pub(super) warned: HashSet<&'static str>,
}

impl Shard {
    /// Builds the shard on the thread that will run it.
    ///
    /// # Errors
    /// The ring cannot be made, or has no room for the shard's own descriptors.
    pub fn new(config: ShardConfig) -> Result<Self, RingError> {
        let mut ring = Ring::new(&config.ring)?;
        let now = clock();
        let mut entries = Entries::new(config.poll_entries_max);
        let Some(inbox) = config.poller.inbox(config.id).cloned() else {
            return Err(RingError::unavailable("the shard has no inbox"));
        };
        let wake = inbox.wake_fd().map_err(|source| RingError::Register { source })?;
        entries.install_own(&mut ring, Consumer::Inbox, wake)?;
        for listener in config.listeners {
            entries.install_own(&mut ring, Consumer::Listener(RtspListener), listener)?;
        }
        let mut sessions =
            Sessions::new(config.id, config.sessions, Arc::clone(&config.cells), now);
        sessions.live.hub.shard_count = shard_count(&config.poller);
        if let Some(settings) = config.multicast
            && let Err(error) = sessions.live.offer_groups(settings, config.id)
        {
            tracing::warn!(shard = config.id.0, %error, "no path is sent to a group");
        }
        let mut shard = Self {
            id: config.id,
            poller: config.poller,
            inbox,
            queue: config.queue,
            cells: config.cells,
            ring,
            entries,
            sessions,
            pairs: Pairs::default(),
            pair_host: config.pair_host,
            inputs: Inputs::default(),
            groups: GroupSockets::default(),
            runs: Slab::with_capacity(1_024),
            live_left: Left::default(),
            ready: Vec::new(),
            unsent: Vec::new(),
            spare_actions: Vec::new(),
            refused: Vec::new(),
            due: Vec::with_capacity(1_024),
            waiting_timers: VecDeque::with_capacity(1_024),
            arrivals: Arrivals::default(),
            questions: VecDeque::new(),
            stopping_since: None,
            all_ended: false,
            addresses: config.addresses,
            refusals_said: Seldom::default(),
            warned: HashSet::new(),
        };
        shard.add_pair(config.pair)?;
        shard.sessions.live.configure_paths(&mut shard.sessions.cx, config.paths);
        Ok(shard)
    }

    /// What the ring makes use of.
    #[must_use]
    pub fn features(&self) -> Vec<&'static str> {
        self.ring.features()
    }

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
        self.warn_once(UNSENT_RUNS, &format_args!("after {REAP_ROUNDS_MAX} rounds"));
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
        let is_ending = self.stopping_since.is_some() && !self.all_ended;
        if is_ending
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
        let limit = if self.stopping_since.is_some() { DRAIN_STEP } else { IDLE_WAIT };
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

    /// Stopped, and everything is sent or has had its time.
    fn is_drained(&self) -> bool {
        let Some(since) = self.stopping_since else { return false };
        let is_late = self.sessions.cx.now.since(since) >= DRAIN_MAX;
        is_late || self.all_ended && !self.entries.has_connections()
    }

    /// Opens a pair to clients: all of it or nothing.
    pub(super) fn add_pair(&mut self, pair: UdpPair) -> Result<u16, RingError> {
        self.add_pair_for(pair, Family::of(self.pair_host.ip()), false)
    }

    /// The same; one for groups is no client's.
    pub(super) fn add_pair_for(
        &mut self,
        pair: UdpPair,
        family: Family,
        is_for_groups: bool,
    ) -> Result<u16, RingError> {
        let Some(place) = self.sessions.cx.sockets.next_place() else {
            return Err(RingError::unavailable("no room for another pair of sockets"));
        };
        let rtp_port = pair.rtp_port;
        self.pairs.open(&mut self.ring, &mut self.entries, place, pair, family)?;
        self.sessions.cx.sockets.add_pair_for(rtp_port, is_for_groups);
        Ok(place)
    }

    /// Closes a pair that no client uses any more.
    pub(super) fn close_pair(&mut self, pair: u16) {
        if self.sessions.cx.sockets.remove_unused_pair(pair) {
            self.pairs.close(&mut self.ring, &mut self.entries, pair);
        }
    }

    /// Logs a trouble once, however often it happens.
    pub(super) fn warn_once(&mut self, what: &'static str, detail: &dyn std::fmt::Display) {
        if self.warned.insert(what) {
            tracing::warn!(shard = self.id.0, %detail, "{what}");
        }
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

/// How many shards there are.
pub(super) fn shard_count(poller: &Poller<Inbox>) -> u8 {
    u8::try_from(poller.inboxes().count()).unwrap_or(u8::MAX)
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
/// A stopping shard waits this long for clients to take what is theirs.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// Each takes a send of the ring, whose number is bounded: see `RingConfig::run_slots`.
pub(super) const STREAMS_ENDED_A_TURN: usize = 256;

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
