//! Sends over RTSP connections: answers, interleaved RTCP, and the frames that are due.
//!
//! ```text
//!  answers and RTCP first, then whole frames in the order in which they were due --> one send
//! ```
//! Invariants: one send in flight a connection, so frames are never cut or mixed; nothing is
//! queued but what the kernel holds, which is bounded: while the connection is busy the cursors
//! wait, and a client that reads slowly is played to as fast as it reads (`session::lag`).

use std::io;

use super::live_pump::gather_live;
use super::turn::Shard;
use super::udp_pump::{observe_lateness, rtp_header};
use crate::base::time::Mono;
use crate::consumers::Consumer;
use crate::metrics::cells::{ShardCells, TransportKind};
use crate::poll::poll_table::{EntryKey, Polling};
use crate::session::desk::Waiter;
use crate::session::directory::SessionRef;
use crate::session::session::{Session, State};
use crate::session::sessions::Sessions;
use crate::session::stream::{Due, Path, Phase};

/// What went into a send.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) packets: u64,
    pub(super) payload_bytes: u64,
}

/// Why a frame was not taken as a whole.
enum Taken {
    All,
    NoRoom,
    Broken,
}

impl Shard {
    /// Sends on every connection that has something to send and nothing in flight.
    pub(super) fn flush(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for key in dirty.drain(..) {
            if let Some(link) = self.link_mut(key) {
                link.is_dirty = false;
                if link.is_sending {
                    link.has_more = true;
                } else {
                    let panics = self.cells.panics.value();
                    self.guarded(None, |shard| shard.flush_connection(key));
                    if self.cells.panics.value() != panics {
                        self.close(key);
                    }
                }
            }
        }
        // Those that became dirty meanwhile are looked at in the next turn, which comes at once.
        if self.dirty.is_empty() {
            self.dirty = dirty;
        }
        self.settle();
    }

    fn flush_connection(&mut self, key: EntryKey) {
        if let Some(Consumer::Camera(_)) = self.table.consumer_mut(key) {
            return self.flush_camera(key);
        }
        let mut ready = std::mem::take(&mut self.ready);
        self.find_ready_streams(key, &mut ready);
        self.send_on_connection(key, &ready);
        ready.clear();
        self.ready = ready;
    }

    fn send_on_connection(&mut self, key: EntryKey, ready: &[(Mono, Waiter)]) {
        let Some(link) = self.link(key) else { return };
        let Some(Consumer::Connection(connection)) = self.table.consumer_mut(key) else { return };
        let is_closing = connection.is_closing();
        let sessions = self.sessions.cx.directory.of_connection(key);
        let has_live = sessions.iter().any(|session| matches!(session, SessionRef::Reader(_)));
        if connection.output().is_empty() && (is_closing || (ready.is_empty() && !has_live)) {
            if is_closing {
                self.close(key);
            }
            return;
        }
        let Some(mut send) = self.ring.start_stream_send(link.slot, key.index) else { return };
        let mut taken = 0;
        for chunk in connection.output().chunks(OUTPUT_CHUNK_BYTES) {
            if !send.push_bytes(chunk) {
                break;
            }
            taken += chunk.len();
        }
        let is_all_taken = taken == connection.output().len();
        connection.consume_output(taken);
        // Dropping an unfinished send sends nothing, so frames are put in by a helper that owns it.
        let mut gathered = Gathered::default();
        let mut broken = None;
        if is_all_taken && !is_closing {
            let now = self.sessions.cx.now;
            for (_, at) in ready {
                match take_frame(
                    &mut self.sessions,
                    &self.cells,
                    &mut send,
                    *at,
                    now,
                    &mut gathered,
                ) {
                    Taken::All => {}
                    Taken::NoRoom => break,
                    Taken::Broken => {
                        broken = Some(at.session);
                        break;
                    }
                }
            }
        }
        let has_more_live = is_all_taken
            && !is_closing
            && has_live
            && gather_live(&mut self.sessions, &self.cells, &mut send, key, &mut gathered);
        let is_sending = !send.is_empty();
        send.submit();
        let is_suspended = self.table.polling(key) == Some(Polling::Suspended);
        if let Some(link) = self.link_mut(key) {
            link.is_sending = is_sending;
            link.has_more = is_closing || is_suspended || !is_all_taken || has_more_live;
        }
        let tcp = TransportKind::Tcp as usize;
        self.cells.send_calls[tcp].add(u64::from(gathered.packets > 0));
        self.cells.rtp_packets_sent[tcp].add(gathered.packets);
        self.cells.rtp_payload_bytes_sent[tcp].add(gathered.payload_bytes);
        let mut has_more = false;
        for (_, at) in ready {
            has_more |= self.replan(*at);
        }
        if let Some(link) = self.link_mut(key) {
            link.has_more |= has_more;
        }
        if let Some(session) = broken {
            self.sessions.vod.fail(&mut self.sessions.cx, session, Some("media failed"));
        }
    }

    /// Streams of a connection that wait for it and have a frame due, the longest due first.
    fn find_ready_streams(&mut self, key: EntryKey, ready: &mut Vec<(Mono, Waiter)>) {
        for index in 0..self.sessions.cx.directory.of_connection(key).len() {
            let session = self.sessions.cx.directory.of_connection(key).get(index).copied();
            let Some(SessionRef::Title(session)) = session else { continue };
            let Some(entry) = self.sessions.vod.session(session) else { continue };
            if !matches!(entry.state, State::Playing) {
                continue;
            }
            let (epoch_count, count) = (entry.epoch_count, entry.streams.len());
            let first = ready.len();
            for stream in 0..count {
                let is_waiting = self.sessions.vod.session(session).is_some_and(|entry| {
                    entry.streams.get(stream).map(|s| s.phase) == Some(Phase::WaitsForConnection)
                });
                if !is_waiting {
                    continue;
                }
                let stream_index = u8::try_from(stream).unwrap_or(u8::MAX);
                let at = Waiter { session, stream_index, epoch_count };
                match self.next_due(at) {
                    Some(Due::Now { at: due_at, .. }) => ready.push((due_at, at)),
                    Some(other) => self.plan(at, other),
                    None => {}
                }
            }
            let latest = ready[first..].iter().map(|(due_at, _)| *due_at).min();
            if latest.is_some_and(|due_at| {
                self.sessions.vod.skip_if_late(&mut self.sessions.cx, session, due_at)
            }) {
                ready.truncate(first);
                for stream_index in (0..count).filter_map(|index| u8::try_from(index).ok()) {
                    self.plan_skipped(Waiter { session, stream_index, epoch_count });
                }
            }
        }
        ready.sort_by_key(|(due_at, _)| *due_at);
    }

    /// A stream that was moved asks for its window.
    fn plan_skipped(&mut self, at: Waiter) {
        if self.stream_mut(at).is_some_and(|stream| stream.phase == Phase::WaitsForWindow) {
            self.plan(at, Due::Waiting);
        }
    }

    /// A stream whose frame was taken, or not: it waits for the clock or for the connection. True:
    /// for the connection.
    fn replan(&mut self, at: Waiter) -> bool {
        match self.next_due(at) {
            // Its next frame goes with the next send.
            Some(Due::Now { .. }) => true,
            None => false,
            Some(other) => {
                self.plan(at, other);
                false
            }
        }
    }

    pub(super) fn handle_stream_sent(&mut self, token: u32, result: io::Result<u32>) {
        let Some(key) = self.table.key_at(token) else { return };
        let Some(link) = self.link_mut(key) else { return };
        link.is_sending = false;
        let has_more = std::mem::replace(&mut link.has_more, false);
        if let Err(error) = result {
            if error.kind() == io::ErrorKind::InvalidData {
                tracing::warn!("a file was truncated while it was playing: its connection ends");
                self.cells.sessions_failed.add(1);
            }
            self.cells.send_errors.add(1);
            self.handle_connection_failed(key, &error);
            return;
        }
        // Most of the time the clock is what comes next, and nothing is cold in the cache for it.
        if !has_more {
            return;
        }
        self.mark_dirty(key);
        // Answers that were in the way may have made room for requests.
        if let Some(Consumer::Connection(connection)) = self.table.consumer_mut(key)
            && !connection.is_waiting()
            && !connection.is_congested()
            && self.table.polling(key) == Some(Polling::Suspended)
        {
            self.visit_later(key);
        }
    }
}

/// Puts the rest of a stream's due frame into a send.
fn take_frame(
    sessions: &mut Sessions,
    cells: &ShardCells,
    send: &mut super::ring::StreamSend<'_>,
    at: Waiter,
    now: Mono,
    gathered: &mut Gathered,
) -> Taken {
    let Some(session) = sessions.vod.session_mut(at.session) else { return Taken::All };
    let Session { title, epoch: Some(epoch), end, streams, play_received, .. } = session else {
        return Taken::All;
    };
    let Some(stream) = streams.get_mut(usize::from(at.stream_index)) else { return Taken::All };
    let Due::Now { frame, at: due_at } = stream.due(epoch, *end, now) else { return Taken::All };
    let Path::Tcp { channel, .. } = stream.path else { return Taken::All };
    if stream.is_at_frame_start() {
        observe_lateness(cells, now, due_at, play_received.take());
    }
    let ts = stream.stamp(epoch, &frame);
    let Some((window, first)) = stream.window() else { return Taken::All };
    let (mut count, mut payload_bytes, mut taken) = (0, 0, Taken::All);
    for packet in window.packets(&frame).iter().skip(first) {
        let header = rtp_header(stream, count, packet.marker, ts);
        match send.push_packet(channel, &header, window, packet, title) {
            Ok(true) => {}
            // The rest of the frame goes with the next send: between packets nothing is cut.
            Ok(false) => {
                taken = Taken::NoRoom;
                break;
            }
            Err(error) => {
                tracing::error!(title = title.name, %error, "packet cannot be sent");
                return Taken::Broken;
            }
        }
        count += 1;
        payload_bytes += u32::from(packet.payload_bytes);
    }
    stream.take_packets(count, payload_bytes);
    gathered.packets += u64::from(count);
    gathered.payload_bytes += u64::from(payload_bytes);
    if matches!(taken, Taken::All) {
        stream.finish_frame();
    }
    taken
}

/// An answer is copied in pieces of this size.
const OUTPUT_CHUNK_BYTES: usize = 4_096;
