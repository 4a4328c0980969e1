//! Events to consumers, and what consumers and sessions ask for to tasks, shards and clients.
//!
//! A panic while one session's event is handled ends its connection, not the shard: it is caught
//! here, counted and logged (DESIGN section 9).

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::inbox::Message;
use super::sockets::{local_addr, peer_addr, set_stream_options, udp_pair};
use super::turn::{STREAMS_ENDED_A_TURN, Shard, clock, shard_count};
use crate::base::addresses::AddressPlace;
use crate::base::budget::Budget;
use crate::base::ids::ShardId;
use crate::base::limits::{MESSAGES_A_TURN, TURN_SHARE};
use crate::consumers::rtsp_connection::RtspConnection;
use crate::consumers::rtsp_listener::Accepted;
use crate::consumers::sessions::Sessions;
use crate::consumers::{Consumer, Context};
use crate::poll::consumer::{Disposition, Event, PollEventConsumer};
use crate::poll::poll_table::EntryKey;
use crate::poll::task::{DescriptionFailure, Outcome, ResolveFailure, Task, TaskDone, TaskOwner};
use crate::rtsp::response::{Response, Status};
use crate::session::action::Action;
use crate::session::command::{Command, Executed, Waiter};
use crate::session::directory::SessionKey;

/// What a consumer asked for while it ran.
#[derive(Default)]
struct Asked {
    forwards: Vec<(ShardId, Command)>,
    accepted: Vec<Accepted>,
    needs_pair: Vec<Command>,
}

impl Shard {
    /// Hands an event to the consumer of an entry; the entry is suspended until it is handled.
    pub(super) fn dispatch(&mut self, key: EntryKey, event: Event<'_>) {
        self.entries.table.suspend(key);
        let Some(mut consumer) = self.entries.table.take(key) else { return };
        let mut asked = Asked::default();
        let mut cx = Context {
            sessions: &mut self.sessions,
            forwards: &mut asked.forwards,
            accepted: &mut asked.accepted,
            needs_pair: &mut asked.needs_pair,
            shard: self.id,
            shard_count: shard_count(&self.poller),
            is_stopping: self.stopping_since.is_some(),
        };
        let ran = catch_unwind(AssertUnwindSafe(|| consumer.create_task(event, &mut cx)));
        let gone = self.entries.table.put_back(key, consumer).is_err();
        let Ok(disposition) = ran else {
            self.cells.panics.add(1);
            tracing::error!(shard = self.id.0, "a panic ended one connection; this is a bug");
            self.close(key);
            return;
        };
        for Accepted { fd, peer, local } in asked.accepted {
            let Some(place) = self.admit_connection(&fd, peer) else { continue };
            let connection = RtspConnection::new(peer, local, place, self.sessions.cx.now);
            self.open_connection(fd, connection);
        }
        for (shard, command) in asked.forwards {
            self.forward(shard, command);
        }
        for command in asked.needs_pair {
            self.execute_with_new_pair(command);
        }
        if !gone {
            self.dispose(key, disposition);
        }
    }

    /// Runs something for a session; a panic in it ends the session and nothing else.
    pub(super) fn guarded(&mut self, session: Option<SessionKey>, run: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| run(self))).is_err() {
            self.cells.panics.add(1);
            tracing::error!(shard = self.id.0, "a panic ended one session; this is a bug");
            if let Some(session) = session {
                self.sessions.vod.remove(&mut self.sessions.cx, session);
            }
        }
    }

    fn dispose(&mut self, key: EntryKey, disposition: Disposition) {
        self.entries.mark_dirty(key);
        match disposition {
            Disposition::Handled => self.enable(key),
            Disposition::Unfinished => self.visit_later(key),
            Disposition::Submit(task) => self.submit(task),
            Disposition::Wait => {}
            Disposition::Close => self.entries.close_when_sent(key),
        }
    }

    /// Arms an entry again. A connection whose answers are not taken waits until they are.
    pub(super) fn enable(&mut self, key: EntryKey) {
        let Some(link) = self.entries.link(key) else { return };
        if let Some(connection) = self.entries.connection_mut(key)
            && (connection.is_congested() || connection.is_closing() || connection.is_waiting())
        {
            return;
        }
        if self.entries.camera_mut(key).is_some_and(|camera| camera.is_closing()) {
            return;
        }
        if self.entries.table.enable_events(key) && link.is_stream {
            self.ring.arm_receive(link.slot, key.index);
        }
    }

    /// Hands a task to the workers; what the queue does not take goes back to who made it.
    fn submit(&mut self, task: Task) {
        self.cells.tasks_submitted.add(1);
        let Err(task) = self.queue.submit(task) else { return };
        self.cells.tasks_refused.add(1);
        let Sessions { cx, vod, live } = &mut self.sessions;
        match task.owner {
            TaskOwner::Window(request) => vod.handle_window_refused(cx, request),
            TaskOwner::Camera(name) => {
                let busy = Err(ResolveFailure::Name("the server is busy".to_owned()));
                live.sources.handle_resolved(cx, &mut live.hub, name, &busy);
            }
            TaskOwner::Input(number) => {
                let busy = Err(DescriptionFailure::Busy);
                live.sources.handle_description(cx, &mut live.hub, number, busy);
            }
            // Told from `settle`: a client that pipelines must not make this call itself.
            TaskOwner::Connection(entry) => self.refused.push((entry, task)),
        }
    }

    /// Does what the sessions ask for, until they ask for nothing more.
    pub(super) fn settle(&mut self) {
        // Bounded: an action asks for a few more at most, and a held command is held once.
        for _ in 0..SETTLE_ROUNDS_MAX {
            self.post_live();
            if self.sessions.cx.out.is_empty() && self.refused.is_empty() {
                return;
            }
            for (entry, task) in std::mem::take(&mut self.refused) {
                self.dispatch(entry, Event::Refused(task));
            }
            // The storage goes back and forth, so that a turn in steady play allocates nothing.
            let mut actions = std::mem::replace(
                &mut self.sessions.cx.out,
                std::mem::take(&mut self.spare_actions),
            );
            for action in actions.drain(..) {
                self.act(action);
            }
            self.spare_actions = actions;
        }
    }

    /// Settles what concerns live paths, and posts what is for other shards.
    fn post_live(&mut self) {
        self.sessions.live.settle_live(&mut self.sessions.cx);
        if self.sessions.live.hub.outbox.is_empty() {
            return;
        }
        let mut outbox = std::mem::take(&mut self.sessions.live.hub.outbox);
        for (shard, message) in outbox.drain(..) {
            let Some(inbox) = self.poller.inbox(shard) else { continue };
            if inbox.push_live(message).is_err() {
                // Packets are lost to that shard as if on the way; see the inbox for the rest.
                self.cells.inbox_full.add(1);
            }
        }
        self.sessions.live.hub.outbox = outbox;
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Submit(task) => self.submit(task),
            Action::Respond { waiter, response } => self.respond(waiter, response),
            Action::Datagram { pair, to, bytes } => {
                let Some(sockets) = self.pairs.get(pair) else { return };
                if self.ring.send_datagram(sockets.rtcp, sockets.address_of(to), &bytes, NO_RUN) {
                    self.sessions.cx.give_bytes_back(bytes);
                } else if self.unsent.len() < UNSENT_MAX {
                    self.unsent.push(Action::Datagram { pair, to, bytes });
                } else {
                    self.cells.rtcp_packets_dropped.add(1);
                    self.sessions.cx.give_bytes_back(bytes);
                }
            }
            // After what is to be sent on it: the ring submits that before it closes the socket.
            Action::ClosePair(pair) => self.close_pair(pair),
            Action::OpenInput { number, sockets } => self.open_input(number, &sockets),
            Action::CloseInput(number) => {
                self.inputs.close(&mut self.ring, &mut self.entries, number);
            }
            Action::Interleaved { entry, channel, bytes } => {
                match self.entries.table.consumer_mut(entry) {
                    Some(Consumer::Connection(connection)) => {
                        connection.push_interleaved(channel, &bytes);
                    }
                    Some(Consumer::Camera(camera)) => camera.push_interleaved(channel, &bytes),
                    _ => {}
                }
                self.entries.mark_dirty(entry);
                self.sessions.cx.give_bytes_back(bytes);
            }
            Action::HangUp(entry) => {
                self.entries.close_when_sent(entry);
                self.entries.mark_dirty(entry);
            }
            Action::Resend { session, stream_index, epoch_count, seq } => {
                self.resend(session, stream_index, epoch_count, seq);
            }
            Action::Connect { camera, to } => self.connect_camera(camera, to),
            Action::Write { entry, bytes } => self.write_to_camera(entry, &bytes),
            Action::OpenPair { source, track } => self.open_pair_for(source, track),
            Action::Knock { pair, rtp, rtcp } => self.knock(pair, rtp, rtcp),
            Action::Group(action) => self.act_for_group(action),
            Action::Execute(command) => self.guarded(None, |shard| shard.execute(*command)),
        }
    }

    fn execute(&mut self, command: Command) {
        let waiter = command.waiter;
        match self.sessions.execute(command) {
            Executed::Reply(response) => self.respond(waiter, response),
            Executed::Later => {}
            Executed::NeedsPair(command) => self.execute_with_new_pair(*command),
        }
    }

    /// A client address is used a second time: opens another pair for it (reference 001).
    fn execute_with_new_pair(&mut self, command: Command) {
        let opened = udp_pair(self.pair_host, None)
            .map_err(|error| error.to_string())
            .and_then(|pair| self.add_pair(pair).map_err(|error| error.to_string()));
        let waiter = command.waiter;
        if let Err(error) = opened {
            tracing::warn!(%error, "no further pair of RTP sockets");
            self.respond(waiter, command.response(Status::ServiceUnavailable));
            return;
        }
        match self.sessions.execute(command) {
            Executed::Reply(response) => self.respond(waiter, response),
            Executed::Later => {}
            Executed::NeedsPair(command) => {
                self.respond(waiter, command.response(Status::ServiceUnavailable));
            }
        }
    }

    fn respond(&mut self, waiter: Waiter, response: Response) {
        if waiter.shard == self.id {
            self.dispatch(waiter.entry, Event::Answered(response));
            return;
        }
        let message = Message::Answered { entry: waiter.entry, response: Box::new(response) };
        let Some(inbox) = self.poller.inbox(waiter.shard) else { return };
        if inbox.push(message).is_err() {
            // The connection waits in vain and is closed when it has been idle too long.
            self.cells.inbox_full.add(1);
        }
    }

    fn forward(&mut self, shard: ShardId, command: Command) {
        let Some(inbox) = self.poller.inbox(shard).cloned() else { return };
        let Err(message) = inbox.push(Message::Forwarded(Box::new(command))) else { return };
        self.cells.inbox_full.add(1);
        if let Message::Forwarded(command) = message {
            let response = command.response(Status::ServiceUnavailable).header("Retry-After", "1");
            self.respond(command.waiter, response);
        }
    }

    /// Reads the shard's pipe, as far as its share of the turn goes. What is left is announced: the
    /// shard does not sleep on it.
    pub(super) fn read_inbox(&mut self) {
        let inbox = Arc::clone(&self.inbox);
        let share = || Budget::new(MESSAGES_A_TURN, TURN_SHARE);
        let mut budget = share();
        // Settled one by one: a command that was held comes before one that is still to be read.
        while budget.has_room(clock)
            && let Some(done) = inbox.pop_outcome()
        {
            budget.spend();
            self.guarded(None, |shard| {
                shard.handle_outcome(done);
                shard.settle();
            });
        }
        let mut budget = share();
        while budget.has_room(clock)
            && let Some(message) = inbox.pop_live()
        {
            budget.spend();
            self.guarded(None, |shard| {
                shard.sessions.live.handle_live_message(&mut shard.sessions.cx, message)
            });
        }
        self.settle();
        let mut budget = share();
        while budget.has_room(clock)
            && let Some(message) = inbox.pop_message()
        {
            budget.spend();
            self.guarded(None, |shard| {
                shard.handle_message(message);
                shard.settle();
            });
        }
    }

    fn handle_message(&mut self, message: Message) {
        match message {
            Message::Forwarded(command) => {
                self.guarded(None, |shard| shard.execute(*command));
            }
            Message::Answered { entry, response } => {
                self.dispatch(entry, Event::Answered(*response));
            }
            Message::Asked(question) => self.put_question(question),
            Message::KickPath { path, reply } => {
                reply(self.sessions.live.kick_path(&mut self.sessions.cx, &path));
            }
            Message::EndSession { id, reply } => {
                reply(self.sessions.end_session(id, "ended by the operator"));
            }
            Message::Configure { paths, done } => {
                self.guarded(None, |shard| {
                    shard.sessions.live.configure_paths(&mut shard.sessions.cx, paths)
                });
                done();
            }
            Message::Stop => {
                self.stopping_since.get_or_insert(self.sessions.cx.now);
            }
        }
    }

    fn handle_outcome(&mut self, done: TaskDone) {
        let Sessions { cx, vod, live } = &mut self.sessions;
        match (done.owner, done.outcome) {
            (TaskOwner::Window(request), Outcome::Window(result)) => {
                vod.handle_window(cx, request, result);
            }
            (TaskOwner::Camera(name), Outcome::Resolved(result)) => {
                live.sources.handle_resolved(cx, &mut live.hub, name, &result);
            }
            (TaskOwner::Input(number), Outcome::Described(result)) => {
                live.sources.handle_description(cx, &mut live.hub, number, result);
            }
            (TaskOwner::Connection(entry), opened @ Outcome::Opened(_)) => {
                self.dispatch(entry, Event::Outcome(opened));
            }
            (owner, outcome) => debug_assert!(false, "{owner:?} asked for no {outcome:?}"),
        }
    }

    /// Stopping: BYE to as many sessions as the ring takes in a turn, then the connections.
    pub(super) fn end_sessions(&mut self) {
        if self.stopping_since.is_none() || self.all_ended {
            return;
        }
        let mut streams = 0;
        for key in self.sessions.vod.some_keys(STREAMS_ENDED_A_TURN) {
            if streams >= STREAMS_ENDED_A_TURN {
                break;
            }
            streams += self.sessions.vod.session(key).map_or(1, |s| s.streams.len().max(1));
            self.sessions.vod.fail(&mut self.sessions.cx, key, Some("server stops"));
        }
        let room = STREAMS_ENDED_A_TURN.saturating_sub(streams);
        streams +=
            self.sessions.live.end_live_sessions(&mut self.sessions.cx, room, "server stops");
        self.all_ended = streams == 0;
        self.settle();
        if !self.all_ended {
            return;
        }
        for key in self.entries.table.keys().collect::<Vec<_>>() {
            self.entries.close_when_sent(key);
            self.entries.mark_dirty(key);
        }
    }

    pub(super) fn handle_accepted(&mut self, token: u32, result: io::Result<OwnedFd>) {
        let Some(key) = self.entries.table.key_at(token) else { return };
        let fd = match result {
            Ok(fd) => fd,
            Err(error) => {
                self.cells.connections_refused.add(1);
                self.warn_once("a connection could not be accepted", &error);
                return;
            }
        };
        // A client that is gone already has no address.
        let (Ok(peer), Ok(local)) = (peer_addr(&fd), local_addr(&fd)) else { return };
        let _dead_already = set_stream_options(&fd);
        self.dispatch(key, Event::Accepted { fd, peer, local });
    }

    /// A place for one more connection of an address; it is told 503 when it has too many.
    fn admit_connection(&mut self, fd: &OwnedFd, peer: SocketAddr) -> Option<AddressPlace> {
        let ip = peer.ip().to_canonical();
        let place = self.addresses.enter(ip);
        if place.is_none() {
            let _unsaid = rustix::io::write(fd, REFUSAL);
            self.cells.connections_refused.add(1);
            self.cells.connections_refused_address.add(1);
            if let Some(count) = self.refusals_said.happened(self.sessions.cx.now) {
                tracing::warn!(
                    %ip, count, fix = "raise rtsp.connections_per_address_max",
                    "connection refused: its address has as many as one may have"
                );
            }
        }
        place
    }

    fn open_connection(&mut self, fd: OwnedFd, connection: RtspConnection) {
        let consumer = Consumer::Connection(Box::new(connection));
        let key = match self.entries.install(&mut self.ring, consumer, fd) {
            Ok((key, _)) => key,
            Err((fd, error)) => {
                // Said before the connection is closed, if it takes even this.
                let _unsaid = rustix::io::write(fd, REFUSAL);
                self.cells.connections_refused.add(1);
                self.warn_once("a connection is refused with 503", &error);
                return;
            }
        };
        if let Some(connection) = self.entries.connection_mut(key) {
            connection.set_key(key);
        }
        self.cells.connections.add(1);
        self.enable(key);
        self.watch_connection(key);
    }

    /// Removes a connection with all that hangs on it.
    pub(super) fn close(&mut self, key: EntryKey) {
        if !self.entries.link(key).is_some_and(|link| link.is_stream) {
            return;
        }
        let consumer = self.entries.remove(&mut self.ring, key);
        self.cells.connections.sub(1);
        match consumer {
            Some(Consumer::Camera(camera)) => self.sessions.live.sources.handle_camera_closed(
                &mut self.sessions.cx,
                &mut self.sessions.live.hub,
                camera.name(),
            ),
            Some(Consumer::Connection(mut connection)) => {
                self.sessions.cx.wheel.cancel(*connection.idle_timer_mut());
                self.sessions.handle_connection_closed(key);
            }
            _ => self.sessions.handle_connection_closed(key),
        }
    }
}

impl PollEventConsumer<Context<'_>> for Consumer {
    fn create_task(&mut self, event: Event<'_>, cx: &mut Context<'_>) -> Disposition {
        match self {
            Self::Listener(consumer) => consumer.create_task(event, cx),
            Self::Connection(consumer) => consumer.create_task(event, cx),
            Self::Camera(consumer) => consumer.create_task(event, cx),
            Self::Rtcp(consumer) => consumer.create_task(event, cx),
            Self::Rtp(consumer) => consumer.create_task(event, cx),
            Self::Input(consumer) => consumer.create_task(event, cx),
            Self::Group(consumer) => consumer.create_task(event, cx),
            Self::Inbox => Disposition::Handled,
        }
    }
}

/// Token of datagrams that nobody waits for.
pub(super) const NO_RUN: u32 = u32::MAX;
/// For a client that comes when every row of the PollTable is taken.
pub(super) const REFUSAL: &[u8] =
    b"RTSP/1.0 503 Service Unavailable\r\nCSeq: 0\r\nRetry-After: 5\r\n\r\n";
/// RTCP packets kept for the next turn. Whatever sends to a crowd asks for room before, so these
/// are what requests of a turn cause: see `VISITS_A_TURN`.
const UNSENT_MAX: usize = 4_096;
/// More rounds than any chain of held commands takes.
const SETTLE_ROUNDS_MAX: usize = 64;
