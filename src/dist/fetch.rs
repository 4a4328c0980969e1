//! Fetching one content at a node: from which source, from which offset, and when to leave it.
//!
//! ```text
//!          sources            first byte
//! (none) -----------> opening -----------> active <--.      lost, stalled, bad, busy: the next
//!                        ^                   |       |      source of the list, same offset
//!                        |  better source    v       |
//!                        '------------ active + opening     make before break
//! ```
//! A source that gives no byte for the stall time is asked how much it has. If it has no more than
//! this node, it is starved and is waited for; it will change its own source. If it does not
//! answer, or has more, it is left, unless it says that a rate or a window holds its streams back.
//! So a cut far away does not move every node behind it.
//!
//! A source that gets much more than it gives is slow (`pace`): the next one of the list, which is
//! the source of that source, takes its place. Where that brings no more, this node is slow itself,
//! and stays. A source that the plan has other use for is left, too: at once when the one that the
//! plan has instead lives, even if it has nothing for this node yet.
//!
//! Where the source in use, the main one, gives less than it gets, further ones may give parts
//! ahead of it (`further`). Then the main one is asked for parts, too, so that it sends nothing
//! that is here; while there is nothing for it to do it rests.
//!
//! Invariants: a link without a part is opened at the verified offset; bytes of one such link count
//! at a time; at most two links to main sources are there; a source that sent a bad unit is not
//! asked again while another one is left.
//! Bounds: each source is tried once in a round; a round without a new byte ends in `GaveUp`.

mod actions;
mod further;
mod lane;
mod pace;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::time::Duration;

use crate::base::time::Mono;
use crate::dist::ids::{Epoch, NodeName};
use crate::dist::wire::agent::{Source, SwitchCause};
use crate::dist::wire::job::Reason;
use crate::dist::wire::peer::{Alternative, ContentState};
pub use actions::{AskId, FetchAction, GaveUp, LinkEvent, LinkId, Part, Peer};
use further::Further;
use lane::Lane;
use pace::{Meter, Watch};

/// One content on its way to a node.
#[derive(Debug)]
pub struct Fetch {
    me: NodeName,
    epoch: Option<Epoch>,
    sources: Vec<Source>,
    have: u64,
    size: Option<u64>,
    active: Option<Link>,
    opening: Option<Link>,
    again: Option<Again>,
    asked: Option<Asked>,
    /// Sources that failed in this round.
    tried: BTreeSet<Peer>,
    /// Sources that sent a bad unit.
    bad: BTreeSet<Peer>,
    round: Round,
    state: State,
    meter: Meter,
    watch: Watch,
    /// The job keeps to a rate: then a source that gives less than it gets is not slow.
    is_capped: bool,
    /// The last source that was left because it was slow: when, and what it gave.
    slow: Option<(Mono, u64)>,
    switches: VecDeque<Mono>,
    has_switched: bool,
    next_link: u32,
    next_ask: u32,
    via: BTreeMap<String, u64>,
    further: Further,
    lane: Lane,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Over,
}

/// What a round of attempts has seen.
#[derive(Debug, Clone, Copy, Default)]
struct Round {
    from: u64,
    busy: Option<Duration>,
    is_refused: bool,
}

#[derive(Debug)]
struct Link {
    id: LinkId,
    source: Source,
    cause: SwitchCause,
    /// The first byte that was asked for.
    from: u64,
    /// Of the connection, or of the last byte.
    alive_at: Mono,
    starved: u8,
    /// Bytes per second that came from the source that it is to replace.
    before: Option<u64>,
    /// It was asked whether it lives.
    is_asked: bool,
    /// The plan has other use for its source now.
    is_left: bool,
}

/// A source that did not know the content is asked again.
#[derive(Debug)]
struct Again {
    source: Source,
    cause: SwitchCause,
    since: Mono,
    at: Mono,
    pause: Duration,
}

#[derive(Debug)]
struct Asked {
    id: AskId,
    since: Mono,
    about: About,
}

#[derive(Debug)]
enum About {
    /// The source of this link.
    Link(LinkId),
    /// Another source, while this link is starved.
    Candidate(Source, LinkId),
    /// The source of this link, which is in use, whether it keeps up.
    Pace(LinkId),
    /// The source of this link, which is to replace one that the plan does not have any more.
    Heir(LinkId),
}

impl Fetch {
    /// A content of which `have` bytes are verified.
    #[must_use]
    pub fn new(me: NodeName, have: u64, size: Option<u64>) -> Self {
        Self {
            me,
            epoch: None,
            sources: Vec::new(),
            have,
            size,
            active: None,
            opening: None,
            again: None,
            asked: None,
            tried: BTreeSet::new(),
            bad: BTreeSet::new(),
            round: Round { from: have, ..Round::default() },
            state: State::Running,
            meter: Meter::default(),
            watch: Watch::default(),
            is_capped: false,
            slow: None,
            switches: VecDeque::new(),
            has_switched: false,
            next_link: 1,
            next_ask: 1,
            via: BTreeMap::new(),
            further: Further::default(),
            lane: Lane::default(),
        }
    }

    /// Bytes ahead of the verified ones that are here already.
    pub fn set_here(&mut self, ranges: Vec<Range<u64>>) {
        self.further.set_here(ranges);
    }

    /// Whether the job keeps to a rate.
    pub fn set_capped(&mut self, is_capped: bool) {
        self.is_capped = is_capped;
    }

    /// Verified bytes.
    #[must_use]
    pub fn have(&self) -> u64 {
        self.have
    }

    /// Bytes per second, over about three seconds.
    #[must_use]
    pub fn rate(&self) -> u64 {
        self.meter.rate
    }

    /// Bytes by source since this fetch was made; `base` is the base.
    #[must_use]
    pub fn via(&self) -> &BTreeMap<String, u64> {
        &self.via
    }

    /// Sources of the link in use, the nearest first.
    #[must_use]
    pub fn source(&self) -> Option<&Source> {
        self.active.as_ref().map(|link| &link.source)
    }

    /// True when no byte came for a while: others may use its slot.
    #[must_use]
    pub fn is_idle(&self, now: Mono) -> bool {
        let main = self.active.as_ref().or(self.opening.as_ref());
        main.is_none_or(|link| now.since(link.alive_at) >= STALL)
    }

    /// Another base has taken over: its plan counts, whatever its number.
    pub fn handle_new_base(&mut self) {
        self.epoch = None;
    }

    /// Takes a plan. An older one has no effect; the same one again may renew capabilities.
    pub fn handle_sources(
        &mut self,
        epoch: Epoch,
        sources: Vec<Source>,
        now: Mono,
        out: &mut Vec<FetchAction>,
    ) {
        if self.epoch.is_some_and(|known| epoch < known) || self.state != State::Running {
            return;
        }
        let is_new = self.epoch != Some(epoch);
        self.epoch = Some(epoch);
        self.sources = sources;
        self.sources.retain(|source| source.node.as_ref() != Some(&self.me));
        if !is_new {
            return;
        }
        self.tried.clear();
        self.again = None;
        for link in [&mut self.active, &mut self.opening].into_iter().flatten() {
            let node = &link.source.node;
            let listed = self.sources.iter().find(|source| source.node == *node);
            link.is_left = listed.is_none_or(|source| source.is_last_resort);
        }
        if self.active.is_some() {
            return;
        }
        let first = self.choose(None).map(|source| source.node.clone());
        if let Some(opening) =
            self.opening.take_if(|link| Some(&link.source.node) != first.as_ref())
        {
            out.push(FetchAction::Close { link: opening.id });
        }
        if self.opening.is_none() {
            self.advance(SwitchCause::Plan, now, out);
        }
    }

    /// A source that has no room for this node has named others that have more, by name and
    /// address: they are asked before those that are further up. To be told before
    /// [`LinkEvent::Busy`]; the next plan has its own sources.
    pub fn handle_alternatives(&mut self, link: LinkId, others: &[Alternative]) {
        let mut links = [&self.active, &self.opening].into_iter().flatten();
        let Some(busy) = links.find(|known| known.id == link).map(|link| link.source.clone())
        else {
            return;
        };
        let listed = self.sources.iter().position(|source| source.node == busy.node);
        let mut at = listed.map_or(0, |at| at + 1);
        for Alternative { node, addr } in others {
            let is_known = self.sources.iter().any(|source| source.node.as_ref() == Some(node));
            if is_known || *node == self.me || self.sources.len() >= SOURCES_MAX {
                continue;
            }
            let (node, addr) = (Some(node.clone()), addr.clone());
            let other = Source { node, addr, rate: 0, is_last_resort: false, ..busy.clone() };
            self.sources.insert(at, other);
            at += 1;
        }
    }

    /// Takes what happened on a link. Links that were closed have no effect.
    pub fn handle_link(
        &mut self,
        link: LinkId,
        event: LinkEvent,
        now: Mono,
        out: &mut Vec<FetchAction>,
    ) {
        if self.further.is_part(link) && self.state == State::Running {
            return self.handle_part(link, event, now, out);
        }
        let is_active = self.active.as_ref().is_some_and(|active| active.id == link);
        let is_opening = self.opening.as_ref().is_some_and(|opening| opening.id == link);
        if self.state == State::Over || !(is_active || is_opening) {
            return;
        }
        match event {
            LinkEvent::FirstByte if is_opening => self.take_over(now, out),
            LinkEvent::FirstByte => self.begin_lane(link, out),
            LinkEvent::Grew { have, bytes, at } => self.grow(have, bytes, at, now, out),
            LinkEvent::Done | LinkEvent::Behind { .. } if is_active => {
                self.end_lane(event == LinkEvent::Done, now, out);
            }
            LinkEvent::Done | LinkEvent::Behind { .. } => {}
            LinkEvent::Held => {
                if let Some(main) = self.main_mut().filter(|main| main.id == link) {
                    main.alive_at = now;
                }
            }
            LinkEvent::Whole => self.complete(out),
            LinkEvent::Lost | LinkEvent::Unreachable => {
                self.fail(link, SwitchCause::Lost, now, out);
            }
            LinkEvent::Busy { retry_after } => {
                let least = self.round.busy.map_or(retry_after, |busy| busy.min(retry_after));
                self.round.busy = Some(least);
                self.fail(link, SwitchCause::Busy, now, out);
            }
            LinkEvent::NotYet => self.wait_for(link, now, out),
            LinkEvent::Refused => {
                self.round.is_refused = true;
                self.fail(link, SwitchCause::Lost, now, out);
            }
            LinkEvent::BadUnit { unit } => {
                let found = [&self.active, &self.opening].into_iter().flatten();
                if let Some(source) = found.into_iter().find(|known| known.id == link) {
                    let source = source.source.node.clone();
                    self.bad.insert(source.clone());
                    out.push(FetchAction::BadUnit { source, unit });
                }
                self.fail(link, SwitchCause::BadUnit, now, out);
            }
        }
    }

    /// Takes the answer to a question; `None` when there was none in time.
    pub fn handle_state(
        &mut self,
        ask: AskId,
        state: Option<&ContentState>,
        now: Mono,
        out: &mut Vec<FetchAction>,
    ) {
        let Some(asked) = self.asked.take_if(|asked| asked.id == ask) else { return };
        let has_more = state.is_some_and(|state| {
            (state.have > self.have || state.end.is_some()) && !state.via.contains(&self.me)
        });
        match asked.about {
            About::Link(link) => {
                let Some(main) = self.main_mut().filter(|main| main.id == link) else { return };
                if now.since(main.alive_at) < STALL {
                    return;
                }
                if state.is_some_and(|state| state.is_held) {
                    // It is slow on purpose: another source would keep to the same policy.
                    main.alive_at = now;
                    return;
                }
                let is_starved =
                    !has_more && state.is_some_and(|state| !state.via.contains(&self.me));
                if !is_starved {
                    return self.fail(link, SwitchCause::Stall, now, out);
                }
                let Some(main) = self.main_mut() else { return };
                main.alive_at = now;
                main.starved = main.starved.saturating_add(1);
                if main.starved >= STARVED_MAX {
                    main.starved = STARVED_MAX.saturating_sub(2);
                    self.ask_candidate(link, now, out);
                }
            }
            About::Candidate(source, link) => {
                let is_needed = self.main_mut().is_some_and(|main| main.id == link)
                    && (self.active.is_none() || self.opening.is_none());
                if !is_needed {
                    return;
                }
                if !has_more {
                    // Another one is asked the next time.
                    self.tried.insert(source.node);
                    return;
                }
                if self.active.is_none()
                    && let Some(opening) = self.opening.take()
                {
                    out.push(FetchAction::Close { link: opening.id });
                }
                self.open(source, SwitchCause::Stall, now, out);
            }
            About::Pace(link) => {
                let is_needed = self.active.as_ref().is_some_and(|active| active.id == link);
                match state.filter(|state| is_needed && !state.via.contains(&self.me)) {
                    // It is slow on purpose: nothing of before counts.
                    Some(state) if state.is_held || self.is_capped => {
                        self.further.note_lag(state.have, self.have);
                        self.watch.restart(now);
                    }
                    Some(state) => self.compare(state.have, now, out),
                    None => self.watch.pass(now),
                }
            }
            About::Heir(link) => {
                let lives = state.is_some_and(|state| !state.via.contains(&self.me));
                let is_opening = self.opening.as_ref().is_some_and(|opening| opening.id == link);
                // It has more: its first byte is about to come.
                if is_opening && lives && !has_more {
                    self.give_up_active(out);
                }
            }
        }
    }

    /// Lets time pass: to be called some times a second.
    pub fn handle_time(&mut self, now: Mono, out: &mut Vec<FetchAction>) {
        if self.state != State::Running {
            return;
        }
        self.meter.roll(now);
        self.keep_lane(now, out);
        if let Some(again) = self.again.as_mut().filter(|again| now >= again.at) {
            // Kept for how long it has been asked; its link says when it is next.
            again.at = Mono(u64::MAX);
            let (source, cause) = (again.source.clone(), again.cause);
            self.open(source, cause, now, out);
        }
        if self.asked.as_ref().is_some_and(|asked| now.since(asked.since) >= ASK_MAX) {
            let ask = self.asked.as_ref().map(|asked| asked.id);
            if let Some(ask) = ask {
                self.handle_state(ask, None, now, out);
            }
        }
        if self.active.is_some()
            && let Some(slow) = self.opening.as_ref().filter(|l| now.since(l.alive_at) >= STALL)
        {
            let link = slow.id;
            self.fail(link, SwitchCause::Stall, now, out);
        }
        if let Some(main) = self.main_mut().filter(|main| now.since(main.alive_at) >= STALL) {
            let (link, source) = (main.id, main.source.clone());
            match &mut self.asked {
                None => self.ask(About::Link(link), source, now, out),
                // The answer says that, too.
                Some(Asked { about, .. }) if matches!(about, About::Pace(_)) => {
                    *about = About::Link(link);
                }
                Some(_) => {}
            }
        }
        self.follow_plan(now, out);
        self.ask_heir(now, out);
        self.look_at_pace(now, out);
    }

    /// Closes all links: the content is not wanted any more, or cannot be written.
    pub fn stop(&mut self, out: &mut Vec<FetchAction>) {
        for link in [self.active.take(), self.opening.take()].into_iter().flatten() {
            out.push(FetchAction::Close { link: link.id });
        }
        self.further.stop(out);
        (self.asked, self.again, self.state) = (None, None, State::Over);
    }

    fn main_mut(&mut self) -> Option<&mut Link> {
        self.active.as_mut().or(self.opening.as_mut())
    }

    /// The first source that is neither bad nor tried nor `other`.
    fn choose(&self, other: Option<&Peer>) -> Option<&Source> {
        self.sources.iter().find(|source| {
            Some(&source.node) != other
                && !self.tried.contains(&source.node)
                && !self.bad.contains(&source.node)
        })
    }

    fn open(&mut self, source: Source, cause: SwitchCause, now: Mono, out: &mut Vec<FetchAction>) {
        let id = LinkId(self.next_link);
        self.next_link = self.next_link.wrapping_add(1);
        let cause = if self.has_switched { cause } else { SwitchCause::First };
        let (link, from, is_slow) = (id, self.have, cause == SwitchCause::Slow);
        let to = source.clone();
        out.push(FetchAction::Connect { link, source: to, from, part: None, is_slow });
        self.opening = Some(Link {
            id,
            source,
            cause,
            from,
            alive_at: now,
            starved: 0,
            before: None,
            is_asked: false,
            is_left: false,
        });
    }

    fn ask(&mut self, about: About, source: Source, now: Mono, out: &mut Vec<FetchAction>) {
        let id = AskId(self.next_ask);
        self.next_ask = self.next_ask.wrapping_add(1);
        out.push(FetchAction::Ask { ask: id, source });
        self.asked = Some(Asked { id, since: now, about });
    }

    fn ask_candidate(&mut self, link: LinkId, now: Mono, out: &mut Vec<FetchAction>) {
        let current = self.main_mut().map(|main| main.source.node.clone());
        let candidate = self.choose(current.as_ref()).cloned().or_else(|| {
            // All were asked: from the start of the list again.
            self.tried.clear();
            self.choose(current.as_ref()).cloned()
        });
        if let Some(source) = candidate {
            self.ask(About::Candidate(source.clone(), link), source, now, out);
        }
    }

    /// The link that was opened takes over from the one in use.
    fn take_over(&mut self, now: Mono, out: &mut Vec<FetchAction>) {
        let Some(mut link) = self.opening.take() else { return };
        if let Some(old) = self.active.take() {
            out.push(FetchAction::Close { link: old.id });
        }
        self.again = None;
        link.alive_at = now;
        self.lane = Lane::whole(link.from);
        let before = link.before.unwrap_or(self.meter.rate);
        let (source, cause) = (link.source.node.clone(), link.cause);
        out.push(FetchAction::Use { link: link.id });
        out.push(FetchAction::Switched { source, cause, before });
        if cause == SwitchCause::Slow {
            self.slow = Some((now, before));
        }
        self.watch.restart(now);
        if std::mem::replace(&mut self.has_switched, true) {
            self.switches.push_back(now);
        }
        if self.switches.len() > SWITCHES_PER_MINUTE {
            self.switches.pop_front();
        }
        self.active = Some(link);
    }

    fn grow(&mut self, have: u64, bytes: u64, at: u64, now: Mono, out: &mut Vec<FetchAction>) {
        let Some(active) = self.active.as_mut() else { return };
        active.alive_at = now;
        active.starved = 0;
        let node = active.source.node.clone();
        self.count(&node, have, bytes, now);
        self.lane.meter.add(bytes, now);
        let (before, at) = (self.lane.at, self.lane.at.max(at));
        self.lane.at = at;
        self.further.add(before, at, self.have);
        self.follow_lane(now, out);
    }

    /// Bytes came from a source.
    fn count(&mut self, node: &Peer, have: u64, bytes: u64, now: Mono) {
        let name = node.as_ref().map_or("base", NodeName::as_str);
        if let Some(sum) = self.via.get_mut(name) {
            *sum += bytes;
        } else {
            self.via.insert(name.to_owned(), bytes);
        }
        self.have = self.have.max(have);
        self.meter.add(bytes, now);
    }

    fn complete(&mut self, out: &mut Vec<FetchAction>) {
        self.stop(out);
        out.push(FetchAction::Whole);
    }

    /// A source that does not know the content yet is asked again, for a while.
    fn wait_for(&mut self, link: LinkId, now: Mono, out: &mut Vec<FetchAction>) {
        let is_main = self.active.is_none();
        let Some(opening) = self.opening.take_if(|opening| is_main && opening.id == link) else {
            return self.fail(link, SwitchCause::Lost, now, out);
        };
        let known = self.again.take();
        let known = known.filter(|again| again.source.node == opening.source.node);
        let (since, pause) = known.map_or((now, NOT_YET_FIRST), |again| (again.since, again.pause));
        if now.since(since) >= NOT_YET_MAX {
            self.opening = Some(opening);
            return self.fail(link, SwitchCause::Lost, now, out);
        }
        out.push(FetchAction::Close { link });
        let Link { source, cause, .. } = opening;
        let next_pause = (pause * 2).min(NOT_YET_STEP_MAX);
        self.again = Some(Again { source, cause, since, at: now + pause, pause: next_pause });
    }

    /// A link is over; the next source follows where nothing else is open.
    fn fail(&mut self, link: LinkId, cause: SwitchCause, now: Mono, out: &mut Vec<FetchAction>) {
        let slots = [&mut self.active, &mut self.opening];
        let Some(failed) =
            slots.into_iter().find_map(|slot| slot.take_if(|known| known.id == link))
        else {
            return;
        };
        out.push(FetchAction::Close { link });
        self.tried.insert(failed.source.node.clone());
        self.again = None;
        match (&self.active, &mut self.opening) {
            (Some(_), _) => {}
            (None, Some(opening)) => opening.cause = cause,
            (None, None) => {
                // Some bytes came: what failed before may be well again, but is tried last.
                if self.have > self.round.from {
                    self.begin_round();
                    self.tried.insert(failed.source.node);
                    if self.choose(None).is_none() {
                        self.tried.clear();
                    }
                }
                self.advance(cause, now, out);
            }
        }
    }

    fn begin_round(&mut self) {
        self.tried.clear();
        self.round = Round { from: self.have, ..Round::default() };
    }

    /// Opens the next source, or gives up.
    fn advance(&mut self, cause: SwitchCause, now: Mono, out: &mut Vec<FetchAction>) {
        if self.sources.is_empty() {
            return;
        }
        if let Some(source) = self.choose(None).cloned() {
            return self.open(source, cause, now, out);
        }
        self.state = State::Over;
        self.asked = None;
        self.further.stop(out);
        let is_bad = self.sources.iter().all(|source| self.bad.contains(&source.node));
        let reason = if is_bad { Reason::BadHash } else { Reason::NoSource };
        let Round { busy, is_refused, .. } = self.round;
        out.push(FetchAction::GaveUp(GaveUp { reason, busy, is_refused }));
    }

    /// Opens the plan's first choice beside the link in use, where that is worth it.
    fn follow_plan(&mut self, now: Mono, out: &mut Vec<FetchAction>) {
        let (Some(active), None) = (&self.active, &self.opening) else { return };
        let Some(first) = self.choose(None) else { return };
        if first.node == active.source.node {
            return;
        }
        let pays = self.is_faster(first.rate) && self.may_change(now);
        if !active.is_left && !pays {
            return;
        }
        let first = first.clone();
        self.open(first, SwitchCause::Plan, now, out);
    }

    /// Asks the source that is to replace one that the plan does not have any more, once.
    fn ask_heir(&mut self, now: Mono, out: &mut Vec<FetchAction>) {
        let is_left = self.active.as_ref().is_some_and(|active| active.is_left);
        if self.asked.is_some() || !is_left {
            return;
        }
        let Some(heir) = self.opening.as_mut().filter(|opening| !opening.is_asked) else { return };
        heir.is_asked = true;
        let (link, source) = (heir.id, heir.source.clone());
        self.ask(About::Heir(link), source, now, out);
    }

    /// Asks the source in use how much it has, where another one could take its place, or give
    /// parts beside it.
    fn look_at_pace(&mut self, now: Mono, out: &mut Vec<FetchAction>) {
        let is_free = self.opening.is_none() && self.asked.is_none() && self.watch.is_due(now);
        // Where no byte comes any more, another question is next.
        let flows = |active: &&Link| is_free && now.since(active.alive_at) < QUIET;
        let Some(active) = self.active.as_ref().filter(flows) else { return };
        let may_be_left = !self.is_capped && self.next_behind(&active.source.node).is_some();
        let is_of_use = may_be_left || self.further.waits_for_lag();
        if !is_of_use || self.is_nearly_done() {
            return self.watch.pass(now);
        }
        let (link, source) = (active.id, active.source.clone());
        self.ask(About::Pace(link), source, now, out);
    }

    /// The source in use has so much: where it is slow, the next one of the list is opened.
    fn compare(&mut self, theirs: u64, now: Mono, out: &mut Vec<FetchAction>) {
        self.further.note_lag(theirs, self.have);
        // With others beside it a source may be slow.
        let narrow = self.watch.add(now, self.have, theirs);
        let Some(before) = narrow.filter(|_| !self.further.is_active(now)) else { return };
        // Of two sources in a row that are slow it is this node that is.
        let is_mine =
            self.slow.is_some_and(|(at, rate)| now.since(at) < MINUTE && !is_more(before, rate));
        let Some(active) = self.active.as_ref().filter(|_| !is_mine) else { return };
        let next = self.next_behind(&active.source.node).cloned();
        if let Some(next) = next.filter(|_| self.opening.is_none() && self.may_change(now)) {
            self.tried.insert(active.source.node.clone());
            self.open(next, SwitchCause::Slow, now, out);
            self.opening.iter_mut().for_each(|opening| opening.before = Some(before));
        }
    }

    /// The source behind this one in the list that may be asked.
    fn next_behind(&self, node: &Peer) -> Option<&Source> {
        let behind = self.sources.iter().skip_while(|source| source.node != *node).skip(1);
        let mut behind = behind.filter(|source| !self.bad.contains(&source.node));
        behind.find(|source| !self.tried.contains(&source.node))
    }

    /// The source in use is wanted by others: this node waits for its next one.
    fn give_up_active(&mut self, out: &mut Vec<FetchAction>) {
        if let Some(active) = self.active.take_if(|active| active.is_left) {
            out.push(FetchAction::Close { link: active.id });
        }
    }

    fn is_faster(&self, rate: u64) -> bool {
        is_more(rate, self.meter.rate)
    }

    /// A source that works may be left for a better one.
    fn may_change(&self, now: Mono) -> bool {
        let is_soon = self.switches.back().is_some_and(|at| now.since(*at) < DWELL);
        let is_often = self.switches.len() >= SWITCHES_PER_MINUTE
            && self.switches.front().is_some_and(|at| now.since(*at) < MINUTE);
        !is_soon && !is_often && !self.is_nearly_done()
    }

    fn is_nearly_done(&self) -> bool {
        let rate = u128::from(self.meter.rate.max(1));
        let left_ms =
            self.size.map(|size| u128::from(size.saturating_sub(self.have)) * 1_000 / rate);
        left_ms.is_some_and(|ms| ms < NEARLY_DONE.as_millis())
    }
}

/// A change is worth it when it brings a quarter more.
fn is_more(rate: u64, than: u64) -> bool {
    rate > than.saturating_add(than / 4)
}

/// Sources in a list, with those that others have named.
const SOURCES_MAX: usize = 16;
/// Without a byte for so long a source is asked how it is. With the time for an answer, a source
/// that was cut off is left after about two seconds.
pub const STALL: Duration = Duration::from_millis(1_500);
/// Without a byte for so long a source is not asked whether it keeps up.
const QUIET: Duration = Duration::from_secs(1);
/// Without an answer for so long a source is dead; the caller's limit comes first.
const ASK_MAX: Duration = Duration::from_millis(1_000);
/// Starved answers before another source is asked whether it has more.
const STARVED_MAX: u8 = 5;
/// Between two changes for a better rate's sake.
const DWELL: Duration = Duration::from_secs(3);
/// Such changes in one minute.
const SWITCHES_PER_MINUTE: usize = 6;
const MINUTE: Duration = Duration::from_secs(60);
/// A change does not pay for what is left in so short a time.
const NEARLY_DONE: Duration = Duration::from_secs(2);
/// First pause before a source that does not know a content is asked again.
const NOT_YET_FIRST: Duration = Duration::from_millis(50);
/// Longest such pause.
const NOT_YET_STEP_MAX: Duration = Duration::from_millis(400);
/// How long such a source is asked again.
const NOT_YET_MAX: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
