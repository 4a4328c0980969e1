//! Sessions of live paths: those who publish, and those who read.
//!
//! ```text
//!  ANNOUNCE SETUP RECORD --> Publisher --RTP--> Source --Feed--> home of the path
//!  DESCRIBE SETUP PLAY   --> Reader    <------- LivePath <-Batch----'
//! ```
//! | file | what is there |
//! |---|---|
//! | `desk` | `Live`: brings asks to the owners of paths, and their orders to readers and sources |
//! | `hub` | what readers and sources share: the paths, the asks |
//! | `readers` | the table of readers, with `held`: commands that wait for a path |
//! | `sources` | the tables of sources, with `walk`: who is looked after next |
//! | `publisher`, `announce` | who publishes; ANNOUNCE, SETUP, RECORD |
//! | `announced` | media of one who publishes, and what readers are told of them |
//! | `arrivals` | RTP and RTCP of publishers |
//! | `reader`, `setup`, `play` | who reads; DESCRIBE, SETUP, PLAY, PAUSE |
//! | `config`, `configure`, `fetch` | what is configured of paths; sources that are fetched |
//! | `pull` | of these, cameras and other servers that speak RTSP |
//! | `input` | those that listen: RTP and MPEG-TS from an address, a group, a description |
//! | `group`, `group_sender` | who listens to a path's group; what is sent to it |
//! | `pumped` | readers as the pump sees them |
//! | `ends`, `farewell` | how both end |
//! | `reports` | RTCP to both, and reports from readers |
//! | `feedback` | what readers have lost |
//! | `again` | what is said again to homes, as messages may be lost |
//! | `tick`, `crowd` | what is done by the clock, and of that, some readers in a turn |
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
pub(super) mod farewell;
mod feedback;
mod fetch;
pub mod group;
mod group_sender;
mod held;
pub mod hub;
pub mod input;
mod notes;
mod pages;
mod play;
pub mod publisher;
pub mod pull;
mod pumped;
pub mod reader;
pub mod readers;
mod reports;
mod setup;
pub mod sources;
#[cfg(test)]
mod tests;
mod tick;
mod view;
mod walk;

use super::cx::Cx;
use super::request::{Command, Executed};
use crate::rtsp::reader::Method;
use crate::session::live::desk::Live;

impl Live {
    /// Executes a command for a path that names no session.
    pub(super) fn execute_first(&mut self, cx: &mut Cx, command: Command) -> Executed {
        match command.request.method {
            Method::Announce => self.sources.announce(cx, &mut self.hub, &command),
            Method::Describe => self.readers.describe_live(cx, &mut self.hub, command),
            _ => match self.sources.publisher_of(cx, &command) {
                Some(number) => self.sources.execute_publisher(cx, &mut self.hub, command, number),
                None => self.readers.setup_reader(cx, &mut self.hub, command, None),
            },
        }
    }
}
