//! What the base is told at its start: times and limits with their defaults.

use std::time::Duration;

use crate::dist::ids::{BaseEpoch, Digest};
use crate::dist::probe::PROBE_BYTES;
use crate::dist::quota::Quotas;
use crate::dist::webhook::target::AllowedNetworks;

/// Options of a [`crate::dist::book::Book`].
#[derive(Debug, Clone)]
pub struct BookOptions {
    /// Address at which nodes fetch contents from the base, `ip:port`.
    pub base_addr: String,
    /// BLAKE3 of the token by which nodes join.
    pub join_token_hash: Digest,
    /// Bytes per second that the base may send.
    pub up_rate: Option<u64>,
    /// Seed of ids and tokens: 32 random bytes, in tests always the same.
    pub seed: [u8; 32],
    /// Epoch of the base; 0 when it has none.
    pub epoch: BaseEpoch,
    /// Orders that are for so many nodes or more go on from node to node; 0: never.
    pub relay_from: usize,
    /// The base has a command of its operator that mends a node.
    pub has_repair_hook: bool,
    /// Bytes that a node fetches before it is active again.
    pub probe_bytes: u64,
    /// Times.
    pub timeouts: Timeouts,
    /// Limits.
    pub limits: Limits,
    /// Networks that notifications may go to, beside the public Internet.
    pub hook_networks: AllowedNetworks,
    /// What clients may use.
    pub quotas: Quotas,
}

/// Times of the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// A node reports at least this often.
    pub heartbeat: Duration,
    /// A node that was not heard for this long is suspect: three heartbeats.
    pub suspect: Duration,
    /// A node that was not heard for this long is down.
    pub down: Duration,
    /// Commands are said again to a node that lives but does not take them.
    pub resend: Duration,
    /// Capabilities count for this long.
    pub capability: Duration,
    /// An open job in which nothing happens ends by itself.
    pub idle_job: Duration,
    /// An upload on which nothing moves is abandoned.
    pub idle_upload: Duration,
    /// Contents are kept at the base for this long after the end of their job.
    pub content_kept: Duration,
    /// Answers to requests with idempotency keys are kept for this long.
    pub answer_kept: Duration,
    /// A notification that was not taken is sent again after this, then after twice as long ..
    pub hook_retry: Duration,
    /// .. up to this.
    pub hook_retry_max: Duration,
    /// A notification that was not taken for this long is dropped.
    pub hook_kept: Duration,
    /// Shortest wait period: behind it nodes with open deliveries are asked.
    pub wait: Duration,
    /// For an answer of a node that was asked.
    pub query: Duration,
    /// For a probe of a node that is back.
    pub probe: Duration,
    /// For the effect of each repair try; behind the last one the node is given up.
    pub repair: [Duration; 3],
}

/// Limits of the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Jobs in memory. The oldest that have ended make room; the ledger keeps them all.
    pub jobs: usize,
    /// Commands of a job.
    pub commands: usize,
    /// Deliveries of all jobs in memory.
    pub deliveries: usize,
    /// Nodes.
    pub nodes: usize,
    /// Answers to requests with idempotency keys; the oldest make room.
    pub answers: usize,
    /// Bytes of a content.
    pub content_bytes: u64,
    /// Deliveries in one report.
    pub report_rows: u64,
    /// Notifications of all jobs in memory.
    pub hooks: usize,
    /// Notifications that are sent at once.
    pub hooks_open: usize,
    /// Those of them that go to one host.
    pub hooks_per_host: usize,
}

impl BookOptions {
    /// Defaults, and a random seed.
    #[must_use]
    pub fn new(base_addr: String, join_token_hash: Digest) -> Self {
        Self {
            base_addr,
            join_token_hash,
            up_rate: None,
            seed: rand::random(),
            epoch: BaseEpoch(0),
            relay_from: RELAY_FROM,
            has_repair_hook: false,
            probe_bytes: PROBE_BYTES,
            timeouts: Timeouts::default(),
            limits: Limits::default(),
            hook_networks: AllowedNetworks::default(),
            quotas: Quotas::default(),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        const HOUR: Duration = Duration::from_secs(3_600);
        const DAY: Duration = Duration::from_secs(86_400);
        Self {
            heartbeat: Duration::from_secs(2),
            suspect: Duration::from_secs(6),
            down: Duration::from_secs(15),
            resend: Duration::from_secs(10),
            capability: HOUR,
            idle_job: DAY,
            idle_upload: DAY,
            content_kept: DAY,
            answer_kept: DAY,
            hook_retry: Duration::from_secs(5),
            hook_retry_max: HOUR,
            hook_kept: DAY * 3,
            wait: Duration::from_secs(30),
            query: Duration::from_secs(2),
            probe: Duration::from_secs(30),
            repair: [5, 30, 120].map(Duration::from_secs),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            jobs: 10_000,
            commands: 200_000,
            deliveries: 4_000_000,
            nodes: 20_000,
            answers: 100_000,
            content_bytes: 1 << 50,
            report_rows: 200_000,
            hooks: 50_000,
            hooks_open: 32,
            hooks_per_host: 4,
        }
    }
}

/// To fewer nodes the base says its orders as fast by itself: a stream is open to each of them, and
/// a node that hands on has to connect first.
pub const RELAY_FROM: usize = 24;

/// Nanoseconds of a duration.
pub(super) fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
