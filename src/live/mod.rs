//! Live paths: one source to any number of readers, on any number of shards.
//!
//! ```text
//!  ANNOUNCE SETUP RECORD --> sources --RTP--> core: source --Feed--> owner of the path
//!  DESCRIBE SETUP PLAY   --> readers <------- core: path   <-Batch-----'
//! ```
//! | room | what is there |
//! |---|---|
//! | `core` | what decides: plain code that knows nothing of RTSP, sessions or addresses |
//! | `readers` | sessions that are sent packets: DESCRIBE, SETUP, PLAY, PAUSE, feedback |
//! | `sources` | publishers, cameras that are pulled, inputs that listen |
//! | `multicast` | members of a path's group, and what is sent to the group |
//! | `desk` | `Live`: brings asks to the owners of paths, and their orders to readers and sources |
//! | `hub` | what readers and sources share: the paths, the asks |
//! | `config`, `configure` | what is configured of paths |
//! | `tick`, `renew` | what is done by the clock; what is said again, as messages may be lost |
//! | `ends`, `reports` | how readers and sources end; RTCP to both, and reports from readers |
//! | `view`, `pages`, `log` | what is told of paths and publishers: metrics, API, log |
//!
//! A command that needs a path which is not here yet is kept and executed again when the owner has
//! answered. DESIGN section 5.

mod config;
mod configure;
pub mod core;
pub mod desk;
mod ends;
pub mod hub;
mod log;
pub mod multicast;
mod pages;
pub mod readers;
mod renew;
mod reports;
pub mod sources;
#[cfg(test)]
mod tests;
mod tick;
mod view;

use crate::live::desk::Live;
use crate::rtsp::reader::Method;
use crate::rtsp::response::Status;
use crate::session::command::{Command, Executed};
use crate::session::cx::Cx;

impl Live {
    /// Executes a command for a path that names no session.
    pub(crate) fn execute_first(&mut self, cx: &mut Cx, command: Command) -> Executed {
        match command.request.method {
            Method::Announce => self.sources.announce(cx, &mut self.hub, &command),
            Method::Describe => self.readers.describe_live(cx, &mut self.hub, command),
            Method::Setup => match self.sources.publisher_of(cx, &command) {
                Some(number) => self.sources.execute_publisher(cx, &mut self.hub, command, number),
                None => self.readers.setup_reader(cx, &mut self.hub, command, None),
            },
            // Of a session that there is not: the front door lets none of them through to here.
            Method::Options
            | Method::Play
            | Method::Pause
            | Method::Teardown
            | Method::GetParameter
            | Method::SetParameter
            | Method::Record
            | Method::Redirect
            | Method::Unknown(_) => command.refuse(Status::SessionNotFound),
        }
    }
}
