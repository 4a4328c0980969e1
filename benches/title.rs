//! Titles of one track with their media in memory: what packetizers and the pacer are fed.
//!
//! ```text
//! media  [sample 0][sample 1] ..      samples shaped like an encoder's, filled with one byte
//! track  tables to match, windows of two seconds
//! ```
//! Sizes vary as they do in films, because runs of packets depend on them.

#![expect(clippy::expect_used, reason = "an input that is refused measures nothing")]

use std::io::Write;
use std::sync::Arc;

use headend::base::time::Npt;
use headend::library::title::{self, FileIdentity};
use headend::mapped::MappedFile;
use headend::media::asset::{Asset, Track};
use headend::media::codec::{Codec, MediaKind};
use headend::media::index::{Sample, SampleIndex};
use headend::media::packetize::{WindowJob, payload_format};
use headend::media::window::{PacketWindow, WindowKey, WindowKind};

/// See the module.
pub(crate) struct Title {
    asset: Asset,
    media: Vec<u8>,
}

/// How the samples of a track come.
#[derive(Clone, Copy)]
struct Pace {
    timescale: u32,
    /// Duration of each.
    ticks: u32,
    /// A sync sample, and how many follow until the next one.
    sync_every: usize,
}

impl Title {
    /// H.264, one slice a picture, 25 pictures a second.
    pub(crate) fn h264(mbit_per_s: u32, seconds: u32) -> Self {
        let codec =
            Codec::H264 { nal_length_bytes: 4, sps: vec![SPS.to_vec()], pps: vec![PPS.to_vec()] };
        // RFC 6184 s1.3: a slice of a key frame, one that others refer to, one that none does.
        let heads: [&[u8]; 3] = [&[0x65], &[0x41], &[0x01]];
        Self::new(codec, MediaKind::Video, VIDEO_PACE, &pictures(mbit_per_s, seconds, heads))
    }

    /// H.265, one slice a picture, 25 pictures a second.
    pub(crate) fn h265(mbit_per_s: u32, seconds: u32) -> Self {
        let codec = Codec::H265 {
            nal_length_bytes: 4,
            vps: vec![vec![0x40, 1, 0x0c, 1]],
            sps: vec![vec![0x42, 1, 1, 1, 0x60, 0, 0, 3]],
            pps: vec![vec![0x44, 1, 0xc1, 0x72]],
        };
        // RFC 7798 s1.1.4: IDR_W_RADL, TRAIL_R, TRAIL_N.
        let heads: [&[u8]; 3] = [&[0x26, 1], &[0x02, 1], &[0x00, 1]];
        Self::new(codec, MediaKind::Video, VIDEO_PACE, &pictures(mbit_per_s, seconds, heads))
    }

    /// AAC of 48 kHz, 1,024 samples a unit.
    pub(crate) fn aac(kbit_per_s: u32, seconds: u32) -> Self {
        let config = vec![0x11, 0x90];
        let codec = Codec::Aac { config, sample_rate_hz: 48_000, channels: 2 };
        let pace = Pace { timescale: 48_000, ticks: 1_024, sync_every: 1 };
        let units: Vec<_> = sizes(kbit_per_s * 1_000 / 8 * 1_024 / 48_000, kbit_per_s)
            .take((seconds * 48_000 / 1_024) as usize)
            .map(|bytes| vec![0x21; bytes])
            .collect();
        Self::new(codec, MediaKind::Audio, pace, &units)
    }

    /// Opus in packets of 20 ms.
    pub(crate) fn opus(kbit_per_s: u32, seconds: u32) -> Self {
        let pace = Pace { timescale: 48_000, ticks: 960, sync_every: 1 };
        // RFC 6716 s3.1: full band, 20 ms, stereo, one frame.
        let units: Vec<_> = sizes(kbit_per_s * 1_000 / 8 / 50, kbit_per_s)
            .take((seconds * 50) as usize)
            .map(|bytes| vec![0xfc; bytes])
            .collect();
        Self::new(Codec::Opus { channels: 2 }, MediaKind::Audio, pace, &units)
    }

    fn new(codec: Codec, kind: MediaKind, pace: Pace, samples: &[Vec<u8>]) -> Self {
        let (mut media, mut list) = (Vec::new(), Vec::new());
        for (number, bytes) in samples.iter().enumerate() {
            let at = i64::try_from(number).expect("a short film") * i64::from(pace.ticks);
            list.push(Sample {
                offset: media.len() as u64,
                bytes: u32::try_from(bytes.len()).expect("a small sample"),
                dts: at,
                pts: at,
                duration: pace.ticks,
                is_sync: number % pace.sync_every == 0,
                is_disposable: false,
            });
            media.extend_from_slice(bytes);
        }
        let end = i64::try_from(list.len()).expect("a short film") * i64::from(pace.ticks);
        let track = Track {
            id: 1,
            kind,
            payload: payload_format(&codec, 0).expect("the codec has a payload format"),
            codec: Some(codec),
            other_codecs: Vec::new(),
            fourcc: *b"none",
            timescale: pace.timescale,
            language: None,
            size_pixels: None,
            index: SampleIndex::from_samples(list),
            hint: None,
            window_samples: 2 * pace.timescale / pace.ticks,
            end: Npt::from_ticks(end, pace.timescale),
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
        Self { asset, media }
    }

    /// Packetizes a window as a worker does; the disk is not measured.
    pub(crate) fn window(&self, index: u32) -> PacketWindow {
        let key = WindowKey { track_index: 0, kind: WindowKind::All, index };
        let mut job = WindowJob::new(&self.asset, key).expect("the window exists");
        while let Some(range) = job.wanted() {
            let at = usize::try_from(range.offset).expect("media in memory");
            let bytes = self.media.get(at..at + range.bytes as usize).expect("inside the media");
            job.handle_bytes(bytes).expect("well-formed samples");
        }
        job.finish()
    }

    /// As sessions have it: in a file.
    pub(crate) fn opened(self) -> Arc<title::Title> {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&self.media).expect("room for a film");
        Arc::new(title::Title {
            wire: headend::rtp::WireBase::new(1),
            name: String::from("film.mp4"),
            url_path: String::from("vod/film.mp4"),
            asset: self.asset,
            map: MappedFile::new(&file).expect("a map"),
            identity: FileIdentity::of(&file).expect("a file"),
            file,
        })
    }
}

/// Packets of a window.
pub(crate) fn packet_count(window: &PacketWindow) -> usize {
    window.frames().iter().map(|frame| window.packets(frame).len()).sum()
}

/// Pictures of a constant bit rate: a key frame of five times the average every two seconds, and
/// between them one picture in three that others refer to, twice as large as the others.
fn pictures(mbit_per_s: u32, seconds: u32, heads: [&[u8]; 3]) -> Vec<Vec<u8>> {
    let average = mbit_per_s as usize * 1_000_000 / 8 / PICTURES_PER_S;
    let rest = (KEY_EVERY - 5) * average / (KEY_EVERY - 1);
    let picture = |number: usize| {
        let (head, bytes) = match (number % KEY_EVERY, number % 3) {
            (0, _) => (heads[0], 5 * average),
            (_, 0) => (heads[1], rest * 6 / 4),
            (_, _) => (heads[2], rest * 3 / 4),
        };
        let mut sample = u32::try_from(bytes - 4).expect("a small picture").to_be_bytes().to_vec();
        sample.extend_from_slice(head);
        sample.resize(bytes, 0xa5);
        sample
    };
    (0..seconds as usize * PICTURES_PER_S).map(picture).collect()
}

/// Sizes of audio units about an average, a quarter up and down, never the same twice in a row.
fn sizes(average: u32, seed: u32) -> impl Iterator<Item = usize> {
    let average = average as usize;
    (seed as usize..).map(move |i| average * 3 / 4 + i * 37 % (average / 2).max(1))
}

const PICTURES_PER_S: usize = 25;
const KEY_EVERY: usize = 50;
const VIDEO_PACE: Pace = Pace { timescale: 25, ticks: 1, sync_every: KEY_EVERY };
const SPS: [u8; 5] = [0x67, 0x64, 0x00, 0x28, 0xac];
const PPS: [u8; 4] = [0x68, 0xee, 0x3c, 0xb0];
