//! RTSP over HTTP (Apple, "Tunnelling RTSP and RTP over HTTP"): one session over two connections.
//!
//! ```text
//!  GET  x-sessioncookie: C --> 200, then RTSP as it is   server -> client
//!  POST x-sessioncookie: C --> base64 of RTSP            client -> server, no answer
//!
//!  GET --Enter--> shard of the cookie --Entered--> 200
//!  POST --Find--> shard of the cookie --Found--> POST --Bytes--> GET --Taken--> POST --Bytes--> ..
//! ```
//! The kernel spreads both connections over the shards, so what one knows of the other goes through
//! inboxes: where a cookie is entered follows from the cookie (`home_of`). The connection of the
//! GET is the RTSP connection; what is decoded of the POST is what it has received.
//!
//! Clients: FFmpeg and GStreamer make one POST, of the length that they say or longer, so its
//! `Content-Length` means nothing. QuickTime closes its POST and makes another; the tunnel lives as
//! long as its GET. Each request is encoded by itself, so padding stands in the middle.
//!
//! Invariants: a cookie names one tunnel, for clients of the address that began it; bytes of a POST
//! are in flight once, until the GET's connection has worked through them, so a client that floods
//! fills its own TCP window. Bounds: `HEAD_BYTES_MAX`; [`table::Tunnels`].

pub mod base64;
pub mod head;
pub mod table;

use std::net::IpAddr;

use crate::base::ids::ShardId;
use crate::live::core::message::owner_of;
use crate::poll::consumer::{TunnelEvent, TunnelRefusal};
use crate::poll::poll_table::EntryKey;
use crate::session::command::ReplyTo;
use base64::Decoder;

/// What halves of tunnels say to each other and to tables of tunnels.
#[derive(Debug)]
pub enum TunnelMessage {
    /// A GET has come.
    Enter {
        /// Its cookie.
        cookie: Cookie,
        /// Of its client.
        ip: IpAddr,
        /// Its connection, which gets `Entered`.
        down: ReplyTo,
    },
    /// A POST has come.
    Find {
        /// Its cookie.
        cookie: Cookie,
        /// Of its client.
        ip: IpAddr,
        /// Its connection, which gets `Found`.
        up: ReplyTo,
    },
    /// The connection of a GET is gone.
    Leave {
        /// Its cookie.
        cookie: Cookie,
        /// The connection.
        down: ReplyTo,
    },
    /// For a connection.
    To(EntryKey, TunnelEvent),
}

/// Value of `x-sessioncookie`.
pub type Cookie = Box<str>;

/// What a connection carries, as its first bytes tell.
#[derive(Debug)]
pub(super) enum Carries {
    /// Not known: the bytes so far, which are a method's beginning, or a head that is not whole.
    Unknown(Vec<u8>),
    /// Requests and interleaved packets.
    Rtsp,
    /// The half to the client.
    Down(Down),
    /// The half from the client.
    Up(Up),
    /// Nothing that could be used: it ends.
    Nothing,
}

/// The connection of a GET.
#[derive(Debug)]
pub(super) struct Down {
    pub(super) cookie: Cookie,
    /// The POST that bytes came from last.
    pub(super) up: Option<ReplyTo>,
    /// It waits to hear that they are worked through.
    pub(super) owes: bool,
}

/// The connection of a POST.
#[derive(Debug)]
pub(super) struct Up {
    pub(super) cookie: Cookie,
    /// `None`: it is looked for.
    pub(super) down: Option<ReplyTo>,
    pub(super) decoder: Decoder,
    /// Of the body, before the tunnel is found.
    pub(super) early: Vec<u8>,
    /// Bytes are on their way.
    pub(super) is_in_flight: bool,
}

/// The shard that knows a cookie.
pub(super) fn home_of(cookie: &str, shard_count: u8) -> ShardId {
    owner_of(cookie, shard_count)
}

/// An answer that ends a connection.
pub(super) fn refusal(why: TunnelRefusal) -> &'static [u8] {
    match why {
        TunnelRefusal::Unknown => {
            b"HTTP/1.0 404 Not Found\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\n\
              no tunnel has this x-sessioncookie: begin with GET, from the same address\n"
        }
        TunnelRefusal::Taken => {
            b"HTTP/1.0 409 Conflict\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\n\
              another tunnel has this x-sessioncookie\n"
        }
        TunnelRefusal::Full => {
            b"HTTP/1.0 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 5\r\n\
              Content-Type: text/plain\r\n\r\nthere are as many tunnels as there may be\n"
        }
        TunnelRefusal::Off => {
            b"HTTP/1.0 403 Forbidden\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\n\
              RTSP over HTTP is switched off (rtsp.http.tunnels_max)\n"
        }
        TunnelRefusal::Malformed => {
            b"HTTP/1.0 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\n\
              this is RTSP over HTTP: GET or POST with an x-sessioncookie of 8 to 128 characters\n"
        }
    }
}

/// The answer to a GET. Proxies keep nothing of it.
pub(super) const OPENED: &[u8] = b"HTTP/1.0 200 OK\r\nServer: headend\r\nConnection: close\r\n\
    Cache-Control: no-store\r\nPragma: no-cache\r\nContent-Type: application/x-rtsp-tunnelled\r\n\r\n";
