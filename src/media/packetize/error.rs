//! Why a window cannot be built.
//!
//! Two levels: [`WindowError`] says where in the title, [`SampleFault`] what is wrong with the
//! bytes of one sample. Both are data; the edge turns them into a status and a log line.

pub use super::jpeg::JpegFault;
use crate::media::hint::HintError;
use crate::media::window::WindowKey;

/// Why a window cannot be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WindowError {
    /// The title has no such track or the track no such window.
    #[error("no window {} of track {}", .key.index, .key.track_index)]
    OutOfRange {
        /// As asked for.
        key: WindowKey,
    },
    /// The track's codec is unknown and it has no hint track: the container let it through by
    /// mistake.
    #[error("track {track_index} has no codec to packetize")]
    NoCodec {
        /// Place in `Asset::tracks`.
        track_index: u8,
    },
    /// A sample is longer than any real one: a count in the file is a lie.
    #[error("sample {sample} has {bytes} bytes, at most {limit_bytes} are read")]
    SampleTooLarge {
        /// Sample, in the order of `Track::schedule`.
        sample: u32,
        /// Its length as the index has it.
        bytes: u32,
        /// `limits::SAMPLE_BYTES_MAX`.
        limit_bytes: u32,
    },
    /// The samples of one window sum up to more than any real two seconds.
    #[error("the window has {bytes} bytes of media, at most {limit_bytes} are read")]
    WindowTooLarge {
        /// Sum of the samples' lengths.
        bytes: u64,
        /// `WINDOW_BYTES_MAX`.
        limit_bytes: u64,
    },
    /// More samples than any real two seconds have.
    #[error("the window has {count} samples, the limit is {limit}")]
    TooManySamples {
        /// Samples of the window.
        count: u32,
        /// `WINDOW_SAMPLES_MAX`.
        limit: u32,
    },
    /// The file ends before the bytes that the index promised.
    #[error("the file ends at byte {offset}, inside the media")]
    Truncated {
        /// First byte that is missing, from the start of the file.
        offset: u64,
    },
    /// The bytes of a sample are not what its codec promised.
    #[error("sample {sample}: {fault}")]
    Corrupt {
        /// Sample, in the order of `Track::schedule`.
        sample: u32,
        /// What is wrong.
        fault: SampleFault,
    },
}

/// What is wrong with the bytes of one sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SampleFault {
    /// The length in front of a NAL unit leads past the end of the sample.
    #[error("NAL unit at byte {offset} leaves the sample")]
    NaluPastEnd {
        /// Of the length field, from the start of the sample.
        offset: usize,
    },
    /// More units (NAL units, OBUs) than any encoder writes.
    #[error("more than {limit} units in one sample")]
    TooManyUnits {
        /// The limit.
        limit: usize,
    },
    /// An access unit that the payload format's length field cannot express.
    #[error("access unit has {bytes} bytes, its format allows {limit_bytes}")]
    AuTooLarge {
        /// Its length.
        bytes: usize,
        /// What fits the length field.
        limit_bytes: usize,
    },
    /// An OBU header or size that leads past the end of the sample.
    #[error("OBU at byte {offset} is malformed or leaves the sample")]
    ObuMalformed {
        /// Of the OBU, from the start of the sample.
        offset: usize,
    },
    /// An Opus packet that neither fits an RTP packet nor can be taken apart.
    #[error("Opus packet is too long and not made of frames")]
    OpusFrames,
    /// An image that RFC 2435 cannot carry.
    #[error("JPEG image: {0}")]
    Jpeg(JpegFault),
    /// The hint sample does not describe packets.
    #[error("hint track: {0}")]
    Hint(HintError),
}
