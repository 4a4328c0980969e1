//! MPEG-TS in RTP (RFC 2250 s2; ISO 13818-1 s2.4): packets of 188 bytes.
//!
//! ```text
//! PAT (PID 0) -> PID of the PMT -> PID of the picture -> its random_access_indicator
//! ```
//! Audio sets that indicator in each of its packets, so the stream with the picture must be known;
//! a programme without one may be entered anywhere.
//! Bound: three numbers; tables of which the first packet does not hold enough are not used.
#![deny(clippy::indexing_slicing)]

use super::PayloadContent;

/// Key frame detector of MPEG-TS.
#[derive(Debug, Default)]
pub(super) struct TsDetector {
    pmt_pid: Option<u16>,
    picture: Picture,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Picture {
    /// No PMT yet.
    #[default]
    Unknown,
    /// A PMT without a picture.
    None,
    Pid(u16),
}

impl TsDetector {
    pub(super) fn detect(&mut self, payload: &[u8]) -> PayloadContent {
        let mut content = PayloadContent::default();
        for packet in payload.as_chunks::<TS_BYTES>().0 {
            let Some(packet) = TsPacket::parse(packet) else { continue };
            self.handle_tables(&packet);
            let is_picture = match self.picture {
                Picture::Pid(pid) => packet.pid == pid,
                Picture::None => packet.pid != 0,
                Picture::Unknown => false,
            };
            // Tables behind the picture are no help to who begins with it.
            content.tables |= packet.pid == 0 && !content.sync;
            content.picture |= is_picture;
            content.sync |= match self.picture {
                Picture::Pid(_) => is_picture && packet.is_random_access,
                Picture::None => is_picture,
                Picture::Unknown => false,
            };
        }
        content
    }

    fn handle_tables(&mut self, packet: &TsPacket<'_>) {
        if packet.pid == 0 {
            if let Some(pid) = packet.section().and_then(first_programme) {
                self.pmt_pid = Some(pid);
            }
        } else if Some(packet.pid) == self.pmt_pid
            && let Some(picture) = packet.section().and_then(picture_of)
        {
            self.picture = picture;
        }
    }
}

/// One packet.
struct TsPacket<'a> {
    pid: u16,
    is_start: bool,
    is_random_access: bool,
    payload: &'a [u8],
}

impl<'a> TsPacket<'a> {
    fn parse(packet: &'a [u8; TS_BYTES]) -> Option<Self> {
        let [0x47, high, low, control, rest @ ..] = packet else { return None };
        let pid = u16::from_be_bytes([high & 0x1f, *low]);
        let mut payload = rest.as_slice();
        let mut is_random_access = false;
        if control & 0x20 != 0 {
            let (length, behind) = payload.split_first()?;
            let (adaptation, behind) = behind.split_at_checked(usize::from(*length))?;
            is_random_access = adaptation.first().is_some_and(|flags| flags & 0x40 != 0);
            payload = behind;
        }
        let has_payload = control & 0x10 != 0;
        let payload = if has_payload { payload } else { &[] };
        Some(Self { pid, is_start: high & 0x40 != 0, is_random_access, payload })
    }

    /// A table's bytes behind its length, as far as they are in this packet.
    fn section(&self) -> Option<&'a [u8]> {
        let (pointer, behind) = self.payload.split_first()?;
        let section = behind.get(usize::from(*pointer)..)?;
        let (&[_, high, low], body) = section.split_first_chunk::<3>()?;
        let length = usize::from(u16::from_be_bytes([high & 0x0f, low]));
        // The last four bytes are a checksum.
        let body = body.get(..length.saturating_sub(4).min(body.len()))?;
        self.is_start.then_some(body)
    }
}

/// PID of the PMT of the first programme (s2.4.4.3); number 0 is the network.
fn first_programme(section: &[u8]) -> Option<u16> {
    let programmes = section.get(5..)?.as_chunks::<4>().0;
    let [_, _, high, low] = programmes.iter().find(|[a, b, ..]| (*a, *b) != (0, 0))?;
    Some(u16::from_be_bytes([high & 0x1f, *low]))
}

/// The first stream of a PMT (s2.4.4.8) that is a picture.
fn picture_of(section: &[u8]) -> Option<Picture> {
    let (&[.., high, low], rest) = section.split_first_chunk::<9>()?;
    let info_bytes = usize::from(u16::from_be_bytes([high & 0x0f, low]));
    let mut rest = rest.get(info_bytes..)?;
    while let Some((&[kind, pid_high, pid_low, high, low], behind)) = rest.split_first_chunk::<5>()
    {
        if VIDEO_TYPES.contains(&kind) {
            return Some(Picture::Pid(u16::from_be_bytes([pid_high & 0x1f, pid_low])));
        }
        let info_bytes = usize::from(u16::from_be_bytes([high & 0x0f, low]));
        rest = behind.get(info_bytes..).unwrap_or_default();
    }
    Some(Picture::None)
}

const TS_BYTES: usize = 188;

/// `stream_type` (s2.4.4.9): MPEG-1, MPEG-2, MPEG-4 part 2, H.264 (and its extensions), JPEG 2000,
/// H.265, H.266, AVS.
const VIDEO_TYPES: &[u8] =
    &[0x01, 0x02, 0x10, 0x1b, 0x1e, 0x1f, 0x20, 0x21, 0x24, 0x25, 0x33, 0x42];
