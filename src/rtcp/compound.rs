//! Writes compound packets (RFC 3550 s6.1) into memory of the caller.
//!
//! ```text
//! buffer  [SR ............][SDES CNAME][BYE][ room that is left ]
//!          `---------- as_bytes -----------'
//! ```
//! Invariants: nothing is allocated; a packet is there whole or not at all, so what `as_bytes`
//! gives can be sent at any time; every packet ends at a multiple of four.
//! Bound: the buffer. [`REPORT_BYTES_MAX`] is enough for a report, a CNAME and a BYE.
#![deny(clippy::indexing_slicing)]

use super::packet::{BYE, RECEIVER_REPORT, SDES, SDES_CNAME, SENDER_REPORT};
use super::parse::ReportBlock;
use crate::base::ids::{RtpTs, Ssrc};
use crate::base::limits::UDP_SEND_BYTES_MAX;

/// Bytes of one report without blocks, with the longest CNAME and the longest reason to leave.
pub const REPORT_BYTES_MAX: usize = 28 + 268 + 264;

/// A compound packet under construction.
#[derive(Debug)]
pub struct CompoundWriter<'a> {
    out: &'a mut [u8],
    bytes: usize,
}

/// What a sender report says of a stream (RFC 3550 s6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderInfo {
    /// Time of day, from `ntp_from_utc_ns`.
    pub ntp: u64,
    /// The same moment on the stream's own clock.
    pub rtp_ts: RtpTs,
    /// RTP packets sent so far.
    pub packet_count: u32,
    /// Payload bytes sent so far, without headers.
    pub octet_count: u32,
}

/// The buffer is too small for the packet, which was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("RTCP packet of {packet_bytes} bytes does not fit into {room_bytes}")]
pub struct NoRoom {
    /// What the packet takes.
    pub packet_bytes: usize,
    /// What was left.
    pub room_bytes: usize,
}

impl<'a> CompoundWriter<'a> {
    /// Nothing is written yet.
    #[must_use]
    pub fn new(out: &'a mut [u8]) -> Self {
        Self { out, bytes: 0 }
    }

    /// The packets so far.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.out.get(..self.bytes).unwrap_or_default()
    }

    /// SR (s6.4.1). Blocks past the 31st follow in receiver reports; they are `ssrc`'s, whatever
    /// `sender_ssrc` is in them.
    ///
    /// # Errors
    /// The buffer is full.
    pub fn sender_report(
        &mut self,
        ssrc: Ssrc,
        info: &SenderInfo,
        blocks: &[ReportBlock],
    ) -> Result<(), NoRoom> {
        let (first, rest) = blocks.split_at(blocks.len().min(BLOCKS_MAX));
        let packets = |count: usize| 4 + count * BLOCK_BYTES;
        let rest_bytes: usize = rest.chunks(BLOCKS_MAX).map(|chunk| 4 + packets(chunk.len())).sum();
        self.check_room(HEADER_BYTES + packets(first.len()) + INFO_BYTES + rest_bytes)?;
        self.begin(count_bits(first.len()), SENDER_REPORT, packets(first.len()) + INFO_BYTES)?;
        self.put(&ssrc.0.to_be_bytes());
        self.put(&info.ntp.to_be_bytes());
        self.put(&info.rtp_ts.0.to_be_bytes());
        self.put(&info.packet_count.to_be_bytes());
        self.put(&info.octet_count.to_be_bytes());
        self.put_blocks(first);
        if rest.is_empty() { Ok(()) } else { self.receiver_report(ssrc, rest) }
    }

    /// RR (s6.4.2), one for each 31 blocks, at least one; see `sender_report`.
    ///
    /// # Errors
    /// The buffer is full.
    pub fn receiver_report(&mut self, ssrc: Ssrc, blocks: &[ReportBlock]) -> Result<(), NoRoom> {
        let packets = blocks.len().div_ceil(BLOCKS_MAX).max(1);
        self.check_room(packets * (HEADER_BYTES + SSRC_BYTES) + blocks.len() * BLOCK_BYTES)?;
        let mut rest = blocks;
        for _ in 0..packets {
            let (chunk, behind) = rest.split_at(rest.len().min(BLOCKS_MAX));
            let body_bytes = SSRC_BYTES + chunk.len() * BLOCK_BYTES;
            self.begin(count_bits(chunk.len()), RECEIVER_REPORT, body_bytes)?;
            self.put(&ssrc.0.to_be_bytes());
            self.put_blocks(chunk);
            rest = behind;
        }
        Ok(())
    }

    /// SDES with one chunk and one item (s6.5): every compound packet has it. Cut at 255 bytes.
    ///
    /// # Errors
    /// The buffer is full.
    pub fn cname(&mut self, ssrc: Ssrc, cname: &str) -> Result<(), NoRoom> {
        let cname = cut(cname);
        let item_bytes = 2 + cname.len();
        // The list of items ends with at least one zero, and the chunk at a multiple of four.
        let padding_bytes = 4 - item_bytes % 4;
        self.begin(1, SDES, SSRC_BYTES + item_bytes + padding_bytes)?;
        self.put(&ssrc.0.to_be_bytes());
        self.put(&[SDES_CNAME, length_byte(cname)]);
        self.put(cname.as_bytes());
        self.put(ZEROS.get(..padding_bytes).unwrap_or_default());
        Ok(())
    }

    /// BYE (s6.6), the last packet of a compound one. The reason may be empty; cut at 255 bytes.
    ///
    /// # Errors
    /// The buffer is full.
    pub fn bye(&mut self, ssrc: Ssrc, reason: &str) -> Result<(), NoRoom> {
        let reason = cut(reason);
        let text_bytes = if reason.is_empty() { 0 } else { 1 + reason.len() };
        let padding_bytes = text_bytes.next_multiple_of(4) - text_bytes;
        self.begin(1, BYE, SSRC_BYTES + text_bytes + padding_bytes)?;
        self.put(&ssrc.0.to_be_bytes());
        if !reason.is_empty() {
            self.put(&[length_byte(reason)]);
            self.put(reason.as_bytes());
            self.put(ZEROS.get(..padding_bytes).unwrap_or_default());
        }
        Ok(())
    }

    fn put_blocks(&mut self, blocks: &[ReportBlock]) {
        for block in blocks {
            let [_, lost @ ..] = block.cumulative_lost.clamp(LOST_MIN, LOST_MAX).to_be_bytes();
            self.put(&block.ssrc.to_be_bytes());
            self.put(&[block.fraction_lost]);
            self.put(&lost);
            self.put(&block.ext_highest_seq.to_be_bytes());
            self.put(&block.jitter.to_be_bytes());
            self.put(&block.lsr.to_be_bytes());
            self.put(&block.dlsr.to_be_bytes());
        }
    }

    /// Writes a packet's header; `body_bytes`, a multiple of four, must follow by `put`.
    pub(super) fn begin(
        &mut self,
        count: u8,
        packet_type: u8,
        body_bytes: usize,
    ) -> Result<(), NoRoom> {
        debug_assert!(body_bytes.is_multiple_of(4), "{body_bytes}");
        self.check_room(HEADER_BYTES + body_bytes)?;
        let [high, low] = u16::try_from(body_bytes / 4).unwrap_or(u16::MAX).to_be_bytes();
        self.put(&[VERSION_2 | count & COUNT_MASK, packet_type, high, low]);
        Ok(())
    }

    pub(super) fn put(&mut self, bytes: &[u8]) {
        let end = self.bytes + bytes.len();
        let room = self.out.get_mut(self.bytes..end);
        debug_assert!(room.is_some(), "`begin` has seen to it");
        if let Some(room) = room {
            room.copy_from_slice(bytes);
            self.bytes = end;
        }
    }

    fn check_room(&self, packet_bytes: usize) -> Result<(), NoRoom> {
        // The length field counts words in 16 bits; no datagram is longer either.
        let room_bytes = self.out.len().min(PACKET_BYTES_MAX).saturating_sub(self.bytes);
        if packet_bytes <= room_bytes { Ok(()) } else { Err(NoRoom { packet_bytes, room_bytes }) }
    }
}

/// At most 255 bytes, whole characters.
fn cut(text: &str) -> &str {
    if text.len() <= TEXT_BYTES_MAX {
        return text;
    }
    (0..=TEXT_BYTES_MAX).rev().find_map(|bytes| text.get(..bytes)).unwrap_or_default()
}

/// Of a text that was cut.
fn length_byte(text: &str) -> u8 {
    u8::try_from(text.len()).unwrap_or(u8::MAX)
}

fn count_bits(count: usize) -> u8 {
    u8::try_from(count).unwrap_or(COUNT_MASK).min(COUNT_MASK)
}

/// Blocks of one report at most: the count has five bits.
const BLOCKS_MAX: usize = 31;
const COUNT_MASK: u8 = 31;
/// The length fields of SDES items and BYE reasons have eight bits.
const TEXT_BYTES_MAX: usize = 255;
/// A compound packet goes out as one datagram.
const PACKET_BYTES_MAX: usize = UDP_SEND_BYTES_MAX as usize;
/// 24 bits with a sign.
const LOST_MAX: i32 = 0x7f_ffff;
const LOST_MIN: i32 = -0x80_0000;

const VERSION_2: u8 = 2 << 6;
const HEADER_BYTES: usize = 4;
const SSRC_BYTES: usize = 4;
const INFO_BYTES: usize = 20;
const BLOCK_BYTES: usize = 24;
const ZEROS: [u8; 4] = [0; 4];

#[cfg(test)]
#[path = "compound_tests.rs"]
mod tests;
