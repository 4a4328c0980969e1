//! Players that take a session in, and sessions that leave their title for another feed.
//!
//! ```text
//!  NextFeed::of_tracks --windows--> check_frames --> put_in
//!                                 take_out --^ of the old feed
//! ```
//! An exchange of titles under one session is in `vod::exchange`. Here the session comes from
//! another role, or another title whose place in the table it does not keep.
//!
//! Invariant: the session plays at scale 1 from the first frames of the next feed, which follow
//! all that was sent.

use std::collections::VecDeque;

use rand::Rng;

use crate::base::random;
use crate::base::time::{Mono, rescale};
use crate::live::core::clock::ClockPoint;
use crate::live::core::crossing::{WireTime, wait_ns};
use crate::session::cx::Cx;
use crate::session::directory::{SessionKey, SessionRef, StreamRef};
use crate::session::moving::{MovingSession, MovingStream};
use crate::vod::cursor::Next;
use crate::vod::epoch::Epoch;
use crate::vod::exchange::NextFeed;
use crate::vod::methods::play::{first_due, first_npt};
use crate::vod::playback::{Session, SessionTimers, State};
use crate::vod::service::Vod;
use crate::vod::stream::Stream;
use crate::vod::table::Players;
use crate::vod::thinning::{Quality, ThinningLevel};

impl Players {
    /// Whether a session can leave its title now: it plays, is paused, or has played to the end.
    pub fn can_leave(&self, key: SessionKey) -> bool {
        self.session(key).is_some_and(|session| {
            let is_under_way =
                matches!(session.state, State::Playing | State::Paused { .. } | State::Ended);
            is_under_way && session.epoch.is_some()
        })
    }

    /// Takes a session from its title. Packets that the kernel has are sent; packets that it
    /// refuses later are lost.
    pub fn take_out(&mut self, cx: &mut Cx, key: SessionKey) -> Option<MovingSession> {
        let now = cx.now;
        let mut session = self.slab.try_remove(key.0 as usize)?;
        let left_at = session.next_npt(now);
        session.end_epoch(&mut cx.wheel);
        cx.wheel.cancel(session.timers.liveness);
        cx.uncount_player(session.state.shown());
        let Session { client, streams, epoch, .. } = session;
        let streams = streams.into_iter().map(|stream| {
            if stream.quality.is_some() {
                cx.cells.quality_levels[stream.level() as usize].sub(1);
            }
            moving_stream(stream, epoch.as_ref(), (now, cx.utc_ns))
        });
        let (was, left_at) = (SessionRef::Title(key), Some(left_at));
        Some(MovingSession { streams: streams.collect(), client, was, left_at })
    }
}

impl Vod {
    /// Takes a session in, which plays the feed. `NextFeed::check_frames` has found it ready.
    pub fn put_in(&mut self, cx: &mut Cx, moving: MovingSession, mut next: NextFeed) -> SessionKey {
        let now = cx.now;
        let place = self.players.slab.vacant_key();
        let key = SessionKey(u32::try_from(place).unwrap_or(u32::MAX));
        moving.rename(cx, SessionRef::Title(key));
        let times: Vec<_> = moving.streams.iter().map(|stream| stream.time).collect();
        let said = cx.configs.find(&next.title.url_path).adapts_quality;
        let adapts = said.unwrap_or(cx.config.adapts_quality);
        let feeds = std::mem::take(&mut next.streams);
        let streams = moving.streams.into_iter().zip(feeds).map(|(stream, feed)| {
            let mut made = Stream::new(feed.track_index, stream.outgoing);
            let track = next.title.asset.tracks.get(usize::from(feed.track_index));
            if let Some(track) = track.filter(|_| adapts && feed.is_video) {
                made.quality = Some(Box::new(Quality::new(track.sync_gap())));
                cx.cells.quality_levels[ThinningLevel::Full as usize].add(1);
            }
            if made.outgoing.rtx.is_some() {
                made.resender = Some(Box::default());
            }
            if let Some(cursor) = feed.cursor {
                // Frames that refer to a frame before the start are left out.
                let is_within = feed.is_video && next.npt > crate::base::time::Npt::ZERO;
                made.seek(cursor, is_within.then_some(next.npt));
            }
            made
        });
        let mut session = Session {
            streams: streams.collect(),
            client: moving.client,
            title: next.title.clone(),
            described: next.title,
            state: State::Playing,
            liveness_due: now,
            // Never the epoch number of an earlier session in the same place.
            epoch_count: random::rng().next_u32(),
            epoch: None,
            end: None,
            pause_point: None,
            timers: SessionTimers::default(),
            held: VecDeque::new(),
            play_received: None,
        };
        let mut anchors = next.anchors;
        let npt = first_npt(&mut session, next.npt, &mut anchors);
        let due_zero = first_due(&mut session, npt, 1.0);
        let wall = self.stagger.next(now);
        let epoch = Epoch { wall, npt, due_zero, scale: 1.0, speed: 1.0, playout_ns: 0 };
        let epoch = cross(cx, &mut session, epoch, &anchors, &times);
        session.epoch = Some(epoch);
        let epoch_count = session.epoch_count;
        for (stream, anchor) in session.streams.iter_mut().zip(&anchors) {
            stream.begin_epoch(&epoch, *anchor, None);
        }
        cx.count_player(session.state.shown());
        let playing: Vec<_> =
            session.streams.iter().map(|stream| stream.feed.cursor.is_some()).collect();
        self.players.slab.insert(session);
        self.players.watch(cx, key, now + cx.config.timeout);
        for (stream_index, _) in (0_u8..).zip(playing).filter(|(_, plays)| *plays) {
            self.request_windows(cx, key, stream_index);
            let stream = StreamRef { session: key, stream_index, epoch_count };
            self.players.schedule(cx, stream, epoch.wall);
        }
        // Players keep sound and picture together by these reports.
        self.players.wait_for_report(cx, key, now);
        key
    }
}

/// A stream without its feed.
fn moving_stream(
    mut stream: Stream,
    epoch: Option<&Epoch>,
    (now, utc_ns): (Mono, i64),
) -> MovingStream {
    let time = epoch.map(|epoch| {
        let sent_ns = stream.playout_sent_ns(epoch);
        let next_ns = match stream.feed.cursor.as_mut().map(|cursor| cursor.peek()) {
            Some(Next::Frame(frame)) => stream.playout_of(epoch, &frame),
            Some(Next::Waiting | Next::End) | None => sent_ns,
        };
        // In a reordered picture the next frame is shown before the last one.
        let step_ns = next_ns.saturating_sub(sent_ns).clamp(0, STEP_NS_MAX);
        let step_ns = if step_ns > 0 { step_ns } else { STEP_NS };
        let since_ns = sent_ns.saturating_add(step_ns).saturating_sub(epoch.playout_ns);
        let ticks = rescale(since_ns, NS_PER_S, stream.outgoing.clock_rate_hz);
        let next = stream.epoch_ts().offset_ticks(ticks);
        WireTime { next, line: ClockPoint { utc_ns, ts: stream.ts_at(epoch, now) } }
    });
    MovingStream { outgoing: stream.outgoing, time }
}

/// Places the session's streams on RTP time: the zero of their clocks. The epoch returned begins
/// late enough that no stream goes back.
fn cross(
    cx: &Cx,
    session: &mut Session,
    epoch: Epoch,
    anchors: &[i64],
    times: &[Option<WireTime>],
) -> Epoch {
    // What is shown when the first frame is due lies before the start by the decode lead.
    let lead_ns = epoch.due_zero - epoch.npt;
    let until_ns = i64::try_from(epoch.wall.since(cx.now).as_nanos()).unwrap_or(0);
    let zero_utc_ns = cx.utc_ns.saturating_add(until_ns).saturating_sub(lead_ns);
    let firsts = session.streams.iter_mut().zip(anchors).zip(times);
    let wait_ns = wait_ns(firsts.filter_map(|((stream, anchor), time)| {
        let Next::Frame(frame) = stream.feed.cursor.as_mut()?.peek() else { return None };
        let hz = stream.outgoing.clock_rate_hz;
        let since_ns = rescale(epoch.rtp_delta(&frame, *anchor), hz, NS_PER_S);
        Some(((*time)?, zero_utc_ns.saturating_add(since_ns), hz))
    }));
    for (stream, time) in session.streams.iter_mut().zip(times) {
        let hz = stream.outgoing.clock_rate_hz;
        if let Some((own, time)) = stream.outgoing.own_mut().zip(time.as_ref()) {
            own.ts_zero = time.line.ts_at(zero_utc_ns.saturating_add(wait_ns), hz);
        }
    }
    Epoch { wall: epoch.wall.offset_ns(wait_ns), ..epoch }
}

const NS_PER_S: u32 = 1_000_000_000;
/// Step of RTP time after the last packet, where the next frame is not known.
const STEP_NS: i64 = 40_000_000;
/// Longest time that the last frame of the old feed is shown.
const STEP_NS_MAX: i64 = 100_000_000;
