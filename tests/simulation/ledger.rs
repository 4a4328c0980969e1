//! The rows of the base in memory, with a check at each commit.
//!
//! Checked for every change: the chain of events has no gap and every hash; a state that has ended
//! stays; a delivery completes once, with a receipt; verified bytes of a delivery do not go back
//! within an attempt; a content has one end.

use std::collections::BTreeMap;

use headend::dist::chain::ChainHead;
use headend::dist::ids::{CommandKey, ContentId, Digest, HookId, Incarnation, JobId, NodeName};
use headend::dist::rows::{
    AnswerRow, CareRow, Change, CommandRow, ContentRow, DeliveryRow, HookRow, JobRow, NodeRow,
    Rows, WaitRow,
};
use headend::dist::wire::hook::HookState;
use headend::dist::wire::job::{DeliveryState, EventView, JobState};

/// What was committed.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) jobs: BTreeMap<JobId, JobRow>,
    pub(crate) commands: BTreeMap<CommandKey, CommandRow>,
    pub(crate) deliveries: BTreeMap<(CommandKey, NodeName), DeliveryRow>,
    pub(crate) nodes: BTreeMap<NodeName, NodeRow>,
    pub(crate) contents: BTreeMap<ContentId, ContentRow>,
    pub(crate) hooks: BTreeMap<HookId, HookRow>,
    /// Events of jobs of which somebody is told.
    events: BTreeMap<JobId, Vec<EventView>>,
    answers: BTreeMap<(String, String), AnswerRow>,
    waits: BTreeMap<JobId, WaitRow>,
    pub(crate) cares: BTreeMap<NodeName, CareRow>,
    last_event: Option<EventView>,
    head: ChainHead,
    /// Commits so far: each is a step that a crash falls before or behind.
    pub(crate) commits: u64,
    /// How often each delivery completed.
    completions: BTreeMap<(JobId, u32, NodeName), u32>,
    /// Verified bytes of deliveries, with the start and attempt that they belong to.
    offsets: BTreeMap<(CommandKey, NodeName), (Incarnation, u32, u64)>,
    pub(crate) counts: BTreeMap<String, u64>,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self {
            jobs: BTreeMap::new(),
            commands: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            nodes: BTreeMap::new(),
            contents: BTreeMap::new(),
            hooks: BTreeMap::new(),
            events: BTreeMap::new(),
            answers: BTreeMap::new(),
            waits: BTreeMap::new(),
            cares: BTreeMap::new(),
            last_event: None,
            head: ChainHead::START,
            commits: 0,
            completions: BTreeMap::new(),
            offsets: BTreeMap::new(),
            counts: BTreeMap::new(),
        }
    }

    /// The end of the chain.
    pub(crate) fn head(&self) -> Digest {
        self.head.hash
    }

    /// All that a book is made from. How far a delivery is need not last: it is said anew.
    pub(crate) fn rows(&mut self) -> Rows {
        self.offsets.clear();
        Rows {
            jobs: self.jobs.values().cloned().collect(),
            commands: self.commands.values().cloned().collect(),
            deliveries: self.deliveries.values().cloned().collect(),
            nodes: self.nodes.values().cloned().collect(),
            contents: self.contents.values().cloned().collect(),
            hooks: self.hooks.values().cloned().collect(),
            answers: self.answers.values().cloned().collect(),
            waits: self.waits.values().copied().collect(),
            cares: self.cares.values().cloned().collect(),
            trimmed: None,
            last_event: self.last_event.clone(),
        }
    }

    /// All of these, in this order.
    pub(crate) fn commit(&mut self, changes: Vec<Change>) {
        self.commits += 1;
        for change in changes {
            match change {
                Change::Job(row) => self.job(row),
                Change::Command(row) => drop(self.commands.insert(row.key, row)),
                Change::Delivery(row) => self.delivery(row),
                Change::Node(row) => drop(self.nodes.insert(row.name.clone(), row)),
                Change::Content(row) => self.content(row),
                Change::Answer(row) => {
                    let key = (row.client.clone(), row.idempotency_key.clone());
                    self.answers.insert(key, row);
                }
                Change::Hook(row) => self.hook(row),
                Change::Wait(row) => {
                    self.waits.insert(row.job, row);
                }
                Change::Trim(_) => {}
                Change::Care(row) => drop(self.cares.insert(row.node.clone(), row)),
                Change::Event(event) => self.event(event),
            }
        }
    }

    fn job(&mut self, row: JobRow) {
        if let Some(before) = self.jobs.get(&row.id).map(|before| before.state) {
            let is_kept = match before {
                JobState::Completed | JobState::Cancelled | JobState::Denied => row.state == before,
                JobState::CompletedWithFailures => {
                    row.state == before || row.state == JobState::Closing
                }
                JobState::Requested | JobState::Open | JobState::Closing => true,
            };
            assert!(is_kept, "job {} went from {before:?} to {:?}", row.id, row.state);
        }
        self.jobs.insert(row.id, row);
    }

    fn delivery(&mut self, row: DeliveryRow) {
        let key = (row.key, row.node.clone());
        if let Some(before) = self.deliveries.get(&key) {
            let is_kept = match before.state {
                DeliveryState::Completed | DeliveryState::Cancelled => row.state == before.state,
                DeliveryState::Failed => {
                    matches!(row.state, DeliveryState::Failed | DeliveryState::Pending)
                }
                _ => true,
            };
            let (from, to) = (before.state, row.state);
            assert!(is_kept, "delivery {key:?} went from {from:?} to {to:?}");
        }
        if row.state == DeliveryState::Completed {
            assert!(row.receipt.is_some(), "delivery {key:?} completed without a receipt");
        }
        let incarnation = self.nodes.get(&row.node).map_or(Incarnation(0), |row| row.incarnation);
        if matches!(row.state, DeliveryState::Fetching | DeliveryState::Applying) {
            let now = (incarnation, row.attempts, row.offset);
            let before = self.offsets.insert(key, now);
            let same = before.filter(|before| (before.0, before.1) == (now.0, now.1));
            let went_back = same.is_some_and(|(_, _, offset)| offset > row.offset);
            assert!(!went_back, "{:?} at {}: from {before:?} to {now:?}", row.key, row.node);
        } else {
            self.offsets.remove(&key);
        }
        self.deliveries.insert((row.key, row.node.clone()), row);
    }

    fn content(&mut self, row: ContentRow) {
        if let Some(before) = self.contents.get(&row.id).filter(|row| row.ended_at_ns.is_some()) {
            assert_eq!(before.blake3, row.blake3, "content {} ended twice", row.id);
        }
        self.contents.insert(row.id, row);
    }

    fn hook(&mut self, row: HookRow) {
        self.events.entry(row.id.job).or_default();
        if let Some(before) = self.hooks.get(&row.id) {
            let (was, is) = (before.place, row.place);
            assert!(was <= is, "{:?}: from event {was} back to {is}", row.id);
            let revives = before.state != HookState::Active && row.state == HookState::Active;
            assert!(!revives, "{:?} was {:?}", row.id, before.state);
        }
        let last = self.last_event.as_ref().map_or(0, |event| event.seq);
        assert!(row.newest <= last, "{:?}: event {} is not durable", row.id, row.newest);
        assert!(row.state == HookState::Active || row.secret.is_none(), "a secret that is left");
        self.hooks.insert(row.id, row);
    }

    /// Events of a job of which somebody is told, behind a number.
    pub(crate) fn events_of(&self, job: JobId, after: u64) -> Vec<EventView> {
        let events = self.events.get(&job).into_iter().flatten();
        events.filter(|event| event.seq > after).cloned().collect()
    }

    fn event(&mut self, event: EventView) {
        self.head.check(&event).expect("the chain of events has no gap");
        if event.kind == "delivery.completed" {
            let (Some(job), Some(command), Some(node)) = (event.job, event.command, &event.node)
            else {
                panic!("a completion names its delivery: {event:?}");
            };
            let count = self.completions.entry((job, command.0, node.clone())).or_default();
            *count += 1;
            assert_eq!(*count, 1, "{job} {command} completed twice at {node}");
        }
        *self.counts.entry(event.kind.clone()).or_default() += 1;
        if let Some(events) = event.job.and_then(|job| self.events.get_mut(&job)) {
            events.push(event.clone());
        }
        self.last_event = Some(event);
    }

    /// The base has told a node that it has this receipt.
    pub(crate) fn check_receipt_is_kept(&self, key: CommandKey, node: &NodeName) {
        let Some(row) = self.deliveries.get(&(key, node.clone())) else {
            panic!("a receipt of {node} for {key:?} was taken and its delivery is not there");
        };
        let is_kept = match row.state {
            DeliveryState::Completed => true,
            // It counts when the base has the end of the upload.
            DeliveryState::Applying => row.receipt.is_some(),
            // It came behind the end: it is in the events.
            DeliveryState::Failed | DeliveryState::Cancelled => true,
            // Behind a retry it may be open again already.
            DeliveryState::Pending
            | DeliveryState::Received
            | DeliveryState::Fetching
            | DeliveryState::RetryWait => self.counts.contains_key("delivery.retried"),
        };
        assert!(is_kept, "a receipt of {node} for {key:?} was taken; it is {:?}", row.state);
    }
}
