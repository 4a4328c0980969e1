//! A node's connection to the base: hello, orders, reports, as `agent::control` and its driver have
//! them.
//!
//! ```text
//! Pausing --> Greeting --welcome--> Opening --line--> Listening --lost, asked--> Pausing
//! ```
//! Invariant: what the base has acknowledged of a node's reports is in its ledger. Bounds: one
//! batch of reports is under way; a request without an answer ends after `ANSWER_MAX`.

use std::collections::BTreeMap;

use headend::dist::agent::Agent;
use headend::dist::book::Refusal;
use headend::dist::ids::{BaseEpoch, CommandKey, Incarnation};
use headend::dist::wire::agent::{
    Hello, NodeOrder, Receipt, Report, Reports, ReportsTaken, Source, Welcome,
};

use crate::base::{Ask, JOIN};
use crate::dice::{MS, S};
use crate::network::{BASE, host_of};
use crate::world::{Event, World};

/// Where the connection is, and what it knows.
#[derive(Debug)]
pub(crate) struct Contact {
    state: State,
    pause: u64,
    attempts: u64,
    stale: u32,
    tries_join: bool,
    is_asked: bool,
    is_new_start: bool,
    session: Option<Session>,
    /// Number of the batch that is under way, and the receipts in it by their number.
    batch: Option<(u64, Vec<(u64, CommandKey)>)>,
    batches: u64,
    report_at: u64,
    reported_at: u64,
    is_report_due: bool,
    asked_at: Option<u64>,
    heard_at: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Pausing,
    Greeting(u64),
    Opening(u64),
    Listening(u64),
}

#[derive(Debug, Clone)]
struct Session {
    token: String,
    incarnation: Incarnation,
    heartbeat: u64,
}

/// Why the base did not do what it was asked for.
#[derive(Debug, Clone)]
pub(crate) enum AskError {
    Unreachable,
    Busy,
    NoToken,
    Refused(Refusal),
}

/// An answer of the base.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Hello(u64, Result<(Welcome, BaseEpoch), AskError>),
    Orders(u64, Result<u64, AskError>),
    Reported(u64, Result<ReportsTaken, AskError>),
}

impl Contact {
    pub(crate) fn new(now: u64) -> Self {
        Self {
            state: State::Pausing,
            pause: PAUSE_MIN,
            attempts: 0,
            stale: 0,
            tries_join: false,
            is_asked: false,
            is_new_start: false,
            session: None,
            batch: None,
            batches: 0,
            report_at: now,
            reported_at: now,
            is_report_due: false,
            asked_at: None,
            heard_at: now,
        }
    }

    pub(crate) fn listens_to(&self, line: u64) -> bool {
        self.state == State::Listening(line)
    }

    pub(crate) fn is_online(&self) -> bool {
        matches!(self.state, State::Listening(_))
    }
}

impl World {
    /// The pause is over: the node says hello.
    pub(crate) fn contact(&mut self, n: usize) {
        let host = host_of(n);
        let utc_ns = self.utc_ns(host);
        let free_bytes = self.nodes[n].disk.free();
        let node = &mut self.nodes[n];
        let Some(run) = &mut node.run else { return };
        let contact = &mut run.contact;
        if contact.state != State::Pausing {
            return;
        }
        if std::mem::take(&mut contact.is_new_start) {
            run.incarnation = None;
        }
        let identity = &mut node.identity;
        let incarnation = *run.incarnation.get_or_insert_with(|| {
            let utc_ns = u64::try_from(utc_ns).unwrap_or(0);
            identity.incarnation = utc_ns.max(identity.incarnation + 1);
            Incarnation(identity.incarnation)
        });
        contact.attempts += 1;
        let attempt = contact.attempts;
        contact.state = State::Greeting(attempt);
        let own = identity.token.clone().filter(|_| !contact.tries_join);
        let hello = Hello {
            node: node.name.clone(),
            incarnation,
            public_key: node.keys.verify_key().to_string(),
            addr: node.addr.clone(),
            labels: BTreeMap::new(),
            up_rate_cap: node.up_rate,
            down_rate_cap: node.down_rate,
            free_bytes,
            utc_ns,
            rtsp: None,
            takes_capability: true,
        };
        let token = own.unwrap_or_else(|| JOIN.to_owned());
        let run = node.runs;
        self.trace.note(self.now, "hello", n as u64, incarnation.0);
        self.ask_base(n, Ask::Hello { n, run, attempt, hello: Box::new(hello), token });
        self.after(ANSWER_MAX, Event::ContactLate { n, run, attempt });
    }

    /// Sends a request to the base; one that meets a cut is lost.
    fn ask_base(&mut self, n: usize, ask: Ask) {
        if self.net.reaches(host_of(n), BASE) && !self.base.is_dark {
            let wait = self.latency();
            self.after(wait, Event::Asked(ask));
        }
    }

    pub(crate) fn contact_late(&mut self, n: usize, attempt: u64) {
        let Some(run) = &self.nodes[n].run else { return };
        let state = run.contact.state;
        if state == State::Greeting(attempt) || state == State::Opening(attempt) {
            self.refused(n);
        }
    }

    pub(crate) fn answered(&mut self, n: usize, answer: Answer) {
        match answer {
            Answer::Hello(attempt, answer) => self.welcomed(n, attempt, answer),
            Answer::Orders(attempt, answer) => self.listening(n, attempt, answer),
            Answer::Reported(batch, answer) => self.reported(n, batch, answer),
        }
    }

    fn welcomed(&mut self, n: usize, attempt: u64, answer: Result<(Welcome, BaseEpoch), AskError>) {
        let node = &mut self.nodes[n];
        let Some(run) = &mut node.run else { return };
        let contact = &mut run.contact;
        if contact.state != State::Greeting(attempt) {
            return;
        }
        let (welcome, epoch) = match answer {
            Ok(welcome) => welcome,
            Err(AskError::Refused(Refusal::StaleIncarnation(_))) if contact.stale < STALE_MAX => {
                contact.stale += 1;
                contact.state = State::Pausing;
                run.incarnation = None;
                return self.contact(n);
            }
            Err(AskError::NoToken) if !contact.tries_join => {
                contact.tries_join = true;
                contact.state = State::Pausing;
                return self.contact(n);
            }
            Err(_) => return self.refused(n),
        };
        (contact.stale, contact.tries_join, contact.pause) = (0, false, PAUSE_MIN);
        let key = welcome.base_key.parse().expect("the base has a key");
        assert!(node.identity.base_key.is_none_or(|kept| kept == key), "the base has another key");
        node.identity.base_key = Some(key);
        if welcome.node_token.is_some() {
            node.identity.token = welcome.node_token;
        }
        let token = node.identity.token.clone().expect("a welcome to a join has a token");
        run.base_key = Some(key);
        if run.agent.is_none() {
            // It has joined; the agent begins, and says hello for itself.
            contact.state = State::Pausing;
            self.start_agent(n);
            return self.contact(n);
        }
        let Some(incarnation) = run.incarnation else { return };
        let heartbeat = welcome.heartbeat_ms * MS;
        contact.session = Some(Session { token: token.clone(), incarnation, heartbeat });
        contact.report_at = self.now;
        contact.state = State::Opening(attempt);
        let run = node.runs;
        self.ask_base(n, Ask::Orders { n, run, attempt, token });
        self.with_agent(n, |agent, _, _| {
            agent.handle_base(epoch);
            agent.handle_online(true);
        });
    }

    fn listening(&mut self, n: usize, attempt: u64, answer: Result<u64, AskError>) {
        let now = self.now;
        let Some(run) = &mut self.nodes[n].run else { return };
        let contact = &mut run.contact;
        if contact.state != State::Opening(attempt) {
            return;
        }
        match answer {
            Ok(line) => {
                (contact.state, contact.heard_at) = (State::Listening(line), now);
                self.trace.note(now, "listening", n as u64, line);
                if std::mem::take(&mut contact.is_asked) {
                    return self.offline(n);
                }
                // Orders that were ready before this answer.
                self.move_line(n);
            }
            Err(_) => self.offline(n),
        }
    }

    /// The base does not have the node, or does not answer: the next pause is longer.
    fn refused(&mut self, n: usize) {
        if let Some(run) = &mut self.nodes[n].run {
            let contact = &mut run.contact;
            contact.pause = (contact.pause * 2).min(PAUSE_MAX);
            (contact.stale, contact.tries_join) = (0, false);
        }
        self.offline(n);
    }

    /// The connection is lost, or given up for another hello.
    pub(crate) fn offline(&mut self, n: usize) {
        let Some(run) = &mut self.nodes[n].run else { return };
        let contact = &mut run.contact;
        let was = std::mem::replace(&mut contact.state, State::Pausing);
        contact.session = None;
        let pause = contact.pause;
        let number = self.nodes[n].runs;
        if let State::Listening(line) = was {
            self.close_line(n, line);
        }
        self.trace.note(self.now, "offline", n as u64, pause);
        let wait = pause * self.dice.between(750, 1_250) / 1_000;
        self.after(wait, Event::Contact { n, run: number });
        self.with_agent(n, |agent, _, _| agent.handle_online(false));
    }

    /// The agent wants another hello.
    pub(crate) fn ask_hello(&mut self, n: usize, is_new_start: bool) {
        let now = self.now;
        let Some(run) = &mut self.nodes[n].run else { return };
        let contact = &mut run.contact;
        let is_due = contact.asked_at.is_none_or(|at| now - at >= ASK_EVERY);
        if !is_new_start && !is_due {
            return;
        }
        contact.asked_at = Some(now);
        if is_new_start {
            contact.session = None;
        }
        self.hello_again(n, is_new_start);
    }

    fn hello_again(&mut self, n: usize, is_new_start: bool) {
        let Some(run) = &mut self.nodes[n].run else { return };
        run.contact.is_new_start |= is_new_start;
        if run.contact.is_online() {
            self.offline(n);
        } else {
            run.contact.is_asked = true;
        }
    }

    /// Orders have come.
    pub(crate) fn ordered(
        &mut self,
        n: usize,
        line: u64,
        epoch: BaseEpoch,
        orders: Vec<NodeOrder>,
    ) {
        let now = self.now;
        let Some(run) = &mut self.nodes[n].run else { return };
        if run.contact.state != State::Listening(line) {
            return;
        }
        run.contact.heard_at = now;
        self.streams.shares.heard.insert(host_of(n), now);
        for order in orders {
            self.trace.note(now, "order", n as u64, kind_of(&order));
            self.trace.say(now, || format!("n{n} is told {}", shown(&order)));
            if let NodeOrder::Forget { job } = &order {
                self.nodes[n].forgotten.insert(*job);
            }
            if self.dice.chance(self.faults.orders_again) {
                let wait = self.dice.ms(0, 5_000);
                let run = self.nodes[n].runs;
                self.after(
                    wait,
                    Event::OrderAgain { n, run, epoch, order: Box::new(order.clone()) },
                );
            }
            if self.dice.chance(self.faults.orders_late) {
                self.watch.is_reordered = true;
                let wait = self.dice.ms(0, 1_000);
                let run = self.nodes[n].runs;
                self.after(wait, Event::OrderAgain { n, run, epoch, order: Box::new(order) });
                continue;
            }
            self.take_order(n, epoch, order);
        }
    }

    /// Takes an order, unless a later base has spoken meanwhile.
    fn take_order(&mut self, n: usize, epoch: BaseEpoch, mut order: NodeOrder) {
        if let NodeOrder::Sources { further, .. } = &mut order
            && self.setup.has_one_source
        {
            further.clear();
        }
        self.with_agent(n, |agent, now, out| {
            if agent.handle_base(epoch) {
                agent.handle_order(order, now, out);
            }
        });
    }

    /// An order comes late, or a second time; but not behind the one by which its job is forgotten:
    /// orders are one stream, and what is forgotten cannot be told from what is new.
    pub(crate) fn order_again(&mut self, n: usize, epoch: BaseEpoch, order: NodeOrder) {
        if let NodeOrder::Command { key, .. } = &order
            && self.nodes[n].forgotten.contains(&key.job)
        {
            return;
        }
        self.take_order(n, epoch, order);
    }

    /// A base that has said nothing for too long is gone.
    pub(crate) fn check_contact(&mut self, n: usize) {
        let Some(run) = &self.nodes[n].run else { return };
        if run.contact.is_online() && self.now - run.contact.heard_at > IDLE_MAX {
            self.offline(n);
        }
    }

    /// Sends what is to be said, or a sign of life.
    pub(crate) fn report(&mut self, n: usize) {
        let (now, mono) = (self.now, self.mono_of(n));
        let free_bytes = self.nodes[n].disk.free();
        let node = &mut self.nodes[n];
        let Some(run) = &mut node.run else { return };
        let contact = &mut run.contact;
        let Some(agent) = &mut run.agent else { return };
        let Some(session) = contact.session.clone().filter(|_| contact.batch.is_none()) else {
            return;
        };
        let quiet = if agent.is_fetching() { S } else { session.heartbeat * 3 / 4 };
        let is_due =
            agent.reports_open() > 0 || now - contact.reported_at >= quiet.min(session.heartbeat);
        if !is_due {
            return;
        }
        let number = node.runs;
        if now < contact.report_at {
            if !std::mem::replace(&mut contact.is_report_due, true) {
                let at = contact.report_at;
                self.at(at, Event::Report { n, run: number });
            }
            return;
        }
        let batch = batch_of(agent, mono);
        contact.batches += 1;
        let id = contact.batches;
        let receipts = (batch.0..).zip(&batch.1).filter_map(|(number, report)| match report {
            Report::Completed { receipt } => {
                let said: Receipt = serde_json::from_str(&receipt.receipt).ok()?;
                Some((number, said.key))
            }
            _ => None,
        });
        contact.batch = Some((id, receipts.collect()));
        (contact.reported_at, contact.report_at) = (now, now + REPORT_EVERY);
        let reports = Reports {
            node: node.name.clone(),
            incarnation: session.incarnation,
            first: batch.0,
            reports: batch.1,
            free_bytes,
            up_rate_seen: node.sent.best,
            down_rate_seen: node.received.best,
            relays: agent.relay_counts(),
        };
        self.trace.note(now, "report", n as u64, reports.reports.len() as u64);
        if !reports.reports.is_empty() {
            let first = reports.first;
            self.trace.say(now, || format!("n{n} reports {first}: {:?}", reports.reports));
        }
        let token = session.token;
        let ask = Ask::Reports { n, run: number, batch: id, reports: Box::new(reports), token };
        if self.dice.chance(self.faults.reports_again) {
            let wait = self.dice.ms(0, 5_000);
            self.after(wait, Event::Asked(ask.clone()));
        }
        self.ask_base(n, ask);
        self.after(ANSWER_MAX, Event::ReportLate { n, run: number, batch: id });
    }

    pub(crate) fn report_due(&mut self, n: usize) {
        if let Some(run) = &mut self.nodes[n].run {
            run.contact.is_report_due = false;
            self.report(n);
        }
    }

    pub(crate) fn report_late(&mut self, n: usize, batch: u64) {
        self.reported(n, batch, Err(AskError::Unreachable));
    }

    fn reported(&mut self, n: usize, id: u64, answer: Result<ReportsTaken, AskError>) {
        let now = self.now;
        let Some(run) = &mut self.nodes[n].run else { return };
        let contact = &mut run.contact;
        let Some((_, receipts)) = contact.batch.take_if(|(known, _)| *known == id) else { return };
        match answer {
            Ok(ReportsTaken { taken, at_ns }) => {
                let name = &self.nodes[n].name;
                for (_, key) in receipts.iter().filter(|(number, _)| *number <= taken) {
                    self.base.ledger.check_receipt_is_kept(*key, name);
                }
                self.with_agent(n, |agent, now, out| {
                    agent.handle_taken(taken, out);
                    agent.handle_base_time(at_ns, now, out);
                });
            }
            Err(AskError::Refused(Refusal::HelloAgain(_))) => {
                let order = NodeOrder::HelloAgain;
                self.with_agent(n, |agent, now, out| agent.handle_order(order, now, out));
            }
            Err(error) => {
                contact.report_at = now + REPORT_RETRY;
                let is_final = match &error {
                    AskError::Unreachable | AskError::Busy => false,
                    AskError::NoToken => true,
                    AskError::Refused(refusal) => refusal.status() < 500,
                };
                if is_final {
                    contact.session = None;
                    self.hello_again(n, false);
                }
            }
        }
    }
}

fn batch_of(agent: &mut Agent, now: headend::base::time::Mono) -> (u64, Vec<Report>) {
    agent.next_batch(now)
}

fn shown(order: &NodeOrder) -> String {
    match order {
        NodeOrder::Command { key, .. } => format!("command {} of {}", key.command, key.job),
        NodeOrder::Sources { epoch, sources, further, .. } => {
            let name =
                |s: &Source| (s.node.as_ref().map_or("base", |n| n.as_str()).to_owned(), s.rate);
            let [names, more] =
                [sources, further].map(|of| of.iter().map(name).collect::<Vec<_>>());
            format!("sources {epoch:?} {names:?} {more:?}")
        }
        NodeOrder::Relay { body } => {
            let indexes: Vec<u32> = body.entries.iter().map(|entry| entry.index).collect();
            format!("relay {} to {indexes:?}", body.number)
        }
        NodeOrder::Ask { node, query, .. } => format!("ask {node}, {query}"),
        other => format!("{other:?}"),
    }
}

fn kind_of(order: &NodeOrder) -> u64 {
    match order {
        NodeOrder::Command { key, .. } => 16 + u64::from(key.command.0),
        NodeOrder::Sources { .. } => 1,
        NodeOrder::Cancel { .. } => 2,
        NodeOrder::Forget { .. } => 3,
        NodeOrder::HelloAgain => 4,
        NodeOrder::Idle => 5,
        NodeOrder::Query { .. } => 6,
        NodeOrder::Renew { .. } => 7,
        NodeOrder::Restart { .. } => 8,
        NodeOrder::Terms { .. } => 9,
        NodeOrder::Servers { .. } => 10,
        NodeOrder::Relay { body } => 1_000 + body.entries.len() as u64,
        NodeOrder::Ask { .. } => 11,
        NodeOrder::Reflect { .. } => 12,
        NodeOrder::Finish { .. } => 13,
        NodeOrder::Probe { .. } => 14,
    }
}

/// As in `agent::control`, `agent::base` and the agent's driver.
const PAUSE_MIN: u64 = 250 * MS;
const PAUSE_MAX: u64 = 8 * S;
const STALE_MAX: u32 = 2;
const ANSWER_MAX: u64 = 10 * S;
const IDLE_MAX: u64 = 20 * S;
const ASK_EVERY: u64 = 5 * S;
const REPORT_EVERY: u64 = 20 * MS;
const REPORT_RETRY: u64 = S;
