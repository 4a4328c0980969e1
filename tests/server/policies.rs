//! Policies of jobs over HTTP and by the program: what is set, changed and shown.

use reqwest::Method;
use reqwest::header::{ETAG, IF_MATCH};
use serde_json::json;

use crate::base::{job, reason};
use crate::support::base::{Base, ScriptedNode, read};
use crate::support::scratch;

#[tokio::test]
async fn policy_of_a_job_is_changed_by_who_has_seen_it_and_nodes_are_told() {
    let dir = tempfile::tempdir_in(scratch()).unwrap();
    let base = Base::start(&dir.path().join("data"));
    let client = base.client();
    let mut node = ScriptedNode::new("edge-1");
    node.join(&base.joining()).await.unwrap();
    let path = format!("/v1/jobs/{}", job(&client).await);
    let seen = client.request(Method::GET, &path).send().await.unwrap();
    let tag = seen.headers()[ETAG].to_str().unwrap().to_owned();
    let patch = |tag: &str, body: serde_json::Value| {
        let request = client.request(Method::PATCH, &path).header(IF_MATCH, tag).json(&body);
        async move { read(request).await.unwrap() }
    };
    // A change says what the next one is to name, also when it is told of a second time.
    let change = |tag: String| {
        let request = client.request(Method::PATCH, &path).header(IF_MATCH, tag);
        let request = request.header("idempotency-key", "k").json(&json!({"priority": 3}));
        async move { request.send().await.unwrap() }
    };
    for _ in 0..2 {
        let changed = change(tag.clone()).await;
        assert_eq!(changed.status(), 200);
        let told = changed.headers()[ETAG].to_str().unwrap().to_owned();
        let shown = client.request(Method::GET, &path).send().await.unwrap();
        assert_eq!(shown.headers()[ETAG].to_str().unwrap(), told);
        assert_ne!(told, tag);
    }
    let shown = client.request(Method::GET, &path).send().await.unwrap();
    let tag = shown.headers()[ETAG].to_str().unwrap().to_owned();
    let change = json!({"max_rate": 90_000, "window": "mon-fri 22:00-06:00 Europe/Berlin"});
    let (status, view) = patch(&tag, change).await;
    assert_eq!(status, 200, "{view}");
    assert_eq!(view["policy"]["max_rate"], 90_000);
    let days = "mon,tue,wed,thu,fri 22:00-06:00 Europe/Berlin";
    assert_eq!(view["policy"]["window"], days);
    let again = patch(&tag, json!({"priority": 9})).await;
    assert_eq!(reason(&again), (412, "policy_changed"));
    let (status, view) = patch("*", json!({"priority": 9, "window": null})).await;
    assert_eq!((status, &view["policy"]["window"]), (200, &json!(null)));
    assert_eq!(view["policy"]["max_rate"], 90_000, "what is not named stays");
    for (body, wrong) in [
        (json!({"priority": 10}), (422, "bad_priority")),
        (json!({"max_rate": 7}), (422, "bad_rate")),
        (json!({"window": "nine to five"}), (400, "bad_body")),
        (json!({"max_rat": 90_000}), (400, "bad_body")),
    ] {
        assert_eq!(reason(&patch("*", body).await), wrong);
    }
    let (status, view) = client.post(&format!("{path}/pause"), &json!({})).await;
    assert_eq!((status, &view["policy"]["paused"]), (200, &json!(true)));
    let command = client.post(&format!("{path}/commands"), &json!({"op": "query"})).await;
    assert_eq!(command.0, 201, "{command:?}");
    assert_eq!(client.found(&path).await["limited_by"], json!({"by": "paused"}));
    let (status, view) = client.post(&format!("{path}/resume"), &json!({})).await;
    assert_eq!((status, &view["policy"]["paused"]), (200, &json!(false)));
    assert_eq!(client.found(&path).await["limited_by"], json!({"by": "rate"}));
}
