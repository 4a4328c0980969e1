//! Batches of packets as records: lengths and marks there, bytes in a file beside.
//!
//! Offsets, numbers, times and runs are not recorded: they follow from the bytes, by the rules of
//! `batch`. Invariant: the batch that is made is the one that was recorded.

use std::sync::Arc;

use crate::base::ids::{RtpTs, SeqNo, Ssrc};
use crate::base::time::Mono;
use crate::live::core::batch::{
    Cut, DATAGRAMS, EntryNotes, Generation, LivePacket, MARKER_BIT, PacketBatch, TrackSpan,
};
use crate::live::core::held::Held;
use crate::live::core::limits::{BATCH_BYTES_MAX, BATCH_PACKETS_MAX, LIVE_TRACKS_MAX};
use crate::live::core::takeover::{clock_of, clock_record};
use crate::rtp::HEADER_BYTES;
use crate::takeover::live::{BlockRecord, SpanRecord};

/// Number of a batch: the same on all shards, and of no other batch while it is held.
#[must_use]
pub fn block_id(batch: &Arc<PacketBatch>) -> u64 {
    Arc::as_ptr(batch).addr() as u64
}

impl PacketBatch {
    /// For another process, with its bytes at `offset` of the file.
    #[must_use]
    pub fn record(&self, id: u64, offset: u64) -> BlockRecord {
        let span = |span: &TrackSpan| {
            let runs = self.runs.get(span.runs.clone()).unwrap_or_default();
            let packets = runs.iter().flat_map(|run| self.packets_of(run));
            SpanRecord {
                track: span.track & !DATAGRAMS,
                is_for_datagrams: span.track & DATAGRAMS != 0,
                clock: span.clock.map(clock_record),
                packets: packets.map(|one| (one.bytes, one.header_bytes, one.is_sync)).collect(),
            }
        };
        BlockRecord {
            id,
            offset,
            generation: self.generation.0,
            received_ns: self.received.0,
            tracks: self.tracks.iter().map(span).collect(),
            awaiting: self.notes.awaiting,
            completing: self.notes.completing,
            with_datagrams: self.notes.with_datagrams,
        }
    }

    /// All its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// As another process has told, with its bytes. `None`: they do not fit each other, or no batch
    /// can be like that.
    #[must_use]
    pub fn of_record(record: &BlockRecord, bytes: Vec<u8>) -> Option<Self> {
        let count: usize = record.tracks.iter().map(|span| span.packets.len()).sum();
        if count == 0 || count > BATCH_PACKETS_MAX || bytes.len() > BATCH_BYTES_MAX {
            return None;
        }
        let mut packets: Vec<LivePacket> = Vec::with_capacity(count);
        let mut cut = Cut::default();
        let mut at = 0_usize;
        for span in &record.tracks {
            let track = span.track | if span.is_for_datagrams { DATAGRAMS } else { 0 };
            let is_next = cut.tracks.last().is_none_or(|last| last.track < track);
            if !is_next || usize::from(span.track) >= LIVE_TRACKS_MAX || span.packets.is_empty() {
                return None;
            }
            cut.begin_track(track, span.clock.map(clock_of));
            for (len, header_bytes, is_sync) in span.packets.iter().copied() {
                let packet_bytes = bytes.get(at..at + usize::from(len))?;
                let header: &[u8; HEADER_BYTES] = packet_bytes.first_chunk()?;
                if header_bytes > len || usize::from(header_bytes) < HEADER_BYTES {
                    return None;
                }
                let [_, second, s0, s1, t0, t1, t2, t3, i0, i1, i2, i3] = *header;
                let packet = LivePacket {
                    offset: u32::try_from(at).ok()?,
                    bytes: len,
                    header_bytes,
                    seq: SeqNo(u16::from_be_bytes([s0, s1])),
                    ts: RtpTs(u32::from_be_bytes([t0, t1, t2, t3])),
                    marker: second & MARKER_BIT != 0,
                    is_sync,
                };
                let ssrc = Ssrc(u32::from_be_bytes([i0, i1, i2, i3]));
                cut.take(packets.len(), &packet, ssrc);
                packets.push(packet);
                at += usize::from(len);
            }
        }
        if at != bytes.len() {
            return None;
        }
        let mut batch = Self {
            generation: Generation(record.generation),
            received: Mono(record.received_ns),
            packets: packets.into_boxed_slice(),
            runs: cut.runs.into_boxed_slice(),
            tracks: cut.tracks.into_boxed_slice(),
            bytes: bytes.into_boxed_slice(),
            notes: EntryNotes {
                awaiting: record.awaiting,
                completing: record.completing,
                with_datagrams: record.with_datagrams,
            },
            held: Held::default(),
        };
        batch.held = Held::new(batch.memory_bytes());
        Some(batch)
    }
}

impl BlockRecord {
    /// Bytes of its packets.
    #[must_use]
    pub fn bytes_count(&self) -> usize {
        let packets = self.tracks.iter().flat_map(|span| &span.packets);
        packets.map(|(len, ..)| usize::from(*len)).sum()
    }
}
