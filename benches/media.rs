//! From a file's tables to an index, and from samples to packets: what workers do.

#![expect(clippy::expect_used, reason = "an input that does not open measures nothing")]

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use headend::base::time::Npt;
use headend::media::asset::{Asset, Track};
use headend::media::codec::{Codec, MediaKind};
use headend::media::index::{Sample, SampleIndex};
use headend::media::packetize::{WindowJob, payload_format};
use headend::media::window::{PacketWindow, WindowKey, WindowKind};

use crate::film::Film;

/// Index of a whole film from bytes in memory: the disk is not measured.
#[divan::bench(args = [1, 3], sample_count = 20)]
fn open_film_of_hours(bencher: Bencher<'_, '_>, hours: u32) {
    let film = Film::of_seconds(hours * 3_600);
    let asset = film.open().expect("the film opens");
    assert_eq!(asset.tracks.len(), 2, "{:?}", asset.left_out);
    bencher
        .counter(BytesCount::new(film.header_bytes()))
        .bench(|| film.open().expect("the film opens"));
}

/// The sample that a seek leads to, in a film of three hours.
#[divan::bench]
fn find_sync_sample(bencher: Bencher<'_, '_>) {
    let asset = Film::of_seconds(3 * 3_600).open().expect("the film opens");
    let track = asset.tracks.first().expect("a video track");
    let at = Npt::from_secs_f64(7_000.5);
    bencher.bench(|| track.schedule().sync_at_or_before(black_box(at), track.timescale));
}

/// A window of two seconds of H.264, one slice a picture; Mbit/s of the video.
#[divan::bench(args = [1, 8, 40])]
fn packetize_h264_window_of_mbit(bencher: Bencher<'_, '_>, mbit_per_s: u32) {
    let picture_bytes = mbit_per_s * 1_000_000 / 8 / PICTURES_PER_S;
    let (asset, media) = h264(picture_bytes);
    let packets = packet_count(&packetize(&asset, &media));
    // Items are packets. Bytes would say nothing: only the heads of units are looked at.
    bencher.counter(ItemsCount::new(packets)).bench(|| packetize(&asset, &media));
}

fn packetize(asset: &Asset, media: &[u8]) -> PacketWindow {
    let key = WindowKey { track_index: 0, kind: WindowKind::All, index: 0 };
    let mut job = WindowJob::new(asset, key).expect("the window exists");
    while let Some(range) = job.wanted() {
        let at = usize::try_from(range.offset).expect("media in memory");
        let bytes = media.get(at..at + range.bytes as usize).expect("a range of the media");
        job.handle_bytes(bytes).expect("well-formed samples");
    }
    job.finish()
}

fn packet_count(window: &PacketWindow) -> usize {
    window.frames().iter().map(|frame| window.packets(frame).len()).sum()
}

/// A title of one window, and its media.
fn h264(picture_bytes: u32) -> (Asset, Vec<u8>) {
    let pictures = 2 * PICTURES_PER_S;
    let mut media = Vec::new();
    for i in 0..pictures {
        media.extend_from_slice(&(picture_bytes - 4).to_be_bytes());
        media.push(if i == 0 { SLICE_IDR } else { SLICE });
        media.resize(((i + 1) * picture_bytes) as usize, 0xa5);
    }
    let sample = |i: u32| Sample {
        offset: u64::from(i * picture_bytes),
        bytes: picture_bytes,
        dts: i64::from(i),
        pts: i64::from(i),
        duration: 1,
        is_sync: i == 0,
        is_disposable: false,
    };
    let codec =
        Codec::H264 { nal_length_bytes: 4, sps: vec![SPS.to_vec()], pps: vec![PPS.to_vec()] };
    let track = Track {
        id: 1,
        kind: MediaKind::Video,
        payload: payload_format(&codec, 0).expect("H.264 has a payload format"),
        codec: Some(codec),
        fourcc: *b"avc1",
        timescale: PICTURES_PER_S,
        language: None,
        size_pixels: Some((1_920, 1_080)),
        index: SampleIndex::from_samples((0..pictures).map(sample).collect()),
        hint: None,
        window_samples: pictures,
        end: Npt::from_ticks(i64::from(pictures), PICTURES_PER_S),
    };
    let asset = Asset {
        duration: track.end,
        tracks: vec![track],
        left_out: Vec::new(),
        container: "mp4",
        file_bytes: media.len() as u64,
        created_utc_ns: None,
        problems: Vec::new(),
    };
    (asset, media)
}

const PICTURES_PER_S: u32 = 25;
/// NAL unit headers (RFC 6184 s1.3): a slice of a key frame, and one that others refer to.
const SLICE_IDR: u8 = 0x65;
const SLICE: u8 = 0x41;
const SPS: [u8; 5] = [0x67, 0x64, 0x00, 0x28, 0xac];
const PPS: [u8; 4] = [0x68, 0xee, 0x3c, 0xb0];
