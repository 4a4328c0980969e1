//! Sends over RTSP connections with TLS: as `tcp`, but what is sent is encrypted here.
//!
//! ```text
//!  answers, RTCP, frames --> record of whole frames (16 KiB) --seal--> output --> one send
//!                               ^-- pread: media bytes of files
//! ```
//! A record notes which ranges of files it has, and they are read into it before it is sealed
//! (`reads`). A file that was truncated meanwhile ends the connection, as it does without TLS.
//!
//! Invariants: a record has whole frames, unless one frame is longer than a record; what was taken
//! from a cursor is sent, or the connection ends. Bounds: `TLS_BYTES_A_SEND` for one connection in
//! a turn, `TLS_BYTES_A_TURN` for all; connections beyond that wait for the next turn, which comes
//! at once.

use std::io;
use std::sync::Arc;

use super::live::gather_live;
use super::reads::FileReads;
use super::srtp::{protect, push_plain};
use crate::base::limits::{TLS_BYTES_A_SEND, TLS_BYTES_A_TURN};
use crate::base::sink::Gathered;
use crate::base::time::Mono;
use crate::library::title::Title;
use crate::live::core::batch::{LivePacket, PacketBatch};
use crate::live::core::pump::BatchFrames;
use crate::media::window::{Packet, PacketWindow};
use crate::metrics::cells::ShardCells;
use crate::pki::stream::{RECORD_BYTES_MAX, TlsStream};
use crate::poll::poll_table::{EntryKey, Polling};
use crate::rtp::HEADER_BYTES;
use crate::rtp::srtp::SrtpStream;
use crate::session::directory::{SessionRef, StreamRef};
use crate::shard::network::Network;
use crate::shard::ring::RangeOutside;
use crate::shard::ring::kernel::Kernel;
use crate::shard::state::Shard;
use crate::vod::pump::TitleFrames;

/// Storage of the record that is filled, and what is left of the turn's share.
#[derive(Debug, Default)]
pub(in crate::shard) struct Sealing {
    /// Bytes that may still be encrypted in this turn.
    left: usize,
    record: Vec<u8>,
    /// Places of the record.
    reads: FileReads,
    /// Places of the packet of SRTP that is at hand, which is encrypted before its record is full.
    packet_reads: FileReads,
}

/// Frames of one send.
struct TlsFrames<'a> {
    stream: &'a mut TlsStream,
    sealing: &'a mut Sealing,
    /// Bytes that the send still takes.
    room: usize,
    sealed: usize,
    cells: &'a ShardCells,
    cold_reads: u64,
    /// The file was truncated: nothing more is taken.
    failure: Option<io::Error>,
}

/// A packet that no interleaved frame takes: its length has 16 bits.
#[derive(Debug)]
struct LongerThanFrames;

impl Sealing {
    /// A turn begins.
    pub(in crate::shard) fn begin_turn(&mut self) {
        self.left = TLS_BYTES_A_TURN;
    }

    fn clear(&mut self) {
        self.record.clear();
        self.reads.clear();
        self.packet_reads.clear();
    }
}

impl<K: Kernel> Shard<K> {
    /// As `send_on_connection`, on a connection with TLS.
    pub(in crate::shard) fn send_on_tls(
        &mut self,
        key: EntryKey,
        sessions: &[SessionRef],
        ready: &[(Mono, StreamRef)],
    ) {
        if self.sealing.left == 0 {
            // It comes before those that are marked in the next turn.
            return self.net.entries.mark_dirty(key);
        }
        let Some(link) = self.net.entries.link(key) else { return };
        let Network { ring, entries, .. } = &mut self.net;
        let Some(connection) = entries.connection_mut(key) else { return };
        let is_closing = connection.is_closing();
        let has_live = sessions.iter().any(|session| matches!(session, SessionRef::Reader(_)));
        let (output, Some(secured)) = connection.wire_mut() else { return };
        let is_open = secured.is_open();
        let Some(stream) = secured.stream_mut() else { return };
        let has_media = is_open && !is_closing && (!ready.is_empty() || has_live);
        if stream.output().is_empty() && (output.is_empty() || !is_open) && !has_media {
            if is_closing {
                self.close(key);
            }
            return;
        }
        let Some(mut send) = ring.start_stream_send(link.slot, key.index) else { return };
        let mut frames = TlsFrames::new(stream, &mut self.sealing, &self.cells);
        let (mut gathered, mut broken, mut has_more_live) = (Gathered::default(), None, false);
        if is_open {
            let taken = frames.push_bytes(output);
            output.drain(..taken);
            if output.is_empty() && has_media {
                let sessions_cx = &self.sessions.cx;
                broken = self.sessions.vod.gather(sessions_cx, ready, &mut frames, &mut gathered);
                has_more_live = has_live
                    && gather_live(
                        &mut self.sessions,
                        &self.cells,
                        &mut frames,
                        sessions,
                        &mut gathered,
                    );
            }
        }
        let (sealed, cold_reads, failure) = frames.finish();
        self.cells.tls_bytes_encrypted.add(sealed as u64);
        self.cells.tls_reads_cold.add(cold_reads);
        if let Some(error) = failure {
            drop(send);
            return self.handle_send_failed(key, &error);
        }
        let is_all_taken = output.is_empty() || !is_open;
        if is_closing && is_all_taken {
            stream.close();
        }
        let mut pushed = 0;
        for chunk in stream.output().chunks(OUTPUT_CHUNK_BYTES) {
            if !send.push_bytes(chunk) {
                break;
            }
            pushed += chunk.len();
        }
        let is_all_pushed = pushed == stream.output().len();
        stream.consume_output(pushed);
        let is_sending = !send.is_empty();
        send.submit();
        let is_suspended = self.net.entries.table.polling(key) == Some(Polling::Suspended);
        let has_more = is_closing || is_suspended || !is_all_taken || !is_all_pushed;
        self.note_sent(key, (is_sending, has_more || has_more_live), gathered);
        self.replan_sent(key, ready, broken);
    }
}

impl<'a> TlsFrames<'a> {
    fn new(stream: &'a mut TlsStream, sealing: &'a mut Sealing, cells: &'a ShardCells) -> Self {
        // Of a panic in the send before.
        sealing.clear();
        let room = TLS_BYTES_A_SEND;
        Self { stream, sealing, room, sealed: 0, cells, cold_reads: 0, failure: None }
    }

    /// Appends as many bytes as there is room for; returns their number.
    fn push_bytes(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        for chunk in bytes.chunks(RECORD_BYTES_MAX) {
            if !self.has_room(chunk.len()) {
                break;
            }
            self.sealing.record.extend_from_slice(chunk);
            taken += chunk.len();
        }
        taken
    }

    /// Whether there is room for a frame of so many bytes, which is taken then. A record that has
    /// none is sealed.
    fn has_room(&mut self, bytes: usize) -> bool {
        if self.failure.is_some() || bytes > self.room {
            return false;
        }
        if self.sealing.record.len() + bytes > RECORD_BYTES_MAX {
            self.seal_record();
        }
        if self.failure.is_some() {
            return false;
        }
        self.room -= bytes;
        true
    }

    /// Reads what the record has of files, and seals it.
    fn seal_record(&mut self) {
        let Sealing { record, reads, .. } = &mut *self.sealing;
        if let Err(error) = reads.fill(record, &mut self.cold_reads) {
            self.failure = Some(error);
        } else {
            self.stream.seal(&self.sealing.record);
            self.sealed += self.sealing.record.len();
        }
        self.sealing.clear();
    }

    /// Seals the last record. Number of bytes that were sealed, of reads that may have waited, and
    /// why nothing must be sent.
    fn finish(mut self) -> (usize, u64, Option<io::Error>) {
        if self.failure.is_none() && !self.sealing.record.is_empty() {
            self.seal_record();
        }
        self.sealing.left = self.sealing.left.saturating_sub(self.sealed);
        (self.sealed, self.cold_reads, self.failure.take())
    }

    fn push_head(&mut self, channel: u8, bytes: u16, header: &[u8; HEADER_BYTES]) {
        let [high, low] = bytes.to_be_bytes();
        self.sealing.record.extend_from_slice(&[b'$', channel, high, low]);
        self.sealing.record.extend_from_slice(header);
    }

    /// Begins the frame of an SRTP packet that has so many bytes in the clear. `None`: there is no
    /// room. Else the place where the frame begins.
    ///
    /// # Errors
    /// With its tag the packet is longer than any frame.
    fn start_sealed(
        &mut self,
        channel: u8,
        srtp: &SrtpStream,
        bytes: usize,
    ) -> Result<Option<usize>, LongerThanFrames> {
        let bytes = bytes + srtp.rtp_tag_bytes();
        let [high, low] = u16::try_from(bytes).map_err(|_| LongerThanFrames)?.to_be_bytes();
        if !self.has_room(FRAME_HEADER_BYTES + bytes) {
            return Ok(None);
        }
        let at = self.sealing.record.len();
        self.sealing.record.extend_from_slice(&[b'$', channel, high, low]);
        Ok(Some(at))
    }

    /// Encrypts the packet of the frame that begins at `at`. False: there is no such frame now.
    fn end_sealed(&mut self, at: usize, srtp: &SrtpStream) -> bool {
        let record = &mut self.sealing.record;
        let is_sealed = protect(self.cells, srtp, record, at + FRAME_HEADER_BYTES);
        if !is_sealed {
            record.truncate(at);
        }
        is_sealed
    }
}

impl TitleFrames for TlsFrames<'_> {
    type Error = RangeOutside;

    fn push_packet(
        &mut self,
        (channel, srtp): (u8, Option<&SrtpStream>),
        header: &[u8; HEADER_BYTES],
        window: &PacketWindow,
        packet: &Packet,
        title: &Arc<Title>,
    ) -> Result<bool, RangeOutside> {
        let Packet { piece_count, payload_bytes, .. } = *packet;
        let too_large = RangeOutside::TooLarge { piece_count, payload_bytes };
        let bytes = HEADER_BYTES + usize::from(payload_bytes);
        if let Some(srtp) = srtp {
            let started = self.start_sealed(channel, srtp, bytes);
            let Some(at) = started.map_err(|LongerThanFrames| too_large)? else {
                return Ok(false);
            };
            let Sealing { record, packet_reads, .. } = &mut *self.sealing;
            let (packet, cold) = ((window, packet), &mut self.cold_reads);
            return match push_plain(record, packet_reads, header, packet, title, cold) {
                Ok(()) if self.end_sealed(at, srtp) => Ok(true),
                Ok(()) => Err(RangeOutside::NotEncrypted),
                Err(error) => {
                    self.sealing.record.truncate(at);
                    Err(error)
                }
            };
        }
        let bytes = u16::try_from(bytes).map_err(|_| too_large)?;
        if !self.has_room(FRAME_HEADER_BYTES + usize::from(bytes)) {
            return Ok(false);
        }
        let start = self.sealing.record.len();
        self.push_head(channel, bytes, header);
        let Sealing { record, reads, .. } = &mut *self.sealing;
        let pushed = reads.push_pieces(record, (window, packet), title);
        if pushed.is_err() {
            record.truncate(start);
        }
        pushed.map(|()| true)
    }
}

impl BatchFrames for TlsFrames<'_> {
    fn push_packet(
        &mut self,
        (channel, srtp): (u8, Option<&SrtpStream>),
        header: &[u8; HEADER_BYTES],
        batch: &Arc<PacketBatch>,
        packet: &LivePacket,
    ) -> bool {
        let rest = batch.bytes_in(packet.range_behind(HEADER_BYTES));
        if let Some(srtp) = srtp {
            let Some(rest) = rest else { return false };
            let at = match self.start_sealed(channel, srtp, packet.bytes.into()) {
                Ok(Some(at)) => at,
                Ok(None) => return false,
                Err(LongerThanFrames) => {
                    // It is left out, and counted.
                    self.cells.srtp_packets_dropped.add(1);
                    return true;
                }
            };
            self.sealing.record.extend_from_slice(header);
            self.sealing.record.extend_from_slice(rest);
            // One that cannot be encrypted is left out, and counted.
            let _is_sealed = self.end_sealed(at, srtp);
            return true;
        }
        let bytes = FRAME_HEADER_BYTES + usize::from(packet.bytes);
        let Some(rest) = rest.filter(|_| self.has_room(bytes)) else { return false };
        self.push_head(channel, packet.bytes, header);
        self.sealing.record.extend_from_slice(rest);
        true
    }
}

/// Bytes of `$`, channel and length (RFC 2326 s10.12).
const FRAME_HEADER_BYTES: usize = 4;
/// Size of the pieces in which records are copied into a send.
const OUTPUT_CHUNK_BYTES: usize = 16 << 10;

#[cfg(test)]
mod tests;
