//! What the main source brings while further ones give parts ahead of it.
//!
//! ```text
//! whole: all from a byte on --meets what is here or on its way--> part, part, .. --nothing left
//! for it--> rests --a gap--> part                                     '--last gap--> to the end
//! ```
//! Invariant: the end of a content comes from the main source, behind all its bytes.
//! Bound: one link; a part of it takes as long as one of a further source.

use super::further::{Further, View, WINDOW};
use super::pace::Meter;
use super::*;

/// Where the main source is. See the module.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// The next byte of it.
    pub(super) at: u64,
    /// The byte behind what it is to bring before others do.
    to: u64,
    /// It was asked for a part.
    is_part: bool,
    /// Of what it was asked for nothing has come.
    is_opening: bool,
    /// It was asked for the end, which is all that is missing.
    is_last: bool,
    /// It has nothing to do: no link is open.
    rests: Option<Mono>,
    /// Bytes that came from it.
    pub(super) meter: Meter,
}

impl Lane {
    /// All from a byte on.
    pub(super) fn whole(at: u64) -> Self {
        Self { at, to: at, ..Self::default() }
    }

    /// Bytes that it brings next.
    fn range(&self) -> (u64, u64) {
        if self.rests.is_some() { (u64::MAX, u64::MAX) } else { (self.at, self.to) }
    }
}

impl Fetch {
    /// Takes further sources of the plan: the node may take parts of them.
    pub fn handle_further(&mut self, mut sources: Vec<Source>, now: Mono) {
        sources.retain(|source| source.node.as_ref() != Some(&self.me));
        self.further.set_sources(sources);
        // The main source is asked how far it is.
        self.watch.look(now);
    }

    /// Whether it has further sources.
    #[must_use]
    pub fn may_have_further(&self) -> bool {
        self.further.has_any()
    }

    /// Takes what happened on the link of a part of a further source.
    pub(super) fn handle_part(
        &mut self,
        link: LinkId,
        event: LinkEvent,
        now: Mono,
        out: &mut Vec<FetchAction>,
    ) {
        let Some((node, _)) = self.further.part(link) else { return };
        let node = node.clone();
        match event {
            LinkEvent::FirstByte => return out.push(FetchAction::Use { link }),
            LinkEvent::Grew { have, bytes, at } => {
                self.count(&node, have, bytes, now);
                self.further.grew(link, at, self.have, now);
                return self.follow_lane(now, out);
            }
            LinkEvent::Held => return self.further.held(link, now),
            LinkEvent::Whole => return self.complete(out),
            LinkEvent::Done => self.further.done(link, now),
            LinkEvent::Behind { have } => self.further.behind(link, have, now),
            // What its children leave over changes from moment to moment.
            LinkEvent::Busy { .. } => self.further.busy(link, PAUSE_BUSY, now),
            LinkEvent::NotYet => self.further.failed(link, PAUSE_BUSY, now),
            LinkEvent::Lost | LinkEvent::Unreachable | LinkEvent::Refused => {
                self.further.failed(link, PAUSE_LOST, now);
            }
            LinkEvent::BadUnit { unit } => {
                self.bad.insert(node.clone());
                out.push(FetchAction::BadUnit { source: node, unit });
                self.further.failed(link, PAUSE_LOST, now);
            }
        }
        out.push(FetchAction::Close { link });
        self.keep_lane(now, out);
    }

    /// Lets time pass, or looks again at who brings what.
    pub(super) fn keep_lane(&mut self, now: Mono, out: &mut Vec<FetchAction>) {
        self.lane.meter.roll(now);
        self.further.handle_time(now, out);
        self.follow_lane(now, out);
        self.further.tell(now, out);
        let Some(size) = self.size.filter(|_| self.active.is_some()) else { return };
        let mut not: Vec<Peer> = self.bad.iter().cloned().collect();
        let main = [&self.active, &self.opening].into_iter().flatten();
        not.extend(main.map(|link| link.source.node.clone()));
        let view = View { now, have: self.have, size, main: Some(self.lane.range()), not: &not };
        let next_link = &mut self.next_link;
        let mut take = || {
            let id = LinkId(*next_link);
            *next_link = next_link.wrapping_add(1);
            id
        };
        self.further.ask(view, &mut take, out);
    }

    /// The main source goes on where it is needed, and nowhere else.
    pub(super) fn follow_lane(&mut self, now: Mono, out: &mut Vec<FetchAction>) {
        let (have, now_at) = (self.have, self.lane.at);
        let Some(active) = &mut self.active else { return };
        if self.lane.rests.is_some() {
            active.alive_at = now;
            return self.next_lane(now, out);
        }
        if self.lane.is_last {
            return;
        }
        // What is here, or on its way, is not to be sent once more.
        let behind = have.saturating_sub(now_at);
        let taken = self.further.taken_from(now_at, have).max(behind);
        if taken >= SKIP_MIN && !self.lane.is_part {
            return self.leave_lane(now, out);
        }
        if now_at >= self.lane.to && !self.lane.is_part {
            let wanted = now_at.saturating_add(Further::main_bytes(self.lane.meter.rate));
            let gap = self.further.gap(now_at.max(have), None, wanted);
            self.lane.to = gap.map_or(now_at, |gap| gap.end);
        }
    }

    /// The first bytes of what the main source was asked for are there.
    pub(super) fn begin_lane(&mut self, link: LinkId, out: &mut Vec<FetchAction>) {
        if std::mem::take(&mut self.lane.is_opening) {
            out.push(FetchAction::Use { link });
        }
    }

    /// The link of the main source is closed: it goes on elsewhere.
    fn leave_lane(&mut self, now: Mono, out: &mut Vec<FetchAction>) {
        let Some(active) = &self.active else { return };
        out.push(FetchAction::Close { link: active.id });
        self.next_lane(now, out);
    }

    /// A part of the main source is here, or it does not have it.
    pub(super) fn end_lane(&mut self, is_done: bool, now: Mono, out: &mut Vec<FetchAction>) {
        if !is_done {
            let Some(active) = &mut self.active else { return };
            active.alive_at = now;
            out.push(FetchAction::Close { link: active.id });
            return self.rest(now, out);
        }
        self.leave_lane(now, out);
        self.keep_lane(now, out);
    }

    /// Opens the next part of the main source, where there is a gap.
    fn next_lane(&mut self, now: Mono, out: &mut Vec<FetchAction>) {
        let limit = self.have.saturating_add(WINDOW).min(self.size.unwrap_or(u64::MAX));
        let gap = self.further.gap(self.have, None, limit);
        let is_all = self.size.is_some_and(|size| self.have >= size);
        let (from, to) = match gap {
            Some(gap) if self.further.is_usable(now) => {
                let bytes = Further::main_bytes(self.lane.meter.rate);
                (gap.start, Some(gap.end.min(gap.start.saturating_add(bytes))))
            }
            // Nobody else brings anything now.
            Some(gap) => (gap.start, Some(gap.end).filter(|end| *end < limit)),
            None if is_all => (self.have, None),
            None => return self.rest(now, out),
        };
        let id = LinkId(self.next_link);
        let Some(active) = &mut self.active else { return };
        self.next_link = self.next_link.wrapping_add(1);
        (active.id, active.from, active.alive_at) = (id, from, now);
        let meter = std::mem::take(&mut self.lane.meter);
        let is_whole = from == self.have && to.is_none();
        self.lane = Lane {
            at: from,
            to: to.unwrap_or(from),
            is_part: to.is_some(),
            is_opening: true,
            is_last: is_all,
            rests: None,
            meter,
        };
        let part = (!is_whole).then_some(Part { to, is_spare: false });
        out.push(FetchAction::Connect {
            link: id,
            source: active.source.clone(),
            from,
            part,
            is_slow: false,
        });
    }

    /// The main source has nothing to do. What all wait for may be with a slow further source.
    fn rest(&mut self, now: Mono, out: &mut Vec<FetchAction>) {
        self.lane.is_opening = false;
        if self.lane.rests.is_none()
            && let Some(active) = &mut self.active
        {
            // What is still said of the link that was closed is not heard any more.
            active.id = LinkId(self.next_link);
            self.next_link = self.next_link.wrapping_add(1);
        }
        let since = *self.lane.rests.get_or_insert(now);
        if now.since(since) < REST_MIN {
            return;
        }
        let view = View {
            now,
            have: self.have,
            size: self.size.unwrap_or(u64::MAX),
            main: None,
            not: &[],
        };
        self.further.take_first(view, out);
    }
}

/// Less than this that comes twice is not worth another request.
const SKIP_MIN: u64 = 2 * crate::dist::units::UNIT_BYTES;
/// The main source waits so long before it takes what a further one is to bring.
const REST_MIN: Duration = Duration::from_millis(100);
/// Pause of a further source that has no room, or does not know the content.
const PAUSE_BUSY: Duration = Duration::from_millis(500);
/// Of one that was lost.
const PAUSE_LOST: Duration = Duration::from_secs(5);
