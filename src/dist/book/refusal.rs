//! Why the base refuses a request: each with a code that does not change and a status of HTTP.

use crate::dist::command::{AttributesError, PathError};
use crate::dist::ids::{CommandKey, ContentId, Digest, JobId, NodeName};
use crate::dist::reflect::LiveError;
use crate::dist::webhook::target::TargetError;
use crate::dist::wire::job::{JobState, NodeState};

/// A request that the base refuses. Nothing of it has an effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No job of this id, or that of another client.
    #[error("no job {0}")]
    UnknownJob(JobId),
    /// The job has no such command.
    #[error("job {} has no command {}", .0.job, .0.command)]
    UnknownCommand(CommandKey),
    /// No node of this name.
    #[error("no node {0}")]
    UnknownNode(NodeName),
    /// No content of this id.
    #[error("no content {0}")]
    UnknownContent(ContentId),
    /// The targets of a job include no node.
    #[error("the targets include no node")]
    NoTargets,
    /// More targets than a job may have.
    #[error("{count} targets: at most {max} are taken")]
    TooManyTargets {
        /// How many.
        count: usize,
        /// At most.
        max: usize,
    },
    /// A selector is not of the form `label=value,label=value`.
    #[error("the selector is not of the form label=value,label=value: {0}")]
    BadSelector(String),
    /// A named target gets no new jobs.
    #[error("node {node} is {} and gets no new jobs", .state.as_str())]
    NodeUnavailable {
        /// The node.
        node: NodeName,
        /// Its state.
        state: NodeState,
    },
    /// A priority above 9.
    #[error("priority {0}: 0 to 9 is expected")]
    BadPriority(u8),
    /// A rate at which a unit takes longer than a connection waits.
    #[error("{name} {rate}: {min} bytes per second are the least")]
    BadRate {
        /// Which of the policy.
        name: &'static str,
        /// What was asked for.
        rate: u64,
        /// At least.
        min: u64,
    },
    /// The policy is not the one that the client has seen.
    #[error("the policy of job {0} was changed meanwhile; look at it again")]
    PolicyChanged(JobId),
    /// The client's name of a job is empty or too long.
    #[error("client_ref has {bytes} bytes: 1 to {max} are expected")]
    BadClientRef {
        /// How long.
        bytes: usize,
        /// At most.
        max: usize,
    },
    /// Somebody cannot be called back.
    #[error("notify: {url}: {why}")]
    BadNotify {
        /// Where, without what may be a secret.
        url: String,
        /// Why.
        why: TargetError,
    },
    /// The client has as many open jobs as it may have.
    #[error("{client} has {open} open jobs, which is its quota: end or cancel one")]
    QuotaJobs {
        /// The client.
        client: String,
        /// How many.
        open: u64,
    },
    /// More targets than a job of the client may have.
    #[error("{count} targets: the quota of {client} is {max}")]
    QuotaTargets {
        /// The client.
        client: String,
        /// How many.
        count: usize,
        /// At most.
        max: u64,
    },
    /// The base does not keep as many bytes for the client.
    #[error(
        "the quota of {client} is {max} bytes, of which {used} are used: they are free again some \
         time behind the end of their jobs"
    )]
    QuotaBytes {
        /// The client.
        client: String,
        /// Bytes of its contents.
        used: u64,
        /// At most.
        max: u64,
    },
    /// More to be called back than a job may have, or one of them is told nothing.
    #[error("notify: at most {max} are taken, each with one event at least")]
    BadNotifyList {
        /// At most.
        max: usize,
    },
    /// The job does not take the request in its state.
    #[error("job {job} is {}", .state.as_str())]
    JobState {
        /// The job.
        job: JobId,
        /// Its state.
        state: JobState,
    },
    /// The command has ended.
    #[error("command {} of job {} has ended", .0.command, .0.job)]
    CommandEnded(CommandKey),
    /// A path is none of the media folder.
    #[error("{path:?}: {error}")]
    BadPath {
        /// The path.
        path: String,
        /// Why.
        error: PathError,
    },
    /// A live path that cannot be brought to nodes.
    #[error("{0}")]
    BadLive(LiveError),
    /// Attributes cannot be set.
    #[error("{0}")]
    BadAttributes(AttributesError),
    /// A move onto or into itself.
    #[error("{0:?} cannot be moved to itself or beneath itself")]
    MoveIntoItself(String),
    /// Size or hash of a command that has no content.
    #[error("size and blake3 belong to a put")]
    NoContent,
    /// A content is larger than any disk.
    #[error("size {size}: at most {max} is taken")]
    TooLarge {
        /// Bytes that were said.
        size: u64,
        /// At most.
        max: u64,
    },
    /// No delivery failed that could be tried again.
    #[error("no delivery has failed that can be tried again")]
    NothingToRetry,
    /// The upload has ended.
    #[error("the upload of content {0} has ended")]
    UploadEnded(ContentId),
    /// What was uploaded has another hash than the client said.
    #[error("the content has BLAKE3 {found}, the client said {expected}: the command has failed")]
    BadHash {
        /// Said by the client.
        expected: Digest,
        /// Of what came.
        found: Digest,
    },
    /// What was uploaded has another size than the client said.
    #[error("the content has {found} bytes, the client said {expected}: the command has failed")]
    WrongSize {
        /// Said by the client.
        expected: u64,
        /// Of what came.
        found: u64,
    },
    /// A report of more entries than one answer has room for.
    #[error("the report has {rows} deliveries, more than {max}: list deliveries in pages instead")]
    ReportTooLarge {
        /// How many.
        rows: u64,
        /// At most.
        max: u64,
    },
    /// Jobs, commands, deliveries or nodes beyond the limit of the base.
    #[error("the base has its limit of {max} {what}")]
    Full {
        /// What.
        what: &'static str,
        /// How many.
        max: usize,
    },
    /// A node joins under the name of another.
    #[error("node {0} is there already, with another key")]
    NodeExists(NodeName),
    /// The token is that of another node.
    #[error("the token is that of node {token_of}, not of {said}")]
    WrongNode {
        /// Whose token it is.
        token_of: NodeName,
        /// What the request says.
        said: NodeName,
    },
    /// A node says hello with another key than before.
    #[error("node {0} has another key than the base knows")]
    KeyChanged(NodeName),
    /// A node was retired; its name is not given again.
    #[error("node {0} was retired")]
    NodeRetired(NodeName),
    /// An older start of the agent than one that was heard.
    #[error("a later start of node {0} was heard: is the node running twice?")]
    StaleIncarnation(NodeName),
    /// Reports of a start that did not say hello.
    #[error("node {0} is to say hello first")]
    HelloAgain(NodeName),
    /// A public key of no form.
    #[error("the public key is not base64 of an Ed25519 key")]
    BadKey,
    /// An address that peers cannot reach.
    #[error("{0:?} is no address for peers: ip:port is expected")]
    BadAddr(String),
    /// More or longer labels than there is room for.
    #[error("labels: at most {max} of 1 to 63 and 0 to 255 bytes, without ',' and '='")]
    BadLabels {
        /// At most.
        max: usize,
    },
}

impl Refusal {
    /// Code that does not change.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::UnknownJob(_) => "unknown_job",
            Self::UnknownCommand(_) => "unknown_command",
            Self::UnknownNode(_) => "unknown_node",
            Self::UnknownContent(_) => "unknown_content",
            Self::NoTargets => "no_targets",
            Self::TooManyTargets { .. } => "too_many_targets",
            Self::BadSelector(_) => "bad_selector",
            Self::NodeUnavailable { .. } => "node_unavailable",
            Self::BadPriority(_) => "bad_priority",
            Self::BadRate { .. } => "bad_rate",
            Self::PolicyChanged(_) => "policy_changed",
            Self::BadClientRef { .. } => "bad_client_ref",
            Self::BadNotify { .. } | Self::BadNotifyList { .. } => "bad_notify",
            Self::QuotaJobs { .. } => "quota_jobs",
            Self::QuotaTargets { .. } => "quota_targets",
            Self::QuotaBytes { .. } => "quota_bytes",
            Self::JobState { .. } => "job_state",
            Self::CommandEnded(_) => "command_ended",
            Self::BadPath { .. } => "bad_path",
            Self::BadLive(_) => "bad_live",
            Self::BadAttributes(_) => "bad_attributes",
            Self::MoveIntoItself(_) => "move_into_itself",
            Self::NoContent => "no_content",
            Self::TooLarge { .. } => "too_large",
            Self::NothingToRetry => "nothing_to_retry",
            Self::UploadEnded(_) => "upload_ended",
            Self::BadHash { .. } => "bad_hash",
            Self::WrongSize { .. } => "wrong_size",
            Self::ReportTooLarge { .. } => "report_too_large",
            Self::Full { .. } => "base_full",
            Self::NodeExists(_) => "node_exists",
            Self::WrongNode { .. } => "wrong_node",
            Self::KeyChanged(_) => "key_changed",
            Self::NodeRetired(_) => "node_retired",
            Self::StaleIncarnation(_) => "stale_incarnation",
            Self::HelloAgain(_) => "hello_again",
            Self::BadKey => "bad_key",
            Self::BadAddr(_) => "bad_addr",
            Self::BadLabels { .. } => "bad_labels",
        }
    }

    /// Status of HTTP.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::WrongNode { .. }
            | Self::KeyChanged(_)
            | Self::NodeRetired(_)
            | Self::QuotaTargets { .. }
            | Self::QuotaBytes { .. } => 403,
            Self::UnknownJob(_)
            | Self::UnknownCommand(_)
            | Self::UnknownNode(_)
            | Self::UnknownContent(_) => 404,
            Self::NodeUnavailable { .. }
            | Self::JobState { .. }
            | Self::CommandEnded(_)
            | Self::NothingToRetry
            | Self::UploadEnded(_)
            | Self::NodeExists(_)
            | Self::StaleIncarnation(_)
            | Self::HelloAgain(_) => 409,
            Self::NoTargets
            | Self::TooManyTargets { .. }
            | Self::BadSelector(_)
            | Self::BadPriority(_)
            | Self::BadRate { .. }
            | Self::BadClientRef { .. }
            | Self::BadNotify { .. }
            | Self::BadNotifyList { .. }
            | Self::BadPath { .. }
            | Self::BadLive(_)
            | Self::BadAttributes(_)
            | Self::MoveIntoItself(_)
            | Self::NoContent
            | Self::TooLarge { .. }
            | Self::BadHash { .. }
            | Self::WrongSize { .. }
            | Self::ReportTooLarge { .. }
            | Self::BadKey
            | Self::BadAddr(_)
            | Self::BadLabels { .. } => 422,
            Self::PolicyChanged(_) => 412,
            Self::QuotaJobs { .. } => 429,
            Self::Full { .. } => 503,
        }
    }
}
