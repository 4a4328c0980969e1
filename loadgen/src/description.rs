//! From a session description to the tracks a client sets up.
//!
//! ```text
//! SDP + Content-Base --> aggregate URL, [ track: control URL, kind, payload types, clock rate ]
//! ```
//! Control URLs follow RFC 2326 C.1.1 the way players read it: `*` is the base itself, a relative
//! value is appended after a slash (not RFC 3986 resolution, which would cut the last segment).
//! Invariant: every track has at least one payload type with a clock rate above zero.
//! Bound: at most [`TRACKS_MAX`] tracks are taken.

use crate::headers;
use rtsp_types::Url;
use serde::Serialize;
use std::time::Duration;

/// Tracks of one presentation that are set up; interleaved channels end at 255.
pub const TRACKS_MAX: usize = 16;

/// RFC 3551 s6: types from here on mean what the description says.
const FIRST_DYNAMIC_TYPE: u8 = 96;
const GUESSED_RATE_HZ: u32 = 90_000;

/// What a track carries; the report keeps figures per kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MediaKind {
    /// `m=video`.
    Video,
    /// `m=audio`.
    Audio,
    /// Anything else.
    Other,
}

impl MediaKind {
    /// Every kind, in the order of the report.
    pub const ALL: [Self; 3] = [Self::Video, Self::Audio, Self::Other];

    /// Position in [`MediaKind::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Video => 0,
            Self::Audio => 1,
            Self::Other => 2,
        }
    }

    /// Name for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Video => "video",
            Self::Audio => "audio",
            Self::Other => "other",
        }
    }
}

/// One payload type of a track and the rate of its timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// RTP payload type.
    pub payload_type: u8,
    /// Ticks per second of its RTP timestamps, never 0.
    pub clock_rate_hz: u32,
}

/// One media section to be set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackInfo {
    /// Absolute URL for SETUP.
    pub control: Url,
    /// What it carries.
    pub kind: MediaKind,
    /// Its payload types, never empty.
    pub formats: Vec<Format>,
    /// It is encrypted (RTP/SAVP, RFC 3711).
    pub is_secure: bool,
}

/// What a client needs of a DESCRIBE answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// URL for PLAY, TEARDOWN and keep-alive.
    pub aggregate: Url,
    /// Tracks in the order of the description.
    pub tracks: Vec<TrackInfo>,
    /// Length of the presentation, absent for live.
    pub length: Option<Duration>,
}

/// Why a description is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DescriptionError {
    /// The body is not SDP.
    #[error("the description is not SDP")]
    NotSdp,
    /// No section carries RTP that can be received.
    #[error("the description has no RTP track")]
    NoTracks,
}

/// Reads an SDP `body` that belongs to `base` (Content-Base, or the URL asked for).
pub fn description_from(body: &[u8], base: &Url) -> Result<Description, DescriptionError> {
    let session = sdp_types::Session::parse(body).map_err(|_| DescriptionError::NotSdp)?;
    let attribute = |name: &str| {
        let found = session.attributes.iter().find(|a| a.attribute.eq_ignore_ascii_case(name));
        found.and_then(|a| a.value.as_deref())
    };
    let aggregate = attribute("control").map_or_else(|| base.clone(), |c| control_url(base, c));
    let tracks: Vec<TrackInfo> =
        session.medias.iter().filter_map(|m| track_from(m, base)).take(TRACKS_MAX).collect();
    if tracks.is_empty() {
        return Err(DescriptionError::NoTracks);
    }
    let length = attribute("range").and_then(headers::npt_length_from);
    Ok(Description { aggregate, tracks, length })
}

/// Joins a control attribute to its base as players do.
#[must_use]
pub fn control_url(base: &Url, control: &str) -> Url {
    let control = control.trim();
    if control.is_empty() || control == "*" {
        return base.clone();
    }
    if let Ok(absolute) = Url::parse(control)
        && matches!(absolute.scheme(), "rtsp" | "rtsps" | "rtspu")
    {
        return absolute;
    }
    let joined = if control.starts_with('/') {
        base.join(control)
    } else {
        let text = base.as_str();
        let slash = if text.ends_with('/') { "" } else { "/" };
        Url::parse(&format!("{text}{slash}{control}"))
    };
    joined.unwrap_or_else(|_| base.clone())
}

fn track_from(media: &sdp_types::Media, base: &Url) -> Option<TrackInfo> {
    let protocol = media.proto.to_ascii_uppercase();
    let (is_rtp, is_secure) = (protocol.starts_with("RTP/"), protocol.starts_with("RTP/SAVP"));
    // A back channel (ONVIF) waits for audio from the client: there is nothing to receive.
    let is_backchannel = media.has_attribute("sendonly");
    if !is_rtp || is_backchannel {
        return None;
    }
    let formats: Vec<Format> = media
        .fmt
        .split_ascii_whitespace()
        .filter_map(|fmt| fmt.parse::<u8>().ok().filter(|&pt| pt < 128))
        .filter_map(|payload_type| {
            let clock_rate_hz = clock_rate(media, payload_type)?;
            Some(Format { payload_type, clock_rate_hz })
        })
        .collect();
    if formats.is_empty() {
        return None;
    }
    let control = media.get_first_attribute_value("control").flatten().unwrap_or("*");
    let kind = match media.media.to_ascii_lowercase().as_str() {
        "video" => MediaKind::Video,
        "audio" => MediaKind::Audio,
        _ => MediaKind::Other,
    };
    Some(TrackInfo { control: control_url(base, control), kind, formats, is_secure })
}

/// Rate from `a=rtpmap:PT NAME/RATE[/CHANNELS]`, else from the table of static types, else a guess.
fn clock_rate(media: &sdp_types::Media, payload_type: u8) -> Option<u32> {
    let mapped = media.get_attribute_values("rtpmap").flatten().find_map(|value| {
        let (pt, encoding) = value.trim().split_once(char::is_whitespace)?;
        (pt.parse::<u8>().ok()? == payload_type).then_some(())?;
        encoding.trim().split('/').nth(1)?.trim().parse::<u32>().ok()
    });
    let known = mapped.or_else(|| static_clock_rate(payload_type)).filter(|&rate| rate > 0);
    // Private formats come without a word: they are received all the same, and 90 kHz is the rate
    // of most. Their lateness is as good as that guess.
    known.or_else(|| (payload_type >= FIRST_DYNAMIC_TYPE).then_some(GUESSED_RATE_HZ))
}

/// RFC 3551 s6, tables 4 and 5.
const fn static_clock_rate(payload_type: u8) -> Option<u32> {
    match payload_type {
        0 | 3..=5 | 7..=9 | 12 | 13 | 15 | 18 => Some(8_000),
        6 => Some(16_000),
        10 | 11 => Some(44_100),
        16 => Some(11_025),
        17 => Some(22_050),
        14 | 25 | 26 | 28 | 31..=34 => Some(90_000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect("test url")
    }

    const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\na=control:*\r\n\
        a=range:npt=0-10.5\r\n\
        m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:trackID=0\r\n\
        m=audio 0 RTP/AVP 97\r\na=rtpmap:97 MPEG4-GENERIC/48000/2\r\na=control:rtsp://o/t1\r\n\
        m=application 0 TCP 98\r\n";

    #[test]
    fn description_with_two_tracks_gives_urls_rates_and_length() {
        let found = description_from(SDP.as_bytes(), &url("rtsp://h/x")).expect("description");
        assert_eq!(found.aggregate, url("rtsp://h/x"));
        assert_eq!(found.length, Some(Duration::from_millis(10_500)));
        let [video, audio] = found.tracks.as_slice() else { panic!("two tracks") };
        assert_eq!(video.control, url("rtsp://h/x/trackID=0"));
        assert_eq!(video.formats, [Format { payload_type: 96, clock_rate_hz: 90_000 }]);
        assert_eq!((audio.kind, audio.control.as_str()), (MediaKind::Audio, "rtsp://o/t1"));
        assert_eq!(audio.formats, [Format { payload_type: 97, clock_rate_hz: 48_000 }]);
    }

    #[test]
    fn description_without_rtp_is_refused() {
        let sdp = b"v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=x\r\nt=0 0\r\n";
        assert_eq!(description_from(sdp, &url("rtsp://h/")), Err(DescriptionError::NoTracks));
        assert_eq!(description_from(b"<html>", &url("rtsp://h/")), Err(DescriptionError::NotSdp));
    }

    #[test]
    fn relative_control_is_appended_after_a_slash() {
        for (base, control, expected) in [
            ("rtsp://h/a/b", "track1", "rtsp://h/a/b/track1"),
            ("rtsp://h/a/b/", "track1", "rtsp://h/a/b/track1"),
            ("rtsp://h/a/b?q=1", "track1", "rtsp://h/a/b?q=1/track1"),
            ("rtsp://h/a/b", "/c", "rtsp://h/c"),
            ("rtsp://h/a/b", "*", "rtsp://h/a/b"),
        ] {
            assert_eq!(control_url(&url(base), control), url(expected), "{base} {control}");
        }
    }

    #[test]
    fn payload_type_without_rtpmap_takes_the_static_rate() {
        let sdp = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=x\r\nt=0 0\r\nm=audio 0 RTP/AVP 14 0\r\n";
        let found = description_from(sdp.as_bytes(), &url("rtsp://h/")).expect("description");
        let rates: Vec<u32> = found.tracks[0].formats.iter().map(|f| f.clock_rate_hz).collect();
        assert_eq!(rates, [90_000, 8_000]);
    }

    #[test]
    fn private_payload_without_rtpmap_is_received_at_a_guessed_rate() {
        let sdp =
            "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=x\r\nt=0 0\r\nm=application 0 RTP/AVP 107\r\n";
        let found = description_from(sdp.as_bytes(), &url("rtsp://h/")).expect("description");
        assert_eq!(found.tracks[0].formats, [Format { payload_type: 107, clock_rate_hz: 90_000 }]);
        assert_eq!((found.tracks[0].kind, found.length), (MediaKind::Other, None));
    }

    proptest::proptest! {
        #[test]
        fn any_body_is_read_without_panic(body in proptest::collection::vec(0u8.., 0..300)) {
            let _ = description_from(&body, &url("rtsp://h/x"));
        }
    }
}
