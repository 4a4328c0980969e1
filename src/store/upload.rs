//! The uplink for streams that wait: [`Uplink`] with a clock.
//!
//! ```text
//! take(job, bytes) --ask--> Uplink --Go--> returns
//!                             '--At(t)--> driver: one task sleeps until then and asks again
//! ```
//! Invariants: a piece whose taker has gone is withdrawn; who waits is woken by the piece that
//! goes, not by each that does. Bound: one timer, however many wait.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::dist::ids::JobId;
use crate::dist::uplink::{Next, PieceId, Rank, Share, Uplink};

/// What all streams of a source send through. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Upload {
    shared: Arc<Shared>,
    /// Ends the driver with the last clone.
    _driver: Arc<Driver>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Time zero of the uplink.
    started: Instant,
    /// Something changed: the driver looks again.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    uplink: Uplink,
    takers: BTreeMap<PieceId, oneshot::Sender<()>>,
    /// A driver runs.
    is_driven: bool,
    /// All clones are gone.
    is_over: bool,
}

#[derive(Debug)]
struct Driver(Arc<Shared>);

/// A piece that waits; withdrawn when dropped.
struct Waiting<'a>(&'a Shared, PieceId);

impl Upload {
    /// Bytes per second of all jobs; `None`: any number.
    #[must_use]
    pub fn new(rate: Option<u64>) -> Self {
        let state = State {
            uplink: Uplink::new(rate),
            takers: BTreeMap::new(),
            is_driven: false,
            is_over: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            started: Instant::now(),
            changed: Notify::new(),
        });
        Self { _driver: Arc::new(Driver(Arc::clone(&shared))), shared }
    }

    /// Bytes per second of all jobs.
    #[must_use]
    pub fn rate(&self) -> Option<u64> {
        self.shared.lock().uplink.rate()
    }

    /// Changes the rate of all jobs.
    pub fn set_rate(&self, rate: Option<u64>) {
        self.change(|uplink, now_ns| uplink.set_rate(rate, now_ns));
    }

    /// Says what a job's part is; `None`: the job has ended.
    pub fn set_share(&self, job: JobId, share: Option<Share>) {
        self.change(|uplink, now_ns| uplink.set_share(job, share, now_ns));
    }

    /// Whether pieces of a job wait because the job is closed or has spent its own rate.
    #[must_use]
    pub fn holds(&self, job: Option<JobId>) -> bool {
        let now_ns = self.shared.now_ns();
        self.shared.lock().uplink.holds(job, now_ns)
    }

    /// Pieces that wait for their turn, a rate or a window.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shared.lock().uplink.waiting()
    }

    /// Waits until a piece of a job may leave. It leaves at once: it is counted.
    pub async fn take(&self, job: Option<JobId>, bytes: u64) {
        self.take_as(Rank::Child, job, bytes).await;
    }

    /// The same for a piece that others may go before.
    pub async fn take_as(&self, rank: Rank, job: Option<JobId>, bytes: u64) {
        let (ask, gone) = {
            let mut state = self.shared.lock();
            let ask = state.uplink.ask(job, bytes, rank);
            let (go, gone) = oneshot::channel();
            state.takers.insert(ask, go);
            let now_ns = self.shared.now_ns();
            state.pump(now_ns);
            if !state.takers.contains_key(&ask) {
                return;
            }
            if !std::mem::replace(&mut state.is_driven, true) {
                tokio::spawn(drive(Arc::clone(&self.shared)));
            }
            (ask, gone)
        };
        self.shared.changed.notify_one();
        let _withdrawn_when_dropped = Waiting(&self.shared, ask);
        let _never_dropped_before = gone.await;
    }

    fn change(&self, change: impl FnOnce(&mut Uplink, u64)) {
        let now_ns = self.shared.now_ns();
        {
            let mut state = self.shared.lock();
            change(&mut state.uplink, now_ns);
            state.pump(now_ns);
        }
        self.shared.changed.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl State {
    /// Lets go what may leave now. Gives the time at which to look again.
    fn pump(&mut self, now_ns: u64) -> Option<u64> {
        loop {
            match self.uplink.next(now_ns) {
                Next::Go(ask) => {
                    if let Some(taker) = self.takers.remove(&ask) {
                        let _gone = taker.send(());
                    }
                }
                Next::At(at_ns) => return Some(at_ns),
                Next::Nobody => return None,
            }
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.lock().is_over = true;
        self.0.changed.notify_one();
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Self(shared, ask) = self;
        let mut state = shared.lock();
        if state.takers.remove(ask).is_some() {
            state.uplink.withdraw(*ask);
        }
    }
}

/// Sleeps until the next piece may leave, or something changes.
async fn drive(shared: Arc<Shared>) {
    loop {
        let at_ns = {
            let mut state = shared.lock();
            if state.is_over {
                return;
            }
            let now_ns = shared.now_ns();
            state.pump(now_ns)
        };
        match at_ns {
            Some(at_ns) => {
                let at = shared.started + Duration::from_nanos(at_ns);
                tokio::select! {
                    () = tokio::time::sleep_until(at) => {}
                    () = shared.changed.notified() => {}
                }
            }
            None => shared.changed.notified().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn job(n: u128) -> JobId {
        JobId(Uuid::from_u128(n))
    }

    /// Takes pieces until `until`; gives their number.
    async fn pieces(upload: Upload, job: JobId, until: Instant) -> u64 {
        let mut count = 0;
        while tokio::time::timeout_at(until, upload.take(Some(job), PIECE)).await.is_ok() {
            count += 1;
            // A stream sends for a moment before it asks again.
            tokio::task::yield_now().await;
        }
        count
    }

    #[tokio::test]
    async fn streams_share_by_the_weight_of_their_jobs_and_keep_to_the_rate() {
        // 40 pieces a second: a busy machine makes no stream miss its turn.
        let (upload, began) = (Upload::new(Some(40 * PIECE)), Instant::now());
        for (n, weight) in [(1, 9), (2, 1)] {
            upload.set_share(job(n), Some(Share { weight, ..Share::default() }));
        }
        let until = began + Duration::from_millis(1_500);
        let (one, two) = tokio::join!(
            pieces(upload.clone(), job(1), until),
            pieces(upload.clone(), job(2), until)
        );
        let most = 40 * u64::try_from(began.elapsed().as_millis()).unwrap() / 1_000 + 12;
        assert!(one + two <= most, "{one} and {two} of {most}");
        assert!(two > 0 && one > 3 * two, "{one} {two}");
    }

    #[tokio::test]
    async fn job_that_is_closed_waits_and_one_that_is_given_up_is_withdrawn() {
        let upload = Upload::new(None);
        let closed = Share { is_open: false, ..Share::default() };
        upload.set_share(job(1), Some(closed));
        let given_up =
            tokio::time::timeout(Duration::from_millis(20), upload.take(Some(job(1)), 1));
        assert!(given_up.await.is_err());
        assert_eq!(upload.waiting(), 0, "nobody waits any more");
        let waiting = tokio::spawn({
            let upload = upload.clone();
            async move { upload.take(Some(job(1)), 1).await }
        });
        while upload.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        assert!(!waiting.is_finished());
        upload.take(Some(job(2)), 1).await;
        upload.set_share(job(1), Some(Share::default()));
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn driver_ends_with_the_last_clone() {
        let upload = Upload::new(Some(1));
        let shared = Arc::downgrade(&upload.shared);
        let slow = tokio::time::timeout(Duration::from_millis(1), async {
            upload.take(None, 1 << 20).await;
            upload.take(None, 1 << 20).await;
        });
        assert!(slow.await.is_err());
        drop(upload);
        while shared.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    }

    const PIECE: u64 = 10_000;
}
