//! HLS and WebRTC put together: their thread, and how it reaches shards and workers.
//!
//! ```text
//!  thread "hls": HTTP (`http::hls`) --open, judge--> TaskQueue --> workers --.
//!                   |  `--watch, offer--> live --Subscribe--> owners of paths
//!                   |                      ^ ^                              |
//!                   '--snapshots, answers--' |<-batches, answers-- inbox of the guest
//!  browsers <--RTP, ICE, DTLS--> datagrams --' viewers (`whep`)
//! ```
//! To shards the thread is a guest: an inbox with an id of its own, which listens to paths as a
//! shard with readers does (`Poller::with_guest`). So a viewer costs a shard nothing, and a path
//! that is watched costs its owner one message a batch.
//! Invariant: a question is answered once, or its sender is dropped. Bounds: `WAITING_MAX` tasks
//! under way, `ASKED_MAX` requests for live paths that wait for the loop.

mod datagrams;
mod judged;
mod live;
mod sessions;
mod viewers;

use std::collections::HashMap;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{mpsc, oneshot, watch};

use super::RunError;
use super::opening::{Opening, handed_over, opened};
use super::system;
use crate::access::question::{Answer, Question};
use crate::access::throttle::Throttle;
use crate::base::addresses::Addresses;
use crate::base::time::Mono;
use crate::config::Config;
use crate::config::paths::PathTable;
use crate::hls::live::Snapshot;
use crate::http::Intake;
use crate::http::hls::{HlsView, LiveRefusal, OfferAsked, Watchers};
use crate::library::title::Title;
use crate::metrics::cells::HLS;
use crate::metrics::whep::WHEP;
use crate::pki::credentials;
use crate::poll::poller::{GUEST, Poller};
use crate::poll::task::{OpenFailure, Outcome, Task, TaskClass, TaskDone, TaskOwner, Work};
use crate::session::draining::{Drain, DrainOrder};
use crate::shard::inbox::Inbox;
use crate::whep::{Identity, Limits};
use crate::worker::TaskQueue;
use live::Live;
use viewers::{OfferAnswer, OfferWaiter, Viewers};

type LiveAnswer = Result<watch::Receiver<Arc<Snapshot>>, LiveRefusal>;

/// What handlers of requests ask the loop of live paths.
enum Asked {
    /// Segments of a path.
    Segments { path: String, answer: oneshot::Sender<LiveAnswer> },
    /// Whether there is something at a path.
    Find { path: String, answer: oneshot::Sender<Result<(), LiveRefusal>> },
    /// A session of WHEP.
    Offer(Box<OfferWaiter>),
    /// The end of one.
    End { path: String, id: String, answer: oneshot::Sender<bool> },
}

/// What the thread works with: shards, workers, failed logins, and what is said of paths.
type Around<'a> = (&'a Arc<Poller<Inbox>>, Arc<TaskQueue>, Arc<Throttle>, Arc<PathTable>);

/// Starts HLS, where it is configured: `wake` becomes readable when the guest's inbox has
/// something. It begins with the opening, and ends with `shutdown`.
pub(super) fn start(
    config: &Config,
    (intake, viewers): (Intake, Arc<Addresses>),
    (listeners, sockets, wake): (Vec<TcpListener>, Vec<UdpSocket>, Option<UnixStream>),
    (poller, queue, throttle, paths): Around<'_>,
    (shutdown, opening): (watch::Receiver<bool>, &Opening),
) -> Result<Option<JoinHandle<()>>, RunError> {
    let (Some(inbox), Some(wake)) = (poller.guest().cloned(), wake) else { return Ok(None) };
    let (asks, asked) = mpsc::channel(ASKED_MAX);
    let front = Arc::new(Front {
        queue,
        throttle,
        paths: ArcSwap::new(paths),
        waiting: Mutex::default(),
        drain: ArcSwapOption::empty(),
        asks,
        watchers: Watchers::default(),
    });
    let limits = Limits { viewers_max: config.webrtc.viewers_max, addresses: viewers };
    let sockets = (sockets, config.webrtc.hosts.clone());
    let viewers = Viewers::new(identity()?, limits, sockets);
    let live = Live::new(&config.hls, Arc::clone(poller), Arc::clone(&front), viewers);
    let (is_open, is_served, ends) = (opening.watch(), opening.watch(), shutdown.clone());
    let beside = async move {
        // Datagrams of the sockets are another process's until then, and when that has taken over.
        if opened(is_open).await {
            tokio::select! {
                () = live.run((inbox, wake), asked) => {}
                () = handed_over(is_served, ends) => {}
            }
        }
    };
    let settings = (config.hls.clone(), intake.during(opening.watch()));
    let started = crate::http::hls::spawn(listeners, front, settings, shutdown, beside);
    started.map(Some).map_err(system("the HLS thread does not start"))
}

/// What handlers of requests ask.
pub(super) struct Front {
    queue: Arc<TaskQueue>,
    throttle: Arc<Throttle>,
    paths: ArcSwap<PathTable>,
    waiting: Mutex<Waiting>,
    drain: ArcSwapOption<Drain>,
    asks: mpsc::Sender<Asked>,
    watchers: Watchers,
}

/// Who waits for the outcome of a task.
#[derive(Default)]
struct Waiting {
    number: u32,
    of: HashMap<u32, Waiter>,
}

enum Waiter {
    Title(oneshot::Sender<Result<Arc<Title>, OpenFailure>>),
    Answer(oneshot::Sender<Answer>),
}

impl Front {
    /// Has a task done. A full queue drops the waiter, which is how that is told.
    fn submit(&self, work: Work, waiter: Waiter) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.of.len() >= WAITING_MAX {
            return;
        }
        waiting.number = waiting.number.wrapping_add(1);
        let number = waiting.number;
        let owner = TaskOwner::Guest(number);
        let task = Task { shard: GUEST, owner, class: TaskClass::Control, work };
        if self.queue.submit(task).is_ok() {
            waiting.of.insert(number, waiter);
        }
    }

    /// A task is done.
    fn handle_done(&self, done: TaskDone) {
        let TaskOwner::Guest(number) = done.owner else { return };
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let waiter = waiting.of.remove(&number);
        drop(waiting);
        match (waiter, done.outcome) {
            (Some(Waiter::Title(waiter)), Outcome::Opened(opened)) => {
                let _gone = waiter.send(opened);
            }
            (Some(Waiter::Answer(waiter)), Outcome::Judged(answer)) => {
                let _gone = waiter.send(answer);
            }
            _ => {}
        }
    }

    fn set_paths(&self, paths: Arc<PathTable>) {
        self.paths.store(paths);
    }

    fn set_drain(&self, order: Option<DrainOrder>) {
        self.drain.store(order.map(|order| Arc::new(Drain::new(order, monotonic()))));
    }
}

impl HlsView for Front {
    fn open_title(&self, name: Option<&str>) -> oneshot::Receiver<Result<Arc<Title>, OpenFailure>> {
        let (waiter, receiver) = oneshot::channel();
        self.submit(Work::Open { name: name.map(str::to_owned) }, Waiter::Title(waiter));
        receiver
    }

    fn paths(&self) -> Arc<PathTable> {
        self.paths.load_full()
    }

    fn judge(&self, question: Question) -> oneshot::Receiver<Answer> {
        let (waiter, receiver) = oneshot::channel();
        self.submit(Work::Judge(Box::new(question)), Waiter::Answer(waiter));
        receiver
    }

    fn throttle(&self) -> &Throttle {
        &self.throttle
    }

    fn now(&self) -> Mono {
        monotonic()
    }

    fn drain(&self) -> Option<Arc<Drain>> {
        self.drain.load_full()
    }

    fn watch_live(&self, path: &str) -> oneshot::Receiver<LiveAnswer> {
        let (answer, receiver) = oneshot::channel();
        // A full queue drops the sender.
        let _full = self.asks.try_send(Asked::Segments { path: path.to_owned(), answer });
        receiver
    }

    fn find_live(&self, path: &str) -> oneshot::Receiver<Result<(), LiveRefusal>> {
        let (answer, receiver) = oneshot::channel();
        let _full = self.asks.try_send(Asked::Find { path: path.to_owned(), answer });
        receiver
    }

    fn watchers(&self) -> &Watchers {
        &self.watchers
    }

    fn offer(&self, offer: OfferAsked) -> oneshot::Receiver<OfferAnswer> {
        let (answer, receiver) = oneshot::channel();
        let waiter = OfferWaiter { offer, answer, place: None };
        let _full = self.asks.try_send(Asked::Offer(Box::new(waiter)));
        receiver
    }

    fn end_session(&self, path: &str, id: &str) -> oneshot::Receiver<bool> {
        let (answer, receiver) = oneshot::channel();
        let (path, id) = (path.to_owned(), id.to_owned());
        let _full = self.asks.try_send(Asked::End { path, id, answer });
        receiver
    }
}

/// Who the server is to browsers, until it ends.
fn identity() -> Result<Identity, RunError> {
    let made = credentials::peer_certificate();
    let (certificate, key) = made.map_err(|error| RunError::Config(error.to_string()))?;
    Ok(Identity::new(certificate, key))
}

/// Number of viewers by WebRTC.
pub(super) fn browsers() -> u64 {
    WHEP.viewers.value()
}

/// Whether somebody watches: has a session of WebRTC, or has asked for something lately that
/// viewers ask for again and again.
pub(super) fn has_viewers() -> bool {
    let seen = HLS.seen_ns.value();
    browsers() > 0 || seen > 0 && monotonic() < Mono(seen) + VIEWER_MAX
}

/// The clock of the shards.
fn monotonic() -> Mono {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    Mono(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// So long a player with full buffers asks for nothing.
const VIEWER_MAX: Duration = Duration::from_secs(30);
/// Tasks under way: a few for each connection that asks at the same moment.
const WAITING_MAX: usize = 2_048;
/// Requests for live paths that wait for the loop, which handles them before anything else.
const ASKED_MAX: usize = 8_192;
