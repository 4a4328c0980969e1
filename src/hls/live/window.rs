//! The segments of a live path that are kept, and the playlist of them.
//!
//! ```text
//!  removed, still to be had      listed                         newest, incomplete
//!  [s3][s4][s5]                  [s6][s7][s8: parts][s9: parts] [s10: parts]  -> part 10.3 is next
//! ```
//! A segment stays for as long as a playlist that names it may be in use (RFC 8216 s6.2.2).
//! Renditions have the same segments and parts, with bytes of their own.
//! Bounds: `LISTED_TARGETS` target durations and `SEGMENTS_MAX` segments listed, as much again
//! kept; `bytes_max` of all, where the oldest go first and are counted.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::hls::live::segmenter::{TARGET_S, Targets};
use crate::hls::playlist::{LivePart, LivePlaylist, LiveSegment, Multivariant};
use crate::hls::resource::{Rendition, Revision};

/// A part as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPart {
    /// Length.
    pub duration_us: u64,
    /// Its picture begins with a sync sample.
    pub is_independent: bool,
    /// Of each rendition.
    pub fragments: Vec<StoredFragment>,
}

/// A part of one rendition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFragment {
    /// `moof` and `mdat`.
    pub bytes: Bytes,
    /// It has no frames.
    pub is_empty: bool,
}

impl StoredPart {
    /// What a rendition has of it.
    #[must_use]
    pub fn of(&self, rendition: Rendition) -> Option<&StoredFragment> {
        self.fragments.get(usize::from(rendition.0))
    }

    fn bytes(&self) -> usize {
        self.fragments.iter().map(|fragment| fragment.bytes.len()).sum()
    }

    fn is_gap(&self, rendition: Rendition) -> bool {
        self.of(rendition).is_none_or(|fragment| fragment.is_empty)
    }
}

/// A segment: its parts, one behind the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSegment {
    /// Media sequence number.
    pub number: u64,
    /// Which initialization it needs.
    pub init: u32,
    /// The timeline or the configuration differs from the segment before.
    pub is_discontinuous: bool,
    /// UTC of its first sample in milliseconds since 1970.
    pub utc_ms: Option<i64>,
    /// In order.
    pub parts: Vec<StoredPart>,
    /// Its parts are listed. Those of a segment with a picture that is longer than a part may be
    /// are not: it is listed when it is complete.
    pub is_in_parts: bool,
    /// Nothing is added any more.
    pub is_complete: bool,
}

impl StoredSegment {
    /// Length.
    #[must_use]
    pub fn duration_us(&self) -> u64 {
        self.parts.iter().map(|part| part.duration_us).sum()
    }

    /// What a rendition has of each part.
    pub fn of(&self, rendition: Rendition) -> impl Iterator<Item = &Bytes> {
        self.parts.iter().filter_map(move |part| Some(&part.of(rendition)?.bytes))
    }

    /// Bytes of all parts and renditions.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(StoredPart::bytes).sum()
    }
}

/// What can be had of a path at one moment. Immutable, shared by all who ask.
#[derive(Debug, Default)]
pub struct Snapshot {
    revision: Option<Revision>,
    target_s: u32,
    part_target_us: u64,
    discontinuity_sequence: u64,
    inits: Vec<(u32, Vec<Bytes>)>,
    removed: Vec<Arc<StoredSegment>>,
    listed: Vec<Arc<StoredSegment>>,
    multivariant: Option<Multivariant>,
    /// Number of the segment that begins next.
    next_number: u64,
    is_ended: bool,
    /// Of each rendition.
    texts: Vec<OnceLock<Bytes>>,
}

impl Snapshot {
    /// Tells its run from others; `None` before the first part.
    #[must_use]
    pub fn revision(&self) -> Option<Revision> {
        self.revision
    }

    /// A player can begin: one segment is complete.
    #[must_use]
    pub fn is_playable(&self) -> bool {
        self.listed.iter().any(|segment| segment.is_complete)
    }

    /// Nothing follows.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// The longest duration of a segment in seconds.
    #[must_use]
    pub fn target_s(&self) -> u32 {
        self.target_s
    }

    /// The multivariant playlist, when something can be played.
    #[must_use]
    pub fn multivariant(&self) -> Option<&Multivariant> {
        self.multivariant.as_ref()
    }

    /// Whether there is such a rendition. The first one always is.
    #[must_use]
    pub fn has_rendition(&self, rendition: Rendition) -> bool {
        rendition == Rendition::MAIN || usize::from(rendition.0) < self.texts.len()
    }

    /// An initialization segment of a rendition.
    #[must_use]
    pub fn init(&self, rendition: Rendition, number: u32) -> Option<&Bytes> {
        let (_, of_all) = self.inits.iter().find(|(known, _)| *known == number)?;
        of_all.get(usize::from(rendition.0))
    }

    /// A segment that can be had: a complete one, or the newest one.
    #[must_use]
    pub fn segment(&self, number: u64) -> Option<&Arc<StoredSegment>> {
        let mut all = self.removed.iter().chain(&self.listed);
        all.find(|segment| segment.number == number)
    }

    /// Whether a playlist has the part of the segment, or, without a part, the whole segment
    /// (`_HLS_msn`, `_HLS_part`). What is behind the end of its segment is the next segment's.
    #[must_use]
    pub fn has(&self, number: u64, part: Option<u32>) -> bool {
        let Some(last) = self.listed.last() else { return false };
        if last.number != number {
            return last.number > number;
        }
        let has_part = |part: u32| last.is_in_parts && (part as usize) < last.parts.len();
        last.is_complete || part.is_some_and(has_part)
    }

    /// Segment and place of the part that comes next.
    #[must_use]
    pub fn next_part(&self) -> (u64, u32) {
        match self.listed.last() {
            None => (self.next_number, 0),
            Some(last) if last.is_complete => (last.number + 1, 0),
            Some(last) if !last.is_in_parts => (last.number, 0),
            Some(last) => (last.number, u32::try_from(last.parts.len()).unwrap_or(u32::MAX)),
        }
    }

    /// The media playlist of a rendition; `suffix` goes behind each URI. Without one it is written
    /// once.
    #[must_use]
    pub fn playlist(&self, rendition: Rendition, suffix: &str) -> Bytes {
        let text = self.texts.get(usize::from(rendition.0)).filter(|_| suffix.is_empty());
        match text {
            Some(text) => text.get_or_init(|| self.write(rendition, "").into()).clone(),
            None => self.write(rendition, suffix).into(),
        }
    }

    fn write(&self, rendition: Rendition, suffix: &str) -> String {
        let from = parts_from(&self.listed, self.target_s);
        let with_parts = |place: usize, segment: &StoredSegment| -> Vec<LivePart> {
            let parts = segment.parts.iter().filter(|_| place >= from && segment.is_in_parts);
            parts
                .map(|part| LivePart {
                    duration_us: part.duration_us,
                    // Sound beside the picture stands alone everywhere.
                    is_independent: part.is_independent || rendition != Rendition::MAIN,
                    is_gap: part.is_gap(rendition),
                })
                .collect()
        };
        let parts: Vec<_> =
            self.listed.iter().enumerate().map(|(place, of)| with_parts(place, of)).collect();
        let segments: Vec<_> = self
            .listed
            .iter()
            .zip(&parts)
            .filter(|(segment, _)| segment.is_complete || segment.is_in_parts)
            .map(|(segment, parts)| LiveSegment {
                number: segment.number,
                duration_us: segment.duration_us(),
                init: segment.init,
                is_discontinuous: segment.is_discontinuous,
                utc_ms: segment.utc_ms,
                parts,
                is_gap: segment.parts.iter().all(|part| part.is_gap(rendition)),
                is_complete: segment.is_complete,
            })
            .collect();
        let all = (0..u16::try_from(self.texts.len()).unwrap_or(u16::MAX)).map(Rendition);
        let others: Vec<_> = all.filter(|other| *other != rendition).collect();
        LivePlaylist {
            rendition,
            others: &others,
            revision: self.revision.unwrap_or(Revision(0)),
            target_s: self.target_s,
            part_target_us: self.part_target_us,
            discontinuity_sequence: self.discontinuity_sequence,
            segments: &segments,
            is_ended: self.is_ended,
        }
        .text(suffix)
    }
}

/// Place of the first segment whose parts are listed: those of the last three target durations
/// (rfc8216bis s6.2.2).
fn parts_from(listed: &[Arc<StoredSegment>], target_s: u32) -> usize {
    let mut left_us = u64::from(target_s) * 3 * 1_000_000;
    for (place, segment) in listed.iter().enumerate().rev() {
        let duration = segment.duration_us();
        if duration > left_us {
            return place + 1;
        }
        left_us -= duration;
    }
    0
}

/// The segments of a path: see the module.
#[derive(Debug)]
pub(super) struct Window {
    revision: Revision,
    bytes_max: usize,
    targets: Option<Targets>,
    discontinuity_sequence: u64,
    inits: VecDeque<(u32, Vec<Bytes>)>,
    removed: VecDeque<Arc<StoredSegment>>,
    listed: VecDeque<Arc<StoredSegment>>,
    bytes: usize,
    next_number: u64,
    next_init: u32,
    is_ended: bool,
    /// Segments that were dropped before their time.
    pub(super) evicted: u64,
}

impl Window {
    pub(super) fn new(revision: Revision, bytes_max: usize) -> Self {
        Self {
            revision,
            bytes_max,
            targets: None,
            discontinuity_sequence: 0,
            inits: VecDeque::new(),
            removed: VecDeque::new(),
            listed: VecDeque::new(),
            bytes: 0,
            next_number: 0,
            next_init: 0,
            is_ended: false,
            evicted: 0,
        }
    }

    /// The first segment has this number.
    pub(super) fn number_from(&mut self, number: u64) {
        self.next_number = number;
    }

    /// Says how long parts and segments are at most. Later targets do not change it (RFC 8216
    /// s6.2.1).
    pub(super) fn begin(&mut self, targets: Targets) {
        self.targets.get_or_insert(targets);
    }

    /// How long parts and segments are at most, once it is known.
    pub(super) fn targets(&self) -> Option<Targets> {
        self.targets
    }

    fn target_s(&self) -> u32 {
        self.targets.map_or(TARGET_S, |targets| targets.segment_s)
    }

    fn target_us(&self) -> u64 {
        u64::from(self.target_s()) * 1_000_000
    }

    fn part_target_us(&self) -> u64 {
        self.targets.map_or(0, |targets| targets.part_us)
    }

    /// Bytes of a segment at most: for a larger one the oldest segments could not make room.
    pub(super) fn segment_bytes_max(&self) -> usize {
        self.bytes_max / 4
    }

    /// Takes an initialization of each rendition; segments that begin from now on need it. One that
    /// has none any more keeps that which it had.
    pub(super) fn push_init(&mut self, of_all: Vec<Vec<u8>>) {
        let number = self.next_init;
        self.next_init += 1;
        let mut of_all: Vec<Bytes> = of_all.into_iter().map(Bytes::from).collect();
        if let Some((_, before)) = self.inits.back() {
            of_all.extend(before.iter().skip(of_all.len()).cloned());
        }
        self.inits.push_back((number, of_all));
    }

    /// Takes a part; a segment begins with it where none is open.
    pub(super) fn push_part(
        &mut self,
        part: StoredPart,
        is_discontinuous: bool,
        utc_ms: Option<i64>,
    ) {
        self.bytes += part.bytes();
        match self.listed.back_mut().filter(|last| !last.is_complete) {
            Some(last) => Arc::make_mut(last).parts.push(part),
            None => {
                let (number, init) = (self.next_number, self.next_init.saturating_sub(1));
                let is_in_parts = part.duration_us <= self.part_target_us();
                self.next_number += 1;
                self.listed.push_back(Arc::new(StoredSegment {
                    number,
                    init,
                    is_discontinuous,
                    utc_ms,
                    parts: vec![part],
                    is_in_parts,
                    is_complete: false,
                }));
            }
        }
        self.evict();
    }

    /// The open segment is complete.
    pub(super) fn end_segment(&mut self) {
        if let Some(last) = self.listed.back_mut().filter(|last| !last.is_complete) {
            Arc::make_mut(last).is_complete = true;
        }
    }

    /// Length of the open segment.
    pub(super) fn open_us(&self) -> u64 {
        let open = self.listed.back().filter(|last| !last.is_complete);
        open.map_or(0, |segment| segment.duration_us())
    }

    /// Nothing follows.
    pub(super) fn end(&mut self) {
        self.end_segment();
        self.is_ended = true;
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn snapshot(&self, multivariant: Option<Multivariant>) -> Snapshot {
        let renditions = self.inits.back().map_or(1, |(_, of_all)| of_all.len());
        Snapshot {
            revision: Some(self.revision),
            target_s: self.target_s(),
            part_target_us: self.part_target_us(),
            discontinuity_sequence: self.discontinuity_sequence,
            inits: self.inits.iter().cloned().collect(),
            removed: self.removed.iter().cloned().collect(),
            listed: self.listed.iter().cloned().collect(),
            multivariant,
            next_number: self.next_number,
            is_ended: self.is_ended,
            texts: vec![OnceLock::new(); renditions],
        }
    }

    fn evict(&mut self) {
        let sum = |segments: &VecDeque<Arc<StoredSegment>>| -> u64 {
            segments.iter().map(|segment| segment.duration_us()).sum()
        };
        let listed_max_us = LISTED_TARGETS * self.target_us();
        let mut listed_us = sum(&self.listed);
        while let Some(first) = self.listed.front() {
            let rest = listed_us - first.duration_us();
            let is_over = self.bytes > self.bytes_max && self.removed.is_empty()
                || self.listed.len() > SEGMENTS_MAX;
            if self.listed.len() < 2 || (rest < listed_max_us && !is_over) {
                break;
            }
            self.evicted += u64::from(rest < listed_max_us);
            listed_us = rest;
            if let Some(first) = self.listed.pop_front() {
                self.discontinuity_sequence += u64::from(first.is_discontinuous);
                self.removed.push_back(first);
            }
            self.drop_removed();
        }
        self.drop_removed();
    }

    /// Drops segments that no playlist in use can name, and those that there is no memory for.
    fn drop_removed(&mut self) {
        let kept_max_us = LISTED_TARGETS * self.target_us();
        let mut kept_us: u64 = self.removed.iter().map(|segment| segment.duration_us()).sum();
        while let Some(first) = self.removed.front() {
            let rest = kept_us - first.duration_us();
            let is_over = self.bytes > self.bytes_max || self.removed.len() > SEGMENTS_MAX;
            if rest < kept_max_us && !is_over {
                break;
            }
            kept_us = rest;
            self.bytes -= first.bytes();
            self.removed.pop_front();
        }
        let oldest = self.removed.front().or_else(|| self.listed.front());
        let oldest = oldest.map_or(0, |segment| segment.init);
        self.inits.retain(|(number, _)| *number >= oldest);
    }
}

/// Target durations of segments that stay listed; three at least (RFC 8216 s6.2.2).
const LISTED_TARGETS: u64 = 4;
/// Sixteen seconds have eleven segments of the shortest usual length. A source whose configuration
/// changes with every frame makes a segment of each frame.
const SEGMENTS_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn part(us: u64, bytes: usize) -> StoredPart {
        let fragment = StoredFragment { bytes: vec![0; bytes].into(), is_empty: false };
        StoredPart { duration_us: us, is_independent: true, fragments: vec![fragment] }
    }

    fn window(bytes_max: usize) -> Window {
        let mut window = Window::new(Revision(1), bytes_max);
        window.begin(Targets { part_us: 500_000, segment_s: 4 });
        window.push_init(vec![vec![1]]);
        window
    }

    #[test]
    fn segments_stay_for_as_long_as_a_playlist_may_name_them() {
        let mut window = window(1 << 20);
        for _ in 0..30 {
            window.push_part(part(2_000_000, 10), false, None);
            window.end_segment();
        }
        let snapshot = window.snapshot(None);
        assert_eq!(snapshot.listed.len(), 8, "sixteen seconds");
        assert_eq!(snapshot.removed.len(), 8);
        assert!(snapshot.segment(14).is_some() && snapshot.segment(13).is_none());
        assert_eq!(window.evicted, 0);
        assert_eq!(window.bytes(), 160);
    }

    #[test]
    fn memory_is_bounded_and_what_goes_too_early_is_counted() {
        let mut window = window(100);
        for _ in 0..30 {
            window.push_part(part(2_000_000, 40), false, None);
            window.end_segment();
            assert!(window.bytes() <= 120, "{}", window.bytes());
        }
        assert!(window.evicted > 0);
        assert!(!window.snapshot(None).listed.is_empty());
    }

    #[test]
    fn discontinuities_that_leave_the_list_are_counted_and_initializations_go_with_their_segments()
    {
        let mut window = window(1 << 20);
        for number in 0..40 {
            let is_discontinuous = number % 10 == 5;
            if is_discontinuous {
                window.push_init(vec![vec![2]]);
            }
            window.push_part(part(2_000_000, 1), is_discontinuous, None);
            window.end_segment();
        }
        let snapshot = window.snapshot(None);
        let listed = snapshot.listed.iter().filter(|segment| segment.is_discontinuous).count();
        assert_eq!(snapshot.discontinuity_sequence + listed as u64, 4);
        let has = |number| snapshot.init(Rendition::MAIN, number).is_some();
        assert!(!has(0) && has(4));
    }

    #[test]
    fn very_short_segments_are_bounded_by_their_number() {
        let mut window = window(1 << 20);
        for _ in 0..1_000 {
            window.push_part(part(1_000, 1), true, None);
            window.push_init(vec![vec![1]]);
            window.end_segment();
            let segments = (window.listed.len(), window.removed.len());
            assert!(segments.0 <= SEGMENTS_MAX && segments.1 <= SEGMENTS_MAX, "{segments:?}");
            assert!(window.inits.len() <= 2 * SEGMENTS_MAX + 1, "{}", window.inits.len());
        }
        let snapshot = window.snapshot(None);
        assert_eq!(snapshot.listed.len(), SEGMENTS_MAX);
        let breaks = snapshot.discontinuity_sequence + SEGMENTS_MAX as u64;
        assert_eq!(breaks, 1_000, "those that left the list are counted");
        assert_eq!(window.evicted, 1_000 - SEGMENTS_MAX as u64);
    }

    #[test]
    fn part_is_there_when_it_is_listed_or_its_segment_is_over() {
        let mut window = window(1 << 20);
        assert_eq!(window.snapshot(None).next_part(), (0, 0));
        window.push_part(part(500_000, 1), false, None);
        let snapshot = window.snapshot(None);
        assert!(snapshot.has(0, Some(0)) && !snapshot.has(0, Some(1)) && !snapshot.has(0, None));
        assert!(!snapshot.has(1, Some(0)) && !snapshot.is_playable());
        assert_eq!(snapshot.next_part(), (0, 1));
        window.end_segment();
        let snapshot = window.snapshot(None);
        assert!(snapshot.has(0, Some(7)) && snapshot.has(0, None) && snapshot.is_playable());
        assert_eq!(snapshot.next_part(), (1, 0));
    }

    #[test]
    fn segment_with_a_long_picture_is_listed_without_parts_when_it_is_complete() {
        let mut window = window(1 << 20);
        window.push_part(part(500_000, 1), false, None);
        window.end_segment();
        window.push_part(part(2_000_000, 1), false, None);
        let snapshot = window.snapshot(None);
        assert!(!snapshot.has(1, Some(0)), "it is not told how long it is");
        assert_eq!(snapshot.next_part(), (1, 0));
        let text = String::from_utf8(snapshot.playlist(Rendition::MAIN, "").to_vec()).unwrap();
        assert!(
            text.ends_with(
                "-0.m4s\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"main-0000000000000001-1.0.m4s\"\n"
            ),
            "{text}"
        );
        window.end_segment();
        let snapshot = window.snapshot(None);
        assert!(snapshot.has(1, Some(0)) && snapshot.next_part() == (2, 0));
        let text = String::from_utf8(snapshot.playlist(Rendition::MAIN, "").to_vec()).unwrap();
        assert!(text.contains("#EXTINF:2.000000,\nmain-0000000000000001-1.m4s\n"), "{text}");
        assert!(!text.contains("#EXT-X-PART:DURATION=2"), "{text}");
    }
}
