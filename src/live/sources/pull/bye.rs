//! BYE of sources that are pulled (RFC 3550 s6.6).
//!
//! Cameras that change their SSRC send BYE for the old one and continue. So a source has ended when
//! all of its tracks have sent BYE and no packet has arrived for `BYE_WAIT`, or for twice the
//! longest recent gap between its packets: some cameras send a frame every few seconds. A source
//! that sends BYE before its gaps are known gets `BYE_WAIT_MAX`.

use std::time::Duration;

use crate::base::ids::Ssrc;
use crate::base::time::Mono;
use crate::live::core::meter::Gaps;
use crate::live::sources::publisher::Publisher;

impl Publisher {
    /// A track of a camera has sent BYE. When all tracks have, and no packet follows, the source
    /// has ended; cameras that change their SSRC send BYE for the old one and continue.
    pub(crate) fn handle_bye(&mut self, track: u8, by: Ssrc, now: Mono) {
        let source = &self.source;
        let of = |track| source.track(track).and_then(|track| track.ssrc());
        if of(track) != Some(by) {
            return;
        }
        self.byes |= 1_u16.checked_shl(track.into()).unwrap_or(0);
        let count = u8::try_from(self.tracks.len()).unwrap_or(u8::MAX);
        let byes = self.byes;
        let is_left = |track: &u8| of(*track).is_some() && byes >> (*track).min(15) & 1 == 0;
        if !(0..count).any(|track| is_left(&track)) {
            // A later BYE replaces the earlier one if packets arrived in between.
            let is_new = |said: Mono| newest_packet(self) > Some(said);
            if self.all_said_bye.is_none_or(is_new) {
                self.all_said_bye = Some(now);
            }
        }
    }

    /// Whether the source has ended by a BYE that is old enough, without packets after it.
    pub(crate) fn has_said_bye(&mut self, now: Mono) -> bool {
        let Some(said) = self.all_said_bye else { return false };
        let goes_on = newest_packet(self) > Some(said);
        let is_over = !goes_on && now.since(said) >= wait_of(self.source.gaps());
        if goes_on || is_over {
            (self.all_said_bye, self.byes) = (None, 0);
        }
        is_over
    }
}

/// Arrival of the newest packet of any track.
fn newest_packet(publisher: &Publisher) -> Option<Mono> {
    let tracks = (0_u8..).take(publisher.tracks.len());
    tracks.filter_map(|track| publisher.source.track(track)?.meter().newest).max()
}

/// Time without packets after BYE until a source has ended.
fn wait_of(gaps: &Gaps) -> Duration {
    if gaps.heard_for() < BYE_WAIT {
        return BYE_WAIT_MAX;
    }
    gaps.longest().saturating_mul(2).clamp(BYE_WAIT, BYE_WAIT_MAX)
}

/// Packets within this time after BYE show that the stream continues: a still scene is sent as one
/// frame a second.
const BYE_WAIT: Duration = Duration::from_secs(1);
/// Twice the frame interval of slow cameras: 12 s have been seen.
const BYE_WAIT_MAX: Duration = Duration::from_secs(24);
