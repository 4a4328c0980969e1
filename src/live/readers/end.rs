//! Ends of readers: by the client, with the connection, with the path, or from the server's side.
//!
//! Invariant: a session that has ended leaves nothing behind, not even on the wheel. DESIGN section
//! 5.6.

use crate::live::hub::Hub;
use crate::live::multicast::member::Delivery;
use crate::live::readers::Readers;
use crate::live::readers::log::note_reader_left;
use crate::live::readers::reader::ReaderState;
use crate::rtsp::response::{Response, Status};
use crate::session::action::Action;
use crate::session::cx::Cx;
use crate::session::directory::SessionRef;
use crate::session::transport::Transport;

impl Readers {
    /// Ends a reader from the server's side. A client that gets BYE plays to the end and leaves by
    /// itself: for GStreamer a closed connection is a failure. If the client stays, its connection
    /// is closed for silence. BYE names a stream by its SSRC; a client without a packet of each
    /// stream knows no SSRC, so its connection is closed.
    pub(crate) fn dismiss_reader(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        index: u32,
        why: &'static str,
    ) {
        let Some(reader) = self.table.get(index as usize) else { return };
        let is_told = reader.streams.iter().all(|stream| stream.outgoing.ssrc().is_some());
        let (id, connection) = (reader.client.id, reader.client.connection.filter(|_| !is_told));
        self.recently_closed.add(id);
        self.end_reader(cx, hub, index, Some(why));
        cx.hang_up(connection);
    }

    /// Ends a reader: sends BYE if there is a reason, then frees everything.
    pub(crate) fn end_reader(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        index: u32,
        reason: Option<&str>,
    ) {
        if let Some(reason) = reason {
            self.say_live_bye(cx, hub, index, reason);
        }
        let Some(reader) = self.table.try_remove(index as usize) else { return };
        cx.wheel.cancel(reader.timer);
        self.backlog.forget_start(&reader.path, index);
        match reader.delivery {
            Delivery::Unicast => {}
            Delivery::MulticastMember => {
                self.leave_group(cx, hub, &reader.path, reader.client.peer.ip(), index)
            }
            Delivery::MulticastSender => {
                if let Some(open) = self.groups.open.get_mut(&reader.path) {
                    open.reader = None;
                }
            }
        }
        if reader.is_session() {
            cx.uncount_player(reader.state.shown());
        }
        cx.directory.leave(reader.client.id, reader.client.connection, SessionRef::Reader(index));
        // By its key: another path may have taken the name.
        let left = hub.paths.path_of(reader.key).and_then(|p| p.remove_reader(reader.key));
        if let Some(left) = left {
            hub.count_reader_end(&reader.path, &left);
        }
        note_reader_left(&reader, reason);
        for stream in &reader.streams {
            if let Transport::Udp { pair, rtp, rtcp } = stream.outgoing.transport {
                cx.release_tuple(pair, rtp, rtcp);
            }
        }
        if let ReaderState::Priming { reply_to, cseq, .. } = reader.state {
            let response = Response::new(Status::SessionNotFound, cseq);
            cx.out.push(Action::Respond { reply_to, response });
        }
    }

    /// The RTSP connection of a reader has closed: an interleaved reader ends with it.
    pub(crate) fn handle_reader_connection_closed(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        index: u32,
    ) {
        let Some(reader) = self.table.get_mut(index as usize) else { return };
        reader.client.connection = None;
        if reader.is_interleaved() {
            self.end_reader(cx, hub, index, None);
        }
    }
}
