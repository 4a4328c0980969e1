//! Further sources of a content, beside the main one: each is asked for parts ahead of it.
//!
//! ```text
//! have | main ----> |  part of a  | here |  part of b  |   gap: the next part    .. have + WINDOW
//! ```
//! The plan proposes further sources for a node whose main source gives less than the node could
//! take. The node takes them once it sees for itself that the main source is ahead of it
//! ([`Further::note_lag`]). A part takes `PART_TIME` at the rate of its source, so that all are
//! done at about the same time; a source that has a rate in the plan is not asked for more. A part
//! that its source does not give in time, or not at all, goes to whoever comes next, and the source
//! is left alone for a while, twice as long each time.
//!
//! Invariants: no byte is asked for twice at a time, and none that is here; a part is asked of a
//! source that has all of it, so nobody waits here for bytes that wait for this node.
//! Bounds: `HELPERS_MAX` further sources with a part each; bytes within [`WINDOW`] of what is
//! verified.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use super::actions::{FetchAction, LinkId, Part, Peer};
use super::pace::rate_of;
use crate::base::time::Mono;
use crate::dist::units::{AHEAD_BYTES_MAX, UNIT_BYTES};
use crate::dist::wire::agent::Source;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Further {
    helpers: Vec<Helper>,
    parts: BTreeMap<LinkId, Running>,
    /// Bytes ahead of a gap that are here: first byte and the one behind the last.
    here: BTreeMap<u64, u64>,
    /// The main source was seen to be ahead of this node.
    is_on: bool,
    /// Those that were told last, and when.
    told: Vec<Peer>,
    told_at: Mono,
}

#[derive(Debug)]
struct Helper {
    source: Source,
    /// It has this at most, as it said when it was asked for more.
    has: Option<(u64, Mono)>,
    /// Bytes per second of its parts so far; 0: not known.
    rate: u64,
    /// It is not asked before.
    free_at: Mono,
    /// In a row.
    failures: u32,
    gave_at: Option<Mono>,
}

/// A part on its way.
#[derive(Debug)]
struct Running {
    node: Peer,
    /// The next byte of it.
    at: u64,
    from: u64,
    to: u64,
    since: Mono,
    /// From when on its rate counts: when it might have been asked for, had somebody looked.
    paced_from: Mono,
    alive_at: Mono,
    due: Mono,
}

/// What is known of a fetch as a whole.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) now: Mono,
    pub(super) have: u64,
    pub(super) size: u64,
    /// Bytes that the main source brings next.
    pub(super) main: Option<(u64, u64)>,
    /// Sources that are in use, or may not be.
    pub(super) not: &'a [Peer],
}

impl Further {
    /// Takes what the plan proposes.
    pub(super) fn set_sources(&mut self, sources: Vec<Source>) {
        let mut known = std::mem::take(&mut self.helpers);
        for source in sources.into_iter().take(HELPERS_MAX) {
            let at = known.iter().position(|helper| helper.source.node == source.node);
            self.helpers.push(match at {
                Some(at) => Helper { source, ..known.swap_remove(at) },
                None => Helper {
                    source,
                    has: None,
                    rate: 0,
                    free_at: Mono(0),
                    failures: 0,
                    gave_at: None,
                },
            });
        }
    }

    /// The plan proposes some.
    pub(super) fn has_any(&self) -> bool {
        !self.helpers.is_empty()
    }

    /// The plan proposes some, and it is not known yet that the main source is ahead.
    pub(super) fn waits_for_lag(&self) -> bool {
        self.has_any() && !self.is_on
    }

    /// These bytes are here, ahead of what is verified.
    pub(super) fn set_here(&mut self, ranges: Vec<Range<u64>>) {
        self.here = ranges.into_iter().map(|range| (range.start, range.end)).collect();
    }

    /// The main source has `theirs` bytes, this node `mine`.
    pub(super) fn note_lag(&mut self, theirs: u64, mine: u64) {
        self.is_on |= !self.helpers.is_empty() && theirs.saturating_sub(mine) >= LAG_MIN;
    }

    /// Bytes come, or came a moment ago, from others than the main source.
    pub(super) fn is_active(&self, now: Mono) -> bool {
        let gives = |helper: &Helper| helper.gave_at.is_some_and(|at| now.since(at) < LATELY);
        self.is_on && self.helpers.iter().any(gives)
    }

    /// Somebody could be asked for a part, now or soon.
    pub(super) fn is_usable(&self, now: Mono) -> bool {
        self.is_on
            && (!self.parts.is_empty() || self.helpers.iter().any(|h| h.free_at <= now + SOON))
    }

    pub(super) fn is_part(&self, link: LinkId) -> bool {
        self.parts.contains_key(&link)
    }

    /// The node of a part, and how far it is.
    pub(super) fn part(&self, link: LinkId) -> Option<(&Peer, u64)> {
        self.parts.get(&link).map(|part| (&part.node, part.at))
    }

    /// Bytes from `from` to `to` are here; all before `have` is verified.
    pub(super) fn add(&mut self, from: u64, to: u64, have: u64) {
        if to > have && from < to {
            let mut range = (from.max(have), to);
            // Ranges that touch it become one with it.
            let touching = self.here.range(..=range.1).rev();
            let touching = touching.take_while(|(_, end)| **end >= range.0);
            for (start, end) in touching.map(|(s, e)| (*s, *e)).collect::<Vec<_>>() {
                self.here.remove(&start);
                range = (range.0.min(start), range.1.max(end));
            }
            self.here.insert(range.0, range.1);
        }
        while let Some((start, end)) = self.here.first_key_value().map(|(s, e)| (*s, *e))
            && start < have
        {
            self.here.pop_first();
            if end > have {
                self.here.insert(have, end);
            }
        }
    }

    /// A part grows up to `at`.
    pub(super) fn grew(&mut self, link: LinkId, at: u64, have: u64, now: Mono) {
        let Some(part) = self.parts.get_mut(&link) else { return };
        let (before, node, at) = (part.at, part.node.clone(), part.at.max(at));
        (part.at, part.alive_at, part.to) = (at, now, part.to.max(at));
        if let Some(helper) = self.helper(&node) {
            helper.gave_at = Some(now);
        }
        self.add(before, at, have);
    }

    pub(super) fn held(&mut self, link: LinkId, now: Mono) {
        if let Some(part) = self.parts.get_mut(&link) {
            part.alive_at = now;
        }
    }

    /// A part is here. Its source may be asked for another one when its rate allows.
    pub(super) fn done(&mut self, link: LinkId, now: Mono) {
        let Some(part) = self.parts.remove(&link) else { return };
        let Some(helper) = self.helper(&part.node) else { return };
        let bytes = part.at.saturating_sub(part.from);
        let rate = rate_of(bytes, now.since(part.since));
        helper.rate = if helper.rate == 0 { rate } else { helper.rate / 2 + rate / 2 };
        helper.failures = 0;
        if helper.source.rate > 0 {
            helper.free_at = part.paced_from + time_of(bytes, helper.source.rate);
        }
    }

    /// A source does not have all of its part: it has `have`.
    pub(super) fn behind(&mut self, link: LinkId, have: u64, now: Mono) {
        let Some(part) = self.parts.remove(&link) else { return };
        if let Some(helper) = self.helper(&part.node) {
            (helper.has, helper.free_at) = (Some((have, now)), now + BEHIND);
        }
    }

    /// The source of a part has no room now.
    pub(super) fn busy(&mut self, link: LinkId, pause: Duration, now: Mono) {
        let Some(part) = self.parts.remove(&link) else { return };
        if let Some(helper) = self.helper(&part.node) {
            helper.free_at = now + pause;
        }
    }

    /// A part is not given: others have it next. Its source is left alone, for `pause` at least.
    pub(super) fn failed(&mut self, link: LinkId, pause: Duration, now: Mono) {
        let Some(part) = self.parts.remove(&link) else { return };
        if let Some(helper) = self.helper(&part.node) {
            let pause = pause * 2_u32.saturating_pow(helper.failures.min(8));
            helper.free_at = now + pause.min(PAUSE_MAX);
            helper.failures += 1;
        }
    }

    /// Parts that take too long are handed back.
    pub(super) fn handle_time(&mut self, now: Mono, out: &mut Vec<FetchAction>) {
        let is_late = |part: &Running| now >= part.due || now.since(part.alive_at) >= super::STALL;
        let late = self.parts.iter().filter(|(_, part)| is_late(part));
        for link in late.map(|(link, _)| *link).collect::<Vec<_>>() {
            out.push(FetchAction::Close { link });
            self.failed(link, PAUSE_LATE, now);
        }
    }

    /// Asks each further source that is free for a part, the one with most to give first.
    pub(super) fn ask(
        &mut self,
        view: View<'_>,
        mut next_link: impl FnMut() -> LinkId,
        out: &mut Vec<FetchAction>,
    ) {
        if !self.is_on {
            return;
        }
        for place in 0..self.helpers.len() {
            let Some(helper) = self.helpers.get(place) else { return };
            let node = &helper.source.node;
            let is_busy = self.parts.values().any(|part| part.node == *node);
            if is_busy || helper.free_at > view.now || view.not.contains(node) {
                continue;
            }
            let has = helper.has.filter(|(_, at)| view.now.since(*at) < HAS_COUNTS);
            let limit = has.map_or(view.size, |(has, _)| has.min(view.size));
            let limit = limit.min(view.have.saturating_add(WINDOW));
            let Some(gap) = self.gap(view.have, view.main, limit) else { continue };
            if has.is_some() && gap.end == limit && gap.end - gap.start < PART_MIN {
                continue;
            }
            let rate = if helper.source.rate == 0 {
                helper.rate
            } else if helper.rate == 0 {
                helper.source.rate
            } else {
                helper.rate.min(helper.source.rate)
            };
            let part = gap.start..gap.end.min(gap.start.saturating_add(part_bytes(rate)));
            let (link, source) = (next_link(), helper.source.clone());
            let expected = time_of(part.end - part.start, rate.max(RATE_MIN)) * LATE_TIMES;
            let running = Running {
                node: source.node.clone(),
                at: part.start,
                from: part.start,
                to: part.end,
                since: view.now,
                paced_from: if view.now.since(helper.free_at) < PACE_LATE {
                    helper.free_at
                } else {
                    view.now
                },
                alive_at: view.now,
                due: view.now + expected.max(LATE_MIN),
            };
            self.parts.insert(link, running);
            let asked = Part { to: Some(part.end), is_spare: true };
            out.push(FetchAction::Connect {
                link,
                source,
                from: part.start,
                part: Some(asked),
                is_slow: false,
            });
        }
    }

    /// The first bytes before `limit` that are neither here nor on their way.
    pub(super) fn gap(
        &self,
        have: u64,
        main: Option<(u64, u64)>,
        limit: u64,
    ) -> Option<Range<u64>> {
        let parts = self.parts.values().map(|part| (part.at, part.to));
        let here = self.here.iter().map(|(start, end)| (*start, *end));
        let mut taken: Vec<_> = parts.chain(here).chain(main).collect();
        taken.sort_unstable();
        let mut at = have;
        for (start, end) in taken {
            if start > at {
                break;
            }
            at = at.max(end);
        }
        let next = self.next_taken(at, main).unwrap_or(limit);
        let end = next.min(limit);
        (at < end).then_some(at..end)
    }

    /// Where the next bytes from `at` on begin that are here or on their way.
    fn next_taken(&self, at: u64, main: Option<(u64, u64)>) -> Option<u64> {
        let parts = self.parts.values().map(|part| part.at).filter(|start| *start >= at);
        let here = self.here.range(at..).next().map(|(start, _)| *start);
        parts.chain(here).chain(main.map(|(start, _)| start).filter(|start| *start >= at)).min()
    }

    /// How many bytes from `at` on are here or on their way, without a gap.
    pub(super) fn taken_from(&self, at: u64, have: u64) -> u64 {
        let end = self.gap(at.max(have), None, u64::MAX).map_or(u64::MAX, |gap| gap.start);
        end.saturating_sub(at)
    }

    /// Bytes of a part of the main source, which gives so many bytes per second.
    pub(super) fn main_bytes(rate: u64) -> u64 {
        part_bytes(rate)
    }

    /// The part that is in the way of everything, when its source takes longer than expected for
    /// it: the main source, which has nothing else to do, takes it.
    pub(super) fn take_first(&mut self, view: View<'_>, out: &mut Vec<FetchAction>) {
        let first = self.parts.iter().min_by_key(|(_, part)| part.at);
        let is_slow = |part: &Running| view.now.since(part.since) >= FIRST_TIME;
        if let Some((link, _)) = first.filter(|(_, part)| is_slow(part)) {
            let link = *link;
            out.push(FetchAction::Close { link });
            self.failed(link, PAUSE_LATE, view.now);
        }
    }

    /// Says who gives bytes, when that has changed, once a second at most.
    pub(super) fn tell(&mut self, now: Mono, out: &mut Vec<FetchAction>) {
        if now.since(self.told_at) < TELL_EVERY && self.told_at != Mono::default() {
            return;
        }
        let gives = |helper: &&Helper| helper.gave_at.is_some_and(|at| now.since(at) < LATELY);
        let giving = self.helpers.iter().filter(gives);
        let mut sources: Vec<Peer> = giving.map(|helper| helper.source.node.clone()).collect();
        sources.sort_unstable();
        if sources != self.told {
            (self.told, self.told_at) = (sources.clone(), now);
            out.push(FetchAction::Further { sources });
        }
    }

    /// Closes all parts.
    pub(super) fn stop(&mut self, out: &mut Vec<FetchAction>) {
        let links = std::mem::take(&mut self.parts).into_keys();
        out.extend(links.map(|link| FetchAction::Close { link }));
    }

    fn helper(&mut self, node: &Peer) -> Option<&mut Helper> {
        self.helpers.iter_mut().find(|helper| helper.source.node == *node)
    }
}

/// Bytes of a part at this rate, whole units.
fn part_bytes(rate: u64) -> u64 {
    let ms = u64::try_from(PART_TIME.as_millis()).unwrap_or(1);
    let bytes = (rate / 1_000).saturating_mul(ms).clamp(PART_MIN, PART_MAX);
    bytes - bytes % UNIT_BYTES
}

fn time_of(bytes: u64, rate: u64) -> Duration {
    let ns = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
}

/// Further sources of a content at once.
pub(super) const HELPERS_MAX: usize = 7;
/// Bytes ahead of a gap, here or on their way: a part less than a verifier takes, because what is
/// verified here may be told a moment later.
pub(super) const WINDOW: u64 = AHEAD_BYTES_MAX - PART_MAX;
/// The main source is ahead by so much: it gives less than it gets.
const LAG_MIN: u64 = 8 * UNIT_BYTES;
/// Time of a part. Short: all bytes wait for the one in front. Long against a round trip.
const PART_TIME: Duration = Duration::from_millis(250);
const PART_MIN: u64 = 4 * UNIT_BYTES;
const PART_MAX: u64 = 2 << 20;
/// A source that is slower than this is no help: 1 Mbit/s.
const RATE_MIN: u64 = 125_000;
/// A part that takes so many times longer than expected, and at least so long, is handed back.
const LATE_TIMES: u32 = 4;
const LATE_MIN: Duration = Duration::from_millis(1_500);
/// The same for the part that all others wait for.
const FIRST_TIME: Duration = Duration::from_millis(500);
/// First pause of a source that did not give its part in time.
const PAUSE_LATE: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// A source that did not have all of a part is asked again after this,
const BEHIND: Duration = Duration::from_millis(50);
/// and for so long only for what it said that it has.
const HAS_COUNTS: Duration = Duration::from_millis(200);
/// A source that may be asked again within this is worth a part of the main source that ends.
const SOON: Duration = Duration::from_millis(500);
/// A part that is asked for so late is asked for in time: time is looked at some times a second.
const PACE_LATE: Duration = Duration::from_millis(100);
/// Without a byte for so long a source does not count as one that gives.
const LATELY: Duration = Duration::from_secs(3);
const TELL_EVERY: Duration = Duration::from_secs(1);
