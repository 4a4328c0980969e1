//! Where reading goes on when bytes of nobody stand between interleaved frames (RFC 2326 s10.12).
//!
//! ```text
//!  in step      '$', channel in use, RTP or RTCP ----> a frame
//!               another '$' frame, a start behind it-> a frame (a channel that was not set up)
//!               method or "RTSP/" -------------------> a message
//!               all else ----------------------------> out of step
//!  out of step  '$', channel in use, RTP or RTCP, and a start behind it, or a message --> in step
//! ```
//! Cameras are known that send the tail of some earlier packet between two frames. What tells a
//! frame from such bytes: its channel, RTP version 2 or an RTCP type, and what follows it.
//!
//! Invariant: a verdict depends on the bytes alone, not on how many of them are here: `More` until
//! those that decide are. Bound: `RESYNC_BYTES_MAX` bytes are passed over.
#![deny(clippy::indexing_slicing)]

/// The interleaved channels that a connection uses; empty: it carries no media.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Channels([u64; 4]);

impl Channels {
    /// Adds a channel.
    pub fn insert(&mut self, channel: u8) {
        if let Some(word) = self.0.get_mut(usize::from(channel >> 6)) {
            *word |= 1 << (channel & 63);
        }
    }

    /// Whether a channel is in use.
    #[must_use]
    pub fn contains(&self, channel: u8) -> bool {
        self.0.get(usize::from(channel >> 6)).is_some_and(|word| word >> (channel & 63) & 1 == 1)
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }
}

/// What begins with the first of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// An interleaved frame.
    Frame,
    /// A request or a response.
    Message,
    /// Neither.
    Nothing,
    /// More bytes have to come before that is known.
    More,
}

/// Where reading goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seek {
    /// Behind that many bytes.
    Found(usize),
    /// Not within that many bytes.
    More(usize),
    /// Nowhere within the bound.
    Lost,
}

/// Whether the bytes begin with a frame of a channel in use that holds RTP or RTCP.
pub(super) fn is_media_frame(bytes: &[u8], channels: &Channels) -> bool {
    frame_start(bytes, channels) == Start::Frame
}

/// What begins here, at a place where something should.
pub(super) fn start_in_step(bytes: &[u8], channels: &Channels) -> Start {
    let [b'$', rest @ ..] = bytes else { return message_start(bytes) };
    match frame_start(bytes, channels) {
        Start::Nothing => {}
        sure => return sure,
    }
    let [_channel, high, low, packet @ ..] = rest else { return Start::More };
    let len = usize::from(u16::from_be_bytes([*high, *low]));
    if len > DOUBTFUL_BYTES_MAX {
        return Start::Nothing;
    }
    match follows(packet, len, channels) {
        Some(true) => Start::Frame,
        Some(false) => Start::Nothing,
        None => Start::More,
    }
}

/// Looks for a place to go on at, at most `bytes_max` bytes away.
pub(super) fn seek(bytes: &[u8], channels: &Channels, bytes_max: usize) -> Seek {
    for at in 0..bytes.len() {
        if at > bytes_max {
            return Seek::Lost;
        }
        match start_out_of_step(bytes.get(at..).unwrap_or_default(), channels) {
            Start::Frame | Start::Message => return Seek::Found(at),
            Start::More => return Seek::More(at),
            Start::Nothing => {}
        }
    }
    if bytes.len() > bytes_max { Seek::Lost } else { Seek::More(bytes.len()) }
}

fn start_out_of_step(bytes: &[u8], channels: &Channels) -> Start {
    let [b'$', rest @ ..] = bytes else { return message_start(bytes) };
    match (frame_start(bytes, channels), rest) {
        (Start::Frame, [_channel, high, low, packet @ ..]) => {
            match follows(packet, usize::from(u16::from_be_bytes([*high, *low])), channels) {
                Some(true) => Start::Frame,
                Some(false) => Start::Nothing,
                None => Start::More,
            }
        }
        (start, _) => start,
    }
}

/// Whether something begins behind `len` bytes; `None` until it is here.
fn follows(bytes: &[u8], len: usize, channels: &Channels) -> Option<bool> {
    let behind = bytes.get(len..)?;
    let blank = behind.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let behind = behind.get(blank..)?;
    let start = match behind {
        [] | [b'$'] => Start::More,
        [b'$', channel, ..] if channels.contains(*channel) => Start::Frame,
        [b'$', _, high, low, first, second, ..] => {
            let len = usize::from(u16::from_be_bytes([*high, *low]));
            if is_packet(len, *first, *second) { Start::Frame } else { Start::Nothing }
        }
        [b'$', ..] => Start::More,
        _ => message_start(behind),
    };
    match start {
        Start::Frame | Start::Message => Some(true),
        Start::Nothing => Some(false),
        Start::More => None,
    }
}

/// `$`, a channel in use, and the first bytes of a packet that is as long as it has to be.
fn frame_start(bytes: &[u8], channels: &Channels) -> Start {
    match bytes {
        [b'$', channel, ..] if !channels.contains(*channel) => Start::Nothing,
        [b'$', _, high, low, first, second, ..] => {
            let len = usize::from(u16::from_be_bytes([*high, *low]));
            if is_packet(len, *first, *second) { Start::Frame } else { Start::Nothing }
        }
        [b'$', _, 0, 0 | 1, ..] => Start::Nothing,
        [b'$', ..] => Start::More,
        _ => Start::Nothing,
    }
}

/// Version 2, and no shorter than RTP or, by its type (RFC 5761 s4), RTCP can be.
fn is_packet(len: usize, first: u8, second: u8) -> bool {
    let bytes_min = if (192..=223).contains(&second) { 4 } else { 12 };
    first >> 6 == 2 && len >= bytes_min
}

/// A method that is known and a blank, any method and an RTSP URL, or the version of a response.
fn message_start(bytes: &[u8]) -> Start {
    let letters = bytes.iter().take_while(|byte| matches!(byte, b'A'..=b'Z' | b'_')).count();
    let behind = bytes.get(letters..).unwrap_or_default();
    if (3..=METHOD_BYTES_MAX).contains(&letters) && behind.starts_with(URL_BEHIND_METHOD) {
        return Start::Message;
    }
    let mut may_be =
        (1..=METHOD_BYTES_MAX).contains(&letters) && URL_BEHIND_METHOD.starts_with(behind);
    for token in TOKENS {
        if bytes.starts_with(token) {
            return Start::Message;
        }
        may_be |= token.starts_with(bytes);
    }
    if may_be { Start::More } else { Start::Nothing }
}

const TOKENS: [&[u8]; 12] = [
    b"RTSP/",
    b"OPTIONS ",
    b"DESCRIBE ",
    b"ANNOUNCE ",
    b"SETUP ",
    b"PLAY ",
    b"PAUSE ",
    b"RECORD ",
    b"TEARDOWN ",
    b"GET_PARAMETER ",
    b"SET_PARAMETER ",
    b"REDIRECT ",
];

const URL_BEHIND_METHOD: &[u8] = b" rtsp:";
const METHOD_BYTES_MAX: usize = 24;

/// Bytes that are passed over at most: the longest frame four times over. A connection with more
/// garbage in a row is no use.
pub(super) const RESYNC_BYTES_MAX: usize = 256 << 10;
/// A frame of another channel, or without RTP and RTCP, is believed up to this length: while what
/// follows it is waited for, nothing else is read.
const DOUBTFUL_BYTES_MAX: usize = 2 << 10;
