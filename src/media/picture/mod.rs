//! What a video's configuration says of its pictures: size, profile, chroma, bit depth, reordering.
//!
//! ```text
//! H.264, H.265   sequence parameter set, as a raw NAL unit    `h264`, `h265`
//! AV1            sequence header, as a low-overhead OBU       `av1`
//! ```
//! Read where a container or a browser wants to be told what the bitstream says already: `hvcC`,
//! `av1C`, RESOLUTION and CODECS of a playlist.
//! Invariant: bytes of a peer or a file never panic; what ends early is `None`.
//! Bound: `SET_BYTES_MAX` of a set. H.264 s7.3.2.1, H.265 s7.3.2.2, AV1 s5.5.
#![deny(clippy::indexing_slicing)]

mod av1;
mod bits;
mod h264;
mod h265;

pub use av1::{Av1Sequence, read_av1};
pub use h264::{H264Sequence, read_h264};
pub use h265::{H265Sequence, read_h265};

/// Chroma and bit depth of pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleFormat {
    /// `chroma_format_idc`: 0 monochrome, 1 4:2:0, 2 4:2:2, 3 4:4:4.
    pub chroma_format: u8,
    /// Bits of a luma sample.
    pub luma_bits: u8,
    /// Bits of a chroma sample.
    pub chroma_bits: u8,
}
