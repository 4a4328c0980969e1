//! Handing orders on from node to node: each source hands its list of nodes on in parts.
//!
//! ```text
//! source with 1 2 3 4 5 6 7  --> 1 with 2 4 6    --> 2 with 4 (--> 4)   --> 6
//!                            --> 3 with 5 (--> 5)
//!                            --> 7
//! node: body --own envelope opens?--> Take, and a part to each of the next --taken within 2 s--> .
//!                                                     `- not taken: taken back, handed on anew
//! ```
//! A source hands every second node that is left to the first of them, and goes on with the others.
//! So each node is approached once, with as many messages as there are nodes, in ceil(log2(n + 1))
//! rounds. After reference 002, paragraph 66.
//! Invariants: nothing is taken that the base has not signed for this node; orders of one number
//! count once; an order that is older than a minute by the clock of the base, or than this node's
//! first word from the base, counts not at all; a node that has not taken its part is left to the
//! base, the nodes behind it are not. Bounds: `SEEN_MAX` numbers, `OPEN_MAX` parts that are under
//! way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::base::time::Mono;
use crate::dist::ids::{BaseEpoch, Digest, NodeName};
use crate::dist::keys::VerifyKey;
use crate::dist::wire::agent::{NodeOrder, whole_list};
use crate::dist::wire::relay::{
    ENTRIES_MAX, ENVELOPE_LIFE_NS, Envelope, RelayBody, RelayCounts, RelayEntry,
};

/// Who gets a part, and the part: itself, then those that it is to approach.
pub type Part<T> = Vec<T>;

/// The parts of a list: disjoint, all of it together.
#[must_use]
pub fn parts<T>(list: Vec<T>) -> Vec<Part<T>> {
    let mut parts = Vec::new();
    let mut left = list;
    while !left.is_empty() {
        let mut list = left.into_iter();
        let mut part: Vec<T> = list.next().into_iter().collect();
        left = Vec::with_capacity(list.len() / 2);
        for (place, item) in list.enumerate() {
            if place % 2 == 0 { part.push(item) } else { left.push(item) }
        }
        parts.push(part);
    }
    parts
}

/// Rounds until the last of so many nodes has its orders.
#[must_use]
pub fn rounds(nodes: usize) -> u32 {
    nodes.saturating_add(1).next_power_of_two().trailing_zeros()
}

/// Number of a part that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HandId(pub u32);

/// What the caller does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayAction {
    /// Take these orders of a base of this epoch.
    Take {
        /// Epoch of the base.
        base: BaseEpoch,
        /// Number of the orders.
        number: u64,
        /// The orders, those for all nodes first.
        orders: Vec<NodeOrder>,
    },
    /// Hand a part on; [`Relay::handle_handed`].
    Hand {
        /// Number of the part.
        hand: HandId,
        /// To whom.
        node: NodeName,
        /// Where it is.
        addr: String,
        /// The part.
        body: RelayBody,
    },
}

/// From whom a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// The base, over its own stream of orders.
    Base,
    /// A node.
    Peer,
}

/// What a body has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is taken, and what is behind is handed on.
    Taken,
    /// It has come before.
    Duplicate,
}

/// Why a body, or a question, is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RelayError {
    /// It is not of the expected form, or not signed by the base for this node.
    #[error("the orders are not signed by the base for this node")]
    Strange,
    /// It is older than it may be.
    #[error("the orders are too old")]
    Old,
    /// This node cannot tell how old it is: it has not heard from the base since its start.
    #[error("this node has not heard from its base yet")]
    NoClock,
    /// Too much is under way.
    #[error("this node has too much to do")]
    Full,
}

/// A node's side. See the module.
#[derive(Debug)]
pub struct Relay {
    me: NodeName,
    key: Option<VerifyKey>,
    /// Time of the base when it was first heard, and now.
    clock: Option<Clock>,
    /// Numbers that were taken, with the time of the base at which they were made.
    seen: BTreeMap<u64, i64>,
    hands: BTreeMap<HandId, Hand>,
    last_hand: u32,
    counts: RelayCounts,
}

#[derive(Debug, Clone, Copy)]
struct Clock {
    first_ns: i64,
    at_ns: i64,
    heard: Mono,
}

/// A part that is under way.
#[derive(Debug)]
struct Hand {
    body: RelayBody,
    since: Mono,
}

impl Relay {
    /// That of a node which knows no base yet.
    #[must_use]
    pub fn new(me: NodeName) -> Self {
        Self {
            me,
            key: None,
            clock: None,
            seen: BTreeMap::new(),
            hands: BTreeMap::new(),
            last_hand: 0,
            counts: RelayCounts::default(),
        }
    }

    /// The key of the base.
    pub fn set_key(&mut self, key: VerifyKey) {
        self.key = Some(key);
    }

    /// It is this time at the base.
    pub fn set_clock(&mut self, at_ns: i64, now: Mono) {
        let first_ns = self.clock.map_or(at_ns, |clock| clock.first_ns);
        self.clock = Some(Clock { first_ns, at_ns, heard: now });
    }

    /// What was handed on since the start.
    #[must_use]
    pub fn counts(&self) -> RelayCounts {
        self.counts
    }

    /// Takes a body.
    ///
    /// # Errors
    /// It is not taken: whoever has sent it hands on what is behind this node in another way.
    pub fn handle(
        &mut self,
        body: RelayBody,
        from: From,
        now: Mono,
        out: &mut Vec<RelayAction>,
    ) -> Result<Answer, RelayError> {
        let answer = self.take(body, from, now, out);
        match answer {
            Ok(Answer::Taken) => self.counts.taken += 1,
            Ok(Answer::Duplicate) => self.counts.duplicates += 1,
            Err(_) => self.counts.refused += 1,
        }
        answer
    }

    /// The envelope of a question that another node brings.
    ///
    /// # Errors
    /// As [`Self::handle`].
    pub fn open_question(&self, envelope: &str, now: Mono) -> Result<Envelope, RelayError> {
        let envelope = self.open(envelope).filter(|it| it.node == self.me);
        let envelope = envelope.ok_or(RelayError::Strange)?;
        // A node that was started while its base was away says that it lives, too.
        match self.check_age(&envelope, now) {
            Err(RelayError::NoClock) | Ok(()) => Ok(envelope),
            Err(error) => Err(error),
        }
    }

    /// A part was taken by its node, or it was not.
    pub fn handle_handed(
        &mut self,
        hand: HandId,
        is_taken: bool,
        now: Mono,
        out: &mut Vec<RelayAction>,
    ) {
        let Some(Hand { mut body, .. }) = self.hands.remove(&hand) else { return };
        if is_taken {
            return;
        }
        self.counts.taken_back += 1;
        // The node itself is left to the base.
        let entries = body.entries.split_off(1);
        self.hand_on(&body, entries, now, out);
    }

    /// Lets time pass: parts without an answer are taken back.
    pub fn handle_time(&mut self, now: Mono, out: &mut Vec<RelayAction>) {
        let is_late = |hand: &Hand| now.since(hand.since) >= TAKEN_WITHIN;
        let late = self.hands.iter().filter(|(_, hand)| is_late(hand));
        for hand in late.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.handle_handed(hand, false, now, out);
        }
        if let Some(base_ns) = self.base_ns(now) {
            self.seen.retain(|_, at_ns| base_ns.saturating_sub(*at_ns) < 2 * ENVELOPE_LIFE_NS);
        }
    }

    fn take(
        &mut self,
        body: RelayBody,
        from: From,
        now: Mono,
        out: &mut Vec<RelayAction>,
    ) -> Result<Answer, RelayError> {
        let own = body.entries.first().filter(|_| body.entries.len() <= ENTRIES_MAX);
        let envelope = own.and_then(|own| self.open(&own.envelope)).ok_or(RelayError::Strange)?;
        let common = Digest(*blake3::hash(body.common.as_bytes()).as_bytes());
        let is_mine =
            envelope.node == self.me && envelope.number == body.number && envelope.common == common;
        let for_all = serde_json::from_str::<Vec<NodeOrder>>(&body.common).ok();
        let for_all = for_all.filter(|_| is_mine).ok_or(RelayError::Strange)?;
        if self.seen.contains_key(&body.number) {
            return Ok(Answer::Duplicate);
        }
        if from == From::Peer {
            self.check_age(&envelope, now)?;
        }
        if self.seen.len() >= SEEN_MAX || self.hands.len() >= OPEN_MAX {
            return Err(RelayError::Full);
        }
        self.seen.insert(body.number, envelope.at_ns);
        let Envelope { base, number, orders: own, .. } = envelope;
        let mut head = body;
        let entries = head.entries.split_off(1);
        // First on its way, then done: the last node waits for all before it.
        self.hand_on(&head, entries, now, out);
        let orders = for_all.into_iter().chain(own).map(whole);
        out.push(RelayAction::Take { base, number, orders: orders.collect() });
        Ok(Answer::Taken)
    }

    /// Hands a list on in parts.
    fn hand_on(
        &mut self,
        head: &RelayBody,
        entries: Vec<RelayEntry>,
        now: Mono,
        out: &mut Vec<RelayAction>,
    ) {
        let mut indexes = BTreeSet::new();
        let mut entries = entries;
        entries.retain(|entry| indexes.insert(entry.index));
        for part in parts(entries) {
            let first = part.first().and_then(|first| self.open(&first.envelope));
            // Only the base says where a node is: nobody has this one connect to strangers.
            let Some(first) = first.filter(|it| it.number == head.number) else {
                self.counts.refused += 1;
                continue;
            };
            self.last_hand = self.last_hand.wrapping_add(1);
            let hand = HandId(self.last_hand);
            let body = RelayBody {
                number: head.number,
                job: head.job,
                list_version: head.list_version,
                common: head.common.clone(),
                entries: part,
            };
            self.hands.insert(hand, Hand { body: body.clone(), since: now });
            self.counts.sent += 1;
            let Envelope { node, addr, .. } = first;
            out.push(RelayAction::Hand { hand, node, addr, body });
        }
    }

    fn open(&self, envelope: &str) -> Option<Envelope> {
        self.key.as_ref()?.open_envelope(envelope)
    }

    fn check_age(&self, envelope: &Envelope, now: Mono) -> Result<(), RelayError> {
        let (Some(clock), Some(base_ns)) = (self.clock, self.base_ns(now)) else {
            return Err(RelayError::NoClock);
        };
        // What was made before this start may have been taken, and withdrawn, before it.
        let is_old = envelope.at_ns < clock.first_ns
            || base_ns.saturating_sub(envelope.at_ns) >= ENVELOPE_LIFE_NS;
        if is_old { Err(RelayError::Old) } else { Ok(()) }
    }

    fn base_ns(&self, now: Mono) -> Option<i64> {
        let Clock { at_ns, heard, .. } = self.clock?;
        let passed_ns = i64::try_from(now.since(heard).as_nanos()).unwrap_or(i64::MAX);
        Some(at_ns.saturating_add(passed_ns))
    }
}

/// An order whose list of sources is whole again.
fn whole(order: NodeOrder) -> NodeOrder {
    match order {
        NodeOrder::Sources { content, epoch, sources, further } => {
            NodeOrder::Sources { content, epoch, sources: whole_list(sources), further }
        }
        other => other,
    }
}

/// A part that is not taken within this time is taken back; and so is what the base has handed to a
/// node that has not said that it has it.
pub const TAKEN_WITHIN: Duration = Duration::from_secs(2);
/// Numbers of some minutes.
const SEEN_MAX: usize = 65_536;
/// Parts under way: a connection each.
const OPEN_MAX: usize = 1_024;

#[cfg(test)]
mod tests;
