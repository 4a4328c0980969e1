//! Cuts payloads that came over a connection into packets that fit a datagram.
//!
//! ```text
//! H.264  STAP-A [7][8][5.....]  ->  STAP-A [7][8]  FU-A S[5..]  FU-A [..]  FU-A E[.]
//! H.264  FU-A S[5.............] ->  FU-A S[5..]  FU-A [..]  FU-A [..]
//! H.265  AP, FU likewise         MPEG-TS: at 188 bytes         MPEG-4 Visual: anywhere
//! ```
//! RFC 6184 s5.7.1, s5.8; RFC 7798 s4.4.2, s4.4.3; RFC 2250 s2; RFC 6416 s5.2. Interleaved modes
//! (STAP-B, MTAP, FU-B) and PACI are not cut; nor are other formats.
//!
//! Invariants: a piece is no longer than asked for; a depacketizer makes of the pieces what it
//! would have made of the payload. Bound: `PIECES_MAX` pieces.
#![deny(clippy::indexing_slicing)]

use super::detect::DetectorFormat;

/// Payloads of the packets that a long one becomes; kept for its storage.
#[derive(Debug, Default)]
pub struct Pieces {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Pieces {
    /// Cuts `payload` into pieces of `bytes_max` at most. False: it cannot be cut, and there are no
    /// pieces.
    pub fn cut(&mut self, format: DetectorFormat, payload: &[u8], bytes_max: usize) -> bool {
        self.bytes.clear();
        self.ends.clear();
        let is_cut = bytes_max > OVERHEAD_BYTES_MAX
            && match format {
                DetectorFormat::H264 => self.cut_h264(payload, bytes_max).is_some(),
                DetectorFormat::H265 => self.cut_h265(payload, bytes_max).is_some(),
                DetectorFormat::MpegTs => {
                    payload.len().is_multiple_of(TS_BYTES)
                        && self.chunks(payload, bytes_max / TS_BYTES * TS_BYTES)
                }
                DetectorFormat::Mpeg4Visual => self.chunks(payload, bytes_max),
                DetectorFormat::Av1
                | DetectorFormat::Vp8
                | DetectorFormat::Vp9
                | DetectorFormat::Jpeg
                | DetectorFormat::Any => false,
            };
        if !is_cut || self.ends.len() > PIECES_MAX {
            self.ends.clear();
        }
        !self.ends.is_empty()
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = [0].into_iter().chain(self.ends.iter().copied());
        starts.zip(&self.ends).filter_map(|(from, to)| self.bytes.get(from..*to))
    }

    /// All their bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    fn push(&mut self, parts: &[&[u8]]) {
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        self.ends.push(self.bytes.len());
    }

    fn chunks(&mut self, payload: &[u8], bytes_max: usize) -> bool {
        if bytes_max == 0 {
            return false;
        }
        payload.chunks(bytes_max).for_each(|chunk| self.push(&[chunk]));
        true
    }

    /// `None`: not a payload that can be cut.
    fn cut_h264(&mut self, payload: &[u8], bytes_max: usize) -> Option<()> {
        let payload = behind_start_code(payload);
        let (first, rest) = payload.split_first()?;
        match first & 0x1f {
            1..=23 => self.h264_unit(payload, bytes_max),
            24 => self.h264_units(rest, bytes_max),
            FU_A => {
                let (fu, body) = rest.split_first()?;
                self.fragments(&[*first], *fu, body, bytes_max);
                Some(())
            }
            _ => None,
        }
    }

    fn h264_unit(&mut self, unit: &[u8], bytes_max: usize) -> Option<()> {
        if unit.len() <= bytes_max {
            self.push(&[unit]);
            return Some(());
        }
        let (first, body) = unit.split_first()?;
        self.fragments(&[first & 0xe0 | FU_A], FU_START | FU_END | first & 0x1f, body, bytes_max);
        Some(())
    }

    /// The units of a STAP-A, as many in each piece as fit.
    fn h264_units(&mut self, units: &[u8], bytes_max: usize) -> Option<()> {
        let mut rest = units;
        // Bounded: each round takes a unit.
        while !rest.is_empty() {
            let fits = units_that_fit(rest, bytes_max - 1)?;
            let (taken, behind) = rest.split_at_checked(fits.bytes)?;
            if fits.count > 1 {
                let headers = units_of(taken).filter_map(|unit| unit.first().copied());
                // F is set when one is, NRI is the highest (s5.7.1).
                let header = headers
                    .fold(24, |all, one| (all | one) & 0x80 | (all & 0x60).max(one & 0x60) | 24);
                self.push(&[&[header], taken]);
            } else if let Some(unit) = units_of(taken).next().filter(|unit| !unit.is_empty()) {
                // Any other would be a packet of another kind when it stands alone.
                unit.first().filter(|first| (1..=23).contains(&(**first & 0x1f)))?;
                self.h264_unit(unit, bytes_max)?;
            }
            rest = behind;
        }
        Some(())
    }

    fn cut_h265(&mut self, payload: &[u8], bytes_max: usize) -> Option<()> {
        let payload = behind_start_code(payload);
        let (header, rest) = payload.split_first_chunk::<2>()?;
        match header[0] >> 1 & 0x3f {
            0..=47 => self.h265_unit(payload, bytes_max),
            48 => self.h265_units(*header, rest, bytes_max),
            FU_H265 => {
                let (fu, body) = rest.split_first()?;
                self.fragments(header, *fu, body, bytes_max);
                Some(())
            }
            _ => None,
        }
    }

    fn h265_unit(&mut self, unit: &[u8], bytes_max: usize) -> Option<()> {
        if unit.len() <= bytes_max {
            self.push(&[unit]);
            return Some(());
        }
        let ([first, second], body) = unit.split_first_chunk::<2>()?;
        let fu = FU_START | FU_END | first >> 1 & 0x3f;
        self.fragments(&[first & 0x81 | FU_H265 << 1, *second], fu, body, bytes_max);
        Some(())
    }

    fn h265_units(&mut self, header: [u8; 2], units: &[u8], bytes_max: usize) -> Option<()> {
        let mut rest = units;
        // Bounded: each round takes a unit.
        while !rest.is_empty() {
            let fits = units_that_fit(rest, bytes_max - 2)?;
            let (taken, behind) = rest.split_at_checked(fits.bytes)?;
            if fits.count > 1 {
                self.push(&[&header, taken]);
            } else if let Some(unit) = units_of(taken).next().filter(|unit| !unit.is_empty()) {
                let [first, _] = unit.first_chunk::<2>()?;
                (first >> 1 & 0x3f <= 47).then_some(())?;
                self.h265_unit(unit, bytes_max)?;
            }
            rest = behind;
        }
        Some(())
    }

    /// `fu` says which ends of the unit `body` has: S and E stay with the first and last piece.
    fn fragments(&mut self, header: &[u8], fu: u8, body: &[u8], bytes_max: usize) {
        let room = bytes_max - header.len() - 1;
        let count = body.len().div_ceil(room).max(1);
        // Even pieces: they are runs of one size.
        let size = body.len().div_ceil(count).max(1);
        let last = body.chunks(size).count().saturating_sub(1);
        for (place, chunk) in body.chunks(size).enumerate() {
            let start = if place == 0 { fu & FU_START } else { 0 };
            let end = if place == last { fu & FU_END } else { 0 };
            let fu = fu & !(FU_START | FU_END) | start | end;
            self.push(&[header, &[fu], chunk]);
        }
    }
}

/// The first units of an aggregation packet.
struct Fit {
    count: usize,
    /// With their lengths in front.
    bytes: usize,
}

/// As many as fit, at least one. `None`: the lengths do not add up.
fn units_that_fit(units: &[u8], room: usize) -> Option<Fit> {
    let mut fit = Fit { count: 0, bytes: 0 };
    // Bounded: each round takes a unit.
    while let Some((length, _)) = units.get(fit.bytes..)?.split_first_chunk() {
        let bytes = fit.bytes + 2 + usize::from(u16::from_be_bytes(*length));
        if bytes > units.len() {
            return None;
        }
        if fit.count > 0 && bytes > room {
            break;
        }
        fit = Fit { count: fit.count + 1, bytes };
    }
    (fit.count > 0).then_some(fit)
}

fn units_of(mut units: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, behind) = units.split_first_chunk()?;
        let (unit, behind) = behind.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        units = behind;
        Some(unit)
    })
}

/// Some cameras put an Annex B start code in front of a unit.
fn behind_start_code(payload: &[u8]) -> &[u8] {
    match payload {
        [0, 0, 0, 1, unit @ ..] | [0, 0, 1, unit @ ..] => unit,
        _ => payload,
    }
}

const FU_A: u8 = 28;
const FU_H265: u8 = 49;
const FU_START: u8 = 0x80;
const FU_END: u8 = 0x40;
const TS_BYTES: usize = 188;
/// What stands in front of the bytes of a unit at most.
const OVERHEAD_BYTES_MAX: usize = 8;
/// Of the longest packet there are fifty, with one more for each change from small units to large.
const PIECES_MAX: usize = 256;

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test may fail where it is wrong")]
#[path = "cut_tests.rs"]
mod tests;
