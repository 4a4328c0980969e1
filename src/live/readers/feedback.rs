//! Feedback of live readers (RFC 4585): lost packets lead to retransmission, lost frames to a
//! request for a key frame from the source.
//!
//! ```text
//! NACK     --> stream by its SSRC --> numbers --> Action::Resend --> shard --> ring of the path
//! PLI, FIR --> stream by its SSRC --> home of the path, 2 s apart --> source
//! ```
//! As for titles, NACKs on a stream without negotiated feedback are counted and ignored. A report
//! of a lost frame is always taken: FFmpeg sends such reports over RTP/AVP, too.
//! Bound: `NACK_PACKETS_MAX` numbers for each datagram. DESIGN section 5.8.

use std::sync::Arc;

use crate::base::ids::Ssrc;
use crate::live::core::message::Ask;
use crate::live::hub::Hub;
use crate::live::readers::Readers;
use crate::live::readers::reader::{LiveReader, LiveStream, ReaderState};
use crate::rtcp::{self, Nack, Packet};
use crate::session::action::Action;
use crate::session::cx::Cx;
use crate::session::directory::SessionRef;
use crate::session::feedback::NACK_PACKETS_MAX;
use crate::session::feedback::Refusal;

impl Readers {
    /// Handles feedback in a compound packet of a reader.
    pub(crate) fn handle_reader_feedback(
        &self,
        cx: &mut Cx,
        hub: &mut Hub,
        index: u32,
        bytes: &[u8],
    ) {
        let mut room = NACK_PACKETS_MAX;
        for packet in rtcp::packets(bytes) {
            match packet {
                Ok(Packet::Nack(nack)) => self.handle_reader_nack(cx, index, nack, &mut room),
                Ok(Packet::Pli { media, .. }) => self.handle_lost_picture(cx, hub, index, media),
                Ok(Packet::Fir(fir)) => {
                    for (media, _number) in fir.entries() {
                        self.handle_lost_picture(cx, hub, index, media);
                    }
                }
                Ok(_) | Err(_) => {}
            }
        }
    }

    fn handle_reader_nack(&self, cx: &mut Cx, index: u32, nack: Nack<'_>, room: &mut usize) {
        let Some((reader, place)) = self.reader_of(index, nack.media) else { return };
        let has_rtx = reader.streams.get(place).is_some_and(|stream| stream.outgoing.rtx.is_some());
        let is_playing = matches!(reader.state, ReaderState::Playing);
        let stream_index = u8::try_from(place).unwrap_or(u8::MAX);
        let (session, epoch_count) = (SessionRef::Reader(index), reader.serial());
        for seq in nack.lost().take(*room) {
            *room -= 1;
            cx.cells.nacks_received.add(1);
            if !has_rtx {
                cx.count_refusal(Refusal::Unknown);
            } else if !is_playing {
                cx.count_refusal(Refusal::Busy);
            } else {
                cx.out.push(Action::Resend { session, stream_index, epoch_count, seq });
            }
        }
    }

    fn handle_lost_picture(&self, cx: &Cx, hub: &mut Hub, index: u32, media: Ssrc) {
        let now = cx.now;
        let Some((reader, place)) = self.reader_of(index, media) else { return };
        let (name, key) = (Arc::clone(&reader.path), reader.key);
        cx.cells.picture_requests_received.add(1);
        let Some(path) = hub.paths.path_mut(&name) else { return };
        let streams = path.reader(key).map(|reader| &reader.streams);
        let stream = streams.and_then(|streams| streams.get(place));
        if stream.is_some_and(|stream| stream.needs_sync) && path.wants_sync(now) {
            hub.ask(&name, Ask::WantSync);
        }
    }

    fn reader_of(&self, index: u32, media: Ssrc) -> Option<(&LiveReader, usize)> {
        let reader = self.table.get(index as usize)?;
        let is_its = |stream: &LiveStream| stream.outgoing.ssrc() == Some(media);
        Some((reader, reader.streams.iter().position(is_its)?))
    }
}
