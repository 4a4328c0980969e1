//! The players of titles on one shard, and what they are sent from.
//!
//! ```text
//!  commands, windows, timers --> Vod --> actions (tasks, answers, RTCP)
//!                                 |- players: the sessions             (`table`)
//!                                 |- windows: packet windows           (`windows`)
//!                                 `- stagger: when new epochs begin    (`stagger`)
//! ```
//! What concerns one session alone is done by `Players`: SETUP, PAUSE, TEARDOWN, reports. PLAY, the
//! pump and an exchange of feeds need windows too: they are methods of `Vod`.
//!
//! Invariant: a stream that waits for a window is among the window's waiters in `windows`, or asks
//! again after `RETRY_AFTER_REFUSAL`. Bound: those of its parts.

use std::sync::Arc;
use std::time::Duration;

use crate::media::window::{PacketWindow, WindowKey};
use crate::poll::task::{Task, TaskClass, TaskOwner, WindowFailure, Work};
use crate::session::action::Action;
use crate::session::cx::Cx;
use crate::session::directory::{SessionKey, StreamRef};
use crate::vod::playback::State;
use crate::vod::stagger::StartStagger;
use crate::vod::stream::Phase;
use crate::vod::table::Players;
use crate::vod::windows::{WindowAnswer, WindowCache};

/// Plays titles to the clients of one shard.
#[derive(Debug, Default)]
pub struct Vod {
    /// Sessions of titles.
    pub players: Players,
    pub(crate) windows: WindowCache,
    pub(crate) stagger: StartStagger,
}

impl Vod {
    /// Requests the windows that a stream wants: new ones, and its own when their pages age.
    pub fn request_windows(&mut self, cx: &mut Cx, key: SessionKey, stream_index: u8) {
        let now = cx.now;
        // Bounded: a cursor wants its window and the next one.
        for _ in 0..2 {
            let Some(session) = self.players.slab.get_mut(key.0 as usize) else { return };
            let epoch_count = session.epoch_count;
            let is_priming = matches!(session.state, State::Priming(_));
            let Some(stream) = session.streams.get_mut(usize::from(stream_index)) else { return };
            let Some(cursor) = &mut stream.feed.cursor else { return };
            let Some(index) = cursor.unasked() else { return };
            let track_index = stream.feed.track_index;
            let name = WindowKey { track_index, kind: cursor.kind(), index };
            let waiter = StreamRef { session: key, stream_index, epoch_count };
            match self.windows.request(&session.title, name, waiter, now) {
                WindowAnswer::Here(window) => cursor.handle_window(index, window),
                WindowAnswer::Requested => {
                    cursor.mark_asked(index);
                    return;
                }
                WindowAnswer::Request(number) => {
                    cursor.mark_asked(index);
                    let class = if is_priming { TaskClass::Control } else { TaskClass::Prefetch };
                    let work = Work::Window { title: session.title.clone(), key: name };
                    let owner = TaskOwner::Window(number);
                    let task = Task { shard: cx.shard, owner, class, work };
                    cx.out.push(Action::Submit(task));
                    return;
                }
            }
        }
    }

    /// A window has arrived, or cannot be built.
    pub fn handle_window(
        &mut self,
        cx: &mut Cx,
        request: u32,
        result: Result<Arc<PacketWindow>, WindowFailure>,
    ) {
        let Some((name, mut waiters)) = self.windows.handle_answer(request, result.as_ref().ok())
        else {
            return;
        };
        for waiter in waiters.drain(..) {
            match &result {
                Ok(window) => self.give_window(cx, waiter, name, window.clone()),
                Err(failure) => self.handle_window_failure(cx, waiter, name.index, failure),
            }
        }
        self.windows.give_back(waiters);
    }

    /// The TaskQueue has refused a window's task: its streams try again soon, and a PLAY that waits
    /// for the window is refused.
    pub fn handle_window_refused(&mut self, cx: &mut Cx, request: u32) {
        let Some((_, waiters)) = self.windows.handle_answer(request, None) else { return };
        for waiter in waiters {
            let Some(session) = self.players.session_mut(waiter.session) else { continue };
            if session.epoch_count != waiter.epoch_count {
                continue;
            }
            if matches!(session.state, State::Priming(_)) {
                self.refuse_play(cx, waiter.session);
                continue;
            }
            let index = usize::from(waiter.stream_index);
            let Some(stream) = session.streams.get_mut(index) else { continue };
            if let Some(cursor) = &mut stream.feed.cursor {
                cursor.forget_asked();
            }
            // A stream that still has frames to send asks again with its next frame.
            if stream.phase == Phase::WaitsForWindow {
                self.players.schedule(cx, waiter, cx.now + RETRY_AFTER_REFUSAL);
            }
        }
    }

    fn give_window(
        &mut self,
        cx: &mut Cx,
        waiter: StreamRef,
        name: WindowKey,
        window: Arc<PacketWindow>,
    ) {
        let now = cx.now;
        let Some(session) = self.players.session_mut(waiter.session) else { return };
        if session.epoch_count != waiter.epoch_count {
            return;
        }
        let is_priming = matches!(session.state, State::Priming(_));
        let Some(stream) = session.streams.get_mut(usize::from(waiter.stream_index)) else {
            return;
        };
        stream.handle_window(name, window);
        let waits = stream.phase == Phase::WaitsForWindow;
        if is_priming {
            self.finish_play_when_primed(cx, waiter.session);
        } else if waits {
            self.players.schedule(cx, waiter, now);
        }
    }

    fn handle_window_failure(
        &mut self,
        cx: &mut Cx,
        waiter: StreamRef,
        window_index: u32,
        failure: &WindowFailure,
    ) {
        let Some(session) = self.players.session(waiter.session) else { return };
        if session.epoch_count != waiter.epoch_count {
            return;
        }
        let stream = session.streams.get(usize::from(waiter.stream_index));
        let cursor = stream.and_then(|stream| stream.feed.cursor.as_ref());
        if cursor.is_some_and(|cursor| cursor.is_behind(window_index)) {
            // Nothing of it is sent but what a client asks for again.
            return;
        }
        tracing::warn!(
            code = "HE-W201", session = %session.client.id, title = session.title.name, %failure,
            "session ended: the title cannot be played any further"
        );
        cx.cells.sessions_failed.add(1);
        if matches!(session.state, State::Priming(_)) {
            self.fail_play(cx, waiter.session, failure);
        }
        self.players.fail(cx, waiter.session, Some("media failed"));
    }
}

/// Wait after a full TaskQueue: the time of a few tasks of a worker.
const RETRY_AFTER_REFUSAL: Duration = Duration::from_millis(10);
