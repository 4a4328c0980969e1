//! Figures of paths, their sources and their readers, as the API shows them.
//!
//! ```text
//!  owner's shard --OwnerInfo--.
//!  source's shard --SourceInfo--> PathPart each --merge--> PathInfo each path
//!  readers' shards --ReadersInfo--'
//! ```
//! Invariant: a path is shown while its owner knows it; what other shards still say of a path that
//! its owner has forgotten is left out.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::base::carrier::Carrier;
use crate::live::core::failover::FailoverInfo;
use crate::live::core::path::{LivePath, PathKey, ReaderKey};
use crate::live::core::reader::ReaderCounts;
use crate::live::core::reader::{Reader, SkipReason};
use crate::live::core::source::SourceCounts;
use crate::metrics::paths::{DROPS, PathTotals, SKIPS};

/// A path as its owner knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OwnerInfo {
    /// Name of the path.
    pub path: String,
    /// `live`, `held` (its source has ended, readers wait), `starting`, `failed` (the source is
    /// fetched and will be tried again), `idle`, or `lineup` (it has channels instead of a source).
    pub state: &'static str,
    /// Why the source cannot be had; `None` as soon as packets arrive.
    pub reason: Option<String>,
    /// Tries that failed in a row.
    pub failed_tries: u32,
    /// Wait between the newest failed try and the next one.
    pub retry_after_s: Option<u64>,
    /// Shard of the source.
    pub source_shard: Option<u8>,
    /// Sources that the path has had since its owner knows it.
    pub sources_seen: u32,
    /// Number of tracks.
    pub tracks: usize,
    /// Shards with readers of the path.
    pub listening_shards: usize,
    /// Batches received.
    pub batches: u64,
    /// Memory of the ring for instant start.
    pub kept_bytes: usize,
    /// A new reader starts with a key frame at once.
    pub has_cached_picture: bool,
    /// Multicast group that the path is sent to.
    pub group: Option<String>,
}

impl OwnerInfo {
    /// A configured path without a source or a reader yet.
    #[must_use]
    pub fn idle(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            state: "idle",
            reason: None,
            failed_tries: 0,
            retry_after_s: None,
            source_shard: None,
            sources_seen: 0,
            tracks: 0,
            listening_shards: 0,
            batches: 0,
            kept_bytes: 0,
            has_cached_picture: false,
            group: None,
        }
    }
}

/// A source of a path as its shard knows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SourceInfo {
    /// `publish`, `rtsp`, `udp`, `file`, `title` or `fallback`.
    pub kind: &'static str,
    /// `announced` (the source holds the path and does not send yet) or `recording`.
    pub state: &'static str,
    /// URL that the source is fetched from, without a password; `None` for a publisher.
    pub url: Option<String>,
    /// Address of the sender.
    pub peer: String,
    /// The title that plays, by its path in URLs.
    pub title: Option<String>,
    /// Position in the title.
    pub position_s: Option<f64>,
    /// `udp` or `tcp`; `None` before its first SETUP.
    pub transport: Option<&'static str>,
    /// `User-Agent` of a publisher.
    pub user_agent: Option<String>,
    /// Session of a publisher.
    pub session: Option<String>,
    /// Shard of the source.
    pub shard: u8,
    /// When the source began to send, in UTC (RFC 3339).
    pub since: Option<String>,
    /// Seconds since `since`.
    pub age_s: f64,
    /// Packets taken.
    pub packets: u64,
    /// Bytes of the packets taken.
    pub bytes: u64,
    /// Bit rate over the last five seconds.
    pub bits_per_s: u64,
    /// Packets lost; negative when packets arrived twice.
    pub packets_lost: i64,
    /// Packets dropped, by cause.
    pub packets_dropped: BTreeMap<&'static str, u64>,
    /// Key frames received.
    pub sync_samples: u64,
    /// Length of the newest complete group of pictures.
    pub gop_s: Option<f64>,
    /// Tracks in the order of the description.
    pub tracks: Vec<SourceTrackInfo>,
}

/// One track of a source.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SourceTrackInfo {
    /// Index of the track, as in `trackID=`.
    pub track: u8,
    /// `video`, `audio`, ...
    pub media: String,
    /// Encoding name in the description.
    pub encoding: String,
    /// Rate of the RTP clock.
    pub clock_rate_hz: u32,
    /// Payload type of the newest packet; before any packet, the first of the description.
    pub payload_type: Option<u8>,
    /// SSRC of the RTP stream that is taken, hexadecimal.
    pub ssrc: Option<String>,
    /// Packets taken.
    pub packets: u64,
    /// Bytes of the packets taken.
    pub bytes: u64,
    /// Packets lost; negative when packets arrived twice.
    pub packets_lost: i64,
    /// Interarrival jitter (RFC 3550 s6.4.1).
    pub jitter_s: Option<f64>,
    /// Time since the newest packet.
    pub last_packet_age_s: Option<f64>,
}

/// Number and lag of a path's readers.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct ReadersInfo {
    /// Readers over UDP.
    pub udp: u64,
    /// Readers over TCP.
    pub tcp: u64,
    /// Multicast senders.
    pub multicast: u64,
    /// Viewers by WebRTC.
    pub webrtc: u64,
    /// Clients of HLS, as they are told apart.
    pub hls: u64,
    /// Sum of the readers' lags behind the newest packet, in seconds.
    pub lag_s_sum: f64,
    /// Largest lag of a reader behind the newest packet, in seconds.
    pub lag_s_max: f64,
}

/// The part of a path that one shard knows.
#[derive(Debug, Clone)]
pub struct PathPart {
    /// Name of the path.
    pub path: Arc<str>,
    /// Figures of the owner, on the owner's shard.
    pub owner: Option<OwnerInfo>,
    /// Sources of a path with fallbacks, on the owner's shard.
    pub failover: Option<FailoverInfo>,
    /// Figures of the source, on the source's shard.
    pub source: Option<SourceInfo>,
    /// Readers on this shard.
    pub readers: ReadersInfo,
    /// Counters of this shard.
    pub totals: PathTotals,
    /// Sessions of a line-up on this shard, by the number of the channel that they play.
    pub channels: BTreeMap<u16, usize>,
}

/// A page of what one shard knows of paths. A path may have parts on several pages: `merge` puts
/// these parts together.
#[derive(Debug, Clone, Default)]
pub struct PathsPage {
    /// Parts of paths.
    pub parts: Vec<PathPart>,
    /// Start of the next page; `None` on the last page.
    pub next: Option<PathsPlace>,
}

/// Start of a page of paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathsPlace {
    /// With the owners after this name.
    Owners(Option<Arc<str>>),
    /// With the sources after this number.
    Sources(Option<u32>),
    /// With the readers of a path.
    Readers {
        /// Index of the path.
        place: usize,
        /// Key of that path; a path with another key begins with its first reader.
        path: Option<PathKey>,
        /// Index of the reader.
        reader: usize,
    },
    /// With the counters.
    Totals,
}

impl Default for PathsPlace {
    fn default() -> Self {
        Self::Owners(None)
    }
}

impl PathPart {
    /// A path without any figures yet.
    #[must_use]
    pub fn new(path: Arc<str>) -> Self {
        let (readers, totals) = (ReadersInfo::default(), PathTotals::default());
        let channels = BTreeMap::new();
        Self { path, owner: None, failover: None, source: None, readers, totals, channels }
    }
}

/// A path as all shards together know it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PathInfo {
    /// Figures of the owner.
    #[serde(flatten)]
    pub owner: OwnerInfo,
    /// Figures of the source.
    pub source: Option<SourceInfo>,
    /// Sources of a path with fallbacks.
    pub failover: Option<FailoverInfo>,
    /// Readers on all shards.
    pub readers: ReadersInfo,
    /// Sessions of a line-up, by the number of the channel that they play.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub channels: BTreeMap<u16, usize>,
    /// RTP packets sent since the server's start, by transport.
    pub packets_sent: BTreeMap<&'static str, u64>,
    /// RTP payload bytes sent since the server's start, by transport.
    pub payload_bytes_sent: BTreeMap<&'static str, u64>,
    /// Skips of late readers since the server's start, by cause.
    pub skips: BTreeMap<&'static str, u64>,
    /// Packets that late readers were not sent since the server's start.
    pub packets_skipped: u64,
}

/// Puts together the parts of all shards, sorted by name.
#[must_use]
pub fn merge(parts: Vec<PathPart>) -> Vec<PathInfo> {
    let mut merged: BTreeMap<Arc<str>, PathPart> = BTreeMap::new();
    for part in parts {
        let name = Arc::clone(&part.path);
        let sum = merged.entry(Arc::clone(&name)).or_insert_with(|| PathPart::new(name));
        sum.owner = part.owner.or_else(|| sum.owner.take());
        sum.failover = part.failover.or_else(|| sum.failover.take());
        sum.source = newer(sum.source.take(), part.source);
        sum.readers.add(&part.readers);
        sum.totals.add(&part.totals);
        for (number, sessions) in part.channels {
            *sum.channels.entry(number).or_default() += sessions;
        }
    }
    merged.into_values().filter_map(PathInfo::of).collect()
}

impl PathInfo {
    fn of(part: PathPart) -> Option<Self> {
        let PathPart { owner, failover, source, readers, totals, channels, .. } = part;
        Some(Self {
            owner: owner?,
            source,
            failover,
            readers,
            packets_sent: by_name(&Carrier::LABELS, &totals.packets_sent),
            payload_bytes_sent: by_name(&Carrier::LABELS, &totals.payload_bytes_sent),
            skips: by_name(&SKIPS, &totals.skips),
            packets_skipped: totals.packets_skipped,
            channels,
        })
    }
}

/// A source that was overridden may still be listed beside its successor: the newer one counts.
fn newer(a: Option<SourceInfo>, b: Option<SourceInfo>) -> Option<SourceInfo> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.age_s < a.age_s { b } else { a }),
        (a, b) => a.or(b),
    }
}

/// Pairs counts with their names.
#[must_use]
pub fn by_name(names: &[&'static str], counts: &[u64]) -> BTreeMap<&'static str, u64> {
    names.iter().copied().zip(counts.iter().copied()).collect()
}

impl ReadersInfo {
    /// Adds one reader.
    pub fn add_reader(&mut self, carrier: Carrier, lag_s: f64) {
        *match carrier {
            Carrier::Udp => &mut self.udp,
            Carrier::Tcp => &mut self.tcp,
            Carrier::Multicast => &mut self.multicast,
        } += 1;
        self.lag_s_sum += lag_s;
        self.lag_s_max = self.lag_s_max.max(lag_s);
    }

    fn add(&mut self, other: &Self) {
        self.udp += other.udp;
        self.tcp += other.tcp;
        self.multicast += other.multicast;
        self.webrtc += other.webrtc;
        self.hls += other.hls;
        self.lag_s_sum += other.lag_s_sum;
        self.lag_s_max = self.lag_s_max.max(other.lag_s_max);
    }
}

/// A reader of a path, in addition to what its session shows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReaderInfo {
    /// RTP packets sent, all streams.
    pub packets_sent: u64,
    /// RTP payload bytes sent, all streams.
    pub payload_bytes_sent: u64,
    /// Packets that the reader was not sent.
    pub packets_skipped: u64,
    /// Skips because the client read too slowly from its connection.
    pub skips_tcp_window: u64,
    /// Skips because the socket or the shard was behind.
    pub skips_lag_budget: u64,
    /// Skips because the next packets had left the ring.
    pub skips_evicted: u64,
    /// Lag behind the newest packet, in seconds.
    pub lag_s: f64,
    /// `udp`, `tcp` or `multicast`.
    pub carrier: &'static str,
}

impl LivePath {
    /// Figures of a reader.
    #[must_use]
    pub fn reader_info(&self, key: ReaderKey) -> Option<ReaderInfo> {
        let reader = self.reader(key)?;
        let ReaderCounts { skipped, sent: (packets_sent, payload_bytes_sent) } = reader.counts();
        let skips = |reason: SkipReason| skipped.skips[reason as usize];
        Some(ReaderInfo {
            packets_sent,
            payload_bytes_sent,
            packets_skipped: skipped.packets,
            skips_tcp_window: skips(SkipReason::TcpWindow),
            skips_lag_budget: skips(SkipReason::LagBudget),
            skips_evicted: skips(SkipReason::Evicted),
            lag_s: self.lag(key).as_secs_f64(),
            carrier: reader.carrier.label(),
        })
    }
}

/// Counters that a reader adds to those of its path.
#[must_use]
pub fn reader_totals(reader: &Reader) -> PathTotals {
    let (skipped, carrier) = (reader.skipped(), reader.carrier as usize);
    let mut totals = PathTotals {
        skips: skipped.skips,
        packets_skipped: skipped.packets,
        ..PathTotals::default()
    };
    (totals.packets_sent[carrier], totals.payload_bytes_sent[carrier]) = reader.sent();
    totals
}

/// Counters that a source adds to those of its path.
#[must_use]
pub fn source_totals(counts: &SourceCounts, packets_lost: i64) -> PathTotals {
    PathTotals {
        packets_received: counts.packets,
        bytes_received: counts.bytes,
        packets_lost: u64::try_from(packets_lost).unwrap_or(0),
        packets_dropped: counts.dropped,
        ..PathTotals::default()
    }
}

/// Packets of a source that were dropped, by cause.
#[must_use]
pub fn drops(counts: &SourceCounts) -> BTreeMap<&'static str, u64> {
    by_name(&DROPS, &counts.dropped)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(path: &str) -> PathPart {
        PathPart::new(path.into())
    }

    fn source(peer: &str, age_s: f64) -> SourceInfo {
        SourceInfo {
            kind: "publish",
            state: "recording",
            url: None,
            peer: peer.to_owned(),
            title: None,
            position_s: None,
            transport: Some("tcp"),
            user_agent: None,
            session: None,
            shard: 1,
            since: None,
            age_s,
            packets: 0,
            bytes: 0,
            bits_per_s: 0,
            packets_lost: 0,
            packets_dropped: BTreeMap::new(),
            sync_samples: 0,
            gop_s: None,
            tracks: Vec::new(),
        }
    }

    #[test]
    fn parts_of_a_path_from_all_shards_are_merged_by_name() {
        let mut here = part("live/b");
        here.owner = Some(OwnerInfo::idle("live/b"));
        here.readers.add_reader(Carrier::Udp, 0.25);
        let mut there = part("live/b");
        there.source = Some(source("192.0.2.3:9", 5.0));
        there.readers.add_reader(Carrier::Tcp, 1.5);
        there.readers.add_reader(Carrier::Tcp, 0.0);
        there.readers.webrtc = 3;
        there.totals.skips = [3, 0, 1];
        there.totals.packets_sent = [0, 70, 0];
        let mut other = part("live/a");
        other.owner = Some(OwnerInfo::idle("live/a"));
        let merged = merge(vec![there, here, other]);
        let names: Vec<_> = merged.iter().map(|info| info.owner.path.as_str()).collect();
        assert_eq!(names, ["live/a", "live/b"]);
        let info = &merged[1];
        assert_eq!(info.source.as_ref().map(|source| source.peer.as_str()), Some("192.0.2.3:9"));
        let readers = ReadersInfo {
            udp: 1,
            tcp: 2,
            webrtc: 3,
            lag_s_sum: 1.75,
            lag_s_max: 1.5,
            ..ReadersInfo::default()
        };
        assert_eq!(info.readers, readers);
        assert_eq!((info.skips["tcp_window"], info.skips["evicted"]), (3, 1));
        assert_eq!(info.packets_sent["tcp"], 70);
    }

    #[test]
    fn path_unknown_to_its_owner_is_hidden_and_the_newer_of_two_sources_is_shown() {
        let mut late = part("live/a");
        late.source = Some(source("192.0.2.3:9", 5.0));
        assert!(merge(vec![late.clone()]).is_empty());
        let mut owner = part("live/a");
        owner.owner = Some(OwnerInfo::idle("live/a"));
        owner.source = Some(source("192.0.2.4:9", 0.5));
        let merged = merge(vec![late, owner]);
        assert_eq!(merged[0].source.as_ref().map(|source| source.age_s), Some(0.5));
    }
}
