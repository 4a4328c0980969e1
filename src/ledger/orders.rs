//! Orders on their way to nodes: a line for each node that listens.
//!
//! ```text
//! book --orders--> clerk --push--> Line of a node --next--> connection of its agent
//!                    '--open orders, when a line is new--^
//! ```
//! Invariant: a line gets the orders that are open first, then each new one; nothing is left out
//! as long as the line lives. A line that is full ends, and the agent opens another.
//! A newer line of the same node ends the older: a node has one agent.
//! Bound: `WAITING_MAX` orders wait in a line, beside those that were open when it was made.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::dist::ids::NodeName;
use crate::dist::wire::agent::NodeOrder;

/// Lines of all nodes that listen.
#[derive(Debug, Default)]
pub(super) struct Lines {
    by_node: Mutex<BTreeMap<NodeName, Arc<Line>>>,
    /// A line waits for the orders that are open.
    has_new: AtomicBool,
    overflows: AtomicU64,
}

#[derive(Debug, Default)]
struct Line {
    state: Mutex<LineState>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct LineState {
    orders: VecDeque<NodeOrder>,
    /// Orders among them that came after the beginning.
    new_count: usize,
    /// The open orders are in it or gone through it.
    is_begun: bool,
    is_ended: bool,
}

/// Orders of a node, as they come.
#[derive(Debug)]
pub struct OrderStream {
    lines: Arc<Lines>,
    line: Arc<Line>,
    node: NodeName,
}

impl Lines {
    /// A line for a node; one that it has ends.
    pub(super) fn open(self: &Arc<Self>, node: NodeName) -> OrderStream {
        let line = Arc::new(Line::default());
        let older = locked(&self.by_node).insert(node.clone(), Arc::clone(&line));
        if let Some(older) = older {
            older.end();
        }
        self.has_new.store(true, Ordering::Release);
        OrderStream { lines: Arc::clone(self), line, node }
    }

    /// Gives each new line what `open_orders` says of its node.
    pub(super) fn begin(&self, mut open_orders: impl FnMut(&NodeName) -> Vec<NodeOrder>) {
        if !self.has_new.swap(false, Ordering::AcqRel) {
            return;
        }
        // Not held while the book is asked: a connection may open a line meanwhile.
        let lines: Vec<_> = locked(&self.by_node)
            .iter()
            .map(|(node, line)| (node.clone(), Arc::clone(line)))
            .collect();
        for (node, line) in lines {
            if !line.lock().is_begun {
                line.begin(open_orders(&node));
            }
        }
    }

    /// A new order. Nodes that do not listen are told when they do.
    pub(super) fn push(&self, node: &NodeName, order: NodeOrder) {
        let Some(line) = locked(&self.by_node).get(node).cloned() else { return };
        if !line.push(order) {
            self.overflows.fetch_add(1, Ordering::Relaxed);
            line.end();
        }
    }

    /// Ends all lines.
    pub(super) fn end(&self) {
        for line in std::mem::take(&mut *locked(&self.by_node)).into_values() {
            line.end();
        }
    }

    /// Nodes that listen.
    pub(super) fn count(&self) -> usize {
        locked(&self.by_node).len()
    }

    /// Lines that ended because they were full.
    pub(super) fn overflows(&self) -> u64 {
        self.overflows.load(Ordering::Relaxed)
    }
}

impl Line {
    fn lock(&self) -> MutexGuard<'_, LineState> {
        locked(&self.state)
    }

    fn begin(&self, open: Vec<NodeOrder>) {
        let mut state = self.lock();
        state.orders = open.into();
        state.is_begun = true;
        drop(state);
        self.changed.notify_one();
    }

    /// False when there is no room. Before the beginning nothing has to be kept: it is open then.
    fn push(&self, order: NodeOrder) -> bool {
        let mut state = self.lock();
        if !state.is_begun || state.is_ended {
            return true;
        }
        if state.new_count >= WAITING_MAX {
            return false;
        }
        state.new_count += 1;
        state.orders.push_back(order);
        drop(state);
        self.changed.notify_one();
        true
    }

    fn end(&self) {
        self.lock().is_ended = true;
        self.changed.notify_one();
    }
}

impl OrderStream {
    /// The next orders, `BATCH_MAX` at most; `None` when the line has ended: a newer one has taken
    /// its place, it was full, or the clerk has ended. A call that is dropped loses nothing.
    pub async fn next(&mut self) -> Option<Vec<NodeOrder>> {
        loop {
            let changed = self.line.changed.notified();
            {
                let mut state = self.line.lock();
                if state.is_ended {
                    return None;
                }
                if !state.orders.is_empty() {
                    let count = state.orders.len().min(BATCH_MAX);
                    let orders = state.orders.drain(..count).collect();
                    state.new_count = state.new_count.min(state.orders.len());
                    return Some(orders);
                }
            }
            changed.await;
        }
    }
}

impl Drop for OrderStream {
    fn drop(&mut self) {
        let mut lines = locked(&self.lines.by_node);
        if lines.get(&self.node).is_some_and(|line| Arc::ptr_eq(line, &self.line)) {
            lines.remove(&self.node);
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A node that has not read so many orders does not read at all.
const WAITING_MAX: usize = 65_536;
/// Orders that a connection writes at once.
const BATCH_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::dist::ids::JobId;

    fn node(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    fn order(n: u128) -> NodeOrder {
        NodeOrder::Forget { job: JobId(Uuid::from_u128(n)) }
    }

    fn next(stream: &mut OrderStream) -> Option<Vec<NodeOrder>> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(stream.next())
    }

    #[test]
    fn open_orders_come_first_then_new_ones_and_none_twice() {
        let lines = Arc::new(Lines::default());
        let mut stream = lines.open(node("a"));
        // Made before the line began: it is among those that are open.
        lines.push(&node("a"), order(1));
        lines.begin(|_| vec![order(0), order(1)]);
        lines.push(&node("a"), order(2));
        lines.push(&node("b"), order(3));
        assert_eq!(next(&mut stream), Some(vec![order(0), order(1), order(2)]));
        lines.begin(|_| panic!("no line is new"));
    }

    #[test]
    fn newer_line_of_a_node_ends_the_older_and_outlives_its_end() {
        let lines = Arc::new(Lines::default());
        let mut older = lines.open(node("a"));
        let mut newer = lines.open(node("a"));
        lines.begin(|_| vec![]);
        assert_eq!(next(&mut older), None);
        drop(older);
        lines.push(&node("a"), order(1));
        assert_eq!((next(&mut newer), lines.count()), (Some(vec![order(1)]), 1));
        drop(newer);
        assert_eq!(lines.count(), 0);
    }

    #[test]
    fn line_that_is_not_read_ends_and_open_orders_do_not_count_against_it() {
        let lines = Arc::new(Lines::default());
        let mut stream = lines.open(node("a"));
        lines.begin(|_| vec![order(0); 2 * WAITING_MAX]);
        for _ in 0..WAITING_MAX {
            lines.push(&node("a"), order(1));
        }
        assert_eq!(next(&mut stream).map(|orders| orders.len()), Some(BATCH_MAX));
        lines.push(&node("a"), order(1));
        assert_eq!((next(&mut stream), lines.overflows()), (None, 1));
    }
}
