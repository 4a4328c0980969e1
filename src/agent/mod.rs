//! A node's side of distribution: connections, disk and clock of the agent.
//!
//! ```text
//! control --orders--> driver: dist::agent --actions--> links, files, journal, folder
//!    ^                   ^  |                             |
//!  base <----reports-----|--'          events <-----------'
//! ```
//! - [`identity`]: who the node is. [`base`], [`control`]: the connection to the base. `channel`:
//!   connections with TLS or without.
//! - `driver`: one task that owns the plain [`Agent`](crate::dist::agent::Agent) and does what it
//!   asks for. `links`: bytes of sources. [`live`]: live paths of the server. `journal`: what
//!   survives. `folder`: changes of the media folder. `share`: viewers first. `feed`: what the
//!   threads of `journal` and `files` are to do. `neighbours`: what other nodes are told; [`door`]:
//!   what they say.
//!
//! Invariants: the driver never waits for a disk or a peer; nothing is told to the base before the
//! journal has it. Bounds: `EVENTS_MAX` events wait, then links do.

pub mod base;
mod bases;
mod channel;
pub mod control;
pub mod door;
mod driver;
mod feed;
mod files;
mod folder;
pub mod identity;
mod journal;
mod links;
pub mod live;
mod neighbours;
mod probe;
mod share;
#[cfg(test)]
pub(crate) mod testing;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::sync::{mpsc, oneshot, watch};

use crate::dist::agent::live::LiveEvent;
use crate::dist::agent::{Failure, Reserved};
use crate::dist::fetch::{AskId, LinkEvent, LinkId};
use crate::dist::ids::{CommandKey, ContentId, NodeName};
use crate::dist::keys::VerifyKey;
use crate::dist::relay::{Answer, HandId, RelayError};
use crate::dist::window::RateSchedule;
use crate::dist::wire::agent::{ReportsTaken, SignedReceipt};
use crate::dist::wire::peer::{Alternative, ContentState};
use crate::dist::wire::relay::{RelayBody, SignedAnswer};
use crate::pki::PkiError;
use crate::pki::trust::Trust;
use crate::store::{Store, StoreKey, Upload};
use base::{Base, BaseError, BaseUrl, UrlError};
use bases::Bases;
use channel::Channel;
use control::{Control, HelloAgain, HelloError, ORDERS_MAX, Session};
use door::Door;
use driver::Driver;
use folder::Folder;
use identity::{Identity, IdentityError};
use journal::Journal;
use live::ServerPaths;

/// What a node is started with.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// URL of the base, or URLs of bases that stand by for each other, with commas between.
    pub base: String,
    /// Token that makes a new node.
    pub join: Option<String>,
    /// By what the base is known.
    pub security: Security,
    /// Media folder.
    pub media: PathBuf,
    /// Name; `None`: the one that is kept, or that of the host.
    pub name: Option<NodeName>,
    /// What is said of the node.
    pub facts: Facts,
}

/// By what a node knows its base.
#[derive(Debug, Clone)]
pub enum Security {
    /// By the CA that it believed when it joined.
    Kept,
    /// By this.
    Tls(Trust),
    /// By nothing: without TLS.
    Insecure,
}

/// What a node says of itself.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Where peers reach it. An address of all interfaces: where the base sees it come from.
    pub addr: SocketAddr,
    /// Where RTSP is served; all interfaces: where the base sees it come from.
    pub rtsp: Option<SocketAddr>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Bytes per second that it may send, by time of day.
    pub up_rate: RateSchedule,
    /// Bytes per second that it may receive.
    pub down_rate: Option<u64>,
}

/// Is told of the store, the TLS of the port for peers, and the way to the agent.
pub type OnOpen = Box<dyn FnOnce(Store, Option<Arc<ServerConfig>>, Door) + Send>;

/// What runs beside the agent, in the same process.
pub struct Beside {
    /// Sessions that play.
    pub viewers: Box<dyn Fn() -> u64 + Send + Sync>,
    /// Bytes that peers were sent.
    pub sent: Arc<AtomicU64>,
    /// What peers are sent through.
    pub upload: Upload,
    /// Live paths of the server.
    pub paths: Arc<dyn ServerPaths>,
    /// Counts turns of the agent: some each second, whatever it has to do.
    pub turns: Arc<AtomicU64>,
    /// Called once, when the store is open: peers may be served, with this TLS, and what they say
    /// goes through the door.
    pub on_open: OnOpen,
}

/// Why a node does not start, or ends.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The URL of the base.
    #[error("--base: {0}")]
    Url(#[from] UrlError),
    /// The agent's folder.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Nothing is known of the base.
    #[error(
        "nothing tells this node the right base: give a join token with the fingerprint of its CA \
         (--join TOKEN~FINGERPRINT, as the base prints it), or the CA's certificate with --ca FILE"
    )]
    NoTrust,
    /// A certificate that is kept is of no use.
    #[error("the certificate of the node: {0}; remove {folder} to join as a new node", folder = .1)]
    Certificate(PkiError, String),
    /// The base refuses this node.
    #[error(transparent)]
    Hello(#[from] HelloError),
    /// A file or the network.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
}

/// A node that is not running yet.
#[derive(Debug)]
pub struct Node {
    control: Control,
    folder: Arc<Folder>,
    media: PathBuf,
}

/// What the driver hears.
#[derive(Debug)]
enum Event {
    Online(Session),
    Offline,
    Reported(Result<ReportsTaken, BaseError>),
    Journaled(u64),
    Reserved {
        content: ContentId,
        reserved: Result<Reserved, Failure>,
    },
    Link {
        content: ContentId,
        link: LinkId,
        event: LinkEvent,
    },
    Alternatives {
        content: ContentId,
        link: LinkId,
        others: Vec<Alternative>,
    },
    State {
        content: ContentId,
        ask: AskId,
        state: Option<ContentState>,
    },
    Unwritable {
        content: ContentId,
        failure: Failure,
    },
    Probed {
        number: u64,
        probed: Result<(), String>,
    },
    Applied {
        key: CommandKey,
        applied: Result<SignedReceipt, Failure>,
    },
    /// Another node hands orders on.
    Relayed {
        body: RelayBody,
        reply: oneshot::Sender<Result<Answer, RelayError>>,
    },
    Handed {
        hand: HandId,
        is_taken: bool,
    },
    /// Another node asks for the base how this one is.
    Asked {
        envelope: String,
        reply: oneshot::Sender<Result<SignedAnswer, RelayError>>,
    },
    Neighbour {
        node: NodeName,
        query: u64,
        answer: Option<SignedAnswer>,
    },
    Live {
        key: CommandKey,
        event: LiveEvent,
    },
}

impl Node {
    /// Opens the media folder and the agent's folder within it.
    ///
    /// # Errors
    /// See [`NodeError`].
    pub fn open(options: NodeOptions) -> Result<Self, NodeError> {
        let NodeOptions { base, join, security, media, name, facts } = options;
        let is_secure = !matches!(security, Security::Insecure);
        let urls = base.split(',').map(|url| BaseUrl::parse(url.trim(), is_secure));
        let urls = urls.collect::<Result<Vec<_>, _>>()?;
        let folder = Folder::open(&media).map_err(io_error(&media.display().to_string()))?;
        let identity = Identity::open(&media, name)?;
        let channel = channel(security, &identity)?;
        let mut bases = urls.into_iter().map(|url| Base::new(channel.clone(), url));
        let first = bases.next().ok_or_else(|| UrlError::Form { url: base.clone() })?;
        let bases = Bases::new(first, bases, identity.base_epoch());
        let control = Control { bases, channel, join, identity, facts, incarnation: None };
        Ok(Self { control, folder: Arc::new(folder), media })
    }

    /// Name of the node.
    #[must_use]
    pub fn name(&self) -> &NodeName {
        self.control.identity.node()
    }

    /// `HOST:PORT` of the base that answered last.
    #[must_use]
    pub fn base(&self) -> &str {
        self.control.bases.authority()
    }

    /// RTSP is served there: others may reflect live paths from this node.
    pub fn set_rtsp(&mut self, addr: Option<SocketAddr>) {
        self.control.facts.rtsp = addr;
    }

    /// Says hello once, so that a wrong token is known before anything is served.
    ///
    /// # Errors
    /// See [`HelloError`].
    pub async fn join(&mut self) -> Result<(), HelloError> {
        self.control.hello(&self.folder).await.map(|_session| ())
    }

    /// Runs until `shutdown`. A node that has never joined waits for its base first.
    ///
    /// # Errors
    /// When the store or the journal cannot be opened, or the base refuses the node for good.
    pub async fn run(
        mut self,
        beside: Beside,
        shutdown: watch::Receiver<bool>,
    ) -> Result<(), NodeError> {
        let mut stop = shutdown.clone();
        let key = tokio::select! {
            key = self.base_key() => key?,
            () = stopped(&mut stop) => return Ok(()),
        };
        let contents = self.control.identity.folder().join("contents");
        let what = contents.display().to_string();
        let opened =
            tokio::task::spawn_blocking(move || Store::open(&contents, StoreKey::Verifies(key)));
        let opened = opened.await.map_err(|error| io::Error::other(error.to_string()));
        let (store, recovered) = opened.and_then(|opened| opened).map_err(io_error(&what))?;
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let folder = self.control.identity.folder();
        let journal = Journal::open(folder, events.clone());
        let (journal, records) = journal.map_err(io_error("the journal of the node"))?;
        let Beside { viewers, sent, upload, paths, turns, on_open } = beside;
        let channel = self.control.channel.clone();
        let folder = self.control.identity.folder().display().to_string();
        let tls = channel.server().map_err(|error| NodeError::Certificate(error, folder))?;
        on_open(store.clone(), tls, Door::new(events.clone()));
        let again = Arc::new(HelloAgain::default());
        let (orders, order_receiver) = mpsc::channel(ORDERS_MAX);
        let driver = Driver::new(driver::Parts {
            base_key: key,
            node: self.control.identity.node().clone(),
            keys: self.control.identity.keys().clone(),
            facts: self.control.facts.clone(),
            bases: self.control.bases.clone(),
            channel,
            store,
            recovered,
            journal,
            records,
            folder: Arc::clone(&self.folder),
            media: self.media,
            kept: self.control.identity.folder().to_owned(),
            again: Arc::clone(&again),
            events: events.clone(),
            viewers,
            sent,
            upload,
            paths,
            turns,
        });
        let driver = driver.map_err(io_error("the agent"))?;
        let control = self.control.run(&self.folder, &again, events, orders);
        tokio::select! {
            () = driver.run(receiver, order_receiver) => {}
            () = control => {}
            () = stopped(&mut stop) => {}
        }
        Ok(())
    }

    /// The base's key: the one that is kept, or of the first hello that succeeds. With TLS there is
    /// a certificate then, too.
    async fn base_key(&mut self) -> Result<VerifyKey, NodeError> {
        loop {
            let is_ready = self.control.channel.is_ready();
            if let Some(key) = self.control.identity.base_key().filter(|_| is_ready) {
                let parsed = key.parse::<VerifyKey>();
                return parsed.map_err(|error| {
                    let source = io::Error::new(io::ErrorKind::InvalidData, error.to_string());
                    NodeError::Io { what: "the key of the base".to_owned(), source }
                });
            }
            if let Err(error) = self.join().await {
                let base = self.control.bases.authority();
                tracing::warn!(code = "HE-W925", base, %error, "not joined yet: trying again");
                tokio::time::sleep(JOIN_PAUSE).await;
            }
        }
    }
}

impl fmt::Debug for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Beside").field("sent", &self.sent).finish_non_exhaustive()
    }
}

/// Connections to the base and to peers. A certificate that is kept is shown from the beginning.
fn channel(security: Security, identity: &Identity) -> Result<Channel, NodeError> {
    let folder = || identity.folder().display().to_string();
    let wrong = |error| NodeError::Certificate(error, folder());
    let kept = identity.certificate();
    let trust = match (security, kept) {
        (Security::Insecure, _) => return Channel::plain().map_err(io_error("connections")),
        (Security::Tls(trust), _) => trust,
        (Security::Kept, Some(kept)) => Trust::from_pem(&kept.authority).map_err(wrong)?,
        (Security::Kept, None) => return Err(NodeError::NoTrust),
    };
    let channel = Channel::secure(trust).map_err(io_error("connections"))?;
    if let Some(kept) = kept.filter(|kept| channel.believes(&kept.authority)) {
        let shown = channel.install(identity.keys(), &kept.certificate, &kept.authority);
        shown.map_err(wrong)?;
    }
    Ok(channel)
}

async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    let _sender_gone = shutdown.wait_for(|stop| *stop).await;
}

fn io_error(what: &str) -> impl Fn(io::Error) -> NodeError {
    let what = what.to_owned();
    move |source| NodeError::Io { what: what.clone(), source }
}

/// Events that the driver has not taken.
const EVENTS_MAX: usize = 4_096;
/// Between two attempts to join.
const JOIN_PAUSE: Duration = Duration::from_secs(2);
