//! The numbers that all players of a title begin with.
//!
//! A player is an RTP session by itself, so SSRCs and first numbers of different players need not
//! differ, and packets that are the same for all can stand in memory once. They are random for each
//! opened title, as RFC 3550 s5.1 wants them against guessing: who has not seen a player of the
//! title does not know them. Who encrypts takes numbers of its own.

use crate::base::ids::Ssrc;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WireBase(u64);

impl WireBase {
    /// From a random number.
    #[must_use]
    pub const fn new(random: u64) -> Self {
        Self(random)
    }

    /// The number that it was made from.
    #[must_use]
    pub const fn random(self) -> u64 {
        self.0
    }

    /// SSRC of a track, and what its first sequence number and RTP time are made of. Tracks of one
    /// title differ.
    #[must_use]
    pub fn of_track(self, track_index: u8) -> (Ssrc, u64) {
        let step = |number: u64| mix(self.0.wrapping_add(GOLDEN.wrapping_mul(number)));
        let first = 2 * u64::from(track_index) + 1;
        let [a, b, c, d, ..] = step(first).to_be_bytes();
        // The low byte is the track, so SSRCs of tracks cannot meet.
        let ssrc = u32::from_be_bytes([a, b, c, d]) & !0xff | u32::from(track_index);
        (Ssrc(ssrc), step(first + 1))
    }
}

/// The finaliser of SplitMix64.
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tracks_of_a_title_differ_and_two_titles_share_nothing() {
        let (one, other) = (WireBase::new(1), WireBase::new(2));
        let mut ssrcs: Vec<u32> = (0..=u8::MAX).map(|track| one.of_track(track).0.0).collect();
        ssrcs.extend((0..=u8::MAX).map(|track| other.of_track(track).0.0));
        ssrcs.sort_unstable();
        ssrcs.dedup();
        assert_eq!(ssrcs.len(), 512);
        assert_eq!(one.of_track(3), WireBase::new(1).of_track(3), "the same for all players");
    }
}
