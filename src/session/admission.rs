//! Admission of a further session: player of a title, or reader or publisher of a live path.
//!
//! One limit counts all sessions of a shard, another one the sessions of an address on all shards.

use std::net::SocketAddr;

use crate::base::addresses::AddressPlace;
use crate::base::seldom::Seldom;
use crate::rtsp::response::Status;
use crate::session::cx::Cx;

/// When the log last told of refused sessions.
#[derive(Debug, Default)]
pub(crate) struct RefusalsSaid {
    full: Seldom,
    address: Seldom,
}

impl Cx {
    /// Number of sessions of all kinds.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.directory.len()
    }

    /// Admits one more session of a client; dropping the result frees the session's place.
    pub(crate) fn admit_session(&mut self, peer: SocketAddr) -> Result<AddressPlace, Status> {
        let (now, ip) = (self.now, peer.ip().to_canonical());
        if self.session_count() >= self.config.sessions_max {
            self.cells.sessions_refused.add(1);
            if let Some(count) = self.refusals_said.full.happened(now) {
                let max = self.config.sessions_max;
                tracing::warn!(
                    code = "HE-W501",
                    max,
                    count,
                    "session refused: the shard has as many sessions as rtsp.sessions_max allows"
                );
            }
            return Err(Status::NotEnoughBandwidth);
        }
        let place = self.config.addresses.enter(ip);
        place.ok_or_else(|| {
            self.cells.sessions_refused_address.add(1);
            if let Some(count) = self.refusals_said.address.happened(now) {
                tracing::warn!(
                    code = "HE-W502", %ip, count, fix = "raise rtsp.sessions_per_address_max",
                    "session refused: the address has as many sessions as it may have"
                );
            }
            Status::NotEnoughBandwidth
        })
    }
}
