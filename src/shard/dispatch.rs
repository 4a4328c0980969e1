//! Hands events to consumers and carries out their dispositions.
//!
//! ```text
//!  event --> entry suspended --> consumer --> Handled    entry armed again
//!                                        |--> Unfinished the connection is visited again
//!                                        |--> Submit     a task; its outcome arms the entry
//!                                        |--> Wait       an answer arms the entry
//!                                        `--> Close      closed when its answers are sent
//! ```
//! Invariant: a panic while an event is handled ends one connection or session, not the shard. The
//! panic is caught here, counted and logged (DESIGN section 9).

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::inbox::Inbox;
use super::ring::kernel::Kernel;
use super::state::Shard;
use crate::base::ids::ShardId;
use crate::consumers::rtsp_listener::Accepted;
use crate::consumers::tunnel::TunnelMessage;
use crate::consumers::{Consumer, Context};
use crate::poll::consumer::{Disposition, Event, PollEventConsumer};
use crate::poll::poll_table::EntryKey;
use crate::poll::poller::Poller;
use crate::session::command::Command;
use crate::session::directory::SessionKey;

/// Requests that a consumer made while it ran.
#[derive(Default)]
struct Asked {
    forwards: Vec<(ShardId, Command)>,
    accepted: Vec<Accepted>,
    needs_pair: Vec<Command>,
    tunnels: Vec<(ShardId, TunnelMessage)>,
}

impl<K: Kernel> Shard<K> {
    /// Hands an event to the consumer of an entry; the entry is suspended until it is handled.
    pub(super) fn dispatch(&mut self, key: EntryKey, event: Event<'_>) {
        self.net.entries.table.suspend(key);
        // Then no receive is under way.
        let may_hand_over = self.tls.by_kernel && matches!(event, Event::Received(_));
        let Some(mut consumer) = self.net.entries.table.take(key) else { return };
        let mut asked = Asked::default();
        let mut cx = Context {
            sessions: &mut self.sessions,
            forwards: &mut asked.forwards,
            accepted: &mut asked.accepted,
            needs_pair: &mut asked.needs_pair,
            tunnels: &mut asked.tunnels,
            shard: self.id,
            shard_count: shard_count(&self.poller),
            is_stopping: self.phase.is_stopping(),
        };
        let ran = catch_unwind(AssertUnwindSafe(|| consumer.create_task(event, &mut cx)));
        let gone = self.net.entries.table.put_back(key, consumer).is_err();
        let Ok(disposition) = ran else {
            self.cells.panics.add(1);
            tracing::error!(
                code = "HE-E601",
                shard = self.id.0,
                "a panic ended one connection; this is a bug"
            );
            self.close(key);
            return;
        };
        for accepted in asked.accepted {
            self.open_connection(accepted);
        }
        for (shard, command) in asked.forwards {
            self.forward(shard, command);
        }
        for (shard, message) in asked.tunnels {
            self.post_tunnel(shard, message);
        }
        for command in asked.needs_pair {
            self.execute_with_new_pair(command);
        }
        if !gone {
            if may_hand_over {
                self.offer_to_kernel(key);
            }
            self.dispose(key, disposition);
        }
    }

    /// Calls `run`. A panic in it ends `session`, if one is given, and nothing else.
    pub(super) fn guarded(&mut self, session: Option<SessionKey>, run: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| run(self))).is_err() {
            self.cells.panics.add(1);
            tracing::error!(
                code = "HE-E602",
                shard = self.id.0,
                "a panic ended one session; this is a bug"
            );
            if let Some(session) = session {
                self.sessions.vod.players.remove(&mut self.sessions.cx, session);
            }
        }
    }

    fn dispose(&mut self, key: EntryKey, disposition: Disposition) {
        self.net.entries.mark_dirty(key);
        match disposition {
            Disposition::Handled => self.net.entries.enable(&mut self.net.ring, key),
            Disposition::Unfinished => self.visit_later(key),
            Disposition::Submit(task) => self.submit(task),
            Disposition::Wait => {}
            Disposition::Close => self.net.entries.close_when_sent(key),
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

pub(super) fn shard_count(poller: &Poller<Inbox>) -> u8 {
    u8::try_from(poller.inboxes().count()).unwrap_or(u8::MAX)
}
