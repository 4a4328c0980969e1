//! `GET /v1/limits`: limits on what strangers can grow, and what is used of each.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::{Shared, cell_set};
use crate::metrics::limits::states;

pub(super) async fn list(State(api): Shared) -> Json<Value> {
    Json(json!({ "limits": states(&cell_set(&*api.view)), "next_cursor": null }))
}
