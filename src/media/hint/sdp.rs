//! The payload format that a hint track's SDP text (`udta/hnti/sdp `) announces.

use crate::media::codec::{MediaKind, PayloadFormat};
use crate::media::fmtp::without_empty;

/// Reads `m=`, `a=rtpmap` and `a=fmtp`; `None` when the text does not name a format that can be
/// announced as `kind`.
pub(crate) fn payload_format_of(text: &str, kind: MediaKind) -> Option<PayloadFormat> {
    let lines = || text.lines().map(|line| line.trim().trim_matches('\0'));
    let media = lines().find_map(|line| line.strip_prefix("m="))?;
    let mut words = media.split_ascii_whitespace();
    if words.next()? != kind.as_str() {
        return None;
    }
    let payload_type: u8 = words.nth(2)?.parse().ok().filter(|pt| *pt < 128)?;
    let attribute = |name: &str| {
        lines().filter_map(|line| line.strip_prefix(name)).find_map(|rest| {
            let (pt, value) = rest.trim_start().split_once(' ')?;
            (pt.parse() == Ok(payload_type)).then(|| value.trim())
        })
    };
    let fmtp = attribute("a=fmtp:").filter(|f| f.len() <= FMTP_BYTES_MAX);
    let fmtp = fmtp.map(|f| without_empty(f).into_owned()).filter(|f| !f.is_empty());
    let Some(map) = attribute("a=rtpmap:") else {
        let (_, name, clock_rate_hz, channels) =
            STATIC.iter().find(|(pt, ..)| *pt == payload_type)?;
        return Some(PayloadFormat {
            payload_type,
            encoding_name: (*name).to_owned(),
            clock_rate_hz: *clock_rate_hz,
            channels: *channels,
            fmtp,
        });
    };
    let mut parts = map.split('/');
    let name = parts.next().filter(|n| is_token(n))?;
    let clock_rate_hz = parts.next()?.parse().ok().filter(|rate| *rate > 0)?;
    let channels = parts.next().and_then(|c| c.parse().ok());
    let encoding_name = name.to_owned();
    Some(PayloadFormat { payload_type, encoding_name, clock_rate_hz, channels, fmtp })
}

/// What an encoding name may consist of (RFC 8866 s9, token).
fn is_token(name: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`{|}~".contains(&b);
    !name.is_empty() && name.len() <= 64 && name.bytes().all(legal)
}

/// Static payload types that come without a map (RFC 3551 s6).
const STATIC: [(u8, &str, u32, Option<u16>); 10] = [
    (0, "PCMU", 8_000, Some(1)),
    (3, "GSM", 8_000, Some(1)),
    (8, "PCMA", 8_000, Some(1)),
    (10, "L16", 44_100, Some(2)),
    (11, "L16", 44_100, Some(1)),
    (14, "MPA", 90_000, None),
    (26, "JPEG", 90_000, None),
    (31, "H261", 90_000, None),
    (32, "MPV", 90_000, None),
    (34, "H263", 90_000, None),
];

/// Parameter sets in base64 make the longest texts.
const FMTP_BYTES_MAX: usize = 8 << 10;
