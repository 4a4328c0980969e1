//! Supplemental enhancement information (H.264 s7.3.2.3, H.265 s7.3.5): is a recovery point told?
//!
//! ```text
//! message: |ff ..|type|ff ..|size|payload|    one after the other, with emulation prevention
//! ```
//! An encoder with intra refresh sends no further IDR: it marks the picture from which on a decoder
//! comes to a whole picture (payload type 6 in both). Bound: `SEI_BYTES_MAX` bytes of a unit.
#![deny(clippy::indexing_slicing)]

/// Whether one of the messages behind the header of a unit is a recovery point.
pub(super) fn is_recovery_point(unit: &[u8]) -> bool {
    let unit = unit.get(..SEI_BYTES_MAX.min(unit.len())).unwrap_or_default();
    let mut bytes = unescaped(unit);
    // Each round takes two bytes at least.
    loop {
        let Some(kind) = number(&mut bytes) else { return false };
        let Some(size) = number(&mut bytes) else { return false };
        if kind == RECOVERY_POINT {
            return size > 0;
        }
        if size > 0 && bytes.nth(size - 1).is_none() {
            return false;
        }
    }
}

/// `ff` for each 255, and the rest.
fn number(bytes: &mut impl Iterator<Item = u8>) -> Option<usize> {
    let mut number = 0;
    loop {
        let byte = bytes.next()?;
        number += usize::from(byte);
        if byte != 0xff {
            return Some(number);
        }
    }
}

/// Without the 3 behind two zeros (H.264 s7.4.1, H.265 s7.4.2).
fn unescaped(bytes: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let mut zeros = 0;
    bytes.iter().copied().filter(move |byte| {
        let is_escape = zeros >= 2 && *byte == 3;
        zeros = if *byte == 0 { zeros + 1 } else { 0 };
        !is_escape
    })
}

const RECOVERY_POINT: usize = 6;
/// Messages in front of it are short: buffering period, picture timing. User data (a caption, the
/// settings of x264) comes in a unit of its own, or behind.
const SEI_BYTES_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn recovery_point_is_found_among_other_messages() {
        let long = [&[5, 255, 3][..], &[9; 258], &[6, 1, 0x84, 0x80]].concat();
        for (unit, expected) in [
            (&[6, 1, 0x84, 0x80][..], true),
            (&[1, 2, 7, 7, 6, 5, 0x84, 0, 0, 3, 0, 1, 0x80], true),
            // Sizes count bytes without emulation prevention.
            (&[0, 4, 0, 0, 3, 1, 9, 6, 1, 0x84, 0x80], true),
            (&[0, 4, 6, 1, 0x84, 0x80, 0x80], false),
            (&[5, 2, 6, 6, 0x80], false),
            (&[6, 0, 0x80], false),
            (&[6], false),
            (&[255, 255, 255], false),
            (&[], false),
            (&long, true),
        ] {
            assert_eq!(is_recovery_point(unit), expected, "{unit:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_looked_at_to_an_end(unit in prop::collection::vec(any::<u8>(), 0..3_000)) {
            is_recovery_point(&unit);
        }
    }
}
