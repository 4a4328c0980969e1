//! Who is served now: a bound on nodes and on streams.
//!
//! A node has one stream of a content: a newer one ends the older, whose connection the node has
//! given up or lost without our noticing. Bounds: nodes as set, [`STREAMS_MAX`] streams of all.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::dist::ids::{ContentId, NodeName};

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
}

#[derive(Debug)]
struct Shared {
    children_max: AtomicUsize,
    table: Mutex<Table>,
}

/// A stream that has a place.
#[derive(Debug)]
struct Stream {
    number: u64,
    lost: CancellationToken,
    /// It has bytes that may not leave yet.
    waits: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Table {
    children: BTreeMap<NodeName, BTreeMap<ContentId, Stream>>,
    streams: usize,
    last_number: u64,
}

impl Slots {
    pub(super) fn new(children_max: usize) -> Self {
        let children_max = AtomicUsize::new(children_max);
        Self { shared: Arc::new(Shared { children_max, table: Mutex::default() }) }
    }

    pub(super) fn set_children_max(&self, children_max: usize) {
        self.shared.children_max.store(children_max, Ordering::Relaxed);
    }

    pub(super) fn children(&self) -> usize {
        self.shared.table.lock().unwrap_or_else(PoisonError::into_inner).children.len()
    }

    /// A place for a stream; `None` when there is none.
    pub(super) fn take(&self, node: NodeName, content: ContentId) -> Option<Slot> {
        let children_max = self.shared.children_max.load(Ordering::Relaxed);
        let mut table = self.shared.table.lock().unwrap_or_else(PoisonError::into_inner);
        let older = table.children.get(&node).is_some_and(|streams| streams.contains_key(&content));
        let is_full = table.streams >= STREAMS_MAX && !older
            || table.children.len() >= children_max && !table.children.contains_key(&node);
        if is_full {
            return None;
        }
        table.last_number += 1;
        let (number, lost) = (table.last_number, CancellationToken::new());
        let waits = Arc::<AtomicBool>::default();
        let stream = Stream { number, lost: lost.clone(), waits: Arc::clone(&waits) };
        let streams = table.children.entry(node.clone()).or_default();
        if let Some(older) = streams.insert(content, stream) {
            older.lost.cancel();
        } else {
            table.streams += 1;
        }
        drop(table);
        Some(Slot { shared: Arc::clone(&self.shared), node, content, number, lost, waits })
    }

    /// Whether the stream of a content to a node has bytes that may not leave yet.
    pub(super) fn waits(&self, node: &NodeName, content: ContentId) -> bool {
        let table = self.shared.table.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = table.children.get(node).and_then(|streams| streams.get(&content));
        stream.is_some_and(|stream| stream.waits.load(Ordering::Relaxed))
    }
}

impl Slot {
    /// Cancelled when a newer stream has the place.
    pub(super) const fn lost(&self) -> &CancellationToken {
        &self.lost
    }

    /// The stream has bytes that may not leave yet, or they have left.
    pub(super) fn set_waiting(&self, is_waiting: bool) {
        self.waits.store(is_waiting, Ordering::Relaxed);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut table = self.shared.table.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(streams) = table.children.get_mut(&self.node) else { return };
        // A newer stream has the place: it gives it back.
        if streams.get(&self.content).is_none_or(|stream| stream.number != self.number) {
            return;
        }
        streams.remove(&self.content);
        if streams.is_empty() {
            table.children.remove(&self.node);
        }
        table.streams -= 1;
    }
}

/// Streams of all nodes: many small contents at once go to few nodes.
const STREAMS_MAX: usize = 1_024;

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

    #[test]
    fn nodes_are_bounded_and_their_streams_are_not_counted_as_nodes() {
        let slots = Slots::new(2);
        let a1 = slots.take(node("a"), content(1)).unwrap();
        let a2 = slots.take(node("a"), content(2)).unwrap();
        let b1 = slots.take(node("b"), content(1)).unwrap();
        assert!(slots.take(node("c"), content(1)).is_none());
        drop(a1);
        assert!(slots.take(node("c"), content(1)).is_none());
        drop(a2);
        let c1 = slots.take(node("c"), content(1)).unwrap();
        assert_eq!(slots.children(), 2);
        drop((b1, c1));
        assert_eq!(slots.children(), 0);
        slots.set_children_max(0);
        assert!(slots.take(node("a"), content(1)).is_none());
    }

    #[test]
    fn newer_stream_of_a_node_ends_the_older_and_keeps_the_place() {
        let slots = Slots::new(1);
        let older = slots.take(node("a"), content(1)).unwrap();
        let newer = slots.take(node("a"), content(1)).unwrap();
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
    fn streams_are_bounded() {
        let slots = Slots::new(1);
        let taken: Vec<_> =
            (0..STREAMS_MAX as u128).map(|n| slots.take(node("a"), content(n)).unwrap()).collect();
        assert!(slots.take(node("a"), content(9_999)).is_none());
        assert!(slots.take(node("a"), content(5)).is_some());
        drop(taken);
        assert!(slots.take(node("a"), content(9_999)).is_some());
    }
}
