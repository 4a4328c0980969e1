//! The task that owns the plain agent: events in, actions out, reports away.
//!
//! Invariant: one task, one order of events; whatever takes time is done elsewhere and comes back
//! as an event. Bounds: `EVENTS_PER_TURN` events are taken before actions are done; `APPLIES_MAX`
//! changes of the media folder are under way; one batch of reports is.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::base::BaseError;
use super::bases::Bases;
use super::channel::Channel;
use super::control::{EpochOrder, HelloAgain, Session};
use super::files::Files;
use super::folder::{Folder, utc_ns};
use super::journal::Journal;
use super::links::Links;
use super::live::{Lives, ServerPaths};
use super::neighbours::Neighbours;
use super::share::Direction;
use super::{Event, Facts, probe};
use crate::base::time::Mono;
use crate::dist::agent::{Action, Agent, Apply, Failure};
use crate::dist::ids::{ContentId, Digest, NodeName};
use crate::dist::journal::Record;
use crate::dist::keys::{NodeKeys, VerifyKey, sign_answer, sign_receipt};
use crate::dist::window::RateSchedule;
use crate::dist::wire::agent::{NodeOrder, Receipt, Reports, ReportsTaken, SignedReceipt};
use crate::dist::wire::job::{Attributes, Op, Reason};
use crate::dist::wire::peer::ContentEnd;
use crate::store::{RateLimit, Recovered, Store, Upload};

/// What a driver is made of.
pub(super) struct Parts {
    pub(super) base_key: VerifyKey,
    pub(super) node: NodeName,
    pub(super) keys: NodeKeys,
    pub(super) facts: Facts,
    pub(super) bases: Bases,
    pub(super) channel: Channel,
    pub(super) store: Store,
    pub(super) recovered: Vec<Recovered>,
    pub(super) journal: Journal,
    pub(super) records: Vec<Record>,
    pub(super) folder: Arc<Folder>,
    pub(super) media: PathBuf,
    /// The agent's own folder.
    pub(super) kept: PathBuf,
    pub(super) again: Arc<HelloAgain>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) viewers: Box<dyn Fn() -> u64 + Send + Sync>,
    pub(super) sent: Arc<AtomicU64>,
    pub(super) upload: Upload,
    pub(super) paths: Arc<dyn ServerPaths>,
    pub(super) turns: Arc<AtomicU64>,
}

pub(super) struct Driver {
    agent: Agent,
    started: Instant,
    hand: Arc<Hand>,
    bases: Bases,
    links: Links,
    neighbours: Neighbours,
    lives: Lives,
    journal: Journal,
    files: Files,
    again: Arc<HelloAgain>,
    /// The agent's own folder.
    kept: PathBuf,
    events: mpsc::Sender<Event>,
    session: Option<Session>,
    /// A batch is under way.
    is_reporting: bool,
    /// When the next batch may leave, if there is something to say.
    report_at: Instant,
    reported_at: Instant,
    counted_at: Instant,
    /// When another hello was asked for.
    asked_at: Option<Instant>,
    viewers: Box<dyn Fn() -> u64 + Send + Sync>,
    turns: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
    received: Arc<AtomicU64>,
    upload: (Direction, Upload),
    up_rate: RateSchedule,
    download: (Direction, Arc<RateLimit>),
}

/// Changes the media folder and signs receipts.
struct Hand {
    node: NodeName,
    keys: NodeKeys,
    store: Store,
    folder: Arc<Folder>,
    media: PathBuf,
    applies: Arc<Semaphore>,
}

impl Driver {
    pub(super) fn new(parts: Parts) -> io::Result<Self> {
        let mut agent = Agent::new(parts.node.clone(), parts.records);
        agent.set_base_key(parts.base_key);
        let known: std::collections::BTreeSet<ContentId> = agent.contents().collect();
        let files = Files::spawn(parts.store.clone(), parts.events.clone())?;
        for strange in parts.recovered.iter().filter(|content| !known.contains(&content.id)) {
            files.discard(strange.id);
        }
        let received = Arc::<AtomicU64>::default();
        let limit = Arc::new(RateLimit::new(parts.facts.down_rate));
        let base = parts.bases.url().to_owned();
        let (download, counter) = (Arc::clone(&limit), Arc::clone(&received));
        let neighbours = Neighbours::new(parts.channel.clone(), parts.events.clone());
        let port = parts.facts.addr.port();
        let links =
            Links::new(parts.channel, (base, port), download, counter, parts.events.clone());
        let hand = Hand {
            node: parts.node,
            keys: parts.keys,
            store: parts.store,
            folder: parts.folder,
            media: parts.media,
            applies: Arc::new(Semaphore::new(APPLIES_MAX)),
        };
        let now = Instant::now();
        Ok(Self {
            agent,
            started: now,
            hand: Arc::new(hand),
            bases: parts.bases,
            links,
            neighbours,
            lives: Lives::spawn(parts.paths, parts.base_key, parts.events.clone()),
            journal: parts.journal,
            files,
            again: parts.again,
            kept: parts.kept,
            events: parts.events,
            session: None,
            is_reporting: false,
            report_at: now,
            reported_at: now,
            counted_at: now,
            asked_at: None,
            viewers: parts.viewers,
            turns: parts.turns,
            sent: parts.sent,
            received,
            upload: (Direction::new(parts.facts.up_rate.at(utc_ns())), parts.upload),
            up_rate: parts.facts.up_rate,
            download: (Direction::new(parts.facts.down_rate), limit),
        })
    }

    /// Runs until all senders of events are gone, which is the end of the node.
    pub(super) async fn run(
        mut self,
        mut events: mpsc::Receiver<Event>,
        mut orders: mpsc::Receiver<EpochOrder>,
    ) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut out = Vec::new();
        self.agent.start(self.now(), &mut out);
        loop {
            self.turns.fetch_add(1, Ordering::Relaxed);
            self.perform(&mut out);
            self.report();
            tokio::select! {
                event = events.recv() => {
                    let Some(event) = event else { return };
                    self.handle(event, &mut out);
                    for _ in 0..EVENTS_PER_TURN {
                        let Ok(event) = events.try_recv() else { break };
                        self.handle(event, &mut out);
                    }
                }
                order = orders.recv(), if !self.agent.is_full() && !self.journal.is_full() => {
                    let Some(order) = order else { return };
                    self.take(order, &mut out);
                    for _ in 0..EVENTS_PER_TURN {
                        let Ok(order) = orders.try_recv() else { break };
                        self.take(order, &mut out);
                    }
                }
                _ = ticks.tick() => {
                    self.agent.handle_time(self.now(), &mut out);
                    self.count();
                    if self.journal.is_long() {
                        self.journal.rewrite(&self.agent.snapshot());
                    }
                }
            }
        }
    }

    fn now(&self) -> Mono {
        Mono(1) + self.started.elapsed()
    }

    fn handle(&mut self, event: Event, out: &mut Vec<Action>) {
        let now = self.now();
        match event {
            Event::Online(session) => {
                self.links.move_base(&session.url);
                self.agent.handle_base(session.epoch);
                self.session = Some(session);
                self.report_at = Instant::now();
                self.agent.handle_online(true);
            }
            Event::Offline => {
                self.session = None;
                self.agent.handle_online(false);
            }
            Event::Reported(answer) => self.handle_reported(answer, out),
            Event::Journaled(records) => self.agent.handle_journaled(records, out),
            Event::Reserved { content, reserved } => {
                self.agent.handle_reserved(content, reserved, now, out);
            }
            Event::Link { content, link, event } => {
                self.agent.handle_link(content, link, event, now, out);
            }
            Event::Alternatives { content, link, others } => {
                self.agent.handle_alternatives(content, link, &others, now, out);
            }
            Event::State { content, ask, state } => {
                self.agent.handle_state(content, ask, state.as_ref(), now, out);
            }
            Event::Unwritable { content, failure } => {
                self.agent.handle_unwritable(content, failure, now, out);
            }
            Event::Live { key, event } => self.agent.handle_live(key, event, now, out),
            Event::Probed { number, probed } => self.agent.handle_probed(number, probed),
            Event::Applied { key, applied } => self.agent.handle_applied(key, applied, now, out),
            Event::Relayed { body, reply } => {
                let answer = self.agent.handle_relay(body, now, out);
                // Who asked may have given up.
                let _gone = reply.send(answer);
            }
            Event::Handed { hand, is_taken } => {
                self.agent.handle_handed(hand, is_taken, now, out);
            }
            Event::Asked { envelope, reply } => {
                let alive = self.agent.handle_question(&envelope, now);
                let _gone = reply.send(alive.map(|alive| sign_answer(&self.hand.keys, &alive)));
            }
            Event::Neighbour { node, query, answer } => {
                self.agent.handle_neighbour(node, query, answer);
            }
        }
    }

    /// Takes an order, unless a later base has spoken meanwhile.
    fn take(&mut self, (epoch, order): EpochOrder, out: &mut Vec<Action>) {
        if self.agent.handle_base(epoch) {
            return self.agent.handle_order(order, self.now(), out);
        }
        tracing::info!(code = "HE-I924", epoch = epoch.0, "an order of a base of before is void");
    }

    fn handle_reported(&mut self, answer: Result<ReportsTaken, BaseError>, out: &mut Vec<Action>) {
        self.is_reporting = false;
        match answer {
            Ok(ReportsTaken { taken, at_ns }) => {
                self.agent.handle_taken(taken, out);
                self.agent.handle_base_time(at_ns, self.now(), out);
            }
            Err(error) if error.reason() == Some("hello_again") => {
                self.agent.handle_order(NodeOrder::HelloAgain, self.now(), out);
            }
            Err(error) => {
                self.report_at = Instant::now() + REPORT_RETRY;
                if error.is_final() {
                    // Its token, or its name, is not taken any more: hello says more.
                    self.again.ask(false);
                    self.session = None;
                }
            }
        }
    }

    fn perform(&mut self, out: &mut Vec<Action>) {
        for action in out.drain(..) {
            match action {
                Action::Journal(record) => self.journal.append(&record),
                Action::Reserve { content, size } => self.files.reserve(content, size),
                Action::Discard { content } => self.files.discard(content),
                Action::Collect { known } => self.files.collect(known),
                Action::Connect { content, link, source, from, part, is_slow } => {
                    let job = self.agent.job_of(content);
                    if let Some(content) = self.hand.store.get(content) {
                        self.links.connect((content, job), link, &source, (from, part, is_slow));
                    }
                }
                Action::Use { content, link } => self.links.use_link(content, link),
                Action::Close { content, link } => self.links.close(content, link),
                Action::Ask { content, ask, source } => self.links.ask(content, ask, &source),
                Action::Hand { hand, node, addr, body } => {
                    self.neighbours.hand(hand, &node, &addr, &body);
                }
                Action::AskNode { node, addr, query, envelope } => {
                    self.neighbours.ask(node, &addr, query, envelope);
                }
                Action::Apply(apply) => self.apply(apply),
                Action::Limit { job, limit } => {
                    self.upload.1.set_share(job, limit.map(|(share, _)| share));
                    self.links.set_limit(job, limit.and_then(|(_, rate)| rate));
                }
                Action::Live { key, action } => self.lives.perform(key, action),
                Action::Probe { number, bytes } => self.probe(number, bytes),
                Action::HelloAgain { is_new_start } => {
                    // New capabilities are not asked for each content apart.
                    let is_due = self.asked_at.is_none_or(|at| at.elapsed() >= ASK_EVERY);
                    if is_new_start || is_due {
                        self.asked_at = Some(Instant::now());
                        self.session = self.session.take().filter(|_| !is_new_start);
                        self.again.ask(is_new_start);
                    }
                }
            }
        }
    }

    fn probe(&mut self, number: u64, bytes: u64) {
        let Some(session) = &self.session else {
            let fault = "the connection to the base was lost".to_owned();
            return self.agent.handle_probed(number, Err(fault));
        };
        let (bases, token) = (self.bases.clone(), session.token.clone());
        let (folder, events) = (self.kept.clone(), self.events.clone());
        tokio::spawn(async move {
            let probed = probe::run(&bases, &token, &folder, (number, bytes)).await;
            let _agent_ended = events.send(Event::Probed { number, probed }).await;
        });
    }

    fn apply(&self, apply: Apply) {
        let (hand, events) = (Arc::clone(&self.hand), self.events.clone());
        tokio::spawn(async move {
            let key = apply.key;
            let applied = hand.apply(apply).await;
            if let Err(failure) = &applied {
                let Failure { reason, detail } = failure;
                tracing::warn!(code = "HE-W926", job = %key.job, command = %key.command, ?reason, detail, "a command is not done");
            }
            let _agent_ended = events.send(Event::Applied { key, applied }).await;
        });
    }

    /// Sends what is to be said, or a sign of life.
    fn report(&mut self) {
        let Some(session) = self.session.as_ref().filter(|_| !self.is_reporting) else { return };
        let now = Instant::now();
        let idle = now.duration_since(self.reported_at);
        let quiet = if self.agent.is_fetching() { PROGRESS } else { session.heartbeat * 3 / 4 };
        let is_due = self.agent.reports_open() > 0 || idle >= quiet.min(session.heartbeat);
        if now < self.report_at || !is_due {
            return;
        }
        (self.is_reporting, self.reported_at, self.report_at) = (true, now, now + REPORT_EVERY);
        let (first, reports) = self.agent.next_batch(Mono(1) + now.duration_since(self.started));
        let reports = Reports {
            node: self.hand.node.clone(),
            incarnation: session.incarnation,
            first,
            reports,
            free_bytes: self.hand.folder.free_bytes().unwrap_or(0),
            up_rate_seen: self.upload.0.best(),
            down_rate_seen: self.download.0.best(),
            relays: self.agent.relay_counts(),
        };
        let (bases, token, events) =
            (self.bases.clone(), session.token.clone(), self.events.clone());
        tokio::spawn(async move {
            let answer = bases.report(&reports, &token).await;
            let _agent_ended = events.send(Event::Reported(answer)).await;
        });
    }

    /// Each second: what was sent and received, and what transfers may have.
    fn count(&mut self) {
        if self.counted_at.elapsed() < SECOND {
            return;
        }
        self.counted_at = Instant::now();
        let viewers = (self.viewers)();
        self.upload.0.count(self.sent.load(Ordering::Relaxed));
        self.download.0.count(self.received.load(Ordering::Relaxed));
        if self.upload.0.set_cap(self.up_rate.at(utc_ns())) {
            // The base plans with what the node says in its hello.
            self.again.ask(false);
        }
        let (up, down) = (self.upload.0.share(viewers), self.download.0.share(viewers));
        if self.upload.1.rate() != up {
            self.upload.1.set_rate(up);
        }
        if self.download.1.rate() != down {
            self.download.1.set(down);
        }
    }
}

impl Hand {
    /// Changes the media folder; the receipt says what was done.
    async fn apply(&self, apply: Apply) -> Result<SignedReceipt, Failure> {
        // Never closed.
        let _place = self.applies.acquire().await;
        let Apply { key, op, content, is_again, via, live } = apply;
        let end = match (&op, content) {
            (Op::Put { path, attrs }, Some(content)) => Some(self.put(content, path, attrs).await?),
            _ => {
                let (folder, op) = (Arc::clone(&self.folder), op.clone());
                let applied = tokio::task::spawn_blocking(move || folder.apply(&op, is_again));
                applied.await.map_err(|error| lost(error.to_string()))??;
                None
            }
        };
        let (path, attrs) = match op {
            Op::Put { path, attrs } | Op::Mkdir { path, attrs } => (path, Some(attrs)),
            Op::SetAttributes { path, attrs } => (path, Some(attrs)),
            Op::Delete { path } | Op::Move { path, .. } | Op::Live { path, .. } => (path, None),
            Op::Query => (String::new(), None),
        };
        let receipt = Receipt {
            node: self.node.clone(),
            key,
            path,
            size: end.map_or_else(|| live.map_or(0, |_| via.values().sum()), |end| end.size),
            blake3: end.map(|end| end.blake3),
            attrs: attrs.filter(|attrs| *attrs != Attributes::default()).as_ref().map(digest),
            finished_at_ns: utc_ns(),
            via,
            live,
        };
        Ok(sign_receipt(&self.keys, &receipt))
    }

    async fn put(
        &self,
        content: ContentId,
        path: &str,
        attrs: &Attributes,
    ) -> Result<ContentEnd, Failure> {
        let content = self.store.get(content);
        let content = content.ok_or_else(|| lost("the content is gone".to_owned()))?;
        let published = content.publish(Path::new(&self.media), path, attrs).await;
        published.map_err(|error| Failure { reason: error.reason(), detail: error.to_string() })?;
        content.end().ok_or_else(|| lost("the content has no end".to_owned()))
    }
}

/// BLAKE3 of the attributes' JSON.
fn digest(attrs: &Attributes) -> Digest {
    let json = serde_json::to_vec(attrs).unwrap_or_default();
    Digest(*blake3::hash(&json).as_bytes())
}

/// Something of the node's own that will be made again.
fn lost(detail: String) -> Failure {
    Failure { reason: Reason::Io, detail }
}

/// How often time is looked at.
const TICK: Duration = Duration::from_millis(50);
const SECOND: Duration = Duration::from_secs(1);
/// Events and orders that are taken before actions are done.
const EVENTS_PER_TURN: usize = 256;
/// Changes of the media folder under way: what one commit of the store takes.
const APPLIES_MAX: usize = 128;
/// Between two batches of reports: receipts that come together leave together.
const REPORT_EVERY: Duration = Duration::from_millis(20);
/// Behind a batch that was not taken.
const REPORT_RETRY: Duration = Duration::from_secs(1);
/// Between two hellos for new capabilities.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// Between two reports of progress.
const PROGRESS: Duration = Duration::from_secs(1);
