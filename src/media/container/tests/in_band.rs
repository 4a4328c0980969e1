//! Parameter sets that stand in the samples only are announced from the first sync sample.

use super::descriptions::open_as_served;
use super::synthetic::{Trak, boxed, movie, table, visual};
use super::*;
use crate::media::container::in_band::{LACKS_OF_TRACK_MAX, is_complete, lacks};

fn nal(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// A movie with one track of two samples with these bytes.
fn film(entry: Vec<u8>, samples: [&[u8]; 2]) -> Vec<u8> {
    let sizes = samples.map(|s| u32::try_from(s.len()).unwrap());
    let mut trak = Trak::new(1, b"vide", 25, entry);
    trak.tables = vec![
        table(b"stts", &[0, 1, 2, 1]),
        table(b"stss", &[0, 1, 2]),
        table(b"stsc", &[0, 1, 1, 2, 1]),
        table(b"stsz", &[0, 0, 2, sizes[0], sizes[1]]),
        table(b"stco", &[0, 1, 8]),
    ];
    let media = samples.concat();
    let mut file = movie(media.len(), &[trak]);
    file[8..8 + media.len()].copy_from_slice(&media);
    file
}

/// A movie with one track of one description and one sample for each mark: the same bytes of the
/// file, for all of them. The marks make the configurations differ.
fn joined(marks: std::ops::Range<u16>, sample: &[u8]) -> Vec<u8> {
    let entry = |mark: u16| {
        let [high, low] = mark.to_be_bytes();
        visual(b"avc3", &boxed(b"avcC", &[1, 0x42, high, low, 0xff, 0xe0, 0]))
    };
    let count = u32::from(marks.end - marks.start);
    let mut trak = Trak::new(1, b"vide", 25, marks.flat_map(entry).collect());
    let runs = (1..=count).flat_map(|chunk| [chunk, 1, chunk]);
    let bytes = u32::try_from(sample.len()).unwrap();
    trak.tables = vec![
        table(b"stts", &[0, 1, count, 1]),
        table(b"stsc", &[0, count].into_iter().chain(runs).collect::<Vec<_>>()),
        table(b"stsz", &[0, bytes, count]),
        table(b"stco", &[&[0, count][..], &vec![8; count as usize]].concat()),
    ];
    let mut file = movie(sample.len(), &[trak]);
    file[8..8 + sample.len()].copy_from_slice(sample);
    file
}

fn fmtp(asset: &Asset) -> &str {
    asset.tracks[0].payload.fmtp.as_deref().unwrap_or_default()
}

const SPS: [u8; 5] = [0x67, 0x42, 0xc0, 0x1e, 0xac];
const PPS: [u8; 3] = [0x68, 0xce, 0x3c];

#[test]
fn h264_sets_are_those_of_the_first_sync_sample() {
    let other = [nal(&[0x67, 0x42, 0xc0, 0x1e, 9]), nal(&[0x41; 40])].concat();
    let sync = [nal(&[9, 16]), nal(&SPS), nal(&PPS), nal(&PPS), nal(&[0x65; 70_000])].concat();
    for kind in [b"avc3", b"avc1", b"dva1", b"dvav"] {
        let entry = visual(kind, &boxed(b"avcC", &[1, 0x42, 0xc0, 0x1e, 0xff, 0xe0, 0]));
        let asset = open_as_served(&film(entry, [&other, &sync]));
        assert_eq!(
            fmtp(&asset),
            "packetization-mode=1;profile-level-id=42C01E;\
             sprop-parameter-sets=Z0LAHqw=,aM48"
        );
        assert!(asset.problems.is_empty(), "{:?}", asset.problems);
    }
}

#[test]
fn h265_takes_only_the_kinds_of_set_that_hvcc_lacks() {
    let sync =
        [nal(&[0x40, 1, 7]), nal(&[0x42, 1, 7]), nal(&[0x44, 1, 7]), nal(&[0x26; 40])].concat();
    let mut empty = vec![1, 1, 0x60, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 93, 0xf0, 0, 0xfc, 0xfd, 0xf8];
    empty.extend([0xf8, 0, 0, 0x0f]);
    let vps_only = [&[1, 0x80 | 32, 0, 1, 0, 3, 0x40, 1, 1][..]].concat();
    for kind in [b"hev1", b"hvc1", b"dvhe", b"dvh1"] {
        for (arrays, vps) in [(vec![0], "QAEH"), (vps_only.clone(), "QAEB")] {
            let entry = visual(kind, &boxed(b"hvcC", &[&empty[..], &arrays].concat()));
            let asset = open_as_served(&film(entry, [&nal(&[2, 1, 3]), &sync]));
            assert_eq!(fmtp(&asset), format!("sprop-vps={vps};sprop-sps=QgEH;sprop-pps=RAEH"));
        }
    }
}

#[test]
fn visual_headers_are_those_of_the_first_sync_sample_or_the_track_is_left_out() {
    let descriptors = [&[3, 18, 0, 1, 0, 4, 13, 0x20, 0x11][..], &[0; 11]].concat();
    let esds = boxed(b"esds", &[&[0; 4][..], &descriptors].concat());
    let headers = [0, 0, 1, 0xb0, 3, 0, 0, 1, 0xb5, 9, 0, 0, 1, 0x20, 8];
    let sync = [&headers[..], &[0, 0, 1, 0xb6, 0x10, 5]].concat();
    let other = [0, 0, 1, 0xb6, 0x50, 5];
    let asset = open_as_served(&film(visual(b"mp4v", &esds), [&other, &sync]));
    assert_eq!(
        fmtp(&asset),
        "profile-level-id=3;config=000001B003000001B50900000120 08".replace(' ', "")
    );
    let asset = open_as_served(&film(visual(b"mp4v", &esds), [&other, &other]));
    assert!(asset.tracks.is_empty());
    assert_eq!(asset.left_out[0].reason, "no decoder configuration");
}

#[test]
fn film_without_any_sets_plays_and_is_told_of() {
    let entry = visual(b"avc3", &boxed(b"avcC", &[1, 0x42, 0xc0, 0x1e, 0xff, 0xe0, 0]));
    // The length of the last unit is a lie.
    let sync = [nal(&[0x65; 40]), vec![0, 0, 1, 0, 0x67]].concat();
    let asset = open_as_served(&film(entry, [&nal(&[0x41; 9]), &sync]));
    assert_eq!(fmtp(&asset), "packetization-mode=1");
    assert_eq!(asset.problems.len(), 1, "{:?}", asset.problems);
}

#[test]
fn configurations_of_a_few_recordings_are_completed_and_others_cost_nothing() {
    let sample = [nal(&SPS), nal(&PPS), nal(&[0x65; 40])].concat();
    let asset = open_as_served(&joined(0..1_000, &sample));
    let track = &asset.tracks[0];
    assert_eq!((track.index.count(), track.other_codecs.len()), (1_000, 999));
    let codecs = || track.codec.iter().chain(&track.other_codecs);
    assert!(codecs().take(LACKS_OF_TRACK_MAX).all(is_complete));
    assert_eq!(codecs().filter(|codec| is_complete(codec)).count(), LACKS_OF_TRACK_MAX);
    // Those of which no sample is known are looked for in the same pass.
    assert_eq!(lacks(&asset.tracks).len(), LACKS_OF_TRACK_MAX);
}

#[test]
fn sets_that_are_longer_than_packetizers_take_are_not_kept() {
    let sets: Vec<u8> =
        (0..60).flat_map(|mark| nal(&[&[0x68, mark][..], &[7; 900]].concat())).collect();
    let sample = [nal(&SPS), sets, nal(&[0x65; 40])].concat();
    let asset = open_as_served(&joined(0..4, &sample));
    let track = &asset.tracks[0];
    for codec in track.codec.iter().chain(&track.other_codecs) {
        assert!(matches!(codec, Codec::H264 { sps, pps, .. } if *sps == [SPS] && pps.is_empty()));
    }
    assert_eq!(asset.problems.len(), 1, "{:?}", asset.problems);
}

#[test]
fn each_configuration_takes_the_sets_of_its_own_first_sync_sample() {
    let mut trak = Trak::new(1, b"vide", 25, Vec::new());
    let entry = visual(b"avc3", &boxed(b"avcC", &[1, 0x42, 0xc0, 0x1e, 0xff, 0xe0, 0]));
    trak.entry = [entry.clone(), entry].concat();
    let starts = [1, 2, 3].map(|mark| [nal(&[0x67, mark]), nal(&[0x68, mark])].concat());
    trak.tables = vec![
        table(b"stts", &[0, 1, 3, 1]),
        table(b"stss", &[0, 2, 1, 3]),
        table(b"stsc", &[0, 2, 1, 1, 1, 2, 1, 2]),
        table(b"stsz", &[0, 12, 3]),
        table(b"stco", &[0, 3, 8, 20, 32]),
    ];
    let mut file = movie(36, &[trak]);
    file[8..44].copy_from_slice(&starts.concat());
    let asset = open_as_served(&file);
    let track = &asset.tracks[0];
    let marks: Vec<_> = track.codec.iter().chain(&track.other_codecs).collect();
    for (codec, mark) in marks.into_iter().zip([1, 3]) {
        assert!(matches!(codec, Codec::H264 { pps, .. } if *pps == [[0x68, mark]]), "{codec:?}");
    }
}
