//! From a PLAY to the next command: how media time, wall time and RTP time belong together.
//!
//! ```text
//!  wall      |epoch.wall ----------------------> now        1 s a second
//!  decode    |epoch.due_zero --------> due(frame)           |scale| x speed
//!  npt       |epoch.npt -------------> npt(frame)           scale
//!  playout   |epoch.playout_ns ------> rtp time             npt / scale
//! ```
//! - A frame is due when its decode time comes, at `|scale| x speed` seconds a second.
//! - RTP time follows playout time: what a viewer's clock shows (RFC 2326 appendix B). At scale 2
//!   a 25 fps film still advances 3,600 ticks a frame when every second one is sent.
//! - Playout time goes on through a pause, as the wall clock does, so one mapping from NTP to RTP
//!   time holds and sender reports stay true across PAUSE, seek and resume.
//!
//! Invariant: RTP time never goes back from one epoch to the next.

use std::time::Duration;

use crate::base::time::{Mono, Npt};
use crate::media::window::{Frame, WindowKind};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Epoch {
    /// When the first frame is due.
    pub wall: Mono,
    /// Range start as told to the client.
    pub npt: Npt,
    /// Decode time of the first frame.
    pub due_zero: Npt,
    /// RFC 2326 s12.34; negative is reverse, never zero.
    pub scale: f64,
    /// RFC 2326 s12.35; above zero.
    pub speed: f64,
    /// Playout time at `npt`, from the start of the session.
    pub playout_ns: i64,
}

impl Epoch {
    /// When a frame of a stream that walks `kind` windows is due.
    #[must_use]
    pub fn wall_of(&self, frame: &Frame, kind: WindowKind) -> Mono {
        let media_ns = match kind {
            WindowKind::All => frame.due - self.due_zero,
            // Sync samples are shown as they come, so they are paced by what they show.
            // One that lies behind (a client that reads slowly) is due at once.
            WindowKind::Sync if self.scale < 0.0 => self.npt - frame.npt,
            WindowKind::Sync => frame.npt - self.npt,
        };
        self.wall.offset_ns(divide(media_ns, self.rate()))
    }

    /// When the presentation time `end` is reached.
    #[must_use]
    pub fn wall_of_npt(&self, end: Npt) -> Mono {
        let media_ns = if self.scale < 0.0 { self.npt - end } else { end - self.npt };
        self.wall.offset_ns(divide(media_ns.max(0), self.rate()))
    }

    /// Position in the presentation at `now`.
    #[must_use]
    pub fn npt_at(&self, now: Mono) -> Npt {
        Npt(self.npt.0.saturating_add(self.media_ns_since(now)))
    }

    /// The decode time that is due at `now`.
    #[must_use]
    pub fn due_at(&self, now: Mono) -> Npt {
        Npt(self.due_zero.0.saturating_add(self.media_ns_since(now)))
    }

    /// Playout time at `now`. Faster or slower delivery (Speed) moves it accordingly.
    #[must_use]
    pub fn playout_at(&self, now: Mono) -> i64 {
        self.playout_ns.saturating_add(multiply(self.wall_ns_since(now), self.speed))
    }

    /// RTP clock ticks from the epoch's start to a frame, given the ticks of the epoch's start
    /// (`anchor_ticks`, both from the start of the presentation). Exact at scale 1.
    #[must_use]
    pub fn rtp_delta(&self, frame: &Frame, anchor_ticks: i64) -> i64 {
        let delta = frame.rtp_ticks.saturating_sub(anchor_ticks);
        #[expect(clippy::float_cmp, reason = "1 is the value that means: no scaling")]
        let is_plain = self.scale == 1.0;
        if is_plain { delta } else { divide(delta, self.scale) }
    }

    fn rate(&self) -> f64 {
        self.scale.abs() * self.speed
    }

    fn wall_ns_since(&self, now: Mono) -> i64 {
        let ahead = i64::try_from(now.since(self.wall).as_nanos()).unwrap_or(i64::MAX);
        if ahead > 0 { ahead } else { -duration_ns(self.wall.since(now)) }
    }

    fn media_ns_since(&self, now: Mono) -> i64 {
        multiply(self.wall_ns_since(now).max(0), self.scale * self.speed)
    }
}

/// Nanoseconds of a duration, saturating.
#[must_use]
pub fn duration_ns(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "f64 holds 104 \
    days of nanoseconds exactly; `as` saturates beyond"
)]
fn divide(value: i64, by: f64) -> i64 {
    (value as f64 / by).round() as i64
}

#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "as in `divide`")]
fn multiply(value: i64, by: f64) -> i64 {
    (value as f64 * by).round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(scale: f64, speed: f64) -> Epoch {
        Epoch {
            wall: Mono(10_000),
            npt: Npt(4_000),
            due_zero: Npt(3_900),
            scale,
            speed,
            playout_ns: 70_000,
        }
    }

    fn frame(npt: i64, due: i64, rtp_ticks: i64) -> Frame {
        Frame {
            due: Npt(due),
            npt: Npt(npt),
            rtp_ticks,
            sample_index: 0,
            packet_index: 0,
            packet_count: 1,
            is_sync: true,
            is_disposable: false,
        }
    }

    #[test]
    fn frames_are_due_by_decode_time_divided_by_scale_and_speed() {
        let at =
            |scale, speed| epoch(scale, speed).wall_of(&frame(4_400, 4_300, 0), WindowKind::All);
        assert_eq!(at(1.0, 1.0), Mono(10_400));
        assert_eq!(at(2.0, 1.0), Mono(10_200));
        assert_eq!(at(2.0, 2.0), Mono(10_100));
    }

    #[test]
    fn reverse_is_paced_by_the_distance_shown() {
        let wall = epoch(-2.0, 1.0).wall_of(&frame(3_000, 0, 0), WindowKind::Sync);
        assert_eq!(wall, Mono(10_500));
        assert_eq!(epoch(-2.0, 1.0).npt_at(Mono(10_500)), Npt(3_000));
    }

    #[test]
    fn sync_sample_that_lies_behind_is_due_at_once() {
        let wall = |scale, npt| epoch(scale, 1.0).wall_of(&frame(npt, 0, 0), WindowKind::Sync);
        assert!(wall(4.0, 3_000) < wall(4.0, 3_500) && wall(4.0, 3_500) < Mono(10_000));
        assert!(wall(-4.0, 5_000) < wall(-4.0, 4_500) && wall(-4.0, 4_500) < Mono(10_000));
    }

    #[test]
    fn rtp_time_advances_with_playout_in_every_mode() {
        let delta = |scale, speed| epoch(scale, speed).rtp_delta(&frame(0, 0, 8_000), 800);
        assert_eq!(delta(1.0, 1.0), 7_200);
        assert_eq!(delta(1.0, 2.0), 7_200);
        assert_eq!(delta(2.0, 1.0), 3_600);
        assert_eq!(epoch(-1.0, 1.0).rtp_delta(&frame(0, 0, 800), 8_000), 7_200);
    }

    #[test]
    fn position_does_not_run_back_before_the_first_frame_is_due() {
        assert_eq!(epoch(1.0, 1.0).npt_at(Mono(0)), Npt(4_000));
    }
}
