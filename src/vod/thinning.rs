//! Thinning of a recorded video for a player: fewer frames while the route loses packets, all
//! frames again after the route has been clean for a while.
//!
//! ```text
//!            3 bad            3 bad
//!   Full ---------> Reference ---------> Sync       a step, then nothing for `SETTLE`
//!     ^---------------'   ^---------------'
//!         6..24 clean         6..24 clean
//! ```
//! Reports (UDP) or lag (TCP) come in, changes of the level go out; [`crate::vod::stream`] leaves
//! frames out by level. The thresholds are those of Darwin Streaming Server, which players of
//! twenty years have met.
//! Invariants: no change within `SETTLE` of the one before, however many reports come; clean
//! reports alone always lead back to `Full`. A route that is clean only while little is sent is
//! tried less and less often: the number of clean observations needed doubles up to `PATIENCE_MAX`.

use std::time::Duration;

use crate::base::time::Mono;
use crate::metrics::cells::QUALITY_LEVELS;
use crate::takeover::v1::{LevelRecord, QualityRecord};

/// The part of a stream that is sent; each level sends less than the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ThinningLevel {
    /// All frames.
    Full = 0,
    /// Frames that other frames refer to: without disposable frames.
    Reference = 1,
    /// Sync samples only.
    Sync = 2,
}

impl ThinningLevel {
    /// Name in API and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        QUALITY_LEVELS[self as usize]
    }

    /// For another process.
    #[must_use]
    pub fn record(self) -> LevelRecord {
        match self {
            Self::Full => LevelRecord::Full,
            Self::Reference => LevelRecord::Reference,
            Self::Sync => LevelRecord::Sync,
        }
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

impl From<LevelRecord> for ThinningLevel {
    fn from(record: LevelRecord) -> Self {
        match record {
            LevelRecord::Full => Self::Full,
            LevelRecord::Reference => Self::Reference,
            LevelRecord::Sync => Self::Sync,
        }
    }
}

/// Cause of a change: index into `ShardCells::quality_changes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Receiver reports show many lost packets.
    Loss = 0,
    /// An interleaved player falls behind further and further.
    Lag = 1,
    /// Neither loss nor lag for a while.
    Clean = 2,
}

/// A step to take now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The new level.
    pub level: ThinningLevel,
    /// Cause of the change.
    pub cause: Cause,
}

/// The thinning state of one stream: see the module.
#[derive(Debug, Clone)]
pub struct Quality {
    level: ThinningLevel,
    /// The lowest level: thinning below it does more harm than loss.
    lowest: ThinningLevel,
    bad: u8,
    clean: u8,
    /// Clean observations needed for a step up.
    patience: u8,
    /// Lag at the last observation.
    lag: Duration,
    looked: Option<Mono>,
    changed: Option<Mono>,
    /// Time of the last step, if it was a step up.
    thickened: Option<Mono>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Observation {
    Bad,
    Fair,
    Clean,
}

impl Quality {
    /// A stream at the level `Full`. `sync_gap` is the mean time between sync samples: with a long
    /// gap sync samples alone are no video, and the stream keeps its reference frames.
    #[must_use]
    pub fn new(sync_gap: Duration) -> Self {
        Self {
            level: ThinningLevel::Full,
            lowest: if sync_gap <= SYNC_GAP_MAX {
                ThinningLevel::Sync
            } else {
                ThinningLevel::Reference
            },
            bad: 0,
            clean: 0,
            patience: PATIENCE_MIN,
            lag: Duration::ZERO,
            looked: None,
            changed: None,
            thickened: None,
        }
    }

    /// For another process.
    #[must_use]
    pub fn record(&self) -> QualityRecord {
        let ns = |at: Option<Mono>| at.map(|at| at.0);
        QualityRecord {
            lowest: self.lowest.record(),
            bad: self.bad,
            clean: self.clean,
            patience: self.patience,
            lag_ns: u64::try_from(self.lag.as_nanos()).unwrap_or(u64::MAX),
            looked_ns: ns(self.looked),
            changed_ns: ns(self.changed),
            thickened_ns: ns(self.thickened),
        }
    }

    /// As another process has told of a stream at `level`.
    #[must_use]
    pub fn of(record: QualityRecord, level: ThinningLevel) -> Self {
        Self {
            level,
            lowest: record.lowest.into(),
            bad: record.bad,
            clean: record.clean,
            patience: record.patience,
            lag: Duration::from_nanos(record.lag_ns),
            looked: record.looked_ns.map(Mono),
            changed: record.changed_ns.map(Mono),
            thickened: record.thickened_ns.map(Mono),
        }
    }

    /// Takes a receiver report: the share of packets lost since the report before, in 256ths.
    pub fn handle_report(&mut self, fraction_lost: u8, now: Mono) -> Option<Change> {
        if !self.looks_at(now) {
            return None;
        }
        let observation = match fraction_lost {
            LOST_BAD.. => Observation::Bad,
            LOST_FAIR.. => Observation::Fair,
            _ => Observation::Clean,
        };
        self.judge(observation, Cause::Loss, now)
    }

    /// Takes the lag of an interleaved stream behind its clock. A player with a large but steady
    /// lag is buffering or catching up, not starved: only growing lag is bad.
    pub fn handle_lag(&mut self, lag: Duration, now: Mono) -> Option<Change> {
        if !self.looks_at(now) {
            return None;
        }
        let has_grown = lag > std::mem::replace(&mut self.lag, lag);
        let observation = if lag >= LAG_BAD && has_grown {
            Observation::Bad
        } else if lag < LAG_FAIR {
            Observation::Clean
        } else {
            Observation::Fair
        };
        self.judge(observation, Cause::Lag, now)
    }

    /// Whether an observation at `now` counts: not too soon after the last one, and not about the
    /// time before the last change.
    fn looks_at(&mut self, now: Mono) -> bool {
        let is_early = |since: Option<Mono>, wait| since.is_some_and(|at| now.since(at) < wait);
        if is_early(self.looked, LOOK_MIN) || is_early(self.changed, SETTLE) {
            return false;
        }
        self.looked = Some(now);
        true
    }

    fn judge(&mut self, observation: Observation, cause: Cause, now: Mono) -> Option<Change> {
        let (bad, clean) = match observation {
            Observation::Bad => (self.bad.saturating_add(1), 0),
            Observation::Fair => (0, 0),
            Observation::Clean => (0, self.clean.saturating_add(1)),
        };
        (self.bad, self.clean) = (bad, clean);
        if bad >= BAD_TO_THIN && self.level < self.lowest {
            let was_tried = self.thickened.take().is_some_and(|at| now.since(at) < TRIAL);
            if was_tried {
                self.patience = self.patience.saturating_mul(2).min(PATIENCE_MAX);
            } else if self.level == ThinningLevel::Full {
                self.patience = PATIENCE_MIN;
            }
            return Some(self.change(self.level.lower(), cause, now));
        }
        if clean >= self.patience && self.level > ThinningLevel::Full {
            self.thickened = Some(now);
            return Some(self.change(self.level.higher(), Cause::Clean, now));
        }
        None
    }

    fn change(&mut self, level: ThinningLevel, cause: Cause, now: Mono) -> Change {
        (self.bad, self.clean) = (0, 0);
        self.level = level;
        self.changed = Some(now);
        Change { level, cause }
    }
}

/// More than 30 % lost is bad (DSS `loss_thin_tolerance`): below that, video with faults is worth
/// more than video without motion.
const LOST_BAD: u8 = 77;
/// Less than 5 % lost is clean (DSS `loss_thick_tolerance`): an idle Wi-Fi has such losses.
const LOST_FAIR: u8 = 13;
/// Bad observations in a row (DSS `num_losses_to_thin`): one burst is an accident, three show the
/// route's state.
const BAD_TO_THIN: u8 = 3;
/// Clean observations in a row (DSS `num_losses_to_thick`): a return too early costs the viewer
/// more than a late one.
const PATIENCE_MIN: u8 = 6;
/// Two minutes of the usual reports: a route that cannot carry more is tried about that often.
const PATIENCE_MAX: u8 = 24;
/// A bad observation so soon after a step up means that the step was too much.
const TRIAL: Duration = Duration::from_secs(60);
/// Least interval between observations (DSS `quality_check_interval`): frequent reports add
/// nothing.
const LOOK_MIN: Duration = Duration::from_secs(1);
/// The usual interval of reports (RFC 3550 s6.2): an earlier report also covers the time before the
/// change.
const SETTLE: Duration = Duration::from_secs(5);
/// DSS `thin_all_the_way_delay`: the rest of the 2 s that players usually buffer.
const LAG_BAD: Duration = Duration::from_millis(1_500);
/// DSS `start_thicking_delay`.
const LAG_FAIR: Duration = Duration::from_millis(250);
/// One frame every ten seconds is the least that is still video.
const SYNC_GAP_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
#[path = "thinning_tests.rs"]
mod tests;
