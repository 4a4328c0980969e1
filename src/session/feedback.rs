//! RTCP feedback of players (RFC 4585): causes for which a lost packet is not sent again, and the
//! number of packets that one datagram may ask for.

/// Why a packet is not sent again: index into `ShardCells::rtx_refused`. The errors of a live path
/// (`live::core::retransmit::RetransmitError`) are mapped to these by the shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The packet was never sent, or too long ago.
    #[error("the number is not remembered")]
    Unknown = 0,
    /// The packet has been sent again often enough.
    #[error("sent again too often")]
    Repeated = 1,
    /// The retransmission rate, a quarter of the stream's rate, is used up.
    #[error("more than the stream's rate allows")]
    Rate = 2,
    /// The packet's bytes may have left memory: reading them would delay other sessions.
    #[error("not in memory any more")]
    Cold = 3,
    /// There is no room to send, or nothing is being played.
    #[error("nothing can be sent now")]
    Busy = 4,
}

/// More than two bursts: packets beyond that would arrive too late for the player.
pub(crate) const NACK_PACKETS_MAX: usize = 256;
