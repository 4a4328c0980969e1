//! Paths that go from one process to the next with their readers and publishers.
//!
//! ```text
//!  old   packets written --> halted: no packet comes --> sources flushed, batches at all shards
//!        --> frozen, recorded
//!  new   blocks made once --> owner, paths of shards with readers, publishers --> begin
//! ```
//! Recorded are: descriptions; the newest batches of a path (what its readers still need, its
//! newest group of pictures and what may be asked for again); the place, numbers and counts of each
//! reader; what a publisher's packets are judged by (addresses, SSRC, clock, reception) and how its
//! numbers go on. Rebuilt are: owners, lists of shards that listen, rings, tables of addresses.
//! So new readers begin at once with the picture that the old process had, and packets that were
//! lost are sent again. Measured rates begin anew; so does the wait for a sender report that came
//! before the first packet of its stream, and tables of MPEG-TS are looked for again.
//!
//! A path whose source is fetched, or made here (inputs, fallbacks, titles), comes without its
//! source: it is held, as when the source was lost, and the new process fetches it anew, which its
//! readers wait for at least as long as for a source on demand. What the camera sends meanwhile is
//! missing; numbers and time go on as if nothing were (`rewrite`). To hand over a conversation with
//! a camera in the middle would save that second of pictures; it would need records of all that
//! such a conversation can be about to do. Sockets of inputs go along, so that what is sent to them
//! waits there.
//!
//! A batch is named by its address in the old process, which is the same on all its shards. A place
//! in a ring is a batch, a run and a packet, so shards may be more, fewer, or others.
//!
//! Invariants: the next packet of a reader is the one that it would have been sent; a packet that
//! is not here any more is skipped as by a late reader. Bounds: `PACKETS_BYTES_MAX`, of which each
//! shard has its part, and each path its share (`budget`); a batch is checked as a publisher's.

mod block;
mod budget;
mod feed;
mod owner;
mod source;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use crate::base::ids::{RtpTs, ShardId};
use crate::base::time::Mono;
use crate::live::core::batch::{Generation, PacketBatch};
use crate::live::core::clock::ClockPoint;
use crate::live::core::description::{Description, LiveTrack};
use crate::live::core::message::SourceRef;
use crate::takeover::live::{ClockRecord, DescriptionRecord, TrackRecord};

pub use block::block_id;
pub use budget::{Tail, path_shares};
pub use feed::joined;

/// A path that another process has told, for one shard.
#[derive(Debug, Clone)]
pub struct TakenPath {
    /// Name.
    pub name: Arc<str>,
    /// Number of its source.
    pub generation: Generation,
    /// Its tracks and texts: one block for all shards, by which renewals know it.
    pub description: Arc<Description>,
    /// The newest packets, the oldest first.
    pub batches: Arc<[Arc<PacketBatch>]>,
    /// Places in `batches` by the numbers of the record.
    pub places: Arc<HashMap<u64, u64>>,
    /// The publisher that feeds it; `None`: it is held for one, or fetched anew.
    pub source: Option<SourceRef>,
    /// What the owner knows, if this shard is the owner.
    pub owner: Option<TakenOwner>,
    /// The shard has readers of it.
    pub has_readers: bool,
}

/// What the owner of a path knows.
#[derive(Debug, Clone, Default)]
pub struct TakenOwner {
    /// Shards with readers.
    pub listeners: Vec<ShardId>,
    /// Sources so far.
    pub sources_seen: u32,
    /// Batches so far.
    pub batches: u64,
    /// Until when readers wait, if they did so already.
    pub hold_until: Option<Mono>,
}

impl Description {
    /// For another process.
    #[must_use]
    pub fn record(&self) -> DescriptionRecord {
        let track = |track: &LiveTrack| TrackRecord {
            clock_rate_hz: track.clock_rate_hz,
            payload_types: track.payload_types.clone(),
            needs_sync: track.needs_sync,
            identity: track.identity.to_string(),
        };
        DescriptionRecord {
            sdp: self.sdp.to_string(),
            feedback_sdp: self.feedback_sdp.as_deref().map(str::to_owned),
            tracks: self.tracks.iter().map(track).collect(),
            awaits_sets: self.awaits_sets,
        }
    }

    /// As another process has told. `None`: no path can have it.
    #[must_use]
    pub fn of_record(record: DescriptionRecord) -> Option<Self> {
        let track = |track: TrackRecord| LiveTrack {
            clock_rate_hz: track.clock_rate_hz,
            payload_types: track.payload_types,
            needs_sync: track.needs_sync,
            identity: track.identity.into(),
        };
        let DescriptionRecord { sdp, feedback_sdp, tracks, awaits_sets } = record;
        let made = Self::new(sdp.into(), tracks.into_iter().map(track).collect()).ok()?;
        let feedback_sdp = feedback_sdp.map(String::into_boxed_str);
        Some(Self { feedback_sdp, awaits_sets, ..made })
    }
}

pub(super) fn clock_record(point: ClockPoint) -> ClockRecord {
    ClockRecord { utc_ns: point.utc_ns, ts: point.ts.0 }
}

pub(super) fn clock_of(record: ClockRecord) -> ClockPoint {
    ClockPoint { utc_ns: record.utc_ns, ts: RtpTs(record.ts) }
}

/// Memory of the packets that all shards record together: one thread of the new process reads them
/// while nothing is sent.
pub const PACKETS_BYTES_MAX: usize = 32 << 20;
