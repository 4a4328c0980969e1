//! A run: shards, workers and clients, in virtual time.
//!
//! ```text
//!  queue of events --earliest--> a turn of a shard, bytes, a task, a client's step --> queue
//!        after each: a shard that sleeps on what is there has lost a wake-up
//! ```
//! Phases: clients come and act; at `leaves` whoever is still there goes; when all that the server
//! holds for them must be over, nothing may be held; then the shards are stopped, and nothing may
//! be left behind.
//!
//! Invariant: one seed gives one run, to the last event. Bounds: `EVENTS_MAX`; `SPINS_MAX` turns
//! at one moment.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use headend::base::ids::ShardId;
use headend::base::mode::Mode;
use headend::base::time::Mono;
use headend::config::access_list::AccessList;
use headend::config::limits::LimitsConfig;
use headend::config::lineup::Lineup;
use headend::config::paths::{PathConfig, PathTable};
use headend::consumers::rtsp_listener::Speaks;
use headend::library::Library;
use headend::lineup::event::Input as Key;
use headend::lineup::requests::EventsRequest;
use headend::metrics::cells::ShardCells;
use headend::poll::poller::Poller;
use headend::session::cx::SessionConfig;
use headend::shard::held::Held;
use headend::shard::inbox::{Inbox, Message};
use headend::shard::questions::Question;
use headend::shard::ring::RingConfig;
use headend::shard::sockets::UdpPair;
use headend::shard::{Shard, ShardConfig, TlsSettings};

use super::client::{Client, Kind, Plan};
use super::kernel::SimKernel;
use super::network::{Event, Input, Mutation, Net, SERVER_IP, Weather};
use super::takeovers::Taking;
use super::workers::{SLOW_MS, Workers};
use crate::dice::{MS, S};
use crate::runs::Counted;

/// What a seed draws.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) seed: u64,
    pub(crate) shards: usize,
    pub(crate) clients: Vec<Plan>,
    pub(crate) weather: Weather,
    /// How much there is of what a shard has.
    pub(crate) room: Room,
    /// Questions and orders of operators.
    pub(crate) operators: usize,
    /// The server is stopped while clients are there.
    pub(crate) stops_early: Option<u64>,
    /// When another process takes over, and how many shards it has.
    pub(crate) takeovers: Vec<(u64, usize)>,
    /// Of a thousand takeovers, those that fail when all is recorded.
    pub(crate) takeovers_fail: u32,
    /// Ports of first pairs are as they were told to be.
    pub(crate) has_fixed_ports: bool,
    pub(crate) leaves: u64,
}

/// Sizes of a shard and of the workers' queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    pub(crate) runs: u16,
    pub(crate) buffers: u16,
    pub(crate) tasks: usize,
}

impl Room {
    pub(crate) const USUAL: Self = Self { runs: 16, buffers: 8, tasks: 6 };
}

/// What a run came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) trace: String,
    pub(crate) events: u64,
    pub(crate) turns: u64,
    pub(crate) counts: BTreeMap<&'static str, u64>,
}

impl Counted for Outcome {
    fn counts(&self) -> Vec<(String, u64)> {
        let counts = self.counts.iter().map(|(kind, count)| ((*kind).to_owned(), *count));
        counts.chain([("turn".to_owned(), self.turns)]).collect()
    }

    fn trace(&self) -> &str {
        &self.trace
    }
}

/// A node with its clients.
pub(crate) struct Node {
    pub(crate) net: Rc<RefCell<Net>>,
    /// Of all processes that there were.
    pub(super) shards: Vec<Option<Shard<SimKernel>>>,
    /// The process of each shard, and its number there.
    pub(super) places: Vec<(usize, ShardId)>,
    cells: Vec<Arc<ShardCells>>,
    pub(super) houses: Vec<House>,
    /// The process that serves.
    pub(super) house: usize,
    pub(super) taking: Option<Taking>,
    /// Ports of RTP of the process that takes over.
    pub(super) first_ports: Vec<u16>,
    clients: Vec<Client>,
    pub(super) setup: Setup,
    /// What shards hold when nobody is there.
    empty: Vec<Held>,
    /// Since when entries are suspended, by shard and row.
    suspended: BTreeMap<(usize, u32), u64>,
    /// Turns at the present moment, by shard.
    spins: Vec<(u64, u32)>,
    /// Held by questions of operators that are not answered.
    asked: Vec<Arc<()>>,
    /// The longest time for which an entry may be suspended.
    pub(crate) suspended_max: u64,
    is_stopped: bool,
}

/// A process.
pub(super) struct House {
    pub(super) poller: Arc<Poller<Inbox>>,
    workers: Workers,
}

impl Node {
    pub(crate) fn new(setup: Setup, mutation: Option<Mutation>, is_shown: bool) -> Self {
        headend::base::random::foresee(Some(setup.seed));
        let Setup { seed, shards: count, .. } = setup;
        let mut net = Net::new(seed, 0, setup.weather.clone(), is_shown);
        net.mutation = mutation;
        net.watch.patience = if setup.weather.slow > 0 { 4 * SLOW_MS * MS } else { S };
        if setup.weather.frozen > 0 {
            net.watch.patience += 6 * FROZEN_MS * MS;
        }
        if !setup.takeovers.is_empty() {
            net.watch.patience += GAP_NS;
        }
        net.watch.is_rough = setup.operators > 0
            || setup.stops_early.is_some()
            || setup.weather.unreachable
                + setup.weather.failing
                + setup.weather.short
                + setup.weather.panicking
                > 0;
        let is_published_by_udp = |plan: &Plan| plan.kind == Kind::Publisher && !plan.is_tcp;
        let is_exact = setup.weather.keeps_datagrams();
        net.watch.is_live_whole = is_exact || !setup.clients.iter().any(is_published_by_udp);
        let suspended_max = net.watch.patience + SUSPENDED_NS;
        let net = Rc::new(RefCell::new(net));
        let mut node = Self {
            net,
            shards: Vec::new(),
            places: Vec::new(),
            cells: Vec::new(),
            houses: Vec::new(),
            house: 0,
            taking: None,
            first_ports: Vec::new(),
            clients: Vec::new(),
            empty: Vec::new(),
            suspended: BTreeMap::new(),
            spins: Vec::new(),
            asked: Vec::new(),
            suspended_max,
            is_stopped: false,
            setup,
        };
        let sockets = node.first_sockets(count);
        node.open(sockets, false);
        let plans = node.setup.clients.clone();
        let mut net = node.net.borrow_mut();
        for (number, plan) in plans.into_iter().enumerate() {
            let mut client = Client::new(number, plan);
            client.begin(&mut net);
            node.clients.push(client);
        }
        for number in 0..node.setup.operators {
            net.after((200 + 700 * number as u64) * MS, Event::Operator);
        }
        if let Some(at) = node.setup.stops_early {
            net.after(at, Event::Stop);
        }
        for (at, shards) in node.setup.takeovers.clone() {
            net.after(at, Event::TakeOver { shards });
        }
        let leaves = node.setup.leaves;
        net.after(leaves, Event::Leave);
        net.after(LOOK_NS, Event::Check);
        drop(net);
        node
    }

    /// A listener and a pair for each shard of the first process.
    fn first_sockets(&self, count: usize) -> Vec<(Vec<OwnedFd>, UdpPair)> {
        let mut net = self.net.borrow_mut();
        let mut pairs = Vec::new();
        for shard in 0..count {
            let first = FIRST_PORT + 2 * u16::try_from(shard).expect("few shards");
            let (rtp, rtcp, rtp_port) = match self.setup.has_fixed_ports {
                true => net.bind_pair_at(first),
                false => net.bind_pair(),
            };
            net.listen();
            pairs.push(UdpPair { rtp, rtcp, rtp_port });
        }
        net.listeners().into_iter().map(|one| vec![one]).zip(pairs).collect()
    }

    /// Starts a process: a shard for each of its listeners with the first pair.
    pub(super) fn open(&mut self, sockets: Vec<(Vec<OwnedFd>, UdpPair)>, waits: bool) {
        let inboxes = sockets.iter().map(|_| Arc::new(Inbox::new(OUTCOMES_MAX).expect("an inbox")));
        let poller = Arc::new(Poller::new(inboxes.collect()));
        let house = self.houses.len();
        let tasks = self.setup.room.tasks;
        let workers = Workers::new(house, library(), Arc::clone(&poller), tasks);
        self.houses.push(House { poller, workers });
        for (id, (listeners, pair)) in (0..).zip(sockets) {
            let machine = self.net.borrow_mut().add_machine();
            let shard = self.build((house, ShardId(id)), machine, listeners, pair, waits);
            self.empty.push(Held { is_still: false, ..shard.held() });
            self.shards.push(Some(shard));
            self.places.push((house, ShardId(id)));
            self.spins.push((0, 0));
            self.schedule(machine);
        }
    }

    /// Shards of a process.
    pub(super) fn shards_of(&self, house: usize) -> Vec<usize> {
        let all = self.places.iter().enumerate();
        all.filter(|(_, (of, _))| *of == house).map(|(shard, _)| shard).collect()
    }

    pub(super) fn inbox(&self, shard: usize) -> &Arc<Inbox> {
        let (house, id) = self.places[shard];
        self.houses[house].poller.inbox(id).expect("an inbox")
    }

    fn build(
        &mut self,
        (house, id): (usize, ShardId),
        machine: usize,
        listeners: Vec<OwnedFd>,
        pair: UdpPair,
        waits: bool,
    ) -> Shard<SimKernel> {
        let cells = Arc::<ShardCells>::default();
        self.cells.push(Arc::clone(&cells));
        let config = ShardConfig {
            id,
            poller: Arc::clone(&self.houses[house].poller),
            queue: self.houses[house].workers.queue(),
            cells,
            listeners: listeners.into_iter().map(|one| (Speaks::Rtsp, one)).collect(),
            tls: TlsSettings::default(),
            tunnels_max: 16,
            pair,
            pair_host: SERVER_IP.into(),
            multicast: None,
            poll_entries_max: ENTRIES_MAX,
            addresses: Arc::default(),
            sessions: SessionConfig {
                sessions_max: SESSIONS_MAX,
                addresses: Arc::default(),
                timeout: TIMEOUT,
                host: "host".to_owned(),
                lag_budget: Duration::ZERO,
                adapts_quality: true,
                uses_images: true,
                retransmits: true,
                throttle: Arc::default(),
                session_roaming: false,
                low_client_ports: false,
                plain_media: false,
                limits: LimitsConfig::default(),
                shares: Arc::default(),
                srtp: headend::config::secure::SrtpMode::Off,
            },
            paths: Arc::new(paths()),
            ring: RingConfig {
                files_max: 64,
                run_slots: self.setup.room.runs,
                stream_buffers: self.setup.room.buffers,
                datagram_buffers: self.setup.room.buffers,
                gso: Mode::Auto,
                ..RingConfig::default()
            },
            waits,
        };
        let kernel = SimKernel { shard: machine, net: Rc::clone(&self.net) };
        Shard::on(kernel, config).expect("a shard")
    }

    /// Runs to the end.
    ///
    /// # Panics
    /// When a rule is broken.
    pub(crate) fn run(mut self) -> Outcome {
        let end = self.net.borrow().now + self.setup.leaves + OVER_NS;
        let mut events = 0;
        while self.shards.iter().any(Option::is_some) {
            let event = self.net.borrow_mut().next().expect("shards wait for ever");
            events += 1;
            assert!(events < EVENTS_MAX, "no end after {events} events");
            self.handle(event);
            let now = self.net.borrow().now;
            if now > end && !self.is_stopped {
                self.check_empty();
                self.stop();
            }
            assert!(now < end + STOP_NS, "the shards do not stop");
        }
        self.finish(events)
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Turn { shard, number } => self.turn(shard, number),
            Event::Segment { conn, segment } => self.net.borrow_mut().handle_segment(conn, segment),
            Event::Deliver { conn } => {
                let mut net = self.net.borrow_mut();
                if let Some(input) = net.deliver(conn) {
                    let client = net.conns[conn].client;
                    self.clients[client].handle(&mut net, input);
                }
            }
            Event::ToServer { port, from, bytes } => {
                self.net.borrow_mut().handle_datagram(port, from, bytes);
            }
            Event::ToClient { port, to, bytes } => {
                let mut net = self.net.borrow_mut();
                for client in net.homes.get(&to).cloned().unwrap_or_default() {
                    let bytes = bytes.clone();
                    self.clients[client].handle(&mut net, Input::Datagram { port, to, bytes });
                }
            }
            Event::Done { house, worker, task, fate } => {
                let workers = &mut self.houses[house].workers;
                workers.done(&mut self.net.borrow_mut(), worker, *task, fate);
                workers.take(&mut self.net.borrow_mut());
            }
            Event::Step { client, number } => {
                self.clients[client].step(&mut self.net.borrow_mut(), number);
            }
            Event::Operator => self.operate(),
            Event::TakeOver { shards } => self.take_over(shards),
            Event::TakingOver => self.go_on_taking_over(),
            Event::Check => self.look(),
            Event::Leave => {
                let mut net = self.net.borrow_mut();
                self.clients.iter_mut().for_each(|client| client.dismiss(&mut net));
            }
            Event::Stop => self.stop(),
        }
        self.wake();
    }

    /// Ends the sleep of shards whose wait is over.
    fn wake(&self) {
        for shard in 0..self.shards.len() {
            if self.shards[shard].is_none() {
                continue;
            }
            let mut net = self.net.borrow_mut();
            if net.machines[shard].sleeps.is_none() {
                continue;
            }
            net.try_wake(shard);
            let inbox = self.inbox(shard);
            let is_woken = net.machines[shard].is_woken();
            // What has the shard woken waits with the other operations, for a moment.
            let is_refusing = net.machines[shard].is_refusing;
            assert!(
                is_woken || inbox.is_empty() || is_refusing,
                "shard {shard} sleeps on its inbox"
            );
            if is_woken {
                net.machines[shard].sleeps = None;
                let latency = net.dice.between(2_000, 60_000);
                drop(net);
                self.schedule_after(shard, latency);
            }
        }
    }

    /// Has the next turn of a shard come when its wait ends.
    fn schedule(&self, shard: usize) {
        let mut net = self.net.borrow_mut();
        let now = net.now;
        let Some(at) = net.machines[shard].wakes(now) else { return };
        let mut delay = at.saturating_sub(now);
        if at <= now {
            // The turn itself took its time.
            delay = net.dice.between(5_000, 60_000);
            net.machines[shard].sleeps = None;
        }
        let (preempted, frozen) = (net.weather.preempted, net.weather.frozen);
        if net.dice.chance(preempted) {
            delay += net.dice.ms(1, 12);
        }
        if net.dice.chance(frozen) {
            net.watch.count("shard.frozen");
            delay += net.dice.ms(100, FROZEN_MS);
        }
        drop(net);
        self.schedule_after(shard, delay);
    }

    fn schedule_after(&self, shard: usize, delay: u64) {
        let mut net = self.net.borrow_mut();
        net.machines[shard].turn += 1;
        let number = net.machines[shard].turn;
        net.after(delay, Event::Turn { shard, number });
    }

    fn turn(&mut self, id: usize, number: u64) {
        {
            let mut net = self.net.borrow_mut();
            if net.machines[id].turn != number {
                return;
            }
            net.machines[id].sleeps = None;
            net.machines[id].turns += 1;
            net.note("turn", id as u64, 0);
        }
        let Some(shard) = &mut self.shards[id] else { return };
        let is_over = shard.turn().expect("a ring").is_break();
        if is_over {
            self.net.borrow_mut().note("stopped", id as u64, 0);
            self.shards[id] = None;
            return;
        }
        self.check_turn(id);
        let (house, _) = self.places[id];
        self.houses[house].workers.take(&mut self.net.borrow_mut());
        self.schedule(id);
    }

    /// Bounds, and work that the shard sleeps on.
    fn check_turn(&mut self, id: usize) {
        let Some(shard) = &self.shards[id] else { return };
        let held = shard.held();
        assert!(held.entries <= ENTRIES_MAX && held.sessions <= SESSIONS_MAX, "{held:?}");
        assert!(held.runs <= usize::from(self.setup.room.runs) && held.unsent <= 4_096, "{held:?}");
        assert!(held.arrivals <= ENTRIES_MAX + 4_096, "{held:?}");
        let net = self.net.borrow();
        let (now, sleeps) = (net.now, net.machines[id].sleeps);
        if let Some((_, deadline)) = sleeps.filter(|_| !held.is_still) {
            let has_work = held.dirty + held.arrivals + held.waiting_timers + held.unsent;
            assert_eq!(has_work, 0, "shard {id} sleeps on {held:?}");
            if let (Some(Mono(due)), Some(deadline)) = (shard.next_timer(), deadline) {
                assert!(deadline <= due.max(now + S) + S, "shard {id} sleeps beyond {due}");
            }
        }
        drop(net);
        // A shard that does not sleep has something to do, and that takes no second.
        let spins = &mut self.spins[id];
        *spins = if sleeps.is_some() { (now, 0) } else { (spins.0, spins.1 + 1) };
        assert!(
            spins.1 < SPINS_MAX,
            "shard {id} has not slept since {} ms: {held:?}",
            spins.0 / MS
        );
    }

    /// The look at everything, a few times a second.
    fn look(&mut self) {
        let mut net = self.net.borrow_mut();
        let now = net.now;
        net.watch.look(now);
        net.send_while_paused();
        net.after(LOOK_NS, Event::Check);
        drop(net);
        let most = self.suspended_max;
        let mut seen = BTreeMap::new();
        for (id, shard) in self.shards.iter_mut().enumerate() {
            let Some(shard) = shard else { continue };
            shard.look_at_suspended(|row, _| {
                let since = self.suspended.get(&(id, row)).copied().unwrap_or(now);
                let ms = (now - since) / MS;
                assert!(now - since < most, "row {row} of shard {id} is suspended for {ms} ms");
                seen.insert((id, row), since);
            });
        }
        self.suspended = seen;
    }

    fn operate(&mut self) {
        let mut net = self.net.borrow_mut();
        net.watch.count("operator");
        let shards = self.shards_of(self.house);
        let id = shards[net.dice.index(shards.len())];
        let Some(shard) = &self.shards[id] else { return };
        let (what, channel) = (net.dice.index(7), net.dice.pick(&[1, 2, 3]));
        drop(net);
        let token = Arc::new(());
        self.asked.push(Arc::clone(&token));
        let message = match what {
            0 => Message::Asked(Question::Sessions {
                after: None,
                reply: Box::new(move |_| drop(token)),
            }),
            3 => Message::Asked(Question::PathTable(Box::new(move |_| drop(token)))),
            1 => Message::KickPath {
                path: "live/a".to_owned(),
                reply: Box::new(move |_| drop(token)),
            },
            2 => {
                Message::Configure { paths: Arc::new(paths()), done: Box::new(move || drop(token)) }
            }
            4 => {
                let Some(id) = shard.some_session() else { return };
                self.net.borrow_mut().watch.tuned_by_operator(&id.to_string());
                Message::Events {
                    id,
                    request: EventsRequest { inputs: vec![Key::Channel(channel)], key: None },
                    reply: Box::new(move |_| drop(token)),
                }
            }
            _ => match shard.some_session() {
                Some(id) => Message::EndSession { id, reply: Box::new(move |_| drop(token)) },
                None => return,
            },
        };
        self.inbox(id).push(message).expect("room");
    }

    fn stop(&mut self) {
        self.is_stopped = true;
        for (id, shard) in self.shards.iter().enumerate() {
            if shard.is_some() {
                self.inbox(id).push(Message::Stop).expect("room");
            }
        }
        self.net.borrow_mut().watch.is_rough = true;
    }

    /// Everybody has left, and every timeout has passed.
    fn check_empty(&self) {
        self.net.borrow_mut().note("empty", 0, 0);
        for (id, shard) in self.shards.iter().enumerate() {
            let Some(shard) = shard else { continue };
            let (house, _) = self.places[id];
            assert_eq!(house, self.house, "shard {id} is of a process that has handed over");
            let held = shard.held();
            // A wheel has a few keys of the shard's own.
            let empty = Held { timers: held.timers, ..self.empty[id] };
            assert_eq!(held, empty, "shard {id} holds something of clients that have gone");
            assert!(held.timers <= 2, "{} timers of nobody", held.timers);
            let cells = &self.cells[id];
            assert_eq!(cells.connections.value(), 0, "connections are counted that are closed");
            assert_eq!(cells.panics.value(), 0, "shard {id} has had a panic");
        }
        let mut net = self.net.borrow_mut();
        if self.cells.iter().any(|cells| cells.tasks_refused.value() > 0) {
            net.watch.count("tasks.refused");
        }
        let dropped = self.cells.iter().map(|cells| cells.rtcp_packets_dropped.value()).sum();
        net.watch.counts.insert("report.dropped", dropped);
        let asked = self.asked.iter().filter(|token| Arc::strong_count(token) > 1).count();
        assert_eq!(asked, 0, "operators were not answered");
        let unanswered = net.watch.unanswered();
        assert!(unanswered.is_empty(), "never answered: {unanswered:?}");
    }

    fn finish(self, events: u64) -> Outcome {
        let mut net = self.net.borrow_mut();
        for (id, machine) in net.machines.iter().enumerate() {
            assert_eq!(machine.left_behind(), (0, 0, 0), "the ring of shard {id} left something");
        }
        let open = net.open_descriptors();
        // Those in the backlog were never the shards'.
        assert_eq!(open, 0, "descriptors are open that shards had");
        for cells in &self.cells {
            assert_eq!(cells.panics.value(), 0, "a shard has had a panic");
        }
        headend::base::random::foresee(None);
        Outcome {
            trace: net.trace.hash(),
            events,
            turns: net.machines.iter().map(|machine| machine.turns).sum(),
            counts: std::mem::take(&mut net.watch.counts),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Ok(net) = self.net.try_borrow()
        {
            println!("{:?}", self.setup.weather);
            println!("the last events of seed {}:", self.setup.seed);
            net.last.iter().for_each(|line| println!("{line}"));
        }
    }
}

/// The built-in clip, and a film that is a copy of it; one library for all runs, because nothing of
/// a run changes it.
fn library() -> Arc<Library> {
    static LIBRARY: OnceLock<(Arc<Library>, tempfile::TempDir)> = OnceLock::new();
    let (library, _folder) = LIBRARY.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let clip = concat!(env!("CARGO_MANIFEST_DIR"), "/src/library/demo.mp4");
        std::fs::copy(clip, folder.path().join("film.mp4")).expect("a film");
        let library = Library::new(Some(folder.path().to_owned())).expect("a library");
        (Arc::new(library), folder)
    });
    Arc::clone(library)
}

/// Everybody may publish and read; `tv` has the clip and the film.
fn paths() -> PathTable {
    let everyone = PathConfig {
        publish: AccessList::everyone(),
        read: AccessList::everyone(),
        ..PathConfig::default()
    };
    let channels = [("1", "demo"), ("2", "vod/film.mp4"), ("3", "vod/none.mp4")];
    let lineup = Lineup::parse(channels.into_iter().map(|(key, name)| (key, Ok(name))));
    let tv = PathConfig { lineup: lineup.expect("channels"), ..everyone.clone() };
    PathTable {
        named: BTreeMap::from([("tv".to_owned(), Arc::new(tv))]),
        others: Arc::new(everyone),
        ..PathTable::default()
    }
}

/// Of a server that is told which ports to take.
pub(crate) const FIRST_PORT: u16 = 8_000;
/// How long nothing may be sent while another process takes over, or does not after all.
const GAP_NS: u64 = 3 * S;
const OUTCOMES_MAX: usize = 64;
const ENTRIES_MAX: usize = 24;
const SESSIONS_MAX: usize = 8;
/// The longest time for which a shard is not run.
const FROZEN_MS: u64 = 1_500;
/// Of sessions; short, so that runs are.
const TIMEOUT: Duration = Duration::from_secs(8);
/// All that is held for clients is over by then: a session's timeout, and then its connection's.
const OVER_NS: u64 = 45 * S;
const STOP_NS: u64 = 10 * S;
const LOOK_NS: u64 = 250 * MS;
/// A client that reads nothing keeps its entry suspended until it is given up.
const SUSPENDED_NS: u64 = 25 * S;
/// A tenth of a second without a sleep: sends that find no room are tried again at once.
const SPINS_MAX: u32 = 3_000;
const EVENTS_MAX: u64 = 2_000_000;
