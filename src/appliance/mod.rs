//! The appliance put together: sockets, shards, workers, the control thread, and their end.
//!
//! ```text
//!  run: sockets -> sandbox -> library -> workers -> shards -> control -> seccomp -> banner ..
//!       signal .. BYE, drain, join
//! ```
//! [`base`] puts a base of distribution together in the same way.
//! Nothing is served before everything is there: a taken port or a missing folder ends the start
//! with one sentence, not with half a server. No thread is started before the process has given up
//! its user and files ([`crate::sandbox`]): threads would keep them.

mod balance;
pub mod base;
mod certificates;
mod control;
mod draining;
mod end;
mod gate;
mod hls;
mod limited;
mod limits;
mod listen;
mod manager;
pub mod node;
mod opening;
mod operators;
mod playlists;
mod reflect;
mod reload;
mod signals;
mod takeover;
mod urgency;
mod view;
mod watchdog;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Instant;

use rustix::process::{Resource, getrlimit};
use tokio::sync::watch;

use crate::base::ids::ShardId;
use crate::cli;
use crate::cli::banner::{MediaSummary, Startup};
use crate::config::cpus::{CpuListError, Placement};
use crate::config::image_memory::ImageMemory;
use crate::config::multicast::MulticastConfig;
use crate::config::{Config, ShardPriority};
use crate::host;
use crate::http::Intake;
use crate::http::operators::Operators;
use crate::library::{CLIP_NAME, LIBRARY_PATH, Library};
use crate::live::core::groups::MulticastSettings;
use crate::metrics::cells::{SESSION_STATES, ShardCells};
use crate::poll::poller::Poller;
use crate::sandbox::places::Places;
use crate::sandbox::{Entered, Role, Sandbox, SandboxError};
use crate::session::cx::SessionConfig;
use crate::shard::inbox::Inbox;
use crate::shard::ktls::is_available as kernel_tls_available;
use crate::shard::priority::{set_fifo, try_fifo};
use crate::shard::ring::{RingConfig, Uring};
use crate::shard::sockets::groups;
use crate::shard::{Shard, ShardConfig};
use crate::worker::{Pool, PoolConfig, PoolError, has_topology};
use certificates::Certificates;
use control::stop_shards;
use end::End;
use limits::LockedMemory;
pub use listen::GivesWay;
use listen::Sockets;
use opening::Opening;
use playlists::PlaylistStore;
pub use reload::ReadAgain;
use reload::Reloader;
pub use signals::EarlyHangup;
use takeover::{Claim, Door, Giving};
pub use takeover::{Starter, TakeoverAsk, start_in_background};
use view::{Told, View};

/// Why the appliance did not start, or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The configuration asks for what cannot be had here: exit code 2.
    #[error("{0}")]
    Config(String),
    /// A port is taken, or an address is not ours: exit code 2.
    #[error("{0}")]
    Listen(String),
    /// The kernel or a sandbox forbids io_uring: exit code 2.
    #[error("{0}")]
    NoRing(String),
    /// The worker pool does not start.
    #[error("the worker pool does not start: {0}")]
    Workers(#[from] PoolError),
    /// A shard does not start, or has failed.
    #[error("shard {shard}: {reason}")]
    Shard {
        /// Which.
        shard: u8,
        /// Why.
        reason: String,
    },
    /// No takeover takes place: exit code 2.
    #[error("{0}")]
    Takeover(String),
    /// Another program has taken over, and ended before it said that it served.
    #[error("the program that has taken over ended before it said that it served: nobody serves")]
    Abandoned,
    /// The ledger of a base cannot be read or written.
    #[error("{0}")]
    Ledger(String),
    /// The operating system refuses something.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What it said.
        source: io::Error,
    },
}

impl RunError {
    /// The user asked for what cannot be had: exit code 2.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Config(_) | Self::Listen(_) | Self::NoRing(_) | Self::Takeover(_))
    }
}

/// Tells the end of a shard's thread, however it ends.
struct EndNotice {
    shard: usize,
    ended: mpsc::Sender<usize>,
}

impl Drop for EndNotice {
    fn drop(&mut self) {
        let _nobody_waits = self.ended.send(self.shard);
    }
}

/// A running shard.
struct Running {
    thread: JoinHandle<Result<(), String>>,
    features: Vec<&'static str>,
    /// For the banner: the priority could not be had.
    warning: Option<String>,
}

/// Sessions that play.
type Viewers = Arc<dyn Fn() -> u64 + Send + Sync>;

/// What serves, as a companion sees it.
struct Serving {
    viewers: Viewers,
    view: Arc<View>,
    /// What a node's port for contents takes.
    peers: Intake,
}

/// Started when everything is served; gives what ends it, when nothing is served any more.
type Companion = Box<dyn FnOnce(Serving) -> Box<dyn FnOnce()>>;

/// Serves until a signal comes and everything is drained. With `read_again` a SIGHUP has the
/// configuration read again, as the API can; without it a SIGHUP is logged and changes nothing.
/// `early` has noted those that came before. With `ask` it takes over from the server that runs.
///
/// # Errors
/// See [`RunError`].
pub fn run(
    config: Config,
    gives_way: GivesWay,
    read_again: Option<ReadAgain>,
    early: EarlyHangup,
    ask: Option<TakeoverAsk>,
) -> Result<(), RunError> {
    let prepared = Prepared::new(config, gives_way, Role::Serve, ask)?;
    run_beside(prepared, read_again, early, None)
}

/// What a start may lack, before anything runs.
struct Prepared {
    started: Instant,
    started_with: Config,
    fit: Fit,
    library: Arc<Library>,
    playlists: Arc<PlaylistStore>,
    operators: Operators,
    certificates: Arc<Certificates>,
    sockets: Sockets,
    sandbox: Entered,
    /// What was found on the machine, while the process could see all of it.
    checks: Vec<host::Check>,
    /// URL of the base, of a node.
    base: Option<String>,
    /// The server that this one takes over from.
    claim: Option<Claim>,
    /// The program that waits until this one has.
    starter: Option<Starter>,
    /// By which another program takes over from this one.
    door: Option<Door>,
}

impl Prepared {
    fn new(
        config: Config,
        gives_way: GivesWay,
        role: Role,
        ask: Option<TakeoverAsk>,
    ) -> Result<Self, RunError> {
        let started = Instant::now();
        // Before anything needs a ring: workers and shards would each say it in their own way.
        host::ring::check().map_err(RunError::NoRing)?;
        Uring::check().map_err(|error| RunError::NoRing(error.to_string()))?;
        let started_with = config.clone();
        let checks = examine(&config);
        let sandbox = sandbox(&config, role)?;
        let mut fit = fit(config, sandbox.keeps_capabilities())?;
        let count = fit.cpus.shards.len();
        let claim = ask.as_ref().map(|ask| takeover::ask(&fit.config, count, ask));
        let mut claim = claim.transpose()?;
        let old = claim.as_ref().and_then(Claim::pid);
        fit.warnings.extend(old.and_then(manager::leaves_unit));
        let mut inherited = claim.as_mut().map(Claim::take_sockets).unwrap_or_default();
        let mut sockets = listen::open(&fit.config, count, gives_way, &mut inherited)?;
        drop(inherited);
        fit.warnings.append(&mut sockets.warnings);
        // The key may be one that root alone reads.
        let certificates = Certificates::open(&fit.config).map_err(RunError::Config)?;
        let certificates = Arc::new(certificates);
        fit.warnings.extend(certificates.warning());
        fit.warnings.extend(certificates.kernel_warning(&fit.config));
        let sandbox = sandbox.enter().map_err(given_up)?;
        cli::log::start_writer().map_err(system("the log's thread does not start"))?;
        let door = match role {
            Role::Serve => takeover::door(&fit.config, claim.as_mut(), &mut fit.warnings)?,
            Role::Node | Role::Base => None,
        };
        let library = open_library(&fit.config)?;
        let playlists = open_playlists(&fit.config)?;
        let operators = Operators::new(operators::read(&fit.config).map_err(RunError::Config)?);
        Ok(Self {
            started,
            started_with,
            fit,
            library,
            playlists,
            operators,
            certificates,
            sockets,
            sandbox,
            checks,
            base: None,
            claim,
            starter: ask.and_then(|ask| ask.starter),
            door,
        })
    }
}

fn run_beside(
    prepared: Prepared,
    read_again: Option<ReadAgain>,
    early: EarlyHangup,
    companion: Option<Companion>,
) -> Result<(), RunError> {
    let end = End::default();
    let result = serve(prepared, read_again, early, companion, &end);
    end.reach();
    result
}

#[expect(clippy::too_many_lines, reason = "a line for each part of the appliance")]
fn serve(
    prepared: Prepared,
    read_again: Option<ReadAgain>,
    early: EarlyHangup,
    companion: Option<Companion>,
    end: &End,
) -> Result<(), RunError> {
    let Prepared { started, started_with, fit, library, playlists, operators, .. } = prepared;
    let Fit { config, cpus, priority, titles, ring_entries, warnings: mut told } = fit;
    let paths = playlists.restore(&config.paths);
    let kept = (Arc::clone(&playlists), Arc::clone(&library));
    let reloader = Reloader::new(started_with, read_again, kept, operators.clone());
    let (poller, guest_wake) = poller(&config, &cpus)?;
    let pool = start_pool(&config, &cpus, titles, &library, &poller)?;
    let cells: Vec<Arc<ShardCells>> = cpus.shards.iter().map(|_| Arc::default()).collect();
    let kept = prepared.door.as_ref().map(|_| takeover::Kept::of(&prepared.sockets)).transpose();
    let kept = kept.map_err(system("sockets cannot be kept for a takeover"))?;
    let ports: Vec<u16> = prepared.sockets.shards.iter().map(|s| s.pair.rtp_port).collect();
    let Sockets { shards, admin, rtsp_addrs, rtp_port, pair_host, .. } = prepared.sockets;
    let (hls, hls_addrs) = prepared.sockets.hls;
    let webrtc = prepared.sockets.webrtc;
    let admin_addr = admin.local_addr().map_err(system("the admin listener has no address"))?;
    let (ended, has_ended) = mpsc::channel();
    let (shared, limited) = limited::begin(&config, titles, cpus.shards.len(), &pool.queue());
    let mut running = Vec::with_capacity(cpus.shards.len());
    let mut claim = prepared.claim;
    for (index, of_shard) in shards.into_iter().enumerate() {
        claim.as_mut().map_or(Ok(()), Claim::check).map_err(RunError::Takeover)?;
        let shard = ShardConfig {
            id: ShardId(u8::try_from(index).unwrap_or(u8::MAX)),
            poller: Arc::clone(&poller),
            queue: pool.queue(),
            cells: Arc::clone(&cells[index]),
            listeners: of_shard.listeners,
            tls: prepared.certificates.settings(),
            tunnels_max: config.http.tunnels_max,
            pair: of_shard.pair,
            pair_host,
            multicast: multicast(&config.multicast, (pair_host.ip(), rtp_port), cpus.shards.len()),
            poll_entries_max: config.poll_entries_max,
            sessions: session_config(&config, &rtsp_addrs, &shared, index),
            addresses: Arc::clone(&shared.connections),
            paths: Arc::clone(&paths),
            ring: ring_config(&config, ring_entries),
            waits: claim.is_some(),
        };
        running.push(Some(start_shard(shard, cpus.shards[index], priority, ended.clone())?));
    }
    let (counts, held, viewers) = (pool.counts(), Arc::clone(&library), viewers(&cells));
    let reloading = (reloader, prepared.certificates);
    let edits = (playlists, limited, hls_addrs.clone());
    let view = View::new(Arc::clone(&poller), cells, counts, held, reloading, edits, &config);
    let (stop, shutdown) = watch::channel(false);
    // From here to the end of `take_over` another process may serve: threads wait for the opening.
    let opening = Opening::new(claim.is_none());
    let around = (&poller, pool.queue(), Arc::clone(&shared.throttle), paths);
    let (of_browsers, listening) = ((shared.hls, shared.viewers), (hls, webrtc, guest_wake));
    let hls = hls::start(&config, of_browsers, listening, around, (shutdown.clone(), &opening))?;
    let http = (admin, operators, shared.admin.clone());
    let signals = (end.clone(), early, opening.clone());
    let control = control::start(http, &view, shutdown, &poller, signals)?;
    let giving = takeover::give(prepared.door.zip(kept), (&poller, &stop, end), &opening)?;
    let sandbox = close(prepared.sandbox, &mut told);
    let startup = Startup {
        version: env!("CARGO_PKG_VERSION").into(),
        kernel: host::kernel_release(),
        ring_features: ring_features(&running),
        gso: host::gso::segmentation().is_ok(),
        shard_cpus: cpus.shards.clone(),
        worker_cpus: cpus.workers,
        media: media_summary(&config, &library),
        rtsp_addrs,
        rtsps_addrs: prepared.sockets.rtsps_addrs,
        http_addrs: prepared.sockets.http_addrs,
        hls_addrs,
        rtp_port,
        admin: admin_addr,
        example_paths: example_paths(&library),
        sandbox,
        warnings: warnings(&config, &library, told, &running),
        ready_in_ms: 0,
    };
    let teller = takeover::Teller::start();
    let teller = teller.map_err(system("the thread that tells who waits does not start"))?;
    let (around, starter) = ((&*view, &opening), prepared.starter.as_ref());
    let begun = claim.map(|it| takeover::take_over(it, (&poller, &ports), around, starter));
    let begun = begun.transpose()?;
    let ready_in_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let startup = Startup { ready_in_ms, ..startup };
    // Before the banner: who has read that may ask whether the server is ready.
    view.begin(Told { startup: startup.to_json(), checks: prepared.checks, base: prepared.base });
    giving.iter().for_each(Giving::own);
    if opening.open() {
        end.limit();
        stop_shards(&poller);
    }
    teller.tell(begun, prepared.starter, giving.as_ref());
    startup.print_aside();
    let serving = Serving { viewers, view: Arc::clone(&view), peers: shared.peers };
    let end_companion = companion.map(|start| start(serving));
    drop(ended);
    let result = wait_for_shards(running, &has_ended, &poller, end);
    view.end();
    end_companion.into_iter().for_each(|end| end());
    let _control_gone = stop.send(true);
    pool.stop();
    let _hls_panicked = hls.map(JoinHandle::join);
    let _panicked = control.join();
    match giving {
        Some(giving) => giving.end(result),
        None => result,
    }
}

/// Looks at the machine, before the ports are taken. It makes rings to try them, and the kernel
/// gives their memory back some time later: where little may be locked that is left to the shards.
fn examine(config: &Config) -> Vec<host::Check> {
    let lockable = getrlimit(Resource::Memlock).current;
    if lockable.is_some_and(|bytes| bytes < LOCKABLE_MIN) {
        return Vec::new();
    }
    host::examine(config, try_fifo, kernel_tls_available)
}

/// Features of the rings, which are alike on all shards.
fn ring_features(running: &[Option<Running>]) -> Vec<String> {
    let first = running.iter().flatten().next();
    first.map_or(&[][..], |first| &first.features).iter().map(|s| (*s).to_owned()).collect()
}

/// Gives up system calls, and says what is in force.
fn close(sandbox: Entered, told: &mut Vec<String>) -> String {
    let report = sandbox.close();
    told.extend(report.warnings);
    report.line
}

/// Counts the sessions of all shards that play.
fn viewers(cells: &[Arc<ShardCells>]) -> Viewers {
    let cells = cells.to_vec();
    let playing = SESSION_STATES.iter().position(|state| *state == "playing").unwrap_or_default();
    Arc::new(move || cells.iter().map(|cells| cells.sessions[playing].value()).sum())
}

/// What the machine lets a configuration have.
struct Fit {
    config: Config,
    cpus: Placement,
    priority: ShardPriority,
    titles: limits::Titles,
    /// Entries of the submission queue of each shard's ring.
    ring_entries: u32,
    /// For the banner, where that is less than what was wanted.
    warnings: Vec<String>,
}

fn fit(config: Config, capabilities_stay: bool) -> Result<Fit, RunError> {
    let available = available_cpus();
    let locked = LockedMemory::raise(capabilities_stay);
    let cpus = choose_cpus(&config, &available, locked.shards_max())?;
    let shard_count = cpus.shards.len();
    let (priority, told) = urgency::decide(config.shard_priority, &available, &cpus);
    let fitted = limits::fit(config.poll_entries_max, shard_count);
    let titles = fitted.titles.at_most(config.limits.titles_open_max);
    Ok(Fit {
        config: Config {
            poll_entries_max: fitted.poll_entries_max,
            limits: config.limits.within(fitted.poll_entries_max),
            ..config
        },
        cpus,
        priority,
        titles,
        ring_entries: locked.ring_entries(shard_count),
        warnings: [fitted.warning, locked.warning(shard_count), told, without_topology()]
            .into_iter()
            .flatten()
            .collect(),
    })
}

/// What the process is to give up, checked as far as it can be.
fn sandbox(config: &Config, role: Role) -> Result<Sandbox, RunError> {
    let mut places = Places::of_server(config);
    if let (Role::Node, Some(media)) = (role, &config.media_root) {
        places = places.and_delivered(media);
    }
    let sandbox = Sandbox::prepare(&config.confinement, places, role).map_err(given_up)?;
    let ShardPriority::Fifo(priority) = config.shard_priority else { return Ok(sandbox) };
    if sandbox.leaves_root() {
        limits::allow_priority(priority);
    }
    Ok(sandbox.that_needs_priority(true))
}

fn given_up(error: SandboxError) -> RunError {
    RunError::Config(error.to_string())
}

/// For the banner.
fn without_topology() -> Option<String> {
    let warning = "/sys is not there: workers read titles that are not in memory on threads, which \
                   costs CPU time; mount it (HE-W123)";
    (!has_topology()).then(|| warning.to_owned())
}

fn open_library(config: &Config) -> Result<Arc<Library>, RunError> {
    let library = Library::new(config.media_root.clone()).map_err(|error| {
        let root = config.media_root.clone().unwrap_or_default();
        RunError::Config(format!("cannot serve {}: {error}", root.display()))
    })?;
    Ok(Arc::new(library))
}

fn open_playlists(config: &Config) -> Result<Arc<PlaylistStore>, RunError> {
    let state_dir = config.state_dir.as_deref();
    let store = PlaylistStore::open(state_dir).map_err(|error| {
        let folder = state_dir.unwrap_or_else(|| Path::new("")).display();
        RunError::Config(format!("cannot keep edits in {folder}: {error}"))
    })?;
    Ok(Arc::new(store))
}

/// One shard per CPU but those of the workers, unless the configuration says otherwise; no more
/// than `lockable` by default.
fn choose_cpus(
    config: &Config,
    available: &[usize],
    lockable: usize,
) -> Result<Placement, RunError> {
    let shards_max = SHARDS_MAX.min(lockable);
    let place = Placement::choose(&config.shards, &config.workers, available, shards_max);
    let place = place.map_err(|error: CpuListError| RunError::Config(error.to_string()))?;
    if place.shards.len() > SHARDS_MAX {
        return Err(RunError::Config(format!("at most {SHARDS_MAX} shards can be had")));
    }
    Ok(place)
}

/// CPUs that this process may use.
fn available_cpus() -> Vec<usize> {
    core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect()
}

/// Sentences for the banner: of the machine, the configuration, the start, the shards.
fn warnings(
    config: &Config,
    library: &Library,
    of_the_start: Vec<String>,
    running: &[Option<Running>],
) -> Vec<String> {
    let mut warnings = host::startup_warnings();
    warnings.extend(config.warnings());
    warnings.extend(cli::missing::warnings(&config.paths, library));
    warnings.extend(of_the_start);
    // All shards are refused alike; one sentence will do.
    warnings.extend(running.iter().flatten().find_map(|shard| shard.warning.clone()));
    warnings
}

/// The inboxes of the shards, and of HLS with what wakes it.
fn poller(
    config: &Config,
    cpus: &Placement,
) -> Result<(Arc<Poller<Inbox>>, Option<UnixStream>), RunError> {
    // Every task that can wait or be under way has room for its outcome.
    let outcomes = config.task_queue_max * TASK_CLASSES + cpus.workers.len() * WORKER_TASKS_MAX;
    let inboxes = cpus.shards.iter().map(|_| Inbox::new(outcomes).map(Arc::new));
    let inboxes = inboxes.collect::<io::Result<Vec<_>>>();
    let poller = Poller::new(inboxes.map_err(system("no inbox for a shard"))?);
    let guest = (!config.hls.listen.is_empty()).then(|| Inbox::of_guest(outcomes));
    let guest = guest.transpose().map_err(system("no inbox for HLS"))?;
    let (guest, wake) = guest.map_or((None, None), |(inbox, wake)| (Some(inbox), Some(wake)));
    Ok((Arc::new(poller.with_guest(guest.map(Arc::new))), wake))
}

fn start_pool(
    config: &Config,
    cpus: &Placement,
    titles: limits::Titles,
    library: &Arc<Library>,
    poller: &Arc<Poller<Inbox>>,
) -> Result<Pool, RunError> {
    let pool_config = PoolConfig {
        cpus: cpus.workers.iter().map(|cpu| Some(*cpu)).collect(),
        queue_max: config.task_queue_max,
        window_cache_bytes: config.window_cache_bytes,
        image_bytes: config.image_memory.bytes(memory_of_machine()),
        titles_max: titles.kept_max,
        titles_open_max: titles.open_max,
        concurrency_per_worker: WORKER_TASKS_MAX,
    };
    let poller = Arc::clone(poller);
    let deliver = Arc::new(move |shard: ShardId, done| {
        if let Some(inbox) = poller.inbox(shard) {
            inbox.deliver(done);
        }
    });
    Ok(Pool::start(pool_config, Arc::clone(library), deliver, gate::judge())?)
}

/// Bytes of memory; 0 where the system does not say.
fn memory_of_machine() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram.saturating_mul(info.mem_unit.into())
}

fn session_config(
    config: &Config,
    rtsp_addrs: &[SocketAddr],
    shared: &limits::OfAddresses,
    shard: usize,
) -> SessionConfig {
    SessionConfig {
        sessions_max: config.sessions_max,
        addresses: Arc::clone(&shared.sessions),
        timeout: config.session_timeout,
        lag_budget: config.lag_budget,
        host: rtsp_addrs.first().map_or_else(|| "headend".into(), |addr| addr.ip().to_string()),
        adapts_quality: config.adapts_quality,
        uses_images: config.image_memory != ImageMemory::Off,
        retransmits: config.retransmits,
        throttle: Arc::clone(&shared.throttle),
        session_roaming: config.session_roaming,
        low_client_ports: config.low_client_ports,
        plain_media: config.tls.plain_media,
        limits: config.limits,
        shares: Arc::clone(&shared.shares[shard]),
        srtp: config.srtp,
    }
}

fn ring_config(config: &Config, sq_entries: u32) -> RingConfig {
    let files = config.poll_entries_max + limits::RING_FILES_EXTRA;
    let files_max = u32::try_from(files).unwrap_or(u32::MAX);
    let (gso, zerocopy) = (config.gso, config.zerocopy);
    RingConfig { sq_entries, files_max, gso, zerocopy, ..Default::default() }
}

/// Starts a shard's thread, pins it, makes it as urgent as it may be, and waits until its ring is
/// there.
fn start_shard(
    config: ShardConfig,
    cpu: usize,
    priority: ShardPriority,
    ended: mpsc::Sender<usize>,
) -> Result<Running, RunError> {
    let shard = config.id.0;
    let failed = move |reason: String| RunError::Shard { shard, reason };
    let (ready, is_ready) = mpsc::channel();
    let builder = std::thread::Builder::new().name(format!("shard-{shard}"));
    let spawned = builder.spawn(move || {
        let _notice = EndNotice { shard: usize::from(shard), ended };
        if !core_affinity::set_for_current(core_affinity::CoreId { id: cpu }) {
            tracing::warn!(
                code = "HE-W404",
                shard,
                cpu,
                "the shard could not be pinned to its CPU"
            );
        }
        match Shard::new(config) {
            Ok(shard) => {
                // Not before the ring is there: to make one takes memory and time.
                let warning = make_urgent(priority);
                let _starter_gone = ready.send(Ok((shard.features(), warning)));
                shard.run().map_err(|error| error.to_string())
            }
            Err(error) => {
                let _starter_gone = ready.send(Err(error.to_string()));
                Ok(())
            }
        }
    });
    let thread = spawned.map_err(system("a shard's thread does not start"))?;
    match is_ready.recv() {
        Ok(Ok((features, warning))) => Ok(Running { thread, features, warning }),
        Ok(Err(reason)) => Err(failed(reason)),
        Err(_) => Err(failed("it ended while it started".into())),
    }
}

/// Gives the calling thread its priority; a sentence when that is refused, and it stays normal.
fn make_urgent(priority: ShardPriority) -> Option<String> {
    let ShardPriority::Fifo(fifo) = priority else { return None };
    let error = set_fifo(fifo).err()?;
    Some(format!("shards run with normal priority: {error} (HE-W104)"))
}

/// Joins the shards in the order in which they end. When one fails the others are stopped too: the
/// supervisor starts all again.
fn wait_for_shards(
    mut running: Vec<Option<Running>>,
    has_ended: &mpsc::Receiver<usize>,
    poller: &Poller<Inbox>,
    end: &End,
) -> Result<(), RunError> {
    let mut result = Ok(());
    // Ends when the last shard is gone and its sender with it.
    for index in has_ended {
        let Some(running) = running.get_mut(index).and_then(Option::take) else { continue };
        let reason = match running.thread.join() {
            Ok(Ok(())) => continue,
            Ok(Err(reason)) => reason,
            Err(_panic) => "a broken invariant stopped it; this is a bug".to_owned(),
        };
        tracing::error!(
            code = "HE-E402",
            shard = index,
            reason,
            "a shard has failed: all are stopped"
        );
        end.limit();
        stop_shards(poller);
        result = Err(RunError::Shard { shard: u8::try_from(index).unwrap_or(u8::MAX), reason });
    }
    result
}

/// What is set of multicast, with what this host adds to it: where packets come from, and ports
/// that do not lie among those of the shards' own pairs, which begin at `port` of `ip`.
fn multicast(
    config: &MulticastConfig,
    (ip, port): (IpAddr, u16),
    shard_count: usize,
) -> Option<MulticastSettings> {
    let MulticastConfig { range, rtp_port, ttl, interface } = *config;
    let mut settings =
        MulticastSettings { range: range?, rtp: rtp_port, ttl, interface, source: None };
    if ip.is_unspecified() {
        settings = settings.clear_of(port, u8::try_from(shard_count).unwrap_or(u8::MAX));
    }
    Some(MulticastSettings { source: groups::source_of(&settings), ..settings })
}

fn media_summary(config: &Config, library: &Library) -> Option<MediaSummary> {
    let root = config.media_root.clone()?;
    let summary = library.summary(SUMMARY_ENTRIES_MAX).ok()?;
    let mut skipped = Vec::new();
    let mut skip = |count: usize, what: &str, why: &str| {
        if count > 0 {
            skipped.push((format!("{count} {what}"), why.to_owned()));
        }
    };
    skip(summary.other_files, "files", "not a media file by their name");
    skip(summary.hidden, "entries", "hidden: their name begins with a dot");
    skip(summary.not_utf8, "entries", "their name is not UTF-8");
    skip(summary.folder_links, "links to folders", "not listed; they play by name");
    skip(summary.unreadable_folders, "folders", "not readable");
    Some(MediaSummary {
        root,
        titles: summary.titles,
        by_kind: Vec::new(),
        skipped,
        more_skipped: 0,
        complete: summary.is_complete,
    })
}

/// The first titles of the library, or the clip.
fn example_paths(library: &Library) -> Vec<String> {
    let first = library.list(None, 1).unwrap_or_default();
    let path = first.first().map(|title| format!("{}{}", LIBRARY_PATH, title.name));
    vec![path.unwrap_or_else(|| CLIP_NAME.to_owned())]
}

fn system(what: &'static str) -> impl Fn(io::Error) -> RunError {
    move |source| RunError::System { what, source }
}

/// Thirty times what the rings of an examination lock.
const LOCKABLE_MIN: u64 = 4 << 20;
/// Shards are numbered in one byte of the session id; 254 leaves room for "none".
const SHARDS_MAX: usize = 254;
/// Task classes of the queue, each with its own bound.
const TASK_CLASSES: usize = 3;
/// Tasks of one worker under way at once: keeps a disk's queue full.
const WORKER_TASKS_MAX: usize = 32;
/// Entries looked at for the banner: a larger folder is counted as far as this.
const SUMMARY_ENTRIES_MAX: usize = 20_000;
