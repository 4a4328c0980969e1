//! Packetizers: samples of any bytes, of every codec, made into packets.
//!
//! An input is the configuration, then samples with their lengths in front. What holds for all:
//! packets that can be sent, pieces of the file in its order and each byte once, and the same
//! verdict on a first sample that opening a title asks for.

use headend::base::limits::RTP_PAYLOAD_BYTES_MAX;
use headend::base::time::Npt;
use headend::media::asset::{Asset, Track};
use headend::media::codec::{Codec, MediaKind};
use headend::media::index::{Sample, SampleIndex};
use headend::media::packetize::{check_sample, payload_format};
use headend::media::pcm::PcmLayout;
use headend::media::window::{PacketWindow, Piece, WindowKey, WindowKind};
use headend::rtp::detect::DetectorFormat;

use crate::input::Input;
use crate::media::{check_window, payload, window_of};
use crate::rtp::units;

/// H.264: the units that a depacketizer gets are those of the samples and of the configuration.
pub fn h264(data: &[u8]) {
    let mut input = Input::new(data);
    let nal_length_bytes = 1 + (input.u8() & 3);
    let (sps, pps) = (sets(&mut input), sets(&mut input));
    let known = [sps.clone(), pps.clone()].concat();
    let codec = Codec::H264 { nal_length_bytes, sps, pps };
    let Some(title) = Title::of(codec, 90_000, &mut input) else { return };
    let is_sent = |unit: &[u8]| !matches!(unit[0] & 0x1f, 0 | 9 | 12 | 24..=31);
    title.check_units(DetectorFormat::H264, usize::from(nal_length_bytes), &known, is_sent);
}

/// H.265: the same.
pub fn h265(data: &[u8]) {
    let mut input = Input::new(data);
    let nal_length_bytes = 1 + (input.u8() & 3);
    let (vps, sps, pps) = (sets(&mut input), sets(&mut input), sets(&mut input));
    let known = [vps.clone(), sps.clone(), pps.clone()].concat();
    let codec = Codec::H265 { nal_length_bytes, vps, sps, pps };
    let Some(title) = Title::of(codec, 90_000, &mut input) else { return };
    let is_sent = |unit: &[u8]| unit.len() >= 2 && !matches!(unit[0] >> 1 & 0x3f, 35 | 38 | 48..);
    title.check_units(DetectorFormat::H265, usize::from(nal_length_bytes), &known, is_sent);
}

/// AV1.
pub fn av1(data: &[u8]) {
    let mut input = Input::new(data);
    let config_obus = input.short().to_vec();
    let codec = Codec::Av1 { config_obus, profile: 0, level_idx: 8, tier: 0 };
    let _ = Title::of(codec, 90_000, &mut input);
}

/// Motion JPEG.
pub fn jpeg(data: &[u8]) {
    let _ = Title::of(Codec::Mjpeg, 90_000, &mut Input::new(data));
}

/// MPEG-4 Visual, VP8 and VP9: a sample is sent whole.
pub fn video(data: &[u8]) {
    let mut input = Input::new(data);
    let codec = match input.u8() % 3 {
        0 => Codec::Mpeg4Visual { config: input.short().to_vec() },
        1 => Codec::Vp8,
        _ => Codec::Vp9 { profile: input.u8() & 3 },
    };
    if let Some(title) = Title::of(codec, 90_000, &mut input) {
        title.check_whole();
    }
}

/// Sound of every codec. All but linear PCM is sent whole and as it is.
pub fn audio(data: &[u8]) {
    let mut input = Input::new(data);
    let what = input.u8();
    let channels = u16::from(input.u8() & 0x0f);
    let sample_rate_hz = [8_000, 44_100, 48_000, 1][usize::from(input.u8() & 3)];
    let codec = match what % 9 {
        0 => Codec::Aac { config: input.short().to_vec(), sample_rate_hz, channels },
        1 => Codec::Opus { channels },
        2 => Codec::Mp3 { sample_rate_hz, channels },
        3 => Codec::Pcmu { sample_rate_hz, channels },
        4 => Codec::Pcma { sample_rate_hz, channels },
        5 => Codec::Ac3 { sample_rate_hz, channels },
        6 => Codec::Eac3 { sample_rate_hz, channels },
        kind => {
            let (bits, flags) = (u32::from(input.u8()), input.u8());
            let is_little_endian = flags & 1 != 0;
            let layout = match kind {
                7 => PcmLayout::integer(bits, flags & 2 != 0, is_little_endian),
                _ => PcmLayout::float(bits, is_little_endian),
            };
            let Some(layout) = layout else { return };
            let unused = u32::from(flags >> 3);
            let layout = layout.aligned(unused, flags & 4 != 0).unwrap_or(layout);
            Codec::Pcm { sample_rate_hz, channels, layout }
        }
    };
    let Some(title) = Title::of(codec, sample_rate_hz, &mut input) else { return };
    match what % 9 {
        // A larger packet of Opus is taken apart.
        1 if title.samples.iter().all(|sample| sample.bytes <= 1_400) => title.check_plain(),
        // A part of an instant, a value for some channels, is not sent.
        3 | 4 if channels == 1 => title.check_plain(),
        0 | 2 | 5 | 6 => title.check_whole(),
        _ => {}
    }
}

fn sets(input: &mut Input<'_>) -> Vec<Vec<u8>> {
    let count = usize::from(input.u8() & 3);
    let sets = (0..count).map(|_| input.short().to_vec());
    sets.filter(|set| !set.is_empty()).collect()
}

/// A file of samples with one track, and the window of all of them.
struct Title {
    file: Vec<u8>,
    samples: Vec<Sample>,
    window: PacketWindow,
}

impl Title {
    /// None when the codec cannot be sent, or a sample is not what it promises.
    fn of(codec: Codec, timescale: u32, input: &mut Input<'_>) -> Option<Self> {
        let payload_format = payload_format(&codec, 0)?;
        let (mut file, mut samples, mut at) = (vec![0xee; 16], Vec::new(), 0_i64);
        while !input.is_empty() && samples.len() < SAMPLES_MAX {
            let flags = input.u8();
            let bytes = input.long();
            let duration = u32::from(flags & 0x3f) * 32;
            samples.push(Sample {
                offset: file.len() as u64,
                bytes: u32::try_from(bytes.len()).unwrap_or(0),
                dts: at,
                pts: at,
                duration,
                is_sync: flags & 0x40 != 0,
                is_disposable: flags & 0x80 != 0,
            });
            at += i64::from(duration);
            file.extend_from_slice(bytes);
            file.push(0xee);
        }
        let first = samples.iter().find(|sample| sample.bytes > 0)?;
        let checked = check_sample(&codec, bytes_of(&file, first));
        let track = Track {
            id: 1,
            kind: MediaKind::Video,
            payload: payload_format,
            codec: Some(codec),
            other_codecs: Vec::new(),
            fourcc: *b"fuzz",
            timescale,
            language: None,
            size_pixels: None,
            window_samples: u32::try_from(samples.len()).unwrap_or(1),
            index: SampleIndex::from_samples(samples.clone()),
            hint: None,
            end: Npt::ZERO,
        };
        let asset = Asset {
            tracks: vec![track],
            left_out: Vec::new(),
            duration: Npt::ZERO,
            container: "mp4",
            file_bytes: file.len() as u64,
            created_utc_ns: None,
            problems: Vec::new(),
        };
        let key = WindowKey { track_index: 0, kind: WindowKind::All, index: 0 };
        let window = window_of(&asset, key, &file);
        assert!(checked.is_ok() || window.is_none(), "opened, and not sent: {checked:?}");
        let title = Self { file, samples, window: window? };
        title.check_pieces();
        Some(title)
    }

    /// Pieces of the file lie inside of samples, in their order, and no byte is sent twice.
    fn check_pieces(&self) {
        check_window(&self.window, &self.file, RTP_PAYLOAD_BYTES_MAX);
        let mut sent_to = 0;
        for packet in self.window.all_packets() {
            for piece in self.window.pieces(packet) {
                let Piece::File { offset, bytes } = *piece else { continue };
                let end = offset + u64::from(bytes);
                assert!(offset >= sent_to, "{offset} again");
                let is_of = |sample: &Sample| {
                    sample.offset <= offset && end <= sample.offset + u64::from(sample.bytes)
                };
                assert!(self.samples.iter().any(is_of), "{offset}..{end}");
                sent_to = end;
            }
        }
    }

    /// Every byte of every sample is sent: in pieces of the file, those of a few bytes inline.
    fn check_whole(&self) {
        let packets = self.window.all_packets().iter();
        let all: u64 = packets.map(|packet| u64::from(packet.payload_bytes)).sum();
        let pieces = self.window.all_packets().iter().flat_map(|packet| self.window.pieces(packet));
        let of_file = pieces.map(|piece| match *piece {
            Piece::File { bytes, .. } => u64::from(bytes),
            Piece::Inline { .. } => 0,
        });
        let (of_file, wanted) = (of_file.sum::<u64>(), self.samples.iter());
        let wanted: u64 = wanted.map(|sample| u64::from(sample.bytes)).sum();
        assert!(of_file <= wanted && wanted <= all, "{of_file} {wanted} {all}");
    }

    /// What is sent is the samples, without anything in between.
    fn check_plain(&self) {
        let packets = self.window.all_packets().iter();
        let sent = packets.flat_map(|packet| payload(&self.window, packet, &self.file));
        let wanted = self.samples.iter().flat_map(|sample| bytes_of(&self.file, sample).to_vec());
        assert!(sent.eq(wanted), "other bytes are sent than those of the samples");
    }

    /// Units with their lengths in front, as a depacketizer gets them: those of the samples that
    /// are sent, in order, with sets of the configuration in between.
    fn check_units(
        &self,
        format: DetectorFormat,
        length_bytes: usize,
        known: &[Vec<u8>],
        is_sent: impl Fn(&[u8]) -> bool,
    ) {
        let payloads: Vec<Vec<u8>> = self
            .window
            .all_packets()
            .iter()
            .map(|packet| payload(&self.window, packet, &self.file))
            .collect();
        check_fragments(format, &payloads);
        let mut got = units(format, payloads.iter().map(Vec::as_slice)).into_iter();
        for sample in &self.samples {
            for unit in units_of_sample(bytes_of(&self.file, sample), length_bytes) {
                if !is_sent(unit) {
                    continue;
                }
                let is_it = got.by_ref().find(|(bytes, starts, ends)| {
                    assert!(*starts && *ends, "a unit in parts");
                    let is_it = bytes == unit;
                    assert!(is_it || known.contains(bytes), "{bytes:x?}, not {unit:x?}");
                    is_it
                });
                assert!(is_it.is_some(), "{unit:x?} was not sent");
            }
        }
        assert!(got.all(|(bytes, ..)| known.contains(&bytes)), "more was sent than there is");
    }
}

/// The fragments of a unit have one length, the last may be shorter.
fn check_fragments(format: DetectorFormat, payloads: &[Vec<u8>]) {
    let (header_bytes, fragment) = if format == DetectorFormat::H264 { (1, 28) } else { (2, 49) };
    let mut length = 0;
    for payload in payloads {
        let kind = if header_bytes == 1 { payload[0] & 0x1f } else { payload[0] >> 1 & 0x3f };
        if kind != fragment {
            continue;
        }
        let fu = payload[header_bytes];
        if fu & 0x80 != 0 {
            length = payload.len();
        }
        let is_last = fu & 0x40 != 0;
        assert!(payload.len() == length || is_last && payload.len() <= length, "uneven fragments");
    }
}

fn units_of_sample(sample: &[u8], length_bytes: usize) -> impl Iterator<Item = &[u8]> {
    let mut rest = sample;
    std::iter::from_fn(move || {
        let (length, behind) = rest.split_at_checked(length_bytes)?;
        let bytes = length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        let (unit, behind) = behind.split_at(bytes.min(behind.len()));
        rest = behind;
        Some(unit)
    })
    .filter(|unit| !unit.is_empty())
}

fn bytes_of<'f>(file: &'f [u8], sample: &Sample) -> &'f [u8] {
    let start = usize::try_from(sample.offset).expect("an offset in memory");
    &file[start..start + sample.bytes as usize]
}

const SAMPLES_MAX: usize = 64;
