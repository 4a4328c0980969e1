//! The transport of a stream's packets.

use std::net::SocketAddr;

use crate::base::carrier::Carrier;

/// The transport that SETUP settled for a stream. A header has its ports and channels in a
/// `rtsp::transport_answer::TransportParameters`; its kind alone is a [`Carrier`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// RTP/AVP over a shared pair of sockets.
    Udp {
        /// Index of the shard's pair.
        pair: u16,
        /// Destination of RTP.
        rtp: SocketAddr,
        /// Destination and origin of RTCP.
        rtcp: SocketAddr,
    },
    /// RTP/AVP/TCP: interleaved with the RTSP connection of the session.
    Tcp {
        /// Channel of RTP packets; RTCP uses the next one.
        channel: u8,
        /// Channel of RTCP packets.
        rtcp_channel: u8,
    },
    /// To a live path's multicast group, as one of its members: no packets are sent to the member.
    Group {
        /// Address of the group, with the port of RTP.
        rtp: SocketAddr,
        /// Address of the group, with the port of RTCP.
        rtcp: SocketAddr,
    },
}

impl Transport {
    /// How the packets travel. A sender to a group has [`Transport::Udp`].
    #[must_use]
    pub fn carrier(self) -> Carrier {
        match self {
            Self::Udp { .. } => Carrier::Udp,
            Self::Tcp { .. } => Carrier::Tcp,
            Self::Group { .. } => Carrier::Multicast,
        }
    }
}
