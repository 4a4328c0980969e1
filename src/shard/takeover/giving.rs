//! A shard whose sessions another process takes over.
//!
//! ```text
//!  Quiet   receives of RTSP connections end; streams go on; requests at hand are answered
//!  Freeze  sends end: what the kernel has not taken goes back to its connection
//!  record  by reference: nothing of the sessions changes (`recording`)
//! ```
//! A request that is not answered within `REQUEST_PATIENCE` goes along if it waits for a title, for
//! leave or for a path, so strangers who wait for a source on demand keep nobody. A send that its
//! client does not take within `SEND_PATIENCE` is cut, if its connection goes along: what is sent
//! on others goes on, and is nobody else's. Datagrams stay in the kernel or are kept: the old
//! process has them again when it goes on.
//! Bounds: `QUIET_MAX`, `FREEZING_MAX`; those of `waits`.

use std::sync::Arc;
use std::time::Duration;

use super::live::Giving;
use super::waits::{FreezingWaits, LOOKS_A_TURN, QuietWaits, are_done};
use super::{Answer, FREEZING_MAX, Freezing, Given, HELD_MAX, Held, QUIET_MAX, Quiet};
use super::{REQUEST_PATIENCE, SEND_PATIENCE, Step};
use crate::consumers::sessions::Sessions;
use crate::consumers::takeover::LeftBehind;
use crate::poll::poll_table::{EntryKey, Polling};
use crate::session::handover::MoveRefusal;
use crate::shard::inbox::Message;
use crate::shard::ring::RingError;
use crate::shard::ring::kernel::Kernel;
use crate::shard::state::Shard;

impl<K: Kernel> Shard<K> {
    /// Reads no request any more.
    pub(super) fn begin_quiet(&mut self, answer: Answer<Result<LeftBehind, String>>) {
        if self.phase.is_stopping() {
            return answer(Err("the server stops".to_owned()));
        }
        if !matches!(self.takeover.step, Step::Serving) {
            return answer(Err("another program takes over already".to_owned()));
        }
        self.net.entries.is_quiet = true;
        let listeners = self.net.entries.listeners();
        for key in &listeners {
            if let Some(link) = self.net.entries.link(*key) {
                self.net.ring.end_arrivals(link.slot);
            }
        }
        let mut connections = self.net.entries.connections();
        connections.retain(|key| !self.keeps_hearing(*key));
        let waits = QuietWaits {
            to_end: connections.clone(),
            listeners,
            connections,
            sessions: self.sessions.cx.directory.behind(None).map(|(_, session)| session).collect(),
        };
        let since = self.sessions.cx.now;
        let told = LeftBehind::default();
        self.takeover.step = Step::Quiet(Quiet { since, waits, told, answer: Some(answer) });
    }

    /// Whether a connection is heard until all packets are to end, because a publisher sends them
    /// there.
    fn keeps_hearing(&mut self, key: EntryKey) -> bool {
        let Sessions { cx, live, .. } = &self.sessions;
        let publishes = !live.sources.media_channels_on(cx, key).is_empty();
        if let Some(link) = self.net.entries.link_mut(key).filter(|_| publishes) {
            link.is_heard = true;
        }
        publishes
    }

    pub(super) fn end_connection_receive(&mut self, key: EntryKey) {
        if let Some(link) = self.net.entries.link(key) {
            self.net.entries.table.suspend(key);
            self.net.ring.end_receive(link.slot);
        }
    }

    /// Whether connections, or bytes of those that are to be quiet, wait to be handled.
    pub(super) fn has_requests(&self) -> bool {
        let is_quiet = |key| self.net.entries.link(key).is_some_and(|link| !link.is_heard);
        self.arrivals.has_connections(is_quiet)
    }

    /// Answers when no request is at hand: once a turn.
    pub(in crate::shard) fn look_at_quiet(&mut self) {
        let Step::Quiet(quiet) = &mut self.takeover.step else { return };
        if quiet.answer.is_none() {
            return;
        }
        let (since, mut waits) = (quiet.since, std::mem::take(&mut quiet.waits));
        let taken = self.sessions.cx.now.since(since);
        let busy = self.what_is_under_way(&mut waits, taken);
        let result = match busy {
            None => Some(Ok(self.left_behind())),
            Some(what) if taken >= QUIET_MAX => {
                Some(Err(format!("{what} for too long; try again")))
            }
            Some(_) => None,
        };
        let Step::Quiet(quiet) = &mut self.takeover.step else { return };
        quiet.waits = waits;
        let Some(result) = result else { return };
        if let Ok(left) = &result {
            quiet.told = left.clone();
        }
        if let Some(answer) = quiet.answer.take() {
            answer(result);
        }
    }

    /// What cannot be recorded yet; `None`: nothing.
    fn what_is_under_way(
        &mut self,
        waits: &mut QuietWaits,
        taken: Duration,
    ) -> Option<&'static str> {
        for _ in 0..LOOKS_A_TURN {
            let Some(key) = waits.to_end.pop() else { break };
            self.end_connection_receive(key);
        }
        if self.has_requests() || !self.refused.is_empty() {
            return Some("requests waited");
        }
        if !self.moves.is_quiet() {
            return Some("a session was being moved");
        }
        let is_late = taken >= REQUEST_PATIENCE;
        let is_quiet = |session| {
            if is_late {
                self.sessions.answer_early(session);
            }
            self.sessions.is_quiet(session)
        };
        if !are_done(&mut waits.sessions, is_quiet) {
            return Some("a player waited for its title");
        }
        let net = &self.net;
        let accepts_none = |key| match net.entries.link(key) {
            Some(link) => !net.ring.has_arrivals(link.slot),
            None => true,
        };
        if !are_done(&mut waits.listeners, accepts_none) {
            return Some("connections were being accepted");
        }
        if !waits.to_end.is_empty()
            || !are_done(&mut waits.connections, |key| self.is_done(key, is_late))
        {
            return Some("a request was at hand");
        }
        None
    }

    /// Whether nothing of a connection keeps it from being recorded. When it is late, nobody waits
    /// for one that cannot be, nor for a request that goes along.
    pub(super) fn is_done(&mut self, key: EntryKey, is_late: bool) -> bool {
        let Some(link) = self.net.entries.link(key) else { return true };
        let is_receiving = self.net.ring.is_receiving(link.slot);
        let Some(connection) = self.net.entries.connection_mut(key) else { return true };
        if is_receiving || connection.is_quiet() || !is_late {
            return !is_receiving && connection.is_quiet();
        }
        let unit = self.sessions.unit_on(key);
        self.check_unit(&unit) != Err(MoveRefusal::Busy)
    }

    /// Ends what is sent and received.
    pub(super) fn begin_freeze(&mut self, answer: Answer<Result<Given, String>>) {
        let told = match &self.takeover.step {
            Step::Quiet(quiet) if quiet.answer.is_none() && !self.phase.is_stopping() => {
                quiet.told.clone()
            }
            _ => return answer(Err("the server stops, or was not made quiet".to_owned())),
        };
        self.arrivals.hold_datagrams();
        let sockets = self.end_datagrams();
        let mut sends = Vec::new();
        for unit in self.units() {
            let is_sending =
                |key: &EntryKey| self.net.entries.link(*key).is_some_and(|link| link.is_sending);
            if let Some(key) = unit.connection.filter(is_sending)
                && self.check_unit(&unit).is_ok()
            {
                sends.push(key);
            }
        }
        let waits = FreezingWaits { sockets, sends, has_cut: false };
        let since = self.sessions.cx.now;
        let freezing = Freezing { since, waits, told, answer };
        self.takeover.step = Step::Freezing(Box::new(freezing));
    }

    /// A turn in which nothing is sent.
    pub(in crate::shard) fn work_still(&mut self) -> Result<(), RingError> {
        if matches!(self.takeover.step, Step::Waiting(_)) {
            self.reap()?;
            self.read_inbox();
            self.settle();
            return Ok(());
        }
        self.arrivals.hold_datagrams();
        self.reap()?;
        if matches!(self.takeover.step, Step::Freezing(_)) {
            // RTCP that found no free send in the turn before.
            self.sessions.cx.out.append(&mut self.unsent);
            self.settle();
        }
        self.hold_inbox();
        self.look_at_freezing();
        Ok(())
    }

    /// Keeps what comes, but for what the takeover says.
    fn hold_inbox(&mut self) {
        let inbox = Arc::clone(&self.inbox);
        while self.takeover.held.len() < HELD_MAX
            && let Some(done) = inbox.pop_outcome()
        {
            self.takeover.held.outcomes.push(done);
        }
        while self.takeover.held.len() < HELD_MAX
            && let Some(message) = inbox.pop_live()
        {
            self.takeover.held.live.push(message);
        }
        while let Some(message) = inbox.pop_message() {
            match message {
                Message::Takeover(message) => self.handle_takeover(*message),
                message => self.takeover.held.messages.push(message),
            }
            if self.takeover.held.len() >= HELD_MAX || !self.takeover.is_still() {
                return;
            }
        }
    }

    fn look_at_freezing(&mut self) {
        let Step::Freezing(freezing) = &mut self.takeover.step else { return };
        let (since, mut waits) = (freezing.since, std::mem::take(&mut freezing.waits));
        let taken = self.sessions.cx.now.since(since);
        let is_over = !self.is_sending_still(&mut waits, taken >= SEND_PATIENCE);
        let step = std::mem::replace(&mut self.takeover.step, Step::Frozen { given: Vec::new() });
        let Step::Freezing(mut freezing) = step else { return };
        if !is_over && taken < FREEZING_MAX {
            freezing.waits = waits;
            self.takeover.step = Step::Freezing(freezing);
            return;
        }
        let Freezing { told, answer, .. } = *freezing;
        let result = match is_over {
            true => self.record_all(since, &told),
            false => Err("a send did not end in time; try again".to_owned()),
        };
        let given = result.as_ref().map(|(_, units)| units.clone()).unwrap_or_default();
        self.takeover.step = Step::Frozen { given };
        answer(result.map(|(given, _)| given));
    }

    /// Whether something is sent or received. With `cuts` sends end whose clients do not take them.
    fn is_sending_still(&mut self, waits: &mut FreezingWaits, cuts: bool) -> bool {
        let net = &mut self.net;
        if cuts && !std::mem::replace(&mut waits.has_cut, true) {
            for key in &waits.sends {
                if let Some(link) = net.entries.link(*key).filter(|link| link.is_sending) {
                    net.ring.end_send(link.slot);
                }
            }
        }
        let is_sent = |key| net.entries.link(key).is_none_or(|link| !link.is_sending);
        let are_sent = are_done(&mut waits.sends, is_sent);
        let is_over = |key| match net.entries.link(key) {
            Some(link) => !net.ring.has_arrivals(link.slot),
            None => true,
        };
        let are_over = are_done(&mut waits.sockets, is_over);
        net.ring.has_unsent_runs()
            || !self.unsent.is_empty()
            || !self.sessions.cx.out.is_empty()
            || !are_sent
            || !are_over
    }

    /// Goes on, as if nothing had been asked.
    pub(super) fn resume(&mut self) {
        self.takeover.without = Arc::default();
        if matches!(self.takeover.step, Step::Serving | Step::Left | Step::Waiting(_)) {
            return;
        }
        self.takeover.step = Step::Serving;
        self.net.entries.is_quiet = false;
        self.accept_again();
        for key in std::mem::take(&mut self.takeover.unheard) {
            if let Some(link) = self.net.entries.link(key) {
                self.net.ring.keep_arrivals(link.slot);
                self.net.ring.arm_datagrams(link.slot, key.index);
            }
        }
        for key in self.net.entries.connections() {
            if let Some(link) = self.net.entries.link_mut(key) {
                link.is_heard = false;
                self.net.ring.keep_receiving(link.slot);
            }
            if self.net.entries.table.polling(key) == Some(Polling::Suspended) {
                self.wake_connection(key);
            }
        }
        self.resume_live();
        let Held { outcomes, live, messages, datagrams } = std::mem::take(&mut self.takeover.held);
        for done in outcomes {
            self.guarded(None, |shard| {
                shard.handle_outcome(done);
                shard.settle();
            });
        }
        for message in live {
            self.guarded(None, |shard| {
                shard.sessions.live.handle_live_message(&mut shard.sessions.cx, message);
            });
        }
        self.settle();
        for message in messages {
            self.guarded(None, |shard| {
                shard.handle_message(message);
                shard.settle();
            });
        }
        self.queue_datagrams(datagrams);
    }

    /// Accepts connections from now on.
    pub(super) fn accept_again(&mut self) {
        for key in self.net.entries.listeners() {
            let Some(link) = self.net.entries.link(key) else { continue };
            self.net.ring.keep_arrivals(link.slot);
            self.net.ring.arm_accept(link.slot, key.index);
        }
    }

    /// The sessions that were recorded are another process's: nothing of them is sent any more,
    /// and nobody is told. The others end.
    pub(super) fn leave(&mut self) {
        let step = std::mem::replace(&mut self.takeover.step, Step::Left);
        let Step::Frozen { given } = step else {
            self.takeover.step = step;
            return;
        };
        for unit in given {
            self.sessions.abandon(&unit);
            if let Some(key) = unit.connection {
                drop(self.take_connection(key));
            }
        }
        (self.takeover.held, self.takeover.live) = (Held::default(), Giving::default());
        // What packing has left behind is for nobody.
        self.sessions.cx.out.clear();
        self.phase = self.phase.stopped(self.sessions.cx.now);
    }
}
