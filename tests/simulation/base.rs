//! The base: the product's book behind a clerk, with a ledger and contents that outlive it.
//!
//! ```text
//! asked --queue--> Book --changes--> commit (a while) --> answers, orders, lines that begin
//!                               crash: before the commit, or between it and the answers
//! ```
//! Invariant: as in `ledger::clerk`, one batch is under way, and nothing leaves before its commit.
//! Bounds: `QUEUE_MAX` requests wait, others are told that it is busy; `LINE_MAX` orders in a line.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use headend::dist::book::{Book, BookOptions, HelloBy, HookReport};
use headend::dist::ids::{BaseEpoch, ContentId, Stamp};
use headend::dist::keys::BaseKeys;
use headend::dist::rows::Change;
use headend::dist::token::token_hash;
use headend::dist::webhook::message::Call;
use headend::dist::wire::agent::{Hello, NodeOrder, Reports};

use crate::client::{ClientAnswer, ClientAsk};
use crate::contact::{Answer, AskError};
use crate::dice::S;
use crate::ledger::Ledger;
use crate::network::{BASE, host_of};
use crate::upload::Stored;
use crate::world::{EPOCH_NS, Event, World};

/// The token by which nodes join.
pub(crate) const JOIN: &str = "hdj_simulation_0123456789";

#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) keys: BaseKeys,
    pub(crate) book: Option<Book>,
    pub(crate) ledger: Ledger,
    pub(crate) contents: BTreeMap<ContentId, Stored>,
    pub(crate) removed: VecDeque<ContentId>,
    /// Bytes of contents that left since the book was told.
    pub(crate) sent: BTreeMap<ContentId, u64>,
    /// The same since the start of the run.
    pub(crate) sent_in_all: BTreeMap<ContentId, u64>,
    pub(crate) is_dark: bool,
    pub(crate) runs: u64,
    booted: u64,
    queue: VecDeque<Ask>,
    batch: Option<Batch>,
    pub(crate) lines: BTreeMap<usize, Line>,
    last_line: u64,
    pub(crate) commit_ms: (u64, u64),
    pub(crate) queue_max: usize,
    pub(crate) busy: u64,
    pub(crate) queue_seen: usize,
}

/// A request at the door of the base.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    Hello { n: usize, run: u64, attempt: u64, hello: Box<Hello>, token: String },
    Orders { n: usize, run: u64, attempt: u64, token: String },
    Reports { n: usize, run: u64, batch: u64, reports: Box<Reports>, token: String },
    Client { c: usize, ask: u64, what: Box<ClientAsk> },
    CalledBack { run: u64, report: Box<HookReport> },
    Second,
}

/// What one commit lets out.
#[derive(Debug, Default)]
struct Batch {
    changes: Vec<Change>,
    answers: Vec<Event>,
    asks: Vec<Ask>,
    /// Who is called back.
    calls: Vec<Call>,
}

/// Orders on their way to a node.
#[derive(Debug)]
pub(crate) struct Line {
    id: u64,
    run: u64,
    /// Of the base that gives the orders.
    epoch: BaseEpoch,
    is_begun: bool,
    is_moving: bool,
    queue: VecDeque<NodeOrder>,
}

impl Base {
    pub(crate) fn new(commit_ms: (u64, u64), queue_max: usize) -> Self {
        Self {
            keys: BaseKeys::from_bytes(&[7; 32]),
            book: None,
            ledger: Ledger::new(),
            contents: BTreeMap::new(),
            removed: VecDeque::new(),
            sent: BTreeMap::new(),
            sent_in_all: BTreeMap::new(),
            is_dark: false,
            runs: 0,
            booted: 0,
            queue: VecDeque::new(),
            batch: None,
            lines: BTreeMap::new(),
            last_line: 0,
            commit_ms,
            queue_max,
            busy: 0,
            queue_seen: 0,
        }
    }

    /// Nothing waits or is being committed.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.batch.is_none()
    }
}

impl World {
    /// The time of both clocks of the base. The monotonic one begins anew with each start.
    pub(crate) fn stamp(&self) -> Stamp {
        let now = i64::try_from(self.now).unwrap_or(i64::MAX);
        Stamp { mono_ns: 5 * S + self.now - self.base.booted, utc_ns: EPOCH_NS + now }
    }

    /// The epoch of the base: that of its lease, where one ledger is that of several bases.
    pub(crate) fn base_epoch(&self) -> BaseEpoch {
        BaseEpoch(if self.setup.has_lease { self.base.runs } else { 0 })
    }

    /// The base starts from its rows.
    pub(crate) fn start_base(&mut self) {
        if self.base.book.is_some() {
            return;
        }
        self.base.is_dark = false;
        self.base.runs += 1;
        self.base.booted = self.now;
        self.trace.note(self.now, "base", self.base.runs, 0);
        self.trace.say(self.now, || "the base starts".to_owned());
        let mut options = BookOptions::new("10.0.0.1:8554".to_owned(), token_hash(JOIN));
        options.seed = self.dice.seed();
        options.up_rate = self.setup.base_up_rate;
        options.epoch = self.base_epoch();
        options.relay_from = self.setup.relay_from;
        options.probe_bytes = PROBE_BYTES;
        let timeouts = &mut options.timeouts;
        timeouts.idle_job = Duration::from_secs(self.setup.idle_job_s);
        timeouts.idle_upload = Duration::from_secs(self.setup.idle_upload_s);
        timeouts.capability = Duration::from_secs(self.setup.capability_s);
        timeouts.content_kept = Duration::from_secs(self.setup.content_kept_s);
        timeouts.hook_kept = Duration::from_secs(self.setup.hook_kept_s);
        timeouts.wait = Duration::from_secs(self.setup.wait_s);
        timeouts.repair = self.setup.repair_s.map(Duration::from_secs);
        let rows = self.base.ledger.rows();
        self.promises.check(&self.base.ledger);
        let mut book = Book::new(rows, self.base.keys.clone(), options, self.stamp());
        let at = self.stamp();
        self.reconcile(&mut book, at);
        self.base.ledger.commit(book.take_changes());
        self.note_rates();
        let shares = book.take_shares();
        self.base.book = Some(book);
        shares.into_iter().for_each(|(job, share)| self.share_uplink(BASE, job, share));
        let run = self.base.runs;
        self.after(S, Event::BaseSecond { run });
    }

    /// The base's process is gone; `is_dark`: its machine too.
    pub(crate) fn crash_base(&mut self, is_dark: bool) {
        if self.base.book.take().is_none() {
            return;
        }
        self.trace.note(self.now, "base crash", u64::from(is_dark), 0);
        self.trace.say(self.now, || format!("the base crashes, dark {is_dark}"));
        self.base.is_dark = is_dark;
        let mut lost: Vec<Ask> = self.base.queue.drain(..).collect();
        if let Some(batch) = self.base.batch.take() {
            // Before the commit, or between it and the answers.
            if self.dice.chance(500) {
                self.base.ledger.commit(batch.changes);
            }
            lost.extend(batch.asks);
        }
        for ask in lost {
            self.answer_with(&ask, AskError::Unreachable);
        }
        for content in self.base.contents.values_mut() {
            content.crash(&mut self.dice);
        }
        self.base.removed.clear();
        self.base.sent.clear();
        self.drop_streams(BASE, is_dark);
        self.streams.drop_uplink(BASE);
        let lines = std::mem::take(&mut self.base.lines);
        for n in lines.into_keys() {
            if !is_dark && self.net.reaches(BASE, host_of(n)) {
                let (run, wait) = (self.nodes[n].runs, self.latency());
                self.after(wait, Event::LineLost { n, run });
            }
        }
    }

    /// A request is at the door.
    pub(crate) fn asked(&mut self, ask: Ask) {
        if let Ask::Hello { n, .. } | Ask::Orders { n, .. } | Ask::Reports { n, .. } = &ask
            && !self.net.reaches(host_of(*n), BASE)
        {
            return;
        }
        if self.base.is_dark {
            return;
        }
        if self.base.book.is_none() {
            return self.answer_with(&ask, AskError::Unreachable);
        }
        if self.base.queue.len() >= self.base.queue_max {
            self.base.busy += 1;
            return self.answer_with(&ask, AskError::Busy);
        }
        self.base.queue.push_back(ask);
        self.base.queue_seen = self.base.queue_seen.max(self.base.queue.len());
        self.serve();
    }

    /// Runs what waits, and begins its commit.
    fn serve(&mut self) {
        if self.base.batch.is_some() || self.base.queue.is_empty() {
            return;
        }
        let Some(mut book) = self.base.book.take() else { return };
        let (mut batch, at) = (Batch::default(), self.stamp());
        let mut rows = 0;
        while rows < BATCH_ROWS_MAX
            && let Some(ask) = self.base.queue.pop_front()
        {
            let answer = self.run_ask(&mut book, &ask, at);
            if matches!(ask, Ask::Second | Ask::CalledBack { .. }) {
                batch.calls.extend(Self::calls(&mut book, at));
            }
            batch.answers.extend(answer);
            batch.asks.push(ask);
            batch.changes.extend(book.take_changes());
            rows = batch.changes.len().max(batch.asks.len());
        }
        let (low, high) = self.base.commit_ms;
        let wait = if batch.changes.is_empty() { 0 } else { self.dice.ms(low, high) };
        (self.base.book, self.base.batch) = (Some(book), Some(batch));
        let run = self.base.runs;
        self.after(wait, Event::BaseCommitted { run });
    }

    fn run_ask(&mut self, book: &mut Book, ask: &Ask, at: Stamp) -> Option<Event> {
        match ask {
            Ask::Hello { n, run, attempt, hello, token } => {
                let by = if book.is_join_token(token) {
                    Some(HelloBy::Join)
                } else {
                    book.node_of_token(token).cloned().map(HelloBy::Node)
                };
                let answer = match by {
                    Some(by) => {
                        let hello = self.wire(hello.as_ref());
                        let welcome = book.hello(hello, by, at).map_err(AskError::Refused);
                        welcome.map(|welcome| (welcome, self.base_epoch()))
                    }
                    None => Err(AskError::NoToken),
                };
                Some(answer_to(*n, *run, Answer::Hello(*attempt, answer)))
            }
            Ask::Orders { n, run, attempt, token } => {
                let is_known = book.node_of_token(token) == Some(&self.nodes[*n].name);
                let answer =
                    if is_known { Ok(self.open_line(*n, *run)) } else { Err(AskError::NoToken) };
                Some(answer_to(*n, *run, Answer::Orders(*attempt, answer)))
            }
            Ask::Reports { n, run, batch, reports, token } => {
                let answer = match book.node_of_token(token) {
                    Some(owner) if *owner == reports.node => {
                        let reports = self.wire(reports.as_ref());
                        book.reports(reports, at).map_err(AskError::Refused)
                    }
                    _ => Err(AskError::NoToken),
                };
                Some(answer_to(*n, *run, Answer::Reported(*batch, answer)))
            }
            Ask::Client { c, ask, what } => {
                let answer = Self::run_client(book, *c, what, at);
                Some(Event::ClientAnswered { c: *c, ask: *ask, answer: Box::new(answer) })
            }
            Ask::CalledBack { report, .. } => {
                book.called_back(report.as_ref().clone(), at);
                None
            }
            Ask::Second => {
                book.tick(at);
                let open = book.hook_numbers().open;
                self.sinks.open_most = self.sinks.open_most.max(open);
                for (content, bytes) in std::mem::take(&mut self.base.sent) {
                    *self.base.sent_in_all.entry(content).or_default() += bytes;
                    book.base_sent(content, bytes);
                }
                for content in book.take_expired() {
                    self.remove_stored(content);
                }
                None
            }
        }
    }

    /// The commit is done: what depends on it leaves.
    pub(crate) fn base_committed(&mut self) {
        let Some(batch) = self.base.batch.take() else { return };
        let count = batch.changes.len() as u64;
        self.base.ledger.commit(batch.changes);
        self.note_rates();
        self.trace.note(self.now, "commit", count, self.base.ledger.commits);
        for answer in batch.answers {
            let wait = self.latency();
            match &answer {
                Event::Answer { n, .. } if !self.net.reaches(BASE, host_of(*n)) => {}
                _ => self.after(wait, answer),
            }
        }
        self.call_back(batch.calls);
        let Some(mut book) = self.base.book.take() else { return };
        for (job, share) in book.take_shares() {
            self.share_uplink(BASE, job, share);
        }
        for (node, order) in book.take_orders() {
            if let Some(n) = self.nodes.iter().position(|known| known.name == node) {
                self.push_order(n, order);
            }
        }
        let new: Vec<usize> =
            self.base.lines.iter().filter(|(_, line)| !line.is_begun).map(|(n, _)| *n).collect();
        for n in new {
            let orders = book.open_orders(&self.nodes[n].name);
            if let Some(line) = self.base.lines.get_mut(&n) {
                line.is_begun = true;
                line.queue = orders.into();
            }
            self.move_line(n);
        }
        self.base.book = Some(book);
        self.serve();
    }

    /// A second at the base.
    pub(crate) fn base_second(&mut self) {
        let run = self.base.runs;
        self.asked(Ask::Second);
        if self.base.runs == run && self.base.book.is_some() {
            self.after(S, Event::BaseSecond { run });
        }
        if (self.now / S).is_multiple_of(IDLE_EVERY_S) {
            let listening: Vec<usize> = self.base.lines.keys().copied().collect();
            listening.into_iter().for_each(|n| self.push_order(n, NodeOrder::Idle));
        }
    }

    /// A line for a node; one that it has ends.
    fn open_line(&mut self, n: usize, run: u64) -> u64 {
        self.base.last_line += 1;
        let id = self.base.last_line;
        let (epoch, queue) = (self.base_epoch(), VecDeque::new());
        self.base
            .lines
            .insert(n, Line { id, run, epoch, is_begun: false, is_moving: false, queue });
        id
    }

    fn push_order(&mut self, n: usize, order: NodeOrder) {
        let Some(line) = self.base.lines.get_mut(&n).filter(|line| line.is_begun) else { return };
        if line.queue.len() >= LINE_MAX {
            self.base.lines.remove(&n);
            return;
        }
        line.queue.push_back(order);
        self.move_line(n);
    }

    /// Orders of a line are under way, unless they are already.
    pub(crate) fn move_line(&mut self, n: usize) {
        let Some(line) = self.base.lines.get_mut(&n) else { return };
        if line.queue.is_empty() || std::mem::replace(&mut line.is_moving, true) {
            return;
        }
        let wait = self.latency();
        self.after(wait, Event::Line { n });
    }

    /// Orders of a line arrive, or wait for the end of a cut.
    pub(crate) fn line_arrives(&mut self, n: usize) {
        let is_reached = self.net.reaches(BASE, host_of(n));
        let Some(line) = self.base.lines.get_mut(&n) else { return };
        line.is_moving = false;
        let run = self.nodes[n].run.as_ref().filter(|_| self.nodes[n].runs == line.run);
        if !is_reached || run.is_none_or(|run| !run.contact.listens_to(line.id)) {
            return;
        }
        let orders: Vec<_> = line.queue.drain(..).collect();
        let (id, epoch) = (line.id, line.epoch);
        let orders = orders.iter().map(|order| self.wire(order)).collect();
        self.ordered(n, id, epoch, orders);
    }

    /// A cut is healed: orders that waited go on.
    pub(crate) fn lines_go_on(&mut self) {
        let waiting: Vec<usize> = self.base.lines.keys().copied().collect();
        waiting.into_iter().for_each(|n| self.move_line(n));
    }

    /// A node gives up its line.
    pub(crate) fn close_line(&mut self, n: usize, id: u64) {
        if self.net.reaches(host_of(n), BASE)
            && self.base.lines.get(&n).is_some_and(|line| line.id == id)
        {
            self.base.lines.remove(&n);
        }
    }

    /// A node is gone; without a word, its line stays.
    pub(crate) fn drop_lines(&mut self, n: usize, is_silent: bool) {
        if !is_silent && self.net.reaches(host_of(n), BASE) {
            self.base.lines.remove(&n);
        }
    }

    fn answer_with(&mut self, ask: &Ask, error: AskError) {
        let event = match ask {
            Ask::Hello { n, run, attempt, .. } => {
                answer_to(*n, *run, Answer::Hello(*attempt, Err(error)))
            }
            Ask::Orders { n, run, attempt, .. } => {
                answer_to(*n, *run, Answer::Orders(*attempt, Err(error)))
            }
            Ask::Reports { n, run, batch, .. } => {
                answer_to(*n, *run, Answer::Reported(*batch, Err(error)))
            }
            Ask::Client { c, ask, .. } => {
                let answer = Box::new(ClientAnswer::Failed);
                Event::ClientAnswered { c: *c, ask: *ask, answer }
            }
            // As an edge that is told that the clerk has too much to do.
            Ask::CalledBack { run, report } if matches!(error, AskError::Busy) => {
                let (run, report) = (*run, report.clone());
                return self.after(S / 2, Event::CalledBack { run, report });
            }
            Ask::CalledBack { .. } | Ask::Second => return,
        };
        let wait = self.latency();
        self.after(wait, event);
    }
}

fn answer_to(n: usize, run: u64, answer: Answer) -> Event {
    Event::Answer { n, run, answer: Box::new(answer) }
}

/// Small, as contents are: a part of a second on a link.
const PROBE_BYTES: u64 = 32 << 10;
/// As in `ledger::clerk`, `ledger::orders` and `http::jobs`.
const BATCH_ROWS_MAX: usize = 1_000;
const LINE_MAX: usize = 65_536;
const IDLE_EVERY_S: u64 = 5;
/// Requests that wait at the base.
pub(crate) const QUEUE_MAX: usize = 4_096;
/// A commit of the ledger.
pub(crate) const COMMIT_MS: (u64, u64) = (1, 12);
