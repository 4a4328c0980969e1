//! Handles the contents of the inbox: outcomes of tasks, messages of live paths, messages.
//!
//! ```text
//!  inbox --outcomes, live, messages--> handled in this order --> settle
//! ```
//! Bound: `MESSAGES_A_TURN` and `TURN_SHARE` for each of the three queues.

use std::sync::Arc;

use super::inbox::Message;
use super::ring::kernel::Kernel;
use super::state::Shard;
use super::tls::TlsSettings;
use crate::base::budget::Budget;
use crate::base::limits::{MESSAGES_A_TURN, TURN_SHARE};
use crate::consumers::sessions::Sessions;
use crate::poll::consumer::Event;
use crate::poll::task::{Outcome, TaskDone, TaskOwner};

impl<K: Kernel> Shard<K> {
    /// Reads the inbox as far as the share of the turn goes. The shard does not sleep on the rest:
    /// see `Inbox::announce_sleep`.
    pub(super) fn read_inbox(&mut self) {
        let inbox = Arc::clone(&self.inbox);
        let share = || Budget::new(MESSAGES_A_TURN, TURN_SHARE);
        let mut budget = share();
        // Each is settled at once: a command that was held comes before one that is not yet read.
        while budget.has_room(|| self.net.ring.kernel().now())
            && let Some(done) = inbox.pop_outcome()
        {
            budget.spend();
            let Some(done) = self.takeover.hold_failure(done) else { continue };
            self.guarded(None, |shard| {
                shard.handle_outcome(done);
                shard.settle();
            });
        }
        let mut budget = share();
        while budget.has_room(|| self.net.ring.kernel().now())
            && let Some(message) = inbox.pop_live()
        {
            budget.spend();
            self.guarded(None, |shard| {
                shard.sessions.live.handle_live_message(&mut shard.sessions.cx, message)
            });
        }
        self.settle();
        let mut budget = share();
        while budget.has_room(|| self.net.ring.kernel().now())
            && let Some(message) = inbox.pop_message()
        {
            budget.spend();
            self.guarded(None, |shard| {
                shard.handle_message(message);
                shard.settle();
            });
        }
    }

    pub(super) fn handle_message(&mut self, message: Message) {
        let Some(message) = self.route(message) else { return };
        match message {
            Message::Forwarded(command) => {
                self.guarded(None, |shard| shard.execute(*command));
            }
            Message::Answered { entry, response } => {
                self.dispatch(entry, Event::Answered(*response));
            }
            Message::Asked(question) => self.questions.put(question),
            Message::KickPath { path, reply } => {
                reply(self.sessions.live.kick_path(&mut self.sessions.cx, &path));
            }
            Message::Playlist { path, request, reply } => {
                let Sessions { cx, live, .. } = &mut self.sessions;
                reply(live.ask_playlist(cx, &path, &request));
            }
            Message::SwitchPath { path, request, reply } => {
                self.sessions.live.switch_path(&self.sessions.cx, &path, request, reply);
            }
            Message::EndSession { id, reply } => {
                reply(self.sessions.end_session(id, "ended by the operator"));
            }
            Message::MoveSession { id, to, reply } => self.begin_move(id, to, reply),
            Message::Shed { to, count } => self.shed(to, count),
            Message::Move(message) => self.handle_move(*message),
            Message::Events { id, request, reply } => {
                self.guarded(None, |shard| shard.sessions.handle_events(id, request, reply));
            }
            Message::Configure { paths, done } => {
                if let Some(paths) = self.takeover.hold_paths(paths) {
                    self.guarded(None, |shard| {
                        shard.sessions.live.configure_paths(&mut shard.sessions.cx, paths)
                    });
                }
                done();
            }
            Message::Drain { order, done } => {
                self.drain(order);
                done();
            }
            Message::Takeover(message) => self.handle_takeover(*message),
            Message::Tunnel(message) => {
                self.guarded(None, |shard| shard.handle_tunnel(*message));
            }
            Message::Tls(settings) => {
                // A kernel that has refused a connection is not asked again.
                let by_kernel = settings.by_kernel && self.tls.by_kernel;
                self.tls = TlsSettings { by_kernel, ..settings };
            }
            Message::Stop => {
                self.phase = self.phase.stopped(self.sessions.cx.now);
            }
        }
    }

    pub(super) fn handle_outcome(&mut self, done: TaskDone) {
        let Sessions { cx, vod, live, .. } = &mut self.sessions;
        match (done.owner, done.outcome) {
            (TaskOwner::Window(request), Outcome::Window(result)) => {
                vod.handle_window(cx, request, result);
            }
            // The window has it by now.
            (TaskOwner::Image, Outcome::Image(_)) => {}
            (TaskOwner::Camera(name), Outcome::Resolved(result)) => {
                live.sources.handle_resolved(cx, &mut live.hub, name, &result);
            }
            (TaskOwner::Input(number), Outcome::Described(result)) => {
                live.sources.handle_description(cx, &mut live.hub, number, result);
            }
            (TaskOwner::Tuning { number, stream }, outcome) => {
                self.sessions.handle_tuning_outcome((number, stream), outcome);
            }
            (TaskOwner::Titles { feed, request }, outcome) => {
                live.sources.handle_title_task(cx, &mut live.hub, (feed, request), outcome);
            }
            (TaskOwner::Takeover(number), Outcome::Opened(opened)) => {
                self.handle_title_taken(number, opened);
            }
            (TaskOwner::Connection(entry), outcome @ (Outcome::Opened(_) | Outcome::Judged(_))) => {
                self.dispatch(entry, Event::Outcome(outcome));
            }
            (owner, outcome) => debug_assert!(false, "{owner:?} asked for no {outcome:?}"),
        }
    }
}
