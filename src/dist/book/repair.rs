//! A node that does not get on: it is asked, its sources are changed, it is mended, given up, and
//! brought what it missed when it is back.
//!
//! ```text
//! a wait period is over --> ask --answer--> it got on: extended      not: other sources, extended
//!                            |- none, and a neighbour sees it alive --> extended (a partition)
//!                            `- none, an error, wedged --> tries: sources, renewed, restart, hook
//!                                                            `- all failed --> given up
//! it is back --> asked for what it has: what it lacks is said again --> probe: bytes of the base
//!                reach its disk --> active, late delivery         not: the next try
//! ```
//! Invariants: each step is an event of each job that the node holds up; who is given up has no
//! open delivery. [`super::care`] has the states, and with them the bounds: tries and times.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::dist::book::Refusal;
use crate::dist::book::care::{Care, Verdict};
use crate::dist::book::effects::{About, RepairHook};
use crate::dist::book::nodes::NodeId;
use crate::dist::book::options::ns;
use crate::dist::book::parts::Parts;
use crate::dist::book::presence::Presence;
use crate::dist::delivery::DeliveryInput;
use crate::dist::ids::{CommandKey, Digest, JobId, NodeName};
use crate::dist::job::JobInput;
use crate::dist::node::NodeInput;
use crate::dist::rows::Change;
use crate::dist::wire::agent::{NodeOrder, OpenCommand};
use crate::dist::wire::job::{CarePhase, DeliveryState, JobState, Late, Reason, RepairCause};
use crate::dist::wire::relay::Envelope;

/// A node, and all that its repair has to do with.
#[derive(Debug)]
pub(super) struct Repair<'a> {
    pub(super) parts: &'a mut Parts,
    pub(super) node: NodeId,
}

/// What an operator wants of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Treatment {
    /// To know how far it is.
    Query,
    /// It is to be mended.
    Repair,
    /// It is back.
    Activate,
}

impl<'a> Repair<'a> {
    /// # Errors
    /// The node is unknown or retired.
    pub(super) fn of(parts: &'a mut Parts, name: &NodeName) -> Result<Self, Refusal> {
        let node = parts.nodes.id_of(name).ok_or_else(|| Refusal::UnknownNode(name.clone()))?;
        if parts.nodes.there_mut(node).is_none() {
            return Err(Refusal::NodeRetired(name.clone()));
        }
        Ok(Self { parts, node })
    }
}

impl Repair<'_> {
    /// Does what an operator wants. No effect where it is under way.
    pub(super) fn operate(&mut self, what: Treatment) {
        let Some(phase) = self.care().map(|care| care.phase) else { return };
        match (what, phase) {
            (Treatment::Query, CarePhase::Well) => self.ask(CarePhase::Asked),
            (Treatment::Repair, CarePhase::Well | CarePhase::Asked | CarePhase::Failed) => {
                self.begin(RepairCause::Operator);
            }
            (Treatment::Activate, CarePhase::Repairing | CarePhase::Failed) => self.activate(),
            (Treatment::Query | Treatment::Repair | Treatment::Activate, _) => {}
        }
    }

    /// An operator says when the node will be back.
    pub(super) fn expect(&mut self, expected_back_ns: Option<i64>) {
        let Some(care) = self.care_mut() else { return };
        care.expected_back_ns = expected_back_ns;
        self.keep();
        self.tell("node.expected", json!({"expected_back_ns": expected_back_ns}));
    }

    /// A wait period of a job is over in which it has open deliveries.
    pub(super) fn period_over(&mut self) {
        let (now_ns, pause) = (self.parts.fx.now.mono_ns, self.parts.options.timeouts.wait / 2);
        let Some(care) = self.care() else { return };
        if care.phase == CarePhase::Failed {
            // What was ordered behind its end.
            self.fail_open(Reason::NodeFailed);
        } else if care.may_be_asked(now_ns, pause) {
            self.ask(CarePhase::Asked);
        }
    }

    /// A second has passed; the base itself stood still for `gap_ns`.
    pub(super) fn tick(&mut self, gap_ns: u64) {
        let now_ns = self.parts.fx.now.mono_ns;
        let Some(care) = self.care_mut() else { return };
        let Some(due_ns) = &mut care.due_ns else { return };
        *due_ns = due_ns.saturating_add(gap_ns);
        if *due_ns > now_ns {
            return;
        }
        match care.phase {
            CarePhase::Activating if care.probe.is_some() => self.probe_failed("no report of it"),
            CarePhase::Asked | CarePhase::Activating if care.may_ask_again() => {
                let phase = care.phase;
                self.ask(phase);
            }
            CarePhase::Asked if care.is_parted() => self.wait_parted(),
            CarePhase::Asked => self.begin(RepairCause::Unanswered),
            CarePhase::Activating => {
                self.change(NodeInput::Repair);
                if let Some(care) = self.care_mut() {
                    care.begin_repair(RepairCause::Unanswered);
                }
                self.try_next();
            }
            CarePhase::Repairing if care.got_on() => self.activate(),
            CarePhase::Repairing => self.try_next(),
            CarePhase::Well | CarePhase::Failed => {}
        }
    }

    /// A sign of life of the node; `is_new_start`: its agent was started anew.
    pub(super) fn heard(&mut self, is_new_start: bool) {
        let Some(care) = self.care() else { return };
        if care.waits_for_life() || (is_new_start && care.phase == CarePhase::Repairing) {
            self.activate();
        }
    }

    /// The question that is to be said to the node again, when its stream of orders begins.
    pub(super) fn question(&self) -> Option<NodeOrder> {
        let care = self.care()?;
        let is_asked = matches!(care.phase, CarePhase::Asked | CarePhase::Activating);
        let question = match care.probe {
            None => NodeOrder::Query { query: care.query },
            Some((number, _)) => self.probe(number),
        };
        is_asked.then_some(question)
    }

    /// The node has said how far it is.
    pub(super) fn answered(&mut self, query: u64, open: u64, commands: &[OpenCommand]) {
        for command in commands {
            self.take_offset(command);
        }
        let Some(care) = self.care().filter(|care| care.query == query) else { return };
        let phase = care.phase;
        if !matches!(phase, CarePhase::Asked | CarePhase::Activating) {
            return;
        }
        if u64::try_from(commands.len()).is_ok_and(|count| count == open) {
            self.say_lacking(commands);
        }
        if phase == CarePhase::Activating {
            return self.begin_probe(open);
        }
        let now_ns = self.parts.fx.now.mono_ns;
        let parts = &*self.parts;
        let waited = commands.iter().filter(|command| parts.is_waited_for(command.key));
        let reasons: Vec<Reason> = waited.filter_map(|command| command.reason).collect();
        let known = parts.jobs.open_at(self.node);
        let is_only_live = !known.is_empty() && known.iter().all(|key| !parts.is_waited_for(*key));
        let Some(care) = self.care_mut() else { return };
        if is_only_live {
            // It answers, and that is all that is asked of it.
            care.note_step();
        }
        match care.judge(&reasons, now_ns) {
            Verdict::GotOn => {
                self.keep();
                self.tell("wait.extended", json!({"open": open, "got_on": true}));
            }
            Verdict::Waits => {
                let extensions = care.extensions;
                self.keep();
                let contents = self.change_sources();
                self.tell("wait.reassigned", json!({"open": open, "contents": contents}));
                let detail = json!({"open": open, "got_on": false, "extensions": extensions});
                self.tell("wait.extended", detail);
            }
            Verdict::Repair(cause) => self.begin(cause),
        }
    }

    /// Another node has seen it alive, and brings its word.
    pub(super) fn seen(&mut self, query: u64, by: &NodeName, open: u64) {
        let Some(care) = self.care_mut().filter(|care| care.asked_since(query)) else { return };
        if !std::mem::replace(&mut care.is_seen, true) {
            self.tell("node.seen", json!({"by": by, "open": open}));
        }
    }

    /// How the probe of this number went at the node.
    pub(super) fn probed(&mut self, number: u64, fault: Option<&str>) {
        let probe = self.care().and_then(|care| care.probe);
        let Some((_, open)) = probe.filter(|(known, _)| *known == number) else { return };
        match fault {
            None => self.activated(open),
            Some(fault) => self.probe_failed(fault),
        }
    }

    /// The operator's command that mends a node has ended.
    pub(super) fn hook_ended(&mut self, number: u32, outcome: &str) {
        self.tell("repair.hook", json!({"try": number, "outcome": outcome}));
    }

    fn care(&self) -> Option<&Care> {
        let node = self.parts.nodes.get(self.node).filter(|node| node.is_there());
        node.map(|node| &node.care)
    }

    fn care_mut(&mut self) -> Option<&mut Care> {
        self.parts.nodes.there_mut(self.node).map(|node| &mut node.care)
    }

    fn change(&mut self, input: NodeInput) {
        Presence { parts: &mut *self.parts, node: self.node }.change(input);
    }

    fn ask(&mut self, phase: CarePhase) {
        let (now_ns, timeouts) = (self.parts.fx.now.mono_ns, self.parts.options.timeouts);
        let query = self.parts.fx.new_epoch().0;
        let Some(care) = self.care_mut() else { return };
        care.ask(phase, query, now_ns, &timeouts);
        let asks = care.asks;
        self.keep();
        self.parts.nodes.say(self.node, NodeOrder::Query { query }, &mut self.parts.fx);
        self.ask_neighbours(query);
        if phase == CarePhase::Asked {
            self.tell("wait.asked", json!({"time": asks}));
        }
    }

    /// The node gives no sign: others are asked whether it does not live, or is not reached.
    fn ask_neighbours(&mut self, query: u64) {
        let Parts { nodes, jobs, fx, keys, options, .. } = &mut *self.parts;
        let Some(node) = nodes.get(self.node) else { return };
        let silent_ns = fx.now.mono_ns.saturating_sub(node.heard_ns);
        if silent_ns < ns(options.timeouts.suspect) {
            return;
        }
        let envelope = keys.seal_envelope(&Envelope {
            node: node.row.name.clone(),
            addr: node.row.addr.clone(),
            base: options.epoch,
            number: query,
            at_ns: fx.now.utc_ns,
            common: Digest(*blake3::hash(b"").as_bytes()),
            orders: vec![NodeOrder::Query { query }],
        });
        let (name, addr) = (node.row.name.clone(), node.row.addr.clone());
        // Those that fetch the same know the way best.
        let key = jobs.open_at(self.node).into_iter().next();
        let targets = key.and_then(|key| jobs.get(key.job)).map(|job| &job.targets[..]);
        let near = targets.unwrap_or_default().iter().copied();
        let mut asked = BTreeSet::from([self.node]);
        for neighbour in near.chain(nodes.iter().map(|(id, _)| id)) {
            if asked.len() > NEIGHBOURS {
                return;
            }
            if nodes.is_live(neighbour, fx.now) && asked.insert(neighbour) {
                let (node, addr, envelope) = (name.clone(), addr.clone(), envelope.clone());
                let ask = NodeOrder::Ask { node, addr, query, envelope };
                nodes.say_directly(neighbour, ask, fx);
            }
        }
    }

    /// The node does not answer, and others see it alive: it goes on by itself, and is asked again
    /// at the end of the next wait period.
    fn wait_parted(&mut self) {
        let now_ns = self.parts.fx.now.mono_ns;
        if let Some(care) = self.care_mut() {
            care.wait_parted(now_ns);
        }
        self.keep();
        self.tell("wait.parted", json!({}));
    }

    /// The node is to be mended.
    fn begin(&mut self, cause: RepairCause) {
        let Some(care) = self.care_mut() else { return };
        care.begin_repair(cause);
        self.tell("repair.begun", json!({"cause": cause}));
        self.change(NodeInput::Repair);
        self.try_next();
    }

    /// The next try, or the end of them.
    fn try_next(&mut self) {
        let (now_ns, timeouts) = (self.parts.fx.now.mono_ns, self.parts.options.timeouts);
        let Some(care) = self.care_mut() else { return };
        let Some(cause) = care.cause else { return };
        let Some(number) = care.next_try(now_ns, &timeouts) else { return self.give_up(cause) };
        self.keep();
        let mut done: Vec<&str> = Vec::new();
        let is_live = self.parts.is_live(self.node);
        match cause {
            RepairCause::SourceBad if number == 1 => {
                self.change_sources();
                done.push("sources");
            }
            RepairCause::JournalBad if number == 1 => {
                self.renew();
                done.push("renew");
            }
            _ if is_live => {
                let restart = NodeOrder::Restart { number: self.parts.fx.new_epoch().0 };
                self.parts.nodes.say(self.node, restart, &mut self.parts.fx);
                done.push("restart");
            }
            _ => done.push("wait"),
        }
        if self.parts.options.has_repair_hook && number >= HOOK_FROM {
            self.call_hook(number, cause);
            done.push("hook");
        }
        self.tell("repair.tried", json!({"try": number, "cause": cause, "done": done}));
    }

    fn call_hook(&mut self, number: u32, cause: RepairCause) {
        let Parts { nodes, fx, .. } = &mut *self.parts;
        let Some(row) = nodes.get(self.node).map(|node| &node.row) else { return };
        let (node, addr) = (row.name.clone(), row.addr.clone());
        fx.hook(RepairHook { node, addr, cause, number });
    }

    /// All tries have failed. A node that answers is no broken one: what it could not do fails, and
    /// nothing else.
    fn give_up(&mut self, cause: RepairCause) {
        let is_broken = !self.parts.is_live(self.node);
        let now_ns = self.parts.fx.now.mono_ns;
        let Some(care) = self.care_mut() else { return };
        let (tries, expected_back_ns) = (care.tries, care.expected_back_ns);
        let mut detail = json!({"cause": cause, "tries": tries, "is_broken": is_broken});
        if let (Some(at_ns), Some(detail)) = (expected_back_ns, detail.as_object_mut()) {
            detail.insert("expected_back_ns".to_owned(), json!(at_ns));
        }
        self.tell("repair.failed", detail);
        if let Some(care) = self.care_mut() {
            if is_broken {
                care.give_up();
            } else {
                care.end(now_ns);
            }
        }
        self.keep();
        if is_broken {
            self.change(NodeInput::GiveUp);
            self.fail_open(Reason::NodeFailed);
        } else {
            self.change(NodeInput::Returned);
            self.change(NodeInput::Activated);
            self.fail_open(Reason::Attempts);
        }
    }

    /// It is back: it is asked for what it has.
    fn activate(&mut self) {
        self.change(NodeInput::Returned);
        self.ask(CarePhase::Activating);
        self.tell("repair.returned", json!({}));
    }

    /// It is back, and has said what it has: it is to show that bytes of the base reach its disk.
    fn begin_probe(&mut self, open: u64) {
        let (now_ns, times) = (self.parts.fx.now.mono_ns, self.parts.options.timeouts);
        let number = self.parts.fx.new_epoch().0;
        let Some(care) = self.care_mut().filter(|care| care.probe.is_none()) else { return };
        care.begin_probe(number, open, now_ns, &times);
        self.keep();
        self.parts.nodes.say(self.node, self.probe(number), &mut self.parts.fx);
    }

    fn probe(&self, number: u64) -> NodeOrder {
        NodeOrder::Probe { number, bytes: self.parts.options.probe_bytes }
    }

    /// The node answers, and nothing reaches it: the next try follows.
    fn probe_failed(&mut self, fault: &str) {
        let fault: String = fault.chars().take(FAULT_CHARS_MAX).collect();
        self.tell("repair.probe_failed", json!({"fault": fault}));
        self.change(NodeInput::Repair);
        if let Some(care) = self.care_mut() {
            care.begin_repair(RepairCause::ProbeFailed);
        }
        self.try_next();
    }

    /// It is back, and has shown that it works.
    fn activated(&mut self, open: u64) {
        let now_ns = self.parts.fx.now.mono_ns;
        let Some(care) = self.care_mut() else { return };
        let (cause, tries) = (care.cause, care.tries);
        self.tell("repair.ended", json!({"cause": cause, "tries": tries, "open": open}));
        if let Some(care) = self.care_mut() {
            care.end(now_ns);
        }
        self.keep();
        self.change(NodeInput::Activated);
        for job in self.parts.jobs.with_failed_at(self.node) {
            self.bring_late(job);
        }
    }

    /// What the node missed of a job is open again there.
    fn bring_late(&mut self, id: JobId) {
        let Parts { jobs, contents, .. } = &*self.parts;
        let Some(job) = jobs.get(id).filter(|job| !job.is_expired) else { return };
        let has_bytes = |content| contents.row(content).is_some_and(|row| !row.is_abandoned);
        let missed = job.commands.iter().filter(|command| {
            let delivery = job.delivery(command.row.key.command, self.node);
            let is_missed = delivery.is_some_and(|delivery| {
                delivery.state == DeliveryState::Failed
                    && delivery.reason == Some(Reason::NodeFailed)
            });
            is_missed && command.row.content.is_none_or(has_bytes)
        });
        let missed: Vec<CommandKey> = missed.map(|command| command.row.key).collect();
        let (state, late) = (job.row.state, job.row.policy.late);
        let Some(name) = self.parts.nodes.name_of(self.node).cloned() else { return };
        if missed.is_empty() || !(state.is_live() || state == JobState::CompletedWithFailures) {
            return;
        }
        let about = About::node_of_job(id, &name);
        let detail = json!({"deliveries": missed.len()});
        if late == Late::Drop {
            return self.parts.fx.event("late.dropped", about, detail);
        }
        self.parts.fx.event("late.begun", about, detail);
        self.parts.change_job(id, JobInput::Retry);
        for key in missed {
            self.parts.begin_again(key, self.node);
        }
    }

    /// Fails what is open at the node. One that is there is not blamed while an upload of the job
    /// goes on, or the job is held.
    fn fail_open(&mut self, reason: Reason) {
        let mut jobs = BTreeSet::new();
        // The last first: a command that waits for one before it is not to begin when that is
        // withdrawn.
        for key in self.parts.jobs.open_at(self.node).into_iter().rev() {
            let job = self.parts.jobs.get(key.job);
            let is_held = job.is_some_and(|job| !job.terms.is_open());
            let is_blamed = reason == Reason::NodeFailed;
            let is_spared =
                is_held || self.parts.is_uploading(key.job) || !self.parts.is_waited_for(key);
            if !is_blamed && is_spared {
                continue;
            }
            self.parts.advance(key, self.node, DeliveryInput::Fatal, |delivery| {
                delivery.reason = Some(reason);
                delivery.detail = Some("the repair of the node had no effect".into());
            });
            self.parts.nodes.say_end(self.node, NodeOrder::Cancel { key }, &mut self.parts.fx);
            jobs.insert(key.job);
        }
        for job in jobs {
            self.parts.settle(job);
        }
    }

    /// Gives the node other sources for what does not come. Gives the number of contents.
    fn change_sources(&mut self) -> usize {
        let mut contents = 0;
        for key in self.parts.jobs.open_at(self.node) {
            let state = self.parts.jobs.delivery(key, self.node).map(|delivery| delivery.state);
            let is_coming = state.is_some_and(|state| {
                matches!(
                    state,
                    DeliveryState::Received | DeliveryState::Fetching | DeliveryState::RetryWait
                )
            });
            if self.parts.is_of_live(key) {
                self.parts.say_command(key, self.node);
            }
            let content = self.parts.jobs.content_of(key).filter(|_| is_coming);
            let Some(content) = content else { continue };
            self.parts.planner().reassign(content, self.node);
            contents += 1;
            if contents >= CHANGED_MAX {
                break;
            }
        }
        contents
    }

    /// Has the node drop and fetch anew what it cannot read or write.
    fn renew(&mut self) {
        for key in self.parts.jobs.open_at(self.node) {
            let delivery = self.parts.jobs.delivery(key, self.node);
            let is_bad = delivery.is_some_and(|delivery| {
                delivery.state == DeliveryState::RetryWait && delivery.reason == Some(Reason::Io)
            });
            if is_bad {
                let number = self.parts.fx.new_epoch().0;
                let renew = NodeOrder::Renew { key, number };
                self.parts.nodes.say(self.node, renew, &mut self.parts.fx);
            }
        }
    }

    fn take_offset(&mut self, command: &OpenCommand) {
        let now_ns = self.parts.fx.now.mono_ns;
        let is_of_live = self.parts.is_of_live(command.key);
        let delivery = self.parts.jobs.delivery_mut(command.key, self.node);
        let delivery = delivery.filter(|delivery| delivery.state == DeliveryState::Fetching);
        let Some(delivery) = delivery else { return };
        let before = delivery.offset;
        delivery.take_offset(command.offset);
        if delivery.offset > before {
            delivery.grew_ns = now_ns;
            if let Some(care) = self.care_mut().filter(|_| !is_of_live) {
                care.note_step();
            }
        }
    }

    /// Says what is open for the node and not at it.
    fn say_lacking(&mut self, commands: &[OpenCommand]) {
        let has: BTreeSet<CommandKey> = commands.iter().map(|command| command.key).collect();
        let open = self.parts.jobs.open_at(self.node);
        for key in open.into_iter().filter(|key| !has.contains(key)).take(LACKING_MAX) {
            self.parts.say_command(key, self.node);
        }
    }

    /// The row of what is known of the node is to be written.
    fn keep(&mut self) {
        let now = self.parts.fx.now;
        let Some(node) = self.parts.nodes.get(self.node) else { return };
        let row = node.care.row(node.row.name.clone(), now);
        self.parts.fx.keep(Change::Care(row));
    }

    /// An event of each job that the node holds up or has held up, or of the node alone.
    fn tell(&mut self, kind: &str, detail: Value) {
        let Some(name) = self.parts.nodes.name_of(self.node).cloned() else { return };
        let mut jobs: BTreeSet<JobId> =
            self.parts.jobs.open_at(self.node).into_iter().map(|key| key.job).collect();
        let is_mended = |care: &&Care| !matches!(care.phase, CarePhase::Well | CarePhase::Asked);
        let care = self.parts.nodes.get(self.node).map(|node| &node.care).filter(is_mended);
        if let Some(care) = care {
            let is_live =
                |id: &JobId| self.parts.jobs.get(*id).is_some_and(|job| job.row.state.is_live());
            jobs.extend(care.told.iter().copied().filter(is_live));
            let told = jobs.iter().copied().take(JOBS_TOLD_MAX).collect();
            if let Some(care) = self.care_mut() {
                care.told = told;
            }
        }
        if jobs.is_empty() {
            return self.parts.fx.event(kind, About::node(&name), detail);
        }
        for job in jobs.into_iter().take(JOBS_TOLD_MAX) {
            self.parts.fx.event(kind, About::node_of_job(job, &name), detail.clone());
        }
    }
}

/// What a node says of a fault goes into the ledger.
const FAULT_CHARS_MAX: usize = 512;
/// The operator's command is run from the second try on: what the base can do itself comes first.
const HOOK_FROM: u32 = 2;
/// Nodes that are asked for one that gives no sign.
const NEIGHBOURS: usize = 3;
/// Contents whose plan is changed at once.
const CHANGED_MAX: usize = 64;
/// Commands that are said again at once; those behind them by the next answer.
const LACKING_MAX: usize = 512;
/// Jobs in whose events a step is.
const JOBS_TOLD_MAX: usize = 64;
