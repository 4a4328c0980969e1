//! RTCP feedback of players (RFC 4585): why a lost packet is not sent again, and how many may be
//! asked for at once.

/// Why a packet is not sent again: index into `ShardCells::rtx_refused`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Never sent, or too long ago.
    #[error("the number is not remembered")]
    Unknown = 0,
    /// Sent again often enough.
    #[error("sent again too often")]
    Repeated = 1,
    /// A quarter of the stream's rate is used up.
    #[error("more than the stream's rate allows")]
    Rate = 2,
    /// Its bytes may have left memory: reading them would hold up others.
    #[error("not in memory any more")]
    Cold = 3,
    /// No room to send, or nothing is being played.
    #[error("nothing can be sent now")]
    Busy = 4,
}

/// More than two bursts: what a player asks for beyond that comes too late for it.
pub(crate) const NACK_PACKETS_MAX: usize = 256;
