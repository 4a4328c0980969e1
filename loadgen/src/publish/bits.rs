//! Writes the bits of H.264 headers: fixed-length and Exp-Golomb codes, and the escapes.
//!
//! Rec. ITU-T H.264, 7.2, 7.4.1.1, 9.1. Bound: a header is a few dozen bytes.

/// Bits, from the highest of each byte on.
#[derive(Debug, Default)]
pub struct Bits {
    bytes: Vec<u8>,
    free_bits: u32,
}

impl Bits {
    /// `u(count)`: the lowest `count` bits of `value`.
    #[must_use]
    pub fn u(mut self, count: u32, value: u32) -> Self {
        for at in (0..count).rev() {
            if self.free_bits == 0 {
                self.bytes.push(0);
                self.free_bits = 8;
            }
            self.free_bits -= 1;
            if let Some(last) = self.bytes.last_mut() {
                *last |= u8::from((value >> at) & 1 == 1) << self.free_bits;
            }
        }
        self
    }

    /// `ue(v)`.
    #[must_use]
    pub fn ue(self, value: u32) -> Self {
        let code = value.saturating_add(1);
        let length = code.ilog2();
        self.u(length, 0).u(length + 1, code)
    }

    /// Zeros up to the end of the byte.
    #[must_use]
    pub fn aligned(mut self) -> Vec<u8> {
        self.free_bits = 0;
        self.bytes
    }

    /// `rbsp_trailing_bits`, and the end.
    #[must_use]
    pub fn closed(self) -> Vec<u8> {
        self.u(1, 1).aligned()
    }
}

/// Appends `bytes` so that no row of them looks like the start of another NAL unit.
pub fn push_escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut zeros = 0;
    for &byte in bytes {
        if zeros >= 2 && byte <= 3 {
            out.push(3);
            zeros = 0;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_table() {
        // H.264 table 9-2: 0 1 2 3 7 8 as 1, 010, 011, 00100, 0001000, 0001001.
        let bits = Bits::default().ue(0).ue(1).ue(2).ue(3).ue(7).ue(8).closed();
        assert_eq!(bits, [0b1010_0110, 0b0100_0001, 0b0000_0010, 0b0110_0000]);
        assert_eq!(Bits::default().u(3, 0b101).aligned(), [0b1010_0000]);
    }

    #[test]
    fn rows_of_zeros_are_broken() {
        let mut out = Vec::new();
        push_escaped(&mut out, &[0, 0, 0, 0, 1, 9]);
        assert_eq!(out, [0, 0, 3, 0, 0, 3, 1, 9]);
    }
}
