//! BYE of sources that are pulled (RFC 3550 s6.6).
//!
//! Cameras that change their SSRC send BYE for the old one and continue. So a source has ended when
//! all of its tracks have sent BYE and no packet has arrived for `BYE_WAIT`, or for twice the
//! longest recent gap between its packets: some cameras send a frame every few seconds. A source
//! that sends BYE before its gaps are known gets `BYE_WAIT_MAX`.

use std::time::Duration;

use crate::base::ids::Ssrc;
use crate::base::time::Mono;
use crate::live::core::demux::Target;
use crate::live::core::meter::Gaps;
use crate::live::hub::Hub;
use crate::live::sources::Sources;
use crate::live::sources::publisher::Publisher;
use crate::live::sources::pull::PullError;
use crate::session::cx::Cx;

impl Sources {
    /// A track has sent BYE. When all tracks have, and no packet follows, the source has ended;
    /// cameras that change their SSRC send BYE for the old one and continue.
    pub(crate) fn handle_pull_bye(&mut self, cx: &Cx, target: Target, by: Ssrc) {
        let Some(pull) = self.pulls.get_mut(&target.source) else { return };
        let Some(publisher) = self.publishers.get(&target.source) else { return };
        let of = |track| publisher.source.track(track).and_then(|track| track.ssrc());
        if of(target.track) != Some(by) {
            return;
        }
        pull.byes |= 1_u16.checked_shl(target.track.into()).unwrap_or(0);
        let count = u8::try_from(publisher.tracks.len()).unwrap_or(u8::MAX);
        let is_left = |track: &u8| of(*track).is_some() && pull.byes >> (*track).min(15) & 1 == 0;
        if !(0..count).any(|track| is_left(&track)) {
            // A later BYE replaces the earlier one if packets arrived in between.
            let is_new = |said: Mono| newest_packet(publisher) > Some(said);
            if pull.all_said_bye.is_none_or(is_new) {
                pull.all_said_bye = Some(cx.now);
            }
        }
    }

    /// Ends a source whose BYE is old enough, unless packets have followed.
    pub(crate) fn settle_bye(&mut self, cx: &mut Cx, hub: &mut Hub, number: u32) {
        let Some(pull) = self.pulls.get_mut(&number) else { return };
        let Some(said) = pull.all_said_bye else { return };
        let publisher = self.publishers.get(&number);
        let goes_on = publisher.and_then(newest_packet) > Some(said);
        let wait = publisher.map_or(BYE_WAIT, |publisher| wait_of(publisher.source.gaps()));
        let is_over = !goes_on && cx.now.since(said) >= wait;
        if goes_on || is_over {
            (pull.all_said_bye, pull.byes) = (None, 0);
        }
        if is_over {
            self.with_pull(cx, hub, number, |client| client.fail(PullError::Bye));
        }
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
