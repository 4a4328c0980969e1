//! Version 1 of the records: live paths, their readers and their publishers.
//!
//! ```text
//!  PathRecord    what a shard has of a path: description, blocks of packets
//!  ReaderRecord  a session that is sent packets; its places name blocks
//!  PublisherRecord   a session that sends packets
//! ```
//! Every shard that has a path records it. A block has the same number in the records of all
//! shards, so the new process makes it once. Bytes of packets are in the file `packets` of the
//! record of the shard; what RTP headers say is read from them.
//! Rules of fields: see [`super::v1`].

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::exact::Bytes;
use super::v1::{ClientRecord, Fd, OutgoingRecord, SessionRecord, TransportRecord};

/// A live path, as one shard has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathRecord {
    /// Name.
    pub name: String,
    /// Number of its source.
    pub generation: u32,
    /// Its tracks and texts.
    pub description: DescriptionRecord,
    /// What the owner knows; `None`: the shard is not the owner.
    #[serde(default)]
    pub owner: Option<OwnerRecord>,
    /// The newest packets, the oldest first.
    #[serde(default)]
    pub blocks: Vec<BlockRecord>,
}

/// What the owner of a path knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerRecord {
    /// Sources so far.
    #[serde(default)]
    pub sources_seen: u32,
    /// Batches so far.
    #[serde(default)]
    pub batches: u64,
    /// Until when readers wait for a source; `None`: there is one.
    #[serde(default)]
    pub hold_until_ns: Option<u64>,
}

/// A description for readers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescriptionRecord {
    /// SDP.
    pub sdp: String,
    /// SDP with feedback.
    #[serde(default)]
    pub feedback_sdp: Option<String>,
    /// Tracks.
    pub tracks: Vec<TrackRecord>,
    /// Parameter sets are missing.
    #[serde(default)]
    pub awaits_sets: bool,
}

/// A track of a description.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackRecord {
    /// Rate of the RTP clock.
    pub clock_rate_hz: u32,
    /// Payload types.
    pub payload_types: Vec<u8>,
    /// Readers begin with key frames.
    #[serde(default)]
    pub needs_sync: bool,
    /// What a decoder depends on.
    pub identity: String,
}

/// Packets that came together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockRecord {
    /// Its number, of the process.
    pub id: u64,
    /// Where its bytes begin in `packets`.
    pub offset: u64,
    /// Number of the source that sent it.
    pub generation: u32,
    /// Arrival of its first packet.
    pub received_ns: u64,
    /// Its tracks, in the order of its bytes.
    pub tracks: Vec<SpanRecord>,
    /// Tracks whose newest tables lack their key frame, a bit each.
    #[serde(default)]
    pub awaiting: u16,
    /// Tracks with a key frame of earlier tables, a bit each.
    #[serde(default)]
    pub completing: u16,
    /// Tracks that are here twice, a bit each.
    #[serde(default)]
    pub with_datagrams: u16,
}

/// The packets of one track in a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpanRecord {
    /// The track.
    pub track: u8,
    /// In the form for readers over UDP.
    #[serde(default)]
    pub is_for_datagrams: bool,
    /// Its clock.
    #[serde(default)]
    pub clock: Option<ClockRecord>,
    /// Of each packet: its bytes, those in front of its payload, whether it begins a key frame.
    pub packets: Vec<(u16, u16, bool)>,
}

/// RTP time and wall clock of one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockRecord {
    /// Nanoseconds since 1970.
    pub utc_ns: i64,
    /// RTP time.
    pub ts: u32,
}

/// A reader of a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderRecord {
    /// The client.
    pub client: ClientRecord,
    /// Name of the path.
    pub path: String,
    /// What it does.
    pub state: ReaderStateRecord,
    /// Next sender report.
    pub report_ns: u64,
    /// When its packets are due.
    #[serde(default)]
    pub pace: PaceRecord,
    /// How far it is behind its source.
    #[serde(default)]
    pub delay_ns: i64,
    /// Skips, by reason.
    #[serde(default)]
    pub skips: [u64; 3],
    /// Packets that it was not sent.
    #[serde(default)]
    pub skipped: u64,
    /// Packets and bytes of payload that it was sent.
    #[serde(default)]
    pub sent: (u64, u64),
    /// Its streams, in the order of their SETUPs.
    #[serde(default)]
    pub streams: Vec<ReaderStreamRecord>,
}

/// What a reader does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReaderStateRecord {
    /// Set up.
    Ready,
    /// Plays.
    Playing,
    /// Was stopped.
    Paused,
}

/// The block that arrived at `received_ns` is due at `wall_ns`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaceRecord {
    /// When it is due.
    pub wall_ns: u64,
    /// When it arrived.
    pub received_ns: u64,
    /// From the arrival of a block to its time, at least.
    #[serde(default)]
    pub delay_ns: u64,
}

/// A stream of a reader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderStreamRecord {
    /// Track of the path.
    pub track: u8,
    /// SSRC and transport.
    pub rtp: OutgoingRecord,
    /// Packets and bytes of payload, for sender reports.
    #[serde(default)]
    pub sent: (u64, u64),
    /// It is sent the form that fits a datagram.
    #[serde(default)]
    pub is_datagram: bool,
    /// A packet was sent.
    #[serde(default)]
    pub has_begun: bool,
    /// The block of the next packet; `None`: the one behind `behind`.
    #[serde(default)]
    pub block: Option<u64>,
    /// The newest block, if all of it was sent; `None` without `block`: there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<u64>,
    /// Run in that block.
    #[serde(default)]
    pub run: u32,
    /// Packet in that run.
    #[serde(default)]
    pub packet: u16,
    /// Between its headers and those of the source.
    #[serde(default)]
    pub rewrite: Option<RewriteRecord>,
    /// The first packet of `rewrite`: block, offset there; `None`: it is not kept.
    #[serde(default)]
    pub rewrite_from: Option<(u64, u32)>,
    /// The last packet sent.
    #[serde(default)]
    pub last_sent: Option<LastSentRecord>,
    /// It waits for a key frame.
    #[serde(default)]
    pub is_awaiting: bool,
    /// Arrival of the first packet that it was not sent because of that.
    #[serde(default)]
    pub awaiting_from_ns: Option<u64>,
    /// The next packet does not follow the last one.
    #[serde(default)]
    pub is_broken: bool,
}

/// Between the headers of a reader and those of its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RewriteRecord {
    /// Number of the source.
    pub generation: u32,
    /// SSRC of the source.
    pub source_ssrc: u32,
    /// SSRC of the reader.
    pub ssrc: u32,
    /// Added to sequence numbers.
    pub seq_delta: u16,
    /// Added to RTP times.
    pub ts_delta: u32,
    /// Payload type of the source, and that of the reader.
    #[serde(default)]
    pub payload_type: Option<(u8, u8)>,
}

/// The last packet that a stream was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastSentRecord {
    /// Under which it was sent.
    pub rewrite: RewriteRecord,
    /// Highest sequence number.
    pub seq: u16,
    /// Newest RTP time.
    pub ts: u32,
    /// Its arrival.
    pub received_ns: u64,
    /// Clock of the source.
    #[serde(default)]
    pub clock: Option<ClockRecord>,
}

/// A client that publishes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublisherRecord {
    /// Session id, sixteen hexadecimal digits.
    pub id: String,
    /// Name of the path.
    pub path: String,
    /// Number under which it holds the path.
    pub generation: u32,
    /// Its packets are taken.
    #[serde(default)]
    pub is_recording: bool,
    /// URL of ANNOUNCE.
    pub uri: String,
    /// Address of its connection.
    pub peer: SocketAddr,
    /// `User-Agent`.
    #[serde(default)]
    pub user_agent: Option<String>,
    /// Name of the user.
    #[serde(default)]
    pub user: Option<String>,
    /// What it has announced.
    pub sdp: String,
    /// The server's address on its connection.
    pub local: IpAddr,
    /// Session id of the descriptions for readers.
    pub sdp_session_id: u64,
    /// Version of the newest of them.
    pub sdp_version: u64,
    /// Last command.
    pub alive_ns: u64,
    /// Our CNAME.
    pub cname: String,
    /// Our SSRC in reports.
    pub own_ssrc: u32,
    /// When readers were last told of parameter sets.
    #[serde(default)]
    pub redescribed_ns: Option<u64>,
    /// First packets.
    #[serde(default)]
    pub fed_since_ns: Option<u64>,
    /// What it has sent.
    pub source: SourceRecord,
    /// Its tracks, in the order of its description.
    pub tracks: Vec<PublisherTrackRecord>,
}

/// What a publisher has sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRecord {
    /// When it got the path.
    #[serde(default)]
    pub began_ns: Option<u64>,
    /// Newest packet.
    pub packet_ns: u64,
    /// Newest sign of life.
    pub sign_ns: u64,
    /// Newest receiver reports.
    pub reported_ns: u64,
    /// When it was last asked for a key frame.
    #[serde(default)]
    pub sync_asked_ns: Option<u64>,
    /// The server's clock minus its own.
    #[serde(default)]
    pub clock_offset_ns: Option<i64>,
    /// Packets taken.
    #[serde(default)]
    pub packets: u64,
    /// Bytes of these.
    #[serde(default)]
    pub bytes: u64,
    /// Batches made of them.
    #[serde(default)]
    pub batches: u64,
    /// Key frames.
    #[serde(default)]
    pub sync_samples: u64,
    /// Packets dropped, by cause.
    #[serde(default)]
    pub dropped: Vec<u64>,
}

/// A track of a publisher.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublisherTrackRecord {
    /// Transport; `None` before SETUP.
    #[serde(default)]
    pub transport: Option<TransportRecord>,
    /// Where its datagrams come from, if that is known from them: RTP, RTCP.
    #[serde(default)]
    pub heard_from: [Option<SocketAddr>; 2],
    /// Parameter sets have come, and no frame since.
    #[serde(default)]
    pub has_fresh_sets: bool,
    /// Parameter sets.
    #[serde(default)]
    pub sets: Vec<Bytes>,
    /// Sets that readers were not told of; true: a frame has followed.
    #[serde(default)]
    pub untold_sets: Option<bool>,
    /// Sets differ from those announced.
    #[serde(default)]
    pub has_changed: bool,
    /// Number of the next FIR.
    #[serde(default)]
    pub fir_number: u8,
    /// Its clock.
    #[serde(default)]
    pub clock: Option<ClockRecord>,
    /// A report has told its clock.
    #[serde(default)]
    pub is_clock_reported: bool,
    /// The RTP stream that is taken.
    #[serde(default)]
    pub stream: Option<StreamHeldRecord>,
    /// SSRCs of streams before it, and when each was heard.
    #[serde(default)]
    pub replaced: Vec<Option<(u32, u64)>>,
    /// Figures for reports.
    #[serde(default)]
    pub reception: Option<ReceptionRecord>,
    /// RTP time of the newest key frame.
    #[serde(default)]
    pub sync_ts: Option<u32>,
    /// Numbers in the form for readers over UDP.
    #[serde(default)]
    pub cuts: Option<CutsRecord>,
    /// Packets and bytes taken.
    #[serde(default)]
    pub counts: (u64, u64),
    /// Packets lost in RTP streams before the present one.
    #[serde(default)]
    pub lost_before: i64,
}

/// The RTP stream that a track takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamHeldRecord {
    /// SSRC.
    pub ssrc: u32,
    /// SSRC that readers are told.
    pub name: u32,
    /// Of its newest packet.
    pub payload_type: u8,
    /// Of its newest packet.
    pub seq: u16,
    /// Of its newest packet.
    pub ts: u32,
    /// Who has sent that; `None` on a connection.
    #[serde(default)]
    pub from: Option<SocketAddr>,
    /// When it came.
    pub heard_ns: u64,
}

/// Figures of an RTP stream for receiver reports (RFC 3550 appendix A).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceptionRecord {
    /// SSRC.
    pub ssrc: u32,
    /// First number.
    pub base: u32,
    /// Highest number.
    pub highest: u32,
    /// Packets received.
    pub received: u64,
    /// Packets expected at the last report.
    #[serde(default)]
    pub expected_before: u64,
    /// Packets received at the last report.
    #[serde(default)]
    pub received_before: u64,
    /// Packets lost before numbers began anew.
    #[serde(default)]
    pub earlier_lost: i64,
    /// Transit of the newest packet, in ticks.
    #[serde(default)]
    pub transit: Option<u32>,
    /// Jitter, in 16ths of a tick.
    #[serde(default)]
    pub jitter: u32,
    /// Newest sender report, and its arrival.
    #[serde(default)]
    pub sender_report: Option<(u32, u64)>,
}

/// Numbers of a track in the form for readers over UDP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutsRecord {
    /// Newest number of the source.
    #[serde(default)]
    pub newest: Option<u16>,
    /// By how much numbers are higher.
    pub extra: u16,
    /// Where numbers moved, and by how much.
    #[serde(default)]
    pub moved: Vec<(u16, u16)>,
}

/// A socket at which the source of a path is listened for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputRecord {
    /// Name of the path.
    pub path: String,
    /// The address that it is bound to, or the group that it has joined.
    pub to: SocketAddr,
    /// It receives RTCP.
    #[serde(default)]
    pub is_rtcp: bool,
    /// Senders for which the group is joined; none: all.
    #[serde(default)]
    pub senders: Vec<IpAddr>,
    /// Interface of the group.
    #[serde(default)]
    pub interface: Option<String>,
    /// The socket.
    pub socket: Fd,
    /// Datagrams that came and were not looked at, with their senders.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub datagrams: Vec<(SocketAddr, Bytes)>,
}

impl SessionRecord {
    /// Session id.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Title(session) => &session.client.id,
            Self::Reader(reader) => &reader.client.id,
            Self::Publisher(publisher) => &publisher.id,
        }
    }

    /// Where its packets go, or come from.
    #[must_use]
    pub fn transports(&self) -> Vec<&TransportRecord> {
        match self {
            Self::Title(session) => session.streams.iter().map(|one| &one.rtp.transport).collect(),
            Self::Reader(reader) => reader.streams.iter().map(|one| &one.rtp.transport).collect(),
            Self::Publisher(publisher) => {
                publisher.tracks.iter().filter_map(|track| track.transport.as_ref()).collect()
            }
        }
    }
}
