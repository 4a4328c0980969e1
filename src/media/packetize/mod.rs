//! Packetizers: one per RFC, from the bytes of samples to packet descriptors.
//!
//! ```text
//! WindowJob --wanted()--> caller reads --handle_bytes()--> Packetizer --> WindowBuilder
//! ```
//! The bytes of a sample are looked at once, to find where units begin; packets then refer to the
//! file. Invariants of every packetizer, held by property tests:
//!
//! - no packet is empty or longer than `limits::RTP_PAYLOAD_BYTES_MAX`;
//! - the fragments of one unit have equal length except the last, so that the packets of a frame
//!   are runs of one segment size for UDP segmentation offload;
//! - the pieces of a frame, headers taken off, are the sample's own bytes;
//! - bytes of any content give packets or a [`SampleFault`], never a panic.
//!
//! Bound: a window holds at most [`job::WINDOW_BYTES_MAX`] of media, and descriptors of no more
//! than about twice that in the very worst case (units of 17 bytes); 3 % of it is usual.

mod aac;
mod ac3;
mod av1;
mod bundle;
mod error;
mod format;
mod fragment;
mod h264;
mod h265;
pub mod job;
#[cfg(test)]
mod job_tests;
mod jpeg;
mod mjpeg;
mod mp3;
mod mpeg4_visual;
mod nalu;
mod opus;
mod pcm;
#[cfg(test)]
mod testing;
mod vp8;
mod vp9;

use std::fmt;

pub(crate) use aac::au_duration_ticks;
pub use error::{JpegFault, SampleFault, WindowError};
pub use format::payload_format;
pub use job::{WindowJob, window_count, window_of_sample, window_of_sync};
pub(in crate::media) use nalu::PARAMETER_SETS_BYTES_MAX;
pub use pcm::window_samples as converted_window_samples;

use super::asset::Track;
use super::codec::Codec;
use super::index::Sample;
use super::window::{Frame, WindowBuilder};
use crate::base::time::{Npt, rescale};

/// How samples are cut into windows, frames and packets: another number with every change of that.
/// A process that takes over finds packets by their places in windows.
pub const CUT: u32 = 1;

/// Whether a sample's bytes are what its codec promises, without making a window of them.
///
/// Some formats (motion JPEG above all: Huffman tables, sampling) show only in the media whether
/// RTP can carry them. A title asks this of a track's first sample when it is opened, so that such
/// a track is left out with a reason instead of ending sessions later.
///
/// # Errors
/// What is wrong.
pub fn check_sample(codec: &Codec, bytes: &[u8]) -> Result<(), SampleFault> {
    let clock = FrameClock { timescale: 1_000, clock_rate_hz: 90_000 };
    let Some(mut packetizer) = packetizer(codec, clock) else { return Ok(()) };
    let count = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let sample = Sample {
        offset: 0,
        bytes: count,
        dts: 0,
        pts: 0,
        duration: 0,
        is_sync: true,
        is_disposable: false,
    };
    let frame = clock.frame(&sample, 0);
    let input = Input { sample, bytes, frame, brings_config: true };
    packetizer.handle_sample(&input, &mut WindowBuilder::new())
}

/// Turns the samples of one window, in order, into frames of packets.
trait Packetizer: fmt::Debug + Send {
    /// Takes the next sample, never an empty one. A small one may be held back to share a packet
    /// with those behind it.
    fn handle_sample(
        &mut self,
        input: &Input<'_>,
        out: &mut WindowBuilder,
    ) -> Result<(), SampleFault>;

    /// The window ends: what was held back goes out.
    fn handle_end(&mut self, out: &mut WindowBuilder) {
        let _ = out;
    }
}

/// One sample on its way into packets.
#[derive(Debug, Clone, Copy)]
struct Input<'a> {
    /// Times and place in the file.
    sample: Sample,
    /// Its bytes, `sample.bytes` of them.
    bytes: &'a [u8],
    /// Its frame, packet fields still open.
    frame: Frame,
    /// The decoder's configuration goes in front of it: a sync sample, or the first sample of
    /// another sample description.
    brings_config: bool,
}

impl Input<'_> {
    /// A decoder needs its configuration although it is no sync sample: what follows depends on it.
    fn is_needed(&self) -> bool {
        self.brings_config && !self.sample.is_sync
    }
}

/// Turns a track's ticks into the times of a frame.
#[derive(Debug, Clone, Copy)]
struct FrameClock {
    timescale: u32,
    clock_rate_hz: u32,
}

impl FrameClock {
    fn new(track: &Track) -> Self {
        Self { timescale: track.timescale, clock_rate_hz: track.payload.clock_rate_hz }
    }

    /// The frame of `sample`. Packet fields are the builder's business.
    fn frame(self, sample: &Sample, sample_index: u32) -> Frame {
        Frame {
            due: Npt::from_ticks(sample.dts, self.timescale),
            npt: Npt::from_ticks(sample.pts, self.timescale),
            rtp_ticks: rescale(sample.pts, self.timescale, self.clock_rate_hz),
            sample_index,
            packet_index: 0,
            packet_count: 0,
            is_sync: sample.is_sync,
            is_disposable: sample.is_disposable,
        }
    }
}

/// The packetizer of a codec; `None` for one that no payload format carries.
fn packetizer<'a>(codec: &'a Codec, clock: FrameClock) -> Option<Box<dyn Packetizer + 'a>> {
    Some(match codec {
        Codec::H264 { nal_length_bytes, sps, pps } => {
            Box::new(h264::H264Packetizer::new(*nal_length_bytes, sps, pps))
        }
        Codec::H265 { nal_length_bytes, vps, sps, pps } => {
            Box::new(h265::H265Packetizer::new(*nal_length_bytes, vps, sps, pps))
        }
        Codec::Aac { .. } => Box::new(aac::AacPacketizer::new(clock.timescale)),
        Codec::Opus { .. } => Box::new(opus::OpusPacketizer::new(clock)),
        Codec::Mp3 { .. } => Box::new(mp3::Mp3Packetizer::new(clock.timescale)),
        Codec::Pcmu { sample_rate_hz, channels } | Codec::Pcma { sample_rate_hz, channels } => {
            Box::new(pcm::PcmPacketizer::g711(clock, *sample_rate_hz, *channels)?)
        }
        Codec::Pcm { sample_rate_hz, channels, layout } => {
            Box::new(pcm::PcmPacketizer::linear(clock, *sample_rate_hz, *channels, *layout)?)
        }
        Codec::Ac3 { .. } => Box::new(ac3::Ac3Packetizer::new(clock.timescale, false)),
        Codec::Eac3 { .. } => Box::new(ac3::Ac3Packetizer::new(clock.timescale, true)),
        Codec::Mpeg4Visual { config } => Box::new(mpeg4_visual::Mpeg4VisualPacketizer::new(config)),
        Codec::Mjpeg => Box::new(mjpeg::MjpegPacketizer),
        Codec::Av1 { config_obus, .. } => Box::new(av1::Av1Packetizer::new(config_obus)),
        Codec::Vp8 => Box::new(vp8::Vp8Packetizer),
        Codec::Vp9 { .. } => Box::new(vp9::Vp9Packetizer),
    })
}
