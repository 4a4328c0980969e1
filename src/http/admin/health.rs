//! What is wrong with the machine, and what the log has warned of.
//!
//! ```text
//! GET /v1/doctor   what `headend doctor` found when the server started
//! GET /v1/log      the newest warnings and errors of the log, newest first
//! ```
//! The machine is examined once: a process that has given up its rights could not see everything.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::Shared;

pub(super) async fn doctor(State(api): Shared) -> Json<Value> {
    Json(api.view.checks())
}

pub(super) async fn log(State(api): Shared) -> Json<Value> {
    let mut lines = api.view.log_lines();
    lines.reverse();
    Json(json!({ "lines": lines }))
}
