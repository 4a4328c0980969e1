//! Viewers as operators see them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::SessionId;

/// One viewer.
#[derive(Debug, Clone, PartialEq)]
pub struct ViewerInfo {
    /// Names the session for operators. It is not the secret that its URL has.
    pub session: SessionId,
    /// Path that it watches.
    pub path: Arc<str>,
    /// Address that its offer came from: behind a proxy the proxy's.
    pub from: IpAddr,
    /// Address that its packets go to; `None` until the first has gone.
    pub addr: Option<SocketAddr>,
    /// `User-Agent` of the offer.
    pub user_agent: Option<String>,
    /// Name of the user, where the browser had to show one.
    pub user: Option<Arc<str>>,
    /// ICE and DTLS are done.
    pub is_connected: bool,
    /// Since the offer.
    pub age: Duration,
    /// Tracks that it gets.
    pub tracks: Vec<TrackInfo>,
}

/// A track as one viewer gets it.
#[derive(Debug, Clone, PartialEq)]
pub struct TrackInfo {
    /// Place among the tracks of the path.
    pub track: u8,
    /// `H264` or `opus`.
    pub encoding: &'static str,
    /// SSRC; 0 until the viewer is connected.
    pub ssrc: u32,
    /// RTP packets sent, without retransmissions.
    pub packets: u64,
    /// Bytes of their payloads.
    pub payload_bytes: u64,
    /// What the browser has reported of it.
    pub report: Option<TrackReport>,
}

/// Receiver reports of a browser.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrackReport {
    /// Share of packets lost, 0 to 1, in the newest reports.
    pub fraction_lost: Option<f64>,
    /// Packets lost in all; below 0 when more came twice than were lost.
    pub packets_lost: Option<i64>,
    /// Interarrival jitter in seconds.
    pub jitter_s: Option<f64>,
    /// Round-trip time.
    pub round_trip: Option<Duration>,
}
