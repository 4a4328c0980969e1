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
//! | `config`, `configure`, `fetch` | what is configured of paths; sources that are fetched |
//! | `pull` | of these, cameras and other servers that speak RTSP |
//! | `input` | those that listen: RTP and MPEG-TS from an address, a group, a description |
//! | `group`, `group_sender` | who listens to a path's group; what is sent to it |
//! | `ends`, `farewell` | how both end |
//! | `reports` | RTCP to both, and reports from readers |
//! | `feedback` | what readers have lost |
//! | `again` | what is said again to homes, as messages may be lost |
//! | `tick` | what is done by the clock |
//! | `view`, `pages` | what is told of paths and publishers: API, metrics |
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
mod pages;
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
mod walk;

use super::cx::Cx;
use super::request::{Command, Executed};
use crate::base::ids::SessionId;
use crate::base::names::{is_path_name, is_title_name};
use crate::rtsp::reader::Method;
use crate::rtsp::response::Status;
use desk::Live;

/// Whether a URL's path names a live path: whatever no title can have.
#[must_use]
pub fn is_live_path(path: &str) -> bool {
    is_path_name(path) && !is_title_name(path)
}

impl Live {
    /// Whether a session was ended by us, not long ago.
    pub(super) fn has_ended(&self, id: SessionId) -> bool {
        self.farewells.has(id)
    }

    /// Executes a command for a path that names no session.
    pub(super) fn execute_first(&mut self, cx: &mut Cx, command: Command) -> Executed {
        match command.request.method {
            Method::Announce => self.announce(cx, &command),
            Method::Describe => self.describe_live(cx, command),
            _ => match self.publisher_of(cx, &command) {
                Some(number) => self.execute_publisher(cx, command, number),
                None => self.setup_reader(cx, command, None),
            },
        }
    }

    pub(super) fn execute_publisher(
        &mut self,
        cx: &mut Cx,
        command: Command,
        number: u32,
    ) -> Executed {
        let now = cx.now;
        if let Some(publisher) = self.publishers.get_mut(&number) {
            publisher.alive = now;
            publisher.source.handle_sign_of_life(now);
        }
        match command.request.method {
            Method::Setup => self.setup_publisher(cx, command, number),
            Method::Record => self.record(cx, &command, number),
            Method::Pause => self.pause_publisher(cx, &command, number),
            Method::Teardown => {
                let response = cx.answer(&command);
                self.end_publisher(cx, number, "it says TEARDOWN");
                Executed::Reply(response)
            }
            Method::GetParameter | Method::SetParameter => Executed::Reply(cx.answer(&command)),
            _ => command.refuse(Status::MethodNotValidInThisState),
        }
    }

    pub(super) fn execute_reader(&mut self, cx: &mut Cx, command: Command, index: u32) -> Executed {
        let now = cx.now;
        if let Some(reader) = self.readers.get_mut(index as usize) {
            reader.alive = now;
        }
        match command.request.method {
            Method::Setup => self.setup_reader(cx, command, Some(index)),
            Method::Play => self.play_live(cx, &command, index),
            Method::Pause => self.pause_live(cx, &command, index),
            Method::Teardown => {
                let response = cx.answer(&command);
                self.end_reader(cx, index, Some("teardown"));
                Executed::Reply(response)
            }
            Method::GetParameter | Method::SetParameter => Executed::Reply(cx.answer(&command)),
            _ => command.refuse(Status::MethodNotValidInThisState),
        }
    }
}
