//! Frames of AAC (RFC 3640 s3.2, s3.3.5, s3.3.6) and lengths of Opus packets (RFC 6716 s3.1).

use super::{Assemble, Frame, Packet};
use crate::base::ids::RtpTs;

/// How AAC is packed, from `a=fmtp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AacFormat {
    /// `sizelength`: bits.
    pub size_bits: u8,
    /// `indexlength`: bits.
    pub index_bits: u8,
    /// `indexdeltalength`: bits.
    pub index_delta_bits: u8,
    /// Ticks of the RTP clock that a frame lasts.
    pub frame_ticks: u32,
}

/// The frame under way.
#[derive(Debug)]
pub(super) struct Aac {
    format: AacFormat,
    /// A frame in pieces: its time, its length, what has come of it.
    open: Option<(RtpTs, usize, Vec<u8>)>,
    lost: u64,
}

impl Aac {
    pub(super) fn new(format: AacFormat) -> Self {
        Self { format, open: None, lost: 0 }
    }

    /// Lengths of the frames in a packet, and what is behind the headers.
    fn headers<'a>(&self, payload: &'a [u8]) -> Option<(Vec<usize>, &'a [u8])> {
        let AacFormat { size_bits, index_bits, index_delta_bits, .. } = self.format;
        let (bits, behind) = payload.split_first_chunk::<2>()?;
        let bits = usize::from(u16::from_be_bytes(*bits));
        let (headers, data) = behind.split_at_checked(bits.div_ceil(8))?;
        let mut sizes = Vec::new();
        let mut at = 0;
        let take = |at: usize, count: usize| {
            (at..at + count).try_fold(0_usize, |value, bit| {
                let byte = headers.get(bit / 8)?;
                Some(value << 1 | usize::from(byte >> (7 - bit % 8) & 1))
            })
        };
        while sizes.len() < FRAMES_MAX {
            let index = if sizes.is_empty() { index_bits } else { index_delta_bits };
            let end = at + usize::from(size_bits) + usize::from(index);
            if end > bits || end == at {
                break;
            }
            sizes.push(take(at, size_bits.into())?);
            at = end;
        }
        Some((sizes, data))
    }
}

impl Assemble for Aac {
    fn push(&mut self, packet: &Packet<'_>, out: &mut Vec<Frame>) {
        let Some((sizes, mut data)) = self.headers(packet.payload) else {
            self.lost += 1;
            return;
        };
        if let (&[size], true) = (
            sizes.as_slice(),
            self.open.is_some() || data.len() < sizes.first().copied().unwrap_or(0),
        ) {
            // One frame in several packets (s3.2.3.2).
            let (ts, whole, mut bytes) = self.open.take().unwrap_or((packet.ts, size, Vec::new()));
            if ts != packet.ts || whole != size || bytes.len() + data.len() > whole {
                self.lost += 1;
                return;
            }
            bytes.extend_from_slice(data);
            if bytes.len() == whole {
                out.push(Frame { ts, bytes, is_sync: true });
            } else {
                self.open = Some((ts, whole, bytes));
            }
            return;
        }
        self.break_off();
        let mut ts = packet.ts;
        for size in sizes {
            let Some((frame, behind)) = data.split_at_checked(size) else {
                self.lost += 1;
                return;
            };
            if !frame.is_empty() {
                out.push(Frame { ts, bytes: frame.to_vec(), is_sync: true });
            }
            ts = RtpTs(ts.0.wrapping_add(self.format.frame_ticks));
            data = behind;
        }
    }

    fn break_off(&mut self) {
        self.lost += u64::from(self.open.take().is_some());
    }

    fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }
}

/// Ticks of 48 kHz that an Opus packet lasts; `None` for one without a frame.
#[must_use]
pub fn opus_ticks(packet: &[u8]) -> Option<u32> {
    let (&toc, rest) = packet.split_first()?;
    let config = toc >> 3;
    let frame = match config {
        0..=11 => [480, 960, 1_920, 2_880].get(usize::from(config & 3)).copied()?,
        12..=15 => [480, 960].get(usize::from(config & 1)).copied()?,
        _ => [120, 240, 480, 960].get(usize::from(config & 3)).copied()?,
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(rest.first()? & 0x3f),
    };
    Some(frame * frames)
}

/// Frames of one packet.
const FRAMES_MAX: usize = 64;
