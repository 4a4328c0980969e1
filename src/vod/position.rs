//! Start of a PLAY: from `Range` and `Scale` to the first samples of the streams.
//!
//! Video begins at the sync sample at or before the wanted time, and all other tracks begin with
//! it: the answer's Range has the time of that sync sample. Up to scale 2 all samples are sent.
//! Beyond scale 2, and in reverse, only sync samples of video are sent.

use crate::base::time::{Npt, rescale};
use crate::library::title::Title;
use crate::media::asset::Track;
use crate::media::codec::MediaKind;
use crate::media::packetize::job::{window_count, window_of_sample, window_of_sync};
use crate::media::window::WindowKind;
use crate::rtsp::range::{NptStart, Range};
use crate::vod::cursor::Cursor;

/// Largest scale at which all samples are sent.
const ALL_SAMPLES_SCALE_MAX: f64 = 2.0;
/// Largest scale in either direction.
const SCALE_MAX: f64 = 16.0;
/// Smallest scale: the slowest motion.
const SCALE_MIN: f64 = 1.0 / 16.0;
/// Largest speed of delivery; its inverse is the smallest.
const SPEED_MAX: f64 = 16.0;
const SPEED_MIN: f64 = 1.0 / 16.0;

/// Largest difference by which a player's time may lie before the time it means: npt has three
/// decimals, cut off by FFmpeg and rounded by other players (client rule C18).
const WRITTEN_ROUNDING_NS: i64 = 999_999;

/// The requested part of a title, in presentation time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Start; `None` continues at the session's position.
    pub start: Option<Npt>,
    /// End; `None` is the end of the title.
    pub end: Option<Npt>,
}

/// The title does not have the requested Range: 457.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the range lies outside the presentation")]
pub struct OutsideTitle;

/// Resolves a Range against a title. `Clock` counts from the recording time of the title.
///
/// # Errors
/// `OutsideTitle` for a start at or past the end of the title (or of the range, forwards).
pub fn resolve(range: &Range, title: &Title, is_backward: bool) -> Result<Span, OutsideTitle> {
    let (start, end) = match range {
        Range::Npt { start, end } => {
            let start = match start {
                Some(NptStart::At(at)) => Some(*at),
                // For a recorded title `now` is the session's position.
                Some(NptStart::Now) | None => None,
            };
            (start, *end)
        }
        Range::Smpte { start, end, .. } => (Some(*start), *end),
        Range::Clock { start_utc_ns, end_utc_ns } => {
            let zero = title.recorded_utc_ns();
            let at = |utc_ns: i64| Npt(utc_ns.saturating_sub(zero));
            (Some(at(*start_utc_ns)), end_utc_ns.map(at))
        }
    };
    let duration = title.asset.duration;
    let is_outside = |at: Npt| at < Npt::ZERO || at > duration;
    match (start, end) {
        (Some(start), _) if is_outside(start) => return Err(OutsideTitle),
        // From the very end only reverse play has anything to send.
        (Some(start), _) if start == duration && !is_backward => return Err(OutsideTitle),
        (Some(start), Some(end)) if !is_backward && end <= start => return Err(OutsideTitle),
        (Some(start), Some(end)) if is_backward && end >= start => return Err(OutsideTitle),
        _ => {}
    }
    // An end past the end of the title is the end of the title.
    let end = end.filter(|end| *end > Npt::ZERO && (is_backward || *end < duration));
    Ok(Span { start, end })
}

/// The nearest scale that the tracks can be played at: sound alone is not played in reverse or
/// faster than scale 2 (RFC 2326 s12.34 lets the server choose the nearest scale it has).
#[must_use]
pub fn nearest_scale(wanted: f64, has_video: bool) -> f64 {
    let magnitude = wanted.abs().clamp(SCALE_MIN, SCALE_MAX);
    if has_video {
        magnitude.copysign(wanted)
    } else if wanted < 0.0 {
        1.0
    } else {
        magnitude.min(ALL_SAMPLES_SCALE_MAX)
    }
}

/// The nearest speed of delivery that is supported.
#[must_use]
pub fn nearest_speed(wanted: f64) -> f64 {
    wanted.clamp(SPEED_MIN, SPEED_MAX)
}

/// The kind of windows, and so of samples, that a scale sends.
#[must_use]
pub fn window_kind(scale: f64) -> WindowKind {
    let all = scale > 0.0 && scale <= ALL_SAMPLES_SCALE_MAX;
    if all { WindowKind::All } else { WindowKind::Sync }
}

/// Whether a track is sent at this scale.
#[must_use]
pub fn is_sent(track: &Track, scale: f64) -> bool {
    window_kind(scale) == WindowKind::All || track.kind == MediaKind::Video
}

/// The time at which playing actually begins when `wanted` is requested: the time of the first
/// video track's sync sample, clamped into the presentation.
///
/// A sync sample less than `WRITTEN_ROUNDING_NS` ahead counts as at the wanted time: a player that
/// sends back the Range of an answer begins where that answer said.
#[must_use]
pub fn actual_start<'a>(mut tracks: impl Iterator<Item = &'a Track>, wanted: Npt) -> Npt {
    let latest = Npt(wanted.0.saturating_add(WRITTEN_ROUNDING_NS));
    let video = tracks.find(|track| track.kind == MediaKind::Video);
    let sync = video.and_then(|track| {
        let sync_index = track.schedule().sync_at_or_before(latest, track.timescale)?;
        let sample = track.schedule().sample(track.schedule().sync_sample(sync_index)?)?;
        Some(Npt::from_ticks(sample.pts, track.timescale))
    });
    // There is nothing before the first sync sample: the start of the presentation stays as it is.
    sync.filter(|at| *at <= latest).unwrap_or(wanted).max(Npt::ZERO)
}

/// Start of a stream: the cursor, and the start of the range in RTP ticks of the track.
#[derive(Debug)]
pub struct Start {
    /// Cursor at the first sample to send.
    pub cursor: Cursor,
    /// See `Stream::begin_epoch`.
    pub anchor_ticks: i64,
}

/// Start of a track for a range that starts at `npt`; `None` for a track without samples.
#[must_use]
pub fn start(track: &Track, npt: Npt, scale: f64) -> Option<Start> {
    let kind = window_kind(scale);
    let schedule = track.schedule();
    // At the start of the presentation all samples are sent, also those before zero (priming).
    let sync_index =
        if npt <= Npt::ZERO { 0 } else { schedule.sync_at_or_before(npt, track.timescale)? };
    let sync_sample = schedule.sync_sample(sync_index)?;
    let (window_index, start_sample) = match kind {
        WindowKind::Sync => (window_of_sync(sync_index), sync_sample),
        WindowKind::All if npt <= Npt::ZERO => (0, 0),
        WindowKind::All => (window_of_sample(track, sync_sample), sync_sample),
    };
    let count = window_count(track, kind);
    let sample = schedule.sample(start_sample)?;
    let rate = track.payload.clock_rate_hz;
    let is_exact = Npt::from_ticks(sample.pts, track.timescale) == npt;
    let anchor_ticks = if is_exact {
        rescale(sample.pts, track.timescale, rate)
    } else {
        rescale(npt.0, 1_000_000_000, rate)
    };
    let cursor = Cursor::new(kind, scale < 0.0, count, window_index, start_sample);
    Some(Start { cursor, anchor_ticks })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scale_is_clamped_to_what_the_tracks_can_do() {
        for (wanted, with_video, sound_only) in [
            (1.0, 1.0, 1.0),
            (64.0, 16.0, 2.0),
            (-64.0, -16.0, 1.0),
            (-1.0, -1.0, 1.0),
            (0.001, 0.0625, 0.0625),
        ] {
            assert!((nearest_scale(wanted, true) - with_video).abs() < 1e-9, "{wanted}");
            assert!((nearest_scale(wanted, false) - sound_only).abs() < 1e-9, "{wanted}");
        }
    }

    #[test]
    fn all_samples_are_sent_up_to_scale_two_only() {
        assert_eq!(window_kind(0.5), WindowKind::All);
        assert_eq!(window_kind(2.0), WindowKind::All);
        assert_eq!(window_kind(2.1), WindowKind::Sync);
        assert_eq!(window_kind(-1.0), WindowKind::Sync);
    }
}
