//! Moves over HTTP: orders, and what a shard says of them.

use super::*;

impl Fake {
    /// Sessions of shard 0 move, those of shard 1 do as the shard does.
    pub(super) fn order_move(
        &self,
        id: SessionId,
        to: ShardId,
    ) -> Option<oneshot::Receiver<Result<ShardId, MoveRefusal>>> {
        let (done, is_done) = oneshot::channel();
        let outcome = match (id.shard(), to) {
            (ShardId(0), ShardId(0)) => Err(MoveRefusal::SameShard),
            (ShardId(0), ShardId(1)) => Ok(to),
            (ShardId(0), ShardId(2)) => Err(MoveRefusal::Tls),
            (ShardId(0), ShardId(3)) => Err(MoveRefusal::Busy),
            (ShardId(0), ShardId(4)) => Err(MoveRefusal::NoSession),
            (ShardId(0), _) => Err(MoveRefusal::NoShard),
            (ShardId(1), _) => return Some(is_done),
            _ => return None,
        };
        done.send(outcome).unwrap();
        Some(is_done)
    }
}

#[test]
fn outcome_of_a_move_is_told_by_status_and_sentence() {
    let server = Running::start(&Fake::new(Shard::Answers, true));
    let ask = |id: &str, body: &str| server.post(&format!("/v1/sessions/{id}/move"), body);
    let own = id("0A");
    for (shard, status) in [(0, 200), (1, 200), (2, 409), (3, 503), (4, 404), (9, 400)] {
        let answer = ask(&own, &format!("{{\"shard\": {shard}}}"));
        assert_eq!(answer.status, status, "{shard}: {}", answer.body);
        if status == 200 {
            assert_eq!(answer.json()["shard"], shard);
        }
    }
    assert!(ask(&own, r#"{"shard": 2}"#).body.contains("TLS"));
    for body in ["", "{}", r#"{"shard": 256}"#, r#"{"shard": 1, "x": 1}"#] {
        assert!(ask(&own, body).is_problem(400), "{body}");
    }
    assert!(ask(&id("1A"), r#"{"shard": 0}"#).is_problem(503), "its shard is gone");
    for unknown in ["x", &id("2A")] {
        assert!(ask(unknown, r#"{"shard": 1}"#).is_problem(404), "{unknown}");
    }
}
