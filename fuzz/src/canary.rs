//! A body with a planted fault: a fuzzer that works finds it, one that is broken does not.
//!
//! Each byte of a code is compared by itself, and a sum over those before it goes in. Blind chance
//! needs 2^48 inputs, a search that sees coverage a few thousand.

/// Panics for the code alone.
///
/// # Panics
/// For input that begins with the code.
pub fn canary(data: &[u8]) {
    let mut sum = 0x5a_u8;
    for (place, want) in CODE.iter().enumerate() {
        let Some(byte) = data.get(place) else { return };
        sum = sum.rotate_left(3) ^ byte;
        if sum != *want {
            return;
        }
    }
    panic!("the planted fault was found");
}

/// What the sum has to be behind each byte.
const CODE: [u8; 6] = [0x91, 0x4c, 0x0f, 0xd2, 0x37, 0xa8];
