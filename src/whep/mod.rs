//! WHEP (draft-ietf-wish-whep): live paths in a browser below a second, by WebRTC, without sockets
//! and without HTTP.
//!
//! ```text
//!  offer --open--> answer                            batches of a path (as HLS gets them)
//!                                                       | lane, stream: once a path
//!  datagrams --ufrag, address--> viewer --+             v
//!  time -------------------------------> |  <---------- packets
//!                                         '--datagrams--> Sink          asks for key frames
//! ```
//! [`Whep`] is all of it: `open` and `close` sessions, `handle_*` what comes, `next_timeout` says
//! when to come again. What it has to send goes to a [`Sink`] at once, so nothing is queued here
//! that the socket does not take. str0m does ICE, DTLS, SRTP and retransmissions of each
//! viewer; H.264 and Opus of the path are forwarded as they came, all viewers getting the same
//! payloads.
//!
//! | file | what is there |
//! |---|---|
//! | `service` | paths, viewers, and for whom a datagram is |
//! | `format` | which tracks a browser gets |
//! | `lane` | a track: numbers, parameter sets, packets that fit a datagram |
//! | `stream` | a path: its tracks, and the newest group for who comes |
//! | `offer` | what of an offer is read |
//! | `viewer` | a viewer: its connection, and where it is |
//! | `pace` | how often an address may make offers |
//! | `places` | how many viewers there may be, and who makes room |
//! | `leave` | viewers whose leave is over, and those whom operators end |
//! | `info` | viewers as operators see them |
//! | `clock` | times of a viewer who begins in the past |
//! | `stun` | the name in a STUN request |
//! | `crypto` | ciphers for str0m, of crates that are linked anyway |
//!
//! Plain code: no descriptor, clock or thread; moments are arguments. Invariant: a viewer that is
//! slow, leaves or breaks costs the others nothing. Bounds: `viewers_max` viewers and a share of
//! them for an address (`places`); `CONNECT_MAX` for ICE and DTLS; see `viewer` and `stream`.

mod clock;
mod crypto;
mod format;
mod info;
mod lane;
mod leave;
mod offer;
mod pace;
mod places;
mod service;
mod stream;
mod stun;
#[cfg(test)]
mod tests;
mod viewer;

use std::net::SocketAddr;

use crate::access::permit::Over;

pub use crypto::Identity;
pub use format::NotSent;
pub use info::{TrackInfo, ViewerInfo};
pub use leave::Asked;
pub use pace::Pace;
pub use service::{Limits, Offer, Opened, Whep};

/// A datagram to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Address of the server that the browser knows.
    pub from: SocketAddr,
    /// Address of the browser.
    pub to: SocketAddr,
    /// Contents.
    pub bytes: &'a [u8],
}

/// Where datagrams go; what it cannot send is lost, and asked for again by the browser.
pub type Sink<'s> = dyn FnMut(Datagram<'_>) + 's;

/// Why a session is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum End {
    /// The browser closed the connection.
    #[error("the viewer has left")]
    Left,
    /// DELETE.
    #[error("the viewer has ended its session")]
    Deleted,
    /// ICE or DTLS did not come up.
    #[error("no connection by UDP came up; is the port of webrtc.listen open to this viewer?")]
    NotConnected,
    /// It answers no requests of ICE any more.
    #[error("the viewer has gone silent")]
    Silent,
    /// An operator.
    #[error("an operator has ended the session")]
    Kicked,
    /// It may not watch any more.
    #[error("{0}")]
    NoLeave(#[from] Over),
    /// Others came who were to have its place.
    #[error("the viewer did not connect, and somebody else needs its place")]
    GaveWay,
    /// The path ended, or goes on with other tracks.
    #[error("the path has ended, or another source brings other tracks")]
    PathEnded,
    /// The path cannot be sent after all.
    #[error("{0}")]
    NotSent(#[from] NotSent),
    /// The connection is broken.
    #[error("the connection is broken: {0}")]
    Failed(String),
}

/// Why an offer is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OfferError {
    /// It is no SDP.
    #[error("the offer cannot be read: {0}")]
    Syntax(String),
    /// It is no offer of WebRTC.
    #[error("the offer cannot be answered: {0}")]
    Refused(String),
    /// It has no section for what the path has.
    #[error("the offer does not take {0}, which this path has")]
    NoCodec(&'static str),
    /// The path has no codec of browsers.
    #[error("{0}")]
    NotSent(#[from] NotSent),
    /// The path is not there any more.
    #[error("the path has ended")]
    NoPath,
    /// The server has as many viewers as it may have.
    #[error("{max} viewers are here already (webrtc.viewers_max)")]
    TooMany {
        /// How many that is.
        max: usize,
    },
    /// The address has.
    #[error("the address has as many viewers as one may have (webrtc.viewers_per_address_max)")]
    AddressFull,
    /// Those who could make room have just begun.
    #[error("many viewers begin to connect at this moment; ask again in two seconds")]
    Crowded,
    /// The address makes offers too often.
    #[error("this address makes offers too often; ask again in two seconds")]
    TooOften,
    /// No socket can be reached by this viewer.
    #[error("there is no address for datagrams that this viewer could reach; see webrtc.listen")]
    NoCandidate,
}
