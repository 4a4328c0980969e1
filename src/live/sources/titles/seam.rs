//! The timeline of a path that is fed by titles, and the seams between them: arithmetic alone.
//!
//! ```text
//!  sound    ..[17][18][19]|[p][ 0][ 1]     19 ends at the seam, 0 begins there; the priming frame
//!  picture  ..[24 ][25 ][2|6 ][ 0 ][ 1 ]   p and the picture 26 behind the seam are not sent
//!                         `-- the next item's zero
//! ```
//! All tracks of an item are moved by one time, so that sound and picture stay together. That time
//! is on the clock of the first sound track where the seam is one of its sound: the seam is exact
//! to a tick. A picture that is dropped takes those with it that are decoded after it, unless
//! nothing depends on it.
//!
//! Invariants: of two items each frame of the later one has a later RTP time on its track; sound
//! at a seam has no gap beyond the titles' own. Bound: 64-bit ticks and nanoseconds.

use crate::base::time::{Mono, Npt};
use crate::media::codec::MediaKind;
use crate::media::window::Frame;

/// Length of a track that an item sends, on the item's own timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TrackEnd {
    /// Track of the path.
    pub(crate) track: u8,
    pub(crate) kind: MediaKind,
    /// Rate of the RTP clock.
    pub(crate) clock_rate_hz: u32,
    /// Behind the last sample, in RTP ticks.
    pub(crate) ticks: i64,
}

impl TrackEnd {
    fn npt(&self) -> Npt {
        Npt::from_ticks(self.ticks, self.clock_rate_hz)
    }
}

/// A place between two frames of sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SoundMark {
    /// Track of the path.
    pub(crate) track: u8,
    pub(crate) clock_rate_hz: u32,
    /// In RTP ticks.
    pub(crate) ticks: i64,
}

/// Where an item ends, or the timeline's part that it fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seam {
    pub(crate) at: Npt,
    /// The seam is one of sound: `at` is on its clock.
    pub(crate) sound: Option<SoundMark>,
}

impl Seam {
    /// A seam of sound.
    pub(crate) fn of_sound(mark: SoundMark) -> Self {
        Self { at: Npt::from_ticks(mark.ticks, mark.clock_rate_hz), sound: Some(mark) }
    }

    /// The natural end of an item: that of its first sound, unless another track is much longer.
    pub(crate) fn natural(ends: &[TrackEnd]) -> Self {
        let last = ends.iter().map(TrackEnd::npt).max().unwrap_or(Npt::ZERO);
        let sound = ends.iter().find(|end| end.kind == MediaKind::Audio);
        let sound = sound.filter(|sound| last - sound.npt() <= SILENT_NS_MAX);
        match sound {
            Some(&TrackEnd { track, clock_rate_hz, ticks, .. }) => {
                Self::of_sound(SoundMark { track, clock_rate_hz, ticks })
            }
            None => Self { at: last, sound: None },
        }
    }

    /// The end of an item on the timeline of the path: the item's zero is there at `zero`.
    pub(crate) fn moved(self, zero: Npt) -> Self {
        match self.sound {
            Some(mark) => {
                let ticks = zero.to_ticks(mark.clock_rate_hz).saturating_add(mark.ticks);
                Self::of_sound(SoundMark { ticks, ..mark })
            }
            None => Self { at: Npt(self.at.0.saturating_add(zero.0)), sound: None },
        }
    }

    /// Zero of the next item, for a seam on the timeline. `first` is the first tick of the next
    /// item's sound on the seam's track, where it has such sound.
    pub(crate) fn next_zero(self, first: Option<i64>) -> Npt {
        match (self.sound, first) {
            (Some(mark), Some(first)) => {
                Npt::from_ticks(mark.ticks.saturating_sub(first), mark.clock_rate_hz)
            }
            _ => self.at,
        }
    }
}

/// The tick of the first frame of sound that reaches into the presentation, in the frames of an
/// item's first window. Before it lie frames for the decoder to settle.
pub(crate) fn first_sound(frames: &[Frame], clock_rate_hz: u32) -> Option<i64> {
    let early = frames.iter().map(|frame| frame.rtp_ticks).take_while(|ticks| *ticks <= 0).last();
    early.filter(|ticks| *ticks > -i64::from(clock_rate_hz / SOUND_FRAMES_PER_S_MIN))
}

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is sent.
    Send,
    /// It is left out.
    Skip,
    /// It is left out, and all behind it.
    Over,
}

/// The part of a title's track that is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    /// Track of the path.
    pub(crate) track: u8,
    pub(crate) kind: MediaKind,
    /// Sound before this tick lies before the start of the presentation.
    pub(crate) from: Option<i64>,
}

impl Part {
    /// What becomes of the track's next frame, in an item that ends at `end`.
    pub(crate) fn judge(&self, frame: &Frame, end: Seam) -> Verdict {
        if self.kind == MediaKind::Audio && self.from.is_some_and(|from| frame.rtp_ticks < from) {
            return Verdict::Skip;
        }
        let is_behind = match end.sound.filter(|mark| mark.track == self.track) {
            Some(mark) => frame.rtp_ticks >= mark.ticks,
            None => frame.npt >= end.at,
        };
        match is_behind {
            false => Verdict::Send,
            true if self.kind == MediaKind::Video && frame.is_disposable => Verdict::Skip,
            true => Verdict::Over,
        }
    }
}

/// RTP time of one track of the path, in ticks from the timeline's start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line {
    pub(crate) clock_rate_hz: u32,
    pub(crate) kind: MediaKind,
    /// The latest tick that was sent.
    latest: Option<i64>,
    /// The latest tick of the items before the present one, and of frames that were moved there.
    floor: Option<i64>,
}

impl Line {
    pub(crate) fn new(kind: MediaKind, clock_rate_hz: u32) -> Self {
        Self { clock_rate_hz, kind, latest: None, floor: None }
    }

    /// Another item begins.
    pub(crate) fn begin_item(&mut self) {
        self.floor = self.latest;
    }

    /// Tick of a frame of the present item, whose zero lies at `zero`. `None` for sound of a time
    /// that was sent already. Pictures from before the start of the presentation, which others are
    /// decoded by, come right behind those of the item before.
    pub(crate) fn place(&mut self, zero: Npt, rtp_ticks: i64) -> Option<i64> {
        let mut ticks = zero.to_ticks(self.clock_rate_hz).saturating_add(rtp_ticks);
        if let Some(floor) = self.floor.filter(|floor| ticks <= *floor) {
            if self.kind == MediaKind::Audio {
                return None;
            }
            ticks = floor.saturating_add(1);
            self.floor = Some(ticks);
        }
        self.latest = Some(self.latest.map_or(ticks, |latest| latest.max(ticks)));
        Some(ticks)
    }

    /// Tick of a time on the timeline.
    pub(crate) fn ticks_at(&self, at: Npt) -> i64 {
        at.to_ticks(self.clock_rate_hz)
    }
}

/// The wall clock of the timeline: fixed for the life of a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin(pub(crate) Mono);

impl Origin {
    /// The time at which a place of the timeline is due.
    pub(crate) fn wall_of(self, at: Npt) -> Mono {
        self.0.offset_ns(at.0)
    }

    /// The place of the timeline that is due now.
    pub(crate) fn at(self, now: Mono) -> Npt {
        let ns = i128::from(now.0) - i128::from(self.0.0);
        Npt(i64::try_from(ns).unwrap_or(i64::MAX))
    }
}

/// A picture that outlasts the sound by more is shown to its end.
const SILENT_NS_MAX: i64 = 500_000_000;
/// A frame of sound is not longer than a fifth of a second.
const SOUND_FRAMES_PER_S_MIN: u32 = 5;

#[cfg(test)]
#[path = "seam_tests.rs"]
mod tests;
