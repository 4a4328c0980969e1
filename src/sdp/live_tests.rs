//! Behaviours of `describe_live`: what readers see of a source's description.

use proptest::prelude::*;

use super::*;
use crate::sdp::read::read_session;

fn media(source_index: usize) -> LiveMedia {
    let control = format!("trackID={source_index}");
    LiveMedia { source_index, control, fmtp: Vec::new(), rtx: None }
}

fn text(source: &SessionSdp, medias: &[LiveMedia]) -> String {
    let origin = "192.0.2.1".parse().unwrap();
    let name = "live/cam1";
    describe_live(&LiveDescription { source, name, session_id: 11, version: 22, origin, medias })
}

const CAMERA: &str = "v=0\r\no=- 99 1 IN IP4 10.0.0.7\r\ns=Media Presentation\r\ni=yard\r\n\
    e=NONE\r\nb=AS:5100\r\nc=IN IP4 10.0.0.7\r\nt=0 0\r\na=control:rtsp://10.0.0.7/1/\r\n\
    a=range:npt=0-\r\na=x-dimensions:1280,720\r\nm=video 0 RTP/AVPF 96 97\r\n\
    c=IN IP4 10.0.0.7\r\nb=AS:5000\r\na=recvonly\r\na=x-framerate:25\r\n\
    a=control:rtsp://10.0.0.7/1/trackID=1\r\na=rtpmap:96 H264/90000\r\n\
    a=fmtp:96 profile-level-id=420029; packetization-mode=1; sprop-parameter-sets=Z0,aO\r\n\
    a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=rtcp-fb:96 nack\r\na=ssrc:77 cname:x\r\n\
    a=candidate:1 1 UDP 1 10.0.0.7 9 typ host\r\na=ice-ufrag:f\r\na=crypto:1 X inline:k\r\n\
    y=unknown\r\na=Media_header:MEDIAINFO=494D4B48;\r\nm=audio 0 RTP/AVP 0\r\n\
    a=control:trackID=2\r\nm=application 0 RTP/AVP 107\r\n\
    a=rtpmap:107 vnd.onvif.metadata/90000\r\n";

#[test]
fn camera_is_described_faithfully_without_its_addresses() {
    let source = read_session(CAMERA.as_bytes()).unwrap();
    let text = text(&source, &[media(0), media(1), media(2), media(9)]);
    assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
    insta::assert_snapshot!(text.replace('\r', ""), @r"
    v=0
    o=- 11 22 IN IP4 192.0.2.1
    s=live/cam1
    i=yard
    e=NONE
    c=IN IP4 0.0.0.0
    b=AS:5100
    t=0 0
    a=x-dimensions:1280,720
    a=control:*
    m=video 0 RTP/AVP 96
    b=AS:5000
    a=x-framerate:25
    a=rtpmap:96 H264/90000
    a=fmtp:96 profile-level-id=420029; packetization-mode=1; sprop-parameter-sets=Z0,aO
    y=unknown
    a=Media_header:MEDIAINFO=494D4B48;
    a=control:trackID=0
    m=audio 0 RTP/AVP 0
    a=control:trackID=1
    m=application 0 RTP/AVP 107
    a=rtpmap:107 vnd.onvif.metadata/90000
    a=control:trackID=2
    ");
}

#[test]
fn parameters_that_changed_in_band_replace_the_old_ones_in_place() {
    let source = read_session(CAMERA.as_bytes()).unwrap();
    let change = |payload_type, name, value: &str| FmtpChange {
        payload_type,
        name,
        value: value.to_owned(),
    };
    let mut video = media(0);
    video.fmtp = vec![
        change(96, "sprop-parameter-sets", "Z1,aP"),
        change(96, "level-asymmetry-allowed", "1"),
    ];
    let mut audio = media(1);
    audio.fmtp = vec![change(0, "x", "1"), change(0, "y", "2")];
    let text = text(&source, &[video, audio]);
    let expected = "a=fmtp:96 profile-level-id=420029;packetization-mode=1;\
        sprop-parameter-sets=Z1,aP;level-asymmetry-allowed=1\r\n";
    assert!(text.contains(expected), "{text}");
    assert!(text.contains("m=audio 0 RTP/AVP 0\r\na=fmtp:0 x=1;y=2\r\na=control"), "{text}");
    assert_eq!(text.matches("a=fmtp:96").count(), 1);
}

#[test]
fn parameters_and_attributes_that_are_empty_are_not_passed_on() {
    let source = "v=0\r\no=- 9 1 IN IP4 10.0.0.7\r\ns=x\r\ni= \r\nt=0 0\r\na=x-name:\r\n\
        m=video 0 RTP/AVP 96 97\r\na=rtpmap:96 H264/90000\r\na=framerate:\r\n\
        a=fmtp:96 packetization-mode=1; sprop-parameter-sets=,;profile-level-id=42001F\r\n\
        a=rtpmap:97 H265/90000\r\na=fmtp:97 sprop-vps=;sprop-sps=;sprop-pps=\r\n\
        m=audio 0 RTP/AVP 98\r\na=rtpmap:98 mpeg4-generic/48000/2\r\n\
        a=fmtp:98 config=\r\na=recvonly\r\na=x-flag\r\n";
    let source = read_session(source.as_bytes()).unwrap();
    let change = FmtpChange { payload_type: 98, name: "mode", value: String::new() };
    let audio = LiveMedia { fmtp: vec![change], ..media(1) };
    let told = text(&source, &[media(0), audio]).replace('\r', "");
    insta::assert_snapshot!(told, @r"
    v=0
    o=- 11 22 IN IP4 192.0.2.1
    s=live/cam1
    c=IN IP4 0.0.0.0
    t=0 0
    a=x-name:
    a=control:*
    m=video 0 RTP/AVP 96 97
    a=rtpmap:96 H264/90000
    a=fmtp:96 packetization-mode=1;profile-level-id=42001F
    a=rtpmap:97 H265/90000
    a=control:trackID=0
    m=audio 0 RTP/AVP 98
    a=rtpmap:98 mpeg4-generic/48000/2
    a=x-flag
    a=control:trackID=1
    ");
    // A value that came in band since takes the place of the empty one.
    let change =
        FmtpChange { payload_type: 96, name: "sprop-parameter-sets", value: "Z0,aO".into() };
    let told = text(&source, &[LiveMedia { fmtp: vec![change], ..media(0) }]);
    let wanted =
        "a=fmtp:96 packetization-mode=1;sprop-parameter-sets=Z0,aO;profile-level-id=42001F\r\n";
    assert!(told.contains(wanted), "{told}");
}

#[test]
fn retransmission_is_offered_as_our_own() {
    let source = read_session(CAMERA.as_bytes()).unwrap();
    let rtx = Some(RtxOffer { payload_type: 98, time_ms: 1_000, takes_pli: false });
    let text = text(&source, &[LiveMedia { rtx, ..media(0) }]);
    assert!(text.contains("m=video 0 RTP/AVPF 96 98\r\n"), "{text}");
    let expected =
        "a=rtcp-fb:96 nack\r\na=rtpmap:98 rtx/90000\r\na=fmtp:98 apt=96;rtx-time=1000\r\n";
    assert!(text.contains(expected) && !text.contains(":97"), "{text}");
    let read = read_session(text.as_bytes()).unwrap();
    assert_eq!(read.medias()[0].rtx_of(96), Some(98));
    let rtx = Some(RtxOffer { payload_type: 98, time_ms: 1_000, takes_pli: true });
    let text = self::text(&source, &[LiveMedia { rtx, ..media(0) }]);
    assert!(text.contains("a=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\n"), "{text}");
}

#[test]
fn ipv6_connection_gets_ipv6_addresses() {
    let source = read_session(CAMERA.as_bytes()).unwrap();
    let origin = "2001:db8::1".parse().unwrap();
    let name = "";
    let description =
        LiveDescription { source: &source, name, session_id: 1, version: 1, origin, medias: &[] };
    let text = describe_live(&description);
    assert!(text.contains("o=- 1 1 IN IP6 2001:db8::1\r\ns=-\r\n"), "{text}");
    assert!(text.contains("c=IN IP6 ::\r\n"), "{text}");
}

proptest! {
    /// Whatever a publisher announces, readers get a description that a strict reader takes, with
    /// every unknown attribute of the media in it.
    #[test]
    fn strict_reader_takes_what_comes_of_any_announcement(
        lines in prop::collection::vec("a=x-[a-z]{1,8}(:[^\\r\\n]{0,20})?", 0..10),
        session in prop::collection::vec("[a-z]=[ -~]{0,20}|b=[A-Z]{1,2}:[0-9a]{0,3}", 0..10),
        control in any::<String>(), value in any::<String>(),
    ) {
        let session: Vec<_> = session.iter().filter(|line| !line.starts_with("m=")).collect();
        let mut announced = "v=0\n".to_owned();
        for line in session {
            announced += &format!("{line}\n");
        }
        announced += "m=video 5000 RTP/AVP 96\na=rtpmap:96 H264/90000\n";
        for line in &lines {
            announced += &format!("{line}\n");
        }
        let source = read_session(announced.as_bytes()).unwrap();
        let fmtp = vec![FmtpChange { payload_type: 96, name: "sprop", value }];
        let live = LiveMedia { control, fmtp, ..media(0) };
        let text = text(&source, &[live]);
        let strict = sdp_types::Session::parse(text.as_bytes());
        let strict = strict.unwrap_or_else(|error| panic!("{text}\n{error}"));
        prop_assert_eq!(strict.medias.len(), 1);
        prop_assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
        let kept = |attribute: &&sdp_types::Attribute| attribute.attribute.starts_with("x-");
        prop_assert_eq!(strict.medias[0].attributes.iter().filter(kept).count(), lines.len());
    }
}
