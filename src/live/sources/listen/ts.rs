//! MPEG-TS without RTP: cuts datagrams into packets, and packs the packets into RTP (RFC 2250 s2).
//!
//! ```text
//!  datagrams  |47 .. 47 .. 47 ..|.. 47 .. 47 ..|      cut anywhere: FFmpeg fills 1,472 bytes
//!  packets    [188][188][188]   .   [188]              of 188 bytes; of 204, 16 are dropped
//!  RTP        [12 | 7 * 188]  [12 | PAT ...]           at most 7, a PAT begins one
//! ```
//! RTP time is the time of arrival: the packet's "target transmission time" (s2) was its arrival
//! here. RTP time never jumps, and players follow the PCR inside. The marker would signal a jump of
//! time, so no packet has the marker.
//!
//! Invariants: RTP carries whole packets that begin with 0x47, in order of arrival. Bounds: one
//! packet that is cut, one RTP packet that is not full. Nothing is allocated.
#![deny(clippy::indexing_slicing)]

use crate::base::ids::{RtpTs, SeqNo, Ssrc};
use crate::base::time::{Mono, rescale};
use crate::rtp::{HEADER_BYTES, write_header};

/// The payload type of MPEG-TS (RFC 3551 s6).
pub(crate) const MP2T: u8 = 33;
/// Bytes of a packet of MPEG-TS.
pub(crate) const TS_BYTES: usize = 188;
/// Bytes of a packet with the Reed-Solomon check bytes that some modulators' outputs keep.
pub(crate) const TS_FEC_BYTES: usize = 204;
/// First byte of each packet.
const SYNC_BYTE: u8 = 0x47;
/// Packets in one RTP packet: the room in an Ethernet frame.
const CHUNK_PACKETS_MAX: usize = 7;
const CHUNK_BYTES_MAX: usize = HEADER_BYTES + CHUNK_PACKETS_MAX * TS_BYTES;
/// Clock rate of payload type 33 (RFC 3551).
const CLOCK_RATE_HZ: u32 = 90_000;
const NS_PER_S: u32 = 1_000_000_000;

/// The layout of packets in a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TsShape {
    /// Bytes from one packet to the next.
    pub(crate) stride: usize,
    /// Offset of the first packet.
    pub(crate) offset: usize,
    /// Number of packets that begin.
    pub(crate) count: usize,
}

impl TsShape {
    /// The layout with the most packets in a datagram. A datagram that begins in the middle of a
    /// packet must hold a few packets: fewer may be chance.
    pub(crate) fn find(datagram: &[u8]) -> Option<Self> {
        let shape_at = |stride: usize, offset: usize| {
            let mut starts = datagram.get(offset..)?.iter().step_by(stride);
            let is_all = starts.len() > 0 && starts.all(|byte| *byte == SYNC_BYTE);
            let count = datagram.len().saturating_sub(offset).div_ceil(stride);
            let is_sure = offset == 0 && datagram.len() >= stride || count >= UNALIGNED_MIN;
            (is_all && is_sure).then_some(Self { stride, offset, count })
        };
        [TS_BYTES, TS_FEC_BYTES].into_iter().find_map(|stride| {
            let offsets = 0..stride.min(datagram.len());
            offsets.into_iter().find_map(|offset| shape_at(stride, offset))
        })
    }
}

/// The packer of one input: see the module.
#[derive(Debug)]
pub(crate) struct TsInput {
    stride: usize,
    /// First part of a packet that continues in the next datagram.
    cut: [u8; TS_FEC_BYTES],
    cut_bytes: usize,
    chunk: Chunk,
    /// Bytes outside any packet.
    pub(crate) lost_bytes: u64,
}

/// An RTP packet that is being filled.
#[derive(Debug)]
struct Chunk {
    bytes: [u8; CHUNK_BYTES_MAX],
    len: usize,
    ssrc: Ssrc,
    seq: SeqNo,
    ts_offset: u32,
    came: Mono,
}

impl TsInput {
    /// A packer for packets every `stride` bytes; the RTP stream begins with these numbers.
    pub(crate) fn new(stride: usize, ssrc: Ssrc, seq: SeqNo, ts_offset: u32) -> Self {
        let (bytes, len) = ([0; CHUNK_BYTES_MAX], HEADER_BYTES);
        Self {
            stride: if stride == TS_FEC_BYTES { stride } else { TS_BYTES },
            cut: [0; TS_FEC_BYTES],
            cut_bytes: 0,
            chunk: Chunk { bytes, len, ssrc, seq, ts_offset, came: Mono(0) },
            lost_bytes: 0,
        }
    }

    /// Another sender follows with an RTP stream of its own, whose numbers are far from the last
    /// ones.
    pub(crate) fn begin_anew(&mut self, ssrc: Ssrc) {
        self.cut_bytes = 0;
        (self.chunk.len, self.chunk.ssrc) = (HEADER_BYTES, ssrc);
        self.chunk.seq = self.chunk.seq.plus(1 << 15);
    }

    /// Takes the next datagram; `emit` gets the RTP packets that are full.
    pub(crate) fn handle_datagram(
        &mut self,
        datagram: &[u8],
        now: Mono,
        mut emit: impl FnMut(&[u8]),
    ) {
        let mut rest = self.finish_cut(datagram, now, &mut emit);
        // Bounded: each round takes some bytes.
        while let Some((packet, behind)) = rest.split_at_checked(self.stride) {
            if let Some(whole) = ts_packet(packet) {
                self.chunk.push(whole, now, &mut emit);
                rest = behind;
                continue;
            }
            let skipped = next_start(rest, self.stride);
            self.lost_bytes += skipped as u64;
            rest = rest.get(skipped..).unwrap_or_default();
        }
        if rest.first().is_some_and(|first| *first != SYNC_BYTE) {
            let skipped = next_start(rest, self.stride);
            self.lost_bytes += skipped as u64;
            rest = rest.get(skipped..).unwrap_or_default();
        }
        self.keep_cut(rest);
    }

    /// Emits the RTP packet that is being filled: at the end of a turn.
    pub(crate) fn flush(&mut self, emit: impl FnMut(&[u8])) {
        self.chunk.flush(emit);
    }

    /// Whether `flush` has a packet.
    pub(crate) fn is_filling(&self) -> bool {
        self.chunk.len > HEADER_BYTES
    }

    /// Completes the packet that the last datagram began; returns the bytes after the packet.
    fn finish_cut<'a>(
        &mut self,
        datagram: &'a [u8],
        now: Mono,
        emit: &mut impl FnMut(&[u8]),
    ) -> &'a [u8] {
        if self.cut_bytes == 0 {
            return datagram;
        }
        let missing = self.stride.saturating_sub(self.cut_bytes);
        if datagram.get(missing).is_some_and(|byte| *byte != SYNC_BYTE) {
            // The datagram in between was lost.
            self.lost_bytes += self.cut_bytes as u64;
            self.cut_bytes = 0;
            return datagram;
        }
        let (tail, behind) = datagram.split_at(missing.min(datagram.len()));
        self.keep_cut(tail);
        if self.cut_bytes == self.stride {
            self.cut_bytes = 0;
            if let Some(whole) = ts_packet(&self.cut) {
                self.chunk.push(whole, now, emit);
            }
        }
        behind
    }

    fn keep_cut(&mut self, bytes: &[u8]) {
        let free = self.cut.get_mut(self.cut_bytes..).unwrap_or_default();
        for (to, from) in free.iter_mut().zip(bytes) {
            *to = *from;
        }
        self.cut_bytes = (self.cut_bytes + bytes.len()).min(self.stride);
    }
}

impl Chunk {
    fn push(&mut self, packet: &[u8; TS_BYTES], now: Mono, emit: &mut impl FnMut(&[u8])) {
        if is_pat(packet) && self.len > HEADER_BYTES {
            // A reader that starts at this packet must not get the packets before it.
            self.flush(&mut *emit);
        }
        if self.len == HEADER_BYTES {
            self.came = now;
        }
        if let Some(place) = self.bytes.get_mut(self.len..self.len + TS_BYTES) {
            place.copy_from_slice(packet);
            self.len += TS_BYTES;
        }
        if self.len == CHUNK_BYTES_MAX {
            self.flush(emit);
        }
    }

    fn flush(&mut self, mut emit: impl FnMut(&[u8])) {
        if self.len == HEADER_BYTES {
            return;
        }
        let ns = i64::try_from(self.came.0).unwrap_or(i64::MAX);
        let ts = RtpTs(self.ts_offset).offset_ticks(rescale(ns, NS_PER_S, CLOCK_RATE_HZ));
        if let Some(header) = self.bytes.first_chunk_mut::<HEADER_BYTES>() {
            write_header(header, false, MP2T, self.seq, ts, self.ssrc);
        }
        self.seq = self.seq.plus(1);
        emit(self.bytes.get(..self.len).unwrap_or_default());
        self.len = HEADER_BYTES;
    }
}

/// The packet at the start of `bytes`, without check bytes.
fn ts_packet(bytes: &[u8]) -> Option<&[u8; TS_BYTES]> {
    bytes.first_chunk::<TS_BYTES>().filter(|packet| packet.first() == Some(&SYNC_BYTE))
}

fn is_pat(packet: &[u8; TS_BYTES]) -> bool {
    let [_, high, low, ..] = packet;
    (high & 0x1f, *low) == (0, 0)
}

/// Offset of the next packet: of a sync byte with another one a packet later, if that is in
/// `bytes`.
fn next_start(bytes: &[u8], stride: usize) -> usize {
    let is_start = |at: &usize| {
        let is_sync = |at: usize| bytes.get(at).is_none_or(|byte| *byte == SYNC_BYTE);
        is_sync(*at) && is_sync(at + stride)
    };
    (1..bytes.len()).find(is_start).unwrap_or(bytes.len())
}

/// Packets that must begin in a datagram that starts in the middle of a packet.
const UNALIGNED_MIN: usize = 3;

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test may fail where it is wrong")]
#[path = "ts_tests.rs"]
mod tests;
