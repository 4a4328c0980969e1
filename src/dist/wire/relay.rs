//! How orders of the base go from node to node (reference 002: index lists).
//!
//! ```text
//! base --order Relay--> node --POST /peer/v1/relay  RelayBody--> node ..
//!   -> 202 taken: the node hands on what is behind its own      -> 200 it has come before
//!   -> 400, 403: not of this node's base, or not for it         -> 503 no room, or no clock yet
//! base --order Ask--> node --POST /peer/v1/question  Question--> node that the base does not reach
//!   -> 200 SignedAnswer
//! ```
//! The entries of a body are the servers that are not approached yet, by their indexes in the
//! server list of the job. The first is the one that gets the body. What is for a node is in its
//! envelope, which the base has signed: a node can leave out what it hands on, and not change it.

use serde::{Deserialize, Serialize};

use crate::dist::ids::{BaseEpoch, Digest, JobId, NodeName};
use crate::dist::wire::agent::NodeOrder;

/// Orders for nodes that are not approached yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayBody {
    /// Number of the orders: the same one again has no effect.
    pub number: u64,
    /// The job.
    pub job: JobId,
    /// Version of its server list.
    pub list_version: u32,
    /// Orders that are the same for all: JSON of a list of [`NodeOrder`].
    pub common: String,
    /// The receiver first, then those that it is to approach, the fastest first.
    pub entries: Vec<RelayEntry>,
}

/// A node that is not approached yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayEntry {
    /// Its place in the server list of the job.
    pub index: u32,
    /// Its [`Envelope`], sealed by the base.
    pub envelope: String,
}

/// What is for one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Who.
    pub node: NodeName,
    /// Its address for peers, `ip:port`.
    pub addr: String,
    /// Epoch of the base.
    pub base: BaseEpoch,
    /// Number of the orders, greater than all before.
    pub number: u64,
    /// Time of the base, UTC nanoseconds: it counts for [`ENVELOPE_LIFE_NS`].
    pub at_ns: i64,
    /// BLAKE3 of the common orders.
    pub common: Digest,
    /// Orders for this node only. Lists of sources are short
    /// ([`short_list`](crate::dist::wire::agent::short_list)).
    pub orders: Vec<NodeOrder>,
}

/// What a node that is asked through another one says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// An [`Envelope`] with one order, a query, sealed by the base.
    pub envelope: String,
}

/// How a node is that its base does not reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alive {
    /// Who.
    pub node: NodeName,
    /// Number of the question.
    pub query: u64,
    /// Open commands.
    pub open: u64,
    /// It has a connection to the base.
    pub is_online: bool,
}

/// An answer and the signature of exactly its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedAnswer {
    /// JSON of an [`Alive`].
    pub answer: String,
    /// Ed25519 of its bytes by the node's key, base64.
    pub signature: String,
}

/// What a node has handed on since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayCounts {
    /// Bodies that were taken.
    pub taken: u64,
    /// Bodies that had come before.
    pub duplicates: u64,
    /// Bodies that were not taken.
    pub refused: u64,
    /// Parts that were handed on.
    pub sent: u64,
    /// Parts that were taken back.
    pub taken_back: u64,
}

/// For so long an envelope counts, by the clock of the base.
pub const ENVELOPE_LIFE_NS: i64 = 60_000_000_000;
/// Nodes of a body.
pub const ENTRIES_MAX: usize = 256;
/// Bytes of a body.
pub const BODY_BYTES_MAX: usize = 512 << 10;
