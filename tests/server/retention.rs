//! Events that go from the ledger of a base into files, and the chain across both.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::base::job;
use crate::support::base::{Base, Client, ScriptedNode};
use crate::support::process::{Finished, run_command};
use crate::support::scratch;
use crate::support::server::binary;
use crate::support::wait::{Deadline, PATIENCE};

fn verify(base: &Base, job: &str, archive: Option<&Path>) -> Finished {
    let mut command = Command::new(binary());
    command.args(["job", "verify", job, "--base", &base.url()]);
    command.args(["--token", &base.token("provider.token")]);
    if let Some(folder) = archive {
        command.arg("--archive").arg(folder);
    }
    run_command(&mut command, PATIENCE)
}

/// Waits until events are in files.
async fn archived(client: &Client) -> u64 {
    let deadline = Deadline::after(PATIENCE);
    while !deadline.has_passed() {
        // Answered after a second, because no event has so high a number.
        let page = client.found("/v1/events?after=1000000&wait=1").await;
        if let Some(seq) = page["archived"]["seq"].as_u64() {
            let first = client.found("/v1/events?limit=1").await;
            assert!(first["events"][0]["seq"].as_u64().unwrap() > seq, "{first}");
            return seq;
        }
    }
    panic!("no event goes into a file");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chain_is_checked_across_the_files_of_old_events_and_survives_a_restart() {
    let dir = tempfile::tempdir_in(scratch()).unwrap();
    let data = dir.path().join("data");
    let mut base = Base::start(&data);
    let client = base.client();
    let mut node = ScriptedNode::new("edge-1");
    let joining = base.joining();
    let following = tokio::spawn(async move { node.follow(&joining, |_| ()).await });
    let deadline = Deadline::after(PATIENCE);
    while client.found("/v1/nodes").await["nodes"] == json!([]) {
        assert!(!deadline.has_passed(), "the node does not come");
        // The start of the base is the first event, its hello the second.
        client.found("/v1/events?after=1&wait=1").await;
    }
    let id = job(&client).await;
    let commands = format!("/v1/jobs/{id}/commands");
    assert_eq!(client.post(&commands, &json!({"op": "query"})).await.0, 201);
    client.event(&id, |event| event["kind"] == "delivery.completed").await;
    assert_eq!(client.post(&format!("/v1/jobs/{id}/end"), &json!({})).await.0, 200);
    client.event(&id, |event| event["kind"] == "job.completed").await;
    following.abort();
    let ran = verify(&base, &id, None);
    assert!(ran.status.success() && !ran.stdout.contains("archived"), "{}", ran.stdout);
    assert!(base.stop().unwrap().success());

    // All that is over may go.
    let words = ["--keep-events", "0", "--archive-every", "1s"];
    let mut base = Base::start_with(&data, &words);
    let client = base.client();
    let seq = archived(&client).await;
    let folder = data.join("events");
    for archive in [None, Some(folder.as_path())] {
        let ran = verify(&base, &id, archive);
        assert!(ran.status.success(), "{}{}", ran.stdout, ran.stderr);
        assert!(ran.stdout.contains(" events in a chain, 1 receipts"), "{}", ran.stdout);
        assert!(ran.stdout.contains("archived"), "{}", ran.stdout);
    }
    base.kill();
    let base = Base::start_with(&data, &words);
    assert!(archived(&base.client()).await >= seq);
    assert!(verify(&base, &id, Some(&folder)).status.success());

    // A line that was changed, and a folder without files.
    let file = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(&file).unwrap();
    let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(first["seq"], 1);
    std::fs::write(&file, text.replacen("base.started", "base.stopped", 1)).unwrap();
    let ran = verify(&base, &id, Some(&folder));
    assert!(!ran.status.success() && ran.stdout.contains("event 1 was changed"), "{}", ran.stdout);
    let ran = verify(&base, &id, Some(dir.path()));
    assert!(!ran.status.success() && ran.stdout.contains("end with event 0"), "{}", ran.stdout);
}
