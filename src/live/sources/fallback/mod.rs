//! Paths with fallbacks: each is fed by a relay, out of other paths of this server.
//!
//! ```text
//!  live/a~0 (published) --.
//!  live/a~1 (camera)    --+-- batches --> Relay: choice, wire --packets--> publisher of live/a
//!  live/b               --'
//! ```
//! A source is a path of its own, with its own owner, retries and metrics. The relay listens to it
//! as a reader's shard does. To its path's owner it is a source that is fetched: `StartPull` starts
//! it and `StopPull` stops it. Packets that it relays go the way of all packets of publishers.
//!
//! | room | what is there |
//! |---|---|
//! | `choice` | which source feeds the path: events and time in, steps out |
//! | `fit` | whether a source can feed the path: its encodings |
//! | `wire` | one identity of the RTP streams over all sources |
//! | `relay` | one relay: subscriptions, switches, packets |
//!
//! Invariant: a relay feeds its path from one source at a time, under one claim.
//! Bounds: a relay for each path with its owner here, `SOURCES_MAX` sources each, `BATCHES_A_TURN`.

pub(crate) mod choice;
pub(crate) mod fit;
mod relay;
mod wire;

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use crate::live::core::message::OwnerRequest;
use crate::live::hub::Hub;
use crate::live::sources::Sources;
use crate::live::sources::fallback::relay::{Relay, Room};
use crate::live::sources::publisher::Way;
use crate::live::sources::table::{OfPath, SourceTable};
use crate::session::action::TimerKey;
use crate::session::cx::Cx;

/// The relays of one shard: see the module.
#[derive(Debug, Default)]
pub(crate) struct Relays {
    table: SourceTable<Relay>,
    /// Relays that listen to a path, each with the place of the path among its sources.
    listeners: HashMap<Arc<str>, Vec<(u32, usize)>>,
    /// Relays with batches left for the next turn.
    ready: BTreeSet<u32>,
}

/// What has happened to a path that a relay listens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SourceEvent {
    /// It is here, or a batch has arrived.
    Fed,
    /// Its source has gone, or another one follows with other tracks.
    Lost,
    /// It was refused, or has ended.
    Gone,
}

impl Relays {
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Whether batches are left for the next turn.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.ready.is_empty()
    }

    fn numbers(&self) -> Vec<u32> {
        self.table.range_from(Bound::Unbounded).collect()
    }

    fn enter(&mut self, number: u32, relay: Relay) {
        for (place, path) in relay.source_paths().enumerate() {
            self.listeners.entry(Arc::clone(path)).or_default().push((number, place));
        }
        self.table.insert(number, relay);
    }

    fn remove(&mut self, cx: &mut Cx, number: u32) -> Option<Relay> {
        let mut relay = self.table.remove(number)?;
        self.ready.remove(&number);
        for path in relay.source_paths() {
            if let Some(listeners) = self.listeners.get_mut(path) {
                listeners.retain(|(listener, _)| *listener != number);
                if listeners.is_empty() {
                    self.listeners.remove(path);
                }
            }
        }
        relay.cancel_timer(cx);
        Some(relay)
    }
}

impl Sources {
    /// Starts the relay of a path for its owner on this shard. The owner repeats this while the
    /// relay waits for a source: the relay goes on.
    pub(crate) fn start_relay(&mut self, cx: &mut Cx, hub: &mut Hub, path: &Arc<str>) {
        if self.relays.table.number_of(path).is_none() {
            let number = hub.next_serial();
            let relay =
                Relay::new(number, path, cx.configs.source_paths(path), cx.path_config(path));
            self.relays.enter(number, relay);
            self.with_relay(cx, hub, number, |_, _| {});
        }
    }

    /// Stops the relay of a path, if it has one.
    pub(crate) fn stop_relay(&mut self, cx: &mut Cx, hub: &mut Hub, path: &Arc<str>) {
        let Some(number) = self.relays.table.number_of(path) else { return };
        let relay = self.relays.remove(cx, number);
        if let Some(publisher) = relay.and_then(|relay| relay.publisher()) {
            self.forget_publisher(cx, hub, publisher);
        }
    }

    /// Stops all relays; their publishers are left to the caller.
    pub(crate) fn stop_relays(&mut self, cx: &mut Cx) {
        for number in self.relays.numbers() {
            self.relays.remove(cx, number);
        }
    }

    /// The owner does not give the path: it tries again after a while.
    pub(crate) fn refuse_relay(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        publisher: u32,
        reason: &str,
    ) {
        let publisher = self.publishers.get(&publisher);
        let Some(Way::Relay { relay, .. }) = publisher.map(|publisher| &publisher.way) else {
            return;
        };
        if let Some(relay) = self.relays.remove(cx, *relay) {
            hub.request(relay.path(), OwnerRequest::PullFailed { reason: reason.to_owned() });
        }
    }

    /// Something has happened to a path that relays may listen to.
    pub(crate) fn handle_relay_source(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        path: &Arc<str>,
        event: SourceEvent,
    ) {
        // A path feeds a few others.
        let Some(listeners) = self.relays.listeners.get(path).cloned() else { return };
        for (number, place) in listeners {
            self.with_relay(cx, hub, number, |relay, room| relay.handle_source(room, place, event));
        }
    }

    /// The time of a relay's next decision has come.
    pub(crate) fn handle_relay_due(&mut self, cx: &mut Cx, hub: &mut Hub, number: u32) {
        self.with_relay(cx, hub, number, |relay, _| relay.handle_due());
    }

    /// Relays the batches that are left from the turn before.
    pub(crate) fn go_on_with_relays(&mut self, cx: &mut Cx, hub: &mut Hub) {
        for number in std::mem::take(&mut self.relays.ready) {
            self.with_relay(cx, hub, number, |_, _| {});
        }
    }

    /// Keeps the paths that relays listen to: to be called every second, before paths without
    /// readers are released.
    pub(crate) fn renew_relays(&mut self, cx: &mut Cx, hub: &mut Hub) {
        for number in self.relays.numbers() {
            self.with_relay(cx, hub, number, Relay::renew);
        }
    }

    /// The claim of a relay is granted.
    pub(crate) fn handle_relay_granted(&mut self, cx: &mut Cx, hub: &mut Hub, number: u32) {
        self.with_relay(cx, hub, number, |_, _| {});
    }

    /// Tells a relay of an event, and carries out what follows.
    fn with_relay(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        number: u32,
        event: impl FnOnce(&mut Relay, &mut Room<'_>),
    ) {
        let Some(relay) = self.relays.table.get_mut(number) else { return };
        let mut room = Room { cx, hub, publishers: &mut self.publishers };
        event(relay, &mut room);
        relay.go_on(&mut room);
        if relay.has_more() {
            self.relays.ready.insert(number);
        }
        if let Some(publisher) = relay.take_released() {
            self.end_publisher(cx, hub, publisher, "none of its sources sends");
        }
    }
}

/// The key of a relay on the wheel.
fn timer_key(number: u32) -> TimerKey {
    TimerKey::Relay(number)
}
