//! A run: virtual time, what is to happen when, and who it happens to.
//!
//! ```text
//! queue (time, number) --earliest--> step --> base, node, stream, client, fault --> queue
//! ```
//! Invariant: steps are taken in the order of their time and, at one time, of their making; so one
//! seed gives one run. Bounds: `STEPS_MAX` steps; `BOUND` of virtual time behind the last fault.

use std::collections::BTreeMap;
use std::sync::Arc;

use headend::dist::agent::Failure;
use headend::dist::book::HookReport;
use headend::dist::fetch::{AskId, LinkEvent, LinkId};
use headend::dist::ids::{BaseEpoch, CommandKey, ContentId, NodeName};
use headend::dist::keys::VerifyKey;
use headend::dist::relay::HandId;
use headend::dist::units::Frame;
use headend::dist::webhook::message::Call;
use headend::dist::wire::agent::NodeOrder;
use headend::dist::wire::peer::{Alternative, ContentState};
use headend::dist::wire::relay::{RelayBody, SignedAnswer};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::{Ask, Base};
use crate::checks::{Promises, Watch};
use crate::client::{Client, ClientAnswer};
use crate::contact::Answer;
use crate::dice::{Dice, S, Seconds, Trace};
use crate::due::DueQueue;
use crate::faults::{Fault, Faults};
use crate::network::{BASE, Host, Network, host_of};
use crate::node::Node;
use crate::runs::Counted;
use crate::setup::Setup;
use crate::sink::Sinks;
use crate::streams::{StreamId, Streams};

/// 2026-01-01.
pub(crate) const EPOCH_NS: i64 = 1_767_225_600_000_000_000;

/// Everything of a run.
pub(crate) struct World {
    /// Virtual nanoseconds.
    pub(crate) now: u64,
    queue: DueQueue<Event>,
    pub(crate) dice: Dice,
    pub(crate) trace: Trace,
    pub(crate) setup: Setup,
    pub(crate) net: Network,
    pub(crate) base: Base,
    pub(crate) base_key: VerifyKey,
    pub(crate) nodes: Vec<Node>,
    pub(crate) clients: Vec<Client>,
    pub(crate) streams: Streams,
    pub(crate) faults: Faults,
    pub(crate) sinks: Sinks,
    /// What clients pushed, by content.
    pub(crate) pushed: BTreeMap<ContentId, Arc<[u8]>>,
    pub(crate) promises: Promises,
    pub(crate) watch: Watch,
}

/// What is to happen. Events of a node or the base name its start: a later one does not hear them.
#[derive(Debug)]
pub(crate) enum Event {
    BaseSecond { run: u64 },
    BaseCommitted { run: u64 },
    Asked(Ask),
    Answer { n: usize, run: u64, answer: Box<Answer> },
    Line { n: usize },
    LineLost { n: usize, run: u64 },
    NodeTick { n: usize, run: u64 },
    Contact { n: usize, run: u64 },
    ContactLate { n: usize, run: u64, attempt: u64 },
    Report { n: usize, run: u64 },
    ReportLate { n: usize, run: u64, batch: u64 },
    OrderAgain { n: usize, run: u64, epoch: BaseEpoch, order: Box<NodeOrder> },
    Journaled { n: usize, run: u64, records: u64 },
    Reserve { n: usize, run: u64, content: ContentId, size: Option<u64> },
    Discard { n: usize, run: u64, content: ContentId },
    Apply { n: usize, run: u64, key: CommandKey },
    Probed { n: usize, run: u64, number: u64 },
    Link { n: usize, run: u64, content: ContentId, link: LinkId, event: LinkEvent },
    Others { n: usize, run: u64, content: ContentId, link: LinkId, others: Vec<Alternative> },
    State { n: usize, run: u64, content: ContentId, ask: AskId, state: Option<ContentState> },
    Unwritable { n: usize, run: u64, content: ContentId, failure: Failure },
    StateAsked { n: usize, run: u64, content: ContentId, ask: AskId, host: Host, since: u64 },
    StreamAsked(StreamId),
    StreamSent(StreamId),
    StreamGoesOn(StreamId),
    StreamFrame(StreamId, Frame),
    StreamLost(StreamId),
    StreamHeld(StreamId),
    Uplink(Host),
    Handing { to: usize, from: usize, run: u64, hand: HandId, body: Box<RelayBody> },
    Handed { n: usize, run: u64, hand: HandId, is_taken: bool },
    Questioned { to: usize, from: usize, run: u64, query: u64, envelope: String },
    Neighbour { n: usize, run: u64, node: NodeName, query: u64, answer: Option<SignedAnswer> },
    ClientStep { c: usize, step: u64 },
    ClientAgain { c: usize },
    ClientAnswered { c: usize, ask: u64, answer: Box<ClientAnswer> },
    Called { run: u64, call: Box<Call> },
    CalledBack { run: u64, report: Box<HookReport> },
    Fault(Fault),
    Check,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Of all steps, and of the chain of events.
    pub(crate) trace: String,
    pub(crate) steps: u64,
    pub(crate) seconds: u64,
    /// Events by their kind.
    pub(crate) counts: BTreeMap<String, u64>,
}

impl Counted for Outcome {
    fn counts(&self) -> Vec<(String, u64)> {
        self.counts.clone().into_iter().collect()
    }

    fn trace(&self) -> &str {
        &self.trace
    }
}

impl World {
    pub(crate) fn new(setup: Setup, is_shown: bool) -> Self {
        let mut rates = vec![(setup.base_up_rate.unwrap_or(setup.base_real_rate), u64::MAX / S)];
        rates.extend(setup.nodes.iter().map(|node| (node.up, node.down)));
        let nodes = setup.nodes.iter().enumerate();
        let nodes: Vec<Node> = nodes
            .map(|(n, node)| {
                let up = node.declares.then_some(node.up);
                Node::new(n, node.disk, (up, node.declares_down.then_some(node.down)))
            })
            .collect();
        let clients = setup.jobs.iter().cloned().enumerate();
        let clients: Vec<Client> = clients.map(|(c, plan)| Client::new(c, plan)).collect();
        let base = Base::new(setup.commit_ms, setup.queue_max);
        let mut world = Self {
            now: S,
            queue: DueQueue::new(),
            dice: Dice::new(setup.seed),
            trace: Trace::new(is_shown),
            net: Network::new(&rates, setup.latency_ms),
            base_key: base.keys.verify_key(),
            base,
            nodes,
            clients,
            streams: Streams::default(),
            faults: Faults::default(),
            sinks: Sinks::default(),
            pushed: BTreeMap::new(),
            promises: Promises::default(),
            watch: Watch::default(),
            setup,
        };
        world.start_base();
        for n in 0..world.nodes.len() {
            let joins = world.setup.nodes[n].joins;
            world.at(joins, Event::Fault(Fault::Start(n)));
        }
        for c in 0..world.clients.len() {
            let at = world.clients[c].plan.at;
            world.client_later(c, at.saturating_sub(world.now));
        }
        for (at, fault) in world.setup.faults.clone() {
            world.at(at, Event::Fault(fault));
        }
        // Between the seconds of the base, at which it is never idle.
        world.after(S + S / 2, Event::Check);
        world
    }

    /// Runs until everything has come to its end.
    pub(crate) fn run(&mut self) -> Outcome {
        while !self.watch.is_settled {
            self.step();
        }
        self.check_end();
        let mut trace = self.trace.hash();
        trace.push_str(&self.base.ledger.head().to_string()[..16]);
        let counts = self.base.ledger.counts.clone();
        Outcome { trace, steps: self.trace.steps, seconds: self.now / S, counts }
    }

    /// Runs for so many virtual seconds.
    pub(crate) fn pass(&mut self, seconds: u64) {
        let until = self.now + seconds * S;
        while self.queue.next_at().is_some_and(|at| at <= until) {
            self.step();
        }
        self.now = until;
    }

    /// Runs until `is_there`, for so many virtual seconds at most.
    pub(crate) fn until(&mut self, seconds: u64, what: &str, is_there: impl Fn(&Self) -> bool) {
        let end = self.now + seconds * S;
        while !is_there(self) {
            assert!(self.now < end, "{what}: not within {seconds} s");
            self.step();
        }
    }

    fn step(&mut self) {
        let (at, event) = self.queue.pop().expect("a check is always due");
        self.now = self.now.max(at);
        self.watch.steps += 1;
        assert!(self.watch.steps < STEPS_MAX, "no end after {STEPS_MAX} steps");
        self.happen(event);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::BaseSecond { run } if run == self.base.runs => self.base_second(),
            Event::BaseCommitted { run } if run == self.base.runs => self.base_committed(),
            Event::BaseSecond { .. } | Event::BaseCommitted { .. } => {}
            Event::Asked(ask) => self.asked(ask),
            Event::Line { n } => self.line_arrives(n),
            Event::StreamAsked(id) => self.stream_asked(id),
            Event::StreamSent(id) => self.stream_sent(id),
            // It has given way to another one long enough.
            Event::StreamGoesOn(id) => self.pump(id),
            Event::StreamFrame(id, frame) => self.stream_frame(id, frame),
            Event::StreamHeld(id) => self.take_frames(id),
            Event::Uplink(host) => self.uplink_due(host),
            Event::StreamLost(id) => self.end_stream(id, LinkEvent::Unreachable),
            Event::ClientStep { c, step } => self.client_step(c, step),
            Event::ClientAgain { c } => self.client_again(c),
            Event::ClientAnswered { c, ask, answer } => self.client_answered(c, ask, *answer),
            Event::Called { run, call } => self.called(run, &call),
            Event::CalledBack { run, report } => self.called_back(run, *report),
            Event::Handing { to, from, run, hand, body } => {
                self.handing(to, (from, run), hand, *body)
            }
            Event::Questioned { to, from, run, query, envelope } => {
                self.questioned(to, (from, run), query, &envelope);
            }
            Event::Fault(fault) => self.fault(fault),
            Event::Check => self.check(),
            Event::Answer { n, run, .. }
            | Event::LineLost { n, run }
            | Event::NodeTick { n, run }
            | Event::Contact { n, run }
            | Event::ContactLate { n, run, .. }
            | Event::Report { n, run }
            | Event::ReportLate { n, run, .. }
            | Event::OrderAgain { n, run, .. }
            | Event::Journaled { n, run, .. }
            | Event::Reserve { n, run, .. }
            | Event::Discard { n, run, .. }
            | Event::Apply { n, run, .. }
            | Event::Probed { n, run, .. }
            | Event::Link { n, run, .. }
            | Event::Others { n, run, .. }
            | Event::StateAsked { n, run, .. }
            | Event::State { n, run, .. }
            | Event::Handed { n, run, .. }
            | Event::Neighbour { n, run, .. }
            | Event::Unwritable { n, run, .. } => {
                if self.nodes[n].runs == run && self.nodes[n].run.is_some() {
                    self.happen_at(n, event);
                }
            }
        }
    }

    /// Something happens at a node that runs.
    fn happen_at(&mut self, n: usize, event: Event) {
        match event {
            Event::Answer { answer, .. } => self.answered(n, *answer),
            Event::LineLost { .. } => self.offline(n),
            Event::NodeTick { .. } => self.tick_node(n),
            Event::Contact { .. } => self.contact(n),
            Event::ContactLate { attempt, .. } => self.contact_late(n, attempt),
            Event::Report { .. } => self.report_due(n),
            Event::ReportLate { batch, .. } => self.report_late(n, batch),
            Event::OrderAgain { epoch, order, .. } => self.order_again(n, epoch, *order),
            Event::Journaled { records, .. } => self.journaled(n, records),
            Event::Reserve { content, size, .. } => self.reserve(n, content, size),
            Event::Discard { content, .. } => self.discard(n, content),
            Event::Apply { key, .. } => self.applied(n, key),
            Event::Probed { number, .. } => self.probed(n, number),
            Event::Link { content, link, event, .. } => self.with_agent(n, |agent, now, out| {
                agent.handle_link(content, link, event, now, out);
            }),
            Event::Others { content, link, others, .. } => self.with_agent(n, |agent, now, out| {
                agent.handle_alternatives(content, link, &others, now, out);
            }),
            Event::StateAsked { content, ask, host, since, .. } => {
                self.state_asked(n, content, ask, host, since);
            }
            Event::State { content, ask, state, .. } => self.with_agent(n, |agent, now, out| {
                agent.handle_state(content, ask, state.as_ref(), now, out);
            }),
            Event::Handed { hand, is_taken, .. } => self.with_agent(n, |agent, now, out| {
                agent.handle_handed(hand, is_taken, now, out);
            }),
            Event::Neighbour { node, query, answer, .. } => self.with_agent(n, |agent, _, _| {
                agent.handle_neighbour(node, query, answer);
            }),
            Event::Unwritable { content, failure, .. } => self.with_agent(n, |agent, now, out| {
                agent.handle_unwritable(content, failure, now, out);
            }),
            other => unreachable!("not of a node: {other:?}"),
        }
    }

    pub(crate) fn at(&mut self, at: u64, event: Event) {
        self.queue.push(at.max(self.now), event);
    }

    pub(crate) fn after(&mut self, wait: u64, event: Event) {
        self.at(self.now + wait, event);
    }

    /// Time that a packet takes.
    pub(crate) fn latency(&mut self) -> u64 {
        let (low, high) = self.net.latency_ms;
        self.dice.ms(low, high)
    }

    /// Whether the process of a host runs.
    pub(crate) fn is_up(&self, host: Host) -> bool {
        if host == BASE { self.base.book.is_some() } else { self.nodes[host - 1].run.is_some() }
    }

    /// Whether a host has no power, so that nobody answers at all.
    pub(crate) fn is_dark(&self, host: Host) -> bool {
        if host == BASE { self.base.is_dark } else { self.nodes[host - 1].is_dark }
    }

    /// What the clock of a host shows.
    pub(crate) fn utc_ns(&self, host: Host) -> i64 {
        let skew = if host == BASE { 0 } else { self.nodes[host - 1].skew_ns };
        EPOCH_NS + i64::try_from(self.now).unwrap_or(i64::MAX) + skew
    }

    /// A thing as it comes out of the other end of the wire; in some runs through its JSON.
    pub(crate) fn wire<T: Clone + Serialize + DeserializeOwned>(&self, thing: &T) -> T {
        if !self.setup.as_json {
            return thing.clone();
        }
        let json = serde_json::to_string(thing).expect("what is said has a JSON form");
        serde_json::from_str(&json).expect("what was written can be read")
    }

    /// The bound of the run has passed.
    pub(crate) fn is_overdue(&self) -> bool {
        self.now > self.setup.calm_at + self.setup.bound_s * S
    }

    /// What is not at its end, for people.
    pub(crate) fn shown(&self) -> String {
        let mut lines = vec![format!("at {} s", Seconds(self.now))];
        let clients = self.clients.iter().filter(|client| !client.is_done());
        lines.extend(clients.map(Client::shown));
        let jobs = self.base.ledger.jobs.values();
        lines.extend(jobs.map(|row| format!("job {} is {:?}", row.id, row.state)));
        let open = self.base.ledger.deliveries.values().filter(|row| row.state.is_open());
        lines.extend(open.map(|row| {
            let (command, reason) = (row.key.command, row.reason);
            format!("{command} at {} is {:?}, {reason:?}", row.node, row.state)
        }));
        for (n, node) in self.nodes.iter().enumerate() {
            let agent = node.run.as_ref().and_then(|run| run.agent.as_ref());
            let (is_up, commands) = (agent.is_some(), node.open_commands());
            let reports = agent.map_or(0, |agent| agent.reports_open());
            let is_online = node.run.as_ref().is_some_and(|run| run.contact.is_online());
            let partial = node.disk.contents.values().filter(|held| held.place.is_none()).count();
            if !is_online || !commands.is_empty() || reports + partial > 0 || !is_up {
                lines.push(format!(
                    "n{n}: up {is_up}, online {is_online}, open {commands:?}, {reports} reports, \
                     {partial} partial contents"
                ));
            }
        }
        lines.push(format!("the base is idle: {}", self.base.is_idle()));
        let edges = self.streams.all.values();
        lines.extend(edges.map(|s| format!("stream to {} from {}", host_of(s.node), s.source)));
        lines.join("\n")
    }
}

/// More is a run that turns in a circle.
const STEPS_MAX: u64 = 5_000_000;
