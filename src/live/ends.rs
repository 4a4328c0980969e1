//! Ends of live sessions: by the client, with the connection, or from the server's side.
//!
//! Invariant: a publisher's last packets are fed before its path is released; a session that has
//! ended leaves nothing behind, not even on the wheel. DESIGN section 5.6.

use std::sync::Arc;

use crate::live::core::message::Ask;
use crate::live::desk::Live;
use crate::live::hub::Hub;
use crate::live::log::{note_reader_left, note_source_down};
use crate::live::multicast::member::Cast;
use crate::live::readers::Readers;
use crate::live::readers::reader::ReaderState;
use crate::live::sources::Sources;
use crate::live::sources::publisher::{Publisher, Way};
use crate::rtsp::response::{Response, Status};
use crate::session::action::Action;
use crate::session::cx::Cx;
use crate::session::directory::SessionRef;
use crate::session::transport::Transport;

impl Sources {
    /// Ends a publisher and releases its path.
    pub(crate) fn end_publisher(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        number: u32,
        why: &'static str,
    ) {
        let Some(mut publisher) = self.forget_publisher(cx, hub, number) else { return };
        let path = Arc::clone(publisher.source.path());
        note_source_down(&publisher, why);
        if let Some(generation) = publisher.generation() {
            while let Some(batch) = publisher.source.finish() {
                hub.ask(&path, Ask::Feed { generation, batch });
            }
            if !publisher.is_pulled() {
                hub.ask(&path, Ask::Release { generation });
            }
        }
        if publisher.is_pulled() {
            self.handle_pull_dismissed(cx, hub, number, why);
        }
    }

    /// Ends a publisher whose path the home has taken away.
    pub(crate) fn evict_publisher(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        number: u32,
        why: &'static str,
    ) {
        let Some(publisher) = self.forget_publisher(cx, hub, number) else { return };
        note_source_down(&publisher, why);
        if publisher.is_pulled() {
            self.stop_pull(cx, hub, publisher.source.path());
        } else {
            cx.hang_up(publisher.connection);
        }
    }

    /// Ends a publisher from the server's side: its connection is closed.
    pub(crate) fn dismiss_publisher(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        number: u32,
        why: &'static str,
    ) {
        let publisher = self.publishers.get(&number);
        let connection = publisher.and_then(|publisher| publisher.connection);
        let is_pulled = publisher.is_some_and(Publisher::is_pulled);
        self.end_publisher(cx, hub, number, why);
        if !is_pulled {
            cx.hang_up(connection);
        }
    }

    /// Removes a publisher from all tables.
    pub(crate) fn forget_publisher(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        number: u32,
    ) -> Option<Publisher> {
        let publisher = self.publishers.remove(&number)?;
        hub.count_source_end(&publisher);
        if let Some(id) = publisher.id() {
            cx.directory.leave(id, publisher.connection, SessionRef::Publisher(number));
        }
        cx.demux.forget(number);
        if let Way::Input = publisher.way {
            self.close_input(cx, number);
        }
        for track in &publisher.tracks {
            if let Some(Transport::Udp { pair, .. }) = track.path
                && pair != 0
            {
                cx.close_unused_pair(pair);
            }
        }
        Some(publisher)
    }
}

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
        let (id, connection) = (reader.id, reader.connection.filter(|_| !is_told));
        self.farewells.add(id);
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
        self.crowd.forget_start(&reader.path, index);
        match reader.cast {
            Cast::Own => {}
            Cast::Member => self.leave_group(cx, hub, &reader.path, reader.peer.ip(), index),
            Cast::Group => {
                if let Some(open) = self.groups.open.get_mut(&reader.path) {
                    open.reader = None;
                }
            }
        }
        if reader.is_session() {
            cx.uncount_player(reader.state.shown());
        }
        cx.directory.leave(reader.id, reader.connection, SessionRef::Reader(index));
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
        if let ReaderState::Priming { waiter, cseq, .. } = reader.state {
            let response = Response::new(Status::SessionNotFound, cseq);
            cx.out.push(Action::Respond { waiter, response });
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
        reader.connection = None;
        if reader.is_interleaved() {
            self.end_reader(cx, hub, index, None);
        }
    }
}

impl Live {
    /// Ends all publishers, and readers with about `streams_max` streams in total. Returns the
    /// number of streams ended; 0 when none are left.
    pub fn end_live_sessions(
        &mut self,
        cx: &mut Cx,
        streams_max: usize,
        why: &'static str,
    ) -> usize {
        self.hub.is_stopping = true;
        self.sources.stop_pulls(cx, &mut self.hub);
        let publishers: Vec<u32> = self.sources.publishers.keys().copied().collect();
        for number in publishers {
            self.sources.end_publisher(cx, &mut self.hub, number, why);
        }
        let readers = self.readers.table.iter();
        let readers = readers.map(|(index, reader)| (index, reader.streams.len().max(1)));
        let readers: Vec<(usize, usize)> = readers.take(streams_max).collect();
        let mut streams = 0;
        for (index, count) in readers {
            if streams >= streams_max {
                break;
            }
            streams += count;
            self.readers.end_reader(
                cx,
                &mut self.hub,
                u32::try_from(index).unwrap_or(u32::MAX),
                Some(why),
            );
        }
        streams
    }
}
