//! What a node fetches to show that bytes of the base reach its disk again.
//!
//! ```text
//! base: Probe { number, bytes } --> node: GET /agent/v1/probe?number=N&bytes=B, to its disk
//!   <-- Probed { number, fault }          and back
//! ```
//! The bytes follow from the number, so that nobody takes them for those of an earlier probe, and
//! the base keeps nothing. Bound: `PROBE_MAX` bytes.

/// Bytes of the probe of this number; [`PROBE_MAX`] at most.
#[must_use]
pub fn bytes(number: u64, len: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(len.min(PROBE_MAX)).unwrap_or(0)];
    let mut hasher = blake3::Hasher::new_derive_key("headend node probe 1");
    hasher.update(&number.to_be_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

/// Bytes of a probe, if nobody says another number.
pub const PROBE_BYTES: u64 = 1 << 20;
/// And at most.
pub const PROBE_MAX: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_follow_from_the_number() {
        let one = bytes(1, PROBE_BYTES);
        assert_eq!(one.len(), 1 << 20);
        assert_eq!(bytes(1, 10), one[..10]);
        assert_ne!(bytes(2, 10), one[..10]);
        assert_eq!(bytes(1, u64::MAX).len() as u64, PROBE_MAX);
        assert_eq!(bytes(1, 0), [0; 0]);
    }
}
