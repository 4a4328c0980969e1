//! What the ledger keeps: a row for each job, command, delivery, node and content, and events.
//!
//! The book of the base gives changes; the ledger writes those of many requests in one transaction,
//! and only then are the requests answered. After a restart the rows make the same book again.
//! Invariant: a row is written whole; `event` rows are only added.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::dist::chain::ChainHead;
use crate::dist::ids::{
    CommandId, CommandKey, ContentId, Digest, HookId, Incarnation, JobId, NodeName,
};
use crate::dist::webhook::secret::Secret;
use crate::dist::wire::agent::SignedReceipt;
use crate::dist::wire::hook::{HookState, Topic};
use crate::dist::wire::job::{
    CarePhase, DeliveryState, EventView, JobState, NodeState, Op, Policy, Reason, RepairCause,
    ServerView,
};

/// A change that the ledger makes durable.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A job.
    Job(JobRow),
    /// A command.
    Command(CommandRow),
    /// A delivery.
    Delivery(DeliveryRow),
    /// A node.
    Node(NodeRow),
    /// A content.
    Content(ContentRow),
    /// An entry of the chain.
    Event(EventView),
    /// A notification.
    Hook(HookRow),
    /// An answer that is given again when the same idempotency key comes again.
    Answer(AnswerRow),
    /// The wait period of a job.
    Wait(WaitRow),
    /// What is done about a node that does not get on.
    Care(CareRow),
    /// Events up to this one are kept elsewhere: the ledger lets go of them.
    Trim(ChainHead),
}

/// A job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRow {
    /// Id.
    pub id: JobId,
    /// The client: name of its token.
    pub client: String,
    /// The client's own name of the job, unique for the client.
    pub client_ref: Option<String>,
    /// State.
    pub state: JobState,
    /// Server list.
    pub servers: Vec<ServerView>,
    /// Version of the server list.
    pub list_version: u32,
    /// How it is done.
    pub policy: Policy,
    /// UTC nanoseconds.
    pub created_at_ns: i64,
    /// UTC nanoseconds.
    pub deadline_ns: Option<i64>,
    /// UTC nanoseconds of its end.
    pub ended_at_ns: Option<i64>,
    /// UTC nanoseconds of its first end: what completes behind that is late.
    pub first_ended_at_ns: Option<i64>,
    /// Time of the last node over the fluid bound.
    pub bound_ratio: Option<f64>,
    /// Bytes that left the base over the size of all contents.
    pub base_egress_ratio: Option<f64>,
}

/// A command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandRow {
    /// Name.
    pub key: CommandKey,
    /// What it does.
    pub op: Op,
    /// The content of a put.
    pub content: Option<ContentId>,
    /// UTC nanoseconds.
    pub created_at_ns: i64,
}

/// A delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryRow {
    /// The command.
    pub key: CommandKey,
    /// The node.
    pub node: NodeName,
    /// State.
    pub state: DeliveryState,
    /// Verified bytes at the last change of state.
    pub offset: u64,
    /// From whom; `None` is the base or nobody yet.
    pub source: Option<NodeName>,
    /// Changes of the source.
    pub switches: u32,
    /// Attempts that failed.
    pub attempts: u32,
    /// Why it failed or waits.
    pub reason: Option<Reason>,
    /// For people.
    pub detail: Option<String>,
    /// The proof.
    pub receipt: Option<SignedReceipt>,
    /// UTC nanoseconds of the last change.
    pub updated_at_ns: i64,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRow {
    /// Name.
    pub name: NodeName,
    /// State.
    pub state: NodeState,
    /// BLAKE3 of its token.
    pub token_hash: Digest,
    /// Its Ed25519 key, base64.
    pub public_key: String,
    /// Address for peers, `ip:port`.
    pub addr: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Its last start.
    pub incarnation: Incarnation,
    /// Number of the last report of that start.
    pub reports_taken: u64,
    /// Bytes per second that it may send.
    pub up_rate_cap: Option<u64>,
    /// Bytes per second that it may receive.
    pub down_rate_cap: Option<u64>,
    /// Bytes per second that it was seen to send.
    pub up_rate_seen: u64,
    /// Bytes per second that it was seen to receive.
    pub down_rate_seen: u64,
    /// UTC nanoseconds.
    pub heard_at_ns: i64,
}

/// A content at the base.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentRow {
    /// Id.
    pub id: ContentId,
    /// Its command.
    pub key: CommandKey,
    /// Size that the client said, or that it turned out to have.
    pub size: Option<u64>,
    /// BLAKE3 that the client expects.
    pub expected: Option<Digest>,
    /// BLAKE3, once all bytes are there.
    pub blake3: Option<Digest>,
    /// UTC nanoseconds of the upload's end, complete or abandoned.
    pub ended_at_ns: Option<i64>,
    /// The client gave up.
    pub is_abandoned: bool,
}

/// A notification of a job: who is told what, and how far it is. What is to be sent are the events
/// of the job behind `place` that belong to its topics, so each is kept with its event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookRow {
    /// Name.
    pub id: HookId,
    /// Where it goes.
    pub url: String,
    /// What signs it; none is left when nothing follows.
    pub secret: Option<Secret>,
    /// What is notified.
    pub topics: Vec<Topic>,
    /// The client's own name of the job.
    pub client_ref: Option<String>,
    /// State.
    pub state: HookState,
    /// Number of the last event that is dealt with.
    pub place: u64,
    /// Number of the newest event that is for the receiver.
    pub newest: u64,
    /// Events behind `place` that are for the receiver.
    pub pending: u64,
    /// UTC nanoseconds since when the oldest of them waits, or earlier.
    pub waits_since_ns: i64,
    /// Events that the receiver has taken.
    pub delivered: u64,
    /// Events that it did not take in time.
    pub dropped: u64,
    /// Attempts that failed since it last took one.
    pub attempts: u32,
    /// UTC nanoseconds of the next attempt.
    pub due_at_ns: i64,
    /// UTC nanoseconds at which it last took one.
    pub delivered_at_ns: Option<i64>,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
}

/// An answer to a request with an idempotency key, kept for a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerRow {
    /// The client: name of its token.
    pub client: String,
    /// Its key.
    pub idempotency_key: String,
    /// BLAKE3 of the request, so that another request under the same key is refused.
    pub request: Digest,
    /// Status of HTTP.
    pub status: u16,
    /// Body.
    pub body: String,
    /// UTC nanoseconds.
    pub at_ns: i64,
}

/// The wait period of a job (reference 002): at its end nodes with open deliveries are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitRow {
    /// The job.
    pub job: JobId,
    /// UTC nanoseconds of its end.
    pub until_ns: i64,
    /// Its length in seconds.
    pub period_s: u64,
    /// Periods that have ended with deliveries open.
    pub periods: u32,
}

/// What is done about a node that does not get on, or is away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CareRow {
    /// The node.
    pub node: NodeName,
    /// What is done.
    pub phase: CarePhase,
    /// Why.
    pub cause: Option<RepairCause>,
    /// Repair tries so far.
    pub tries: u32,
    /// Wait periods that were extended although it had not got on.
    pub extensions: u32,
    /// UTC nanoseconds at which the next step is due.
    pub due_at_ns: Option<i64>,
    /// UTC nanoseconds at which an operator expects it back.
    pub expected_back_ns: Option<i64>,
}

/// All rows of a ledger that a book is made from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    /// Jobs.
    pub jobs: Vec<JobRow>,
    /// Commands.
    pub commands: Vec<CommandRow>,
    /// Deliveries.
    pub deliveries: Vec<DeliveryRow>,
    /// Nodes.
    pub nodes: Vec<NodeRow>,
    /// Contents.
    pub contents: Vec<ContentRow>,
    /// Notifications.
    pub hooks: Vec<HookRow>,
    /// Answers.
    pub answers: Vec<AnswerRow>,
    /// Wait periods.
    pub waits: Vec<WaitRow>,
    /// Nodes that do not get on.
    pub cares: Vec<CareRow>,
    /// The last event that is kept elsewhere, where there is one: the chain goes on behind it.
    pub trimmed: Option<ChainHead>,
    /// Last event: the end of the chain.
    pub last_event: Option<EventView>,
}

impl DeliveryRow {
    /// A delivery that nobody knows of yet.
    #[must_use]
    pub fn pending(job: JobId, command: CommandId, node: NodeName, at_ns: i64) -> Self {
        Self {
            key: CommandKey { job, command },
            node,
            state: DeliveryState::Pending,
            offset: 0,
            source: None,
            switches: 0,
            attempts: 0,
            reason: None,
            detail: None,
            receipt: None,
            updated_at_ns: at_ns,
        }
    }
}
