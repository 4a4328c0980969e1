//! Version 1 of the records: connections and sessions of one shard.
//!
//! Times are of the kernel's monotonic clock, which both processes have; names end with their unit.
//! A field may be added with a default; none may change its meaning, and none may go.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::exact::{Bytes, Exact};
use super::live::{InputRecord, PathRecord, PublisherRecord, ReaderRecord};

/// Place of a descriptor in the list beside the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fd(pub u32);

/// All that one shard hands over.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ShardRecord {
    /// Number of the shard: the top byte of the ids of its sessions.
    pub shard: u8,
    /// Titles that its sessions play or were described.
    #[serde(default)]
    pub titles: Vec<TitleRecord>,
    /// Pairs of UDP sockets.
    #[serde(default)]
    pub pairs: Vec<PairRecord>,
    /// Connections and sessions.
    #[serde(default)]
    pub units: Vec<UnitRecord>,
    /// Datagrams that came and were not looked at.
    #[serde(default)]
    pub datagrams: Vec<DatagramRecord>,
    /// Live paths.
    #[serde(default)]
    pub paths: Vec<PathRecord>,
    /// Sockets of their sources that are listened for.
    #[serde(default)]
    pub inputs: Vec<InputRecord>,
    /// Bytes of their packets; `None`: there are no packets.
    #[serde(default)]
    pub packets: Option<Fd>,
    /// When the shard ceased to send.
    #[serde(default)]
    pub frozen_ns: u64,
    /// When it ceased to receive packets of live paths; `None`: then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halted_ns: Option<u64>,
}

/// An open title: the file itself, whatever its name leads to by now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TitleRecord {
    /// Path inside the media folder; `None`: the built-in clip.
    #[serde(default)]
    pub name: Option<String>,
    /// The file.
    pub file: Fd,
    /// What the numbers are made of that its players begin with.
    pub wire: u64,
}

/// A pair of UDP sockets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairRecord {
    /// Number of the shard that receives at it.
    pub shard: u8,
    /// Port of RTP; RTCP has the next one.
    pub rtp_port: u16,
    /// Socket of RTP.
    pub rtp: Fd,
    /// Socket of RTCP.
    pub rtcp: Fd,
}

/// What stays together: a connection with its sessions, or a session without one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UnitRecord {
    /// The connection.
    #[serde(default)]
    pub connection: Option<ConnectionRecord>,
    /// Its sessions, in the order of their SETUPs.
    #[serde(default)]
    pub sessions: Vec<SessionRecord>,
}

/// An RTSP connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConnectionRecord {
    /// The socket.
    pub socket: Fd,
    /// Address of the client.
    pub peer: SocketAddr,
    /// Address of the server.
    pub local: SocketAddr,
    /// It is known to carry RTSP.
    #[serde(default)]
    pub is_rtsp: bool,
    /// Bytes that were received and not worked through.
    #[serde(default)]
    pub input: Bytes,
    /// Bytes that are still to be sent, first of all.
    #[serde(default)]
    pub output: Bytes,
    /// It is closed when they are sent.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_closing: bool,
    /// When it was accepted.
    pub accepted_ns: u64,
    /// It has made a request.
    #[serde(default)]
    pub has_asked: bool,
    /// When the first byte of `input` came.
    #[serde(default)]
    pub begun_ns: Option<u64>,
    /// When the last whole message came.
    pub heard_ns: u64,
    /// When it was last seen to have a session; 0: never.
    #[serde(default)]
    pub served_ns: u64,
    /// Nonce of the challenges that it was sent.
    #[serde(default)]
    pub nonce: Option<String>,
}

/// A session of a client, by its role.
///
/// The tag stands outside: one inside would have all of a record read twice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionRecord {
    /// A player of a title.
    Title(Box<TitleSessionRecord>),
    /// A reader of a live path.
    Reader(Box<ReaderRecord>),
    /// A client that publishes one.
    Publisher(Box<PublisherRecord>),
}

/// A player of a title.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TitleSessionRecord {
    /// The client.
    pub client: ClientRecord,
    /// The title that is played, by its place in `titles`.
    pub title: u32,
    /// The title of the URL and the SDP.
    pub described: u32,
    /// What it does.
    pub state: StateRecord,
    /// Its streams, in the order of their SETUPs.
    #[serde(default)]
    pub streams: Vec<StreamRecord>,
    /// Next check of the client.
    pub liveness_ns: u64,
    /// The present epoch, or the last one.
    #[serde(default)]
    pub epoch: Option<EpochRecord>,
    /// End of the range, in presentation time.
    #[serde(default)]
    pub end_ns: Option<i64>,
    /// Pause point, in presentation time.
    #[serde(default)]
    pub pause_point_ns: Option<i64>,
    /// Next sender report.
    pub report_ns: u64,
    /// Arrival of a PLAY whose first packet is not sent.
    #[serde(default)]
    pub play_received_ns: Option<u64>,
}

/// The client of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientRecord {
    /// Session id, sixteen hexadecimal digits.
    pub id: String,
    /// Address of its connection.
    pub peer: SocketAddr,
    /// `User-Agent`.
    #[serde(default)]
    pub user_agent: Option<String>,
    /// Name of the user.
    #[serde(default)]
    pub user: Option<String>,
    /// Time of the first SETUP.
    pub created_ns: u64,
    /// Last sign of life.
    pub alive_ns: u64,
    /// Our CNAME.
    pub cname: String,
}

/// What a player does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateRecord {
    /// Set up.
    Ready,
    /// Plays.
    Playing,
    /// Was stopped.
    Paused {
        /// When.
        at_ns: u64,
    },
    /// Has played to the end.
    Ended,
}

/// Media time, wall time and RTP time of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// When its first frame is due.
    pub wall_ns: u64,
    /// Start of the range.
    pub npt_ns: i64,
    /// Decode time of its first frame.
    pub due_zero_ns: i64,
    /// Scale.
    pub scale: Exact,
    /// Speed.
    pub speed: Exact,
    /// Playout time at its start, since the start of the session.
    pub playout_ns: i64,
}

/// A stream of a player.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamRecord {
    /// What it waits for.
    pub phase: PhaseRecord,
    /// Track in the title that was described.
    pub track: u8,
    /// The frames that are sent.
    pub level: LevelRecord,
    /// Its numbers are those of its title.
    #[serde(default)]
    pub shares: bool,
    /// Where its frames come from.
    pub feed: FeedRecord,
    /// SSRC, numbers and transport.
    pub rtp: OutgoingRecord,
    /// What chooses `level`; `None`: it is always full.
    #[serde(default)]
    pub quality: Option<QualityRecord>,
    /// When it says BYE that has sent all.
    #[serde(default)]
    pub bye_ns: Option<u64>,
    /// What may be asked for again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<HistoryRecord>,
}

/// Packets that were sent lately, by their places in windows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryRecord {
    /// `media::packetize::CUT`: with another one the places are others.
    pub cut: u32,
    /// In the order in which they were sent.
    pub sent: Vec<SentRecord>,
}

/// Packets with consecutive numbers that are adjacent in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentRecord {
    /// Sequence number of the first one.
    pub seq: u16,
    /// Number of packets.
    pub packets: u16,
    /// Index of the window.
    pub window: u32,
    /// Index of the first packet in the window.
    pub packet: u32,
    /// RTP time.
    pub ts: u32,
}

/// What a stream waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseRecord {
    /// Nothing.
    Idle,
    /// Its time, its window or its connection.
    Sending,
    /// The time of its BYE.
    Finishing,
    /// Nothing any more.
    Ended,
}

/// The frames that are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LevelRecord {
    /// All.
    Full,
    /// Those that others refer to.
    Reference,
    /// Sync samples.
    Sync,
}

/// Where the frames of a stream come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedRecord {
    /// Track in the title that is played.
    pub track: u8,
    /// RTP time at the start of the epoch.
    pub ts_epoch: u32,
    /// Frames before this sample are not sent, but sync samples; `None` until the next one.
    #[serde(default)]
    pub from_sample: Option<u32>,
    /// Start of the epoch in ticks of the track.
    pub anchor_ticks: i64,
    /// Largest distance from `ts_epoch` of a packet that was sent.
    pub ticks_max: i64,
    /// Frames shown before this presentation time are not sent.
    #[serde(default)]
    pub skip_before_ns: Option<i64>,
    /// The next packet.
    #[serde(default)]
    pub place: Option<PlaceRecord>,
}

/// The next packet of a stream.
///
/// `sample` names it, whatever the windows are; without one it is named by window and frame, as
/// `media::packetize` cuts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceRecord {
    /// Sync samples alone are sent.
    #[serde(default)]
    pub is_sync: bool,
    /// Towards the start of the title.
    #[serde(default)]
    pub is_backward: bool,
    /// Where in the window.
    pub at: PlaceAt,
    /// Index of the window.
    pub window: u32,
}

/// Where in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlaceAt {
    /// At the edge that comes first.
    Edge,
    /// At the frame that has this sample.
    Sample(u32),
    /// At a frame.
    Frame {
        /// Index of the frame.
        frame: u32,
        /// Packets of it that were sent.
        packet: u32,
        /// The sample that the frame begins with; `None`: it is not known.
        #[serde(default)]
        sample: Option<u32>,
    },
}

/// The wire identity of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutgoingRecord {
    /// Payload type.
    pub payload_type: u8,
    /// Rate of the RTP clock.
    pub clock_rate_hz: u32,
    /// SSRC and numbers.
    pub numbers: NumbersRecord,
    /// Where packets go.
    pub transport: TransportRecord,
    /// Stream of retransmissions.
    #[serde(default)]
    pub rtx: Option<RtxRecord>,
    /// Newest receiver report.
    #[serde(default)]
    pub report: Option<ReportRecord>,
    /// Control URL, as the client spelled it.
    pub control_url: String,
}

/// SSRC and numbers of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NumbersRecord {
    /// The server's own.
    Own {
        /// SSRC.
        ssrc: u32,
        /// Sequence number of the next packet.
        seq: u16,
        /// RTP time at the start of the stream's clock.
        ts_zero: u32,
        /// Packets sent.
        packets: u64,
        /// Bytes of payload sent.
        payload_bytes: u64,
    },
    /// Those of a live source.
    Source {
        /// SSRC, once a packet was sent.
        #[serde(default)]
        ssrc: Option<u32>,
    },
}

/// Where packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransportRecord {
    /// By a pair of UDP sockets.
    Udp {
        /// The pair, by its place in `pairs`.
        pair: u32,
        /// The client's address for RTP.
        rtp: SocketAddr,
        /// The client's address for RTCP.
        rtcp: SocketAddr,
    },
    /// By the connection.
    Tcp {
        /// Channel of RTP.
        channel: u8,
        /// Channel of RTCP.
        rtcp_channel: u8,
    },
}

/// A stream of retransmissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RtxRecord {
    /// Payload type.
    pub payload_type: u8,
    /// Sequence number of the next packet.
    pub seq: u16,
    /// SSRC.
    pub ssrc: u32,
}

/// A receiver report on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportRecord {
    /// Who reports.
    pub sender_ssrc: u32,
    /// The stream.
    pub ssrc: u32,
    /// Share lost, in 256ths.
    pub fraction_lost: u8,
    /// Packets lost in all.
    pub cumulative_lost: i32,
    /// Highest number.
    pub ext_highest_seq: u32,
    /// Jitter, in ticks.
    pub jitter: u32,
    /// Last sender report.
    pub lsr: u32,
    /// Time since then, in 65536ths of a second.
    pub dlsr: u32,
    /// Round-trip time.
    #[serde(default)]
    pub round_trip_ns: Option<u64>,
}

/// What chooses the frames that are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QualityRecord {
    /// The lowest level.
    pub lowest: LevelRecord,
    /// Bad observations in a row.
    #[serde(default)]
    pub bad: u8,
    /// Clean observations in a row.
    #[serde(default)]
    pub clean: u8,
    /// Clean observations that are needed.
    pub patience: u8,
    /// Lag at the last observation.
    #[serde(default)]
    pub lag_ns: u64,
    /// Last observation.
    #[serde(default)]
    pub looked_ns: Option<u64>,
    /// Last change.
    #[serde(default)]
    pub changed_ns: Option<u64>,
    /// Last step up.
    #[serde(default)]
    pub thickened_ns: Option<u64>,
}

/// A datagram.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatagramRecord {
    /// The pair that it came to, by its place in `pairs`.
    pub pair: u32,
    /// It came to the socket of RTCP.
    pub is_rtcp: bool,
    /// Who has sent it.
    pub from: SocketAddr,
    /// The datagram.
    pub bytes: Bytes,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(value: &bool) -> bool {
    !value
}
