//! A shard whose sessions another process takes over.
//!
//! ```text
//!  Quiet   receives of RTSP connections end; streams go on; requests at hand are answered
//!  Freeze  sends end: what the kernel has not taken goes back to its connection
//!  record  by reference: nothing of the sessions changes
//! ```
//! A send that its client does not take within `SEND_PATIENCE` is cut, so nobody is waited for.
//! Bounds: `QUIET_MAX`, `FREEZING_MAX`.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::{Answer, FREEZING_MAX, Given, HELD_MAX, Held, QUIET_MAX, SEND_PATIENCE, Step};
use crate::base::time::Mono;
use crate::consumers::parcel::Unit;
use crate::consumers::takeover::LeftBehind;
use crate::library::title::Title;
use crate::poll::poll_table::{EntryKey, Polling};
use crate::session::handover::MoveRefusal;
use crate::shard::inbox::Message;
use crate::shard::ring::RingError;
use crate::shard::ring::kernel::Kernel;
use crate::shard::state::Shard;
use crate::takeover::exact::Bytes;
use crate::takeover::v1::{DatagramRecord, Fd, PairRecord, ShardRecord, TitleRecord, UnitRecord};

/// A record that is being made.
struct Making {
    record: ShardRecord,
    files: Vec<Arc<OwnedFd>>,
    /// Places of titles in the record.
    titles: HashMap<*const Title, u32>,
    open: Vec<Arc<Title>>,
    /// Places in the record of pairs, by their places here.
    pairs: HashMap<u16, u32>,
}

impl Making {
    fn add_file(&mut self, file: Arc<OwnedFd>) -> Fd {
        self.files.push(file);
        Fd(u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX))
    }
}

impl<K: Kernel> Shard<K> {
    pub(super) fn titles_in_play(&self) -> Vec<Arc<Title>> {
        let mut titles: Vec<Arc<Title>> = Vec::new();
        let mut seen = HashMap::new();
        for title in self.sessions.vod.players.titles() {
            if seen.insert(Arc::as_ptr(title), ()).is_none() {
                titles.push(Arc::clone(title));
            }
        }
        titles
    }

    /// Reads no request any more.
    pub(super) fn begin_quiet(&mut self, answer: Answer<Result<LeftBehind, String>>) {
        if self.phase.is_stopping() {
            return answer(Err("the server stops".to_owned()));
        }
        if !matches!(self.takeover.step, Step::Serving) {
            return answer(Err("another program takes over already".to_owned()));
        }
        self.net.entries.is_quiet = true;
        for key in self.net.entries.listeners() {
            if let Some(link) = self.net.entries.link(key) {
                self.net.ring.end_arrivals(link.slot);
            }
        }
        for key in self.net.entries.connections() {
            let Some(link) = self.net.entries.link(key) else { continue };
            self.net.entries.table.suspend(key);
            self.net.ring.end_receive(link.slot);
        }
        let since = self.sessions.cx.now;
        self.takeover.step = Step::Quiet { since, answer: Some(answer) };
    }

    /// Answers when no request is at hand: once a turn.
    pub(in crate::shard) fn look_at_quiet(&mut self) {
        let Step::Quiet { since, answer: Some(_) } = &self.takeover.step else { return };
        let since = *since;
        let busy = self.what_is_under_way();
        let is_late = self.sessions.cx.now.since(since) >= QUIET_MAX;
        let result = match busy {
            None => Ok(self.left_behind()),
            Some(what) if is_late => Err(format!("{what} for too long; try again")),
            Some(_) => return,
        };
        if let Step::Quiet { answer, .. } = &mut self.takeover.step
            && let Some(answer) = answer.take()
        {
            answer(result);
        }
    }

    /// What cannot be recorded yet; `None`: nothing.
    fn what_is_under_way(&mut self) -> Option<&'static str> {
        if self.arrivals.has_connections() || !self.refused.is_empty() {
            return Some("requests waited");
        }
        if !self.moves.is_quiet() {
            return Some("a session was being moved");
        }
        if !self.sessions.are_quiet() {
            return Some("a player waited for its title");
        }
        for key in self.net.entries.listeners() {
            if self.net.entries.link(key).is_some_and(|link| self.net.ring.has_arrivals(link.slot))
            {
                return Some("connections were being accepted");
            }
        }
        for key in self.net.entries.connections() {
            let Some(link) = self.net.entries.link(key) else { continue };
            let connection = self.net.entries.connection_mut(key);
            if connection.is_some_and(|connection| !connection.is_quiet()) {
                return Some("a request was at hand");
            }
            if self.net.ring.is_receiving(link.slot) {
                return Some("bytes were being received");
            }
        }
        None
    }

    /// Sessions that cannot be handed over.
    fn left_behind(&mut self) -> LeftBehind {
        let mut left = LeftBehind::default();
        for unit in self.units() {
            if let Err(why) = self.check_unit(&unit) {
                self.sessions.leave(&unit, why, &mut left);
            }
        }
        self.sessions.leave_publishers(&mut left);
        left
    }

    fn units(&mut self) -> Vec<Unit> {
        let connections = self.net.entries.connections();
        self.sessions.units(&connections)
    }

    fn check_unit(&mut self, unit: &Unit) -> Result<(), MoveRefusal> {
        if let Some(key) = unit.connection {
            let connection = self.net.entries.connection_mut(key).ok_or(MoveRefusal::Busy)?;
            match connection.check_move() {
                // It has said nothing yet.
                Err(MoveRefusal::Tunnel) if connection.is_beginning() => {}
                checked => checked?,
            }
        }
        self.sessions.check_takeover(unit)
    }

    /// Ends what is sent and received.
    pub(super) fn begin_freeze(&mut self, answer: Answer<Result<Given, String>>) {
        if !matches!(self.takeover.step, Step::Quiet { .. }) || self.phase.is_stopping() {
            return answer(Err("the server stops, or was not made quiet".to_owned()));
        }
        let since = self.sessions.cx.now;
        self.takeover.step = Step::Freezing { since, answer: Some(answer) };
        self.arrivals.hold_datagrams();
        for place in self.sessions.cx.sockets.places() {
            if let Some(pair) = self.net.pairs.get(place).copied() {
                self.net.ring.end_arrivals(pair.rtp);
                self.net.ring.end_arrivals(pair.rtcp);
            }
        }
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
        if matches!(self.takeover.step, Step::Freezing { .. }) {
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
        let Step::Freezing { since, .. } = &self.takeover.step else { return };
        let since: Mono = *since;
        let taken = self.sessions.cx.now.since(since);
        let is_over = !self.is_sending_still(taken >= SEND_PATIENCE);
        let is_late = taken >= FREEZING_MAX;
        if !is_over && !is_late {
            return;
        }
        let result = match is_over {
            true => self.record_all(since),
            false => Err("a send did not end in time; try again".to_owned()),
        };
        let given = result.as_ref().map(|(_, units)| units.clone()).unwrap_or_default();
        let step = std::mem::replace(&mut self.takeover.step, Step::Frozen { given });
        if let Step::Freezing { answer: Some(answer), .. } = step {
            answer(result.map(|(given, _)| given));
        }
    }

    /// Whether something is sent or received. With `cuts` sends end whose clients do not take them.
    fn is_sending_still(&mut self, cuts: bool) -> bool {
        let mut is_sending = self.net.ring.has_unsent_runs()
            || !self.unsent.is_empty()
            || !self.sessions.cx.out.is_empty();
        for place in self.sessions.cx.sockets.places() {
            let pair = self.net.pairs.get(place);
            is_sending |= pair.is_some_and(|pair| {
                self.net.ring.has_arrivals(pair.rtp) || self.net.ring.has_arrivals(pair.rtcp)
            });
        }
        for key in self.net.entries.connections() {
            if let Some(link) = self.net.entries.link(key).filter(|link| link.is_sending) {
                if cuts {
                    self.net.ring.end_send(link.slot);
                }
                is_sending = true;
            }
        }
        is_sending
    }

    /// The record of all units that can go, and these units.
    fn record_all(&mut self, since: Mono) -> Result<(Given, Vec<Unit>), String> {
        let record = ShardRecord { shard: self.id.0, frozen_ns: since.0, ..ShardRecord::default() };
        let mut making = Making {
            record,
            files: Vec::new(),
            titles: HashMap::new(),
            open: Vec::new(),
            pairs: HashMap::new(),
        };
        self.record_pairs(&mut making)?;
        let mut given = Vec::new();
        for unit in self.units() {
            if self.check_unit(&unit).is_ok() && self.record_unit(&unit, &mut making)? {
                given.push(unit);
            }
        }
        for title in std::mem::take(&mut making.open) {
            let file = title.file.try_clone().map_err(|error| no_descriptor(&error))?;
            let file = making.add_file(Arc::new(file.into()));
            let name = (!title.is_clip()).then(|| title.name.clone());
            making.record.titles.push(TitleRecord { name, file, wire: title.wire.random() });
        }
        self.record_datagrams(&mut making);
        let Making { record, files, .. } = making;
        Ok((Given { record, files }, given))
    }

    /// Pairs by which a session here sends: own ones, and those of other shards.
    fn record_pairs(&self, making: &mut Making) -> Result<(), String> {
        let sockets = &self.sessions.cx.sockets;
        for place in sockets.all_places() {
            let Some((home, _)) = sockets.home_of(place, self.id) else { continue };
            let (Some(pair), Some((rtp_port, _))) =
                (self.net.pairs.get(place), sockets.ports(place))
            else {
                continue;
            };
            let shared = [pair.rtp, pair.rtcp].map(|slot| self.net.ring.share_fd(slot));
            let [rtp, rtcp] = shared.map(|socket| making.add_file(socket));
            let at = u32::try_from(making.record.pairs.len()).unwrap_or(u32::MAX);
            making.record.pairs.push(PairRecord { shard: home.0, rtp_port, rtp, rtcp });
            making.pairs.insert(place, at);
        }
        Ok(())
    }

    /// False: the unit cannot go after all.
    fn record_unit(&mut self, unit: &Unit, making: &mut Making) -> Result<bool, String> {
        let pairs = std::mem::take(&mut making.pairs);
        let sessions = {
            let (titles, open) = (&mut making.titles, &mut making.open);
            let mut title_of = |title: &Arc<Title>| {
                *titles.entry(Arc::as_ptr(title)).or_insert_with(|| {
                    open.push(Arc::clone(title));
                    u32::try_from(open.len() - 1).unwrap_or(u32::MAX)
                })
            };
            self.sessions.record(unit, &mut title_of, &|place| pairs.get(&place).copied())
        };
        making.pairs = pairs;
        let Some(sessions) = sessions else { return Ok(false) };
        let connection = match unit.connection {
            None => None,
            Some(key) => {
                let Some(link) = self.net.entries.link(key) else { return Ok(false) };
                let place = Fd(u32::try_from(making.files.len()).unwrap_or(u32::MAX));
                let connection = self.net.entries.connection_mut(key);
                let Some(record) = connection.and_then(|connection| connection.record(place))
                else {
                    return Ok(false);
                };
                making.add_file(self.net.ring.share_fd(link.slot));
                Some(record)
            }
        };
        making.record.units.push(UnitRecord { connection, sessions });
        Ok(true)
    }

    fn record_datagrams(&mut self, making: &mut Making) {
        for (token, from, bytes) in self.arrivals.take_datagrams() {
            let Some(key) = self.net.entries.table.key_at(token) else { continue };
            let found = self.net.pairs.place_of(key);
            let Some((place, is_rtcp)) = found else { continue };
            let Some(pair) = making.pairs.get(&place).copied() else { continue };
            self.takeover.held.datagrams.push((key, from, bytes.clone()));
            let record = DatagramRecord { pair, is_rtcp, from, bytes: Bytes(bytes) };
            making.record.datagrams.push(record);
        }
    }

    /// Goes on, as if nothing had been asked.
    pub(super) fn resume(&mut self) {
        if matches!(self.takeover.step, Step::Serving | Step::Left | Step::Waiting(_)) {
            return;
        }
        self.takeover.step = Step::Serving;
        self.net.entries.is_quiet = false;
        self.arm_sockets();
        for key in self.net.entries.connections() {
            if let Some(link) = self.net.entries.link(key) {
                self.net.ring.keep_receiving(link.slot);
            }
            if self.net.entries.table.polling(key) == Some(Polling::Suspended) {
                self.wake_connection(key);
            }
        }
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
        self.handle_datagrams(datagrams);
    }

    /// Accepts and receives datagrams from now on.
    pub(super) fn arm_sockets(&mut self) {
        for key in self.net.entries.listeners() {
            let Some(link) = self.net.entries.link(key) else { continue };
            self.net.ring.keep_arrivals(link.slot);
            self.net.ring.arm_accept(link.slot, key.index);
        }
        for place in self.sessions.cx.sockets.places() {
            self.net.pairs.arm(&mut self.net.ring, place);
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
            drop(self.sessions.pack(&unit));
            if let Some(key) = unit.connection {
                drop(self.take_connection(key));
            }
        }
        self.takeover.held = Held::default();
        // What packing has left behind is for nobody.
        self.sessions.cx.out.clear();
        self.phase = self.phase.stopped(self.sessions.cx.now);
    }
}

fn no_descriptor(error: &std::io::Error) -> String {
    format!("the file of a title cannot be handed over: {error}")
}

impl<K: Kernel> Shard<K> {
    /// Hands datagrams to their consumers that came while nothing was to change.
    pub(super) fn handle_datagrams(
        &mut self,
        datagrams: Vec<(EntryKey, std::net::SocketAddr, Vec<u8>)>,
    ) {
        for (key, from, bytes) in datagrams {
            let from = crate::consumers::canonical(from);
            self.dispatch(key, crate::poll::consumer::Event::Datagram { from, bytes: &bytes });
            self.settle();
        }
    }
}
