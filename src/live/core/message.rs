//! Messages between shards about paths. All of them pass through the inboxes, in order.
//!
//! ```text
//!  source's shard --Claim, Feed, Describe, Release--> owner --Granted, Refused, Evicted, ..-> back
//!  reader's shard --Subscribe, WantSync, ..---------> owner --Subscribed, Batch, Described, ..->
//! ```
//! A message to an owner names the path; [`owner_of`] gives the owner's shard. A message back to a
//! source names the source by its number on its shard. DESIGN section 5.1.
//!
//! A batch is one `Arc` in different envelopes: `Feed` carries the claim, which the owner checks;
//! `Batch` carries none, because only the owner sends it. So no shard can take one for the other.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::ShardId;
use crate::live::core::batch::{Generation, PacketBatch};
use crate::live::core::description::Description;
use crate::live::core::groups::Group;
use crate::live::core::limits::{IDLE_CLOSE, READERS_HOLD};
use crate::live::core::ring::RingLimits;

/// The shard that owns a path: every shard computes the same answer without asking.
#[must_use]
pub fn owner_of(path: &str, shard_count: u8) -> ShardId {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    let place = hasher.finish() % u64::from(shard_count.max(1));
    ShardId(u8::try_from(place).unwrap_or(0))
}

/// A source as known to its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SourceRef {
    /// Shard of the source.
    pub shard: ShardId,
    /// Number of the source on that shard.
    pub number: u32,
}

/// Origin of a path's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SourceKind {
    /// A publisher announces the path.
    #[default]
    Publish,
    /// The server fetches the path while readers want it.
    OnDemand,
    /// The server fetches the path always.
    Always,
}

/// The configuration of a path as a shard has read it. A shard sends the rules along with each
/// message to an owner. The owner's shard puts its own rules in their place: of two shards that
/// read a new configuration, one is first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathRules {
    /// Origin of the path's packets.
    pub kind: SourceKind,
    /// A second publisher takes the path over from the first.
    pub may_override: bool,
    /// Time for which readers wait until a publisher comes back.
    pub hold: Duration,
    /// Time for which a source on demand lives without readers.
    pub idle_close: Duration,
    /// Limits of the ring for instant start.
    pub ring: RingLimits,
}

impl Default for PathRules {
    fn default() -> Self {
        Self {
            kind: SourceKind::Publish,
            may_override: false,
            hold: READERS_HOLD,
            idle_close: IDLE_CLOSE,
            ring: RingLimits::default(),
        }
    }
}

/// A message to the owner of `path`.
#[derive(Debug)]
pub struct ToOwner {
    /// Name of the path.
    pub path: Arc<str>,
    /// Request or notification.
    pub request: OwnerRequest,
}

/// A request or a notification to an owner.
#[derive(Debug)]
pub enum OwnerRequest {
    /// A source requests the path.
    Claim {
        /// The source.
        source: SourceRef,
        /// Tracks and SDP of the source.
        description: Arc<Description>,
        /// The server fetches the source.
        is_pulled: bool,
        /// Rules of the path.
        rules: Arc<PathRules>,
    },
    /// Packets of the source.
    Feed {
        /// Claim under which this batch was received; a stale claim is dropped.
        generation: Generation,
        /// Packets, in order of arrival.
        batch: Arc<PacketBatch>,
    },
    /// The source has changed the description of the same tracks.
    Describe {
        /// Claim of the source; a stale claim is dropped.
        generation: Generation,
        /// The new description.
        description: Arc<Description>,
    },
    /// Renews the claim of a publisher, every `RENEW_INTERVAL`.
    Hold {
        /// The source.
        source: SourceRef,
        /// Claim of the source.
        generation: Generation,
        /// The present description.
        description: Arc<Description>,
    },
    /// Renews the subscription of a shard, every `RENEW_INTERVAL`.
    Listen {
        /// The shard.
        shard: ShardId,
        /// Claim of the source that the shard knows.
        generation: Generation,
        /// Description that the shard knows.
        description: Arc<Description>,
    },
    /// The source has ended.
    Release {
        /// Claim under which the source held the path.
        generation: Generation,
    },
    /// The configuration has been read: the path is to be fetched always. A path that is being
    /// fetched already is left alone.
    Open {
        /// Rules of the path.
        rules: Arc<PathRules>,
    },
    /// The configuration of the path has changed.
    Configure {
        /// Rules of the path.
        rules: Arc<PathRules>,
        /// The path has another source now: the present source ends.
        is_other_source: bool,
    },
    /// The source of a path that is fetched cannot be reached or received now.
    PullFailed {
        /// The cause, as text for operators.
        reason: String,
    },
    /// A shard has readers of the path.
    Subscribe {
        /// The shard.
        shard: ShardId,
        /// Rules of the path.
        rules: Arc<PathRules>,
    },
    /// A shard has no readers of the path any more.
    Unsubscribe {
        /// The shard.
        shard: ShardId,
    },
    /// A reader waits for a key frame.
    WantSync,
    /// Sessions of a shard request the path's group, or still listen to the group.
    JoinGroup {
        /// The shard.
        shard: ShardId,
        /// Number of the shard's stay in the group; the answer repeats this number.
        serial: u32,
    },
    /// The last session of a shard has left the group.
    LeaveGroup {
        /// The shard.
        shard: ShardId,
    },
    /// An operator ends the source and the readers of the path.
    Kick,
}

impl OwnerRequest {
    /// The rules that the message carries, if any.
    pub fn rules_mut(&mut self) -> Option<&mut Arc<PathRules>> {
        match self {
            Self::Claim { rules, .. }
            | Self::Open { rules }
            | Self::Configure { rules, .. }
            | Self::Subscribe { rules, .. } => Some(rules),
            Self::Feed { .. }
            | Self::Release { .. }
            | Self::PullFailed { .. }
            | Self::Describe { .. }
            | Self::Unsubscribe { .. }
            | Self::WantSync
            | Self::JoinGroup { .. }
            | Self::LeaveGroup { .. }
            | Self::Hold { .. }
            | Self::Listen { .. }
            | Self::Kick => None,
        }
    }
}

/// A message from an owner to a shard about a path.
#[derive(Debug)]
pub enum Notification {
    /// The source holds the path from now on.
    Granted {
        /// Number of the source on its shard.
        number: u32,
        /// Claim of the source, to be sent with every batch.
        generation: Generation,
    },
    /// The source does not get the path.
    Refused {
        /// Number of the source on its shard.
        number: u32,
        /// The cause.
        why: RefusedError,
    },
    /// The source does not hold the path any more.
    Evicted {
        /// Number of the source on its shard.
        number: u32,
        /// Another source holds the path; otherwise an operator ended it, or no reader wants it.
        is_overridden: bool,
    },
    /// The source is to be asked for a key frame.
    SyncWanted {
        /// Number of the source on its shard.
        number: u32,
    },
    /// The shard receives the path's batches from now on.
    Subscribed {
        /// Claim of the present source.
        generation: Generation,
        /// Tracks and SDP of the path.
        description: Arc<Description>,
        /// The newest group of pictures, as far as the ring has kept it.
        snapshot: Vec<Arc<PacketBatch>>,
    },
    /// The path cannot be subscribed to, with the cause.
    NotThere(RefusedError),
    /// Packets of the path.
    Batch(Arc<PacketBatch>),
    /// The source has ended; the path is held for a successor.
    Lost,
    /// The path has a source again, or another source.
    Resumed {
        /// Claim of the source.
        generation: Generation,
        /// Tracks and SDP of the source.
        description: Arc<Description>,
    },
    /// The source has changed the description of the same tracks.
    Described {
        /// Claim of the present source.
        generation: Generation,
        /// The new description.
        description: Arc<Description>,
    },
    /// The path has ended: its readers end.
    Ended,
    /// The answer to `JoinGroup`.
    Joined {
        /// The number in `JoinGroup`; another number answers a stay that has ended.
        serial: u32,
        /// The path's group; `None` when no group is free.
        group: Option<Group>,
    },
}

/// A message from one shard to another.
#[derive(Debug)]
pub enum LiveMessage {
    /// To an owner on the receiving shard.
    ToOwner(ToOwner),
    /// From an owner on the sending shard.
    ToShard {
        /// Name of the path.
        path: Arc<str>,
        /// The message.
        notification: Notification,
    },
}

impl LiveMessage {
    /// Whether the message carries packets: packets are dropped first when an inbox is full. Other
    /// messages that are dropped are repeated: requests without an answer (`RequestRepeat`), and
    /// what each shard holds (`RENEW_INTERVAL`).
    #[must_use]
    pub fn is_packets(&self) -> bool {
        matches!(
            self,
            Self::ToOwner(ToOwner { request: OwnerRequest::Feed { .. }, .. })
                | Self::ToShard { notification: Notification::Batch(_), .. }
        )
    }
}

/// Why the owner of a path refuses a source or a shard with readers. It crosses shards; `PathError`
/// does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RefusedError {
    /// Another source holds the path.
    #[error("the path has a source already")]
    Occupied,
    /// A publisher asks for a path that is fetched, or a fetched source for one that is not.
    #[error("the path is configured for another kind of source")]
    NotPublished,
    /// The owner's shard has `PATHS_MAX` paths.
    #[error("too many paths")]
    TooManyPaths,
    /// No source feeds the path.
    #[error("the path has no source")]
    NoSource,
    /// The source of a path that is fetched did not answer within `PULL_START_MAX`.
    #[error("the source of the path does not answer")]
    SourceSilent,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_is_the_same_everywhere_and_paths_are_spread() {
        let mut counts = [0; 4];
        for n in 0..400 {
            let name = format!("live/cam{n}");
            let owner = owner_of(&name, 4);
            assert_eq!(owner, owner_of(&name.clone(), 4));
            counts[usize::from(owner.0)] += 1;
        }
        assert!(counts.iter().all(|count| (60..140).contains(count)), "{counts:?}");
        assert_eq!(owner_of("live/cam1", 1), ShardId(0));
        assert_eq!(owner_of("live/cam1", 0), ShardId(0));
    }
}
