//! Reads the RTSP header values a player depends on, as leniently as players do.
//!
//! `Transport` (RFC 2326 s12.39), `Session` (s12.37), `RTP-Info` (s12.33), `Public` (s12.28) and
//! the npt form of `a=range` (s3.6). The grammar is read by hand, because the servers in the field
//! bend it: white space or `0x` before an SSRC, quotes, commas inside URLs, one port of a pair.
//! Invariant: nothing here fails; what cannot be read is absent.
//! Bound: at most [`RTP_INFO_ENTRIES_MAX`] entries of an `RTP-Info` are read.

use std::time::Duration;

/// Entries of one `RTP-Info` header that are looked at.
pub const RTP_INFO_ENTRIES_MAX: usize = 32;

/// What the server chose for one stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TransportReply {
    /// `RTP/AVP/TCP`: the stream comes interleaved on the RTSP connection.
    pub is_tcp: bool,
    /// RTP and RTCP port of the server.
    pub server_ports: Option<(u16, u16)>,
    /// RTP and RTCP interleaved channel.
    pub channels: Option<(u8, u8)>,
    /// Announced synchronization source.
    pub ssrc: Option<u32>,
}

/// Reads the first transport of a `Transport` header.
#[must_use]
pub fn transport_from(value: &str) -> TransportReply {
    let first = value.split(',').next().unwrap_or(value);
    let mut reply = TransportReply::default();
    for part in first.split(';') {
        let (name, value) = parameter(part);
        match name.to_ascii_lowercase().as_str() {
            "server_port" => reply.server_ports = pair(value),
            "interleaved" => reply.channels = pair(value),
            "ssrc" => reply.ssrc = ssrc_from(value),
            "rtp/avp/tcp" | "rtp/avpf/tcp" => reply.is_tcp = true,
            _ => {}
        }
    }
    reply
}

/// Session id and announced timeout of a `Session` header.
#[must_use]
pub fn session_from(value: &str) -> (String, Option<Duration>) {
    let mut parts = value.split(';');
    let id = parts.next().unwrap_or_default().trim().to_owned();
    let timeout = parts
        .map(parameter)
        .find(|(name, _)| name.eq_ignore_ascii_case("timeout"))
        .and_then(|(_, value)| value.parse::<u32>().ok())
        .map(|seconds| Duration::from_secs(u64::from(seconds)));
    (id, timeout)
}

/// Where one stream starts after a PLAY.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RtpInfo {
    /// Control URL the entry speaks of.
    pub url: String,
    /// Sequence number of the first packet.
    pub seq: Option<u16>,
    /// RTP timestamp of the start of the range.
    pub rtptime: Option<u32>,
}

/// Reads an `RTP-Info` header.
///
/// Entries begin at `url=`, not at commas: a URL may hold commas and semicolons itself.
#[must_use]
pub fn rtp_info_from(value: &str) -> Vec<RtpInfo> {
    let lower = value.to_ascii_lowercase();
    let starts: Vec<usize> = lower
        .match_indices("url=")
        .map(|(at, _)| at)
        .filter(|&at| lower.get(..at).is_some_and(begins_entry))
        .take(RTP_INFO_ENTRIES_MAX)
        .collect();
    let ends = starts.iter().skip(1).copied().chain([value.len()]);
    starts
        .iter()
        .zip(ends)
        .filter_map(|(&start, end)| Some(entry_from(value.get(start..end)?)))
        .collect()
}

/// True when `Public` lists `method`.
#[must_use]
pub fn public_lists(value: &str, method: &str) -> bool {
    value.split(',').any(|listed| listed.trim().eq_ignore_ascii_case(method))
}

/// Length of an `a=range:npt=A-B`; absent for live, for other clocks and when B is missing.
#[must_use]
pub fn npt_length_from(value: &str) -> Option<Duration> {
    let npt = value.trim().strip_prefix("npt")?.trim_start().strip_prefix('=')?;
    let (start, end) = npt.split_once('-')?;
    let start = npt_seconds(start).unwrap_or(0.0);
    let length = npt_seconds(end)? - start;
    Duration::try_from_secs_f64(length).ok()
}

fn npt_seconds(value: &str) -> Option<f64> {
    value.trim().split(':').try_fold(0.0, |sum, part| Some(sum * 60.0 + part.parse::<f64>().ok()?))
}

fn begins_entry(before: &str) -> bool {
    let before = before.trim_end();
    before.is_empty() || before.ends_with(',')
}

fn entry_from(text: &str) -> RtpInfo {
    let mut info = RtpInfo::default();
    let text = text.trim().trim_end_matches(',');
    let lower = text.to_ascii_lowercase();
    let url_end = [";seq=", ";rtptime=", "; seq=", "; rtptime="]
        .iter()
        .filter_map(|mark| lower.find(mark))
        .min()
        .unwrap_or(text.len());
    let url = text.get("url=".len()..url_end).unwrap_or_default();
    info.url = url.trim().trim_matches('"').to_owned();
    for part in text.get(url_end..).unwrap_or_default().split(';') {
        let (name, value) = parameter(part);
        match name.to_ascii_lowercase().as_str() {
            "seq" => info.seq = value.parse().ok(),
            "rtptime" => info.rtptime = value.parse().ok(),
            _ => {}
        }
    }
    info
}

fn parameter(part: &str) -> (&str, &str) {
    let (name, value) = part.split_once('=').unwrap_or((part, ""));
    (name.trim(), value.trim().trim_matches('"'))
}

/// `a-b`, or `a` alone, which stands for `a` and the next.
fn pair<T: std::str::FromStr + TryFrom<u32> + Into<u32> + Copy>(value: &str) -> Option<(T, T)> {
    match value.split_once('-') {
        Some((first, second)) => Some((first.trim().parse().ok()?, second.trim().parse().ok()?)),
        None => {
            let first: T = value.parse().ok()?;
            let next = T::try_from(first.into().checked_add(1)?).ok()?;
            Some((first, next))
        }
    }
}

/// Cameras put white space or `0x` before the hexadecimal digits.
fn ssrc_from(value: &str) -> Option<u32> {
    let digits = value.trim().trim_start_matches("0x").trim_start_matches("0X");
    u32::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transport_of_udp_reply_gives_ports_and_ssrc() {
        let reply = transport_from(
            "RTP/AVP;unicast;client_port=5000-5001;server_port=8000-8001;ssrc= 0x1A2B3C4D",
        );
        assert_eq!(reply.server_ports, Some((8000, 8001)));
        assert_eq!(reply.ssrc, Some(0x1a2b_3c4d));
        assert!(!reply.is_tcp);
    }

    #[test]
    fn transport_of_tcp_reply_gives_channels() {
        let reply = transport_from("RTP/AVP/TCP;unicast;interleaved=4");
        assert!(reply.is_tcp);
        assert_eq!(reply.channels, Some((4, 5)));
    }

    #[test]
    fn interleaved_channel_without_room_for_its_rtcp_is_absent() {
        assert_eq!(transport_from("RTP/AVP/TCP;interleaved=255").channels, None);
        assert_eq!(transport_from("RTP/AVP/TCP;interleaved=300-301").channels, None);
    }

    #[test]
    fn session_with_timeout_is_split() {
        assert_eq!(
            session_from("12ab;timeout=60"),
            ("12ab".to_owned(), Some(Duration::from_secs(60)))
        );
        assert_eq!(session_from(" 12ab "), ("12ab".to_owned(), None));
    }

    #[test]
    fn rtp_info_with_comma_in_url_keeps_both_entries() {
        let entries = rtp_info_from(
            "url=rtsp://h/a,b;c/trackID=0;seq=17;rtptime=99, URL=\"rtsp://h/t1\"; seq=65535",
        );
        assert_eq!(
            entries,
            [
                RtpInfo {
                    url: "rtsp://h/a,b;c/trackID=0".to_owned(),
                    seq: Some(17),
                    rtptime: Some(99)
                },
                RtpInfo { url: "rtsp://h/t1".to_owned(), seq: Some(65535), rtptime: None },
            ]
        );
    }

    #[test]
    fn range_of_recorded_title_gives_length_and_live_gives_none() {
        assert_eq!(npt_length_from("npt=0-12.5"), Some(Duration::from_millis(12_500)));
        assert_eq!(npt_length_from("npt=0-0:01:02"), Some(Duration::from_secs(62)));
        assert_eq!(npt_length_from("npt=now-"), None);
        assert_eq!(npt_length_from("npt=9-1"), None);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "\\PC{0,200}") {
            let _ = (transport_from(&text), session_from(&text), npt_length_from(&text));
            proptest::prop_assert!(rtp_info_from(&text).len() <= RTP_INFO_ENTRIES_MAX);
        }
    }
}
