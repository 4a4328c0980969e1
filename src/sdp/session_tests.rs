//! Behaviours of `read_session` and of what is asked of a description.

use proptest::prelude::*;

use super::*;
use crate::sdp::read::{LINES_MAX, MEDIA_LINES_MAX, SDP_BYTES_MAX, SdpError, read_session};

fn read(text: &str) -> SessionSdp {
    read_session(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// As `ffmpeg -f rtsp` announces it.
const FFMPEG: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=No Name\r\nc=IN IP4 127.0.0.1\r\n\
    t=0 0\r\na=tool:libavformat 58.76.100\r\nm=video 0 RTP/AVP 96\r\nb=AS:400\r\n\
    a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1; \
    sprop-parameter-sets=Z0LAHtkDxWhAAAADAEAAAAwDxYuS,aMuMsg==; profile-level-id=42C01E\r\n\
    a=control:streamid=0\r\nm=audio 0 RTP/AVP 97\r\nb=AS:128\r\n\
    a=rtpmap:97 MPEG4-GENERIC/48000/2\r\na=fmtp:97 profile-level-id=1;mode=AAC-hbr\r\n\
    a=control:streamid=1\r\n";

/// As GStreamer's rtspclientsink announces it.
const GSTREAMER: &str = "v=0\r\no=- 1188340656180883 1 IN IP4 127.0.0.1\r\n\
    s=Session streamed with GStreamer\r\ni=rtsp-server\r\nt=0 0\r\na=tool:GStreamer\r\n\
    a=type:broadcast\r\nm=video 0 RTP/AVPF 96 97\r\nc=IN IP4 0.0.0.0\r\nb=AS:2000\r\n\
    a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1;profile-level-id=42c01e\r\n\
    a=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\na=rtcp-fb:* ccm fir\r\n\
    a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96;rtx-time=500\r\n\
    a=ssrc-group:FID 1024 4096\r\na=control:stream=0\r\n";

#[test]
fn announcement_of_ffmpeg_is_understood() {
    let sdp = read(FFMPEG);
    let [video, audio] = sdp.medias() else { panic!("{sdp:?}") };
    assert_eq!((video.kind.as_str(), video.port), ("video", 0));
    assert_eq!(video.protocol, Protocol::Rtp { feedback: false });
    assert_eq!(video.payload_types().collect::<Vec<_>>(), [96]);
    let h264 = Encoding { name: "H264".to_owned(), clock_rate_hz: 90_000, channels: None };
    assert_eq!(video.encoding(96), Some(h264));
    assert_eq!(video.fmtp_parameter(96, "Profile-Level-ID"), Some("42C01E"));
    assert_eq!(video.control(), Some("streamid=0"));
    assert_eq!(sdp.bandwidth_kbit(video), Some(400));
    let aac = audio.encoding(97).unwrap();
    assert_eq!((aac.clock_rate_hz, aac.channels), (48_000, Some(2)));
    assert_eq!((sdp.name(), sdp.control()), (Some("No Name"), None));
}

#[test]
fn text_of_a_description_is_read_as_the_same_description() {
    for text in [FFMPEG, GSTREAMER] {
        assert_eq!(read(&read(text).text()), read(text));
    }
    let odd =
        "o=-\r\ns=a\r\ns=b\r\nm=video 5004/2 rtp/savpf 96 97\r\na=x\r\nm=image 1 udptl t38\r\n";
    let read_odd = read(odd);
    assert_eq!(read(&read_odd.text()), read_odd);
}

#[test]
fn feedback_and_retransmission_of_gstreamer_are_understood() {
    let sdp = read(GSTREAMER);
    let [video] = sdp.medias() else { panic!("{sdp:?}") };
    assert_eq!(video.protocol, Protocol::Rtp { feedback: true });
    assert_eq!((video.rtx_of(96), video.rtx_of(97)), (Some(97), None));
    assert!(video.is_rtx(97) && !video.is_rtx(96));
    assert!(video.has_feedback(96, "nack") && video.has_feedback(96, "nack pli"));
    assert!(video.has_feedback(96, "ccm fir") && !video.has_feedback(97, "nack"));
    assert_eq!(video.fid_groups().collect::<Vec<_>>(), [(1024, 4096)]);
}

#[test]
fn file_of_a_source_specific_group_is_understood() {
    let sdp = read(
        "v=0\no=- 1 1 IN IP4 192.0.2.1\ns=tv\nc=IN IP4 239.1.2.3/16\nt=0 0\n\
         a=source-filter: incl IN IP4 239.1.2.3 192.0.2.1 192.0.2.2\n\
         m=video 5004/2 RTP/AVP 33\nm=audio 5008 RTP/AVP 0\nc=IN IP6 ff15::1\n\
         a=source-filter:incl IN IP6 * 2001:db8::1\n",
    );
    let [video, audio] = sdp.medias() else { panic!("{sdp:?}") };
    let group = Destination { ip: "239.1.2.3".parse().unwrap(), ttl: Some(16) };
    assert_eq!((video.port, sdp.destination(video)), (5_004, Some(group)));
    let sources: Vec<String> = sdp.sources(video).iter().map(ToString::to_string).collect();
    assert_eq!(sources, ["192.0.2.1", "192.0.2.2"]);
    assert_eq!(video.encoding(33).unwrap().name, "MP2T");
    let group = Destination { ip: "ff15::1".parse().unwrap(), ttl: None };
    assert_eq!(sdp.destination(audio), Some(group));
    assert_eq!(sdp.sources(audio), ["2001:db8::1".parse::<IpAddr>().unwrap()]);
    assert_eq!(audio.encoding(0).unwrap().name, "PCMU");
}

#[test]
fn descriptions_of_odd_cameras_are_read() {
    let sdp = read(
        "\u{feff}\r\n o=- x y IN\r\ns= \r\ns=Media Presentation\r\ns=again\r\nt=now\r\n\
         nonsense\r\nA=Control:*\r\nm=Video  0  rtp/avp  96 \r\n\
         a=rtpmap:96   H265/90000/ \0\r\na=Control: trackID=1\r\r\nx-y=1\n=\n",
    );
    let [video] = sdp.medias() else { panic!("{sdp:?}") };
    assert_eq!(video.encoding(96).unwrap().name, "H265");
    assert_eq!((sdp.control(), video.control()), (Some("*"), Some("trackID=1")));
    assert_eq!(sdp.name(), Some("Media Presentation"));
}

#[test]
fn secure_and_foreign_protocols_are_told_apart() {
    let sdp = read("v=0\nm=video 0 RTP/SAVPF 96\nm=video 0 UDP 33\nm=video 0 RAW/RAW/UDP 33\n");
    let protocols: Vec<_> = sdp.medias().iter().map(|media| media.protocol.clone()).collect();
    let other = |text: &str| Protocol::Other(text.to_owned());
    let expected = [Protocol::SecureRtp { feedback: true }, other("UDP"), other("RAW/RAW/UDP")];
    assert_eq!(protocols, expected);
}

#[test]
fn what_is_no_description_is_refused_by_name() {
    let error = |text: &str| read_session(text.as_bytes()).unwrap_err();
    assert_eq!(error(""), SdpError::NoMedia);
    assert_eq!(error("v=0\r\ns=-\r\n"), SdpError::NoMedia);
    assert_eq!(error("\r\n<html>\r\nm=video 0 RTP/AVP 96"), SdpError::NotSdp { line: 2 });
    for media in ["m=", "m=video", "m=video 0 RTP/AVP", "m=video x RTP/AVP 96", "m=v 65536 R 1"] {
        assert_eq!(error(&format!("v=0\n{media}")), SdpError::BadMedia { line: 2 }, "{media}");
    }
    let media = "m=video 0 RTP/AVP 96\n".repeat(65);
    assert_eq!(error(&media), SdpError::TooManyMedia { line: 65, limit_count: 64 });
    let numbers: String = (0..129).map(|number| format!(" {number}")).collect();
    let formats = format!("m=video 0 RTP/AVP{numbers}");
    assert_eq!(error(&formats), SdpError::TooManyFormats { line: 1, limit_count: 128 });
    let media = format!("m=audio 0 RTP/AVP 0\n{}", "a=x\n".repeat(MEDIA_LINES_MAX));
    let lines = format!("v=0\n{}", media.repeat(LINES_MAX / MEDIA_LINES_MAX + 1));
    assert_eq!(error(&lines), SdpError::TooManyLines { limit_count: LINES_MAX });
    let limit_count = MEDIA_LINES_MAX;
    let too_many = |line| SdpError::TooManyMediaLines { line, limit_count };
    let media = format!("v=0\n{media}a=x\n");
    assert_eq!(error(&media), too_many(MEDIA_LINES_MAX + 3));
    let session = format!("v=0\n{}m=audio 0 RTP/AVP 0\n", "a=x\n".repeat(MEDIA_LINES_MAX + 1));
    assert_eq!(error(&session), too_many(MEDIA_LINES_MAX + 2));
    let long = "a".repeat(SDP_BYTES_MAX + 1);
    assert!(matches!(error(&long), SdpError::TooLong { .. }));
}

#[test]
fn lies_of_a_description_are_as_if_absent() {
    let sdp = read(
        "v=0\nc=IN IP4 999.1.1.1\nm=video 0 RTP/AVP 96 200 x\na=rtpmap:96 H264\n\
         a=rtpmap:96 H264/0\na=rtpmap:300 H264/90000\na=fmtp:x y\na=fmtp:96\n\
         a=ssrc-group:FID 1\nb=AS:many\na=rtcp-fb:\n",
    );
    let [video] = sdp.medias() else { panic!("{sdp:?}") };
    assert_eq!(video.payload_types().collect::<Vec<_>>(), [96]);
    assert_eq!((video.encoding(96), video.fmtp(96)), (None, Some("")));
    assert_eq!((sdp.destination(video), sdp.bandwidth_kbit(video)), (None, None));
    assert_eq!((video.fid_groups().count(), video.rtx_of(96)), (0, None));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        lines in prop::collection::vec(
            "([a-z]=)?(rtpmap|fmtp|control|ssrc-group|source-filter|IN IP4)?\
                [:a-zA-Z0-9/ .;=-]{0,30}",
            0..20,
        ),
        tail in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut bytes = lines.join("\n").into_bytes();
        bytes.extend_from_slice(b"\nm=video 0 RTP/AVP 96\n");
        bytes.extend(tail);
        if let Ok(sdp) = read_session(&bytes) {
            for media in sdp.medias() {
                let _ = (sdp.destination(media), sdp.sources(media), sdp.bandwidth_kbit(media));
                let _ = (media.encoding(96), media.fmtp(96), media.rtx_of(96));
                let _ = (media.has_feedback(96, "nack"), media.fid_groups().count());
            }
        }
    }
}

#[test]
fn first_line_of_a_payload_type_counts_and_a_format_named_twice_is_one() {
    let sdp = read(
        "v=0\nm=video 0 RTP/AVP 96 97 96 +96 097 x x\na=rtpmap:96 none/0\n\
         a=RTPMAP: 96  H264/90000\na=rtpmap:96 H265/90000\na=fmtp:97 a=1\na=fmtp:96\n\
         a=fmtp:96 b=2\n",
    );
    let [video] = sdp.medias() else { panic!("{sdp:?}") };
    assert_eq!(video.formats, ["96", "97", "x"]);
    assert_eq!(video.encoding(96).map(|encoding| encoding.name), Some("H264".to_owned()));
    assert_eq!((video.fmtp(96), video.fmtp(97), video.fmtp(98)), (Some(""), Some("a=1"), None));
}
