//! SDP (RFC 8866; RFC 2326 appendix C): of recorded titles for DESCRIBE, here; of others and of
//! live paths beside it.
//!
//! ```text
//! title          -> describe       -> text
//! text of others -> read_session   -> SessionSdp -> describe_live -> text
//! ```
//! Lines are written by the `sdp-types` crate, which also keeps line ends out of values; what
//! stands in them, and in which order, is ours:
//! - `a=range:npt=0-D` with an end: players seek only when they know the duration (client rules
//!   C5, C14); npt alone, as some read nothing else;
//! - `a=rtpmap` directly behind its `m=` and `b=` lines, even for static payload types (C5);
//! - `a=control:*` for the presentation, relative `trackID=N` for each track (C4, C6);
//! - one `b=AS:` for the session, from the length of the file and the duration. A rate for each
//!   track would cost a walk over its index (270,000 samples in a film) on every DESCRIBE.
//!
//! Port 0 and the unspecified address: where packets go is settled in SETUP (RFC 2326 C.1.1).

pub mod live;
mod payload_types;
pub mod publish;
pub mod read;
pub mod secure;
pub mod session;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sdp_types::{
    Attribute, Bandwidth, BandwidthType, Connection, Media, MediaType, Origin, Session, Time,
    TransportProto,
};

use crate::base::time::Npt;
use crate::media::asset::{Asset, Track};
use crate::media::codec::{Codec, MediaKind};
use crate::media::fmtp::without_empty;

/// What a description is made from.
#[derive(Debug, Clone, Copy)]
pub struct Description<'a> {
    /// The title.
    pub asset: &'a Asset,
    /// Its name, for people.
    pub name: &'a str,
    /// `o=`: the same for every description of this title by this server.
    pub session_id: u64,
    /// `o=`: grows when the title changes.
    pub version: u64,
    /// Our address on the connection that asks.
    pub origin: IpAddr,
    /// For each payload type the one of its retransmissions, where they are offered: the profile
    /// is AVPF then.
    pub rtx: Option<fn(u8) -> u8>,
    /// E-AC-3 is announced as AC-3 (client rule C32).
    pub calls_eac3_ac3: bool,
}

/// The description as text, with CRLF line ends.
#[must_use]
pub fn describe(d: &Description<'_>) -> String {
    let origin = Origin::with_ip_addr(d.session_id, d.version, d.origin);
    let mut session = Session::new(origin, session_name(d.name));
    let unspecified: IpAddr = match d.origin {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    session.connection = Some(Connection::from_ip_addr(unspecified));
    if let Some(kbit) = kbit_per_second(d.asset.file_bytes, d.asset.duration) {
        session.bandwidths.push(Bandwidth::new(BandwidthType::As, kbit));
    }
    session.times.push(Time::new(0, 0));
    session.attributes = vec![
        Attribute::with_value("tool", "headend"),
        Attribute::with_value("range", range(d.asset.duration)),
        Attribute::with_value("control", "*"),
    ];
    session.medias =
        (0..).zip(&d.asset.tracks).map(|(index, track)| media(index, track, d)).collect();
    let mut out = Vec::with_capacity(TEXT_BYTES_USUAL);
    let written = session.write(&mut out);
    debug_assert!(written.is_ok(), "writing to memory does not fail: {written:?}");
    String::from_utf8_lossy(&out).into_owned()
}

fn media(index: usize, track: &Track, d: &Description<'_>) -> Media {
    let rtx = d.rtx;
    let payload = &track.payload;
    let payload_type = payload.payload_type;
    let kind = match track.kind {
        MediaKind::Audio => MediaType::Audio,
        MediaKind::Video => MediaType::Video,
    };
    let rtx = rtx.map(|rtx| rtx(payload_type));
    let profile = if rtx.is_some() { TransportProto::RtpAvpf } else { TransportProto::RtpAvp };
    let formats = match rtx {
        Some(rtx) => format!("{payload_type} {rtx}"),
        None => payload_type.to_string(),
    };
    let mut media = Media::new(kind, 0, profile, formats);
    let mut add = |name: &str, value: String| {
        media.attributes.push(Attribute::with_value(name, value));
    };
    let is_eac3 = matches!(track.codec, Some(Codec::Eac3 { .. })) && track.hint.is_none();
    let encoding = if is_eac3 && d.calls_eac3_ac3 { "ac3" } else { &payload.encoding_name };
    let clock_hz = payload.clock_rate_hz;
    let channels = payload.channels.map(|channels| format!("/{channels}")).unwrap_or_default();
    add("rtpmap", format!("{payload_type} {encoding}/{clock_hz}{channels}"));
    let fmtp = payload.fmtp.as_deref().map(without_empty);
    if let Some(fmtp) = fmtp.filter(|fmtp| !fmtp.is_empty()) {
        add("fmtp", format!("{payload_type} {fmtp}"));
    }
    if let (MediaKind::Video, Some((width, height))) = (track.kind, track.size_pixels) {
        // RFC 6064 s4.2
        add("framesize", format!("{payload_type} {width}-{height}"));
    }
    if let Some(language) = track.language.as_deref().filter(|tag| is_language_tag(tag)) {
        add("lang", language.to_owned());
    }
    if let Some(rtx) = rtx {
        // RFC 4585 s4.2, RFC 4588 s8.6
        add("rtcp-fb", format!("{payload_type} nack"));
        add("rtpmap", format!("{rtx} rtx/{clock_hz}"));
        add("fmtp", format!("{rtx} apt={payload_type};rtx-time={RTX_TIME_MS}"));
    }
    add("control", format!("trackID={index}"));
    media
}

/// `npt=0-10.500`; open when the duration is not known.
fn range(duration: Npt) -> String {
    let ms = duration.0.max(0).saturating_add(500_000) / 1_000_000;
    if ms == 0 { "npt=0-".to_owned() } else { format!("npt=0-{}.{:03}", ms / 1_000, ms % 1_000) }
}

/// Average rate of the whole file, rounded up; `None` when the duration is not known.
fn kbit_per_second(file_bytes: u64, duration: Npt) -> Option<u64> {
    let duration_ns = u128::try_from(duration.0).ok().filter(|ns| *ns > 0)?;
    // bits * 1e9 / ns / 1000
    u64::try_from((u128::from(file_bytes) * 8_000_000).div_ceil(duration_ns)).ok()
}

/// `s=` must not be empty (RFC 8866 s5.3), and a file name may hold what a line may not.
fn session_name(name: &str) -> String {
    let clean: String = name.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect();
    if clean.trim().is_empty() { "-".to_owned() } else { clean }
}

/// Letters, digits and hyphens (RFC 5646 s2.1); `und` says nothing.
fn is_language_tag(tag: &str) -> bool {
    let is_part = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    !tag.is_empty() && tag.bytes().all(is_part) && tag != "und"
}

/// How long packets can be asked for again: a window's time, for which their places are known.
const RTX_TIME_MS: u32 = 2_000;

/// Players read lines of SDP into buffers of a few KiB (client rule C12).
const NAME_CHARS_MAX: usize = 200;

/// Capacity for two tracks.
const TEXT_BYTES_USUAL: usize = 1_024;

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
