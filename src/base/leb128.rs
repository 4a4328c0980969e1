//! Numbers of seven bits a byte (AV1 s4.10.5), the lowest bits first.
//!
//! The highest bit of a byte says that another byte follows.
//!
//! Bound: eight bytes, so 56 bits.

/// The number that `bytes` begin with, and what is behind it.
#[must_use]
pub fn read(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0_u64;
    for (place, &byte) in bytes.iter().take(BYTES_MAX).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value).ok()?, bytes.get(place + 1..)?));
        }
    }
    None
}

/// Writes a number below 2^56 into `space`; the bytes that it takes.
#[must_use]
pub fn write(value: usize, space: &mut [u8; BYTES_MAX]) -> &[u8] {
    let (mut rest, mut length) = (value, 0);
    for byte in space.iter_mut() {
        *byte = u8::try_from(rest & 0x7f).unwrap_or(0);
        rest >>= 7;
        length += 1;
        if rest == 0 {
            break;
        }
        *byte |= 0x80;
    }
    space.get(..length).unwrap_or_default()
}

/// Of a number.
pub const BYTES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_and_the_rest_is_left(value in 0_usize..1 << 56, rest: [u8; 3]) {
            let mut space = [0; BYTES_MAX];
            let bytes = [write(value, &mut space), &rest].concat();
            proptest::prop_assert_eq!(read(&bytes), Some((value, &rest[..])));
            proptest::prop_assert_eq!(read(&bytes[..bytes.len() - 4]), None, "its end is missing");
        }
    }

    #[test]
    fn number_without_an_end_is_none() {
        assert_eq!(read(&[0x80; 9]), None);
        assert_eq!((read(&[]), read(&[0xe5, 0x8e, 0x26])), (None, Some((624_485, &[][..]))));
    }
}
