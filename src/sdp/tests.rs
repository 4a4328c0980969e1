//! Behaviours of `describe`: the whole text, and what a parser makes of it.

use proptest::prelude::*;

use super::*;
use crate::media::codec::PayloadFormat;
use crate::media::index::SampleIndex;
use crate::media::packetize::payload_format;

fn track(kind: MediaKind, payload: PayloadFormat) -> Track {
    Track {
        id: 1,
        kind,
        codec: None,
        other_codecs: Vec::new(),
        fourcc: *b"test",
        timescale: 1_000,
        language: None,
        size_pixels: None,
        index: SampleIndex::from_samples(Vec::new()),
        payload,
        hint: None,
        window_samples: 1,
        end: Npt::ZERO,
    }
}

fn video() -> Track {
    let payload = PayloadFormat {
        payload_type: 96,
        encoding_name: "H264".to_owned(),
        clock_rate_hz: 90_000,
        channels: None,
        fmtp: Some("packetization-mode=1;profile-level-id=42C01E".to_owned()),
    };
    Track { size_pixels: Some((640, 360)), ..track(MediaKind::Video, payload) }
}

fn audio(language: Option<&str>) -> Track {
    let language = language.map(Box::from);
    let payload = PayloadFormat {
        payload_type: 97,
        encoding_name: "mpeg4-generic".to_owned(),
        clock_rate_hz: 48_000,
        channels: Some(2),
        fmtp: Some("streamtype=5;mode=AAC-hbr;config=1190".to_owned()),
    };
    Track { language, ..track(MediaKind::Audio, payload) }
}

fn asset(tracks: Vec<Track>, duration: Npt) -> Asset {
    Asset {
        tracks,
        left_out: Vec::new(),
        duration,
        container: "mp4",
        file_bytes: 1_000_001,
        created_utc_ns: None,
        problems: Vec::new(),
    }
}

fn text(asset: &Asset, name: &str, origin: &str) -> String {
    let origin = origin.parse().unwrap();
    let (session_id, version, rtx, calls_eac3_ac3) = (11, 22, None, false);
    describe(&Description { asset, name, session_id, version, origin, rtx, calls_eac3_ac3 })
}

#[test]
fn film_with_two_tracks_is_described() {
    let asset = asset(vec![video(), audio(Some("deu"))], Npt(10_500_000_000));
    let text = text(&asset, "films/a b.mp4", "192.0.2.1");
    assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
    insta::assert_snapshot!(text.replace('\r', ""), @r"
    v=0
    o=- 11 22 IN IP4 192.0.2.1
    s=films/a b.mp4
    c=IN IP4 0.0.0.0
    b=AS:762
    t=0 0
    a=tool:headend
    a=range:npt=0-10.500
    a=control:*
    m=video 0 RTP/AVP 96
    a=rtpmap:96 H264/90000
    a=fmtp:96 packetization-mode=1;profile-level-id=42C01E
    a=framesize:96 640-360
    a=control:trackID=0
    m=audio 0 RTP/AVP 97
    a=rtpmap:97 mpeg4-generic/48000/2
    a=fmtp:97 streamtype=5;mode=AAC-hbr;config=1190
    a=lang:deu
    a=control:trackID=1
    ");
}

#[test]
fn retransmission_is_offered_behind_the_stream_it_repeats() {
    let asset = asset(vec![video()], Npt(10_500_000_000));
    let origin = "192.0.2.1".parse().unwrap();
    let (session_id, version, rtx) = (11, 22, Some((|_| 127) as fn(u8) -> u8));
    let (asset, name, calls_eac3_ac3) = (&asset, "a", false);
    let text =
        describe(&Description { asset, name, session_id, version, origin, rtx, calls_eac3_ac3 });
    let media = text.split_once("m=").unwrap().1.replace('\r', "");
    insta::assert_snapshot!(media, @r"
    video 0 RTP/AVPF 96 127
    a=rtpmap:96 H264/90000
    a=fmtp:96 packetization-mode=1;profile-level-id=42C01E
    a=framesize:96 640-360
    a=rtcp-fb:96 nack
    a=rtpmap:127 rtx/90000
    a=fmtp:127 apt=96;rtx-time=2000
    a=control:trackID=0
    ");
    let read = read::read_session(text.as_bytes()).unwrap();
    assert_eq!(read.medias()[0].rtx_of(96), Some(127));
}

#[test]
fn enhanced_ac_3_is_called_ac_3_for_players_that_know_no_other_name() {
    let codec = Codec::Eac3 { sample_rate_hz: 48_000, channels: 6 };
    let payload = payload_format(&codec, 0).unwrap();
    let track = Track { codec: Some(codec), ..track(MediaKind::Audio, payload) };
    let asset = &asset(vec![track, audio(None)], Npt(1));
    let origin = "192.0.2.1".parse().unwrap();
    for (calls_eac3_ac3, map) in [(false, "96 eac3/48000/6"), (true, "96 ac3/48000/6")] {
        let (name, session_id, version, rtx) = ("a", 11, 22, None);
        let d = Description { asset, name, session_id, version, origin, rtx, calls_eac3_ac3 };
        let text = describe(&d);
        assert!(text.contains(&format!("a=rtpmap:{map}\r\n")), "{text}");
        assert!(text.contains("a=rtpmap:97 mpeg4-generic/48000/2\r\n"), "{text}");
    }
}

#[test]
fn ipv6_connection_gets_ipv6_addresses() {
    let text = text(&asset(Vec::new(), Npt(1)), "a", "2001:db8::1");
    assert!(text.contains("o=- 11 22 IN IP6 2001:db8::1\r\n"), "{text}");
    assert!(text.contains("c=IN IP6 ::\r\n"), "{text}");
}

#[test]
fn unknown_duration_has_an_open_range_and_no_bandwidth() {
    let text = text(&asset(Vec::new(), Npt::ZERO), "a", "192.0.2.1");
    assert!(text.contains("a=range:npt=0-\r\n") && !text.contains("b=AS"), "{text}");
}

#[test]
fn unnamed_language_is_left_out() {
    let asset = asset(vec![audio(Some("und")), audio(Some("\0\u{1}\u{2}"))], Npt(1));
    assert!(!text(&asset, "a", "192.0.2.1").contains("a=lang"));
}

#[test]
fn empty_name_becomes_a_dash() {
    for name in ["", "\r\n", "  "] {
        assert!(text(&asset(Vec::new(), Npt(1)), name, "192.0.2.1").contains("\r\ns=-\r\n"));
    }
}

proptest! {
    /// The name comes from the file system, fmtp and encoding from the file: none adds a line.
    #[test]
    fn sdp_types_reads_every_description_back(
        name in any::<String>(), fmtp in any::<String>(), encoding in "[A-Za-z0-9-]{1,20}",
        duration in 0i64.., v6: bool,
    ) {
        let mut video = video();
        video.payload.fmtp = Some(fmtp);
        video.payload.encoding_name = encoding.clone();
        let asset = asset(vec![video, audio(None)], Npt(duration));
        let origin = if v6 { "::1" } else { "127.0.0.1" };
        let text = text(&asset, &name, origin);
        let session = Session::parse(text.as_bytes()).unwrap();
        prop_assert_eq!(session.origin.unicast_address, origin);
        prop_assert_eq!(session.medias.len(), 2);
        let controls: Vec<_> = session.medias.iter().map(|media| {
            let first = &media.attributes.first().unwrap().attribute;
            assert_eq!(first, "rtpmap");
            media.get_first_attribute_value("control").unwrap().map(str::to_owned)
        }).collect();
        prop_assert_eq!(
            controls, [Some("trackID=0".to_owned()), Some("trackID=1".to_owned())]
        );
        let rtpmap = session.medias.first().unwrap().get_first_attribute_value("rtpmap");
        let expected = format!("96 {encoding}/90000");
        prop_assert_eq!(rtpmap.unwrap(), Some(expected.as_str()));
    }
}
