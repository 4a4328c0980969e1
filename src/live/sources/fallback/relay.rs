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
//! Bounds: `SOURCES_MAX` sources; the packets of its share of the turn.

use std::fmt::Display;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;

use crate::base::ids::Ssrc;
use crate::base::random;
use crate::base::time::Mono;
use crate::base::wheel::Timer;
use crate::config::paths::PathConfig;
use crate::live::core::description::Description;
use crate::live::core::failover::Timing;
use crate::live::core::message::OwnerRequest;
use crate::live::core::path::PathKey;
use crate::live::core::paths::{LivePaths, Wanted};
use crate::live::core::source::ArrivalTime;
use crate::live::hub::Hub;
use crate::live::sources::announced::{Origin, description};
use crate::live::sources::fallback::choice::{
    Cause, Change, Choice, ChoiceRules, SOURCES_MAX, Step,
};
use crate::live::sources::fallback::feed::Feed;
use crate::live::sources::fallback::fit::{Fit, fit};
use crate::live::sources::fallback::operate::{Asked, LastSwitch, Shown};
use crate::live::sources::fallback::wire::Wire;
use crate::live::sources::fallback::{Share, SourceEvent, timer_key};
use crate::live::sources::publisher::{Claimant, Way};
use crate::live::sources::publishers::Publishers;
use crate::live::sources::table::OfPath;
use crate::sdp::read::read_session;
use crate::sdp::session::SessionSdp;
use crate::session::cx::Cx;

/// A relay: see the module.
#[derive(Debug)]
pub(crate) struct Relay {
    number: u32,
    pub(super) path: Arc<str>,
    pub(super) sources: Vec<RelaySource>,
    pub(super) choice: Choice,
    /// Time without a packet after which a source is lost.
    pub(super) silence: Duration,
    /// The switch that an operator waits for.
    pub(super) asked: Option<Asked>,
    pub(super) last_switch: Option<LastSwitch>,
    /// The choice is to decide anew.
    pub(super) is_unsettled: bool,
    /// A switch that waits for a key frame.
    pending: Option<Pending>,
    /// What the first source has made the path.
    identity: Option<Identity>,
    /// With no source since then, readers have ended: the next source makes the path anew.
    forgotten_at: Option<Mono>,
    hold: Duration,
    /// Each key frame has parameter sets before it.
    always_sets: bool,
    pub(super) feed: Option<Feed>,
    /// Number of the publisher that claims the path.
    publisher: Option<u32>,
    /// A publisher that is to end.
    released: Option<u32>,
    /// The source of the newest packet, and the packet's arrival.
    newest: Option<(usize, Mono)>,
    timer: Option<(Mono, Timer)>,
    has_more: bool,
    /// The relay is among those with work for this turn.
    pub(super) is_ready: bool,
}

/// The parts of the shard that a relay works with.
pub(crate) struct Room<'a> {
    pub(crate) cx: &'a mut Cx,
    pub(crate) hub: &'a mut Hub,
    pub(crate) publishers: &'a mut Publishers,
    /// Storage for a packet that is being rewritten.
    pub(crate) out: &'a mut Vec<u8>,
}

/// A path that can feed the relay's.
#[derive(Debug)]
pub(super) struct RelaySource {
    pub(super) path: Arc<str>,
    pub(super) is_wanted: bool,
    /// The description that was refused last.
    refused: Option<Arc<Description>>,
    /// Why the source is down.
    pub(super) reason: Option<String>,
    /// It is down because its encodings do not fit.
    pub(super) is_unfit: bool,
    pub(super) shown: Shown,
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

/// Streams of a path that outlive its relay.
#[derive(Debug)]
pub(super) struct Legacy {
    identity: Option<Identity>,
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
        now: Mono,
    ) -> Self {
        let sources = sources.iter().take(SOURCES_MAX).map(|path| RelaySource::new(path, now));
        let sources: Vec<_> = sources.collect();
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
            silence: rules.silence,
            asked: None,
            last_switch: None,
            is_unsettled: true,
            pending: None,
            identity: None,
            forgotten_at: Some(Mono(0)),
            hold: config.hold,
            always_sets: config.sets_before_key_frames,
            feed: None,
            publisher: None,
            released: None,
            newest: None,
            timer: None,
            has_more: false,
            is_ready: false,
        }
    }

    /// The places of its sources have changed. `None`: it has none any more.
    pub(super) fn move_places(&mut self, place_of: impl Fn(usize) -> Option<usize>) {
        self.pending = self.pending.and_then(|Pending { change, from }| {
            let to = place_of(change.to)?;
            Some(Pending { change: Change { to, ..change }, from })
        });
        // A source that is dropped has no name any more.
        let moved = |place| place_of(place).unwrap_or(usize::MAX);
        self.newest = self.newest.map(|(place, at)| (moved(place), at));
        self.last_switch = self.last_switch.map(|last| LastSwitch {
            from: last.from.map(moved),
            to: moved(last.to),
            ..last
        });
    }

    pub(crate) fn source_paths(&self) -> impl Iterator<Item = &Arc<str>> {
        self.sources.iter().map(|source| &source.path)
    }

    pub(crate) fn publisher(&self) -> Option<u32> {
        self.publisher
    }

    /// What the relay that follows this one needs, so that readers see one stream.
    pub(super) fn into_legacy(self) -> Legacy {
        Legacy { identity: self.identity }
    }

    /// Goes on with the streams of the relay before this one, whose readers wait.
    pub(super) fn inherit(&mut self, legacy: Legacy, now: Mono) {
        self.identity = legacy.identity;
        self.forgotten_at = Some(now + self.hold);
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

    /// Something has happened to a source's path. True: the relay is to go on in this turn.
    pub(crate) fn handle_source(
        &mut self,
        paths: &LivePaths,
        now: Mono,
        place: usize,
        event: SourceEvent,
    ) -> bool {
        let Some(source) = self.sources.get(place).filter(|source| source.is_wanted) else {
            return false;
        };
        match event {
            SourceEvent::Fed if self.choice.is_good(place) => {
                self.choice.handle_batch(place, now);
                self.is_unsettled |= self.choice.due().is_some_and(|due| due <= now);
                return self.is_unsettled || self.awaits(place);
            }
            SourceEvent::Fed => {
                let Some(path) = paths.path(&source.path) else { return false };
                let newest = path.ring().newest().map(|batch| batch.received());
                if newest.is_none_or(|received| now.since(received) > FRESH) {
                    return false;
                }
                let described = Arc::clone(path.description());
                match self.fit_of(place, &described, now) {
                    Ok(_) => self.choice.handle_batch(place, now),
                    Err(error) => self.fail(place, &error, now),
                }
                self.is_unsettled = true;
            }
            SourceEvent::Lost => {
                self.choice.handle_lost(place, now);
                self.note_reason(place, &"its source has gone", false);
                self.is_unsettled = true;
            }
            SourceEvent::Gone(Some(refusal)) => self.fail(place, &refusal, now),
            SourceEvent::Gone(None) => self.fail(place, &"its path has ended", now),
        }
        true
    }

    /// Whether a batch of this source is to be relayed, or may have the key frame of a switch.
    fn awaits(&self, place: usize) -> bool {
        self.feed.as_ref().is_none_or(|feed| feed.source == place)
            || self.pending.is_some_and(|pending| pending.change.to == place)
    }

    fn fail(&mut self, place: usize, reason: &dyn Display, now: Mono) {
        self.choice.handle_failed(place, now);
        if let Some(source) = self.sources.get_mut(place) {
            source.is_wanted = false;
        }
        let is_unfit = self.sources.get(place).is_some_and(|source| source.is_unfit);
        self.note_reason(place, reason, is_unfit);
        self.is_unsettled = true;
    }

    fn note_reason(&mut self, place: usize, reason: &dyn Display, is_unfit: bool) {
        if let Some(source) = self.sources.get_mut(place) {
            (source.reason, source.is_unfit) = (Some(reason.to_string()), is_unfit);
        }
    }

    /// Keeps the paths of the sources. True: the relay is to decide anew.
    pub(crate) fn renew(&mut self, room: &mut Room<'_>) -> bool {
        for place in 0..self.sources.len() {
            if self.sources.get(place).is_some_and(|source| source.is_wanted) {
                self.want(room, place);
            }
        }
        self.is_unsettled
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
            Wanted::TooMany => self.fail(place, &"too many paths", cx.now),
        }
    }

    /// Decides, switches and relays what there is to relay, as far as the share goes.
    pub(crate) fn go_on(&mut self, room: &mut Room<'_>, share: &mut Share) {
        self.has_more = false;
        // Bounded: each round ends a switch or a subscription.
        for _ in 0..ROUNDS_MAX {
            if std::mem::take(&mut self.is_unsettled) {
                self.settle(room);
            }
            self.pump(room, share);
            self.try_switch(room);
            if !self.is_unsettled {
                break;
            }
        }
        self.pump(room, share);
        self.answer_switch();
        self.set_timer(room.cx);
    }

    fn settle(&mut self, room: &mut Room<'_>) {
        let mut steps = Vec::new();
        let pinned = self.choice.pinned();
        let was_good = pinned.is_some_and(|place| self.choice.is_good(place));
        self.choice.settle(room.cx.now, &mut steps);
        if let Some(place) = pinned.filter(|_| self.choice.pinned().is_none()) {
            self.refuse_switch(was_good);
            let (path, source) = (&self.path, self.name(place));
            tracing::info!(
                code = "HE-I315", event = "path.unpinned", %path, source,
                "path {path} is not kept at {source} any more, which is lost or late"
            );
        }
        for step in steps {
            match step {
                Step::Want(place) => {
                    if let Some(source) = self.sources.get_mut(place)
                        && source.shown.is_off()
                    {
                        source.reason = None;
                    }
                    self.want(room, place);
                }
                Step::Leave(place) => {
                    if let Some(source) = self.sources.get_mut(place) {
                        source.is_wanted = false;
                        room.hub.paths.forget_waiter(&source.path, NOBODY);
                    }
                }
                Step::Switch(change) => self.await_switch(room, change),
                Step::Release => self.release(room.cx.now),
            }
        }
        if self.choice.pending().is_none() {
            self.pending = None;
            // The source that fed the path has left the list, and no other one is good.
            if self.choice.active().is_none() && self.publisher.is_some() {
                self.release(room.cx.now);
            }
        }
        self.note_standings(room.cx.now);
    }

    /// Nothing feeds the path: its claim ends, and its readers wait.
    fn release(&mut self, now: Mono) {
        self.feed = None;
        self.released = self.publisher.take().or(self.released);
        self.forgotten_at = Some(now + self.hold);
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
        let fit = match self.fit_of(place, &described, room.cx.now) {
            Ok(fit) => fit,
            Err(error) => return self.fail(place, &error, room.cx.now),
        };
        let Some(path) = self.sources.get(place).and_then(|s| room.hub.paths.path(&s.path)) else {
            return;
        };
        let feed = Feed::new(place, path, fit, start);
        let at = ArrivalTime { now: room.cx.now, utc_ns: room.cx.utc_ns };
        let firsts = feed.firsts(path);
        match &mut self.identity {
            Some(identity) => identity.wire.cross(&firsts, at),
            None => self.identity = Identity::of(&described, self.always_sets),
        }
        let first = path.ring().batch(start).map(|batch| batch.received());
        self.note_switch(room, change, first.unwrap_or(room.cx.now));
        (self.feed, self.forgotten_at) = (Some(feed), None);
        self.claim(room, place);
        self.refuse_unfit(room);
        if self.pending.take().is_some() {
            self.choice.handle_switched(place, room.cx.now);
            self.is_unsettled = true;
        }
    }

    /// Refuses sources that were good before the path was what it is now.
    fn refuse_unfit(&mut self, room: &Room<'_>) {
        for place in 0..self.sources.len() {
            if !self.choice.is_good(place) {
                continue;
            }
            let path = self.sources.get(place).and_then(|s| room.hub.paths.path(&s.path));
            let Some(described) = path.map(|path| Arc::clone(path.description())) else { continue };
            if let Err(error) = self.fit_of(place, &described, room.cx.now) {
                self.fail(place, &error, room.cx.now);
            }
        }
    }

    /// Logs and counts a switch.
    fn note_switch(&mut self, Room { cx, .. }: &mut Room<'_>, change: Change, first: Mono) {
        let name = |place: usize| self.sources.get(place).map_or("", |source| &*source.path);
        let mut switch = LastSwitch {
            from: self.newest.map(|(from, _)| from),
            to: change.to,
            cause: change.cause,
            gap: None,
            at: cx.now,
        };
        let (path, to) = (&self.path, name(change.to));
        let Some((from, last)) = self.newest else {
            let cause = change.cause.label();
            tracing::info!(
                code = "HE-I314", event = "path.switch", %path, to, cause,
                "path {path} is fed from {to}"
            );
            self.last_switch = Some(switch);
            return;
        };
        // With the path released meanwhile: the source before was lost all the same.
        let cause = if change.cause == Cause::Start { Cause::Lost } else { change.cause };
        let gap = first.since(last);
        (switch.cause, switch.gap) = (cause, Some(gap));
        let (from, gap_ms) = (name(from), gap.as_millis());
        cx.cells.handovers[cause as usize].add(1);
        let cause = cause.label();
        let gap_ns = u64::try_from(gap.as_nanos()).unwrap_or(u64::MAX);
        cx.cells.handover_gap.observe_ns(gap_ns);
        tracing::info!(
            code = "HE-I314", event = "path.switch", %path, from, to, cause, gap_ms,
            "path {path} is fed from {to} instead of {from} ({cause}), {gap_ms} ms without packets"
        );
        self.last_switch = Some(switch);
    }

    /// Claims the path, or names its source anew.
    fn claim(&mut self, Room { cx, hub, publishers, .. }: &mut Room<'_>, place: usize) {
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
    fn pump(&mut self, room: &mut Room<'_>, share: &mut Share) {
        let Some(number) = self.publisher else { return };
        let Some(publisher) = room.publishers.get(&number) else {
            (self.publisher, self.feed) = (None, None);
            return;
        };
        if !publisher.is_recording() {
            return;
        }
        while !share.is_spent() {
            let Some(feed) = &mut self.feed else { return };
            let source = self.sources.get(feed.source);
            let path = source.and_then(|source| room.hub.paths.path(&source.path));
            let Some(path) = path.filter(|path| feed.continues_in(path)) else {
                self.feed = None;
                return;
            };
            let Some(batch) = path.ring().batch(feed.cursor).map(Arc::clone) else { return };
            feed.cursor += 1;
            share.spend(batch.packet_count());
            self.newest = Some((feed.source, batch.received()));
            if let Some(identity) = &mut self.identity {
                feed.relay(&mut identity.wire, number, &batch, room);
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

    /// How a source's tracks feed those of the path, or why they do not fit. Before the first
    /// source feeds the path, each fits.
    fn fit_of(
        &mut self,
        place: usize,
        described: &Arc<Description>,
        now: Mono,
    ) -> Result<Fit, String> {
        if self.forgotten_at.is_some_and(|at| at <= now) {
            (self.identity, self.newest, self.forgotten_at) = (None, None, None);
        }
        let sdp = read_session(described.text(false).as_bytes()).map_err(|e| e.to_string())?;
        let found = fit(self.identity.as_ref().map_or(&sdp, |identity| &identity.sdp), &sdp);
        let Some(source) = self.sources.get_mut(place) else { return Err(String::new()) };
        source.is_unfit = found.is_err();
        let error = match found {
            Ok(fit) => return Ok(fit),
            Err(error) => error,
        };
        let is_told = source.refused.as_ref().is_some_and(|told| told.continues(described));
        if !is_told {
            source.refused = Some(Arc::clone(described));
            let (path, source) = (&self.path, &source.path);
            tracing::warn!(
                code = "HE-W307", %path, %source, %error,
                "path {path} cannot be fed from {source}: {error}"
            );
        }
        Err(error.to_string())
    }
}

impl RelaySource {
    pub(super) fn new(path: &Arc<str>, now: Mono) -> Self {
        Self {
            path: Arc::clone(path),
            is_wanted: false,
            refused: None,
            reason: None,
            is_unfit: false,
            shown: Shown::new(now),
        }
    }
}

impl Identity {
    /// As of the first source of a path.
    fn of(described: &Description, always_sets: bool) -> Option<Self> {
        let mut rng = random::rng();
        let sdp = read_session(described.text(false).as_bytes()).ok()?;
        let tracks = described.tracks.iter();
        let wire = Wire::new(tracks.map(|track| (Ssrc(rng.next_u32()), track.clock_rate_hz)));
        Some(Self { sdp, wire: wire.with_sets(always_sets) })
    }
}

/// The waiter of a source's path: no command waits. No reader has this number.
pub(super) const NOBODY: u64 = u64::MAX;
/// Silence after which a source is lost where `source_timeout` does not say.
const SILENCE: Duration = Duration::from_secs(2);
/// A source whose newest packet is older is not good yet.
const FRESH: Duration = Duration::from_millis(500);
/// More than any event takes: a refusal of each source.
const ROUNDS_MAX: usize = SOURCES_MAX + 2;
