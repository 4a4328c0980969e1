//! Checks all sources over several turns, some of them in each turn.
//!
//! ```text
//! tick --> all are to be checked --SOURCES_A_TURN--> reports, silence, cameras that are pulled
//!                                                 `-> relays keep their sources' paths --> sweep
//! ```
//! Invariants: a walk reaches each number that stays, once; paths without readers are released
//! behind the walk over relays.
//! Bound: `SOURCES_A_TURN` publishers in a turn, as many pulls, and as many relays.

use std::ops::Bound;

use crate::live::hub::Hub;
use crate::live::sources::Sources;
use crate::session::cx::Cx;

/// The walks over publishers, over pulls and over relays.
#[derive(Debug, Default)]
pub(crate) struct Walks {
    publishers: Walk,
    pulls: Walk,
    relays: Walk,
    /// Paths without readers are to be released when all relays have kept theirs.
    is_sweep_due: bool,
}

impl Walks {
    /// Begins a walk over all sources, unless one is under way.
    pub(crate) fn begin(&mut self) {
        for walk in [&mut self.publishers, &mut self.pulls, &mut self.relays] {
            if *walk == Walk::Over {
                *walk = Walk::Behind(None);
            }
        }
        self.is_sweep_due = true;
    }

    /// Whether paths without readers are to be released now.
    pub(crate) fn take_sweep(&mut self) -> bool {
        self.relays == Walk::Over && std::mem::take(&mut self.is_sweep_due)
    }

    /// Whether sources are left for the next turn.
    pub(crate) fn is_waiting(&self) -> bool {
        [self.publishers, self.pulls, self.relays].iter().any(|walk| *walk != Walk::Over)
    }
}

/// Position of a walk over sorted numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Walk {
    /// All sources have been checked.
    #[default]
    Over,
    /// The walk continues after this number.
    Behind(Option<u32>),
}

impl Walk {
    /// The next numbers; `numbers` lists those beyond a bound.
    fn next<I: Iterator<Item = u32>>(&mut self, numbers: impl FnOnce(Bound<u32>) -> I) -> Vec<u32> {
        let Self::Behind(last) = *self else { return Vec::new() };
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        let turn: Vec<u32> = numbers(from).take(SOURCES_A_TURN).collect();
        let is_part = turn.len() == SOURCES_A_TURN;
        *self = if is_part { Self::Behind(turn.last().copied()) } else { Self::Over };
        turn
    }
}

impl Sources {
    /// Checks the publishers, pulls and relays whose turn it is.
    pub(crate) fn go_on_with_sources(&mut self, cx: &mut Cx, hub: &mut Hub) {
        let (publishers, pulls) = (&self.publishers, &self.pulls);
        let next = |from| publishers.range_from(from).map(|(number, _)| number);
        let publishers = self.walks.publishers.next(next);
        let pulls = self.walks.pulls.next(|from| pulls.range_from(from));
        let relays = self.walks.relays.next(|from| self.relays.range_from(from));
        for number in publishers {
            self.look_after_publisher(cx, hub, number);
        }
        for number in pulls {
            self.pulls.look_after(cx, hub, &mut self.publishers, number);
        }
        for number in relays {
            self.renew_relay(cx, hub, number);
        }
    }

    fn look_after_publisher(&mut self, cx: &mut Cx, hub: &mut Hub, number: u32) {
        let now = cx.now;
        let Some(publisher) = self.publishers.get_mut(&number) else { return };
        publisher.source.measure(now);
        if publisher.fed_since.is_some() {
            publisher.describe(hub, now);
        }
        if publisher.relayed_from().is_some() || publisher.plays().is_some() {
            // The relay knows when its sources are silent, and a feed of titles when it waits.
            return;
        }
        if !publisher.is_recording() {
            if now.since(publisher.alive) < cx.config.timeout {
                return;
            }
            let is_answered = self.refuse_unanswered_claim(cx, hub, number);
            if !is_answered {
                self.dismiss_publisher(cx, hub, number, "publisher did not send RECORD in time");
            }
        } else if !self.publishers.report_to(cx, number, now) {
            self.dismiss_publisher(cx, hub, number, "no RTP from the source");
        }
    }
}

/// Each source costs one report at most.
const SOURCES_A_TURN: usize = 64;
