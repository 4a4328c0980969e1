//! Cost of the description of an untrusted publisher.

use proptest::prelude::*;

use super::*;
use crate::sdp::publish::{check_announced, media_of_setup};
use crate::sdp::read::{SDP_BYTES_MAX, read_session};
use crate::sdp::session::LINES_LOOKED_AT;

const URL: &str = "rtsp://192.0.2.1/live/a";

/// Takes an announcement: parses it, describes it, finds its tracks by SETUP and, when its
/// parameter sets change, describes it again. Returns the lines read and the bytes written.
fn work(text: &str) -> Option<(usize, usize)> {
    LINES_LOOKED_AT.set(0);
    let sdp = read_session(text.as_bytes()).ok()?;
    check_announced(&sdp, false).ok()?;
    let origin = Origin { local: [192, 0, 2, 1].into(), session_id: 1, version: 1 };
    let made = description(&sdp, "live/a", origin).ok()?;
    let tracks: Vec<_> = sdp.medias().iter().map(PublisherTrack::new).collect();
    let change =
        |payload_type: u8| FmtpChange { payload_type, name: "sprop-pps", value: "x".into() };
    let again =
        describe(&sdp, "live/a", origin, |at| vec![change(tracks[at].payload_type)]).ok()?;
    assert_eq!(media_of_setup(&sdp, URL, "rtsp://192.0.2.1/live/a/none"), None);
    let bytes = |made: &Description| {
        let identities = made.tracks.iter().map(|track| track.identity.len());
        made.text(false).len() + made.text(true).len() + identities.sum::<usize>()
    };
    Some((LINES_LOOKED_AT.get(), bytes(&made) + bytes(&again)))
}

fn assert_linear(text: &str) {
    let Some((lines, bytes)) = work(text) else { return };
    let count = text.lines().count();
    // Some 70 passes over the lines of a media, whatever they are; a line may be a single letter.
    assert!(lines <= 70 * count, "{lines} lines looked at for {count}");
    // Six copies, and what each media and description begins with.
    assert!(
        bytes <= 6 * text.len() + 4_096 + 1_024 * count,
        "{bytes} bytes made of {}",
        text.len()
    );
}

#[test]
fn h264_is_described_as_fragmented_and_stays_the_same_track() {
    let media = "v=0\nm=video 0 RTP/AVP 96\na=rtpmap:96 H264/90000\n";
    let origin = Origin { local: [192, 0, 2, 1].into(), session_id: 1, version: 1 };
    for (fmtp, expected) in [
        ("", Some("packetization-mode=1")),
        (
            "a=fmtp:96 profile-level-id=42C01E\n",
            Some("profile-level-id=42C01E;packetization-mode=1"),
        ),
        ("a=fmtp:96 packetization-mode=0;x=1\n", Some("packetization-mode=1;x=1")),
        ("a=fmtp:96 packetization-mode=1;x=1\n", Some("packetization-mode=1;x=1")),
        ("a=fmtp:96 packetization-mode=2\n", Some("packetization-mode=2")),
    ] {
        let text = format!("{media}{fmtp}");
        for (text, expected) in [(text.clone(), expected), (text.replace("H264", "VP8"), None)] {
            let sdp = read_session(text.as_bytes()).unwrap();
            let made = description(&sdp, "live/a", origin).unwrap();
            if let Some(expected) = expected {
                assert!(made.text(false).contains(&format!("a=fmtp:96 {expected}\r\n")), "{fmtp}");
            } else {
                let has_mode = |text: &str| text.contains("packetization-mode=1");
                assert_eq!(has_mode(made.text(false)), has_mode(fmtp), "{fmtp}");
            }
            assert_eq!(made.tracks[0].identity, live_track(&sdp.medias()[0]).identity);
            let own = fmtp.trim().strip_prefix("a=fmtp:96 ").unwrap_or_default();
            assert!(made.tracks[0].identity.ends_with(&format!(" 96:{own}")));
        }
    }
}

#[test]
fn long_description_is_taken_in_as_many_steps_as_it_has_lines() {
    let formats: Vec<String> = (0..128).map(|number| number.to_string()).collect();
    let formats = formats.join(" ");
    let lines = |line: &str| -> String {
        (0..500).map(|n| line.replace('#', &(n % 128).to_string())).collect()
    };
    let long = "x".repeat(30_000);
    for text in [
        format!("v=0\nm=video 0 RTP/AVP {formats}\n{}", lines("a=rtpmap:# rtx/90000\n")),
        format!("v=0\nm=video 0 RTP/AVP {formats}\n{}", lines("a=fmtp:# apt=#;rtx-time=9\n")),
        format!("v=0\nm=video 0 RTP/AVPF {formats}\n{}", lines("a=rtcp-fb:# nack pli\n")),
        format!("v=0\nm=video 0 RTP/AVP {}\na=fmtp:96 {long}\n", "96 ".repeat(120)),
        format!("v=0\n{}", format!("m=video 0 RTP/AVP {formats}\n").repeat(16)),
        format!("v=0\n{}", "m=audio 0 RTP/AVP 0\na=control:x\n".repeat(16)),
    ] {
        assert!(work(&text).is_some(), "{text}");
        assert_linear(&text);
    }
}

proptest! {
    #[test]
    fn any_description_is_taken_in_as_many_steps_as_it_has_lines(
        medias in prop::collection::vec((
            prop::collection::vec(90_u8..127, 1..128),
            prop::collection::vec((0_usize..7, 90_u8..127), 0..300),
        ), 1..16),
    ) {
        let mut text = "v=0\n".to_owned();
        for (formats, lines) in medias {
            let formats: Vec<String> = formats.iter().map(u8::to_string).collect();
            text += &format!("m=video 0 RTP/AVPF {}\n", formats.join(" "));
            for (kind, number) in lines {
                text += &match kind {
                    0 => format!("a=rtpmap:{number} H264/90000\n"),
                    1 => format!("a=rtpmap:{number} rtx/90000\n"),
                    2 => format!("a=fmtp:{number} apt=96;sprop-pps=aaaa\n"),
                    3 => format!("a=rtcp-fb:{number} nack\n"),
                    4 => "a=control:x\n".to_owned(),
                    5 => format!("a=x-{number}:0\n"),
                    _ => "b=AS:1\n".to_owned(),
                };
            }
        }
        prop_assume!(text.len() <= SDP_BYTES_MAX);
        assert_linear(&text);
    }
}
