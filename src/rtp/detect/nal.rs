//! H.264 (RFC 6184 s5) and H.265 (RFC 7798 s4.4): NAL units alone, several in a packet, or one in
//! several packets.
//!
//! ```text
//! H.264  1..23 one NAL unit   24 STAP-A  25 STAP-B  26, 27 MTAP   28 FU-A  29 FU-B
//! H.265  0..47 one NAL unit   48 AP      49 FU      50 PACI
//! ```
//! Some cameras put an Annex B start code in front of a unit; it is looked behind.
#![deny(clippy::indexing_slicing)]

use super::{AGGREGATE_UNITS_MAX, PayloadContent, sei};

/// A NAL unit with parameters for the pictures behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SetKind {
    /// Video parameter set (H.265).
    Vps,
    /// Sequence parameter set.
    Sps,
    /// Picture parameter set.
    Pps,
}

/// What the first packet of a unit, or the unit whole, is.
pub(super) fn detect_h264(payload: &[u8]) -> PayloadContent {
    let mut all = PayloadContent::default();
    for unit in units_h264(payload) {
        let kind = h264_kind(unit.first_byte);
        match unit.part {
            Part::Middle => all.picture |= matches!(kind, 1..=5),
            Part::Start if kind == H264_SEI => all.sets |= sei::is_recovery_point(unit.body(1)),
            Part::Start => all = merged(all, detect_h264_unit(kind)),
        }
    }
    all
}

/// See `detect_h264`.
pub(super) fn detect_h265(payload: &[u8]) -> PayloadContent {
    let mut all = PayloadContent::default();
    for unit in units_h265(payload) {
        let kind = h265_kind(unit.first_byte);
        match unit.part {
            Part::Middle => all.picture |= kind <= H265_VCL_MAX,
            Part::Start if kind == H265_SEI => all.sets |= sei::is_recovery_point(unit.body(2)),
            Part::Start => all = merged(all, detect_h265_unit(kind)),
        }
    }
    all
}

/// Calls `found` with every parameter set that is whole in the payload of an H.264 packet.
pub fn for_each_set_h264<'a>(payload: &'a [u8], mut found: impl FnMut(SetKind, &'a [u8])) {
    for unit in units_h264(payload).filter(|unit| unit.is_whole) {
        match h264_kind(unit.first_byte) {
            H264_SPS => found(SetKind::Sps, unit.bytes),
            H264_PPS => found(SetKind::Pps, unit.bytes),
            _ => {}
        }
    }
}

/// Calls `found` with every parameter set that is whole in the payload of an H.265 packet.
pub fn for_each_set_h265<'a>(payload: &'a [u8], mut found: impl FnMut(SetKind, &'a [u8])) {
    for unit in units_h265(payload).filter(|unit| unit.is_whole) {
        match h265_kind(unit.first_byte) {
            H265_VPS => found(SetKind::Vps, unit.bytes),
            H265_SPS => found(SetKind::Sps, unit.bytes),
            H265_PPS => found(SetKind::Pps, unit.bytes),
            _ => {}
        }
    }
}

fn detect_h264_unit(kind: u8) -> PayloadContent {
    match kind {
        5 => PayloadContent { picture: true, sync: true, sets: false, tables: false },
        // Slices, and the data partitions 2 to 4 of the extended profile.
        1..=4 => PayloadContent::MIDDLE,
        H264_SPS => PayloadContent { picture: false, sync: false, sets: true, tables: false },
        _ => PayloadContent::default(),
    }
}

fn detect_h265_unit(kind: u8) -> PayloadContent {
    match kind {
        // IRAP: BLA, IDR and CRA, with two reserved.
        16..=23 => PayloadContent { picture: true, sync: true, sets: false, tables: false },
        0..=H265_VCL_MAX => PayloadContent::MIDDLE,
        H265_VPS | H265_SPS => {
            PayloadContent { picture: false, sync: false, sets: true, tables: false }
        }
        _ => PayloadContent::default(),
    }
}

/// One unit of a packet, or a part of it.
#[derive(Debug, Clone, Copy)]
struct Unit<'a> {
    /// First byte of the unit's header, also of one that is cut.
    first_byte: u8,
    part: Part,
    is_whole: bool,
    bytes: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The unit begins here.
    Start,
    /// It began in an earlier packet.
    Middle,
}

impl<'a> Unit<'a> {
    fn whole(bytes: &'a [u8]) -> Option<Self> {
        let first_byte = *bytes.first()?;
        Some(Self { first_byte, part: Part::Start, is_whole: true, bytes })
    }

    /// What is here of it behind its header of `header_bytes`.
    fn body(&self, header_bytes: usize) -> &'a [u8] {
        let header_bytes = if self.is_whole { header_bytes } else { 0 };
        self.bytes.get(header_bytes..).unwrap_or_default()
    }

    fn fragment(first_byte: u8, fu_header: u8, bytes: &'a [u8]) -> Self {
        let part = if fu_header & FU_START == 0 { Part::Middle } else { Part::Start };
        Self { first_byte, part, is_whole: false, bytes }
    }
}

fn units_h264(payload: &[u8]) -> impl Iterator<Item = Unit<'_>> {
    let payload = behind_start_code(payload);
    let (single, aggregate) = match payload {
        [] => (None, &[][..]),
        [first, rest @ ..] => match (h264_kind(*first), rest) {
            (24, units) => (None, units),
            // STAP-B and MTAP have a decoding order number first, MTAP more in front of each unit;
            // nobody sends interleaved mode, but a unit is found in STAP-B.
            (25, [_, _, units @ ..]) => (None, units),
            (28 | 29, [fu, bytes @ ..]) => {
                (Some(Unit::fragment(first & 0xe0 | fu & 0x1f, *fu, bytes)), &[][..])
            }
            (25..=31, _) => (None, &[][..]),
            _ => (Unit::whole(payload), &[][..]),
        },
    };
    single.into_iter().chain(aggregated(aggregate))
}

fn units_h265(payload: &[u8]) -> impl Iterator<Item = Unit<'_>> {
    let payload = behind_start_code(payload);
    let (single, aggregate) = match payload {
        [first, _, rest @ ..] => match (h265_kind(*first), rest) {
            (48, units) => (None, units),
            (49, [fu, bytes @ ..]) => {
                // The type moves into the header's place; its other bits stay.
                let header = first & 0x81 | (fu & 0x3f) << 1;
                (Some(Unit::fragment(header, *fu, bytes)), &[][..])
            }
            (48..=63, _) => (None, &[][..]),
            _ => (Unit::whole(payload), &[][..]),
        },
        _ => (None, &[][..]),
    };
    single.into_iter().chain(aggregated(aggregate))
}

/// Units with two bytes of length in front; damage ends the list.
fn aggregated(mut rest: &[u8]) -> impl Iterator<Item = Unit<'_>> {
    let units = std::iter::from_fn(move || {
        let (length, behind) = rest.split_first_chunk()?;
        let (unit, behind) = behind.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        rest = behind;
        Unit::whole(unit)
    });
    units.take(AGGREGATE_UNITS_MAX)
}

fn behind_start_code(payload: &[u8]) -> &[u8] {
    match payload {
        [0, 0, 0, 1, unit @ ..] | [0, 0, 1, unit @ ..] => unit,
        _ => payload,
    }
}

fn merged(a: PayloadContent, b: PayloadContent) -> PayloadContent {
    PayloadContent {
        picture: a.picture || b.picture,
        sync: a.sync || b.sync,
        sets: a.sets || b.sets,
        tables: false,
    }
}

fn h264_kind(first_byte: u8) -> u8 {
    first_byte & 0x1f
}

fn h265_kind(first_byte: u8) -> u8 {
    first_byte >> 1 & 0x3f
}

const FU_START: u8 = 0x80;
const H264_SEI: u8 = 6;
const H264_SPS: u8 = 7;
const H264_PPS: u8 = 8;
const H265_VCL_MAX: u8 = 31;
/// The one in front of the picture.
const H265_SEI: u8 = 39;
const H265_VPS: u8 = 32;
const H265_SPS: u8 = 33;
const H265_PPS: u8 = 34;
