//! Which of several sources feeds a path: events and time in, steps out.
//!
//! ```text
//!          Want            batch                     silence, source lost
//!  Off ----------> Asked --------> Good(since, heard) -------------------> Asked
//!   ^                | path ended, refused                                   |
//!   |                v                                                       |
//!   +---Leave--- Failed(retry_at) <------------------------------------------+
//! ```
//! Sources stand in the order of preference; 0 is the path's own. The best source that is good
//! feeds the path. When the active source is lost, the next one follows at once, from its newest
//! group of pictures. A better source takes over when it has been good for `return_after`, at a key
//! frame. An operator's choice goes before the order: it is dropped when its source is lost, or
//! when the switch to it is not done within `SWITCH_WAIT`.
//!
//! A source worse than the active one is asked for only when no better one is good, or as the
//! standby. Sources are asked for one after the other: the next one when the one before has failed,
//! was lost, or has not sent within `START_PATIENCE`.
//!
//! Invariants: a switch goes to a good source; two switches are `switch_interval` apart; with no
//! good source the path is released, so that its readers wait as for a publisher that went.
//! Bound: `SOURCES_MAX` sources.

use std::time::Duration;

use crate::base::time::Mono;
use crate::live::core::failover::{SWITCH_WAIT, Timing};
use crate::metrics::cells::HANDOVER_CAUSES;

/// Times of a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChoiceRules {
    /// Time without a packet after which a source is lost.
    pub(crate) silence: Duration,
    /// Time for which a better source must have been good before it takes over.
    pub(crate) return_after: Duration,
    /// Least time between two switches.
    pub(crate) switch_interval: Duration,
    /// The source after the active one is kept ready.
    pub(crate) has_standby: bool,
}

/// Work for the caller, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Subscribe to the source: `handle_batch`, `handle_lost` or `handle_failed` follows.
    Want(usize),
    /// Drop the subscription.
    Leave(usize),
    /// Feed the path from this source; `handle_switched` tells when it is done. A later `Switch`
    /// replaces this one.
    Switch(Change),
    /// No source is good: release the path.
    Release,
}

/// A change of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    /// The new source.
    pub(crate) to: usize,
    /// The first packets.
    pub(crate) timing: Timing,
    /// The cause, for log and metrics.
    pub(crate) cause: Cause,
}

/// Why the source changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The path had no source.
    Start,
    /// The active source was lost.
    Lost,
    /// A better source is back.
    Better,
    /// An operator asked for it.
    Operator,
}

impl Cause {
    /// Names, by index: `ShardCells::handovers`.
    pub(crate) fn label(self) -> &'static str {
        HANDOVER_CAUSES[self as usize]
    }
}

/// The choice among the sources of one path: see the module.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    rules: ChoiceRules,
    sources: Vec<SourceState>,
    active: Option<usize>,
    /// The change that was requested and is not done.
    pending: Option<Change>,
    /// The operator's choice.
    pinned: Option<Pin>,
    /// Time of the last change.
    switched: Option<Mono>,
    /// Due time of the next call of `settle`.
    due: Option<Mono>,
}

/// The operator's choice of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pin {
    source: usize,
    timing: Timing,
    /// Until when the switch is to be done; `None`: it is done.
    until: Option<Mono>,
}

/// State of a source, for operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It feeds the path.
    Active,
    /// It sends, and is kept ready behind the active one.
    Standby,
    /// It sends, and will take over.
    Good,
    /// It was asked for, and nothing has come yet.
    Wanted,
    /// It was lost or has failed.
    Down,
    /// It is not asked for.
    Off,
}

impl Standing {
    /// Name in the API.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Standby => "standby",
            Self::Good => "good",
            Self::Wanted => "wanted",
            Self::Down => "down",
            Self::Off => "off",
        }
    }

    /// Whether packets arrive.
    pub(crate) fn is_good(self) -> bool {
        matches!(self, Self::Active | Self::Standby | Self::Good)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SourceState {
    Off,
    /// Subscribed, and nothing arrives. A doubtful source was lost or has failed before: no other
    /// source waits for it.
    Asked {
        since: Mono,
        is_doubtful: bool,
    },
    /// Packets arrive.
    Good {
        since: Mono,
        heard: Mono,
    },
    /// Not subscribed: the source is refused or has ended.
    Failed {
        retry_at: Mono,
    },
}

impl Choice {
    /// A choice among `count` sources, of which none is subscribed to.
    pub(crate) fn new(count: usize, rules: ChoiceRules) -> Self {
        let sources = vec![SourceState::Off; count];
        Self {
            rules,
            sources,
            active: None,
            pending: None,
            pinned: None,
            switched: None,
            due: None,
        }
    }

    /// The list has changed: for each source of the new one its place in the one before, if it was
    /// in it. An operator's choice is dropped.
    pub(crate) fn relist(&mut self, places: &[Option<usize>]) {
        let state =
            |place: &Option<usize>| place.and_then(|place| self.sources.get(place).copied());
        let states = places.iter().map(|place| state(place).unwrap_or(SourceState::Off)).collect();
        self.sources = states;
        let place_of = |before: usize| places.iter().position(|place| *place == Some(before));
        self.active = self.active.and_then(place_of);
        let pending = self.pending;
        self.pending = pending.and_then(|c| Some(Change { to: place_of(c.to)?, ..c }));
        self.pinned = None;
    }

    /// The source that feeds the path.
    pub(crate) fn active(&self) -> Option<usize> {
        self.active
    }

    /// The change that is under way.
    pub(crate) fn pending(&self) -> Option<Change> {
        self.pending
    }

    /// Whether packets of a source arrive.
    pub(crate) fn is_good(&self, source: usize) -> bool {
        matches!(self.sources.get(source), Some(SourceState::Good { .. }))
    }

    /// State of a source, for operators.
    pub(crate) fn standing(&self, source: usize) -> Standing {
        let is_behind = self.active.is_some_and(|active| active < source);
        match self.sources.get(source) {
            Some(SourceState::Good { .. }) if self.active == Some(source) => Standing::Active,
            Some(SourceState::Good { .. }) if is_behind => Standing::Standby,
            Some(SourceState::Good { .. }) => Standing::Good,
            Some(SourceState::Asked { is_doubtful: false, .. }) => Standing::Wanted,
            Some(SourceState::Asked { .. } | SourceState::Failed { .. }) => Standing::Down,
            Some(SourceState::Off) | None => Standing::Off,
        }
    }

    /// Whether a source was lost or has failed, and is not back.
    pub(crate) fn is_down(&self, source: usize) -> bool {
        self.standing(source) == Standing::Down
    }

    /// Packets of a source have arrived.
    pub(crate) fn handle_batch(&mut self, source: usize, now: Mono) {
        match self.sources.get_mut(source) {
            Some(SourceState::Good { heard, .. }) => *heard = now,
            Some(state @ SourceState::Asked { .. }) => {
                *state = SourceState::Good { since: now, heard: now };
            }
            Some(SourceState::Off | SourceState::Failed { .. }) | None => {}
        }
    }

    /// The sender of a source has gone; the subscription stands.
    pub(crate) fn handle_lost(&mut self, source: usize, now: Mono) {
        if let Some(state @ SourceState::Good { .. }) = self.sources.get_mut(source) {
            *state = SourceState::Asked { since: now, is_doubtful: true };
        }
    }

    /// A subscription was refused or has ended.
    pub(crate) fn handle_failed(&mut self, source: usize, now: Mono) {
        if let Some(state @ (SourceState::Good { .. } | SourceState::Asked { .. })) =
            self.sources.get_mut(source)
        {
            *state = SourceState::Failed { retry_at: now + RETRY };
        }
    }

    /// The path is fed from another source.
    pub(crate) fn handle_switched(&mut self, to: usize, now: Mono) {
        (self.active, self.pending, self.switched) = (Some(to), None, Some(now));
        if let Some(pin) = self.pinned.as_mut().filter(|pin| pin.source == to) {
            pin.until = None;
        }
    }

    /// An operator asks for a source.
    pub(crate) fn pin(&mut self, source: usize, timing: Timing, now: Mono) {
        let until = (self.active != Some(source)).then(|| now + SWITCH_WAIT);
        self.pinned = Some(Pin { source, timing, until });
    }

    /// An operator asks for the order of preference.
    pub(crate) fn unpin(&mut self) {
        self.pinned = None;
    }

    /// The source that an operator has asked for.
    pub(crate) fn pinned(&self) -> Option<usize> {
        self.pinned.map(|pin| pin.source)
    }

    /// Time until the next change of the source is possible; `None`: it is possible now.
    pub(crate) fn wait(&self, now: Mono) -> Option<Duration> {
        let free_at = self.switched? + self.rules.switch_interval;
        (free_at > now).then(|| free_at.since(now))
    }

    /// When `settle` is to be called next, if no event comes before.
    pub(crate) fn due(&self) -> Option<Mono> {
        self.due
    }

    /// Decides: to be called after each event and at `due`.
    pub(crate) fn settle(&mut self, now: Mono, steps: &mut Vec<Step>) {
        self.due = None;
        for index in 0..self.sources.len() {
            if let Some(SourceState::Good { heard, .. }) = self.sources.get(index).copied() {
                let silent_at = heard + self.rules.silence;
                if silent_at <= now {
                    self.handle_lost(index, now);
                } else {
                    self.wake(silent_at);
                }
            }
        }
        self.check_pin(now);
        self.choose(now, steps);
        self.subscribe(now, steps);
    }

    /// Drops an operator's choice whose source is lost or late.
    fn check_pin(&mut self, now: Mono) {
        let Some(Pin { source, until, .. }) = self.pinned else { return };
        let has_failed = match (self.sources.get(source), until) {
            (None | Some(SourceState::Failed { .. }), _) => true,
            (Some(SourceState::Good { .. }), None) => false,
            (Some(SourceState::Off | SourceState::Asked { .. }), None) => true,
            (Some(_), Some(until)) => until <= now,
        };
        match until {
            _ if has_failed => self.pinned = None,
            Some(until) => self.wake(until),
            None => {}
        }
    }

    /// Requests the change to the source that should be active.
    fn choose(&mut self, now: Mono, steps: &mut Vec<Step>) {
        let is_active_good = self.active.is_some_and(|active| self.is_good(active));
        let Some((to, cause)) = self.target(now) else {
            self.pending = None;
            if self.active.take().is_some() {
                steps.push(Step::Release);
            }
            return;
        };
        if self.active == Some(to) {
            self.pending = None;
            return;
        }
        let timing = match (is_active_good, self.pinned) {
            (false, _) => Timing::Now,
            (true, Some(pin)) if pin.source == to => pin.timing,
            (true, _) => Timing::NextKeyFrame,
        };
        let change = Change { to, timing, cause };
        let is_requested = self.pending.is_some_and(|old| (old.to, old.timing) == (to, timing));
        if is_requested {
            return;
        }
        let free_at = self.switched.map(|switched| switched + self.rules.switch_interval);
        match free_at.filter(|free_at| *free_at > now) {
            Some(free_at) => {
                self.pending = None;
                self.wake(free_at);
                // Until then nothing feeds the path.
                if !is_active_good && self.active.take().is_some() {
                    steps.push(Step::Release);
                }
            }
            None => {
                self.pending = Some(change);
                steps.push(Step::Switch(change));
            }
        }
    }

    /// The source that should be active, and why it is not; `None` when no source is good.
    fn target(&mut self, now: Mono) -> Option<(usize, Cause)> {
        if let Some(pin) = self.pinned.filter(|pin| self.is_good(pin.source)) {
            return Some((pin.source, Cause::Operator));
        }
        let best = (0..self.sources.len()).find(|source| self.is_good(*source))?;
        let Some(active) = self.active else { return Some((best, Cause::Start)) };
        if !self.is_good(active) {
            return Some((best, Cause::Lost));
        }
        let mut ready = None;
        for source in 0..active {
            if let Some(SourceState::Good { since, .. }) = self.sources.get(source).copied() {
                let proven_at = since + self.rules.return_after;
                if proven_at <= now {
                    ready = ready.or(Some((source, Cause::Better)));
                } else {
                    self.wake(proven_at);
                }
            }
        }
        Some(ready.unwrap_or((active, Cause::Start)))
    }

    /// Subscribes to the sources that are needed, and drops the others.
    fn subscribe(&mut self, now: Mono, steps: &mut Vec<Step>) {
        let mut is_wanted = true;
        let mut standby_left = usize::from(self.rules.has_standby);
        for source in 0..self.sources.len() {
            let is_kept = self.active == Some(source)
                || self.pending.is_some_and(|change| change.to == source)
                || self.pinned.is_some_and(|pin| pin.source == source);
            let is_standby = !is_wanted && !is_kept && standby_left > 0;
            standby_left -= usize::from(is_standby);
            let is_needed = is_wanted || is_kept || is_standby;
            match self.sources[source] {
                SourceState::Off if is_needed => self.want(source, now, steps),
                SourceState::Failed { retry_at } if is_needed && retry_at <= now => {
                    self.want(source, now, steps);
                }
                SourceState::Failed { retry_at } if is_needed => self.wake(retry_at),
                SourceState::Asked { .. } | SourceState::Good { .. } if !is_needed => {
                    self.sources[source] = SourceState::Off;
                    steps.push(Step::Leave(source));
                }
                SourceState::Failed { .. } => self.sources[source] = SourceState::Off,
                SourceState::Off | SourceState::Asked { .. } | SourceState::Good { .. } => {}
            }
            // The next source is wanted when this one cannot be waited for.
            is_wanted = is_wanted
                && match self.sources[source] {
                    SourceState::Good { .. } => false,
                    SourceState::Asked { is_doubtful: true, .. } => true,
                    SourceState::Asked { since, is_doubtful: false } => {
                        let given_up_at = since + START_PATIENCE;
                        if given_up_at > now {
                            self.wake(given_up_at);
                        }
                        given_up_at <= now
                    }
                    SourceState::Off | SourceState::Failed { .. } => true,
                };
        }
    }

    fn want(&mut self, source: usize, now: Mono, steps: &mut Vec<Step>) {
        let is_doubtful = matches!(self.sources[source], SourceState::Failed { .. });
        self.sources[source] = SourceState::Asked { since: now, is_doubtful };
        steps.push(Step::Want(source));
    }

    fn wake(&mut self, at: Mono) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }
}

/// Sources of one path, its own included.
pub(crate) const SOURCES_MAX: usize = 9;
/// Wait before a source that has failed is asked for again.
const RETRY: Duration = Duration::from_secs(1);
/// Time for the first packet of a source, after which the next source is asked for, too.
const START_PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
#[path = "choice_tests.rs"]
mod tests;
