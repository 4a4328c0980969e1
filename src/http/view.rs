//! What HTTP may ask of the appliance, which implements [`ApplianceView`], and its answers.
//!
//! Invariant: questions to shards never block; who asks waits for a `oneshot`, with a limit.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::oneshot;

use crate::base::ids::{SessionId, ShardId};
use crate::config::paths::PathChanges;
use crate::config::redirect::Redirect;
use crate::lineup::requests::{EventsAnswer, EventsRequest};
use crate::live::core::failover::{SwitchRequest, SwitchResult};
use crate::live::core::info::{PathsPage, PathsPlace};
use crate::live::sources::titles::playlists::{PlaylistAnswer, PlaylistRefusal, PlaylistRequest};
use crate::metrics::cells::{ShardCells, WorkerCells};
use crate::metrics::limits::Limit;
use crate::metrics::paths::PathTallies;
use crate::session::handover::MoveRefusal;
use crate::session::info::{SessionInfo, SessionsPage};

/// The appliance as seen from outside. Nothing here blocks, except what says so.
pub trait ApplianceView: Send + Sync + 'static {
    /// Cells of shard 0, 1, ...
    fn shard_cells(&self) -> Vec<Arc<ShardCells>>;

    /// Cells of the worker pool.
    fn worker_cells(&self) -> Arc<WorkerCells>;

    /// Limits on what strangers can grow.
    fn limits(&self) -> Arc<[Limit]>;

    /// The shard on whose pages a session is.
    fn home_of(&self, id: SessionId) -> ShardId {
        id.shard()
    }

    /// Asks a shard for its sessions behind an id, or from the first on. `None`: there is no such
    /// shard. A shard that is gone drops its sender.
    fn request_sessions(
        &self,
        shard: ShardId,
        after: Option<SessionId>,
    ) -> Option<oneshot::Receiver<SessionsPage>>;

    /// Asks the owner of a session for it. `None` when the id cannot be one of ours.
    fn request_session(&self, id: SessionId) -> Option<oneshot::Receiver<Option<SessionInfo>>>;

    /// Asks a shard what it knows of live paths, of all or of one, as `request_sessions`.
    fn request_paths(
        &self,
        shard: ShardId,
        path: Option<&str>,
        from: PathsPlace,
    ) -> Option<oneshot::Receiver<PathsPage>>;

    /// Asks every shard for the sums of its live paths. One receiver per shard; a shard that is
    /// gone drops its sender.
    fn request_path_tables(&self) -> Vec<oneshot::Receiver<PathTallies>>;

    /// Asks the owner of a live path to end its source and its readers. `None` when no path can
    /// have this name; the answer is false when there is no such path.
    fn kick_path(&self, path: &str) -> Option<oneshot::Receiver<bool>>;

    /// Asks the owner of a live path to show or edit its playlist. `None` when no path can have
    /// this name.
    fn ask_playlist(
        &self,
        path: &str,
        request: PlaylistRequest,
    ) -> Option<oneshot::Receiver<Result<PlaylistAnswer, PlaylistRefusal>>>;

    /// Keeps an edited playlist for the next start; false without a folder to keep it in. May block
    /// on the disk.
    ///
    /// # Errors
    /// It cannot be written: the reason.
    fn keep_playlist(&self, path: &str, answer: &PlaylistAnswer) -> Result<bool, String>;

    /// Looks for a title by its name in the library. May block on the disk.
    ///
    /// # Errors
    /// It cannot be opened: the reason.
    fn find_title(&self, name: &str) -> Result<(), String>;
    /// Asks the owner of a live path to switch its source. `None` when no path can have this name.
    /// The answer comes when the switch is done or refused, within `SWITCH_WAIT`.
    fn switch_path(
        &self,
        path: &str,
        request: SwitchRequest,
    ) -> Option<oneshot::Receiver<SwitchResult>>;

    /// Asks the owner of a session to end it. `None` when the id cannot be one of ours; the answer
    /// is false when the shard has no such session.
    fn end_session(&self, id: &str) -> Option<oneshot::Receiver<bool>>;

    /// Has a session move to another shard. `None` when the id cannot be one of ours.
    fn move_session(
        &self,
        id: SessionId,
        to: ShardId,
    ) -> Option<oneshot::Receiver<Result<ShardId, MoveRefusal>>>;

    /// Has a session of a line-up consume events; answered when all are consumed, or at once when
    /// they are not taken. `None` when the id cannot be one of ours.
    fn send_events(
        &self,
        id: &str,
        request: EventsRequest,
    ) -> Option<oneshot::Receiver<EventsAnswer>>;

    /// Titles of the library in the order of their names, those behind `after` only. May block on
    /// the disk: called on a thread that may.
    ///
    /// # Errors
    /// When the folder cannot be read.
    fn titles(&self, after: Option<&str>, limit: usize) -> io::Result<Vec<TitleEntry>>;

    /// Reads the configuration again, and gives the shards what it says of paths. May block on the
    /// disk: called on a thread that may.
    ///
    /// # Errors
    /// The configuration is wrong, or there is none to be read; then the running one stays.
    fn reload(&self) -> Result<Reload, ReloadError>;

    /// Addresses of HLS listeners; none when it is off.
    fn hls_addrs(&self) -> Vec<SocketAddr>;

    /// Has the shards take no new sessions. Another order replaces the one before. Each receiver is
    /// told when its shard goes by the order; `None`: a shard does not read its inbox.
    fn drain(&self, request: DrainRequest) -> Option<Vec<oneshot::Receiver<()>>>;

    /// Has the shards take new sessions again, as `drain`.
    fn undrain(&self) -> Option<Vec<oneshot::Receiver<()>>>;

    /// Whether the server is drained, and how far it is.
    fn drain_state(&self) -> DrainState;

    /// What `GET /v1/info` shows.
    fn info(&self) -> serde_json::Value;

    /// What `GET /v1/doctor` shows: the machine as it was examined at the start.
    fn checks(&self) -> serde_json::Value;

    /// The newest warnings and errors of the log, oldest first.
    fn log_lines(&self) -> Vec<LogLine>;

    /// Whether players are served.
    fn is_ready(&self) -> bool;
}

/// An order to take no new sessions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DrainRequest {
    /// Sessions that are left after this time are ended; `None`: they may stay.
    pub after: Option<Duration>,
    /// Where clients are sent; `None`: as the configuration says.
    pub redirect: Option<Redirect>,
    /// The process ends when no session is left.
    pub exits: bool,
}

/// How far a server is drained, as `GET /v1/drain` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DrainState {
    /// `serving`, `draining`, or `drained`: no session and no viewer by HLS or WebRTC is left.
    pub state: &'static str,
    /// Sessions that are left.
    pub sessions: u64,
    /// Viewers by HLS or WebRTC are left.
    pub hls: bool,
    /// Seconds until they are ended; `None`: they may stay.
    pub deadline_s: Option<u64>,
    /// Where clients are sent.
    pub redirect: Vec<String>,
    /// The process ends when no session is left.
    pub exit: bool,
}

/// One file of the library, as `GET /v1/vod` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TitleEntry {
    /// Path inside the library.
    pub name: String,
    /// Length of the file.
    pub bytes: u64,
    /// Time of its last change, in seconds since 1970.
    pub modified_utc_s: i64,
    /// Percent-encoded path for an RTSP URL: `/vod/a%20b.mp4`.
    pub url_path: String,
    /// Why it cannot be played, when that is known.
    pub problem: Option<String>,
}

/// A warning or an error of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogLine {
    /// UTC milliseconds.
    pub at_ms: i64,
    /// `warn` or `error`.
    pub level: &'static str,
    /// Code of the condition; empty where it has none.
    pub code: String,
    /// Text, and fields as `name=value`.
    pub text: String,
}

/// What a reading did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReloadReport {
    /// To paths.
    #[serde(flatten)]
    pub paths: PathChanges,
    /// Keys that have another value now, and count from the next start on.
    pub needs_restart: Vec<&'static str>,
    /// What is allowed but should be known.
    pub warnings: Vec<String>,
}

/// A reading that succeeded.
#[derive(Debug)]
pub struct Reload {
    /// What it did.
    pub report: ReloadReport,
    /// One for each shard: answers when the shard goes by it.
    pub applied: Vec<oneshot::Receiver<()>>,
}

/// Why the running configuration stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// There is none.
    #[error("the server was started without a configuration file; start it with -c FILE")]
    NoFile,
    /// It is wrong; with file, line and column.
    #[error("{0}")]
    Refused(String),
    /// A shard hangs.
    #[error("shard {shard} does not take the configuration; reload again")]
    Busy {
        /// Which.
        shard: usize,
    },
}
