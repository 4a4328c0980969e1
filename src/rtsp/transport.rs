//! `Transport` header (RFC 2326 s12.39): what a client offers, what we answer.
//!
//! Leniency, each for its clients: `unicast` may be missing (client rule C28; the RFC's default,
//! multicast, is never meant), `interleaved` may be missing over TCP (C19, C28: we choose),
//! `mode=receive` is an old `record`, a single port stands for a pair. A specification that we
//! cannot carry stays in the list, marked, so that a later one can still be chosen and the answer
//! is 461, on which players change to TCP (C1).
//! Bound: `OFFERS_MAX` specifications.
#![deny(clippy::indexing_slicing)]

use std::fmt::Write as _;
use std::net::IpAddr;

/// One transport specification, in the order of the client's preference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportOffer {
    /// Under RTP.
    pub protocol: Lower,
    /// The specification is RTP/AVP (not AVPF, SAVP or another protocol) and has no mode that we
    /// do not know. Where it is false the other fields mean nothing.
    pub profile_ok: bool,
    /// `multicast` was asked for.
    pub multicast: bool,
    /// Ports where the client receives RTP and RTCP.
    pub client_port: Option<(u16, u16)>,
    /// Channels for RTP and RTCP that the client proposes.
    pub interleaved: Option<(u8, u8)>,
    /// Where to send, when not to the address that asks.
    pub destination: Option<String>,
    /// What the stream is for.
    pub mode: Mode,
    /// A wish, from the client; unreadable ones are left out.
    pub ssrc: Option<u32>,
}

/// Lower transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lower {
    /// `RTP/AVP` or `RTP/AVP/UDP`.
    Udp,
    /// `RTP/AVP/TCP`: interleaved in the RTSP connection.
    Tcp,
}

/// `mode` parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The client receives.
    Play,
    /// The client sends: `record` or `receive`.
    Record,
}

/// Why a `Transport` header is refused as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// No specification at all.
    #[error("no transport specification")]
    Empty,
    /// More than `limit_count` specifications.
    #[error("more than {limit_count} transport specifications")]
    TooMany {
        /// `OFFERS_MAX`.
        limit_count: usize,
    },
    /// Ports or channels are not numbers in their range.
    #[error("{parameter} of transport specification {index} cannot be read")]
    BadParameter {
        /// 0-based place of the specification.
        index: usize,
        /// Name of the parameter.
        parameter: &'static str,
    },
}

/// Reads a `Transport` value; the order of preference is kept.
///
/// # Errors
/// See [`TransportError`].
pub fn parse_transport(text: &str) -> Result<Vec<TransportOffer>, TransportError> {
    let mut offers = Vec::new();
    for spec in split_unquoted(text, ',') {
        if spec.is_empty() {
            continue;
        }
        if offers.len() == OFFERS_MAX {
            return Err(TransportError::TooMany { limit_count: OFFERS_MAX });
        }
        offers.push(parse_offer(spec, offers.len())?);
    }
    if offers.is_empty() { Err(TransportError::Empty) } else { Ok(offers) }
}

/// The answer for UDP. `source` is where the packets come from, when that is not the address
/// that the client speaks RTSP to.
#[must_use]
pub fn write_udp_transport(
    client: (u16, u16),
    server: (u16, u16),
    ssrc: u32,
    source: Option<IpAddr>,
) -> String {
    let mut text = format!(
        "RTP/AVP;unicast;client_port={}-{};server_port={}-{}",
        client.0, client.1, server.0, server.1
    );
    if let Some(source) = source {
        // Writing to a String cannot fail.
        let _ = write!(text, ";source={source}");
    }
    let _ = write!(text, ";ssrc={ssrc:08X}");
    text
}

/// The answer for TCP.
#[must_use]
pub fn write_tcp_transport(channels: (u8, u8), ssrc: u32) -> String {
    format!("RTP/AVP/TCP;unicast;interleaved={}-{};ssrc={ssrc:08X}", channels.0, channels.1)
}

fn parse_offer(spec: &str, index: usize) -> Result<TransportOffer, TransportError> {
    let mut parts = split_unquoted(spec, ';');
    let lower = parse_protocol(parts.next().unwrap_or_default());
    let mut offer = TransportOffer {
        protocol: lower.unwrap_or(Lower::Udp),
        profile_ok: lower.is_some(),
        multicast: false,
        client_port: None,
        interleaved: None,
        destination: None,
        mode: Mode::Play,
        ssrc: None,
    };
    if lower.is_none() {
        return Ok(offer);
    }
    for part in parts {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let value = value.trim().trim_matches('"');
        let bad = |parameter| TransportError::BadParameter { index, parameter };
        match name.trim().to_ascii_lowercase().as_str() {
            "multicast" => offer.multicast = true,
            "client_port" => {
                let pair = parse_pair(value, u16::MAX).filter(|(rtp, rtcp)| *rtp > 0 && *rtcp > 0);
                offer.client_port = Some(pair.ok_or_else(|| bad("client_port"))?);
            }
            "interleaved" => {
                let pair = parse_pair(value, u16::from(u8::MAX));
                let channels = pair.and_then(|(rtp, rtcp)| {
                    Some((u8::try_from(rtp).ok()?, u8::try_from(rtcp).ok()?))
                });
                offer.interleaved = Some(channels.ok_or_else(|| bad("interleaved"))?);
            }
            "destination" => {
                offer.destination = Some(value.to_owned()).filter(|host| !host.is_empty());
            }
            "mode" => match parse_mode(value) {
                Some(mode) => offer.mode = mode,
                None => offer.profile_ok = false,
            },
            "ssrc" => offer.ssrc = parse_ssrc(value),
            // `unicast` is what we assume; append, ttl, layers, port, server_port and source are
            // for the other side of the answer or for multicast; the rest are extensions.
            _ => {}
        }
    }
    Ok(offer)
}

/// `RTP/AVP`, `RTP/AVP/UDP`, `RTP/AVP/TCP`. AVPF is left out: nothing answers its feedback.
fn parse_protocol(text: &str) -> Option<Lower> {
    match text.trim().to_ascii_uppercase().as_str() {
        "RTP/AVP" | "RTP/AVP/UDP" => Some(Lower::Udp),
        "RTP/AVP/TCP" => Some(Lower::Tcp),
        _ => None,
    }
}

/// `n-m`, or `n` for n and the one behind it.
fn parse_pair(text: &str, max: u16) -> Option<(u16, u16)> {
    let number = |text: &str| {
        let text = text.trim();
        let is_digits = text.bytes().all(|b| b.is_ascii_digit());
        is_digits.then(|| text.parse().ok()).flatten().filter(|n: &u16| *n <= max)
    };
    match text.split_once('-') {
        Some((first, second)) => Some((number(first)?, number(second)?)),
        None => {
            let first = number(text)?;
            (first < max).then_some((first, first.saturating_add(1)))
        }
    }
}

/// The first of a list counts: we carry one direction at a time.
fn parse_mode(text: &str) -> Option<Mode> {
    let first = text.split(',').next().unwrap_or_default().trim();
    match first.to_ascii_lowercase().as_str() {
        "play" | "" => Some(Mode::Play),
        "record" | "receive" => Some(Mode::Record),
        _ => None,
    }
}

/// Eight hexadecimal digits; fewer, blanks and `0x` are seen too.
fn parse_ssrc(text: &str) -> Option<u32> {
    let text = text.trim();
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    let is_hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
    is_hex.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
}

/// Splits where `separator` stands outside quotes, and trims: `mode="PLAY,RECORD"` is one part.
fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    text.split(move |c| {
        is_quoted ^= c == '"';
        c == separator && !is_quoted
    })
    .map(str::trim)
}

/// Real clients offer at most three.
const OFFERS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(text: &str) -> TransportOffer {
        let offers = parse_transport(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let [offer] = offers.as_slice() else { panic!("{offers:?}") };
        offer.clone()
    }

    #[test]
    fn offers_of_known_players_are_read() {
        // FFmpeg, VLC, GStreamer, in this order.
        let udp = one("RTP/AVP/UDP;unicast;client_port=5000-5001");
        assert_eq!((udp.protocol, udp.client_port), (Lower::Udp, Some((5_000, 5_001))));
        assert!(udp.profile_ok && !udp.multicast);
        let tcp = one("RTP/AVP/TCP;unicast;interleaved=2-3");
        assert_eq!((tcp.protocol, tcp.interleaved), (Lower::Tcp, Some((2, 3))));
        let offers = parse_transport(
            "RTP/AVP;unicast;client_port=4588-4589;mode=\"PLAY\", RTP/AVP/TCP;interleaved=0-1",
        )
        .unwrap();
        let protocols: Vec<Lower> = offers.iter().map(|offer| offer.protocol).collect();
        assert_eq!(protocols, [Lower::Udp, Lower::Tcp]);
    }

    #[test]
    fn missing_unicast_and_missing_channels_are_tolerated() {
        assert!(!one("RTP/AVP;client_port=5000-5001").multicast);
        let tcp = one("rtp/avp/tcp");
        assert_eq!((tcp.protocol, tcp.profile_ok, tcp.interleaved), (Lower::Tcp, true, None));
    }

    #[test]
    fn single_port_or_channel_stands_for_a_pair() {
        assert_eq!(one("RTP/AVP;client_port=5000").client_port, Some((5_000, 5_001)));
        assert_eq!(one("RTP/AVP/TCP;interleaved=4").interleaved, Some((4, 5)));
    }

    #[test]
    fn unsupported_specifications_stay_in_their_place() {
        let text = "RAW/RAW/UDP;client_port=x,RTP/AVPF;unicast,RTP/SAVP, ,RTP/AVP;mode=fly,RTP/AVP";
        let marks: Vec<bool> =
            parse_transport(text).unwrap().iter().map(|offer| offer.profile_ok).collect();
        assert_eq!(marks, [false, false, false, false, true]);
    }

    #[test]
    fn mode_is_read_quoted_or_not_and_receive_is_record() {
        for (text, mode) in [
            ("mode=PLAY", Mode::Play),
            ("mode=\"play\"", Mode::Play),
            ("mode=record", Mode::Record),
            ("mode=\"receive\"", Mode::Record),
            ("mode=\"PLAY,RECORD\"", Mode::Play),
            ("append", Mode::Play),
        ] {
            assert_eq!(one(&format!("RTP/AVP;unicast;{text}")).mode, mode, "{text}");
        }
    }

    #[test]
    fn multicast_destination_and_ssrc_are_read() {
        let offer = one("RTP/AVP;multicast;destination=239.0.0.1;ttl=16;ssrc= 0xDEADBEEF");
        assert!(offer.multicast);
        assert_eq!(offer.destination.as_deref(), Some("239.0.0.1"));
        assert_eq!(offer.ssrc, Some(0xdead_beef));
        assert_eq!(one("RTP/AVP;ssrc=123456789").ssrc, None);
        assert_eq!(one("RTP/AVP;destination").destination, None);
    }

    #[test]
    fn unreadable_ports_and_channels_are_an_error() {
        for (text, parameter) in [
            ("RTP/AVP;client_port=x", "client_port"),
            ("RTP/AVP;client_port=", "client_port"),
            ("RTP/AVP;client_port=65535", "client_port"),
            ("RTP/AVP;client_port=65536-65537", "client_port"),
            ("RTP/AVP;client_port=0-1", "client_port"),
            ("RTP/AVP;client_port=+5-6", "client_port"),
            ("RTP/AVP/TCP;interleaved=255", "interleaved"),
            ("RTP/AVP/TCP;interleaved=255-256", "interleaved"),
        ] {
            let error = TransportError::BadParameter { index: 0, parameter };
            assert_eq!(parse_transport(text), Err(error), "{text}");
        }
        assert_eq!(parse_transport(" , "), Err(TransportError::Empty));
        let many = "RTP/AVP,".repeat(17);
        assert_eq!(parse_transport(&many), Err(TransportError::TooMany { limit_count: 16 }));
    }

    #[test]
    fn answers_name_ports_channels_and_eight_digits_of_ssrc() {
        let source = Some("2001:db8::1".parse().unwrap());
        assert_eq!(
            write_udp_transport((5_000, 5_001), (8_000, 8_001), 0xbeef, None),
            "RTP/AVP;unicast;client_port=5000-5001;server_port=8000-8001;ssrc=0000BEEF"
        );
        assert_eq!(
            write_udp_transport((5_000, 5_001), (8_000, 8_001), 1, source),
            "RTP/AVP;unicast;client_port=5000-5001;server_port=8000-8001;source=2001:db8::1;\
             ssrc=00000001"
        );
        assert_eq!(
            write_tcp_transport((0, 1), u32::MAX),
            "RTP/AVP/TCP;unicast;interleaved=0-1;ssrc=FFFFFFFF"
        );
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,80}") {
            let _ = parse_transport(&text);
        }

        #[test]
        fn near_misses_never_panic(
            text in "(RTP/AVP(/TCP|/UDP)?\
                (;(client_port|interleaved|ssrc|mode)=[0-9a-f\"x-]{0,7}){0,3},?){0,4}",
        ) {
            let _ = parse_transport(&text);
        }

        #[test]
        fn answers_read_back_as_offers(client: (u16, u16), channels: (u8, u8), ssrc: u32) {
            prop_assume!(client.0 > 0 && client.1 > 0);
            let udp = one(&write_udp_transport(client, (8_000, 8_001), ssrc, None));
            prop_assert_eq!((udp.client_port, udp.ssrc), (Some(client), Some(ssrc)));
            let tcp = one(&write_tcp_transport(channels, ssrc));
            prop_assert_eq!((tcp.interleaved, tcp.ssrc), (Some(channels), Some(ssrc)));
        }
    }
}
