//! Notifications that a client asks for with its job, and how far they are.

use serde::{Deserialize, Serialize};

use crate::dist::webhook::secret::Secret;

/// An element of `notify` in `POST /v1/jobs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotifyRequest {
    /// Where notifications are POSTed: http or https.
    pub url: String,
    /// What they are signed by: `whsec_` and base64. It is never shown again.
    #[serde(default, serialize_with = "Secret::write")]
    pub secret: Option<Secret>,
    /// What is notified.
    #[serde(default = "end_only")]
    pub events: Vec<Topic>,
}

/// What a receiver is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// A node has a command: `delivery.received`.
    Receipt,
    /// A command is done at a node, or at all: `delivery.completed`, `command.completed`.
    Completion,
    /// A command has failed at a node, or a node on which it is open does not answer any more, is
    /// repaired, or is expected back: `delivery.failed`, `command.failed`, `job.node_down`,
    /// `repair.begun`, `repair.failed`, `node.expected`.
    Failure,
    /// The job has ended: `job.completed`, `job.completed_with_failures`, `job.cancelled`.
    End,
}

/// State of a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookState {
    /// It is sent what happens.
    Active,
    /// The job has ended, and all was sent.
    Done,
    /// The receiver said that it is gone (410): it is sent nothing any more.
    Disabled,
}

/// `GET /v1/jobs/{job}/notifications`, an element.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotificationView {
    /// Its place in the `notify` of the request, from 1.
    pub hook: u32,
    /// Where it goes, without what may be a secret.
    pub url: String,
    /// There is a secret; none is kept when nothing follows.
    pub is_signed: bool,
    /// What is notified.
    pub events: Vec<Topic>,
    /// State.
    pub state: HookState,
    /// Events that the receiver has not taken yet.
    pub pending: u64,
    /// Events that it has taken.
    pub delivered: u64,
    /// Events that it did not take in time.
    pub dropped: u64,
    /// Attempts that failed since it last took one.
    pub attempts: u32,
    /// UTC nanoseconds of the next attempt.
    pub next_attempt_at_ns: Option<i64>,
    /// UTC nanoseconds at which it last took one.
    pub delivered_at_ns: Option<i64>,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
}

impl Topic {
    /// All of them, for tables and help.
    pub const ALL: [Self; 4] = [Self::Receipt, Self::Completion, Self::Failure, Self::End];

    /// As in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Receipt => "receipt",
            Self::Completion => "completion",
            Self::Failure => "failure",
            Self::End => "end",
        }
    }

    /// Whether an event of a job of this kind belongs to it.
    #[must_use]
    pub fn includes(self, kind: &str) -> bool {
        match self {
            Self::Receipt => kind == "delivery.received",
            Self::Completion => matches!(kind, "delivery.completed" | "command.completed"),
            Self::Failure => {
                let of_delivery = matches!(kind, "delivery.failed" | "command.failed");
                let of_node = ["job.node_down", "repair.begun", "repair.failed", "node.expected"];
                of_delivery || of_node.contains(&kind)
            }
            Self::End => {
                matches!(kind, "job.completed" | "job.completed_with_failures" | "job.cancelled")
            }
        }
    }
}

impl HookState {
    /// As in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Done => "done",
            Self::Disabled => "disabled",
        }
    }
}

fn end_only() -> Vec<Topic> {
    vec![Topic::End]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::dist::wire::job::JobState;

    #[test]
    fn url_is_enough_and_the_end_is_notified_then() {
        let read: NotifyRequest =
            serde_json::from_value(json!({"url": "https://a.example/"})).unwrap();
        assert_eq!((read.secret, read.events), (None, vec![Topic::End]));
    }

    #[test]
    fn secret_is_written_in_a_request_and_not_shown_in_a_log() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let body = json!({"url": "https://a.example/", "secret": secret, "events": ["failure"]});
        let read: NotifyRequest = serde_json::from_value(body.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), body);
        assert!(!format!("{read:?}").contains(secret), "{read:?}");
    }

    #[test]
    fn names_are_those_of_json_and_every_end_of_a_job_is_an_end() {
        for topic in Topic::ALL {
            assert_eq!(serde_json::to_value(topic).unwrap(), topic.as_str());
        }
        for state in [HookState::Active, HookState::Done, HookState::Disabled] {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
        for state in JobState::ALL.into_iter().filter(|state| *state != JobState::Denied) {
            let kind = format!("job.{}", state.as_str());
            assert_eq!(Topic::End.includes(&kind), !state.is_live(), "{kind}");
        }
    }
}
