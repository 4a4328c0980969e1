//! Sessions that are moved to another shard.
//!
//! ```text
//! POST /v1/sessions/{id}/move   {"shard": 1}
//!   200 it is there, with all that is on its connection    400 no such shard    404 no session
//!   409 it cannot move, with the reason                    503 try again
//! ```
//! Bounds: `BODY_BYTES_MAX`, `PATIENCE`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::routing::{MethodRouter, post};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::patience::shard_silent;
use super::sessions::{no_session, session_shard_gone};
use super::{Api, Shared};
use crate::base::ids::{SessionId, ShardId};
use crate::http::problem::Problem;
use crate::session::handover::{MOVE_TIME_MAX, MoveRefusal};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    shard: u8,
}

/// The route.
pub(super) fn route() -> MethodRouter<Arc<Api>> {
    post(move_session).layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

async fn move_session(
    State(api): Shared,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let order: Order = serde_json::from_slice(&body)
        .map_err(|error| Problem::bad_request(format!("the body is no order: {error}")))?;
    let session = SessionId::parse(&id).ok_or_else(no_session)?;
    let asked = api.view.move_session(session, ShardId(order.shard)).ok_or_else(no_session)?;
    match timeout(api.answer_timeout.max(PATIENCE), asked).await {
        Ok(Ok(Ok(shard))) => Ok(Json(json!({ "id": id, "shard": shard.0 }))),
        // It is where it is to be.
        Ok(Ok(Err(MoveRefusal::SameShard))) => Ok(Json(json!({ "id": id, "shard": order.shard }))),
        Ok(Ok(Err(why))) => Err(Problem::new(status(why), why.to_string())),
        Ok(Err(_gone)) => Err(session_shard_gone()),
        Err(_late) => Err(shard_silent()),
    }
}

fn status(why: MoveRefusal) -> StatusCode {
    match why {
        MoveRefusal::NoSession => StatusCode::NOT_FOUND,
        MoveRefusal::NoShard => StatusCode::BAD_REQUEST,
        MoveRefusal::SameShard
        | MoveRefusal::Tls
        | MoveRefusal::Tunnel
        | MoveRefusal::Srtp
        | MoveRefusal::Publisher
        | MoveRefusal::Lineup
        | MoveRefusal::Viewer
        | MoveRefusal::Title
        | MoveRefusal::Multicast
        | MoveRefusal::SeveralHomes => StatusCode::CONFLICT,
        MoveRefusal::Busy
        | MoveRefusal::Full
        | MoveRefusal::Behind
        | MoveRefusal::NoPath
        | MoveRefusal::Stopping
        | MoveRefusal::TooMany => StatusCode::SERVICE_UNAVAILABLE,
    }
}

const BODY_BYTES_MAX: usize = 1 << 10;
/// A move that is not done by then is abandoned; a parcel may wait as long again, and come back.
const PATIENCE: Duration = MOVE_TIME_MAX.saturating_mul(4);
