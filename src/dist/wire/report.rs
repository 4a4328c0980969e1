//! What a job did, for its client: `GET /v1/jobs/{job}/report`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::dist::ids::{CommandId, Digest, NodeName};
use crate::dist::keys::{VerifyKey, verify_receipt};
use crate::dist::wire::agent::{LiveTotals, SignedReceipt};
use crate::dist::wire::job::{CommandState, DeliveryState, JobView, NodeState, Op, Reason, Totals};

/// What arrived where, when, from whom and with which hash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobReport {
    /// The job.
    pub job: JobView,
    /// UTC nanoseconds at the base.
    pub made_at_ns: i64,
    /// Number of the newest event: the chain up to there belongs to the report.
    pub event_seq: u64,
    /// Hash of the newest event.
    pub event_hash: Digest,
    /// Its commands, in order.
    pub commands: Vec<CommandReport>,
    /// Its nodes, in the order of the server list.
    pub nodes: Vec<NodeReport>,
}

impl JobReport {
    /// Checks each receipt by the key of its node: some 20,000 a second.
    pub fn check_signatures(&mut self) {
        for node in &mut self.nodes {
            let key: Option<VerifyKey> = node.public_key.parse().ok();
            for delivery in &mut node.deliveries {
                let signed = delivery.receipt.as_ref().zip(key.as_ref());
                let is_valid = |(signed, key)| verify_receipt(key, signed).is_ok();
                delivery.is_signature_valid = signed.is_some_and(is_valid);
            }
        }
    }
}

/// A command of a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommandReport {
    /// Its place in the job.
    pub command_id: CommandId,
    /// What it does.
    #[serde(flatten)]
    pub op: Op,
    /// State.
    pub state: CommandState,
    /// Size of a put's content, once it is known.
    pub size: Option<u64>,
    /// BLAKE3 of a put's content at the base, once the upload is complete.
    pub blake3: Option<Digest>,
    /// UTC nanoseconds at which the base took the command.
    pub created_at_ns: i64,
}

/// A node of a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeReport {
    /// Its name.
    pub node: NodeName,
    /// Its Ed25519 key, base64: verifies the receipts.
    pub public_key: String,
    /// State of the node when the report was made.
    pub state: NodeState,
    /// UTC nanoseconds at which an operator expects it back, when it is away.
    #[serde(default)]
    pub expected_back_ns: Option<i64>,
    /// Its deliveries of the job.
    pub totals: Totals,
    /// The same one by one, in the order of the commands.
    pub deliveries: Vec<DeliveryReport>,
}

/// A delivery of a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeliveryReport {
    /// The command.
    pub command_id: CommandId,
    /// State.
    pub state: DeliveryState,
    /// Why it failed or waits.
    pub reason: Option<Reason>,
    /// For people.
    pub detail: Option<String>,
    /// UTC nanoseconds of the last change, at the base.
    pub updated_at_ns: i64,
    /// UTC nanoseconds at which the node was done, by its own clock.
    pub finished_at_ns: Option<i64>,
    /// Size by the receipt.
    pub size: Option<u64>,
    /// BLAKE3 by the receipt.
    pub blake3: Option<Digest>,
    /// From whom how many bytes came; `base` is the base, `origin` that of a live path.
    pub via: BTreeMap<String, u64>,
    /// What was reflected of a live path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<LiveTotals>,
    /// Changes of the source.
    pub switches: u32,
    /// It completed when the job had ended before.
    #[serde(default)]
    pub is_late: bool,
    /// The receipt's signature is one of the node's key: checked when the report was made.
    pub is_signature_valid: bool,
    /// The node's signed receipt.
    pub receipt: Option<SignedReceipt>,
}
