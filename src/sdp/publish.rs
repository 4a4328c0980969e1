//! What a publisher announces (RFC 2326 s10.3), checked; and which media its SETUP means.
//!
//! ```text
//! ANNOUNCE rtsp://h/live/a  + SDP -> read_session -> check_announced
//! SETUP    rtsp://h/live/a/streamid=0             -> media_of_setup -> 0
//! ```
//! Publishers choose their control URLs: `streamid=0` (ffmpeg), `stream=0` (GStreamer), absolute
//! ones, or none. Hosts are not compared: behind a NAT the publisher knows another one.
#![deny(clippy::indexing_slicing)]

use super::session::{MediaSdp, Protocol, SessionSdp};
use crate::rtsp::source_url::control_url;
use crate::rtsp::uri::{Target, parse_target};

/// Why an announcement cannot be served. Places of media begin with 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnnounceError {
    /// It is encrypted, on a connection on which keys are not told.
    #[error("media {media_index} is encrypted (SAVP), which is taken over RTSPS only")]
    Secure {
        /// Which one.
        media_index: usize,
    },
    /// Nothing that comes by RTSP.
    #[error("media {media_index} is not RTP")]
    NotRtp {
        /// Which one.
        media_index: usize,
    },
    /// Nobody could tell what the packets are.
    #[error("media {media_index} has no payload type")]
    NoPayloadType {
        /// Which one.
        media_index: usize,
    },
}

/// Whether every media is RTP that can be carried: known or not, with feedback or not, encrypted or
/// not where `takes_srtp`.
///
/// # Errors
/// See [`AnnounceError`].
pub fn check_announced(sdp: &SessionSdp, takes_srtp: bool) -> Result<(), AnnounceError> {
    for (media_index, media) in sdp.medias().iter().enumerate() {
        match media.protocol {
            Protocol::SecureRtp { .. } if !takes_srtp => {
                return Err(AnnounceError::Secure { media_index });
            }
            Protocol::Rtp { .. } | Protocol::SecureRtp { .. }
                if media.payload_types().next().is_some() => {}
            Protocol::Rtp { .. } | Protocol::SecureRtp { .. } => {
                return Err(AnnounceError::NoPayloadType { media_index });
            }
            Protocol::Other(_) => return Err(AnnounceError::NotRtp { media_index }),
        }
    }
    Ok(())
}

/// The media that a SETUP means, of those announced for `announce_uri`.
#[must_use]
pub fn media_of_setup(sdp: &SessionSdp, announce_uri: &str, setup_uri: &str) -> Option<usize> {
    let asked = parse_target(setup_uri).ok()?;
    let base = control_url(announce_uri, sdp.control());
    let is_controlled = |media: &MediaSdp| {
        let urls = [&base, announce_uri].map(|base| control_url(base, media.control()));
        media.control().is_some() && urls.iter().any(|url| is_same(url, &asked))
    };
    if let Some(index) = sdp.medias().iter().position(is_controlled) {
        return Some(index);
    }
    let whole = parse_target(announce_uri).ok().filter(|whole| whole.path == asked.path)?;
    match (asked.track.map(usize::from), sdp.medias()) {
        (Some(index), medias) if index < medias.len() => Some(index),
        // The only media needs no URL of its own.
        (None, [_]) if whole.query == asked.query || asked.query.is_none() => Some(0),
        _ => None,
    }
}

/// Path, query and track; not host and slash.
fn is_same(url: &str, asked: &Target) -> bool {
    parse_target(url)
        .is_ok_and(|target| Target { trailing_slash: asked.trailing_slash, ..target } == *asked)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sdp::read::read_session;

    /// ANNOUNCE of FFmpeg 5.1, as it came.
    const FFMPEG: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=No Name\r\nc=IN IP4 127.0.0.1\r\n\
        t=0 0\r\na=tool:libavformat LIBAVFORMAT_VERSION\r\nm=video 0 RTP/AVP 96\r\n\
        a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1; \
        sprop-parameter-sets=Z/QAC5GWQKEficBEAAADAAQAAAMAyjxQqSA=,aOvDxEhE; \
        profile-level-id=F4000B\r\na=control:streamid=0\r\nm=audio 0 RTP/AVP 97\r\nb=AS:69\r\n\
        a=rtpmap:97 MPEG4-GENERIC/44100/1\r\na=fmtp:97 profile-level-id=1;mode=AAC-hbr;\
        sizelength=13;indexlength=3;indexdeltalength=3; config=120856E500\r\n\
        a=control:streamid=1\r\n";

    fn read(text: &str) -> SessionSdp {
        read_session(text.as_bytes()).unwrap()
    }

    #[test]
    fn setups_of_ffmpeg_find_their_media() {
        let sdp = read(FFMPEG);
        assert_eq!(check_announced(&sdp, false), Ok(()));
        let announce = "rtsp://127.0.0.1:8554/live/a";
        let of = |uri| media_of_setup(&sdp, announce, uri);
        assert_eq!(of("rtsp://127.0.0.1:8554/live/a/streamid=0"), Some(0));
        assert_eq!(of("rtsp://other/live/a/streamid=1/"), Some(1));
        assert_eq!(of("rtsp://127.0.0.1:8554/live/a/trackID=1"), Some(1));
        for uri in [
            "rtsp://127.0.0.1:8554/live/a/streamid=2",
            "rtsp://127.0.0.1:8554/live/b/streamid=0",
            "rtsp://127.0.0.1:8554/live/a/trackID=2",
            "rtsp://127.0.0.1:8554/live/a",
        ] {
            assert_eq!(of(uri), None, "{uri}");
        }
    }

    #[test]
    fn query_absolute_urls_and_missing_controls_are_understood() {
        let sdp = read(FFMPEG);
        let announce = "rtsp://h/live/a?user=x";
        let of = |uri| media_of_setup(&sdp, announce, uri);
        assert_eq!(of("rtsp://h/live/a?user=x/streamid=1"), Some(1));
        let absolute = FFMPEG.replace("streamid=", "rtsp://10.0.0.1:8554/live/a/s");
        let of = |uri| media_of_setup(&read(&absolute), "rtsp://h/live/a", uri);
        assert_eq!(of("rtsp://10.0.0.1:8554/live/a/s1"), Some(1));
        let single = read("v=0\na=control:*\nm=video 0 RTP/AVP 33\n");
        let of = |uri| media_of_setup(&single, "rtsp://h/live/a", uri);
        assert_eq!((of("rtsp://h/live/a"), of("rtsp://h/live/a/")), (Some(0), Some(0)));
        assert_eq!(of("rtsp://h/live"), None);
    }

    #[test]
    fn what_is_not_carried_is_refused_by_name() {
        let announced = |line: &str| {
            check_announced(&read(&format!("v=0\nm=audio 0 RTP/AVP 0\n{line}\n")), false)
        };
        let error = AnnounceError::Secure { media_index: 1 };
        assert_eq!(announced("m=video 0 RTP/SAVP 96"), Err(error));
        assert_eq!(announced("m=video 0 UDP 33"), Err(AnnounceError::NotRtp { media_index: 1 }));
        let error = AnnounceError::NoPayloadType { media_index: 1 };
        assert_eq!(announced("m=video 0 RTP/AVP x 128"), Err(error));
        assert_eq!(announced("m=application 0 RTP/AVPF 107"), Ok(()));
    }

    proptest! {
        #[test]
        fn arbitrary_urls_never_panic(
            announce in "\\PC{0,40}", setup in "\\PC{0,40}", control in "\\PC{0,20}",
        ) {
            let text = format!("v=0\nm=video 0 RTP/AVP 96\na=control:{control}\n");
            if let Ok(sdp) = read_session(text.as_bytes()) {
                let _ = media_of_setup(&sdp, &announce, &setup);
            }
        }
    }
}
