//! From drafts to the asset: edit lists applied, payload formats chosen, hint tracks tied on.
//!
//! Invariant: every draft ends either in `tracks`, in `left_out`, or as the hint track of one of
//! the tracks; nothing is lost without a word.

use super::choose::{self, Candidate};
use super::descriptions::{settle, without_left_out};
use super::edits::{EditContext, play_ranges};
use super::header::TrackHeader;
use super::in_band::{self, Lack};
use super::movie::{Draft, Movie, Role};
use crate::base::limits;
use crate::base::time::Npt;
use crate::media::asset::{Asset, LeftOut, Track};
use crate::media::codec::{Codec, MediaKind, PayloadFormat};
use crate::media::hint::{self, payload_format_of};
use crate::media::index::{SampleIndex, Table};
use crate::media::packetize::converted_window_samples;

/// `packetize::payload_format`, or a stand-in.
pub(super) type FormatOf = fn(&Codec, usize) -> Option<PayloadFormat>;

/// The asset, and how each track would be announced without its hint track.
pub(super) struct Finished {
    pub(super) asset: Asset,
    pub(super) unhinted: Vec<Option<PayloadFormat>>,
    /// Header of each track of the asset.
    headers: Vec<TrackHeader>,
}

/// Finishes a movie whose samples are all read.
pub(super) fn finish(
    mut movie: Movie,
    container: &'static str,
    file_bytes: u64,
    format_of: FormatOf,
) -> Finished {
    let asset = Asset {
        tracks: Vec::new(),
        left_out: Vec::new(),
        duration: Npt::ZERO,
        container,
        file_bytes,
        created_utc_ns: movie.created_utc_ns,
        problems: std::mem::take(&mut movie.problems),
    };
    let mut finished = Finished { asset, unhinted: Vec::new(), headers: Vec::new() };
    let (mut hints, media): (Vec<Draft>, Vec<Draft>) =
        std::mem::take(&mut movie.drafts).into_iter().partition(|d| d.role == Role::Hint);
    let start = live_start(&movie, &media);
    let mut is_used = vec![false; hints.len()];
    for draft in media {
        let id = draft.id;
        let refers = |h: &Draft| h.problem.is_none() && h.hint_refs.contains(&id);
        let place = hints.iter().position(refers).filter(|i| is_used.get(*i) == Some(&false));
        let hint = place.and_then(|i| hints.get_mut(i));
        if finished.add(draft, hint, &movie, start, format_of)
            && let Some(used) = place.and_then(|i| is_used.get_mut(i))
        {
            *used = true;
        }
    }
    for (draft, _) in hints.into_iter().zip(is_used).filter(|(_, used)| !used) {
        let reason = draft.problem.unwrap_or_else(|| "its media track does not use it".to_owned());
        finished.asset.left_out.push(LeftOut { id: draft.id, fourcc: draft.fourcc, reason });
    }
    finished
}

impl Finished {
    /// Adds a media track; `true` when it took the hint track.
    fn add(
        &mut self,
        mut draft: Draft,
        hint: Option<&mut Draft>,
        movie: &Movie,
        start: Npt,
        format_of: FormatOf,
    ) -> bool {
        let track_index = self.asset.tracks.len();
        let mut table = std::mem::take(&mut draft.table);
        let settled = settle(&mut draft, &mut table, |codec| format_of(codec, track_index));
        let unhinted = match (&draft.codec, &draft.problem) {
            (Some(codec), None) => format_of(codec, track_index),
            _ => None,
        };
        let announced = hint.as_ref().and_then(|h| hinted_format(&draft, h));
        let reason = match (&unhinted, &announced) {
            (None, None) => Some(draft.problem.take().unwrap_or_else(|| NO_PACKETS.to_owned())),
            _ if table.count() == 0 => Some("no samples".to_owned()),
            _ => None,
        };
        let Role::Media(kind) = draft.role else { return self.leave_out(&draft, reason) };
        if reason.is_some() {
            return self.leave_out(&draft, reason);
        }
        let context = EditContext {
            movie_timescale: movie.timescale,
            timescale: draft.timescale,
            is_audio: kind == MediaKind::Audio,
        };
        let (mut ranges, problem) = play_ranges(&table, &draft.edits, context);
        for range in &mut ranges {
            range.shift = range.shift.saturating_sub(start.to_ticks(draft.timescale));
        }
        self.note(draft.id, problem);
        for note in &settled.notes {
            self.note(draft.id, Some(note));
        }
        let (ranges, problem) = without_left_out(&table, ranges);
        self.note(draft.id, problem);
        let index = SampleIndex::from_ranges(table, &ranges);
        if index.count() == 0 {
            let why = if settled.notes.is_empty() { PLAYS_NOTHING } else { PLAYS_LEFT_OUT };
            return self.leave_out(&draft, Some(why.to_owned()));
        }
        let hint_track = hint
            .filter(|h| announced.is_some() && h.table.has_one_description())
            // Hints are not known to bring the parameter sets of each description.
            .filter(|_| index.raw().has_one_description())
            .and_then(|h| tie(h, &draft, &index, self.asset.file_bytes));
        let took_hint = hint_track.is_some();
        let Some(payload) = (if took_hint { announced } else { unhinted.clone() }) else {
            return self.leave_out(&draft, Some(NO_PACKETS.to_owned()));
        };
        let end = Npt::from_ticks(index.end_ticks(), draft.timescale);
        let mut track = Track {
            id: draft.id,
            kind,
            codec: draft.codec,
            other_codecs: settled.others,
            fourcc: draft.fourcc,
            timescale: draft.timescale,
            language: draft.language,
            size_pixels: draft.size_pixels,
            index,
            payload,
            hint: hint_track,
            window_samples: 1,
            end,
        };
        track.window_samples = window_samples_of(&track);
        self.asset.tracks.push(track);
        self.unhinted.push(unhinted);
        self.headers.push(draft.header);
        took_hint
    }

    fn leave_out(&mut self, draft: &Draft, reason: Option<String>) -> bool {
        let reason = reason.or_else(|| draft.problem.clone()).unwrap_or_default();
        self.asset.left_out.push(LeftOut { id: draft.id, fourcc: draft.fourcc, reason });
        false
    }

    fn note(&mut self, track_id: u32, problem: Option<&str>) {
        self.asset.problems.extend(problem.map(|text| format!("track {track_id}: {text}")));
    }

    /// The hint track of a track turned out to be broken: packetize the track itself, or leave it
    /// out when nobody knows how.
    pub(super) fn drop_hint(&mut self, track_index: usize, why: &str) {
        let Some(track) = self.asset.tracks.get_mut(track_index) else { return };
        let id = track.id;
        track.hint = None;
        if let Some(format) = self.unhinted.get(track_index).cloned().flatten() {
            track.payload = format;
            track.window_samples = window_samples_of(track);
            self.note(id, Some(&format!("hint track not used: {why}")));
            return;
        }
        self.drop_track(track_index, format!("its hint track is broken: {why}"));
    }

    /// Takes what a decoder configuration lacks from the start of a sample, and announces it.
    pub(super) fn complete(&mut self, lack: Lack, start: &[u8], format_of: FormatOf) {
        let Lack { track_index, description, .. } = lack;
        let Some(track) = self.asset.tracks.get_mut(track_index) else { return };
        let codec = match usize::from(description).checked_sub(1) {
            None => track.codec.as_mut(),
            Some(place) => track.other_codecs.get_mut(place),
        };
        let Some(codec) = codec else { return };
        in_band::complete(codec, start);
        let is_found = in_band::is_complete(codec);
        if description > 0 {
            return;
        }
        // The payload type is that of the track's place in the file.
        if let Some(format) = format_of(codec, track_index) {
            track.payload.fmtp = format.fmtp;
        }
        let (id, is_visual) = (track.id, matches!(codec, Codec::Mpeg4Visual { .. }));
        match (is_found, is_visual) {
            (true, _) => {}
            (false, true) => self.drop_track(track_index, "no decoder configuration".to_owned()),
            (false, false) => self.note(id, Some(NO_SETS)),
        }
    }

    /// The asset: every track is known to be playable or left out, so those that are offered can
    /// be chosen among them.
    pub(super) fn choose(mut self) -> Asset {
        let pairs = self.asset.tracks.iter().zip(&self.headers);
        let candidates: Vec<Candidate> = pairs.map(|(t, h)| Candidate::of(t, *h)).collect();
        let reasons = choose::left_out(&candidates);
        let mut tracks: Vec<Option<Track>> = self.asset.tracks.drain(..).map(Some).collect();
        for (track, reason) in tracks.iter_mut().zip(reasons) {
            let Some(reason) = reason else { continue };
            let left_out = track.take().map(|Track { id, fourcc, .. }| LeftOut {
                id,
                fourcc,
                reason: reason.to_owned(),
            });
            self.asset.left_out.extend(left_out);
        }
        for place in choose::order(&candidates) {
            let Some(track) = tracks.get_mut(place).and_then(Option::take) else { continue };
            let turn = candidates.get(place).and_then(|c| c.header.matrix.turn());
            if let Some(turn) = turn.filter(|_| track.kind == MediaKind::Video) {
                let text = format!("its picture is {turn} (tkhd), which RTP players are not told");
                self.note(track.id, Some(&text));
            }
            self.asset.tracks.push(track);
        }
        let ends = self.asset.tracks.iter().map(|t| t.end);
        self.asset.duration = ends.max().unwrap_or(Npt::ZERO);
        self.asset
    }

    /// A track turned out to be one that cannot be served.
    pub(super) fn drop_track(&mut self, track_index: usize, reason: String) {
        if track_index >= self.asset.tracks.len() {
            return;
        }
        let track = self.asset.tracks.remove(track_index);
        self.unhinted.remove(track_index);
        self.headers.remove(track_index);
        self.asset.left_out.push(LeftOut { id: track.id, fourcc: track.fourcc, reason });
    }
}

/// Samples of a track in one window: as many as last `WINDOW_SECONDS`, fewer where their bytes are
/// converted.
fn window_samples_of(track: &Track) -> u32 {
    let samples = window_samples(track.schedule(), track.timescale);
    let codecs = track.codec.iter().chain(&track.other_codecs).filter(|_| track.hint.is_none());
    let limits =
        codecs.filter_map(|codec| converted_window_samples(codec, track.index.bytes_max()));
    let limit = limits.min();
    samples.min(limit.unwrap_or(u32::MAX))
}

/// Samples that last `WINDOW_SECONDS` together.
pub(super) fn window_samples(index: &SampleIndex, timescale: u32) -> u32 {
    let count = index.count();
    let (Some(first), Some(last)) = (index.sample(0), index.sample(count.saturating_sub(1))) else {
        return 1;
    };
    let ticks = last.dts.saturating_add(i64::from(last.duration)).saturating_sub(first.dts);
    let window = i128::from(limits::WINDOW_SECONDS) * i128::from(timescale) * i128::from(count);
    let samples = window / i128::from(ticks.max(1));
    u32::try_from(samples.clamp(1, WINDOW_SAMPLES_MAX)).unwrap_or(1)
}

fn hinted_format(media: &Draft, hint: &Draft) -> Option<PayloadFormat> {
    let Role::Media(kind) = media.role else { return None };
    payload_format_of(hint.sdp.as_deref()?, kind)
}

fn tie(
    hint: &mut Draft,
    media: &Draft,
    index: &SampleIndex,
    file_bytes: u64,
) -> Option<hint::HintTrack> {
    let own: Table = std::mem::take(&mut hint.table);
    let pair = hint::Pair {
        media: index,
        media_timescale: media.timescale,
        media_ref: hint.hint_refs.iter().position(|id| *id == media.id)?,
        hint_timescale: hint.timescale,
        entry: hint.hint_entry?,
        file_bytes,
    };
    hint::link(own, pair)
}

/// A fragmented recording cut out of a live stream starts at that stream's time: its presentation
/// starts at the earliest sample. Short gaps at the start are the author's and stay.
fn live_start(movie: &Movie, media: &[Draft]) -> Npt {
    if !movie.is_fragmented {
        return Npt::ZERO;
    }
    let start = |d: &Draft| d.table.sample(0).map(|s| Npt::from_ticks(s.dts, d.timescale));
    let earliest = media.iter().filter_map(start).min().unwrap_or(Npt::ZERO);
    if earliest > LIVE_START_MIN { earliest } else { Npt::ZERO }
}

const PLAYS_NOTHING: &str = "its edit list plays nothing";
const PLAYS_LEFT_OUT: &str = "its edit list plays nothing but samples that are left out";
const NO_SETS: &str = "parameter sets are neither in its sample description nor in its first sync \
                       sample: players that need them in the SDP stop";
const NO_PACKETS: &str = "no RTP packetization";
const WINDOW_SAMPLES_MAX: i128 = 1_024;
const LIVE_START_MIN: Npt = Npt(10_000_000_000);
