//! Sends lost packets again: the same bytes of the file, a retransmission's header in front.
//!
//! Each is a run of its own and is not tried twice: one that the socket has no room for is lost as
//! any other on its way, and the player asks again (RFC 4588 s6).

use super::dispatch::NO_RUN;
use super::sockets::to_socket_address;
use super::turn::Shard;
use crate::base::ids::SeqNo;
use crate::rtp::{RTX_HEADER_BYTES, write_rtx_header};
use crate::session::desk::Waiter;
use crate::session::resend::Refusal;
use crate::session::session::Session;
use crate::session::stream::Path;

impl Shard {
    /// Sends a packet of a stream again, if it may be.
    pub(super) fn resend(&mut self, at: Waiter, seq: SeqNo) {
        match self.try_resend(at, seq) {
            Ok(()) => self.cells.rtx_packets_sent.add(1),
            Err(refusal) => self.cells.rtx_refused[refusal as usize].add(1),
        }
    }

    fn try_resend(&mut self, at: Waiter, seq: SeqNo) -> Result<(), Refusal> {
        let Self { sessions, ring, pairs, .. } = self;
        let now = sessions.now;
        if !ring.has_free_run() {
            return Err(Refusal::Busy);
        }
        let is_current = |session: &&mut Session| session.epoch_count == at.epoch_count;
        let session = sessions.session_mut(at.session).filter(is_current).ok_or(Refusal::Busy)?;
        let Session { title, streams, .. } = session;
        let stream = streams.get_mut(usize::from(at.stream_index)).ok_or(Refusal::Busy)?;
        let Path::Udp { pair, rtp, .. } = stream.path else { return Err(Refusal::Unknown) };
        let pair = pairs.get(usize::from(pair)).and_then(Option::as_ref).ok_or(Refusal::Busy)?;
        let resender = stream.resender.as_mut().ok_or(Refusal::Unknown)?;
        let again = resender.handle_nack(seq, now)?;
        let mut header = [0; RTX_HEADER_BYTES];
        write_rtx_header(&mut header, again.packet.marker, again.ts, seq, again.rtx);
        let to = to_socket_address(rtp, pair.family);
        let mut run = ring.start_run(pair.rtp, to, NO_RUN).ok_or(Refusal::Busy)?;
        match run.try_packet(&header, again.window, again.packet, title) {
            Ok(true) => run.submit(false),
            Ok(false) | Err(_) => return Err(Refusal::Busy),
        }
        Ok(())
    }
}
