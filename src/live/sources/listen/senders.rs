//! The sender of an input's track: one at a time. Two senders of one group would be mixed.
//!
//! ```text
//!  first datagram --> held --silent for SSRC_SILENCE--> the next sender takes over
//! ```
//! Invariant: while the sender of a track sends, no other sender is admitted. Bound: one address.

use std::net::{IpAddr, SocketAddr};

use crate::base::host::Host;
use crate::base::time::Mono;
use crate::live::core::limits::SSRC_SILENCE;
use crate::session::action::InputSocket;

/// The sender of a track: the first one, until it is silent. Two senders of one group would
/// otherwise be mixed.
#[derive(Debug)]
pub(crate) struct SenderLatch {
    /// Addresses that may send; empty allows any.
    allowed: Vec<IpAddr>,
    held: Option<(SocketAddr, Mono)>,
}

/// The verdict on a datagram's sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SenderVerdict {
    Same,
    /// The sender is the first one, or takes over.
    Begins,
    Foreign,
}

impl SenderLatch {
    pub(crate) fn new(socket: &InputSocket) -> Self {
        Self { allowed: socket.senders.clone(), held: None }
    }

    pub(crate) fn may_send(&self, from: SocketAddr) -> bool {
        self.allowed.is_empty() || self.allowed.contains(&from.ip())
    }

    pub(crate) fn admit(&mut self, from: SocketAddr, now: Mono) -> SenderVerdict {
        let verdict = match self.held {
            _ if !self.may_send(from) => return SenderVerdict::Foreign,
            Some((held, _)) if held == from => SenderVerdict::Same,
            Some((_, heard)) if now.since(heard) < SSRC_SILENCE => return SenderVerdict::Foreign,
            Some(_) | None => SenderVerdict::Begins,
        };
        self.held = Some((from, now));
        verdict
    }

    /// Whether a report is the sender's: reports come from another port of the same host.
    pub(crate) fn admits_report(&self, from: SocketAddr) -> bool {
        let is_same_host = self.held.is_none_or(|(held, _)| Host::of(held) == Host::of(from));
        is_same_host && self.may_send(from)
    }
}
