//! What the outside is shown of a session.

use serde::Serialize;

/// One session, as `GET /v1/sessions` shows it.
#[derive(Debug, Clone, Serialize)]
pub struct SessionInfo {
    /// Session id.
    pub id: String,
    /// Shard that owns it.
    pub shard: u8,
    /// Path of the title.
    pub path: String,
    /// Address of the RTSP peer.
    pub peer: String,
    /// `User-Agent` of the client, when it sent one.
    pub user_agent: Option<String>,
    /// `ready`, `playing` or `paused`.
    pub state: &'static str,
    /// `udp` or `tcp`.
    pub transport: &'static str,
    /// Position in seconds.
    pub npt_s: f64,
    /// Scale of the last PLAY.
    pub scale: f64,
    /// Speed of the last PLAY.
    pub speed: f64,
    /// Seconds since SETUP.
    pub age_s: f64,
    /// Its streams.
    pub streams: Vec<StreamInfo>,
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
    /// How much of a picture is sent: `full`, `reference` (without disposable frames) or `sync`
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
