//! What a base answers while another one has the ledger.
//!
//! ```text
//! GET  /  /healthz  /metrics  /v1/info    as a base does: that it runs, and as what
//! GET  /  of a browser                    the page, which says so and leads to the active base
//! anything else                           503, reason `standby`, and where the base is
//! ```
//! Invariant: nothing is read from the ledger, so nothing that is said is out of date.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::problem;
use crate::http::dashboard;
use crate::http::problem::Problem;
use crate::ledger::lease::LeaseState;
use crate::metrics::distribution::standby_text;
use crate::metrics::exposition::CONTENT_TYPE;

struct Standby {
    state: watch::Receiver<LeaseState>,
    base_key: String,
}

/// The routes, all of them.
pub fn router(state: watch::Receiver<LeaseState>, base_key: String) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/healthz", get(async || "ok\n"))
        .route("/metrics", get(metrics))
        .route("/v1/info", get(info))
        .merge(dashboard::page_routes())
        .fallback(refuse)
        .layer(from_fn(dashboard::answer_browsers))
        .with_state(Arc::new(Standby { state, base_key }))
}

async fn index() -> Json<Value> {
    Json(json!({
        "name": "headend base",
        "version": env!("CARGO_PKG_VERSION"),
        "role": "standby",
        "resources": ["/v1/info", "/metrics", "/healthz", "/readyz"],
    }))
}

async fn info(State(standby): State<Arc<Standby>>) -> Json<Value> {
    let mut info = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "base_key": standby.base_key,
        "role": "standby",
    });
    match &*standby.state.borrow() {
        LeaseState::Standby { active, epoch } => {
            info["active"] = json!({"addr": active, "epoch": epoch});
        }
        LeaseState::Unreachable(why) => info["database"] = Value::from(why.as_str()),
        LeaseState::Held(tenure) => info["taking_over"] = json!({"epoch": tenure.epoch()}),
        LeaseState::Refused(error) => info["database"] = Value::from(error.to_string()),
    }
    Json(info)
}

async fn metrics(State(standby): State<Arc<Standby>>) -> Result<Response, Problem> {
    let (epoch, is_reached) = match &*standby.state.borrow() {
        LeaseState::Standby { epoch, .. } => (epoch.0, true),
        LeaseState::Held(tenure) => (tenure.epoch().0, true),
        LeaseState::Unreachable(_) | LeaseState::Refused(_) => (0, false),
    };
    let text = standby_text(epoch, is_reached).map_err(|error| {
        problem(StatusCode::INTERNAL_SERVER_ERROR, "metrics", error.to_string())
    })?;
    let kind = HeaderValue::from_static(CONTENT_TYPE);
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

async fn refuse(State(standby): State<Arc<Standby>>) -> Problem {
    let refusal = |detail: String| problem(StatusCode::SERVICE_UNAVAILABLE, "standby", detail);
    match &*standby.state.borrow() {
        LeaseState::Standby { active, .. } => {
            let detail = format!("this base stands by for the one at {active}: ask that one");
            refusal(detail).with("active", Value::from(active.as_str()))
        }
        LeaseState::Unreachable(_) | LeaseState::Refused(_) => {
            refusal("this base stands by: the database of its ledger does not answer".to_owned())
        }
        LeaseState::Held(_) => {
            refusal("this base takes over: it reads the ledger; ask again".to_owned())
        }
    }
}
