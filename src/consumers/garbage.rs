//! What is said of bytes between interleaved frames that belong to none.
//!
//! Bound: a line a minute for each connection, with what was passed over since the last one.

use std::net::SocketAddr;
use std::time::Duration;

use crate::base::time::Mono;

/// Counts and logs bytes between interleaved frames.
#[derive(Debug, Default)]
pub(super) struct Garbage {
    times: u64,
    bytes: usize,
    told: Option<Mono>,
}

impl Garbage {
    /// `bytes` were passed over.
    pub(super) fn handle(&mut self, bytes: usize, peer: Option<SocketAddr>, now: Mono) {
        self.times += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        if self.told.is_some_and(|told| now.since(told) < QUIET) {
            return;
        }
        let Self { times, bytes, .. } = *self;
        let peer = peer.map(tracing::field::display);
        tracing::warn!(
            code = "HE-W503",
            peer,
            times,
            bytes,
            "bytes between interleaved frames are passed over"
        );
        *self = Self { told: Some(now), ..Self::default() };
    }
}

const QUIET: Duration = Duration::from_secs(60);
