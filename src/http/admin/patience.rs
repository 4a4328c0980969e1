//! How long shards, and the media folder, may take to answer.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::Api;
use crate::http::problem::Problem;

/// How long shards may take: for each answer, and for all that a request needs.
pub(super) struct Patience {
    each: Duration,
    until: Instant,
}

impl Patience {
    pub(super) fn new(api: &Api) -> Self {
        let each = api.answer_timeout;
        Self { each, until: Instant::now() + each.max(LISTING_TIMEOUT) }
    }

    /// An answer; `None`: the shard is gone.
    pub(super) async fn answer<T>(
        &self,
        asked: oneshot::Receiver<T>,
    ) -> Result<Option<T>, Problem> {
        let deadline = self.until.min(Instant::now() + self.each);
        match timeout_at(deadline, asked).await {
            Ok(answer) => Ok(answer.ok()),
            Err(_late) => Err(shard_silent()),
        }
    }
}

pub(super) fn shard_silent() -> Problem {
    Problem::unavailable("a shard did not answer in time")
}

/// Disks that spin up, folders of 100,000 files; all pages of a busy shard's sessions.
pub(super) const LISTING_TIMEOUT: Duration = Duration::from_secs(10);
