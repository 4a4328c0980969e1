//! A title made of given samples, without a container: for tests of everything above the formats.
//!
//! ```text
//! VP8    25 frames a second, decoded I P b P b .., a sync sample each second, three packets each
//! Opus   50 packets a second
//! ```

use std::io::Write;
use std::sync::Arc;

use super::title::{FileIdentity, Title};
use crate::base::time::{Mono, Npt};
use crate::mapped::MappedFile;
use crate::media::asset::{Asset, Track};
use crate::media::codec::{Codec, MediaKind};
use crate::media::image::{ImageJob, ImageNumbers, PacketImage};
use crate::media::index::{Sample, SampleIndex};
use crate::media::packetize::job::WindowJob;
use crate::media::packetize::payload_format;
use crate::media::payload_window::{PayloadJob, PayloadWindow};
use crate::media::window::{PacketWindow, WindowKey};
use crate::rtp::{WireBase, write_header};

/// Track 0 is video, track 1 sound, both as long as `seconds` says.
pub(crate) fn title(seconds: u32) -> Arc<Title> {
    let mut file = Vec::new();
    let video = (0..seconds * FRAMES_PER_S).map(|i| video_sample(i, &mut file)).collect();
    let sound = (0..seconds * 50).map(|i| sound_sample(i, &mut file)).collect();
    let tracks = vec![
        track(Codec::Vp8, MediaKind::Video, 12_800, 50, video, seconds),
        track(Codec::Opus { channels: 2 }, MediaKind::Audio, 48_000, 100, sound, seconds),
    ];
    title_of(tracks, &file, seconds)
}

/// How the frames of a video track lie in time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct VideoClock {
    /// Ticks a second.
    pub(crate) timescale: u32,
    /// Ticks of a frame.
    pub(crate) frame_ticks: u32,
    /// Frames from one sync sample to the next.
    pub(crate) group: u32,
    /// Frames.
    pub(crate) count: u32,
}

/// Video of a given clock, without reordering, and sound of the same length at 44,100 Hz in frames
/// of 1,024. It was recorded at a time that is not a whole second.
pub(crate) fn title_of_clock(clock: VideoClock) -> Arc<Title> {
    let mut file = Vec::new();
    let video = |i: u32, file: &mut Vec<u8>| {
        let at = i64::from(i) * i64::from(clock.frame_ticks);
        let is_sync = i.is_multiple_of(clock.group);
        Sample { dts: at, pts: at, duration: clock.frame_ticks, is_sync, ..appended(40, file) }
    };
    let video: Vec<Sample> = (0..clock.count).map(|i| video(i, &mut file)).collect();
    let ticks = u64::from(clock.count) * u64::from(clock.frame_ticks);
    let seconds = u32::try_from(ticks.div_ceil(u64::from(clock.timescale))).unwrap();
    let sound = |i: u32, file: &mut Vec<u8>| {
        let at = i64::from(i) * 1_024;
        Sample { dts: at, pts: at, duration: 1_024, ..appended(4, file) }
    };
    let sound = (0..seconds * 43).map(|i| sound(i, &mut file)).collect();
    let tracks = vec![
        track(Codec::Vp8, MediaKind::Video, clock.timescale, 50, video, seconds),
        track(Codec::Opus { channels: 2 }, MediaKind::Audio, 44_100, 100, sound, seconds),
    ];
    let mut title = Arc::into_inner(title_of(tracks, &file, seconds)).unwrap();
    title.asset.created_utc_ns = Some(1_600_000_000_123_456_789);
    Arc::new(title)
}

/// A title whose only track has no sample.
pub(crate) fn title_without_samples() -> Arc<Title> {
    title_of(vec![track(Codec::Vp8, MediaKind::Video, 12_800, 50, Vec::new(), 0)], &[0], 1)
}

/// A title whose file has these bytes, and no track.
pub(crate) fn title_with_bytes(bytes: &[u8]) -> Arc<Title> {
    title_of(Vec::new(), bytes, 1)
}

/// A window of a title, as a worker builds it.
pub(crate) fn window(title: &Title, key: WindowKey) -> Arc<PacketWindow> {
    let mut job = WindowJob::new(&title.asset, key).unwrap();
    let mut bytes = Vec::new();
    while let Some(range) = job.wanted() {
        bytes.resize(range.bytes as usize, 0);
        std::os::unix::fs::FileExt::read_exact_at(&title.file, &mut bytes, range.offset).unwrap();
        job.handle_bytes(&bytes).unwrap();
    }
    Arc::new(job.finish())
}

/// The image of a window, as a worker makes it.
pub(crate) fn image(title: &Title, window: &PacketWindow, numbers: ImageNumbers) -> PacketImage {
    let mut job = ImageJob::new(window, numbers, write_header, Mono(0)).unwrap();
    for part in job.parts().to_vec() {
        let mut bytes = vec![0; part.bytes.into()];
        std::os::unix::fs::FileExt::read_exact_at(&title.file, &mut bytes, part.offset).unwrap();
        job.fill(part, &bytes);
    }
    job.finish()
}

/// A window with the bytes of its packets, as a worker builds it.
pub(crate) fn payload_window(title: &Title, key: WindowKey) -> Box<PayloadWindow> {
    let window = Arc::into_inner(window(title, key)).unwrap();
    let mut job = PayloadJob::new(window).unwrap();
    for part in job.parts().to_vec() {
        let mut bytes = vec![0; part.bytes.into()];
        std::os::unix::fs::FileExt::read_exact_at(&title.file, &mut bytes, part.offset).unwrap();
        job.fill(part, &bytes);
    }
    Box::new(job.finish())
}

fn title_of(tracks: Vec<Track>, bytes: &[u8], seconds: u32) -> Arc<Title> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    let file_bytes = bytes.len() as u64;
    let asset = Asset {
        tracks,
        left_out: Vec::new(),
        duration: Npt(i64::from(seconds) * 1_000_000_000),
        container: "mp4",
        file_bytes,
        created_utc_ns: None,
        problems: Vec::new(),
    };
    Arc::new(Title {
        name: "film.mp4".to_owned(),
        url_path: "vod/film.mp4".to_owned(),
        asset,
        map: MappedFile::new(&file).unwrap(),
        identity: FileIdentity { device: 0, inode: 0, bytes: file_bytes, modified_ns: 0 },
        file,
        wire: WireBase::new(7),
    })
}

fn track(
    codec: Codec,
    kind: MediaKind,
    timescale: u32,
    window_samples: u32,
    samples: Vec<Sample>,
    seconds: u32,
) -> Track {
    Track {
        id: 1,
        kind,
        payload: payload_format(&codec, 0).unwrap(),
        codec: Some(codec),
        other_codecs: Vec::new(),
        fourcc: *b"test",
        timescale,
        language: None,
        size_pixels: None,
        index: SampleIndex::from_samples(samples),
        hint: None,
        window_samples,
        end: Npt(i64::from(seconds) * 1_000_000_000),
    }
}

fn video_sample(number: u32, file: &mut Vec<u8>) -> Sample {
    let in_group = number % FRAMES_PER_S;
    // Shown: the sync sample first, then each b before the P that was decoded before it.
    let shown = match in_group {
        0 => i64::from(number),
        odd if odd % 2 == 1 => i64::from(number) + 1,
        _ => i64::from(number) - 1,
    };
    let bytes = if in_group == 0 { 4_000 } else { 300 };
    Sample {
        dts: (i64::from(number) - 1) * 512,
        pts: shown * 512,
        duration: 512,
        is_sync: in_group == 0,
        is_disposable: in_group > 0 && in_group.is_multiple_of(2),
        ..appended(bytes, file)
    }
}

fn sound_sample(number: u32, file: &mut Vec<u8>) -> Sample {
    let at = i64::from(number) * 960;
    Sample { dts: at, pts: at, duration: 960, ..appended(100, file) }
}

fn appended(bytes: u32, file: &mut Vec<u8>) -> Sample {
    let offset = file.len() as u64;
    file.resize(file.len() + bytes as usize, 0x5a);
    let (is_sync, is_disposable) = (true, false);
    Sample { offset, bytes, dts: 0, pts: 0, duration: 0, is_sync, is_disposable }
}

const FRAMES_PER_S: u32 = 25;
