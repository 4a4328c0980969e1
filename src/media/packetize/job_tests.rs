//! The window job: what it asks for, what it refuses, which samples a window holds.

use proptest::prelude::*;

use super::job::{READ_BYTES_MAX, WINDOW_BYTES_MAX, WINDOW_SAMPLES_MAX};
use super::testing::{Title, pattern, title, title_of};
use super::{WindowError, WindowJob, window_count, window_of_sample, window_of_sync};
use crate::base::limits::{SAMPLE_BYTES_MAX, SYNC_WINDOW_SAMPLES};
use crate::media::asset::FileRange;
use crate::media::codec::Codec;
use crate::media::index::{Sample, SampleIndex, Table};
use crate::media::window::{WindowKey, WindowKind};

fn aac() -> Codec {
    Codec::Aac { config: vec![0x11, 0x90], sample_rate_hz: 48_000, channels: 2 }
}

fn key(kind: WindowKind, index: u32) -> WindowKey {
    WindowKey { track_index: 0, kind, index }
}

/// Samples at the given places, 128 ms each so that none share a packet.
fn title_at(places: &[(u64, u32)], file_bytes: usize) -> Title {
    let mut dts = -6_144;
    let sample = |(offset, bytes): &(u64, u32)| {
        dts += 6_144;
        Sample {
            offset: *offset,
            bytes: *bytes,
            dts,
            pts: dts,
            duration: 6_144,
            is_sync: true,
            is_disposable: false,
        }
    };
    title_of(aac(), 48_000, pattern(0, file_bytes), places.iter().map(sample).collect())
}

fn ranges(title: &Title) -> Vec<(u64, u32)> {
    let mut job = WindowJob::new(&title.asset, key(WindowKind::All, 0)).unwrap();
    let mut ranges = Vec::new();
    while let Some(FileRange { offset, bytes }) = job.wanted() {
        ranges.push((offset, bytes));
        let start = usize::try_from(offset).unwrap();
        job.handle_bytes(&title.file[start..start + bytes as usize]).unwrap();
    }
    ranges
}

#[test]
fn neighbouring_samples_are_read_together_and_distant_ones_apart() {
    let places = [(0, 100), (4_196, 100), (8_393, 100), (8_500, 0), (8_493, 7), (50, 60)];
    let title = title_at(&places, 9_000);
    assert_eq!(ranges(&title), [(0, 4_296), (8_393, 107), (50, 60)]);
    assert_eq!(title.sent().unwrap().len(), 5, "the empty sample has no frame");
}

#[test]
fn read_is_limited_but_a_larger_sample_is_read_whole() {
    // Zeros are NAL units without bytes: valid, and nothing to send.
    let half = READ_BYTES_MAX / 2;
    let samples = [half, half, 12, READ_BYTES_MAX + 4].map(|bytes| vec![0; bytes as usize]);
    let codec = Codec::H264 { nal_length_bytes: 4, sps: vec![], pps: vec![] };
    let title = title(codec, 90_000, 3_000, 1, &samples);
    let bytes: Vec<u32> = ranges(&title).into_iter().map(|(_, bytes)| bytes).collect();
    assert_eq!(bytes, [half, half + 7 + 12, READ_BYTES_MAX + 4]);
}

#[test]
fn short_read_is_truncation_at_the_missing_byte() {
    let title = title_at(&[(10, 100)], 90);
    assert_eq!(title.sent().unwrap_err(), WindowError::Truncated { offset: 90 });
}

#[test]
fn key_out_of_range_is_refused() {
    let title = title_at(&[(0, 10)], 10);
    for key in [
        key(WindowKind::All, 1),
        key(WindowKind::Sync, 1),
        key(WindowKind::All, u32::MAX),
        WindowKey { track_index: 1, ..key(WindowKind::All, 0) },
    ] {
        let error = WindowJob::new(&title.asset, key).unwrap_err();
        assert_eq!(error, WindowError::OutOfRange { key });
    }
}

#[test]
fn sizes_that_lie_are_refused_before_reading() {
    let too_large = title_at(&[(0, SAMPLE_BYTES_MAX + 1)], 10);
    let error = WindowJob::new(&too_large.asset, key(WindowKind::All, 0)).unwrap_err();
    assert!(matches!(error, WindowError::SampleTooLarge { sample: 0, .. }));
    let too_many = title_at(&[(0, SAMPLE_BYTES_MAX); 9], 10);
    let error = WindowJob::new(&too_many.asset, key(WindowKind::All, 0)).unwrap_err();
    assert!(matches!(error, WindowError::WindowTooLarge { .. }));
    assert_eq!(WINDOW_BYTES_MAX, u64::from(SAMPLE_BYTES_MAX) * 8);
}

#[test]
fn more_samples_than_two_seconds_have_are_refused() {
    let title = title_at(&vec![(0, 1); WINDOW_SAMPLES_MAX as usize + 1], 10);
    let error = WindowJob::new(&title.asset, key(WindowKind::All, 0)).unwrap_err();
    assert!(matches!(error, WindowError::TooManySamples { .. }));
}

#[test]
fn offset_at_the_end_of_numbers_is_truncation() {
    let title = title_at(&[(u64::MAX, 10), (u64::MAX - 3, 5)], 10);
    assert!(matches!(title.sent(), Err(WindowError::Truncated { .. })));
}

#[test]
fn windows_partition_the_samples() {
    let samples: Vec<Vec<u8>> = (0..25).map(|i| vec![i; 500]).collect();
    let mut title = title(aac(), 48_000, 6_144, 2, &samples);
    title.asset.tracks[0].window_samples = 10;
    let indexes = |kind, index| -> Vec<u32> {
        title.window(kind, index).unwrap().frames().iter().map(|f| f.sample_index).collect()
    };
    let track = &title.asset.tracks[0];
    assert_eq!(window_count(track, WindowKind::All), 3);
    assert_eq!(indexes(WindowKind::All, 1), (10..20).collect::<Vec<u32>>());
    assert_eq!(indexes(WindowKind::All, 2), (20..25).collect::<Vec<u32>>());
    assert_eq!(window_of_sample(track, 19), 1);
    assert_eq!(window_count(track, WindowKind::Sync), 2);
    assert_eq!(indexes(WindowKind::Sync, 1), [16, 18, 20, 22, 24]);
    assert_eq!(window_of_sync(SYNC_WINDOW_SAMPLES), 1);
}

#[test]
fn unfinished_job_yields_no_frames() {
    let title = title_at(&[(0, 10)], 10);
    let job = WindowJob::new(&title.asset, key(WindowKind::All, 0)).unwrap();
    assert!(job.finish().frames().is_empty());
}

/// Configurations of a film with several sample descriptions: SPS and PPS end in the number.
fn h264_numbered(number: u8) -> Codec {
    let sets = |head| vec![vec![head, 0x42, 0xc0, number]];
    // The first with lengths of 4 bytes, the second of 2, the third of 1.
    Codec::H264 { nal_length_bytes: 4 >> number, sps: sets(0x67), pps: sets(0x68) }
}

/// NAL units of H.264 packets that are short: single, or in STAP-A.
fn nal_units(payload: &[u8]) -> Vec<Vec<u8>> {
    if payload[0] & 0x1f != 24 {
        return vec![payload.to_vec()];
    }
    let (mut rest, mut units) = (&payload[1..], Vec::new());
    while let [high, low, behind @ ..] = rest {
        let (unit, behind) = behind.split_at(usize::from(*high) << 8 | usize::from(*low));
        units.push(unit.to_vec());
        rest = behind;
    }
    units
}

proptest! {
    /// A decoder that begins at any sync sample, in any window of either kind, has the parameter
    /// sets of each slice's own sample description.
    #[test]
    fn each_slice_comes_with_the_sets_of_its_description(
        samples in prop::collection::vec((0u8..3, any::<bool>()), 1..40),
        window_samples in 1u32..9,
    ) {
        let (mut file, mut table) = (Vec::new(), Table::default());
        for (number, (description, is_sync)) in (0u8..).zip(&samples) {
            let is_sync = *is_sync || number == 0;
            // The slice says its own description.
            let slice = [if is_sync { 0x65 } else { 0x01 }, *description, number];
            let length = &3u32.to_be_bytes()[4 - (4usize >> *description)..];
            let bytes = [length, &slice].concat();
            let dts = i64::from(number);
            prop_assert!(table.describe(u16::from(*description)));
            table.push(&Sample {
                offset: file.len() as u64,
                bytes: u32::try_from(bytes.len()).unwrap(),
                dts,
                pts: dts,
                duration: 1,
                is_sync,
                is_disposable: false,
            });
            file.extend(bytes);
        }
        let mut title = title_of(h264_numbered(0), 25, file, Vec::new());
        let track = &mut title.asset.tracks[0];
        track.other_codecs = vec![h264_numbered(1), h264_numbered(2)];
        track.index = SampleIndex::from_table(table);
        track.window_samples = window_samples;
        for kind in [WindowKind::All, WindowKind::Sync] {
            let windows = window_count(&title.asset.tracks[0], kind);
            let mut frames = Vec::new();
            for index in 0..windows {
                let window = title.window(kind, index).unwrap();
                for frame in window.frames() {
                    let packets = window.packets(frame).iter();
                    let units = packets.flat_map(|p| nal_units(&title.payload(&window, p)));
                    frames.push((*frame, units.collect::<Vec<_>>()));
                }
            }
            let wanted = samples.iter().enumerate().filter(|(i, s)| {
                kind == WindowKind::All || s.1 || *i == 0
            });
            prop_assert_eq!(frames.len(), wanted.count());
            let entries = frames.iter().enumerate().filter(|(_, (frame, _))| frame.is_sync);
            for (entry, _) in entries {
                let mut sets = [None; 2];
                for (frame, units) in &frames[entry..] {
                    let mut has_sets = false;
                    for unit in units {
                        match unit[0] & 0x1f {
                            7 => (sets[0], has_sets) = (unit.last().copied(), true),
                            8 => sets[1] = unit.last().copied(),
                            _ => prop_assert_eq!(sets, [Some(unit[1]); 2], "slice {}", unit[2]),
                        }
                    }
                    prop_assert!(!has_sets || !frame.is_disposable || frame.is_sync);
                }
            }
        }
    }
}
