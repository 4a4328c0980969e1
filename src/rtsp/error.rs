//! Why bytes are not an RTSP message (RFC 2326 s6, s7). Offsets count from the first byte of the
//! message, so a capture can be opened at the fault.

use super::response::Status;

/// Why a message is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// What stands where a message should begin is neither a request, a response nor `$`.
    #[error("not RTSP: no request line ending in an RTSP version")]
    NotRtsp,
    /// The line ends in an RTSP version, but method or URI are missing or not text.
    #[error("request line has no method, no URI or bytes that are not text")]
    BadRequestLine,
    /// An answer without a status of three digits.
    #[error("status line has no status")]
    BadStatusLine,
    /// A header line without a colon, without a name, or with control characters.
    #[error("header line at byte {offset} is malformed")]
    BadHeaderLine {
        /// Where the line begins.
        offset: u32,
    },
    /// A line goes on past the limit.
    #[error("line at byte {offset} is longer than {limit_bytes} bytes")]
    LineTooLong {
        /// Where the line begins.
        offset: u32,
        /// `limits::RTSP_LINE_BYTES_MAX`.
        limit_bytes: u32,
    },
    /// More header lines than the limit.
    #[error("more than {limit_count} header lines")]
    TooManyHeaders {
        /// `limits::RTSP_HEADERS_MAX`.
        limit_count: u32,
    },
    /// Request line and headers together go past the limit.
    #[error("request line and headers are longer than {limit_bytes} bytes")]
    HeadTooLong {
        /// The limit.
        limit_bytes: u32,
    },
    /// `Content-Length` is not a number, or is given twice with different values.
    #[error("Content-Length is not one number")]
    BadContentLength,
    /// The announced body is longer than the limit.
    #[error("body is longer than {limit_bytes} bytes")]
    BodyTooLong {
        /// The limit.
        limit_bytes: u32,
    },
    /// RFC 2326 s12.17: every request must have one.
    #[error("no CSeq header")]
    MissingCseq,
    /// `CSeq` is not a number below 2^32.
    #[error("CSeq is not a number")]
    BadCseq,
    /// Where media is expected: neither a frame nor a message begins.
    #[error("no frame and no message within {limit_bytes} bytes")]
    Garbage {
        /// The limit.
        limit_bytes: u32,
    },
    /// Bytes were handed in faster than messages were taken out.
    #[error("more than {limit_bytes} bytes wait to be read")]
    BufferFull {
        /// The limit.
        limit_bytes: u32,
    },
}

impl ParseError {
    /// The status of a refusal: what is too long has statuses of its own (RFC 2326 s11.3.1, RFC
    /// 6585 s5).
    #[must_use]
    pub fn status(self) -> Status {
        match self {
            Self::LineTooLong { offset: 0, .. } => Status::RequestUriTooLarge,
            Self::LineTooLong { .. } | Self::TooManyHeaders { .. } | Self::HeadTooLong { .. } => {
                Status::RequestHeadersTooLarge
            }
            Self::BodyTooLong { .. } => Status::RequestEntityTooLarge,
            Self::NotRtsp
            | Self::BadRequestLine
            | Self::BadStatusLine
            | Self::BadHeaderLine { .. }
            | Self::BadContentLength
            | Self::MissingCseq
            | Self::BadCseq
            | Self::Garbage { .. }
            | Self::BufferFull { .. } => Status::BadRequest,
        }
    }
}
