//! Cut and damaged files: a named error or a track less, never a panic, a hang or a sample that
//! lies outside the file.

use super::synthetic::{boxed, movie, pictures, table};
use super::*;
use proptest::prelude::*;

/// Opens damaged bytes and checks what must hold whatever they are.
fn survive(file: &[u8]) -> Result<Asset, OpenError> {
    let asset = open(file)?;
    let limit = file.len() as u64;
    for track in &asset.tracks {
        let mut due = i64::MIN;
        for sample in track.index.iter(0, u32::MAX).take(100_000) {
            assert!(sample.offset + u64::from(sample.bytes) <= limit);
            assert!(sample.dts >= due);
            due = sample.dts;
        }
        if let Some(hint) = &track.hint {
            for (i, sample) in (0u32..).zip(hint.index.iter(0, 50)) {
                let start = usize::try_from(sample.offset).unwrap();
                let bytes = &file[start..start + sample.bytes as usize];
                let _ = hint.packetize(track, &sample, i, bytes, &mut WindowBuilder::new());
            }
        }
        let _ = track.index.sync_at_or_before(track.end, track.timescale);
    }
    Ok(asset)
}

/// Small real files of each kind, or none without FFmpeg.
fn real_files() -> Vec<Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    let both = "-f lavfi -i testsrc=s=64x48:r=25:d=1 -f lavfi -i sine=d=1 -c:v libx264 -g 10 -bf 2 \
        -crf 45 -pix_fmt yuv420p -c:a aac -b:a 16k";
    [
        ("a.mp4", "-movflags faststart"),
        ("b.mov", "-movflags rtphint"),
        ("c.mp4", "-movflags frag_keyframe+empty_moov"),
    ]
    .into_iter()
    .filter_map(|(name, flags)| make(dir.path(), name, &format!("{both} {flags}")))
    .chain([movie(1_000, &[pictures()])])
    .collect()
}

#[test]
fn file_cut_anywhere_is_refused_or_plays_what_is_complete() {
    for file in real_files() {
        let whole = survive(&file).unwrap();
        let count = |asset: &Asset| asset.tracks.iter().map(|t| t.index.count()).sum::<u32>();
        for cut in (0..file.len()).rev().step_by(1 + file.len() / 1_500) {
            if let Ok(asset) = survive(&file[..cut]) {
                assert!(count(&asset) <= count(&whole));
            }
        }
    }
}

#[test]
fn cut_fragmented_file_plays_its_complete_fragments() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = "-f lavfi -i testsrc=s=64x48:r=25:d=3 -c:v libx264 -g 25 -pix_fmt yuv420p \
        -movflags frag_keyframe+empty_moov";
    let Some(file) = make(dir.path(), "cut.mp4", arguments) else { return };
    let moofs: Vec<usize> =
        file.windows(4).enumerate().filter(|(_, w)| w == b"moof").map(|(i, _)| i - 4).collect();
    assert_eq!(moofs.len(), 3);
    let moof_bytes = u32_at(&file, moofs[2]).unwrap() as usize;
    // Inside the last mdat, right behind the last moof, inside the last moof, right before it.
    for cut in [file.len() - 300, moofs[2] + moof_bytes, moofs[2] + 50, moofs[2]] {
        let asset = survive(&file[..cut]).unwrap();
        assert_eq!(asset.tracks[0].index.count(), 50, "cut at {cut}");
    }
    assert_eq!(survive(&file[..file.len() - 300]).unwrap().problems.len(), 1);
}

#[test]
fn hostile_sizes_and_counts_are_named() {
    let mdat = boxed(b"mdat", &[0; 16]);
    let with = |tail: Vec<u8>| open(&[mdat.clone(), tail].concat());
    assert_eq!(open(&[]).unwrap_err(), OpenError::NoMovie);
    assert_eq!(open(&[0; 64]).unwrap_err(), OpenError::NoMovie);
    assert_eq!(open(&mdat).unwrap_err(), OpenError::NoMovie);
    let kind = FourCc(*b"moov");
    let short = [&[0, 0, 0, 4][..], b"moov", &[0; 32]].concat();
    assert_eq!(with(short).unwrap_err(), OpenError::BoxSize { offset: 24, kind, bytes: 4 });
    let huge = [&[0, 0, 0, 1][..], b"moov", &[0xff; 8], &[0; 16]].concat();
    let end = u64::MAX;
    let error = OpenError::BoxOutside { offset: 24, kind, end, file_bytes: 56 };
    assert_eq!(with(huge).unwrap_err(), error);
    let empty = with(boxed(b"moov", &[])).unwrap_err();
    assert_eq!(empty, OpenError::MissingBox { kind: FourCc(*b"mvhd") });
    assert_eq!(
        with(boxed(b"moov", &boxed(b"cmov", &[0; 8]))).unwrap_err(),
        OpenError::CompressedMovie
    );
}

#[test]
fn hostile_tables_leave_the_track_out() {
    let huge = u32::MAX;
    for (at, bad) in [
        (1, table(b"stsc", &[0, 1, 2, 10, 1])),
        (1, table(b"stsc", &[0, huge, 1, 0, 1])),
        (2, table(b"stsz", &[0, 0, huge])),
        (2, table(b"stsz", &[0, 10, huge])),
        (2, table(b"stsz", &[0, 0, 5, 1])),
        (3, table(b"stco", &[0, huge, 8])),
        (3, Vec::new()),
    ] {
        let mut trak = pictures();
        trak.tables[at] = bad.clone();
        let asset = survive(&movie(1_000, &[trak, pictures()])).unwrap();
        assert_eq!((asset.tracks.len(), asset.left_out.len()), (1, 1), "{bad:?}");
    }
    // These say something odd, but the samples are where they are.
    for (at, odd) in [
        (0, table(b"stts", &[0, huge, huge, 1])),
        (0, table(b"stts", &[0, 1, 3, 1])),
        (1, table(b"stsc", &[0, huge, 1, huge, 1])),
    ] {
        let mut trak = pictures();
        trak.tables[at] = odd;
        assert_eq!(survive(&movie(1_000, &[trak])).unwrap().tracks.len(), 1);
    }
}

#[test]
fn sample_outside_the_file_refuses_the_title() {
    let mut trak = pictures();
    trak.tables[3] = table(b"stco", &[0, 10, 8, 0xffff_0000, 0, 0, 0, 0, 0, 0, 0, 0]);
    let error = open(&movie(1_000, &[trak])).unwrap_err();
    assert!(matches!(error, OpenError::SampleOutside { track: 1, sample: 10, .. }), "{error}");
}

#[test]
fn file_that_shrinks_while_it_is_read_is_named() {
    let file = movie(1_000, &[pictures()]);
    let error = drive(Opener::with_formats(file.len() as u64, any_format), |_, _| {
        Ok::<usize, OpenError>(0)
    });
    assert!(matches!(error.unwrap_err(), OpenError::FileEndedEarly { offset: 0, .. }));
}

#[test]
fn opener_asked_after_done_says_so() {
    let mut opener = Opener::new(0);
    assert_eq!(opener.step().unwrap_err(), OpenError::NoMovie);
    assert_eq!(opener.step().unwrap_err(), OpenError::OutOfOrder);
    assert_eq!(opener.handle_bytes(&[]).unwrap_err(), OpenError::OutOfOrder);
}

/// Bytes that make sizes and counts zero, huge, or anything.
fn value() -> impl Strategy<Value = u8> {
    prop_oneof![Just(0u8), Just(0xff), Just(0x7f), any::<u8>()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn damaged_files_never_panic(
        hits in prop::collection::vec((any::<u32>(), value(), 1usize..5), 1..12),
        near_boxes in any::<bool>(),
    ) {
        static FILES: std::sync::OnceLock<Vec<Vec<u8>>> = std::sync::OnceLock::new();
        for file in FILES.get_or_init(real_files) {
            let mut file = file.clone();
            // Most damage in media bytes is invisible here: aim at the header.
            let moov = file.windows(4).position(|w| w == b"moov").unwrap();
            let range = if near_boxes { moov - 4..file.len() } else { 0..file.len() };
            for (at, value, count) in &hits {
                let at = range.start + *at as usize % range.len();
                for byte in file.iter_mut().skip(at).take(*count) {
                    *byte = *value;
                }
            }
            let _ = survive(&file);
        }
    }
}
