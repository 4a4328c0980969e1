//! Sources that are pulled: from a camera or another server, as its client (RFC 2326).
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
//! | `client` | what is said to the camera, and when |
//! | `answers` | what its answers mean |
//! | `error` | why it cannot be had |
//! | `keepalive` | how its session is kept alive |
//! | `joined` | the client joined to its path, its connection and its packets |
//!
//! The client is a state machine without sockets: what happens comes in by `handle_*`, what is to
//! be done goes out as `PullOrder`s, in order. It lives from the order to fetch until it has
//! failed or is told to stop; when to try again is the home's to say (DESIGN section 5.6).
//!
//! Cameras are met as they are: OPTIONS may be refused or never answered, the session id may change
//! with any answer, headers may be missing, channels and ports may be others than asked for,
//! `RTP-Info` is not looked at (wrong numbers are seen). Packets longer than 2 KiB are dropped,
//! over TCP too: no reader could be sent them over UDP.
//!
//! Invariants: an order to fetch ends in packets or in one `Failed` with its reason; each step has
//! a deadline; nothing of one camera waits for another. Bounds: `ADDRESSES_MAX`, `REDIRECTS_MAX`,
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

use crate::config::paths::SourceTransport;
use crate::rtsp::source_url::SourceUrl;
use crate::rtsp::transport::Lower;
use crate::sdp::session::SessionSdp;

pub(crate) use client::PullClient;
pub(crate) use error::PullError;

/// What is to be fetched.
#[derive(Debug, Clone)]
pub(crate) struct PullPlan {
    /// From where.
    pub(crate) url: SourceUrl,
    /// How its packets may come.
    pub(crate) transport: SourceTransport,
    /// How they came the last time.
    pub(crate) worked: Option<Lower>,
}

/// What the shard does for a client, in this order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PullOrder {
    /// Finds the addresses of a host: `handle_resolved`.
    Resolve {
        /// Its name, or a link-local address.
        host: String,
        /// Name or number of the interface of that address.
        zone: Option<String>,
    },
    /// Connects: `handle_connected` or `handle_refused`.
    Connect(SocketAddr),
    /// Sends bytes on the connection.
    Send(Vec<u8>),
    /// Closes the connection when all is sent. Nothing of it is told any more.
    Disconnect,
    /// Asks the home for the path: `handle_granted`. It may be asked again.
    Claim(Box<SessionSdp>),
    /// Finds ports of ours for the RTP and RTCP of a track: `handle_ports`.
    WantPorts(u8),
    /// A track's packets will come like this.
    SetUp {
        /// Which track.
        track: u8,
        /// How.
        way: PullWay,
    },
    /// PLAY is asked for: packets may come from now on.
    Begin,
    /// It is over.
    Failed(PullError),
}

/// How the packets of a track come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PullWay {
    /// On the connection.
    Tcp {
        /// For RTP and RTCP.
        channels: (u8, u8),
    },
    /// To our ports.
    Udp {
        /// Where they come from, as far as the camera says it.
        server_port: Option<(u16, u16)>,
        /// The same.
        source: Option<IpAddr>,
    },
}
