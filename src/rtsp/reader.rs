//! Cuts one TCP connection's bytes into requests, responses and interleaved frames.
//!
//! ```text
//! Between --letter--> Head --blank line--> Body --all of it--> Between
//!    | '$': a whole frame (RFC 2326 s10.12)   | a fault that hides the next message
//!    +--> Between                             +--> Lost: nothing more is read
//!                                             `--> Seeking: with media, the next start (`resync`)
//! ```
//! Tolerated (client rule C31): LF alone ends a line, blank lines between messages, folded header
//! lines, raw spaces in the URI. A request that is wrong but ends where we know is reported with
//! its framing kept.
//! Invariant: the inputs that come out depend on the bytes alone, not on how they were cut.
//! Bound: unread bytes, see `buffer_bytes_max`; the caller polls until `None` before it reads more.
#![deny(clippy::indexing_slicing)]

use std::mem;

pub use super::client_response::ClientResponse;
pub use super::error::ParseError;
pub use super::head::MessageLimits;
use super::head::{Head, LineStep, limit};
pub use super::request::{Method, Request};
pub use super::resync::Channels;
use super::resync::{RESYNC_BYTES_MAX, Seek, Start, is_media_frame, seek, start_in_step};
use crate::base::limits::RTSP_LINE_BYTES_MAX;

/// Reads RTSP messages of both directions from the bytes of one connection.
#[derive(Debug)]
pub struct RequestReader {
    buf: Vec<u8>,
    /// Bytes of `buf` that are done with.
    start: usize,
    /// Bytes behind `start` that are known to hold no line feed: a head that arrives byte by
    /// byte is still looked at once.
    scanned: usize,
    state: State,
    /// Channels of media that is expected.
    channels: Channels,
    /// Memory that an empty buffer keeps.
    kept_bytes_max: usize,
    limits: MessageLimits,
    /// The longest head and the longest body of a request so far.
    longest: (usize, usize),
}

impl Default for RequestReader {
    fn default() -> Self {
        Self {
            buf: Vec::new(),
            start: 0,
            scanned: 0,
            state: State::Between,
            channels: Channels::default(),
            kept_bytes_max: KEPT_BYTES_MAX,
            limits: MessageLimits::default(),
            longest: (0, 0),
        }
    }
}

/// One message of the peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A whole request.
    Request(Request),
    /// RFC 2326 s10.12: a binary packet, RTCP as a rule.
    Interleaved {
        /// Channel of the stream.
        channel: u8,
        /// The packet.
        payload: Vec<u8>,
    },
    /// An answer to a request of ours: of a client, or of a server that we pull from.
    Response(ClientResponse),
    /// Bytes that belong to no frame and no message were passed over.
    Garbage {
        /// How many.
        bytes: usize,
    },
    /// Answered with 400; when the framing is lost the connection closes behind the answer.
    Malformed {
        /// What is wrong.
        error: ParseError,
        /// Number to echo, when it could be read.
        cseq: Option<u32>,
        /// Nothing more can be read from this connection.
        framing_lost: bool,
    },
}

impl RequestReader {
    /// For a new connection.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// For a new connection of a stranger, whose messages may have so many bytes.
    #[must_use]
    pub fn with_limits(limits: MessageLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Bytes of the longest head, and of the longest body, of a message so far.
    #[must_use]
    pub fn longest(&self) -> (usize, usize) {
        self.longest
    }

    /// From now on media comes over this connection: the buffer is kept between reads.
    pub fn expect_media(&mut self) {
        self.kept_bytes_max = MEDIA_KEPT_BYTES_MAX;
    }

    /// Media comes on these channels: bytes between frames that are none are passed over. Without
    /// any, they end the connection.
    pub fn set_channels(&mut self, channels: Channels) {
        self.channels = channels;
    }

    /// The next message, when it is an interleaved frame that is there whole: its channel and
    /// packet, without a copy. `skip_frame` takes it away; other messages come from `poll`.
    #[must_use]
    pub fn frame(&self) -> Option<(u8, &[u8])> {
        match self.state {
            State::Between => {
                let rest = self.rest();
                let is_sure = self.channels.is_empty() || is_media_frame(rest, &self.channels);
                split_frame(rest).filter(|_| is_sure)
            }
            State::Head(_)
            | State::Body { .. }
            | State::Seeking { .. }
            | State::Overrun
            | State::Lost => None,
        }
    }

    /// Takes away what `frame` gave.
    pub fn skip_frame(&mut self) {
        if let Some((_, packet)) = self.frame() {
            self.consume(FRAME_HEADER_BYTES + packet.len());
        }
    }

    /// Takes what the socket gave.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        match self.state {
            State::Lost | State::Overrun => return,
            State::Between | State::Head(_) | State::Body { .. } | State::Seeking { .. } => {}
        }
        self.buf.drain(..self.start);
        self.start = 0;
        if self.buf.len().saturating_add(bytes.len()) > buffer_bytes_max(&self.limits) {
            self.drop_buffer();
            self.state = State::Overrun;
            return;
        }
        self.buf.extend_from_slice(bytes);
    }

    /// The next message, `None` until more bytes come (or for ever, once the framing is lost).
    pub fn poll(&mut self) -> Option<Input> {
        loop {
            let step = match mem::replace(&mut self.state, State::Lost) {
                State::Lost => Step::Wait,
                State::Overrun => {
                    let limit_bytes = limit(buffer_bytes_max(&self.limits));
                    Step::Done(self.lose(ParseError::BufferFull { limit_bytes }, None))
                }
                State::Between => self.step_between(),
                State::Head(head) => self.step_head(head),
                State::Body { head, body_bytes } => self.step_body(head, body_bytes),
                State::Seeking { passed } => self.step_seeking(passed),
            };
            match step {
                Step::Again => {}
                Step::Wait => return None,
                Step::Done(input) => return Some(input),
            }
        }
    }

    /// Lets go of what it holds, and takes nothing more: no message comes any more.
    pub fn stop(&mut self) {
        self.drop_buffer();
        self.state = State::Lost;
    }

    /// Memory that the peer has made us hold: bytes not yet turned into a message.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        let head_bytes = match &self.state {
            State::Head(head) | State::Body { head, .. } => head.bytes(),
            State::Between | State::Seeking { .. } | State::Overrun | State::Lost => 0,
        };
        self.rest().len() + head_bytes
    }

    /// Bytes that another reader would have to be given to go on from here: what is read of a head
    /// that is not whole is written again. `None`: nothing more is read.
    #[must_use]
    pub fn unread(&self) -> Option<Vec<u8>> {
        let mut bytes = match &self.state {
            State::Between | State::Seeking { .. } => Vec::new(),
            State::Head(head) => head.text().into_bytes(),
            State::Body { head, .. } => (head.text() + "\r\n").into_bytes(),
            State::Overrun | State::Lost => return None,
        };
        bytes.extend_from_slice(self.rest());
        Some(bytes)
    }

    fn step_between(&mut self) -> Step {
        let blank = self.rest().iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
        self.consume(blank);
        if !self.channels.is_empty() && !self.rest().is_empty() {
            return self.step_media();
        }
        match self.rest().first() {
            Some(b'$') => self.step_interleaved(),
            Some(letter) if letter.is_ascii_alphabetic() => {
                self.state = State::Head(Box::default());
                Step::Again
            }
            Some(_) => Step::Done(self.lose(ParseError::NotRtsp, None)),
            None => {
                self.state = State::Between;
                Step::Wait
            }
        }
    }

    fn step_interleaved(&mut self) -> Step {
        self.state = State::Between;
        let Some((channel, payload)) = split_frame(self.rest()) else { return Step::Wait };
        let frame_bytes = FRAME_HEADER_BYTES + payload.len();
        let input = Input::Interleaved { channel, payload: payload.to_vec() };
        self.consume(frame_bytes);
        Step::Done(input)
    }

    /// As `step_between`, where media is expected.
    fn step_media(&mut self) -> Step {
        match start_in_step(self.rest(), &self.channels) {
            Start::Frame => self.step_interleaved(),
            Start::Message => {
                self.state = State::Head(Box::default());
                Step::Again
            }
            Start::Nothing => {
                self.state = State::Seeking { passed: 0 };
                Step::Again
            }
            Start::More => {
                self.state = State::Between;
                Step::Wait
            }
        }
    }

    fn step_seeking(&mut self, passed: usize) -> Step {
        let bytes_max = RESYNC_BYTES_MAX.saturating_sub(passed);
        match seek(self.rest(), &self.channels, bytes_max) {
            Seek::Found(bytes) => {
                self.consume(bytes);
                self.state = State::Between;
                Step::Done(Input::Garbage { bytes: passed + bytes })
            }
            Seek::More(bytes) => {
                self.consume(bytes);
                self.state = State::Seeking { passed: passed + bytes };
                Step::Wait
            }
            Seek::Lost => {
                let limit_bytes = limit(RESYNC_BYTES_MAX);
                Step::Done(self.lose(ParseError::Garbage { limit_bytes }, None))
            }
        }
    }

    /// A message ends where nobody knows. Where media is expected, reading goes on behind the first
    /// byte of the line that is wrong; `taken_bytes` is what the lines before it have.
    fn give_up_message(&mut self, head: &Head, taken_bytes: usize, error: ParseError) -> Step {
        let cseq = head.cseq();
        if self.channels.is_empty() {
            return Step::Done(self.lose(error, cseq));
        }
        self.consume(1);
        self.state = State::Seeking { passed: taken_bytes + 1 };
        match cseq {
            Some(_) => Step::Done(Input::Malformed { error, cseq, framing_lost: false }),
            None => Step::Again,
        }
    }

    fn step_head(&mut self, mut head: Box<Head>) -> Step {
        let rest = self.rest();
        if self.scanned == 0 && rest.first() == Some(&b'$') && !self.channels.is_empty() {
            // No header begins so: the message was cut off.
            match start_in_step(rest, &self.channels) {
                Start::Frame => {
                    self.state = State::Between;
                    return Step::Done(Input::Garbage { bytes: head.bytes() });
                }
                Start::More => {
                    self.state = State::Head(head);
                    return Step::Wait;
                }
                Start::Message | Start::Nothing => {}
            }
        }
        let taken_bytes = head.bytes();
        let new = rest.get(self.scanned..).unwrap_or_default();
        let Some(at) = new.iter().position(|b| *b == b'\n') else {
            // One byte more than the limit may still be the CR of a line that is just in it.
            if rest.len() > RTSP_LINE_BYTES_MAX + 1 {
                return self.give_up_message(&head, taken_bytes, line_too_long(&head));
            }
            self.scanned = rest.len();
            self.state = State::Head(head);
            return Step::Wait;
        };
        let line_bytes = self.scanned + at + 1;
        let line = rest.get(..line_bytes - 1).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > RTSP_LINE_BYTES_MAX {
            return self.give_up_message(&head, taken_bytes, line_too_long(&head));
        }
        match head.handle_line(line, line_bytes, &self.limits) {
            Ok(LineStep::More) => self.state = State::Head(head),
            Ok(LineStep::End { body_bytes }) => self.state = State::Body { head, body_bytes },
            Err(error) => return self.give_up_message(&head, taken_bytes, error),
        }
        self.consume(line_bytes);
        Step::Again
    }

    fn step_body(&mut self, head: Box<Head>, body_bytes: usize) -> Step {
        let Some(body) = self.rest().get(..body_bytes) else {
            self.state = State::Body { head, body_bytes };
            return Step::Wait;
        };
        let body = body.to_vec();
        let (head_max, body_max) = self.longest;
        self.longest = (head_max.max(head.bytes()), body_max.max(body_bytes));
        let input = head.finish(body);
        self.consume(body_bytes);
        self.state = State::Between;
        Step::Done(input)
    }

    fn rest(&self) -> &[u8] {
        self.buf.get(self.start..).unwrap_or_default()
    }

    fn consume(&mut self, bytes: usize) {
        self.start = (self.start + bytes).min(self.buf.len());
        self.scanned = 0;
        // An idle connection holds no buffer: ten thousand of them wait most of the time.
        if self.start == self.buf.len() {
            self.drop_buffer();
        }
    }

    fn lose(&mut self, error: ParseError, cseq: Option<u32>) -> Input {
        self.drop_buffer();
        self.state = State::Lost;
        Input::Malformed { error, cseq, framing_lost: true }
    }

    fn drop_buffer(&mut self) {
        self.start = 0;
        self.scanned = 0;
        if self.buf.capacity() > self.kept_bytes_max {
            self.buf = Vec::new();
        }
        self.buf.clear();
    }
}

#[derive(Debug)]
enum State {
    Between,
    Head(Box<Head>),
    Body {
        head: Box<Head>,
        body_bytes: usize,
    },
    /// Out of step: so many bytes were passed over.
    Seeking {
        passed: usize,
    },
    /// The caller did not keep its side of the bound; reported once, then `Lost`.
    Overrun,
    Lost,
}

enum Step {
    Again,
    Wait,
    Done(Input),
}

/// `$`, channel, length, packet (RFC 2326 s10.12).
fn split_frame(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let [b'$', channel, high, low, behind @ ..] = bytes else { return None };
    let packet = behind.get(..usize::from(u16::from_be_bytes([*high, *low])))?;
    Some((*channel, packet))
}

fn line_too_long(head: &Head) -> ParseError {
    ParseError::LineTooLong { offset: limit(head.bytes()), limit_bytes: limit(RTSP_LINE_BYTES_MAX) }
}

/// `$`, channel, two bytes of length.
const FRAME_HEADER_BYTES: usize = 4;

/// Unread bytes at most: the largest message twice over, so a caller that reads up to 64 KiB at
/// a time and polls in between never meets it.
fn buffer_bytes_max(limits: &MessageLimits) -> usize {
    2 * (limits.head_bytes + limits.body_bytes + (64 << 10))
}

/// What a connection with media keeps: a read of 64 KiB and a cut frame of the same length.
const MEDIA_KEPT_BYTES_MAX: usize = 256 << 10;

/// An empty buffer keeps at most this much memory: receiver reports fit, a large SETUP burst
/// gives its memory back.
const KEPT_BYTES_MAX: usize = 2 << 10;

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test may fail where it is wrong")]
#[path = "resync_tests.rs"]
mod resync_tests;
