//! A live path, from its batches to the snapshots that viewers are answered from.
//!
//! ```text
//! description -> tracks        begin, and again when another source follows (discontinuity)
//! batches     -> frames -> first key frame: the line begins -> parts -> window -> snapshot
//! ```
//! Tracks lie on one line by the path's clocks (`live::core::clock`). Another source goes on where
//! the line ended, and so does one whose pictures pause for longer than a segment may be: sound in
//! the pause is left out. Of several sounds each is a rendition beside the picture; which there
//! are, the first line says for as long as the path runs. Invariant: nothing is made before the
//! video has a key frame and its parameter sets. Bound: frames of other tracks that wait for that
//! are dropped.

use std::sync::Arc;

use crate::base::ids::RtpTs;
use crate::base::time::rescale;
use crate::hls::live::segmenter::{Part, Segmenter, Timed};
use crate::hls::live::timeline::{DecodeOrder, TrackTime};
use crate::hls::live::track::{LiveError, Track};
use crate::hls::live::window::{Snapshot, StoredFragment, StoredPart, Window};
use crate::hls::playlist::{Multivariant, Rate};
use crate::hls::resource::{Rendition, Revision};
use crate::hls::sound::Sound;
use crate::live::core::batch::{Generation, PacketBatch};
use crate::live::core::clock::ClockPoint;
use crate::live::core::description::Description;
use crate::media::codec::MediaKind;
use crate::media::fmp4::{InitTrack, init_segment};
use crate::rtp::depacketize::Frame;
use crate::sdp::read::read_session;

/// Numbers since the last time they were taken.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Parts that were made.
    pub parts: u64,
    /// Frames that were dropped because packets are missing.
    pub frames_lost: u64,
    /// Segments that were dropped early.
    pub evicted: u64,
}

/// One path: see the module.
#[derive(Debug)]
pub struct Muxer {
    window: Window,
    generation: Generation,
    tracks: Vec<Track>,
    reference: usize,
    /// Once the first line has begun.
    layout: Option<Layout>,
    line: Option<Line>,
    /// Time at which the next line begins.
    next_begin_us: i64,
    is_discontinuous: bool,
    rate: RateMeter,
    counts: Counts,
    frames: Vec<Frame>,
}

/// Which renditions there are.
#[derive(Debug)]
struct Layout {
    /// One, or as many as there are tracks.
    renditions: usize,
    /// To choose from, where there are several.
    sounds: Vec<Sound>,
}

/// The line that frames are placed on at the moment.
#[derive(Debug)]
struct Line {
    /// Wall clock of the line's beginning.
    origin_ns: i64,
    times: Vec<Option<TrackTime>>,
    /// The latest time of the reference, in its ticks.
    newest: i64,
    orders: Vec<Option<DecodeOrder>>,
    segmenter: Segmenter,
}

#[derive(Debug, Default)]
struct RateMeter {
    segment_bytes: u64,
    segment_us: u64,
    peak: u64,
    bytes: u64,
    us: u64,
    frames: u64,
}

impl Muxer {
    /// Nothing yet. `revision` is unlike that of any other run of the path.
    #[must_use]
    pub fn new(revision: Revision, bytes_max: usize) -> Self {
        Self {
            window: Window::new(revision, bytes_max),
            generation: Generation::default(),
            tracks: Vec::new(),
            reference: 0,
            layout: None,
            line: None,
            next_begin_us: BEGIN_US,
            is_discontinuous: false,
            rate: RateMeter::default(),
            counts: Counts::default(),
            frames: Vec::new(),
        }
    }

    /// Has the first segment this number: that of another run may be in caches, and in players'
    /// questions for the next one (rfc8216bis s6.2.5.2), so numbers go on from run to run.
    #[must_use]
    pub fn numbered_from(mut self, number: u64) -> Self {
        self.window.number_from(number);
        self
    }

    /// A source feeds the path from now on.
    ///
    /// # Errors
    /// A browser cannot show it.
    pub fn begin(
        &mut self,
        generation: Generation,
        description: &Description,
    ) -> Result<(), LiveError> {
        self.end_line();
        self.generation = generation;
        let tracks = tracks_of(description)?;
        let video = tracks.iter().position(|track| track.kind == MediaKind::Video);
        (self.tracks, self.reference) = (tracks, video.unwrap_or(0));
        Ok(())
    }

    /// Takes what the path has kept: the newest group of pictures. True: there is a new snapshot.
    ///
    /// # Errors
    /// A browser cannot show it.
    pub fn handle_snapshot(&mut self, batches: &[Arc<PacketBatch>]) -> Result<bool, LiveError> {
        // The newest clocks are the best known.
        for track in &mut self.tracks {
            track.clock = batches.iter().rev().find_map(|batch| batch.clock_of(track.place));
        }
        let mut is_new = false;
        for batch in batches {
            is_new |= self.take(batch)?;
        }
        Ok(is_new)
    }

    /// Takes a batch. True: there is a new snapshot.
    ///
    /// # Errors
    /// A browser cannot show it.
    pub fn handle_batch(&mut self, batch: &PacketBatch) -> Result<bool, LiveError> {
        for track in &mut self.tracks {
            track.clock = batch.clock_of(track.place).or(track.clock);
        }
        self.take(batch)
    }

    /// The path has ended.
    pub fn end(&mut self) {
        self.end_line();
        self.window.end();
    }

    /// Whether segments are being made.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.line.is_some()
    }

    /// What can be had now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.window.snapshot(self.multivariant())
    }

    /// Memory of the segments.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.window.bytes()
    }

    /// Numbers since the last call.
    pub fn take_counts(&mut self) -> Counts {
        for track in &mut self.tracks {
            self.counts.frames_lost += track.take_lost();
        }
        self.counts.evicted += std::mem::take(&mut self.window.evicted);
        std::mem::take(&mut self.counts)
    }

    fn take(&mut self, batch: &PacketBatch) -> Result<bool, LiveError> {
        if batch.generation() != self.generation {
            return Ok(false);
        }
        let mut is_new = false;
        let mut frames = std::mem::take(&mut self.frames);
        for place in 0..self.tracks.len() {
            let Some(track) = self.tracks.get_mut(place) else { break };
            for run in batch.runs_of(track.place) {
                for packet in batch.packets_of(run) {
                    track.push(batch.packet_bytes(packet), packet.is_sync, &mut frames);
                }
            }
            for frame in frames.drain(..) {
                is_new |= self.take_frame(place, frame)?;
            }
        }
        self.frames = frames;
        Ok(is_new)
    }

    fn take_frame(&mut self, place: usize, frame: Frame) -> Result<bool, LiveError> {
        let is_reference = place == self.reference;
        let mut is_new = false;
        if let Some(track) = self.tracks.get_mut(place)
            && (frame.is_sync && is_reference || track.kind == MediaKind::Audio)
            && track.configure(&frame)?
            && self.line.is_some()
        {
            // Another picture size, or other sound: another initialization.
            is_new |= self.end_line();
        }
        if let Some(line) = self.line.as_ref().filter(|_| is_reference)
            && (line.pauses(place, frame.ts) || frame.is_sync && line.is_off(&self.tracks))
        {
            is_new |= self.end_line();
        }
        let begins = self.line.is_none() && is_reference && frame.is_sync;
        if begins {
            self.begin_line(&frame);
        }
        if self.line.is_none() {
            return Ok(is_new);
        }
        Ok(is_new | self.place_frame(place, frame))
    }

    /// Begins a line with a key frame, unless a configuration is missing.
    fn begin_line(&mut self, frame: &Frame) {
        for track in &mut self.tracks {
            if track.kind == MediaKind::Audio && track.decoder.is_none() {
                // Its configuration is in the description.
                let silent = Frame { ts: frame.ts, bytes: Vec::new(), is_sync: true };
                let _refused = track.configure(&silent);
            }
        }
        // Sound that cannot be configured is left out.
        let reference_place = self.tracks.get(self.reference).map(|track| track.place);
        self.tracks.retain(|track| track.decoder.is_some() || Some(track.place) == reference_place);
        let at = self.tracks.iter().position(|track| Some(track.place) == reference_place);
        self.reference = at.unwrap_or(0);
        if self.tracks.get(self.reference).is_none_or(|track| track.decoder.is_none()) {
            return;
        }
        let layout = self.layout.get_or_insert_with(|| Layout::of(&self.tracks));
        self.tracks.truncate(layout.tracks_max(&self.tracks));
        let renditions = layout.renditions;
        let Some(inits) = inits(&self.tracks, renditions) else { return };
        self.window.push_init(inits);
        let Some(reference) = self.tracks.get(self.reference) else { return };
        let rates: Vec<u32> = self.tracks.iter().map(|track| track.clock_rate_hz).collect();
        let begin = rescale(self.next_begin_us, MICROSECONDS, reference.clock_rate_hz);
        let utc_ns = |clock: ClockPoint| clock.utc_ns_of(frame.ts, reference.clock_rate_hz);
        let utc_ns = reference.clock.map_or(0, utc_ns);
        let origin_ns = utc_ns - self.next_begin_us * 1_000;
        let mut times = vec![None; rates.len()];
        if let Some(time) = times.get_mut(self.reference) {
            *time = Some(TrackTime::new(reference.clock_rate_hz, frame.ts, begin));
        }
        let segment_bytes_max = self.window.segment_bytes_max();
        let segmenter = Segmenter::new(
            &rates,
            (self.reference, renditions),
            self.window.targets(),
            segment_bytes_max,
        );
        let orders = rates.iter().map(|_| None).collect();
        self.line = Some(Line { origin_ns, times, newest: begin, orders, segmenter });
    }

    fn place_frame(&mut self, place: usize, frame: Frame) -> bool {
        let (Some(line), Some(track)) = (&mut self.line, self.tracks.get(place)) else {
            return false;
        };
        let rate = track.clock_rate_hz;
        let ticks = track.ticks_of(&frame);
        let Some(time) = line.times.get_mut(place) else { return false };
        let time = match time {
            Some(time) => time,
            None => {
                let utc = track.clock.map(|clock| clock.utc_ns_of(frame.ts, rate));
                let at = utc.map(|utc| TrackTime::at_utc(rate, utc, line.origin_ns));
                let Some(at) = at else { return false };
                // What lies before the first picture is not shown.
                if at < rescale(self.next_begin_us, MICROSECONDS, rate) {
                    return false;
                }
                time.insert(TrackTime::new(rate, frame.ts, at))
            }
        };
        let pts = time.ticks(frame.ts);
        if place == self.reference {
            line.newest = line.newest.max(pts);
        }
        let is_video = track.kind == MediaKind::Video;
        let depth = track.decoder.as_ref().and_then(|decoder| decoder.reorder_max).unwrap_or(0);
        let Some(order) = line.orders.get_mut(place) else { return false };
        let depth = if is_video { depth } else { 0 };
        let order = order.get_or_insert_with(|| {
            DecodeOrder::new(depth, i64::from(rate / USUAL_PICTURES_A_SECOND))
        });
        let dts = order.next(pts);
        let Frame { bytes, is_sync, .. } = frame;
        self.rate.frames += u64::from(place == self.reference);
        let mut parts = Vec::new();
        line.segmenter.push(place, Timed { dts, pts, bytes, is_sync, ticks }, &mut parts);
        let is_new = !parts.is_empty();
        parts.into_iter().for_each(|part| self.take_part(part));
        is_new
    }

    fn take_part(&mut self, part: Part) {
        let Part { fragments, duration_us, is_independent, begin_us, shown_us, .. } = part;
        let (begins_segment, ends_segment) = (part.begins_segment, part.ends_segment);
        if let Some(targets) = self.line.as_ref().and_then(|line| line.segmenter.targets()) {
            self.window.begin(targets);
        }
        if begins_segment {
            self.window.end_segment();
        }
        self.counts.parts += 1;
        let bytes = fragments.iter().map(|fragment| fragment.bytes.len() as u64).sum();
        self.rate.note(bytes, duration_us, begins_segment);
        self.next_begin_us = begin_us.saturating_add(i64::try_from(duration_us).unwrap_or(0));
        let utc_ms = self.line.as_ref().map(|line| {
            line.origin_ns.saturating_add(shown_us.saturating_mul(1_000)).div_euclid(1_000_000)
        });
        let utc_ms = utc_ms.filter(|utc| *utc > 0);
        let is_discontinuous =
            self.window.open_us() == 0 && std::mem::take(&mut self.is_discontinuous);
        let fragments = fragments.into_iter().map(|fragment| StoredFragment {
            bytes: fragment.bytes.into(),
            is_empty: fragment.is_empty,
        });
        let stored = StoredPart { duration_us, is_independent, fragments: fragments.collect() };
        self.window.push_part(stored, is_discontinuous, utc_ms);
        if ends_segment {
            self.window.end_segment();
            self.rate.end_segment();
        }
    }

    /// Ends the line: what follows is another one. True: there is a new snapshot.
    fn end_line(&mut self) -> bool {
        let Some(line) = &mut self.line else { return false };
        let mut parts = Vec::new();
        line.segmenter.finish(&mut parts);
        let is_new = !parts.is_empty();
        parts.into_iter().for_each(|part| self.take_part(part));
        self.window.end_segment();
        self.line = None;
        // A little apart, so that no two frames have one time.
        self.next_begin_us += GAP_US;
        self.is_discontinuous = true;
        is_new
    }

    fn multivariant(&self) -> Option<Multivariant> {
        if self.rate.peak == 0 {
            return None;
        }
        let mut codecs: Vec<&str> = Vec::new();
        for decoder in self.tracks.iter().filter_map(|track| track.decoder.as_ref()) {
            if !codecs.contains(&decoder.codecs.as_str()) {
                codecs.push(&decoder.codecs);
            }
        }
        let video = self.tracks.get(self.reference)?.decoder.as_ref()?;
        let is_video = video.kind == MediaKind::Video;
        let seconds = self.rate.us as f64 / f64::from(MICROSECONDS);
        Some(Multivariant {
            // Half as much again: pictures to come may take more than those so far.
            rate: Rate { peak: self.rate.peak + self.rate.peak / 2, average: self.rate.average() },
            codecs: codecs.join(","),
            size_pixels: video.size_pixels,
            frame_rate: is_video.then(|| self.rate.frames as f64 / seconds.max(0.001)),
            sounds: self.layout.as_ref().map_or_else(Vec::new, |layout| layout.sounds.clone()),
            start_s: 0,
            is_independent: false,
            left_out: Vec::new(),
        })
    }
}

impl Layout {
    /// By the tracks of the first line, the picture in front.
    fn of(tracks: &[Track]) -> Self {
        let is_sound = |track: &&Track| track.kind == MediaKind::Audio;
        if tracks.iter().filter(is_sound).count() < 2 {
            return Self { renditions: 1, sounds: Vec::new() };
        }
        let mut sounds = Vec::new();
        for (place, track) in (0..).zip(tracks).filter(|(_, track)| is_sound(track)) {
            let Some(decoder) = &track.decoder else { continue };
            let of = (decoder.channels, decoder.codecs.as_str());
            sounds.push(Sound::behind(&sounds, Rendition(place), track.language.as_deref(), of));
        }
        Self { renditions: tracks.len(), sounds }
    }

    /// How many tracks of another source have a place.
    fn tracks_max(&self, tracks: &[Track]) -> usize {
        let has_video = tracks.first().is_some_and(|track| track.kind == MediaKind::Video);
        if self.renditions == 1 { 1 + usize::from(has_video) } else { self.renditions }
    }
}

/// The initialization of each rendition.
fn inits(tracks: &[Track], renditions: usize) -> Option<Vec<Vec<u8>>> {
    let init = |tracks: &[Track]| {
        let tracks: Option<Vec<InitTrack<'_>>> = (1..).zip(tracks).map(init_track).collect();
        init_segment(&tracks?)
    };
    match renditions {
        1 => Some(vec![init(tracks)?]),
        _ => tracks.iter().map(|track| init(std::slice::from_ref(track))).collect(),
    }
}

fn init_track((id, track): (u32, &Track)) -> Option<InitTrack<'_>> {
    let decoder = track.decoder.as_ref()?;
    let language = track.language.as_deref();
    Some(InitTrack { id, timescale: track.clock_rate_hz, decoder, language })
}

impl Line {
    /// Whether a picture of the reference is farther from those before than a segment may be long.
    fn pauses(&self, place: usize, ts: RtpTs) -> bool {
        let Some(time) = self.times.get(place).and_then(Option::as_ref) else { return false };
        let ticks = time.ticks_at(ts).saturating_sub(self.newest);
        let us = rescale(ticks, time.clock_rate_hz(), MICROSECONDS);
        us.unsigned_abs() > self.segmenter.frame_us_max()
    }

    /// Whether the clocks say something else than when the line began: a track lies elsewhere now,
    /// or two tracks, say sound and picture, have drifted apart.
    fn is_off(&self, tracks: &[Track]) -> bool {
        let drift = |(time, track): (&Option<TrackTime>, &Track)| {
            Some(time.as_ref()?.drift_ns(track.clock?, self.origin_ns))
        };
        let drifts = || self.times.iter().zip(tracks).filter_map(drift);
        let (least, most) = (drifts().min().unwrap_or(0), drifts().max().unwrap_or(0));
        least.min(0).abs_diff(most.max(0)) > OFF_NS
    }
}

impl RateMeter {
    fn note(&mut self, bytes: u64, us: u64, begins_segment: bool) {
        if begins_segment {
            self.end_segment();
        }
        self.bytes += bytes;
        self.us += us;
        self.segment_bytes += bytes;
        self.segment_us += us;
    }

    fn end_segment(&mut self) {
        let bits = self.segment_bytes * 8 * u64::from(MICROSECONDS);
        if let Some(rate) = bits.checked_div(self.segment_us) {
            self.peak = self.peak.max(rate);
            (self.segment_bytes, self.segment_us) = (0, 0);
        }
    }

    fn average(&self) -> u64 {
        let bits = u128::from(self.bytes) * 8 * u128::from(MICROSECONDS);
        u64::try_from(bits / u128::from(self.us.max(1))).unwrap_or(u64::MAX)
    }
}

/// What browsers play: the first video, and the sounds behind it.
fn tracks_of(description: &Description) -> Result<Vec<Track>, LiveError> {
    let sdp = read_session(description.sdp.as_bytes()).map_err(|_| LiveError::Description)?;
    let (mut video, mut sounds) = (None, Vec::new());
    let mut refused: Option<(MediaKind, LiveError)> = None;
    for (place, media) in (0_u8..).zip(sdp.medias()) {
        let kind = match media.kind.as_str() {
            "video" if video.is_none() => MediaKind::Video,
            "audio" => MediaKind::Audio,
            _ => continue,
        };
        match Track::new(place, media) {
            Ok(track) if kind == MediaKind::Video => video = Some(track),
            Ok(track) => sounds.push(track),
            Err(error) if refused.as_ref().is_none_or(|(kind, _)| *kind == MediaKind::Audio) => {
                refused = Some((kind, error));
            }
            Err(_) => {}
        }
    }
    let tracks: Vec<Track> = video.into_iter().chain(sounds).collect();
    let has_video = tracks.iter().any(|track| track.kind == MediaKind::Video);
    match refused {
        // A picture that cannot be shown is not made good for by its sound.
        Some((MediaKind::Video, error)) if !has_video => Err(error),
        Some((_, error)) if tracks.is_empty() => Err(error),
        _ if tracks.is_empty() => Err(LiveError::Nothing),
        _ => Ok(tracks),
    }
}

/// Where lines begin: decode times of reordered pictures lie before it.
const BEGIN_US: i64 = 10_000_000;
const GAP_US: i64 = 1_000_000;
/// Sound and picture may be so far apart, or off their clocks, before the line begins anew.
const OFF_NS: u64 = 200_000_000;
const USUAL_PICTURES_A_SECOND: u32 = 30;
const MICROSECONDS: u32 = 1_000_000;
