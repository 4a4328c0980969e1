//! From a journal to an agent, and back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::edges::Edges;
use super::limits::Limits;
use super::outbox::Outbox;
use super::stage::{Input, Stage};
use super::survey::Surveys;
use super::turns::Turns;
use super::{Agent, Delivery};
use crate::base::time::Mono;
use crate::dist::ids::{BaseEpoch, CommandKey, ContentId, Epoch, JobId, NodeName};
use crate::dist::journal::Record;
use crate::dist::reflect::LiveList;
use crate::dist::relay::Relay;
use crate::dist::wire::agent::{Source, short_list, whole_list};

impl Agent {
    /// The agent of a node whose journal held `records`.
    #[must_use]
    pub fn new(me: NodeName, records: Vec<Record>) -> Self {
        let mut agent = Self {
            relay: Relay::new(me.clone()),
            forgotten: VecDeque::new(),
            me,
            deliveries: BTreeMap::new(),
            contents: BTreeMap::new(),
            plans: BTreeMap::new(),
            further: BTreeMap::new(),
            unnoted: BTreeSet::new(),
            plans_noted_at: Mono::default(),
            servers: BTreeMap::new(),
            surveys: Surveys::default(),
            edges: Edges::default(),
            turns: Turns::default(),
            limits: Limits::default(),
            outbox: Outbox::default(),
            ready: BTreeSet::new(),
            fetching: BTreeSet::new(),
            verified: BTreeSet::new(),
            retries: BTreeSet::new(),
            ended: VecDeque::new(),
            open_count: 0,
            records: 0,
            durable: 0,
            held: VecDeque::new(),
            is_online: false,
            base_epoch: BaseEpoch(0),
            renewed: 0,
            probed: 0,
            progress_at: Mono::default(),
            noted_at: Mono::default(),
        };
        records.into_iter().for_each(|record| agent.replay(record));
        agent
    }

    /// As many records as make the same agent again.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Record> {
        let terms = self.limits.all();
        let mut records: Vec<_> =
            terms.map(|(job, terms)| Record::Terms { job, terms: terms.clone() }).collect();
        records.extend(self.servers.iter().map(|(job, (list_version, servers))| {
            let (list_version, servers) = (*list_version, servers.clone());
            Record::Servers { job: *job, list_version, servers }
        }));
        for (key, delivery) in &self.deliveries {
            records.push(delivery.record(*key));
            if delivery.is_again {
                records.push(Record::Applying { key: *key });
            }
            if !delivery.via.is_empty() && delivery.end.is_none() {
                records.push(Record::Via { key: *key, via: delivery.via.clone() });
            }
            let content = delivery.content.filter(|_| delivery.end.is_none());
            let plan = content.and_then(|id| Some((id, self.plans.get(&id)?)));
            records.extend(plan.map(|(content, (_, sources))| {
                let sources = short_list(sources.clone());
                Record::Plan { content, sources }
            }));
            records.extend(delivery.live_records(*key));
            records.extend(delivery.end.clone());
        }
        records
    }

    /// Contents that the journal knows; all others may be removed.
    pub fn contents(&self) -> impl Iterator<Item = ContentId> {
        self.contents.keys().copied()
    }

    /// A command that had failed or was withdrawn is open again.
    pub(super) fn reopen(&mut self, key: CommandKey) {
        let Some(delivery) = self.deliveries.get_mut(&key) else { return };
        (delivery.end, delivery.attempts) = (None, 0);
        (delivery.retry_at, delivery.is_again) = (None, false);
        (delivery.failure, delivery.has_collected) = (None, false);
        self.turns.insert(key, &delivery.op);
        self.open_count += 1;
        self.ended.retain(|ended| *ended != key);
    }

    /// Takes a record into memory, as at the start.
    pub(super) fn replay(&mut self, record: Record) {
        match record {
            Record::Command { key, sequence, priority, op, content, size } => {
                if self.deliveries.contains_key(&key) {
                    if self.move_on(key, Input::Again) {
                        self.reopen(key);
                    }
                    return;
                }
                self.turns.insert(key, &op);
                self.open_count += 1;
                if let Some(content) = content {
                    self.contents.insert(content, key);
                }
                let live = op.is_live().then(Box::default);
                let delivery = Delivery {
                    sequence,
                    priority,
                    op,
                    live,
                    content,
                    size,
                    stage: Stage::Waiting,
                    fetch: None,
                    via: BTreeMap::new(),
                    noted: 0,
                    attempts: 0,
                    attempt_from: 0,
                    told: 0,
                    retry_at: None,
                    failure: None,
                    has_collected: false,
                    is_again: false,
                    end: None,
                    is_taken: true,
                };
                self.deliveries.insert(key, delivery);
            }
            Record::Applying { key } => {
                if let Some(delivery) = self.deliveries.get_mut(&key) {
                    delivery.is_again = true;
                }
            }
            Record::Via { key, via } => {
                if let Some(delivery) = self.deliveries.get_mut(&key) {
                    delivery.via = via;
                }
            }
            Record::Reflect { key, sources, capability } => {
                let delivery = self.deliveries.get_mut(&key);
                if let Some(live) = delivery.and_then(|delivery| delivery.live.as_mut()) {
                    live.reflect.replay_list(LiveList { sources, capability });
                }
            }
            Record::Reflected { key, via, totals } => {
                let delivery = self.deliveries.get_mut(&key);
                if let Some(live) = delivery.and_then(|delivery| delivery.live.as_mut()) {
                    live.reflect.replay(via, totals);
                }
            }
            Record::Completed { key, .. } => self.replay_end(key, Stage::Completed, record),
            Record::Failed { key, .. } => self.replay_end(key, Stage::Failed, record),
            Record::Cancelled { key } => self.replay_end(key, Stage::Cancelled, record),
            Record::Terms { job, terms } => self.limits.replay(job, terms),
            Record::Plan { content, sources } => self.replay_plan(content, sources),
            Record::Servers { job, list_version, servers } => {
                self.servers.insert(job, (list_version, servers));
            }
            Record::Forget { job } => self.replay_forget(job),
        }
    }

    /// Any plan that the base says from now on takes its place.
    fn replay_plan(&mut self, content: ContentId, sources: Vec<Source>) {
        if self.contents.contains_key(&content) {
            self.plans.insert(content, (Epoch(0), whole_list(sources)));
        }
    }

    fn replay_forget(&mut self, job: JobId) {
        self.limits.forget(job);
        self.servers.remove(&job);
        self.deliveries.retain(|key, _| key.job != job);
        self.contents.retain(|_, key| key.job != job);
        self.plans.retain(|content, _| self.contents.contains_key(content));
        self.ended.retain(|key| key.job != job);
    }

    pub(super) fn replay_end(&mut self, key: CommandKey, stage: Stage, record: Record) {
        let Some(delivery) = self.deliveries.get_mut(&key) else { return };
        (delivery.stage, delivery.end) = (stage, Some(record));
        delivery.content.iter().for_each(|content| drop(self.plans.remove(content)));
        self.turns.remove(key, &delivery.op);
        self.open_count = self.open_count.saturating_sub(1);
        self.ended.push_back(key);
    }
}

impl Delivery {
    fn record(&self, key: CommandKey) -> Record {
        Record::Command {
            key,
            sequence: self.sequence,
            priority: self.priority,
            op: self.op.clone(),
            content: self.content,
            size: self.size,
        }
    }
}
