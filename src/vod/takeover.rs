//! Players of titles that another process takes over.
//!
//! ```text
//!  old process: Players::record --> TitleSessionRecord --> PackedTitle::of, Vod::unpack: new one
//! ```
//! A record is made of a session that stays as it is: when the other process does not take it, the
//! session goes on. It has no windows: they are asked for again, and those of packets that a client
//! may ask for again (RFC 4588), too. A request for such a packet that comes before its window is
//! not answered, and the client repeats it. What is not told is how often each was sent again.
//! Invariant: the next packet has the number and the time that it would have had. Bound: the
//! streams of one session.

use std::sync::Arc;

use crate::base::time::{Mono, Npt};
use crate::library::title::Title;
use crate::media::window::WindowKey;
use crate::poll::task::{Task, TaskClass, TaskOwner, Work};
use crate::session::action::Action;
use crate::session::client::Client;
use crate::session::cx::Cx;
use crate::session::directory::{SessionKey, StreamRef};
use crate::takeover::exact::Exact;
use crate::takeover::v1::{EpochRecord, StateRecord, TitleSessionRecord};
use crate::vod::epoch::Epoch;
use crate::vod::handover::PackedTitle;
use crate::vod::playback::{Session, State};
use crate::vod::service::Vod;
use crate::vod::stream::{PackedStream, Phase};
use crate::vod::table::Players;
use crate::vod::windows::WindowAnswer;

impl Players {
    /// Whether no command of a session is under way.
    #[must_use]
    pub fn is_quiet(&self, key: SessionKey) -> bool {
        self.session(key).is_none_or(|session| {
            !matches!(session.state, State::Priming(_)) && session.held.is_empty()
        })
    }

    /// For another process; `None` for what is not handed over, and while a PLAY waits. `title_of`
    /// gives a title its place in the record of the shard, `pair_of` finds that of a pair.
    pub fn record(
        &self,
        cx: &Cx,
        key: SessionKey,
        title_of: &mut dyn FnMut(&Arc<Title>) -> u32,
        pair_of: &dyn Fn(u16) -> Option<u32>,
    ) -> Option<TitleSessionRecord> {
        let session = self.session(key)?;
        let state = match &session.state {
            State::Ready => StateRecord::Ready,
            State::Playing => StateRecord::Playing,
            State::Paused { at } => StateRecord::Paused { at_ns: at.0 },
            State::Ended => StateRecord::Ended,
            State::Priming(_) => return None,
        };
        let due = |timer| cx.wheel.due(timer).unwrap_or(cx.now);
        let streams = session.streams.iter().map(|stream| {
            let bye_due = (stream.phase == Phase::Finishing).then(|| due(stream.timer));
            stream.record(bye_due, pair_of)
        });
        Some(TitleSessionRecord {
            client: session.client.record(),
            streams: streams.collect::<Option<_>>()?,
            title: title_of(&session.title),
            described: title_of(&session.described),
            state,
            liveness_ns: session.liveness_due.0,
            epoch: session.epoch.as_ref().map(epoch_record),
            end_ns: session.end.map(|npt| npt.0),
            pause_point_ns: session.pause_point.map(|npt| npt.0),
            report_ns: due(session.timers.report).0,
            play_received_ns: session.play_received.map(|at| at.0),
        })
    }

    /// Titles of a session: that which it plays, and that which was described to it.
    pub fn titles_of(&self, key: SessionKey) -> impl Iterator<Item = &Arc<Title>> {
        self.session(key).into_iter().flat_map(|session| [&session.title, &session.described])
    }

    /// Titles of the sessions.
    pub fn titles(&self) -> impl Iterator<Item = &Arc<Title>> {
        self.slab.iter().flat_map(|(_, Session { title, described, .. })| [title, described])
    }
}

impl Vod {
    /// Asks for the windows of a session that has come without any.
    pub fn want_windows(&mut self, cx: &mut Cx, key: SessionKey) {
        let count = self.players.session(key).map_or(0, |session| session.streams.len());
        for index in (0..count).filter_map(|index| u8::try_from(index).ok()) {
            self.request_windows(cx, key, index);
            self.request_history(cx, key, index);
        }
    }

    /// Asks for the windows of packets that were sent lately.
    fn request_history(&mut self, cx: &mut Cx, key: SessionKey, stream_index: u8) {
        let now = cx.now;
        let Some(session) = self.players.slab.get_mut(key.0 as usize) else { return };
        let epoch_count = session.epoch_count;
        let Some(stream) = session.streams.get_mut(usize::from(stream_index)) else { return };
        let (Some(resender), Some(cursor)) = (&mut stream.resender, &stream.feed.cursor) else {
            return;
        };
        for index in resender.wanted() {
            if cursor.has_asked(index) {
                continue;
            }
            let track_index = stream.feed.track_index;
            let name = WindowKey { track_index, kind: cursor.kind(), index };
            let waiter = StreamRef { session: key, stream_index, epoch_count };
            match self.windows.request(&session.title, name, waiter, now) {
                WindowAnswer::Here(window) => resender.handle_window(index, &window),
                WindowAnswer::Requested => {}
                WindowAnswer::Request(number) => {
                    let work = Work::Window { title: Arc::clone(&session.title), key: name };
                    let (owner, class) = (TaskOwner::Window(number), TaskClass::Prefetch);
                    let task = Task { shard: cx.shard, owner, class, work };
                    cx.out.push(Action::Submit(task));
                }
            }
        }
    }
}

impl PackedTitle {
    /// As another process has told. `None`: the record does not fit `titles`, the titles of its
    /// shard, or a pair is missing.
    #[must_use]
    pub fn of(
        cx: &Cx,
        record: TitleSessionRecord,
        titles: &[Arc<Title>],
        pair_of: &dyn Fn(u32) -> Option<u16>,
    ) -> Option<Self> {
        let title = Arc::clone(titles.get(record.title as usize)?);
        let described = Arc::clone(titles.get(record.described as usize)?);
        let tracks = described.asset.tracks.len();
        if record.streams.iter().any(|stream| usize::from(stream.track) >= tracks) {
            return None;
        }
        let byes_due = record.streams.iter().map(|stream| stream.bye_ns.map(Mono)).collect();
        let streams =
            record.streams.into_iter().map(|stream| PackedStream::of(stream, &title, pair_of));
        Some(Self {
            streams: streams.collect::<Option<_>>()?,
            client: Client::resumed(cx, record.client)?,
            title,
            described,
            state: match record.state {
                StateRecord::Ready => State::Ready,
                StateRecord::Playing => State::Playing,
                StateRecord::Paused { at_ns } => State::Paused { at: Mono(at_ns) },
                StateRecord::Ended => State::Ended,
            },
            liveness_due: Mono(record.liveness_ns),
            epoch: record.epoch.map(epoch_of),
            end: record.end_ns.map(Npt),
            pause_point: record.pause_point_ns.map(Npt),
            report_due: Mono(record.report_ns),
            byes_due,
            play_received: record.play_received_ns.map(Mono),
        })
    }
}

fn epoch_record(epoch: &Epoch) -> EpochRecord {
    let Epoch { wall, npt, due_zero, scale, speed, playout_ns } = *epoch;
    EpochRecord {
        wall_ns: wall.0,
        npt_ns: npt.0,
        due_zero_ns: due_zero.0,
        scale: Exact(scale),
        speed: Exact(speed),
        playout_ns,
    }
}

fn epoch_of(record: EpochRecord) -> Epoch {
    let EpochRecord { wall_ns, npt_ns, due_zero_ns, scale, speed, playout_ns } = record;
    Epoch {
        wall: Mono(wall_ns),
        npt: Npt(npt_ns),
        due_zero: Npt(due_zero_ns),
        scale: scale.0,
        speed: speed.0,
        playout_ns,
    }
}
