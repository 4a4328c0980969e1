//! Viewers by WebRTC on the loop of live paths: offers and batches to [`Whep`], its datagrams to
//! the sockets.
//!
//! Bound: a round reads what `Datagrams::read` reads, so that HTTP and batches have their turn.

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::datagrams::Datagrams;
use crate::http::hls::{OfferAsked, WhepRefusal};
use crate::live::core::batch::{Generation, PacketBatch};
use crate::live::core::description::Description;
use crate::whep::{Datagram, Identity, Limits, Offer, Opened, Whep};

/// Answers to an offer.
pub(super) type OfferAnswer = Result<Opened, WhepRefusal>;

/// An offer that waits for its path.
#[derive(Debug)]
pub(super) struct OfferWaiter {
    pub(super) offer: OfferAsked,
    pub(super) answer: oneshot::Sender<OfferAnswer>,
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
}

impl Viewers {
    /// None yet.
    pub(super) fn new(
        identity: Identity,
        limits: Limits,
        (bound, hosts): (Vec<UdpSocket>, Vec<IpAddr>),
    ) -> Self {
        let whep = Whep::new(identity, limits);
        Self { whep, bound, hosts, datagrams: None, buffer: Vec::new() }
    }

    /// Without WebRTC.
    #[cfg(test)]
    pub(super) fn off() -> Self {
        let limits =
            Limits { viewers_max: 0, addresses: crate::base::addresses::Addresses::sharing(0) };
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

    /// Takes what has come by the sockets, and what time has brought. True: there may be more.
    pub(super) fn work(&mut self) -> bool {
        let Self { whep, datagrams: Some(datagrams), buffer, .. } = self else { return false };
        let is_rest = datagrams.read(buffer, |way, bytes| {
            let mut out = |datagram: Datagram<'_>| datagrams.send(datagram);
            whep.handle_datagram(way, bytes, Instant::now(), &mut out);
        });
        let now = Instant::now();
        if whep.next_timeout().is_some_and(|at| at <= now) {
            whep.handle_timeout(now, &mut |datagram| datagrams.send(datagram));
        }
        is_rest
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

    /// Lets somebody in on a path that is there.
    pub(super) fn accept(&mut self, path: &Arc<str>, waiter: OfferWaiter) {
        let Some(datagrams) = &self.datagrams else { return waiter.refuse(WhepRefusal::Off) };
        if waiter.answer.is_closed() {
            // Who asked is gone.
            return;
        }
        let OfferAsked { sdp, from, local, .. } = &waiter.offer;
        let candidates = datagrams.candidates(*local);
        let offer = Offer { sdp, from: *from, candidates: &candidates };
        let now = Instant::now();
        let opened = self.whep.open(path, offer, now);
        let id = opened.as_ref().ok().map(|opened| opened.id.clone());
        let is_gone = waiter.answer.send(opened.map_err(WhepRefusal::Offer)).is_err();
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
        self.whep.is_watched(path)
    }

    pub(super) fn forget(&mut self, path: &str) {
        self.whep.forget(path);
    }

    pub(super) fn take_wants_sync(&mut self) -> Vec<Arc<str>> {
        self.whep.take_wants_sync()
    }
}

fn send(datagrams: Option<&Datagrams>, datagram: Datagram<'_>) {
    if let Some(datagrams) = datagrams {
        datagrams.send(datagram);
    }
}
