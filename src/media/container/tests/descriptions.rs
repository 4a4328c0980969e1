//! Several sample descriptions in one track: those that fit the m= line are served, each with its
//! own configuration; samples of the others are left out and told of.

use super::synthetic::{Trak, boxed, movie, sound, table, visual};
use super::*;
use crate::media::asset::Track;

/// Opens with the payload formats that are sent.
pub(super) fn open_as_served(file: &[u8]) -> Asset {
    let read = |offset: u64, out: &mut [u8]| {
        let rest = file.get(usize::try_from(offset).unwrap()..).unwrap_or(&[]);
        let count = rest.len().min(out.len());
        out[..count].copy_from_slice(&rest[..count]);
        Ok::<usize, OpenError>(count)
    };
    open_with(file.len() as u64, read).unwrap()
}

fn set(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// `avc1` with one SPS and one PPS that end in `mark`.
fn avc1(mark: u8, length_bytes: u8) -> Vec<u8> {
    let head = [1, 0x42, 0xc0, 0x1e, 0xfc | (length_bytes - 1), 0xe1];
    let sets = [set(&[0x67, 0x42, 0xc0, 0x1e, mark]), vec![1], set(&[0x68, mark])].concat();
    visual(b"avc1", &boxed(b"avcC", &[&head[..], &sets].concat()))
}

fn h264(mark: u8, length_bytes: u8) -> Codec {
    Codec::H264 {
        nal_length_bytes: length_bytes,
        sps: vec![vec![0x67, 0x42, 0xc0, 0x1e, mark]],
        pps: vec![vec![0x68, mark]],
    }
}

/// `mp4a` with that AudioSpecificConfig.
fn mp4a(config: [u8; 2]) -> Vec<u8> {
    let decoder = [&[4, 17, 0x40, 0x15][..], &[0; 11], &[5, 2], &config].concat();
    let es = [&[3, u8::try_from(decoder.len()).unwrap() + 3, 0, 1, 0][..], &decoder].concat();
    let mut entry = sound(b"mp4a", 2, 48_000);
    entry.extend(boxed(b"esds", &[&[0; 4][..], &es].concat()));
    let bytes = u32::try_from(entry.len()).unwrap();
    entry[..4].copy_from_slice(&bytes.to_be_bytes());
    entry
}

/// 100 samples of 10 bytes, 25 a second, in chunks of 10; `stsc` as given.
fn film(handler: &[u8; 4], entries: &[Vec<u8>], stsc: &[u32]) -> Trak {
    let mut trak = Trak::new(1, handler, 25, entries.concat());
    let offsets: Vec<u32> = [0, 10].into_iter().chain((0..10).map(|i| 8 + i * 100)).collect();
    let runs = u32::try_from(stsc.len() / 3).unwrap();
    trak.tables = vec![
        table(b"stts", &[0, 1, 100, 1]),
        table(b"stss", &[0, 10, 1, 11, 21, 31, 41, 51, 61, 71, 81, 91]),
        table(b"stsc", &[&[0, runs][..], stsc].concat()),
        table(b"stsz", &[0, 10, 100]),
        table(b"stco", &offsets),
    ];
    trak
}

fn descriptions(track: &Track) -> Vec<u16> {
    (0..track.index.count()).step_by(10).map(|i| track.index.description(i)).collect()
}

#[test]
fn samples_have_the_configuration_that_stsc_names() {
    let entries = [avc1(1, 4), avc1(2, 2), avc1(1, 4)];
    let stsc = [1, 10, 1, 5, 10, 2, 9, 10, 3, 10, 10, 2];
    let asset = open_as_served(&movie(1_000, &[film(b"vide", &entries, &stsc)]));
    let track = &asset.tracks[0];
    assert_eq!((&track.codec, &track.other_codecs), (&Some(h264(1, 4)), &vec![h264(2, 2)]));
    assert_eq!(descriptions(track), [0, 0, 0, 0, 1, 1, 1, 1, 0, 1], "equal ones are one");
    assert!(asset.problems.is_empty(), "{:?}", asset.problems);
}

#[test]
fn samples_that_do_not_fit_the_media_line_are_left_out_and_told_of() {
    let half = [1, 10, 1, 6, 10, 2];
    let cases: Vec<(&[u8; 4], Vec<Vec<u8>>)> = vec![
        (b"vide", vec![avc1(1, 4), visual(b"vp08", &[])]),
        (b"vide", vec![avc1(1, 4), visual(b"encv", &[])]),
        (b"vide", vec![avc1(1, 4), visual(b"XyZ!", &[])]),
        (b"vide", vec![avc1(1, 4), visual(b"avc1", &[])]),
        (b"soun", vec![mp4a([0x11, 0x90]), mp4a([0x11, 0x94])]),
        (b"soun", vec![mp4a([0x11, 0x90]), sound(b"Opus", 2, 48_000)]),
        (b"soun", vec![sound(b"ulaw", 1, 8_000), sound(b"ulaw", 2, 8_000)]),
    ];
    let mut told = Vec::new();
    for (handler, entries) in cases {
        let asset = open_as_served(&movie(1_000, &[film(handler, &entries, &half)]));
        let track = &asset.tracks[0];
        assert_eq!((track.index.count(), track.other_codecs.len()), (50, 0));
        assert_eq!(track.index.sample(49).unwrap().offset, 498);
        assert_eq!(asset.duration.as_secs_f64(), 2.0);
        told.extend(asset.problems);
    }
    insta::assert_debug_snapshot!(told, @r#"
    [
        "track 1: 50 samples are left out: sample description 2: VP8/90000 in a track that is announced as H264/90000",
        "track 1: 50 samples are left out: sample description 2: encv: encrypted",
        "track 1: 50 samples are left out: sample description 2: XyZ!: codec XyZ! is not supported",
        "track 1: 50 samples are left out: sample description 2: avc1: no avcC",
        "track 1: 50 samples are left out: sample description 2: its configuration of mpeg4-generic/48000/2 differs, which is sent in the SDP only",
        "track 1: 50 samples are left out: sample description 2: opus/48000/2 in a track that is announced as mpeg4-generic/48000/2",
        "track 1: 50 samples are left out: sample description 2: PCMU/8000/2 in a track that is announced as PCMU/8000",
    ]
    "#);
}

#[test]
fn descriptions_that_do_not_fit_are_told_of_one_by_one_up_to_a_few() {
    let unknown = std::iter::repeat_n(visual(b"XyZ!", &[]), 9);
    let entries: Vec<Vec<u8>> = std::iter::once(avc1(1, 4)).chain(unknown).collect();
    let stsc: Vec<u32> = (1..=10).flat_map(|chunk| [chunk, 10, chunk]).collect();
    let asset = open_as_served(&movie(1_000, &[film(b"vide", &entries, &stsc)]));
    assert_eq!((asset.tracks[0].index.count(), asset.problems.len()), (10, 9));
    assert_eq!(asset.problems[8], "track 1: samples of 1 further descriptions are left out");
}

#[test]
fn configuration_that_is_sent_in_band_may_change_in_sound_too() {
    let entries = [sound(b"Opus", 2, 48_000), sound(b"Opus", 1, 48_000)];
    let asset = open_as_served(&movie(1_000, &[film(b"soun", &entries, &[1, 10, 1, 6, 10, 2])]));
    assert_eq!(asset.tracks[0].other_codecs, [Codec::Opus { channels: 1 }]);
    assert_eq!(asset.tracks[0].index.count(), 100);
}

#[test]
fn description_in_use_that_lasts_longest_is_announced() {
    let entries = [visual(b"vp08", &[]), avc1(1, 4), avc1(2, 4), avc1(3, 4)];
    // VP8 for one chunk; H.264 for nine; the last description is of no sample.
    let stsc = [1, 10, 1, 2, 10, 2, 5, 10, 3];
    let asset = open_as_served(&movie(1_000, &[film(b"vide", &entries, &stsc)]));
    let track = &asset.tracks[0];
    assert_eq!((&track.fourcc, &track.codec), (b"avc1", &Some(h264(1, 4))));
    assert_eq!(track.other_codecs, [h264(2, 4)]);
    let first = track.index.sample(0).unwrap();
    assert_eq!((track.index.count(), first.pts, first.offset), (90, 10, 108));
    // Half each: the first one.
    let asset = open_as_served(&movie(1_000, &[film(b"vide", &entries, &[1, 10, 1, 6, 10, 2])]));
    assert_eq!(asset.tracks[0].codec, Some(Codec::Vp8));
    // A description that no sample has decides nothing.
    let asset = open_as_served(&movie(1_000, &[film(b"vide", &entries, &[1, 10, 3])]));
    assert_eq!(asset.tracks[0].codec, Some(h264(2, 4)));
    assert!(asset.tracks[0].other_codecs.is_empty() && asset.problems.is_empty());
}

#[test]
fn track_goes_on_at_a_sync_sample_behind_samples_left_out() {
    let entries = [avc1(1, 4), visual(b"encv", &[])];
    let mut trak = film(b"vide", &entries, &[1, 10, 1, 4, 10, 2, 5, 10, 1]);
    trak.tables[1] = table(b"stss", &[0, 3, 1, 46, 91]);
    let asset = open_as_served(&movie(1_000, &[trak]));
    let index = &asset.tracks[0].index;
    let times: Vec<i64> = index.iter(0, u32::MAX).map(|s| s.pts).collect();
    assert_eq!(times, (0..30).chain(45..100).collect::<Vec<i64>>());
    assert_eq!((index.sync_count(), index.sync_sample(1)), (3, Some(30)));
    assert_eq!(index.sample(29).unwrap().duration, 16, "the gap shows");
}

#[test]
fn number_of_a_description_that_is_not_there_costs_its_samples_only() {
    let two = [avc1(1, 4), avc1(2, 4)];
    let asset = open_as_served(&movie(1_000, &[film(b"vide", &two, &[1, 10, 1, 6, 10, 9])]));
    assert_eq!(asset.tracks[0].index.count(), 50);
    assert_eq!(
        asset.problems,
        [
            "track 1: 50 samples are left out: sample description 9: the file has no such description"
        ]
    );
    // With one description there is nothing to choose from.
    let asset = open_as_served(&movie(1_000, &[film(b"vide", &two[..1], &[1, 10, 7])]));
    assert_eq!(asset.tracks[0].index.count(), 100);
}

/// Description 2 by `tfhd`, or by `trex` alone.
#[test]
fn fragments_have_the_description_of_tfhd_or_else_of_trex() {
    let entries = [avc1(1, 4), avc1(2, 4)];
    let mut trak = film(b"vide", &entries, &[]);
    trak.tables =
        vec![table(b"stsz", &[0, 0, 0]), table(b"stsc", &[0, 0]), table(b"stco", &[0, 0])];
    for (by_default, own, wanted) in
        [(1, [None, Some(2)], [0, 1]), (2, [Some(1), None], [0, 1]), (2, [None, None], [0, 0])]
    {
        let trex = table(b"trex", &[0, 1, by_default, 1, 10, 0]);
        let mut file = movie(1_000, std::slice::from_ref(&trak));
        let at = file.windows(4).position(|w| w == b"moov").unwrap() - 4;
        let moov = [&file[at + 8..], &boxed(b"mvex", &trex)].concat();
        file.splice(at.., boxed(b"moov", &moov));
        for own in own {
            let tfhd = match own {
                Some(own) => table(b"tfhd", &[3, 1, 0, 8, own]),
                None => table(b"tfhd", &[1, 1, 0, 8]),
            };
            let traf = [tfhd, table(b"trun", &[0, 5])].concat();
            file.extend(boxed(b"moof", &boxed(b"traf", &traf)));
        }
        let asset = open_as_served(&file);
        let index = &asset.tracks[0].index;
        assert_eq!(index.count(), 10);
        assert_eq!([index.description(0), index.description(5)], wanted, "{by_default} {own:?}");
        let first = if by_default == 2 && own[0].is_none() { 2 } else { 1 };
        assert_eq!(asset.tracks[0].codec, Some(h264(first, 4)));
    }
}
