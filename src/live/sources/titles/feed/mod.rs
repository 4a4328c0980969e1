//! One path that is fed by titles: prepares, claims, sends what is due, and goes on at seams.
//!
//! ```text
//!  schedule --next--> reel (prepared) --zero at the seam--> reel (plays) --due--> publisher
//!      ^                 `--failed: skipped, with a warning      `--over: seam
//!      `--begun, failed, ended
//! ```
//! The next item is prepared `PREPARE` before the present one ends. The timeline keeps step with
//! the wall clock: when bytes come late, the item is moved, so that RTP time has the gap that
//! viewers saw. A wait is logged after `WAIT_TOLD`, and ends the item after `WAIT_MAX`.
//!
//! Invariants: one claim and one identity of the streams for the life of a feed; sound and picture
//! of an item are moved by the same time; a feed that can play nothing fails with the reason.
//! Bounds: two reels; `PACKETS_A_TURN`, and `ROUNDS_MAX` seams a turn.

mod begin;
mod plan;

use std::sync::Arc;
use std::time::Duration;

use crate::base::time::{Mono, Npt};
use crate::base::wheel::Timer;
use crate::live::core::demux::Target;
use crate::live::hub::Hub;
use crate::live::sources::publishers::Publishers;
use crate::live::sources::table::OfPath;
use crate::live::sources::titles::reel::{Answered, Peek, Reel};
use crate::live::sources::titles::schedule::{ItemId, Schedule, Upcoming};
use crate::live::sources::titles::seam::{Origin, Seam};
use crate::live::sources::titles::stream::Stream;
use crate::media::codec::MediaKind;
use crate::poll::task::Outcome;
use crate::session::action::TimerKey;
use crate::session::cx::Cx;

/// A path that is fed by titles: see the module.
#[derive(Debug)]
pub(crate) struct Feed {
    /// Of the feed, and of its publisher.
    number: u32,
    path: Arc<str>,
    schedule: Schedule,
    streams: Vec<Stream>,
    current: Option<Playing>,
    next: Option<Reel>,
    /// Where the newest item has ended, on the timeline.
    seam: Option<Seam>,
    /// The newest item has ended, and nothing has begun since.
    ended: Option<ItemId>,
    origin: Option<Origin>,
    plan: Plan,
    requests: u32,
    is_claimed: bool,
    /// When the path was told of the clock.
    told: Option<Mono>,
    wait: Option<Wait>,
    wake: Option<Mono>,
    timer: Option<(Mono, Timer)>,
    has_more: bool,
    failure: Option<String>,
}

/// The item that plays.
#[derive(Debug)]
struct Playing {
    reel: Reel,
    /// Its zero on the timeline.
    zero: Npt,
    /// Behind the latest picture that was sent, on the item's own timeline.
    shown: Npt,
    /// It ends early because its bytes do: the schedule was told.
    has_failed: bool,
}

/// What the feed knows of the schedule.
#[derive(Debug, Default)]
struct Plan {
    /// The schedule is to be asked.
    is_stale: bool,
    /// It is to be asked at once, not only when the next item has to be prepared.
    is_urgent: bool,
    /// Nothing can be played.
    nothing: Option<String>,
    /// Nothing is to be played before this time.
    wait_until: Option<i64>,
    /// The item that plays ends as soon as the next one is ready.
    is_skipping: bool,
    /// The time of a cut for which the schedule was asked.
    cut_asked: Option<i64>,
}

/// Bytes are late.
#[derive(Debug, Clone, Copy)]
struct Wait {
    since: Mono,
    is_told: bool,
}

/// The parts of the shard that a feed works with.
pub(crate) struct Room<'a> {
    pub(crate) cx: &'a mut Cx,
    pub(crate) hub: &'a mut Hub,
    pub(crate) publishers: &'a mut Publishers,
}

impl OfPath for Feed {
    fn path(&self) -> &Arc<str> {
        &self.path
    }
}

impl Feed {
    pub(crate) fn new(number: u32, path: &Arc<str>, schedule: Schedule) -> Self {
        Self {
            number,
            path: Arc::clone(path),
            schedule,
            streams: Vec::new(),
            current: None,
            next: None,
            seam: None,
            ended: None,
            origin: None,
            plan: Plan { is_stale: true, ..Plan::default() },
            requests: 0,
            is_claimed: false,
            told: None,
            wait: None,
            wake: None,
            timer: None,
            has_more: false,
            failure: None,
        }
    }

    /// Whether packets are left for the next turn.
    pub(crate) fn has_more(&self) -> bool {
        self.has_more
    }

    /// Why the feed cannot go on.
    pub(crate) fn take_failure(&mut self) -> Option<String> {
        self.failure.take()
    }

    pub(crate) fn cancel_timer(&mut self, cx: &mut Cx) {
        if let Some((_, timer)) = self.timer.take() {
            cx.wheel.cancel(timer);
        }
    }

    pub(crate) fn handle_due(&mut self) {
        self.timer = None;
    }

    /// The schedule was edited.
    pub(crate) fn handle_edit(&mut self) {
        (self.plan.is_stale, self.plan.is_urgent) = (true, true);
    }

    pub(crate) fn schedule_mut(&mut self) -> &mut Schedule {
        &mut self.schedule
    }

    /// What was to be played, for the next feed of the path.
    pub(crate) fn into_schedule(self) -> Schedule {
        self.schedule
    }

    /// A worker has done a task of the feed. One of an item that is gone changes nothing.
    pub(crate) fn handle_task(&mut self, room: &Room<'_>, request: u32, outcome: Outcome) {
        let now = room.cx.now;
        let is_current = self.current.as_ref().is_some_and(|c| c.reel.asks(request));
        let current = self.current.as_mut().filter(|_| is_current).map(|c| &mut c.reel);
        let Some(reel) = current.or(self.next.as_mut()) else { return };
        let is_title = matches!(outcome, Outcome::Opened(_));
        let answered = match outcome {
            Outcome::Opened(opened) => reel.handle_opened(request, opened, &mut self.streams, now),
            Outcome::WindowBytes(made) => reel.handle_window(request, made, now),
            Outcome::Window(_)
            | Outcome::Image(_)
            | Outcome::Resolved(_)
            | Outcome::Judged(_)
            | Outcome::Described(_) => return,
        };
        let length = reel.end().filter(|_| is_title).map(|end| end.at.0);
        match answered {
            Answered::NotMine => {}
            Answered::Taken => {
                if let Some(length) = length {
                    self.schedule.handle_length(reel.item(), length);
                }
            }
            Answered::Failed(reason) if is_current => {
                reel.end_at_bytes();
                let upcoming = reel.upcoming.clone();
                let has_failed = self.current.as_mut().map(|current| &mut current.has_failed);
                if has_failed.is_some_and(|known| !std::mem::replace(known, true)) {
                    self.fail(room, &upcoming, &reason);
                }
            }
            Answered::Failed(reason) => self.skip_next(room, &reason),
        }
    }

    /// The workers' queue is full.
    pub(crate) fn handle_refused(&mut self, request: u32, now: Mono) {
        let reels = self.current.iter_mut().map(|current| &mut current.reel).chain(&mut self.next);
        for reel in reels {
            if reel.handle_refused(request, now) {
                return;
            }
        }
    }

    /// The item that is prepared cannot be played.
    fn skip_next(&mut self, room: &Room<'_>, reason: &str) {
        let Some(reel) = self.next.take() else { return };
        self.fail(room, &reel.upcoming, reason);
        if !self.is_claimed {
            // The next title makes the streams.
            self.streams.clear();
        }
    }

    /// Tells the schedule of an item that cannot be played, and the log where that is news.
    fn fail(&mut self, room: &Room<'_>, upcoming: &Upcoming, reason: &str) {
        self.plan.is_stale = true;
        if !self.schedule.handle_failed(upcoming.item, reason, room.cx.utc_ns) {
            return;
        }
        let (path, title) = (&self.path, upcoming.url());
        tracing::warn!(
            code = "HE-W308", event = "title.skipped", %path, title, reason,
            "path {path} does not play {title}: {reason}"
        );
    }

    /// Prepares, begins and sends what is due.
    pub(crate) fn go_on(&mut self, room: &mut Room<'_>) {
        (self.wake, self.has_more) = (None, false);
        let mut left = PACKETS_A_TURN;
        let mut is_over = false;
        // Bounded: each round ends or begins an item.
        for _ in 0..ROUNDS_MAX {
            self.look_at_schedule(room);
            self.ask(room);
            self.cut(room);
            is_over = self.failure.is_some() || !self.step(room, &mut left);
            if is_over {
                break;
            }
        }
        self.has_more |= !is_over;
        if left < PACKETS_A_TURN {
            room.publishers.feed_one(room.hub, self.number, room.cx.now);
        }
        self.set_timer(room.cx);
    }

    /// Sends frames that are due, ends an item or begins one. True when there may be more to do.
    fn step(&mut self, room: &mut Room<'_>, left: &mut u32) -> bool {
        if self.is_claimed && room.publishers.get(&self.number).is_none() {
            self.failure = Some("the path was taken away".to_owned());
            return false;
        }
        let (Some(_), Some(origin)) = (&self.current, self.origin) else {
            let has_begun = self.begin_next(room);
            if !has_begun && let Some(ended) = self.ended.take() {
                self.schedule.handle_ended(ended, room.cx.utc_ns);
                self.plan.is_stale = true;
            }
            return has_begun;
        };
        self.tell_clock(room, origin);
        let now = room.cx.now;
        let mut out = Vec::new();
        while *left > 0 {
            let Some(current) = &mut self.current else { return true };
            match current.reel.peek() {
                Peek::Waiting => return self.wait(room),
                Peek::Over => {
                    self.end_current();
                    return true;
                }
                Peek::Frame { place, due, npt } => {
                    let due = origin.wall_of(Npt(current.zero.0.saturating_add(due.0)));
                    if due > now + SLACK {
                        self.wake_at(due);
                        return false;
                    }
                    let late_ns = i64::try_from(now.since(due).as_nanos()).unwrap_or(i64::MAX);
                    if npt >= Npt::ZERO && late_ns > LATE_NS_MAX {
                        current.zero = Npt(current.zero.0.saturating_add(late_ns));
                    }
                    self.wait = None;
                    self.send(room, place, left, &mut out);
                }
            }
        }
        self.has_more = true;
        false
    }

    /// Sends the next packets of a frame.
    fn send(&mut self, room: &mut Room<'_>, place: usize, left: &mut u32, out: &mut Vec<u8>) {
        let Some(current) = &mut self.current else { return };
        let zero = current.zero;
        while *left > 0 {
            let Some(packet) = current.reel.take(place) else { return };
            let (frame, track) = (packet.frame, packet.track);
            let Some(stream) = self.streams.get_mut(usize::from(track)) else { return };
            if packet.is_first {
                stream.begin_frame(zero, frame.rtp_ticks);
                if stream.line.kind == MediaKind::Video {
                    current.shown = current.shown.max(Npt(frame.npt.0.saturating_add(1)));
                }
            }
            if stream.write(packet.marker, packet.payload, out) {
                *left -= 1;
                let target = Target { source: self.number, track };
                room.publishers.handle_packet(room.cx, target, None, out);
            }
            if packet.is_last {
                return;
            }
        }
    }

    /// The item that plays is over.
    fn end_current(&mut self) {
        let Some(Playing { reel, zero, .. }) = self.current.take() else { return };
        self.seam = reel.end().map(|end| end.moved(zero));
        (self.ended, self.plan.is_stale) = (Some(reel.item()), true);
    }

    /// Bytes are not here. True when the item was given up.
    fn wait(&mut self, room: &Room<'_>) -> bool {
        let now = room.cx.now;
        let wait = self.wait.get_or_insert(Wait { since: now, is_told: false });
        let waited = now.since(wait.since);
        if waited < WAIT_TOLD {
            let at = wait.since + WAIT_TOLD;
            self.wake_at(at);
            return false;
        }
        let is_told = std::mem::replace(&mut wait.is_told, true);
        let give_up_at = wait.since + WAIT_MAX;
        let reel = self.current.as_ref().map(|current| &current.reel).or(self.next.as_ref());
        let Some(upcoming) = reel.map(|reel| reel.upcoming.clone()) else { return false };
        if !is_told {
            let (path, title) = (&self.path, upcoming.url());
            tracing::warn!(
                code = "HE-W309", event = "title.late", %path, %title,
                "path {path} waits for bytes of {title}: the disk or the workers are too slow"
            );
        }
        if waited < WAIT_MAX {
            self.wake_at(give_up_at);
            return false;
        }
        self.wait = None;
        let reason = format!("no bytes of it for {} s", WAIT_MAX.as_secs());
        let (Some(current), Some(origin)) = (&self.current, self.origin) else {
            self.skip_next(room, &reason);
            return true;
        };
        let at = origin.at(now).max(Npt(current.zero.0.saturating_add(current.shown.0)));
        self.end_current();
        self.seam = Some(Seam { at, sound: None });
        self.fail(room, &upcoming, &reason);
        true
    }

    fn wake_at(&mut self, at: Mono) {
        self.wake = Some(self.wake.map_or(at, |known| known.min(at)));
    }

    fn wake_at_utc(&mut self, room: &Room<'_>, utc_ns: i64) {
        self.wake_at(room.cx.now.offset_ns(utc_ns.saturating_sub(room.cx.utc_ns).max(0)));
    }

    fn set_timer(&mut self, cx: &mut Cx) {
        let reels = self.current.iter().map(|current| &current.reel).chain(&self.next);
        let again = reels.filter_map(Reel::again_at).min();
        let Some(due) = self.wake.into_iter().chain(again).min() else { return };
        // A timer that is too early does no harm.
        if self.timer.as_ref().is_some_and(|(set, _)| *set <= due) {
            return;
        }
        self.cancel_timer(cx);
        self.timer = Some((due, cx.wheel.insert(due, TimerKey::Titles(self.number))));
    }
}

/// Packets of a feed in one turn: the rest of a large picture follows in the next one.
const PACKETS_A_TURN: u32 = 256;
/// Items that end or begin in one turn.
const ROUNDS_MAX: usize = 8;
/// Frames that are due so soon are sent along: a slot or two of the wheel.
const SLACK: Duration = Duration::from_millis(2);
/// Frames that are later move the item; others catch up.
const LATE_NS_MAX: i64 = 300_000_000;
/// Bytes that are so late are told of.
const WAIT_TOLD: Duration = Duration::from_secs(1);
/// Bytes that are so late are given up.
const WAIT_MAX: Duration = Duration::from_secs(10);
