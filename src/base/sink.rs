//! Where packets go: the part of a shard's sockets that the pumps know.
//!
//! ```text
//!  pump --way_to--> sink --start--> run: packets .. --submit(mark)--> sent
//!    ^                                                   `-- refused: the mark comes back
//! ```
//! `vod::pump` and `live::core::pump` add to [`RunSink`] what their packets are made of. The ring
//! of the shard implements both; tests and benches implement them without a socket (`testing`).

#[cfg(test)]
pub(crate) mod testing;

use std::net::SocketAddr;

/// Sockets that send runs of datagrams.
///
/// Runs that a stream submits in a turn are linked: a sink that refuses one of them refuses all
/// that follow it.
pub trait RunSink {
    /// An open socket with the address of a client.
    type Way: Copy;

    /// The way from a pair of sockets to a client; `None` while the pair is not open.
    fn way_to(&self, pair: u16, client: SocketAddr) -> Option<Self::Way>;

    /// Whether there is room for another run.
    fn has_free_run(&self) -> bool;
}

/// What one send on a connection took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gathered {
    /// RTP packets.
    pub packets: u64,
    /// Their payload without RTP headers.
    pub payload_bytes: u64,
}
