//! Carries out the `Action`s of sessions, commands, tasks, and messages to other shards.
//!
//! ```text
//!  sessions --Action--> settle --+--> the ring: datagrams, retransmissions, connects
//!                          ^     +--> a connection: answers, interleaved packets
//!                          |     +--> sockets: pairs, inputs, groups
//!                          `-----+--> another shard: commands, answers, live messages
//! ```
//! Invariant: when `settle` returns, no session has an action that is not carried out.
//! Bounds: `SETTLE_ROUNDS_MAX`; `UNSENT_MAX`.

use super::inbox::Message;
use super::moves::MoveMessage;
use super::ring::kernel::Kernel;
use super::send::sink::NO_RUN;
use super::state::Shard;
use crate::base::ids::ShardId;
use crate::consumers::Consumer;
use crate::consumers::sessions::Sessions;
use crate::poll::consumer::Event;
use crate::poll::task::{DescriptionFailure, ResolveFailure, Task, TaskOwner, Work};
use crate::rtsp::response::{Response, Status};
use crate::session::action::Action;
use crate::session::command::{Command, Executed, ReplyTo};

impl<K: Kernel> Shard<K> {
    /// Submits a task to the workers. A task that the queue refuses fails for its owner.
    pub(super) fn submit(&mut self, task: Task) {
        self.cells.tasks_submitted.add(1);
        let Err(task) = self.queue.submit(task) else { return };
        self.cells.tasks_refused.add(1);
        let Sessions { cx, vod, live, .. } = &mut self.sessions;
        match task.owner {
            TaskOwner::Window(request) => vod.handle_window_refused(cx, request),
            // Its streams go on without it.
            TaskOwner::Image => {}
            TaskOwner::Camera(name) => {
                let busy = Err(ResolveFailure::Name("the server is busy".to_owned()));
                live.sources.handle_resolved(cx, &mut live.hub, name, &busy);
            }
            TaskOwner::Input(number) => {
                let busy = Err(DescriptionFailure::Busy);
                live.sources.handle_description(cx, &mut live.hub, number, busy);
            }
            TaskOwner::Tuning { number, .. } => self.sessions.handle_tuning_refused(number),
            TaskOwner::Titles { feed, request } => {
                live.sources.handle_title_refused(cx, &mut live.hub, (feed, request));
            }
            TaskOwner::Takeover(number) => {
                if let Work::Adopt(adopted) = task.work {
                    self.handle_adopt_refused(number, adopted);
                }
            }
            // A shard asks for nothing in its name.
            TaskOwner::Guest(_) => {}
            // `settle` tells the connection: a client that pipelines must not recurse here.
            TaskOwner::Connection(entry) => self.refused.push((entry, task)),
        }
    }

    /// Carries out actions until the sessions have no more of them.
    pub(super) fn settle(&mut self) {
        // Bounded: an action causes a few more at most, and a held command is held once.
        for _ in 0..SETTLE_ROUNDS_MAX {
            self.post_live();
            self.sessions.settle_lineups();
            if self.sessions.cx.out.is_empty() && self.refused.is_empty() {
                return;
            }
            for (entry, task) in std::mem::take(&mut self.refused) {
                self.dispatch(entry, Event::Refused(task));
            }
            // The two vectors change places, so that a turn in steady play allocates nothing.
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

    /// Settles live paths and posts their messages to other shards.
    fn post_live(&mut self) {
        self.sessions.live.settle_live(&mut self.sessions.cx);
        if self.sessions.live.hub.outbox.is_empty() {
            return;
        }
        let mut outbox = std::mem::take(&mut self.sessions.live.hub.outbox);
        for (shard, message) in outbox.drain(..) {
            let Some(inbox) = self.poller.inbox(shard) else { continue };
            if inbox.push_live(message).is_err() {
                // Packets are lost to that shard like packets on the network. Other messages have
                // room of their own in the inbox.
                self.cells.inbox_full.add(1);
                self.note_lost(shard);
            }
        }
        self.sessions.live.hub.outbox = outbox;
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Submit(task) => self.submit(task),
            Action::Respond { reply_to, response } => self.respond(reply_to, response),
            Action::Datagram { pair, to, bytes } => {
                let Some(sockets) = self.net.pairs.get(pair) else { return };
                if self.net.ring.send_datagram(sockets.rtcp, sockets.address_of(to), &bytes, NO_RUN)
                {
                    self.sessions.cx.give_bytes_back(bytes);
                } else if self.unsent.len() < UNSENT_MAX {
                    self.unsent.push(Action::Datagram { pair, to, bytes });
                } else {
                    self.cells.rtcp_packets_dropped.add(1);
                    self.sessions.cx.give_bytes_back(bytes);
                }
            }
            // Sends on the pair were queued before: the ring submits them before it closes the
            // socket.
            Action::ClosePair(pair) => self.net.close_pair(&mut self.sessions, pair),
            Action::OpenInput { number, sockets } => {
                self.net.open_input(&mut self.sessions, number, &sockets);
                let came = self.net.inputs.take_came();
                self.queue_datagrams(came);
            }
            Action::CloseInput(number) => {
                self.net.inputs.close(&mut self.net.ring, &mut self.net.entries, number);
            }
            Action::Interleaved { entry, channel, bytes } => {
                match self.net.entries.table.consumer_mut(entry) {
                    Some(Consumer::Connection(connection)) => {
                        connection.push_interleaved(channel, &bytes);
                    }
                    Some(Consumer::Camera(camera)) => camera.push_interleaved(channel, &bytes),
                    _ => {}
                }
                self.net.entries.mark_dirty(entry);
                self.sessions.cx.give_bytes_back(bytes);
            }
            Action::Report { id, pair, from, bytes } => {
                let report = MoveMessage::Report { id, pair, from, bytes };
                // Its home is here, and so is the route.
                if let Some(Message::Move(_)) = self.route(Message::Move(Box::new(report))) {
                    self.cells.datagrams_unmatched.add(1);
                }
            }
            Action::Freed { home, pair, rtp, rtcp } => {
                self.moves.send(home, MoveMessage::Freed { pair, rtp, rtcp });
            }
            Action::HangUp(entry) => {
                self.net.entries.close_when_sent(entry);
                self.net.entries.mark_dirty(entry);
            }
            Action::Resend { session, stream_index, epoch_count, seq } => {
                self.net.resend(&mut self.sessions, session, stream_index, epoch_count, seq);
            }
            Action::Connect { camera, to, tls } => self.connect_camera(camera, to, tls),
            Action::Write { entry, bytes } => self.net.write_to_camera(entry, &bytes),
            Action::OpenPair { source, track } => {
                self.net.open_pair_for(&mut self.sessions, source, track)
            }
            Action::PunchNat { pair, rtp, rtcp } => self.net.punch_nat(pair, rtp, rtcp),
            Action::Group(action) => self.net.act_for_group(&mut self.sessions, action),
            Action::Execute(command) => self.guarded(None, |shard| shard.execute(*command)),
        }
    }

    pub(super) fn execute(&mut self, command: Command) {
        let reply_to = command.reply_to;
        match self.sessions.execute(command) {
            Executed::Reply(response) => self.respond(reply_to, response),
            Executed::Later => {}
            Executed::NeedsPair(command) => self.execute_with_new_pair(*command),
        }
    }

    /// Opens another pair for a client address that is in use on every pair, and executes the
    /// command again (reference 001).
    pub(super) fn execute_with_new_pair(&mut self, command: Command) {
        let reply_to = command.reply_to;
        let ids = self.sessions.cx.ids_of(&command);
        if !self.net.add_free_pair(&mut self.sessions, ids) {
            self.respond(reply_to, command.response(Status::ServiceUnavailable));
            return;
        }
        match self.sessions.execute(command) {
            Executed::Reply(response) => self.respond(reply_to, response),
            Executed::Later => {}
            Executed::NeedsPair(command) => {
                self.respond(reply_to, command.response(Status::ServiceUnavailable));
            }
        }
    }

    fn respond(&mut self, reply_to: ReplyTo, response: Response) {
        let Some(response) = self.sessions.take_answer(reply_to, response) else { return };
        if reply_to.shard == self.id {
            self.dispatch(reply_to.entry, Event::Answered(response));
            return;
        }
        let message = Message::Answered { entry: reply_to.entry, response: Box::new(response) };
        let Some(inbox) = self.poller.inbox(reply_to.shard) else { return };
        if inbox.push(message).is_err() {
            // The connection gets no answer and is closed when it has been idle too long.
            self.cells.inbox_full.add(1);
        }
    }

    pub(super) fn forward(&mut self, shard: ShardId, command: Command) {
        let Some(inbox) = self.poller.inbox(shard).cloned() else { return };
        let Err(message) = inbox.push(Message::Forwarded(Box::new(command))) else { return };
        self.cells.inbox_full.add(1);
        if let Message::Forwarded(command) = message {
            let response = command.response(Status::ServiceUnavailable).header("Retry-After", "1");
            self.respond(command.reply_to, response);
        }
    }
}

/// RTCP packets kept for the next turn. Timers send only as far as the ring has room, so these
/// packets are caused by the requests of one turn: see `VISITS_A_TURN`.
const UNSENT_MAX: usize = 4_096;
/// More rounds than any chain of held commands takes.
const SETTLE_ROUNDS_MAX: usize = 64;
