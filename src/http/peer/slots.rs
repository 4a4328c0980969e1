//! Who is served now: a bound on nodes and on streams, and who else has what they want.
//!
//! ```text
//! take --room for the node (dist::fanout)--> Slot: counts what its stream sends
//!        '--none--> others that have more: streams that are further, nodes that have all
//! ```
//! A node has one stream of a content, and parts beside it: a newer one ends the older, whose
//! connection the node has given up or lost without our noticing. Parts for nodes that have another
//! source take no place of a node. Bounds: nodes as set and as the uplink has room for,
//! [`STREAMS_MAX`] streams of all, [`OTHERS_MAX`] others in an answer, [`FED_MAX`] nodes that are
//! remembered as having all.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::base::time::Mono;
use crate::dist::fanout::{Asker, ChildMeter, Fed, GAVE_WAY, GIVE_WAY, has_room, has_spare};
use crate::dist::ids::{ContentId, JobId, NodeName};
use crate::dist::uplink::Rank;
use crate::dist::wire::peer::Alternative;

/// All places.
#[derive(Debug, Clone)]
pub(super) struct Slots {
    shared: Arc<Shared>,
}

/// A place; given back when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    shared: Arc<Shared>,
    node: NodeName,
    content: ContentId,
    number: u64,
    lost: CancellationToken,
    waits: Arc<AtomicBool>,
    gives_way: Arc<GivesWay>,
    lane: Lane,
}

/// Streams of a content to a node that may be there at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lane {
    /// All from a byte on.
    Main,
    /// A part; the node has it from here mainly.
    Part,
    /// A part from this byte on; the node has another source.
    Spare(u64),
}

/// Who asks for a stream.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub(super) node: NodeName,
    pub(super) content: ContentId,
    pub(super) job: Option<JobId>,
    /// First byte that is wanted.
    pub(super) from: u64,
    pub(super) lane: Lane,
    /// Whom the node leaves for this stream.
    pub(super) leaves: Option<NodeName>,
    /// That one gives less than it gets.
    pub(super) is_slow: bool,
    /// Where the node serves others.
    pub(super) addr: Option<SocketAddr>,
}

/// The uplink has a bound of its own.
pub(super) type Uplink = Box<dyn Fn() -> Option<u64> + Send + Sync>;

struct Shared {
    children_max: AtomicUsize,
    /// Bytes per second; without it nodes are bounded by their number only.
    uplink: Option<Uplink>,
    started: Instant,
    table: Mutex<Table>,
}

/// A stream that has a place.
#[derive(Debug)]
struct Stream {
    number: u64,
    lost: CancellationToken,
    /// It has bytes that may not leave yet.
    waits: Arc<AtomicBool>,
    gives_way: Arc<GivesWay>,
    job: Option<JobId>,
    addr: Option<SocketAddr>,
    /// Bytes of the content that the node has, about.
    position: u64,
    meter: ChildMeter,
}

/// Until when a stream sends nothing, nanoseconds of [`Shared::now`].
#[derive(Debug, Default)]
struct GivesWay(AtomicU64);

/// Of a node.
type Streams = BTreeMap<(ContentId, Lane), Stream>;

#[derive(Debug, Default)]
struct Table {
    children: BTreeMap<NodeName, Streams>,
    streams: usize,
    last_number: u64,
    /// Nodes that were sent a part of what they mainly have from here, the newest last, and when:
    /// they have their place until they ask for the next one.
    parted: VecDeque<(NodeName, ContentId, Mono)>,
    /// Nodes that were sent the last byte, the newest last, and when.
    fed: VecDeque<(ContentId, NodeName, SocketAddr, Mono)>,
}

impl Slots {
    /// For so many nodes, and no more than the uplink has room for, if it is given.
    pub(super) fn new(children_max: usize, uplink: Option<Uplink>) -> Self {
        let children_max = AtomicUsize::new(children_max);
        let (started, table) = (Instant::now(), Mutex::default());
        Self { shared: Arc::new(Shared { children_max, uplink, started, table }) }
    }

    pub(super) fn set_children_max(&self, children_max: usize) {
        self.shared.children_max.store(children_max, Ordering::Relaxed);
    }

    pub(super) fn children(&self) -> usize {
        self.shared.lock().count_nodes()
    }

    /// A place for a stream.
    ///
    /// # Errors
    /// There is none; these nodes have more of the content than who asks.
    pub(super) fn take(&self, wish: &Wish) -> Result<Slot, Vec<Alternative>> {
        self.take_at(wish, self.shared.now())
    }

    fn take_at(&self, wish: &Wish, now: Mono) -> Result<Slot, Vec<Alternative>> {
        let Wish { node, content, job, from, lane, leaves, is_slow, addr } = wish;
        let children_max = self.shared.children_max.load(Ordering::Relaxed);
        let uplink = self.shared.uplink.as_ref().map(|uplink| uplink());
        let mut table = self.shared.lock();
        // A part that begins elsewhere takes the place of one of before, which the node has got or
        // given up.
        let key = table.place_of(node, *content, *lane);
        let older = table.children.get(node).is_some_and(|streams| streams.contains_key(&key));
        let is_full = table.streams >= STREAMS_MAX && !older;
        let fits = if lane.is_spare() {
            uplink.is_none_or(|uplink| older || has_spare(uplink, table.streams(now)))
        } else {
            let asker = Asker { node, job: *job, leaves: leaves.as_ref() };
            let has_place = table.count_nodes() < children_max || table.is_child(node);
            let goes_on = table.takes_parts(node, *content, now);
            let fits = |uplink| goes_on || has_room(uplink, asker, table.streams(now));
            has_place && uplink.is_none_or(fits)
        };
        if is_full || !fits {
            return Err(table.others(wish, now));
        }
        table.last_number += 1;
        let (number, lost) = (table.last_number, CancellationToken::new());
        let (waits, gives_way) = (Arc::<AtomicBool>::default(), Arc::<GivesWay>::default());
        if let Some(left) = leaves.as_ref().filter(|_| *is_slow) {
            table.give_way(left, *content, now);
        }
        let stream = Stream {
            number,
            lost: lost.clone(),
            waits: Arc::clone(&waits),
            gives_way: Arc::clone(&gives_way),
            job: *job,
            addr: *addr,
            position: *from,
            meter: ChildMeter::new(now),
        };
        let streams = table.children.entry(node.clone()).or_default();
        if let Some(older) = streams.remove(&key) {
            older.lost.cancel();
            table.streams -= 1;
        }
        if let Some(streams) = table.children.get_mut(node) {
            streams.insert((*content, *lane), stream);
            table.streams += 1;
        }
        drop(table);
        let (shared, node) = (Arc::clone(&self.shared), node.clone());
        Ok(Slot { shared, node, content: *content, number, lost, waits, gives_way, lane: *lane })
    }

    /// Whether the stream of a content to a node gives way to another one, or did a moment ago.
    pub(super) fn gives_way(&self, node: &NodeName, content: ContentId) -> bool {
        let (table, now) = (self.shared.lock(), self.shared.now());
        let stream = table.children.get(node).and_then(|of| of.get(&(content, Lane::Main)));
        stream.is_some_and(|stream| stream.gives_way.is_felt(now))
    }

    /// Whether the stream of a content to a node has bytes that may not leave yet.
    pub(super) fn waits(&self, node: &NodeName, content: ContentId) -> bool {
        let table = self.shared.lock();
        let streams = table.children.get(node).into_iter().flat_map(|streams| streams.iter());
        let mut streams = streams.filter(|((of, lane), _)| *of == content && !lane.is_spare());
        streams.any(|(_, stream)| stream.waits.load(Ordering::Relaxed))
    }
}

impl Slot {
    /// Whether pieces of others go before those of the stream. A source whose uplink is not bounded
    /// by its children, which is the base, gives what the plan of the node says.
    pub(super) fn rank(&self) -> Rank {
        let is_left_over = self.lane.is_spare() && self.shared.uplink.is_some();
        if is_left_over { Rank::Spare } else { Rank::Child }
    }

    /// Cancelled when a newer stream has the place.
    pub(super) const fn lost(&self) -> &CancellationToken {
        &self.lost
    }

    /// Waits as long as the stream gives way to another one.
    pub(super) async fn give_way(&self) {
        while let Some(rest) = self.gives_way.rest(self.shared.now()) {
            tokio::time::sleep(rest).await;
        }
    }

    /// The stream has bytes that may not leave yet, or they have left.
    pub(super) fn set_waiting(&self, is_waiting: bool) {
        self.waits.store(is_waiting, Ordering::Relaxed);
    }

    /// So many bytes have left.
    pub(super) fn count(&self, bytes: u64) {
        self.count_at(bytes, self.shared.now());
    }

    fn count_at(&self, bytes: u64, now: Mono) {
        let mut table = self.shared.lock();
        let key = (self.content, self.lane);
        let stream = table.children.get_mut(&self.node).and_then(|of| of.get_mut(&key));
        if let Some(stream) = stream.filter(|stream| stream.number == self.number) {
            stream.position = stream.position.saturating_add(bytes);
            stream.meter.add(bytes, now);
        }
    }

    /// The node was sent all there is: others may fetch it there.
    pub(super) fn set_fed(&self) {
        self.set_fed_at(self.shared.now());
    }

    fn set_fed_at(&self, now: Mono) {
        let mut table = self.shared.lock();
        if self.lane != Lane::Main {
            return;
        }
        let key = (self.content, self.lane);
        let stream = table.children.get(&self.node).and_then(|of| of.get(&key));
        let stream = stream.filter(|stream| stream.number == self.number);
        let Some(addr) = stream.and_then(|stream| stream.addr) else { return };
        table.fed.retain(|(content, node, ..)| (*content, node) != (self.content, &self.node));
        if table.fed.len() >= FED_MAX {
            table.fed.pop_front();
        }
        table.fed.push_back((self.content, self.node.clone(), addr, now));
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut table = self.shared.lock();
        let Some(streams) = table.children.get_mut(&self.node) else { return };
        // A newer stream has the place: it gives it back.
        let key = (self.content, self.lane);
        if streams.get(&key).is_none_or(|stream| stream.number != self.number) {
            return;
        }
        streams.remove(&key);
        let is_empty = streams.is_empty();
        if self.lane == Lane::Part {
            let now = self.shared.now();
            table
                .parted
                .retain(|(node, content, _)| (node, content) != (&self.node, &self.content));
            if table.parted.len() >= FED_MAX {
                table.parted.pop_front();
            }
            table.parted.push_back((self.node.clone(), self.content, now));
        }
        if is_empty {
            table.children.remove(&self.node);
        }
        table.streams -= 1;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Mono {
        Mono(1) + self.started.elapsed()
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("table", &self.table).finish_non_exhaustive()
    }
}

impl Lane {
    const fn is_spare(self) -> bool {
        matches!(self, Self::Spare(_))
    }
}

impl GivesWay {
    /// How long it still does.
    fn rest(&self, now: Mono) -> Option<Duration> {
        let until = Mono(self.0.load(Ordering::Relaxed));
        (until > now).then(|| until.since(now))
    }

    /// It does, or its next bytes are on their way.
    fn is_felt(&self, now: Mono) -> bool {
        let until = self.0.load(Ordering::Relaxed);
        until > 0 && Mono(until) + GAVE_WAY > now
    }
}

impl Table {
    /// A node has left a child of this source for the source itself: the child's stream sends
    /// nothing until it is known whose link is slow.
    fn give_way(&self, child: &NodeName, content: ContentId, now: Mono) {
        let stream = self.children.get(child).and_then(|of| of.get(&(content, Lane::Main)));
        if let Some(stream) = stream {
            stream.gives_way.0.store((now + GIVE_WAY).0, Ordering::Relaxed);
        }
    }

    /// The place of a stream that a new one takes, or its own. A node with another source has two
    /// parts of a content at most: one that ends and one that begins.
    fn place_of(&self, node: &NodeName, content: ContentId, lane: Lane) -> (ContentId, Lane) {
        let streams = self.children.get(node).into_iter().flat_map(|streams| streams.iter());
        let mut parts = streams.filter(|((of, other), _)| *of == content && other.is_spare());
        let oldest = parts.clone().min_by_key(|(_, stream)| stream.number).map(|(key, _)| *key);
        let is_full = lane.is_spare() && parts.clone().count() >= PARTS_OF_NODE_MAX;
        let is_known = parts.any(|((_, other), _)| *other == lane);
        oldest.filter(|_| is_full && !is_known).unwrap_or((content, lane))
    }

    /// Nodes with a stream that is not one of a part for who has another source.
    fn count_nodes(&self) -> usize {
        self.children.values().filter(|streams| has_main(streams)).count()
    }

    /// The node was sent a part a moment ago, or gets one.
    fn takes_parts(&self, node: &NodeName, content: ContentId, now: Mono) -> bool {
        self.parted
            .iter()
            .any(|(of, what, at)| (of, *what) == (node, content) && now.since(*at) < PARTED_KEPT)
    }

    fn is_child(&self, node: &NodeName) -> bool {
        self.children.get(node).is_some_and(has_main)
    }

    fn streams(&self, now: Mono) -> impl Iterator<Item = Fed<'_>> {
        self.children.iter().flat_map(move |(node, streams)| {
            streams.iter().map(move |((_, lane), stream)| Fed {
                node,
                job: stream.job,
                rate: stream.meter.rate(now),
                is_spare: lane.is_spare(),
            })
        })
    }

    /// Nodes that have more of a content than who asks: first those that have all, then those that
    /// are furthest.
    fn others(&self, wish: &Wish, now: Mono) -> Vec<Alternative> {
        let is_other = |node: &NodeName| *node != wish.node && Some(node) != wish.leaves.as_ref();
        let fed =
            self.fed.iter().rev().filter(|(content, _, _, at)| {
                *content == wish.content && now.since(*at) < FED_KEPT
            });
        let fed = fed.map(|(_, node, addr, _)| (node, *addr));
        let mut ahead: Vec<_> = self
            .children
            .iter()
            .filter_map(|(node, streams)| {
                let mut streams = streams.iter();
                let is_of =
                    |(of, lane): &(ContentId, Lane)| *of == wish.content && *lane == Lane::Main;
                let stream = streams.find(|(key, _)| is_of(key)).map(|(_, stream)| stream)?;
                // It has what was sent a moment ago, and goes on.
                let is_ahead = stream.position >= wish.from.saturating_add(AHEAD_BYTES);
                let flows = stream.meter.rate(now) != Some(0);
                Some((stream.position, node, stream.addr?)).filter(|_| is_ahead && flows)
            })
            .collect();
        ahead.sort_unstable_by_key(|(position, node, _)| (Reverse(*position), *node));
        let all = fed.chain(ahead.into_iter().map(|(_, node, addr)| (node, addr)));
        let all = all.filter(|(node, _)| is_other(node)).take(OTHERS_MAX);
        all.map(|(node, addr)| Alternative { node: node.clone(), addr: addr.to_string() }).collect()
    }
}

fn has_main(streams: &Streams) -> bool {
    streams.keys().any(|(_, lane)| !lane.is_spare())
}

/// Parts of a content for one node that has another source.
const PARTS_OF_NODE_MAX: usize = 2;
/// Streams of all nodes: many small contents at once go to few nodes.
const STREAMS_MAX: usize = 1_024;
/// Others that are named to whoever finds no room.
const OTHERS_MAX: usize = 4;
/// Nodes that are remembered as having all of a content,
const FED_MAX: usize = 64;
/// and for how long: a file may be replaced.
const FED_KEPT: Duration = Duration::from_secs(60);
/// For so long a node that is sent parts may ask for the next one.
const PARTED_KEPT: Duration = Duration::from_secs(2);
/// By so much somebody has to be ahead of who asks: what is in the buffers of a connection may be
/// lost.
const AHEAD_BYTES: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn node(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    fn content(number: u128) -> ContentId {
        ContentId(Uuid::from_u128(number))
    }

    fn wish(name: &str, number: u128) -> Wish {
        let port = name.bytes().map(u16::from).sum();
        Wish {
            node: node(name),
            content: content(number),
            job: None,
            from: 0,
            lane: Lane::Main,
            leaves: None,
            is_slow: false,
            addr: Some(SocketAddr::from(([10, 0, 0, 1], port))),
        }
    }

    fn names(refused: Result<Slot, Vec<Alternative>>) -> Vec<String> {
        refused.unwrap_err().into_iter().map(|other| other.node.to_string()).collect()
    }

    #[test]
    fn nodes_are_bounded_and_their_streams_are_not_counted_as_nodes() {
        let slots = Slots::new(2, None);
        let a1 = slots.take(&wish("a", 1)).unwrap();
        let a2 = slots.take(&wish("a", 2)).unwrap();
        let b1 = slots.take(&wish("b", 1)).unwrap();
        assert!(slots.take(&wish("c", 1)).is_err());
        drop(a1);
        assert!(slots.take(&wish("c", 1)).is_err());
        drop(a2);
        let c1 = slots.take(&wish("c", 1)).unwrap();
        assert_eq!(slots.children(), 2);
        drop((b1, c1));
        assert_eq!(slots.children(), 0);
        slots.set_children_max(0);
        assert!(slots.take(&wish("a", 1)).is_err());
    }

    #[test]
    fn parts_for_who_has_another_source_take_no_place_and_others_keep_theirs_between_two() {
        let slots = Slots::new(1, Some(Box::new(|| Some(10_000_000))));
        let at = |ms: u64| Mono(1) + Duration::from_millis(ms);
        let with = |name: &str, lane| Wish { lane, ..wish(name, 1) };
        let spare: Vec<_> = (0..2)
            .map(|part| slots.take_at(&with("a", Lane::Spare(part << 20)), at(0)).unwrap())
            .collect();
        assert_eq!((slots.children(), spare[0].rank()), (0, Rank::Spare));
        let child = slots.take_at(&with("b", Lane::Part), at(0)).unwrap();
        assert_eq!((slots.children(), child.rank()), (1, Rank::Child));
        // A third part of a node takes the place of its first.
        let third = slots.take_at(&with("a", Lane::Spare(5 << 20)), at(0)).unwrap();
        assert!(spare[0].lost().is_cancelled() && !spare[1].lost().is_cancelled());
        for step in 1..=4 {
            child.count_at(5_000_000, at(step * 500));
        }
        let refused = slots.take_at(&with("c", Lane::Spare(0)), at(2_000));
        assert!(refused.is_err(), "the child takes all");
        drop((spare, third));
        assert_eq!(slots.shared.table.lock().unwrap().streams, 1);
        drop(child);
        assert_eq!(slots.children(), 0);
        // Another one takes all meanwhile.
        slots.set_children_max(2);
        let other = slots.take(&with("d", Lane::Main)).unwrap();
        let now = slots.shared.now();
        for step in 0..=20 {
            other.count_at(1_000_000, now + Duration::from_millis(step * 50));
        }
        let then = now + Duration::from_millis(1_000);
        assert!(slots.take_at(&with("e", Lane::Part), then).is_err());
        assert!(slots.take_at(&with("b", Lane::Part), then).is_ok());
    }

    #[test]
    fn newer_stream_of_a_node_ends_the_older_and_keeps_the_place() {
        let slots = Slots::new(1, None);
        let older = slots.take(&wish("a", 1)).unwrap();
        let newer = slots.take(&wish("a", 1)).unwrap();
        assert!(older.lost().is_cancelled());
        assert!(!newer.lost().is_cancelled());
        older.set_waiting(true);
        assert!(!slots.waits(&node("a"), content(1)), "the newer one does not");
        newer.set_waiting(true);
        assert!(slots.waits(&node("a"), content(1)) && !slots.waits(&node("b"), content(1)));
        drop(older);
        assert_eq!(slots.children(), 1);
        drop(newer);
        assert_eq!(slots.children(), 0);
        let table = slots.shared.table.lock().unwrap();
        assert_eq!(table.streams, 0);
    }

    #[test]
    fn child_that_is_left_as_slow_gives_way_for_a_while() {
        let slots = Slots::new(16, Some(Box::new(|| None)));
        let at = |ms: u64| Mono(1) + Duration::from_millis(ms);
        let slow = slots.take_at(&wish("a", 1), at(0)).unwrap();
        let other = slots.take_at(&wish("a", 2), at(0)).unwrap();
        let leaves = |is_slow| Wish { leaves: Some(node("a")), is_slow, ..wish("b", 1) };
        let _by_plan = slots.take_at(&leaves(false), at(10)).unwrap();
        assert_eq!(slow.gives_way.rest(at(10)), None);
        let newer = slots.take_at(&leaves(true), at(20)).unwrap();
        assert_eq!(slow.gives_way.rest(at(20)), Some(GIVE_WAY));
        assert_eq!(slow.gives_way.rest(at(520)), Some(GIVE_WAY - Duration::from_millis(500)));
        assert_eq!(slow.gives_way.rest(at(20) + GIVE_WAY), None);
        assert!(slow.gives_way.is_felt(at(20)) && slow.gives_way.is_felt(at(30) + GIVE_WAY));
        assert!(!slow.gives_way.is_felt(at(20) + GIVE_WAY + GAVE_WAY));
        assert!(!other.gives_way.is_felt(at(20)));
        // Neither another content nor the one that has come.
        assert_eq!((other.gives_way.rest(at(20)), newer.gives_way.rest(at(20))), (None, None));
        // The one that is left is no child of this source.
        let strange = Wish { leaves: Some(node("x")), is_slow: true, ..wish("c", 1) };
        drop(slots.take_at(&strange, at(30)).unwrap());
    }

    #[test]
    fn streams_are_bounded() {
        let slots = Slots::new(1, None);
        let taken: Vec<_> =
            (0..STREAMS_MAX as u128).map(|n| slots.take(&wish("a", n)).unwrap()).collect();
        assert!(slots.take(&wish("a", 9_999)).is_err());
        assert!(slots.take(&wish("a", 5)).is_ok());
        drop(taken);
        assert!(slots.take(&wish("a", 9_999)).is_ok());
    }

    #[test]
    fn node_that_the_uplink_has_no_room_for_is_told_who_has_more() {
        let slots = Slots::new(16, Some(Box::new(|| Some(10_000_000))));
        let at = |ms: u64| Mono(1) + Duration::from_millis(ms);
        let [a, b] = ["a", "b"].map(|name| slots.take_at(&wish(name, 1), at(0)).unwrap());
        for step in 1..=4 {
            a.count_at(3_000_000, at(step * 500));
            b.count_at(2_000_000, at(step * 500));
        }
        let take = |wish: &Wish| slots.take_at(wish, at(2_000));
        // 10 MB a second already: another one would have less than both.
        assert_eq!(names(take(&wish("c", 1))), ["a", "b"]);
        assert!(take(&wish("c", 2)).is_err(), "it is of the same job");
        let behind = Wish { from: 7_000_000, ..wish("c", 1) };
        assert_eq!(names(take(&behind)), ["a"], "only one is far enough ahead");
        assert_eq!(names(take(&Wish { from: 99_000_000, ..behind })), [""; 0]);
        let leaves = Wish { leaves: Some(node("b")), ..wish("c", 1) };
        drop(take(&leaves).unwrap());
        b.set_fed_at(at(2_000));
        drop(b);
        assert_eq!(names(take(&Wish { from: 9_000_000, ..wish("c", 1) })), ["b"]);
        let later = |wish: &Wish, ms: u64| slots.take_at(wish, at(2_000 + ms));
        assert!(later(&wish("c", 1), 1_000).is_ok(), "nobody takes anything");
        slots.set_children_max(1);
        assert_eq!(names(later(&wish("d", 1), 59_000)), ["b"]);
        assert_eq!(names(later(&wish("d", 1), 60_000)), [""; 0]);
        drop(a);
    }
}
