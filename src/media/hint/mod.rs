//! QuickTime hint tracks: packets prepared by whoever made the file.
//!
//! ```text
//! hint sample  = packet*            (bytes in the file, see `sample`)
//! packet       = marker, constructor*
//! constructor  = immediate bytes | range of a media sample | range of a hint sample
//!                   v                   v
//! window       = Inline pieces      File pieces
//! ```
//! Invariant: a hint sample is checked whole before any of its packets reaches the window, so an
//! error leaves the window as it was. Bounds: `HINT_PACKET_BYTES_MAX` a packet, and every packet
//! and constructor takes at least 12 bytes of the hint sample.
//! QuickTime File Format "Hint Media"; ISO 14496-12 s9.1.

mod link;
mod sample;
mod sdp;

use super::asset::Track;
use super::index::{Sample, SampleIndex, Table};
use super::window::{Frame, WindowBuilder};
use crate::base::time::{Npt, rescale};
pub(crate) use link::{Pair, link};
use sample::{Op, Packet, Range, Source};
pub(crate) use sdp::payload_format_of;

/// A hint track, tied to the media track whose samples it packetizes.
#[derive(Debug)]
pub struct HintTrack {
    /// The hint samples: times of the media samples they carry, a sync sample where the media has
    /// one. In the media track's timescale.
    pub index: SampleIndex,
    /// The hint samples as the file numbers them.
    own: SampleIndex,
    /// `tref/hint`: which entry is the media track.
    media_ref: i8,
    /// RTP clock of the hint samples' offsets (`tims`).
    clock_rate_hz: u32,
    /// One hint sample to each media sample: the media's times hold, not the hints'.
    uses_media_times: bool,
    file_bytes: u64,
}

/// Why a hint sample cannot be turned into packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HintError {
    /// The hint sample ends in the middle of a packet.
    #[error("hint sample ends early, at byte {offset}")]
    Cut {
        /// Where something was expected.
        offset: u32,
    },
    /// A constructor of a kind that cannot be served.
    #[error("hint constructor of kind {kind} at byte {offset} is not supported")]
    Constructor {
        /// Kind.
        kind: u8,
        /// Where it starts.
        offset: u32,
    },
    /// A constructor points into a track other than the hinted one and the hint track itself.
    #[error("hint constructor at byte {offset} refers to track reference {reference}")]
    TrackReference {
        /// Index into `tref/hint`.
        reference: i8,
        /// Where it starts.
        offset: u32,
    },
    /// A constructor points to bytes that its sample does not have.
    #[error("hint constructor at byte {offset} leaves sample {sample}")]
    SampleRange {
        /// Sample number in the file, 1-based.
        sample: u32,
        /// Where it starts.
        offset: u32,
    },
    /// A packet larger than a network takes.
    #[error("hint packet of {bytes} bytes, over the limit of {limit_bytes}")]
    PacketTooLarge {
        /// Payload bytes.
        bytes: usize,
        /// `HINT_PACKET_BYTES_MAX`.
        limit_bytes: usize,
    },
}

/// Sample entry `rtp ` of a hint track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HintEntry {
    /// Largest packet, RTP header included.
    packet_bytes_max: u32,
    /// RTP clock (`tims`).
    pub(crate) clock_rate_hz: Option<u32>,
}

impl HintEntry {
    /// Reads the body of the entry; `None` when it asks for a newer reader or for packets that do
    /// not fit a network.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let word = |at: usize| body.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
        let compatible_version = word(8)? & 0xffff;
        let packet_bytes_max = word(12)?;
        if compatible_version > 1 || packet_bytes_max as usize > HINT_PACKET_BYTES_MAX + 12 {
            return None;
        }
        let mut entry = Self { packet_bytes_max, clock_rate_hz: None };
        let mut at = 16;
        while let Some(bytes) = word(at).filter(|bytes| *bytes >= 8) {
            if body.get(at + 4..at + 8) == Some(b"tims") {
                entry.clock_rate_hz = word(at + 8).filter(|rate| *rate > 0);
            }
            at = at.checked_add(bytes as usize)?;
        }
        Some(entry)
    }
}

impl HintTrack {
    /// Turns the bytes of one hint sample into packets: of one frame as a rule, of several where
    /// the packets carry different timestamps. Called for each hint sample in order; `sample` is
    /// the one at `sample_index` of [`Self::index`].
    pub fn packetize(
        &self,
        track: &Track,
        sample: &Sample,
        sample_index: u32,
        bytes: &[u8],
        out: &mut WindowBuilder,
    ) -> Result<(), HintError> {
        self.check(&track.index, bytes)?;
        let media = track.index.raw();
        let clock_rate_hz = track.payload.clock_rate_hz;
        let start = rescale(sample.pts, track.timescale, clock_rate_hz);
        let mut open: Option<i64> = None;
        let mut all_disposable = true;
        let mut is_first = true;
        let mut end_frame = |ticks: i64, is_disposable: bool, out: &mut WindowBuilder| {
            out.end_frame(Frame {
                due: Npt::from_ticks(sample.dts, track.timescale),
                // The sample's own time where it is that: RTP ticks may be coarser, and a seek
                // looks for the sample by its time.
                npt: if ticks == start {
                    Npt::from_ticks(sample.pts, track.timescale)
                } else {
                    Npt::from_ticks(ticks, clock_rate_hz)
                },
                rtp_ticks: ticks,
                sample_index,
                packet_index: 0,
                packet_count: 0,
                is_sync: sample.is_sync && is_first,
                is_disposable: sample.is_disposable || is_disposable,
            });
            is_first = false;
        };
        for packet in sample::packets(bytes) {
            let packet = packet?;
            if packet.is_repeated {
                // A copy sent for safety under the same sequence number; RTCP does that here.
                continue;
            }
            let ticks = start.saturating_add(self.rtp_offset(&packet, clock_rate_hz));
            if let Some(before) = open.replace(ticks)
                && before != ticks
            {
                end_frame(before, all_disposable, out);
                all_disposable = true;
            }
            all_disposable &= packet.is_disposable;
            for op in packet.ops() {
                match op?.1 {
                    Op::Immediate(bytes) => out.push_inline(bytes),
                    Op::Range(range) => {
                        if let Some(offset) = self.locate(&range, media) {
                            out.push_file(offset, usize::from(range.bytes));
                        }
                    }
                }
            }
            out.end_packet(packet.marker);
        }
        if let Some(ticks) = open {
            end_frame(ticks, all_disposable, out);
        }
        Ok(())
    }

    /// Walks a whole hint sample without sending anything.
    fn check(&self, media: &SampleIndex, bytes: &[u8]) -> Result<(), HintError> {
        for packet in sample::packets(bytes) {
            let mut payload_bytes = 0;
            for op in packet?.ops() {
                let (offset, op) = op?;
                match op {
                    Op::Immediate(bytes) => payload_bytes += bytes.len(),
                    Op::Range(range) => {
                        payload_bytes += usize::from(range.bytes);
                        self.check_range(&range, media, offset)?;
                    }
                }
                if payload_bytes > HINT_PACKET_BYTES_MAX {
                    let limit_bytes = HINT_PACKET_BYTES_MAX;
                    return Err(HintError::PacketTooLarge { bytes: payload_bytes, limit_bytes });
                }
            }
        }
        Ok(())
    }

    fn check_range(
        &self,
        range: &Range,
        media: &SampleIndex,
        offset: u32,
    ) -> Result<(), HintError> {
        if let Source::Media(reference) = range.source
            && reference != self.media_ref
        {
            return Err(HintError::TrackReference { reference, offset });
        }
        let found = self.locate(range, media.raw());
        found.map(|_| ()).ok_or(HintError::SampleRange { sample: range.sample, offset })
    }

    /// Where in the file the bytes of a range are.
    fn locate(&self, range: &Range, media: &Table) -> Option<u64> {
        let table = match range.source {
            Source::Media(_) => media,
            Source::Hint => self.own.raw(),
        };
        let number = range.sample.checked_sub(1)?;
        let unit_bytes = table.unit_bytes();
        let bytes = u64::from(range.bytes);
        let offset = if unit_bytes > 0 {
            // Audio units of one tick each: the run that holds the unit is found by its time.
            let unit = i64::from(number);
            let run = table.sample(table.first_at_or_after(unit + 1).checked_sub(1)?)?;
            let within = unit.checked_sub(run.dts)?.checked_mul(i64::from(unit_bytes))?;
            let within = u64::try_from(within).ok().filter(|w| *w < u64::from(run.bytes))?;
            run.offset.checked_add(within)?.checked_add(u64::from(range.offset))?
        } else {
            let sample = table.sample(number)?;
            let end = u64::from(range.offset) + bytes;
            (end <= u64::from(sample.bytes)).then_some(sample.offset + u64::from(range.offset))?
        };
        (offset.checked_add(bytes)? <= self.file_bytes).then_some(offset)
    }

    /// Ticks to add to the hint sample's time for one packet.
    fn rtp_offset(&self, packet: &Packet<'_>, clock_rate_hz: u32) -> i64 {
        match packet.rtp_offset {
            Some(offset) if !self.uses_media_times => {
                rescale(i64::from(offset), self.clock_rate_hz, clock_rate_hz)
            }
            _ => 0,
        }
    }
}

/// Payload bytes of a packet at most: what fits 1,500 bytes of Ethernet with IPv4, UDP and RTP.
/// Common hinters write 1,450.
pub const HINT_PACKET_BYTES_MAX: usize = 1_460;

#[cfg(test)]
mod tests;
