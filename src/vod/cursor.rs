//! The cursor of a stream in its track: the next packet to send, and the packet's window.
//!
//! ```text
//!  window 4 (here)        window 5 (asked for ahead)
//!  [frame][frame][frame]  [..
//!            ^ frame, packet
//! ```
//! Invariant: while the cursor is inside window N, window N+1 (N-1 backwards) has been requested; a
//! stream waits only when that answer takes longer than a whole window's time. A window whose pages
//! age (`media::pages`) is requested again; while the pages are cold, nothing is sent from the
//! window. The cursor is the queue: a stream that cannot send leaves its cursor where it is. A
//! place consists of numbers only, so remembering a place costs nothing; a cursor that returns to a
//! released window requests the window again.

use std::sync::Arc;

use crate::base::time::Mono;
use crate::media::asset::Track;
use crate::media::packetize::job::{window_count, window_of_sample};
use crate::media::pages::Pages;
use crate::media::window::{Frame, PacketWindow, WindowKind};
use crate::takeover::v1::{PlaceAt, PlaceRecord};

/// The cursor of one stream: see the module.
#[derive(Debug)]
pub struct Cursor {
    kind: WindowKind,
    is_backward: bool,
    window_count: u32,
    /// Where to begin in the window of `place` when that window arrives.
    begin: Begin,
    place: Place,
    window: Option<Arc<PacketWindow>>,
    ahead: Option<Arc<PacketWindow>>,
    /// The window that was requested and has not arrived.
    asked: Option<u32>,
    /// State of the present window's pages, as `check_pages` found it.
    pages: Pages,
    /// The present window is not new to its stream any more.
    is_entered: bool,
}

/// A place in the packets of a track, to return to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    window_index: u32,
    frame_index: u32,
    packet_index: u32,
}

impl Place {
    /// Index of the window, and of the packet in its frame.
    pub(crate) fn window_and_packet(self) -> (u32, u32) {
        (self.window_index, self.packet_index)
    }
}

/// Where to begin in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begin {
    /// At the edge that comes first in the cursor's direction.
    Edge,
    /// At the frame that holds this sample.
    Sample(u32),
    /// At `place`: the cursor was there before.
    Place,
    /// At `place`, whose frame begins with this sample; if another one does, at that sample.
    Recorded(u32),
}

/// Result of `peek`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// A frame to send, from packet `packet_index` on.
    Frame(Frame),
    /// The window has not arrived yet.
    Waiting,
    /// The track has no more frames in this direction.
    End,
}

impl Cursor {
    /// A cursor at `start_sample` in the window `window_index`.
    #[must_use]
    pub fn new(
        kind: WindowKind,
        is_backward: bool,
        window_count: u32,
        window_index: u32,
        start_sample: u32,
    ) -> Self {
        let place = Place { window_index, frame_index: 0, packet_index: 0 };
        Self {
            kind,
            is_backward,
            window_count,
            begin: Begin::Sample(start_sample),
            place,
            window: None,
            ahead: None,
            asked: None,
            pages: Pages::Warm,
            is_entered: false,
        }
    }

    /// For another process.
    #[must_use]
    pub fn record(&self) -> PlaceRecord {
        let Place { window_index, frame_index, packet_index } = self.place;
        let frame = |sample| PlaceAt::Frame { frame: frame_index, packet: packet_index, sample };
        let at = match (&self.window, self.begin) {
            (Some(window), _) => {
                let present = window.frames().get(frame_index as usize);
                frame(present.map(|frame| frame.sample_index))
            }
            (None, Begin::Edge) => PlaceAt::Edge,
            (None, Begin::Sample(sample)) => PlaceAt::Sample(sample),
            (None, Begin::Place) => frame(None),
            (None, Begin::Recorded(sample)) => frame(Some(sample)),
        };
        PlaceRecord {
            is_sync: self.kind == WindowKind::Sync,
            is_backward: self.is_backward,
            at,
            window: window_index,
        }
    }

    /// As another process has told of a place in `track`.
    #[must_use]
    pub fn of(record: PlaceRecord, track: &Track) -> Self {
        let count = |kind| window_count(track, kind);
        Self::recorded(record, count, |sample| window_of_sample(track, sample))
    }

    /// The same, with the number of windows and the window of a sample.
    fn recorded(
        record: PlaceRecord,
        count_of: impl FnOnce(WindowKind) -> u32,
        window_of: impl FnOnce(u32) -> u32,
    ) -> Self {
        let kind = if record.is_sync { WindowKind::Sync } else { WindowKind::All };
        let (frame, packet, begin, sample) = match record.at {
            PlaceAt::Edge => (0, 0, Begin::Edge, None),
            PlaceAt::Sample(sample) => (0, 0, Begin::Sample(sample), Some(sample)),
            PlaceAt::Frame { frame, packet, sample } => {
                (frame, packet, sample.map_or(Begin::Place, Begin::Recorded), sample)
            }
        };
        // The other program may have cut windows in another way.
        let window = match sample {
            Some(sample) if !record.is_sync => window_of(sample),
            _ => record.window,
        };
        let mut cursor = Self::new(kind, record.is_backward, count_of(kind), window, 0);
        cursor.place.frame_index = frame;
        cursor.place.packet_index = packet;
        cursor.begin = begin;
        cursor
    }

    /// The kind of windows that the cursor walks through.
    #[must_use]
    pub fn kind(&self) -> WindowKind {
        self.kind
    }

    /// The window to request now; `None` when enough windows are here or the track ends.
    #[must_use]
    pub fn wanted(&self) -> Option<u32> {
        if self.window.is_none() {
            return (self.place.window_index < self.window_count)
                .then_some(self.place.window_index);
        }
        let own = self.place.window_index;
        if self.pages == Pages::Cold {
            return Some(own);
        }
        let ahead = if self.ahead.is_some() { None } else { self.following(own) };
        ahead.or_else(|| (self.pages == Pages::Aging).then_some(own))
    }

    /// Whether the frame that `peek` returned may be sent from its window at `now`. If not, the
    /// window is wanted again, and the caller asks again after the window has arrived.
    pub fn check_pages(&mut self, now: Mono) -> bool {
        let window = self.window.as_ref();
        self.pages = window.map_or(Pages::Cold, |window| window.pages(now));
        self.pages != Pages::Cold
    }

    /// The wanted window, unless it has been requested.
    #[must_use]
    pub fn unasked(&self) -> Option<u32> {
        self.wanted().filter(|index| self.asked != Some(*index))
    }

    /// Whether a window was requested and has not come.
    #[must_use]
    pub fn has_asked(&self, window_index: u32) -> bool {
        self.asked == Some(window_index)
    }

    /// Whether nothing of a window is still to be sent.
    #[must_use]
    pub fn is_behind(&self, window_index: u32) -> bool {
        let own = self.place.window_index;
        window_index != own && self.following(own) != Some(window_index)
    }

    /// The window has been requested: `unasked` does not name the window again before it arrives.
    pub fn mark_asked(&mut self, window_index: u32) {
        self.asked = Some(window_index);
    }

    /// The requested window will not arrive, or its arrival will not be reported: it may be
    /// requested again.
    pub fn forget_asked(&mut self) {
        self.asked = None;
    }

    /// A window has arrived. A window that is not wanted any more is ignored.
    pub fn handle_window(&mut self, window_index: u32, window: Arc<PacketWindow>) {
        if self.asked == Some(window_index) {
            self.asked = None;
        }
        if self.window.is_none() && window_index == self.place.window_index {
            self.enter(window);
        } else if window_index == self.place.window_index {
            // The same packets, perhaps built anew, from a worker that has read their pages.
            self.window = Some(window);
            self.pages = Pages::Warm;
        } else if self.window.is_some()
            && self.ahead.is_none()
            && self.following(self.place.window_index) == Some(window_index)
        {
            self.ahead = Some(window);
        }
    }

    /// Looks at the next frame, stepping into the next window when this one is used up.
    pub fn peek(&mut self) -> Next {
        // Bounded: each round uses up the next window, and there is at most one.
        for _ in 0..3 {
            let Some(window) = &self.window else {
                let is_inside = self.place.window_index < self.window_count;
                return if is_inside { Next::Waiting } else { Next::End };
            };
            if let Some(frame) = window.frames().get(self.place.frame_index as usize) {
                return Next::Frame(*frame);
            }
            let Some(following) = self.following(self.place.window_index) else {
                return Next::End;
            };
            if self.ahead.is_none() {
                return Next::Waiting;
            }
            self.window = None;
            self.place.window_index = following;
            if let Some(window) = self.ahead.take() {
                self.enter(window);
            }
        }
        Next::Waiting
    }

    /// The window of the frame that `peek` returned.
    #[must_use]
    pub fn window(&self) -> Option<&PacketWindow> {
        self.window.as_deref()
    }

    /// As `window`, shared.
    #[must_use]
    pub fn window_handle(&self) -> Option<&Arc<PacketWindow>> {
        self.window.as_ref()
    }

    /// Place of the next packet in the present window, and its frame.
    #[must_use]
    pub fn packet_in_window(&self) -> Option<(u32, &Frame)> {
        let frame = self.window.as_ref()?.frames().get(self.place.frame_index as usize)?;
        Some((frame.packet_index + self.place.packet_index, frame))
    }

    /// Whether the present window is new. True once.
    pub fn enters_window(&mut self) -> bool {
        let is_new = !self.is_entered && self.packet_in_window().is_some();
        self.is_entered |= is_new;
        is_new
    }

    /// The frame after the one that `peek` returned, if it is in the same window.
    #[must_use]
    pub fn frame_after(&self) -> Option<&Frame> {
        let after = self.frame_index_after();
        self.window.as_ref()?.frames().get(after as usize)
    }

    /// Index of the first packet of the next frame that is not sent yet.
    #[must_use]
    pub fn packet_index(&self) -> u32 {
        self.place.packet_index
    }

    /// Steps over `count` packets of the present frame.
    pub fn advance_packets(&mut self, count: u32) {
        self.place.packet_index += count;
    }

    /// Steps to the next frame.
    pub fn advance_frame(&mut self) {
        self.place.packet_index = 0;
        self.place.frame_index = self.frame_index_after();
    }

    /// The place of the next packet.
    #[must_use]
    pub fn place(&self) -> Place {
        self.place
    }

    /// Returns to a place whose packets were not sent after all.
    pub fn rewind(&mut self, place: Place) {
        if place.window_index != self.place.window_index {
            // The present window becomes the next one again. With a window without frames in
            // between it is not the next one, and neither is the window after it.
            let is_next = self.following(place.window_index) == Some(self.place.window_index);
            self.ahead = if is_next { self.window.take() } else { None };
            self.window = None;
        }
        self.place = place;
        if self.window.is_none() {
            self.begin = Begin::Place;
        }
    }

    fn enter(&mut self, window: Arc<PacketWindow>) {
        let frames = window.frames();
        let place = self.place;
        let frame_index = match std::mem::replace(&mut self.begin, Begin::Edge) {
            Begin::Place => None,
            Begin::Recorded(sample) if is_at(frames, place, sample) => None,
            Begin::Recorded(sample) => Some(frame_of_sample(frames, sample)),
            Begin::Sample(start) => Some(frame_of_sample(frames, start)),
            Begin::Edge if self.is_backward => Some(frames.len().wrapping_sub(1)),
            Begin::Edge => Some(0),
        };
        if let Some(frame_index) = frame_index {
            self.place.packet_index = 0;
            // The index before the first frame of an empty window exists in no window.
            self.place.frame_index = u32::try_from(frame_index).unwrap_or(u32::MAX);
        }
        self.window = Some(window);
        self.pages = Pages::Warm;
        self.is_entered = false;
    }

    /// Backwards past the first frame wraps to an index that no window has.
    fn frame_index_after(&self) -> u32 {
        if self.is_backward {
            self.place.frame_index.wrapping_sub(1)
        } else {
            self.place.frame_index.wrapping_add(1)
        }
    }

    fn following(&self, window_index: u32) -> Option<u32> {
        if self.is_backward {
            window_index.checked_sub(1)
        } else {
            Some(window_index + 1).filter(|next| *next < self.window_count)
        }
    }
}

/// Whether a place is within the frame that begins with a sample.
fn is_at(frames: &[Frame], place: Place, sample: u32) -> bool {
    frames.get(place.frame_index as usize).is_some_and(|frame| {
        frame.sample_index == sample && place.packet_index <= frame.packet_count
    })
}

/// The frame that a sample begins with. For a frame of several samples this is the last frame that
/// begins before the sample; for a long sample of sound with several frames, its first frame.
fn frame_of_sample(frames: &[Frame], start: u32) -> usize {
    let before = frames.partition_point(|frame| frame.sample_index < start);
    match frames.get(before) {
        Some(frame) if frame.sample_index == start => before,
        _ => before.saturating_sub(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Npt;
    use crate::media::window::WindowBuilder;

    fn window(samples: impl IntoIterator<Item = u32>) -> Arc<PacketWindow> {
        let mut builder = WindowBuilder::new();
        for sample_index in samples {
            builder.push_inline(&[0]);
            builder.end_packet(true);
            let due = Npt(i64::from(sample_index));
            builder.end_frame(Frame { due, npt: due, sample_index, ..Frame::SYNC });
        }
        Arc::new(builder.finish())
    }

    /// Walks to the end, answering every wish at once.
    fn walk(cursor: &mut Cursor, per_window: u32) -> Vec<u32> {
        let mut seen = Vec::new();
        for _ in 0..1_000 {
            while let Some(index) = cursor.wanted() {
                cursor.handle_window(index, window(index * per_window..(index + 1) * per_window));
            }
            match cursor.peek() {
                Next::Frame(frame) => seen.push(frame.sample_index),
                Next::Waiting => continue,
                Next::End => return seen,
            }
            cursor.advance_frame();
        }
        panic!("no end");
    }

    #[test]
    fn forward_walk_meets_every_sample_from_the_start_on() {
        let mut cursor = Cursor::new(WindowKind::All, false, 3, 1, 5);
        assert_eq!(walk(&mut cursor, 4), [5, 6, 7, 8, 9, 10, 11]);
    }

    /// The samples that are left for a cursor that another process has told of, where a window has
    /// `per_window` samples.
    fn left(record: PlaceRecord, per_window: u32) -> Vec<u32> {
        let count = 12_u32.div_ceil(per_window);
        let mut cursor = Cursor::recorded(record, |_| count, |sample| sample / per_window);
        walk(&mut cursor, per_window)
    }

    #[test]
    fn place_that_another_process_has_told_is_found_however_windows_are_cut() {
        for steps in 0..12 {
            let mut cursor = Cursor::new(WindowKind::All, false, 3, 0, 0);
            for _ in 0..steps {
                while let Some(index) = cursor.wanted() {
                    cursor.handle_window(index, window(index * 4..(index + 1) * 4));
                }
                assert!(matches!(cursor.peek(), Next::Frame(_)));
                cursor.advance_frame();
            }
            let expected: Vec<u32> = (steps..12).collect();
            let is_between = steps % 4 == 0 && steps > 0;
            for per_window in [4, 3, 6] {
                // Where a window is used up the next frame is not known: its number is told.
                if per_window == 4 || !is_between {
                    assert_eq!(left(cursor.record(), per_window), expected, "{steps}");
                }
            }
            cursor.peek();
            while let Some(index) = cursor.wanted() {
                cursor.handle_window(index, window(index * 4..(index + 1) * 4));
            }
            cursor.peek();
            assert_eq!(left(cursor.record(), 6), expected, "{steps}, seen");
        }
        let waiting = Cursor::new(WindowKind::All, false, 3, 1, 5).record();
        assert_eq!(left(waiting, 4), (5..12).collect::<Vec<_>>(), "its window has not come");
        let mut begun = Cursor::new(WindowKind::All, false, 3, 1, 5);
        begun.handle_window(1, window(4..8));
        begun.advance_packets(1);
        let record = begun.record();
        assert_eq!(Cursor::recorded(record, |_| 3, |_| 1).record(), record, "told again");
    }

    #[test]
    fn start_is_the_first_frame_of_a_sample_or_the_frame_that_holds_it() {
        for (frames, start, expected) in [
            (&[0, 0, 0, 1, 1][..], 0, &[0, 0, 0, 1, 1][..]),
            (&[0, 0, 0, 1, 1], 1, &[1, 1]),
            (&[0, 4, 8], 5, &[4, 8]),
            (&[0, 4, 8], 8, &[8]),
            (&[4, 8], 0, &[4, 8]),
            (&[], 3, &[]),
        ] {
            let mut cursor = Cursor::new(WindowKind::All, false, 1, 0, start);
            cursor.handle_window(0, window(frames.iter().copied()));
            let mut seen = Vec::new();
            while let Next::Frame(frame) = cursor.peek() {
                seen.push(frame.sample_index);
                cursor.advance_frame();
            }
            assert_eq!(seen, expected, "{frames:?} from {start}");
        }
    }

    #[test]
    fn backward_walk_meets_every_sample_down_to_the_first() {
        let mut cursor = Cursor::new(WindowKind::Sync, true, 3, 1, 5);
        assert_eq!(walk(&mut cursor, 4), [5, 4, 3, 2, 1, 0]);
    }

    #[test]
    fn late_window_is_waited_for_and_a_stray_window_ignored() {
        let mut cursor = Cursor::new(WindowKind::All, false, 2, 0, 0);
        cursor.handle_window(1, window(1..2));
        assert_eq!(cursor.peek(), Next::Waiting);
        cursor.handle_window(0, window(0..1));
        assert!(matches!(cursor.peek(), Next::Frame(f) if f.sample_index == 0));
        cursor.advance_frame();
        assert_eq!(cursor.peek(), Next::Waiting);
        cursor.handle_window(1, window(1..2));
        assert!(matches!(cursor.peek(), Next::Frame(f) if f.sample_index == 1));
        cursor.advance_frame();
        assert_eq!(cursor.peek(), Next::End);
    }

    #[test]
    fn rewind_over_a_window_edge_sends_the_same_again() {
        let mut cursor = Cursor::new(WindowKind::All, false, 2, 0, 1);
        cursor.handle_window(0, window(0..2));
        cursor.handle_window(1, window(2..4));
        assert!(matches!(cursor.peek(), Next::Frame(f) if f.sample_index == 1));
        cursor.advance_packets(1);
        let place = cursor.place();
        cursor.advance_frame();
        assert!(matches!(cursor.peek(), Next::Frame(f) if f.sample_index == 2));
        cursor.rewind(place);
        assert_eq!((cursor.peek(), cursor.wanted()), (Next::Waiting, Some(0)));
        cursor.handle_window(0, window(0..2));
        assert_eq!((cursor.place(), cursor.wanted()), (place, None));
        assert_eq!(walk(&mut cursor, 2), [1, 2, 3]);
    }

    #[test]
    fn rewind_over_a_window_without_frames_sends_the_same_again() {
        let mut cursor = Cursor::new(WindowKind::All, false, 4, 0, 0);
        let content = [0..2, 2..2, 2..4, 4..6];
        let answer = |cursor: &mut Cursor| {
            while let Some(index) = cursor.wanted() {
                cursor.handle_window(index, window(content[index as usize].clone()));
            }
        };
        answer(&mut cursor);
        let place = cursor.place();
        cursor.advance_frame();
        cursor.advance_frame();
        for _ in 0..2 {
            let _ = cursor.peek();
            answer(&mut cursor);
        }
        assert!(matches!(cursor.peek(), Next::Frame(f) if f.sample_index == 2));
        cursor.rewind(place);
        let mut seen = Vec::new();
        for _ in 0..20 {
            answer(&mut cursor);
            if let Next::Frame(frame) = cursor.peek() {
                seen.push(frame.sample_index);
                cursor.advance_frame();
            }
        }
        assert_eq!(seen, [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn window_is_asked_for_once_until_it_comes_or_is_refused() {
        let mut cursor = Cursor::new(WindowKind::All, false, 2, 0, 0);
        assert_eq!(cursor.unasked(), Some(0));
        cursor.mark_asked(0);
        assert_eq!((cursor.unasked(), cursor.wanted()), (None, Some(0)));
        cursor.forget_asked();
        assert_eq!(cursor.unasked(), Some(0));
        cursor.mark_asked(0);
        cursor.handle_window(0, window(0..1));
        assert_eq!(cursor.unasked(), Some(1));
    }
}
