//! What HLS asks of the appliance, which implements [`HlsView`].
//!
//! Invariant: nothing here blocks; an answer that does not come drops its sender.

use std::sync::Arc;

use tokio::sync::{oneshot, watch};

use crate::access::question::{Answer, Question};
use crate::access::throttle::Throttle;
use crate::base::time::Mono;
use crate::config::paths::PathTable;
use crate::hls::live::{LiveError, Snapshot};
use crate::library::title::Title;
use crate::live::core::message::RefusedError;
use crate::poll::task::OpenFailure;
use crate::session::draining::Drain;

/// The appliance as viewers see it.
pub trait HlsView: Send + Sync + 'static {
    /// Opens a title of the library, or finds it open; `None` stands for the built-in clip.
    fn open_title(&self, name: Option<&str>) -> oneshot::Receiver<Result<Arc<Title>, OpenFailure>>;

    /// What the configuration says of paths now.
    fn paths(&self) -> Arc<PathTable>;

    /// Has somebody find out whether a client may.
    fn judge(&self, question: Question) -> oneshot::Receiver<Answer>;

    /// How long logins of addresses that failed wait.
    fn throttle(&self) -> &Throttle;

    /// The time.
    fn now(&self) -> Mono;

    /// The order to take no new viewers, if there is one.
    fn drain(&self) -> Option<Arc<Drain>>;

    /// Has a live path made into segments, or finds that it is; who asks again keeps it so.
    fn watch_live(
        &self,
        path: &str,
    ) -> oneshot::Receiver<Result<watch::Receiver<Arc<Snapshot>>, LiveRefusal>>;
}

/// Why a live path cannot be watched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LiveRefusal {
    /// Its owner refuses it.
    #[error("{0}")]
    Refused(#[from] RefusedError),
    /// It cannot be shown in a browser.
    #[error("{0}")]
    NotShown(#[from] LiveError),
    /// It is a line-up: sessions of RTSP alone change channels.
    #[error("the path is a line-up, whose channels only RTSP sessions can choose; watch a channel")]
    Lineup,
    /// As many paths are watched as may be.
    #[error("{max} live paths are watched already (hls.paths_max)")]
    TooMany {
        /// How many that is.
        max: usize,
    },
}
