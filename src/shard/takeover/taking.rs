//! A shard that takes sessions over from another process.
//!
//! ```text
//!  Waiting --Open--> titles --Take--> sessions are here, with timers; nothing is armed --Begin-->
//! ```
//! What does not fit is told before anything has moved: the process ends then, and the other one
//! goes on.

use std::collections::{HashMap, HashSet, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::{Answer, OPENS_MAX, Opening, Step, Taken, TakenUnit, TakeoverMessage, Waiting};
use crate::base::time::Mono;
use crate::config::paths::PathTable;
use crate::consumers::Consumer;
use crate::consumers::rtsp_connection::{Places, RtspConnection};
use crate::consumers::takeover::TakenPaths;
use crate::library::title::{Adopted, Title};
use crate::poll::poll_table::EntryKey;
use crate::poll::task::{OpenFailure, Task, TaskClass, TaskOwner, Work};
use crate::session::directory::SessionRef;
use crate::shard::ring::kernel::Kernel;
use crate::shard::state::Shard;
use crate::takeover::v1::ConnectionRecord;

impl<K: Kernel> Shard<K> {
    /// Nothing is armed before another process has handed over.
    pub(in crate::shard) fn wait_for_takeover(&mut self, paths: Arc<PathTable>) {
        self.net.entries.is_quiet = true;
        let (opening, inputs, datagrams) = (None, Vec::new(), Vec::new());
        let waiting = Waiting { paths, opening, inputs, datagrams, halted: None };
        self.takeover.step = Step::Waiting(Box::new(waiting));
    }

    pub(in crate::shard) fn handle_takeover(&mut self, message: TakeoverMessage) {
        match message {
            TakeoverMessage::Titles { answer } => answer(self.titles_in_play()),
            TakeoverMessage::Pairs { answer } => answer(self.open_pairs()),
            TakeoverMessage::Without { titles } => self.takeover.without = titles,
            TakeoverMessage::Quiet { answer } => self.begin_quiet(answer),
            TakeoverMessage::Packets { answer } => self.begin_packets(answer),
            TakeoverMessage::Halt { answer } => self.begin_halt(answer),
            TakeoverMessage::Pass { answer } => self.pass(answer),
            TakeoverMessage::Freeze { answer } => self.begin_freeze(answer),
            TakeoverMessage::Resume => self.resume(),
            TakeoverMessage::Leave => self.leave(),
            TakeoverMessage::Open { titles, answer } => self.open_titles(titles, answer),
            TakeoverMessage::Take { taken, answer } => answer(self.take(taken)),
            TakeoverMessage::Begin { frozen } => self.begin(frozen),
        }
    }

    fn open_titles(
        &mut self,
        titles: Vec<Arc<Adopted>>,
        answer: Answer<Vec<Result<Arc<Title>, OpenFailure>>>,
    ) {
        let Step::Waiting(waiting) = &mut self.takeover.step else { return };
        let opened = titles.iter().map(|_| None).collect();
        let titles: VecDeque<_> = (0..).zip(titles).collect();
        waiting.opening = Some(Opening { waiting: titles, under_way: 0, opened, answer });
        self.go_on_opening();
    }

    fn go_on_opening(&mut self) {
        let Step::Waiting(waiting) = &mut self.takeover.step else { return };
        let Some(opening) = &mut waiting.opening else { return };
        let mut tasks = Vec::new();
        while opening.under_way < OPENS_MAX
            && let Some((number, adopted)) = opening.waiting.pop_front()
        {
            opening.under_way += 1;
            tasks.push(Task {
                shard: self.id,
                owner: TaskOwner::Takeover(number),
                class: TaskClass::Control,
                work: Work::Adopt(adopted),
            });
        }
        if opening.under_way == 0
            && let Some(Opening { opened, answer, .. }) = waiting.opening.take()
        {
            answer(opened.into_iter().flatten().collect());
        }
        tasks.into_iter().for_each(|task| self.submit(task));
    }

    /// A title is open, or will not open.
    pub(in crate::shard) fn handle_title_taken(
        &mut self,
        number: u32,
        result: Result<Arc<Title>, OpenFailure>,
    ) {
        let Step::Waiting(waiting) = &mut self.takeover.step else { return };
        let Some(opening) = &mut waiting.opening else { return };
        opening.under_way = opening.under_way.saturating_sub(1);
        if let Some(place) = opening.opened.get_mut(number as usize) {
            *place = Some(result);
        }
        self.go_on_opening();
    }

    /// The workers have no room for a title: it waits for those that are being opened.
    pub(in crate::shard) fn handle_adopt_refused(&mut self, number: u32, adopted: Arc<Adopted>) {
        let Step::Waiting(waiting) = &mut self.takeover.step else { return };
        let Some(opening) = &mut waiting.opening else { return };
        opening.under_way = opening.under_way.saturating_sub(1);
        opening.waiting.push_front((number, adopted));
        if opening.under_way == 0 {
            // The workers have enough to do for others.
            let busy = OpenFailure::Unavailable("the workers have no room".to_owned());
            for (number, _) in std::mem::take(&mut opening.waiting) {
                if let Some(place) = opening.opened.get_mut(number as usize) {
                    *place = Some(Err(busy.clone()));
                }
            }
            self.go_on_opening();
        }
    }

    /// Takes sessions in.
    fn take(&mut self, taken: Taken) -> Result<usize, String> {
        let Taken { paths, inputs, pairs, units, datagrams, halted } = taken;
        self.check_room(&pairs, &units)?;
        if let Step::Waiting(waiting) = &mut self.takeover.step {
            waiting.halted = halted;
        }
        for (ids, pair) in pairs {
            let ids = Some(ids).filter(|ids| *ids != self.id);
            let added = self.net.add_waiting_pair(&mut self.sessions, pair, ids);
            added.map_err(|error| format!("UDP sockets cannot be taken over: {error}"))?;
        }
        self.take_inputs(inputs);
        let paths = self.take_paths(paths);
        let sockets = &self.sessions.cx.sockets;
        let port_of = |place: u16| sockets.ports(place).map(|(rtp_port, _)| rtp_port);
        let places = sockets.places().into_iter();
        let places: HashMap<u16, u16> =
            places.filter_map(|place| Some((port_of(place)?, place))).collect();
        let mut count = 0;
        for unit in units {
            count += self.take_unit(unit, &places, &paths)?;
        }
        for (rtp_port, is_rtcp, from, bytes) in datagrams {
            let place = places.get(&rtp_port).copied();
            let key = place.and_then(|place| self.net.pairs.entry(place, is_rtcp));
            if let (Some(key), Step::Waiting(waiting)) = (key, &mut self.takeover.step) {
                waiting.datagrams.push((key, from, bytes));
            }
        }
        self.settle();
        Ok(count)
    }

    fn check_room<P>(&self, pairs: &[P], units: &[TakenUnit]) -> Result<(), String> {
        let connections = units.iter().filter(|unit| unit.socket.is_some()).count();
        let rows = connections + 2 * pairs.len();
        let table = &self.net.entries.table;
        if table.count() + rows > table.entries_max() || !self.net.ring.has_room(rows) {
            return Err(
                "there is no room for all connections: raise server.poll_entries_max".into()
            );
        }
        let sessions: usize = units.iter().map(|unit| unit.record.sessions.len()).sum();
        if self.sessions.cx.session_count() + sessions > self.sessions.cx.config.sessions_max {
            return Err("there is no room for all sessions: raise rtsp.sessions_max".into());
        }
        Ok(())
    }

    /// Returns the number of sessions. `places` are those of pairs, by their ports of RTP.
    fn take_unit(
        &mut self,
        unit: TakenUnit,
        places: &HashMap<u16, u16>,
        paths: &TakenPaths,
    ) -> Result<usize, String> {
        let TakenUnit { record, socket, titles, ports } = unit;
        let key = match (&record.connection, socket) {
            (Some(connection), Some(socket)) => Some(self.install_taken(connection, socket)?),
            _ => None,
        };
        let pair_of = |index: u32| places.get(ports.get(index as usize)?).copied();
        let mut count = 0;
        for session in record.sessions {
            let taken = self.sessions.take_in(session, key, (&titles, paths), &pair_of);
            taken.map_err(|why| format!("a session cannot be taken over: {why}"))?;
            count += 1;
        }
        Ok(count)
    }

    fn install_taken(
        &mut self,
        record: &ConnectionRecord,
        socket: OwnedFd,
    ) -> Result<EntryKey, String> {
        let ip = record.peer.ip().to_canonical();
        let cx = &self.sessions.cx;
        let places = Places {
            connection: self.addresses.admit(ip, 1),
            half_open: cx.config.shares.half_open.admit(ip, 1),
        };
        let connection = RtspConnection::resumed(record, places, cx);
        let consumer = Consumer::Connection(Box::new(connection));
        let installed = self.net.entries.install(&mut self.net.ring, consumer, socket);
        let (key, _) = installed
            .map_err(|(_, error)| format!("a connection cannot be taken over: {error}"))?;
        if let Some(connection) = self.net.entries.connection_mut(key) {
            connection.set_key(key);
        }
        self.cells.connections.add(1);
        if let Step::Waiting(waiting) = &mut self.takeover.step
            && !record.input.0.is_empty()
        {
            waiting.inputs.push((key, record.input.0.clone()));
        }
        Ok(key)
    }

    /// Everything is this process's now.
    fn begin(&mut self, frozen: Mono) {
        let step = std::mem::take(&mut self.takeover.step);
        let Step::Waiting(waiting) = step else {
            self.takeover.step = step;
            return;
        };
        let Waiting { paths, inputs, datagrams, halted, .. } = *waiting;
        self.net.entries.is_quiet = false;
        self.observe_gaps(frozen, halted.unwrap_or(frozen));
        self.net.inputs.begin(self.sessions.cx.now);
        self.guarded(None, |shard| {
            shard.sessions.live.configure_paths(&mut shard.sessions.cx, paths);
        });
        self.accept_again();
        for place in self.sessions.cx.sockets.places() {
            self.net.pairs.arm(&mut self.net.ring, place);
        }
        let with_input: HashSet<EntryKey> = inputs.iter().map(|(key, _)| *key).collect();
        for key in self.net.entries.connections() {
            self.watch_connection(key);
            let begins = self.net.entries.connection_mut(key);
            let begins = begins.filter(|one| one.is_beginning()).map(|one| one.peer().ip());
            if let Some(ip) = begins {
                self.queue_beginning(key, ip, false);
            }
            if !with_input.contains(&key) {
                self.wake_connection(key);
            }
        }
        for (key, bytes) in inputs {
            // As they could have come, so that a turn handles its share of them.
            for piece in bytes.chunks(PIECE_BYTES) {
                self.queue_received(key, piece);
            }
        }
        self.queue_datagrams(datagrams);
        for done in std::mem::take(&mut self.takeover.held.outcomes) {
            self.guarded(None, |shard| {
                shard.handle_outcome(done);
                shard.settle();
            });
        }
    }

    /// A session of a live path is sent nothing since packets ceased to come, another one since the
    /// other process ceased to send.
    fn observe_gaps(&self, frozen: Mono, halted: Mono) {
        let now = self.sessions.cx.now;
        for (_, session) in self.sessions.cx.directory.behind(None) {
            let since = match session {
                SessionRef::Title(_) => frozen,
                SessionRef::Reader(_) | SessionRef::Publisher(_) => halted.min(frozen),
            };
            let gap_ns = u64::try_from(now.since(since).as_nanos()).unwrap_or(u64::MAX);
            self.cells.takeover_gap.observe_ns(gap_ns);
        }
    }
}

/// Bytes that a receive takes at once.
const PIECE_BYTES: usize = 4 << 10;
