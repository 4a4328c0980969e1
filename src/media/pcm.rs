//! Linear PCM: how a file stores a value, and how RTP carries it.
//!
//! ```text
//! stored   unsigned 8 | signed 8 16 24 32 | float 32 64, either byte order
//! sent     L16 (RFC 3551 s4.5.11) up to 16 bits, L24 (RFC 3190 s4) beyond, big-endian
//! ```
//! Invariant: a value of 16 or 24 bits is sent bit by bit; longer ones lose their lowest bits.

/// How a file stores the values of one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PcmLayout {
    /// Bytes from one value to the next: 1, 2, 3, 4, or 8 for floats.
    bytes: u8,
    coding: Coding,
    is_little_endian: bool,
    /// Unused bits above an integer value (lpcm: unpacked, aligned low).
    unused_bits: u8,
    /// Bits that mean something.
    bits: u8,
}

/// What the bits of a value mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    /// Offset binary.
    Unsigned,
    /// Two's complement.
    Signed,
    /// IEEE 754, full scale is 1.
    Float,
}

impl PcmLayout {
    /// Packed integers; `None` for a length that is none of 8, 16, 24, 32.
    #[must_use]
    pub fn integer(bits: u32, is_signed: bool, is_little_endian: bool) -> Option<Self> {
        let bits = u8::try_from(bits).ok().filter(|bits| matches!(bits, 8 | 16 | 24 | 32))?;
        let coding = if is_signed { Coding::Signed } else { Coding::Unsigned };
        Some(Self { bytes: bits / 8, coding, is_little_endian, unused_bits: 0, bits })
    }

    /// Floating point; `None` for a length that is neither 32 nor 64 bits.
    #[must_use]
    pub fn float(bits: u32, is_little_endian: bool) -> Option<Self> {
        let bits = u8::try_from(bits).ok().filter(|bits| matches!(bits, 32 | 64))?;
        let coding = Coding::Float;
        Some(Self { bytes: bits / 8, coding, is_little_endian, unused_bits: 0, bits })
    }

    /// Integers of `bits` in more bytes than they need, at the high or the low end.
    #[must_use]
    pub fn aligned(self, bits: u32, is_high: bool) -> Option<Self> {
        let bits = u8::try_from(bits).ok().filter(|bits| (1..=self.bits).contains(bits))?;
        if self.coding == Coding::Float {
            return (bits == self.bits).then_some(self);
        }
        let unused_bits = if is_high { 0 } else { self.bits - bits };
        Some(Self { unused_bits, bits, ..self })
    }

    /// Bytes of a value in the file.
    #[must_use]
    pub fn stored_bytes(self) -> usize {
        usize::from(self.bytes)
    }

    /// Bytes of a value in a packet: 2 or 3.
    #[must_use]
    pub fn sent_bytes(self) -> usize {
        if self.bits <= 16 && self.coding != Coding::Float { 2 } else { 3 }
    }

    /// Whether the bytes of the file are those of a packet.
    #[must_use]
    pub fn is_sent_as_stored(self) -> bool {
        let is_plain = self.coding == Coding::Signed && self.unused_bits == 0;
        is_plain && !self.is_little_endian && self.stored_bytes() == self.sent_bytes()
    }

    /// Appends the values of `stored` as they are sent; a part of a value at the end is left out.
    pub fn convert(self, stored: &[u8], out: &mut Vec<u8>) {
        let sent_bytes = self.sent_bytes();
        for value in stored.chunks_exact(self.stored_bytes()) {
            let [high, middle, low, _] = self.full_scale(value).to_be_bytes();
            match sent_bytes {
                2 => out.extend_from_slice(&[high, middle]),
                _ => out.extend_from_slice(&[high, middle, low]),
            }
        }
    }

    /// A value on the scale of 32 bits.
    fn full_scale(self, value: &[u8]) -> i32 {
        let mut raw = 0u64;
        let mut push = |byte: &u8| raw = raw << 8 | u64::from(*byte);
        if self.is_little_endian {
            value.iter().rev().for_each(&mut push);
        } else {
            value.iter().for_each(&mut push);
        }
        let low = u32::try_from(raw & u64::from(u32::MAX)).unwrap_or(0);
        let top = || low << (32 - 8 * u32::from(self.bytes)) << self.unused_bits;
        match (self.coding, self.bytes) {
            (Coding::Float, 8) => of_float(f64::from_bits(raw)),
            (Coding::Float, _) => of_float(f64::from(f32::from_bits(low))),
            (Coding::Signed, _) => top().cast_signed(),
            (Coding::Unsigned, _) => (top() ^ 1 << 31).cast_signed(),
        }
    }
}

/// Rounded to 24 bits; beyond full scale clipped, not a number is silence.
fn of_float(value: f64) -> i32 {
    const SCALE: f64 = 8_388_608.0;
    #[expect(clippy::cast_possible_truncation, reason = "clamped; `as` makes 0 of not-a-number")]
    let rounded = (value * SCALE).round().clamp(-SCALE, SCALE - 1.0) as i32;
    rounded << 8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sent(layout: PcmLayout, stored: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        layout.convert(stored, &mut out);
        out
    }

    fn integer(bits: u32, is_signed: bool, is_little: bool) -> PcmLayout {
        PcmLayout::integer(bits, is_signed, is_little).unwrap()
    }

    #[test]
    fn each_layout_becomes_big_endian_16_or_24_bits() {
        for (layout, stored, expected) in [
            (integer(8, false, false), &[0x00, 0x80, 0xff][..], &[0x80, 0, 0, 0, 0x7f, 0][..]),
            (integer(8, true, true), &[0x80, 0x7f], &[0x80, 0, 0x7f, 0]),
            (integer(16, true, true), &[0x34, 0x12], &[0x12, 0x34]),
            (integer(16, true, false), &[0x12, 0x34], &[0x12, 0x34]),
            (integer(16, false, true), &[0x00, 0x80], &[0, 0]),
            (integer(24, true, true), &[3, 2, 1], &[1, 2, 3]),
            (integer(32, true, true), &[4, 3, 2, 1], &[1, 2, 3]),
            (integer(32, true, false), &[1, 2, 3, 4], &[1, 2, 3]),
            (PcmLayout::float(32, true).unwrap(), &0.5f32.to_le_bytes(), &[0x40, 0, 0]),
            (PcmLayout::float(32, false).unwrap(), &(-1f32).to_be_bytes(), &[0x80, 0, 0]),
            (PcmLayout::float(64, true).unwrap(), &1f64.to_le_bytes(), &[0x7f, 0xff, 0xff]),
            (PcmLayout::float(64, false).unwrap(), &f64::NAN.to_be_bytes(), &[0, 0, 0]),
            (PcmLayout::float(32, false).unwrap(), &f32::INFINITY.to_be_bytes(), &[127, 255, 255]),
        ] {
            assert_eq!(sent(layout, stored), expected, "{layout:?}");
        }
    }

    #[test]
    fn values_in_wider_containers_are_aligned() {
        let wide = integer(32, true, false);
        let low = wide.aligned(24, false).unwrap();
        assert_eq!((sent(low, &[0xff, 0x80, 1, 2]), low.sent_bytes()), (vec![0x80, 1, 2], 3));
        let high = wide.aligned(20, true).unwrap();
        assert_eq!(sent(high, &[0x12, 0x34, 0x50, 0]), [0x12, 0x34, 0x50]);
        assert_eq!(integer(32, true, true).aligned(16, false).unwrap().sent_bytes(), 2);
        assert_eq!(wide.aligned(33, true), None);
        assert_eq!(PcmLayout::float(64, true).unwrap().aligned(32, true), None);
    }

    #[test]
    fn only_signed_big_endian_of_the_sent_length_is_sent_from_the_file() {
        let plain = [integer(16, true, false), integer(24, true, false)];
        assert!(plain.iter().all(|layout| layout.is_sent_as_stored()));
        for other in [
            integer(8, true, false),
            integer(16, false, false),
            integer(24, true, true),
            integer(32, true, false),
            integer(24, true, false).aligned(20, false).unwrap(),
        ] {
            assert!(!other.is_sent_as_stored(), "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn values_of_16_and_24_bits_come_through_bit_by_bit(value: i32, is_little: bool) {
            for bits in [16u32, 24] {
                let bytes = (bits / 8) as usize;
                let big = value.to_be_bytes()[..bytes].to_vec();
                let mut stored = big.clone();
                if is_little {
                    stored.reverse();
                }
                prop_assert_eq!(sent(integer(bits, true, is_little), &stored), big);
            }
        }
    }
}
