//! What a feed does next: asks its schedule, prepares the next item, ends the one that plays early.
//!
//! ```text
//!  end - PREPARE, cut - PREPARE, skip --> schedule.next --> reel --ready--> cut, if it is time
//! ```
//! Invariant: the item that plays is ended early only when the next one is ready, or when it is
//! skipped and nothing follows.
//! Bound: one item is prepared at a time.

use crate::base::time::{Mono, Npt};
use crate::live::sources::titles::feed::{Feed, Playing, Room};
use crate::live::sources::titles::reel::{Reel, WINDOWS_AHEAD};
use crate::live::sources::titles::schedule::Next;
use crate::poll::task::{Task, TaskClass, TaskOwner};
use crate::session::action::Action;

impl Feed {
    /// Asks the schedule for the next item, when it is time to prepare one.
    pub(super) fn look_at_schedule(&mut self, room: &Room<'_>) {
        let (now, utc_ns) = (room.cx.now, room.cx.utc_ns);
        if self.schedule.take_skip() {
            (self.plan.is_skipping, self.plan.is_stale) = (true, true);
        }
        let times = [self.schedule.revise_at(), self.plan.wait_until];
        for at in times.into_iter().flatten() {
            match at <= utc_ns {
                true => (self.plan.is_stale, self.plan.is_urgent) = (true, true),
                false => self.wake_at_utc(room, at),
            }
        }
        let mut is_soon = self.plan.is_skipping || self.plan.is_urgent;
        if let Some(cut_at) = self.schedule.cut_at() {
            is_soon |= cut_at.saturating_sub(utc_ns) <= PREPARE_NS;
            if cut_at > utc_ns {
                self.wake_at_utc(room, cut_at);
                self.wake_at_utc(room, cut_at.saturating_sub(PREPARE_NS));
            } else if self.plan.cut_asked != Some(cut_at) {
                (self.plan.cut_asked, self.plan.is_stale) = (Some(cut_at), true);
            }
        }
        if let Some(ends) = self.ends_at() {
            let prepare_at = ends.offset_ns(-PREPARE_NS);
            is_soon |= prepare_at <= now;
            if prepare_at > now {
                self.wake_at(prepare_at);
            }
        } else {
            is_soon = true;
        }
        if !is_soon || !std::mem::take(&mut self.plan.is_stale) {
            return;
        }
        self.plan.is_urgent = false;
        (self.plan.nothing, self.plan.wait_until) = (None, None);
        match self.schedule.next(utc_ns) {
            Next::Play(upcoming) => {
                let is_same = self.next.as_ref().is_some_and(|r| r.item() == upcoming.item);
                if !is_same {
                    self.next = Some(Reel::new(upcoming));
                }
            }
            Next::WaitUntil(at) => {
                (self.next, self.plan.wait_until) = (None, Some(at));
                self.wake_at_utc(room, at);
            }
            Next::Nothing(reason) => (self.next, self.plan.nothing) = (None, Some(reason)),
        }
        if self.current.is_none() {
            self.failure = self.plan.nothing.take();
        }
    }

    /// When the item that plays ends.
    fn ends_at(&self) -> Option<Mono> {
        let Playing { reel, zero, .. } = self.current.as_ref()?;
        Some(self.origin?.wall_of(Npt(zero.0.saturating_add(reel.end()?.at.0))))
    }

    /// Hands tasks to the workers.
    pub(super) fn ask(&mut self, room: &mut Room<'_>) {
        let (mut asked, requests) = (Vec::new(), &mut self.requests);
        if let Some(current) = &mut self.current {
            current.reel.ask(room.cx.now, WINDOWS_AHEAD, requests, &mut asked);
        }
        if let Some(next) = &mut self.next {
            next.ask(room.cx.now, 1, requests, &mut asked);
        }
        let class = if self.origin.is_some() { TaskClass::Prefetch } else { TaskClass::Control };
        let (shard, feed) = (room.cx.shard, self.number);
        room.cx.out.extend(asked.into_iter().map(|(request, work)| {
            let owner = TaskOwner::Titles { feed, request };
            Action::Submit(Task { shard, owner, class, work })
        }));
    }

    /// Ends the item that plays when another one is to begin and is ready.
    pub(super) fn cut(&mut self, room: &Room<'_>) {
        let is_due = self.schedule.cut_at().is_some_and(|at| at <= room.cx.utc_ns);
        let has_nothing = self.plan.nothing.is_some() || self.plan.wait_until.is_some();
        let is_last = self.plan.is_skipping && has_nothing;
        let is_ready = is_last || self.next.as_ref().is_some_and(Reel::is_ready);
        if !(is_due || self.plan.is_skipping) || !is_ready {
            return;
        }
        let (Some(current), Some(origin)) = (&mut self.current, self.origin) else { return };
        self.plan.is_skipping = false;
        let played = Npt(origin.at(room.cx.now).0.saturating_sub(current.zero.0));
        current.reel.cut(played.max(current.shown));
    }
}

/// From the preparation of an item to its begin.
const PREPARE_NS: i64 = 4_000_000_000;
