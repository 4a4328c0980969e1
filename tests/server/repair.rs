//! Nodes that are drained, asked and mended by words of an operator, at a base over HTTP.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::base::{job, reason};
use crate::support::base::{Base, Client, ScriptedNode, read};
use crate::support::process::{Finished, run_command};
use crate::support::scratch;
use crate::support::server::{Server, binary};
use crate::support::wait::{Deadline, PATIENCE};

/// Waits for an event of the base that no job has to do with.
async fn event(client: &Client, kind: &str) -> Value {
    let deadline = Deadline::after(PATIENCE);
    let (mut after, mut seen) = (0, Vec::new());
    while !deadline.has_passed() {
        let wait = deadline.left().as_secs().max(1);
        let page = client.found(&format!("/v1/events?after={after}&wait={wait}")).await;
        for event in page["events"].as_array().unwrap() {
            if event["kind"] == kind {
                return event.clone();
            }
            seen.push(event["kind"].clone());
        }
        after = page["next"].as_u64().unwrap();
    }
    panic!("no {kind} in {seen:?}");
}

fn node(base: &Base, media: &Path) -> Server {
    std::fs::create_dir(media).unwrap();
    let mut node = Command::new(binary());
    node.args(["node", "--base", &base.url(), "--insecure", "--join", &base.join_token()]);
    node.args(["--name", "edge-1", "--peer-listen", "127.0.0.1:0", "--listen", "127.0.0.1:0"]);
    node.args(["--rtp-port", "0", "--admin", "127.0.0.1:0", "--shards", "1", "--workers", "1"]);
    node.arg("--media").arg(media);
    Server::run(node, tempfile::tempdir_in(scratch()).unwrap())
}

fn headend(base: &Base, words: &[&str]) -> Finished {
    let mut command = Command::new(binary());
    command.args(words).args(["--base", &base.url(), "--token", &base.token("provider.token")]);
    run_command(&mut command, PATIENCE)
}

fn said(base: &Base, words: &[&str]) -> String {
    let ran = headend(base, words);
    assert!(ran.status.success(), "{words:?}: {}", ran.stderr);
    ran.stdout
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_is_drained_undrained_and_mended_by_words() {
    let dir = tempfile::tempdir_in(scratch()).unwrap();
    let base = Base::start(&dir.path().join("data"));
    let client = base.client();
    let media = dir.path().join("media");
    let _node = node(&base, &media);
    event(&client, "node.joined").await;

    let drained = said(&base, &["node", "drain", "edge-1", "--back", "2031-05-01T06:00:00Z"]);
    assert_eq!(drained, "node edge-1 is draining: 0 deliveries open\n");
    let shown = said(&base, &["node", "show", "edge-1"]);
    assert!(shown.contains("back        2031-05-01T06:00:00Z is expected"), "{shown}");
    let refused = client.post("/v1/jobs", &json!({"targets": {"nodes": ["edge-1"]}})).await;
    assert_eq!(reason(&refused), (409, "node_unavailable"));
    let undrained = said(&base, &["node", "undrain", "edge-1"]);
    assert_eq!(undrained, "node edge-1 is active: 0 deliveries open\n");

    let mended = said(&base, &["node", "repair", "edge-1"]);
    assert_eq!(mended, "node edge-1 is repairing: 0 deliveries open\n");
    assert_eq!(event(&client, "repair.tried").await["detail"]["done"], json!(["restart"]));
    let ended = event(&client, "repair.ended").await;
    assert_eq!((&ended["node"], &ended["detail"]["cause"]), (&json!("edge-1"), &json!("operator")));
    let view = client.found("/v1/nodes/edge-1").await;
    assert_eq!((&view["state"], &view["repair"]), (&json!("active"), &Value::Null));

    // The agent that has begun anew does its work.
    let film = dir.path().join("film.bin");
    std::fs::write(&film, "film".repeat(100_000)).unwrap();
    said(&base, &["job", "push", film.to_str().unwrap()]);
    assert_eq!(std::fs::read(media.join("film.bin")).unwrap(), std::fs::read(&film).unwrap());

    let ran = headend(&base, &["node", "repair", "nobody"]);
    assert!(!ran.status.success() && ran.stderr.contains("nobody"), "{}", ran.stderr);
    let ran = headend(&base, &["node", "drain", "edge-1", "--back", "tomorrow"]);
    assert!(!ran.status.success() && ran.stderr.contains("2026-03-01T08:00:00Z"), "{}", ran.stderr);
}

#[tokio::test]
async fn silent_node_is_mended_by_the_command_of_the_operator() {
    let dir = tempfile::tempdir_in(scratch()).unwrap();
    let file = dir.path().join("called");
    let hook = format!("echo $HEADEND_NODE $HEADEND_REPAIR_TRY > {}", file.display());
    let base = Base::start_with(&dir.path().join("data"), &["--repair-hook", &hook]);
    let client = base.client();
    let mut node = ScriptedNode::new("edge-1");
    node.join(&base.joining()).await.unwrap();
    let job = job(&client).await;
    let commands = format!("/v1/jobs/{job}/commands");
    assert_eq!(client.post(&commands, &json!({"op": "query"})).await.0, 201);

    let (status, view) = client.post("/v1/nodes/edge-1/repair", &json!({})).await;
    assert_eq!((status, &view["state"]), (200, &json!("repairing")), "{view}");
    assert_eq!(view["repair"]["tries"], 1);
    // Behind the five seconds of the first try.
    let hooked = client.event(&job, |event| event["kind"] == "repair.hook").await;
    assert_eq!(hooked["detail"], json!({"try": 2, "outcome": "exit 0"}));
    assert_eq!(std::fs::read_to_string(file).unwrap(), "edge-1 2\n");

    // It is back, and says what it has; what it lacks is said to it again.
    let (status, view) = client.post("/v1/nodes/edge-1/activate", &json!({})).await;
    assert_eq!((status, &view["state"]), (200, &json!("activating")), "{view}");
    let joining = base.joining();
    let following = tokio::spawn(async move { node.follow(&joining, |_| ()).await });
    client.event(&job, |event| event["kind"] == "repair.ended").await;
    client.event(&job, |event| event["kind"] == "delivery.completed").await;
    following.abort();

    let patch = |body: Value| {
        let request = client.request(reqwest::Method::PATCH, "/v1/nodes/edge-1");
        read(request.json(&body))
    };
    let (status, view) = patch(json!({"expected_back": "2031-05-01T06:00:00Z"})).await.unwrap();
    let at_ns = 1_935_381_600_000_000_000_i64;
    assert_eq!((status, &view["repair"]["expected_back_ns"]), (200, &json!(at_ns)), "{view}");
    let (status, view) = patch(json!({"expected_back": null})).await.unwrap();
    assert_eq!((status, &view["repair"]), (200, &Value::Null), "{view}");
    assert_eq!(reason(&patch(json!({"expected_back": "soon"})).await.unwrap()), (400, "bad_time"));
    let refused = client.post("/v1/nodes/nobody/query", &json!({})).await;
    assert_eq!(reason(&refused), (404, "unknown_node"));
}
