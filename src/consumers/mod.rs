//! Consumers: who is responsible for the events of which descriptor (reference 001).
//!
//! ```text
//!  Listener    RtspListener    new connections        -> RtspConnection
//!  Connection  RtspConnection  requests, $ frames     -> Sessions, tasks, other shards
//!              Camera          answers, $ frames      -> Sessions, of sources that are pulled
//!  Receiver    RtcpReceiver    receiver reports       -> Sessions
//!              RtpReceiver     RTP of publishers      -> Sessions
//!              InputReceiver   a source that listens  -> Sessions
//!              GroupReceiver   reports to a group     -> Sessions
//! ```
//! They turn sockets' bytes into calls of the logic. None of them owns a descriptor.

mod asked;
pub mod camera;
pub mod describe;
mod garbage;
pub mod input_receiver;
pub mod parcel;
pub mod receivers;
pub mod rtsp_connection;
pub mod rtsp_listener;
mod session_pages;
pub mod sessions;
pub mod takeover;
pub mod taking;
#[cfg(test)]
pub(crate) mod testing;
pub mod tls;
pub mod tunnel;

use std::net::SocketAddr;

use crate::base::ids::ShardId;
use crate::consumers::sessions::Sessions;
use crate::session::command::Command;

/// What a consumer may touch of its shard.
#[derive(Debug)]
pub struct Context<'a> {
    /// The shard's sessions.
    pub sessions: &'a mut Sessions,
    /// Commands for sessions of other shards.
    pub forwards: &'a mut Vec<(ShardId, Command)>,
    /// Connections that a listener has accepted.
    pub accepted: &'a mut Vec<rtsp_listener::Accepted>,
    /// What is told to halves of tunnels over HTTP, and to who knows them.
    pub tunnels: &'a mut Vec<(ShardId, tunnel::TunnelMessage)>,
    /// Commands that need another pair of sockets first.
    pub needs_pair: &'a mut Vec<Command>,
    /// This shard.
    pub shard: ShardId,
    /// How many shards there are.
    pub shard_count: u8,
    /// The shard is being stopped.
    pub is_stopping: bool,
}

/// A consumer of any kind, as the PollTable holds it.
#[derive(Debug)]
pub enum Consumer {
    /// New RTSP connections.
    Listener(rtsp_listener::RtspListener),
    /// One RTSP connection.
    Connection(Box<rtsp_connection::RtspConnection>),
    /// One connection to a camera.
    Camera(Box<camera::Camera>),
    /// RTCP of a shared pair.
    Rtcp(receivers::RtcpReceiver),
    /// What comes in at the RTP port of a shared pair.
    Rtp(receivers::RtpReceiver),
    /// What comes in at a socket of a source that listens.
    Input(input_receiver::InputReceiver),
    /// RTCP that comes to a path's group.
    Group(receivers::GroupReceiver),
    /// The shard's own pipe (reference 001): its messages are read by the shard itself.
    Inbox,
}

/// A v4 address that came in through a dual-stack socket, as v4.
#[must_use]
pub fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        ip if ip == addr.ip() => addr,
        mapped => SocketAddr::new(mapped, addr.port()),
    }
}
