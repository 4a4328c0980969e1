//! A command on its way to a session: the request, its origin, and the target of its answer.
//!
//! ```text
//!  connection           session                   shard
//!  Flow::Answer <------ Executed::Reply
//!  Flow::Wait   <------ Executed::Later --------> Action::Respond --> Event::Answered
//!  Flow::Wait   <------ Executed::NeedsPair ----> opens a pair and executes the command again
//!  Flow::Submit         (a title is opened before there is a command)
//! ```
//! `Executed` is the result of a command in its session. `Flow` is the result of a request in its
//! connection, and not every request becomes a command. `Disposition` is the result of an event in
//! any consumer: a connection handles several requests before it returns one. `Action::Respond`
//! carries the answer after `Executed::Later`; `Action::Execute` releases a held command.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::base::ids::{SessionId, ShardId};
use crate::base::names::Name;
use crate::library::title::Title;
use crate::poll::poll_table::EntryKey;
use crate::rtsp::reader::{Method, Request};
use crate::rtsp::response::{Response, Status};
use crate::rtsp::uri::Target;
use crate::session::srtp::SrtpPermission;

/// A command to execute: see the module.
#[derive(Debug)]
pub struct Command {
    /// The request as parsed.
    pub request: Request,
    /// The request's URL, parsed.
    pub target: Target,
    /// The session in the `Session` header.
    pub session: Option<SessionId>,
    /// Connection that the answer goes to.
    pub reply_to: ReplyTo,
    /// Remote address of the RTSP connection.
    pub peer: SocketAddr,
    /// Local address of the RTSP connection.
    pub local: IpAddr,
    /// The title, for a SETUP that begins a session.
    pub title: Option<Arc<Title>>,
    /// What a line-up has made of it.
    pub led: Led,
    /// What its sender has shown.
    pub given: Given,
}

/// Leave that a request was given, beyond what anybody has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Given {
    /// Who has sent it, where that was asked.
    pub user: Option<Arc<str>>,
    /// Path of which it may steer a session.
    pub controls: Option<Arc<str>>,
    /// What it may do with SRTP.
    pub srtp: SrtpPermission,
}

/// What a line-up has made of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Led {
    /// Nothing: its target is what the client wrote.
    Not,
    /// Led to a channel, without a session: a SETUP begins one of the line-up.
    ToChannel {
        /// Path of the line-up.
        lineup: Arc<str>,
        /// Number of the channel.
        number: u16,
    },
    /// Led to what its session plays.
    Within,
}

/// The connection that the answer to a command goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyTo {
    /// Shard of the connection.
    pub shard: ShardId,
    /// Entry of the connection on that shard.
    pub entry: EntryKey,
}

/// Result of a command.
#[derive(Debug)]
pub enum Executed {
    /// The command is done; this is the answer.
    Reply(Response),
    /// The answer follows as `Action::Respond`.
    Later,
    /// The client address is in use on every pair: the caller opens another pair and executes
    /// again.
    NeedsPair(Box<Command>),
}

impl ReplyTo {
    /// An address of the shard's line-ups in place of a connection.
    #[must_use]
    pub fn of_lineup(shard: ShardId, operation: u32) -> Self {
        Self { shard, entry: EntryKey { index: LINEUPS, generation: operation } }
    }

    /// The operation of a line-up that is answered; `None` for a connection.
    #[must_use]
    pub fn operation(self) -> Option<u32> {
        (self.entry.index == LINEUPS).then_some(self.entry.generation)
    }
}

impl Command {
    /// The same command with another address for its answer.
    #[must_use]
    pub fn with_reply_to(&self, reply_to: ReplyTo) -> Self {
        Self {
            request: self.request.clone(),
            target: self.target.clone(),
            session: self.session,
            reply_to,
            peer: self.peer,
            local: self.local,
            title: self.title.clone(),
            led: self.led.clone(),
            given: self.given.clone(),
        }
    }

    /// An answer to this command.
    #[must_use]
    pub fn response(&self, status: Status) -> Response {
        Response::new(status, self.request.cseq)
    }

    /// An answer with a status only, as most refusals are.
    #[must_use]
    pub fn refuse(&self, status: Status) -> Executed {
        let response = self.response(status);
        Executed::Reply(match status {
            // RFC 2326 s11.3.6: the answer lists the methods that are allowed instead.
            Status::MethodNotValidInThisState => {
                let is_at_rest = self.request.method == Method::Pause;
                response.header("Allow", if is_at_rest { ALLOWED_AT_REST } else { ALLOWED })
            }
            _ => response,
        })
    }
}

/// No row of a PollTable has this index.
const LINEUPS: u32 = u32::MAX - 1;
/// Methods of a session that has played: no further SETUP.
const ALLOWED: &str = "OPTIONS, PLAY, PAUSE, TEARDOWN, GET_PARAMETER, SET_PARAMETER";
/// Methods of a session that has not played yet: no PAUSE.
const ALLOWED_AT_REST: &str = "OPTIONS, SETUP, PLAY, TEARDOWN, GET_PARAMETER, SET_PARAMETER";

/// `Public` of OPTIONS for a title: exactly the methods that are answered (rules C2, C20, C31).
pub const PUBLIC: &str =
    "OPTIONS, DESCRIBE, SETUP, PLAY, PAUSE, TEARDOWN, GET_PARAMETER, SET_PARAMETER";
/// `Public` of OPTIONS for a live path or the server.
const PUBLIC_LIVE: &str = "OPTIONS, DESCRIBE, ANNOUNCE, SETUP, PLAY, RECORD, PAUSE, TEARDOWN, \
     GET_PARAMETER, SET_PARAMETER";

/// `Public` for the path of a URL.
#[must_use]
pub fn public(path: &str) -> &'static str {
    match Name::parse(path) {
        Name::Root | Name::Live(_) => PUBLIC_LIVE,
        Name::Clip | Name::Library | Name::Title(_) | Name::Nothing => PUBLIC,
    }
}
