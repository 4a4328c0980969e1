//! Jobs, commands and deliveries as clients see them.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::dist::ids::{CommandId, ContentId, Digest, JobId, NodeName};
use crate::dist::window::Window;
use crate::dist::wire::agent::SignedReceipt;
use crate::dist::wire::hook::NotifyRequest;

/// `POST /v1/jobs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRequest {
    /// The client's own name of the job. The same name again is answered with the same job.
    #[serde(default)]
    pub client_ref: Option<String>,
    /// Who is to have what the job brings.
    pub targets: Targets,
    /// How it is done.
    #[serde(default)]
    pub policy: Policy,
    /// Seconds from now until what is open counts as failed.
    #[serde(default)]
    pub deadline_s: Option<u64>,
    /// Who is called back.
    #[serde(default)]
    pub notify: Vec<NotifyRequest>,
}

/// `"all"`, `{"nodes": ["a", "b"]}` or `{"selector": "site=north,tier=edge"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Targets {
    /// Every node that is known when the job is accepted and is not retired.
    All,
    /// These.
    Nodes(Vec<NodeName>),
    /// Nodes that carry all of these labels.
    Selector(String),
}

/// How a job is done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// Which commands wait for others on a node.
    pub order: Order,
    /// 0 to 9: shares of a node's uplink, 9 the largest.
    pub priority: u8,
    /// Bytes per second that each source, the base too, may spend on the job in all.
    pub max_rate: Option<u64>,
    /// What a node gets that is back when the job has ended without it.
    pub late: Late,
    /// Bytes per second that each node may take of the job.
    pub per_node_rate: Option<u64>,
    /// When nodes may fetch; `None`: at any time. Uploads to the base go on.
    pub window: Option<Window>,
    /// Nodes fetch nothing until this is taken back. Uploads to the base go on.
    pub paused: bool,
}

/// What a node gets that was given up, when it is back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Late {
    /// What it missed, for as long as the base has the contents.
    #[default]
    Deliver,
    /// Nothing.
    Drop,
}

/// `PATCH /v1/jobs/{job}`: what of its policy changes. What is not named stays; `null` takes a rate
/// or a window away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyChange {
    /// See [`Policy::priority`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// See [`Policy::max_rate`].
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "named")]
    pub max_rate: Option<Option<u64>>,
    /// See [`Policy::per_node_rate`].
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "named")]
    pub per_node_rate: Option<Option<u64>>,
    /// See [`Policy::window`].
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "named")]
    pub window: Option<Option<Window>>,
    /// See [`Policy::paused`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
}

/// What holds a job back now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Limit {
    /// Its client has paused it.
    Paused,
    /// Its window is closed.
    Window {
        /// UTC nanoseconds at which it opens; `None`: not within a week.
        opens_at_ns: Option<i64>,
    },
    /// Transfers go on, and keep to a rate of the policy.
    Rate,
}

/// Which commands of a job wait for earlier ones on a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// All.
    Strict,
    /// Those whose paths are the same or one within the other.
    #[default]
    Prefix,
    /// None.
    None,
}

/// State of a job. Terminal: `Denied`, `Completed`, `Cancelled`; `CompletedWithFailures` until a
/// retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Asked for.
    Requested,
    /// Refused.
    Denied,
    /// Takes commands.
    Open,
    /// Takes none any more; deliveries are open.
    Closing,
    /// Every target has all.
    Completed,
    /// Every delivery has ended, some failed.
    CompletedWithFailures,
    /// The client ended it.
    Cancelled,
}

/// State of a command or delivery as reference 002 has it, with its error and its withdrawal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandState {
    /// No target has begun.
    New,
    /// A target has begun.
    InProgress,
    /// All targets are done.
    Completed,
    /// All targets have ended, one at least failed.
    Failed,
    /// Withdrawn.
    Cancelled,
}

/// State of a delivery: a command at a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// The node has not said that it knows the command.
    Pending,
    /// The node has the command in its journal.
    Received,
    /// Bytes come.
    Fetching,
    /// All bytes are there and verified; attributes and name follow.
    Applying,
    /// The node fetches again after a while.
    RetryWait,
    /// Done, and its receipt is in the ledger.
    Completed,
    /// Given up, with a reason.
    Failed,
    /// Withdrawn.
    Cancelled,
}

/// What a command does. Paths are relative to the media folder, with `/`, without `..`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Op {
    /// A file with a content; one of that name is replaced.
    Put {
        /// Where.
        path: String,
        /// Attributes.
        #[serde(default)]
        attrs: Attributes,
    },
    /// A folder, and those above it.
    Mkdir {
        /// Where.
        path: String,
        /// Attributes.
        #[serde(default)]
        attrs: Attributes,
    },
    /// Removes a file, or a folder with all that is in it.
    Delete {
        /// What.
        path: String,
    },
    /// Renames.
    Move {
        /// What.
        path: String,
        /// To where.
        to: String,
    },
    /// Changes attributes.
    SetAttributes {
        /// Of what.
        path: String,
        /// Attributes that are set; others stay.
        attrs: Attributes,
    },
    /// Asks the node to answer: a command without data.
    Query,
    /// A live path that nodes reflect from each other, until the job is ended.
    Live {
        /// Name of the path, at each node and at each source node.
        path: String,
        /// URL of the origin, which the first nodes pull from: `rtsp://`, without a password.
        from: String,
    },
}

/// Attributes that a delivery preserves. `None`: not said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attributes {
    /// Permission bits, 0 to 0o7777.
    pub mode: Option<u32>,
    /// Time of last change, UTC nanoseconds.
    pub mtime_ns: Option<i64>,
    /// Extended attributes of the `user.` name space, values in base64; `None` takes one away.
    pub xattr: BTreeMap<String, Option<String>>,
}

/// `POST /v1/jobs/{job}/commands`. A `put` is made by the upload itself or by this and an upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandRequest {
    /// What is to be done.
    #[serde(flatten)]
    pub op: Op,
    /// Size in bytes of a put's content, where it is known: nodes reserve it.
    #[serde(default)]
    pub size: Option<u64>,
    /// BLAKE3 that the client expects of the content.
    #[serde(default)]
    pub blake3: Option<Digest>,
}

/// Answer to a command request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandAccepted {
    /// Its place in the job.
    pub command_id: CommandId,
    /// Where a put's bytes go: path on the base.
    #[serde(default)]
    pub put_url: Option<String>,
    /// The content of a put.
    #[serde(default)]
    pub content: Option<ContentId>,
}

/// A server of a job's list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerView {
    /// Its place in the list: propagated commands name it by this.
    pub index: u32,
    /// Its name.
    pub node: NodeName,
    /// Address for peers, `ip:port`.
    pub addr: String,
    /// Upload rate for which it is planned, bytes per second.
    pub up_rate: u64,
}

/// Numbers of deliveries by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Pending and received.
    pub new: u64,
    /// Fetching, applying, waiting for a retry.
    pub in_progress: u64,
    /// Completed.
    pub completed: u64,
    /// Failed.
    pub failed: u64,
    /// Cancelled.
    pub cancelled: u64,
}

/// `GET /v1/jobs/{job}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobView {
    /// The job.
    pub job_id: JobId,
    /// The client's name of it.
    pub client_ref: Option<String>,
    /// State.
    pub state: JobState,
    /// Server list of reference 002.
    pub servers: Vec<ServerView>,
    /// Version of the server list.
    pub list_version: u32,
    /// How it is done.
    pub policy: Policy,
    /// What holds it back, while deliveries are open.
    #[serde(default)]
    pub limited_by: Option<Limit>,
    /// WebDAV folder of the job: path on the base.
    pub ctp_url: String,
    /// Commands so far.
    pub commands: u32,
    /// Bytes of all contents so far, once.
    pub content_bytes: u64,
    /// Deliveries.
    pub totals: Totals,
    /// UTC nanoseconds.
    pub created_at_ns: i64,
    /// UTC nanoseconds of its end.
    pub ended_at_ns: Option<i64>,
    /// Time of the last node over the fluid bound, for a job that has ended.
    pub bound_ratio: Option<f64>,
    /// Bytes that left the base over the size of all contents.
    pub base_egress_ratio: Option<f64>,
}

impl Policy {
    /// Tells this policy from others, for `ETag` and `If-Match`.
    #[must_use]
    pub fn tag(&self) -> String {
        // A policy is plain data with text keys: it has a JSON form.
        let json = serde_json::to_vec(self).unwrap_or_default();
        let mut tag = blake3::hash(&json).to_hex().to_string();
        tag.truncate(TAG_DIGITS);
        tag
    }
}

impl PolicyChange {
    /// The policy behind the change.
    #[must_use]
    pub fn applied(self, policy: &Policy) -> Policy {
        let Self { priority, max_rate, per_node_rate, window, paused } = self;
        Policy {
            order: policy.order,
            late: policy.late,
            priority: priority.unwrap_or(policy.priority),
            max_rate: max_rate.unwrap_or(policy.max_rate),
            per_node_rate: per_node_rate.unwrap_or(policy.per_node_rate),
            window: window.unwrap_or_else(|| policy.window.clone()),
            paused: paused.unwrap_or(policy.paused),
        }
    }
}

/// A field that is there, with `null` or without.
fn named<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

impl JobView {
    /// Whether nothing of the job is open: it has ended, or it takes commands and those that it
    /// has are done.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        match self.state {
            JobState::Denied
            | JobState::Completed
            | JobState::CompletedWithFailures
            | JobState::Cancelled => true,
            JobState::Open => self.totals.new == 0 && self.totals.in_progress == 0,
            JobState::Requested | JobState::Closing => false,
        }
    }
}

/// `GET /v1/jobs/{job}/commands/{command}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommandView {
    /// Its place in the job.
    pub command_id: CommandId,
    /// What it does.
    #[serde(flatten)]
    pub op: Op,
    /// State.
    pub state: CommandState,
    /// Bytes that the base has of a put's content.
    pub uploaded_bytes: u64,
    /// Size, once it is known.
    pub size: Option<u64>,
    /// BLAKE3, once the upload is complete.
    pub blake3: Option<Digest>,
    /// Deliveries.
    pub totals: Totals,
}

/// `GET /v1/jobs/{job}/deliveries`, an element.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeliveryView {
    /// The command.
    pub command_id: CommandId,
    /// The node.
    pub node: NodeName,
    /// State.
    pub state: DeliveryState,
    /// State in the words of reference 002.
    pub shown: CommandState,
    /// Verified bytes at the node, as last reported.
    pub offset: u64,
    /// Size, once it is known.
    pub size: Option<u64>,
    /// Bytes per second, as last reported.
    pub rate: u64,
    /// From whom bytes come; `base` is the base.
    pub source: Option<String>,
    /// From whom other parts come at the same time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further: Vec<String>,
    /// Changes of the source.
    pub switches: u32,
    /// Attempts that failed.
    pub attempts: u32,
    /// Why it failed or waits.
    pub reason: Option<Reason>,
    /// The node's signed receipt.
    pub receipt: Option<SignedReceipt>,
}

/// Why a delivery failed or waits: names that do not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The disk does not hold it.
    NoSpace,
    /// The file system forbids it.
    Permission,
    /// The path leads through a file, or to a folder that is not empty, or to nothing.
    PathConflict,
    /// Reading or writing failed otherwise.
    Io,
    /// No source answers.
    NoSource,
    /// Bytes of every source fail their hash.
    BadHash,
    /// The client did not finish its upload.
    UploadAbandoned,
    /// Too many attempts without progress.
    Attempts,
    /// The job's deadline passed.
    Deadline,
    /// The node was retired.
    NodeRetired,
    /// The client's quota of bytes is used.
    Quota,
    /// The node gives no answer, and could not be mended. When it is back it gets what it missed.
    NodeFailed,
}

/// One entry of the hash chain. `GET /v1/jobs/{job}/events?after=SEQ`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventView {
    /// Place in the ledger, from 1.
    pub seq: u64,
    /// UTC nanoseconds at the base.
    pub at_ns: i64,
    /// The job; `None` for events of nodes.
    pub job: Option<JobId>,
    /// The command.
    pub command: Option<CommandId>,
    /// The node.
    pub node: Option<NodeName>,
    /// Kind, for instance `delivery.completed`.
    pub kind: String,
    /// What belongs to the kind.
    pub detail: serde_json::Value,
    /// BLAKE3 over the entry before and this one.
    pub hash: Digest,
}

/// `GET /v1/nodes`, an element.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    /// Its name.
    pub node: NodeName,
    /// State.
    pub state: NodeState,
    /// Its Ed25519 key, base64: verifies its receipts.
    #[serde(default)]
    pub public_key: String,
    /// Address for peers, `ip:port`.
    pub addr: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Bytes per second that it may send, where it said so.
    pub up_rate_cap: Option<u64>,
    /// Bytes per second that it may receive, where it said so.
    pub down_rate_cap: Option<u64>,
    /// Free bytes of its media folder.
    pub free_bytes: u64,
    /// UTC nanoseconds of its last sign of life.
    pub heard_at_ns: i64,
    /// Deliveries that are open.
    pub open_deliveries: u64,
    /// What is done about it, when it does not get on or is away.
    #[serde(default)]
    pub repair: Option<RepairView>,
}

/// State of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// Heard within three heartbeats.
    Active,
    /// Not heard for three heartbeats, or reported by others.
    Suspect,
    /// Not heard for 15 s.
    Down,
    /// Gets no new jobs.
    Draining,
    /// Not a node any more.
    Retired,
    /// Served bytes that failed their hash twice: no source any more.
    Quarantined,
    /// Gave no answer, or does not get on: the base tries to mend it.
    Repairing,
    /// Is back, and is asked for what it has.
    Activating,
    /// Could not be mended: somebody has to look at it.
    FailedHw,
}

/// What the base does about a node that does not get on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CarePhase {
    /// Nothing.
    Well,
    /// It was asked how far it is.
    Asked,
    /// It is being mended.
    Repairing,
    /// It is back, and is asked for what it has.
    Activating,
    /// It was given up until it is back.
    Failed,
}

/// Why a node is to be mended: names that do not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RepairCause {
    /// It gives no answer.
    Unanswered,
    /// It answers, and has got on with nothing for several wait periods.
    AppWedged,
    /// Its sources give it nothing, or bytes that fail their hash.
    SourceBad,
    /// Reading or writing its files fails.
    JournalBad,
    /// It is back, and bytes of the base do not reach its disk.
    ProbeFailed,
    /// An operator wants it.
    Operator,
}

/// A node that does not get on, or is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairView {
    /// What is done about it.
    pub phase: CarePhase,
    /// Why.
    pub cause: Option<RepairCause>,
    /// Repair tries so far.
    pub tries: u32,
    /// UTC nanoseconds at which an operator expects it back.
    pub expected_back_ns: Option<i64>,
}

/// `PATCH /v1/nodes/{node}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePatch {
    /// When the node is expected back, RFC 3339; null: nobody knows.
    pub expected_back: Option<String>,
}

const TAG_DIGITS: usize = 16;
