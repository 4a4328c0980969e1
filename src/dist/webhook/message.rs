//! What a receiver is sent: an event as CloudEvents 1.0 has it (JSON, structured mode), signed as
//! Standard Webhooks 1.0.0 says.
//!
//! ```text
//! webhook-id: JOB_HOOK_SEQ          the same each time, so that a receiver knows a repetition
//! webhook-timestamp: seconds        of this attempt
//! webhook-signature: v1,BASE64      HMAC-SHA256 of `id.timestamp.body`; none without a secret
//! {"specversion":"1.0","id":..,"source":"/v1/jobs/JOB","type":"headend.job.completed",
//!  "subject":"job","time":..,"sequence":..,"data":{..}}
//! ```
//! Invariant: id and body follow from the event and what a job keeps for good, so they are the same
//! in each attempt, also by another base. `sequence` grows with each event of a job; it has gaps,
//! and always 20 digits, so that its order is that of the text (CloudEvents, Sequence).

use jiff::Timestamp;
use serde_json::json;

use crate::dist::ids::{HookId, JobId};
use crate::dist::webhook::secret::Secret;
use crate::dist::wire::hook::Topic;
use crate::dist::wire::job::EventView;

/// One body that a receiver is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Whose it is.
    pub hook: HookId,
    /// Where it goes.
    pub url: String,
    /// What signs it.
    pub secret: Option<Secret>,
    /// Events that the receiver is told.
    pub topics: Vec<Topic>,
    /// Number of the last event that is dealt with.
    pub after: u64,
    /// Number of the newest event that was for the receiver when this was made.
    pub newest: u64,
    /// The client's own name of the job.
    pub client_ref: Option<String>,
    /// UTC nanoseconds: what happened before is not told any more when an attempt fails.
    pub stale_before_ns: i64,
}

/// A request, but for its URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Header `webhook-id`.
    pub id: String,
    /// Header `webhook-timestamp`, UTC seconds.
    pub timestamp: i64,
    /// Header `webhook-signature`.
    pub signature: Option<String>,
    /// JSON.
    pub body: String,
}

/// Media type of the body.
pub const CONTENT_TYPE: &str = "application/cloudevents+json; charset=utf-8";

impl Call {
    /// Whether the receiver is told this event.
    #[must_use]
    pub fn is_for(&self, event: &EventView) -> bool {
        event.seq > self.after && self.topics.iter().any(|topic| topic.includes(&event.kind))
    }

    /// The request for an event, at this time.
    #[must_use]
    pub fn message(&self, event: &EventView, utc_s: i64) -> Message {
        let id = format!("{}_{}_{}", self.hook.job, self.hook.hook, event.seq);
        let body = self.body(event);
        let signature = self.secret.as_ref().map(|secret| sign(secret, &id, utc_s, &body));
        Message { id, timestamp: utc_s, signature, body }
    }

    fn body(&self, event: &EventView) -> String {
        let EventView { seq, at_ns, command, node, kind, detail, hash, .. } = event;
        let time = Timestamp::from_nanosecond(i128::from(*at_ns)).unwrap_or_default();
        let job: JobId = self.hook.job;
        let subject = match (command, node) {
            (Some(command), Some(node)) => format!("commands/{command}/nodes/{node}"),
            (Some(command), None) => format!("commands/{command}"),
            (None, Some(node)) => format!("nodes/{node}"),
            (None, None) => "job".to_owned(),
        };
        let event = json!({
            "specversion": "1.0",
            "id": seq.to_string(),
            "source": format!("/v1/jobs/{job}"),
            "type": format!("headend.{kind}"),
            "subject": subject,
            "time": time.to_string(),
            "sequence": format!("{seq:020}"),
            "datacontenttype": "application/json",
            "data": {
                "job_id": job,
                "client_ref": self.client_ref,
                "command_id": command,
                "node": node,
                "seq": seq,
                "hash": hash,
                "detail": detail,
            },
        });
        event.to_string()
    }
}

/// `v1,BASE64` (Standard Webhooks, signature scheme).
fn sign(secret: &Secret, id: &str, timestamp: i64, body: &str) -> String {
    format!("v1,{}", secret.sign(format!("{id}.{timestamp}.{body}").as_bytes()))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::dist::ids::{CommandId, Digest, NodeName};

    fn secret() -> Secret {
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap()
    }

    fn call() -> Call {
        Call {
            hook: HookId { job: JobId(Uuid::from_u128(7)), hook: 1 },
            url: "https://a.example/".to_owned(),
            secret: Some(secret()),
            topics: vec![Topic::End, Topic::Failure],
            after: 3,
            newest: 9,
            client_ref: Some("news".to_owned()),
            stale_before_ns: 0,
        }
    }

    fn event(seq: u64, kind: &str) -> EventView {
        EventView {
            seq,
            at_ns: 1_700_000_000_123_000_000,
            job: Some(JobId(Uuid::from_u128(7))),
            command: Some(CommandId(2)),
            node: Some(NodeName::new("edge-1").unwrap()),
            kind: kind.to_owned(),
            detail: json!({"reason": "no_space"}),
            hash: Digest([0xab; 32]),
        }
    }

    #[test]
    fn signature_is_that_of_the_known_vector() {
        // https://github.com/standard-webhooks/standard-webhooks, the tests of its libraries.
        let body = "{\"test\": 2432232314}";
        let signature = sign(&secret(), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn body_is_a_cloud_event() {
        let message = call().message(&event(9, "delivery.failed"), 1_700_000_001);
        assert_eq!(message.id, "00000000-0000-0000-0000-000000000007_1_9");
        let body: serde_json::Value = serde_json::from_str(&message.body).unwrap();
        insta::assert_snapshot!(serde_json::to_string_pretty(&body).unwrap(), @r#"
        {
          "data": {
            "client_ref": "news",
            "command_id": 2,
            "detail": {
              "reason": "no_space"
            },
            "hash": "abababababababababababababababababababababababababababababababab",
            "job_id": "00000000-0000-0000-0000-000000000007",
            "node": "edge-1",
            "seq": 9
          },
          "datacontenttype": "application/json",
          "id": "9",
          "sequence": "00000000000000000009",
          "source": "/v1/jobs/00000000-0000-0000-0000-000000000007",
          "specversion": "1.0",
          "subject": "commands/2/nodes/edge-1",
          "time": "2023-11-14T22:13:20.123Z",
          "type": "headend.delivery.failed"
        }
        "#);
    }

    #[test]
    fn attempts_differ_in_time_and_signature_only() {
        let (call, event) = (call(), event(9, "job.completed"));
        let (first, second) = (call.message(&event, 1), call.message(&event, 2));
        assert_eq!((&first.id, &first.body), (&second.id, &second.body));
        assert_ne!(first.signature, second.signature);
        let unsigned = Call { secret: None, ..call };
        assert_eq!(unsigned.message(&event, 1).signature, None);
    }

    #[test]
    fn receiver_is_told_what_it_asked_for_and_has_not_had() {
        let call = call();
        assert!(call.is_for(&event(4, "job.completed")));
        assert!(!call.is_for(&event(3, "job.completed")), "it had it");
        assert!(!call.is_for(&event(4, "delivery.completed")), "it did not ask for it");
    }
}
