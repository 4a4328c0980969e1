//! `moof`: the samples of one movie fragment, appended to the tracks' tables.
//!
//! ```text
//! moof -- traf -- tfhd   track, base offset, sample description, defaults (else trex)
//!              |- tfdt   decode time of the first sample (else: behind the last one)
//!              `- trun*  samples: duration, size, flags, composition offset, each optional
//! ```
//! A fragment is checked whole before any of its samples is appended: one that leaves the file
//! adds nothing. Bound: runs are limited by the bytes of the `moof`, samples by the table.
//! ISO 14496-12 s8.8.

use super::boxes::{children, full_box, u32_at};
use super::error::OpenError;
use super::movie::{Draft, Movie, TITLE_SAMPLES_MAX};
use super::tables::TOO_MANY_CHANGES;
use crate::base::limits;
use crate::media::index::Sample;
use mp4_atom::Atom;

/// Appends the samples of a `moof` body that starts (with its header) at `moof_offset`.
/// `Err` is always `SampleOutside`; the tables are unchanged then.
pub(super) fn read_fragment(
    moof: &[u8],
    moof_offset: u64,
    movie: &mut Movie,
    file_bytes: u64,
) -> Result<(), OpenError> {
    let mut runs: Vec<Run<'_>> = Vec::new();
    let mut data_end = moof_offset;
    for traf in children(moof).filter(|b| b.kind == *b"traf") {
        let first = runs.len();
        read_traf(traf.body, moof_offset, movie, &mut data_end, &mut runs);
        for run in runs.get(first..).unwrap_or(&[]) {
            run.check(movie, file_bytes)?;
        }
    }
    for run in &runs {
        let total: u64 = movie.drafts.iter().map(|d| u64::from(d.table.count())).sum();
        if let Some(draft) = movie.drafts.get_mut(run.draft) {
            if total > u64::from(TITLE_SAMPLES_MAX) {
                draft.problem.get_or_insert_with(|| "more samples than the limit".to_owned());
            }
            run.append(draft);
        }
    }
    Ok(())
}

/// One `trun` with everything it inherits.
struct Run<'a> {
    draft: usize,
    /// `tfdt`, for the first run of a `traf`.
    dts: Option<i64>,
    offset: u64,
    count: u32,
    fields: u32,
    first_flags: Option<u32>,
    defaults: Defaults,
    /// `sample_description_index`, 1-based.
    description: u32,
    entries: &'a [u8],
}

#[derive(Debug, Clone, Copy)]
struct Defaults {
    duration: u32,
    bytes: u32,
    flags: u32,
}

fn read_traf<'a>(
    traf: &'a [u8],
    moof_offset: u64,
    movie: &Movie,
    data_end: &mut u64,
    runs: &mut Vec<Run<'a>>,
) {
    let tfhd = children(traf).find(|b| b.kind == *b"tfhd");
    let Some(tfhd) = tfhd.and_then(|b| decode::<mp4_atom::Tfhd>(b.body)) else { return };
    let draft = movie.drafts.iter().position(|d| d.id == tfhd.track_id);
    let trex = movie.trex.iter().find(|t| t.track_id == tfhd.track_id);
    let pick = |own: Option<u32>, from: fn(&mp4_atom::Trex) -> u32| own.or_else(|| trex.map(from));
    let defaults = Defaults {
        duration: pick(tfhd.default_sample_duration, |t| t.default_sample_duration).unwrap_or(0),
        bytes: pick(tfhd.default_sample_size, |t| t.default_sample_size).unwrap_or(0),
        flags: pick(tfhd.default_sample_flags, |t| t.default_sample_flags).unwrap_or(0),
    };
    let description =
        pick(tfhd.sample_description_index, |t| t.default_sample_description_index).unwrap_or(1);
    let base = match tfhd.base_data_offset {
        Some(offset) => offset,
        None if tfhd.default_base_is_moof => moof_offset,
        // The first traf counts from the moof, the others from the end of the one before.
        None => *data_end,
    };
    let tfdt = children(traf).find(|b| b.kind == *b"tfdt");
    let tfdt = tfdt.and_then(|b| decode::<mp4_atom::Tfdt>(b.body));
    let mut dts = tfdt.map(|t| i64::try_from(t.base_media_decode_time).unwrap_or(i64::MAX / 2));
    let mut next = base;
    for trun in children(traf).filter(|b| b.kind == *b"trun") {
        let Some(mut run) = Run::read(trun.body, base, next, defaults) else { break };
        next = run.end();
        run.dts = dts.take();
        run.description = description;
        // A track that is not played still says where the next one's data starts.
        if let Some(draft) = draft {
            run.draft = draft;
            runs.push(run);
        }
    }
    *data_end = next;
}

impl<'a> Run<'a> {
    fn read(trun: &'a [u8], base: u64, next: u64, defaults: Defaults) -> Option<Self> {
        let (_, fields, rest) = full_box(trun)?;
        let count = u32_at(rest, 0)?;
        let mut at = 4;
        let mut offset = next;
        if fields & DATA_OFFSET != 0 {
            let delta = i64::from(u32_at(rest, at)?.cast_signed());
            offset = base.checked_add_signed(delta)?;
            at += 4;
        }
        let mut first_flags = None;
        if fields & FIRST_FLAGS != 0 {
            first_flags = Some(u32_at(rest, at)?);
            at += 4;
        }
        let mut run = Self {
            draft: 0,
            dts: None,
            offset,
            count,
            fields,
            first_flags,
            defaults,
            description: 1,
            entries: rest.get(at..)?,
        };
        if let Some(fits) = run.entries.len().checked_div(run.entry_bytes()) {
            run.count = count.min(u32::try_from(fits).unwrap_or(u32::MAX));
        }
        Some(run)
    }

    fn entry_bytes(&self) -> usize {
        let fields = self.fields & (DURATION | SIZE | FLAGS | SHIFT);
        fields.count_ones() as usize * 4
    }

    fn sizes(&self) -> impl Iterator<Item = u32> + '_ {
        let at = if self.fields & DURATION == 0 { 0 } else { 4 };
        let width = self.entry_bytes();
        let count = if self.fields & SIZE == 0 { 0 } else { self.count as usize };
        (0..count).map(move |i| u32_at(self.entries, i * width + at).unwrap_or(0))
    }

    fn bytes(&self) -> u64 {
        match self.fields & SIZE {
            0 => u64::from(self.defaults.bytes) * u64::from(self.count),
            _ => self.sizes().map(u64::from).sum(),
        }
    }

    fn end(&self) -> u64 {
        self.offset.saturating_add(self.bytes())
    }

    fn check(&self, movie: &Movie, file_bytes: u64) -> Result<(), OpenError> {
        let draft = movie.drafts.get(self.draft);
        let end = self.end();
        match draft {
            Some(draft)
                if draft.problem.is_none() && !self.is_elsewhere(draft) && end > file_bytes =>
            {
                let (track, sample) = (draft.id, draft.table.count());
                Err(OpenError::SampleOutside { track, sample, end, file_bytes })
            }
            _ => Ok(()),
        }
    }

    /// The samples are in another file.
    fn is_elsewhere(&self, draft: &Draft) -> bool {
        draft.is_elsewhere(draft.description(self.description))
    }

    fn append(&self, draft: &mut Draft) {
        if draft.problem.is_some() {
            return;
        }
        let is_elsewhere = self.is_elsewhere(draft);
        if self.count > 0 && !draft.table.describe(draft.description(self.description)) {
            draft.problem = Some(TOO_MANY_CHANGES.to_owned());
            return;
        }
        let is_video = draft.codec.is_some() && draft.is_video();
        // Decode times never go back: a fragment that claims so goes on behind the last one.
        let floor = draft.table.next_dts();
        let start = self.dts.unwrap_or(floor);
        let mut dts = if draft.table.count() == 0 { start } else { start.max(floor) };
        let mut offset = self.offset;
        let width = self.entry_bytes();
        for i in 0..self.count {
            let entry = self.entries.get(i as usize * width..).unwrap_or(&[]);
            let mut at = 0;
            let mut field = |bit: u32| {
                let is_there = self.fields & bit != 0;
                let value = if is_there { u32_at(entry, at) } else { None };
                at += if is_there { 4 } else { 0 };
                value
            };
            let duration = field(DURATION).unwrap_or(self.defaults.duration);
            let bytes = field(SIZE).unwrap_or(self.defaults.bytes);
            // Of a sample in another file its time is kept only.
            let bytes = if is_elsewhere { 0 } else { bytes };
            let mut flags = field(FLAGS).unwrap_or(self.defaults.flags);
            let shift = field(SHIFT).map_or(0, u32::cast_signed);
            if let (0, Some(first)) = (i, self.first_flags) {
                flags = first;
            }
            let sample = Sample {
                offset: if is_elsewhere { 0 } else { offset },
                bytes,
                dts,
                pts: dts.saturating_add(i64::from(shift)),
                duration,
                is_sync: !is_video || flags & (NOT_SYNC | DEPENDS) == 0,
                is_disposable: flags >> 22 & 3 == 2,
            };
            if bytes > limits::SAMPLE_BYTES_MAX {
                draft.problem = Some("a sample is larger than any real one".to_owned());
                return;
            }
            if !draft.table.push(&sample) {
                draft.problem = Some("more samples than the limit".to_owned());
                return;
            }
            offset = offset.saturating_add(u64::from(bytes));
            dts = dts.saturating_add(i64::from(duration));
        }
    }
}

fn decode<T: Atom>(body: &[u8]) -> Option<T> {
    let mut rest = body;
    T::decode_body(&mut rest).ok()
}

const DATA_OFFSET: u32 = 0x1;
const FIRST_FLAGS: u32 = 0x4;
const DURATION: u32 = 0x100;
const SIZE: u32 = 0x200;
const FLAGS: u32 = 0x400;
const SHIFT: u32 = 0x800;
/// `sample_is_non_sync_sample`.
const NOT_SYNC: u32 = 0x1_0000;
/// `sample_depends_on` = 1: it needs others. Some writers set only this one.
const DEPENDS: u32 = 0x100_0000;
