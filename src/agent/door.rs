//! What other nodes say to this one: orders that they hand on, questions for the base.
//!
//! ```text
//! http::peer --> Door --event--> driver: dist::agent --> answer
//! ```
//! Invariant: the agent decides, one thing after the other. Bound: whoever speaks waits for
//! `ANSWER_MAX` at most.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::Event;
use crate::dist::relay::{Answer, RelayError};
use crate::dist::wire::relay::{RelayBody, SignedAnswer};

/// The way to the agent of this node. Clones are the same.
#[derive(Debug, Clone)]
pub struct Door(mpsc::Sender<Event>);

impl Door {
    pub(super) fn new(events: mpsc::Sender<Event>) -> Self {
        Self(events)
    }

    /// Another node hands orders on.
    ///
    /// # Errors
    /// See [`RelayError`].
    pub async fn relay(&self, body: RelayBody) -> Result<Answer, RelayError> {
        self.say(|reply| Event::Relayed { body, reply }).await
    }

    /// Another node asks for the base how this one is.
    ///
    /// # Errors
    /// See [`RelayError`].
    pub async fn question(&self, envelope: String) -> Result<SignedAnswer, RelayError> {
        self.say(|reply| Event::Asked { envelope, reply }).await
    }

    async fn say<T>(
        &self,
        event: impl FnOnce(oneshot::Sender<Result<T, RelayError>>) -> Event,
    ) -> Result<T, RelayError> {
        let (reply, answer) = oneshot::channel();
        let said = async {
            self.0.send(event(reply)).await.ok()?;
            answer.await.ok()
        };
        timeout(ANSWER_MAX, said).await.ok().flatten().unwrap_or(Err(RelayError::Full))
    }
}

/// Shorter than the other node waits.
const ANSWER_MAX: Duration = Duration::from_millis(1_500);
