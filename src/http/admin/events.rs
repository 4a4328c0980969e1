//! Events of a viewer's remote control in the HTTP API.
//!
//! ```text
//! POST /v1/sessions/{id}/events   {"events": [{"key": 2}, {"channel": 201}, {"seek": 90.5}]}
//!                                 or one of them alone; Idempotency-Key: .. (or a field)
//!   200 outcomes, when all are consumed     400 no event    404 no session, no channel
//!   409 what plays cannot do it             422 a key with other events
//!   429 too many events wait                503 not consumed yet: ask again with the same key
//! ```
//! Bounds: `BODY_BYTES_MAX`, `EVENTS_MAX` events, `KEY_BYTES_MAX`, `PATIENCE`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{MethodRouter, post};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::sessions::{no_session, session_shard_gone};
use super::{Api, Shared};
use crate::http::problem::Problem;
use crate::lineup::event::{Input, Outcome, Refusal};
use crate::lineup::remote::EVENTS_MAX;
use crate::lineup::requests::{EventsDone, EventsError, EventsRequest};

/// The route.
pub(super) fn route() -> MethodRouter<Arc<Api>> {
    post(send).layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

async fn send(
    State(api): Shared,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let mut request = read(&body)?;
    if let Some(key) = headers.get("idempotency-key") {
        let key = key.to_str().map_err(|_| Problem::bad_request("Idempotency-Key is no text"))?;
        request.key = Some(key.to_owned());
    }
    if request.key.as_ref().is_some_and(|key| key.is_empty() || key.len() > KEY_BYTES_MAX) {
        let detail = format!("Idempotency-Key must have 1 to {KEY_BYTES_MAX} bytes");
        return Err(Problem::bad_request(detail));
    }
    let answer = api.view.send_events(&id, request).ok_or_else(no_session)?;
    match timeout(api.answer_timeout.max(PATIENCE), answer).await {
        Ok(Ok(Ok(done))) => shown(&id, &done),
        Ok(Ok(Err(error))) => Err(refused(error)),
        Ok(Err(_gone)) => Err(session_shard_gone()),
        Err(_late) => Err(Problem::unavailable(
            "the events were taken and are not consumed yet; with an Idempotency-Key the same \
             request gets their outcomes",
        )),
    }
}

/// 200 with the outcomes, or the status of the first refusal with all outcomes.
fn shown(id: &str, done: &EventsDone) -> Result<Json<Value>, Problem> {
    let outcomes = done.outcomes.iter().map(|(input, outcome)| {
        let is_refused = matches!(outcome, Outcome::Refused(_));
        json!({
            "event": input.to_string(),
            "outcome": outcome.to_string(),
            "refused": is_refused,
        })
    });
    let outcomes = Value::Array(outcomes.collect());
    let refused = done.outcomes.iter().find_map(|(input, outcome)| match outcome {
        Outcome::Refused(refusal) => Some((input, refusal)),
        _ => None,
    });
    let Some((input, refusal)) = refused else {
        return Ok(Json(json!({ "id": id, "channel": done.channel, "outcomes": outcomes })));
    };
    let problem = Problem::new(status(refusal), format!("{input}: {refusal}"));
    Err(problem.with("channel", done.channel.into()).with("outcomes", outcomes))
}

fn status(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::NoChannel(_) | Refusal::NoLast | Refusal::NoLineup | Refusal::NotThere { .. } => {
            StatusCode::NOT_FOUND
        }
        Refusal::Ended => StatusCode::GONE,
        Refusal::Late(_) => StatusCode::GATEWAY_TIMEOUT,
        Refusal::Busy => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::OfTitles | Refusal::NotPlaying | Refusal::Unfit { .. } | Refusal::Status(_) => {
            StatusCode::CONFLICT
        }
    }
}

fn refused(error: EventsError) -> Problem {
    let status = match error {
        EventsError::NoSession | EventsError::NoChannel(_) => StatusCode::NOT_FOUND,
        EventsError::NoLineup => StatusCode::CONFLICT,
        EventsError::Full => StatusCode::TOO_MANY_REQUESTS,
        EventsError::OtherEvents => StatusCode::UNPROCESSABLE_ENTITY,
    };
    Problem::new(status, error.to_string())
}

/// Reads the body.
fn read(body: &[u8]) -> Result<EventsRequest, Problem> {
    let form = "the body must be an event such as {\"key\": 2}, {\"channel\": 201} or {\"seek\": \
                90.5}, or {\"events\": [..]} with several";
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| Problem::bad_request(format!("{form}: {error}")))?;
    let Value::Object(mut fields) = value else { return Err(Problem::bad_request(form)) };
    let key = match fields.remove("idempotency_key") {
        None => None,
        Some(Value::String(key)) => Some(key),
        Some(_) => return Err(Problem::bad_request("idempotency_key must be a text")),
    };
    let inputs = match fields.remove("events") {
        None => vec![input(&fields)?],
        Some(_) if !fields.is_empty() => return Err(Problem::bad_request(form)),
        Some(Value::Array(events)) => {
            if events.is_empty() || events.len() > EVENTS_MAX {
                let detail = format!("events must be 1 to {EVENTS_MAX}");
                return Err(Problem::bad_request(detail));
            }
            let read = events.iter().map(|event| match event {
                Value::Object(fields) => input(fields),
                _ => Err(Problem::bad_request(form)),
            });
            read.collect::<Result<_, _>>()?
        }
        Some(_) => return Err(Problem::bad_request(form)),
    };
    Ok(EventsRequest { inputs, key })
}

/// Reads an event: one name with its value.
fn input(fields: &Map<String, Value>) -> Result<Input, Problem> {
    let mut fields = fields.iter();
    let (Some((name, value)), None) = (fields.next(), fields.next()) else {
        return Err(Problem::bad_request("an event has one field: key, channel or seek"));
    };
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    };
    Input::parse(name, &text)
        .map_err(|error| Problem::bad_request(format!("{name}: {value}: {error}")))
}

/// Thirty-two events are shorter.
const BODY_BYTES_MAX: usize = 16 << 10;
/// A UUID is shorter.
const KEY_BYTES_MAX: usize = 128;
/// A source on demand may take so long until a channel is tuned to.
const PATIENCE: Duration = Duration::from_secs(20);
