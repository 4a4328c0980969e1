//! Bases that share a PostgreSQL ledger: one is the base, another stands by and takes over.
//!
//! Where PostgreSQL is not installed, the tests say so and have nothing to do.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use headend::dist::chain::{ChainEntry, ChainHead, verify_entries};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::base::{assert_nothing_is_lost, chain, job, reason};
use crate::support::base::{Base, Client, ScriptedNode};
use crate::support::postgres::Server as Postgres;
use crate::support::process::run_command;
use crate::support::scratch;
use crate::support::server::{Server, binary};
use crate::support::wait::PATIENCE;
use crate::webhooks::{self, Receiver};

/// A base, and one that stands by for it; `None` without PostgreSQL.
fn bases() -> Option<(tempfile::TempDir, Base, Base)> {
    let url = Postgres::shared()?.database();
    let dir = tempfile::tempdir_in(scratch()).unwrap();
    let first = start(dir.path(), &url);
    let second = start(dir.path(), &url);
    Some((dir, first, second))
}

/// A base by this database. All of them have the same folder.
fn start(dir: &Path, url: &str) -> Base {
    Base::start_secure(&dir.join("data"), &["--ledger", url])
}

/// Waits until the base has the ledger, and gives its epoch.
async fn active(client: &Client) -> u64 {
    let ready = async {
        // A base that takes over closes the connections of before.
        while !matches!(client.try_get("/readyz").await, Ok((200, _))) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, ready).await.unwrap();
    let info = client.found("/v1/info").await;
    assert_eq!(info["role"], "active", "{info}");
    info["epoch"].as_u64().unwrap()
}

/// False of a base that is just closing its connections, too.
async fn is_standby(client: &Client) -> bool {
    let answer = client.try_get("/v1/info").await;
    answer.is_ok_and(|(_, info)| info["role"] == "standby")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn base_that_stands_by_says_so_and_takes_over_when_the_other_one_stops() {
    let Some((dir, mut first, second)) = bases() else { return };
    let (client, other) = (first.client(), second.client());
    let epoch = active(&client).await;
    assert!(first.banner.contains("ledger   postgres://"), "{}", first.banner);
    let standby = format!("standby  the base at {} has the ledger", first.addr);
    assert!(second.banner.contains(&standby), "{}", second.banner);
    assert!(!first.banner.contains("standby  "), "{}", first.banner);

    // What it answers: that it runs, and as what; else where the base is.
    let refused = other.get("/v1/jobs").await;
    assert_eq!(reason(&refused), (503, "standby"));
    assert_eq!(refused.1["active"], first.addr.to_string());
    assert_eq!(reason(&other.get("/readyz").await), (503, "standby"));
    assert_eq!(reason(&other.post("/agent/v1/hello", &json!({})).await), (503, "standby"));
    assert_eq!(other.get("/healthz").await, (200, Value::from("ok\n")));
    let info = other.found("/v1/info").await;
    assert_eq!((&info["role"], &info["active"]["epoch"]), (&json!("standby"), &json!(epoch)));
    let metrics = |text: &Value| text.as_str().unwrap().to_owned();
    let waiting = metrics(&other.found("/metrics").await);
    assert!(waiting.contains("ctp_base_active 0\n"), "{waiting}");
    assert!(waiting.contains(&format!("ctp_base_epoch {epoch}\n")), "{waiting}");
    assert!(metrics(&client.found("/metrics").await).contains("ctp_base_active 1\n"));

    // A node and a client know both.
    let both = format!("{},{}", second.url(), first.url());
    let token = |name: &str| dir.path().join("data").join(name).display().to_string();
    let media = dir.path().join("media");
    std::fs::create_dir(&media).unwrap();
    let mut node = Command::new(binary());
    node.args(["node", "--base", &both, "--join", &token("join.token"), "--name", "edge-1"]);
    node.args(["--peer-listen", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--rtp-port", "0"]);
    node.args(["--admin", "127.0.0.1:0", "--shards", "1", "--workers", "1", "--media"]).arg(&media);
    let _node = Server::run(node, tempfile::tempdir_in(scratch()).unwrap());
    let is_there = |client: Client| async move {
        let there = async {
            while client.get("/v1/nodes/edge-1").await.1["state"] != "active" {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(PATIENCE, there).await.unwrap();
    };
    is_there(client.clone()).await;
    let push = |file: &str| {
        let path = dir.path().join(file);
        std::fs::write(&path, file.repeat(100_000)).unwrap();
        let mut push = Command::new(binary());
        push.args(["job", "push"]).arg(&path);
        push.args(["--base", &both, "--token", &token("provider.token")]);
        let pushed = run_command(&mut push, PATIENCE * 2);
        assert!(pushed.status.success(), "{}", pushed.stderr);
        assert_eq!(std::fs::read(media.join(file)).unwrap(), std::fs::read(path).unwrap());
    };
    push("before.bin");

    assert!(first.stop().is_some_and(|status| status.success()), "{}", first.log());
    assert!(active(&other).await > epoch);
    assert!(first.log().contains("HE-I943"), "{}", first.log());
    is_there(other.clone()).await;
    let jobs = other.all("/v1/jobs", "jobs").await;
    assert!(jobs.iter().all(|job| job["state"] == "completed") && jobs.len() == 1, "{jobs:?}");
    push("after.bin");
    let entries = chain(&other).await;
    assert!(verify_entries(ChainHead::START, &entries).is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_of_the_base_under_load_loses_nothing_and_completes_nothing_twice() {
    let Some((_dir, mut first, second)) = bases() else { return };
    let (client, joining) = (first.client(), first.joining());
    let epoch = active(&client).await;
    let mut node = ScriptedNode::new("edge-1");
    node.join(&joining).await.unwrap();
    let job = job(&client).await;
    let (told, mut taken) = watch::channel(0);
    let following = tokio::spawn(async move {
        let _gone = node.follow(&joining, |count| told.send_modify(|taken| *taken = count)).await;
        node
    });
    let path = format!("/v1/jobs/{job}/commands");
    let asking = tokio::spawn(async move {
        let mut accepted = Vec::new();
        // Ends with the base.
        while let Ok((201, answer)) = client.try_post(&path, &json!({"op": "query"})).await {
            accepted.push(answer["command_id"].as_u64().unwrap());
        }
        accepted
    });
    let reached = taken.wait_for(|count| *count >= 40);
    timeout(PATIENCE, reached).await.unwrap().unwrap();
    first.kill();
    let mut node = timeout(PATIENCE, following).await.unwrap().unwrap();
    let acknowledged = timeout(PATIENCE, asking).await.unwrap().unwrap();

    let (client, joining) = (second.client(), second.joining());
    assert!(active(&client).await > epoch);
    assert_nothing_is_lost(&client, &job, &acknowledged, &node.taken).await;
    let following = tokio::spawn(async move {
        let _gone = node.follow(&joining, |_| ()).await;
        node
    });
    client.post(&format!("/v1/jobs/{job}/end"), &json!({})).await;
    let view = format!("/v1/jobs/{job}");
    let completed = async {
        while client.found(&view).await["state"] != "completed" {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, completed).await.unwrap();
    following.abort();
    assert_nothing_is_lost(&client, &job, &acknowledged, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn base_that_was_paused_and_followed_cannot_commit_and_stands_by() {
    let Some((_dir, first, mut second)) = bases() else { return };
    let (client, other) = (first.client(), second.client());
    let epoch = active(&client).await;
    ScriptedNode::new("edge-1").join(&first.joining()).await.unwrap();
    let job = job(&client).await;
    let path = format!("/v1/jobs/{job}/commands");
    first.pause();
    let followed = active(&other).await;
    assert!(followed > epoch);
    // Asked while it sleeps: it answers when it wakes up.
    let early = {
        let (client, path) = (client.clone(), path.clone());
        tokio::spawn(async move { client.try_post(&path, &json!({"op": "query"})).await })
    };
    let (status, _) = other.post(&path, &json!({"op": "query"})).await;
    assert_eq!(status, 201);
    first.wake();
    let early = timeout(PATIENCE, early).await.unwrap().unwrap();
    assert!(early.as_ref().map_or(true, |(status, _)| *status == 503), "{early:?}");
    let stands_by = async {
        while !is_standby(&client).await {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, stands_by).await.unwrap();
    assert_eq!(reason(&client.get("/v1/jobs").await), (503, "standby"));
    let commands = other.all(&path, "commands").await;
    assert_eq!(commands.len(), 1, "{commands:?}");

    // It takes over again in its turn, without a restart.
    assert!(second.stop().is_some_and(|status| status.success()), "{}", second.log());
    assert!(active(&client).await > followed);
    assert_eq!(client.all(&path, "commands").await.len(), 1);
    let entries = chain(&client).await;
    assert!(verify_entries(ChainHead::START, &entries).is_ok());
    let starts = entries.iter().filter(|entry| match entry {
        ChainEntry::Open(event) => event.kind == "base.started",
        ChainEntry::Sealed { .. } => false,
    });
    assert_eq!(starts.count(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn base_that_takes_over_calls_back_whom_the_one_before_could_not() {
    let Some(url) = Postgres::shared().map(Postgres::database) else { return };
    let dir = tempfile::tempdir_in(scratch()).unwrap();
    let words = ["--ledger", &url, "--webhook-allow", "127.0.0.1", "--webhook-retry", "1s"];
    let start = || Base::start_secure(&dir.path().join("data"), &words);
    let (mut first, second) = (start(), start());
    let (client, joining) = (first.client(), first.joining());
    active(&client).await;
    let receiver = Receiver::start(&[500; 1_000]).await;
    let mut node = ScriptedNode::new("edge-1");
    node.join(&joining).await.unwrap();
    let job = webhooks::job(&client, &receiver.url()).await;
    let following = tokio::spawn(async move { node.follow(&joining, |_| ()).await });
    client.post(&format!("/v1/jobs/{job}/commands"), &json!({"op": "query"})).await;
    client.post(&format!("/v1/jobs/{job}/end"), &json!({})).await;
    client.event(&job, |event| event["kind"] == "job.completed").await;
    let refused = receiver.until(|came| came.len() >= 2).await;
    first.kill();
    following.abort();
    receiver.answer(&[]);
    active(&second.client()).await;
    let came = receiver.until_taken("job.completed").await;
    webhooks::assert_sound(&came);
    let taken = came.iter().find(|one| one.status == 204).unwrap();
    assert_eq!((&taken.id, taken.seq()), (&refused[0].id, refused[0].seq()));
}

#[test]
fn url_of_the_ledger_that_cannot_be_used_is_a_usage_failure() {
    let dir = tempfile::tempdir_in(scratch()).unwrap();
    for (url, why) in [
        ("mysql://a@h/l", "postgres://USER@HOST:PORT/NAME is expected"),
        ("postgres://a@h/l?sslmode=require", "TLS to the database is not there"),
    ] {
        let mut base = Command::new(binary());
        base.args(["base", "--listen", "127.0.0.1:0", "--ledger", url, "--data"]);
        let ended = run_command(base.arg(dir.path()), PATIENCE);
        assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains(why), "{}", ended.stderr);
    }
}
