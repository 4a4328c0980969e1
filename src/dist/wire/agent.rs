//! What the base and the agent of a node say to each other. The node opens all connections.
//!
//! ```text
//! node -> POST /agent/v1/hello     HelloBody -> WelcomeBody    at its start, and when it is asked
//! node -> GET  /agent/v1/orders    a JSON line for each order, for as long as the connection lives
//! node -> POST /agent/v1/reports   Reports -> ReportsTaken     at least each 2 s: the heartbeat
//! ```
//! Orders are said again after each hello, as long as what they ask for is open: a node takes an
//! order a second time without effect. Reports have numbers, so that a batch that comes twice
//! counts once.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::base::secret::Secret;
use crate::dist::ids::{CommandKey, ContentId, Digest, Epoch, Incarnation, JobId, NodeName};
use crate::dist::terms::Terms;
use crate::dist::wire::job::{DeliveryState, Op, Order, Reason};
use crate::dist::wire::relay::{RelayBody, RelayCounts, SignedAnswer};

/// Header of each answer of a base: its epoch, a decimal number
/// ([`BaseEpoch`](crate::dist::ids::BaseEpoch)).
pub const EPOCH_HEADER: &str = "ctp-base-epoch";

/// A node says that it is there. With the join token the first time, with its own token later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Its name.
    pub node: NodeName,
    /// This start.
    pub incarnation: Incarnation,
    /// Ed25519 key by which it signs receipts, base64.
    pub public_key: String,
    /// Where peers reach it, `ip:port`.
    pub addr: String,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Bytes per second that it may send.
    #[serde(default)]
    pub up_rate_cap: Option<u64>,
    /// Bytes per second that it may receive.
    #[serde(default)]
    pub down_rate_cap: Option<u64>,
    /// Free bytes of its media folder.
    #[serde(default)]
    pub free_bytes: u64,
    /// Its clock, UTC nanoseconds: the base warns when it is far off.
    #[serde(default)]
    pub utc_ns: i64,
    /// Where it serves RTSP, `ip:port`: others reflect live paths from there. `None`: nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtsp: Option<String>,
    /// It lets nodes of a job read by capabilities. Nodes of an older version would have their own
    /// rules judge what they are shown.
    #[serde(default, skip_serializing_if = "is_not")]
    pub takes_capability: bool,
}

/// The body of a hello: with TLS it asks for a certificate, too, when the node has none or its own
/// is to be renewed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloBody {
    /// What the node says.
    #[serde(flatten)]
    pub hello: Hello,
    /// Certificate request (PKCS #10, PEM), signed by the key of `public_key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_request: Option<String>,
}

/// The body of the answer to a hello.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WelcomeBody {
    /// What the base says.
    #[serde(flatten)]
    pub welcome: Welcome,
    /// The certificate that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<GivenCertificate>,
}

/// A certificate for a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenCertificate {
    /// The certificate, PEM.
    pub certificate: String,
    /// That of the CA, PEM.
    pub authority: String,
    /// For how long it counts from now on, seconds.
    pub life_s: u64,
}

/// Answer to a hello.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The node's own token, when it came with the join token.
    #[serde(default)]
    pub node_token: Option<String>,
    /// Ed25519 key of the base, base64: signs hashes and capabilities.
    pub base_key: String,
    /// Time between reports at most, milliseconds.
    pub heartbeat_ms: u64,
}

/// What the base asks of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum NodeOrder {
    /// A command of a job. The node journals it and reports `Received`.
    Command {
        /// Its name.
        key: CommandKey,
        /// Which commands of the job wait for others.
        sequence: Order,
        /// 0 to 9.
        priority: u8,
        /// What is to be done.
        op: Op,
        /// The content of a put.
        content: Option<ContentId>,
        /// Size of the content, where it is known.
        size: Option<u64>,
    },
    /// Where a content comes from: the plan's choice first.
    Sources {
        /// The content.
        content: ContentId,
        /// Generation of the plan.
        epoch: Epoch,
        /// In the order in which they are to be tried; the base last.
        sources: Vec<Source>,
        /// Further ones that may give parts at the same time, where the first gives less than the
        /// node could take: each at its rate, and only what it leaves over. Their capability is
        /// that of the first of `sources`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        further: Vec<Source>,
    },
    /// From whom a live path is reflected: the plan's choice first, the origin last.
    Reflect {
        /// The command.
        key: CommandKey,
        /// Generation of the plan.
        epoch: Epoch,
        /// In the order in which they are to be tried.
        sources: Vec<LiveSource>,
        /// What the node shows to those of them that are nodes
        /// ([`crate::dist::wire::peer::LiveCapability`], signed). Renewed before it ends. Nodes and
        /// bases of before it have none: then the access rules of the source decide alone.
        #[serde(default, with = "super::secret", skip_serializing_if = "Option::is_none")]
        capability: Option<Secret>,
    },
    /// A live path has had its time: the node closes it and gives its receipt.
    Finish {
        /// The command.
        key: CommandKey,
    },
    /// A command is withdrawn: what is open of it ends, partial files go.
    Cancel {
        /// Its name.
        key: CommandKey,
    },
    /// What a job may take. Said before its commands, and when it changes.
    Terms {
        /// The job.
        job: JobId,
        /// Generation of the terms: older ones have no effect.
        epoch: Epoch,
        /// The terms.
        terms: Terms,
    },
    /// Other nodes of a job: where its contents may be, too, when the sources of a plan are used up
    /// and the base is away. Said before the commands of the job, and when it changes.
    Servers {
        /// The job.
        job: JobId,
        /// Version of the server list: an older one has no effect.
        list_version: u32,
        /// This node is among them.
        servers: ServerList,
    },
    /// Nothing of this job is needed any more in the journal.
    Forget {
        /// The job.
        job: JobId,
    },
    /// The node is to say how far its open commands are: [`Report::Answer`].
    Query {
        /// Number of the question, greater than all before.
        query: u64,
    },
    /// The bytes of a put that came so far are to be dropped, and fetched anew.
    Renew {
        /// The command.
        key: CommandKey,
        /// Number of the order, greater than all before: the same one again has no effect.
        number: u64,
    },
    /// The agent is to begin anew from its journal, and to say hello as a new start.
    Restart {
        /// As of `Renew`.
        number: u64,
    },
    /// Orders for this node and others: it hands on what is not for itself ([`Report::Relayed`]).
    Relay {
        /// The orders.
        body: RelayBody,
    },
    /// The base does not reach another node: this one is to ask it how it is
    /// ([`Report::Neighbour`]).
    Ask {
        /// Whom.
        node: NodeName,
        /// Its address for peers, `ip:port`.
        addr: String,
        /// Number of the question.
        query: u64,
        /// The question ([`crate::dist::wire::relay::Envelope`], sealed).
        envelope: String,
    },
    /// The node is to fetch bytes of the base, `GET /agent/v1/probe`, and to say how that went:
    /// [`Report::Probed`]. It is back, and is to show that it works.
    Probe {
        /// Number of the probe: the bytes follow from it.
        number: u64,
        /// How many.
        bytes: u64,
    },
    /// The node is to say hello again: the base has lost its place in the reports.
    HelloAgain,
    /// Nothing: keeps the connection in use.
    Idle,
}

/// A server of a job, as its other nodes know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Its place in the server list of the job.
    pub index: u32,
    /// Its name.
    pub node: NodeName,
    /// Address for peers, `ip:port`.
    pub addr: String,
}

/// Servers of a job that know of each other, [`SERVERS_MAX`] at most. Clones share them: each node
/// of the list is told the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Server>", into = "Vec<Server>")]
pub struct ServerList(Arc<[Server]>);

impl ServerList {
    /// The servers, in the order of their indexes.
    #[must_use]
    pub fn as_slice(&self) -> &[Server] {
        &self.0
    }
}

impl From<Vec<Server>> for ServerList {
    fn from(mut servers: Vec<Server>) -> Self {
        servers.truncate(SERVERS_MAX);
        Self(servers.into())
    }
}

impl From<ServerList> for Vec<Server> {
    fn from(list: ServerList) -> Self {
        list.0.to_vec()
    }
}

/// Servers of a job that a node knows: enough to find a content among, and few enough to be told to
/// each of ten thousand nodes.
pub const SERVERS_MAX: usize = 64;

/// A place where a content is, and the right to fetch it there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The node; `None` is the base.
    pub node: Option<NodeName>,
    /// Address for peers, `ip:port`.
    pub addr: String,
    /// Token for this content at this source ([`crate::dist::wire::peer::Capability`], signed). In
    /// a list that was made short (`short_list`) empty where it is that of the source before.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub capability: String,
    /// Bytes per second for which the edge is planned.
    pub rate: u64,
    /// Others need what it can send: whoever fetches from it leaves it for one before it in the
    /// list that lives, also for one that has nothing more yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_last_resort: bool,
}

/// A list of sources in which a capability that is repeated is left out: one counts for a content
/// at whatever source.
#[must_use]
pub fn short_list(mut sources: Vec<Source>) -> Vec<Source> {
    for at in (1..sources.len()).rev() {
        if sources[at].capability == sources[at - 1].capability {
            sources[at].capability.clear();
        }
    }
    sources
}

/// The list that was made short.
#[must_use]
pub fn whole_list(mut sources: Vec<Source>) -> Vec<Source> {
    for at in 1..sources.len() {
        if sources[at].capability.is_empty() {
            sources[at].capability = sources[at - 1].capability.clone();
        }
    }
    sources
}

/// A place that a live path is reflected from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveSource {
    /// The node; `None` is the origin.
    pub node: Option<NodeName>,
    /// `rtsp://` URL of the path there.
    pub url: String,
    /// It is shown the capability of the job.
    #[serde(default, skip_serializing_if = "is_not")]
    pub takes_capability: bool,
}

/// What is not so is not written: readers of before know no word for it.
fn is_not(flag: &bool) -> bool {
    !flag
}

/// `POST /agent/v1/reports`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reports {
    /// Who.
    pub node: NodeName,
    /// This start of the agent.
    pub incarnation: Incarnation,
    /// Number of the first report of the batch, from 1; each report has the next.
    pub first: u64,
    /// In order. May be empty: a heartbeat.
    pub reports: Vec<Report>,
    /// Free bytes of its media folder.
    pub free_bytes: u64,
    /// Best second of sending so far, bytes per second.
    pub up_rate_seen: u64,
    /// Best second of receiving so far, bytes per second.
    pub down_rate_seen: u64,
    /// What it has handed on since its start.
    #[serde(default)]
    pub relays: RelayCounts,
}

/// Answer to reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportsTaken {
    /// Number of the last report that the ledger has.
    pub taken: u64,
    /// Time of the base, UTC nanoseconds: hours of jobs count by it. 0: it is not said.
    #[serde(default)]
    pub at_ns: i64,
}

/// What a node says of a delivery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "snake_case")]
pub enum Report {
    /// The command is in the journal.
    Received {
        /// Its name.
        key: CommandKey,
    },
    /// Bytes come. Sent at the first byte and at each change of the source.
    Fetching {
        /// Its name.
        key: CommandKey,
        /// Verified bytes so far.
        offset: u64,
        /// From whom; `None` is the base.
        source: Option<NodeName>,
        /// Why the source changed.
        cause: SwitchCause,
        /// Bytes per second that came from the source before.
        #[serde(default)]
        before: u64,
    },
    /// Bytes come from further sources, too, or do not any more. Sent by nodes whose base has
    /// named such sources.
    Further {
        /// Its name.
        key: CommandKey,
        /// Verified bytes so far.
        offset: u64,
        /// All that give bytes now, but the one of `Fetching`; `None` is the base.
        sources: Vec<Option<NodeName>>,
    },
    /// How far it is. Not kept in the ledger.
    Progress {
        /// Its name.
        key: CommandKey,
        /// Verified bytes so far.
        offset: u64,
        /// Bytes per second.
        rate: u64,
    },
    /// All bytes are verified.
    Applying {
        /// Its name.
        key: CommandKey,
    },
    /// Done.
    Completed {
        /// The proof.
        receipt: SignedReceipt,
    },
    /// It failed. Another attempt follows where `is_final` is false.
    Failed {
        /// Its name.
        key: CommandKey,
        /// Why.
        reason: Reason,
        /// For people: path, error of the system.
        detail: String,
        /// No further attempt.
        is_final: bool,
    },
    /// Withdrawn, as ordered.
    Cancelled {
        /// Its name.
        key: CommandKey,
    },
    /// What the base asked for: how far open commands are, the oldest first.
    Answer {
        /// Number of the question.
        query: u64,
        /// Open commands in all.
        open: u64,
        /// Those of them that have room in one answer.
        commands: Vec<OpenCommand>,
    },
    /// Orders that were handed on are in the journal.
    Relayed {
        /// Their number.
        number: u64,
    },
    /// What another node says that was asked for the base.
    Neighbour {
        /// Who was asked.
        node: NodeName,
        /// Number of the question.
        query: u64,
        /// Its answer; `None`: there was none.
        answer: Option<SignedAnswer>,
    },
    /// No connection to this source can be made: the node takes others for a while.
    Unreachable {
        /// Who.
        source: NodeName,
    },
    /// How a probe went.
    Probed {
        /// Number of the probe.
        number: u64,
        /// What went wrong, for people; `None`: the bytes came, and were kept.
        #[serde(default)]
        fault: Option<String>,
    },
    /// A source sent a unit that fails its hash.
    BadUnit {
        /// The content.
        content: ContentId,
        /// Who sent it; `None` is the base.
        source: Option<NodeName>,
        /// Which unit, from 0.
        unit: u64,
    },
}

/// How far an open command is at its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenCommand {
    /// Its name.
    pub key: CommandKey,
    /// State, as the base would have it.
    pub state: DeliveryState,
    /// Verified bytes of a put.
    pub offset: u64,
    /// Why the last attempt failed, while another one is waited for.
    #[serde(default)]
    pub reason: Option<Reason>,
}

/// Why a node takes a content from another source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SwitchCause {
    /// The first source.
    First,
    /// The plan has changed.
    Plan,
    /// The connection ended or could not be made.
    Lost,
    /// No byte for the stall time.
    Stall,
    /// A unit failed its hash.
    BadUnit,
    /// The source has no room.
    Busy,
    /// Another is faster.
    Faster,
    /// The source gets much more than it gives.
    Slow,
}

/// What a node did, in its own words and under its own key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Who.
    pub node: NodeName,
    /// What.
    pub key: CommandKey,
    /// Path of the file, folder or what else was changed.
    pub path: String,
    /// Size of the content.
    pub size: u64,
    /// BLAKE3 of the content of a put.
    pub blake3: Option<Digest>,
    /// BLAKE3 of the attributes as they were set: their JSON.
    pub attrs: Option<Digest>,
    /// UTC nanoseconds at the node.
    pub finished_at_ns: i64,
    /// From whom how many bytes came; `base` is the base, `origin` that of a live path.
    pub via: BTreeMap<String, u64>,
    /// What was reflected of a live path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<LiveTotals>,
}

/// What a node has reflected of a live path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveTotals {
    /// RTP packets.
    pub packets: u64,
    /// Milliseconds in which packets came.
    pub flow_ms: u64,
    /// Changes of the source.
    pub switches: u32,
}

/// A receipt and the signature of exactly its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedReceipt {
    /// JSON of a [`Receipt`].
    pub receipt: String,
    /// Ed25519 of its bytes by the node's key, base64.
    pub signature: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_list_of_sources_becomes_whole_again() {
        let list = |capabilities: &[&str]| -> Vec<Source> {
            let source = |capability: &&str| Source {
                node: None,
                addr: "a:1".to_owned(),
                capability: (*capability).to_owned(),
                rate: 1,
                is_last_resort: false,
            };
            capabilities.iter().map(source).collect()
        };
        for capabilities in [&["c", "c", "c"][..], &["c", "d", "d", "c"], &["c"], &[]] {
            let whole = list(capabilities);
            let short = short_list(whole.clone());
            assert_eq!(whole_list(short), whole);
        }
        assert_eq!(short_list(list(&["c", "c"]))[1].capability, "");
    }
}
