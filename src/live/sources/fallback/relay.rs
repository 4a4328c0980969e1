//! One relay: listens to the sources of its path and feeds the path from one of them.
//!
//! ```text
//!  batch, lost, gone, time --> choice --> Want, Leave: subscriptions
//!                                    `--> Switch: at a key frame in the ring of the source's path
//!  ring of the active source --cursor--> wire --> publisher of the path
//!                                    `--> Release: the claim ends, readers wait
//! ```
//! A source that comes back under another claim, or whose ring has lost the cursor's batch, begins
//! anew at its newest key frame, like another source.
//!
//! Invariants: a batch is relayed once, in order; video begins with a key frame after each switch.
//! Bounds: `SOURCES_MAX` sources, `BATCHES_A_TURN` batches a turn.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;

use crate::base::ids::Ssrc;
use crate::base::time::Mono;
use crate::base::wheel::Timer;
use crate::config::paths::PathConfig;
use crate::live::core::batch::{Generation, PacketBatch};
use crate::live::core::clock::ClockPoint;
use crate::live::core::demux::Target;
use crate::live::core::description::Description;
use crate::live::core::message::OwnerRequest;
use crate::live::core::path::{LivePath, PathKey};
use crate::live::core::paths::Wanted;
use crate::live::core::source::ArrivalTime;
use crate::live::hub::Hub;
use crate::live::sources::announced::{Origin, description};
use crate::live::sources::fallback::choice::{
    Cause, Change, Choice, ChoiceRules, SOURCES_MAX, Step, Timing,
};
use crate::live::sources::fallback::fit::{Fit, FitTrack, fit};
use crate::live::sources::fallback::wire::{Packet, Wire};
use crate::live::sources::fallback::{SourceEvent, timer_key};
use crate::live::sources::publisher::{Claimant, Publisher, Way};
use crate::live::sources::publishers::Publishers;
use crate::live::sources::table::OfPath;
use crate::rtcp::ntp_from_utc_ns;
use crate::rtp::detect::KeyFrameDetector;
use crate::sdp::read::read_session;
use crate::sdp::session::SessionSdp;
use crate::session::cx::Cx;

/// A relay: see the module.
#[derive(Debug)]
pub(crate) struct Relay {
    number: u32,
    path: Arc<str>,
    sources: Vec<RelaySource>,
    choice: Choice,
    /// The choice is to decide anew.
    is_unsettled: bool,
    /// A switch that waits for a key frame.
    pending: Option<Pending>,
    /// What the first source has made the path.
    identity: Option<Identity>,
    /// With no source since then, readers have ended: the next source makes the path anew.
    forgotten_at: Option<Mono>,
    hold: Duration,
    feed: Option<Feed>,
    /// Number of the publisher that claims the path.
    publisher: Option<u32>,
    /// A publisher that is to end.
    released: Option<u32>,
    /// The source of the newest packet, and the packet's arrival.
    newest: Option<(usize, Mono)>,
    timer: Option<(Mono, Timer)>,
    has_more: bool,
}

/// The parts of the shard that a relay works with.
pub(crate) struct Room<'a> {
    pub(crate) cx: &'a mut Cx,
    pub(crate) hub: &'a mut Hub,
    pub(crate) publishers: &'a mut Publishers,
}

/// A path that can feed the relay's.
#[derive(Debug)]
struct RelaySource {
    path: Arc<str>,
    is_wanted: bool,
    /// The description that was refused last.
    refused: Option<Arc<Description>>,
}

#[derive(Debug, Clone, Copy)]
struct Pending {
    change: Change,
    /// The batch that the key frame must not be before.
    from: Option<(PathKey, u64)>,
}

/// Media of the path and its streams.
#[derive(Debug)]
struct Identity {
    sdp: SessionSdp,
    wire: Wire,
}

/// The source that feeds the path.
#[derive(Debug)]
struct Feed {
    source: usize,
    key: PathKey,
    generation: Generation,
    /// Number of the next batch.
    cursor: u64,
    fit: Fit,
    /// By track of the source: a key frame is not needed, or has been sent.
    has_begun: Vec<bool>,
    /// By track of the source: the clock that the path was told.
    told: Vec<Option<ClockPoint>>,
}

impl OfPath for Relay {
    fn path(&self) -> &Arc<str> {
        &self.path
    }
}

impl Relay {
    pub(crate) fn new(
        number: u32,
        path: &Arc<str>,
        sources: &[Arc<str>],
        config: &PathConfig,
    ) -> Self {
        let source = |path: &Arc<str>| RelaySource {
            path: Arc::clone(path),
            is_wanted: false,
            refused: None,
        };
        let sources: Vec<_> = sources.iter().take(SOURCES_MAX).map(source).collect();
        let rules = ChoiceRules {
            silence: config.source_timeout.unwrap_or(SILENCE),
            return_after: config.return_after,
            switch_interval: config.switch_interval,
            has_standby: config.standby,
        };
        Self {
            number,
            path: Arc::clone(path),
            choice: Choice::new(sources.len(), rules),
            sources,
            is_unsettled: true,
            pending: None,
            identity: None,
            forgotten_at: Some(Mono(0)),
            hold: config.hold,
            feed: None,
            publisher: None,
            released: None,
            newest: None,
            timer: None,
            has_more: false,
        }
    }

    pub(crate) fn source_paths(&self) -> impl Iterator<Item = &Arc<str>> {
        self.sources.iter().map(|source| &source.path)
    }

    pub(crate) fn publisher(&self) -> Option<u32> {
        self.publisher
    }

    /// Whether batches are left for the next turn.
    pub(crate) fn has_more(&self) -> bool {
        self.has_more
    }

    pub(crate) fn take_released(&mut self) -> Option<u32> {
        self.released.take()
    }

    pub(crate) fn cancel_timer(&mut self, cx: &mut Cx) {
        if let Some((_, timer)) = self.timer.take() {
            cx.wheel.cancel(timer);
        }
    }

    pub(crate) fn handle_due(&mut self) {
        (self.timer, self.is_unsettled) = (None, true);
    }

    /// Something has happened to a source's path.
    pub(crate) fn handle_source(&mut self, room: &Room<'_>, place: usize, event: SourceEvent) {
        let now = room.cx.now;
        let Some(source) = self.sources.get(place).filter(|source| source.is_wanted) else {
            return;
        };
        match event {
            SourceEvent::Fed if self.choice.is_good(place) => {
                self.choice.handle_batch(place, now);
                self.is_unsettled |= self.choice.due().is_some_and(|due| due <= now);
            }
            SourceEvent::Fed => {
                let Some(path) = room.hub.paths.path(&source.path) else { return };
                let newest = path.ring().newest().map(|batch| batch.received());
                if newest.is_none_or(|received| now.since(received) > FRESH) {
                    return;
                }
                let described = Arc::clone(path.description());
                match self.fit_of(place, &described, now) {
                    Some(_) => self.choice.handle_batch(place, now),
                    None => self.fail(place, now),
                }
                self.is_unsettled = true;
            }
            SourceEvent::Lost => {
                self.choice.handle_lost(place, now);
                self.is_unsettled = true;
            }
            SourceEvent::Gone => self.fail(place, now),
        }
    }

    fn fail(&mut self, place: usize, now: Mono) {
        self.choice.handle_failed(place, now);
        if let Some(source) = self.sources.get_mut(place) {
            source.is_wanted = false;
        }
        self.is_unsettled = true;
    }

    /// Keeps the paths of the sources.
    pub(crate) fn renew(&mut self, room: &mut Room<'_>) {
        for place in 0..self.sources.len() {
            if self.sources.get(place).is_some_and(|source| source.is_wanted) {
                self.want(room, place);
            }
        }
    }

    fn want(&mut self, Room { cx, hub, .. }: &mut Room<'_>, place: usize) {
        let Some(source) = self.sources.get_mut(place) else { return };
        source.is_wanted = true;
        let limits = cx.path_limits(&source.path);
        match hub.paths.want(&source.path, limits, NOBODY, cx.now) {
            Wanted::Here | Wanted::Requested => {}
            Wanted::Request => {
                let (shard, rules) = (cx.shard, cx.path_rules(&source.path));
                hub.request(&source.path, OwnerRequest::Subscribe { shard, rules });
            }
            Wanted::TooMany => self.fail(place, cx.now),
        }
    }

    /// Decides, switches and relays what there is to relay.
    pub(crate) fn go_on(&mut self, room: &mut Room<'_>) {
        self.has_more = false;
        // Bounded: each round ends a switch or a subscription.
        for _ in 0..ROUNDS_MAX {
            if std::mem::take(&mut self.is_unsettled) {
                self.settle(room);
            }
            self.pump(room);
            self.try_switch(room);
            if !self.is_unsettled {
                break;
            }
        }
        self.pump(room);
        self.set_timer(room.cx);
    }

    fn settle(&mut self, room: &mut Room<'_>) {
        let mut steps = Vec::new();
        self.choice.settle(room.cx.now, &mut steps);
        for step in steps {
            match step {
                Step::Want(place) => self.want(room, place),
                Step::Leave(place) => {
                    if let Some(source) = self.sources.get_mut(place) {
                        source.is_wanted = false;
                        room.hub.paths.forget_waiter(&source.path, NOBODY);
                    }
                }
                Step::Switch(change) => self.await_switch(room, change),
                Step::Release => {
                    self.feed = None;
                    self.released = self.publisher.take();
                    self.forgotten_at = Some(room.cx.now + self.hold);
                }
            }
        }
        if self.choice.pending().is_none() {
            self.pending = None;
        }
    }

    fn await_switch(&mut self, room: &mut Room<'_>, change: Change) {
        let Some(source) = self.sources.get(change.to) else { return };
        let path = room.hub.paths.path(&source.path);
        let end = path.map(|path| (path.key, path.ring().end_no()));
        let from = end.filter(|_| change.timing == Timing::NextKeyFrame);
        let has_start = path.is_some_and(|path| path.ring().newest_start().is_some());
        self.pending = Some(Pending { change, from });
        if from.is_some() || !has_start {
            room.hub.request(&source.path, OwnerRequest::WantSync);
        }
    }

    /// Switches, or begins the active source anew, when its path has a key frame.
    fn try_switch(&mut self, room: &mut Room<'_>) {
        let again = self.choice.active().filter(|_| self.feed.is_none());
        let again = again.map(|to| Change { to, timing: Timing::Now, cause: Cause::Lost });
        let again = again.map(|change| Pending { change, from: None });
        let Some(Pending { change, from }) = self.pending.or(again) else { return };
        let place = change.to;
        let Some(source) = self.sources.get(place) else { return };
        let Some(path) = room.hub.paths.path(&source.path) else { return };
        let Some(start) = path.ring().newest_start() else { return };
        if from.is_some_and(|(key, no)| key == path.key && start < no) {
            return;
        }
        let described = Arc::clone(path.description());
        let Some(fit) = self.fit_of(place, &described, room.cx.now) else {
            return self.fail(place, room.cx.now);
        };
        let Some(path) = self.sources.get(place).and_then(|s| room.hub.paths.path(&s.path)) else {
            return;
        };
        let feed = Feed {
            source: place,
            key: path.key,
            generation: path.generation,
            cursor: start,
            has_begun: described.tracks.iter().map(|track| !track.needs_sync).collect(),
            told: vec![None; described.tracks.len()],
            fit,
        };
        let at = ArrivalTime { now: room.cx.now, utc_ns: room.cx.utc_ns };
        let firsts = firsts(path, &feed);
        if let Some(identity) = &mut self.identity {
            identity.wire.cross(&firsts, at);
        }
        let first = path.ring().batch(start).map(|batch| batch.received());
        self.note_switch(room, change, first.unwrap_or(room.cx.now));
        (self.feed, self.forgotten_at) = (Some(feed), None);
        self.claim(room, place);
        if self.pending.take().is_some() {
            self.choice.handle_switched(place, room.cx.now);
            self.is_unsettled = true;
        }
    }

    /// Logs and counts a switch.
    fn note_switch(&self, Room { cx, .. }: &mut Room<'_>, change: Change, first: Mono) {
        let name = |place: usize| self.sources.get(place).map_or("", |source| &*source.path);
        let (path, to) = (&self.path, name(change.to));
        let Some((from, last)) = self.newest else {
            let cause = change.cause.label();
            tracing::info!(
                code = "HE-I314", event = "path.switch", %path, to, cause,
                "path {path} is fed from {to}"
            );
            return;
        };
        // With the path released meanwhile: the source before was lost all the same.
        let cause = if change.cause == Cause::Start { Cause::Lost } else { change.cause };
        let gap = first.since(last);
        let (from, gap_ms) = (name(from), gap.as_millis());
        cx.cells.handovers[cause as usize].add(1);
        let cause = cause.label();
        let gap_ns = u64::try_from(gap.as_nanos()).unwrap_or(u64::MAX);
        cx.cells.handover_gap.observe_ns(gap_ns);
        tracing::info!(
            code = "HE-I314", event = "path.switch", %path, from, to, cause, gap_ms,
            "path {path} is fed from {to} instead of {from} ({cause}), {gap_ms} ms without packets"
        );
    }

    /// Claims the path, or names its source anew.
    fn claim(&mut self, Room { cx, hub, publishers }: &mut Room<'_>, place: usize) {
        let (Some(source), Some(identity)) = (self.sources.get(place), &self.identity) else {
            return;
        };
        let way = Way::Relay { relay: self.number, from: Arc::clone(&source.path) };
        let present = self.publisher.and_then(|number| publishers.get_mut(&number));
        if let Some(publisher) = present {
            publisher.way = way;
            return;
        }
        let number = hub.next_serial();
        let origin = Origin {
            local: Ipv4Addr::UNSPECIFIED.into(),
            session_id: u64::from(cx.shard.0) << 32 | u64::from(self.number),
            version: cx.utc_ns.unsigned_abs() / 1_000_000_000,
        };
        let sdp = identity.sdp.clone();
        let Ok(described) = description(&sdp, &self.path, origin) else { return };
        let claimant = Claimant {
            way,
            reply_to: None,
            sdp,
            origin,
            description: Arc::new(described),
            connection: None,
            peer: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
        };
        self.publisher = Some(number);
        publishers.claim(cx, hub, number, &self.path, claimant);
    }

    /// Relays batches of the active source, when the path is granted.
    fn pump(&mut self, room: &mut Room<'_>) {
        let Some(number) = self.publisher else { return };
        let Some(publisher) = room.publishers.get(&number) else {
            (self.publisher, self.feed) = (None, None);
            return;
        };
        if !publisher.is_recording() {
            return;
        }
        for _ in 0..BATCHES_A_TURN {
            let Some(feed) = &mut self.feed else { return };
            let source = self.sources.get(feed.source);
            let path = source.and_then(|source| room.hub.paths.path(&source.path));
            let present = path.filter(|path| {
                (path.key, path.generation) == (feed.key, feed.generation)
                    && path.ring().first_no() <= feed.cursor
            });
            let Some(path) = present else {
                self.feed = None;
                return;
            };
            let Some(batch) = path.ring().batch(feed.cursor).map(Arc::clone) else { return };
            feed.cursor += 1;
            self.newest = Some((feed.source, batch.received()));
            if let Some(identity) = &mut self.identity {
                relay(feed, &mut identity.wire, number, &batch, room);
            }
        }
        self.has_more = true;
    }

    fn set_timer(&mut self, cx: &mut Cx) {
        let Some(due) = self.choice.due() else { return };
        // A timer that is too early does no harm, and is not set anew for each batch.
        if self.timer.is_some_and(|(set, _)| set <= due) {
            return;
        }
        self.cancel_timer(cx);
        self.timer = Some((due, cx.wheel.insert(due, timer_key(self.number))));
    }

    /// How a source's tracks feed those of the path; `None` when they do not fit. The first source
    /// that is asked about makes the path what it is.
    fn fit_of(&mut self, place: usize, described: &Arc<Description>, now: Mono) -> Option<Fit> {
        if self.forgotten_at.is_some_and(|at| at <= now) {
            (self.identity, self.newest) = (None, None);
        }
        let sdp = read_session(described.text(false).as_bytes()).ok()?;
        let identity = self
            .identity
            .get_or_insert_with(|| Identity { wire: wire_of(described), sdp: sdp.clone() });
        let error = match fit(&identity.sdp, &sdp) {
            Ok(fit) => return Some(fit),
            Err(error) => error,
        };
        let source = self.sources.get_mut(place)?;
        let is_told = source.refused.as_ref().is_some_and(|told| told.continues(described));
        if !is_told {
            source.refused = Some(Arc::clone(described));
            let (path, source) = (&self.path, &source.path);
            tracing::warn!(
                code = "HE-W307", %path, %source, %error,
                "path {path} cannot be fed from {source}: {error}"
            );
        }
        None
    }
}

fn wire_of(described: &Description) -> Wire {
    let mut rng = rand::rng();
    Wire::new(described.tracks.iter().map(|track| (Ssrc(rng.next_u32()), track.clock_rate_hz)))
}

/// The first packets of a source's tracks, from the cursor on, by track of the path.
fn firsts(path: &LivePath, feed: &Feed) -> Vec<(u8, Packet)> {
    let ring = path.ring();
    let tracks = (0_u8..).zip(&feed.fit.tracks).zip(&feed.has_begun);
    let first = |((track, fit), has_begun): ((u8, &Option<FitTrack>), &bool)| {
        let to = fit.as_ref()?.to;
        (feed.cursor..ring.end_no()).find_map(|no| {
            let batch = ring.batch(no)?;
            let mut packets = batch
                .runs_of(track)
                .iter()
                .flat_map(|run| batch.packets_of(run).iter().map(|packet| (run.ssrc, *packet)));
            let (ssrc, packet) = packets.find(|(_, packet)| *has_begun || packet.is_sync)?;
            let (received, clock) = (batch.received(), batch.clock_of(track));
            Some((to, Packet { ssrc, seq: packet.seq, ts: packet.ts, received, clock }))
        })
    };
    tracks.filter_map(first).collect()
}

/// Relays one batch.
fn relay(
    feed: &mut Feed,
    wire: &mut Wire,
    number: u32,
    batch: &PacketBatch,
    Room { cx, hub, publishers }: &mut Room<'_>,
) {
    let at = ArrivalTime { now: cx.now, utc_ns: cx.utc_ns };
    let received = batch.received();
    let mut out = Vec::new();
    let places = feed.has_begun.iter_mut().zip(&mut feed.told);
    for ((track, fit), (has_begun, told)) in (0_u8..).zip(&feed.fit.tracks).zip(places) {
        let Some(fit) = fit else { continue };
        let (target, clock) = (Target { source: number, track: fit.to }, batch.clock_of(track));
        for run in batch.runs_of(track) {
            for packet in batch.packets_of(run) {
                let bytes = batch.packet_bytes(packet);
                let its_type = bytes.get(1).map_or(0, |byte| byte & 0x7f);
                *has_begun |= packet.is_sync;
                let payload_type = fit.payload_type(its_type).filter(|_| *has_begun);
                let Some(payload_type) = payload_type else { continue };
                let (ssrc, seq, ts) = (run.ssrc, packet.seq, packet.ts);
                let numbered = Packet { ssrc, seq, ts, received, clock };
                let payload = bytes.get(usize::from(packet.header_bytes)..).unwrap_or_default();
                if packet.is_sync && wire.is_crossed(fit.to, ssrc) && lacks_sets(fit, payload) {
                    for set in &fit.sets {
                        wire.write_set((fit.to, payload_type), &numbered, set, at, &mut out);
                        publishers.handle_packet(cx, target, None, &out);
                    }
                }
                if wire.write((fit.to, payload_type), &numbered, bytes, at, &mut out) {
                    publishers.handle_packet(cx, target, None, &out);
                }
            }
        }
        if let Some(point) = clock.filter(|_| *told != clock)
            && let Some(ts) = wire.ts_at(fit.to, point, cx.utc_ns)
            && let Some((ssrc, publisher)) = wire.ssrc(fit.to).zip(publishers.get_mut(&number))
        {
            *told = clock;
            pass_clock(publisher, fit.to, ssrc, (ntp_from_utc_ns(cx.utc_ns), ts), at);
        }
    }
    publishers.feed_one(hub, number, cx.now);
}

/// Tells the path's source of the clock of the source behind it, as a sender report does.
fn pass_clock(
    publisher: &mut Publisher,
    track: u8,
    ssrc: Ssrc,
    line: (u64, crate::base::ids::RtpTs),
    at: ArrivalTime,
) {
    // The source counts a report that is not its own.
    let _foreign = publisher.source.handle_sender_report(track, None, ssrc, line, at);
}

/// Whether a key frame comes without the parameter sets of its source's description.
fn lacks_sets(fit: &FitTrack, payload: &[u8]) -> bool {
    !fit.sets.is_empty() && !KeyFrameDetector::new(fit.format).detect(payload).sets
}

/// The waiter of a source's path: no command waits. No reader has this number.
const NOBODY: u64 = u64::MAX;
/// Silence after which a source is lost where `source_timeout` does not say.
const SILENCE: Duration = Duration::from_secs(2);
/// A source whose newest packet is older is not good yet.
const FRESH: Duration = Duration::from_millis(500);
/// Batches that a relay takes in one turn: more than a group of pictures has at once.
const BATCHES_A_TURN: usize = 64;
/// More than any event takes: a refusal of each source.
const ROUNDS_MAX: usize = SOURCES_MAX + 2;
