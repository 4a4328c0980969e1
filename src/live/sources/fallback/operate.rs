//! A relay as operators steer and see it.
//!
//! ```text
//!  switch --refusal--> answer at once
//!    `--pin--> choice --switched--> answer: from, to, gap
//!                `---- lost, late--> answer: why not; the order of preference rules again
//! ```
//! Invariant: a switch is answered once. Bound: one switch waits; another one ends it.

use std::time::Duration;

use crate::base::time::Mono;
use crate::live::core::failover::{
    FailoverInfo, FailoverSource, SwitchError, SwitchInfo, SwitchReply, SwitchReport, Timing,
};
use crate::live::sources::Sources;
use crate::live::sources::fallback::Relays;
use crate::live::sources::fallback::choice::{Cause, Standing};
use crate::live::sources::fallback::relay::Relay;
use crate::live::sources::info::utc_before;
use crate::session::cx::Cx;

/// A switch that an operator waits for.
#[derive(Debug)]
pub(super) struct Asked {
    to: usize,
    reply: SwitchReply,
}

/// The newest change of the source.
#[derive(Debug, Clone, Copy)]
pub(super) struct LastSwitch {
    pub(super) from: Option<usize>,
    pub(super) to: usize,
    pub(super) cause: Cause,
    pub(super) gap: Option<Duration>,
    pub(super) at: Mono,
}

/// State of a source and when it began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown {
    standing: Standing,
    since: Mono,
}

impl Shown {
    pub(super) fn new(now: Mono) -> Self {
        Self { standing: Standing::Off, since: now }
    }

    /// Whether the source was not asked for.
    pub(super) fn is_off(self) -> bool {
        self.standing == Standing::Off
    }
}

impl Relays {
    /// The relay of a path.
    pub(crate) fn of_path(&self, path: &str) -> Option<&Relay> {
        self.table.get(self.table.number_of(path)?)
    }
}

impl Sources {
    /// Switches the relay of a path to the source at a place, or to the order of preference.
    pub(crate) fn switch_relay(
        &mut self,
        cx: &Cx,
        path: &str,
        (to, timing): (Option<usize>, Timing),
        reply: SwitchReply,
    ) {
        let number = self.relays.table.number_of(path);
        let relay = number.and_then(|number| self.relays.table.get_mut(number));
        let Some((number, relay)) = number.zip(relay) else {
            return reply.answer(Err(SwitchError::Idle));
        };
        relay.switch(to, timing, reply, cx.now);
        self.relays.make_ready(number);
    }
}

impl Relay {
    /// Handles an operator's switch. A request that is refused at once changes nothing.
    fn switch(&mut self, to: Option<usize>, timing: Timing, reply: SwitchReply, now: Mono) {
        if let Some(refusal) = to.and_then(|to| self.refusal(to, now)) {
            return reply.answer(Err(refusal));
        }
        self.end_switch(SwitchError::Superseded);
        self.is_unsettled = true;
        match to {
            None => self.choice.unpin(),
            Some(to) => {
                self.choice.pin(to, timing, now);
                if self.choice.active() != Some(to) {
                    self.asked = Some(Asked { to, reply });
                    return;
                }
            }
        }
        let report = self.report(None);
        reply.answer(Ok(report));
    }

    fn refusal(&self, to: usize, now: Mono) -> Option<SwitchError> {
        if self.choice.active() == Some(to) {
            return None;
        }
        if self.choice.is_down(to) {
            return Some(self.down(to));
        }
        self.choice.wait(now).map(|wait| SwitchError::TooSoon { wait })
    }

    /// Answers the operator when the switch is done.
    pub(super) fn answer_switch(&mut self) {
        let Some(Asked { to, .. }) = self.asked else { return };
        if self.choice.active() != Some(to) {
            return;
        }
        let report = self.report(self.last_switch.filter(|last| last.to == to));
        if let Some(Asked { reply, .. }) = self.asked.take() {
            reply.answer(Ok(report));
        }
    }

    /// The switch will not be: the source is late with its key frame, or sends nothing.
    pub(super) fn refuse_switch(&mut self, has_sent: bool) {
        let Some(Asked { to, .. }) = self.asked else { return };
        let error = match has_sent {
            true => SwitchError::NoKeyFrame { path: self.name(to) },
            false => self.down(to),
        };
        self.end_switch(error);
    }

    /// Refuses the switch that waits, if any.
    pub(super) fn end_switch(&mut self, error: SwitchError) {
        if let Some(Asked { reply, .. }) = self.asked.take() {
            reply.answer(Err(error));
        }
    }

    fn report(&self, done: Option<LastSwitch>) -> SwitchReport {
        let to = self.choice.active();
        let from = done.map_or(to, |done| done.from);
        let pinned = self.choice.pinned().is_some();
        SwitchReport {
            path: self.path.to_string(),
            from: from.map(|place| self.name(place)),
            to: to.map(|place| self.name(place)),
            switched: done.is_some(),
            gap_ms: done.and_then(|done| done.gap).map(whole_ms),
            pinned,
            pinned_until: pinned.then_some(PINNED_UNTIL),
        }
    }

    fn down(&self, place: usize) -> SwitchError {
        let reason = self.sources.get(place).and_then(|source| source.reason.clone());
        let reason = reason.unwrap_or_else(|| "it sends nothing".to_owned());
        SwitchError::Down { path: self.name(place), reason }
    }

    /// Path of the source at a place.
    pub(super) fn name(&self, place: usize) -> String {
        self.sources.get(place).map_or_else(String::new, |source| source.path.to_string())
    }

    /// Records which source is in which state, and since when.
    pub(super) fn note_standings(&mut self, now: Mono) {
        for (place, source) in self.sources.iter_mut().enumerate() {
            let standing = self.choice.standing(place);
            let was_good = source.shown.standing.is_good();
            if standing.is_good() {
                source.reason = None;
            } else if was_good && source.reason.is_none() {
                source.reason = Some(format!("no packets for {:?}", self.silence));
            }
            if source.shown.standing != standing {
                source.shown = Shown { standing, since: now };
            }
        }
    }

    /// What the API shows. `names` are those of the configuration.
    pub(crate) fn info(&self, cx: &Cx, names: &[String]) -> FailoverInfo {
        let age = |since: Mono| cx.now.since(since);
        let sources = self.sources.iter().zip(names).enumerate();
        let sources = sources.map(|(place, (source, name))| FailoverSource {
            place,
            name: name.clone(),
            path: source.path.to_string(),
            state: match source.shown.standing {
                Standing::Down if source.is_unfit => "refused",
                standing => standing.label(),
            },
            reason: source.reason.clone().filter(|_| source.shown.standing == Standing::Down),
            since: utc_before(cx, age(source.shown.since)),
            age_s: age(source.shown.since).as_secs_f64(),
        });
        let last_switch = self.last_switch.map(|last| SwitchInfo {
            from: last.from.map(|place| self.name(place)),
            to: self.name(last.to),
            cause: last.cause.label(),
            gap_ms: last.gap.map(whole_ms),
            at: utc_before(cx, age(last.at)),
            age_s: age(last.at).as_secs_f64(),
        });
        FailoverInfo {
            active: self.choice.active().map(|place| self.name(place)),
            pinned: self.choice.pinned().map(|place| self.name(place)),
            last_switch,
            sources: sources.collect(),
        }
    }
}

fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What ends an operator's choice, in an answer.
const PINNED_UNTIL: &str =
    "another switch, or the loss of this source: then the order of preference rules again";
