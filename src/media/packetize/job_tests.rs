//! The window job: what it asks for, what it refuses, which samples a window holds.

use super::job::{READ_BYTES_MAX, WINDOW_BYTES_MAX, WINDOW_SAMPLES_MAX};
use super::testing::{Title, pattern, title, title_of};
use super::{WindowError, WindowJob, window_count, window_of_sample, window_of_sync};
use crate::base::limits::{SAMPLE_BYTES_MAX, SYNC_WINDOW_SAMPLES};
use crate::media::asset::FileRange;
use crate::media::codec::Codec;
use crate::media::index::Sample;
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
