//! Draining the server, for maintenance.
//!
//! ```text
//! GET  /v1/drain      serving, draining or drained; sessions that are left
//! POST /v1/drain      {"deadline_s": 600, "redirect": ["rtsp://b:8554"], "exit": false}
//! POST /v1/undrain    new sessions are taken again
//!   200 the state, when every shard goes by it    400 a wrong order    503 a shard hangs
//! ```
//! Each part of an order may be left out. Bounds: `BODY_BYTES_MAX`, `DEADLINE_MAX`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::{MethodRouter, get};
use serde::Deserialize;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::patience::shard_silent;
use super::{Api, Shared};
use crate::config::redirect::Redirect;
use crate::http::problem::Problem;
use crate::http::view::{DrainRequest, DrainState};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    deadline_s: Option<f64>,
    redirect: Option<Vec<String>>,
    #[serde(default)]
    exit: bool,
}

/// The route of the state and of an order.
pub(super) fn route() -> MethodRouter<Arc<Api>> {
    get(show).post(drain).layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

async fn show(State(api): Shared) -> Json<DrainState> {
    Json(api.view.drain_state())
}

async fn drain(State(api): Shared, body: Bytes) -> Result<Json<DrainState>, Problem> {
    let request = read(&body)?;
    told(&api, api.view.drain(request)).await
}

pub(super) async fn undrain(State(api): Shared) -> Result<Json<DrainState>, Problem> {
    told(&api, api.view.undrain()).await
}

async fn told(
    api: &Api,
    shards: Option<Vec<oneshot::Receiver<()>>>,
) -> Result<Json<DrainState>, Problem> {
    let deadline = Instant::now() + api.answer_timeout;
    for shard in shards.ok_or_else(shard_silent)? {
        // One that is gone takes no sessions either.
        let _gone = timeout_at(deadline, shard).await.map_err(|_late| shard_silent())?;
    }
    Ok(Json(api.view.drain_state()))
}

fn read(body: &[u8]) -> Result<DrainRequest, Problem> {
    let order: Order = match body {
        [] => Order::default(),
        body => serde_json::from_slice(body)
            .map_err(|error| Problem::bad_request(format!("the body is no order: {error}")))?,
    };
    let after = order.deadline_s.map(Duration::try_from_secs_f64).transpose();
    let after = after.ok().filter(|after| after.is_none_or(|after| after <= DEADLINE_MAX));
    let after = after.ok_or_else(|| {
        let max = DEADLINE_MAX.as_secs();
        Problem::bad_request(format!("deadline_s must be 0 to {max} seconds"))
    })?;
    let redirect = order.redirect.map(|urls| Redirect::parse(&urls)).transpose();
    let redirect = redirect.map_err(|error| Problem::bad_request(format!("redirect: {error}")))?;
    Ok(DrainRequest { after, redirect, exits: order.exit })
}

const BODY_BYTES_MAX: usize = 4 << 10;
/// A week.
const DEADLINE_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_read_and_a_wrong_one_is_refused() {
        assert_eq!(read(b"").unwrap(), DrainRequest::default());
        let text = br#"{"deadline_s": 1.5, "redirect": ["rtsp://b"], "exit": true}"#;
        let expected = DrainRequest {
            after: Some(Duration::from_millis(1_500)),
            redirect: Some(Redirect::parse(&["rtsp://b"]).unwrap()),
            exits: true,
        };
        assert_eq!(read(text).unwrap(), expected);
        let none = read(br#"{"redirect": []}"#).unwrap();
        assert_eq!(none.redirect, Some(Redirect::default()), "and not that of the configuration");
        for text in [
            "{",
            "[]",
            r#"{"deadline": 1}"#,
            r#"{"deadline_s": -1}"#,
            r#"{"deadline_s": 1e300}"#,
            r#"{"deadline_s": 604801}"#,
            r#"{"redirect": ["b"]}"#,
            r#"{"exit": 1}"#,
        ] {
            assert_eq!(read(text.as_bytes()).unwrap_err().status().as_u16(), 400, "{text}");
        }
    }
}
