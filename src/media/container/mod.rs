//! Containers: ISO BMFF (MP4, M4A, 3GP, fragmented) and QuickTime, opened without doing any I/O.
//!
//! ```text
//! Opener --Step::Read--> caller reads --handle_bytes--> Opener ... --Step::Done--> Asset
//!
//! walk top-level boxes -> moov whole -> [mvex: every moof] -> first sample of each hint track
//!                                                          -> parameter sets of first samples
//! ```
//! Fragments that lie close together are read in large pieces, others one `moof` at a time.
//!
//! Invariants: a read never leaves the file; a sample of the asset never does either. A broken
//! track is left out and the rest plays; a fragmented file that was cut plays what is complete.
//! Bounds: `MOOV_BYTES_MAX` of memory for `moov`, `TOP_BOXES_MAX` boxes.
//! ISO 14496-12; QuickTime File Format.

mod aac;
mod boxes;
mod choose;
mod descriptions;
mod dolby;
mod edits;
mod entry;
mod error;
mod finish;
mod fragment;
mod header;
mod in_band;
mod language;
mod movie;
mod pcm;
mod tables;

use super::asset::Asset;
use super::codec::Codec;
use super::packetize::{self, SampleFault, check_sample};
use super::window::WindowBuilder;
use crate::base::limits;
use boxes::{array_at, u32_at, u64_at};
pub use error::{FourCc, OpenError};
use finish::{Finished, FormatOf};
use in_band::Lack;
use movie::Movie;

/// What the opener needs next.
#[derive(Debug)]
pub enum Step {
    /// Read that range of the file and hand it to [`Opener::handle_bytes`].
    Read {
        /// From the start of the file.
        offset: u64,
        /// At least 1.
        bytes: usize,
    },
    /// Opened. Tracks may be missing: see `Asset::left_out`.
    Done(Box<Asset>),
}

/// Opens a container: asks for ranges of the file and returns an asset.
#[derive(Debug)]
pub struct Opener {
    file_bytes: u64,
    format_of: FormatOf,
    /// Says whether a first sample can be packetized.
    check: fn(&Codec, &[u8]) -> Result<(), SampleFault>,
    state: State,
    wanted: Option<(u64, usize)>,
    buffer: Vec<u8>,
    buffer_offset: u64,
    /// Bytes to read at once at least.
    ahead: usize,
    box_count: u32,
    brand: Option<[u8; 4]>,
    movie: Option<Movie>,
    /// First fragment whose samples leave the file: fine when the file ends there.
    outside: Option<OpenError>,
    /// The file ends inside a box or right behind a `moof`.
    is_cut: bool,
}

enum State {
    /// At a top-level box.
    Walk {
        at: u64,
    },
    /// A `moov` or `moof` whose body is wanted.
    Load {
        kind: [u8; 4],
        at: u64,
        body: u64,
        end: u64,
    },
    /// Trying the first sample of a track.
    FirstSamples {
        finished: Finished,
        track_index: usize,
    },
    /// Looking into samples for what decoder configurations lack, last one first.
    InBand {
        finished: Finished,
        lacks: Vec<Lack>,
    },
    Done,
}

impl Opener {
    /// Starts on a file of that length.
    #[must_use]
    pub fn new(file_bytes: u64) -> Self {
        Self { check: check_sample, ..Self::with_formats(file_bytes, packetize::payload_format) }
    }

    fn with_formats(file_bytes: u64, format_of: FormatOf) -> Self {
        Self {
            file_bytes,
            format_of,
            check: |_, _| Ok(()),
            state: State::Walk { at: 0 },
            wanted: None,
            buffer: Vec::new(),
            buffer_offset: 0,
            ahead: HEAD_BYTES,
            box_count: 0,
            brand: None,
            movie: None,
            outside: None,
            is_cut: false,
        }
    }

    /// What to do next. `Done` comes exactly once; asked again, or after an error, this is
    /// [`OpenError::OutOfOrder`].
    pub fn step(&mut self) -> Result<Step, OpenError> {
        loop {
            if let Some((offset, bytes)) = self.wanted {
                return Ok(Step::Read { offset, bytes });
            }
            match std::mem::replace(&mut self.state, State::Done) {
                State::Walk { at } => self.walk(at)?,
                State::Load { kind, at, body, end } => self.load_body(kind, at, body, end)?,
                State::FirstSamples { finished, track_index } => {
                    self.try_first_sample(finished, track_index);
                }
                State::InBand { finished, lacks } => {
                    if let Some(asset) = self.complete_configurations(finished, lacks) {
                        return Ok(Step::Done(Box::new(asset)));
                    }
                }
                State::Done => return Err(OpenError::OutOfOrder),
            }
        }
    }

    /// The answer to the last `Read`. Shorter than asked means that the file ended early, which
    /// it must not: its length was given.
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Result<(), OpenError> {
        let (offset, want_bytes) = self.wanted.take().ok_or(OpenError::OutOfOrder)?;
        if bytes.len() < want_bytes {
            self.state = State::Done;
            let have_bytes = bytes.len();
            return Err(OpenError::FileEndedEarly { offset, want_bytes, have_bytes });
        }
        self.buffer.clear();
        self.buffer.extend_from_slice(bytes.get(..want_bytes).unwrap_or(bytes));
        self.buffer_offset = offset;
        Ok(())
    }

    /// The bytes at `offset`, or a wish for them. Never asks behind the end of the file.
    fn load(&mut self, offset: u64, bytes: u64) -> Option<&[u8]> {
        let left = self.file_bytes.saturating_sub(offset);
        let bytes = usize::try_from(bytes.min(left)).ok()?;
        if bytes == 0 {
            return Some(&[]);
        }
        let start = offset.checked_sub(self.buffer_offset).and_then(|s| usize::try_from(s).ok());
        let range = start.and_then(|s| Some(s..s.checked_add(bytes)?));
        if let Some(range) = range.filter(|r| r.end <= self.buffer.len()) {
            return self.buffer.get(range);
        }
        let ahead = u64::try_from(self.ahead).unwrap_or(0).min(left);
        let wish = bytes.max(usize::try_from(ahead).unwrap_or(0));
        self.wanted = Some((offset, wish.max(1)));
        None
    }

    /// Reads the header of the top-level box at `at`.
    fn walk(&mut self, at: u64) -> Result<(), OpenError> {
        let left = self.file_bytes.saturating_sub(at);
        if left < 8 {
            return self.end_walk();
        }
        self.choose_ahead(at);
        let Some(head) = self.load(at, 32) else {
            self.state = State::Walk { at };
            return Ok(());
        };
        let kind = array_at::<4>(head, 4).unwrap_or_default();
        let (head_bytes, bytes) = match u32_at(head, 0).unwrap_or(0) {
            0 => (8, left),
            1 => (16, u64_at(head, 8).unwrap_or(0)),
            short => (8, u64::from(short)),
        };
        let brand = array_at::<4>(head, head_bytes);
        self.box_count += 1;
        let limit = TOP_BOXES_MAX;
        if self.box_count > limit {
            return Err(OpenError::TooManyBoxes { limit });
        }
        if bytes < head_bytes as u64 {
            return match self.movie {
                // Padding or garbage behind a complete movie harms nobody.
                Some(_) => self.end_walk(),
                None => Err(OpenError::BoxSize { offset: at, kind: FourCc(kind), bytes }),
            };
        }
        let body = at + head_bytes as u64;
        let end = at.saturating_add(bytes);
        if end > self.file_bytes {
            self.is_cut = true;
            let kind = FourCc(kind);
            return match self.movie {
                Some(_) => self.end_walk(),
                None => {
                    let file_bytes = self.file_bytes;
                    Err(OpenError::BoxOutside { offset: at, kind, end, file_bytes })
                }
            };
        }
        if kind == *b"ftyp" && self.brand.is_none() {
            self.brand = brand;
        }
        let is_wanted = match &kind {
            b"moov" => self.movie.is_none(),
            b"moof" => self.outside.is_none() && self.movie.is_some(),
            _ => false,
        };
        let limit_bytes = limits::MOOV_BYTES_MAX;
        if is_wanted && end - body > limit_bytes {
            let (kind, bytes) = (FourCc(kind), end - body);
            return Err(OpenError::BoxTooLarge { offset: at, kind, bytes, limit_bytes });
        }
        self.state =
            if is_wanted { State::Load { kind, at, body, end } } else { State::Walk { at: end } };
        Ok(())
    }

    /// Small reads between far apart boxes, large ones where fragments follow closely.
    fn choose_ahead(&mut self, at: u64) {
        let is_fragmented = self.movie.as_ref().is_some_and(|m| m.is_fragmented);
        let read_to = self.buffer_offset + self.buffer.len() as u64;
        self.ahead = match is_fragmented {
            false => HEAD_BYTES,
            true if at.saturating_sub(read_to) < NEAR_BYTES => RUN_BYTES,
            true => MOOF_BYTES,
        };
    }

    fn load_body(&mut self, kind: [u8; 4], at: u64, body: u64, end: u64) -> Result<(), OpenError> {
        if self.load(body, end - body).is_none() {
            self.state = State::Load { kind, at, body, end };
            return Ok(());
        }
        let start = usize::try_from(body - self.buffer_offset).unwrap_or(usize::MAX);
        let stop = usize::try_from(end - self.buffer_offset).unwrap_or(usize::MAX);
        let bytes = self.buffer.get(start..stop).unwrap_or(&[]);
        match &mut self.movie {
            None => {
                let movie = Movie::read(bytes, self.file_bytes)?;
                let is_fragmented = movie.is_fragmented;
                self.movie = Some(movie);
                if !is_fragmented {
                    return self.end_walk();
                }
            }
            Some(movie) => {
                let read = fragment::read_fragment(bytes, at, movie, self.file_bytes);
                self.outside = read.err();
                self.is_cut |= self.outside.is_some() && self.file_bytes - end < 8;
            }
        }
        self.state = State::Walk { at: end };
        Ok(())
    }

    /// All boxes are seen: makes the asset.
    fn end_walk(&mut self) -> Result<(), OpenError> {
        let mut movie = self.movie.take().ok_or(OpenError::NoMovie)?;
        match self.outside {
            Some(outside) if !self.is_cut => return Err(outside),
            _ => {}
        }
        if movie.is_fragmented && self.is_cut {
            movie.problems.push("the file is cut: it plays up to its last fragment".to_owned());
        }
        let container = container_name(self.brand, movie.is_fragmented);
        let finished = finish::finish(movie, container, self.file_bytes, self.format_of);
        self.ahead = 0;
        self.state = State::FirstSamples { finished, track_index: 0 };
        Ok(())
    }

    /// Packetizes the first sample of a track where the tables cannot tell whether that can be
    /// done: by its hint track, or JPEG images, of which RFC 2435 carries only some.
    fn try_first_sample(&mut self, mut finished: Finished, mut track_index: usize) {
        let check = self.check;
        while let Some(track) = finished.asset.tracks.get(track_index) {
            let is_in_doubt = track.hint.is_some() || track.codec == Some(Codec::Mjpeg);
            let Some(sample) = track.schedule().sample(0).filter(|_| is_in_doubt) else {
                track_index += 1;
                continue;
            };
            let Some(bytes) = self.load(sample.offset, u64::from(sample.bytes)) else {
                self.state = State::FirstSamples { finished, track_index };
                return;
            };
            let tried = match (&track.hint, &track.codec) {
                (Some(hint), _) => hint
                    .packetize(track, &sample, 0, bytes, &mut WindowBuilder::new())
                    .map_err(|why| why.to_string()),
                (None, Some(codec)) => check(codec, bytes).map_err(|why| why.to_string()),
                (None, None) => Ok(()),
            };
            let is_hinted = track.hint.is_some();
            match tried {
                Ok(()) => track_index += 1,
                Err(why) if is_hinted => finished.drop_hint(track_index, &why),
                Err(why) => finished.drop_track(track_index, why),
            }
        }
        let lacks = in_band::lacks(&finished.asset.tracks);
        self.state = State::InBand { finished, lacks };
    }

    /// Takes what configurations lack from samples. Gives the asset when nothing is left to look
    /// for.
    fn complete_configurations(
        &mut self,
        mut finished: Finished,
        mut lacks: Vec<Lack>,
    ) -> Option<Asset> {
        let format_of = self.format_of;
        while let Some(lack) = lacks.last().copied() {
            let (offset, bytes) = lack.sample.map_or((0, 0), |s| (s.offset, s.bytes));
            let Some(start) = self.load(offset, u64::from(bytes.min(in_band::START_BYTES_MAX)))
            else {
                self.state = State::InBand { finished, lacks };
                return None;
            };
            finished.complete(lack, start, format_of);
            lacks.pop();
        }
        Some(finished.choose())
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Walk { at } => write!(f, "Walk({at})"),
            Self::Load { kind, at, .. } => write!(f, "Load({} at {at})", FourCc(*kind)),
            Self::FirstSamples { track_index, .. } => write!(f, "FirstSamples({track_index})"),
            Self::InBand { lacks, .. } => write!(f, "InBand({} left)", lacks.len()),
            Self::Done => write!(f, "Done"),
        }
    }
}

/// Drives an [`Opener`] with a function that reads at an offset; a short read means the end.
pub fn open_with<E: From<OpenError>>(
    file_bytes: u64,
    read: impl FnMut(u64, &mut [u8]) -> Result<usize, E>,
) -> Result<Asset, E> {
    drive(Opener::new(file_bytes), read)
}

fn drive<E: From<OpenError>>(
    mut opener: Opener,
    mut read: impl FnMut(u64, &mut [u8]) -> Result<usize, E>,
) -> Result<Asset, E> {
    let mut buffer = Vec::new();
    loop {
        match opener.step()? {
            Step::Done(asset) => return Ok(*asset),
            Step::Read { offset, bytes } => {
                buffer.resize(bytes, 0);
                let mut have = 0;
                while let Some(rest) = buffer.get_mut(have..).filter(|rest| !rest.is_empty()) {
                    match read(offset + have as u64, rest)? {
                        0 => break,
                        count => have += count,
                    }
                }
                opener.handle_bytes(buffer.get(..have).unwrap_or(&buffer))?;
            }
        }
    }
}

fn container_name(brand: Option<[u8; 4]>, is_fragmented: bool) -> &'static str {
    match (brand.as_ref(), is_fragmented) {
        (None | Some(b"qt  "), false) => "mov",
        (None | Some(b"qt  "), true) => "mov (fragmented)",
        (Some([b'3', b'g', b'p' | b'g' | b'r' | b's', _]), false) => "3gp",
        (Some(b"M4A " | b"M4B "), false) => "m4a",
        (Some(_), false) => "mp4",
        (Some(_), true) => "mp4 (fragmented)",
    }
}

/// Bytes of a read that looks for box headers.
const HEAD_BYTES: usize = 4 << 10;
/// Bytes of a read at a fragment that stands alone: most `moof` boxes fit.
const MOOF_BYTES: usize = 16 << 10;
/// Bytes of a read where fragments follow within `NEAR_BYTES`: skipping would cost more.
const RUN_BYTES: usize = 1 << 20;
const NEAR_BYTES: u64 = 128 << 10;
/// Boxes at the top level at most: a fragment a frame (two boxes each) for eleven hours.
const TOP_BOXES_MAX: u32 = 1 << 22;

#[cfg(test)]
pub(crate) mod tests;
