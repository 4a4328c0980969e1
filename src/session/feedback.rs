//! Requests of players for lost packets (RFC 4585 s6.2.1), passed on to retransmission.
//!
//! ```text
//!  NACK --SSRC--> stream of the session --numbers--> Action::Resend --> shard
//!  title:  vod::retransmit finds them in windows     live: live::core::retransmit, in the ring
//! ```
//! Requests on a stream without negotiated feedback are counted and ignored: FFmpeg sends them over
//! RTP/AVP, too, and would take a retransmission for a packet of the stream.
//! Bound: `NACK_PACKETS_MAX` numbers for each datagram.

use crate::base::ids::Ssrc;
use crate::rtcp::{self, Packet};
use crate::rtp::RtxRefusal;
use crate::session::action::Action;
use crate::session::cx::Cx;
use crate::session::directory::SessionRef;

/// The stream that a NACK is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NackedStream {
    /// Index among the session's streams.
    pub index: usize,
    /// Retransmission was negotiated.
    pub has_rtx: bool,
    /// Packets of the stream are being sent.
    pub is_playing: bool,
}

impl Cx {
    /// Requests retransmission of the packets that a player's compound packet names. `epoch_count`
    /// is that of `Action::Resend`; `stream_of` finds a stream of the session by its SSRC.
    pub(crate) fn handle_nacks(
        &mut self,
        session: SessionRef,
        epoch_count: u32,
        bytes: &[u8],
        stream_of: impl Fn(Ssrc) -> Option<NackedStream>,
    ) {
        let mut room = NACK_PACKETS_MAX;
        for packet in rtcp::packets(bytes) {
            let Ok(Packet::Nack(nack)) = packet else { continue };
            let Some(stream) = stream_of(nack.media) else { continue };
            let stream_index = u8::try_from(stream.index).unwrap_or(u8::MAX);
            for seq in nack.lost().take(room) {
                room -= 1;
                self.cells.nacks_received.add(1);
                if !stream.has_rtx {
                    self.count_refusal(RtxRefusal::Unknown);
                } else if !stream.is_playing {
                    self.count_refusal(RtxRefusal::Busy);
                } else {
                    self.out.push(Action::Resend { session, stream_index, epoch_count, seq });
                }
            }
        }
    }
}

/// More than two bursts: packets beyond that would arrive too late for the player.
const NACK_PACKETS_MAX: usize = 256;
