//! What must hold, at each second and at the end.
//!
//! ```text
//! each second: no circle of sources that lasts, queues within their bounds, an end in time
//! each start of the base, and the end: what was acknowledged is there
//! the end: jobs have ended, receipts verify, folders hold what was pushed, nothing is left over
//! ```
//! More is checked where it happens: `ledger` (events, states), `node` (completions, publications),
//! `contact` (receipts that were taken), `streams` (verified bytes).

use std::collections::{BTreeMap, BTreeSet};

use headend::dist::agent::Agent;
use headend::dist::ids::{CommandKey, ContentId, Digest, JobId};
use headend::dist::wire::job::{DeliveryState, JobState, Op, Order};
use headend::dist::wire::peer::ContentEnd;

use crate::dice::S;
use crate::folder::Folder;
use crate::ledger::Ledger;
use crate::network::{BASE, host_of};
use crate::world::{Event, World};

/// What the base has acknowledged to clients.
#[derive(Debug, Default)]
pub(crate) struct Promises {
    pub(crate) jobs: BTreeSet<JobId>,
    pub(crate) commands: BTreeMap<CommandKey, Op>,
    pub(crate) uploads: BTreeMap<ContentId, ContentEnd>,
    pub(crate) ended: BTreeSet<JobId>,
    pub(crate) cancelled: BTreeSet<JobId>,
}

/// What is looked at during a run.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    pub(crate) steps: u64,
    pub(crate) is_settled: bool,
    pub(crate) retired: BTreeSet<usize>,
    /// Since when sources of a content are a circle.
    circles: BTreeMap<ContentId, u64>,
    /// Orders came late: commands were not known in their order.
    pub(crate) is_reordered: bool,
    /// When each node first had a content in its media folder.
    pub(crate) published: BTreeMap<(usize, ContentId), u64>,
    /// Most reports that waited at a node.
    pub(crate) reports_most: usize,
}

impl Promises {
    /// Whether the ledger has all of it.
    pub(crate) fn check(&self, ledger: &Ledger) {
        for job in &self.jobs {
            assert!(ledger.jobs.contains_key(job), "job {job} was accepted and is lost");
        }
        for (key, op) in &self.commands {
            let known = ledger.commands.get(key).map(|row| &row.op);
            assert_eq!(known, Some(op), "command {key:?} was accepted and is lost");
        }
        for (content, end) in &self.uploads {
            let known = ledger.contents.get(content).map(|row| (row.size, row.blake3));
            let expected = Some((Some(end.size), Some(end.blake3)));
            assert_eq!(known, expected, "the upload of {content} was complete and is lost");
        }
        for job in &self.ended {
            let state = ledger.jobs[job].state;
            let is_open = matches!(state, JobState::Open | JobState::Requested);
            assert!(!is_open, "job {job} was ended and is {state:?}");
        }
        for job in &self.cancelled {
            assert_eq!(ledger.jobs[job].state, JobState::Cancelled, "job {job} was withdrawn");
        }
    }
}

impl World {
    /// A second has passed.
    pub(crate) fn check(&mut self) {
        self.check_circles();
        self.check_bounds();
        self.watch.is_settled = self.is_settled();
        assert!(self.watch.is_settled || !self.is_overdue(), "no end in time\n{}", self.shown());
        self.after(S, Event::Check);
    }

    /// Nodes that feed each other in a circle get nothing: the rule for silent sources opens it.
    fn check_circles(&mut self) {
        let mut sources: BTreeMap<(ContentId, usize), usize> = BTreeMap::new();
        for stream in
            self.streams.all.values().filter(|stream| stream.is_used && !stream.is_spare())
        {
            sources.insert((stream.content, host_of(stream.node)), stream.source);
        }
        let mut circles = BTreeSet::new();
        for &(content, host) in sources.keys() {
            let (mut at, mut steps) = (host, 0);
            while let Some(source) = sources.get(&(content, at)).filter(|_| steps <= sources.len())
            {
                (at, steps) = (*source, steps + 1);
                if at == host {
                    circles.insert(content);
                    break;
                }
                if at == BASE {
                    break;
                }
            }
        }
        self.watch.circles.retain(|content, _| circles.contains(content));
        for content in circles {
            let since = *self.watch.circles.entry(content).or_insert(self.now);
            let seconds = (self.now - since) / S;
            assert!(seconds < CIRCLE_S, "a circle of sources for {seconds} s\n{}", self.shown());
        }
    }

    fn check_bounds(&mut self) {
        for node in &self.nodes {
            let agent = node.run.as_ref().and_then(|run| run.agent.as_ref());
            let reports = agent.map_or(0, Agent::reports_open);
            self.watch.reports_most = self.watch.reports_most.max(reports);
            let commands = self.base.ledger.commands.len();
            let bound = REPORTS_MIN + REPORTS_PER_COMMAND * commands;
            assert!(reports <= bound, "{} has {reports} reports that wait", node.name);
        }
    }

    fn is_settled(&self) -> bool {
        let ledger = &self.base.ledger;
        let is_live = |state: JobState| state.is_live();
        self.faults.is_calm
            && self.base.book.is_some()
            && self.base.is_idle()
            && self.are_sinks_served()
            && self.clients.iter().all(|client| client.is_done())
            && ledger.jobs.values().all(|row| !is_live(row.state))
            && (0..self.nodes.len()).all(|n| self.is_node_settled(n))
    }

    /// Nothing is open at a node, and nothing is left over.
    fn is_node_settled(&self, n: usize) -> bool {
        if self.watch.retired.contains(&n) {
            return true;
        }
        let node = &self.nodes[n];
        let Some(run) = &node.run else { return false };
        let has_partial = node.disk.contents.values().any(|held| held.place.is_none());
        run.contact.is_online()
            && run.agent.as_ref().is_some_and(|agent| agent.reports_open() == 0)
            && !has_partial
            && run.links.is_empty()
            && node.open_commands().is_empty()
    }

    /// Everything has come to its end.
    pub(crate) fn check_end(&self) {
        let ledger = &self.base.ledger;
        self.promises.check(ledger);
        self.check_sinks();
        let book = self.base.book.as_ref().expect("the base runs at the end");
        assert_eq!(book.chain_head().hash, ledger.head(), "the book and the ledger have one end");
        let waiting = self.streams.all.len();
        assert!(!self.watch.retired.is_empty() || waiting == 0, "{waiting} streams are left");
        for c in 0..self.clients.len() {
            self.check_job(c);
        }
    }

    fn check_job(&self, c: usize) {
        let client = &self.clients[c];
        let Some(job) = client.job else { return };
        let book = self.base.book.as_ref().expect("the base runs at the end");
        let report = book.report(&client.name, job).expect("the job is there");
        for node in &report.nodes {
            for delivery in &node.deliveries {
                assert!(!delivery.state.is_open(), "{} at {}", delivery.command_id, node.node);
                if delivery.state != DeliveryState::Completed {
                    continue;
                }
                let name = format!("{} of {} at {}", delivery.command_id, client.name, node.node);
                assert!(delivery.is_signature_valid, "the receipt of {name} does not verify");
                let key = CommandKey { job, command: delivery.command_id };
                let content = self.base.ledger.commands[&key].content;
                if let Some(pushed) = content.and_then(|content| self.pushed.get(&content)) {
                    let hash = Digest(*blake3::hash(pushed).as_bytes());
                    assert_eq!(delivery.blake3, Some(hash), "{name}: other bytes");
                    assert_eq!(delivery.size, Some(pushed.len() as u64), "{name}: other size");
                    let came: u64 = delivery.via.values().sum();
                    assert!(came <= pushed.len() as u64 * 3, "{name}: {came} bytes came");
                }
            }
        }
        let has_order = client.plan.order != Order::None && client.was_never_retried();
        let is_whole = report.job.state == JobState::Completed && report.job.totals.cancelled == 0;
        if is_whole && has_order && !self.watch.is_reordered {
            self.check_folders(c, job);
        }
    }

    /// All was done everywhere, in its order: so the folders are known.
    fn check_folders(&self, c: usize, job: JobId) {
        let mut expected = Folder::default();
        let commands = self.base.ledger.commands.values().filter(|row| row.key.job == job);
        for row in commands {
            let done = expected.apply(&row.op, row.content, false);
            assert!(done.is_ok(), "client{c}: {:?} was done and cannot be", row.op);
        }
        let part = format!("j{c}");
        for server in &self.base.ledger.jobs[&job].servers {
            let node = self.nodes.iter().find(|node| node.name == server.node);
            let found = node.map(|node| node.disk.folder.part(&part)).unwrap_or_default();
            assert_eq!(found, expected.part(&part), "the folder of {}", server.node);
        }
    }
}

/// A circle is found by its silence, and opened by the next question.
const CIRCLE_S: u64 = 10;
/// Reports that wait at a node: some for each command, and what is said in one second.
const REPORTS_MIN: usize = 64;
const REPORTS_PER_COMMAND: usize = 16;
