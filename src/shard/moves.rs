//! Sessions that move between shards: the shard's part, with descriptors and messages.
//!
//! ```text
//!  begin_move --Prepare--> new shard --Prepared--> freeze: no receive, no send is under way
//!     --Hold--> home --Held--> pack --Parcel--> new shard: unpack --Settled--> home
//! ```
//! `session::handover` has the steps and why they keep the order of events; `consumers::parcel`
//! what is packed. A datagram socket goes as a duplicate, which sends; the home receives.
//! A connection goes as its descriptor, once no operation on it is under way.
//!
//! Invariants: a message about a move is never lost: one that an inbox does not take waits, and
//! those behind it. A parcel that finds no room goes back; one that finds none there either ends
//! its sessions. Bounds: `MOVES_MAX` departures and as many preparations for each other shard,
//! `ARRIVALS_MAX` parcels that wait, `OUTBOX_MAX` messages behind which events are handed back.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use super::dispatch::shard_count;
use super::inbox::Message;
use super::ring::kernel::Kernel;
use super::sockets::UdpPair;
use super::state::Shard;
use crate::base::ids::{SessionId, ShardId};
use crate::base::time::Mono;
use crate::consumers::Consumer;
use crate::consumers::parcel::{Packed, Unit};
use crate::consumers::rtsp_connection::RtspConnection;
use crate::poll::poll_table::{EntryKey, Polling};
use crate::rtsp::response::Status;
use crate::session::action::Action;
use crate::session::handover::{
    Departure, DepartureInput, DepartureOutput, MOVE_TIME_MAX, MOVES_MAX, MoveRefusal, Routed,
    Routes,
};
use crate::shard::questions::Question;

mod room;

/// Takes the outcome of a move; called once.
pub type MoveReply = Box<dyn FnOnce(Result<ShardId, MoveRefusal>) + Send>;

/// A message about moves between shards.
#[derive(Debug)]
pub enum MoveMessage {
    /// To the new shard: sessions will come that read these paths.
    Prepare {
        /// The old shard.
        from: ShardId,
        /// Number of the move there.
        number: u32,
        /// Live paths that the sessions read.
        paths: Vec<Arc<str>>,
    },
    /// To the old shard: the new one is ready, or refuses.
    Prepared {
        /// Number of the move.
        number: u32,
        /// Whether it is ready.
        result: Result<(), MoveRefusal>,
    },
    /// To the home: events of these sessions are to be held.
    Hold {
        /// The shard that they are on.
        from: ShardId,
        /// Number of the move there.
        number: u32,
        /// The sessions.
        ids: Vec<SessionId>,
    },
    /// To the old shard: no event comes from the home until the sessions are settled.
    Held {
        /// Number of the move.
        number: u32,
    },
    /// To the new shard: the sessions.
    Parcel(Box<Parcel>),
    /// To the home: the sessions are on this shard.
    Settled {
        /// The sessions.
        ids: Vec<SessionId>,
        /// Where they are.
        at: ShardId,
    },
    /// To the home: a session has ended elsewhere.
    Ended {
        /// The session.
        id: SessionId,
        /// The server ended it by BYE: its client may still send commands.
        was_dismissed: bool,
    },
    /// To the home: the addresses of a client are free.
    Freed {
        /// Pair of the home.
        pair: u16,
        /// The client's RTP address.
        rtp: std::net::SocketAddr,
        /// The client's RTCP address.
        rtcp: std::net::SocketAddr,
    },
    /// To where a session is: a report that came in at its home.
    Report {
        /// The session.
        id: SessionId,
        /// Pair of the home.
        pair: u16,
        /// The client's RTCP address.
        from: std::net::SocketAddr,
        /// The datagram.
        bytes: Vec<u8>,
    },
}

/// Sessions on their way, with their descriptors.
pub struct Parcel {
    packed: Packed,
    files: ParcelFiles,
    ids: Vec<SessionId>,
    home: ShardId,
    from: ShardId,
    reply: Option<MoveReply>,
    /// The new shard did not take it.
    returned: Option<MoveRefusal>,
    /// Until when it may wait for packets of its paths.
    deadline: Mono,
}

/// Descriptors of a parcel.
#[derive(Debug, Default)]
struct ParcelFiles {
    connection: Option<OwnedFd>,
    /// Sockets of the home, by the place of the pair there.
    pairs: Vec<(u16, UdpPair)>,
}

/// Moves of one shard.
#[derive(Default)]
pub(super) struct Moves {
    departures: Vec<Leaving>,
    preparations: Vec<Preparation>,
    /// Parcels that wait for packets of their paths.
    arrivals: Vec<Parcel>,
    routes: Routes<Message>,
    /// Messages that are still to be sent, in order.
    outbox: VecDeque<(ShardId, Message)>,
    /// An inbox did not take the first of them.
    is_stuck: bool,
    numbers: u32,
    /// Until when a parcel may come that this shard is ready for.
    promised_until: Mono,
    /// Where `shed` looks next.
    pub(super) shed_behind: Option<SessionId>,
    /// When the CPU time of the thread was read.
    pub(super) busy_read: Mono,
}

struct Leaving {
    number: u32,
    id: SessionId,
    to: ShardId,
    home: ShardId,
    departure: Departure,
    /// The connection that is frozen.
    frozen: Option<EntryKey>,
    /// The sessions whose events the home holds.
    held: Vec<SessionId>,
    reply: Option<MoveReply>,
}

struct Preparation {
    from: ShardId,
    number: u32,
    paths: Vec<Arc<str>>,
    deadline: Mono,
}

impl std::fmt::Debug for Moves {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Moves")
            .field("departures", &self.departures.len())
            .field("preparations", &self.preparations.len())
            .field("arrivals", &self.arrivals.len())
            .field("routes", &self.routes.len())
            .field("outbox", &self.outbox.len())
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Parcel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parcel").field("ids", &self.ids).finish_non_exhaustive()
    }
}

impl Moves {
    /// Whether the shard must not sleep.
    pub(super) fn is_pressing(&self) -> bool {
        !self.outbox.is_empty() && !self.is_stuck
    }

    /// Whether an inbox is full: the next try is soon, and not at once.
    pub(super) fn is_stuck(&self) -> bool {
        self.is_stuck
    }

    /// Whether a shard that stops must wait for a parcel, or for room in an inbox.
    pub(super) fn holds_up_the_end(&self, now: Mono) -> bool {
        !self.outbox.is_empty() || !self.arrivals.is_empty() || now < self.promised_until
    }

    /// When a look at the moves is due.
    pub(super) fn next_due(&self) -> Option<Mono> {
        let departures = self.departures.iter().map(|leaving| leaving.departure.deadline());
        let preparations = self.preparations.iter().map(|preparation| preparation.deadline);
        departures.chain(preparations).chain(self.arrivals.iter().map(|p| p.deadline)).min()
    }

    /// Whether no session is under way, here or from here.
    pub(super) fn is_quiet(&self) -> bool {
        self.departures.is_empty()
            && self.preparations.is_empty()
            && self.arrivals.is_empty()
            && self.outbox.is_empty()
            && !self.routes.holds()
    }

    /// Sessions and messages that are under way here, and routes to sessions elsewhere.
    pub(super) fn len(&self) -> usize {
        self.departures.len()
            + self.preparations.len()
            + self.arrivals.len()
            + self.outbox.len()
            + self.routes.len()
    }

    pub(super) fn send(&mut self, to: ShardId, message: MoveMessage) {
        self.outbox.push_back((to, Message::Move(Box::new(message))));
    }

    fn leaving(&self, number: u32) -> Option<usize> {
        self.departures.iter().position(|leaving| leaving.number == number)
    }
}

/// The session that a message is for, wherever that is.
fn session_of(message: &Message) -> Option<SessionId> {
    match message {
        Message::Forwarded(command) => command.session,
        Message::EndSession { id, .. }
        | Message::Events { id, .. }
        | Message::MoveSession { id, .. }
        | Message::Asked(Question::Session { id, .. }) => Some(*id),
        Message::Move(message) => match &**message {
            MoveMessage::Report { id, .. } => Some(*id),
            _ => None,
        },
        _ => None,
    }
}

impl<K: Kernel> Shard<K> {
    /// Sends a message to where its session is. The message comes back when that is here.
    pub(super) fn route(&mut self, message: Message) -> Option<Message> {
        if self.sessions.cx.away.is_empty() {
            return Some(message);
        }
        let Some(id) = session_of(&message) else { return Some(message) };
        let routed = match self.moves.routes.route(id, message) {
            Routed::To(_, message) if self.moves.outbox.len() >= OUTBOX_MAX => {
                Routed::Full(message)
            }
            routed => routed,
        };
        match routed {
            Routed::Here(message) => return Some(message),
            Routed::To(shard, message) => self.moves.outbox.push_back((shard, message)),
            Routed::Held => {}
            Routed::Full(Message::Forwarded(command)) => {
                let response =
                    command.response(Status::ServiceUnavailable).header("Retry-After", "1");
                let reply_to = command.reply_to;
                self.sessions.cx.out.push(Action::Respond { reply_to, response });
            }
            // Who asked sees that there is no answer; a report is lost as on the network.
            Routed::Full(_) => self.cells.inbox_full.add(1),
        }
        None
    }

    /// Moves a session to another shard, with all that is on its connection.
    pub(super) fn begin_move(&mut self, id: SessionId, to: ShardId, reply: MoveReply) {
        match self.check_move(id, to) {
            Ok((home, unit)) => {
                self.moves.numbers = self.moves.numbers.wrapping_add(1);
                let number = self.moves.numbers;
                let departure = Departure::new(home == self.id, self.sessions.cx.now);
                let (frozen, held, reply) = (None, Vec::new(), Some(reply));
                let leaving = Leaving { number, id, to, home, departure, frozen, held, reply };
                self.moves.departures.push(leaving);
                let (from, paths) = (self.id, self.sessions.paths_of(&unit));
                self.moves.send(to, MoveMessage::Prepare { from, number, paths });
            }
            Err(why) => {
                self.cells.moves_refused.add(1);
                reply(Err(why));
            }
        }
    }

    pub(super) fn check_move(
        &mut self,
        id: SessionId,
        to: ShardId,
    ) -> Result<(ShardId, Unit), MoveRefusal> {
        // A guest has an inbox too, and takes no sessions.
        if to.0 >= shard_count(&self.poller) {
            return Err(MoveRefusal::NoShard);
        }
        let unit = self.sessions.unit_of(id)?;
        if to == self.id {
            return Err(MoveRefusal::SameShard);
        }
        if self.phase.is_stopping() {
            return Err(MoveRefusal::Stopping);
        }
        // Another process takes all sessions over.
        if self.net.entries.is_quiet {
            return Err(MoveRefusal::Busy);
        }
        if self.moves.departures.len() >= MOVES_MAX {
            return Err(MoveRefusal::TooMany);
        }
        let home = self.sessions.check_move(&unit)?;
        if let Some(entry) = unit.connection {
            let connection = self.net.entries.connection_mut(entry);
            connection.ok_or(MoveRefusal::Busy)?.check_move()?;
        }
        let is_moving = |leaving: &Leaving| unit.sessions.iter().any(|(id, _)| *id == leaving.id);
        if self.moves.departures.iter().any(is_moving) {
            return Err(MoveRefusal::Busy);
        }
        Ok((home, unit))
    }

    /// Goes on with moves: once a turn, when nothing that sessions asked for is left undone.
    pub(super) fn go_on_with_moves(&mut self) {
        if !self.sessions.cx.directory.has_guests_left() && self.moves.len() == 0 {
            return;
        }
        for id in self.sessions.cx.directory.take_guests_left() {
            let was_dismissed = self.sessions.live.readers.has_ended(id);
            let home = self.sessions.cx.home_of(id);
            self.moves.send(home, MoveMessage::Ended { id, was_dismissed });
        }
        self.answer_preparations();
        for parcel in std::mem::take(&mut self.moves.arrivals) {
            self.take_parcel(parcel);
        }
        let numbers: Vec<u32> = self.moves.departures.iter().map(|l| l.number).collect();
        for number in numbers {
            self.look_at_departure(number);
        }
        self.settle();
        self.post_moves();
    }

    /// Sends what waits, in order. What an inbox does not take stays first.
    fn post_moves(&mut self) {
        self.moves.is_stuck = false;
        while let Some((to, message)) = self.moves.outbox.pop_front() {
            if to == self.id {
                self.handle_message(message);
                continue;
            }
            let Some(inbox) = self.poller.inbox(to) else { continue };
            if let Err(back) = inbox.push(message) {
                self.cells.inbox_full.add(1);
                self.moves.outbox.push_front((to, back));
                self.moves.is_stuck = true;
                return;
            }
        }
    }

    pub(super) fn handle_move(&mut self, message: MoveMessage) {
        let now = self.sessions.cx.now;
        match message {
            MoveMessage::Prepare { from, number, paths } => {
                let deadline = now + MOVE_TIME_MAX / 2;
                self.moves.preparations.push(Preparation { from, number, paths, deadline });
            }
            MoveMessage::Prepared { number, result } => {
                let input = result.map_or_else(DepartureInput::Refused, |()| DepartureInput::Ready);
                let _goes_on = self.advance(number, input);
            }
            MoveMessage::Hold { from, number, ids } => {
                ids.into_iter().for_each(|id| self.hold(id));
                self.moves.send(from, MoveMessage::Held { number });
            }
            MoveMessage::Held { number } => {
                let _goes_on = self.advance(number, DepartureInput::Held);
            }
            MoveMessage::Parcel(parcel) => self.take_parcel(*parcel),
            MoveMessage::Settled { ids, at } => self.settle_sessions(&ids, at),
            MoveMessage::Ended { id, was_dismissed } => {
                self.sessions.cx.away.remove(&id);
                if was_dismissed {
                    self.sessions.live.readers.recently_closed.add(id);
                }
                // They are answered as for a session that nobody has.
                for event in self.moves.routes.forget(id) {
                    self.handle_message(event);
                }
            }
            MoveMessage::Freed { pair, rtp, rtcp } => {
                self.sessions.cx.release_tuple(pair, rtp, rtcp);
            }
            MoveMessage::Report { id, pair, from, bytes } => {
                let home = self.sessions.cx.home_of(id);
                let place = match home == self.id {
                    true => Some(pair),
                    false => self.sessions.cx.sockets.foreign((home, pair)),
                };
                match place {
                    Some(place) => self.sessions.handle_report_datagram(place, from, &bytes),
                    None => self.cells.datagrams_unmatched.add(1),
                }
            }
        }
    }

    fn hold(&mut self, id: SessionId) {
        self.moves.routes.hold(id);
        self.sessions.cx.away.insert(id);
    }

    /// It is known where sessions are: the events that were held follow them.
    fn settle_sessions(&mut self, ids: &[SessionId], at: ShardId) {
        for id in ids {
            // It has ended meanwhile, and its events with it.
            if !self.sessions.cx.away.contains(id) {
                continue;
            }
            let events = self.moves.routes.settle(*id, at, self.id);
            if at == self.id {
                self.sessions.cx.away.remove(id);
            }
            self.moves.outbox.extend(events.into_iter().map(|event| (at, event)));
        }
    }

    fn answer_preparations(&mut self) {
        let now = self.sessions.cx.now;
        for preparation in std::mem::take(&mut self.moves.preparations) {
            let rows = self.net.entries.table.count();
            let result = if self.phase.is_stopping() {
                Some(Err(MoveRefusal::Stopping))
            } else if rows + ROWS_KEPT >= self.net.entries.table.entries_max() {
                Some(Err(MoveRefusal::Full))
            } else {
                self.sessions.prepare_paths(&preparation.paths)
            };
            let late = (preparation.deadline <= now).then_some(Err(MoveRefusal::NoPath));
            match result.or(late) {
                Some(result) => {
                    if result.is_ok() {
                        self.moves.promised_until = now + MOVE_TIME_MAX;
                    }
                    let number = preparation.number;
                    self.moves.send(preparation.from, MoveMessage::Prepared { number, result });
                }
                None => self.moves.preparations.push(preparation),
            }
        }
    }

    fn look_at_departure(&mut self, number: u32) {
        // Bounded: each round is a step of the move, and there are four.
        for _ in 0..4 {
            let Some(place) = self.moves.leaving(number) else { return };
            let leaving = &self.moves.departures[place];
            let (id, frozen, is_frozen) =
                (leaving.id, leaving.frozen, leaving.departure.is_frozen());
            let is_stopping = self.phase.is_stopping();
            let unit = self.sessions.unit_of(id).and_then(|unit| {
                if is_stopping {
                    return Err(MoveRefusal::Stopping);
                }
                self.sessions.check_move(&unit)?;
                Ok(unit)
            });
            let input = match unit {
                Err(why) => DepartureInput::Refused(why),
                Ok(unit) if is_frozen && unit.connection != frozen => {
                    DepartureInput::Refused(MoveRefusal::Busy)
                }
                Ok(unit) => {
                    let is_at_rest = is_frozen && self.is_at_rest(&unit);
                    DepartureInput::Look { is_at_rest }
                }
            };
            if !self.advance(number, input) {
                return;
            }
        }
    }

    /// Whether nothing of a unit is under way, in its sessions or on its connection.
    fn is_at_rest(&mut self, unit: &Unit) -> bool {
        if self.net.ring.has_unsent_runs() || !self.sessions.is_at_rest(unit) {
            return false;
        }
        let Some(key) = unit.connection else { return true };
        let Some(link) = self.net.entries.link(key) else { return false };
        let is_quiet = !link.is_sending
            && !self.net.ring.is_receiving(link.slot)
            && self.net.entries.table.polling(key) == Some(Polling::Suspended)
            && !self.arrivals.has_received(key);
        let connection = self.net.entries.connection_mut(key);
        is_quiet && connection.is_some_and(|connection| connection.is_at_rest())
    }

    /// Takes the next input of a move. True: the move has gone on, and another look is worth it.
    fn advance(&mut self, number: u32, input: DepartureInput) -> bool {
        let now = self.sessions.cx.now;
        let Some(place) = self.moves.leaving(number) else { return false };
        let leaving = &mut self.moves.departures[place];
        match leaving.departure.handle(input, now) {
            DepartureOutput::Wait => false,
            DepartureOutput::Freeze => {
                self.freeze(place);
                true
            }
            DepartureOutput::Hold => {
                let (id, home, from) = (leaving.id, leaving.home, self.id);
                let ids = self.sessions.unit_of(id).map(|unit| unit.ids()).unwrap_or_default();
                self.moves.departures[place].held.clone_from(&ids);
                self.moves.send(home, MoveMessage::Hold { from, number, ids });
                true
            }
            DepartureOutput::Pack => {
                let leaving = self.moves.departures.swap_remove(place);
                self.depart(leaving);
                false
            }
            DepartureOutput::Abandon { why, releases } => {
                let leaving = self.moves.departures.swap_remove(place);
                self.abandon(leaving, why, releases);
                false
            }
        }
    }

    /// Nothing new begins on the connection of a move.
    fn freeze(&mut self, place: usize) {
        let leaving = &mut self.moves.departures[place];
        let Ok(unit) = self.sessions.unit_of(leaving.id) else { return };
        let Some(key) = unit.connection else { return };
        leaving.frozen = Some(key);
        let Some(link) = self.net.entries.link_mut(key) else { return };
        link.is_frozen = true;
        let slot = link.slot;
        self.net.entries.table.suspend(key);
        self.net.ring.end_receive(slot);
    }

    fn thaw(&mut self, key: EntryKey) {
        let Some(link) = self.net.entries.link_mut(key) else { return };
        link.is_frozen = false;
        let slot = link.slot;
        self.net.ring.keep_receiving(slot);
        self.wake_connection(key);
    }

    /// Has a connection received from, or visited, as if an event had been handled.
    pub(super) fn wake_connection(&mut self, key: EntryKey) {
        let Some(connection) = self.net.entries.connection_mut(key) else { return };
        let (is_waiting, has_messages) = (connection.is_waiting(), connection.has_messages());
        if has_messages && !is_waiting {
            self.visit_later(key);
        } else if !is_waiting {
            self.net.entries.enable(&mut self.net.ring, key);
        }
        self.net.entries.mark_dirty(key);
    }

    fn abandon(&mut self, leaving: Leaving, why: MoveRefusal, releases: bool) {
        if let Some(key) = leaving.frozen {
            self.thaw(key);
        }
        if releases {
            // Of those that have ended the home is told besides.
            let (ids, at) = (leaving.held, self.id);
            self.moves.send(leaving.home, MoveMessage::Settled { ids, at });
        }
        self.cells.moves_refused.add(1);
        if let Some(reply) = leaving.reply {
            reply(Err(why));
        }
    }

    /// Packs what is at rest, and sends it.
    fn depart(&mut self, leaving: Leaving) {
        let Ok(unit) = self.sessions.unit_of(leaving.id) else {
            let releases = leaving.home != self.id;
            return self.abandon(leaving, MoveRefusal::NoSession, releases);
        };
        let (ids, is_home) = (unit.ids(), leaving.home == self.id);
        if !is_home && leaving.held != ids {
            return self.abandon(leaving, MoveRefusal::Busy, true);
        }
        let Some(files) = self.duplicate_files(&unit) else {
            return self.abandon(leaving, MoveRefusal::Full, !is_home);
        };
        if is_home {
            ids.iter().for_each(|id| self.hold(*id));
        }
        let sessions = self.sessions.pack(&unit);
        let connection = unit.connection.and_then(|key| self.take_connection(key));
        let packed = Packed { connection, sessions };
        let parcel = Parcel {
            packed,
            files,
            ids,
            home: leaving.home,
            from: self.id,
            reply: leaving.reply,
            returned: None,
            deadline: self.sessions.cx.now + MOVE_TIME_MAX,
        };
        // It may come back, at the end of its time at the other shard.
        self.moves.promised_until = self.moves.promised_until.max(parcel.deadline + RETURN_MAX);
        // Pairs of the home that nobody uses any more are closed.
        self.settle();
        self.moves.send(leaving.to, MoveMessage::Parcel(Box::new(parcel)));
    }

    fn duplicate_files(&self, unit: &Unit) -> Option<ParcelFiles> {
        let duplicate = |slot| self.net.ring.fd(slot).try_clone_to_owned().ok();
        let mut files = ParcelFiles::default();
        if let Some(key) = unit.connection {
            files.connection = Some(duplicate(self.net.entries.link(key)?.slot)?);
        }
        for pair in self.sessions.pairs_of(unit) {
            let sockets = self.net.pairs.get(pair)?;
            let (_, home_place) = self.sessions.cx.sockets.home_of(pair, self.id)?;
            let (rtp_port, _) = self.sessions.cx.sockets.ports(pair)?;
            let (rtp, rtcp) = (duplicate(sockets.rtp)?, duplicate(sockets.rtcp)?);
            files.pairs.push((home_place, UdpPair { rtp, rtcp, rtp_port }));
        }
        Some(files)
    }

    /// Takes a connection that is at rest out of the table.
    pub(super) fn take_connection(&mut self, key: EntryKey) -> Option<Box<RtspConnection>> {
        let consumer = self.net.entries.remove(&mut self.net.ring, key);
        let Some(Consumer::Connection(mut connection)) = consumer else { return None };
        let timer = *connection.idle_timer_mut();
        let look_due = self.sessions.cx.wheel.due(timer);
        self.sessions.cx.wheel.cancel(timer);
        connection.depart(look_due);
        self.cells.connections.sub(1);
        let _empty = self.sessions.cx.directory.close_connection(key);
        Some(connection)
    }

    /// Takes in a parcel, or keeps it until its packets have come, or sends it back.
    fn take_parcel(&mut self, parcel: Parcel) {
        let arrivals_max = if parcel.returned.is_none() { ARRIVALS_MAX } else { 2 * ARRIVALS_MAX };
        let fits = match self.sessions.fit(&parcel.packed) {
            _ if self.moves.arrivals.len() >= arrivals_max => Err(MoveRefusal::TooMany),
            None if self.sessions.cx.now < parcel.deadline => {
                return self.moves.arrivals.push(parcel);
            }
            None => Err(MoveRefusal::Behind),
            Some(Ok(())) => self.make_room_for(&parcel),
            Some(Err(why)) => Err(why),
        };
        match fits {
            Ok(()) => self.unpack(parcel),
            Err(why) => {
                self.close_unused_pairs(parcel.home, &parcel.files.pairs);
                self.send_back(parcel, why);
            }
        }
    }

    fn send_back(&mut self, mut parcel: Parcel, why: MoveRefusal) {
        self.cells.moves_refused.add(1);
        if parcel.returned.is_some() {
            return self.end_parcel(parcel);
        }
        parcel.returned = Some(why);
        parcel.deadline = self.sessions.cx.now + MOVE_TIME_MAX;
        let back_to = std::mem::replace(&mut parcel.from, self.id);
        self.moves.send(back_to, MoveMessage::Parcel(Box::new(parcel)));
    }

    /// Ends sessions that no shard takes: their connection is closed.
    fn end_parcel(&mut self, parcel: Parcel) {
        self.cells.sessions_failed.add(parcel.ids.len() as u64);
        for session in parcel.packed.sessions {
            for (pair, rtp, rtcp) in session.addresses() {
                self.moves.send(parcel.home, MoveMessage::Freed { pair, rtp, rtcp });
            }
            let (id, was_dismissed) = (session.id(), false);
            self.moves.send(parcel.home, MoveMessage::Ended { id, was_dismissed });
        }
        if let Some(reply) = parcel.reply {
            reply(Err(parcel.returned.unwrap_or(MoveRefusal::Full)));
        }
    }

    fn unpack(&mut self, parcel: Parcel) {
        let Parcel { packed, files, ids, home, reply, returned, .. } = parcel;
        let key = match (packed.connection, files.connection) {
            (Some(connection), Some(fd)) => self.put_connection(connection, fd),
            _ => None,
        };
        for session in packed.sessions {
            let (id, addresses) = (session.id(), session.addresses());
            if !self.sessions.unpack(session, key) {
                for (pair, rtp, rtcp) in addresses {
                    self.moves.send(home, MoveMessage::Freed { pair, rtp, rtcp });
                }
                self.moves.send(home, MoveMessage::Ended { id, was_dismissed: false });
                self.cells.sessions_failed.add(1);
            }
        }
        self.close_unused_pairs(home, &files.pairs);
        if let Some(key) = key {
            self.watch_connection(key);
            self.wake_connection(key);
        }
        if self.phase.is_stopping() {
            // The others have ended already, and their connections are being closed.
            for id in &ids {
                self.sessions.end_session(*id, "server stops");
            }
            if let Some(key) = key {
                self.net.entries.close_when_sent(key);
                self.net.entries.mark_dirty(key);
            }
        }
        if home == self.id {
            self.settle_sessions(&ids, home);
        } else {
            self.moves.send(home, MoveMessage::Settled { ids, at: self.id });
        }
        if returned.is_none() {
            self.cells.moves.add(1);
        }
        if let Some(reply) = reply {
            reply(returned.map_or(Ok(self.id), Err));
        }
        self.settle();
    }

    fn put_connection(&mut self, connection: Box<RtspConnection>, fd: OwnedFd) -> Option<EntryKey> {
        let consumer = Consumer::Connection(connection);
        // There is room: see `make_room_for`. Should the kernel refuse all the same, the connection
        // closes, and its sessions have none.
        let (key, _) = self.net.entries.install(&mut self.net.ring, consumer, fd).ok()?;
        self.cells.connections.add(1);
        let cx = &self.sessions.cx;
        if let Some(connection) = self.net.entries.connection_mut(key) {
            connection.arrive(key, cx);
        }
        Some(key)
    }
}

/// Rows of the table that moves leave to clients.
const ROWS_KEPT: usize = 8;
/// Time for a parcel to come back, when its time at the other shard is over.
const RETURN_MAX: Duration = Duration::from_millis(100);
/// Parcels that wait here for packets; those that came back have room besides.
const ARRIVALS_MAX: usize = MOVES_MAX;
/// Messages behind which no event of a client is queued.
const OUTBOX_MAX: usize = 1_024;

#[cfg(test)]
mod tests;
