//! What the outside is shown of paths and their readers.

use serde::Serialize;

use super::path::{LivePath, ReaderKey};
use super::reader::{Carrier, SkipReason};

/// A path, as its home knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HomeInfo {
    /// Its name.
    pub path: String,
    /// `live`, `held` (its source has gone, readers wait), `starting`, `failed` (it is fetched, and
    /// will be tried again) or `idle`.
    pub state: &'static str,
    /// Why its source cannot be had, since packets came from it last.
    pub reason: Option<String>,
    /// How many tries have failed in a row, and how long it was waited for the next one then.
    pub failed_tries: u32,
    /// The same.
    pub retry_after_s: Option<u64>,
    /// Shard of its source.
    pub source_shard: Option<u8>,
    /// Sources that it has had since it is known.
    pub sources_seen: u32,
    /// Tracks.
    pub tracks: usize,
    /// Shards that have readers of it.
    pub listening_shards: usize,
    /// Batches that came.
    pub batches: u64,
    /// Memory of what is kept for instant start.
    pub kept_bytes: usize,
    /// A new reader has a picture at once.
    pub has_cached_picture: bool,
    /// The group that it is sent to.
    pub group: Option<String>,
}

/// A reader of a path, beside what its session shows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReaderInfo {
    /// RTP packets sent, all streams.
    pub packets_sent: u64,
    /// RTP payload bytes sent, all streams.
    pub payload_bytes_sent: u64,
    /// Packets that it was not sent.
    pub packets_skipped: u64,
    /// How often it skipped since it read too slowly from its connection.
    pub skips_tcp_window: u64,
    /// How often it skipped since socket or shard was behind.
    pub skips_lag_budget: u64,
    /// How often what it should have got had left the ring.
    pub skips_evicted: u64,
    /// How far it is behind the newest packet, in seconds.
    pub lag_s: f64,
    /// `udp`, `tcp` or `multicast`.
    pub carrier: &'static str,
}

impl LivePath {
    /// What the outside is shown of a reader.
    #[must_use]
    pub fn reader_info(&self, key: ReaderKey) -> Option<ReaderInfo> {
        let reader = self.reader(key)?;
        let skipped = reader.skipped();
        let skips = |reason: SkipReason| skipped.skips[reason as usize];
        Some(ReaderInfo {
            packets_sent: reader.streams.iter().map(|stream| stream.packets_sent).sum(),
            payload_bytes_sent: reader.streams.iter().map(|stream| stream.payload_bytes_sent).sum(),
            packets_skipped: skipped.packets,
            skips_tcp_window: skips(SkipReason::TcpWindow),
            skips_lag_budget: skips(SkipReason::LagBudget),
            skips_evicted: skips(SkipReason::Evicted),
            lag_s: self.lag(key).as_secs_f64(),
            carrier: match reader.carrier {
                Carrier::Udp => "udp",
                Carrier::Tcp => "tcp",
                Carrier::Multicast => "multicast",
            },
        })
    }
}
