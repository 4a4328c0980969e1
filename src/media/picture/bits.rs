//! Bits of a parameter set, most significant first, and Exp-Golomb codes (H.264 s9.1).

/// Bytes of a set at most: those of real encoders have a few dozen, with scaling lists a few
/// hundred.
const SET_BYTES_MAX: usize = 4_096;
/// Leading zeros of a code at most: its value has 32 bits.
const ZEROS_MAX: u32 = 31;

/// A reader of bits.
#[derive(Debug)]
pub(super) struct Bits {
    bytes: Vec<u8>,
    at: usize,
}

impl Bits {
    /// Of a NAL unit's bytes behind its header, without emulation prevention bytes (H.264 s7.4.1).
    pub(super) fn of_nal(bytes: &[u8]) -> Self {
        let mut plain = Vec::with_capacity(bytes.len().min(SET_BYTES_MAX));
        let mut zeros = 0;
        for &byte in bytes.iter().take(SET_BYTES_MAX) {
            if zeros >= 2 && byte == 3 {
                zeros = 0;
                continue;
            }
            zeros = if byte == 0 { zeros + 1 } else { 0 };
            plain.push(byte);
        }
        Self { bytes: plain, at: 0 }
    }

    /// Of bytes as they are.
    pub(super) fn plain(bytes: &[u8]) -> Self {
        let end = bytes.len().min(SET_BYTES_MAX);
        Self { bytes: bytes.get(..end).unwrap_or_default().to_vec(), at: 0 }
    }

    pub(super) fn flag(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit == 1)
    }

    /// Up to 32 bits.
    pub(super) fn take(&mut self, count: u32) -> Option<u32> {
        (0..count).try_fold(0_u32, |value, _| Some(value << 1 | u32::from(self.flag()?)))
    }

    pub(super) fn take_u8(&mut self, count: u32) -> Option<u8> {
        u8::try_from(self.take(count)?).ok()
    }

    pub(super) fn skip(&mut self, count: usize) -> Option<()> {
        self.at = self.at.checked_add(count)?;
        (self.at <= self.bytes.len() * 8).then_some(())
    }

    /// `ue(v)`.
    pub(super) fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > ZEROS_MAX {
                return None;
            }
        }
        let rest = self.take(zeros)?;
        (1_u32 << zeros).checked_sub(1)?.checked_add(rest)
    }

    pub(super) fn ue_u8(&mut self) -> Option<u8> {
        u8::try_from(self.ue()?).ok()
    }

    /// `se(v)`.
    pub(super) fn se(&mut self) -> Option<i64> {
        let code = i64::from(self.ue()?);
        Some(if code % 2 == 0 { -(code / 2) } else { (code + 1) / 2 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_standard_and_emulation_prevention_is_left_out() {
        // 1 010 011 00100 00101 1....: 0, 1, 2, 3, 4, 0.
        let mut bits = Bits::plain(&[0b1010_0110, 0b0100_0010, 0b1100_0000]);
        let read: Vec<_> = (0..6).map_while(|_| bits.ue()).collect();
        assert_eq!(read, [0, 1, 2, 3, 4, 0]);
        let mut bits = Bits::plain(&[0b0100_1100, 0b1000_0101, 0]);
        let read: Vec<_> = (0..4).map_while(|_| bits.se()).collect();
        assert_eq!(read, [1, -1, 2, -2]);
        assert_eq!(Bits::of_nal(&[0, 0, 3, 1, 0, 0, 3, 0, 0]).bytes, [0, 0, 1, 0, 0, 0, 0]);
        assert_eq!(Bits::plain(&[0; 8]).ue(), None);
        assert_eq!(Bits::plain(&[]).flag(), None);
        assert_eq!(Bits::plain(&[0]).skip(9), None);
    }
}
