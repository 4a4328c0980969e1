//! A base of distribution put together: ledger, contents, routers, and their end.
//!
//! ```text
//! run: listener -> sandbox -> folder -> CA, keys --file--> term: rows -> Book -> clerk -> contents
//!                                   |                       -> routers .. signal .. last commit
//!                               database                ^                       |
//!                                   '---> turns: standby | lease      lease lost |
//!                                            ^-----------'----------------------'
//! ```
//! It has no shard and no worker: HTTP runs on a tokio runtime of its own, the clerk on a thread.
//! A base whose ledger is a database stands by as long as another one has the lease (`turns`); what
//! it does while it has the ledger is a `term`.
//! Invariant: the address is ours before the start-up text is written, and the ledger is read
//! before a request is answered with more than that this base stands by.
//! Bounds: those of `http` for connections, of `ledger` for requests.

mod archive;
mod callbacks;
mod certificates;
mod data;
mod hooks;
mod tend;
mod term;
mod turns;

use std::future::Future;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::end::End;
use super::{RunError, given_up, limits, listen, signals, system};
use crate::cli;
use crate::config::confinement::ConfinementConfig;
use crate::dist::book::BookOptions;
use crate::dist::ids::Digest;
use crate::dist::keys::BaseKeys;
use crate::dist::quota::{Quota, Quotas};
use crate::dist::webhook::target::AllowedNetworks;
use crate::dist::window::RateSchedule;
use crate::http::Tls;
use crate::http::jobs::auth::quotas_of;
use crate::ledger::{Database, Ledger, LedgerError, clerk};
use crate::pki::PkiError;
use crate::sandbox::places::Places;
use crate::sandbox::{Report, Role, Sandbox};
use certificates::Certificates;
use data::{DataDir, Tokens, Told};

/// What a base is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseConfig {
    /// Where clients and nodes ask.
    pub listen: SocketAddr,
    /// Where nodes reach it, if that is elsewhere.
    pub advertise: Option<SocketAddr>,
    /// Folder of ledger, contents and keys.
    pub data: PathBuf,
    /// The ledger, where it is not a file of the folder.
    pub ledger: Option<Database>,
    /// Tokens of clients; by default a file in the folder.
    pub provider_token_file: Option<PathBuf>,
    /// Token by which nodes join; by default a file in the folder.
    pub join_token_file: Option<PathBuf>,
    /// Bytes per second that may leave it.
    pub up_rate: RateSchedule,
    /// For how long a node may fetch a content by one permission.
    pub token_ttl: Duration,
    /// For how long contents are kept behind the end of their job.
    pub keep: Duration,
    /// Names by which it is reached, beside those of its addresses.
    pub host_names: Vec<String>,
    /// Without TLS.
    pub is_insecure: bool,
    /// For how long certificates count: its own and those of nodes.
    pub certificate_life: Duration,
    /// What a client may use for which its line of tokens says nothing else.
    pub quota: Quota,
    /// Networks that notifications may go to, beside the public Internet.
    pub webhook_allow: AllowedNetworks,
    /// Until a notification that was not taken is sent a second time.
    pub webhook_retry: Duration,
    /// Orders for so many nodes go on from node to node; 0: never.
    pub relay_from: usize,
    /// Command that mends a node.
    pub repair_hook: Option<String>,
    /// For how long events stay in the ledger behind the end of their job.
    pub keep_events: Duration,
    /// Between two looks for older ones.
    pub archive_every: Duration,
    /// What the process gives up once it has its port.
    pub confinement: ConfinementConfig,
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
    let tokens = [&config.provider_token_file, &config.join_token_file];
    let places = Places::of_base(&config.data, tokens.map(|file| file.as_deref()));
    let mut sandbox =
        Sandbox::prepare(&config.confinement, places, Role::Base).map_err(given_up)?;
    if config.repair_hook.is_some() {
        sandbox = sandbox.that_runs_commands();
    }
    let listener = listen::open_base(config.listen)?;
    let sandbox = sandbox.enter().map_err(given_up)?;
    cli::log::start_writer().map_err(system("the log's thread does not start"))?;
    let data = DataDir::open(&config.data)?;
    let authority = match config.is_insecure {
        true => None,
        false => Some(Arc::new(data.authority()?)),
    };
    let tokens = data.tokens(
        config.provider_token_file.as_deref(),
        config.join_token_file.as_deref(),
        authority.as_ref().map(|authority| authority.fingerprint()),
    )?;
    let keys = data.keys()?;
    let bound = listener.local_addr().map_err(system("the listener has no address"))?;
    let advertised = advertised(config, bound);
    let addresses = [bound.ip(), advertised.ip()];
    let certificates = authority.map(|authority| {
        Certificates::new(authority, &addresses, &config.host_names, config.certificate_life)
    });
    let certificates = certificates.transpose().map_err(certificate_failed)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("base")
        .build()
        .map_err(system("the runtime does not start"))?;
    let config = config.clone();
    let sandbox = sandbox.close();
    let site = Site { config, data, tokens, keys, listener, advertised, certificates, sandbox };
    let result = runtime.block_on(site.serve(end));
    // Reads of a disk that hangs must not hold up the end.
    runtime.shutdown_background();
    result
}

/// What stays while terms come and go.
struct Site {
    config: BaseConfig,
    data: DataDir,
    tokens: Tokens,
    keys: BaseKeys,
    listener: TcpListener,
    advertised: SocketAddr,
    /// None without TLS.
    certificates: Option<Arc<Certificates>>,
    /// For the start-up text.
    sandbox: Report,
}

impl Site {
    async fn serve(&self, end: &End) -> Result<(), RunError> {
        let (stop, shutdown) = watch::channel(false);
        // Before the first answer: a signal ends it in order from then on.
        tokio::spawn(on_stop(Arc::new(stop), end.clone()));
        if let Some(certificates) = self.certificates.clone() {
            tokio::spawn(certificates.keep());
        }
        let Some(database) = &self.config.ledger else {
            let path = self.data.ledger();
            let office = term::open(self, move || Ledger::open(&path)).await?;
            let (mut is_announced, never_lost) = (false, std::future::pending());
            let served = term::serve(self, office, &mut is_announced, shutdown, never_lost);
            return served.await.map(drop);
        };
        turns::take(self, database, shutdown).await
    }

    fn options(&self) -> BookOptions {
        let mut options = BookOptions::new(self.advertised.to_string(), self.tokens.join);
        options.up_rate = self.config.up_rate.at(clerk::now().utc_ns);
        options.timeouts.capability = self.config.token_ttl;
        options.timeouts.content_kept = self.config.keep;
        options.timeouts.hook_retry = self.config.webhook_retry;
        options.quotas =
            Quotas { all: self.config.quota, by_client: quotas_of(&self.tokens.providers) };
        options.hook_networks = self.config.webhook_allow.clone();
        options.relay_from = self.config.relay_from;
        options.has_repair_hook = self.config.repair_hook.is_some();
        options
    }

    fn listener(&self) -> Result<TcpListener, RunError> {
        self.listener.try_clone().map_err(system("the listener"))
    }

    fn tls(&self) -> Result<Option<Tls>, RunError> {
        let tls = self.certificates.as_ref().map(Certificates::tls).transpose();
        tls.map_err(certificate_failed)
    }

    /// The start-up text: where it is, and lines to copy. `standby` says for whom it stands by.
    fn announce(&self, standby: Option<&str>) {
        if self.certificates.is_none() {
            let fix = "leave --insecure out, here and at the nodes";
            let what = "without TLS: contents and tokens can be read on the way";
            tracing::warn!(code = "HE-W935", fix, "{what}");
        }
        let mut text = Vec::new();
        let scheme = if self.certificates.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", self.advertised);
        let ca_file = self.data.ca_file();
        let data = self.config.data.display();
        let version = env!("CARGO_PKG_VERSION");
        let mut line = |line: String| {
            // Memory takes it.
            let _never = writeln!(text, "{line}");
        };
        line(format!("headend {version} base"));
        line(format!("base     {url}/"));
        line(format!("data     {data}"));
        line(format!("sandbox  {}", self.sandbox));
        if let Some(database) = &self.config.ledger {
            line(format!("ledger   {database}"));
        }
        if let Some(standby) = standby {
            line(format!("standby  {standby}"));
        }
        if let Some(certificates) = &self.certificates {
            let fingerprint = Digest(certificates.signer().authority.fingerprint().0);
            line(format!("ca       {}, SHA-256 {fingerprint}", ca_file.display()));
        }
        for Told { what, path, made, .. } in &self.tokens.told {
            let path = path.display();
            line(match made {
                Some(token) => format!("{what}: {token} (made now, kept in {path})"),
                None => format!("{what}: in {path}"),
            });
        }
        // A token without a fingerprint does not say whose base it is for.
        let file = |place: usize| {
            let told = self.tokens.told.get(place);
            let ca = format!(" --ca {}", ca_file.display());
            told.map_or_else(String::new, |told| {
                format!("{}{}", told.path.display(), if told.is_pinned { "" } else { &ca })
            })
        };
        let (provider, join) = (file(0), file(1));
        let insecure = if self.certificates.is_some() { "" } else { " --insecure" };
        line(format!("node     headend node{insecure} --base {url} --join {join} --media DIR"));
        line(format!("push     headend job push FILE --base {url} --token {provider}"));
        if self.certificates.is_none() {
            let what = "without TLS: contents and tokens can be read and changed on the way";
            line(format!("warning  {what}; leave --insecure out (HE-W935)"));
        }
        for warning in self.sandbox.warnings.iter().chain(&self.tokens.warnings) {
            line(format!("warning  {warning}"));
        }
        line("ready".to_owned());
        cli::log::print_aside(text);
    }
}

fn certificate_failed(error: PkiError) -> RunError {
    RunError::Config(error.to_string())
}

/// Why a ledger cannot be opened.
fn unopened(error: &LedgerError) -> RunError {
    let text = error.to_string();
    if error.is_usage() { RunError::Config(text) } else { RunError::Ledger(text) }
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
