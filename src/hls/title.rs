//! A title cut into segments, from its sample index: nothing is written, nothing is kept but the
//! places of the cuts.
//!
//! ```text
//! video  S....S....S....S....S..     S: sync sample       cut at the first one that is at least
//! cuts   |         |         |       SEGMENT behind the cut before
//! sound  ..........|.........|...    samples from the time of a cut to that of the next
//! ```
//! A segment is a head (`moof`) and ranges of the file, those of the first track first. Times begin
//! at `start_s`, the whole seconds that decode times before 0 need: `tfdt` has no sign.
//! Invariants: each sample of a track is in one segment; segments of video begin with a sync
//! sample; names of segments change with the file and with `PLAN_VERSION`. Bounds: `SEGMENTS_MAX`
//! segments; a segment as `fragment_head`; 4 bytes a cut and track.

use super::playlist::{Multivariant, Rate, TitlePlaylist};
use super::resource::{Rendition, Revision};
use super::sound::Sound;
use crate::base::time::rescale;
use crate::library::title::FileIdentity;
use crate::media::asset::{Asset, Track};
use crate::media::codec::MediaKind;
use crate::media::fmp4::{
    Decoder, FragmentError, FragmentSample, InitTrack, NotShown, TrackRun, fragment_head,
    init_segment, name_of,
};

/// A title, cut.
#[derive(Debug)]
pub struct TitlePlan {
    revision: Revision,
    renditions: Vec<PlanRendition>,
    /// Times of the segments' ends in microseconds, from the beginning of the first one.
    ends_us: Vec<u64>,
    start_s: u64,
    multivariant: Multivariant,
}

/// Why a title cannot be shown in a browser.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// It has a picture that cannot be shown, or nothing but sound that cannot be heard.
    #[error("the {kind} of this title is {why}")]
    Track {
        /// `video` or `audio`.
        kind: &'static str,
        /// What is wrong with it.
        why: NotShown,
    },
    /// It has no tracks.
    #[error("this title has neither video nor audio that can be served")]
    Nothing,
    /// It would have too many segments.
    #[error("this title would have more than {SEGMENTS_MAX} segments")]
    TooLong,
    /// The initialization segment cannot be written.
    #[error("the decoder configuration of this title cannot be written as MP4")]
    Configuration,
}

#[derive(Debug)]
struct PlanRendition {
    tracks: Vec<PlanTrack>,
    init: Vec<u8>,
}

#[derive(Debug)]
struct PlanTrack {
    /// Place in `Asset::tracks`.
    place: usize,
    /// `track_ID` in segments.
    id: u32,
    /// First sample of each segment, and behind the last one the number of samples.
    firsts: Vec<u32>,
}

/// A segment: its head, and where the rest is in the file.
#[derive(Debug, PartialEq, Eq)]
pub struct SegmentPlan {
    /// `moof` and the first bytes of `mdat`.
    pub head: Vec<u8>,
    /// Ranges of the file, in the order of the segment: offset and length.
    pub ranges: Vec<(u64, u64)>,
}

impl SegmentPlan {
    /// Length of the segment.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.head.len() as u64 + self.ranges.iter().map(|(_, bytes)| bytes).sum::<u64>()
    }
}

/// A track with its configuration.
struct Chosen<'a> {
    place: usize,
    track: &'a Track,
    decoder: Decoder,
}

/// The video, the sounds, and why other tracks are left out.
type Choice<'a> = (Option<Chosen<'a>>, Vec<Chosen<'a>>, Vec<String>);

/// A time of the reference track.
#[derive(Debug, Clone, Copy)]
struct Cut {
    ticks: i64,
    timescale: u32,
    /// The sample of the video that begins here; `None` behind its end, and for sound alone.
    video_sample: Option<u32>,
}

impl TitlePlan {
    /// Cuts a title. Takes as long as it takes to look at every sample once.
    ///
    /// # Errors
    /// See [`PlanError`].
    pub fn new(asset: &Asset, identity: FileIdentity) -> Result<Self, PlanError> {
        let (video, sounds, left_out) = choose(asset)?;
        let all: Vec<&Chosen<'_>> = video.iter().chain(&sounds).collect();
        let reference = all.first().ok_or(PlanError::Nothing)?;
        let end_ns = all.iter().map(|chosen| chosen.track.end.0).max().unwrap_or(0);
        let cuts = cuts(reference.track, end_ns)?;
        let first_ns = all.iter().filter_map(|chosen| first_ns(chosen.track)).min().unwrap_or(0);
        let begin_us = first_ns.max(0) / 1_000;
        let ends = cuts.iter().skip(1).map(|cut| rescale(cut.ticks, cut.timescale, US));
        let ends = ends.chain([end_ns / 1_000]).map(|us| us.saturating_sub(begin_us).max(0));
        let mut ends_us: Vec<u64> = ends.map(i64::unsigned_abs).collect();
        // A title of one picture lasts at least a little.
        if let Some(last) = ends_us.last_mut() {
            *last = (*last).max(1);
        }
        let start_s = all.iter().map(|chosen| start_s(chosen.track)).max().unwrap_or(0);
        let sets = sets(video.as_ref(), &sounds);
        let renditions = sets.iter().map(|set| rendition(set, &cuts)).collect::<Result<_, _>>()?;
        let mut plan = Self {
            revision: revision(identity, PLAN_VERSION),
            renditions,
            ends_us,
            start_s,
            multivariant: multivariant(&sets, start_s, left_out),
        };
        plan.multivariant.rate = plan.rate(asset);
        Ok(plan)
    }

    /// Tells its bytes from those of another file under the same name, or of other cuts.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The multivariant playlist.
    #[must_use]
    pub fn multivariant(&self) -> &Multivariant {
        &self.multivariant
    }

    /// The playlist of a rendition; `None` when there is no such rendition.
    #[must_use]
    pub fn playlist(&self, rendition: Rendition) -> Option<TitlePlaylist<'_>> {
        self.renditions.get(usize::from(rendition.0))?;
        let numbers = 0..self.ends_us.len() as u64;
        let gaps = numbers.map(|number| self.samples_of(rendition, number) == 0).collect();
        Some(TitlePlaylist { rendition, revision: self.revision, ends_us: &self.ends_us, gaps })
    }

    /// The initialization segment of a rendition.
    #[must_use]
    pub fn init(&self, rendition: Rendition) -> Option<&[u8]> {
        Some(&self.renditions.get(usize::from(rendition.0))?.init)
    }

    /// Memory that it takes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let firsts = |track: &PlanTrack| track.firsts.len() * size_of::<u32>();
        let of = |rendition: &PlanRendition| {
            rendition.init.len() + rendition.tracks.iter().map(firsts).sum::<usize>()
        };
        size_of::<Self>()
            + self.ends_us.len() * size_of::<u64>()
            + self.renditions.iter().map(of).sum::<usize>()
    }

    /// Samples of a segment: what it takes to write its head.
    #[must_use]
    pub fn samples_of(&self, rendition: Rendition, number: u64) -> u32 {
        let Some(place) = usize::try_from(number).ok().filter(|at| *at < self.ends_us.len()) else {
            return 0;
        };
        let rendition = self.renditions.get(usize::from(rendition.0));
        let tracks = rendition.map_or(&[][..], |rendition| &rendition.tracks);
        let count = |track: &PlanTrack| {
            let range = track.firsts.get(place).zip(track.firsts.get(place + 1));
            range.map_or(0, |(first, end)| end - first)
        };
        tracks.iter().map(count).fold(0, u32::saturating_add)
    }

    /// A segment. `asset` is the one that was cut. `None` when there is no such segment.
    ///
    /// # Errors
    /// See [`FragmentError`].
    pub fn segment(
        &self,
        asset: &Asset,
        rendition: Rendition,
        number: u64,
    ) -> Result<Option<SegmentPlan>, FragmentError> {
        let Some(place) = usize::try_from(number).ok().filter(|at| *at < self.ends_us.len()) else {
            return Ok(None);
        };
        let Some(rendition) = self.renditions.get(usize::from(rendition.0)) else {
            return Ok(None);
        };
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        let mut runs = Vec::new();
        for planned in &rendition.tracks {
            let Some(track) = asset.tracks.get(planned.place) else { return Ok(None) };
            let range = planned.firsts.get(place).zip(planned.firsts.get(place + 1));
            let Some((&first, &end)) = range else { return Ok(None) };
            let mut samples = Vec::with_capacity((end - first) as usize);
            let mut decode_time = None;
            for sample in track.index.iter(first, end - first) {
                decode_time.get_or_insert(sample.dts);
                samples.push(FragmentSample {
                    bytes: sample.bytes,
                    duration: sample.duration,
                    composition_offset: clamped(sample.pts - sample.dts),
                    is_sync: sample.is_sync || track.kind == MediaKind::Audio,
                    is_disposable: sample.is_disposable,
                });
                let bytes = u64::from(sample.bytes);
                match ranges.last_mut() {
                    Some((offset, length)) if *offset + *length == sample.offset => {
                        *length += bytes;
                    }
                    _ => ranges.push((sample.offset, bytes)),
                }
            }
            let shift = i64::try_from(self.start_s).unwrap_or(0) * i64::from(track.timescale);
            let decode_time = decode_time.unwrap_or_else(|| begin_of(track, first));
            let decode_time = decode_time.saturating_add(shift);
            let decode_time = u64::try_from(decode_time).unwrap_or(0);
            runs.push(TrackRun { id: planned.id, decode_time, samples });
        }
        let sequence = u32::try_from(number + 1).unwrap_or(u32::MAX);
        Ok(Some(SegmentPlan { head: fragment_head(sequence, &runs)?, ranges }))
    }

    /// Rates by the bytes of the samples: of the picture and the sound with most together, or of
    /// that sound (RFC 8216 s4.3.4.2).
    fn rate(&self, asset: &Asset) -> Rate {
        let mut rates = self.renditions.iter().map(|rendition| self.rate_of(asset, rendition));
        let main = rates.next().unwrap_or_default();
        let beside = rates.fold(Rate::default(), |most, rate| Rate {
            peak: most.peak.max(rate.peak),
            average: most.average.max(rate.average),
        });
        if self.multivariant.size_pixels.is_some() {
            return Rate { peak: main.peak + beside.peak, average: main.average + beside.average };
        }
        Rate { peak: main.peak.max(beside.peak), average: main.average.max(beside.average) }
    }

    fn rate_of(&self, asset: &Asset, rendition: &PlanRendition) -> Rate {
        let mut bytes = vec![0_u64; self.ends_us.len()];
        for planned in &rendition.tracks {
            let Some(track) = asset.tracks.get(planned.place) else { continue };
            for (sum, range) in bytes.iter_mut().zip(planned.firsts.windows(2)) {
                let [first, end] = *range else { continue };
                let samples = track.index.iter(first, end - first);
                *sum += samples.map(|sample| u64::from(sample.bytes)).sum::<u64>();
            }
        }
        let durations = super::playlist::durations_us(&self.ends_us);
        let bits = |bytes: u64, us: u64| bytes.saturating_mul(8 * u64::from(US)) / us.max(1);
        let peaks = bytes.iter().zip(durations).map(|(bytes, us)| bits(*bytes, us));
        let whole = self.ends_us.last().copied().unwrap_or(0);
        Rate { peak: peaks.max().unwrap_or(0), average: bits(bytes.iter().sum(), whole) }
    }
}

/// What is in each rendition. A video and one sound are in one: a viewer asks for one thing at a
/// time, and a cache keeps one. Of several sounds each is in its own, so that nobody loads one that
/// is not heard.
fn sets<'a>(video: Option<&'a Chosen<'a>>, sounds: &'a [Chosen<'a>]) -> Vec<Vec<&'a Chosen<'a>>> {
    let with_main = usize::from(video.is_none() || sounds.len() < 2);
    let main = video.into_iter().chain(sounds.iter().take(with_main)).collect();
    let beside = sounds.iter().skip(with_main).map(|sound| vec![sound]);
    std::iter::once(main).chain(beside).collect()
}

/// Decode time at which a segment without samples lies: behind the sample before, or where the
/// first one begins.
fn begin_of(track: &Track, first: u32) -> i64 {
    let before = first.checked_sub(1).and_then(|number| track.index.sample(number));
    let end = before.map(|sample| sample.dts.saturating_add(i64::from(sample.duration)));
    end.or_else(|| Some(track.index.sample(first)?.dts)).unwrap_or(0)
}

/// Finds what is shown of a title.
fn choose(asset: &Asset) -> Result<Choice<'_>, PlanError> {
    let (mut video, mut sounds, mut left_out) = (None, Vec::new(), Vec::new());
    let mut refused = None;
    for (place, track) in asset.tracks.iter().enumerate() {
        if track.index.count() == 0 || (track.kind == MediaKind::Video && video.is_some()) {
            continue;
        }
        match decoder_of(track) {
            Ok(decoder) if track.kind == MediaKind::Video => {
                video = Some(Chosen { place, track, decoder });
            }
            Ok(decoder) => sounds.push(Chosen { place, track, decoder }),
            Err(why) => {
                left_out.push(format!("track {} is {why}", track.id));
                let is_worse = |(kind, _): &(MediaKind, NotShown)| *kind == MediaKind::Audio;
                if refused.as_ref().is_none_or(is_worse) {
                    refused = Some((track.kind, why));
                }
            }
        }
    }
    match refused {
        // A picture that cannot be shown is not made good for by its sound.
        Some((MediaKind::Video, why)) if video.is_none() => {
            Err(PlanError::Track { kind: "video", why })
        }
        Some((kind, why)) if video.is_none() && sounds.is_empty() => {
            Err(PlanError::Track { kind: kind.as_str(), why })
        }
        _ if video.is_none() && sounds.is_empty() => Err(PlanError::Nothing),
        _ => Ok((video, sounds, left_out)),
    }
}

fn decoder_of(track: &Track) -> Result<Decoder, NotShown> {
    let codec = track.codec.as_ref().ok_or(NotShown::Unknown)?;
    if !track.other_codecs.is_empty() {
        return Err(NotShown::Changes { codec: name_of(codec) });
    }
    // What an edit list cuts off the beginning is what the decoder is to drop (RFC 7845 s4.2).
    let begin = track.index.sample(0).map_or(0, |sample| sample.pts.min(0));
    let pre_skip = rescale(-begin, track.timescale, OPUS_RATE_HZ);
    Decoder::new(codec, track.size_pixels, u16::try_from(pre_skip).unwrap_or(0))
}

/// Where segments begin: at sync samples of the reference, and behind its end every `SEGMENT`.
fn cuts(reference: &Track, end_ns: i64) -> Result<Vec<Cut>, PlanError> {
    let timescale = reference.timescale.max(1);
    let index = &reference.index;
    let target = rescale(SEGMENT_NS, NS, timescale);
    let first = index.sample(0).ok_or(PlanError::Nothing)?;
    let mut cuts = vec![Cut { ticks: first.pts, timescale, video_sample: Some(0) }];
    let mut push = |ticks: i64, video_sample: Option<u32>| {
        cuts.push(Cut { ticks, timescale, video_sample });
        if cuts.len() > SEGMENTS_MAX { Err(PlanError::TooLong) } else { Ok(()) }
    };
    let mut at = first.pts;
    if reference.kind == MediaKind::Video {
        for place in 1..index.sync_count() {
            let Some(number) = index.sync_sample(place) else { break };
            let Some(sample) = index.sample(number) else { break };
            if sample.pts - at >= target {
                at = sample.pts;
                push(at, Some(number))?;
            }
        }
    }
    // Sound alone, and sound behind the end of the picture.
    let end = rescale(end_ns, NS, timescale);
    let mut ticks = at + target;
    if reference.kind == MediaKind::Video {
        ticks = ticks.max(index.end_ticks());
    }
    while ticks < end - target / 2 {
        push(ticks, None)?;
        ticks += target;
    }
    Ok(cuts)
}

fn rendition(set: &[&Chosen<'_>], cuts: &[Cut]) -> Result<PlanRendition, PlanError> {
    let ids = 1..;
    let tracks: Vec<PlanTrack> = set
        .iter()
        .zip(ids)
        .map(|(chosen, id)| PlanTrack {
            place: chosen.place,
            id,
            firsts: firsts(chosen.track, cuts),
        })
        .collect();
    let inits: Vec<_> = set
        .iter()
        .zip(&tracks)
        .map(|(chosen, planned)| InitTrack {
            id: planned.id,
            timescale: chosen.track.timescale,
            decoder: &chosen.decoder,
            language: chosen.track.language.as_deref(),
        })
        .collect();
    let init = init_segment(&inits).ok_or(PlanError::Configuration)?;
    Ok(PlanRendition { tracks, init })
}

/// The first sample of each segment. Of video a cut is a sync sample itself; of sound it is the
/// first sample that is not before it.
fn firsts(track: &Track, cuts: &[Cut]) -> Vec<u32> {
    let index = &track.index;
    let count = index.count();
    let place = |cut: &Cut| {
        if track.kind == MediaKind::Video {
            return cut.video_sample.unwrap_or(count);
        }
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = low + (high - low) / 2;
            let is_before = index.sample(middle).is_some_and(|sample| {
                let (a, b) = (i128::from(sample.dts), i128::from(cut.ticks));
                a * i128::from(cut.timescale) < b * i128::from(track.timescale)
            });
            if is_before { low = middle + 1 } else { high = middle }
        }
        low
    };
    let inner = cuts.iter().skip(1).map(place);
    std::iter::once(0).chain(inner).chain([count]).collect()
}

fn multivariant(sets: &[Vec<&Chosen<'_>>], start_s: u64, left_out: Vec<String>) -> Multivariant {
    let main = sets.first().map_or(&[][..], Vec::as_slice);
    let video = main.iter().find(|chosen| chosen.track.kind == MediaKind::Video);
    let frame_rate = video.map(|chosen| {
        let seconds = chosen.track.end.0 as f64 / f64::from(NS);
        f64::from(chosen.track.index.count()) / seconds.max(f64::MIN_POSITIVE)
    });
    let mut codecs: Vec<&str> = Vec::new();
    for chosen in sets.iter().flatten() {
        if !codecs.contains(&chosen.decoder.codecs.as_str()) {
            codecs.push(&chosen.decoder.codecs);
        }
    }
    let mut sounds: Vec<Sound> = Vec::new();
    let several = sets.iter().enumerate().filter(|_| sets.len() > 1);
    for (place, set) in several {
        let Some(chosen) = set.iter().find(|chosen| chosen.track.kind == MediaKind::Audio) else {
            continue;
        };
        let rendition = Rendition(u16::try_from(place).unwrap_or(u16::MAX));
        let Decoder { channels, codecs, .. } = &chosen.decoder;
        let language = chosen.track.language.as_deref();
        let next = Sound::behind(&sounds, rendition, language, (*channels, codecs));
        sounds.push(next);
    }
    Multivariant {
        rate: Rate::default(),
        codecs: codecs.join(","),
        size_pixels: video.and_then(|chosen| chosen.decoder.size_pixels),
        frame_rate,
        sounds,
        start_s,
        is_independent: true,
        left_out,
    }
}

fn first_ns(track: &Track) -> Option<i64> {
    let first = track.index.sample(0)?;
    Some(rescale(first.pts, track.timescale, NS))
}

/// Whole seconds that a track's decode times before 0 need.
fn start_s(track: &Track) -> u64 {
    let before = track.index.sample(0).map_or(0, |first| first.dts.min(0).unsigned_abs());
    before.div_ceil(u64::from(track.timescale.max(1)))
}

/// Of a file, as this version cuts it.
fn revision(identity: FileIdentity, version: u64) -> Revision {
    let FileIdentity { device, inode, bytes, modified_ns } = identity;
    let mut hasher = blake3::Hasher::new();
    for part in [version, device, inode, bytes, modified_ns.cast_unsigned()] {
        hasher.update(&part.to_be_bytes());
    }
    let hash = hasher.finalize();
    let first = hash.as_bytes().first_chunk::<8>().copied().unwrap_or_default();
    Revision(u64::from_be_bytes(first))
}

fn clamped(ticks: i64) -> i32 {
    i32::try_from(ticks).unwrap_or(if ticks < 0 { i32::MIN } else { i32::MAX })
}

/// Version of the cuts and of what is written around samples. Whoever changes a byte of a segment
/// or an initialization raises it: caches keep what has the same name (see `resource`). The test
/// `bytes_of_a_title_are_those_of_this_version` notices.
const PLAN_VERSION: u64 = 2;
/// Segments are at least this long: short enough to begin and to seek quickly, long enough that a
/// thousand viewers ask for few.
const SEGMENT_NS: i64 = 4_000_000_000;
/// Two days of segments, and as much again.
const SEGMENTS_MAX: usize = 1 << 17;
const NS: u32 = 1_000_000_000;
const US: u32 = 1_000_000;
const OPUS_RATE_HZ: u32 = 48_000;

#[cfg(test)]
mod tests;
