//! Ties a hint track to its media track: hint samples on the presentation's timeline.
//!
//! Two kinds of hint tracks are in use. Video hinters write one hint sample for each media sample;
//! then the media's own times are the better ones (some hinters store composition times, others
//! decode times). Audio hinters gather several samples; then the hint sample's own time counts,
//! and the media sample that sounds at that time says whether a decoder can start there.

use super::{HintEntry, HintTrack};
use crate::base::time::rescale;
use crate::media::index::{PlayRange, Sample, SampleIndex, Table};

/// What belongs together; `media_ref` is the place of the media track in `tref/hint`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair<'a> {
    pub(crate) media: &'a SampleIndex,
    pub(crate) media_timescale: u32,
    pub(crate) media_ref: usize,
    pub(crate) hint_timescale: u32,
    pub(crate) entry: HintEntry,
    pub(crate) file_bytes: u64,
}

/// Builds the hint track; `None` when it has no samples or its reference is out of range.
pub(crate) fn link(own: Table, pair: Pair<'_>) -> Option<HintTrack> {
    let media = pair.media.raw();
    if own.count() == 0 || media.count() == 0 {
        return None;
    }
    let uses_media_times = own.count() == media.count() && media.unit_bytes() == 0;
    let own = SampleIndex::from_table(own);
    let mut index = Table::default();
    for range in pair.media.ranges() {
        let is_room_left = if uses_media_times {
            push_paired(&mut index, own.raw(), media, range)
        } else {
            push_by_time(&mut index, own.raw(), pair, range)
        };
        if !is_room_left {
            return None;
        }
    }
    if index.count() == 0 {
        return None;
    }
    Some(HintTrack {
        index: SampleIndex::from_table(index),
        own,
        media_ref: i8::try_from(pair.media_ref).ok()?,
        clock_rate_hz: pair.entry.clock_rate_hz.unwrap_or(pair.hint_timescale),
        uses_media_times,
        file_bytes: pair.file_bytes,
    })
}

/// One hint sample a media sample: its place in the file, the media's times and flags.
fn push_paired(index: &mut Table, own: &Table, media: &Table, range: PlayRange) -> bool {
    let hints = own.cursor(range.raw_first);
    let pairs = hints.zip(media.cursor(range.raw_first)).take(range.count as usize);
    for (hint, sample) in pairs {
        let placed = range.place(sample);
        if !index.push(&Sample { offset: hint.offset, bytes: hint.bytes, ..placed }) {
            return false;
        }
    }
    true
}

/// Hint samples whose time falls into the range; the first of those that start in a sync sample's
/// time is a sync sample.
fn push_by_time(index: &mut Table, own: &Table, pair: Pair<'_>, range: PlayRange) -> bool {
    let media = pair.media.raw();
    let past = range.raw_first.saturating_add(range.count);
    let to_hint = |ticks| rescale(ticks, pair.media_timescale, pair.hint_timescale);
    let to_media = |ticks| rescale(ticks, pair.hint_timescale, pair.media_timescale);
    let first = match media.sample(range.raw_first) {
        Some(sample) if range.raw_first > 0 => own.first_at_or_after(to_hint(sample.dts)),
        _ => 0,
    };
    let end = match media.sample(past) {
        Some(sample) => own.first_at_or_after(to_hint(sample.dts)),
        None => own.count(),
    };
    let mut number = range.raw_first;
    let mut ahead = media.cursor(number);
    let mut current = ahead.next();
    let mut following = ahead.next();
    let mut started = None;
    for hint in own.cursor(first).take(end.saturating_sub(first) as usize) {
        let time = to_media(hint.dts);
        while following.is_some_and(|s| s.dts <= time) {
            current = following;
            following = ahead.next();
            number += 1;
        }
        let is_sync = current.is_some_and(|s| s.is_sync) && started != Some(number);
        started = Some(number);
        let next = to_media(hint.dts.saturating_add(i64::from(hint.duration)));
        let ticks = time.saturating_add(range.shift).max(range.floor);
        let sample = Sample {
            dts: ticks,
            pts: ticks,
            duration: u32::try_from(next.saturating_sub(time)).unwrap_or(0),
            is_sync,
            is_disposable: false,
            ..hint
        };
        if !index.push(&sample) {
            return false;
        }
    }
    true
}
