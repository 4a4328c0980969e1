//! A path from packets to playlists: what is listed, what another source changes, what never
//! happens.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::*;
use crate::base::ids::{RtpTs, SeqNo, Ssrc};
use crate::base::time::Mono;
use crate::hls::resource::{Rendition, Revision};
use crate::live::core::batch::{Arrival, BatchBuilder, Generation, PacketBatch};
use crate::live::core::clock::ClockPoint;
use crate::live::core::description::{Description, LiveTrack};

/// 1920x1080, High, with a picture that is shown later than it is decoded.
const SPS: &[u8] = &[
    0x27, 0x64, 0x00, 0x2A, 0xAC, 0x24, 0x8C, 0x07, 0x80, 0x22, 0x7E, 0x5C, 0x04, 0x40, 0x00, 0x00,
    0x03, 0x00, 0x40, 0x00, 0x00, 0x1E, 0x38, 0xA0, 0x00, 0x0B, 0x71, 0xB0, 0x00, 0x16, 0xE3, 0x7B,
    0xDE, 0xE0, 0x3E, 0x11, 0x08, 0xA7,
];
const PPS: &[u8] = &[0x28, 0xDE, 0xBC, 0xB0];

fn description(video: &str) -> Description {
    Description::new(sdp(video).into(), vec![track(90_000, 96)]).unwrap()
}

/// With Opus beside the video.
fn description_with_sound() -> Description {
    let sound = "m=audio 0 RTP/AVP 97\r\na=rtpmap:97 opus/48000/2\r\n";
    let sdp = sdp("H264/90000") + sound;
    Description::new(sdp.into(), vec![track(90_000, 96), track(48_000, 97)]).unwrap()
}

/// With two sounds beside the video, or with the first one alone.
fn description_with_sounds(count: usize) -> Description {
    let sounds = [(97, "en"), (98, "de")].into_iter().take(count);
    let lines = sounds.clone().map(|(pt, lang)| {
        format!("m=audio 0 RTP/AVP {pt}\r\na=rtpmap:{pt} opus/48000/2\r\na=lang:{lang}\r\n")
    });
    let sdp = sdp("H264/90000") + &lines.collect::<String>();
    let tracks = sounds.map(|(payload_type, _)| track(48_000, payload_type));
    let tracks = std::iter::once(track(90_000, 96)).chain(tracks).collect();
    Description::new(sdp.into(), tracks).unwrap()
}

fn track(clock_rate_hz: u32, payload_type: u8) -> LiveTrack {
    let needs_sync = payload_type == 96;
    let identity = payload_type.to_string().into();
    LiveTrack { clock_rate_hz, payload_types: vec![payload_type], needs_sync, identity }
}

fn sdp(video: &str) -> String {
    format!(
        "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n\
         a=rtpmap:96 {video}\r\na=fmtp:96 packetization-mode=1;sprop-parameter-sets={},{}\r\n",
        STANDARD.encode(SPS),
        STANDARD.encode(PPS)
    )
}

fn batch(generation: u32, (seq, ts): (u16, u32), is_sync: bool, payload: &[u8]) -> PacketBatch {
    let mut builder = BatchBuilder::default();
    push(&mut builder, 0, 9, (seq, ts, true, is_sync), payload);
    builder.build(Generation(generation), |_| Some(at(0))).unwrap()
}

/// RTP time 0 is at that many milliseconds behind a beginning.
fn at(ms: i64) -> ClockPoint {
    ClockPoint { utc_ns: 1_700_000_000_000_000_000 + ms * 1_000_000, ts: RtpTs(0) }
}

/// Adds a packet of track 0 (video) or 1 (sound): number, time, marker, begin of a key frame.
fn push(
    builder: &mut BatchBuilder,
    track: u8,
    ssrc: u32,
    (seq, ts, marker, is_sync): (u16, u32, bool, bool),
    payload: &[u8],
) {
    let mut bytes = vec![0x80, u8::from(marker) << 7 | (96 + track)];
    bytes.extend_from_slice(&seq.to_be_bytes());
    bytes.extend_from_slice(&ts.to_be_bytes());
    bytes.extend_from_slice(&ssrc.to_be_bytes());
    bytes.extend_from_slice(payload);
    let (seq, ts, ssrc, header_bytes) = (SeqNo(seq), RtpTs(ts), Ssrc(ssrc), 12);
    let bytes = &bytes;
    let arrival = Arrival { track, ssrc, seq, ts, marker, header_bytes, is_sync, bytes };
    builder.push(&arrival, Mono(0)).unwrap();
}

/// Pictures of 25 a second with a key frame each second.
fn feed(muxer: &mut Muxer, generation: u32, pictures: std::ops::Range<u16>) {
    for n in pictures {
        feed_one(muxer, generation, n, u32::from(n) * 3_600, n.is_multiple_of(25));
    }
}

fn feed_one(muxer: &mut Muxer, generation: u32, seq: u16, ts: u32, is_sync: bool) {
    let payload = [if is_sync { 0x65 } else { 0x41 }, 1, 2, 3];
    muxer.handle_batch(&batch(generation, (seq, ts), is_sync, &payload)).unwrap();
}

fn playlist(muxer: &Muxer) -> String {
    String::from_utf8(muxer.snapshot().playlist(Rendition::MAIN, "").to_vec()).unwrap()
}

/// Values of all lines with a tag.
fn values(text: &str, tag: &str) -> Vec<f64> {
    let values = text.lines().filter_map(|line| line.strip_prefix(tag));
    values.map(|value| value.split(',').next().unwrap().parse().unwrap()).collect()
}

/// RFC 8216 s4.3.3.1, rfc8216bis s4.4.3.7.
fn assert_nothing_is_longer_than_stated(text: &str) {
    let target = values(text, "#EXT-X-TARGETDURATION:")[0];
    let part_target = values(text, "#EXT-X-PART-INF:PART-TARGET=")[0];
    let (segments, parts) = (values(text, "#EXTINF:"), values(text, "#EXT-X-PART:DURATION="));
    assert!(segments.iter().all(|seconds| seconds.round() <= target), "{text}");
    assert!(parts.iter().all(|seconds| *seconds <= part_target), "{text}");
}

#[test]
fn path_begins_with_a_key_frame_and_is_listed_in_parts_and_segments() {
    let mut muxer = Muxer::new(Revision(1), 1 << 20);
    muxer.begin(Generation(1), &description("H264/90000")).unwrap();
    feed(&mut muxer, 1, 7..25);
    assert!(!muxer.has_begun(), "no key frame yet");
    feed(&mut muxer, 1, 25..200);
    let snapshot = muxer.snapshot();
    assert!(snapshot.is_playable());
    let text = String::from_utf8(snapshot.playlist(Rendition::MAIN, "").to_vec()).unwrap();
    assert!(text.contains("#EXTINF:2.000000,\nmain-0000000000000001-1.m4s\n"), "{text}");
    assert!(text.contains("#EXT-X-PART:DURATION=0.520000,"), "{text}");
    assert!(text.contains("#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:21.000Z"), "{text}");
    let multivariant = snapshot.multivariant().unwrap();
    assert_eq!(multivariant.codecs, "avc1.64002A");
    assert_eq!(multivariant.size_pixels, Some((1920, 1080)));
    let init = snapshot.init(Rendition::MAIN, 0).unwrap();
    assert_eq!(&init[4..8], b"ftyp");
    assert_eq!(muxer.take_counts().frames_lost, 0);
}

#[test]
fn numbers_of_segments_begin_where_a_run_is_told_to() {
    let mut muxer = Muxer::new(Revision(1), 1 << 20).numbered_from(7_000);
    assert_eq!(muxer.snapshot().next_part(), (7_000, 0));
    muxer.begin(Generation(1), &description("H264/90000")).unwrap();
    feed(&mut muxer, 1, 0..80);
    let text = playlist(&muxer);
    assert!(text.contains("#EXT-X-MEDIA-SEQUENCE:7000\n"), "{text}");
    assert!(text.contains("\nmain-0000000000000001-7000.m4s\n"), "{text}");
}

#[test]
fn another_source_goes_on_behind_a_discontinuity() {
    let mut muxer = Muxer::new(Revision(1), 1 << 20);
    muxer.begin(Generation(1), &description("H264/90000")).unwrap();
    feed(&mut muxer, 1, 0..120);
    muxer.begin(Generation(2), &description("H264/90000")).unwrap();
    feed(&mut muxer, 1, 120..130);
    feed(&mut muxer, 2, 1_000..1_120);
    muxer.end();
    let text = String::from_utf8(muxer.snapshot().playlist(Rendition::MAIN, "").to_vec()).unwrap();
    assert_eq!(text.matches("#EXT-X-DISCONTINUITY\n").count(), 1, "{text}");
    assert!(text.contains("-i1.mp4") && text.ends_with("#EXT-X-ENDLIST\n"), "{text}");
}

#[test]
fn pictures_that_slow_down_make_segments_without_parts() {
    let mut muxer = Muxer::new(Revision(1), 1 << 20);
    muxer.begin(Generation(1), &description("H264/90000")).unwrap();
    feed(&mut muxer, 1, 0..50);
    for n in 0..12 {
        feed_one(&mut muxer, 1, 50 + n, 180_000 + u32::from(n) * 108_000, n.is_multiple_of(4));
    }
    let text = playlist(&muxer);
    assert_nothing_is_longer_than_stated(&text);
    assert!(values(&text, "#EXTINF:").contains(&3.6), "three pictures of 1.2 s: {text}");
    assert!(!text.contains("#EXT-X-DISCONTINUITY\n"), "{text}");
}

#[test]
fn pictures_that_pause_for_longer_than_a_segment_go_on_behind_a_discontinuity() {
    let mut muxer = Muxer::new(Revision(1), 1 << 20);
    muxer.begin(Generation(1), &description("H264/90000")).unwrap();
    feed(&mut muxer, 1, 0..55);
    // Twenty seconds later, in the middle of a group of pictures.
    for n in 55..160 {
        feed_one(&mut muxer, 1, n, 1_800_000 + u32::from(n) * 3_600, n.is_multiple_of(25));
    }
    let text = playlist(&muxer);
    assert_nothing_is_longer_than_stated(&text);
    assert_eq!(text.matches("#EXT-X-DISCONTINUITY\n").count(), 1, "{text}");
    assert_eq!(values(&text, "#EXT-X-TARGETDURATION:"), [4.0]);
    let seconds: f64 = values(&text, "#EXTINF:").iter().sum();
    assert!((seconds - 4.2).abs() < 0.02, "55 pictures, then from the next key frame on: {text}");
}

/// Fifteen seconds of pictures and sound. The clock of the sound says so many milliseconds more
/// behind each second.
fn with_sound(off_ms_a_second: i64) -> String {
    let mut muxer = Muxer::new(Revision(1), 1 << 20);
    muxer.begin(Generation(1), &description_with_sound()).unwrap();
    for n in 0..375_u16 {
        let mut builder = BatchBuilder::default();
        let is_sync = n.is_multiple_of(25);
        let payload = [if is_sync { 0x65 } else { 0x41 }, 1, 2, 3];
        push(&mut builder, 0, 9, (n, u32::from(n) * 3_600, true, is_sync), &payload);
        for half in 0..2 {
            let seq = 2 * n + half;
            push(&mut builder, 1, 8, (seq, u32::from(seq) * 960, true, true), &[0xfc, 1]);
        }
        let off_ms = off_ms_a_second * i64::from(n / 25);
        let clock = |track: u8| Some(at(if track == 1 { off_ms } else { 0 }));
        muxer.handle_batch(&builder.build(Generation(1), clock).unwrap()).unwrap();
    }
    assert_eq!(muxer.take_counts().frames_lost, 0);
    playlist(&muxer)
}

#[test]
fn sound_that_drifts_from_the_picture_is_placed_anew() {
    let text = with_sound(0);
    assert_eq!(text.matches("#EXT-X-DISCONTINUITY\n").count(), 0, "{text}");
    // 200 ms are reached with the eleventh second.
    for off_ms in [20, -20] {
        let text = with_sound(off_ms);
        assert_eq!(text.matches("#EXT-X-DISCONTINUITY\n").count(), 1, "{off_ms} {text}");
    }
}

/// Feeds pictures, and of each sound two frames a picture.
fn feed_with_sounds(
    muxer: &mut Muxer,
    generation: u32,
    sounds: u8,
    pictures: std::ops::Range<u16>,
) {
    for n in pictures {
        let mut builder = BatchBuilder::default();
        let is_sync = n.is_multiple_of(25);
        let payload = [if is_sync { 0x65 } else { 0x41 }, 1, 2, 3];
        push(&mut builder, 0, 9, (n, u32::from(n) * 3_600, true, is_sync), &payload);
        for (sound, half) in (1..=sounds).flat_map(|sound| [(sound, 0), (sound, 1)]) {
            let (seq, ssrc) = (2 * n + half, u32::from(sound));
            push(
                &mut builder,
                sound,
                ssrc,
                (seq, u32::from(seq) * 960, true, true),
                &[0xfc, sound],
            );
        }
        muxer
            .handle_batch(&builder.build(Generation(generation), |_| Some(at(0))).unwrap())
            .unwrap();
    }
}

/// Lines that say how long something is, and where lists begin.
fn times_of(text: &str) -> Vec<&str> {
    let tags = ["#EXTINF", "#EXT-X-PART:DURATION", "#EXT-X-MEDIA-SEQUENCE", "#EXT-X-DISCONTINUITY"];
    let lines = text.lines().filter(|line| tags.iter().any(|tag| line.starts_with(tag)));
    lines.map(|line| line.split(',').next().unwrap()).collect()
}

#[test]
fn several_sounds_are_renditions_with_the_same_parts_as_the_picture() {
    let mut muxer = Muxer::new(Revision(1), 1 << 20);
    muxer.begin(Generation(1), &description_with_sounds(2)).unwrap();
    feed_with_sounds(&mut muxer, 1, 2, 0..190);
    let snapshot = muxer.snapshot();
    let sounds = snapshot.multivariant().unwrap().sounds.clone();
    let sounds: Vec<_> = sounds.iter().map(|of| (of.rendition.0, of.name.as_str())).collect();
    assert_eq!(sounds, [(1, "English"), (2, "Deutsch")]);
    assert_eq!(snapshot.multivariant().unwrap().codecs, "avc1.64002A,opus");
    let text = |rendition| {
        String::from_utf8(snapshot.playlist(Rendition(rendition), "").to_vec()).unwrap()
    };
    let main = text(0);
    for rendition in [1, 2] {
        let sound = text(rendition);
        assert_eq!(times_of(&sound), times_of(&main));
        assert!(!sound.contains("GAP"), "{sound}");
        let alone = sound.matches(",INDEPENDENT=YES").count();
        assert_eq!(alone, sound.matches("#EXT-X-PART:").count(), "each part of sound stands alone");
        let report = "#EXT-X-RENDITION-REPORT:URI=\"main.m3u8\",LAST-MSN=";
        assert!(
            sound.contains(report) && main.contains("URI=\"sound-1.m3u8\",LAST-MSN="),
            "{main}"
        );
        assert!(sound.contains(&format!("#EXT-X-MAP:URI=\"sound-{rendition}-")), "{sound}");
        // Frames of the sound, and of nothing else.
        let segment = snapshot.segment(1).unwrap();
        let frames: Vec<u8> = segment
            .of(Rendition(rendition))
            .flat_map(|part| {
                let mdat = part.windows(4).position(|four| four == b"mdat").unwrap();
                part[mdat + 4..].to_vec()
            })
            .collect();
        let wanted = [0xfc, u8::try_from(rendition).unwrap()].repeat(100);
        assert_eq!(frames, wanted, "two seconds");
    }
    assert!(!snapshot.has_rendition(Rendition(3)) && snapshot.init(Rendition(3), 0).is_none());
}

/// A viewer goes on with the renditions that the playlist has named.
#[test]
fn sound_that_another_source_lacks_is_a_gap_and_one_more_is_left_out() {
    let mut muxer = Muxer::new(Revision(1), 1 << 20);
    muxer.begin(Generation(1), &description_with_sounds(2)).unwrap();
    feed_with_sounds(&mut muxer, 1, 2, 0..100);
    muxer.begin(Generation(2), &description_with_sounds(1)).unwrap();
    feed_with_sounds(&mut muxer, 2, 1, 1_000..1_100);
    muxer.end();
    let snapshot = muxer.snapshot();
    let text = |rendition| {
        String::from_utf8(snapshot.playlist(Rendition(rendition), "").to_vec()).unwrap()
    };
    assert_eq!(times_of(&text(2)), times_of(&text(0)));
    assert!(text(2).contains(",GAP=YES\n") && text(2).contains("#EXT-X-GAP\n"), "{}", text(2));
    assert!(!text(1).contains("GAP"), "{}", text(1));
    assert_eq!(snapshot.multivariant().unwrap().sounds.len(), 2);
    let mut muxer = Muxer::new(Revision(1), 1 << 20);
    muxer.begin(Generation(1), &description_with_sounds(1)).unwrap();
    feed_with_sounds(&mut muxer, 1, 1, 0..100);
    muxer.begin(Generation(2), &description_with_sounds(2)).unwrap();
    feed_with_sounds(&mut muxer, 2, 2, 1_000..1_100);
    let snapshot = muxer.snapshot();
    assert!(snapshot.multivariant().unwrap().sounds.is_empty());
    assert!(!snapshot.has_rendition(Rendition(1)), "sound and picture stay in one rendition");
}

/// A line that ends in the middle of a batch must not take the frame that is under way with it.
#[test]
fn frame_under_way_goes_on_behind_a_discontinuity() {
    let mut muxer = Muxer::new(Revision(1), 1 << 20);
    muxer.begin(Generation(1), &description("H264/90000")).unwrap();
    feed(&mut muxer, 1, 0..75);
    let mut builder = BatchBuilder::default();
    let ts = 1_800_000_u32;
    // A pause; a key frame, and the first half of the picture behind it.
    push(&mut builder, 0, 9, (75, ts, true, true), &[0x65, 1, 2]);
    push(&mut builder, 0, 9, (76, ts + 3_600, false, false), &[0x5c, 0x81, 1]);
    muxer.handle_batch(&builder.build(Generation(1), |_| Some(at(0))).unwrap()).unwrap();
    let mut builder = BatchBuilder::default();
    push(&mut builder, 0, 9, (77, ts + 3_600, true, false), &[0x5c, 0x41, 2]);
    muxer.handle_batch(&builder.build(Generation(1), |_| Some(at(0))).unwrap()).unwrap();
    assert!(playlist(&muxer).contains("#EXT-X-PART"));
    assert_eq!(muxer.take_counts().frames_lost, 0);
}

/// A source that restarts its encoder begins with any number.
#[test]
fn stream_with_another_ssrc_is_taken_up_whatever_its_numbers_are() {
    let mut muxer = Muxer::new(Revision(1), 1 << 20);
    muxer.begin(Generation(1), &description("H264/90000")).unwrap();
    feed(&mut muxer, 1, 0..100);
    let before = muxer.take_counts();
    for n in 0..100_u16 {
        let (seq, ts) = (60_000 + n, (100 + u32::from(n)) * 3_600);
        let is_sync = n.is_multiple_of(25);
        let mut builder = BatchBuilder::default();
        let payload = [if is_sync { 0x65 } else { 0x41 }, 1, 2, 3];
        push(&mut builder, 0, 10, (seq, ts, true, is_sync), &payload);
        muxer.handle_batch(&builder.build(Generation(1), |_| Some(at(0))).unwrap()).unwrap();
    }
    let counts = muxer.take_counts();
    assert_eq!((before.frames_lost, counts.frames_lost), (0, 0));
    assert!(counts.parts >= 7, "{counts:?}");
}

#[test]
fn clock_that_cannot_place_pictures_is_refused() {
    for hz in ["1", "999", "4000000000"] {
        let mut muxer = Muxer::new(Revision(1), 1 << 20);
        let of = description(&format!("H264/{hz}"));
        let refused = muxer.begin(Generation(1), &of).unwrap_err().to_string();
        assert!(refused.contains(&format!("on a clock of {hz} Hz")), "{refused}");
    }
}

#[test]
fn path_that_a_browser_cannot_show_says_why() {
    let mut muxer = Muxer::new(Revision(1), 1 << 20);
    let refused = muxer.begin(Generation(1), &description("MP2T/90000")).unwrap_err();
    let reason = "the video of this path is MP2T, which is not served to browsers";
    assert_eq!(refused.to_string(), reason);
}

proptest! {
    #[test]
    fn arbitrary_packets_never_panic_and_memory_stays_bounded(
        packets in proptest::collection::vec(
            (any::<bool>(), any::<u16>(), any::<u32>(), proptest::collection::vec(any::<u8>(), 1..20)),
            1..200,
        ),
    ) {
        let mut muxer = Muxer::new(Revision(1), 4_096);
        muxer.begin(Generation(1), &description("H264/90000")).unwrap();
        for (n, (is_sync, skip, jump, payload)) in (0_u16..).zip(&packets) {
            let jump = if skip.is_multiple_of(9) { *jump } else { 0 };
            let ts = (u32::from(n) * 3_600).wrapping_add(jump);
            let first = if payload[0].is_multiple_of(3) { 0x65 } else { payload[0] };
            let payload = [&[first][..], payload].concat();
            let batch = batch(1, (n.wrapping_add(u16::from(skip.is_multiple_of(7))), ts), *is_sync, &payload);
            let _shown = muxer.handle_batch(&batch);
        }
        if muxer.has_begun() {
            assert_nothing_is_longer_than_stated(&playlist(&muxer));
        }
    }
}
