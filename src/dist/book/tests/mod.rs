//! The book with nodes that answer as agents do, and a ledger in memory.
//!
//! The rig writes what the book changes into rows, checks the chain of events as it grows, and
//! hands out orders. A book that is restarted is made from those rows.

mod any_order;
mod fleet;
mod hooks;
mod jobs;
mod live;
mod nodes;
mod plans;
mod policies;
mod quotas;
mod relays;
mod restart;
mod uploads;
mod waits;

use std::collections::BTreeMap;

use uuid::Uuid;

use super::*;
use crate::dist::chain::{ChainHead, verify};
use crate::dist::ids::{
    CommandId, CommandKey, ContentId, Digest, Epoch, Incarnation, JobId, NodeName, Stamp,
};
use crate::dist::keys::{BaseKeys, NodeKeys, sign_receipt};
use crate::dist::rows::{AnswerRow, Change, DeliveryRow, Rows};
use crate::dist::terms::Terms;
use crate::dist::token::token_hash;
use crate::dist::wire::agent::{
    Hello, NodeOrder, Receipt, Report, Reports, SignedReceipt, SwitchCause,
};
use crate::dist::wire::job::{
    Attributes, CommandRequest, DeliveryState, EventView, JobRequest, JobView, Op, Policy, Targets,
};
use crate::dist::wire::peer::ContentEnd;

const CLIENT: &str = "studio";
const SECOND: u64 = 1_000_000_000;
/// 2026-01-01.
const EPOCH_NS: i64 = 1_767_225_600_000_000_000;

struct Rig {
    book: Book,
    options: BookOptions,
    at: Stamp,
    rows: Rows,
    events: Vec<EventView>,
    orders: Vec<(NodeName, NodeOrder)>,
    /// Number of the next report, by node.
    next: BTreeMap<NodeName, u64>,
}

fn base_keys() -> BaseKeys {
    BaseKeys::from_bytes(&[7; 32])
}

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn node_keys(node: &NodeName) -> NodeKeys {
    NodeKeys::from_bytes(blake3::hash(node.as_str().as_bytes()).as_bytes())
}

fn digest(byte: u8) -> Digest {
    Digest([byte; 32])
}

fn end(size: u64) -> ContentEnd {
    ContentEnd { size, blake3: digest(9) }
}

fn job_request(targets: Targets) -> JobRequest {
    JobRequest {
        client_ref: None,
        targets,
        policy: Policy::default(),
        deadline_s: None,
        notify: Vec::new(),
    }
}

fn put(path: &str) -> CommandRequest {
    let op = Op::Put { path: path.to_owned(), attrs: Attributes::default() };
    CommandRequest { op, size: None, blake3: None }
}

fn mkdir(path: &str) -> CommandRequest {
    let op = Op::Mkdir { path: path.to_owned(), attrs: Attributes::default() };
    CommandRequest { op, size: None, blake3: None }
}

impl Rig {
    fn new() -> Self {
        let mut options = BookOptions::new("10.0.0.1:8554".to_owned(), token_hash("hdj_join"));
        options.seed = [3; 32];
        options.up_rate = Some(25_000_000);
        let at = Stamp { mono_ns: 1_000 * SECOND, utc_ns: EPOCH_NS };
        let book = Book::new(Rows::default(), base_keys(), options.clone(), at);
        let (rows, events, orders) = (Rows::default(), Vec::new(), Vec::new());
        let mut rig = Self { book, options, at, rows, events, orders, next: BTreeMap::new() };
        rig.commit();
        rig
    }

    /// With nodes of these names.
    fn with_nodes(names: &[&str]) -> Self {
        let mut rig = Self::new();
        for node in names {
            rig.hello(node, 1).unwrap();
        }
        rig
    }

    /// Writes what the book changed, and takes its orders.
    fn commit(&mut self) {
        for change in self.book.take_changes() {
            match change {
                Change::Job(row) => upsert(&mut self.rows.jobs, row, |a, b| a.id == b.id),
                Change::Command(row) => upsert(&mut self.rows.commands, row, |a, b| a.key == b.key),
                Change::Delivery(row) => upsert(&mut self.rows.deliveries, row, |a, b| {
                    (a.key, &a.node) == (b.key, &b.node)
                }),
                Change::Node(row) => upsert(&mut self.rows.nodes, row, |a, b| a.name == b.name),
                Change::Content(row) => upsert(&mut self.rows.contents, row, |a, b| a.id == b.id),
                Change::Hook(row) => upsert(&mut self.rows.hooks, row, |a, b| a.id == b.id),
                Change::Answer(row) => self.rows.answers.push(row),
                Change::Wait(row) => upsert(&mut self.rows.waits, row, |a, b| a.job == b.job),
                Change::Trim(head) => self.rows.trimmed = Some(head),
                Change::Care(row) => upsert(&mut self.rows.cares, row, |a, b| a.node == b.node),
                Change::Event(event) => {
                    let head = self.events.last().map_or(ChainHead::START, ChainHead::behind);
                    verify(head, [&event]).unwrap();
                    self.rows.last_event = Some(event.clone());
                    self.events.push(event);
                }
            }
        }
        self.orders.extend(self.book.take_orders().into_iter().filter(|(_, order)| is_news(order)));
    }

    fn pass(&mut self, seconds: u64) {
        self.at.mono_ns += seconds * SECOND;
        self.at.utc_ns += i64::try_from(seconds * SECOND).unwrap();
    }

    /// Seconds pass, with ticks; nodes of these names report.
    fn live(&mut self, seconds: u64, nodes: &[&str]) {
        for _ in 0..seconds {
            self.pass(1);
            for node in nodes {
                self.report(node, []).unwrap();
            }
            self.book.tick(self.at);
            self.commit();
        }
    }

    /// The base is killed and started again.
    fn restart(&mut self) {
        self.pass(1);
        self.at.mono_ns = 5 * SECOND;
        self.book = Book::new(self.rows.clone(), base_keys(), self.options.clone(), self.at);
        self.orders.clear();
        self.commit();
    }

    fn greeting(&self, node: &str, start: u64) -> Hello {
        let node = name(node);
        let host = self.book.nodes().len() + 1;
        let known = self.book.node(&node).map(|view| view.addr);
        let known = known.filter(|addr| !addr.is_empty());
        let addr = known.unwrap_or_else(|| format!("10.1.0.{host}:9000"));
        Hello {
            public_key: node_keys(&node).verify_key().to_string(),
            node,
            incarnation: Incarnation(start),
            rtsp: Some(addr.replace(":9000", ":8554")),
            takes_capability: true,
            addr,
            labels: BTreeMap::new(),
            up_rate_cap: Some(25_000_000),
            down_rate_cap: Some(25_000_000),
            free_bytes: 1 << 40,
            utc_ns: self.at.utc_ns,
        }
    }

    /// A node says hello, and opens its stream of orders.
    fn hello(&mut self, node: &str, start: u64) -> Result<Vec<NodeOrder>, Refusal> {
        let hello = self.greeting(node, start);
        let by = match self.book.node(&hello.node) {
            Some(_) => HelloBy::Node(hello.node.clone()),
            None => HelloBy::Join,
        };
        let node = hello.node.clone();
        self.book.hello(hello, by, self.at)?;
        let mut orders = self.book.open_orders(&node);
        orders.retain(is_news);
        self.next.insert(node, 1);
        self.commit();
        Ok(orders)
    }

    fn report(
        &mut self,
        node: &str,
        reports: impl IntoIterator<Item = Report>,
    ) -> Result<u64, Refusal> {
        let node = name(node);
        let reports: Vec<_> = reports.into_iter().collect();
        let next = self.next.entry(node.clone()).or_insert(1);
        let first = *next;
        *next += u64::try_from(reports.len()).unwrap();
        let batch = self.batch(&node, first, reports);
        let taken = self.book.reports(batch, self.at)?.taken;
        self.commit();
        Ok(taken)
    }

    fn batch(&self, node: &NodeName, first: u64, reports: Vec<Report>) -> Reports {
        let start = self.rows.nodes.iter().find(|row| row.name == *node);
        Reports {
            node: node.clone(),
            incarnation: start.map_or(Incarnation(1), |row| row.incarnation),
            first,
            reports,
            free_bytes: 1 << 39,
            up_rate_seen: 0,
            down_rate_seen: 0,
            relays: Default::default(),
        }
    }

    fn job(&mut self, targets: Targets) -> JobId {
        let view = self.book.request_job(CLIENT, job_request(targets), self.at).unwrap();
        self.commit();
        view.job_id
    }

    fn command(&mut self, job: JobId, request: CommandRequest) -> CommandKey {
        let accepted = self.book.command(CLIENT, job, request, self.at).unwrap();
        self.commit();
        CommandKey { job, command: accepted.command_id }
    }

    /// A put whose upload is complete.
    fn uploaded(&mut self, job: JobId, path: &str, size: u64) -> (CommandKey, ContentId) {
        let key = self.command(job, put(path));
        let content = self.content_of(key);
        self.book.upload_grew(content, 0, self.at);
        self.book.upload_ended(content, end(size), self.at).unwrap();
        self.commit();
        (key, content)
    }

    fn content_of(&self, key: CommandKey) -> ContentId {
        let row = self.rows.commands.iter().find(|row| row.key == key).unwrap();
        row.content.unwrap()
    }

    fn view(&self, job: JobId) -> JobView {
        self.book.job_view(CLIENT, job).unwrap()
    }

    fn delivery(&self, key: CommandKey, node: &str) -> DeliveryRow {
        let node = name(node);
        let rows = self.rows.deliveries.iter();
        rows.clone().find(|row| row.key == key && row.node == node).unwrap().clone()
    }

    fn state(&self, key: CommandKey, node: &str) -> DeliveryState {
        self.delivery(key, node).state
    }

    /// What was ordered of a node since the last call.
    fn orders_of(&mut self, node: &str) -> Vec<NodeOrder> {
        let node = name(node);
        let (of, others) = self.orders.drain(..).partition(|(to, _)| *to == node);
        self.orders = others;
        let of: Vec<(NodeName, NodeOrder)> = of;
        of.into_iter().map(|(_, order)| order).collect()
    }

    fn kinds(&self) -> Vec<&str> {
        self.events.iter().map(|event| event.kind.as_str()).collect()
    }

    fn last_event(&self, kind: &str) -> &EventView {
        let mut found = self.events.iter().rev().filter(|event| event.kind == kind);
        found.next().unwrap_or_else(|| panic!("no {kind} in {:?}", self.kinds()))
    }

    fn receipt(&self, key: CommandKey, node: &str) -> Receipt {
        let row = self.rows.commands.iter().find(|row| row.key == key).unwrap();
        let content = row.content.and_then(|id| self.book.content(id));
        Receipt {
            node: name(node),
            key,
            path: row.op.path().unwrap_or_default().to_owned(),
            size: content.and_then(|content| content.size).unwrap_or(0),
            blake3: content.and_then(|content| content.blake3),
            attrs: None,
            finished_at_ns: self.at.utc_ns,
            via: BTreeMap::new(),
            live: None,
        }
    }

    fn completed(&self, key: CommandKey, node: &str) -> Report {
        Report::Completed { receipt: signed(&self.receipt(key, node)) }
    }
}

/// Terms of a job without any are said with all that is open.
fn is_news(order: &NodeOrder) -> bool {
    let is_plain = matches!(order, NodeOrder::Terms { terms, .. } if *terms == Terms::default());
    !is_plain && !matches!(order, NodeOrder::Servers { .. })
}

fn signed(receipt: &Receipt) -> SignedReceipt {
    sign_receipt(&node_keys(&receipt.node), receipt)
}

fn fetching(key: CommandKey, offset: u64, source: Option<&str>) -> Report {
    let cause = SwitchCause::First;
    Report::Fetching { key, offset, source: source.map(name), cause, before: 0 }
}

fn upsert<T>(rows: &mut Vec<T>, row: T, is_same: impl Fn(&T, &T) -> bool) {
    match rows.iter_mut().find(|other| is_same(other, &row)) {
        Some(other) => *other = row,
        None => rows.push(row),
    }
}

/// The names of a `Sources` order; `-` is the base.
fn sources(order: &NodeOrder) -> Option<Vec<String>> {
    let NodeOrder::Sources { sources, .. } = order else { return None };
    let names = sources.iter().map(|source| match &source.node {
        Some(node) => node.to_string(),
        None => "-".to_owned(),
    });
    Some(names.collect())
}

fn last_sources(orders: &[NodeOrder]) -> Vec<String> {
    orders.iter().rev().find_map(sources).unwrap_or_default()
}
