//! What HLS and WHEP ask of the appliance, which implements [`HlsView`].
//!
//! Invariant: nothing here blocks; an answer that does not come drops its sender.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::{oneshot, watch};

use super::watchers::Watchers;
use crate::access::permit::Permit;
use crate::access::question::{Answer, Question};
use crate::access::throttle::Throttle;
use crate::base::time::Mono;
use crate::config::paths::PathTable;
use crate::hls::live::{LiveError, Snapshot};
use crate::library::title::Title;
use crate::live::core::message::RefusedError;
use crate::poll::task::OpenFailure;
use crate::session::draining::Drain;
use crate::whep::{OfferError, Opened};

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

    /// Asks the owner of a live path whether there is something, without having it made into
    /// segments.
    fn find_live(&self, path: &str) -> oneshot::Receiver<Result<(), LiveRefusal>>;

    /// Viewers of HLS.
    fn watchers(&self) -> &Watchers;

    /// Opens a session of WHEP.
    fn offer(&self, offer: OfferAsked) -> oneshot::Receiver<Result<Opened, WhepRefusal>>;

    /// Ends one. False: there is none of that id on the path.
    fn end_session(&self, path: &str, id: &str) -> oneshot::Receiver<bool>;
}

/// An offer of WHEP.
#[derive(Debug)]
pub struct OfferAsked {
    /// Name of the live path.
    pub path: String,
    /// The SDP of the browser.
    pub sdp: String,
    /// Address of the browser, or of the proxy in front.
    pub from: IpAddr,
    /// Where the browser reaches this server.
    pub reached: Reached,
    /// Leave to watch the path.
    pub permit: Permit,
}

/// Where a browser reaches this server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// At the address that its request came to.
    At(IpAddr),
    /// A proxy on this machine has sent the request on: at an address of the machine.
    ByProxy,
}

/// Why a session of WHEP does not begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WhepRefusal {
    /// The path cannot be watched.
    #[error("{0}")]
    Live(#[from] LiveRefusal),
    /// The offer is not accepted.
    #[error("{0}")]
    Offer(#[from] OfferError),
    /// It is not configured.
    #[error("WebRTC is off (webrtc.listen)")]
    Off,
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
