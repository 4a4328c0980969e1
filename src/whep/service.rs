//! All paths and viewers, and for whom a datagram is.
//!
//! ```text
//!  STUN request --USERNAME--> viewer, whose address is noted
//!  anything else --address--> viewer
//! ```
//! A viewer's datagrams go to an address only that has answered a request of ours (RFC 8445 s7.2.5,
//! RFC 7675): who can forge an address has nothing sent there but a few requests.
//! Invariants: a name, an address and an id lead to one viewer that is there; a panic while one
//! viewer is driven ends that viewer. Bounds: `TUPLES_MAX` addresses a viewer; `DUE_MAX` viewers in
//! one look at the time; `REORDERED_MAX`; see `offer` and `places`.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use slab::Slab;

use crate::access::permit::Permit;
use crate::base::addresses::Addresses;
use crate::base::ids::SessionId;
use crate::base::seldom::Seldom;
use crate::base::time::Mono;
use crate::live::core::batch::{Generation, PacketBatch};
use crate::live::core::description::Description;
use crate::metrics::whep::WHEP;
use crate::whep::crypto::Identity;
use crate::whep::format::NotSent;
use crate::whep::lane::Packet;
use crate::whep::leave::Looks;
use crate::whep::offer::reduced;
use crate::whep::places::{Full, Places, Room, Waiting};
use crate::whep::stream::Stream;
use crate::whep::viewer::{Happened, NAME_DIGITS, Viewer, random_name};
use crate::whep::{End, OfferError, Sink, stun};

/// How many viewers there may be.
#[derive(Debug, Clone)]
pub struct Limits {
    /// All together.
    pub viewers_max: usize,
    /// Of each address.
    pub addresses: Arc<Addresses>,
}

/// What a browser asks for.
#[derive(Debug)]
pub struct Offer<'a> {
    /// Its SDP.
    pub sdp: &'a str,
    /// Its address.
    pub from: IpAddr,
    /// Its leave to watch the path.
    pub permit: Permit,
    /// Addresses of the server that it may send datagrams to.
    pub candidates: &'a [SocketAddr],
}

/// A session that was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Names it in URLs; nobody can guess it.
    pub id: String,
    /// SDP for the browser.
    pub answer: String,
    /// Sound of the path that is not sent: its codec.
    pub left_out: Option<String>,
}

/// All of WHEP: see the module `whep`.
#[derive(Debug)]
pub struct Whep {
    identity: Identity,
    places: Places,
    pub(super) paths: HashMap<Arc<str>, Watched>,
    pub(super) viewers: Slab<Viewer>,
    pub(super) by_session: BTreeMap<SessionId, usize>,
    pub(super) looks: Looks,
    by_name: HashMap<String, usize>,
    by_tuple: HashMap<SocketAddr, usize>,
    by_id: HashMap<String, usize>,
    /// Paths with B-frames, and their source: who comes next need not find out again.
    reordered: HashMap<Arc<str>, Generation>,
    /// Packets of the newest batch; kept for its storage.
    fresh: Vec<Packet>,
    /// Viewers who never came: those that UDP did not reach, and others.
    said: [Seldom; 2],
    /// What moments are told from.
    begun: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Watched {
    stream: Stream,
    pub(super) viewers: Vec<usize>,
}

impl Whep {
    /// Nobody yet.
    #[must_use]
    pub fn new(identity: Identity, limits: Limits) -> Self {
        Self {
            identity,
            places: Places::new(limits.viewers_max, limits.addresses),
            paths: HashMap::new(),
            viewers: Slab::new(),
            by_session: BTreeMap::new(),
            looks: Looks::default(),
            by_name: HashMap::new(),
            by_tuple: HashMap::new(),
            by_id: HashMap::new(),
            reordered: HashMap::new(),
            fresh: Vec::new(),
            said: [Seldom::default(); 2],
            begun: None,
        }
    }

    /// Takes a path that somebody wants to watch, with the newest group that it has kept.
    ///
    /// # Errors
    /// WebRTC has no codec for it.
    pub fn begin(
        &mut self,
        path: &Arc<str>,
        generation: Generation,
        description: &Description,
        snapshot: &[Arc<PacketBatch>],
    ) -> Result<(), NotSent> {
        if self.reordered.get(path) == Some(&generation) {
            return Err(NotSent::Reordered);
        }
        let mut stream = Stream::new(generation, description)?;
        for batch in snapshot {
            stream.push(batch, &mut self.fresh);
            self.fresh.clear();
        }
        if stream.is_reordered() {
            self.note_reordered(path, generation);
            return Err(NotSent::Reordered);
        }
        self.paths.insert(Arc::clone(path), Watched { stream, viewers: Vec::new() });
        Ok(())
    }

    /// Whether the path is known.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.paths.contains_key(path)
    }

    /// Whether anybody watches the path.
    #[must_use]
    pub fn is_watched(&self, path: &str) -> bool {
        self.paths.get(path).is_some_and(|watched| !watched.viewers.is_empty())
    }

    /// Forgets a path that nobody watches.
    pub fn forget(&mut self, path: &str) {
        if !self.is_watched(path) {
            self.paths.remove(path);
        }
    }

    /// The path has this source from now on, unless it is the one that it has. Who cannot go on
    /// with another one is ended.
    pub fn resume(
        &mut self,
        path: &str,
        generation: Generation,
        description: &Description,
        now: Instant,
        out: &mut Sink<'_>,
    ) {
        let Some(watched) = self.paths.get_mut(path) else { return };
        if watched.stream.generation() == generation {
            return;
        }
        if !watched.stream.resume(generation, description) {
            self.end_path(path, now, out);
            return;
        }
        for key in watched.viewers.clone() {
            self.drive(key, now, out, |viewer, _| viewer.wait_for_start());
        }
    }

    /// The path has ended.
    pub fn end_path(&mut self, path: &str, now: Instant, out: &mut Sink<'_>) {
        let Some(watched) = self.paths.remove(path) else { return };
        for key in watched.viewers {
            self.end(key, &End::PathEnded, now, out);
        }
    }

    /// Takes packets of a path.
    pub fn handle_batch(
        &mut self,
        path: &str,
        batch: &PacketBatch,
        now: Instant,
        out: &mut Sink<'_>,
    ) {
        let Some(watched) = self.paths.get_mut(path) else { return };
        let mut fresh = std::mem::take(&mut self.fresh);
        watched.stream.push(batch, &mut fresh);
        WHEP.packets_left_out.add(watched.stream.take_left_out());
        if watched.stream.is_reordered() {
            let generation = watched.stream.generation();
            for key in std::mem::take(&mut watched.viewers) {
                self.end(key, &NotSent::Reordered.into(), now, out);
            }
            self.note_reordered(&path.into(), generation);
            fresh.clear();
            self.fresh = fresh;
            return;
        }
        if !fresh.is_empty() {
            for key in watched.viewers.clone() {
                self.drive(key, now, out, |viewer, out| viewer.push(&fresh, now, out));
            }
        }
        fresh.clear();
        self.fresh = fresh;
    }

    /// Opens a session on a path that [`Whep::begin`] has taken.
    ///
    /// # Errors
    /// See [`OfferError`].
    pub fn open(
        &mut self,
        path: &Arc<str>,
        offer: Offer<'_>,
        now: Instant,
        out: &mut Sink<'_>,
    ) -> Result<Opened, OfferError> {
        let Some(watched) = self.paths.get(path) else { return Err(OfferError::NoPath) };
        if watched.stream.is_reordered() {
            return Err(NotSent::Reordered.into());
        }
        if offer.candidates.is_empty() {
            return Err(OfferError::NoCandidate);
        }
        let Offer { sdp, from, permit, candidates } = offer;
        let sdp = reduced(sdp)?;
        let room = self.make_room(from, now)?;
        let Some(watched) = self.paths.get(path) else { return Err(OfferError::NoPath) };
        let name = random_name(NAME_DIGITS);
        let formats = watched.stream.formats();
        let made = catch_unwind(AssertUnwindSafe(|| {
            Viewer::new(
                (Arc::clone(path), formats),
                (&sdp, &name),
                (from, permit),
                candidates,
                &self.identity,
                now,
            )
        }));
        let panicked = |_| {
            WHEP.panics.add(1);
            Err(OfferError::Refused("it breaks the library of WebRTC".to_owned()))
        };
        let (mut viewer, answer) = made.unwrap_or_else(panicked)?;
        let left_out = formats.left_out.clone();
        // Only now, when nothing stands against the newcomer any more.
        for session in room {
            if let Some(key) = self.by_session.get(&session).copied() {
                WHEP.gave_way.add(1);
                self.end(key, &End::GaveWay, now, out);
            }
        }
        let place = self.places.enter(from);
        viewer.place = Some(place.ok_or_else(|| self.refused(Full::Young))?);
        let Some(watched) = self.paths.get_mut(path) else { return Err(OfferError::NoPath) };
        let (id, session) = (viewer.id.clone(), viewer.session);
        let key = self.viewers.insert(viewer);
        self.by_name.insert(name, key);
        self.by_id.insert(id.clone(), key);
        self.by_session.insert(session, key);
        watched.viewers.push(key);
        let Self { places, viewers, by_session, .. } = self;
        places.note(session, from, |session| waiting(viewers, by_session, *session).is_some());
        WHEP.sessions.add(1);
        WHEP.viewers.set(self.viewers.len() as u64);
        Ok(Opened { id, answer, left_out })
    }

    /// Who makes room for a newcomer: nobody is ended yet.
    fn make_room(&mut self, from: IpAddr, now: Instant) -> Result<Room, OfferError> {
        let Self { places, viewers, by_session, .. } = self;
        let of = |session: &SessionId| waiting(viewers, by_session, *session);
        let room = places.make_room(from, viewers.len(), now, of);
        room.map_err(|full| self.refused(full))
    }

    fn refused(&self, full: Full) -> OfferError {
        WHEP.viewers_refused.add(1);
        match full {
            Full::All => OfferError::TooMany { max: self.places.viewers_max() },
            Full::Address => OfferError::AddressFull,
            Full::Young => OfferError::Crowded,
        }
    }

    /// Ends a session. False: there is none of that id on the path.
    pub fn close(&mut self, path: &str, id: &str, now: Instant, out: &mut Sink<'_>) -> bool {
        let Some(key) = self.by_id.get(id).copied() else { return false };
        if self.viewers.get(key).is_none_or(|viewer| &*viewer.path != path) {
            return false;
        }
        self.end(key, &End::Deleted, now, out);
        true
    }

    /// Takes a datagram that came from `source` to `destination`.
    pub fn handle_datagram(
        &mut self,
        (source, destination): (SocketAddr, SocketAddr),
        bytes: &[u8],
        now: Instant,
        out: &mut Sink<'_>,
    ) {
        let is_stun = stun::is_stun(bytes);
        let key = match stun::local_name(bytes) {
            Some(name) => self.by_name.get(name).copied().filter(|key| self.may_note(*key, source)),
            // Answers of STUN have no name.
            None => self.by_tuple.get(&source).copied().filter(|key| self.may_map(*key, bytes)),
        };
        let mut is_accepted = false;
        if let Some(key) = key {
            let way = (source, destination);
            self.drive(key, now, out, |viewer, out| {
                let happened = viewer.handle_datagram(way, bytes, now, out);
                is_accepted = happened.is_accepted;
                happened
            });
        }
        match key {
            Some(key) if is_accepted && is_stun => {
                self.note_tuple(key, source);
                self.note_mapped(key, bytes);
            }
            _ if is_accepted => {}
            _ => WHEP.datagrams_strange.add(1),
        }
    }

    /// When [`Whep::handle_timeout`] or [`Whep::take_wants_sync`] is due; `None`: nobody is here.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let viewers = self.viewers.iter().map(|(_, viewer)| viewer.timeout());
        let starts = self.paths.values().filter_map(|watched| watched.stream.sync_due());
        viewers.chain(starts).min()
    }

    /// Time has passed. True: more viewers are due than were driven; those that have waited longest
    /// were.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Sink<'_>) -> bool {
        let timeouts = self.viewers.iter().map(|(key, viewer)| (viewer.timeout(), key));
        let mut due: Vec<(Instant, usize)> = timeouts.filter(|(at, _)| *at <= now).collect();
        let is_rest = due.len() > DUE_MAX;
        if is_rest {
            due.select_nth_unstable(DUE_MAX);
            due.truncate(DUE_MAX);
        }
        for (_, key) in due {
            self.drive(key, now, out, |viewer, out| viewer.handle_timeout(now, out));
        }
        is_rest
    }

    /// Paths whose source is to be asked for a key frame now.
    pub fn take_wants_sync(&mut self, now: Instant) -> Vec<Arc<str>> {
        let taken = self.paths.iter_mut().map(|(path, of)| (path, of.stream.take_wants_sync(now)));
        taken.filter(|(_, wants)| *wants).map(|(path, _)| Arc::clone(path)).collect()
    }

    /// Numbers of addresses that viewers of a path have.
    #[cfg(test)]
    pub(super) fn addresses_of(&self, path: &str) -> Vec<usize> {
        let of_path = self.viewers.iter().filter(|(_, viewer)| &*viewer.path == path);
        of_path.map(|(_, viewer)| viewer.tuples.len()).collect()
    }

    /// Numbers of addresses of the server that answers of a path's viewers have named.
    #[cfg(test)]
    pub(super) fn mapped_of(&self, path: &str) -> Vec<usize> {
        let of_path = self.viewers.iter().filter(|(_, viewer)| &*viewer.path == path);
        of_path.map(|(_, viewer)| viewer.mapped.len()).collect()
    }

    /// Leaves no room for further ones.
    #[cfg(test)]
    pub(super) fn fill_mapped(&mut self, path: &str) {
        for (_, viewer) in self.viewers.iter_mut().filter(|(_, viewer)| &*viewer.path == path) {
            let room = TUPLES_MAX - viewer.mapped.len();
            viewer.mapped.extend((0..room).map(|_| (9, [0; 2], [0; 16])));
        }
    }

    fn note_reordered(&mut self, path: &Arc<str>, generation: Generation) {
        if self.reordered.len() >= REORDERED_MAX {
            self.reordered.clear();
        }
        self.reordered.insert(Arc::clone(path), generation);
    }

    /// Whether an address may be one of a viewer's: str0m keeps each that it hears of.
    fn may_note(&self, key: usize, source: SocketAddr) -> bool {
        self.viewers.get(key).is_some_and(|viewer| {
            viewer.tuples.contains(&source) || viewer.tuples.len() < TUPLES_MAX
        })
    }

    /// Whether an answer of STUN, if it is one, may name the address of the server that it names:
    /// str0m keeps each.
    fn may_map(&self, key: usize, bytes: &[u8]) -> bool {
        if !stun::is_answer(bytes) {
            return true;
        }
        let (Some(viewer), Some(mapped)) = (self.viewers.get(key), stun::mapped(bytes)) else {
            return false;
        };
        viewer.mapped.contains(&mapped) || viewer.mapped.len() < TUPLES_MAX
    }

    fn note_mapped(&mut self, key: usize, bytes: &[u8]) {
        let (Some(viewer), Some(mapped)) = (self.viewers.get_mut(key), stun::mapped(bytes)) else {
            return;
        };
        if !viewer.mapped.contains(&mapped) {
            viewer.mapped.push(mapped);
        }
    }

    /// An address of a viewer. One of a viewer that is connected stays that viewer's.
    fn note_tuple(&mut self, key: usize, source: SocketAddr) {
        let Some(viewer) = self.viewers.get_mut(key) else { return };
        if !viewer.tuples.contains(&source) {
            viewer.tuples.push(source);
        }
        let other = self.by_tuple.get(&source).and_then(|other| self.viewers.get(*other));
        if other.is_none_or(|other| !other.is_connected()) {
            self.by_tuple.insert(source, key);
        }
    }

    /// Has a viewer do something, and does what follows from it.
    fn drive(
        &mut self,
        key: usize,
        now: Instant,
        out: &mut Sink<'_>,
        act: impl FnOnce(&mut Viewer, &mut Sink<'_>) -> Happened,
    ) {
        let Some(viewer) = self.viewers.get_mut(key) else { return };
        let (packets, bytes) = viewer.sent;
        let ran = catch_unwind(AssertUnwindSafe(|| act(viewer, out)));
        let happened = ran.unwrap_or_else(|_| {
            WHEP.panics.add(1);
            let end = Some(End::Failed("the library of WebRTC failed".to_owned()));
            Happened { end, ..Happened::default() }
        });
        WHEP.packets_sent.add(viewer.sent.0.saturating_sub(packets));
        WHEP.payload_bytes_sent.add(viewer.sent.1.saturating_sub(bytes));
        WHEP.keyframe_requests.add(happened.keyframe_requests);
        WHEP.skips.add(happened.skips);
        if let Some(end) = happened.end {
            self.end(key, &end, now, out);
            return;
        }
        let path = Arc::clone(&viewer.path);
        let Some(watched) = self.paths.get_mut(&path) else { return };
        if happened.wants_sync {
            watched.stream.want_sync(now);
        }
        if happened.is_connected {
            let begun = viewer.begin(watched.stream.group(), now);
            if begun.wants_sync {
                watched.stream.want_sync(now);
            }
            let (from, after) = (viewer.from, now.duration_since(viewer.opened));
            let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            let path = &*path;
            tracing::info!(code = "HE-I414", path, %from, after_ms, "a viewer watches by WebRTC");
        }
    }

    pub(super) fn end(&mut self, key: usize, why: &End, now: Instant, out: &mut Sink<'_>) {
        let Some(mut viewer) = self.viewers.try_remove(key) else { return };
        if !matches!(why, End::Failed(_)) {
            // Whoever is there is told; a panic on the way out harms nobody any more.
            let _panicked = catch_unwind(AssertUnwindSafe(|| viewer.close(now, out)));
        }
        self.by_name.remove(&viewer.name);
        self.by_id.remove(&viewer.id);
        self.by_session.remove(&viewer.session);
        for tuple in &viewer.tuples {
            if self.by_tuple.get(tuple) == Some(&key) {
                self.by_tuple.remove(tuple);
            }
        }
        if let Some(watched) = self.paths.get_mut(&viewer.path) {
            watched.viewers.retain(|other| *other != key);
        }
        WHEP.viewers.set(self.viewers.len() as u64);
        if viewer.is_connected() {
            let (path, from, (packets, _)) = (&*viewer.path, viewer.from, viewer.sent);
            tracing::info!(
                code = "HE-I415", path, %from, packets, %why,
                "a viewer by WebRTC is gone"
            );
        } else {
            self.say_that_it_never_came(&viewer, why, now);
        }
    }

    /// Offers cost strangers little, so this is said seldom.
    fn say_that_it_never_came(&mut self, viewer: &Viewer, why: &End, now: Instant) {
        let since = now.duration_since(*self.begun.get_or_insert(now));
        let now = Mono(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
        let (path, from) = (&*viewer.path, viewer.from);
        let [unreached, others] = &mut self.said;
        if matches!(why, End::NotConnected | End::Failed(_)) {
            WHEP.not_connected.add(1);
            if let Some(count) = unreached.happened(now) {
                tracing::warn!(
                    code = "HE-W516", path, %from, %why, count,
                    "a viewer by WebRTC never came"
                );
            }
        } else if let Some(count) = others.happened(now) {
            tracing::info!(
                code = "HE-I416", path, %from, %why, count,
                "a viewer by WebRTC was ended before it came"
            );
        }
    }
}

/// A viewer who is there, and not connected.
fn waiting(
    viewers: &Slab<Viewer>,
    by_session: &BTreeMap<SessionId, usize>,
    session: SessionId,
) -> Option<Waiting> {
    let viewer = viewers.get(*by_session.get(&session)?)?;
    (!viewer.is_connected()).then_some((viewer.from, viewer.opened))
}

/// Paths that are known to have B-frames.
const REORDERED_MAX: usize = 1_024;
/// Addresses of one viewer: a browser tries a few, and a telephone has others now and then.
const TUPLES_MAX: usize = 16;
/// Viewers that are driven before requests and batches have their turn: each may send a burst.
const DUE_MAX: usize = 64;
