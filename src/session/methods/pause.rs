//! PAUSE (RFC 2326 s10.6): every stream stays at its next packet.

use super::{aggregate_only, answer};
use crate::rtsp::range::{NptStart, Range, parse_range};
use crate::rtsp::response::Status;
use crate::session::position::resolve;
use crate::session::request::{Command, Executed};
use crate::session::session::State;
use crate::session::table::{SessionKey, Sessions, TimerKey};

impl Sessions {
    pub(super) fn pause(&mut self, command: &Command, key: SessionKey) -> Executed {
        let now = self.now;
        let Some(session) = self.session_mut(key) else {
            return command.refuse(Status::SessionNotFound);
        };
        if let Err(status) = aggregate_only(session, command) {
            return command.refuse(status);
        }
        if matches!(session.state, State::Ready) {
            return command.refuse(Status::MethodNotValidInThisState);
        }
        // A pause point: playing goes on until there (RFC 2326 s10.6).
        if let Some(text) = command.request.header("Range") {
            let Ok(header) = parse_range(text) else { return command.refuse(Status::BadRequest) };
            let Ok(span) = resolve(&header.range, &session.title, false) else {
                return command.refuse(Status::InvalidRange);
            };
            if let Some((point, epoch)) = span.start.zip(session.epoch)
                && point > session.npt_at(now)
                && matches!(session.state, State::Playing)
            {
                let timer = TimerKey::Pause { session: key, epoch_count: session.epoch_count };
                let reply = Executed::Reply(answer(command, session));
                self.wheel.insert(epoch.wall_of_npt(point), timer);
                return reply;
            }
        }
        self.stop_playing(key);
        let Some(session) = self.session_mut(key) else {
            return command.refuse(Status::SessionNotFound);
        };
        let range = Range::Npt { start: Some(NptStart::At(session.next_npt(now))), end: None };
        Executed::Reply(answer(command, session).header("Range", range.to_string()))
    }

    /// A pause point is reached.
    pub fn handle_pause_due(&mut self, key: SessionKey, epoch_count: u32) {
        if self.session(key).is_some_and(|session| session.epoch_count == epoch_count) {
            self.stop_playing(key);
        }
    }

    fn stop_playing(&mut self, key: SessionKey) {
        let now = self.now;
        let Some(session) = self.session_mut(key) else { return };
        if matches!(session.state, State::Playing) {
            session.end_epoch();
            self.set_state(key, State::Paused { at: now });
        }
    }
}
