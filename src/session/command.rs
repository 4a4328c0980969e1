//! A command on its way to a session: the request, where it came from, where its answer goes.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::base::ids::{SessionId, ShardId};
use crate::base::names::Name;
use crate::library::title::Title;
use crate::poll::poll_table::EntryKey;
use crate::rtsp::reader::{Method, Request};
use crate::rtsp::response::{Response, Status};
use crate::rtsp::uri::Target;

/// See the module.
#[derive(Debug)]
pub struct Command {
    /// The request as read.
    pub request: Request,
    /// Its URL, taken apart.
    pub target: Target,
    /// The session that its `Session` header names.
    pub session: Option<SessionId>,
    /// Whom the answer goes to.
    pub waiter: Waiter,
    /// Where the RTSP connection comes from.
    pub peer: SocketAddr,
    /// Our address on the RTSP connection.
    pub local: IpAddr,
    /// The title, for a SETUP that begins a session.
    pub title: Option<Arc<Title>>,
}

/// Who waits for the answer to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiter {
    /// Shard of the connection.
    pub shard: ShardId,
    /// The connection's entry there.
    pub entry: EntryKey,
}

/// What becomes of a command.
#[derive(Debug)]
pub enum Executed {
    /// Done.
    Reply(Response),
    /// The answer follows as `Action::Respond`.
    Later,
    /// A client address is in use on every pair: open another pair, then execute again.
    NeedsPair(Box<Command>),
}

impl Command {
    /// An answer to this command.
    #[must_use]
    pub fn response(&self, status: Status) -> Response {
        Response::new(status, self.request.cseq)
    }

    /// An answer without more to say, as most refusals are.
    #[must_use]
    pub fn refuse(&self, status: Status) -> Executed {
        let response = self.response(status);
        Executed::Reply(match status {
            // RFC 2326 s11.3.6: the answer says what can be done instead.
            Status::MethodNotValidInThisState => {
                let is_at_rest = self.request.method == Method::Pause;
                response.header("Allow", if is_at_rest { ALLOWED_AT_REST } else { ALLOWED })
            }
            _ => response,
        })
    }
}

/// What a session that has played understands: no further SETUP.
const ALLOWED: &str = "OPTIONS, PLAY, PAUSE, TEARDOWN, GET_PARAMETER, SET_PARAMETER";
/// What a session that has not played yet understands: nothing to pause.
const ALLOWED_AT_REST: &str = "OPTIONS, SETUP, PLAY, TEARDOWN, GET_PARAMETER, SET_PARAMETER";

/// `Public` of OPTIONS for a title: all that is answered and nothing that is not (rules C2, C20,
/// C31).
pub const PUBLIC: &str =
    "OPTIONS, DESCRIBE, SETUP, PLAY, PAUSE, TEARDOWN, GET_PARAMETER, SET_PARAMETER";
/// The same where anything but a title is meant: a live path, or the server.
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
