//! How the packets of a stream travel.

use std::net::SocketAddr;

/// The transport that SETUP settled for a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// RTP/AVP over a shared pair of sockets.
    Udp {
        /// Which pair of the shard.
        pair: u16,
        /// Where RTP goes.
        rtp: SocketAddr,
        /// Where RTCP goes, and comes from.
        rtcp: SocketAddr,
    },
    /// RTP/AVP/TCP: interleaved with the RTSP connection of the session.
    Tcp {
        /// Channel of RTP packets; RTCP uses the next one.
        channel: u8,
        /// Channel of RTCP packets.
        rtcp_channel: u8,
    },
    /// To a live path's group, as one of those who listen to it: it is sent nothing of its own.
    Group {
        /// The group, with the port of RTP.
        rtp: SocketAddr,
        /// The group, with the port of RTCP.
        rtcp: SocketAddr,
    },
}
