//! What plays in the session of a line-up, and the commands that are led to it.
//!
//! ```text
//!  rtsp://host/tv/trackID=0 --lead--> rtsp://host/tv~101/trackID=0   a reader
//!                              `----> rtsp://host/vod/film.mp4       a player
//! ```
//! Only the target of a command is changed: answers repeat the URL that the client wrote.

use crate::base::ids::SessionId;
use crate::base::time::Npt;
use crate::lineup::tune::{Channel, Roles, TuneError, Tunings};
use crate::live::front::Live;
use crate::rtsp::headers::write_rate;
use crate::rtsp::range::{NptStart, Range};
use crate::rtsp::reader::{Method, Request};
use crate::rtsp::response::Status;
use crate::rtsp::uri::Target;
use crate::session::command::{Command, Executed, Given, Led, ReplyTo};
use crate::session::cx::Cx;
use crate::session::directory::SessionRef;
use crate::session::shown::ShownState;
use crate::vod::service::Vod;

/// The parts of a shard that play.
#[derive(Debug)]
pub(crate) struct Room<'a> {
    pub(crate) cx: &'a mut Cx,
    pub(crate) vod: &'a mut Vod,
    pub(crate) live: &'a mut Live,
    /// Changes of what sessions play.
    pub(crate) tunings: &'a mut Tunings,
}

/// What plays.
struct Plays {
    session: SessionRef,
    /// Path of its own URL.
    path: String,
    streams: usize,
}

impl Room<'_> {
    /// Executes a command in the session, whatever it plays.
    pub(crate) fn execute(&mut self, command: Command, session: SessionRef) -> Executed {
        let Self { cx, vod, live, .. } = self;
        match session {
            SessionRef::Title(key) => vod.execute(cx, command, key),
            SessionRef::Reader(index) => {
                live.readers.execute_reader(cx, &mut live.hub, command, index)
            }
            SessionRef::Publisher(number) => {
                live.sources.execute_publisher(cx, &mut live.hub, command, number)
            }
        }
    }

    /// Leads a command of a line-up's client to what plays, and executes it.
    pub(crate) fn lead(&mut self, command: Command, id: SessionId) -> Executed {
        let Some(plays) = self.plays(id) else {
            return command.refuse(Status::SessionNotFound);
        };
        let track = command.target.track.filter(|_| plays.streams != 1);
        // A SETUP names its track however many there are.
        let is_setup = command.request.method == Method::Setup;
        let track = if is_setup { command.target.track } else { track };
        let target = Target { path: plays.path, track, ..command.target.clone() };
        self.execute(Command { target, led: Led::Within, ..command }, plays.session)
    }

    /// A command of the server's own, in place of a key.
    pub(crate) fn own_command(
        &self,
        id: SessionId,
        (method, headers): (Method, &[(&str, &str)]),
        reply_to: ReplyTo,
    ) -> Option<Command> {
        let client = match self.cx.directory.find(id)? {
            SessionRef::Title(key) => &self.vod.players.session(key)?.client,
            SessionRef::Reader(index) => &self.live.readers.table.get(index as usize)?.client,
            SessionRef::Publisher(_) => return None,
        };
        Some(Command {
            request: Request::made(method, headers),
            target: Target::default(),
            session: Some(id),
            reply_to,
            peer: client.peer,
            local: client.peer.ip(),
            title: None,
            led: Led::Within,
            given: Given { user: client.user.clone(), ..Given::default() },
        })
    }

    /// Begins to change what the session plays.
    ///
    /// # Errors
    /// The change does not begin.
    pub(crate) fn tune(&mut self, id: SessionId, to: Channel) -> Result<(), TuneError> {
        let Self { cx, vod, live, tunings } = self;
        tunings.begin(cx, &mut Roles { vod, live }, id, to)
    }

    /// Keeps what the client was told of, which holds for all that the session plays.
    pub(crate) fn note_told(&mut self, id: SessionId) {
        let Self { cx, vod, live, .. } = self;
        Tunings::enter(cx, &mut Roles { vod, live }, id);
    }

    /// Its state, for GET_PARAMETER.
    pub(crate) fn state(&self, id: SessionId) -> Option<ShownState> {
        Some(match self.cx.directory.find(id)? {
            SessionRef::Title(key) => self.vod.players.session(key)?.state.shown(),
            SessionRef::Reader(index) => self.live.readers.table.get(index as usize)?.state.shown(),
            SessionRef::Publisher(_) => return None,
        })
    }

    /// A value of what plays, for GET_PARAMETER.
    pub(crate) fn value(&self, id: SessionId, name: &str) -> Option<String> {
        match self.cx.directory.find(id)? {
            SessionRef::Title(key) => {
                let session = self.vod.players.session(key)?;
                self.vod.players.value(self.cx, session, name)
            }
            SessionRef::Reader(_) if name.eq_ignore_ascii_case("position") => {
                Some("now".to_owned())
            }
            SessionRef::Reader(_) | SessionRef::Publisher(_) => None,
        }
    }

    fn plays(&self, id: SessionId) -> Option<Plays> {
        let session = self.cx.directory.find(id)?;
        let (path, streams) = match session {
            SessionRef::Title(key) => {
                let session = self.vod.players.session(key)?;
                (session.described.url_path.clone(), session.streams.len())
            }
            SessionRef::Reader(index) => {
                let reader = self.live.readers.table.get(index as usize)?;
                (reader.path.to_string(), reader.streams.len())
            }
            SessionRef::Publisher(_) => return None,
        };
        Some(Plays { session, path, streams })
    }
}

/// The method and headers of a key: PLAY at this scale from here, or on.
pub(crate) fn play_headers(from: Option<Npt>, scale: i8) -> Vec<(&'static str, String)> {
    let mut headers = vec![("Scale", write_rate(f64::from(scale)))];
    if let Some(npt) = from {
        let range = Range::Npt { start: Some(NptStart::At(npt)), end: None };
        headers.push(("Range", range.to_string()));
    }
    headers
}
