//! Sample entries of linear PCM to [`PcmLayout`].
//!
//! QuickTime File Format "Sound Sample Descriptions" (sowt, twos, raw, NONE, in24, in32, fl32,
//! fl64; lpcm with the flags of version 2) and ISO 23003-5 (ipcm, fpcm with `pcmC`).

use super::boxes::{child, full_box, u16_at};
use super::error::FourCc;
use crate::media::pcm::PcmLayout;

/// What a sound description says about the values.
#[derive(Debug, Clone, Copy)]
pub(super) struct PcmFields<'a> {
    /// `sampleSize` of versions 0 and 1, `constBitsPerChannel` of version 2.
    pub(super) bits: u32,
    /// `formatSpecificFlags` and bytes of a frame of all channels, of version 2 alone.
    pub(super) version_2: Option<(u32, u32)>,
    pub(super) channels: u16,
    /// Boxes of the entry, or of its `wave`.
    pub(super) boxes: &'a [u8],
}

/// `None` when the entry is not one of PCM.
pub(super) fn pcm_layout(
    fourcc: [u8; 4],
    fields: PcmFields<'_>,
) -> Option<Result<PcmLayout, String>> {
    let PcmFields { bits, boxes, .. } = fields;
    let layout = match (&fourcc, fields.version_2) {
        // A description of version 2 is exact whatever the entry is called.
        (b"sowt" | b"twos" | b"lpcm" | b"in24" | b"in32" | b"fl32" | b"fl64", Some(_)) => {
            lpcm(fields)
        }
        (b"sowt", None) => PcmLayout::integer(bits, true, true),
        (b"twos", None) => PcmLayout::integer(bits, true, false),
        // Offset binary up to 8 bits, two's complement beyond.
        (b"raw " | b"NONE", _) => PcmLayout::integer(bits, bits > 8, false),
        (b"in24", None) => PcmLayout::integer(24, true, is_little(boxes)),
        (b"in32", None) => PcmLayout::integer(32, true, is_little(boxes)),
        (b"fl32", None) => PcmLayout::float(32, is_little(boxes)),
        (b"fl64", None) => PcmLayout::float(64, is_little(boxes)),
        (b"lpcm", None) => None,
        (b"ipcm", _) => {
            pcmc(boxes).and_then(|(little, bits)| PcmLayout::integer(bits, true, little))
        }
        (b"fpcm", _) => pcmc(boxes).and_then(|(little, bits)| PcmLayout::float(bits, little)),
        _ => return None,
    };
    let name = FourCc(fourcc);
    Some(layout.ok_or_else(|| format!("{name} with {bits} bits in this layout is not supported")))
}

fn lpcm(fields: PcmFields<'_>) -> Option<PcmLayout> {
    let (flags, frame_bytes) = fields.version_2?;
    let channels = u32::from(fields.channels);
    // Channels one after the other instead of interleaved exist only beside one channel.
    if flags & NON_INTERLEAVED != 0 && channels > 1 {
        return None;
    }
    let is_little = flags & BIG_ENDIAN == 0;
    let packed_bits = fields.bits.checked_next_multiple_of(8)?;
    let stored_bits = match frame_bytes.checked_div(channels) {
        Some(bytes) if bytes > 0 && frame_bytes.is_multiple_of(channels) => bytes.checked_mul(8)?,
        _ => packed_bits,
    };
    let stored = if flags & FLOAT == 0 {
        PcmLayout::integer(stored_bits, flags & SIGNED != 0, is_little)
    } else {
        PcmLayout::float(stored_bits, is_little)
    };
    let is_high = flags & (PACKED | ALIGNED_HIGH) != 0;
    stored?.aligned(fields.bits, is_high)
}

/// `enda`: 1 is little-endian.
fn is_little(boxes: &[u8]) -> bool {
    child(boxes, b"enda").and_then(|body| u16_at(body, 0)) == Some(1)
}

/// Little-endian, and bits, of a `pcmC`.
fn pcmc(boxes: &[u8]) -> Option<(bool, u32)> {
    let (_, _, rest) = full_box(child(boxes, b"pcmC")?)?;
    Some((rest.first()? & 1 == 1, u32::from(*rest.get(1)?)))
}

const FLOAT: u32 = 1;
const BIG_ENDIAN: u32 = 2;
const SIGNED: u32 = 4;
const PACKED: u32 = 8;
const ALIGNED_HIGH: u32 = 16;
const NON_INTERLEAVED: u32 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(
        fourcc: [u8; 4],
        bits: u32,
        version_2: Option<(u32, u32)>,
        boxes: &[u8],
    ) -> Option<Result<PcmLayout, String>> {
        pcm_layout(fourcc, PcmFields { bits, version_2, channels: 2, boxes })
    }

    fn integer(bits: u32, is_signed: bool, is_little: bool) -> Option<Result<PcmLayout, String>> {
        PcmLayout::integer(bits, is_signed, is_little).map(Ok)
    }

    fn float(bits: u32, is_little: bool) -> Option<Result<PcmLayout, String>> {
        PcmLayout::float(bits, is_little).map(Ok)
    }

    #[test]
    fn entries_of_versions_0_and_1_say_length_and_byte_order() {
        let little = [0, 0, 0, 10, b'e', b'n', b'd', b'a', 0, 1];
        assert_eq!(layout(*b"sowt", 16, None, &[]), integer(16, true, true));
        assert_eq!(layout(*b"sowt", 8, None, &[]), integer(8, true, true));
        assert_eq!(layout(*b"twos", 16, None, &[]), integer(16, true, false));
        assert_eq!(layout(*b"raw ", 8, None, &[]), integer(8, false, false));
        assert_eq!(layout(*b"NONE", 16, None, &[]), integer(16, true, false));
        // The size of in24 is written as 16.
        assert_eq!(layout(*b"in24", 16, None, &[]), integer(24, true, false));
        assert_eq!(layout(*b"in24", 16, None, &little), integer(24, true, true));
        assert_eq!(layout(*b"in32", 16, None, &little), integer(32, true, true));
        assert_eq!(layout(*b"fl32", 16, None, &little), float(32, true));
        assert_eq!(layout(*b"fl64", 16, None, &[]), float(64, false));
        assert_eq!(layout(*b"mp4a", 16, None, &[]), None);
    }

    #[test]
    fn flags_of_version_2_are_exact() {
        let lpcm = |bits, flags, bytes| layout(*b"lpcm", bits, Some((flags, bytes)), &[]);
        assert_eq!(lpcm(16, 0x0c, 4), integer(16, true, true));
        assert_eq!(lpcm(24, 0x0e, 6), integer(24, true, false));
        assert_eq!(lpcm(8, 0x0a, 2), integer(8, false, false));
        assert_eq!(lpcm(32, 0x09, 8), float(32, true));
        assert_eq!(lpcm(64, 0x0b, 16), float(64, false));
        // 24 bits in 4 bytes: at the low end, at the high end.
        let wide = PcmLayout::integer(32, true, false).unwrap();
        assert_eq!(lpcm(24, 0x06, 8), wide.aligned(24, false).map(Ok));
        assert_eq!(lpcm(24, 0x16, 8), wide.aligned(24, true).map(Ok));
        assert!(lpcm(16, 0x2c, 4).unwrap().is_err(), "channels apart");
        assert!(lpcm(80, 0x09, 20).unwrap().is_err());
        for bits in [u32::MAX, u32::MAX - 7] {
            for bytes in [0, 3, 4, u32::MAX] {
                assert!(lpcm(bits, 0x0c, bytes).unwrap().is_err(), "{bits} in {bytes}");
            }
        }
        assert!(layout(*b"lpcm", 16, None, &[]).unwrap().is_err(), "without its description");
    }

    #[test]
    fn configuration_of_the_standard_says_length_and_byte_order() {
        let config = |flags, bits| [0, 0, 0, 14, b'p', b'c', b'm', b'C', 0, 0, 0, 0, flags, bits];
        assert_eq!(layout(*b"ipcm", 16, None, &config(1, 24)), integer(24, true, true));
        assert_eq!(layout(*b"ipcm", 16, None, &config(0, 16)), integer(16, true, false));
        assert_eq!(layout(*b"fpcm", 32, None, &config(0, 64)), float(64, false));
        assert!(layout(*b"fpcm", 32, None, &config(0, 24)).unwrap().is_err());
        assert!(layout(*b"ipcm", 16, None, &[]).unwrap().is_err(), "no pcmC");
    }
}
