//! One RTSP response that somebody sent us (RFC 2326 s7), and what its headers say.
//!
//! Bound: what `RequestReader` lets in.

use super::request::Headers;

/// A whole response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientResponse {
    /// Three digits, whatever they mean.
    pub status: u16,
    /// May be empty.
    pub reason: String,
    /// Number of the request; some cameras leave it out, and then the oldest request is meant.
    pub cseq: Option<u32>,
    /// `Content-Length` bytes.
    pub body: Vec<u8>,
    pub(super) headers: Headers,
}

impl ClientResponse {
    /// Whether the request was done (2xx).
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Value of a header, whatever the case of its name; several are joined by `, `.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.value(name)
    }

    /// Id and timeout of the session; cameras may change the id with any answer.
    #[must_use]
    pub fn session(&self) -> Option<SessionHeader<'_>> {
        parse_session(self.header("Session")?)
    }

    /// Whether the server says that it answers a method (`Public`, or `Allow`).
    #[must_use]
    pub fn is_public(&self, method: &str) -> bool {
        ["Public", "Allow"].iter().filter_map(|name| self.header(name)).any(|list| {
            super::headers::list_tokens(list).any(|known| known.eq_ignore_ascii_case(method))
        })
    }

    /// Whether the body may be a description: some cameras leave `Content-Type` out.
    #[must_use]
    pub fn has_sdp(&self) -> bool {
        let kind = self.header("Content-Type").unwrap_or("application/sdp");
        let kind = kind.split_once(';').map_or(kind, |(kind, _)| kind).trim();
        !self.body.is_empty() && kind.eq_ignore_ascii_case("application/sdp")
    }

    /// Names and values of all headers, for logs.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter()
    }
}

/// `Session: id;timeout=60` (RFC 2326 s12.37).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionHeader<'a> {
    /// To be sent back as it is.
    pub id: &'a str,
    /// Seconds without a request after which the server ends the session; 60 when it does not say.
    pub timeout_s: Option<u32>,
}

/// Reads a `Session` value; `None` without an id. A timeout that is no number is as if absent.
#[must_use]
pub fn parse_session(text: &str) -> Option<SessionHeader<'_>> {
    let mut parts = text.split(';').map(str::trim);
    let id = parts.next().filter(|id| !id.is_empty())?;
    let timeout_s = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        let digits = value.trim().trim_matches('"');
        let digits = digits.split_once('.').map_or(digits, |(whole, _)| whole);
        name.trim().eq_ignore_ascii_case("timeout").then(|| digits.parse().ok()).flatten()
    });
    Some(SessionHeader { id, timeout_s: timeout_s.filter(|timeout_s| *timeout_s > 0) })
}

/// One stream of an `RTP-Info` value (s12.33), as far as it could be read. Cameras send sequence
/// numbers of 0 or 1 that are not those of their packets: to be believed only when they come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RtpInfoEntry<'a> {
    /// Control URL of the stream; some send a part of it only.
    pub url: &'a str,
    /// Of the first packet.
    pub seq: Option<u16>,
    /// At the start of the range.
    pub rtptime: Option<u32>,
}

/// Reads an `RTP-Info` value; URLs may have commas and semicolons in them.
#[must_use]
pub fn parse_rtp_info(text: &str) -> Vec<RtpInfoEntry<'_>> {
    let mut entries = Vec::new();
    let mut rest = text;
    while let Some(at) = find_no_case(rest, "url=").filter(|_| entries.len() < RTP_INFO_MAX) {
        let behind = rest.get(at + "url=".len()..).unwrap_or_default();
        let end = find_next_entry(behind).unwrap_or(behind.len());
        entries.push(parse_rtp_info_entry(behind.get(..end).unwrap_or_default()));
        rest = behind.get(end..).unwrap_or_default();
    }
    entries
}

fn parse_rtp_info_entry(entry: &str) -> RtpInfoEntry<'_> {
    let entry = entry.trim().trim_end_matches(',');
    let start = ["seq=", "rtptime="]
        .iter()
        .filter_map(|name| {
            entry.match_indices(';').map(|(at, _)| at).find(|at| {
                let behind = entry.get(at + 1..).unwrap_or_default().trim_start();
                behind.get(..name.len()).is_some_and(|text| text.eq_ignore_ascii_case(name))
            })
        })
        .min()
        .unwrap_or(entry.len());
    let (url, parameters) = entry.split_at_checked(start).unwrap_or((entry, ""));
    let parameter = |name: &str| {
        let mut parts = parameters.split(';').filter_map(|part| part.split_once('='));
        parts.find(|(known, _)| known.trim().eq_ignore_ascii_case(name)).map(|(_, v)| v.trim())
    };
    RtpInfoEntry {
        url: url.trim().trim_end_matches(';').trim_matches('"'),
        seq: parameter("seq").and_then(|seq| seq.parse().ok()),
        rtptime: parameter("rtptime").and_then(|rtptime| rtptime.parse().ok()),
    }
}

/// Where a comma stands in front of the next `url=`.
fn find_next_entry(text: &str) -> Option<usize> {
    text.match_indices(',').map(|(at, _)| at).find(|at| {
        let behind = text.get(at + 1..).unwrap_or_default().trim_start();
        behind.get(..4).is_some_and(|name| name.eq_ignore_ascii_case("url="))
    })
}

fn find_no_case(text: &str, name: &str) -> Option<usize> {
    // ASCII lower case keeps every byte in its place.
    text.to_ascii_lowercase().find(name)
}

/// Streams of one header at most: as many as a presentation has.
const RTP_INFO_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rtsp::headers::{RtpInfo, write_rtp_info};

    #[test]
    fn session_has_an_id_and_may_have_a_timeout() {
        let read = |text| parse_session(text).map(|s: SessionHeader<'_>| (s.id, s.timeout_s));
        assert_eq!(read("0A1B;timeout=60"), Some(("0A1B", Some(60))));
        assert_eq!(read(" 0A1B ; Timeout = 30.0"), Some(("0A1B", Some(30))));
        assert_eq!(read("0A1B"), Some(("0A1B", None)));
        assert_eq!(read("0A1B;timeout=x;foo"), Some(("0A1B", None)));
        assert_eq!(read("0A1B;timeout=0"), Some(("0A1B", None)));
        assert_eq!(read(";timeout=60"), None);
    }

    #[test]
    fn rtp_info_of_odd_servers_is_read() {
        let info = "url=rtsp://h/a,b;c/trackID=1;seq=17;rtptime=4, URL=trackID=2;rtptime=-1;seq=x";
        let [first, second] = parse_rtp_info(info).try_into().unwrap();
        let expected =
            RtpInfoEntry { url: "rtsp://h/a,b;c/trackID=1", seq: Some(17), rtptime: Some(4) };
        assert_eq!(first, expected);
        assert_eq!(second, RtpInfoEntry { url: "trackID=2", seq: None, rtptime: None });
        assert_eq!(parse_rtp_info("seq=1;rtptime=2"), []);
        assert_eq!(parse_rtp_info(&"url=a,".repeat(100)).len(), RTP_INFO_MAX);
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "(url=|;seq=|;rtptime=|,|\\PC){0,30}") {
            let _ = (parse_session(&text), parse_rtp_info(&text));
        }

        #[test]
        fn what_we_write_is_read_back(
            entries in prop::collection::vec(
                ("[a-z/:;,=]{1,20}[0-9]", any::<u16>(), any::<u32>()), 0..5,
            ),
        ) {
            let clean = entries.iter().all(|(url, _, _)| {
                !["url=", "seq=", "rtptime="].iter().any(|name| url.contains(name))
            });
            prop_assume!(clean);
            let entries: Vec<RtpInfo> = entries
                .into_iter()
                .map(|(url, seq, rtptime)| RtpInfo { url, seq, rtptime })
                .collect();
            let text = write_rtp_info(&entries);
            let read: Vec<_> = parse_rtp_info(&text)
                .into_iter()
                .map(|e| RtpInfo {
                    url: e.url.to_owned(),
                    seq: e.seq.unwrap(),
                    rtptime: e.rtptime.unwrap(),
                })
                .collect();
            prop_assert_eq!(read, entries);
        }
    }
}
