//! Cuts of titles: where they are, and that nothing is lost or sent twice.

use proptest::prelude::*;

use super::*;
use crate::base::time::Npt;
use crate::media::codec::{Codec, PayloadFormat};
use crate::media::index::{Sample, SampleIndex};

const IDENTITY: FileIdentity = FileIdentity { device: 1, inode: 2, bytes: 3, modified_ns: 4 };

fn track(id: u32, codec: Codec, kind: MediaKind, timescale: u32, samples: Vec<Sample>) -> Track {
    let index = SampleIndex::from_samples(samples);
    let end = Npt::from_ticks(index.end_ticks(), timescale);
    Track {
        id,
        kind,
        codec: Some(codec),
        other_codecs: Vec::new(),
        fourcc: *b"test",
        timescale,
        language: None,
        size_pixels: Some((320, 240)),
        index,
        payload: PayloadFormat {
            payload_type: 96,
            encoding_name: "TEST".to_owned(),
            clock_rate_hz: 90_000,
            channels: None,
            fmtp: None,
        },
        hint: None,
        window_samples: 1,
        end,
    }
}

fn asset(tracks: Vec<Track>) -> Asset {
    let duration = tracks.iter().map(|track| track.end).max().unwrap_or(Npt::ZERO);
    Asset {
        tracks,
        left_out: Vec::new(),
        duration,
        container: "mp4",
        file_bytes: 1 << 30,
        created_utc_ns: None,
        problems: Vec::new(),
    }
}

fn h264() -> Codec {
    let set = |bytes: &[u8]| vec![bytes.to_vec()];
    let (sps, pps) = (set(&[0x67, 0x42, 0xc0, 0x1e]), set(&[0x68]));
    Codec::H264 { nal_length_bytes: 4, sps, pps }
}

/// Video of 25 pictures a second with sync samples at these pictures, and sound of 50 frames a
/// second, one behind the other in the file; the sound begins `priming` before the picture.
fn title(pictures: u32, syncs: &[u32], sounds: u32, priming: i64) -> Asset {
    let mut at = 0;
    let mut next = |bytes: u32| {
        let offset = at;
        at += u64::from(bytes);
        offset
    };
    let video = (0..pictures).map(|n| {
        let (bytes, time) = (100 + n % 7, i64::from(n) * 3_600);
        let is_sync = n == 0 || syncs.contains(&n);
        let (offset, duration) = (next(bytes), 3_600);
        Sample { offset, bytes, dts: time, pts: time, duration, is_sync, is_disposable: false }
    });
    let video: Vec<_> = video.collect();
    let sound = (0..sounds).map(|n| {
        let (bytes, time) = (10 + n % 5, i64::from(n) * 960 - priming);
        let (offset, duration) = (next(bytes), 960);
        Sample {
            offset,
            bytes,
            dts: time,
            pts: time,
            duration,
            is_sync: true,
            is_disposable: false,
        }
    });
    let sound = sound.collect();
    let opus = Codec::Opus { channels: 2 };
    let mut tracks = Vec::new();
    if pictures > 0 {
        tracks.push(track(1, h264(), MediaKind::Video, 90_000, video));
    }
    tracks.push(track(2, opus, MediaKind::Audio, 48_000, sound));
    asset(tracks)
}

#[test]
fn segments_begin_at_the_first_sync_sample_behind_four_seconds() {
    let asset = title(500, &[50, 100, 120, 225, 400], 1_000, 0);
    let plan = TitlePlan::new(&asset, IDENTITY).unwrap();
    assert_eq!(plan.ends_us, [4_000_000, 9_000_000, 16_000_000, 20_000_000]);
    assert_eq!(plan.renditions[0].tracks[0].firsts, [0, 100, 225, 400, 500]);
    assert_eq!(plan.renditions[0].tracks[1].firsts, [0, 200, 450, 800, 1_000]);
    assert_eq!(plan.multivariant.codecs, "avc1.42C01E,opus");
    assert_eq!(plan.start_s, 0);
}

/// Caches keep segments by their names for a year. When this fails, `PLAN_VERSION` is to be raised,
/// and then the hash below.
#[test]
fn bytes_of_a_title_are_those_of_this_version() {
    let one = title(500, &[50, 100, 120, 225, 400], 1_000, 312);
    assert_eq!((PLAN_VERSION, hash_of(&one).as_str()), (2, "5eb43cabcfdd6625"));
    let several = with_sounds(title(500, &[100, 225, 400], 900, 312), &[None, Some("deu")]);
    assert_eq!((PLAN_VERSION, hash_of(&several).as_str()), (2, "502a75dcec9e926d"));
}

/// Of all bytes of all renditions.
fn hash_of(asset: &Asset) -> String {
    let plan = TitlePlan::new(asset, IDENTITY).unwrap();
    let mut hasher = blake3::Hasher::new();
    for rendition in (0..).map(Rendition) {
        let Some(init) = plan.init(rendition) else { break };
        hasher.update(init);
        for number in 0..plan.ends_us.len() as u64 {
            let segment = plan.segment(asset, rendition, number).unwrap().unwrap();
            hasher.update(&segment.head);
            segment.ranges.iter().for_each(|(offset, bytes)| {
                hasher.update(&[offset.to_be_bytes(), bytes.to_be_bytes()].concat());
            });
        }
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

/// With further sounds of these languages, of 300 frames each.
fn with_sounds(asset: Asset, languages: &[Option<&str>]) -> Asset {
    let mut tracks = asset.tracks;
    for language in languages {
        let further = title(0, &[], 300, 0).tracks;
        let named = |track| Track { language: language.map(Box::from), ..track };
        tracks.extend(further.into_iter().map(named));
    }
    self::asset(tracks)
}

#[test]
fn names_change_with_the_file_and_with_the_version_of_the_cuts() {
    let other = FileIdentity { bytes: 4, ..IDENTITY };
    let revisions = [revision(IDENTITY, 1), revision(IDENTITY, 2), revision(other, 1)];
    assert!(revisions[0] != revisions[1] && revisions[0] != revisions[2]);
    let plan = TitlePlan::new(&title(9, &[], 9, 0), IDENTITY).unwrap();
    assert_eq!(plan.revision(), revision(IDENTITY, PLAN_VERSION));
}

#[test]
fn decode_times_before_the_start_move_the_timeline_by_whole_seconds() {
    let asset = title(100, &[], 200, 312);
    let plan = TitlePlan::new(&asset, IDENTITY).unwrap();
    assert_eq!(plan.start_s, 1);
    let segment = plan.segment(&asset, Rendition::MAIN, 0).unwrap().unwrap();
    assert!(!segment.head.is_empty());
}

#[test]
fn sound_behind_the_picture_and_sound_alone_are_cut_by_time() {
    let asset = title(50, &[], 1_000, 0);
    let plan = TitlePlan::new(&asset, IDENTITY).unwrap();
    assert_eq!(plan.ends_us, [4_000_000, 8_000_000, 12_000_000, 16_000_000, 20_000_000]);
    assert_eq!(plan.renditions[0].tracks[0].firsts, [0, 50, 50, 50, 50, 50]);
    let plan = TitlePlan::new(&title(0, &[], 1_000, 0), IDENTITY).unwrap();
    assert_eq!(plan.ends_us.len(), 5);
    assert_eq!(plan.multivariant.codecs, "opus");
}

#[test]
fn title_that_a_browser_cannot_show_says_which_track_and_why() {
    let one = vec![Sample {
        offset: 0,
        bytes: 1,
        dts: 0,
        pts: 0,
        duration: 3_600,
        is_sync: true,
        is_disposable: false,
    }];
    let mjpeg = || track(1, Codec::Mjpeg, MediaKind::Video, 90_000, one.clone());
    let ac3 = Codec::Ac3 { sample_rate_hz: 48_000, channels: 6 };
    let ac3 = || track(2, ac3.clone(), MediaKind::Audio, 90_000, one.clone());
    let opus = || track(3, Codec::Opus { channels: 2 }, MediaKind::Audio, 48_000, one.clone());
    let picture = || track(4, h264(), MediaKind::Video, 90_000, one.clone());
    let refused = |tracks| TitlePlan::new(&asset(tracks), IDENTITY).unwrap_err().to_string();
    let motion_jpeg = "the video of this title is Motion JPEG, which browsers do not play";
    assert_eq!(refused(vec![mjpeg(), opus()]), motion_jpeg);
    assert_eq!(refused(vec![ac3()]), "the audio of this title is AC-3, which browsers do not play");
    assert_eq!(refused(vec![]), "this title has neither video nor audio that can be served");
    let plan = TitlePlan::new(&asset(vec![picture(), ac3()]), IDENTITY).unwrap();
    assert_eq!(plan.multivariant.left_out, ["track 2 is AC-3, which browsers do not play"]);
}

#[test]
fn several_sounds_are_renditions_beside_the_video() {
    let asset = with_sounds(title(250, &[100, 200], 500, 0), &[Some("deu")]);
    let plan = TitlePlan::new(&asset, IDENTITY).unwrap();
    let tracks = plan.renditions.iter().map(|of| of.tracks.iter().map(|track| track.place));
    let tracks: Vec<Vec<usize>> = tracks.map(Iterator::collect).collect();
    assert_eq!(tracks, [[0], [1], [2]]);
    let sounds = &plan.multivariant.sounds;
    let sounds: Vec<_> = sounds.iter().map(|of| (of.rendition.0, of.name.as_str())).collect();
    assert_eq!(sounds, [(1, "Sound 1"), (2, "Deutsch")]);
    assert!(plan.init(Rendition(2)).is_some() && plan.init(Rendition(3)).is_none());
    let sound = plan.segment(&asset, Rendition(2), 1).unwrap().unwrap();
    assert_eq!(plan.segment(&asset, Rendition(2), 9).unwrap(), None);
    // Each second of the first sound has 604 bytes; the other one is shorter.
    let main = plan.rate_of(&asset, &plan.renditions[0]);
    let first = plan.rate_of(&asset, &plan.renditions[1]);
    let both = (main.peak + first.peak, main.average + first.average);
    assert_eq!((plan.multivariant.rate.peak, plan.multivariant.rate.average), both);
    assert!(sound.bytes() > 0);
}

#[test]
fn sounds_without_a_video_are_renditions_of_which_the_first_is_main() {
    let asset = with_sounds(title(0, &[], 300, 0), &[Some("deu")]);
    let plan = TitlePlan::new(&asset, IDENTITY).unwrap();
    let sounds = plan.multivariant.sounds.iter().map(|sound| sound.rendition.0);
    assert_eq!(sounds.collect::<Vec<_>>(), [0, 1]);
    let main = plan.rate_of(&asset, &plan.renditions[0]);
    assert_eq!(plan.multivariant.rate, main, "one is heard at a time");
}

/// Renditions have the same segments (RFC 8216 s6.2.4): where one has no samples it has a gap.
#[test]
fn sound_that_ends_before_the_picture_has_gaps_behind_its_end() {
    let asset = with_sounds(title(500, &[100, 200, 300, 400], 1_000, 0), &[Some("deu")]);
    let plan = TitlePlan::new(&asset, IDENTITY).unwrap();
    let gaps = |rendition| plan.playlist(Rendition(rendition)).unwrap().gaps;
    assert_eq!(gaps(1), [false; 5]);
    assert_eq!(gaps(2), [false, false, true, true, true]);
    let ends = |rendition| plan.playlist(Rendition(rendition)).unwrap().ends_us.to_vec();
    assert_eq!(ends(0), ends(2));
    let empty = plan.segment(&asset, Rendition(2), 3).unwrap().unwrap();
    assert!(empty.ranges.is_empty() && !empty.head.is_empty());
}

proptest! {
    #[test]
    fn every_sample_is_in_one_segment_and_times_add_up(
        pictures in 0_u32..600,
        sounds in 1_u32..1_300,
        syncs in proptest::collection::btree_set(1_u32..600, 0..12),
        priming in 0_i64..2_000,
    ) {
        let syncs: Vec<u32> = syncs.into_iter().collect();
        let asset = title(pictures, &syncs, sounds, priming);
        let plan = TitlePlan::new(&asset, IDENTITY).unwrap();
        prop_assert!(plan.ends_us.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", plan.ends_us);
        let mut bytes: Vec<(u64, u64)> = Vec::new();
        let mut samples = 0;
        for number in 0..plan.ends_us.len() as u64 {
            let segment = plan.segment(&asset, Rendition::MAIN, number).unwrap().unwrap();
            bytes.extend(segment.ranges);
            samples += plan.samples_of(Rendition::MAIN, number);
        }
        prop_assert_eq!(samples, asset.tracks.iter().map(|track| track.index.count()).sum::<u32>());
        prop_assert_eq!(plan.segment(&asset, Rendition::MAIN, plan.ends_us.len() as u64).unwrap(), None);
        bytes.sort_unstable();
        let all: u64 = asset.tracks.iter().flat_map(|track| track.index.iter(0, u32::MAX)).map(|s| u64::from(s.bytes)).sum();
        let mut end = 0;
        for (offset, length) in bytes {
            prop_assert_eq!(offset, end);
            end += length;
        }
        prop_assert_eq!(end, all);
        if pictures > 0 {
            for first in &plan.renditions[0].tracks[0].firsts {
                let sample = asset.tracks[0].index.sample(*first);
                prop_assert!(sample.is_none_or(|sample| sample.is_sync));
            }
        }
    }
}
