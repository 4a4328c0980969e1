//! The table of the players of titles on one shard, with their timers.
//!
//! ```text
//!  SETUP --insert--> session --schedule--> wheel --is_stream_due--> the pump
//!                       |----watch-------> wheel --handle_liveness--> silent: ended
//!                       `----fail, remove--> BYE, and nothing is left
//! ```
//! Invariant: from SETUP to `remove` every session is in `slab` and the directory, and every UDP
//! stream of the session in `sockets`; after `remove` nothing of the session is left. A session has
//! one key of each kind on the wheel, whatever its client commands. Silent clients are found by a
//! key of the wheel; those of live paths by a walk, which visits their sessions every second anyway
//! (`live::readers::liveness`).
//! Bound: `sessions_max`.

use std::time::Duration;

use slab::Slab;

use crate::base::ids::SessionId;
use crate::base::time::Mono;
use crate::rtsp::response::{Response, Status};
use crate::session::action::{Action, TimerKey};
use crate::session::cx::Cx;
use crate::session::directory::{SessionKey, SessionRef, StreamRef};
use crate::session::transport::Transport;
use crate::vod::playback::{Session, SessionTimers, State};
use crate::vod::stream::{Phase, RunMark, Stream};

/// The sessions of all players of titles on one shard.
#[derive(Debug, Default)]
pub struct Players {
    pub(crate) slab: Slab<Session>,
}

impl Players {
    /// A session by its key.
    pub fn session_mut(&mut self, key: SessionKey) -> Option<&mut Session> {
        self.slab.get_mut(key.0 as usize)
    }

    /// A session by its key.
    #[must_use]
    pub fn session(&self, key: SessionKey) -> Option<&Session> {
        self.slab.get(key.0 as usize)
    }

    /// Number of sessions.
    #[must_use]
    pub fn count(&self) -> usize {
        self.slab.len()
    }

    /// Keys of `most` sessions, or of all if there are fewer.
    #[must_use]
    pub fn some_keys(&self, most: usize) -> Vec<SessionKey> {
        let keys = self.slab.iter().filter_map(|(place, _)| u32::try_from(place).ok());
        keys.map(SessionKey).take(most).collect()
    }

    /// A session's client has given a sign of life.
    pub fn touch(&mut self, cx: &mut Cx, key: SessionKey) {
        let now = cx.now;
        if let Some(session) = self.session_mut(key) {
            session.client.alive = now;
        }
    }

    /// Adds a session.
    pub(crate) fn insert(&mut self, cx: &mut Cx, session: Session) -> SessionKey {
        let (id, connection) = (session.client.id, session.client.connection);
        cx.count_player(session.state.shown());
        let key = SessionKey(u32::try_from(self.slab.insert(session)).unwrap_or(u32::MAX));
        cx.directory.enter(id, connection, SessionRef::Title(key));
        key
    }

    /// Ends a session and frees its resources. A waiting command is answered 454.
    pub fn remove(&mut self, cx: &mut Cx, key: SessionKey) -> Option<Session> {
        let mut session = self.slab.try_remove(key.0 as usize)?;
        cx.directory.leave(session.client.id, session.client.connection, SessionRef::Title(key));
        cx.uncount_player(session.state.shown());
        let SessionTimers { report, pause, liveness } = session.timers;
        for timer in [report, pause, liveness] {
            cx.wheel.cancel(timer);
        }
        for stream in &session.streams {
            cx.wheel.cancel(stream.timer);
            if stream.quality.is_some() {
                cx.cells.quality_levels[stream.level() as usize].sub(1);
            }
            if let Transport::Udp { pair, rtp, rtcp } = stream.outgoing.transport {
                cx.release_tuple(pair, rtp, rtcp);
            }
        }
        if let State::Priming(priming) = &session.state {
            let status = Status::SessionNotFound;
            let response = Response::new(status, priming.cseq);
            cx.out.push(Action::Respond { reply_to: priming.reply_to, response });
        }
        for command in session.held.drain(..) {
            let response = command.response(Status::SessionNotFound);
            cx.out.push(Action::Respond { reply_to: command.reply_to, response });
        }
        Some(session)
    }

    /// Changes a session's state and the gauge.
    pub(crate) fn set_state(&mut self, cx: &Cx, key: SessionKey, state: State) {
        let Some(session) = self.slab.get_mut(key.0 as usize) else { return };
        cx.recount_player(session.state.shown(), state.shown());
        session.state = state;
    }

    /// The RTSP connection of a session has closed. An interleaved session ends with it. Another
    /// one lives on while its client gives signs of life by RTCP or over another connection.
    pub(crate) fn handle_connection_closed(&mut self, cx: &mut Cx, key: SessionKey) {
        let Some(session) = self.session_mut(key) else { return };
        session.client.connection = None;
        if session.is_interleaved() {
            self.remove(cx, key);
        } else {
            // A player that was killed gives no signs of life any more: it is checked soon.
            self.watch(cx, key, cx.now + ORPHAN_TIMEOUT.min(cx.config.timeout));
        }
    }

    /// Schedules a check of a session's client at `due`; this replaces an earlier time.
    pub(crate) fn watch(&mut self, cx: &mut Cx, key: SessionKey, due: Mono) {
        let Some(session) = self.slab.get_mut(key.0 as usize) else { return };
        session.liveness_due = due;
        let timer = TimerKey::Liveness { session: key, id: session.client.id };
        cx.wheel.replace(&mut session.timers.liveness, due, timer);
    }

    /// Checks whether a session's client is alive. True when the session was reaped.
    pub fn handle_liveness(&mut self, cx: &mut Cx, key: SessionKey, id: SessionId) -> bool {
        let (now, timeout) = (cx.now, cx.config.timeout);
        let is_due = |session: &&Session| session.client.id == id && session.liveness_due <= now;
        let Some(session) = self.session(key).filter(is_due) else { return false };
        // Client rule C16: over TCP a connection that takes packets is the sign of life. A
        // connection that nothing is sent on says nothing about its client.
        let is_carried = session.is_interleaved()
            && session.client.connection.is_some()
            && matches!(session.state, State::Priming(_) | State::Playing);
        let limit =
            if session.client.connection.is_some() { timeout } else { timeout.min(ORPHAN_TIMEOUT) };
        let silent = now.since(session.client.alive);
        if !is_carried && silent >= limit {
            tracing::info!(
                code = "HE-I201", session = %id, silent_s = silent.as_secs(),
                "session timed out"
            );
            cx.cells.sessions_timed_out.add(1);
            self.fail(cx, key, Some("timeout"));
            return true;
        }
        let due = if is_carried { now + limit } else { session.client.alive + limit };
        self.watch(cx, key, due);
        false
    }

    /// Keeps the keys of streams that still have packets to send.
    ///
    /// Most sessions are cold in the cache when their time comes. Short passes over all of them let
    /// the loads overlap; pumping one session after the other would wait for each load in turn.
    pub fn keep_due_streams(&self, due: &mut Vec<TimerKey>) {
        due.retain(|key| match *key {
            TimerKey::Stream { session, epoch_count, .. } => {
                self.session(session).is_some_and(|session| session.epoch_count == epoch_count)
            }
            _ => false,
        });
        due.retain(|key| self.is_stream_due(key));
    }

    /// Whether a key of the wheel is the stream's newest one, and the stream has a transport.
    #[must_use]
    pub fn is_stream_due(&self, key: &TimerKey) -> bool {
        let TimerKey::Stream { session, stream_index, epoch_count, timer_count } = *key else {
            return false;
        };
        self.session(session).is_some_and(|session| {
            let is_due = |stream: &Stream| {
                let has_way = matches!(stream.outgoing.transport, Transport::Udp { .. })
                    || session.client.connection.is_some();
                has_way && stream.phase == Phase::Scheduled && stream.timer_count == timer_count
            };
            session.epoch_count == epoch_count
                && matches!(session.state, State::Playing)
                && session.streams.get(usize::from(stream_index)).is_some_and(is_due)
        })
    }

    /// Puts a stream on the wheel.
    pub fn schedule(&mut self, cx: &mut Cx, stream: StreamRef, due: Mono) {
        let StreamRef { session, stream_index, epoch_count } = stream;
        let found = self.slab.get_mut(session.0 as usize);
        let stream = found.and_then(|s| s.streams.get_mut(usize::from(stream_index)));
        let Some(stream) = stream else { return };
        stream.phase = Phase::Scheduled;
        stream.timer_count = stream.timer_count.wrapping_add(1);
        let timer_count = stream.timer_count;
        let key = TimerKey::Stream { session, stream_index, epoch_count, timer_count };
        cx.wheel.replace(&mut stream.timer, due, key);
    }

    /// Ends a session from the server's side: BYE on every stream, then everything is freed.
    pub fn fail(&mut self, cx: &mut Cx, key: SessionKey, reason: Option<&str>) {
        self.say_bye(cx, key, reason);
        self.remove(cx, key);
    }

    pub(crate) fn stream_mut(&mut self, key: SessionKey, index: usize) -> Option<&mut Stream> {
        self.slab.get_mut(key.0 as usize)?.streams.get_mut(index)
    }

    /// The pair that a run was sent from, if its stream still plays that epoch.
    #[must_use]
    pub fn pair_of(&self, mark: &RunMark) -> Option<u16> {
        let is_current = |session: &&Session| session.epoch_count == mark.epoch_count;
        let session = self.session(mark.session).filter(is_current)?;
        match session.streams.get(usize::from(mark.stream_index))?.outgoing.transport {
            Transport::Udp { pair, .. } => Some(pair),
            Transport::Tcp { .. } | Transport::Group { .. } => None,
        }
    }

    /// A stream, if it still plays the epoch that is meant.
    pub(super) fn current_stream(&mut self, at: StreamRef) -> Option<&mut Stream> {
        let is_current = |session: &&mut Session| session.epoch_count == at.epoch_count;
        let session = self.session_mut(at.session).filter(is_current)?;
        session.streams.get_mut(usize::from(at.stream_index))
    }

    /// Commands held behind a PLAY may go on.
    pub(crate) fn release_held(&mut self, cx: &mut Cx, key: SessionKey) {
        let Some(session) = self.session_mut(key) else { return };
        let held = std::mem::take(&mut session.held);
        cx.out.extend(held.into_iter().map(|command| Action::Execute(Box::new(command))));
    }
}

/// Limit of a session whose RTSP connection closed without TEARDOWN: three RTCP intervals (RFC 3550
/// s6.2) tell a player that went on from one that was killed.
const ORPHAN_TIMEOUT: Duration = Duration::from_secs(15);
