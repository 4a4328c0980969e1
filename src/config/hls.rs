//! HLS: where it is served, to whom, and how much it may take.
//!
//! ```text
//!  hls.listen       = ["[::]:8888"]     "off": no HLS
//!  hls.allow_origin = []                pages of these origins may read it; "*": all
//!  hls.hosts        = []                names of this server beside its addresses and local names
//! ```

use std::net::SocketAddr;

/// HLS by configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HlsConfig {
    /// Addresses of listeners; none: there is no HLS.
    pub listen: Vec<SocketAddr>,
    /// Origins whose pages may read it (`https://tv.example`).
    pub allow_origin: Vec<String>,
    /// Names that clients may ask this server by, beside those that no stranger can have.
    pub hosts: Vec<String>,
    /// Connections at once.
    pub connections_max: usize,
    /// Of these, connections of one address; `None`: a share of all.
    pub connections_per_address_max: Option<u32>,
    /// Live paths that are made into segments at once.
    pub paths_max: usize,
    /// Memory for the segments of one live path.
    pub path_bytes_max: usize,
}

impl Default for HlsConfig {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 8_888))],
            allow_origin: Vec::new(),
            hosts: Vec::new(),
            connections_max: 4_096,
            connections_per_address_max: None,
            paths_max: 64,
            path_bytes_max: 64 << 20,
        }
    }
}
