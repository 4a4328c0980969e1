//! Executes the RTSP methods of a session (RFC 2326 s10); each method has a file.
//!
//! | method | Ready | Priming | Playing | Paused | Ended |
//! |---|---|---|---|---|---|
//! | SETUP | adds a stream | held | 455 | adds a stream | 455 |
//! | PLAY | starts | held | seeks, changes scale | resumes, seeks | starts again |
//! | PAUSE | 455 | held | stops | 200 | 200 |
//! | TEARDOWN | ends | held | ends | ends | ends |
//! | GET_PARAMETER, SET_PARAMETER, OPTIONS | sign of life in every state |||||
//!
//! A command from another connection is held while a PLAY waits for its windows. So the commands of
//! a session are answered in the order of their arrival. Bound: `HELD_MAX` held commands.

mod parameter;
mod pause;
pub(in crate::vod) mod play;
mod setup;
mod teardown;

use crate::rtsp::reader::Method;
use crate::rtsp::response::{Response, Status};
use crate::session::command::{Command, Executed};
use crate::session::cx::Cx;
use crate::session::directory::SessionKey;
use crate::vod::playback::{Session, State};
use crate::vod::service::Vod;

impl Vod {
    /// Executes a command without a session: SETUP begins one, other methods are refused.
    pub(crate) fn execute_first(&mut self, cx: &mut Cx, command: Command) -> Executed {
        match command.request.method {
            Method::Setup => self.players.setup(cx, command, None),
            Method::Options
            | Method::Describe
            | Method::Play
            | Method::Pause
            | Method::Teardown
            | Method::GetParameter
            | Method::SetParameter
            | Method::Announce
            | Method::Record
            | Method::Redirect
            | Method::Unknown(_) => command.refuse(Status::SessionNotFound),
        }
    }

    /// Executes a command for a session.
    pub(crate) fn execute(&mut self, cx: &mut Cx, command: Command, key: SessionKey) -> Executed {
        self.players.touch(cx, key);
        let Some(session) = self.players.session_mut(key) else {
            return command.refuse(Status::SessionNotFound);
        };
        if matches!(session.state, State::Priming(_)) {
            if session.held.len() >= HELD_MAX {
                return command.refuse(Status::ServiceUnavailable);
            }
            session.held.push_back(command);
            return Executed::Later;
        }
        match command.request.method {
            Method::Setup => self.players.setup(cx, command, Some(key)),
            Method::Play => self.play(cx, command, key),
            Method::Pause => self.players.pause(cx, &command, key),
            Method::Teardown => self.players.teardown(cx, &command, key),
            Method::GetParameter | Method::SetParameter => {
                self.players.parameter(cx, &command, key)
            }
            Method::Options
            | Method::Describe
            | Method::Announce
            | Method::Record
            | Method::Redirect
            | Method::Unknown(_) => command.refuse(Status::MethodNotAllowed),
        }
    }
}

/// The part of a session that the URL of a command names.
enum Scope {
    /// All streams (aggregate control).
    Presentation,
    /// One stream, by its place in the session.
    Stream(usize),
}

/// Finds the part of `session` that the URL of a command names.
///
/// # Errors
/// 404 for another presentation, 455 for a track that is not set up.
fn scope(session: &Session, command: &Command) -> Result<Scope, Status> {
    let path = command.target.path.trim_end_matches('/');
    // `*` stands for the session's presentation: some clients send TEARDOWN like that.
    if !path.is_empty() && path != session.described.url_path {
        return Err(Status::NotFound);
    }
    let Some(track) = command.target.track else { return Ok(Scope::Presentation) };
    let place = session.streams.iter().position(|stream| stream.track_index == track);
    match place {
        Some(index) => Ok(Scope::Stream(index)),
        None if usize::from(track) < session.described.asset.tracks.len() => {
            Err(Status::MethodNotValidInThisState)
        }
        None => Err(Status::NotFound),
    }
}

/// Refuses PLAY and PAUSE of one stream of several: only aggregate control is allowed
/// (RFC 2326 s11.3.12).
fn aggregate_only(session: &Session, command: &Command) -> Result<(), Status> {
    match scope(session, command)? {
        Scope::Stream(_) if session.streams.len() > 1 => Err(Status::OnlyAggregateOperationAllowed),
        Scope::Stream(_) | Scope::Presentation => Ok(()),
    }
}

/// An answer of 200 with the Session header.
fn answer(command: &Command, session: &Session) -> Response {
    command.response(Status::Ok).header("Session", session.client.id.to_string())
}

/// More commands behind one PLAY come only from a client that does not wait for answers.
const HELD_MAX: usize = 16;
