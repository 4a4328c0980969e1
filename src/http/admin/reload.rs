//! Reading the configuration again: what it did, and the route that asks for it.
//!
//! ```text
//! POST /v1/config:reload   200 what changed, when every shard goes by it
//!                          409 no file was given   422 the file is wrong, and where
//!                          503 a shard hangs
//! ```

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::Api;
use crate::config::paths::PathChanges;
use crate::http::problem::Problem;

/// What a reading did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReloadReport {
    /// To paths.
    #[serde(flatten)]
    pub paths: PathChanges,
    /// Keys that have another value now, and count from the next start on.
    pub needs_restart: Vec<&'static str>,
    /// What is allowed but should be known.
    pub warnings: Vec<String>,
}

/// A reading that succeeded.
#[derive(Debug)]
pub struct Reload {
    /// What it did.
    pub report: ReloadReport,
    /// One for each shard: answers when the shard goes by it.
    pub applied: Vec<oneshot::Receiver<()>>,
}

/// Why the running configuration stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// There is none.
    #[error("the server was started without a configuration file; start it with -c FILE")]
    NoFile,
    /// It is wrong; with file, line and column.
    #[error("{0}")]
    Refused(String),
    /// A shard hangs.
    #[error("shard {shard} does not take the configuration; reload again")]
    Busy {
        /// Which.
        shard: usize,
    },
}

/// Reads the configuration again, and answers when it counts.
pub(super) async fn reload(State(api): State<Arc<Api>>) -> Result<Json<ReloadReport>, Problem> {
    let view = api.view();
    let read = tokio::task::spawn_blocking(move || view.reload()).await;
    let read = read.map_err(|_panicked| Problem::internal("reading the configuration failed"))?;
    let Reload { report, applied } = read.map_err(|error| match error {
        ReloadError::NoFile => Problem::conflict(error.to_string()),
        ReloadError::Refused(why) => Problem::unprocessable(why),
        ReloadError::Busy { .. } => Problem::unavailable(error.to_string()),
    })?;
    let deadline = Instant::now() + api.answer_timeout();
    for shard in applied {
        // One that is gone goes by nothing any more.
        let late = timeout_at(deadline, shard).await.is_err();
        if late {
            return Err(Problem::unavailable("a shard did not answer in time"));
        }
    }
    Ok(Json(report))
}
