//! Sample tables of `stbl` straight into the compact index, without lists in between.
//!
//! ```text
//! stco/co64 + stsc   chunk by chunk: offset, samples in it, their sample description
//! stsz/stz2          size of each sample          \
//! stts, ctts         duration, composition offset  > walked side by side, one push per sample
//! stss, sdtp         sync, disposable             /
//! ```
//! Counts in the file are never trusted: a table ends where its box ends.
//!
//! Bound: work is proportional to the samples pushed (at most `TRACK_SAMPLES_MAX`) plus the bytes
//! of the boxes. ISO 14496-12 s8.6, s8.7.

use super::boxes::{child, full_box, u16_at, u32_at, u64_at};
use super::movie::Draft;
use crate::base::limits;
use crate::media::index::{Sample, Table};

/// Why a track has no table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TableError {
    /// A sample leaves the file.
    Outside { sample: u32, end: u64 },
    /// The tables contradict each other or are over a limit.
    Bad(&'static str),
}

/// What the tables do not say about themselves.
#[derive(Debug, Clone, Copy)]
pub(super) struct TableHints {
    /// Every audio sample is a sync sample, whatever `stss` says.
    pub(super) is_audio: bool,
    pub(super) units: Units,
    pub(super) timescale: u32,
    pub(super) file_bytes: u64,
}

/// Audio that a file may number by single sampling instants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Units {
    /// A byte for each channel; QuickTime states one byte even for several channels.
    Bytes { channels: u16 },
    /// So many bytes for all channels. The sample description says it: stsz may say 1.
    Instants { bytes: u32 },
    /// Not numbered so.
    None,
}

impl Units {
    /// Bytes of a unit where all samples have `bytes` and last a tick.
    fn unit_bytes(self, bytes: u32) -> Option<u32> {
        match self {
            Self::Bytes { channels } if channels > 0 && bytes <= UNIT_BYTES_MAX => {
                Some(bytes.max(u32::from(channels)))
            }
            Self::Instants { bytes: instant } if bytes <= instant => Some(instant),
            Self::Bytes { .. } | Self::Instants { .. } | Self::None => None,
        }
    }
}

/// Reads the tables of a track. Empty tables (a fragmented file's) give an empty table.
pub(super) fn read_table(
    stbl: &[u8],
    hints: TableHints,
    draft: &Draft,
) -> Result<Table, TableError> {
    let sizes = Sizes::read(stbl).ok_or(TableError::Bad("no sample sizes (stsz)"))?;
    if sizes.count() == 0 {
        return Ok(Table::default());
    }
    let mut times = RunLength::of(stbl, b"stts");
    let unit_ticks = times.peek().unwrap_or(0);
    let mut walk = Walk {
        chunks: Chunks::read(stbl)?,
        shifts: RunLength::of(stbl, b"ctts"),
        sync: Sync::read(stbl, hints.is_audio),
        disposable: child(stbl, b"sdtp").and_then(full_box).map_or(&[], |(_, _, rest)| rest),
        file_bytes: hints.file_bytes,
        draft,
        table: Table::default(),
        dts: 0,
    };
    let unit = match sizes {
        Sizes::Same { bytes, count } if unit_ticks == 1 => {
            hints.units.unit_bytes(bytes).map(|unit_bytes| (unit_bytes, count))
        }
        _ => None,
    };
    match unit {
        Some((unit_bytes, count)) => walk.units(unit_bytes, count, &hints)?,
        None => walk.samples(&sizes, &mut times)?,
    }
    Ok(walk.table)
}

struct Walk<'a> {
    chunks: Chunks<'a>,
    shifts: RunLength<'a>,
    sync: Sync<'a>,
    disposable: &'a [u8],
    file_bytes: u64,
    draft: &'a Draft,
    table: Table,
    dts: i64,
}

impl Walk<'_> {
    /// One sample of the file is one of the index.
    fn samples(&mut self, sizes: &Sizes<'_>, times: &mut RunLength<'_>) -> Result<(), TableError> {
        let count = sizes.count();
        if count > limits::TRACK_SAMPLES_MAX {
            return Err(TableError::Bad(TOO_MANY));
        }
        let mut number = 0;
        let mut duration = 0;
        while number < count {
            let (mut offset, in_chunk) = self.next_chunk()?;
            for _ in 0..in_chunk.min(count - number) {
                let bytes = sizes.at(number).ok_or(TableError::Bad("stsz is shorter than said"))?;
                // A time table that ends early goes on as it ended; a duration with the top bit
                // set is a negative one of broken writers.
                duration = times.next().map_or(duration, |d| if d > MAX_DELTA { 1 } else { d });
                let shift = self.shifts.next().map_or(0, u32::cast_signed);
                let sample = Sample {
                    offset,
                    bytes,
                    dts: self.dts,
                    pts: self.dts + i64::from(shift),
                    duration,
                    is_sync: self.sync.at(number),
                    is_disposable: self
                        .disposable
                        .get(number as usize)
                        .is_some_and(|b| b >> 2 & 3 == 2),
                };
                offset = self.push(&sample)?;
                number += 1;
            }
        }
        Ok(())
    }

    /// The file counts single audio units: an index sample is a run of them, of 20 ms of G.711.
    /// Of linear PCM it is a chunk, or equal parts of a long one, so that the columns of the index
    /// stay short: a film has millions of instants, and chunks of one length.
    fn units(&mut self, unit_bytes: u32, count: u32, hints: &TableHints) -> Result<(), TableError> {
        self.table = Table::of_units(unit_bytes);
        let is_linear = matches!(hints.units, Units::Instants { .. });
        let runs_per_second = if is_linear { LINEAR_RUNS_PER_SECOND } else { RUNS_PER_SECOND };
        let units_max = (RUN_BYTES_MAX / unit_bytes.max(1)).max(1);
        let units_max = (hints.timescale / runs_per_second).clamp(1, units_max);
        let mut left = count;
        while left > 0 {
            let (mut offset, in_chunk) = self.next_chunk()?;
            let mut in_chunk = in_chunk.min(left);
            left -= in_chunk;
            let run_units = match is_linear {
                true => in_chunk.div_ceil(in_chunk.div_ceil(units_max).max(1)),
                false => units_max,
            };
            while in_chunk > 0 {
                let units = in_chunk.min(run_units.max(1));
                in_chunk -= units;
                let sample = Sample {
                    offset,
                    bytes: units.saturating_mul(unit_bytes),
                    dts: self.dts,
                    pts: self.dts,
                    duration: units,
                    is_sync: true,
                    is_disposable: false,
                };
                offset = self.push(&sample)?;
            }
        }
        Ok(())
    }

    /// Offset and samples of the next chunk, whose samples have its description from now on.
    fn next_chunk(&mut self) -> Result<(u64, u32), TableError> {
        let (offset, in_chunk) = self.chunks.next_chunk()?;
        if in_chunk > 0 && !self.table.describe(self.draft.description(self.chunks.description)) {
            return Err(TableError::Bad(TOO_MANY_CHANGES));
        }
        Ok((offset, in_chunk))
    }

    /// Checks and appends; gives the offset behind the sample. Of a sample in another file its
    /// time is kept only.
    fn push(&mut self, sample: &Sample) -> Result<u64, TableError> {
        let mut sample = *sample;
        if self.draft.is_elsewhere(self.table.next_description()) {
            (sample.offset, sample.bytes) = (0, 0);
        }
        let end = sample.offset.saturating_add(u64::from(sample.bytes));
        if end > self.file_bytes {
            return Err(TableError::Outside { sample: self.table.count(), end });
        }
        if sample.bytes > limits::SAMPLE_BYTES_MAX {
            return Err(TableError::Bad("a sample is larger than any real one"));
        }
        if !self.table.push(&sample) {
            return Err(TableError::Bad(TOO_MANY));
        }
        self.dts = self.dts.saturating_add(i64::from(sample.duration));
        Ok(end)
    }
}

/// `stsz`, `stz2`.
enum Sizes<'a> {
    Same { bytes: u32, count: u32 },
    Each { bits: usize, count: u32, table: &'a [u8] },
}

impl<'a> Sizes<'a> {
    fn read(stbl: &'a [u8]) -> Option<Self> {
        if let Some((_, _, rest)) = child(stbl, b"stsz").and_then(full_box) {
            let (bytes, count) = (u32_at(rest, 0)?, u32_at(rest, 4)?);
            return Some(match bytes {
                0 => Self::Each { bits: 32, count, table: rest.get(8..)? },
                _ => Self::Same { bytes, count },
            });
        }
        let (_, _, rest) = child(stbl, b"stz2").and_then(full_box)?;
        let bits = usize::from(*rest.get(3)?);
        let count = u32_at(rest, 4)?;
        matches!(bits, 4 | 8 | 16).then_some(Self::Each { bits, count, table: rest.get(8..)? })
    }

    fn count(&self) -> u32 {
        match self {
            Self::Same { count, .. } | Self::Each { count, .. } => *count,
        }
    }

    fn at(&self, number: u32) -> Option<u32> {
        let number = number as usize;
        match self {
            Self::Same { bytes, .. } => Some(*bytes),
            Self::Each { bits: 32, table, .. } => u32_at(table, number * 4),
            Self::Each { bits: 16, table, .. } => u16_at(table, number * 2).map(u32::from),
            Self::Each { bits: 8, table, .. } => table.get(number).copied().map(u32::from),
            Self::Each { table, .. } => {
                let byte = *table.get(number / 2)?;
                Some(u32::from(if number.is_multiple_of(2) { byte >> 4 } else { byte & 15 }))
            }
        }
    }
}

/// `stco` or `co64` with `stsc`.
struct Chunks<'a> {
    offsets: &'a [u8],
    width: usize,
    /// Chunk number, 1-based as in `stsc`.
    next: u32,
    runs: &'a [u8],
    in_chunk: u32,
    /// `sample_description_index`, 1-based.
    description: u32,
}

impl<'a> Chunks<'a> {
    fn read(stbl: &'a [u8]) -> Result<Self, TableError> {
        let table = |kind, width: usize| {
            let (_, _, rest) = child(stbl, kind).and_then(full_box)?;
            let bytes = (u32_at(rest, 0)? as usize).saturating_mul(width);
            let rest = rest.get(4..)?;
            Some(rest.get(..bytes).unwrap_or(rest))
        };
        let (offsets, width) = table(b"stco", 4)
            .map(|t| (t, 4))
            .or_else(|| table(b"co64", 8).map(|t| (t, 8)))
            .ok_or(TableError::Bad("no chunk offsets (stco, co64)"))?;
        let runs = table(b"stsc", 12).ok_or(TableError::Bad("no chunk sizes (stsc)"))?;
        if u32_at(runs, 0) != Some(1) {
            return Err(TableError::Bad("stsc does not start at the first chunk"));
        }
        Ok(Self { offsets, width, next: 1, runs, in_chunk: 0, description: 1 })
    }

    /// Offset and samples of the next chunk.
    fn next_chunk(&mut self) -> Result<(u64, u32), TableError> {
        while u32_at(self.runs, 0).is_some_and(|first| first <= self.next) {
            self.in_chunk = u32_at(self.runs, 4).unwrap_or(0);
            self.description = u32_at(self.runs, 8).unwrap_or(1);
            self.runs = self.runs.get(12..).unwrap_or(&[]);
        }
        let at = (self.next as usize - 1).saturating_mul(self.width);
        let offset = match self.width {
            8 => u64_at(self.offsets, at),
            _ => u32_at(self.offsets, at).map(u64::from),
        };
        self.next = self.next.saturating_add(1);
        offset.map(|offset| (offset, self.in_chunk)).ok_or(TableError::Bad(FEW_CHUNKS))
    }
}

/// A table of (count, value) pairs, handed out value by value.
struct RunLength<'a> {
    pairs: &'a [u8],
    left: u32,
    value: u32,
}

impl<'a> RunLength<'a> {
    fn of(stbl: &'a [u8], kind: &[u8; 4]) -> Self {
        let rest = child(stbl, kind).and_then(full_box).map_or(&[][..], |(_, _, rest)| rest);
        let bytes = (u32_at(rest, 0).unwrap_or(0) as usize).saturating_mul(8);
        let rest = rest.get(4..).unwrap_or(&[]);
        Self { pairs: rest.get(..bytes).unwrap_or(rest), left: 0, value: 0 }
    }

    fn fill(&mut self) -> Option<()> {
        while self.left == 0 {
            self.left = u32_at(self.pairs, 0)?;
            self.value = u32_at(self.pairs, 4)?;
            self.pairs = self.pairs.get(8..)?;
        }
        Some(())
    }

    fn peek(&mut self) -> Option<u32> {
        self.fill().map(|()| self.value)
    }

    fn next(&mut self) -> Option<u32> {
        self.fill()?;
        self.left -= 1;
        Some(self.value)
    }
}

/// `stss`: ascending 1-based numbers. Without the box every sample is a sync sample.
struct Sync<'a> {
    numbers: Option<&'a [u8]>,
}

impl<'a> Sync<'a> {
    fn read(stbl: &'a [u8], is_audio: bool) -> Self {
        let numbers = child(stbl, b"stss").and_then(full_box).and_then(|(_, _, r)| r.get(4..));
        Self { numbers: numbers.filter(|_| !is_audio) }
    }

    /// Asked with ascending numbers.
    fn at(&mut self, number: u32) -> bool {
        let Some(numbers) = &mut self.numbers else { return true };
        while u32_at(numbers, 0).is_some_and(|n| n <= number) {
            *numbers = numbers.get(4..).unwrap_or(&[]);
        }
        u32_at(numbers, 0) == Some(number + 1)
    }
}

const TOO_MANY: &str = "more samples than the limit";
pub(super) const TOO_MANY_CHANGES: &str = "more changes of its sample description than the limit";
const FEW_CHUNKS: &str = "chunk tables hold fewer samples than stsz";
const MAX_DELTA: u32 = u32::MAX / 2;

/// Runs of audio units: 20 ms, what one G.711 packet carries.
const RUNS_PER_SECOND: u32 = 50;
/// Runs of linear PCM: at most 100 ms, by which sound may begin before a picture is found.
const LINEAR_RUNS_PER_SECOND: u32 = 10;
const RUN_BYTES_MAX: u32 = 64 << 10;
/// Bytes of a single audio unit at most: 8 channels of 16 bits.
const UNIT_BYTES_MAX: u32 = 16;
