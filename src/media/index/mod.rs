//! Sample index of one track: what the file's sample tables say, on the presentation's timeline.
//!
//! ```text
//! play order   0 1 2 3 | 4 5 6 7 8      segments: first, count, raw first, shift of time
//!              v v v v   v v v v v
//! raw order    1 2 3 4   9 ..           table (see `table`), numbered as in the file
//! ```
//! An edit list is a list of segments over play order, never an expanded copy. Only the part of a
//! presentation that starts later may repeat raw samples.
//!
//! Invariants: decode times never go back, across segments too (`floor`); segments are ascending
//! in play order and lie inside the table.
//!
//! Bounds: a film with B-frames whose samples are interleaved one by one takes 16 bytes a video
//! sample and 8 bytes an AAC sample in chunks of two: 8 MiB for three hours. Unusual files
//! (variable frame rate, many different composition offsets) take at most 46 bytes a sample.
//! `sample` is O(log n); the iterators decode in constant time a sample.
//! ISO 14496-12 s8.6 (times, edit lists), s8.7 (sizes, chunks).

mod table;

use crate::base::time::Npt;
pub(crate) use table::{Cursor, Table};

/// One sample of a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// First byte in the file.
    pub offset: u64,
    /// Length.
    pub bytes: u32,
    /// Decode time in ticks of the track's timescale, from the start of the presentation
    /// (the edit list is already applied, so it may be negative).
    pub dts: i64,
    /// Composition time, likewise.
    pub pts: i64,
    /// Ticks until the next sample's decode time.
    pub duration: u32,
    /// A decoder can start here.
    pub is_sync: bool,
    /// `sdtp` (or the fragment's flags) says that no other sample depends on this one.
    pub is_disposable: bool,
}

/// A range of raw samples to be played, in the order of playing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlayRange {
    /// First raw sample.
    pub(crate) raw_first: u32,
    /// Raw samples.
    pub(crate) count: u32,
    /// Ticks from media time to presentation time.
    pub(crate) shift: i64,
    /// Ticks by which decoding is earlier than the table says: where composition offsets are
    /// negative, a sample would otherwise be due after it is shown.
    pub(crate) lead: i64,
    /// Presentation time before which nothing of this range is decoded or shown: the end of what
    /// was played before it. Samples that are only there to be decoded are moved up to it.
    pub(crate) floor: i64,
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    first: u32,
    sync_first: u32,
    raw_sync_first: u32,
    range: PlayRange,
}

impl Segment {
    /// Moves a raw sample onto the presentation timeline.
    fn place(&self, raw: Sample) -> Sample {
        self.range.place(raw)
    }
}

impl PlayRange {
    /// Everything of a table of `count` samples, with its own times.
    pub(crate) fn all(count: u32) -> Self {
        Self { raw_first: 0, count, shift: 0, lead: 0, floor: i64::MIN }
    }

    /// Moves a raw sample onto the presentation timeline.
    pub(crate) fn place(&self, raw: Sample) -> Sample {
        let Self { shift, lead, floor, .. } = *self;
        let dts = raw.dts.saturating_add(shift).saturating_sub(lead);
        let next = dts.saturating_add(i64::from(raw.duration));
        let duration = if dts < floor {
            u32::try_from(next.max(floor).saturating_sub(floor)).unwrap_or(u32::MAX)
        } else {
            raw.duration
        };
        let pts = raw.pts.saturating_add(shift).max(floor);
        Sample { dts: dts.max(floor), pts, duration, ..raw }
    }
}

/// Samples of one track on the timeline of the presentation.
#[derive(Debug, Default)]
pub struct SampleIndex {
    table: Table,
    segments: Vec<Segment>,
    count: u32,
    sync_count: u32,
}

impl SampleIndex {
    /// From samples in decode order; past `limits::TRACK_SAMPLES_MAX` they are left out.
    #[must_use]
    pub fn from_samples(samples: Vec<Sample>) -> Self {
        let mut table = Table::default();
        for sample in &samples {
            if !table.push(sample) {
                break;
            }
        }
        Self::from_table(table)
    }

    /// Every sample of a table, with its own times.
    pub(crate) fn from_table(table: Table) -> Self {
        let range = PlayRange::all(table.count());
        Self::from_ranges(table, &[range])
    }

    /// Ranges of a table. A range that leaves the table is cut; more than `u32::MAX` samples in
    /// all are cut too.
    pub(crate) fn from_ranges(mut table: Table, ranges: &[PlayRange]) -> Self {
        table.finish();
        let mut index = Self { table, ..Self::default() };
        for range in ranges {
            let left = index.table.count().saturating_sub(range.raw_first);
            let count = range.count.min(left).min(u32::MAX - index.count);
            if count == 0 {
                continue;
            }
            let raw_sync_first = index.table.sync_before(range.raw_first);
            index.segments.push(Segment {
                first: index.count,
                sync_first: index.sync_count,
                raw_sync_first,
                range: PlayRange { count, ..*range },
            });
            index.count += count;
            index.sync_count += index.table.sync_before(range.raw_first + count) - raw_sync_first;
        }
        index.segments.shrink_to_fit();
        index
    }

    /// Samples.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Sync samples.
    #[must_use]
    pub fn sync_count(&self) -> u32 {
        self.sync_count
    }

    /// The sample at `sample_index`, `None` past the end.
    #[must_use]
    pub fn sample(&self, sample_index: u32) -> Option<Sample> {
        self.iter(sample_index, 1).next()
    }

    /// Sample index of the `sync_index`-th sync sample.
    #[must_use]
    pub fn sync_sample(&self, sync_index: u32) -> Option<u32> {
        if sync_index >= self.sync_count {
            return None;
        }
        let past = self.segments.partition_point(|s| s.sync_first <= sync_index);
        let segment = self.segments.get(past.checked_sub(1)?)?;
        let raw =
            self.table.sync_sample(segment.raw_sync_first + sync_index - segment.sync_first)?;
        Some(segment.first + raw.checked_sub(segment.range.raw_first)?)
    }

    /// Which decoder configuration a sample has: 0 is `Track::codec`, others count
    /// `Track::other_codecs` from 1.
    #[must_use]
    pub fn description(&self, sample_index: u32) -> u16 {
        if self.table.has_one_description() {
            return 0;
        }
        let past = self.segments.partition_point(|s| s.first <= sample_index);
        let segment = past.checked_sub(1).and_then(|at| self.segments.get(at));
        segment.map_or(0, |s| {
            let skip = sample_index.saturating_sub(s.first);
            self.table.description(s.range.raw_first.saturating_add(skip))
        })
    }

    /// Up to `count` samples from `first` on, in order.
    pub fn iter(&self, first: u32, count: u32) -> impl Iterator<Item = Sample> + '_ {
        let past = self.segments.partition_point(|s| s.first <= first);
        let at = past.saturating_sub(1);
        let segments = self.segments.get(at..).unwrap_or(&[]);
        let skip = segments.first().map_or(0, |s| first.saturating_sub(s.first));
        let left = self.count.saturating_sub(first).min(count);
        PlayIter { table: &self.table, segments, skip, left, open: None }
    }

    /// Number (0-based among the sync samples) of the last sync sample whose composition time is
    /// at or before `npt`; the first one when there is none before. `None` only without any.
    ///
    /// Samples are compared by `Npt::from_ticks`, so the time of a sync sample finds that sample
    /// again: a tick is not a whole number of nanoseconds, and the way back to ticks can lose one.
    #[must_use]
    pub fn sync_at_or_before(&self, npt: Npt, timescale: u32) -> Option<u32> {
        let (mut low, mut high) = (0, self.sync_count);
        while low < high {
            let middle = low + (high - low) / 2;
            let sample = self.sync_sample(middle).and_then(|i| self.sample(i))?;
            if Npt::from_ticks(sample.pts, timescale) <= npt {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        (self.sync_count > 0).then(|| low.saturating_sub(1))
    }

    /// The sample to start sending from so that `npt` can be shown: the sync sample at or before.
    #[must_use]
    pub fn entry_at_or_before(&self, npt: Npt, timescale: u32) -> Option<u32> {
        self.sync_sample(self.sync_at_or_before(npt, timescale)?)
    }

    /// Presentation time just behind the last sample shown, in ticks; 0 without samples. The last
    /// sample to be shown is among the last few to be decoded.
    #[must_use]
    pub fn end_ticks(&self) -> i64 {
        let tail = self.iter(self.count.saturating_sub(REORDER_MAX), REORDER_MAX);
        tail.map(|s| s.pts.saturating_add(i64::from(s.duration))).max().unwrap_or(0).max(0)
    }

    /// Bytes of the largest sample of the file, whether it is played or not.
    #[must_use]
    pub fn bytes_max(&self) -> u32 {
        self.table.bytes_max()
    }

    /// Memory taken by the index.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.segments.capacity() * size_of::<Segment>()
            + self.table.memory_bytes()
    }

    /// Samples as the file stores and numbers them, before the edit list.
    pub(crate) fn raw(&self) -> &Table {
        &self.table
    }

    /// The ranges of raw samples that are played, in play order.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = PlayRange> + '_ {
        self.segments.iter().map(|s| s.range)
    }
}

/// Walks segments in play order.
struct PlayIter<'a> {
    table: &'a Table,
    segments: &'a [Segment],
    skip: u32,
    left: u32,
    open: Option<(Cursor<'a>, u32)>,
}

impl Iterator for PlayIter<'_> {
    type Item = Sample;

    fn next(&mut self) -> Option<Sample> {
        self.left = self.left.checked_sub(1)?;
        let segment = self.segments.first()?;
        let (mut cursor, rest) = self.open.take().unwrap_or_else(|| {
            let skip = std::mem::take(&mut self.skip);
            let cursor = self.table.cursor(segment.range.raw_first + skip);
            (cursor, segment.range.count.saturating_sub(skip))
        });
        let mut sample = segment.place(cursor.next()?);
        if rest > 1 {
            self.open = Some((cursor, rest - 1));
        } else {
            self.segments = self.segments.get(1..).unwrap_or(&[]);
            if let Some(next) = self.segments.first() {
                // A gap or an overlap at the seam shows in the last sample's duration.
                let after = self.table.sample(next.range.raw_first).map(|raw| next.place(raw).dts);
                let ticks = after.map_or(0, |dts| dts.saturating_sub(sample.dts).max(0));
                sample.duration = u32::try_from(ticks).unwrap_or(u32::MAX);
            }
        }
        Some(sample)
    }
}

/// Samples that a decoder may hold back for reordering: H.264 and H.265 allow 16 pictures.
const REORDER_MAX: u32 = 32;

#[cfg(test)]
mod tests;
