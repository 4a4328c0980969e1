//! BYE of sources that are pulled (RFC 3550 s6.6).
//!
//! Cameras that change their SSRC say BYE for the old one and go on. So a source has ended when all
//! of its tracks have said BYE and no packet has come for `BYE_WAIT`.

use std::time::Duration;

use super::PullError;
use crate::base::ids::Ssrc;
use crate::live::demux::Target;
use crate::session::cx::Cx;
use crate::session::live::desk::Live;

impl Live {
    /// A track says BYE. When all have, and no packet comes behind it, nothing more will: cameras
    /// that change their SSRC say BYE for the old one.
    pub(in crate::session::live) fn handle_pull_bye(&mut self, cx: &Cx, target: Target, by: Ssrc) {
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
            pull.all_said_bye.get_or_insert(cx.now);
        }
    }

    /// Ends a source that has said BYE since the last tick or before, unless it goes on.
    pub(super) fn settle_bye(&mut self, cx: &mut Cx, number: u32) {
        let Some(pull) = self.pulls.get_mut(&number) else { return };
        let Some(said) = pull.all_said_bye.take_if(|said| cx.now.since(*said) >= BYE_WAIT) else {
            return;
        };
        pull.byes = 0;
        let publisher = self.publishers.get(&number);
        let tracks = (0_u8..).take(publisher.map_or(0, |publisher| publisher.tracks.len()));
        let newest =
            tracks.filter_map(|track| publisher?.source.track(track)?.meter().newest).max();
        if newest.is_none_or(|newest| newest <= said) {
            self.with_pull(cx, number, |client| client.fail(PullError::Bye));
        }
    }
}

/// Packets that come this long after BYE tell that the stream goes on: one a second is sent of a
/// picture that does not move.
const BYE_WAIT: Duration = Duration::from_secs(1);
