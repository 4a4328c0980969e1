//! A node put together: the appliance over its media folder, the agent, and the server for peers.
//!
//! ```text
//! run: all sockets -> sandbox -> folder -> hello
//!          -> appliance (serves) + agent (fetches) + peers (serve on)
//! ```
//! Invariant: the base hears of a node only when nothing here can refuse its start any more.
//! A node that cannot reach its base serves what it has, and tries again. One that is refused at
//! its start does not run. An agent that panics is started again; one that is stuck is the service
//! manager's (`watchdog`). Viewers first: threads of the agent have a lower priority than others.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use super::reflect::Reflector;
use super::signals::EarlyHangup;
use super::watchdog::Watchdog;
use super::{
    Companion, GivesWay, Prepared, ReadAgain, RunError, Serving, Viewers, run_beside, system,
};
use crate::agent::control::HelloError;
use crate::agent::door::Door;
use crate::agent::live::ServerPaths;
use crate::agent::{Beside, Node, NodeError, NodeOptions, Security};
use crate::config::Config;
use crate::dist::fanout::CHILDREN_MAX;
use crate::http;
use crate::http::peer::{PeerOptions, PeerState, hand_router, router};
use crate::http::{Bearers, Intake, Retired, Tls};
use crate::ledger::clerk;
use crate::sandbox::Role;
use crate::store::Upload;

/// What a node is, beside its configuration.
#[derive(Debug)]
pub struct NodeSetup {
    /// The agent. The port of its address is set here.
    pub options: NodeOptions,
    /// Ports of the appliance that may be others.
    pub gives_way: GivesWay,
    /// Address for peers; `None`: all addresses, and a free port where [`PEER_PORT`] is taken.
    pub peer_listen: Option<SocketAddr>,
}

/// Serves and fetches until a signal comes.
///
/// # Errors
/// See [`RunError`].
pub fn run(
    config: Config,
    setup: NodeSetup,
    read_again: Option<ReadAgain>,
    early: EarlyHangup,
) -> Result<(), RunError> {
    let NodeSetup { mut options, gives_way, peer_listen } = setup;
    let listener = listen(peer_listen)?;
    options.facts.addr = listener.local_addr().map_err(system("the peer socket has no address"))?;
    let addr = options.facts.addr;
    let is_insecure = matches!(options.security, Security::Insecure);
    // Before its folder: what is made there belongs to the user that is left.
    let mut prepared = Prepared::new(config, gives_way, Role::Node, None)?;
    let mut node = Node::open(options.clone()).map_err(usage)?;
    let runtime = runtime().map_err(system("the threads of the agent do not start"))?;
    let rtsp = &prepared.sockets.rtsp_addrs;
    let is_outside = |addr: &&SocketAddr| !addr.ip().is_loopback();
    let rtsp = rtsp.iter().find(is_outside).or_else(|| rtsp.first()).copied();
    node.set_rtsp(rtsp);
    options.facts.rtsp = rtsp;
    join(&runtime, &mut node)?;
    let (base, name) = (node.base().to_owned(), node.name().clone());
    let scheme = if is_insecure { "http" } else { "https" };
    prepared.base = Some(format!("{scheme}://{base}/"));
    tracing::info!(code = "HE-I922", node = %name, base, peers = %addr, "the node starts");
    if is_insecure {
        let fix = "leave --insecure out, here and at the base";
        tracing::warn!(
            code = "HE-W929",
            fix,
            "without TLS: contents and tokens can be read on the way"
        );
    }
    let companion: Companion = Box::new(move |serving| {
        let (stop, shutdown) = watch::channel(false);
        let turns = Arc::<AtomicU64>::default();
        let watchdog = Watchdog::start(Arc::clone(&turns));
        if let Err(error) = &watchdog {
            tracing::warn!(code = "HE-W951", %error, "nobody sees whether the agent is stuck");
        }
        let Serving { viewers, view, peers } = serving;
        let paths = Arc::new(Reflector::new(view));
        let keeper = Keeper { options, listener, peers, viewers, paths, turns };
        runtime.spawn(keeper.keep(node, shutdown));
        Box::new(move || {
            drop(watchdog);
            let _agent_gone = stop.send(true);
            runtime.shutdown_timeout(END_MAX);
        })
    });
    run_beside(prepared, read_again, early, Some(companion))
}

/// Says hello. What the base refuses ends the start; a base that cannot be reached is waited for.
fn join(runtime: &Runtime, node: &mut Node) -> Result<(), RunError> {
    match runtime.block_on(node.join()) {
        Ok(()) => Ok(()),
        Err(HelloError::Base(error)) if !error.is_final() => {
            let base = node.base();
            tracing::warn!(code = "HE-W928", base, %error, "the base is not there yet");
            Ok(())
        }
        Err(error) => Err(RunError::Config(error.to_string())),
    }
}

/// Has the agent run, and starts it again when it has panicked.
struct Keeper {
    options: NodeOptions,
    listener: TcpListener,
    /// What the listener takes.
    peers: Intake,
    viewers: Viewers,
    paths: Arc<dyn ServerPaths>,
    turns: Arc<AtomicU64>,
}

impl Keeper {
    /// Until `shutdown`, or until the agent ends by itself: what it says then no start would mend.
    async fn keep(self, mut node: Node, mut shutdown: watch::Receiver<bool>) {
        let mut pause = PAUSE_MIN;
        loop {
            let (end, ended) = watch::channel(false);
            let listener = match self.listener.try_clone() {
                Ok(listener) => listener,
                Err(error) => return say_ended(&error),
            };
            let beside = self.beside(listener, ended.clone());
            let mut running = tokio::spawn(node.run(beside, ended));
            let ran = tokio::select! {
                ran = &mut running => Some(ran),
                () = stopped(&mut shutdown) => None,
            };
            // Those who were served by it go on elsewhere.
            end.send_replace(true);
            match ran {
                None => return drop(running.await),
                Some(Ok(Ok(()))) => return,
                Some(Ok(Err(error))) => return say_ended(&error),
                Some(Err(_panicked)) => {}
            }
            node = loop {
                let seconds = pause.as_secs();
                tracing::error!(
                    code = "HE-E924",
                    seconds,
                    "the agent has panicked: it begins anew"
                );
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stopped(&mut shutdown) => return,
                }
                pause = (pause * 2).min(PAUSE_MAX);
                // Its folder may be locked for a moment yet.
                if let Ok(node) = Node::open(self.options.clone()) {
                    break node;
                }
            };
        }
    }

    fn beside(&self, listener: TcpListener, ended: watch::Receiver<bool>) -> Beside {
        let sent = Arc::<AtomicU64>::default();
        let up_rate = self.options.facts.up_rate.at(clerk::now().utc_ns);
        let upload = Upload::new(up_rate);
        let intake = self.peers.clone();
        let peers = Peers { listener, intake, sent: Arc::clone(&sent) };
        let (cap, viewers) = (upload.clone(), Arc::clone(&self.viewers));
        Beside {
            viewers: Box::new(move || viewers()),
            sent,
            upload,
            paths: Arc::clone(&self.paths),
            turns: Arc::clone(&self.turns),
            on_open: Box::new(move |store, tls, door| peers.serve(store, cap, tls, door, ended)),
        }
    }
}

/// A sender that is gone asks to stop as well.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    let _sender_gone = shutdown.wait_for(|stop| *stop).await;
}

fn say_ended(error: &dyn std::error::Error) {
    let fix = "titles are served on; start the node again when this is mended";
    tracing::error!(code = "HE-E921", %error, fix, "the agent has ended");
}

/// What serves other nodes.
struct Peers {
    listener: TcpListener,
    intake: Intake,
    sent: Arc<AtomicU64>,
}

impl Peers {
    fn serve(
        self,
        store: crate::store::Store,
        upload: Upload,
        tls: Option<Arc<ServerConfig>>,
        door: Door,
        shutdown: watch::Receiver<bool>,
    ) {
        let bearers = match tls {
            Some(_) => Bearers::Certified(Retired::default()),
            None => Bearers::Anyone,
        };
        let tls = tls.map(|config| Tls { config, reached: None });
        let counter = self.sent;
        let state = PeerState::new(PeerOptions {
            store,
            children_max: CHILDREN_MAX,
            fits_uplink: true,
            upload,
            sent: Arc::new(move |_content, bytes| {
                counter.fetch_add(bytes, Ordering::Relaxed);
            }),
            bearers: bearers.clone(),
        });
        let routers = [router(state), hand_router(door, bearers)];
        let serving = http::serve_distribution(self.listener, tls, routers, self.intake, shutdown);
        tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(code = "HE-E922", %error, "peers are not served any more");
            }
        });
    }
}

/// The socket for peers.
fn listen(wanted: Option<SocketAddr>) -> Result<TcpListener, RunError> {
    if let Some(wanted) = wanted {
        return TcpListener::bind(wanted).map_err(|error| {
            RunError::Listen(format!("--peer-listen: cannot listen on {wanted}: {error}"))
        });
    }
    let everywhere = |port| SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
    let without_ipv6 = |port| SocketAddr::from(([0, 0, 0, 0], port));
    let ports = [PEER_PORT, 0].into_iter();
    let mut addrs = ports.flat_map(|port| [everywhere(port), without_ipv6(port)]);
    let bound = addrs.find_map(|addr| TcpListener::bind(addr).ok());
    bound.ok_or_else(|| RunError::Listen("no port for peers can be opened".to_owned()))
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(THREADS)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name("agent")
        .on_thread_start(|| {
            // Linux has a priority for each thread. A system that refuses has all alike.
            let _refused = rustix::process::setpriority_process(None, NICE);
        })
        .enable_all()
        .build()
}

fn usage(error: NodeError) -> RunError {
    RunError::Config(error.to_string())
}

/// Port for peers, where it is free.
pub const PEER_PORT: u16 = 9_996;
/// One thread passes a unit on without waking another: two cost a tenth more CPU for each byte.
/// It verifies and forwards some 300 MB/s, more than most links, and leaves other CPUs to shards.
const THREADS: usize = 1;
/// Files that are opened, synced and changed at once.
const BLOCKING_THREADS_MAX: usize = 16;
/// Of threads that serve players it is 0; Linux has values from -20, the most urgent, to 19.
const NICE: i32 = 5;
/// Between a panic of the agent and its next start: doubled each time, up to the second.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// For requests in progress when the node stops.
const END_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::future::{Future, ready};
    use std::pin::Pin;

    use super::*;
    use crate::agent::live::SetPathError;
    use crate::config::added_paths::GivenPath;
    use crate::dist::reflect::Sight;

    /// A server without live paths.
    #[derive(Debug)]
    struct NoPaths;

    impl ServerPaths for NoPaths {
        fn set(&self, _: &str, _: &GivenPath) -> Result<(), SetPathError> {
            Ok(())
        }

        fn remove(&self, _: &str) {}

        fn look(&self, _: &str) -> Pin<Box<dyn Future<Output = Option<Sight>> + Send>> {
            Box::pin(ready(None))
        }

        fn is_published(&self, _: &str) -> Pin<Box<dyn Future<Output = bool> + Send>> {
            Box::pin(ready(false))
        }
    }

    /// Beside an agent whose driver panics in its second second.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn agent_that_panics_is_started_again_with_its_place_among_peers() {
        let media = tempfile::tempdir().unwrap();
        let kept = media.path().join(".headend");
        std::fs::create_dir(&kept).unwrap();
        let base_key = crate::dist::keys::BaseKeys::from_bytes(&[7; 32]).verify_key();
        let json = serde_json::json!({"node": "a", "token": "t", "base_key": base_key.to_string()});
        std::fs::write(kept.join("node.json"), json.to_string()).unwrap();
        let (listener, addr) = (listen(None).unwrap(), SocketAddr::from(([127, 0, 0, 1], 1)));
        let options = NodeOptions {
            // Nobody is there.
            base: "http://127.0.0.1:1".to_owned(),
            join: None,
            security: Security::Insecure,
            media: media.path().to_owned(),
            name: None,
            facts: crate::agent::Facts {
                addr,
                rtsp: None,
                labels: std::collections::BTreeMap::new(),
                up_rate: crate::dist::window::RateSchedule::default(),
                down_rate: None,
            },
        };
        let looks = Arc::<AtomicU64>::default();
        let seen = Arc::clone(&looks);
        let viewers: Viewers = Arc::new(move || {
            assert!(seen.fetch_add(1, Ordering::Relaxed) != 1, "the second look");
            0
        });
        let (stop, shutdown) = watch::channel(false);
        let node = Node::open(options.clone()).unwrap();
        let peers = Intake::of_distribution(&crate::config::limits::LimitsConfig::default());
        let (paths, turns) = (Arc::new(NoPaths), Arc::default());
        let keeper = Keeper { options, listener, peers, viewers, paths, turns };
        let kept = tokio::spawn(keeper.keep(node, shutdown));
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while looks.load(Ordering::Relaxed) < 4 {
            assert!(std::time::Instant::now() < deadline, "it is not started again");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        stop.send_replace(true);
        kept.await.unwrap();
        // Its folder is free.
        assert!(crate::agent::identity::Identity::open(media.path(), None).is_ok());
    }

    #[test]
    fn peer_port_that_is_taken_is_an_error_when_it_was_asked_for_only() {
        let taken = listen(None).unwrap();
        let addr = taken.local_addr().unwrap();
        assert!(listen(Some(addr)).unwrap_err().is_usage());
        assert_ne!(listen(None).unwrap().local_addr().unwrap().port(), addr.port());
    }
}
