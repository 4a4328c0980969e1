//! Edit list to ranges of samples in play order.
//!
//! ```text
//! edits      | empty 0.5 s | media 1024 .. |  media 9000 .. |
//! timeline   0            0.5             P                ...
//! ranges                  [preroll|shown..][preroll|shown..]   shift = timeline - media time
//! ```
//! A range starts at the sync sample from which its first picture can be decoded; sound that the
//! decoder needs to settle comes along before the first edit only. Such samples have a negative
//! time in the first range, and stand at the range's start in later ones.
//!
//! Bound: `EDITS_MAX` edits. ISO 14496-12 s8.6.6.

use super::boxes::{full_box, u32_at, u64_at};
use crate::base::time::rescale;
use crate::media::index::{PlayRange, Table};

/// One entry of `elst`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edit {
    /// In the movie's timescale; 0 means "to the end".
    pub(super) duration: u64,
    /// In the track's timescale; -1 is an empty edit.
    pub(super) media_time: i64,
    /// Integer and fraction are 0: the picture stands still.
    pub(super) is_dwell: bool,
}

/// Reads an `elst` body; entries that are cut or over the limit are left out.
pub(super) fn read_edits(elst: &[u8]) -> Vec<Edit> {
    let Some((version, _, rest)) = full_box(elst) else { return Vec::new() };
    let width = if version == 1 { 20 } else { 12 };
    let count = u32_at(rest, 0).unwrap_or(0) as usize;
    let entries = rest.get(4..).unwrap_or(&[]).chunks_exact(width);
    let read = |entry: &[u8]| {
        let (duration, media_time) = match version {
            1 => (u64_at(entry, 0)?, u64_at(entry, 8)?.cast_signed()),
            _ => (u64::from(u32_at(entry, 0)?), i64::from(u32_at(entry, 4)?.cast_signed())),
        };
        Some(Edit { duration, media_time, is_dwell: u32_at(entry, width - 4)? == 0 })
    };
    entries.take(count.min(EDITS_MAX)).filter_map(read).collect()
}

/// Timescales and the nature of the track.
#[derive(Debug, Clone, Copy)]
pub(super) struct EditContext {
    pub(super) movie_timescale: u32,
    pub(super) timescale: u32,
    pub(super) is_audio: bool,
}

/// The ranges to play. Without edits: all of the table. The second value notes what could not be
/// honoured.
pub(super) fn play_ranges(
    table: &Table,
    edits: &[Edit],
    context: EditContext,
) -> (Vec<PlayRange>, Option<&'static str>) {
    // A broken offset must not make the whole track early by hours.
    let lead_max = i64::from(context.timescale) * LEAD_MAX_S;
    let lead = i64::from(table.shift_min()).saturating_neg().clamp(0, lead_max);
    if edits.is_empty() {
        return (vec![PlayRange { lead, ..PlayRange::all(table.count()) }], None);
    }
    let mut ranges: Vec<PlayRange> = Vec::new();
    let (mut problem, mut timeline, mut total) = (None, 0u64, 0u32);
    for edit in edits {
        let at = to_media_ticks(timeline, context);
        timeline = timeline.saturating_add(edit.duration);
        if edit.media_time < 0 {
            continue;
        }
        if edit.is_dwell {
            problem = Some("a still picture in the edit list is left out");
            continue;
        }
        let floor = ranges.last().map_or(i64::MIN, |last| end_of(table, last).max(at));
        let mut range = cut(table, edit, context, ranges.is_empty());
        range.shift = at.saturating_sub(edit.media_time);
        range.lead = lead;
        range.floor = floor;
        let left = crate::base::limits::TRACK_SAMPLES_MAX.saturating_sub(total);
        if range.count > left {
            problem = Some("the edit list repeats more samples than the limit");
            range.count = left;
        }
        total += range.count;
        if range.count > 0 {
            ranges.push(range);
        }
    }
    (ranges, problem)
}

/// The raw samples that one edit needs.
fn cut(table: &Table, edit: &Edit, context: EditContext, is_first: bool) -> PlayRange {
    let start = edit.media_time;
    let raw_first = if context.is_audio {
        let settle = if is_first { i64::from(context.timescale) / SETTLE_PER_SECOND } else { 0 };
        last_at_or_before(table, start.saturating_sub(settle))
    } else {
        sync_at_or_before(table, start)
    };
    let count = if edit.duration == 0 {
        table.count()
    } else {
        // The duration is rounded to the movie's coarser clock: allow one tick of it.
        let length = to_media_ticks(edit.duration.saturating_add(1), context);
        count_before(table, start.saturating_add(length))
    };
    PlayRange { raw_first, ..PlayRange::all(count.saturating_sub(raw_first)) }
}

/// The sample (audio: decode order is play order) that sounds at `ticks`.
fn last_at_or_before(table: &Table, ticks: i64) -> u32 {
    table.first_at_or_after(ticks.saturating_add(1)).saturating_sub(1)
}

fn sync_at_or_before(table: &Table, ticks: i64) -> u32 {
    let (mut low, mut high) = (0, table.sync_before(table.count()));
    while low < high {
        let middle = low + (high - low) / 2;
        let pts = table.sync_sample(middle).and_then(|n| table.sample(n)).map(|s| s.pts);
        if pts.is_some_and(|pts| pts <= ticks) { low = middle + 1 } else { high = middle }
    }
    table.sync_sample(low.saturating_sub(1)).unwrap_or(0)
}

/// Number of samples up to the last one, in decode order, that is shown before `end`.
fn count_before(table: &Table, end: i64) -> u32 {
    let earliest = end.saturating_sub(i64::from(table.shift_min()));
    let mut count = table.first_at_or_after(earliest);
    for _ in 0..REORDER_MAX {
        match count.checked_sub(1).and_then(|last| table.sample(last)) {
            Some(last) if last.pts >= end => count -= 1,
            _ => break,
        }
    }
    count
}

/// Presentation time at which the decoding of a range ends.
fn end_of(table: &Table, range: &PlayRange) -> i64 {
    let last = table.sample(range.raw_first + range.count.saturating_sub(1));
    let last = last.map(|raw| range.place(raw));
    last.map_or(range.floor, |s| s.dts.saturating_add(i64::from(s.duration)))
}

fn to_media_ticks(movie_ticks: u64, context: EditContext) -> i64 {
    let ticks = i64::try_from(movie_ticks).unwrap_or(i64::MAX);
    rescale(ticks, context.movie_timescale, context.timescale)
}

/// Edits in one track at most. Editors write one for each cut; a thousand cuts are a film.
const EDITS_MAX: usize = 4_096;

/// 100 ms of sound before the first edit: Opus wants 80 ms, AAC with SBR about 50 ms.
const SETTLE_PER_SECOND: i64 = 10;

/// Composition offsets below -2 s are damage.
const LEAD_MAX_S: i64 = 2;

/// Samples that are looked at behind the end of an edit.
const REORDER_MAX: u32 = 1_024;
