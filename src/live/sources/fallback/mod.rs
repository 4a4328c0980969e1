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
//! | `feed` | the source that feeds the path: its batches, packet by packet |
//! | `relay` | one relay: subscriptions, switches |
//! | `relist` | a relay whose list of sources changes |
//! | `operate` | a relay as operators steer and see it |
//!
//! An event marks a relay as ready. Ready relays go on once a turn, in the order in which they
//! became ready:
//!
//! ```text
//!  batch, lost, gone, time --> ready --go_on: PACKETS_A_TURN--> ready first in the next turn
//!                                        `--PACKETS_OF_ONE of a relay, then behind the others
//! ```
//! Invariants: a relay feeds its path from one source at a time, under one claim; a relay is ready
//! once; a batch that waits is relayed in a later turn, or has left its ring.
//! Bounds: a relay for each path with its owner here, `SOURCES_MAX` sources each. A turn relays
//! `PACKETS_A_TURN` packets and `PACKETS_OF_ONE` of one relay, and the rest of a batch. An event
//! costs a look-up for each relay of the path.

pub(crate) mod choice;
mod feed;
pub(crate) mod fit;
mod operate;
mod relay;
mod relist;
mod wire;

use std::collections::{HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use crate::base::time::Mono;
use crate::live::core::failover::SwitchError;
use crate::live::core::message::{OwnerRequest, RefusedError};
use crate::live::core::paths::LivePaths;
use crate::live::hub::Hub;
use crate::live::sources::Sources;
use crate::live::sources::fallback::relay::{Legacy, Relay, Room};
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
    /// Relays with work for this turn, each once; a relay that has ended may be among them.
    ready: VecDeque<u32>,
    /// Storage for a packet that is being rewritten.
    out: Vec<u8>,
    /// Streams of paths whose relays were stopped in this turn under their readers.
    legacies: Vec<(Arc<str>, Legacy)>,
}

/// Packets that may still be relayed in this turn.
#[derive(Debug)]
pub(crate) struct Share {
    packets: usize,
}

impl Share {
    /// Whether no further batch is to be begun.
    pub(crate) fn is_spent(&self) -> bool {
        self.packets == 0
    }

    /// A batch with so many packets is relayed. An empty one costs as much as a packet.
    pub(crate) fn spend(&mut self, packets: usize) {
        self.packets = self.packets.saturating_sub(packets.max(1));
    }

    /// A part of the share for one relay.
    fn part(&self, packets_max: usize) -> Self {
        Self { packets: self.packets.min(packets_max) }
    }
}

/// What has happened to a path that a relay listens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SourceEvent {
    /// It is here, or a batch has arrived.
    Fed,
    /// Its source has gone, or another one follows with other tracks.
    Lost,
    /// It has ended, or was refused for this cause.
    Gone(Option<RefusedError>),
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

    /// Numbers beyond a bound, in order.
    pub(crate) fn range_from(&self, from: Bound<u32>) -> impl Iterator<Item = u32> {
        self.table.range_from(from)
    }

    /// A relay has work for this turn.
    fn make_ready(&mut self, number: u32) {
        let relay = self.table.get_mut(number);
        if relay.is_some_and(|relay| !std::mem::replace(&mut relay.is_ready, true)) {
            self.ready.push_back(number);
        }
    }

    fn enter(&mut self, number: u32, relay: Relay) {
        for (place, path) in relay.source_paths().enumerate() {
            self.listeners.entry(Arc::clone(path)).or_default().push((number, place));
        }
        self.table.insert(number, relay);
    }

    fn remove(&mut self, cx: &mut Cx, number: u32) -> Option<Relay> {
        let mut relay = self.table.remove(number)?;
        for path in relay.source_paths() {
            if let Some(listeners) = self.listeners.get_mut(path) {
                listeners.retain(|(listener, _)| *listener != number);
                if listeners.is_empty() {
                    self.listeners.remove(path);
                }
            }
        }
        relay.cancel_timer(cx);
        relay.end_switch(SwitchError::Ended);
        Some(relay)
    }
}

impl Sources {
    /// Starts the relay of a path for its owner on this shard. The owner repeats this while the
    /// relay waits for a source: the relay goes on.
    pub(crate) fn start_relay(&mut self, cx: &Cx, hub: &mut Hub, path: &Arc<str>) {
        if self.relays.table.number_of(path).is_none() {
            let number = hub.next_serial();
            let sources = cx.configs.source_paths(path);
            let mut relay = Relay::new(number, path, sources, cx.path_config(path), cx.now);
            let legacies = &mut self.relays.legacies;
            if let Some(place) = legacies.iter().position(|(of, _)| of == path) {
                relay.inherit(legacies.swap_remove(place).1, cx.now);
            }
            self.relays.enter(number, relay);
            self.relays.make_ready(number);
        }
    }

    /// Stops the relay of a path, if it has one.
    pub(crate) fn stop_relay(&mut self, cx: &mut Cx, hub: &mut Hub, path: &Arc<str>) {
        let Some(number) = self.relays.table.number_of(path) else { return };
        let Some(relay) = self.relays.remove(cx, number) else { return };
        if let Some(publisher) = relay.publisher() {
            self.forget_publisher(cx, hub, publisher);
        }
        // The configuration has changed: another relay follows at once.
        if hub.registry.info(path).is_some_and(|owner| owner.state == "held") {
            self.relays.legacies.push((Arc::clone(path), relay.into_legacy()));
        }
    }

    /// Stops all relays; their publishers are left to the caller.
    pub(crate) fn stop_relays(&mut self, cx: &mut Cx) {
        let numbers: Vec<u32> = self.relays.range_from(Bound::Unbounded).collect();
        for number in numbers {
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
        paths: &LivePaths,
        path: &str,
        event: SourceEvent,
        now: Mono,
    ) {
        let Relays { table, listeners, ready, .. } = &mut self.relays;
        for (number, place) in listeners.get(path).into_iter().flatten() {
            let Some(relay) = table.get_mut(*number) else { continue };
            let is_ready = relay.handle_source(paths, now, *place, event);
            if is_ready && !std::mem::replace(&mut relay.is_ready, true) {
                ready.push_back(*number);
            }
        }
    }

    /// The time of a relay's next decision has come.
    pub(crate) fn handle_relay_due(&mut self, number: u32) {
        if let Some(relay) = self.relays.table.get_mut(number) {
            relay.handle_due();
            self.relays.make_ready(number);
        }
    }

    /// The claim of a relay is granted.
    pub(crate) fn handle_relay_granted(&mut self, number: u32) {
        self.relays.make_ready(number);
    }

    /// Lets ready relays decide, switch and relay: to be called once a turn.
    pub(crate) fn go_on_with_relays(&mut self, cx: &mut Cx, hub: &mut Hub) {
        let mut share = Share { packets: PACKETS_A_TURN };
        self.relays.legacies.clear();
        // Each relay once: one that has more is behind the others in the next turn.
        for _ in 0..self.relays.ready.len() {
            if share.is_spent() {
                break;
            }
            let Some(number) = self.relays.ready.pop_front() else { break };
            let Some(relay) = self.relays.table.get_mut(number) else { continue };
            relay.is_ready = false;
            let mut part = share.part(PACKETS_OF_ONE);
            let before = part.packets;
            let (publishers, out) = (&mut self.publishers, &mut self.relays.out);
            relay.go_on(&mut Room { cx, hub, publishers, out }, &mut part);
            share.spend((before - part.packets).max(DECISION_PACKETS));
            let (has_more, released) = (relay.has_more(), relay.take_released());
            if has_more {
                self.relays.make_ready(number);
            }
            if let Some(publisher) = released {
                self.end_publisher(cx, hub, publisher, "none of its sources sends");
            }
        }
    }

    /// Keeps the paths that a relay listens to: to be called for each relay every second, before
    /// paths without readers are released.
    pub(crate) fn renew_relay(&mut self, cx: &mut Cx, hub: &mut Hub, number: u32) {
        let Some(relay) = self.relays.table.get_mut(number) else { return };
        let (publishers, out) = (&mut self.publishers, &mut self.relays.out);
        if relay.renew(&mut Room { cx, hub, publishers, out }) {
            self.relays.make_ready(number);
        }
    }
}

/// The key of a relay on the wheel.
fn timer_key(number: u32) -> TimerKey {
    TimerKey::Relay(number)
}

/// Packets that all relays take in one turn, and the rest of a batch: about a millisecond of work.
const PACKETS_A_TURN: usize = 4_096;
/// Packets that one relay takes in one turn, and the rest of a batch: a group of pictures that a
/// switch sends at once takes a few turns.
const PACKETS_OF_ONE: usize = 1_024;
/// A relay that decides without relaying costs as much as so many packets.
const DECISION_PACKETS: usize = 4;
