//! Counters of WHEP for the whole process, and their metrics.

use super::cells::{SharedCounter, SharedGauge};
use super::families::{Family, Read, row};

/// WHEP of this process.
pub static WHEP: WhepCells = WhepCells {
    viewers: SharedGauge::new(),
    sessions: SharedCounter::new(),
    viewers_refused: SharedCounter::new(),
    not_connected: SharedCounter::new(),
    gave_way: SharedCounter::new(),
    packets_sent: SharedCounter::new(),
    payload_bytes_sent: SharedCounter::new(),
    packets_left_out: SharedCounter::new(),
    datagrams_unsent: SharedCounter::new(),
    datagrams_strange: SharedCounter::new(),
    keyframe_requests: SharedCounter::new(),
    skips: SharedCounter::new(),
    panics: SharedCounter::new(),
};

/// Numbers about WHEP.
#[derive(Debug)]
pub struct WhepCells {
    /// Sessions that are open.
    pub viewers: SharedGauge,
    /// Sessions that were opened.
    pub sessions: SharedCounter,
    /// Offers refused because a limit was reached.
    pub viewers_refused: SharedCounter,
    /// Sessions that ended before ICE and DTLS came up.
    pub not_connected: SharedCounter,
    /// Sessions that ended before that because somebody else needed their place.
    pub gave_way: SharedCounter,
    /// RTP packets given to viewers.
    pub packets_sent: SharedCounter,
    /// Bytes of the payloads of `packets_sent`.
    pub payload_bytes_sent: SharedCounter,
    /// Packets of paths that came twice or too late, or could not be cut.
    pub packets_left_out: SharedCounter,
    /// Datagrams that the socket did not take.
    pub datagrams_unsent: SharedCounter,
    /// Datagrams that are for no viewer.
    pub datagrams_strange: SharedCounter,
    /// Key frames that browsers asked for.
    pub keyframe_requests: SharedCounter,
    /// Times that a viewer was too far behind.
    pub skips: SharedCounter,
    /// Viewers that were ended because the library of WebRTC panicked.
    pub panics: SharedCounter,
}

/// Metrics of WHEP.
pub(super) static WHEP_FAMILIES: &[Family] = &[
    row(
        "headend_whep_sessions_total",
        "Sessions of WHEP that were opened.",
        Read::Whep(|whep| &whep.sessions),
    ),
    row(
        "headend_whep_viewers_refused_total",
        "Offers of WHEP refused because a limit was reached.",
        Read::Whep(|whep| &whep.viewers_refused),
    ),
    row(
        "headend_whep_not_connected_total",
        "Sessions of WHEP ended because ICE and DTLS did not come up.",
        Read::Whep(|whep| &whep.not_connected),
    ),
    row(
        "headend_whep_gave_way_total",
        "Sessions of WHEP ended before ICE and DTLS came up, because others needed their places.",
        Read::Whep(|whep| &whep.gave_way),
    ),
    row(
        "headend_whep_rtp_packets_sent_total",
        "RTP packets given to viewers of WHEP, without retransmissions.",
        Read::Whep(|whep| &whep.packets_sent),
    ),
    row(
        "headend_whep_rtp_payload_bytes_sent_total",
        "Payload bytes of RTP packets given to viewers of WHEP, without retransmissions.",
        Read::Whep(|whep| &whep.payload_bytes_sent),
    ),
    row(
        "headend_whep_packets_left_out_total",
        "Packets of live paths that came twice or too late, or cannot be cut to a datagram.",
        Read::Whep(|whep| &whep.packets_left_out),
    ),
    row(
        "headend_whep_datagrams_unsent_total",
        "Datagrams of WHEP that the socket did not take.",
        Read::Whep(|whep| &whep.datagrams_unsent),
    ),
    row(
        "headend_whep_datagrams_strange_total",
        "Datagrams to the port of WHEP that are for no viewer.",
        Read::Whep(|whep| &whep.datagrams_strange),
    ),
    row(
        "headend_whep_keyframe_requests_total",
        "Key frames that browsers asked for (PLI, FIR).",
        Read::Whep(|whep| &whep.keyframe_requests),
    ),
    row(
        "headend_whep_skips_total",
        "Times that a viewer of WHEP was too far behind and began anew.",
        Read::Whep(|whep| &whep.skips),
    ),
    row(
        "headend_whep_panics_total",
        "Viewers of WHEP ended because the library of WebRTC panicked.",
        Read::Whep(|whep| &whep.panics),
    ),
];
