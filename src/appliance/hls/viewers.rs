//! Viewers by WebRTC on the loop of live paths: offers and batches to [`Whep`], its datagrams to
//! the sockets.
//!
//! Bounds: a round reads what `Datagrams::read` reads and opens `OFFERS_A_ROUND` sessions, so that
//! HTTP and batches have their turn; `READY_MAX` offers wait for it, `WAITING_PER_ADDRESS` of one
//! address, which has no more of them let through than `Pace` says.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::datagrams::Datagrams;
use crate::access::question::Answer;
use crate::base::addresses::{AddressLimit, AddressPlace, Addresses};
use crate::base::ids::SessionId;
use crate::base::time::Mono;
use crate::cli::urls::Routes;
use crate::config::paths::PathTable;
use crate::http::hls::{OfferAsked, Reached, WhepRefusal};
use crate::live::core::batch::{Generation, PacketBatch};
use crate::live::core::description::Description;
use crate::metrics::whep::WHEP;
use crate::whep::{self, Datagram, Identity, Limits, Offer, OfferError, Opened, Pace, Whep};

/// Answers to an offer.
pub(super) type OfferAnswer = Result<Opened, WhepRefusal>;

/// An offer that waits for its path.
#[derive(Debug)]
pub(super) struct OfferWaiter {
    pub(super) offer: OfferAsked,
    pub(super) answer: oneshot::Sender<OfferAnswer>,
    /// Among the offers of its address, once it waits.
    pub(super) place: Option<AddressPlace>,
}

impl OfferWaiter {
    pub(super) fn refuse(self, refusal: WhepRefusal) {
        let _gone = self.answer.send(Err(refusal));
    }
}

/// A source of a path with what the path has kept.
type Began<'a> = (Generation, &'a Description, &'a [Arc<PacketBatch>]);

/// All viewers: see the module.
pub(super) struct Viewers {
    whep: Whep,
    bound: Vec<UdpSocket>,
    hosts: Vec<IpAddr>,
    /// Once the runtime is there; `None`: WebRTC is off.
    datagrams: Option<Datagrams>,
    buffer: Vec<u8>,
    /// Offers whose path is there.
    ready: VecDeque<(Arc<str>, OfferWaiter)>,
    /// Offers that wait, here and for the owners of paths.
    waiting: Arc<Addresses>,
    pace: Pace,
    /// What its moments are told from.
    begun: Option<Instant>,
}

impl Viewers {
    /// None yet.
    pub(super) fn new(
        identity: Identity,
        limits: Limits,
        (bound, hosts): (Vec<UdpSocket>, Vec<IpAddr>),
    ) -> Self {
        let whep = Whep::new(identity, limits);
        let (buffer, ready) = (Vec::new(), VecDeque::new());
        let share = AddressLimit::share_of(READY_MAX);
        let limit = AddressLimit { remote: WAITING_PER_ADDRESS, ..share };
        let waiting = Arc::new(Addresses::new(limit, READY_MAX));
        let (pace, begun) = (Pace::default(), None);
        Self { whep, bound, hosts, datagrams: None, buffer, ready, waiting, pace, begun }
    }

    /// Without WebRTC.
    #[cfg(test)]
    pub(super) fn off() -> Self {
        let limits = Limits { viewers_max: 0, addresses: Addresses::sharing(0) };
        Self::new(Identity::new(Vec::new(), Vec::new()), limits, (Vec::new(), Vec::new()))
    }

    /// Begins to use the sockets, in the runtime.
    pub(super) fn open(&mut self) -> io::Result<()> {
        let (bound, hosts) = (std::mem::take(&mut self.bound), std::mem::take(&mut self.hosts));
        let datagrams = Datagrams::new(bound, hosts)?;
        self.buffer = datagrams.buffer();
        self.datagrams = Some(datagrams).filter(|datagrams| !datagrams.is_empty());
        Ok(())
    }

    pub(super) fn is_off(&self) -> bool {
        self.datagrams.is_none()
    }

    /// Waits until `work` has something to do.
    pub(super) async fn due(&self) {
        let Some(datagrams) = &self.datagrams else { return std::future::pending().await };
        match self.whep.next_timeout() {
            None => datagrams.readable().await,
            Some(at) => {
                tokio::select! {
                    () = datagrams.readable() => {}
                    () = tokio::time::sleep_until(at.into()) => {}
                }
            }
        }
    }

    /// Opens sessions, takes what has come by the sockets, and what time has brought. True: there
    /// may be more.
    pub(super) fn work(&mut self) -> bool {
        for _ in 0..OFFERS_A_ROUND {
            let Some((path, waiter)) = self.ready.pop_front() else { break };
            self.open_session(&path, waiter);
        }
        let is_offered = !self.ready.is_empty();
        let Self { whep, datagrams: Some(datagrams), buffer, .. } = self else { return false };
        let is_rest = datagrams.read(buffer, |way, bytes| {
            let mut out = |datagram: Datagram<'_>| datagrams.send(datagram);
            whep.handle_datagram(way, bytes, Instant::now(), &mut out);
        });
        let now = Instant::now();
        let is_due = whep.next_timeout().is_some_and(|at| at <= now);
        let is_more = is_due && whep.handle_timeout(now, &mut |datagram| datagrams.send(datagram));
        is_rest || is_more || is_offered
    }

    /// All that is known of viewers.
    pub(super) fn whep(&self) -> &Whep {
        &self.whep
    }

    /// Begins to look at all viewers.
    pub(super) fn begin_looks(&mut self) {
        self.whep.begin_looks();
    }

    /// Looks at the next ones: ends those whose leave is over, and gives questions for judges about
    /// others.
    pub(super) fn look_after(&mut self, paths: &Arc<PathTable>, now_s: i64) -> Vec<whep::Asked> {
        let Self { whep, datagrams, .. } = self;
        let mut out = |datagram: Datagram<'_>| send(datagrams.as_ref(), datagram);
        whep.look_after(paths, now_s, Instant::now(), &mut out)
    }

    /// A judge has answered, of `paths`.
    pub(super) fn handle_judged(
        &mut self,
        session: SessionId,
        answer: Answer,
        (paths, now_s): (&Arc<PathTable>, i64),
    ) {
        let Self { whep, datagrams, .. } = self;
        let mut out = |datagram: Datagram<'_>| send(datagrams.as_ref(), datagram);
        whep.handle_judged(session, answer, (paths, now_s), Instant::now(), &mut out);
    }

    /// Ends a session for an operator. False: there is none of that id.
    pub(super) fn kick(&mut self, session: SessionId) -> bool {
        let Self { whep, datagrams, .. } = self;
        let mut out = |datagram: Datagram<'_>| send(datagrams.as_ref(), datagram);
        whep.kick(session, Instant::now(), &mut out)
    }

    /// The owner of a path has answered: those who wait for it are let in.
    pub(super) fn begin(&mut self, path: &Arc<str>, began: Began<'_>, offers: Vec<OfferWaiter>) {
        let (generation, description, snapshot) = began;
        if self.whep.has(path) {
            self.resume(path, generation, description);
        }
        if !offers.is_empty() && !self.whep.has(path) {
            let begun = self.whep.begin(path, generation, description, snapshot);
            if let Err(not_sent) = begun {
                for waiter in offers {
                    waiter.refuse(WhepRefusal::Offer(not_sent.clone().into()));
                }
                return;
            }
        }
        for waiter in offers {
            self.accept(path, waiter);
        }
    }

    /// Counts an offer that is to wait. `None`: as many of its address do, or it makes them too
    /// often, and it is refused.
    pub(super) fn queue(&mut self, mut waiter: OfferWaiter, now: Instant) -> Option<OfferWaiter> {
        let from = waiter.offer.from;
        let since = now.duration_since(*self.begun.get_or_insert(now));
        let now = Mono(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
        let refusal = match self.waiting.enter(from) {
            Ok(place) if self.pace.take(from, now) => {
                waiter.place = Some(place);
                return Some(waiter);
            }
            Ok(_free) => OfferError::TooOften,
            Err(_full) => OfferError::Crowded,
        };
        WHEP.viewers_refused.add(1);
        waiter.refuse(refusal.into());
        None
    }

    /// Lets somebody in on a path that is there.
    pub(super) fn accept(&mut self, path: &Arc<str>, waiter: OfferWaiter) {
        if self.is_off() {
            waiter.refuse(WhepRefusal::Off);
        } else if self.ready.len() < READY_MAX {
            self.ready.push_back((Arc::clone(path), waiter));
        } else {
            waiter.refuse(OfferError::Crowded.into());
        }
    }

    fn open_session(&mut self, path: &Arc<str>, waiter: OfferWaiter) {
        let Some(datagrams) = &self.datagrams else { return waiter.refuse(WhepRefusal::Off) };
        if waiter.answer.is_closed() {
            // Who asked is gone.
            return;
        }
        let OfferWaiter { offer: OfferAsked { sdp, from, reached, permit, .. }, answer, .. } =
            waiter;
        let routes = match reached {
            Reached::At(_) => Routes::default(),
            Reached::ByProxy => Routes::discover(),
        };
        let candidates = datagrams.candidates(reached, routes);
        let offer = Offer { sdp: &sdp, from, permit, candidates: &candidates };
        let mut out = |datagram: Datagram<'_>| datagrams.send(datagram);
        let opened = self.whep.open(path, offer, Instant::now(), &mut out);
        let id = opened.as_ref().ok().map(|opened| opened.id.clone());
        let is_gone = answer.send(opened.map_err(WhepRefusal::Offer)).is_err();
        if let Some(id) = id.filter(|_| is_gone) {
            self.end(path, &id);
        }
    }

    /// Ends a session. False: there is none of that id on the path.
    pub(super) fn end(&mut self, path: &str, id: &str) -> bool {
        let Self { whep, datagrams, .. } = self;
        whep.close(path, id, Instant::now(), &mut |datagram| send(datagrams.as_ref(), datagram))
    }

    pub(super) fn handle_batch(&mut self, path: &str, batch: &PacketBatch) {
        let Self { whep, datagrams, .. } = self;
        let mut out = |datagram: Datagram<'_>| send(datagrams.as_ref(), datagram);
        whep.handle_batch(path, batch, Instant::now(), &mut out);
    }

    pub(super) fn resume(&mut self, path: &str, generation: Generation, of: &Description) {
        let Self { whep, datagrams, .. } = self;
        let mut out = |datagram: Datagram<'_>| send(datagrams.as_ref(), datagram);
        whep.resume(path, generation, of, Instant::now(), &mut out);
    }

    pub(super) fn end_path(&mut self, path: &str) {
        let Self { whep, datagrams, .. } = self;
        whep.end_path(path, Instant::now(), &mut |datagram| send(datagrams.as_ref(), datagram));
    }

    pub(super) fn has(&self, path: &str) -> bool {
        self.whep.has(path)
    }

    pub(super) fn is_watched(&self, path: &str) -> bool {
        self.whep.is_watched(path) || self.ready.iter().any(|(of, _)| &**of == path)
    }

    pub(super) fn forget(&mut self, path: &str) {
        if !self.is_watched(path) {
            self.whep.forget(path);
        }
    }

    pub(super) fn take_wants_sync(&mut self) -> Vec<Arc<str>> {
        self.whep.take_wants_sync(Instant::now())
    }
}

/// Sessions that are opened in a round. One takes 3 ms: 2.6 for its certificate and its ciphers,
/// the rest for the worst offer that `whep` reads.
const OFFERS_A_ROUND: usize = 2;
/// Offers that wait for their round: more than a second of them.
const READY_MAX: usize = 512;
/// Of one address: an office whose pages all ask at once is let in within some seconds.
const WAITING_PER_ADDRESS: u32 = 32;

fn send(datagrams: Option<&Datagrams>, datagram: Datagram<'_>) {
    if let Some(datagrams) = datagrams {
        datagrams.send(datagram);
    }
}
