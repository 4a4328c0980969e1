//! Reads a session description from bytes of a stranger.
//!
//! Lenient, each for those who need it: line ends of any kind, blank lines, blanks and NULs at line
//! ends, a byte order mark, several `s=` lines, no `v=` or `o=` (cameras); lines that are no
//! `x=value` are passed over. What decides over memory and sockets is checked: counts and ports.
//! Bounds: [`SDP_BYTES_MAX`], [`LINES_MAX`], `TRACKS_MAX` media, [`MEDIA_LINES_MAX`] lines and
//! [`FORMATS_MAX`] formats each. A format that is named twice is kept once.
#![deny(clippy::indexing_slicing)]

use std::collections::HashSet;

use super::payload_types::PayloadTypes;
use super::session::{Line, MediaSdp, Protocol, SessionSdp};
use crate::base::limits::{RTSP_BODY_BYTES_MAX, TRACKS_MAX};

/// Bytes at most; also what an RTSP body may have.
pub const SDP_BYTES_MAX: usize = RTSP_BODY_BYTES_MAX;

/// Lines at most: a description with 64 media of 30 lines each fits.
pub const LINES_MAX: usize = 2_048;

/// Lines of one media, or of the session, at most: a browser that offers all codecs it has, with
/// feedback and candidates, takes 200.
pub const MEDIA_LINES_MAX: usize = 512;

/// Formats of one media at most: there are 128 payload types.
pub const FORMATS_MAX: usize = 128;

/// Why bytes are not a description that can be used. Line numbers begin with 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SdpError {
    /// More than a description needs.
    #[error("description of {have_bytes} bytes, at most {limit_bytes} are read")]
    TooLong {
        /// What is there.
        have_bytes: usize,
        /// `SDP_BYTES_MAX`.
        limit_bytes: usize,
    },
    /// More lines than a description needs.
    #[error("more than {limit_count} lines")]
    TooManyLines {
        /// `LINES_MAX`.
        limit_count: usize,
    },
    /// More lines than a media needs.
    #[error("line {line}: more than {limit_count} lines of one media")]
    TooManyMediaLines {
        /// Where.
        line: usize,
        /// `MEDIA_LINES_MAX`.
        limit_count: usize,
    },
    /// More media than a presentation has.
    #[error("line {line}: more than {limit_count} media")]
    TooManyMedia {
        /// Where.
        line: usize,
        /// `TRACKS_MAX`.
        limit_count: usize,
    },
    /// More formats than there are payload types.
    #[error("line {line}: more than {limit_count} formats")]
    TooManyFormats {
        /// Where.
        line: usize,
        /// `FORMATS_MAX`.
        limit_count: usize,
    },
    /// `m=` without kind, port, protocol and format.
    #[error("line {line}: m= without kind, port, protocol and format")]
    BadMedia {
        /// Where.
        line: usize,
    },
    /// The first line that is not blank has no `=` behind a letter.
    #[error("line {line}: not a session description")]
    NotSdp {
        /// Where.
        line: usize,
    },
    /// Nothing to send or to receive.
    #[error("no m= line")]
    NoMedia,
}

/// Reads a whole description.
///
/// # Errors
/// See [`SdpError`].
pub fn read_session(bytes: &[u8]) -> Result<SessionSdp, SdpError> {
    if bytes.len() > SDP_BYTES_MAX {
        let (have_bytes, limit_bytes) = (bytes.len(), SDP_BYTES_MAX);
        return Err(SdpError::TooLong { have_bytes, limit_bytes });
    }
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_start_matches('\u{feff}');
    let mut sdp = SessionSdp::default();
    let mut line_count = 0;
    for (place, raw) in text.replace("\r\n", "\n").split(['\n', '\r']).enumerate() {
        let raw = raw.trim_matches(|c: char| c.is_whitespace() || c == '\0');
        if raw.is_empty() {
            continue;
        }
        let line = split_line(raw);
        if line_count == 0 && line.is_none() {
            return Err(SdpError::NotSdp { line: place + 1 });
        }
        line_count += 1;
        if line_count > LINES_MAX {
            return Err(SdpError::TooManyLines { limit_count: LINES_MAX });
        }
        let Some(line) = line else { continue };
        handle_line(&mut sdp, line, place + 1)?;
    }
    for media in &mut sdp.medias {
        media.payload_types = PayloadTypes::of(&media.lines);
    }
    if sdp.medias.is_empty() { Err(SdpError::NoMedia) } else { Ok(sdp) }
}

fn handle_line(sdp: &mut SessionSdp, line: Line, number: usize) -> Result<(), SdpError> {
    if line.key == 'm' {
        if sdp.medias.len() == TRACKS_MAX {
            return Err(SdpError::TooManyMedia { line: number, limit_count: TRACKS_MAX });
        }
        sdp.medias.push(read_media(&line.value, number)?);
        return Ok(());
    }
    if line.key == 'v' && sdp.medias.is_empty() {
        return Ok(());
    }
    let lines = sdp.medias.last_mut().map_or(&mut sdp.lines, |media| &mut media.lines);
    if lines.len() == MEDIA_LINES_MAX {
        let limit_count = MEDIA_LINES_MAX;
        return Err(SdpError::TooManyMediaLines { line: number, limit_count });
    }
    lines.push(line);
    Ok(())
}

/// `x=value`; control characters go, so that no value can end a line when it is written again.
fn split_line(raw: &str) -> Option<Line> {
    let (key, value) = raw.split_once('=')?;
    let mut letters = key.trim().chars();
    let key = letters.next().filter(char::is_ascii_alphabetic)?;
    let is_single = letters.next().is_none();
    let value = value.chars().filter(|c| !c.is_control() || *c == '\t');
    is_single.then(|| Line { key: key.to_ascii_lowercase(), value: value.collect() })
}

/// `video 49170/2 RTP/AVP 96 97`
fn read_media(value: &str, line: usize) -> Result<MediaSdp, SdpError> {
    let mut parts = value.split_whitespace();
    let mut next = || parts.next().ok_or(SdpError::BadMedia { line });
    let (kind, port, protocol) = (next()?, next()?, next()?);
    // The count behind the slash is for layered codings; nobody uses it.
    let port = port.split_once('/').map_or(port, |(port, _)| port);
    let port = port.parse().map_err(|_| SdpError::BadMedia { line })?;
    let mut seen = HashSet::new();
    let formats: Vec<String> = parts
        .filter(|format| seen.insert(format.parse::<u8>().map_err(|_| *format)))
        .take(FORMATS_MAX + 1)
        .map(str::to_owned)
        .collect();
    match formats.len() {
        0 => Err(SdpError::BadMedia { line }),
        1..=FORMATS_MAX => Ok(MediaSdp {
            kind: kind.to_ascii_lowercase(),
            port,
            protocol: read_protocol(protocol),
            formats,
            lines: Vec::new(),
            payload_types: PayloadTypes::default(),
        }),
        _ => Err(SdpError::TooManyFormats { line, limit_count: FORMATS_MAX }),
    }
}

fn read_protocol(text: &str) -> Protocol {
    match text.to_ascii_uppercase().as_str() {
        "RTP/AVP" | "RTP/AVP/UDP" | "RTP/AVP/TCP" | "TCP/RTP/AVP" => {
            Protocol::Rtp { feedback: false }
        }
        "RTP/AVPF" | "RTP/AVPF/UDP" | "RTP/AVPF/TCP" | "TCP/RTP/AVPF" => {
            Protocol::Rtp { feedback: true }
        }
        "RTP/SAVP" | "UDP/TLS/RTP/SAVP" => Protocol::SecureRtp { feedback: false },
        "RTP/SAVPF" | "UDP/TLS/RTP/SAVPF" => Protocol::SecureRtp { feedback: true },
        _ => Protocol::Other(text.to_owned()),
    }
}
