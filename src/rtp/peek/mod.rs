//! Looks into payloads that we only forward: can a reader begin here, and what does it need?
//!
//! ```text
//! packet -> Peeker::peek -> Peek { picture, sync, .. }        one packet, by its first bytes
//!                             `-> AccessPoints -> ExtSeq      where the newest group begins
//!        -> nal::for_each_set -> ParameterSets -> a=fmtp      what the SDP should say now
//! ```
//! One module for each payload format; an unknown one is `sync` in every packet, for nobody can
//! tell. Invariant: no payload panics, and looking allocates nothing.
//! Bound: the headers of a packet; `AGGREGATE_UNITS_MAX` units of one that holds several.

pub mod access;
pub mod nal;
mod sei;
pub mod sets;
mod ts;
mod video;

use ts::TsPeeker;

/// What the first bytes of a packet's payload say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Peek {
    /// A coded picture, or a part of one, is in it.
    pub picture: bool,
    /// A picture that needs no other begins in it: IDR, IRAP, key frame.
    pub sync: bool,
    /// Something is in it that begins with the picture behind it: SPS, sequence header, the mark
    /// of a recovery point.
    pub sets: bool,
    /// Tables are in it that a reader needs at some time: PAT. They are repeated several times a
    /// second and say nothing of the picture behind them. With `sync`, they stand before it.
    pub tables: bool,
}

impl Peek {
    /// A reader may begin at any packet.
    pub const ANYWHERE: Self = Self { picture: true, sync: true, sets: false, tables: false };
    /// A part of a picture, nothing begins.
    const MIDDLE: Self = Self { picture: true, sync: false, sets: false, tables: false };
}

/// A payload format, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PeekFormat {
    /// RFC 6184.
    H264,
    /// RFC 7798.
    H265,
    /// AOM's RTP payload format for AV1.
    Av1,
    /// RFC 7741.
    Vp8,
    /// RFC 9628.
    Vp9,
    /// RFC 6416, video.
    Mpeg4Visual,
    /// RFC 2435.
    Jpeg,
    /// RFC 2250 s2: MPEG-TS.
    MpegTs,
    /// Audio, and what nobody knows: every packet stands for itself.
    Any,
}

impl PeekFormat {
    /// From the encoding name of `a=rtpmap`.
    #[must_use]
    pub fn from_encoding_name(name: &str) -> Self {
        match name.to_ascii_uppercase().as_str() {
            "H264" => Self::H264,
            "H265" | "HEVC" => Self::H265,
            "AV1" => Self::Av1,
            "VP8" => Self::Vp8,
            "VP9" => Self::Vp9,
            "MP4V-ES" => Self::Mpeg4Visual,
            "JPEG" => Self::Jpeg,
            "MP2T" => Self::MpegTs,
            _ => Self::Any,
        }
    }
}

/// Peeks into the packets of one stream.
#[derive(Debug)]
pub struct Peeker {
    format: PeekFormat,
    /// Only MPEG-TS needs to remember something: which of its streams is the picture.
    ts: TsPeeker,
}

impl Peeker {
    /// For a stream of `format`.
    #[must_use]
    pub fn new(format: PeekFormat) -> Self {
        Self { format, ts: TsPeeker::default() }
    }

    /// Its format.
    #[must_use]
    pub fn format(&self) -> PeekFormat {
        self.format
    }

    /// Looks into the payload of the next packet.
    pub fn peek(&mut self, payload: &[u8]) -> Peek {
        match self.format {
            PeekFormat::H264 => nal::peek_h264(payload),
            PeekFormat::H265 => nal::peek_h265(payload),
            PeekFormat::Av1 => video::peek_av1(payload),
            PeekFormat::Vp8 => video::peek_vp8(payload),
            PeekFormat::Vp9 => video::peek_vp9(payload),
            PeekFormat::Mpeg4Visual => video::peek_mpeg4_visual(payload),
            PeekFormat::Jpeg => video::peek_jpeg(payload),
            PeekFormat::MpegTs => self.ts.peek(payload),
            PeekFormat::Any => Peek::ANYWHERE,
        }
    }
}

/// Units of one aggregation packet that are looked at: a picture of many slices has its parameter
/// sets in front.
pub const AGGREGATE_UNITS_MAX: usize = 64;

#[cfg(test)]
mod tests;
