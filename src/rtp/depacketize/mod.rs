//! Frames out of RTP packets: access units as MP4 stores them.
//!
//! ```text
//! packets of a track --> H.264 (RFC 6184), H.265 (RFC 7798)   NAL units behind their lengths
//!                        AV1 (AOM's payload format)           OBUs with their sizes
//!                        AAC (RFC 3640), Opus (RFC 7587)      frames as they are
//! ```
//! A frame with a packet missing is dropped and counted; what follows is delivered as it comes. The
//! caller says which packets begin a key frame: it has been found out on arrival.
//! Invariant: bytes of a peer never panic. Bound: `FRAME_BYTES_MAX` of the frame that is under way.
#![deny(clippy::indexing_slicing)]

mod av1;
mod nal;
mod sound;
#[cfg(test)]
mod tests;

use crate::base::ids::{RtpTs, SeqNo};

use av1::Av1;
use nal::Nal;
use sound::Aac;
pub use sound::{AacFormat, opus_ticks};

/// A packet of a track.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// Sequence number.
    pub seq: SeqNo,
    /// RTP time.
    pub ts: RtpTs,
    /// Marker bit.
    pub marker: bool,
    /// The packet begins a key frame.
    pub is_sync: bool,
    /// Payload without padding.
    pub payload: &'a [u8],
}

/// A frame, complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// RTP time.
    pub ts: RtpTs,
    /// As MP4 stores it.
    pub bytes: Vec<u8>,
    /// A decoder can start with it.
    pub is_sync: bool,
}

/// The frame that is under way, of one track.
#[derive(Debug)]
pub struct Depacketizer {
    format: Format,
    expected: Option<SeqNo>,
    lost: u64,
}

#[derive(Debug)]
enum Format {
    Nal(Nal),
    Av1(Av1),
    Aac(Aac),
    Opus,
}

/// What a format makes of its packets.
trait Assemble {
    /// Takes a packet; complete frames go to `out`.
    fn push(&mut self, packet: &Packet<'_>, out: &mut Vec<Frame>);
    /// A packet is missing before the next one.
    fn break_off(&mut self);
    /// Frames that were dropped since the last call.
    fn take_lost(&mut self) -> u64;
}

impl Depacketizer {
    /// H.264: parameter sets and delimiters are left out of frames.
    #[must_use]
    pub fn h264() -> Self {
        Self::new(Format::Nal(Nal::h264()))
    }

    /// H.265, likewise.
    #[must_use]
    pub fn h265() -> Self {
        Self::new(Format::Nal(Nal::h265()))
    }

    /// AV1: temporal units without delimiters.
    #[must_use]
    pub fn av1() -> Self {
        Self::new(Format::Av1(Av1::default()))
    }

    /// AAC in mpeg4-generic.
    #[must_use]
    pub fn aac(format: AacFormat) -> Self {
        Self::new(Format::Aac(Aac::new(format)))
    }

    /// Opus: each packet is a frame.
    #[must_use]
    pub fn opus() -> Self {
        Self::new(Format::Opus)
    }

    fn new(format: Format) -> Self {
        Self { format, expected: None, lost: 0 }
    }

    /// Takes the next packet of the track; complete frames go to `out`. A packet that comes late is
    /// dropped: its frame is gone.
    pub fn push(&mut self, packet: &Packet<'_>, out: &mut Vec<Frame>) {
        if let Some(expected) = self.expected {
            let ahead = packet.seq.0.wrapping_sub(expected.0);
            if ahead >= 1 << 15 {
                self.lost += 1;
                return;
            }
            if ahead > 0 {
                self.assemble(|format| format.break_off());
            }
        }
        self.expected = Some(SeqNo(packet.seq.0.wrapping_add(1)));
        match &mut self.format {
            Format::Opus => {
                out.push(Frame { ts: packet.ts, bytes: packet.payload.to_vec(), is_sync: true })
            }
            _ => self.assemble(|format| format.push(packet, out)),
        }
    }

    /// Another stream follows: what is under way is dropped, and sequence numbers begin anew.
    pub fn restart(&mut self) {
        self.assemble(|format| format.break_off());
        self.expected = None;
    }

    /// Frames that were dropped since the last call.
    pub fn take_lost(&mut self) -> u64 {
        let mut lost = std::mem::take(&mut self.lost);
        self.assemble(|format| lost += format.take_lost());
        lost
    }

    fn assemble(&mut self, act: impl FnOnce(&mut dyn Assemble)) {
        match &mut self.format {
            Format::Nal(format) => act(format),
            Format::Av1(format) => act(format),
            Format::Aac(format) => act(format),
            Format::Opus => {}
        }
    }
}

/// Bytes of a frame at most: a key frame of 8K video is below that.
const FRAME_BYTES_MAX: usize = 16 << 20;
