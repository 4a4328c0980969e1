//! Start line and headers of one message, line by line (RFC 2326 s6, s12; RFC 2068 s4).
//!
//! Two kinds of fault: those that lose the framing (where does the next message begin?) are
//! errors here and end the connection; the others are remembered until the body has been taken,
//! so that the client gets its 400 and may go on. An answer with damaged headers is still an
//! answer: cameras send such, and there is nobody to send a 400 to.
//! Bound: `RTSP_HEADERS_MAX` lines; bytes as [`MessageLimits`] says.
#![deny(clippy::indexing_slicing)]

use super::client_response::ClientResponse;
use super::error::ParseError;
use super::reader::Input;
use super::request::{Headers, Method, Request};
use super::uri::without_userinfo;
use crate::base::limits::{RTSP_BODY_BYTES_MAX, RTSP_HEAD_BYTES_MAX, RTSP_HEADERS_MAX};

/// Bytes that one message may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageLimits {
    /// Start line and headers together.
    pub head_bytes: usize,
    /// The body.
    pub body_bytes: usize,
}

impl Default for MessageLimits {
    fn default() -> Self {
        Self { head_bytes: RTSP_HEAD_BYTES_MAX, body_bytes: RTSP_BODY_BYTES_MAX }
    }
}

/// A message whose headers are being read.
#[derive(Debug, Default)]
pub(super) struct Head {
    start: Option<StartLine>,
    headers: Headers,
    header_lines: usize,
    bytes: usize,
    fault: Option<ParseError>,
}

/// What a line meant to the framing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LineStep {
    /// Another line follows.
    More,
    /// The headers are complete; that many bytes of body follow.
    End { body_bytes: usize },
}

#[derive(Debug)]
enum StartLine {
    Request {
        method: Method,
        uri: String,
        version: (u8, u8),
    },
    Response {
        status: u16,
        reason: String,
    },
    /// Certainly a request, but not one to answer with anything but 400.
    Faulty,
}

impl Head {
    /// Bytes of the lines taken so far.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The number to echo, as far as it is known.
    pub(super) fn cseq(&self) -> Option<u32> {
        // Given twice, the first one counts.
        let first = self.headers.value("CSeq")?.split(',').next()?;
        parse_digits(first.trim())
    }

    /// Takes one line without its terminator; `line_bytes` counts the terminator too.
    /// An error means that the framing is lost.
    pub(super) fn handle_line(
        &mut self,
        line: &[u8],
        line_bytes: usize,
        limits: &MessageLimits,
    ) -> Result<LineStep, ParseError> {
        let offset = u32::try_from(self.bytes).unwrap_or(u32::MAX);
        self.bytes = self.bytes.saturating_add(line_bytes);
        if self.bytes > limits.head_bytes {
            return Err(ParseError::HeadTooLong { limit_bytes: limit(limits.head_bytes) });
        }
        if self.start.is_none() {
            self.start = Some(parse_start_line(line)?);
            return Ok(LineStep::More);
        }
        if line.is_empty() {
            return self.body_bytes(limits).map(|body_bytes| LineStep::End { body_bytes });
        }
        if self.header_lines == RTSP_HEADERS_MAX {
            return Err(ParseError::TooManyHeaders { limit_count: limit(RTSP_HEADERS_MAX) });
        }
        self.header_lines += 1;
        if !self.handle_header_line(line) {
            self.fault.get_or_insert(ParseError::BadHeaderLine { offset });
        }
        Ok(LineStep::More)
    }

    /// The lines taken so far, as they could have come: what was wrong with them is so again.
    pub(super) fn text(&self) -> String {
        let start = match &self.start {
            Some(StartLine::Request { method, uri, version: (major, minor) }) => {
                format!("{method} {uri} RTSP/{major}.{minor}\r\n")
            }
            Some(StartLine::Response { status, reason }) => {
                format!("RTSP/1.0 {status} {reason}\r\n")
            }
            Some(StartLine::Faulty) => "? RTSP/1.0\r\n".to_owned(),
            None => String::new(),
        };
        let fields = self.headers.iter();
        let fields = fields.map(|(name, value)| format!("{name}: {value}\r\n"));
        let fault = self.fault.map(|_| ":\r\n".to_owned());
        std::iter::once(start).chain(fields).chain(fault).collect()
    }

    /// The message, now that its body is there.
    pub(super) fn finish(self, body: Vec<u8>) -> Input {
        let cseq = self.cseq();
        let has_cseq = self.headers.value("CSeq").is_some();
        match (self.start, self.fault) {
            (Some(StartLine::Response { status, reason }), _) => Input::Response(ClientResponse {
                status,
                reason,
                cseq,
                headers: self.headers,
                body,
            }),
            (Some(StartLine::Request { method, uri, version }), None) if cseq.is_some() => {
                Input::Request(Request { method, uri, version, cseq, body, headers: self.headers })
            }
            (Some(StartLine::Request { .. }), None) => {
                let error = if has_cseq { ParseError::BadCseq } else { ParseError::MissingCseq };
                Input::Malformed { error, cseq, framing_lost: false }
            }
            (Some(StartLine::Faulty) | None, None) => {
                let error = ParseError::BadRequestLine;
                Input::Malformed { error, cseq, framing_lost: false }
            }
            (_, Some(error)) => Input::Malformed { error, cseq, framing_lost: false },
        }
    }

    fn handle_header_line(&mut self, line: &[u8]) -> bool {
        let is_control = |b: &u8| b.is_ascii_control() && *b != b'\t';
        if line.iter().any(is_control) {
            return false;
        }
        // Old players write their user agent in the code page of their country.
        let text = String::from_utf8_lossy(line);
        if text.starts_with([' ', '\t']) {
            return self.headers.continue_last(text.trim());
        }
        let Some((name, value)) = text.split_once(':') else { return false };
        let name = name.trim_end();
        if name.is_empty() || !name.bytes().all(is_token_byte) {
            return false;
        }
        self.headers.push(name, value.trim());
        true
    }

    fn body_bytes(&self, limits: &MessageLimits) -> Result<usize, ParseError> {
        let Some(value) = self.headers.value("Content-Length") else { return Ok(0) };
        let mut same: Option<u32> = None;
        for part in value.split(',') {
            let bytes = parse_digits(part.trim()).ok_or(ParseError::BadContentLength)?;
            if same.is_some_and(|earlier| earlier != bytes) {
                return Err(ParseError::BadContentLength);
            }
            same = Some(bytes);
        }
        let bytes = same.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0);
        if bytes > limits.body_bytes {
            return Err(ParseError::BodyTooLong { limit_bytes: limit(limits.body_bytes) });
        }
        Ok(bytes)
    }
}

/// Method before the first blank, version behind the last one; between them the URI, which some
/// clients send with raw spaces in it.
fn parse_start_line(line: &[u8]) -> Result<StartLine, ParseError> {
    let text = String::from_utf8_lossy(line);
    if line.starts_with(b"RTSP/") {
        return parse_status_line(&text);
    }
    let text = text.trim_end();
    let (front, version) = text.rsplit_once([' ', '\t']).ok_or(ParseError::NotRtsp)?;
    let version = parse_version(version).ok_or(ParseError::NotRtsp)?;
    let Some((method, uri)) = front.split_once([' ', '\t']) else { return Ok(StartLine::Faulty) };
    let uri = uri.trim();
    let is_text = std::str::from_utf8(line).is_ok() && !uri.chars().any(char::is_control);
    if uri.is_empty() || !is_text || !method.bytes().all(is_token_byte) {
        return Ok(StartLine::Faulty);
    }
    let method = Method::from_token(method);
    Ok(StartLine::Request { method, uri: without_userinfo(uri), version })
}

/// `RTSP/1.0 200 OK`; some cameras leave the reason out.
fn parse_status_line(text: &str) -> Result<StartLine, ParseError> {
    let (_, behind) = text.split_once([' ', '\t']).ok_or(ParseError::BadStatusLine)?;
    let behind = behind.trim();
    let (code, reason) = behind.split_once([' ', '\t']).unwrap_or((behind, ""));
    let status = parse_digits(code).and_then(|code| u16::try_from(code).ok());
    let status = status.filter(|status| (100..1_000).contains(status));
    let status = status.ok_or(ParseError::BadStatusLine)?;
    Ok(StartLine::Response { status, reason: reason.trim().to_owned() })
}

/// `RTSP/1.0` as (1, 0); numbers past 255 count as 255, all are answered with 505.
fn parse_version(token: &str) -> Option<(u8, u8)> {
    let (protocol, numbers) = token.split_once('/')?;
    let (major, minor) = numbers.split_once('.')?;
    let number = |digits| Some(u8::try_from(parse_digits(digits)?).unwrap_or(u8::MAX));
    protocol.eq_ignore_ascii_case("RTSP").then_some((number(major)?, number(minor)?))
}

/// Decimal digits only: `str::parse` alone would let a sign pass.
fn parse_digits(text: &str) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// RFC 2068 s2.2 `token`.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Limits are small; the error types carry them in 32 bits.
pub(super) fn limit(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
