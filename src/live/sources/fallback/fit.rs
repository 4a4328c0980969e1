//! Whether a source can feed a path, by their descriptions, and which track feeds which.
//!
//! ```text
//!  path     video H264/90000    audio MPEG4-GENERIC/48000/2
//!  source   video H264/90000    audio OPUS/48000/2     video fits; the path's sound is silent
//! ```
//! Sound whose configuration is in the description only (AAC) must have that of the path: readers
//! have set their decoders up by it, and would decode other sound as noise.
//! Invariants: each track of the source feeds one track of the path at most; every video track of
//! the path is fed. Bound: `LIVE_TRACKS_MAX` tracks.

use crate::rtp::AAC_ENCODING;
use crate::rtp::detect::DetectorFormat;
use crate::rtp::detect::nal::SetKind;
use crate::rtp::detect::sets::ParameterSets;
use crate::sdp::session::{Encoding, MediaSdp, SessionSdp};

/// The tracks of a source as tracks of the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fit {
    /// By track of the source; `None` for a track that the path does not have.
    pub(crate) tracks: Vec<Option<FitTrack>>,
}

/// A track of a source that feeds one of the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FitTrack {
    /// Track of the path.
    pub(crate) to: u8,
    /// Payload types of the source, each with the path's.
    payload_types: Vec<(u8, u8)>,
    /// Parameter sets of the source's description.
    pub(crate) sets: Vec<Vec<u8>>,
    /// How key frames are told.
    pub(crate) format: DetectorFormat,
    /// Packets are AAC, several frames in one.
    pub(crate) is_aac: bool,
}

/// No track of a source suits this track of the path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the path has {path}, the source {source_has}")]
pub(crate) struct Unfit {
    /// Encodings of the path.
    pub(crate) path: String,
    /// Encodings of the source.
    pub(crate) source_has: String,
}

impl FitTrack {
    /// The path's payload type for one of the source's.
    pub(crate) fn payload_type(&self, of_source: u8) -> Option<u8> {
        self.payload_types.iter().find(|(known, _)| *known == of_source).map(|(_, to)| *to)
    }
}

/// Finds the tracks of a source that feed a path.
///
/// # Errors
/// A video track of the path would not be fed, or no track at all.
pub(crate) fn fit(path: &SessionSdp, source: &SessionSdp) -> Result<Fit, Unfit> {
    let mut tracks = vec![None; source.medias().len()];
    let refuse = || Unfit { path: encodings(path), source_has: encodings(source) };
    for (to, wanted) in (0_u8..).zip(path.medias()) {
        let found = source.medias().iter().zip(&mut tracks).find(|(media, place)| {
            place.is_none() && media.kind == wanted.kind && is_same(media, wanted)
        });
        match found {
            Some((media, place)) => *place = Some(fit_track(to, media, wanted)),
            None if wanted.kind == "video" => return Err(refuse()),
            None => {}
        }
    }
    if tracks.iter().all(Option::is_none) {
        return Err(refuse());
    }
    Ok(Fit { tracks })
}

fn fit_track(to: u8, media: &MediaSdp, wanted: &MediaSdp) -> FitTrack {
    let payload_types = numbers(media).zip(numbers(wanted)).collect();
    let first = media.payload_types().next().unwrap_or(0);
    let name = media.encoding(first).map(|encoding| encoding.name).unwrap_or_default();
    let format = DetectorFormat::from_encoding_name(&name);
    let is_aac = name.eq_ignore_ascii_case(AAC_ENCODING);
    let mut known = ParameterSets::new(format);
    for name in ["sprop-parameter-sets", "sprop-vps", "sprop-sps", "sprop-pps"] {
        known.handle_sprop(media.fmtp_parameter(first, name).unwrap_or_default());
    }
    let kinds = [SetKind::Vps, SetKind::Sps, SetKind::Pps];
    let sets = kinds.into_iter().flat_map(|kind| known.of_kind(kind)).map(<[u8]>::to_vec).collect();
    FitTrack { to, payload_types, sets, format, is_aac }
}

fn numbers(media: &MediaSdp) -> impl Iterator<Item = u8> {
    media.payload_types().filter(|number| !media.is_rtx(*number))
}

fn first_encoding(media: &MediaSdp) -> Option<Encoding> {
    media.encoding(numbers(media).next()?)
}

fn is_same(media: &MediaSdp, wanted: &MediaSdp) -> bool {
    match (first_encoding(media), first_encoding(wanted)) {
        (Some(its), Some(other)) => {
            its.name.eq_ignore_ascii_case(&other.name)
                && its.clock_rate_hz == other.clock_rate_hz
                && its.channels.unwrap_or(1) == other.channels.unwrap_or(1)
                && has_same_configuration(&its.name, media, wanted)
        }
        // Payload types that neither explains.
        (None, None) => numbers(media).next() == numbers(wanted).next(),
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// Whether a decoder that was set up by one description takes the packets of the other: for
/// encodings whose configuration is in the description only.
fn has_same_configuration(encoding: &str, media: &MediaSdp, wanted: &MediaSdp) -> bool {
    let encoding = encoding.to_ascii_lowercase();
    let found = CONFIGURED.iter().find(|(name, _)| *name == encoding);
    let Some((_, parameters)) = found else { return true };
    let value = |media: &MediaSdp, name: &str| {
        let text = media.fmtp_parameter(numbers(media).next()?, name)?;
        // Base64 is the one value in which case matters.
        Some(if name == "configuration" { text.to_owned() } else { text.to_ascii_lowercase() })
    };
    parameters.iter().all(|name| value(media, name) == value(wanted, name))
}

/// `video H264/90000, audio OPUS/48000/2`.
fn encodings(sdp: &SessionSdp) -> String {
    let medias = sdp.medias().iter().map(|media| match first_encoding(media) {
        Some(Encoding { name, clock_rate_hz, channels: Some(channels) }) => {
            format!("{} {name}/{clock_rate_hz}/{channels}", media.kind)
        }
        Some(Encoding { name, clock_rate_hz, channels: None }) => {
            format!("{} {name}/{clock_rate_hz}", media.kind)
        }
        None => media.kind.clone(),
    });
    medias.collect::<Vec<_>>().join(", ")
}

/// Encodings that a decoder cannot follow without the description, each with the parameters that
/// it depends on (RFC 3640 s4.1, RFC 6416 s7.3, RFC 5215 s6). Video of such encodings brings its
/// configuration in band.
const CONFIGURED: [(&str, &[&str]); 3] = [
    ("mpeg4-generic", &["mode", "config", "sizelength", "indexlength", "indexdeltalength"]),
    ("mp4a-latm", &["cpresent", "config", "object"]),
    ("vorbis", &["configuration"]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sdp::read::read_session;

    const VIDEO: &str = "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
        a=fmtp:96 sprop-parameter-sets=Z0LAHtk=,aMuD\r\n";
    const SOUND: &str = "m=audio 0 RTP/AVP 97\r\na=rtpmap:97 MPEG4-GENERIC/48000/2\r\n";

    fn sdp(medias: &str) -> SessionSdp {
        read_session(format!("v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=x\r\n{medias}").as_bytes())
            .unwrap()
    }

    #[test]
    fn tracks_are_matched_by_encoding_whatever_their_order_and_payload_types() {
        let path = sdp(&format!("{VIDEO}{SOUND}"));
        let other = VIDEO.replace("96", "100").replace("H264", "h264");
        let source = sdp(&format!("m=audio 0 RTP/AVP 0\r\n{SOUND}{other}"));
        let found = fit(&path, &source).unwrap();
        let to: Vec<_> = found.tracks.iter().map(|track| track.as_ref().map(|t| t.to)).collect();
        assert_eq!(to, [None, Some(1), Some(0)]);
        let video = found.tracks[2].as_ref().unwrap();
        assert_eq!((video.payload_type(100), video.payload_type(96)), (Some(96), None));
        assert_eq!(video.sets, [vec![0x67, 0x42, 0xc0, 0x1e, 0xd9], vec![0x68, 0xcb, 0x83]]);
    }

    #[test]
    fn sound_that_the_readers_decoders_would_not_understand_is_left_out() {
        let aac = |fmtp: &str| sdp(&format!("{VIDEO}{SOUND}a=fmtp:97 {fmtp}\r\n"));
        let told = "mode=AAC-hbr;config=119056E5;sizelength=13;indexlength=3;indexdeltalength=3";
        let path = aac(told);
        for (fmtp, is_fed) in [
            (
                "config=119056e5; SizeLength=13; indexLength=3; indexDeltaLength=3; mode=aac-hbr",
                true,
            ),
            (&format!("profile-level-id=1;{told};constantDuration=1024"), true),
            (&told.replace("1190", "1188"), false),
            (&told.replace("length=13", "length=6"), false),
            ("mode=AAC-hbr", false),
        ] {
            let found = fit(&path, &aac(fmtp)).unwrap();
            assert_eq!(found.tracks[1].is_some(), is_fed, "{fmtp}");
            assert!(found.tracks[0].is_some());
        }
    }

    #[test]
    fn sound_may_be_missing_and_video_may_not() {
        let path = sdp(&format!("{VIDEO}{SOUND}"));
        let silent = fit(&path, &sdp(VIDEO)).unwrap();
        assert_eq!(silent.tracks.len(), 1);
        let error = fit(&path, &sdp(&VIDEO.replace("H264", "H265"))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the path has video H264/90000, audio MPEG4-GENERIC/48000/2, the source video H265/90000"
        );
        assert!(fit(&path, &sdp(SOUND)).is_err());
        let mono = SOUND.replace("/2", "");
        assert!(fit(&sdp(SOUND), &sdp(&mono)).is_err(), "no track at all");
    }
}
