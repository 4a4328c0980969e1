//! WebRTC: where datagrams of WHEP go, and how many viewers there may be. The offers come over
//! the port of HLS (`config::hls`); without that there is no WebRTC.
//!
//! ```text
//!  webrtc.listen = ["[::]:8189"]     UDP, one socket each for all viewers; "off": no WebRTC
//!  webrtc.hosts  = []                addresses that browsers are told, instead of the one they
//!                                    reached HLS by: that of the router in front, for instance
//! ```

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// WebRTC by configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebrtcConfig {
    /// Addresses of sockets; none: there is no WebRTC.
    pub listen: Vec<SocketAddr>,
    /// Addresses that viewers are told; none: the one that the request came to.
    pub hosts: Vec<IpAddr>,
    /// Viewers at once.
    pub viewers_max: usize,
    /// Of these, viewers of one address; `None`: a share of all.
    pub viewers_per_address_max: Option<u32>,
}

impl Default for WebrtcConfig {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from((Ipv6Addr::UNSPECIFIED, 8_189))],
            hosts: Vec::new(),
            viewers_max: 256,
            viewers_per_address_max: None,
        }
    }
}
