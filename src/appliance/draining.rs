//! The server drained for maintenance, as the control thread sees it.
//!
//! ```text
//!  drain   --> every shard: no new sessions --the last one ends--> drained --exit--> the end
//!  undrain --> every shard: as before
//! ```
//! Invariants: all shards go by the newest order, or the asker is told that one does not answer.
//! The process ends by itself only when all shards drain, none has a session and none has a request
//! that waits, and when no viewer by HLS is left or the deadline is over.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use super::hls;
use super::reload::push_patiently;
use crate::config::redirect::Redirect;
use crate::http::{DrainRequest, DrainState};
use crate::metrics::cells::ShardCells;
use crate::poll::poller::Poller;
use crate::session::draining::DrainOrder;
use crate::shard::inbox::{Inbox, Message};

/// The newest order, and who waits for its end.
#[derive(Debug)]
pub(super) struct Draining {
    /// Where clients are sent unless an order says otherwise.
    configured: Redirect,
    order: Mutex<Option<Order>>,
    /// There is another order.
    changed: Notify,
}

#[derive(Debug, Clone)]
struct Order {
    deadline: Option<Instant>,
    redirect: Redirect,
    exits: bool,
}

impl Order {
    /// Whether its deadline has come.
    fn is_over(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }
}

/// Whether the process ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DrainExit {
    /// Not by the newest order.
    Never,
    /// When no session is left.
    Later,
    /// No session is left.
    Now,
}

impl Draining {
    pub(super) fn new(configured: Redirect) -> Self {
        Self { configured, order: Mutex::default(), changed: Notify::new() }
    }

    /// Gives all shards an order.
    pub(super) fn drain(
        &self,
        poller: &Poller<Inbox>,
        request: DrainRequest,
    ) -> Option<Vec<oneshot::Receiver<()>>> {
        let DrainRequest { after, redirect, exits } = request;
        let redirect = redirect.unwrap_or_else(|| self.configured.clone());
        let deadline = after.map(|after| Instant::now() + after);
        let after_s = after.map(|after| after.as_secs_f64());
        let to = redirect.urls().collect::<Vec<_>>().join(", ");
        tracing::info!(code = "HE-I404", deadline_s = after_s, to, exits, "no new sessions");
        let mut order = self.lock();
        *order = Some(Order { deadline, redirect: redirect.clone(), exits });
        let told = tell(poller, Some(&DrainOrder { after, redirect }));
        self.changed.notify_one();
        told
    }

    /// Has all shards serve again.
    pub(super) fn undrain(&self, poller: &Poller<Inbox>) -> Option<Vec<oneshot::Receiver<()>>> {
        let mut order = self.lock();
        if order.take().is_some() {
            tracing::info!(code = "HE-I405", "new sessions are taken again");
        }
        tell(poller, None)
    }

    /// Whether there is an order.
    pub(super) fn is_on(&self) -> bool {
        self.lock().is_some()
    }

    pub(super) fn state(&self, cells: &[Arc<ShardCells>]) -> DrainState {
        self.state_with(cells, hls::has_viewers())
    }

    fn state_with(&self, cells: &[Arc<ShardCells>], has_viewers: bool) -> DrainState {
        let order = self.lock().clone();
        let hls = has_viewers && order.as_ref().is_none_or(|order| !order.is_over());
        let sessions = cells.iter().map(|cells| cells.sessions_counted.value()).sum();
        let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
        DrainState {
            state: match &order {
                None => "serving",
                Some(_) if sessions > 0 || hls => "draining",
                Some(_) => "drained",
            },
            sessions,
            hls,
            deadline_s: order.as_ref().and_then(|order| order.deadline).map(left).map(|left| {
                // What is left is never told as nothing.
                left.as_secs() + u64::from(left.subsec_nanos() > 0)
            }),
            redirect: order
                .iter()
                .flat_map(|order| order.redirect.urls())
                .map(Into::into)
                .collect(),
            exit: order.is_some_and(|order| order.exits),
        }
    }

    /// Returns when the server is drained and its process is to end.
    pub(super) async fn until_exit(&self, cells: &[Arc<ShardCells>]) {
        loop {
            match self.exit(cells, hls::has_viewers()) {
                DrainExit::Never => self.changed.notified().await,
                DrainExit::Later => tokio::time::sleep(LOOK).await,
                DrainExit::Now => {
                    tracing::info!(code = "HE-I406", "no session is left: the server ends");
                    return;
                }
            }
        }
    }

    fn exit(&self, cells: &[Arc<ShardCells>], has_viewers: bool) -> DrainExit {
        match &*self.lock() {
            Some(order) if !order.exits => DrainExit::Never,
            Some(order) if has_viewers && !order.is_over() => DrainExit::Later,
            Some(_) if cells.iter().all(|cells| is_empty(cells)) => DrainExit::Now,
            Some(_) => DrainExit::Later,
            None => DrainExit::Never,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Order>> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a shard goes by the order, and has neither a session nor one that is on its way to or at
/// another shard, nor a request that waits and may begin one.
fn is_empty(cells: &ShardCells) -> bool {
    cells.draining.value() > 0
        && cells.sessions_counted.value() == 0
        && cells.sessions_away.value() == 0
        && cells.poll_entries_suspended.value() == 0
}

fn tell(poller: &Poller<Inbox>, order: Option<&DrainOrder>) -> Option<Vec<oneshot::Receiver<()>>> {
    let inboxes = poller.inboxes().chain(poller.guest()).map(|inbox| {
        let (done, is_done) = oneshot::channel();
        let done = Box::new(move || {
            let _nobody_waits = done.send(());
        });
        push_patiently(inbox, Message::Drain { order: order.cloned(), done }).ok()?;
        Some(is_done)
    });
    // All are told, even behind one that does not read.
    let told: Vec<Option<oneshot::Receiver<()>>> = inboxes.collect();
    told.into_iter().collect()
}

/// Between two looks at whether a session is left.
const LOOK: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    fn poller() -> Poller<Inbox> {
        Poller::new(vec![Arc::new(Inbox::new(1).unwrap()), Arc::new(Inbox::new(1).unwrap())])
    }

    fn orders(poller: &Poller<Inbox>) -> Vec<Option<DrainOrder>> {
        let messages = poller.inboxes().map(|inbox| match inbox.pop_message() {
            Some(Message::Drain { order, done }) => {
                done();
                order
            }
            other => panic!("{other:?}"),
        });
        messages.collect()
    }

    #[test]
    fn every_shard_is_told_the_order_and_its_end() {
        let configured = Redirect::parse(&["rtsp://b"]).unwrap();
        let (draining, poller) = (Draining::new(configured.clone()), poller());
        let cells: Vec<Arc<ShardCells>> = vec![Arc::default(), Arc::default()];
        assert_eq!(draining.state_with(&cells, false).state, "serving");
        let after = Some(Duration::from_secs(60));
        let request = DrainRequest { after, ..DrainRequest::default() };
        assert_eq!(draining.drain(&poller, request).unwrap().len(), 2);
        let order = Some(DrainOrder { after, redirect: configured });
        assert_eq!(orders(&poller), vec![order.clone(), order]);
        cells[1].sessions_counted.set(3);
        let state = draining.state_with(&cells, false);
        assert_eq!((state.state, state.sessions, state.exit), ("draining", 3, false));
        assert_eq!((state.redirect, state.deadline_s), (vec!["rtsp://b".to_owned()], Some(60)));
        let request = DrainRequest { redirect: Some(Redirect::default()), ..Default::default() };
        draining.drain(&poller, request).unwrap();
        assert_eq!(orders(&poller), vec![Some(DrainOrder::default()); 2]);
        cells[1].sessions_counted.set(0);
        assert_eq!(draining.state_with(&cells, false).state, "drained");
        draining.undrain(&poller).unwrap();
        assert_eq!(orders(&poller), vec![None, None]);
        assert!(!draining.is_on());
    }

    #[test]
    fn process_ends_when_all_shards_drain_and_none_has_a_session_or_a_waiting_request() {
        let (draining, poller) = (Draining::new(Redirect::default()), poller());
        let cells: Vec<Arc<ShardCells>> = vec![Arc::default(), Arc::default()];
        assert_eq!(draining.exit(&cells, false), DrainExit::Never, "nobody has ordered it");
        draining.drain(&poller, DrainRequest::default()).unwrap();
        cells.iter().for_each(|cells| cells.draining.set(1));
        assert_eq!(draining.exit(&cells, false), DrainExit::Never, "it may stay");
        draining.drain(&poller, DrainRequest { exits: true, ..Default::default() }).unwrap();
        for (name, cell) in [
            ("a session", &cells[1].sessions_counted),
            ("a request that waits", &cells[0].poll_entries_suspended),
        ] {
            cell.set(1);
            assert_eq!(draining.exit(&cells, false), DrainExit::Later, "{name}");
            cell.set(0);
        }
        cells[1].draining.set(0);
        assert_eq!(
            draining.exit(&cells, false),
            DrainExit::Later,
            "a shard does not know of it yet"
        );
        cells[1].draining.set(1);
        assert_eq!(draining.exit(&cells, false), DrainExit::Now);
        assert_eq!(draining.exit(&cells, true), DrainExit::Later, "somebody watches by HLS");
        let after = Some(Duration::ZERO);
        let request = DrainRequest { after, exits: true, ..Default::default() };
        draining.drain(&poller, request).unwrap();
        assert_eq!(draining.exit(&cells, true), DrainExit::Now, "the deadline has come");
        draining.undrain(&poller).unwrap();
        assert_eq!(draining.exit(&cells, false), DrainExit::Never);
    }

    #[test]
    fn viewers_by_hls_are_told_the_order_and_are_part_of_what_is_left() {
        let guest = Arc::new(Inbox::new(1).unwrap());
        let (draining, poller) = (Draining::new(Redirect::default()), poller());
        let poller = poller.with_guest(Some(Arc::clone(&guest)));
        let cells: Vec<Arc<ShardCells>> = vec![Arc::default(), Arc::default()];
        assert_eq!(draining.drain(&poller, DrainRequest::default()).unwrap().len(), 3);
        assert!(matches!(guest.pop_message(), Some(Message::Drain { order: Some(_), .. })));
        let of = |has_viewers| {
            let state = draining.state_with(&cells, has_viewers);
            (state.state, state.hls)
        };
        assert_eq!((of(true), of(false)), (("draining", true), ("drained", false)));
    }
}
