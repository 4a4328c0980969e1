//! Sequence parameter sets of H.265 (s7.3.2.2, s7.3.3).

use super::SampleFormat;
use super::bits::Bits;

/// What a sequence parameter set says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct H265Sequence {
    /// The twelve bytes of `profile_tier_level` for all layers, the level last: as in `hvcC`.
    pub profile_tier_level: [u8; 12],
    /// Temporal layers.
    pub layers: u8,
    /// `sps_temporal_id_nesting_flag`.
    pub is_nested: bool,
    /// Chroma and bit depth.
    pub format: SampleFormat,
    /// Width and height in pixels, cropped.
    pub size_pixels: (u32, u32),
    /// Pictures that may precede another one in decoding order and follow it in output order.
    pub reorder_max: u8,
}

/// Reads a sequence parameter set: a NAL unit with its header.
#[must_use]
pub fn read_h265(nalu: &[u8]) -> Option<H265Sequence> {
    let ([first, _], rest) = nalu.split_first_chunk::<2>()?;
    if first >> 1 & 0x3f != 33 {
        return None;
    }
    let mut bits = Bits::of_nal(rest);
    bits.skip(4)?;
    let sub_layers = bits.take_u8(3)?;
    let is_nested = bits.flag()?;
    let mut profile_tier_level = [0; 12];
    for byte in &mut profile_tier_level {
        *byte = bits.take_u8(8)?;
    }
    skip_sub_layers(&mut bits, sub_layers)?;
    bits.ue()?;
    let chroma_format = bits.ue_u8()?;
    let planes_apart = chroma_format == 3 && bits.flag()?;
    let (width, height) = (bits.ue()?, bits.ue()?);
    let crop = if bits.flag()? { [bits.ue()?, bits.ue()?, bits.ue()?, bits.ue()?] } else { [0; 4] };
    let (unit_x, unit_y) = match if planes_apart { 0 } else { chroma_format } {
        1 => (2, 2),
        2 => (2, 1),
        _ => (1, 1),
    };
    let [left, right, top, bottom] = crop;
    let cut = |whole: u32, a: u32, b: u32, unit: u32| {
        whole.checked_sub(a.checked_add(b)?.checked_mul(unit)?)
    };
    let size_pixels = (cut(width, left, right, unit_x)?, cut(height, top, bottom, unit_y)?);
    let luma_bits = bits.ue_u8()?.checked_add(8)?;
    let chroma_bits = bits.ue_u8()?.checked_add(8)?;
    bits.ue()?;
    let first = if bits.flag()? { 0 } else { sub_layers };
    let mut reorder_max = 0;
    for _ in first..=sub_layers {
        bits.ue()?;
        reorder_max = bits.ue_u8()?;
        bits.ue()?;
    }
    Some(H265Sequence {
        profile_tier_level,
        layers: sub_layers + 1,
        is_nested,
        format: SampleFormat { chroma_format, luma_bits, chroma_bits },
        size_pixels,
        reorder_max,
    })
}

fn skip_sub_layers(bits: &mut Bits, sub_layers: u8) -> Option<()> {
    let mut present = [(false, false); 8];
    for layer in present.iter_mut().take(sub_layers.into()) {
        *layer = (bits.flag()?, bits.flag()?);
    }
    if sub_layers > 0 {
        bits.skip(2 * usize::from(8 - sub_layers))?;
    }
    for (has_profile, has_level) in present {
        bits.skip(if has_profile { 88 } else { 0 } + if has_level { 8 } else { 0 })?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 1280x720, Main, level 4, from the box crate's tests.
    const MAIN: &[u8] = &[
        66, 1, 1, 1, 96, 0, 0, 3, 0, 0, 3, 0, 0, 3, 0, 0, 3, 0, 120, 160, 2, 128, 128, 45, 31, 229,
        249, 36, 109, 158, 217,
    ];

    #[test]
    fn set_gives_what_a_configuration_record_needs() {
        let read = read_h265(MAIN).unwrap();
        assert_eq!(read.profile_tier_level, [1, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 120]);
        assert_eq!((read.layers, read.is_nested, read.size_pixels), (1, true, (1280, 720)));
        assert_eq!(read.format, SampleFormat { chroma_format: 1, luma_bits: 8, chroma_bits: 8 });
        assert_eq!(read_h265(MAIN.get(..12).unwrap()), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 2..64)) {
            let _read = read_h265(&[&[0x42], bytes.as_slice()].concat());
        }
    }
}
