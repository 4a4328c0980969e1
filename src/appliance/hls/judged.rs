//! Questions to judges about viewers who watch already, and their answers.
//!
//! Bounds: one question a viewer (`whep`); one that has no answer within `ANSWER_MAX` counts as one
//! that cannot be answered; `TAKEN_MAX` answers a turn.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::time::Instant;

use crate::access::question::Answer;
use crate::base::ids::SessionId;
use crate::config::paths::PathTable;

/// Questions under way.
#[derive(Default)]
pub(super) struct Judged {
    waiting: Vec<Waiting>,
}

struct Waiting {
    session: SessionId,
    /// Under this configuration.
    paths: Arc<PathTable>,
    answer: oneshot::Receiver<Answer>,
    until: Instant,
}

impl Judged {
    /// A judge has been asked.
    pub(super) fn wait(
        &mut self,
        session: SessionId,
        paths: &Arc<PathTable>,
        answer: oneshot::Receiver<Answer>,
        now: Instant,
    ) {
        let (paths, until) = (Arc::clone(paths), now + ANSWER_MAX);
        self.waiting.push(Waiting { session, paths, answer, until });
    }

    /// What has been answered since the last time, and what is not answered any more.
    pub(super) fn take(&mut self, now: Instant) -> Vec<(SessionId, Arc<PathTable>, Answer)> {
        let mut taken = Vec::new();
        self.waiting.retain_mut(|waiting| {
            if taken.len() >= TAKEN_MAX {
                return true;
            }
            let answer = match waiting.answer.try_recv() {
                Ok(answer) => answer,
                Err(TryRecvError::Empty) if now < waiting.until => return true,
                Err(_) => Answer::Unavailable,
            };
            taken.push((waiting.session, Arc::clone(&waiting.paths), answer));
            false
        });
        taken
    }
}

/// Each may end a viewer, who is told by DTLS. More than are asked about (`whep`).
const TAKEN_MAX: usize = 64;
/// A hash of a password takes tens of milliseconds, a webhook its own time limit.
const ANSWER_MAX: Duration = Duration::from_secs(65);
