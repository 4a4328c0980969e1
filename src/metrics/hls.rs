//! Metrics of HLS.

use super::families::{Family, Read, row};

/// The rows of HLS: its numbers are in `cells`.
pub(super) static HLS_FAMILIES: &[Family] = &[
    row("headend_hls_requests_total", "Requests of HLS.", Read::Hls(|hls| &hls.requests)),
    row(
        "headend_hls_connections_refused_total",
        "Connections of HLS refused because a limit was reached.",
        Read::Hls(|hls| &hls.http.connections_refused),
    ),
    row(
        "headend_hls_requests_timed_out_total",
        "Connections of HLS ended because their request did not come in time.",
        Read::Hls(|hls| &hls.http.requests_timed_out),
    ),
    row(
        "headend_hls_logins_failed_total",
        "Requests of HLS whose name, password or token was wrong.",
        Read::Hls(|hls| &hls.logins_failed),
    ),
    row(
        "headend_hls_sent_bytes_total",
        "Bytes of playlists, segments and parts given to connections.",
        Read::Hls(|hls| &hls.sent_bytes),
    ),
    row(
        "headend_hls_parts_total",
        "Parts of live paths that were made, each once for all viewers.",
        Read::Hls(|hls| &hls.parts),
    ),
    row(
        "headend_hls_frames_lost_total",
        "Frames of live paths left out of HLS because packets of them are missing.",
        Read::Hls(|hls| &hls.frames_lost),
    ),
    row(
        "headend_hls_segments_evicted_total",
        "Segments dropped early because the memory of their path was full.",
        Read::Hls(|hls| &hls.segments_evicted),
    ),
    row(
        "headend_hls_turned_away_total",
        "Requests of HLS redirected or refused because the server is drained.",
        Read::Hls(|hls| &hls.turned_away),
    ),
];
