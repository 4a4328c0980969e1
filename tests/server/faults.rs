//! What goes wrong at nodes of a real base: a source that lies, a disk that fills up, a token that
//! does not count.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::routing::get;
use futures_util::StreamExt as _;
use headend::dist::units::{Frame, FrameReader};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::base::{Base, Client, ScriptedNode, plain_http};
use crate::support::network::in_own_mounts;
use crate::support::process::{Finished, run_command};
use crate::support::scratch;
use crate::support::server::{Server, binary};
use crate::support::wait::PATIENCE;

/// A base in a folder of its own.
fn base() -> (tempfile::TempDir, Base) {
    let dir = tempfile::tempdir_in(scratch()).unwrap();
    let base = Base::start(&dir.path().join("data"));
    (dir, base)
}

/// A node over `media`, which it makes.
fn node(base: &Base, name: &str, media: &Path) -> Server {
    let mut command = node_command(base, name, media);
    command.arg("--join").arg(base.join_token());
    Server::run(command, tempfile::tempdir_in(scratch()).unwrap())
}

fn node_command(base: &Base, name: &str, media: &Path) -> Command {
    let mut command = Command::new(binary());
    command.arg("node").arg("--base").arg(base.url());
    command.args((!base.is_secure()).then_some("--insecure"));
    command.args(["--name", name, "--peer-listen", "127.0.0.1:0", "--listen", "127.0.0.1:0"]);
    command.args(["--admin", "127.0.0.1:0", "--rtp-port", "0", "--shards", "1", "--workers", "1"]);
    command.arg("--media").arg(media);
    command
}

/// A job for all nodes.
async fn job(client: &Client) -> String {
    let (status, job) = client.post("/v1/jobs", &json!({"targets": "all"})).await;
    assert_eq!(status, 201, "{job}");
    job["job_id"].as_str().unwrap().to_owned()
}

async fn put(client: &Client, job: &str, path: &str, body: impl Into<reqwest::Body>) {
    let put = client.request(Method::PUT, &format!("/ctp/{job}/{path}")).body(body);
    let answer = put.send().await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
}

/// Waits for an event of a command at a node.
async fn event(client: &Client, job: &str, (command, node): (u64, &str), kind: &str) -> Value {
    let wanted = |event: &Value| {
        event["kind"] == kind && event["command"] == command && event["node"] == node
    };
    client.event(job, wanted).await
}

/// Bytes that are the same nowhere.
fn noise(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    blake3::Hasher::new().update(b"faults").finalize_xof().fill(&mut bytes);
    bytes
}

/// A peer that gives units of the base, each with its last bit turned over.
#[derive(Debug)]
struct Liar {
    base: SocketAddr,
    http: reqwest::Client,
    /// Streams that were asked for.
    asked: AtomicU64,
}

impl Liar {
    /// Serves on the runtime of the test.
    async fn start(base: SocketAddr) -> (Arc<Self>, SocketAddr) {
        let http = plain_http();
        let liar = Arc::new(Self { base, http, asked: AtomicU64::new(0) });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/peer/v1/contents/{content}/units", get(Self::units))
            .with_state(Arc::clone(&liar));
        tokio::spawn(async move { axum::serve(listener, router).await });
        (liar, addr)
    }

    /// Asks the base with the permission of whoever asks here.
    async fn units(
        State(liar): State<Arc<Self>>,
        uri: Uri,
        headers: HeaderMap,
    ) -> Result<Body, StatusCode> {
        liar.asked.fetch_add(1, Ordering::Relaxed);
        let url = format!("http://{}{uri}", liar.base);
        let request = liar.http.get(url).header("authorization", &headers[header::AUTHORIZATION]);
        let answer = request.send().await.unwrap();
        if !answer.status().is_success() {
            return Err(answer.status());
        }
        let mut frames = FrameReader::new();
        let lies = answer.bytes_stream().map(move |bytes| {
            let mut out = Vec::new();
            frames.push(bytes?);
            while let Some(frame) = frames.next_frame().unwrap() {
                out.extend_from_slice(frame.encoded());
                if let (Frame::Unit(_), Some(last)) = (&frame, out.last_mut()) {
                    *last ^= 1;
                }
            }
            Ok::<_, reqwest::Error>(Bytes::from(out))
        });
        Ok(Body::from_stream(lies))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn source_of_bad_units_is_dropped_and_named_and_after_two_it_is_no_source() {
    let (dir, base) = base();
    let client = base.client();
    let media = dir.path().join("good");
    let _good = node(&base, "good", &media);
    let (liar, addr) = Liar::start(base.addr).await;
    // It says that it is fast, so that the other one is to fetch from it; and it fetches nothing,
    // as it has no use for it.
    let mut bad = ScriptedNode::new("bad");
    (bad.addr, bad.up_rate_cap, bad.is_lazy) = (addr.to_string(), Some(1 << 30), true);
    bad.join(&base.joining()).await.unwrap();
    let joining = base.joining();
    let following = tokio::spawn(async move { bad.follow(&joining, |_| ()).await });
    let job = job(&client).await;
    let bytes = noise(300_000);
    for command in 1..=3 {
        put(&client, &job, &format!("{command}.bin"), bytes.clone()).await;
        event(&client, &job, (command, "good"), "delivery.completed").await;
        // Of the third one it was not asked.
        assert_eq!(liar.asked.load(Ordering::Relaxed), command.min(2));
        assert!(std::fs::read(media.join(format!("{command}.bin"))).unwrap() == bytes);
        let delivery = client.found(&format!("/v1/jobs/{job}/deliveries?node=good")).await;
        let receipt = &delivery["deliveries"][usize::try_from(command).unwrap() - 1]["receipt"];
        let receipt: Value = serde_json::from_str(receipt["receipt"].as_str().unwrap()).unwrap();
        assert_eq!(receipt["via"], json!({"base": bytes.len()}), "nothing of the liar is kept");
        let state = client.found("/v1/nodes/bad").await["state"].clone();
        assert_eq!(state, if command < 2 { "active" } else { "quarantined" });
    }
    let events = client.found(&format!("/v1/jobs/{job}/events")).await;
    let events = events["events"].as_array().unwrap().iter();
    let bad_units: Vec<_> = events.filter(|event| event["kind"] == "unit.bad").collect();
    assert_eq!(bad_units.len(), 2, "{bad_units:?}");
    for event in bad_units {
        assert_eq!((&event["node"], &event["detail"]["source"]), (&json!("good"), &json!("bad")));
        assert_eq!(event["detail"]["unit"], 0);
    }
    let (_, metrics) = client.get("/metrics").await;
    let counted = "ctp_bad_units_total{source=\"bad\"} 2";
    assert!(metrics.as_str().unwrap().contains(counted), "{metrics}");
    following.abort();
}

#[test]
fn token_that_does_not_count_is_one_clear_sentence_of_the_command_line() {
    let dir = tempfile::tempdir_in(scratch()).unwrap();
    let (tokens, film) = (dir.path().join("tokens"), dir.path().join("film.mp4"));
    std::fs::write(&tokens, format!("news {GOOD}\nsport {OVER} 2020-01-31T00:00:00Z\n")).unwrap();
    std::fs::write(&film, "film").unwrap();
    let words = ["--provider-token-file", tokens.to_str().unwrap()];
    let base = Base::start_with(&dir.path().join("data"), &words);
    let push = |token: &str| {
        let mut command = Command::new(binary());
        command.args(["job", "push"]).arg(&film).arg("--base").arg(base.url());
        run_command(command.args(["--token", token]), PATIENCE)
    };
    let join = |token: &str| {
        let mut command = node_command(&base, "n", &dir.path().join("media"));
        run_command(command.args(["--join", token]), PATIENCE)
    };
    let own = base.join_token();
    let refused = "headend: the base refuses: ";
    for (ended, code, sentence) in [
        (push(OVER), 1, "this token does not count any more (token_expired)"),
        (push(WRONG), 1, "no client has this token (token_unknown)"),
        // Of another kind.
        (push(&own), 1, "no client has this token (token_unknown)"),
        (join(&WRONG.replace("hdp", "hdj")), 2, NO_NODE),
    ] {
        let Finished { status, stdout, stderr } = ended;
        assert_eq!((status.code(), stdout.as_str()), (Some(code), ""), "{stderr}");
        assert_eq!(stderr, format!("{refused}{sentence}\n"));
    }
    // A token that counts comes as far as the job.
    let Finished { status, stderr, .. } = push(GOOD);
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("no_targets"), "{stderr}");
}

#[test]
fn disk_that_fills_up_ends_one_delivery_and_no_other() {
    let small = small_disk();
    let mount = format!(
        "mkdir -p '{0}' && mount -t tmpfs -o size={SMALL_BYTES} headend-test '{0}'",
        small.display()
    );
    let name = "disk_that_fills_up_ends_one_delivery_and_no_other";
    in_own_mounts(module_path!(), name, &mount, || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(fill(&small));
    });
}

/// `small` is a disk of [`SMALL_BYTES`].
async fn fill(small: &Path) {
    let dir = tempfile::tempdir_in(scratch()).unwrap();
    let base = Base::start_secure(&dir.path().join("data"), &[]);
    let client = base.client();
    let media = [small.join("media"), dir.path().join("media")];
    let nodes = [node(&base, "small", &media[0]), node(&base, "large", &media[1])];
    let job = job(&client).await;
    let (long, short) = (noise(LONG_BYTES), noise(1 << 20));
    // Nobody says how long it is, so that no disk can reserve it.
    let pieces = long.chunks(1 << 20).map(|piece| std::io::Result::Ok(piece.to_vec()));
    let pieces = futures_util::stream::iter(pieces.collect::<Vec<_>>());
    let upload = put(&client, &job, "films/long.mp4", reqwest::Body::wrap_stream(pieces));
    let failed = async {
        let began = event(&client, &job, (1, "small"), "delivery.fetching").await;
        let failed = event(&client, &job, (1, "small"), "delivery.failed").await;
        assert_eq!(failed["detail"]["reason"], "no_space", "{failed}");
        assert!(began["seq"].as_u64() < failed["seq"].as_u64(), "in the middle: {began}");
    };
    tokio::join!(upload, failed);
    put(&client, &job, "films/short.mp4", short.clone()).await;
    for (command, node) in [(1, "large"), (2, "large"), (2, "small")] {
        event(&client, &job, (command, node), "delivery.completed").await;
    }
    for (media, names) in media.iter().zip([&["short.mp4"][..], &["long.mp4", "short.mp4"]]) {
        let mut found: Vec<_> = names_in(&media.join("films"));
        found.sort();
        assert_eq!(found, names);
        assert!(std::fs::read(media.join("films/short.mp4")).unwrap() == short);
    }
    let disk = rustix::fs::statvfs(small).unwrap();
    let used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize;
    assert!(used < 12 << 20, "{used} bytes: the half that came is gone");
    assert!(std::fs::read(media[1].join("films/long.mp4")).unwrap() == long);
    drop(nodes);
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Where the small disk is mounted, in the namespace of its test only.
fn small_disk() -> PathBuf {
    scratch().join("small-disk")
}

const GOOD: &str = "hdp_news-0123456789abcdef";
const OVER: &str = "hdp_sport-0123456789abcdef";
const WRONG: &str = "hdp_wrong-0123456789abcdef";
const NO_NODE: &str =
    "this is neither the join token nor the token of one of its nodes (token_unknown)";
/// The journal of a node reserves 8 MiB of it.
const SMALL_BYTES: usize = 32 << 20;
const LONG_BYTES: usize = 48 << 20;
