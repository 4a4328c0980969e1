//! Why a file is not opened. A single bad track is no such reason: it goes to `Asset::left_out`.

use std::fmt;

/// A file that cannot be served. Names offsets, so that the file can be looked into there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No `moov` box: not a movie, or a recording that was never finished.
    #[error("no movie header: not an MP4 or QuickTime file, or its recording was never finished")]
    NoMovie,
    /// A box whose length is shorter than its own header.
    #[error("box {kind} at byte {offset} claims to be {bytes} bytes long")]
    BoxSize {
        /// Where the box starts.
        offset: u64,
        /// Its type.
        kind: FourCc,
        /// Its length, header included.
        bytes: u64,
    },
    /// A box goes on behind the end of the file: the file was cut.
    #[error("file is cut: box {kind} at byte {offset} ends at {end}, the file at {file_bytes}")]
    BoxOutside {
        /// Where the box starts.
        offset: u64,
        /// Its type.
        kind: FourCc,
        /// Where it would end.
        end: u64,
        /// Length of the file.
        file_bytes: u64,
    },
    /// A `moov` or `moof` that no real recording has.
    #[error("box {kind} at byte {offset} has {bytes} bytes, over the limit of {limit_bytes}")]
    BoxTooLarge {
        /// Where the box starts.
        offset: u64,
        /// Its type.
        kind: FourCc,
        /// Its length without header.
        bytes: u64,
        /// `limits::MOOV_BYTES_MAX`.
        limit_bytes: u64,
    },
    /// More boxes at the top level than any recording has.
    #[error("more than {limit} boxes at the top level")]
    TooManyBoxes {
        /// The limit.
        limit: u32,
    },
    /// `moov` lacks a box without which nothing can be played.
    #[error("movie header has no usable {kind} box")]
    MissingBox {
        /// Which.
        kind: FourCc,
    },
    /// QuickTime's zlib-compressed movie header.
    #[error("movie header is compressed (cmov)")]
    CompressedMovie,
    /// More tracks than `limits::TRACKS_MAX`.
    #[error("more than {limit} tracks")]
    TooManyTracks {
        /// The limit.
        limit: usize,
    },
    /// A sample lies outside the file: the file was cut, or its tables are wrong.
    #[error("sample {sample} of track {track} ends at byte {end}, the file at {file_bytes}")]
    SampleOutside {
        /// `track_ID`.
        track: u32,
        /// Sample number, 0-based in the order of the file.
        sample: u32,
        /// Where it would end.
        end: u64,
        /// Length of the file.
        file_bytes: u64,
    },
    /// The file gave fewer bytes than its length promised.
    #[error("file gave {have_bytes} of {want_bytes} bytes at {offset}: it is being changed")]
    FileEndedEarly {
        /// Where was read.
        offset: u64,
        /// How much was asked for.
        want_bytes: usize,
        /// How much came.
        have_bytes: usize,
    },
    /// The caller broke the order of calls: bytes that nobody asked for, or a step after `Done`.
    #[error("opener was driven out of order")]
    OutOfOrder,
}

/// Four characters that name a box, printed so that a terminal survives them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FourCc(pub [u8; 4]);

impl fmt::Display for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.escape_ascii().fmt(f)
    }
}

impl fmt::Debug for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{self}'")
    }
}
