//! The route that has the configuration read again.
//!
//! ```text
//! POST /v1/config:reload   200 what changed, when every shard goes by it
//!                          409 no file was given   422 the file is wrong, and where
//!                          503 a shard hangs
//! ```

use axum::Json;
use axum::extract::State;
use tokio::time::{Instant, timeout_at};

use super::Shared;
use crate::http::problem::Problem;
use crate::http::view::{Reload, ReloadError, ReloadReport};

/// Reads the configuration again, and answers when it counts.
pub(super) async fn reload(State(api): Shared) -> Result<Json<ReloadReport>, Problem> {
    let view = api.view.clone();
    let read = tokio::task::spawn_blocking(move || view.reload()).await;
    let read = read.map_err(|_panicked| Problem::internal("reading the configuration failed"))?;
    let Reload { report, applied } = read.map_err(|error| match error {
        ReloadError::NoFile => Problem::conflict(error.to_string()),
        ReloadError::Refused(why) => Problem::unprocessable(why),
        ReloadError::Busy { .. } => Problem::unavailable(error.to_string()),
    })?;
    let deadline = Instant::now() + api.answer_timeout;
    for shard in applied {
        // One that is gone goes by nothing any more.
        let late = timeout_at(deadline, shard).await.is_err();
        if late {
            return Err(Problem::unavailable("a shard did not answer in time"));
        }
    }
    Ok(Json(report))
}
