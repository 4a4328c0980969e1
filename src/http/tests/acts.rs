//! What operators have done: a switch of a path's source, and events of a viewer's session.

use super::*;

#[test]
fn switch_tells_its_outcome_or_why_not_by_the_status() {
    let fake = Fake::new(Shard::Answers, true);
    let server = Running::start_patient(&fake);
    let switch = |path: &str, body: &str| server.post(&format!("/v1/paths/{path}:switch"), body);
    let done = switch("ok", r#"{"to": "live/b", "at": "now"}"#);
    assert_eq!(done.status, 200);
    let json = done.json();
    assert_eq!((&json["from"], &json["to"]), (&"live/a~0".into(), &"live/a~1".into()));
    assert_eq!((&json["gap_ms"], &json["pinned"]), (&12.into(), &true.into()));
    assert_eq!(switch("ok", r#"{"to": "auto"}"#).status, 200);
    let seen = fake.ended.lock().unwrap().clone();
    assert!(seen[0].contains("Source(\"live/b\"), timing: Now"), "{seen:?}");
    assert!(seen[1].contains("to: Auto, timing: NextKeyFrame"), "{seen:?}");
    let to = r#"{"to": "1"}"#;
    let statuses = [
        ("plain", 400),
        ("source", 404),
        ("other", 404),
        ("never", 404),
        ("idle", 409),
        ("down", 409),
        ("twice", 409),
        ("ended", 409),
        ("soon", 429),
        ("late", 504),
    ];
    for (path, status) in statuses {
        let answer = switch(path, to);
        assert!(answer.is_problem(status), "{path}: {} {}", answer.status, answer.body);
        assert_eq!(answer.head.contains("retry-after: 2"), path == "soon", "{path}");
    }
    for body in ["", "{}", r#"{"to": 1}"#, r#"{"to": "a", "at": "once"}"#, r#"{"to":"a","x":1}"#] {
        assert!(switch("ok", body).is_problem(400), "{body}");
    }
    assert!(switch("ok", &"x".repeat(3 << 20)).is_problem(400), "far too long");
}

#[test]
fn events_are_answered_with_their_outcomes_and_refusals_are_named() {
    let server = Running::start(&Fake::new(Shard::Answers, true));
    let post = |short: &str, key: &str, body: &str| {
        let key =
            if key.is_empty() { String::new() } else { format!("Idempotency-Key: {key}\r\n") };
        let length = body.len();
        let line = format!("POST /v1/sessions/{}/events\n{key}Content-Length: {length}", id(short));
        server.request_with("test", &line, body)
    };
    let done = post("0A", "", r#"{"events": [{"key": "pause"}, {"channel": 201}]}"#);
    assert_eq!((done.status, &done.json()["channel"]), (200, &Value::from(7)));
    let outcomes = done.json()["outcomes"].clone();
    assert_eq!(outcomes[1]["event"], "channel: 201");
    assert_eq!(
        (&outcomes[1]["outcome"], outcomes[0]["refused"].as_bool()),
        (&Value::from("tuned to 201"), Some(false))
    );
    assert_eq!(post("0A", "once", r#"{"key": 2}"#).status, 200);
    for (short, key, body, status, detail) in [
        ("0A", "", r#"{"key": "last"}"#, 404, "key: last: there was no other channel before"),
        ("0A", "", r#"{"events": [{"key": "pause"}, {"seek": 1.5}]}"#, 409, "seek: 1.500: a live"),
        ("0A", "", r#"{"key": "menu"}"#, 400, "key: \"menu\": no such key"),
        ("0A", "", r#"{"channel": 0}"#, 400, "channel: 0: no channel number"),
        ("0A", "", r#"{"volume": 3}"#, 400, "no such parameter"),
        ("0A", "", r#"{"key": 2, "channel": 3}"#, 400, "one field"),
        ("0A", "", r#"{"events": []}"#, 400, "1 to 32"),
        ("0A", "", r#"{"events": [2]}"#, 400, "must be an event"),
        ("0A", "", "nonsense", 400, "must be an event"),
        ("0A", "", r#"{"key": 2, "idempotency_key": 3}"#, 400, "must be a text"),
        ("0A", &"x".repeat(129), r#"{"key": 2}"#, 400, "1 to 128 bytes"),
        ("0A", "full", r#"{"key": 2}"#, 429, "too many events"),
        ("0A", "other", r#"{"key": 2}"#, 422, "other events"),
        ("0B", "", r#"{"key": 2}"#, 409, "line-up"),
        ("9F", "", r#"{"key": 2}"#, 404, "no session"),
    ] {
        let answer = post(short, key, body);
        assert!(answer.is_problem(status), "{body}: {} {}", answer.status, answer.body);
        assert!(answer.json()["detail"].as_str().unwrap().contains(detail), "{}", answer.body);
        assert_eq!(answer.head.contains("retry-after: 1"), status == 429);
    }
    let field = post("0A", "", r#"{"events": [{"key": 2}], "idempotency_key": "full"}"#);
    assert!(field.is_problem(429));
    let refused = post("0A", "", r#"{"events": [{"key": "pause"}, {"key": "last"}]}"#);
    assert_eq!(refused.json()["outcomes"][0]["outcome"], "paused");
    assert_eq!(refused.json()["channel"], 7);
}

#[test]
fn client_that_sends_nothing_does_not_hold_up_the_end() {
    let server = Running::start(&Fake::new(Shard::Answers, true));
    let silent = TcpStream::connect(server.addr).unwrap();
    assert_eq!(server.request("GET /healthz").status, 200);
    drop(server);
    drop(silent);
}
