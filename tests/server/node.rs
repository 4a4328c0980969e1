//! A node as a process, against a base that a test scripts: the store and the routes for peers are
//! the real ones, hello, orders and reports are written down.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::StreamExt as _;
use headend::config::limits::LimitsConfig;
use headend::dist::ids::{CommandId, CommandKey, ContentId, Epoch, JobId, NodeName};
use headend::dist::keys::{BaseKeys, verify_receipt};
use headend::dist::wire::agent::{
    Hello, NodeOrder, Receipt, Report, Reports, ReportsTaken, Source, Welcome,
};
use headend::dist::wire::job::{Attributes, Op, Order, Reason};
use headend::dist::wire::peer::Capability;
use headend::http::peer::{PeerOptions, PeerState, router};
use headend::http::{Bearers, Intake, serve_distribution};
use headend::store::{Store, StoreKey, Upload};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::time::timeout;
use uuid::Uuid;

use crate::support::process::{Finished, run_command};
use crate::support::server::{Server, binary};
use crate::support::wait::{PATIENCE, until};
use crate::support::{http, scratch};

/// A base that does as it is told.
struct Base {
    runtime: Runtime,
    addr: SocketAddr,
    keys: BaseKeys,
    store: Store,
    /// Bytes of contents that were sent.
    sent: Arc<AtomicU64>,
    said: Arc<Said>,
    _stop: watch::Sender<bool>,
    _folder: tempfile::TempDir,
}

#[derive(Default)]
struct Said {
    base_key: String,
    /// Lines.
    orders: watch::Sender<Vec<String>>,
    hellos: Mutex<Vec<Hello>>,
    reports: watch::Sender<Vec<Report>>,
}

impl Base {
    fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let folder = tempfile::tempdir_in(scratch()).unwrap();
        let keys = BaseKeys::from_bytes(&[7; 32]);
        let within = runtime.enter();
        let opened = Store::open(&folder.path().join("contents"), StoreKey::Signs(keys.clone()));
        let (store, _) = opened.unwrap();
        let sent = Arc::<AtomicU64>::default();
        let counter = Arc::clone(&sent);
        let peers = PeerState::new(PeerOptions {
            store: store.clone(),
            children_max: 16,
            fits_uplink: false,
            upload: Upload::new(None),
            sent: Arc::new(move |_, bytes| {
                counter.fetch_add(bytes, Ordering::Relaxed);
            }),
            bearers: Bearers::Anyone,
        });
        let base_key = keys.verify_key().to_string();
        let said = Arc::new(Said { base_key, ..Said::default() });
        let scripted = Router::new()
            .route("/agent/v1/hello", post(hello))
            .route("/agent/v1/orders", get(orders))
            .route("/agent/v1/reports", post(reports))
            .with_state(Arc::clone(&said));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, shutdown) = watch::channel(false);
        let intake = Intake::of_distribution(&LimitsConfig::default());
        let routers = [router(peers), scripted];
        runtime.spawn(serve_distribution(listener, None, routers, intake, shutdown));
        drop(within);
        Self { runtime, addr, keys, store, sent, said, _stop: stop, _folder: folder }
    }

    /// A content with these bytes.
    fn content(&self, number: u128, bytes: &[u8]) -> ContentId {
        let id = ContentId(Uuid::from_u128(number));
        self.runtime.block_on(async {
            let content = self.store.create(id, Some(bytes.len() as u64)).unwrap();
            content.append(Bytes::copy_from_slice(bytes)).await.unwrap();
            content.finish().await.unwrap();
        });
        id
    }

    fn order(&self, order: NodeOrder) {
        self.say([serde_json::to_string(&order).unwrap()]);
    }

    fn say(&self, lines: impl IntoIterator<Item = String>) {
        self.said.orders.send_modify(|orders| orders.extend(lines));
    }

    fn command(&self, command: u32, op: Op) {
        self.order(NodeOrder::Command {
            key: key(command),
            sequence: Order::Prefix,
            priority: 5,
            op,
            content: None,
            size: None,
        });
    }

    /// Has `path` delivered, with the base as its only source.
    fn put(&self, command: u32, path: &str, content: ContentId, size: u64) {
        let op = Op::Put { path: path.to_owned(), attrs: attrs() };
        self.order(NodeOrder::Command {
            key: key(command),
            sequence: Order::Prefix,
            priority: 5,
            op,
            content: Some(content),
            size: Some(size),
        });
        let node = NodeName::new("n").unwrap();
        let capability = Capability { content, node, expires_s: i64::from(u32::MAX), job: None };
        let capability = self.keys.seal_capability(&capability);
        // What the base says of its own address is a hint only.
        let (addr, is_last_resort) = ("0.0.0.0:1".to_owned(), false);
        let source = Source { node: None, addr, capability, rate: 1, is_last_resort };
        let (sources, further) = (vec![source], Vec::new());
        self.order(NodeOrder::Sources { content, epoch: Epoch(1), sources, further });
    }

    /// Starts the node over `media` and waits until it is ready.
    fn node(&self, media: &Path, more: &[&str]) -> Server {
        let mut command = self.command_line(media);
        command.args(more);
        Server::run(command, tempfile::tempdir_in(scratch()).unwrap())
    }

    fn command_line(&self, media: &Path) -> Command {
        let mut command = Command::new(binary());
        command.arg("node").arg("--base").arg(format!("http://{}", self.addr));
        command.args(["--insecure", "--join", "hdj_test", "--name", "n"]);
        command.args(["--peer-listen", "127.0.0.1:0"]);
        command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--rtp-port", "0"]);
        command.args(["--shards", "1", "--workers", "1"]).arg("--media").arg(media);
        command
    }

    fn has(&self, wanted: impl Fn(&Report) -> bool) -> bool {
        self.said.reports.borrow().iter().any(wanted)
    }

    /// Waits until a report is one that is wanted.
    fn until(&self, what: &str, wanted: impl Fn(&Report) -> bool) {
        self.until_all(what, |reports| reports.iter().any(&wanted));
    }

    /// Waits until all reports so far are as they are wanted.
    fn until_all(&self, what: &str, wanted: impl Fn(&[Report]) -> bool) {
        let mut reports = self.said.reports.subscribe();
        let came = reports.wait_for(|reports| wanted(reports));
        let came = self.runtime.block_on(async { timeout(PATIENCE, came).await.is_ok() });
        assert!(came, "waited {PATIENCE:?} in vain: {what}");
    }

    fn receipts(&self, command: u32) -> Vec<Receipt> {
        self.receipts_of(command, &self.said.reports.borrow())
    }

    fn receipts_of(&self, command: u32, reports: &[Report]) -> Vec<Receipt> {
        let key_of_node = self.said.hellos.lock().unwrap()[0].public_key.parse().unwrap();
        let receipts = reports.iter().filter_map(|report| match report {
            Report::Completed { receipt } => Some(verify_receipt(&key_of_node, receipt).unwrap()),
            _ => None,
        });
        receipts.filter(|receipt| receipt.key == key(command)).collect()
    }

    fn until_done(&self, command: u32) {
        self.until_all(&format!("command {command} is done"), |reports| {
            !self.receipts_of(command, reports).is_empty()
        });
    }
}

async fn hello(State(said): State<Arc<Said>>, Json(hello): Json<Hello>) -> Json<Welcome> {
    said.hellos.lock().unwrap().push(hello);
    let node_token = Some("hdn_test".to_owned());
    Json(Welcome { node_token, base_key: said.base_key.clone(), heartbeat_ms: 500 })
}

/// All orders so far, then each new one.
async fn orders(State(said): State<Arc<Said>>) -> Body {
    let start = (said.orders.subscribe(), 0);
    let lines = futures_util::stream::unfold(start, |(mut orders, sent)| async move {
        let next = orders.wait_for(|orders| orders.len() > sent).await.ok()?[sent..].to_vec();
        let lines: String = next.iter().map(|line| format!("{line}\n")).collect();
        Some((Ok::<_, std::convert::Infallible>(lines), (orders, sent + next.len())))
    });
    Body::from_stream(lines.boxed())
}

async fn reports(State(said): State<Arc<Said>>, Json(batch): Json<Reports>) -> Json<ReportsTaken> {
    let taken = batch.first + batch.reports.len() as u64 - 1;
    said.reports.send_modify(|reports| reports.extend(batch.reports));
    Json(ReportsTaken { taken, at_ns: 0 })
}

fn key(command: u32) -> CommandKey {
    CommandKey { job: JobId(Uuid::from_u128(1)), command: CommandId(command) }
}

fn attrs() -> Attributes {
    Attributes {
        mode: Some(0o640),
        mtime_ns: Some(1_600_000_000_000_000_001),
        ..Attributes::default()
    }
}

/// Bytes that no compression and no offset makes alike.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(count).collect()
}

fn media() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    let path = folder.path().to_owned();
    (folder, path)
}

fn titles(server: &Server) -> BTreeSet<String> {
    let listed = http::get_json(server.admin, "/v1/vod");
    let titles = listed["titles"].as_array().unwrap_or_else(|| panic!("{listed}"));
    titles.iter().map(|title| title["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn put_appears_whole_with_its_attributes_and_a_signed_receipt() {
    use std::os::unix::fs::MetadataExt as _;
    let base = Base::start();
    let bytes = noise(3 * 65_536 + 77);
    let content = base.content(1, &bytes);
    let (_kept, media) = media();
    let media = media.join("made/by the node");
    let node = base.node(&media, &[]);
    base.put(1, "films/a b.mp4", content, bytes.len() as u64);
    base.until_done(1);
    let file = media.join("films/a b.mp4");
    assert!(std::fs::read(&file).unwrap() == bytes);
    let found = file.metadata().unwrap();
    assert_eq!(
        (found.mode() & 0o7777, found.mtime(), found.mtime_nsec()),
        (0o640, 1_600_000_000, 1)
    );
    let receipt = &base.receipts(1)[0];
    assert_eq!((receipt.path.as_str(), receipt.size), ("films/a b.mp4", bytes.len() as u64));
    assert_eq!(receipt.blake3.unwrap().0, *blake3::hash(&bytes).as_bytes());
    assert_eq!(receipt.via["base"], receipt.size);
    assert_eq!(titles(&node), ["films/a b.mp4".to_owned()].into(), "and not what the agent keeps");
    assert!(media.join(".headend/journal").exists());
    assert!(base.has(|report| matches!(report, Report::Received { .. })));
    assert!(base.has(|report| matches!(report, Report::Fetching { source: None, .. })));
}

#[test]
fn folders_and_names_are_changed_in_order_and_failures_are_said() {
    let base = Base::start();
    let (_kept, media) = media();
    let _node = base.node(&media, &[]);
    let path = |text: &str| text.to_owned();
    base.command(1, Op::Mkdir { path: path("a/b"), attrs: attrs() });
    base.command(2, Op::Move { path: path("a/b"), to: path("c") });
    base.command(3, Op::SetAttributes { path: path("c"), attrs: attrs() });
    base.command(4, Op::Delete { path: path("a") });
    base.command(5, Op::Query);
    base.command(6, Op::Delete { path: path("../x") });
    base.command(7, Op::Move { path: path("none"), to: path("d") });
    for command in 1..=5 {
        base.until_done(command);
    }
    assert!(media.join("c").is_dir() && !media.join("a").exists());
    let failed = |wanted: u32| {
        move |report: &Report| {
            let Report::Failed { key, reason, is_final, .. } = report else { return false };
            key.command.0 == wanted && *reason == Reason::PathConflict && *is_final
        }
    };
    base.until("a failure is said", failed(6));
    base.until("the other failure is said", failed(7));
    assert!(base.receipts(6).is_empty() && base.receipts(7).is_empty());
}

#[test]
fn node_that_is_killed_while_it_fetches_goes_on_where_it_was() {
    let base = Base::start();
    // Twice what is in sockets and comes until the report is read.
    let bytes = noise(48 << 20);
    let content = base.content(1, &bytes);
    let (_kept, media) = media();
    // 8 MiB a second: the first second is journaled by the third.
    let mut node = base.node(&media, &["--down-rate", "67M"]);
    base.put(1, "film.mp4", content, bytes.len() as u64);
    let is_past =
        |report: &Report| matches!(report, Report::Progress { offset, .. } if *offset > 12 << 20);
    base.until("a quarter of it is there", is_past);
    assert_eq!(titles(&node), BTreeSet::new(), "nothing half-written is listed");
    node.kill();
    let before = base.sent.load(Ordering::Relaxed);
    assert!(before < bytes.len() as u64, "{before}");
    let node = base.node(&media, &[]);
    base.until_done(1);
    assert!(std::fs::read(media.join("film.mp4")).unwrap() == bytes);
    assert_eq!(titles(&node), ["film.mp4".to_owned()].into());
    // What was on its way when it was killed lies in sockets, and is not of the disk's making.
    let sent = base.sent.load(Ordering::Relaxed);
    let most = bytes.len() as u64 * 102 / 100 + IN_FLIGHT_MAX;
    assert!(sent <= most, "{sent} bytes were sent for {}", bytes.len());
    let hellos = base.said.hellos.lock().unwrap();
    assert_eq!(hellos[0].public_key, hellos.last().unwrap().public_key);
    assert!(hellos[0].incarnation < hellos.last().unwrap().incarnation);
}

#[test]
fn command_that_was_done_before_a_kill_is_not_done_again() {
    let base = Base::start();
    let (_kept, media) = media();
    let mut node = base.node(&media, &[]);
    std::fs::write(media.join("a"), "a").unwrap();
    base.command(1, Op::Move { path: "a".to_owned(), to: "b".to_owned() });
    base.until_done(1);
    node.kill();
    std::fs::write(media.join("a"), "another").unwrap();
    let _node = base.node(&media, &[]);
    base.until_all("its receipt is said again", |reports| base.receipts_of(1, reports).len() > 1);
    assert_eq!(base.receipts(1)[0], base.receipts(1)[1]);
    assert_eq!(std::fs::read_to_string(media.join("b")).unwrap(), "a");
    assert_eq!(std::fs::read_to_string(media.join("a")).unwrap(), "another");
}

#[test]
fn full_disk_is_said_at_once_and_others_go_on() {
    let base = Base::start();
    let bytes = noise(1_000_000);
    let (large, small) = (base.content(1, &bytes), base.content(2, &bytes));
    let (_kept, media) = media();
    let _node = base.node(&media, &[]);
    // More than any disk has.
    base.put(1, "large.mp4", large, 1 << 60);
    base.put(2, "small.mp4", small, bytes.len() as u64);
    base.until_done(2);
    let is_full = |report: &Report| {
        matches!(report, Report::Failed { reason: Reason::NoSpace, is_final: true, .. })
    };
    base.until("no space is said", is_full);
    assert!(!media.join("large.mp4").exists());
}

#[test]
fn folder_of_a_running_node_is_refused_to_another_one() {
    let base = Base::start();
    let (_kept, media) = media();
    let _node = base.node(&media, &[]);
    let Finished { status, stderr, .. } =
        run_command(&mut base.command_line(&media), Duration::from_secs(30));
    assert_eq!(status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("another node runs in"), "{stderr}");
}

#[test]
fn node_without_its_base_serves_its_folder() {
    let (_kept, media) = media();
    std::fs::copy(crate::support::demo_clip(), media.join("clip.mp4")).unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut without = Command::new(binary());
    without.arg("node").arg("--base").arg(format!("http://{closed}"));
    without.args(["--insecure", "--join", "hdj_test", "--name", "n", "--listen", "127.0.0.1:0"]);
    without.args(["--shards", "1", "--workers", "1"]).arg("--media").arg(&media);
    let node = Server::run(without, tempfile::tempdir_in(scratch()).unwrap());
    assert_eq!(titles(&node), ["clip.mp4".to_owned()].into());
    node.assert_logs("HE-W928");
    node.assert_logs("HE-W929");
}

#[test]
fn nodes_that_start_at_once_share_no_port_that_nobody_set() {
    let base = Base::start();
    let start = |name: &str| {
        let (kept, media) = media();
        let mut command = Command::new(binary());
        command.arg("node").arg("--base").arg(format!("http://{}", base.addr));
        command.args(["--insecure", "--join", "hdj_test", "--name", name]);
        command.args(["--listen", "127.0.0.1:0"]);
        command.args(["--shards", "1", "--workers", "1"]).arg("--media").arg(&media);
        (Server::run(command, tempfile::tempdir_in(scratch()).unwrap()), kept)
    };
    let names = ["a", "b", "c"];
    let nodes = std::thread::scope(|scope| {
        let started = names.map(|name| scope.spawn(move || start(name)));
        started.map(|node| node.join().unwrap())
    });
    let ports: BTreeSet<u16> = nodes.iter().map(|(node, _)| node.admin.port()).collect();
    assert_eq!(ports.len(), names.len(), "{ports:?}");
    // Another program of this machine may have the usual port, or a test beside this one.
    for (node, _) in nodes.iter().filter(|(node, _)| node.admin.port() != 9_997) {
        let told = format!("now it is {} (HE-W110)", node.admin);
        assert!(node.banner.contains(&told), "{}", node.banner);
        assert_eq!(http::get(node.admin, "/readyz").0, 200);
    }
}

#[test]
fn lines_that_a_base_causes_are_limited_and_those_left_out_are_counted() {
    let base = Base::start();
    let (_kept, media) = media();
    let node = base.node(&media, &[]);
    base.say((0..STRANGE_ORDERS).map(|step| format!("{{\"order\":\"dance\",\"step\":{step}}}")));
    base.command(1, Op::Query);
    base.until_done(1);
    let message = "an order of the base is not understood";
    let mut logged = BTreeMap::<String, u64>::new();
    until("all of them are logged or counted", || {
        let mut left_out = 0;
        logged.clear();
        for line in node.log().lines().filter(|line| line.contains(message)) {
            // The last one may be half-written.
            let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else { continue };
            let more = line["message"].as_str().unwrap().strip_prefix(&format!("{message}: "));
            match more.and_then(|more| more.strip_suffix(" more like this")) {
                Some(more) => left_out += more.parse::<u64>().unwrap(),
                None => {
                    let second = line["timestamp"].as_str().unwrap().split('.').next().unwrap();
                    *logged.entry(second.to_owned()).or_default() += 1;
                }
            }
        }
        logged.values().sum::<u64>() + left_out == STRANGE_ORDERS
    });
    // Its seconds do not begin with those of the clock.
    assert!(logged.values().all(|lines| *lines <= 2 * LINES_A_SECOND), "{logged:?}");
}

/// Orders that no node knows.
const STRANGE_ORDERS: u64 = 5_000;
/// What the log takes of one kind.
const LINES_A_SECOND: u64 = 50;
/// Buffers of a socket and of the base's stream.
const IN_FLIGHT_MAX: u64 = 9 << 20;
