//! Draining over HTTP: orders, their state, and shards that do not answer.

use serde_json::json;

use super::*;

impl Fake {
    /// The order that an operator gives; the second shard answers as it does.
    pub(super) fn order(
        &self,
        request: Option<DrainRequest>,
    ) -> Option<Vec<oneshot::Receiver<()>>> {
        *self.drained.lock().unwrap() = request;
        let (done, is_done) = oneshot::channel();
        match self.second {
            Shard::Answers => done.send(()).unwrap(),
            Shard::Gone => drop(done),
            Shard::Silent => return None,
        }
        Some(vec![is_done])
    }

    pub(super) fn drain_ordered(&self) -> DrainState {
        let order = self.drained.lock().unwrap().clone();
        let redirect = order.as_ref().and_then(|order| order.redirect.clone()).unwrap_or_default();
        DrainState {
            state: if order.is_some() { "draining" } else { "serving" },
            sessions: 4,
            hls: true,
            deadline_s: order.as_ref().and_then(|order| order.after).map(|after| after.as_secs()),
            redirect: redirect.urls().map(str::to_owned).collect(),
            exit: order.is_some_and(|order| order.exits),
        }
    }
}

#[test]
fn order_is_given_shown_and_taken_back() {
    let server = Running::start(&Fake::new(Shard::Answers, true));
    let serving = json!({ "state": "serving", "sessions": 4, "hls": true, "deadline_s": null, "redirect": [],
        "exit": false });
    assert_eq!(server.request("GET /v1/drain").json(), serving);
    let order = r#"{"deadline_s": 600, "redirect": ["rtsp://b:8554"], "exit": true}"#;
    let answer = server.post("/v1/drain", order);
    let draining = json!({ "state": "draining", "sessions": 4, "hls": true, "deadline_s": 600,
        "redirect": ["rtsp://b:8554"], "exit": true });
    assert_eq!((answer.status, answer.json()), (200, draining.clone()));
    assert_eq!(server.request("GET /v1/drain").json(), draining);
    assert!(server.post("/v1/drain", r#"{"redirect": ["ftp://b"]}"#).is_problem(400));
    assert_eq!(server.request("GET /v1/drain").json(), draining, "a wrong order changes nothing");
    let answer = server.request("POST /v1/undrain");
    assert_eq!((answer.status, answer.json()), (200, serving));
    assert_eq!(server.request("POST /v1/drain").json()["state"], "draining", "without a body");
}

#[test]
fn shard_that_is_gone_takes_no_sessions_and_one_that_hangs_is_told_of() {
    let gone = Running::start(&Fake::new(Shard::Gone, true));
    assert_eq!(gone.request("POST /v1/drain").status, 200);
    let silent = Running::start(&Fake::new(Shard::Silent, true));
    assert!(silent.request("POST /v1/drain").is_problem(503));
    assert!(silent.request("POST /v1/undrain").is_problem(503));
}

#[test]
fn drained_server_is_not_ready_and_says_so() {
    let server = Running::start(&Fake::new(Shard::Answers, false));
    server.request("POST /v1/drain");
    let answer = server.request("GET /readyz");
    assert!(answer.is_problem(503) && answer.body.contains("drained"), "{}", answer.body);
}
