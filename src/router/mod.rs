//! Switching between event consumers without losing or reordering an event (Microsoft, US
//! 8,484,660: reference 003).
//!
//! ```text
//!              route                     begin, consume
//!  producers --------> [ 4 5 6 | 7 8 ] ----------------> consumer
//!                        queue   held      hand_over: into the queue of another consumer
//!
//!  Idle --switch(b)--> Routing(b)
//!  Routing(a) --switch(b)--> Draining(a, b) --Reset consumed by a--> Routing(b)
//! ```
//! While a consumer is active, accepted events stand in its queue. A switch is the reference's
//! deactivate event. It moves what the old consumer has not begun to the new consumer's queue and
//! closes the old queue with Reset. Until the old consumer has consumed Reset, the router holds
//! new events; then they follow in the new consumer's queue. Producers are never blocked. A
//! consumer hands an event that it cannot handle straight to another consumer, and may ask for a
//! switch before or after. A switch that is requested during a switch begins when that one has
//! ended; of several such requests the newest counts.
//!
//! Events are numbered when they are accepted and stand in one list in this order, each with its
//! owner: a consumer or, when held, none. A queue is the part of the list with one owner, so moving
//! events between queues cannot reorder them and needs no room. Consumers on other threads get
//! their events by messages; the router itself belongs to one thread.
//!
//! Invariants: an accepted event is consumed exactly once, in the order of acceptance, whichever
//! consumer it goes to; an inactive consumer gets events only by `hand_over` and as an heir; an
//! event is never dropped: a full router hands it back. An event begins when all before it are
//! consumed, so a consumer that does not end its event holds up the others until it is removed.
//! Bounds: `capacity` events, `CONSUMERS_MAX` consumers. A switch, a removal and a look for Reset
//! visit each event once; everything else is constant. `table.txt` has each operation in each
//! state; a test compares it.

use std::collections::VecDeque;

/// Name of an event consumer of one router. No two consumers of a router have had the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerId {
    place: u8,
    serial: u32,
}

/// Number of an accepted event, counted from 0 in the order of acceptance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventNo(pub u64);

/// Where new events go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Routing {
    /// No consumer is active: events are held.
    Idle,
    /// To this consumer.
    Active(ConsumerId),
    /// A switch is under way: events are held.
    Draining {
        /// The consumer that must still consume Reset.
        from: ConsumerId,
        /// The consumer that is active then.
        to: ConsumerId,
        /// The consumer to switch to after that.
        then: Option<ConsumerId>,
    },
}

/// The next item of a consumer's queue.
#[derive(Debug, PartialEq, Eq)]
pub enum Delivery<'a, E> {
    /// An event, to be ended by `consume` or `hand_over` with its number.
    Event(EventNo, &'a E),
    /// The end of the queue: the consumer is to be inactive. To be ended by `consume_reset`, unless
    /// events for the consumer come first or the switch is abandoned: `begin` tells.
    Reset,
}

/// Outcome of a request to switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// The consumer is active, at once or already.
    Active,
    /// The consumer is active when the old one has consumed Reset.
    Begun,
    /// The consumer follows when the present switch has ended.
    Queued {
        /// An earlier request that does not count any more.
        replaced: Option<ConsumerId>,
    },
}

/// A refused event, handed back: the router has `capacity` events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many events wait to be consumed")]
pub struct FullError<E>(pub E);

/// A call that does not fit the state of the router. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RouterError {
    /// The consumer was never added, or has been removed.
    #[error("no such event consumer")]
    NoConsumer,
    /// The router has `CONSUMERS_MAX` consumers.
    #[error("too many event consumers")]
    TooManyConsumers,
    /// The consumer has not begun this event, or has ended it.
    #[error("the event consumer has not begun this event")]
    NotBegun,
    /// The consumer has no Reset to consume, or events before it.
    #[error("the event consumer is not at its Reset")]
    NotAtReset,
}

/// Events in one order for several consumers, one of them active: see the module.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct EventRouter<E> {
    /// In order of acceptance.
    entries: VecDeque<Entry<E>>,
    capacity: usize,
    /// The owner of the first entry has begun it.
    is_begun: bool,
    /// Serial of the consumer at each place.
    consumers: [Option<u32>; CONSUMERS_MAX],
    next_serial: u32,
    routing: Routing,
    next_no: u64,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Entry<E> {
    no: EventNo,
    /// `None` while the router holds the event.
    owner: Option<ConsumerId>,
    event: E,
}

/// Consumers of one router.
pub const CONSUMERS_MAX: usize = 8;

impl<E> EventRouter<E> {
    /// A router without consumers, for at most `capacity` events that wait.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            entries: VecDeque::with_capacity(capacity),
            capacity,
            is_begun: false,
            consumers: [None; CONSUMERS_MAX],
            next_serial: 0,
            routing: Routing::Idle,
            next_no: 0,
        }
    }

    /// Adds a consumer, which is not active.
    ///
    /// # Errors
    /// `TooManyConsumers`.
    pub fn add(&mut self) -> Result<ConsumerId, RouterError> {
        let free = (0..).zip(&mut self.consumers).find(|(_, consumer)| consumer.is_none());
        let (place, consumer) = free.ok_or(RouterError::TooManyConsumers)?;
        let serial = self.next_serial;
        *consumer = Some(serial);
        self.next_serial = serial.wrapping_add(1);
        Ok(ConsumerId { place, serial })
    }

    /// Takes a new event.
    ///
    /// # Errors
    /// The event, when `capacity` events wait.
    pub fn route(&mut self, event: E) -> Result<EventNo, FullError<E>> {
        if self.entries.len() >= self.capacity {
            return Err(FullError(event));
        }
        let no = EventNo(self.next_no);
        self.next_no += 1;
        let owner = match self.routing {
            Routing::Active(consumer) => Some(consumer),
            Routing::Idle | Routing::Draining { .. } => None,
        };
        self.entries.push_back(Entry { no, owner, event });
        Ok(no)
    }

    /// Makes a consumer the active one.
    ///
    /// # Errors
    /// `NoConsumer`.
    pub fn switch(&mut self, to: ConsumerId) -> Result<Switch, RouterError> {
        if !self.has(to) {
            return Err(RouterError::NoConsumer);
        }
        Ok(match self.routing {
            Routing::Idle => {
                self.activate(to);
                Switch::Active
            }
            Routing::Active(active) if active == to => Switch::Active,
            Routing::Active(from) => {
                self.drain(from, to);
                Switch::Begun
            }
            Routing::Draining { from, to: target, then } => {
                let next = Some(to).filter(|to| *to != target);
                self.routing = Routing::Draining { from, to: target, then: next };
                match next {
                    Some(_) => Switch::Queued { replaced: then.filter(|then| *then != to) },
                    None => Switch::Begun,
                }
            }
        })
    }

    /// The next item of a consumer; `None` while there is none, or while an earlier event is not
    /// consumed yet. A repeated call returns the same item.
    pub fn begin(&mut self, consumer: ConsumerId) -> Option<Delivery<'_, E>> {
        if self.is_at_reset(consumer) {
            return Some(Delivery::Reset);
        }
        let first = self.entries.front().filter(|first| first.owner == Some(consumer))?;
        self.is_begun = true;
        Some(Delivery::Event(first.no, &first.event))
    }

    /// The consumer has handled the event that it has begun.
    ///
    /// # Errors
    /// `NotBegun`.
    pub fn consume(&mut self, consumer: ConsumerId, no: EventNo) -> Result<E, RouterError> {
        let is_begun = self.is_begun;
        let first =
            self.entries.pop_front_if(|first| first.no == no && is_of(first, consumer) && is_begun);
        let Entry { event, .. } = first.ok_or(RouterError::NotBegun)?;
        self.is_begun = false;
        Ok(event)
    }

    /// The consumer puts the event that it has begun into the queue of another. Since the event is
    /// the first of all, it is the first of that queue.
    ///
    /// # Errors
    /// `NotBegun`; `NoConsumer` when there is no consumer `to`.
    pub fn hand_over(
        &mut self,
        consumer: ConsumerId,
        no: EventNo,
        to: ConsumerId,
    ) -> Result<(), RouterError> {
        if !self.has(to) {
            return Err(RouterError::NoConsumer);
        }
        let is_begun = self.is_begun;
        let first = self.entries.front_mut();
        let first = first.filter(|first| first.no == no && is_of(first, consumer) && is_begun);
        first.ok_or(RouterError::NotBegun)?.owner = Some(to);
        self.is_begun = false;
        Ok(())
    }

    /// The consumer has consumed Reset: the switch ends. Returns the consumer that is active now;
    /// another switch to it may be under way already.
    ///
    /// # Errors
    /// `NotAtReset`.
    pub fn consume_reset(&mut self, consumer: ConsumerId) -> Result<ConsumerId, RouterError> {
        match self.routing {
            Routing::Draining { to, then, .. } if self.is_at_reset(consumer) => {
                self.end_switch(to, then);
                Ok(to)
            }
            Routing::Idle | Routing::Active(_) | Routing::Draining { .. } => {
                Err(RouterError::NotAtReset)
            }
        }
    }

    /// Removes a consumer at any moment. What it has not consumed goes on in order: to `heir`, else
    /// to the active consumer; a removed active consumer without an heir leaves the router idle,
    /// which holds its events. A switch from the consumer ends at once. A switch to it goes to the
    /// heir, else to the consumer that was to follow, else it is abandoned and the old consumer
    /// stays.
    ///
    /// # Errors
    /// `NoConsumer` for the consumer or the heir; the consumer is no heir of its own.
    pub fn remove(
        &mut self,
        consumer: ConsumerId,
        heir: Option<ConsumerId>,
    ) -> Result<(), RouterError> {
        if !self.has(consumer) || heir.is_some_and(|heir| heir == consumer || !self.has(heir)) {
            return Err(RouterError::NoConsumer);
        }
        self.consumers[usize::from(consumer.place)] = None;
        if self.entries.front().is_some_and(|first| is_of(first, consumer)) {
            self.is_begun = false;
        }
        match self.routing {
            Routing::Idle => self.give(consumer, heir),
            Routing::Active(active) if active == consumer => {
                self.give(consumer, heir);
                self.routing = Routing::Idle;
                if let Some(heir) = heir {
                    self.activate(heir);
                }
            }
            Routing::Active(active) => self.give(consumer, heir.or(Some(active))),
            Routing::Draining { from, to, then } if from == consumer => {
                self.give(consumer, heir.or(Some(to)));
                self.end_switch(to, then.filter(|then| *then != consumer));
            }
            Routing::Draining { from, to, then } if to == consumer => {
                match heir.or(then) {
                    Some(next) if next != from => {
                        self.give(consumer, Some(next));
                        let then = then.filter(|then| *then != next);
                        self.routing = Routing::Draining { from, to: next, then };
                    }
                    // The old consumer goes on: its Reset is withdrawn.
                    Some(_) | None => {
                        self.give(consumer, Some(from));
                        self.end_switch(from, then.filter(|then| *then != from));
                    }
                }
            }
            Routing::Draining { from, to, then } => {
                self.give(consumer, heir.or(Some(to)));
                let then = then.filter(|then| *then != consumer);
                self.routing = Routing::Draining { from, to, then };
            }
        }
        Ok(())
    }

    /// Where new events go.
    #[must_use]
    pub fn routing(&self) -> Routing {
        self.routing
    }

    /// Events that are accepted and not consumed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether every accepted event is consumed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The queue of a consumer, or with `None` the held events, in order.
    pub fn queue(&self, owner: Option<ConsumerId>) -> impl Iterator<Item = (EventNo, &E)> {
        let entries = self.entries.iter().filter(move |entry| entry.owner == owner);
        entries.map(|entry| (entry.no, &entry.event))
    }

    fn has(&self, consumer: ConsumerId) -> bool {
        self.consumers.get(usize::from(consumer.place)) == Some(&Some(consumer.serial))
    }

    fn is_at_reset(&self, consumer: ConsumerId) -> bool {
        let is_draining =
            matches!(self.routing, Routing::Draining { from, .. } if from == consumer);
        is_draining && !self.entries.iter().any(|entry| entry.owner == Some(consumer))
    }

    /// Switches from the active consumer. The event that it has begun stays its own.
    fn drain(&mut self, from: ConsumerId, to: ConsumerId) {
        let begun = usize::from(self.is_begun);
        for entry in self.entries.iter_mut().skip(begun).filter(|entry| is_of(entry, from)) {
            entry.owner = Some(to);
        }
        self.routing = Routing::Draining { from, to, then: None };
    }

    /// Ends a switch; another one may follow.
    fn end_switch(&mut self, to: ConsumerId, then: Option<ConsumerId>) {
        self.activate(to);
        if let Some(then) = then {
            self.drain(to, then);
        }
    }

    /// Held events go to the consumer that is active from now on.
    fn activate(&mut self, consumer: ConsumerId) {
        self.routing = Routing::Active(consumer);
        for entry in self.entries.iter_mut().filter(|entry| entry.owner.is_none()) {
            entry.owner = Some(consumer);
        }
    }

    fn give(&mut self, consumer: ConsumerId, to: Option<ConsumerId>) {
        for entry in self.entries.iter_mut().filter(|entry| is_of(entry, consumer)) {
            entry.owner = to;
        }
    }
}

fn is_of<E>(entry: &Entry<E>, consumer: ConsumerId) -> bool {
    entry.owner == Some(consumer)
}

#[cfg(test)]
mod tests;
