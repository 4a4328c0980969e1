//! Live paths of a shard: carries requests to the owners of paths, and the owners' effects to
//! readers and sources.
//!
//! ```text
//!  readers --.                                       .--> readers
//!            hub --asks--> owner here --orders--> Live
//!  sources --'  `--------> owner elsewhere           `--> sources
//! ```
//! Invariant: readers and sources do not know each other; work that concerns both is done here.
//! Bound: `SETTLE_ROUNDS_MAX` rounds of requests and effects at once; the rest follows next turn.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::base::time::Mono;
use crate::live::core::demux::Target;
use crate::live::core::message::{LiveMessage, Notification, owner_of};
use crate::live::core::paths::PathEffect;
use crate::live::core::registry::Effect;
use crate::live::hub::Hub;
use crate::live::readers::Readers;
use crate::live::sources::Sources;
use crate::live::sources::fallback::SourceEvent;
use crate::live::sources::listen::InputDatagram;
use crate::rtsp::reader::Method;
use crate::rtsp::response::Status;
use crate::session::command::{Command, Executed};
use crate::session::cx::Cx;
use crate::session::directory::SessionRef;

/// All live paths of one shard: see the module.
#[derive(Debug, Default)]
pub struct Live {
    /// State that readers and sources share.
    pub hub: Hub,
    /// Sessions that packets are sent to, and multicast senders.
    pub readers: Readers,
    /// Publishers, cameras and inputs.
    pub sources: Sources,
}

impl Live {
    /// When an owner's timer is due, beside the wheel.
    #[must_use]
    pub fn next_due(&self) -> Option<Mono> {
        let timer = self.hub.timers.first().map(|(due, _)| *due);
        self.sources.publishers.next_flush().into_iter().chain(timer).min()
    }

    /// A session's client has given a sign of life.
    pub(crate) fn touch(&mut self, session: SessionRef, now: Mono) {
        match session {
            SessionRef::Publisher(number) => {
                let Some(publisher) = self.sources.publishers.get_mut(&number) else { return };
                publisher.alive = now;
                publisher.source.handle_sign_of_life(now);
            }
            SessionRef::Reader(index) => {
                if let Some(reader) = self.readers.table.get_mut(index as usize) {
                    reader.client.alive = now;
                }
            }
            SessionRef::Title(_) => {}
        }
    }

    /// Whether there is work to do at once.
    #[must_use]
    pub fn is_unsettled(&self) -> bool {
        self.hub.is_ready
            || self.hub.paths.listed_count() > 0
            || self.readers.backlog.is_waiting()
            || self.sources.walks.is_waiting()
            || self.sources.relays.is_waiting()
            || self.sources.titles.is_waiting()
            || !self.hub.requests.is_empty()
            || !self.hub.registry.out.is_empty()
    }
}

impl Live {
    /// Handles a message from another shard.
    pub fn handle_live_message(&mut self, cx: &mut Cx, message: LiveMessage) {
        match message {
            LiveMessage::ToOwner(mut message) => {
                if let Some(rules) = message.request.rules_mut() {
                    *rules = cx.path_rules(&message.path);
                }
                self.hub.registry.handle(message, cx.now);
            }
            LiveMessage::ToShard { path, notification } => {
                self.handle_notification(cx, &path, notification)
            }
        }
        self.settle_live(cx);
    }

    /// Feeds the packets of this turn to their paths, and runs the owners' timers that are due. To
    /// be called once a turn.
    pub fn feed_live(&mut self, cx: &mut Cx) {
        let now = cx.now;
        self.readers.go_on_with_backlog(cx, &mut self.hub);
        self.sources.go_on_with_sources(cx, &mut self.hub);
        self.sweep_paths(cx);
        // Bounded by the timers that are due: a timer that is set anew lies later.
        while self.hub.timers.first().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, path)) = self.hub.timers.pop_first() {
                self.hub.registry.handle_timer(&path, now);
            }
        }
        let Sources { inputs, publishers, .. } = &mut self.sources;
        inputs.flush(cx, publishers);
        self.sources.go_on_with_titles(cx, &mut self.hub);
        let Sources { publishers, .. } = &mut self.sources;
        publishers.feed(&mut self.hub, now);
        self.settle_live(cx);
        // Behind the batches of this turn, which are relayed in it.
        self.sources.go_on_with_relays(cx, &mut self.hub);
        self.settle_live(cx);
    }

    /// Takes a datagram at a socket of an input. The path has its owner here, so that a claim is
    /// answered at once.
    pub fn handle_input_datagram(
        &mut self,
        cx: &mut Cx,
        number: u32,
        (track, is_rtcp): (u8, bool),
        from: SocketAddr,
        bytes: &[u8],
    ) {
        let target = Target { source: number, track };
        let kept = self.take_input_datagram(cx, InputDatagram { target, is_rtcp, from, bytes });
        if kept.is_empty() {
            return;
        }
        self.settle_live(cx);
        for bytes in kept {
            let datagram = InputDatagram { target, is_rtcp: false, from, bytes: &bytes };
            // With the path claimed no datagrams are handed back.
            let _ = self.take_input_datagram(cx, datagram);
        }
    }

    fn take_input_datagram(&mut self, cx: &mut Cx, datagram: InputDatagram<'_>) -> Vec<Box<[u8]>> {
        let Sources { inputs, publishers, .. } = &mut self.sources;
        inputs.take_datagram(cx, &mut self.hub, publishers, datagram)
    }

    /// Carries requests and effects to where they belong, until there are none.
    pub fn settle_live(&mut self, cx: &mut Cx) {
        // Bounded: an owner answers a request with a few effects, and a message causes few
        // requests.
        for _ in 0..SETTLE_ROUNDS_MAX {
            if self.hub.requests.is_empty() && self.hub.registry.out.is_empty() {
                break;
            }
            // The storage is put back if nothing was added meanwhile, as for batches.
            let mut requests = std::mem::take(&mut self.hub.requests);
            for message in requests.drain(..) {
                let owner = owner_of(&message.path, self.hub.shard_count);
                if owner == cx.shard {
                    self.hub.registry.handle(message, cx.now);
                } else {
                    self.hub.outbox.push((owner, LiveMessage::ToOwner(message)));
                }
            }
            if self.hub.requests.is_empty() {
                self.hub.requests = requests;
            }
            let mut effects = std::mem::take(&mut self.hub.registry.out);
            for effect in effects.drain(..) {
                self.apply(cx, effect);
            }
            if self.hub.registry.out.is_empty() {
                self.hub.registry.out = effects;
            }
        }
        self.start_ticking(cx);
    }

    fn apply(&mut self, cx: &mut Cx, effect: Effect) {
        match effect {
            Effect::Notify { shard, path, notification } if shard == cx.shard => {
                self.handle_notification(cx, &path, notification);
            }
            Effect::Notify { shard, path, notification } => {
                self.hub.outbox.push((shard, LiveMessage::ToShard { path, notification }));
            }
            Effect::Timer(path, due) => {
                self.hub.timers.insert((due, path));
            }
            Effect::StartPull(path) => self.sources.start_fetch(cx, &mut self.hub, &path),
            Effect::StopPull(path) => self.sources.stop_fetch(cx, &mut self.hub, &path),
            Effect::OpenGroup(path, group) => {
                self.readers.open_group(cx, &mut self.hub, &path, group)
            }
            Effect::CloseGroup(path, _) => self.readers.close_group(cx, &mut self.hub, &path),
        }
    }

    fn handle_notification(&mut self, cx: &mut Cx, path: &Arc<str>, notification: Notification) {
        if matches!(notification, Notification::Ended) {
            self.hub.count_path_end(path);
        }
        match self.hub.paths.handle(path, notification, cx.now) {
            PathEffect::Nothing => {}
            PathEffect::Answer { waiters, refused } => {
                for waiter in waiters {
                    self.readers.resume(cx, waiter, refused.is_some());
                }
                let event = match refused {
                    None => SourceEvent::Fed,
                    Some(_) => SourceEvent::Gone(refused),
                };
                if refused.is_none() {
                    self.readers.start_groups(cx, &mut self.hub);
                }
                self.tell_relays(cx, path, event);
            }
            PathEffect::Lost => self.tell_relays(cx, path, SourceEvent::Lost),
            PathEffect::Fed => {
                if self.hub.paths.path(path).is_some_and(|path| path.has_primed()) {
                    self.readers.retry_plays(cx, &mut self.hub, path);
                }
                self.tell_relays(cx, path, SourceEvent::Fed);
            }
            PathEffect::End { readers, waiters } => {
                let readers = readers.into_iter();
                let places = readers.filter_map(|(_, owner)| u32::try_from(owner).ok());
                self.readers.dismiss_readers(cx, &mut self.hub, places, "the source has gone");
                for waiter in waiters {
                    self.readers.resume(cx, waiter, false);
                }
                let is_here = self.hub.paths.path(path).is_some();
                let event = if is_here { SourceEvent::Lost } else { SourceEvent::Gone(None) };
                self.tell_relays(cx, path, event);
            }
            PathEffect::ForSource(Notification::Joined { serial, group }) => {
                self.readers.handle_joined(cx, &mut self.hub, path, serial, group);
            }
            PathEffect::ForSource(notification) => {
                self.sources.handle_source_notification(cx, &mut self.hub, path, notification)
            }
        }
    }
}

impl Live {
    fn tell_relays(&mut self, cx: &Cx, path: &str, event: SourceEvent) {
        self.sources.handle_relay_source(&self.hub.paths, path, event, cx.now);
    }

    /// The time of the next frame or decision of a feed of titles has come.
    pub(crate) fn handle_titles_due(&mut self, cx: &mut Cx, number: u32) {
        self.sources.handle_titles_due(cx, &mut self.hub, number);
        self.settle_live(cx);
    }
}

impl Live {
    /// Executes a command for a path without a session.
    pub(crate) fn execute_first(&mut self, cx: &mut Cx, command: Command) -> Executed {
        match command.request.method {
            Method::Announce => self.sources.announce(cx, &mut self.hub, &command),
            Method::Describe => self.readers.describe_live(cx, &mut self.hub, command),
            Method::Setup => match self.sources.publisher_of(cx, &command) {
                Some(number) => self.sources.execute_publisher(cx, &mut self.hub, command, number),
                None => self.readers.setup_reader(cx, &mut self.hub, command, None),
            },
            // These methods need a session: `consumers::sessions` answers them before.
            Method::Options
            | Method::Play
            | Method::Pause
            | Method::Teardown
            | Method::GetParameter
            | Method::SetParameter
            | Method::Record
            | Method::Redirect
            | Method::Unknown(_) => command.refuse(Status::SessionNotFound),
        }
    }
}

/// More than any chain of requests and answers on one shard takes.
const SETTLE_ROUNDS_MAX: usize = 64;
