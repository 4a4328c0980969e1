//! An epoch, from a PLAY to the next command: relates media time, wall time and RTP time.
//!
//! ```text
//!  wall      |epoch.wall ----------------------> now        1 s a second
//!  decode    |epoch.due_zero --------> due(frame)           |scale| x speed
//!  npt       |epoch.npt -------------> npt(frame)           scale
//!  playout   |epoch.playout_ns ------> rtp time             npt / scale
//! ```
//! - A frame is due at its decode time, which advances `|scale| x speed` seconds a second.
//! - RTP time follows playout time: the time on a viewer's clock (RFC 2326 appendix B). At scale 2
//!   a 25 fps film still advances 3,600 ticks a frame when every second frame is sent.
//! - Playout time advances through a pause, as the wall clock does, so one mapping from NTP to RTP
//!   time holds and sender reports stay true across PAUSE, seek and resume.
//!
//! Invariant: RTP time never goes back from one epoch to the next.

use std::time::Duration;

use crate::base::time::{Mono, Npt};
use crate::media::window::{Frame, WindowKind};

/// The time mapping of one epoch: see the module.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Epoch {
    /// Time at which the first frame is due.
    pub wall: Mono,
    /// Start of the range as told to the client.
    pub npt: Npt,
    /// Decode time of the first frame.
    pub due_zero: Npt,
    /// Scale (RFC 2326 s12.34); negative is reverse, never zero.
    pub scale: f64,
    /// Speed (RFC 2326 s12.35); above zero.
    pub speed: f64,
    /// Playout time at `npt`, from the start of the session.
    pub playout_ns: i64,
}

/// Rate and start of a new epoch.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Time of the command.
    pub now: Mono,
    /// Time at which the first frame is due.
    pub wall: Mono,
    /// Scale of the epoch.
    pub scale: f64,
    /// Speed of the epoch.
    pub speed: f64,
}

impl Epoch {
    /// Time at which a frame is due, for a stream that walks `kind` windows.
    #[must_use]
    pub fn wall_of(&self, frame: &Frame, kind: WindowKind) -> Mono {
        let media_ns = match kind {
            WindowKind::All => frame.due - self.due_zero,
            // Sync samples are shown as they arrive, so their presentation times pace them.
            // A frame that is late (a client that reads slowly) is due at once.
            WindowKind::Sync if self.scale < 0.0 => self.npt - frame.npt,
            WindowKind::Sync => frame.npt - self.npt,
        };
        self.wall.offset_ns(divide(media_ns, self.rate()))
    }

    /// Time at which the presentation reaches `end`.
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

    /// Lag of an unsent frame behind the position at `now`, in nanoseconds of media; negative for a
    /// frame that is not due yet.
    #[must_use]
    pub fn lag_ns(&self, frame: &Frame, kind: WindowKind, now: Mono) -> i64 {
        match kind {
            WindowKind::All => self.due_at(now) - frame.due,
            WindowKind::Sync if self.scale < 0.0 => frame.npt - self.npt_at(now),
            WindowKind::Sync => self.npt_at(now) - frame.npt,
        }
    }

    /// Lag of the playout time `playout_ns` behind the position at `now`, likewise.
    #[must_use]
    pub fn playout_lag_ns(&self, playout_ns: i64, now: Mono) -> i64 {
        multiply(self.playout_at(now).saturating_sub(playout_ns), self.scale.abs())
    }

    /// The epoch that continues this one at another rate, with no stream moved.
    ///
    /// `at` is when this epoch stopped, and `lag_ns` the largest lag of a stream at that time. The
    /// next epoch begins at that stream's next frame, so a player that was behind does not get at
    /// once what it did not read. Playout time advances by the wall clock; streams whose packets
    /// are ahead of the clock may need more ([`Epoch::playout_floor`]).
    #[must_use]
    pub fn continued(&self, at: Mono, lag_ns: i64, next: Rate) -> Self {
        let back = if self.scale < 0.0 { -lag_ns } else { lag_ns };
        let Rate { now, wall, scale, speed } = next;
        Self {
            wall,
            npt: Npt(self.npt_at(at).0.saturating_sub(back)),
            due_zero: Npt(self.due_at(at).0.saturating_sub(back)),
            scale,
            speed,
            playout_ns: self.playout_at(at).saturating_add(duration_ns(now.since(at))),
        }
    }

    /// The epoch in which another title goes on from `at`, at the same rate, with `npt` and the
    /// decode time `due_zero`. RTP time of what is shown keeps its place on the wall clock.
    #[must_use]
    pub fn exchanged(&self, at: Mono, npt: Npt, due_zero: Npt) -> Self {
        let (old_lead, lead) = (self.due_zero - self.npt, due_zero - npt);
        let playout_ns = self.playout_at(at).saturating_add(old_lead).saturating_sub(lead);
        Self { wall: at, npt, due_zero, playout_ns, ..*self }
    }

    /// The same epoch, `playout_ns` of playout time later.
    #[must_use]
    pub fn put_off(&self, playout_ns: i64) -> Self {
        let wall = self.wall.offset_ns(divide(playout_ns, self.speed));
        Self { wall, playout_ns: self.playout_ns.saturating_add(playout_ns), ..*self }
    }

    /// The least playout time at which an epoch at `scale`, made by `continued` with the same `at`
    /// and `lag_ns`, may begin: what follows the playout time `sent_ns`, the latest of a stream, in
    /// the presentation also follows it in RTP time.
    #[must_use]
    pub fn playout_floor(&self, sent_ns: i64, at: Mono, lag_ns: i64, scale: f64) -> i64 {
        // Media from the beginning of the new epoch to the newest packet sent.
        let ahead_ns = lag_ns.saturating_sub(self.playout_lag_ns(sent_ns, at));
        sent_ns.saturating_sub(divide(ahead_ns, scale.abs()))
    }

    /// Playout time at `now`; Speed moves playout time faster or slower.
    #[must_use]
    pub fn playout_at(&self, now: Mono) -> i64 {
        self.playout_ns.saturating_add(multiply(self.wall_ns_since(now), self.speed))
    }

    /// Playout time at the presentation time `npt`.
    #[must_use]
    pub fn playout_of(&self, npt: Npt) -> i64 {
        self.playout_ns.saturating_add(divide(npt - self.npt, self.scale))
    }

    /// Presentation time at the playout time `playout_ns`.
    #[must_use]
    pub fn npt_of(&self, playout_ns: i64) -> Npt {
        let media_ns = multiply(playout_ns.saturating_sub(self.playout_ns), self.scale);
        Npt(self.npt.0.saturating_add(media_ns))
    }

    /// Ticks of the RTP clock from the epoch's start to a frame. `anchor_ticks` is the epoch's
    /// start in ticks; both count from the start of the presentation. Exact at scale 1.
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
