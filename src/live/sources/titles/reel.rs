//! A title on its way to a path: opened by a worker, checked, its windows asked for ahead.
//!
//! ```text
//!  Opening --title--> fits the streams? --yes--> Loading --first windows--> ready --> plays
//!     `--failure, or other codecs--> the item is skipped
//!  each track   [window that plays][next window] <--asked--
//! ```
//! A task that the queue refuses, and a read that fails, are tried again (`asking`); when a read is
//! given up, the item ends where the bytes end.
//!
//! Invariants: windows of a track come in order, one asked for at a time; a frame is handed out
//! once. Bounds: `LIVE_TRACKS_MAX` tracks, `WINDOWS_AHEAD` windows each; only tracks without any
//! window ask while the item holds `REEL_BYTES_MAX`.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::base::names::CLIP_NAME;
use crate::base::time::{Mono, Npt, rescale};
use crate::library::title::Title;
use crate::live::sources::titles::asking::Asking;
use crate::live::sources::titles::schedule::{ItemId, Upcoming};
use crate::live::sources::titles::seam::{Part, Seam, SoundMark, TrackEnd, Verdict, first_sound};
use crate::live::sources::titles::stream::{Stream, match_tracks};
use crate::media::asset::Track;
use crate::media::codec::MediaKind;
use crate::media::packetize::job::window_count;
use crate::media::payload_window::PayloadWindow;
use crate::media::window::{Frame, WindowKey, WindowKind};
use crate::poll::task::{OpenFailure, WindowFailure, Work};

/// An item: see the module.
#[derive(Debug)]
pub(crate) struct Reel {
    pub(crate) upcoming: Upcoming,
    opening: Asking,
    opened: Option<Opened>,
}

/// A title that is open, and the tracks of it that are sent.
#[derive(Debug)]
struct Opened {
    title: Arc<Title>,
    tracks: Vec<ReelTrack>,
    /// On the item's own timeline.
    end: Seam,
}

/// One track of the title that feeds one of the path.
#[derive(Debug)]
struct ReelTrack {
    part: Part,
    clock_rate_hz: u32,
    /// Track of the title.
    index: u8,
    /// Windows up to the item's end.
    window_count: u32,
    /// The next window to ask for.
    next: u32,
    asking: Asking,
    windows: VecDeque<Box<PayloadWindow>>,
    /// Frame of the first window, and packet of the frame.
    frame: usize,
    packet: u32,
    is_over: bool,
}

/// What an answer of the workers means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answered {
    /// It is for another item.
    NotMine,
    /// The item goes on.
    Taken,
    /// The item cannot go on; what is at hand may be played.
    Failed(String),
}

/// The next frame in order of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peek {
    /// A frame of the track at this place, due at this time of the item.
    Frame {
        /// Place among the tracks of the reel.
        place: usize,
        due: Npt,
        npt: Npt,
    },
    /// A window is not here yet.
    Waiting,
    /// All that belongs to the item has been handed out.
    Over,
}

/// A packet, without its header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReelPacket<'a> {
    /// Track of the path.
    pub(crate) track: u8,
    pub(crate) frame: Frame,
    /// It is the first one of its frame.
    pub(crate) is_first: bool,
    /// It is the last one of its frame.
    pub(crate) is_last: bool,
    pub(crate) marker: bool,
    pub(crate) payload: &'a [u8],
}

impl Reel {
    pub(crate) fn new(upcoming: Upcoming) -> Self {
        Self { upcoming, opening: Asking::default(), opened: None }
    }

    pub(crate) fn item(&self) -> ItemId {
        self.upcoming.item
    }

    /// The title, once it is open.
    pub(crate) fn title(&self) -> Option<&Arc<Title>> {
        self.opened.as_ref().map(|opened| &opened.title)
    }

    /// Asks the workers for what is missing: up to `ahead` windows of each track.
    pub(crate) fn ask(
        &mut self,
        now: Mono,
        ahead: usize,
        requests: &mut u32,
        out: &mut Vec<(u32, Work)>,
    ) {
        let Some(opened) = &mut self.opened else {
            if self.opening.is_free(now) {
                let name = Some(&*self.upcoming.title).filter(|name| *name != CLIP_NAME);
                let work = Work::Open { name: name.map(str::to_owned) };
                out.push((self.opening.begin(requests), work));
            }
            return;
        };
        let held = opened.tracks.iter().flat_map(|track| &track.windows);
        let is_full = held.map(|window| window.memory_bytes()).sum::<usize>() > REEL_BYTES_MAX;
        for track in &mut opened.tracks {
            let is_needed = track.windows.len() < ahead
                && track.next < track.window_count
                && !track.is_over
                && (!is_full || track.windows.is_empty());
            if is_needed && track.asking.is_free(now) {
                let kind = WindowKind::All;
                let key = WindowKey { track_index: track.index, kind, index: track.next };
                let work = Work::WindowBytes { title: Arc::clone(&opened.title), key };
                out.push((track.asking.begin(requests), work));
            }
        }
    }

    /// When a request is to be tried again.
    pub(crate) fn again_at(&self) -> Option<Mono> {
        let tracks = self.opened.iter().flat_map(|opened| &opened.tracks);
        let waiting = tracks.filter(|track| !track.is_over).map(|track| track.asking.again_at());
        waiting.chain([self.opening.again_at()]).flatten().min()
    }

    /// Whether a request is the item's.
    pub(crate) fn asks(&self, request: u32) -> bool {
        let tracks = self.opened.iter().flat_map(|opened| &opened.tracks);
        let mut askings = tracks.map(|track| &track.asking).chain([&self.opening]);
        askings.any(|asking| asking.has(request))
    }

    /// The queue of the workers has refused a request. False: it is another item's.
    pub(crate) fn handle_refused(&mut self, request: u32, now: Mono) -> bool {
        let tracks = self.opened.iter_mut().flat_map(|opened| &mut opened.tracks);
        let mut askings = tracks.map(|track| &mut track.asking).chain([&mut self.opening]);
        let Some(asking) = askings.find(|asking| asking.has(request)) else {
            return false;
        };
        asking.handle_refused(now);
        true
    }

    /// The title is open, or cannot be opened. `streams` are those of the path, empty before the
    /// first title: this one makes them then.
    pub(crate) fn handle_opened(
        &mut self,
        request: u32,
        opened: Result<Arc<Title>, OpenFailure>,
        streams: &mut Vec<Stream>,
        now: Mono,
    ) -> Answered {
        if !self.opening.has(request) {
            return Answered::NotMine;
        }
        let title = match opened {
            Ok(title) => {
                self.opening.handle_done();
                title
            }
            Err(OpenFailure::Unavailable(_)) if self.opening.handle_failed(now) => {
                return Answered::Taken;
            }
            Err(error) => return Answered::Failed(error.to_string()),
        };
        match Opened::new(title, streams) {
            Ok(opened) => self.opened = Some(opened),
            Err(reason) => return Answered::Failed(reason),
        }
        Answered::Taken
    }

    /// A window is here, or cannot be had.
    pub(crate) fn handle_window(
        &mut self,
        request: u32,
        made: Result<Box<PayloadWindow>, WindowFailure>,
        now: Mono,
    ) -> Answered {
        let Some(opened) = &mut self.opened else { return Answered::NotMine };
        let found = opened.tracks.iter_mut().find(|track| track.asking.has(request));
        let Some(track) = found else { return Answered::NotMine };
        match made {
            Ok(window) => {
                track.asking.handle_done();
                track.next += 1;
                if !window.frames().is_empty() {
                    track.windows.push_back(window);
                }
                Answered::Taken
            }
            Err(WindowFailure::Unreadable(_)) if track.asking.handle_failed(now) => Answered::Taken,
            Err(error) => {
                track.window_count = track.next;
                Answered::Failed(error.to_string())
            }
        }
    }

    /// Ends the item where the bytes of a track end, after a failure.
    pub(crate) fn end_at_bytes(&mut self) {
        let Some(Opened { title, tracks, end }) = &mut self.opened else { return };
        for track in tracks.iter() {
            let Some(of_title) = title.asset.tracks.get(usize::from(track.index)) else { continue };
            let sample = track.window_count.saturating_mul(of_title.window_samples.max(1));
            // The first one to be shown is among the first few to be decoded.
            let missing = of_title.schedule().iter(sample, REORDER_MAX);
            let Some(pts) = missing.map(|sample| sample.pts).min() else { continue };
            let at = Npt::from_ticks(pts, of_title.timescale);
            if at >= end.at {
                continue;
            }
            let mark = end.sound.map(|mark| SoundMark {
                ticks: if mark.track == track.part.track {
                    rescale(pts, of_title.timescale, mark.clock_rate_hz)
                } else {
                    at.to_ticks(mark.clock_rate_hz)
                },
                ..mark
            });
            *end = mark.map_or(Seam { at, sound: None }, Seam::of_sound);
        }
    }

    /// Ends the item at a time of its own, or before the next frame of its sound behind that.
    pub(crate) fn cut(&mut self, at: Npt) {
        let Some(Opened { tracks, end, .. }) = &mut self.opened else { return };
        if at >= end.at {
            return;
        }
        let sound = tracks.iter().find(|track| track.part.kind == MediaKind::Audio);
        let mark = sound.map(|track| {
            let frames = track.windows.iter().flat_map(|window| window.frames());
            let behind = frames.map(|frame| frame.rtp_ticks);
            let wanted = at.to_ticks(track.clock_rate_hz);
            let ticks = behind.filter(|ticks| *ticks >= wanted).min().unwrap_or(wanted);
            SoundMark { track: track.part.track, clock_rate_hz: track.clock_rate_hz, ticks }
        });
        *end = mark.map_or(Seam { at, sound: None }, Seam::of_sound);
    }

    /// Whether it can begin: each track has a window, or has none at all.
    pub(crate) fn is_ready(&self) -> bool {
        self.opened.as_ref().is_some_and(|opened| {
            let mut tracks = opened.tracks.iter();
            tracks.all(|track| !track.windows.is_empty() || track.next >= track.window_count)
        })
    }

    /// End of the item, on its own timeline.
    pub(crate) fn end(&self) -> Option<Seam> {
        self.opened.as_ref().map(|opened| opened.end)
    }

    /// The earliest of the first frames, which is due before the item's zero as a rule.
    pub(crate) fn first_due(&self) -> Option<Npt> {
        let tracks = self.opened.iter().flat_map(|opened| &opened.tracks);
        tracks.filter_map(|track| Some(track.frame()?.due)).min()
    }

    /// The item follows another one, at a seam on this track of sound: what lies before the start
    /// of its presentation is not sent. Returns the first tick that is, if it is known.
    pub(crate) fn follow(&mut self, mark: Option<SoundMark>) -> Option<i64> {
        let mut first = None;
        for track in self.opened.iter_mut().flat_map(|opened| &mut opened.tracks) {
            if track.part.kind != MediaKind::Audio {
                continue;
            }
            let frames = track.windows.front().map_or(&[][..], |window| window.frames());
            let from = first_sound(frames, track.clock_rate_hz);
            track.part.from = from;
            if mark.is_some_and(|mark| mark.track == track.part.track) {
                first = from;
            }
        }
        first
    }

    /// The next frame. Frames that are not sent are passed over, a window of them at most.
    pub(crate) fn peek(&mut self) -> Peek {
        let Some(opened) = &mut self.opened else { return Peek::Waiting };
        let (mut next, mut is_waiting) = (Peek::Over, false);
        for (place, track) in opened.tracks.iter_mut().enumerate() {
            track.pass_over(opened.end);
            match track.frame() {
                _ if track.is_over => {}
                None => is_waiting = true,
                Some(Frame { due, npt, .. }) => {
                    if !matches!(next, Peek::Frame { due: known, .. } if known <= due) {
                        next = Peek::Frame { place, due, npt };
                    }
                }
            }
        }
        if is_waiting { Peek::Waiting } else { next }
    }

    /// Hands out the next packet of the frame that `peek` has found.
    pub(crate) fn take(&mut self, place: usize) -> Option<ReelPacket<'_>> {
        let track = self.opened.as_mut()?.tracks.get_mut(place)?;
        let (at, number) = (track.frame, track.packet);
        let frame = track.frame()?;
        track.packet += 1;
        if track.packet >= frame.packet_count {
            (track.frame, track.packet) = (at + 1, 0);
        }
        let (marker, payload) = track.windows.front()?.packet(&frame, number)?;
        let (is_first, is_last) = (number == 0, track.packet == 0);
        Some(ReelPacket { track: track.part.track, frame, is_first, is_last, marker, payload })
    }
}

impl Opened {
    fn new(title: Arc<Title>, streams: &mut Vec<Stream>) -> Result<Self, String> {
        let matched = match_tracks(streams, &title)?;
        let tracks: Vec<ReelTrack> = matched
            .iter()
            .filter_map(|(track, index)| {
                let of_title = title.asset.tracks.get(usize::from(*index))?;
                Some(ReelTrack::new(*track, *index, of_title))
            })
            .collect();
        let end_of = |(track, index): &(u8, u8)| {
            let of_title = title.asset.tracks.get(usize::from(*index))?;
            let ticks = end_ticks(of_title);
            let clock_rate_hz = of_title.payload.clock_rate_hz;
            let ticks = rescale(ticks, of_title.timescale, clock_rate_hz);
            Some(TrackEnd { track: *track, kind: of_title.kind, clock_rate_hz, ticks })
        };
        let ends: Vec<TrackEnd> = matched.iter().filter_map(end_of).collect();
        let end = Seam::natural(&ends);
        if end.at < LENGTH_MIN {
            return Err(format!(
                "it plays {} ms, at least {} are needed",
                end.at.0.max(0) / NS_PER_MS,
                LENGTH_MIN.0 / NS_PER_MS
            ));
        }
        Ok(Self { title, tracks, end })
    }
}

/// Behind the last sample, in the track's ticks. Containers cut the last frame of sound to where
/// the sound ends; a decoder plays all of it.
fn end_ticks(track: &Track) -> i64 {
    let (samples, end) = (track.schedule(), track.schedule().end_ticks());
    let mut last = samples.iter(samples.count().saturating_sub(2), 2);
    match (last.next(), last.next()) {
        (Some(before), Some(last)) if track.kind == MediaKind::Audio => {
            end.max(last.pts.saturating_add(i64::from(before.duration)))
        }
        _ => end,
    }
}

impl ReelTrack {
    fn new(track: u8, index: u8, of_title: &Track) -> Self {
        Self {
            part: Part { track, kind: of_title.kind, from: None },
            clock_rate_hz: of_title.payload.clock_rate_hz,
            index,
            window_count: window_count(of_title, WindowKind::All),
            next: 0,
            asking: Asking::default(),
            windows: VecDeque::new(),
            frame: 0,
            packet: 0,
            is_over: false,
        }
    }

    /// The next frame, if its window is here.
    fn frame(&self) -> Option<Frame> {
        let window = self.windows.front().filter(|_| !self.is_over)?;
        window.frames().get(self.frame).copied()
    }

    /// Leaves windows that are used up, and frames that are not sent.
    fn pass_over(&mut self, end: Seam) {
        // Bounded: a window or a frame of those at hand goes with each round.
        while !self.is_over {
            let Some(window) = self.windows.front() else {
                self.is_over = self.next >= self.window_count;
                return;
            };
            let Some(frame) = window.frames().get(self.frame) else {
                self.windows.pop_front();
                self.frame = 0;
                continue;
            };
            let verdict = match self.packet {
                0 => self.part.judge(frame, end),
                _ => Verdict::Send,
            };
            match verdict {
                Verdict::Send => return,
                Verdict::Skip => self.frame += 1,
                Verdict::Over => self.is_over = true,
            }
        }
        self.windows.clear();
    }
}

/// Payload of an item in memory, beyond which only tracks without a window ask for one.
const REEL_BYTES_MAX: usize = 64 << 20;
/// Windows of each track at hand while an item plays: the next one is asked for two seconds ahead.
pub(crate) const WINDOWS_AHEAD: usize = 2;
/// Samples that a decoder may hold back for reordering.
const REORDER_MAX: u32 = 32;
/// A shorter title would be opened again and again for nothing.
const LENGTH_MIN: Npt = Npt(200_000_000);
const NS_PER_MS: i64 = 1_000_000;
