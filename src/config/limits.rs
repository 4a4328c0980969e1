//! What strangers may take of a server beside sessions and rows of the PollTable.
//!
//! ```text
//!  limits.request_timeout = "10s"       a request must be whole so soon
//!  limits.half_open_max   = 4096        connections that have made none yet
//!  limits.request_head    = "32KiB"     ..
//! ```
//! Each key says in `config default` why its default is what it is. Used and limit of all are in
//! `metrics::limits`.

use std::time::Duration;

use crate::base::limits::{
    HALF_OPEN_TUNNELS_MAX, PATHS_MAX, RTSP_BODY_BYTES_MAX, RTSP_HEAD_BYTES_MAX, TLS_HANDSHAKES_MAX,
};

/// Limits by configuration, see the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Connections of one shard that have not made a request; one more ends the oldest.
    pub half_open_max: usize,
    /// Time for the first request of a connection, and for a request that has begun.
    pub request_timeout: Duration,
    /// Bytes of request line and headers of one request.
    pub head_bytes_max: usize,
    /// Bytes of the body of one request.
    pub body_bytes_max: usize,
    /// Bytes of unfinished requests that one shard holds for all connections.
    pub held_bytes_max: usize,
    /// Handshakes of TLS under way on one shard; one more ends the oldest.
    pub handshakes_max: usize,
    /// Tunnels over HTTP of one shard whose second connection has not come.
    pub half_open_tunnels_max: usize,
    /// Publishers (ANNOUNCE) on one shard.
    pub publishers_max: usize,
    /// Bytes of live packets that the process holds.
    pub live_bytes_max: usize,
    /// Titles open in the process; `None`: as many as descriptors allow.
    pub titles_open_max: Option<u32>,
    /// Log lines of one kind a second.
    pub log_lines_max: usize,
    /// Connections to the HTTP API.
    pub admin_connections_max: usize,
    /// Of these, connections of one other machine.
    pub admin_connections_per_address_max: usize,
    /// Connections of nodes and clients to a node's port for contents.
    pub peer_connections_max: usize,
    /// Of these, connections of one address.
    pub peer_connections_per_address_max: usize,
    /// Of these, connections in a handshake of TLS.
    pub peer_handshakes_max: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            half_open_max: 4_096,
            request_timeout: Duration::from_secs(10),
            head_bytes_max: RTSP_HEAD_BYTES_MAX,
            body_bytes_max: RTSP_BODY_BYTES_MAX,
            held_bytes_max: 64 << 20,
            handshakes_max: TLS_HANDSHAKES_MAX,
            half_open_tunnels_max: HALF_OPEN_TUNNELS_MAX,
            publishers_max: PATHS_MAX,
            live_bytes_max: 1 << 30,
            titles_open_max: None,
            log_lines_max: 50,
            admin_connections_max: 64,
            admin_connections_per_address_max: 16,
            peer_connections_max: 16_384,
            peer_connections_per_address_max: 8_192,
            peer_handshakes_max: 512,
        }
    }
}

impl LimitsConfig {
    /// The same for shards of so many rows: connections without a request never have more than a
    /// quarter of them, so that strangers leave rows for others.
    #[must_use]
    pub fn within(self, poll_entries_max: usize) -> Self {
        let half_open_max = self.half_open_max.min((poll_entries_max / 4).max(1));
        Self { half_open_max, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_open_connections_have_a_quarter_of_the_rows_at_most() {
        let limits = LimitsConfig::default();
        for (rows, expected) in [(16_384, 4_096), (1 << 20, 4_096), (448, 112), (2, 1)] {
            assert_eq!(limits.within(rows).half_open_max, expected, "{rows}");
        }
    }
}
