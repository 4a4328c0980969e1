//! `headend probe FILE`: what is in a file, and how it would be sent.
//!
//! Opens the file as the library does and packetizes nothing. Text goes through
//! [`printable`]: language codes and four-character codes come from the file.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use serde::Serialize;

use super::args::ProbeArgs;
use super::{Exit, Failure, printable};
use crate::base::time::Npt;
use crate::media::asset::{Asset, Track};
use crate::media::codec::{Codec, MediaKind};
use crate::media::container;

pub(super) fn run(args: &ProbeArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let name = args.file.display();
    let unreadable = |error: io::Error| Failure::runtime(format!("{name}: {error}"));
    let file = File::open(&args.file).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(Failure::usage(format!("{name} is not a regular file")));
    }
    let asset = open_asset(&file, metadata.len())
        .map_err(|reason| Failure::runtime(format!("{name} is not playable: {reason}")))?;
    let report = Report::of(&args.file.to_string_lossy(), &asset);
    if args.json {
        let json = serde_json::to_string_pretty(&report).map_err(io::Error::from)?;
        writeln!(out, "{json}")?;
    } else {
        report.print(out)?;
    }
    Ok(Exit::Ok)
}

/// Why a file cannot be looked into.
#[derive(Debug, thiserror::Error)]
enum ProbeError {
    #[error("reading failed: {0}")]
    Read(#[from] io::Error),
    #[error(transparent)]
    Open(#[from] container::OpenError),
}

/// The one place where the command line meets the container reader.
fn open_asset(file: &File, file_bytes: u64) -> Result<Asset, ProbeError> {
    container::open_with(file_bytes, |offset, buf| Ok(file.read_at(buf, offset)?))
}

/// What is told of a file.
#[derive(Debug, Serialize)]
struct Report {
    file: String,
    container: &'static str,
    file_bytes: u64,
    duration_s: f64,
    index_bytes: usize,
    tracks: Vec<TrackReport>,
    left_out: Vec<LeftOutReport>,
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct TrackReport {
    /// As in `a=control:trackID=`.
    track: usize,
    id_in_file: u32,
    kind: &'static str,
    fourcc: String,
    encoding: String,
    /// Decoder configurations that its sample descriptions have.
    decoder_configurations: usize,
    clock_rate_hz: u32,
    channels: Option<u16>,
    payload_type: u8,
    fmtp: Option<String>,
    packetization: &'static str,
    language: Option<String>,
    width: Option<u16>,
    height: Option<u16>,
    samples: u32,
    sync_samples: u32,
    end_s: f64,
}

#[derive(Debug, Serialize)]
struct LeftOutReport {
    id_in_file: u32,
    fourcc: String,
    reason: String,
}

impl Report {
    fn of(file: &str, asset: &Asset) -> Self {
        let left_out = asset.left_out.iter().map(|track| LeftOutReport {
            id_in_file: track.id,
            fourcc: four(track.fourcc),
            reason: printable(&track.reason),
        });
        Self {
            file: printable(file),
            container: asset.container,
            file_bytes: asset.file_bytes,
            duration_s: asset.duration.as_secs_f64(),
            index_bytes: asset.tracks.iter().map(|track| track.index.memory_bytes()).sum(),
            tracks: asset.tracks.iter().enumerate().map(|(i, t)| TrackReport::of(i, t)).collect(),
            left_out: left_out.collect(),
            problems: problems(asset),
        }
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let (file, container) = (&self.file, self.container);
        let duration = clock(self.duration_s);
        writeln!(out, "{file}   {container}   {duration}   {} bytes", self.file_bytes)?;
        for track in &self.tracks {
            track.print(out)?;
        }
        for track in &self.left_out {
            let (id, fourcc, reason) = (track.id_in_file, &track.fourcc, &track.reason);
            writeln!(out, "left out   track_ID {id}   {fourcc}   {reason}")?;
        }
        for problem in &self.problems {
            writeln!(out, "[warn] {problem}")?;
        }
        let verdict = if self.problems.is_empty() && self.left_out.is_empty() {
            "no problems"
        } else {
            "plays, with the limits above"
        };
        writeln!(out, "{verdict}   index {} bytes", self.index_bytes)
    }
}

impl TrackReport {
    fn of(index: usize, track: &Track) -> Self {
        let payload = &track.payload;
        let language = track.language.as_deref().map(printable);
        Self {
            track: index,
            id_in_file: track.id,
            kind: track.kind.as_str(),
            fourcc: four(track.fourcc),
            encoding: payload.encoding_name.clone(),
            decoder_configurations: 1 + track.other_codecs.len(),
            clock_rate_hz: payload.clock_rate_hz,
            channels: payload.channels,
            payload_type: payload.payload_type,
            fmtp: payload.fmtp.clone(),
            packetization: packetization(track),
            language,
            width: track.size_pixels.map(|(width, _)| width),
            height: track.size_pixels.map(|(_, height)| height),
            samples: track.schedule().count(),
            sync_samples: track.schedule().sync_count(),
            end_s: track.end.as_secs_f64(),
        }
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let (index, kind, fourcc) = (self.track, self.kind, &self.fourcc);
        write!(out, "#{index} {kind}   {fourcc}   {}/{}", self.encoding, self.clock_rate_hz)?;
        if let Some(channels) = self.channels {
            write!(out, "/{channels}")?;
        }
        if let (Some(width), Some(height)) = (self.width, self.height) {
            write!(out, "   {width}x{height}")?;
        }
        if let Some(language) = &self.language {
            write!(out, "   {language}")?;
        }
        let (samples, sync, end) = (self.samples, self.sync_samples, clock(self.end_s));
        writeln!(out, "   {samples} samples, {sync} sync, {end}")?;
        let (payload_type, packetization) = (self.payload_type, self.packetization);
        write!(out, "   RTP payload type {payload_type}, {packetization}")?;
        match self.decoder_configurations {
            1 => writeln!(out)?,
            count => writeln!(out, ", {count} decoder configurations, sent in band")?,
        }
        match &self.fmtp {
            Some(fmtp) => writeln!(out, "   fmtp {}", printable(fmtp)),
            None => Ok(()),
        }
    }
}

/// The document that says how packets are made.
fn packetization(track: &Track) -> &'static str {
    if track.hint.is_some() {
        return "QuickTime hint track";
    }
    let Some(codec) = &track.codec else { return "unknown" };
    match codec {
        Codec::H264 { .. } => "RFC 6184 mode 1",
        Codec::H265 { .. } => "RFC 7798",
        Codec::Aac { .. } => "RFC 3640 AAC-hbr",
        Codec::Opus { .. } => "RFC 7587",
        Codec::Mp3 { .. } => "RFC 2250",
        Codec::Pcmu { .. } | Codec::Pcma { .. } => "RFC 3551",
        Codec::Pcm { layout, .. } if layout.sent_bytes() == 2 => "RFC 3551",
        Codec::Pcm { .. } => "RFC 3190",
        Codec::Ac3 { .. } => "RFC 4184",
        Codec::Eac3 { .. } => "RFC 4598",
        Codec::Mpeg4Visual { .. } => "RFC 6416",
        Codec::Mjpeg => "RFC 2435",
        Codec::Av1 { .. } => "AV1 RTP specification",
        Codec::Vp8 => "RFC 7741",
        Codec::Vp9 { .. } => "RFC 9628",
    }
}

/// What will be noticed when it plays.
fn problems(asset: &Asset) -> Vec<String> {
    let mut problems = asset.problems.clone();
    for (index, track) in asset.tracks.iter().enumerate() {
        let samples = track.schedule();
        if samples.count() == 0 {
            problems.push(format!("#{index} has no samples"));
        } else if samples.sync_count() == 0 {
            problems.push(format!("#{index} has no sync sample: every seek goes to the start"));
        } else if track.kind == MediaKind::Video
            && let Some(gap) = longest_gap(track)
            && gap > SYNC_GAP_MAX
        {
            let seconds = gap.as_secs_f64();
            problems.push(format!(
                "#{index} has sync samples up to {seconds:.0} s apart: seeking is coarse; encode \
                 with a shorter GOP (ffmpeg: -g)"
            ));
        }
        if asset.duration - track.end > END_DIFFERENCE_MAX.0 {
            let (end, all) = (clock(track.end.as_secs_f64()), clock(asset.duration.as_secs_f64()));
            problems.push(format!("#{index} ends at {end}, the title at {all}"));
        }
    }
    problems
}

/// The longest time from a sync sample to the next one.
fn longest_gap(track: &Track) -> Option<Npt> {
    let index = track.schedule();
    let times = (0..index.sync_count())
        .filter_map(|i| index.sample(index.sync_sample(i)?))
        .map(|sample| Npt::from_ticks(sample.pts, track.timescale))
        .chain([track.end]);
    let starts = times.clone();
    starts.zip(times.skip(1)).map(|(from, to)| Npt(to - from)).max()
}

/// `1:02:03.500`.
fn clock(seconds: f64) -> String {
    let ms =
        std::time::Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default().as_millis();
    let (s, ms) = (ms / 1_000, ms % 1_000);
    let (h, min, s) = (s / 3_600, s / 60 % 60, s % 60);
    if h > 0 { format!("{h}:{min:02}:{s:02}.{ms:03}") } else { format!("{min}:{s:02}.{ms:03}") }
}

fn four(code: [u8; 4]) -> String {
    code.iter().map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { '.' }).collect()
}

/// A viewer who drags the slider notices more than this.
const SYNC_GAP_MAX: Npt = Npt(12_000_000_000);

/// Encoders let tracks end a little apart.
const END_DIFFERENCE_MAX: Npt = Npt(2_000_000_000);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::asset::LeftOut;
    use crate::media::codec::PayloadFormat;
    use crate::media::index::{Sample, SampleIndex};

    fn samples(count: i64, ticks: u32, sync_every: i64) -> SampleIndex {
        let sample = |i: i64| Sample {
            offset: 0,
            bytes: 100,
            dts: i * i64::from(ticks),
            pts: i * i64::from(ticks),
            duration: ticks,
            is_sync: i % sync_every == 0,
            is_disposable: false,
        };
        SampleIndex::from_samples((0..count).map(sample).collect())
    }

    fn asset() -> Asset {
        let video = Track {
            id: 1,
            kind: MediaKind::Video,
            codec: Some(Codec::H264 { nal_length_bytes: 4, sps: Vec::new(), pps: Vec::new() }),
            other_codecs: Vec::new(),
            fourcc: *b"avc1",
            timescale: 1_000,
            language: Some("und".into()),
            size_pixels: Some((1_280, 720)),
            index: samples(100, 1_000, 20),
            payload: PayloadFormat {
                payload_type: 96,
                encoding_name: "H264".into(),
                clock_rate_hz: 90_000,
                channels: None,
                fmtp: Some("packetization-mode=1".into()),
            },
            hint: None,
            window_samples: 2,
            end: Npt(100_000_000_000),
        };
        let audio = Track {
            id: 2,
            kind: MediaKind::Audio,
            codec: Some(Codec::Opus { channels: 2 }),
            other_codecs: Vec::new(),
            fourcc: *b"Opus",
            language: Some("\u{1b}[J".into()),
            size_pixels: None,
            index: samples(90, 1_000, 1),
            payload: PayloadFormat {
                payload_type: 97,
                encoding_name: "opus".into(),
                clock_rate_hz: 48_000,
                channels: Some(2),
                fmtp: None,
            },
            hint: None,
            end: Npt(90_000_000_000),
            timescale: 1_000,
            window_samples: 2,
        };
        Asset {
            tracks: vec![video, audio],
            left_out: vec![LeftOut { id: 3, fourcc: *b"tmcd", reason: "not media".into() }],
            duration: Npt(100_000_000_000),
            container: "mp4",
            file_bytes: 19_000,
            created_utc_ns: None,
            problems: Vec::new(),
        }
    }

    #[test]
    fn tracks_packetization_and_problems_are_told() {
        let mut out = Vec::new();
        Report::of("a.mp4", &asset()).print(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        // The index's size is its own business.
        let text = text.split("   index ").next().unwrap();
        insta::assert_snapshot!(text, @r"
        a.mp4   mp4   1:40.000   19000 bytes
        #0 video   avc1   H264/90000   1280x720   und   100 samples, 5 sync, 1:40.000
           RTP payload type 96, RFC 6184 mode 1
           fmtp packetization-mode=1
        #1 audio   Opus   opus/48000/2   ?[J   90 samples, 90 sync, 1:30.000
           RTP payload type 97, RFC 7587
        left out   track_ID 3   tmcd   not media
        [warn] #0 has sync samples up to 20 s apart: seeking is coarse; encode with a shorter GOP (ffmpeg: -g)
        [warn] #1 ends at 1:30.000, the title at 1:40.000
        plays, with the limits above
        ");
    }

    #[test]
    fn json_has_the_same_facts() {
        let json = serde_json::to_value(Report::of("a.mp4", &asset())).unwrap();
        assert_eq!(json["tracks"][0]["packetization"], "RFC 6184 mode 1");
        assert_eq!(json["tracks"][1]["channels"], 2);
        assert_eq!(json["left_out"][0]["fourcc"], "tmcd");
        assert_eq!(json["problems"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn clock_shows_hours_only_when_there_are_some() {
        assert_eq!(clock(62.5), "1:02.500");
        assert_eq!(clock(3_723.004), "1:02:03.004");
        assert_eq!(clock(-1.0), "0:00.000");
        assert_eq!(clock(f64::NAN), "0:00.000");
    }
}
