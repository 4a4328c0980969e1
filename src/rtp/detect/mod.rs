//! Finds key frames and parameter sets in payloads that are only forwarded.
//!
//! ```text
//! packet -> KeyFrameDetector -> PayloadContent { sync, .. }   content, by its first bytes
//!                                `-> AccessPoints -> ExtSeq   start of the newest group
//!        -> nal::for_each_set -> ParameterSets -> a=fmtp      present parameters of the SDP
//! ```
//! One module for each payload format. Every packet of an unknown format is `sync`: key frames
//! cannot be told. Invariant: no payload panics, and detection allocates nothing.
//! Bound: the headers of a packet; `AGGREGATE_UNITS_MAX` units of one that holds several.

pub mod access;
pub mod nal;
mod sei;
pub mod sets;
mod ts;
mod video;

use ts::TsDetector;

/// Content of a packet, as far as the first bytes of the payload tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PayloadContent {
    /// A coded frame, or a part of one.
    pub picture: bool,
    /// The beginning of a key frame: IDR, IRAP.
    pub sync: bool,
    /// Data that belongs to the frame after it: SPS, sequence header, recovery point SEI.
    pub sets: bool,
    /// Tables that a reader needs at some time: PAT. They are repeated several times a second,
    /// whatever frame follows. With `sync`, they precede the key frame.
    pub tables: bool,
}

impl PayloadContent {
    /// Content of a format whose readers may begin at any packet.
    pub const ANYWHERE: Self = Self { picture: true, sync: true, sets: false, tables: false };
    /// A part of a frame, without a beginning.
    const MIDDLE: Self = Self { picture: true, sync: false, sets: false, tables: false };
}

/// A payload format with rules of its own for key frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DetectorFormat {
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
    /// Sound and unknown formats: readers may begin at any packet.
    Any,
}

impl DetectorFormat {
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

/// The detector of one stream.
#[derive(Debug)]
pub struct KeyFrameDetector {
    format: DetectorFormat,
    /// State of MPEG-TS: the elementary stream with the video.
    ts: TsDetector,
}

impl KeyFrameDetector {
    /// A detector for a stream of `format`.
    #[must_use]
    pub fn new(format: DetectorFormat) -> Self {
        Self { format, ts: TsDetector::default() }
    }

    /// Format of the stream.
    #[must_use]
    pub fn format(&self) -> DetectorFormat {
        self.format
    }

    /// Content of the next packet's payload.
    pub fn detect(&mut self, payload: &[u8]) -> PayloadContent {
        match self.format {
            DetectorFormat::H264 => nal::detect_h264(payload),
            DetectorFormat::H265 => nal::detect_h265(payload),
            DetectorFormat::Av1 => video::detect_av1(payload),
            DetectorFormat::Vp8 => video::detect_vp8(payload),
            DetectorFormat::Vp9 => video::detect_vp9(payload),
            DetectorFormat::Mpeg4Visual => video::detect_mpeg4_visual(payload),
            DetectorFormat::Jpeg => video::detect_jpeg(payload),
            DetectorFormat::MpegTs => self.ts.detect(payload),
            DetectorFormat::Any => PayloadContent::ANYWHERE,
        }
    }
}

/// Units of an aggregation packet that are read: parameter sets precede the slices.
pub const AGGREGATE_UNITS_MAX: usize = 64;

#[cfg(test)]
mod tests;
