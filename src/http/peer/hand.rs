//! What nodes say to a node: the routes of `dist::wire::relay`.
//!
//! ```text
//! POST /peer/v1/relay      orders of the base, handed on      -> 202 taken, 200 it came before
//! POST /peer/v1/question   how is this node? asks the base    -> SignedAnswer
//! ```
//! Invariants: with TLS only nodes of the base are heard, known by their certificates; what they
//! bring counts for the signature of the base, whoever brings it. Bound: `BODY_MAX` bytes.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde::de::DeserializeOwned;

use crate::agent::door::Door;
use crate::dist::relay::{Answer, RelayError};
use crate::dist::wire::relay::{BODY_BYTES_MAX, Question, RelayBody, SignedAnswer};
use crate::http::Bearers;
use crate::http::caller::Caller;
use crate::http::problem::Problem;

struct HandState {
    door: Door,
    bearers: Bearers,
}

/// The routes.
pub fn router(door: Door, bearers: Bearers) -> Router {
    Router::new()
        .route("/peer/v1/relay", post(relay))
        .route("/peer/v1/question", post(question))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(Arc::new(HandState { door, bearers }))
}

async fn relay(
    State(state): State<Arc<HandState>>,
    caller: Caller,
    body: Bytes,
) -> Result<Response, Problem> {
    state.bearers.check_any(&caller)?;
    let body: RelayBody = read(&body)?;
    let status = match state.door.relay(body).await.map_err(refused)? {
        Answer::Taken => StatusCode::ACCEPTED,
        Answer::Duplicate => StatusCode::OK,
    };
    Ok(status.into_response())
}

async fn question(
    State(state): State<Arc<HandState>>,
    caller: Caller,
    body: Bytes,
) -> Result<Json<SignedAnswer>, Problem> {
    state.bearers.check_any(&caller)?;
    let Question { envelope } = read(&body)?;
    Ok(Json(state.door.question(envelope).await.map_err(refused)?))
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let read = serde_json::from_slice(body);
    read.map_err(|error| Problem::bad_request(format!("the body is not understood: {error}")))
}

fn refused(error: RelayError) -> Problem {
    let detail = error.to_string();
    match error {
        RelayError::Strange | RelayError::Old => Problem::forbidden(detail),
        RelayError::NoClock | RelayError::Full => Problem::unavailable(detail),
    }
}

/// A body as JSON, whose common orders have their quotes escaped.
const BODY_MAX: usize = 2 * BODY_BYTES_MAX;
