//! Sessions of live paths: those who publish, and those who read.
//!
//! ```text
//!  ANNOUNCE SETUP RECORD --> Publisher --RTP--> Source --Feed--> home of the path
//!  DESCRIBE SETUP PLAY   --> Reader    <------- LivePath <-Batch----'
//! ```
//! | file | what is there |
//! |---|---|
//! | `desk` | all that a shard has of live paths, and its post with other shards |
//! | `held` | commands that wait for a path |
//! | `publisher`, `announce` | who publishes; ANNOUNCE, SETUP, RECORD |
//! | `announced` | media of one who publishes, and what readers are told of them |
//! | `arrivals` | RTP and RTCP of publishers |
//! | `reader`, `setup`, `play` | who reads; DESCRIBE, SETUP, PLAY, PAUSE |
//! | `config`, `configure`, `fetch` | what is configured of paths; sources that are fetched, not announced |
//! | `pull` | of these, cameras and other servers that speak RTSP |
//! | `input` | those that listen: RTP and MPEG-TS from an address, a group, a description |
//! | `group`, `group_sender` | who listens to a path's group; what is sent to it |
//! | `ends`, `farewell` | how both end |
//! | `reports` | RTCP to both, and reports from readers |
//! | `feedback` | what readers have lost |
//! | `again` | what is said again to homes, as messages may be lost |
//! | `tick` | what is done by the clock |
//! | `view` | what is told of paths and publishers: API, metrics |
//! | `notes` | what the log says |
//!
//! What decides is in `crate::live`; here it meets RTSP, sessions and addresses. A command that
//! needs a path which is not here yet is kept and executed again when the home has answered.
//! DESIGN section 5.

mod again;
mod announce;
mod announced;
mod arrivals;
mod config;
mod configure;
mod crowd;
pub mod desk;
mod ends;
mod farewell;
mod feedback;
mod fetch;
pub mod group;
mod group_sender;
mod held;
pub mod input;
mod notes;
mod play;
pub mod publisher;
pub mod pull;
pub mod reader;
mod reports;
mod setup;
#[cfg(test)]
mod tests;
mod tick;
mod view;

use super::directory::SessionRef;
use super::request::{Command, Executed};
use super::table::Sessions;
use crate::base::names::{is_path_name, is_title_name};
use crate::rtsp::reader::Method;
use crate::rtsp::response::{Response, Status};

/// Whether a URL's path names a live path: whatever no title can have.
#[must_use]
pub fn is_live_path(path: &str) -> bool {
    is_path_name(path) && !is_title_name(path)
}

impl Sessions {
    /// Whether a command is about a live path.
    pub(super) fn is_about_live(&self, command: &Command) -> bool {
        let begins =
            matches!(command.request.method, Method::Announce | Method::Describe | Method::Setup);
        match command.session {
            Some(id) => match self.cx.directory.find(id) {
                Some(SessionRef::Reader(_) | SessionRef::Publisher(_)) => true,
                Some(SessionRef::Title(_)) => false,
                None => self.live.farewells.has(id),
            },
            None => begins && command.title.is_none(),
        }
    }

    /// Executes such a command.
    pub(super) fn execute_live(&mut self, command: Command) -> Executed {
        match command.session.and_then(|id| self.cx.directory.find(id)) {
            Some(SessionRef::Publisher(number)) => return self.execute_publisher(command, number),
            Some(SessionRef::Reader(index)) => return self.execute_reader(command, index),
            Some(SessionRef::Title(_)) => return command.refuse(Status::SessionNotFound),
            None if command.session.is_some() => return self.say_farewell(&command),
            None => {}
        }
        match command.request.method {
            Method::Announce => self.announce(&command),
            Method::Describe => self.describe_live(command),
            _ => match self.publisher_of(&command) {
                Some(number) => self.execute_publisher(command, number),
                None => self.setup_reader(command, None),
            },
        }
    }

    fn execute_publisher(&mut self, command: Command, number: u32) -> Executed {
        let now = self.cx.now;
        if let Some(publisher) = self.live.publishers.get_mut(&number) {
            publisher.alive = now;
            publisher.source.handle_sign_of_life(now);
        }
        match command.request.method {
            Method::Setup => self.setup_publisher(command, number),
            Method::Record => self.record(&command, number),
            Method::Pause => self.pause_publisher(&command, number),
            Method::Teardown => {
                let response = self.live_answer(&command);
                self.end_publisher(number, "it says TEARDOWN");
                Executed::Reply(response)
            }
            Method::GetParameter | Method::SetParameter => {
                Executed::Reply(self.live_answer(&command))
            }
            _ => command.refuse(Status::MethodNotValidInThisState),
        }
    }

    fn execute_reader(&mut self, command: Command, index: u32) -> Executed {
        let now = self.cx.now;
        if let Some(reader) = self.live.readers.get_mut(index as usize) {
            reader.alive = now;
        }
        match command.request.method {
            Method::Setup => self.setup_reader(command, Some(index)),
            Method::Play => self.play_live(&command, index),
            Method::Pause => self.pause_live(&command, index),
            Method::Teardown => {
                let response = self.live_answer(&command);
                self.end_reader(index, Some("teardown"));
                Executed::Reply(response)
            }
            Method::GetParameter | Method::SetParameter => {
                Executed::Reply(self.live_answer(&command))
            }
            _ => command.refuse(Status::MethodNotValidInThisState),
        }
    }

    /// 200 that names the session.
    fn live_answer(&self, command: &Command) -> Response {
        let response = command.response(Status::Ok);
        match command.session {
            Some(id) => response.header("Session", self.cx.session_header(id)),
            None => response,
        }
    }
}
