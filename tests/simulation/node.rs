//! A node: the product's agent, and what carries out its actions on a virtual disk.
//!
//! ```text
//! start --> Agent::new(records of the journal) --> actions --> disk, streams, contact
//! crash --> all in memory is gone; the disk keeps what was synced, and a part of the rest
//! ```
//! Invariants that are checked here: a command is completed once in a journal; the media folder is
//! not changed for a command whose end is durable; a published file has all bytes that the client
//! pushed. The agent's own bounds are looked at by `checks`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use headend::base::time::Mono;
use headend::dist::agent::{Action, Agent, Apply, Failure, Reserved};
use headend::dist::command::attributes_digest;
use headend::dist::fetch::LinkId;
use headend::dist::ids::{CommandKey, ContentId, Incarnation, JobId, NodeName};
use headend::dist::journal::Record;
use headend::dist::keys::{NodeKeys, VerifyKey, sign_receipt};
use headend::dist::units::EndFrame;
use headend::dist::wire::agent::{Receipt, SignedReceipt};
use headend::dist::wire::job::{Attributes, Op, Reason};
use headend::dist::wire::relay::RelayCounts;

use crate::contact::Contact;
use crate::dice::{MS, S};
use crate::disk::{Disk, Held};
use crate::network::{BASE, host_of};
use crate::streams::StreamId;
use crate::world::{Event, World};

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: NodeName,
    pub(crate) keys: NodeKeys,
    pub(crate) addr: String,
    pub(crate) up_rate: Option<u64>,
    pub(crate) down_rate: Option<u64>,
    /// Bytes of contents that it sent, and received.
    pub(crate) sent: Seen,
    pub(crate) received: Seen,
    pub(crate) disk: Disk,
    /// What it keeps of its base.
    pub(crate) identity: Identity,
    /// How far its clock is off.
    pub(crate) skew_ns: i64,
    /// Starts so far: events of an earlier one are not for this one.
    pub(crate) runs: u64,
    pub(crate) run: Option<Run>,
    /// Its machine has no power.
    pub(crate) is_dark: bool,
    /// Milliseconds that a sync of its disk takes.
    pub(crate) sync_ms: (u64, u64),
    /// Commands whose completion is durable.
    completed: BTreeSet<CommandKey>,
    /// Jobs of which the base has said that nothing is needed any more.
    pub(crate) forgotten: BTreeSet<JobId>,
}

/// Bytes of the best second so far.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    second: u64,
    bytes: u64,
    pub(crate) best: u64,
}

impl Seen {
    pub(crate) fn add(&mut self, bytes: u64, now: u64) {
        if now / S != self.second {
            self.best = self.best.max(self.bytes);
            (self.second, self.bytes) = (now / S, 0);
        }
        self.bytes += bytes;
    }
}

#[derive(Debug, Default)]
pub(crate) struct Identity {
    pub(crate) token: Option<String>,
    pub(crate) base_key: Option<VerifyKey>,
    pub(crate) incarnation: u64,
}

/// A start of the agent.
#[derive(Debug)]
pub(crate) struct Run {
    started: u64,
    pub(crate) agent: Option<Agent>,
    pub(crate) base_key: Option<VerifyKey>,
    pub(crate) contact: Contact,
    pub(crate) incarnation: Option<Incarnation>,
    pub(crate) links: BTreeMap<(ContentId, LinkId), StreamId>,
    /// Records that were appended, and those that are durable.
    appended: u64,
    /// Completions that are not durable yet.
    ends: Vec<(u64, CommandKey)>,
    files_free: u64,
    applying: BTreeMap<CommandKey, Apply>,
    synced_at: u64,
}

impl Node {
    pub(crate) fn new(n: usize, capacity: u64, rates: (Option<u64>, Option<u64>)) -> Self {
        let host = host_of(n);
        let name = NodeName::new(&format!("n{n}")).expect("letters and digits");
        let keys = NodeKeys::from_bytes(blake3::hash(name.as_str().as_bytes()).as_bytes());
        Self {
            name,
            keys,
            addr: format!("10.{}.{}.{}:9996", 1 + host / 62_500, host / 250 % 250, 1 + host % 250),
            up_rate: rates.0,
            down_rate: rates.1,
            sent: Seen::default(),
            received: Seen::default(),
            disk: Disk::new(capacity),
            identity: Identity::default(),
            skew_ns: 0,
            runs: 0,
            run: None,
            is_dark: false,
            sync_ms: (1, 10),
            completed: BTreeSet::new(),
            forgotten: BTreeSet::new(),
        }
    }

    /// Commands that are open in the agent.
    pub(crate) fn open_commands(&self) -> BTreeSet<CommandKey> {
        let agent = self.run.as_ref().and_then(|run| run.agent.as_ref());
        let mut open = BTreeSet::new();
        for record in agent.map(Agent::snapshot).unwrap_or_default() {
            match record {
                Record::Command { key, .. } => drop(open.insert(key)),
                Record::Completed { key, .. }
                | Record::Failed { key, .. }
                | Record::Cancelled { key } => drop(open.remove(&key)),
                Record::Applying { .. }
                | Record::Via { .. }
                | Record::Terms { .. }
                | Record::Plan { .. }
                | Record::Servers { .. }
                | Record::Reflect { .. }
                | Record::Reflected { .. }
                | Record::Forget { .. } => {}
            }
        }
        open
    }
}

impl World {
    /// The node's process starts.
    pub(crate) fn start_node(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        if node.run.is_some() {
            return;
        }
        node.is_dark = false;
        node.runs += 1;
        let base_key = node.identity.base_key;
        node.run = Some(Run {
            started: self.now,
            agent: None,
            base_key,
            contact: Contact::new(self.now),
            incarnation: None,
            links: BTreeMap::new(),
            appended: 0,
            ends: Vec::new(),
            files_free: self.now,
            applying: BTreeMap::new(),
            synced_at: self.now,
        });
        let run = node.runs;
        self.trace.note(self.now, "start", n as u64, run);
        self.trace.say(self.now, || format!("n{n} starts, run {run}"));
        if base_key.is_some() {
            self.start_agent(n);
        }
        self.after(0, Event::Contact { n, run });
        let first = self.dice.between(0, self.setup.tick_ns);
        self.after(first, Event::NodeTick { n, run });
    }

    /// The node knows its base: its agent takes up the journal.
    pub(crate) fn start_agent(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        let records = node.disk.records();
        let mut durable = BTreeSet::new();
        for record in &records {
            match record {
                Record::Completed { key, .. } => drop(durable.insert(*key)),
                Record::Forget { job } => durable.retain(|key: &CommandKey| key.job != *job),
                _ => {}
            }
        }
        let mut agent = Agent::new(node.name.clone(), records);
        node.identity.base_key.into_iter().for_each(|key| agent.set_base_key(key));
        let known: BTreeSet<ContentId> = agent.contents().collect();
        let lost: Vec<_> = node.completed.difference(&durable).collect();
        assert!(lost.is_empty(), "{} lost completions that were durable: {lost:?}", node.name);
        node.completed = durable;
        node.disk.recover(&known);
        let Some(run) = &mut node.run else { return };
        run.agent = Some(agent);
        self.with_agent(n, |agent, now, out| agent.start(now, out));
    }

    /// The node's process is gone; `is_dark`: its machine too.
    pub(crate) fn crash_node(&mut self, n: usize, is_dark: bool) {
        let Some(run) = self.nodes[n].run.take() else { return };
        self.trace.note(self.now, "crash", n as u64, u64::from(is_dark));
        self.trace.say(self.now, || format!("n{n} crashes, dark {is_dark}"));
        // A change of the folder that was under way is done, or not begun.
        for apply in run.applying.into_values() {
            if self.dice.chance(500) {
                let _refused = self.change_folder(n, &apply);
            }
        }
        let node = &mut self.nodes[n];
        node.disk.crash(&mut self.dice);
        node.is_dark = is_dark;
        self.drop_streams(host_of(n), is_dark);
        self.streams.drop_uplink(host_of(n));
        self.drop_lines(n, is_dark);
    }

    /// Runs `f` on the agent of a node that runs, and does what it asks for.
    pub(crate) fn with_agent(
        &mut self,
        n: usize,
        f: impl FnOnce(&mut Agent, Mono, &mut Vec<Action>),
    ) {
        let Some(run) = &mut self.nodes[n].run else { return };
        let now = Mono(1) + Duration::from_nanos(self.now - run.started);
        let Some(agent) = &mut run.agent else { return };
        let mut out = Vec::new();
        f(agent, now, &mut out);
        out.into_iter().for_each(|action| self.perform(n, action));
        self.report(n);
    }

    /// What all nodes have handed on.
    pub(crate) fn relay_counts(&self) -> RelayCounts {
        let agents = self.nodes.iter().filter_map(|node| node.run.as_ref()?.agent.as_ref());
        agents.map(Agent::relay_counts).fold(RelayCounts::default(), |sum, one| RelayCounts {
            taken: sum.taken + one.taken,
            duplicates: sum.duplicates + one.duplicates,
            refused: sum.refused + one.refused,
            sent: sum.sent + one.sent,
            taken_back: sum.taken_back + one.taken_back,
        })
    }

    /// The time of a node's agent.
    pub(crate) fn mono_of(&self, n: usize) -> Mono {
        let started = self.nodes[n].run.as_ref().map_or(self.now, |run| run.started);
        Mono(1) + Duration::from_nanos(self.now - started)
    }

    fn perform(&mut self, n: usize, action: Action) {
        match action {
            Action::Journal(record) => self.journal(n, record),
            Action::Reserve { content, size } => {
                let at = self.file_work(n);
                let run = self.nodes[n].runs;
                self.at(at, Event::Reserve { n, run, content, size });
            }
            Action::Discard { content } => {
                let at = self.file_work(n);
                let run = self.nodes[n].runs;
                self.at(at, Event::Discard { n, run, content });
            }
            Action::Collect { known } => {
                let held = self.nodes[n].disk.contents.keys().copied();
                let strange: Vec<ContentId> = held.filter(|id| !known.contains(id)).collect();
                strange.into_iter().for_each(|content| self.discard(n, content));
            }
            Action::Connect { content, link, source, from, part, is_slow } => {
                self.connect(n, content, link, &source, (from, part, is_slow));
            }
            Action::Use { content, link } => self.use_link(n, content, link),
            Action::Close { content, link } => self.close_link(n, content, link),
            Action::Ask { content, ask, source } => self.ask_state(n, content, ask, &source),
            Action::Apply(apply) => self.apply(n, apply),
            Action::Limit { job, limit } => self.limit_job(n, job, limit),
            Action::Hand { hand, node, addr: _, body } => self.hand(n, hand, &node, &body),
            Action::AskNode { node, addr: _, query, envelope } => {
                self.ask_node(n, &node, query, envelope);
            }
            // No setup has live paths: tests of `dist::book` have them, with agents.
            Action::Live { .. } => {}
            Action::Probe { number, bytes } => self.probe(n, number, bytes),
            Action::HelloAgain { is_new_start } => self.ask_hello(n, is_new_start),
        }
    }

    /// Bytes of the base come to the disk of the node, unless a cut is in the way.
    fn probe(&mut self, n: usize, number: u64, bytes: u64) {
        let (_, arrives) = self.net.carry(BASE, host_of(n), bytes, self.now);
        let (at, run) = (arrives + self.latency(), self.nodes[n].runs);
        self.at(at, Event::Probed { n, run, number });
    }

    pub(crate) fn probed(&mut self, n: usize, number: u64) {
        let is_there = self.net.reaches(BASE, host_of(n)) && self.is_up(BASE);
        let probed = if is_there { Ok(()) } else { Err("it did not come".to_owned()) };
        self.trace.note(self.now, "probed", n as u64, u64::from(is_there));
        self.with_agent(n, |agent, _, _| agent.handle_probed(number, probed));
    }

    /// Files are made and removed one after the other.
    fn file_work(&mut self, n: usize) -> u64 {
        let took = self.dice.ms(0, 3);
        let now = self.now;
        let Some(run) = &mut self.nodes[n].run else { return now };
        run.files_free = run.files_free.max(now) + took;
        run.files_free
    }

    fn journal(&mut self, n: usize, record: Record) {
        self.trace.note(self.now, "journal", n as u64, kind_of(&record));
        self.trace.say(self.now, || format!("n{n} journals {record:?}"));
        let node = &mut self.nodes[n];
        match &record {
            Record::Completed { key, .. } => {
                let is_twice = node.completed.contains(key);
                assert!(!is_twice, "{} completes {key:?} twice", node.name);
            }
            Record::Forget { job } => {
                node.completed.retain(|key| key.job != *job);
                if let Some(run) = &mut node.run {
                    run.ends.retain(|(_, key)| key.job != *job);
                }
            }
            _ => {}
        }
        node.disk.append(&record);
        let Some(run) = &mut node.run else { return };
        run.appended += 1;
        let (records, number) = (run.appended, node.runs);
        if let Record::Completed { key, .. } = record {
            run.ends.push((records, key));
        }
        let (low, high) = node.sync_ms;
        let wait = self.dice.ms(low, high);
        self.after(wait, Event::Journaled { n, run: number, records });
    }

    /// All records so far are durable.
    pub(crate) fn journaled(&mut self, n: usize, records: u64) {
        let node = &mut self.nodes[n];
        node.disk.sync_journal();
        let Some(run) = &mut node.run else { return };
        // One sync takes all that was appended.
        let records = records.max(run.appended);
        let durable = run.ends.extract_if(.., |(number, _)| *number <= records);
        node.completed.extend(durable.map(|(_, key)| key));
        self.with_agent(n, |agent, _, out| agent.handle_journaled(records, out));
    }

    pub(crate) fn reserve(&mut self, n: usize, content: ContentId, size: Option<u64>) {
        let disk = &mut self.nodes[n].disk;
        let is_new = !disk.contents.contains_key(&content);
        let reserved = if is_new && size.unwrap_or(0) > disk.free() {
            let detail = "no space left on the disk".to_owned();
            Err(Failure { reason: Reason::NoSpace, detail })
        } else {
            disk.removed.retain(|removed| *removed != content);
            let held = disk.contents.entry(content).or_insert_with(|| Held::new(content, size));
            let here = held.ranges_ahead();
            Ok(Reserved { have: held.have(), is_whole: held.is_whole(), here })
        };
        self.trace.note(self.now, "reserved", n as u64, u64::from(reserved.is_ok()));
        self.with_agent(n, |agent, now, out| agent.handle_reserved(content, reserved, now, out));
    }

    pub(crate) fn discard(&mut self, n: usize, content: ContentId) {
        self.trace.note(self.now, "discard", n as u64, 0);
        self.nodes[n].disk.remove(content);
        self.end_streams(host_of(n), content);
    }

    fn apply(&mut self, n: usize, apply: Apply) {
        let key = apply.key;
        let node = &mut self.nodes[n];
        let is_late = node.completed.contains(&key);
        assert!(!is_late, "{} applies {key:?} behind its completion", node.name);
        let run = node.runs;
        if let Some(running) = &mut node.run {
            running.applying.insert(key, apply);
        }
        let wait = self.dice.ms(1, 30);
        self.after(wait, Event::Apply { n, run, key });
    }

    /// The time for a change of the media folder is over: it is done.
    pub(crate) fn applied(&mut self, n: usize, key: CommandKey) {
        let running = self.nodes[n].run.as_mut();
        let Some(apply) = running.and_then(|run| run.applying.remove(&key)) else { return };
        let done = if self.faults.io_errors > 0 && self.dice.chance(self.faults.io_errors) {
            Err(Failure { reason: Reason::Io, detail: "the disk has a fault".to_owned() })
        } else {
            self.change_folder(n, &apply)
        };
        self.trace.note(self.now, "applied", n as u64, u64::from(done.is_ok()));
        let done = done.map(|()| self.receipt(n, apply));
        self.with_agent(n, |agent, now, out| agent.handle_applied(key, done, now, out));
    }

    /// Does what a command asks for, as the store and the folder of a node do.
    fn change_folder(&mut self, n: usize, apply: &Apply) -> Result<(), Failure> {
        let lost = |detail: &str| Failure { reason: Reason::Io, detail: detail.to_owned() };
        let disk = &mut self.nodes[n].disk;
        if let (Op::Put { path, .. }, Some(content)) = (&apply.op, apply.content) {
            let held = disk.contents.get_mut(&content);
            let held = held.ok_or_else(|| lost("the content is gone"))?;
            match &held.place {
                Some(place) if place == path => return Ok(()),
                Some(_) => {
                    let detail = format!("{path}: the content has another name already");
                    return Err(Failure { reason: Reason::PathConflict, detail });
                }
                None if !held.is_whole() => return Err(lost("the content is not whole")),
                None => {}
            }
            disk.folder.apply(&apply.op, Some(content), apply.is_again)?;
            held.place = Some(path.clone());
            let size = held.have();
            let pushed = self.pushed.get(&content);
            let is_same = pushed.is_some_and(|pushed| held.frames.are(pushed));
            assert!(is_same, "n{n} publishes {path} with other bytes than were pushed");
            disk.files.insert(content, size);
            self.watch.published.entry((n, content)).or_insert(self.now);
        } else {
            disk.folder.apply(&apply.op, None, apply.is_again)?;
        }
        disk.count_files();
        Ok(())
    }

    fn receipt(&self, n: usize, apply: Apply) -> SignedReceipt {
        let Apply { key, op, content, via, live, .. } = apply;
        let node = &self.nodes[n];
        let held = content.and_then(|content| node.disk.contents.get(&content));
        let end = held.and_then(|held| held.frames.end.as_ref()).map(EndFrame::end);
        let attrs = op.attributes().filter(|attrs| **attrs != Attributes::default());
        let receipt = Receipt {
            node: node.name.clone(),
            key,
            path: op.path().unwrap_or_default().to_owned(),
            size: end.map_or(0, |end| end.size),
            blake3: end.map(|end| end.blake3),
            attrs: attrs.map(attributes_digest),
            finished_at_ns: self.utc_ns(host_of(n)),
            via,
            live,
        };
        sign_receipt(&node.keys, &receipt)
    }

    /// Time passes at a node.
    pub(crate) fn tick_node(&mut self, n: usize) {
        let now = self.now;
        let is_rewrite = self.dice.chance(5);
        let node = &mut self.nodes[n];
        let Some(run) = &mut node.run else { return };
        if now - run.synced_at >= S {
            run.synced_at = now;
            node.disk.contents.values_mut().for_each(Held::sync);
        }
        if let Some(agent) = run.agent.as_ref().filter(|_| is_rewrite) {
            node.disk.rewrite_journal(&agent.snapshot());
            let (records, run) = (run.appended, node.runs);
            self.after(5 * MS, Event::Journaled { n, run, records });
        }
        self.with_agent(n, |agent, now, out| agent.handle_time(now, out));
        self.check_contact(n);
        let (run, tick) = (self.nodes[n].runs, self.setup.tick_ns);
        self.after(tick, Event::NodeTick { n, run });
    }
}

fn kind_of(record: &Record) -> u64 {
    match record {
        Record::Command { .. } => 0,
        Record::Applying { .. } => 1,
        Record::Via { .. } => 2,
        Record::Completed { .. } => 3,
        Record::Failed { .. } => 4,
        Record::Cancelled { .. } => 5,
        Record::Forget { .. } => 6,
        Record::Terms { .. } => 7,
        Record::Plan { .. } => 8,
        Record::Servers { .. } => 9,
        Record::Reflect { .. } => 10,
        Record::Reflected { .. } => 11,
    }
}
