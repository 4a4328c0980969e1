//! `moov`: the tracks of a movie, as far as the file describes them.
//!
//! ```text
//! moov -- mvhd  time scale, creation time
//!      |- trak  -> Draft { description | why it is left out, edits, table }
//!      `- mvex  -> trex: defaults of fragments
//! ```
//! Invariant: a broken track ends as a draft with a `problem`; only a sample outside the file or a
//! missing `mvhd` refuses the title. Bounds: `TRACKS_MAX` tracks, `TITLE_SAMPLES_MAX` samples.

use super::boxes::{array_at, child, children, descend, full_box, u32_at};
use super::edits::{Edit, read_edits};
use super::entry::{Entry, read_entries};
use super::error::{FourCc, OpenError};
use super::header::{Matrix, TrackHeader, helper};
use super::language::language;
use super::tables::{TableError, TableHints, Units, read_table};
use crate::base::limits;
use crate::media::codec::{Codec, MediaKind};
use crate::media::hint::HintEntry;
use crate::media::index::Table;
use mp4_atom::Atom;

/// What `moov` says.
#[derive(Debug)]
pub(super) struct Movie {
    pub(super) timescale: u32,
    pub(super) created_utc_ns: Option<i64>,
    pub(super) drafts: Vec<Draft>,
    /// `mvex` is present: the samples are in fragments.
    pub(super) is_fragmented: bool,
    pub(super) trex: Vec<mp4_atom::Trex>,
    pub(super) problems: Vec<String>,
}

/// A track on its way to being one of the asset's.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) id: u32,
    pub(super) header: TrackHeader,
    pub(super) role: Role,
    pub(super) fourcc: [u8; 4],
    /// Of the first sample description that can be used.
    pub(super) codec: Option<Codec>,
    pub(super) timescale: u32,
    pub(super) language: Option<Box<str>>,
    pub(super) size_pixels: Option<(u16, u16)>,
    pub(super) edits: Vec<Edit>,
    /// `tref/hint`: the media tracks that this hint track packetizes.
    pub(super) hint_refs: Vec<u32>,
    /// `udta/hnti/sdp `.
    pub(super) sdp: Option<String>,
    pub(super) hint_entry: Option<HintEntry>,
    pub(super) table: Table,
    /// Sample descriptions, in the order of `stsd`; `table` numbers them from 0.
    pub(super) entries: Vec<Entry>,
    /// Sample descriptions whose media is in another file, ascending.
    pub(super) elsewhere: Vec<u16>,
    /// Why the track cannot be played from its own samples.
    pub(super) problem: Option<String>,
}

/// What a track is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Media(MediaKind),
    Hint,
    Other,
}

impl Movie {
    /// Reads the body of a `moov`.
    pub(super) fn read(moov: &[u8], file_bytes: u64) -> Result<Self, OpenError> {
        if child(moov, b"cmov").is_some() {
            return Err(OpenError::CompressedMovie);
        }
        let matrix = child(moov, b"mvhd").map(Matrix::of_movie).unwrap_or_default();
        let mvhd = child(moov, b"mvhd").and_then(decode::<mp4_atom::Mvhd>);
        let mvhd = mvhd.ok_or(OpenError::MissingBox { kind: FourCc(*b"mvhd") })?;
        let traks = || children(moov).filter(|b| b.kind == *b"trak");
        if traks().count() > limits::TRACKS_MAX {
            return Err(OpenError::TooManyTracks { limit: limits::TRACKS_MAX });
        }
        let mut drafts: Vec<Draft> = traks().map(|b| Draft::read(b.body)).collect();
        mark_chapters(moov, &mut drafts);
        for draft in &mut drafts {
            draft.header.matrix = draft.header.matrix.then(matrix);
        }
        let mvex = child(moov, b"mvex");
        let trex = children(mvex.unwrap_or(&[])).filter(|b| b.kind == *b"trex");
        let mut movie = Self {
            timescale: mvhd.timescale.max(1),
            created_utc_ns: unix_ns(mvhd.creation_time),
            is_fragmented: mvex.is_some(),
            trex: trex.filter_map(|b| decode(b.body)).take(limits::TRACKS_MAX).collect(),
            problems: Vec::new(),
            drafts: Vec::new(),
        };
        let hinted: Vec<u32> = drafts.iter().flat_map(|d| d.hint_refs.iter().copied()).collect();
        let mut sample_count = 0u32;
        for (draft, trak) in drafts.iter_mut().zip(traks()) {
            if sample_count > TITLE_SAMPLES_MAX {
                draft.problem.get_or_insert_with(|| "more samples than the limit".to_owned());
                continue;
            }
            let is_hinted = draft.codec.is_none() && hinted.contains(&draft.id);
            draft.read_samples(trak.body, file_bytes, is_hinted)?;
            sample_count = sample_count.saturating_add(draft.table.count());
        }
        movie.drafts = drafts;
        Ok(movie)
    }
}

impl Draft {
    pub(super) fn is_video(&self) -> bool {
        self.role == Role::Media(MediaKind::Video)
    }

    fn read(trak: &[u8]) -> Self {
        let mdia = child(trak, b"mdia").unwrap_or(&[]);
        let handler = child(mdia, b"hdlr").and_then(|b| array_at::<4>(b, 8)).unwrap_or(*b"    ");
        let role = match &handler {
            b"vide" => Role::Media(MediaKind::Video),
            b"soun" => Role::Media(MediaKind::Audio),
            b"hint" => Role::Hint,
            _ => Role::Other,
        };
        let kind = if let Role::Media(kind) = role { Some(kind) } else { None };
        let stsd = descend(mdia, &[b"minf", b"stbl", b"stsd"]).unwrap_or(&[]);
        let entries = read_entries(stsd, kind);
        let mdhd = child(mdia, b"mdhd").and_then(decode::<mp4_atom::Mdhd>);
        let hint_refs = descend(trak, &[b"tref", b"hint"]).unwrap_or(&[]).chunks_exact(4);
        let sdp = descend(trak, &[b"udta", b"hnti", b"sdp "]);
        let header = child(trak, b"tkhd").and_then(TrackHeader::read).unwrap_or_default();
        let mut draft = Self {
            id: header.id,
            header,
            role,
            fourcc: entries.first().map_or(handler, |e| e.fourcc),
            codec: None,
            timescale: mdhd.as_ref().map_or(0, |m| m.timescale),
            language: language(mdia),
            size_pixels: entries.first().and_then(|e| e.size_pixels),
            edits: descend(trak, &[b"edts", b"elst"]).map(read_edits).unwrap_or_default(),
            hint_refs: hint_refs.filter_map(|b| u32_at(b, 0)).take(limits::TRACKS_MAX).collect(),
            sdp: sdp.map(|b| String::from_utf8_lossy(b).into_owned()),
            hint_entry: None,
            table: Table::default(),
            entries,
            elsewhere: Vec::new(),
            problem: None,
        };
        if role == Role::Hint {
            draft.hint_entry = children(stsd.get(8..).unwrap_or(&[]))
                .next()
                .filter(|b| b.kind == *b"rtp ")
                .and_then(|b| HintEntry::read(b.body));
        }
        let helper = child(trak, b"tref").and_then(helper).map(ToOwned::to_owned);
        draft.problem = draft.describe(mdia).or(helper);
        draft
    }

    /// Fills in the codec; gives the reason when the track cannot be played.
    fn describe(&mut self, mdia: &[u8]) -> Option<String> {
        if self.id == 0 {
            return Some("no usable track header (tkhd)".to_owned());
        }
        if self.timescale == 0 {
            return Some("no usable media header (mdhd)".to_owned());
        }
        if self.role == Role::Other {
            let handler = FourCc(self.fourcc);
            return Some(format!("{handler} is neither audio nor video"));
        }
        for (which, entry) in (0..).zip(&mut self.entries) {
            if !is_self_contained(mdia, entry.data_ref) {
                entry.codec = Err("its media is in another file".to_owned());
                self.elsewhere.push(which);
            } else if let Ok(codec) = &mut entry.codec {
                with_rate(codec, self.timescale);
            }
        }
        let Some(first) = self.entries.first() else {
            return Some("no sample description (stsd)".to_owned());
        };
        if self.role == Role::Hint {
            return match (self.elsewhere.first(), &first.codec) {
                (Some(0), Err(reason)) => Some(reason.clone()),
                _ => self.hint_entry.is_none().then(|| "not an RTP hint track".to_owned()),
            };
        }
        let usable = self.entries.iter().find_map(|e| Some((e, e.codec.as_ref().ok()?)));
        let Some((entry, codec)) = usable else { return first.codec.as_ref().err().cloned() };
        self.codec = Some(codec.clone());
        (self.fourcc, self.size_pixels) = (entry.fourcc, entry.size_pixels);
        None
    }

    /// The place in `entries` of a `sample_description_index`. Writers of one entry do not always
    /// care what they write there.
    pub(super) fn description(&self, sample_description_index: u32) -> u16 {
        let which = sample_description_index.saturating_sub(1);
        if self.entries.len() <= 1 { 0 } else { u16::try_from(which).unwrap_or(u16::MAX) }
    }

    /// Samples with this description are in another file.
    pub(super) fn is_elsewhere(&self, description: u16) -> bool {
        self.elsewhere.binary_search(&description).is_ok()
    }

    /// Reads the sample tables of a track that may be played.
    fn read_samples(
        &mut self,
        trak: &[u8],
        file_bytes: u64,
        is_hinted: bool,
    ) -> Result<(), OpenError> {
        if (self.problem.is_some() && !is_hinted) || self.timescale == 0 {
            return Ok(());
        }
        let stbl = descend(trak, &[b"mdia", b"minf", b"stbl"]).unwrap_or(&[]);
        let is_audio = self.role == Role::Media(MediaKind::Audio);
        let units = match &self.codec {
            Some(Codec::Pcmu { channels, .. } | Codec::Pcma { channels, .. }) => {
                Units::Bytes { channels: *channels }
            }
            Some(Codec::Pcm { channels, layout, .. }) => {
                let value_bytes = u32::try_from(layout.stored_bytes()).unwrap_or(0);
                Units::Instants { bytes: u32::from(*channels) * value_bytes }
            }
            None if is_audio => Units::Bytes { channels: 1 },
            _ => Units::None,
        };
        let timescale = self.timescale;
        let hints = TableHints { is_audio, units, timescale, file_bytes };
        match read_table(stbl, hints, self) {
            Ok(table) => self.table = table,
            // A broken hint track only costs the hints.
            Err(TableError::Outside { .. }) if self.role == Role::Hint => {
                self.problem = Some("hint samples lie outside the file".to_owned());
            }
            Err(TableError::Outside { sample, end }) => {
                return Err(OpenError::SampleOutside { track: self.id, sample, end, file_bytes });
            }
            Err(TableError::Bad(reason)) => self.problem = Some(reason.to_owned()),
        }
        Ok(())
    }
}

/// Chapter titles and pictures are tracks too, but nobody plays them.
fn mark_chapters(moov: &[u8], drafts: &mut [Draft]) {
    let traks = children(moov).filter(|b| b.kind == *b"trak");
    let chapters = traks.filter_map(|b| descend(b.body, &[b"tref", b"chap"]));
    let ids: Vec<u32> =
        chapters.flat_map(|b| b.chunks_exact(4)).filter_map(|b| u32_at(b, 0)).take(256).collect();
    for draft in drafts.iter_mut().filter(|d| ids.contains(&d.id)) {
        draft.problem = Some("holds chapters of another track".to_owned());
    }
}

/// The rate of a sound description is 16 bits; audio beyond it, and descriptions that leave it
/// empty, run at the track's time scale.
fn with_rate(codec: &mut Codec, timescale: u32) {
    let is_pcm = matches!(codec, Codec::Pcm { .. });
    if let Codec::Mp3 { sample_rate_hz, .. }
    | Codec::Pcmu { sample_rate_hz, .. }
    | Codec::Pcma { sample_rate_hz, .. }
    | Codec::Pcm { sample_rate_hz, .. }
    | Codec::Ac3 { sample_rate_hz, .. }
    | Codec::Eac3 { sample_rate_hz, .. } = codec
    {
        let is_cut = is_pcm && timescale > MAX_STATED_RATE_HZ && timescale <= PCM_RATE_MAX_HZ;
        let is_stated = *sample_rate_hz > MAX_STATED_RATE_HZ;
        if *sample_rate_hz == 0 || (is_cut && !is_stated) {
            *sample_rate_hz = timescale;
        }
    }
}

/// Flag 1 of a data reference: the media is in this file. A missing table means the same.
fn is_self_contained(mdia: &[u8], data_ref: u16) -> bool {
    let dref = descend(mdia, &[b"minf", b"dinf", b"dref"]).and_then(full_box);
    let entries = dref.and_then(|(_, _, rest)| rest.get(4..)).unwrap_or(&[]);
    let place = usize::from(data_ref).saturating_sub(1);
    let entry = children(entries).nth(place).and_then(|b| full_box(b.body));
    entry.is_none_or(|(_, flags, _)| flags & 1 == 1)
}

/// Seconds since 1904 to nanoseconds since 1970, when that is after 1990 and before 2100: cameras
/// without a clock write 0 or their epoch, some writers count from 1970.
fn unix_ns(since_1904: u64) -> Option<i64> {
    const EPOCH_GAP_S: u64 = 2_082_844_800;
    let secs = since_1904.checked_sub(EPOCH_GAP_S)?;
    let ns = i64::try_from(secs).ok()?.checked_mul(1_000_000_000)?;
    (631_152_000..4_102_444_800).contains(&secs).then_some(ns)
}

/// What the 16 bits of a sound description can say.
const MAX_STATED_RATE_HZ: u32 = u16::MAX as u32;

/// The fastest PCM in use; time scales beyond it are no sampling rates.
const PCM_RATE_MAX_HZ: u32 = 768_000;

/// Samples of all tracks together, beyond which no further track is read: overlapping samples
/// would otherwise make a small file hours of work.
pub(super) const TITLE_SAMPLES_MAX: u32 = 2 * limits::TRACK_SAMPLES_MAX;

fn decode<T: Atom>(body: &[u8]) -> Option<T> {
    let mut rest = body;
    T::decode_body(&mut rest).ok()
}
