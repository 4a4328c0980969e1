//! The description of a live path for its readers, made from that of its source.
//!
//! ```text
//! source   o= s= c= t=   a=tool a=range  | m=video 0 RTP/AVPF 96 97   a=rtpmap a=candidate
//! readers  o= s= c= t=   a=tool          | m=video 0 RTP/AVP  96      a=rtpmap
//!          `--ours---'   a=control:*     |                            a=control:trackID=0
//! ```
//! Attributes of the media itself are kept, in order, known or not. What belongs to the way from
//! the source to us goes: addresses, keys, candidates, its SSRCs, its feedback and retransmission,
//! its direction. So does `a=range`: a live path has no end, and players offer to seek in whatever
//! has one (client rule C14). So do format parameters with nothing in them.
//! Bound: what `read` lets in, and the changes that the caller asks for.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::session::{Line, MediaSdp, SessionSdp, fmtp_of, look};
use crate::media::fmtp::without_empty;

/// What a description is made from.
#[derive(Debug, Clone, Copy)]
pub struct LiveDescription<'a> {
    /// As the publisher announced or the camera described it.
    pub source: &'a SessionSdp,
    /// Name of the path, for people.
    pub name: &'a str,
    /// `o=`: the same for every description of this path by this server.
    pub session_id: u64,
    /// `o=`: grows when the description changes.
    pub version: u64,
    /// Our address on the connection that asks.
    pub origin: IpAddr,
    /// What is served, in this order.
    pub medias: &'a [LiveMedia],
}

/// One media of the source that is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveMedia {
    /// Its place in the source's description; one that is not there is left out.
    pub source_index: usize,
    /// Relative URL for SETUP: `trackID=0`.
    pub control: String,
    /// Parameters that have changed in band since.
    pub fmtp: Vec<FmtpChange>,
    /// Retransmission that we offer for the first payload type; the profile is AVPF then.
    pub rtx: Option<RtxOffer>,
}

/// A parameter of `a=fmtp` that replaces the source's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FmtpChange {
    /// Of which payload type.
    pub payload_type: u8,
    /// `sprop-parameter-sets`, `profile-level-id`, ...
    pub name: &'static str,
    /// The value now.
    pub value: String,
}

/// RFC 4588 s8.6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtxOffer {
    /// One that the media does not use.
    pub payload_type: u8,
    /// How long packets can be asked for again.
    pub time_ms: u32,
    /// Readers may tell of lost pictures, too (RFC 4585 s6.3.1).
    pub takes_pli: bool,
}

/// The description as text, with CRLF line ends.
#[must_use]
pub fn describe_live(d: &LiveDescription<'_>) -> String {
    let mut out = String::with_capacity(TEXT_BYTES_USUAL);
    let (family, neutral): (_, IpAddr) = match d.origin {
        IpAddr::V4(_) => ("IP4", Ipv4Addr::UNSPECIFIED.into()),
        IpAddr::V6(_) => ("IP6", Ipv6Addr::UNSPECIFIED.into()),
    };
    // Writing to a String cannot fail.
    let _ = write!(out, "v=0\r\no=- {} {} IN {family} {}\r\n", d.session_id, d.version, d.origin);
    push_line(&mut out, 's', &super::session_name(d.name));
    let lines = &d.source.lines;
    for line in "iuep".chars().flat_map(|key| typed_lines(lines, key)) {
        push_line(&mut out, line.key, &line.value);
    }
    let _ = write!(out, "c=IN {family} {neutral}\r\n");
    for line in typed_lines(lines, 'b') {
        push_line(&mut out, 'b', &line.value);
    }
    out.push_str("t=0 0\r\n");
    for line in lines.iter().filter(|line| is_kept(line)) {
        push_line(&mut out, line.key, &line.value);
    }
    out.push_str("a=control:*\r\n");
    for live in d.medias {
        if let Some(media) = d.source.medias.get(live.source_index) {
            push_media(&mut out, media, live);
        }
    }
    out
}

fn push_media(out: &mut String, media: &MediaSdp, live: &LiveMedia) {
    let mut formats: Vec<&str> = media.formats.iter().map(String::as_str).collect();
    formats.retain(|format| !format.parse().is_ok_and(|number| media.is_rtx(number)));
    let first = formats.first().and_then(|format| format.parse().ok());
    let rtx = live.rtx.and_then(|rtx| Some((rtx, first?)));
    let profile = if rtx.is_some() { "RTP/AVPF" } else { "RTP/AVP" };
    let number = rtx.map(|(rtx, _)| format!(" {}", rtx.payload_type)).unwrap_or_default();
    let _ = write!(out, "m={} 0 {profile} {}{number}\r\n", media.kind, formats.join(" "));
    let mut changes: Vec<&FmtpChange> = live.fmtp.iter().collect();
    for line in "ib".chars().flat_map(|key| typed_lines(&media.lines, key)) {
        push_line(out, line.key, &line.value);
    }
    for line in media.lines.iter().filter(|line| is_kept(line)) {
        let Some(payload_type) = payload_type_of(line) else {
            push_line(out, line.key, &line.value);
            continue;
        };
        if media.is_rtx(payload_type) {
            continue;
        }
        let mine = |change: &&&FmtpChange| change.payload_type == payload_type;
        let own: Vec<&FmtpChange> = changes.iter().filter(mine).copied().collect();
        if attribute_name(line) != "fmtp" {
            push_line(out, line.key, &line.value);
            continue;
        }
        if own.is_empty() {
            push_known_fmtp(out, line);
            continue;
        }
        push_fmtp(out, payload_type, media.fmtp(payload_type).unwrap_or_default(), &own);
        changes.retain(|change| change.payload_type != payload_type);
    }
    // Those without an `a=fmtp` of the source so far.
    while let Some(payload_type) = changes.first().map(|change| change.payload_type) {
        let (own, others) =
            changes.into_iter().partition(|change| change.payload_type == payload_type);
        let own: Vec<&FmtpChange> = own;
        push_fmtp(out, payload_type, "", &own);
        changes = others;
    }
    if let Some((rtx, payload_type)) = rtx {
        push_rtx(out, media, payload_type, rtx);
    }
    push_line(out, 'a', &format!("control:{}", live.control));
}

/// The source's parameters with the new values in the old places, others behind them.
fn push_fmtp(out: &mut String, payload_type: u8, fmtp: &str, changes: &[&FmtpChange]) {
    let mut left = changes.to_vec();
    let old = fmtp.split(';').map(str::trim).filter(|parameter| !parameter.is_empty());
    let mut parameters: Vec<String> = old
        .map(|parameter| {
            let name = parameter.split_once('=').map_or(parameter, |(name, _)| name).trim();
            match left.iter().position(|change| change.name.eq_ignore_ascii_case(name)) {
                Some(at) => format!("{name}={}", left.remove(at).value),
                None => parameter.to_owned(),
            }
        })
        .collect();
    parameters.extend(left.iter().map(|change| format!("{}={}", change.name, change.value)));
    let parameters = parameters.join(";");
    let parameters = without_empty(&parameters);
    if !parameters.is_empty() {
        push_line(out, 'a', &format!("fmtp:{payload_type} {parameters}"));
    }
}

/// An `a=fmtp` of the source without parameters that are empty.
fn push_known_fmtp(out: &mut String, line: &Line) {
    let value = line.value.split_once(':').map_or("", |(_, value)| value);
    let Some((payload_type, fmtp)) = fmtp_of(value) else { return };
    match without_empty(fmtp) {
        Cow::Borrowed("") => {}
        Cow::Borrowed(_) => push_line(out, line.key, &line.value),
        Cow::Owned(kept) if kept.is_empty() => {}
        Cow::Owned(kept) => push_line(out, line.key, &format!("fmtp:{payload_type} {kept}")),
    }
}

fn push_rtx(out: &mut String, media: &MediaSdp, payload_type: u8, rtx: RtxOffer) {
    let RtxOffer { payload_type: number, time_ms, takes_pli } = rtx;
    let clock_rate_hz = media.encoding(payload_type).map_or(90_000, |e| e.clock_rate_hz);
    let _ = write!(out, "a=rtcp-fb:{payload_type} nack\r\n");
    if takes_pli {
        let _ = write!(out, "a=rtcp-fb:{payload_type} nack pli\r\n");
    }
    let _ = write!(
        out,
        "a=rtpmap:{number} rtx/{clock_rate_hz}\r\n\
         a=fmtp:{number} apt={payload_type};rtx-time={time_ms}\r\n"
    );
}

fn push_line(out: &mut String, key: char, value: &str) {
    out.push(key);
    out.push('=');
    // Values of the source have no control characters; those of the caller come from files too.
    out.extend(value.chars().filter(|c| !c.is_control() || *c == '\t'));
    out.push_str("\r\n");
}

/// Lines of a kind that RFC 8866 knows, as many and as well-formed as a strict reader wants.
fn typed_lines(lines: &[Line], key: char) -> impl Iterator<Item = &Line> {
    let max = if "iu".contains(key) { 1 } else { usize::MAX };
    let has_value = |line: &&Line| !line.value.trim().is_empty();
    let is_good = move |line: &&Line| match line.value.split_once(':') {
        Some((_, kbit)) if key == 'b' => {
            kbit.bytes().all(|b| b.is_ascii_digit()) && kbit.parse::<u64>().is_ok()
        }
        _ => key != 'b',
    };
    let lines = lines.iter().inspect(|_| look());
    lines.filter(move |line| line.key == key).filter(has_value).filter(is_good).take(max)
}

/// Attributes that are about the media, and letters that RFC 8866 does not know.
fn is_kept(line: &Line) -> bool {
    let is_known = "vosiuepcbtrzkm".contains(line.key);
    match line.key {
        'a' => {
            let name = attribute_name(line);
            let is_bundle = name == "group" && line.value.to_ascii_uppercase().contains("BUNDLE");
            let says_nothing = VALUED.contains(&name.as_str()) && attribute_value(line).is_empty();
            !says_nothing
                && !is_bundle
                && !name.starts_with("ice-")
                && !OF_THE_WAY.contains(&name.as_str())
        }
        _ => !is_known,
    }
}

fn attribute_name(line: &Line) -> String {
    let name = line.value.split_once(':').map_or(line.value.as_str(), |(name, _)| name);
    name.trim().to_ascii_lowercase()
}

fn attribute_value(line: &Line) -> &str {
    line.value.split_once(':').map_or("", |(_, value)| value.trim())
}

/// The payload type that `a=rtpmap`, `a=fmtp` and their like begin with.
fn payload_type_of(line: &Line) -> Option<u8> {
    let (name, value) = line.value.split_once(':')?;
    let is_about_one = ["rtpmap", "fmtp", "framesize", "framerate", "imageattr"]
        .iter()
        .any(|known| name.trim().eq_ignore_ascii_case(known));
    let number = value.split_whitespace().next()?;
    (line.key == 'a' && is_about_one).then(|| number.parse().ok()).flatten()
}

/// Attributes that say nothing without a value, of those that players read.
const VALUED: [&str; 7] = ["fmtp", "framerate", "framesize", "lang", "maxptime", "ptime", "rtpmap"];

/// Attributes of one hop: ours to set, or none of a reader's business.
const OF_THE_WAY: &[&str] = &[
    "candidate",
    "control",
    "crypto",
    "end-of-candidates",
    "fingerprint",
    "inactive",
    "key-mgmt",
    "msid",
    "msid-semantic",
    "range",
    "recvonly",
    "remote-candidates",
    "rtcp",
    "rtcp-fb",
    "rtcp-mux",
    "rtcp-mux-only",
    "rtcp-rsize",
    "sendonly",
    "sendrecv",
    "setup",
    "source-filter",
    "ssrc",
    "ssrc-group",
];

/// Capacity for two media.
const TEXT_BYTES_USUAL: usize = 1_024;

#[cfg(test)]
#[path = "live_tests.rs"]
mod tests;
