//! All that a shard has of live paths, and its post with other shards.
//!
//! ```text
//!  asks ---> home here ----> registry --orders--> notes for this shard --> readers, publishers
//!    `-----> home elsewhere --> outbox              `---> outbox
//! ```
//! Invariants: every session is in its table and in the directory; a command that waits for a path
//! is in `held` until the home has answered.
//! Bounds: those of `crate::live` and of `held`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use slab::Slab;

use super::crowd::Crowd;
use super::farewell::Farewells;
use super::group::Groups;
use super::held::{HeldCommands, refuse_to_hold};
use super::input::Inputs;
use super::publisher::Publisher;
use super::pull::joined::Pull;
use super::reader::LiveReader;
use super::walk::Walks;
use crate::base::ids::ShardId;
use crate::base::time::Mono;
use crate::live::message::{Ask, LiveMessage, ToHome, ToShard, home_of};
use crate::live::multicast::MulticastSettings;
use crate::live::paths::{LivePaths, Told, Wanted};
use crate::live::registry::{Order, Registry};
use crate::metrics::paths::PathTallies;
use crate::poll::poll_table::EntryKey;
use crate::rtsp::response::Status;
use crate::rtsp::transport::Lower;
use crate::session::cx::Cx;
use crate::session::directory::SessionRef;
use crate::session::request::{Command, Executed};
use crate::session::table::{Action, TimerKey};

/// See the module.
#[derive(Debug)]
pub struct Live {
    /// How many shards there are.
    pub shard_count: u8,
    /// Paths that the shard listens to.
    pub paths: LivePaths,
    /// Paths that have their home here.
    pub registry: Registry,
    /// By numbers that are never used again: a note for one that has gone finds nobody.
    /// In order: some of them are looked at in a turn.
    pub publishers: BTreeMap<u32, Publisher>,
    /// Who reads; readers of a path name these places as their owners.
    pub readers: Slab<LiveReader>,
    /// Sources that are pulled, by the number of their publisher.
    pub(super) pulls: BTreeMap<u32, Pull>,
    /// How packets of paths that are pulled came the last time.
    pub(super) pull_ways: HashMap<Arc<str>, Lower>,
    /// What goes to other shards, in order.
    pub outbox: Vec<(ShardId, LiveMessage)>,
    /// Who is still to be told that it ends, or looked at: some of them each turn.
    pub(super) crowd: Crowd,
    /// Sources that are looked at next.
    pub(super) walks: Walks,
    /// A path has readers to look at that may not be on the list of such paths.
    pub is_ready: bool,
    /// Publishers with packets that are not fed yet.
    pub(super) unfed: Vec<u32>,
    pub(super) asks: Vec<ToHome>,
    pub(super) farewells: Farewells,
    /// Sources that listen.
    pub(super) inputs: Inputs,
    pub(super) serial: u32,
    /// `None`: paths are not offered by multicast.
    pub multicast: Option<MulticastSettings>,
    /// The server stops: nothing is fetched any more.
    pub(super) is_stopping: bool,
    pub(super) is_ticking: bool,
    /// When homes were last told what is held here.
    pub(super) renewed: Mono,
    /// Groups that paths are sent to.
    pub groups: Groups,
    /// What was counted of paths by readers and sources that have gone.
    pub(super) tally: PathTallies,
    pub(super) held: HeldCommands,
    timers: BTreeSet<(Mono, Arc<str>)>,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            shard_count: 1,
            paths: LivePaths::default(),
            registry: Registry::new(None),
            publishers: BTreeMap::new(),
            readers: Slab::new(),
            pulls: BTreeMap::new(),
            pull_ways: HashMap::new(),
            outbox: Vec::new(),
            crowd: Crowd::default(),
            walks: Walks::default(),
            is_ready: false,
            unfed: Vec::new(),
            asks: Vec::new(),
            farewells: Farewells::default(),
            inputs: Inputs::default(),
            serial: 0,
            multicast: None,
            is_stopping: false,
            is_ticking: false,
            renewed: Mono(0),
            groups: Groups::default(),
            tally: PathTallies::default(),
            held: HeldCommands::default(),
            timers: BTreeSet::new(),
        }
    }
}

impl Live {
    /// When the clock has something to do here, beside the wheel.
    #[must_use]
    pub fn next_due(&self) -> Option<Mono> {
        let feeds = self.unfed.iter().filter_map(|number| {
            self.publishers.get(number).and_then(|publisher| publisher.source.flush_due())
        });
        feeds.chain(self.timers.first().map(|(due, _)| *due)).min()
    }

    /// The client of a session was heard of.
    pub(in crate::session) fn touch(&mut self, session: SessionRef, now: Mono) {
        match session {
            SessionRef::Publisher(number) => {
                let Some(publisher) = self.publishers.get_mut(&number) else { return };
                publisher.alive = now;
                publisher.source.handle_sign_of_life(now);
            }
            SessionRef::Reader(index) => {
                if let Some(reader) = self.readers.get_mut(index as usize) {
                    reader.alive = now;
                }
            }
            SessionRef::Title(_) => {}
        }
    }

    /// Something is to be done at once.
    #[must_use]
    pub fn is_unsettled(&self) -> bool {
        self.is_ready
            || self.paths.listed_count() > 0
            || self.crowd.is_waiting()
            || self.walks.is_waiting()
            || !self.asks.is_empty()
            || !self.registry.out.is_empty()
    }

    pub(super) fn next_serial(&mut self) -> u32 {
        self.serial = self.serial.wrapping_add(1);
        self.serial
    }

    pub(super) fn ask(&mut self, path: &Arc<str>, ask: Ask) {
        self.asks.push(ToHome { path: Arc::clone(path), ask });
    }
}

impl Live {
    /// A message of another shard.
    pub fn handle_live_message(&mut self, cx: &mut Cx, message: LiveMessage) {
        match message {
            LiveMessage::ToHome(mut message) => {
                if let Some(rules) = message.ask.rules_mut() {
                    *rules = cx.path_rules(&message.path);
                }
                self.registry.handle(message, cx.now);
            }
            LiveMessage::ToShard { path, note } => self.handle_note(cx, &path, note),
        }
        self.settle_live(cx);
    }

    /// Feeds what publishers have sent in this turn, and does what the homes' clocks say. Once a
    /// turn.
    pub fn feed_live(&mut self, cx: &mut Cx) {
        let now = cx.now;
        self.go_on_with_crowd(cx);
        self.go_on_with_sources(cx);
        // Bounded by the timers that are due: one that is set anew lies behind.
        while self.timers.first().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, path)) = self.timers.pop_first() {
                self.registry.handle_timer(&path, now);
            }
        }
        self.flush_inputs(cx);
        let mut unfed = std::mem::take(&mut self.unfed);
        for number in unfed.drain(..) {
            let Some(publisher) = self.publishers.get_mut(&number) else { continue };
            let path = Arc::clone(publisher.source.path());
            // In front of the pictures that need it.
            if let Some(ask) = publisher.poll_description(now) {
                self.asks.push(ToHome { path: Arc::clone(&path), ask });
            }
            while let Some(batch) = publisher.source.poll_batch(now) {
                let ask = Ask::Feed { generation: batch.generation(), batch };
                self.asks.push(ToHome { path: Arc::clone(&path), ask });
            }
            publisher.is_unfed = publisher.source.flush_due().is_some();
            if publisher.is_unfed {
                self.unfed.push(number);
            }
        }
        if self.unfed.is_empty() {
            self.unfed = unfed;
        }
        self.settle_live(cx);
    }

    /// A datagram at a socket of an input. Its path has its home here, so that a claim is granted
    /// or refused at once.
    pub fn handle_input_datagram(
        &mut self,
        cx: &mut Cx,
        number: u32,
        (track, is_rtcp): (u8, bool),
        from: SocketAddr,
        bytes: &[u8],
    ) {
        let kept = self.take_input_datagram(cx, number, (track, is_rtcp), from, bytes);
        if kept.is_empty() {
            return;
        }
        self.settle_live(cx);
        for datagram in kept {
            // Nothing is kept of a path that is claimed.
            let _ = self.take_input_datagram(cx, number, (track, false), from, &datagram);
        }
    }

    /// Brings asks and orders where they belong, until there are no more.
    pub fn settle_live(&mut self, cx: &mut Cx) {
        // Bounded: a home answers an ask with a few orders, and a note asks for little.
        for _ in 0..SETTLE_ROUNDS_MAX {
            if self.asks.is_empty() && self.registry.out.is_empty() {
                break;
            }
            // Storage goes back when nothing was added meanwhile, as it is for batches.
            let mut asks = std::mem::take(&mut self.asks);
            for message in asks.drain(..) {
                let home = home_of(&message.path, self.shard_count);
                if home == cx.shard {
                    self.registry.handle(message, cx.now);
                } else {
                    self.outbox.push((home, LiveMessage::ToHome(message)));
                }
            }
            if self.asks.is_empty() {
                self.asks = asks;
            }
            let mut orders = std::mem::take(&mut self.registry.out);
            for order in orders.drain(..) {
                self.obey(cx, order);
            }
            if self.registry.out.is_empty() {
                self.registry.out = orders;
            }
        }
        self.start_ticking(cx);
    }

    fn obey(&mut self, cx: &mut Cx, order: Order) {
        match order {
            Order::Tell { shard, path, note } if shard == cx.shard => {
                self.handle_note(cx, &path, note);
            }
            Order::Tell { shard, path, note } => {
                self.outbox.push((shard, LiveMessage::ToShard { path, note }));
            }
            Order::Timer(path, due) => {
                self.timers.insert((due, path));
            }
            Order::StartPull(path) => self.start_fetch(cx, &path),
            Order::StopPull(path) => self.stop_fetch(cx, &path),
            Order::OpenGroup(path, group) => self.open_group(cx, &path, group),
            Order::CloseGroup(path, _) => self.close_group(cx, &path),
        }
    }

    fn handle_note(&mut self, cx: &mut Cx, path: &Arc<str>, note: ToShard) {
        if matches!(note, ToShard::Ended) {
            self.count_path_end(path);
        }
        match self.paths.handle(path, note, cx.now) {
            Told::Nothing => {}
            Told::Answer { waiters, refused } => {
                for waiter in waiters {
                    self.resume(cx, waiter, refused.is_some());
                }
                if refused.is_none() {
                    self.start_groups(cx);
                }
            }
            Told::Fed => {
                if self.paths.path(path).is_some_and(|path| path.has_primed()) {
                    self.retry_plays(cx, path);
                }
            }
            Told::End { readers, waiters } => {
                let readers = readers.into_iter();
                let places = readers.filter_map(|(_, owner)| u32::try_from(owner).ok());
                self.dismiss_readers(cx, places, "the source has gone");
                for waiter in waiters {
                    self.resume(cx, waiter, false);
                }
            }
            Told::ForSource(ToShard::Joined { serial, group }) => {
                self.handle_joined(cx, path, serial, group);
            }
            Told::ForSource(note) => self.handle_source_note(cx, path, note),
        }
    }

    /// The home has answered what a command waited for.
    pub(super) fn resume(&mut self, cx: &mut Cx, waiter: u64, is_refused: bool) {
        let Some(command) = self.held.take(waiter) else { return };
        cx.out.push(if is_refused {
            let response = command.response(Status::NotFound);
            Action::Respond { waiter: command.waiter, response }
        } else {
            Action::Execute(Box::new(command))
        });
    }

    /// Whether the path is here; otherwise the command is kept until it is.
    pub(super) fn want_path(
        &mut self,
        cx: &Cx,
        path: &Arc<str>,
        command: Command,
    ) -> Result<Command, Executed> {
        // A path that is here keeps nobody waiting, however many wait for others.
        if self.paths.path(path).is_none() && !self.held.has_room(path) {
            return Err(refuse_to_hold(cx, path, &command));
        }
        let (waiter, limits) = (self.held.next_name(), cx.path_limits(path));
        match self.paths.want(path, limits, waiter, cx.now) {
            Wanted::Here => return Ok(command),
            Wanted::TooMany => return Err(refuse_to_hold(cx, path, &command)),
            Wanted::Asked => {}
            Wanted::Ask => {
                let rules = cx.path_rules(path);
                self.ask(path, Ask::Subscribe { shard: cx.shard, rules });
            }
        }
        self.held.hold(path, command, cx.shard);
        Err(Executed::Later)
    }

    /// Keeps a DESCRIBE while the path's description lacks parameter sets that may still come. With
    /// no room to wait it is answered with what is known.
    pub(super) fn want_sets(
        &mut self,
        cx: &Cx,
        path: &Arc<str>,
        command: Command,
    ) -> Result<Command, Executed> {
        let waiter = self.held.next_name();
        let may_wait = self.held.has_room(path);
        if !may_wait || !self.paths.await_sets(path, waiter, cx.now) {
            return Ok(command);
        }
        self.held.hold(path, command, cx.shard);
        // A key frame brings them, where the source can be asked for one.
        self.ask(path, Ask::WantSync);
        Err(Executed::Later)
    }

    /// A connection is closed: its command waits no more.
    pub(in crate::session) fn forget_held(&mut self, entry: EntryKey) {
        if let Some((path, waiter)) = self.held.forget(entry) {
            self.paths.forget_waiter(&path, waiter);
            self.groups.forget_waiter(&path, waiter);
        }
    }

    fn start_ticking(&mut self, cx: &mut Cx) {
        if !self.is_ticking && self.has_work() {
            self.is_ticking = true;
            cx.wheel.insert(cx.now + super::tick::TICK, TimerKey::LiveTick);
        }
    }
}

/// More than any chain of asks and answers on one shard takes.
const SETTLE_ROUNDS_MAX: usize = 64;
