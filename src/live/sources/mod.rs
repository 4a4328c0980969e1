//! The sources of a shard: publishers, cameras that are pulled, inputs that listen, relays of paths
//! with fallbacks, titles.
//!
//! ```text
//!  ANNOUNCE -------------------------------claim--> publishers --packets--> owners of paths
//!  owner --path--> pulls  --number, connection--claim---^
//!           |---> inputs --number, datagrams---claim---|
//!           |---> relays --batches of other paths------|
//!           `---> titles --number, packets-------claim-'
//! ```
//! There are several tables: a camera or an input begins before it has a publisher, and claims
//! its path when its description is known. From then on it is in `publishers` too, under the same
//! number, and its packets go the way of all packets. An owner names a source that it fetches by
//! the path: `pulls`, `inputs` and `titles` find it by one look-up.
//!
//! Invariant: a source that feeds a path is in `publishers`, whatever way its packets arrive.
//! Bound: `PATHS_MAX` publishers, and as many pulls, inputs and titles.

mod announce;
pub(crate) mod announced;
mod arrivals;
mod cameras;
mod end;
pub(crate) mod fallback;
mod fetch;
pub(crate) mod info;
pub mod listen;
mod log;
pub mod publisher;
pub mod publishers;
pub mod pull;
mod reports;
mod table;
mod takeover;
pub mod titles;
mod walk;

use crate::live::hub::Hub;
use crate::live::sources::fallback::Relays;
use crate::live::sources::listen::Inputs;
use crate::live::sources::publishers::Publishers;
use crate::live::sources::pull::joined::Pulls;
use crate::live::sources::titles::Titles;
use crate::live::sources::titles::playlists::Playlists;
use crate::live::sources::walk::Walks;
use crate::rtsp::reader::Method;
use crate::rtsp::response::Status;
use crate::session::command::{Command, Executed};
use crate::session::cx::Cx;

/// All sources of one shard: see the module.
#[derive(Debug, Default)]
pub struct Sources {
    /// Sources that feed a path, or claim one.
    pub publishers: Publishers,
    /// Cameras that are pulled.
    pub(crate) pulls: Pulls,
    /// Sources that listen at an address.
    pub(crate) inputs: Inputs,
    /// Relays of paths with fallbacks.
    pub(crate) relays: Relays,
    /// Feeds of paths by titles.
    pub(crate) titles: Titles,
    /// Playlists of paths that are not fed at the moment.
    pub(crate) playlists: Playlists,
    /// Progress of the checks on sources.
    pub(crate) walks: Walks,
}

impl Sources {
    pub(crate) fn execute_publisher(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
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
            Method::Record => self.record(cx, hub, &command, number),
            Method::Pause => self.pause_publisher(cx, hub, &command, number),
            Method::Teardown => {
                let response = cx.answer(&command);
                self.end_publisher(cx, hub, number, "TEARDOWN from the publisher");
                Executed::Reply(response)
            }
            Method::GetParameter | Method::SetParameter => Executed::Reply(cx.answer(&command)),
            Method::Options
            | Method::Describe
            | Method::Announce
            | Method::Play
            | Method::Redirect
            | Method::Unknown(_) => command.refuse(Status::MethodNotValidInThisState),
        }
    }
}
