//! The data plane: streams of frames from a source to a node, over the virtual network.
//!
//! ```text
//! connect --latency--> asked --admitted--> open --frames--> waiting --Use--> Held --> events
//!                        '--> NotYet, Refused, Busy, Lost                     '--> its own streams
//! ```
//! The source answers as `http::peer` does, the receiver takes frames as `agent::links` does; both
//! only carry out what the plain code decides.
//! Invariant: frames of a stream arrive in order; an event comes to the agent behind all before it.
//! Bound: `AHEAD_MAX` frames of a stream are under way or wait.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use headend::base::time::Mono;
use headend::dist::agent::Failure;
use headend::dist::fanout::{Asker, ChildMeter, Fed, GAVE_WAY, GIVE_WAY, has_room, has_spare};
use headend::dist::fetch::{AskId, LinkEvent, LinkId, Part};
use headend::dist::ids::{ContentId, JobId};
use headend::dist::units::{Accepted, EndFrame, Frame, FrameReader, UNIT_BYTES, UnitError};
use headend::dist::uplink::PieceId;
use headend::dist::wire::agent::Source;
use headend::dist::wire::job::Reason;
use headend::dist::wire::peer::{Alternative, Capability, ContentState};

use crate::dice::{MS, S};
use crate::disk::{Cursor, Frames};
use crate::network::{BASE, Host, host_of};
use crate::shares::Shares;
use crate::world::{Event, World};

/// Number of a stream in a run.
pub(crate) type StreamId = u64;

/// All streams of a run.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    pub(crate) all: BTreeMap<StreamId, Stream>,
    last: StreamId,
    /// Open streams by who gives what.
    serving: BTreeMap<(Host, ContentId), BTreeSet<StreamId>>,
    /// Frames that a host is yet to spoil.
    pub(crate) spoils: BTreeMap<Host, u32>,
    pub(crate) shares: Shares,
}

/// A connection between a source and a node.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) content: ContentId,
    pub(crate) source: Host,
    pub(crate) node: usize,
    link: LinkId,
    /// Of its content, once the source has seen the capability.
    pub(crate) job: Option<JobId>,
    /// What it waits for at the uplink of its source.
    pub(crate) ask: Option<PieceId>,
    /// What it asks for, and what is behind that.
    ready: Option<(Frame, Cursor)>,
    /// When the node looks at it again, for the rate of its job.
    held_until: u64,
    /// The node leaves its source of now as slow for this one.
    leaves_slow: bool,
    /// Until when the source sends nothing, for another stream.
    way_until: u64,
    meter: ChildMeter,
    capability: String,
    from: u64,
    /// What was asked for, if not all.
    pub(crate) part: Option<Part>,
    asked_at: u64,
    cursor: Cursor,
    is_open: bool,
    /// Frames that the uplink has let go and that have not left: the buffer of its socket.
    unsent: usize,
    /// The source is gone and nobody has said so.
    is_dead: bool,
    waiting: VecDeque<Frame>,
    ahead: usize,
    last_at: u64,
    has_begun: bool,
    pub(crate) is_used: bool,
}

impl Streams {
    fn remove(&mut self, id: StreamId) -> Option<Stream> {
        let stream = self.all.remove(&id)?;
        if let Some(ask) = stream.ask {
            self.withdraw(stream.source, ask);
        }
        if let Some(ids) = self.serving.get_mut(&(stream.source, stream.content)) {
            ids.remove(&id);
            if ids.is_empty() {
                self.serving.remove(&(stream.source, stream.content));
            }
        }
        Some(stream)
    }

    fn children(&self, source: Host) -> BTreeSet<usize> {
        let open = self.serving.range((source, FIRST)..=(source, LAST));
        let open = open.flat_map(|(_, ids)| ids).filter_map(|id| self.all.get(id));
        open.filter(|stream| !stream.is_spare()).map(|stream| stream.node).collect()
    }
}

impl Stream {
    /// It is a part for a node that has another source.
    pub(crate) fn is_spare(&self) -> bool {
        self.part.is_some_and(|part| part.is_spare)
    }
}

impl World {
    /// A node opens a stream.
    pub(crate) fn connect(
        &mut self,
        n: usize,
        content: ContentId,
        link: LinkId,
        source: &Source,
        (from, part, is_slow): (u64, Option<Part>, bool),
    ) {
        let Some(held) = self.nodes[n].disk.contents.get(&content) else { return };
        let from = from.max(held.have());
        let to = part.and_then(|part| part.to).unwrap_or(u64::MAX);
        if to <= from {
            return self.tell_link(n, content, link, LinkEvent::Done);
        }
        let host = self.host_at(source);
        self.streams.last += 1;
        let id = self.streams.last;
        let stream = Stream {
            content,
            source: host,
            node: n,
            link,
            job: None,
            ask: None,
            ready: None,
            held_until: 0,
            leaves_slow: is_slow,
            way_until: 0,
            meter: ChildMeter::new(self.mono()),
            capability: source.capability.clone(),
            from,
            part,
            asked_at: self.now,
            cursor: Cursor::between(from, to),
            is_open: false,
            unsent: 0,
            is_dead: false,
            waiting: VecDeque::new(),
            ahead: 0,
            last_at: 0,
            has_begun: false,
            is_used: false,
        };
        self.streams.all.insert(id, stream);
        if let Some(run) = &mut self.nodes[n].run {
            run.links.insert((content, link), id);
        }
        self.trace.note(self.now, "connect", n as u64, host as u64);
        if self.net.reaches(host_of(n), host) && !self.is_dark(host) {
            let latency = self.latency();
            self.after(latency, Event::StreamAsked(id));
        } else {
            self.after(CONNECT_MAX, Event::StreamLost(id));
        }
    }

    /// The request for a stream is at its source.
    pub(crate) fn stream_asked(&mut self, id: StreamId) {
        let Some(stream) = self.streams.all.get(&id) else { return };
        let (source, content, child) = (stream.source, stream.content, stream.node);
        let (asked_at, from) = (stream.asked_at, stream.from);
        if !self.is_up(source) {
            return self.end_stream(id, LinkEvent::Unreachable);
        }
        let admitted = self.admits(source, &stream.capability, content);
        let Some(admitted) = admitted.filter(|given| given.node == self.nodes[child].name) else {
            return self.end_stream(id, LinkEvent::Refused);
        };
        if let Some(stream) = self.streams.all.get_mut(&id) {
            stream.job = admitted.job;
        }
        if self.was_removed(source, content) {
            return self.end_stream(id, LinkEvent::Refused);
        }
        let Some(frames) = self.frames_of(source, content) else {
            if self.now - asked_at >= PATIENCE {
                return self.end_stream(id, LinkEvent::NotYet);
            }
            return self.after(PATIENCE_STEP, Event::StreamAsked(id));
        };
        if frames.end.as_ref().is_some_and(|end| from > end.end().size) {
            return self.end_stream(id, LinkEvent::Lost);
        }
        let have = frames.units.iter().map(|unit| unit.bytes().len() as u64).sum();
        let (is_spare, to) = self.part_of(id);
        if is_spare && to > have {
            return self.end_stream(id, LinkEvent::Behind { have });
        }
        let children = self.streams.children(source);
        let is_full = children.len() >= self.setup.children_max && !children.contains(&child);
        if is_full && !is_spare || !self.has_room(id) {
            self.name_others(id);
            let retry_after = Duration::from_secs(1);
            return self.end_stream(id, LinkEvent::Busy { retry_after });
        }
        // One stream, and one part, of each kind.
        let kind = |stream: &Stream| stream.part.map(|part| (part.is_spare, part.to.is_some()));
        let of_this = self.streams.all.get(&id).map(kind);
        let same = |other: &StreamId| {
            let other = self.streams.all.get(other);
            other.is_some_and(|stream| stream.node == child && Some(kind(stream)) == of_this)
        };
        let serving = self.streams.serving.get(&(source, content));
        let older: Vec<_> = serving.into_iter().flatten().copied().filter(same).collect();
        for older in older {
            self.end_stream(older, LinkEvent::Lost);
        }
        self.give_way(id);
        self.streams.serving.entry((source, content)).or_default().insert(id);
        if let Some(stream) = self.streams.all.get_mut(&id) {
            stream.is_open = true;
        }
        self.pump(id);
    }

    /// The stream of a child that the node leaves as slow waits.
    fn give_way(&mut self, id: StreamId) {
        let stream = self.streams.all.get(&id).filter(|stream| stream.leaves_slow);
        let Some((source, content, node)) = stream.map(|s| (s.source, s.content, s.node)) else {
            return;
        };
        let mut used = self.streams.all.values().filter(|s| s.is_used && !s.is_spare());
        let left = used.find(|s| (s.node, s.content) == (node, content)).map(|s| s.source);
        let until = self.now + u64::try_from(GIVE_WAY.as_nanos()).unwrap_or(u64::MAX);
        let ids = self.streams.serving.get(&(source, content)).cloned().unwrap_or_default();
        for id in ids {
            let stream = self.streams.all.get_mut(&id).filter(|stream| !stream.is_spare());
            if let Some(stream) = stream.filter(|s| Some(host_of(s.node)) == left) {
                stream.way_until = until;
                self.at(until, Event::StreamGoesOn(id));
            }
        }
    }

    /// Whether the uplink of the source has room for the stream; the base's has.
    fn has_room(&self, id: StreamId) -> bool {
        let Some(stream) = self.streams.all.get(&id).filter(|stream| stream.source != BASE) else {
            return true;
        };
        let now = self.mono();
        let name = |n: usize| &self.nodes[n].name;
        let of_source = self.streams.serving.range((stream.source, FIRST)..=(stream.source, LAST));
        let fed = of_source.flat_map(|(_, ids)| ids).filter_map(|id| self.streams.all.get(id));
        let fed = fed.map(|fed| Fed {
            node: name(fed.node),
            job: fed.job,
            rate: fed.meter.rate(now),
            is_spare: fed.is_spare(),
        });
        let uplink = self.nodes[stream.source - 1].up_rate;
        if stream.is_spare() {
            return has_spare(uplink, fed);
        }
        let is_left = |other: &&Stream| {
            let is_same = (other.node, other.content) == (stream.node, stream.content);
            is_same && other.is_used && !other.is_spare()
        };
        let left = self.streams.all.values().find(is_left);
        let leaves = left.filter(|left| left.source != BASE).map(|left| name(left.source - 1));
        let asker = Asker { node: name(stream.node), job: stream.job, leaves };
        // Who takes parts keeps its place between two of them.
        stream.part.is_some() || has_room(uplink, asker, fed)
    }

    /// Whether a stream is one of a part for a node with another source, and what is behind it.
    fn part_of(&self, id: StreamId) -> (bool, u64) {
        let part = self.streams.all.get(&id).and_then(|stream| stream.part);
        part.map_or((false, u64::MAX), |part| (part.is_spare, part.to.unwrap_or(u64::MAX)))
    }

    /// A source that has no room says who is ahead of the node.
    fn name_others(&mut self, id: StreamId) {
        let Some(stream) = self.streams.all.get(&id) else { return };
        let ids = self.streams.serving.get(&(stream.source, stream.content));
        let others = ids.into_iter().flatten().filter_map(|id| self.streams.all.get(id));
        let others = others.filter(|other| other.cursor.offset() > stream.from + AHEAD);
        let others = others.map(|other| {
            let node = &self.nodes[other.node];
            Alternative { node: node.name.clone(), addr: node.addr.clone() }
        });
        let others: Vec<_> = others.collect();
        let (n, content, link) = (stream.node, stream.content, stream.link);
        let run = self.nodes[n].runs;
        self.trace.note(self.now, "others", n as u64, others.len() as u64);
        self.after(TELL, Event::Others { n, run, content, link, others });
    }

    fn mono(&self) -> Mono {
        Mono(1) + Duration::from_nanos(self.now)
    }

    /// Streams that wait for a content to grow go on.
    pub(crate) fn wake(&mut self, source: Host, content: ContentId) {
        let ids = self.streams.serving.get(&(source, content)).cloned().unwrap_or_default();
        ids.into_iter().for_each(|id| self.pump(id));
    }

    /// The source asks its uplink whether it may send what it has.
    pub(crate) fn pump(&mut self, id: StreamId) {
        let Some((source, frame, cursor)) = self.next_frame(id) else { return };
        let stream = self.streams.all.get_mut(&id).filter(|stream| stream.ask.is_none());
        let Some(stream) = stream else { return };
        let bytes = frame.encoded().len() as u64;
        stream.ready = Some((frame, cursor));
        self.ask_uplink(id, source, bytes);
    }

    /// The next frame of a stream that may send: its source, the frame, what is behind it.
    fn next_frame(&mut self, id: StreamId) -> Option<(Host, Frame, Cursor)> {
        let stream = self.streams.all.get(&id)?;
        let is_free = stream.is_open && stream.unsent < UNSENT_MAX && !stream.is_dead;
        let is_free = is_free && self.now >= stream.way_until;
        if !is_free || stream.ahead >= AHEAD_MAX {
            return None;
        }
        let (source, content, mut cursor) = (stream.source, stream.content, stream.cursor);
        let Some(frames) = self.frames_of(source, content) else {
            self.end_stream(id, LinkEvent::Lost);
            return None;
        };
        frames.next(&mut cursor).map(|frame| (source, frame, cursor))
    }

    /// The uplink of the source lets a frame go.
    pub(crate) fn send(&mut self, id: StreamId) {
        let Some(stream) = self.streams.all.get_mut(&id) else { return };
        stream.ask = None;
        let Some((frame, cursor)) = stream.ready.take().filter(|_| !stream.is_dead) else { return };
        let (source, node) = (stream.source, stream.node);
        let (content, job) = (stream.content, stream.job);
        let frame = self.spoiled(source, frame);
        let bytes = frame.encoded().len() as u64;
        if let Some(job) = job {
            self.check_policy(source, job, bytes);
        }
        let (departs, arrives) = self.net.carry(source, host_of(node), bytes, self.now);
        let arrives = arrives + self.latency();
        let mono = self.mono();
        let Some(stream) = self.streams.all.get_mut(&id) else { return };
        stream.meter.add(bytes, mono);
        stream.last_at = stream.last_at.max(arrives);
        stream.cursor = cursor;
        stream.unsent += 1;
        stream.ahead += 1;
        let at = stream.last_at;
        if source != BASE {
            self.nodes[source - 1].sent.add(bytes, self.now);
        }
        if source == BASE {
            *self.base.sent.entry(content).or_default() += bytes;
        }
        self.at(departs, Event::StreamSent(id));
        self.at(at, Event::StreamFrame(id, frame));
        self.pump(id);
    }

    /// A frame has left the source.
    pub(crate) fn stream_sent(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.all.get_mut(&id) {
            stream.unsent -= 1;
            self.pump(id);
        }
    }

    /// A frame is at the node's door.
    pub(crate) fn stream_frame(&mut self, id: StreamId, frame: Frame) {
        if let Some(stream) = self.streams.all.get_mut(&id) {
            stream.waiting.push_back(frame);
            self.take_frames(id);
        }
    }

    /// The node takes what has come: the first frame is told, the others wait for `Use`.
    pub(crate) fn take_frames(&mut self, id: StreamId) {
        loop {
            let Some(stream) = self.streams.all.get_mut(&id) else { return };
            let (n, source) = (stream.node, stream.source);
            if stream.waiting.is_empty() || !self.net.reaches(source, host_of(n)) {
                return;
            }
            if !std::mem::replace(&mut stream.has_begun, true) {
                let (content, link) = (stream.content, stream.link);
                self.tell_link(n, content, link, LinkEvent::FirstByte);
                return;
            }
            if !stream.is_used {
                return;
            }
            let (content, link, job) = (stream.content, stream.link, stream.job);
            if self.is_held(id) {
                return;
            }
            let Some(stream) = self.streams.all.get_mut(&id) else { return };
            let Some(frame) = stream.waiting.pop_front() else { return };
            stream.ahead -= 1;
            self.take(n, job, frame.encoded().len() as u64);
            let now = self.now;
            self.nodes[n].received.add(frame.encoded().len() as u64, now);
            self.take_frame(id, n, content, link, frame);
            self.pump(id);
        }
    }

    /// Whether what has come waits for the rate of its job. Meanwhile the agent hears of it.
    fn is_held(&mut self, id: StreamId) -> bool {
        let Some(stream) = self.streams.all.get(&id) else { return false };
        let (n, content, link) = (stream.node, stream.content, stream.link);
        let (at, until) = (self.may_take_at(n, stream.job), stream.held_until);
        if at <= self.now {
            return false;
        }
        if until <= self.now {
            let until = at.min(self.now + HELD_EVERY);
            if let Some(stream) = self.streams.all.get_mut(&id) {
                stream.held_until = until;
            }
            self.at(until, Event::StreamHeld(id));
            self.tell_link(n, content, link, LinkEvent::Held);
        }
        true
    }

    fn take_frame(
        &mut self,
        id: StreamId,
        n: usize,
        content: ContentId,
        link: LinkId,
        frame: Frame,
    ) {
        let Some(key) = self.nodes[n].run.as_ref().and_then(|run| run.base_key) else { return };
        let disk = &mut self.nodes[n].disk;
        let free = disk.free();
        let Some(held) = disk.contents.get_mut(&content) else {
            self.streams.remove(id);
            return;
        };
        let (bytes, at) = match &frame {
            Frame::Unit(unit) => {
                let bytes = unit.bytes().len() as u64;
                (bytes, unit.number() * UNIT_BYTES + bytes)
            }
            Frame::Hashes(_) | Frame::End(_) => (0, 0),
        };
        let is_end = matches!(frame, Frame::End(_));
        let part = self.streams.all.get(&id).and_then(|stream| stream.part);
        let is_full = (held.have() + bytes).saturating_sub(held.reserved) > free;
        if is_full && bytes > 0 {
            self.streams.remove(id);
            let detail = "no space left on the disk".to_owned();
            let failure = Failure { reason: Reason::NoSpace, detail };
            let run = self.nodes[n].runs;
            return self.after(TELL, Event::Unwritable { n, run, content, failure });
        }
        let before = held.have();
        let accepted = held.append(frame, &key, part.is_some());
        let have = held.have();
        assert!(have >= before, "verified bytes of a content went from {before} to {have}");
        let is_whole = held.is_whole();
        match accepted {
            Ok(Accepted::Unit | Accepted::Ahead) => {
                self.trace.note(self.now, "unit", n as u64, at);
                self.tell_link(n, content, link, LinkEvent::Grew { have, bytes, at });
                if have > before {
                    self.wake(host_of(n), content);
                }
            }
            Ok(Accepted::Hashes) => {}
            Ok(Accepted::End(_) | Accepted::Known) => {
                if is_whole {
                    self.end_stream(id, LinkEvent::Whole);
                } else if is_end {
                    self.end_stream(id, LinkEvent::Done);
                }
                self.wake(host_of(n), content);
            }
            Err(UnitError::TooFar { .. }) => self.end_stream(id, LinkEvent::Lost),
            Err(UnitError::BadUnit { unit }) => {
                self.end_stream(id, LinkEvent::BadUnit { unit });
            }
            Err(_) => self.end_stream(id, LinkEvent::BadUnit { unit: have / UNIT_BYTES }),
        }
        if at > 0 && part.and_then(|part| part.to).is_some_and(|to| at >= to) {
            self.end_stream(id, LinkEvent::Done);
        }
    }

    /// The agent takes bytes of a stream from now on.
    pub(crate) fn use_link(&mut self, n: usize, content: ContentId, link: LinkId) {
        let Some(id) = self.link(n, content, link) else { return };
        let Some(stream) = self.streams.all.get_mut(&id) else { return };
        stream.is_used = true;
        let (source, is_spare) = (stream.source, stream.is_spare());
        let via = (source != BASE).then(|| self.nodes[source - 1].name.clone());
        if is_spare {
            return self.take_frames(id);
        }
        if let Some(held) = self.nodes[n].disk.contents.get_mut(&content) {
            held.via = via.into_iter().collect();
        }
        self.take_frames(id);
    }

    /// The agent closes a stream.
    pub(crate) fn close_link(&mut self, n: usize, content: ContentId, link: LinkId) {
        if let Some(id) = self.link(n, content, link) {
            self.streams.remove(id);
        }
        if let Some(run) = &mut self.nodes[n].run {
            run.links.remove(&(content, link));
        }
    }

    /// A stream ends; its node is told.
    pub(crate) fn end_stream(&mut self, id: StreamId, event: LinkEvent) {
        if let Some(stream) = self.streams.remove(id) {
            let latency = if event == LinkEvent::Whole { 0 } else { self.latency() };
            let run = self.nodes[stream.node].runs;
            let (n, content, link) = (stream.node, stream.content, stream.link);
            self.after(TELL + latency, Event::Link { n, run, content, link, event });
        }
    }

    /// All streams of a content at a source end: it was removed there.
    pub(crate) fn end_streams(&mut self, source: Host, content: ContentId) {
        let ids = self.streams.serving.get(&(source, content)).cloned().unwrap_or_default();
        ids.into_iter().for_each(|id| self.end_stream(id, LinkEvent::Lost));
    }

    /// A host is gone: its own streams too, and those that it served. Nodes hear of it at once,
    /// unless it went without a word.
    pub(crate) fn drop_streams(&mut self, host: Host, is_silent: bool) {
        let ids: Vec<_> = self.streams.all.keys().copied().collect();
        for id in ids {
            let Some(stream) = self.streams.all.get_mut(&id) else { continue };
            if host_of(stream.node) == host {
                self.streams.remove(id);
            } else if stream.source == host {
                if is_silent || !self.net.reaches(host, host_of(stream.node)) {
                    stream.is_dead = true;
                } else {
                    self.end_stream(id, LinkEvent::Lost);
                }
            }
        }
    }

    /// A cut is healed: what it held up goes on.
    pub(crate) fn go_on(&mut self) {
        let ids: Vec<_> = self.streams.all.keys().copied().collect();
        ids.into_iter().for_each(|id| self.take_frames(id));
    }

    /// A node asks a source how much it has.
    pub(crate) fn ask_state(&mut self, n: usize, content: ContentId, ask: AskId, source: &Source) {
        let host = self.host_at(source);
        let (run, since) = (self.nodes[n].runs, self.now);
        if self.net.reaches(host_of(n), host) && !self.is_dark(host) {
            let wait = self.latency();
            self.after(wait, Event::StateAsked { n, run, content, ask, host, since });
        } else {
            self.after(STATE_MAX, Event::State { n, run, content, ask, state: None });
        }
    }

    /// The question is at the source, which waits a moment for a content that it does not know.
    pub(crate) fn state_asked(
        &mut self,
        n: usize,
        content: ContentId,
        ask: AskId,
        host: Host,
        since: u64,
    ) {
        let run = self.nodes[n].runs;
        let streams = self.streams.serving.get(&(host, content)).into_iter().flatten();
        let streams = streams.filter_map(|id| self.streams.all.get(id));
        let mut streams = streams.filter(|stream| stream.node == n);
        let after = u64::try_from(GAVE_WAY.as_nanos()).unwrap_or(0);
        let is_felt = |until: u64| until > 0 && until + after > self.now;
        let gives_way = streams.clone().any(|stream| is_felt(stream.way_until));
        let job = streams.find(|stream| stream.ask.is_some()).map(|stream| stream.job);
        let is_held = gives_way || job.is_some_and(|job| self.holds(host, job));
        let state = self.state_of(host, content);
        let state = state.map(|state| ContentState { is_held, ..state });
        if state.is_none() && self.is_up(host) && self.now - since < STATE_PATIENCE {
            let again = Event::StateAsked { n, run, content, ask, host, since };
            return self.after(PATIENCE_STEP, again);
        }
        let wait = self.latency();
        self.after(wait, Event::State { n, run, content, ask, state });
    }

    fn state_of(&self, host: Host, content: ContentId) -> Option<ContentState> {
        if !self.is_up(host) {
            return None;
        }
        if host == BASE {
            let frames = &self.base.contents.get(&content)?.frames;
            let have = frames.units.iter().map(|unit| unit.bytes().len() as u64).sum();
            let end = frames.end.as_ref().map(EndFrame::end);
            return Some(ContentState { have, end, via: Vec::new(), rate: 0, is_held: false });
        }
        Some(self.nodes[host - 1].disk.contents.get(&content)?.state())
    }

    /// Who may fetch a content by this capability.
    fn admits(&self, host: Host, token: &str, content: ContentId) -> Option<Capability> {
        let utc_s = self.utc_ns(host).div_euclid(1_000_000_000);
        self.base_key.admit(token, content, utc_s).ok()
    }

    fn frames_of(&self, host: Host, content: ContentId) -> Option<&Frames> {
        if host == BASE {
            return self.base.contents.get(&content).map(|known| &known.frames);
        }
        let disk = &self.nodes[host - 1].disk;
        disk.contents.get(&content).filter(|_| disk.is_readable(content)).map(|held| &held.frames)
    }

    fn was_removed(&self, host: Host, content: ContentId) -> bool {
        let removed =
            if host == BASE { &self.base.removed } else { &self.nodes[host - 1].disk.removed };
        removed.contains(&content)
    }

    fn tell_link(&mut self, n: usize, content: ContentId, link: LinkId, event: LinkEvent) {
        let run = self.nodes[n].runs;
        self.after(TELL, Event::Link { n, run, content, link, event });
    }

    fn link(&self, n: usize, content: ContentId, link: LinkId) -> Option<StreamId> {
        self.nodes[n].run.as_ref()?.links.get(&(content, link)).copied()
    }

    /// Where a source is.
    fn host_at(&self, source: &Source) -> Host {
        if source.node.is_none() {
            return BASE;
        }
        let by_addr = self.nodes.iter().position(|node| node.addr == source.addr);
        by_addr.map_or(BASE, host_of)
    }

    /// A frame as it leaves a host, which may spoil it.
    fn spoiled(&mut self, source: Host, frame: Frame) -> Frame {
        let Some(count) = self.streams.spoils.get_mut(&source).filter(|count| **count > 0) else {
            return frame;
        };
        *count -= 1;
        let mut bytes = frame.encoded().to_vec();
        let at = FRAME_HEADER + self.dice.index(bytes.len() - FRAME_HEADER);
        bytes[at] ^= 1 << self.dice.index(8);
        let mut reader = FrameReader::new();
        reader.push(bytes.into());
        let spoiled = reader.next_frame();
        self.trace.note(self.now, "spoiled", source as u64, at as u64);
        spoiled.ok().flatten().unwrap_or(frame)
    }
}

const FIRST: ContentId = ContentId(uuid::Uuid::nil());
const LAST: ContentId = ContentId(uuid::Uuid::max());
/// Frames of a stream that are under way or wait for the receiver.
const AHEAD_MAX: usize = 4;
const UNSENT_MAX: usize = 1;
/// Bytes by which somebody is ahead of who asks: what is under way may be lost.
const AHEAD: u64 = AHEAD_MAX as u64 * UNIT_BYTES;
const FRAME_HEADER: usize = 5;
/// As in `agent`: for a connection, and for the answer to a question.
const CONNECT_MAX: u64 = 3 * S;
const STATE_MAX: u64 = 700 * MS;
/// As in `http::peer`: a source that does not know a content waits for it.
const PATIENCE: u64 = S;
const STATE_PATIENCE: u64 = 400 * MS;
const PATIENCE_STEP: u64 = 100 * MS;
/// As in `agent::links`: for what waits for a rate.
const HELD_EVERY: u64 = 500 * MS;
/// From a link's task to the agent.
const TELL: u64 = MS;
