//! What a webhook is asked, and what its answers mean.
//!
//! ```text
//! POST URL   {"action": "read", "path": "live/cam1", "ip": "192.0.2.7", "protocol": "rtsp",
//!             "user": "", "password": "", "token": "", "query": "", "user_agent": ""}
//!   2xx: the client may      401: it is to say who it is, or it said so wrongly
//!   403, 404 and all other 4xx: it may not      the rest, or no answer: `webhook_failure` decides
//! ```
//! The names are those of MediaMTX, so that what answers it answers headend as well.

use std::sync::Arc;

use serde_json::{Value, json};

use super::question::{Allowed, Answer, Question};
use super::shown::Shown;
use crate::base::secret::Secret;
use crate::config::access::OnFailure;

/// Body of the POST. It has secrets: it is for the receiver alone.
#[must_use]
pub fn body(question: &Question) -> Value {
    let expose = |secret: &Option<Secret>| secret.as_ref().map(|s| s.expose().to_owned());
    let (user, password, bearer) = match &question.shown {
        Shown::Basic { user, password } => (user.as_str(), password.expose(), None),
        Shown::Bearer(token) => ("", "", Some(token.expose().to_owned())),
        Shown::Digest(answer) => (answer.user.as_str(), "", None),
        Shown::Nothing => ("", "", None),
    };
    json!({
        "action": question.action.as_str(),
        "path": &*question.path,
        "ip": question.peer.to_canonical().to_string(),
        "protocol": question.protocol,
        "user": user,
        "password": password,
        "token": bearer.or_else(|| expose(&question.token)).unwrap_or_default(),
        "query": expose(&question.query).unwrap_or_default(),
        "user_agent": question.user_agent.clone().unwrap_or_default(),
    })
}

/// What the status of its answer means; `None` for one that says nothing of the client.
#[must_use]
pub fn answer(status: u16, question: &Question, until_s: i64) -> Option<Answer> {
    let is_bare = question.shown == Shown::Nothing && question.token.is_none();
    match status {
        200..=299 => {
            let user = match &question.shown {
                Shown::Basic { user, .. } if !user.is_empty() => Some(user.as_str().into()),
                _ => None,
            };
            Some(Answer::Allowed(allowed(user, until_s)))
        }
        401 if is_bare => Some(Answer::Unknown),
        401 => Some(Answer::Wrong),
        // Of the receiver itself: it is asked too often, or too slowly.
        408 | 425 | 429 => None,
        400..=499 => Some(Answer::Forbidden),
        _ => None,
    }
}

/// What is done without an answer. Leave ends then at this UTC second, as with one: an outage lets
/// nobody in for ever.
#[must_use]
pub fn without_answer(on_failure: OnFailure, until_s: i64) -> Answer {
    match on_failure {
        OnFailure::Deny => Answer::Unavailable,
        OnFailure::Allow => Answer::Allowed(allowed(None, until_s)),
    }
}

fn allowed(user: Option<Arc<str>>, until_s: i64) -> Allowed {
    Allowed { user, until_s: Some(until_s), is_of_webhook: true }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::rules::Ways;
    use crate::config::access::Action;

    fn question(shown: Shown, token: Option<&str>) -> Question {
        Question {
            action: Action::Read,
            path: "live/a".into(),
            protocol: "rtsp",
            peer: "::ffff:192.0.2.7".parse().unwrap(),
            user_agent: None,
            shown,
            token: token.map(Secret::new),
            query: token.map(|token| Secret::new(format!("token={token}"))),
            ways: Ways { webhook: true, ..Ways::default() },
            job: None,
            access: Arc::default(),
        }
    }

    #[test]
    fn body_has_all_that_is_known_of_the_client() {
        let shown = Shown::Basic { user: "ann".to_owned(), password: Secret::new("s3cret") };
        let body = body(&question(shown, Some("abc")));
        insta::assert_snapshot!(body, @r#"{"action":"read","ip":"192.0.2.7","password":"s3cret","path":"live/a","protocol":"rtsp","query":"token=abc","token":"abc","user":"ann","user_agent":""}"#);
    }

    #[test]
    fn status_says_whether_the_client_may() {
        let bare = question(Shown::Nothing, None);
        let token = question(Shown::Nothing, Some("x"));
        for (status, of_bare, of_token) in [
            (200, "Allowed", "Allowed"),
            (204, "Allowed", "Allowed"),
            (401, "Unknown", "Wrong"),
            (403, "Forbidden", "Forbidden"),
            (404, "Forbidden", "Forbidden"),
            (302, "None", "None"),
            (408, "None", "None"),
            (429, "None", "None"),
            (500, "None", "None"),
        ] {
            let said = |question| {
                let said = answer(status, question, 9);
                format!("{said:?}")
                    .replace("Some(", "")
                    .split(['(', ')'])
                    .next()
                    .unwrap()
                    .to_owned()
            };
            assert_eq!((&*said(&bare), &*said(&token)), (of_bare, of_token), "{status}");
        }
        assert_eq!(without_answer(OnFailure::Deny, 9), Answer::Unavailable);
        // It had no end, so that nobody was asked about that client again.
        let allowed = Allowed { user: None, until_s: Some(9), is_of_webhook: true };
        assert_eq!(without_answer(OnFailure::Allow, 9), Answer::Allowed(allowed));
    }
}
