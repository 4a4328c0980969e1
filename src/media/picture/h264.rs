//! Sequence parameter sets of H.264 (s7.3.2.1.1, Annex E).

use super::SampleFormat;
use super::bits::Bits;

/// What a sequence parameter set says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct H264Sequence {
    /// `profile_idc`.
    pub profile: u8,
    /// The byte of constraint flags.
    pub constraints: u8,
    /// `level_idc`.
    pub level: u8,
    /// Chroma and bit depth.
    pub format: SampleFormat,
    /// Width and height in pixels, cropped.
    pub size_pixels: (u32, u32),
    /// Pictures that may precede another one in decoding order and follow it in output order,
    /// where the set says so.
    pub reorder_max: Option<u8>,
}

/// Reads a sequence parameter set: a NAL unit with its header.
#[must_use]
pub fn read_h264(nalu: &[u8]) -> Option<H264Sequence> {
    let (header, rest) = nalu.split_first()?;
    if header & 0x1f != 7 {
        return None;
    }
    let mut bits = Bits::of_nal(rest);
    let (profile, constraints, level) = (bits.take_u8(8)?, bits.take_u8(8)?, bits.take_u8(8)?);
    bits.ue()?;
    let mut format = SampleFormat { chroma_format: 1, luma_bits: 8, chroma_bits: 8 };
    let mut planes_apart = false;
    if HIGH_PROFILES.contains(&profile) {
        format.chroma_format = bits.ue_u8()?;
        if format.chroma_format == 3 {
            planes_apart = bits.flag()?;
        }
        format.luma_bits = bits.ue_u8()?.checked_add(8)?;
        format.chroma_bits = bits.ue_u8()?.checked_add(8)?;
        bits.flag()?;
        if bits.flag()? {
            skip_scaling_lists(&mut bits, format.chroma_format)?;
        }
    }
    bits.ue()?;
    match bits.ue()? {
        0 => {
            bits.ue()?;
        }
        1 => {
            bits.flag()?;
            bits.se()?;
            bits.se()?;
            for _ in 0..bits.ue()?.min(255) {
                bits.se()?;
            }
        }
        _ => {}
    }
    bits.ue()?;
    bits.flag()?;
    let (columns, rows) = (bits.ue()?.checked_add(1)?, bits.ue()?.checked_add(1)?);
    let is_frames = bits.flag()?;
    if !is_frames {
        bits.flag()?;
    }
    bits.flag()?;
    let fields = if is_frames { 1 } else { 2 };
    let size = (columns.checked_mul(16)?, rows.checked_mul(16)?.checked_mul(fields)?);
    let crop = if bits.flag()? { [bits.ue()?, bits.ue()?, bits.ue()?, bits.ue()?] } else { [0; 4] };
    let chroma = if planes_apart { 0 } else { format.chroma_format };
    let (unit_x, unit_y) = match chroma {
        1 => (2, 2 * fields),
        2 => (2, fields),
        _ => (1, fields),
    };
    let [left, right, top, bottom] = crop;
    let cut = |whole: u32, a: u32, b: u32, unit: u32| {
        whole.checked_sub(a.checked_add(b)?.checked_mul(unit)?)
    };
    let size_pixels = (cut(size.0, left, right, unit_x)?, cut(size.1, top, bottom, unit_y)?);
    // What is behind is optional, and so is that it can be read.
    let reorder_max = read_reordering(&mut bits).flatten();
    Some(H264Sequence { profile, constraints, level, format, size_pixels, reorder_max })
}

fn skip_scaling_lists(bits: &mut Bits, chroma_format: u8) -> Option<()> {
    for list in 0..if chroma_format == 3 { 12 } else { 8 } {
        if !bits.flag()? {
            continue;
        }
        let (mut last, mut next) = (8_i64, 8_i64);
        for _ in 0..if list < 6 { 16 } else { 64 } {
            if next != 0 {
                next = (last + bits.se()?).rem_euclid(256);
            }
            last = if next == 0 { last } else { next };
        }
    }
    Some(())
}

/// `max_num_reorder_frames` of the video usability information; `None` inside when it has none.
fn read_reordering(bits: &mut Bits) -> Option<Option<u8>> {
    if !bits.flag()? {
        return Some(None);
    }
    if bits.flag()? && bits.take(8)? == 255 {
        bits.skip(32)?;
    }
    if bits.flag()? {
        bits.flag()?;
    }
    if bits.flag()? {
        bits.skip(4)?;
        if bits.flag()? {
            bits.skip(24)?;
        }
    }
    if bits.flag()? {
        bits.ue()?;
        bits.ue()?;
    }
    if bits.flag()? {
        bits.skip(65)?;
    }
    let mut has_decoder_model = false;
    for _ in 0..2 {
        if bits.flag()? {
            has_decoder_model = true;
            let count = bits.ue()?.min(31) + 1;
            bits.skip(8)?;
            for _ in 0..count {
                bits.ue()?;
                bits.ue()?;
                bits.flag()?;
            }
            bits.skip(20)?;
        }
    }
    if has_decoder_model {
        bits.flag()?;
    }
    bits.flag()?;
    if !bits.flag()? {
        return Some(None);
    }
    bits.flag()?;
    for _ in 0..4 {
        bits.ue()?;
    }
    bits.ue_u8().map(Some)
}

/// Profiles whose sets have chroma and bit depth (s7.3.2.1.1).
const HIGH_PROFILES: [u8; 13] = [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Of x264, 1920x1080, High, with B-frames, from the box crate's tests.
    const HIGH: &[u8] = &[
        0x27, 0x64, 0x00, 0x2A, 0xAC, 0x24, 0x8C, 0x07, 0x80, 0x22, 0x7E, 0x5C, 0x04, 0x40, 0x00,
        0x00, 0x03, 0x00, 0x40, 0x00, 0x00, 0x1E, 0x38, 0xA0, 0x00, 0x0B, 0x71, 0xB0, 0x00, 0x16,
        0xE3, 0x7B, 0xDE, 0xE0, 0x3E, 0x11, 0x08, 0xA7,
    ];

    #[test]
    fn size_is_cropped_and_profile_is_that_of_the_first_bytes() {
        let read = read_h264(HIGH).unwrap();
        assert_eq!((read.profile, read.level, read.size_pixels), (100, 42, (1920, 1080)));
        assert_eq!(read.format, SampleFormat { chroma_format: 1, luma_bits: 8, chroma_bits: 8 });
        assert_eq!(read_h264(HIGH.get(..8).unwrap()), None);
        assert_eq!(read_h264(&[0x68, 1, 2, 3]), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 1..64)) {
            let _read = read_h264(&[&[0x67], bytes.as_slice()].concat());
        }
    }
}
