//! What shards tell each other of paths. All of it goes through the inboxes, in order.
//!
//! ```text
//!  source's shard --Claim, Feed, Describe, Release--> home --Granted, Refused, Evicted, .. -> back
//!  reader's shard --Subscribe, WantSync, ..---------> home --Subscribed, Batch, Described, ..->
//! ```
//! A message to a home names the path; the home is where [`home_of`] says. What comes back to a
//! source names it by its number on its shard. DESIGN section 5.1.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::ShardId;
use crate::live::core::batch::{Generation, PacketBatch};
use crate::live::core::description::Description;
use crate::live::core::groups::Group;
use crate::live::core::limits::{IDLE_CLOSE, READERS_HOLD};
use crate::live::core::ring::RingLimits;

/// The shard that owns a path: the same answer everywhere, without asking.
#[must_use]
pub fn home_of(path: &str, shard_count: u8) -> ShardId {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    let place = hasher.finish() % u64::from(shard_count.max(1));
    ShardId(u8::try_from(place).unwrap_or(0))
}

/// A source, as its home knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SourceRef {
    /// Where it lives.
    pub shard: ShardId,
    /// Its shard's own number for it.
    pub number: u32,
}

/// Where a path's packets come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SourceKind {
    /// Whoever announces it.
    #[default]
    Publish,
    /// We fetch it: when a reader wants it.
    OnDemand,
    /// We fetch it, always.
    Always,
}

/// The configuration of a path, as every shard reads it: whoever sends a message to a home sends it
/// along. The home's shard puts its own in its place: of two that read a new configuration, one is
/// first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathRules {
    /// Where its packets come from.
    pub kind: SourceKind,
    /// A second publisher takes the path from the first.
    pub may_override: bool,
    /// How long readers wait for a publisher to come back.
    pub hold: Duration,
    /// How long a source on demand lives without readers.
    pub idle_close: Duration,
    /// What is kept for instant start.
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

/// To the home of `path`.
#[derive(Debug)]
pub struct ToHome {
    /// Which path.
    pub path: Arc<str>,
    /// What about it.
    pub ask: Ask,
}

/// What a home is told or asked.
#[derive(Debug)]
pub enum Ask {
    /// A source wants the path.
    Claim {
        /// Who.
        source: SourceRef,
        /// What it would carry.
        description: Arc<Description>,
        /// It is one that we fetch.
        is_pulled: bool,
        /// Of the path.
        rules: Arc<PathRules>,
    },
    /// Packets of the source.
    Feed {
        /// By which the source holds the path.
        generation: Generation,
        /// They.
        batch: Arc<PacketBatch>,
    },
    /// The source says something else of the same tracks.
    Describe {
        /// By which it holds the path.
        generation: Generation,
        /// What it says now.
        description: Arc<Description>,
    },
    /// A publisher has the path still, as far as its shard knows: said again and again.
    Hold {
        /// Who.
        source: SourceRef,
        /// By which it holds the path.
        generation: Generation,
        /// What it says now.
        description: Arc<Description>,
    },
    /// A shard listens still, as far as it knows: said again and again.
    Listen {
        /// Which.
        shard: ShardId,
        /// Of the source that it knows.
        generation: Generation,
        /// What it knows of it.
        description: Arc<Description>,
    },
    /// The source has gone.
    Release {
        /// By which it held the path.
        generation: Generation,
    },
    /// The path is to be fetched always: from the configuration, when it is read. Nothing to do
    /// when it is being fetched already.
    Open {
        /// Of the path.
        rules: Arc<PathRules>,
    },
    /// The configuration says something else of the path.
    Configure {
        /// Of the path.
        rules: Arc<PathRules>,
        /// Its packets come from somewhere else: the source that it has ends.
        is_other_source: bool,
    },
    /// What was to be fetched cannot be had now.
    PullFailed {
        /// Why, for people.
        reason: String,
    },
    /// A shard has readers.
    Subscribe {
        /// Which.
        shard: ShardId,
        /// Of the path.
        rules: Arc<PathRules>,
    },
    /// A shard has no readers any more.
    Unsubscribe {
        /// Which.
        shard: ShardId,
    },
    /// A reader waits for a sync sample.
    WantSync,
    /// Sessions of a shard want the path's group, or listen to it still.
    JoinGroup {
        /// Which shard.
        shard: ShardId,
        /// Of this stay in the group, for the answer.
        serial: u32,
    },
    /// The last session of a shard has left the group.
    LeaveGroup {
        /// Which shard.
        shard: ShardId,
    },
    /// An operator ends source and readers.
    Kick,
}

impl Ask {
    /// The rules that come with it.
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

/// What a home tells a shard of a path.
#[derive(Debug)]
pub enum ToShard {
    /// The path is this source's.
    Granted {
        /// The shard's own number for it.
        number: u32,
        /// To be told with every batch.
        generation: Generation,
    },
    /// The path is not for this source.
    Refused {
        /// The shard's own number for it.
        number: u32,
        /// Why.
        why: RefusedError,
    },
    /// The path is this source's no more.
    Evicted {
        /// The shard's own number for it.
        number: u32,
        /// Somebody else has it; otherwise an operator ended it, or nobody wants it.
        is_overridden: bool,
    },
    /// Ask the source for a sync sample.
    SyncWanted {
        /// The shard's own number for it.
        number: u32,
    },
    /// The shard listens from now on.
    Subscribed {
        /// Of what is fed now.
        generation: Generation,
        /// What the path carries.
        description: Arc<Description>,
        /// Newest group of pictures, as far as it is kept.
        snapshot: Vec<Arc<PacketBatch>>,
    },
    /// There is nothing to listen to.
    NotThere(RefusedError),
    /// Packets.
    Batch(Arc<PacketBatch>),
    /// The source has gone; it may come back.
    Lost,
    /// The path has a source again, or another one.
    Resumed {
        /// Of what is fed from now on.
        generation: Generation,
        /// What it carries.
        description: Arc<Description>,
    },
    /// The source says something else of the same tracks.
    Described {
        /// Of what is fed now.
        generation: Generation,
        /// What it says now.
        description: Arc<Description>,
    },
    /// Nothing comes any more: the readers end.
    Ended,
    /// The answer to `JoinGroup`.
    Joined {
        /// As it was asked: another one is of a stay that has ended.
        serial: u32,
        /// The path's group; `None`: there is none.
        group: Option<Group>,
    },
}

/// What one shard sends to another.
#[derive(Debug)]
pub enum LiveMessage {
    /// To a home there.
    ToHome(ToHome),
    /// From a home here.
    ToShard {
        /// Of which path.
        path: Arc<str>,
        /// What.
        note: ToShard,
    },
}

impl LiveMessage {
    /// Packets are lost first when an inbox is full. What else is lost then is said again: asks
    /// that were not answered (`Again`), and what each shard holds (`RENEW_INTERVAL`).
    #[must_use]
    pub fn is_packets(&self) -> bool {
        matches!(
            self,
            Self::ToHome(ToHome { ask: Ask::Feed { .. }, .. })
                | Self::ToShard { note: ToShard::Batch(_), .. }
        )
    }
}

/// Why a source or a reader is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RefusedError {
    /// Another source has it.
    #[error("the path has a source already")]
    Occupied,
    /// It is one that we fetch.
    #[error("the path is not published to")]
    NotPublished,
    /// As many as may have their home here.
    #[error("too many paths")]
    TooManyPaths,
    /// Nobody feeds it.
    #[error("the path has no source")]
    NoSource,
    /// What is to be fetched did not come in time.
    #[error("the source of the path does not answer")]
    SourceSilent,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_is_the_same_everywhere_and_paths_are_spread() {
        let mut counts = [0; 4];
        for n in 0..400 {
            let name = format!("live/cam{n}");
            let home = home_of(&name, 4);
            assert_eq!(home, home_of(&name.clone(), 4));
            counts[usize::from(home.0)] += 1;
        }
        assert!(counts.iter().all(|count| (60..140).contains(count)), "{counts:?}");
        assert_eq!(home_of("live/cam1", 1), ShardId(0));
        assert_eq!(home_of("live/cam1", 0), ShardId(0));
    }
}
