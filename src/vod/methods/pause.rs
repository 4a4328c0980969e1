//! PAUSE (RFC 2326 s10.6): every stream stays at its next packet.

use crate::base::time::{Mono, Npt};
use crate::rtsp::range::{NptStart, Range, parse_range};
use crate::rtsp::response::Status;
use crate::session::action::TimerKey;
use crate::session::command::{Command, Executed};
use crate::session::cx::Cx;
use crate::session::directory::SessionKey;
use crate::vod::methods::{aggregate_only, answer};
use crate::vod::playback::State;
use crate::vod::position::resolve;
use crate::vod::table::Players;

impl Players {
    pub(crate) fn pause(&mut self, cx: &mut Cx, command: &Command, key: SessionKey) -> Executed {
        let now = cx.now;
        let Some(session) = self.slab.get_mut(key.0 as usize) else {
            return command.refuse(Status::SessionNotFound);
        };
        if let Err(status) = aggregate_only(session, command) {
            return command.refuse(status);
        }
        if matches!(session.state, State::Ready) {
            return command.refuse(Status::MethodNotValidInThisState);
        }
        // A pause point: playing continues until this point (RFC 2326 s10.6).
        if let Some(text) = command.request.header("Range") {
            let Ok(header) = parse_range(text) else { return command.refuse(Status::BadRequest) };
            let is_backward = session.epoch.is_some_and(|epoch| epoch.scale < 0.0);
            let Ok(span) = resolve(&header.range, &session.title, is_backward) else {
                return command.refuse(Status::InvalidRange);
            };
            if let Some((point, epoch)) = span.start.zip(session.epoch)
                && matches!(session.state, State::Playing)
                && is_ahead(point, session.npt_at(now), is_backward)
            {
                session.pause_point = Some(point);
                let timer = TimerKey::Pause { session: key, epoch_count: session.epoch_count };
                cx.wheel.replace(&mut session.timers.pause, epoch.wall_of_npt(point), timer);
                return Executed::Reply(answer(command, session));
            }
        }
        self.stop_playing(cx, key, now);
        let Some(session) = self.session_mut(key) else {
            return command.refuse(Status::SessionNotFound);
        };
        let range = Range::Npt { start: Some(NptStart::At(session.next_npt(now))), end: None };
        Executed::Reply(answer(command, session).header("Range", range.to_string()))
    }

    /// A pause point is reached. The session stops at the point, not where the clock is a little
    /// later.
    pub fn handle_pause_due(&mut self, cx: &mut Cx, key: SessionKey, epoch_count: u32) {
        let Some(session) = self.slab.get_mut(key.0 as usize) else { return };
        if session.epoch_count != epoch_count {
            return;
        }
        let Some((point, epoch)) = session.pause_point.zip(session.epoch) else { return };
        let at = epoch.wall_of_npt(point);
        if at > cx.now {
            // The timer of a pause point that was replaced after the timer had left the wheel.
            let timer = TimerKey::Pause { session: key, epoch_count };
            cx.wheel.replace(&mut session.timers.pause, at, timer);
            return;
        }
        self.stop_playing(cx, key, at);
    }

    fn stop_playing(&mut self, cx: &mut Cx, key: SessionKey, at: Mono) {
        let Some(session) = self.slab.get_mut(key.0 as usize) else { return };
        if matches!(session.state, State::Playing) {
            session.end_epoch(&mut cx.wheel);
            self.set_state(cx, key, State::Paused { at });
        }
    }
}

/// Whether playing will reach `point`.
fn is_ahead(point: Npt, npt: Npt, is_backward: bool) -> bool {
    if is_backward { point < npt } else { point > npt }
}
