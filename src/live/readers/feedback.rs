//! Feedback of live readers (RFC 4585): lost packets lead to retransmission, lost frames to a
//! request for a key frame from the source.
//!
//! ```text
//! NACK     --> session::feedback --> Action::Resend --> shard --> ring of the path
//! PLI, FIR --> stream by its SSRC --> owner of the path, 2 s apart --> source
//! ```
//! A report of a lost frame is always taken: FFmpeg sends such reports over RTP/AVP, too.
//! DESIGN section 5.8.

use std::sync::Arc;

use crate::base::ids::Ssrc;
use crate::live::core::message::OwnerRequest;
use crate::live::hub::Hub;
use crate::live::readers::Readers;
use crate::live::readers::reader::{LiveReader, LiveStream, ReaderState};
use crate::rtcp::{self, Packet};
use crate::session::cx::Cx;
use crate::session::directory::SessionRef;
use crate::session::feedback::NackedStream;

impl Readers {
    /// Handles feedback in a compound packet of a reader.
    pub(crate) fn handle_reader_feedback(
        &self,
        cx: &mut Cx,
        hub: &mut Hub,
        index: u32,
        bytes: &[u8],
    ) {
        self.handle_reader_nacks(cx, index, bytes);
        for packet in rtcp::packets(bytes) {
            match packet {
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

    fn handle_reader_nacks(&self, cx: &mut Cx, index: u32, bytes: &[u8]) {
        let Some(reader) = self.table.get(index as usize) else { return };
        let is_playing = matches!(reader.state, ReaderState::Playing);
        let stream_of = |media| {
            let has_ssrc =
                |(_, stream): &(usize, &LiveStream)| stream.outgoing.ssrc() == Some(media);
            let (index, stream) = reader.streams.iter().enumerate().find(has_ssrc)?;
            Some(NackedStream { index, has_rtx: stream.outgoing.rtx.is_some(), is_playing })
        };
        cx.handle_nacks(SessionRef::Reader(index), reader.serial(), bytes, stream_of);
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
            hub.request(&name, OwnerRequest::WantSync);
        }
    }

    fn reader_of(&self, index: u32, media: Ssrc) -> Option<(&LiveReader, usize)> {
        let reader = self.table.get(index as usize)?;
        let has_ssrc = |stream: &LiveStream| stream.outgoing.ssrc() == Some(media);
        Some((reader, reader.streams.iter().position(has_ssrc)?))
    }
}
