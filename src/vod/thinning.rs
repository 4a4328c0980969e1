//! How much of a recorded picture a player is sent: less when its way loses packets, all again
//! when it is clean for a while.
//!
//! ```text
//!            3 bad            3 bad
//!   Full ---------> Reference ---------> Sync       a step, then nothing for `SETTLE`
//!     ^---------------'   ^---------------'
//!         6..24 clean         6..24 clean
//! ```
//! Reports (UDP) or lag (TCP) come in, changes of the level go out; which frames a level leaves out
//! is [`crate::vod::stream`]'s. The thresholds are those of Darwin Streaming Server, which players
//! of twenty years have met.
//! Invariants: no change within `SETTLE` of the one before, however many reports come; clean
//! reports alone always lead back to `Full`. A way that is clean only while little is sent is tried
//! less and less often: clean looks needed double up to `PATIENCE_MAX`.

use std::time::Duration;

use crate::base::time::Mono;
use crate::metrics::cells::QUALITY_LEVELS;

/// Which frames of a stream are sent; each level sends less than the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// All.
    Full = 0,
    /// Those that others refer to: without disposable frames.
    Reference = 1,
    /// Sync samples only.
    Sync = 2,
}

impl Level {
    /// As API and metrics spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        QUALITY_LEVELS[self as usize]
    }

    fn lower(self) -> Self {
        match self {
            Self::Full => Self::Reference,
            Self::Reference | Self::Sync => Self::Sync,
        }
    }

    fn higher(self) -> Self {
        match self {
            Self::Full | Self::Reference => Self::Full,
            Self::Sync => Self::Reference,
        }
    }
}

/// Why a level was changed: index into `ShardCells::quality_changes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Receiver reports tell of many lost packets.
    Loss = 0,
    /// An interleaved player falls behind further and further.
    Lag = 1,
    /// Neither, for a while.
    Clean = 2,
}

/// A step to take now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The level from now on.
    pub level: Level,
    /// Why.
    pub cause: Cause,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Quality {
    level: Level,
    /// The level below which thinning does more harm than loss.
    lowest: Level,
    bad: u8,
    clean: u8,
    /// Clean looks needed for a step up.
    patience: u8,
    /// As seen last.
    lag: Duration,
    looked: Option<Mono>,
    changed: Option<Mono>,
    /// When the last step was one up: that.
    thickened: Option<Mono>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sight {
    Bad,
    Fair,
    Clean,
}

impl Quality {
    /// Everything is sent. `sync_gap` is the mean time between sync samples: where that is long,
    /// sync samples alone are no picture, and the stream keeps its reference frames.
    #[must_use]
    pub fn new(sync_gap: Duration) -> Self {
        Self {
            level: Level::Full,
            lowest: if sync_gap <= SYNC_GAP_MAX { Level::Sync } else { Level::Reference },
            bad: 0,
            clean: 0,
            patience: PATIENCE_MIN,
            lag: Duration::ZERO,
            looked: None,
            changed: None,
            thickened: None,
        }
    }

    /// The share of packets that a receiver report says were lost since the one before, in 256ths.
    pub fn handle_report(&mut self, fraction_lost: u8, now: Mono) -> Option<Change> {
        if !self.looks_at(now) {
            return None;
        }
        let sight = match fraction_lost {
            LOST_BAD.. => Sight::Bad,
            LOST_FAIR.. => Sight::Fair,
            _ => Sight::Clean,
        };
        self.judge(sight, Cause::Loss, now)
    }

    /// How far an interleaved stream is behind its clock. A player that is far behind but keeps up
    /// is buffering or catching up, not starved: only lag that grows is bad.
    pub fn handle_lag(&mut self, lag: Duration, now: Mono) -> Option<Change> {
        if !self.looks_at(now) {
            return None;
        }
        let has_grown = lag > std::mem::replace(&mut self.lag, lag);
        let sight = if lag >= LAG_BAD && has_grown {
            Sight::Bad
        } else if lag < LAG_FAIR {
            Sight::Clean
        } else {
            Sight::Fair
        };
        self.judge(sight, Cause::Lag, now)
    }

    /// Whether what comes at `now` counts: not too many in a row, and nothing that tells of the
    /// time before the last change.
    fn looks_at(&mut self, now: Mono) -> bool {
        let is_early = |since: Option<Mono>, wait| since.is_some_and(|at| now.since(at) < wait);
        if is_early(self.looked, LOOK_MIN) || is_early(self.changed, SETTLE) {
            return false;
        }
        self.looked = Some(now);
        true
    }

    fn judge(&mut self, sight: Sight, cause: Cause, now: Mono) -> Option<Change> {
        let (bad, clean) = match sight {
            Sight::Bad => (self.bad.saturating_add(1), 0),
            Sight::Fair => (0, 0),
            Sight::Clean => (0, self.clean.saturating_add(1)),
        };
        (self.bad, self.clean) = (bad, clean);
        if bad >= BAD_TO_THIN && self.level < self.lowest {
            let was_tried = self.thickened.take().is_some_and(|at| now.since(at) < TRIAL);
            if was_tried {
                self.patience = self.patience.saturating_mul(2).min(PATIENCE_MAX);
            } else if self.level == Level::Full {
                self.patience = PATIENCE_MIN;
            }
            return Some(self.change(self.level.lower(), cause, now));
        }
        if clean >= self.patience && self.level > Level::Full {
            self.thickened = Some(now);
            return Some(self.change(self.level.higher(), Cause::Clean, now));
        }
        None
    }

    fn change(&mut self, level: Level, cause: Cause, now: Mono) -> Change {
        (self.bad, self.clean) = (0, 0);
        self.level = level;
        self.changed = Some(now);
        Change { level, cause }
    }
}

/// More than 30 % lost is bad (DSS `loss_thin_tolerance`): below that a picture with faults is more
/// than one without motion.
const LOST_BAD: u8 = 77;
/// Less than 5 % lost is clean (DSS `loss_thick_tolerance`): Wi-Fi has that in peace.
const LOST_FAIR: u8 = 13;
/// Bad looks in a row (DSS `num_losses_to_thin`): one burst is an accident, three are the way.
const BAD_TO_THIN: u8 = 3;
/// Clean looks in a row (DSS `num_losses_to_thick`): coming back too early costs the viewer more
/// than coming back late.
const PATIENCE_MIN: u8 = 6;
/// Two minutes of the usual reports: a way that cannot carry more is tried about that often.
const PATIENCE_MAX: u8 = 24;
/// Bad again so soon after a step up means that the step was too much.
const TRIAL: Duration = Duration::from_secs(60);
/// Looks are no closer than this (DSS `quality_check_interval`): a player that reports in a hurry
/// has no more to say.
const LOOK_MIN: Duration = Duration::from_secs(1);
/// The usual interval of reports (RFC 3550 s6.2): what comes earlier tells of the time before the
/// change as well.
const SETTLE: Duration = Duration::from_secs(5);
/// DSS `thin_all_the_way_delay`: what is left of the 2 s that players buffer as a rule.
const LAG_BAD: Duration = Duration::from_millis(1_500);
/// DSS `start_thicking_delay`.
const LAG_FAIR: Duration = Duration::from_millis(250);
/// A picture every ten seconds is the least that one may call watching.
const SYNC_GAP_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
#[path = "thinning_tests.rs"]
mod tests;
