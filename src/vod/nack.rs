//! Requests of players for lost packets (RFC 4585 s6.2.1), passed on to retransmission.
//!
//! ```text
//! NACK --> stream by its SSRC --> numbers --> Action::Resend --> shard --> Resender --> ring
//! ```
//! Requests on a stream without negotiated feedback are counted and ignored: FFmpeg sends them over
//! RTP/AVP, too, and would take a retransmission for a packet of the stream.
//! Bound: `NACK_PACKETS_MAX` numbers for each datagram.

use crate::rtcp::{self, Packet};
use crate::session::action::Action;
use crate::session::cx::Cx;
use crate::session::directory::{SessionKey, SessionRef};
use crate::session::feedback::{NACK_PACKETS_MAX, Refusal};
use crate::vod::playback::State;
use crate::vod::stream::Phase;
use crate::vod::table::Players;

impl Players {
    /// Requests retransmission of the packets that a player's compound packet names.
    pub(crate) fn handle_nacks(&self, cx: &mut Cx, key: SessionKey, bytes: &[u8]) {
        let mut room = NACK_PACKETS_MAX;
        for packet in rtcp::packets(bytes) {
            let Ok(Packet::Nack(nack)) = packet else { continue };
            let Some(session) = self.session(key) else { return };
            let place = session
                .streams
                .iter()
                .position(|stream| stream.outgoing.ssrc() == Some(nack.media));
            let Some(place) = place else { continue };
            let stream = &session.streams[place];
            let has_resender = stream.resender.is_some();
            let is_playing = matches!(session.state, State::Playing)
                && !matches!(stream.phase, Phase::Idle | Phase::Ended);
            let stream_index = u8::try_from(place).unwrap_or(u8::MAX);
            let (session, epoch_count) = (SessionRef::Title(key), session.epoch_count);
            for seq in nack.lost().take(room) {
                room -= 1;
                cx.cells.nacks_received.add(1);
                if !has_resender {
                    cx.count_refusal(Refusal::Unknown);
                } else if !is_playing {
                    cx.count_refusal(Refusal::Busy);
                } else {
                    cx.out.push(Action::Resend { session, stream_index, epoch_count, seq });
                }
            }
        }
    }
}
