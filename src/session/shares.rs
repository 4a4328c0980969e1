//! What each address may have of what one shard has for strangers.
//!
//! ```text
//!  half-open connections --.
//!  handshakes of TLS       |--> a quarter of the shard's limit for an address, see `AddressLimit`
//!  tunnels, half-open ones |
//!  publishers              |
//!  requests that are held--'    (in pieces of `HELD_PIECE_BYTES`)
//! ```
//! Connections and sessions are counted for their address by all shards together, beside these.
//! Bound: the limits of the shard (`LimitsConfig`).

use std::sync::Arc;

use crate::base::addresses::{AddressLimit, Addresses};
use crate::config::limits::LimitsConfig;

/// Counts by address of one shard: see the module.
#[derive(Debug, Default)]
pub struct Shares {
    /// Connections that have made no request yet.
    pub half_open: Arc<Addresses>,
    /// Handshakes of TLS that are under way.
    pub handshakes: Arc<Addresses>,
    /// Tunnels over HTTP.
    pub tunnels: Arc<Addresses>,
    /// Tunnels whose second connection has not come.
    pub half_open_tunnels: Arc<Addresses>,
    /// Publishers (ANNOUNCE).
    pub publishers: Arc<Addresses>,
    /// Pieces of requests that are not whole.
    pub held: Arc<Addresses>,
}

impl Shares {
    /// The usual shares of what a shard may have.
    #[must_use]
    pub fn of(limits: &LimitsConfig, tunnels_max: usize) -> Self {
        let held = AddressLimit::share_of(limits.held_bytes_max / HELD_PIECE_BYTES);
        Self {
            half_open: Addresses::sharing(limits.half_open_max),
            handshakes: Addresses::sharing(limits.handshakes_max),
            tunnels: Addresses::sharing(tunnels_max),
            half_open_tunnels: Addresses::sharing(limits.half_open_tunnels_max),
            publishers: Addresses::sharing(limits.publishers_max),
            held: Arc::new(Addresses::new(held, limits.half_open_max)),
        }
    }
}

/// The rest of a request is counted for its address in whole pieces: what a read leaves of a packet
/// or of a usual request is less than one, and costs nothing.
pub const HELD_PIECE_BYTES: usize = 4 << 10;
