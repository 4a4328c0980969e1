//! Sources that are pulled: the server is the RTSP client of a camera or another server (RFC 2326).
//!
//! ```text
//!  resolve -> connect -> OPTIONS -> DESCRIBE -> claim -> SETUP, each track -> PLAY -> playing
//!     ^          ^           `--401: answered--'            |  ^               |       keep-alive
//!     |          `--next address                            |  `-461: TCP      |
//!     `-------------------------------3xx: elsewhere--------'                  |
//!     `-------------------------------no RTP over UDP: again, over TCP---------'
//! ```
//! | file | what is there |
//! |---|---|
//! | `client` | requests to the camera, and their deadlines |
//! | `answers` | the camera's answers |
//! | `error` | why a source cannot be pulled |
//! | `keepalive` | keep-alive of the camera's session |
//! | `joined` | joins a client to its path, its connection and its packets |
//!
//! The client is a state machine without sockets: events come in by `handle_*`, work for the shard
//! goes out as `PullOrder`s, in order. A client lives from the order to fetch until it fails or is
//! stopped; the owner decides when to try again (DESIGN section 5.6).
//!
//! The client tolerates what cameras do: OPTIONS may be refused or never answered, the session id
//! may change with any answer, headers may be missing, channels and ports may differ from those
//! requested. `RTP-Info` is ignored (wrong numbers have been seen).
//!
//! Invariants: an order to fetch ends in packets or in one `Failed` with its cause; each step has a
//! deadline; cameras do not wait for each other. Bounds: `ADDRESSES_MAX`, `REDIRECTS_MAX`,
//! `PENDING_MAX`, a pair of ports for each track of a host.

mod answers;
mod bye;
mod client;
mod error;
pub mod joined;
#[cfg(test)]
mod joined_tests;
mod keepalive;
mod redirect;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};

use crate::base::secret::Secret;
use crate::config::paths::SourceTransport;
use crate::config::source::SourceTls;
use crate::rtsp::source_url::SourceUrl;
use crate::rtsp::transport::Lower;
use crate::sdp::session::SessionSdp;

pub(crate) use client::PullClient;
pub(crate) use error::PullError;

/// The source to pull.
#[derive(Debug, Clone)]
pub(crate) struct PullPlan {
    /// URL of the source.
    pub(crate) url: SourceUrl,
    /// Transport that is allowed.
    pub(crate) transport: SourceTransport,
    /// Who is believed to be the source, if its URL asks for TLS.
    pub(crate) tls: SourceTls,
    /// Transport that worked last.
    pub(crate) worked: Option<Lower>,
    /// What is shown with each request, unasked, to the server of `url` alone.
    pub(crate) capability: Option<Secret>,
}

/// Work for the shard, in this order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PullOrder {
    /// Resolves a host: `handle_resolved`.
    Resolve {
        /// Name of the host, or a link-local address.
        host: String,
        /// Name or number of that address's interface.
        zone: Option<String>,
    },
    /// Connects: `handle_connected` or `handle_refused`.
    Connect(SocketAddr),
    /// Sends bytes on the connection.
    Send(Vec<u8>),
    /// Closes the connection after all bytes are sent. No further events of the connection follow.
    Disconnect,
    /// Claims the path at its owner: `handle_granted`. The claim may be repeated.
    Claim(Box<SessionSdp>),
    /// Reserves ports for RTP and RTCP of a track: `handle_ports`.
    WantPorts(u8),
    /// Registers the transport of a track.
    SetUp {
        /// Index of the track.
        track: u8,
        /// Transport of the track.
        way: PullWay,
    },
    /// PLAY has been sent: packets may arrive from now on.
    Begin,
    /// The source cannot be pulled.
    Failed(PullError),
}

/// Transport of a pulled track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PullWay {
    /// Interleaved on the connection.
    Tcp {
        /// Channels of RTP and RTCP.
        channels: (u8, u8),
    },
    /// To ports of the server.
    Udp {
        /// The camera's ports, if stated.
        server_port: Option<(u16, u16)>,
        /// The camera's address for the track, if stated.
        source: Option<IpAddr>,
    },
}
