//! `RtspListener`: accepts RTSP connections.
//!
//! One listener a shard, on the same port (SO_REUSEPORT): the kernel spreads the connections.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use super::Context;
use crate::base::addresses::AddressPlace;
use crate::poll::consumer::{Disposition, Event, PollEventConsumer};

/// The consumer of a listening RTSP socket.
#[derive(Debug)]
pub struct RtspListener {
    /// How its connections begin.
    pub speaks: Speaks,
}

/// What clients of a listener speak first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// RTSP, or HTTP around it.
    Rtsp,
    /// HTTP around RTSP.
    Http,
    /// TLS around either.
    Tls,
}

impl Speaks {
    /// What a client is told for whom there is no place. `None`: nothing can be said before a
    /// handshake.
    #[must_use]
    pub fn refusal(self) -> Option<&'static [u8]> {
        match self {
            Self::Rtsp => Some(REFUSAL),
            Self::Http => Some(HTTP_REFUSAL),
            Self::Tls => None,
        }
    }
}

/// An accepted connection, to be entered in the PollTable.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub fd: OwnedFd,
    /// Its other end.
    pub peer: SocketAddr,
    /// Our end of it.
    pub local: SocketAddr,
    /// Its place among the connections of its address.
    pub place: AddressPlace,
    /// How it begins.
    pub speaks: Speaks,
}

impl PollEventConsumer<Context<'_>> for RtspListener {
    fn create_task(&mut self, event: Event<'_>, cx: &mut Context<'_>) -> Disposition {
        if let Event::Accepted { fd, peer, local, place } = event {
            // A connection that comes while we stop is closed again by dropping it.
            if !cx.is_stopping {
                let speaks = self.speaks;
                cx.accepted.push(Accepted { fd, peer, local, place, speaks });
            }
        }
        Disposition::Handled
    }
}

const REFUSAL: &[u8] = b"RTSP/1.0 503 Service Unavailable\r\nCSeq: 0\r\nRetry-After: 5\r\n\r\n";
const HTTP_REFUSAL: &[u8] = b"HTTP/1.0 503 Service Unavailable\r\nConnection: close\r\n\
    Retry-After: 5\r\n\r\n";
