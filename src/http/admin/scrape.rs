//! `GET /metrics`: cells are read, shards are asked for the sums of their live paths.

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use tokio::time::{Instant, timeout_at};

use super::{Api, Shared};
use crate::http::problem::Problem;
use crate::metrics::exposition::CONTENT_TYPE;
use crate::metrics::paths::PathTallies;

pub(super) async fn metrics(State(api): Shared) -> Result<impl IntoResponse, Problem> {
    let paths = path_tables(&api).await;
    let text = api.exposition.text(paths).map_err(|error| Problem::internal(error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text))
}

/// Live paths of each shard; `None` where a shard is not heard of in time.
async fn path_tables(api: &Api) -> Vec<Option<PathTallies>> {
    let deadline = Instant::now() + api.answer_timeout;
    let mut tables = Vec::new();
    for receiver in api.view.request_path_tables() {
        tables.push(timeout_at(deadline, receiver).await.ok().and_then(Result::ok));
    }
    tables
}
