//! The time at which a packet was sent, inside its payload.
//!
//! ```text
//! packet  [ header | .. raw samples .. [hdnd.tx:][10 bytes of time] . ]      1 byte behind it
//!    or   [ header | .. [hdnd.tx:][10 bytes of time] .. 25 bytes .. . ]
//! ```
//! Payload gets to readers byte for byte, whatever a server does to headers. The time is that of
//! CLOCK_MONOTONIC, so both ends are on one host. Its bytes have their top bit set, seven bits of
//! the time each: no row of zeros comes about that would mean something to H.264.
//! The place is one of two, seen from the packet's end, because between raw samples there are
//! headers of macroblocks that must stay.
//!
//! Invariant: what was written is found, and nothing else but by a chance of 2^-64.

use crate::time::Mono;

/// Bytes of a stamp.
pub const STAMP_BYTES: usize = MARK.len() + TIME_BYTES;
/// Bytes behind a stamp, by choice of who writes it.
pub const BEHIND: [usize; 2] = [1, 25];

const MARK: [u8; 8] = *b"hdnd.tx:";
const TIME_BYTES: usize = 10;

/// Writes `now` so that `behind` bytes of the packet are behind it. A packet that is too short
/// stays as it is.
pub fn write(packet: &mut [u8], behind: usize, now: Mono) {
    let Some(first) = packet.len().checked_sub(behind + STAMP_BYTES) else { return };
    let Some(place) = packet.get_mut(first..first + STAMP_BYTES) else { return };
    let (mark, time) = place.split_at_mut(MARK.len());
    mark.copy_from_slice(&MARK);
    for (at, byte) in (0u32..).zip(time) {
        let bits = (now.as_ns() >> (7 * at)) & 0x7f;
        *byte = u8::try_from(bits).unwrap_or(0) | 0x80;
    }
}

/// When a packet was sent, if it says so.
#[must_use]
pub fn sent_at(packet: &[u8]) -> Option<Mono> {
    BEHIND.into_iter().find_map(|behind| {
        let first = packet.len().checked_sub(behind + STAMP_BYTES)?;
        let (mark, time) = packet.get(first..first + STAMP_BYTES)?.split_at(MARK.len());
        if mark != MARK {
            return None;
        }
        let bits = |sum: u64, byte: &u8| (sum << 7) | u64::from(byte & 0x7f);
        Some(Mono::from_ns(time.iter().rev().fold(0, bits)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_time_is_read_back_from_both_places_and_has_no_zeros(
            ns: u64, len in 43_usize..100, second: bool,
        ) {
            let behind = BEHIND[usize::from(second)];
            let mut packet = vec![1; len];
            prop_assert_eq!(sent_at(&packet), None);
            write(&mut packet, behind, Mono::from_ns(ns));
            prop_assert_eq!(sent_at(&packet), Some(Mono::from_ns(ns)));
            prop_assert!(packet.iter().all(|byte| *byte != 0));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(0u8.., 0..60)) {
            let mut packet = bytes;
            let _ = sent_at(&packet);
            write(&mut packet, 1, Mono::from_ns(7));
        }
    }
}
