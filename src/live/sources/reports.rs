//! RTCP to sources: receiver reports, and requests for key frames. DESIGN section 5.8.

use crate::base::time::Mono;
use crate::live::core::liveness::{Patience, SourceStatus};
use crate::live::sources::announced::{PictureRequest, PublisherTrack};
use crate::live::sources::publishers::Publishers;
use crate::rtcp::{self, CompoundWriter, NoRoom};
use crate::session::cx::Cx;
use crate::session::rtcp::send_rtcp;
use crate::session::transport::Transport;

impl Publishers {
    /// Sends receiver reports to a publisher when they are due. False when the publisher has been
    /// silent for too long.
    pub(crate) fn report_to(&mut self, cx: &mut Cx, number: u32, now: Mono) -> bool {
        let Some(publisher) = self.get_mut(&number) else { return true };
        let timeout = cx.configs.find(publisher.source.path()).source_timeout;
        let patience = Patience::new(publisher.feeder(), timeout);
        if matches!(publisher.source.check(patience, now), SourceStatus::Gone { .. }) {
            return false;
        }
        let (ssrc, cname) = (publisher.own_ssrc, publisher.cname.clone());
        for (track, block) in publisher.source.poll_reports(now) {
            self.send_to(cx, number, track, |compound| {
                compound.receiver_report(ssrc, &[block])?;
                compound.cname(ssrc, &cname)
            });
        }
        true
    }

    /// Asks a source for a key frame on behalf of readers.
    pub(crate) fn ask_for_sync(&mut self, cx: &mut Cx, number: u32) {
        let now = cx.now;
        let Some(publisher) = self.get_mut(&number) else { return };
        let (own, cname) = (publisher.own_ssrc, publisher.cname.clone());
        let Some((track, media)) = publisher.source.ask_sync(now) else { return };
        let place = publisher.tracks.get_mut(usize::from(track));
        // Only the offered kind: publishers do not understand others.
        let Some(request) = place.and_then(PublisherTrack::next_picture_request) else { return };
        cx.cells.picture_requests_sent.add(1);
        self.send_to(cx, number, track, |compound| {
            compound.receiver_report(own, &[])?;
            compound.cname(own, &cname)?;
            match request {
                PictureRequest::Pli => compound.pli(own, media),
                PictureRequest::Fir { number } => compound.fir(own, media, number),
            }
        });
    }

    fn send_to(
        &self,
        cx: &mut Cx,
        number: u32,
        track: u8,
        write: impl FnOnce(&mut CompoundWriter<'_>) -> Result<(), NoRoom>,
    ) {
        let mut buffer = [0; rtcp::REPORT_BYTES_MAX];
        let mut compound = CompoundWriter::new(&mut buffer);
        if write(&mut compound).is_err() {
            return;
        }
        let mut bytes = cx.take_bytes();
        bytes.extend_from_slice(compound.as_bytes());
        let Some(publisher) = self.get(&number) else { return };
        let track = publisher.tracks.get(usize::from(track));
        let srtp = track.and_then(|track| track.srtp.as_ref());
        match track.and_then(|track| track.transport) {
            // A camera that does not state its RTCP port gets no reports.
            Some(Transport::Udp { rtcp, .. }) if rtcp.port() == 0 => cx.give_bytes_back(bytes),
            Some(transport) => send_rtcp(cx, (transport, srtp), publisher.connection, bytes),
            None => cx.give_bytes_back(bytes),
        }
    }
}
