//! Sends over RTSP connections with TLS: as `tcp`, but what is sent is encrypted here.
//!
//! ```text
//!  answers, RTCP, frames --> record of whole frames (16 KiB) --seal--> output --> one send
//!                               ^-- pread: media bytes of files
//! ```
//! Media bytes of files are not touched through their map (invariant I6): a record notes which
//! ranges of the file it has, and they are read into it before it is sealed, from the page cache,
//! where workers have brought them seconds ago (invariant I16). A file that was truncated meanwhile
//! ends the connection, as it does without TLS. A read that the page cache cannot answer waits for
//! the disk, as the kernel does in a send from the map; it is counted.
//!
//! Invariants: a record has whole frames, unless one frame is longer than a record; what was taken
//! from a cursor is sent, or the connection ends. Bounds: `TLS_BYTES_A_SEND` for one connection in
//! a turn, `TLS_BYTES_A_TURN` for all; connections beyond that wait for the next turn, which comes
//! at once.

use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use rustix::io::{ReadWriteFlags, preadv2};

use super::live::gather_live;
use super::srtp::{protect, push_plain};
use crate::base::limits::{TLS_BYTES_A_SEND, TLS_BYTES_A_TURN};
use crate::base::sink::Gathered;
use crate::base::time::Mono;
use crate::library::title::Title;
use crate::live::core::batch::{LivePacket, PacketBatch};
use crate::live::core::pump::BatchFrames;
use crate::media::window::{Packet, PacketWindow, Piece};
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
    reads: Vec<Read>,
    titles: Vec<Arc<Title>>,
}

/// A range of a file that the record has a place for.
#[derive(Debug, Clone, Copy)]
struct Read {
    /// Index in `Sealing::titles`.
    title: usize,
    offset: u64,
    /// Place in the record.
    at: usize,
    bytes: usize,
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

impl Sealing {
    /// A turn begins.
    pub(in crate::shard) fn begin_turn(&mut self) {
        self.left = TLS_BYTES_A_TURN;
    }

    fn clear(&mut self) {
        self.record.clear();
        self.reads.clear();
        self.titles.clear();
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
        if let Err(error) = self.sealing.read_files(&mut self.cold_reads) {
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
    fn start_sealed(&mut self, channel: u8, srtp: &SrtpStream, bytes: usize) -> Option<usize> {
        let bytes = bytes + srtp.rtp_tag_bytes();
        let [high, low] = u16::try_from(bytes).ok()?.to_be_bytes();
        if !self.has_room(FRAME_HEADER_BYTES + bytes) {
            return None;
        }
        let at = self.sealing.record.len();
        self.sealing.record.extend_from_slice(&[b'$', channel, high, low]);
        Some(at)
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

    fn push_pieces(
        &mut self,
        window: &PacketWindow,
        packet: &Packet,
        title: &Arc<Title>,
    ) -> Result<(), RangeOutside> {
        for piece in window.pieces(packet) {
            match *piece {
                Piece::Inline { offset, bytes } => {
                    let bytes = window.inline_bytes(offset, bytes);
                    self.sealing.record.extend_from_slice(bytes);
                }
                Piece::File { offset, bytes } => {
                    let file_bytes = title.map.file_bytes();
                    if title.map.kernel_address(offset, bytes).is_none() {
                        return Err(RangeOutside::File { offset, bytes, file_bytes });
                    }
                    self.sealing.note_read(title, offset, bytes.into());
                }
            }
        }
        Ok(())
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
        if let Some(srtp) = srtp {
            let bytes = HEADER_BYTES + usize::from(packet.payload_bytes);
            return match self.start_sealed(channel, srtp, bytes) {
                Some(at) => {
                    let (record, cold) = (&mut self.sealing.record, &mut self.cold_reads);
                    let pushed = push_plain(record, header, window, packet, title, cold);
                    match pushed {
                        Ok(()) if self.end_sealed(at, srtp) => Ok(true),
                        Ok(()) => Err(RangeOutside::NotEncrypted),
                        Err(error) => {
                            self.sealing.record.truncate(at);
                            Err(error)
                        }
                    }
                }
                None => Ok(false),
            };
        }
        let Packet { piece_count, payload_bytes, .. } = *packet;
        let Some(bytes) = payload_bytes.checked_add(RTP_HEADER_BYTES) else {
            return Err(RangeOutside::TooLarge { piece_count, payload_bytes });
        };
        if !self.has_room(FRAME_HEADER_BYTES + usize::from(bytes)) {
            return Ok(false);
        }
        let (record, reads) = (self.sealing.record.len(), self.sealing.reads.len());
        self.push_head(channel, bytes, header);
        let pushed = self.push_pieces(window, packet, title);
        if pushed.is_err() {
            self.sealing.record.truncate(record);
            self.sealing.reads.truncate(reads);
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
            let at = self.start_sealed(channel, srtp, packet.bytes.into());
            let (Some(at), Some(rest)) = (at, rest) else { return false };
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

impl Sealing {
    /// Makes room in the record for a range of a file.
    fn note_read(&mut self, title: &Arc<Title>, offset: u64, bytes: usize) {
        let is_same = |known: &Arc<Title>| Arc::ptr_eq(known, title);
        let place = self.titles.iter().rposition(is_same).unwrap_or_else(|| {
            self.titles.push(Arc::clone(title));
            self.titles.len() - 1
        });
        let at = self.record.len();
        self.record.resize(at + bytes, 0);
        self.reads.push(Read { title: place, offset, at, bytes });
    }

    /// Fills the record's places. Ranges that lie behind each other in a file are one read.
    fn read_files(&mut self, cold: &mut u64) -> io::Result<()> {
        let Self { record, reads, titles, .. } = self;
        let mut rest = reads.as_slice();
        while let Some(first) = rest.first() {
            let mut end = first.offset;
            let is_next = |read: &&Read| {
                let is_next = read.title == first.title && read.offset == end;
                end += read.bytes as u64;
                is_next
            };
            let count = rest.iter().take_while(is_next).take(VECTORS_MAX).count();
            let (group, others) = rest.split_at(count.max(1));
            if let Some(title) = titles.get(first.title) {
                read_group(&title.file, record, group, cold)?;
            }
            rest = others;
        }
        Ok(())
    }
}

/// Reads ranges that lie behind each other into their places of the record.
fn read_group(
    file: &std::fs::File,
    record: &mut [u8],
    group: &[Read],
    cold: &mut u64,
) -> io::Result<()> {
    let Some(first) = group.first() else { return Ok(()) };
    let mut places = Vec::with_capacity(group.len());
    let (mut rest, mut base, mut wanted) = (&mut *record, 0, 0);
    for read in group {
        let (_, behind) = rest.split_at_mut(read.at - base);
        let (place, behind) = behind.split_at_mut(read.bytes);
        places.push(IoSliceMut::new(place));
        (rest, base, wanted) = (behind, read.at + read.bytes, wanted + read.bytes);
    }
    // Only what is in memory: an error or a part means that the disk has to be asked.
    let read = preadv2(file, &mut places, first.offset, ReadWriteFlags::NOWAIT);
    if read == Ok(wanted) {
        return Ok(());
    }
    *cold += 1;
    for read in group {
        let place = record.get_mut(read.at..read.at + read.bytes).unwrap_or_default();
        read_cold(file, place, read.offset)?;
    }
    Ok(())
}

/// Fills a place from a file, as a rule from memory.
pub(super) fn read_at(
    file: &std::fs::File,
    place: &mut [u8],
    offset: u64,
    cold: &mut u64,
) -> io::Result<()> {
    let wanted = place.len();
    let read = preadv2(file, &mut [IoSliceMut::new(place)], offset, ReadWriteFlags::NOWAIT);
    if read == Ok(wanted) {
        return Ok(());
    }
    *cold += 1;
    read_cold(file, place, offset)
}

fn read_cold(file: &std::fs::File, place: &mut [u8], offset: u64) -> io::Result<()> {
    file.read_exact_at(place, offset).map_err(|error| match error.kind() {
        // What a send from the map reports.
        io::ErrorKind::UnexpectedEof => io::ErrorKind::InvalidData.into(),
        _ => error,
    })
}

/// Bytes of `$`, channel and length (RFC 2326 s10.12).
const FRAME_HEADER_BYTES: usize = 4;
/// Bytes of an RTP header without CSRCs (RFC 3550 s5.1).
const RTP_HEADER_BYTES: u16 = 12;
/// Size of the pieces in which records are copied into a send.
const OUTPUT_CHUNK_BYTES: usize = 16 << 10;
/// The kernel takes 1,024 in one read.
const VECTORS_MAX: usize = 64;

#[cfg(test)]
mod tests;
