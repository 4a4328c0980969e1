//! Sequence headers of AV1 (s5.5).

use super::SampleFormat;
use super::bits::Bits;
use crate::base::leb128;

/// What a sequence header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Av1Sequence {
    /// `seq_profile`.
    pub profile: u8,
    /// `seq_level_idx[0]`.
    pub level_idx: u8,
    /// `seq_tier[0]`.
    pub tier: u8,
    /// Chroma and bit depth.
    pub format: SampleFormat,
    /// `chroma_sample_position`.
    pub chroma_position: u8,
    /// Width and height in pixels at most.
    pub size_pixels: (u32, u32),
}

/// Finds the sequence header among low-overhead OBUs (s5.2) and reads it.
#[must_use]
pub fn read_av1(obus: &[u8]) -> Option<Av1Sequence> {
    let mut rest = obus;
    for _ in 0..OBUS_MAX {
        let (&header, behind) = rest.split_first()?;
        let skip = usize::from(header >> 2 & 1);
        let behind = behind.get(skip..)?;
        let (bytes, body) = match header >> 1 & 1 {
            1 => leb128::read(behind)?,
            _ => (behind.len(), behind),
        };
        let payload = body.get(..bytes)?;
        if header >> 3 & 0xf == SEQUENCE_HEADER {
            return read_header(payload);
        }
        rest = body.get(bytes..)?;
    }
    None
}

fn read_header(payload: &[u8]) -> Option<Av1Sequence> {
    let mut bits = Bits::plain(payload);
    let profile = bits.take_u8(3)?;
    bits.flag()?;
    let is_reduced = bits.flag()?;
    let (level_idx, tier) =
        if is_reduced { (bits.take_u8(5)?, 0) } else { read_operating_points(&mut bits)? };
    let (width_bits, height_bits) = (bits.take(4)? + 1, bits.take(4)? + 1);
    let size_pixels =
        (bits.take(width_bits)?.checked_add(1)?, bits.take(height_bits)?.checked_add(1)?);
    if !is_reduced && bits.flag()? {
        bits.skip(7)?;
    }
    bits.skip(3)?;
    if !is_reduced {
        bits.skip(4)?;
        let has_order_hint = bits.flag()?;
        if has_order_hint {
            bits.skip(2)?;
        }
        let forces_screen_content = if bits.flag()? { true } else { bits.flag()? };
        if forces_screen_content && !bits.flag()? {
            bits.flag()?;
        }
        if has_order_hint {
            bits.skip(3)?;
        }
    }
    bits.skip(3)?;
    let (format, chroma_position) = read_color(&mut bits, profile)?;
    Some(Av1Sequence { profile, level_idx, tier, format, chroma_position, size_pixels })
}

/// Level and tier of the first operating point.
fn read_operating_points(bits: &mut Bits) -> Option<(u8, u8)> {
    let mut delay_bits = None;
    if bits.flag()? {
        bits.skip(64)?;
        if bits.flag()? {
            bits.ue()?;
        }
        if bits.flag()? {
            delay_bits = Some(usize::from(bits.take_u8(5)?) + 1);
            bits.skip(32 + 5 + 5)?;
        }
    }
    let has_delays = bits.flag()?;
    let mut first = None;
    for _ in 0..=bits.take(5)? {
        bits.skip(12)?;
        let level = bits.take_u8(5)?;
        let tier = if level > 7 { u8::from(bits.flag()?) } else { 0 };
        if let Some(delay_bits) = delay_bits
            && bits.flag()?
        {
            bits.skip(2 * delay_bits + 1)?;
        }
        if has_delays && bits.flag()? {
            bits.skip(4)?;
        }
        first.get_or_insert((level, tier));
    }
    first
}

fn read_color(bits: &mut Bits, profile: u8) -> Option<(SampleFormat, u8)> {
    let is_high = bits.flag()?;
    let depth = match (profile, is_high) {
        (2, true) => {
            if bits.flag()? {
                12
            } else {
                10
            }
        }
        (_, true) => 10,
        (_, false) => 8,
    };
    let is_mono = profile != 1 && bits.flag()?;
    let mut description = [2; 3];
    if bits.flag()? {
        for value in &mut description {
            *value = bits.take_u8(8)?;
        }
    }
    let of = |chroma_format| SampleFormat { chroma_format, luma_bits: depth, chroma_bits: depth };
    if is_mono {
        return Some((of(0), 0));
    }
    if description == SRGB {
        return Some((of(3), 0));
    }
    bits.flag()?;
    let chroma_format = match profile {
        0 => 1,
        1 => 3,
        _ if depth == 12 => {
            // Subsampled across, and then down or not.
            let is_across = bits.flag()?;
            match is_across && bits.flag()? {
                true => 1,
                false if is_across => 2,
                false => 3,
            }
        }
        _ => 2,
    };
    let position = if chroma_format == 1 { bits.take_u8(2)? } else { 0 };
    Some((of(chroma_format), position))
}

/// `OBU_SEQUENCE_HEADER`.
const SEQUENCE_HEADER: u8 = 1;
/// BT.709 primaries, sRGB transfer, identity matrix.
const SRGB: [u8; 3] = [1, 13, 0];
/// OBUs that are looked at.
const OBUS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Of libaom, 320x240, 8 bits, 4:2:0.
    const HEADER: &[u8] =
        &[0x0a, 0x0b, 0x00, 0x00, 0x00, 0x04, 0x3c, 0xff, 0xbd, 0xbf, 0xf9, 0x80, 0x04];

    #[test]
    fn header_is_found_behind_other_obus() {
        let read = read_av1(&[&[0x12, 0x00], HEADER].concat()).unwrap();
        assert_eq!((read.profile, read.level_idx, read.tier), (0, 0, 0));
        assert_eq!(read.size_pixels.0, 320);
        assert_eq!(read.format.luma_bits, 8);
        assert_eq!(read_av1(HEADER.get(..6).unwrap()), None);
        assert_eq!(read_av1(&[]), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _read = read_av1(&bytes);
            let _read = read_header(&bytes);
        }
    }
}
