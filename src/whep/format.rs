//! Which tracks of a path a browser gets, and why not the others.
//!
//! WebRTC of browsers has H.264 and Opus everywhere (RFC 7742 s5, RFC 7874 s3); AAC nowhere. A path
//! whose video is something else is refused, because sound alone is not what a viewer came for;
//! sound that is something else is left out, and named.
//! Bound: the first video and the first sound of a description.

use crate::live::core::description::Description;
use crate::rtp::detect::DetectorFormat;
use crate::rtp::detect::sets::ParameterSets;
use crate::sdp::read::read_session;
use crate::sdp::session::MediaSdp;

/// Why a path cannot be played by WHEP.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotSent {
    /// A track, with what it is.
    #[error("the {kind} of this path is {what}, which WebRTC of browsers does not have; HLS may")]
    Track {
        /// `video` or `audio`.
        kind: &'static str,
        /// Its codec, or what is wrong with it.
        what: String,
    },
    /// Its pictures are sent in another order than they are shown in.
    #[error(
        "the video of this path has B-frames, which browsers do not show by WebRTC; HLS does (an \
         encoder leaves them out with -bf 0 or -tune zerolatency)"
    )]
    Reordered,
    /// There is neither.
    #[error("this path has neither video nor audio")]
    Nothing,
    /// Its description cannot be read.
    #[error("the description of this path cannot be read")]
    Description,
}

/// A track that is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Format {
    /// Place among the tracks of the path.
    pub(super) place: u8,
    /// Payload type of its packets on the path.
    pub(super) payload_type: u8,
    /// Ticks a second of RTP times.
    pub(super) clock_rate_hz: u32,
}

/// What of a path is sent: see the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Formats {
    /// H.264, with the parameter sets that the description has.
    pub(super) video: Option<(Format, ParameterSets)>,
    /// Opus.
    pub(super) audio: Option<Format>,
    /// What is not sent, for people.
    pub(super) left_out: Option<String>,
}

impl Formats {
    /// Reads a description.
    ///
    /// # Errors
    /// WebRTC has no codec for it.
    pub(super) fn new(description: &Description) -> Result<Self, NotSent> {
        let sdp = read_session(description.sdp.as_bytes()).map_err(|_| NotSent::Description)?;
        let places = (0_u8..).zip(sdp.medias());
        let of_kind = |kind| places.clone().find(move |(_, media)| media.kind == kind);
        let video = of_kind("video").map(|(place, media)| video(place, media));
        let audio = of_kind("audio").map(|(place, media)| audio(place, media));
        let refused = |kind, what| NotSent::Track { kind, what };
        match (video, audio) {
            (None, None) => Err(NotSent::Nothing),
            (Some(Err(what)), _) => Err(refused("video", what)),
            (None, Some(Err(what))) => Err(refused("audio", what)),
            (video, audio) => {
                let left_out = audio.as_ref().and_then(|audio| audio.as_ref().err()).cloned();
                let (video, audio) = (video.and_then(Result::ok), audio.and_then(Result::ok));
                Ok(Self { video, audio, left_out })
            }
        }
    }

    /// Whether who was told of `self` can go on with `other`.
    pub(super) fn continues(&self, other: &Self) -> bool {
        let kinds = |formats: &Self| (formats.video.is_some(), formats.audio.is_some());
        kinds(self) == kinds(other)
    }
}

fn video(place: u8, media: &MediaSdp) -> Result<(Format, ParameterSets), String> {
    let (format, codec) = read(place, media)?;
    if !codec.eq_ignore_ascii_case("H264") {
        return Err(codec);
    }
    if media.fmtp_parameter(format.payload_type, "packetization-mode") == Some("2") {
        return Err("H.264 in interleaved mode".to_owned());
    }
    let mut sets = ParameterSets::new(DetectorFormat::H264);
    if let Some(value) = media.fmtp_parameter(format.payload_type, "sprop-parameter-sets") {
        sets.handle_sprop(value);
    }
    Ok((format, sets))
}

fn audio(place: u8, media: &MediaSdp) -> Result<Format, String> {
    let (format, codec) = read(place, media)?;
    match codec.to_ascii_uppercase().as_str() {
        "OPUS" => Ok(format),
        "MPEG4-GENERIC" | "MP4A-LATM" => Err("AAC".to_owned()),
        _ => Err(codec),
    }
}

fn read(place: u8, media: &MediaSdp) -> Result<(Format, String), String> {
    let payload_type = media.payload_types().next();
    let payload_type = payload_type.ok_or_else(|| "without a payload type".to_owned())?;
    let encoding = media.encoding(payload_type).ok_or_else(|| "of an unknown codec".to_owned())?;
    let format = Format { place, payload_type, clock_rate_hz: encoding.clock_rate_hz };
    Ok((format, encoding.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::core::description::LiveTrack;

    fn formats(medias: &str) -> Result<Formats, NotSent> {
        let sdp = format!("v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n{medias}");
        let track = LiveTrack {
            clock_rate_hz: 90_000,
            payload_types: vec![96],
            needs_sync: false,
            identity: "".into(),
        };
        Formats::new(&Description::new(sdp.into(), vec![track]).unwrap())
    }

    const H264: &str = "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
                        a=fmtp:96 packetization-mode=1;sprop-parameter-sets=Z0LAHtk=,aMuD\r\n";
    const OPUS: &str = "m=audio 0 RTP/AVP 97\r\na=rtpmap:97 opus/48000/2\r\n";
    const AAC: &str = "m=audio 0 RTP/AVP 97\r\na=rtpmap:97 MPEG4-GENERIC/44100/2\r\n";

    #[test]
    fn h264_and_opus_are_sent_and_the_sets_of_the_description_are_known() {
        let found = formats(&[OPUS, H264].concat()).unwrap();
        let (video, sets) = found.video.unwrap();
        assert_eq!((video.place, video.payload_type, video.clock_rate_hz), (1, 96, 90_000));
        assert!(sets.is_complete());
        assert_eq!(found.audio.unwrap().place, 0);
        assert_eq!(found.left_out, None);
    }

    #[test]
    fn sound_that_browsers_do_not_have_is_left_out_and_named() {
        let found = formats(&[H264, AAC].concat()).unwrap();
        assert!(found.video.is_some() && found.audio.is_none());
        assert_eq!(found.left_out.as_deref(), Some("AAC"));
    }

    #[test]
    fn path_without_a_codec_of_browsers_says_which_it_has() {
        let hevc = "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H265/90000\r\n";
        let interleaved = "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
                           a=fmtp:96 packetization-mode=2\r\n";
        for (medias, part) in [
            ([hevc, OPUS].concat(), "the video of this path is H265"),
            (interleaved.to_owned(), "the video of this path is H.264 in interleaved mode"),
            (AAC.to_owned(), "the audio of this path is AAC"),
            ("m=video 0 RTP/AVP 96\r\n".to_owned(), "of an unknown codec"),
            ("m=application 0 RTP/AVP 96\r\n".to_owned(), "neither video nor audio"),
        ] {
            let refused = formats(&medias).unwrap_err().to_string();
            assert!(refused.contains(part), "{medias}: {refused}");
        }
    }
}
