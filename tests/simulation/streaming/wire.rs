//! What a connection carries to a client: answers and interleaved frames.

use std::net::SocketAddr;

/// A whole part of what a server sends.
#[derive(Debug)]
pub(crate) enum Part {
    Answer(Answer),
    Frame(u8, Vec<u8>),
}

/// An answer to a request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) cseq: Option<u32>,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The session's id without its parameters.
    pub(crate) fn session(&self) -> Option<&str> {
        self.header("Session").and_then(|value| value.split(';').next())
    }

    /// A parameter of the Transport header.
    pub(crate) fn transport(&self, name: &str) -> Option<&str> {
        parameter(self.header("Transport")?, name)
    }

    /// For each URL of RTP-Info, in order: the URL, the first number, the time of the start.
    pub(crate) fn rtp_info(&self) -> Vec<(String, Option<u16>, Option<u32>)> {
        let info = self.header("RTP-Info").unwrap_or_default();
        let parts = info.split(',').filter(|part| part.contains("url="));
        let read = |part: &str| {
            let part = part.trim();
            let number = |name| parameter(part, name);
            (
                number("url").unwrap_or_default().to_owned(),
                number("seq").and_then(|text| text.parse().ok()),
                number("rtptime").and_then(|text| text.parse().ok()),
            )
        };
        parts.map(read).collect()
    }
}

fn parameter<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.split(';').find_map(|part| {
        let (key, value) = part.trim().split_once('=')?;
        key.eq_ignore_ascii_case(name).then_some(value)
    })
}

/// Reads parts out of bytes as they come.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    bytes: Vec<u8>,
}

impl Parts {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// # Panics
    /// When the bytes are neither an answer nor a frame: then a send was cut.
    pub(crate) fn next(&mut self) -> Option<Part> {
        let first = *self.bytes.first()?;
        if first == b'$' {
            let head = self.bytes.get(..4)?;
            let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
            let channel = head[1];
            let payload = self.bytes.get(4..4 + len)?.to_vec();
            self.bytes.drain(..4 + len);
            return Some(Part::Frame(channel, payload));
        }
        let end = self.bytes.windows(4).position(|at| at == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&self.bytes[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("RTSP/1.0 "));
        let status = status.and_then(|rest| rest.get(..3)?.parse().ok());
        let Some(status) = status else { panic!("neither an answer nor a frame: {head:?}") };
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_owned(), value.trim().to_owned()))
        };
        let headers: Vec<_> = lines.filter_map(header).collect();
        let mut answer = Answer { status, cseq: None, headers, body: String::new() };
        answer.cseq = answer.header("CSeq").and_then(|text| text.parse().ok());
        let len: usize =
            answer.header("Content-Length").and_then(|text| text.parse().ok()).unwrap_or(0);
        let body = self.bytes.get(end + 4..end + 4 + len)?;
        answer.body = String::from_utf8_lossy(body).into_owned();
        self.bytes.drain(..end + 4 + len);
        Some(Part::Answer(answer))
    }
}

/// The header of an RTP packet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rtp {
    pub(crate) seq: u16,
    pub(crate) ts: u32,
    pub(crate) ssrc: u32,
}

impl Rtp {
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < 12 || bytes[0] >> 6 != 2 {
            return None;
        }
        let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four"));
        Some(Self { seq: u16::from_be_bytes([bytes[2], bytes[3]]), ts: word(4), ssrc: word(8) })
    }
}

/// A packet that a publisher makes: of which run of it, and which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Made {
    pub(crate) run: u32,
    pub(crate) number: u32,
}

impl Made {
    /// 20 ms of sound.
    pub(crate) fn sound(self, ssrc: u32) -> Vec<u8> {
        let mut bytes = self.header(0, self.number.wrapping_mul(160), ssrc);
        bytes.extend(self.mark());
        bytes.resize(12 + 160, 0xd5);
        bytes
    }

    /// A picture in one packet; every 25th can be started with.
    pub(crate) fn picture(self, ssrc: u32) -> Vec<u8> {
        let mut bytes = self.header(96 | 0x80, self.number.wrapping_mul(3_600), ssrc);
        let is_key = self.number.is_multiple_of(25);
        bytes.push(if is_key { 0x65 } else { 0x41 });
        bytes.extend(self.mark());
        bytes.resize(if is_key { 900 } else { 200 }, 0x11);
        bytes
    }

    fn header(self, kind: u8, ts: u32, ssrc: u32) -> Vec<u8> {
        let mut bytes = vec![0x80, kind];
        bytes.extend(self.number.to_be_bytes()[2..].iter());
        bytes.extend(ts.to_be_bytes());
        bytes.extend(ssrc.to_be_bytes());
        bytes
    }

    fn mark(self) -> Vec<u8> {
        [self.run.to_be_bytes(), self.number.to_be_bytes()].concat()
    }

    /// Reads what `sound` or `picture` wrote.
    pub(crate) fn read(packet: &[u8]) -> Option<Self> {
        let at = if packet.get(1)? & 0x7f == 0 { 12 } else { 13 };
        let word = |at: usize| Some(u32::from_be_bytes(packet.get(at..at + 4)?.try_into().ok()?));
        Some(Self { run: word(at)?, number: word(at + 4)? })
    }
}

/// A receiver report with one block.
pub(crate) fn receiver_report(ours: u32, about: u32, fraction: u8, highest: u16) -> Vec<u8> {
    let mut bytes = vec![0x81, 201, 0, 7];
    bytes.extend(ours.to_be_bytes());
    bytes.extend(about.to_be_bytes());
    bytes.extend([fraction, 0, 0, 1]);
    bytes.extend(u32::from(highest).to_be_bytes());
    bytes.extend([0; 12]);
    bytes
}

/// A request for a packet that was lost (RFC 4585 s6.2.1).
pub(crate) fn nack(ours: u32, about: u32, seq: u16) -> Vec<u8> {
    let mut bytes = vec![0x81, 205, 0, 3];
    bytes.extend(ours.to_be_bytes());
    bytes.extend(about.to_be_bytes());
    bytes.extend(seq.to_be_bytes());
    bytes.extend([0, 3]);
    bytes
}

/// Whether a compound RTCP packet has a BYE.
pub(crate) fn has_bye(bytes: &[u8]) -> bool {
    let mut at = 0;
    while let Some(head) = bytes.get(at..at + 4) {
        if head[1] == 203 {
            return true;
        }
        at += 4 * (usize::from(u16::from_be_bytes([head[2], head[3]])) + 1);
    }
    false
}

/// The interleaved form of a packet.
pub(crate) fn framed(channel: u8, bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).expect("a packet").to_be_bytes();
    [&[b'$', channel, len[0], len[1]], bytes].concat()
}

/// The address with another port.
pub(crate) fn at_port(address: SocketAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address.ip(), port)
}
