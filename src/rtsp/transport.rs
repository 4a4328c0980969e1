//! `Transport` header (RFC 2326 s12.39): what a client offers. `transport_answer` has the other
//! side.
//!
//! Leniency, each for its clients: `unicast` may be missing (client rule C28; the RFC's default,
//! multicast, is never meant), `interleaved` may be missing over TCP (C19, C28: we choose),
//! `mode=receive` is an old `record`, a single port stands for a pair. A specification that we
//! cannot carry stays in the list, marked, so that a later one can still be chosen and the answer
//! is 461, on which players change to TCP (C1).
//! Bound: `OFFERS_MAX` specifications.
#![deny(clippy::indexing_slicing)]

pub use crate::base::carrier::Lower;

/// One transport specification, in the order of the client's preference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportOffer {
    /// Under RTP.
    pub protocol: Lower,
    /// What exactly it is. For `Other` the fields below mean nothing.
    pub profile: Profile,
    /// `mode` is one that we do not know.
    pub mode_unknown: bool,
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
    /// Ports of a multicast group (`port=`), where the client wishes for some.
    pub port: Option<(u16, u16)>,
    /// Time to live for a multicast group.
    pub ttl: Option<u8>,
}

/// Profile of RTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Profile {
    /// RFC 3551.
    Avp,
    /// With feedback, RFC 4585: what `rtspclientsink` publishes by.
    Avpf,
    /// Encrypted, RFC 3711.
    Savp,
    /// Encrypted, with feedback: RFC 5124.
    Savpf,
    /// Not RTP, or over something that we do not know.
    Other,
}

/// Why we cannot carry a specification: for the log and the reason of a 461.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotCarried {
    /// See [`Profile::Savp`].
    #[error("encrypted RTP (SAVP) is not offered")]
    Secure,
    /// See [`Profile::Avpf`].
    #[error("feedback (AVPF) is not offered for this")]
    Feedback,
    /// See [`Profile::Other`].
    #[error("protocol is neither RTP over UDP nor RTP over TCP")]
    Protocol,
    /// Neither PLAY nor RECORD.
    #[error("mode is neither PLAY nor RECORD")]
    Mode,
}

impl TransportOffer {
    /// The same without encryption.
    #[must_use]
    pub fn unprotected(&self) -> Self {
        let profile = match self.profile {
            Profile::Savp => Profile::Avp,
            Profile::Savpf => Profile::Avpf,
            other => other,
        };
        Self { profile, ..self.clone() }
    }

    /// Whether it can be carried in the clear, with `feedback` where AVPF may be.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, feedback: bool) -> Result<(), NotCarried> {
        match self.profile {
            Profile::Savp | Profile::Savpf => Err(NotCarried::Secure),
            Profile::Other => Err(NotCarried::Protocol),
            Profile::Avpf if !feedback => Err(NotCarried::Feedback),
            Profile::Avp | Profile::Avpf if self.mode_unknown => Err(NotCarried::Mode),
            Profile::Avp | Profile::Avpf => Ok(()),
        }
    }
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

impl Profile {
    /// Whether packets are encrypted.
    #[must_use]
    pub fn is_secure(self) -> bool {
        matches!(self, Self::Savp | Self::Savpf)
    }
}

/// The specifications of a `Transport` value whose media does not go beside TLS in the clear, as
/// they were written: interleaved and encrypted ones. `None`: there is none among them that can be
/// read.
#[must_use]
pub fn only_private(text: &str) -> Option<String> {
    let is_private =
        |offer: &TransportOffer| offer.protocol == Lower::Tcp || offer.profile.is_secure();
    let is_kept = |spec: &&str| {
        let offers = parse_transport(spec);
        offers.is_ok_and(|offers| offers.first().is_some_and(is_private))
    };
    let kept: Vec<&str> = split_unquoted(text, ',').filter(is_kept).collect();
    (!kept.is_empty()).then(|| kept.join(","))
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

fn parse_offer(spec: &str, index: usize) -> Result<TransportOffer, TransportError> {
    let mut parts = split_unquoted(spec, ';');
    let (profile, protocol) = parse_protocol(parts.next().unwrap_or_default());
    let mut offer = TransportOffer {
        protocol,
        profile,
        mode_unknown: false,
        multicast: false,
        client_port: None,
        interleaved: None,
        destination: None,
        mode: Mode::Play,
        ssrc: None,
        port: None,
        ttl: None,
    };
    if profile == Profile::Other {
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
                None => offer.mode_unknown = true,
            },
            "port" => offer.port = parse_pair(value, u16::MAX).filter(|(rtp, _)| *rtp > 0),
            "ttl" => offer.ttl = value.parse().ok(),
            "ssrc" => offer.ssrc = parse_ssrc(value),
            // `unicast` is what we assume; append, layers, server_port and source are for the
            // other side; the rest are extensions.
            _ => {}
        }
    }
    Ok(offer)
}

/// `RTP/AVP`, `RTP/AVP/UDP`, `RTP/AVP/TCP`, and the same with AVPF, SAVP and SAVPF.
pub(super) fn parse_protocol(text: &str) -> (Profile, Lower) {
    let text = text.trim().to_ascii_uppercase();
    let mut parts = text.splitn(3, '/');
    let profile = match (parts.next(), parts.next()) {
        (Some("RTP"), Some("AVP")) => Profile::Avp,
        (Some("RTP"), Some("AVPF")) => Profile::Avpf,
        (Some("RTP"), Some("SAVP")) => Profile::Savp,
        (Some("RTP"), Some("SAVPF")) => Profile::Savpf,
        _ => Profile::Other,
    };
    match parts.next() {
        None | Some("UDP") => (profile, Lower::Udp),
        Some("TCP") => (profile, Lower::Tcp),
        Some(_) => (Profile::Other, Lower::Udp),
    }
}

/// `n-m`, or `n` for n and the one behind it.
pub(super) fn parse_pair(text: &str, max: u16) -> Option<(u16, u16)> {
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
pub(super) fn parse_mode(text: &str) -> Option<Mode> {
    let first = text.split(',').next().unwrap_or_default().trim();
    match first.to_ascii_lowercase().as_str() {
        "play" | "" => Some(Mode::Play),
        "record" | "receive" => Some(Mode::Record),
        _ => None,
    }
}

/// Eight hexadecimal digits; fewer, blanks and `0x` are seen too.
pub(super) fn parse_ssrc(text: &str) -> Option<u32> {
    let text = text.trim();
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    let is_hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
    is_hex.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
}

/// Splits where `separator` stands outside quotes, and trims: `mode="PLAY,RECORD"` is one part.
pub(super) fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
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
#[path = "transport_tests.rs"]
mod tests;
