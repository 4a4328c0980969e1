//! A base over HTTP: jobs of clients, orders and reports of nodes, and what a crash leaves.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use std::collections::BTreeSet;

use headend::dist::chain::{ChainEntry, ChainHead, verify_entries};
use headend::dist::ids::{CommandKey, Incarnation};
use reqwest::Method;
use reqwest::header::{ACCEPT, AUTHORIZATION, ORIGIN, WWW_AUTHENTICATE};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::support::base::{Base, Client, ScriptedNode, read};
use crate::support::scratch;
use crate::support::wait::PATIENCE;

/// A base in a folder of its own.
fn base() -> (tempfile::TempDir, Base) {
    let dir = tempfile::tempdir_in(scratch()).unwrap();
    let base = Base::start(&dir.path().join("data"));
    (dir, base)
}

/// A job for all nodes.
pub(crate) async fn job(client: &Client) -> String {
    let (status, job) = client.post("/v1/jobs", &json!({"targets": "all"})).await;
    assert_eq!(status, 201, "{job}");
    job["job_id"].as_str().unwrap().to_owned()
}

pub(crate) fn reason(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["reason"].as_str().unwrap_or_default())
}

#[tokio::test]
async fn job_without_data_goes_through_a_node_to_its_end_and_its_report() {
    let (_dir, mut base) = base();
    let client = base.client();
    let mut node = ScriptedNode::new("edge-1");
    node.join(&base.joining()).await.unwrap();
    let job = job(&client).await;
    let events = format!("/v1/jobs/{job}/events");
    let stream = client.request(Method::GET, &events).header(ACCEPT, "text/event-stream");
    let mut stream = stream.send().await.unwrap();
    for _ in 0..3 {
        let commands = format!("/v1/jobs/{job}/commands");
        let (status, command) = client.post(&commands, &json!({"op": "query"})).await;
        assert_eq!(status, 201, "{command}");
    }
    let joining = base.joining();
    let following = tokio::spawn(async move { node.follow(&joining, |_| ()).await });
    let (status, ended) = client.post(&format!("/v1/jobs/{job}/end"), &json!({})).await;
    assert_eq!(status, 200, "{ended}");

    // The stream says when it is done.
    let mut text = String::new();
    while !text.contains("event: job.completed\n") {
        let chunk = timeout(PATIENCE, stream.chunk()).await.unwrap().unwrap().unwrap();
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    let ids: Vec<u64> = text.lines().filter_map(|l| l.strip_prefix("id: ")?.parse().ok()).collect();
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");

    let view = client.found(&format!("/v1/jobs/{job}")).await;
    assert_eq!((&view["state"], &view["totals"]["completed"]), (&json!("completed"), &json!(3)));
    let deliveries = client.found(&format!("/v1/jobs/{job}/deliveries?limit=2")).await;
    assert_eq!(deliveries["next_cursor"], "2/edge-1");
    let rest = client.found(&format!("/v1/jobs/{job}/deliveries?after=2/edge-1")).await;
    assert_eq!(rest["deliveries"].as_array().unwrap().len(), 1);
    let report = client.found(&format!("/v1/jobs/{job}/report")).await;
    let delivered = report["nodes"][0]["deliveries"].as_array().unwrap();
    assert!(delivered.iter().all(|delivery| delivery["is_signature_valid"] == true), "{report}");
    let page = client.found(&format!("{events}?after={}", ids[ids.len() - 2])).await;
    assert_eq!(page["events"][0]["kind"], "job.completed");

    let (_, metrics) = client.get("/metrics").await;
    let metrics = metrics.as_str().unwrap();
    for line in ["ctp_nodes{state=\"active\"} 1", "ctp_deliveries{state=\"completed\"} 3"] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    assert!(base.stop().is_some_and(|status| status.success()), "{}", base.log());
    // The base ended the stream of orders in order.
    timeout(PATIENCE, following).await.unwrap().unwrap().ok();
}

#[tokio::test]
async fn same_idempotency_key_acts_once_and_another_request_under_it_is_refused() {
    let (_dir, base) = base();
    let client = base.client();
    ScriptedNode::new("edge-1").join(&base.joining()).await.unwrap();
    let request = |body: Value| {
        let request = client.request(Method::POST, "/v1/jobs").json(&body);
        read(request.header("Idempotency-Key", "k-1"))
    };
    let first = request(json!({"targets": "all"})).await.unwrap();
    assert_eq!(first.0, 201, "{}", first.1);
    assert_eq!(request(json!({"targets": "all"})).await.unwrap(), first);
    assert_eq!(client.all("/v1/jobs", "jobs").await.len(), 1);
    let other = request(json!({"targets": {"nodes": ["edge-1"]}})).await.unwrap();
    assert_eq!(reason(&other), (422, "idempotency_key_reused"));
    let empty = client.request(Method::POST, "/v1/jobs").header("Idempotency-Key", "");
    assert_eq!(reason(&read(empty).await.unwrap()), (400, "bad_idempotency_key"));
}

#[tokio::test]
async fn jobs_and_nodes_are_found_by_a_word_and_come_page_by_page() {
    let (_dir, base) = base();
    let client = base.client();
    for name in ["edge-1", "edge-2", "hub-1"] {
        ScriptedNode::new(name).join(&base.joining()).await.unwrap();
    }
    let mut ids = Vec::new();
    for client_ref in ["film-a", "clip", "film-b"] {
        let job = json!({"targets": "all", "client_ref": client_ref});
        let (status, job) = client.post("/v1/jobs", &job).await;
        assert_eq!(status, 201, "{job}");
        ids.push(job["job_id"].clone());
    }
    let names = |page: &Value, list: &str, key: &str| -> Vec<Value> {
        page[list].as_array().unwrap().iter().map(|entry| entry[key].clone()).collect()
    };
    let films = client.found("/v1/jobs?q=FILM").await;
    assert_eq!(names(&films, "jobs", "client_ref"), ["film-a", "film-b"]);
    assert_eq!(films["next_cursor"], Value::Null);
    let first = client.found("/v1/jobs?q=film&limit=1").await;
    assert_eq!((&names(&first, "jobs", "job_id")[..], &first["next_cursor"]), (&ids[..1], &ids[0]));
    let next = format!("/v1/jobs?q=film&limit=1&after={}", ids[0].as_str().unwrap());
    assert_eq!(names(&client.found(&next).await, "jobs", "job_id"), ids[2..]);
    assert_eq!(client.found("/v1/jobs?q=film&state=closing").await["jobs"], json!([]));
    assert_eq!(client.found("/v1/jobs?q=open").await["jobs"].as_array().unwrap().len(), 3);

    let page = client.found("/v1/nodes?limit=2").await;
    assert_eq!(names(&page, "nodes", "node"), ["edge-1", "edge-2"]);
    assert_eq!(page["next_cursor"], "edge-2");
    let rest = client.found("/v1/nodes?limit=2&after=edge-2").await;
    assert_eq!(
        (&names(&rest, "nodes", "node")[..], &rest["next_cursor"]),
        (&[json!("hub-1")][..], &Value::Null)
    );
    assert_eq!(names(&client.found("/v1/nodes?q=HUB").await, "nodes", "node"), ["hub-1"]);
    assert_eq!(client.found("/v1/nodes").await["nodes"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn wrong_requests_are_problems_with_a_reason() {
    let (_dir, base) = base();
    let client = base.client();
    let nobody = client.post("/v1/jobs", &json!({"targets": "all"})).await;
    assert_eq!(reason(&nobody), (422, "no_targets"));
    ScriptedNode::new("edge-1").join(&base.joining()).await.unwrap();
    let job = job(&client).await;
    let cases = [
        (client.post("/v1/jobs", &json!({"targets": "some"})).await, (400, "bad_body")),
        (client.get("/v1/jobs/17").await, (404, "not_found")),
        (client.get("/v1/jobs?limit=0").await, (400, "bad_query")),
        (client.get("/v1/jobs?state=eaten").await, (400, "bad_query")),
        (client.get(&format!("/v1/jobs?q={}", "x".repeat(201))).await, (400, "bad_query")),
        (client.get("/v1/nodes?limit=0").await, (400, "bad_query")),
        (client.get("/v1/nodes?after=..").await, (400, "bad_query")),
        (client.get(&format!("/v1/jobs/{job}/deliveries?after=x")).await, (400, "bad_query")),
        (client.get(&format!("/v1/jobs/{job}/events?wait=61")).await, (400, "bad_query")),
        (client.get(&format!("/v1/jobs/{job}/commands/1")).await, (404, "unknown_command")),
        (client.get("/v1/nodes/edge-2").await, (404, "not_found")),
        (
            client.post(&format!("/v1/jobs/{job}/retry"), &json!({})).await,
            (409, "nothing_to_retry"),
        ),
        (client.post("/v1/nodes/edge-2/drain", &json!({})).await, (404, "unknown_node")),
    ];
    for (answer, expected) in cases {
        assert_eq!(reason(&answer), expected, "{}", answer.1);
        assert_eq!(answer.1["status"], expected.0);
    }
    assert_eq!(client.get("/v1/nowhere").await.0, 404);
    assert_eq!(client.get(&format!("/v1/jobs/{job}/end")).await.0, 405);
    let long = json!({"node": "a".repeat(70_000)});
    let long = base.joining().post("/agent/v1/hello", &long).await;
    assert_eq!(reason(&long), (413, "body_too_large"));
}

#[tokio::test]
async fn each_token_opens_its_own_doors_only() {
    let (_dir, base) = base();
    let (client, joining) = (base.client(), base.joining());
    let mut node = ScriptedNode::new("edge-1");
    let hello = serde_json::to_value(node.hello()).unwrap();
    let stranger = client.with_token("hdp_0123456789abcdef");
    for (answer, expected) in [
        (stranger.get("/v1/jobs").await, (401, "token_unknown")),
        (joining.get("/v1/jobs").await, (401, "token_unknown")),
        (client.post("/agent/v1/hello", &hello).await, (401, "token_unknown")),
        (client.get("/agent/v1/orders").await, (401, "token_unknown")),
        (joining.get("/agent/v1/orders").await, (401, "token_unknown")),
    ] {
        assert_eq!(reason(&answer), expected, "{}", answer.1);
    }
    let digest = client.bare("/v1/jobs").header(AUTHORIZATION, "Digest x");
    let answer = digest.send().await.unwrap();
    assert_eq!(answer.status(), 401);
    let mut schemes = answer.headers().get_all(WWW_AUTHENTICATE).iter();
    assert!(schemes.any(|scheme| scheme.as_bytes().starts_with(b"Basic ")));
    let page = client.request(Method::GET, "/v1/jobs").header(ORIGIN, "http://evil.example");
    assert_eq!(reason(&read(page).await.unwrap()), (403, "other_origin"));

    node.join(&joining).await.unwrap();
    // A second node under the name, and a node that reports for another.
    let mut other = node.hello();
    other.public_key = "8yA3mLRPqYtHj8bWlxGhQ5HsYRKCYyNJnO5oYhzqkdw=".to_owned();
    other.incarnation = Incarnation(9);
    let (status, _) = joining.post("/agent/v1/hello", &serde_json::to_value(other).unwrap()).await;
    assert!((400..500).contains(&status), "{status}");
    let nodes = client.found("/v1/nodes").await;
    assert_eq!(nodes["nodes"].as_array().unwrap().len(), 1);
    // It listens on all of its addresses, and is reached where it came from.
    assert_eq!(nodes["nodes"][0]["addr"], "127.0.0.1:9");
}

#[tokio::test]
async fn client_sees_its_own_jobs_and_the_chain_of_all() {
    let dir = tempfile::tempdir_in(scratch()).unwrap();
    let tokens = dir.path().join("tokens");
    std::fs::write(&tokens, "news hdp_news-0123456789\nsport hdp_sport-0123456789\n").unwrap();
    let words = ["--provider-token-file", tokens.to_str().unwrap()];
    let base = Base::start_with(&dir.path().join("data"), &words);
    assert!(base.banner.contains("chmod 600"), "{}", base.banner);
    ScriptedNode::new("edge-1").join(&base.joining()).await.unwrap();
    let news = base.joining().with_token("hdp_news-0123456789");
    let sport = news.with_token("hdp_sport-0123456789");
    let theirs = job(&news).await;
    for path in ["", "/commands", "/deliveries", "/events", "/report"] {
        let answer = sport.get(&format!("/v1/jobs/{theirs}{path}")).await;
        assert_eq!(reason(&answer), (404, "unknown_job"), "{path}");
    }
    assert_eq!(sport.all("/v1/jobs", "jobs").await, [json!(null); 0]);
    let (own, sealed) = (chain(&news).await, chain(&sport).await);
    assert_eq!(verify_entries(ChainHead::START, &own), verify_entries(ChainHead::START, &sealed));
    let is_sealed = |entry: &&ChainEntry| matches!(entry, ChainEntry::Sealed { .. });
    assert_eq!(own.iter().find(is_sealed), None);
    assert!(sealed.iter().any(|entry| is_sealed(&entry)));
}

/// The whole chain, as a client sees it.
pub(crate) async fn chain(client: &Client) -> Vec<ChainEntry> {
    let mut entries: Vec<ChainEntry> = Vec::new();
    let mut after = 0;
    loop {
        let page = client.found(&format!("/v1/events?after={after}&limit=500")).await;
        let events: Vec<ChainEntry> = serde_json::from_value(page["events"].clone()).unwrap();
        if events.is_empty() {
            return entries;
        }
        entries.extend(events);
        after = page["next"].as_u64().unwrap();
    }
}

#[tokio::test]
async fn long_poll_waits_for_the_first_event() {
    let (_dir, base) = base();
    let client = base.client();
    ScriptedNode::new("edge-1").join(&base.joining()).await.unwrap();
    let job = job(&client).await;
    let events = format!("/v1/jobs/{job}/events");
    let next = client.found(&events).await["next"].as_u64().unwrap();
    let asker = client.clone();
    let path = format!("{events}?after={next}&wait=30");
    let waiting = tokio::spawn(async move { asker.found(&path).await });
    let (status, _) = client.post(&format!("/v1/jobs/{job}/cancel"), &json!({})).await;
    assert_eq!(status, 200);
    let page = timeout(PATIENCE, waiting).await.unwrap().unwrap();
    assert!(page["events"].as_array().unwrap().iter().any(|e| e["kind"] == "job.cancelled"));
    let none = client.found(&format!("{events}?after={}", page["next"])).await;
    assert_eq!(none["next"], page["next"]);
}

#[tokio::test]
async fn question_that_waits_is_answered_when_nothing_of_the_job_is_open() {
    let (_dir, base) = base();
    let client = base.client();
    ScriptedNode::new("edge-1").join(&base.joining()).await.unwrap();
    let job = job(&client).await;
    let path = format!("/v1/jobs/{job}");
    let without = client.found(&format!("{path}?wait=30")).await;
    assert_eq!(without["state"], "open", "a job without commands has nothing to wait for");
    let (status, _) = client.post(&format!("{path}/commands"), &json!({"op": "query"})).await;
    assert_eq!(status, 201);
    let at_once = client.found(&path).await;
    assert_eq!(at_once["totals"]["new"], 1, "{at_once}");
    let (asker, waiting) = (client.clone(), format!("{path}?wait=30"));
    let waiting = tokio::spawn(async move { asker.found(&waiting).await });
    let (status, _) = client.post(&format!("{path}/cancel"), &json!({})).await;
    assert_eq!(status, 200);
    let settled = timeout(PATIENCE, waiting).await.unwrap().unwrap();
    assert_eq!(settled["state"], "cancelled", "{settled}");
    let answer = client.get(&format!("{path}?wait=61")).await;
    assert_eq!(reason(&answer), (400, "bad_query"));
}

#[tokio::test]
async fn upload_that_was_answered_survives_a_kill_and_is_for_nodes_with_a_capability() {
    let dir = tempfile::tempdir_in(scratch()).unwrap();
    let data = dir.path().join("data");
    let mut base = Base::start(&data);
    let client = base.client();
    let mut node = ScriptedNode::new("edge-1");
    node.join(&base.joining()).await.unwrap();
    let job = job(&client).await;
    let bytes: Vec<u8> = (0..300_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let path = format!("/ctp/{job}/films/a.bin");
    let put = client.request(Method::PUT, &path).body(bytes.clone()).send().await.unwrap();
    assert!(put.status().is_success(), "{put:?}");
    base.kill();
    base = Base::start(&data);
    let client = base.client();
    let read = client.request(Method::GET, &path).send().await.unwrap();
    assert_eq!(read.status(), 200);
    assert_eq!(read.bytes().await.unwrap(), bytes);
    let command = client.found(&format!("/v1/jobs/{job}/commands/1")).await;
    assert_eq!(command["blake3"], blake3::hash(&bytes).to_string());
    let kinds = chain(&client).await.into_iter().map(|entry| match entry {
        ChainEntry::Open(event) => event.kind,
        ChainEntry::Sealed { .. } => String::new(),
    });
    assert_eq!(kinds.filter(|kind| kind == "upload.complete").count(), 1);
    // A provider's token is no capability.
    let (content, capability) = node.source(&base.joining()).await;
    let units = format!("/peer/v1/contents/{content}/units?from=0");
    assert_eq!(client.get(&units).await.0, 403);
    let answer = client.with_token(&capability).request(Method::GET, &units);
    let answer = answer.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.bytes().await.unwrap().len() > bytes.len());
    let metrics = client.get("/metrics").await.1;
    let sent = metrics.as_str().unwrap().lines().find(|line| line.contains("dir=\"out\""));
    let sent: u64 = sent.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(sent >= 300_000, "{sent}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_of_the_base_loses_nothing_acknowledged_and_completes_nothing_twice() {
    let dir = tempfile::tempdir_in(scratch()).unwrap();
    let data = dir.path().join("data");
    let mut base = Base::start(&data);
    let mut node = ScriptedNode::new("edge-1");
    node.join(&base.joining()).await.unwrap();
    let job = job(&base.client()).await;
    let mut acknowledged: Vec<u64> = Vec::new();
    for round in 1..=5_usize {
        let (client, joining) = (base.client(), base.joining());
        let (told, mut taken) = watch::channel(node.taken.len());
        let wanted = node.taken.len() + 7 * round;
        let following = tokio::spawn(async move {
            let _gone =
                node.follow(&joining, |count| told.send_modify(|taken| *taken = count)).await;
            node
        });
        let (path, asker) = (format!("/v1/jobs/{job}/commands"), client.clone());
        let asking = tokio::spawn(async move {
            let mut accepted = Vec::new();
            // Ends with the base.
            while let Ok((201, answer)) = asker.try_post(&path, &json!({"op": "query"})).await {
                accepted.push(answer["command_id"].as_u64().unwrap());
            }
            accepted
        });
        let reached = taken.wait_for(|count| *count >= wanted);
        timeout(PATIENCE, reached).await.unwrap().unwrap();
        base.kill();
        node = timeout(PATIENCE, following).await.unwrap().unwrap();
        acknowledged.extend(timeout(PATIENCE, asking).await.unwrap().unwrap());
        base = Base::start(&data);
        assert_nothing_is_lost(&base.client(), &job, &acknowledged, &node.taken).await;
    }
    // What was open goes on to its end.
    let (client, joining) = (base.client(), base.joining());
    let following = tokio::spawn(async move { node.follow(&joining, |_| ()).await });
    client.post(&format!("/v1/jobs/{job}/end"), &json!({})).await;
    client.event(&job, |event| event["kind"] == "job.completed").await;
    assert_eq!(client.found(&format!("/v1/jobs/{job}")).await["state"], "completed");
    following.abort();
    let entries = chain(&client).await;
    assert!(verify_entries(ChainHead::START, &entries).is_ok());
}

pub(crate) async fn assert_nothing_is_lost(
    client: &Client,
    job: &str,
    accepted: &[u64],
    taken: &[CommandKey],
) {
    let commands = client.all(&format!("/v1/jobs/{job}/commands"), "commands").await;
    let known: BTreeSet<u64> = commands.iter().filter_map(|c| c["command_id"].as_u64()).collect();
    let lost: Vec<_> = accepted.iter().filter(|id| !known.contains(id)).collect();
    assert!(lost.is_empty(), "commands: {lost:?}");
    let path = format!("/v1/jobs/{job}/deliveries");
    let deliveries = client.all(&path, "deliveries").await;
    let completed: BTreeSet<u64> = deliveries
        .iter()
        .filter(|delivery| delivery["state"] == "completed")
        .filter_map(|delivery| delivery["command_id"].as_u64())
        .collect();
    let taken: BTreeSet<u64> = taken.iter().map(|key| u64::from(key.command.0)).collect();
    assert!(taken.is_subset(&completed), "receipts are lost");

    let entries = chain(client).await;
    assert!(verify_entries(ChainHead::START, &entries).is_ok());
    let mut seen = BTreeSet::new();
    for entry in &entries {
        let ChainEntry::Open(event) = entry else { panic!("{entry:?}") };
        if event.kind == "delivery.completed" {
            assert!(seen.insert((event.job, event.command)), "completed twice: {event:?}");
        }
    }
}
