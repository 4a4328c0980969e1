//! Builds one window: asks for file ranges, gets bytes, yields the window.
//!
//! ```text
//! new -> [wanted -> handle_bytes]* -> wanted is None -> finish
//!         runs of samples .......   hinted tracks: then the media that the packets refer to
//! ```
//! Nothing is read here; whoever owns the file does it. Reading brings the bytes into the page
//! cache, which is half of the purpose: packets are sent straight from there.
//!
//! Invariant: a run holds whole samples, so no bytes are kept from one call to the next.
//! Bounds: [`READ_BYTES_MAX`] a read (one larger sample is read alone), [`WINDOW_BYTES_MAX`] and
//! [`WINDOW_SAMPLES_MAX`] a window.

use std::ops::Range;

use super::{FrameClock, Input, Packetizer, SampleFault, WindowError, packetizer};
use crate::base::limits::{SAMPLE_BYTES_MAX, SYNC_WINDOW_SAMPLES};
use crate::media::asset::{Asset, FileRange, Track};
use crate::media::hint::HintTrack;
use crate::media::index::Sample;
use crate::media::window::{PacketWindow, Piece, WindowBuilder, WindowKey, WindowKind};

/// Bytes of one read at most, single larger samples apart: long enough for a disk's bandwidth,
/// short enough to stay in the processor's cache until it is looked at.
pub const READ_BYTES_MAX: u32 = 1 << 20;

/// Bytes between two samples that are read along rather than in a second read: the samples of
/// another track, as interleaving puts them.
pub const READ_GAP_BYTES_MAX: u64 = 4 << 10;

/// Bytes of media in one window at most: two seconds of 8K intra-only video at 1 Gbit/s are
/// 250 MB; past twice that, tables of the file point at the same bytes again and again.
pub const WINDOW_BYTES_MAX: u64 = 512 << 20;

/// Samples in one window at most: a container may cut 192 kHz audio into samples of one instant,
/// 384,000 in two seconds; past that, the track's times are a lie.
pub const WINDOW_SAMPLES_MAX: u32 = 1 << 19;

/// The building of one window.
#[derive(Debug)]
pub struct WindowJob<'a> {
    track: &'a Track,
    track_index: u8,
    kind: WindowKind,
    /// Positions (in `kind`'s list of samples) that are in no run yet.
    todo: Range<u32>,
    clock: FrameClock,
    maker: Maker<'a>,
    builder: WindowBuilder,
    state: State,
}

impl<'a> WindowJob<'a> {
    /// Plans the window named by `key`.
    ///
    /// # Errors
    /// A key out of range, a track without codec, or sizes that no real title has.
    pub fn new(asset: &'a Asset, key: WindowKey) -> Result<Self, WindowError> {
        let out_of_range = WindowError::OutOfRange { key };
        let track = asset.tracks.get(usize::from(key.track_index)).ok_or(out_of_range)?;
        let todo = positions(track, key).ok_or(out_of_range)?;
        check_sizes(track, key.kind, todo.clone())?;
        let clock = FrameClock::new(track);
        let maker = match &track.hint {
            Some(hint) => Some(Maker::Hint(hint)),
            None => Maker::of_description(track, 0, clock),
        };
        let no_codec = WindowError::NoCodec { track_index: key.track_index };
        let mut job = Self {
            track,
            track_index: key.track_index,
            kind: key.kind,
            todo,
            clock,
            maker: maker.ok_or(no_codec)?,
            builder: WindowBuilder::new(),
            state: State::Built(WindowBuilder::new().finish(), Vec::new()),
        };
        job.plan_next();
        Ok(job)
    }

    /// The next range of the file to read; `None` when the window is finished.
    #[must_use]
    pub fn wanted(&self) -> Option<FileRange> {
        match &self.state {
            State::Samples(run) => Some(run.range),
            State::Built(_, touched) => touched.last().copied(),
        }
    }

    /// Takes the bytes of the range that `wanted` names.
    ///
    /// # Errors
    /// Fewer bytes than asked for (the file is shorter than its index says), or samples that are
    /// not what the codec promised. The job is of no use afterwards.
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Result<(), WindowError> {
        let Some(range) = self.wanted() else { return Ok(()) };
        if (bytes.len() as u64) < u64::from(range.bytes) {
            let offset = range.offset.saturating_add(bytes.len() as u64);
            return Err(WindowError::Truncated { offset });
        }
        match &mut self.state {
            State::Samples(run) => {
                let run = run.clone();
                self.packetize_run(&run, bytes)?;
                self.plan_next();
            }
            State::Built(_, touched) => {
                touched.pop();
            }
        }
        Ok(())
    }

    /// The window. Before `wanted` is `None`, it is a window without frames or with pages that
    /// may not be in memory yet.
    #[must_use]
    pub fn finish(self) -> PacketWindow {
        match self.state {
            State::Built(window, _) => window,
            State::Samples(_) => WindowBuilder::new().finish(),
        }
    }

    fn packetize_run(&mut self, run: &Run, bytes: &[u8]) -> Result<(), WindowError> {
        for (sample_index, sample) in samples(self.track, self.kind, run.positions.clone()) {
            if sample.bytes == 0 {
                continue;
            }
            let start = sample.offset.saturating_sub(run.range.offset);
            let bytes = usize::try_from(start)
                .ok()
                .and_then(|start| bytes.get(start..)?.get(..sample.bytes as usize))
                .ok_or(WindowError::Truncated { offset: sample.offset })?;
            self.take_up_description(sample_index)?;
            let out = &mut self.builder;
            match &mut self.maker {
                Maker::Codec { packetizer, .. } => {
                    let frame = self.clock.frame(&sample, sample_index);
                    let brings_config =
                        sample.is_sync || begins_description(self.track, sample_index);
                    let input = Input { sample, bytes, frame, brings_config };
                    packetizer.handle_sample(&input, out)
                }
                Maker::Hint(hint) => {
                    packetize_hint(hint, self.track, &sample, sample_index, bytes, out)
                }
            }
            .map_err(|fault| WindowError::Corrupt { sample: sample_index, fault })?;
        }
        Ok(())
    }

    /// Goes on with the packetizer of the sample's own decoder configuration.
    fn take_up_description(&mut self, sample_index: u32) -> Result<(), WindowError> {
        let Maker::Codec { packetizer, description } = &mut self.maker else { return Ok(()) };
        let own = self.track.index.description(sample_index);
        if *description == own {
            return Ok(());
        }
        packetizer.handle_end(&mut self.builder);
        let no_codec = WindowError::NoCodec { track_index: self.track_index };
        self.maker = Maker::of_description(self.track, own, self.clock).ok_or(no_codec)?;
        Ok(())
    }

    /// Finds the next run of samples; after the last one the window is built.
    fn plan_next(&mut self) {
        let found = Run::plan(self.track, self.kind, self.todo.clone());
        if let Some(run) = found {
            self.todo.start = run.positions.end;
            self.state = State::Samples(run);
            return;
        }
        let mut builder = std::mem::take(&mut self.builder);
        let touched = match &mut self.maker {
            Maker::Codec { packetizer, .. } => {
                packetizer.handle_end(&mut builder);
                self.state = State::Built(builder.finish(), Vec::new());
                return;
            }
            Maker::Hint(_) => builder.finish(),
        };
        let ranges = file_ranges(&touched);
        self.state = State::Built(touched, ranges);
    }
}

/// Windows of a track.
#[must_use]
pub fn window_count(track: &Track, kind: WindowKind) -> u32 {
    sample_count(track, kind).div_ceil(window_samples(track, kind))
}

/// The `WindowKind::All` window that holds a sample of `track.schedule()`.
#[must_use]
pub fn window_of_sample(track: &Track, sample_index: u32) -> u32 {
    sample_index / window_samples(track, WindowKind::All)
}

/// The `WindowKind::Sync` window that holds the `sync_index`-th sync sample.
#[must_use]
pub fn window_of_sync(sync_index: u32) -> u32 {
    sync_index / SYNC_WINDOW_SAMPLES
}

/// Who makes packets of the samples.
#[derive(Debug)]
enum Maker<'a> {
    Codec { packetizer: Box<dyn Packetizer + 'a>, description: u16 },
    Hint(&'a HintTrack),
}

impl<'a> Maker<'a> {
    fn of_description(track: &'a Track, description: u16, clock: FrameClock) -> Option<Self> {
        let packetizer = packetizer(track.codec_of(description)?, clock)?;
        Some(Self::Codec { packetizer, description })
    }
}

/// The sample in front of it has another decoder configuration.
fn begins_description(track: &Track, sample_index: u32) -> bool {
    let of = |sample_index| track.index.description(sample_index);
    sample_index.checked_sub(1).is_some_and(|before| of(before) != of(sample_index))
}

#[derive(Debug)]
enum State {
    /// Samples are being read.
    Samples(Run),
    /// The window is there; the ranges are still to be read, last one first.
    Built(PacketWindow, Vec<FileRange>),
}

/// Neighbouring samples that are read together.
#[derive(Debug, Clone)]
struct Run {
    /// Positions of the samples.
    positions: Range<u32>,
    range: FileRange,
}

impl Run {
    /// The longest run at the start of `positions`; `None` when no sample there has bytes.
    fn plan(track: &Track, kind: WindowKind, positions: Range<u32>) -> Option<Self> {
        let first = positions.start;
        let mut range = FileRange { offset: 0, bytes: 0 };
        let mut end = first;
        for (_, sample) in samples(track, kind, positions) {
            let own = FileRange { offset: sample.offset, bytes: sample.bytes };
            range = match own {
                FileRange { bytes: 0, .. } => range,
                own if range.bytes == 0 => own,
                own => match joined(range, own) {
                    Some(range) => range,
                    None => break,
                },
            };
            end += 1;
        }
        (range.bytes > 0).then_some(Self { positions: first..end, range })
    }
}

/// Both ranges in one read, when `next` starts inside or shortly behind `range`.
fn joined(range: FileRange, next: FileRange) -> Option<FileRange> {
    let range_end = range.offset.checked_add(u64::from(range.bytes))?;
    let next_end = next.offset.checked_add(u64::from(next.bytes))?;
    let is_near =
        next.offset >= range.offset && next.offset <= range_end.saturating_add(READ_GAP_BYTES_MAX);
    let bytes = u32::try_from(next_end.max(range_end) - range.offset).ok()?;
    (is_near && bytes <= READ_BYTES_MAX).then_some(FileRange { offset: range.offset, bytes })
}

/// The parts of the file that a window's packets refer to, merged, last one first.
fn file_ranges(window: &PacketWindow) -> Vec<FileRange> {
    let packets = window.frames().iter().flat_map(|frame| window.packets(frame));
    let mut ranges: Vec<FileRange> = packets
        .flat_map(|packet| window.pieces(packet))
        .filter_map(|piece| match *piece {
            Piece::File { offset, bytes } => Some(FileRange { offset, bytes: u32::from(bytes) }),
            Piece::Inline { .. } => None,
        })
        .collect();
    ranges.sort_unstable_by_key(|range| range.offset);
    let mut merged: Vec<FileRange> = Vec::new();
    for range in ranges {
        match merged.last_mut().and_then(|last| Some((joined(*last, range)?, last))) {
            Some((both, last)) => *last = both,
            None => merged.push(range),
        }
    }
    merged.reverse();
    merged
}

/// Turns one hint sample into packets.
fn packetize_hint(
    hint: &HintTrack,
    track: &Track,
    sample: &Sample,
    sample_index: u32,
    bytes: &[u8],
    out: &mut WindowBuilder,
) -> Result<(), SampleFault> {
    hint.packetize(track, sample, sample_index, bytes, out).map_err(SampleFault::Hint)
}

/// The samples at `positions`, with their places in the schedule. Walking is cheaper than asking
/// for each: the index is a compressed table.
fn samples(
    track: &Track,
    kind: WindowKind,
    positions: Range<u32>,
) -> impl Iterator<Item = (u32, Sample)> {
    let index = track.schedule();
    let (all, sync) = match kind {
        WindowKind::All => (positions, 0..0),
        WindowKind::Sync => (0..0, positions),
    };
    let count = all.end - all.start;
    let sync = sync.filter_map(|position| {
        let sample_index = index.sync_sample(position)?;
        Some((sample_index, index.sample(sample_index)?))
    });
    (all.start..).zip(index.iter(all.start, count)).chain(sync)
}

fn sample_count(track: &Track, kind: WindowKind) -> u32 {
    match kind {
        WindowKind::All => track.schedule().count(),
        WindowKind::Sync => track.schedule().sync_count(),
    }
}

fn window_samples(track: &Track, kind: WindowKind) -> u32 {
    match kind {
        WindowKind::All => track.window_samples.max(1),
        WindowKind::Sync => SYNC_WINDOW_SAMPLES,
    }
}

/// Positions of a window's samples; `None` when the track has no such window.
fn positions(track: &Track, key: WindowKey) -> Option<Range<u32>> {
    let samples = window_samples(track, key.kind);
    let count = sample_count(track, key.kind);
    let first = key.index.checked_mul(samples).filter(|first| *first < count)?;
    Some(first..first.saturating_add(samples).min(count))
}

fn check_sizes(track: &Track, kind: WindowKind, positions: Range<u32>) -> Result<(), WindowError> {
    let limit = WINDOW_SAMPLES_MAX;
    let count = positions.end - positions.start;
    if count > limit {
        return Err(WindowError::TooManySamples { count, limit });
    }
    let mut bytes = 0u64;
    for (sample, Sample { bytes: sample_bytes, .. }) in samples(track, kind, positions) {
        if sample_bytes > SAMPLE_BYTES_MAX {
            let limit_bytes = SAMPLE_BYTES_MAX;
            return Err(WindowError::SampleTooLarge { sample, bytes: sample_bytes, limit_bytes });
        }
        bytes = bytes.saturating_add(u64::from(sample_bytes));
    }
    if bytes > WINDOW_BYTES_MAX {
        return Err(WindowError::WindowTooLarge { bytes, limit_bytes: WINDOW_BYTES_MAX });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::window::Frame;

    #[test]
    fn ranges_of_pieces_are_merged_and_come_in_file_order() {
        let mut builder = WindowBuilder::new();
        for (offset, bytes) in [(9_000, 1_000), (0, 500), (700, 300), (9_500, 100)] {
            builder.push_inline(&[1]);
            builder.push_file(offset, bytes);
            builder.end_packet(true);
        }
        builder.end_frame(Frame::SYNC);
        let mut ranges = file_ranges(&builder.finish());
        let last_first =
            [FileRange { offset: 9_000, bytes: 1_000 }, FileRange { offset: 0, bytes: 1_000 }];
        assert_eq!(ranges, last_first);
        assert_eq!(ranges.pop().map(|range| range.offset), Some(0));
    }
}
