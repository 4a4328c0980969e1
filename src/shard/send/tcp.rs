//! Sends over RTSP connections: answers, interleaved RTCP, and the frames that are due.
//!
//! ```text
//!  answers and RTCP first, then whole frames in the order in which they were due --> one send
//! ```
//! Invariants: at most one send is in flight on a connection, so frames are never cut or mixed.
//! Media waits only in the kernel, whose share is bounded: the cursors wait while a send is in
//! flight, and a client that reads slowly is played to as fast as it reads (`vod::skip`).

use std::io;

use super::live::gather_live;
use crate::base::carrier::Lower;
use crate::base::sink::Gathered;
use crate::base::time::Mono;
use crate::poll::poll_table::{EntryKey, Polling};
use crate::session::directory::{SessionKey, SessionRef, StreamRef};
use crate::shard::ring::kernel::Kernel;
use crate::shard::state::Shard;

/// What a connection is looked up for when it is flushed; kept for its storage.
#[derive(Debug, Default)]
pub(in crate::shard) struct Flushing {
    /// Sessions of the connection.
    sessions: Vec<SessionRef>,
    /// Streams of titles with a due frame.
    ready: Vec<(Mono, StreamRef)>,
}

impl<K: Kernel> Shard<K> {
    /// Sends on every connection that has something to send and nothing in flight.
    pub(in crate::shard) fn flush(&mut self) {
        self.sealing.begin_turn();
        self.net.srtp.begin_turn();
        let mut dirty = std::mem::take(&mut self.net.entries.dirty);
        for key in dirty.drain(..) {
            if let Some(link) = self.net.entries.link_mut(key) {
                link.is_dirty = false;
                if link.is_sending {
                    link.has_more = true;
                } else if !link.is_frozen {
                    let panics = self.cells.panics.value();
                    self.guarded(None, |shard| shard.flush_connection(key));
                    if self.cells.panics.value() != panics {
                        self.close(key);
                    }
                }
            }
        }
        // Connections that became dirty meanwhile wait for the next turn, which comes at once.
        if self.net.entries.dirty.is_empty() {
            self.net.entries.dirty = dirty;
        }
        self.settle();
    }

    fn flush_connection(&mut self, key: EntryKey) {
        if self.net.entries.camera_mut(key).is_some() {
            return self.flush_camera(key);
        }
        let mut flushing = std::mem::take(&mut self.flushing);
        let Flushing { sessions, ready } = &mut flushing;
        sessions.extend_from_slice(self.sessions.cx.directory.of_connection(key));
        self.sessions.vod.find_ready_streams(&mut self.sessions.cx, sessions, ready);
        if self.net.entries.connection_mut(key).is_some_and(|connection| connection.has_tls()) {
            self.send_on_tls(key, sessions, ready);
        } else {
            self.send_on_connection(key, sessions, ready);
        }
        sessions.clear();
        ready.clear();
        self.flushing = flushing;
    }

    fn send_on_connection(
        &mut self,
        key: EntryKey,
        sessions: &[SessionRef],
        ready: &[(Mono, StreamRef)],
    ) {
        let Some(link) = self.net.entries.link(key) else { return };
        let Some(connection) = self.net.entries.connection_mut(key) else { return };
        let is_closing = connection.is_closing();
        let has_live = sessions.iter().any(|session| matches!(session, SessionRef::Reader(_)));
        if connection.output().is_empty() && (is_closing || (ready.is_empty() && !has_live)) {
            if is_closing {
                self.close(key);
            }
            return;
        }
        let Some(mut send) = self.net.ring.start_stream_send(link.slot, key.index) else { return };
        let mut taken = 0;
        for chunk in connection.output().chunks(OUTPUT_CHUNK_BYTES) {
            if !send.push_bytes(chunk) {
                break;
            }
            taken += chunk.len();
        }
        let is_all_taken = taken == connection.output().len();
        connection.consume_output(taken);
        // A panic while frames are gathered drops the send: nothing of it is sent.
        let mut gathered = Gathered::default();
        let mut broken = None;
        if is_all_taken && !is_closing {
            broken = self.sessions.vod.gather(&self.sessions.cx, ready, &mut send, &mut gathered);
        }
        let has_more_live = is_all_taken
            && !is_closing
            && has_live
            && gather_live(&mut self.sessions, &self.cells, &mut send, sessions, &mut gathered);
        let is_sending = !send.is_empty();
        send.submit();
        let is_suspended = self.net.entries.table.polling(key) == Some(Polling::Suspended);
        let has_more = is_closing || is_suspended || !is_all_taken || has_more_live;
        self.note_sent(key, (is_sending, has_more), gathered);
        self.replan_sent(key, ready, broken);
    }

    /// Counts what a send has taken, and notes whether the connection is flushed behind it.
    pub(super) fn note_sent(
        &mut self,
        key: EntryKey,
        (is_sending, has_more): (bool, bool),
        gathered: Gathered,
    ) {
        if let Some(link) = self.net.entries.link_mut(key) {
            (link.is_sending, link.has_more) = (is_sending, has_more);
        }
        let tcp = Lower::Tcp as usize;
        self.cells.send_calls[tcp].add(u64::from(gathered.packets > 0));
        self.cells.rtp_packets_sent[tcp].add(gathered.packets);
        self.cells.rtp_payload_bytes_sent[tcp].add(gathered.payload_bytes);
    }

    /// Plans streams again whose frames a send has taken, and ends the session of a broken title.
    pub(super) fn replan_sent(
        &mut self,
        key: EntryKey,
        ready: &[(Mono, StreamRef)],
        broken: Option<SessionKey>,
    ) {
        let has_more = self.sessions.vod.replan(&mut self.sessions.cx, ready);
        if let Some(link) = self.net.entries.link_mut(key) {
            link.has_more |= has_more;
        }
        if let Some(session) = broken {
            self.sessions.vod.players.fail(&mut self.sessions.cx, session, Some("media failed"));
        }
    }

    /// Ends a connection of which a send has failed.
    pub(super) fn handle_send_failed(&mut self, key: EntryKey, error: &io::Error) {
        if error.kind() == io::ErrorKind::InvalidData {
            let what = "a file was truncated while it was playing: its connection ends";
            tracing::warn!(code = "HE-W604", "{what}");
            self.cells.sessions_failed.add(1);
        }
        self.cells.send_errors.add(1);
        self.handle_connection_failed(key, error);
    }

    pub(in crate::shard) fn handle_stream_sent(&mut self, token: u32, result: io::Result<u32>) {
        let Some(key) = self.net.entries.table.key_at(token) else { return };
        let Some(link) = self.net.entries.link_mut(key) else { return };
        link.is_sending = false;
        let has_more = std::mem::replace(&mut link.has_more, false);
        if let Err(error) = result {
            return self.handle_send_failed(key, &error);
        }
        // Most of the time the next send waits for its time. Nothing cold is touched until then.
        if !has_more {
            return;
        }
        self.net.entries.mark_dirty(key);
        // The answers that were sent may have made room for requests.
        if let Some(connection) = self.net.entries.connection_mut(key)
            && !connection.is_waiting()
            && !connection.is_congested()
            && self.net.entries.table.polling(key) == Some(Polling::Suspended)
        {
            self.visit_later(key);
        }
    }
}

impl<K: Kernel> Shard<K> {
    /// A send was ended, because another process may take the connection over: what is left of it
    /// goes first.
    pub(in crate::shard) fn handle_stream_cut(&mut self, token: u32, rest: io::Result<Vec<u8>>) {
        let Some(key) = self.net.entries.table.key_at(token) else { return };
        let Some(link) = self.net.entries.link_mut(key) else { return };
        (link.is_sending, link.has_more) = (false, false);
        match rest {
            Ok(bytes) => {
                if let Some(connection) = self.net.entries.connection_mut(key) {
                    connection.put_back(bytes);
                }
                self.net.entries.mark_dirty(key);
            }
            Err(error) => self.handle_send_failed(key, &error),
        }
    }
}

/// Size of the pieces in which an answer is copied.
const OUTPUT_CHUNK_BYTES: usize = 4_096;
