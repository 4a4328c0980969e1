//! `RtspListener`: accepts RTSP connections.
//!
//! One listener a shard, on the same port (SO_REUSEPORT): the kernel spreads the connections.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use super::Context;
use crate::base::addresses::AddressPlace;
use crate::poll::consumer::{Disposition, Event, PollEventConsumer};

/// The consumer of a listening RTSP socket.
#[derive(Debug, Default)]
pub struct RtspListener {
    /// Its connections begin with a handshake of TLS.
    pub is_secure: bool,
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
    /// It begins with a handshake of TLS.
    pub is_secure: bool,
}

impl PollEventConsumer<Context<'_>> for RtspListener {
    fn create_task(&mut self, event: Event<'_>, cx: &mut Context<'_>) -> Disposition {
        if let Event::Accepted { fd, peer, local, place } = event {
            // A connection that comes while we stop is closed again by dropping it.
            if !cx.is_stopping {
                let is_secure = self.is_secure;
                cx.accepted.push(Accepted { fd, peer, local, place, is_secure });
            }
        }
        Disposition::Handled
    }
}
