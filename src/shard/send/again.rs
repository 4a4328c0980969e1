//! Retransmissions (RFC 4588): the bytes of a lost packet, with a new header in front.
//!
//! ```text
//!  NACK --> Action::Resend --> budget of the stream --> a run of one packet
//!                                    `-- refused: counted by reason
//! ```
//! Each retransmission is a run of its own and is tried once. One that finds no room in the socket
//! is lost like any other packet, and the player asks again (RFC 4588 s6).

use std::ops::Range;

use super::sink::{NO_RUN, RingSink, RunOwner};
use crate::base::ids::SeqNo;
use crate::base::sink::RunSink;
use crate::consumers::sessions::Sessions;
use crate::live::front::Live;
use crate::live::readers::reader::LiveReader;
use crate::rtp::{RTX_HEADER_BYTES, RtxRefusal, write_rtx_header};
use crate::session::directory::{SessionRef, StreamRef};
use crate::session::transport::Transport;
use crate::shard::network::Network;
use crate::shard::ring::SendFailure;
use crate::shard::ring::kernel::Kernel;
use crate::vod::playback::Session;

impl<K: Kernel> Network<K> {
    /// Sends a packet of a stream again, within the budget of the stream.
    pub(in crate::shard) fn resend(
        &mut self,
        sessions: &mut Sessions,
        session: SessionRef,
        stream_index: u8,
        epoch_count: u32,
        seq: SeqNo,
    ) {
        let sent = match session {
            SessionRef::Title(session) => {
                self.try_resend(sessions, StreamRef { session, stream_index, epoch_count }, seq)
            }
            SessionRef::Reader(index) => {
                self.try_resend_live(sessions, index, stream_index, epoch_count, seq)
            }
            SessionRef::Publisher(_) => Err(RtxRefusal::Unknown),
        };
        match sent {
            Ok(()) => self.cells.rtx_packets_sent.add(1),
            Err(refusal) => self.cells.rtx_refused[refusal as usize].add(1),
        }
    }

    fn try_resend(
        &mut self,
        sessions: &mut Sessions,
        at: StreamRef,
        seq: SeqNo,
    ) -> Result<(), RtxRefusal> {
        let Self { ring, pairs, srtp: share, .. } = self;
        let now = sessions.cx.now;
        if !ring.has_free_run() {
            return Err(RtxRefusal::Busy);
        }
        let is_current = |session: &&mut Session| session.epoch_count == at.epoch_count;
        let session = sessions
            .vod
            .players
            .session_mut(at.session)
            .filter(is_current)
            .ok_or(RtxRefusal::Busy)?;
        let Session { title, streams, .. } = session;
        let stream = streams.get_mut(usize::from(at.stream_index)).ok_or(RtxRefusal::Busy)?;
        let Transport::Udp { pair, rtp, .. } = stream.outgoing.transport else {
            return Err(RtxRefusal::Unknown);
        };
        let pair = pairs.get(pair).ok_or(RtxRefusal::Busy)?;
        let srtp = stream.outgoing.srtp.clone();
        let again = stream.handle_nack(seq, now)?;
        let mut header = [0; RTX_HEADER_BYTES];
        write_rtx_header(&mut header, again.packet.marker, again.ts, seq, again.rtx);
        let to = pair.address_of(rtp);
        let mut run = ring.start_run(pair.rtp, to, NO_RUN).ok_or(RtxRefusal::Busy)?;
        let taken = match &srtp {
            None => run.try_packet(&header, again.window, again.packet, title),
            Some(srtp) => {
                let mut seal = share.start(srtp).ok_or(RtxRefusal::Busy)?;
                let taken = seal.try_packet(&mut run, &header, (again.window, again.packet), title);
                seal.note_submitted();
                taken
            }
        };
        match taken {
            Ok(true) => run.submit(false),
            Ok(false) | Err(_) => return Err(RtxRefusal::Busy),
        }
        Ok(())
    }

    /// As `try_resend`, for a reader of a live path.
    fn try_resend_live(
        &mut self,
        sessions: &mut Sessions,
        index: u32,
        stream_index: u8,
        serial: u32,
        seq: SeqNo,
    ) -> Result<(), RtxRefusal> {
        let Self { ring, runs, pairs, srtp, .. } = self;
        let mut sink = RingSink { ring, runs, pairs, srtp };
        if !sink.has_free_run() {
            return Err(RtxRefusal::Busy);
        }
        let Live { hub, readers, .. } = &mut sessions.live;
        let (paths, readers) = (&mut hub.paths, &mut readers.table);
        let has_serial = |reader: &&mut LiveReader| reader.serial() == serial;
        let reader = readers.get_mut(index as usize).filter(has_serial).ok_or(RtxRefusal::Busy)?;
        let stream = reader.streams.get_mut(usize::from(stream_index)).ok_or(RtxRefusal::Busy)?;
        let Transport::Udp { pair, rtp, .. } = stream.outgoing.transport else {
            return Err(RtxRefusal::Unknown);
        };
        let way = sink.way_to(pair, rtp).ok_or(RtxRefusal::Busy)?;
        let original = stream.outgoing.payload_type;
        let sealed_by = stream.outgoing.srtp.clone();
        let rtx = stream.outgoing.rtx.as_mut().ok_or(RtxRefusal::Unknown)?;
        let path = paths.path_of(reader.key).ok_or(RtxRefusal::Busy)?;
        let sent = path.find_sent(reader.key, stream_index, seq)?;
        let pieces = sent.pieces(original, *rtx).ok_or(RtxRefusal::Unknown)?;
        let mut run = sink.start(way, sealed_by.as_ref()).ok_or(RtxRefusal::Busy)?;
        let is_set = match &mut run.seal {
            None => run.run.set_retransmission(&pieces, &sent.batch, &sent.packet),
            Some(seal) => {
                let whole = sent.batch.packet_bytes(&sent.packet);
                let part = |range: &Range<usize>| whole.get(range.clone()).unwrap_or_default();
                let (optional, payload) = (part(&pieces.optional), part(&pieces.payload));
                let parts = [&pieces.fixed[..], optional, &pieces.original, payload];
                seal.try_pieces(&mut run.run, &parts) && seal.left_out() == 0
            }
        };
        if !is_set {
            return Err(RtxRefusal::Busy);
        }
        run.submit(RunOwner::Resent { pair }, false);
        rtx.seq = rtx.seq.plus(1);
        Ok(())
    }

    /// Handles the failure of a retransmission. A publisher's packets may be as long as the route
    /// takes whole, and the two bytes that RFC 4588 adds are too many then.
    pub(in crate::shard) fn handle_resent_refused(
        &mut self,
        sessions: &Sessions,
        pair: u16,
        error: &SendFailure,
    ) {
        if *error == SendFailure::TooLarge {
            self.allow_fragments_on(sessions, pair);
        } else {
            self.cells.send_errors.add(1);
        }
    }
}
