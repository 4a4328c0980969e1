//! A session as the API shows it.

use serde::Serialize;

use crate::base::ids::SessionId;
use crate::live::core::info::{ReaderInfo, SourceInfo};

/// A page of a shard's sessions, in the order of their ids.
#[derive(Debug, Clone, Default)]
pub struct SessionsPage {
    /// Sessions of the page.
    pub sessions: Vec<SessionInfo>,
    /// Sessions of the page that are on other shards: each is asked for by its id.
    pub away: Vec<SessionId>,
    /// The next page begins after this id; `None` on the last page.
    pub next: Option<SessionId>,
}

/// One session, as `GET /v1/sessions` shows it.
#[derive(Debug, Clone, Serialize)]
pub struct SessionInfo {
    /// Session id.
    pub id: String,
    /// Shard of the session; `None` of a viewer by WebRTC.
    pub shard: Option<u8>,
    /// `reader`, or `publisher` of a live path.
    pub role: &'static str,
    /// Path of the title, or of the live path.
    pub path: String,
    /// Address of the RTSP peer, or of the browser.
    pub peer: String,
    /// `User-Agent` of the client, when it sent one.
    pub user_agent: Option<String>,
    /// Name of the user, where the client had to show one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// `ready`, `playing` or `paused`; of a publisher `announced` or `recording`.
    pub state: &'static str,
    /// `udp`, `tcp` or `webrtc`; `none` of a publisher before its first SETUP.
    pub transport: &'static str,
    /// Position in seconds.
    pub npt_s: f64,
    /// Scale of the last PLAY.
    pub scale: f64,
    /// Speed of the last PLAY.
    pub speed: f64,
    /// Seconds since SETUP.
    pub age_s: f64,
    /// Streams of the session; a publisher's are the tracks of its source.
    pub streams: Vec<StreamInfo>,
    /// The channel that a session of a line-up plays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<ChannelInfo>,
    /// Figures of a live reader: how well it keeps up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reader: Option<ReaderInfo>,
    /// Figures of a publisher's source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceInfo>,
}

/// What a session of a line-up plays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChannelInfo {
    /// Path of the line-up.
    pub lineup: String,
    /// Number of the channel.
    pub number: u16,
    /// Live path or title of the channel; `None` when it has left the line-up.
    pub source: Option<String>,
    /// Channel that is being tuned to.
    pub tuning_to: Option<u16>,
    /// Events that are not consumed.
    pub events_waiting: usize,
}

/// One RTP stream of a session.
#[derive(Debug, Clone, Serialize)]
pub struct StreamInfo {
    /// Track number, as in `trackID=`.
    pub track: u8,
    /// Encoding name.
    pub encoding: String,
    /// SSRC, hexadecimal.
    pub ssrc: String,
    /// RTP packets sent.
    pub packets_sent: u64,
    /// RTP payload bytes sent.
    pub payload_bytes_sent: u64,
    /// How much of the video is sent: `full`, `reference` (without disposable frames) or `sync`
    /// (sync samples only). Absent for streams that are never thinned.
    pub quality: Option<&'static str>,
    /// Newest receiver report: share of packets lost since the one before, 0 to 1.
    pub fraction_lost: Option<f64>,
    /// Newest receiver report: packets lost in all.
    pub packets_lost: Option<i64>,
    /// Newest receiver report: interarrival jitter in seconds.
    pub jitter_s: Option<f64>,
    /// Round-trip time in seconds, from LSR and DLSR (RFC 3550 s6.4.1).
    pub round_trip_s: Option<f64>,
}
