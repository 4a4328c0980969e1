//! A session description of somebody else, as its lines: publishers' ANNOUNCE, cameras' DESCRIBE
//! and `.sdp` files (RFC 8866).
//!
//! ```text
//! v= o= s= ...       session lines        lines are kept as they came, in order,
//! m=video 0 RTP/AVP 96                    so that what readers get stays faithful;
//!   a=rtpmap:96 ...  lines of this media  meaning is read from them when it is asked for
//! m=audio ...
//! ```
//! Meaning of single attributes comes from the `sdp-types` crate where it has the attribute; its
//! reader of whole descriptions refuses what cameras send (several `s=` lines, odd `o=` and `t=`)
//! and forgets lines that it does not know.
//! What is asked of each payload type again and again, `payload_types` has found in one pass: a
//! description costs as much as it is long. Bounds: those of `read`. A wrong attribute is as if it
//! were absent.
#![deny(clippy::indexing_slicing)]

use std::net::IpAddr;

use sdp_types::{
    AddrType, Connection, GroupSemantics, NetType, SourceFilter, SourceFilterAddress,
    SourceFilterMode, SsrcGroup,
};

use super::payload_types::PayloadTypes;

/// A session description of another party.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionSdp {
    pub(super) lines: Vec<Line>,
    pub(super) medias: Vec<MediaSdp>,
}

/// One line without its end, `v=` and `m=` apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What stands in front of `=`.
    pub key: char,
    /// What stands behind it.
    pub value: String,
}

/// One `m=` line and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaSdp {
    /// `video`, `audio`, `application` as a rule.
    pub kind: String,
    /// Zero where RTSP settles it.
    pub port: u16,
    /// What carries it.
    pub protocol: Protocol,
    /// Behind the protocol: payload types, for RTP.
    pub formats: Vec<String>,
    pub(super) lines: Vec<Line>,
    /// What the lines say of payload types.
    pub(super) payload_types: PayloadTypes,
}

/// The protocol of an `m=` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Protocol {
    /// RTP without encryption.
    Rtp {
        /// With feedback (RFC 4585): AVPF.
        feedback: bool,
    },
    /// RTP with encryption (RFC 3711): SAVP and SAVPF.
    SecureRtp {
        /// SAVPF.
        feedback: bool,
    },
    /// MPEG-TS in UDP without RTP, and anything else.
    Other(String),
}

/// What a payload type means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoding {
    /// As in `a=rtpmap`, or of RFC 3551's table.
    pub name: String,
    /// RTP clock.
    pub clock_rate_hz: u32,
    /// Channels, where they are given.
    pub channels: Option<u16>,
}

/// Where media is sent to (`c=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Destination {
    /// Group or host.
    pub ip: IpAddr,
    /// Time to live of an IPv4 group.
    pub ttl: Option<u8>,
}

impl SessionSdp {
    /// The description as text, from which `read_session` makes the same one.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::from("v=0\r\n");
        let mut add = |key: char, value: &str| {
            text.push(key);
            text.push('=');
            text.push_str(value);
            text.push_str("\r\n");
        };
        self.lines.iter().for_each(|line| add(line.key, &line.value));
        for media in &self.medias {
            let MediaSdp { kind, port, protocol, formats, .. } = media;
            let protocol = match protocol {
                Protocol::Rtp { feedback: false } => "RTP/AVP",
                Protocol::Rtp { feedback: true } => "RTP/AVPF",
                Protocol::SecureRtp { feedback: false } => "RTP/SAVP",
                Protocol::SecureRtp { feedback: true } => "RTP/SAVPF",
                Protocol::Other(other) => other,
            };
            add('m', &format!("{kind} {port} {protocol} {}", formats.join(" ")));
            media.lines.iter().for_each(|line| add(line.key, &line.value));
        }
        text
    }

    /// Each `m=` with its lines.
    #[must_use]
    pub fn medias(&self) -> &[MediaSdp] {
        &self.medias
    }

    /// Leaves out medias that are not to be had, and those beyond `count_max`.
    pub fn keep_medias(&mut self, count_max: usize, is_kept: impl Fn(&MediaSdp) -> bool) {
        self.medias.retain(is_kept);
        self.medias.truncate(count_max);
    }

    /// The first value of a session attribute; empty for a flag.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        attributes(&self.lines, name).next()
    }

    /// The first `s=` that says something.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        let names = self.lines.iter().filter(|line| line.key == 's').map(|line| line.value.trim());
        let mut named = names.filter(|name| !name.is_empty() && *name != "-");
        named.next()
    }

    /// URL of the presentation (RFC 2326 C.1.1): absolute, relative or `*`.
    #[must_use]
    pub fn control(&self) -> Option<&str> {
        self.attribute("control").filter(|control| !control.is_empty())
    }

    /// Where a media is sent to: its own `c=` or that of the session.
    #[must_use]
    pub fn destination(&self, media: &MediaSdp) -> Option<Destination> {
        destination(&media.lines).or_else(|| destination(&self.lines))
    }

    /// From whom packets of a media are accepted (RFC 4570), when the description says so: for
    /// source-specific multicast. Filters of the media override those of the session.
    #[must_use]
    pub fn sources(&self, media: &MediaSdp) -> Vec<IpAddr> {
        let own = sources(&media.lines);
        if own.is_empty() { sources(&self.lines) } else { own }
    }

    /// What a media, or else the session, is said to take at most (`b=AS:`).
    #[must_use]
    pub fn bandwidth_kbit(&self, media: &MediaSdp) -> Option<u32> {
        bandwidth_kbit(&media.lines).or_else(|| bandwidth_kbit(&self.lines))
    }
}

impl MediaSdp {
    /// The first value of an attribute; empty for a flag.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        attributes(&self.lines, name).next()
    }

    /// All values of an attribute.
    pub fn attributes<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        attributes(&self.lines, name)
    }

    /// URL for SETUP (RFC 2326 C.1.1): absolute, relative or `*`.
    #[must_use]
    pub fn control(&self) -> Option<&str> {
        self.attribute("control").filter(|control| !control.is_empty())
    }

    /// Payload types in the order of preference; those that are none are left out.
    pub fn payload_types(&self) -> impl Iterator<Item = u8> {
        self.formats.iter().filter_map(|format| format.parse().ok()).filter(|number| *number < 128)
    }

    /// What a payload type means: by `a=rtpmap`, or RFC 3551.
    #[must_use]
    pub fn encoding(&self, payload_type: u8) -> Option<Encoding> {
        self.payload_types.encoding(payload_type).cloned().or_else(|| static_encoding(payload_type))
    }

    /// Parameters of a payload type: the text behind `a=fmtp:96`.
    #[must_use]
    pub fn fmtp(&self, payload_type: u8) -> Option<&str> {
        let line = self.lines.get(self.payload_types.fmtp_line(payload_type)?)?;
        let (_, value) = line.value.split_once(':')?;
        fmtp_of(value).map(|(_, text)| text)
    }

    /// One parameter of [`MediaSdp::fmtp`]; names are compared without case.
    #[must_use]
    pub fn fmtp_parameter(&self, payload_type: u8, name: &str) -> Option<&str> {
        self.fmtp(payload_type)?.split(';').find_map(|parameter| {
            let (known, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            known.trim().eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// The payload type that repeats lost packets of `payload_type` (RFC 4588 s8.6).
    #[must_use]
    pub fn rtx_of(&self, payload_type: u8) -> Option<u8> {
        self.payload_types().find(|rtx| {
            let apt = self.fmtp_parameter(*rtx, "apt").and_then(|apt| apt.parse().ok());
            apt == Some(payload_type) && self.is_rtx(*rtx)
        })
    }

    /// Whether a payload type is a retransmission of another.
    #[must_use]
    pub fn is_rtx(&self, payload_type: u8) -> bool {
        let encoding = self.payload_types.encoding(payload_type);
        encoding.is_some_and(|encoding| encoding.name.eq_ignore_ascii_case("rtx"))
    }

    /// Whether the sender takes such feedback (RFC 4585 s4.2): `nack`, `nack pli`, `ccm fir`.
    #[must_use]
    pub fn has_feedback(&self, payload_type: u8, feedback: &str) -> bool {
        attributes(&self.lines, "rtcp-fb").any(|value| {
            let value = squeezed(value);
            let (number, text) = value.split_once(' ').unwrap_or((&value, ""));
            let is_for_type = number == "*" || number.parse() == Ok(payload_type);
            is_for_type && text.eq_ignore_ascii_case(feedback)
        })
    }

    /// SSRC of the stream and of its retransmissions (`a=ssrc-group:FID`, RFC 5576 s4.2).
    pub fn fid_groups(&self) -> impl Iterator<Item = (u32, u32)> {
        attributes(&self.lines, "ssrc-group").filter_map(|value| {
            let group: SsrcGroup = squeezed(value).parse().ok()?;
            match (group.semantics, group.ssrc_ids.as_slice()) {
                (GroupSemantics::FID, [stream, rtx]) => Some((*stream, *rtx)),
                _ => None,
            }
        })
    }
}

/// Values of an attribute; names are compared without case, as cameras write `a=Control`.
pub(super) fn attributes<'a>(lines: &'a [Line], name: &str) -> impl Iterator<Item = &'a str> {
    lines.iter().inspect(|_| look()).filter(|line| line.key == 'a').filter_map(move |line| {
        let (known, value) = line.value.split_once(':').unwrap_or((&line.value, ""));
        known.trim().eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

/// Payload type and parameters of an `a=fmtp`.
pub(super) fn fmtp_of(value: &str) -> Option<(u8, &str)> {
    let value = value.trim();
    let (number, text) = value.split_once([' ', '\t']).unwrap_or((value, ""));
    Some((number.parse().ok()?, text.trim()))
}

#[cfg(test)]
thread_local! {
    /// Lines that were looked at: what the work for a description is counted in.
    pub(crate) static LINES_LOOKED_AT: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

pub(super) fn look() {
    #[cfg(test)]
    LINES_LOOKED_AT.with(|count| count.set(count.get() + 1));
}

fn destination(lines: &[Line]) -> Option<Destination> {
    lines.iter().filter(|line| line.key == 'c').find_map(|line| {
        let mut parts = line.value.split_whitespace();
        let (_, kind, address) = (parts.next()?, parts.next()?, parts.next()?);
        let kind = match kind.to_ascii_uppercase().as_str() {
            "IP4" => AddrType::Ip4,
            "IP6" => AddrType::Ip6,
            _ => return None,
        };
        let address = Connection::new(NetType::In, kind, address).try_address().ok()?;
        Some(Destination { ip: address.ip, ttl: address.ttl })
    })
}

fn sources(lines: &[Line]) -> Vec<IpAddr> {
    let filters = attributes(lines, "source-filter").filter_map(|value| value.parse().ok());
    let filters = filters.filter(|filter: &SourceFilter| filter.mode == SourceFilterMode::Incl);
    let all = filters.flat_map(|filter| filter.sources).filter_map(|source| match source {
        SourceFilterAddress::IpAddr(ip) => Some(ip),
        // A name would have to be asked for in the DNS; nobody sends one.
        SourceFilterAddress::FQDN(_) => None,
    });
    all.take(SOURCES_MAX).collect()
}

fn bandwidth_kbit(lines: &[Line]) -> Option<u32> {
    lines.iter().filter(|line| line.key == 'b').find_map(|line| {
        let (kind, value) = line.value.split_once(':')?;
        kind.trim().eq_ignore_ascii_case("AS").then(|| value.trim().parse().ok()).flatten()
    })
}

/// One blank wherever there are several.
pub(super) fn squeezed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// RFC 3551 s6, tables 4 and 5.
fn static_encoding(payload_type: u8) -> Option<Encoding> {
    let (name, clock_rate_hz, channels) = match payload_type {
        0 => ("PCMU", 8_000, Some(1)),
        3 => ("GSM", 8_000, Some(1)),
        4 => ("G723", 8_000, Some(1)),
        5 => ("DVI4", 8_000, Some(1)),
        6 => ("DVI4", 16_000, Some(1)),
        7 => ("LPC", 8_000, Some(1)),
        8 => ("PCMA", 8_000, Some(1)),
        9 => ("G722", 8_000, Some(1)),
        10 => ("L16", 44_100, Some(2)),
        11 => ("L16", 44_100, Some(1)),
        12 => ("QCELP", 8_000, Some(1)),
        13 => ("CN", 8_000, Some(1)),
        14 => ("MPA", 90_000, None),
        15 => ("G728", 8_000, Some(1)),
        16 => ("DVI4", 11_025, Some(1)),
        17 => ("DVI4", 22_050, Some(1)),
        18 => ("G729", 8_000, Some(1)),
        25 => ("CelB", 90_000, None),
        26 => ("JPEG", 90_000, None),
        28 => ("nv", 90_000, None),
        31 => ("H261", 90_000, None),
        32 => ("MPV", 90_000, None),
        33 => ("MP2T", 90_000, None),
        34 => ("H263", 90_000, None),
        _ => return None,
    };
    Some(Encoding { name: name.to_owned(), clock_rate_hz, channels })
}

/// Sources of one filter at most: a group is joined once for each.
const SOURCES_MAX: usize = 16;

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
