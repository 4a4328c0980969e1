//! MPEG-TS without RTP: datagrams to whole packets, and those to RTP (RFC 2250 s2).
//!
//! ```text
//!  datagrams  |47 .. 47 .. 47 ..|.. 47 .. 47 ..|      cut anywhere: FFmpeg fills 1,472 bytes
//!  packets    [188][188][188]   .   [188]              of 188 bytes; of 204, 16 are dropped
//!  RTP        [12 | 7 * 188]  [12 | PAT ...]           at most 7, a PAT begins one
//! ```
//! RTP time is that of the arrival: "target transmission time" (s2) is what it was when we got it.
//! It never jumps, and players run by the PCR inside. The marker would say that time has jumped,
//! so it is never set.
//!
//! Invariants: what goes out is whole packets that begin with 0x47, in the order in which they
//! came. Bounds: one packet that is cut, one RTP packet that is not full. Nothing is allocated.
#![deny(clippy::indexing_slicing)]

use crate::base::ids::{RtpTs, SeqNo, Ssrc};
use crate::base::time::{Mono, rescale};
use crate::rtp::{HEADER_BYTES, write_header};

/// The payload type of MPEG-TS (RFC 3551 s6).
pub(crate) const MP2T: u8 = 33;
/// Bytes of a packet.
pub(crate) const TS_BYTES: usize = 188;
/// With the check bytes of Reed and Solomon that some modulators' outputs keep.
pub(crate) const TS_FEC_BYTES: usize = 204;
/// What each packet begins with.
const SYNC_BYTE: u8 = 0x47;
/// Packets in one of RTP: what fits an Ethernet frame.
const CHUNK_PACKETS_MAX: usize = 7;
const CHUNK_BYTES_MAX: usize = HEADER_BYTES + CHUNK_PACKETS_MAX * TS_BYTES;
/// RFC 3551: the clock of payload type 33.
const CLOCK_RATE_HZ: u32 = 90_000;
const NS_PER_S: u32 = 1_000_000_000;

/// How packets lie in a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TsShape {
    /// From one packet to the next.
    pub(crate) stride: usize,
    /// Where the first one begins.
    pub(crate) offset: usize,
    /// How many begin.
    pub(crate) count: usize,
}

impl TsShape {
    /// The way in which most packets begin in a datagram. One that begins in the middle of a packet
    /// has to hold a few, or anything would do.
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

/// See the module.
#[derive(Debug)]
pub(crate) struct TsInput {
    stride: usize,
    /// The beginning of a packet whose end is in the next datagram.
    cut: [u8; TS_FEC_BYTES],
    cut_bytes: usize,
    chunk: Chunk,
    /// Bytes that were in no packet.
    pub(crate) lost_bytes: u64,
}

/// An RTP packet that is filled.
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
    /// For packets every `stride` bytes, to become RTP that begins with these numbers.
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

    /// Another sender goes on: with a stream of its own, whose numbers are far from the last ones.
    pub(crate) fn begin_anew(&mut self, ssrc: Ssrc) {
        self.cut_bytes = 0;
        (self.chunk.len, self.chunk.ssrc) = (HEADER_BYTES, ssrc);
        self.chunk.seq = self.chunk.seq.plus(1 << 15);
    }

    /// Takes the next datagram; RTP packets that are full go to `emit`.
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

    /// What is under way goes out, full or not: at the end of a turn.
    pub(crate) fn flush(&mut self, emit: impl FnMut(&[u8])) {
        self.chunk.flush(emit);
    }

    /// Whether `flush` has something.
    pub(crate) fn is_filling(&self) -> bool {
        self.chunk.len > HEADER_BYTES
    }

    /// Ends the packet that the last datagram has begun; gives what is behind it.
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
            // The datagram between them was lost.
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
            // Who begins here is sent nothing in front of it.
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

/// Where a packet begins next: at a sync byte that has another one a packet behind it, as far as
/// that is here.
fn next_start(bytes: &[u8], stride: usize) -> usize {
    let is_start = |at: &usize| {
        let is_sync = |at: usize| bytes.get(at).is_none_or(|byte| *byte == SYNC_BYTE);
        is_sync(*at) && is_sync(at + stride)
    };
    (1..bytes.len()).find(is_start).unwrap_or(bytes.len())
}

/// Packets that have to begin in a datagram that begins in the middle of one.
const UNALIGNED_MIN: usize = 3;

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test may fail where it is wrong")]
#[path = "ts_tests.rs"]
mod tests;
