//! Sample table of one track as the file stores it, before the edit list, in columns.
//!
//! ```text
//! times    runs of equal durations            16 B a run
//! shifts   one value | 16 values + u8 | i32   0, 1 or 4 B a sample
//! sizes    one value | u16, large ones apart  0 or 2 B a sample
//! runs     contiguous bytes, <= 64 samples    12 B a run
//! sync     all | list of numbers              0 or 4 B a sync sample
//! descriptions  runs of one sample description  8 B a run
//! ```
//! Invariant: the runs of a column start at ascending sample numbers, the first at 0.
//! Bounds: `TRACK_SAMPLES_MAX` samples, `DESCRIPTION_RUNS_MAX` runs of descriptions; a look-up is
//! three binary searches and at most 63 additions.

use std::ops::Range;

use super::Sample;
use crate::base::limits;

/// Samples that share a duration: `dts = self.dts + (number - first) * delta`.
#[derive(Debug, Clone, Copy)]
struct TimeRun {
    first: u32,
    delta: u32,
    dts: i64,
}

impl TimeRun {
    fn dts_at(&self, number: u32) -> i64 {
        let count = i64::from(number.saturating_sub(self.first));
        self.dts.saturating_add(count * i64::from(self.delta))
    }
}

/// Composition offsets. A B-frame pyramid knows fewer than ten different ones.
#[derive(Debug)]
enum Shifts {
    Same(i32),
    Few { values: Vec<i32>, picks: Vec<u8> },
    Each(Vec<i32>),
}

/// Sizes in bytes. `large` holds what does not fit 16 bits, by ascending sample number.
#[derive(Debug)]
enum Sizes {
    Same(u32),
    Each { small: Vec<u16>, large: Vec<(u32, u32)> },
}

/// Samples of one track as the file stores them.
#[derive(Debug)]
pub(crate) struct Table {
    count: u32,
    times: Vec<TimeRun>,
    next_dts: i64,
    shifts: Shifts,
    shift_min: i32,
    sizes: Sizes,
    run_first: Vec<u32>,
    run_offset: Vec<u64>,
    next_offset: u64,
    /// `None`: every sample is a sync sample.
    sync: Option<Vec<u32>>,
    /// One bit a sample, up to the last one set.
    disposable: Vec<u64>,
    /// First sample of each run that shares a sample description, and which one. Samples in front
    /// of the first run have description 0.
    descriptions: Vec<(u32, u16)>,
    /// Above 0: a sample here is a run of audio units of that many bytes and one tick each; the
    /// file (and hint tracks) number the units.
    unit_bytes: u32,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            count: 0,
            times: Vec::new(),
            next_dts: 0,
            shifts: Shifts::Same(0),
            shift_min: i32::MAX,
            sizes: Sizes::Same(0),
            run_first: Vec::new(),
            run_offset: Vec::new(),
            next_offset: 0,
            sync: None,
            disposable: Vec::new(),
            descriptions: Vec::new(),
            unit_bytes: 0,
        }
    }
}

impl Table {
    /// A table whose samples are runs of `unit_bytes`-sized audio units.
    pub(crate) fn of_units(unit_bytes: u32) -> Self {
        Self { unit_bytes, ..Self::default() }
    }

    /// Appends a sample in decode order; `false` when the table is full.
    pub(crate) fn push(&mut self, sample: &Sample) -> bool {
        let number = self.count;
        if number >= limits::TRACK_SAMPLES_MAX {
            return false;
        }
        let continues = self.times.last().is_some_and(|run| run.delta == sample.duration);
        if !continues || sample.dts != self.next_dts {
            self.times.push(TimeRun { first: number, delta: sample.duration, dts: sample.dts });
        }
        self.next_dts = sample.dts.saturating_add(i64::from(sample.duration));
        let shift = clamp_shift(sample.pts.saturating_sub(sample.dts));
        self.shift_min = self.shift_min.min(shift);
        self.push_shift(shift);
        self.push_size(sample.bytes);
        let run_is_full = self.run_first.last().is_none_or(|first| number - first >= RUN_SAMPLES);
        if run_is_full || sample.offset != self.next_offset {
            self.run_first.push(number);
            self.run_offset.push(sample.offset);
        }
        self.next_offset = sample.offset.saturating_add(u64::from(sample.bytes));
        match (&mut self.sync, sample.is_sync) {
            (None, true) | (Some(_), false) => {}
            (None, false) => self.sync = Some((0..number).collect()),
            (Some(list), true) => list.push(number),
        }
        if sample.is_disposable {
            let word = number as usize / 64;
            if self.disposable.len() <= word {
                self.disposable.resize(word + 1, 0);
            }
            if let Some(bits) = self.disposable.get_mut(word) {
                *bits |= 1 << (number % 64);
            }
        }
        self.count += 1;
        true
    }

    fn push_shift(&mut self, shift: i32) {
        let number = self.count as usize;
        match &mut self.shifts {
            Shifts::Same(value) if number == 0 => *value = shift,
            Shifts::Same(value) if *value == shift => {}
            Shifts::Same(value) => {
                let mut picks = vec![0; number];
                picks.push(1);
                self.shifts = Shifts::Few { values: vec![*value, shift], picks };
            }
            Shifts::Few { values, picks } => {
                let known = values.iter().position(|v| *v == shift);
                let pick = known.or_else(|| {
                    (values.len() < FEW_MAX).then(|| {
                        values.push(shift);
                        values.len() - 1
                    })
                });
                if let Some(pick) = pick.and_then(|p| u8::try_from(p).ok()) {
                    picks.push(pick);
                } else {
                    let value = |p: &u8| values.get(usize::from(*p)).copied().unwrap_or(0);
                    let mut each: Vec<i32> = picks.iter().map(value).collect();
                    each.push(shift);
                    self.shifts = Shifts::Each(each);
                }
            }
            Shifts::Each(each) => each.push(shift),
        }
    }

    fn push_size(&mut self, bytes: u32) {
        let number = self.count;
        if let Sizes::Same(value) = &mut self.sizes {
            if number == 0 {
                *value = bytes;
            }
            if *value == bytes {
                return;
            }
            let small = u16::try_from(*value).unwrap_or(LARGE);
            let large = match small {
                LARGE => (0..number).map(|n| (n, *value)).collect(),
                _ => Vec::new(),
            };
            self.sizes = Sizes::Each { small: vec![small; number as usize], large };
        }
        if let Sizes::Each { small, large } = &mut self.sizes {
            let short = u16::try_from(bytes).unwrap_or(LARGE);
            if short == LARGE {
                large.push((number, bytes));
            }
            small.push(short);
        }
    }

    /// Samples pushed from now on have this sample description; `false` when the description
    /// changes too often for the table.
    pub(crate) fn describe(&mut self, description: u16) -> bool {
        let number = self.count;
        if self.descriptions.last().is_some_and(|(first, _)| *first == number) {
            self.descriptions.pop();
        }
        if self.next_description() == description {
            return true;
        }
        if self.descriptions.len() >= limits::DESCRIPTION_RUNS_MAX {
            return false;
        }
        self.descriptions.push((number, description));
        true
    }

    /// No sample has another sample description than 0.
    pub(crate) fn has_one_description(&self) -> bool {
        self.descriptions.is_empty()
    }

    /// The sample description of samples that are pushed now.
    pub(crate) fn next_description(&self) -> u16 {
        self.descriptions.last().map_or(0, |(_, last)| *last)
    }

    /// The sample description of a sample.
    pub(crate) fn description(&self, number: u32) -> u16 {
        let runs = self.descriptions.partition_point(|(first, _)| *first <= number);
        runs.checked_sub(1).and_then(|run| self.descriptions.get(run)).map_or(0, |run| run.1)
    }

    /// Runs of samples that share a sample description, in order.
    pub(crate) fn description_runs(&self) -> impl Iterator<Item = (Range<u32>, u16)> + '_ {
        self.description_runs_from(0)
    }

    /// The same from the run that holds sample `number` on.
    pub(crate) fn description_runs_from(
        &self,
        number: u32,
    ) -> impl Iterator<Item = (Range<u32>, u16)> + '_ {
        let past = self.descriptions.partition_point(|(first, _)| *first <= number);
        let at = past.saturating_sub(1);
        let runs = self.descriptions.get(at..).unwrap_or(&[]);
        // Samples in front of the first run have description 0.
        let head = [(0, 0)].into_iter().filter(move |_| past == 0);
        let ends = runs.iter().map(|(first, _)| *first).chain([self.count]);
        let starts = head.chain(runs.iter().copied());
        let ends = ends.skip(usize::from(past > 0));
        let all = starts.zip(ends).map(|((start, which), end)| (start..end, which));
        all.filter(|(run, _)| !run.is_empty())
    }

    /// Gives every sample description the number that `number_of` has for it.
    pub(crate) fn renumber_descriptions(&mut self, number_of: impl Fn(u16) -> u16) {
        let mut runs: Vec<(u32, u16)> = Vec::new();
        for (run, which) in self.description_runs() {
            let number = number_of(which);
            if runs.last().map_or(0, |(_, last)| *last) != number {
                runs.push((run.start, number));
            }
        }
        runs.shrink_to_fit();
        self.descriptions = runs;
    }

    /// Gives back spare capacity; call it once when the table is complete. A table in which no
    /// sample is a sync sample gets its first one as such: playing has to start somewhere.
    pub(crate) fn finish(&mut self) {
        if let Some(sync) = &mut self.sync {
            if sync.is_empty() {
                sync.push(0);
            }
            sync.shrink_to_fit();
        }
        self.times.shrink_to_fit();
        self.run_first.shrink_to_fit();
        self.run_offset.shrink_to_fit();
        self.disposable.shrink_to_fit();
        self.descriptions.shrink_to_fit();
        match &mut self.shifts {
            Shifts::Same(_) => {}
            Shifts::Few { picks, .. } => picks.shrink_to_fit(),
            Shifts::Each(each) => each.shrink_to_fit(),
        }
        if let Sizes::Each { small, large } = &mut self.sizes {
            small.shrink_to_fit();
            large.shrink_to_fit();
        }
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Decode time just behind the last sample.
    pub(crate) fn next_dts(&self) -> i64 {
        self.next_dts
    }

    /// The smallest composition offset, 0 for an empty table.
    pub(crate) fn shift_min(&self) -> i32 {
        if self.count == 0 { 0 } else { self.shift_min }
    }

    /// Bytes of the largest sample.
    pub(crate) fn bytes_max(&self) -> u32 {
        match &self.sizes {
            Sizes::Same(bytes) => *bytes,
            Sizes::Each { small, large } => {
                let small = small.iter().copied().max().map_or(0, u32::from);
                large.iter().map(|(_, bytes)| *bytes).fold(small, u32::max)
            }
        }
    }

    /// Bytes of an audio unit when the samples are runs of such; see the field.
    pub(crate) fn unit_bytes(&self) -> u32 {
        self.unit_bytes
    }

    pub(crate) fn sample(&self, number: u32) -> Option<Sample> {
        self.cursor(number).next()
    }

    /// First sample whose decode time is at or behind `dts`; `count` when there is none.
    pub(crate) fn first_at_or_after(&self, dts: i64) -> u32 {
        let runs = self.times.partition_point(|run| run.dts < dts);
        let Some(run) = runs.checked_sub(1).and_then(|i| self.times.get(i)) else { return 0 };
        let end = self.times.get(runs).map_or(self.count, |next| next.first);
        let ticks = dts.saturating_sub(run.dts).max(0).cast_unsigned();
        let steps = match run.delta {
            0 => u64::from(u32::MAX),
            delta => ticks.div_ceil(u64::from(delta)),
        };
        let number = u64::from(run.first).saturating_add(steps);
        u32::try_from(number).unwrap_or(u32::MAX).min(end)
    }

    /// Number of sync samples before sample `number`.
    pub(crate) fn sync_before(&self, number: u32) -> u32 {
        match &self.sync {
            None => number.min(self.count),
            Some(list) => u32::try_from(list.partition_point(|n| *n < number)).unwrap_or(u32::MAX),
        }
    }

    /// Sample number of the `sync_number`-th sync sample.
    pub(crate) fn sync_sample(&self, sync_number: u32) -> Option<u32> {
        match &self.sync {
            None => (sync_number < self.count).then_some(sync_number),
            Some(list) => list.get(sync_number as usize).copied(),
        }
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let shifts = match &self.shifts {
            Shifts::Same(_) => 0,
            Shifts::Few { values, picks } => values.capacity() * 4 + picks.capacity(),
            Shifts::Each(each) => each.capacity() * 4,
        };
        let sizes = match &self.sizes {
            Sizes::Same(_) => 0,
            Sizes::Each { small, large } => small.capacity() * 2 + large.capacity() * 8,
        };
        let sync = self.sync.as_ref().map_or(0, |list| list.capacity() * 4);
        shifts
            + sizes
            + sync
            + self.times.capacity() * size_of::<TimeRun>()
            + self.run_first.capacity() * 4
            + self.run_offset.capacity() * 8
            + self.disposable.capacity() * 8
            + self.descriptions.capacity() * size_of::<(u32, u16)>()
    }

    /// Decodes samples from `number` on.
    pub(crate) fn cursor(&self, number: u32) -> Cursor<'_> {
        let time = self.times.partition_point(|run| run.first <= number).saturating_sub(1);
        let run = self.run_first.partition_point(|first| *first <= number).saturating_sub(1);
        let large = match &self.sizes {
            Sizes::Each { large, .. } => large.partition_point(|(n, _)| *n < number),
            Sizes::Same(_) => 0,
        };
        let mut cursor = Cursor {
            table: self,
            number,
            time,
            run,
            large,
            sync: self.sync_before(number) as usize,
            offset: 0,
        };
        cursor.offset = cursor.offset_in_run();
        cursor
    }
}

/// Walks a table in decode order.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    table: &'a Table,
    number: u32,
    time: usize,
    run: usize,
    large: usize,
    sync: usize,
    offset: u64,
}

impl Cursor<'_> {
    /// The offset of `number`: its run's start plus the sizes in between.
    fn offset_in_run(&self) -> u64 {
        let (Some(first), Some(start)) =
            (self.table.run_first.get(self.run), self.table.run_offset.get(self.run))
        else {
            return 0;
        };
        let before = self.number.saturating_sub(*first).min(RUN_SAMPLES);
        let sum = match &self.table.sizes {
            Sizes::Same(bytes) => u64::from(*bytes) * u64::from(before),
            Sizes::Each { small, large } => {
                let first = *first as usize;
                let range = small.get(first..first + before as usize).unwrap_or(&[]);
                let mut at = self.large;
                let mut sum = 0;
                for short in range.iter().rev() {
                    sum += u64::from(*short);
                    if *short == LARGE {
                        at = at.saturating_sub(1);
                        sum += large.get(at).map_or(0, |(_, bytes)| u64::from(*bytes));
                        sum -= u64::from(LARGE);
                    }
                }
                sum
            }
        };
        start.saturating_add(sum)
    }
}

impl Iterator for Cursor<'_> {
    type Item = Sample;

    fn next(&mut self) -> Option<Sample> {
        let table = self.table;
        let number = self.number;
        if number >= table.count {
            return None;
        }
        if table.times.get(self.time + 1).is_some_and(|run| run.first <= number) {
            self.time += 1;
        }
        if table.run_first.get(self.run + 1).is_some_and(|first| *first <= number) {
            self.run += 1;
            self.offset = table.run_offset.get(self.run).copied().unwrap_or(0);
        }
        let time = table.times.get(self.time)?;
        let shift = match &table.shifts {
            Shifts::Same(value) => *value,
            Shifts::Few { values, picks } => {
                let pick = picks.get(number as usize).copied().unwrap_or(0);
                values.get(usize::from(pick)).copied().unwrap_or(0)
            }
            Shifts::Each(each) => each.get(number as usize).copied().unwrap_or(0),
        };
        let bytes = match &table.sizes {
            Sizes::Same(bytes) => *bytes,
            Sizes::Each { small, large } => match *small.get(number as usize)? {
                LARGE => {
                    self.large += 1;
                    large.get(self.large - 1)?.1
                }
                short => u32::from(short),
            },
        };
        let is_sync = match &table.sync {
            None => true,
            Some(list) => {
                let hit = list.get(self.sync) == Some(&number);
                self.sync += usize::from(hit);
                hit
            }
        };
        let bits = table.disposable.get(number as usize / 64).copied().unwrap_or(0);
        let dts = time.dts_at(number);
        let sample = Sample {
            offset: self.offset,
            bytes,
            dts,
            pts: dts.saturating_add(i64::from(shift)),
            duration: time.delta,
            is_sync,
            is_disposable: bits >> (number % 64) & 1 == 1,
        };
        self.offset = self.offset.saturating_add(u64::from(bytes));
        self.number += 1;
        Some(sample)
    }
}

fn clamp_shift(shift: i64) -> i32 {
    i32::try_from(shift).unwrap_or(if shift < 0 { i32::MIN } else { i32::MAX })
}

/// Samples in a contiguous run at most: bounds the additions of a look-up.
const RUN_SAMPLES: u32 = 64;

/// Different composition offsets that a `u8` column is used for: a short list is searched faster
/// than a longer one saves memory.
const FEW_MAX: usize = 16;

/// Stands for "look into `large`".
const LARGE: u16 = u16::MAX;
