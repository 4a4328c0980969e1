//! The loop that keeps live paths: it listens to those that somebody watches, makes segments of
//! them for HLS, and gives their batches to viewers by WebRTC.
//!
//! ```text
//!  first request --Subscribe--> owner --Subscribed, Batch, Lost, Resumed, Ended--> Muxer, Whep
//!                                                                                    |     |
//!  request ---------------------> watch::Receiver <--------- Snapshot, for each part-'     |
//!  offer -----------------------> answer                       datagrams <-> sockets <-----'
//!  nobody asks for `IDLE` ------> Unsubscribe, gone
//!  refused, ended --------------> told for a while, then the next request begins anew
//! ```
//! A path is made into segments while somebody asks for them; for viewers by WebRTC alone it is
//! not. Messages to owners are repeated as those of shards are (`live::renew`).
//! Viewers by WebRTC are looked at every second: their leave may be over (`access::permit`).
//! Bounds: `paths_max` paths; `WAITERS_MAX` requests and `OFFERS_MAX` offers of WHEP that wait for
//! the owner of one path;
//! `MESSAGES_A_ROUND` messages, and `ROUND_MAX`, before requests have their turn.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rand::Rng as _;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::judged::Judged;
use super::viewers::{OfferWaiter, Viewers};
use super::{Asked, Front, LiveAnswer, sessions};
use crate::base::random;
use crate::config::hls::HlsConfig;
use crate::config::paths::PathTable;
use crate::hls::live::{LiveError, Muxer, Snapshot};
use crate::hls::resource::Revision;
use crate::http::hls::{HlsView as _, LiveRefusal, WhepRefusal};
use crate::lineup::requests::EventsError;
use crate::live::core::batch::{Generation, PacketBatch};
use crate::live::core::description::Description;
use crate::live::core::message::{
    LiveMessage, Notification, OwnerRequest, PathRules, RefusedError, ToOwner, owner_of,
};
use crate::metrics::cells::HLS;
use crate::poll::poller::{GUEST, Poller};
use crate::session::handover::MoveRefusal;
use crate::shard::inbox::{Inbox, Message};
use crate::whep::OfferError;

/// The paths that are watched: see the module.
pub(super) struct Live {
    poller: Arc<Poller<Inbox>>,
    shard_count: u8,
    front: Arc<Front>,
    paths_max: usize,
    path_bytes_max: usize,
    paths: HashMap<Arc<str>, Watched>,
    viewers: Viewers,
    judged: Judged,
    /// Memory of each path's segments at the last look, all together.
    bytes: u64,
}

/// A path that somebody watches.
struct Watched {
    state: State,
    segments: Segments,
    muxer: Muxer,
    snapshots: watch::Sender<Arc<Snapshot>>,
    /// Requests that wait for the owner's answer.
    waiters: Vec<oneshot::Sender<LiveAnswer>>,
    /// Offers that do.
    offers: Vec<OfferWaiter>,
    /// Requests that ask only whether there is something.
    lookers: Vec<oneshot::Sender<Result<(), LiveRefusal>>>,
    asked: Instant,
    bytes: u64,
}

/// Whether a path is made into segments.
enum Segments {
    /// Nobody asks for them.
    Off,
    /// From the owner's next answer on.
    Wanted,
    On,
    /// It cannot be shown, and is not tried again until then.
    Refused {
        why: LiveError,
        until: Instant,
    },
}

enum State {
    /// The owner has not answered since then.
    Requested {
        next: Instant,
        wait: Duration,
    },
    Here {
        generation: Generation,
        description: Arc<Description>,
    },
    /// It has ended, or cannot be shown. Who watches is told so for a while; the next request after
    /// that begins anew.
    Over {
        why: Option<LiveError>,
        until: Instant,
    },
}

impl Live {
    pub(super) fn new(
        config: &HlsConfig,
        poller: Arc<Poller<Inbox>>,
        front: Arc<Front>,
        viewers: Viewers,
    ) -> Self {
        let shard_count = u8::try_from(poller.inboxes().count()).unwrap_or(u8::MAX);
        let (paths_max, path_bytes_max) = (config.paths_max, config.path_bytes_max);
        Self {
            poller,
            shard_count,
            front,
            paths_max,
            path_bytes_max,
            paths: HashMap::new(),
            viewers,
            judged: Judged::default(),
            bytes: 0,
        }
    }

    /// Until its runtime ends.
    pub(super) async fn run(
        mut self,
        (inbox, wake): (Arc<Inbox>, std::os::unix::net::UnixStream),
        mut asked: mpsc::Receiver<Asked>,
    ) {
        let _closes = Closes(Arc::clone(&inbox));
        let wake = UnixStream::from_std(wake);
        let wake = match wake {
            Ok(wake) => wake,
            Err(error) => {
                tracing::error!(code = "HE-E407", %error, "HLS cannot be woken, and serves nothing");
                return;
            }
        };
        if let Err(error) = self.viewers.open() {
            tracing::error!(code = "HE-E408", %error, "the sockets of WebRTC cannot be used");
        }
        let mut tick = Instant::now() + TICK;
        loop {
            // Also while there is always something to read.
            if tick <= Instant::now() {
                self.handle_tick(Instant::now());
                tick = Instant::now() + TICK;
            }
            while let Ok(asked) = asked.try_recv() {
                self.handle(asked, Instant::now());
            }
            let is_rest = self.read_inbox(&inbox, Instant::now())
                | self.viewers.work()
                | self.look_after(Instant::now());
            self.ask_for_starts();
            if is_rest || !inbox.announce_sleep() {
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                _ = woken(&wake) => {}
                Some(asked) = asked.recv() => self.handle(asked, Instant::now()),
                () = sleep_until(tick) => {}
                () = self.viewers.due() => {}
            }
            inbox.announce_awake();
        }
    }

    /// True: there is more.
    fn read_inbox(&mut self, inbox: &Inbox, now: Instant) -> bool {
        let mut left = MESSAGES_A_ROUND;
        while left > 0 && now.elapsed() < ROUND_MAX {
            let mut is_empty = true;
            if let Some(done) = inbox.pop_outcome() {
                self.front.handle_done(done);
                is_empty = false;
            }
            if let Some(message) = inbox.pop_live() {
                self.handle_live(message, now);
                is_empty = false;
            }
            if let Some(message) = inbox.pop_message() {
                self.handle_message(message);
                is_empty = false;
            }
            if is_empty {
                return false;
            }
            left -= 1;
        }
        true
    }

    fn handle_message(&mut self, message: Message) {
        match message {
            Message::Configure { paths, done } => {
                self.front.set_paths(paths);
                done();
            }
            Message::Drain { order, done } => {
                self.front.set_drain(order);
                done();
            }
            Message::Asked(question) => {
                sessions::answer(question, &self.viewers, self.front.watchers());
            }
            Message::EndSession { id, reply } => reply(self.viewers.kick(id)),
            Message::MoveSession { id, reply, .. } => {
                let viewer = self.viewers.whep().viewer(id, std::time::Instant::now());
                reply(Err(viewer.map_or(MoveRefusal::NoSession, |_| MoveRefusal::Viewer)));
            }
            Message::Events { id, reply, .. } => {
                let viewer = self.viewers.whep().viewer(id, std::time::Instant::now());
                reply(Err(viewer.map_or(EventsError::NoSession, |_| EventsError::NoLineup)));
            }
            // Nothing else is meant for a guest; who asks is told by the dropped reply.
            _ => {}
        }
    }

    fn handle(&mut self, asked: Asked, now: Instant) {
        match asked {
            Asked::Segments { path, answer } => self.handle_asked(&path, answer, now),
            Asked::Find { path, answer } => self.handle_find(&path, answer, now),
            Asked::Offer(waiter) => self.handle_offer(*waiter, now),
            Asked::End { path, id, answer } => {
                let _gone = answer.send(self.viewers.end(&path, &id));
            }
        }
    }

    fn handle_asked(&mut self, path: &str, answer: oneshot::Sender<LiveAnswer>, now: Instant) {
        let watched = match self.watched(path, now) {
            Ok(watched) => watched,
            Err(refusal) => {
                let _gone = answer.send(Err(refusal));
                return;
            }
        };
        watched.asked = now;
        match (&watched.state, &watched.segments) {
            (State::Over { why: Some(error), .. }, _) => {
                let _gone = answer.send(Err(error.clone().into()));
            }
            (_, Segments::Refused { why, until }) if *until > now => {
                let _gone = answer.send(Err(why.clone().into()));
            }
            (State::Over { why: None, .. }, _) | (State::Here { .. }, Segments::On) => {
                let _gone = answer.send(Ok(watched.snapshots.subscribe()));
            }
            (State::Requested { .. }, _) | (State::Here { .. }, Segments::Wanted) => {
                watched.want_segments(answer);
            }
            (State::Here { .. }, Segments::Off | Segments::Refused { .. }) => {
                watched.want_segments(answer);
                // The newest group comes with the answer.
                self.request(&path.into(), subscribe());
            }
        }
    }

    fn handle_find(
        &mut self,
        path: &str,
        answer: oneshot::Sender<Result<(), LiveRefusal>>,
        now: Instant,
    ) {
        let found = match self.watched(path, now) {
            Err(refusal) => Err(refusal),
            Ok(watched) => match &watched.state {
                State::Requested { .. } if watched.lookers.len() < WAITERS_MAX => {
                    return watched.lookers.push(answer);
                }
                State::Over { why: Some(error), .. } => Err(error.clone().into()),
                State::Requested { .. } | State::Here { .. } | State::Over { .. } => Ok(()),
            },
        };
        let _gone = answer.send(found);
    }

    fn handle_offer(&mut self, waiter: OfferWaiter, now: Instant) {
        if self.viewers.is_off() {
            waiter.refuse(WhepRefusal::Off);
            return;
        }
        let path: Arc<str> = waiter.offer.path.as_str().into();
        let is_known = self.viewers.has(&path);
        let is_refused =
            |watched: &Watched| matches!(watched.state, State::Over { why: Some(_), .. });
        if self.paths.get(&path).is_some_and(is_refused) {
            // What HLS cannot show WebRTC may.
            self.remove(&path);
        }
        let Some(waiter) = self.viewers.queue(waiter, now.into_std()) else { return };
        let watched = match self.watched(&path, now) {
            Ok(watched) => watched,
            Err(refusal) => {
                waiter.refuse(refusal.into());
                return;
            }
        };
        match watched.state {
            State::Here { .. } if is_known => self.viewers.accept(&path, waiter),
            State::Here { .. } | State::Requested { .. } | State::Over { .. } => {
                // A path that has ended may have begun again. What HLS still plays of it stays
                // until it has.
                let is_asked = matches!(watched.state, State::Requested { .. });
                watched.offers.retain(|waiter| !waiter.answer.is_closed());
                if watched.offers.len() < OFFERS_MAX {
                    watched.offers.push(waiter);
                } else {
                    waiter.refuse(OfferError::Crowded.into());
                }
                if !is_asked {
                    self.request(&path, subscribe());
                }
            }
        }
    }

    /// A path that somebody asks for; its owner is asked for one that nobody asked for before.
    fn watched(&mut self, path: &str, now: Instant) -> Result<&mut Watched, LiveRefusal> {
        let is_past =
            |watched: &Watched| matches!(watched.state, State::Over { until, .. } if until <= now);
        let mut offers = Vec::new();
        if let Some(watched) = self.paths.get_mut(path).filter(|watched| is_past(watched)) {
            offers = std::mem::take(&mut watched.offers);
            self.remove(path);
        }
        let name: Arc<str> = path.into();
        if !self.paths.contains_key(path) {
            let table: Arc<PathTable> = self.front.paths();
            if !table.find(path).lineup.is_empty() {
                return Err(LiveRefusal::Lineup);
            }
            if self.paths.len() >= self.paths_max {
                return Err(LiveRefusal::TooMany { max: self.paths_max });
            }
            self.request(&name, subscribe());
        }
        let count = self.paths.len() as u64 + 1;
        let muxer = self.muxer(Timestamp::now().as_second());
        let watched = self.paths.entry(name).or_insert_with(|| {
            HLS.live_paths.set(count);
            Watched { offers, ..Watched::new(muxer, now) }
        });
        Ok(watched)
    }

    /// Asks the sources of paths whose viewers need a key frame.
    fn ask_for_starts(&mut self) {
        for path in self.viewers.take_wants_sync() {
            self.request(&path, OwnerRequest::WantSync);
        }
    }

    /// For a run that begins at these seconds since 1970.
    fn muxer(&self, utc_s: i64) -> Muxer {
        let revision = Revision(random::rng().next_u64());
        // A run has less than a segment a second.
        let number = u64::try_from(utc_s.saturating_sub(NUMBERS_BEGIN_S)).unwrap_or(0);
        Muxer::new(revision, self.path_bytes_max).numbered_from(number)
    }

    fn handle_live(&mut self, message: LiveMessage, now: Instant) {
        // A guest owns no path.
        let LiveMessage::ToShard { path, notification } = message else { return };
        let Some(watched) = self.paths.get_mut(&path) else {
            // Nobody watches any more; the message that said so was lost.
            if matches!(notification, Notification::Batch(_) | Notification::Subscribed { .. }) {
                self.request(&path, OwnerRequest::Unsubscribe { shard: GUEST });
            }
            return;
        };
        let is_over = matches!(watched.state, State::Over { .. });
        if is_over && !self.begin_again(&path, &notification, now) {
            return;
        }
        let Some(watched) = self.paths.get_mut(&path) else { return };
        // A source that begins, or has paused for long, is asked for a key frame, once.
        let is_beginning =
            watched.muxer.has_begun() || !matches!(notification, Notification::Batch(_));
        match notification {
            // It may be the answer to a request that was repeated.
            Notification::Subscribed { generation, description, snapshot } => {
                if matches!(watched.segments, Segments::Wanted) {
                    watched.begin(&path, generation, &description, &snapshot, now);
                }
                let offers = std::mem::take(&mut watched.offers);
                self.viewers.begin(&path, (generation, &*description, &*snapshot), offers);
                watched.state = State::Here { generation, description };
            }
            Notification::Resumed { generation, description } => {
                if !matches!(watched.segments, Segments::Off) {
                    watched.begin(&path, generation, &description, &[], now);
                }
                let offers = std::mem::take(&mut watched.offers);
                self.viewers.begin(&path, (generation, &*description, &[]), offers);
                watched.state = State::Here { generation, description };
            }
            Notification::Batch(batch) => {
                watched.feed(&path, &batch, now);
                self.viewers.handle_batch(&path, &batch);
            }
            Notification::Described { generation, description } => {
                // Of another source `Resumed` tells, also when it was lost once.
                if let State::Here { generation: known, description: of } = &mut watched.state
                    && *known == generation
                {
                    *of = description;
                }
            }
            Notification::NotThere(why) => return self.let_go(&path, why),
            Notification::Ended if matches!(watched.state, State::Requested { .. }) => {
                return self.let_go(&path, RefusedError::NoSource);
            }
            Notification::Ended => {
                self.viewers.end_path(&path);
                watched.end(None, now + ENDED_KEPT);
            }
            // Viewers wait for a successor of the source.
            Notification::Lost
            | Notification::Granted { .. }
            | Notification::Refused { .. }
            | Notification::Evicted { .. }
            | Notification::SyncWanted { .. }
            | Notification::Joined { .. } => {}
        }
        watched.answer_waiters();
        let is_viewed = self.viewers.is_watched(&path) || !watched.offers.is_empty();
        match &watched.segments {
            // It is not heard while it cannot be shown.
            Segments::Refused { why, until } if !is_viewed => {
                watched.state = State::Over { why: Some(why.clone()), until: *until };
                self.request(&path, OwnerRequest::Unsubscribe { shard: GUEST });
            }
            Segments::On if is_beginning && watched.is_without_start() => {
                self.request(&path, OwnerRequest::WantSync);
            }
            _ => {}
        }
        self.note_memory();
    }

    /// What has ended stays, for those who still play it by HLS, until an offer has found a new
    /// source. False: it has not.
    fn begin_again(&mut self, path: &Arc<str>, told: &Notification, now: Instant) -> bool {
        let muxer = self.muxer(Timestamp::now().as_second());
        let Some(watched) = self.paths.get_mut(path) else { return false };
        match told {
            // What was under way when it ended.
            _ if watched.offers.is_empty() => {}
            Notification::Subscribed { .. } | Notification::Resumed { .. } => {
                let offers = std::mem::take(&mut watched.offers);
                *watched = Watched { offers, ..Watched::new(muxer, now) };
                return true;
            }
            Notification::NotThere(why) => watched.refuse_offers(*why),
            Notification::Ended => watched.refuse_offers(RefusedError::NoSource),
            _ => {}
        }
        false
    }

    /// The owner has no source for a path: who waits is told.
    fn let_go(&mut self, path: &str, why: RefusedError) {
        if let Some(watched) = self.paths.get_mut(path) {
            for waiter in watched.waiters.drain(..) {
                let _gone = waiter.send(Err(why.into()));
            }
            for looker in watched.lookers.drain(..) {
                let _gone = looker.send(Err(why.into()));
            }
            watched.refuse_offers(why);
        }
        self.remove(path);
        self.note_memory();
    }

    fn handle_tick(&mut self, now: Instant) {
        if self.front.drain().is_some_and(|drain| drain.is_over(self.front.now())) {
            self.end_all(now);
        }
        self.front.watchers().forget(self.front.now());
        self.handle_judged(now);
        self.viewers.begin_looks();
        self.look_after(now);
        let mut requests = Vec::new();
        let (mut over, mut idle) = (Vec::new(), Vec::new());
        for (path, watched) in &mut self.paths {
            watched.count();
            let is_idle = now.duration_since(watched.asked) >= IDLE
                && watched.snapshots.receiver_count() == 0;
            watched.offers.retain(|waiter| !waiter.answer.is_closed());
            let is_viewed = self.viewers.is_watched(path) || !watched.offers.is_empty();
            if !is_viewed {
                self.viewers.forget(path);
            } else if is_idle && matches!(watched.segments, Segments::On) {
                idle.push(Arc::clone(path));
            }
            match &mut watched.state {
                State::Over { .. } if !watched.offers.is_empty() => {
                    // The question or its answer was lost.
                    requests.push((Arc::clone(path), subscribe()));
                }
                State::Over { until, .. }
                    if *until <= now && watched.snapshots.receiver_count() == 0 =>
                {
                    over.push(Arc::clone(path));
                }
                _ if is_idle && !is_viewed => over.push(Arc::clone(path)),
                State::Requested { next, wait } if *next <= now => {
                    *wait = (*wait * 2).min(REPEAT_MAX);
                    *next = now + *wait;
                    requests.push((Arc::clone(path), subscribe()));
                }
                State::Here { generation, description } => {
                    let (generation, description) = (*generation, Arc::clone(description));
                    let listen = OwnerRequest::Listen { shard: GUEST, generation, description };
                    requests.push((Arc::clone(path), listen));
                    if matches!(watched.segments, Segments::Wanted) || !watched.offers.is_empty() {
                        // The answer was lost.
                        requests.push((Arc::clone(path), subscribe()));
                    }
                }
                State::Requested { .. } | State::Over { .. } => {}
            }
        }
        for path in over {
            self.remove(&path);
        }
        for path in idle {
            let muxer = self.muxer(Timestamp::now().as_second());
            if let Some(watched) = self.paths.get_mut(&path) {
                watched.stop_segments(muxer);
            }
        }
        for (path, request) in requests {
            self.request(&path, request);
        }
        self.note_memory();
    }

    /// Takes what judges have answered about viewers by WebRTC.
    fn handle_judged(&mut self, now: Instant) {
        let now_s = Timestamp::now().as_second();
        for (session, paths, answer) in self.judged.take(now) {
            self.viewers.handle_judged(session, answer, (&paths, now_s));
        }
    }

    /// Looks whether the next viewers by WebRTC may still watch. True: there are more.
    fn look_after(&mut self, now: Instant) -> bool {
        if !self.viewers.whep().has_looks() {
            return false;
        }
        let (paths, now_s) = (self.front.paths(), Timestamp::now().as_second());
        for asked in self.viewers.look_after(&paths, now_s) {
            let answer = self.front.judge(*asked.question);
            self.judged.wait(asked.session, &paths, answer, now);
        }
        self.viewers.whep().has_looks()
    }

    /// The server is drained: who still waits for a part is told that none follows.
    fn end_all(&mut self, now: Instant) {
        let mut ended = Vec::new();
        for (path, watched) in &mut self.paths {
            if matches!(watched.state, State::Here { .. }) {
                self.viewers.end_path(path);
                watched.end(None, now + ENDED_KEPT);
                ended.push(Arc::clone(path));
            }
        }
        for path in ended {
            self.request(&path, OwnerRequest::Unsubscribe { shard: GUEST });
        }
    }

    fn remove(&mut self, path: &str) {
        let Some((name, watched)) = self.paths.remove_entry(path) else { return };
        self.viewers.end_path(path);
        if !matches!(watched.state, State::Over { .. }) {
            self.request(&name, OwnerRequest::Unsubscribe { shard: GUEST });
        }
        HLS.live_paths.set(self.paths.len() as u64);
    }

    fn note_memory(&mut self) {
        let bytes = self.paths.values().map(|watched| watched.bytes).sum();
        if bytes != self.bytes {
            self.bytes = bytes;
            HLS.live_bytes.set(bytes);
        }
    }

    /// Sends a request to the owner of a path. What a full inbox does not take is said again.
    fn request(&self, path: &Arc<str>, request: OwnerRequest) {
        let owner = owner_of(path, self.shard_count);
        let Some(inbox) = self.poller.inbox(owner) else { return };
        let message = LiveMessage::ToOwner(ToOwner { path: Arc::clone(path), request });
        let _said_again = inbox.push_live(message);
    }
}

impl Watched {
    /// Its owner is asked.
    fn new(muxer: Muxer, now: Instant) -> Self {
        Self {
            state: State::Requested { next: now + FIRST_REPEAT, wait: FIRST_REPEAT },
            segments: Segments::Off,
            muxer,
            snapshots: watch::Sender::default(),
            waiters: Vec::new(),
            offers: Vec::new(),
            lookers: Vec::new(),
            asked: now,
            bytes: 0,
        }
    }

    /// Nothing is at the path.
    fn refuse_offers(&mut self, why: RefusedError) {
        for waiter in self.offers.drain(..) {
            waiter.refuse(LiveRefusal::from(why).into());
        }
    }

    /// A full list drops the answer, which is how that is told.
    fn want_segments(&mut self, answer: oneshot::Sender<LiveAnswer>) {
        self.segments = Segments::Wanted;
        if self.waiters.len() < WAITERS_MAX {
            self.waiters.push(answer);
        }
    }

    /// Nobody asks for segments any more, though the path is watched by WebRTC.
    fn stop_segments(&mut self, muxer: Muxer) {
        self.segments = Segments::Off;
        self.muxer = muxer;
        self.snapshots = watch::Sender::default();
        self.count();
    }

    /// Whether segments wait for a key frame to begin with.
    fn is_without_start(&self) -> bool {
        matches!(self.state, State::Here { .. }) && !self.muxer.has_begun()
    }

    fn begin(
        &mut self,
        path: &str,
        generation: Generation,
        description: &Description,
        snapshot: &[Arc<PacketBatch>],
        now: Instant,
    ) {
        let begun = self.muxer.begin(generation, description);
        let begun = begun.and_then(|()| self.muxer.handle_snapshot(snapshot));
        match begun {
            Ok(_) => {
                self.segments = Segments::On;
                self.publish();
            }
            Err(error) => self.refuse(path, error, now),
        }
    }

    fn feed(&mut self, path: &str, batch: &PacketBatch, now: Instant) {
        if !matches!((&self.state, &self.segments), (State::Here { .. }, Segments::On)) {
            return;
        }
        match self.muxer.handle_batch(batch) {
            Ok(true) => self.publish(),
            Ok(false) => {}
            Err(error) => self.refuse(path, error, now),
        }
    }

    /// It is no longer shown; who waits for a part is told by the last snapshot.
    fn refuse(&mut self, path: &str, error: LiveError, now: Instant) {
        tracing::info!(code = "HE-I408", path, %error, "a live path cannot be shown in a browser");
        self.muxer.end();
        self.publish();
        self.segments = Segments::Refused { why: error, until: now + REFUSED_KEPT };
    }

    /// Who waits for a part is told by the last snapshot.
    fn end(&mut self, why: Option<LiveError>, until: Instant) {
        self.muxer.end();
        self.publish();
        self.state = State::Over { why, until };
    }

    /// Answers requests that have waited for the owner, once it has answered.
    fn answer_waiters(&mut self) {
        if matches!(self.state, State::Requested { .. }) {
            return;
        }
        for looker in self.lookers.drain(..) {
            let _gone = looker.send(Ok(()));
        }
        let refusal = match &self.segments {
            Segments::Refused { why, .. } => Some(why.clone()),
            Segments::Wanted if matches!(self.state, State::Here { .. }) => return,
            _ => None,
        };
        for waiter in self.waiters.drain(..) {
            let snapshots = self.snapshots.subscribe();
            let answer = refusal.clone().map_or(Ok(snapshots), |why| Err(why.into()));
            let _gone = waiter.send(answer);
        }
    }

    fn publish(&mut self) {
        self.count();
        self.snapshots.send_replace(Arc::new(self.muxer.snapshot()));
    }

    fn count(&mut self) {
        let counts = self.muxer.take_counts();
        HLS.parts.add(counts.parts);
        HLS.frames_lost.add(counts.frames_lost);
        HLS.segments_evicted.add(counts.evicted);
        self.bytes = self.muxer.memory_bytes() as u64;
    }
}

fn subscribe() -> OwnerRequest {
    // The owner goes by its own rules.
    OwnerRequest::Subscribe { shard: GUEST, rules: Arc::new(PathRules::default()) }
}

/// Closes the inbox when the loop is over, however that comes: who asks is told at once.
struct Closes(Arc<Inbox>);

impl Drop for Closes {
    fn drop(&mut self) {
        self.0.close();
    }
}

async fn woken(wake: &UnixStream) {
    if wake.readable().await.is_ok() {
        let _nothing = wake.try_read(&mut [0; 64]);
    }
}

/// A path is watched for so long after the last request: players ask every few seconds.
const IDLE: Duration = Duration::from_secs(20);
/// So long who watches a path that has ended is told so.
const ENDED_KEPT: Duration = Duration::from_secs(10);
/// So long a path that cannot be shown is not tried again.
const REFUSED_KEPT: Duration = Duration::from_secs(5);
/// As `live::renew` for those of shards.
const FIRST_REPEAT: Duration = Duration::from_secs(1);
const REPEAT_MAX: Duration = Duration::from_secs(8);
/// UTC at which numbers of segments begin: 2020, so that they have 31 bits until 2088. Some players
/// have no more for them.
const NUMBERS_BEGIN_S: i64 = 1_577_836_800;
const TICK: Duration = Duration::from_secs(1);
/// Messages of each kind in a round of the loop.
const MESSAGES_A_ROUND: usize = 256;
/// Time of a round: a batch for many viewers by WebRTC takes milliseconds.
const ROUND_MAX: Duration = Duration::from_millis(5);
/// Requests that wait for the owner of one path.
const WAITERS_MAX: usize = 4_096;
/// Offers of WHEP that wait for the owner of one path.
const OFFERS_MAX: usize = 64;

#[cfg(test)]
mod tests;
