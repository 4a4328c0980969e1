//! The shard's thread: what a turn does, in which order, and how the shard stops.
//!
//! Invariants: completions are looked at before anything new is submitted; everything of a turn is
//! submitted by one `enter`; user code of a shard never touches media bytes.

use std::collections::{HashMap, HashSet, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;

use super::arrivals::Arrivals;
use super::inbox::Inbox;
use super::questions::Question;
use super::ring::{FileSlot, Ring, RingConfig, RingError};
use super::send::sink::RunOwner;
use super::sockets::groups::Ear;
use super::sockets::inputs::InputSlot;
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
use crate::consumers::receivers::{RtcpReceiver, RtpReceiver};
use crate::consumers::rtsp_listener::RtspListener;
use crate::consumers::sessions::Sessions;
use crate::live::core::groups::MulticastSettings;
use crate::live::core::pump::Left;
use crate::metrics::cells::{Counter, ShardCells, TransportKind};
use crate::poll::poll_table::{EntryKey, PollTable};
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
    pub(super) table: PollTable<Consumer>,
    /// What belongs to each row of the table.
    pub(super) links: Vec<Option<Link>>,
    pub(super) sessions: Sessions,
    /// By the place that the sessions know them by.
    pub(super) pairs: Vec<Option<PairSlots>>,
    pub(super) pair_host: Host,
    /// Sockets of sources that listen.
    pub(super) inputs: Vec<InputSlot>,
    /// Where the reports of groups come, by path.
    pub(super) ears: HashMap<Arc<str>, Vec<Ear>>,
    /// Runs that the ring has, by their tokens.
    pub(super) runs: Slab<RunOwner>,
    /// What pumping live paths leaves to be done; kept for its storage.
    pub(super) live_left: Left<EntryKey>,
    /// Connections that have something to send.
    pub(super) dirty: Vec<EntryKey>,
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

/// What the shard keeps of an entry beside its consumer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    /// Its descriptor.
    pub(super) slot: FileSlot,
    /// A send is in flight on it.
    pub(super) is_sending: bool,
    /// When that has ended there is something to do: bytes or frames wait, or reading goes on.
    pub(super) has_more: bool,
    /// It is on the list of connections with something to send.
    pub(super) is_dirty: bool,
    /// It waits for a visit, to go on with messages that are read.
    pub(super) is_awaiting_visit: bool,
    /// Its bytes are to be received one event at a time.
    pub(super) is_stream: bool,
}

/// The sockets of a shared pair.
#[derive(Debug, Clone, Copy)]
pub(super) struct PairSlots {
    pub(super) rtp: FileSlot,
    pub(super) rtcp: FileSlot,
    /// Their rows in the table.
    pub(super) entries: [EntryKey; 2],
    pub(super) family: Family,
    /// When a route was found that does not take whole packets.
    pub(super) fragments_since: Option<Mono>,
}

impl Shard {
    /// Builds the shard on the thread that will run it.
    ///
    /// # Errors
    /// The ring cannot be made, or has no room for the shard's own descriptors.
    pub fn new(config: ShardConfig) -> Result<Self, RingError> {
        let mut ring = Ring::new(&config.ring)?;
        let now = clock();
        let mut table = PollTable::new(config.poll_entries_max);
        let mut links = Vec::new();
        let Some(inbox) = config.poller.inbox(config.id).cloned() else {
            return Err(unavailable("the shard has no inbox"));
        };
        let wake = inbox.wake_fd().map_err(|source| RingError::Register { source })?;
        let slot = ring.install(wake).map_err(|(_, error)| error)?;
        let key = enter(&mut table, &mut links, Consumer::Inbox, slot)?;
        ring.arm_wake(slot, key.index);
        for listener in config.listeners {
            let slot = ring.install(listener).map_err(|(_, error)| error)?;
            let consumer = Consumer::Listener(RtspListener);
            let key = enter(&mut table, &mut links, consumer, slot)?;
            ring.arm_accept(slot, key.index);
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
            table,
            links,
            sessions,
            pairs: Vec::new(),
            pair_host: config.pair_host,
            inputs: Vec::new(),
            ears: HashMap::new(),
            runs: Slab::with_capacity(1_024),
            live_left: Left::default(),
            dirty: Vec::new(),
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
        for key in shard.table.keys().collect::<Vec<_>>() {
            shard.table.enable_events(key);
        }
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
            || !self.dirty.is_empty()
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
        self.cells.poll_entries.set(self.table.count() as u64);
        self.cells.poll_entries_suspended.set(self.table.suspended_count() as u64);
    }

    /// Stopped, and everything is sent or has had its time.
    fn is_drained(&self) -> bool {
        let Some(since) = self.stopping_since else { return false };
        let is_late = self.sessions.cx.now.since(since) >= DRAIN_MAX;
        is_late || self.all_ended && !self.has_connections()
    }

    /// Opens a pair to clients. Either all of it is there afterwards or nothing: a pair that is
    /// known but cannot send would swallow the sessions that are placed on it.
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
        let Some(index) = self.sessions.cx.sockets.next_place() else {
            return Err(unavailable("no room for another pair of sockets"));
        };
        let receivers = [
            Consumer::Rtp(RtpReceiver { pair: index }),
            Consumer::Rtcp(RtcpReceiver { pair: index }),
        ];
        let mut entered = Vec::with_capacity(2);
        for (consumer, fd) in receivers.into_iter().zip([pair.rtp, pair.rtcp]) {
            match self.enter_socket(consumer, fd) {
                Ok(key_and_slot) => entered.push(key_and_slot),
                Err(error) => {
                    for (key, slot) in entered {
                        self.leave_table(key, slot);
                    }
                    return Err(error);
                }
            }
        }
        let [(rtp_key, rtp), (rtcp_key, rtcp)] = entered[..] else {
            return Err(unavailable("a pair has two sockets"));
        };
        self.sessions.cx.sockets.add_pair_for(pair.rtp_port, is_for_groups);
        let entries = [rtp_key, rtcp_key];
        let slots = PairSlots { rtp, rtcp, entries, family, fragments_since: None };
        match self.pairs.get_mut(usize::from(index)) {
            Some(place) => *place = Some(slots),
            None => self.pairs.push(Some(slots)),
        }
        for (key, slot) in [(rtp_key, rtp), (rtcp_key, rtcp)] {
            self.ring.arm_datagrams(slot, key.index);
            self.table.enable_events(key);
        }
        Ok(index)
    }

    /// Closes a pair that no client uses any more.
    pub(super) fn close_pair(&mut self, pair: u16) {
        if !self.sessions.cx.sockets.remove_unused_pair(pair) {
            return;
        }
        let slots = self.pairs.get_mut(usize::from(pair)).and_then(Option::take);
        let Some(PairSlots { rtp, rtcp, entries, .. }) = slots else { return };
        for (key, slot) in entries.into_iter().zip([rtp, rtcp]) {
            self.leave_table(key, slot);
        }
    }

    /// Closes a socket, and its row is free again.
    pub(super) fn leave_table(&mut self, key: EntryKey, slot: FileSlot) {
        self.table.unregister(key);
        self.links[key.index as usize] = None;
        self.ring.remove(slot);
    }

    /// Gives a socket to the ring and its consumer to the table.
    pub(super) fn enter_socket(
        &mut self,
        consumer: Consumer,
        fd: OwnedFd,
    ) -> Result<(EntryKey, FileSlot), RingError> {
        let slot = self.ring.install(fd).map_err(|(_, error)| error)?;
        match enter(&mut self.table, &mut self.links, consumer, slot) {
            Ok(key) => Ok((key, slot)),
            Err(error) => {
                self.ring.remove(slot);
                Err(error)
            }
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

/// Enters a consumer with its descriptor in the table.
pub(super) fn enter(
    table: &mut PollTable<Consumer>,
    links: &mut Vec<Option<Link>>,
    consumer: Consumer,
    slot: FileSlot,
) -> Result<EntryKey, RingError> {
    let is_stream = matches!(consumer, Consumer::Connection(_) | Consumer::Camera(_));
    let Ok(key) = table.register(consumer) else {
        return Err(unavailable("the PollTable is full: raise poll_entries_max"));
    };
    let index = key.index as usize;
    if links.len() <= index {
        links.resize(index + 1, None);
    }
    links[index] = Some(Link {
        slot,
        is_sending: false,
        has_more: false,
        is_dirty: false,
        is_awaiting_visit: false,
        is_stream,
    });
    Ok(key)
}

fn unavailable(why: &'static str) -> RingError {
    RingError::Register { source: std::io::Error::other(why) }
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
