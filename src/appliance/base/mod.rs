//! A base of distribution put together: ledger, contents, routers, and their end.
//!
//! ```text
//! run: folder -> keys, tokens -> listener -> ledger -> Book -> clerk -> contents -> routers
//!      .. signal .. requests in progress -> last commit -> end
//! ```
//! It has no shard and no worker: HTTP runs on a tokio runtime of its own, the clerk on a thread.
//! Invariant: the address is ours and the ledger is read before the start-up text is written.
//! Bounds: those of `http` for connections, of `ledger` for requests.

mod data;
mod tend;

use std::future::Future;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::end::End;
use super::{RunError, limits, listen, signals, system};
use crate::cli;
use crate::dist::book::{Book, BookOptions};
use crate::http::ctp::Ctp;
use crate::http::{self, jobs, peer};
use crate::ledger::clerk::{self, Clerk};
use crate::ledger::{Ledger, LedgerError};
use crate::metrics::distribution::DistributionCells;
use crate::store::{RateLimit, Store, StoreKey};
use data::{DataDir, Tokens};
use tend::Sent;

/// What a base is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseConfig {
    /// Where clients and nodes ask.
    pub listen: SocketAddr,
    /// Where nodes reach it, if that is elsewhere.
    pub advertise: Option<SocketAddr>,
    /// Folder of ledger, contents and keys.
    pub data: PathBuf,
    /// Tokens of clients; by default a file in the folder.
    pub provider_token_file: Option<PathBuf>,
    /// Token by which nodes join; by default a file in the folder.
    pub join_token_file: Option<PathBuf>,
    /// Bytes per second that may leave it.
    pub up_rate: Option<u64>,
    /// For how long a node may fetch a content by one permission.
    pub token_ttl: Duration,
    /// For how long contents are kept behind the end of their job.
    pub keep: Duration,
}

/// Serves until a signal comes.
///
/// # Errors
/// See [`RunError`].
pub fn run(config: &BaseConfig) -> Result<(), RunError> {
    let end = End::default();
    let result = serve(config, &end);
    end.reach();
    result
}

fn serve(config: &BaseConfig, end: &End) -> Result<(), RunError> {
    let _files = limits::raise_files();
    let data = DataDir::open(&config.data)?;
    let tokens =
        data.tokens(config.provider_token_file.as_deref(), config.join_token_file.as_deref())?;
    let keys = data.keys()?;
    let listener = listen::open_base(config.listen)?;
    let bound = listener.local_addr().map_err(system("the listener has no address"))?;
    let (ledger, rows) = Ledger::open(&data.ledger()).map_err(|error| match error {
        LedgerError::Held(_) | LedgerError::Version { .. } => RunError::Config(error.to_string()),
        other => RunError::Ledger(other.to_string()),
    })?;
    let advertised = advertised(config, bound);
    let mut options = BookOptions::new(advertised.to_string(), tokens.join);
    options.up_rate = config.up_rate;
    options.timeouts.capability = config.token_ttl;
    options.timeouts.content_kept = config.keep;
    let book = Book::new(rows, keys.clone(), options, clerk::now());
    let (clerk, thread) = Clerk::start(ledger, book).map_err(system("the clerk does not start"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("base")
        .build()
        .map_err(system("the runtime does not start"))?;
    let parts = Parts { config, data: &data, tokens: &tokens, keys, clerk, advertised };
    let result = runtime.block_on(parts.serve(listener, end));
    thread.end();
    // Reads of a disk that hangs must not hold up the end.
    runtime.shutdown_background();
    result
}

struct Parts<'a> {
    config: &'a BaseConfig,
    data: &'a DataDir,
    tokens: &'a Tokens,
    keys: crate::dist::keys::BaseKeys,
    clerk: Clerk,
    advertised: SocketAddr,
}

impl Parts<'_> {
    async fn serve(self, listener: TcpListener, end: &End) -> Result<(), RunError> {
        let (stop, shutdown) = watch::channel(false);
        let stop = Arc::new(stop);
        // Before the first answer: a signal ends it in order from then on.
        tokio::spawn(on_stop(Arc::clone(&stop), end.clone()));
        let base_key = self.keys.verify_key().to_string();
        let opened = Store::open(&self.data.contents(), StoreKey::Signs(self.keys.clone()));
        let (store, recovered) = opened.map_err(system("the folder of contents"))?;
        tend::reconcile(&self.clerk, &store, recovered).await?;
        let cells = Arc::new(DistributionCells::default());
        let sent = Arc::new(Sent::new(Arc::clone(&cells)));
        let access = jobs::auth::Access::new(self.tokens.providers.clone(), self.tokens.join);
        let state = jobs::JobsState {
            clerk: self.clerk.clone(),
            access: access.clone(),
            base_key,
            cells: Arc::clone(&cells),
        };
        let noted = Arc::clone(&sent);
        let source = peer::PeerState::new(peer::PeerOptions {
            store: store.clone(),
            children_max: CHILDREN_MAX,
            upload: Arc::new(RateLimit::new(self.config.up_rate)),
            sent: Arc::new(move |content, bytes| noted.add(content, bytes)),
        });
        let uploads = Ctp::new(access, self.clerk.clone(), store.clone(), Arc::clone(&cells));
        let routers =
            [jobs::router(state), http::ctp::router(Arc::new(uploads)), peer::router(source)];
        tokio::spawn(tend::each_second(self.clerk.clone(), store, sent, shutdown.clone()));
        self.announce();
        let serving = http::serve_distribution(listener, routers, shutdown);
        tokio::select! {
            served = serving => served.map_err(system("the listener failed")),
            () = ended(&self.clerk) => {
                Err(RunError::Ledger("the ledger cannot be written; the log says why".to_owned()))
            }
        }
    }

    /// The start-up text: where it is, and lines to copy.
    fn announce(&self) {
        let mut text = Vec::new();
        let url = format!("http://{}", self.advertised);
        let data = self.config.data.display();
        let version = env!("CARGO_PKG_VERSION");
        let mut line = |line: String| {
            // Memory takes it.
            let _never = writeln!(text, "{line}");
        };
        line(format!("headend {version} base"));
        line(format!("base     {url}/"));
        line(format!("data     {data}"));
        for (what, path, made) in &self.tokens.told {
            let path = path.display();
            line(match made {
                Some(token) => format!("{what}: {} (made now, kept in {path})", token.as_str()),
                None => format!("{what}: in {path}"),
            });
        }
        let file = |place: usize| {
            self.tokens.told.get(place).map(|(_, path, _)| path.display().to_string())
        };
        let (provider, join) = (file(0).unwrap_or_default(), file(1).unwrap_or_default());
        line(format!("node     headend node --base {url} --join {join} --media DIR"));
        line(format!("push     headend job push FILE --base {url} --token {provider}"));
        for warning in &self.tokens.warnings {
            line(format!("warning  {warning}"));
        }
        line("ready".to_owned());
        cli::log::print_aside(text);
    }
}

/// The clerk has ended by itself.
async fn ended(clerk: &Clerk) {
    let mut events = clerk.events();
    while events.changed().await.is_ok() {}
}

/// The first signal asks, a second one insists.
fn on_stop(stop: Arc<watch::Sender<bool>>, end: End) -> impl Future<Output = ()> {
    let mut is_stopping = false;
    signals::on_stop(move |signal| {
        if std::mem::replace(&mut is_stopping, true) {
            cli::log::flush();
            std::process::exit(1);
        }
        let signal = signal.as_str();
        tracing::info!(code = "HE-I931", signal, "the base stops: nodes and clients go on later");
        end.limit();
        stop.send_replace(true);
    })
}

/// Where nodes reach the base: an address that is said, the one it listens on, or the one by which
/// this machine reaches others.
fn advertised(config: &BaseConfig, bound: SocketAddr) -> SocketAddr {
    if let Some(said) = config.advertise {
        return said;
    }
    if !bound.ip().is_unspecified() {
        return bound;
    }
    SocketAddr::new(own_address().unwrap_or_else(|| Ipv4Addr::LOCALHOST.into()), bound.port())
}

/// Address of the interface that packets to others leave by. Nothing is sent: 192.0.2.1 is nobody
/// (RFC 5737).
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified()).then_some(ip)
}

/// Nodes that fetch from the base at once. The plan gives it fewer; it is everyone's last source.
const CHILDREN_MAX: usize = 64;
