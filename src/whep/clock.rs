//! RTP times of one track of one viewer, who may begin in the past.
//!
//! ```text
//!  path    key . . . . . . . . . now . . . .      the newest group, then what comes
//!  viewer  key.......... now . . . .              the past takes a fraction of its time
//! ```
//! A browser shows pictures by their times. So those between the newest key frame and the present,
//! which come in one burst, get times that are as close together, and the viewer is not as late as
//! the key frame is old. Their order stays, that of reordered pictures too.
//!
//! Invariant: within 2^31 ticks a later time of the path is a later one of the viewer.

use crate::base::ids::RtpTs;
use crate::live::core::clock::ticks_between;

/// Times of a track: see the module.
#[derive(Debug, Clone)]
pub(super) struct ViewerClock {
    /// A time of the path, and that of the viewer: the first one, later the first of the present.
    path: RtpTs,
    viewer: RtpTs,
    /// Newest time of the path so far.
    newest: RtpTs,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// What is sent lies in the past.
    Past,
    /// The present; reordered pictures of the past may still come.
    Seam,
    /// Times differ by a constant.
    Present,
}

impl ViewerClock {
    /// A track that begins with the picture at `path`.
    pub(super) fn new(path: RtpTs, viewer: RtpTs, is_past: bool) -> Self {
        let phase = if is_past { Phase::Past } else { Phase::Seam };
        Self { path, viewer, newest: path, phase }
    }

    /// The viewer's time for one of the path.
    pub(super) fn map(&mut self, ts: RtpTs) -> RtpTs {
        let ticks = ticks_between(self.path, ts);
        if ticks_between(self.newest, ts) > 0 {
            self.newest = ts;
        }
        let is_past = match self.phase {
            Phase::Past => true,
            Phase::Seam => ticks < 0,
            Phase::Present => false,
        };
        if self.phase == Phase::Seam && ticks > SEAM_TICKS {
            self.phase = Phase::Present;
        }
        let ticks = if is_past { ticks / PAST_SPEED } else { ticks };
        self.viewer.offset_ticks(ticks.into())
    }

    /// What comes from now on is the present.
    pub(super) fn end_past(&mut self) {
        if self.phase == Phase::Past {
            self.viewer = self.map(self.newest);
            self.path = self.newest;
            self.phase = Phase::Seam;
        }
    }
}

/// How much closer together pictures of the past are. Of a thousand a second each still has a time
/// of its own: a tick.
const PAST_SPEED: i32 = 64;
/// Reordered pictures do not come so late.
const SEAM_TICKS: i32 = 90_000 * 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_is_pressed_together_and_the_present_goes_at_its_own_speed() {
        let mut clock = ViewerClock::new(RtpTs(1_000), RtpTs(50_000), true);
        let mut map = |ts| clock.map(RtpTs(ts)).0;
        assert_eq!([map(1_000), map(1_000 + 6_400), map(1_000 + 3_200)], [50_000, 50_100, 50_050]);
        assert_eq!(map(1_000 + 64_000), 51_000);
        clock.end_past();
        let mut map = |ts| clock.map(RtpTs(ts)).0;
        assert_eq!(map(65_000 + 3_600), 51_000 + 3_600);
        assert_eq!(map(65_000 - 6_400), 51_000 - 100, "a reordered picture of the past");
        assert_eq!(map(65_000 + 7_200), 51_000 + 7_200);
    }

    #[test]
    fn times_of_the_present_differ_by_a_constant_round_the_circle() {
        let mut clock = ViewerClock::new(RtpTs(u32::MAX - 10), RtpTs(7), false);
        let mut ts = RtpTs(u32::MAX - 10);
        for _ in 0..100_000 {
            assert_eq!(clock.map(ts).0, ts.0.wrapping_add(18));
            ts = ts.offset_ticks(90_000);
        }
    }
}
